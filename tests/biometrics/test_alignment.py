import numpy as np
import pytest

from biometrics.alignment import (
    Similarity,
    align_face,
    fit_similarity,
    part_outside,
    template_points,
    warp,
)
from tests.helpers.faces import FakeDetector, face_at
from tests.helpers.images import random_pixels


def similarity(scale=1.0, angle_deg=0.0, tx=0.0, ty=0.0):
    angle = np.radians(angle_deg)
    return Similarity(scale * np.cos(angle), scale * np.sin(angle), tx, ty)


def points(seed, count=5):
    return np.random.default_rng(seed).uniform(0, 100, (count, 2))


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


def matrix_of(transform):
    a, b, tx, ty = vars_of(transform)
    return np.array([[a, -b, tx], [b, a, ty]])


def vars_of(transform):
    return [transform.a, transform.b, transform.tx, transform.ty]


@pytest.mark.parametrize("seed", range(6))
def test_the_transform_is_that_of_scikit_image(seed):
    transforms = pytest.importorskip("skimage.transform", reason="needs requirements-dev.txt")
    source, target = points(seed), points(100 + seed)
    if seed % 2:  # like landmarks: near a similarity
        target = similarity(1.3, 40 * seed, 5, 6).apply(source) + target / 20
    found = fit_similarity(source, target)
    expected = transforms.SimilarityTransform.from_estimate(source, target)
    assert np.allclose(matrix_of(found), expected.params[:2])
    assert found.scale == pytest.approx(expected.scale)


def test_the_transform_is_that_of_insightface():
    landmarks = np.array([[205, 102], [247, 104], [225, 129], [202, 139], [245, 142]])
    found = matrix_of(fit_similarity(landmarks, template_points(112)))
    # estimate_norm of insightface 2.1, run on these landmarks; at other sizes it scales the
    # centres of pixels, ours their edges.
    expected = [[0.884714652, 0.060230752, -150.278121], [-0.060230752, 0.884714652, -23.5561924]]
    assert np.allclose(found, expected, rtol=1e-6)


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


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("move", [(1.0, 20, 30, -5), (1.7, -50, -20, 40), (3.0, 170, 120, 130)])
def test_pixels_are_nearly_those_of_scikit_images_bicubic(move, channels):
    transforms = pytest.importorskip("skimage.transform", reason="needs requirements-dev.txt")
    image, transform = random_pixels(0, 48)[..., :channels], similarity(*move)
    back = transforms.AffineTransform(np.vstack([matrix_of(transform), [0, 0, 1]])).inverse
    expected = transforms.warp(
        image.astype(float), back, output_shape=(64, 64), order=3, mode="reflect"
    )
    assert np.abs(warp(image, transform, 64) - expected).max() < 2


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


# Faces


def test_landmarks_land_on_the_template():
    size, side, margin = 300, 96, 0.3
    landmarks = similarity(1.4, -25, 60, 90).apply(template_points(112))
    for number, (x, y) in enumerate(landmarks):
        rows, columns = np.indices((size, size))
        spot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 6.0**2))
        transform = fit_similarity(landmarks, template_points(side, margin))
        weights = warp(spot.astype(np.uint8), transform, side) / 255.0
        rows, columns = np.indices((side, side))
        centre = [(weights * axis).sum() / weights.sum() for axis in (columns, rows)]
        assert np.abs(centre - template_points(side, margin)[number]).max() < 0.1


@pytest.mark.parametrize("channels", [1, 3])
def test_the_one_face_of_an_image_is_moved_to_the_template(channels):
    image = random_pixels(0, 64)[..., :channels]
    landmarks = similarity(0.4, 12, 5, 2).apply(template_points(112))
    face = face_at(landmarks)
    moved = align_face(image, FakeDetector(lambda _: [face]), 32)
    expected = warp(image, fit_similarity(landmarks, template_points(32)), 32)
    assert np.array_equal(moved, expected)
    assert align_face(image, FakeDetector(lambda _: []), 32) == "no face"
    assert align_face(image, FakeDetector(lambda _: [face, face]), 32) == "several faces"
