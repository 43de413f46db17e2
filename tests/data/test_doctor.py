"""Rendered pairs with one defect: the check of it warns, and no other; a clean set has none."""

import functools
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from data import doctor
from data.check import CheckJob, CheckOptions, check_pairs, prepare
from dnnlib.files import read_json
from renderer.render import render_sample
from tests.helpers.images import moved, write_image
from tests.helpers.importing import quiet

IDENTITIES, SAMPLES = 5, 2


@functools.cache
def rendered(side, seed=3):
    """Stem -> (rgb [H, W, 3], nir [H, W]) uint8."""
    pairs = {}
    for identity in range(IDENTITIES):
        for sample in range(SAMPLES):
            images = render_sample(seed, identity, sample, side).images
            pair = images["rgb"].transpose(1, 2, 0), images["nir"][0]
            pairs[f"{identity:02}_{sample}"] = pair
    return pairs


def write(root, pairs):
    for stem, images in pairs.items():
        for folder, image in zip(("VIS", "NIR"), images, strict=True):
            write_image(root / folder / f"{stem}.png", np.ascontiguousarray(image))
    return root


def warned(root, against=()):
    """Return check -> finding of those that warn."""
    checked = check_pairs(root, quiet, against=against)
    return {finding.check: finding for finding in checked.findings if finding.warning}


def swap_folders(pairs):
    return {stem: (nir, rgb) for stem, (rgb, nir) in pairs.items()}


def shift_nir(pairs):
    return {s: (rgb, np.roll(nir, (-2, 3), (0, 1))) for s, (rgb, nir) in pairs.items()}


def scatter_nir(pairs):
    rng = np.random.default_rng(0)
    return {
        stem: (rgb, np.roll(nir, rng.choice([-9, -6, 6, 9], 2), (0, 1)))
        for stem, (rgb, nir) in pairs.items()
    }


def mirror_nir(pairs):
    return {stem: (rgb, nir[::-1]) for stem, (rgb, nir) in pairs.items()}


def permute_nir(pairs):
    own = list(pairs.values())
    return {stem: (own[i][0], own[i - SAMPLES][1]) for i, stem in enumerate(pairs)}


def exchange_two(pairs):
    return {
        **pairs,
        "00_0": (pairs["00_0"][0], pairs["04_1"][1]),
        "04_1": (pairs["04_1"][0], pairs["00_0"][1]),
    }


