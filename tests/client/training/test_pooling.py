"""Pooling turned over is the same pooling, whatever module it stands in."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from accord_client.training.pooling import pool_channels_last
from accord_common.tables import Encoded
from tests.client.training.oracle import (
    LABELS,
    ROWS,
    TASK,
    clipped,
    distance,
    opacus_only,
    row_by_row,
)

IMAGES = torch.from_numpy(np.random.default_rng(5).normal(size=(7, 3, 9, 8)).astype(np.float32))
PIXELS = Encoded(
    np.random.default_rng(6).normal(0, 2, (ROWS, 6 * 8 * 8)).astype(np.float32), LABELS
)


@pytest.mark.parametrize(
    "layer",
    [
        nn.MaxPool2d(2, 1),
        nn.MaxPool2d(3, 2, padding=1, ceil_mode=True),
        nn.AdaptiveMaxPool2d(3),
        nn.AvgPool2d(2, count_include_pad=False, padding=1),
        nn.AdaptiveAvgPool2d((2, 3)),
    ],
    ids=str,
)
def test_numbers_gradients_and_layout_stay(layer: nn.Module) -> None:
    plain, turned = IMAGES.clone().requires_grad_(), IMAGES.clone().requires_grad_()
    expected = layer(plain)
    hooks = pool_channels_last(layer)
    found = layer(turned)
    assert torch.allclose(found, expected, rtol=1e-6) and found.is_contiguous()
    weights = torch.rand_like(expected)
    torch.autograd.backward([expected, found], [weights, weights])
    assert turned.grad is not None and plain.grad is not None
    assert torch.allclose(turned.grad, plain.grad, rtol=1e-5)
    for hook in hooks:
        hook.remove()
    assert not layer._forward_hooks and not layer._forward_pre_hooks


def test_pictures_without_a_batch_and_pools_that_return_indices_are_let_be() -> None:
    layer = nn.MaxPool2d(2, return_indices=True)
    pool_channels_last(module := nn.ModuleList([nn.MaxPool2d(2), layer]))
    assert torch.equal(module[0](IMAGES[0]), nn.functional.max_pool2d(IMAGES[0], 2))
    assert all(isinstance(part, Tensor) for part in layer(IMAGES))
    assert not layer._forward_hooks


class Channels(nn.Module):
    """A user's network that works channels last itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 5, 3)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(5 * 3 * 3, 1)

    def forward(self, rows: Tensor) -> Tensor:
        images = rows.view(-1, 6, 8, 8).contiguous(memory_format=torch.channels_last)
        outputs: Tensor = self.head(self.pool(self.conv(images).tanh()).flatten(1))
        return outputs


def test_a_network_that_works_channels_last_gets_its_own_rows_gradients_from_both_engines() -> None:
    torch.manual_seed(8)
    module, rows = Channels(), np.arange(ROWS)
    expected = row_by_row(TASK, module, PIXELS, rows, 1.0)
    assert distance(clipped(TASK, module, PIXELS, rows, 1.0), expected) < 1e-5
    with opacus_only():
        assert distance(clipped(TASK, module, PIXELS, rows, 1.0), expected) < 1e-5
