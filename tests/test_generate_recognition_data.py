"""New people from start to end, on a 16x16 network and a recogniser of random weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import generate_recognition_data
from data.pixels import decode_image
from data.recordio import RecordReader
from data.shards import read_shard
from recognition import recognition_dataset, setup
from recognition.embedding import load_embedder
from recognition.faces import FaceReason, FaceVerdict
from recognition.features import IdentityFeatures, read_identity_features
from recognition.step_files import StepFiles
from tests.helpers.interpreters import read_tree, save_small_snapshot
from tests.helpers.people import (
    clustered_features,
    save_recogniser,
    save_varied_snapshot,
    write_features,
    write_people,
)

ROOT = Path(__file__).resolve().parents[1]
IDS, SAMPLES = 5, 6
LIMITS = {"privacy": 0.999, "same-identity": 0.5, "too-similar": 0.9999}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Networks, training people, and one data set."""
    folder = tmp_path_factory.mktemp("shop")
    save_recogniser(folder / "rec.pth")
    save_varied_snapshot(folder / "net.pkl")
    write_people(folder / "data", folder / "rec.pth", people=8)
    run(folder, "--outdir", folder / "out")
    return folder


def arguments(shop, *more, **changes):
    values = {
        "gen_model": shop / "net.pkl",
        "rec_model": shop / "rec.pth",
        "training_ids": shop / "data" / "identity_features.json",
        "ids": IDS,
        "samples_per_id": SAMPLES,
        "truncation": 1,
        "device": "cpu",
        **LIMITS,
        **changes,
    }
    values["max-attempts"] = values.pop("max_attempts", None)
    given = [f"--{name}={value}" for name, value in values.items() if value is not None]
    return [*given, *map(str, more)]


def run(shop, *more, code=0, **changes):
    line = arguments(shop, *more, **changes)
    result = CliRunner().invoke(generate_recognition_data.main, line)
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


# What is written


def test_the_layout_is_the_published_one(shop):
    names = set(read_tree(shop / "out"))
    expected = {
        f"id_{k}/{place}/sample_{i}_{place}.png"
        for k in range(IDS)
        for i in range(SAMPLES)
        for place in ("VIS", "NIR")
    }
    expected |= {f"id_{k}_samples_{place}.png" for k in range(IDS) for place in ("VIS", "NIR")}
    ours = {"manifest.jsonl", "rejected.jsonl", "summary.json", "features.npy"}
    assert names == expected | ours | {"overview.png", "scores.png"}
    with Image.open(shop / "out" / "id_0" / "VIS" / "sample_0_VIS.png") as image:
        assert (image.mode, image.size) == ("RGB", (16, 16))
    with Image.open(shop / "out" / "id_0" / "NIR" / "sample_0_NIR.png") as image:
        assert (image.mode, image.size) == ("L", (16, 16))
    with Image.open(shop / "out" / "id_0_samples_VIS.png") as image:
        assert image.size == (16, 16 * SAMPLES)  # fewer than 8 samples: one a row, and no error


def embed_files(shop, folder, kind):
    entries = lines(folder / "manifest.jsonl")
    channels = {"rgb": 3, "nir": 1}[kind]
    images = [decode_image(folder / e["files"][kind]["name"], channels) for e in entries]
    embedder = load_embedder(shop / "rec.pth")
    return entries, embedder.embed(torch.from_numpy(np.stack(images))).numpy()


def test_what_is_saved_is_what_was_judged(shop):
    """The saved images are embedded again, and every rule and every score is looked at."""
    out = shop / "out"
    entries, vectors = embed_files(shop, out, "rgb")
    assert len(entries) == IDS * SAMPLES
    np.testing.assert_allclose(np.load(out / "features.npy"), vectors, atol=1e-6)
    nir = embed_files(shop, out, "nir")[1]
    training = read_identity_features(shop / "data" / "identity_features.json")
    cosines = vectors @ training.vectors.T
    for row, entry in enumerate(entries):
        nearest = entry["training"]["rgb"]
        assert nearest["score"] == pytest.approx(float(cosines[row].max()), abs=3e-6)
        assert nearest["image"] == training.stems[int(cosines[row].argmax())]
        assert entry["agreement"] == pytest.approx(float(vectors[row] @ nir[row]), abs=3e-6)
        assert entry["decision"] == "accepted"
        first = row - entry["sample"]
        assert entry["identity"] == row // SAMPLES
        if entry["sample"]:
            own = float(vectors[first] @ vectors[row])
            assert entry["own_first"] == pytest.approx(own, abs=3e-6)
            assert own >= 0.5 - 1e-6
    assert cosines.max() < 0.999
    others = np.repeat(np.arange(IDS), SAMPLES)
    between = (vectors @ vectors.T)[others[:, None] != others[None]]
    assert between.max() < 0.999


