"""Where a device is: zones from the signal files, and what else a condition can ask about a place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rules.texts import Place

EARTH_KM = 6371.0088
"""Mean radius of the earth, IUGG."""

_MINUTES, _DAY = 60_000, 86_400_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Zone:
    """A circle, or a polygon whose corners are joined on the map of latitude and longitude. Degrees."""

    name: str
    centre: tuple[float, float]  # of a polygon: the mean of its corners
    radius_km: float = 0.0
    corners: tuple[tuple[float, float], ...] = ()

    def covers(self, latitude: float, longitude: float) -> bool:
        """Whether a place lies in it; a polygon's edge may count either way."""
        if not self.corners:
            return kilometres(*self.centre, latitude, longitude) <= self.radius_km
        inside = False
        for (a, b), (c, d) in zip(self.corners, (*self.corners[1:], self.corners[0]), strict=True):
            if (a > latitude) is not (c > latitude) and longitude < b + (latitude - a) / (c - a) * (d - b):
                inside = not inside
        return inside

    def distance(self, latitude: float, longitude: float) -> float:
        """Kilometres to the centre."""
        return kilometres(*self.centre, latitude, longitude)


class Geography(Protocol):
    """What the rules ask about the world; the gateway answers from offline data."""

    def country(self, latitude: float, longitude: float) -> str | None:
        """ISO 3166 two letters; None at sea."""

    def offset_ms(self, time_zone: str, ts: int) -> int:
        """What to add to UTC for the wall clock of an IANA time zone at a time; 0 for an unknown one."""


class Nowhere:
    """Knows no countries, and UTC alone."""

    def country(self, latitude: float, longitude: float) -> str | None:
        return None

    def offset_ms(self, time_zone: str, ts: int) -> int:
        return 0


def kilometres(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """The great circle between two places, degrees in, by the haversine formula."""
    a, b = math.radians(latitude), math.radians(other_latitude)
    half = math.radians(other_longitude - longitude) / 2
    h = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(half) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(min(1.0, h)))


def on_earth(latitude: float, longitude: float) -> bool:
    """Whether these are a place; 0, 0 is what receivers say that have none."""
    return -90 <= latitude <= 90 and -180 <= longitude <= 180 and (latitude != 0 or longitude != 0)


def hour_of_day(ts: int, offset_ms: int) -> float:
    """0 up to 24."""
    return (ts + offset_ms) % _DAY / (60 * _MINUTES)


def read_zone(name: str, place: Place) -> Zone | None:
    """A zone from a signal file: `{centre: [52.52, 13.40], radius_km: 6}` or `{corners: [[…], …]}`."""
    fields = place.fields(("centre", "radius_km", "corners"))
    if "corners" in fields and len(fields) == 1:
        corners = [_point(item) for item in fields["corners"].entries()]
        if len(corners) >= 3 and all(corners):
            points = [corner for corner in corners if corner]
            centre = (_mean([a for a, _ in points]), _mean([b for _, b in points]))
            return Zone(name=name, centre=centre, corners=tuple(points))
    elif set(fields) == {"centre", "radius_km"}:
        middle, radius = _point(fields["centre"]), fields["radius_km"].number()
        if middle and radius is not None and radius > 0:
            return Zone(name=name, centre=middle, radius_km=radius)
    place.fault(
        "a zone is {centre: [latitude, longitude], radius_km: 6} or {corners: [three points or more]}"
    )
    return None


def _point(place: Place) -> tuple[float, float] | None:
    pair = [item.number() for item in place.entries()]
    if len(pair) == 2 and pair[0] is not None and pair[1] is not None and on_earth(pair[0], pair[1]):
        return pair[0], pair[1]
    place.fault("a point is [latitude, longitude] in degrees, such as [52.52, 13.40]")
    return None


def _mean(numbers: Sequence[float]) -> float:
    return math.fsum(numbers) / len(numbers)
