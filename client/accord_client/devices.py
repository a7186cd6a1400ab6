"""Where a node trains: its own setting, which no manifest and no agreement knows.

Guarantees: what leaves is the same mechanism on every device. Gradients, norms and clipped sums are
computed where the model is, in float32 products and a float64 total; noise is made on the host, by
the same cryptographic generator, and added there, in float64.

Not covered: the same bits on two devices; several accelerators in one machine (the first is used;
CUDA_VISIBLE_DEVICES chooses another).
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from accord_common.errors import UsageError

if TYPE_CHECKING:
    import torch


class DeviceChoice(StrEnum):
    """What a steward may say."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def find_device(choice: DeviceChoice) -> torch.device:
    """Return the device to train on; `auto` takes CUDA where there is any.

    Raises:
        UsageError: `no-cuda`.
    """
    import torch

    found = torch.cuda.is_available()
    if choice is DeviceChoice.CUDA and not found:
        raise UsageError(
            "no-cuda",
            f"torch {torch.__version__} finds no CUDA device here",
            hint="Install a build of torch for this machine's driver, or use --device cpu.",
        )
    return torch.device("cuda" if found and choice is not DeviceChoice.CPU else "cpu")
