"""Cases: somebody is responsible by a deadline in working time, and the customer hears what came of it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from garage import DAY, HOUR, JANA, MINUTE, SIGNALS, TEXTS, World, at, open_world

from gateway.domain.case import Case, CaseKind, CaseState
from gateway.domain.errors import ConflictError, InvalidError, NotFoundError
from gateway.domain.owner import Preferences
from gateway.domain.touchpoint import State
from gateway.domain.working_time import WorkingTime
from gateway.flow import cases
from gateway.flow.deliver import Drop, Later, Ready, prepare
from gateway.flow.outgoing import Renderer
from gateway.ports import Records


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        await opened.subscribes()
        await opened.found()
        yield opened


async def opened(world: World, kind: CaseKind = CaseKind.CALL_ME, **more: object) -> Case:
    touchpoint = await world.touchpoint()
    about: dict[str, object] = {"owner": "jana", "device": "car", "touchpoint": touchpoint.id} | more
    return await world.write(
        lambda r: cases.open_case(r, kind=kind, now=world.now, policy=world.policy, **about)  # type: ignore[arg-type]
    )


# --- deadlines --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "hours", "until"),
    [
        ("2026-11-23T10:00+01:00", 4, "2026-11-23T14:00+01:00"),  # a Monday morning
        ("2026-11-23T06:00+01:00", 4, "2026-11-23T13:00+01:00"),  # before anybody works
        ("2026-11-23T15:00+01:00", 4, "2026-11-24T11:00+01:00"),  # over the evening
        ("2026-11-27T16:30+01:00", 1, "2026-11-30T09:30+01:00"),  # over a weekend
        ("2026-11-28T12:00+01:00", 8, "2026-11-30T17:00+01:00"),  # asked on a Saturday
        ("2026-12-24T16:00+01:00", 2, "2026-12-28T10:00+01:00"),  # over Christmas, Friday and Saturday
        ("2026-10-23T16:00+02:00", 2, "2026-10-26T10:00+01:00"),  # over the end of summer time
    ],
)
def test_a_deadline_is_counted_in_working_hours(since: str, hours: int, until: str) -> None:
    assert WorkingTime(country="DE").after(at(since), hours) == at(until)


def test_a_holiday_of_a_region_is_one_only_there() -> None:
    """Epiphany, Wednesday 6 January 2027, is free in Bavaria."""
    since = at("2027-01-05T16:00+01:00")
    assert WorkingTime(country="DE").after(since, 2) == at("2027-01-06T10:00+01:00")
    assert WorkingTime(country="DE-BY").after(since, 2) == at("2027-01-07T10:00+01:00")


def test_an_unknown_country_has_no_holidays_and_stalls_nothing() -> None:
    assert WorkingTime(country="XX").after(at("2026-12-24T16:00+01:00"), 2) == at("2026-12-25T10:00+01:00")


def test_who_never_works_has_long_but_not_for_ever() -> None:
    assert WorkingTime(days=()).after(0, 2) == 2 * HOUR


# --- a case's life ----------------------------------------------------------------------------


async def test_a_case_names_who_looks_after_it_and_by_when_and_the_owner_reads_that(world: World) -> None:
    case = await opened(world, text="Please call after five.")
    assert (case.state, case.responsible) == (CaseState.OPEN, "after-sales")
    assert case.due_at == at("2026-11-23T13:00+01:00")  # four working hours after Monday, 9:00
    assert [(n.what, n.text) for n in case.history] == [("opened", "Please call after five.")]
    assert (await world.story())[-1] == "Somebody calls you by Monday, 23 November, 13:00."


async def test_the_same_matter_twice_is_one_case(world: World) -> None:
    first = await opened(world, text="Call me.")
    again = await opened(world, text="Still waiting.")
    assert again.id == first.id
    assert [(n.what, n.text) for n in again.history] == [("opened", "Call me."), ("again", "Still waiting.")]
    other = await opened(world, CaseKind.COMPLAINT)
    assert other.id != first.id


async def test_who_is_responsible_and_the_deadline_can_be_named(world: World) -> None:
    case = await opened(world, responsible="anna", due_at=world.now + 5)
    assert (case.responsible, case.due_at) == ("anna", world.now + 5)
    given = await world.write(lambda r: cases.give(r, case.id, "ben", by="operator", now=world.now))
    assert (given.responsible, given.history[-1].what) == ("ben", "given")


async def test_a_case_closes_only_with_what_the_customer_hears(world: World) -> None:
    case = await opened(world)
    with pytest.raises(InvalidError, match="outcome"):
        await world.write(lambda r: cases.close_case(r, case.id, "  ", by="operator", now=world.now))
    said = "We called you and moved the visit."
    closed = await world.write(lambda r: cases.close_case(r, case.id, said, by="operator", now=world.now))
    assert (closed.state, closed.outcome, closed.closed_at) == (CaseState.CLOSED, said, world.now)
    (push,) = [row for row in await world.queued("web_push") if row.payload["about"] == "case"]
    assert push.payload["case"] == case.id
    assert (await world.story())[-1] == f"Settled at 9:00: “{said}”"


async def test_an_answer_keeps_the_case_going_and_stops_the_clock(world: World) -> None:
    case = await opened(world)
    world.go_to(world.now + MINUTE)
    told = await world.write(
        lambda r: cases.answer_case(r, case.id, "We look at it on Tuesday.", by="operator", now=world.now)
    )
    assert (told.state, told.answered_at) == (CaseState.ANSWERED, world.now)
    assert not told.overdue(case.due_at + DAY)
    first_heard = world.now
    world.go_to(world.now + DAY)
    closed = await world.write(lambda r: cases.close_case(r, case.id, "Done.", by="operator", now=world.now))
    assert (closed.answered_at, closed.closed_at) == (first_heard, world.now)


async def test_what_is_closed_stays_closed(world: World) -> None:
    case = await opened(world)
    await world.write(lambda r: cases.close_case(r, case.id, "Called.", by="operator", now=world.now))
    for work in (cases.answer_case, cases.close_case):
        with pytest.raises(ConflictError):
            await world.write(lambda r, work=work: work(r, case.id, "x", by="operator", now=world.now))
    fresh = await opened(world, text="Again.")
    assert fresh.id != case.id


async def test_nobody_is_woken_by_a_reply(world: World) -> None:
    case = await opened(world)
    world.go_to("2026-11-23T22:30+01:00")
    await world.write(lambda r: cases.close_case(r, case.id, "Called.", by="operator", now=world.now))
    (push,) = [row for row in await world.queued("web_push") if row.payload["about"] == "case"]
    assert push.due_at == at("2026-11-24T07:00+01:00")


async def test_a_reply_keeps_the_night_of_who_gets_it_also_when_another_is_asked_by_now(
    world: World,
) -> None:
    """The product was handed on to somebody who is never asleep, while the answer was under way."""
    case = await opened(world)
    world.go_to("2026-11-23T20:55+01:00")
    await world.write(lambda r: cases.close_case(r, case.id, "Called.", by="operator", now=world.now))
    [reply] = [row for row in await world.queued("web_push") if row.payload["about"] == "case"]
    assert reply.due_at == world.now
    world.go_to("2026-11-23T23:00+01:00")

    def handed_on(records: Records) -> Ready | Later | Drop | None:
        records.owners.add(replace(JANA, id="omar", name="Omar"))
        records.owners.prefer("omar", Preferences(quiet_from="00:00", quiet_to="00:00"))
        touchpoint = records.touchpoints.page(limit=1)[0]
        records.touchpoints.save(replace(touchpoint, owner="omar"))
        rows = records.outbox.claim(world.now, lease_ms=1_000, limit=9, channels=["web_push"])
        row = next(row for row in rows if row.id == reply.id)
        renderer = Renderer(texts=TEXTS, signals=SIGNALS, policy=world.policy, public_url="https://g.example")
        return prepare(records, row, renderer, world.policy, world.now)

    waits = await world.write(handed_on)
    assert isinstance(waits, Later)
    assert waits.until == at("2026-11-24T07:00+01:00")


async def test_overdue_ones_stand_first_and_are_counted(world: World) -> None:
    late = await opened(world)
    world.go_to(late.due_at + 1)
    fresh = await opened(world, CaseKind.COMPLAINT, workshop="nord")
    heard = await opened(world, CaseKind.LOW_SCORE)
    await world.write(lambda r: cases.answer_case(r, heard.id, "Soon.", by="operator", now=world.now))
    waiting = await world.read(lambda r: r.cases.pending())
    assert [case.id for case in waiting] == [late.id, fresh.id, heard.id]
    assert [case.overdue(world.now) for case in waiting] == [True, False, False]
    assert [c.id for c in await world.read(lambda r: r.cases.pending(workshop="nord"))] == [fresh.id]
    counts = await world.read(lambda r: r.cases.counts(world.now))
    assert counts == {"complaint": (1, 0), "low_score": (1, 0), "call_me": (1, 1), "update_failed": (0, 0)}


async def test_a_note_stays_in_the_house(world: World) -> None:
    case = await opened(world)
    before = await world.codes()
    noted = await world.write(lambda r: cases.note(r, case.id, "No answer.", by="operator", now=world.now))
    assert [n.what for n in noted.history] == ["opened", "noted"]
    assert await world.codes() == before
    with pytest.raises(NotFoundError):
        await world.write(lambda r: cases.note(r, "none", "x", by="operator", now=world.now))


async def test_a_matter_whose_owner_was_called_is_over_with_the_case(world: World) -> None:
    touchpoint = await world.answers("call_me")
    assert touchpoint.state is State.ANSWERED
    case = (await world.read(lambda r: r.cases.page(touchpoint=touchpoint.id, kind=CaseKind.CALL_ME)))[0]
    world.go_to(world.now + MINUTE)
    await world.write(lambda r: cases.close_case(r, case.id, "We spoke.", by="operator", now=world.now))
    after = await world.touchpoint()
    assert (after.state, after.closed_at) == (State.CLOSED, world.now)
