import sys

import numpy as np
import pytest
from PIL import Image

import prepare_dataset
from biometrics.alignment import fit_similarity, template_points, warp
from biometrics.import_faces import ImportFaces
from data.importing.job import SHEET_FILE
from data.importing.options import ImportOptions
from data.importing.plan import Reason, SkipPair
from data.info import INFO_FILE
from dnnlib.files import read_json
from tests.helpers import importing
from tests.helpers.faces import FakeDetector, face_at, frontal_face
from tests.helpers.images import random_pixels, truncate, write_image, write_pairs, zip_folder

SIDE = 32
ALIGNED = {"align": "mtcnn", "resolution": SIDE}


def tilted(image):
    """One face, larger the brighter the first pixel is."""
    angle, scale = 0.3, 1 + image[0, 0, 0] / 1000
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) * scale
    return [face_at((template_points(SIDE) - 16) @ turn + 24)]


def run(outdir, find=tilted, **options):
    faces = find and (lambda resolved: ImportFaces(resolved, FakeDetector(find)))
    return importing.run(outdir, faces, **options)


def tree(root):
    paths = [p for p in sorted(root.rglob("*.*")) if p.is_file() and p.name != "import_report.json"]
    return {path.relative_to(root): path.read_bytes() for path in paths}


def pixels_of(path):
    return np.asarray(Image.open(path))


@pytest.fixture
def raw(tmp_path):
    return write_pairs(tmp_path / "raw", size=48)


# Aligned pairs


def test_both_images_of_a_pair_are_moved_alike(tmp_path, raw):
    options = {"align_margin": 0.25, "align_max_outside": 1.0}
    report = run(tmp_path / "out", source=str(raw), **options, **ALIGNED)
    assert report["pairs"] == 4
    for stem in ("1_0", "2_1"):
        images = {
            "rgb": pixels_of(raw / f"VIS/{stem}.png"),
            "nir": pixels_of(raw / f"NIR/{stem}.png"),
        }
        (face,) = tilted(images["rgb"])
        transform = fit_similarity(face.landmarks, template_points(SIDE, 0.25))
        expected = {name: warp(image, transform, SIDE) for name, image in images.items()}
        assert np.array_equal(pixels_of(tmp_path / f"out/VIS/{stem}.png"), expected["rgb"])
        assert np.array_equal(pixels_of(tmp_path / f"out/NIR/{stem}.png"), expected["nir"])


def test_faces_are_looked_for_on_rgb_images_only(tmp_path, raw):
    detector = FakeDetector(tilted)
    faces = lambda resolved: ImportFaces(resolved, detector)  # noqa: E731
    importing.run(tmp_path / "out", faces, source=str(raw), **ALIGNED)
    assert detector.shapes == [(48, 48, 3)] * 4


def test_images_need_not_be_square_nor_as_large_as_the_result(tmp_path):
    for folder, channels in (("VIS", 3), ("NIR", 1)):
        write_image(tmp_path / "raw" / folder / "a.png", random_pixels(0, 60, channels)[:40, :31])
    face = face_at((template_points(SIDE) - 16) + [15, 20])
    run(tmp_path / "out", lambda _: [face], source=str(tmp_path / "raw"), **ALIGNED)
    assert pixels_of(tmp_path / "out/VIS/a.png").shape == (SIDE, SIDE, 3)


def test_bytes_do_not_depend_on_workers_or_interruptions(tmp_path, raw, monkeypatch):
    def some(image):
        return tilted(image) if image[0, 0, 0] % 2 else []

    (tmp_path / "a").mkdir()
    run(tmp_path / "a/out", some, workers=1, source=str(raw), **ALIGNED)
    first = tree(tmp_path / "a/out")
    assert 0 < sum(path.parts[0] == "VIS" for path in first) < 4
    calls = []

    def interrupted(image):
        calls.append(image)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return some(image)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b/out", interrupted, workers=1, source=str(raw), **ALIGNED)
    run(tmp_path / "b/out", some, workers=3, source=str(raw), **ALIGNED)
    assert tree(tmp_path / "b/out") == first


# Faces that are refused


