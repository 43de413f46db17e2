"""Face detection and alignment: milliseconds an image, and how well aligned images agree."""

import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image

if not __package__:  # started as a file: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import common
from biometrics.alignment import Similarity, fit_similarity, template_points, warp
from biometrics.detection import MtcnnDetector
from data import pixels
from dnnlib import cli
from torch_utils.devices import resolve_device

EPILOG = """\b
Examples:
  python benchmarks/faces.py
  python benchmarks/faces.py --image=portrait.jpg --sides=128,256,512 --device=cuda

\b
Without --image, the photograph of a face that scikit-image brings along is used. `moved_px` says
how far the points of the template move, as root mean square in pixels of a 112 pixel crop, when the
photograph is turned by up to 20 degrees, scaled by 0.4 to 1.6 and shifted before it is aligned."""

TEMPLATE_PX = 112
CANVAS_PX = 400
MARGIN = 0.3


def load_photograph(path: Path | None) -> np.ndarray:
    """Return [H, W, 3] uint8."""
    if path is not None:
        return np.ascontiguousarray(pixels.decode_image(path, 3).transpose(1, 2, 0))
    try:
        from skimage import data  # noqa: PLC0415
    except ImportError as error:
        raise ValueError("--image, or scikit-image for its photograph, is needed") from error
    return np.asarray(data.astronaut())


def measure_moves(photograph: np.ndarray, detector: MtcnnDetector, count: int) -> list[float]:
    """Return how far alignment moves with the pose of the photograph, in pixels of the template."""
    target = template_points(TEMPLATE_PX)
    straight = detector.detect([photograph])[0][0].landmarks
    places = fit_similarity(straight, target).inverse().apply(target)
    rng = np.random.default_rng(0)
    moves = []
    for _ in range(count):
        angle, scale = np.radians(rng.uniform(-20, 20)), rng.uniform(0.4, 1.6)
        turn = Similarity(scale * np.cos(angle), scale * np.sin(angle), 0.0, 0.0)
        shift = rng.uniform(-20, 20, 2) + CANVAS_PX / 2 - turn.apply(straight.mean(axis=0))
        move = Similarity(turn.a, turn.b, *shift)
        faces = detector.detect([warp(photograph, move, CANVAS_PX)])[0]
        if faces:
            again = fit_similarity(faces[0].landmarks, target).apply(move.apply(places))
            moves.append(float(np.sqrt(((again - target) ** 2).sum(axis=1).mean())))
    return moves


def time_side(photograph: np.ndarray, side: int, repeats: int, device: str) -> Any:
    """Return one row: milliseconds to search an image, and to align a pair."""
    image = np.asarray(Image.fromarray(photograph).resize((side, side), Image.Resampling.LANCZOS))
    detector = MtcnnDetector(device=device)
    faces = detector.detect([image])[0]
    landmarks = detector.detect([photograph])[0][0].landmarks
    move = fit_similarity(landmarks, template_points(side, MARGIN))
    work = {
        "detect": lambda: detector.detect([image]),
        "align": lambda: [warp(part, move, side) for part in (photograph, photograph[..., 1])],
    }
    for function in work.values():
        function()
    seconds = common.interleaved_medians(work, repeats, torch.device(device))
    return {
        "side": side,
        "faces": len(faces),
        "detect_ms": 1e3 * seconds["detect"],
        "align_pair_ms": 1e3 * seconds["align"],
    }


@click.command(context_settings=cli.CONTEXT, epilog=EPILOG)
@click.option("--image", type=click.Path(path_type=Path), metavar="FILE", help="A photograph.")
@click.option("--sides", default="64,128,256,512", help="Sizes of images in pixels.")
@click.option("--moves", default=40, help="Poses that alignment is tried on.")
@click.option("--repeats", default=5, help="Rounds; the median counts.")
@click.option("--device", default="cpu", type=click.Choice(["auto", "cpu", "cuda"]))
@click.option("--threads", default=1, help="CPU threads.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write this file.")
def main(
    image: Path | None,
    sides: str,
    moves: int,
    repeats: int,
    device: str,
    threads: int,
    json_path: Path | None,
) -> None:
    """Time MTCNN and alignment, and measure how repeatable alignment is."""
    torch.set_num_threads(threads)
    with cli.friendly_errors():
        where = resolve_device(device)
        photograph = load_photograph(image)
        detector = MtcnnDetector(device=where)
        if not detector.detect([photograph])[0]:
            raise ValueError("--image: no face is found in it")
        moved = measure_moves(photograph, detector, moves)
        rows = [time_side(photograph, int(s), repeats, where) for s in sides.split(",")]
        content = {
            "machine": common.describe_machine(torch.device(where)),
            "rows": rows,
            "moved_px": {"mean": sum(moved) / max(1, len(moved)), "max": max(moved, default=0.0)},
            "found": [len(moved), moves],
        }
        common.report("Faces", content, json_path)
    click.echo(
        f"\nmoved_px: mean {content['moved_px']['mean']:.2f}, max {content['moved_px']['max']:.2f};"
        f" face found in {len(moved)} of {moves} poses"
    )


if __name__ == "__main__":
    main()
