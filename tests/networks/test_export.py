"""Other forms of a snapshot: safetensors there and back, and ONNX that draws the same images."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from networks import export
from networks.config import Architecture
from networks.export import load_safetensors, prepare_conversion, save_safetensors
from networks.options import GenerationOptions, NoiseMode
from networks.snapshot import Snapshot, build_generator, capture, load_snapshot, save_snapshot
from tests.helpers.networks import (
    random_network,
    small_discriminator_config,
    small_generator_config,
)


@pytest.fixture(scope="module")
def snapshot():
    networks = {
        "G": random_network(small_generator_config(c_dim=3), 0),
        "G_ema": random_network(small_generator_config(c_dim=3), 1),
        "D": random_network(small_discriminator_config(c_dim=3, conv_clamp=256.0), 2),
        "D_NIR": random_network(small_discriminator_config(channels=1), 3),
    }
    return Snapshot(
        networks={name: capture(network) for name, network in networks.items()},
        augment={"rgb": 0.1, "nir": 1 / 3},
        options={"batch": 4, "resume": None, "list": [1, 0.1]},
        nimg=7000,
    )


@pytest.fixture
def ours(snapshot, tmp_path):
    save_snapshot(tmp_path / "ours.pkl", snapshot)
    return tmp_path / "ours.pkl"


def call(network, target, **changes):
    options = GenerationOptions(network=network, convert_to=target, **changes)
    return prepare_conversion(options, target).run(None)


# Safetensors


def test_safetensors_and_back_gives_the_same_bytes(ours, tmp_path):
    pytest.importorskip("safetensors", reason="safetensors is an optional package")
    call(ours, tmp_path / "net.safetensors")
    call(tmp_path / "net.safetensors", tmp_path / "again.pkl")
    assert (tmp_path / "again.pkl").read_bytes() == ours.read_bytes()


def test_other_programs_read_the_tensors(snapshot, tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy", reason="an optional package")
    save_safetensors(tmp_path / "net.safetensors", snapshot)
    arrays = safetensors.load_file(tmp_path / "net.safetensors")
    expected = {
        f"{name}.{key}": tensor
        for name, network in snapshot.networks.items()
        for key, tensor in network.state.items()
    }
    assert arrays.keys() == expected.keys()
    assert all(np.array_equal(arrays[key], expected[key].numpy()) for key in arrays)
    config = json.loads((tmp_path / "net.json").read_text())["networks"]["G"]["config"]
    assert config["heads"] == {"rgb": 3, "nir": 1}


def unlink_json(place):
    (place / "net.json").unlink()
    return "net.json: no such file"


def unlink_tensors(place):
    (place / "net.safetensors").unlink()
    return "net.safetensors: no such snapshot"


def cut_json(place):
    (place / "net.json").write_text('{"format":')
    return "net.json: not valid JSON"


def no_networks(place):
    (place / "net.json").write_text('{"networks": [1]}')
    return "net.json: not what was written beside safetensors"


def other_tensors(place):
    path = place / "net.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    return "net.safetensors and net.json do not belong together"


def rewrite(place, change):
    """Change the content of the JSON file, whose checksum is made to fit."""
    content = json.loads((place / "net.json").read_text())
    change(content)
    content["sha256"] = export.files.sha256_file(place / "net.safetensors")
    (place / "net.json").write_text(json.dumps(content))


def no_safetensors(place):
    (place / "net.safetensors").write_bytes(b"\xff" * 100)
    rewrite(place, lambda _: None)
    return "net.safetensors: not a safetensors file"


def network_missing(place):
    rewrite(place, lambda content: content["networks"].pop("D"))
    return "net.safetensors: D.* is of no network in net.json"


def other_config(place):
    rewrite(place, lambda content: content["networks"]["G"]["config"].update(w_dim=13))
    return "net.safetensors: G: .* must have shape"


def other_format(place):
    rewrite(place, lambda content: content.update(format="x"))
    return "net.safetensors: not a snapshot"


@pytest.mark.parametrize(
    "spoil",
    [
        unlink_json,
        unlink_tensors,
        cut_json,
        no_networks,
        other_tensors,
        no_safetensors,
        network_missing,
        other_config,
        other_format,
    ],
)
def test_safetensors_that_are_no_pair_are_named(snapshot, tmp_path, spoil):
    pytest.importorskip("safetensors", reason="safetensors is an optional package")
    save_safetensors(tmp_path / "net.safetensors", snapshot)
    message = spoil(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_safetensors(tmp_path / "net.safetensors")


# ONNX


def run_onnx(path, **inputs):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is an optional package")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_outputs()]
    assert [entry.name for entry in session.get_inputs()] == list(inputs)
    values = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    return dict(zip(names, map(torch.from_numpy, values), strict=True))


def assert_draws_the_same(path, generator, counts, **options):
    random = torch.Generator().manual_seed(0)
    config = generator.config
    for count in counts:
        inputs = {"z": torch.randn(count, config.z_dim, generator=random)}
        if config.c_dim:
            inputs["c"] = torch.randn(count, config.c_dim, generator=random)
        drawn, expected = run_onnx(path, **inputs), generator(**inputs, **options)
        assert list(drawn) == list(config.heads)
        for name, image in expected.items():
            torch.testing.assert_close(drawn[name], image, rtol=1e-4, atol=1e-4)


def test_onnx_draws_the_same_images(tmp_path):
    pytest.importorskip("onnxscript", reason="onnx and onnxscript are optional packages")
    network = random_network(small_generator_config(c_dim=3, resolution=8), 1)
    save_snapshot(tmp_path / "a.pkl", Snapshot(networks={"G": capture(network)}))
    settings = {"truncation": 0.7, "truncation_cutoff": 3, "use_raw_g": True}
    call(tmp_path / "a.pkl", tmp_path / "net.onnx", **settings)
    generator = build_generator(load_snapshot(tmp_path / "a.pkl"), "G")
    options = {"truncation_psi": 0.7, "truncation_cutoff": 3, "noise_mode": "const"}
    assert_draws_the_same(tmp_path / "net.onnx", generator, (1, 2, 5), **options)


def test_onnx_of_an_unconditional_single_branch_generator(tmp_path):
    pytest.importorskip("onnxscript", reason="onnx and onnxscript are optional packages")
    config = small_generator_config(
        heads={"rgb": 3}, architecture=Architecture.RESNET, num_fp16_res=2, resolution=8
    )
    network = random_network(config, 1).eval().requires_grad_(False)
    save_snapshot(tmp_path / "a.pkl", Snapshot(networks={"G_ema": capture(network)}))
    call(tmp_path / "a.pkl", tmp_path / "a.onnx", noise_mode=NoiseMode.NONE)
    assert_draws_the_same(tmp_path / "a.onnx", network, (3,), noise_mode="none")


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "x.onx"}, "--convert-to x.onx: the name must end in one of .pkl, .pt, .saf"),
        ({"target": "x"}, "--convert-to x: the name must end"),
        ({"noise_mode": NoiseMode.RANDOM}, "--noise-mode=random cannot be exported"),
    ],
)
def test_options_that_cannot_be(ours, changes, message):
    with pytest.raises(ValueError, match=message):
        call(ours, Path(changes.pop("target", "x.onnx")), **changes)


@pytest.mark.parametrize(
    ("name", "package"), [("x.onnx", "onnx and onnxscript"), ("x.safetensors", "safetensors")]
)
def test_missing_packages_are_named(ours, monkeypatch, name, package):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    message = f"needs {package}: pip install -r requirements-extras.txt"
    with pytest.raises(ValueError, match=message):
        call(ours, ours.with_name(name))
    with pytest.raises(ValueError, match="pip install"):
        load_safetensors(ours.with_name("x.safetensors"))


def test_dry_run_writes_nothing(ours, tmp_path):
    before = sorted(tmp_path.iterdir())
    for name in ("a.pkl", "a.safetensors", "a.onnx"):
        if importlib.util.find_spec("onnx") or name == "a.pkl":
            options = GenerationOptions(network=ours, convert_to=tmp_path / name)
            content = prepare_conversion(options, tmp_path / name).describe()
            assert content["networks"] == ["G", "G_ema", "D", "D_NIR"]
    assert sorted(tmp_path.iterdir()) == before


def test_a_network_that_is_not_there_is_named(ours, snapshot, tmp_path):
    pytest.importorskip("onnxscript", reason="onnx and onnxscript are optional packages")
    only_d = replace(snapshot, networks={"D": snapshot.networks["D"]})
    save_snapshot(tmp_path / "d.pkl", only_d)
    with pytest.raises(ValueError, match="the snapshot has no generator 'G_ema'; it has none"):
        call(tmp_path / "d.pkl", tmp_path / "x.onnx")