def test_counts_agree(shop):
    content, out = summary(shop / "out"), shop / "out"
    rejected = lines(out / "rejected.jsonl")
    assert content["finished"]
    assert content["accepted"] == IDS * SAMPLES
    assert content["rejected"]["total"] == len(rejected) > 0
    assert content["candidates"] == content["accepted"] + len(rejected) + content["surplus"]
    assert sum(content["rejected"]["by_first_reason"].values()) == len(rejected)
    assert content["identities"]["complete"] == IDS
    assert content["identities"]["failed_to_enrol"] == []
    assert content["scores"]["agreement"]["number"] == IDS * SAMPLES
    assert all(entry["reasons"] for entry in rejected)


def test_every_file_has_its_hash(shop):
    from dnnlib.files import sha256_file  # noqa: PLC0415

    for entry in lines(shop / "out" / "manifest.jsonl"):
        for file in entry["files"].values():
            assert sha256_file(shop / "out" / file["name"]) == file["sha256"]


# Repeating, continuing, other processes


def test_repeating_says_so_and_other_options_are_refused(shop):
    before = read_tree(shop / "out")
    assert "all people are there" in run(shop, "--outdir", shop / "out")
    output = run(shop, "--outdir", shop / "out", "--seed=5", code=2)
    assert "was made with other options (people" in output
    assert read_tree(shop / "out") == before


def test_fresh_starts_beside(shop, tmp_path):
    run(shop, "--outdir", tmp_path / "o", ids=1, samples_per_id=1)
    run(shop, "--outdir", tmp_path / "o", "--fresh", ids=1, samples_per_id=1)
    assert read_tree(tmp_path / "o") == read_tree(tmp_path / "o-2")


@pytest.mark.parametrize("batch", [1, 5])
def test_the_batch_does_not_matter(shop, tmp_path, batch):
    run(shop, "--outdir", tmp_path / "o", f"--batch={batch}")
    assert read_tree(tmp_path / "o") == read_tree(shop / "out")


STOPS = {
    "scores of the second step": (StepFiles, "save_scores", 1),
    "decisions of the first step": (StepFiles, "save_decisions", 0),
    "decisions of the third step": (StepFiles, "save_decisions", 2),
    "images of the second step": (StepFiles, "save_images", 1),
    "grids": (recognition_dataset, "write_person_sheets", 2),
    "overview": (recognition_dataset, "write_overview", 0),
    "end": (recognition_dataset, "summarise_dataset", 0),
}


@pytest.mark.parametrize("name", STOPS)
def test_a_killed_run_continues_to_the_same_bytes(shop, tmp_path, monkeypatch, name):
    owner, function, calls = STOPS[name]
    original, count = getattr(owner, function), []

    def stop(*values):
        count.append(1)
        if len(count) > calls:
            raise KeyboardInterrupt
        return original(*values)

    with monkeypatch.context() as patch:
        patch.setattr(owner, function, stop)
        run(shop, "--outdir", tmp_path / "o", code=1)
    assert not summary(tmp_path / "o")["finished"]
    (tmp_path / "o" / ".half.png.x.part").write_bytes(b"of a write that was killed")
    run(shop, "--outdir", tmp_path / "o")
    assert read_tree(tmp_path / "o") == read_tree(shop / "out")


