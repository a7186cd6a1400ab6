"""Modules that book-keeping must refuse, hand on, or cut into parts."""

from collections.abc import Callable

import numpy as np
import pytest
import structlog
import torch
from opacus.layers import DPMultiheadAttention
from structlog.testing import capture_logs
from torch import Tensor, nn

from accord_client.training.bookkeeping import BookKeeping, layer_without_rule
from accord_client.training.step import ClippedGradients
from accord_common.errors import AccordError
from accord_common.models.tabular import BinaryClassification
from accord_common.tables import Encoded
from tests.client.training.oracle import (
    DATA,
    LABELS,
    ROWS,
    TASK,
    clipped,
    distance,
    row_by_row,
    trainable,
)


class Mean(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.mean(1, keepdim=True)


def linear() -> nn.Module:
    return nn.Sequential(nn.Linear(24, 9), nn.Tanh(), nn.Linear(9, 1))


@pytest.mark.parametrize("first", [True, False])
def test_a_parameter_used_outside_its_layer_is_refused(first: bool) -> None:
    class Around(nn.Module):
        """Adds its layer's weights to the layer's output, or the other way round."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(24, 1)

        def forward(self, features: Tensor) -> Tensor:
            more, own = self.layer.weight.sum(), self.layer(features)
            result: Tensor = more + own if first else own + more
            return result

    with pytest.raises(AccordError, match=r"\[unsupported-layer.*outside its layer"):
        clipped(TASK, Around(), DATA, np.arange(3), 1)


def test_an_input_that_is_overwritten_is_refused() -> None:
    class Overwrites(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(24, 1)

        def forward(self, features: Tensor) -> Tensor:
            doubled = features * 2
            result: Tensor = self.layer(doubled)
            doubled.zero_()
            return result

    with pytest.raises(AccordError, match=r"\[unsupported-layer.*overwritten"):
        clipped(TASK, Overwrites(), DATA, np.arange(3), 1)


def test_other_than_one_tensor_with_a_row_for_each_row_is_refused() -> None:
    class Positions(nn.Module):
        """Looks up positions once for all rows."""

        def __init__(self, named: bool) -> None:
            super().__init__()
            self.table, self.last, self.named = nn.Embedding(4, 24), nn.Linear(24, 1), named

        def forward(self, features: Tensor) -> Tensor:
            where = torch.arange(4)
            found = self.table(input=where) if self.named else self.table(where)
            result: Tensor = self.last(features + found.sum(0))
            return result

    for named in (False, True):
        with pytest.raises(AccordError, match=r"\[unsupported-layer\] Embedding"):
            clipped(TASK, Positions(named), DATA, np.arange(3), 1)


class Begun(nn.Module):
    """A sequence that begins with a state of its own, given by name or as a second argument."""

    def __init__(self, named: bool) -> None:
        super().__init__()
        self.layer, self.named = nn.GRU(4, 1, batch_first=True), named

    def forward(self, features: Tensor) -> Tensor:
        steps, state = features.view(-1, 6, 4), features.new_ones(1, len(features), 1)
        outputs, _ = self.layer(steps, hx=state) if self.named else self.layer(steps, state)
        result: Tensor = outputs[:, -1]
        return result


@pytest.mark.parametrize("named", [False, True])
def test_a_state_to_begin_with_is_refused(named: bool) -> None:
    with pytest.raises(AccordError, match=r"\[unsupported-layer\] GRU"):
        clipped(TASK, Begun(named), DATA, np.arange(3), 1)


def test_a_sequence_without_a_batch_is_refused() -> None:
    class Whole(nn.Module):
        """Reads the rows as one sequence, which one row does not show."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.GRU(24, 1, batch_first=True)

        def forward(self, features: Tensor) -> Tensor:
            result: Tensor = self.layer(features)[0]
            return result

    with pytest.raises(AccordError, match=r"\[unsupported-layer\] GRU: .* without a batch"):
        clipped(TASK, Whole(), DATA, np.arange(1), 1)


def test_losses_that_no_layer_leads_to_have_no_gradient() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(24, 1)

        def forward(self, features: Tensor) -> Tensor:
            result: Tensor = self.layer(features)
            return result.detach()

    assert not clipped(TASK, Constant(), DATA, np.arange(ROWS), 1).any()


class Centred(nn.Module):
    """Takes the batch's mean off, before its layer or behind it."""

    def __init__(self, before: bool) -> None:
        super().__init__()
        self.layer, self.before = nn.Linear(24, 1), before

    def forward(self, features: Tensor) -> Tensor:
        if self.before:
            features = features - features.mean(0)
        result: Tensor = self.layer(features)
        return result if self.before else torch.tanh(result - result.mean(0))


class Shifted(nn.Module):
    """Lets each row but the first see the one before it, or but the last the one behind."""

    def __init__(self, back: bool) -> None:
        super().__init__()
        self.layer, self.back = nn.Linear(24, 1), back

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.layer(features)
        none = torch.zeros(1, 1)
        return result + torch.cat([none, result[:-1]] if self.back else [result[1:], none])


class Shared(nn.Module):
    """Looks eight positions up once for all rows, of which there are eight in a first part."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.last = nn.Embedding(8, 24), nn.Linear(24, 1)

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.last(features + self.table(torch.arange(8)).sum(0))
        return result


class Foreign(nn.Module):
    """Takes the batch's mean off behind a layer that book-keeping has no rule for."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.slope = nn.Linear(24, 1), nn.PReLU()

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.slope(self.layer(features))
        return result - result.mean(0)


class Steep(nn.Module):
    """Adds a root of the batch's sum, taken where it is infinitely steep."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(24, 1)

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.layer(features)
        return result + (features - features.detach()).sum().sqrt()


MIXING: dict[str, Callable[[], nn.Module]] = {
    "before": lambda: Centred(True),
    "behind": lambda: Centred(False),
    "table": Shared,
    "back": lambda: Shifted(True),
    "ahead": lambda: Shifted(False),
    "without a rule": Foreign,
    "infinitely": Steep,
}


@pytest.mark.parametrize("make", MIXING.values(), ids=MIXING)
def test_a_module_that_mixes_rows_is_refused(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(AccordError, match=r"\[mixes-rows"):
        clipped(TASK, make(), DATA, np.arange(ROWS), 1)


@pytest.mark.parametrize("make", [lambda: Centred(False), Foreign], ids=["behind", "no rule"])
def test_a_part_of_one_row_proves_nothing_about_mixing(make: Callable[[], nn.Module]) -> None:
    with ClippedGradients(TASK, make(), 1) as gradients:
        gradients.sum(DATA, [np.arange(1)])
        with pytest.raises(AccordError, match=r"\[mixes-rows"):
            gradients.sum(DATA, [np.arange(2)])


def test_a_row_that_is_not_finite_is_not_taken_for_mixing() -> None:
    features = DATA.features.copy()
    features[2], features[3] = np.inf, np.nan
    module, data = linear(), Encoded(features, LABELS)
    expected = row_by_row(TASK, module, data, np.arange(ROWS), 1)
    assert distance(clipped(TASK, module, data, np.arange(ROWS), 1), expected) <= 1e-5


class Encoder(nn.Module):
    """Six positions of four numbers."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.last = layer, nn.Linear(4, 1)

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.last(self.layer(features.view(-1, 6, 4)).mean(1))
        return result


class AttendsToItself(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.layer(inputs, inputs, inputs, need_weights=False)[0]
        return result


def test_torchs_attention_is_refused_with_what_to_use_instead() -> None:
    attention = nn.MultiheadAttention(4, 2, batch_first=True)
    whole = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    for layer, name in ((AttendsToItself(attention), "layer.layer"), (whole, "layer.self_attn")):
        with pytest.raises(AccordError) as caught:
            clipped(TASK, Encoder(layer), DATA, np.arange(3), 1)
        assert caught.value.code == "unsupported-layer"
        assert f"layer '{name}' is MultiheadAttention" in caught.value.message
        assert "DPMultiheadAttention(..., batch_first=True)" in str(caught.value.hint)
    instead = Encoder(AttendsToItself(DPMultiheadAttention(4, 2, batch_first=True)))
    expected = row_by_row(TASK, instead, DATA, np.arange(ROWS), 0.1)
    assert distance(clipped(TASK, instead, DATA, np.arange(ROWS), 0.1), expected) <= 1e-5
    attention.requires_grad_(False)  # what stays needs no gradient per row
    assert clipped(TASK, Encoder(AttendsToItself(attention)), DATA, np.arange(ROWS), 1).any()


def test_what_opacus_cannot_do_is_refused() -> None:
    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Bilinear(4, 4, 4)

        def forward(self, inputs: Tensor) -> Tensor:
            result: Tensor = self.layer(inputs, inputs)
            return result

    with pytest.raises(AccordError, match=r"\[unsupported-layer.*TypeError"):
        clipped(TASK, Encoder(Pairs()), DATA, np.arange(3), 1)


def test_a_module_with_a_layer_without_rule_goes_to_opacus_and_says_so() -> None:
    class Own(nn.Linear):
        pass

    module = nn.Sequential(nn.Linear(24, 3), nn.Tanh(), Own(3, 1))
    structlog.reset_defaults()  # a verb that ran in this process before hides debug lines
    with capture_logs() as logs:
        ours = clipped(TASK, module, DATA, np.arange(ROWS), 0.5)
    assert logs == [{"event": "opacus-hooks", "layer": "Own", "log_level": "debug"}]
    assert distance(ours, row_by_row(TASK, module, DATA, np.arange(ROWS), 0.5)) <= 1e-5
    for odd in (
        nn.Embedding(3, 2, max_norm=1),
        nn.Embedding(3, 2, scale_grad_by_freq=True),
        nn.Embedding(3, 2, sparse=True),
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)),
        with_one_more(nn.Linear(3, 3)),
        with_one_more(nn.LSTM(3, 2, batch_first=True)),
        nn.LSTM(3, 2),
        nn.GRU(3, 2, 2, dropout=0.5, batch_first=True),
        nn.LSTM(3, 4, proj_size=2, batch_first=True),
    ):
        assert layer_without_rule(odd) is not None
    single = nn.GRU(3, 2, batch_first=True)
    single.dropout = 0.5  # between layers, of which there is one
    assert layer_without_rule(single) is None


