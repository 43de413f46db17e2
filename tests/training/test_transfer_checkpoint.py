"""Starting from a snapshot of ours: what is taken from the checkpoint beside it, and when not."""

from dataclasses import replace

import pytest
import torch

from networks.snapshot import Snapshot, capture, load_snapshot, save_snapshot
from tests.helpers.configs import small_training_config
from torch_utils.checkpoints import save_checkpoint
from torch_utils.trainer import CHECKPOINT_FILE, CHECKPOINT_FORMAT, CHECKPOINT_VERSION
from training.ada import AdaConfig
from training.options import AdaMode
from training.state import TrainingState
from training.transfer import begin, find_checkpoint, plan_start

ADAPTIVE = AdaConfig(mode=AdaMode.ADAPTIVE)


def trained_state(config, seed=1):
    """A state in which no number is at the value it starts with."""
    state, random = TrainingState(config, torch.device("cpu")), torch.Generator().manual_seed(seed)
    for network in (state.generator, *state.discriminators.values()):
        for parameter in network.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=random)
    for optimizer in state.optimizers.values():
        optimizer.step()
        optimizer.zero_grad()
    for number, controller in enumerate(state.ada.values()):
        controller.p = 0.25 + 0.5 * number
    state.pl_mean.fill_(3.0)
    state.nimg, state.step, state.tick = 12, 3, 2
    return state


def save_task(folder, state):
    """Write a checkpoint as the trainer does."""
    kind = {"format": CHECKPOINT_FORMAT, "version": CHECKPOINT_VERSION}
    save_checkpoint(folder / CHECKPOINT_FILE, {**kind, "task": state})


def write_run(folder, state):
    """Write snapshot and checkpoint of a state, as the loop does."""
    networks = {name: capture(network) for name, network in state.networks().items()}
    save_snapshot(folder / "network.pkl", Snapshot(networks=networks, nimg=state.nimg))
    save_task(folder, state.state_dict())
    return folder / "network.pkl"


def begin_from(path, **changes):
    config = small_training_config(**{"ada": ADAPTIVE, "g_lr": 0.005, **changes})
    state = TrainingState(config, torch.device("cpu"))
    begin(state, plan_start(config, load_snapshot(path), path))
    return state


def moments(optimizer):
    return {k: entry["exp_avg_sq"] for k, entry in optimizer.state_dict()["state"].items()}


@pytest.mark.parametrize("nhwc", [False, True])
def test_state_of_training_is_taken_over_but_no_counter(tmp_path, nhwc):
    before = trained_state(small_training_config(ada=ADAPTIVE))
    state = begin_from(write_run(tmp_path, before), nhwc=nhwc)
    for name, optimizer in state.optimizers.items():
        old, new = moments(before.optimizers[name]), moments(optimizer)
        assert old.keys() == new.keys()
        assert all(torch.equal(old[key], new[key]) for key in old)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                kept = optimizer.state[parameter]["exp_avg"]
                assert kept.stride() == parameter.stride()
    assert state.optimizers["G"].param_groups[0]["lr"] == pytest.approx(0.005 * 4 / 5)
    assert [controller.p for controller in state.ada.values()] == [0.25, 0.75]
    assert state.pl_mean == 3
    assert (state.nimg, state.step, state.tick) == (0, 0, 0)


def test_frozen_layers_leave_the_moments_of_the_others(tmp_path):
    before = trained_state(small_training_config(ada=ADAPTIVE))
    state = begin_from(write_run(tmp_path, before), freezed=2)
    old, new = (moments(s.optimizers["nir"]) for s in (before, state))
    assert len(old) - len(new) == 4
    assert all(torch.equal(new[key], old[key + 4]) for key in new)


def test_a_fixed_strength_goes_before_the_checkpoints(tmp_path):
    path = write_run(tmp_path, trained_state(small_training_config(ada=ADAPTIVE)))
    state = begin_from(path, ada=AdaConfig(mode=AdaMode.FIXED, p=0.1))
    assert [controller.p for controller in state.ada.values()] == [0.1, 0.1]


def test_a_checkpoint_of_other_parameters_is_not_taken(tmp_path, caplog):
    caplog.set_level("INFO")
    before = trained_state(small_training_config(ada=ADAPTIVE, freezed=1))
    state = begin_from(write_run(tmp_path, before), freezed=2)
    assert not moments(state.optimizers["rgb"])
    assert moments(state.optimizers["G"])
    assert "Adam of rgb: starts anew" in caplog.messages
    assert "Adam of G: taken over" in caplog.messages


def test_a_checkpoint_of_another_moment_or_run_is_not_used(tmp_path, caplog):
    caplog.set_level("INFO")
    state = trained_state(small_training_config(ada=ADAPTIVE))
    path = write_run(tmp_path, state)
    later, other = state.state_dict(), trained_state(state.config, seed=2).state_dict()
    later["counters"]["nimg"] += 4
    for content in (later, other):
        save_task(tmp_path, content)
        assert not moments(begin_from(path).optimizers["G"])
        assert "of another moment than network.pkl, not used" in caplog.messages[-1]
    (tmp_path / "checkpoint.pt").unlink()
    assert not moments(begin_from(path).optimizers["G"])


def test_a_checkpoint_from_before_the_common_trainer_is_taken_over(tmp_path, caplog):
    caplog.set_level("INFO")
    state = trained_state(small_training_config(ada=ADAPTIVE))
    path = write_run(tmp_path, state)
    content = {"format": "biface-checkpoint", "version": 1, **state.state_dict()}
    save_checkpoint(tmp_path / CHECKPOINT_FILE, content)
    assert moments(begin_from(path).optimizers["G"])


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"])
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    path = write_run(tmp_path, trained_state(small_training_config()))
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(ValueError, match="checkpoint.pt: not a readable checkpoint"):
        begin_from(path)


@pytest.mark.parametrize(
    "content",
    [
        {"format": "biface-checkpoint", "version": 2},
        {"format": CHECKPOINT_FORMAT, "version": CHECKPOINT_VERSION},
        {"format": CHECKPOINT_FORMAT, "version": CHECKPOINT_VERSION, "task": 3},
    ],
)
def test_a_checkpoint_of_another_format_is_named(tmp_path, content):
    path = write_run(tmp_path, trained_state(small_training_config()))
    save_checkpoint(tmp_path / "checkpoint.pt", content)
    with pytest.raises(ValueError, match="checkpoint.pt: not a biface-training"):
        begin_from(path)


def test_the_checkpoint_beside_a_published_file_is_none_of_its(tmp_path):
    path = write_run(tmp_path, trained_state(small_training_config()))
    published = replace(load_snapshot(path), origin="pytorch")
    assert find_checkpoint(published, path) is None
