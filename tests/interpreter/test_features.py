import pytest
import torch

from interpreter.features import (
    FeatureLayout,
    FeatureTable,
    check_maps,
    feature_layout,
)
from tests.helpers.interpreters import small_generator
from tests.helpers.pixel_classifiers import plain_features, random_maps, small_layout


def test_a_layout_joins_neighbours_of_equal_side():
    layout = FeatureLayout(8, (3, 2, 4), (4, 4, 8))
    assert layout.total == 9
    assert layout.groups == ((4, 5), (8, 4))


def test_gathered_pixels_are_the_plain_features():
    layout = small_layout(16)
    table = FeatureTable(layout, 3)
    images = [random_maps(layout, seed) for seed in range(3)]
    for index, maps in enumerate(images):
        table.put(index, maps)
    pixels = torch.randperm(3 * 256, generator=torch.Generator().manual_seed(0))
    expected = torch.cat([plain_features(maps, 16) for maps in images])[pixels]
    torch.testing.assert_close(table.gather(pixels).double(), expected, rtol=1e-5, atol=1e-5)


def test_the_layout_is_that_of_the_maps():
    generator = small_generator()
    layout = feature_layout(generator.config)
    _, maps = generator.synthesis.with_features(torch.zeros(1, generator.num_ws, 12), "const")
    check_maps([m[0] for m in maps], layout)
    assert layout.channels == (16, 16, 16, 16, 8, 8)


def test_maps_of_another_layout_are_refused():
    layout = small_layout(8)
    maps = random_maps(layout)
    with pytest.raises(ValueError, match="expected 4 maps, got 3"):
        check_maps(maps[:-1], layout)
    with pytest.raises(ValueError, match="feature map 1 must have shape"):
        check_maps([maps[0], maps[0], *maps[2:]], layout)
