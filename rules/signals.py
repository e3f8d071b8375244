"""What each kind of device can report: the signal catalogue, read from `config/signals/*.yaml`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, cast

from rules.places import Zone, read_zone
from rules.texts import Fault, Place, SignalErrors, did_you_mean, read

SignalType: TypeAlias = Literal["number", "boolean", "string", "codes"]
TYPES: tuple[SignalType, ...] = ("number", "boolean", "string", "codes")
LANGUAGES = ("en", "de")
RESERVED = ("ts", "true", "false", "and", "or", "not", "in", "is", "if", "else")
"""Words that are no signal names: `ts` stands in the evidence of a finding, the others in expressions."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_ZONE = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_KIND_KEYS = ("kind", "label", "signals")
_SIGNAL_KEYS = ("vss", "unit", "type", "range", "values", "label", "display", "wear", "counter")


@dataclass(frozen=True, kw_only=True, slots=True)
class Display:
    """How a percentage is shown to people: linear from `at_0` to `at_100`, in another unit."""

    unit: str
    at_0: float
    at_100: float

    def shown(self, value: float) -> float:
        """The value in `unit`."""
        return self.at_0 + (self.at_100 - self.at_0) * value / 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Wear:
    """The signal measures wear: at `limit`, in the signal's unit, the part is used up."""

    limit: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Signal:
    """A named quantity that one kind of device can report."""

    name: str
    kind: str
    type: SignalType = "number"
    unit: str | None = None  # of numbers; None: a bare number
    vss: tuple[str, ...] = ()  # COVESA VSS paths that mean the same
    range: tuple[float, float] | None = None  # what the sensor can report, both ends included
    values: tuple[str, ...] = ()  # of strings: what can be reported; empty: anything
    label: Mapping[str, str] = field(default_factory=dict)  # by language
    display: Display | None = None
    wear: Wear | None = None
    counter: bool = False  # counts up; set back to 0 by a job


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """One kind of device and its signals."""

    name: str
    label: Mapping[str, str]
    signals: Mapping[str, Signal]

    def resolve(self, name: str) -> Signal | None:
        """The signal of this name or VSS path."""
        found = self.signals.get(name)
        if found is None and "." in name:
            found = next((signal for signal in self.signals.values() if name in signal.vss), None)
        return found


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All kinds and zones by name."""

    kinds: Mapping[str, Kind]
    zones: Mapping[str, Zone] = field(default_factory=dict)

    @staticmethod
    def parse(texts: Iterable[tuple[str, str]]) -> Catalogue:
        """Read signal files given as (name of the source, its text).

        Raises SignalErrors with every fault of every text.
        """
        faults: list[Fault] = []
        kinds: dict[str, Kind] = {}
        zones: dict[str, Zone] = {}
        for file, text in texts:
            place = read(file, text, faults)
            if place is not None and _names_zones(place):
                _zones(place, zones)
            elif place is not None:
                _kind(place, kinds)
        if faults:
            raise SignalErrors(faults)
        return Catalogue(kinds, zones)

    def signal(self, kind: str, name: str) -> Signal | None:
        """The signal of a kind by name or VSS path; None if either is unknown."""
        found = self.kinds.get(kind)
        return found.resolve(name) if found else None

    def aliases(self, kind: str) -> dict[str, str]:
        """VSS path → signal name, for decoders; empty for an unknown kind."""
        found = self.kinds.get(kind)
        return (
            {path: signal.name for signal in found.signals.values() for path in signal.vss} if found else {}
        )


def _names_zones(place: Place) -> bool:
    """Whether it is a file of zones, `zones: {name: …}`, instead of one kind's signals."""
    plain = place.plain()
    return isinstance(plain, dict) and "zones" in plain and "kind" not in plain


def _zones(place: Place, zones: dict[str, Zone]) -> None:
    fields = place.fields(("zones",), required=("zones",))
    for name, value in fields["zones"].fields(what="zone").items():
        zone = read_zone(name, value.named(name))
        if name in zones:
            value.fault(f"the zone {name} is defined twice")
        elif not _ZONE.fullmatch(name):
            value.fault(f"{name!r} is no name of a zone: write lower case with dashes")
        elif zone is not None:
            zones[name] = zone


