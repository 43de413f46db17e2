"""Embeddings of a data set's images."""

import numpy as np
import pytest

from data.samples import open_samples
from evaluation.embeddings import embed_images
from tests.helpers.images import random_pixels, truncate, write_pairs


def means(images):
    return images.float().flatten(2).mean(2)


def test_embeddings_are_of_the_sets_images_in_order(tmp_path):
    images = open_samples(write_pairs(tmp_path))
    seen = []
    found = embed_images(images, "rgb", means, seen.append)
    assert found.vectors[1] * 255 == pytest.approx(
        255 * (m := random_pixels(1).mean((0, 1))) / np.linalg.norm(m), abs=0.01
    )
    assert sum(seen) == 4


def test_damaged_images_and_refused_faces_are_counted(tmp_path):
    root = write_pairs(tmp_path)
    truncate(root / "VIS" / "1_1.png")

    def embed(images):
        rows = means(images)
        rows[0] = float("nan")
        return rows

    images = open_samples(root)
    found = embed_images(images, "rgb", embed)
    assert found.is_enrolled.tolist() == [False, False, True, True]
    names = [name.rsplit("/", 1)[1] for name, _ in found.failures]
    assert sorted(names) == ["1_0.png", "1_1.png"]
    assert found.enrolled().images.stems == ("2_0", "2_1")
    with pytest.raises(ValueError, match="no image could be enrolled"):
        embed_images(images, "rgb", lambda x: means(x) * float("nan")).enrolled()


def test_an_absent_modality_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no thermal images"):
        embed_images(open_samples(write_pairs(tmp_path)), "thermal", means)
