"""Every rule gives the sum of rows clipped one by one; the bugs that clipping invites are found."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accord_client.training.bookkeeping import layer_without_rule
from accord_client.training.gradients import Dense, Kernels, Lookups, Products
from accord_common.models.tabular import BinaryClassification
from accord_common.tables import Encoded
from tests.client.training.oracle import (
    DEVICES,
    LABELS,
    ROWS,
    TASK,
    clipped,
    distance,
    gradient_of,
    opacus_only,
    row_by_row,
)

TOKENS = 7


class Twice(nn.Module):
    """One layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.last = nn.Linear(24, 24), nn.Linear(24, 1)

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.last(torch.tanh(self.shared(torch.tanh(self.shared(features)))))
        return result


class Tied(nn.Module):
    """A table that reads tokens and scores them: two layers own one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.mix = nn.Embedding(TOKENS, 5), nn.Linear(5, 5)
        self.score = nn.Linear(5, TOKENS, bias=False)
        self.score.weight = self.table.weight

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.score(torch.tanh(self.mix(self.table(tokens(features))).sum(1)))
        return result.logsumexp(1, keepdim=True)


class Unread(nn.Module):
    """A layer whose output no loss reads, and calls that learn nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.unread, self.last = nn.Linear(24, 3), nn.Linear(24, 1)

    def forward(self, features: Tensor) -> Tensor:
        self.unread(features)
        with torch.no_grad():
            size = self.last(features).abs()
        result: Tensor = self.last(features) / (1 + size)
        return result


class Residual(nn.Module):
    """In-place work, an unused layer, a frozen one with a low-rank pair beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.spare = nn.Linear(24, 24), nn.Linear(24, 24)
        self.down, self.up = nn.Linear(24, 2, bias=False), nn.Linear(2, 24, bias=False)
        self.last = nn.Linear(24, 1)
        self.base.requires_grad_(False)
        self.last.weight.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.base(features)
        hidden += self.up(self.down(features).relu_())
        result: Tensor = self.last(hidden.relu_())
        return result


class Sequence(nn.Module):
    """A recurrent layer, read at all steps and at its last states."""

    def __init__(self, layer: nn.LSTM | nn.GRU, read: str) -> None:
        super().__init__()
        self.front, self.layer, self.read = nn.Linear(4, layer.input_size), layer, read

    def forward(self, features: Tensor) -> Tensor:
        outputs, last = self.layer(self.front(features.view(-1, 6, 4)))
        last = last if isinstance(last, tuple) else (last,)
        parts = {"outputs": (outputs.sum(1),), "last": [state.sum(0) for state in last]}
        parts["both"] = [*parts["outputs"], *parts["last"]]
        return torch.cat(list(parts[self.read]), dim=1).sum(1, keepdim=True)


class Attention(nn.Module):
    """Self-attention of a small transformer, out of linear layers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.mix, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, inputs: Tensor) -> Tensor:
        heads = self.mix(inputs).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*heads)  # (b, heads, T, width / heads)
        result: Tensor = inputs + self.out(mixed.transpose(1, 2).flatten(2))
        return result


class Tokens(nn.Module):
    """Rows of features as tokens."""

    def forward(self, features: Tensor) -> Tensor:
        return tokens(features)


