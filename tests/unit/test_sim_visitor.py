"""What somebody who tries the demo makes happen: the device itself says so, at its time."""

import json
from typing import Any

from device_sim.fleet import Fleet
from device_sim.scenario import Scenario
from device_sim.visitor import ABROAD, ACTS, OFFLINE_MS, WORN

MINUTE = 60_000
CAR, WASHER = "car-keller", "washer-keller"


def fleet() -> Fleet:
    """The first story's, its past behind it."""
    made = Fleet(Scenario.load("first-story"), 7)
    for _ in made.history():
        pass
    return made


def happens(made: Fleet, act: str, device: str, minutes: int) -> list[tuple[int, str, Any]]:
    """(ms since it happened, kind of message, what is in it) of one device, for so many minutes."""
    at = made.scenario.start + 5 * MINUTE
    ACTS[act][1](made, device, at)
    said = []
    while (now := made.next_at()) <= at + minutes * MINUTE:
        for message in made.play():
            if message.device == device and now >= at:
                kind = message.topic.rpartition("/")[2]
                body = message.payload.decode()
                said.append((now - at, kind, body if kind == "status" else json.loads(body)))
    return said


def made_at() -> int:
    """When it happens."""
    return Scenario.load("first-story").start + 5 * MINUTE


def signals(said: list[tuple[int, str, Any]], name: str) -> list[tuple[int, Any]]:
    return [
        (at, body["signals"][name])
        for at, kind, body in said
        if kind == "telemetry" and name in body["signals"]
    ]


def test_worn_pads_are_reported_at_once_and_the_rear_ones_when_the_front_are_worn() -> None:
    made = fleet()
    assert signals(happens(made, "wear_pads", CAR, 0), "pad_wear_front") == [(0, WORN)]
    again = happens(made, "wear_pads", CAR, 0)
    assert signals(again, "pad_wear_rear")[0][1] == WORN


def test_a_broken_pump_shows_its_code_twice_a_minute_apart() -> None:
    said = happens(fleet(), "break_pump", WASHER, 10)
    assert signals(said, "fault_codes") == [(0, ["F21"]), (MINUTE, []), (2 * MINUTE, ["F21"])]


def test_a_car_that_crosses_the_border_is_home_again_a_day_later() -> None:
    said = signals(happens(fleet(), "cross_border", CAR, 24 * 60), "network_country")
    assert said == [(0, ABROAD), (24 * 60 * MINUTE, "DE")]


def test_without_network_nothing_comes_and_later_everything() -> None:
    said = happens(fleet(), "lose_network", CAR, 4 * 60)
    assert [(at, body) for at, kind, body in said if kind == "status"] == [
        (90_000, "offline"),
        (OFFLINE_MS, "online"),
    ]
    first = min(at for at, kind, _ in said if kind == "telemetry")
    assert first >= OFFLINE_MS
    kept = [body["ts"] for at, kind, body in said if kind == "telemetry" and at == OFFLINE_MS]
    assert len(kept) > 10  # it was driving
    assert made_at() <= min(kept) < max(kept) < made_at() + OFFLINE_MS
