"""The configuration of a training, from options of the command line."""

from typing import Any

from recognition.augmentation import FaceAugmentation
from recognition.heads import PUBLISHED_MARGINS, HeadConfig, MarginKind
from recognition.learning_config import TrainingConfig
from torch_utils.precision import Precision

_LEARNING = (
    *("backbone", "width", "embedding", "size", "dropout", "epochs", "batch", "lr", "seed"),
    *("weight_decay", "warmup", "sample_rate"),
)
_CHANGES = ("mirror", "shift", "light", "blur", "illumination")


def read_learning_config(given: dict[str, Any]) -> TrainingConfig:
    """Return how train_recognition.py's options want a recogniser trained.

    Args:
        given: value of each option; a margin of None is the published one of the head.
    Raises: ValueError for a value out of range.
    """
    kind = MarginKind(given["head"])
    margin = PUBLISHED_MARGINS[kind] if given["margin"] is None else given["margin"]
    return TrainingConfig(
        **{name: given[name] for name in _LEARNING},
        head=HeadConfig(kind=kind, margin=margin, scale=given["scale"]),
        augmentation=FaceAugmentation(**{name: given[name] for name in _CHANGES}),
        precision=Precision(given["precision"]),
    )
