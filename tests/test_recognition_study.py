"""The study: cells, tables and distances on tiny people; an interrupted study continues."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import recognition_study
from benchmarks.recognition_study import (
    classical_mds,
    cosine_distances,
    intra_class,
    read_study,
)
from tests.helpers.images import write_json, write_pairs
from tests.helpers.people import save_recogniser

STUDY = {
    "places": ["faces", "others", "recogniser"],
    "seeds": [0, 1],
    "base": {"backbone": "r18", "width": 0.0625, "embedding": 8, "size": 16, "scale": 8,
             "epochs": 1, "batch": 4},
    "train": {
        "real": {"data": "{faces}"},
        "both": {"data": "{faces}", "modality": ["rgb", "nir"], "mirror": False, "people": None},
        "joint": {"data": "{faces}", "joint": True},
    },
    "grid": {"name": "real", "options": {"data": "{faces}"}, "people": [2], "samples": [2, 4]},
    "test": {"RGB": {"data": ["{others}"]}, "NIR": {"data": "{others}", "modality": "nir"}},
    "reference": {"RGB": "real"},
    "distances": {"recogniser": "{recogniser}", "sets": {"one": "{faces}", "two": "{others}"}},
}  # fmt: skip


@pytest.fixture
def places(tmp_path):
    for name, people in (("faces", "abc"), ("others", "xy")):
        write_pairs(tmp_path / name, [f"{person}_{i}" for person in people for i in range(5)])
    save_recogniser(tmp_path / "rec.pth")
    paths = {"faces": "faces", "others": "others", "recogniser": "rec.pth"}
    return [f"--set={name}={tmp_path / path}" for name, path in paths.items()]


def run(*arguments, code=0):
    result = CliRunner().invoke(recognition_study.main, [str(word) for word in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_a_study_trains_tests_and_continues(places, tmp_path):
    config = write_json(tmp_path / "study.json", STUDY)
    line = [config, *places, "--outdir", tmp_path / "out", "--device=cpu"]
    run(*line, "--only=real")
    assert not (tmp_path / "out/results.json").exists()
    first = tmp_path / "out/cells/real/seed-1/recogniser.pth"
    before = first.stat().st_mtime_ns
    text = run(*line)
    assert first.stat().st_mtime_ns == before
    results = json.loads((tmp_path / "out/results.json").read_text())
    trained = ["real", "both", "joint", "real 2 x 2", "real 2 x 4"]
    assert list(dict.fromkeys(row["train"] for row in results["numbers"])) == trained
    assert len(results["numbers"]) == 5 * 2 * 2
    assert all(0 <= row["eer"] <= 1 for row in results["numbers"])
    for name in trained:
        assert f"| {name} " in text
    assert "| 100 %" in text
    assert (tmp_path / "out/table.md").read_text().strip() in text
    assert set(results["distances"]["sets"]) == {"one", "two"}
    assert (tmp_path / "out/mds.svg").read_text(encoding="utf-8").startswith("<svg")


def test_distances_within_people():
    vectors = np.array([[1, 0], [0, 1], [1, 0], [1, 0], [0, 1]], np.float32)
    row = intra_class(vectors, ["a", "a", "b", "b", "c"])
    assert row == {"mean": 0.5, "sd": 0.5, "people": 2}
    with pytest.raises(ValueError, match="two images of one person"):
        intra_class(vectors[:2], ["a", "b"])


def test_places_are_filled_in(tmp_path):
    path = write_json(tmp_path / "study.json", STUDY)
    study = read_study(path, {"faces": "F", "others": "O", "recogniser": "R"})
    assert study["test"]["RGB"] == {"data": ["O"]}
    assert study["train"]["real 2 x 4"] == {
        **{"data": "F", "people": 2, "samples": 4},
        "epochs": 1,
    }
    assert study["train"]["real 2 x 2"]["epochs"] == 2


def test_bad_studies(places, tmp_path):
    path = write_json(tmp_path / "study.json", {**STUDY, "sets": {}})
    out = ["--outdir", tmp_path / "out"]
    assert "unknown key 'sets'" in run(path, *places, *out, code=2)
    path = write_json(tmp_path / "study.json", STUDY)
    assert "needs --set faces=PATH" in run(path, *out, code=2)
    assert "--set must be NAME=PATH" in run(path, "--set=x", *out, code=2)
    assert "--only must be among" in run(path, *places, "--only=x", *out, code=2)
    assert "no such file" in run(tmp_path / "gone.json", *out, code=2)


# Classical scaling


def distances_of(points):
    return np.linalg.norm(points[:, None] - points[None], axis=2)


def test_points_of_a_plane_come_back():
    points = np.random.default_rng(0).standard_normal([12, 2])
    found, share = classical_mds(distances_of(points))
    np.testing.assert_allclose(distances_of(found), distances_of(points), atol=1e-9)
    assert share == pytest.approx(1)
    assert found.mean(axis=0) == pytest.approx([0, 0], abs=1e-12)
    assert found[:, 0].std() >= found[:, 1].std()


def test_more_dimensions_are_projected_on_the_principal_axes():
    points = np.random.default_rng(1).standard_normal([30, 5]) * [4, 3, 0.5, 0.2, 0.1]
    found, share = classical_mds(distances_of(points))
    centred = points - points.mean(axis=0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(found), np.abs(centred @ axes[:2].T), atol=1e-9)
    assert share == pytest.approx((singular[:2] ** 2).sum() / (singular**2).sum())


def test_cosine_distances_are_chords():
    vectors = np.array([[1, 0], [0, 1], [-1, 0]], dtype=np.float32)
    expected = [[0, 2**0.5, 2], [2**0.5, 0, 2**0.5], [2, 2**0.5, 0]]
    np.testing.assert_allclose(cosine_distances(vectors), expected)


@pytest.mark.parametrize(
    ("distances", "reason"),
    [
        (np.zeros([2, 3]), "N, N"),
        (np.zeros([1, 1]), "at least 2"),
        (np.array([[0, 1], [2, 0]]), "symmetric"),
        (np.array([[0, -1], [-1, 0]]), "not negative"),
        (np.array([[0, np.nan], [np.nan, 0]]), "finite"),
    ],
)
def test_bad_distances(distances, reason):
    with pytest.raises(ValueError, match=reason):
        classical_mds(distances)
