"""The institution's tables: where each lies, what it is declared to be, and who decides about runs.

    datasets/<id>.json   one registration each; the rows stay where they are

Guarantees: a table is registered only after every cell of it met the declared schema; a file that
changed since is not used until it has been checked again.

A file that is registered here is registered again only under a population that somebody named:
a fresh one would forget what its people have spent.

Not covered: changes that keep size and modification time; a copy of the table that differs in a
byte and lies elsewhere: whether two files describe the same people, only the steward knows. Size,
schema and population are public; path, rows and digest never leave the node.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from accord_common.canonical import sha256_hex
from accord_common.errors import AccordError, DataError, NotFoundError, UsageError
from accord_common.fields import (
    Count,
    Hash,
    Id,
    Name,
    Positive,
    Record,
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


class FileMark(Record):
    """How a file looked when it was checked; `modified` in microseconds since 1970."""

    bytes: Count
    modified: Count
    sha256: Hash
    rows: Count


class LocalDataset(Record):
    """One registered table. `size` is the public constant N, `file.rows` the private count."""

    id: Id
    name: Name
    path: str
    population: Id
    table: Schema
    size: Positive
    unit: Unit
    policy: Policy
    file: FileMark
    added: Time

    def check_unchanged(self) -> None:
        """Compare the file's size and time with those at its last check; does not open it.

        Raises:
            DataError: `dataset-missing`, `dataset-changed`.
        """
        try:
            seen = os.stat(self.path)
        except OSError as error:
            raise DataError(
                "dataset-missing",
                f"{self.path} of dataset {self.name!r}: {error.strerror}",
                hint="Put the file back, or point to its new place: accord-node dataset update.",
            ) from error
        if (seen.st_size, seen.st_mtime_ns // 1000) != (self.file.bytes, self.file.modified):
            raise DataError(
                "dataset-changed",
                f"{self.path} changed since dataset {self.name!r} was last checked",
                hint=f"Check it again: accord-node dataset update {self.name!r}",
            )


def examine(path: Path, schema: Schema) -> FileMark:
    """Check every cell of a file against its schema.

    Raises:
        DataError: `dataset-missing`, `dataset-changed` (while it was read), or the codes of
            `tables.read`.
        UsageError: `unknown-format`.
    """
    from accord_common import tables  # pandas and pandera: seconds that --help need not take

    format_ = tables.format_of(path)
    try:
        before = path.stat()
        data = path.read_bytes()
        after = path.stat()
    except OSError as error:
        raise DataError("dataset-missing", f"{path}: {error.strerror}") from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise DataError("dataset-changed", f"{path} changed while it was read", hint="Try again.")
    rows = len(tables.read(data, format_, schema))
    return FileMark(
        bytes=len(data), modified=after.st_mtime_ns // 1000, sha256=sha256_hex(data), rows=rows
    )


@dataclass(frozen=True, slots=True)
class Datasets:
    """The registrations in a node's folder."""

    folder: Path

    @classmethod
    def of(cls, home: Path) -> "Datasets":
        """The registrations in a node's folder."""
        return cls(home / "datasets")

    def all(self) -> list[LocalDataset]:
        """Every registration, by name."""
        found = [LocalDataset.from_bytes(path.read_bytes()) for path in self.folder.glob("*.json")]
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
        path: Path,
        schema: Schema,
        *,
        name: str,
        size: int,
        unit: Unit,
        policy: Policy,
        population: str | None,
    ) -> LocalDataset:
        """Check a table and describe it; stores nothing.

        `population` is an id, NEW_POPULATION, or None: a new one, for a file not seen before.

        Raises:
            DataError: the table breaks the schema, or `dataset-outgrew-size`.
            UsageError: `dataset-exists`; `file-registered` where no population is named for a file
                that another dataset has; `no-identifier` where a patient may have several rows.
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
        path = path.expanduser().absolute()
        mark = examine(path, schema)
        _refuse_outgrown(name, mark.rows, size)
        if population is None:
            self._refuse_registered(path, mark)
        if population in (None, NEW_POPULATION):
            population = new_id()
        return LocalDataset.from_json(
            {
                "id": new_id(),
                "name": name,
                "path": str(path),
                "population": population,
                "table": schema.to_json(),
                "size": size,
                "unit": unit,
                "policy": policy,
                "file": mark.to_json(),
                "added": format_time(now()),
            }
        )

    def update(
        self, dataset: LocalDataset, *, path: Path | None = None, policy: Policy
    ) -> LocalDataset:
        """Check a dataset's file again, at its old or a new place, and store what was found.

        Raises:
            DataError: the table breaks the schema, or `dataset-outgrew-size`.
        """
        place = Path(dataset.path) if path is None else path.expanduser().absolute()
        mark = examine(place, dataset.table)
        _refuse_outgrown(dataset.name, mark.rows, dataset.size)
        changed = {"path": str(place), "file": mark, "policy": policy}
        updated = dataset.model_copy(update=changed)
        self.store(updated)
        return updated

    def store(self, dataset: LocalDataset) -> None:
        """Write a registration, durable on return."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        replace_file(self._path(dataset), dataset.to_bytes())

    def forget(self, dataset: LocalDataset) -> None:
        """Remove a registration."""
        self._path(dataset).unlink(missing_ok=True)

    def problems(self) -> dict[str, AccordError | None]:
        """By name, what is wrong with each file at a glance; None where nothing is."""
        found: dict[str, AccordError | None] = {}
        for dataset in self.all():
            found[dataset.name] = None
            try:
                dataset.check_unchanged()
            except DataError as error:
                found[dataset.name] = error
        return found

    def _refuse_registered(self, path: Path, mark: FileMark) -> None:
        for known in self.all():
            if path.resolve() == Path(known.path).resolve() or mark.sha256 == known.file.sha256:
                raise UsageError(
                    "file-registered",
                    f"{path} is the file of dataset {known.name!r}, whose people have one budget",
                    hint=f"Say whose it is: --population {known.population} (the same people: what "
                    f"they spent counts), or --population {NEW_POPULATION} (nobody in it is in "
                    f"{known.name!r}: their budget starts at zero).",
                )

    def _path(self, dataset: LocalDataset) -> Path:
        return self.folder / f"{dataset.id}.json"


def _refuse_outgrown(name: str, rows: int, size: int) -> None:
    if rows > size:
        raise DataError(
            "dataset-outgrew-size",
            f"{name!r} has {rows} rows, more than its public size {size}",
            hint="The public size bounds and divides updates: declare at least the row count.",
        )
