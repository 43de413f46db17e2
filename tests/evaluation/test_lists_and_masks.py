import numpy as np
import pytest
from PIL import Image

from data.samples import open_samples
from evaluation import mask_sets
from evaluation.embeddings import embed_images
from evaluation.pair_lists import compare_pairs, read_pair_list
from tests.helpers.images import random_pixels, write_image, write_json, write_pairs


def write_masks(folder, names, size=8):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        values = np.random.default_rng(i).integers(0, 3, (size, size), dtype=np.uint8)
        Image.fromarray(values).save(folder / name)
    return folder


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
    images = open_samples(write_pairs(tmp_path / "set"))
    embedded = {
        name: embed_images(images, name, lambda x: x.float().flatten(1)[:, :200] - 99)
        for name in images.modalities
    }
    path = tmp_path / "pairs.csv"
    path.write_text("first,second,same\n1_0,NIR/1_1,1\n1_0,2_0,0\n1_1,2_1,0\n", encoding="utf-8")
    found = compare_pairs(read_pair_list(path), embedded, "list")
    rgb, nir = embedded["rgb"].vectors, embedded["nir"].vectors
    tally = found.tally()
    assert tally.mated.values[tally.mated.weights > 0] == pytest.approx([rgb[0] @ nir[1]], abs=1e-6)
    expected = sorted([rgb[0] @ rgb[2], rgb[1] @ rgb[3]])
    assert tally.non_mated.values[tally.non_mated.weights > 0] == pytest.approx(expected, abs=1e-6)
    path.write_text("first,second,same\n1_0,9_9,1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="list, pair 1: no rgb image '9_9'"):
        compare_pairs(read_pair_list(path), embedded, "list")
    path.write_text("first,second,same\n1_0,1_1,1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="list: pairs must be of both kinds"):
        compare_pairs(read_pair_list(path), embedded, "list")


def test_masks_of_two_layouts_meet(tmp_path):
    write_masks(tmp_path / "a" / "masks", ["0.png", "1.png"])
    folder = write_masks(tmp_path / "b", ["image_0_label.png", "image_1_label.png"])
    write_image(folder / "0_RGB.png", random_pixels(0))
    sets = mask_sets.open_mask_sets(tmp_path / "a", folder)
    assert sets[0].stems == ("0", "1")
    assert mask_sets.class_names(*sets) == ["class 0", "class 1", "class 2"]
    for a, b in mask_sets.mask_pairs(*sets):
        assert (a == b).all()


@pytest.mark.parametrize(
    ("info", "names"),
    [
        ({"classes": [{"name": "skin"}, {"name": "hair"}]}, ["skin", "hair"]),
        ({"classes": 2}, ["class 0", "class 1"]),
        ({"names": ["a", "b"]}, ["a", "b"]),
        ({"classes": "many"}, ["class 0", "class 1", "class 2"]),
        ([1], ["class 0", "class 1", "class 2"]),
    ],
)
def test_names_of_classes(tmp_path, info, names):
    write_masks(tmp_path / "masks", ["0.png"])
    write_json(tmp_path / "dataset_info.json", info)
    for folder in (tmp_path, tmp_path / "masks"):
        assert mask_sets.class_names(*mask_sets.open_mask_sets(folder, folder)) == names


def test_masks_that_do_not_fit(tmp_path):
    for name, files, size in (("a", 2, 8), ("b", 1, 8), ("c", 2, 9)):
        write_masks(tmp_path / name, [f"{i}.png" for i in range(files)], size=size)
    for pair in ("ab", "ba"):
        with pytest.raises(ValueError, match="a: 1 masks have no counterpart in .*b: 1"):
            mask_sets.open_mask_sets(*(tmp_path / name for name in pair))
    with pytest.raises(ValueError, match=r"0.png: the mask must measure \(8, 8\)"):
        list(mask_sets.mask_pairs(*mask_sets.open_mask_sets(tmp_path / "a", tmp_path / "c")))