class Mean(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.flatten(2).mean(2) if features.ndim > 2 else features.mean(1, keepdim=True)


def tokens(features: Tensor) -> Tensor:
    return (features * 3).long().abs() % TOKENS


def image(channels: int, *layers: nn.Module) -> nn.Module:
    side = {1: (4, 6), 2: (3, 4), 4: (2, 3)}[channels]
    return nn.Sequential(
        nn.Unflatten(1, (channels, *side)), *layers, nn.Tanh(), nn.Flatten(), Mean()
    )


def line(channels: int, *layers: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (channels, 24 // channels)), *layers, nn.Tanh(), nn.Flatten(), Mean()
    )


MODULES: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Sequential(nn.Linear(24, 9), nn.Tanh(), nn.Linear(9, 1)),
    "linear without bias": lambda: nn.Sequential(nn.Linear(24, 1, bias=False)),
    "linear on few positions": lambda: line(2, nn.Linear(12, 40)),
    "linear on many positions": lambda: line(8, nn.Linear(3, 2)),
    "linear of one output on positions": lambda: line(4, nn.Linear(6, 1)),
    "linear on a grid": lambda: image(1, nn.Linear(6, 3)),
    "conv1d": lambda: line(4, nn.Conv1d(4, 6, 3)),
    "conv1d strided": lambda: line(4, nn.Conv1d(4, 6, 2, stride=3, padding=2, dilation=2)),
    "conv1d on few positions": lambda: line(8, nn.Conv1d(8, 60, 2)),
    "conv1d of one channel": lambda: line(4, nn.Conv1d(4, 1, 3)),
    "conv2d of one channel": lambda: image(2, nn.Conv2d(2, 1, 2)),
    "conv2d of one channel on few positions": lambda: image(4, nn.Conv2d(4, 1, (2, 3))),
    "conv2d": lambda: image(1, nn.Conv2d(1, 3, 3)),
    "conv2d without bias": lambda: image(2, nn.Conv2d(2, 3, 2, bias=False)),
    "conv2d strided": lambda: image(2, nn.Conv2d(2, 3, (2, 3), stride=(2, 1), padding=(1, 2))),
    "conv2d dilated": lambda: image(1, nn.Conv2d(1, 3, 3, stride=2, padding=3, dilation=(2, 3))),
    "conv2d with an odd row": lambda: image(1, nn.Conv2d(1, 3, 3, stride=2, padding=1)),
    "conv2d with shared rows": lambda: image(2, nn.Conv2d(2, 3, (4, 2), stride=2, padding=2)),
    "conv2d with far rows": lambda: image(1, nn.Conv2d(1, 3, 2, dilation=(2, 3), padding=1)),
    "conv2d in groups": lambda: image(4, nn.Conv2d(4, 6, 2, padding=1, groups=2)),
    "conv2d by channel": lambda: image(4, nn.Conv2d(4, 8, 2, groups=4)),
    "conv2d same": lambda: image(2, nn.Conv2d(2, 3, (1, 3), padding="same")),
    "conv2d circular": lambda: image(2, nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")),
    "conv2d on few positions": lambda: image(4, nn.Conv2d(4, 50, 2)),
    "conv2d on few positions in groups": lambda: image(4, nn.Conv2d(4, 60, 2, groups=2)),
    "embedding": lambda: nn.Sequential(
        Tokens(), nn.Embedding(TOKENS, 4), nn.Tanh(), Mean(), Mean()
    ),
    "embedding with padding": lambda: nn.Sequential(
        Tokens(), nn.Embedding(TOKENS, 4, padding_idx=1), nn.Tanh(), Mean(), Mean()
    ),
    "layer norm": lambda: nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 1)),
    "layer norm on positions": lambda: line(4, nn.Linear(6, 5), nn.LayerNorm((4, 5), bias=False)),
    "layer norm of each position": lambda: line(4, nn.Linear(6, 5), nn.LayerNorm(5, eps=0.1)),
    "group norm": lambda: image(4, nn.Conv2d(4, 6, 2), nn.GroupNorm(3, 6, eps=0.1)),
    "lstm": lambda: Sequence(nn.LSTM(3, 2, batch_first=True), "outputs"),
    "lstm of last states": lambda: Sequence(nn.LSTM(3, 2, 2, batch_first=True), "last"),
    "lstm on few steps": lambda: Sequence(nn.LSTM(30, 40, batch_first=True), "both"),
    "lstm both ways": lambda: Sequence(
        nn.LSTM(3, 2, 2, batch_first=True, bidirectional=True), "both"
    ),
    "gru": lambda: Sequence(nn.GRU(3, 2, bias=False, batch_first=True), "outputs"),
    "gru both ways": lambda: Sequence(
        nn.GRU(3, 2, 2, batch_first=True, bidirectional=True), "both"
    ),
    "gru on few steps": lambda: Sequence(nn.GRU(30, 40, batch_first=True), "both"),
    "attention": lambda: nn.Sequential(
        nn.Unflatten(1, (6, 4)), nn.LayerNorm(4), Attention(4, 2), nn.Flatten(), Mean()
    ),
    "in place": lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(24, 1)),
    "used twice": Twice,
    "conv2d used twice": lambda: image(2, *[nn.Conv2d(2, 2, (3, 1), padding="same")] * 2),
    "not read": Unread,
    "tied": Tied,
    "residual": Residual,
}
# Opacus refuses parameters of two layers and in-place work on what it hooks, fails on a missing
# bias, lets padding entries learn, pads with zeros whatever the layer does, and needs recurrent
# layers of its own.
OPACUS_CANNOT = {
    "tied",
    "residual",
    "in place",
    "layer norm on positions",
    "embedding with padding",
    "conv2d circular",
    "lstm",
    "lstm of last states",
    "lstm on few steps",
    "lstm both ways",
    "gru",
    "gru both ways",
    "gru on few steps",
}


