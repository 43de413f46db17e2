"""Two processes that share each batch train the recogniser that one trains.

With batch statistics they do not: each process normalises by its own half, as is usual.
"""

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
