"""Losses as pure functions: logits, images or gradients in, one value a sample out."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def generator_loss(logits: Tensor) -> Tensor:
    """Return -log sigmoid(logit), the non-saturating loss of images that should look real.

    Args:
        logits: [N, 1] float32 of generated images.
    Returns: [N, 1] float32, >= 0.
    Source: Goodfellow et al. 2014 (arXiv:1406.2661), section 3.
    """
    return F.softplus(-logits)


def discriminator_loss_fake(logits: Tensor) -> Tensor:
    """Return -log(1 - sigmoid(logit)) of generated images; shapes as in `generator_loss`."""
    return F.softplus(logits)


def discriminator_loss_real(logits: Tensor) -> Tensor:
    """Return -log sigmoid(logit) of real images; shapes as in `generator_loss`."""
    return F.softplus(-logits)


def r1_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Return each image's squared gradient norm of its logit.

    Args:
        logits: [N, 1] float32, the discriminator's answer to `images`.
        images: [N, C, H, W] float32 in -1..1; must require gradients.
    Returns: [N] float32, >= 0. The loss term is this times gamma / 2.
    Raises: ValueError if `images` does not require gradients.
    Source: Mescheder et al. 2018 (arXiv:1801.04406), R1 regulariser.
    """
    if not images.requires_grad:
        raise ValueError("r1_penalty: images must require gradients")
    (gradients,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradients.square().sum(dim=[1, 2, 3])


def path_lengths(images: Mapping[str, Tensor], ws: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
    """Return how far random steps in image space move each sample's w, over all modalities at once.

    The gradients of the modalities are added before the norm is taken, as in the published
    dual-branch systems: one pair is one output of one w.

    Args:
        images: [N, C, H, W] float32 a modality, drawn from `ws`.
        ws: [N, L, w_dim] float32; must be part of the graph of the images.
        noise: standard normal, shaped as the images.
    Returns: [N] float32, >= 0.
    Source: Karras et al. 2020 (arXiv:1912.04958), equation 4.
    """
    projected = [
        (image * noise[name]).sum() / math.sqrt(image.shape[2] * image.shape[3])
        for name, image in images.items()
    ]
    (gradients,) = torch.autograd.grad(torch.stack(projected).sum(), ws, create_graph=True)
    return gradients.square().sum(dim=2).mean(dim=1).sqrt()
