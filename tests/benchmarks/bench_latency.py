"""From a reading at the broker to the request at the push service, at half the rate the machine can hold.

Everything as in production but for the addresses: mosquitto, `touchpoint run`, a push service on loopback
that takes real encrypted pushes. First the rate that the whole path holds is measured; then, at half of it,
products of owners of their own report what their rule waits for, one every tenth of a second. Taken from
outside (from just before the publish to the request's arrival) and by the gateway's own histogram.
`TOUCHPOINT_BENCH_MESSAGES` sets with how many messages the rate is found (100,000).
"""

import base64
import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from gateway_lab import wait_for
from real_parts import Mosquitto
from running_gateway import Publisher, RunningGateway, fetch, now_ms, running_gateway, telemetry

PUBLISHER = Path(__file__).resolve().parent.parent / "publisher.py"
MESSAGES = int(os.environ.get("TOUCHPOINT_BENCH_MESSAGES", "100000"))
PROBES = 300
EVERY_S = 0.1
LIMIT_MS = 250
TOTALS = ("touchpoint_messages_recorded_total", "touchpoint_messages_assessed_total")
COLUMNS = "id, owner, endpoint, p256dh, auth, label, created"
RULE = """- id: bench-latency
  version: 1
  kind: car
  purpose: maintenance
  severity: advice
  when: pad_wear_front >= 99
  touchpoint: {kind: appointment, service: brakes-front, expires: 14d}
"""


class PushService(ThreadingHTTPServer):
    """Notes when each subscription is first written to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Push)
        self.arrived: dict[str, float] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Push(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        assert isinstance(self.server, PushService)
        self.server.arrived.setdefault(self.path, time.perf_counter())
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def register(gateway: RunningGateway, push: PushService, number: int) -> None:
    """An owner who agreed, is never asleep, has a phone, and a car of their own."""
    name, car = f"probe-{number}", f"car-probe-{number}"
    gateway.owner(name, [car])
    gateway.api("PUT", f"owners/{name}/preferences", {"quiet_from": "00:00", "quiet_to": "00:00"})
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    row = (name, name, f"{push.url}/{number}", base64url(point), base64url(os.urandom(16)), "phone", now_ms())
    with contextlib.closing(sqlite3.connect(gateway.data / "domain.db", timeout=5)) as database, database:
        # Past the API, which takes no address without TLS.
        database.execute(f"INSERT INTO push_subscriptions ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def load(port: int, count: int, prefix: str, rate: float = 0) -> "subprocess.Popen[str]":
    arguments = [sys.executable, str(PUBLISHER), str(port), str(count), prefix, str(now_ms()), str(rate)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def held_rate(gateway: RunningGateway, port: int) -> float:
    """Messages a second that go the whole way, from the first publish to the last record."""
    before = [gateway.total(name) for name in TOTALS]
    began = time.monotonic()
    load(port, MESSAGES, "car-rate-").communicate()
    for name, old in zip(TOTALS, before, strict=True):
        wait_for(lambda n=name, o=old: gateway.total(n) >= o + MESSAGES, name, 300)
    return MESSAGES / (time.monotonic() - began)


def probe(url: str, push: PushService) -> list[float]:
    """Milliseconds from each publish to its push."""
    publisher, sent = Publisher(url), {}
    for number in range(PROBES):
        message = telemetry(f"car-probe-{number}", now_ms(), pad_wear_front=99.5)
        sent[f"/{number}"] = time.perf_counter()
        publisher.publish([message])
        time.sleep(EVERY_S)
    publisher.close()
    wait_for(lambda: len(push.arrived) >= PROBES, "every push", 60)
    return sorted((push.arrived[path] - began) * 1000 for path, began in sent.items())


def by_histogram(gateway: RunningGateway) -> float:
    """The upper end of the bucket that holds the 99th of a hundred, ms."""
    found = re.findall(
        r'^touchpoint_reading_to_delivery_seconds_bucket\{le="([^"]+)"\} ([\d.e+]+)',
        fetch(f"http://127.0.0.1:{gateway.port}/metrics").body,
        re.M,
    )
    buckets = [(float(le), float(number)) for le, number in found]
    return next(le for le, number in buckets if number >= 0.99 * buckets[-1][1]) * 1000


def line(name: str, value: float, unit: str, how: str, **more: object) -> None:
    print(json.dumps({"name": name, "value": round(value, 1), "unit": unit, **more, "how": how}), flush=True)


def main() -> None:
    push = PushService()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "probe.yaml").write_text(RULE)
        broker = Mosquitto(folder=folder).start()
        settings = {
            "devices__kinds": '{"car-*": "car"}',
            "rules__paths": json.dumps(["@default", str(folder / "probe.yaml")]),
            "deliver__web_push__loopback": "true",
        }
        try:
            with running_gateway(folder, broker.url, **settings) as gateway:
                gateway.command("setup")
                gateway.start()
                for number in range(PROBES):
                    register(gateway, push, number)
                rate = held_rate(gateway, broker.port)
                seconds = PROBES * EVERY_S + 5
                beside = load(broker.port, int(rate / 2 * seconds), "car-load-", rate / 2)
                time.sleep(2)
                taken = probe(broker.url, push)
                beside.communicate()
                histogram = by_histogram(gateway)
        finally:
            broker.stop()
    how = f"{PROBES} findings at {rate / 2:,.0f} messages/s, half of what was held; mosquitto, loopback push"
    line("latency_held_rate", rate, "messages/s", f"{MESSAGES:,} messages, publish to recorded and assessed")
    line("latency_p50", taken[len(taken) // 2], "ms", how)
    line("latency_p99", taken[int(len(taken) * 0.99)], "ms", how + "; outside stopwatch", limit=LIMIT_MS)
    line(
        "latency_p99_histogram", histogram, "ms", "the gateway's own, upper end of the bucket", limit=LIMIT_MS
    )


if __name__ == "__main__":
    main()
