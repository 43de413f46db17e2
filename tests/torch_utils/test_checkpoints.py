"""Checkpoints: equal states, equal bytes (hostile files: test_safe_pickle.py)."""

import pytest
import torch

from tests.helpers.configs import small_training_config
from torch_utils.checkpoints import load_checkpoint, save_checkpoint, state_sha256
from training.state import TrainingState

CPU = torch.device("cpu")
STATE = {
    "format": "x",
    "numbers": {"step": 3, "p": 0.25, "none": None, "is_on": True},
    "list": [1, "two", (3, 4)],
    "tensors": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(5, dtype=torch.int64)},
}


def save(path, state=STATE):
    save_checkpoint(path, state)
    return path


def test_round_trip(tmp_path):
    loaded = load_checkpoint(save(tmp_path / "a.pt"), CPU)
    tensors, expected = loaded.pop("tensors"), STATE["tensors"]
    assert loaded == {key: value for key, value in STATE.items() if key != "tensors"}
    for name, tensor in expected.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_equal_states_give_equal_bytes_whatever_the_name(tmp_path):
    first = save(tmp_path / "a.pt").read_bytes()
    assert save(tmp_path / "folder" / "other.name").read_bytes() == first
    assert save(tmp_path / "c.pt", {**STATE, "format": "y"}).read_bytes() != first


def train_a_little(state):
    for name, optimizer in state.optimizers.items():
        network = state.generator if name == "G" else state.discriminators[name]
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, 0.5)
        optimizer.step()
    state.statistics.report("Loss/x", torch.tensor([1.0, 2.0]))
    state.nimg, state.step, state.tick = 12, 3, 2


def test_a_continued_training_state_is_saved_as_the_same_bytes(tmp_path):
    state = TrainingState(small_training_config(), CPU)
    train_a_little(state)
    first = save(tmp_path / "a.pt", state.state_dict())
    again = TrainingState(small_training_config(seed=1), CPU)
    again.load_state_dict(load_checkpoint(first, CPU))
    second = save(tmp_path / "b.pt", again.state_dict())
    assert second.read_bytes() == first.read_bytes()
    assert (again.nimg, again.step, again.tick) == (12, 3, 2)


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(2), "text"])
def test_what_is_no_dict_is_refused(tmp_path, content):
    path = save(tmp_path / "list.pt", content)
    with pytest.raises(ValueError, match="list.pt: .*dict"):
        load_checkpoint(path, CPU)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.pt"):
        load_checkpoint(tmp_path / "none.pt", CPU)


# Hashes of states


def test_a_hash_is_that_of_names_shapes_and_values():
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(5)}
    found = state_sha256(state)
    assert state_sha256(dict(reversed(state.items()))) == found
    assert state_sha256({**state, "a": state["a"].t().contiguous().t()}) == found
    others = [
        {"a": state["a"]},
        {**state, "a": state["a"].reshape(3, 2)},
        {**state, "a": state["a"].double()},
        {**state, "b": torch.tensor(6)},
        {"c": state["a"], "b": state["b"]},
    ]
    assert len({found, *map(state_sha256, others)}) == 6
