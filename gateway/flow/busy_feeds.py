"""Workshops' own calendars, read on a schedule: what is taken there is offered to nobody.

A calendar that cannot be read changes nothing: the times stand as they were, and workshop and operator
are told since when.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from time import monotonic
from typing import Protocol

import recurring_ical_events
import structlog
from icalendar import Calendar, Component

from gateway.domain.appointment import BusyTime, Workshop
from gateway.domain.calendars import CalendarSettings
from gateway.domain.ical import ItipError, instant, tame
from gateway.domain.moments import DAY_MS
from gateway.domain.policy import Policy
from gateway.ports import ChangeFeed, Clock, Database, DatabaseUnavailableError, Records

SOURCE = "feed"
"""Under which name its times are kept."""

AHEAD_DAYS = 60
"""So far ahead slots are proposed."""

REPEATING_MOST = 2_000
"""Repeating events in one calendar; unfolding them takes time."""

UNFOLD_MOST_S = 20.0
"""So long repetitions of one calendar are unfolded; longer ones are said to be too large."""

LAST_YEAR = 2200
"""What ends later ends then."""

WHOLE_EVERY_MS = DAY_MS // 2
"""A calendar that did not change is read whole again after this, for the days ahead have moved on."""

AFTER_TROUBLE_MS = 60_000

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """What a calendar's server gave."""

    text: str | None = None
    """the calendar; None when it did not change, or could not be had"""
    etag: str | None = None
    modified: str | None = None
    problem: str | None = None
    """a text under calendars.busy.problem"""
    detail: str = ""


class Calendars(Protocol):
    """Where calendars are fetched from."""

    async def fetch(self, url: str, *, etag: str | None, modified: str | None) -> Fetched:
        """Never raises for what the network does."""
        ...


# --- what is taken ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Taken:
    """One event that takes up time."""

    start: int
    end: int
    bay: str | None
    uid: str


