"""The table of steps names what is there."""

import importlib
from operator import attrgetter

import pytest

from tests.chaos.dying import STEPS, Step


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_step_is_where_the_table_says(step: Step) -> None:
    assert callable(attrgetter(step.spot)(importlib.import_module(step.module)))


def test_no_two_steps_have_one_name() -> None:
    assert len({str(step) for step in STEPS}) == len(STEPS)
