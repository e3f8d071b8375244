"""`kill -9` of the gateway, whole or one role of it, at every labelled step of outbox, answer and booking.

One story is told first without any harm, and every step it comes by is noted: each commit, before and after,
and each sending, before and after (tests/crashing.py). Then it is told again for each of these steps, by a
process that dies there and is started anew, while whoever called tries again as clients do, with the same
Idempotency-Key. Afterwards everything is as in the first telling: the answers, one booking each, the same
lines in the ledger, nothing left in the outbox; what a receiver sees twice has the same id.

`make chaos` visits all of them; TOUCHPOINT_TEST_CRASHES says how many, TOUCHPOINT_TEST_SEED which.
TOUCHPOINT_TEST_STEP names one.
"""

import base64
import contextlib
import csv
import email
import email.policy
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
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from cryptography.hazmat.primitives.asymmetric import ec
from gateway_lab import WORKSHOP, wait_for
from mail_lab import REPLIES, WORKSHOP_MAIL, Invited, invites, reply
from real_parts import PATIENCE_S, ROOT, Mosquitto, end, free_port, wait_until
from running_gateway import RunningGateway, fetch, names, now_ms, publish, telemetry

CRASHES = int(os.environ.get("TOUCHPOINT_TEST_CRASHES", "2"))
"""How many steps are visited; 0 for all."""
SEED = int(os.environ.get("TOUCHPOINT_TEST_SEED", "1"))
STEP = os.environ.get("TOUCHPOINT_TEST_STEP", "")
"""Only this one, where it is named."""
ONE, EACH = ("all",), ("web", "ingest", "deliver")
"""The gateway as one process, and as one for each role."""

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
CARS = {"car-1": "jana", "car-2": "omar", "car-3": "ada"}
CHANNELS = ("web_push", "display", "webhook", "email", "letter")
VISITED = {
    "assess.Assessor._write", "respond.Responder._take", "mail.receive_mail", "deliver.Deliverer._claim",
    "deliver.Deliverer._store", "deliver.Deliverer._deliver_next", "endpoint.Call.write.once",
    *(f"{channel}: {when}" for channel in (*CHANNELS, "journal") for when in ("sending", "sent")),
    *(f"/{what}: {when}" for what in ("hold", "answer", "confirm", "reschedule", "cancel", "done")
      for when in ("written", "committed")),
}  # fmt: skip
"""What the story has to come by: beginnings and ends of labels."""
BY_THE_CLOCK = "rollouts.step"
"""A story that takes longer comes by it more often, a shorter one never; test_crash_firmware.py visits it."""
pytestmark = [pytest.mark.long, pytest.mark.timeout(600 + 40 * (CRASHES or 100))]


