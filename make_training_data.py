"""Draw image pairs for people to annotate, with the latents that give them again."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib import cli

if TYPE_CHECKING:
    from interpreter.annotation_images import AnnotationRequest
    from interpreter.experiment import Experiment
    from interpreter.native import NativeInterpreter
    from networks.generator import Generator

EPILOG = """\b
Examples:
  python make_training_data.py --exp=EXPERIMENTS/interpreter_example/generate.json \\
      --network=network-snapshot-000100.pkl --sv-path=out/annotate --num-sample=100 --select=8
  python make_training_data.py --exp=generate.json --sv-path=out/annotate --select=8 \\
      --interpreter=out/models

\b
Writes images_to_annotate/image_N.jpg and image_N_NIR.jpg, latent_stylegan.npy (row N is the z of
image N), avg_latent_stylegan.npy, contact_sheet.jpg and training_data.json. Then paint the images
(docs/interpreter.md) and run preprocess_annotations.py."""

PATH = click.Path(path_type=Path)


@click.command(cls=cli.GroupedCommand, epilog=EPILOG, context_settings=cli.CONTEXT)
@cli.option_group(
    "What to draw",
    click.option("--exp", type=PATH, metavar="JSON", required=True, help="Experiment file."),
    click.option(
        "--network", type=PATH, metavar="FILE", help="Snapshot, instead of stylegan_checkpoint."
    ),
    click.option(
        "--num-sample", "--num_sample", type=int, default=100, metavar="N", help="Image pairs."
    ),
    click.option("--seed", type=int, default=1111, help="Of the latents."),
    click.option(
        "--labels",
        type=PATH,
        metavar="FILE",
        help="Conditions to draw from: .npy [n, c_dim] or identity_features.json.",
    ),
)
@cli.option_group(
    "Proposals",
    click.option("--select", type=int, metavar="K", help="Propose K images to annotate."),
    click.option(
        "--interpreter",
        "models",
        type=PATH,
        metavar="DIR",
        help="Propose what these models are least certain of.",
    ),
)
@cli.option_group(
    "Output",
    click.option("--sv-path", "--sv_path", type=PATH, metavar="DIR", required=True, help="Folder."),
    click.option("--fresh", is_flag=True, help="Start another folder beside one that is there."),
    click.option("-n", "--dry-run", is_flag=True, help="Check everything, write nothing."),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto"),
    click.option("--expand_to_dimensions", hidden=True, help="Published, not used."),
)
def main(**given: Any) -> None:
    """Draw image pairs for annotation; repeating the command continues or proposes again."""
    cli.start_logging()
    with cli.friendly_errors():
        _run(given)


def _run(given: dict[str, Any]) -> None:
    from dnnlib.runs import find_output  # noqa: PLC0415
    from interpreter import annotation_images  # noqa: PLC0415  # torch is slow
    from interpreter.experiment import load_experiment  # noqa: PLC0415

    if given["models"] is not None and given["select"] is None:
        raise ValueError("--interpreter is used with --select only")
    experiment = load_experiment(given["exp"])
    generator, feature_scale = _load_generator(given, experiment)
    request = _request(given, experiment, generator, feature_scale)
    if given["select"] is not None and not 1 <= given["select"] <= request.count:
        raise ValueError(
            f"--select: 1 to {request.count} images can be proposed, got {given['select']}"
        )
    interpreter = _load_interpreter(given["models"], generator)
    output = find_output(
        given["sv_path"],
        annotation_images.RECORD,
        request.identity(),
        fresh=given["fresh"],
        option="--sv-path",
    )
    if given["dry_run"]:
        click.echo(json.dumps({"sv_path": str(output.path), **output.identity}, indent=2))
        return
    if output.is_finished:
        click.echo(f"{output.path}: all {request.count} image pairs are there")
    else:
        progress = cli.progress_bar(0, request.count)
        mean_w = generator.mapping.w_avg
        annotation_images.write_annotation_images(request, output, mean_w, progress)
        click.echo(f"{output.path}: wrote {request.count} image pairs")
    if given["select"] is not None:
        progress = cli.progress_bar(0, request.count)
        numbers = annotation_images.propose_images(
            request, output.path, given["select"], interpreter, progress
        )
        click.echo(f"annotate: {', '.join(str(number) for number in numbers)}")


def _request(
    given: dict[str, Any],
    experiment: "Experiment",
    generator: "Generator",
    feature_scale: float | None,
) -> "AnnotationRequest":
    from data.conditions import load_conditions  # noqa: PLC0415
    from interpreter.annotation_images import AnnotationRequest  # noqa: PLC0415  # torch is slow

    conditions = None
    if given["labels"] is not None:
        conditions = load_conditions(given["labels"], "--labels", feature_scale)
    return AnnotationRequest(
        generator=generator,
        truncation=experiment.truncation,
        count=given["num_sample"],
        seed=given["seed"],
        conditions=conditions,
        network_name=experiment.network_name,
    )


def _load_generator(
    given: dict[str, Any], experiment: "Experiment"
) -> tuple["Generator", float | None]:
    """Return the generator, and the length that its conditions have."""
    from networks.snapshot import load_generator  # noqa: PLC0415  # torch is slow
    from torch_utils.devices import resolve_device, use_repeatable_arithmetic  # noqa: PLC0415

    device = resolve_device(given["device"])
    if device != "cpu":
        use_repeatable_arithmetic()
    path = given["network"] or experiment.path("stylegan_checkpoint")
    generator, snapshot = load_generator(path, device, use_raw_g=experiment.use_raw_g)
    return generator, snapshot.feature_scale


def _load_interpreter(models: Path | None, generator: "Generator") -> "NativeInterpreter | None":
    from interpreter.features import feature_layout  # noqa: PLC0415  # torch is slow
    from interpreter.model_files import load_models  # noqa: PLC0415
    from interpreter.native import NativeInterpreter  # noqa: PLC0415

    if models is None:
        return None
    ensemble = load_models(models).ensemble.to(generator.mapping.w_avg.device)
    return NativeInterpreter(ensemble, feature_layout(generator.config))


if __name__ == "__main__":
    main()
