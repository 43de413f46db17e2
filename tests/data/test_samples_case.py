"""Folders and endings of modalities are known in any case: a filter must not part a pair."""

import pytest

from data.samples import open_samples
from tests.helpers.images import random_pixels, write_image


@pytest.mark.parametrize("names", [("vis/a", "nir/a"), ("Images/a", "Nir/a"), ("a_rgb", "a_nir")])
def test_pairs_stay_pairs(tmp_path, names):
    for name, channels in zip(names, (3, 1), strict=True):
        write_image(tmp_path / f"{name}.png", random_pixels(0, channels=channels))
    samples = open_samples(tmp_path, is_complete=False)
    assert samples.stems == ("a",)
    assert set(samples.files) == {"rgb", "nir"}
