"""Files of identity features, and their extraction from a data set."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from biometrics import features
from biometrics.embedding import Preprocessing
from biometrics.extraction import extract_features, share_vectors
from biometrics.features import (
    INFO_FILE,
    FeatureInfo,
    IdentityFeatures,
    read_identity_features,
    write_identity_features,
)
from data.dataset import PairDataset
from data.pairs import open_pairs
from dnnlib.files import write_json
from tests.biometrics.test_embedding import embedder
from tests.helpers.images import write_pairs

ROWS = {"1_0.png": [0.1, 2.0], "1_1.png": [-1.0, 0.25], "VIS/2_0.png": [3, 4]}


def write(tmp_path, content):
    path = tmp_path / "identity_features.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_published_file(tmp_path):
    found = read_identity_features(write(tmp_path, ROWS))
    assert found.stems == ("1_0", "1_1", "2_0")
    assert found.identities == ("1", "1", "2")
    assert found.recogniser is None
    assert found.vectors.dtype == np.float32
    assert found.vectors[2].tolist() == [3, 4]
    found.check_recogniser("anything", "--rec-model")


def test_round_trip_to_the_bit(tmp_path):
    random = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    info = FeatureInfo(
        recogniser="abc",
        preprocessing=Preprocessing(size=112, flip=True),
        vectors="all",
        modality="rgb",
        count=3,
    )
    path = tmp_path / "identity_features.json"
    names = ["1_0.png", "1_1.png", "2_0.jpg"]
    stems = ("1_0", "1_1", "2_0")
    write_identity_features(path, IdentityFeatures(stems=stems, vectors=random, info=info), names)
    found = read_identity_features(path)
    assert np.array_equal(found.vectors, random)
    assert found.stems == stems
    assert found.info.preprocessing == Preprocessing(size=112, flip=True)
    found.check_recogniser("abc", "--rec-model")
    with pytest.raises(ValueError, match="--rec-model: features of the recogniser abc, .* xyz"):
        found.check_recogniser("xyz", "--rec-model")


@pytest.mark.parametrize("is_first", [True, False])
def test_a_kill_leaves_no_features_without_their_recogniser(tmp_path, monkeypatch, is_first):
    if not is_first:
        test_round_trip_to_the_bit(tmp_path)

    def write_and_die(*arguments, **options):
        write_json(*arguments, **options)
        raise KeyboardInterrupt

    info = FeatureInfo(
        recogniser="new", preprocessing=Preprocessing(size=112), vectors="all", modality="rgb",
        count=1,
    )  # fmt: skip
    path, vectors = tmp_path / "identity_features.json", np.ones((1, 2), np.float32)
    monkeypatch.setattr(features, "write_json", write_and_die)
    with pytest.raises(KeyboardInterrupt):
        write_identity_features(
            path, IdentityFeatures(stems=("a",), vectors=vectors, info=info), ["a.png"]
        )
    with pytest.raises((FileNotFoundError, ValueError), match="no such file|other features"):
        read_identity_features(path)


def test_info_of_other_features(tmp_path):
    test_round_trip_to_the_bit(tmp_path)
    write(tmp_path, ROWS)
    with pytest.raises(ValueError, match=f"{INFO_FILE}: written for other features"):
        read_identity_features(tmp_path / "identity_features.json")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"a": [1,\n2}', "not valid JSON: .*line 2"),
        ("[]", "expected an object"),
        ({}, "not empty"),
        ({"a": [1], "b": [1, 2]}, "'b': 2 numbers, but the first has 1"),
        ({"a": []}, "'a': expected a list"),
        ({"a": ["x"]}, "'a': expected a list of numbers"),
        ({"a": [True]}, "'a': expected a list of numbers"),
        ({"a": 3}, "'a': expected a list of numbers"),
        ('{"a": [1], "b": [NaN]}', "'b': numbers must be finite"),
        ({"a": [1], "b": [1e300]}, "'b': numbers must be finite"),
        ({"a": [1], "b": [0]}, "'b': features must not be zero"),
        ({"1_0.png": [1], "1_0.jpg": [2]}, "two entries for '1_0'"),
    ],
)
def test_bad_files(tmp_path, content, reason):
    with pytest.raises(ValueError, match=rf"identity_features\.json: .*{reason}|{reason}") as error:
        read_identity_features(write(tmp_path, content))
    assert "identity_features.json" in str(error.value)


def test_one_vector_a_person():
    stems = ["a_0", "b_0", "a_1", "a_2", "b_1"]
    vectors = np.array([[1, 0], [0, 1], [0.8, 0.6], [0.6, 0.8], [0, -1]], np.float32)
    shared = share_vectors(stems, vectors)
    assert shared.tolist() == vectors[[2, 1, 2, 2, 1]].tolist()


def test_extraction(tmp_path):
    root = write_pairs(tmp_path)
    found = extract_features(open_pairs(root), embedder(), batch=3)
    pairs = PairDataset.open(root)
    expected = embedder().embed(
        torch.stack([pair["rgb"] for pair in map(pairs.__getitem__, range(4))])
    )
    assert np.array_equal(found.features.vectors, expected.numpy())
    assert found.features.stems == tuple(pairs.stems)
    assert found.features.recogniser == "h"
    write_identity_features(root / "identity_features.json", found.features, found.file_names)
    labels = PairDataset.open(root, use_labels=True, feature_scale=4.0)
    torch.testing.assert_close(labels.labels, 4 * expected)


def test_extraction_skips_and_counts_what_is_no_image(tmp_path):
    root = write_pairs(tmp_path)
    (root / "VIS" / "1_1.png").write_bytes(b"no image")
    Image.new("RGB", (9, 5)).point(lambda _: 9).save(root / "VIS" / "2_0.png")
    found = extract_features(open_pairs(root), embedder())
    assert list(found.failures) == ["1_1.png"]
    counts = []
    extract_features(open_pairs(root), embedder(), progress=counts.append)
    assert sum(counts) == 4
    assert found.file_names == ["1_0.png", "2_0.png", "2_1.png"]
    for file in (root / "VIS").iterdir():
        file.write_bytes(b"")
    with pytest.raises(ValueError, match="none of 4 images could be read.*VIS.1_0.png"):
        extract_features(open_pairs(root), embedder())
