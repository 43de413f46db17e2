"""Whole runs that start from snapshots: an earlier run's, a single-branch one's, an address."""

import json
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from networks.snapshot import NetworkState, Snapshot, load_snapshot, save_snapshot
from tests.helpers.training import run, run_folder, tiny_data, tiny_options
from tests.helpers.web import serve
from train_db_stylegan2 import main
from training.jobs import prepare
from training.task import GanTask, set_up_backends

SNAPSHOT = "network-snapshot-000001.pkl"
ADAPTIVE = {"aug": "ada", "p": None, "target": -1.0}  # every signal is above -1: p rises


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_data(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def earlier(data, tmp_path_factory):
    """A finished run whose augmentation has got strength."""
    outdir = tmp_path_factory.mktemp("earlier")
    run(tiny_options(data, outdir, **ADAPTIVE))
    return run_folder(outdir) / SNAPSHOT


@pytest.fixture(scope="module")
def single(earlier, tmp_path_factory):
    """The same snapshot without its NIR branch."""
    path = tmp_path_factory.mktemp("single") / "single.pkl"
    networks = {}
    for name, network in load_snapshot(earlier).networks.items():
        if name in ("G", "G_ema"):
            state = {k: t for k, t in network.state.items() if ".heads.nir." not in k}
            config = replace(network.config, heads={"rgb": 3})
            networks[name] = NetworkState(network.kind, config, state)
    networks["D"] = load_snapshot(earlier).networks["D"]
    save_snapshot(path, Snapshot(networks=networks))
    return path


def build_task(options, folder):
    plan = prepare(options)
    task = GanTask(plan.config, plan.run_config, folder, plan.dataset, start=plan.start)
    task.begin(0)
    return task


def test_optimisers_strength_and_path_length_go_on_but_counters_do_not(data, earlier, tmp_path):
    state = build_task(
        tiny_options(data, tmp_path, resume=str(earlier), **ADAPTIVE), tmp_path
    ).state
    kept = torch.load(earlier.parent / "checkpoint.pt", weights_only=True)["task"]
    assert kept["counters"]["nimg"] == 1000
    assert (state.nimg, state.step, state.tick) == (0, 0, 0)
    assert {name: c.p for name, c in state.ada.items()} == {
        name: entry["p"] for name, entry in kept["ada"].items()
    }
    assert state.ada["rgb"].p > 0
    assert state.pl_mean == kept["pl_mean"] != 0
    for name, optimizer in state.optimizers.items():
        moments = optimizer.state_dict()["state"]
        assert moments.keys() == kept["optimizers"][name]["state"].keys()
        for key, entry in moments.items():
            assert torch.equal(
                entry["exp_avg_sq"], kept["optimizers"][name]["state"][key]["exp_avg_sq"]
            )


def test_a_run_from_a_snapshot_is_finished_by_the_same_command(data, earlier, tmp_path):
    options = tiny_options(data, tmp_path, resume=str(earlier))
    assert run(options) == (True, 4)
    assert run(options) == (True, 0)
    identity = json.loads((run_folder(tmp_path) / "training_options.json").read_text())["identity"]
    assert len(identity["resume"]) == 64
    assert identity["nir_init"] == "luma"


def test_single_branch_snapshot_trains_with_either_beginning_in_a_run_of_its_own(
    data, single, tmp_path
):
    for nir_init in ("luma", "random"):
        assert run(tiny_options(data, tmp_path, resume=str(single), nir_init=nir_init))[0]
    paths = list(tmp_path.glob(f"0*/{SNAPSHOT}"))
    assert len(paths) == 2
    for path in paths:
        trained = load_snapshot(path)
        assert list(trained.networks) == ["G", "G_ema", "D", "D_NIR"]
        for network in trained.networks.values():
            assert all(torch.isfinite(tensor).all() for tensor in network.state.values())


def test_script_fetches_from_an_address_but_not_in_a_dry_run(data, earlier, tmp_path, monkeypatch):
    monkeypatch.setenv("BIFACE_CACHE_DIR", str(tmp_path / "cache"))
    sizes = ["--cbase=32", "--cmax=4", "--w-dim=4", "--z-dim=4", "--map-depth=2", "--device=cpu"]
    with serve() as site:
        site.pages["/net.pkl"] = earlier.read_bytes()
        common = [f"--data={data}", f"--resume={site.address}/net.pkl", "--batch=250", *sizes]
        command = [*common, f"--outdir={tmp_path / 'runs'}", "--kimg=1", "--mbstd-group=5"]
        result = CliRunner().invoke(main, [*command, "--dry-run"])
        assert result.exit_code == 0, result.output
        assert site.requests == []
        assert not (tmp_path / "cache").exists()
        result = CliRunner().invoke(main, [*command, "--workers=0"])
        assert result.exit_code == 0, result.output
        assert site.requests == ["/net.pkl"]
    assert (run_folder(tmp_path / "runs") / SNAPSHOT).is_file()
    assert run_folder(tmp_path / "runs").name.endswith("resumenet")


def test_script_says_where_an_unreachable_file_goes(data, tmp_path, monkeypatch):
    monkeypatch.setenv("BIFACE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("BIFACE_OFFLINE", "1")
    arguments = [f"--data={data}", f"--outdir={tmp_path / 'runs'}", "--resume=ffhq256"]
    result = CliRunner().invoke(main, [*arguments, "--device=cpu"])
    assert result.exit_code == 2
    (line,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    place = tmp_path / "cache" / "downloads" / "ffhq-res256-mirror-paper256-noaug.pkl"
    assert f"put the file to {place}" in line
    assert not (tmp_path / "runs").exists()


# Options of speed


@pytest.mark.parametrize(("gib", "is_kept"), [(1.0, True), (0.0, False), (1e-9, False)])
def test_images_are_kept_in_memory_only_where_they_fit(data, tmp_path, gib, is_kept):
    plan = prepare(tiny_options(data, tmp_path, cache=gib))
    assert not plan.dataset.is_cached
    plan.dataset.cache(plan.run_config.cache)
    assert plan.dataset.is_cached == is_kept


@pytest.fixture
def backends():
    """The switches of the process, put back afterwards."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cudnn.benchmark, matmul.allow_tf32
    yield
    cudnn.allow_tf32, cudnn.benchmark, matmul.allow_tf32 = before


@pytest.mark.usefixtures("backends")
@pytest.mark.parametrize("is_on", [False, True])
def test_switches_of_backends_and_layout(data, tmp_path, is_on):
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = not is_on
    torch.backends.cudnn.benchmark = is_on
    options = tiny_options(data, tmp_path, allow_tf32=is_on, nobench=is_on, nhwc=is_on)
    plan = prepare(options)
    set_up_backends(plan.config, plan.run_config)
    assert torch.backends.cudnn.allow_tf32 is is_on
    assert torch.backends.cuda.matmul.allow_tf32 is is_on
    assert torch.backends.cudnn.benchmark is not is_on
    weight = build_task(options, tmp_path).state.discriminators["rgb"].blocks.b8.conv0.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) is is_on
