"""From options to the training of a recogniser, every file looked at before."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from data.sample_index import SampleIndex, check_disjoint
from dnnlib.config import to_dict
from networks.sampling import Sampler, Truncation
from networks.snapshot import load_generator
from recognition.conditions import condition_scale, read_conditions
from recognition.face_sets import FaceSet
from recognition.face_sources import open_faces, take_part
from recognition.mixup import DomainMixup, IdentityMixup
from recognition.options import LabelKind, RecognitionOptions
from recognition.task import RecognitionTask
from recognition.verification import Verifier
from torch_utils.checkpoints import state_sha256
from torch_utils.devices import resolve_device
from torch_utils.distributed import launched_world, local_rank
from torch_utils.trainer import TrainingJob


def prepare(options: RecognitionOptions) -> TrainingJob:
    """Check that a recogniser can be trained, in this process and those beside it.

    Raises: ValueError, FileNotFoundError.
    """
    device = torch.device(resolve_device(options.trainer.device, local_rank()))
    sets = _TrainingSets(options)
    part = (options.identities, options.samples)
    faces = sets.open("--data", options.data, options.labels, part)
    identity: dict[str, Any] = {"data": faces.fingerprints, "heldout": None}
    given = options.mixups
    domain, identity_mixup, verify = None, None, None
    if given.mix_data is not None:
        part = (given.mix_identities, given.mix_samples)
        real = sets.open("--mix-data", [given.mix_data], part=part)
        domain = DomainMixup(real, given.mix_share)
        identity["domain_mixup"] = {"data": real.fingerprints, "share": given.mix_share}
    if given.identity_mix is not None:
        identity_mixup, identity["identity_mixup"] = _identity_mixup(options, faces, device)
    if options.heldout is not None:
        verify = Verifier(sets.open("--heldout", [options.heldout]), options.heldout)
        identity["heldout"] = verify.faces.fingerprints
    config = options.training
    task = RecognitionTask(
        faces,
        config,
        device,
        verify,
        domain=domain,
        identity_mixup=identity_mixup,
        world=launched_world(),
        workers=options.workers,
    )
    identity |= {
        "modalities": list(options.modalities),
        "joint": options.joint,
        "labels": options.labels.value,
        "training": to_dict(config),
    }
    facts = {"people": len(task.identities), "images": len(faces), "steps": task.steps}
    row_steps = task.steps_per_epoch
    return TrainingJob.prepare(task, options.trainer, identity, row_steps=row_steps, facts=facts)


class _TrainingSets:
    """Opens sets of faces, none of them twice.

    Identities of different sets count as different ones: in a set that came twice, each would be
    two classes, and a set that is learned from measures nothing as the held-out one.
    """

    def __init__(self, options: RecognitionOptions) -> None:
        self._modalities = ("rgb", "nir") if options.joint else options.modalities
        self._is_joint, self._memory_gib = options.joint, options.memory_gib
        self._known: dict[str, SampleIndex] = {}

    def open(
        self,
        option: str,
        paths: Sequence[Path],
        labels: LabelKind = LabelKind.PEOPLE,
        part: tuple[int | None, int | None] = (None, None),
    ) -> FaceSet:
        """Return the images of an option.

        Args:
            option: named in messages.
            paths: of its sets.
            labels: whom mixed identities count as.
            part: how many identities of each set, and how many samples of each; None for all.
        Raises: FileNotFoundError; ValueError for a set that was read before (other labels or
            another part of it make no difference), or one that cannot be read.
        """
        sources = []
        for path in paths:
            source = open_faces(path, labels)
            check_disjoint(f"{option} {path}", source.samples, self._known)
            self._known[f"{option} {path}"] = source.samples
            sources.append(take_part(source, *part))
        faces = FaceSet(
            sources, self._modalities, joint=self._is_joint, memory_gib=self._memory_gib
        )
        if self._is_joint:
            faces.verify()
        return faces


def _identity_mixup(
    options: RecognitionOptions, faces: FaceSet, device: torch.device
) -> tuple[IdentityMixup, dict[str, Any]]:
    """Return what generates images of mixed identities, and what decides them."""
    given = options.mixups
    assert given.identity_mix is not None, "asked by the caller"
    if len(options.data) > 1:
        raise ValueError(
            f"--identity-mix mixes the identities of one --data, got {len(options.data)}"
        )
    generator, snapshot = load_generator(given.identity_mix, str(device))
    if generator.config.c_dim == 0:
        raise ValueError(
            f"--identity-mix {given.identity_mix}: is unconditional, it generates no identity at"
            " will"
        )
    sampler = Sampler(generator, truncation=Truncation(psi=given.truncation))
    origin = given.conditions or options.data[0]
    directions = read_conditions(origin, faces.identities, sampler.c_dim, given.parents)
    values = {
        "scale": given.feature_scale or condition_scale(origin, snapshot),
        "share": given.identity_share,
        "images": given.identity_images,
        "seed": options.training.seed,
    }
    mixup = IdentityMixup(
        sampler, directions, modalities=faces.modalities, is_joint=faces.is_joint, **values
    )
    network = state_sha256(generator.state_dict())
    return mixup, {**values, "network_sha256": network, "truncation": given.truncation}
