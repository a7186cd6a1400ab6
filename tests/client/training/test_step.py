"""Clipping, against a gradient for each row by plain autograd."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from accord_client.data.sampling import by_lot
from accord_client.training.step import ClippedGradients
from accord_common.errors import AccordError
from accord_common.models import architectures
from accord_common.models.flat import initial_vector, set_vector
from accord_common.models.tabular import BinaryClassification, MulticlassClassification
from accord_common.models.task import Task
from accord_common.tables import Encoded

RANDOM = np.random.default_rng(1)


def table(rows: int = 40, features: int = 6, classes: int = 2) -> Encoded:
    return Encoded(
        RANDOM.normal(0, 3, (rows, features)).astype(np.float32),
        RANDOM.integers(0, classes, rows),
    )


def oracle(task: Task, module: nn.Module, data: Encoded, rows: np.ndarray, clip: float) -> Tensor:
    """Sum of min(1, C / |g_i|) g_i, one row at a time."""
    total = torch.zeros(sum(p.numel() for p in module.parameters()))
    for row in rows:
        logits = module(torch.from_numpy(data.features[row : row + 1]))
        loss = task.losses(logits, torch.from_numpy(data.labels[row : row + 1])).sum()
        gradient = torch.cat(
            [g.flatten() for g in torch.autograd.grad(loss, [*module.parameters()])]
        )
        total += gradient * min(1.0, clip / float(gradient.norm()))
    return total


class Tied(nn.Module):
    """One layer used twice: a row's gradient is the sum of both uses before its norm is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.last = nn.Linear(6, 6), nn.Linear(6, 1)

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.last(torch.tanh(self.shared(torch.tanh(self.shared(features)))))
        return result


def convolution() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 6)),
        nn.Conv1d(1, 4, 3),
        nn.GroupNorm(2, 4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 1),
    )


