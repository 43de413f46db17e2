"""train_recognition.py, then create_identity_features.py, on tiny people."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import create_identity_features
import train_recognition
from biometrics import extraction
from biometrics.features import read_identity_features
from data.dataset import PairDataset
from data.sample_index import SampleIndex
from recognition.task import MODEL_FILE
from tests.helpers.images import write_pairs
from tests.helpers.people import save_recogniser
from torch_utils import devices

STEMS = ["1_0", "1_1", "2_0", "2_1", "3_0", "3_1"]
SMALL = ["--backbone=r18", "--width=0.0625", "--embedding=8", "--size=16", "--scale=8",
         "--batch=4", "--epochs=2", "--device=cpu"]  # fmt: skip


def run(script, *arguments, code=0):
    result = CliRunner().invoke(script.main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A data set of three people and a recogniser of them."""
    folder = tmp_path_factory.mktemp("people")
    write_pairs(folder / "faces", STEMS)
    run(train_recognition, "--data", folder / "faces", "--outdir", folder / "rec", *SMALL)
    return folder


@pytest.fixture
def faces(tmp_path):
    return write_pairs(tmp_path / "faces", STEMS)


def embed(people, faces, *arguments, code=0):
    return run(create_identity_features, "--data_folder", faces, "--device=cpu",
               "--rec_model", people / "rec" / MODEL_FILE, *arguments, code=code)  # fmt: skip


def test_they_lie_in_the_data_folder_and_condition_training(people, faces):
    output = embed(people, f"{faces}/")
    assert "6 vectors of 8 numbers; 3 identities, 2 to 2 images each" in output
    found = read_identity_features(faces / "identity_features.json")
    assert found.stems == tuple(STEMS)
    assert np.linalg.norm(found.vectors, axis=1) == pytest.approx(np.ones(6), rel=1e-6)
    pairs = PairDataset.open(faces, use_labels=None, feature_scale=4.0)
    assert pairs.c_dim == 8
    torch.testing.assert_close(pairs.labels[3], torch.tensor(4 * found.vectors[3]))


def test_batches_change_no_byte(people, faces):
    embed(people, faces, "--batch=1")
    first = (faces / "identity_features.json").read_bytes()
    embed(people, faces, "--batch=64")
    assert (faces / "identity_features.json").read_bytes() == first


def test_one_a_person(people, faces):
    embed(people, faces, "--all_or_one", "one")
    found = read_identity_features(faces / "identity_features.json")
    assert found.info.vectors == "one"
    for first, second in zip(found.vectors[::2], found.vectors[1::2], strict=True):
        assert np.array_equal(first, second)


def test_the_mean_of_a_person(people, faces, caplog):
    embed(people, faces)
    rows = read_identity_features(faces / "identity_features.json").vectors.astype(float)
    embed(people, faces, "--all_or_one", "mean", "--fresh")
    found = read_identity_features(faces / "identity_features.json")
    assert found.info.vectors == "mean"
    for i in range(0, len(STEMS), 2):
        mean = rows[i : i + 2].mean(axis=0)
        mean /= np.linalg.norm(mean)
        assert found.vectors[i] == pytest.approx(mean, abs=1e-6)
        assert np.array_equal(found.vectors[i], found.vectors[i + 1])
        # Of two images, the mean of the others is the other one.
        assert f".png ({rows[i] @ rows[i + 1]:.3f})" in caplog.text


def test_agreement_leaves_the_image_out():
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 1, 2]]
    means, agreement = extraction.mean_vectors(["a_0", "a_1", "a_2", "b_0"], vectors)
    assert means[0] == pytest.approx([2 / 5**0.5, 1 / 5**0.5, 0, 0])
    assert agreement == pytest.approx([0.5**0.5, 0.5**0.5, 0, np.nan], nan_ok=True)
    with pytest.raises(ValueError, match="images of a"):
        extraction.mean_vectors(["a_0", "a_1"], np.array([[1.0], [-1.0]], np.float32))


def test_those_of_another_recogniser_are_replaced_only_when_asked_to(people, faces, tmp_path):
    embed(people, faces)
    place = faces / "identity_features.json"
    before = place.read_bytes()
    other = f"--rec_model={save_recogniser(tmp_path / 'other.pth')}"
    output = embed(people, faces, other, code=2)
    assert "(recogniser " in output
    assert "--fresh replaces" in output
    assert place.read_bytes() == before
    embed(people, faces, other, "--fresh")
    assert place.read_bytes() != before
    read_identity_features(place)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--modality=nir", '-> "nir"); --fresh replaces them, --out={nir} writes'),
        ("--all_or_one=one", '-> "one"); --fresh replaces them, --out=FILE'),
        ("--flip=1", "(preprocessing.flip false -> true); --fresh"),
    ],
)
def test_those_made_otherwise_are_replaced_only_when_asked_to(people, faces, option, message):
    embed(people, faces)
    place = faces / "identity_features.json"
    before = place.read_bytes()
    message = message.format(nir=faces / "identity_features_nir.json")
    for more in ([], ["-n"]):
        output = embed(people, faces, option, *more, code=2)
        assert message in " ".join(output.split())
    assert place.read_bytes() == before
    embed(people, faces, option, "--fresh")
    assert place.read_bytes() != before


