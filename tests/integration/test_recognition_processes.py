"""Two processes that share each batch train the recogniser that one trains.

With batch statistics they do not: each process normalises by its own half, as is usual.
"""

import json

import pytest
import torch

import train_recognition
from biometrics.embedding import load_embedder
from tests.helpers.images import write_pairs
from tests.helpers.processes import run_ranks, run_script
from tests.helpers.recognition_process import CASES, train_all


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data, and what one and two processes made of it in the cases of the script."""
    folder = tmp_path_factory.mktemp("ranks")
    write_pairs(folder / "data", [f"{p}_{i}" for p in range(6) for i in range(2)])
    for count in ("1", "2"):
        (folder / count).mkdir()
    train_all(folder / "data", folder / "1")
    run_ranks(2, train_all, folder / "data", folder / "2")
    return folder


def results(folder, count, case):
    paths = [folder / str(count) / f"{case}-{rank}.pt" for rank in range(count)]
    return [torch.load(path, weights_only=True) for path in paths]


@pytest.mark.parametrize("case", [i for i, (_, statistics) in enumerate(CASES) if not statistics])
def test_without_batch_statistics_results_agree(folder, case):
    (one,), two = results(folder, 1, case), results(folder, 2, case)
    for name in ("parameters", "centres"):
        assert torch.equal(two[0][name], two[1][name])
        difference = (one[name] - two[0][name]).abs().max()
        assert difference <= 1e-4 * one[name].abs().max(), name
    assert two[0]["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert load_embedder(folder / "2" / str(case) / "recogniser.pth").width == 8


def test_with_batch_statistics_processes_agree_with_each_other(folder):
    two = results(folder, 2, CASES.index((1.0, True)))
    assert torch.equal(two[0]["parameters"], two[1]["parameters"])
    assert torch.isfinite(two[0]["parameters"]).all()


def test_the_script_trains_with_two_processes_and_one_of_them_speaks(folder, capsys):
    out = folder / "script"
    line = [f"--data={folder / 'data'}", "--backbone=r18", "--width=0.0625", "--embedding=8",
            "--size=16", "--batch=4", "--epochs=2", "--device=cpu", f"--outdir={out}"]  # fmt: skip
    assert run_ranks(2, run_script, "train_recognition", *line).count(f"{out}: ") == 1
    train_recognition.main(line, standalone_mode=False)
    assert "finished before" in capsys.readouterr().out
    rows = [json.loads(row) for row in (out / "stats.jsonl").read_text().splitlines()]
    assert [row["Loss/total"]["num"] for row in rows] == [12, 12]  # images of both processes
