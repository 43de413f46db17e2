"""Images and masks change alike; what is off changes nothing."""

import pytest
import torch

from data.pixels import IGNORED
from segmentation.augmentation import augment
from segmentation.options import AugmentationConfig

SAME = (0, 1, 2)
SWAPPED = (0, 2, 1)


def batch(count=8, size=16, seed=0):
    """Images that show their masks: class / 2 as brightness -1, 0, 1."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 3, [count, size // 4, size // 4], generator=random)
    masks = coarse.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    images = (masks.float() - 1)[:, None].repeat(1, 3, 1, 1)
    return images, masks, masks.float() / 4


def run(options, data, mirrored=SAME, seed=0):
    return augment(options, *data, mirrored, torch.Generator().manual_seed(seed))


def test_without_options_nothing_changes():
    data = batch()
    for before, after in zip(data, run(AugmentationConfig(mirror=False), data), strict=True):
        assert torch.equal(before, after)


def test_some_samples_are_flipped_whole_and_classes_swap():
    images, masks, uncertainty = batch(count=32)
    new_images, new_masks, new_uncertainty = run(
        AugmentationConfig(mirror=True), (images, masks, uncertainty), SWAPPED
    )
    table, flipped = torch.tensor(SWAPPED), 0
    for k in range(32):
        if torch.equal(new_images[k], images[k]):
            assert torch.equal(new_masks[k], masks[k])
            assert torch.equal(new_uncertainty[k], uncertainty[k])
        else:
            flipped += 1
            assert torch.equal(new_images[k], images[k].flip(2))
            assert torch.equal(new_masks[k], table[masks[k].flip(1)])
            assert torch.equal(new_uncertainty[k], uncertainty[k].flip(1))
    assert 8 <= flipped <= 24


def test_a_shift_is_of_whole_pixels_and_repeats_edges():
    images, masks, uncertainty = batch(count=16)
    moved = run(AugmentationConfig(mirror=False, shift=0.2), (images, masks, uncertainty))
    assert torch.allclose(moved[0][:, 0], moved[1].float() - 1, atol=1e-4)
    shifts = set()
    for k in range(16):
        x, y = next(
            (x, y)
            for x in range(-3, 4)
            for y in range(-3, 4)
            if torch.equal(moved[1][k], shifted(masks[k], x, y))
        )
        shifts.add((x, y))
    assert len(shifts) > 5


def shifted(mask, x, y):
    place = torch.arange(len(mask))
    columns, rows = (place - x).clamp(0, len(mask) - 1), (place - y).clamp(0, len(mask) - 1)
    return mask[rows][:, columns]


@pytest.mark.parametrize("options", [{"scale": 0.3}, {"shift": 0.1, "scale": 0.2}])
def test_masks_stay_on_their_images(options):
    images, masks, uncertainty = batch()
    data = run(AugmentationConfig(mirror=False, **options), (images, masks, uncertainty))
    moved, moved_masks, moved_uncertainty = data
    assert not torch.equal(moved_masks, masks)
    assert torch.equal(moved_uncertainty, moved_masks.float() / 4)
    # Between two classes the image is interpolated; elsewhere it shows exactly its class.
    shown = moved[:, 0] + 1
    assert ((shown - moved_masks).abs() <= 1.5 + 1e-5).all()
    assert ((shown - moved_masks).abs() < 1e-4).float().mean() > 0.5


def test_scaling_is_about_the_middle_and_within_its_limits():
    masks = torch.zeros([200, 32, 32], dtype=torch.long)
    masks[:, 12:20, 12:20] = 1
    images = masks.float()[:, None]
    _, scaled, _ = run(AugmentationConfig(mirror=False, scale=0.5), (images, masks, masks.float()))
    areas = scaled.sum(dim=(1, 2)).float() / 64
    assert 1 / 1.5**2 * 0.7 < areas.min() < 0.8
    assert 1.5 < areas.max() < 1.5**2 * 1.2
    assert (scaled == scaled.flip(1)).float().mean() > 0.95


def test_light_changes_the_image_alone_and_stays_in_range():
    images, masks, uncertainty = batch()
    bright, same, also = run(
        AugmentationConfig(mirror=False, light=0.5), (images, masks, uncertainty)
    )
    assert torch.equal(same, masks)
    assert torch.equal(also, uncertainty)
    assert bright.abs().max() <= 1
    assert not torch.equal(bright, images)


def test_ignored_pixels_stay_ignored():
    images, masks, uncertainty = batch()
    masks[:] = IGNORED
    options = AugmentationConfig(mirror=True, shift=0.2, scale=0.2, light=0.2)
    _, moved, _ = run(options, (images, masks, uncertainty), SWAPPED)
    assert (moved == IGNORED).all()


def test_draws_do_not_depend_on_what_is_switched_on():
    data = batch()
    _, alone, _ = run(AugmentationConfig(mirror=True), data)
    _, beside, _ = run(AugmentationConfig(mirror=True, light=0.3), data)
    assert torch.equal(alone, beside)
