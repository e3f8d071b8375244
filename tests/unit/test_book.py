"""Proposals are real times, a tap takes one, and nobody is ever booked twice."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from garage import DAY, MINUTE, NORD, World, at, open_world

from gateway.adapters.database import SqlDatabase
from gateway.domain.appointment import Appointment, AppointmentState
from gateway.domain.device import Device
from gateway.domain.errors import ConflictError, InvalidError, SlotTakenError
from gateway.domain.owner import Consent, Owner
from gateway.domain.touchpoint import Answer, State
from gateway.flow import book, respond
from gateway.ports import Records

TUESDAY_8, WEDNESDAY_16 = at("2026-11-24T08:00+01:00"), at("2026-11-25T16:00+01:00")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        await opened.drives()  # so that mileage and codes are known
        await opened.parks()
        opened.clock.advance(opened.now + 10 * MINUTE)
        await opened.found()
        yield opened


async def appointment(world: World) -> Appointment:
    return (await world.read(lambda r: r.workshops.appointments(touchpoint=r.touchpoints.page()[0].id)))[-1]


async def booked(world: World, start: int = TUESDAY_8) -> Appointment:
    await world.answers("book", slot=f"nord@{start}")
    return await appointment(world)


async def test_the_demos_calendar_leaves_tuesday_morning_and_thursday_evening(world: World) -> None:
    """Everything is taken from the 24th on but Tuesday 8:00 and Thursday 17:30 of the week after."""
    for day in range(24, 31):
        await world.takes(f"2026-11-{day}T08:00+01:00", minutes=630)
    await world.takes("2026-12-01T09:00+01:00", minutes=570)
    await world.takes("2026-12-02T08:00+01:00", minutes=630)
    await world.takes("2026-12-03T08:00+01:00", minutes=570)

    def propose(records: Records) -> list[int]:
        slots = book.propose(records, records.workshops.get("nord"), NORD.services[0], world.now)
        return [slot.start for slot in slots]

    assert await world.read(propose) == [at("2026-12-01T08:00+01:00"), at("2026-12-03T17:30+01:00")]


async def test_one_tap_books_and_the_workshop_is_told_what_was_found(world: World) -> None:
    made = await booked(world)
    assert (made.state, made.start, made.bay) == (AppointmentState.CONFIRMED, TUESDAY_8, "Bay 1")
    assert made.diagnosis["rule"] == "brake-pads-front-worn"
    assert made.diagnosis["evidence"]["pad_wear_front"] == 95
    assert made.diagnosis["codes"] == ["C0040", "P0562"]
    assert made.diagnosis["odometer"] == 48_210
    assert made.diagnosis["firmware"] == "12.4.0"
    promised = {"minutes": 60, "price_from": 180, "price_to": 220, "currency": "EUR"}
    assert made.diagnosis["promised"] == promised
    assert (await world.touchpoint()).state is State.BOOKED


async def test_any_free_time_can_be_chosen_not_only_a_proposed_one(world: World) -> None:
    other = at("2026-11-27T11:30+01:00")
    assert (await booked(world, other)).start == other


@pytest.mark.parametrize(
    "start",
    ["2026-11-23T16:00+01:00", "2026-11-24T08:15+01:00", "2026-11-24T18:00+01:00", "2026-11-28T10:00+01:00"],
)
async def test_a_time_that_was_never_free_is_answered_with_the_next_ones(world: World, start: str) -> None:
    """Inside the lead time, off the grid, past closing time, on a Saturday."""
    with pytest.raises(SlotTakenError) as taken:
        await world.answers("book", slot=f"nord@{at(start)}")
    assert [slot.start for slot in taken.value.next_slots] == [TUESDAY_8, WEDNESDAY_16]
    assert (await world.touchpoint()).state is State.OPEN


@pytest.mark.parametrize("slot", ["", "nord", "nord@", "@5", "nord@x", "nord@-5", "nowhere@1796108400000"])
async def test_what_is_no_slot_is_refused(world: World, slot: str) -> None:
    with pytest.raises(InvalidError):
        await world.answers("book", slot=slot)


async def test_a_taken_slot_gives_the_next_ones_and_the_offer_is_renewed(world: World) -> None:
    await world.takes("2026-11-24T08:00+01:00")
    with pytest.raises(SlotTakenError) as taken:
        await world.answers("book", slot=f"nord@{TUESDAY_8}")
    renewed = await world.write(book.refresh, (await world.touchpoint()).id, world.now, world.policy)
    assert renewed.slots == taken.value.next_slots
    assert renewed.slots[0].start == TUESDAY_8 + 60 * MINUTE
    assert len(await world.queued("display")) == 1


async def test_opening_the_matter_holds_its_times_for_a_quarter_of_an_hour(world: World) -> None:
    touchpoint = (await world.touchpoint()).id
    held = await world.write(book.hold, touchpoint, world.now, world.policy)
    began = world.now
    assert {slot.held_until for slot in held.slots} == {began + 15 * MINUTE}
    service = NORD.services[0]

    def others_see(records: Records) -> bool:
        free = book.free_slots(records, NORD, service, TUESDAY_8, TUESDAY_8 + 1, world.now)
        return bool(free)

    assert not await world.read(others_see)
    world.clock.advance(began + 10 * MINUTE)
    again = await world.write(book.hold, touchpoint, world.now, world.policy)
    assert again.slots == held.slots  # asking again does not prolong it
    world.clock.advance(began + 15 * MINUTE)
    assert await world.read(others_see)
    third = await world.write(book.hold, touchpoint, world.now, world.policy)
    assert third.slots[0].held_until == began + 30 * MINUTE


async def test_a_held_slot_is_the_holders_and_booking_releases_the_other(world: World) -> None:
    await world.write(book.hold, (await world.touchpoint()).id, world.now, world.policy)
    with pytest.raises(SlotTakenError):
        await world.takes("2026-11-24T08:30+01:00")
    await booked(world)
    await world.takes("2026-11-25T16:00+01:00")


async def test_a_slot_held_over_midnight_can_still_be_booked(world: World) -> None:
    world.go_to("2026-11-23T23:50+01:00")
    await world.write(book.hold, (await world.touchpoint()).id, world.now, world.policy)
    world.go_to("2026-11-24T00:02+01:00")
    assert (await booked(world)).start == TUESDAY_8


async def test_opening_hours_that_are_none_cost_the_slots_and_nothing_else(world: World) -> None:
    broken = replace(NORD, hours={"tue": (("8 o'clock", "late"),)})
    await world.write(lambda records: records.workshops.put(broken))
    renewed = await world.write(book.refresh, (await world.touchpoint()).id, world.now, world.policy)
    touchpoint = await world.touchpoint()
    assert touchpoint == renewed
    assert touchpoint.slots == ()
    rows = len(await world.queued("display"))
    await world.write(book.hold, touchpoint.id, world.now, world.policy)
    assert len(await world.queued("display")) == rows


async def test_only_an_open_matter_holds_times(world: World) -> None:
    await world.answers("not_now")
    with pytest.raises(ConflictError):
        await world.write(book.hold, (await world.touchpoint()).id, world.now, world.policy)


async def test_a_workshop_that_books_on_request_is_asked_first(world: World) -> None:
    await world.write(lambda records: records.workshops.put(replace(NORD, books="on_request")))
    made = await booked(world)
    assert made.state is AppointmentState.REQUESTED
    assert "requested" in await world.codes()
    assert "booked" not in await world.codes()
    confirmed = await world.write(book.confirm, made.id, world.now, world.policy)
    assert confirmed.state is AppointmentState.CONFIRMED
    assert (await world.story())[-1] == "Autohaus Nord confirmed Tuesday, 24 November, 8:00 at 9:10."
    assert await world.write(book.confirm, made.id, world.now, world.policy) == confirmed


async def test_a_visit_the_owner_cancels_leaves_the_matter_open_with_new_times(world: World) -> None:
    await world.subscribes()
    made = await booked(world)
    await world.write(book.cancel, made.id, world.now, world.policy, by="jana")
    touchpoint = await world.touchpoint()
    assert (touchpoint.state, touchpoint.answer) == (State.OPEN, None)
    assert touchpoint.slots[0].start == TUESDAY_8
    assert (await world.codes())[-1] == "cancelled_owner"
    assert await world.queued("web_push") == []  # who cancels knows
    again = await booked(world, WEDNESDAY_16)
    assert again.start == WEDNESDAY_16


async def test_a_visit_the_workshop_cancels_is_told_to_the_owner(world: World) -> None:
    await world.subscribes()
    made = await booked(world)
    await world.write(book.cancel, made.id, world.now, world.policy, by="nord")
    assert (await world.codes())[-1] == "cancelled_workshop"
    assert [row.payload["about"] for row in await world.queued("web_push")] == ["offer"]


async def test_a_cancelled_visit_for_something_that_is_over_ends_the_matter(world: World) -> None:
    made = await booked(world)
    await world.cleared()
    await world.write(book.cancel, made.id, world.now, world.policy)
    assert (await world.touchpoint()).state is State.CLOSED


async def test_a_cancelled_visit_of_a_product_that_was_sold_is_not_offered_again(world: World) -> None:
    made = await booked(world)
    await world.write(lambda records: records.devices.transfer("car", None, world.now))
    await world.write(book.cancel, made.id, world.now, world.policy)
    assert (await world.touchpoint()).state is State.CLOSED
    assert (await world.codes())[-1] == "withdrawn_new_owner"


async def test_a_visit_can_be_moved_also_into_its_own_time(world: World) -> None:
    made = await booked(world)
    moved = await world.write(
        book.reschedule, made.id, f"nord@{TUESDAY_8 + 30 * MINUTE}", world.now, world.policy
    )
    assert (moved.id, moved.start) == (made.id, TUESDAY_8 + 30 * MINUTE)
    assert (await world.story())[-1] == (
        "Moved at 9:10 from Tuesday, 24 November, 8:00 to Tuesday, 24 November, 8:30, Autohaus Nord."
    )
    await world.takes("2026-11-24T11:00+01:00")
    with pytest.raises(SlotTakenError):
        await world.write(
            book.reschedule, made.id, f"nord@{at('2026-11-24T11:00+01:00')}", world.now, world.policy
        )


async def test_a_workshop_can_offer_another_time_instead(world: World) -> None:
    await world.subscribes()
    made = await booked(world)
    other = at("2026-11-26T09:00+01:00")
    await world.write(book.counter, made.id, other, world.now, world.policy)
    touchpoint = await world.touchpoint()
    assert (touchpoint.state, [slot.start for slot in touchpoint.slots]) == (State.OPEN, [other])
    assert (await appointment(world)).state is AppointmentState.COUNTERED
    with pytest.raises(ConflictError):
        await world.write(book.counter, made.id, other, world.now, world.policy)


async def test_a_counter_proposal_is_a_free_time(world: World) -> None:
    made = await booked(world)
    await world.takes("2026-11-26T09:00+01:00")
    with pytest.raises(InvalidError):
        await world.write(book.counter, made.id, [at("2026-11-26T09:00+01:00")], world.now, world.policy)
    assert (await appointment(world)).state is AppointmentState.CONFIRMED


async def test_nobody_has_failed_to_come_before_the_visit_began(world: World) -> None:
    made = await booked(world)
    with pytest.raises(ConflictError):
        await world.write(book.no_show, made.id, world.now, world.policy)
    world.clock.advance(TUESDAY_8 + 30 * MINUTE)
    await world.write(book.no_show, made.id, world.now, world.policy)
    assert (await world.touchpoint()).state is State.OPEN
    with pytest.raises(ConflictError):
        await world.write(book.cancel, made.id, world.now, world.policy)


async def test_every_appointment_state_has_its_way_on() -> None:
    assert set(book.TRANSITIONS) == set(AppointmentState)


async def test_five_hundred_owners_after_the_last_slot_one_gets_it(world: World) -> None:
    """All at the same instant, through five connections of their own; the database decides, and everybody
    else is answered with the next times."""
    for day in (24, 25, 26, 27):
        start, minutes = (9, 570) if day == 24 else (8, 630)
        await world.takes(f"2026-11-{day}T{start:02d}:00+01:00", minutes=minutes)

    def crowd(records: Records) -> list[str]:
        mine = records.touchpoints.page()[0]
        ids = []
        for number in range(500):
            name = f"o{number}"
            records.owners.add(Owner(id=name, name=name))
            records.owners.consent(
                Consent(owner=name, purpose="maintenance", granted=True, at=0, source="import")
            )
            records.devices.add(Device(id=f"d{number}", kind="car", owner=name, workshop="nord"))
            records.touchpoints.add(replace(mine, id=f"t{number}", owner=name, device=f"d{number}"))
            ids.append(f"t{number}")
        return ids

    ids = await world.write(crowd)
    choice = Answer(action="book", slot=f"nord@{TUESDAY_8}", channel="page", at=world.now, by="owner")
    url = f"sqlite:///{world.database.path}"
    counters = [SqlDatabase(url, now=world.clock.now, patience=120) for _ in range(5)]
    offered: set[int] = set()

    async def tap(number: int, touchpoint: str) -> bool:
        try:
            await counters[number % 5].write(
                lambda r: respond.answer(r, touchpoint, choice, world.now, world.policy)
            )
        except SlotTakenError as taken:
            offered.update(slot.start for slot in taken.next_slots)
            return False
        return True

    assert sum(await asyncio.gather(*(tap(*each) for each in enumerate(ids)))) == 1
    for database in counters:
        await database.close()
    assert min(offered) == at("2026-11-30T08:00+01:00")
    busy = await world.read(lambda r: r.workshops.busy("nord", TUESDAY_8, TUESDAY_8 + DAY // 24, world.now))
    assert len(busy) == 1
