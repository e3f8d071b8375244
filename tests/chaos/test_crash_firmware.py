"""`kill -9` of the gateway at every labelled step of an upload, a rollout, an owner's yes and the reports of
devices.

As in test_crash_points.py: one story is told unharmed, and again for each step it comes by, by a process that
dies there (tests/crashing.py labels them). Whoever called tries again: the desk with the same Idempotency-Key
and from the offset it is told, devices with the same report. Afterwards all is as in the first telling: one
release of whole content, one rollout, every device assigned once, every report kept, one case, one webhook.

`make chaos` visits all of them; TOUCHPOINT_TEST_CRASHES says how many, TOUCHPOINT_TEST_SEED which.
TOUCHPOINT_TEST_STEP names one, or several.
"""

import contextlib
import hashlib
import http.client
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from firmware_lab import Works
from real_parts import ROOT, end, free_port, listens, wait_until
from running_gateway import environment, touchpoint

CRASHES = int(os.environ.get("TOUCHPOINT_TEST_CRASHES", "2"))
"""How many steps are visited; 0 for all."""
SEED = int(os.environ.get("TOUCHPOINT_TEST_SEED", "1"))
STEP = os.environ.get("TOUCHPOINT_TEST_STEP", "")
"""Only this one, or these with a semicolon between, where they are named."""
PATIENCE_S = 180.0
"""For a machine that is busy."""
CONTENT = random.Random(8).randbytes(300_000)
VISITED = {
    "a piece: arrived", "a piece: written", "an artifact: read back", "an artifact: in its place",
    "store.FirmwareStore._serve: written", "store.FirmwareStore._serve: committed",
    "uploads.begin: committed",
    "firmware.add_release: written", "firmware.add_release: committed",
    "firmware.make_rollout: written", "firmware.make_rollout: committed",
    "rollouts.step begin_group offer: written", "rollouts.step begin_group offer: committed",
    "rollouts.step stop: written", "rollouts.step stop: committed",
    "ddi.deployment: committed", "ddi.feedback: written", "ddi.feedback: committed",
    "ddi.config_data: committed", "ddi.confirm: committed", "a download: sending", "a download: sent",
    "updates.ask: committed", "updates.settle_yes: committed", "updates.close: committed",
    "updates.tell_operator: written", "updates.tell_operator: committed",
}  # fmt: skip
"""What the story has to come by: beginnings of labels."""
pytestmark = [pytest.mark.long, pytest.mark.timeout(600 + 60 * max(CRASHES or 60, STEP.count(";")))]


