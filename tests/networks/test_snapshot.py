"""Our snapshots: what is saved comes back, and anything else is one clear error."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from networks.config import DiscriminatorConfig, GeneratorConfig
from networks.discriminator import Discriminator
from networks.generator import Generator
from networks.snapshot import (
    Snapshot,
    build_generator,
    capture,
    load_generator,
    load_snapshot,
    restore,
    save_snapshot,
)

SMALL = {"resolution": 8, "channel_base": 32, "channel_max": 4}


@pytest.fixture(scope="module")
def snapshot():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = Generator(GeneratorConfig(**SMALL, z_dim=3, w_dim=4, c_dim=2, num_fp16_res=1))
        discriminator = Discriminator(DiscriminatorConfig(**SMALL, channels=1, conv_clamp=256.0))
    networks = {
        "G": capture(generator),
        "D_NIR": capture(discriminator),
        "G_ema": capture(generator),
    }
    options = {"batch": 4, "resume": None, "nested": {"list": [1, 2.5, "x"], "flag": True}}
    augment = {"rgb": 0.25, "nir": 0.5}
    return Snapshot(networks=networks, augment=augment, options=options, nimg=12345)


@pytest.fixture
def path(tmp_path, snapshot):
    save_snapshot(tmp_path / "network-snapshot-000012.pkl", snapshot)
    return tmp_path / "network-snapshot-000012.pkl"


def assert_same(first, second):
    assert first.networks.keys() == second.networks.keys()
    for name, network in first.networks.items():
        other = second.networks[name]
        assert (network.kind, network.config) == (other.kind, other.config)
        assert network.state.keys() == other.state.keys()
        assert all(torch.equal(network.state[key], other.state[key]) for key in network.state)


def test_round_trip(path, snapshot):
    loaded = load_snapshot(path)
    assert_same(loaded, snapshot)
    assert loaded.options == snapshot.options
    assert loaded.augment == snapshot.augment
    assert (loaded.nimg, loaded.origin) == (12345, "biface")


def test_equal_content_gives_equal_bytes_under_any_name(path, tmp_path, snapshot):
    other = tmp_path / "deep" / "another-name.pt"
    save_snapshot(other, load_snapshot(path))
    assert other.read_bytes() == path.read_bytes()
    # Texts that are equal but not the same object, and tensors of another layout.
    network = snapshot.networks["G"]
    state = {
        "".join(name): t.t().contiguous().t() if t.ndim == 2 else t
        for name, t in network.state.items()
    }
    rebuilt = replace(snapshot, networks={**snapshot.networks, "G": replace(network, state=state)})
    save_snapshot(other, rebuilt)
    assert other.read_bytes() == path.read_bytes()


def test_torch_reads_it_as_weights_only(path, snapshot):
    content = torch.load(path, weights_only=True)
    assert content["format"] == "biface-snapshot"
    assert content["version"] == 1
    assert content["progress"] == {"nimg": 12345}
    assert content["networks"]["D_NIR"]["kind"] == "discriminator"
    assert content["networks"]["G"]["config"]["heads"] == {"rgb": 3, "nir": 1}
    weight = content["networks"]["G"]["state"]["mapping.w_avg"]
    assert torch.equal(weight, snapshot.networks["G"].state["mapping.w_avg"])


def test_networks_are_built_ready_to_use(path, snapshot):
    loaded = load_snapshot(path)
    before = torch.random.get_rng_state()
    generator = build_generator(loaded)
    discriminator = restore(loaded.networks["D_NIR"])
    assert torch.equal(torch.random.get_rng_state(), before)
    for network, name in ((generator, "G_ema"), (discriminator, "D_NIR")):
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())
        assert network.config == snapshot.networks[name].config
    images = generator(torch.zeros(2, 3), torch.ones(2, 2), noise_mode="const")
    assert images["rgb"].shape == (2, 3, 8, 8)
    assert discriminator(images["nir"]).shape == (2, 1)


def test_built_networks_do_not_share_memory_with_the_snapshot(snapshot):
    generator = build_generator(snapshot)
    generator.mapping.w_avg.add_(1)
    assert not torch.equal(
        generator.mapping.w_avg, snapshot.networks["G_ema"].state["mapping.w_avg"]
    )


def test_fp32_switches_16_bits_off(snapshot):
    assert build_generator(snapshot).config.num_fp16_res == 1
    assert build_generator(snapshot, fp32=True).config.num_fp16_res == 0


@pytest.mark.parametrize("name", ["D_NIR", "X"])
def test_unknown_generator_is_named(snapshot, name):
    with pytest.raises(ValueError, match=rf"no generator '{name}'; it has G, G_ema"):
        build_generator(snapshot, name)


@pytest.mark.parametrize(
    ("options", "scale", "new"),
    [
        ({"data": {"feature_scale": 2.5}}, 2.5, 2.5),
        ({"data": {"feature_scale": None}}, None, 6.0),  # as they are; new ones: their mean
        ({}, 4.0, 4.0),  # published: what published generation uses
    ],
)
def test_the_length_of_conditions(options, scale, new):
    snapshot = Snapshot(networks={}, options=options)
    assert snapshot.feature_scale == scale
    assert snapshot.new_feature_scale(np.array([[3.0, 4.0], [0.0, 7.0]])) == new
    if scale is None:
        with pytest.raises(ValueError, match="--feature-scale"):
            snapshot.new_feature_scale(None)


@pytest.mark.parametrize(
    ("origin", "options", "weights"),
    [
        ("pytorch", {}, "published"),
        ("biface", {"resume": "ab12"}, "ab12, whose licence"),
        ("biface", {"resume": None, "data": {"name": "faces"}}, "from scratch"),
    ],
)
def test_a_card_is_told_whose_licence_holds(snapshot, origin, options, weights):
    told = replace(snapshot, origin=origin, options=options).describe_origin(Path("a/b.pkl"))
    assert weights in told["weights"]
    assert told["snapshot"] == "b.pkl"
    assert told["training_set"] == options.get("data", {}).get("name")


def test_a_generator_is_loaded_by_name(path, snapshot, tmp_path):
    generator, loaded = load_generator(path, use_raw_g=True, fp32=True)
    assert generator.config.num_fp16_res == 0
    assert not generator.training
    assert loaded.nimg == snapshot.nimg
    save_snapshot(tmp_path / "none.pkl", Snapshot(networks={}))
    with pytest.raises(ValueError, match=r"none\.pkl: .* no generator 'G_ema'"):
        load_generator(tmp_path / "none.pkl")


# What is refused


def test_missing_file(tmp_path):
    for path in (tmp_path / "absent.pkl", tmp_path):
        with pytest.raises(FileNotFoundError, match=str(path)):
            load_snapshot(path)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.99])
def test_cut_file(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=rf"{path.name}.*cut short"):
        load_snapshot(path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"just some text\n", "starts with b'ju'"),
        (b"\x89PNG\r\n", "starts with"),
        (b"\x80\x04cposix\nsystem\n.", r"posix\.system"),
        (pickle.dumps({"a": 1}), "without G, D"),
    ],
)
def test_other_files(path, data, reason):
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"{path.name}.*{reason}"):
        load_snapshot(path)


def change(path, edit):
    content = torch.load(path, weights_only=True)
    edit(content)
    torch.save(content, path)


EDITS = {
    "format": (lambda c: c.update(format="other"), "format is not 'biface-snapshot'"),
    "version": (lambda c: c.update(version=2), "version 2 is not known"),
    "missing key": (lambda c: c.pop("options"), "has the keys"),
    "unknown key": (lambda c: c.update(extra=1), "has the keys"),
    "options": (lambda c: c.update(options=[1]), "options must be an object"),
    "networks": (lambda c: c.update(networks=None), "networks must be an object"),
    "network": (lambda c: c["networks"].update(G=1), "G: a network has kind"),
    "kind": (lambda c: c["networks"]["G"].update(kind="evil"), "kind must be"),
    "kind swapped": (lambda c: c["networks"]["G"].update(kind="discriminator"), "unknown key"),
    "nimg": (lambda c: c.update(progress={"nimg": -1}), "nimg"),
    "nimg missing": (lambda c: c.update(progress={}), "nimg"),
    "strength": (lambda c: c.update(augment={"rgb": 1.5}), "rgb must be from 0 to 1"),
    "strength kind": (lambda c: c.update(augment={"rgb": "much"}), "rgb must be from 0 to 1"),
    "config kind": (lambda c: c["networks"]["G"].update(config=[]), "G.*expected an object"),
    "no tensor": (
        lambda c: c["networks"]["G"]["state"].update({"mapping.w_avg": 1}),
        "w_avg must be a tensor",
    ),
    "shape": (
        lambda c: c["networks"]["G"]["state"].update({"mapping.w_avg": torch.ones(9)}),
        r"w_avg must have shape \[4\]",
    ),
    "missing tensor": (
        lambda c: c["networks"]["G"]["state"].pop("mapping.w_avg"),
        r"lacks tensors: mapping\.w_avg",
    ),
    "unknown tensor": (
        lambda c: c["networks"]["G"]["state"].update(evil=torch.ones(1)),
        "unknown tensors: evil",
    ),
}
CONFIG_EDITS = [
    ("resolution", 2**30, "resolution must be a power of two"),
    ("z_dim", 2**40, "z_dim must be from"),
    ("channel_max", "8", "channel_max must be int"),
    ("w_dim", None, "w_dim must be int"),
    ("unknown_option", 1, "unknown key 'unknown_option'"),
    ("architecture", "evil", "architecture must be one of"),
    ("mapping", {"layers": 10**9}, "layers must be from"),
    ("heads", {"rgb": "3"}, "heads: rgb must be int"),
    ("heads", {f"head{n}": 1 for n in range(1000)}, "heads must name 1 to 16"),
    ("heads", {"keys": 3}, "heads must have plain names, got 'keys'"),  # a method of ModuleDict
    ("heads", {"x" * 400: 3}, "heads must have plain names, got 'xxx"),
    ("conv_clamp", 2**2000, "conv_clamp must be float, got 1148"),
    ("conv_clamp", [1] * 10**4, r"conv_clamp must be float, got \[1, 1"),
    ("resample_filter", ["a", "b"], "resample_filter must be float"),
    ("resample_filter", [1.0] * 10**4, "an even number of taps up to 32, got 10000"),
]


@pytest.mark.parametrize("name", EDITS)
def test_contradictions_are_named(path, name):
    edit, reason = EDITS[name]
    change(path, edit)
    with pytest.raises(ValueError, match=rf"{path.name}.*{reason}"):
        load_snapshot(path)


@pytest.mark.parametrize(("name", "value", "reason"), CONFIG_EDITS)
def test_hostile_configurations_are_refused(path, name, value, reason):
    change(path, lambda content: content["networks"]["G"]["config"].update({name: value}))
    with pytest.raises(ValueError, match=rf"{path.name}: G.*{reason}") as error:
        load_snapshot(path)
    assert len(str(error.value)) < 1000


def test_half_precision_tensors_are_widened(path):
    def halve(content):
        state = content["networks"]["G"]["state"]
        state.update({name: tensor.half() for name, tensor in state.items()})

    change(path, halve)
    state = load_snapshot(path).networks["G"].state
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


def test_capture_copies():
    network = Discriminator(DiscriminatorConfig(**SMALL))
    state = capture(network)
    assert state.kind == "discriminator"
    with torch.no_grad():
        network.epilogue.out.bias.add_(1)
    assert not torch.equal(state.state["epilogue.out.bias"], network.epilogue.out.bias)
