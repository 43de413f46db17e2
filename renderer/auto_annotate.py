"""Automatic annotator of example faces: a small network trained on renders.

The example renderer knows the class of each pixel it draws; a generator trained on its images
does not. This network learns the renderer's classes from RGB and NIR together, in which materials
are easy to tell apart, and so stands in for the person with GIMP where the whole path runs
unattended.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.class_list import ClassList
from data.modalities import MODALITIES
from data.pixels import to_float
from dnnlib import files
from dnnlib.config import to_dict
from dnnlib.runs import find_output
from renderer.classes import CLASSES, merge_mask
from renderer.render import check_resolution, render_sample
from torch_utils.checkpoints import load_checkpoint, save_checkpoint
from torch_utils.seeding import derive_seed, generator_for
from torch_utils.trainer import Cadence, Task, train

RECORD_FILE = "annotator.json"
NETWORK_FILE = "annotator.pt"
_ROW_STEPS = 100
_CHANNELS = sum(modality.channels for modality in MODALITIES)
_DILATIONS = (1, 1, 2, 4, 8, 1)
_RENDER_SEED_OFFSET = 0x5EED  # other identities than a data set of the same seed


@dataclass(frozen=True, kw_only=True)
class AnnotatorOptions:
    """How the network is trained."""

    resolution: int  # side of the images in pixels
    classes: int = 10  # or 4, see renderer.classes.merge_mask
    seed: int = 0  # of renders, weights and batches
    renders: int = 600  # training identities, one image each
    heldout: int = 100  # further identities, for validation
    width: int = 32  # channels of the hidden layers
    steps: int = 700  # batches
    batch: int = 24  # crops
    crop: int = 64  # largest side of a crop in pixels
    learning_rate: float = 4e-3  # peak of Adam's, which falls along a half cosine

    def __post_init__(self) -> None:
        check_resolution(self.resolution)
        if self.classes not in CLASSES:
            known = " or ".join(map(str, CLASSES))
            raise ValueError(f"classes: the annotator knows {known}, got {self.classes}")


class MaterialNetwork(nn.Module):
    """A small stack of dilated convolutions on pixels and their coordinates."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        into = _CHANNELS + 2  # coordinates
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


