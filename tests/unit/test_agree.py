"""Consent: with its history, and withdrawn with effect on everything queued, at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from garage import CAR, DAY, HOUR, JANA, RULES, SIGNALS, TEXTS, World, open_world

from gateway.domain.counters import Counters
from gateway.domain.delivery import Delivery, DeliveryState, Outcome, Sent
from gateway.domain.errors import InvalidError, NotFoundError
from gateway.domain.policy import Policy
from gateway.domain.touchpoint import State
from gateway.flow import agree, consents, outgoing
from gateway.flow.deliver import Deliverer
from gateway.flow.outgoing import Renderer
from gateway.ports import Records

BY = agree.By(name="jana", source="owner")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        await opened.subscribes()
        yield opened


async def says(world: World, purpose: str, granted: bool, by: agree.By = BY) -> bool:
    return await world.write(agree.agree, "jana", purpose, granted, by, world.now, world.policy)


async def test_a_choice_keeps_who_when_where_and_which_text(world: World) -> None:
    world.policy = replace(world.policy, purposes={"maintenance": "2026-11"})
    assert await says(world, "maintenance", False)
    assert await says(
        world, "maintenance", True, agree.By(name="operator", source="operator", text="2025-01")
    )
    history = await world.read(lambda records: records.owners.consents("jana"))
    newest, before, first = [entry for entry in history if entry.purpose == "maintenance"]
    assert (newest.granted, newest.by, newest.source, newest.text) == (
        True,
        "operator",
        "operator",
        "2025-01",
    )
    assert (before.granted, before.by, before.source, before.text) == (False, "jana", "owner", "2026-11")
    assert before.at == world.now
    assert first.granted


async def test_what_holds_already_adds_nothing(world: World) -> None:
    assert not await says(world, "maintenance", True)
    assert "consent_granted" not in await world.codes()


async def test_withdrawing_ends_what_is_open_and_what_waits(world: World) -> None:
    await world.found()
    await world.wishes(weekly_budget=1)
    await world.found("brake-pads-rear-worn")
    states = {t.state for t in await world.touchpoints()}
    assert State.OPEN in states
    await says(world, "maintenance", False)
    assert {t.state for t in await world.touchpoints()} == {State.WITHDRAWN}
    assert await world.queued(outgoing.WEB_PUSH) == []
    assert "at once and on every channel" in (await world.story())[-1]


async def test_withdrawing_leaves_other_purposes_alone(world: World) -> None:
    await world.found("descale-due", device="washer", evidence={"washes_since_descale": 41})
    await says(world, "maintenance", False)
    assert (await world.touchpoint()).state is State.OPEN
    assert await world.queued(outgoing.WEB_PUSH) != []


async def test_later_steps_of_the_ladder_are_dropped_with_it(world: World) -> None:
    await world.found()
    touchpoint = await world.touchpoint()
    later = [
        Delivery(
            id=f"row-{channel}",
            channel=channel,
            target="jana@example.org",
            key=f"{touchpoint.id}:offer:row-{channel}",
            payload={"about": "offer"},
            touchpoint=touchpoint.id,
            owner="jana",
            due_at=world.now + DAY,
            created=world.now,
        )
        for channel in ("email", "letter", "webhook")
    ]

    def queue(records: Records) -> None:
        for row in later:
            records.outbox.add(row)

    await world.write(queue)
    await says(world, "maintenance", False)
    for row in later:
        stored = await world.read(lambda records, row=row: records.outbox.get(row.id))
        assert stored.state is DeliveryState.DROPPED, row.channel


async def test_what_was_booked_stays_booked_and_its_news_goes_on(world: World) -> None:
    await world.found()
    slot = (await world.touchpoint()).slots[0]
    await world.answers("book", slot=slot.id)
    visit = {"about": "visit", "appointment": "a", "change": "confirmed"}
    touchpoint = await world.touchpoint()
    row = Delivery(
        id="news", channel="email", target="jana@example.org", key="news", payload=visit,
        touchpoint=touchpoint.id, owner="jana", due_at=world.now, created=world.now,
    )  # fmt: skip
    await world.write(lambda records: records.outbox.add(row))
    await says(world, "maintenance", False)
    assert (await world.touchpoint()).state is State.BOOKED
    assert (await world.read(lambda records: records.outbox.get("news"))).state is DeliveryState.PENDING


async def test_the_workshop_is_handed_nothing_found_for_a_withdrawn_purpose(world: World) -> None:
    await world.found()
    await world.answers("book", slot=(await world.touchpoint()).slots[0].id)
    [visit] = await world.read(lambda records: records.workshops.appointments())
    assert "evidence" in visit.diagnosis
    assert (await world.read(lambda records: consents.handed(records, visit))).diagnosis == visit.diagnosis
    await says(world, "maintenance", False)
    handed = await world.read(lambda records: consents.handed(records, visit))
    assert set(handed.diagnosis) <= set(consents.STAYS)
    assert handed.diagnosis["promised"] == visit.diagnosis["promised"]


async def test_sharing_with_the_workshop_can_be_withdrawn_alone(world: World) -> None:
    await world.found()
    await world.answers("book", slot=(await world.touchpoint()).slots[0].id)
    [visit] = await world.read(lambda records: records.workshops.appointments())
    await says(world, "sharing_workshop", False)
    assert not (await world.read(lambda records: consents.may_share(records, visit)))
    await says(world, "sharing_workshop", True)
    assert await world.read(lambda records: consents.may_share(records, visit))


async def test_what_rests_on_a_duty_cannot_be_withdrawn(world: World) -> None:
    with pytest.raises(InvalidError, match="legal duty"):
        await says(world, "recall", False)
    assert await world.read(lambda records: consents.allowed(records, "jana", "recall"))


async def test_nobody_has_agreed_to_what_they_were_never_asked(world: World) -> None:
    assert not await world.read(lambda records: consents.allowed(records, "jana", "marketing"))
    assert await world.read(lambda records: consents.allowed(records, "jana", "survey"))  # until they object


async def test_an_owner_is_asked_about_what_is_configured_and_what_rules_ask_for(world: World) -> None:
    policy = Policy(rules=RULES, purposes={"maintenance": "1", "marketing": "1"})
    asked = await world.read(lambda records: consents.purposes(records, "jana", policy))
    assert asked == ["maintenance", "marketing", "safety", "usage"]


# --- muting ---------------------------------------------------------------------------------------


async def test_muting_ends_what_waits_of_it_and_says_so(world: World) -> None:
    await world.found()
    await world.write(agree.mute, "jana", "brake-pads-front-worn", True, world.now, world.policy)
    assert (await world.touchpoint()).state is State.WITHDRAWN
    assert any("You muted" in line for line in await world.story())
    assert await world.found() == "suppress"


async def test_unmuting_lets_the_next_one_through(world: World) -> None:
    await world.write(agree.mute, "jana", "brake-pads-front-worn", True, world.now, world.policy)
    await world.write(agree.mute, "jana", "brake-pads-front-worn", False, world.now, world.policy)
    assert await world.found() == "send"


async def test_what_is_no_rule_cannot_be_muted(world: World) -> None:
    with pytest.raises(NotFoundError):
        await world.write(agree.mute, "jana", "no-such-rule", True, world.now, world.policy)


# --- the race -------------------------------------------------------------------------------------


class Channel:
    """Notes what leaves."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sent: list[Delivery] = []

    async def send(self, delivery: Delivery) -> Outcome:
        self.sent.append(delivery)
        return Sent(detail="ok")

    async def close(self) -> None:
        """Nothing to close."""


