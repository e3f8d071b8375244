"""The right contact at the right moment, and for every silence a reason that the owner can read."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from garage import DAY, HOUR, MINUTE, MONDAY_MORNING, RULES, SUNDAY_NIGHT, World, at, open_world

from gateway.domain.owner import Consent, Owner
from gateway.domain.policy import Policy
from gateway.domain.touchpoint import State
from gateway.flow import agree, decide
from gateway.ports import Records
from rules import ClearReason


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture
async def night(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, SUNDAY_NIGHT) as opened:
        yield opened


async def test_the_whole_story_of_one_night_stands_in_the_ledger(night: World) -> None:
    await night.subscribes()
    assert await night.found() == "defer"
    night.go_to("2026-11-23T06:55+01:00")
    await night.drives()
    night.go_to("2026-11-23T07:00+01:00")
    assert await night.timers() == 1
    night.go_to("2026-11-23T07:15+01:00")
    await night.reports()
    assert await night.timers() == 1
    night.go_to("2026-11-23T07:31+01:00")
    await night.parks()
    night.go_to("2026-11-23T07:34+01:00")
    assert await night.timers() == 1
    assert await night.story() == [
        "Found at 23:08: the front brake pads are worn to 2.5 mm.",
        "Not sent at 23:08: your quiet hours end at 7:00.",
        "Not sent at 7:00: the Arden 5 was being driven. It parked at 7:31.",
        "Sent at 7:34 to your phone and the Arden 5’s display."
        " First of two service messages you allow a week.",
    ]
    assert await night.story("de") == [
        "Erkannt um 23:08: die vorderen Bremsbeläge haben noch 2,5 mm.",
        "Um 23:08 nicht gesendet: Ihre Ruhezeit endet um 7:00.",
        "Um 7:00 nicht gesendet: Arden 5 wurde gefahren. Geparkt um 7:31.",
        "Gesendet um 7:34 an Ihr Telefon und das Display (Arden 5). Die erste von zwei Service-Nachrichten,"
        " die Sie pro Woche erlauben.",
    ]
    assert (await night.touchpoint()).state is State.OPEN


async def test_by_day_it_is_sent_at_once_with_two_real_slots(world: World) -> None:
    await world.subscribes()
    assert await world.found() == "send"
    touchpoint = await world.touchpoint()
    assert touchpoint.state is State.OPEN
    assert touchpoint.sent_at == world.now
    assert touchpoint.expires_at == world.now + 14 * DAY
    assert [slot.start for slot in touchpoint.slots] == [
        at("2026-11-24T08:00+01:00"),
        at("2026-11-25T16:00+01:00"),
    ]
    assert [row.target for row in await world.queued("web_push")] == ["phone"]
    assert [row.target for row in await world.queued("display")] == ["car"]


async def test_nobody_is_contacted_without_consent(world: World) -> None:
    await world.agrees("maintenance", granted=False)
    assert await world.found() == "suppress"
    assert await world.touchpoints() == []
    assert await world.codes() == ["found", "suppressed_no_consent"]
    assert (await world.lines())[1].owner == "jana"


async def test_a_product_without_an_owner_leaves_its_line_with_the_device(world: World) -> None:
    assert await world.found(device="stranger", owner=None) == "suppress"
    lines = await world.lines()
    assert [(line.code, line.owner, line.device) for line in lines] == [
        ("found", None, "stranger"),
        ("suppressed_no_owner", None, "stranger"),
    ]


async def test_what_was_found_for_the_former_owner_is_not_told_to_the_new_one(world: World) -> None:
    await world.write(lambda records: records.devices.transfer("car", None, world.now))
    assert await world.found() == "suppress"
    lines = await world.lines()
    assert [(line.code, line.owner) for line in lines] == [
        ("found", "jana"),
        ("suppressed_new_owner", "jana"),
    ]


async def test_a_muted_rule_stays_silent(world: World) -> None:
    await world.wishes(muted=("brake-pads-front-worn",))
    assert await world.found() == "suppress"
    assert await world.found("brake-pads-rear-worn") == "send"


async def test_the_same_matter_is_one_touchpoint(world: World) -> None:
    await world.found()
    assert await world.found() == "merge"
    assert len(await world.touchpoints()) == 1
    merged = (await world.lines())[-1]
    assert (merged.code, merged.touchpoint) == ("merged", (await world.touchpoint()).id)


async def test_a_rule_in_shadow_finds_and_sends_nothing(world: World) -> None:
    assert await world.found("tried-out") == "suppress"
    assert await world.codes() == ["found", "suppressed_shadow"]


async def test_a_rule_that_was_taken_out_sends_nothing(world: World) -> None:
    assert await world.found("gone") == "suppress"
    assert await world.codes() == ["found", "suppressed_rule_gone"]


async def test_quiet_hours_are_those_of_the_owner(night: World) -> None:
    await night.wishes(quiet_from="23:30", quiet_to="06:00")
    assert await night.found() == "send"
    await night.wishes(quiet_from="22:00", quiet_to="05:45")
    assert await night.found("oil-low") == "defer"
    assert (await night.touchpoint()).wake_at == at("2026-11-23T05:45+01:00")


async def test_the_operators_quiet_hours_hold_for_who_set_none(world: World) -> None:
    world.policy = Policy(rules=RULES, quiet_from="08:00", quiet_to="10:00", weekly_budget=1)
    assert await world.found() == "defer"
    assert (await world.touchpoint()).wake_at == at("2026-11-23T10:00+01:00")


async def test_quiet_hours_that_are_no_times_give_way_to_the_operators(night: World) -> None:
    await night.wishes(quiet_from="late", quiet_to="early", weekly_budget=5)
    assert await night.found() == "defer"
    assert (await night.touchpoint()).wake_at == at("2026-11-23T07:00+01:00")


async def test_a_car_that_went_silent_while_driving_is_taken_as_parked_after_a_while(world: World) -> None:
    await world.drives()
    assert await world.found() == "defer"
    for quarter in range(1, 24):
        world.go_to(MONDAY_MORNING + quarter * 15 * MINUTE)
        assert await world.timers() == 1
    assert (await world.touchpoint()).state is State.DEFERRED
    world.go_to(MONDAY_MORNING + 6 * HOUR)
    await world.timers()
    assert (await world.touchpoint()).state is State.OPEN
    assert (await world.codes()).count("not_sent_driving") == 1


async def test_who_has_just_parked_is_left_alone_for_a_moment(world: World) -> None:
    await world.drives()
    world.go_to(world.now + HOUR)
    await world.parks()
    world.go_to(world.now + MINUTE)
    assert await world.found() == "defer"
    assert (await world.touchpoint()).wake_at == world.now + 2 * MINUTE
    world.go_to(world.now + 2 * MINUTE)
    await world.timers()
    assert (await world.touchpoint()).state is State.OPEN


async def test_who_drives_on_before_it_was_sent_is_waited_for_again(world: World) -> None:
    await world.drives()
    await world.found()
    world.go_to(world.now + HOUR)
    await world.parks()
    world.go_to(world.now + 2 * MINUTE)
    await world.drives()
    world.go_to(world.now + MINUTE)
    await world.timers()
    touchpoint = await world.touchpoint()
    assert touchpoint.state is State.DEFERRED
    assert (await world.codes())[-2:] == ["parked", "not_sent_driving"]


async def test_a_trip_that_ends_at_night_does_not_end_the_night(night: World) -> None:
    await night.found()
    await night.drives()
    await night.parks()
    assert (await night.touchpoint()).wake_at == at("2026-11-23T07:00+01:00")


async def test_the_week_holds_no_more_messages_than_the_owner_allows(world: World) -> None:
    await world.found()
    world.go_to(world.now + DAY)
    await world.found("oil-low")
    world.go_to(world.now + DAY)
    assert await world.found("descale-due", "washer") == "defer"
    third = await world.touchpoint()
    assert third.wake_at == MONDAY_MORNING + 7 * DAY
    assert (await world.story())[-1] == (
        "Not sent at 9:00: you have had the service messages you allow a week."
        " It comes on Monday, 30 November, 9:00."
    )
    world.go_to(third.wake_at)
    await world.timers()
    assert (await world.touchpoint()).state is State.OPEN
    assert (await world.story())[-1].endswith("Second of two service messages you allow a week.")


async def test_who_allows_no_messages_gets_none(world: World) -> None:
    await world.wishes(weekly_budget=0)
    assert await world.found() == "suppress"
    assert (await world.codes())[-1] == "suppressed_no_budget"


async def test_not_now_keeps_the_same_matter_away_for_a_week(world: World) -> None:
    await world.found()
    await world.answers("not_now")
    answered = world.now
    await world.cleared()
    world.go_to(world.now + DAY)
    assert await world.found() == "defer"
    assert (await world.touchpoint()).wake_at == answered + 7 * DAY


async def test_a_critical_matter_is_on_the_display_at_once_and_the_phone_waits_for_the_end_of_the_trip(
    world: World,
) -> None:
    await world.subscribes()
    await world.drives()
    assert await world.found("coolant-too-hot") == "send"
    assert len(await world.queued("display")) == 1
    wait = await world.read(
        lambda r: decide.push_moment(r, r.touchpoints.page()[0].id, world.now, world.policy)
    )
    assert wait is not None
    assert wait.code == "not_sent_driving"
    assert (await world.story())[-1] == (
        "Shown at 9:00 on the Arden 5’s display. Your phone stays silent for now: it is being driven."
    )


async def test_a_critical_matter_of_a_parked_car_does_not_ring_at_night(night: World) -> None:
    await night.subscribes()
    assert await night.found("coolant-too-hot") == "send"
    touchpoint = (await night.touchpoint()).id
    wait = await night.read(lambda r: decide.push_moment(r, touchpoint, night.now, night.policy))
    assert wait is not None
    assert wait.until == at("2026-11-23T07:00+01:00")


async def test_water_in_the_kitchen_rings_at_night(night: World) -> None:
    await night.subscribes()
    assert await night.found("water-in-base", "washer") == "send"
    touchpoint = (await night.touchpoint()).id
    assert await night.read(lambda r: decide.push_moment(r, touchpoint, night.now, night.policy)) is None
    assert (await night.codes())[-1] == "sent"


async def test_a_critical_matter_costs_no_budget_and_needs_none(world: World) -> None:
    await world.wishes(weekly_budget=1)
    await world.found()
    assert await world.found("water-in-base", "washer") == "send"


async def test_a_critical_matter_leaves_the_budget_to_others(world: World) -> None:
    await world.wishes(weekly_budget=1)
    await world.found("water-in-base", "washer")
    assert await world.found() == "send"
    assert await world.found("oil-low") == "defer"
    assert (await world.touchpoint()).wake_at == (await world.touchpoints())[1].sent_at + 7 * DAY  # type: ignore[operator]


async def test_a_product_that_changes_hands_takes_nothing_of_its_former_owner_along(world: World) -> None:
    await world.subscribes()
    await world.found()
    await world.write(lambda records: records.owners.add(Owner(id="max", name="Max")))
    await world.write(lambda records: records.devices.transfer("car", "max", world.now))
    await world.write(decide.changed_hands, "car", world.now, world.policy)
    assert (await world.touchpoint()).state is State.WITHDRAWN
    assert await world.queued("web_push") == []
    assert len(await world.queued("display")) == 1
    assert (await world.codes())[-1] == "withdrawn_new_owner"


async def test_a_new_owner_is_told_though_the_former_one_has_booked(world: World) -> None:
    await world.found()
    slot = (await world.touchpoint()).slots[0]
    await world.answers("book", slot=slot.id)

    def sold(records: Records) -> None:
        records.owners.add(Owner(id="max", name="Max"))
        records.owners.consent(
            Consent(owner="max", purpose="maintenance", granted=True, at=world.now, source="owner")
        )
        records.devices.transfer("car", "max", world.now)
        decide.changed_hands(records, "car", world.now, world.policy)

    await world.write(sold)
    assert await world.found(owner="max") == "send"
    assert (await world.touchpoint()).owner == "max"


async def test_a_call_that_was_asked_for_is_not_needed_when_all_is_well_again(world: World) -> None:
    await world.found()
    await world.answers("call_me")
    await world.cleared()
    assert (await world.touchpoint()).state is State.CLOSED
    assert await world.found() == "send"


async def test_what_has_cleared_by_the_morning_is_withdrawn(night: World) -> None:
    await night.found()
    await night.cleared()
    assert (await night.touchpoint()).state is State.WITHDRAWN
    assert await night.codes() == ["found", "not_sent_quiet_hours", "withdrawn_untrue"]
    night.go_to("2026-11-23T07:00+01:00")
    assert await night.timers() == 0


async def test_what_clears_while_it_is_open_is_taken_from_every_channel(world: World) -> None:
    await world.subscribes()
    await world.found()
    await world.cleared()
    assert (await world.touchpoint()).state is State.WITHDRAWN
    assert await world.queued("web_push") == []
    assert len(await world.queued("display")) == 1  # brings the display up to date: empty


@pytest.mark.parametrize(
    ("reason", "english", "german"),
    [
        (
            "refuted",
            "Withdrawn at 9:00: readings that reached us late show that it never was so.",
            "nie so war",
        ),
        ("rule", "Withdrawn at 9:00: the rule is no longer in use.", "nicht mehr in Gebrauch"),
        ("condition", "Withdrawn at 9:00: it is no longer so.", "nicht mehr so"),
    ],
)
async def test_the_ledger_says_why_it_is_withdrawn(
    world: World, reason: ClearReason, english: str, german: str
) -> None:
    await world.found()
    await world.cleared(reason)
    assert (await world.touchpoint()).state is State.WITHDRAWN
    assert (await world.story())[-1] == english
    assert german in (await world.story("de"))[-1]


async def test_who_has_booked_is_told_that_it_never_was_so_and_decides(world: World) -> None:
    await world.found()
    offered = await world.touchpoint()
    await world.answers("book", slot=offered.slots[0].id)
    await world.cleared("refuted")
    assert (await world.touchpoint()).state is State.BOOKED
    assert "Your visit stays booked" in (await world.story())[-1]


async def test_an_open_offer_ends_when_its_time_is_over(world: World) -> None:
    await world.found()
    world.go_to(world.now + 14 * DAY)
    assert await world.timers() == 1
    assert (await world.touchpoint()).state is State.EXPIRED
    assert (await world.codes())[-1] == "expired"
    assert await world.timers() == 0


async def test_withdrawn_consent_ends_everything_of_that_purpose_at_once(world: World) -> None:
    await world.subscribes()
    await world.found()
    await world.found("descale-due", "washer")
    await world.agrees("maintenance", granted=False)
    await world.write(agree.withdrawn, "jana", "maintenance", world.now, world.policy)
    states = {touchpoint.rule: touchpoint.state for touchpoint in await world.touchpoints()}
    assert states == {"brake-pads-front-worn": State.WITHDRAWN, "descale-due": State.OPEN}
    assert [row.touchpoint for row in await world.queued("web_push")] == [(await world.touchpoint()).id]


async def test_consent_that_ended_overnight_is_asked_for_again_in_the_morning(night: World) -> None:
    await night.found()
    await night.agrees("maintenance", granted=False)
    night.go_to("2026-11-23T07:00+01:00")
    await night.timers()
    assert (await night.touchpoint()).state is State.WITHDRAWN
    assert (await night.codes())[-1] == "withdrawn_no_consent"


async def test_a_product_sold_overnight_is_no_matter_of_its_former_owner(night: World) -> None:
    await night.found()
    await night.write(lambda records: records.devices.transfer("car", None, night.now))
    night.go_to("2026-11-23T07:00+01:00")
    await night.timers()
    assert (await night.codes())[-1] == "withdrawn_new_owner"


async def test_without_a_phone_it_is_told_on_the_display_and_without_both_on_the_page(world: World) -> None:
    await world.found()
    assert (await world.story())[-1].startswith("Sent at 9:00 to the Arden 5’s display.")
    await world.wishes(channels=())
    await world.found("oil-low")
    assert (await world.story())[-1].startswith("Shown on your page from 9:00 on.")
    assert len(await world.queued("display")) == 1


async def test_a_workshop_that_does_not_do_the_job_offers_no_times(world: World) -> None:
    info = replace(RULES["brake-pads-front-worn"], service="clutch")
    world.policy = Policy(rules={info.id: info})
    assert await world.found() == "send"
    assert (await world.touchpoint()).slots == ()