def colour_nir(pairs):
    tinted = np.stack([pairs["01_0"][1], pairs["01_0"][1] // 2, pairs["01_0"][1]], axis=2)
    return {**pairs, "01_0": (pairs["01_0"][0], tinted)}


def grey_rgb(pairs):
    grey = np.asarray(Image.fromarray(pairs["02_1"][0]).convert("L"))
    return {**pairs, "02_1": (grey, pairs["02_1"][1])}


def copy_pair(pairs):
    return {**pairs, "99_0": pairs["03_0"]}


def copy_thrice(pairs):
    return {**pairs, "97_0": pairs["03_0"], "98_0": pairs["03_0"], "99_0": pairs["03_0"]}


def copy_nir(pairs):
    return {**pairs, "00_0": (pairs["00_0"][0], pairs["03_0"][1])}


def copy_brighter(pairs):
    copy = []
    for image in pairs["03_0"]:
        stream = io.BytesIO()
        brighter = (image.astype(float) * 0.9 + 20).astype(np.uint8)
        Image.fromarray(brighter).save(stream, "JPEG", quality=80)
        copy.append(np.asarray(Image.open(stream)))
    return {**pairs, "99_0": tuple(copy)}


def darken(pairs):
    return {**pairs, "04_0": (pairs["04_0"][0] // 16, pairs["04_0"][1])}


def overexpose(pairs):
    white = np.clip(pairs["04_0"][1].astype(int) * 4, 0, 255).astype(np.uint8)
    return {**pairs, "04_0": (pairs["04_0"][0], white)}


def low_bits(pairs):
    return {stem: (rgb, nir.astype(np.uint16) * 16) for stem, (rgb, nir) in pairs.items()}


def nir_in_alpha(pairs):
    return {stem: (np.dstack([rgb, nir]), nir) for stem, (rgb, nir) in pairs.items()}


@pytest.mark.parametrize("side", [32, 64])
def test_an_undamaged_set_is_clean(tmp_path, side):
    assert warned(write(tmp_path, rendered(side))) == {}


@pytest.mark.parametrize(
    ("damage", "expected", "part"),
    [
        (swap_folders, {"colours"}, "folders look swapped"),
        (shift_nir, {"registration"}, "right; `import --register` corrects that"),
        (mirror_nir, {"registration"}, "do not lie on each other"),
        (scatter_nir, {"contents", "registration"}, "do not lie on each other"),
        (permute_nir, {"contents"}, "wrongly matched: over 10 pairs"),
        (exchange_two, {"contents"}, "2 of 10 pairs may be wrongly matched"),
        (colour_nir, {"colours"}, "1 of 10 NIR files have colours, of which luma is taken: 01_0"),
        (grey_rgb, {"colours"}, "1 of 10 RGB files are grey: 02_1"),
        (copy_pair, {"duplicates"}, "03_0 and 99_0 (same rgb and nir)"),
        (copy_nir, {"duplicates"}, "00_0 and 03_0 (same nir)"),
        (copy_thrice, {"duplicates"}, "3 pairs are copies of pairs of other"),
        (copy_brighter, {"duplicates"}, "03_0 and 99_0 (nearly the same)"),
        (darken, {"exposure"}, "04_0 (rgb nearly black)"),
        (overexpose, {"exposure"}, "04_0 (nir nearly white)"),
        (low_bits, {"range", "exposure"}, "nir uses 5."),
        (nir_in_alpha, {"layers"}, "--nir-from=alpha"),
    ],
)
def test_each_defect_is_found(tmp_path, damage, expected, part):
    found = warned(write(tmp_path, damage(rendered(64))))
    assert set(found) == expected
    assert any(part in finding.warning for finding in found.values())


def test_animations_are_found(tmp_path):
    root = write(tmp_path, rendered(64))
    frames = [Image.fromarray(pair[0]) for pair in list(rendered(64).values())[:3]]
    (root / "VIS" / "00_0.png").unlink()
    frames[0].save(root / "VIS" / "00_0.png", "PNG", save_all=True, append_images=frames[1:])
    found = warned(root)
    assert set(found) == {"layers"}
    assert "00_0 (rgb has 3 frames)" in found["layers"].warning


@pytest.mark.parametrize("place", ["set/test", "apart", "test"])
def test_copies_and_identities_in_several_splits_are_leaks(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    pairs = rendered(64)
    root = write(tmp_path / "set", dict(list(pairs.items())[:8]))
    leaky = {"66_0": pairs["04_0"], "77_0": pairs["01_1"], "02_5": pairs["04_1"]}
    write(tmp_path / place, leaky)
    is_inside = place == "set/test"
    found = warned(root, () if is_inside else [Path(place)])
    assert set(found) == {"duplicates", "identities"}
    shown = {"set/test": "test", "apart": "apart", "test": "./test"}[place]
    assert f"01_1 and {shown}/77_0" in found["duplicates"].warning
    assert "1 of them in several splits (a leak)" in found["duplicates"].warning
    assert "1 identities are in several splits (a leak): 02" in found["identities"].warning
    if not is_inside:
        assert warned(root) == {}


def test_a_set_is_not_compared_with_itself(tmp_path):
    root = write(tmp_path / "set", rendered(64))
    for other in (root, root / "VIS", tmp_path / "gone"):
        with pytest.raises((ValueError, FileNotFoundError), match=f"{other}: "):
            prepare(CheckOptions(root=root, against=(other,)))
    with pytest.raises(FileNotFoundError, match="gone"):
        prepare(CheckOptions(root=tmp_path / "gone"))


def test_strict_ends_with_an_error_and_outdir_shows_the_worst(tmp_path):
    root = write(tmp_path / "set", exchange_two(rendered(64)))
    out = tmp_path / "out"
    told = CheckJob(options=CheckOptions(root=root, outdir=out)).run(quiet)
    assert "contents      look" in told
    assert "--outdir" not in told
    record = read_json(out / "check.json")
    (contents,) = [f for f in record["findings"] if f["check"] == "contents"]
    assert sorted(name for name, _ in contents["worst"]) == ["00_0", "04_1"]
    with Image.open(out / "worst.jpg") as sheet:
        assert min(sheet.size) > 128
    with pytest.raises(ValueError, match="--strict: 1 checks warn"):
        CheckJob(options=CheckOptions(root=root, strict=True)).run(quiet)
    clean = write(tmp_path / "clean", rendered(64))
    CheckJob(options=CheckOptions(root=clean, strict=True, outdir=out)).run(quiet)
    assert not (out / "worst.jpg").exists()


def test_sub_pixel_shifts_of_large_images_are_measured():
    rng = np.random.default_rng(0)
    coarse = np.asarray(Image.fromarray(rng.random((40, 40), np.float32)).resize((600, 600)))
    first = Image.fromarray((coarse * 200).astype(np.uint8))
    second = Image.fromarray(np.clip(moved(coarse * 200, (-3.0, 7.5)), 0, 255).astype(np.uint8))
    assert doctor.measure_shift(first, second) == pytest.approx((-3, 7.5), abs=0.3)
    assert np.isnan(doctor.measure_shift(first, second.crop((0, 0, 500, 600)))).all()


def test_small_images_that_agree_a_little_are_not_shifted():
    """As real RGB and NIR are: other edges than those that both show move most pairs by chance."""
    rng = np.random.default_rng(0)
    shifts = []
    for _ in range(100):
        own, other, shared = ndimage.gaussian_filter(rng.standard_normal((3, 32, 32)), (0, 1, 1))
        pair = (own + 0.5 * shared, other + 0.5 * shared)
        images = [Image.fromarray(np.clip(128 + 200 * x, 0, 255).astype(np.uint8)) for x in pair]
        shifts.append(doctor.measure_shift(*images))
    assert (np.hypot(*np.array(shifts).T) > 1).mean() < 0.1


def test_an_offset_is_what_most_pairs_share():
    shifts = np.array([[2.0, -1.5], [2.1, -1.4], [1.9, -1.6], [9, 9], [np.nan, np.nan]])
    assert doctor.find_offset(shifts, 64) == pytest.approx((2.05, -1.45))
    assert doctor.find_offset(np.array([[0, 9.0], [9, 0], [-9, 0], [0, -9]]), 64) is None
    assert doctor.find_offset(shifts[:2], 64) is None


def test_agreement_within_and_across_pairs_is_what_a_loop_gives():
    edges = np.random.default_rng(0).random((9, 2, 30))
    edges[:, 1] += edges[:, 0]
    table = np.array([[np.corrcoef(a, b)[0, 1] for b in edges[:, 1]] for a in edges[:, 0]])
    own = np.diagonal(table).mean()
    others = np.mean([table[i, j] for i in range(9) for j in range(9) if j != i])
    found = doctor.check_contents(edges, None, range(9), "abcdefghi")
    assert f"by {own:.3f} within pairs and by {others:.3f} across pairs" in found.found
    assert not found.warning
    blank = doctor.check_contents(np.ones((9, 2, 4)), None, range(9), "abcdefghi")
    assert "over 9 pairs" in blank.warning


@pytest.mark.parametrize("is_swapped", [False, True])
def test_large_clean_sets_have_no_wrong_pair(is_swapped):
    """Among a million pairs of pairs some fit by chance."""
    rng = np.random.default_rng(0)
    rgb, noise = rng.standard_normal((2, 1000, 40))
    nir = 0.5 * rgb + 0.75**0.5 * noise
    if is_swapped:
        nir[:2] = rgb[1::-1]
    edges, names = np.stack([rgb, nir], axis=1), [str(i) for i in range(1000)]
    found = doctor.check_contents(edges, None, range(1000), names)
    assert {pair for pair, _ in found.worst} == ({0, 1} if is_swapped else set())