@dataclass(frozen=True, eq=False)
class AutoAnnotator:
    """Masks for pictures of example faces."""

    network: MaterialNetwork
    classes: ClassList
    report: Mapping[str, Any]  # accuracy and confusion [K][K], true by found, on held-out renders

    @torch.inference_mode()
    def annotate(self, images: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the mask of one sample.

        Args:
            images: [C, R, R] uint8 by modality.
        Returns: [R, R] uint8.
        """
        pixels = np.concatenate([images[modality.name] for modality in MODALITIES])
        return _find_classes(self.network, torch.from_numpy(pixels)).to(torch.uint8).numpy()


def build_annotator(options: AnnotatorOptions, folder: Path) -> AutoAnnotator:
    """Train an annotator on renders, or read the one that the folder holds.

    A training that was stopped goes on.

    Raises: ValueError where the folder holds another annotator; StoppedError after a signal.
    """
    output = find_output(folder, RECORD_FILE, to_dict(options), fresh=False, option="annotator")
    if not output.is_finished:
        task = AnnotatorTask(options)
        task.load()
        train(task, output, Cadence(row_steps=_ROW_STEPS))
    network = _new_network(options)
    network.load_state_dict(load_checkpoint(folder / NETWORK_FILE))
    report = files.read_object(folder / RECORD_FILE, report=dict)["report"]
    return AutoAnnotator(network.eval(), CLASSES[options.classes], report)


class AnnotatorTask(Task):
    """The annotator in training, on the CPU."""

    def __init__(self, options: AnnotatorOptions) -> None:
        super().__init__(options.steps, torch.device("cpu"))
        self.options = options
        self.network = _new_network(options)
        self._optimizer = torch.optim.Adam(self.network.parameters(), lr=options.learning_rate)
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self._optimizer, options.steps)

    def load(self) -> None:
        """Render the training and the held-out identities."""
        count = self.options.renders + self.options.heldout
        self._pixels, self._masks = render_identities(self.options, range(count))

    def step(self, index: int) -> None:
        """Train on one batch of crops."""
        x, y = self._crops(generator_for(self.options.seed, "material batch", index))
        self.network.train()
        loss = F.cross_entropy(self.network(x), y)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self._schedule.step()
        self.statistics.report("Loss/total", loss.detach())

    def networks(self) -> dict[str, nn.Module]:
        """Return the network."""
        return {"annotator": self.network}

    def parts(self) -> dict[str, Any]:
        """Return weights, optimiser and schedule."""
        parts = {"optimizer": self._optimizer, "schedule": self._schedule}
        return {"network": self.network, **parts}

    def export(self, folder: Path) -> dict[str, Any]:
        """Write the network; measure it on held-out renders."""
        save_checkpoint(folder / NETWORK_FILE, self.network.state_dict())
        classes = self.options.classes
        confusion = torch.zeros(classes * classes, dtype=torch.int64)
        self.network.eval()
        heldout = slice(self.options.renders, None)
        for image, mask in zip(self._pixels[heldout], self._masks[heldout], strict=True):
            found = _find_classes(self.network, image)
            pairs = mask.long() * classes + found
            confusion += torch.bincount(pairs.flatten(), minlength=len(confusion))
        table = confusion.view(classes, classes)
        accuracy = float(table.trace() / table.sum())
        return {"report": {"accuracy": accuracy, "confusion": table.tolist()}}

    def _crops(self, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return augmented crops [B, 6, s, s], half of them mirrored, and classes [B, s, s]."""
        options = self.options
        side = min(options.crop, options.resolution)
        index = torch.randint(options.renders, [options.batch], generator=random)
        room = options.resolution - side + 1
        top, left = (int(v) for v in torch.randint(room, [2], generator=random))
        x, y = _with_coordinates(to_float(self._pixels[index])), self._masks[index].long()
        is_mirrored = torch.rand(options.batch, generator=random) < 0.5
        x[is_mirrored, :_CHANNELS] = x[is_mirrored, :_CHANNELS].flip(3)
        y[is_mirrored] = y[is_mirrored].flip(2)
        x = x[:, :, top : top + side, left : left + side].clone()
        x[:, :_CHANNELS] = _disturb(x[:, :_CHANNELS], random)
        return x, y[:, top : top + side, left : left + side]


def render_identities(options: AnnotatorOptions, identities: range) -> tuple[Tensor, Tensor]:
    """Render one image of each identity.

    Returns: pixels [n, 4, R, R] uint8 (RGB, then NIR) and masks [n, R, R] uint8.
    """
    seed = derive_seed(options.seed, _RENDER_SEED_OFFSET) % (1 << 32)
    pixels, masks = [], []
    for identity in identities:
        sample = render_sample(seed, identity, 0, options.resolution)
        pixels.append(np.concatenate(list(sample.images.values())))
        masks.append(merge_mask(sample.mask, options.classes))
    return torch.from_numpy(np.stack(pixels)), torch.from_numpy(np.stack(masks))


def _new_network(options: AnnotatorOptions) -> MaterialNetwork:
    with torch.random.fork_rng(devices=[]):  # layers draw from the global stream
        torch.manual_seed(derive_seed(options.seed, "material network"))
        return MaterialNetwork(options.width, options.classes)


@torch.inference_mode()
def _find_classes(network: MaterialNetwork, pixels: Tensor) -> Tensor:
    """pixels: [4, R, R] uint8 -> classes [R, R] int64."""
    return network(_with_coordinates(to_float(pixels[None]))).argmax(dim=1)[0]


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
    axes = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    return torch.cat([x, grid.expand(n, -1, -1, -1)], dim=1)