def reason_of(raw, tmp_path, find, **options):
    (raw / "VIS/keep.png").unlink(missing_ok=True)
    for folder in ("VIS", "NIR"):  # a pair that is always taken
        write_image(raw / folder / "keep.png", np.full((48, 48), 255, np.uint8))

    def with_keeper(image):
        is_keeper = bool((image == 255).all())
        return [face_at(template_points(SIDE) + 8)] if is_keeper else find(image)

    report = run(tmp_path / "out", with_keeper, source=str(raw), **ALIGNED, **options)
    found = {entry["reason"] for entry in report["skipped_files"]}
    return found, report


NEAR_BORDER = face_at(template_points(SIDE) - 10)
REFUSED = {
    "no face": (lambda _: [], Reason.NO_FACE),
    "two": (lambda image: [*tilted(image), *tilted(image)], Reason.SEVERAL_FACES),
    "unlikely": (
        lambda image: [face_at(tilted(image)[0].landmarks, 0.9)],
        Reason.UNLIKELY_FACE,
    ),
    "small": (lambda _: [face_at(template_points(SIDE) / 2 + 16)], Reason.SMALL_FACE),
    "cut": (lambda _: [NEAR_BORDER], Reason.CUT_FACE),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_faces_are_counted_and_shown(tmp_path, raw, name):
    find, reason = REFUSED[name]
    found, report = reason_of(raw, tmp_path, find)
    assert found == {reason.value}
    assert report["skipped"] == {reason.value: 4}
    assert report["pairs"] == 1
    sheet = pixels_of(tmp_path / "out" / SHEET_FILE)
    has_frame = (sheet == [255, 64, 64]).all(axis=2).any()
    assert has_frame == (reason is not Reason.NO_FACE)


def test_limits_are_options(tmp_path, raw):
    find = REFUSED["small"][0]
    found, _ = reason_of(raw, tmp_path, find, align_max_upscale=2.01)
    assert found == set()
    (tmp_path / "b").mkdir()
    found, _ = reason_of(raw, tmp_path / "b", REFUSED["cut"][0], align_max_outside=1.0)
    assert found == set()


def test_the_likeliest_of_several_can_be_taken(tmp_path, raw):
    def two(image):
        return [face_at(NEAR_BORDER.landmarks, 0.98), *tilted(image)]

    found, _ = reason_of(raw, tmp_path, two, align_several=True)
    assert found == set()
    run(tmp_path / "one", source=str(raw), **ALIGNED)
    for path in (tmp_path / "one/VIS").glob("?_?.png"):
        assert np.array_equal(pixels_of(path), pixels_of(tmp_path / "out/VIS" / path.name))


def test_strict_makes_a_failure_fatal(tmp_path, raw):
    with pytest.raises(ValueError, match=r"--strict: 1 no face: .*VIS/1_0.png"):
        run(tmp_path / "out", lambda _: [], strict=True, source=str(raw), **ALIGNED)
    with pytest.raises(ValueError, match="no pair can be imported; skipped: 4 no face"):
        run(tmp_path / "out", lambda _: [], source=str(raw), **ALIGNED)


def test_other_reasons_are_not_on_the_sheet(tmp_path, raw):
    truncate(raw / "NIR/1_0.png", 0.7)
    report = run(tmp_path / "out", source=str(raw), **ALIGNED)
    assert report["skipped"] == {Reason.UNREADABLE.value: 1}
    assert not (tmp_path / "out" / SHEET_FILE).exists()


def test_a_sheet_from_an_archive(tmp_path, raw):
    archive = zip_folder(raw, tmp_path / "raw.zip")
    find = lambda image: tilted(image) if image[0, 0, 0] % 2 else []  # noqa: E731
    run(tmp_path / "out", find, source=str(archive), **ALIGNED)
    assert (tmp_path / "out" / SHEET_FILE).is_file()


# Face check and records


def test_the_written_image_is_what_is_checked(tmp_path, raw):
    shapes = []

    def turned(image):
        shapes.append(image.shape)
        face = frontal_face(SIDE)
        if np.array_equal(image, expected):
            face.landmarks[2, 0] = face.landmarks[1, 0]
        return [face]

    expected = np.asarray(
        Image.open(raw / "VIS/1_1.png").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    )
    options = {"face_check": "mtcnn", "resolution": SIDE}
    report = run(tmp_path / "out", turned, source=str(raw), **options)
    assert shapes == [(SIDE, SIDE, 3)] * 4
    (entry,) = report["skipped_files"]
    assert entry["name"].endswith("1_1.png")
    assert entry["reason"] == Reason.NOT_FRONTAL.value
    assert read_json(tmp_path / "out" / INFO_FILE)["face_check"] == "mtcnn"


def test_records(tmp_path, raw):
    run(tmp_path / "plain", None, source=str(raw), resolution=SIDE)
    info = read_json(tmp_path / "plain" / INFO_FILE)
    assert info["face_check"] is None
    assert info["alignment"] is None
    assert info["faces"] is None
    assert read_json(tmp_path / "plain" / INFO_FILE)["face_check"] is None
    run(tmp_path / "eyes", None, source=str(raw), face_check="none")
    assert read_json(tmp_path / "eyes" / INFO_FILE)["face_check"] == "none"
    run(tmp_path / "aligned", source=str(raw), align_margin=0.1, align_max_outside=1.0, **ALIGNED)
    info = read_json(tmp_path / "aligned" / INFO_FILE)
    assert info["alignment"] == {"template": "arcface", "margin": 0.1}
    assert info["faces"]["detector"] == {"name": "fake"}
    assert (info["resolution"], info["pairs"]) == (SIDE, 4)


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"align": "mtcnn"}, "--align=mtcnn needs --resolution, got none"),
        ({**ALIGNED, "crop": "none"}, "--crop: leave it out with --align=mtcnn"),
        ({"align_margin": -0.1}, "--align-margin must be at least 0"),
        ({"align_margin": float("nan")}, "--align-margin must be a finite"),
        ({"align_max_upscale": 0.0}, "--align-max-upscale must be more than 0"),
        ({"align_max_outside": 1.1}, "--align-max-outside must be"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ImportOptions(source="a", outdir="b", **options)


def test_refusals_name_what_was_found():
    faces = ImportFaces(
        ImportOptions(source="a", outdir="b", **ALIGNED),
        FakeDetector(lambda _: [frontal_face(), frontal_face(probability=0.95)]),
    )
    image = Image.new("RGB", (48, 48))
    with pytest.raises(SkipPair) as caught:
        faces.align({"rgb": image, "nir": image.convert("L")}, SIDE)
    assert caught.value.detail == "2 found, likeliest 1.000"
    assert len(caught.value.boxes) == 2


# The script, on drawn faces that MTCNN knows


def invoke(*arguments):
    from click.testing import CliRunner  # noqa: PLC0415

    return CliRunner().invoke(prepare_dataset.main, [str(argument) for argument in arguments])


def test_import_with_mtcnn(tmp_path):
    pytest.importorskip("facenet_pytorch", reason="needs requirements-extras.txt")
    example = tmp_path / "example"
    options = ["--identities", 2, "--samples", 1, "--resolution", 128, "--workers", 1]
    assert invoke("example", "--outdir", example, *options).exit_code == 0
    assert read_json(example / INFO_FILE)["face_check"] == "none"
    for folder in ("VIS", "NIR"):
        write_image(example / folder / "9_0.png", np.zeros((128, 128), np.uint8))
    arguments = ["--source", example, "--resolution", 64, "--align", "mtcnn"]
    arguments += ["--align-margin", "0.1", "--align-max-upscale", "4"]
    result = invoke("import", *arguments, "--outdir", tmp_path / "out", "--workers", 2)
    assert result.exit_code == 0, result.output
    assert "2 pairs of 64x64 pixels" in result.output
    assert "skipped: 1 no face" in result.output
    assert str(tmp_path / "out" / SHEET_FILE) in result.output
    assert pixels_of(tmp_path / "out/VIS/0000_000.png").shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--face-check", "yolo"], "'yolo' is not one of 'none', 'mtcnn'"),
        (["--align", "mtcnn", "--resolution", "32"], "pip install -r requirements-extras.txt"),
    ],
)
def test_bad_lines_end_with_code_2(tmp_path, raw, monkeypatch, arguments, message):
    monkeypatch.setitem(sys.modules, "facenet_pytorch", None)
    result = invoke("import", "--source", raw, "--outdir", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]