def unfold(
    text: str,
    workshop: Workshop,
    now: int,
    days: int = AHEAD_DAYS,
    *,
    most_s: float = UNFOLD_MOST_S,
    seconds: Callable[[], float] = monotonic,
) -> list[Taken]:
    """What is taken in the days ahead, repetitions unfolded. An event whose place, category or resource is a
    bay's name takes that bay, any other the whole workshop. Raises ItipError, also when it takes longer than
    `most_s` by the clock `seconds`."""
    tamed = tame(text)
    if tamed.upper().count("\nRRULE") > REPEATING_MOST:
        raise ItipError("too_complex")
    try:
        calendar = Calendar.from_ical(tamed)
        start = datetime.fromtimestamp(now // 1000, UTC)
        end, until = start + timedelta(days=days), seconds() + most_s
        found: list[Component] = []
        for series in _series(calendar):
            if seconds() > until:
                raise ItipError("too_complex")
            found += recurring_ical_events.of(series, skip_bad_series=True).between(start, end)
        return [taken for event in found if (taken := _taken(event, workshop)) is not None]
    except ItipError:
        raise
    except Exception as error:  # whatever libraries make of others' text
        raise ItipError("unreadable") from error


def _series(calendar: Calendar) -> Iterable[Calendar]:
    """What does not repeat as one calendar, and each series as one of its own: one alone is done in seconds,
    whatever it says."""
    once, repeating = Calendar(), {str(e.get("uid", "")) for e in calendar.walk("VEVENT") if "RRULE" in e}
    each = {uid: Calendar() for uid in repeating}
    for event in calendar.walk("VEVENT"):
        _within_reach(event)
        each.get(str(event.get("uid", "")), once).add_component(event)
    return [once, *each.values()]


def _within_reach(event: Component) -> None:
    """An event from the year 1, or until 9999, as one that computers can reckon with."""
    for name, least, most in (("dtstart", 1900, 9999), ("dtend", 0, LAST_YEAR)):
        try:
            at = getattr(event.get(name), "dt", None)
        except ValueError:  # what is no time is left out when it is unfolded
            continue
        if isinstance(at, date) and not least <= at.year <= most:
            year = max(least, min(at.year, most))
            event.pop(name)
            event.add(name, at.replace(year=year, month=1, day=1))


def _taken(event: Component, workshop: Workshop) -> Taken | None:
    if str(event.get("status", "")).upper() == "CANCELLED":
        return None
    if str(event.get("transp", "")).upper() == "TRANSPARENT":
        return None
    if str(event.get("x-microsoft-cdo-busystatus", "")).upper() == "FREE":
        return None
    start, end = _ms(event, "dtstart", workshop), _ms(event, "dtend", workshop)
    if start is None or end is None or end <= start:
        return None
    return Taken(start, end, _bay(event, workshop), str(event.get("uid", "")))


def _ms(event: Component, name: str, workshop: Workshop) -> int | None:
    at = getattr(event.get(name), "dt", None)
    if isinstance(at, datetime):
        return instant(at, workshop.time_zone)
    if isinstance(at, date):  # whole days, on the workshop's clock
        return instant(datetime.combine(at, time()), workshop.time_zone)
    return None


def _bay(event: Component, workshop: Workshop) -> str | None:
    named = set()
    for key in ("location", "resources", "categories"):
        values = event.get(key, [])
        for value in values if isinstance(values, list) else [values]:
            named |= {str(part).strip().casefold() for part in getattr(value, "cats", [value])}
    return next((bay for bay in workshop.bays if bay.casefold() in named), None)


def merged(workshop: str, taken: Iterable[Taken]) -> list[BusyTime]:
    """The times bay by bay, those that touch as one."""

    def place(one: Taken) -> str:
        return one.bay or ""

    busy: list[BusyTime] = []
    for bay, group in groupby(sorted(taken, key=lambda t: (place(t), t.start)), key=place):
        spans: list[list[int]] = []
        for one in group:
            if spans and one.start <= spans[-1][1]:
                spans[-1][1] = max(spans[-1][1], one.end)
            else:
                spans.append([one.start, one.end])
        busy += [
            BusyTime(workshop=workshop, start=start, end=end, source=SOURCE, bay=bay or None)
            for start, end in spans
        ]
    return busy


# --- one calendar -----------------------------------------------------------------------------


def apply(
    records: Records,
    settings: CalendarSettings,
    fetched: Fetched,
    taken: Sequence[Taken] | None,
    now: int,
    policy: Policy,
) -> None:
    """Keep what was read. Settings that changed meanwhile are left alone: they are due again anyway."""
    present = records.calendars.settings(settings.workshop)
    if present.busy_url != settings.busy_url:
        return
    after = replace(present, busy_due_at=now + policy.busy_every_ms)
    if fetched.problem is not None:
        after = replace(after, busy_problem=fetched.problem, busy_detail=fetched.detail[:200])
    else:
        after = replace(after, busy_problem=None, busy_detail=None, busy_taken_at=now)
    if taken is not None:
        others = [one for one in taken if not _ours(records, one.uid, policy)]
        records.workshops.put_busy(settings.workshop, SOURCE, merged(settings.workshop, others))
        after = replace(after, busy_etag=fetched.etag, busy_modified=fetched.modified, busy_count=len(others))
    records.calendars.put_settings(after)


def _ours(records: Records, uid: str, policy: Policy) -> bool:
    """Whether an event is a visit that we invited to: it stands here already."""
    appointment, _, domain = uid.partition("@")
    if domain == policy.calendar_domain:
        return True
    event = records.calendars.event(appointment) if len(appointment) == 36 else None
    return event is not None and event.uid == uid


def choose(records: Records, workshop: str, url: str | None, now: int) -> CalendarSettings:
    """Read this calendar from now on, or none; times of another one are given up."""
    settings = records.calendars.settings(workshop)
    if settings.busy_url == url:
        return settings
    chosen = replace(
        settings,
        busy_url=url,
        busy_etag=None,
        busy_modified=None,
        busy_due_at=now if url else None,
        busy_taken_at=None,
        busy_count=0,
        busy_problem=None,
        busy_detail=None,
    )
    records.workshops.put_busy(workshop, SOURCE, [])
    records.calendars.put_settings(chosen)
    return chosen


# --- the loop ---------------------------------------------------------------------------------


class BusyFeeds:
    """Reads calendars when they are due."""

    def __init__(self, database: Database, clock: Clock, calendars: Calendars, policy: Policy) -> None:
        self._database = database
        self._clock = clock
        self._calendars = calendars
        self._policy = policy

    async def run(self) -> None:
        """Until cancelled."""
        changes = self._database.watch("calendar")
        try:
            while True:
                try:
                    await self._round(changes)
                except DatabaseUnavailableError as error:
                    log.warning("calendars_unavailable", why=str(error))
                    await self._clock.wait(asyncio.Event(), self._clock.now() + AFTER_TROUBLE_MS)
        finally:
            changes.close()

    async def _round(self, changes: ChangeFeed) -> None:
        changes.take()
        while await self.step():
            changes.take()
        due = await self._database.read(lambda records: records.calendars.next_feed())
        await self._clock.wait(changes.event(), due)

    async def step(self) -> int:
        """Read what is due; gives how many."""
        now = self._clock.now()
        due = await self._database.read(lambda records: records.calendars.due_feeds(now))
        await asyncio.gather(*(self._read(settings, now) for settings in due))
        return len(due)

    async def _read(self, settings: CalendarSettings, now: int) -> None:
        whole = (settings.busy_taken_at or 0) // WHOLE_EVERY_MS != now // WHOLE_EVERY_MS
        fetched = await self._calendars.fetch(
            settings.busy_url or "",
            etag=None if whole else settings.busy_etag,
            modified=None if whole else settings.busy_modified,
        )
        taken = None
        if fetched.text is not None:
            workshop = await self._database.read(lambda r: r.workshops.get(settings.workshop))
            try:
                taken = await asyncio.to_thread(unfold, fetched.text, workshop, now)
            except ItipError as error:
                problem = "too_large" if error.reason == "too_complex" else "unreadable"
                fetched = replace(fetched, problem=problem)
        if fetched.problem is not None:
            log.warning("calendar_not_read", workshop=settings.workshop, problem=fetched.problem)
        await self._database.write(
            lambda records: apply(records, settings, fetched, taken, now, self._policy)
        )
