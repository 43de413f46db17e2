"""Trained ensembles on disk: one published model_k.pth a member, and interpreter.json beside."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dnnlib import files
from interpreter.ensemble import PixelEnsemble, ensemble_from_states, member_state
from torch_utils.checkpoints import load_checkpoint

RECORD = "interpreter.json"
_STATE_KEY = "model_state_dict"


@dataclass(frozen=True, kw_only=True)
class TrainedInterpreter:
    """What a folder of models holds.

    Attributes:
        ensemble: in evaluation mode.
        record: content of interpreter.json; empty for published folders.
    """

    ensemble: PixelEnsemble
    record: dict[str, Any]

    @property
    def identity(self) -> dict[str, Any]:
        """Options that the models were trained with; empty for published folders."""
        return dict(self.record.get("identity", {}))


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
        raise FileNotFoundError(f"--resume {folder}: no such folder of models")
    found = _model_paths(folder)
    if not found and (folder / "models").is_dir():
        folder = folder / "models"
        found = _model_paths(folder)
    if not found:
        raise FileNotFoundError(f"--resume {folder}: has no model_0.pth, model_1.pth, ...")
    record = files.read_json(folder / RECORD) if (folder / RECORD).is_file() else {}
    if record and not record.get("finished"):
        raise ValueError(f"--resume {folder}: training is not finished; repeat its command")
    states = [_read_state(path) for path in found[:at_most]]
    return TrainedInterpreter(ensemble=ensemble_from_states(states, str(folder)), record=record)


def _model_paths(folder: Path) -> Sequence[Path]:
    numbered = {}
    for path in folder.glob("model_*.pth"):
        match = re.fullmatch(r"model_(\d{1,6})\.pth", path.name)
        if match:
            numbered[int(match[1])] = path
    return [numbered[number] for number in sorted(numbered)]


def _read_state(path: Path) -> dict[str, Any]:
    content = load_checkpoint(path, torch.device("cpu"))
    state = content.get(_STATE_KEY)
    if not isinstance(state, dict):
        raise ValueError(f"{path}: not a model: it has no {_STATE_KEY}")
    return state
