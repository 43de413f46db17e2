"""Each trainer's script as users start it: SIGTERM and SIGKILL amid a run, then once more."""

import signal

import pytest

from tests.campaigns.cases import CASES, Bench

RESULTS = {
    "train GAN": ("network-snapshot-000001.pkl", "fakes000001.png"),
    "train segmentation": ("segmenter.pth", "segmenter_best.pth"),
    "train refiner": ("refiner.pt", "before_after.png"),
    "train recogniser": ("recogniser.pth",),
    "train interpreter": ("model_0.pth", "model_1.pth"),
}


def interrupt(bench, sent):
    """Send the command a signal after its first step; return its exit code and what it said."""
    fork, log = bench.start(), ""
    while not ("first" in log and "took" in log):
        text = fork.written.readline()
        assert text, log
        log += text
    code, rest = fork.end(sent)  # also the workers, as clusters and terminals do
    return code, log + rest


@pytest.mark.parametrize("case", [c for c in CASES if c.name in RESULTS], ids=lambda c: c.name)
def test_a_trainer_continues_to_the_same_bytes(case, tmp_path):
    bench = Bench(case, tmp_path)
    code, log = bench.finish()
    assert code == 0, log
    bench.keep_expected()
    names = {name.rpartition("/")[2] for name in bench.expected}
    assert names >= set(RESULTS[case.name])
    bench.reset()
    code, log = interrupt(bench, signal.SIGTERM)
    assert code == 128 + signal.SIGTERM, log
    assert "the same command continues" in log
    code, log = interrupt(bench, signal.SIGKILL)
    assert code == -signal.SIGKILL, log
    assert "continuing at" in log
    assert not list((bench.work / "out").rglob(RESULTS[case.name][0]))
    code, log = bench.finish()
    assert code == 0, log
    assert not bench.compare()
