"""Write a data set of new people, whom no training person resembles, in RGB and NIR."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dnnlib import cli
from dnnlib.processes import is_first_process
from identities import command_line

if TYPE_CHECKING:
    from identities.audit import Auditor
    from identities.candidates import CandidateDrawer
    from identities.filter_loading import LoadedFilter
    from identities.identity_sources import IdentitySource
    from identities.recognition_dataset import RecognitionOptions
    from networks.sampling import Sampler
    from networks.snapshot import Snapshot
    from torch_utils.distributed import World

EPILOG = """\b
Examples:
  python generate_recognition_data.py --gen_model=network-snapshot-001000.pkl \\
      --rec_model=recogniser.pth --training_ids=DATASETS/faces/identity_features.json \\
      --outdir=out --ids=100 --samples_per_id=32
  python generate_recognition_data.py --training-ids=DATASETS/faces/identity_features.json \\
      --rec-model=recogniser.pth --calibrate=0.0001
  torchrun --nproc-per-node=8 generate_recognition_data.py --gen-model=net.pkl \\
      --rec-model=r100.pth --training-ids=identity_features.json --outdir=out --ids=10000 \\
      --face-check=mtcnn --audit-model=second.pth --export=recordio

\b
Repeating a command continues it. The same options give the same bytes on the same kind of device,
whatever the number of processes and interruptions."""

PATH = command_line.PATH
COUNT = click.IntRange(min=1)
ATTEMPTS_A_SAMPLE = 20


@click.command(cls=cli.GroupedCommand, epilog=EPILOG, context_settings=cli.CONTEXT)
@cli.option_group(
    "Networks and training people",
    click.option(
        "--gen-model", "--gen_model", type=PATH, metavar="PKL", help="Conditional snapshot."
    ),
    *command_line.WHO,
)
@cli.option_group(
    "What to write",
    click.option("--outdir", type=PATH, metavar="DIR", help="Folder of the data set."),
    click.option("--ids", type=COUNT, default=100, metavar="N", help="New people."),
    click.option(
        "--samples-per-id", "--samples_per_id", type=COUNT, default=32, metavar="N", help="Each."
    ),
    click.option("--seed", type=int, default=0),
    click.option(
        "--export",
        type=click.Choice(["none", "imagefolder", "recordio", "webdataset"]),
        default="none",
        help="Also in a format of recognition training, a folder a modality.",
    ),
    click.option("--fresh", is_flag=True, help="Start another folder beside one that is there."),
    click.option("--strict", is_flag=True, help="Fail where a person lacks samples in the end."),
    click.option("-n", "--dry-run", is_flag=True, help="Check everything, write nothing."),
    cli.config_option(),
)
@cli.option_group(
    "New people",
    click.option(
        "--identity-source",
        default="random",
        metavar="random|interpolate|FILE",
        help="Random directions, mixtures of two training people, or vectors of a .npy or .json.",
    ),
    click.option(
        "--feature-scale",
        type=click.FloatRange(min=0, min_open=True),
        help="Length of the vectors; by default what the network was trained with, else 4.",
    ),
    click.option("--truncation", type=float, default=0.7, metavar="PSI", help="1 is none."),
    click.option(
        "--shared-variation",
        is_flag=True,
        help="Attempt j of all people has one latent: pose and light run down a column.",
    ),
    click.option(
        "--mix-layers", metavar="LIST", help="Share only the latent of these layers, such as 0-3."
    ),
)
@cli.option_group(
    "Filter",
    *command_line.RULES,
    click.option("--same-identity", type=command_line.COSINE, help="Instead of the rules'."),
    click.option("--too-similar", type=command_line.COSINE, help="Instead of the rules'."),
    click.option(
        "--max-attempts",
        type=COUNT,
        metavar="N",
        help="For a person.  [default: 20 a wanted sample; published rules 2500]",
    ),
    click.option("--max-candidates", type=COUNT, metavar="N", help="In all."),
    *command_line.AUDIT,
)
@cli.option_group(
    "Performance",
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto"),
    click.option(
        "--gpu-device-number", "--gpu_device_number", type=int, help="Which GPU; published."
    ),
    click.option("--batch", type=COUNT, default=64, hidden=True, help="Ignored; accepted before."),
    click.option(
        "--micro-batch",
        type=COUNT,
        help="Images computed together; decides the last bits.  [default: by device and size]",
    ),
)
def main(**given: Any) -> None:
    """Draw new people, and keep those samples that pass for one person and for no other.

    Writes id_N/VIS and id_N/NIR, manifest.jsonl, rejected.jsonl, summary.json and grids.
    """
    if is_first_process():
        cli.start_logging()
    with cli.friendly_errors():
        device = _device(given)
        if given["gen_model"] is None and given["calibrate"] is not None:
            _calibrate(given, device)
        else:
            _generate(given, device)


def _device(given: dict[str, Any]) -> str:
    from torch_utils.devices import (  # noqa: PLC0415  # torch is slow
        resolve_device,
        use_repeatable_arithmetic,
    )
    from torch_utils.distributed import is_launched, local_rank  # noqa: PLC0415

    number = local_rank() if is_launched() else given["gpu_device_number"]
    device = resolve_device(given["device"], number)
    if device != "cpu":
        use_repeatable_arithmetic()
    return device


def _calibrate(given: dict[str, Any], device: str) -> None:
    from biometrics.thresholds import calibrate  # noqa: PLC0415
    from identities import filter_loading as setup  # noqa: PLC0415  # torch is slow

    options = command_line.read_filter_options(given, device)
    features, embedder = setup.load_people(options.training_ids, options.rec_model, device)
    if given["dry_run"]:
        result = calibrate(
            features, fmr=given["calibrate"], recogniser=embedder.hash, device=device
        )
    else:
        result = setup.calibrate_and_write(options, features, embedder)
    click.echo(setup.describe_thresholds(result))


def _generate(given: dict[str, Any], device: str) -> None:
    import torch  # noqa: PLC0415  # slow

    from dnnlib import files  # noqa: PLC0415
    from dnnlib.runs import find_output  # noqa: PLC0415
    from identities import filter_loading as setup  # noqa: PLC0415
    from identities import recognition_dataset  # noqa: PLC0415
    from torch_utils.distributed import join_world  # noqa: PLC0415

    for name, option in (("gen_model", "--gen_model"), ("outdir", "--outdir")):
        if given[name] is None:
            raise ValueError(f"{option} is missing; only --calibrate alone goes without")
    for name in ("truncation", "feature_scale"):
        if not math.isfinite(given[name] or 0):
            option = name.replace("_", "-")
            raise ValueError(f"--{option} must be a finite number, got {given[name]}")
    if given["dry_run"] and given["calibrate"] is not None:
        raise ValueError("--calibrate writes thresholds: leave out --dry-run or --gen_model")
    if given["max_attempts"] is None and given["rules"] == "strict":
        given["max_attempts"] = ATTEMPTS_A_SAMPLE * given["samples_per_id"]
    pairs, snapshot, network = _load_generator(given, device)
    loaded = setup.load_filter(command_line.read_filter_options(given, device))
    drawer, people = _make_drawer(given, pairs, snapshot, loaded)
    options = recognition_dataset.RecognitionOptions(
        identities=given["ids"], samples=given["samples_per_id"], most=given["max_candidates"]
    )
    auditor = command_line.load_auditor(given, loaded, device)
    identity = {
        **_describe(given, pairs, options),
        "network_sha256": network,
        "people": people,
        "filter": loaded.describe(),
        "audit": None if auditor is None else auditor.embedder.hash,
    }
    output = find_output(
        given["outdir"], recognition_dataset.RECORD, identity, fresh=given["fresh"]
    )
    if given["dry_run"]:
        click.echo(json.dumps({"outdir": str(output.path), **output.identity}, indent=2))
        return
    if output.is_finished:
        summary = files.read_json(output.path / output.record)
        _report(output.path, summary, options, is_strict=given["strict"])
        return
    writer = recognition_dataset.RecognitionWriter(drawer, loaded.scorer, options)
    with join_world(torch.device(device)) as world:
        bar = _progress(options.identities * options.samples, world)
        summary = writer.write(output, world, bar, _finisher(given, loaded, auditor))
    if summary is not None:
        _report(output.path, summary, options, is_strict=given["strict"])


def _load_generator(given: dict[str, Any], device: str) -> tuple["Sampler", "Snapshot", str]:
    """Return the generator with its settings, its snapshot, and the hash of its weights."""
    from networks.sampling import Sampler, Truncation  # noqa: PLC0415
    from networks.snapshot import load_generator  # noqa: PLC0415
    from torch_utils.checkpoints import state_sha256  # noqa: PLC0415  # torch is slow

    path = given["gen_model"]
    generator, snapshot = load_generator(path, device)
    if generator.config.c_dim == 0:
        raise ValueError(
            f"--gen_model {path}: is unconditional, it draws no person at will; train with --cond=1"
        )
    sampler = Sampler(
        generator,
        truncation=Truncation(psi=given["truncation"]),
        micro_batch=given["micro_batch"],
    )
    return sampler, snapshot, state_sha256(generator.state_dict())


def _make_drawer(
    given: dict[str, Any], pairs: "Sampler", snapshot: "Snapshot", loaded: "LoadedFilter"
) -> tuple["CandidateDrawer", dict[str, Any]]:
    """Return what draws candidates, and what decides them as plain JSON values."""
    from dnnlib.text import parse_numbers  # noqa: PLC0415
    from identities.candidates import CandidateDrawer, Variation  # noqa: PLC0415  # torch is slow

    width = loaded.scorer.embedder.width
    if pairs.c_dim != width:
        raise ValueError(
            f"--gen_model {given['gen_model']}: takes conditions of {pairs.c_dim} numbers, but "
            f"--rec_model gives {width}"
        )
    source, name = _identity_source(given, loaded)
    scale = given["feature_scale"] or snapshot.new_feature_scale(loaded.features.vectors)
    variation = Variation.SHARED if given["shared_variation"] else Variation.OWN
    layers: tuple[int, ...] = ()
    if given["mix_layers"] is not None:
        variation = Variation.MIXED
        try:
            layers = parse_numbers(given["mix_layers"])
        except ValueError as error:
            raise ValueError(f"--mix-layers: {error}") from error
    drawer = CandidateDrawer(
        pairs,
        source,
        seed=given["seed"],
        scale=scale,
        variation=variation,
        shared_layers=layers,
    )
    about = {"source": name, "seed": given["seed"], "scale": scale, "variation": variation.value}
    return drawer, {**about, "mix_layers": given["mix_layers"]}


def _identity_source(given: dict[str, Any], loaded: "LoadedFilter") -> tuple["IdentitySource", str]:
    """Return the source, and its name or its file's hash."""
    from dnnlib.files import sha256_file  # noqa: PLC0415  # torch is slow
    from identities import identity_sources  # noqa: PLC0415

    name, width = given["identity_source"], loaded.scorer.embedder.width
    if name == "random":
        return identity_sources.RandomSource(width), name
    if name == "interpolate":
        return identity_sources.MixupSource(loaded.features), name
    source = identity_sources.FileSource(Path(name), width)
    if given["ids"] > len(source):
        raise ValueError(f"--ids must be at most {len(source)}, the vectors in {name}")
    return source, sha256_file(name)


