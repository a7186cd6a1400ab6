"""From entries and profiles to the catalogue's rows; nothing is verified here."""

from sqlalchemy import delete, insert, update
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.catalogue import CatalogueEntry, ReleasedProfile
from accord_common.envelope import Envelope
from accord_server.registry.datasets.tables import EntryRow, ProfileRow, WordRow
from accord_server.registry.tables import RecordRow

COLUMN, DUO = "column", "duo"


async def entry(session: AsyncSession, row: RecordRow, envelope: Envelope) -> None:
    """The newest version replaces the one before, by whose words nobody finds it any more."""
    body = CatalogueEntry.from_bytes(envelope.payload)
    of = EntryRow.dataset == body.dataset
    await session.execute(update(EntryRow).where(of, EntryRow.newest).values(newest=False))
    session.add(
        EntryRow(
            hash=row.hash,
            dataset=body.dataset,
            party=body.party,
            version=body.version,
            newest=True,
        )
    )
    await session.execute(delete(WordRow).where(WordRow.dataset == body.dataset))
    words = [(COLUMN, name) for name in body.table.wanted] + [(DUO, code) for code in body.duo]
    rows = [{"dataset": body.dataset, "kind": kind, "word": word} for kind, word in words]
    await session.execute(insert(WordRow), rows)


async def profile(session: AsyncSession, row: RecordRow, envelope: Envelope) -> None:
    """The newest under an agreement replaces the one before."""
    body = ReleasedProfile.from_bytes(envelope.payload)
    of = (ProfileRow.dataset == body.dataset, ProfileRow.agreement == body.agreement)
    await session.execute(update(ProfileRow).where(*of, ProfileRow.newest).values(newest=False))
    session.add(
        ProfileRow(
            hash=row.hash,
            dataset=body.dataset,
            party=body.party,
            agreement=body.agreement,
            entry=body.entry,
            newest=True,
        )
    )
