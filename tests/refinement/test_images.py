"""Joint images, masks and weights by class."""

import numpy as np
import pytest
import torch

from data.dataset import PairDataset
from refinement.images import Masks, weight_table
from tests.helpers.images import truncate, write_image, write_pairs
from tests.helpers.refinement import RENDERED, joint, write_masks, write_rendered


def test_channels_stand_in_the_fixed_order(tmp_path):
    images = joint(write_pairs(tmp_path), ("nir", "rgb"))
    pair = images.pairs[1]
    assert images.channels == (3, 1)
    assert torch.equal(images[1], torch.cat([pair["rgb"], pair["nir"]]))
    assert torch.equal(images.batch([1, 0])[0], images[1])
    assert joint(tmp_path, ("nir",)).batch([0, 2]).shape == (2, 1, 16, 16)


@pytest.mark.parametrize("names", [(), ("x",), ("rgb", "x")])
def test_modalities_are_checked(tmp_path, names):
    with pytest.raises(ValueError, match=r"must be among \['rgb', 'nir'\], got \["):
        joint(write_pairs(tmp_path), names)


def test_masks_are_read_by_stem(tmp_path):
    masks = Masks(PairDataset.open(write_rendered(tmp_path)))
    assert masks.batch([0, 3]).shape == (2, 16, 16)
    assert masks[2].unique().tolist() == [0, 1]
    assert (masks[2][:, :8] == 0).all()


def test_masks_are_checked(tmp_path):
    write_masks(write_pairs(tmp_path, RENDERED), RENDERED[:2])
    with pytest.raises(FileNotFoundError, match=r"2 of 4 images have none"):
        Masks(PairDataset.open(tmp_path))
    write_masks(tmp_path, RENDERED)
    for values, reason in (
        (np.zeros((8, 8), np.uint8), "1_1.png: must measure 16x16 as the images do, got 8x8"),
        (np.zeros((16, 16, 3), np.uint8), r"1_1.png: .*got mode RGB"),
    ):
        write_image(tmp_path / "masks" / "1_1.png", values)
        with pytest.raises(ValueError, match=reason):
            Masks(PairDataset.open(tmp_path)).verify()
    truncate(tmp_path / "masks" / "1_1.png")
    with pytest.raises(ValueError, match=r"1_1.png: (not a PNG|damaged)"):
        Masks(PairDataset.open(tmp_path)).verify()


def test_weights_by_name_or_number():
    table = weight_table({"face": 3.0, "0": 0.5}, ("back", "face"))
    assert table[:3].tolist() == [0.5, 3, 1]
    assert table.shape == (256,)
    assert (table[2:] == 1).all()


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({"fase": 2.0}, "--region-weight fase: .*back, face; did you mean 'face'?"),
        ({"300": 1.0}, "--region-weight 300: must be one of the classes back, face"),
    ],
)
def test_bad_weights(weights, reason):
    with pytest.raises(ValueError, match=reason):
        weight_table(weights, ("back", "face"))
