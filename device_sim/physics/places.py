"""Where devices live: coordinates, climate, water, and the roads that lead over a border.

Coordinates are those of the towns (WGS 84, two decimals: about a kilometre). Climate: mean of the year,
amplitude of the year and of the day after the 1991-2020 normals of the national weather services, rounded.
Hardness is that of the town's tap water, °dH, as the waterworks publish it, rounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A town."""

    latitude: float
    longitude: float
    country: str
    """ISO 3166-1 alpha-2"""
    mean: float = 9.7
    """°C over the year"""
    season: float = 8.2
    """°C, amplitude of the year"""
    day: float = 3.5
    """°C, amplitude of the day"""
    hardness: float = 14.0


PLACES = {
    "hamburg": Place(latitude=53.55, longitude=9.99, country="DE", hardness=14),
    "berlin": Place(latitude=52.52, longitude=13.39, country="DE", mean=10.1, season=9.6, hardness=18),
    "munich": Place(
        latitude=48.14, longitude=11.58, country="DE", mean=9.9, season=9.8, day=4.5, hardness=16
    ),
    "garmisch": Place(
        latitude=47.49, longitude=11.10, country="DE", mean=7.6, season=9.4, day=5.5, hardness=9
    ),
    "freiburg": Place(
        latitude=48.00, longitude=7.85, country="DE", mean=11.6, season=9.2, day=4.5, hardness=8
    ),
    "basel": Place(latitude=47.56, longitude=7.59, country="CH", mean=11.0, season=9.2, day=4.5, hardness=16),
    "innsbruck": Place(
        latitude=47.27, longitude=11.39, country="AT", mean=9.9, season=9.9, day=5.5, hardness=9
    ),
    "bozen": Place(
        latitude=46.50, longitude=11.35, country="IT", mean=12.6, season=10.4, day=6.0, hardness=10
    ),
    "salzburg": Place(
        latitude=47.80, longitude=13.04, country="AT", mean=9.9, season=9.9, day=5.0, hardness=11
    ),
    "prague": Place(latitude=50.09, longitude=14.42, country="CZ", mean=9.6, season=9.8, hardness=10),
}


def between(start: Place, end: Place, share: float) -> tuple[float, float]:
    """(latitude, longitude) on the way, `share` of it done: on the straight line, for our ends are near."""
    return (
        start.latitude + (end.latitude - start.latitude) * share,
        start.longitude + (end.longitude - start.longitude) * share,
    )


def around(home: Place, angle: float, km: float) -> tuple[float, float]:
    """(latitude, longitude) so many kilometres from home."""
    return (
        home.latitude + km * math.cos(angle) / 111.2,
        home.longitude + km * math.sin(angle) / (111.2 * math.cos(math.radians(home.latitude))),
    )
