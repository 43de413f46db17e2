"""Lists of pairs and archives of pairs: what is read, compared and refused."""

import io
import os
import pickle
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from data.samples import open_samples
from evaluation.faces import Faces
from evaluation.pairs import (
    check_pairs,
    compare_pairs,
    embed_distances,
    read_pair_archive,
    read_pair_list,
)
from tests.helpers.images import random_pixels, write_pairs
from tests.helpers.measures import no_progress
from tests.helpers.people import PixelEmbedder
from tests.helpers.pickles import Call


def test_lfw_lists(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text("2\t1\nAnn\t1\t2\nAnn\t1\tBob\t3\n", encoding="utf-8")
    pairs = read_pair_list(path)
    assert [(p.first, p.second, p.is_same) for p in pairs] == [
        (("rgb", "Ann/Ann_0001"), ("rgb", "Ann/Ann_0002"), True),
        (("rgb", "Ann/Ann_0001"), ("rgb", "Bob/Bob_0003"), False),
    ]


def test_csv_lists_across_spectra(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("first,second,same\nVIS/1_0.png,NIR/1_1.png,1\n1_0,2_0,no\n", encoding="utf-8")
    assert [(p.first, p.second, p.is_same) for p in read_pair_list(path)] == [
        (("rgb", "1_0"), ("nir", "1_1"), True),
        (("rgb", "1_0"), ("rgb", "2_0"), False),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "one,two\n", "first line must name first, second, same"),
        ("a.csv", "first,second,same\na,b,perhaps\n", "a.csv, line 2: expected two images"),
        ("a.csv", "first,second,same\na\n", "a.csv, line 2"),
        ("a.csv", "first,second,same\n", "no pairs in it"),
        ("a.txt", "Ann 1 2\nAnn one two\n", "a.txt, line 2: expected 'name n n'"),
        ("a.txt", "", "no pairs in it"),
        ("a.txt", b"\xff\xfe", "not UTF-8"),
    ],
)
def test_damaged_lists(tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message):
        read_pair_list(tmp_path / name)


def test_scores_of_a_list(tmp_path):
    samples = open_samples(write_pairs(tmp_path / "set"))
    faces = Faces("mine", PixelEmbedder())
    embedded = {name: faces.of(samples, name, no_progress) for name in samples.modalities}
    path = tmp_path / "pairs.csv"
    path.write_text("first,second,same\n1_0,NIR/1_1,1\n1_0,2_0,0\n1_1,2_1,0\n", encoding="utf-8")
    pairs = read_pair_list(path)
    check_pairs(pairs, samples, path)
    tally = compare_pairs(pairs, embedded).tally()
    rgb, nir = embedded["rgb"].vectors, embedded["nir"].vectors
    assert tally.mated.values[tally.mated.weights > 0] == pytest.approx([rgb[0] @ nir[1]], abs=1e-6)
    expected = sorted([rgb[0] @ rgb[2], rgb[1] @ rgb[3]])
    assert tally.non_mated.values[tally.non_mated.weights > 0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("line", "message"),
    [("1_0,9_9,1", "pairs.csv, pair 1: no rgb image '9_9'"), ("1_0,1_1,1", "of both kinds")],
)
def test_a_list_that_does_not_fit_is_refused(tmp_path, line, message):
    path = tmp_path / "pairs.csv"
    path.write_text(f"first,second,same\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        check_pairs(read_pair_list(path), open_samples(write_pairs(tmp_path / "set")), path)


# Archives

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
    images, same = read_pair_archive(write(tmp_path, pickle.dumps((IMAGES, answers), protocol)))
    assert (images, same.tolist()) == (IMAGES, SAME)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_bin_of_numpy_arrays(tmp_path, protocol):
    images = [np.frombuffer(image, np.uint8) for image in IMAGES]
    content = pickle.dumps((images, np.array(SAME)), protocol)
    assert read_pair_archive(write(tmp_path, content))[0] == IMAGES


def test_bin_of_python_2(tmp_path):
    images = [b"tiny \xff image", *IMAGES[1:]]
    found, same = read_pair_archive(write(tmp_path, python2(images, SAME)))
    assert (found, same.tolist()) == (images, SAME)


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


class Means:
    """A recogniser of mean colours."""

    def embed(self, images):
        return torch.stack([image.float().mean((1, 2)) for image in images])


def test_images_of_a_bin_reach_the_recogniser_in_order():
    images = [*IMAGES[:5], jpeg(0, 20), *IMAGES[6:]]
    found = embed_distances(images, Means(), "pairs.bin")
    means = np.array([np.asarray(Image.open(io.BytesIO(i))).mean((0, 1)) for i in images])
    assert found == pytest.approx(((means[0::2] - means[1::2]) ** 2).sum(1), rel=1e-4)


def test_damaged_images_are_named():
    with pytest.raises(ValueError, match="pairs.bin, image 5: not an image"):
        embed_distances([*IMAGES[:5], b"no image", *IMAGES[6:]], Means(), "pairs.bin")
