"""Segmentation networks trained on real, generated and self-made labels, tested on real ones.

benchmarks/study.py says what a study is. Where a training set has a "teacher", the name of another
one, its labels are what that one's network finds in the images of "data": self-training, the
baseline of everything that makes many labels out of few.
"""

import os
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

if not __package__:  # started as a file: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import train_segmentation
from benchmarks.study import (
    DRAWS,
    Row,
    Study,
    StudyKind,
    cell,
    format_study,
    read_studies,
    study_command,
    summarise,
    train_cell,
)
from data.class_list import class_list_as_json
from data.info import INFO_FILE
from data.sample_index import identity_of
from dnnlib import files
from metrics.estimates import Floats, group_numbers, multiplicities
from metrics.segmentation import confusion_matrix, intersection_over_union
from segmentation.classes import load_merge
from segmentation.evaluation import predicted_masks, save_masks
from segmentation.labelled_files import open_source
from segmentation.labelled_set import LabelledSet
from segmentation.model_files import Segmenter, load_segmenter
from torch_utils.devices import resolve_device

MODEL = "segmenter.pth"


def _train(study: Study, name: str, outdir: Path, device: str) -> None:
    options = study["train"][name]
    given = {}
    if "teacher" in options:
        teacher = cell(outdir, options["teacher"], study["seed"]) / MODEL
        if not teacher.is_file():
            raise ValueError(f"{name}: its teacher {options['teacher']!r} must stand before it")
        segmenter = load_segmenter(teacher, torch.device(resolve_device(device)))
        folder = cell(outdir, f"labels of {name}", study["seed"])
        label_images(segmenter, Path(options["data"]), folder, study["base"].get("merge"))
        given = {"data": folder, "teacher": None}
    train_cell(study, name, outdir, train_segmentation.main, device, **given)


def label_images(segmenter: Segmenter, data: Path, folder: Path, merge: str | None) -> None:
    """Write a data set of images that are there, with the masks that a network finds in them.

    Args:
        segmenter: the network.
        data: folder with VIS; its own masks are not used.
        folder: of the new data set, whose VIS is a link.
        merge: that the masks of `data` are read with.
    """
    labelled = open_set(segmenter, data, merge)
    save_masks(folder / "masks", segmenter, labelled)
    files.write_json(folder / INFO_FILE, {"classes": class_list_as_json(segmenter.classes)})
    if not (folder / "VIS").is_symlink():
        os.symlink((data / "VIS").resolve(), folder / "VIS")


def open_set(segmenter: Segmenter, data: Path, merge: str | None) -> LabelledSet:
    """Return the samples of a data set, with masks in the network's classes."""
    source = open_source(data, segmenter.modalities)
    classes = None if merge is None else load_merge(merge)
    labelled = LabelledSet([source], segmenter.classes, merge=classes, side=segmenter.side)
    labelled.verify()
    return labelled


def _test(studies: Sequence[Study], outdir: Path, device: str) -> dict[str, Any]:
    numbers: list[Row] = []
    drawn: dict[str, dict[str, list[Floats]]] = defaultdict(lambda: defaultdict(list))
    for study in studies:
        for name in study["train"]:
            model = cell(outdir, name, study["seed"]) / MODEL
            segmenter = load_segmenter(model, torch.device(resolve_device(device)))
            for test, path in study["test"].items():
                labelled = open_set(segmenter, Path(path), study["base"].get("merge"))
                row, values = score(segmenter, labelled)
                numbers.append({"train": name, "seed": study["seed"], "test": test, **row})
                drawn[test][name].append(values)
    return {"numbers": numbers, **summarise(studies, drawn)}


def score(segmenter: Segmenter, labelled: LabelledSet) -> tuple[Row, Floats]:
    """Return mean and per-class IoU, and the mean IoU of each draw of identities, [DRAWS]."""
    names = labelled.classes.names
    groups, count = group_numbers([identity_of(stem) for stem in labelled.stems])
    confusions = np.zeros((count, len(names), len(names)))
    for group, (truth, found) in zip(groups, predicted_masks(segmenter, labelled), strict=True):
        confusions[group] += confusion_matrix(truth, found, len(names))
    ious = intersection_over_union(confusions.sum(axis=0))
    drawn = [
        float(np.nanmean(intersection_over_union(np.tensordot(draw, confusions, 1))))
        for draw in multiplicities(count, 0, DRAWS)
    ]
    row = {"mean_iou": float(np.nanmean(ious)), **dict(zip(names, ious.tolist(), strict=True))}
    return row, np.array(drawn)


def format_results(results: Mapping[str, Any]) -> str:
    """Return Markdown: training sets, then their differences."""
    return "\n\n".join(format_study(results, "mean_iou", "mean IoU")) + "\n"


EXAMPLES = """
  python -m benchmarks.segmentation_study EXPERIMENTS/segmentation_example/study.json \\
      --set real=DATASETS/example_32 --set generated=out/models/samples_3200 --outdir=study
"""
KIND = StudyKind(read=read_studies, train=_train, model=MODEL, measure=_test, show=format_results)
main = study_command(KIND, EXAMPLES)

if __name__ == "__main__":
    main()
