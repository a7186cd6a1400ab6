"""A steward says where to train, and hears at once where there is no such device."""

import pytest
import torch

from accord_client.devices import DeviceChoice, find_device
from accord_common.errors import AccordError


@pytest.mark.parametrize(
    ("choice", "found", "device"),
    [("auto", False, "cpu"), ("auto", True, "cuda"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_the_device_is_what_was_said_and_is_there(
    choice: str, found: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: found)
    assert find_device(DeviceChoice(choice)).type == device


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(AccordError) as caught:
        find_device(DeviceChoice.CUDA)
    assert caught.value.code == "no-cuda"
    assert "--device cpu" in str(caught.value.hint)
