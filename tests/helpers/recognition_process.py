"""Trains recognisers for some steps in each of several processes, and saves what they agree on."""

import torch
from torch import nn

from dnnlib.runs import OPTIONS_FILE, find_output
from recognition.face_sets import FaceSet
from recognition.face_sources import open_faces
from recognition.mixup import DomainMixup
from recognition.options import HeadConfig, MarginKind, TrainingConfig
from recognition.task import RecognitionTask
from torch_utils.distributed import init_distributed
from torch_utils.trainer import Cadence
from torch_utils.trainer import train as run_training

# sample rate, whether batches are normalised by their own statistics
CASES = ((1.0, False), (0.5, False), (1.0, True))


def train(world, data, folder, sample_rate, *, has_batch_statistics):
    faces = FaceSet([open_faces(data)])
    config = TrainingConfig(
        backbone="r18",
        width=0.0625,
        embedding=8,
        size=16,
        head=HeadConfig(kind=MarginKind.COSFACE, margin=0.1, scale=8.0),
        sample_rate=sample_rate,
        epochs=2,
        batch=4,
        lr=0.05,
    )
    task = RecognitionTask(
        faces,
        config,
        torch.device("cpu"),
        domain=DomainMixup(faces, share=0.5),
        world=world,
    )
    if not has_batch_statistics:
        for module in task.backbone.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.train = lambda _mode=True, module=module: module
                module.training = False
    output = find_output(folder, OPTIONS_FILE, {}, fresh=False)
    record = run_training(task, output, Cadence(row_steps=task.steps_per_epoch))
    flat = torch.cat([p.detach().flatten() for p in task.backbone.parameters()])
    content = {"parameters": flat, "centres": task.head.centres.detach()}
    if record:
        content["loss"] = record["result"]["Loss/total"]
    return content


def train_all(data, folder):
    with init_distributed(torch.device("cpu")) as world:
        for number, (rate, has_batch_statistics) in enumerate(CASES):
            out = folder / str(number)
            found = train(world, data, out, rate, has_batch_statistics=has_batch_statistics)
            torch.save(found, folder / f"{number}-{world.rank}.pt")
