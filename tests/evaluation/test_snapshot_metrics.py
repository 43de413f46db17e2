"""metric-NAME.jsonl: a line a snapshot, whatever is killed and continued in between."""

import json

import pytest

from data.samples import open_samples
from evaluation.features import FolderImages
from evaluation.names import parse_metrics
from evaluation.snapshot_metrics import measure_snapshot, prepare_snapshot_metrics
from tests.evaluation.test_generator_metrics import plan_of
from tests.helpers.measures import Numbers, write_people
from torch_utils.distributed import World

FILE = "metric-fd40_full.pixels.jsonl"


@pytest.fixture
def measured(tmp_path):
    real = FolderImages(open_samples(write_people(tmp_path / "set")))
    plan = plan_of("fid40_full,pr403_full_NIR", real)

    def measure(kimg, nimg=None, offset=0):
        path = tmp_path / f"network-snapshot-{kimg:06d}.pkl"
        return measure_snapshot(plan, path, Numbers(offset), nimg or kimg * 1000, World())

    return measure


def lines(folder, name=FILE):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_lines_have_the_published_keys(measured, tmp_path):
    values = measured(8)
    (line,) = lines(tmp_path)
    published = "results metric total_time total_time_str num_gpus snapshot_pkl timestamp"
    assert set(published.split()) <= set(line)
    assert line["results"] == {"fd40_full.pixels": values["fd40_full.pixels"]}
    assert (line["metric"], line["num_gpus"]) == ("fd40_full.pixels", 1)
    assert line["snapshot_pkl"] == "network-snapshot-000008.pkl"
    assert (line["nimg"], line["extractor"]) == (8000, "pixels")
    assert set(values) == {
        "fd40_full.pixels",
        "pr403_full_NIR.pixels_precision",
        "pr403_full_NIR.pixels_recall",
    }


def test_snapshots_are_appended(measured, tmp_path):
    for kimg in (4, 8, 12):
        measured(kimg, offset=kimg)
    found = lines(tmp_path)
    assert [line["nimg"] for line in found] == [4000, 8000, 12000]
    assert len({line["results"]["fd40_full.pixels"] for line in found}) == 3


def test_a_continued_run_neither_repeats_nor_loses(measured, tmp_path):
    """Killed after the third snapshot, continued from before the second."""
    for kimg in (4, 8, 12):
        measured(kimg, offset=kimg)
    before = [line["results"] for line in lines(tmp_path)]
    for kimg in (8, 12, 16):
        measured(kimg, offset=kimg)
    found = lines(tmp_path)
    assert [line["nimg"] for line in found] == [4000, 8000, 12000, 16000]
    assert [line["results"] for line in found][:3] == before


def test_snapshots_within_one_kimg_are_told_apart(measured, tmp_path):
    measured(8, nimg=8064)
    measured(8, nimg=8960)
    assert [line["nimg"] for line in lines(tmp_path)] == [8064, 8960]


def test_foreign_and_cut_lines(measured, tmp_path):
    foreign = {"results": {"fd40_full.pixels": 1.0}, "snapshot_pkl": "network-snapshot-000002.pkl"}
    (tmp_path / FILE).write_text(json.dumps(foreign) + '\n{"results": {"fd4')
    measured(8)
    assert [line["snapshot_pkl"][-10:] for line in lines(tmp_path)] == ["000002.pkl", "000008.pkl"]


def test_the_folder_of_rgb_images_may_have_any_name(tmp_path):
    (write_people(tmp_path / "set") / "VIS").rename(tmp_path / "set" / "photos")
    prepared = prepare_snapshot_metrics(
        parse_metrics("fid36_full_NIR"),
        "standin",
        tmp_path / "set" / "photos",
        seed=0,
        device="cpu",
    )
    assert len(prepared.args[0].real) == 36


def test_preparation_names_what_is_missing(tmp_path):
    metrics = parse_metrics("fid40_full")
    with pytest.raises(FileNotFoundError, match="nothing"):
        prepare_snapshot_metrics(metrics, "standin", tmp_path / "nothing", seed=0, device="cpu")
    with pytest.raises(FileNotFoundError, match="no such file; --extractor=standin needs no"):
        prepare_snapshot_metrics(
            metrics, f"reference:{tmp_path}", write_people(tmp_path / "s"), seed=0, device="cpu"
        )
