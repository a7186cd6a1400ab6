"""Wire schemas of the catalogue of datasets."""

from typing import Annotated

from pydantic import Field

from accord_common.api.schemas import AgreementStatus, DatasetView, View
from accord_common.duo import DuoCode
from accord_common.fields import Hash, Name, Positive, Text, Time
from accord_common.profiles import Band, Profile

MAX_VERSIONS = 100  # of an entry, and of a dataset's agreements and profiles, that one answer shows


class EntryView(View):
    """A version of a catalogue entry, without what the dataset's registration says already."""

    hash: Hash
    version: Positive
    title: Name
    description: Text
    rows: Band
    duo: list[DuoCode]
    units: dict[Name, Name]
    created: Time


class CatalogueView(DatasetView):
    """A dataset, and the newest entry that its owner signed, if there is one."""

    entry: EntryView | None = None


class NamingView(View):
    """An agreement of the caller's that names a dataset."""

    hash: Hash
    title: Name
    version: Positive
    status: AgreementStatus
    duo: list[DuoCode]
    smallest_cell: Annotated[Positive | None, Field(description="null: no profile is released")]


class ProfileView(View):
    """A profile that was released under an agreement of the caller's."""

    hash: Hash
    agreement: Hash
    entry: Hash
    created: Time
    profile: Profile


class DatasetDetail(View):
    """A dataset with its entry's versions, newest first, and what the caller's agreements add."""

    dataset: CatalogueView
    versions: list[EntryView]
    agreements: list[NamingView]
    profiles: list[ProfileView]
