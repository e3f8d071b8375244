"""A workshop's own calendar is read on a schedule, and what is taken there is offered to nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from garage import DAY, HOUR, MINUTE, NORD, World, at, open_world

from gateway.adapters.calendar_feed import BYTES_MOST, HttpCalendars
from gateway.channels.addresses import CheckedResolver, is_literal, is_public
from gateway.domain.ical import ItipError
from gateway.flow import book, busy_feeds
from gateway.flow.busy_feeds import BusyFeeds, unfold

TUESDAY_8 = at("2026-11-24T08:00+01:00")


def ics(*events: str) -> str:
    body = "".join(
        f"BEGIN:VEVENT\r\nUID:e{n}@nord\r\nDTSTAMP:20261101T000000Z\r\n{event}END:VEVENT\r\n"
        for n, event in enumerate(events)
    )
    return f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Nord//EN\r\n{body}END:VCALENDAR\r\n"


MORNING = "DTSTART;TZID=Europe/Berlin:20261124T080000\r\nDTEND;TZID=Europe/Berlin:20261124T100000\r\n"
WEEKLY = (
    "DTSTART;TZID=Europe/Berlin:20261020T080000\r\nDTEND;TZID=Europe/Berlin:20261020T090000\r\n"
    "RRULE:FREQ=WEEKLY;BYDAY=TU\r\nEXDATE;TZID=Europe/Berlin:20261201T080000\r\n"
)


@dataclass
class Theirs:
    """The workshop's calendar server."""

    text: str = ""
    status: int = 200
    etag: str = '"1"'
    asked: list[str | None] = field(default_factory=list)
    whole: int = 0
    url: str = ""

    async def serve(self, request: web.Request) -> web.Response:
        self.asked.append(request.headers.get("If-None-Match"))
        if request.path == "/moved":
            raise web.HTTPFound("http://192.168.7.7/calendar.ics")
        if self.status != 200:
            return web.Response(status=self.status)
        if request.headers.get("If-None-Match") == self.etag:
            return web.Response(status=304, headers={"ETag": self.etag})
        self.whole += 1
        return web.Response(text=self.text, content_type="text/calendar", headers={"ETag": self.etag})


@asynccontextmanager
async def their_server() -> AsyncIterator[Theirs]:
    theirs = Theirs()
    app = web.Application()
    app.router.add_get("/{name}", theirs.serve)
    async with TestServer(app, host="127.0.0.1") as server:
        theirs.url = f"http://127.0.0.1:{server.port}/busy.ics"
        yield theirs


@asynccontextmanager
async def fetcher(*allowed: str) -> AsyncIterator[HttpCalendars]:
    """As app.py makes it."""
    made = HttpCalendars(
        resolver=CheckedResolver(allowed),
        may_reach=lambda host: not is_literal(host) or is_public(host),
        allowed=allowed,
        timeout_s=5.0,
    )
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def free(world: World, start: int) -> bool:
    def look(records: object) -> bool:
        slots = book.free_slots(records, NORD, NORD.services[0], start, start + 1, world.now)  # type: ignore[arg-type]
        return bool(slots)

    return await world.read(look)


async def settings(world: World) -> object:
    return await world.read(lambda records: records.calendars.settings("nord"))


async def test_what_is_taken_there_is_offered_to_nobody(world: World) -> None:
    async with their_server() as theirs, fetcher("127.0.0.1") as calendars:
        feeds = BusyFeeds(world.database, world.clock, calendars, world.policy)
        theirs.text = ics(MORNING)
        assert await free(world, TUESDAY_8)
        await world.write(busy_feeds.choose, "nord", theirs.url, world.now)
        assert await feeds.step() == 1
        assert not await free(world, TUESDAY_8)
        assert await free(world, TUESDAY_8 + 2 * HOUR)
        assert await feeds.step() == 0  # not due again yet
        theirs.text, theirs.etag = ics(), '"2"'
        world.clock.advance(world.now + 15 * MINUTE)
        assert await feeds.step() == 1
        assert await free(world, TUESDAY_8)


async def test_what_did_not_change_is_not_sent_again_but_read_whole_twice_a_day(world: World) -> None:
    async with their_server() as theirs, fetcher("127.0.0.1") as calendars:
        feeds = BusyFeeds(world.database, world.clock, calendars, world.policy)
        theirs.text = ics(MORNING)
        await world.write(busy_feeds.choose, "nord", theirs.url, world.now)
        for _ in range(3):
            await feeds.step()
            world.clock.advance(world.now + 15 * MINUTE)
        assert theirs.asked == [None, '"1"', '"1"']
        assert not await free(world, TUESDAY_8)
        world.clock.advance(world.now + 12 * HOUR)
        await feeds.step()
        assert theirs.whole == 2  # the days ahead have moved on


