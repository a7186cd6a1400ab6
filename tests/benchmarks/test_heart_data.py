"""Heart disease, prepared: the rows, features and split that published figures rest on."""

import numpy as np
import pytest

from accord_common.tables import encode, read
from tests import public_data
from tests.benchmarks import heart_data
from tests.benchmarks.heart_data import Centre


@pytest.fixture(scope="module")
def centres() -> list[Centre]:
    try:
        return heart_data.load()
    except public_data.Absent as error:
        pytest.skip(str(error))


def test_rows_and_split_are_those_that_figures_were_published_for(centres: list[Centre]) -> None:
    rows = [(len(centre.train), len(centre.test)) for centre in centres]
    assert [sum(pair) for pair in rows] == [303, 261, 46, 130]
    assert rows == [(199, 104), (172, 89), (30, 16), (85, 45)]
    ill = [int(centre.train[heart_data.TARGET].sum()) for centre in centres]
    assert ill == [91, 65, 30, 66]
    assert not any(set(centre.train.index) & set(centre.test.index) for centre in centres)


@pytest.mark.parametrize("form", [heart_data.STANDARD, heart_data.PLAIN])
def test_a_node_reads_thirteen_features_from_either_form(
    centres: list[Centre], form: heart_data.Form
) -> None:
    for centre in centres:
        table = encode(read(form.csv(centre).encode(), "csv", form.schema), form.schema)
        assert table.features.shape == (len(centre.train), 13)
        test = form.test(centre)
        assert test.features.shape == (len(centre.test), 13)
        assert test.labels.sum() == centre.test[heart_data.TARGET].sum()


def test_standardised_features_are_exact_and_by_the_training_rows(centres: list[Centre]) -> None:
    centre = centres[0]
    form = heart_data.STANDARD
    wanted = heart_data.standardised([centre.train], [centre.train])
    table = encode(read(form.csv(centre).encode(), "csv", form.schema), form.schema)
    np.testing.assert_array_equal(table.features, wanted.features)
    np.testing.assert_allclose(table.features.std(0, ddof=1), 1, atol=1e-4)
    age = form.schema.features.index("age")
    raw, known = centre.test["age"].to_numpy(), centre.train["age"].to_numpy()
    np.testing.assert_allclose(
        form.test(centre).features[:, age], (raw - known.mean()) / known.std(ddof=1), rtol=1e-4
    )
