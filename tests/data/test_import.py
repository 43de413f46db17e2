import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.dataset import PairDataset
from data.importing.options import ImportOptions, NameRule
from data.importing.plan import Reason, SkipPair, find_square
from data.labels import CLASS_FILE, IDENTITY_FILE
from data.pairs import open_pairs
from tests.helpers.images import (
    random_pixels,
    truncate,
    write_image,
    write_json,
    write_pairs,
    zip_folder,
)
from tests.helpers.importing import plan_of, run

STEMS = ["1_0", "1_1", "2_0", "2_1"]


def pixels_of(path):
    return np.asarray(Image.open(path))


def tree(root):
    return {p.relative_to(root): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def reasons(skipped):
    return {entry.name.split("/")[-1]: entry.reason for entry in skipped}


def test_images_of_the_right_size_keep_their_pixels(tmp_path):
    root = write_pairs(tmp_path / "raw", rgb="images")
    report = run(tmp_path / "out", source=str(root))
    assert report["pairs"] == 4
    for stem in STEMS:
        for old, new in (("images", "VIS"), ("NIR", "NIR")):
            written = pixels_of(tmp_path / "out" / new / f"{stem}.png")
            assert np.array_equal(written, pixels_of(root / old / f"{stem}.png"))
    assert PairDataset.open(tmp_path / "out").name == "out"


@pytest.mark.parametrize(
    ("crop", "x", "y", "side"), [("center", 12, 0, 16), ("3, 2, 8, 8", 3, 2, 8)]
)
def test_a_crop_takes_the_same_square_of_both(tmp_path, crop, x, y, side):
    image = random_pixels(0, 40)[:16]
    write_image(tmp_path / "raw/VIS/a.png", image)
    write_image(tmp_path / "raw/NIR/a.png", image[..., 1])
    run(tmp_path / "out", source=str(tmp_path / "raw"), crop=crop)
    box = image[y : y + side, x : x + side]
    assert np.array_equal(pixels_of(tmp_path / "out/VIS/a.png"), box)
    assert np.array_equal(pixels_of(tmp_path / "out/NIR/a.png"), box[..., 1])


def test_reduction_does_not_alias(tmp_path):
    checks = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    for folder in ("VIS", "NIR"):
        write_image(tmp_path / "raw" / folder / "a.png", checks)
    run(tmp_path / "out", source=str(tmp_path / "raw"), resolution=16)
    # The finest checkerboard has no content that 16 pixels can show: its mean is left.
    assert np.abs(pixels_of(tmp_path / "out/NIR/a.png").astype(int) - 127.5).max() <= 3


def test_resolution_is_the_largest_that_fits_all(tmp_path):
    root = write_pairs(tmp_path / "raw", size=70)
    write_pairs(root, ["small"], size=33)
    plan = plan_of(source=str(root))
    assert plan.resolution == 32
    assert plan.smallest == str(root / "VIS" / "small.png")
    plan = plan_of(source=str(root), resolution=64)
    assert (plan.resolution, plan.smallest, len(plan.pairs)) == (64, "", 4)
    assert reasons(plan.skipped) == {"small.png": Reason.TOO_SMALL}
    with pytest.raises(ValueError, match="--resolution 128: .* 32 fits all"):
        plan_of(source=str(root), resolution=128)


def test_all_reasons_are_reported(tmp_path):
    root = write_pairs(tmp_path / "raw", [*STEMS, "alone", "cut", "odd", "text", "tiny", "twice"])
    (root / "NIR" / "alone.png").unlink()
    truncate(root / "NIR" / "cut.png", 0.7)
    write_image(root / "NIR" / "odd.png", random_pixels(0, 32, 1))
    (root / "VIS" / "text.png").write_text("no image")
    for folder in ("VIS", "NIR"):
        write_image(root / folder / "tiny.png", random_pixels(0, 4))
        write_image(root / folder / "wide.png", random_pixels(0)[:12])
    write_image(root / "VIS" / "twice.bmp", random_pixels(0))
    report = run(tmp_path / "out", source=str(root), crop="none")
    found = {e["name"].split("/")[-1]: Reason(e["reason"]) for e in report["skipped_files"]}
    assert found == {
        "alone.png": Reason.UNPAIRED,
        "cut.png": Reason.UNREADABLE,
        "odd.png": Reason.SIZES_DIFFER,
        "text.png": Reason.UNREADABLE,
        "tiny.png": Reason.TOO_SMALL,
        "wide.png": Reason.NO_SQUARE,
        "VIS: twice.bmp, twice.png": Reason.SAME_NAME,
    }
    assert report["pairs"] == 4
    assert list(PairDataset.open(tmp_path / "out").stems) == STEMS


def test_strict_leaves_nothing_out(tmp_path):
    root = write_pairs(tmp_path / "raw")
    (root / "VIS" / "2_0.png").unlink()
    with pytest.raises(ValueError, match="--strict: 1 no partner: .*NIR/2_0.png"):
        run(tmp_path / "out", source=str(root), strict=True)


def test_nothing_to_import(tmp_path):
    root = write_pairs(tmp_path / "raw", ["a"])
    truncate(root / "VIS" / "a.png", 0.7)
    with pytest.raises(ValueError, match=r"no pair can be imported; skipped: 1 not a whole"):
        run(tmp_path / "out", source=str(root))
    (root / "VIS" / "a.png").rename(root / "VIS" / "b.png")
    with pytest.raises(ValueError, match=r"no pair can be imported; skipped: 2 no partner"):
        run(tmp_path / "out", source=str(root))


def test_two_folders_and_names_that_differ(tmp_path):
    for i, stem in enumerate(STEMS):
        write_image(tmp_path / "colour" / f"{stem}_vis.jpg", random_pixels(i))
        write_image(tmp_path / "infra" / f"{stem}_ir.png", random_pixels(9 + i, channels=1))
    write_image(tmp_path / "infra" / "other.png", random_pixels(0))
    folders = {"rgb": tmp_path / "colour", "nir": tmp_path / "infra"}
    report = run(tmp_path / "out", **folders, pair_regex=r"(\d+_\d+)_(?:vis|ir)$")
    assert report["skipped"] == {Reason.NO_NAME.value: 1}
    assert list(open_pairs(tmp_path / "out").stems) == STEMS
    nir = pixels_of(tmp_path / "infra" / "2_0_ir.png")
    assert np.array_equal(pixels_of(tmp_path / "out/NIR/2_0.png"), nir)


@pytest.mark.parametrize("archived", [False, True])
def test_one_folder_with_both_modalities(tmp_path, archived):
    root = tmp_path / "raw"
    for i, stem in enumerate(STEMS):
        write_image(root / "day" / f"{stem}_vis.png", random_pixels(i))
        write_image(root / "day" / f"{stem}_nir.png", random_pixels(9 + i, channels=1))
    source = zip_folder(root, tmp_path / "raw.zip") if archived else root
    regex = r"(?P<id>.+)_(?:(?P<rgb>vis)|(?P<nir>nir))"
    report = run(tmp_path / "out", source=str(source), pair_regex=regex)
    assert report["found"] == {"rgb": 4, "nir": 4}
    assert list(open_pairs(tmp_path / "out").stems) == [f"day/{stem}" for stem in STEMS]
    rgb = pixels_of(root / "day" / "2_0_vis.png")
    assert np.array_equal(pixels_of(tmp_path / "out/VIS/day/2_0.png"), rgb)


def test_labels_of_kept_pairs_are_kept(tmp_path):
    root = write_pairs(tmp_path / "raw", [*STEMS, "cut", "bare"])
    truncate(root / "VIS" / "cut.png", 0.7)
    features = {f"{stem}.png": [i, 0.5] for i, stem in enumerate([*STEMS, "cut"])}
    write_json(root / IDENTITY_FILE, features)
    write_json(root / "VIS" / CLASS_FILE, {"labels": [[f"VIS/{name}", 3] for name in features]})
    options = {"source": str(root), "format": "jpg"}
    report = run(tmp_path / "out", **options)
    counts = {"kept": 4, "missing": 1}
    assert report["labels"] == {IDENTITY_FILE: counts, CLASS_FILE: counts}
    written = json.loads((tmp_path / "out" / IDENTITY_FILE).read_text())
    assert written == {f"{stem}.jpg": features[f"{stem}.png"] for stem in STEMS}
    written = json.loads((tmp_path / "out" / CLASS_FILE).read_text())
    assert written == {"labels": [[f"{stem}.jpg", 3] for stem in STEMS]}
    with pytest.raises(ValueError, match="no label for 1 of 5 images: bare"):
        PairDataset.open(tmp_path / "out", use_labels=True)


def test_labels_follow_new_names(tmp_path):
    for folder, end in (("colour", "vis"), ("infra", "ir")):
        write_image(tmp_path / folder / f"7_{end}.png", random_pixels(0))
    write_json(tmp_path / "colour" / IDENTITY_FILE, {"7_vis.png": [1.5]})
    folders = {"rgb": tmp_path / "colour", "nir": tmp_path / "infra"}
    run(tmp_path / "out", **folders, pair_regex=r"(\d+)_")
    assert PairDataset.open(tmp_path / "out", use_labels=None).labels.tolist() == [[1.5]]


def test_jpeg_keeps_colours_close(tmp_path):
    root = write_pairs(tmp_path / "raw")
    run(tmp_path / "out", source=str(root), format="jpg", quality=100)
    difference = pixels_of(tmp_path / "out/VIS/1_0.jpg").astype(int)
    difference -= pixels_of(root / "VIS/1_0.png")
    assert np.abs(difference).max() <= 6


def test_repeating_an_import_does_nothing(tmp_path, monkeypatch):
    root = write_pairs(tmp_path / "raw")
    run(tmp_path / "out", source=str(root))
    before = tree(tmp_path)
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "out", source="raw/")
    assert tree(tmp_path) == before


