"""Features of images: once, in blocks of one size, the same for any number of processes."""

import threading

import numpy as np
import pytest
import torch

from evaluation.image_features import GROUPS, Request, collect_features, extract, group_numbers
from evaluation.sources import BLOCK, DrawnSource, FolderSource
from metrics.statistics import compute_moments, merge_moments
from tests.helpers.images import write_image
from tests.helpers.measures import Numbers, Pixels, write_people
from torch_utils.distributed import World

COUNT = 150


def requests(network, **changes):
    values = {"extractor": network.hash, "view": "rgb", "count": COUNT, "keeps_rows": True}
    return Request(**{**values, **changes})


def collect(network, *wanted, world=None):
    source = DrawnSource(Numbers(), COUNT)
    return collect_features(source, wanted, {network.hash: network}, world=world or World())


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


def collect_in_processes(size, *wanted, network):
    shared = {"parts": [None] * size, "barrier": threading.Barrier(size, timeout=30)}
    found = [None] * size

    def work(rank):
        found[rank] = collect(network, *wanted, world=Meeting(rank, size, shared))

    threads = [threading.Thread(target=work, args=[rank]) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_each_image_is_looked_at_once():
    network = Pixels()
    collect(
        network,
        requests(network),
        requests(network, count=40, keeps_rows=False),
    )
    assert network.seen == -(-COUNT // BLOCK) * BLOCK


def test_rows_are_the_features_of_the_images():
    network = Pixels()
    features = collect(network, requests(network))[requests(network)]
    images = Numbers().sample(range(COUNT))["rgb"]
    np.testing.assert_array_equal(features.rows, network(images).numpy())
    assert features.first(5).rows.shape == (5, 12)
    assert len(features.first(5)) == 5


def test_one_channel_is_repeated():
    network = Pixels()
    request = requests(network, view="nir")
    rows = collect(network, request)[request].rows.reshape(COUNT, 3, 4)
    np.testing.assert_array_equal(rows[:, 0], rows[:, 2])


def test_joint_features_stand_side_by_side():
    network = Pixels()
    wanted = [requests(network, view=view) for view in ("rgb", "nir", "joint")]
    rgb, nir, joint = (collect(network, *wanted)[request].rows for request in wanted)
    np.testing.assert_array_equal(joint, np.concatenate([rgb, nir], axis=1))


def test_moments_are_those_of_the_rows():
    network = Pixels()
    rows, moments = requests(network), requests(network, keeps_rows=False)
    found = collect(network, rows, moments)
    assert found[moments].rows is None
    for first, second in zip(
        found[rows].group_moments(), found[moments].group_moments(), strict=True
    ):
        assert first.count == second.count == COUNT // GROUPS
        np.testing.assert_allclose(first.scatter, second.scatter, rtol=1e-12)
    whole = merge_moments(found[moments].group_moments())
    np.testing.assert_allclose(
        whole.covariance, compute_moments(found[rows].rows).covariance, rtol=1e-11
    )


@pytest.mark.parametrize("size", [2, 3, 7])
def test_processes_share_the_images(size):
    """7 processes for 5 blocks: some have none."""
    network = Pixels()
    rows, moments = requests(network), requests(network, keeps_rows=False, count=100)
    alone = collect(network, rows, moments)
    network.seen = 0
    first, *others = collect_in_processes(size, rows, moments, network=network)
    assert network.seen == -(-COUNT // BLOCK) * BLOCK
    assert others == [{}] * (size - 1)
    np.testing.assert_array_equal(first[rows].rows, alone[rows].rows)
    for a, b in zip(first[moments].moments, alone[moments].moments, strict=True):
        assert a.count == b.count
        np.testing.assert_allclose(a.mean, b.mean, rtol=1e-13)
        np.testing.assert_allclose(a.scatter, b.scatter, rtol=1e-11, atol=1e-12)


def test_networks_always_see_whole_blocks():
    shapes = []

    def network(images):
        shapes.append(tuple(images.shape))
        return images.float().mean(dim=(2, 3))

    assert extract(network, torch.zeros(3, 1, 4, 4, dtype=torch.uint8)).shape == (3, 3)
    assert shapes == [(BLOCK, 3, 4, 4)]


def test_people_stay_in_one_group():
    people = np.repeat(np.arange(37)[::-1], 3)
    groups = group_numbers(people)
    assert all(len(set(groups[people == person])) == 1 for person in range(37))
    assert groups[0] == 0
    assert set(np.bincount(groups)) == {9, 12}
    assert len(np.unique(groups)) == GROUPS


def test_few_people_are_few_groups():
    assert len(np.unique(group_numbers(np.array([5, 5, 9])))) == 2


class TestFolders:
    def test_blocks_of_a_folder(self, tmp_path):
        source = FolderSource.open(write_people(tmp_path / "set"))
        assert len(source) == 36
        first, last = source.load(0), source.load(1)
        assert list(first["rgb"].shape) == [32, 3, 4, 4]
        assert list(last["nir"].shape) == [4, 1, 4, 4]
        assert source.people().tolist() == np.repeat(np.arange(12), 3).tolist()

    def test_content_hash_sees_every_byte_and_name(self, tmp_path):
        hashes = []
        for change in ("none", "pixel", "name", "none"):
            root = write_people(tmp_path / f"{len(hashes)}")
            if change == "pixel":
                write_image(root / "NIR" / "00_0.png", np.zeros((4, 4), np.uint8))
            if change == "name":
                for folder in ("VIS", "NIR"):
                    (root / folder / "00_0.png").rename(root / folder / "00_9.png")
            hashes.append(FolderSource.open(root).content_hash())
        assert hashes[0] == hashes[3]
        assert len(set(hashes)) == 3

    def test_another_size_is_refused_by_name(self, tmp_path):
        root = write_people(tmp_path / "set")
        write_image(root / "VIS" / "03_1.png", np.zeros((8, 6, 3), np.uint8))
        with pytest.raises(ValueError, match=r"03_1.png: all rgb images must have .* 4x4, got 6x8"):
            FolderSource.open(root).load(0)

    def test_empty_folder(self, tmp_path):
        with pytest.raises(ValueError, match="no images"):
            FolderSource.open(tmp_path)
