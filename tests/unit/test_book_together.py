"""Both sides come to a time: bundles, several workshops, wishes, offers, silence; and who pays."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from garage import BRAKES, DAY, HOUR, MINUTE, NORD, World, at, open_world

from gateway.domain.appointment import Appointment, AppointmentState, BusyTime, HomeVisits, Part, Workshop
from gateway.domain.errors import ConflictError, InvalidError, SlotTakenError
from gateway.domain.touchpoint import Finding, State
from gateway.flow import book, visit
from gateway.ports import Records

TUESDAY_8 = at("2026-11-24T08:00+01:00")
ON_REQUEST = replace(NORD, books="on_request")
S = AppointmentState


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def workshop(world: World, place: Workshop) -> None:
    await world.write(lambda records: records.workshops.put(place))


async def visits(world: World, *states: AppointmentState) -> list[Appointment]:
    return await world.read(lambda r: r.workshops.appointments(owner="jana", states=states))


async def visit_of(world: World, *states: AppointmentState) -> Appointment:
    return (await visits(world, *states))[0]


async def requested(world: World) -> Appointment:
    await workshop(world, ON_REQUEST)
    await world.found()
    await world.answers("book", slot=f"nord@{TUESDAY_8}")
    return await visit_of(world)


async def settled(world: World) -> list[str]:
    return await world.write(visit.settle_due, world.now, world.policy)


# --- what can be booked -----------------------------------------------------------------------


async def test_two_matters_of_one_product_are_one_visit_of_their_time_together(world: World) -> None:
    await world.found()

    def another(records: Records) -> None:
        first = records.touchpoints.page()[0]
        rear = Finding(
            id="rear",
            device="car",
            rule="brake-pads-rear-worn",
            version=3,
            severity="advice",
            position=9,
            began_ts=0,
            found_at=world.now,
            evidence={"pad_wear_rear": 91},
        )
        records.touchpoints.add_finding(rear)
        records.touchpoints.take_in(first.id, rear, "brakes-rear", "maintenance", world.now)

    await world.write(another)
    await world.answers("book", slot=f"nord@{TUESDAY_8}")
    made = await visit_of(world)
    assert made.jobs == ("brakes-front", "brakes-rear")
    assert made.end - made.start == 2 * HOUR
    assert [told["service"] for told in made.diagnosis["matters"]] == ["brakes-front", "brakes-rear"]
    promised = {"minutes": 120, "price_from": 360, "price_to": 440, "currency": "EUR"}
    assert made.diagnosis["promised"] == promised


async def test_no_slot_is_offered_before_the_parts_can_be_there(world: World) -> None:
    parts = (Part(name="pads", days=4), Part(name="sensor", days=8))
    await workshop(world, replace(NORD, services=(replace(BRAKES, parts=parts),)))
    await world.found()
    assert (await world.touchpoint()).slots[0].start == at("2026-12-01T08:00+01:00")


async def test_a_job_needs_a_bay_that_can_do_it_and_its_time_afterwards(world: World) -> None:
    service = replace(BRAKES, skills=("ev",), buffer_minutes=30)
    await workshop(
        world, replace(NORD, bays=("Bay 1", "Bay 2"), skills={"Bay 2": ("ev",)}, services=(service,))
    )
    await world.found()
    await world.answers("book", slot=f"nord@{TUESDAY_8}")
    made = await visit_of(world)
    assert (made.bay, made.bay_until) == ("Bay 2", TUESDAY_8 + 90 * MINUTE)
    with pytest.raises(SlotTakenError):  # the database knows of the buffer, too
        await world.takes("2026-11-24T09:00+01:00", bay="Bay 2")
    await world.takes("2026-11-24T09:30+01:00", bay="Bay 2")


@pytest.mark.parametrize(("bay", "first"), [("Bay 1", 10), (None, 10), ("Bay 2", 8)])
async def test_what_the_workshops_own_calendar_has_taken_is_not_offered(
    world: World, bay: str | None, first: int
) -> None:
    taken = BusyTime(workshop="nord", start=TUESDAY_8, end=TUESDAY_8 + 2 * HOUR, source="feed", bay=bay)
    await world.write(lambda r: r.workshops.put_busy("nord", "feed", [taken]))
    await world.found()
    assert (await world.touchpoint()).slots[0].start == at(f"2026-11-24T{first:02d}:00+01:00")
    await world.write(lambda r: r.workshops.put_busy("nord", "feed", []))
    assert await world.read(lambda r: r.workshops.busy_times("nord", 0, 10**15)) == []


# --- at home ----------------------------------------------------------------------------------


HOME = HomeVisits(window_minutes=120, travel_minutes=30, postcodes=("20",))


async def at_home(world: World, address: str | None, home: HomeVisits = HOME) -> None:
    await workshop(world, replace(NORD, home=home, services=(replace(BRAKES, at_home=True),)))

    def lives(records: Records) -> None:
        records.owners.update(replace(records.owners.get("jana"), address=address))

    await world.write(lives)
    await world.found()


async def test_at_home_slots_are_arrival_windows_with_the_way_between_them(world: World) -> None:
    await at_home(world, "Lange Reihe 12, 20099 Hamburg")
    slots = (await world.touchpoint()).slots
    assert [slot.arrive_until for slot in slots] == [slot.start + 2 * HOUR for slot in slots]
    await world.answers("book", slot=slots[0].id)
    made = await visit_of(world)
    assert made.address == "Lange Reihe 12, 20099 Hamburg"
    assert made.arrive_until == made.start + 2 * HOUR
    assert made.bay_until == made.start + 90 * MINUTE  # the job and the way to the next one


@pytest.mark.parametrize("address", [None, "Marienplatz 1, 80331 München", "somewhere"])
async def test_who_lives_elsewhere_is_offered_no_window(world: World, address: str | None) -> None:
    await at_home(world, address)
    assert (await world.touchpoint()).slots == ()
    with pytest.raises(SlotTakenError):
        await world.answers("book", slot=f"nord@{TUESDAY_8}")


# --- requests ---------------------------------------------------------------------------------


async def test_a_request_says_by_when_it_is_answered(world: World) -> None:
    made = await requested(world)
    assert (made.state, made.answer_by) == (S.REQUESTED, TUESDAY_8)  # before the time itself
    assert (
        "Requested at 9:00: Tuesday, 24 November, 8:00, Autohaus Nord. Answer by Tuesday, 24 November, 8:00."
        in (await world.story())
    )


async def test_a_silent_workshop_costs_the_owner_nothing_but_time(world: World) -> None:
    await world.subscribes()
    made = await requested(world)
    assert await settled(world) == []
    world.go_to(made.answer_by or 0)
    assert await settled(world) == ["lapsed"]
    touchpoint = await world.touchpoint()
    assert (touchpoint.state, touchpoint.answer) == (State.OPEN, None)
    assert touchpoint.slots[0].start > world.now
    assert (await visit_of(world)).state is S.LAPSED
    assert (await world.codes())[-1] == "request_lapsed"
    assert [row.payload["about"] for row in await world.queued("web_push")] == ["offer"]
    assert await settled(world) == []


async def test_a_declined_request_brings_the_next_times(world: World) -> None:
    made = await requested(world)
    declined = await world.write(book.decline, made.id, world.now, world.policy)
    assert declined.state is S.DECLINED
    assert (await world.touchpoint()).state is State.OPEN
    with pytest.raises(ConflictError):
        await world.write(book.confirm, made.id, world.now, world.policy)


# --- several workshops ------------------------------------------------------------------------


async def asked_three(world: World) -> list[Appointment]:
    for name in ("nord", "ost", "west"):
        await workshop(world, replace(ON_REQUEST, id=name, name=f"Autohaus {name.title()}"))
    await world.found()
    await world.answers("book", slot=",".join(f"{name}@{TUESDAY_8}" for name in ("nord", "ost", "west")))
    return sorted(await visits(world), key=lambda visit: visit.workshop)


async def test_of_several_that_are_asked_the_first_to_accept_wins(world: World) -> None:
    asked = await asked_three(world)
    assert [(a.workshop, a.state) for a in asked] == [(n, S.REQUESTED) for n in ("nord", "ost", "west")]
    await world.write(book.confirm, asked[1].id, world.now, world.policy)
    assert {a.workshop: a.state for a in await visits(world)} == {
        "nord": S.RELEASED,
        "ost": S.CONFIRMED,
        "west": S.RELEASED,
    }
    assert sorted((await world.codes())[-3:]) == ["confirmed", "released", "released"]
    with pytest.raises(ConflictError):
        await world.write(book.confirm, asked[0].id, world.now, world.policy)


async def test_one_no_of_several_is_waited_out(world: World) -> None:
    asked = await asked_three(world)
    await world.write(book.decline, asked[0].id, world.now, world.policy)
    await world.write(book.counter, asked[1].id, [TUESDAY_8 + 2 * HOUR], world.now, world.policy)
    assert (await world.touchpoint()).state is State.BOOKED
    await world.write(book.decline, asked[2].id, world.now, world.policy)
    assert (await world.touchpoint()).state is State.OPEN


async def test_who_books_at_once_is_not_outrun_by_requests(world: World) -> None:
    await workshop(world, replace(ON_REQUEST, id="ost", name="Autohaus Ost"))
    await world.found()
    await world.answers("book", slot=f"ost@{TUESDAY_8},nord@{TUESDAY_8}")
    assert [(a.workshop, a.state) for a in await visits(world)] == [("nord", S.CONFIRMED)]


async def test_more_than_three_are_not_asked(world: World) -> None:
    await asked_three(world)
    touchpoint = await world.touchpoint()
    wanted = ",".join(f"{name}@{TUESDAY_8 + HOUR}" for name in ("nord", "ost", "west", "sued"))
    with pytest.raises(InvalidError):
        await world.write(book.book, touchpoint, wanted, world.now, world.policy)


# --- both sides -------------------------------------------------------------------------------


async def test_an_offered_time_is_kept_and_taken_without_asking_again(world: World) -> None:
    made = await requested(world)
    other = TUESDAY_8 + 5 * HOUR
    countered = await world.write(book.counter, made.id, [other], world.now, world.policy)
    assert (countered.state, countered.offered) == (S.COUNTERED, (other,))
    with pytest.raises(SlotTakenError):  # kept for the owner
        await world.takes("2026-11-24T13:00+01:00")
    await world.answers("book", slot=f"nord@{other}")
    stands = await visit_of(world)
    assert (stands.id, stands.state, stands.start) == (made.id, S.CONFIRMED, other)
    assert stands.sequence > made.sequence


async def test_times_that_the_owner_leaves_lying_are_given_back(world: World) -> None:
    made = await requested(world)
    countered = await world.write(book.counter, made.id, [TUESDAY_8 + DAY], world.now, world.policy)
    world.go_to(countered.answer_by or 0)
    assert await settled(world) == ["lapsed"]
    assert (await visit_of(world)).state is S.LAPSED
    assert (await world.touchpoint()).state is State.OPEN


async def test_an_owner_can_wish_for_another_time_while_the_first_one_stands(world: World) -> None:
    await world.found()
    await world.answers("book", slot=f"nord@{TUESDAY_8}")
    made, evening = await visit_of(world), TUESDAY_8 + 10 * HOUR + 30 * MINUTE
    wished = await world.write(book.wish, made.id, [evening], world.now, world.policy)
    assert (wished.state, wished.start, wished.wished) == (S.CONFIRMED, TUESDAY_8, (evening,))
    taken = await world.write(book.accept, made.id, evening, world.now, world.policy)
    assert (taken.id, taken.state, taken.start, taken.wished) == (made.id, S.CONFIRMED, evening, ())
    assert (await world.codes())[-1] == "rescheduled"
    await world.takes("2026-11-24T08:00+01:00")  # the first one is free again


@pytest.mark.parametrize("how", ["says no", "says nothing"])
async def test_a_wish_that_is_not_met_leaves_the_time_that_stands(world: World, how: str) -> None:
    await world.found()
    await world.answers("book", slot=f"nord@{TUESDAY_8}")
    made = await visit_of(world)
    wished = await world.write(book.wish, made.id, [TUESDAY_8 + DAY], world.now, world.policy)
    if how == "says no":
        await world.write(book.decline, made.id, world.now, world.policy)
    else:
        world.go_to(wished.answer_by or 0)
        assert "wish_lapsed" in await settled(world)
    stands = await visit_of(world)
    assert (stands.state, stands.start, stands.wished) == (S.CONFIRMED, TUESDAY_8, ())


async def test_an_owner_whom_no_time_suits_asks_for_one(world: World) -> None:
    await world.found()
    touchpoint, early = await world.touchpoint(), at("2026-11-24T07:00+01:00")
    asked = await world.write(book.ask_for, touchpoint, [early], world.now, world.policy)
    assert (asked.state, asked.wished) == (S.WISHED, (early,))
    await world.write(lambda r: r.touchpoints.save(replace(touchpoint, state=State.ANSWERED)))
    with pytest.raises(InvalidError):
        await world.write(book.accept, asked.id, TUESDAY_8, world.now, world.policy)
    stands = await world.write(book.accept, asked.id, early, world.now, world.policy)
    assert (stands.state, stands.bay, stands.start) == (S.CONFIRMED, "Bay 1", early)
    assert (await world.touchpoint()).state is State.BOOKED


async def test_a_counter_can_be_countered(world: World) -> None:
    made = await requested(world)
    await world.write(book.counter, made.id, [TUESDAY_8 + 5 * HOUR], world.now, world.policy)
    wished = await world.write(book.wish, made.id, [TUESDAY_8 + 7 * HOUR], world.now, world.policy)
    assert (wished.id, wished.state) == (made.id, S.WISHED)
    assert (await world.touchpoint()).state is State.ANSWERED
    await world.takes("2026-11-24T13:00+01:00")  # given back
    again = await world.write(book.counter, made.id, [TUESDAY_8 + 8 * HOUR], world.now, world.policy)
    stands = await world.write(book.take_offer, again.id, TUESDAY_8 + 8 * HOUR, world.now, world.policy)
    assert (stands.id, stands.state) == (made.id, S.CONFIRMED)
    assert (await world.touchpoint()).state is State.BOOKED


async def test_who_says_not_now_lets_everybody_go_who_waits(world: World) -> None:
    made = await requested(world)
    await world.write(book.counter, made.id, [TUESDAY_8 + 5 * HOUR], world.now, world.policy)
    await world.answers("not_now")
    assert (await visit_of(world)).state is S.RELEASED
    await world.takes("2026-11-24T13:00+01:00")


@pytest.mark.parametrize("starts", [[], [1], [TUESDAY_8 + n * HOUR for n in range(4)]])
async def test_a_wish_is_one_to_three_times_to_come(world: World, starts: list[int]) -> None:
    made = await requested(world)
    with pytest.raises(InvalidError):
        await world.write(book.wish, made.id, starts, world.now, world.policy)


# --- meanwhile, and who pays ------------------------------------------------------------------


async def wishes_for(world: World, **wishes: object) -> None:
    await world.write(lambda r: r.owners.update(replace(r.owners.get("jana"), wishes=wishes)))


async def test_what_an_owner_does_meanwhile_is_asked_or_wished_and_never_assumed(world: World) -> None:
    await world.found()
    await world.answers("book", slot=f"nord@{TUESDAY_8}")
    made = await visit_of(world)
    assert made.stay is None
    said = await world.write(book.set_stay, made.id, "waits", world.now, world.policy)
    assert said.stay == "waits"
    await world.write(book.cancel, made.id, world.now, world.policy)
    await wishes_for(world, stay="drops_off")
    await world.answers("book", slot=f"nord@{TUESDAY_8}")
    assert (await visit_of(world, S.CONFIRMED)).stay == "drops_off"


async def test_replacement_cars_run_out_by_the_day(world: World) -> None:
    await workshop(world, replace(NORD, bays=("Bay 1", "Bay 2"), replacement_cars=1))
    given = Appointment(
        id="other",
        workshop="nord",
        service="brakes-front",
        bay="Bay 2",
        start=TUESDAY_8,
        end=TUESDAY_8 + HOUR,
        state=S.CONFIRMED,
        created=0,
        stay="replacement_car",
    )
    await world.write(lambda r: r.workshops.book(given))
    await wishes_for(world, replacement_car=True)
    await world.found()
    assert (await world.touchpoint()).slots[0].start == TUESDAY_8 + DAY
    with pytest.raises(SlotTakenError):
        await world.answers("book", slot=f"nord@{TUESDAY_8}")
    await wishes_for(world)
    await world.answers("book", slot=f"nord@{TUESDAY_8}")
    made = await visit_of(world)
    with pytest.raises(InvalidError):
        await world.write(book.set_stay, made.id, "replacement_car", world.now, world.policy)


async def test_an_appointment_keeps_the_terms_it_was_booked_on(world: World) -> None:
    priced = replace(BRAKES, vat_percent=19.0, price_valid_until="2026-12-31")
    await workshop(world, replace(NORD, services=(priced,)))
    await world.found()
    await world.answers("book", slot=f"nord@{TUESDAY_8}")
    said = (await visit_of(world)).terms["brakes-front"]
    assert (said["payer"], said["price_from"], said["vat_percent"]) == ("owner", 180, 19.0)
    assert said["valid_until"] == "2026-12-31"