def deliverer(world: World, channel: Channel) -> Deliverer:
    words = Renderer(texts=TEXTS, signals=SIGNALS, policy=world.policy, public_url="https://x.example")
    return Deliverer(world.database, world.clock, {channel.name: channel}, world.policy, words, Counters())


async def offered(world: World, channel: str) -> None:
    """A matter with one row on this channel that is due now."""
    owner = await world.read(lambda records: records.owners.get("jana"))
    await world.write(
        lambda records: records.owners.update(
            replace(owner, email="jana@example.org", address="Weg 1, 20095 Hamburg")
        )
    )
    await world.found()
    touchpoint = await world.touchpoint()
    row = outgoing.offer_row(touchpoint, channel, "jana@example.org", world.now, {})
    await world.write(lambda records: records.outbox.add(replace(row, due_at=world.now)))


@pytest.mark.parametrize("channel", ["web_push", "email", "letter"])
async def test_a_row_that_was_claimed_before_the_consent_ended_is_not_sent(
    world: World, channel: str
) -> None:
    """Leased by a sender that has not sent it yet: what it is about is looked at again right before."""
    await offered(world, channel)
    out = Channel(channel)
    sender = deliverer(world, out)
    claimed, _ = await sender._claim()
    assert any(row.channel == channel for row in claimed)
    await says(world, "maintenance", False)
    await asyncio.gather(*(sender._deliver(row) for row in claimed))
    assert out.sent == []
    rows = await world.read(lambda records: [records.outbox.get(row.id) for row in claimed])
    assert {row.state for row in rows} == {DeliveryState.DROPPED}


