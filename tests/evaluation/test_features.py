"""Features of images: once, in blocks of one size, the same for any number of processes."""

import threading

import numpy as np
import pytest
import torch

from data.samples import open_samples
from evaluation.features import (
    BLOCK,
    GROUPS,
    FeatureCache,
    FolderImages,
    SampledImages,
    collect_features,
    extract,
    split_groups,
)
from tests.helpers.images import write_image
from tests.helpers.measures import Numbers, Pixels, write_people
from torch_utils.distributed import World

COUNT = 150


def collect(network, counts, world=None):
    """Features by view."""
    wanted = {(network.hash, view): count for view, count in counts.items()}
    images = SampledImages(Numbers(), COUNT)
    found = collect_features(images, wanted, {network.hash: network}, world=world or World())
    return {view: rows for (_, view), rows in found.items()}


class Meeting(World):
    """Processes as threads: sums wait until all have brought their part."""

    def __init__(self, rank, size, shared):
        super().__init__(rank=rank, size=size)
        object.__setattr__(self, "shared", shared)

    def sum(self, tensor):
        shared = self.shared
        shared["parts"][self.rank] = tensor.clone()
        shared["barrier"].wait()
        total = torch.stack(list(shared["parts"])).sum(dim=0).to(tensor.dtype)
        shared["barrier"].wait()
        return total


def collect_in_processes(size, network, counts):
    shared = {"parts": [None] * size, "barrier": threading.Barrier(size, timeout=30)}
    found = [None] * size

    def work(rank):
        found[rank] = collect(network, counts, world=Meeting(rank, size, shared))

    threads = [threading.Thread(target=work, args=[rank]) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_rows_are_the_features_of_the_images_each_embedded_once():
    network = Pixels()
    rows = collect(network, {"rgb": COUNT})["rgb"]
    assert network.seen == -(-COUNT // BLOCK) * BLOCK
    images = Numbers().sample(range(COUNT))["rgb"]
    np.testing.assert_array_equal(rows, network(images).numpy())


def test_joint_features_stand_side_by_side_and_one_channel_is_repeated():
    found = collect(Pixels(), {"rgb": COUNT, "nir": 40, "joint": COUNT})
    nir = found["nir"].reshape(40, 3, 4)
    np.testing.assert_array_equal(nir[:, 0], nir[:, 2])
    np.testing.assert_array_equal(found["joint"][:, :12], found["rgb"])
    np.testing.assert_array_equal(found["joint"][:40, 12:], found["nir"])


@pytest.mark.parametrize("size", [2, 3, 7])
def test_processes_share_the_images(size):
    """7 processes for 5 blocks: some have none."""
    network, counts = Pixels(), {"rgb": COUNT, "nir": 100}
    alone = collect(network, counts)
    network.seen = 0
    first, *others = collect_in_processes(size, network, counts)
    assert network.seen == (5 + 4) * BLOCK
    assert others == [{}] * (size - 1)
    for view in counts:
        np.testing.assert_array_equal(first[view], alone[view])


def test_networks_always_see_whole_blocks():
    shapes = []

    def network(images):
        shapes.append(tuple(images.shape))
        return images.float().mean(dim=(2, 3))

    assert extract(network, torch.zeros(3, 1, 4, 4, dtype=torch.uint8)).shape == (3, 3)
    assert shapes == [(BLOCK, 3, 4, 4)]


def test_people_stay_in_one_group():
    identities = np.repeat(np.arange(37)[::-1], 3)
    groups = split_groups(identities)
    assert all(len(set(groups[identities == person])) == 1 for person in range(37))
    assert groups[0] == 0
    assert set(np.bincount(groups)) == {9, 12}
    assert len(np.unique(groups)) == GROUPS


def test_few_people_are_few_groups():
    assert len(np.unique(split_groups(np.array([5, 5, 9])))) == 2


def open_folder(path):
    return FolderImages(open_samples(path))


class TestFolders:
    def test_blocks_of_a_folder(self, tmp_path):
        source = open_folder(write_people(tmp_path / "set"))
        assert len(source) == 36
        first, last = source.load(0), source.load(1)
        assert list(first["rgb"].shape) == [32, 3, 4, 4]
        assert list(last["nir"].shape) == [4, 1, 4, 4]
        assert source.identities(36).tolist() == np.repeat(np.arange(12), 3).tolist()

    def test_another_size_is_refused_by_name(self, tmp_path):
        root = write_people(tmp_path / "set")
        write_image(root / "VIS" / "03_1.png", np.zeros((8, 6, 3), np.uint8))
        with pytest.raises(ValueError, match=r"03_1.png: all rgb images must have .* 4x4, got 6x8"):
            open_folder(root).load(0)


KEY = {"images": "ab", "extractor": "cd", "count": 6, "view": "rgb", "name": "net"}
ROWS = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)


def flip_a_bit(content):
    content[content.index(ROWS.tobytes()) + 10] ^= 1
    return content


class TestCache:
    @pytest.fixture
    def cache(self, tmp_path):
        return FeatureCache(tmp_path / "cache")

    def test_rows_come_back_and_every_part_of_the_key_counts(self, cache):
        assert cache.load("set", KEY) is None
        cache.store("set", KEY, ROWS)
        np.testing.assert_array_equal(cache.load("set", KEY), ROWS)
        for name in KEY:
            assert cache.load("set", {**KEY, name: "other"}) is None

    @pytest.mark.parametrize("damage", [lambda c: c[:-30], lambda _: b"", flip_a_bit])
    def test_damaged_entries_are_absent_and_written_anew(self, cache, damage, caplog):
        cache.store("set", KEY, ROWS)
        (path,) = cache.folder.iterdir()
        path.write_bytes(damage(bytearray(path.read_bytes())))
        assert cache.load("set", KEY) is None
        assert "damaged, computed anew" in caplog.text
        cache.store("set", KEY, ROWS)
        np.testing.assert_array_equal(cache.load("set", KEY), ROWS)

    @pytest.mark.parametrize("key", ["{}", [{"a": 1}]])
    def test_another_key_or_a_pickle_is_no_entry(self, cache, key):
        cache.store("set", KEY, ROWS)
        (path,) = cache.folder.iterdir()
        with path.open("wb") as file:
            np.savez(file, key=np.array(key, dtype=None if key == "{}" else object), rows=ROWS)
        assert cache.load("set", KEY) is None

    def test_a_folder_that_cannot_be_written_is_no_error(self, tmp_path, caplog):
        (tmp_path / "file").write_text("")
        FeatureCache(tmp_path / "file" / "cache").store("set", KEY, ROWS)
        assert "not kept" in caplog.text

    def test_folder_is_beside_the_downloads(self, monkeypatch, tmp_path):
        monkeypatch.setenv("BIFACE_CACHE_DIR", str(tmp_path))
        assert FeatureCache().folder == tmp_path / "metrics"