class Receiver(ThreadingHTTPServer):
    """A push service and a system that takes webhooks; keeps what it got, by id."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Take)
        self.pushes: Counter[str] = Counter()
        self.hooks: dict[str, list[str]] = defaultdict(list)
        """{webhook-id: bodies}"""
        self.mails: dict[str, list[EmailMessage]] = defaultdict(list)
        """{Message-ID: as often as it came}"""
        self.smtp = Controller(self, hostname="127.0.0.1", port=free_port(), ready_timeout=PATIENCE_S)
        self.smtp.start()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """A mail comes in."""
        content = envelope.content
        assert isinstance(content, bytes)
        mail = email.message_from_bytes(content, _class=EmailMessage, policy=email.policy.default)
        self.mails[mail["Message-ID"]].append(mail)
        return "250 OK"

    def invitations(self, to: str) -> list[Invited]:
        """What came for a calendar, each once."""
        return [
            Invited(mails[0])
            for mails in list(self.mails.values())
            if mails[0]["To"] == to and invites(mails[0])
        ]

    def end(self) -> None:
        self.smtp.stop()
        self.shutdown()
        self.server_close()


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
    """A gateway in one process or several, of which each may die at a step, and that somebody starts anew."""

    crash: str = ""
    roles: tuple[str, ...] = ONE

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.died: set[str] = set()
        self.owners: dict[str, str] = {}
        """{owner: their bearer token}"""
        self.ports: dict[str, int] = {}

    def launch(self) -> None:
        """Those that do not run; the first of them serves the pages."""
        for role in self.roles:
            if role not in self.running or self.running[role].poll() is not None:
                self.running[role] = self._launched(role)
        self.process = self.running[self.roles[0]]

    def _launched(self, role: str) -> "subprocess.Popen[bytes]":
        variables = {"TOUCHPOINT_TEST_CRASH": "" if role in self.died else self.crash}
        variables["TOUCHPOINT_TEST_STEPS"] = str(self.folder / "steps")
        self.ports[role] = self.port if role == self.roles[0] else free_port()
        variables["TOUCHPOINT_WEB__PORT"] = str(self.ports[role])
        with open(self.folder / "gateway.log", "ab") as log:
            return subprocess.Popen(
                [sys.executable, ROOT / "tests" / "crashing.py", "run", "--role", role],
                env=self.environment | variables,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )

    def ready(self) -> None:
        """Every role says so."""
        wait_until(self._all_ready, f"{self.roles} are ready; their log: {self.folder / 'gateway.log'}")

    def _all_ready(self) -> bool:
        if self.ended():  # two roles may come by the same step, each in its own time
            self._bury()
            self.launch()
            return False
        with contextlib.suppress(OSError):
            return all(
                fetch(f"http://127.0.0.1:{port}/health/ready").status == 200 for port in self.ports.values()
            )
        return False

    def ended(self) -> bool:
        return any(process.poll() is not None for process in self.running.values())

    def revive(self) -> None:
        """Start anew what has died."""
        if self.ended():
            self._bury()
            self.start()

    def _bury(self) -> None:
        """Each dies once, and only where it is told to."""
        for role, process in self.running.items():
            if process.poll() is not None:
                assert self.crash, self.log[-3000:]
                assert role not in self.died, self.log[-3000:]
                self.died.add(role)

    def stop(self) -> None:
        for process in self.running.values():
            end(process)

    def persist(self, method: str, path: str, body: Any = None, key: str = "", owner: str = "") -> Any:
        """A client's call, made again with the same key until there is an answer; of after-sales, or an
        owner's own."""
        token = self.owners[owner] if owner else self.token
        while True:
            try:
                return self._call(method, path, body, key, token)
            except (OSError, http.client.HTTPException):
                wait_until(self.ended, "what does not answer has died")
                self.revive()

    def _call(self, method: str, path: str, body: Any, key: str, token: str) -> Any:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}"
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, data, headers, method=method), timeout=60
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
    letters: list[str]
    """to whom"""
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

        wait_for(look, what)
        return found[0]

    def post(self, path: str, body: Any = None, owner: str = "") -> Any:
        return self.gateway.persist("POST", path, body, f"key-{next(self.keys)}", owner)

    def tell(self) -> Outcome:
        """Three cars wear their pads. The first owner books, the workshop says yes by mail, the visit is
        moved and done; the second declines on the car's display; the third books and cancels."""
        gateway = self.gateway
        (gateway.folder / "steps").touch()
        publish(self.broker.url, [telemetry(car, now_ms(), pad_wear_front=90) for car in CARS])
        one, two, three = (
            self.until(lambda car=car: self._open(car), f"the touchpoint of {car}") for car in CARS
        )
        self.until(lambda: self.waiting() == 0, "everybody is told on every channel")
        visit, held = self._books(one, "jana")
        self._agrees_by_mail(visit)
        self.post(f"appointments/{visit}/reschedule", {"slot": held[1]["id"]}, "jana")
        self.post(f"appointments/{visit}/confirm")
        self.post(f"appointments/{visit}/done", {"note": "new pads"})
        declined = json.dumps({"touchpoint": two["id"], "action": "not_now"}).encode()
        publish(self.broker.url, [("touchpoint/v1/car-2/answer", declined)])
        visit, _ = self._books(three, "ada")
        self.post(f"appointments/{visit}/confirm")
        self.post(f"appointments/{visit}/cancel", owner="ada")
        self.until(lambda: not self._open("car-2"), "what the display said")
        self.until(lambda: self.waiting() == 0, "everything due is sent")
        return self.outcome()

    def _books(self, touchpoint: Any, owner: str) -> tuple[str, Any]:
        """(the visit's id, the slots that were held)."""
        held = self.post(f"touchpoints/{touchpoint['id']}/hold")["slots"]
        self.post(f"touchpoints/{touchpoint['id']}/answer", {"action": "book", "slot": held[0]["id"]}, owner)
        [visit] = self.gateway.persist("GET", f"appointments?owner={owner}")["items"]
        return visit["id"], held

    def _agrees_by_mail(self, visit: str) -> None:
        """The workshop's calendar answers the invitation that it got."""
        asked = self.until(lambda: self.receiver.invitations(WORKSHOP_MAIL), "the workshop is asked by mail")[
            0
        ]
        raw = reply(asked, number=1, stamp=now_ms())
        mail = {"message": base64.b64encode(raw).decode(), "recipients": [asked.organizer]}
        self.post("mail", mail)
        states = self.gateway.persist("GET", f"appointments/{visit}")["state"]
        assert states == "confirmed", states

    def waiting(self) -> int:
        """Outbox rows that are due, or soon."""
        [(number,)] = self._rows(WAITING.format(now_ms() + 60_000))
        return int(number)

    def _open(self, car: str) -> Any:
        found = self.gateway.persist("GET", f"touchpoints?device={car}")["items"]
        return found[0] if found and found[0]["state"] == "open" else None

    def _rows(self, query: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(self.gateway.data / "domain.db", timeout=30)) as database:
            return database.execute(query).fetchall()

    def outcome(self) -> Outcome:
        for identity, bodies in self.receiver.hooks.items():
            assert len(set(bodies)) == 1, (identity, bodies)
        for mails in self.receiver.mails.values():
            # Worded anew at each try, as the matter stands then; the id is the delivery's.
            assert len({mail["To"] for mail in mails}) == 1, [(mail["To"], mail["Subject"]) for mail in mails]
        types = (json.loads(bodies[0])["type"] for bodies in self.receiver.hooks.values())
        [(resets,)] = self._rows(RESETS)
        return Outcome(
            touchpoints=self._rows("SELECT device, state FROM touchpoints ORDER BY device"),
            answers=[row[0] for row in self._rows("SELECT action FROM touchpoints ORDER BY device")],
            appointments=Counter(row[0] for row in self._rows("SELECT state FROM appointments")),
            ledger=Counter(row[0] for row in self._rows("SELECT code FROM ledger")),
            hooks=Counter(types),
            letters=sorted(self._letters()),
            waiting=self.waiting(),
            resets=resets,
        )

    def _letters(self) -> Iterator[str]:
        """Who is written to."""
        for path in (self.gateway.data / "letters").glob("*.csv"):
            yield from (
                row["owner"] for row in csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
            )


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def told(folder: Path, broker: Mosquitto, crash: str, roles: tuple[str, ...]) -> tuple[Outcome, Fragile]:
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
        "deliver.ladder": json.dumps([{"channel": channel, "after": "0s"} for channel in CHANNELS]),
        "deliver.email.url": f"smtp://127.0.0.1:{receiver.smtp.port}",
        "deliver.email.sender": "Touchpoint <noreply@touchpoint.example>",
        "mail.reply_to": REPLIES,
    }
    gateway = Fragile(folder=folder, broker=broker.url, settings=names(settings))
    gateway.crash, gateway.roles = crash, roles
    try:
        gateway.command("setup")
        gateway.token = gateway.command("token", "create", "--role", "operator").stdout.strip()
        for owner in ("jana", "ada"):
            made = gateway.command("token", "create", "--role", "owner", "--subject", owner)
            gateway.owners[owner] = made.stdout.strip()
        gateway.start()
        telling = Telling(gateway, broker, receiver)
        _people(telling)
        outcome = telling.tell()
        assert bool(gateway.died) == bool(crash), f"never came by {crash!r}"
        return outcome, gateway
    finally:
        gateway.stop()
        receiver.end()


