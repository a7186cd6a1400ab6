"""From a hash to a stored record, and to a verified run."""

from collections.abc import Iterable
from threading import Lock

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.agreement import Agreement
from accord_common.chain import VerifiedRun, fetch_run
from accord_common.enrolment import Offer
from accord_common.envelope import Envelope
from accord_common.errors import NotFoundError, VerificationError
from accord_common.manifest import RunManifest
from accord_server.registry.tables import RecordRow, RunRow

_FIND = select(RecordRow).where(RecordRow.hash == bindparam("hash"))
_NEW = "accord_new"  # in a session: manifests that its own transaction appended
_FOUND = "accord_found"  # in a session: records by hash, that are not there or that it appended
_MOST_RUNS = 32  # a verified manifest of 50 sites holds about 100 KiB


async def find(session: AsyncSession, record_hash: str) -> RecordRow | None:
    """Return a record by hash, or None."""
    known: dict[str, RecordRow | None] = session.info.get(_FOUND, {})
    if record_hash in known:
        return known[record_hash]
    return (await session.execute(_FIND, {"hash": record_hash})).scalar_one_or_none()


def note_unknown(session: AsyncSession, hashes: Iterable[str]) -> None:
    """Say that there are no such records, while this transaction has the writers' turn."""
    session.info.setdefault(_FOUND, {}).update(dict.fromkeys(hashes))


def note_record(session: AsyncSession, row: RecordRow) -> None:
    """Say that this transaction appended a record."""
    session.info.setdefault(_FOUND, {})[row.hash] = row


async def load(session: AsyncSession, hashes: Iterable[str]) -> dict[str, Envelope]:
    """Return the stored envelopes among `hashes`."""
    query = select(RecordRow.hash, RecordRow.envelope).where(RecordRow.hash.in_(set(hashes)))
    found = await session.execute(query)
    return {name: Envelope.from_bytes(data) for name, data in found.all()}


async def load_one(session: AsyncSession, record_hash: str) -> Envelope:
    """Return one stored envelope.

    Raises:
        VerificationError: `missing-predecessor`.
    """
    found = await load(session, [record_hash])
    if record_hash not in found:
        raise _missing(record_hash)
    return found[record_hash]


async def load_agreement(session: AsyncSession, agreement_hash: str) -> Agreement:
    """Return a stored agreement's terms; it was verified when it was stored."""
    return Agreement.from_bytes((await load_one(session, agreement_hash)).payload)


async def verify_run(session: AsyncSession, manifest: Envelope) -> VerifiedRun:
    """Verify a manifest and everything that it names, from stored records.

    Raises:
        VerificationError: `missing-predecessor`, or the first thing that does not hold.
    """
    body = RunManifest.from_bytes(manifest.payload)
    sites = [site.delegation for site in body.roster]
    known = await load(session, [body.agreement, body.aggregator.offer, *sites])
    if (offer := known.get(body.aggregator.offer)) is not None:
        known |= await load(session, [Offer.from_bytes(offer.payload).delegation])
    known[manifest.hash] = manifest

    def lookup(record_hash: str) -> Envelope:
        if record_hash not in known:
            raise _missing(record_hash)
        return known[record_hash]

    return fetch_run(lookup, manifest.hash)


class RunCache:
    """Verified runs by manifest hash, in all threads; records never change, nor do these.

    A manifest whose own transaction asks is not kept: it may be undone yet.
    """

    def __init__(self) -> None:
        self._runs: dict[str, VerifiedRun] = {}
        self._adding = Lock()

    async def get(self, session: AsyncSession, manifest_hash: str) -> VerifiedRun:
        """Return a stored manifest's verified run.

        Raises:
            VerificationError: `missing-predecessor` where no such manifest is stored.
        """
        run = self._runs.get(manifest_hash)
        if run is None:
            run = await verify_run(session, await load_one(session, manifest_hash))
            if manifest_hash in session.info.get(_NEW, ()):
                return run
            with self._adding:
                while len(self._runs) >= _MOST_RUNS:
                    del self._runs[next(iter(self._runs))]
                self._runs[manifest_hash] = run
        return run


def note_manifest(session: AsyncSession, manifest_hash: str) -> None:
    """Say that this transaction appended a manifest."""
    session.info.setdefault(_NEW, set()).add(manifest_hash)


async def run_row(session: AsyncSession, run: str) -> RunRow:
    """Return a run's projection by id; NotFoundError `unknown-run`."""
    row = await session.get(RunRow, run)
    if row is None:
        raise NotFoundError("unknown-run", f"there is no run {run}")
    return row


def _missing(record_hash: str) -> VerificationError:
    return VerificationError(
        "missing-predecessor",
        f"record {record_hash[:16]}, which this one names, is not stored here",
        hint="Post the records in order.",
    )
