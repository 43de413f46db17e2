import io
import os
import pickle
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.folds import (
    embed_pairs,
    fold_slices,
    pair_distances,
    read_pair_archive,
    score_folds,
)
from tests.helpers.images import random_pixels
from tests.helpers.pickles import Call

SAME = [i % 3 == 0 for i in range(12)]


def jpeg(seed, size=16):
    stream = io.BytesIO()
    Image.fromarray(random_pixels(seed, size)).save(stream, format="JPEG")
    return stream.getvalue()


IMAGES = [jpeg(i) for i in range(24)]


def write(folder, content):
    path = folder / "pairs.bin"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, 4))
    return path


def python2(images, same):
    """The pickle of protocol 2 that Python 2 writes: its str are byte strings."""
    texts = b"".join(
        b"U" + bytes([len(i)]) + i if len(i) < 256 else b"T" + struct.pack("<i", len(i)) + i
        for i in images
    )
    answers = b"".join(b"\x88" if answer else b"\x89" for answer in same)
    return b"\x80\x02]q\x01(" + texts + b"e]q\x02(" + answers + b"e\x86q\x03."


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("answers", [SAME, [np.bool_(s) for s in SAME], [int(s) for s in SAME]])
def test_bin_of_bytes(tmp_path, protocol, answers):
    if protocol == 5 and isinstance(answers[0], np.bool_):
        answers = SAME
    archive = read_pair_archive(write(tmp_path, pickle.dumps((IMAGES, answers), protocol)))
    assert archive.images == tuple(IMAGES)
    assert archive.is_same.tolist() == SAME


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_bin_of_numpy_arrays(tmp_path, protocol):
    images = [np.frombuffer(image, np.uint8) for image in IMAGES]
    content = pickle.dumps((images, np.array(SAME)), protocol)
    assert read_pair_archive(write(tmp_path, content)).images == tuple(IMAGES)


def test_bin_of_python_2(tmp_path):
    images = [b"tiny \xff image", *IMAGES[1:]]
    archive = read_pair_archive(write(tmp_path, python2(images, SAME)))
    assert archive.images == tuple(images)
    assert archive.is_same.tolist() == SAME


HOSTILE = {
    "code": Call(os.system, "true"),
    "code inside": (IMAGES, Call(eval, "1")),
    "no pickle": b"PK\x03\x04 not a pickle",
    "cut short": pickle.dumps((IMAGES, SAME), 4)[:-200],
    "empty file": b"",
    "one list": IMAGES,
    "too few answers": (IMAGES, SAME[:-1]),
    "no images": ([], []),
    "number as image": (IMAGES[:-1] + [5], SAME),
    "text as image": (IMAGES[:-1] + ["größer 目"], SAME),
    "floats as image": (IMAGES[:-1] + [np.zeros(4)], SAME),
    "text as answer": (IMAGES, SAME[:-1] + ["yes"]),
    "other number as answer": (IMAGES, SAME[:-1] + [2]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_other_files_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"pairs.bin: not a .bin of pairs: [^/]*$"):
        read_pair_archive(write(tmp_path, HOSTILE[name]))
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.bin"]


def test_missing_bin(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_pair_archive(tmp_path / "pairs.bin")


@pytest.mark.parametrize("count", [10, 12, 25, 6000])
def test_folds_are_those_of_scikit_learn(count):
    selection = pytest.importorskip(
        "sklearn.model_selection", reason="scikit-learn is not installed"
    )
    expected = [test.tolist() for _, test in selection.KFold(10).split(np.zeros(count))]
    assert [np.arange(count)[part].tolist() for part in fold_slices(count)] == expected


def naive_folds(distances, same, far):
    """The protocol as loops over thresholds."""
    accuracies, tars = [], []
    for part in fold_slices(len(distances)):
        rest = np.ones(len(distances), bool)
        rest[part] = False
        hits = [((distances[rest] < t) == same[rest]).mean() for t in np.arange(0, 4, 0.01)]
        best = np.arange(0, 4, 0.01)[int(np.argmax(hits))]
        accuracies.append(((distances[part] < best) == same[part]).mean())
        fine = np.arange(0, 4, 0.001)
        fars = [(distances[rest][~same[rest]] < t).mean() for t in fine]
        threshold = np.interp(far, fars, fine) if max(fars) >= far else 0.0
        tars.append((distances[part][same[part]] < threshold).mean())
    return accuracies, tars


def test_ten_folds_against_loops():
    rng = np.random.default_rng(0)
    same = np.arange(200) % 20 < 10
    distances = np.where(same, rng.normal(0.9, 0.35, 200), rng.normal(1.7, 0.3, 200)).clip(0, 4)
    score = score_folds(distances, same, far=0.05)
    accuracies, tars = naive_folds(distances, same, 0.05)
    assert score.accuracies == pytest.approx(accuracies)
    assert score.tars == pytest.approx(tars)
    assert score.accuracy == pytest.approx((np.mean(accuracies), np.std(accuracies)))
    assert (len(score.thresholds), score.pairs) == (10, 200)


def test_pairs_that_are_told_apart_score_one():
    same = np.arange(40) % 2 == 0
    score = score_folds(np.where(same, 0.5, np.linspace(1.5, 3, 40)), same)
    assert score.accuracy == (1, 0)
    assert score.tar == (1, 0)
    assert score.fars[1:] == (0,) * 9


def test_distances_of_unit_vectors():
    first = np.array([[1.0, 0], [0, 1]])
    assert pair_distances(first, np.array([[-1.0, 0], [0, 1]])).tolist() == [4, 0]


@pytest.mark.parametrize(
    ("distances", "same", "message"),
    [
        (np.zeros(5), [True, False] * 2 + [True], "10 folds need at least 10 pairs, got 5"),
        (np.zeros(20), [True] * 20, "of both kinds, got 20 of 20 same"),
        (np.zeros(20), [True], "20 distances but 1 answers"),
        (np.full(20, np.nan), [True, False] * 10, "20 of 20 are not"),
    ],
)
def test_pairs_that_cannot_be_scored(distances, same, message):
    with pytest.raises(ValueError, match=message):
        score_folds(distances, same)


class Means:
    """A recogniser of mean colours."""

    def embed(self, images):
        return torch.stack([image.float().mean((1, 2)) for image in images])


def test_images_of_a_bin_reach_the_recogniser_in_order(tmp_path):
    images = [*IMAGES[:5], jpeg(0, 20), *IMAGES[6:]]
    archive = read_pair_archive(write(tmp_path, (images, SAME)))
    first, second = embed_pairs(archive, Means(), "pairs.bin")
    means = [np.asarray(Image.open(io.BytesIO(i))).mean((0, 1)) for i in images]
    assert first == pytest.approx(np.array(means[0::2]), abs=1e-3)
    assert second == pytest.approx(np.array(means[1::2]), abs=1e-3)


def test_damaged_images_are_named(tmp_path):
    archive = read_pair_archive(write(tmp_path, ([*IMAGES[:5], b"no image", *IMAGES[6:]], SAME)))
    with pytest.raises(ValueError, match="pairs.bin, image 5: not an image"):
        embed_pairs(archive, Means(), "pairs.bin")
