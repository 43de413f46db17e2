"""Snapshots that are well-formed as files and whose content attacks the reader of networks."""

import random
import tracemalloc

import numpy as np
import pytest
import torch

from networks.snapshot import (
    Snapshot,
    as_content,
    capture,
    load_snapshot,
    read_content,
    save_snapshot,
)
from tests.helpers import published
from tests.helpers.networks import (
    random_network,
    small_discriminator_config,
    small_generator_config,
)
from torch_utils.checkpoints import save_checkpoint
from torch_utils.safe_pickle import PersistentObject, TensorflowNetwork, load_pickle

SINGLE = small_generator_config(heads={"rgb": 3})


@pytest.fixture(scope="module", autouse=True)
def _warm():
    """PyTorch imports more of itself on the first use; that memory is not the file's."""
    capture(random_network(SINGLE))


def refuse(path, message):
    """Expect one short line with the file's name, and little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message) as error:
            load_snapshot(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert path.name in str(error.value)
    assert len(str(error.value)) < 1000
    assert peak < 4 * path.stat().st_size + 20_000_000


def write_pickle(tmp_path, content):
    path = tmp_path / "network.pkl"
    path.write_bytes(published.dumps(content))
    return path


def tensorflow(tmp_path, change):
    """Write a TensorFlow snapshot after change(generator)."""
    generator = published.tensorflow_generator(random_network(SINGLE))
    discriminator = published.tensorflow_discriminator(
        random_network(small_discriminator_config(mapping=SINGLE.mapping))
    )
    change(generator)
    return write_pickle(tmp_path, (generator, discriminator, generator))


# The TensorFlow form


def synthesis(network):
    return network.components["synthesis"].variables


def share_one_array(network):
    big = np.zeros((3, 3, 100, 100), np.float64)
    for number in range(500):
        synthesis(network).append((f"{number}x{number}/Conv1/weight", big))


def share_shapes(network):
    """All noise images are views of one array, whose numbers the file has once."""
    noise = dict(synthesis(network))["noise4"]
    names = [name for name, value in synthesis(network) if np.shape(value) == noise.shape]
    synthesis(network)[:] = [
        (name, noise if name in names else value) for name, value in synthesis(network)
    ]
    assert len(names) == 2


TENSORFLOW = {
    "endless names": (share_one_array, "variables share their numbers"),
    "shared arrays": (share_shapes, "variables share their numbers"),
    "large numbers": (
        lambda network: network.variables.append(("dlatent_avg", 2**2000)),
        "a variable that is not a name with numbers",
    ),
    "infinite numbers": (
        lambda network: synthesis(network).append(("4x4/Conv/noise_strength", 1e300)),
        "a variable that is not a name with numbers",
    ),
    "number for an array": (
        lambda network: network.variables.append(("dlatent_avg", 0.5)),
        r"mapping.w_avg must have shape \[12\], got \[\]",
    ),
    "array without axes": (
        lambda network: synthesis(network).append(("noise0", np.float32(1))),
        r"noise_const must have shape \[4, 4\], got \[\]",
    ),
    "array without entries": (
        lambda network: synthesis(network).append(("noise0", np.zeros((0, 1, 4, 4), np.float32))),
        "multiarray._reconstruct in a way that no library writes",
    ),
    "array of another size": (
        lambda network: network.variables.append(("dlatent_avg", np.zeros(10**6, np.float32))),
        r"mapping.w_avg must have shape \[12\], got \[1000000\]",
    ),
    "layer of another resolution": (
        lambda network: synthesis(network).append(("64x64/Conv1/bias", np.zeros(3, np.float32))),
        "unknown tensors: synthesis.blocks.b64.conv1.bias",
    ),
    "huge resolution": (
        lambda network: network.static_kwargs.update(resolution=2**40),
        "resolution must be a power of two",
    ),
    "long value": (
        lambda network: network.static_kwargs.update(architecture="x" * 10**6),
        "architecture must be one of",
    ),
    "long key": (
        lambda network: network.static_kwargs.update({"x" * 10**5: 1}),
        "a key is a str of 100000 characters",
    ),
    "components without end": (
        lambda network: network.components.update(mapping=network),
        "contains itself",
    ),
}


@pytest.mark.parametrize("name", TENSORFLOW)
def test_hostile_tensorflow_snapshots(tmp_path, name):
    change, message = TENSORFLOW[name]
    refuse(tensorflow(tmp_path, change), message)


# The PyTorch form


def pytorch(tmp_path, change):
    tree = published.generator_tree(random_network(small_generator_config()))
    change(tree)
    return write_pickle(tmp_path, {"G_ema": tree})


def block(tree, name="b16"):
    return tree.state["_modules"]["synthesis"].state["_modules"][name]


def share_storage(tree):
    big = torch.zeros(10**5)
    for layer in block(tree).state["_modules"].values():
        for name, tensor in layer.state["_parameters"].items():
            view = big[: tensor.numel()].reshape(tensor.shape)
            layer.state["_parameters"][name] = torch.nn.Parameter(view, requires_grad=False)
    tree.state["_modules"]["mapping"].state["_modules"]["fc0"].state["_parameters"]["weight"] = big


def nest(tree):
    """A module inside itself a few times, with long names, that unfolds to many tensors."""
    inner = block(tree).state["_modules"]["conv0"]
    for _ in range(12):
        names = [letter * 400 for letter in "ab"]
        inner = published.module("SynthesisLayer", modules=dict.fromkeys(names, inner))
    block(tree).state["_modules"]["conv0"] = inner


PYTORCH = {
    "tensors of one storage": (share_storage, "must have shape"),
    "long names that unfold": (nest, "nested deeper than networks are"),
    "million layers": (
        lambda tree: tree.state["_modules"]["mapping"].state.update(num_layers=10**6),
        "layers must be from 0 to 64",
    ),
    "huge width": (
        lambda tree: tree.state["_modules"]["mapping"].state["_init_kwargs"].update(
            embed_features=2**62
        ),
        "embed_features must be from 0 to 16384",
    ),
    "huge resolution": (
        lambda tree: tree.state.update(img_resolution=2**40),
        "are over 4096",
    ),
    "number that no float holds": (
        lambda tree: tree.state["_modules"]["mapping"].state["_init_kwargs"].update(
            lr_multiplier=2**2000
        ),
        "lr_multiplier must be float, got 1148",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PYTORCH)
def test_hostile_pytorch_snapshots(tmp_path, name):
    change, message = PYTORCH[name]
    refuse(pytorch(tmp_path, change), message)


def test_one_storage_for_all_tensors_of_equal_shape_is_refused(tmp_path):
    tree = published.generator_tree(random_network(small_generator_config()))
    layers = tree.state["_modules"]["mapping"].state["_modules"]
    bias = layers["fc0"].state["_parameters"]["bias"]
    layers["fc1"].state["_parameters"]["bias"] = bias
    refuse(write_pickle(tmp_path, {"G": tree}), "G: tensors share their numbers")


# Our form


@pytest.fixture(scope="module")
def ours():
    generator = capture(random_network(small_generator_config(c_dim=2)))
    discriminator = capture(random_network(small_discriminator_config()))
    return as_content(Snapshot(networks={"G_ema": generator, "D": discriminator}))


def share_biases(content):
    network = content["networks"]["D"]
    shared = {"epilogue.conv.bias": network["state"]["epilogue.fc.bias"]}
    return {**content, "networks": {"D": {**network, "state": {**network["state"], **shared}}}}


OURS = {
    "many networks": (
        lambda c: {**c, "networks": {str(n): c["networks"]["D"] for n in range(1000)}},
        "at most 16 networks are read, got 1000",
    ),
    "tensors of one storage": (share_biases, "D: tensors share their numbers"),
    "version that is a tensor": (
        lambda c: {**c, "version": torch.zeros(2)},
        "snapshot version tensor.* is not known",
    ),
}


@pytest.mark.parametrize("name", OURS)
def test_hostile_snapshots_of_our_form(ours, tmp_path, name):
    change, message = OURS[name]
    save_checkpoint(tmp_path / "network.pkl", change(ours))
    refuse(tmp_path / "network.pkl", message)


# Any change of any value


NASTY = (
    None, True, -1, 2**2000, -(2**2000), 2**31, 10**6, 4096, 1.5, float("nan"), float("inf"),
    -1e308, "", "x" * 10**5, b"x", (), [], [1] * 1000, ["y" * 3000] * 5, {}, {"keys": 1},
    {"training": 3}, set(), np.zeros((0,)), np.array(5), torch.zeros(()), torch.zeros(0, 3),
    torch.zeros(5),
)  # fmt: skip


def parts(value):
    """Return the entries of a container as a dict, and what makes one of such a dict again."""
    if isinstance(value, PersistentObject):
        return value.state, lambda state: PersistentObject(value.class_name, state)
    if isinstance(value, TensorflowNetwork):
        return value.state, TensorflowNetwork
    if isinstance(value, dict):
        return value, dict
    if isinstance(value, list | tuple):
        return dict(enumerate(value)), lambda entries: type(value)(entries.values())
    return {}, None


def mutated(value, rng):
    """Return a copy in which one value at any depth is another one or absent."""
    entries, make = parts(value)
    if not entries or rng.random() < 0.05:
        return rng.choice(NASTY)
    key = rng.choice(list(entries))
    changed = {**entries, key: mutated(entries[key], rng)}
    if rng.random() < 0.03:
        del changed[key]
    return make(changed)


def test_damaged_content_never_raises_anything_else(tmp_path, ours, monkeypatch):
    contents = [ours]
    for make in (pytorch, tensorflow):
        contents.append(load_pickle(make(tmp_path, lambda _: None)))
    rng = random.Random(0)  # noqa: S311  # no secret
    messages = []
    for number in range(240):
        content = mutated(contents[number % 3], rng)
        path = tmp_path / "network.pkl"
        form = "load_archive" if number % 3 == 0 else "load_pickle"
        path.write_bytes(b"PK" if number % 3 == 0 else b"\x80")
        with monkeypatch.context() as patch:
            patch.setattr(f"torch_utils.safe_pickle.{form}", lambda _, found=content: found)
            try:
                load_snapshot(path)
            except ValueError as error:
                messages.append(str(error))
    assert len(messages) > 60
    assert all("network.pkl" in message for message in messages)
    assert max(len(message) for message in messages) < 2000


def test_what_is_whole_is_read(tmp_path, ours):
    for make in (pytorch, tensorflow):
        assert load_snapshot(make(tmp_path, lambda _: None)).networks
    save_snapshot(tmp_path / "again.pkl", read_content(ours, "ours"))
    assert list(load_snapshot(tmp_path / "again.pkl").networks) == ["G_ema", "D"]
