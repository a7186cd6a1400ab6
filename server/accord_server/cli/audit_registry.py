"""`accord audit verify FOLDER`: a registry's database, on its own machine."""

import asyncio
from pathlib import Path

from accord_common.cli import Format, emit
from accord_common.envelope import Envelope
from accord_common.errors import VerificationError
from accord_common.log.checkpoint import verify_checkpoint
from accord_server.cli.audit import not_authenticated
from accord_server.registry import settings as stored
from accord_server.registry.evidence_check import verify_database
from accord_server.registry.records.verify_log import Verified
from accord_server.registry.settings import Settings
from accord_server.registry.setup import using


def verify_folder(path: Path, trust: list[str], kept: list[Envelope], format_: Format) -> None:
    """Verify every record, and every row that is evidence, against the checkpoints given.

    Raises:
        VerificationError: what does not hold; `not-authenticated` where nothing vouches for it.
    """
    settings = stored.load(path.expanduser().absolute())
    found = asyncio.run(_verify(settings))
    log = settings.read_log_key().public
    for envelope in kept:
        body = verify_checkpoint(envelope, log)
        found.tree.check(body, f"the kept checkpoint of {body.size} records, {body.created}")
    for manifest, facts in found.walk.facts.items():
        try:
            facts.check_epsilon(found.walk.run(manifest))
        except VerificationError as error:
            raise VerificationError(error.code, f"{facts.result_place}: {error.message}") from error
    trusted = {name for name in trust if name in found.walk.agreements}
    for name in trusted:
        if found.walk.agreements[name].log_key != log:
            raise VerificationError(
                "wrong-log-key",
                f"agreement {name[:16]} names another log key than {log[:16]}, this folder's",
                hint="Name the folder of the registry that the agreement names.",
            )
    root = found.tree.root(found.records)
    word = "authenticated" if trusted else "consistent, not authenticated"
    emit(
        {
            "verdict": word,
            "records": found.records,
            "root": root,
            "log_key": log,
            "trusted": sorted(trusted),
            "checkpoints": len(kept),
            "heads": len(found.walk.witnesses),
        },
        format_,
        f"{found.records} records, root {root[:16]}, of the log with key {log}\n"
        f"{len(kept)} kept checkpoints and {len(found.walk.witnesses)} heads that nodes signed "
        f"are of this log\nevery row that is evidence follows from the records\n\n{word}",
    )
    if not trusted:
        raise not_authenticated(found.walk.agreements if trust else ())


async def _verify(settings: Settings) -> Verified:
    async with using(settings.open_patiently()) as database:
        await database.check()
        return await verify_database(database)
