"""Households: who is asked, who may answer, and what ends when somebody leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from garage import DAY, JANA, MINUTE, World, open_world

from gateway.domain.appointment import AppointmentState
from gateway.domain.errors import ConflictError, GoneError, InvalidError, NotAllowedError, NotFoundError
from gateway.domain.household import Part, Person
from gateway.domain.owner import Consent, Owner, Preferences
from gateway.domain.touchpoint import Answer, State
from gateway.flow import decide, outgoing, people, respond
from gateway.ports import Records

TOM = Owner(id="tom", name="Tom Berg", language="de", time_zone="Europe/Berlin")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:

        def populate(records: Records) -> None:
            records.owners.add(TOM)
            for purpose in ("maintenance", "safety"):
                records.owners.consent(
                    Consent(owner="tom", purpose=purpose, granted=True, at=opened.now - DAY, source="owner")
                )

        await opened.write(populate)
        yield opened


def part(**changes: object) -> Person:
    plain = Person(
        device="car",
        owner="tom",
        role=Part.MEMBER,
        asked=False,
        may_answer=False,
        sees=True,
        since=0,
        by="jana",
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


async def joins(world: World, **changes: object) -> None:
    await world.write(people.join, part(**changes), world.now)


async def is_asked(world: World) -> str | None:
    return await world.read(lambda records: people.asked(records, "car"))


async def may(world: World, who: str) -> bool:
    return await world.read(lambda records: people.may_answer(records, "car", who))


async def ledger_of(world: World, owner: str) -> list[str]:
    return [line.code for line in await world.read(lambda records: people.ledger(records, owner))]


async def test_without_anybody_else_the_owner_is_asked(world: World) -> None:
    assert await is_asked(world) == "jana"
    assert await may(world, "jana")
    assert not await may(world, "tom")


async def test_a_driver_is_asked_instead_of_the_owner_by_their_own_wishes(world: World) -> None:
    await joins(world, role=Part.DRIVER, asked=True)
    await world.write(
        lambda records: records.owners.prefer("tom", Preferences(quiet_from="08:00", quiet_to="12:00"))
    )
    assert await world.found() == "defer"  # Jana would have it at nine; Tom sleeps
    touchpoint = await world.touchpoint()
    assert (touchpoint.owner, touchpoint.state) == ("tom", State.DEFERRED)
    assert "not_sent_quiet_hours" in await ledger_of(world, "tom")


async def test_the_owner_reads_what_was_decided_for_the_driver(world: World) -> None:
    await joins(world, role=Part.DRIVER, asked=True)
    await world.found()
    codes = await ledger_of(world, "jana")
    assert {"found", "joined"} <= set(codes)


async def test_without_the_drivers_consent_nobody_is_contacted(world: World) -> None:
    await joins(world, role=Part.DRIVER, asked=True)
    await world.write(
        lambda records: records.owners.consent(
            Consent(owner="tom", purpose="maintenance", granted=False, at=world.now, source="owner")
        )
    )
    assert await world.found() == "suppress"
    assert "suppressed_no_consent" in await ledger_of(world, "tom")


async def test_the_drivers_budget_is_spent_not_the_owners(world: World) -> None:
    await world.write(lambda records: records.owners.prefer("tom", Preferences(weekly_budget=1)))
    await joins(world, role=Part.DRIVER, asked=True)
    await world.subscribes()
    assert await world.found() == "send"
    assert await world.read(lambda records: len(records.contacts.times("tom", ("service",), 0))) == 1
    assert await world.read(lambda records: records.contacts.times("jana", ("service",), 0)) == []


async def test_who_may_answer_answers_and_the_first_answer_wins(world: World) -> None:
    await joins(world, may_answer=True)
    await world.found()
    touchpoint = await world.touchpoint()
    chosen = Answer(action="not_now", channel="page", at=world.now, by="tom")
    await world.write(respond.answer, touchpoint.id, chosen, world.now, world.policy)
    with pytest.raises(ConflictError):
        await world.answers("noted")
    story = " ".join(await world.story())
    assert "Tom Berg" in story


async def test_an_answer_of_another_one_replaces_the_notification_of_who_was_asked(world: World) -> None:
    await joins(world, may_answer=True)
    await world.subscribes()
    await world.found()
    touchpoint = await world.touchpoint()
    chosen = Answer(action="not_now", channel="page", at=world.now, by="tom")
    await world.write(respond.answer, touchpoint.id, chosen, world.now, world.policy)
    assert [row.payload["about"] for row in await world.queued(outgoing.WEB_PUSH)] == ["answered"]


async def test_another_one_to_ask_takes_over_what_nobody_answered(world: World) -> None:
    await world.subscribes()
    await world.found()
    before = await world.touchpoint()
    assert before.owner == "jana"
    await joins(world, role=Part.DRIVER, asked=True)
    moved = await world.touchpoint()
    assert (moved.id, moved.owner, moved.state) == (before.id, "tom", State.DEFERRED)
    assert await world.queued(outgoing.WEB_PUSH) == []
    await world.timers()
    after = await world.touchpoint()
    assert (after.owner, after.state) == ("tom", State.OPEN)
    assert "handed_over" in await ledger_of(world, "jana")


@pytest.mark.parametrize(
    ("theirs", "told"),
    [("brake-pads-front-worn", "brake-pads-rear-worn"), ("brake-pads-rear-worn", "brake-pads-front-worn")],
)
async def test_of_a_visit_for_several_matters_another_one_is_told_what_they_agree_to(
    world: World, theirs: str, told: str
) -> None:
    front, rear = "brake-pads-front-worn", "brake-pads-rear-worn"
    other = replace(world.policy.rules[theirs], purpose="usage")
    world.policy = replace(world.policy, rules={**world.policy.rules, theirs: other})
    await world.agrees("usage")
    await world.found(front)
    assert await world.found(rear) == "merge"
    together = await world.touchpoint()
    await joins(world, role=Part.DRIVER, asked=True)
    await world.timers()
    now = await world.touchpoint()
    assert (now.id, now.owner, now.state) == (together.id, "tom", State.OPEN)
    matters = await world.read(lambda records: records.touchpoints.matters(now.id))
    assert [matter.rule for matter in matters] == [told]
    (line,) = [line for line in await world.lines() if line.code == "partly_no_consent"]
    finding = await world.read(lambda records: records.touchpoints.finding(line.finding or ""))
    assert finding is not None
    assert finding.rule == theirs


async def test_only_one_is_asked(world: World) -> None:
    await world.write(lambda records: records.owners.add(replace(TOM, id="lisa", name="Lisa")))
    await joins(world, asked=True)
    await joins(world, owner="lisa", asked=True)
    assert await is_asked(world) == "lisa"
    everybody = await world.read(lambda records: records.devices.people("car"))
    assert [p.owner for p in everybody if p.asked] == ["lisa"]


async def test_who_leaves_sees_and_answers_nothing_at_once(world: World) -> None:
    await joins(world, asked=True)
    await world.found()
    await world.write(lambda records: people.leave(records, "car", "tom", world.now, by="jana"))
    assert await is_asked(world) == "jana"
    assert not await may(world, "tom")
    assert not await world.read(lambda records: people.sees(records, "car", "tom"))
    touchpoint = await world.touchpoint()
    assert touchpoint.owner == "jana"
    assert await world.read(lambda records: people.matters(records, "tom", ())) == []


async def test_what_who_leaves_had_booked_is_the_owners_to_look_after(world: World) -> None:
    await joins(world, asked=True)
    await world.found()
    slot = (await world.touchpoint()).slots[0]
    chosen = Answer(action="book", slot=slot.id, channel="page", at=world.now, by="tom")
    await world.write(respond.answer, (await world.touchpoint()).id, chosen, world.now, world.policy)
    await world.write(lambda records: people.leave(records, "car", "tom", world.now, by="jana"))
    [visit] = await world.read(lambda records: records.workshops.appointments(device="car"))
    assert visit.owner == "jana"
    assert visit.state is AppointmentState.CONFIRMED
    assert (await world.touchpoint()).owner == "jana"


async def test_a_transfer_ends_every_part_and_every_invitation(world: World) -> None:
    await world.write(lambda records: records.owners.add(replace(JANA, id="new", name="New")))
    await joins(world, asked=True)
    await world.found()
    invitation, secret = await world.write(
        people.invite,
        "car",
        by="jana",
        name="Ann",
        role=Part.MEMBER,
        asked=False,
        may_answer=True,
        now=world.now,
    )

    def sold(records: Records) -> None:
        records.devices.transfer("car", "new", world.now)
        decide.changed_hands(records, "car", world.now, world.policy)

    await world.write(sold)
    assert await is_asked(world) == "new"
    assert not await may(world, "tom")
    assert (await world.touchpoint()).state is State.WITHDRAWN
    with pytest.raises(GoneError):
        await world.read(lambda records: people.invitation_of(records, secret, world.now))
    assert not (await world.read(lambda records: records.people.invitation(invitation.id))).open(world.now)


async def test_nobody_reads_what_was_decided_before_they_joined(world: World) -> None:
    await world.found()
    world.go_to(world.now + MINUTE)
    await joins(world)
    assert "found" not in await ledger_of(world, "tom")
    world.go_to(world.now + MINUTE)
    await world.found("brake-pads-rear-worn")
    assert "found" in await ledger_of(world, "tom")


async def test_an_invitation_is_taken_up_once(world: World) -> None:
    _, secret = await world.write(
        people.invite,
        "car",
        by="jana",
        name="Tom",
        role=Part.DRIVER,
        asked=True,
        may_answer=False,
        now=world.now,
    )
    await world.write(people.take_up, secret, "tom", world.now)
    assert await is_asked(world) == "tom"
    with pytest.raises(GoneError):
        await world.write(people.take_up, secret, "tom", world.now)


@pytest.mark.parametrize("late", [14 * DAY, 30 * DAY])
async def test_an_invitation_ends_by_itself(world: World, late: int) -> None:
    _, secret = await world.write(
        people.invite,
        "car",
        by="jana",
        name="",
        role=Part.MEMBER,
        asked=False,
        may_answer=True,
        now=world.now,
    )
    with pytest.raises(GoneError):
        await world.write(people.take_up, secret, "tom", world.now + late)


async def test_an_invitation_that_was_called_back_is_gone(world: World) -> None:
    invitation, secret = await world.write(
        people.invite,
        "car",
        by="jana",
        name="",
        role=Part.MEMBER,
        asked=False,
        may_answer=True,
        now=world.now,
    )
    await world.write(people.call_back, "car", invitation.id, world.now)
    with pytest.raises(GoneError):
        await world.write(people.take_up, secret, "tom", world.now)


async def test_what_cannot_be(world: World) -> None:
    with pytest.raises(ConflictError):
        await joins(world, owner="jana")
    with pytest.raises(NotFoundError):
        await joins(world, owner="nobody")
    with pytest.raises(InvalidError):
        await joins(world, role=Part.OWNER)
    await joins(world)
    with pytest.raises(ConflictError):
        await joins(world)
    with pytest.raises(NotAllowedError):
        await world.write(lambda records: people.leave(records, "car", "jana", world.now, by="jana"))
    with pytest.raises(NotFoundError):
        await world.write(lambda records: people.leave(records, "washer", "tom", world.now, by="jana"))