def test_nothing_is_written_among_the_source(tmp_path):
    root = write_pairs(tmp_path / "raw")
    before = tree(tmp_path)
    with pytest.raises(ValueError, match="--outdir .*raw: must be absent or empty"):
        run(root, source=str(root))
    with pytest.raises(ValueError, match=r"--outdir .*out: must not lie in .*VIS"):
        run(root / "VIS" / "out", source=str(root))
    assert tree(tmp_path) == before


def test_another_source_is_refused(tmp_path):
    root = write_pairs(tmp_path / "raw")
    run(tmp_path / "out", source=str(root))
    write_pairs(root, ["new"])
    with pytest.raises(ValueError, match="the source has changed"):
        run(tmp_path / "out", source=str(root))
    moved = shutil.move(root, tmp_path / "moved")
    with pytest.raises(ValueError, match=r"made with other options \(import.source "):
        run(tmp_path / "out", source=str(moved))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either --source or --rgb and --nir must be given, got none"),
        ({"rgb": "a"}, "--rgb and --nir must be given, got --rgb"),
        ({"rgb": "a", "source": "b"}, "must be given, got --rgb, --source"),
        ({"rgb": "a", "nir": "b", "source": "c"}, "got --nir, --rgb, --source"),
        ({"source": "a", "resolution": 48}, "--resolution must be a power of two .* got 48"),
        ({"source": "a", "resolution": 4}, "--resolution must be a power of two .* got 4"),
        ({"source": "a", "crop": "left"}, "--crop must be center, none or .* got 'left'"),
        ({"source": "a", "crop": "0,0,16,32"}, "--crop must be .* W = H.* got '0,0,16,32'"),
        ({"source": "a", "crop": "0,0,4,4"}, "--crop must be .* at least 8 pixels"),
        ({"source": "a", "crop": "-1,0,9,9"}, "--crop must be"),
        ({"source": "a", "pair_regex": "("}, "--pair-regex .*: missing \\)"),
        ({"source": "a", "pair_regex": "a+"}, "--pair-regex .* must have a group"),
        ({"source": "a", "pair_regex": "(?P<rgb>a)(b)"}, "--pair-regex .* for every modality"),
        (
            {"source": "a", "pair_regex": "(?P<rgb>a)(?P<nir>b)"},
            "--pair-regex .* must have a group",
        ),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ImportOptions(outdir=Path("out"), **options)


