"""Simulated devices on a real broker."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiomqtt
import pytest
from real_parts import PATIENCE_S, Mosquitto, free_port

from device_sim.mqtt import Broker, BrokerError, Devices
from device_sim.player import Player
from device_sim.scenario import Scenario


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the broker brings."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


def devices_on(broker: Mosquitto, *names: str, **kwargs: Any) -> Devices:
    return Devices(Broker.parse(f"mqtt://127.0.0.1:{broker.port}"), names, **kwargs)


async def test_a_scenario_reaches_the_broker_in_the_players_order(mosquitto: Mosquitto) -> None:
    scenario, expected, seen = Scenario.load("small-fleet"), [], []

    async def listen(ready: asyncio.Event) -> None:
        async with aiomqtt.Client("127.0.0.1", mosquitto.port) as client:
            await client.subscribe("touchpoint/v1/#", qos=1)
            ready.set()
            async for message in client.messages:
                seen.append((message.topic.value, message.payload))

    ready = asyncio.Event()
    listener = asyncio.create_task(listen(ready))
    await ready.wait()
    async with devices_on(mosquitto, *(device["id"] for device in scenario.devices)) as devices:

        async def publish(device: str, topic: str, payload: bytes) -> None:
            expected.append((topic, payload))
            await devices.publish(device, topic, payload)

        await Player(scenario, 7, publish).play_until(scenario.end)
        await until(lambda: len(seen) >= len(expected))
    listener.cancel()
    assert seen[: len(expected)] == expected


async def test_a_display_shows_what_it_is_told_until_it_is_cleared_and_can_be_answered(
    mosquitto: Mosquitto,
) -> None:
    told: list[tuple[str, str, Any]] = []
    commands: list[tuple[str, Any]] = []
    async with (
        devices_on(
            mosquitto,
            "car-1",
            on_display=lambda *seen: told.append(seen),
            on_command=lambda *seen: commands.append(seen),
        ) as devices,
        aiomqtt.Client("127.0.0.1", mosquitto.port) as gateway,
    ):
        topic, matter = "touchpoint/v1/car-1/touchpoint/t1", {"id": "t1", "title": "Pads"}
        await gateway.publish(topic, json.dumps(matter), qos=1, retain=True)
        await until(lambda: bool(told))
        assert devices.shown["car-1"] == {"t1": matter}
        await gateway.publish(topic, b"", qos=1, retain=True)
        await until(lambda: len(told) == 2)
        assert devices.shown["car-1"] == {}
        assert told == [("car-1", "t1", matter), ("car-1", "t1", None)]
        await gateway.publish("touchpoint/v1/car-1/command", b'{"id":"c","command":"locate"}', qos=1)
        await until(lambda: bool(commands))
        assert commands == [("car-1", {"id": "c", "command": "locate"})]
        await gateway.subscribe("touchpoint/v1/+/answer", qos=1)
        await devices.answer("car-1", "t1", "not_now", 1_795_000_000_000)
        answer = await anext(aiter(gateway.messages))
        assert json.loads(answer.payload) == {
            "touchpoint": "t1",
            "action": "not_now",
            "ts": 1_795_000_000_000,
        }


async def test_what_a_display_cannot_read_it_does_not_show(mosquitto: Mosquitto) -> None:
    told: list[Any] = []
    async with (
        devices_on(mosquitto, "car-1", on_display=lambda *seen: told.append(seen)) as devices,
        aiomqtt.Client("127.0.0.1", mosquitto.port) as gateway,
    ):
        await gateway.publish("touchpoint/v1/car-1/touchpoint/t1", b"{half", qos=1)
        await until(lambda: bool(told))
        assert devices.shown["car-1"] == {}


async def test_a_status_is_retained(mosquitto: Mosquitto) -> None:
    async with devices_on(mosquitto, "car-1") as devices:
        await devices.publish("car-1", "touchpoint/v1/car-1/status", b"online")
    async with aiomqtt.Client("127.0.0.1", mosquitto.port) as late:
        await late.subscribe("touchpoint/v1/+/status")
        message = await anext(aiter(late.messages))
    assert (message.payload, message.retain) == (b"online", True)


async def test_publishing_goes_on_after_the_broker_was_away(
    start_mosquitto: Callable[..., Mosquitto],
) -> None:
    broker = start_mosquitto()
    async with devices_on(broker, "car-1") as devices:
        await devices.publish("car-1", "touchpoint/v1/car-1/event", b"{}")
        broker.stop()
        waiting = asyncio.create_task(devices.publish("car-1", "touchpoint/v1/car-1/status", b"online"))
        broker.start()
        async with asyncio.timeout(PATIENCE_S):
            await waiting
    async with aiomqtt.Client("127.0.0.1", broker.port) as late:
        await late.subscribe("touchpoint/v1/+/status")
        assert (await anext(aiter(late.messages))).payload == b"online"


async def test_a_broker_that_is_not_there_is_said_in_one_line() -> None:
    port = free_port()
    with pytest.raises(BrokerError, match=f"no connection to 127.0.0.1:{port}"):
        async with Devices(Broker.parse(f"mqtt://127.0.0.1:{port}"), ["car-1", "car-2"]):
            pass


@pytest.mark.parametrize("url", ["http://x", "1883", "mqtt://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BrokerError, match="is no broker"):
        Broker.parse(url)


def test_an_address_carries_user_and_password() -> None:
    broker = Broker.parse("mqtt://device:p%40ss@broker.example")
    assert (broker.host, broker.port, broker.username, broker.password) == (
        "broker.example",
        1883,
        "device",
        "p@ss",
    )
