"""What training reads of annotated images, and the training on a generator's features of them."""

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
from data.mask_files import image_number
from data.numbers import load_rows
from dnnlib import files
from interpreter.annotation_images import LABEL_FILE
from interpreter.annotations import RECORD as ANNOTATIONS_RECORD
from interpreter.experiment import Experiment, check_origin, origin_of, origin_of_annotated
from interpreter.features import FeatureTable, feature_layout
from interpreter.task import EnsembleTask
from networks.generator import Generator
from networks.sampling import Sampler, check_conditions

SHEET_FILE = "train_data.jpg"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingAnnotations:
    """What training reads of a processed folder."""

    masks: np.ndarray  # [n, R, R] uint8
    names: list[str]  # n files of the masks
    latents: np.ndarray  # [n, ...] as stored
    conditions: np.ndarray | None  # [n, c_dim] float32 or None
    # The class list as JSON values; None for a published folder.
    classes: list[dict[str, Any]] | None
    drawn_with: dict[str, Any]  # record of the drawn images, empty for a published folder


def load_annotations(experiment: Experiment) -> TrainingAnnotations:
    """Read the first `max_training` masks by number, and as many rows of latents as they are.

    Row k of the latents, and of conditions, belongs to the k-th mask. Conditions are those of
    annotation_label_path, or of labels.npy beside the latents.

    Raises: FileNotFoundError; ValueError for masks of different sizes or without latents, or where
        a gap in their numbers leaves open which latents they belong to.
    """
    folder = experiment.path("annotation_mask_path")
    latents, most = experiment.path("annotation_image_latent_path"), experiment.max_training
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
    masks = [drop_small_classes(_load_mask(path), experiment.min_region_pixels) for path in paths]
    for path, mask in zip(paths, masks, strict=True):
        if mask.shape != masks[0].shape:
            raise ValueError(f"{path}: all masks must have one size, {paths[0].name} has another")
    record = folder / ANNOTATIONS_RECORD
    made_with = {}
    if record.is_file():
        made_with = files.read_object(record, identity=dict)["identity"]
    return TrainingAnnotations(
        masks=np.stack(masks),
        names=[path.name for path in paths],
        latents=rows[: len(paths)],
        conditions=_load_conditions(experiment, latents.with_name(LABEL_FILE), len(paths)),
        classes=made_with.get("classes"),
        drawn_with=made_with.get("drawn_with", {}),
    )


def _load_conditions(experiment: Experiment, beside: Path, count: int) -> np.ndarray | None:
    path = beside
    if experiment.annotation_label_path:
        path = experiment.path("annotation_label_path")
    elif not path.is_file():
        return None
    rows = load_rows(path, "annotation_label_path")
    if len(rows) < count:
        raise ValueError(f"annotation_label_path {path}: fewer rows than masks")
    return rows[:count].astype(np.float32)


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
        self.origin = origin_of(generator, experiment)
        drawn_with = origin_of_annotated(generator, experiment)
        check_origin(annotations.drawn_with, drawn_with, "the annotated images were drawn")
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
        self.ws = annotated_ws(
            self.generator_sampler, annotations.latents, annotations.conditions, experiment
        )
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
            **self.origin,
            "resolution": self.layout.resolution,
            "feature_channels": list(self.layout.channels),
            "annotations_sha256": digest.hexdigest(),
            "annotations": self.annotations.names,
            "classes": self.annotations.classes or self.classes,
            "training": self.experiment.training,
        }

    def begin(self, index: int) -> None:
        """Generate the annotated images again, for their features and a sheet to check."""
        palette = class_list_of(self.annotations.classes, self.classes).palette()
        self.table, cells = FeatureTable(self.layout, self.images, self.device), []
        for k, sample in enumerate(self.generator_sampler.features(self.ws)):
            self.table.put(k, sample.maps)
            first = next(iter(sample.images.values()))
            painted = sheets.overlay(first, self.annotations.masks[k], palette)
            cells.append((str(k), sheets.side_by_side([first, painted])))
        self._sheet = sheets.contact_sheet(cells)

    def validate(self, folder: Path) -> dict[str, float]:
        """Measure held-out pixels; write the sheet of annotated images once."""
        if not (folder / SHEET_FILE).is_file():
            sheets.save_image(folder / SHEET_FILE, self._sheet)
        return super().validate(folder)


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


def annotated_ws(
    sampler: Sampler,
    rows: np.ndarray,
    conditions: np.ndarray | None,
    experiment: Experiment,
    sources: tuple[str, str] = ("annotation_image_latent_path", "annotation_label_path"),
) -> Tensor:
    """Return ws [n, L, w_dim] float32 of annotated images.

    Args:
        sampler: of the network.
        rows: latents as stored, [n, z_dim], or of w as the experiment says.
        conditions: [n, c_dim] float32, or None.
        experiment: says what latents are.
        sources: of latents and conditions, for messages.
    Raises: ValueError for latents or conditions of another width than the network's.
    """
    latents = torch.from_numpy(np.asarray(rows, np.float32))
    (where, of_conditions), num_ws = sources, sampler.generator.num_ws
    if not experiment.annotation_data_from_w:
        c = None if conditions is None else torch.from_numpy(conditions)
        check_conditions(sampler.c_dim, c, of_conditions)
        if latents.ndim != 2 or latents.shape[1] != sampler.z_dim:
            got = list(latents.shape)
            raise ValueError(f"{where}: shape must be [N, {sampler.z_dim}], got {got}")
        return sampler.map(latents, c)
    if latents.ndim == 2:
        latents = latents[:, None].expand(-1, num_ws, -1)
    w_dim = sampler.generator.config.w_dim
    if tuple(latents.shape[1:]) != (num_ws, w_dim):
        raise ValueError(
            f"{where}: w must be [N, {w_dim}] or [N, {num_ws}, {w_dim}], got {list(rows.shape)}"
        )
    return latents.contiguous()
