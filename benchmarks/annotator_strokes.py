"""Strokes of a scripted annotator until the interpreter is good, with and without its help.

The truth is the automatic annotator's mask of each generated image: it stands in for a person, so
this measures how much painting is saved, not how well people paint. Strokes follow the longest path
inside the largest wrong region, as wide as that allows, with a hand that trembles.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from scipy import ndimage

if not __package__:  # started as a file: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import class_ious, describe_machine, report
from data.mask_files import IMAGE_FOLDER, SELECTION_FILE, find_images, read_selection
from data.modalities import MODALITIES
from data.pixels import decode_image
from dnnlib import cli
from interpreter.assistant import InterpreterAssistant
from metrics.segmentation import confusion_matrix
from renderer.auto_annotate import AnnotatorOptions, build_annotator

PATH = click.Path(path_type=Path)
GOALS = (0.8, 0.85, 0.9)
TEST_IMAGES = 40
# What a stroke takes: to aim, choose class and size; and to draw, in sides of the image a second.
AIM_SEC, SIDES_PER_SEC = 1.5, 0.5
SIZES = (1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33)  # of the brush, in pixels
TREMBLE = 0.15  # deviation of the hand in brush radii, and at least a quarter of a pixel
SMALLEST = 2  # wrong regions of fewer pixels are left as they are
ARMS = {
    "nothing, spread": (False, False),
    "nothing, uncertain": (False, True),
    "suggestion, spread": (True, False),
    "suggestion, uncertain": (True, True),
}


@dataclass
class Hand:
    """Paints masks and counts.

    Attributes:
        strokes, seconds: so far.
    """

    random: np.random.Generator
    strokes: int = 0
    seconds: float = 0.0
    most: int = field(default=400)  # strokes an image, after which it is given up

    def paint(self, mask: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Return a mask [H, W] uint8 with strokes over it until it is nearly the truth."""
        mask = mask.copy()
        for region, label in self._wrong_regions(mask, truth):
            points, size = _longest_path(region, truth == label)
            self._draw(mask, points, size, label)
        return mask

    def _wrong_regions(
        self, mask: np.ndarray, truth: np.ndarray
    ) -> Iterator[tuple[np.ndarray, int]]:
        """Yield the largest connected region that lacks its class, until none is worth it."""
        for _ in range(self.most):
            found = [
                (int(sizes.max()), (regions == sizes.argmax() + 1), label)
                for label in np.unique(truth[mask != truth]).tolist()
                for regions, sizes in [_connected((truth == label) & (mask != label))]
            ]
            largest = max(found, key=lambda entry: entry[0], default=(0, mask, 0))
            if largest[0] < SMALLEST:
                return
            yield largest[1], largest[2]

    def _draw(self, mask: np.ndarray, points: np.ndarray, size: int, label: int) -> None:
        """Draw along points [n, 2] of rows and columns, with a tremble that is smooth."""
        noise = self.random.standard_normal(points.shape) * max(TREMBLE * size / 2, 0.25)
        if len(points) > 2:
            noise = ndimage.uniform_filter1d(noise, 3, axis=0)
        path = points + noise
        mask[_covered(path, size, mask.shape)] = label
        length = np.linalg.norm(np.diff(path, axis=0), axis=1).sum() / len(mask)
        self.strokes += 1
        self.seconds += AIM_SEC + length / SIDES_PER_SEC


