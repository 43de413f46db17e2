"""The example renderer: purity, sizes, classes, alignment and what the two modalities say."""

import numpy as np
import pytest

from renderer import classes
from renderer.classes import FACE_4, FACE_10, OCULAR_4, TO_FACE_4, TO_OCULAR_4, merge_mask
from renderer.identity import HairStyle, Style, draw_identity, stream_rng
from renderer.render import RESOLUTIONS, render_sample
from renderer.sample import draw_sample

SEED = 5
IDENTITIES = 24


@pytest.fixture(scope="module")
def pictures():
    return [render_sample(SEED, identity, 0, 64) for identity in range(IDENTITIES)]


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("style", ["photo", "plain"])
def test_every_size_has_the_promised_arrays(resolution, style):
    picture = render_sample(SEED, 1, 2, resolution, style)
    rgb, nir = picture.images["rgb"], picture.images["nir"]
    assert rgb.shape == (3, resolution, resolution)
    assert nir.shape == (1, resolution, resolution)
    assert picture.mask.shape == (resolution, resolution)
    assert {a.dtype for a in (rgb, nir, picture.mask)} == {np.dtype(np.uint8)}
    assert picture.mask.max() < len(FACE_10)
    assert picture.attributes["identity"] == 1
    assert picture.attributes["sample"] == 2


def test_an_image_is_a_pure_function_of_its_numbers():
    first = render_sample(SEED, 3, 4, 32)
    render_sample(SEED + 1, 0, 0, 32)
    again = render_sample(SEED, 3, 4, 32)
    np.testing.assert_equal(vars(again), vars(first))
    for other in ((SEED + 1, 3, 4), (SEED, 4, 4), (SEED, 3, 5)):
        assert (render_sample(*other, 32).images["rgb"] != first.images["rgb"]).mean() > 0.5


def test_a_larger_image_shows_the_same_face(pictures):
    large = render_sample(SEED, 2, 0, 128)
    shrunk = large.images["rgb"].reshape(3, 64, 2, 64, 2).mean(axis=(2, 4))
    assert np.abs(shrunk - pictures[2].images["rgb"]).mean() < 5
    assert (large.mask[::2, ::2] == pictures[2].mask).mean() > 0.93


def test_all_ten_classes_are_seen_at_64(pictures):
    for picture in pictures:
        assert set(np.unique(picture.mask)) == set(range(10)), picture.attributes["identity"]


def test_pupils_survive_at_32():
    seen = [(render_sample(SEED, i, 0, 32).mask == classes.PUPIL).any() for i in range(IDENTITIES)]
    assert np.mean(seen) > 0.6


def test_the_parts_of_a_face_lie_where_they_belong(pictures):
    for picture in pictures:
        rows = {number: np.nonzero(picture.mask == number)[0].mean() for number in range(10)}
        order = (classes.BROWS, classes.IRIS, classes.NOSE, classes.LIPS, classes.NECK_AND_CLOTHES)
        places = [rows[number] for number in order]
        assert places == sorted(places)
        hangs = HairStyle(picture.attributes["hair_style"]).hangs
        assert rows[classes.HAIR] < rows[classes.LIPS] or hangs


def edges(picture, modality):
    return np.abs(np.diff(picture.images[modality].astype(float).mean(axis=0), axis=1))


@pytest.mark.parametrize("modality", ["rgb", "nir"])
def test_edges_of_the_images_lie_on_edges_of_the_mask(pictures, modality):
    on, off = [], []
    for picture in pictures:
        step = edges(picture, modality)
        edge = np.diff(merge_mask(picture.mask, 4).astype(int), axis=1) != 0
        on.append(step[edge].mean())
        off.append(step[~edge].mean())
    assert np.mean(on) > 3 * np.mean(off)


@pytest.mark.parametrize("shift", [-3, 3])
def test_rgb_and_nir_share_their_edges(pictures, shift):
    """Edges of both correlate best without a shift of one against the other."""

    def agreement(offset):
        pairs = [(edges(p, "rgb"), np.roll(edges(p, "nir"), offset, axis=1)) for p in pictures]
        return np.mean(
            [np.corrcoef(a[:, 4:-4].ravel(), b[:, 4:-4].ravel())[0, 1] for a, b in pairs]
        )

    assert agreement(0) > agreement(shift) + 0.2


def test_skin_is_bright_in_nir_whatever_its_visible_tone(pictures):
    visible, nir = (
        np.array([p.images[name][:, p.mask == classes.SKIN].mean() for p in pictures])
        for name in ("rgb", "nir")
    )
    melanin = np.array([p.attributes["skin_melanin"] for p in pictures])
    assert np.corrcoef(melanin, visible)[0, 1] < -0.85
    assert abs(np.polyfit(melanin, nir, 1)[0]) < 0.2 * abs(np.polyfit(melanin, visible, 1)[0])
    assert nir.std() < 0.5 * visible.std()
    assert nir.min() > 120


def test_dark_irises_brighten_in_nir(pictures):
    dark = [p for p in pictures if p.attributes["iris_colour"] == "dark_brown"]
    assert dark
    for picture in dark:
        rgb, nir = (image[:, picture.mask == classes.IRIS] for image in picture.images.values())
        assert nir.mean() > rgb.mean() + 15


