"""An ensemble of per-pixel classifiers whose members are computed together, and its files.

On disk it is one published model_k.pth a member, and interpreter.json beside them.

Source: Zhang et al. 2021, DatasetGAN (arXiv:2104.06490), section 3.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.class_list import MAX_CLASSES
from dnnlib import files
from torch_utils.checkpoints import load_checkpoint

RECORD = "interpreter.json"
_STATE_KEY = "model_state_dict"
_INIT_STD = 0.02
_BN_EPS = 1e-5
_BN_MOMENTUM = 0.1
_MANY_CLASSES = 32
# Indices in the published sequence: linear, ReLU, norm, linear, ReLU, norm, linear.
_LINEAR_LAYERS, _NORM_LAYERS = (0, 3, 6), (2, 5)
_PREFIX = "module.layers."


def hidden_widths(classes: int) -> tuple[int, int]:
    """Return the widths of the two hidden layers of the published classifier.

    >>> hidden_widths(4), hidden_widths(34)
    ((128, 32), (256, 128))
    """
    return (128, 32) if classes < _MANY_CLASSES else (256, 128)


class PixelEnsemble(nn.Module):
    """M classifiers linear-ReLU-norm-linear-ReLU-norm-linear, as stacked parameters.

    Attributes:
        widths: features, two hidden widths, classes.
        members: M.
    """

    def __init__(
        self, features: int, hidden: tuple[int, int], classes: int, members: int, seed: int = 0
    ) -> None:
        """Initialise members independently: normal with deviation 0.02, biases 0.

        Args:
            features: length of a pixel's feature vector.
            hidden: widths of the hidden layers, see `hidden_widths`.
            classes: K.
            members: M.
            seed: of the weights.
        """
        super().__init__()
        self.widths = (features, *hidden, classes)
        self.members = members
        random = torch.Generator().manual_seed(seed)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        self.norm_weights, self.norm_biases = nn.ParameterList(), nn.ParameterList()
        for index, (into, out) in enumerate(zip(self.widths, self.widths[1:], strict=False)):
            weight = torch.randn([members, out, into], generator=random) * _INIT_STD
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(torch.zeros(members, out)))
            if index < len(_NORM_LAYERS):
                self.norm_weights.append(nn.Parameter(torch.ones(members, out)))
                self.norm_biases.append(nn.Parameter(torch.zeros(members, out)))
                self.register_buffer(f"mean{index}", torch.zeros(members, out))
                self.register_buffer(f"var{index}", torch.ones(members, out))

    def forward(self, x: Tensor) -> Tensor:
        """Classify pixels; in training mode each member normalises by its own batch.

        Args:
            x: [M, B, features], or [B, features] for all members alike.
        Returns: [M, B, K] logits.
        """
        if x.ndim == 2:
            x = x.expand(self.members, -1, -1)
        for index in range(len(self.weights)):
            weight, bias = self.weights[index], self.biases[index]
            x = torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))
            if index < len(_NORM_LAYERS):
                x = self._normalise(F.relu(x), index)
        return x

    def _normalise(self, x: Tensor, index: int) -> Tensor:
        members, batch, width = x.shape
        flat = x.transpose(0, 1).reshape(batch, members * width)
        flat = F.batch_norm(
            flat,
            self.running(index)[0].view(-1),
            self.running(index)[1].view(-1),
            self.norm_weights[index].view(-1),
            self.norm_biases[index].view(-1),
            training=self.training,
            momentum=_BN_MOMENTUM,
            eps=_BN_EPS,
        )
        return flat.view(batch, members, width).transpose(0, 1)

    def running(self, index: int) -> tuple[Tensor, Tensor]:
        """Return running mean and variance [M, width] of a norm."""
        return getattr(self, f"mean{index}"), getattr(self, f"var{index}")

    def folded_norm(self, index: int) -> tuple[Tensor, Tensor]:
        """Return a norm of evaluation mode as factor and offset, [M, width] float64 each."""
        mean, var = (entry.double() for entry in self.running(index))
        factor = self.norm_weights[index].detach().double() / (var + _BN_EPS).sqrt()
        return factor, self.norm_biases[index].detach().double() - mean * factor


def member_state(ensemble: PixelEnsemble, member: int, batches: int = 0) -> dict[str, Tensor]:
    """Return one member under the published names, as CPU tensors of its own.

    Args:
        ensemble: holds the member.
        member: which one.
        batches: number of batches that training saw, the norms' published counter.
    """
    slots = _slots(ensemble, member, torch.tensor(batches))
    return {name: tensor.detach().cpu().clone() for name, tensor in slots.items()}


def models_sha256(ensemble: PixelEnsemble) -> str:
    """Return the SHA-256 of all members' tensors."""
    digest = hashlib.sha256()
    for member in range(ensemble.members):
        for name, tensor in member_state(ensemble, member).items():
            digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def _slots(ensemble: PixelEnsemble, member: int, batches: Tensor) -> dict[str, Tensor]:
    """Return one member's part of the ensemble's tensors under the published names."""
    slots: dict[str, Tensor] = {}
    for index, layer in enumerate(_LINEAR_LAYERS):
        slots[f"{_PREFIX}{layer}.weight"] = ensemble.weights[index][member]
        slots[f"{_PREFIX}{layer}.bias"] = ensemble.biases[index][member]
        if index < len(_NORM_LAYERS):
            norm, (mean, var) = f"{_PREFIX}{_NORM_LAYERS[index]}", ensemble.running(index)
            slots[f"{norm}.weight"] = ensemble.norm_weights[index][member]
            slots[f"{norm}.bias"] = ensemble.norm_biases[index][member]
            slots[f"{norm}.running_mean"], slots[f"{norm}.running_var"] = mean[member], var[member]
            slots[f"{norm}.num_batches_tracked"] = batches
    return slots


