import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.check import check_pairs, format_findings
from data.dataset import PairDataset
from data.importing.options import ImportOptions, NameRule
from data.importing.plan import Reason, SkipPair, find_square
from data.labels import CLASS_FILE, IDENTITY_FILE
from data.pairs import open_pairs
from tests.helpers.images import (
    encode_png_16,
    moved,
    random_pixels,
    texture,
    truncate,
    write_image,
    write_json,
    write_pairs,
    zip_folder,
)
from tests.helpers.importing import plan_of, quiet, run

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
        ({"source": "a", "value_range": ("4095",)}, "--range must be LOW,HIGH .* got '4095'"),
        ({"source": "a", "value_range": ("5,5",)}, "--range must be LOW,HIGH .* got '5,5'"),
        ({"source": "a", "value_range": ("uv=0,9",)}, "--range must be LOW,HIGH .* got 'uv=0,9'"),
        ({"source": "a", "nir_from": "band:0"}, "--nir-from must be alpha, band:N or page:N"),
        ({"rgb": "a", "nir": "b", "nir_from": "alpha"}, "--nir-from needs either --source or"),
        ({"source": "a", "rgb_bands": "1,2"}, "--rgb-bands must be three numbers from 1"),
        ({"source": "a", "crop": "none", "register": True}, "--register cuts borders off"),
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


def checks(index, size=24):
    """A picture with edges of its own."""
    return texture(index, size).clip(0, 255).astype(np.uint8)


