"""What the codecs of other forms need of the signal catalogue: names, units, and which signals are lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.adapters.codecs import MalformedError, check_name, check_value
from rules import Catalogue
from rules.readings import Value

_UNITS: Mapping[str, tuple[str, float, float]] = {
    # RFC 8428, table 1, and what our catalogue calls the same
    "m": ("length", 1, 0), "kg": ("mass", 1, 0), "g": ("mass", 0.001, 0), "s": ("time", 1, 0),
    "A": ("current", 1, 0), "K": ("temperature", 1, 0), "Cel": ("temperature", 1, 273.15),
    "°C": ("temperature", 1, 273.15), "J": ("energy", 1, 0), "W": ("power", 1, 0), "V": ("voltage", 1, 0),
    "Pa": ("pressure", 1, 0), "m/s": ("speed", 1, 0), "m/s2": ("acceleration", 1, 0),
    "m/s²": ("acceleration", 1, 0), "m3": ("volume", 1, 0), "l": ("volume", 0.001, 0),
    "l/s": ("flow", 1, 0), "l/min": ("flow", 1 / 60, 0), "/": ("share", 1, 0), "%": ("share", 0.01, 0),
    "%RH": ("share", 0.01, 0), "%EL": ("share", 0.01, 0), "percent": ("share", 0.01, 0),
    "EL": ("time", 1, 0), "lon": ("angle", 1, 0), "lat": ("angle", 1, 0), "°": ("angle", 1, 0),
    "1/min": ("rate", 1 / 60, 0), "Hz": ("rate", 1, 0), "rpm": ("rate", 1 / 60, 0),
    "beat/min": ("rate", 1 / 60, 0), "count": ("count", 1, 0),
    # RFC 8798, secondary units
    "ms": ("time", 0.001, 0), "min": ("time", 60, 0), "h": ("time", 3600, 0), "d": ("time", 86_400, 0),
    "mm": ("length", 0.001, 0), "cm": ("length", 0.01, 0), "km": ("length", 1000, 0),
    "km/h": ("speed", 1 / 3.6, 0), "mm/s": ("speed", 0.001, 0), "kW": ("power", 1000, 0),
    "Wh": ("energy", 3600, 0), "kWh": ("energy", 3_600_000, 0), "hPa": ("pressure", 100, 0),
    "mbar": ("pressure", 100, 0), "kPa": ("pressure", 1000, 0), "bar": ("pressure", 100_000, 0),
    "mV": ("voltage", 0.001, 0), "mA": ("current", 0.001, 0), "/100": ("share", 0.01, 0),
    "/1000": ("share", 0.001, 0),
}  # fmt: skip
"""Unit → (quantity, factor, offset): a number in it times factor plus offset is one in the quantity's own."""


class Signals:
    """The signals of all kinds of devices. Where kinds differ about a name, it is taken as it is sent."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._aliases: dict[str, str] = {}
        self._units: dict[str, str | None] = {}
        self._codes: set[str] = set()
        for kind in catalogue.kinds.values():
            self._aliases |= catalogue.aliases(kind.name)
            for signal in kind.signals.values():
                known = self._units.setdefault(signal.name, signal.unit)
                if known != signal.unit:
                    self._units[signal.name] = None
                if signal.type == "codes":
                    self._codes.add(signal.name)

    def name(self, sent: str) -> str:
        """The name to store under; of VSS paths, also with slashes, that of the signal. Raises MalformedError
        bad_name."""
        known = self._aliases.get(sent) or self._aliases.get(sent.replace("/", "."))
        if known is None:
            check_name(sent)
        return known or sent

    def value(self, name: str, sent: Any, unit: str | None = None) -> Value:
        """The value as the catalogue has it: in its unit, texts of codes as a list. Raises MalformedError
        bad_value, bad_unit."""
        value = check_value(name[:64], sent)
        if name in self._codes and isinstance(value, str):
            return [code.strip() for code in value.split(",") if code.strip()]
        ours = self._units.get(name)
        if unit is None or ours is None or isinstance(value, bool) or not isinstance(value, int | float):
            return value
        return value if unit == ours else _converted(name, value, unit, ours)


def _converted(name: str, value: float, unit: str, ours: str) -> float:
    here, there = _UNITS.get(unit), _UNITS.get(ours)
    if here is None or there is None or here[0] != there[0]:
        raise MalformedError("bad_unit", f"{name[:64]}: {unit[:32]!r} cannot be made {ours}")
    if here == there:
        return value
    return (value * here[1] + here[2] - there[2]) / there[1]
