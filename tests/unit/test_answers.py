"""Every answer beside booking: later, never, done there and then, another workshop or time, by telephone."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from garage import BRAKES, DAY, MINUTE, NORD, World, at, open_world

from gateway.domain import snooze
from gateway.domain.delivery import Attempt, DeliveryState
from gateway.domain.errors import ConflictError, InvalidError
from gateway.domain.owner import Preferences
from gateway.domain.touchpoint import Answer, State, Touchpoint
from gateway.flow import respond, returning
from gateway.ports import Records

BERLIN = "Europe/Berlin"
TUESDAY_8 = at("2026-11-24T08:00+01:00")
TUESDAY_9 = at("2026-11-24T09:00+01:00")
SUED = replace(NORD, id="sued", name="Werkstatt Süd")
TYRES = replace(NORD, id="tyres", name="Reifen Ost", services=(replace(BRAKES, id="tyres"),))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        await opened.subscribes()
        await opened.found()
        yield opened


async def says(world: World, touchpoint: Touchpoint, action: str, **answer: object) -> Touchpoint:
    """An answer to this very touchpoint, with whatever else is said."""
    plain: dict[str, object] = {"action": action, "channel": "page", "at": world.now, "by": "jana"}
    chosen = Answer(**(plain | answer))  # type: ignore[arg-type]
    return await world.write(respond.answer, touchpoint.id, chosen, world.now, world.policy)


# --- later ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "until"),
    [
        ("tomorrow", "2026-11-24T09:00+01:00"),
        ("weekend", "2026-11-28T09:00+01:00"),
        ("next_week", "2026-11-30T09:00+01:00"),
        ("2026-12-24", "2026-12-24T09:00+01:00"),
        ("2026-12-24T18:30:00+01:00", "2026-12-24T18:30+01:00"),
    ],
)
async def test_a_snoozed_matter_sleeps_until_the_day_its_owner_chose(
    world: World, said: str, until: str
) -> None:
    asleep = await world.answers(f"snooze:{said}")
    assert (asleep.state, asleep.wake_at, asleep.slots) == (State.DEFERRED, at(until), ())
    world.go_to(at(until) - MINUTE)
    await world.timers()
    assert (await world.touchpoint()).state is State.DEFERRED
    world.go_to(at(until))
    await world.timers()
    awake = await world.touchpoint()
    assert (awake.id, awake.state, awake.answer) == (asleep.id, State.OPEN, None), "it can be answered again"
    assert awake.slots, "with times that are free now"
    assert len(await world.queued("web_push")) == 1


def test_the_weekend_is_never_today_and_nine_is_nine_after_the_clocks_change() -> None:
    saturday = at("2026-10-24T12:00+02:00")
    assert snooze.choices(saturday, BERLIN) == {
        "tomorrow": at("2026-10-25T09:00+01:00"),
        "weekend": at("2026-10-31T09:00+01:00"),
        "next_week": at("2026-10-26T09:00+01:00"),
    }


async def test_coming_back_at_the_owners_wish_costs_no_budget(world: World) -> None:
    await world.wishes(weekly_budget=1)
    await world.answers("snooze:tomorrow")
    world.go_to(TUESDAY_9)
    await world.timers()
    assert (await world.touchpoint()).state is State.OPEN
    assert not [code for code in await world.codes() if code.startswith("not_sent_budget")]


async def test_what_has_become_untrue_does_not_come_back(world: World) -> None:
    await world.answers("snooze:tomorrow")
    await world.cleared()
    assert (await world.touchpoint()).state is State.WITHDRAWN


async def test_a_matter_that_sleeps_long_does_not_expire_in_its_sleep(world: World) -> None:
    await world.answers("snooze:2027-02-01")
    world.go_to("2027-01-31T12:00+01:00")
    await world.timers()
    assert (await world.touchpoint()).state is State.DEFERRED
    world.go_to("2027-02-01T09:00+01:00")
    await world.timers()
    awake = await world.touchpoint()
    assert awake.state is State.OPEN
    assert (awake.expires_at or 0) >= world.now + 14 * DAY


async def test_a_snoozed_matter_holds_against_another_answer_until_it_is_shown_again(world: World) -> None:
    asleep = await world.answers("snooze:tomorrow")
    with pytest.raises(ConflictError) as refused:
        await world.answers(f"book:nord@{TUESDAY_8}", channel="email")
    assert refused.value.holds == asleep
    shown = await world.write(returning.show_now, asleep.id, world.now, world.policy)
    assert (shown.id, shown.state, shown.answer) == (asleep.id, State.OPEN, None)
    assert (await world.answers(f"book:{shown.slots[0].id}")).state is State.BOOKED


# --- not now --------------------------------------------------------------------------------------


async def test_not_now_says_when_the_matter_returns(world: World) -> None:
    closed = await world.answers("not_now")
    assert (closed.state, closed.wake_at) == (State.CLOSED, world.now + 7 * DAY)
    assert (await world.story())[-1] == (
        "You said “not now” at 9:00 on the page; closed everywhere else."
        " It comes back on Monday, 30 November, 9:00, if it is still so."
    )


async def test_after_not_now_a_new_contact_follows_on_its_day_and_only_once(world: World) -> None:
    closed = await world.answers("not_now")
    world.go_to(world.now + 7 * DAY - 1)
    assert await world.timers() == 0
    world.go_to(world.now + 1)
    assert await world.timers() == 1
    back, old = await world.touchpoints()
    assert (back.state, back.finding, back.answer) == (State.OPEN, closed.finding, None)
    assert (old.id, old.state, old.wake_at) == (closed.id, State.CLOSED, None)
    assert old.answer == closed.answer, "what was answered stays answered"
    world.go_to(world.now + DAY)
    await world.timers()
    assert len(await world.touchpoints()) == 2


async def test_what_is_no_longer_so_does_not_return(world: World) -> None:
    await world.answers("not_now")
    await world.cleared()
    world.go_to(world.now + 7 * DAY)
    await world.timers()
    assert len(await world.touchpoints()) == 1
    assert await world.read(lambda r: r.touchpoints.next_wake()) is None


async def test_the_owner_chooses_another_day_or_takes_it_up_at_once(world: World) -> None:
    closed = await world.answers("not_now")
    later = await world.write(
        returning.put_off_until, closed.id, TUESDAY_9 + 20 * DAY, world.now, world.policy
    )
    assert later.wake_at == TUESDAY_9 + 20 * DAY
    assert later.answer is not None
    assert later.answer.until == later.wake_at
    with pytest.raises(InvalidError):
        await world.write(returning.put_off_until, closed.id, world.now, world.now, world.policy)
    opened = await world.write(returning.show_now, closed.id, world.now, world.policy)
    assert opened.id != closed.id
    assert opened.state is State.OPEN
    assert opened.slots
    with pytest.raises(ConflictError):
        await world.write(returning.show_now, closed.id, world.now, world.policy)
    assert (await world.codes())[-2:] == ["returned", "returned_at_once"]


async def test_the_same_answer_with_another_day_changes_the_day(world: World) -> None:
    closed = await world.answers("not_now")
    assert await world.answers("not_now") == closed
    changed = await world.answers("not_now:2026-12-24")
    assert changed.wake_at == at("2026-12-24T09:00+01:00")
    with pytest.raises(ConflictError):
        await world.answers("snooze:2026-12-24")


async def test_a_product_that_changed_hands_brings_nothing_back(world: World) -> None:
    await world.answers("not_now")
    await world.write(lambda records: records.devices.transfer("car", None, world.now))
    world.go_to(world.now + 7 * DAY)
    await world.timers()
    assert len(await world.touchpoints()) == 1


# --- never ----------------------------------------------------------------------------------------


async def test_never_mutes_this_kind_until_it_becomes_graver(world: World) -> None:
    await world.answers("never")
    wanted = await world.read(lambda r: r.owners.preferences("jana"))
    assert wanted.muted == ("brake-pads-front-worn",)
    assert wanted.muted_at == {"brake-pads-front-worn": "advice"}
    await world.cleared()
    assert await world.found() == "suppress"
    assert (await world.codes())[-1] == "suppressed_muted"
    assert await world.found(severity="warning") == "send"


async def test_who_never_chose_keeps_the_operators_defaults_when_muting(world: World) -> None:
    world.policy = replace(world.policy, quiet_from="22:30", weekly_budget=5)
    await world.answers("never")
    wanted = await world.read(lambda r: r.owners.preferences("jana"))
    assert (wanted.quiet_from, wanted.weekly_budget) == ("22:30", 5)


async def test_what_is_dangerous_cannot_be_muted(world: World) -> None:
    await world.found("coolant-too-hot")
    with pytest.raises(InvalidError):
        await world.answers("never")
    assert Preferences(muted=("coolant-too-hot",)).mutes("coolant-too-hot", "critical") is False


def test_muting_ends_when_severity_rises() -> None:
    wanted = Preferences().muting("tyre-pressure-low", "advice")
    assert wanted.mutes("tyre-pressure-low", "advice")
    assert not wanted.mutes("tyre-pressure-low", "warning")
    assert not wanted.mutes("other", "advice")
    assert not wanted.unmuting("tyre-pressure-low").mutes("tyre-pressure-low", "advice")
    assert wanted.unmuting("tyre-pressure-low") == Preferences()


# --- already done ---------------------------------------------------------------------------------


async def test_already_done_is_kept_with_its_day_and_place_and_resets_from_then(world: World) -> None:
    touchpoint = await world.touchpoint()
    done = await says(world, touchpoint, "already_done:2026-11-20", workshop="nord")
    noon = at("2026-11-20T12:00+01:00")
    assert done.answer is not None
    assert (done.answer.done_at, done.answer.workshop) == (noon, "nord")
    (row,) = await world.queued("journal")
    assert (row.payload["since"], row.payload["signals"]) == (noon, ["pad_wear_front"])
    assert "it was done on Friday, 20 November (Autohaus Nord)" in (await world.story())[-1]


async def test_when_and_where_can_be_said_after_the_tap(world: World) -> None:
    touchpoint = await world.answers("already_done", channel="web_push")
    assert touchpoint.answer is not None
    assert touchpoint.answer.done_at is None
    told = await says(world, touchpoint, "already_done:2026-11-20", place="by myself")
    assert told.answer is not None
    assert (told.answer.place, told.answer.channel) == ("by myself", "web_push")
    since = [row.payload.get("since") for row in await world.queued("journal")]
    assert since == [None, at("2026-11-20T12:00+01:00")]
    assert await says(world, touchpoint, "already_done") == told, "saying less takes nothing back"


async def test_today_is_now(world: World) -> None:
    done = await says(world, await world.touchpoint(), "already_done:2026-11-23")
    assert done.answer is not None
    assert done.answer.done_at == world.now
    (row,) = await world.queued("journal")
    assert "since" not in row.payload


async def test_a_workshop_nobody_knows_is_refused(world: World) -> None:
    with pytest.raises(InvalidError):
        await says(world, await world.touchpoint(), "already_done", workshop="nowhere")


async def test_nothing_was_done_before_the_product_was_bought(world: World) -> None:
    def bought(records: Records) -> None:
        records.devices.update(replace(records.devices.get("car"), purchased="2026-11-10"))

    await world.write(bought)
    with pytest.raises(InvalidError):
        await says(world, await world.touchpoint(), "already_done:2026-11-05")
    assert (await says(world, await world.touchpoint(), "already_done:2026-11-11")).state is State.CLOSED


# --- other workshop, other time ---------------------------------------------------------------------


async def test_another_workshop_changes_where_the_proposals_are(world: World) -> None:
    await world.write(lambda records: records.workshops.add(SUED))
    chosen = await world.answers("other_workshop:sued")
    assert chosen.state is State.OPEN
    assert chosen.answer is None
    assert {slot.workshop for slot in chosen.slots} == {"sued"}
    assert (await world.read(lambda r: r.devices.get("car"))).workshop == "nord", "the product's own stays"
    assert (await world.story())[-1].startswith("You chose Werkstatt Süd")
    booked = await world.answers(f"book:{chosen.slots[0].id}")
    assert booked.state is State.BOOKED
    visits = await world.read(lambda r: r.workshops.appointments())
    assert [visit.workshop for visit in visits] == ["sued"]


async def test_only_a_workshop_that_does_the_job_can_be_chosen(world: World) -> None:
    await world.write(lambda records: records.workshops.add(TYRES))
    for wanted in ("tyres", "nowhere"):
        with pytest.raises(InvalidError):
            await world.answers(f"other_workshop:{wanted}")


async def test_other_times_are_the_next_ones_and_then_the_first_again(world: World) -> None:
    first = await world.touchpoint()
    second = await world.answers("other_time")
    assert second.state is State.OPEN
    assert min(s.start for s in second.slots) > max(s.start for s in first.slots)
    assert (await world.codes())[-1] == "times_changed"
    (row,) = await world.queued("display")
    assert row.touchpoint == first.id, "the display shows the new ones"


async def test_there_is_no_other_time_for_a_reminder(world: World) -> None:
    await world.found("descale-due", "washer")
    with pytest.raises(InvalidError):
        await world.answers("other_time")


# --- the telephone --------------------------------------------------------------------------------


async def test_asking_to_be_called_opens_a_case_with_a_deadline(world: World) -> None:
    touchpoint = await world.answers("call_me")
    (case,) = await world.read(lambda r: r.cases.page(touchpoint=touchpoint.id))
    assert str(case.kind) == "call_me"
    assert case.due_at > world.now
    assert touchpoint.state is State.ANSWERED


async def test_what_is_agreed_on_the_telephone_is_taken_down_by_the_call_centre(world: World) -> None:
    touchpoint = await world.answers("call_me")
    with pytest.raises(ConflictError):
        await says(world, touchpoint, f"book:nord@{TUESDAY_8}")
    booked = await says(world, touchpoint, f"book:nord@{TUESDAY_8}", channel="call_centre", by="operator")
    assert booked.state is State.BOOKED


async def test_the_ledger_says_who_answered_for_the_owner(world: World) -> None:
    await says(world, await world.touchpoint(), "not_now", channel="call_centre", by="operator")
    assert (await world.codes())[-2:] == ["answered_for_you", "answered_not_now"]
    assert "our service team" in (await world.story())[-2]


# --- one answer, everywhere -------------------------------------------------------------------------


@pytest.mark.parametrize("action", sorted(respond.MOVES))
async def test_every_answer_closes_the_other_channels_in_the_same_transaction(
    world: World, action: str
) -> None:
    feed = world.database.watch("touchpoint", "outbox")
    feed.take()
    slot = f":nord@{TUESDAY_8}" if action == "book" else ""
    answered = await world.answers(f"{action}{slot}", channel="email")
    waiting = await world.queued("web_push")
    assert [row.payload["about"] for row in waiting] == ["answered"], "no offer is left, the phone is told"
    assert len(await world.queued("web_push", DeliveryState.DROPPED)) == 1
    shown = [row for row in await world.queued("display") if row.touchpoint == answered.id]
    assert len(shown) == 1, "the display is brought up to date"
    assert ("touchpoint", answered.id) in feed.take(), "and every open page hears of it"
    feed.close()


async def delivered(world: World) -> None:
    """The offers have reached the owner's browsers."""

    def work(records: Records) -> None:
        for row in records.outbox.claim(world.now, lease_ms=MINUTE, limit=9, channels=["web_push"]):
            attempt = Attempt(delivery=row.id, number=1, at=world.now, result="sent", detail="201")
            records.outbox.finish(replace(row, state=DeliveryState.SENT, attempts=1), attempt)

    await world.write(work)


@pytest.mark.parametrize(
    ("channel", "phones", "told"),
    [("page", 1, 1), ("web_push", 1, 0), ("web_push", 2, 2), ("display", 1, 1), ("call_centre", 1, 1)],
)
async def test_no_notification_goes_on_offering_what_is_answered(
    tmp_path: Path, channel: str, phones: int, told: int
) -> None:
    async with open_world(tmp_path) as world:
        for n in range(phones):
            await world.subscribes(f"phone-{n}")
        await world.found()
        await delivered(world)
        await world.answers("noted", channel=channel)
        rows = await world.queued("web_push")
        assert [row.payload["about"] for row in rows] == ["answered"] * told


async def test_an_unanswered_matter_is_answered_once_however_many_try(world: World) -> None:
    slot = (await world.touchpoint()).slots[0].id
    for action in ("snooze", "never", "already_done", "noted", "call_me", "not_now"):
        await world.answers(f"book:{slot}")
        with pytest.raises(ConflictError):
            await world.answers(action)
    assert (await world.codes()).count("answered_book") == 1
