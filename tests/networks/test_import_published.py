"""Published forms: our networks, written as others write them, come back as they were."""

import numpy as np
import pytest
import torch

from networks.config import (
    Architecture,
    DiscriminatorConfig,
    GeneratorConfig,
    MappingConfig,
)
from networks.discriminator import Discriminator
from networks.generator import Generator
from networks.snapshot import build_generator, load_snapshot, restore
from tests.helpers import published as forms
from tests.helpers.golden import SHARED, assert_golden, read_shared

SMALL = {"resolution": 16, "channel_base": 64, "channel_max": 8}
SMALL_G = {**SMALL, "z_dim": 6, "w_dim": 5}
GENERATORS = {
    "dual": {"conv_clamp": 256.0, "mapping": MappingConfig(layers=2)},
    "single": {"heads": {"rgb": 3}, "mapping": MappingConfig(layers=8, w_avg_beta=0.998)},
    "conditional": {
        "c_dim": 4,
        "mapping": MappingConfig(layers=3, embed_features=7, layer_features=9, lr_multiplier=0.1),
    },
    "half precision": {"num_fp16_res": 2, "conv_clamp": 256.0},
    "without noise": {"use_noise": False, "activation": "relu"},
    "orig": {"architecture": "orig", "resample_filter": (1.0, 1.0)},
    "resnet": {"architecture": "resnet"},
}
DISCRIMINATORS = {
    "resnet": {"conv_clamp": 256.0, "mbstd_group_size": 2},
    "nir": {"channels": 1, "mbstd_group_size": None},
    "conditional": {"c_dim": 4, "cmap_dim": 5, "mapping": MappingConfig(layers=2)},
    "orig": {"architecture": "orig", "mbstd_num_channels": 0, "mbstd_group_size": None},
    "skip": {"architecture": "skip", "num_fp16_res": 1},
}


@pytest.fixture
def load(tmp_path):
    """Return a function that pickles published content and loads it as a snapshot."""

    def load_content(content, protocol=4):
        path = tmp_path / "published.pkl"
        path.write_bytes(forms.dumps(content, protocol))
        return load_snapshot(path)

    return load_content


def random_network(kind, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = kind(_config(kind, options))
        with torch.no_grad():
            for tensor in network.state_dict().values():
                tensor.copy_(torch.randn(tensor.shape))
    return network.eval().requires_grad_(False)


def _config(kind, options):
    if "architecture" in options:
        options = {**options, "architecture": Architecture(options["architecture"])}
    if kind is Generator:
        return GeneratorConfig(**SMALL_G, **options)
    return DiscriminatorConfig(**SMALL, **options)


def assert_same(network, original, atol=0.0):
    assert network.config == original.config
    assert network.state_dict().keys() == original.state_dict().keys()
    for name, tensor in original.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], tensor, rtol=0, atol=atol)


@pytest.mark.parametrize("name", GENERATORS)
def test_generators_come_back(load, name):
    original = random_network(Generator, **GENERATORS[name])
    snapshot = load({"G_ema": forms.generator_tree(original), "training_set_kwargs": None})
    assert snapshot.origin == "pytorch"
    assert list(snapshot.networks) == ["G_ema"]
    assert_same(build_generator(snapshot), original)


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminators_come_back(load, name):
    original = random_network(Discriminator, **DISCRIMINATORS[name])
    snapshot = load({"D": forms.discriminator_tree(original)})
    assert_same(restore(snapshot.networks["D"]), original)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_all_protocols(load, protocol):
    original = random_network(Generator)
    snapshot = load({"G_ema": forms.generator_tree(original)}, protocol)
    assert_same(build_generator(snapshot), original)


def test_dual_snapshot_with_all_parts(load):
    original = random_network(Generator)
    d_nir = random_network(Discriminator, channels=1)
    pipe = forms.module("AugmentPipe")
    pipe.state["_buffers"] = {"p": torch.tensor(0.25)}
    snapshot = load(
        {
            "training_set_kwargs": forms.EasyDict(path="x"),
            "G": forms.generator_tree(original),
            "D": forms.discriminator_tree(random_network(Discriminator)),
            "D_NIR": forms.discriminator_tree(d_nir),
            "G_ema": forms.generator_tree(original),
            "augment_pipe": pipe,
        }
    )
    assert set(snapshot.networks) == {"G", "D", "D_NIR", "G_ema"}
    assert snapshot.augment == {"rgb": 0.25, "nir": 0.25}
    assert_same(restore(snapshot.networks["D_NIR"]), d_nir)


@pytest.mark.parametrize("protocol", [2, 4])
def test_tensorflow_form(load, protocol):
    options = {"heads": {"rgb": 3}, "c_dim": 4}
    original = random_network(Generator, **options)
    critic = random_network(
        Discriminator, mapping=MappingConfig(layers=0, lr_multiplier=0.1), mbstd_group_size=2
    )
    parts = forms.tensorflow_generator(original), forms.tensorflow_discriminator(critic)
    snapshot = load((parts[0], parts[1], parts[0]), protocol)
    assert snapshot.origin == "tensorflow"
    # One is added to modulation biases, which rounds.
    assert_same(build_generator(snapshot, "G"), original, atol=1e-6)
    assert_same(build_generator(snapshot, "G_ema"), original, atol=1e-6)
    assert_same(restore(snapshot.networks["D"]), critic)


