"""From the options of train_interpreter.py to a training or a labelled data set."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dnnlib.runs import find_output
from interpreter import dataset_writer, ensemble
from interpreter.dataset_writer import DatasetJob, SampleFilter, dataset_identity
from interpreter.experiment import (
    TRUNCATION_KEYS,
    Experiment,
    check_origin,
    load_experiment,
    load_network,
    load_sampler,
    origin_of,
    snapshot_path,
)
from interpreter.features import feature_layout
from interpreter.native import NativeInterpreter
from interpreter.options import InterpreterOptions
from interpreter.training import (
    InterpreterTask,
    class_list_of,
    load_annotations,
)
from torch_utils.distributed import launched_world
from torch_utils.trainer import Cadence, TrainingJob

# Loads the filter of real people, given recogniser, features, thresholds, face check and device.
LoadFilter = Callable[..., SampleFilter]


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
    annotations = load_annotations(experiment)
    generator, _ = load_network(options, experiment)
    task = InterpreterTask(generator, annotations, experiment)
    outdir = options.outdir or Path(experiment.exp_dir) / "models"
    return TrainingJob(
        task=task,
        output=find_output(outdir, ensemble.RECORD, task.identity(), fresh=options.fresh),
        cadence=Cadence(
            row_steps=experiment.evaluate_every, checkpoint_minutes=options.checkpoint_minutes
        ),
    )


def _prepare_dataset(
    options: InterpreterOptions, experiment: Experiment, load_filter: LoadFilter
) -> DatasetJob:
    assert options.resume is not None, "the options say so"
    wanted = replace(options.dataset, seed=experiment.seed, truncation=experiment.truncation)
    sampler, snapshot = load_sampler(
        options, experiment, stream=dataset_writer.STREAM, seed=wanted.seed
    )
    config, origin = sampler.generator.config, origin_of(sampler.generator, experiment)
    models = ensemble.load_models(options.resume, experiment.model_num)
    check_origin(models.identity, origin, "the models were trained", may_differ=TRUNCATION_KEYS)
    interpreter = NativeInterpreter(models.ensemble.to(sampler.device), feature_layout(config))
    sample_filter = None
    if options.filter_identities is not None:
        sample_filter = load_filter(
            rec_model=options.rec_model,
            training_ids=options.filter_identities,
            thresholds=options.thresholds,
            face_check=options.face_check,
            device=str(sampler.device),
        )
    start = f"_from_{wanted.start}" if wanted.start else ""
    outdir = options.outdir or options.resume / f"samples_{wanted.count}{start}"
    network = origin["network_sha256"]
    identity = dataset_identity(wanted, network, models.ensemble, sampler.labels, sample_filter)
    return DatasetJob(
        output=find_output(outdir, dataset_writer.RECORD, identity, fresh=options.fresh),
        sampler=sampler,
        interpreter=interpreter,
        options=wanted,
        classes=class_list_of(models.identity.get("classes"), interpreter.classes),
        source=snapshot.describe_origin(snapshot_path(options, experiment)),
        sample_filter=sample_filter,
        world=launched_world(),
    )
