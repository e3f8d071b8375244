"""What a sensor makes of a quantity: steps of a resolution, noise, limits."""

from __future__ import annotations

import math
import random

_DIGITS: dict[float, int] = {}
"""step → decimals that its multiples need"""


def _digits(step: float) -> int:
    digits = _DIGITS[step] = max(0, -math.floor(math.log10(step)))
    return digits


def stepped(value: float, step: float, low: float = -math.inf, high: float = math.inf) -> float:
    """The nearest multiple of `step` within the range the sensor can report."""
    digits = _DIGITS.get(step)
    if value < low:
        value = low
    elif value > high:
        value = high
    return round(float(round(value / step)) * step, _digits(step) if digits is None else digits)


def completed(value: float, step: float) -> float:
    """The last multiple of `step` that was reached: a wear or distance counter never runs ahead.

    A millionth of a step is forgiven, so that a sum of floats that reached its mark counts as there.
    """
    digits = max(0, -math.floor(math.log10(step)))
    return round(float(math.floor(value / step + 1e-6)) * step, digits)


def noisy(rng: random.Random, value: float, deviation: float) -> float:
    """The value with normal noise; always draws once, so that the sequence does not depend on the value."""
    return value + rng.gauss(0.0, deviation)
