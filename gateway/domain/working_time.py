"""Working time: deadlines that people have to keep, counted in the hours in which they work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

from gateway.domain.moments import HOUR_MS, instants, local, minutes_of

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
FARTHEST_DAYS = 400
"""So many days are looked through; who never works has this long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkingTime:
    """When the operator's people work, on the wall clock of their zone."""

    begin: str = "09:00"
    end: str = "17:00"
    days: tuple[str, ...] = ("mon", "tue", "wed", "thu", "fri")
    zone: str = "Europe/Berlin"
    country: str = ""
    """whose public holidays are free: "DE", or "DE-HH" with the region; empty for none"""

    def after(self, at: int, hours: float) -> int:
        """The instant at which so many working hours have passed since `at`."""
        left = round(hours * HOUR_MS)
        last = at
        for begin, end in self._spans(at):
            start = max(begin, at)
            if start >= end:
                continue
            if start + left <= end:
                return start + left
            left -= end - start
            last = end
        return last + left

    def _spans(self, at: int) -> Iterator[tuple[int, int]]:
        first = local(at, self.zone).date()
        for ahead in range(FARTHEST_DAYS):
            day = first + timedelta(days=ahead)
            if self._works(day):
                yield (
                    instants(day, minutes_of(self.begin), self.zone)[0],
                    instants(day, minutes_of(self.end), self.zone)[1],
                )

    def _works(self, day: date) -> bool:
        return WEEKDAYS[day.weekday()] in self.days and day not in _free_days(self.country, day.year)


@lru_cache(maxsize=64)
def _free_days(country: str, year: int) -> frozenset[date]:
    """Public holidays; none for a country that `holidays` does not know, for a deadline must never stall."""
    if not country:
        return frozenset()
    import holidays  # loads slowly, and few processes need it

    name, _, region = country.partition("-")
    try:
        return frozenset(holidays.country_holidays(name, subdiv=region or None, years=year))
    except NotImplementedError:
        return frozenset()
