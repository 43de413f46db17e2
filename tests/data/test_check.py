import numpy as np
import pytest

from data.check import check_pairs, pairing_score
from data.labels import IDENTITY_FILE
from tests.helpers.images import (
    random_pixels,
    truncate,
    write_image,
    write_json,
    write_pairs,
    zip_folder,
)
from tests.helpers.importing import quiet

STEMS = [f"{i:02}" for i in range(12)]


def write_alike(root, shift=0):
    """Pairs whose NIR image is made of the RGB one, `shift` places further."""
    for i, stem in enumerate(STEMS):
        write_image(root / "VIS" / f"{stem}.png", random_pixels(i))
        other = random_pixels((i + shift) % len(STEMS))
        write_image(root / "NIR" / f"{stem}.png", 255 - other[..., 1])
    return root


@pytest.mark.parametrize("archived", [False, True])
def test_good_data(tmp_path, archived):
    root = write_alike(tmp_path / "faces")
    write_json(root / IDENTITY_FILE, {stem: [1.0, 2.0] for stem in STEMS})
    (root / "VIS" / "notes.txt").write_text("x")
    done, started = [], []
    place = zip_folder(root, tmp_path / "faces.zip") if archived else root

    def progress(_done, total, _unit):
        started.append(total)
        return done.append

    lines, problems = check_pairs(str(place), progress)
    inside = f"{place}:" if archived else f"{place}/"
    assert lines == [
        "faces: 12 pairs of 16x16",
        f"rgb: {inside}VIS{'/' * archived}: 12 PNG RGB 16x16",
        f"nir: {inside}NIR{'/' * archived}: 12 PNG L 16x16",
        f"labels: {inside}identity_features.json: 12 of 2 numbers",
        'identities: 12 of 12 images are identities of their own, as no folder and no "_" in their '
        "names tells any: 00, 01, 02, 03, 04 and 7 more",
        "1 other files are ignored",
    ]
    assert problems == []
    assert (started, sum(done)) == ([12], 12)


def test_every_problem_is_listed(tmp_path):
    root = write_alike(tmp_path / "faces")
    truncate(root / "NIR" / "03.png", 0.7)
    (root / "VIS" / "05.png").write_text("no image")
    (root / "VIS" / "06.png").unlink()
    write_image(root / "NIR" / "07.bmp", random_pixels(0, 16, 1))
    write_image(root / "NIR" / "08.png", random_pixels(0, 32, 1))
    write_json(root / IDENTITY_FILE, {stem: [1.0] for stem in STEMS[1:]})
    lines, problems = check_pairs(str(root), quiet)
    parts = [
        "NIR: 1 nir image(s) without a partner of the same name",
        "NIR: 2 images are called '07': 07.bmp, 07.png",
        "NIR/03.png: damaged",
        "VIS/05.png: not an image",
        "all images must have one size",
        "identity_features.json: no label for 1 of 10 images: 00",
    ]
    assert len(problems) == len(parts)
    for problem, part in zip(problems, parts, strict=True):
        assert part in problem
    assert (lines[0], lines[3]) == ("faces: 10 pairs", "labels: unusable")


def test_features_of_zeros_are_a_problem(tmp_path):
    write_alike(tmp_path)
    write_json(tmp_path / IDENTITY_FILE, {stem: [float(stem), 0.0] for stem in STEMS})
    (problem,) = check_pairs(str(tmp_path), quiet)[1]
    assert "identity_features.json: '00'" in problem


def test_empty_folder_is_a_problem(tmp_path):
    write_pairs(tmp_path)
    for path in (tmp_path / "NIR").iterdir():
        path.unlink()
    lines, problems = check_pairs(str(tmp_path), quiet)
    assert lines[0].endswith(": 0 pairs")
    assert problems[0].endswith("NIR: no images in it")
    assert "VIS: 4 rgb image(s) without a partner" in problems[1]


def test_wrongly_matched_pairs_are_warned_of(tmp_path):
    lines, problems = check_pairs(str(write_alike(tmp_path, shift=5)), quiet)
    assert problems == []
    assert lines[-1].startswith("Warning: pairs may be wrongly matched: over 12 pairs")


def test_few_pairs_are_not_judged(tmp_path):
    lines, _ = check_pairs(str(write_pairs(tmp_path)), quiet)
    assert not [line for line in lines if line.startswith("Warning")]


def test_pairing_score_is_what_a_loop_gives():
    edges = np.random.default_rng(0).random((5, 2, 30))
    table = np.array([[np.corrcoef(a, b)[0, 1] for b in edges[:, 1]] for a in edges[:, 0]])
    own = np.array([table[i, i] for i in range(5)])
    others = np.array([np.mean([table[i, j] for j in range(5) if j != i]) for i in range(5)])
    error = np.std(own - others, ddof=1) / np.sqrt(5)
    assert pairing_score(edges) == pytest.approx((own.mean(), others.mean(), error))


def test_images_without_edges_have_no_correlation():
    assert pairing_score(np.ones((3, 2, 4))) == (0, 0, 0)
