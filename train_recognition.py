"""Train a face recogniser on images with known people."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib import cli

if TYPE_CHECKING:
    import torch

    from recognition.face_sets import FaceSet
    from recognition.learning_config import TrainingConfig
    from recognition.mixup import IdentityMixup
    from recognition.task import Mixups, RecognitionTask
    from recognition.training_sets import TrainingSets
    from torch_utils.distributed import World

EPILOG = """\b
Examples:
  python train_recognition.py --config=EXPERIMENTS/example/recognition.json \\
      --data=DATASETS/example_32 --outdir=EXPERIMENTS/runs/recogniser
  python train_recognition.py --data=new_people --mix-data=DATASETS/faces --blur=0.02 \\
      --illumination=0.4 --heldout=DATASETS/faces/heldout --outdir=out
  python train_recognition.py --data=new_people --identity-mix=net.pkl --outdir=out
  torchrun --nproc-per-node=8 train_recognition.py --data=faces/train.rec --backbone=r100 \\
      --sample-rate=0.1 --precision=fp16 --batch=1024 --outdir=out

\b
--data takes pairs (VIS and NIR, or a zip of them), a folder a person, new people with their
manifest, .rec and .tar files. The person of an image is its folder, or what stands before the last
"_" of its name. The result is recogniser.pth, with insightface's parameter names.
Repeating a command continues it."""

PATH = click.Path(path_type=Path)
COUNT = click.IntRange(min=1)
SHARE = click.FloatRange(0, 1)
COMPANIONS = {
    "mix_data": ("mix_people", "mix_samples", "mix_share"),
    "identity_mix": (
        *("identity_share", "identity_images", "conditions", "parents", "feature_scale"),
        "truncation",
    ),
}


@click.command(cls=cli.GroupedCommand, epilog=EPILOG, context_settings=cli.CONTEXT)
@cli.option_group(
    "Run",
    click.option(
        "--data",
        type=PATH,
        required=True,
        multiple=True,
        metavar="DIR|FILE",
        help="Images of people; several sets have different people.",
    ),
    click.option("--outdir", type=PATH, required=True, metavar="DIR", help="Of the result."),
    click.option(
        "--modality",
        "modalities",
        type=click.Choice(["rgb", "nir"]),
        multiple=True,
        default=("rgb",),
        show_default=True,
        help="May be given twice: both are images of the person.",
    ),
    click.option("--people", type=COUNT, metavar="N", help="Of each --data.  [default: all]"),
    click.option("--samples", type=COUNT, metavar="N", help="Of each person.  [default: all]"),
    click.option("--joint", is_flag=True, help="RGB and NIR as one image of 4 channels."),
    click.option(
        "--labels",
        type=click.Choice(["people", "parents"]),
        default="people",
        help="Mixed people count as themselves, or as their two parents in part.",
    ),
    click.option(
        "--heldout",
        type=PATH,
        metavar="DIR|FILE",
        help="Other people: their verification is measured every epoch.",
    ),
    click.option("--seed", default=0, help="Of everything random."),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto"),
    click.option(
        "--precision",
        type=click.Choice(["fp32", "tf32", "fp16", "bf16"]),
        default="fp32",
        help="Of the backbone; tf32 and fp16 need a GPU.",
    ),
    click.option("--fresh", is_flag=True, help="Start another folder beside one that is there."),
    click.option("-n", "--dry-run", is_flag=True, help="Check everything, write nothing."),
    cli.config_option(),
)
@cli.option_group(
    "Mixups",
    click.option("--mix-data", type=PATH, metavar="DIR|FILE", help="Real images to mix in."),
    click.option("--mix-people", type=COUNT, metavar="N", help="Of --mix-data.  [default: all]"),
    click.option("--mix-samples", type=COUNT, metavar="N", help="Of each of them.  [default: all]"),
    click.option("--mix-share", type=SHARE, default=1.0, help="Of the images that get one."),
    click.option(
        "--identity-mix", type=PATH, metavar="PKL", help="Conditional snapshot to draw from."
    ),
    click.option("--identity-share", type=SHARE, default=1.0, help="Of images that are drawn."),
    click.option(
        "--identity-images",
        type=COUNT,
        metavar="N",
        help="Draw only so many, and keep them.  [default: new ones for ever]",
    ),
    click.option(
        "--conditions",
        type=PATH,
        metavar="JSON|DIR",
        help="Vectors of the people of --data.  [default: --data's manifest]",
    ),
    click.option(
        "--parents", type=PATH, metavar="JSON", help="Features that new people were mixed of."
    ),
    click.option(
        "--feature-scale",
        type=click.FloatRange(min=0, min_open=True),
        help="Length of conditions.  [default: of --data's manifest or of the training, else 4]",
    ),
    click.option("--truncation", type=float, default=0.7, metavar="PSI", help="1 is none."),
)
@cli.option_group(
    "Network",
    click.option("--backbone", default="r50", help="r18, r34, r50, r100, r200, mobilefacenet."),
    click.option("--width", default=1.0, help="Factor of the backbone's channels."),
    click.option("--embedding", default=512, help="Width of the embeddings."),
    click.option("--size", default=112, help="Images are resized to this; a multiple of 16."),
    click.option("--dropout", default=0.0, help="Before the last layer."),
)
@cli.option_group(
    "Loss",
    click.option("--head", type=click.Choice(["arcface", "cosface", "softmax"]), default="arcface"),
    click.option("--margin", type=float, help="0.5 for arcface, 0.35 for cosface."),
    click.option("--scale", default=64.0, help="Of the logits; fewer people want less."),
    click.option("--sample-rate", default=1.0, help="Share of the people a step compares with."),
)
@cli.option_group(
    "Training",
    click.option("--epochs", default=20, help="Passes over the data."),
    click.option("--batch", default=128, help="Images a step, of all processes."),
    click.option("--lr", default=0.1, help="Largest learning rate."),
    click.option("--weight-decay", default=5e-4, help="Of all weights."),
    click.option("--warmup", default=0.05, help="Share of the steps in which the rate rises."),
    click.option("--workers", type=click.IntRange(min=0), default=4, help="That decode images."),
    click.option("--memory-gib", default=2.0, help="Decoded images are kept up to this."),
)
@cli.option_group(
    "Augmentation",
    cli.bool_option("--mirror", default=True, help="Half of the images flipped."),
    click.option("--shift", default=0.0, help="Largest shift, as a share of the width."),
    click.option("--light", default=0.0, help="Largest change of contrast and brightness."),
    click.option("--blur", default=0.0, help="Largest blur, as a share of the width."),
    click.option("--illumination", default=0.0, help="Strength of gamma and of light from a side."),
)
def main(**given: Any) -> None:
    """Train a recogniser with a margin loss."""
    cli.start_logging()
    with cli.friendly_errors():
        cli.check_companions(COMPANIONS)
        _run(given)


def _run(given: dict[str, Any]) -> None:
    import torch  # noqa: PLC0415  # slow

    from torch_utils.devices import resolve_device  # noqa: PLC0415
    from torch_utils.distributed import is_launched, join_world, local_rank  # noqa: PLC0415

    number = local_rank() if is_launched() else None
    device = torch.device(resolve_device(given["device"], number))
    with join_world(device) as world:
        _train(given, device, world)


def _train(given: dict[str, Any], device: "torch.device", world: "World") -> None:
    from dnnlib.config import to_dict  # noqa: PLC0415
    from dnnlib.outputs import find_output  # noqa: PLC0415
    from recognition.task import RECORD_FILE  # noqa: PLC0415  # torch is slow
    from recognition.training_options import read_learning_config  # noqa: PLC0415
    from torch_utils.trainer import Cadence, describe_result, train  # noqa: PLC0415

    config = read_learning_config(given)
    task, sources = _task(given, config, device, world)
    identity = {
        **sources,
        "modalities": list(given["modalities"]),
        "joint": given["joint"],
        "labels": given["labels"],
        "training": to_dict(config),
    }
    output = find_output(given["outdir"], RECORD_FILE, identity, fresh=given["fresh"])
    if given["dry_run"] or output.is_finished:
        if world.is_first:
            click.echo(_describe(task, output.path, output.identity, given))
        return
    cadence = Cadence(row_steps=task.steps_per_epoch)
    record = train(task, output, cadence, progress=partial(cli.progress_bar, unit="step"))
    if record is not None and world.is_first:
        click.echo(f"{output.path}: {describe_result(record['result'])}")


def _describe(
    task: "RecognitionTask", path: Path, identity: dict[str, Any], given: dict[str, Any]
) -> str:
    if not given["dry_run"]:
        return f"{path}: the recogniser is trained"
    content = {
        "outdir": str(path),
        "people": len(task.people),
        "images": len(task.faces),
        "steps": task.steps,
        **identity,
    }
    return json.dumps(content, indent=2)


def _task(
    given: dict[str, Any], config: "TrainingConfig", device: "torch.device", world: "World"
) -> tuple["RecognitionTask", dict[str, Any]]:
    """Return the training, and what its data are as plain JSON values."""
    from recognition.face_sources import LabelKind  # noqa: PLC0415  # torch is slow
    from recognition.task import RecognitionTask  # noqa: PLC0415
    from recognition.training_sets import TrainingSets  # noqa: PLC0415
    from recognition.verification import Verifier  # noqa: PLC0415

    joint = given["joint"]
    modalities = ("rgb", "nir") if joint else given["modalities"]
    sets = TrainingSets(modalities, joint=joint, memory_gib=given["memory_gib"])
    part = (given["people"], given["samples"])
    faces = sets.read("--data", given["data"], LabelKind(given["labels"]), part)
    mixups, described = _mixups(given, sets, faces, str(device))
    verify, heldout = None, None
    if given["heldout"] is not None:
        others = sets.read("--heldout", [given["heldout"]])
        verify, heldout = Verifier(others, given["heldout"]), others.fingerprints
    task = RecognitionTask(
        faces,
        config,
        device,
        verify,
        mixups=mixups,
        world=world,
        workers=given["workers"],
    )
    return task, {"data": faces.fingerprints, "heldout": heldout, **described}


def _mixups(
    given: dict[str, Any], sets: "TrainingSets", faces: "FaceSet", device: str
) -> tuple["Mixups", dict[str, Any]]:
    from recognition.mixup import DomainMixup  # noqa: PLC0415
    from recognition.task import Mixups  # noqa: PLC0415  # torch is slow

    domain, described = None, {}
    if given["mix_data"] is not None:
        part = (given["mix_people"], given["mix_samples"])
        real = sets.read("--mix-data", [given["mix_data"]], part=part)
        domain = DomainMixup(real, given["mix_share"])
        described["domain_mixup"] = {"data": real.fingerprints, "share": given["mix_share"]}
    identity = None
    if given["identity_mix"] is not None:
        identity, described["identity_mixup"] = _identity_mixup(given, faces, device)
    return Mixups(domain=domain, identity=identity), described


def _identity_mixup(
    given: dict[str, Any], faces: "FaceSet", device: str
) -> tuple["IdentityMixup", dict[str, Any]]:
    """Return what draws images of mixed people, and what decides them."""
    from identities.conditions import condition_scale, read_conditions  # noqa: PLC0415  # torch is slow
    from networks.sampling import Sampler, Truncation  # noqa: PLC0415
    from networks.snapshot import load_generator  # noqa: PLC0415
    from recognition.mixup import IdentityMixup  # noqa: PLC0415
    from torch_utils.checkpoints import state_sha256  # noqa: PLC0415

    if len(given["data"]) > 1:
        raise ValueError(f"--identity-mix mixes the people of one --data, got {len(given['data'])}")
    generator, snapshot = load_generator(given["identity_mix"], device)
    if generator.config.c_dim == 0:
        raise ValueError(
            f"--identity-mix {given['identity_mix']}: is unconditional, it draws no person at will"
        )
    sampler = Sampler(generator, truncation=Truncation(psi=given["truncation"]))
    place = given["conditions"] or given["data"][0]
    directions = read_conditions(place, faces.people, sampler.c_dim, given["parents"])
    options = {
        "scale": given["feature_scale"] or condition_scale(place, snapshot),
        "share": given["identity_share"],
        "images": given["identity_images"],
        "seed": given["seed"],
    }
    mixup = IdentityMixup(
        sampler, directions, modalities=faces.modalities, is_joint=faces.is_joint, **options
    )
    network = state_sha256(generator.state_dict())
    return mixup, {**options, "network_sha256": network, "truncation": given["truncation"]}


if __name__ == "__main__":
    main()