async def test_a_calendar_that_cannot_be_read_keeps_its_times_and_says_since_when(world: World) -> None:
    async with their_server() as theirs, fetcher("127.0.0.1") as calendars:
        feeds = BusyFeeds(world.database, world.clock, calendars, world.policy)
        theirs.text = ics(MORNING)
        await world.write(busy_feeds.choose, "nord", theirs.url, world.now)
        await feeds.step()
        read_at = world.now
        for status, problem in ((503, "server"), (404, "gone"), (401, "refused")):
            theirs.status = status
            world.clock.advance(world.now + 15 * MINUTE)
            await feeds.step()
            found = await world.read(lambda records: records.calendars.settings("nord"))
            assert (found.busy_problem, found.busy_taken_at) == (problem, read_at)
            assert not await free(world, TUESDAY_8)
        broken = await world.read(lambda records: records.calendars.broken_feeds())
        assert [one.workshop for one in broken] == ["nord"]
        theirs.status, theirs.text, theirs.etag = 200, "no calendar at all", '"3"'
        world.clock.advance(world.now + 15 * MINUTE)
        await feeds.step()
        found = await world.read(lambda records: records.calendars.settings("nord"))
        assert found.busy_problem == "unreadable"
        assert not await free(world, TUESDAY_8)


async def test_another_address_gives_up_the_times_of_the_one_before(world: World) -> None:
    async with their_server() as theirs, fetcher("127.0.0.1") as calendars:
        feeds = BusyFeeds(world.database, world.clock, calendars, world.policy)
        theirs.text = ics(MORNING)
        await world.write(busy_feeds.choose, "nord", theirs.url, world.now)
        await feeds.step()
        await world.write(busy_feeds.choose, "nord", None, world.now)
        assert await free(world, TUESDAY_8)
        assert await world.read(lambda records: records.calendars.next_feed()) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x.ics",
        "https://127.0.0.1/x.ics",
        "https://[::1]/x.ics",
        "https://169.254.169.254/latest",
        "https://localhost/x.ics",
        "http://calendar.example/x.ics",
        "ftp://calendar.example/x.ics",
        "https://user@calendar.example/x.ics",
    ],
)
async def test_private_and_unencrypted_addresses_are_not_read(url: str) -> None:
    async with fetcher() as calendars:
        assert (await calendars.fetch(url, etag=None, modified=None)).problem in ("address", "unreachable")


async def test_a_redirect_leads_to_no_private_address_either() -> None:
    async with their_server() as theirs, fetcher("127.0.0.1") as calendars:
        url = theirs.url.replace("busy.ics", "moved")
        assert (await calendars.fetch(url, etag=None, modified=None)).problem == "address"
        assert len(theirs.asked) == 1


async def test_a_calendar_without_end_is_cut_off() -> None:
    async with their_server() as theirs, fetcher("127.0.0.1") as calendars:
        theirs.text = "x" * (BYTES_MOST + 1)
        assert (await calendars.fetch(theirs.url, etag=None, modified=None)).problem == "too_large"


def starts(text: str, now: str = "2026-11-23T09:00+01:00") -> list[int]:
    return sorted(one.start for one in unfold(text, NORD, at(now), days=30))


def test_repetitions_are_unfolded_with_their_exceptions() -> None:
    days = ("2026-11-24", "2026-12-08", "2026-12-15", "2026-12-22")
    assert starts(ics(WEEKLY)) == [at(f"{day}T08:00+01:00") for day in days]


def test_repetitions_keep_their_wall_clock_over_summer_time() -> None:
    text = ics("DTSTART;TZID=Europe/Berlin:20261013T080000\r\nDURATION:PT1H\r\nRRULE:FREQ=WEEKLY\r\n")
    found = starts(text, now="2026-10-20T00:00+02:00")
    assert found[:2] == [at("2026-10-20T08:00+02:00"), at("2026-10-27T08:00+01:00")]


def test_what_takes_no_time_is_left_out() -> None:
    free_ones = [f"{MORNING}{line}\r\n" for line in ("TRANSP:TRANSPARENT", "STATUS:CANCELLED")]
    free_ones.append(f"{MORNING}X-MICROSOFT-CDO-BUSYSTATUS:FREE\r\n")
    assert starts(ics(*free_ones)) == []


