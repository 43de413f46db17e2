"""Plots, sheets, summaries and the audit."""

import numpy as np
import pytest
from PIL import Image

from biometrics.features import IdentityFeatures
from data.sheets import save_image
from identities.audit import Auditor
from identities.filtering import TrainingIdentities
from identities.reports import (
    count_reasons,
    describe_scores,
    summarise_dataset,
    write_identity_sheets,
    write_overview,
)
from identities.rules import Which
from tests.helpers.images import random_pixels, write_image
from tests.helpers.people import PixelEmbedder


@pytest.fixture
def folder(tmp_path):
    for identity, count in ((0, 5), (2, 3)):
        for sample in range(count):
            pixels = np.full([3, 8, 8], 10 * identity + sample + 1, np.uint8)
            for place, image in (("VIS", pixels), ("NIR", pixels[:1] + 100)):
                save_image(tmp_path / f"id_{identity}/{place}/sample_{sample}_{place}.png", image)
    return tmp_path


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_an_identitys_grid_has_a_quarter_of_the_samples_a_row(folder):
    write_identity_sheets(folder, 0, 5, 8, ("VIS", "NIR"))
    grid = read(folder / "id_0_samples_VIS.png")
    assert grid.shape == (24, 16, 3)
    assert grid[::8, ::8, 0].tolist() == [[1, 2], [3, 4], [5, 0]]
    assert read(folder / "id_0_samples_NIR.png")[0, 0, 0] == 101


def test_the_overview_has_a_row_an_identity(folder):
    write_overview(folder, [(5, 9), (0, 9), (3, 9)], ("VIS", "NIR"))
    sheet = read(folder / "overview.png")
    assert sheet.shape == (128, 2 * 320 + 6, 3)
    assert sheet[::64, 0:320:64, 0].tolist() == [[1, 2, 3, 4, 5], [21, 22, 23, 0, 0]]
    assert sheet[0, 326, 0] == 101
    write_overview(folder / "empty", [(0, 3)], ("VIS",))
    assert not (folder / "empty").exists()


def test_scores_are_described():
    found = describe_scores([0.5, None, 0.1, 0.3])
    assert (found["number"], found["lowest"], found["highest"]) == (3, 0.1, 0.5)
    assert found["mean"] == pytest.approx(0.3)
    assert found["quantiles"]["0.5"] == pytest.approx(0.3)
    assert describe_scores([None]) is None


def test_rejections_are_counted_once_and_by_all_reasons():
    rejected = [
        {"reasons": ["face", "too_similar"], "face": "no face"},
        {"reasons": ["too_similar"], "face": None},
        {"reasons": ["face"], "face": "several faces"},
    ]
    assert count_reasons(rejected) == {
        "by_first_reason": {"face": 2, "too_similar": 1},
        "by_any_reason": {"face": 2, "too_similar": 2},
        "faces": {"no face": 1, "several faces": 1},
    }


def test_identities_are_counted():
    counts = [(4, 4), (0, 9), (2, 9), (4, 7)]
    found = summarise_dataset([], [], counts, 4, surplus=3)["identities"]
    assert found["complete"] == 2
    assert found["incomplete"] == [{"identity": 2, "samples": 2, "attempts": 9}]
    assert found["failed_to_enrol"] == [1]
    assert found["failure_to_enrol_rate"] == 0.25


def test_the_audit_names_the_nearest(tmp_path):
    embedder, names = PixelEmbedder(), []
    for seed in range(70):  # more than one batch
        names.append(f"{seed:02d}.png")
        write_image(tmp_path / names[-1], random_pixels(seed))
    import torch  # noqa: PLC0415

    known = torch.from_numpy(
        np.stack([random_pixels(s).transpose(2, 0, 1) for s in (1000, 66, 1001)])
    )
    features = IdentityFeatures(stems=("a_0", "b_0", "c_0"), vectors=embedder.embed(known).numpy())
    training = TrainingIdentities(features, Which.ALL)
    report = Auditor(embedder, training, privacy=0.999).report(tmp_path, names)
    assert report["highest"][0] == {"image": "66.png", "score": 1.0, "training_image": "b_0"}
    assert report["at_or_above"] == 1
    assert report["share_at_or_above"] == pytest.approx(1 / 70, abs=1e-6)
    assert report["training"]["number"] == 70
    scores = [entry["score"] for entry in report["highest"]]
    assert scores == sorted(scores, reverse=True)
    without = Auditor(embedder, training, privacy=None).report(tmp_path, names[:3])
    assert "at_or_above" not in without
