"""How a car is driven: a trip as a row of legs of constant acceleration.

A trip is made of micro-trips, as driving cycles are built from recorded ones (accelerate, cruise, brake, and
at some of them stop). Between two times everything that wear and consumption need can be had in closed form,
so a year of trips costs no more than its legs.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple

ACCELERATION, BRAKING = 1.1, 1.7
"""m/s²; ordinary drivers stay below 1.5 and 2.5"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Road:
    """How one kind of road is driven."""

    speeds: tuple[float, float]
    """lowest and highest speed aimed at, km/h"""
    cruise: float
    """mean time at one speed, s"""
    stops: float
    """share of micro-trips that end standing"""


ROADS = {
    "town": Road(speeds=(28, 54), cruise=22, stops=0.55),
    "country": Road(speeds=(65, 98), cruise=65, stops=0.16),
    "motorway": Road(speeds=(95, 132), cruise=170, stops=0.03),
}
ROUTES: dict[str, tuple[tuple[str, float], ...]] = {
    "town": (("town", 1.0),),
    "commute": (("town", 0.3), ("country", 0.4), ("town", 0.3)),
    "country": (("town", 0.15), ("country", 0.7), ("town", 0.15)),
    "motorway": (("town", 0.15), ("motorway", 0.6), ("town", 0.25)),
}
"""Route → the roads in their order, each with its share of the time."""


class Leg(NamedTuple):
    """A time of constant acceleration: seconds since the trip's start and m/s at both ends."""

    begin: float
    end: float
    v0: float
    v1: float

    def speed(self, at: float) -> float:
        """m/s at a time within the leg."""
        return self.v0 + (self.v1 - self.v0) * (at - self.begin) / (self.end - self.begin)


class Profile:
    """Speed over the time of one trip; it begins and ends standing."""

    def __init__(self, legs: list[Leg]) -> None:
        self._legs = legs
        self._begins = [leg.begin for leg in legs]
        self.seconds = legs[-1].end
        self.memo: dict[object, object] = {}
        """for whoever works something out for the whole trip"""

    def speed(self, at: float) -> float:
        """m/s, `at` seconds after the start; 0 before and after the trip."""
        if not 0 <= at < self.seconds:
            return 0.0
        return self._legs[bisect_right(self._begins, at) - 1].speed(at)

    def between(self, start: float, end: float) -> list[Leg]:
        """The legs from `start` to `end`, the first and the last cut there."""
        first = max(0, bisect_right(self._begins, start) - 1)
        cut = []
        for leg in self._legs[first:]:
            if leg.begin >= end:
                break
            begin, until = max(leg.begin, start), min(leg.end, end)
            if begin == leg.begin and until == leg.end:
                cut.append(leg)
            elif until > begin:
                cut.append(Leg(begin, until, leg.speed(begin), leg.speed(until)))
        return cut


def drive(rng: random.Random, seconds: float, route: str, briskness: float = 1.0) -> Profile:
    """A trip of exactly `seconds` on a route; a brisk driver (> 1) accelerates and brakes harder."""
    legs: list[Leg] = []
    now = speed = 0.0
    while True:
        road = ROADS[_road(route, now / seconds)]
        target = rng.uniform(*road.speeds) / 3.6
        cruise = max(4.0, rng.expovariate(1 / road.cruise))
        stop = rng.random() < road.stops
        pause = rng.uniform(5, 35)
        change = abs(target - speed) / _rate(target > speed, briskness)
        halt = target / _rate(False, briskness)
        left = seconds - now - change - halt
        if left < 0:
            break
        now = _leg(legs, now, change, speed, target)
        now = _leg(legs, now, min(cruise, left), target, target)
        speed = target
        if stop:
            now = _leg(legs, now, halt, target, 0.0)
            now = _leg(legs, now, min(pause, seconds - now), 0.0, 0.0)
            speed = 0.0
    now = _leg(legs, now, speed / _rate(False, briskness), speed, 0.0)
    _leg(legs, now, seconds - now, 0.0, 0.0)
    return Profile(legs)


def _rate(faster: bool, briskness: float) -> float:
    return (ACCELERATION if faster else BRAKING) * briskness


def _road(route: str, done: float) -> str:
    parts = ROUTES[route]
    for road, share in parts:
        done -= share
        if done < 0:
            return road
    return parts[-1][0]


def _leg(legs: list[Leg], now: float, seconds: float, v0: float, v1: float) -> float:
    """Append a leg unless it lasts no time; gives its end."""
    if seconds <= 1e-9:
        return now
    legs.append(Leg(now, now + seconds, v0, v1))
    return now + seconds
