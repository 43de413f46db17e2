"""The study: cells, tables, comparisons and distances; an interrupted study continues."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import recognition_study
from benchmarks.recognition_study import (
    classical_mds,
    cosine_distances,
    intra_class,
    read_grids,
)
from benchmarks.study import DRAWS, difference, holm, replicate_means
from tests.helpers.images import write_json, write_pairs
from tests.helpers.people import save_recogniser

STUDY = {
    "places": ["faces", "others", "recogniser"],
    "seeds": [0, 1],
    "base": {"backbone": "r18", "width": 0.0625, "embedding": 8, "size": 16, "scale": 8,
             "epochs": 1, "batch": 4},
    "train": {
        "real": {"data": "{faces}"},
        "both": {"data": "{faces}", "modality": ["rgb", "nir"], "identities": None},
        "joint": {"data": "{faces}", "joint": True},
    },
    "grid": {"name": "real", "options": {"data": "{faces}"}, "identities": [2], "samples": [2, 4]},
    "test": {"RGB": {"data": ["{others}"]}, "NIR": {"data": "{others}", "modality": "nir"}},
    "compare": {"RGB": [["both", "real"], ["joint", "real"]]},
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
    for row in results["intervals"]:
        assert 0 <= row["interval"][0] <= row["interval"][1] <= 1
    assert [(row["a"], row["b"]) for row in results["compared"]] == [
        ("both", "real"),
        ("joint", "real"),
    ]
    assert all(row["p"] <= row["p_holm"] <= 1 for row in results["compared"])
    assert "both − real" in text
    assert (tmp_path / "out/table.md").read_text().strip() in text
    assert set(results["distances"]["sets"]) == {"one", "two"}
    assert (tmp_path / "out/mds.svg").read_text(encoding="utf-8").startswith("<svg")


def test_distances_within_identities():
    vectors = np.array([[1, 0], [0, 1], [1, 0], [1, 0], [0, 1]], np.float32)
    row = intra_class(vectors, ["a", "a", "b", "b", "c"])
    assert row == {"mean": 0.5, "sd": 0.5, "identities": 2}
    with pytest.raises(ValueError, match="two images of one identity"):
        intra_class(vectors[:2], ["a", "b"])


def test_replicates_take_their_places_in_turn(tmp_path):
    path = write_json(tmp_path / "study.json", {**STUDY, "seeds": [3, 4, 5]})
    places = ["faces=F", "faces=G", "others=O", "recogniser=R"]
    studies = read_grids(path, places)
    assert [study["seed"] for study in studies] == [3, 4, 5]
    assert [study["train"]["joint"]["data"] for study in studies] == ["F", "G", "F"]
    assert all(study["test"]["RGB"] == {"data": ["O"]} for study in studies)
    assert studies[1]["train"]["real 2 x 4"] == {
        **{"data": "G", "identities": 2, "samples": 4},
        "epochs": 1,
    }
    assert studies[0]["train"]["real 2 x 2"]["epochs"] == 2


def test_bad_studies(places, tmp_path):
    path = write_json(tmp_path / "study.json", {**STUDY, "sets": {}})
    out = ["--outdir", tmp_path / "out"]
    assert "unknown key 'sets'" in run(path, *places, *out, code=2)
    path = write_json(tmp_path / "study.json", {**STUDY, "compare": {"RGB": [["real", "gone"]]}})
    assert "'gone'" in run(path, *places, *out, code=2)
    path = write_json(tmp_path / "study.json", STUDY)
    assert "needs --set faces=PATH" in run(path, *out, code=2)
    assert "--set must be NAME=PATH" in run(path, "--set=x", *out, code=2)
    assert "--only must be among" in run(path, *places, "--only=x", *out, code=2)
    assert "no such file" in run(tmp_path / "gone.json", *out, code=2)


# Comparisons


def test_a_difference_that_all_draws_share_is_found_however_identities_vary():
    rng = np.random.default_rng(0)
    hard = rng.uniform(0.05, 0.2, DRAWS)  # test identities that both training sets find hard
    rates = replicate_means({"a": [hard, hard + 0.01], "b": [hard - 0.005, hard + 0.004]})
    row = difference(rates["a"], rates["b"])
    assert row["interval"][0] > 0
    assert row["p"] == pytest.approx(2 / (DRAWS + 1))
    alone = difference(rates["a"], rng.permutation(rates["b"]))
    assert alone["interval"][0] < 0 < alone["interval"][1]
    assert alone["p"] > 0.5


def test_replicates_are_drawn_too():
    same = np.zeros(DRAWS)
    rates = replicate_means({"a": [same, same + 1], "b": [same, same]})
    assert set(np.unique(rates["a"])) == {0.0, 0.5, 1.0}
    assert np.abs(rates["a"].mean() - 0.5) < 0.1
    assert difference(rates["a"], rates["b"])["p"] > 0.4
    assert difference(rates["b"], rates["b"])["p"] == 1


def test_holm():
    # R's p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([]) == []


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