def medians(picture, parts):
    """Return red, green, blue and NIR of each class: [K, 4]."""
    pixels = np.concatenate(list(picture.images.values()))
    return np.array([np.median(pixels[:, picture.mask == part], axis=1) for part in parts])


def test_nir_is_not_a_function_of_rgb():
    """Surfaces of nearly the same colour often differ in NIR by far more than in any colour."""
    parts = (classes.BACKGROUND, classes.HAIR, classes.NECK_AND_CLOTHES)
    found = [medians(render_sample(SEED, identity, 0, 32), parts) for identity in range(40)]
    colours, values = np.split(np.concatenate(found), [3], axis=1)
    tolerance = 16
    distance = np.abs(colours[:, None] - colours[None]).max(axis=2)
    rows, columns = np.nonzero(np.triu(distance < tolerance, 1))
    assert len(rows) > 50
    differing = np.abs(values[rows] - values[columns]) > 2 * tolerance
    assert differing.mean() > 0.25


def test_identity_is_fixed_and_samples_vary():
    subject = draw_identity(SEED, 7, Style.PHOTO)
    assert subject == draw_identity(SEED, 7, Style.PHOTO)
    samples = [draw_sample(SEED, 7, number, subject, Style.PHOTO) for number in range(5)]
    assert len({sample.pose.yaw for sample in samples}) == len(samples)
    attributes = [render_sample(SEED, 7, number, 16).attributes for number in range(3)]
    fixed = ("skin_melanin", "hair_style", "hair_colour", "iris_colour", "beard")
    assert len({tuple(entry[key] for key in fixed) for entry in attributes}) == 1
    assert len({entry["pose"]["yaw_deg"] for entry in attributes}) == len(attributes)


def test_samples_of_an_identity_are_nearer_than_those_of_others():
    """Colours of skin and hair alone tell identities apart far better than chance."""

    def colours(identity, sample):
        picture = render_sample(SEED, identity, sample, 32)
        return medians(picture, (classes.SKIN, classes.HAIR)).ravel()

    identities, samples = 12, 4
    features = np.array([[colours(i, s) for s in range(samples)] for i in range(identities)])
    means = features[:, : samples // 2].mean(axis=1)
    probes = features[:, samples // 2 :].reshape(-1, features.shape[-1])
    nearest = ((probes[:, None] - means[None]) ** 2).sum(axis=2).argmin(axis=1)
    truth = np.repeat(np.arange(identities), samples - samples // 2)
    assert (nearest == truth).mean() > 5 / identities


def test_styles_show_different_identities():
    photo = [draw_identity(SEED, number, Style.PHOTO) for number in range(30)]
    plain = [draw_identity(SEED, number, Style.PLAIN) for number in range(30)]
    assert not {subject.texture_seed for subject in photo} & {p.texture_seed for p in plain}
    assert not {subject.melanin for subject in photo} & {p.melanin for p in plain}


def test_plain_faces_are_flat():
    def roughness(style):
        spread = []
        for identity in range(8):
            picture = render_sample(SEED, identity, 0, 64, style)
            spread.append(picture.images["nir"][0, picture.mask == classes.SKIN].std())
        return np.median(spread)

    assert roughness("plain") < 0.5 * roughness("photo")


def test_all_hair_styles_occur():
    styles = {draw_identity(SEED, number, Style.PHOTO).hair.style for number in range(150)}
    assert styles == set(HairStyle)


def test_streams_are_independent():
    draws = [
        stream_rng(stream, style, 1, 2).integers(1 << 62) for stream in (0, 1) for style in Style
    ]
    assert len(set(draws)) == len(draws)


def test_merges_keep_what_belongs_together():
    face = dict(zip(FACE_10.names, (FACE_4.names[k] for k in TO_FACE_4), strict=True))
    assert face["nose"] == face["skin"] == "skin"
    assert face["brows"] == face["hair"] == "hair"
    assert face["pupil"] == face["lips"] == "eyes_and_mouth"
    assert face["neck_and_clothes"] == "background"
    eye = dict(zip(FACE_10.names, (OCULAR_4.names[k] for k in TO_OCULAR_4), strict=True))
    assert [eye[name] for name in ("iris", "pupil", "sclera")] == ["iris", "pupil", "sclera"]
    assert eye["skin"] == "background"
    mask = np.arange(10, dtype=np.uint8).reshape(2, 5)
    assert merge_mask(mask, 4).ravel().tolist() == list(TO_FACE_4)
    assert merge_mask(mask, 10) is mask


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0, 0, 48), "resolution: must be one of 16, 32, 64, 128, 256, got 48"),
        ((0, 0, 0, 512), "resolution"),
        ((0, 0, 0, 32, "cartoon"), "'cartoon' is not a valid Style"),
        ((-1, 0, 0, 32), "seed: must be 0"),
        ((0, 1 << 32, 0, 32), "identity: must be 0"),
        ((0, 0, -2, 32), "sample: must be 0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        render_sample(*arguments)
