"""Adaptive strength of the augmentation, one controller a modality.

Source: Karras et al. 2020 (arXiv:2006.06676), section 3. Departures: p ends at 1 (published:
unbounded), and each modality follows its own discriminator (published dual-branch code: the RGB
signal sets one p for both).
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from training.options import AdaMode

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AdaConfig:
    """Settings of an AdaController.

    Attributes:
        mode: NONE keeps p at 0, FIXED at `p`; ADAPTIVE starts at `p` and follows the signal.
        p: strength, 0..1; 0 with NONE.
        target: wanted mean of sign(logits of real images), -1..1; below it, p falls.
        interval: iterations between adjustments.
        kimg: thousands of images in which p can go from 0 to 1.
    """

    mode: AdaMode = AdaMode.ADAPTIVE
    p: float = 0.0
    target: float = 0.6
    interval: int = 4
    kimg: float = 500.0


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

    def update(self, sign_sum: float | Tensor, batch: int) -> None:
        """Take in one iteration; every `interval`-th adjusts p.

        p moves by sign(r - target) * images / (1000 * kimg), where r is the mean sign and `images`
        are those of the interval. An interval without a finite r leaves p alone.

        Args:
            sign_sum: sum of sign(logit) over this modality's real images of the iteration, over
                all ranks. A tensor is read only when p is adjusted, so that no other iteration
                waits for a GPU.
            batch: images of the iteration over all ranks.
        Source: Karras et al. 2020 (arXiv:2006.06676), section 3: r_t and the fixed step.
        """
        if self.config.mode is not AdaMode.ADAPTIVE:
            return
        self._sign_sum = self._sign_sum + sign_sum
        self._num_images += batch
        self._iterations += 1
        if self._iterations >= self.config.interval:
            self._adjust()

    def _adjust(self) -> None:
        total, count = float(self._sign_sum), self._num_images
        self._clear()
        if not math.isfinite(total):
            _log.warning("ADA: the signs' sum is %s, so p stays %s", total, self.p)
            return
        signal, target = total / count, self.config.target
        direction = (signal > target) - (signal < target)
        step = count / (self.config.kimg * 1000)
        self.p = min(max(self.p + direction * step, 0.0), 1.0)

    def _clear(self) -> None:
        self._sign_sum: float | Tensor = 0.0
        self._num_images = self._iterations = 0

    def state_dict(self) -> dict[str, float | int]:
        """Return p and the unfinished interval as plain numbers."""
        return {
            "p": self.p,
            "sign_sum": float(self._sign_sum),
            "sign_count": float(self._num_images),
            "num_images": self._num_images,
            "iterations": self._iterations,
        }

    def load_state_dict(self, state: Mapping[str, float | int]) -> None:
        """Continue from `state_dict()`."""
        self.p, self._sign_sum = float(state["p"]), float(state["sign_sum"])
        self._num_images, self._iterations = int(state["num_images"]), int(state["iterations"])
