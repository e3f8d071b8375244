"""Nobody is disturbed at the wheel: of whichever of their cars, and however late it turns out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from garage import CAR, DAY, HOUR, MINUTE, SIGNALS, TEXTS, World, open_world

from gateway.domain.counters import Counters
from gateway.domain.delivery import Delivery, DeliveryState, Outcome, Sent
from gateway.domain.touchpoint import State
from gateway.flow import budget
from gateway.flow.deliver import Deliverer, Drop, Later, Ready, prepare
from gateway.flow.outgoing import Renderer
from gateway.ports import Records


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        await opened.subscribes()
        yield opened


async def test_a_washer_keeps_quiet_while_its_owner_drives_and_for_minutes_after(world: World) -> None:
    await world.drives()
    assert await world.found("descale-due", device="washer") == "defer"
    assert (await world.codes())[-1] == "not_sent_driving"
    world.go_to(world.now + 10 * MINUTE)
    await world.parks()
    await world.timers()
    assert (await world.touchpoint()).state is State.DEFERRED
    world.go_to(world.now + 3 * MINUTE)
    await world.timers()
    assert (await world.touchpoint()).state is State.OPEN


async def test_a_car_that_somebody_else_drives_holds_nobody_up(world: World) -> None:
    await world.write(lambda records: records.devices.add(replace(CAR, id="van", owner=None)))
    await world.drives("van")
    assert await world.found("descale-due", device="washer") == "send"


async def prepared(world: World, channel: str) -> Ready | Later | Drop | None:
    """What is to be done with the channel's oldest row, as if it were claimed now."""

    def work(records: Records) -> Ready | Later | Drop | None:
        (row,) = records.outbox.claim(world.now, lease_ms=1_000, limit=1, channels=[channel])
        renderer = Renderer(texts=TEXTS, signals=SIGNALS, policy=world.policy, public_url="https://g.example")
        return prepare(records, row, renderer, world.policy, world.now)

    return await world.write(work)


async def test_a_display_that_has_begun_to_move_shows_nothing_that_can_wait(world: World) -> None:
    assert await world.found() == "send"
    await world.drives()
    waits = await prepared(world, "display")
    assert isinstance(waits, Later)
    assert waits.why == "not_sent_driving"


async def test_a_display_is_cleared_while_it_moves(world: World) -> None:
    await world.found()
    await world.answers("not_now")
    await world.drives()
    ready = await prepared(world, "display")
    assert isinstance(ready, Ready)
    assert ready.delivery.payload["show"] is None


async def test_a_critical_matter_is_on_the_display_of_a_moving_car(world: World) -> None:
    await world.drives()
    await world.found("coolant-too-hot")
    ready = await prepared(world, "display")
    assert isinstance(ready, Ready)
    assert ready.delivery.payload["show"] is not None


class Phone:
    """Takes everything."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def send(self, delivery: Delivery) -> Outcome:
        return Sent()

    async def close(self) -> None:
        """Nothing to close."""


async def test_the_week_of_a_contact_begins_when_it_reaches_its_owner(world: World) -> None:
    decided = world.now
    assert await world.found() == "send"
    await world.drives()
    channels = {name: Phone(name) for name in ("web_push", "display")}
    renderer = Renderer(texts=TEXTS, signals=SIGNALS, policy=world.policy, public_url="https://g.example")
    loop = Deliverer(world.database, world.clock, channels, world.policy, renderer, Counters())
    await loop.now()
    assert await world.queued("web_push")
    world.go_to(world.now + 2 * HOUR)
    await world.parks()
    world.go_to(world.now + 5 * MINUTE)
    await loop.now()
    assert await world.queued("web_push", DeliveryState.SENT)

    def times(records: Records) -> list[int]:
        return list(records.contacts.times("jana", (budget.SERVICE,), decided - DAY))

    assert await world.read(times) == [world.now]
