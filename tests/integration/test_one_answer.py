"""An answer on one channel closes the others within a second: on the real parts, by an outside stopwatch,
which stands while a busy machine runs others.

Mosquitto, `touchpoint run`, a push service and a page's event stream; the answer comes by the API, and then
from the product's display.
"""

import base64
import contextlib
import http.client
import json
import os
import sqlite3
import statistics
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from gateway_lab import kept_waiting_s
from real_parts import Mosquitto, wait_until
from running_gateway import RunningGateway, now_ms, publish, running_gateway, telemetry

CARS = 4
WITHIN_S = 1.0
RULE = """- id: one-answer
  version: 1
  kind: car
  purpose: maintenance
  severity: advice
  when: pad_wear_front >= 99
  touchpoint: {kind: hint, expires: 14d}
"""


@dataclass
class Seen:
    """What arrived where, and when: {what: [seconds]}."""

    at: dict[str, list[float]] = field(default_factory=dict)

    shown: dict[str, str] = field(default_factory=dict)
    """{car: the touchpoint on its display}"""

    def note(self, what: str) -> None:
        self.at.setdefault(what, []).append(time.perf_counter())

    def times(self, what: str) -> int:
        return len(self.at.get(what, ()))


class PushService(ThreadingHTTPServer):
    """Notes each push, by the path of its subscription."""

    daemon_threads = True

    def __init__(self, seen: Seen) -> None:
        super().__init__(("127.0.0.1", 0), _Push)
        self.seen = seen
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Push(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, PushService)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.note(f"push{self.path}")
        self.send_response(201)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextlib.contextmanager
def display(url: str, seen: Seen) -> Iterator[paho.Client]:
    """All cars' displays: notes what is shown, and what is cleared."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)

    def on_message(_: object, __: object, message: paho.MQTTMessage) -> None:
        car = message.topic.split("/")[2]
        seen.note(f"{'shown' if message.payload else 'cleared'}/{car}")
        if message.payload:
            seen.shown[car] = json.loads(message.payload)["id"]

    client.on_message = on_message
    client.connect("127.0.0.1", int(url.rsplit(":", 1)[1]))
    client.subscribe("touchpoint/v1/+/touchpoint/+", qos=1)
    client.loop_start()
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


@contextlib.contextmanager
def page(gateway: RunningGateway, seen: Seen, owner: str) -> Iterator[None]:
    """The owner's open page: notes each change that it hears of, by what has changed."""
    secret = gateway.command("token", "create", "--role", "owner", "--subject", owner).stdout.strip()
    door = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    form = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
    door.request("POST", "/sign-in", urllib.parse.urlencode({"token": secret}), form)
    cookie = (door.getresponse().getheader("Set-Cookie") or "").partition(";")[0]
    stream = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)
    stream.request("GET", "/events", headers={"Cookie": cookie})
    answer = stream.getresponse()
    assert answer.status == 200

    def listen() -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            for line in answer:
                if line.startswith(b"data: [["):
                    for subject, key in json.loads(line[6:]):
                        seen.note(f"page/{subject}/{key}")

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield
    finally:
        for connection in (door, stream):
            with contextlib.suppress(OSError):
                if connection.sock is not None:
                    connection.sock.shutdown(2)
            connection.close()


def with_a_phone(gateway: RunningGateway, push: PushService, owner: str) -> None:
    """Past the API, which takes no push service without TLS."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    keys = [base64.urlsafe_b64encode(raw).rstrip(b"=").decode() for raw in (point, os.urandom(16))]
    url = f"http://127.0.0.1:{push.server_address[1]}/{owner}"
    row = (owner, owner, url, *keys, "phone", now_ms())
    columns = "id, owner, endpoint, p256dh, auth, label, created"
    with contextlib.closing(sqlite3.connect(gateway.data / "domain.db", timeout=30)) as database, database:
        database.execute(f"INSERT INTO push_subscriptions ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def test_an_answer_closes_push_display_and_page_within_a_second(
    mosquitto: Mosquitto, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rule.yaml").write_text(RULE)
    settings = {
        "rules__paths": json.dumps(["@default", str(tmp_path / "rule.yaml")]),
        "deliver__web_push__loopback": "true",
    }
    seen = Seen()
    push = PushService(seen)
    owners = [f"owner-{n}" for n in range(CARS)]
    with running_gateway(tmp_path / "gateway", mosquitto.url, **settings) as gateway:
        gateway.command("setup")
        gateway.start()
        for n, owner in enumerate(owners):
            gateway.owner(owner, [f"car-{n}"])
            known = {"name": owner, "address": "Hafenstraße 1", "phone": "040 1", "language": "de"}
            gateway.api("PUT", f"owners/{owner}", known | {"time_zone": "Europe/Berlin"})
            gateway.api("PUT", f"owners/{owner}/preferences", {"quiet_from": "00:00", "quiet_to": "00:00"})
            with_a_phone(gateway, push, owner)
        with display(mosquitto.url, seen) as cars, contextlib.ExitStack() as pages:
            for owner in owners:
                pages.enter_context(page(gateway, seen, owner))
            publish(
                mosquitto.url, [telemetry(f"car-{n}", now_ms(), pad_wear_front=99.5) for n in range(CARS)]
            )
            wait_until(
                lambda: all(
                    seen.times(f"shown/car-{n}") and seen.times(f"push/owner-{n}") for n in range(CARS)
                ),
                "every car and every phone shows it",
                60,
            )
            taken: list[float] = []
            assert gateway.process is not None
            assert mosquitto.process is not None
            pids = (os.getpid(), gateway.process.pid, mosquitto.process.pid)
            for n, owner in enumerate(owners):
                matter = seen.shown[f"car-{n}"]
                pushes, heard = seen.times(f"push/{owner}"), seen.times(f"page/touchpoint/{matter}")
                began, waited = time.perf_counter(), kept_waiting_s(*pids)
                if n % 2:
                    answer = json.dumps({"touchpoint": matter, "action": "noted"})
                    cars.publish(f"touchpoint/v1/car-{n}/answer", answer, qos=1)
                else:
                    told = {"action": "noted", "verified": {"asked": ["address", "phone"]}}
                    gateway.api("POST", f"touchpoints/{matter}/answer", told)

                def closed(
                    n: int = n, owner: str = owner, p: int = pushes, h: int = heard, m: str = matter
                ) -> bool:
                    return (
                        seen.times(f"cleared/car-{n}") > 0
                        and seen.times(f"push/{owner}") > p
                        and seen.times(f"page/touchpoint/{m}") > h
                    )

                wait_until(closed, "display cleared, push replaced, page told")
                ends = (f"cleared/car-{n}", f"push/{owner}", f"page/touchpoint/{matter}")
                others = kept_waiting_s(*pids) - waited
                taken.append(max(seen.at[what][-1] for what in ends) - began - others)
    push.shutdown()
    push.server_close()
    with capsys.disabled():
        print(f"\nclosed everywhere after {', '.join(f'{s * 1000:.0f}' for s in taken)} ms (API, display, …)")
    assert statistics.median(taken) < WITHIN_S, taken