def _kind(place: Place, kinds: dict[str, Kind]) -> None:
    fields = place.fields(_KIND_KEYS, required=("kind", "signals"))
    if "kind" not in fields or "signals" not in fields:
        return
    name = fields["kind"].word() or ""
    if not _NAME.fullmatch(name):
        fields["kind"].fault(f"{name!r} is no name of a kind: write snake_case, such as washing_machine")
        return
    earlier = kinds.get(name) or Kind(name=name, label={}, signals={})
    signals = dict(earlier.signals)
    for key, value in fields["signals"].fields(what="signal").items():
        _add(signals, _signal(name, key, value.named(key)), value.named(key))
    kinds[name] = Kind(
        name=name,
        label=earlier.label if earlier.label and "label" not in fields else _label(fields.get("label"), name),
        signals=signals,
    )


def _add(signals: dict[str, Signal], signal: Signal, place: Place) -> None:
    taken = {path for other in signals.values() for path in other.vss}
    for path in signal.vss:
        if path in taken:
            place.fault(f"the VSS path {path} belongs to another signal already")
    if signal.name in signals:
        place.fault(f"{signal.name} is defined twice for {signal.kind}")
    signals[signal.name] = signal


def _signal(kind: str, name: str, place: Place) -> Signal:
    if not _NAME.fullmatch(name) or name in RESERVED:
        place.fault(f"{name} is no signal name: write snake_case, and none of {', '.join(RESERVED)}")
    fields = place.fields(_SIGNAL_KEYS, required=("label",))
    kind_of_value = cast(SignalType | None, fields["type"].choice(TYPES)) if "type" in fields else "number"
    signal = Signal(
        name=name,
        kind=kind,
        type=kind_of_value or "number",
        unit=fields["unit"].word() if "unit" in fields else None,
        vss=tuple(_words(fields.get("vss"))),
        range=_range(fields.get("range")),
        values=tuple(_words(fields.get("values"))),
        label=_label(fields.get("label"), name),
        display=_display(fields.get("display")),
        wear=_wear(fields.get("wear")),
        counter=bool(fields["counter"].flag()) if "counter" in fields else False,
    )
    _fits(signal, place)
    return signal


def _fits(signal: Signal, place: Place) -> None:
    """Report what does not go together with the signal's type."""
    if signal.type != "number":
        for key in ("unit", "range", "display", "wear", "counter"):
            if getattr(signal, key):
                place.fault(f"{key} is for numbers; {signal.name} is of type {signal.type}")
    if signal.values and signal.type != "string":
        place.fault(f"values is for strings; {signal.name} is of type {signal.type}")


def _words(place: Place | None) -> list[str]:
    if place is None:
        return []
    value = place.plain()
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) and item for item in items):
        place.fault(f"expected a word or a list of words, found {place.describe()}")
        return []
    return items


def _label(place: Place | None, name: str) -> dict[str, str]:
    if place is None:
        return dict.fromkeys(LANGUAGES, name)
    fields = place.fields(LANGUAGES, required=LANGUAGES, what="language")
    return {language: value.word() or name for language, value in fields.items()}


def _range(place: Place | None) -> tuple[float, float] | None:
    if place is None:
        return None
    ends = [item.number() for item in place.entries()]
    if len(ends) == 2 and ends[0] is not None and ends[1] is not None and ends[0] < ends[1]:
        return (ends[0], ends[1])
    place.fault("a range is two numbers, the smaller one first: [0, 100]")
    return None


def _display(place: Place | None) -> Display | None:
    if place is None:
        return None
    fields = place.fields(("unit", "at_0", "at_100"), required=("unit", "at_0", "at_100"))
    if len(fields) < 3:
        return None
    unit, at_0, at_100 = fields["unit"].word(), fields["at_0"].number(), fields["at_100"].number()
    return (
        None
        if unit is None or at_0 is None or at_100 is None
        else Display(unit=unit, at_0=at_0, at_100=at_100)
    )


def _wear(place: Place | None) -> Wear | None:
    if place is None:
        return None
    fields = place.fields(("limit",), required=("limit",))
    limit = fields["limit"].number() if "limit" in fields else None
    return None if limit is None else Wear(limit=limit)


def unknown_signal(kind: Kind, name: str) -> str:
    """What to say when a rule mentions a signal that the kind does not have."""
    names = [*kind.signals, *(path for signal in kind.signals.values() for path in signal.vss)]
    hint = did_you_mean(name, names)
    return (
        f"{kind.name} has no signal {name}{hint or f'; its signals are in config/signals/{kind.name}.yaml'}"
    )
