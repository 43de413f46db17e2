"""Processes and their GPUs; what several processes compute is in tests/integration."""

import pytest
import torch

from dnnlib.options import JobError
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


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]:4"),
        RuntimeError("Read error [::1]:4: Connection reset by peer"),
        RuntimeError("Timed out waiting 1800000ms for recv operation to complete"),
        torch.distributed.DistBackendError("NCCL error"),
        torch.distributed.DistBackendError(""),
    ],
)
def test_a_lost_process_is_told_in_one_line(monkeypatch, error):
    with pytest.raises(JobError, match="the same command continues"):
        meet(error, monkeypatch)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("sizes do not match")]
)
def test_another_error_is_no_lost_process(monkeypatch, error):
    with pytest.raises(type(error), match=str(error)):
        meet(error, monkeypatch)


def meet(error, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(torch.distributed, "all_reduce", fail)
    World(size=2).barrier()
