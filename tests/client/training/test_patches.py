"""How a convolution's patches are shared and copied; `test_rules` says that the sum is right."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from accord_client.training import patches
from tests.client.training.oracle import DATA, TASK, clipped, distance, row_by_row

PART = 8  # rows, the first part that an engine takes


def layer(kernel: int, stride: int, dilation: int) -> nn.Conv2d:
    """Its other dimension must not matter."""
    return nn.Conv2d(2, 3, (kernel, 5), stride=(stride, 4), dilation=(dilation, 7))


@pytest.mark.parametrize(
    ("convolution", "split"),
    [
        pytest.param(nn.Conv1d(2, 3, 4), (4, 1, 0), id="line"),
        pytest.param(layer(6, 1, 1), (1, 6, 1), id="each row once"),
        pytest.param(layer(6, 1, 3), (1, 6, 3), id="rows apart"),
        pytest.param(layer(6, 2, 1), (2, 3, 1), id="rows in pairs"),
        pytest.param(layer(5, 2, 1), (5, 1, 0), id="an odd row"),
        pytest.param(layer(6, 2, 2), (6, 1, 0), id="pairs apart"),
    ],
)
def test_patches_share_the_rows_in_which_they_overlap(
    convolution: patches.Convolution, split: tuple[int, int, int]
) -> None:
    """Rows of a product, products, and the shift from one to the next."""
    assert patches._split(convolution) == split


@pytest.mark.parametrize(
    ("at_once", "copies"), [(0, [1] * PART), (5, [5, 3]), (PART, [PART]), (99, [PART])]
)
def test_patches_are_copied_a_few_rows_at_a_time(
    at_once: int, copies: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    of_a_row = 4 * 4 * 4 * 3  # bytes: positions, of rows and columns, and numbers that each reads
    seen: list[int] = []
    copy = patches._copy

    def watched(given: Tensor, place: Tensor) -> None:
        seen.append(len(given))
        assert place.untyped_storage().nbytes() == copies[0] * of_a_row
        copy(given, place)

    torch.manual_seed(5)
    module = nn.Sequential(
        nn.Unflatten(1, (1, 4, 6)),
        nn.Conv2d(1, 3, (1, 3)),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(48, 1),
    )
    expected = row_by_row(TASK, module, DATA, np.arange(PART), 0.1)
    monkeypatch.setattr(patches, "_copy", watched)
    monkeypatch.setattr(patches, "_COPIED_BYTES", at_once * of_a_row)
    given = clipped(TASK, module, DATA, np.arange(PART), 0.1)
    assert distance(given, expected) <= 1e-5
    assert seen == copies
