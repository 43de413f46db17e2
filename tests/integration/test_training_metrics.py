"""Metrics of snapshots during training: recorded once each, without a trace in what is trained."""

import contextlib
import json
import signal
from functools import partial
from pathlib import Path

import pytest

from dnnlib.options import StoppedError
from evaluation.names import parse_metrics
from evaluation.snapshot_metrics import prepare_snapshot_metrics
from tests.helpers.images import write_pairs
from tests.helpers.training import run_folder, tiny_options
from training.jobs import prepare

METRICS = parse_metrics("fid32_full_NIR,ppl2_wend_16")
FILES = [
    "metric-fd32_full_NIR.random-conv-seed0.jsonl",
    "metric-ppl2_wend_16.random-conv-seed0.jsonl",
]


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIFACE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    stems = [f"{person}_{sample}" for person in range(6) for sample in range(4)]
    return write_pairs(tmp_path_factory.mktemp("data") / "set", stems, size=8)


def go(data, outdir, *, metrics=METRICS, stop_at=None, kimg=2, **changes):
    """Some kimg with a snapshot after each; optionally stopped by a signal after some steps."""
    options = tiny_options(data, outdir, kimg=kimg, tick=1.0, snap=1, **changes)
    steps = []

    def progress(*_):
        def advance(count):
            steps.append(count)
            if len(steps) == stop_at:
                signal.raise_signal(signal.SIGTERM)

        return advance

    prepare_metrics = partial(prepare_snapshot_metrics, metrics, "standin", Path(data))
    plan = prepare(options, prepare_metrics if metrics else None)
    with pytest.raises(StoppedError) if stop_at else contextlib.nullcontext():
        plan.train(progress)
    return run_folder(outdir)


def results(folder, name=FILES[0]):
    lines = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    return [(line["nimg"], line["results"]) for line in lines]


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    return go(data, tmp_path_factory.mktemp("whole"))


def test_each_snapshot_has_a_line_in_each_file(whole):
    assert sorted(path.name for path in whole.glob("metric-*")) == FILES
    for name in FILES:
        assert [nimg for nimg, _ in results(whole, name)] == [1000, 2000]


def test_statistics_have_the_same_numbers(whole):
    rows = [json.loads(line) for line in (whole / "stats.jsonl").read_text().splitlines()]
    for name in FILES:
        for row, (_, values) in zip(rows, results(whole, name), strict=True):
            for key, value in values.items():
                assert row[f"Metrics/{key}"] == {"num": 1, "mean": value, "std": 0.0}


def test_the_best_snapshot_stays(data, tmp_path):
    folder = go(data, tmp_path, metrics=METRICS[1:], kimg=4, keep="best")
    (key,) = results(folder, FILES[1])[0][1]
    values = {nimg // 1000: found[key] for nimg, found in results(folder, FILES[1])}
    assert len(values) == 4
    left = {int(path.stem[-6:]) for path in folder.glob("network-snapshot-*.pkl")}
    assert left == {max(values), min(values, key=values.get)}


def test_training_is_the_same_without_metrics(data, whole, tmp_path):
    plain = go(data, tmp_path, metrics=())
    assert not list(plain.glob("metric-*"))
    for name in ("network-snapshot-000001.pkl", "network-snapshot-000002.pkl"):
        assert (plain / name).read_bytes() == (whole / name).read_bytes()


def test_a_stopped_run_continues_to_the_same_lines(data, whole, tmp_path):
    """Also one killed between the evaluation of a snapshot and the checkpoint behind it."""
    stopped = go(data, tmp_path, stop_at=6)
    assert not (stopped / "network-snapshot-000002.pkl").exists()
    checkpoint = (stopped / "checkpoint.pt").read_bytes()
    for _ in range(2):
        (stopped / "checkpoint.pt").write_bytes(checkpoint)
        assert go(data, tmp_path) == stopped
        for name in FILES:
            assert results(stopped, name) == results(whole, name)
