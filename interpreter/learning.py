"""From annotated images and a generator to a folder of trained models."""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data import sheets
from data.class_list import MAX_CLASSES, ClassList, class_list_from_json
from dnnlib import config as configs
from dnnlib.runs import OutputFolder
from interpreter.annotations import TrainingAnnotations
from interpreter.experiment import Experiment
from interpreter.features import FeatureLayout, FeatureTable, feature_layout
from interpreter.fitting import Fit, FitOptions
from interpreter.model_files import TrainedInterpreter, save_models
from networks.generator import Generator
from networks.sampling import Sampler, check_conditions
from torch_utils.checkpoints import state_sha256

CHECKPOINT = "checkpoint.pt"
SHEET_FILE = "train_data.jpg"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class LearningJob:
    """Everything that has been read and checked before training.

    Attributes:
        sampler: of the features.
        layout: of its feature maps.
        annotations: masks and latents.
        ws: [n, num_ws, w_dim] float32 of the annotated images.
        options: of training.
        network: "G_ema" or "G".
    """

    sampler: Sampler
    layout: FeatureLayout
    annotations: TrainingAnnotations
    ws: Tensor
    options: FitOptions
    network: str

    def identity(self) -> dict[str, Any]:
        """Return what decides the models, as plain JSON values."""
        digest = hashlib.sha256(self.annotations.masks.tobytes())
        digest.update(self.ws.numpy().tobytes())
        return {
            "network_sha256": state_sha256(self.sampler.generator.state_dict()),
            "network": self.network,
            "truncation_psi": self.sampler.truncation.psi,
            "truncation_cutoff": self.sampler.truncation.cutoff,
            "resolution": self.layout.resolution,
            "feature_channels": list(self.layout.channels),
            "annotations_sha256": digest.hexdigest(),
            "annotations": self.annotations.names,
            "classes": self.annotations.classes or self.options.classes,
            "training": configs.to_dict(self.options),
        }

    def palette(self) -> np.ndarray:
        """Return a colour a class, [K, 3] uint8."""
        return class_list_of(self.annotations.classes, self.options.classes).palette()


def prepare_learning(
    generator: Generator, annotations: TrainingAnnotations, experiment: Experiment
) -> LearningJob:
    """Check that generator, annotations and experiment belong together.

    Raises: ValueError for masks of another size, classes beyond the number of classes, latents of
        another width, or another generator than the one that drew the annotated images.
    """
    _check_origin(generator, annotations, experiment)
    resolution = generator.config.resolution
    if annotations.masks.shape[1:] != (resolution, resolution):
        height, width = annotations.masks.shape[1:]
        raise ValueError(
            f"{annotations.names[0]}: the mask must have the network's size "
            f"{resolution}x{resolution}, got {width}x{height}"
        )
    sampler = Sampler(generator, truncation=experiment.truncation)
    return LearningJob(
        sampler=sampler,
        layout=feature_layout(generator.config),
        annotations=annotations,
        ws=_annotated_ws(sampler, annotations, experiment),
        options=experiment.fit_options(_count_classes(annotations, experiment)),
        network=experiment.network_name,
    )


def run_learning(
    job: LearningJob, output: OutputFolder, progress: Callable[[int, int], Callable[[int], None]]
) -> dict[str, Any]:
    """Draw the annotated images again, train on their features and write the models.

    Args:
        job: what to learn.
        output: folder that is not finished; a checkpoint in it is continued.
        progress: takes steps done and in all, returns what counts further steps.
    Returns: what the record says of the result.
    """
    with output.at_work():
        table = _draw_features(job, output.path)
        labels = torch.from_numpy(job.annotations.masks.reshape(-1))
        fit = Fit(table, labels, job.options)
        checkpoint = output.path / CHECKPOINT
        if checkpoint.is_file():
            fit.load(checkpoint)
            _logger.info("continuing at step %d", fit.step)
        result = fit.run(checkpoint, progress(fit.step, fit.limit))
        save_models(output.path, result.ensemble, result.steps)
        summary = {"members": job.options.members, "steps": result.steps, "history": result.history}
        output.finish(summary)
        checkpoint.unlink(missing_ok=True)
        return summary


def class_list_of(classes: Any, count: int) -> ClassList:
    """Return the first classes of a list as JSON, or numbered ones in colours that differ."""
    if not isinstance(classes, list) or len(classes) < count:
        colours = sheets.default_palette(count).tolist()
        classes = [{"name": f"class {k}", "color": colours[k]} for k in range(count)]
    return class_list_from_json(classes[:count], "classes")


def _draw_features(job: LearningJob, folder: Path) -> FeatureTable:
    count, palette = len(job.ws), job.palette()
    table = FeatureTable(job.layout, count, job.sampler.device)
    cells = []
    for index, sample in enumerate(job.sampler.features(job.ws)):
        table.put(index, sample.maps)
        first = next(iter(sample.images.values()))
        painted = sheets.overlay(first, job.annotations.masks[index], palette)
        cells.append((str(index), sheets.side_by_side([first, painted])))
    sheets.save_image(folder / SHEET_FILE, sheets.contact_sheet(cells))
    return table


def _check_origin(
    generator: Generator, annotations: TrainingAnnotations, experiment: Experiment
) -> None:
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
        "network_sha256": state_sha256(generator.state_dict()),
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
    latents = torch.from_numpy(np.asarray(annotations.latents, np.float32))
    where, num_ws = "annotation_image_latent_path", sampler.generator.num_ws
    conditions = annotations.conditions
    c = None if conditions is None else torch.from_numpy(conditions)
    check_conditions(sampler.c_dim, c, "annotation_label_path")
    if not experiment.annotation_data_from_w:
        if latents.ndim != 2 or latents.shape[1] != sampler.z_dim:
            raise ValueError(
                f"{where}: shape must be [N, {sampler.z_dim}], got {list(latents.shape)}"
            )
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
        if identity.get(key) != getattr(experiment, key):
            _logger.warning(
                "%s is %s, the models were trained with %s",
                key,
                getattr(experiment, key),
                identity.get(key),
            )