def test_whole_days_are_those_of_the_workshop() -> None:
    [day] = unfold(
        ics("DTSTART;VALUE=DATE:20261124\r\nDTEND;VALUE=DATE:20261125\r\n"),
        NORD,
        at("2026-11-23T09:00+01:00"),
    )
    assert (day.start, day.end) == (at("2026-11-24T00:00+01:00"), at("2026-11-25T00:00+01:00"))


def test_an_event_that_names_a_bay_takes_that_bay() -> None:
    text = ics(f"{MORNING}LOCATION:bay 1\r\n", MORNING)
    assert sorted(str(one.bay) for one in unfold(text, NORD, at("2026-11-23T09:00+01:00"))) == [
        "Bay 1",
        "None",
    ]


def test_times_that_touch_become_one() -> None:
    now = at("2026-11-23T09:00+01:00")
    twice = [one for _ in range(2) for one in unfold(ics(MORNING), NORD, now)]
    [one] = busy_feeds.merged("nord", twice)
    assert (one.start, one.end, one.bay) == (TUESDAY_8, TUESDAY_8 + 2 * HOUR, None)


@pytest.mark.parametrize("frequency", ["SECONDLY", "MINUTELY", "HOURLY"])
def test_repetitions_without_end_are_not_unfolded(frequency: str) -> None:
    found = starts(ics(f"{MORNING}RRULE:FREQ={frequency}\r\n"))
    assert len(found) <= 1


ALL = {name: ",".join(map(str, range(n))) for name, n in (("HOUR", 24), ("MINUTE", 60), ("SECOND", 60))}


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=DAILY;" + ";".join(f"BY{name}={values}" for name, values in ALL.items()),
        "FREQ=DAILY;INTERVAL=0",
        "INTERVAL=00;FREQ=WEEKLY",
    ],
)
def test_a_rule_by_the_day_cannot_be_one_by_the_second_or_stand_still(rule: str) -> None:
    assert starts(ics(f"{MORNING}RRULE:{rule}\r\n")) == [TUESDAY_8]


def test_twice_a_day_is_twice_a_day() -> None:
    rule = "RRULE:FREQ=DAILY;COUNT=2;BYHOUR=8,16\r\n"
    assert starts(ics(f"{MORNING}{rule}")) == [TUESDAY_8, TUESDAY_8 + 8 * HOUR]


def test_series_that_take_too_long_are_said_to_be_too_many() -> None:
    ticks = iter(range(100))
    with pytest.raises(ItipError, match="too_complex"):
        unfold(ics(*[WEEKLY] * 5), NORD, TUESDAY_8, most_s=3, seconds=lambda: float(next(ticks)))


@pytest.mark.parametrize(
    "odd",
    [
        "DTSTART:20261124T070000Z\r\nDTEND:99991231T235959Z\r\n",
        "DTSTART;VALUE=DATE:20261124\r\nDTEND;VALUE=DATE:99991231\r\n",
        "DTSTART:00010101T000000Z\r\nDTEND:20261201T000000Z\r\n",
    ],
)
def test_an_event_without_an_end_in_sight_takes_its_time_and_leaves_the_rest_readable(odd: str) -> None:
    taken = unfold(ics(odd, WEEKLY), NORD, at("2026-11-23T09:00+01:00"))
    assert any(one.start <= TUESDAY_8 and one.end >= at("2026-12-01T00:00+01:00") for one in taken)
    assert at("2026-12-08T08:00+01:00") in {one.start for one in taken}


def test_separators_within_a_text_end_no_line() -> None:
    noted = f"{MORNING}DESCRIPTION:first\u2028BEGIN:VALARM\x0bsecond\x85\r\n"
    assert starts(ics(noted)) == [TUESDAY_8]


@pytest.mark.parametrize("text", ["", "BEGIN:VCALENDAR", "BEGIN:VEVENT\r\n" * 30, "<html></html>"])
def test_what_is_no_calendar_is_refused(text: str) -> None:
    with pytest.raises(ItipError):
        unfold(text, NORD, at("2026-11-23T09:00+01:00"))


async def test_our_own_visits_in_their_calendar_do_not_count_twice(world: World) -> None:
    async with their_server() as theirs, fetcher("127.0.0.1") as calendars:
        feeds = BusyFeeds(world.database, world.clock, calendars, world.policy)
        theirs.text = ics(MORNING).replace("UID:e0@nord", f"UID:0190@{world.policy.calendar_domain}")
        await world.write(busy_feeds.choose, "nord", theirs.url, world.now)
        await feeds.step()
        assert await free(world, TUESDAY_8)
        world.clock.advance(world.now + DAY)
