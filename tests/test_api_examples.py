"""docs/api.md: each block of Python runs, in order, on tiny networks."""

import re
from pathlib import Path

import pytest
import torch

from biometrics.embedding import Preprocessing
from biometrics.features import FeatureInfo, IdentityFeatures, write_identity_features
from dnnlib.files import sha256_file
from tests.helpers.images import write_pairs
from tests.helpers.interpreters import save_small_models, save_small_snapshot, small_generator
from tests.helpers.people import (
    SIDE,
    WIDTH,
    clustered_features,
    save_recogniser,
    save_varied_snapshot,
)

PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"
PEOPLE, IMAGES = 12, 10


def blocks():
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def write_features(path, model):
    """Features as a recogniser that knows people would give them."""
    found = clustered_features(PEOPLE, IMAGES, width=WIDTH, spread=0.2)
    info = FeatureInfo(
        recogniser=sha256_file(model),
        preprocessing=Preprocessing(size=SIDE),
        vectors="all",
        modality="rgb",
        count=len(found.stems),
    )
    features = IdentityFeatures(stems=found.stems, vectors=found.vectors, info=info)
    write_identity_features(path, features, [f"{stem}.png" for stem in found.stems])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What the page's paths name."""
    root = tmp_path_factory.mktemp("api")
    stems = [f"{person}_{image}" for person in range(PEOPLE) for image in range(IMAGES)]
    write_pairs(root / "DATASETS/faces", stems, size=SIDE)
    write_pairs(root / "DATASETS/generated", stems[:32], size=SIDE)
    model = save_recogniser(root / "recogniser.pth")
    write_features(root / "DATASETS/faces/identity_features.json", model)
    save_small_snapshot(root / "network.pkl")
    save_varied_snapshot(root / "conditional.pkl", options={"data": {"feature_scale": 4.0}})
    generator = small_generator()
    ws = torch.zeros([1, generator.num_ws, generator.config.w_dim])
    maps = generator.synthesis.with_features(ws, "const")[1]
    features = sum(found.shape[1] for found in maps)
    save_small_models(root / "EXPERIMENTS/my_faces/models", features)
    return root


def test_all_blocks(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    names = {}
    for number, block in enumerate(blocks(), start=1):
        code = compile(block, f"docs/api.md, block {number}", "exec")
        exec(code, names)  # noqa: S102 - our own manual
    assert number >= 10
    assert names["rgb"].shape == (4, 3, SIDE, SIDE)
    assert names["nir"].shape == (4, 1, SIDE, SIDE)
    assert names["samples"]["rgb"].shape == (4, 3, SIDE, SIDE)
    assert names["found"].labels.shape == (SIDE, SIDE)
    assert torch.allclose(names["vectors"].norm(dim=1), torch.ones(4))
    assert len(names["scores"]) == 4
    assert 0 < names["limits"].privacy < 1
    assert names["leaks"] is not None
    assert "FD(random-conv-seed0)" in capsys.readouterr().out
    assert sorted(place.rglob("*")) == before


def test_blocks_are_formatted():
    for block in blocks():
        assert max(map(len, block.splitlines())) <= 110
