"""Experiment files, model files and archives."""

import json
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from dnnlib import files
from interpreter.dataset_writer import write_archive
from interpreter.ensemble import RECORD, load_models, member_state, save_models
from interpreter.experiment import Stopping, load_experiment
from interpreter.options import Archive
from tests.helpers.interpreters import small_ensemble


def experiment_file(tmp_path, **content):
    path = tmp_path / "exp.json"
    path.write_text(json.dumps(content))
    return path


def test_published_keys_are_read_and_unused_ones_named(tmp_path, caplog):
    path = experiment_file(
        tmp_path, exp_dir="x", category="eyes_256", dim=[256, 256, 4992], stylegan_ver="2",
        model_num=3, batch_size=32, number_class=4, upsample_mode="bilinear", max_training=5,
    )  # fmt: skip
    experiment = load_experiment(path)
    assert "not used here: category, dim" in caplog.text
    assert (experiment.model_num, experiment.batch_size, experiment.max_training) == (3, 32, 5)
    assert (experiment.truncation_psi, experiment.truncation_cutoff) == (0.5, 8)
    assert experiment.network_name == "G_ema"
    assert experiment.stopping is Stopping.HELDOUT


def test_options_go_before_the_file(tmp_path):
    path = experiment_file(tmp_path, exp_dir="x", use_raw_g=True)
    experiment = load_experiment(path, {"exp_dir": "y", "seed": None})
    assert (experiment.exp_dir, experiment.seed, experiment.network_name) == ("y", 0, "G")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"stylegan_ver": "1"}, 'stylegan_ver must be "2"'),
        ({"upsample_mode": "nearest"}, "upsample_mode must be"),
        ({"model_num": 0}, "model_num must be at least 1"),
        ({"batch_size": "64"}, "batch_size must be int"),
        ({"batchsize": 64}, "unknown key 'batchsize'; did you mean 'batch_size'"),
        ({"stopping": "never"}, "stopping must be one of heldout, published"),
        ({"truncation_cutoff": -1}, "truncation_cutoff must be at least 0"),
    ],
)
def test_wrong_keys_are_refused_by_file(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"exp\.json: .*{message}"):
        load_experiment(experiment_file(tmp_path, **content))


def test_an_experiment_is_an_object(tmp_path):
    (tmp_path / "exp.json").write_text("[]")
    with pytest.raises(ValueError, match="expected an object"):
        load_experiment(tmp_path / "exp.json")


def test_paths_are_looked_up_as_they_are_and_below_exp_dir(tmp_path):
    (tmp_path / "masks").mkdir()
    path = experiment_file(tmp_path, exp_dir=str(tmp_path), annotation_mask_path="masks")
    experiment = load_experiment(path)
    assert experiment.path("annotation_mask_path") == tmp_path / "masks"
    with pytest.raises(ValueError, match="stylegan_checkpoint must name a file"):
        experiment.path("stylegan_checkpoint")
    path = experiment_file(tmp_path, annotation_mask_path="absent")
    with pytest.raises(FileNotFoundError, match="annotation_mask_path: neither absent nor"):
        load_experiment(path).path("annotation_mask_path")


def test_models_survive_their_files(tmp_path):
    ensemble = small_ensemble(9, members=12)
    save_models(tmp_path / "models", ensemble, batches=7)
    loaded = load_models(tmp_path)  # finds the sub-folder; model_10 comes after model_9
    assert loaded.ensemble.members == 12
    for member in (2, 11):
        for name, tensor in member_state(ensemble, member, 7).items():
            assert torch.equal(tensor, member_state(loaded.ensemble, member, 7)[name])
    assert load_models(tmp_path, at_most=3).ensemble.members == 3
    assert loaded.identity == {}


def test_models_that_are_none_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder of models"):
        load_models(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"has no model_0\.pth"):
        load_models(tmp_path)
    save_models(tmp_path, small_ensemble(9), batches=1)
    files.write_json(tmp_path / RECORD, {"identity": {}, "finished": False})
    with pytest.raises(ValueError, match="training is not finished"):
        load_models(tmp_path)
    (tmp_path / RECORD).unlink()
    (tmp_path / "model_1.pth").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"model_1\.pth: not a readable checkpoint"):
        load_models(tmp_path)
    torch.save({"weights": {}}, tmp_path / "model_1.pth")
    with pytest.raises(ValueError, match=r"model_1\.pth: not a model"):
        load_models(tmp_path)


def entries_of(tmp_path, count):
    entries = []
    for index in range(count):
        Image.fromarray(np.full([4, 4], index, np.uint8)).save(tmp_path / f"{index}_RGB.png")
        entries.append({"index": index, "files": {"rgb": {"name": f"{index}_RGB.png"}}})
    return entries


def test_archives_hold_the_files_in_shards(tmp_path):
    entries = entries_of(tmp_path, 5)
    write_archive(tmp_path, entries, Archive.NONE, 2)
    assert not list(tmp_path.glob("shard-*"))
    write_archive(tmp_path, entries, Archive.ZIP, 2)
    shards = sorted(tmp_path.glob("shard-*"))
    assert [path.name for path in shards] == [f"shard-00000{k}.zip" for k in range(3)]
    with zipfile.ZipFile(shards[1]) as archive:
        assert archive.namelist() == ["manifest.jsonl", "2_RGB.png", "3_RGB.png"]
        assert archive.read("3_RGB.png") == (tmp_path / "3_RGB.png").read_bytes()
    write_archive(tmp_path, entries, Archive.WEBDATASET, 9)
    first = tmp_path / "shard-000000.tar"
    with tarfile.open(first) as archive:
        assert archive.getnames()[:2] == ["000000000.rgb.png", "000000000.json"]
    before = first.read_bytes()
    write_archive(tmp_path, entries, Archive.WEBDATASET, 9)
    assert first.read_bytes() == before
