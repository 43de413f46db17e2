"""How a recogniser is trained, as plain values."""

from dataclasses import dataclass, field

from recognition.augmentation import FaceAugmentation
from recognition.heads import HeadConfig
from torch_utils.precision import Precision


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a recogniser is trained.

    Attributes:
        backbone: r18, r34, r50, r100, r200 or mobilefacenet.
        width: factor of its channels.
        embedding: width of the embeddings.
        size: width and height that images are resized to, in pixels.
        dropout: before the last layer.
        head: margin loss.
        sample_rate: share of the people that each step's images are compared with; below 1, the
            centres of the others rest.
        augmentation: of the images.
        precision: of the backbone's arithmetic.
        epochs: passes over the data.
        batch: images a step, of all processes together.
        lr: largest learning rate of SGD with momentum; it falls with the square of what is left.
        momentum: of SGD.
        weight_decay: of all weights.
        warmup: share of the steps in which the rate rises.
        seed: of everything random.
    """

    backbone: str = "r50"
    width: float = 1.0
    embedding: int = 512
    size: int = 112
    dropout: float = 0.0
    head: HeadConfig = field(default_factory=HeadConfig)
    sample_rate: float = 1.0
    augmentation: FaceAugmentation = field(default_factory=FaceAugmentation)
    precision: Precision = Precision.FP32
    epochs: int = 20
    batch: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "embedding"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.lr > 0:
            raise ValueError(f"lr must be more than 0, got {self.lr}")
        if not 0 < self.sample_rate <= 1:
            raise ValueError(f"sample_rate must be more than 0, at most 1, got {self.sample_rate}")
        if not 0 <= self.dropout < 1 or not 0 <= self.warmup < 1:
            raise ValueError(f"dropout and warmup must be 0..1, got {self.dropout}, {self.warmup}")


def rate_at(step: int, steps: int, config: TrainingConfig) -> float:
    """Return the learning rate of a step: linear warm-up, then (share left) squared."""
    rising = max(round(config.warmup * steps), 1)
    if step < rising:
        return config.lr * (step + 1) / rising
    return config.lr * (1 - (step - rising) / max(steps - rising, 1)) ** 2
