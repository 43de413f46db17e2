"""The augmentation pipe: geometry, colour, frequency bands, noise and cutout, in this order."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from torch_utils.devices import upload
from torch_utils.ops.upfirdn2d import setup_filter
from training.augmentation.color import apply_color, color_transforms
from training.augmentation.config import AugmentConfig
from training.augmentation.corruption import add_noise, cut_out, cutout_sizes, noise_levels
from training.augmentation.draws import Draw, Draws
from training.augmentation.geometric import SYM6, inverse_transforms, resample
from training.augmentation.image_filter import amplify, band_filters, band_gains


class AugmentPipe(torch.nn.Module):
    """Differentiable random augmentation of a batch, each sample on its own.

    It has no parameters and nothing to save: the strength comes with each call, and its filters
    are constants that only follow `.to(device)`.

    Args:
        config: what is on and how strong; see AUGPIPES for the published sets.
    Source: Karras et al. 2020 (arXiv:2006.06676), appendix B. Departures: samples whose transform
        is the identity are not resampled (published: resampled to rounding); the margin around
        turned and shrunk images covers the filters' reach for every transform.
    """

    def __init__(self, config: AugmentConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("wavelet", setup_filter(SYM6, separable=True), persistent=False)
        self.register_buffer("bands", band_filters(), persistent=False)

    def forward(
        self,
        images: Tensor,
        p: float,
        generator: torch.Generator,
        channels: Sequence[int] = (),
    ) -> Tensor:
        """Return the batch with random changes.

        Args:
            images: [N, C, H, W] float32 in -1..1 (beyond is fine), C 1 or 3, H and W at least 2;
                or several images of a sample one behind the other, as `channels` says.
            p: strength, 0..1; 0 returns `images` itself and draws nothing.
            generator: on the CPU, wherever the images are. Two calls with halves of a batch draw
                what one call with the whole draws.
            channels: 1 or 3 for each image of a sample; () for a single one. All of them are
                changed alike, each colour by what has been drawn for the sample.
        Returns: [N, C, H, W], dtype and device of `images`, twice differentiable.
        Raises: ValueError for another shape, p out of range, or a generator that is not on
            the CPU.
        """
        channels = channels or (images.shape[1:2] if images.ndim == 4 else ())
        _check_arguments(images, p, generator, channels)
        return images if p == 0 else self.change(images, Draws(len(images), generator), p, channels)

    def change(
        self, images: Tensor, draws: Draws, p: float, channels: Sequence[int] = ()
    ) -> Tensor:
        """Return the batch with the changes that have been drawn for it."""
        config = self.config
        if config.has_geometry:
            images = self._move(images, draws, p)
        if config.has_color:
            transforms = color_transforms(draws, config, p)
            if len(channels) > 1:
                parts = images.split(list(channels), dim=1)
                images = torch.cat([apply_color(part, transforms) for part in parts], dim=1)
            else:
                images = apply_color(images, transforms)
        if config.imgfilter > 0:
            images = self._filter(images, draws, p)
        if config.noise > 0:
            images = add_noise(images, noise_levels(draws, config, p), draws.seeds())
        if config.cutout > 0:
            center = draws.uniform(Draw.CUTOUT_X), draws.uniform(Draw.CUTOUT_Y)
            images = cut_out(images, cutout_sizes(draws, config, p), *center)
        return images

    def _move(self, images: Tensor, draws: Draws, p: float) -> Tensor:
        inverse = inverse_transforms(draws, self.config, p, *images.shape[2:])
        is_moved = (inverse != torch.eye(3, dtype=inverse.dtype)).any(2).any(1)
        return _replace_some(
            images, is_moved, lambda some, index: resample(some, inverse[index], self.wavelet)
        )

    def _filter(self, images: Tensor, draws: Draws, p: float) -> Tensor:
        gains = band_gains(draws, self.config, p)
        return _replace_some(
            images, (gains != 1).any(1), lambda some, i: amplify(some, gains[i], self.bands)
        )


def _replace_some(
    images: Tensor, is_changed: Tensor, run: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Replace the samples where `is_changed` ([N] bool on the CPU) by what `run` makes of them."""
    index = is_changed.nonzero()[:, 0]
    if len(index) == 0:
        return images
    if len(index) == len(images):
        return run(images, index)
    place = upload(index, images.device)
    return images.index_copy(0, place, run(images.index_select(0, place), index))


def _check_arguments(
    images: Tensor, p: float, generator: torch.Generator, channels: Sequence[int]
) -> None:
    if (
        images.ndim != 4
        or sum(channels) != images.shape[1]
        or not set(channels) <= {1, 3}
        or min(images.shape[2:]) < 2
    ):
        raise ValueError(
            "images must be [N, C, H, W] with 1 or 3 channels each and at least 2 pixels a side, "
            f"got {list(images.shape)}"
        )
    if not images.is_floating_point():
        raise ValueError(f"images must be floating point, got {images.dtype}")
    if not 0 <= p <= 1:
        raise ValueError(f"p must be 0..1, got {p}")
    if generator.device.type != "cpu":
        raise ValueError(f"generator must be on the CPU, got {generator.device}")
