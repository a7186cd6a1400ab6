"""`accord audit verify FOLDER`: a registry's database, on its own machine."""

import asyncio
from pathlib import Path

from accord_common.cli import Format, emit
from accord_common.envelope import Envelope
from accord_common.errors import VerificationError
from accord_common.log.audit import Verdict, judge
from accord_common.log.bundle import About
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
    about = About(format=1, scope="all", subject=None, log=log)
    verdict = Verdict(about, records=found.records, walk=found.walk)
    judge(verdict, trust)
    for failure in verdict.failures:
        hint = "Name the folder of the registry that the agreement names."
        raise VerificationError(
            failure.code,
            f"{failure.place}: {failure.message}",
            hint=hint if failure.code == "wrong-log-key" else "",
        )
    root = found.tree.root(found.records)
    word = "authenticated" if verdict.authenticated else "consistent, not authenticated"
    emit(
        {
            "verdict": word,
            "records": found.records,
            "root": root,
            "log_key": log,
            "trusted": sorted(verdict.trusted),
            "untrusted": sorted(verdict.untrusted),
            "checkpoints": len(kept),
            "heads": len(found.walk.witnesses),
        },
        format_,
        f"{found.records} records, root {root[:16]}, of the log with key {log}\n"
        f"{len(kept)} kept checkpoints and {len(found.walk.witnesses)} heads that nodes signed "
        f"are of this log\nevery row that is evidence follows from the records\n\n{word}",
    )
    if not verdict.authenticated:
        unnamed = verdict.untrusted - set(trust) or found.walk.agreements
        raise not_authenticated(unnamed if trust else ())


async def _verify(settings: Settings) -> Verified:
    async with using(settings.open_patiently()) as database:
        await database.check()
        return await verify_database(database)
