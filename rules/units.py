"""Units of numbers in expressions: what may be added and compared, and by which factor it converts.

A unit is a product of powers of names, as in `{"km/h": 1}`; names are compared as they are written,
so that "km/h" is one name. A number written in an expression has no unit of its own and takes the
one of what it meets. Factors: SI brochure (9th edition), and the litre, bar and hour of its table 8.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Unit: TypeAlias = tuple[tuple[str, int], ...]
"""Names with their powers, sorted; () for a bare number such as a count or a ratio."""

PLAIN: Unit = ()

_CONVERTS: Mapping[str, tuple[str, float]] = {
    "mm": ("length", 0.001), "cm": ("length", 0.01), "m": ("length", 1), "km": ("length", 1000),
    "ms": ("time", 0.001), "s": ("time", 1), "min": ("time", 60), "h": ("time", 3600), "d": ("time", 86400),
    "m/s": ("speed", 1), "km/h": ("speed", 1000 / 3600),
    "Pa": ("pressure", 1), "hPa": ("pressure", 100), "mbar": ("pressure", 100),
    "kPa": ("pressure", 1000), "bar": ("pressure", 100_000),
    "g": ("mass", 0.001), "kg": ("mass", 1), "ml": ("volume", 0.001), "l": ("volume", 1),
    "Wh": ("energy", 3600), "kWh": ("energy", 3_600_000), "W": ("power", 1), "kW": ("power", 1000),
    "mV": ("voltage", 0.001), "V": ("voltage", 1), "mA": ("current", 0.001), "A": ("current", 1),
}  # fmt: skip


def unit(name: str | None) -> Unit:
    """The unit of a signal."""
    return ((name, 1),) if name else PLAIN


def times(left: Unit, right: Unit, sign: int = 1) -> Unit:
    """The unit of a product, or with sign −1 of a quotient."""
    powers = dict(left)
    for name, power in right:
        powers[name] = powers.get(name, 0) + sign * power
    return tuple(sorted((name, power) for name, power in powers.items() if power))


def factor(source: Unit, target: Unit) -> float | None:
    """What a number in `source` is multiplied with to be one in `target`; None if it does not convert."""
    if source == target:
        return 1
    if len(source) != 1 or len(target) != 1 or source[0][1] != 1 or target[0][1] != 1:
        return None
    here, there = _CONVERTS.get(source[0][0]), _CONVERTS.get(target[0][0])
    return here[1] / there[1] if here and there and here[0] == there[0] else None


def say(given: Unit) -> str:
    """As people read it."""
    if not given:
        return "a bare number"
    return "·".join(name if power == 1 else f"({name})^{power}" for name, power in given)
