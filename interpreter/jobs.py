"""From the options of train_interpreter.py to a training or a labelled data set."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data.numbers import load_conditions
from dnnlib.options import Progress
from dnnlib.runs import FolderJob, find_output
from interpreter import dataset_writer, ensemble
from interpreter.dataset_writer import DatasetWriter, SampleFilter, dataset_identity
from interpreter.experiment import Experiment, load_experiment
from interpreter.features import feature_layout
from interpreter.native import NativeInterpreter
from interpreter.options import InterpreterOptions
from interpreter.training import (
    InterpreterTask,
    check_models_belong,
    class_list_of,
    load_annotations,
)
from networks.generator import Generator
from networks.snapshot import load_generator
from torch_utils.checkpoints import state_sha256
from torch_utils.devices import resolve_repeatable
from torch_utils.distributed import World, launched_world, local_rank
from torch_utils.trainer import Cadence, TrainingJob

# Loads the filter of real people, given recogniser, features, thresholds, face check and device.
LoadFilter = Callable[..., SampleFilter]


@dataclass(frozen=True, kw_only=True, eq=False)
class DatasetJob(FolderJob):
    """A labelled data set to be written.

    Attributes:
        writer: of the samples.
        count: number of samples.
        world: processes that share the work.
    """

    writer: DatasetWriter
    count: int
    world: World

    def work(self, progress: Progress) -> str:
        """Write this process's share, and the manifest where everything is there."""
        bar = progress(0, self.count // self.world.size)
        result = self.writer.write(self.output, self.world, bar)
        path = self.output.path
        if result is None:
            return f"{path}: this process is done, others are not"
        return f"{path}: {result['samples']} samples, {result['dropped']} dropped"


def prepare(options: InterpreterOptions, load_filter: LoadFilter) -> TrainingJob | DatasetJob:
    """Check that an ensemble can be trained, or a data set written with --generate-data.

    Args:
        options: as the user gave them.
        load_filter: loads the filter of real people where one is asked for.
    Raises: FileNotFoundError; ValueError naming the file or option that does not fit.
    """
    overrides = {"exp_dir": options.exp_dir, "seed": options.seed}
    experiment = load_experiment(options.exp, overrides)
    if options.generate_data:
        return _prepare_dataset(options, experiment, load_filter)
    return _prepare_training(options, experiment)


def _prepare_training(options: InterpreterOptions, experiment: Experiment) -> TrainingJob:
    labels = experiment.path("annotation_label_path") if experiment.annotation_label_path else None
    annotations = load_annotations(
        experiment.path("annotation_mask_path"),
        experiment.path("annotation_image_latent_path"),
        labels,
        most=experiment.max_training,
        min_region_pixels=experiment.min_region_pixels,
    )
    generator, _ = _load_generator(options, experiment)
    task = InterpreterTask(generator, annotations, experiment)
    outdir = options.outdir or Path(experiment.exp_dir) / "models"
    return TrainingJob(
        task=task,
        output=find_output(outdir, ensemble.RECORD, task.identity(), fresh=options.fresh),
        cadence=Cadence(row_steps=experiment.evaluate_every),
    )


def _prepare_dataset(
    options: InterpreterOptions, experiment: Experiment, load_filter: LoadFilter
) -> DatasetJob:
    assert options.resume is not None, "the options say so"
    wanted = dataclasses.replace(
        options.dataset, seed=experiment.seed, truncation=experiment.truncation
    )
    generator, feature_scale = _load_generator(options, experiment)
    models = ensemble.load_models(options.resume, experiment.model_num)
    network = state_sha256(generator.state_dict())
    check_models_belong(models, network, experiment)
    device = generator.mapping.w_avg.device
    interpreter = NativeInterpreter(models.ensemble.to(device), feature_layout(generator.config))
    conditions, sample_filter = None, None
    if options.labels is not None:
        conditions = load_conditions(options.labels, "--labels", feature_scale)
    if options.filter_identities is not None:
        sample_filter = load_filter(
            rec_model=options.rec_model,
            training_ids=options.filter_identities,
            thresholds=options.thresholds,
            face_check=options.face_check,
            device=str(device),
        )
    writer = DatasetWriter(
        generator,
        interpreter,
        wanted,
        classes=class_list_of(models.identity.get("classes"), interpreter.classes),
        conditions=conditions,
        sample_filter=sample_filter,
    )
    start = f"_from_{wanted.start}" if wanted.start else ""
    outdir = options.outdir or options.resume / f"samples_{wanted.count}{start}"
    identity = dataset_identity(wanted, network, models.ensemble, conditions, sample_filter)
    return DatasetJob(
        output=find_output(outdir, dataset_writer.RECORD, identity, fresh=options.fresh),
        writer=writer,
        count=wanted.count,
        world=launched_world(),
    )


def _load_generator(
    options: InterpreterOptions, experiment: Experiment
) -> tuple[Generator, float | None]:
    """Return the generator, and the length that its conditions have."""
    device = resolve_repeatable(options.device, local_rank())
    path = options.network or experiment.path("stylegan_checkpoint")
    generator, snapshot = load_generator(path, device, use_raw_g=experiment.use_raw_g)
    return generator, snapshot.feature_scale
