"""Reading the catalogue: registrations, and what their owners signed about them.

Guarantees: entries are for every member; agreements and profiles for the agreement's parties.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from accord_common import schema
from accord_common.api.dataset_schemas import (
    MAX_VERSIONS,
    CatalogueView,
    DatasetDetail,
    EntryView,
    NamingView,
    ProfileView,
)
from accord_common.catalogue import CatalogueEntry, ReleasedProfile
from accord_common.envelope import Envelope
from accord_common.errors import NotFoundError
from accord_server.registry.agreements import repository as agreements
from accord_server.registry.budgets.tables import TermsRow
from accord_server.registry.datasets.projections import COLUMN, DUO
from accord_server.registry.datasets.tables import EntryRow, ProfileRow, WordRow
from accord_server.registry.paging import equal
from accord_server.registry.tables import AgreementPartyRow, DatasetRow, RecordRow


async def page(
    session: AsyncSession,
    after: str | None,
    limit: int,
    *,
    duo: str | None = None,
    party: str | None = None,
    column: str | None = None,
) -> list[CatalogueView]:
    """Return datasets by id; entries that lack a wanted code or column leave theirs out."""
    query = select(DatasetRow).order_by(DatasetRow.id).limit(limit)
    query = query.where(*equal((DatasetRow.owner, party)))
    for kind, word in ((DUO, duo), (COLUMN, column)):
        if word is not None:
            found = select(WordRow.dataset).where(WordRow.kind == kind, WordRow.word == word)
            query = query.where(DatasetRow.id.in_(found))
    if after is not None:
        query = query.where(DatasetRow.id > after)
    rows = list((await session.execute(query)).scalars())
    entries = await newest(session, [row.id for row in rows])
    return [view(row, entries.get(row.id)) for row in rows]


async def detail(
    session: AsyncSession, dataset: str, party: str | None, moment: datetime
) -> DatasetDetail:
    """Return one dataset as `party` may see it, with None all of it.

    Raises:
        NotFoundError: `unknown-dataset`.
    """
    row = await session.get(DatasetRow, dataset)
    if row is None:
        raise NotFoundError("unknown-dataset", f"there is no dataset {dataset}")
    query = select(RecordRow.hash, RecordRow.envelope).join(
        EntryRow, EntryRow.hash == RecordRow.hash
    )
    query = query.where(EntryRow.dataset == dataset).order_by(EntryRow.version.desc())
    found = (await session.execute(query.limit(MAX_VERSIONS))).all()
    versions = [_entry(hash_, _body(data)) for hash_, data in found]
    return DatasetDetail(
        dataset=view(row, versions[0] if versions else None),
        versions=versions,
        agreements=await _naming(session, dataset, party, moment),
        profiles=await _profiles(session, dataset, party),
    )


async def is_anothers(session: AsyncSession, population: str, owner: str) -> bool:
    """Whether a population was registered by somebody other than `owner`."""
    query = select(DatasetRow.id).where(
        DatasetRow.population == population, DatasetRow.owner != owner
    )
    return (await session.execute(query.limit(1))).first() is not None


async def newest(session: AsyncSession, datasets: Sequence[str]) -> dict[str, EntryView]:
    """Return the newest entry of each of these datasets that has one, by id."""
    return {body.dataset: _entry(hash_, body) for hash_, body in await _newest(session, datasets)}


async def declared(session: AsyncSession, datasets: Iterable[str]) -> dict[str, CatalogueEntry]:
    """Return the newest entries as they were signed, by dataset."""
    return {body.dataset: body for _, body in await _newest(session, datasets)}


def registered(row: DatasetRow) -> dict[str, Any]:
    """The fields of a `DatasetView`."""
    return {
        "id": row.id,
        "name": row.name,
        "owner": row.owner,
        "population": row.population,
        "schema_hash": row.schema_hash,
        "table": schema.from_bytes(row.table),
        "size": row.size,
        "unit": row.unit,
    }


def view(row: DatasetRow, entry: EntryView | None) -> CatalogueView:
    """Show a dataset."""
    return CatalogueView.model_validate(registered(row) | {"entry": entry})


async def _newest(
    session: AsyncSession, datasets: Iterable[str]
) -> list[tuple[str, CatalogueEntry]]:
    query = select(RecordRow.hash, RecordRow.envelope).join(
        EntryRow, EntryRow.hash == RecordRow.hash
    )
    query = query.where(EntryRow.newest, EntryRow.dataset.in_(list(datasets)))
    return [(hash_, _body(data)) for hash_, data in (await session.execute(query)).all()]


async def _naming(
    session: AsyncSession, dataset: str, party: str | None, moment: datetime
) -> list[NamingView]:
    query = select(TermsRow.agreement).where(TermsRow.dataset == dataset)
    query = query.where(*_of(party, TermsRow.agreement)).order_by(TermsRow.agreement)
    query = query.limit(MAX_VERSIONS)
    hashes = list((await session.execute(query)).scalars())
    shown = []
    for found in await agreements.several(session, hashes, moment):
        agreed = found.agreement.dataset(dataset)
        shown.append(
            NamingView(
                hash=found.hash,
                title=found.agreement.title,
                version=found.agreement.version,
                status=found.status,
                duo=agreed.duo,
                smallest_cell=None if agreed.profile is None else agreed.profile.smallest_cell,
            )
        )
    return shown


async def _profiles(session: AsyncSession, dataset: str, party: str | None) -> list[ProfileView]:
    query = select(RecordRow.hash, RecordRow.envelope).join(
        ProfileRow, ProfileRow.hash == RecordRow.hash
    )
    query = query.where(ProfileRow.dataset == dataset, ProfileRow.newest)
    query = query.where(*_of(party, ProfileRow.agreement)).order_by(RecordRow.sequence.desc())
    query = query.limit(MAX_VERSIONS)
    shown = []
    for hash_, data in (await session.execute(query)).all():
        body = ReleasedProfile.from_bytes(Envelope.from_bytes(data).payload)
        shown.append(
            ProfileView(
                hash=hash_,
                agreement=body.agreement,
                entry=body.entry,
                created=body.created,
                profile=body.profile,
            )
        )
    return shown


def _of(party: str | None, agreement: InstrumentedAttribute[str]) -> list[ColumnElement[bool]]:
    """The condition that an agreement is the party's."""
    if party is None:
        return []
    own = select(AgreementPartyRow.agreement).where(AgreementPartyRow.party == party)
    return [agreement.in_(own)]


def _body(data: bytes) -> CatalogueEntry:
    return CatalogueEntry.from_bytes(Envelope.from_bytes(data).payload)


def _entry(hash_: str, body: CatalogueEntry) -> EntryView:
    return EntryView(
        hash=hash_,
        version=body.version,
        title=body.title,
        description=body.description,
        rows=body.rows,
        duo=body.duo,
        units=body.units,
        created=body.created,
    )
