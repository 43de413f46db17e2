"""How a refiner is trained."""

from dataclasses import dataclass
from enum import Enum

from refinement.losses import Norm
from refinement.networks import PatchKind

PUBLISHED_REFINER_WARMUP = 1000
PUBLISHED_DISCRIMINATOR_WARMUP = 200
_MAX_SMOOTHING = 0.5


class Measure(Enum):
    """What the regularisation compares: pixels, means over channels, or features of a network."""

    IMAGE = "image"
    MEAN = "mean"
    FEATURES = "features"


@dataclass(frozen=True, kw_only=True)
class RefinementConfig:
    """How a refiner is trained.

    Source: Shrivastava et al. 2017 (arXiv:1612.07828), algorithm 1 and implementation details, for
    the warm-ups, K_g and K_d. Rates, batch and optimiser are ours (Adam), as is the default weight.

    Attributes:
        width: channels of the refiner.
        blocks: its residual blocks.
        kernel: side of its convolutions.
        starts_as_identity: whether the untrained refiner returns its input.
        patches: list of the discriminator's layers.
        patch_width: factor of its channels.
        measure: what the regularisation compares.
        norm: how.
        weight: of the regularisation; more keeps images nearer to their originals.
        region_weights: (class name or number, factor of the weight in its pixels).
        cycle: weight of the way there and back by a second refiner; 0 builds none.
        steps: rounds of algorithm 1 after the warm-ups.
        refiner_warmup: steps of the refiner alone, with the regularisation. A refiner that starts
            as identity has no loss then, and needs none.
        discriminator_warmup: steps of the discriminator alone.
        refiner_updates: K_g, of the refiner a round.
        discriminator_updates: K_d, of the discriminator a round.
        batch: images an update, of either side.
        history: refined images that are kept; 0 keeps none.
        smoothing: of the discriminator's labels, 0..0.5.
        lr: learning rate of the refiner.
        discriminator_lr: learning rate of the discriminator.
        beta1: of Adam.
        beta2: of Adam.
        seed: of everything random.
    """

    width: int = 64
    blocks: int = 4
    kernel: int = 3
    starts_as_identity: bool = True
    patches: PatchKind = PatchKind.EYES
    patch_width: float = 1.0
    measure: Measure = Measure.IMAGE
    norm: Norm = Norm.L1
    weight: float = 1.0
    region_weights: tuple[tuple[str, float], ...] = ()
    cycle: float = 0.0
    steps: int = 10000
    refiner_warmup: int = 0
    discriminator_warmup: int = PUBLISHED_DISCRIMINATOR_WARMUP
    refiner_updates: int = 2
    discriminator_updates: int = 1
    batch: int = 64
    history: int = 1024
    smoothing: float = 0.0
    lr: float = 2e-4
    discriminator_lr: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (
            ("steps", 1),
            ("batch", 2),
            ("refiner_updates", 1),
            ("discriminator_updates", 1),
            ("refiner_warmup", 0),
            ("discriminator_warmup", 0),
            ("history", 0),
            ("weight", 0),
            ("cycle", 0),
        ):
            if not getattr(self, name) >= low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        for name in ("lr", "discriminator_lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0, got {getattr(self, name)}")
        if not 0 <= self.smoothing < _MAX_SMOOTHING:
            raise ValueError(f"smoothing must be 0..0.5, without 0.5, got {self.smoothing}")
        if self.region_weights and self.measure is Measure.FEATURES:
            raise ValueError(
                "region_weights need a regularisation in the image: measure must be image or mean, "
                "got features"
            )
