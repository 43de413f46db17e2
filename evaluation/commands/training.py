"""`evaluate.py training`: curves of one or several training runs."""

from pathlib import Path

import click

from dnnlib.cli import CONTEXT, friendly_errors
from evaluation.commands import shared


@click.command(context_settings=CONTEXT)
@click.argument("runs", nargs=-1, required=True, type=shared.PATH, metavar="RUN...")
@shared.outdir
@shared.dry_run
def training(runs: tuple[Path, ...], outdir: Path, dry_run: bool) -> None:
    """Draw the curves of training runs, several in one chart.

    Reads stats.jsonl and metric-*.jsonl of run folders; writes one SVG a chart, training.html with
    all of them and training.json.

    \b
    Examples:
      python evaluate.py training EXPERIMENTS/runs/00000-example --outdir=EXPERIMENTS/curves
      python evaluate.py training EXPERIMENTS/runs/0000* --outdir=EXPERIMENTS/comparison
    """
    with friendly_errors():
        from evaluation.training_curves import describe_runs, write_curves  # noqa: PLC0415

        if dry_run:
            shared.print_plan(describe_runs(runs))
            return
        page = write_curves(runs, outdir)
    click.echo(f"wrote {page}")