@dataclass
class Case:
    module: nn.Module
    data: Encoded
    clip: float  # half of the rows have a larger gradient


@pytest.fixture(params=[(name, device) for device in DEVICES for name in MODULES], ids="-".join)
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(5)
    random = np.random.default_rng(5)
    name, device = request.param
    module = MODULES[name]().to(device)
    features = random.normal(0, 1, (ROWS, 24)) * random.uniform(0.2, 5, (ROWS, 1))
    data = Encoded(features.astype(np.float32), random.integers(0, 2, ROWS))
    norms = [float(gradient_of(TASK, module, data, row).norm()) for row in range(ROWS)]
    return Case(module, data, float(np.median(norms)))


def test_the_sum_is_that_of_rows_clipped_one_by_one(
    case: Case, request: pytest.FixtureRequest
) -> None:
    assert layer_without_rule(case.module) is None
    for rows in (np.arange(ROWS), np.array([3])):
        for clip in (case.clip, 1e6, max(case.clip / 1000, 1e-6)):
            ours = clipped(TASK, case.module, case.data, rows, clip)
            assert distance(ours, row_by_row(TASK, case.module, case.data, rows, clip)) <= 1e-5
    if request.node.callspec.params["case"][0] not in OPACUS_CANNOT:
        with opacus_only():
            theirs = clipped(TASK, case.module, case.data, np.arange(ROWS), case.clip)
        ours = clipped(TASK, case.module, case.data, np.arange(ROWS), case.clip)
        assert distance(ours, theirs) <= 1e-5


def test_rows_without_a_gradient_leave_the_others_alone(case: Case) -> None:
    """A loss that is flat for row 2 and not finite for row 5; and a batch without rows."""

    class Odd(BinaryClassification):
        def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
            scale = torch.ones(len(labels), device=labels.device)
            scale[labels == 2], scale[labels == 5] = 0, torch.inf
            return super().losses(logits, labels % 2) * scale

    case.data.labels[[2, 5]] = (2, 5)
    ours = clipped(Odd(), case.module, case.data, np.arange(ROWS), case.clip)
    good = np.delete(np.arange(ROWS), [2, 5])
    assert distance(ours, row_by_row(TASK, case.module, case.data, good, case.clip)) <= 1e-5
    assert not clipped(Odd(), case.module, case.data, np.arange(0), case.clip).any()
    assert not clipped(Odd(), case.module, case.data, np.array([2, 5]), case.clip).any()