def _describe(
    given: dict[str, Any], pairs: "Sampler", options: "RecognitionOptions"
) -> dict[str, Any]:
    from dnnlib.config import to_dict  # noqa: PLC0415

    return {
        **to_dict(options),
        "truncation": given["truncation"],
        "micro_batch": pairs.micro_batch,
        "modalities": list(pairs.modalities),
        "export": given["export"],
    }


def _finisher(
    given: dict[str, Any], loaded: "LoadedFilter", auditor: "Auditor | None"
) -> Callable[[Path, list[dict[str, Any]]], dict[str, Any]]:
    """Return what is done when all samples are there."""
    from identities import reports  # noqa: PLC0415  # torch is slow
    from identities.export import ExportKind, export_manifest  # noqa: PLC0415

    def finish(folder: Path, entries: list[dict[str, Any]]) -> dict[str, Any]:
        export_manifest(folder, entries, ExportKind(given["export"]))
        return reports.write_reports(folder, entries, loaded, auditor)

    return finish


def _progress(total: int, world: "World") -> Callable[[int], None]:
    return cli.progress_bar(0, total) if world.is_first else lambda _: None


def _report(
    folder: Path, summary: dict[str, Any], options: "RecognitionOptions", *, is_strict: bool
) -> None:
    people = summary["identities"]
    lacking = people["requested"] - people["complete"]
    text = (
        f"{folder}: {summary['accepted']} samples of {people['complete']} whole people; "
        f"{len(people['incomplete'])} people have fewer than {options.samples}, "
        f"{len(people['failed_to_enrol'])} none; {summary['rejected']['total']} candidates rejected"
    )
    if lacking and is_strict:
        raise click.ClickException(f"--strict: {text}")
    click.echo(text)


if __name__ == "__main__":
    main()
