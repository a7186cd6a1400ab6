"""What this institution declares of its datasets to everybody, and releases to some.

    catalogue/<dataset>.<version>.json    each entry as it was signed; the newest holds here
    catalogue/<dataset>.profile.json      the profile that was made last; it stays here
    catalogue/<dataset>.released.json     the profile that left last, as it was signed
    leaving/<number>-<record>.json        what the registry has yet to get (`halts`)

Guarantees: an entry holds here from the moment it is on disk, and waits until the registry has it;
a profile leaves only under an agreement in force that this institution signed, that every party
signed, and that allows it; what leaves was checked as every reader checks it. All profiles of a
dataset that leave have one smallest cell: where one shows a share of the same rows and another
withholds it, the two cells hem its number in.

Not covered: what another copy of this folder signed, until the registry shows it: before each
consent, or whenever the node looks from the beginning (`registry_sync`).
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from accord_client.data.profiling import measure
from accord_client.datasets import Datasets, LocalDataset
from accord_client.halts import leave
from accord_common import profiles
from accord_common.agreement import Agreement
from accord_common.api.client import RegistryClient
from accord_common.catalogue import (
    DATASET_ENTRY,
    DATASET_PROFILE,
    CatalogueEntry,
    ReleasedProfile,
    profile_terms,
    require_kept,
    verify_profile,
)
from accord_common.enrolment import Delegation
from accord_common.envelope import Envelope, sign
from accord_common.errors import ConflictError, NotFoundError, PolicyError, VerificationError
from accord_common.fields import format_time
from accord_common.files import replace_file
from accord_common.home import Home
from accord_common.profiles import SMALLEST_CELL, Profile

FOLDER = "catalogue"


@dataclass(frozen=True, slots=True)
class Declared:
    """What a steward says in an entry; None keeps what the entry before said."""

    title: str | None = None
    description: str | None = None
    duo: list[str] | None = None
    units: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The entries of one node.

    Args:
        home: the node's folder.
    """

    home: Home

    def newest(self, dataset: str) -> Envelope | None:
        """The newest own entry of a dataset, as it was signed."""
        paths = self._paths(dataset)
        return _read(paths[max(paths)]) if paths else None

    def draft(self, dataset: LocalDataset, said: Declared, now: datetime) -> CatalogueEntry:
        """Write the entry that would be signed next; counts the rows, stores nothing.

        Raises:
            DataError: `dataset-changed`, `dataset-missing`, or the source cannot be read.
            FormatError: `bad-record`: an unknown code, a unit of no column, text that is too long.
        """
        dataset.check_unchanged()
        before = self.newest(dataset.id)
        old = None if before is None else _body(before)
        kept: dict[str, Any] = {"title": dataset.name, "description": "", "duo": [], "units": {}}
        for given in (old, said):
            kept |= {k: v for k in kept if (v := getattr(given, k, None)) is not None}
        return CatalogueEntry.from_json(
            {
                **kept,
                "dataset": dataset.id,
                "party": self.home.profile.party,
                "delegation": self.home.delegation().hash,
                "version": 1 if old is None else old.version + 1,
                "previous": None if before is None else before.hash,
                "name": dataset.name,
                "population": dataset.population,
                "unit": dataset.unit,
                "size": dataset.size,
                "table": dataset.table.to_json(),
                "rows": profiles.band_of(self._measured(dataset).rows),
                "duo": sorted(set(kept["duo"])),
                "created": format_time(now),
            }
        )

    def publish(self, entry: CatalogueEntry) -> Envelope:
        """Sign an entry, keep it, and leave it for the registry; durable and in force on return."""
        envelope = sign(DATASET_ENTRY, entry, self.home.node_key())
        # Kept first: a crash in between leaves a node that holds to more than others know, and says
        # it when it publishes next (`catch_up`).
        self.keep(envelope)
        leave(self.home.path, envelope)
        return envelope

    def keep(self, envelope: Envelope) -> None:
        """Keep an own entry."""
        body = CatalogueEntry.from_bytes(envelope.payload)
        self._write(f"{body.dataset}.{body.version}", envelope.to_bytes())

    def catch_up(self, dataset: LocalDataset, registry: RegistryClient) -> None:
        """Take over entries that another copy of this folder signed; say again what is lost there.

        Of profiles that such a copy released, the coarsest: those to come go by its cell.

        Raises:
            ConflictError: `catalogue-forked` where registry and folder have one version each.
            VerificationError: what is there was not signed by a key of this node's.
        """
        detail = registry.dataset(dataset.id)
        for view in detail.profiles:
            if view.profile.smallest_cell > self._released_cell(dataset):
                envelope = self._own_profile(dataset, registry, view.hash, view.agreement)
                self._write(f"{dataset.id}.released", envelope.to_bytes())
        there = {view.version: view.hash for view in detail.versions}
        own = {version: _read(path) for version, path in self._paths(dataset.id).items()}
        for version, envelope in sorted(own.items()):
            if version > max(there, default=0):
                leave(self.home.path, envelope)
            elif version in there and there[version] != envelope.hash:
                raise ConflictError(
                    "catalogue-forked",
                    f"version {version} of the entry of {dataset.name!r} is another at the "
                    "registry",
                    hint="Two copies of this node's folder sign, or the registry lies; stop one "
                    "copy and compare: accord audit proof.",
                )
        for version, name in there.items():
            if version not in own:
                envelope = registry.record(name)
                body = CatalogueEntry.from_bytes(envelope.payload)
                if (body.dataset, body.version) != (dataset.id, version):
                    raise VerificationError("wrong-record", f"{name[:16]} is another entry")
                self._require_own(envelope)
                self.keep(envelope)

    def newest_released(
        self, dataset: LocalDataset, agreement_hash: str, registry: RegistryClient
    ) -> str | None:
        """The profile under an agreement that the next one follows, by hash; None for the first.

        The registry says which; that it is this node's own is checked, and of the one that left
        here last, that the registry has it: what is signed next names it for good.

        Raises:
            ConflictError: `profile-forked`.
            VerificationError: what it names is no such profile of this node's.
        """
        shown = registry.dataset(dataset.id).profiles
        named = next((view.hash for view in shown if view.agreement == agreement_hash), None)
        if named is not None:
            self._own_profile(dataset, registry, named, agreement_hash)
        kept = self._released(dataset)
        if kept is None or kept.hash == named:
            return named
        last = ReleasedProfile.from_bytes(kept.payload)
        if last.agreement != agreement_hash:
            return named
        if last.previous == named:  # the registry lost it
            leave(self.home.path, kept)
            return kept.hash
        if named is not None and self._leads_to(registry, named, kept.hash):
            return named
        raise ConflictError(
            "profile-forked",
            f"the profile of {dataset.name!r} that left here last is not before the one that the "
            "registry shows",
            hint="Two copies of this node's folder sign, or the registry lies; stop one copy and "
            "compare: accord audit proof.",
        )

    def profile(self, dataset: LocalDataset, smallest_cell: int = SMALLEST_CELL) -> Profile:
        """Make a profile and keep it here.

        Raises:
            PolicyError: `too-few-rows-to-profile`.
            DataError: the source cannot be read.
        """
        made = profiles.summarise(self._measured(dataset), dataset.table, smallest_cell)
        self._write(f"{dataset.id}.profile", made.to_bytes())
        return made

    def release(
        self,
        dataset: LocalDataset,
        agreement_hash: str,
        agreement: Agreement,
        previous: str | None,
        now: datetime,
    ) -> ReleasedProfile:
        """Write the profile that would leave under an agreement; signs nothing.

        Args:
            dataset: the registration.
            agreement_hash: of the agreement.
            agreement: the own copy, complete and in force (`deciding.own_agreement`).
            previous: what it follows (`newest_released`).
            now: the node's clock.

        Raises:
            NotFoundError: `unknown-dataset`, `no-catalogue-entry`.
            PolicyError: `profile-not-agreed`, `profile-cell-differs`, `too-few-rows-to-profile`,
                `catalogue-outdated`, `agreement-expired`, `agreement-not-yet-valid`.
            DataError: `dataset-changed`, `dataset-missing`.
        """
        agreed = profile_terms(agreement, dataset.id, self.home.profile.party)
        smallest = self._smallest_cell(dataset, agreed)
        agreement.check_valid_at(now)
        dataset.check_unchanged()
        entry_envelope = self.newest(dataset.id)
        if entry_envelope is None:
            raise NotFoundError(
                "no-catalogue-entry",
                f"{dataset.name!r} has no catalogue entry, which a profile refers to",
                hint=f"accord-node dataset publish {dataset.name}",
            )
        entry = CatalogueEntry.from_bytes(entry_envelope.payload)
        measured = self._measured(dataset)
        if entry.rows != profiles.band_of(measured.rows):
            raise PolicyError(
                "catalogue-outdated",
                f"the catalogue says that {dataset.name!r} has {entry.rows} rows; it has another "
                "number by now",
                hint=f"accord-node dataset publish {dataset.name}",
            )
        return ReleasedProfile(
            dataset=dataset.id,
            party=self.home.profile.party,
            delegation=self.home.delegation().hash,
            previous=previous,
            entry=entry_envelope.hash,
            agreement=agreement_hash,
            profile=profiles.summarise(measured, dataset.table, smallest),
            nonce=secrets.token_hex(32),
            created=format_time(now),
        )

    def send(self, released: ReleasedProfile, agreement: Agreement) -> Envelope:
        """Sign a profile, check it as its readers do, and leave it for the registry."""
        envelope = sign(DATASET_PROFILE, released, self.home.node_key())
        entry = self.newest(released.dataset)
        assert entry is not None  # `release` named it
        delegation = Delegation.from_bytes(self.home.delegation().payload)
        verify_profile(envelope, delegation, CatalogueEntry.from_bytes(entry.payload), agreement)
        self._write(f"{released.dataset}.released", envelope.to_bytes())
        leave(self.home.path, envelope)
        return envelope

    def check(self, dataset: str, agreement: Agreement) -> None:
        """Refuse an agreement that does not keep the newest entry: `catalogue-stricter`."""
        if (found := self.newest(dataset)) is not None:
            require_kept(_body(found), agreement)

    def _smallest_cell(self, dataset: LocalDataset, agreed: int) -> int:
        """That of the profile that left before, which may be coarser than agreed, never finer."""
        before = self._released_cell(dataset)
        if not before:
            return agreed
        if before < agreed:
            raise PolicyError(
                "profile-cell-differs",
                f"shares of fewer than {agreed} rows are to be withheld; a profile of "
                f"{dataset.name!r} with {before} has left, and both together tell more than either",
                hint=f"Amend the agreement with `profile: {{smallest_cell: {before}}}`.",
            )
        return before

    def _released(self, dataset: LocalDataset) -> Envelope | None:
        path = self.home.path / FOLDER / f"{dataset.id}.released.json"
        return _read(path) if path.exists() else None

    def _released_cell(self, dataset: LocalDataset) -> int:
        """0 where none has left."""
        kept = self._released(dataset)
        if kept is None:
            return 0
        return ReleasedProfile.from_bytes(kept.payload).profile.smallest_cell

    def _own_profile(
        self, dataset: LocalDataset, registry: RegistryClient, name: str, agreement: str
    ) -> Envelope:
        envelope = registry.record(name)
        if envelope.kind == DATASET_PROFILE:
            body = ReleasedProfile.from_bytes(envelope.payload)
            if (body.dataset, body.agreement) == (dataset.id, agreement):
                self._require_own(envelope)
                return envelope
        raise VerificationError("wrong-record", f"{name[:16]} is another record")

    def _leads_to(self, registry: RegistryClient, name: str, wanted: str) -> bool:
        """Whether the chain of profiles that ends at `name` has `wanted` in it."""
        following: str | None = name
        while following not in (None, wanted):
            assert following is not None
            body = ReleasedProfile.from_bytes(registry.record(following).payload)
            following = body.previous
        return following == wanted

    def _require_own(self, envelope: Envelope) -> None:
        (signer,) = envelope.signers
        envelope.verify([signer])
        if signer not in self.home.node_keys():
            raise VerificationError(
                "wrong-signer", f"record {envelope.hash[:16]} was not signed by this node"
            )

    def _measured(self, dataset: LocalDataset) -> profiles.Measured:
        return measure(dataset, Datasets.of(self.home.path).opt_outs(dataset).read())

    def _paths(self, dataset: str) -> dict[int, Path]:
        paths = (self.home.path / FOLDER).glob(f"{dataset}.[0-9]*.json")
        return {int(path.name.split(".")[1]): path for path in paths}

    def _write(self, name: str, data: bytes) -> None:
        folder: Path = self.home.path / FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        replace_file(folder / f"{name}.json", data)


def _read(path: Path) -> Envelope:
    return Envelope.from_bytes(path.read_bytes())


def _body(envelope: Envelope) -> CatalogueEntry:
    return CatalogueEntry.from_bytes(envelope.payload)
