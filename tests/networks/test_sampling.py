"""Samples: what they depend on, and what they do not."""

import numpy as np
import pytest
import torch

from data.pixels import to_uint8
from networks.generation import interpolate_ws, mix_styles
from networks.options import NoiseMode
from networks.sampling import (
    IndexedSampler,
    Sampler,
    Truncation,
    check_layers,
    latents_of_seeds,
    load_sampler,
    micro_batch_size,
    replace_layers,
    snapshot_sampler,
)
from networks.snapshot import Snapshot, capture, save_snapshot
from tests.helpers.images import write_json, write_pairs
from tests.helpers.networks import random_network, small_generator_config

CONDITIONS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])


def build(seed=0, **changes):
    config = small_generator_config(resolution=8, **changes)
    network = random_network(config, seed).eval().requires_grad_(False)
    for name, tensor in network.state_dict().items():  # images that differ
        if name.startswith("mapping.fc") and name.endswith("weight"):
            tensor.mul_(100)
    return network


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in ("rgb", "nir"))


def indexed(generator=None, conditions=None, **changes):
    return IndexedSampler(generator or build(), conditions, **{"name": "x.pkl", **changes})


def test_micro_batches_shrink_with_the_size():
    sizes = [micro_batch_size(side, "cuda") for side in (32, 128, 256, 512, 1024, 4096)]
    assert sizes == [64, 64, 32, 8, 2, 1]
    assert [micro_batch_size(side, "cpu") for side in (32, 256, 512)] == [4, 4, 4]


def test_latents_of_seeds_are_the_published_ones():
    z = latents_of_seeds([0, 7], 4)
    assert z.dtype == torch.float32
    # The first normal numbers of NumPy's legacy stream with seed 0.
    expected = [1.764052345967664, 0.4001572083672233, 0.9787379841057392, 2.240893199201458]
    assert torch.equal(z[0], torch.tensor(expected))
    assert torch.equal(z[1:], latents_of_seeds([7], 4))


class TestSampler:
    def sampler(self, generator=None, **changes):
        truncation = Truncation(psi=0.7, cutoff=3)
        return Sampler(generator or build(c_dim=2), **{"truncation": truncation, **changes})

    def ws(self, sampler, count=7):
        return sampler.map(latents_of_seeds(range(count), 8), torch.ones(count, 2))

    @pytest.mark.parametrize("mode", [NoiseMode.CONST, NoiseMode.NONE])
    def test_images_are_the_generators(self, mode):
        sampler = self.sampler(noise_mode=mode)
        ws = self.ws(sampler)
        expected = sampler.generator.map(latents_of_seeds(range(7), 8), torch.ones(7, 2), 0.7, 3)
        torch.testing.assert_close(ws, expected, rtol=0, atol=1e-5)
        images = sampler.generator.synthesis(ws, mode)
        for index, sample in enumerate(sampler.images(ws)):
            assert list(sample) == ["rgb", "nir"]
            for name, image in sample.items():
                torch.testing.assert_close(image, images[name][index], rtol=1e-5, atol=1e-4)

    @pytest.mark.parametrize("mode", NoiseMode)
    def test_a_sample_does_not_depend_on_what_follows(self, mode):
        sampler = self.sampler(noise_mode=mode)
        ws, keys = self.ws(sampler), [str(index) for index in range(7)]
        assert torch.equal(self.ws(sampler, 5), ws[:5])
        whole = sampler.pixels(ws, keys)
        part = sampler.pixels(ws[:5], keys)
        assert whole["rgb"].shape == (7, 3, 8, 8)
        assert whole["rgb"].dtype == torch.uint8
        assert equal({name: images[:5] for name, images in whole.items()}, part)
        rows = [{n: to_uint8(i) for n, i in images.items()} for images in sampler.images(ws, keys)]
        assert torch.equal(torch.stack([row["nir"] for row in rows]), whole["nir"])

    def test_random_noise_follows_seed_and_key(self):
        sampler = self.sampler(noise_mode=NoiseMode.RANDOM)
        ws = self.ws(sampler, 2)
        both, alone = sampler.pixels(ws, ["a", "b"]), sampler.pixels(ws[1:], ["b"])
        assert (both["nir"][1].int() - alone["nir"][0].int()).abs().max() <= 1
        assert not equal(alone, sampler.pixels(ws[1:], ["c"]))
        reseeded = self.sampler(sampler.generator, noise_mode=NoiseMode.RANDOM, seed=1)
        assert not equal(alone, reseeded.pixels(ws[1:], ["b"]))

    def test_features_are_the_networks_and_belong_to_the_images(self):
        sampler = self.sampler()
        ws = self.ws(sampler)
        _, maps = sampler.generator.synthesis.with_features(ws, "const")
        images = sampler.pixels(ws)
        for index, sample in enumerate(sampler.features(ws)):
            assert np.array_equal(sample.images["rgb"], images["rgb"][index].numpy())
            for found, wanted in zip(sample.maps, maps, strict=True):
                torch.testing.assert_close(found, wanted[index], rtol=1e-4, atol=1e-4)

    def test_random_numbers_of_others_are_left_alone(self):
        sampler = self.sampler(noise_mode=NoiseMode.RANDOM)
        before = torch.get_rng_state()
        sampler.pixels(self.ws(sampler), range(7))
        assert torch.equal(torch.get_rng_state(), before)


