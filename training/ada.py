"""Adaptive strength of the augmentation, one controller a modality.

Source: Karras et al. 2020 (arXiv:2006.06676), section 3. Departures: p ends at 1 (published:
unbounded), and each modality follows its own discriminator (published dual-branch code: the RGB
signal sets one p for both).
"""

import logging
import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from training.options import AdaMode

_logger = logging.getLogger(__name__)

_STATE_KEYS = ("p", "sign_sum", "sign_count", "num_images", "iterations")


@dataclass(frozen=True, kw_only=True)
class AdaConfig:
    """Settings of an AdaController.

    Attributes:
        mode: NONE keeps p at 0, FIXED at `p`; ADAPTIVE starts at `p` and follows the signal.
        p: strength, 0..1; must be 0 with NONE.
        target: wanted mean of sign(logits of real images), -1..1; below it, p falls.
        interval: iterations between adjustments.
        kimg: thousands of images in which p can go from 0 to 1.
    Raises: ValueError for a value out of range.
    """

    mode: AdaMode = AdaMode.ADAPTIVE
    p: float = 0.0
    target: float = 0.6
    interval: int = 4
    kimg: float = 500.0

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"ADA: p must be 0..1, got {self.p}")
        if self.mode is AdaMode.NONE and self.p != 0:
            raise ValueError(f"ADA: p must be 0 with mode {self.mode.value}, got {self.p}")
        if not -1 <= self.target <= 1:
            raise ValueError(f"ADA: target must be -1..1, got {self.target}")
        if self.interval < 1:
            raise ValueError(f"ADA: interval must be at least 1, got {self.interval}")
        if not (math.isfinite(self.kimg) and self.kimg > 0):
            raise ValueError(f"ADA: kimg must be finite and above 0, got {self.kimg}")


class AdaController:
    """Strength p of one modality's augmentation and the signal gathered since its last change.

    Attributes:
        config: the settings.
        p: strength for the next iterations, 0..1.
    """

    def __init__(self, config: AdaConfig) -> None:
        self.config = config
        self.p = config.p
        self._clear()

    def update(
        self, sign_sum: float | Tensor, sign_count: float | Tensor, num_images: int
    ) -> float | None:
        """Take in one iteration; every `interval`-th adjusts p.

        p moves by sign(r - target) * images / (1000 * kimg), where r is the mean sign and `images`
        are those of the interval. An interval without a finite r leaves p alone.

        Args:
            sign_sum: sum of sign(logit) over this modality's real images of the iteration, over
                all ranks. A tensor is read only when p is adjusted, so that no other iteration
                waits for a GPU.
            sign_count: how many logits these were; 0 where the iteration had none.
            num_images: batch of the iteration over all ranks.
        Returns: r, -1..1, where p was adjusted, else None.
        Source: Karras et al. 2020 (arXiv:2006.06676), section 3: r_t and the fixed step.
        """
        if self.config.mode is not AdaMode.ADAPTIVE:
            return None
        self._sign_sum = self._sign_sum + _detached(sign_sum)
        self._sign_count = self._sign_count + _detached(sign_count)
        self._num_images += num_images
        self._iterations += 1
        if self._iterations < self.config.interval:
            return None
        return self._adjust()

    def _adjust(self) -> float | None:
        total, count = float(self._sign_sum), float(self._sign_count)
        step = self._num_images / (self.config.kimg * 1000)
        self._clear()
        signal = total / count if count > 0 else math.nan
        if not math.isfinite(signal):
            _logger.warning(
                "ADA: no finite signal (sum %s of %s signs); p stays %s", total, count, self.p
            )
            return None
        direction = (signal > self.config.target) - (signal < self.config.target)
        self.p = min(max(self.p + direction * step, 0.0), 1.0)
        return signal

    def _clear(self) -> None:
        self._sign_sum: float | Tensor = 0.0
        self._sign_count: float | Tensor = 0.0
        self._num_images = 0
        self._iterations = 0

    def state_dict(self) -> dict[str, float | int]:
        """Return p and the unfinished interval as plain numbers."""
        return {
            "p": self.p,
            "sign_sum": float(self._sign_sum),
            "sign_count": float(self._sign_count),
            "num_images": self._num_images,
            "iterations": self._iterations,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`.

        Raises: ValueError for other keys or a strength that is not 0..1.
        """
        if sorted(state) != sorted(_STATE_KEYS):
            raise ValueError(
                f"ADA state must have the keys {', '.join(_STATE_KEYS)}, got {sorted(state)}"
            )
        if not 0 <= state["p"] <= 1:
            raise ValueError(f"ADA state: p must be 0..1, got {state['p']}")
        self.p = float(state["p"])
        self._sign_sum, self._sign_count = float(state["sign_sum"]), float(state["sign_count"])
        self._num_images, self._iterations = int(state["num_images"]), int(state["iterations"])


def _detached(value: float | Tensor) -> float | Tensor:
    return value.detach() if isinstance(value, Tensor) else value
