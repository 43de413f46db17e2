"""Train the pixel interpreter on annotated images, or write a labelled data set with it."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib import cli

if TYPE_CHECKING:
    from interpreter.dataset_writer import DatasetOptions, DatasetWriter, SampleFilter
    from interpreter.experiment import Experiment
    from networks.generator import Generator

EPILOG = """\b
Examples:
  python train_interpreter.py --exp=EXPERIMENTS/interpreter_example/train_datagan.json \\
      --network=network-snapshot-000100.pkl
  python train_interpreter.py --exp=EXPERIMENTS/interpreter_example/generate.json \\
      --generate-data --resume=out/models --num-sample=1000 --save-vis --drop-uncertain=10%
  torchrun --nproc-per-node=4 train_interpreter.py --exp=generate.json --generate-data \\
      --resume=out/models --num-sample=100000 --archive=webdataset

\b
Repeating a command continues it. Sample i depends on network, models, options and i alone."""

PATH = click.Path(path_type=Path)


class Percent(click.ParamType):
    """A share such as 10% or 0.1."""

    name = "percent"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return 0..1."""
        text = str(value).strip()
        try:
            return float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            return self.fail(f"expected a share such as 10% or 0.1, got {value!r}", param, ctx)


@click.command(cls=cli.GroupedCommand, epilog=EPILOG, context_settings=cli.CONTEXT)
@cli.option_group(
    "Experiment",
    click.option("--exp", type=PATH, metavar="JSON", required=True, help="Experiment file."),
    click.option("--exp-dir", "--exp_dir", metavar="DIR", help="Instead of the file's exp_dir."),
    click.option(
        "--network", type=PATH, metavar="FILE", help="Snapshot, instead of stylegan_checkpoint."
    ),
    click.option(
        "--outdir",
        type=PATH,
        metavar="DIR",
        help="Models: EXP_DIR/models; data set: RESUME/samples_N.",
    ),
    click.option("--seed", type=int, help="Instead of the file's seed."),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto"),
    click.option("--fresh", is_flag=True, help="Start another folder beside one that is there."),
    click.option("-n", "--dry-run", is_flag=True, help="Check everything, write nothing."),
)
@cli.option_group(
    "Data set",
    cli.bool_option(
        "--generate-data", "--generate_data", default=False, help="Write a data set, train nothing."
    ),
    click.option("--resume", type=PATH, metavar="DIR", help="Folder of trained models."),
    click.option("--num-sample", "--num_sample", type=int, default=1000, metavar="N"),
    click.option(
        "--start-step", "--start_step", type=int, default=0, metavar="I", help="First index."
    ),
    click.option(
        "--labels",
        type=PATH,
        metavar="FILE",
        help="Conditions to draw from: .npy [n, c_dim] or identity_features.json.",
    ),
    cli.bool_option("--save-vis", "--save_vis", default=False, help="Also colour overlays."),
    cli.bool_option("--save-uncertainty", default=False, help="Also 16-bit uncertainty maps."),
    click.option(
        "--drop-uncertain",
        type=Percent(),
        default="0%",
        metavar="SHARE",
        help="Remove the samples with the highest scores.",
    ),
    click.option(
        "--archive",
        type=click.Choice(["none", "zip", "webdataset"]),
        default="none",
        help="Also pack the samples into shards.",
    ),
    click.option("--shard-size", type=int, default=1000, metavar="N", help="Samples a shard."),
    click.option(
        "--filter-identities",
        type=PATH,
        metavar="JSON",
        help="Drop samples too near a person of these identity features.",
    ),
    click.option("--rec-model", type=PATH, metavar="PTH", help="Recogniser of these features."),
    click.option(
        "--thresholds",
        type=PATH,
        metavar="JSON",
        help="Of the filter; by default thresholds.json beside the features, or calibrated.",
    ),
    click.option(
        "--face-check",
        type=click.Choice(["none", "mtcnn"]),
        default="none",
        help="Drop samples without one face.",
    ),
    click.option("--upsample_threshold", hidden=True, help="Published, not used."),
)
def main(**given: Any) -> None:
    """Train the ensemble of pixel classifiers, or label new samples with it."""
    cli.start_logging()
    with cli.friendly_errors():
        _check_filter(given)
        if given["generate_data"]:
            _generate(given)
        else:
            _train(given)


def _check_filter(given: dict[str, Any]) -> None:
    names = ("filter_identities", "rec_model", "thresholds")
    wanted = [name for name in names if given[name] is not None]
    if given["face_check"] != "none":
        wanted.append("face_check")
    if wanted and not given["generate_data"]:
        raise ValueError(f"--{wanted[0].replace('_', '-')} is for --generate-data")
    if wanted and (given["filter_identities"] is None or given["rec_model"] is None):
        raise ValueError("a filter needs both --filter-identities and --rec-model")


def _train(given: dict[str, Any]) -> None:
    from dnnlib.runs import find_output  # noqa: PLC0415
    from interpreter.ensemble import RECORD  # noqa: PLC0415
    from interpreter.jobs import InterpreterTask, load_annotations  # noqa: PLC0415
    from torch_utils.trainer import Cadence, TrainingJob  # noqa: PLC0415

    if given["resume"] is not None:
        raise ValueError("--resume names models for --generate-data; training continues by itself")
    experiment = _load_experiment(given)
    labels = experiment.path("annotation_label_path") if experiment.annotation_label_path else None
    annotations = load_annotations(
        experiment.path("annotation_mask_path"),
        experiment.path("annotation_image_latent_path"),
        labels,
        most=experiment.max_training,
        min_region_pixels=experiment.min_region_pixels,
    )
    generator, _ = _load_generator(given, experiment)
    task = InterpreterTask(generator, annotations, experiment)
    outdir = given["outdir"] or Path(experiment.exp_dir) / "models"
    output = find_output(outdir, RECORD, task.identity(), fresh=given["fresh"])
    cadence = Cadence(row_steps=experiment.evaluate_every)
    job = TrainingJob(task=task, output=output, cadence=cadence)
    if given["dry_run"]:
        click.echo(json.dumps(job.describe(), indent=2))
    elif message := job.run(cli.progress_bar):
        click.echo(message)


