"""Whether network, annotations and models belong together, and the training that joins them."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data import sheets
from data.class_list import MAX_CLASSES, ClassList, class_list_from_json
from data.numbers import load_rows
from dnnlib import files
from interpreter.annotation_images import LABEL_FILE
from interpreter.annotations import RECORD as ANNOTATIONS_RECORD
from interpreter.ensemble import TrainedInterpreter
from interpreter.experiment import Experiment
from interpreter.features import FeatureTable, feature_layout
from interpreter.mask_files import image_number
from interpreter.task import EnsembleTask
from networks.generator import Generator
from networks.sampling import Sampler, check_conditions
from torch_utils.checkpoints import state_sha256

SHEET_FILE = "train_data.jpg"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingAnnotations:
    """What training reads of a processed folder.

    Attributes:
        masks: [n, R, R] uint8.
        names: n files of the masks.
        latents: [n, ...] as stored.
        conditions: [n, c_dim] float32 or None.
        classes: the class list as JSON values; None for a published folder.
        drawn_with: record of the drawn images, empty for a published folder.
    """

    masks: np.ndarray
    names: list[str]
    latents: np.ndarray
    conditions: np.ndarray | None
    classes: list[dict[str, Any]] | None
    drawn_with: dict[str, Any]


def load_annotations(
    folder: Path, latents: Path, labels: Path | None, *, most: int, min_region_pixels: int
) -> TrainingAnnotations:
    """Read the first `most` masks by number, and as many rows of latents as they are.

    Args:
        folder: of image_maskN.npy.
        latents: row k belongs to the k-th mask.
        labels: conditions, row k belongs to the k-th mask; None takes labels.npy beside the
            latents, and none where there is no such file.
        most: number of masks to use.
        min_region_pixels: classes with fewer pixels in a mask become class 0, as published.
    Raises: FileNotFoundError; ValueError for masks of different sizes or without latents, or where
        a gap in their numbers leaves open which latents they belong to.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"annotation_mask_path {folder}: must be a folder of masks")
    paths = sorted(folder.glob("image_mask*.npy"), key=lambda path: image_number(path) or 0)
    if not paths:
        raise FileNotFoundError(f"annotation_mask_path {folder}: has no image_maskN.npy")
    rows = load_rows(latents, "annotation_image_latent_path")
    if len(rows) < len(paths):
        raise ValueError(
            f"annotation_image_latent_path {latents}: {paths[len(rows)].name} has no latent, "
            f"there are {len(rows)} rows for {len(paths)} masks"
        )
    numbers = [image_number(path) for path in paths]
    if len(rows) > len(paths) and numbers != list(range(len(paths))):
        raise ValueError(
            f"annotation_mask_path {folder}: masks must be numbered from 0 on without gaps where "
            f"there are more latents, got {len(paths)} masks and {len(rows)} rows in {latents}"
        )
    if len(paths) > most:
        _logger.warning(
            "max_training is %d: the first %d of %d masks are used", most, most, len(paths)
        )
    paths = paths[:most]
    masks = [drop_small_classes(_load_mask(path), min_region_pixels) for path in paths]
    for path, mask in zip(paths, masks, strict=True):
        if mask.shape != masks[0].shape:
            raise ValueError(f"{path}: all masks must have one size, {paths[0].name} has another")
    if labels is None and latents.with_name(LABEL_FILE).is_file():
        labels = latents.with_name(LABEL_FILE)
    conditions = None if labels is None else load_rows(labels, "annotation_label_path")
    if conditions is not None and len(conditions) < len(paths):
        raise ValueError(f"annotation_label_path {labels}: fewer rows than masks")
    record = folder / ANNOTATIONS_RECORD
    made_with = files.read_json(record)["identity"] if record.is_file() else {}
    return TrainingAnnotations(
        masks=np.stack(masks),
        names=[path.name for path in paths],
        latents=rows[: len(paths)],
        conditions=None if conditions is None else conditions[: len(paths)].astype(np.float32),
        classes=made_with.get("classes"),
        drawn_with=made_with.get("drawn_with", {}),
    )


def drop_small_classes(mask: np.ndarray, least: int) -> np.ndarray:
    """Return the mask with classes of fewer than `least` pixels turned into class 0."""
    counts = np.bincount(mask.ravel(), minlength=256)
    return np.where(counts[mask] < least, 0, mask).astype(np.uint8)


def _load_mask(path: Path) -> np.ndarray:
    rows = load_rows(path, "annotation_mask_path")
    if rows.ndim != 2 or rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() > 254:
        raise ValueError(f"{path}: a mask must be [H, W] class numbers from 0 to 254")
    return rows.astype(np.uint8)


def class_list_of(classes: Any, count: int) -> ClassList:
    """Return the first classes of a list as JSON, or numbered ones in colours that differ."""
    if not isinstance(classes, list) or len(classes) < count:
        colours = sheets.default_palette(count).tolist()
        classes = [{"name": f"class {k}", "color": colours[k]} for k in range(count)]
    return class_list_from_json(classes[:count], "classes")


