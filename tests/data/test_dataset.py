import shutil
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from data.dataset import PairDataset
from data.labels import IDENTITY_FILE
from data.modalities import MODALITIES
from tests.helpers.images import (
    random_pixels,
    truncate,
    write_image,
    write_json,
    write_pairs,
    zip_folder,
)

STEMS = ["1_0", "1_1", "2_0", "2_1"]


def stored(root, stem, folder):
    pixels = np.asarray(Image.open(root / folder / f"{stem}.png"))
    return torch.tensor(pixels.reshape(16, 16, -1)).permute(2, 0, 1)


@pytest.mark.parametrize("cache_gib", [1.0, 0.0])
def test_items_are_the_stored_pixels(tmp_path, cache_gib):
    dataset = PairDataset.open(write_pairs(tmp_path / "faces"))
    dataset.cache(cache_gib)
    assert (dataset.name, dataset.resolution, dataset.c_dim) == ("faces", 16, 0)
    assert (len(dataset), list(dataset.stems)) == (4, STEMS)
    assert dataset.modalities == MODALITIES
    assert dataset.is_cached == (cache_gib > 0)
    for i, stem in enumerate(STEMS):
        item = dataset[i]
        assert list(item) == ["rgb", "nir", "label"]
        assert torch.equal(item["rgb"], stored(tmp_path / "faces", stem, "VIS"))
        assert torch.equal(item["nir"], stored(tmp_path / "faces", stem, "NIR"))
        assert item["label"].shape == (0,)
        assert item["label"].dtype == torch.float32


@pytest.mark.parametrize("cache_gib", [1.0, 0.0])
def test_changing_an_item_leaves_the_data_alone(tmp_path, cache_gib):
    dataset = PairDataset.open(write_pairs(tmp_path), mirror=True)
    dataset.cache(cache_gib)
    before = dataset[0]["rgb"].clone()
    dataset[0]["rgb"].zero_()
    dataset[4]["rgb"].zero_()
    assert torch.equal(dataset[0]["rgb"], before)


def test_mirror_flips_both_of_a_pair(tmp_path):
    plain = PairDataset.open(write_pairs(tmp_path))
    mirrored = PairDataset.open(tmp_path, mirror=True)
    assert len(mirrored) == 8
    assert list(mirrored.stems) == STEMS
    for i in range(4):
        for name in ("rgb", "nir"):
            assert torch.equal(mirrored[i][name], plain[i][name])
            assert torch.equal(mirrored[i + 4][name], plain[i][name][:, :, range(15, -1, -1)])
    assert not torch.equal(mirrored[4]["nir"], plain[0]["nir"])


def test_subset_is_random_seeded_and_in_order(tmp_path):
    stems = [f"{i:02}" for i in range(20)]
    write_pairs(tmp_path, stems, size=8)
    first = PairDataset.open(tmp_path, subset=5, seed=1)
    assert len(first) == 5
    assert list(first.stems) == sorted(first.stems)
    assert list(PairDataset.open(tmp_path, subset=5, seed=1).stems) == list(first.stems)
    others = {tuple(PairDataset.open(tmp_path, subset=5, seed=seed).stems) for seed in range(2, 6)}
    assert len(others) > 1
    assert list(PairDataset.open(tmp_path, subset=20).stems) == stems
    whole = PairDataset.open(tmp_path)
    index = stems.index(first.stems[3])
    assert torch.equal(first[3]["rgb"], whole[index]["rgb"])
    assert len(PairDataset.open(tmp_path, subset=5, mirror=True)) == 10


@pytest.mark.parametrize("subset", [0, 5, -1])
def test_subset_out_of_range_is_refused(tmp_path, subset):
    write_pairs(tmp_path)
    with pytest.raises(ValueError, match=f"--subset must be in 1..4, .* got {subset}"):
        PairDataset.open(tmp_path, subset=subset)


def test_labels_follow_pairs_subsets_and_flips(tmp_path):
    write_pairs(tmp_path)
    features = {f"{stem}.png": [float(i), 7.0] for i, stem in enumerate(STEMS)}
    write_json(tmp_path / IDENTITY_FILE, features)
    dataset = PairDataset.open(tmp_path, use_labels=True, mirror=True, subset=3, seed=4)
    assert dataset.c_dim == 2
    for i in range(6):
        expected = torch.tensor(features[f"{dataset.stems[i % 3]}.png"])
        assert torch.equal(dataset[i]["label"], expected)


