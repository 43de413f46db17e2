"""Labelled data sets: what is found, read, checked and refused."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from data.class_list import class_list_from_json
from data.modalities import choose_modalities
from data.pixels import IGNORED
from segmentation.labelled_files import drop_most_uncertain, open_source
from segmentation.labelled_set import LabelledSet, check_classes_occur
from segmentation.options import UncertaintyKind
from tests.helpers.images import truncate, zip_folder
from tests.helpers.labelled import CLASSES, picture_of, random_mask, write_generated, write_real

LIST = class_list_from_json(CLASSES, "classes")
RGB, BOTH = choose_modalities(["rgb"]), choose_modalities(["nir", "rgb"])


def opened(path, modalities=BOTH, **options):
    labelled = LabelledSet([open_source(path, modalities)], LIST, **options)
    labelled.verify()
    return labelled


@pytest.fixture
def real(tmp_path):
    return write_real(tmp_path / "real")


@pytest.fixture
def generated(tmp_path):
    return write_generated(tmp_path / "samples_4")


def test_real_samples_are_matched_by_name(real):
    labelled = opened(real)
    assert labelled.stems == ("0_0", "0_1", "1_0", "1_1")
    assert (labelled.size, labelled.channels, labelled.has_ignored) == ((16, 16), 4, False)
    rgb, nir = picture_of(random_mask(2), 2)
    sample = labelled[2]
    assert (sample.image.numpy() == np.concatenate([rgb.transpose(2, 0, 1), nir[None]])).all()
    assert (sample.mask.numpy() == random_mask(2)).all()
    assert not sample.uncertainty.any()
    assert labelled.pixels[2].tolist() == np.bincount(random_mask(2).ravel()).tolist()


def test_only_the_wanted_modalities_must_be_there(real):
    for path in (real / "NIR").iterdir():
        path.unlink()
    (real / "NIR").rmdir()
    assert opened(real, RGB)[0].image.shape == (3, 16, 16)
    with pytest.raises(ValueError, match="expected folders .* NIR"):
        opened(real)


def test_generated_samples_have_uncertainty_by_pixel_or_sample(generated):
    mask = random_mask(102)
    pixel = opened(generated, uncertainty=UncertaintyKind.PIXEL)[2]
    assert pixel.uncertainty.numpy() == pytest.approx(mask.astype(float) * 20000 / 65535)
    sample = opened(generated, uncertainty=UncertaintyKind.SAMPLE)[2]
    assert sample.uncertainty.numpy() == pytest.approx(np.full((16, 16), 0.5))
    assert (sample.mask.numpy() == mask).all()
    assert not opened(generated)[2].uncertainty.any()


def test_the_most_uncertain_share_is_dropped(generated):
    source = open_source(generated, RGB)
    assert drop_most_uncertain(source, 0.3).samples.stems == ("0", "1", "2")
    assert drop_most_uncertain(source, 0.5).samples.stems == ("0", "1")
    assert drop_most_uncertain(source, 0.0) is source


def test_real_sets_have_no_uncertainty(real):
    with pytest.raises(ValueError, match="--drop-uncertain: .*real has no scores"):
        drop_most_uncertain(open_source(real, RGB), 0.1)
    for kind in ("pixel", "sample"):
        with pytest.raises(ValueError, match=f"--uncertainty={kind}: .*real has no"):
            opened(real, uncertainty=UncertaintyKind(kind))


def test_several_sources_are_one_set_and_certain_where_nothing_is_known(real, generated):
    sources = [open_source(path, RGB) for path in (real, generated)]
    labelled = LabelledSet(sources, LIST, uncertainty=UncertaintyKind.PIXEL)
    labelled.verify()
    assert len(labelled) == 8
    assert not labelled[3].uncertainty.any()
    assert labelled[7].uncertainty.any()


@pytest.mark.parametrize("top", ["", "set/"])
def test_archives_are_read_as_folders_are(real, tmp_path, top):
    archive = zip_folder(real, tmp_path / "set.zip", top=top)
    assert (opened(archive)[1].image == opened(real)[1].image).all()
    assert opened(archive).fingerprint() == opened(real).fingerprint()


def test_a_split_below_a_data_set_has_its_classes(real):
    write_real(real / "test", 2, info=False)
    assert open_source(real / "test", RGB).stated.names == LIST.names


def test_a_subset_is_drawn_by_its_seed(real):
    first, again = (opened(real, subset=2, seed=5).stems for _ in range(2))
    assert first == again
    assert len({opened(real, subset=2, seed=seed).stems for seed in range(8)}) > 1
    with pytest.raises(ValueError, match=r"--subset must be in 1\.\.4"):
        opened(real, subset=5)


def test_square_images_are_resized_and_masks_keep_whole_classes(real):
    labelled = opened(real, side=8)
    assert labelled[0].image.shape == (4, 8, 8)
    assert (labelled[0].mask.numpy() == random_mask(0)[1::2, 1::2]).all()
    assert set(np.unique(opened(real, side=40)[0].mask)) == {0, 1, 2}
    assert labelled.pixels.sum() == 4 * 64


def test_what_is_cached_is_what_is_read(real, monkeypatch):
    kept = opened(real)
    first = [kept[k] for k in range(4)]
    assert all(kept[k] is first[k] for k in range(4))
    monkeypatch.setattr("segmentation.labelled_set._CACHE_GIB", 0)
    read = opened(real)
    for k in range(4):
        assert (kept[k].image == read[k].image).all()
        assert read[k] is not read[k]


def test_the_fingerprint_tells_masks_and_samples_apart(real):
    before = opened(real).fingerprint()
    assert opened(real).fingerprint() == before
    assert opened(real, subset=3).fingerprint() != before
    assert opened(real, RGB).fingerprint() != before
    mask = random_mask(0)
    mask[0, 0] = 1
    Image.fromarray(mask).save(real / "masks" / "0_0.png")
    assert opened(real).fingerprint() != before


def test_ignored_pixels_are_not_counted(real):
    mask = random_mask(0)
    mask[:8] = IGNORED
    Image.fromarray(mask).save(real / "masks" / "0_0.png")
    labelled = opened(real)
    assert labelled.has_ignored
    assert labelled.pixels[0].sum() == 8 * 16
    assert (labelled[0].mask[:8] == IGNORED).all()


def replace_mask(folder, pixels, name="1_1.png"):
    Image.fromarray(pixels).save(folder / "masks" / name)


def with_class_beyond(folder):
    replace_mask(folder, np.full((16, 16), 9, np.uint8))


def with_other_mask_size(folder):
    replace_mask(folder, np.zeros((8, 8), np.uint8))


def with_other_sizes(folder):
    write_real(folder, 2, size=8, first=4)


def without_a_mask(folder):
    (folder / "masks" / "0_1.png").unlink()


def with_a_cut_image(folder):
    truncate(folder / "VIS" / "1_0.png")


def all_ignored(folder):
    for path in (folder / "masks").iterdir():
        replace_mask(folder, np.full((16, 16), IGNORED, np.uint8), path.name)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (with_class_beyond, r"masks/1_1\.png: masks must hold 0\.\.2 .* got 9"),
        (with_other_mask_size, r"1_1\.png: the mask must measure 16x16 as its image, got 8x8"),
        (with_other_sizes, r"2_0\.png: all images must have one size .* got 8x8 beside 16x16"),
        (without_a_mask, r"VIS: 1 rgb .* without a partner .* in .*NIR and .*masks: 0_1.png"),
        (with_a_cut_image, r"VIS/1_0\.png: damaged"),
        (all_ignored, "all pixels of all masks are ignored"),
    ],
)
def test_bad_sets_are_refused_by_name(real, damage, message):
    damage(real)
    with pytest.raises(ValueError, match=message):
        opened(real)


@pytest.mark.parametrize("score", ["high", math.nan])
def test_scores_must_be_numbers(generated, score):
    path = generated / "manifest.jsonl"
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    entries[1]["score"] = score
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    with pytest.raises(ValueError, match="line 2: score must be a number"):
        open_source(generated, BOTH)


def test_one_class_only_is_not_enough(real):
    for path in (real / "masks").iterdir():
        replace_mask(real, np.ones((16, 16), np.uint8), path.name)
    with pytest.raises(ValueError, match="--data: at least two classes must occur, got left"):
        check_classes_occur(opened(real), "--data")
