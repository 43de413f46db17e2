import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from data.dataset_card import CARD_FILE
from data.info import parse_classes
from dnnlib import files
from dnnlib.files import read_json_lines
from dnnlib.runs import find_output
from interpreter import dataset_writer
from interpreter.dataset_writer import (
    DatasetJob,
    dataset_identity,
    drop_most_uncertain,
)
from interpreter.features import feature_layout
from interpreter.native import NativeInterpreter
from interpreter.options import Archive, DatasetOptions
from interpreter.training import class_list_of
from networks.sampling import IndexedSampler
from tests.helpers.interpreters import read_tree, small_ensemble, small_generator
from torch_utils.distributed import World


def write(folder, options, world=None, c_dim=0, conditions=None, **changes):
    """Write a data set; return what it says of itself, None where other processes are not done."""
    generator = small_generator(c_dim=c_dim)
    layout = feature_layout(generator.config)
    ensemble = small_ensemble(layout.total)
    identity = dataset_identity(options, "hash", ensemble, conditions)
    job = DatasetJob(
        output=find_output(folder, dataset_writer.RECORD, identity),
        sampler=IndexedSampler(
            generator, conditions, name="--labels", truncation=options.truncation
        ),
        interpreter=NativeInterpreter(ensemble, layout),
        options=options,
        source={"snapshot": "net.pkl"},
        world=world or World(),
        **{"classes": class_list_of(None, 3), **changes},
    )
    job.work(lambda *_: lambda _count: None)
    return files.read_json(folder / dataset_writer.RECORD) if job.output.is_finished else None


def samples_only(tree):
    return {name: data for name, data in tree.items() if name.endswith(".png")}


def without_environment(tree):
    return {name: data for name, data in tree.items() if name != dataset_writer.RECORD}


def test_files_and_manifest(tmp_path):
    options = DatasetOptions(count=6, save_vis=True, save_uncertainty=True)
    assert write(tmp_path, options)["samples"] == 6
    entries = list(read_json_lines(tmp_path / "manifest.jsonl"))
    assert [entry["index"] for entry in entries] == list(range(6))
    generator = small_generator()
    layout = feature_layout(generator.config)
    interpreter = NativeInterpreter(small_ensemble(layout.total), layout)
    sampler = IndexedSampler(generator, name="", truncation=options.truncation)
    drawn = sampler.features(sampler.ws(range(4)))
    for entry, sample in zip(entries[:4], drawn, strict=True):
        index, found = entry["index"], interpreter.label(sample.maps)
        label = np.asarray(Image.open(tmp_path / f"image_{index}_label.png"))
        assert np.array_equal(label, found.labels.numpy())
        assert entry["histogram"] == np.bincount(label.ravel(), minlength=3).tolist()
        assert entry["score"] == pytest.approx(found.score)
        rgb = np.asarray(Image.open(tmp_path / f"{index}_RGB.png"))
        assert np.array_equal(rgb.transpose(2, 0, 1), sample.images["rgb"])
        assert np.asarray(Image.open(tmp_path / f"{index}_NIR.png")).shape == (16, 16)
        raw = np.asarray(Image.open(tmp_path / f"{index}_uncertainty.png")).astype(float)
        values = raw / 65535 * math.log(3)
        assert np.abs(values - found.divergence.numpy()).max() < 1e-3
        assert (tmp_path / "vis" / f"vis_{index}.png").is_file()


def test_the_card_counts_samples_and_classes(tmp_path):
    write(tmp_path, DatasetOptions(count=4, drop_uncertain=0.25))
    card = (tmp_path / CARD_FILE).read_text(encoding="utf-8")
    entries = list(read_json_lines(tmp_path / "manifest.jsonl"))
    share = sum(entry["histogram"][0] for entry in entries) / (3 * 16 * 16)
    for row in (
        "| snapshot | net.pkl |",
        "| dropped, uncertain | 1 |",
        f"| {class_list_of(None, 3).names[0]} | {share:.2%} |",
        "no sample was compared",
    ):
        assert row in card


def test_any_split_of_the_work_gives_the_same_files(tmp_path):
    options = DatasetOptions(count=11)
    write(tmp_path / "one", options)
    parts = [write(tmp_path / "two", options, World(rank=rank, size=2)) for rank in (1, 0)]
    assert parts[0] is None
    assert parts[1]["samples"] == 11
    one, two = (without_environment(read_tree(tmp_path / name)) for name in ("one", "two"))
    assert one == two
    write(tmp_path / "late", DatasetOptions(count=5, start=6))
    late = samples_only(read_tree(tmp_path / "late"))
    assert len(late) == 15
    assert late == {name: one[name] for name in late}


