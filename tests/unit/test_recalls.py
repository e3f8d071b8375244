"""A recall reaches every owner concerned, whatever they agreed to, and says how far it has come."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from garage import CAR, HOUR, SIGNALS, TEXTS, World, at, open_world

from gateway.domain.device import Device
from gateway.domain.errors import ConflictError, InvalidError
from gateway.domain.owner import Owner
from gateway.domain.recall import Affected, Progress, Recall
from gateway.domain.touchpoint import State
from gateway.flow import decide, follow_up, recalls
from gateway.flow.outgoing import Renderer
from gateway.ports import Records

BOLT = Recall(
    id="bolt",
    kind="car",
    title={
        "en": "A bolt of the front axle may loosen",
        "de": "Eine Schraube der Vorderachse kann sich lösen",
    },
    body={"en": "Drive slowly until it is tightened."},
    reference="KBA 12345",
    service="brakes-front",
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture
async def night(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, at("2026-11-22T23:08+01:00")) as opened:
        yield opened


async def begins(world: World, recall: Recall = BOLT, **affected: Any) -> int:
    whom = Affected(**affected) if affected else Affected(devices=("car",))
    return await world.write(recalls.begin, recall, whom, world.now, world.policy)


async def progress(world: World) -> Progress:
    return await world.read(lambda records: records.recalls.progress("bolt"))


async def test_it_is_told_without_consent_though_muted_and_beyond_every_budget(world: World) -> None:
    await world.subscribes()
    await world.agrees("maintenance", granted=False)
    await world.wishes(weekly_budget=0, muted=("recall-bolt",), channels=("web_push",))
    assert await begins(world) == 1
    told = await world.touchpoint()
    assert (told.state, told.purpose, told.service) == (State.OPEN, "recall", "brakes-front")
    assert len(told.slots) == 2
    assert [row.channel for row in await world.queued("web_push")] == ["web_push"]
    assert await world.queued("display") == []  # the owner chooses the channel
    (push,) = await world.queued("web_push")
    renderer = Renderer(texts=TEXTS, signals=SIGNALS, policy=world.policy, public_url="https://x.example")
    shown = await world.read(lambda r: renderer.render(r, push, world.now))
    assert shown is not None
    assert shown.payload["message"]["title"] == "A bolt of the front axle may loosen"
    assert shown.payload["message"]["body"].startswith("Drive slowly until it is tightened.")
    assert (await world.story())[0] == "Found at 9:00: A bolt of the front axle may loosen."
    assert (await world.story("de"))[0].startswith("Erkannt um 9:00: Eine Schraube")
    assert await world.read(lambda r: r.contacts.times("jana", ["service"], 0)) == []


async def test_it_waits_for_the_morning_and_for_the_end_of_the_trip(night: World) -> None:
    await begins(night)
    assert (await night.touchpoint()).wake_at == at("2026-11-23T07:00+01:00")
    night.go_to("2026-11-23T07:00+01:00")
    await night.drives()
    await night.timers()
    assert (await night.touchpoint()).waits_for == "not_sent_driving"


async def test_a_recalled_product_that_is_dangerous_in_use_says_so_at_the_wheel(night: World) -> None:
    await night.drives()
    await begins(night, replace(BOLT, severity="critical"))
    assert (await night.touchpoint()).state is State.OPEN
    assert len(await night.queued("display")) == 1


async def test_it_concerns_all_registered_products_that_fit(world: World) -> None:
    def more(records: Records) -> None:
        for n in range(5):
            device = Device(id=f"car-{n}", kind="car", model="Arden 5", serial=f"A{100 + n}", owner="jana")
            records.devices.add(device)
        records.devices.add(Device(id="other", kind="car", model="Arden 7", serial="A102", owner="jana"))

    await world.write(more)
    assert await begins(world, models=("Arden 5",), serial_from="A101", serial_to="A103") == 3
    assert await world.read(lambda r: r.recalls.devices("bolt")) == ["car-1", "car-2", "car-3"]


async def test_a_large_campaign_is_raised_little_by_little_and_goes_on_after_a_restart(world: World) -> None:
    names = tuple(f"van-{n}" for n in range(recalls.AT_ONCE + 30))

    def more(records: Records) -> None:
        for name in names:
            records.devices.add(replace(CAR, id=name, plate=None))

    await world.write(more)
    assert await begins(world, devices=names) == len(names)
    assert (await progress(world)).waiting == 30
    assert await world.read(lambda r: recalls.next_due(r, world.now)) == world.now
    await world.write(recalls.proceed, world.now, world.policy)
    now = await progress(world)
    assert (now.devices, now.waiting, now.open) == (len(names), 0, len(names))
    assert await world.read(lambda r: recalls.next_due(r, world.now)) is None


async def sold_to_max(world: World) -> None:
    """An hour later it has a new owner."""

    def work(records: Records) -> None:
        records.owners.add(Owner(id="max", name="Max", language="en"))
        records.devices.transfer("car", "max", world.now)
        decide.changed_hands(records, "car", world.now, world.policy)
        recalls.taken_over(records, "car", world.now, world.policy)

    world.go_to(world.now + HOUR)
    await world.write(work)


async def test_a_product_that_changes_hands_is_recalled_for_its_new_owner_too(world: World) -> None:
    await begins(world)
    await sold_to_max(world)
    new, old = await world.touchpoints()
    assert (new.owner, new.state) == ("max", State.OPEN)
    assert (old.owner, old.state) == ("jana", State.WITHDRAWN)
    assert (await progress(world)).open == 1
    lines = await world.read(lambda r: r.touchpoints.ledger(owner="max"))
    assert [line.code for line in reversed(lines)][:1] == ["found"]


async def test_a_visit_that_its_former_owner_had_booked_ends_it_for_its_new_owner_too(world: World) -> None:
    await begins(world)
    await world.answers("book", slot=(await world.touchpoint()).slots[0].id)
    await sold_to_max(world)
    visit = (await world.read(lambda r: r.workshops.appointments()))[-1]
    world.go_to(visit.end)
    await world.write(follow_up.done, visit.id, {}, world.now, world.policy)
    new, old = await world.touchpoints()
    assert (new.owner, new.state) == ("max", State.WITHDRAWN)
    assert (old.owner, old.state) == ("jana", State.FULFILLED)
    lines = await world.read(lambda r: r.touchpoints.ledger(touchpoint=new.id))
    assert "withdrawn_done" in [line.code for line in lines]


async def test_a_product_that_nobody_owns_yet_is_told_to_its_first_owner(world: World) -> None:
    await begins(world, devices=("new",))
    assert (await progress(world)).nobody == 1

    def registered(records: Records) -> None:
        records.devices.add(replace(CAR, id="new"))
        recalls.taken_over(records, "new", world.now, world.policy)

    await world.write(registered)
    assert (await progress(world)).open == 1


async def test_its_progress_follows_the_booking(world: World) -> None:
    await begins(world)
    await world.answers("book", slot=(await world.touchpoint()).slots[0].id)
    assert (await progress(world)).booked == 1
    finding = (await world.touchpoint()).finding
    await world.write(lambda r: r.touchpoints.clear_finding(finding, world.now))
    assert (await progress(world)).done == 1


async def test_one_that_begins_twice_or_concerns_nothing_is_refused(world: World) -> None:
    await begins(world)
    with pytest.raises(ConflictError):
        await begins(world)
    with pytest.raises(InvalidError):
        await begins(world, replace(BOLT, id="other"), models=("nothing",))


async def test_another_matter_of_the_same_visit_joins_a_recall(world: World) -> None:
    await begins(world)
    assert await world.found("brake-pads-rear-worn") == "merge"
    recalled = (await world.touchpoint()).id
    matters = await world.read(lambda r: r.touchpoints.matters(recalled))
    assert [m.purpose for m in matters] == ["recall", "maintenance"]
    assert TEXTS.has("touchpoints.recall.why")
