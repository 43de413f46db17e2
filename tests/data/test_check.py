import pytest

from data import doctor
from data.check import check_pairs
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

    checked = check_pairs(place, progress)
    inside = f"{place}:" if archived else f"{place}/"
    assert checked.lines == [
        "faces: 12 pairs of 16x16",
        f"rgb: {inside}VIS{'/' * archived}: 12 PNG RGB 16x16",
        f"nir: {inside}NIR{'/' * archived}: 12 PNG L 16x16",
        f"labels: {inside}identity_features.json: 12 of 2 numbers",
        "1 other files are ignored",
    ]
    assert checked.problems == []
    (identities,) = [f.found for f in checked.findings if f.check == "identities"]
    assert "12 identities of 1 to 1 images" in identities
    assert "12 of 12 images are identities of their own" in identities
    assert (started, sum(done)) == ([12], 12)


def test_every_problem_is_listed(tmp_path):
    root = write_alike(tmp_path / "faces")
    truncate(root / "NIR" / "03.png", 0.7)
    (root / "VIS" / "05.png").write_text("no image")
    (root / "VIS" / "06.png").unlink()
    write_image(root / "NIR" / "07.bmp", random_pixels(0, 16, 1))
    write_image(root / "NIR" / "08.png", random_pixels(0, 32, 1))
    write_json(root / IDENTITY_FILE, {stem: [1.0] for stem in STEMS[1:]})
    checked = check_pairs(root, quiet)
    lines, problems = checked.lines, checked.problems
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
    (problem,) = check_pairs(tmp_path, quiet).problems
    assert "identity_features.json: '00'" in problem


def test_empty_folder_is_a_problem(tmp_path):
    write_pairs(tmp_path)
    for path in (tmp_path / "NIR").iterdir():
        path.unlink()
    checked = check_pairs(tmp_path, quiet)
    lines, problems = checked.lines, checked.problems
    assert lines[0].endswith(": 0 pairs")
    assert problems[0].endswith("NIR: no images in it")
    assert "VIS: 4 rgb image(s) without a partner" in problems[1]


def test_wrongly_matched_pairs_are_warned_of(tmp_path):
    checked = check_pairs(write_alike(tmp_path, shift=5), quiet)
    assert checked.problems == []
    (contents,) = [f for f in checked.findings if f.check == "contents"]
    assert contents.warning.startswith("pairs may be wrongly matched: over 12 pairs")


def test_so_many_pairs_of_each_split_are_compared(tmp_path, monkeypatch):
    write_alike(tmp_path)
    write_alike(tmp_path / "test")
    monkeypatch.setattr(doctor, "COMPARED_PAIRS", 7)
    compared = []
    measure = doctor.check_registration
    monkeypatch.setattr(
        doctor, "check_registration", lambda *given: compared.extend(given[1]) or measure(*given)
    )
    checked = check_pairs(tmp_path, quiet)
    splits = [checked.pairs[pair][0] for pair in compared]
    assert (splits.count(""), splits.count("test")) == (7, 7)
