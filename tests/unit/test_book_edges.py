"""Both sides speak at once, too late, too soon, or at odd hours: what holds then."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from garage import DAY, HOUR, MINUTE, NORD, World, at, open_world

from gateway.domain import slots
from gateway.domain.appointment import Appointment, AppointmentState, ExtraState, Workshop
from gateway.domain.errors import ConflictError, InvalidError, SlotTakenError
from gateway.domain.touchpoint import State
from gateway.flow import book, follow_up, visit
from gateway.ports import Records

TUESDAY_8 = at("2026-11-24T08:00+01:00")
ON_REQUEST = replace(NORD, books="on_request")
S = AppointmentState


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        await opened.subscribes()
        await opened.found()
        yield opened


async def put(world: World, *places: Workshop) -> None:
    def work(records: Records) -> None:
        for place in places:
            records.workshops.put(place)

    await world.write(work)


async def the_visit(world: World, workshop: str = "nord") -> Appointment:
    return (await world.read(lambda r: r.workshops.appointments(owner="jana", workshop=workshop)))[-1]


async def booked(world: World) -> Appointment:
    await world.answers("book", slot=f"nord@{TUESDAY_8}")
    return await the_visit(world)


async def requested(world: World) -> Appointment:
    await put(world, ON_REQUEST)
    return await booked(world)


async def settled(world: World) -> list[str]:
    return await world.write(visit.settle_due, world.now, world.policy)


# --- a workshop offers what it likes ----------------------------------------------------------

ODD = {
    "before it opens": at("2026-11-25T07:00+01:00"),
    "between the half-hours": at("2026-11-25T10:10+01:00"),
    "on a Saturday": at("2026-11-28T10:00+01:00"),
    "sooner than it plans": at("2026-11-23T15:00+01:00"),
}


@pytest.mark.parametrize("start", ODD.values(), ids=ODD.keys())
async def test_a_workshop_may_offer_any_time_at_which_a_bay_is_free(world: World, start: int) -> None:
    made = await requested(world)
    countered = await world.write(book.counter, made.id, [start], world.now, world.policy)
    assert (countered.state, countered.offered) == (S.COUNTERED, (start,))
    held = (await world.write(book.hold, (await world.touchpoint()).id, world.now, world.policy)).slots
    assert [slot.start for slot in held] == [start]  # looking at it changes nothing
    await world.answers("book", slot=f"nord@{start}")
    stands = await the_visit(world)
    assert (stands.id, stands.state, stands.start) == (made.id, S.CONFIRMED, start)
    assert (await world.touchpoint()).state is State.BOOKED


@pytest.mark.parametrize("start", [at("2026-11-23T08:59+01:00"), at("2027-12-01T08:00+01:00")])
async def test_a_workshop_offers_no_time_that_is_past_or_years_away(world: World, start: int) -> None:
    made = await requested(world)
    with pytest.raises(InvalidError, match="start"):
        await world.write(book.counter, made.id, [start], world.now, world.policy)
    assert (await the_visit(world)).state is S.REQUESTED


async def test_offering_what_the_owner_wishes_for_is_agreeing(world: World) -> None:
    made = await requested(world)
    evening = TUESDAY_8 + 10 * HOUR
    await world.write(book.wish, made.id, [evening], world.now, world.policy)
    agreed = await world.write(book.counter, made.id, [evening + DAY, evening], world.now, world.policy)
    assert (agreed.state, agreed.start, agreed.offered) == (S.CONFIRMED, evening, ())


async def test_an_offer_is_kept_also_while_another_workshop_is_waited_for(world: World) -> None:
    west = replace(ON_REQUEST, id="west", name="Werkstatt West")
    await put(world, ON_REQUEST, west)
    await world.answers("book", slot=f"nord@{TUESDAY_8},west@{TUESDAY_8}")
    nord, other = await the_visit(world), await the_visit(world, "west")
    offer = TUESDAY_8 + DAY
    await world.write(book.counter, nord.id, [offer], world.now, world.policy)
    assert (await world.touchpoint()).state is State.BOOKED  # the other one may still say yes
    with pytest.raises(SlotTakenError):
        await world.takes("2026-11-25T08:00+01:00")
    await world.write(book.decline, other.id, world.now, world.policy)
    reopened = await world.touchpoint()
    assert (reopened.state, [slot.start for slot in reopened.slots]) == (State.OPEN, [offer])
    await world.answers("book", slot=f"nord@{offer}")
    assert (await the_visit(world)).state is S.CONFIRMED


# --- an owner asks for another time -----------------------------------------------------------


async def test_asking_for_another_time_costs_nobody_the_time_that_stands(world: World) -> None:
    made = await requested(world)
    await world.write(book.confirm, made.id, world.now, world.policy)
    other = TUESDAY_8 + DAY
    asked = await world.write(book.reschedule, made.id, f"nord@{other}", world.now, world.policy)
    assert (asked.state, asked.start, asked.wished) == (S.CONFIRMED, TUESDAY_8, (other,))
    await world.write(book.decline, made.id, world.now, world.policy)
    assert ((await the_visit(world)).state, (await the_visit(world)).start) == (S.CONFIRMED, TUESDAY_8)


async def test_a_wish_does_not_outlive_the_time_that_it_would_replace(world: World) -> None:
    made = await requested(world)
    world.go_to(TUESDAY_8 - HOUR)
    await world.write(book.confirm, made.id, world.now, world.policy)
    asked = await world.write(book.wish, made.id, [TUESDAY_8 + 7 * DAY], world.now, world.policy)
    assert asked.answer_by == TUESDAY_8


async def test_a_request_with_a_wish_lapses_before_its_time(world: World) -> None:
    made = await requested(world)
    world.go_to(TUESDAY_8 - HOUR)
    await world.write(lambda r: r.workshops.save_appointment(replace(made, answer_by=TUESDAY_8)))
    await world.write(book.wish, made.id, [TUESDAY_8 + 7 * DAY], world.now, world.policy)
    world.go_to(TUESDAY_8)
    assert "lapsed" in await settled(world)


async def test_a_wish_that_has_passed_is_not_taken(world: World) -> None:
    made = await booked(world)
    early = at("2026-11-23T12:00+01:00")
    await world.write(book.wish, made.id, [early], world.now, world.policy)
    world.go_to(early)
    with pytest.raises(InvalidError, match="passed"):
        await world.write(book.accept, made.id, early, world.now, world.policy)


# --- the day itself ---------------------------------------------------------------------------


async def test_an_owner_cannot_end_a_job_that_has_begun_and_a_workshop_can(world: World) -> None:
    made = await booked(world)
    world.go_to(TUESDAY_8)
    await world.write(visit.step, made.id, "in_work", world.now, world.policy)
    with pytest.raises(ConflictError, match="begun"):
        await world.write(book.cancel, made.id, world.now, world.policy)
    cancelled = await world.write(book.cancel, made.id, world.now, world.policy, by="workshop")
    assert cancelled.state is S.CANCELLED
    assert (await world.touchpoint()).state is State.OPEN


async def test_nobody_is_asked_for_more_work_on_a_visit_that_was_cancelled(world: World) -> None:
    made = await booked(world)
    world.go_to(TUESDAY_8)
    await world.write(visit.step, made.id, "checked_in", world.now, world.policy)
    asked = await world.write(visit.ask_extra, made.id, "Discs", 240, world.now, world.policy)
    await world.write(book.cancel, made.id, world.now, world.policy)
    assert (await world.read(lambda r: r.workshops.extra(asked.id))).state is ExtraState.LAPSED
    assert await world.read(lambda r: visit.open_questions(r, "jana", world.now)) == []
    with pytest.raises(ConflictError, match="too late"):
        await world.write(
            visit.answer_extra, asked.id, True, world.now, world.policy, by="jana", channel="page"
        )


async def test_who_comes_after_all_is_taken_in_and_the_job_is_done(world: World) -> None:
    made = await booked(world)
    world.go_to(TUESDAY_8 + 30 * MINUTE)
    await world.write(book.no_show, made.id, world.now, world.policy)
    with pytest.raises(ConflictError):
        await world.write(follow_up.done, made.id, {}, world.now, world.policy)
    world.go_to(TUESDAY_8 + HOUR)
    late = await world.write(visit.step, made.id, "checked_in", world.now, world.policy)
    assert late.state is S.CHECKED_IN
    assert (await world.touchpoint()).state is State.BOOKED
    await world.write(follow_up.done, made.id, {}, world.now, world.policy)
    assert (await world.touchpoint()).state is State.FULFILLED


async def test_who_booked_anew_comes_to_the_new_visit(world: World) -> None:
    made = await booked(world)
    world.go_to(TUESDAY_8 + 30 * MINUTE)
    await world.write(book.no_show, made.id, world.now, world.policy)
    await world.answers("book", slot=f"nord@{TUESDAY_8 + DAY}")
    with pytest.raises(ConflictError, match="booked meanwhile"):
        await world.write(visit.step, made.id, "checked_in", world.now, world.policy)
    assert (await world.read(lambda r: r.workshops.appointment(made.id))).state is S.NO_SHOW


async def test_who_comes_days_later_has_not_come(world: World) -> None:
    made = await booked(world)
    world.go_to(TUESDAY_8 + 30 * MINUTE)
    await world.write(book.no_show, made.id, world.now, world.policy)
    world.go_to(TUESDAY_8 + 2 * DAY)
    with pytest.raises(ConflictError, match="a day away"):
        await world.write(visit.step, made.id, "checked_in", world.now, world.policy)


# --- who pays ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stated", [{"warranty": True}, {"price_valid_until": "2026-11-01"}])
async def test_a_price_that_the_owner_does_not_pay_or_that_is_over_was_not_promised(
    world: World, stated: dict[str, Any]
) -> None:
    await put(world, replace(NORD, services=(replace(NORD.services[0], **stated),)))
    await world.write(lambda r: r.devices.update(replace(r.devices.get("car"), warranty_until="2027-01-01")))
    promised = (await booked(world)).diagnosis["promised"]
    assert (promised["minutes"], promised["price_from"], promised["price_to"]) == (60, None, None)


# --- holidays ---------------------------------------------------------------------------------


async def test_holidays_are_looked_up_before_anybody_asks(world: World) -> None:
    west = replace(NORD, id="west", country="DE", region="HH")
    await put(world, west, replace(west, id="odd", country="XX", region=None))
    slots.public_holidays.cache_clear()
    assert await world.read(lambda r: book.look_up_holidays(r, world.now)) == 2
    before = slots.public_holidays.cache_info().misses
    assert slots.hours_on(west, date(2026, 12, 25)) == ()
    assert slots.hours_on(west, date(2027, 10, 31)) == ()  # Reformation Day, a Sunday
    assert slots.public_holidays.cache_info().misses == before