def ensemble_from_states(states: Sequence[Mapping[str, Any]], where: str) -> PixelEnsemble:
    """Stack members that are given under the published names, with or without `module.`.

    Args:
        states: one a member.
        where: named in messages.
    Returns: an ensemble in evaluation mode, without gradients.
    Raises: ValueError where an entry is missing, unknown or of another shape.
    """
    if not states:
        raise ValueError(f"{where}: an ensemble needs at least one model")
    plain = [
        {
            _PREFIX + key.removeprefix("module.").removeprefix("layers."): value
            for key, value in state.items()
        }
        for state in states
    ]
    widths = _read_widths(plain[0], where)
    ensemble = PixelEnsemble(widths[0], (widths[1], widths[2]), widths[3], len(states))
    expected = member_state(ensemble, 0)
    for member, state in enumerate(plain):
        _check_state(state, expected, f"{where}: model {member}")
        with torch.no_grad():
            for name, slot in _slots(ensemble, member, torch.tensor(0)).items():
                slot.copy_(state[name])
    return ensemble.eval().requires_grad_(False)


def _read_widths(state: Mapping[str, Any], where: str) -> tuple[int, int, int, int]:
    shapes = []
    for layer in _LINEAR_LAYERS:
        weight = state.get(f"{_PREFIX}{layer}.weight")
        if not isinstance(weight, Tensor) or weight.ndim != 2:
            raise ValueError(f"{where}: layers.{layer}.weight must be a matrix; is this a model?")
        shapes.append(tuple(weight.shape))
    classes = shapes[2][0]
    if not 1 <= classes <= MAX_CLASSES:
        raise ValueError(f"{where}: 1 to {MAX_CLASSES} classes are known, got {classes}")
    return shapes[0][1], shapes[0][0], shapes[1][0], classes


def _check_state(state: Mapping[str, Any], expected: Mapping[str, Tensor], where: str) -> None:
    unknown = sorted(state.keys() - expected.keys())
    missing = sorted(expected.keys() - state.keys())
    if unknown or missing:
        text = ", ".join(f"no {name.removeprefix('module.')}" for name in missing)
        text += ", ".join(f"unknown {name.removeprefix('module.')[:80]}" for name in unknown)
        raise ValueError(f"{where}: not a pixel classifier: {text}")
    for full_name, tensor in expected.items():
        name, given = full_name.removeprefix("module."), state[full_name]
        if not isinstance(given, Tensor) or given.shape != tensor.shape:
            shape = list(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise ValueError(f"{where}: {name} must have shape {list(tensor.shape)}, got {shape}")
        if given.is_floating_point() and not bool(given.isfinite().all()):
            raise ValueError(f"{where}: {name} has numbers that are not finite")


# Files


@dataclass(frozen=True, kw_only=True)
class TrainedInterpreter:
    """What a folder of models holds."""

    ensemble: PixelEnsemble  # in evaluation mode
    identity: dict[str, Any]  # options that they were trained with; empty for published folders


def save_models(folder: Path, ensemble: PixelEnsemble, batches: int) -> None:
    """Write model_k.pth for each member, as published code reads them."""
    for member in range(ensemble.members):
        state = {_STATE_KEY: member_state(ensemble, member, batches)}
        # Through an open file, torch gives the archive a constant inner name.
        with files.atomic_write(folder / f"model_{member}.pth") as file:
            torch.save(state, file)


def load_models(folder: Path, at_most: int | None = None) -> TrainedInterpreter:
    """Read the models of a folder, or of its sub-folder "models", in numeric order.

    Nothing in the files is executed.

    Args:
        folder: of model_k.pth.
        at_most: how many to use, the first ones; None is all.
    Raises: FileNotFoundError; ValueError naming the file where it is no model.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of models")
    found = _model_paths(folder)
    if not found and (folder / "models").is_dir():
        folder = folder / "models"
        found = _model_paths(folder)
    if not found:
        raise FileNotFoundError(f"{folder}: has no model_0.pth, model_1.pth, ...")
    record: dict[str, Any] = {"identity": {}, "finished": True}
    if (folder / RECORD).is_file():
        record = files.read_object(folder / RECORD, identity=dict)
    if not record.get("finished"):
        raise ValueError(f"{folder}: training is not finished; repeat its command")
    states = []
    for path in found[:at_most]:
        state = load_checkpoint(path).get(_STATE_KEY)
        if not isinstance(state, dict):
            raise ValueError(f"{path}: not a model: it has no {_STATE_KEY}")
        states.append(state)
    return TrainedInterpreter(
        ensemble=ensemble_from_states(states, str(folder)), identity=record["identity"]
    )


def _model_paths(folder: Path) -> Sequence[Path]:
    numbered = {}
    for path in folder.glob("model_*.pth"):
        match = re.fullmatch(r"model_(\d{1,6})\.pth", path.name)
        if match:
            numbered[int(match[1])] = path
    return [numbered[number] for number in sorted(numbered)]
