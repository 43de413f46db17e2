"""evaluate.py finds wrong options before it embeds an image, in a dry run too."""

import json
import shutil

import pytest
from click.testing import CliRunner

from biometrics.recogniser_settings import RecogniserSettings, write_settings
from evaluate import main
from evaluation import topic
from tests.helpers.images import random_pixels, truncate, write_image, write_pairs
from tests.helpers.people import SIDE, save_recogniser, save_varied_snapshot

NAMES = [f"{person}_{image}" for person in range(4) for image in range(2)]
WORK = (
    "evaluation.faces.embed_samples",
    "evaluation.verification.embed_distances",
    "evaluation.quality.evaluate",
    "evaluation.masks.score_masks",
    "evaluation.training_curves.plot_curves",
)
LINES = {
    "images": ["--images={samples}", "--data={data}", "--metrics=fid8", "--extractor=standin"],
    "masks": ["--true={masks}", "--found={masks}"],
    "verification": ["--data={data}", "--rec-model={model}"],
    "dataset": ["--data={data}", "--rec-model={model}"],
    "privacy": ["--samples={samples}", "--data={data}", "--rec-model={model}"],
    "report": ["--samples={samples}", "--data={data}", "--rec-model={model}"],
    "training": ["{run}"],
}
DRY = pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["run", "dry run"])


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("early")
    listed = write_pairs(root / "listed", NAMES, size=SIDE)
    (listed / "attributes.json").write_text("[]", encoding="utf-8")
    damaged = write_image(root / "damaged" / "0_0.png", random_pixels(0, SIDE, 1))
    truncate(damaged)
    pairs = "first,second,same\n0_0,0_1,1\n"
    (root / "unknown.csv").write_text(f"{pairs}0_0,99_1,0\n", encoding="utf-8")
    (root / "alike.csv").write_text(pairs, encoding="utf-8")
    (root / "file").touch()
    write_image(root / "masks" / "0_0.png", random_pixels(1, SIDE, 1) % 2)
    model = save_recogniser(root / "a.pth")
    write_settings(shutil.copy(model, root / "copy.pth"), RecogniserSettings(std=(128.0,)))
    return {
        "root": root,
        "run": root,
        "listed": listed,
        "damaged": damaged.parent,
        "masks": root / "masks",
        "data": write_pairs(root / "data", NAMES, size=SIDE),
        "samples": write_pairs(root / "samples", NAMES, size=SIDE),
        "model": model,
        "conditional": save_varied_snapshot(root / "conditional.pkl"),
    }


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    monkeypatch.setenv("BIFACE_OFFLINE", "1")
    monkeypatch.setenv("BIFACE_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def _no_work(monkeypatch):
    def work(*_arguments, **_named):
        raise AssertionError("the work was begun")

    for name in WORK:
        monkeypatch.setattr(name, work)


def run(places, command, *arguments):
    line = [str(argument).format(**places) for argument in (*LINES[command], *arguments)]
    return CliRunner().invoke(main, [command, *line])


def check_refusal(result, message):
    assert result.exit_code == 2, (result.output, result.exception)
    assert message in " ".join(result.output.split())


@DRY
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threshold=abc"], "--threshold must be FMR:COSINE"),
        (["--metrics=bogus"], "metric 'bogus' is not known"),
        (["--metrics=is10", "--extractor=standin"], "standin: has no probabilities network"),
        (["--metrics=fid9_full", "--extractor=standin"], "needs 9 images, samples has 8"),
        (["--extractor=nosuch"], "--extractor must be one of reference"),
        (["--extractor=reference"], "--extractor=standin needs no file"),
        (["--extractor=torchscript:absent.pt"], "absent.pt"),
        (["--masks", "absent", "{masks}"], "absent: no such folder"),
        (["--masks", "{masks}", "{damaged}"], "0_0.png"),
        (["--network=absent.pkl"], "absent.pkl: no such snapshot"),
        (["--network={model}"], "a.pth: not a snapshot"),
        (["--network={conditional}", "--extractor=standin"], "identity_features.json"),
        (["--data={listed}"], "attributes.json: expected an object"),
        (["--audit-model=absent.pth"], "absent.pth"),
        (["--heldout=absent"], "absent: no such folder"),
    ],
)
@pytest.mark.usefixtures("_no_work")
def test_a_report_of_wrong_options(places, tmp_path, options, message, dry):
    result = run(places, "report", *options, *dry, f"--outdir={tmp_path / 'out'}")
    check_refusal(result, message)
    assert not (tmp_path / "out").exists()


