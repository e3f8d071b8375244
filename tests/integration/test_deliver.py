"""The loops that send and that wake: a played clock, a real database, channels that misbehave."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from garage import HOUR, SIGNALS, SUNDAY_NIGHT, TEXTS, World, at, open_world
from real_parts import PATIENCE_S, Mosquitto

from gateway.adapters.journal import SqliteJournal
from gateway.adapters.mqtt import Broker
from gateway.adapters.mqtt_client import MqttClient
from gateway.channels.display import DisplayChannel
from gateway.channels.journal import JournalChannel
from gateway.domain.counters import Counters
from gateway.domain.delivery import Delivery, DeliveryState, Outcome, Retry, Sent
from gateway.domain.owner import Owner
from gateway.domain.touchpoint import State
from gateway.flow.deliver import Deliverer, Timers, deliver_now
from gateway.flow.outgoing import Renderer
from gateway.ports import Channel, DatabaseUnavailableError, Records

TUESDAY_8 = at("2026-11-24T08:00+01:00")


class Recorder:
    """A channel that notes what it was given and answers as it is told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sent: list[Delivery] = []
        self.outcomes: list[Outcome] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.inside = 0
        self.most_inside = 0

    async def send(self, delivery: Delivery) -> Outcome:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            await self.gate.wait()
        finally:
            self.inside -= 1
        self.sent.append(delivery)
        return self.outcomes.pop(0) if self.outcomes else Sent(detail="ok")

    async def close(self) -> None:
        """Nothing to close."""


def renderer(world: World) -> Renderer:
    return Renderer(texts=TEXTS, signals=SIGNALS, policy=world.policy, public_url="https://gateway.example")


def deliverer(world: World, *channels: Channel, counters: Counters | None = None) -> Deliverer:
    by_name = {channel.name: channel for channel in channels}
    return Deliverer(
        world.database, world.clock, by_name, world.policy, renderer(world), counters or Counters()
    )


@asynccontextmanager
async def running(world: World, *loops: Deliverer | Timers) -> AsyncIterator[None]:
    """The loops run, and the clock knows of them."""
    tasks = [asyncio.create_task(loop.run()) for loop in loops]
    for task in tasks:
        world.clock.register(task)
    try:
        await world.clock.settled()
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def play(world: World, until: int) -> None:
    """Let time pass from one due moment to the next."""
    await world.clock.settled()
    while (due := world.clock.next_due()) is not None and due <= until:
        world.clock.advance(due)
        await world.clock.settled()
    world.clock.advance(until)
    await world.clock.settled()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        await opened.subscribes()
        yield opened


async def test_a_deferred_matter_wakes_by_itself_and_is_sent(tmp_path: Path) -> None:
    async with open_world(tmp_path, SUNDAY_NIGHT) as world:
        await world.subscribes()
        push, display, counters = Recorder("web_push"), Recorder("display"), Counters()
        timers = Timers(world.database, world.clock, world.policy, counters)
        async with running(world, deliverer(world, push, display, counters=counters), timers):
            await world.found()
            await play(world, at("2026-11-23T06:59+01:00"))
            assert push.sent == []
            await play(world, at("2026-11-23T07:00+01:00"))
            assert [len(push.sent), len(display.sent)] == [1, 1]
    assert counters.decisions == {"send": 1}
    assert counters.deliveries == {("web_push", "sent"): 1, ("display", "sent"): 1}
    seconds = counters.delivery_delay_total_s
    assert seconds == (at("2026-11-23T07:00+01:00") - SUNDAY_NIGHT) / 1000


async def test_a_matter_that_waited_survives_a_restart(tmp_path: Path) -> None:
    async with open_world(tmp_path, SUNDAY_NIGHT) as world:
        await world.found()
        async with running(world, Timers(world.database, world.clock, world.policy, Counters())):
            pass
        async with running(world, Timers(world.database, world.clock, world.policy, Counters())):
            await play(world, at("2026-11-23T08:00+01:00"))
        assert (await world.touchpoint()).state is State.OPEN


async def test_retries_follow_the_schedule_on_the_clock(world: World) -> None:
    push = Recorder("web_push")
    push.outcomes = [Retry(detail="busy"), Retry(detail="busy", after_ms=100_000)]
    began = world.now
    async with running(world, deliverer(world, push)):
        await world.found()
        await play(world, began + HOUR)
        (row,) = await world.queued("web_push", DeliveryState.SENT)
        attempts = await world.read(lambda r: r.outbox.attempts(row.id))
    assert [(attempt.at - began, attempt.result) for attempt in attempts] == [
        (0, "retry"),
        (10_000, "retry"),
        (110_000, "sent"),
    ]
    assert {delivery.id for delivery in push.sent} == {row.id}


