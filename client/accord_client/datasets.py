"""The institution's datasets: where each lies, what it is declared to be, who decides about runs.

    datasets/<id>.json       one registration each; the rows stay where they are
    datasets/<id>.opt-outs   see `data.opt_outs`

Guarantees: a dataset is registered only after every row of its source (`data.sources`) met the
declared schema; what changed since is not used until it has been checked again.

What is registered here, or was and has been charged for, is registered again only under a
population that somebody named: a fresh one would forget what its people have spent.

Not covered: a copy that differs in a byte and lies elsewhere: whether two sources describe the same
people, only the steward knows. Size, schema and population are public; place, rows and hash never
leave the node.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from accord_client.data.opt_outs import OptOuts
from accord_client.data.reading import Mark, changed
from accord_client.data.rows import examine
from accord_client.data.sources import Source
from accord_client.data.split import Split
from accord_common.errors import AccordError, DataError, FormatError, NotFoundError, UsageError
from accord_common.fields import (
    Id,
    Name,
    Positive,
    Record,
    Text,
    Time,
    Unit,
    format_time,
    new_id,
    now,
)
from accord_common.files import replace_file
from accord_common.schema import Schema

Policy = Literal["ask", "auto-within-agreement"]
NEW_POPULATION = "new"


class LocalDataset(Record):
    """One registered dataset. `size` is the public constant N, what `mark` counts is private."""

    id: Id
    name: Name
    source: Source
    population: Id
    table: Schema
    size: Positive
    unit: Unit
    policy: Policy
    split: Split
    allowed: dict[Name, Text]  # columns that look like direct identifiers, and why they are none
    mark: Mark
    added: Time

    def check_unchanged(self) -> None:
        """Compare the source at a glance with its last check; reads no row.

        Raises:
            DataError: `dataset-missing`, `dataset-changed`.
        """
        if self.source.glance() != self.mark.glance:
            raise changed(self.source.place)


@dataclass(frozen=True, slots=True)
class Datasets:
    """The registrations in a node's folder."""

    folder: Path

    @classmethod
    def of(cls, home: Path) -> "Datasets":
        """The registrations in a node's folder."""
        return cls(home / "datasets")

    def all(self) -> list[LocalDataset]:
        """Every registration, by name; errors as in `LocalDataset.from_bytes`, naming the file."""
        found = map(_registration, self.folder.glob("*.json"))
        return sorted(found, key=lambda dataset: dataset.name)

    def get(self, dataset_id: str) -> LocalDataset:
        """Return the dataset of an id; `unknown-dataset`."""
        for dataset in self.all():
            if dataset.id == dataset_id:
                return dataset
        raise NotFoundError("unknown-dataset", f"dataset {dataset_id} is not registered here")

    def find(self, name_or_id: str) -> LocalDataset:
        """Return a dataset by name or id; `unknown-dataset`."""
        known = self.all()
        for dataset in known:
            if name_or_id in (dataset.name, dataset.id):
                return dataset
        raise NotFoundError(
            "unknown-dataset",
            f"no dataset {name_or_id!r} is registered here",
            hint=f"Registered: {', '.join(item.name for item in known) or 'none'}.",
        )

    def prepare(
        self,
        source: Source,
        schema: Schema,
        *,
        name: str,
        size: int,
        unit: Unit,
        policy: Policy,
        population: str | None,
        validation: str = "0",
        allowed: Mapping[str, str] = MappingProxyType({}),
        charged: Collection[Id] = (),
    ) -> LocalDataset:
        """Check a source and describe it; stores nothing.

        Args:
            source: where its rows are.
            schema: the contract.
            name: what partners call it.
            size: N.
            unit: whom privacy protects.
            policy: who decides about runs.
            population: an id, NEW_POPULATION, or None: a new one, for a source not seen before.
            validation: the fraction of patients that no training sees.
            allowed: columns that look like direct identifiers, with the steward's reasons.
            charged: populations that the ledger was charged for.

        Raises:
            DataError: a row breaks the schema, or `dataset-outgrew-size`.
            PolicyError: `direct-identifier`.
            UsageError: `dataset-exists`; where no population is named, `file-registered` for a file
                that another dataset has, `population-unclaimed` where a registration is gone whose
                people were charged for; `no-identifier` where a patient may have several rows.
            FormatError: `bad-record`.
        """
        if any(known.name == name for known in self.all()):
            raise UsageError(
                "dataset-exists",
                f"a dataset {name!r} is registered here",
                hint="accord-node dataset update checks a changed file again.",
            )
        if unit == "patient" and schema.identifier is None:
            raise UsageError(
                "no-identifier",
                f"schema {schema.name!r} names no identifier, so one patient may have many rows",
                hint="Declare the patient's column as `identifier`, or register unit record.",
            )
        same_people = (known.split.key for known in self.all() if known.population == population)
        split = Split.make(validation, key=next(same_people, None))
        mark = examine(source, schema, unit, split, allowed)
        _refuse_outgrown(name, mark.training, size)
        if population is None:
            self._refuse_registered(source, mark)
            self._refuse_unclaimed(charged)
        if population in (None, NEW_POPULATION):
            population = new_id()
        return LocalDataset.from_json(
            {
                "id": new_id(),
                "name": name,
                "source": source.to_json(),
                "population": population,
                "table": schema.to_json(),
                "size": size,
                "unit": unit,
                "policy": policy,
                "split": split.to_json(),
                "allowed": dict(allowed),
                "mark": mark.to_json(),
                "added": format_time(now()),
            }
        )

    def update(
        self,
        dataset: LocalDataset,
        *,
        policy: Policy,
        source: Source | None = None,
        validation: str | None = None,
        allowed: Mapping[str, str] = MappingProxyType({}),
    ) -> LocalDataset:
        """Check a dataset again, at its old or a new source, and store what was found.

        What is allowed adds to what was.

        Raises:
            DataError: a row breaks the schema, or `dataset-outgrew-size`.
            PolicyError: `direct-identifier`, in a column that is not allowed yet.
        """
        source, split = source or dataset.source, dataset.split
        if validation is not None:
            split = Split.make(validation, split.key)
        reasons = dataset.allowed | dict(allowed)
        mark = examine(source, dataset.table, dataset.unit, split, reasons)
        _refuse_outgrown(dataset.name, mark.training, dataset.size)
        changes = {"source": source, "mark": mark, "policy": policy, "split": split}
        updated = dataset.model_copy(update=changes | {"allowed": reasons})
        self.store(updated)
        return updated

    def store(self, dataset: LocalDataset) -> None:
        """Write a registration, durable on return."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        replace_file(self._path(dataset), dataset.to_bytes())

    def forget(self, dataset: LocalDataset) -> None:
        """Remove a registration."""
        self._path(dataset).unlink(missing_ok=True)

    def opt_outs(self, dataset: LocalDataset) -> OptOuts:
        """The list of those whose rows are left out."""
        return OptOuts(self.folder / f"{dataset.id}.opt-outs")

    def problems(self) -> dict[str, AccordError | None]:
        """By name, what is wrong with each dataset at a glance; None where nothing is."""
        found: dict[str, AccordError | None] = {}
        for dataset in self.all():
            found[dataset.name] = None
            try:
                dataset.check_unchanged()
                self.opt_outs(dataset).read()
            except DataError as error:
                found[dataset.name] = error
        return found

    def _refuse_registered(self, source: Source, mark: Mark) -> None:
        for known in self.all():
            if source.identity == known.source.identity or mark.sha256 == known.mark.sha256:
                raise UsageError(
                    "file-registered",
                    f"{source.place} is dataset {known.name!r} already; its people have one budget",
                    hint=f"Say whose it is: --population {known.population} (the same people: what "
                    f"they spent counts), or --population {NEW_POPULATION} (nobody in it is in "
                    f"{known.name!r}: their budget starts at zero).",
                )

    def _refuse_unclaimed(self, charged: Collection[Id]) -> None:
        """A registration may have been removed, to be made again."""
        claimed = {known.population for known in self.all()}
        for population in sorted(set(charged) - claimed):
            raise UsageError(
                "population-unclaimed",
                f"the ledger was charged for population {population}, which no dataset here "
                "describes any more",
                hint=f"Say whose this is: --population {population} (the same people: what they "
                f"spent counts), or --population {NEW_POPULATION} (none of them is in it).",
            )

    def _path(self, dataset: LocalDataset) -> Path:
        return self.folder / f"{dataset.id}.json"


def _registration(path: Path) -> LocalDataset:
    try:
        return LocalDataset.from_bytes(path.read_bytes())
    except FormatError as error:
        raise FormatError(
            error.code,
            f"{path}: {error.message}",
            hint="Restore it from a backup, or remove it and register the same source with "
            "--population, so that its people keep their budget.",
        ) from error


def _refuse_outgrown(name: str, rows: int, size: int) -> None:
    if rows > size:
        raise DataError(
            "dataset-outgrew-size",
            f"{name!r} has {rows} rows to train on, more than its public size {size}",
            hint="The public size bounds and divides updates: declare at least the row count.",
        )
