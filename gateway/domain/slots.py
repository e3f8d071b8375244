"""Slot arithmetic: which times a workshop can take, and which of them to propose.

Pure: what is taken comes in as intervals. Opening hours and holidays are wall times of the
workshop's zone, durations are real time, so both days of a summer-time change come out right.
At the owner's home a slot is an arrival window: the technician sets out for its beginning, so the job
and the way to the next one are what is taken; the rest of the window is the owner's patience.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import lru_cache
from itertools import islice, pairwise

from gateway.domain.appointment import HomeVisits, Service, Workshop
from gateway.domain.moments import DAY_MS, MINUTE_MS, day_start, instants, local, minutes_of
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


# --- the job ----------------------------------------------------------------------------------


def together(services: Sequence[Service]) -> Service:
    """Several jobs as the one visit that does them all: their minutes and prices summed, every skill and
    part, the longest lead time; at home only if all of them are."""
    first = services[0]
    if len(services) == 1:
        return first
    prices = [(s.price_from, s.price_to, s.currency) for s in services]
    priced = all(a is not None and b is not None and c == first.currency for a, b, c in prices)
    return replace(
        first,
        minutes=sum(s.minutes for s in services),
        price_from=sum(a or 0 for a, _, _ in prices) if priced else None,
        price_to=sum(b or 0 for _, b, _ in prices) if priced else None,
        lead_days=max(s.lead_days for s in services),
        buffer_minutes=max(s.buffer_minutes for s in services),
        skills=tuple(sorted({skill for s in services for skill in s.skills})),
        parts=tuple(part for s in services for part in s.parts),
        at_home=all(s.at_home for s in services),
    )


def wait_days(service: Service) -> int:
    """Whole days before the first slot: planning, and until the last part can be there."""
    return max(service.lead_days, *(part.days for part in service.parts), 0)


def earliest_start(workshop: Workshop, service: Service, now: int) -> int:
    """From when slots may be offered: after `wait_days` in whole local days."""
    days = wait_days(service)
    return day_start(now, workshop.time_zone, days) if days > 0 else now + 1


def bays_for(workshop: Workshop, service: Service) -> tuple[str, ...]:
    """The bays that can do a job; at home these are the technicians who travel."""
    travelling = workshop.home.technicians if workshop.home else ()
    if service.at_home and workshop.home is None:
        return ()
    rest = tuple(bay for bay in workshop.bays if bay not in travelling)
    found = (travelling or workshop.bays) if service.at_home else rest
    needed = set(service.skills)
    return tuple(bay for bay in found if needed <= set(workshop.skills.get(bay, ())))


def buffer_of(workshop: Workshop, service: Service) -> int:
    """How long a bay stays taken after the job, ms; at home that is the way to the next one."""
    travel = workshop.home.travel_minutes if service.at_home and workshop.home else 0
    return max(service.buffer_minutes, travel) * MINUTE_MS


def window_of(workshop: Workshop, service: Service) -> int | None:
    """Length of the arrival window, ms; None at the workshop."""
    return workshop.home.window_minutes * MINUTE_MS if service.at_home and workshop.home else None


def fault(workshop: Workshop) -> str | None:
    """What a workshop states of itself that cannot be meant, with what to do; None when there is nothing."""
    open_on = [*workshop.hours.items(), *((e.date, e.hours) for e in workshop.exceptions)]
    for day, spans in open_on:
        ordered = sorted(spans)
        if any(after[0] < before[1] for before, after in pairwise(ordered)):
            return f"hours of {day}: two of them overlap; write them as one."
    home = workshop.home
    if home and home.radius_km is not None and None in (home.latitude, home.longitude):
        return "home: a radius_km needs the latitude and longitude that it is around."
    if workshop.region is not None and workshop.country is None:
        return "region: name the country that it lies in, too."
    return next(filter(None, (_service_fault(workshop, service) for service in workshop.services)), None)


def _service_fault(workshop: Workshop, service: Service) -> str | None:
    low, high = service.price_from, service.price_to
    if low is not None and high is not None and low > high:
        return f"services: price_to of {service.id} lies below its price_from."
    if service.at_home and workshop.home is None:
        return f"services: {service.id} is done at the owner's home; state home, how technicians come there."
    if not bays_for(workshop, service):
        needed = ", ".join(service.skills) or "it at all"
        return f"services: no bay can do {service.id}; state under skills which one can do {needed}."
    return None


# --- where ------------------------------------------------------------------------------------

EARTH_KM = 6371.0088
_POSTCODE = re.compile(r"\b(?:[A-Z]{1,2}-)?(\d{4,5})\b")


def postcode(address: str) -> str | None:
    """The postcode of an address: its last number of four or five digits."""
    found = _POSTCODE.findall(address)
    return found[-1] if found else None


def reaches(home: HomeVisits, address: str | None, point: tuple[float, float] | None) -> bool:
    """Whether technicians come to an address or a point (latitude, longitude). Where the workshop states no
    area it comes to every address; where it states one, what is not known to lie in it does not."""
    if not address:
        return False
    around = home.radius_km is not None and home.latitude is not None and home.longitude is not None
    if not home.postcodes and not around:
        return True
    code = postcode(address)
    if code is not None and any(code.startswith(begin) for begin in home.postcodes):
        return True
    if not around or point is None or home.latitude is None or home.longitude is None:
        return False
    return distance_km((home.latitude, home.longitude), point) <= (home.radius_km or 0)


def distance_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Great-circle distance by the haversine formula."""
    (phi_a, lam_a), (phi_b, lam_b) = ((math.radians(x), math.radians(y)) for x, y in (a, b))
    h = math.sin((phi_b - phi_a) / 2) ** 2
    h += math.cos(phi_a) * math.cos(phi_b) * math.sin((lam_b - lam_a) / 2) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(h))


