"""From options to a training or a measurement, every file looked at before."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from data.class_list import class_list_as_json, load_class_list
from data.modalities import choose_modalities
from data.sample_index import SampleIndex, check_disjoint
from dnnlib.config import to_dict
from dnnlib.files import sha256_file
from dnnlib.options import Progress
from dnnlib.runs import FolderJob, find_output
from segmentation.classes import choose_classes, load_merge
from segmentation.evaluation import (
    EVALUATION_FILE,
    evaluate_masks,
    report_sentence,
    save_masks,
    save_sheet,
)
from segmentation.labelled_files import drop_most_uncertain, open_source
from segmentation.labelled_set import LabelledSet
from segmentation.model_files import Segmenter, load_segmenter
from segmentation.options import SegmentationOptions
from segmentation.task import SegmentationTask
from torch_utils.devices import resolve_device
from torch_utils.trainer import TrainingJob


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationJob(FolderJob):
    """A trained network to be measured."""

    segmenter: Segmenter
    labelled: LabelledSet

    def work(self, progress: Progress) -> str:
        """Measure the network, and write the report, its masks and a sheet."""
        path = self.output.path
        with self.output.at_work():
            report = evaluate_masks(self.segmenter, self.labelled)
            save_sheet(path, self.segmenter, self.labelled)
            save_masks(path / "masks", self.segmenter, self.labelled)
            self.output.finish(report)
        return f"{path}: {report_sentence(report)}"


def prepare(options: SegmentationOptions) -> TrainingJob | EvaluationJob:
    """Check that a network can be trained, or measured with --evaluate.

    Raises: ValueError, FileNotFoundError.
    """
    return _prepare_training(options) if options.evaluate is None else _prepare_test(options)


def _prepare_test(options: SegmentationOptions) -> EvaluationJob:
    if options.evaluate is None or options.data or options.val or options.test is None:
        raise ValueError("--evaluate needs --test, and neither --data nor --val")
    trainer = options.trainer
    segmenter = load_segmenter(options.evaluate, torch.device(resolve_device(trainer.device)))
    source = open_source(options.test, segmenter.modalities)
    merge = None if options.merge is None else load_merge(options.merge)
    labelled = LabelledSet([source], segmenter.classes, merge=merge, side=segmenter.side)
    labelled.verify()
    identity = {"model": sha256_file(options.evaluate), "test": labelled.fingerprint()}
    output = find_output(trainer.outdir, EVALUATION_FILE, identity, fresh=trainer.fresh)
    facts = {"samples": len(labelled)}
    return EvaluationJob(segmenter=segmenter, labelled=labelled, output=output, facts=facts)


def _prepare_training(options: SegmentationOptions) -> TrainingJob:
    if not options.data:
        raise ValueError("--data: training images are needed (or --evaluate a trained model)")
    labelled, measured = _open_sets(options)
    network = replace(
        options.training.network, channels=labelled.channels, classes=len(labelled.classes)
    )
    config = replace(options.training, network=network)
    device = torch.device(resolve_device(options.trainer.device))
    task = SegmentationTask(labelled, config, device=device, side=options.size, measured=measured)
    sets = {"data": labelled, **measured}
    identity = {
        **{name: one.fingerprint() for name, one in sets.items()},
        "modalities": [modality.name for modality in labelled.modalities],
        "classes": class_list_as_json(labelled.classes),
        "size": options.size,
        "training": to_dict(config),
    }
    facts = {f"{name}_samples": len(one) for name, one in sets.items()}
    return TrainingJob.prepare(task, options.trainer, identity, row_steps=config.every, facts=facts)


def _open_sets(options: SegmentationOptions) -> tuple[LabelledSet, Mapping[str, LabelledSet]]:
    """Return the training samples, and those that are measured on, by "val" and "test".

    Raises: ValueError for a set that is learned from twice, or measured on as well, and for a test
        set by which the best weights are chosen.
    """
    modalities, sources = choose_modalities(options.modalities), []
    known: dict[str, SampleIndex] = {}
    for path in options.data:
        source = open_source(path, modalities)
        check_disjoint(f"--data {path}", source.samples, known)
        known[f"--data {path}"] = source.samples
        sources.append(drop_most_uncertain(source, options.drop_uncertain))
    others = {}
    for name, path in (("val", options.val), ("test", options.test)):
        if path is not None:
            others[name] = open_source(path, modalities)
            check_disjoint(f"--{name} {path}", others[name].samples, known)
            known[f"--{name} {path}"] = others[name].samples
    merge = None if options.merge is None else load_merge(options.merge)
    given = None if options.classes is None else load_class_list(options.classes)
    classes = choose_classes(given, merge, [source.stated for source in sources])
    labelled = LabelledSet(
        sources,
        classes,
        merge=merge,
        side=options.size,
        uncertainty=options.training.loss.uncertainty,
        subset=options.subset,
        seed=options.training.seed,
    )
    measured = {
        name: LabelledSet([source], classes, merge=merge, side=options.size)
        for name, source in others.items()
    }
    for samples in (labelled, *measured.values()):
        samples.verify()
    return labelled, measured
