"""Models of runs that go on from others; those of one run are in `test_runs`, in its office."""

import pytest

from tests.server.cli import model_checks
from tests.server.cli.office import Office


@pytest.mark.soak(sample=0, full=1)
def test_a_model_of_two_runs_names_both(office: Office) -> None:
    runs = model_checks.continued(office)
    model_checks.lineage_goes_back(office, runs)
    model_checks.a_card_claims_no_unsigned_results(office, runs)
