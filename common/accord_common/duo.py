"""Codes of the Data Use Ontology: what they mean, and whether a purpose keeps a dataset's terms.

The codes are `duo.json`, with source, release and licence (Lawson et al., The Data Use Ontology,
Cell Genomics 1, 2021).

Guarantees: pure; a code that is not in the file is refused. `conflicts` follows a few rules:

    a dataset's     asks of the agreement's purpose
    permission      that every use it names is one that the permission covers (`_COVERS`); codes
                    that only narrow a use (`_NARROWING`) need one that is covered beside them
    modifier        that the purpose has it too (or a stricter one), so that every party signs it
    NMDS            and no method development
    GSO             and genetic research
    NPOA            and no research on populations or ancestry

Not covered: what a code leaves to words, that is which disease, region, project or date; people
read these in title, objectives and responsibilities. A dataset without codes asks for nothing.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import AfterValidator, WithJsonSchema

Kind = Literal["permission", "modifier", "investigation"]

_NRES, _GRU, _CC = "DUO:0000004", "DUO:0000042", "DUO:0000043"
_HMB, _DS, _POA = "DUO:0000006", "DUO:0000007", "DUO:0000011"
_NMDS, _GSO, _NPOA = "DUO:0000015", "DUO:0000016", "DUO:0000044"
_METHODS, _GENETIC = "DUO:0000031", "DUO:0000038"
_DISEASE = frozenset({_DS, "DUO:0000040"})
_BIOMEDICAL = _DISEASE | {_HMB, "DUO:0000037", _GENETIC, "DUO:0000039"}
_ORIGINS = frozenset({_POA, "DUO:0000032", "DUO:0000033"})
_NARROWING = frozenset({_METHODS, "DUO:0000034", "DUO:0000035", "DUO:0000036"})
_RESEARCH = _BIOMEDICAL | _ORIGINS | _NARROWING | {_GRU}
_COVERS = {
    _NRES: _RESEARCH | {_NRES, _CC},
    _GRU: _RESEARCH,
    _HMB: _BIOMEDICAL,
    _DS: _DISEASE,
    _POA: _ORIGINS,
    _CC: frozenset({_CC}),
}
_STRICTER = {"DUO:0000045": "DUO:0000018", "DUO:0000046": "DUO:0000018"}  # both are in NPUNCU


@dataclass(frozen=True, slots=True)
class DuoTerm:
    """One code; `short` is what data stewards call it, empty for investigations."""

    code: str
    short: str
    kind: Kind
    label: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Ontology:
    """The file: its terms by code, and where they are from."""

    source: str
    release: str
    licence: str
    terms: dict[str, DuoTerm]


@cache
def ontology() -> Ontology:
    """Read the file."""
    value = json.loads(files("accord_common").joinpath("duo.json").read_text(encoding="utf-8"))
    terms = [DuoTerm(**term) for term in value["terms"]]
    return Ontology(
        value["source"], value["release"], value["licence"], {term.code: term for term in terms}
    )


def words(code: str) -> str:
    """Write a code for people: `DUO:0000006 (HMB, health or medical or biomedical research)`."""
    term = ontology().terms[code]
    return f"{code} ({f'{term.short}, ' if term.short else ''}{term.label})"


def near(text: str) -> list[str]:
    """Return up to three codes that somebody may have meant, best first."""
    terms = ontology().terms.values()
    wanted = text.strip().lower()
    if short := [term.code for term in terms if term.short and term.short.lower() == wanted]:
        return short
    digits = "".join(filter(str.isdigit, wanted))
    if digits and (code := f"DUO:{int(digits[-7:]):07d}") in ontology().terms:
        return [code]
    names = {name: term.code for term in terms for name in (term.label, term.code.lower())}
    return [names[name] for name in get_close_matches(wanted, names, n=3, cutoff=0.6)]


def known(code: str) -> str:
    """Return a code of the ontology.

    Raises:
        ValueError: it has none such; names those that may have been meant.
    """
    if code in ontology().terms:
        return code
    found = "; ".join(words(item) for item in near(code))
    raise ValueError(
        f"{code[:40]!r} is no code of the Data Use Ontology (release {ontology().release}); "
        + (f"near: {found}" if found else "codes read DUO:0000006")
    )


DuoCode = Annotated[
    str,
    AfterValidator(known),
    WithJsonSchema({"type": "string", "pattern": "^DUO:[0-9]{7}$"}),
]


def permissions(codes: Iterable[str]) -> list[str]:
    """Those of the codes that say for what data may be used."""
    return [code for code in codes if ontology().terms[code].kind == "permission"]


def modifiers(codes: Iterable[str]) -> list[str]:
    """Those of the codes that set a condition."""
    return [code for code in codes if ontology().terms[code].kind == "modifier"]


def conflicts(conditions: Sequence[str], purpose: Sequence[str]) -> list[str]:
    """Say what an agreement's purpose asks beyond a dataset's conditions; empty where nothing.

    Args:
        conditions: the dataset's codes, known ones.
        purpose: the agreement's.

    Returns:
        One sentence a conflict, with what would mend it.
    """
    found = []
    uses = [code for code in purpose if ontology().terms[code].kind != "modifier"]
    allowed = permissions(conditions)
    if len(allowed) > 1:
        found.append(f"{_list(allowed)} exclude each other: a dataset has one permission")
    for permission in allowed[:1]:
        found += _uncovered(permission, uses)
    for modifier in modifiers(conditions):
        if not {modifier, _STRICTER.get(modifier)} & set(purpose):
            found.append(f"it asks for {words(modifier)}: the purpose must name that too")
    for modifier, wrong in ((_NMDS, {_METHODS}), (_NPOA, set(_ORIGINS))):
        if modifier in conditions and wrong & set(uses):
            bad = _list(sorted(wrong & set(uses)))
            found.append(f"{words(modifier)} excludes the purpose {bad}")
    if _GSO in conditions and _GENETIC not in uses:
        found.append(f"{words(_GSO)} asks for the purpose {words(_GENETIC)}")
    return found


def _uncovered(permission: str, uses: list[str]) -> list[str]:
    covered = _COVERS[permission]
    if not uses and permission != _NRES:
        return [f"{words(permission)} needs a use among the purposes, which name none"]
    narrowed = any(use in covered for use in uses)
    beyond = [use for use in uses if use not in covered and not (use in _NARROWING and narrowed)]
    if not beyond:
        return []
    return [f"{words(permission)} does not cover the purpose {_list(beyond)}"]


def _list(codes: Iterable[str]) -> str:
    return ", ".join(words(code) for code in codes)
