"""`kill -9` of the gateway at every labelled step of outbox, answer and booking.

One story is told first without any harm, and every step it comes by is noted: each commit, before and after,
and each sending, before and after (tests/crashing.py). Then it is told again for each of these steps, by a
gateway that dies there and is started anew, while whoever called tries again as clients do, with the same
Idempotency-Key. Afterwards everything is as in the first telling: the answer, one booking, the same lines in
the ledger, nothing left in the outbox; what a receiver sees twice has the same id.

`make chaos` visits all of them, `make test` some (TOUCHPOINT_TEST_CRASHES; TOUCHPOINT_TEST_SEED says which).
"""

import base64
import contextlib
import http.client
import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from gateway_lab import wait_for
from real_parts import ROOT, Mosquitto, wait_until
from running_gateway import RunningGateway, names, now_ms, publish, telemetry

CRASHES = int(os.environ.get("TOUCHPOINT_TEST_CRASHES", "4"))
"""How many steps are visited; 0 for all."""
SEED = int(os.environ.get("TOUCHPOINT_TEST_SEED", "1"))

OPEN_ALL_DAY = {day: [["00:00", "23:30"]] for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")}
WORKSHOP = {
    "id": "nord",
    "name": "Autohaus Nord",
    "bays": ["Bay 1"],
    "hours": OPEN_ALL_DAY,
    "books": "on_request",
    "services": [{"id": "brakes-front", "names": {"en": "Front brakes"}, "minutes": 60}],
}
WAITING = "SELECT count(*) FROM outbox WHERE state IN ('pending', 'leased', 'dead') AND due_at <= {}"
RESETS = "SELECT count(*) FROM outbox WHERE channel = 'journal' AND payload LIKE '%reset%' AND state = 'sent'"
RULE = """
- id: pads
  version: 1
  kind: car
  purpose: maintenance
  severity: advice
  when: pad_wear_front >= 80
  resets: [pad_wear_front]
  touchpoint: {kind: appointment, service: brakes-front, expires: 14d}
"""
pytestmark = pytest.mark.timeout(240 + 40 * (CRASHES or 60))


class Receiver(ThreadingHTTPServer):
    """A push service and a system that takes webhooks; keeps what it got, by id."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.pushes: Counter[str] = Counter()
        self.hooks: dict[str, list[str]] = defaultdict(list)
        """{webhook-id: bodies}"""
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Take(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Receiver)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if "webhook-id" in self.headers:
            self.server.hooks[self.headers["webhook-id"]].append(body.decode())
        else:
            self.server.pushes[self.path] += 1
        self.send_response(201)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


class Fragile(RunningGateway):
    """A gateway that may die at a step, and that somebody starts anew."""

    crash: str = ""
    died: bool = False

    def launch(self) -> None:
        variables = {"TOUCHPOINT_TEST_CRASH": "" if self.died else self.crash}
        variables["TOUCHPOINT_TEST_STEPS"] = str(self.folder / "steps")
        with open(self.folder / "gateway.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, ROOT / "tests" / "crashing.py", "run"],
                env=self.environment | variables,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )

    def revive(self) -> None:
        """Start it anew if it has died."""
        if self.ended():
            assert not self.died, self.log[-3000:]
            self.died = True
            self.start()

    def persist(self, method: str, path: str, body: Any = None, key: str = "") -> Any:
        """A client's call, made again with the same key until there is an answer."""
        while True:
            try:
                return self._call(method, path, body, key)
            except (OSError, http.client.HTTPException):
                wait_until(self.ended, "what does not answer has died", 20)
                self.revive()

    def _call(self, method: str, path: str, body: Any, key: str) -> Any:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}"
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, data, headers, method=method), timeout=20
            ) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as refused:
            raise AssertionError((method, path, refused.code, refused.read())) from None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a crash may not change."""

    touchpoints: list[tuple[str, str]]
    """(device, state)"""
    answers: list[str]
    appointments: Counter[str]
    ledger: Counter[str]
    hooks: Counter[str]
    """types of events, each id once"""
    waiting: int
    """outbox rows that are due and were not sent, dead ones included"""
    resets: int


@dataclass
class Telling:
    """One telling of the story."""

    gateway: Fragile
    broker: Mosquitto
    receiver: Receiver
    keys: Iterator[int] = field(default_factory=lambda: iter(range(1, 100)))

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """What the condition gives, as soon as it gives something; revives the gateway meanwhile."""
        found: list[Any] = []

        def look() -> bool:
            self.gateway.revive()
            with contextlib.suppress(OSError, http.client.HTTPException):
                found[:] = [condition()]
            return bool(found and found[0])

        wait_for(look, what, 40)
        return found[0]

    def post(self, path: str, body: Any = None) -> Any:
        return self.gateway.persist("POST", path, body, f"key-{next(self.keys)}")

    def tell(self) -> Outcome:
        """Two cars wear their pads; one owner books, moves the visit and has it done, the other declines."""
        gateway = self.gateway
        (gateway.folder / "steps").touch()
        publish(self.broker.url, [telemetry(car, now_ms(), pad_wear_front=90) for car in ("car-1", "car-2")])
        one, two = (
            self.until(lambda car=car: self._open(car), f"the touchpoint of {car}")
            for car in ("car-1", "car-2")
        )
        held = self.post(f"touchpoints/{one['id']}/hold")["slots"]
        self.post(f"touchpoints/{one['id']}/answer", {"action": "book", "slot": held[0]["id"]})
        self.post(f"touchpoints/{two['id']}/answer", {"action": "not_now"})
        [visit] = gateway.persist("GET", "appointments?owner=jana")["items"]
        self.post(f"appointments/{visit['id']}/confirm")
        self.post(f"appointments/{visit['id']}/reschedule", {"slot": held[1]["id"]})
        self.post(f"appointments/{visit['id']}/confirm")
        self.post(f"appointments/{visit['id']}/done", {"note": "new pads"})
        self.until(lambda: self.waiting() == 0, "everything due is sent")
        return self.outcome()

    def waiting(self) -> int:
        """Outbox rows that are due, or soon."""
        [(number,)] = self._rows(WAITING.format(now_ms() + 60_000))
        return int(number)

    def _open(self, car: str) -> Any:
        found = self.gateway.persist("GET", f"touchpoints?device={car}")["items"]
        return found[0] if found else None

    def _rows(self, query: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(self.gateway.data / "domain.db", timeout=10)) as database:
            return database.execute(query).fetchall()

    def outcome(self) -> Outcome:
        for identity, bodies in self.receiver.hooks.items():
            assert len(set(bodies)) == 1, (identity, bodies)
        types = (json.loads(bodies[0])["type"] for bodies in self.receiver.hooks.values())
        [(resets,)] = self._rows(RESETS)
        return Outcome(
            touchpoints=self._rows("SELECT device, state FROM touchpoints ORDER BY device"),
            answers=[row[0] for row in self._rows("SELECT action FROM touchpoints ORDER BY device")],
            appointments=Counter(row[0] for row in self._rows("SELECT state FROM appointments")),
            ledger=Counter(row[0] for row in self._rows("SELECT code FROM ledger")),
            hooks=Counter(types),
            waiting=self.waiting(),
            resets=resets,
        )


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def told(folder: Path, broker: Mosquitto, crash: str) -> tuple[Outcome, Fragile]:
    """Tell the story to a new gateway that dies at `crash`; nowhere when it is empty."""
    folder.mkdir()
    (folder / "rules.yaml").write_text(RULE)
    receiver = Receiver()
    settings = {
        "rules.paths": json.dumps([str(folder / "rules.yaml")]),
        "mqtt.client_id": folder.name,
        "deliver.lease_s": "2",
        "deliver.web_push.loopback": "true",
        "deliver.webhook.allow_hosts": '["127.0.0.1"]',
    }
    gateway = Fragile(folder=folder, broker=broker.url, settings=names(settings))
    gateway.crash = crash
    try:
        gateway.command("setup")
        gateway.token = gateway.command("token", "create", "--role", "operator").stdout.strip()
        gateway.start()
        telling = Telling(gateway, broker, receiver)
        _people(telling)
        outcome = telling.tell()
        assert gateway.died == bool(crash), f"never came by {crash!r}"
        return outcome, gateway
    finally:
        gateway.stop()
        receiver.shutdown()
        receiver.server_close()


def _people(telling: Telling) -> None:
    """Two owners who are never asleep, with phones, cars and a workshop; the manufacturer's own system."""
    gateway, receiver = telling.gateway, telling.receiver
    gateway.persist("POST", "workshops", WORKSHOP, "workshop")
    webhook = {"audience": "manufacturer", "url": f"{receiver.url}/hooks"}
    gateway.persist("POST", "webhooks", webhook, "webhook")
    for owner, car in (("jana", "car-1"), ("omar", "car-2")):
        gateway.persist("POST", "owners", {"id": owner, "name": owner, "language": "en"}, owner)
        gateway.persist("PUT", f"owners/{owner}/consents/maintenance", {"granted": True})
        gateway.persist("PUT", f"owners/{owner}/preferences", {"quiet_from": "00:00", "quiet_to": "00:00"})
        device = {"id": car, "kind": "car", "owner": owner, "workshop": "nord"}
        gateway.persist("POST", "devices", device, car)
        numbers = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
        point = b"\4" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
        row = (owner, owner, f"{receiver.url}/{owner}", base64url(point), base64url(bytes(16)), "phone", 0)
        with contextlib.closing(sqlite3.connect(gateway.data / "domain.db", timeout=5)) as database, database:
            # Past the API, which takes no address without TLS.
            columns = "id, owner, endpoint, p256dh, auth, label, created"
            database.execute(f"INSERT INTO push_subscriptions ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def test_no_step_at_which_it_dies_changes_what_becomes_of_it(tmp_path: Path, mosquitto: Mosquitto) -> None:
    first, gateway = told(tmp_path / "unharmed", mosquitto, "")
    assert first.appointments == {"done": 1}
    assert first.answers == ["book", "not_now"]
    assert first.waiting == 0
    assert first.resets == 1
    steps = sorted((gateway.folder / "steps").read_text().splitlines())
    assert len(steps) > 20, steps
    chosen = random.Random(SEED).sample(steps, CRASHES) if CRASHES else steps
    for number, step in enumerate(chosen):
        print(f"dies at: {step}")
        outcome, _ = told(tmp_path / f"crash-{number}", mosquitto, step)
        assert outcome == first, step