# --- when it is open --------------------------------------------------------------------------


@lru_cache(maxsize=256)
def public_holidays(
    country: str, region: str | None, year: int, language: str | None = None
) -> Mapping[date, str]:
    """{date: name} of a country's public holidays, those of one region included. Raises ValueError for a
    country or region that the calendar does not know."""
    import holidays  # an eighth of a second, for those who state a country

    try:
        return dict(holidays.country_holidays(country, subdiv=region, years=year, language=language).items())
    except NotImplementedError as error:
        raise ValueError(f"no public holidays are known for {country} {region or ''}".rstrip()) from error


def closed_for(workshop: Workshop, day: date, language: str | None = None) -> str | None:
    """The reason a workshop states for other hours on a date, or the public holiday; None on usual days."""
    exception = next((e for e in workshop.exceptions if e.date == day.isoformat()), None)
    if exception is not None:
        return exception.reason
    if workshop.country is None:
        return None
    return public_holidays(workshop.country, workshop.region, day.year, language).get(day)


def hours_on(workshop: Workshop, day: date) -> Sequence[tuple[str, str]]:
    """The opening hours of a date: the exception for it, nothing on a holiday, else the weekday's."""
    text = day.isoformat()
    for exception in workshop.exceptions:
        if exception.date == text:
            return exception.hours
    if text in workshop.holidays:
        return ()
    if workshop.country and day in public_holidays(workshop.country, workshop.region, day.year):
        return ()
    return workshop.hours.get(WEEKDAYS[day.weekday()], ())


def openings(workshop: Workshop, day: date) -> list[tuple[int, int, int]]:
    """When it is open on a day: (first minute after midnight, start ms, end ms)."""
    return [
        (
            minutes_of(opens),
            instants(day, minutes_of(opens), workshop.time_zone)[0],
            instants(day, minutes_of(closes), workshop.time_zone)[1],
        )
        for opens, closes in hours_on(workshop, day)
    ]


def starts(workshop: Workshop, service: Service, start: int, end: int) -> Iterator[int]:
    """Every start on the grid in start … end at which the job fits into the opening hours, in order."""
    window = window_of(workshop, service)
    job = service.minutes * MINUTE_MS + (window or 0)
    day = local(start, workshop.time_zone).date()
    while day_start_of(day, workshop) < end:
        for first_minute, opens, closes in openings(workshop, day):
            grid = _grid(workshop, day, first_minute, opens, closes - job, window)
            yield from (at for at in grid if start <= at < end)
        day += timedelta(days=1)


def day_start_of(day: date, workshop: Workshop) -> int:
    """The first instant of a day at the workshop."""
    return instants(day, 0, workshop.time_zone)[0]


