"""Embeddings of data sets by a recogniser, and its thresholds."""

import numpy as np
import pytest

from biometrics.thresholds import calibrate, write_thresholds
from data.samples import open_samples
from evaluation.faces import Faces, given_thresholds, measure_thresholds
from evaluation.options import PrivacyOptions
from tests.helpers.images import random_pixels, truncate, write_pairs
from tests.helpers.measures import no_progress
from tests.helpers.people import PixelEmbedder, clustered_features


class Means:
    """Mean colours."""

    hash, width = "means", 3

    def embed(self, images):
        return images.float().flatten(2).mean(2)


def test_embeddings_are_of_the_sets_images_in_order_and_computed_once(tmp_path):
    samples, seen = open_samples(write_pairs(tmp_path)), []
    faces = Faces("means", Means())
    for _ in range(2):
        found = faces.of(samples, "rgb", lambda _done, _total: seen.append)
    mean = random_pixels(1).mean((0, 1))
    assert found.vectors[1] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-4)
    assert sum(seen) == 4


def test_damaged_images_are_counted(tmp_path):
    root = write_pairs(tmp_path)
    truncate(root / "VIS" / "1_1.png")
    found = Faces("means", Means()).of(open_samples(root), "rgb", no_progress)
    assert found.is_enrolled.tolist() == [True, False, True, True]
    assert sorted(found.failures) == [1]
    assert found.enrolled().samples.stems == ("1_0", "2_0", "2_1")


def test_a_set_that_is_too_small_has_no_thresholds(tmp_path):
    samples = open_samples(write_pairs(tmp_path, ["1_0", "2_0"]))
    faces = Faces("pixels", PixelEmbedder())
    assert measure_thresholds(samples, faces, ["rgb"], no_progress) == {}


def test_the_filters_thresholds_are_read(tmp_path):
    thresholds = calibrate(clustered_features(40, 4), fmr=0.05, recogniser="pixels")
    write_thresholds(tmp_path / "thresholds.json", thresholds)
    places = dict.fromkeys(("samples", "data", "outdir", "rec_model"), tmp_path)
    options = PrivacyOptions(**places, thresholds=tmp_path / "thresholds.json")
    found = given_thresholds(options, [Faces("pixels", PixelEmbedder())])
    assert found[0.05] == thresholds.privacy
    with pytest.raises(ValueError, match="for the recogniser"):
        given_thresholds(options, [Faces("means", Means())])
    with pytest.raises(ValueError, match="--threshold and --thresholds"):
        PrivacyOptions(**places, thresholds=tmp_path / "a", threshold=((0.1, 0.5),))
