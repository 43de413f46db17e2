"""Numbers to places on paper: linear and logarithmic scales, their ticks, and how numbers read."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_WANTED_TICKS = 6
_MIN_DECADES = 1.2  # below, powers of ten alone would be too few ticks


@dataclass(frozen=True, kw_only=True)
class Scale:
    """An axis from `low`..`high` to the places `start`..`end`.

    Attributes:
        low, high: ends in the data's units, low < high; both above 0 on a logarithmic axis.
        start, end: places of the two ends, px.
        is_log: logarithmic.
    """

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def holds(self, value: float) -> bool:
        """Tell whether a value has a place: finite, and above 0 on a logarithmic axis."""
        return math.isfinite(value) and (value > 0 or not self.is_log)

    def place(self, value: float) -> float:
        """Return where a value lies, px; what is outside is moved to the nearer end."""
        low, high, value = (self._warp(v) for v in (self.low, self.high, value))
        share = min(max((value - low) / (high - low), 0.0), 1.0)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return the values to be labelled, ascending and within the axis."""
        if self.is_log:
            return _log_ticks(self.low, self.high)
        return _linear_ticks(self.low, self.high)

    def _warp(self, value: float) -> float:
        return math.log10(max(value, self.low)) if self.is_log else value


def fit_scale(
    values: Iterable[float],
    *,
    start: float,
    end: float,
    is_log: bool = False,
    limits: tuple[float | None, float | None] = (None, None),
    has_zero: bool = False,
) -> Scale:
    """Return a scale that holds all values that it can.

    Args:
        values: of any kind; what has no place on the axis is left out.
        start, end: places of the ends, px.
        is_log: logarithmic.
        limits: ends that are given; None is fitted to round numbers.
        has_zero: a linear axis begins at 0 unless it needs values below.
    """
    shown = [v for v in (*values, *limits) if _is_shown(v, is_log=is_log)]
    low, high = (min(shown), max(shown)) if shown else (0.1, 1.0) if is_log else (0.0, 1.0)
    if has_zero and not is_log:
        low = min(low, 0.0)
    if is_log:
        low, high = 10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high))
        high = high if high > low else low * 10
    else:
        low, high = _round_outwards(low, high)
    low = low if limits[0] is None else limits[0]
    high = high if limits[1] is None else limits[1]
    return Scale(low=low, high=high, start=start, end=end, is_log=is_log)


def format_number(value: float) -> str:
    """Return a number as an axis shows it.

    >>> [format_number(v) for v in (0.1 + 0.2, 1e-5, 25000.0, 0.0, -2.5)]
    ['0.3', '1e-5', '25 000', '0', '-2.5']
    """
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    if not 1e-4 <= abs(value) < 1e7:
        digits, exponent = f"{value:.3e}".split("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"
    if abs(value) >= 10000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.6g}"


def _is_shown(value: float | None, *, is_log: bool) -> bool:
    return value is not None and math.isfinite(value) and (value > 0 or not is_log)


def _linear_ticks(low: float, high: float) -> list[float]:
    step = _nice_step((high - low) / (_WANTED_TICKS - 1))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _nice_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in _STEPS if step * power >= rough * (1 - 1e-9))


def _round_outwards(low: float, high: float) -> tuple[float, float]:
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        room = abs(low) / 2 or 0.5
        return low - room, high + room
    for _ in range(2):  # a wider range may have wider steps
        step = _nice_step((high - low) / (_WANTED_TICKS - 1))
        low = math.floor(low / step + 1e-9) * step
        high = math.ceil(high / step - 1e-9) * step
    return low, high


def _log_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = max(1, round((last - first) / _WANTED_TICKS))
    factors = (1, 2, 5) if math.log10(high / low) <= _MIN_DECADES else (1,)
    found = [f * 10.0**p for p in range(first, last + 1, stride) for f in factors]
    return [v for v in found if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
