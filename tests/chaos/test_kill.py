"""`kill -9` of the running gateway, over and over, at moments that a seed chooses, while messages arrive.

Afterwards everything is as in a run with the same input that nobody disturbed: no reading lost, none
double, the same findings, one touchpoint for each. TOUCHPOINT_TEST_KILLS says how often (`make chaos`: 50),
TOUCHPOINT_TEST_SEED when.
"""

import contextlib
import itertools
import json
import os
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
from gateway_lab import wait_for
from real_parts import Mosquitto
from running_gateway import Message, Publisher, RunningGateway, now_ms, publish, running_gateway, telemetry

KILLS = int(os.environ.get("TOUCHPOINT_TEST_KILLS", "6"))
SEED = int(os.environ.get("TOUCHPOINT_TEST_SEED", "1"))

CARS = [f"car-{number:02d}" for number in range(24)]
WORN, MENDED = CARS[:12], CARS[12:18]
"""Pads wear and stay worn; wear, are replaced and wear again. The others never wear."""
PER_SECOND = 600
"""Messages; each car reports PER_SECOND / len(CARS) times a second, as if seconds had passed between."""
STEPS = 400
"""At least so many reports of each car; more while gateways are still to be killed."""
LATEST_KILL_S = 0.5
"""After it has become ready; before, within the time that its first start took."""
RULE = """
- id: pads
  version: 1
  kind: car
  purpose: maintenance
  severity: advice
  when: pad_wear_front >= 80
  for: 10s
  clear: pad_wear_front < 60
  touchpoint: {kind: appointment, service: brakes-front, expires: 14d}
"""

pytestmark = pytest.mark.timeout(600 + 20 * KILLS)


def wear(car: int, step: int) -> int:
    """Percent. Every car's pads wear at a step of their own, so that most kills meet some that do."""
    begins = 10 + 23 * car % 340
    mended = CARS[car] in MENDED and begins + 20 <= step < begins + 30
    worn = CARS[car] in WORN + MENDED and step >= begins and not mended
    return 85 if worn else 5 if mended else 50


def reports(start: int, step: int) -> list[Message]:
    """What all cars report in one step, a second after the last."""
    return [
        telemetry(name, start + step * 1_000, speed=(step * 7 + car) % 120, pad_wear_front=wear(car, step))
        for car, name in enumerate(CARS)
    ]


class Load(threading.Thread):
    """Publishes report after report at a steady rate until it is told to end, STEPS at least."""

    def __init__(self, url: str, start: int) -> None:
        super().__init__()
        self._url, self._start = url, start
        self._ending = threading.Event()
        self.sent: list[Message] = []

    def run(self) -> None:
        publisher, began = Publisher(self._url), time.monotonic()
        for step in itertools.count():
            if self._ending.is_set() and step >= STEPS:
                break
            time.sleep(max(0.0, began + len(self.sent) / PER_SECOND - time.monotonic()))
            messages = reports(self._start, step)
            publisher.publish(messages)
            self.sent += messages
        publisher.close()

    def end(self) -> list[Message]:
        """Everything that was published."""
        self._ending.set()
        self.join()
        return self.sent


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What kills may not change. Findings go by device, rule and the device's time, not by position: what
    was not acknowledged comes again, and moves the positions that follow."""

    readings: dict[str, list[tuple[str, Any]]]
    findings: Counter[tuple[str, str, int]]
    touchpoints: Counter[tuple[str, str]]


def domain(gateway: RunningGateway, query: str) -> list[Any]:
    """What no page shows."""
    with contextlib.closing(sqlite3.connect(gateway.data / "domain.db", timeout=30)) as database:
        return database.execute(query).fetchall()


def outcome(gateway: RunningGateway) -> Outcome:
    findings = domain(gateway, "SELECT device, rule, began_ts FROM findings")
    return Outcome(
        readings={car: gateway.readings(car, "speed") for car in CARS},
        findings=Counter(findings),
        touchpoints=Counter((t["device"], t["rule"]) for t in gateway.all("touchpoints?owner=owner")),
    )


def gateway_for(folder: Path, broker: Mosquitto) -> AbstractContextManager[RunningGateway]:
    folder.mkdir()
    rules = folder / "rules.yaml"
    rules.write_text(RULE)
    return running_gateway(folder, broker.url, rules__paths=json.dumps([str(rules)]))


def settled(gateway: RunningGateway, messages: int) -> Callable[[], bool]:
    """Whether as many messages have come as were sent, and every reader has read them. assess tells the
    journal what it has saved, seconds later; what it has done stands where its effects are."""

    def look() -> bool:
        state = gateway.api("GET", "journal")
        ((assessed,),) = domain(gateway, "SELECT position FROM positions WHERE reader = 'assess'")
        read = [state["readers"][name]["position"] for name in ("record", "respond")]
        return state["head"] >= messages and min(assessed, *read) >= state["head"]

    return look


def kill_again_and_again(gateway: RunningGateway, usual_start_s: float, chance: random.Random) -> None:
    """Begins and ends with a gateway that has been launched."""
    for number in range(KILLS):
        if number % 2:
            time.sleep(chance.uniform(0, usual_start_s))
        else:
            gateway.ready()
            time.sleep(chance.uniform(0, LATEST_KILL_S))
        gateway.kill()
        gateway.launch()


def test_kills_change_nothing(start_mosquitto: Callable[..., Mosquitto], tmp_path: Path) -> None:
    start = now_ms() - 86_400_000
    with gateway_for(tmp_path / "killed", start_mosquitto()) as gateway:
        began = time.monotonic()
        gateway.start()
        usual_start_s = time.monotonic() - began
        gateway.owner("owner", CARS)
        load = Load(gateway.broker, start)
        load.start()
        try:
            kill_again_and_again(gateway, usual_start_s, random.Random(SEED))
        finally:
            sent = load.end()
        gateway.ready()
        wait_for(settled(gateway, len(sent)), "everything that was sent is read")
        killed = outcome(gateway)
    with gateway_for(tmp_path / "undisturbed", start_mosquitto()) as gateway:
        gateway.start()
        gateway.owner("owner", CARS)
        publish(gateway.broker, sent)
        wait_for(settled(gateway, len(sent)), "everything that was sent is read")
        undisturbed = outcome(gateway)

    episodes = dict.fromkeys(WORN, 1) | dict.fromkeys(MENDED, 2)
    assert undisturbed.touchpoints == Counter({(car, "pads"): count for car, count in episodes.items()})
    assert undisturbed.findings.total() == sum(episodes.values())
    for name, readings in undisturbed.readings.items():
        assert len(readings) == len(sent) // len(CARS), name
    for part in fields(Outcome):
        assert getattr(killed, part.name) == getattr(undisturbed, part.name), f"seed {SEED}: {part.name}"
