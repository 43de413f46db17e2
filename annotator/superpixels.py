"""Superpixels over all modalities of an image."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data.modalities import MODALITIES
from data.pixels import decode_image
from dnnlib.extras import need

_MAX_SUPERPIXELS = 60000  # they are sent as 16-bit numbers


def find_superpixels(paths: Mapping[str, Path], count: int) -> np.ndarray:
    """Return connected regions of like pixels: [H, W] int64, numbered from 0.

    Args:
        paths: image files by modality.
        count: about how many.
    Raises: ValueError for a count out of range, or where scikit-image is not installed.
    Source: Achanta et al. 2012, "SLIC superpixels compared to state-of-the-art superpixel methods".
    """
    if not 1 <= count <= _MAX_SUPERPIXELS:
        raise ValueError(f"superpixels: 1 to {_MAX_SUPERPIXELS} are possible, got {count}")
    need("regions", "skimage")
    from skimage import color, segmentation  # noqa: PLC0415  # optional

    images = [
        decode_image(paths[modality.name], modality.channels).transpose(1, 2, 0)
        for modality in MODALITIES
        if modality.name in paths
    ]
    lightness = [image * (100 / 255) for image in images[1:]]  # on the scale of Lab's L
    planes = np.concatenate([color.rgb2lab(images[0]), *lightness], axis=2)
    return segmentation.slic(
        planes, n_segments=count, compactness=10, channel_axis=2, convert2lab=False, start_label=0
    )