def test_a_killed_run_continues_to_the_same_bytes(tmp_path, monkeypatch):
    options = DatasetOptions(count=11, drop_uncertain=0.2, archive=Archive.ZIP, shard_size=4)
    write(tmp_path / "whole", options)

    def interrupted(folder, batch):
        if batch == 2:
            raise KeyboardInterrupt
        return original(folder, batch)

    original = dataset_writer._record_path
    monkeypatch.setattr(dataset_writer, "_record_path", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "cut", options)
    (tmp_path / "cut" / ".8_RGB.png.x.part").write_bytes(b"half")
    monkeypatch.setattr(dataset_writer, "_record_path", original)
    assert not (tmp_path / "cut" / "manifest.jsonl").exists()
    write(tmp_path / "cut", options)
    whole, cut = (without_environment(read_tree(tmp_path / name)) for name in ("whole", "cut"))
    assert whole == cut


def test_the_most_uncertain_samples_go(tmp_path):
    assert write(tmp_path, DatasetOptions(count=10, drop_uncertain=0.25)) is not None
    kept = list(read_json_lines(tmp_path / "manifest.jsonl"))
    gone = list(read_json_lines(tmp_path / "dropped.jsonl"))
    assert len(kept) == 8
    assert min(entry["score"] for entry in gone) >= max(entry["score"] for entry in kept)
    for entry in gone:
        assert entry["dropped"] == "uncertain"
        assert not (tmp_path / f"{entry['index']}_RGB.png").exists()


def test_equal_scores_drop_the_later_sample():
    entries = [{"index": i, "score": 1.0, "dropped": None} for i in range(4)]
    marked = drop_most_uncertain(entries, 0.5)
    assert [entry["dropped"] for entry in marked] == [None, None, "uncertain", "uncertain"]
    assert drop_most_uncertain(entries, 0.1) == entries


class DropEven:
    """Stands for a filter of identities."""

    def identity(self):
        return {"rule": "even brightness"}

    def __call__(self, samples):
        assert all(sample["rgb"].dtype == np.uint8 for sample in samples)
        return ["too near" if int(s["rgb"].sum()) % 2 == 0 else None for s in samples]


def test_a_filter_handed_in_decides_what_is_kept(tmp_path):
    write(tmp_path / "all", DatasetOptions(count=12))
    result = write(tmp_path / "some", DatasetOptions(count=12), sample_filter=DropEven())
    kept = [entry["index"] for entry in read_json_lines(tmp_path / "some" / "manifest.jsonl")]
    expected = [
        index
        for index in range(12)
        if np.asarray(Image.open(tmp_path / "all" / f"{index}_RGB.png")).sum(dtype=int) % 2
    ]
    assert kept == expected
    assert 0 < result["samples"] < 12
    gone = list(read_json_lines(tmp_path / "some" / "dropped.jsonl"))
    assert {entry["dropped"] for entry in gone} == {"too near"}


def test_conditional_networks_draw_labels(tmp_path):
    write(tmp_path, DatasetOptions(count=8), c_dim=3, conditions=torch.eye(3))
    labels = [entry["label"] for entry in read_json_lines(tmp_path / "manifest.jsonl")]
    assert set(labels) <= {0, 1, 2}
    assert len(set(labels)) > 1


def test_the_identity_follows_models_and_options():
    options = DatasetOptions(count=8)
    first = dataset_identity(options, "hash", small_ensemble(5), None)
    assert first == json.loads(json.dumps(first))
    assert first != dataset_identity(options, "hash", small_ensemble(5, seed=1), None)
    assert first != dataset_identity(options, "hash", small_ensemble(5), None, DropEven())


def test_classes_keep_names_colours_and_mirrors(tmp_path):
    """So that a segmentation network learns the right sides of a flipped image."""
    listed = [
        {"name": "skin", "color": [0, 0, 0]},
        {"name": "left eye", "color": [9, 9, 9], "mirror": "right eye"},
        {"name": "right eye", "color": [200, 9, 9], "mirror": "left eye"},
    ]
    classes = class_list_of(listed, 3)
    write(tmp_path, DatasetOptions(count=1), classes=classes)
    stated = parse_classes(files.read_json(tmp_path / "dataset_info.json"), "info")
    assert stated.classes.names == ("skin", "left eye", "right eye")
    assert stated.classes.mirrored() == (0, 2, 1)
    assert np.array_equal(stated.classes.palette(), [entry["color"] for entry in listed])


def test_classes_without_names_are_numbered(tmp_path):
    write(tmp_path, DatasetOptions(count=1))
    stated = parse_classes(files.read_json(tmp_path / "dataset_info.json"), "info")
    assert stated.classes.names == ("class 0", "class 1", "class 2")
