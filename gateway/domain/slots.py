"""Slot arithmetic: which times a workshop can take, and which of them to propose.

Pure: what is taken comes in as intervals. Opening hours and holidays are wall times of the
workshop's zone, durations are real time, so both days of a summer-time change come out right.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from gateway.domain.appointment import Service, Workshop
from gateway.domain.moments import MINUTE_MS, day_start, instants, local, minutes_of
from gateway.domain.touchpoint import Slot

GRID_MINUTES = 30
"""Slots begin on the half-hours of the workshop's wall clock."""

NOON, EARLY, LATE = 12, 9, 16
"""Hours: before noon is the morning; before nine or from sixteen one need not leave work in the middle."""

NEAR_DAYS = 7
"""A second proposal of another kind is looked for so many days after the first, before any other is taken."""

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Busy = tuple[str, int, int, str | None]
"""(bay, start, end, touchpoint of a hold or None), as `Workshops.busy` gives it."""


def earliest_start(workshop: Workshop, service: Service, now: int) -> int:
    """From when slots may be offered: after the service's lead time in whole local days."""
    return day_start(now, workshop.time_zone, service.lead_days) if service.lead_days > 0 else now + 1


def openings(workshop: Workshop, day: date) -> list[tuple[int, int, int]]:
    """When it is open on a day: (first minute after midnight, start ms, end ms)."""
    if day.isoformat() in workshop.holidays:
        return []
    hours = workshop.hours.get(WEEKDAYS[day.weekday()], ())
    return [
        (
            minutes_of(opens),
            instants(day, minutes_of(opens), workshop.time_zone)[0],
            instants(day, minutes_of(closes), workshop.time_zone)[1],
        )
        for opens, closes in hours
    ]


def starts(workshop: Workshop, service: Service, start: int, end: int) -> Iterator[int]:
    """Every start on the grid in start … end at which the job fits into the opening hours, in order."""
    day = local(start, workshop.time_zone).date()
    while day_start_of(day, workshop) < end:
        for first_minute, opens, closes in openings(workshop, day):
            yield from (
                at
                for at in _grid(workshop, day, first_minute, opens, closes - service.minutes * MINUTE_MS)
                if start <= at < end
            )
        day += timedelta(days=1)


def day_start_of(day: date, workshop: Workshop) -> int:
    """The first instant of a day at the workshop."""
    return instants(day, 0, workshop.time_zone)[0]


def _grid(workshop: Workshop, day: date, first_minute: int, opens: int, last: int) -> Iterator[int]:
    """Half-hours of the wall clock from the opening on. Zones change their clocks by whole half-hours, so
    steps of real time stay on the grid; an hour that happens twice is offered twice, as it is there twice."""
    minute = -(-first_minute // GRID_MINUTES) * GRID_MINUTES
    at = max(instants(day, minute, workshop.time_zone)[0], opens)
    while at <= last:
        yield at
        at += GRID_MINUTES * MINUTE_MS


class Calendar:
    """What is taken, by bay."""

    def __init__(self, bays: Sequence[str], busy: Iterable[Busy], *, mine: str | None = None) -> None:
        """Holds of the touchpoint `mine` take nothing from it; its bays come first where it holds them."""
        self._bays = bays
        self._taken: dict[str, tuple[list[int], list[int]]] = {}
        self._held = {(bay, start) for bay, start, _, holder in busy if holder is not None and holder == mine}
        by_bay: dict[str, list[tuple[int, int]]] = {}
        for bay, start, end, holder in busy:
            if holder is None or holder != mine:
                by_bay.setdefault(bay, []).append((start, end))
        for bay, intervals in by_bay.items():
            self._taken[bay] = _merged(intervals)

    def bay(self, start: int, end: int) -> str | None:
        """A bay that is free from start to end, None when there is none."""
        held = [bay for bay in self._bays if (bay, start) in self._held]
        return next((bay for bay in (*held, *self._bays) if self._free(bay, start, end)), None)

    def _free(self, bay: str, start: int, end: int) -> bool:
        begins, ends = self._taken.get(bay, ([], []))
        before = bisect_right(begins, start) - 1
        after = before + 1
        return (before < 0 or ends[before] <= start) and (after >= len(begins) or begins[after] >= end)


def _merged(intervals: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    begins: list[int] = []
    ends: list[int] = []
    for start, end in sorted(intervals):
        if ends and start < ends[-1]:
            ends[-1] = max(ends[-1], end)
        else:
            begins.append(start)
            ends.append(end)
    return begins, ends


def free(
    workshop: Workshop,
    service: Service,
    start: int,
    end: int,
    busy: Iterable[Busy],
    *,
    mine: str | None = None,
) -> list[Slot]:
    """The free slots in start … end, one for each start, in order."""
    calendar = Calendar(workshop.bays, list(busy), mine=mine)
    found = []
    for at in starts(workshop, service, start, end):
        until = at + service.minutes * MINUTE_MS
        bay = calendar.bay(at, until)
        if bay is not None:
            found.append(Slot(workshop=workshop.id, start=at, end=until, bay=bay))
    return found


@dataclass(frozen=True, slots=True)
class _Local:
    """A slot on the workshop's wall clock."""

    slot: Slot
    day: date
    hour: int

    @property
    def morning(self) -> bool:
        return self.hour < NOON

    @property
    def edge(self) -> bool:
        return not EARLY <= self.hour < LATE

    def apart_from(self, others: Sequence[_Local]) -> bool:
        return all(self.slot.start >= o.slot.end or self.slot.end <= o.slot.start for o in others)


def choose(slots: Sequence[Slot], zone_name: str, count: int) -> list[Slot]:
    """Proposals that suit different lives: the first free slot, then others on other days and in the
    other half of the day, early or late ones preferred. Fewer when there are no more; in order of time."""
    walls = [(slot, local(slot.start, zone_name)) for slot in slots]
    offered = [_Local(slot, wall.date(), wall.hour) for slot, wall in walls]
    chosen = offered[:1]
    while chosen and len(chosen) < count:
        another = _another(offered, chosen)
        if another is None:
            break
        chosen.append(another)
    return sorted((c.slot for c in chosen), key=lambda slot: slot.start)


def _another(offered: Sequence[_Local], chosen: Sequence[_Local]) -> _Local | None:
    """The best slot after the first one: the first that meets the most of the wishes, in their order."""
    days = {c.day for c in chosen}
    near = chosen[0].day + timedelta(days=NEAR_DAYS)
    apart = [one for one in offered if one.apart_from(chosen)]
    other_day = [one for one in apart if one.day not in days]
    other_half = [one for one in other_day if one.morning != chosen[-1].morning]
    at_the_edge = [one for one in other_half if one.edge]
    for wish in (at_the_edge, other_half, other_day):
        if wish and wish[0].day <= near:
            return wish[0]
    return next(iter((*other_day, *apart)), None)
