"""`touchpoint sim`: scenarios and recorded readings on a real broker."""

import argparse
import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from real_parts import Mosquitto, free_port, wait_until

from device_sim.commands import Row, replay, rows, run
from device_sim.mqtt import Broker, Publisher


@contextmanager
def listening(broker: Mosquitto) -> Iterator[list[tuple[str, Any]]]:
    """What arrives under touchpoint/v1, by an MQTT client that is not ours."""
    seen: list[tuple[str, Any]] = []
    subscribed = threading.Event()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.on_connect = lambda *_: client.subscribe("touchpoint/v1/#", qos=1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _c, _u, message: seen.append((message.topic, message.payload))
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    try:
        assert subscribed.wait(60)
        yield seen
    finally:
        client.disconnect()
        client.loop_stop()


def arguments(broker: str, **more: Any) -> argparse.Namespace:
    return argparse.Namespace(broker=broker, username="", password="", **{"out": None, "jobs": 1, **more})


def test_replaying_publishes_every_row_in_order(
    mosquitto: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tidy.csv"
    body = "".join(f"car-{n % 3},{1795000000000 + n * 1000},{n}\n" for n in range(2_000))
    path.write_text("device,ts,speed\n" + body)
    with listening(mosquitto) as seen:
        assert replay(arguments(mosquitto.url, file=path, speed="max")) == 0
        wait_until(lambda: len(seen) >= 2_000, "all rows arrive")
    assert [json.loads(payload)["signals"]["speed"] for _, payload in seen] == list(range(2_000))
    assert [topic for topic, _ in seen[:3]] == [f"touchpoint/v1/car-{n}/telemetry" for n in range(3)]
    told = json.loads(capsys.readouterr().out)
    assert (told["messages"], told["devices"]) == (2_000, 3)


def test_a_recorded_car_can_be_replayed(shared_data: Path, tmp_path: Path, mosquitto: Mosquitto) -> None:
    recorded = shared_data / "car_trips" / "readings.csv.gz"
    some = [row for _, row in zip(range(500), rows(recorded), strict=False)]
    assert all(isinstance(row, Row) and row.device == "etios-1" for row in some)

    async def publish() -> None:
        async with Publisher(Broker.parse(mosquitto.url)) as publisher:
            for row in some:
                await publisher.publish(
                    f"touchpoint/v1/{row.device}/telemetry", json.dumps(row.signals).encode()
                )
            await publisher.drain()

    with listening(mosquitto) as seen:
        asyncio.run(publish())
        wait_until(lambda: len(seen) >= 500, "all readings arrive")
    assert [json.loads(payload) for _, payload in seen] == [row.signals for row in some]


def test_running_a_scenario_publishes_its_past_and_its_story(
    mosquitto: Mosquitto, capsys: pytest.CaptureFixture[str]
) -> None:
    fast = arguments(mosquitto.url, scenario="small-fleet", seed=7, speed=1_000_000.0, until=None)
    with listening(mosquitto) as seen:
        assert run(fast) == 0
        told = json.loads(capsys.readouterr().out)
        wait_until(lambda: len(seen) >= told["messages"], "all messages arrive")
    assert told["messages"] == len(seen) > 150
    assert told["until"] == "2026-11-24T23:00:00.000Z"


def test_what_cannot_be_done_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nobody = f"mqtt://127.0.0.1:{free_port()}"
    assert replay(arguments(nobody, file=tmp_path / "none.csv", speed="max")) == 2
    assert "no connection to" in capsys.readouterr().err
    assert run(arguments(nobody, scenario="nowhere", seed=7, speed=1.0, until=1.0)) == 2
    assert "shipped: bad-rollout, border-trip" in capsys.readouterr().err
