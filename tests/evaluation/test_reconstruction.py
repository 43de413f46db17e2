"""Errors of projected images: the attack's AUC, and which folders can be compared."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import evaluate


def write_projections(folder, errors, first=0, finished=True, **changes):
    """A folder of project_pairs.py: one identity an error, numbered from `first`."""
    folder.mkdir()
    images = [
        {"name": f"{i}_0", "identity": str(i), "rmse": {"rgb": error, "nir": 5.0}}
        for i, error in enumerate(errors, first)
    ]
    identity = {"network_sha256": "0" * 64, "images": folder.name, "steps": 3, **changes}
    record = {"identity": identity, "finished": finished}
    (folder / "projection.json").write_text(json.dumps(record))
    content = {"rmse": {"rgb": float(np.mean(errors)), "nir": 5.0}, "images": images}
    (folder / "errors.json").write_text(json.dumps(content))
    return folder


def run(tmp_path, training, heldout, code=0):
    line = ["reconstruction", f"--outdir={tmp_path / 'out'}"]
    line += [f"--training={path}" for path in training]
    line += [f"--heldout={path}" for path in heldout]
    result = CliRunner().invoke(evaluate.main, line)
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_the_attack_is_measured_over_all_folders(tmp_path):
    training = write_projections(tmp_path / "a", [1.0, 2.0, 3.0, 8.0])
    others = [write_projections(tmp_path / "b", [4.0, 5.0], first=10)]
    others.append(write_projections(tmp_path / "c", [6.0, 7.0], first=20, interpreter="x"))
    run(tmp_path, [training], others)
    content = json.loads((tmp_path / "out/reconstruction.json").read_text())
    auc = content["sections"]["reconstruction"]["attack_auc"]
    assert auc["rgb"]["value"] == pytest.approx(12 / 16)
    assert auc["rgb"]["low"] < 0.75 < auc["rgb"]["high"]
    assert auc["nir"]["value"] == 0.5


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"first": 3}, "'3'"),
        ({"steps": 4}, "steps 3 -> 4"),
        ({"finished": False}, "not finished"),
        (None, "projection.json"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, other, told):
    training = write_projections(tmp_path / "a", [1.0, 2.0, 3.0, 8.0])
    heldout = tmp_path / "b"
    if other is None:
        heldout.mkdir()
    else:
        write_projections(heldout, [1.0, 2.0], **{"first": 10, **other})
    assert told in run(tmp_path, [training], [heldout], code=2)


@pytest.mark.parametrize("first", [None, 1])
def test_an_identity_is_in_one_folder_of_a_side(tmp_path, first):
    training = write_projections(tmp_path / "a", [1.0, 2.0])
    again = training if first is None else write_projections(tmp_path / "c", [1.0], first=first)
    heldout = write_projections(tmp_path / "b", [1.0, 2.0], first=10)
    assert "different identities" in run(tmp_path, [training, again], [heldout], code=2)


def test_other_files_of_that_name_are_refused(tmp_path):
    training = write_projections(tmp_path / "a", [1.0, 2.0])
    (training / "errors.json").write_text('{"images": [1]}')
    assert "errors.json" in run(tmp_path, [training], [training], code=2)
