"""The study of pairs: cells that go on, a table of arms, and what it leaves out."""

import json

import pytest
from click.testing import CliRunner

from benchmarks import pair_critic
from tests.helpers.images import write_json
from tests.helpers.training import tiny_data

TINY = {
    **{"cbase": 32, "cmax": 4, "w-dim": 4, "z-dim": 4, "map-depth": 1, "batch": 250},
    **{"mbstd-group": 5, "d-reg-interval": 2, "aug": "noaug", "workers": 0, "snap": 0},
}
STUDY = {
    "places": ["real", "kimg"],
    "seeds": [0, 1],
    "samples": 12,
    "base": {**TINY, "data": "{real}", "kimg": "{kimg}"},
    "train": {"alone": {"pair-critic": "alone"}},
    "test": {"others": "{real}"},
}


def run(*arguments, code=0):
    result = CliRunner().invoke(pair_critic.main, [str(word) for word in arguments])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def line(tmp_path, monkeypatch):
    monkeypatch.setattr(pair_critic, "REGRESSOR_STEPS", 5)
    monkeypatch.setattr(pair_critic, "TIMED_ITERATIONS", 1)
    data = tiny_data(tmp_path / "set")
    config = write_json(tmp_path / "study.json", STUDY)
    return (config, f"--set=real={data}", "--set=kimg=1", "--outdir", tmp_path / "out",
            "--device=cpu")  # fmt: skip


def test_cells_are_trained_once_and_judged(line, tmp_path):
    out = tmp_path / "out"
    run(*line, "--only=alone")
    snapshots = {path: path.stat().st_mtime_ns for path in out.rglob("network-snapshot-*.pkl")}
    assert len(snapshots) == 2
    table = run(*line)
    assert {path: path.stat().st_mtime_ns for path in snapshots} == snapshots
    results = json.loads((out / "results.json").read_text())
    assert [(row["train"], row["seed"]) for row in results["numbers"]] == [
        *(("alone", 0), ("alone", 1)),
        *((pair_critic.SEPARATE, 0), (pair_critic.SEPARATE, 1)),
    ]
    assert results["real"]["FD joint"] == pytest.approx(0, abs=1e-3)  # judged against themselves
    assert results["seconds_per_kimg"]["alone"] > 0
    assert all(name in table for name in ("alone", pair_critic.SEPARATE, pair_critic.REAL))


def test_chance_is_of_other_identities():
    identities = [
        name for name, count in zip("abcd", (3, 1, 2, 3), strict=True) for _ in range(count)
    ]
    others = pair_critic.others_of(identities).tolist()
    assert sorted(others) == list(range(9))
    assert all(identities[i] != identities[j] for i, j in enumerate(others))