MODULES: dict[str, tuple[Task, Callable[[], nn.Module]]] = {
    "logistic-regression": (
        BinaryClassification(),
        lambda: architectures.build("logistic-regression", {}, 6, 1),
    ),
    "mlp": (
        MulticlassClassification(),
        lambda: architectures.build("mlp", {"hidden": [7, 5]}, 6, 3),
    ),
    "tied": (BinaryClassification(), Tied),
    "convolution": (BinaryClassification(), convolution),
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("clip", [0.05, 1.0, 1000.0])
def test_the_sum_is_that_of_rows_clipped_one_by_one(name: str, clip: float) -> None:
    task, make = MODULES[name]
    module = make()
    data = table(classes=3 if name == "mlp" else 2)
    rows = np.array([0, 3, 4, 17, 39])
    with ClippedGradients(task, module, clip) as gradients:
        total = gradients.sum(data, [rows])
    expected = oracle(task, module, data, rows, clip).numpy()
    assert np.allclose(total, expected, rtol=1e-4, atol=1e-5 * min(clip, 1))


def test_one_row_moves_the_sum_by_at_most_the_clip() -> None:
    """The largest of rows: huge features, a huge loss, weights that make both worse."""
    task, module = MODULES["mlp"][0], MODULES["mlp"][1]()
    set_vector(module, initial_vector(module, 0) * np.float32(100))
    data = table(classes=3)
    data.features[7] = 1e18
    with ClippedGradients(task, module, 0.5) as gradients:
        for row in range(data.rows):
            alone = gradients.sum(data, [np.array([row])])
            assert np.linalg.norm(alone) <= 0.5 * (1 + 1e-5)


def test_no_table_makes_one_row_move_a_long_sum_by_more_than_the_clip() -> None:
    """In one float32, these rows double the lead of the first at every power of two: 32 C."""
    one, clip, value, gap = 1024.0, 1025.0, 0.0, 1024.0
    rows: list[float] = []
    for power in range(12, 17):
        target, low = 2.0**power * one, 2.0 ** (power - 14)
        climb = int((target - gap - value) / one)
        rows += [one] * climb + [1.25 * low] * int(gap / low)
        value, gap = target, 2 * gap
    groups, lots = len(rows) // 256, np.random.default_rng(0).bytes(8 * (len(rows) + 1))
    sums = []
    for first in ([one], []):  # the row that one of the tables has
        features = np.array([*first, *rows], np.float32)[:, None]
        data = Encoded(features, np.zeros(len(features), np.int64))
        module = nn.Sequential(nn.Linear(1, 1))
        set_vector(module, np.array([0, 50], np.float32))
        with ClippedGradients(BinaryClassification(), module, clip) as gradients:
            cut = by_lot(np.arange(data.rows), groups, random=lambda n: lots[-n:])
            sums.append(gradients.sum(data, cut))
    assert 0.99 * clip <= np.linalg.norm(sums[0] - sums[1]) <= 1.01 * clip


def alone(module: nn.Module, features: np.ndarray, clip: float) -> float:
    """Norm of one row's part in the sum; its label is 0."""
    row = Encoded(features[None].astype(np.float32), np.zeros(1, np.int64))
    with ClippedGradients(BinaryClassification(), module, clip) as gradients:
        return float(np.linalg.norm(gradients.sum(row, [np.arange(1)])))


def test_a_gradient_cannot_hide_from_the_clip_in_underflow() -> None:
    """A bias of -53 makes this row's gradient 1e-23: its squares are 0 in float32, it is not."""
    module = architectures.build("logistic-regression", {}, 30, 1)
    weights = np.zeros(31, np.float32)
    weights[-1] = -53
    set_vector(module, weights)
    with pytest.raises(AccordError) as error:
        alone(module, np.ones(30), 1e-24)
    assert error.value.code == "clip-too-small"
    for bias in range(-100, 1, 5):
        weights[-1] = bias
        set_vector(module, weights)
        assert alone(module, np.ones(30), 1e-6) <= 1e-6 * (1 + 1e-5)


def test_a_gradient_too_large_to_be_scaled_counts_as_zero() -> None:
    """C over its norm is a subnormal number, which rounds to as much as twice C."""
    module = nn.Sequential(nn.Linear(1, 1, bias=False))
    set_vector(module, np.zeros(1, np.float32))
    for features in (1e31, 1e33, 6e38 / 2):
        assert alone(module, np.array([features]), 1e-6) <= 1e-6 * (1 + 1e-5)
    assert alone(module, np.array([3e38]), 1e-6) == 0


def test_the_norm_of_many_coordinates_is_not_underestimated() -> None:
    """Summed in one float32, these squares come out 0.8 % too small in norm."""
    module = nn.Linear(10_000_000, 1, bias=False)
    set_vector(module, np.zeros(10_000_000, np.float32))
    assert alone(module, np.full(10_000_000, 0.1), 1.0) <= 1 + 1e-4


def test_a_row_without_a_finite_gradient_counts_as_zero() -> None:
    task, module = MODULES["mlp"][0], MODULES["mlp"][1]()
    data = table(classes=3)
    data.features[7] = np.inf
    with ClippedGradients(task, module, 0.5) as gradients:
        good = gradients.sum(data, [np.array([3])]).copy()
        both = gradients.sum(data, [np.array([3, 7])])
    assert np.isfinite(both).all()
    assert np.allclose(good, both, atol=1e-7)


@pytest.mark.parametrize("positions", [1, 2])
def test_an_input_of_zero_hides_no_gradient_that_automatic_clipping_makes_infinite(
    positions: int,
) -> None:
    """Its norm is 0, so the row is made 100 C times as long; the layer's output got 1e36 back."""

    class Summed(BinaryClassification):
        def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
            return logits.flatten(1).sum(1)

    last = nn.Linear(6, 1, bias=False)
    nn.init.constant_(last.weight, 1e36)
    module = nn.Sequential(nn.Linear(6, 6, bias=False), last)
    features = np.ones((2, positions, 6), np.float32)
    features[0] = 0
    data = Encoded(features if positions > 1 else features[:, 0], np.zeros(2, np.int64))
    with ClippedGradients(Summed(), module, 10, "automatic") as gradients:
        assert not gradients.sum(data, [np.array([0])]).any()
        other = gradients.sum(data, [np.array([1])]).copy()
        assert 0 < np.linalg.norm(other) <= 10 * (1 + 1e-5)
        assert np.allclose(gradients.sum(data, [np.arange(2)]), other)


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    task, module = MODULES["mlp"][0], MODULES["mlp"][1]()
    data, rows = table(classes=3), np.arange(40)
    dimension = sum(p.numel() for p in module.parameters())
    with ClippedGradients(task, module, 0.5) as gradients:
        whole = gradients.sum(data, [rows])
    with ClippedGradients(task, module, 0.5, part_bytes=4 * dimension * 7) as gradients:
        parts = gradients.sum(data, [rows]).copy()
        nobody = rows[:0]
        around = gradients.sum(data, [nobody, rows[:9], nobody, rows[9:], nobody]).copy()
        assert not gradients.sum(data, [nobody]).any()
    assert np.allclose(whole, parts, atol=1e-5)
    assert np.allclose(whole, around, atol=1e-5)


def test_gradients_are_those_of_a_module_in_training() -> None:
    module = nn.Sequential(nn.Dropout(1), nn.Linear(6, 1)).eval()
    with ClippedGradients(BinaryClassification(), module, 1) as gradients:
        total = gradients.sum(table(), [np.arange(9)])
    assert not total[:6].any() and total[6]


def test_the_module_is_left_as_it_was() -> None:
    class Broken(MulticlassClassification):
        def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
            raise ZeroDivisionError

    task, module = MODULES["mlp"][0], MODULES["mlp"][1]()
    data = table(classes=3)
    before = [set(vars(layer)) for layer in module.modules()]
    with ClippedGradients(task, module, 0.5) as gradients:
        gradients.sum(data, [np.arange(5)])
    with pytest.raises(ZeroDivisionError), ClippedGradients(Broken(), module, 0.5) as gradients:
        gradients.sum(data, [np.arange(5)])  # breaks off after the forward pass
    assert [set(vars(layer)) for layer in module.modules()] == before
    for parameter in module.parameters():
        assert not vars(parameter)
        assert parameter.grad is None
    for layer in module.modules():
        assert not layer._forward_hooks
        assert not layer._backward_hooks


def test_what_cannot_be_clipped_row_by_row_is_refused() -> None:
    task, data = BinaryClassification(), table()
    with pytest.raises(AccordError, match=r"\[mixes-rows"):
        ClippedGradients(task, nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)), 1)

    class Buffered(nn.Linear):
        def __init__(self) -> None:
            super().__init__(6, 1)
            self.register_buffer("seen", torch.zeros(1))

    with pytest.raises(AccordError, match=r"\[unsupported-layer"):
        ClippedGradients(task, Buffered(), 1)

    class Mean(BinaryClassification):
        def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
            return super().losses(logits, labels).mean()

    module = architectures.build("logistic-regression", {}, 6, 1)
    with (
        pytest.raises(AccordError, match=r"\[bad-task.*not one a row"),
        ClippedGradients(Mean(), module, 1) as gradients,
    ):
        gradients.sum(data, [np.arange(3)])

    class Folded(nn.Module):
        """Turns two rows into one before its layer, so no gradient belongs to one row."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(12, 2)

        def forward(self, features: Tensor) -> Tensor:
            result: Tensor = self.layer(features.reshape(-1, 12)).reshape(-1, 1)
            return result

    with (
        pytest.raises(AccordError, match=r"\[unsupported-layer.*no gradient per row"),
        ClippedGradients(task, Folded(), 1) as gradients,
    ):
        gradients.sum(data, [np.arange(4)])


def test_a_parameter_without_part_in_the_output_stays_where_it_is() -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Linear(6, 1), nn.Linear(6, 1)

        def forward(self, features: Tensor) -> Tensor:
            result: Tensor = self.used(features)
            return result

    with ClippedGradients(BinaryClassification(), Spare(), 1) as gradients:
        gradients.sum(table(), [np.arange(9)])  # what a call leaves must not stay in the next
        total = gradients.sum(table(), [np.arange(4)])
    assert total[:7].all()
    assert not total[7:].any()


def test_a_part_in_which_less_learns_adds_less() -> None:
    class Choosy(nn.Module):
        """Uses one layer for parts of more than two rows, and both for more than four."""

        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(6, 1), nn.Linear(6, 1)

        def forward(self, features: Tensor) -> Tensor:
            result = features[:, :1]
            if len(features) > 2:
                result = result + self.one(features)
            if len(features) > 4:
                result = result + self.other(features)
            return result

    data, rows = table(), np.arange(8)
    with ClippedGradients(BinaryClassification(), Choosy(), 1) as gradients:
        of_both, of_one, of_none = (gradients.sum(data, [rows[:size]]).copy() for size in (8, 4, 2))
        assert of_both.all() and of_one[:7].all()
        assert not of_one[7:].any() and not of_none.any()
        for parts in ([rows, rows[:4], rows[:2]], [rows[:2], rows[:4], rows]):
            assert np.allclose(gradients.sum(data, parts), of_both + of_one, atol=1e-5)