@pytest.mark.parametrize("channel", ["web_push", "email", "letter"])
async def test_without_the_withdrawal_the_same_row_is_sent(world: World, channel: str) -> None:
    await offered(world, channel)
    out = Channel(channel)
    sender = deliverer(world, out)
    await asyncio.gather(*(sender._deliver(row) for row in (await sender._claim())[0]))
    assert [row.channel for row in out.sent if row.channel == channel]


async def test_a_row_whose_consent_ended_elsewhere_is_dropped_when_it_is_rendered(world: World) -> None:
    """Even if nobody dropped it: only the history of the consent says no."""
    await world.found()
    await world.agrees("maintenance", granted=False)
    out = Channel("web_push")
    await deliverer(world, out).now()
    assert out.sent == []


async def test_withdrawals_and_sending_at_the_same_instant_never_send_afterwards(world: World) -> None:
    """Whatever comes first: nothing leaves after the withdrawal was committed."""
    for turn in range(8):
        world.go_to(world.now + HOUR)
        await says(world, "maintenance", True)
        await world.wishes(weekly_budget=100)
        await world.found("brake-pads-rear-worn" if turn % 2 else "brake-pads-front-worn")
        out = Channel("web_push")
        await asyncio.gather(deliverer(world, out).now(), says(world, "maintenance", False))
        before = len(out.sent)
        await deliverer(world, out).now()
        assert len(out.sent) == before
        waiting = await world.read(lambda records: records.outbox.waiting_for("jana"))
        assert [row for row in waiting if row.channel == "web_push"] == []
        touchpoint = await world.touchpoint()
        assert touchpoint.state is State.WITHDRAWN


# --- one visit for several purposes -----------------------------------------------------------------

FRONT, REAR = "brake-pads-front-worn", "brake-pads-rear-worn"


@pytest.fixture
async def both(world: World) -> World:
    """Front and rear pads in one touchpoint, told for two purposes."""
    rules = {**RULES, REAR: replace(RULES[REAR], purpose="safety")}
    world.policy = replace(world.policy, rules=rules)
    await world.found(FRONT)
    await world.found(REAR)
    matters = await world.read(lambda r: r.touchpoints.matters(r.touchpoints.page()[0].id))
    assert [(m.rule, m.purpose) for m in matters] == [(FRONT, "maintenance"), (REAR, "safety")]
    return world


async def told(world: World) -> list[str]:
    touchpoint = await world.touchpoint()
    return [m.rule for m in await world.read(lambda r: r.touchpoints.matters(touchpoint.id))]


async def test_of_a_visit_for_two_purposes_the_one_that_still_holds_goes_on(both: World) -> None:
    await says(both, "maintenance", False)
    touchpoint = await both.touchpoint()
    assert (touchpoint.state, touchpoint.rule, touchpoint.purpose) == (State.OPEN, REAR, "safety")
    assert await told(both) == [REAR]
    assert await both.queued(outgoing.WEB_PUSH) != []  # the push of what goes on
    assert "partly_no_consent" in await both.codes()


async def test_what_came_along_leaves_the_visit_with_a_line_and_with_its_job(both: World) -> None:
    before = (await both.touchpoint()).slots[0]
    await says(both, "safety", False)
    touchpoint = await both.touchpoint()
    assert (touchpoint.state, touchpoint.rule) == (State.OPEN, FRONT)
    assert await told(both) == [FRONT]
    assert touchpoint.slots[0].end - touchpoint.slots[0].start < before.end - before.start
    line = [line for line in await both.lines() if line.code == "partly_no_consent"][-1]
    assert line.params["other"] == REAR
    assert "Without your consent" in " ".join(await both.story())


async def test_both_purposes_withdrawn_end_it(both: World) -> None:
    await says(both, "safety", False)
    await says(both, "maintenance", False)
    assert (await both.touchpoint()).state is State.WITHDRAWN
    assert await both.queued(outgoing.WEB_PUSH) == []


async def test_muting_one_of_a_visit_leaves_the_other(both: World) -> None:
    await both.write(agree.mute, "jana", FRONT, True, both.now, both.policy)
    assert ((await both.touchpoint()).state, await told(both)) == (State.OPEN, [REAR])
    assert "partly_muted" in await both.codes()


async def test_the_workshop_gets_nothing_found_when_one_of_a_visits_purposes_ends(both: World) -> None:
    await both.answers("book", slot=(await both.touchpoint()).slots[0].id)
    [visit] = await both.read(lambda records: records.workshops.appointments())
    await says(both, "safety", False)
    handed = await both.read(lambda records: consents.handed(records, visit))
    assert set(handed.diagnosis) <= set(consents.STAYS)


