"""Whole training runs: stop, kill, continue, accumulate, condition, transfer."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from dnnlib.runs import OPTIONS_FILE
from networks.snapshot import load_snapshot
from tests.helpers.images import write_json
from tests.helpers.training import BATCH, STEPS, run, run_folder, tiny_data, tiny_options
from torch_utils.trainer import Trainer
from training.jobs import prepare
from training.task import GanTask, tick_cadence

SNAPSHOT = "network-snapshot-000001.pkl"
DECLARED = [
    "Loss/G/loss",
    "Loss/G/reg",
    "Loss/pl_penalty",
    *[
        f"Loss/{name}{suffix}"
        for suffix in ("", "_NIR")
        for name in (
            "scores/real",
            "scores/fake",
            "signs/real",
            "signs/fake",
            "D/loss",
            "D/reg",
            "r1_penalty",
        )
    ],
    "Progress/step",
    "Progress/tick",
    "Progress/kimg",
    "Progress/augment",
    "Progress/augment_NIR",
    "Progress/nonfinite_steps",
    *[
        f"Timing/{name}"
        for name in (
            "total_sec",
            "sec_per_tick",
            "sec_per_kimg",
            "maintenance_sec",
            "total_hours",
            "total_days",
        )
    ],
    "Resources/cpu_mem_gb",
    "Resources/peak_gpu_mem_gb",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_data(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def whole_run(data, tmp_path_factory):
    """The run that is never interrupted, against which the others are compared."""
    outdir = tmp_path_factory.mktemp("whole")
    complete, steps = run(tiny_options(data, outdir))
    assert complete
    assert steps == STEPS
    return run_folder(outdir)


def stop_after(step):
    def on_step(done):
        if done == step:
            signal.raise_signal(signal.SIGTERM)

    return on_step


def same_bytes(folder, other, name):
    return (folder / name).read_bytes() == (other / name).read_bytes()


def test_run_folder_has_every_record(whole_run):
    names = {path.name for path in whole_run.iterdir()}
    assert {
        SNAPSHOT,
        "reals.png",
        "fakes_init.png",
        "fakes000001.png",
        "stats.jsonl",
        "training_options.json",
        "checkpoint.pt",
    } <= names
    assert not [name for name in names if name.endswith(".part")]
    assert any(name.startswith("events.out.tfevents") for name in names)


def test_every_declared_statistic_is_reported(whole_run):
    (line,) = (whole_run / "stats.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert sorted(row) == sorted([*DECLARED, "timestamp"])
    assert row["Loss/scores/real_NIR"]["num"] == BATCH * STEPS
    assert row["Loss/r1_penalty_NIR"]["num"] == BATCH * STEPS // 2
    assert row["Progress/nonfinite_steps"]["mean"] == 0


def test_training_moves_every_network(data, whole_run, tmp_path):
    plan = prepare(tiny_options(data, tmp_path))
    untrained = GanTask(plan.config, plan.run_config, tmp_path, plan.dataset).networks()
    trained = load_snapshot(whole_run / SNAPSHOT).networks
    assert list(trained) == ["G", "G_ema", "D", "D_NIR"]
    for name, network in untrained.items():
        before = dict(network.named_parameters())
        moved = [key for key in before if not torch.equal(before[key], trained[name].state[key])]
        assert len(moved) == len(before), (name, set(before) - set(moved))


def test_stopped_run_continues_to_the_same_bytes(data, whole_run, tmp_path):
    options = tiny_options(data, tmp_path)
    complete, steps = run(options, on_step=stop_after(2))
    assert not complete
    assert steps == 2
    folder = run_folder(tmp_path)
    assert not (folder / SNAPSHOT).exists()
    complete, steps = run(options)
    assert complete
    assert steps == STEPS - 2
    assert run_folder(tmp_path) == folder
    assert same_bytes(folder, whole_run, SNAPSHOT)
    assert same_bytes(folder, whole_run, "fakes000001.png")
    row = json.loads((folder / "stats.jsonl").read_text())
    expected = json.loads((whole_run / "stats.jsonl").read_text())
    losses = [name for name in DECLARED if name.startswith("Loss/")]
    assert {name: row[name] for name in losses} == {name: expected[name] for name in losses}


def test_finished_run_is_left_alone(data, whole_run):
    before = (whole_run / SNAPSHOT).stat().st_mtime_ns
    assert json.loads((whole_run / OPTIONS_FILE).read_text())["finished"]
    complete, steps = run(tiny_options(data, whole_run.parent))
    assert complete
    assert steps == 0
    assert (whole_run / SNAPSHOT).stat().st_mtime_ns == before


def test_longer_duration_continues_a_finished_run(data, tmp_path):
    run(tiny_options(data, tmp_path))
    complete, steps = run(tiny_options(data, tmp_path, kimg=2, snap=3, workers=1))
    assert complete
    assert steps == STEPS
    folder = run_folder(tmp_path)
    assert len((folder / "stats.jsonl").read_text().splitlines()) == 2
    assert (folder / "network-snapshot-000002.pkl").is_file()
    assert json.loads((folder / OPTIONS_FILE).read_text())["finished"]


def test_fresh_and_other_options_start_other_runs(data, tmp_path):
    stop = stop_after(1)
    run(tiny_options(data, tmp_path), on_step=stop)
    run(tiny_options(data, tmp_path, fresh=True), on_step=stop)
    run(tiny_options(data, tmp_path, seed=1), on_step=stop)
    assert len(list(tmp_path.glob("0*"))) == 3


def test_second_process_is_refused(data, tmp_path):
    options = tiny_options(data, tmp_path)

    def start_again(step):
        if step == 1:
            with pytest.raises(ValueError, match="another process is at work"):
                run(options)

    assert run(options, on_step=start_again) == (True, STEPS)


def test_other_seed_other_bytes(data, whole_run, tmp_path):
    run(tiny_options(data, tmp_path, seed=1))
    assert not same_bytes(run_folder(tmp_path), whole_run, SNAPSHOT)


def test_accumulated_parts_equal_one_batch(data, tmp_path):
    """With whole groups in each part and no randomness beside latents, gradients add up."""
    changes = {"aug": "noaug", "p": None, "pl_weight": 0.0, "mbstd_group": 1}
    losses = []
    for index, size in enumerate((BATCH, BATCH // 5)):
        outdir = tmp_path / str(index)
        run(tiny_options(data, outdir, batch_gpu=size, **changes))
        state = load_snapshot(run_folder(outdir) / SNAPSHOT).networks["G"].state
        losses.append(torch.cat([tensor.flatten() for tensor in state.values()]))
    assert torch.isfinite(losses[0]).all()
    largest = losses[0].abs().max()
    assert (losses[0] - losses[1]).abs().max() / largest < 1e-3


def test_nir_weight_zero_leaves_nir_heads_to_path_length_only(data, tmp_path):
    changes = {"pl_weight": 0.0, "nir_loss_weight": 0.0}
    run(tiny_options(data, tmp_path, **changes))
    trained = load_snapshot(run_folder(tmp_path) / SNAPSHOT).networks["G"].state
    plan = prepare(tiny_options(data, tmp_path / "new", **changes))
    task = GanTask(plan.config, plan.run_config, tmp_path, plan.dataset)
    start = task.state.generator.state_dict()
    for name, tensor in start.items():
        if ".heads.nir." in name:
            assert torch.equal(tensor, trained[name]), name


def test_conditional_run_uses_identity_features(tmp_path):
    data = tiny_data(tmp_path / "set")
    rng = np.random.default_rng(0)
    stems = sorted(path.name for path in (data / "VIS").iterdir())
    features = {name: rng.standard_normal(6).tolist() for name in stems}
    write_json(data / "identity_features.json", features)
    run(tiny_options(data, tmp_path / "runs", nir_cond=False))
    networks = load_snapshot(run_folder(tmp_path / "runs") / SNAPSHOT).networks
    sizes = {name: network.config.c_dim for name, network in networks.items()}
    assert sizes == {"G": 6, "G_ema": 6, "D": 6, "D_NIR": 0}


def test_resume_begins_with_the_snapshots_networks(data, whole_run, tmp_path):
    options = tiny_options(data, tmp_path, resume=str(whole_run / SNAPSHOT), freezed=2)
    plan = prepare(options)
    assert plan.config.ema_rampup is None
    task = GanTask(plan.config, plan.run_config, tmp_path, plan.dataset, start=plan.start)
    task.begin(0)
    assert task.state.nimg == 0
    snapshot = load_snapshot(whole_run / SNAPSHOT)
    for name, network in task.networks().items():
        for key, tensor in network.state_dict().items():
            assert torch.equal(tensor, snapshot.networks[name].state[key]), (name, key)
    run(options)
    trained = load_snapshot(run_folder(tmp_path) / SNAPSHOT).networks["D_NIR"].state
    start = snapshot.networks["D_NIR"].state
    frozen = [key for key in start if torch.equal(start[key], trained[key])]
    assert sorted(frozen) == [
        f"blocks.b8.{layer}.{part}"
        for layer in ("conv0", "from_image")
        for part in ("bias", "weight")
    ]


def test_gradients_that_stay_bad_end_the_run(data, tmp_path):
    plan = prepare(tiny_options(data, tmp_path))
    task = GanTask(plan.config, plan.run_config, tmp_path, plan.dataset)
    with torch.no_grad():
        task.state.generator.mapping.fc0.weight.fill_(float("nan"))
    for guard in task.guards:
        guard.max_bad_steps = STEPS - 1
    with pytest.raises(FloatingPointError, match="Gmain: gradients were not finite in 4 steps"):
        Trainer(task, tmp_path, tick_cadence(plan.config, plan.run_config)).run()


def test_environment_is_recorded(whole_run):
    record = json.loads((whole_run / "training_options.json").read_text())
    assert record["identity"]["batch"] == BATCH
    assert record["settings"]["kimg"] == 1
    version = record["environment"]["packages"]["torch"]
    assert version.split("+")[0] == torch.__version__.split("+")[0]
    assert Path(record["command"][0]).name
