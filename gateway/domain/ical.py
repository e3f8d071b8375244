"""Events as others' calendars read and write them: iCalendar (RFC 5545) and iTIP (RFC 5546).

Writing goes through the icalendar library; time zones are written here, because calendars want the rule
of a summer time, and its onset on the clock that ran before it (section 3.6.5). What comes in is hostile
until it was read: `tame` takes out what would make a reader work without end.

ItipError   a calendar object that says nothing we can use; `reason` is a text under calendars.mail.reason
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from icalendar import (
    Alarm,
    Calendar,
    Component,
    Event,
    Timezone,
    TimezoneDaylight,
    TimezoneStandard,
    vCalAddress,
    vDuration,
    vRecur,
    vText,
    vUri,
)

UNSEEN = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]"
PRODID = "-//Touchpoint//Gateway//EN"
CALENDAR_MOST = 262_144
"""characters of a calendar object in a mail; an invitation has two thousand"""
COMPONENTS_MOST = 20_000
DEPTH_MOST = 4
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
ENDLESS = re.compile(r"^RRULE[^:\n]*:.*FREQ=(SECONDLY|MINUTELY|HOURLY)", re.IGNORECASE)
"""Repetitions that no visit has, and that are millions of events"""
TIMES_OF_DAY = re.compile(r"BY(?:HOUR|MINUTE|SECOND)=([0-9,]*)")
TIMES_A_DAY_MOST = 24
"""A rule by the day that names more times of the day is one by the minute"""
NEVER_ON = re.compile(r"INTERVAL=0*(?![0-9])")
"""An interval of nothing never gets on (section 3.3.10 asks for a positive one)"""


class ItipError(Exception):
    """A calendar object that says nothing we can use."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


# --- what we write ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """ORGANIZER or ATTENDEE."""

    mail: str
    name: str
    partstat: str | None = None
    """NEEDS-ACTION, ACCEPTED, …; None for an organizer"""
    rsvp: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Visit:
    """One appointment as one event."""

    uid: str
    sequence: int
    stamp: int
    """DTSTAMP, ms"""
    start: int
    end: int
    zone: str
    """in whose clock start and end are written"""
    status: str
    """TENTATIVE, CONFIRMED, CANCELLED"""
    summary: str
    description: str = ""
    location: str = ""
    url: str = ""
    organizer: Person | None = None
    attendee: Person | None = None
    alarm_minutes: int | None = None
    """so long before it a reminder rings; None for none"""
    comment: str = ""


def calendar(
    visits: Sequence[Visit],
    *,
    method: str | None = None,
    name: str | None = None,
    refresh_minutes: int | None = None,
) -> bytes:
    """The events with the time zones they are written in; `method` makes it an iTIP message, `name` and
    `refresh_minutes` a feed (RFC 7986 sections 5.1, 5.7, and the X- names that older calendars read)."""
    made = Calendar()
    made.add("prodid", PRODID)
    made.add("version", "2.0")
    made.add("calscale", "GREGORIAN")
    if method:
        made.add("method", method)
    if name:
        made.add("name", name)
        made.add("x-wr-calname", name)
    if refresh_minutes:
        every = vDuration(timedelta(minutes=refresh_minutes))
        every.params["VALUE"] = "DURATION"
        made["refresh-interval"] = every
        made["x-published-ttl"] = vDuration(timedelta(minutes=refresh_minutes))
    for zone in dict.fromkeys(visit.zone for visit in visits if visit.zone != "UTC"):
        years = [_at(visit.start, "UTC").year for visit in visits if visit.zone == zone]
        made.add_component(vtimezone(zone, min(years), max(years)))
    for visit in visits:
        made.add_component(_event(visit))
    return bytes(made.to_ical())


def _event(visit: Visit) -> Event:
    event = Event()
    event.add("uid", visit.uid)
    event.add("sequence", visit.sequence)
    event.add("dtstamp", _at(visit.stamp, "UTC"))
    event.add("last-modified", _at(visit.stamp, "UTC"))
    event.add("dtstart", _at(visit.start, visit.zone))
    event.add("dtend", _at(visit.end, visit.zone))
    event.add("summary", _plain(visit.summary))
    event.add("status", visit.status)
    event.add("transp", "TRANSPARENT" if visit.status == "CANCELLED" else "OPAQUE")
    for key, text in (("description", visit.description), ("location", visit.location)):
        if text:
            event.add(key, _plain(text))
    if visit.comment:
        event.add("comment", _plain(visit.comment))
    if visit.url:
        event["url"] = vUri(visit.url)
    if visit.organizer:
        event["organizer"] = _address(visit.organizer)
    if visit.attendee:
        event["attendee"] = _address(visit.attendee)
    if visit.alarm_minutes is not None and visit.status != "CANCELLED":
        event.add_component(_alarm(visit.summary, visit.alarm_minutes))
    return event


