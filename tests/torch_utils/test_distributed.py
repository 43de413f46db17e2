"""Processes and their GPUs; what several processes compute is in tests/integration."""

import torch

from torch_utils.distributed import World, init_distributed


def test_a_single_process_opens_its_own_gpu_only(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name in ("cpu", "cuda:1"):
        with init_distributed(torch.device(name)) as world:
            assert world == World()
    assert chosen == [torch.device("cuda:1")]
