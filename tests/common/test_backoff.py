"""Pauses by their schedule; nothing here waits."""

from hypothesis import given
from hypothesis import strategies as st

from accord_common.backoff import Backoff, Told


def test_pauses_double_up_to_the_bound_and_begin_anew_after_an_answer() -> None:
    longest = Backoff(0.5, 30, draw=lambda low, high: high)
    assert [longest.pause_s() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    longest.reset()
    assert longest.pause_s() == 0.5
    shortest = Backoff(0.5, 30, draw=lambda low, high: low)
    assert [shortest.pause_s() for _ in range(8)] == [0.25, 0.5, 1, 2, 4, 8, 15, 15]


@given(st.floats(0.01, 1), st.floats(1, 60), st.integers(1, 40))
def test_no_pause_is_above_the_bound_or_below_half_of_the_first(
    first: float, most: float, count: int
) -> None:
    backoff = Backoff(first, most)
    assert all(first / 2 <= backoff.pause_s() <= most for _ in range(count))


def test_those_who_lost_the_same_peer_come_back_at_different_times() -> None:
    assert len({Backoff(1, 30).pause_s() for _ in range(50)}) > 40


def test_a_trouble_that_lasts_is_news_once() -> None:
    told = Told()
    heard = [None, "registry-unreachable", "registry-unreachable", "bad-token", None, None]
    assert [told.news(code) for code in heard] == [False, True, False, True, True, False]