def _generate(given: dict[str, Any]) -> None:
    from dnnlib.runs import find_output  # noqa: PLC0415
    from interpreter import dataset_writer  # noqa: PLC0415  # torch is slow

    if given["resume"] is None:
        raise ValueError("--generate-data needs --resume, the folder of trained models")
    experiment = _load_experiment(given)
    options = _dataset_options(given, experiment)
    generator, feature_scale = _load_generator(given, experiment)
    writer, identity = _dataset_writer(given, experiment, generator, options, feature_scale)
    outdir = given["outdir"] or given["resume"] / _samples_name(options)
    output = find_output(outdir, dataset_writer.RECORD, identity, fresh=given["fresh"])
    if given["dry_run"]:
        click.echo(json.dumps({"outdir": str(output.path), **output.identity}, indent=2))
        return
    if output.is_finished:
        click.echo(f"{output.path}: all {options.count} samples are there")
        return
    share = dataset_writer.Share(
        rank=int(os.environ.get("RANK", "0")), world=int(os.environ.get("WORLD_SIZE", "1"))
    )
    result = writer.write(output, share, cli.progress_bar(0, options.count // share.world))
    if result is None:
        click.echo(f"{output.path}: this process is done, others are not")
        return
    click.echo(f"{output.path}: {result['samples']} samples, {result['dropped']} dropped")


def _samples_name(options: "DatasetOptions") -> str:
    start = f"_from_{options.start}" if options.start else ""
    return f"samples_{options.count}{start}"


def _dataset_options(given: dict[str, Any], experiment: "Experiment") -> "DatasetOptions":
    from interpreter.dataset_writer import Archive, DatasetOptions  # noqa: PLC0415

    return DatasetOptions(
        count=given["num_sample"],
        start=given["start_step"],
        seed=experiment.seed,
        truncation=experiment.truncation,
        save_vis=given["save_vis"],
        save_uncertainty=given["save_uncertainty"],
        drop_uncertain=given["drop_uncertain"],
        archive=Archive(given["archive"]),
        shard_size=given["shard_size"],
    )


def _dataset_writer(
    given: dict[str, Any],
    experiment: "Experiment",
    generator: "Generator",
    options: "DatasetOptions",
    feature_scale: float | None,
) -> tuple["DatasetWriter", dict[str, Any]]:
    """Return the writer, and what decides its output as plain JSON values."""
    from data.numbers import load_conditions  # noqa: PLC0415
    from interpreter.dataset_writer import DatasetWriter, dataset_identity  # noqa: PLC0415
    from interpreter.ensemble import load_models  # noqa: PLC0415
    from interpreter.features import feature_layout  # noqa: PLC0415
    from interpreter.jobs import check_models_belong, class_list_of  # noqa: PLC0415
    from interpreter.native import NativeInterpreter  # noqa: PLC0415
    from torch_utils.checkpoints import state_sha256  # noqa: PLC0415

    models = load_models(given["resume"], experiment.model_num)
    network = state_sha256(generator.state_dict())
    check_models_belong(models, network, experiment)
    device = generator.mapping.w_avg.device
    layout = feature_layout(generator.config)
    interpreter = NativeInterpreter(models.ensemble.to(device), layout)
    conditions = None
    if given["labels"] is not None:
        conditions = load_conditions(given["labels"], "--labels", feature_scale)
    sample_filter = _sample_filter(given, str(device))
    writer = DatasetWriter(
        generator,
        interpreter,
        options,
        classes=class_list_of(models.identity.get("classes"), interpreter.classes),
        conditions=conditions,
        sample_filter=sample_filter,
    )
    identity = dataset_identity(options, network, models.ensemble, conditions, sample_filter)
    return writer, identity


def _sample_filter(given: dict[str, Any], device: str) -> "SampleFilter | None":
    """Return the filter of training people, where one is asked for."""
    if given["filter_identities"] is None:
        return None
    from identities.filter_loading import FilterOptions, load_filter  # noqa: PLC0415  # torch is slow

    options = FilterOptions(
        rec_model=given["rec_model"],
        training_ids=given["filter_identities"],
        thresholds=given["thresholds"],
        face_check=given["face_check"],
        device=device,
    )
    return load_filter(options).as_sample_filter()


def _load_experiment(given: dict[str, Any]) -> "Experiment":
    from interpreter.experiment import load_experiment  # noqa: PLC0415  # torch is slow

    return load_experiment(given["exp"], {"exp_dir": given["exp_dir"], "seed": given["seed"]})


def _load_generator(
    given: dict[str, Any], experiment: "Experiment"
) -> tuple["Generator", float | None]:
    """Return the generator, and the length that its conditions have."""
    from networks.snapshot import load_generator  # noqa: PLC0415  # torch is slow
    from torch_utils.devices import resolve_device, use_repeatable_arithmetic  # noqa: PLC0415

    local = os.environ.get("LOCAL_RANK")
    device = resolve_device(given["device"], None if local is None else int(local))
    if device != "cpu":
        use_repeatable_arithmetic()
    path = given["network"] or experiment.path("stylegan_checkpoint")
    generator, snapshot = load_generator(path, device, use_raw_g=experiment.use_raw_g)
    return generator, snapshot.feature_scale


if __name__ == "__main__":
    main()
