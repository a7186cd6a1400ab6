from typing import Any

import pytest

from accord_common.errors import FormatError
from accord_common.privacy.events import NO_PREDECESSOR, LedgerEntry, Spend
from tests.common.privacy.spends import spend


def test_a_spend_and_its_entry_survive_their_bytes() -> None:
    entry = LedgerEntry(
        sequence=0, previous=NO_PREDECESSOR, spend=spend(), recorded="2026-01-31T12:00:00Z"
    )
    assert LedgerEntry.from_bytes(entry.to_bytes()) == entry


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("noise_multiplier", "0"),
        ("mechanism", "none"),
        ("noise_multiplier", "-1"),
        ("noise_multiplier", "1.0"),
        ("noise_multiplier", "1e3"),
        ("noise_multiplier", 1),
        ("clipping_norm", "0"),
        ("sampling_rate", "0"),
        ("sampling_rate", "1.01"),
        ("steps", 0),
        ("size", 0),
        ("round", -1),
        ("mechanism", "gaussian"),
        ("sampler", "shuffle"),
        ("adjacency", "zero-out"),
        ("epsilon", "1"),
    ],
)
def test_a_spend_that_no_accountant_could_price_is_refused(field: str, value: Any) -> None:
    body = spend().to_json()
    assert isinstance(body, dict)
    with pytest.raises(FormatError) as caught:
        Spend.from_json(body | {field: value})
    assert caught.value.code == "bad-record"
    assert field in caught.value.message
