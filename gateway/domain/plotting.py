"""Readings as the points that charts draw: means over stretches of time, and the last value as it is.

A stretch is one of a few fixed lengths and begins at a multiple of it, so that what is drawn, and what is
forecast from it, changes with the readings and not with the moment at which somebody looks.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeGuard

from gateway.domain.moments import HOUR_MS
from rules.readings import usable_number

Point = tuple[int, float]
"""(ts, value)"""
Interval = tuple[int | None, int | None]
"""(since, until), ms, half open; None: no end on that side"""

Wanted = tuple[str, Sequence[str], Sequence[Interval]]
"""(device, signals, the times whose readings may be shown)"""
Courses = Mapping[str, Sequence[Point]]
"""{signal: its points}, of those that have any"""

PLOTTED = 220
"""From the first reading until now there are at most about so many stretches."""
STRETCHES_MS = tuple(HOUR_MS * h // 60 for h in (1, 5, 15, 60, 180, 360, 720, 1440))


def stretch(begin: int, now: int) -> int:
    """How long the stretches are of a course that begins at `begin`, ms."""
    return next((every for every in STRETCHES_MS if every * PLOTTED >= now - begin), STRETCHES_MS[-1])


def windows(within: Sequence[Interval], now: int, back: int) -> list[tuple[int, int]]:
    """start <= ts < end of what lies in these intervals, no further back than `back` and not after now."""
    found = [
        (max(now - back, since or 0), min(now + 1, until if until is not None else now + 1))
        for since, until in within
    ]
    return [(start, end) for start, end in found if start < end]


def number(value: object) -> TypeGuard[int | float]:
    """Whether a value can be drawn: no device measures what is so large that its sums are no numbers."""
    return usable_number(value) is not None


class Plot:
    """Takes one signal's readings in the order of their time and gives its points."""

    __slots__ = ("_at", "_count", "_last", "_now", "_total", "begin", "every", "points")

    def __init__(self, now: int) -> None:
        self._now = now
        self.points: list[Point] = []
        self.begin: int | None = None
        """the first reading of all windows"""
        self.every = 0
        """the length of a stretch, ms; 0 before the first reading"""
        self._clear()

    def _clear(self) -> None:
        self._at: int | None = None
        self._total, self._count = 0.0, 0
        self._last: tuple[int, Any] | None = None

    def add(self, ts: int, value: Any, end: int) -> None:
        """The next reading of the window that ends at `end`."""
        if self.begin is None:
            self.begin, self.every = ts, stretch(ts, self._now)
        at = ts - ts % self.every
        if at != self._at:
            self._finish(end)
            self._at, self._total, self._count = at, 0.0, 0
        if number(value):
            self._total += value
            self._count += 1
        self._last = (ts, value)

    def _finish(self, end: int) -> None:
        if self._count and self._at is not None and self._at + self.every <= end:
            self.points.append((self._at + self.every // 2, self._total / self._count))

    def close(self, end: int) -> None:
        """The window is over: its last stretch where that is whole, and the last value where it is not."""
        self._finish(end)
        if self._last is not None:
            ts, value = self._last
            if ts >= self._now - self._now % self.every and number(value):
                self.points.append((ts, float(value)))
        self._clear()


class Plotting:
    """Several signals of one product at once."""

    def __init__(self, signals: Sequence[str], now: int) -> None:
        self._now = now
        self._plots = {name: Plot(now) for name in signals}

    def take(self, ts: int, values: Mapping[str, Any], end: int) -> None:
        """The next reading of the window that ends at `end`."""
        for name, value in values.items():
            self._plots[name].add(ts, value, end)

    def close(self, end: int) -> None:
        """The window is over."""
        for plot in self._plots.values():
            plot.close(end)

    def points(self) -> Courses:
        """What was taken, drawn."""
        return {name: plot.points for name, plot in self._plots.items() if plot.points}

    def until(self, back: int) -> int:
        """Up to which moment the same readings give the same points: until a stretch is over, the first
        reading lies too far back, or the stretches become longer."""
        moments = []
        for plot in self._plots.values():
            if plot.begin is not None:
                moments += [
                    self._now - self._now % plot.every + plot.every - 2,
                    plot.begin + back,
                    plot.begin + plot.every * PLOTTED,
                ]
        return min(moments, default=self._now + STRETCHES_MS[0])


class Kept:
    """Courses that were drawn, each for as long as it holds; those used longest ago go first.

    Points take 16 bytes each, so that a thousand products fit into a few megabytes."""

    def __init__(self, most: int) -> None:
        """`most`: points that are kept."""
        self._most, self._points = most, 0
        self._kept: dict[Hashable, tuple[Hashable, int, int, dict[str, tuple[array[int], array[float]]]]] = {}

    def get(self, key: Hashable, as_of: Hashable, now: int) -> Courses | None:
        """What was kept, where it is as of the same state of the store and holds at this moment."""
        found = self._kept.pop(key, None)
        if found is None:
            return None
        known, since, until, courses = found
        if known != as_of or not since <= now <= until:
            self._points -= _size(courses)
            return None
        self._kept[key] = found
        return {name: list(zip(times, values, strict=True)) for name, (times, values) in courses.items()}

    def put(self, key: Hashable, as_of: Hashable, now: int, until: int, courses: Courses) -> None:
        """Keep what holds from now until then."""
        if until <= now:
            return
        packed = {
            name: (array("q", [ts for ts, _ in points]), array("d", [value for _, value in points]))
            for name, points in courses.items()
        }
        self._kept[key] = (as_of, now, until, packed)
        self._points += _size(packed)
        while self._points > self._most and self._kept:
            self._points -= _size(self._kept.pop(next(iter(self._kept)))[3])


def _size(courses: Mapping[str, tuple[array[int], array[float]]]) -> int:
    """Points, and something for what holds them."""
    return 20 + sum(len(times) for times, _ in courses.values())