def with_one_more(layer: nn.Module) -> nn.Module:
    """A parameter that no rule knows of."""
    layer.register_parameter("scale", nn.Parameter(torch.ones(1)))
    return layer


def test_book_keeping_itself_takes_no_layer_without_a_rule() -> None:
    with pytest.raises(AccordError, match=r"\[unsupported-layer\] PReLU: it has no rule"):
        BookKeeping(TASK, nn.Sequential(nn.Linear(24, 1), nn.PReLU()))


def test_a_call_outside_a_batch_has_no_part_in_the_next() -> None:
    module = linear()
    with ClippedGradients(TASK, module, 1) as gradients:
        before = gradients.sum(DATA, [np.arange(ROWS)]).copy()
        module(torch.ones(5, 24))
        assert distance(gradients.sum(DATA, [np.arange(ROWS)]), before) <= 1e-5


def test_paths_through_the_graph_are_not_walked_one_by_one() -> None:
    class Doubled(nn.Module):
        """2^64 paths from the losses to the data."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(24, 1)

        def forward(self, features: Tensor) -> Tensor:
            for _ in range(64):
                features = (features + features) / 2
            result: Tensor = self.layer(features)
            return result

    module = Doubled()
    expected = row_by_row(TASK, module, DATA, np.arange(ROWS), 1)
    assert distance(clipped(TASK, module, DATA, np.arange(ROWS), 1), expected) <= 1e-5


def test_opacus_takes_words_as_well() -> None:
    module = nn.Sequential(nn.Embedding(9, 4), nn.PReLU(), nn.Flatten(), nn.Linear(12, 1))
    words = Encoded(np.random.default_rng(6).integers(0, 9, (ROWS, 3)), LABELS)
    expected = row_by_row(TASK, module, words, np.arange(ROWS), 0.5)
    assert distance(clipped(TASK, module, words, np.arange(ROWS), 0.5), expected) <= 1e-5


def test_a_frozen_module_has_an_empty_sum() -> None:
    module = linear().requires_grad_(False)
    assert not trainable(module)
    assert clipped(TASK, module, DATA, np.arange(ROWS), 1).size == 0


def test_parts_are_as_large_as_memory_allows() -> None:
    """A small part shows what a row takes; a model with fat rows gets smaller parts."""
    seen: list[int] = []

    class Watching(BinaryClassification):
        def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
            seen.append(len(labels))
            return super().losses(logits, labels)

    data = Encoded(np.zeros((1500, 24), np.float32), np.zeros(1500, np.int64))
    thin = linear()
    fat = nn.Sequential(nn.Linear(24, 500_000, bias=False), Mean())
    for module in (thin, fat):
        with ClippedGradients(Watching(), module, 1) as gradients:
            gradients.sum(data, [np.arange(1500 if module is thin else 60)])
    assert seen[:3] == [8, 1024, 468]
    first, second, *_ = seen[3:]
    assert first == 8
    assert second == 44  # outputs, their gradients, and what is kept of them
    assert sum(seen[3:]) == 60


def test_what_is_frozen_takes_no_memory() -> None:
    taken = []
    for frozen in (True, False):
        module = nn.Sequential(nn.Linear(24, 1000), Mean())
        module[0].weight.requires_grad_(not frozen)
        engine = BookKeeping(TASK, module)
        engine.gradients(torch.ones(8, 24), torch.zeros(8, dtype=torch.int64))
        taken.append(engine.bytes_per_row)
    assert taken[1] - taken[0] >= 4 * (24 + 1000)