def test_labels_are_used_by_themselves_only_beside_vis_and_nir(tmp_path):
    features = {stem: [0.0] * 3 for stem in STEMS}
    for name, rgb in (("a", "VIS"), ("b", "images")):
        write_json(write_pairs(tmp_path / name, rgb=rgb) / IDENTITY_FILE, features)
    assert PairDataset.open(tmp_path / "a", use_labels=None).c_dim == 3
    assert PairDataset.open(tmp_path / "a").c_dim == 0
    assert PairDataset.open(tmp_path / "b", use_labels=None).c_dim == 0
    (tmp_path / "a" / IDENTITY_FILE).unlink()
    assert PairDataset.open(tmp_path / "a", use_labels=None).c_dim == 0
    with pytest.raises(ValueError, match="labels were asked for"):
        PairDataset.open(tmp_path / "a", use_labels=True)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12 and later
def test_loader_workers_give_what_the_data_set_gives(tmp_path):
    root = write_pairs(tmp_path / "faces")
    root = zip_folder(root, tmp_path / "faces.zip", compression=zipfile.ZIP_DEFLATED)
    dataset = PairDataset.open(root, mirror=True)
    dataset[0]
    loader = DataLoader(dataset, batch_size=4, num_workers=2, multiprocessing_context="fork")
    batches = list(loader)
    for name in ("rgb", "nir", "label"):
        joined = torch.cat([batch[name] for batch in batches])
        assert torch.equal(joined, torch.stack([dataset[i][name] for i in range(8)]))


def test_index_out_of_range(tmp_path):
    dataset = PairDataset.open(write_pairs(tmp_path))
    assert len(list(dataset)) == 4
    for index in (4, -1):
        with pytest.raises(IndexError, match=rf"index must be in 0..3, got {index}"):
            dataset[index]


def test_fingerprint_tells_data_apart(tmp_path):
    root = write_pairs(tmp_path / "a")
    first = PairDataset.open(root).fingerprint()
    assert len(first) == 64
    assert PairDataset.open(root, mirror=True).fingerprint() == first
    shutil.copytree(root, tmp_path / "b")
    assert PairDataset.open(tmp_path / "b").fingerprint() == first
    write_json(root / IDENTITY_FILE, {stem: [1.0] for stem in STEMS})
    others = {
        first,
        PairDataset.open(root, use_labels=True).fingerprint(),
        PairDataset.open(root, subset=3).fingerprint(),
        PairDataset.open(write_pairs(tmp_path / "c", ["1_0", "1_1", "2_0", "2_2"])).fingerprint(),
        PairDataset.open(write_pairs(tmp_path / "d", size=32)).fingerprint(),
    }
    assert len(others) == 5


def test_opening_and_verifying_decode_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *_: pytest.fail("decoded"))
    dataset = PairDataset.open(write_pairs(tmp_path))
    dataset.verify()
    assert len(dataset.fingerprint()) == 64
    assert not dataset.is_cached


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_truncated_images_are_found(tmp_path, suffix):
    write_pairs(tmp_path, suffix=suffix, size=32)
    truncate(tmp_path / "NIR" / f"2_0{suffix}")
    for look in (PairDataset.verify, PairDataset.cache):
        with pytest.raises(ValueError, match=f"NIR/2_0{suffix}: damaged"):
            look(PairDataset.open(tmp_path))


def test_sizes_that_differ_are_named(tmp_path):
    write_pairs(tmp_path)
    write_image(tmp_path / "NIR" / "2_0.png", random_pixels(0, 32, 1))
    message = r"one size; most have 16x16, but 1 not: .*NIR/2_0.png \(32x32\); .*import"
    with pytest.raises(ValueError, match=message):
        PairDataset.open(tmp_path).verify()


@pytest.mark.parametrize("shape", [(16, 8), (4, 4), (12, 12)])
def test_other_shapes_are_refused(tmp_path, shape):
    for folder in ("VIS", "NIR"):
        write_image(tmp_path / folder / "1.png", np.zeros(shape, dtype=np.uint8))
    with pytest.raises(ValueError, match=f"power of two of at least 8, got {shape[1]}x{shape[0]}"):
        PairDataset.open(tmp_path)


def test_another_resolution_than_expected_is_refused(tmp_path):
    write_pairs(tmp_path)
    assert PairDataset.open(tmp_path, resolution=16).resolution == 16
    with pytest.raises(ValueError, match="images must have 32 pixels a side, got 16"):
        PairDataset.open(tmp_path, resolution=32)
