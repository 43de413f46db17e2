"""From options to a training or a refined data set, every file looked at before."""

from dataclasses import dataclass

import torch

from data.dataset import PairDataset
from data.info import read_classes
from dnnlib.config import to_dict
from dnnlib.files import sha256_file
from dnnlib.options import Progress
from dnnlib.runs import FolderJob, find_output
from refinement.dataset_writer import RECORD, RefinedDataset
from refinement.images import JointImages, Masks, weight_table
from refinement.model_files import load_refiner
from refinement.options import RefinementOptions
from refinement.task import RefinementTask
from torch_utils.devices import resolve_device
from torch_utils.torchscript import load_feature_network
from torch_utils.trainer import TrainingJob


@dataclass(frozen=True, kw_only=True, eq=False)
class RefiningJob(FolderJob):
    """A data set to be refined."""

    dataset: RefinedDataset  # what is read and what becomes of it

    def work(self, progress: Progress) -> str:
        """Write the refined data set."""
        self.dataset.write(self.output, progress(0, len(self.dataset), "pair"))
        return f"{self.output.path}: {len(self.dataset)} pairs refined"


def prepare(options: RefinementOptions) -> TrainingJob | RefiningJob:
    """Check that a refiner can be trained, or a data set refined with --refine.

    Raises: ValueError, FileNotFoundError.
    """
    return _prepare_training(options) if options.refine is None else _prepare_refining(options)


def _prepare_refining(options: RefinementOptions) -> RefiningJob:
    if options.refiner is None or options.refine is None:
        raise ValueError("--refiner: needed with --refine")
    if options.data is not None or options.real is not None:
        raise ValueError("--refine writes a data set; --data and --real are for training")
    trainer = options.trainer
    refiner = load_refiner(options.refiner, torch.device(resolve_device(trainer.device)))
    dataset = RefinedDataset(options.refine, refiner, options.keep)
    dataset.verify()
    output = find_output(trainer.outdir, RECORD, dataset.identity(), fresh=trainer.fresh)
    return RefiningJob(dataset=dataset, output=output, facts={"pairs": len(dataset)})


def _prepare_training(options: RefinementOptions) -> TrainingJob:
    if options.data is None or options.real is None:
        names = ("data", "real")
        missing = " and ".join(f"--{name}" for name in names if getattr(options, name) is None)
        raise ValueError(f"{missing}: needed to train (or --refine, to refine a data set)")
    if options.refiner is not None:
        raise ValueError(f"--refiner {options.refiner}: is for --refine; training starts anew")
    if options.keep:
        raise ValueError("--keep: is for --refine; --region-weight is for training")
    config, device = options.training, torch.device(resolve_device(options.trainer.device))
    pairs = [PairDataset.open(path) for path in (options.data, options.real)]
    for side in pairs:
        side.verify()
    rendered, real = (JointImages(side, options.modalities) for side in pairs)
    masks, table, network = None, None, None
    if config.region_weights:
        names = read_classes(rendered.pairs.samples.base).names
        table = weight_table(dict(config.region_weights), names)
        masks = Masks(rendered.pairs)
        masks.verify()
    if options.features is not None:
        side = rendered.pairs.resolution
        network = load_feature_network(options.features, sum(rendered.channels), side, device)
    task = RefinementTask(
        rendered, real, config, device, masks=masks, class_weights=table, feature_network=network
    )
    identity = {
        "data": rendered.pairs.fingerprint(),
        "real": real.pairs.fingerprint(),
        "masks": None if masks is None else masks.fingerprint(),
        "features": None if options.features is None else sha256_file(options.features),
        "modalities": [modality.name for modality in rendered.modalities],
        "training": to_dict(config),
    }
    facts = {"rendered": len(rendered), "real": len(real), "steps": task.steps}
    return TrainingJob.prepare(task, options.trainer, identity, row_steps=options.snap, facts=facts)