def _people(telling: Telling) -> None:
    """Owners who are never asleep, with phones, addresses and cars, a workshop that is reached by mail, and
    the manufacturer's own system."""
    gateway, receiver = telling.gateway, telling.receiver
    gateway.persist("POST", "workshops", WORKSHOP | {"books": "on_request"}, "workshop")
    gateway.persist("PUT", "workshops/nord/calendar", {"reach": "mail", "email": WORKSHOP_MAIL})
    webhook = {"audience": "manufacturer", "url": f"{receiver.url}/hooks"}
    gateway.persist("POST", "webhooks", webhook, "webhook")
    for car, owner in CARS.items():
        person = {
            "id": owner,
            "name": owner,
            "language": "en",
            "email": f"{owner}@owners.example",
            "address": "Hauptstr. 1, 20095 Hamburg",
        }
        gateway.persist("POST", "owners", person, owner)
        gateway.persist("PUT", f"owners/{owner}/consents/maintenance", {"granted": True})
        gateway.persist("PUT", f"owners/{owner}/preferences", {"quiet_from": "00:00", "quiet_to": "00:00"})
        device = {"id": car, "kind": "car", "owner": owner, "workshop": "nord"}
        gateway.persist("POST", "devices", device, car)
        numbers = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
        point = b"\4" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
        row = (owner, owner, f"{receiver.url}/{owner}", base64url(point), base64url(bytes(16)), "phone", 0)
        store = sqlite3.connect(gateway.data / "domain.db", timeout=60)
        with contextlib.closing(store) as database, database:
            # Past the API, which takes no address without TLS.
            columns = "id, owner, endpoint, p256dh, auth, label, created"
            database.execute(f"INSERT INTO push_subscriptions ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)


@pytest.mark.parametrize("roles", [ONE, EACH], ids=["one", "each"])
def test_no_step_at_which_it_dies_changes_what_becomes_of_it(
    tmp_path: Path, mosquitto: Mosquitto, roles: tuple[str, ...]
) -> None:
    first, gateway = told(tmp_path / f"unharmed-{len(roles)}", mosquitto, "", roles)
    assert first.appointments == {"done": 1, "cancelled": 1}
    assert first.answers[:2] == ["book", "not_now"]
    assert (first.waiting, first.resets) == (0, 1)
    noted = (gateway.folder / "steps").read_text().splitlines()
    steps = sorted(step for step in noted if not step.startswith(BY_THE_CLOCK))
    missed = {what for what in VISITED if not any(_is(step, what) for step in steps)}
    assert not missed, steps
    some = random.Random(SEED).sample(steps, (CRASHES + len(roles) % 2) // 2)
    chosen = [STEP] if STEP else some if CRASHES else steps
    for number, step in enumerate(chosen):
        print(f"{'+'.join(roles)} dies at: {step}", flush=True)
        outcome, _ = told(tmp_path / f"crash-{len(roles)}-{number}", mosquitto, step, roles)
        assert outcome == first, step


def _is(step: str, what: str) -> bool:
    return step.startswith(what) or step.endswith(what)
