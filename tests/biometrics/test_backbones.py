"""Backbones: golden embeddings, shapes read from weights, files."""

import json
import zlib

import numpy as np
import pytest
import torch
from torch import nn

from biometrics.backbones import (
    backbone_of,
    build_backbone,
    config_of_state,
    named_backbone,
    state_of,
)
from biometrics.recognisers import load_recogniser
from tests.helpers.golden import assert_golden, read_shared, read_shared_json
from torch_utils.safe_pickle import load_archive

GOLDEN = {"r18": "r18", "r50": "r50", "mbf": "mobilefacenet"}


def golden_values(name, shape, salt):
    """Return a tensor by the rule of ../shared/golden/README.md for backbones."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    seed = zlib.crc32(f"{salt}{name}".encode())
    values = torch.tensor(np.random.RandomState(seed).standard_normal(shape), dtype=torch.float32)
    if name.endswith("running_var"):
        return 1 + 0.1 * values.abs()
    if name.endswith(("bias", "running_mean")):
        return 0.1 * values
    if len(shape) >= 2:
        return values / np.prod(shape[1:]) ** 0.5
    return 1 + 0.1 * values


def randomised(backbone, seed=0):
    """Give every parameter and statistic another random value."""
    random = torch.Generator().manual_seed(seed)
    for tensor in [*backbone.parameters(), *backbone.buffers()]:
        if tensor.is_floating_point():
            tensor.data.copy_(torch.rand(tensor.shape, generator=random) * 0.2 + 0.05)
    return backbone


def tiny(name="r18", size=32, **changes):
    arguments = {"width": 0.125, "embedding": 16, "size": size, **changes}
    return named_backbone(name, **arguments)


@pytest.mark.parametrize("salt", GOLDEN)
def test_golden_embeddings(salt):
    arrays, facts = read_shared("backbones"), read_shared_json("backbones")
    config = named_backbone(GOLDEN[salt])
    backbone = build_backbone(config).eval()
    shapes = {name: list(tensor.shape) for name, tensor in backbone.state_dict().items()}
    assert shapes == facts["state_dict"][salt]
    backbone.load_state_dict(
        {name: golden_values(name, shape, f"{salt}.") for name, shape in shapes.items()}
    )
    noise = np.random.RandomState(facts["input_seed"]).standard_normal((2, 3, 112, 112))
    with torch.no_grad():
        actual = backbone(torch.tanh(torch.tensor(noise, dtype=torch.float32)))
    assert_golden(actual, arrays[salt])
    assert config_of_state(backbone.state_dict()) == config


@pytest.mark.parametrize(
    ("name", "blocks", "parameters"),
    [
        ("r34", (3, 4, 6, 3), None),
        ("r100", (3, 13, 30, 3), 65.16e6),
        ("r200", (6, 26, 60, 6), None),
    ],
)
def test_published_sizes(name, blocks, parameters):
    with torch.device("meta"):
        backbone = build_backbone(named_backbone(name))
    assert config_of_state(backbone.state_dict()).blocks == blocks
    if parameters is not None:  # reference-facts 1c.3
        count = sum(p.numel() for p in backbone.parameters())
        assert count == pytest.approx(parameters, rel=1e-4)


@pytest.mark.parametrize("name", ["r18", "r34", "mobilefacenet"])
@pytest.mark.parametrize("size", [16, 32, 64, 112, 128])
@pytest.mark.parametrize("channels", [1, 4])
def test_shape_is_read_from_weights(name, size, channels):
    config = tiny(name, size, in_channels=channels)
    backbone = build_backbone(config).eval()
    state = state_of(backbone, config)
    assert config_of_state(state) == config
    assert ("input_size" in state) == (size != 112)
    with torch.no_grad():
        assert backbone(torch.zeros(2, channels, size, size)).shape == (2, 16)


@pytest.mark.parametrize("name", ["resnet50", "iresnet50", "r50"])
def test_spellings(name):
    assert named_backbone(name).blocks == (3, 4, 14, 3)


def test_unknown_name():
    with pytest.raises(ValueError, match="backbone must be one of .*got 'r19'"):
        named_backbone("r19")
    with pytest.raises(ValueError, match="multiple of 16, at least 16, got 100"):
        named_backbone("r18", size=100)


@pytest.mark.parametrize("prefix", ["", "module.", "module.backbone."])
@pytest.mark.parametrize("key", [None, "state_dict"])
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_files(tmp_path, prefix, key, is_zip):
    config = tiny()
    original = randomised(build_backbone(config)).eval()
    state = {prefix + name: t for name, t in state_of(original, config).items()}
    file = tmp_path / "backbone.pth"
    content = {key: state} if key else state
    torch.save(content, file, _use_new_zipfile_serialization=is_zip)
    backbone, read = backbone_of(load_archive(file), file)
    images = torch.rand(2, 3, 32, 32)
    assert read == config
    assert not backbone.training
    with torch.no_grad():
        assert torch.equal(backbone(images), original(images))


@pytest.mark.parametrize(("name", "last"), [("r18", "fc"), ("mbf", "features.layers.2")])
def test_the_head_stays_in_float32_under_autocast(name, last):
    backbone, seen = build_backbone(tiny(name)).eval(), []
    layer = backbone.get_submodule(last)
    layer.register_forward_hook(lambda _layer, given, answer: seen.extend((*given, answer)))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings = backbone(torch.randn(2, 3, 32, 32))
    assert {tensor.dtype for tensor in (*seen, embeddings)} == {torch.float32}


def test_training_moves_all_but_the_last_scale():
    backbone = build_backbone(tiny(), dropout=0.4)
    backbone(torch.randn(4, 3, 32, 32)).square().sum().backward()
    without = [name for name, p in backbone.named_parameters() if p.grad is None]
    assert without == ["features.weight"]


class TestBadFiles:
    def refuse(self, path, match):
        with pytest.raises(ValueError, match=match) as error:
            load_recogniser(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)

    def save(self, tmp_path, content):
        torch.save(content, tmp_path / "x.pth")
        return tmp_path / "x.pth"

    def test_other_network(self, tmp_path):
        state = nn.Linear(2, 3).state_dict()
        self.refuse(self.save(tmp_path, state), "not the weights of an iresnet")

    def test_list(self, tmp_path):
        self.refuse(self.save(tmp_path, [1, 2]), "not the weights of an iresnet")

    def test_numbers(self, tmp_path):
        self.refuse(self.save(tmp_path, {"layer1.0.prelu.weight": 3}), "expected named tensors")

    def test_missing_entries(self, tmp_path):
        state = build_backbone(tiny()).state_dict()
        del state["layer2.0.bn1.weight"]
        self.refuse(self.save(tmp_path, state), "layer2.0.bn1.weight")
        del state["layer3.0.conv1.weight"]
        self.refuse(self.save(tmp_path, state), "no layer3.0.conv1.weight")

    def test_not_square(self, tmp_path):
        state = build_backbone(tiny()).state_dict()
        state["fc.weight"] = torch.zeros(16, 77)
        self.refuse(self.save(tmp_path, state), "77 inputs")

    def test_infinite(self, tmp_path):
        state = state_of(build_backbone(tiny()), tiny())
        state["fc.bias"] = torch.full([16], float("nan"))
        self.refuse(self.save(tmp_path, state), "fc.bias is not")

    def test_text(self, tmp_path):
        (tmp_path / "x.pth").write_text(json.dumps({}))
        self.refuse(tmp_path / "x.pth", "x.pth")
