import numpy as np
import pytest
import torch

from data.pixels import to_uint8
from interpreter.drawing import (
    Style,
    check_conditions,
    draw_samples,
    feature_layout,
    map_latents,
    micro_batch,
    network_sha256,
    sample_label,
    sample_latent,
)
from tests.helpers.interpreters import small_generator


def test_a_latent_depends_on_stream_seed_and_index_alone():
    first = sample_latent(0, 3, 8, "sample")
    assert torch.equal(first, sample_latent(0, 3, 8, "sample"))
    for other in ((1, 3, 8, "sample"), (0, 4, 8, "sample"), (0, 3, 8, "annotation")):
        assert not torch.equal(first, sample_latent(*other))


def test_labels_are_drawn_from_all():
    assert {sample_label(0, index, 3, "sample") for index in range(60)} == {0, 1, 2}


def test_samples_do_not_depend_on_what_is_drawn_beside_them():
    generator = small_generator()
    z = torch.randn([20, 8], generator=torch.Generator().manual_seed(0))
    ws = map_latents(generator, z, None, Style())
    together = list(draw_samples(generator, ws))
    assert len(together) == 20
    size = micro_batch(16)
    tail = list(draw_samples(generator, ws[size:]))
    for sample, again in zip(together[size:], tail, strict=True):
        for name, image in sample.images.items():
            assert np.array_equal(image, again.images[name])
        assert all(torch.equal(a, b) for a, b in zip(sample.maps, again.maps, strict=True))
    assert torch.equal(ws[5:6], map_latents(generator, z[5:6], None, Style()))


def test_images_are_the_networks_with_constant_noise_and_truncation():
    generator = small_generator()
    z = torch.randn([1, 8], generator=torch.Generator().manual_seed(0))
    style = Style(truncation_psi=0.3, truncation_cutoff=2)
    sample = next(draw_samples(generator, map_latents(generator, z, None, style)))
    ws = generator.map(z, None, 0.3, 2)
    images, maps = generator.synthesis.with_features(ws, "const")
    assert list(sample.images) == ["rgb", "nir"]
    for name, image in images.items():
        difference = sample.images[name].astype(int) - to_uint8(image[0]).numpy().astype(int)
        assert np.abs(difference).max() <= 1  # other batch sizes may round differently
    torch.testing.assert_close(sample.maps[-1], maps[-1][0], rtol=1e-4, atol=1e-4)


def test_the_layout_is_the_networks():
    layout = feature_layout(small_generator())
    assert layout.resolution == 16
    assert layout.sides == (4, 4, 8, 8, 16, 16)
    assert layout.channels == (16, 16, 16, 16, 8, 8)


def test_the_hash_is_that_of_the_weights():
    assert network_sha256(small_generator(0)) == network_sha256(small_generator(0))
    assert network_sha256(small_generator(0)) != network_sha256(small_generator(1))
    changed = small_generator(0)
    changed.mapping.w_avg[0] += 1
    assert network_sha256(changed) != network_sha256(small_generator(0))


def test_conditions_are_wanted_exactly_where_the_network_has_them():
    labels = np.zeros([2, 3], np.float32)
    check_conditions(small_generator(c_dim=3), labels)
    with pytest.raises(ValueError, match="is conditional: give labels of 3"):
        check_conditions(small_generator(c_dim=3), None)
    with pytest.raises(ValueError, match="takes no labels"):
        check_conditions(small_generator(), labels)
    with pytest.raises(ValueError, match=r"shape must be \[N, 4\], got \[2, 3\]"):
        check_conditions(small_generator(c_dim=4), labels)