def _alarm(text: str, minutes: int) -> Alarm:
    alarm = Alarm()
    alarm.add("action", "DISPLAY")
    alarm.add("trigger", timedelta(minutes=-minutes))
    alarm.add("description", _plain(text))
    return alarm


def _address(person: Person) -> vCalAddress:
    address = vCalAddress(f"mailto:{person.mail}")
    address.params["CN"] = vText(re.sub(r"[\t\n\"]|" + UNSEEN, " ", person.name))
    if person.partstat is not None:
        address.params["CUTYPE"] = vText("INDIVIDUAL")
        address.params["ROLE"] = vText("REQ-PARTICIPANT")
        address.params["PARTSTAT"] = vText(person.partstat)
        address.params["RSVP"] = vText("TRUE" if person.rsvp else "FALSE")
    return address


def _plain(text: str) -> str:
    """No-break spaces become plain ones, control characters none: calendars show both oddly, and some take
    what Unicode calls a line separator for the end of a line."""
    return re.sub(UNSEEN, "", text.replace("\u00a0", " ").replace("\u202f", " "))


def _at(ms: int, zone: str) -> datetime:
    return datetime.fromtimestamp(ms // 1000, UTC if zone == "UTC" else ZoneInfo(zone))


# --- time zones -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Onset:
    """A change of the clock: when, on the clock before it."""

    local: datetime
    before: timedelta
    after: timedelta
    name: str
    summer: bool


@lru_cache(maxsize=256)
def vtimezone(zone: str, first_year: int, last_year: int) -> Timezone:
    """The VTIMEZONE of a zone, good from the year before the first to the year after the last, and for
    ever where its summer time follows a rule."""
    made = Timezone()
    made.add("tzid", zone)
    onsets = _onsets(zone, first_year - 1, max(last_year + 1, first_year + 3))
    if not onsets:
        began = datetime(first_year - 1, 1, 1, tzinfo=ZoneInfo(zone))
        offset = began.utcoffset() or timedelta()
        steady = _Onset(began.replace(tzinfo=None), offset, offset, began.tzname() or zone, False)
        made.add_component(_observance([steady]))
    kinds = dict.fromkeys((onset.before, onset.after, onset.name, onset.summer) for onset in onsets)
    for kind in kinds:
        same = [o for o in onsets if (o.before, o.after, o.name, o.summer) == kind]
        made.add_component(_observance(same))
    return made


def _onsets(zone: str, first_year: int, last_year: int) -> list[_Onset]:
    """Every change of the clock in these years."""
    info, day = ZoneInfo(zone), timedelta(days=1)
    at, end = datetime(first_year, 1, 1, tzinfo=UTC), datetime(last_year + 1, 1, 1, tzinfo=UTC)
    found = []
    while at < end:
        if _offset(at, info) != _offset(at + day, info):
            found.append(_onset(at, info))
        at += day
    return found


def _onset(day: datetime, info: ZoneInfo) -> _Onset:
    before, low, high = _offset(day, info), 0, 24 * 60
    while high - low > 1:  # the minute in which the clock changes
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(_later(day, middle), info) == before else (low, middle)
    at = _later(day, high)
    after = at.astimezone(info)
    local = (at + before).replace(tzinfo=None)
    return _Onset(local, before, _offset(at, info), after.tzname() or "", bool(after.dst()))


def _later(at: datetime, minutes: int) -> datetime:
    return at + timedelta(minutes=minutes)


def _offset(at: datetime, info: ZoneInfo) -> timedelta:
    return at.astimezone(info).utcoffset() or timedelta()


def _observance(onsets: Sequence[_Onset]) -> Component:
    first = onsets[0]
    part = TimezoneDaylight() if first.summer else TimezoneStandard()
    part.add("dtstart", first.local)
    part.add("tzoffsetfrom", first.before)
    part.add("tzoffsetto", first.after)
    part.add("tzname", first.name)
    rule = _rule(onsets)
    if rule is not None:
        part.add("rrule", rule)
    elif len(onsets) > 1:
        part.add("rdate", [onset.local for onset in onsets[1:]])
    return part


def _rule(onsets: Sequence[_Onset]) -> vRecur | None:
    """Its yearly rule: the last, or the same, weekday of one month; None where there is none."""
    days = [onset.local for onset in onsets]
    years = [day.year for day in days]
    if len(days) < 3 or years != list(range(years[0], years[0] + len(years))):
        return None
    if len({(day.month, day.weekday(), day.time()) for day in days}) != 1:
        return None
    weekday = WEEKDAYS[days[0].weekday()]
    if all((day + timedelta(days=7)).month != day.month for day in days):
        return vRecur(freq="YEARLY", bymonth=days[0].month, byday=f"-1{weekday}")
    numbers = {(day.day - 1) // 7 + 1 for day in days}
    if len(numbers) != 1:
        return None
    return vRecur(freq="YEARLY", bymonth=days[0].month, byday=f"{numbers.pop()}{weekday}")


# --- what we read -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Itip:
    """What somebody's calendar says."""

    method: str
    uid: str
    sequence: int
    stamp: int | None
    """DTSTAMP, ms; None when it has none"""
    partstat: str = ""
    """of the attendee, upper case"""
    start: int | None = None
    """None where it names a whole day, too"""
    end: int | None = None
    comment: str = ""


def tame(text: str) -> str:
    """The calendar without what makes readers work without end: repetitions by the hour and faster, and
    time zones that change more than yearly. Raises ItipError when it is nested or long beyond use."""
    # Split at line ends alone: a line separator (U+2028) within a text ends no line (section 3.1).
    lines = re.split(r"\r\n|\n|\r", re.sub(r"\r?\n[ \t]", "", text.replace("\x00", "")))
    kept: list[str] = []
    stack: list[str] = []
    components = 0
    for line in lines:
        upper = line[:40].upper()
        if upper.startswith("BEGIN:"):
            stack.append(upper[6:].strip())
            components += 1
        elif upper.startswith("END:") and stack:
            stack.pop()
        if len(stack) > DEPTH_MOST or components > COMPONENTS_MOST:
            raise ItipError("too_complex")
        if not _endless(line, in_zone="VTIMEZONE" in stack):
            kept.append(line)
    return "\r\n".join(kept) + "\r\n"


def _endless(line: str, *, in_zone: bool) -> bool:
    if not line[:5].upper().startswith("RRULE"):
        return False
    rule = line.upper()
    if ENDLESS.match(line) or (in_zone and "FREQ=YEARLY" not in rule):
        return True
    times = [len(found.split(",")) for found in TIMES_OF_DAY.findall(rule)]
    return math.prod(times) > TIMES_A_DAY_MOST or bool(NEVER_ON.search(rule))


def read_itip(text: str, zone: str) -> Itip:
    """The one event of a REPLY, COUNTER, CANCEL or REFRESH; floating times are on the clock of `zone`.

    Raises ItipError."""
    if len(text) > CALENDAR_MOST:
        raise ItipError("too_long")
    tamed = tame(text)
    try:
        found = Calendar.from_ical(tamed)
        events = found.walk("VEVENT")
        method = str(found.get("method", "")).upper()
        if not events:
            raise ItipError("no_event")
        return _read_event(method, events[0], zone)
    except ItipError:
        raise
    except Exception as error:  # whatever a library makes of hostile text
        raise ItipError("unreadable") from error


def _read_event(method: str, event: Component, zone: str) -> Itip:
    start, end = _moment(event.get("dtstart"), zone), _moment(event.get("dtend"), zone)
    if start is not None and end is None and event.get("duration") is not None:
        end = start + int(event.get("duration").dt.total_seconds() * 1000)
    comment = event.get("comment", "")
    timed = isinstance(getattr(event.get("dtstart"), "dt", None), datetime)  # a whole day is no time
    return Itip(
        method=method,
        uid=str(event.get("uid", ""))[:300],
        sequence=max(0, min(int(event.get("sequence", 0)), 2**31 - 1)),
        stamp=_moment(event.get("dtstamp"), "UTC"),
        partstat=_partstat(event.get("attendee")),
        start=start if timed else None,
        end=end if timed else None,
        comment=str(comment[0] if isinstance(comment, list) and comment else comment)[:1_000],
    )


def _partstat(attendee: object) -> str:
    """Of a REPLY's one attendee (section 3.2.3); of the first when a client sends all of them."""
    one = attendee[0] if isinstance(attendee, list) and attendee else attendee
    return str(getattr(one, "params", {}).get("PARTSTAT", "")).upper()


def _moment(value: object, zone: str) -> int | None:
    at = getattr(value, "dt", None)
    if isinstance(at, datetime):
        return instant(at, zone)
    return instant(datetime.combine(at, time()), zone) if isinstance(at, date) else None


def instant(at: datetime, zone: str) -> int:
    """UTC ms; a time without a zone is on the clock of `zone`."""
    return int((at if at.tzinfo else at.replace(tzinfo=ZoneInfo(zone))).timestamp() * 1000)


def known_zone(name: str) -> bool:
    """Whether there is such a time zone."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def with_comment(visit: Visit, comment: str) -> Visit:
    """The event with a word to whoever reads it."""
    return replace(visit, comment=comment)