class InterpreterTask(EnsembleTask):
    """An ensemble in training on the features of annotated images.

    Args:
        generator: of the images, on the device that computes.
        annotations: masks and latents.
        experiment: how to train.
    Raises: ValueError for masks of another size, classes beyond the number of classes, latents of
        another width, or another generator than the one that made the annotated images.
    """

    def __init__(
        self, generator: Generator, annotations: TrainingAnnotations, experiment: Experiment
    ) -> None:
        self.generator_sha256 = state_sha256(generator.state_dict())
        _check_origin(self.generator_sha256, annotations, experiment)
        resolution = generator.config.resolution
        if annotations.masks.shape[1:] != (resolution, resolution):
            height, width = annotations.masks.shape[1:]
            raise ValueError(
                f"{annotations.names[0]}: the mask must have the network's size "
                f"{resolution}x{resolution}, got {width}x{height}"
            )
        self.classes = _count_classes(annotations, experiment)
        self.annotations = annotations
        self.generator_sampler = Sampler(generator, truncation=experiment.truncation)
        self.ws = _annotated_ws(self.generator_sampler, annotations, experiment)
        super().__init__(
            torch.from_numpy(annotations.masks.reshape(-1)),
            feature_layout(generator.config),
            experiment,
            self.classes,
            self.generator_sampler.device,
        )

    def identity(self) -> dict[str, Any]:
        """Return what decides the models, as plain JSON values."""
        digest = hashlib.sha256(self.annotations.masks.tobytes())
        digest.update(self.ws.numpy().tobytes())
        return {
            "network_sha256": self.generator_sha256,
            "network": self.experiment.network_name,
            "truncation_psi": self.experiment.truncation_psi,
            "truncation_cutoff": self.experiment.truncation_cutoff,
            "resolution": self.layout.resolution,
            "feature_channels": list(self.layout.channels),
            "annotations_sha256": digest.hexdigest(),
            "annotations": self.annotations.names,
            "classes": self.annotations.classes or self.classes,
            "training": self.experiment.training,
        }

    def load(self) -> None:
        """Generate the annotated images again, for their features and a sheet to check."""
        palette = class_list_of(self.annotations.classes, self.classes).palette()
        self.table, cells = FeatureTable(self.layout, self.images, self.device), []
        for index, sample in enumerate(self.generator_sampler.features(self.ws)):
            self.table.put(index, sample.maps)
            first = next(iter(sample.images.values()))
            painted = sheets.overlay(first, self.annotations.masks[index], palette)
            cells.append((str(index), sheets.side_by_side([first, painted])))
        self._sheet = sheets.contact_sheet(cells)

    def validate(self, folder: Path) -> dict[str, float]:
        """Measure held-out pixels; write the sheet of annotated images once."""
        if not (folder / SHEET_FILE).is_file():
            sheets.save_image(folder / SHEET_FILE, self._sheet)
        return super().validate(folder)


def check_models_belong(models: TrainedInterpreter, network: str, experiment: Experiment) -> None:
    """Check that models were trained on this network's features.

    Args:
        models: as loaded.
        network: SHA-256 of the generator's weights.
        experiment: whose truncation is used now; another one than in training is only a warning.
    Raises: ValueError where the models know of another network.
    """
    identity = models.identity
    if not identity:
        _logger.warning("the models do not say which network they belong to")
        return
    if identity.get("network_sha256") != network:
        raise ValueError(
            f"stylegan_checkpoint: the models were trained on network "
            f"{_short(identity.get('network_sha256'))}, this is {_short(network)}"
        )
    for key in ("truncation_psi", "truncation_cutoff"):
        if identity.get(key) != (now := getattr(experiment, key)):
            found = identity.get(key)
            _logger.warning("%s is %s, the models were trained with %s", key, now, found)


def _check_origin(network: str, annotations: TrainingAnnotations, experiment: Experiment) -> None:
    drawn = annotations.drawn_with
    if not drawn:
        _logger.warning(
            "the annotations do not say which network drew them; published folders never do"
        )
        return
    wanted = {
        "network": experiment.network_name,
        "truncation_psi": experiment.truncation_psi,
        "truncation_cutoff": experiment.truncation_cutoff,
        "network_sha256": network,
    }
    for key, value in wanted.items():
        if drawn.get(key) != value:
            raise ValueError(
                f"stylegan_checkpoint: the annotated images were drawn with {key} "
                f"{_short(drawn.get(key))}, this is {_short(value)}"
            )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 20 else f"{text[:12]}..."


def _count_classes(annotations: TrainingAnnotations, experiment: Experiment) -> int:
    listed = annotations.classes
    highest = int(annotations.masks.max())
    count = experiment.number_class or (len(listed) if listed else max(2, highest + 1))
    for name, mask in zip(annotations.names, annotations.masks, strict=True):
        if int(mask.max()) >= count:
            raise ValueError(
                f"{name}: classes must be from 0 to {count - 1} (number_class {count}), "
                f"got {int(mask.max())}"
            )
    if not 2 <= count <= MAX_CLASSES:
        raise ValueError(f"number_class must be from 2 to {MAX_CLASSES}, got {count}")
    return count


def _annotated_ws(
    sampler: Sampler, annotations: TrainingAnnotations, experiment: Experiment
) -> Tensor:
    """Return ws [n, L, w_dim] of the annotated images."""
    latents = torch.from_numpy(np.asarray(annotations.latents, np.float32))
    where, num_ws = "annotation_image_latent_path", sampler.generator.num_ws
    conditions = annotations.conditions
    c = None if conditions is None else torch.from_numpy(conditions)
    check_conditions(sampler.c_dim, c, "annotation_label_path")
    if not experiment.annotation_data_from_w:
        if latents.ndim != 2 or latents.shape[1] != sampler.z_dim:
            got = list(latents.shape)
            raise ValueError(f"{where}: shape must be [N, {sampler.z_dim}], got {got}")
        return sampler.map(latents, c)
    if latents.ndim == 2:
        latents = latents[:, None].expand(-1, num_ws, -1)
    w_dim = sampler.generator.config.w_dim
    if tuple(latents.shape[1:]) != (num_ws, w_dim):
        raise ValueError(
            f"{where}: w must be [N, {w_dim}] or [N, {num_ws}, {w_dim}], "
            f"got {list(annotations.latents.shape)}"
        )
    return latents.contiguous()