async def test_a_hanging_channel_holds_up_no_other(world: World) -> None:
    push, display = Recorder("web_push"), Recorder("display")
    push.gate.clear()
    async with running(world, deliverer(world, push, display)):
        for number in range(40):
            await world.subscribes(f"phone{number}")
        await world.found()
        while not display.sent:
            await asyncio.sleep(0)
        assert push.sent == []
        push.gate.set()
        await world.clock.settled()
    assert len(push.sent) == 41
    assert 1 < push.most_inside <= 16


async def test_a_played_clock_waits_for_what_is_being_sent(world: World) -> None:
    push = Recorder("web_push")
    push.gate.clear()
    async with running(world, deliverer(world, push)):
        await world.found()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await world.clock.settled()
        push.gate.set()
        await world.clock.settled()
        assert len(push.sent) == 1


async def test_one_target_gets_one_thing_at_a_time_and_the_latest_truth(world: World) -> None:
    display = Recorder("display")
    display.gate.clear()
    async with running(world, deliverer(world, display)):
        await world.found()
        while not display.inside:
            await asyncio.sleep(0)
        await world.answers("not_now")
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert display.inside == 1
        display.gate.set()
        await world.clock.settled()
    shown = [delivery.payload["show"] is not None for delivery in display.sent]
    assert shown == [True, False]


async def test_the_display_is_cleared_when_a_matter_expires(world: World) -> None:
    display = Recorder("display")
    timers = Timers(world.database, world.clock, world.policy, Counters())
    async with running(world, deliverer(world, display), timers):
        await world.found()
        await play(world, world.now + 15 * 24 * HOUR)
    assert (await world.touchpoint()).state is State.EXPIRED
    assert [delivery.payload["show"] is not None for delivery in display.sent] == [True, False]


async def test_a_channel_that_raises_is_tried_again_and_ends_as_a_dead_letter(world: World) -> None:
    class Broken(Recorder):
        async def send(self, delivery: Delivery) -> Outcome:
            raise ZeroDivisionError("nobody thought of this")

    await world.wishes(quiet_from="00:00", quiet_to="00:00")
    async with running(world, deliverer(world, Broken("web_push"))):
        await world.found()
        await play(world, world.now + 24 * HOUR)
    (dead,) = await world.queued("web_push", DeliveryState.DEAD)
    attempts = await world.read(lambda r: r.outbox.attempts(dead.id))
    assert len(attempts) == len(world.policy.retry_schedule_s) + 1
    assert "ZeroDivisionError" in attempts[-1].detail


async def test_what_ends_while_it_is_sent_stays_ended(world: World) -> None:
    push = Recorder("web_push")
    push.gate.clear()
    push.outcomes = [Retry(detail="busy")]
    async with running(world, deliverer(world, push)):
        await world.found()
        while not push.inside:
            await asyncio.sleep(0)
        await world.answers("not_now")
        push.gate.set()
        await play(world, world.now + HOUR)
    offer, answered = push.sent  # the second takes the first one's place: it may have arrived all the same
    assert (offer.payload["message"]["about"], answered.payload["message"]["about"]) == ("offer", "answered")
    assert await world.queued("web_push", DeliveryState.DROPPED) != []


# --- the journal ------------------------------------------------------------------------------


async def test_a_counter_reset_is_in_the_journal_before_the_caller_goes_on(
    world: World, tmp_path: Path
) -> None:
    await world.found()
    await world.answers("already_done")
    async with SqliteJournal(tmp_path / "journal.db", readers=("assess",), max_bytes=1 << 24) as journal:
        channel = JournalChannel(journal, world.clock)
        for _ in range(2):
            await deliver_now(
                world.database, world.clock, {"journal": channel}, world.policy, renderer(world), Counters()
            )
        (batch,) = await journal.read(0, limit=10)
        (row,) = await world.queued("journal", DeliveryState.SENT)
        assert await channel.send(row) == Sent(detail="appended before")
        assert journal.head() == 1
    assert batch.kind == "control"
    assert batch.received == world.now
    assert dict(batch.controls[0]) == {
        "type": "reset",
        "id": row.id,
        "device": "car",
        "signals": ["pad_wear_front"],
        "ts": world.now,
    }


async def test_who_announces_waits_for_what_somebody_else_is_sending(world: World, tmp_path: Path) -> None:
    slow = Recorder("journal")
    slow.gate.clear()
    async with running(world, deliverer(world, slow)):
        await world.found()
        await world.answers("already_done")
        while not slow.inside:
            await asyncio.sleep(0)
        caller = asyncio.create_task(
            deliver_now(
                world.database, world.clock, {"journal": slow}, world.policy, renderer(world), Counters()
            )
        )
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not caller.done()
        slow.gate.set()
        await asyncio.wait_for(caller, PATIENCE_S)
    assert len(slow.sent) == 1


# --- the display, over a real broker ------------------------------------------------------------