def test_what_is_done_is_not_done_again(shop, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(recognition_dataset, "write_overview", raise_interrupt)
        run(shop, "--outdir", tmp_path / "o", code=1)
    drawn = []
    original = recognition_dataset.CandidateDrawer.draw

    def draw(self, candidates):
        drawn.append(len(candidates))
        return original(self, candidates)

    monkeypatch.setattr(recognition_dataset.CandidateDrawer, "draw", draw)
    run(shop, "--outdir", tmp_path / "o")
    assert drawn == []


def test_images_that_come_out_differently_after_a_kill_are_judged_again(
    shop, tmp_path, monkeypatch
):
    """A training image stands for what another device draws."""
    with monkeypatch.context() as patch:
        patch.setattr(StepFiles, "save_images", raise_interrupt)
        run(shop, "--outdir", tmp_path / "o", code=1)
    original = recognition_dataset.CandidateDrawer.draw

    def draw(self, candidates):
        drawn = original(self, candidates)
        planted = {
            name: decode_image(shop / "data" / place / "2_1.png", len(drawn[name][0]))
            for name, place in (("rgb", "VIS"), ("nir", "NIR"))
        }
        return {
            name: torch.from_numpy(image).expand_as(drawn[name]) for name, image in planted.items()
        }

    monkeypatch.setattr(recognition_dataset.CandidateDrawer, "draw", draw)
    output = run(shop, "--outdir", tmp_path / "o", code=2)
    assert "come out differently now and do not pass" in output


def raise_interrupt(*_arguments):
    raise KeyboardInterrupt


def test_two_processes_write_the_same_bytes(shop, tmp_path, monkeypatch):
    many = {"ids": 30, "samples_per_id": 5}  # several chunks a step
    run(shop, "--outdir", tmp_path / "one", **many)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    line = arguments(shop, "--outdir", tmp_path / "two", **many)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command += [str(ROOT / "generate_recognition_data.py"), *line]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert read_tree(tmp_path / "two") == read_tree(tmp_path / "one")


def test_two_runs_in_one_folder_are_kept_apart(shop, tmp_path):
    from dnnlib.runs import lock_run  # noqa: PLC0415

    with lock_run(make(tmp_path / "o")):
        output = run(shop, "--outdir", tmp_path / "o", code=2)
    assert "another process is at work" in output


def make(folder):
    folder.mkdir()
    return folder


# The filter


def test_planted_training_images_never_pass(shop, tmp_path):
    """Training people whose images the generator draws exactly: none of them comes out again."""
    entries, vectors = embed_files(shop, shop / "out", "rgb")
    stems = [f"{e['identity']}_{e['sample']}" for e in entries]
    content = dict(zip(stems, vectors.tolist(), strict=True))
    (tmp_path / "planted.json").write_text(json.dumps(content))
    run(shop, "--outdir", tmp_path / "o", training_ids=tmp_path / "planted.json", privacy=0.9999)
    known = {e["files"]["rgb"]["sha256"] for e in entries}
    again = lines(tmp_path / "o" / "manifest.jsonl")
    assert again
    assert not known & {entry["files"]["rgb"]["sha256"] for entry in again}
    refused = {
        (e["identity"], e["origin"]["vector"], e["origin"]["attempt"])
        for e in lines(tmp_path / "o" / "rejected.jsonl")
        if "training_person" in e["reasons"]
    }
    origins = [(e["identity"], e["origin"]["vector"], e["origin"]["attempt"]) for e in entries]
    assert all(origin in refused for origin in origins if origin[1:] == (0, 0))


@pytest.mark.parametrize("rules", ["strict", "published"])
def test_samples_without_a_face_are_counted(shop, tmp_path, monkeypatch, rules):
    """Ours look at every sample, the published rules at the first of a person."""

    class DarkIsNoFace:
        def __call__(self, images):
            dark = [float(image.float().mean()) < 120 for image in images]
            return [FaceVerdict(reasons=(FaceReason.NO_FACE,) if d else ()) for d in dark]

        def describe(self):
            return {"kind": "dark"}

    monkeypatch.setattr(setup, "face_check", lambda *_a, **_k: DarkIsNoFace())
    run(shop, "--outdir", tmp_path / "o", f"--rules={rules}", max_attempts=400)
    entries = lines(tmp_path / "o" / "manifest.jsonl")
    means = [decode_image(tmp_path / "o" / e["files"]["rgb"]["name"], 3).mean() for e in entries]
    assert all(m >= 120 for m, e in zip(means, entries, strict=True) if e["sample"] == 0)
    assert (min(means) >= 120) == (rules == "strict")
    content = summary(tmp_path / "o")
    assert content["rejected"]["faces"]["no face"] > 0
    assert content["identity"]["filter"]["face_check"] == {"kind": "dark"}


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


def test_published_rules(shop, tmp_path):
    changes = {name: None for name in LIMITS}
    run(shop, "--outdir", tmp_path / "o", "--rules=published", ids=2, samples_per_id=2,
        max_attempts=30, **changes)  # fmt: skip
    rules = summary(tmp_path / "o")["rules"]
    assert (rules["privacy"], rules["same_identity"], rules["too_similar"]) == (0.622, 0.622, 0.853)
    assert rules["is_absolute"]
    assert rules["training"] == "first"


def test_people_who_cannot_be_found_are_reported(shop, tmp_path):
    output = run(shop, "--outdir", tmp_path / "o", privacy=-1, ids=3, max_attempts=10)
    assert "0 samples of 0 whole people" in output
    assert "3 none; 30 candidates rejected" in output
    content = summary(tmp_path / "o")
    assert content["identities"]["failed_to_enrol"] == [0, 1, 2]
    assert content["identities"]["failure_to_enrol_rate"] == 1
    assert content["rejected"]["by_first_reason"] == {"training_person": 30}
    assert len(np.load(tmp_path / "o" / "features.npy")) == 0
    output = run(shop, "--outdir", tmp_path / "p", "--strict", privacy=-1, max_attempts=4, code=1)
    assert "--strict" in output


def test_incomplete_people_keep_what_they_have(shop, tmp_path):
    run(shop, "--outdir", tmp_path / "o", max_attempts=8, ids=3, samples_per_id=7)
    people = summary(tmp_path / "o")["identities"]
    found = lines(tmp_path / "o" / "manifest.jsonl")
    for entry in people["incomplete"]:
        assert entry["attempts"] == 8
        own = [e["sample"] for e in found if e["identity"] == entry["identity"]]
        assert own == list(range(entry["samples"]))
    assert people["incomplete"]


def test_disagreeing_pairs_are_counted(shop, tmp_path):
    run(shop, "--outdir", tmp_path / "o", "--min-agreement=0.5", ids=2, max_attempts=20)
    content = summary(tmp_path / "o")
    assert content["rejected"]["by_any_reason"]["disagreement"] > 0
    agreements = [entry["agreement"] for entry in lines(tmp_path / "o" / "manifest.jsonl")]
    assert all(agreement >= 0.5 for agreement in agreements)


# Calibration


@pytest.fixture
def many_people(shop, tmp_path):
    """Features of 90 people in the recogniser's space, as if it had made them."""
    features = clustered_features(90, 3, width=6, spread=0.2)
    content = dict(zip(features.stems, features.vectors.tolist(), strict=True))
    path = tmp_path / "identity_features.json"
    path.write_text(json.dumps(content))
    return path


def test_calibrate_alone_writes_thresholds_and_a_plot(shop, many_people, tmp_path):
    wanted = {"training_ids": many_people, "gen_model": None}
    output = run(shop, "--calibrate", "--dry-run", **wanted)
    assert "privacy" in output
    assert not (tmp_path / "thresholds.json").exists()
    run(shop, "--calibrate=0.01", **wanted)
    thresholds = json.loads((tmp_path / "thresholds.json").read_text())
    assert thresholds["fmr"] == 0.01
    assert thresholds["identities"] == 90
    with Image.open(tmp_path / "thresholds.png") as image:
        assert image.size == (900, 434)
    # They are found beside the features, and kept with the data set.
    changes = {name: None for name in LIMITS}
    run(shop, "--outdir", tmp_path / "o", training_ids=many_people, ids=1, samples_per_id=2,
        max_attempts=5, **changes)  # fmt: skip
    assert summary(tmp_path / "o")["rules"]["privacy"] == thresholds["privacy"]
    assert json.loads((tmp_path / "o" / "thresholds.json").read_text()) == thresholds


def test_without_thresholds_strict_rules_calibrate(shop, many_people, tmp_path):
    changes = {name: None for name in LIMITS}
    run(shop, "--outdir", tmp_path / "o", training_ids=many_people, ids=1, samples_per_id=2,
        max_attempts=5, **changes)  # fmt: skip
    assert json.loads((tmp_path / "o" / "thresholds.json").read_text())["fmr"] == 0.001
    assert not (tmp_path / "thresholds.json").exists()


def test_thresholds_of_other_features_are_refused(shop, many_people, tmp_path):
    run(shop, "--calibrate", training_ids=many_people, gen_model=None)
    content = json.loads((tmp_path / "thresholds.json").read_text())
    content["features"] = "f" * 64
    (tmp_path / "thresholds.json").write_text(json.dumps(content))
    changes = {name: None for name in LIMITS}
    output = run(shop, "--outdir", tmp_path / "o", training_ids=many_people, code=2, **changes)
    assert "calibrated on other features" in output


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
        records = RecordReader(place / "train.rec").images()
        found = [(int(record.labels[0]), record.content) for record in records]
    else:
        samples = read_shard(place / "shard-000000.tar")
        found = [(int(parts["cls"]), parts["png"]) for _, parts in samples]
    assert found == expected
    assert (place.parent / "NIR").is_dir()


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
    "NaN": ({"training_ids": "nan.json"}, "vectors must be finite"),
    "zero": ({"training_ids": "zero.json"}, "vectors must be other than zero"),
    "unreadable JSON": ({"training_ids": "cut.json"}, "cut.json: not valid JSON"),
    "too few vectors": ({"identity-source": "two.npy"}, "--ids must be at most 2"),
    "no such source": ({"identity-source": "gone.npy"}, "gone.npy: no such file"),
    "audit by itself": ({"audit-model": "REC"}, "is --rec-model itself, which proves nothing"),
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
        ({"ids": 0}, "--ids"),
        ({"truncation": "much"}, "--truncation"),
        ({"truncation": "nan"}, "--truncation must be a finite number, got nan"),
        ({"feature-scale": "inf"}, "--feature-scale must be a finite number, got inf"),
        ({"mix-layers": "0-99"}, "--mix-layers must be from 0 to 5 here, got 99"),
        ({"mix-layers": "x"}, "--mix-layers: numbers must be written like"),
        ({"privacy": 2}, "--privacy"),
        ({"too-similar": 0.3}, "must be above same_identity"),
        ({"privacy": None}, "needs at least 3000 pairs of people"),
        ({"calibrate": 0}, "--calibrate"),
        ({"audit-features": "x.json"}, "--audit-features needs --audit-model"),
        ({"face-check": "eyes"}, "--face-check"),
    ],
)
def test_bad_values_are_refused(shop, tmp_path, changes, message):
    output = run(shop, code=2, **{"outdir": tmp_path / "o", **changes})
    assert message in output
    assert not (tmp_path / "o").exists()


