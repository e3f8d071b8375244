"""The load generator against a real broker: what it says is what the broker got."""

import asyncio
import json
import ssl
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from real_parts import PATIENCE_S, Mosquitto, free_port, need

from device_sim.load import SHAPES, Load, LoadError, Plan, payloads, publish_311, quantiles


def plan(mosquitto: Mosquitto, **more: object) -> Plan:
    return Plan(host="127.0.0.1", port=mosquitto.port, **{"messages": 2_000, "seconds": 120.0, **more})  # type: ignore[arg-type]


async def heard(mosquitto: Mosquitto, wanted: Plan) -> tuple[dict[str, Any], list[bytes]]:
    """(figures, the payloads that a subscriber heard, as many as were sent)."""
    payloads: list[bytes] = []
    async with aiomqtt.Client("127.0.0.1", mosquitto.port, identifier="listener") as client:
        await client.subscribe("touchpoint/#", qos=1)
        figures = await asyncio.to_thread(Load(wanted).run)
        async with asyncio.timeout(PATIENCE_S):
            async for message in client.messages:
                payloads.append(bytes(message.payload))
                if len(payloads) == figures["messages"]:
                    break
    return figures, payloads


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("qos", [0, 1])
async def test_every_message_arrives(mosquitto: Mosquitto, version: int, qos: int) -> None:
    count = 1_500 if qos else 400  # of QoS 0 a broker drops what a subscriber does not keep up with
    figures, payloads = await heard(mosquitto, plan(mosquitto, version=version, qos=qos, messages=count))
    assert figures["messages"] == count
    assert figures["acknowledged"] == (count if qos else 0)
    assert len(payloads) == count
    assert json.loads(payloads[7])["signals"]["battery_voltage"] == 13.85


def undisturbed() -> Callable[[], float]:
    """A clock on which it takes no time when a busy machine gives us none for a while."""
    now, last = 0.0, time.perf_counter()

    def read() -> float:
        nonlocal now, last
        before, last = last, time.perf_counter()
        now += min(last - before, 0.02)
        return now

    return read


def test_it_is_bounded_in_time_and_kept_to_its_rate(mosquitto: Mosquitto) -> None:
    figures = Load(plan(mosquitto, seconds=1.0, rate=300.0, messages=100_000), clock=undisturbed()).run()
    assert 250 <= figures["acknowledged"] <= 310
    assert figures["seconds"] <= 1.5
    assert set(figures["latency_ms"]) == {"p50", "p95", "p99", "max"}


def test_a_fault_mix_is_counted_and_lost_connections_are_taken_up_again(mosquitto: Mosquitto) -> None:
    figures = Load(plan(mosquitto, poison=0.1, twice=0.1, drop=0.01, connections=8)).run()
    assert 100 < figures["poisoned"] < 300
    assert 100 < figures["repeated"] < 300
    assert figures["dropped"] > 2
    assert figures["connections"] == 8 + figures["dropped"] or figures["connections"] > 8
    assert figures["acknowledged"] + figures["unanswered"] == figures["messages"]


def test_many_connections_with_tls(start_mosquitto: Callable[..., Mosquitto], tmp_path: Path) -> None:
    certificate, key, port = tmp_path / "c.pem", tmp_path / "k.pem", free_port()
    subprocess.run(
        [need("openssl", "openssl"), "req", "-x509", "-newkey", "ec",
         "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    more = f"listener {port} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}"
    start_mosquitto(options=more)
    trusted = ssl.create_default_context(cafile=str(certificate))
    wanted = Plan(host="127.0.0.1", port=port, tls=trusted, connections=300, messages=3_000, seconds=120)
    figures = Load(wanted).run()
    assert (figures["connections"], figures["connections_alive"]) == (300, 300)
    assert figures["acknowledged"] == 3_000
    with pytest.raises(LoadError, match="no TLS with"):
        Load(Plan(host="127.0.0.1", port=port, tls=ssl.create_default_context(), seconds=5)).run()


def test_a_broker_that_is_not_there_is_said() -> None:
    with pytest.raises(LoadError, match="Is the broker running"):
        Load(Plan(host="127.0.0.1", port=free_port(), seconds=2)).run()


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_makes_payloads(shape: str) -> None:
    make = payloads(shape, 3)
    topics = {make(number)[0] for number in range(9)}
    assert len(topics) >= 3
    assert all(make(number)[1] for number in range(9))
    if shape in ("one", "five", "wide"):
        assert "speed" in json.loads(make(5)[1])["signals"]


def test_packets_of_version_3_1_1() -> None:
    assert publish_311("a/b", b"xy", 7) == b"\x32\x09\x00\x03a/b\x00\x07xy"
    assert publish_311("a/b", b"xy", None) == b"\x30\x07\x00\x03a/b" + b"xy"
    long = publish_311("t", b"z" * 200, 1)
    assert struct.unpack(">H", long[3:5])[0] == 1
    assert len(long) == 1 + 2 + 3 + 2 + 200


def test_quantiles() -> None:
    assert quantiles([n / 1000 for n in range(1, 101)]) == {"p50": 51, "p95": 96, "p99": 100, "max": 100}
    assert quantiles([]) == {}
