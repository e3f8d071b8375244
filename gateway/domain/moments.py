"""Local time: quiet hours, half-days, and what a wall clock shows, across summer-time changes.

Instants are UTC milliseconds; wall times are "HH:MM" in an IANA time zone. Where a wall time happens
twice or never (the hour of a change), an interval is taken in its longer reading, so that nobody is
disturbed early because a clock was put back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000


@lru_cache(maxsize=512)
def zone(name: str) -> tzinfo:
    """The time zone of that name; UTC for an unknown one, because a finding must never stall on it."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return UTC


def known_zone(name: str) -> bool:
    """Whether `name` is an IANA time zone; for those who take names in."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def local(at: int, zone_name: str) -> datetime:
    """The wall clock of a zone at an instant."""
    return datetime.fromtimestamp(at / 1000, zone(zone_name))


def minutes_of(clock: str) -> int:
    """Minutes since midnight of "HH:MM"; "24:00" is the end of the day. Raises ValueError."""
    hours, _, minutes = clock.partition(":")
    total = int(hours) * 60 + int(minutes)
    if not (len(minutes) == 2 and 0 <= int(minutes) < 60 and 0 <= total <= 24 * 60):
        raise ValueError(f"{clock!r} is no local time HH:MM")
    return total


def is_clock(text: str) -> bool:
    """Whether `text` is a local time HH:MM."""
    try:
        minutes_of(text)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=8_192)
def instants(day: date, minutes: int, zone_name: str) -> tuple[int, int]:
    """The earliest and the latest instant that the wall time `minutes` after midnight of `day` can mean."""
    wall = datetime(day.year, day.month, day.day) + timedelta(minutes=minutes)  # noqa: DTZ001  # made aware below
    readings = sorted(
        int(wall.replace(tzinfo=zone(zone_name), fold=fold).timestamp() * 1000) for fold in (0, 1)
    )
    return readings[0], readings[1]


def local_ms(text: str, zone_name: str) -> int:
    """The first instant of "2026-11-24T08:00" on a zone's wall clock. Raises ValueError."""
    wall = datetime.fromisoformat(text)
    if wall.tzinfo is not None:
        return int(wall.timestamp() * 1000)
    return instants(wall.date(), wall.hour * 60 + wall.minute, zone_name)[0]


def day_start(at: int, zone_name: str, days: int = 0) -> int:
    """The first instant of the local day of `at`, or of the day that many `days` later."""
    return instants(local(at, zone_name).date() + timedelta(days=days), 0, zone_name)[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class QuietHours:
    """The daily time in which an owner is not disturbed; begin == end means none."""

    begin: str
    """local time HH:MM"""
    end: str
    """local time HH:MM, on the next day when it is not after `begin`"""
    zone: str
    """IANA name"""

    def _intervals(self, at: int) -> Iterator[tuple[int, int]]:
        """Quiet intervals around `at`, in order: those that begin yesterday, today, tomorrow."""
        begin, end = minutes_of(self.begin), minutes_of(self.end)
        if begin == end:
            return
        today = local(at, self.zone).date()
        for day in (today - timedelta(days=1), today, today + timedelta(days=1)):
            last = day if end > begin else day + timedelta(days=1)
            yield instants(day, begin, self.zone)[0], instants(last, end, self.zone)[1]

    def until(self, at: int) -> int | None:
        """When the quiet hours that hold at `at` end, ms; None outside of them."""
        return next((last for first, last in self._intervals(at) if first <= at < last), None)

    def next_begin(self, at: int) -> int | None:
        """When the next quiet hours begin after `at`, ms; None when there are none."""
        return next((first for first, _ in self._intervals(at) if first > at), None)

    def moved_out(self, at: int) -> int:
        """`at`, or the end of the quiet hours it lies in."""
        return self.until(at) or at
