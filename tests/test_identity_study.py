"""The study of identities: networks and data sets that go on, and what is measured of them."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import identity_study
from tests.helpers.images import write_json
from tests.helpers.people import save_recogniser, write_features
from tests.helpers.training import tiny_data
from tests.test_pair_critic_benchmark import TINY

STUDY = {
    "places": ["real", "recogniser", "auditor", "kimg"],
    "seeds": [3],
    "samples": 12,
    "recogniser": "{recogniser}",
    "auditor": "{auditor}",
    "base": {**TINY, "data": "{real}", "kimg": "{kimg}"},
    "train": {"weight": {"identity-weight": 1, "rec-model": "{recogniser}"}},
    "base_set": {
        "rec-model": "{recogniser}",
        "training-ids": "{real}/identity_features.json",
        **{"ids": 3, "samples-per-id": 2},
        **{"rules": "published", "privacy": 1, "same-identity": -1, "too-similar": 1},
    },
    "sets": {"mixtures": {"identity-source": "interpolate"}},
    "test": {"others": "{real}"},
}


def run(*arguments):
    result = CliRunner().invoke(identity_study.main, [str(word) for word in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_networks_and_data_sets_are_made_once_and_judged(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.pair_critic.TIMED_ITERATIONS", 1)
    data, out = tiny_data(tmp_path / "set"), tmp_path / "out"
    models = [save_recogniser(tmp_path / f"{seed}.pth", seed) for seed in (0, 1)]
    write_features(data, models[0])
    config = write_json(tmp_path / "study.json", STUDY)
    line = (config, f"--set=real={data}", f"--set=recogniser={models[0]}", "--set=kimg=1",
            f"--set=auditor={models[1]}", "--outdir", out, "--device=cpu")  # fmt: skip
    run(*line, "--only=weight")
    (network,), (manifest,) = (
        [*out.rglob(name)] for name in ("network-snapshot-*.pkl", "manifest.jsonl")
    )
    times = [path.stat().st_mtime_ns for path in (network, manifest)]
    # A network that is there already has data sets of its own.
    study = {**STUDY, "train": {**STUDY["train"], "given": {"network": str(network)}}}
    write_json(config, study)
    table = run(*line)
    assert [path.stat().st_mtime_ns for path in (network, manifest)] == times
    results = json.loads((out / "results.json").read_text())
    trained, given = results["networks"]
    assert (trained["train"], trained["seed"], given["train"]) == ("weight", 3, "given")
    assert trained.pop("s/kimg") > 0
    assert {**trained, "train": "given"} == given
    real, *sets = results["sets"]
    assert [(row["train"], row["set"]) for row in sets] == [
        ("weight", "mixtures"),
        ("given", "mixtures"),
    ]
    assert [(row["candidates"], row["share kept"]["value"]) for row in sets] == [(6, 1)] * 2
    assert real["variation"]["people"] == 2
    assert all(name in table for name in ("weight", "mixtures", "EER to training images"))


def test_variation_is_a_mean_over_identities():
    vectors = np.float32([[1, 0], [0, 1], [1, 0], [1, 0], [0, 1], [0.6, 0.8]])
    found = identity_study.variation(vectors, ["a", "a", "b", "b", "b", "c"])
    assert found.value == pytest.approx((1 + 2 / 3) / 2)
    assert found.clusters == 2