def test_sources_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone: no such folder"):
        plan_of(source=str(tmp_path / "gone"))
    (tmp_path / "empty").mkdir()
    root = write_pairs(tmp_path / "raw")
    folders = {"rgb": root / "VIS", "nir": tmp_path / "empty"}
    with pytest.raises(ValueError, match="empty: no images in it"):
        plan_of(**folders)


def test_squares():
    assert find_square([(11, 8)] * 2, "center") == (1, 0, 8)
    assert find_square([(9, 9)] * 2, "none") == (0, 0, 9)
    assert find_square([(9, 10)] * 2, "1,2,8,8") == (1, 2, 8)
    with pytest.raises(SkipPair, match="not square: 9x8"):
        find_square([(9, 8)] * 2, "none")
    with pytest.raises(SkipPair, match="box reaches outside: 9x9"):
        find_square([(9, 9)] * 2, "1,2,8,8")


@pytest.mark.parametrize(
    ("pattern", "stem", "expected"),
    [
        (None, "a/b", ("a/b", None)),
        (r"(\d+)", "p12_x", ("12", None)),
        (r"(\w)(?P<id>\d+)", "p12", ("12", None)),
        (r"(\d+)", "none", None),
        (r"x(\d*)", "x", None),
        (r"(?:VIS|NIR)(.*)", "VIS/sub/1", ("sub/1", None)),
        (r"VIS(.*)", "VIS/../../evil", None),
        (r"(.*)", ".hidden", None),
        (r"(?P<id>\d+)(?:(?P<rgb>c)|(?P<nir>i))", "3i", ("3", "nir")),
        (r"(?P<id>\d+)(?P<rgb>c)?(?P<nir>i)?", "3ci", None),
        (r"(?P<id>\d+)(?P<rgb>c)?(?P<nir>i)?", "3", None),
    ],
)
def test_names_of_pairs(pattern, stem, expected):
    assert NameRule(pattern).apply(stem) == expected
