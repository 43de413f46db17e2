"""Make a view of a folder of images without those that show a training person."""

import json
from pathlib import Path
from typing import Any

import click

from dnnlib import cli
from identities import command_line

EPILOG = """\b
Examples:
  python filter_dataset.py --data=out/models/samples_1000 --outdir=out/models/private \\
      --rec-model=recogniser.pth --training-ids=DATASETS/faces/identity_features.json
  python filter_dataset.py --data=DATASETS/synthetic --outdir=lists --list-only \\
      --rec-model=r100.pth --training-ids=identity_features.json --face-check=mtcnn \\
      --audit-model=second.pth --audit-features=identity_features_second.json

\b
Nothing in --data is deleted or changed: the view holds hard links, or copies where links are
impossible. Files of one sample (RGB, NIR, mask) stay or go together."""


@click.command(cls=cli.GroupedCommand, epilog=EPILOG, context_settings=cli.CONTEXT)
@cli.option_group(
    "Images",
    click.option(
        "--data", type=command_line.PATH, metavar="DIR", required=True, help="Any folder of images."
    ),
    click.option(
        "--outdir", type=command_line.PATH, metavar="DIR", required=True, help="Folder of the view."
    ),
    click.option("--list-only", is_flag=True, help="Write lists and scores, no links."),
    click.option("--strict", is_flag=True, help="One unreadable image ends it."),
    click.option("--fresh", is_flag=True, help="Start another folder beside one that is there."),
    click.option("-n", "--dry-run", is_flag=True, help="Check everything, write nothing."),
    cli.config_option(),
)
@cli.option_group("Filter", *command_line.WHO, *command_line.RULES, *command_line.AUDIT)
@cli.option_group(
    "Performance",
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto"),
    click.option(
        "--gpu-device-number", "--gpu_device_number", type=int, help="Which GPU; published."
    ),
)
def main(**given: Any) -> None:
    """Compare images with all training people, and keep those that show none of them.

    Also writes filter_scores.jsonl, rejected.jsonl, kept.txt and filter_summary.json.
    """
    cli.start_logging()
    with cli.friendly_errors():
        _run(given)


def _run(given: dict[str, Any]) -> None:
    from data.samples import open_samples  # noqa: PLC0415
    from dnnlib.runs import find_output  # noqa: PLC0415
    from identities import filter_loading as setup  # noqa: PLC0415  # torch is slow
    from identities import folder_filter  # noqa: PLC0415
    from torch_utils.devices import (  # noqa: PLC0415
        resolve_device,
        use_repeatable_arithmetic,
    )

    device = resolve_device(given["device"], given["gpu_device_number"])
    if device != "cpu":
        use_repeatable_arithmetic()
    if given["dry_run"] and given["calibrate"] is not None:
        raise ValueError("--calibrate writes thresholds: leave out --dry-run")
    folder_filter.check_apart(given["data"], given["outdir"])
    if not given["data"].is_dir():
        raise FileNotFoundError(f"--data {given['data']}: no such folder")
    samples = open_samples(given["data"], is_complete=False)
    loaded = setup.load_filter(command_line.read_filter_options(given, device))
    auditor = command_line.load_auditor(given, loaded, device)
    identity = {
        "files_sha256": folder_filter.fingerprint(samples),
        "list_only": given["list_only"],
        "filter": loaded.describe(),
        "audit": None if auditor is None else auditor.embedder.hash,
    }
    output = find_output(given["outdir"], folder_filter.RECORD, identity, fresh=given["fresh"])
    if given["dry_run"]:
        content = {"outdir": str(output.path), "samples": len(samples), **output.identity}
        click.echo(json.dumps(content, indent=2))
        return
    if output.is_finished:
        click.echo(f"{output.path}: is finished")
        return
    work = folder_filter.FolderFilter(
        given["data"], samples, loaded.scorer, is_strict=given["strict"]
    )

    def audit(folder: Path, names: list[str]) -> dict[str, Any]:
        return {"audit": None if auditor is None else auditor.report(folder, names)}

    summary = work.write(
        output,
        cli.progress_bar(0, len(samples)),
        is_list_only=given["list_only"],
        finish=audit,
    )
    reasons = summary["rejected"]["by_first_reason"]
    why = ", ".join(f"{reason} {count}" for reason, count in reasons.items()) or "none"
    click.echo(
        f"{output.path}: {summary['kept']} of {summary['samples']} samples kept; rejected: {why}"
    )


if __name__ == "__main__":
    main()
