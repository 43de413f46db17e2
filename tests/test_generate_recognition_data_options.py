"""Sources of new people, control, audit and export; spellings, a config file, and bad input."""

import json
import shutil
import tarfile

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import generate_recognition_data
from biometrics.embedding import load_embedder
from biometrics.features import IdentityFeatures, read_identity_features
from biometrics.recogniser_settings import RecogniserSettings, write_settings
from data.pixels import decode_image
from data.recordio import RecordReader
from tests.helpers.interpreters import read_tree, save_small_snapshot
from tests.helpers.people import save_recogniser, save_varied_snapshot, write_features
from tests.helpers.recognition_data import LIMITS, lines, run, summary

# New people, control, audit, export


@pytest.mark.parametrize("source", ["interpolate", "file"])
def test_other_sources_of_people(shop, tmp_path, source):
    if source == "file":
        np.save(tmp_path / "v.npy", np.random.default_rng(0).standard_normal((2, 6)))
        source = tmp_path / "v.npy"
    run(shop, "--outdir", tmp_path / "o", f"--identity-source={source}", ids=2, samples_per_id=2)
    entries = lines(tmp_path / "o" / "manifest.jsonl")
    assert entries
    keys = {"mixed", "phi"} if source == "interpolate" else {"name"}
    assert keys <= entries[0]["origin"].keys()


def test_the_null_control_is_recorded_and_needs_any_number_of_vectors(shop, tmp_path):
    run(shop, "--outdir", tmp_path / "o", "--null-control", ids=2, samples_per_id=2)
    record = json.loads((tmp_path / "o" / "summary.json").read_text())
    assert record["identity"]["people"]["null_control"] is True
    np.save(tmp_path / "v.npy", np.random.default_rng(0).standard_normal((2, 6)))
    source = f"--identity-source={tmp_path / 'v.npy'}"
    output = run(shop, "--outdir", tmp_path / "x", "--null-control", source, code=2,
                 ids=2, samples_per_id=2)  # fmt: skip
    assert "--null-control" in output


def test_the_scale_of_training_is_the_scale_of_generation(shop, tmp_path):
    def scale(*more, options=None):
        save_varied_snapshot(tmp_path / "net.pkl", options=options)
        output = run(shop, "--outdir", tmp_path / "o", "--dry-run", *more,
                     gen_model=tmp_path / "net.pkl")  # fmt: skip
        return json.loads(output[output.index("{") :])["people"]["scale"]

    assert scale() == 4
    assert scale(options={"data": {"feature_scale": 2.5}}) == 2.5
    assert scale("--feature-scale=3", options={"data": {"feature_scale": 2.5}}) == 3
    raw = scale(options={"data": {"feature_scale": None}})  # the features have unit length
    assert raw == pytest.approx(1, abs=1e-4)
    assert not (tmp_path / "o").exists()


def test_shared_variation_runs_down_the_columns(shop, tmp_path):
    outputs = {}
    for name, more in {"shared": ["--shared-variation"], "mixed": ["--mix-layers=0-1"]}.items():
        run(shop, "--outdir", tmp_path / name, *more, ids=2, samples_per_id=2)
        outputs[name] = read_tree(tmp_path / name)["id_0/VIS/sample_0_VIS.png"]
    own = read_tree(shop / "out")["id_0/VIS/sample_0_VIS.png"]
    assert len({own, *outputs.values()}) == 3


