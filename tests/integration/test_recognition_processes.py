"""Two processes that share each batch train the recogniser that one trains.

With batch statistics they do not: each process normalises by its own half, as is usual.
"""

import json

import pytest
import torch

from biometrics.embedding import load_embedder
from tests.helpers.images import write_pairs
from tests.integration.test_several_processes import ROOT, torchrun

SCRIPT = ROOT / "tests" / "helpers" / "recognition_process.py"


def trained(folder, count, rate, statistics):
    out = folder / f"{count}-{rate}-{statistics}"
    outcome = torchrun(count, SCRIPT, folder / "data", out, rate, statistics)
    assert outcome.returncode == 0, outcome.stderr
    ranks = [f"{out}-{rank}.pt" for rank in range(count)]
    return out, [torch.load(path, weights_only=True) for path in ranks]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    write_pairs(folder / "data", [f"{p}_{i}" for p in range(6) for i in range(2)])
    return folder


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_without_batch_statistics_results_agree(folder, rate):
    (_, (one,)), (out, two) = (trained(folder, count, rate, "none") for count in (1, 2))
    for name in ("parameters", "centres"):
        assert torch.equal(two[0][name], two[1][name])
        difference = (one[name] - two[0][name]).abs().max()
        assert difference <= 1e-4 * one[name].abs().max(), name
    assert two[0]["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert load_embedder(out / "recogniser.pth").width == 8


def test_with_batch_statistics_processes_agree_with_each_other(folder):
    _, two = trained(folder, 2, 1.0, "batch")
    assert torch.equal(two[0]["parameters"], two[1]["parameters"])
    assert torch.isfinite(two[0]["parameters"]).all()


def test_the_script_trains_with_two_processes_and_one_of_them_speaks(folder):
    out = folder / "script"
    line = (ROOT / "train_recognition.py", f"--data={folder / 'data'}", "--backbone=r18",
            "--width=0.0625", "--embedding=8", "--size=16", "--batch=4", "--epochs=2",
            "--device=cpu", f"--outdir={out}")  # fmt: skip
    first, again = torchrun(2, *line), torchrun(2, *line)
    assert first.returncode == again.returncode == 0, first.stderr + again.stderr
    assert first.stdout.count("Loss/total") == again.stdout.count("finished before") == 1
    rows = [json.loads(row) for row in (out / "stats.jsonl").read_text().splitlines()]
    assert [row["Loss/total"]["num"] for row in rows] == [12, 12]  # images of both processes