def test_published_ones_are_replaced_only_when_asked_to(people, faces):
    place = faces / "identity_features.json"
    place.write_text('{"1_0.png": [1.0]}')
    assert "features of unknown origin" in embed(people, faces, code=2)
    assert place.read_text() == '{"1_0.png": [1.0]}'
    embed(people, faces, "--fresh")
    assert len(read_identity_features(place).stems) == 6


def test_those_of_more_images_are_replaced_only_when_asked_to(people, faces):
    embed(people, faces)
    place = faces / "identity_features.json"
    before = place.read_bytes()
    (faces / "VIS/2_1.png").write_bytes(b"no image")
    output = " ".join(embed(people, faces, code=2).split())
    assert "(fewer images 6 -> 5); --fresh replaces" in output
    assert "; 2_1.png gave none: " in output
    for folder in ("VIS", "NIR"):
        (faces / folder / "2_1.png").unlink()
    assert "(fewer images 6 -> 5); --fresh" in embed(people, faces, "-n", code=2)
    assert place.read_bytes() == before
    embed(people, faces, "--fresh")
    write_pairs(faces, [*STEMS, "4_0"])
    embed(people, faces)
    assert len(read_identity_features(place).stems) == 7


def test_a_killed_run_is_repaired_by_repeating_it(people, faces):
    embed(people, faces)
    place = faces / "identity_features.json"
    whole = place.read_bytes()
    place.write_text('{"old.png": [1.0]}')
    embed(people, faces)
    assert place.read_bytes() == whole


def test_another_place(people, faces, tmp_path):
    embed(people, faces, "--out", tmp_path / "x.json", "--modality=nir", "--flip=1")
    info = read_identity_features(tmp_path / "x.json").info
    assert info.modality == "nir"
    assert info.preprocessing.flip
    assert not (faces / "identity_features.json").exists()


def test_dry_run(people, faces):
    assert json.loads(embed(people, faces, "-n"))["images"] == 6
    assert not (faces / "identity_features.json").exists()


def test_a_gpu_computes_as_the_filter_does(people, faces, monkeypatch):
    called = []
    monkeypatch.setattr(devices, "resolve_device", lambda *_: "meta")
    monkeypatch.setattr(devices, "use_repeatable_arithmetic", lambda: called.append(True))
    embed(people, faces, "--dry-run")
    assert called == [True]


def test_one_bad_image_is_counted_or_fatal(people, faces, caplog):
    (faces / "VIS/2_1.png").write_bytes(b"no image")
    output = embed(people, faces, "--strict", code=2)
    assert "--strict: every image must give features; 2_1.png gave none: " in output
    assert not (faces / "identity_features.json").exists()
    embed(people, faces)
    assert "1 images gave no features, 2_1.png first" in caplog.text
    assert len(read_identity_features(faces / "identity_features.json").stems) == 5


def test_strict_ends_at_the_first_bad_image(people, faces, monkeypatch):
    decoded, original = [], SampleIndex.image

    def decode(*arguments):
        decoded.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(SampleIndex, "image", decode)
    (faces / "VIS/1_1.png").write_bytes(b"no image")
    embed(people, faces, "--strict", code=2)
    assert len(decoded) == 2


@pytest.mark.parametrize("more", [[], ["-n"]])
@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("folder", "folder: is a directory"),
        ("file/x.json", "file: not a directory"),
        ("file/a/x.json", "file: not a directory"),
        ("x.json", "x.info.json: is a directory"),
    ],
)
def test_a_bad_place_is_refused_first(people, faces, tmp_path, monkeypatch, out, message, more):
    monkeypatch.setattr(extraction, "extract_features", lambda *_, **__: pytest.fail("began"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "x.info.json").mkdir()
    output = embed(people, faces, f"--out={tmp_path / out}", *more, code=2)
    assert f"{tmp_path}/{message}" in " ".join(output.split())


def test_bad_recognisers(people, faces, tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "x.pth")
    for model, reason in (("x.pth", "not the weights of"), ("absent.pth", "no such file")):
        output = run(create_identity_features, "--data-folder", faces, "--device=cpu",
                     "--rec-model", tmp_path / model, code=2)  # fmt: skip
        assert reason in output
        assert model in output
    assert not (faces / "identity_features.json").exists()
