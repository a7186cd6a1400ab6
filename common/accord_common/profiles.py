"""A quality profile: what a site tells of its rows beside the schema, coarsely.

Guarantees, of what `summarise` returns: every figure is a share of the rows, in steps that are at
least the smallest cell even of the band's fewest rows; a share of fewer rows than that is withheld,
nought among them; of shares that make up a whole, none is withheld alone. `check` holds anybody's
profile to the same, as far as its bytes show.

Not covered: this is no differential privacy. A share may move by a step, or appear, because of one
row, and whoever knows all other rows learns of it; two profiles of a changing table tell more than
one. So it leaves only where the agreement says so (`agreement.ProfileTerms`).

Source: primary and complementary cell suppression with rounding, as statistical offices publish
tables (Hundepool et al., Statistical Disclosure Control, 2012, chapter 4).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from accord_common.errors import PolicyError, VerificationError
from accord_common.fields import Name, Record
from accord_common.schema import CategoryColumn, Schema, TableSchema
from accord_common.schema_parts import MAX_CLASSES, MAX_COLUMNS

SMALLEST_CELL = 10  # what national health statistics mostly withhold below
Band = Literal["0-9", "10-99", "100-999", "1000-9999", "10000-99999", "100000-999999", "1000000-"]
BANDS: dict[Band, int] = {  # a band's fewest rows
    "0-9": 0,
    "10-99": 10,
    "100-999": 100,
    "1000-9999": 1000,
    "10000-99999": 10_000,
    "100000-999999": 100_000,
    "1000000-": 1_000_000,
}
_STEPS = (5, 10, 20, 25, 50)  # per cent; each divides 100

Percent = Annotated[int, Field(ge=0, le=100)]
Share = Percent | None  # None: fewer rows than the smallest cell, or withheld beside such a share


class ColumnProfile(Record):
    """Shares of one column: no value, not of its type, beyond what is declared, each category.

    `levels` stand in the order of the schema's categories or classes; empty for other columns.
    """

    name: Name
    missing: Share
    wrong_type: Share
    outside: Share
    levels: Annotated[list[Share], Field(max_length=MAX_CLASSES)]


class Profile(Record):
    """Every column that is read, and rows and identifiers that stand there more than once."""

    step: Literal[5, 10, 20, 25, 50]
    smallest_cell: Annotated[int, Field(ge=SMALLEST_CELL, le=1000)]
    columns: Annotated[list[ColumnProfile], Field(min_length=1, max_length=MAX_COLUMNS)]
    repeated_rows: Share
    repeated_identifiers: Share


@dataclass(slots=True)
class Counts:
    """Rows of one column; private to the node."""

    missing: int = 0
    wrong_type: int = 0
    outside: int = 0
    levels: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measured:
    """Exact figures of a table; private to the node, and kept nowhere."""

    rows: int
    columns: Mapping[str, Counts]
    repeated_rows: int
    repeated_identifiers: int


def band_of(rows: int) -> Band:
    """Return the band in which a number of rows lies."""
    return max((band for band, low in BANDS.items() if rows >= low), key=lambda band: BANDS[band])


def step_of(band: Band, smallest_cell: int) -> Literal[5, 10, 20, 25, 50]:
    """Return the steps of shares, per cent: the finest that is a smallest cell in the whole band.

    Raises:
        PolicyError: `too-few-rows-to-profile`.
    """
    for step in _STEPS:
        if BANDS[band] * step >= 100 * smallest_cell:
            return step  # type: ignore[return-value]  # mypy widens the tuple's literals
    raise PolicyError(
        "too-few-rows-to-profile",
        f"a table of {band} rows has no share that hides fewer than {smallest_cell} of them",
        hint="Nothing about its cells can be told; the catalogue entry has its band.",
    )


def summarise(measured: Measured, schema: Schema, smallest_cell: int) -> Profile:
    """Coarsen exact figures.

    Args:
        measured: the table's, for the columns of `schema.wanted`.
        schema: what was declared.
        smallest_cell: rows; shares of fewer are withheld.

    Raises:
        PolicyError: `too-few-rows-to-profile`.
    """
    step = step_of(band_of(measured.rows), smallest_cell)

    def alone(count: int) -> Share:
        return _shares([count], measured.rows, step, smallest_cell, whole=False)[0]

    columns = []
    for name, declared in declared_levels(schema).items():
        counts = measured.columns[name]
        cells = [counts.missing, counts.wrong_type, counts.outside]
        cells += [counts.levels.get(level, 0) for level in declared]
        shares = _shares(cells, measured.rows, step, smallest_cell, whole=bool(declared))
        columns.append(
            ColumnProfile(
                name=name,
                missing=shares[0],
                wrong_type=shares[1],
                outside=shares[2],
                levels=shares[3:],
            )
        )
    return Profile(
        step=step,
        smallest_cell=smallest_cell,
        columns=columns,
        repeated_rows=alone(measured.repeated_rows),
        repeated_identifiers=alone(measured.repeated_identifiers),
    )


def check(profile: Profile, schema: Schema, band: Band, smallest_cell: int) -> None:
    """Check that a profile is as coarse as it must be, and of this schema.

    Raises:
        VerificationError: `profile-not-coarse`, `profile-differs`.
        PolicyError: `too-few-rows-to-profile`.
    """
    if profile.smallest_cell < smallest_cell:
        raise VerificationError(
            "profile-not-coarse",
            f"it withholds fewer than {profile.smallest_cell} rows, agreed are {smallest_cell}",
        )
    declared = declared_levels(schema)
    found = [(column.name, len(column.levels)) for column in profile.columns]
    if found != [(name, len(levels)) for name, levels in declared.items()]:
        raise VerificationError("profile-differs", "its columns are not those of the schema")
    step = step_of(band, profile.smallest_cell)
    shares: list[Share] = [profile.repeated_rows, profile.repeated_identifiers]
    for column in profile.columns:
        cells = [column.missing, column.wrong_type, column.outside, *column.levels]
        shares += cells
        if column.levels and cells.count(None) == 1:
            raise VerificationError(
                "profile-not-coarse", f"one share of {column.name!r} alone is withheld"
            )
    if profile.step != step or any(share is not None and share % step for share in shares):
        raise VerificationError("profile-not-coarse", f"its shares are not in steps of {step} %")


def declared_levels(schema: Schema) -> dict[str, list[str]]:
    """The columns that are read, in order, each with its declared categories or classes."""
    levels: dict[str, list[str]] = {name: [] for name in schema.wanted}
    levels[schema.target.column] = schema.target.classes
    if isinstance(schema, TableSchema):
        for column in schema.columns:
            if isinstance(column, CategoryColumn):
                levels[column.name] = column.categories
    return levels


def _shares(
    counts: Sequence[int], rows: int, step: int, smallest_cell: int, *, whole: bool
) -> list[Share]:
    """Round to whole steps, halves up; `whole`: the counts make up the rows."""
    hidden = {place for place, count in enumerate(counts) if count < smallest_cell}
    if whole and len(hidden) == 1:
        others = (place for place in range(len(counts)) if place not in hidden)
        hidden.add(min(others, key=lambda place: counts[place]))
    return [
        None if place in hidden else (200 * count + step * rows) // (2 * step * rows) * step
        for place, count in enumerate(counts)
    ]