class Fragile:
    """`touchpoint run --role web`, which may die at a step, and that somebody starts anew."""

    def __init__(self, folder: Path, crash: str) -> None:
        self.folder, self.crash, self.port = folder, crash, free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.died = False

    @property
    def log(self) -> str:
        return (self.folder / "gateway.log").read_text(errors="replace")[-3000:]

    def start(self) -> None:
        settings = {"data_dir": str(self.folder), "web.port": str(self.port), "firmware.polling": "00:00:01"}
        settings |= {"test.crash": "" if self.died else self.crash, "test.steps": str(self.folder / "steps")}
        names = environment({name: value for name, value in settings.items() if not name.startswith("test.")})
        names |= {
            "TOUCHPOINT_TEST_CRASH": settings["test.crash"],
            "TOUCHPOINT_TEST_STEPS": settings["test.steps"],
        }
        with open(self.folder / "gateway.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, ROOT / "tests" / "crashing.py", "run", "--role", "web"],
                env=names,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: self.ended() or listens(self.port), "the pages are served", PATIENCE_S)

    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def revive(self) -> None:
        """Start anew what has died."""
        while self.ended():
            assert self.process is None or not self.died, self.log
            self.died = self.died or self.process is not None
            self.start()

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """A request, made again until there is an answer."""
        while True:
            try:
                return self._once(method, path, body, headers or {})
            except (OSError, http.client.HTTPException):
                wait_until(self.ended, f"what does not answer has died: {method} {path}", PATIENCE_S)
                self.revive()

    def _once(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        url = path if path.startswith("http") else f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, body or None, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                status, said, kind = answer.status, answer.read(), answer.headers.get_content_type()
        except urllib.error.HTTPError as refused:
            with refused:
                status, said, kind = refused.code, refused.read(), refused.headers.get_content_type()
        return status, json.loads(said) if said and kind.endswith("json") else said


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a crash may not change."""

    releases: list[Any]
    served: str
    """hash of what a device got"""
    rollouts: list[Any]
    actions: list[Any]
    reports: dict[str, set[tuple[str, str]]]
    """device → (status, messages): a report that was not answered is made again, and may stand there twice"""
    targets: list[Any]
    touchpoints: list[Any]
    cases: list[Any]
    events: Counter[str]
    ledger: Counter[str]
    left: list[str]
    """files on their way in"""


class Telling:
    """One telling of the story."""

    def __init__(self, gateway: Fragile, works: Works, secret: str) -> None:
        self.gateway, self.works, self.secret = gateway, works, secret
        self.keys = 0

    def api(self, method: str, path: str, body: Any = None, *, key: bool = False) -> Any:
        headers = {"Authorization": f"Bearer {self.secret}", "Content-Type": "application/json"}
        if key:
            self.keys += 1
            headers["Idempotency-Key"] = f"key-{self.keys}"
        data = b"" if body is None else json.dumps(body).encode()
        status, said = self.gateway.ask(method, f"/api/v1/{path}", data, headers)
        assert status < 300, (method, path, status, said)
        return said

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """What the condition gives, as soon as it gives something; revives the gateway meanwhile."""
        found: list[Any] = []

        def look() -> bool:
            self.gateway.revive()
            found[:] = [condition()]
            return bool(found[0])

        wait_until(look, what, PATIENCE_S, every=0.05)
        return found[0]

    def tell(self) -> Outcome:
        """A release comes in by pieces and goes to two cars: one installs it; the owner of the other says yes
        on its display, it fails, and the rollout stops."""
        (self.gateway.folder / "steps").touch()
        self._uploads()
        release = self._releases()
        plan = {"groups": [{"name": "first", "query": {"devices": ["car-2"]}}, {"name": "rest"}]}
        made = self.api(
            "POST", "firmware/rollouts", {"name": "r", "release": release, "plan": plan}, key=True
        )
        self.api("POST", f"firmware/rollouts/{made['id']}/start", key=True)
        served = self._updates("car-2", "success")
        self._agrees("car-1")
        self._updates("car-1", "failure")
        self.until(lambda: self._rows("SELECT 1 FROM rollouts WHERE told_at IS NOT NULL"), "the end is told")
        self.until(
            lambda: not self._rows("SELECT 1 FROM actions WHERE open = 0 AND consent NOT IN ('closed')"),
            "whoever had to be told was",
        )
        return self.outcome(served)

    def _uploads(self) -> None:
        wanted = {"sha256": hashlib.sha256(CONTENT).hexdigest(), "size": len(CONTENT)}
        while True:
            found = self.api("POST", "firmware/uploads", wanted)
            if found["offset"] == found["size"]:
                return
            piece = CONTENT[found["offset"] : found["offset"] + 100_000]
            place = f"/api/v1/firmware/uploads/{found['id']}/content?offset={found['offset']}"
            headers = {"Authorization": f"Bearer {self.secret}", "Content-Type": "application/octet-stream"}
            with contextlib.suppress(OSError, http.client.HTTPException):  # it asks where to go on
                status, said = self.gateway._once("PUT", place, piece, headers)
                assert status == 200, said
            if self.gateway.ended():
                self.gateway.revive()

    def _releases(self) -> int:
        signed = self.works.folder / "release-2.0.0"
        manifest = next(signed.glob("*.manifest"))
        body = {"manifest": manifest.read_text(), "signatures": Path(f"{manifest}.sig").read_text()}
        return int(self.api("POST", "firmware/releases", body, key=True)["id"])

    # --- devices ----------------------------------------------------------------------------------

    def _device(self, device: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        token = (self.works.folder / f"{device}.token").read_text()
        headers = {"Authorization": f"TargetToken {token}", "Content-Type": "application/json"}
        data = b"" if body is None else json.dumps(body).encode()
        place = path if path.startswith("http") else f"/default/controller/v1/{device}{path}"
        return self.gateway.ask(method, place, data, headers)

    def _link(self, device: str, name: str) -> str:
        def offered() -> str:
            status, said = self._device(device, "GET", "")
            assert status == 200, said
            return str(said.get("_links", {}).get(name, {}).get("href", ""))

        return str(self.until(offered, f"{device} is offered {name}"))

    def _agrees(self, device: str) -> None:
        """Once its owner was asked; a yes that was heard and not answered is 404 the second time."""
        link = self._link(device, "confirmationBase").partition("?")[0]
        self.until(lambda: self._domain("SELECT 1 FROM touchpoints"), "the owner is asked")
        status, said = self._device(device, "POST", f"{link}/feedback", {"confirmation": "confirmed"})
        assert status in (200, 404), said

    def _updates(self, device: str, finished: str) -> str:
        """As clients do; gives the hash of what came. What was closed and not answered is 410."""
        self._device(device, "PUT", "/configData", {"mode": "merge", "data": {"hw": "b7"}})
        link = self._link(device, "deploymentBase")
        self.until(
            lambda: self._device(device, "GET", link)[1]["deployment"]["update"] == "forced",
            "nothing speaks against it",
        )
        _, said = self._device(device, "GET", link)
        artifact = said["deployment"]["chunks"][0]["artifacts"][0]
        _, content = self._device(device, "GET", artifact["_links"]["download-http"]["href"])
        assert hashlib.sha256(content).hexdigest() == artifact["hashes"]["sha256"], (
            "half an artifact was served"
        )
        place = link.partition("?")[0] + "/feedback"
        for execution in ("proceeding", "downloaded", "closed"):
            result = {"finished": finished if execution == "closed" else "none"}
            status = {"execution": execution, "result": result, "details": [f"{device} {execution}"]}
            answered, said = self._device(device, "POST", place, {"status": status})
            assert answered == 200 or (answered, execution) == (410, "closed"), (answered, said)
        return hashlib.sha256(content).hexdigest()

    # --- what became of it ------------------------------------------------------------------------

    def _rows(self, query: str, name: str = "firmware/firmware.db") -> list[Any]:
        with contextlib.closing(sqlite3.connect(self.gateway.folder / name, timeout=10)) as database:
            return database.execute(query).fetchall()

    def _domain(self, query: str) -> list[Any]:
        return self._rows(query, "domain.db")

    def outcome(self, served: str) -> Outcome:
        reports: dict[str, set[tuple[str, str]]] = {}
        log = "SELECT a.target, l.status, l.messages FROM action_log l JOIN actions a ON a.id = l.action"
        for device, status, messages in self._rows(log):
            reports.setdefault(device, set()).add((status, messages))
        payloads = self._domain("SELECT payload FROM outbox WHERE channel = 'webhook'")
        touchpoints = "SELECT device, rule, state, action FROM touchpoints ORDER BY device, rule"
        return Outcome(
            releases=self._rows("SELECT kind, version, withdrawn FROM releases"),
            served=served,
            rollouts=self._rows("SELECT name, state, reason FROM rollouts"),
            actions=self._rows("SELECT target, state, open, consent FROM actions ORDER BY target"),
            reports=reports,
            targets=self._rows("SELECT id, version, sequence, attributes FROM targets ORDER BY id"),
            touchpoints=self._domain(touchpoints),
            cases=self._domain("SELECT kind, device, text FROM cases"),
            events=Counter(json.loads(text)["event"]["type"] for (text,) in payloads),
            ledger=Counter(code for (code,) in self._domain("SELECT code FROM ledger")),
            left=[path.name for path in (self.gateway.folder / "firmware" / "incoming").glob("upload-*")],
        )


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with an owner, two cars and the desk's key, and a signed release beside it."""
    folder = tmp_path_factory.mktemp("house")
    settings = {"data_dir": str(folder)}
    done = touchpoint("setup", settings=settings)
    assert done.returncode == 0, done.stderr
    works = Works(folder, time.time_ns() // 1_000_000)
    works.signed(CONTENT, "2.0.0", sequence=2, minutes=5, notes={"en": "Quieter"})
    secret = touchpoint("token", "create", "--role", "operator", settings=settings).stdout.split()[-1]
    (folder / "secret").write_text(secret)
    for device, owned in (("car-1", True), ("car-2", False)):
        (folder / f"{device}.token").write_text(works.device(device, owned=owned))
    gateway = Fragile(folder, "")
    gateway.start()
    telling = Telling(gateway, works, secret)
    try:
        telling.api("POST", "webhooks", {"audience": "manufacturer", "url": "https://example.com/hooks"})
        person = {"id": "jana", "name": "Jana", "language": "en"}
        telling.api("POST", "owners", person)
        telling.api("PUT", "owners/jana/preferences", {"quiet_from": "00:00", "quiet_to": "00:00"})
        telling.api("POST", "devices", {"id": "car-1", "kind": "car", "model": "Arden 5", "owner": "jana"})
    finally:
        end(gateway.process)
    return folder


def told(folder: Path, house: Path, crash: str) -> tuple[Outcome, list[str]]:
    """Tell the story in a copy of the house that dies at `crash`; nowhere when it is empty."""
    shutil.copytree(house, folder)
    gateway = Fragile(folder, crash)
    gateway.start()
    try:
        works = Works.__new__(Works)
        works.folder = folder
        telling = Telling(gateway, works, (folder / "secret").read_text())
        outcome = telling.tell()
        if crash and not gateway.died:  # it was the last step of all, and the story was over first
            wait_until(gateway.ended, f"it comes by {crash!r}", PATIENCE_S)
            gateway.revive()
            outcome = telling.outcome(outcome.served)
        return outcome, sorted((folder / "steps").read_text().splitlines())
    finally:
        end(gateway.process)


def test_no_step_at_which_it_dies_changes_what_becomes_of_an_update(tmp_path: Path, house: Path) -> None:
    first, steps = told(tmp_path / "unharmed", house, "")
    print(first, flush=True)
    assert first.served == hashlib.sha256(CONTENT).hexdigest()
    assert [(row[0], row[1]) for row in first.actions] == [("car-1", "error"), ("car-2", "finished")]
    assert first.rollouts[0][1] == "stopped"
    assert (len(first.cases), first.events["rollout.stopped"], first.left) == (1, 1, [])
    missed = {what for what in VISITED if not any(step.startswith(what) for step in steps)}
    assert not missed, steps
    some = random.Random(SEED).sample(steps, min(len(steps), (CRASHES + 1) // 2))
    for number, step in enumerate(STEP.split(";") if STEP else some if CRASHES else steps):
        print(f"dies at: {step}", flush=True)
        outcome, _ = told(tmp_path / f"crash-{number}", house, step)
        assert outcome == first, step
        shutil.rmtree(tmp_path / f"crash-{number}")
