"""A round without privacy is plain SGD on the samples of a private one, and stays in its bound."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from accord_client.training.plain import train_round
from accord_client.training.step import MAX_PART
from accord_common.errors import AccordError
from accord_common.models import architectures
from accord_common.models.adaptation import adapt
from accord_common.models.flat import get_vector, initial_vector, layout_of, set_vector
from accord_common.tables import Encoded
from accord_common.vectors import plain_bound
from tests.client.training.checks import TASK, table
from tests.client.training.test_train import PLAN

PLAIN = replace(PLAN, noise_multiplier="0", sampling_rate="1", clipping_norm="1000")


def test_steps_are_sgd_over_the_public_divisor_also_where_a_step_is_cut_into_parts() -> None:
    data = table(MAX_PART + 77)
    module = architectures.build("mlp", {"hidden": [6]}, 4, 1)
    vector = initial_vector(module, 0)
    plan = replace(PLAIN, population=2000, learning_rate="0.5")
    update = train_round(TASK, module, vector, data, plan)
    oracle = architectures.build("mlp", {"hidden": [6]}, 4, 1)
    set_vector(oracle, vector)
    optimiser = torch.optim.SGD(oracle.parameters(), lr=0.5)
    features, labels = torch.from_numpy(data.features), torch.from_numpy(data.labels)
    for _ in range(plan.steps):
        optimiser.zero_grad()
        torch.autograd.backward(TASK.losses(oracle(features), labels).sum() / 2000)
        optimiser.step()
    assert np.allclose(update, get_vector(oracle) - vector, atol=1e-6)
    assert all(parameter.grad is None for parameter in module.parameters())  # nothing is kept


def test_the_samples_are_those_of_a_private_round() -> None:
    """Poisson: with a linear loss a step's gradient tells how many rows it took."""
    module = architectures.build("logistic-regression", {}, 4, 1)
    data = Encoded(np.zeros((400, 4), np.float32), np.zeros(400, np.int64))  # gradient 1/2 a row
    plan = replace(PLAIN, steps=1, sampling_rate="0.5", population=1, learning_rate="1")
    taken = [-train_round(TASK, module, np.zeros(5, np.float32), data, plan)[4] for _ in range(60)]
    assert abs(np.mean(taken) - 200) < 5 * 10 / np.sqrt(60) and 5 < np.std(taken) < 20


@pytest.mark.parametrize("steps", [1, 7])
def test_no_coordinate_exceeds_the_bound_whatever_the_rows_are(steps: int) -> None:
    module = architectures.build("logistic-regression", {}, 4, 1)
    extreme = np.zeros((50, 4), np.float32)
    extreme[:, 2] = 1e30  # all of the gradient in one coordinate
    labels = np.ones(50, np.int64)
    plan = replace(PLAIN, steps=steps, population=1, clipping_norm="2", learning_rate="0.25")
    update = train_round(TASK, module, np.zeros(5, np.float32), Encoded(extreme, labels), plan)
    bound = float(plain_bound(steps=steps, learning_rate="0.25", clip="2"))
    assert 0.49 < np.abs(update).max() <= bound * (1 + 1e-6)
    assert np.isfinite(update).all()


def test_a_step_below_the_norm_is_not_scaled() -> None:
    module = architectures.build("logistic-regression", {}, 4, 1)
    start, data = np.zeros(5, np.float32), table()
    wide, exact = (
        train_round(TASK, module, start, data, replace(PLAIN, steps=1, clipping_norm=norm))
        for norm in ("1000", "1")
    )
    assert np.linalg.norm(wide) < 0.1 and np.array_equal(wide, exact)  # lr times less than 1


def test_an_empty_sample_is_a_step_of_zero_and_frozen_layers_stay() -> None:
    module = architectures.build("mlp", {"hidden": [3]}, 4, 1)
    adapt(module, ["0"], None)
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    vector = get_vector(module)
    assert layout_of(module).dimension == vector.size == 4
    never = replace(PLAIN, sampling_rate="0.00000000001", population=10**9)
    assert not train_round(TASK, module, vector, table(), never).any()
    update = train_round(TASK, module, vector, table(), PLAIN)
    assert update.any()
    for name, value in module.named_parameters():
        assert value.requires_grad or torch.equal(value, before[name])


def test_a_plan_with_noise_is_not_trained_without() -> None:
    module = architectures.build("logistic-regression", {}, 4, 1)
    with pytest.raises(AccordError, match="unexpected-noise"):
        train_round(TASK, module, np.zeros(5, np.float32), table(), PLAN)
    with pytest.raises(AccordError, match="mixes-rows"):
        mixing = torch.nn.Sequential(torch.nn.Linear(4, 1), torch.nn.BatchNorm1d(1))
        train_round(TASK, mixing, get_vector(mixing), table(), PLAIN)
