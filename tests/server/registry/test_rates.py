"""Buckets of requests, by a clock that the test turns."""

import pytest

from accord_common.errors import LimitError
from accord_server.registry.access import rates
from accord_server.registry.access.rates import Rates, network_of


def test_a_bucket_empties_and_fills_again() -> None:
    moment = 0.0
    bucket = Rates(60, clock=lambda: moment)
    for _ in range(60):
        bucket.take("a")
    with pytest.raises(LimitError, match="too-many-requests") as error:
        bucket.take("a")
    assert error.value.retry_s == 1
    bucket.take("b")  # another's is full
    moment = 2.0
    bucket.take("a")
    bucket.take("a")
    with pytest.raises(LimitError, match="too-many-requests"):
        bucket.take("a")
    moment = 1e6
    for _ in range(60):
        bucket.take("a")  # it holds a minute's, however long it was left alone
    with pytest.raises(LimitError, match="too-many-requests"):
        bucket.take("a")


def test_zero_is_no_bound() -> None:
    bucket = Rates(0)
    for _ in range(1000):
        bucket.take("a")


def test_invented_callers_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MOST", 10)
    bucket = Rates(1)
    for number in range(1000):
        bucket.take(str(number))
    assert len(bucket._left) == 10


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::1", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
    ],
)
def test_whoever_has_a_network_is_one(address: str, counted: str) -> None:
    assert network_of(address) == counted
