import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import make_training_data
import preprocess_annotations
from tests.helpers.interpreters import paint_masks, read_tree, save_small_snapshot

OCULAR = Path(__file__).resolve().parents[2] / "shared" / "ocular" / "experiment"


def run(*arguments, code=0):
    result = CliRunner().invoke(preprocess_annotations.main, [str(value) for value in arguments])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.fixture
def painted(tmp_path):
    folder = paint_masks(tmp_path / "painted", [1, 0], classes=4)
    for number in (0, 1):
        Image.new("RGB", (16, 16)).save(folder / f"image_{number}.jpg")
    np.save(tmp_path / "z.npy", np.arange(16.0).reshape(2, 8))
    return folder


def process(painted, outdir, *arguments, code=0):
    latents = ("--latents", painted.parent / "z.npy")
    return run("--annotations", painted, *latents, "--outdir", outdir, *arguments, code=code)


def test_the_published_layout_is_written_once(painted, tmp_path):
    assert "wrote 2 masks" in process(painted, tmp_path / "out")
    first = read_tree(tmp_path / "out")
    assert {"image_mask0.npy", "image_mask1.npy", "image_0.jpg", "latent_stylegan.npy",
            "classes.json", "check_sheet.jpg", "annotations.json"} <= first.keys()  # fmt: skip
    assert "finished before" in process(painted, tmp_path / "out")
    assert read_tree(tmp_path / "out") == first


def test_repainted_masks_go_to_another_folder(painted, tmp_path):
    process(painted, tmp_path / "out")
    first = read_tree(tmp_path / "out")
    Image.fromarray(np.zeros([16, 16], np.uint8)).save(painted / "image_0_mask.png")
    assert "content_sha256" in process(painted, tmp_path / "out", code=2)
    assert read_tree(tmp_path / "out") == first
    process(painted, tmp_path / "out", "--fresh")
    assert int(np.load(tmp_path / "out-2" / "image_mask0.npy").max()) == 0


def test_bad_annotations_end_with_one_message(painted, tmp_path):
    np.save(tmp_path / "z.npy", np.zeros([1, 8]))
    assert "image 1 has no latent" in process(painted, tmp_path / "out", code=2)
    assert not (tmp_path / "out").exists()


def test_far_colours_can_be_let_in(painted, tmp_path):
    Image.new("RGB", (16, 16), (99, 0, 0)).save(painted / "image_1_mask.png")
    assert "[99, 0, 0] (256 pixels)" in process(painted, tmp_path / "out", code=2)
    process(painted, tmp_path / "out", "--max-distance", 120)
    assert int(np.load(tmp_path / "out" / "image_mask1.npy").max()) == 0


def test_classes_are_counted_and_a_mask_of_one_class_is_a_warning(painted, tmp_path, caplog):
    Image.fromarray(np.zeros([16, 16], np.uint8)).save(painted / "image_0_mask.png")
    process(painted, tmp_path / "out")
    (alone,) = [r for r in caplog.records if "image_0_mask.png" in r.getMessage()]
    (several,) = [r for r in caplog.records if "image_1_mask.png" in r.getMessage()]
    assert (alone.levelname, several.levelname) == ("WARNING", "INFO")
    assert "background 100.0%" in alone.getMessage()


def test_automatic_annotation_of_drawn_faces(tmp_path, monkeypatch):
    from renderer import auto_annotate  # noqa: PLC0415  # torch after the script's --help

    save_small_snapshot(tmp_path / "net.pkl")
    (tmp_path / "exp.json").write_text("{}")
    drawn = CliRunner().invoke(
        make_training_data.main,
        ["--exp", str(tmp_path / "exp.json"), "--network", str(tmp_path / "net.pkl"),
         "--sv-path", str(tmp_path / "drawn"), "--num-sample", "5", "--select", "2"],
    )  # fmt: skip
    assert drawn.exit_code == 0, drawn.output
    small = {"renders": 8, "heldout": 2, "width": 4, "steps": 3}

    original = auto_annotate.AnnotatorOptions
    monkeypatch.setattr(
        auto_annotate, "AnnotatorOptions", lambda **changes: original(**{**small, **changes})
    )
    before = sorted((tmp_path / "drawn").iterdir())
    plan = run("--auto", "example4", "--drawn", tmp_path / "drawn", "--outdir", tmp_path / "out",
               "--dry-run")  # fmt: skip
    assert len(json.loads(plan)["images"]) == 2
    assert sorted((tmp_path / "drawn").iterdir()) == before, "a dry run trains nothing"
    run("--auto", "example4", "--drawn", tmp_path / "drawn", "--outdir", tmp_path / "out")
    record = json.loads((tmp_path / "out" / "annotations.json").read_text())["identity"]
    proposed = json.loads((tmp_path / "drawn" / "selection.json").read_text())["images"]
    assert record["images"] == sorted(proposed)
    assert record["drawn_with"]["network"] == "G_ema"
    assert len(record["classes"]) == 4
    latents = np.load(tmp_path / "drawn" / "latent_stylegan.npy")
    kept = np.load(tmp_path / "out" / "latent_stylegan.npy")
    assert np.array_equal(kept, latents[sorted(proposed)])
    run("--auto", "example4", "--drawn", tmp_path / "drawn", "--outdir", tmp_path / "all",
        "--select", "all")  # fmt: skip
    assert (tmp_path / "all" / "image_mask4.npy").is_file()
    output = run("--auto", "example", "--drawn", tmp_path / "drawn", "--outdir", tmp_path / "x",
                 "--select", "7", code=2)  # fmt: skip
    assert "has images 0 to 4, got 7" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of --annotations and --auto"),
        (["--auto", "example"], "--auto needs --drawn"),
        (["--annotations", "x", "--select", "1"], "--select goes with --auto"),
        (["--auto", "example", "--drawn", "absent"], "no such file"),
        (["--auto", "example", "--drawn", "x", "--classes", "c.json"], "leave it out"),
    ],
)
def test_bad_options_end_with_one_message(tmp_path, arguments, message):
    assert message in run(*arguments, "--outdir", tmp_path / "out", code=2)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not OCULAR.is_dir(), reason="needs the annotations in ../shared")
def test_the_ocular_experiment_in_every_pixel(tmp_path):
    pytest.importorskip("gimpformats", reason="needs requirements-extras.txt")
    latents = np.load(OCULAR / "back_latent_stylegan.npy")
    run("--annotations", OCULAR / "eyes_GIMP", "--latents", OCULAR / "back_latent_stylegan.npy",
        "--outdir", tmp_path / "out")  # fmt: skip
    kept = np.load(tmp_path / "out" / "latent_stylegan.npy")
    for place, number in enumerate((0, 2, 20, 83, 91)):
        mask = np.load(tmp_path / "out" / f"image_mask{place}.npy")
        expected = np.load(OCULAR / "expected_masks" / f"image_{number}.npy")
        assert np.array_equal(mask, expected)
        assert np.array_equal(kept[place], latents[number])