def test_what_the_data_do_not_allow_is_a_gap(places, tmp_path):
    """The default metrics are of all modalities of the samples; nobody asked for those."""
    for name in NAMES:
        write_image(tmp_path / "rgb" / f"{name}_RGB.png", random_pixels(0, SIDE))
    line = ["report", f"--samples={places['samples']}", f"--data={tmp_path / 'rgb'}"]
    line += ["--extractor=standin", "--device=cpu", f"--outdir={tmp_path / 'out'}"]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 0, result.output
    left_out = json.loads((tmp_path / "out" / "report.json").read_text())["left_out"]
    (reason,) = [entry["why"] for entry in left_out if entry["what"] == "Image quality"]
    assert reason == "metric fid8_full_NIR: needs nir images, rgb has rgb"
    check_refusal(CliRunner().invoke(main, [*line, "--metrics=fid8_full_NIR"]), reason)


@pytest.mark.parametrize("command", LINES)
@pytest.mark.usefixtures("_no_work")
def test_outdir_is_a_file(places, tmp_path, command):
    place = tmp_path / "file"
    place.touch()
    for outdir in (place, place / "below"):
        result = run(places, command, f"--outdir={outdir}")
        check_refusal(
            result, f"--outdir {outdir}: must be a folder or absent, {place} is no folder"
        )


@DRY
@pytest.mark.usefixtures("_no_work")
def test_outdir_is_closed(places, tmp_path, dry, monkeypatch):
    monkeypatch.setattr(topic.os, "access", lambda path, _mode: path != tmp_path)
    result = run(places, "dataset", *dry, f"--outdir={tmp_path / 'new' / 'out'}")
    check_refusal(result, f"must be writable, {tmp_path} is not")


def test_outdir_may_be_absent(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path, tmp_path / "a" / "b", tmp_path.relative_to(tmp_path)):
        topic.check_outdir(path)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="link is no folder"):
        topic.check_outdir(link)
    assert list(tmp_path.iterdir()) == [link]


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("dataset", ["--data={listed}"], "listed/attributes.json: expected an object"),
        ("dataset", ["--real={samples}", "--extractor=nosuch"], "--extractor must be one of"),
        ("dataset", ["--threshold=2:0.4"], "--threshold must be FMR:COSINE"),
        ("dataset", ["--rec-model=absent.pth"], "absent.pth"),
        (
            "verification",
            ["--pairs={root}/unknown.csv"],
            "unknown.csv, pair 2: no rgb image '99_1'",
        ),
        ("verification", ["--pairs={root}/alike.csv"], "alike.csv: pairs must be of both kinds"),
        ("verification", ["--pairs={root}/absent.csv"], "absent.csv: no such file"),
        ("verification", ["--bin={root}/file"], "file: not a .bin of pairs"),
        (
            "privacy",
            ["--heldout={data}"],
            "held-out identities must not be training identities; 4 are both",
        ),
        ("privacy", ["--audit-model={model}"], "must be another recogniser"),
        ("privacy", ["--audit-model={root}/copy.pth"], "must be another recogniser"),
    ],
)
@pytest.mark.usefixtures("_no_work")
def test_small_files_are_read_first(places, tmp_path, command, options, message):
    result = run(places, command, *options, f"--outdir={tmp_path / 'out'}")
    check_refusal(result, message)
    assert not (tmp_path / "out").exists()
