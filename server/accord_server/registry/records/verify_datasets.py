"""Checks of catalogue entries and released profiles, before they are appended."""

from sqlalchemy import select

from accord_common.catalogue import (
    DATASET_ENTRY,
    DATASET_PROFILE,
    CatalogueEntry,
    ReleasedProfile,
    verify_entry,
    verify_profile,
)
from accord_common.enrolment import DELEGATION, Delegation
from accord_common.errors import PolicyError, VerificationError
from accord_server.registry.agreements.repository import one as agreement_of
from accord_server.registry.datasets.tables import EntryRow, ProfileRow
from accord_server.registry.partners.repository import partner_row
from accord_server.registry.records.lookup import load_agreement, load_one
from accord_server.registry.records.posting import Posting
from accord_server.registry.tables import AgreementRow, DatasetRow

_ENTRIES, _PROFILES = frozenset({DATASET_ENTRY}), frozenset({DATASET_PROFILE})


async def entry(posting: Posting) -> None:
    """The owner's node key signed it; it is of a registered dataset, and follows the newest."""
    body = CatalogueEntry.from_bytes(posting.envelope.payload)
    verify_entry(posting.envelope, await _delegation(posting, body.party, body.delegation))
    row = await posting.session.get(DatasetRow, body.dataset)
    told = (body.party, body.name, body.population, body.table.hash, body.size, body.unit)
    if row is None or told != (
        *(row.owner, row.name, row.population, row.schema_hash, row.size, row.unit),
    ):
        raise VerificationError(
            "dataset-differs",
            f"dataset {body.name!r} is not registered by {body.party} as the entry says",
            hint="Register it first: accord-node dataset add.",
        )
    query = select(EntryRow).where(EntryRow.dataset == body.dataset, EntryRow.newest)
    head = (await posting.session.execute(query)).scalar_one_or_none()
    await posting.require_head(body.previous, head.hash if head else None, _ENTRIES, None)
    if body.version != (head.version if head else 0) + 1:
        raise VerificationError(
            "wrong-predecessor",
            f"version {body.version} cannot follow version {head.version if head else 0}",
        )


async def profile(posting: Posting) -> None:
    """The owner's node key signed it, an agreement in force allows it, and it is coarse enough."""
    body = ReleasedProfile.from_bytes(posting.envelope.payload)
    delegation = await _delegation(posting, body.party, body.delegation)
    if await posting.session.get(AgreementRow, body.agreement) is None:
        raise VerificationError(
            "missing-predecessor", f"agreement {body.agreement[:16]} is not fully signed here"
        )
    view = await agreement_of(posting.session, body.party, body.agreement, posting.moment)
    if view.status != "active":
        raise PolicyError(
            "agreement-not-active", f"agreement {view.agreement.title!r} is {view.status}"
        )
    found = await posting.session.get(EntryRow, body.entry)
    if found is None or not found.newest:
        raise VerificationError(
            "wrong-predecessor", f"entry {body.entry[:16]} is not the dataset's newest"
        )
    entry = CatalogueEntry.from_bytes((await load_one(posting.session, body.entry)).payload)
    agreement = await load_agreement(posting.session, body.agreement)
    verify_profile(posting.envelope, delegation, entry, agreement)
    query = select(ProfileRow.hash).where(
        ProfileRow.dataset == body.dataset,
        ProfileRow.agreement == body.agreement,
        ProfileRow.newest,
    )
    head = (await posting.session.execute(query)).scalar_one_or_none()
    await posting.require_head(body.previous, head, _PROFILES, None)


async def _delegation(posting: Posting, party: str, named: str) -> Delegation:
    """The signer's newest, which must hold now."""
    posting.require_signer(party)
    posting.require_role("data-holder")
    partner = await partner_row(posting.session, party)
    if named != partner.delegation:
        raise VerificationError(
            "stale-delegation", f"delegation {named[:16]} is not the party's newest"
        )
    found = await load_one(posting.session, named)
    if found.kind != DELEGATION:
        raise PolicyError("key-revoked", f"{partner.name} has revoked its node's key")
    given = Delegation.from_bytes(found.payload)
    given.check_valid_at(posting.moment)
    return given
