import json
import sys

import numpy as np
import pytest
from PIL import Image

import prepare_dataset
from biometrics.alignment import fit_similarity, template_points, warp
from biometrics.import_faces import ImportFaces, build_import_faces
from data.importing import writer
from data.importing.faces import SHEET_FILE, Refusal
from data.importing.options import FaceMethod, ImportOptions
from data.importing.plan import Reason, build_plan
from data.info import INFO_FILE
from dnnlib.files import read_json
from tests.helpers.faces import FakeDetector, face_at, frontal_face
from tests.helpers.images import random_pixels, truncate, write_image, write_pairs, zip_folder

SIDE = 32
ALIGNED = {"align": FaceMethod.MTCNN, "resolution": SIDE}


def tilted(image):
    """One face, larger the brighter the first pixel is."""
    angle, scale = 0.3, 1 + image[0, 0, 0] / 1000
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) * scale
    return [face_at((template_points(SIDE) - 16) @ turn + 24)]


def run(outdir, find=tilted, workers=None, is_strict=False, **options):
    resolved = ImportOptions(**options)
    faces = ImportFaces(resolved, FakeDetector(find)) if find else None
    plan = build_plan(resolved)
    return writer.run_import(
        resolved, plan, outdir, faces=faces, workers=workers, is_strict=is_strict
    )


def tree(root):
    return {p.relative_to(root): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def pixels_of(path):
    return np.asarray(Image.open(path))


@pytest.fixture
def raw(tmp_path):
    return write_pairs(tmp_path / "raw", size=48)


# Aligned pairs


def test_both_images_of_a_pair_are_moved_alike(tmp_path, raw):
    options = {"align_margin": 0.25, "align_max_outside": 1.0}
    summary = run(tmp_path / "out", source=str(raw), **options, **ALIGNED)
    assert summary.report["pairs"] == 4
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
    options = ImportOptions(source=str(raw), **ALIGNED)
    detector = FakeDetector(tilted)
    writer.run_import(
        options, build_plan(options), tmp_path / "out", faces=ImportFaces(options, detector)
    )
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

    summary = run(tmp_path / "out", with_keeper, source=str(raw), **ALIGNED, **options)
    found = {entry["reason"] for entry in summary.report["left_out_files"]}
    return found, summary


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
    found, summary = reason_of(raw, tmp_path, find)
    assert found == {reason.value}
    assert summary.report["left_out"] == {reason.value: 4}
    assert summary.report["pairs"] == 1
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
        run(tmp_path / "out", lambda _: [], is_strict=True, source=str(raw), **ALIGNED)
    with pytest.raises(ValueError, match="no pair can be imported; left out: 4 no face"):
        run(tmp_path / "out", lambda _: [], source=str(raw), **ALIGNED)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_other_reasons_are_not_on_the_sheet(tmp_path, raw):
    truncate(raw / "NIR/1_0.png", 0.7)
    summary = run(tmp_path / "out", source=str(raw), **ALIGNED)
    assert summary.report["left_out"] == {Reason.UNREADABLE.value: 1}
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
    options = {"face_check": FaceMethod.MTCNN, "resolution": SIDE}
    summary = run(tmp_path / "out", turned, source=str(raw), **options)
    assert shapes == [(SIDE, SIDE, 3)] * 4
    (entry,) = summary.report["left_out_files"]
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
    run(tmp_path / "eyes", None, source=str(raw), face_check=FaceMethod.NONE)
    assert read_json(tmp_path / "eyes" / INFO_FILE)["face_check"] == "none"
    run(tmp_path / "aligned", source=str(raw), align_margin=0.1, align_max_outside=1.0, **ALIGNED)
    info = read_json(tmp_path / "aligned" / INFO_FILE)
    assert info["alignment"] == {"template": "arcface", "margin": 0.1}
    assert info["faces"]["detector"] == {"name": "fake"}
    assert (info["resolution"], info["pairs"]) == (SIDE, 4)


def test_imports_from_before_these_options_are_known_again(tmp_path, raw):
    run(tmp_path / "out", None, source=str(raw))
    path = tmp_path / "out" / writer.REPORT_FILE
    report = read_json(path)
    report["options"] = {
        k: v for k, v in report["options"].items() if not k.startswith(("align", "face"))
    }
    path.write_text(json.dumps(report))
    assert not run(tmp_path / "out", None, source=str(raw)).is_new
    with pytest.raises(ValueError, match=r"other options \(align none -> mtcnn, resolution"):
        run(tmp_path / "out", source=str(raw), **ALIGNED)


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"align": FaceMethod.MTCNN}, "--align=mtcnn needs --resolution, got none"),
        ({**ALIGNED, "crop": "none"}, "--crop must be left out with --align=mtcnn, got 'none'"),
        ({"align_margin": -0.1}, r"--align-margin must be in 0..4.0, got -0.1"),
        ({"align_margin": float("nan")}, "--align-margin must be in"),
        ({"align_max_upscale": 0.0}, "--align-max-upscale must be above 0, got 0"),
        ({"align_max_outside": 1.1}, r"--align-max-outside must be in 0..1, got 1.1"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ImportOptions(source="a", **options)


def test_a_detector_is_built_only_where_it_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "facenet_pytorch", None)
    assert build_import_faces(ImportOptions(source="a")) is None
    assert build_import_faces(ImportOptions(source="a", face_check=FaceMethod.NONE)) is None
    with pytest.raises(ValueError, match="pip install -r requirements-extras.txt"):
        build_import_faces(ImportOptions(source="a", **ALIGNED))


def test_a_detector_must_be_handed_over(tmp_path, raw):
    with pytest.raises(ValueError, match="need a face detector, got none"):
        run(tmp_path / "out", None, source=str(raw), **ALIGNED)


def test_refusals_name_what_was_found():
    faces = ImportFaces(
        ImportOptions(source="a", **ALIGNED),
        FakeDetector(lambda _: [frontal_face(), frontal_face(probability=0.95)]),
    )
    image = Image.new("RGB", (48, 48))
    refusal = faces.align({"rgb": image, "nir": image.convert("L")}, SIDE)
    assert isinstance(refusal, Refusal)
    assert refusal.detail == "2 found, likeliest 1.000"
    assert len(refusal.boxes) == 2


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
    assert "left out: 1 no face" in result.output
    assert str(tmp_path / "out" / SHEET_FILE) in result.output
    assert pixels_of(tmp_path / "out/VIS/0000_000.png").shape == (64, 64, 3)
    strict = invoke("import", *arguments, "--outdir", tmp_path / "strict", "--strict")
    assert strict.exit_code == 2
    assert "--strict: 1 no face" in " ".join(strict.output.split())
    assert not (tmp_path / "strict").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--align", "mtcnn"], "--align=mtcnn needs --resolution"),
        (["--align", "yolo"], "'yolo' is not one of 'none', 'mtcnn'"),
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
