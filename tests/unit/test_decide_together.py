"""Several matters of one owner: one visit for two, one budget for all, the more important one first."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from garage import (
    BERLIN,
    BRAKES,
    DAY,
    HOUR,
    MONDAY_MORNING,
    NORD,
    RULES,
    SIGNALS,
    SUNDAY_NIGHT,
    TEXTS,
    World,
    open_world,
    rule,
)

from gateway.domain.appointment import AppointmentState
from gateway.domain.delivery import Attempt, DeliveryState
from gateway.domain.device import Facts
from gateway.domain.touchpoint import State, Touchpoint
from gateway.domain.wording import Words, touchpoint_words
from gateway.flow import agree, budget, decide, outgoing
from gateway.flow.outgoing import Renderer
from gateway.ports import Records

FRONT, REAR = "brake-pads-front-worn", "brake-pads-rear-worn"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture
async def night(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, SUNDAY_NIGHT) as opened:
        yield opened


def knows(world: World, *infos: object) -> None:
    """More rules than the usual ones."""
    world.policy = replace(world.policy, rules={**RULES, **{info.id: info for info in infos}})  # type: ignore[attr-defined]


def hint(rule_id: str, **changes: object) -> object:
    """A rule whose touchpoints no visit answers."""
    plain = {"touchpoint_kind": "hint", "service": None, "resets": (), "signals": (), "limit": None}
    return rule(rule_id, **(plain | changes))


async def about(world: World, touchpoint: Touchpoint) -> list[str]:
    matters = await world.read(lambda r: r.touchpoints.matters(touchpoint.id))
    return [matter.rule for matter in matters]


async def worded(world: World, language: str = "en") -> Words:
    """The newest touchpoint as its owner reads it."""
    touchpoint = await world.touchpoint()
    found = await world.read(lambda r: outgoing.matter(r, touchpoint.id, world.policy))
    return touchpoint_words(
        touchpoint, found.device, found.workshop, found.rule, SIGNALS, TEXTS, language, BERLIN,
        matters=found.told,
    )  # fmt: skip


# --- one visit --------------------------------------------------------------------------------


async def test_a_second_finding_joins_the_open_touchpoint_everywhere_at_no_further_cost(world: World) -> None:
    await world.subscribes()
    await world.found()
    one = await world.touchpoint()
    world.go_to(world.now + HOUR)
    assert await world.found(REAR, evidence={"pad_wear_rear": 93, "ts": world.now}) == "merge"
    touchpoints = await world.touchpoints()
    assert len(touchpoints) == 1
    assert await about(world, one) == [FRONT, REAR]
    assert {slot.end - slot.start for slot in touchpoints[0].slots} == {2 * HOUR}
    # The push that is still to be sent shows both by then, and rings once; so does the display.
    (push,) = await world.queued("web_push")
    assert not push.payload.get("silent")
    assert len(await world.queued("display")) == 1
    assert await world.read(lambda r: r.contacts.times("jana", ["service"], 0)) == [MONDAY_MORNING]
    assert (await world.codes())[-2:] == ["found", "bundled"]
    assert (await world.lines(one.id))[-1].finding != one.finding


async def test_a_phone_that_was_told_shows_both_without_ringing_again(world: World) -> None:
    await world.subscribes()
    await world.found()
    (push,) = await world.queued("web_push")
    sent = Attempt(delivery=push.id, number=1, at=world.now, result="sent", detail="201")
    await world.write(lambda r: r.outbox.finish(replace(push, state=DeliveryState.SENT), sent))
    await world.found(REAR)
    (again,) = await world.queued("web_push")
    assert again.payload["silent"]
    renderer = Renderer(texts=TEXTS, signals=SIGNALS, policy=world.policy, public_url="https://x.example")
    shown = await world.read(lambda r: renderer.render(r, again, world.now))
    assert shown is not None
    assert shown.payload["message"]["silent"]
    assert "2 things" in shown.payload["message"]["title"]


async def test_a_bundle_is_worded_as_one_visit(world: World) -> None:
    await world.found()
    await world.found(REAR, evidence={"pad_wear_rear": 93, "ts": world.now})
    said = await worded(world)
    assert said.title == "Your Arden 5: 2 things Autohaus Nord can do in one visit"
    assert said.name == "Front brake pads and Rear brake pads"
    assert said.evidence.replace("\u00a0", " ") == (
        "Your front brake pads are worn to 2.5 mm. Your rear brake pads are worn to 2.7 mm."
    )
    assert [title.replace("\u00a0", " ") for title, _ in said.parts] == [
        "Your front brake pads are worn to 2.5 mm",
        "Your rear brake pads are worn to 2.7 mm",
    ]
    assert said.promise is not None
    assert "2 hours" in said.promise.replace("\u00a0", " ")
    german = await worded(world, "de")
    assert german.title == "Arden 5: 2 Dinge, die Autohaus Nord bei einem Termin erledigt"


async def test_a_second_finding_joins_one_that_waits_for_the_morning(night: World) -> None:
    await night.found()
    assert await night.found(REAR) == "merge"
    night.go_to("2026-11-23T07:00+01:00")
    await night.timers()
    (sent,) = await night.touchpoints()
    assert sent.state is State.OPEN
    assert await about(night, sent) == [FRONT, REAR]
    assert await night.read(lambda r: len(r.contacts.times("jana", ["service"], 0))) == 1


async def test_what_would_wait_for_room_joins_what_is_open(world: World) -> None:
    await world.wishes(weekly_budget=1)
    await world.found()
    assert await world.found(REAR) == "merge"


async def test_a_second_finding_lengthens_the_booked_visit_when_the_workshop_has_the_time(
    world: World,
) -> None:
    await world.found()
    await world.answers("book", slot=(await world.touchpoint()).slots[0].id)
    assert await world.found(REAR) == "merge"
    (visit,) = await world.read(lambda r: r.workshops.appointments(owner="jana"))
    assert visit.jobs == ("brakes-front", "brakes-rear")
    assert visit.end - visit.start == 2 * HOUR
    assert [matter["rule"] for matter in visit.diagnosis["matters"]] == [FRONT, REAR]
    assert (await world.story())[-1] == (
        "Added at 9:00 to the visit you have booked: Front brake pads. The workshop does both."
    )


async def test_it_comes_by_itself_when_the_booked_time_is_too_short(world: World) -> None:
    await world.takes("2026-11-24T09:00+01:00")
    await world.found()
    await world.answers("book", slot=(await world.touchpoint()).slots[0].id)
    assert await world.found(REAR) == "send"
    assert len(await world.touchpoints()) == 2
    (visit,) = await world.read(lambda r: r.workshops.appointments(owner="jana"))
    assert visit.jobs == ("brakes-front",)


async def test_the_same_job_found_by_another_rule_belongs_to_the_booked_visit(world: World) -> None:
    knows(world, rule("brake-noise", service="brakes-front"))
    await world.found()
    await world.answers("book", slot=(await world.touchpoint()).slots[0].id)
    assert await world.found("brake-noise") == "merge"
    assert (await world.codes())[-1] == "already_booked"


async def test_only_what_the_owners_workshop_does_shares_a_visit(world: World) -> None:
    def narrow(records: Records) -> None:
        records.workshops.put(replace(NORD, services=(BRAKES,)))

    await world.write(narrow)
    await world.found()
    assert await world.found(REAR) == "send"
    assert len(await world.touchpoints()) == 2


async def test_what_the_owner_put_off_takes_nobody_in(world: World) -> None:
    await world.found()
    await world.answers("snooze:tomorrow")
    assert await world.found(REAR) == "send"


async def test_of_a_bundle_the_rest_goes_on_when_one_matter_is_over(world: World) -> None:
    await world.subscribes()
    await world.found()
    await world.found(REAR)
    first = (await world.touchpoint()).finding
    await over(world, first)
    left = await world.touchpoint()
    assert (left.state, left.rule, left.service) == (State.OPEN, REAR, "brakes-rear")
    assert await about(world, left) == [REAR]
    assert (await world.story())[-1] == (
        "No longer so at 9:00: Front brake pads. The rest of the matter goes on."
    )
    await over(world, left.finding)
    assert (await world.touchpoint()).state is State.WITHDRAWN


async def test_what_was_taken_in_leaves_when_it_is_over(world: World) -> None:
    await world.found()
    await world.found(REAR)
    await world.cleared()
    left = await world.touchpoint()
    assert (left.state, await about(world, left)) == (State.OPEN, [FRONT])
    assert {slot.end - slot.start for slot in left.slots} == {HOUR}


async def over(world: World, finding: str) -> None:
    def work(records: Records) -> None:
        records.touchpoints.clear_finding(finding, world.now)
        decide.cleared(records, finding, world.now, world.policy)

    await world.write(work)


async def test_what_waits_joins_what_was_opened_meanwhile(night: World) -> None:
    """Two that could not share a visit at first: the workshop learned the second job overnight."""
    await night.write(lambda r: r.workshops.put(replace(NORD, services=(BRAKES,))))
    await night.found()
    assert await night.found(REAR) == "defer"
    await night.write(lambda r: r.workshops.put(NORD))
    night.go_to("2026-11-23T07:00+01:00")
    assert await night.timers() == 2
    rear, front = await night.touchpoints()
    assert (front.state, rear.state) == (State.OPEN, State.WITHDRAWN)
    assert await about(night, front) == [FRONT, REAR]
    assert "withdrawn_bundled" in await night.codes()


async def test_a_withdrawn_consent_takes_its_matter_out_of_a_bundle(world: World) -> None:
    knows(world, rule(REAR, service="brakes-rear", purpose="usage"))
    await world.found()
    await world.found(REAR)
    await world.write(
        agree.agree, "jana", "usage", False, agree.By(name="jana", source="owner"), world.now, world.policy
    )
    left = await world.touchpoint()
    assert (left.state, await about(world, left)) == (State.OPEN, [FRONT])


# --- one budget -------------------------------------------------------------------------------


async def test_marketing_is_paid_from_a_purse_of_its_own(world: World) -> None:
    knows(world, hint("offer", purpose="marketing"), hint("offer-2", purpose="marketing"))
    await world.agrees("marketing")
    await world.wishes(weekly_budget=1)
    assert await world.found("offer") == "send"
    assert await world.found() == "send"
    assert await world.found("offer-2") == "defer"
    assert (await world.touchpoint()).wake_at == MONDAY_MORNING + 7 * DAY
    world.policy = replace(world.policy, marketing_budget=0)
    assert await world.found("offer", "washer") == "suppress"
    assert (await world.codes())[-1] == "suppressed_no_marketing"


async def test_a_survey_takes_its_place_in_the_service_budget(world: World) -> None:
    await world.wishes(weekly_budget=1)
    await world.write(budget.spend, "jana", budget.SURVEY, world.now, "question")
    assert await world.found() == "defer"
    assert (await world.touchpoint()).wake_at == MONDAY_MORNING + 7 * DAY


async def test_room_is_counted_over_everything_that_waits_before(world: World) -> None:
    await world.wishes(weekly_budget=2)
    start = world.now

    async def room(ahead: int) -> int | None:
        return await world.read(
            lambda r: budget.room(r, "jana", budget.SERVICE, world.now, world.policy, ahead=ahead)
        )

    assert [await room(n) for n in range(4)] == [None, None, start + 7 * DAY, start + 7 * DAY]
    await world.write(budget.spend, "jana", budget.SERVICE, start, "a")
    world.go_to(start + DAY)
    await world.write(budget.spend, "jana", budget.SERVICE, start + DAY, "b")
    assert [await room(n) - start for n in range(3)] == [7 * DAY, 8 * DAY, 14 * DAY]  # type: ignore[operator]
    world.go_to(start + 7 * DAY)
    assert await room(0) is None


async def test_a_graver_finding_takes_the_place_of_a_deferred_lesser_one_and_both_are_told(
    world: World,
) -> None:
    knows(world, hint("light", severity="warning"))
    await world.wishes(weekly_budget=1)
    await world.found()
    world.go_to(world.now + HOUR)
    assert await world.found("oil-low") == "defer"
    assert (await world.touchpoint()).wake_at == MONDAY_MORNING + 7 * DAY
    world.go_to(world.now + HOUR)
    assert await world.found("light") == "defer"
    light, oil, _ = await world.touchpoints()
    assert (light.wake_at, oil.wake_at) == (MONDAY_MORNING + 7 * DAY, MONDAY_MORNING + 14 * DAY)
    told = await world.lines()
    assert [(line.code, line.touchpoint) for line in told[-2:]] == [
        ("not_sent_budget_first", light.id),
        ("moved_back", oil.id),
    ]
    assert (await world.story())[-1].startswith("A more important matter takes its place at 11:00")
    world.go_to(MONDAY_MORNING + 7 * DAY)
    await world.timers()
    states = {t.rule: t.state for t in await world.touchpoints()}
    assert (states["light"], states["oil-low"]) == (State.OPEN, State.DEFERRED)


async def test_a_lesser_finding_stands_in_line_behind_what_waits(world: World) -> None:
    knows(world, hint("light", severity="warning"))
    await world.wishes(weekly_budget=1)
    await world.found()
    await world.found("light")
    assert await world.found("oil-low") == "defer"
    oil, light, _ = await world.touchpoints()
    assert light.wake_at == MONDAY_MORNING + 7 * DAY
    assert oil.wake_at == MONDAY_MORNING + 14 * DAY
    assert (await world.codes())[-1] == "not_sent_budget_after"


async def test_who_waits_moves_up_when_the_one_before_is_no_longer_true(world: World) -> None:
    knows(world, hint("light", severity="warning"))
    await world.wishes(weekly_budget=1)
    await world.found()
    await world.found("light")
    light = (await world.touchpoint()).finding
    await world.found("oil-low")
    await over(world, light)
    oil = (await world.touchpoints())[0]
    assert oil.wake_at == MONDAY_MORNING + 7 * DAY
    assert (await world.codes())[-1] == "moved_up"


async def test_of_two_that_wake_together_the_more_important_goes_first(night: World) -> None:
    knows(night, hint("light", severity="warning"))
    await night.wishes(weekly_budget=1)
    await night.found("oil-low")
    await night.found("light")
    night.go_to("2026-11-23T07:00+01:00")
    assert await night.timers() == 2
    states = {t.rule: t.state for t in await night.touchpoints()}
    assert states == {"light": State.OPEN, "oil-low": State.DEFERRED}
    assert (await night.codes())[-2:] == ["gave_way", "went_first"]


async def test_the_last_room_is_left_to_what_is_more_important_and_comes_soon(world: World) -> None:
    knows(world, hint("light", severity="warning", signals=("oil_level",)))
    await world.wishes(weekly_budget=1)
    old = world.now - 20 * DAY
    assert await world.found("light", began_ts=old, evidence={"oil_level": 5, "ts": old}) == "defer"
    assert await world.found("descale-due", "washer") == "defer"
    assert (await world.codes())[-1] == "not_sent_budget_after"
    assert (await world.touchpoint()).wake_at == world.now + 7 * DAY  # now would be at once, for ever
    facts = Facts(device="car", last_seen=world.now, latest={"oil_level": (world.now, 5)})
    await world.write(lambda records: records.devices.put_facts([facts]))
    world.go_to(world.now + HOUR)
    await world.timers()
    states = {t.rule: t.state for t in await world.touchpoints()}
    assert states == {"light": State.OPEN, "descale-due": State.DEFERRED}


async def test_the_room_is_free_when_what_was_to_come_soon_is_over(world: World) -> None:
    knows(world, hint("light", severity="warning", signals=("oil_level",)))
    await world.wishes(weekly_budget=1)
    old = world.now - 20 * DAY
    await world.found("light", began_ts=old, evidence={"oil_level": 5, "ts": old})
    light = (await world.touchpoint()).finding
    await world.found("descale-due", "washer")
    await over(world, light)
    assert (await world.codes())[-1] == "moved_up"
    await world.timers()
    assert (await world.touchpoint()).state is State.OPEN


async def test_what_is_shown_on_the_page_alone_costs_nothing_and_disturbs_nobody(night: World) -> None:
    await night.wishes(channels=())
    assert await night.found() == "send"
    assert (await night.story())[-1] == (
        "Shown on your page from 23:08 on. There is no other way that you want and that reaches you."
    )
    assert await night.read(lambda r: r.contacts.times("jana", ["service"], 0)) == []


async def test_a_visit_that_is_only_requested_is_lengthened_too(world: World) -> None:
    await world.write(lambda r: r.workshops.put(replace(NORD, books="on_request")))
    await world.found()
    await world.answers("book", slot=(await world.touchpoint()).slots[0].id)
    assert await world.found(REAR) == "merge"
    (visit,) = await world.read(lambda r: r.workshops.appointments(owner="jana"))
    assert (visit.state, visit.jobs) == (AppointmentState.REQUESTED, ("brakes-front", "brakes-rear"))


async def test_what_would_end_before_there_is_room_stands_on_the_page(world: World) -> None:
    """The loser of a full week is never dropped unseen."""
    short = replace(RULES["oil-low"], expires_ms=3 * DAY)
    world.policy = replace(world.policy, rules={**RULES, "oil-low": short})
    await world.subscribes()
    await world.wishes(weekly_budget=1)
    await world.found()
    await world.found("oil-low", evidence={"oil_level": 1})
    loser = await world.touchpoint()
    assert (loser.rule, loser.state) == ("oil-low", State.OPEN)
    assert (await world.codes())[-1] == "shown_no_room"
    assert len(await world.queued("web_push")) == 1, "nothing rings for it"
    assert "its time would be over before there is room" in (await world.story())[-1]


async def test_who_is_moved_back_beyond_their_end_stands_on_the_page(world: World) -> None:
    short = replace(RULES["oil-low"], expires_ms=8 * DAY)
    grave = replace(RULES["tried-out"], id="grave", shadow=False, severity="warning", touchpoint_kind="hint")
    world.policy = replace(world.policy, rules={**RULES, "oil-low": short, "grave": grave})
    await world.wishes(weekly_budget=1)
    await world.found()
    await world.found("oil-low", evidence={"oil_level": 1})
    waiting = await world.touchpoint()
    assert waiting.state is State.DEFERRED
    await world.found("grave")
    await world.timers()
    shown = await world.read(lambda records: records.touchpoints.get(waiting.id))
    assert shown.state is State.OPEN
    lines = [line.code for line in await world.lines(waiting.id)]
    assert lines[-1] == "shown_no_room"


async def test_what_ends_unsent_is_not_said_to_have_waited_for_an_answer(world: World) -> None:
    brief = replace(RULES["oil-low"], expires_ms=8 * HOUR)
    world.policy = replace(world.policy, rules={**RULES, "oil-low": brief})
    await world.drives()
    await world.found("oil-low", evidence={"oil_level": 1})
    for _ in range(4):
        world.go_to(world.now + 2 * HOUR)
        await world.reports()
        await world.timers()
    assert (await world.touchpoint()).state is State.EXPIRED
    assert (await world.codes())[-1] == "expired_unsent"


async def test_a_trip_whose_end_was_never_told_holds_nothing_back_for_good(world: World) -> None:
    """The device goes on reporting, so it is never taken as parked for its silence."""
    await world.drives()
    await world.found()
    for hours in range(4, 25, 4):
        assert (await world.touchpoint()).state is State.DEFERRED
        world.go_to(MONDAY_MORNING + hours * HOUR)
        await world.reports()
        await world.timers()
    assert (await world.touchpoint()).state is State.OPEN
