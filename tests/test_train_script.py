"""The command line: published spellings, configuration files, and bad input that costs nothing."""

import json

import pytest
from click.testing import CliRunner

from tests.helpers.images import truncate, write_json, write_pairs
from tests.helpers.training import run, run_folder, tiny_data, tiny_options
from train_db_stylegan2 import main

SMALL = ["--cbase=32", "--cmax=4", "--w-dim=4", "--z-dim=4", "--batch=20", "--device=cpu"]


@pytest.fixture
def data(tmp_path):
    return tiny_data(tmp_path / "set")


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def dry_run(data, *arguments):
    result = call(f"--data={data}", "--outdir=out", "--dry-run", *SMALL, *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(autouse=True)
def _fetch_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("BIFACE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("BIFACE_OFFLINE", "1")


def refused(tmp_path, data, *arguments):
    """Call without --dry-run, expect exit code 2, and return the message."""
    outdir = tmp_path / "out"
    result = call(f"--data={data}", f"--outdir={outdir}", *SMALL, "--kimg=1", *arguments)
    assert result.exit_code == 2, result.output
    assert not outdir.exists()
    (line,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    return line


def test_help_teaches():
    result = call("--help")
    assert result.exit_code == 0
    assert result.output.count("python train_db_stylegan2.py") == 2


def test_dry_run_prints_the_configuration_and_writes_nothing(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = dry_run(data)
    assert plan["identity"]["generator"]["mapping"]["layers"] == 8
    assert plan["settings"]["kimg"] == 10000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


@pytest.mark.parametrize(
    ("arguments", "path", "value"),
    [
        (["--NIR_loss_weight=0.1"], "loss.weights.nir", 0.1),
        (["--nir-loss-weight=0.5"], "loss.weights.nir", 0.5),
        (["--mirror=1"], "data.mirror", True),
        (["--mirror=false"], "data.mirror", False),
        (["--mirror"], "data.mirror", True),
        (["--cond=0"], "data.cond", False),
        (["--nir-r1=0"], "loss.gammas.nir", 0.0),
        (["--aug=fixed", "--p=0.3"], "ada.p", 0.3),
        (["--augpipe=bg"], "augment.brightness", 0.0),
        (["--half=bfloat16"], "discriminators.nir.half_dtype", "bfloat16"),
        (["--noise=0"], "generator.use_noise", False),
        (["--subset=3"], "data.subset", 3),
        (["--resume=noresume"], "resume", None),
    ],
)
def test_options_reach_the_configuration(data, arguments, path, value):
    found = dry_run(data, *arguments)["identity"]
    for key in path.split("."):
        found = found[key]
    assert found == value


def test_accumulation_is_no_part_of_the_run(data):
    plan = dry_run(data, "--batch-gpu=4", "--mbstd-group=4")
    assert plan["settings"]["batch_gpu"] == 4
    assert plan["identity"] == dry_run(data, "--mbstd-group=4")["identity"]


@pytest.mark.parametrize("name", ["GPU_DEVICE_NUMBER", "gpu_device_number", "gpu-device-number"])
def test_device_spellings(data, name):
    assert dry_run(data, f"--{name}=0")["settings"]["device"] == "cpu"


def test_a_number_of_a_gpu_is_for_one_process(data, tmp_path):
    line = ("--gpus=2", "--gpu-device-number=1")
    assert "--gpu-device-number must be absent with several processes" in refused(
        tmp_path, data, *line
    )


def test_command_line_goes_before_config_file_before_preset(data, tmp_path):
    file = write_json(tmp_path / "c.json", {"gamma": 7, "kimg": 5, "NIR_loss_weight": 0.2})
    plan = dry_run(data, f"--config={file}", "--kimg=6")
    assert plan["settings"]["kimg"] == 6
    assert plan["identity"]["loss"]["gammas"]["rgb"] == 7
    assert plan["identity"]["loss"]["weights"]["nir"] == 0.2


def missing_nir(data):
    (data / "NIR" / "1_1.png").unlink()
    return "1_1"


def truncated_image(data):
    truncate(data / "NIR" / "2_0.png")
    return "2_0.png"


def missing_label(data):
    names = sorted(path.name for path in (data / "VIS").iterdir())
    write_json(data / "identity_features.json", {name: [0.0, 1.0] for name in names[1:]})
    return names[0].removesuffix(".png")


@pytest.mark.parametrize("spoil", [missing_nir, truncated_image, missing_label])
def test_bad_data_is_refused_by_name(data, tmp_path, spoil):
    name = spoil(data)
    assert name in refused(tmp_path, data)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-gpu=7"], "--batch-gpu must divide the batch of a process (20), got 7"),
        (["--mbstd-group=3"], "--mbstd-group must divide"),
        (["--subset=9"], "--subset must be in 1..4"),
        (["--cond=1"], "label"),
        (["--p=0.2"], "--p goes with --aug=fixed only"),
        (["--aug=fixed"], "--aug=fixed needs --p"),
        (["--gamma=-1"], "--gamma"),
        (["--cfg=auto_1024"], "--cfg"),
        (["--device=cuda"], "--device=cuda"),
        (["--resume=nothing.pkl"], "nothing.pkl is not a file"),
        (["--resume=ffhq256"], "ffhq-res256-mirror-paper256-noaug.pkl"),
        (["--cbase=4"], "channel_base must be at least the resolution"),
        (["--metrics=fid50k_half"], "metric 'fid50k_half' is not known"),
        (["--metrics=fid5k_full"], "--extractor=standin needs no file"),
        (["--metrics=fid5k_full", "--extractor=x"], "--extractor must be one of"),
        (["-n", "--metrics=fid5k_full", "--extractor=x"], "--extractor must be one of"),
        (["-n", "--metrics=fid1_full"], "fid1_full: needs at least 2"),
        (["--keep=0"], "--keep"),
        (["--keep=best"], "got none"),
        (["--keep=best", "--metrics=is50k,fid50k_full"], "got is50k"),
        (["--config=nothing.json"], "nothing.json: no such file"),
    ],
)
def test_bad_options_are_refused_by_name(data, tmp_path, arguments, message):
    assert message in refused(tmp_path, data, *arguments)


def test_a_snapshot_of_another_resolution_is_refused(data, tmp_path):
    run(tiny_options(data, tmp_path / "first"))
    snapshot = run_folder(tmp_path / "first") / "network-snapshot-000001.pkl"
    other = write_pairs(tmp_path / "larger", size=16)
    message = refused(tmp_path, other, f"--resume={snapshot}")
    assert "is of 8 pixels, the data has 16" in message


def test_a_hostile_snapshot_is_refused(data, tmp_path):
    path = tmp_path / "bad.pkl"
    path.write_bytes(b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00exit\x85R.")
    assert "posix" in refused(tmp_path, data, f"--resume={path}")