def test_an_audit_by_a_second_recogniser(shop, tmp_path):
    save_recogniser(tmp_path / "second.pth", seed=1)
    options = {"ids": 2, "samples_per_id": 3, "audit-model": tmp_path / "second.pth"}
    run(shop, "--outdir", tmp_path / "o", **options)
    audit = summary(tmp_path / "o")["audit"]
    known = load_embedder(tmp_path / "second.pth")
    write_features(shop / "data", tmp_path / "second.pth", "second.json")
    training = read_identity_features(shop / "data" / "second.json")
    names = [e["files"]["rgb"]["name"] for e in lines(tmp_path / "o" / "manifest.jsonl")]
    images = np.stack([decode_image(tmp_path / "o" / name, 3) for name in names])
    best = (known.embed(torch.from_numpy(images)).numpy() @ training.vectors.T).max(1)
    assert audit["training"]["highest"] == pytest.approx(float(best.max()), abs=3e-6)
    assert audit["highest"][0]["image"] == names[int(best.argmax())]
    assert audit["threshold"] is None  # 8 people are too few
    features = {"audit-features": shop / "data" / "second.json"}
    run(shop, "--outdir", tmp_path / "p", **options, **features)
    assert summary(tmp_path / "p")["audit"] == audit


@pytest.mark.parametrize("kind", ["imagefolder", "recordio", "webdataset"])
def test_exports_hold_the_same_images(shop, tmp_path, kind):
    run(shop, "--outdir", tmp_path / "o", f"--export={kind}", ids=2, samples_per_id=3)
    place = tmp_path / "o" / "export" / kind / "VIS"
    expected = [
        (entry["identity"], (tmp_path / "o" / entry["files"]["rgb"]["name"]).read_bytes())
        for entry in lines(tmp_path / "o" / "manifest.jsonl")
    ]
    if kind == "imagefolder":
        found = [
            (int(path.parent.name[3:]), path.read_bytes()) for path in sorted(place.glob("*/*.png"))
        ]
    elif kind == "recordio":
        reader = RecordReader(place / "train.rec")
        found = [(label, reader.record(number).content) for number, label in reader.labels()]
    else:
        with tarfile.open(place / "shard-000000.tar") as tar:
            parts = {member.name: tar.extractfile(member).read() for member in tar}
        keys = [name.removesuffix(".png") for name in parts if name.endswith(".png")]
        found = [(int(parts[f"{key}.cls"]), parts[f"{key}.png"]) for key in keys]
    assert found == expected
    assert (place.parent / "NIR").is_dir()


# Spellings, a config file, help


def test_published_spellings(shop, tmp_path):
    line = (
        f"--gen_model={shop / 'net.pkl'} --rec_model={shop / 'rec.pth'}"
        f" --training_ids={shop / 'data' / 'identity_features.json'} --outdir={tmp_path / 'o'}"
        " --gpu_device_number=0 --ids=100 --samples_per_id=32 --truncation=0.7 --seed=0"
    )
    more = ["--rules=published", "--dry-run", "--device=cpu"]
    result = CliRunner().invoke(generate_recognition_data.main, [*line.split(), *more])
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    assert (plan["identities"], plan["samples"], plan["truncation"]) == (100, 32, 0.7)
    assert plan["filter"]["rules"]["max_attempts"] == 2500


def test_a_config_file_gives_the_same(shop, tmp_path):
    names = {"ids": 2, "samples_per_id": 2}
    (tmp_path / "c.json").write_text(json.dumps({"ids": 2, "samples-per-id": 2}))
    run(shop, "--outdir", tmp_path / "a", **names)
    changes = {"ids": None, "samples_per_id": None}
    run(shop, "--outdir", tmp_path / "b", "--config", tmp_path / "c.json", **changes)
    assert read_tree(tmp_path / "a") == read_tree(tmp_path / "b")


# Bad input


def test_dry_run_writes_nothing(shop, tmp_path):
    output = run(shop, "--outdir", tmp_path / "o", "--dry-run")
    plan = json.loads(output[output.index("{") :])
    assert plan["filter"]["rules"]["privacy"] == LIMITS["privacy"]
    assert plan["micro_batch"] == 4
    assert not (tmp_path / "o").exists()


