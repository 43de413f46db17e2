"""The choice of a device, with and without GPUs."""

import pytest
import torch

from torch_utils.devices import resolve_device


@pytest.fixture
def gpus(monkeypatch):
    """Return a function that pretends that there are so many GPUs."""

    def pretend(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


@pytest.mark.parametrize(
    ("count", "name", "number", "expected"),
    [
        (0, "auto", None, "cpu"),
        (0, "cpu", None, "cpu"),
        (2, "cpu", 1, "cpu"),
        (2, "auto", None, "cuda:0"),
        (2, "auto", 1, "cuda:1"),
        (1, "cuda", 0, "cuda:0"),
    ],
)
def test_choice(gpus, count, name, number, expected):
    gpus(count)
    assert resolve_device(name, number) == expected


@pytest.mark.parametrize(
    ("count", "name", "number", "reason"),
    [
        (0, "cuda", None, "no CUDA device"),
        (1, "auto", 1, "from 0 to 0, got 1"),
        (1, "cuda", -1, "from 0 to 0, got -1"),
        (1, "tpu", None, "--device must be one of auto, cpu, cuda"),
    ],
)
def test_refusal(gpus, count, name, number, reason):
    gpus(count)
    with pytest.raises(ValueError, match=reason):
        resolve_device(name, number)
