"""What all devices share: the map, the wall clocks, and signals such as the weather."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from rules.places import Geography, Nowhere, Zone, hour_of_day, on_earth
from rules.readings import Known, Value, usable_number

if TYPE_CHECKING:
    from rules.state import DeviceState

PREFIX = "/context/"
"""Begins the names, no device's, under which shared signals are saved."""

MOST_AREAS = 10_000
"""Areas kept of one shared name."""

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
QUARTER_MS = 900_000
"""Clocks are put forward and back at full quarters of an hour."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class World:
    """Answers what conditions ask beyond their own device."""

    def __init__(self, zones: Mapping[str, Zone], geography: Geography | None) -> None:
        self.zones = zones
        self.geography = geography or Nowhere()
        self._shared: dict[str, dict[str, dict[str, tuple[int, float]]]] = {}
        self._dirty: set[str] = set()

    def take(self, name: str, area: str, ts: int, signals: Mapping[str, Value]) -> None:
        """Shared readings for an area; empty: everywhere."""
        areas = self._shared.setdefault(name, {})
        if area not in areas and len(areas) >= MOST_AREAS:
            return
        kept = areas.setdefault(area, {})
        for signal, raw in signals.items():
            value = usable_number(raw)
            if value is not None and ts >= kept.get(signal, (ts, 0))[0]:
                kept[signal] = ts, value
        self._dirty.add(name)

    def shared(self, name: str, signal: str, latitude: Known | None, longitude: Known | None) -> float | None:
        """The newest value for a zone that holds the place, else for its country, else for everywhere."""
        areas = self._shared.get(name)
        if not areas:
            return None
        place = _place(latitude, longitude)
        if place is not None:
            for zone in self.zones.values():
                if signal in areas.get(zone.name, ()) and zone.covers(*place):
                    return areas[zone.name][signal][1]
            country = self.geography.country(*place) or ""
            if signal in areas.get(country, ()):
                return areas[country][signal][1]
        return areas.get("", {}).get(signal, (0, None))[1]

    def country(self, latitude: Known | None, longitude: Known | None) -> str | None:
        """ISO 3166 two letters."""
        place = _place(latitude, longitude)
        return None if place is None else self.geography.country(*place)

    def inside(self, zone: str, latitude: Known | None, longitude: Known | None) -> bool | None:
        """Whether the place lies in the zone."""
        place = _place(latitude, longitude)
        return None if place is None else self.zones[zone].covers(*place)

    def distance(self, zone: str, latitude: Known | None, longitude: Known | None) -> float | None:
        """Kilometres to the zone's centre."""
        place = _place(latitude, longitude)
        return None if place is None else self.zones[zone].distance(*place)

    def hour(self, state: DeviceState, at: int) -> float:
        """The hour of the day where the owner lives."""
        return hour_of_day(at, self._offset(state, at))

    def next_hour(self, state: DeviceState, at: int, hour: float) -> int:
        """When the hour of the day reaches an hour after `at`, has passed it, or begins anew, ms. Where the
        clocks are put forward or back before that, it is looked at again soon."""
        offset, edge = self._offset(state, at), round(hour * HOUR_MS)
        now = (at + offset) % DAY_MS
        found = at + min((edge - now) % DAY_MS or DAY_MS for edge in (0, edge, edge + 1))
        return found if self._offset(state, found) == offset else at - at % QUARTER_MS + QUARTER_MS

    def _offset(self, state: DeviceState, at: int) -> int:
        return self.geography.offset_ms(state.zone, at) if state.zone else 0

    def dirty(self) -> Iterator[tuple[str, bytes]]:
        """What was shared and has changed since the last call, to be saved under these names."""
        changed, self._dirty = self._dirty, set()
        for name in sorted(changed):
            yield PREFIX + name, _encode(self._shared[name])

    def restore(self, name: str, saved: bytes) -> None:
        """Take up what `dirty` gave."""
        self._shared[name.removeprefix(PREFIX)] = {
            area: {signal: (ts, value) for signal, (ts, value) in signals.items()}
            for area, signals in _decode(saved).items()
        }


def _place(latitude: Known | None, longitude: Known | None) -> tuple[float, float] | None:
    if (
        isinstance(latitude, int | float)
        and isinstance(longitude, int | float)
        and on_earth(latitude, longitude)
    ):
        return latitude, longitude
    return None


MOST_LISTS = 64
"""Lists of codes of which a pattern's answer is kept."""


class Codes:
    """Whether one of a list of codes matches a pattern: `*` any characters, `?` one, in any case. A list is a
    signal's value until the next one comes, and is asked about again and again: so the answer is kept."""

    __slots__ = ("_known", "_patterns")

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._patterns = tuple(_matcher(pattern.lower()) for pattern in patterns)
        self._known: dict[tuple[str, ...], bool] = {}

    def __call__(self, codes: Any) -> bool | None:
        if codes is None:
            return None
        if codes.__class__ is not tuple:
            return self._matches(codes)
        found = self._known.get(codes)
        if found is None:
            if len(self._known) >= MOST_LISTS:
                self._known.clear()
            found = self._known[codes] = self._matches(codes)
        return found

    def _matches(self, codes: Any) -> bool:
        return any(matches(code) for code in map(str.lower, codes) for matches in self._patterns)


def _matcher(pattern: str) -> Callable[[str], Any]:
    """Tells whether a text matches, in time proportional to both lengths: what stands between two `*` is
    looked for once, and never again further on."""
    first, *others = ["".join("." if c == "?" else re.escape(c) for c in part) for part in pattern.split("*")]
    middle = "".join(f"(?>.*?{part})" for part in others[:-1])
    return re.compile(first + middle + (".*" + others[-1] if others else ""), re.DOTALL).fullmatch