def test_features_of_one_vector_a_person_are_no_proof(shop, tmp_path):
    features = read_identity_features(shop / "data" / "identity_features.json")
    info = {**features.info.__dict__, "vectors": "one"}
    from recognition.features import FeatureInfo, write_identity_features  # noqa: PLC0415

    one = IdentityFeatures(stems=features.stems, vectors=features.vectors, info=FeatureInfo(**info))
    write_identity_features(tmp_path / "one.json", one, list(one.stems))
    output = run(shop, "--outdir", tmp_path / "o", training_ids=tmp_path / "one.json", code=2)
    assert "holds one vector a person" in output


def test_a_config_file_gives_the_same(shop, tmp_path):
    names = {"ids": 2, "samples_per_id": 2}
    (tmp_path / "c.json").write_text(json.dumps({"ids": 2, "samples-per-id": 2}))
    run(shop, "--outdir", tmp_path / "a", **names)
    changes = {"ids": None, "samples_per_id": None}
    run(shop, "--outdir", tmp_path / "b", "--config", tmp_path / "c.json", **changes)
    assert read_tree(tmp_path / "a") == read_tree(tmp_path / "b")


def test_help_shows_two_examples():
    result = CliRunner().invoke(generate_recognition_data.main, ["--help"])
    assert result.exit_code == 0
    assert result.output.count("generate_recognition_data.py --") >= 2