async def test_never_ends_the_same_kind_on_every_product_of_the_owner(world: World) -> None:
    second = replace(CAR, id="car-2", name="Second car", plate="HH-JK 2")
    await world.write(lambda records: records.devices.add(second))
    await world.wishes(weekly_budget=5)
    await world.found(device="car-2")
    other = (await world.touchpoint()).id
    await world.found()
    await world.answers("never")
    ended = await world.read(lambda records: records.touchpoints.get(other))
    assert ended.state is State.WITHDRAWN
    assert "withdrawn_muted" in await world.codes()


async def test_the_next_in_line_moves_up_when_consent_ends_what_was_before_it(world: World) -> None:
    await world.wishes(weekly_budget=1)
    await world.found()
    await world.answers("noted")  # the week's one message
    await world.found("oil-low", device="washer", evidence={"oil_level": 1})
    first = await world.touchpoint()
    await world.found("descale-due", device="washer", evidence={"washes_since_descale": 41})
    second = await world.touchpoint()
    assert first.wake_at is not None
    assert second.wake_at is not None
    assert first.wake_at < second.wake_at
    await says(world, "maintenance", False)
    moved = await world.read(lambda records: records.touchpoints.get(second.id))
    assert moved.wake_at == first.wake_at


# --- how they are reached ---------------------------------------------------------------------------


async def prefers(world: World, **wanted: object) -> None:
    def work(records: Records) -> None:
        before = outgoing.wishes(records, "jana", world.policy)
        agree.prefer(records, "jana", replace(before, **wanted), BY, world.now, world.policy)  # type: ignore[arg-type]

    await world.write(work)


async def test_other_quiet_hours_hold_for_what_waits(world: World) -> None:
    world.go_to("2026-11-23T23:00+01:00")
    await world.found()
    assert (await world.touchpoint()).waits_for == "not_sent_quiet_hours"
    await prefers(world, quiet_from="00:00", quiet_to="06:00")
    await world.timers()
    assert (await world.touchpoint()).state is State.OPEN
    assert "your quiet hours are 00:00 to 06:00" in " ".join(await world.story())


async def test_a_larger_budget_lets_through_what_waits_for_room(world: World) -> None:
    await prefers(world, weekly_budget=1)
    await world.found()
    await world.found("oil-low", evidence={"oil_level": 1})
    assert (await world.touchpoint()).state is State.DEFERRED
    await prefers(world, weekly_budget=2)
    await world.timers()
    assert (await world.touchpoint()).state is State.OPEN
    assert "you allow 2 service messages" in " ".join(await world.story())


async def test_offers_have_a_number_of_the_owners_own(world: World) -> None:
    offers = {
        name: replace(RULES["oil-low"], id=name, purpose="marketing")
        for name in ("offer", "offer-2", "offer-3")
    }
    world.policy = replace(world.policy, rules={**RULES, **offers}, marketing_budget=1)
    await says(world, "marketing", True)
    await prefers(world, weekly_budget=0, marketing_budget=2)
    assert [await world.found(name) for name in offers] == ["send", "send", "defer"]
    await prefers(world, marketing_budget=0)
    await world.timers()
    assert (await world.touchpoint()).state is State.WITHDRAWN
    assert (await world.codes())[-1] == "withdrawn_no_marketing"


async def test_nothing_queued_is_sent_on_a_channel_that_is_switched_off(world: World) -> None:
    await world.write(lambda r: r.owners.update(replace(JANA, email="jana@example.org")))
    world.policy = replace(world.policy, channels=(*world.policy.channels, "email"))
    await world.found()
    assert len(await world.queued(outgoing.WEB_PUSH)) == 1
    (mail,) = await world.queued(outgoing.EMAIL)
    assert mail.due_at > world.now
    await prefers(world, channels=("email", "letter"))
    assert await world.queued(outgoing.WEB_PUSH) == []
    (mail,) = await world.queued(outgoing.EMAIL)
    assert mail.due_at == world.now, "the next step takes its place"
    assert "wishes_off" in await world.codes()


async def test_what_is_muted_by_a_list_stays_muted_only_as_far_as_it_was(world: World) -> None:
    """A list of muted rules carries no severity; the one at which each was muted must not be lost with it."""
    await world.found()
    await world.answers("never")
    await prefers(world, weekly_budget=5, muted_at={})
    wanted = await world.read(lambda records: records.owners.preferences("jana"))
    assert wanted.mutes(FRONT, "advice")
    assert not wanted.mutes(FRONT, "warning")


async def test_muting_by_a_list_ends_what_is_open(world: World) -> None:
    await world.found()
    await prefers(world, muted=(FRONT,))
    assert (await world.touchpoint()).state is State.WITHDRAWN
    assert "muted_rule" in await world.codes()