def _connected(is_wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return numbered regions [H, W] and their sizes, the first region's first."""
    regions, count = ndimage.label(is_wrong)
    return regions, np.bincount(regions.ravel(), minlength=count + 1)[1:]


def _longest_path(region: np.ndarray, is_class: np.ndarray) -> tuple[np.ndarray, int]:
    """Return a path [n, 2] through a wrong region, and the size of a brush that fits its class.

    The brush is as wide as the class around the region's innermost pixel; the path goes between
    the two pixels that are farthest from each other by way of pixels where it fits.
    """
    distance = ndimage.distance_transform_edt(np.pad(is_class, 1))[1:-1, 1:-1] - 0.5
    innermost = distance[region].max()
    size = max(size for size in SIZES if size == 1 or size / 2 <= innermost + 0.25)
    fits = region & (distance >= min(size / 2 - 0.25, innermost))
    start = np.argwhere(fits & (distance == distance[fits].max()))[0]
    far, _ = _walk(fits, start)
    _, path = _walk(fits, far)
    return path.astype(np.float64), size


def _walk(is_open: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixel farthest from a start by steps, and the way there from it."""
    first = (int(start[0]), int(start[1]))
    before, queue = {first: first}, [first]
    for row, column in queue:  # the queue grows while it is read
        for step in ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            near = (row + step[0], column + step[1])
            inside = 0 <= near[0] < is_open.shape[0] and 0 <= near[1] < is_open.shape[1]
            if inside and is_open[near] and near not in before:
                before[near] = (row, column)
                queue.append(near)
    path = [queue[-1]]
    while before[path[-1]] != path[-1]:
        path.append(before[path[-1]])
    return np.array(path[0]), np.array(path)


def _covered(path: np.ndarray, size: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return which pixels a brush covers along a path [n, 2]: [H, W] bool, as in paint.js."""
    snapped = np.rint(path) if size % 2 else np.rint(path + 0.5) - 0.5
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    covered = np.zeros(shape, bool)
    for (y0, x0), (y1, x1) in zip(snapped, [*snapped[1:], snapped[-1]], strict=True):
        length2 = (y1 - y0) ** 2 + (x1 - x0) ** 2
        along = (rows - y0) * (y1 - y0) + (columns - x0) * (x1 - x0)
        share = (along / length2).clip(0, 1) if length2 else 0.0
        away2 = (rows - y0 - share * (y1 - y0)) ** 2 + (columns - x0 - share * (x1 - x0)) ** 2
        covered |= away2 <= (size / 2) ** 2 + 1e-9
    return covered


@click.command(context_settings=cli.CONTEXT)
@click.option("--exp", type=PATH, required=True, help="Experiment file.")
@click.option("--network", type=PATH, help="Snapshot, instead of the experiment's.")
@click.option("--drawn", type=PATH, required=True, help="Folder of make_training_data.py.")
@click.option("--annotator", type=PATH, required=True, help="Folder of the automatic annotator.")
@click.option("--images", type=click.IntRange(min=1), default=8, help="Images that are painted.")
@click.option("--members", type=click.IntRange(min=1), default=3)
@click.option("--steps", type=click.IntRange(min=1), default=500)
@click.option("--seeds", type=click.IntRange(min=1), default=1, help="Hands and first images.")
@click.option("--json", "json_path", type=PATH, help="File to write.")
def main(
    exp: Path, network: Path | None, drawn: Path, annotator: Path, json_path: Path, **given: Any
) -> None:
    """Let a scripted annotator paint in four ways, and print strokes against mIoU."""
    cli.start_logging()
    with cli.friendly_errors():
        torch.set_num_threads(1)
        truth, classes = _true_masks(drawn, annotator)
        interpreter = InterpreterAssistant(
            exp=exp,
            network=network,
            drawn=drawn,
            classes=classes,
            members=given["members"],
            steps=given["steps"],
            device="cpu",
        )
        proposals = read_selection(drawn / SELECTION_FILE)
        runs = [
            {"arm": arm, "seed": seed, "curve": curve}
            for seed in range(given["seeds"])
            for arm in ARMS
            for curve in [_annotate(interpreter, truth, proposals, arm, seed, given["images"])]
        ]
    content = {
        "machine": describe_machine(torch.device("cpu")),
        "options": given,
        "rows": [_row(arm, [run["curve"] for run in runs if run["arm"] == arm]) for arm in ARMS],
        "runs": runs,
    }
    report("Strokes of a scripted annotator", content, json_path)


def _true_masks(drawn: Path, folder: Path) -> tuple[dict[int, np.ndarray], Any]:
    """Return the automatic annotator's mask of each image, and its classes."""
    annotator, masks, number = None, {}, 0
    while paths := find_images([drawn / IMAGE_FOLDER], number):
        images = {m.name: decode_image(paths[m.name], m.channels) for m in MODALITIES}
        if annotator is None:
            options = AnnotatorOptions(resolution=images["rgb"].shape[1], classes=4)
            annotator = build_annotator(options, folder)
        masks[number] = annotator.annotate(images)
        number += 1
    if annotator is None:
        raise ValueError(f"--drawn {drawn}: has no image_0.jpg")
    return masks, annotator.classes


def _annotate(
    interpreter: InterpreterAssistant,
    truth: dict[int, np.ndarray],
    proposals: list[int],
    arm: str,
    seed: int,
    count: int,
) -> list[dict[str, float]]:
    """Paint images one after the other; return strokes, seconds and mIoU after each."""
    from_suggestion, by_uncertainty = ARMS[arm]
    order = [*proposals[seed:], *proposals[:seed]]
    others = sorted(truth.keys() - set(proposals))
    tested = np.random.default_rng(0).permutation(others)[:TEST_IMAGES].tolist()
    hand = Hand(np.random.default_rng(seed))
    masks: dict[int, np.ndarray] = {}
    suggestions: dict[int, np.ndarray] = {}
    scores: dict[int, float] = {}
    curve = []
    for turn in range(min(count, len(order))):
        left = truth.keys() - masks.keys() - set(tested)
        is_choosing = by_uncertainty and turn > 0
        number = max(left, key=lambda k: scores[k]) if is_choosing else order[turn]
        nothing = np.zeros_like(truth[number])
        begun = suggestions.get(number, nothing) if from_suggestion else nothing
        masks[number] = hand.paint(begun, truth[number])
        for k, labels, _, score in interpreter.suggest(masks, lambda *_: lambda _: None):
            suggestions[k], scores[k] = labels, score
        found, true = (np.stack([m[k] for k in tested]) for m in (suggestions, truth))
        ious = class_ious(confusion_matrix(true, found, int(true.max()) + 1))
        miou = float(np.mean([iou for iou in ious if iou is not None]))
        wrong = float((masks[number] != truth[number]).mean())
        curve.append(
            {
                "image": number,
                "strokes": hand.strokes,
                "seconds": round(float(hand.seconds), 1),
                "miou": miou,
                "wrong": wrong,
            }
        )
        click.echo(f"{arm}, {seed}: {curve[-1]}", err=True)
    return curve


def _row(arm: str, curves: list[list[dict[str, float]]]) -> dict[str, object]:
    """Return means over seeds; a goal that a seed misses has no mean."""
    row: dict[str, object] = {"annotator": arm}
    for goal in GOALS:
        reached = [[p for p in curve if p["miou"] >= goal][:1] for curve in curves]
        is_reached = all(reached)
        row[f"strokes to {goal}"] = (
            float(np.mean([points[0]["strokes"] for points in reached])) if is_reached else "missed"
        )
    for name in ("strokes", "seconds", "miou"):
        row[f"{name}, all"] = float(np.mean([curve[-1][name] for curve in curves]))
    return row


if __name__ == "__main__":
    main()
