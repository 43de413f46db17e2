"""The study of labels: cells, self-training and tables; an interrupted study continues."""

import json
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from benchmarks import segmentation_study
from benchmarks.segmentation_study import DRAWS, open_set, score
from segmentation.model_files import load_segmenter
from tests.helpers.images import write_json
from tests.helpers.labelled import write_real

STUDY = {
    "places": ["real", "test"],
    "seeds": [0, 1],
    "base": {"width": 4, "depth": 2, "steps": 20, "every": 20, "batch": 4, "lr": 0.01},
    "train": {
        "few": {"data": "{real}", "subset": 2},
        "taught": {"data": "{real}", "teacher": "few", "dice": 0.5},
    },
    "test": {"others": "{test}"},
    "compare": {"others": [["taught", "few"]]},
}


@pytest.fixture
def places(tmp_path):
    write_real(tmp_path / "real", 6)
    write_real(tmp_path / "test", 8, first=6)
    return [f"--set={name}={tmp_path / name}" for name in ("real", "test")]


def run(*arguments, code=0):
    result = CliRunner().invoke(segmentation_study.main, [str(word) for word in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_a_study_teaches_tests_and_continues(places, tmp_path):
    config, out = write_json(tmp_path / "study.json", STUDY), tmp_path / "out"
    assert "taught − few" in run(config, *places, "--outdir", out, "--device=cpu")
    table = (out / "table.md").read_text(encoding="utf-8")
    results = json.loads((out / "results.json").read_text())
    assert [(row["train"], row["seed"]) for row in results["numbers"]] == [
        *(("few", 0), ("taught", 0)),
        *(("few", 1), ("taught", 1)),
    ]

    few = load_segmenter(out / "cells/few/seed-1/segmenter.pth", torch.device("cpu"))
    written = out / "cells/labels-of-taught/seed-1/masks/0_1.png"
    image = np.asarray(Image.open(tmp_path / "real/VIS/0_1.png")).transpose(2, 0, 1)
    expected = few.predict(torch.from_numpy(image.copy())[None])[0].numpy()
    np.testing.assert_array_equal(np.asarray(Image.open(written)), expected)

    shutil.rmtree(out / "cells/taught/seed-0")
    kept = (out / "cells/few/seed-0/segmenter.pth").stat().st_mtime_ns
    assert table in run(config, *places, "--outdir", out, "--device=cpu")
    assert (out / "cells/few/seed-0/segmenter.pth").stat().st_mtime_ns == kept

    labelled = open_set(few, tmp_path / "test", None)
    row, drawn = score(few, labelled)
    assert row["mean_iou"] == pytest.approx(np.nanmean([row[n] for n in few.classes.names]))
    assert drawn.shape == (DRAWS,)
    assert drawn.min() < row["mean_iou"] < drawn.max()


def test_a_teacher_must_come_first(places, tmp_path):
    train = dict(reversed(STUDY["train"].items()))
    config = write_json(tmp_path / "study.json", {**STUDY, "train": train})
    assert "'few'" in run(config, *places, "--outdir", tmp_path / "out", code=2)