@pytest.mark.parametrize(
    "name", ["linear on few positions", "conv1d on few positions", "conv2d on few positions"]
)
def test_planted_norms_squared_before_positions_are_summed_are_found(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def squares(self: Products) -> Tensor:
        inputs, outputs = self._inputs.double(), self._outputs.double()
        return (inputs.square().sum(3) * outputs.square().sum(3)).sum((1, 2))

    torch.manual_seed(5)
    module = MODULES[name]()
    data = Encoded(np.random.default_rng(0).uniform(1, 2, (ROWS, 24)).astype(np.float32), LABELS)
    expected = row_by_row(TASK, module, data, np.arange(ROWS), 1e-3)
    assert distance(clipped(TASK, module, data, np.arange(ROWS), 1e-3), expected) <= 1e-5
    monkeypatch.setattr(Products, "squares", squares)
    assert distance(clipped(TASK, module, data, np.arange(ROWS), 1e-3), expected) > 1e-2


@pytest.mark.parametrize("name", ["linear", "conv2d", "embedding", "lstm", "attention"])
def test_automatic_clipping_scales_every_row_to_almost_the_clip(name: str) -> None:
    """Rows of which some have a gradient far below gamma, and some have none."""

    class Faint(BinaryClassification):
        def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
            scale = torch.tensor([1.0, 0.0, 1e-4, 1e-2])[labels // 2]
            return super().losses(logits, labels % 2) * scale

    torch.manual_seed(5)
    module = MODULES[name]()
    features = np.random.default_rng(5).normal(0, 2, (ROWS, 24)).astype(np.float32)
    data, rows = Encoded(features, np.arange(ROWS) % 8), np.arange(ROWS)
    for clip in (1e-3, 1.0, 1e4):
        ours = clipped(Faint(), module, data, rows, clip, "automatic")
        expected = row_by_row(Faint(), module, data, rows, clip, "automatic")
        assert distance(ours, expected) <= 1e-5
        for row in rows:
            alone = np.linalg.norm(clipped(Faint(), module, data, rows[[row]], clip, "automatic"))
            norm = float(gradient_of(Faint(), module, data, int(row)).norm())
            assert alone == pytest.approx(clip * norm / (norm + 0.01), rel=1e-5)
            assert alone < clip


def test_products_that_cancel_do_not_hide_from_the_clip() -> None:
    """Two positions cancel but for what float32 rounds, of terms 1e9 times as large as C."""
    random = torch.Generator().manual_seed(0)
    inputs = 1e5 * torch.randn(8, 1, 1, 300, generator=random).expand(-1, -1, 2, -1)
    outputs = 1e4 * torch.randn(8, 1, 1, 300, generator=random)
    products = Products(inputs, torch.cat([outputs, -outputs], dim=2))
    factors = (1 / products.squares().sqrt()).clamp(max=1).float()
    assert (factors < 1e-2).all()
    assert products.weighted_sum(factors).norm() <= 8


@pytest.mark.parametrize("size", [4095, 4096, 4097, 12_288, 12_300])
def test_a_norm_counts_every_coordinate_also_beyond_whole_blocks(size: int) -> None:
    samples = torch.arange(1.0, 2 * 3 * size + 1).view(2, 3, size)
    exact = samples.double().square().sum(2)  # (b, n)
    assert torch.allclose(Dense(samples[:, 0]).squares(), exact[:, 0], rtol=1e-6)
    sides = samples.unsqueeze(2), torch.ones(2, 3, 1, 1)
    assert torch.allclose(Products(*sides).squares(), exact.sum(1), rtol=1e-6)


def test_a_norm_from_products_has_their_rounding_on_top() -> None:
    """Two positions leave 2^-12 of terms of 1."""
    outputs = torch.tensor([1, 2**-12 - 1]).view(1, 1, 2, 1)
    found = Products(torch.ones(1, 1, 2, 1), outputs).squares().sqrt().item()
    assert found == pytest.approx(2**-12 + 2 * 2**-23, rel=1e-5)


def test_small_inputs_do_not_hide_large_gradients() -> None:
    """|a|^2 is 0 in float32 and |g|^2 infinite, |a| |g| is 1e5; the row before is ordinary."""
    inputs, outputs = (torch.ones(2, 1, 1, 4) for _ in "ag")
    inputs[1], outputs[1] = 5e-26, 5e29
    found = Products(inputs, outputs).squares().sqrt()
    assert found.tolist() == pytest.approx([4, 1e5], rel=1e-6)


@pytest.mark.parametrize(
    ("positions", "inputs", "outputs", "pays"),
    [(1, 1, 1, True), (2, 4, 4, False), (2, 5, 5, True), (3, 9, 9, False), (3, 10, 10, True)],
)
def test_norms_come_from_products_where_that_takes_fewer_operations(
    positions: int, inputs: int, outputs: int, pays: bool
) -> None:
    """T^2 (i + o) against i o, written and read."""
    assert Products.pay(positions, inputs, outputs) == pays


def test_each_form_tells_the_bytes_that_it_keeps() -> None:
    of_words = Lookups.of(torch.tensor([[1, 1, 2], [4, 0, 4]]), torch.ones(2, 3, 5), 6, 0)
    assert Dense(torch.ones(3, 5)).held() == 4 * 15
    assert Kernels(torch.ones(2, 3, 4, 1, 5)).held() == 4 * 120
    assert Products(torch.ones(3, 1, 2, 4), torch.ones(3, 1, 2, 5)).held() == 4 * (24 + 30)
    assert of_words.held() == 4 * 3 * 5  # 1 and 2, and 4


def test_an_input_too_large_to_be_scaled_exactly_counts_as_infinite() -> None:
    """g * c is a subnormal number, rounded by up to 2^-150, and this input would make it 1e-7."""
    products = Products(torch.full((1, 1, 1, 4), 1e38), torch.full((1, 1, 1, 4), 1e-42))
    assert products.squares().isinf().all()
    products = Products(torch.full((1, 1, 1, 4), 1e29), torch.full((1, 1, 1, 4), 1e-29))
    assert products.squares().item() == pytest.approx(16)


def test_a_row_that_overflows_where_its_gradient_is_made_longer_is_left_out() -> None:
    """Its norm is 0, since its inputs are: no clip sees the one output that overflows."""
    inputs = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).view(2, 1, 1, 2)
    outputs = torch.tensor([[3e38, 1.0], [1.0, 1.0]]).view(2, 1, 1, 2)
    total = Products(inputs, outputs).weighted_sum(torch.tensor([1.5, 1.5]))
    assert total.tolist() == [1.5] * 4
