"""Processes and their GPUs; what several processes compute is in tests/integration."""

import pytest
import torch

from torch_utils.distributed import World, init_distributed, launched_world


def test_a_single_process_opens_its_own_gpu_only(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name in ("cpu", "cuda:1"):
        with init_distributed(torch.device(name)) as world:
            assert world == World()
    assert chosen == [torch.device("cuda:1")]


def test_a_rank_beyond_the_number_of_processes_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        assert launched_world() == World(rank=rank, size=2)
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(ValueError, match="RANK must be .* got 2"):
        launched_world()