def coloured(picture):
    """[H, W, 3] whose first channel is the picture."""
    return np.stack([picture, picture // 2 + 40, picture // 4 + 90], axis=2)


def write_set(root, change):
    """Four pairs that show the same, each file written by `change(folder, index, picture)`."""
    for i in range(4):
        for folder in ("VIS", "NIR"):
            picture = checks(i)
            path = root / folder / f"p{i}_0.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            change(path, i, coloured(picture) if folder == "VIS" else picture)
    return root


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_the_range_is_found_over_the_set(tmp_path, bits):
    top = 2**bits - 1

    def change(path, index, picture):
        if path.parent.name == "NIR":  # one dark image, one that reaches the top
            picture = picture.astype(np.int64) * top // (255 if index else 2550)
            picture = picture.astype(np.uint16)
        write_image(path, picture)

    root = write_set(tmp_path / "raw", change)
    report = run(tmp_path / "out", source=str(root), resolution=16, crop="0,0,16,16")
    assert any(f"0..{top} become 0..255" in note for note in report["reading"])
    bright, dark = (pixels_of(tmp_path / f"out/NIR/p{i}_0.png").astype(int) for i in (1, 0))
    assert np.abs(bright - checks(1)[:16, :16]).max() <= 1
    assert np.abs(dark - checks(0)[:16, :16] // 10).max() <= 1
    given = run(tmp_path / "given", source=str(root), resolution=16, value_range=("nir=0,65535",))
    assert any("of more than 8 bits use a small part" in line for line in given["warnings"])


def test_a_range_of_one_modality_goes_before_that_of_all(tmp_path):
    def change(path, _index, picture):
        write_image(path, picture.astype(np.uint16) * 16 if picture.ndim == 2 else picture)

    root = write_set(tmp_path / "raw", change)
    decided = plan_of(source=root, value_range=("nir=0,4095", "0,65535")).decided
    assert decided.readings["nir"].limits == (0, 4095)
    assert decided.notes[0] == "rgb: --range changes nothing, as no image has more than 8 bits"
    assert decided.notes[1].startswith("nir: 0..4095 become 0..255")


def test_names_that_tell_no_identity_are_said(tmp_path):
    plan = plan_of(source=str(write_pairs(tmp_path / "raw", ["a", "b", "1_0"])))
    assert ["2 of 3 images are identities of their own" in n for n in plan.decided.notes] == [True]
    plan = plan_of(source=str(write_pairs(tmp_path / "named")))
    assert plan.decided.notes == ()


def test_alpha_is_no_part_of_the_range(tmp_path):
    def change(path, _index, picture):
        deep = picture.reshape(*picture.shape[:2], -1).astype(np.uint16) * 16
        path.write_bytes(encode_png_16(np.dstack([deep, np.full_like(deep[..., 0], 65535)])))

    root = write_set(tmp_path / "raw", change)
    report = run(tmp_path / "out", source=str(root), crop="0,0,16,16")
    assert all("0..4095 become 0..255" in note for note in report["reading"])
    assert (len(report["reading"]), report["warnings"]) == (2, [])
    checked = check_pairs(root, quiet)
    assert "range" in {finding.check for finding in checked.findings if finding.warning}


def test_full_range_keeps_its_rule(tmp_path):
    def change(path, _index, picture):
        write_image(path, picture.astype(np.uint16) * 257 if picture.ndim == 2 else picture)

    run(tmp_path / "out", source=str(write_set(tmp_path / "raw", change)), crop="0,0,16,16")
    assert np.array_equal(pixels_of(tmp_path / "out/NIR/p2_0.png"), checks(2)[:16, :16])


def test_full_range_of_colours_that_are_stored_apart(tmp_path):
    imwrite = pytest.importorskip("tifffile").imwrite

    def change(path, _index, picture):
        if picture.ndim == 2:
            return write_image(path, picture)
        planes = np.moveaxis(picture.astype(np.uint16) * 257, -1, 0)
        return imwrite(path.with_suffix(".tif"), planes, photometric="rgb", planarconfig=2)

    root = write_set(tmp_path / "raw", change)
    report = run(tmp_path / "out", source=str(root), crop="0,0,16,16")
    assert report["warnings"] == []
    written = pixels_of(tmp_path / "out/VIS/p2_0.png")
    assert np.array_equal(written, coloured(checks(2))[:16, :16])


def test_a_range_that_is_open_must_be_given(tmp_path):
    def change(path, _index, picture):
        if path.parent.name == "NIR":
            Image.fromarray(picture.astype(np.float32) - 40).save(path.with_suffix(".tif"))
        else:
            write_image(path, picture)

    root = write_set(tmp_path / "raw", change)
    with pytest.raises(ValueError, match="nir images: no range is known .* give --range"):
        plan_of(source=str(root))
    run(tmp_path / "out", source=str(root), value_range=("-40,215",), crop="0,0,16,16")
    assert np.array_equal(pixels_of(tmp_path / "out/NIR/p2_0.png"), checks(2)[:16, :16])


@pytest.mark.parametrize("is_true", [False, True])
@pytest.mark.parametrize("tag", [2, 6])
def test_orientation_in_one_file_is_decided_over_the_set(tmp_path, tag, is_true):
    """Stale tags are ignored; where the pixels really lie as the tag says, they are turned."""
    exif = Image.Exif()
    exif[0x0112] = tag
    undo = {2: np.fliplr, 6: np.rot90}[tag]

    def change(path, _index, picture):
        if path.parent.name == "NIR":
            return write_image(path, picture)
        picture = undo(picture) if is_true else picture
        return Image.fromarray(np.ascontiguousarray(picture)).save(path, exif=exif)

    root = write_set(tmp_path / "raw", change)
    report = run(tmp_path / "out", source=str(root), crop="0,0,16,16")
    assert (": ignored, as edges" in report["reading"][0]) is not is_true
    for name in ("VIS", "NIR"):
        written = pixels_of(tmp_path / f"out/{name}/p1_0.png")
        assert np.array_equal(written.reshape(16, 16, -1)[..., 0], checks(1)[:16, :16])
    assert report["warnings"] == []
    both = run(tmp_path / "both", source=str(root), exif="both", crop="0,0,16,16")
    assert both["reading"] == ["orientation of one file turns both of 4 pairs"]
    ignored = run(tmp_path / "ignored", source=str(root), exif="ignore", crop="0,0,16,16")
    assert ignored["reading"] == ["orientation of 4 pairs ignored"]


def test_orientation_makes_sizes_of_a_pair_agree(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6

    def change(path, _index, picture):
        options = {"exif": exif} if path.parent.name == "VIS" else {}
        Image.fromarray(picture[:16]).save(path, **options)

    root = write_set(tmp_path / "raw", change)
    assert plan_of(source=str(root)).resolution == 16
    with pytest.raises(ValueError, match="4 images of the pair differ in size: .*16x24 and 24x16"):
        plan_of(source=str(root), exif="apply")


def test_nir_in_the_file_of_rgb(tmp_path):
    for i in range(4):
        rgb, nir = random_pixels(i), random_pixels(10 + i, channels=1)
        write_image(tmp_path / "alpha" / f"p{i}_0.png", np.dstack([rgb, nir]))
        path = tmp_path / "pages" / f"p{i}_0.tif"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rgb).save(path, save_all=True, append_images=[Image.fromarray(nir)])
    for folder, words in (("alpha", "alpha"), ("alpha", "band:4"), ("pages", "page:2")):
        out = tmp_path / words.replace(":", "")
        out = out.with_name(f"out_{out.name}")
        report = run(out, rgb=tmp_path / folder, nir_from=words)
        assert report["pairs"] == 4
        assert not any("transparent" in line or "frame" in line for line in report["warnings"])
        assert np.array_equal(pixels_of(out / "VIS/p2_0.png"), random_pixels(2))
        assert np.array_equal(pixels_of(out / "NIR/p2_0.png"), random_pixels(12, channels=1))
    with pytest.raises(ValueError, match="has no band 5, but 4"):
        run(tmp_path / "no", source=tmp_path / "alpha", nir_from="band:5")
    swapped = run(tmp_path / "bgr", rgb=tmp_path / "alpha", nir_from="alpha", rgb_bands="3,2,1")
    assert swapped["pairs"] == 4
    assert np.array_equal(pixels_of(tmp_path / "bgr/VIS/p2_0.png"), random_pixels(2)[..., ::-1])


@pytest.mark.parametrize("shift", [(0, 5), (-3, 2), (1.4, -2.6)])
def test_a_constant_offset_is_corrected(tmp_path, shift):
    def change(path, index, picture):
        if path.parent.name == "NIR":
            wide = moved(texture(index, 96), shift)
            picture = wide[16:80, 16:80].clip(0, 255).astype(np.uint8)
        else:
            picture = coloured(texture(index, 96)[16:80, 16:80].clip(0, 255).astype(np.uint8))
        write_image(path, picture)

    root = write_set(tmp_path / "raw", change)
    plain = run(tmp_path / "plain", source=str(root), resolution=32, crop="16,16,32,32")
    assert any("NIR lies beside RGB" in line for line in plain["warnings"])
    report = run(tmp_path / "out", source=str(root), resolution=32, register=True)
    assert report["warnings"] == []
    assert report["reading"][0].endswith("corrected (--register)")
    for i in range(4):
        nir = pixels_of(tmp_path / f"out/NIR/p{i}_0.png").astype(int)
        rgb = pixels_of(tmp_path / f"out/VIS/p{i}_0.png")[..., 0].astype(int)
        assert np.abs(nir - rgb).mean() < 2
    with pytest.raises(ValueError, match="--register: 4 pairs share no offset"):
        run(tmp_path / "no", source=str(write_pairs(tmp_path / "odd", size=64)), register=True)


def test_wrong_pairs_are_found_beside_an_offset(tmp_path):
    partners = [1, 2, 0, *range(3, 12)]
    for i in range(12):
        write_image(tmp_path / f"raw/VIS/p{i:02}_0.png", coloured(checks(i, 64)))
        shown = np.roll(checks(partners[i], 64), 6, axis=1)
        write_image(tmp_path / f"raw/NIR/p{i:02}_0.png", shown)
    plan = plan_of(source=tmp_path / "raw", register=True)
    assert any("3 of 12 pairs may be wrongly matched" in line for line in plan.decided.warnings)
    checked = check_pairs(tmp_path / "raw", quiet)
    (line,) = [row for row in format_findings(checked.findings) if row.startswith("contents")]
    assert line.split()[1:4] == ["-", "not", "measured:"]


def test_new_options_leave_earlier_imports_known(tmp_path):
    later = {"nir_from", "rgb_bands", "value_range", "exif", "register"}
    options = ImportOptions(outdir=tmp_path, source=tmp_path)
    assert not later & options.identity().keys()
    chosen = {"exif": "apply", "register": True, "value_range": ("0,4095",)}
    known = ImportOptions(outdir=tmp_path, source=tmp_path, **chosen).identity()
    assert known.items() >= {**chosen, "value_range": ["0,4095"]}.items()
