"""Curves of runs: what is read, what is drawn, what is refused."""

import json

import pytest
import torch

from evaluation.options import CurveOptions
from evaluation.training_curves import plot_curves, prepare, read_run
from tests.helpers.measures import no_progress
from torch_utils.trainer import Cadence, Task, Trainer


def row(tick, **changes):
    names = ["Loss/G/loss", "Loss/D/loss", "Loss/D/loss_NIR", "Loss/r1_penalty"]
    values = {name: {"num": 4, "mean": 1.0 + tick, "std": 0.5} for name in names}
    values["Progress/kimg"] = {"num": 1, "mean": 4.0 * tick, "std": 0.0}
    values["Metrics/fid2k_full"] = {"num": 1, "mean": 9.0, "std": 0.0}
    return {**values, "timestamp": 1.0, **changes}


def write_run(folder, ticks=3, metrics=True):
    folder.mkdir(parents=True)
    lines = [json.dumps(row(tick)) for tick in range(ticks)]
    (folder / "stats.jsonl").write_text("\n".join(lines) + "\n")
    if metrics:
        ours = {"results": {"fid2k_full": 20.0}, "snapshot_pkl": "x-000004.pkl", "nimg": 4096}
        published = {"results": {"fid2k_full": 10.0}, "snapshot_pkl": "network-snapshot-000008.pkl"}
        path = folder / "metric-fid2k_full.jsonl"
        path.write_text(f"{json.dumps(ours)}\n{json.dumps(published)}\n")
    return folder


def test_points_are_read(tmp_path):
    curves = read_run(write_run(tmp_path / "00000-a"))
    assert curves.name == "00000-a"
    assert curves.statistics["Loss/D/loss_NIR"] == [(0, 1, 0.5), (4, 2, 0.5), (8, 3, 0.5)]
    assert curves.metrics == {"fid2k_full": [(4.096, 20, 0), (8, 10, 0)]}


def test_one_chart_a_statistic_and_metric(tmp_path):
    charts = plot_curves([read_run(write_run(tmp_path / "run"))])
    assert list(charts) == ["fid2k_full", "Generator loss", "Discriminator loss", "R1 penalty"]
    assert "D · nir" in charts["Discriminator loss"].svg
    assert "deviation" in charts["Generator loss"].caption


def test_several_runs_share_charts(tmp_path):
    runs = [write_run(tmp_path / "a" / "run"), write_run(tmp_path / "b" / "run", metrics=False)]
    prepare(CurveOptions(runs=tuple(runs), outdir=tmp_path / "out")).run(no_progress)
    text = (tmp_path / "out" / "training.html").read_text()
    assert "a/run · nir" in text
    assert "b/run · nir" in text
    assert text.count("<svg") == 4
    names = sorted(path.name for path in (tmp_path / "out").glob("*.svg"))
    assert names == ["Discriminator-loss.svg", "Generator-loss.svg", "R1-penalty.svg"] + [
        "fid2k_full.svg"
    ]
    numbers = json.loads((tmp_path / "out" / "training.json").read_text())
    assert numbers["sections"]["training"]["a/run"]["metrics"]["fid2k_full"][1] == [8.0, 10.0, 0.0]


class Counting(Task):
    """A training of nothing, as any of ours writes it."""

    def __init__(self):
        super().__init__(steps=4, device=torch.device("cpu"))

    def step(self, index):
        self.statistics.report("Loss/total", torch.tensor(1.0 / (index + 1)))

    def validate(self, folder):
        return {"val_mean_iou": 0.5, "val_pixel_accuracy": 0.9}

    def networks(self):
        return {}

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def test_any_trainers_rows_are_plotted_by_step(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Trainer(Counting(), tmp_path / name, Cadence(row_steps=2)).run()
    run = read_run(tmp_path / "a")
    assert run.axis == "Progress/step"
    assert [at for at, _, _ in run.statistics["Loss/total"]] == [2, 4]
    alone = plot_curves([run])
    assert {"Loss", "val", "Memory"} <= set(alone)
    assert "over steps" in alone["Loss"].svg
    both = plot_curves([run, read_run(tmp_path / "b")])
    assert {"Loss", "val, mean_iou", "val, pixel_accuracy"} <= set(both)


def test_a_gan_and_another_training_have_their_own_axes(tmp_path):
    (tmp_path / "a").mkdir()
    Trainer(Counting(), tmp_path / "a", Cadence(row_steps=2)).run()
    charts = plot_curves([read_run(write_run(tmp_path / "gan")), read_run(tmp_path / "a")])
    assert "thousands of images shown" in charts["Generator loss"].svg
    assert "steps" in charts["Loss"].svg


def test_a_line_cut_by_a_kill_is_left_out(tmp_path):
    folder = write_run(tmp_path / "run")
    with (folder / "stats.jsonl").open("a") as file:
        file.write('{"Loss/G/loss": {"num"')
    assert len(read_run(folder).statistics["Loss/G/loss"]) == 3


def without_statistics(folder):
    (folder / "stats.jsonl").write_text("")
    return "no statistics in it"


def damaged_in_the_middle(folder):
    text = (folder / "stats.jsonl").read_text()
    (folder / "stats.jsonl").write_text("{]\n" + text)
    return "stats.jsonl, line 1: not valid JSON"


def no_object(folder):
    (folder / "stats.jsonl").write_text("[1]\n")
    return "line 1: expected an object"


def no_kimg(folder):
    (folder / "stats.jsonl").write_text('{"Loss/G/loss": {"mean": 1}}\n')
    return "line 1: no number Progress/kimg"


def no_results(folder):
    (folder / "metric-x.jsonl").write_text('{"results": 5, "nimg": 3}\n')
    return "metric-x.jsonl, line 1: needs results"


@pytest.mark.parametrize(
    "spoil", [without_statistics, damaged_in_the_middle, no_object, no_kimg, no_results]
)
def test_damaged_files_are_named(tmp_path, spoil):
    folder = write_run(tmp_path / "run")
    with pytest.raises(ValueError, match=spoil(folder)):
        read_run(folder)


def test_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no stats.jsonl in it"):
        read_run(tmp_path)


def test_the_same_run_twice(tmp_path):
    folder = write_run(tmp_path / "run")
    with pytest.raises(ValueError, match="given twice"):
        prepare(CurveOptions(runs=(folder, folder), outdir=tmp_path / "out"))


def test_what_is_no_number_is_left_out(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    line = row(0)
    line["Loss/G/loss"]["mean"] = float("nan")
    (folder / "stats.jsonl").write_text(json.dumps(line) + "\n")
    assert "Loss/G/loss" not in read_run(folder).statistics
