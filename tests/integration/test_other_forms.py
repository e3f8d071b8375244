"""Devices that speak SenML and Sparkplug B, simulated, over a real broker into the running gateway."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from real_parts import Mosquitto
from running_gateway import RunningGateway, running_gateway, wait_until

from device_sim.fleet import Fleet
from device_sim.mqtt import Broker, Devices
from device_sim.player import Player
from device_sim.scenario import Scenario
from device_sim.tidy import readings
from gateway.adapters.codec_sparkplug import rebirth

SCENARIO = """
name: forms
about: the same kind of car in three forms
start: 2026-03-02 00:00
span: 4d
history: 2d
owners:
  - {id: ida, name: Ida}
devices:
  - &car
    id: car-native
    kind: car
    model: Arden 5
    owner: ida
    reports: full
    idle: 6h
    begins: {oil_wear: 10}
    trips: [{days: [mon, tue, wed, thu], leave: 07:00, arrive: 08:10, spread: 5m, every: 10m}]
    faults: [{fault: misfire, onset: 2026-03-01 00:00, over: 2d}]
  - {<<: *car, id: car-senml, format: senml}
  - {<<: *car, id: car-sparkplug, format: sparkplug}
"""
CODECS = '{"senml/+" = "senml_json", "spBv1.0/#" = "sparkplug"}'.replace(" = ", ": ")


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def said(scenario: Scenario) -> dict[tuple[str, str], dict[int, Any]]:
    """What the devices measured, without any broker: {(device, signal): {ts: value}}."""
    fleet = Fleet(scenario, 7)
    for unit in fleet.units.values():
        unit.spoken = True
    found: dict[tuple[str, str], dict[int, Any]] = {}
    for _, device, ts, signals in readings(fleet):
        for name, value in signals.items():
            found.setdefault((device, name), {})[ts] = value
    return found


@pytest.fixture
def scenario(tmp_path: Path) -> Scenario:
    file = tmp_path / "forms.yaml"
    file.write_text(SCENARIO, encoding="utf-8")
    return Scenario.load(str(file)).peopled(7)


async def meanwhile(work: Callable[..., Any], *arguments: Any) -> Any:
    """What blocks, while the devices go on."""
    return await asyncio.to_thread(work, *arguments)


async def until(condition: Callable[[], bool], what: str) -> None:
    await meanwhile(wait_until, condition, what)


async def test_what_they_measure_can_be_read_back_whatever_they_speak_also_over_a_crash(
    scenario: Scenario, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    births: list[str] = []
    wanted = said(scenario)
    assert {device for device, _ in wanted} == {"car-native", "car-senml", "car-sparkplug"}
    assert any(["P0301"] in values.values() for (_, name), values in wanted.items() if name == "dtc")
    with running_gateway(tmp_path / "gateway", mosquitto.url, codecs=CODECS) as lab:
        await meanwhile(lab.start)
        await meanwhile(lab.owner, "ida", ["car-native", "car-senml", "car-sparkplug"])
        fleet = Fleet(scenario, 7)
        devices = Devices(
            Broker.parse(mosquitto.url),
            fleet.units,
            forms={device.id: device.format for device in scenario.part.devices},
            on_rebirth=births.append,  # and none is given: what it knows has to be enough
        )
        async with devices:
            player = Player(scenario, 7, devices.publish, fleet=fleet)
            await player.play_history()
            await player.play_until((scenario.start + scenario.end) // 2)
            await meanwhile(lab.until_total, "touchpoint_messages_received_total", player.published)
            first = player.published
            lab.kill()
            await meanwhile(lab.start)
            await player.play_until(scenario.end)
            await meanwhile(lab.until_total, "touchpoint_messages_received_total", player.published - first)
            for (device, name), values in wanted.items():
                await until(lambda d=device, n=name, v=values: told(lab, d, n) == v, f"{device} {name}")
        assert (await meanwhile(lab.api, "GET", "quarantine"))["items"] == []
        # Once where the state was saved after the birth: another one may have come while it was away.
        assert len(births) <= 1


def told(lab: RunningGateway, device: str, name: str) -> dict[int, Any]:
    return {ms(ts): value for ts, value in lab.readings(device, name)}


async def test_a_device_whose_birth_was_missed_is_asked_for_it_and_then_understood(
    scenario: Scenario, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    fleet = Fleet(scenario, 7)
    unit = fleet.units["car-sparkplug"]
    asked: list[str] = []

    def reborn(device: str) -> None:
        asked.append(device)
        unit.reborn()

    devices = Devices(Broker.parse(mosquitto.url), [unit.id], forms={unit.id: "sparkplug"}, on_rebirth=reborn)
    before = [message for _ in range(40) for message in _next(fleet, unit.id)]
    born = max(at for at, message in enumerate(before) if "/NBIRTH/" in message.topic)
    birth, *data = before[born:]
    assert len(data) > 3
    with running_gateway(tmp_path / "gateway", mosquitto.url, codecs=CODECS) as lab:
        async with devices:
            await devices.publish(*birth)  # and nobody there
            await meanwhile(lab.start)
            await meanwhile(lab.owner, "ida", [unit.id])
            await devices.publish(*data[0])
            await until(lambda: bool(asked), "it is asked for its birth")
            answer = _next(fleet, unit.id)
            assert "/NBIRTH/" in answer[0].topic
            for message in answer:
                await devices.publish(*message)
            await until(lambda: bool(told(lab, unit.id, "speed")), "it is understood")
        known = await meanwhile(told, lab, unit.id, "battery_voltage")
        waiting = (await meanwhile(lab.api, "GET", "quarantine"))["items"]
        assert {row["reason"] for row in waiting} == {"unknown_alias"}
        await meanwhile(lab.command, "quarantine", "replay", "--reason", "unknown_alias")
        await until(
            lambda: len(told(lab, unit.id, "battery_voltage")) > len(known), "what waited is understood, too"
        )
    assert asked == [unit.id]
    assert b"Node Control/Rebirth" in rebirth(0)


def _next(fleet: Fleet, device: str) -> list[Any]:
    """What a device says next."""
    while True:
        found = [m for m in fleet.play() if m.device == device and "/event" not in m.topic]
        if found:
            return found