class TestIndexedSampler:
    def test_samples_are_functions_of_their_index(self):
        whole = indexed().sample(range(8))
        part = indexed().sample(range(4, 7))
        assert equal({name: images[4:7] for name, images in whole.items()}, part)
        assert torch.equal(indexed().latents([5]), indexed().latents(range(8))[5:6])
        assert not torch.equal(whole["rgb"][0], whole["rgb"][1])

    @pytest.mark.parametrize(
        "changes", [{"seed": 1}, {"truncation": Truncation(psi=0.5)}, {"stream": "other"}]
    )
    def test_options_change_them(self, changes):
        assert not equal(indexed().sample([0]), indexed(**changes).sample([0]))

    def test_conditions_come_from_all_that_are_given(self):
        one = indexed(build(c_dim=2), CONDITIONS)
        assert {one.label(index) for index in range(60)} == {0, 1, 2}
        assert torch.equal(one.conditions([3, 4]), CONDITIONS[[one.label(3), one.label(4)]])
        assert indexed().conditions([0]) is None
        assert indexed().label(0) is None

    @pytest.mark.parametrize("conditions", [None, torch.zeros(5, 3), torch.zeros(0, 2)])
    def test_conditions_must_fit(self, conditions):
        with pytest.raises(ValueError, match=r"x.pkl: .* \[N, 2\]"):
            indexed(build(c_dim=2), conditions)
        with pytest.raises(ValueError, match="x.pkl: the network is unconditional"):
            indexed(build(), CONDITIONS)

    def test_ends_of_a_path_have_equal_noise(self):
        one = indexed(noise_mode=NoiseMode.RANDOM)
        ws = one.ws([0, 1])
        first, again, other = (one.synthesize(ws, i)["rgb"] for i in ([5, 6], [5, 6], [6, 5]))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert first.dtype == torch.float32

    def test_paths_are_computed_in_float32_and_samples_as_the_network_says(self):
        """16 bits do not resolve a step along a path; on CUDA they would decide its length."""
        one, seen = indexed(build(num_fp16_res=4)), []
        one.generator.synthesis.register_forward_hook(lambda *_: seen.append(True))
        ws = one.ws([0])
        assert torch.equal(
            one.synthesize(ws, [5])["rgb"], indexed(build()).synthesize(ws, [5])["rgb"]
        )
        assert seen == []
        one.sample([0])
        assert seen == [True]


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
        expected = snapshot_sampler(build(0), None, name="").sample([0])
        assert equal(ema.sample([0]), expected)
        assert not equal(raw.sample([0]), expected)

    def test_labels_are_scaled_as_in_training(self, tmp_path):
        root = write_pairs(tmp_path / "set", size=8)
        names = sorted(path.name for path in (root / "VIS").iterdir())
        rows = np.random.default_rng(0).standard_normal((len(names), 2)).tolist()
        write_json(root / "identity_features.json", dict(zip(names, rows, strict=True)))
        path = self.save(tmp_path / "a.pkl", c_dim=2)
        labels = load_sampler(path, data=root).labels
        torch.testing.assert_close(labels.norm(dim=1), torch.full([4], 4.0))
        with pytest.raises(ValueError, match=r"a.pkl: is conditional and needs --data"):
            load_sampler(path, data=None)

    def test_no_generator_in_it(self, tmp_path):
        save_snapshot(tmp_path / "a.pkl", Snapshot(networks={}))
        with pytest.raises(ValueError, match=r"a.pkl: the snapshot has no generator 'G_ema'"):
            load_sampler(tmp_path / "a.pkl", data=None)


class TestStyleMixing:
    def test_layers_come_from_columns(self):
        rows, columns = torch.randn(3, 4, 2), torch.randn(2, 4, 2)
        mixed = mix_styles(rows, columns, [0, 2])
        for r in range(3):
            for c in range(2):
                for layer in range(4):
                    source = columns[c] if layer in (0, 2) else rows[r]
                    assert torch.equal(mixed[r * 2 + c, layer], source[layer])
        assert torch.equal(replace_layers(rows, rows + 1, ()), rows)

    def test_layers_that_are_not_there_are_refused(self):
        check_layers((), 4)
        with pytest.raises(ValueError, match="--mix-layers must be from 0 to 3 here, got 4"):
            replace_layers(torch.ones(1, 4, 2), torch.ones(1, 4, 2), [0, 4])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_interpolation_meets_its_keys_and_closes(count):
    keys = torch.randn(count, 3, 2)
    path = interpolate_ws(keys, 8)
    assert path.shape == (count * 8, 3, 2)
    torch.testing.assert_close(path[::8], keys)
    # The step over the end is as long as the others, up to the path's curvature.
    steps = (path.roll(-1, 0) - path).flatten(1).norm(dim=1)
    assert steps[-1] <= steps.max() + 1e-6
    assert steps[-1] < keys.flatten(1).norm(dim=1).max()