# What is refused


def dual_tree():
    return forms.generator_tree(random_network(Generator))


def modules(tree, name):
    return tree.state["_modules"][name].state["_modules"]


def buffers(tree):
    return tree.state["_modules"]["mapping"].state["_buffers"]


def make_alias_free(tree):
    modules(tree, "synthesis").clear()
    modules(tree, "synthesis")["input"] = forms.module("SynthesisInput")


SPOILT = {
    "alias-free": (make_alias_free, "alias-free StyleGAN3"),
    "unknown class": (
        lambda tree: setattr(tree, "class_name", "TriPlaneGenerator"),
        "'TriPlaneGenerator'",
    ),
    "unknown class inside": (
        lambda tree: setattr(modules(tree, "mapping")["fc0"], "class_name", "Surprise"),
        r"mapping\.fc0.*'Surprise'",
    ),
    "part of a network": (
        lambda tree: setattr(tree, "class_name", "MappingNetwork"),
        "is a MappingNetwork, not a generator",
    ),
    "missing tensor": (lambda tree: buffers(tree).pop("w_avg"), r"lacks tensors: mapping\.w_avg"),
    "unknown tensor": (
        lambda tree: buffers(tree).update(extra=torch.ones(2)),
        r"has unknown tensors: mapping\.extra",
    ),
    "other shape": (
        lambda tree: buffers(tree).update(w_avg=torch.ones(3)),
        r"mapping\.w_avg must have shape \[5\].*got \[3\]",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_no_whole_generator_is_refused_by_name(load, name):
    spoil, message = SPOILT[name]
    tree = dual_tree()
    spoil(tree)
    with pytest.raises(ValueError, match=rf"published\.pkl: G_ema.*{message}"):
        load({"G_ema": tree})


@pytest.mark.parametrize("content", [{}, {"G_ema": None}, {"weights": 1}])
def test_pickle_without_networks_is_refused(load, content):
    with pytest.raises(ValueError, match=r"published\.pkl.*without G, D"):
        load(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [([1, 2], "a list"), (1, "an? int"), ({"G_ema": [1]}, "G_ema is a list"), ((1, 2), "2 values")],
)
def test_other_content_is_refused(load, content, reason):
    with pytest.raises(ValueError, match=rf"published\.pkl.*{reason}"):
        load(content)


def tensorflow_content():
    network = forms.tensorflow_generator(random_network(Generator, heads={"rgb": 3}))
    critic = forms.tensorflow_discriminator(
        random_network(Discriminator, mapping=MappingConfig(layers=0, lr_multiplier=0.1))
    )
    return network, critic, network


EVIL = ("99x99/Evil/weight", np.ones(2, np.float32))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda g, _: setattr(g, "version", 3), "G.*StyleGAN1"),
        (lambda g, _: g.static_kwargs.update(use_wscale=1), "G has the option 'use_wscale'"),
        (lambda _, d: d.variables.append(EVIL), "D.*'99x99/Evil/weight'"),
    ],
)
def test_other_tensorflow_networks_are_refused_by_name(load, spoil, message):
    content = tensorflow_content()
    spoil(*content[:2])
    with pytest.raises(ValueError, match=rf"published\.pkl: {message}"):
        load(content)


@pytest.mark.parametrize("variable", ["name", ("name",), (1, 2), ("name", "text"), ("name", [1])])
def test_malformed_tensorflow_variable_is_refused(load, variable):
    content = tensorflow_content()
    content[1].variables.append(variable)
    with pytest.raises(ValueError, match=r"published\.pkl: D has a variable"):
        load(content)


def test_orig_architecture_is_known_by_its_layer_names(load):
    generator = random_network(Generator, heads={"rgb": 3}, architecture="orig")
    network = forms.tensorflow_generator(generator)
    variables = network.components["synthesis"].variables
    network.components["synthesis"].variables = [
        (name.replace("16x16/ToRGB", "ToRGB_lod0"), value) for name, value in variables
    ]
    restored = build_generator(load((network, tensorflow_content()[1], network)))
    assert_same(restored, generator, atol=1e-6)


# The five published forms themselves


@pytest.mark.parametrize(
    ("snapshot", "numbers"),
    [
        ("dual", "dual"),
        ("dual_cond", "dual_cond"),
        ("single", "single"),
        ("sg3", "sg3"),
        ("tf", "single"),
    ],
)
def test_golden_snapshots(snapshot, numbers):
    golden = read_shared(f"networks_{numbers}_32")
    loaded = load_snapshot(SHARED / f"snapshot_{snapshot}_32.pkl")
    generator = build_generator(loaded, fp32=True)
    c = torch.from_numpy(golden["c"]) if generator.config.c_dim else None
    with torch.no_grad():
        ws = generator.map(torch.from_numpy(golden["z"]), c, 0.5, 4)
        images = generator.synthesis(ws, "const")
    names = {"rgb": ("img", "D"), "nir": ("nir", "D_NIR")}
    assert set(images) == {name for name in names if names[name][0] in golden}
    for name, image in images.items():
        key, critic = names[name]
        assert_golden(image, golden[key])
        discriminator = restore(loaded.networks[critic])
        d_c = c if discriminator.config.c_dim else None
        with torch.no_grad():
            assert_golden(discriminator(image, d_c), golden[f"d_{key}"])
