"""Annotates pictures of example faces without people: a small network trained on renders.

The example renderer knows the class of each pixel it draws; a generator trained on its images
does not. This network learns the renderer's classes from RGB and NIR together, in which materials
are easy to tell apart, and so stands in for the person with GIMP where the whole path runs
unattended.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.class_list import AnnotationClass, ClassList
from data.modalities import MODALITIES
from data.number_files import load_rows
from data.pixels import decode_image, to_float
from dnnlib import files
from interpreter.annotation_images import (
    IMAGE_FOLDER,
    LABEL_FILE,
    LATENT_FILE,
    RECORD,
    SELECTION_FILE,
)
from interpreter.annotations import AnnotatedImage
from renderer.classes import FACE_4, FACE_10, Palette, merge_face
from renderer.render import check_resolution, render_sample
from torch_utils.checkpoints import load_checkpoint, save_checkpoint
from torch_utils.seeding import derive_seed, generator_for

CACHE_FILE = "auto_annotator.pt"
_CHANNELS = sum(modality.channels for modality in MODALITIES)
_COORDINATES = 2
_DILATIONS = (1, 1, 2, 4, 8, 1)
_RENDER_SEED_OFFSET = 0x5EED  # other people than a data set of the same seed
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AnnotatorOptions:
    """How the network is trained.

    Attributes:
        resolution: side of the images in pixels.
        classes: 10, or 4 (see renderer.classes.merge_face).
        seed: of renders, weights and batches.
        renders: rendered people to learn from, one image each.
        heldout: further people to measure on.
        width: channels of the hidden layers.
        steps: batches.
        batch: crops a batch.
        crop: largest side of a crop in pixels.
        learning_rate: peak of Adam's, which falls along a half cosine.
    """

    resolution: int
    classes: int = 10
    seed: int = 0
    renders: int = 600
    heldout: int = 100
    width: int = 32
    steps: int = 700
    batch: int = 24
    crop: int = 64
    learning_rate: float = 4e-3

    def __post_init__(self) -> None:
        check_resolution(self.resolution)
        if self.classes not in (len(FACE_10), len(FACE_4)):
            raise ValueError(f"classes: must be 10 or 4, got {self.classes}")


class MaterialNetwork(nn.Module):
    """A small stack of dilated convolutions on pixels and their coordinates."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        into = _CHANNELS + _COORDINATES
        for dilation in _DILATIONS:
            layers += [
                nn.Conv2d(into, width, 3, padding=dilation, dilation=dilation, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            into = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, 6, H, W] pixels -1..1 and coordinates -1..1 -> logits [N, K, H, W]."""
        return self.layers(x)


class AutoAnnotator:
    """Masks for pictures of example faces.

    Attributes:
        classes: the renderer's, as a class list.
        report: accuracy and per-class IoU on held-out renders.
    """

    def __init__(self, network: MaterialNetwork, classes: int, report: dict[str, Any]) -> None:
        self._network = network.eval()
        self.classes = example_classes(classes)
        self.report = report

    @torch.inference_mode()
    def annotate(self, images: dict[str, np.ndarray]) -> np.ndarray:
        """Return the mask of one sample.

        Args:
            images: [C, R, R] uint8 by modality.
        Returns: [R, R] uint8.
        """
        x = _with_coordinates(to_float(torch.from_numpy(_joined(images)))[None])
        return self._network(x)[0].argmax(dim=0).to(torch.uint8).numpy()


def example_classes(count: int) -> ClassList:
    """Return the example renderer's 10 or 4 classes."""
    palette: Palette = FACE_10 if count == len(FACE_10) else FACE_4
    return ClassList(tuple(AnnotationClass(name=name, colour=colour) for name, colour in palette))


def build_annotator(options: AnnotatorOptions, cache: Path | None = None) -> AutoAnnotator:
    """Train an annotator on renders, or read one that was trained with the same options.

    Args:
        options: how.
        cache: file to keep it in; None keeps nothing.
    """
    key = json.dumps(options.__dict__, sort_keys=True)
    network = _new_network(options)
    if cache is not None and cache.is_file():
        state = load_checkpoint(cache, torch.device("cpu"))
        if state.get("options") == key:
            network.load_state_dict(state["network"])
            return AutoAnnotator(network, options.classes, state["report"])
    pixels, masks = render_people(options, range(options.renders + options.heldout))
    count = options.renders
    network = _train(options, pixels[:count], masks[:count])
    report = measure(network, pixels[count:], masks[count:], options.classes)
    _logger.info("automatic annotator on held-out renders: accuracy %.4f", report["accuracy"])
    if cache is not None:
        content = {"options": key, "network": network.state_dict(), "report": report}
        save_checkpoint(cache, content)
    return AutoAnnotator(network, options.classes, report)


def render_people(options: AnnotatorOptions, people: range) -> tuple[Tensor, Tensor]:
    """Render one image of each person.

    Returns: pixels [n, 4, R, R] uint8 (RGB, then NIR) and masks [n, R, R] uint8.
    """
    seed = derive_seed(options.seed, _RENDER_SEED_OFFSET) % (1 << 32)
    pixels, masks = [], []
    for person in people:
        sample = render_sample(seed, person, 0, options.resolution)
        pixels.append(np.concatenate([sample.rgb.transpose(2, 0, 1), sample.nir[None]]))
        is_merged = options.classes == len(FACE_4)
        masks.append(merge_face(sample.mask) if is_merged else sample.mask)
    return torch.from_numpy(np.stack(pixels)), torch.from_numpy(np.stack(masks))


def measure(
    network: MaterialNetwork, pixels: Tensor, masks: Tensor, classes: int
) -> dict[str, Any]:
    """Return pixel accuracy and the IoU of each class over all images."""
    network.eval()
    with torch.inference_mode():
        found = [
            network(_with_coordinates(to_float(image[None]))).argmax(dim=1)[0] for image in pixels
        ]
    labels = torch.stack(found)
    return {
        "accuracy": float((labels == masks).float().mean()),
        "iou": class_iou(labels.numpy(), masks.numpy(), classes),
        "images": len(pixels),
    }


def class_iou(found: np.ndarray, truth: np.ndarray, classes: int) -> list[float | None]:
    """Return intersection over union of each class, None for one that is in neither.

    >>> class_iou(np.array([0, 0, 1]), np.array([0, 1, 1]), 3)
    [0.5, 0.5, None]
    """
    result: list[float | None] = []
    for number in range(classes):
        a, b = found == number, truth == number
        union = int((a | b).sum())
        result.append(float((a & b).sum() / union) if union else None)
    return result


def annotate_drawn(
    drawn: Path, numbers: list[int] | None, seed: int, classes: int = 10
) -> tuple[list[AnnotatedImage], ClassList, Path]:
    """Annotate images that make_training_data.py drew.

    Args:
        drawn: its folder; the trained network is kept there too.
        numbers: which images; None takes selection.json's, or all where there is none.
        seed: of the annotator.
        classes: 10 or 4.
    Returns: annotations, the class list, and the folder's record.
    Raises: FileNotFoundError; ValueError for a number without an image.
    """
    record = drawn / RECORD
    if not files.read_json(record).get("finished"):
        raise ValueError(f"{drawn}: is not finished; repeat make_training_data.py")
    latents = load_rows(drawn / LATENT_FILE, "--latents")
    labels_path = drawn / LABEL_FILE
    labels = load_rows(labels_path, "--labels") if labels_path.is_file() else None
    if numbers is None:
        numbers = _proposed(drawn, len(latents))
    found = {number: _image_paths(drawn, number, len(latents)) for number in numbers}
    resolution = decode_image(found[numbers[0]]["rgb"], 1).shape[1]
    options = AnnotatorOptions(resolution=resolution, classes=classes, seed=seed)
    annotator = build_annotator(options, drawn / CACHE_FILE)
    collected = []
    for number in sorted(found):
        paths = found[number]
        images = {m.name: decode_image(paths[m.name], m.channels) for m in MODALITIES}
        collected.append(
            AnnotatedImage(
                number=number,
                source=None,
                mask=annotator.annotate(images),
                images=paths,
                latent=latents[number],
                condition=None if labels is None else labels[number].astype(np.float32),
            )
        )
    return collected, annotator.classes, record


def _proposed(drawn: Path, count: int) -> list[int]:
    path = drawn / SELECTION_FILE
    if not path.is_file():
        return list(range(count))
    return [int(number) for number in files.read_json(path)["images"]]


def _image_paths(drawn: Path, number: int, count: int) -> dict[str, Path]:
    if not 0 <= number < count:
        raise ValueError(f"--select: {drawn} has images 0 to {count - 1}, got {number}")
    paths = {m.name: drawn / IMAGE_FOLDER / f"image_{number}{m.suffix}.jpg" for m in MODALITIES}
    for path in paths.values():
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; --auto needs all modalities")
    return paths


def _new_network(options: AnnotatorOptions) -> MaterialNetwork:
    with torch.random.fork_rng(devices=[]):  # layers draw from the global stream
        torch.manual_seed(derive_seed(options.seed, "material network"))
        return MaterialNetwork(options.width, options.classes)


def _train(options: AnnotatorOptions, pixels: Tensor, masks: Tensor) -> MaterialNetwork:
    network = _new_network(options)
    optimizer = torch.optim.Adam(network.parameters(), lr=options.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    network.train()
    for step in range(options.steps):
        random = generator_for(options.seed, "material batch", step)
        x, y = _draw_crops(options, pixels, masks, random)
        loss = F.cross_entropy(network(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def _draw_crops(
    options: AnnotatorOptions, pixels: Tensor, masks: Tensor, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return augmented crops [B, 6, s, s] and classes [B, s, s] int64; half of them mirrored."""
    side = min(options.crop, options.resolution)
    index = torch.randint(len(pixels), [options.batch], generator=random)
    room = options.resolution - side + 1
    top, left = (int(v) for v in torch.randint(room, [2], generator=random))
    x, y = _with_coordinates(to_float(pixels[index])), masks[index].long()
    is_mirrored = torch.rand(options.batch, generator=random) < 0.5
    x[is_mirrored, :_CHANNELS] = x[is_mirrored, :_CHANNELS].flip(3)
    y[is_mirrored] = y[is_mirrored].flip(2)
    x = x[:, :, top : top + side, left : left + side].clone()
    x[:, :_CHANNELS] = _disturb(x[:, :_CHANNELS], random)
    return x, y[:, top : top + side, left : left + side]


def _disturb(x: Tensor, random: torch.Generator) -> Tensor:
    """Blur, shift and add noise a little, as a generator's imperfect images are."""
    n = len(x)
    softness = torch.rand([n, 1, 1, 1], generator=random) * 0.5
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    gain = 1 + 0.1 * torch.randn([n, x.shape[1], 1, 1], generator=random)
    offset = 0.05 * torch.randn([n, x.shape[1], 1, 1], generator=random)
    noise = 0.04 * torch.randn(x.shape, generator=random)
    return (x.lerp(blurred, softness)) * gain + offset + noise


def _with_coordinates(x: Tensor) -> Tensor:
    """Append row and column, -1..1."""
    n, _, height, width = x.shape
    rows = torch.linspace(-1, 1, height)[None, None, :, None].expand(n, 1, height, width)
    columns = torch.linspace(-1, 1, width)[None, None, None].expand(n, 1, height, width)
    return torch.cat([x, rows, columns], dim=1)


def _joined(images: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([images[modality.name] for modality in MODALITIES])
