"""A device whose clock is in 1970 or in 3000 harms nobody, itself included: what it says of that time is kept
in quarantine and shown; its other readings and other devices go on as if it had not been."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from real_parts import Mosquitto, wait_until
from running_gateway import Message, RunningGateway, now_ms, publish, running_gateway, telemetry

IN_1970 = 3_600_000
IN_3000 = 32_503_680_000_000
HOUR = 3_600_000
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
CARS = ["car-right", "car-1970", "car-3000", "car-mixed"]


@pytest.fixture
def gateway(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[RunningGateway]:
    """With one rule, cars that have an owner, and clocks that may be an hour ahead."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(RULE)
    settings = {"rules__paths": json.dumps([str(rules)]), "devices__clock_ahead_s": "3600"}
    with running_gateway(tmp_path, mosquitto.url, **settings) as running:
        running.start()
        running.owner("owner", CARS)
        yield running


def array(device: str, *readings: tuple[int, Any]) -> Message:
    """Several readings of pad_wear_front in one message."""
    payload = [{"ts": ts, "signals": {"pad_wear_front": value}} for ts, value in readings]
    return f"touchpoint/v1/{device}/telemetry", json.dumps(payload).encode()


def worn(device: str, now: int) -> list[Message]:
    """Pads that have been worn for long enough, by a clock that is right."""
    return [telemetry(device, now - 20_000 + ago, pad_wear_front=85) for ago in (0, 15_000)]


def found(gateway: RunningGateway, *cars: str) -> Callable[[], bool]:
    """Whether just these cars have a touchpoint, each one."""
    return lambda: sorted(t["device"] for t in gateway.all("touchpoints?owner=owner")) == sorted(cars)


def quarantined(gateway: RunningGateway) -> dict[str, list[str]]:
    """Reasons by the device in the topic, oldest first, as the API shows them."""
    shown: dict[str, list[str]] = {}
    for row in reversed(gateway.all("quarantine")):
        shown.setdefault(row["topic"].split("/")[2], []).append(row["reason"])
    return shown


def test_a_wrong_clock_costs_its_own_readings_and_nothing_else(gateway: RunningGateway) -> None:
    now = now_ms()
    publish(
        gateway.broker,
        [
            telemetry("car-1970", IN_1970, pad_wear_front=90),
            telemetry("car-3000", IN_3000, pad_wear_front=90),
            array("car-mixed", (IN_1970, 91), (now - 20_000, 85), (IN_3000, 92), (now - 5_000, 86)),
            telemetry("car-1970", IN_1970 + 60_000, pad_wear_front=90),
            telemetry("car-3000", IN_3000 + 60_000, pad_wear_front=90),
            *worn("car-right", now),
        ],
    )
    wait_until(found(gateway, "car-right", "car-mixed"), "those whose time is right are found", every=0.1)
    assert quarantined(gateway) == {
        "car-1970": ["ts_before_2000"] * 2,
        "car-3000": ["ts_in_future"] * 2,
        "car-mixed": ["ts_before_2000"],
    }
    mixed = next(row for row in gateway.all("quarantine") if "car-mixed" in row["topic"])
    assert "3600000 lies before 2000" in mixed["detail"]
    assert mixed["detail"].endswith("(and 1 more faults); the other readings were kept")
    gateway.until_total("touchpoint_messages_recorded_total", 3)
    assert [value for _, value in gateway.readings("car-mixed", "pad_wear_front")] == [85, 86]
    assert gateway.readings("car-1970", "pad_wear_front") == []
    assert gateway.readings("car-3000", "pad_wear_front") == []


def test_a_device_is_found_as_soon_as_its_clock_is_right(gateway: RunningGateway) -> None:
    now = now_ms()
    wrong = {"car-1970": IN_1970, "car-3000": IN_3000, "car-mixed": now + 2 * HOUR}
    publish(gateway.broker, [telemetry(car, ts, pad_wear_front=90) for car, ts in wrong.items()])
    gateway.until_total("touchpoint_messages_quarantined_total", 3)
    assert quarantined(gateway)["car-mixed"] == ["ts_in_future"], "devices.clock_ahead_s is an hour"
    publish(gateway.broker, [message for car in wrong for message in worn(car, now)])
    wait_until(found(gateway, *wrong), "each is found by its right time", every=0.1)


def test_what_comes_too_late_for_the_rules_is_counted_and_recorded(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    now = now_ms()
    with running_gateway(
        tmp_path, mosquitto.url, rules__lateness_s="3600", devices__kinds='{"car-*": "car"}'
    ) as gateway:
        gateway.start()
        times = (now - 2 * HOUR, now, now - HOUR // 2, now - HOUR - 1)
        publish(gateway.broker, [telemetry("car-1", ts, pad_wear_front=50) for ts in times])
        gateway.until_total("touchpoint_messages_recorded_total", len(times))
        gateway.until_total("touchpoint_too_late_readings_total", 1)
        assert gateway.total("touchpoint_late_readings_total") == 2
        assert gateway.total("touchpoint_too_late_readings_total") == 1
        assert len(gateway.readings("car-1", "pad_wear_front")) == len(times)


def test_a_clock_within_its_tolerance_that_is_put_right_silences_nothing(gateway: RunningGateway) -> None:
    """Half an hour ahead is a reading like any other; what follows at the right time is not too late."""
    now = now_ms()
    publish(gateway.broker, [telemetry("car-mixed", now + HOUR // 2, pad_wear_front=50)])
    publish(gateway.broker, [*worn("car-mixed", now), *worn("car-right", now)])
    publish(gateway.broker, [telemetry("car-mixed", now, pad_wear_front=85)])
    wait_until(found(gateway, "car-mixed", "car-right"), "both are found", every=0.1)
    assert gateway.all("quarantine") == []
