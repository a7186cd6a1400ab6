"""Direct identifiers in a table: found by what columns are called and how their cells look.

Guarantees: a report names columns, kinds and shares, never a cell. A table whose features or target
look like a direct identifier is registered only with the steward's reason for each of them.

The kinds are HIPAA's (`identifier_names`). The schema's identifier may be one: it is what opt-outs
and splits need, it is no feature and never leaves. An ignored column may be one: none of its cells
is used. Not covered: what identifies only together with other columns (age, place and rare
diagnosis); identifiers inside longer texts; more than a sample of SAMPLE cells a column. A report
without findings is no proof of anonymity.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from accord_client.data.identifier_names import Kind, is_age, kind_of_name
from accord_common.errors import PolicyError
from accord_common.schema import Schema

if TYPE_CHECKING:
    import pandas as pd

Role = Literal["feature", "target", "identifier", "ignored", "undeclared"]
SAMPLE = 2_000  # cells a column, evenly spread
_LOOK = 200  # characters of a cell: what is longer is prose, and patterns take long over it
_MOST = 0.9  # share of cells that must have a form which other things have too by chance
_SOME = 0.001  # for forms that nothing else has: two in a sample
_DISTINCT = 0.5  # share of distinct cells that tells names and numbers from categories
_MANY = 20  # cells below which a form proves nothing
_OLD = 89  # years, HIPAA's bound

# Checked by python-stdnum: length, check digits, dates inside. Countries whose numbers have none of
# these but a length are left to the columns' names.
_NATIONAL = (
    "us.ssn gb.nhs de.idnr fr.nir nl.bsn it.codicefiscale es.dni es.nie be.nn ch.ssn at.vnr "
    "se.personnummer no.fodselsnummer dk.cpr fi.hetu pl.pesel cz.rc ie.pps ca.sin au.tfn br.cpf "
    "in_.aadhaar cn.ric kr.rrn tr.tckimlik za.idnr il.idnr mx.curp ee.ik lt.asmens hr.oib ro.cnp "
    "bg.egn gr.amka pt.cc"
).split()
_DATES = ("%Y-%m-%d", "%Y%m%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y")
_OLDEST = 1880
_FORMS: tuple[tuple[Kind, float, str], ...] = (
    (Kind.EMAIL, _SOME, r"[^@\s]+@[^@\s]+\.[a-zA-Z]{2,}"),
    (Kind.URL, _SOME, r"(https?|ftp)://\S+|www\.\S+\.\S+"),
    (Kind.IP, _SOME, r"(25[0-5]|2[0-4]\d|1?\d?\d)(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}"),
    (Kind.IP, _SOME, r"([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}"),
    (Kind.IP, _SOME, r"([0-9a-fA-F]{0,4}:){4,7}[0-9a-fA-F]{1,4}"),
    (Kind.OTHER, _SOME, r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"),
    (Kind.PLACE, _MOST, r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|\d{5}-\d{4}"),
    # 0.185412345 is a share, not a number to call.
    (Kind.PHONE, _MOST, r"(?!\+?0\.\d+$)(\+|00|0|\()[\d ()/.-]{7,18}\d"),
)
_LONG_NUMBER = re.compile(r"[A-Za-z]{0,3}[ -]?\d{7,20}")
_PERSON = re.compile(r"[^\W\d_]+(-[^\W\d_]+)?,? ([^\W\d_]\.? )?[^\W\d_]+(-[^\W\d_]+)?")


@dataclass(frozen=True, slots=True)
class Finding:
    """One column that looks like a direct identifier.

    Attributes:
        column: its name.
        role: what the schema makes of it.
        kind: which identifier.
        by: `name`, or `values` with the share of cells that have the form.
        share: 0 to 1; None by name.
    """

    column: str
    role: Role
    kind: Kind
    by: Literal["name", "values"]
    share: float | None

    @property
    def refused(self) -> bool:
        """Whether a table with it needs the steward's reason: its cells would be used.

        High ages are few and tell somebody only beside other columns; they are told, not refused.
        """
        return self.role in ("feature", "target") and self.kind != Kind.AGE


def look(frame: pd.DataFrame, schema: Schema | None) -> list[Finding]:
    """Look at every column of a table, at most once by name and once by values."""
    found = []
    for name in map(str, frame.columns):
        role = _role(name, schema)
        if kind := kind_of_name(name):
            found.append(Finding(name, role, kind, "name", None))
        cells = _sample(frame[name])
        if seen := _kind_of_values(cells):
            found.append(Finding(name, role, seen[0], "values", seen[1]))
        elif is_age(name) and (share := _share(cells, _is_old)):
            found.append(Finding(name, role, Kind.AGE, "values", share))
    return found


def refuse_identifiers(frame: pd.DataFrame, schema: Schema, allowed: Mapping[str, str]) -> None:
    """Refuse a table whose features or target look like direct identifiers.

    Args:
        frame: the columns as they were found.
        schema: what they are declared to be.
        allowed: column to the steward's reason.

    Raises:
        PolicyError: `direct-identifier`, naming all of them.
    """
    found: dict[str, Finding] = {}
    for finding in look(frame, schema):
        if finding.refused and finding.column not in allowed:
            found.setdefault(finding.column, finding)
    if found:
        told = "; ".join(f"{name!r} ({finding.kind})" for name, finding in found.items())
        raise PolicyError(
            "direct-identifier",
            f"columns that look like direct identifiers would be trained on: {told}",
            hint="Make each the schema's identifier, put it under `ignored`, or say why it is none "
            "with --allow-column NAME=REASON.",
        )


def _role(name: str, schema: Schema | None) -> Role:
    if schema is None:
        return "undeclared"
    if name == schema.target.column:
        return "target"
    if name == schema.identifier:
        return "identifier"
    if name in schema.inputs:
        return "feature"
    return "ignored" if name in schema.ignored else "undeclared"


def _sample(column: pd.Series) -> list[str]:
    """Return up to SAMPLE cells as text, evenly spread; empty cells and fractions are left out."""
    step = max(1, len(column) // SAMPLE)
    cells = []
    for cell in column.iloc[::step].tolist():
        if isinstance(cell, float):
            if not cell.is_integer():  # NaN and infinity too
                continue
            cell = int(cell)
        if text := _text(cell):
            cells.append(text)
    return cells


def _text(cell: object) -> str:
    if isinstance(cell, datetime | date):
        return cell.isoformat()[:10]
    return "" if cell is None else str(cell).strip()[:_LOOK]


def _kind_of_values(cells: Sequence[str]) -> tuple[Kind, float] | None:
    """Tell which identifier the cells look like, and which share of them does."""
    if not cells:
        return None
    for kind, least, form in _FORMS:
        share = _share(cells, re.compile(form).fullmatch)
        if share >= least and (least == _SOME or len(cells) >= _MANY):
            return kind, share
    if len(cells) < _MANY:
        return None
    if (share := _mostly(cells, _is_date)) >= _MOST:
        return Kind.DATE, share
    if len(set(cells)) < _DISTINCT * len(cells):
        return None
    for number in _NATIONAL:
        if (share := _mostly(cells, import_module(f"stdnum.{number}").is_valid)) >= _MOST:
            return Kind.NATIONAL, share
    if (share := _mostly(cells, _LONG_NUMBER.fullmatch)) >= _MOST and _alike(cells):
        return Kind.OTHER, share
    if (share := _mostly(cells, _PERSON.fullmatch)) >= _MOST:
        return Kind.NAME, share
    return None


def _share(cells: Sequence[str], test: Callable[[str], object]) -> float:
    """Return the share of cells that pass."""
    return sum(1 for cell in cells if test(cell)) / len(cells) if cells else 0.0


def _mostly(cells: Sequence[str], test: Callable[[str], object]) -> float:
    """Return the share of cells that pass, or 0 where the first of them do not, for speed."""
    return _share(cells, test) if _share(cells[:_MANY], test) > _DISTINCT else 0.0


def _alike(cells: Sequence[str]) -> bool:
    """Whether numbers are given out rather than counted: their lengths hardly differ."""
    lengths = Counter(map(len, cells)).most_common(2)
    return sum(count for _, count in lengths) >= _MOST * len(cells)


def _is_old(cell: str) -> bool:
    return cell.isdecimal() and int(cell) > _OLD


def _is_date(cell: str) -> bool:
    if not 8 <= len(cell) <= 10:
        return False
    for form in _DATES:
        with suppress(ValueError):
            return _OLDEST <= datetime.strptime(cell, form).year <= date.today().year + 1
    return False