@pytest.fixture(scope="module")
def bad(shop, tmp_path_factory):
    """Files of which each is bad in one way."""
    folder = tmp_path_factory.mktemp("bad")
    save_small_snapshot(folder / "unconditional.pkl")
    save_varied_snapshot(folder / "rgb.pkl")
    (folder / "nonsense.pkl").write_bytes(b"nonsense")
    save_recogniser(folder / "wide.pth", width=8)
    save_recogniser(folder / "other.pth", seed=1)
    write_settings(
        shutil.copy(shop / "rec.pth", folder / "copy.pth"), RecogniserSettings(std=(128.0,))
    )
    good = json.loads((shop / "data" / "identity_features.json").read_text())
    first = next(iter(good))
    (folder / "nan.json").write_text(json.dumps({**good, first: [float("nan")] * 6}))
    (folder / "zero.json").write_text(json.dumps({**good, first: [0] * 6}))
    (folder / "cut.json").write_text('{\n"a": [1, 2')
    (folder / "wide.json").write_text(json.dumps({n: [*v, 1, 1] for n, v in good.items()}))
    np.save(folder / "two.npy", np.eye(6)[:2])
    return folder


REFUSED = {
    "unconditional": ({"gen_model": "unconditional.pkl"}, "unconditional.pkl: is unconditional"),
    "no snapshot": ({"gen_model": "nonsense.pkl"}, "nonsense.pkl: a snapshot is an archive"),
    "snapshot missing": ({"gen_model": "gone.pkl"}, "gone.pkl: no such snapshot"),
    "another width": (
        {"rec_model": "wide.pth", "training_ids": "wide.json"},
        "takes conditions of 6 numbers, but --rec_model gives 8",
    ),
    "features of another width": ({"training_ids": "wide.json"}, "features of 8 numbers"),
    "another recogniser": ({"rec_model": "other.pth"}, "of two recognisers cannot be compared"),
    "recogniser missing": ({"rec_model": "gone.pth"}, "gone.pth"),
    "recogniser is no backbone": ({"rec_model": "unconditional.pkl"}, "unconditional.pkl"),
    "NaN": ({"training_ids": "nan.json"}, "nan.json"),
    "zero": ({"training_ids": "zero.json"}, "zero.json"),
    "unreadable JSON": ({"training_ids": "cut.json"}, "cut.json: not valid JSON"),
    "too few vectors": ({"identity-source": "two.npy"}, "--ids must be at most 2"),
    "no such source": ({"identity-source": "gone.npy"}, "gone.npy: no such file"),
    "audit by itself": ({"audit-model": "REC"}, "is --rec-model itself, which proves nothing"),
    "audit by a copy": ({"audit-model": "copy.pth"}, "is --rec-model itself, which proves nothing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_files_are_refused_by_name(shop, bad, tmp_path, name):
    changes, message = REFUSED[name]
    files = {
        option: shop / "rec.pth" if file == "REC" else bad / file
        for option, file in changes.items()
    }
    output = run(shop, "--outdir", tmp_path / "o", code=2, **files)
    assert message in output
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gen_model": None}, "--gen_model is missing"),
        ({"outdir": None}, "--outdir is missing"),
        ({"mix-layers": "0-99"}, "--mix-layers must be from 0 to 5 here, got 99"),
        ({"mix-layers": "x"}, "--mix-layers"),
        ({"too-similar": 0.3}, "must be above same_identity"),
        ({"privacy": None}, "needs at least 3000 pairs of identities"),
        ({"audit-features": "x.json"}, "--audit-features goes with --audit-model"),
    ],
)
def test_bad_values_are_refused(shop, tmp_path, changes, message):
    output = run(shop, code=2, **{"outdir": tmp_path / "o", **changes})
    assert message in output
    assert not (tmp_path / "o").exists()


def test_features_of_one_vector_an_identity_are_no_proof(shop, tmp_path):
    features = read_identity_features(shop / "data" / "identity_features.json")
    info = {**features.info.__dict__, "vectors": "one"}
    from biometrics.features import FeatureInfo, write_identity_features  # noqa: PLC0415

    one = IdentityFeatures(stems=features.stems, vectors=features.vectors, info=FeatureInfo(**info))
    write_identity_features(tmp_path / "one.json", one, list(one.stems))
    output = run(shop, "--outdir", tmp_path / "o", training_ids=tmp_path / "one.json", code=2)
    assert "holds one vector an identity" in output
