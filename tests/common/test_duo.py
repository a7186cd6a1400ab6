"""Codes are those of the ontology, and a purpose keeps a dataset's conditions or says which not."""

import pytest

from accord_common import duo
from accord_common.errors import FormatError
from tests.world import World, make_world

NRES, HMB, DS, POA = "DUO:0000004", "DUO:0000006", "DUO:0000007", "DUO:0000011"
NMDS, GSO, NPUNCU, IRB = "DUO:0000015", "DUO:0000016", "DUO:0000018", "DUO:0000021"
METHODS, ANCESTRY, AGE, GENETIC = "DUO:0000031", "DUO:0000033", "DUO:0000034", "DUO:0000038"
GRU, CC, NPOA, NPU, NCU = "DUO:0000042", "DUO:0000043", "DUO:0000044", "DUO:0000045", "DUO:0000046"


def test_the_file_says_where_it_is_from() -> None:
    found = duo.ontology()
    assert "duo.owl" in found.source and found.licence == "CC BY 4.0"
    assert len(found.terms) == 33
    assert {term.kind for term in found.terms.values()} == {
        "permission",
        "modifier",
        "investigation",
    }
    assert all(term.label and term.meaning for term in found.terms.values())


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("HMB", HMB),
        ("duo:6", HMB),
        ("DUO_0000046", NCU),
        ("disease specific reserch", DS),
        ("DUO:0000008", ""),
    ],
)
def test_a_code_that_is_none_is_answered_with_a_near_one(text: str, meant: str) -> None:
    with pytest.raises(ValueError, match="is no code of the Data Use Ontology") as caught:
        duo.known(text)
    assert meant in str(caught.value)


@pytest.mark.parametrize(
    ("conditions", "purpose"),
    [
        ([], [DS]),
        ([NRES], [CC, POA]),
        ([GRU], [DS, METHODS]),
        ([HMB], [DS]),
        ([HMB], [DS, METHODS]),
        ([DS, IRB], [DS, IRB]),
        ([POA], [ANCESTRY]),
        ([CC], [CC]),
        ([HMB, NCU, NPU], [HMB, NPUNCU]),
        ([GRU, GSO], [GENETIC, GSO]),
        ([HMB, NMDS], [DS, AGE, NMDS]),
        ([IRB], [IRB]),
    ],
)
def test_what_a_dataset_permits(conditions: list[str], purpose: list[str]) -> None:
    assert duo.conflicts(conditions, purpose) == []


@pytest.mark.parametrize(
    ("conditions", "purpose", "why"),
    [
        ([DS], [HMB], "does not cover"),
        ([HMB], [ANCESTRY], "does not cover"),
        ([HMB], [METHODS], "does not cover"),
        ([HMB], [GRU], "does not cover"),
        ([GRU], [CC], "does not cover"),
        ([GRU], [NRES], "does not cover"),
        ([CC], [DS], "does not cover"),
        ([POA], [DS], "does not cover"),
        ([HMB], [IRB], "needs a use"),
        ([HMB, GRU], [DS], "exclude each other"),
        ([DS, IRB], [DS], "the purpose must name that too"),
        ([HMB, NPUNCU], [HMB, NCU], "the purpose must name that too"),
        ([GRU, NMDS], [METHODS, NMDS], "excludes the purpose"),
        ([GRU, NPOA], [POA, NPOA], "excludes the purpose"),
        ([GRU, GSO], [DS, GSO], "asks for the purpose"),
    ],
)
def test_what_it_does_not(conditions: list[str], purpose: list[str], why: str) -> None:
    (found,) = duo.conflicts(conditions, purpose)
    assert why in found


def with_conditions(world: World, *codes: str) -> World:
    datasets = [item.model_dump() for item in world.agreement.datasets]
    datasets[0]["duo"] = list(codes)
    return world.amended(datasets=datasets)


def test_an_agreement_whose_purpose_breaks_a_condition_does_not_decode() -> None:
    world = make_world()
    kept = with_conditions(world, DS)
    assert type(kept.agreement).from_bytes(kept.agreement.to_bytes()) == kept.agreement
    with pytest.raises(ValueError, match="the purpose must name that too"):
        with_conditions(world, DS, IRB)
    with pytest.raises(ValueError, match="are not sorted"):
        with_conditions(world, IRB, DS)
    broken = kept.agreement.to_bytes().replace(b'"duo":["DUO:0000007"]', b'"duo":["DUO:0000045"]')
    with pytest.raises(FormatError, match=r"\[bad-record\].*not for profit"):
        type(kept.agreement).from_bytes(broken)


def test_a_dataset_without_conditions_has_no_field_for_them() -> None:
    """So what was signed before there was one keeps its bytes."""
    agreement = make_world().agreement
    assert b'"duo"' not in agreement.to_bytes()
    written = agreement.to_bytes().replace(b'"id":', b'"duo":[],"id":', 1)
    assert b'"duo":[],"id"' in written
    with pytest.raises(FormatError, match=r"\[not-canonical\]"):
        type(agreement).from_bytes(written)
