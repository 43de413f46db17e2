"""Samples by number: what they depend on, and what they do not."""

import numpy as np
import pytest
import torch

from networks.config import GeneratorConfig
from networks.generator import Generator
from networks.sampling import BLOCK, IndexedSampler, labels_of, load_sampler
from networks.snapshot import Snapshot, capture, save_snapshot
from tests.helpers.images import write_json, write_pairs

SMALL = {"resolution": 8, "channel_base": 32, "channel_max": 4, "z_dim": 3, "w_dim": 4}


def build(seed=0, **changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = Generator(GeneratorConfig(**SMALL, **changes))
        for name, tensor in generator.state_dict().items():
            if name.endswith("noise_strength"):
                tensor.detach().fill_(0.5)
    return generator.eval().requires_grad_(False)


def sampler(generator=None, labels=None, **changes):
    return IndexedSampler(generator or build(), labels, **{"name": "x.pkl", **changes})


@pytest.fixture
def data(tmp_path):
    root = write_pairs(tmp_path / "set", size=8)
    names = sorted(path.name for path in (root / "VIS").iterdir())
    features = np.random.default_rng(0).standard_normal((len(names), 2))
    write_json(root / "identity_features.json", dict(zip(names, features.tolist(), strict=True)))
    return root


def test_blocks_are_functions_of_their_number():
    one = sampler()
    first, second = one.draw(0), one.draw(1)
    assert list(first["rgb"].shape) == [BLOCK, 3, 8, 8]
    assert list(first["nir"].shape) == [BLOCK, 1, 8, 8]
    assert first["rgb"].dtype == torch.uint8
    assert not torch.equal(first["rgb"], second["rgb"])
    again = sampler()
    assert torch.equal(again.draw(1)["nir"], second["nir"])
    assert torch.equal(again.draw(0)["rgb"], first["rgb"])


@pytest.mark.parametrize("changes", [{"seed": 1}, {"truncation": 0.5}])
def test_options_change_images(changes):
    plain, other = sampler(), sampler(**changes)
    assert not torch.equal(plain.draw(0)["rgb"], other.draw(0)["rgb"])


def test_equal_noise_is_equal_noise():
    one = sampler()
    w = one.map(torch.ones(2, 3), None)
    first, again, other = (one.synthesize(w, noise)["rgb"] for noise in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype == torch.float32


def test_conditions_come_from_the_labels():
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    one = sampler(build(c_dim=2), labels)
    found = one.conditions(3)
    assert list(found.shape) == [BLOCK, 2]
    assert {tuple(row) for row in found.tolist()} <= {tuple(row) for row in labels.tolist()}
    assert torch.equal(found, sampler(build(c_dim=2), labels).conditions(3))
    assert not torch.equal(found, one.conditions(4))
    assert sampler().conditions(0) is None


@pytest.mark.parametrize("labels", [None, torch.zeros(5, 3), torch.zeros(5, 0)])
def test_labels_must_fit(labels):
    with pytest.raises(ValueError, match=r"x.pkl: needs labels of 2 numbers, the data has"):
        sampler(build(c_dim=2), labels)


def test_random_numbers_of_others_are_left_alone():
    before = torch.get_rng_state()
    sampler().draw(0)
    assert torch.equal(torch.get_rng_state(), before)


class TestSnapshots:
    def save(self, path, **changes):
        networks = {"G": capture(build(1, **changes)), "G_ema": capture(build(0, **changes))}
        options = {"data": {"feature_scale": 4.0}}
        save_snapshot(path, Snapshot(networks=networks, options=options))
        return path

    def test_average_or_raw(self, tmp_path):
        path = self.save(tmp_path / "a.pkl")
        ema, raw = load_sampler(path, data=None), load_sampler(path, data=None, use_raw_g=True)
        assert (ema.name, ema.modalities) == ("a.pkl", ("rgb", "nir"))
        expected = sampler(build(0)).draw(0)
        assert torch.equal(ema.draw(0)["rgb"], expected["rgb"])
        assert not torch.equal(raw.draw(0)["rgb"], expected["rgb"])

    def test_labels_are_scaled_as_in_training(self, tmp_path, data):
        path = self.save(tmp_path / "a.pkl", c_dim=2)
        labels = load_sampler(path, data=data).labels
        torch.testing.assert_close(labels.norm(dim=1), torch.full([4], 4.0))
        raw = labels_of(data, None)
        assert not torch.allclose(raw.norm(dim=1), torch.full([4], 4.0))

    def test_conditional_without_data(self, tmp_path):
        path = self.save(tmp_path / "a.pkl", c_dim=2)
        with pytest.raises(ValueError, match=r"a.pkl: is conditional and needs --data"):
            load_sampler(path, data=None)

    def test_no_generator_in_it(self, tmp_path):
        save_snapshot(tmp_path / "a.pkl", Snapshot(networks={}))
        with pytest.raises(ValueError, match=r"a.pkl: the snapshot has no generator 'G_ema'"):
            load_sampler(tmp_path / "a.pkl", data=None)


def test_paths_are_drawn_in_float32_and_samples_as_the_network_says():
    """16 bits do not resolve a step along a path; on CUDA they would decide its length."""
    one, seen = sampler(build(num_fp16_res=4)), []
    one.generator.synthesis.register_forward_hook(lambda *_: seen.append(True))
    w = one.map(torch.ones(2, 3), None)
    found = one.synthesize(w, 5)["rgb"]
    assert seen == []
    assert torch.equal(found, sampler(build()).synthesize(w, 5)["rgb"])
    one.draw(0)
    assert seen == [True]
