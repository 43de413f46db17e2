import numpy as np
import pytest
from PIL import Image

from biometrics.alignment import (
    Similarity,
    align_images,
    fit_similarity,
    part_outside,
    template_points,
    warp,
)
from tests.helpers.images import random_pixels


def similarity(scale=1.0, angle_deg=0.0, tx=0.0, ty=0.0):
    angle = np.radians(angle_deg)
    return Similarity(scale * np.cos(angle), scale * np.sin(angle), tx, ty)


def points(seed, count=5):
    return np.random.default_rng(seed).uniform(0, 100, (count, 2))


def by_singular_values(source, target):
    """Umeyama's solution in any dimension, [2, 3]: an independent way to the same transform."""
    s, t = source - source.mean(axis=0), target - target.mean(axis=0)
    u, d, vt = np.linalg.svd(t.T @ s / len(s))
    signs = np.array([1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = (u * signs) @ vt
    scale = (d * signs).sum() / (s**2).sum(axis=1).mean()
    matrix = scale * rotation
    return np.column_stack([matrix, target.mean(axis=0) - matrix @ source.mean(axis=0)])


# Transforms


def test_template_at_its_own_size():
    expected = [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
    assert np.allclose(template_points(112), expected, rtol=0, atol=1e-12)


def test_template_at_other_sizes_shows_the_same_part():
    # Edges of pixels, not their centres, are what is scaled.
    assert np.allclose((template_points(256) + 0.5) / 256, (template_points(112) + 0.5) / 112)
    with_margin = (template_points(224, 0.5) + 0.5) / 224 - 0.5
    assert np.allclose(with_margin, ((template_points(112) + 0.5) / 112 - 0.5) / 2)


@pytest.mark.parametrize(("side", "margin"), [(0, 0), (112, -0.1), (112, float("nan"))])
def test_bad_templates(side, margin):
    with pytest.raises(ValueError, match="side must be at least 1 and margin at least 0"):
        template_points(side, margin)


@pytest.mark.parametrize("angle_deg", [0, 30, -135, 180])
def test_exact_transforms_are_found(angle_deg):
    transform = similarity(2.5, angle_deg, 7, -3)
    found = fit_similarity(points(0), transform.apply(points(0)))
    assert np.allclose(vars_of(found), vars_of(transform))
    assert found.scale == pytest.approx(2.5)
    assert np.cos(np.radians(found.angle_deg - angle_deg)) == pytest.approx(1)


def vars_of(transform):
    return [transform.a, transform.b, transform.tx, transform.ty]


@pytest.mark.parametrize("seed", range(5))
def test_noisy_points_by_least_squares(seed):
    source, target = points(seed), points(100 + seed)
    if seed % 2:  # like landmarks: near a similarity
        target = similarity(1.3, 40, 5, 6).apply(source) + target / 20
    found = fit_similarity(source, target)
    ones, zeros = np.ones(5), np.zeros(5)
    x, y = source.T
    system = np.concatenate(
        [np.stack([x, -y, ones, zeros], axis=1), np.stack([y, x, zeros, ones], axis=1)]
    )
    expected = np.linalg.lstsq(system, target.T.ravel(), rcond=None)[0]
    assert np.allclose(vars_of(found), expected)
    matrix = [[found.a, -found.b, found.tx], [found.b, found.a, found.ty]]
    assert np.allclose(matrix, by_singular_values(source, target))


def test_a_reflection_is_never_fitted():
    mirrored = points(0) * [-1, 1]
    found = fit_similarity(points(0), mirrored)
    assert found.a**2 + found.b**2 > 0
    assert np.abs(found.apply(points(0)) - mirrored).max() > 1


def test_inverse():
    transform = similarity(0.4, 77, 5, 9)
    assert np.allclose(transform.inverse().apply(transform.apply(points(1))), points(1))
    assert np.allclose(vars_of(transform.inverse().inverse()), vars_of(transform))


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (np.ones((5, 2)), points(0)),
        (points(0) * np.nan, points(0)),
        (points(0), points(0) * np.inf),
        (points(0), np.ones((5, 2))),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_points_without_a_transform(source, target):
    with pytest.raises(ValueError, match="landmarks must"):
        fit_similarity(source, target)


# Pixels


def test_nothing_to_do_keeps_every_pixel():
    image = np.random.default_rng(0).integers(0, 256, (33, 33, 3), dtype=np.uint8)
    assert np.array_equal(warp(image, similarity(), 33), image)
    assert np.array_equal(warp(image[..., 0], similarity(), 33), image[..., 0])


@pytest.mark.parametrize(("shift", "side"), [(5, 20), (0, 33)])
def test_whole_pixels_are_a_crop(shift, side):
    image = np.random.default_rng(1).integers(0, 256, (40, 33), dtype=np.uint8)
    expected = image[shift : shift + side, shift : shift + side]
    assert np.array_equal(warp(image, similarity(1, 0, -shift, -shift), side), expected)


def test_quarter_turn_is_exact():
    image = np.random.default_rng(2).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    turned = warp(image, Similarity(0.0, 1.0, 23.0, 0.0), 24)
    assert np.array_equal(turned, np.rot90(image, -1))


def wave(x, y):
    """A smooth picture of any two coordinates, 0..255."""
    return 127.5 + 80 * np.sin(x / 9 + 0.4) * np.cos(y / 11) + 40 * np.sin((x + 2 * y) / 23)


@pytest.mark.parametrize(
    "transform",
    [
        similarity(1.0, 20, 10, -5),
        similarity(1.7, -50, -20, 40),
        similarity(0.61, 15, 5, 5),
        similarity(0.3, 200, 70, 60),
        similarity(0.97, 1, 0.5, 0.25),
    ],
)
def test_smooth_pictures_are_moved_exactly(transform):
    y, x = np.indices((256, 256))
    image = np.floor(wave(x, y) + 0.5).astype(np.uint8)
    side = 64
    rows, columns = np.indices((side, side))
    there = transform.inverse().apply(np.stack([columns, rows], axis=-1).astype(float))
    inside = ((there > 12) & (there < 243)).all(axis=-1)
    assert inside.mean() > 0.15
    error = warp(image, transform, side) - wave(there[..., 0], there[..., 1])
    # A 1/3 reduction averages 3 pixels of a wave of 57: its amplitude falls by less than 1 %.
    assert np.abs(error[inside]).max() < 1.6


@pytest.mark.parametrize("angle_deg", [0, 17, 45])
@pytest.mark.parametrize("scale", [0.5, 0.31, 0.11])
def test_reduction_does_not_alias(scale, angle_deg):
    y, x = np.indices((400, 400))
    too_fine = 127.5 + 127 * np.cos(np.pi * scale * 1.5 * x) * np.cos(0.9 * np.pi * y)
    side = int(240 * scale)
    centre = similarity(scale, angle_deg).apply(np.array([200.0, 200.0]))
    shifted = similarity(scale, angle_deg, *((side - 1) / 2 - centre))
    result = warp(too_fine.round().astype(np.uint8), shifted, side)
    assert np.abs(result.astype(float) - 127.5).max() < 4
    naive = point_samples(too_fine, shifted, side)
    assert np.abs(naive - 127.5).max() > 60  # what it would look like


def point_samples(image, transform, side):
    rows, columns = np.indices((side, side))
    there = transform.inverse().apply(np.stack([columns, rows], axis=-1).astype(float))
    x, y = np.clip(np.rint(there), 0, len(image) - 1).astype(int).transpose(2, 0, 1)
    return image[y, x]


def test_beyond_the_border_the_picture_is_mirrored():
    image = random_pixels(0, 32)
    result = warp(image, similarity(1, 0, 8, 8), 48)
    assert np.array_equal(result[8:40, 8:40], image)
    assert np.array_equal(result, np.pad(image, ((8, 8), (8, 8), (0, 0)), mode="reflect"))


def test_small_images_are_mirrored_again_and_again():
    image = np.array([[10, 200]], dtype=np.uint8)
    result = warp(image, similarity(1, 0, 3, 3), 8)
    assert np.array_equal(result, np.tile([[200, 10]], (8, 4)))


def test_part_outside():
    assert part_outside(similarity(), 64, 64, 64) == 0
    assert part_outside(similarity(1, 0, 32, 0), 64, 64, 64) == 0.5
    assert part_outside(similarity(1, 0, 32, 32), 64, 64, 64) == 0.75
    assert part_outside(similarity(2, 45, 0, 500), 64, 64, 64) == 1
    assert part_outside(similarity(0.5), 64, 64, 64) == 0.75


# Pairs


def test_both_images_of_a_pair_move_alike():
    grey = random_pixels(3, 90, channels=1)
    images = {"rgb": np.repeat(grey[..., None], 3, axis=2), "nir": grey}
    landmarks = similarity(0.7, 12, 20, 10).apply(template_points(112)) / 1.6
    aligned = align_images(images, landmarks, 32, margin=0.2)
    assert aligned["rgb"].shape == (32, 32, 3)
    for channel in range(3):
        assert np.array_equal(aligned["rgb"][..., channel], aligned["nir"])


def test_landmarks_land_on_the_template():
    size, side, margin = 300, 96, 0.3
    landmarks = similarity(1.4, -25, 60, 90).apply(template_points(112))
    for number, (x, y) in enumerate(landmarks):
        rows, columns = np.indices((size, size))
        spot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 6.0**2))
        image = Image.fromarray(spot.astype(np.uint8))
        weights = align_images({"nir": np.asarray(image)}, landmarks, side, margin)["nir"] / 255.0
        rows, columns = np.indices((side, side))
        centre = [(weights * axis).sum() / weights.sum() for axis in (columns, rows)]
        assert np.abs(centre - template_points(side, margin)[number]).max() < 0.1


def test_pairs_of_two_sizes_are_refused():
    images = {"rgb": random_pixels(0, 16), "nir": random_pixels(0, 8, channels=1)}
    with pytest.raises(ValueError, match="must have one size, got rgb 16x16, nir 8x8"):
        align_images(images, points(0), 16)
