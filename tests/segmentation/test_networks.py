"""Shapes, independence of the batch, and torchvision's network inside ours."""

import pytest
import torch
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

from segmentation.networks import build_network, smallest_side
from segmentation.options import NetworkConfig, NetworkKind


def images(count=2, channels=3, height=16, width=16):
    return torch.rand([count, channels, height, width]) * 2 - 1


def built(kind=NetworkKind.UNET, seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_network(NetworkConfig(kind=kind, **options)).eval()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 23), (8, 40)])
def test_unet_gives_logits_at_each_pixel(channels, height, width):
    network = built(channels=channels, classes=5, width=4)
    assert network(images(2, channels, height, width)).shape == (2, 5, height, width)


def test_unet_looks_at_each_sample_alone_in_training_too():
    network, x = built(classes=3, width=4).train(), images(3)
    together = network(x)
    for k in range(3):
        torch.testing.assert_close(network(x[k : k + 1]), together[k : k + 1])


def test_unet_sees_far_and_near():
    """A pixel in a corner changes the answer in the opposite one."""
    network, x = built(classes=3, width=8, depth=3), images(1)
    changed = x.clone()
    changed[..., 0, 0] += 1
    difference = (network(changed) - network(x)).abs().sum(dim=1)[0]
    assert difference[-1, -1] > 0
    assert difference[0, 0] > 0


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("kind", [NetworkKind.DEEPLABV3_RESNET50, NetworkKind.DEEPLABV3_MOBILENET])
def test_deeplab_takes_any_number_of_channels(kind, channels):
    network = built(kind, channels=channels, classes=4)
    with torch.inference_mode():
        assert network(images(1, channels, 32, 24)).shape == (1, 4, 32, 24)


def test_deeplab_of_three_channels_is_torchvision_s():
    network = built(NetworkKind.DEEPLABV3_MOBILENET, seed=3, classes=4)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        theirs = deeplabv3_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=4, aux_loss=False
        ).eval()
    x = images(1, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(network(x), theirs(x)["out"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 2}, "channels must be 1, 3 or 4, got 2"),
        ({"classes": 1}, "classes must be at least 2, got 1"),
    ],
)
def test_bad_shapes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**options)


def test_the_smallest_side_is_taken_and_halved_to_one_pixel():
    config = NetworkConfig(depth=4, width=2)
    assert smallest_side(config) == 16
    assert built(depth=4, width=2)(images(1)).shape == (1, 2, 16, 16)