class Display:
    """A display that is on: it has what is retained and what comes."""

    def __init__(self, broker: Mosquitto, device: str) -> None:
        self.topics: dict[str, bytes] = {}
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"display-{device}")
        self.client.on_message = lambda _client, _data, message: self.topics.update(
            {message.topic: message.payload}
        )
        self.client.connect("127.0.0.1", broker.port)
        self.client.subscribe(f"touchpoint/v1/{device}/touchpoint/+", qos=1)
        self.client.loop_start()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.01)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@asynccontextmanager
async def connected(broker: Mosquitto) -> AsyncIterator[MqttClient]:
    client = MqttClient(Broker(url=broker.url, client_id="gateway-down"), random=lambda: 0.5)
    task = asyncio.create_task(client.run())
    try:
        yield client
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_the_display_shows_what_is_open_and_nothing_once_it_is_answered(
    world: World, mosquitto: Mosquitto
) -> None:
    async with connected(mosquitto) as client:
        sender = deliverer(world, DisplayChannel(client))
        await world.found()
        await sender.now()
        touchpoint = await world.touchpoint()
        topic = f"touchpoint/v1/car/touchpoint/{touchpoint.id}"
        display = Display(mosquitto, "car")  # comes on later: the message is retained
        try:
            await display.until(lambda: topic in display.topics)
            shown = json.loads(display.topics[topic])
            assert shown == {
                "id": touchpoint.id,
                "title": "Your front brake pads are worn to 2.5\u00a0mm",
                "body": "2.5\u00a0mm left, the limit is 2\u00a0mm (new: 12\u00a0mm)."
                " Takes about 1 hour, 180–220\u00a0€.",
                "severity": "advice",
                "actions": [
                    {"id": f"book:{touchpoint.slots[0].id}", "label": "Book Tuesday, 24\u00a0Nov, 8:00"},
                    {"id": f"book:{touchpoint.slots[1].id}", "label": "Book Wednesday, 25\u00a0Nov, 16:00"},
                    {"id": "other_time", "label": "Other time"},
                    {"id": "not_now", "label": "Not now"},
                ],
                "expires": "2026-12-07T08:00:00.000Z",
            }
            await world.answers("book", slot=f"nord@{TUESDAY_8}")
            await sender.now()
            await display.until(lambda: display.topics[topic] == b"")
        finally:
            display.close()
        late = Display(mosquitto, "car")
        try:
            await asyncio.sleep(0.2)
            assert late.topics == {}
        finally:
            late.close()


async def test_a_display_whose_broker_is_away_is_tried_again(
    world: World, start_mosquitto: Callable[..., Mosquitto]
) -> None:
    broker = start_mosquitto()
    async with connected(broker) as client:
        broker.stop()

        class Impatient:
            async def publish(
                self, topic: str, payload: bytes, *, retain: bool, expires_s: int | None = None
            ) -> None:
                async with asyncio.timeout(0.3):
                    await client.publish(topic, payload, retain=retain)

        sender = deliverer(world, DisplayChannel(Impatient()))
        await world.found()
        await sender.now()
        (row,) = await world.queued("display")
        assert row.attempts == 1
        broker.start()
        world.clock.advance(row.due_at)
        patient = deliverer(world, DisplayChannel(client))
        await patient.now()
        assert [d.state for d in await world.queued("display", DeliveryState.SENT)] == [DeliveryState.SENT]


async def test_a_browser_that_changed_hands_is_not_shown_its_former_owners_matters(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        push = Recorder("web_push")
        await world.subscribes()
        await world.found()

        def changes_hands(records: Records) -> None:
            (phone,) = records.owners.subscriptions("jana")
            records.owners.add(Owner(id="max", name="Max"))
            records.owners.subscribe(replace(phone, owner="max"))

        await world.write(changes_hands)
        await deliverer(world, push).now()
        assert push.sent == []
        assert [row.state for row in await world.queued("web_push", DeliveryState.DROPPED)] == ["dropped"]


async def test_what_was_sent_is_not_sent_again_because_the_database_was_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world(tmp_path) as world:
        push, write, away = Recorder("web_push"), world.database.write, 2
        await world.subscribes()
        await world.found()

        async def write_later(work: Callable[[Records], object]) -> object:
            nonlocal away
            if push.sent and away:
                away -= 1
                raise DatabaseUnavailableError("the database is locked")
            return await write(work)

        monkeypatch.setattr(world.database, "write", write_later)
        monkeypatch.setattr("gateway.flow.deliver.STORE_PAUSE_S", 0.01)
        async with running(world, deliverer(world, push)):
            await play(world, world.now + 2 * world.policy.lease_ms)
        assert away == 0
        assert len(push.sent) == 1
        assert len(await world.queued("web_push", DeliveryState.SENT)) == 1
