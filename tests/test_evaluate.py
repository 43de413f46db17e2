"""evaluate.py from the command line: image quality and training curves."""

import json

import pytest
import torch
from click.testing import CliRunner

from evaluate import main
from networks.config import GeneratorConfig
from networks.generator import Generator
from networks.snapshot import Snapshot, capture, save_snapshot
from tests.helpers.images import truncate
from tests.helpers.measures import write_people
from tests.helpers.processes import run_ranks, run_script
from torch_utils import devices
from torch_utils.distributed import local_rank


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BIFACE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("BIFACE_OFFLINE", "1")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("data") / "set", size=8)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = {"resolution": 8, "channel_base": 32, "channel_max": 4, "z_dim": 3, "w_dim": 4}
        generator = capture(Generator(GeneratorConfig(**config)))
    path = tmp_path_factory.mktemp("snapshots") / "network-snapshot-000060.pkl"
    save_snapshot(path, Snapshot(networks={"G": generator, "G_ema": generator}))
    return path


def call(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit | None)
    return result.output


def refused(*arguments):
    output = call(*arguments, code=2)
    (line,) = [line for line in output.splitlines() if line.startswith("Error: ")]
    return line


def images(*arguments):
    return ["images", "--extractor=standin", "--device=cpu", *arguments]


class TestImages:
    METRICS = "--metrics=fid64_full,fid64_full_NIR,kid64_full_joint,pr643_full,vendi64,ppl2_wend_32"

    def test_snapshot(self, network, data, tmp_path):
        places = [f"--network={network}", f"--data={data}", f"--outdir={tmp_path / 'out'}"]
        output = call(*images(self.METRICS, "--intervals=4", *places))
        assert "FD(random-conv-seed0)" in output
        assert "KD(random-conv-seed0)" in output
        assert "FID" not in output.replace("FID, KID and other published numbers", "")
        numbers = json.loads((tmp_path / "out" / "images.json").read_text())
        results = numbers["sections"]["quality"]["results"]
        assert [result["asked_for"] for result in results] == self.METRICS[10:].split(",")
        assert not any(result["is_reference"] for result in results)
        (first,) = results[0]["values"].values()
        assert first["low"] < first["value"] < first["high"]
        page = (tmp_path / "out" / "images.html").read_text()
        assert "FD(random-conv-seed0)" in page
        entries = list((tmp_path / "cache" / "metrics").iterdir())
        before = [entry.stat().st_mtime_ns for entry in entries]
        again = call(*images(self.METRICS, "--intervals=4", *places))
        assert again == output
        assert [entry.stat().st_mtime_ns for entry in entries] == before, "of the real images"

    def test_folder_of_images(self, data, tmp_path):
        other = write_people(tmp_path / "generated", people=15, size=8, seed=5)
        places = [f"--images={other}", f"--data={data}", f"--outdir={tmp_path / 'out'}"]
        output = call(*images("--metrics=fid45_full,dc455_full_NIR", "--intervals=0", *places))
        assert "dc455_full_NIR.random-conv-seed0_coverage" in output

    def test_dry_run_writes_nothing(self, network, data, tmp_path):
        places = [f"--network={network}", f"--data={data}", f"--outdir={tmp_path / 'out'}"]
        plan = json.loads(call(*images("--metrics=fid64_full", "--dry-run", *places)))
        assert plan["metrics"] == ["fid64_full"]
        assert plan["networks"] == {"features": "random-conv-seed0"}
        assert plan["real"]["images"] == 36
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("rank", [None, "1"])
def test_each_process_has_its_own_gpu(monkeypatch, rank):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(devices, "use_repeatable_arithmetic", lambda: None)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    device = devices.resolve_repeatable("auto", local_rank())
    assert torch.device(device) == torch.device("cuda", int(rank or 0))


def test_processes_share_the_work(network, data, tmp_path):
    """Numbers and page are those of one process, whose features are the same bytes."""
    line = [*images("--metrics=fid100_full,pr1003_full_NIR", "--intervals=0", "--no-cache"),
            f"--network={network}", f"--data={data}"]  # fmt: skip
    call(*line, f"--outdir={tmp_path / '1'}")
    written = run_ranks(2, run_script, "evaluate", *line, f"--outdir={tmp_path / '2'}", "--gpus=2")
    assert written.count("wrote ") == 1
    assert not (tmp_path / "cache").exists()
    found = []
    for count in ("1", "2"):
        section = json.loads((tmp_path / count / "images.json").read_text())["sections"]["quality"]
        found.append([result["values"] for result in section["results"]])
    assert found[0] == found[1]


class TestBadInput:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (["--metrics=fid2k"], "--network and --images"),
            (["--metrics=fid2k", "--network={network}", "--images={data}"], "one of --network"),
            (["--metrics=fid2x", "--network={network}"], "metric 'fid2x' is not known"),
            (["--metrics=none", "--network={network}"], "--metrics must name at least one"),
            (["--metrics=fid64_full", "--network={network}"], "fid64_full: needs real images"),
            (["--metrics=ppl2_wend", "--images={data}"], "needs a generator, not images"),
            (["--metrics=fid64_full", "--network={network}", "--data={empty}"], "no images"),
            (["--metrics=vendi2", "--images={empty}"], "no images"),
            (["--metrics=vendi2", "--network=nothing.pkl"], "nothing.pkl: no such snapshot"),
            (["--metrics=vendi2", "--network={network}", "--intervals=1"], "at least 2"),
            (
                ["--metrics=vendi2", "--network={network}", "--extractor=reference"],
                "inception-2015-12-05.pt or name it by its path; --extractor=standin needs no file",
            ),
            (["--metrics=vendi2", "--network={network}", "--extractor=vgg"], "--extractor must be"),
        ],
    )
    def test_is_one_line(self, network, data, tmp_path, changes, message):
        (tmp_path / "empty").mkdir()
        places = {"network": network, "data": data, "empty": tmp_path / "empty"}
        options = [text.format(**places) for text in changes]
        line = refused(*images(f"--outdir={tmp_path / 'out'}", *options))
        assert message in line
        assert not (tmp_path / "out").exists()

    def test_a_damaged_image_is_named(self, network, tmp_path):
        data = write_people(tmp_path / "set", size=8)
        truncate(data / "NIR" / "03_1.png")
        places = [f"--network={network}", f"--data={data}", f"--outdir={tmp_path / 'out'}"]
        assert "03_1.png" in refused(*images("--metrics=fid64_full", *places))


class TestTraining:
    def write_run(self, folder):
        folder.mkdir()
        row = {"Progress/kimg": {"mean": 1.0}, "Loss/G/loss": {"mean": 2.0, "std": 0.5}}
        (folder / "stats.jsonl").write_text(json.dumps(row) + "\n")
        return folder

    def test_curves(self, tmp_path):
        runs = [self.write_run(tmp_path / name) for name in ("a", "b")]
        output = call("training", *runs, f"--outdir={tmp_path / 'out'}")
        assert "training.html" in output
        names = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert names == ["Generator-loss.svg", "training.html", "training.json"]

    def test_dry_run_writes_nothing(self, tmp_path):
        run = self.write_run(tmp_path / "a")
        plan = json.loads(call("training", run, f"--outdir={tmp_path / 'out'}", "--dry-run"))
        assert plan == {str(run): {"charts": ["Generator loss"], "kimg": 1.0}}
        assert not (tmp_path / "out").exists()

    def test_no_run(self, tmp_path):
        line = refused("training", tmp_path, f"--outdir={tmp_path / 'out'}")
        assert "no stats.jsonl in it" in line
