"""Processes and their GPUs; what several processes compute is in tests/integration."""

import torch

from torch_utils.distributed import World, join_world


def test_a_single_process_opens_its_own_gpu_only(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name in ("cpu", "cuda:1"):
        with join_world(torch.device(name)) as world:
            assert world == World()
    assert chosen == [torch.device("cuda:1")]
