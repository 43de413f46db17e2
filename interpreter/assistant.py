"""The interpreter as an annotator's assistant: trained on some masks, it suggests all others."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.class_list import ClassList, class_list_as_json
from data.numbers import load_rows
from dnnlib import files
from dnnlib.options import Device, Progress
from interpreter.annotation_images import LABEL_FILE, LATENT_FILE, RECORD
from interpreter.ensemble import load_models
from interpreter.experiment import (
    check_origin,
    load_experiment,
    load_network,
    origin_of_annotated,
)
from interpreter.features import feature_layout
from interpreter.native import NativeInterpreter
from interpreter.options import ExperimentOptions
from interpreter.training import (
    InterpreterTask,
    TrainingAnnotations,
    annotated_ws,
    drop_small_classes,
)
from networks.sampling import Sampler
from torch_utils.trainer import Cadence, Trainer


class InterpreterAssistant:
    """Trains a small ensemble in seconds and labels the images that it has not learnt.

    Args:
        exp: experiment file.
        network: snapshot, instead of the experiment's.
        drawn: folder that make_training_data.py wrote.
        classes: of the masks.
        members: of the ensemble, instead of the experiment's model_num.
        steps: limit of the training, instead of max_steps.
        device: to compute on.
    Raises: FileNotFoundError; ValueError naming file or key that does not fit.
    """

    def __init__(
        self,
        *,
        exp: Path,
        network: Path | None,
        drawn: Path,
        classes: ClassList,
        members: int,
        steps: int,
        device: Device,
    ) -> None:
        changes = {"model_num": members, "max_steps": steps, "number_class": len(classes)}
        self._experiment = load_experiment(exp, changes)
        options = ExperimentOptions(exp=exp, network=network, device=device)
        self._generator, _ = load_network(options, self._experiment)
        self._classes = class_list_as_json(classes)
        record, labels = drawn / RECORD, drawn / LABEL_FILE
        self._drawn_with: dict[str, Any] = {}
        if record.is_file():
            self._drawn_with = files.read_object(record, identity=dict)["identity"]
        origin = origin_of_annotated(self._generator, self._experiment)
        check_origin(self._drawn_with, origin, "the images to annotate were drawn")
        # What decides suggestions besides masks, as plain JSON values.
        self.identity = {
            **origin,
            "drawn_with": self._drawn_with,
            "classes": self._classes,
            "training": self._experiment.training,
        }
        self._latents = load_rows(drawn / LATENT_FILE, "--drawn")
        self._conditions = None
        if labels.is_file():
            self._conditions = load_rows(labels, "--drawn").astype(np.float32)
        self._sampler = Sampler(self._generator, truncation=self._experiment.truncation)
        sources = (f"--drawn {drawn / LATENT_FILE}", f"--drawn {labels}")
        self._ws = annotated_ws(
            self._sampler, self._latents, self._conditions, self._experiment, sources
        )

    def suggest(
        self, masks: Mapping[int, np.ndarray], progress: Progress
    ) -> Iterator[tuple[int, np.ndarray, np.ndarray, float]]:
        """Train on masks, and label all other images.

        Args:
            masks: [R, R] uint8 by image number.
            progress: of the training.
        Yields: image number, labels [R, R] uint8, Jensen-Shannon divergence [R, R] float32 and its
            score, see `Labelling`.
        Raises: ValueError for a mask that does not fit; FloatingPointError.
        """
        learnt = sorted(masks)
        if learnt[-1] >= len(self._latents):
            raise ValueError(f"image {learnt[-1]} has no latent, there are {len(self._latents)}")
        least = self._experiment.min_region_pixels
        annotations = TrainingAnnotations(
            masks=np.stack([drop_small_classes(masks[number], least) for number in learnt]),
            names=[f"image {number}" for number in learnt],
            latents=self._latents[learnt],
            conditions=None if self._conditions is None else self._conditions[learnt],
            classes=self._classes,
            drawn_with=self._drawn_with,
        )
        task = InterpreterTask(self._generator, annotations, self._experiment)
        cadence = Cadence(
            row_steps=self._experiment.evaluate_every, checkpoint_rows=0, checkpoint_minutes=0
        )
        with tempfile.TemporaryDirectory() as folder:
            Trainer(task, Path(folder), cadence, progress=progress).run()
            task.export(Path(folder))
            ensemble = load_models(Path(folder)).ensemble.to(self._sampler.device)
        interpreter = NativeInterpreter(ensemble, feature_layout(self._generator.config))
        others = [number for number in range(len(self._latents)) if number not in masks]
        samples = self._sampler.features(self._ws[others])
        for number, sample in zip(others, samples, strict=True):
            found = interpreter.label(sample.maps)
            yield number, found.labels.cpu().numpy(), found.divergence.cpu().numpy(), found.score
