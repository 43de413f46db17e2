"""Says how good, aligned, separable and private generated images and data sets are.

The commands are in evaluation/commands/, one module each; here they meet the networks of the other
packages, which reach them as arguments.
"""

from pathlib import Path
from typing import Any

import click

from dnnlib.cli import CONTEXT
from evaluation.commands.dataset import dataset
from evaluation.commands.images import images
from evaluation.commands.masks import masks
from evaluation.commands.privacy import privacy
from evaluation.commands.report import report
from evaluation.commands.tools import Tools
from evaluation.commands.training import training
from evaluation.commands.verification import verification

EPILOG = """\b
Examples:
  python evaluate.py images --network=network-snapshot-000060.pkl --data=DATASETS/example_dataset \\
      --metrics=fid2k_full,pr2k3_full --extractor=standin --outdir=EXPERIMENTS/quality
  python evaluate.py training EXPERIMENTS/runs/00000-example --outdir=EXPERIMENTS/curves

\b
Each command has its own --help."""


@click.group(context_settings=CONTEXT, epilog=EPILOG)
@click.pass_context
def main(context: click.Context) -> None:
    """Evaluate generators and data sets of paired RGB and NIR images."""
    context.obj = Tools(load_embedder=_load_embedder)


def _load_embedder(path: Path, device: str = "cpu", *, flip: bool = False) -> Any:
    from biometrics.embedding import load_embedder  # noqa: PLC0415  # torch is slow

    return load_embedder(path, device=device, flip=flip)


for command in (images, masks, verification, dataset, privacy, report, training):
    main.add_command(command)


if __name__ == "__main__":
    main()
