"""What the records of calendars promise, over a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from garage import NORD, World, open_world

from gateway.adapters.database.records import SqlRecords
from gateway.domain.appointment import Appointment, AppointmentState
from gateway.domain.calendars import (
    CalendarEvent,
    CalendarInvitation,
    CalendarSettings,
    Feed,
    InboundMail,
    Party,
    Reach,
)
from gateway.domain.errors import NotFoundError
from gateway.ports import Records


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        await opened.write(
            lambda records: records.workshops.book(
                Appointment(
                    id="visit",
                    workshop="nord",
                    service="brakes-front",
                    bay="Bay 1",
                    start=10_000,
                    end=20_000,
                    state=AppointmentState.CONFIRMED,
                    created=0,
                )
            )
        )
        yield opened


def mail(number: int, **changes: object) -> InboundMail:
    plain = InboundMail(
        id=f"m{number:03}",
        at=number,
        message_id=f"<{number}@x>",
        sender="a@b.example",
        recipient="replies@tp.example",
        subject="hello",
        outcome="kept",
        reason="no_token",
        params={"n": number},
        raw=b"raw",
        size=3,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


async def test_a_workshop_that_chose_nothing_has_the_defaults(world: World) -> None:
    assert await world.read(lambda r: r.calendars.settings("nord")) == CalendarSettings(workshop="nord")


async def test_settings_are_replaced_and_due_feeds_come_oldest_first(world: World) -> None:
    def work(records: Records) -> None:
        for name, due in (("a", 300), ("b", 100), ("c", None)):
            records.workshops.put(replace(NORD, id=name))
            records.calendars.put_settings(CalendarSettings(workshop=name, busy_url="x", busy_due_at=due))
        chosen = CalendarSettings(workshop="nord", reach=Reach.MAIL, email="x@y.example", language="de")
        records.calendars.put_settings(chosen)
        records.calendars.put_settings(replace(chosen, busy_problem="gone", busy_due_at=900, busy_url="y"))

    await world.write(work)
    assert (await world.read(lambda r: r.calendars.settings("nord"))).email == "x@y.example"
    due = await world.read(lambda r: r.calendars.due_feeds(300))
    assert [one.workshop for one in due] == ["b", "a"]
    assert await world.read(lambda r: r.calendars.next_feed()) == 100
    assert [one.workshop for one in await world.read(lambda r: r.calendars.broken_feeds())] == ["nord"]


async def test_an_event_is_one_row_for_good(world: World) -> None:
    event = CalendarEvent(
        appointment="visit", uid="u", sequence=0, start=1, end=2, status="TENTATIVE", changed=3
    )
    later = replace(event, sequence=4, status="CONFIRMED")
    assert await world.read(lambda r: r.calendars.event("visit")) is None
    for one in (event, later):
        await world.write(lambda r, one=one: r.calendars.put_event(one))
    assert await world.read(lambda r: r.calendars.event("visit")) == later


async def test_invitations_are_found_by_their_token_and_by_their_party(world: World) -> None:
    invitation = CalendarInvitation(
        token_hash="h1", appointment="visit", party=Party.OWNER, address="a@b.example", created=1
    )
    newer = replace(invitation, token_hash="h2", address="c@d.example", created=2)
    answered = replace(invitation, reply_sequence=1, reply_stamp=5, partstat="ACCEPTED")
    for one in (invitation, newer, answered):
        await world.write(lambda r, one=one: r.calendars.put_invitation(one))
    assert await world.read(lambda r: r.calendars.invitation_by_token("h1")) == answered
    assert await world.read(lambda r: r.calendars.invitation("visit", Party.OWNER)) == newer
    assert await world.read(lambda r: r.calendars.invitation("visit", Party.WORKSHOP)) is None


async def test_a_feed_has_one_address_at_a_time(world: World) -> None:
    feed = Feed(party=Party.WORKSHOP, subject="nord", turn=0, token_hash="one", created=1)
    for one in (feed, replace(feed, turn=1, token_hash="two")):
        await world.write(lambda r, one=one: r.calendars.put_feed(one))
    assert await world.read(lambda r: r.calendars.feed_by_token("one")) is None
    assert (await world.read(lambda r: r.calendars.feed(Party.WORKSHOP, "nord"))).turn == 1  # type: ignore[union-attr]


async def test_a_mail_is_kept_once_and_waits_until_it_was_seen(world: World) -> None:
    def work(records: Records) -> list[bool]:
        other = mail(2, outcome="noted", raw=None)
        return [
            records.calendars.add_mail(one) for one in (mail(1), mail(9, message_id="<1@x>"), other, mail(3))
        ]

    assert await world.write(work) == [True, False, True, True]
    assert await world.read(lambda r: r.calendars.has_mail("<1@x>", "replies@tp.example"))
    assert not await world.read(lambda r: r.calendars.has_mail("<1@x>", "elsewhere"))
    assert [m.id for m in await world.read(lambda r: r.calendars.mails())] == ["m003", "m002", "m001"]
    assert [m.id for m in await world.read(lambda r: r.calendars.mails(waiting=True))] == ["m003", "m001"]
    assert [m.id for m in await world.read(lambda r: r.calendars.mails(after="m003", limit=1))] == ["m002"]
    assert await world.read(lambda r: (r.calendars.waiting_mails(10), r.calendars.waiting_mails(1))) == (
        (2, 6),
        (1, 3),
    )
    await world.write(lambda r: r.calendars.see_mail("m001", 77))
    seen = await world.read(lambda r: r.calendars.mail("m001"))
    assert (seen.seen_at, seen.raw, seen.params) == (77, None, {"n": 1})
    with pytest.raises(NotFoundError):
        await world.write(lambda r: r.calendars.see_mail("none", 77))


async def test_every_look_up_has_an_index(world: World) -> None:
    """However many mails, feeds and invitations there are."""
    asked: list[str] = []

    def work(records: Records) -> list[str]:
        assert isinstance(records, SqlRecords)
        connection = records.transaction.connection

        def note(conn: object, cursor: object, statement: str, parameters: object, *_: object) -> None:
            if statement.lstrip().startswith("SELECT"):
                asked.append((statement, parameters))  # type: ignore[arg-type]

        sa.event.listen(connection.engine, "before_cursor_execute", note)
        try:
            c = records.calendars
            c.settings("x"), c.due_feeds(1), c.next_feed(), c.event("x"), c.invitation("x", Party.OWNER)
            c.invitation_by_token("x"), c.feed(Party.OWNER, "x"), c.feed_by_token("x"), c.has_mail("x", "y")
            c.mails(), c.mails(waiting=True, after="x"), c.waiting_mails(10)
        finally:
            sa.event.remove(connection.engine, "before_cursor_execute", note)
        plans = []
        for statement, parameters in asked:
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans += [str(row[3]) for row in rows]
        return plans

    plans = await world.read(work)
    assert len(plans) >= 12
    assert [plan for plan in plans if "SCAN" in plan and "INDEX" not in plan and "SUBQUERY" not in plan] == [
        plan for plan in plans if plan.startswith(("SCAN anon", "SCAN (subquery"))
    ]