def _grid(
    workshop: Workshop, day: date, first_minute: int, opens: int, last: int, step: int | None
) -> Iterator[int]:
    """Half-hours of the wall clock from the opening on, or one arrival window after the other. Zones change
    their clocks by whole half-hours, so steps of real time stay on the grid; an hour that happens twice is
    offered twice, as it is there twice."""
    minute = -(-first_minute // GRID_MINUTES) * GRID_MINUTES
    at = max(instants(day, minute, workshop.time_zone)[0], opens)
    while at <= last:
        yield at
        at += step or GRID_MINUTES * MINUTE_MS


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
        bays = self._bays
        if self._held:
            bays = (*(bay for bay in bays if (bay, start) in self._held), *bays)
        for bay in bays:
            if self._free(bay, start, end):
                return bay
        return None

    def _free(self, bay: str, start: int, end: int) -> bool:
        taken = self._taken.get(bay)
        if taken is None:
            return True
        begins, ends = taken
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
    return list(free_in_order(workshop, service, start, end, busy, mine=mine))


def free_in_order(
    workshop: Workshop,
    service: Service,
    start: int,
    end: int,
    busy: Iterable[Busy],
    *,
    mine: str | None = None,
) -> Iterator[Slot]:
    """The same, one after the other, for who may have seen enough before the end."""
    bays = bays_for(workshop, service)
    if not bays:
        return
    calendar = Calendar(bays, list(busy), mine=mine)
    buffer, window = buffer_of(workshop, service), window_of(workshop, service)
    for at in starts(workshop, service, start, end):
        until = at + service.minutes * MINUTE_MS
        bay = calendar.bay(at, until + buffer)
        if bay is not None:
            arrive = at + window if window else None
            yield Slot(
                workshop=workshop.id, start=at, end=until, bay=bay, buffer_ms=buffer, arrive_until=arrive
            )


def next_free(
    workshop: Workshop, service: Service, now: int, busy: Iterable[Busy], *, days: int = 14
) -> Slot | None:
    """Where somebody who stands at the door can be taken: now if a bay is free until the job is done and the
    workshop is open, else at the next time on the grid. Lead times do not hold, parts are looked for."""
    bays, job, buffer = bays_for(workshop, service), service.minutes * MINUTE_MS, buffer_of(workshop, service)
    taken = list(busy)
    calendar = Calendar(bays, taken)
    today = local(now, workshop.time_zone).date()
    bay = calendar.bay(now, now + job + buffer)
    if bay is not None and any(a <= now and now + job <= b for _, a, b in openings(workshop, today)):
        return Slot(workshop=workshop.id, start=now, end=now + job, bay=bay, buffer_ms=buffer)
    found = free(workshop, service, now + 1, now + days * DAY_MS, taken)
    return found[0] if found else None


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


class _Walls:
    """Slots on the wall clock, looked at no further than somebody asks."""

    def __init__(self, slots: Iterable[Slot], zone_name: str) -> None:
        self._slots, self._zone = iter(slots), zone_name
        self._seen: list[_Local] = []

    def __iter__(self) -> Iterator[_Local]:
        yield from self._seen
        for slot in self._slots:
            wall = local(slot.start, self._zone)
            self._seen.append(_Local(slot, wall.date(), wall.hour))
            yield self._seen[-1]


def choose(slots: Iterable[Slot], zone_name: str, count: int) -> list[Slot]:
    """Proposals that suit different lives: the first free slot, then others on other days and in the
    other half of the day, early or late ones preferred. Fewer when there are no more; in order of time."""
    return choose_surely(slots, zone_name, count)[0]


def choose_surely(slots: Iterable[Slot], zone_name: str, count: int) -> tuple[list[Slot], bool]:
    """The same, and whether it stays so whatever slots follow in time: each meets every wish. `slots` are in
    order of time, and taken no further than needed."""
    offered = _Walls(slots, zone_name)
    chosen, sure = list(islice(offered, 1)), True
    while chosen and len(chosen) < count:
        another, best = _another(offered, chosen)
        if another is None:
            break
        chosen.append(another)
        sure = sure and best
    surely = sure and len(chosen) == count
    return sorted((c.slot for c in chosen), key=lambda slot: slot.start), surely


def _another(offered: Iterable[_Local], chosen: Sequence[_Local]) -> tuple[_Local | None, bool]:
    """The best slot after the first one: the first that meets the most of the wishes, in their order; and
    whether it meets all of them."""
    days = {c.day for c in chosen}
    near = chosen[0].day + timedelta(days=NEAR_DAYS)
    apart = other_day = other_half = None
    for one in offered:
        if not one.apart_from(chosen):
            continue
        apart = apart or one
        if one.day in days:
            continue
        other_day = other_day or one
        if one.day > near:
            break
        if one.morning == chosen[-1].morning:
            continue
        if one.edge:
            return one, True
        other_half = other_half or one
    return other_half or other_day or apart, False
