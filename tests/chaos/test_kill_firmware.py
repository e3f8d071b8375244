"""`kill -9` while artifacts come in, rollouts step and devices report: nothing half, nothing twice, nothing
lost."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from firmware_lab import Works
from real_parts import PATIENCE_S, end, free_port, listens, wait_until

from firmware_api import actions, releases, rollouts, signing
from firmware_api.actions import Offer
from firmware_api.rollouts import plan_of
from firmware_api.targets import Target

SEED = int(os.environ.get("TOUCHPOINT_TEST_SEED", "8"))
KILLS = max(3, int(os.environ.get("TOUCHPOINT_TEST_KILLS", "6")) // 4)

SERVER = """
import asyncio, sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from aiohttp import web
from firmware_api import ddi, routes
from firmware_api.ddi import DdiSettings
from firmware_api.office import Office
from firmware_api.store import FirmwareStore
import time
store = FirmwareStore(Path(sys.argv[1]))
async def main():
    office = Office(store, lambda: time.time_ns() // 1_000_000)
    settings = DdiSettings(burst=1 << 30)
    app = web.Application()
    app.add_subapp(ddi.prefix(settings), ddi.application(office, settings))
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[2])).start()
    await asyncio.Event().wait()
asyncio.run(main())
"""

STEPPER = """
import sys, time
from pathlib import Path
from firmware_api import rollouts
from firmware_api.store import FirmwareStore
rollouts.MOST_AT_ONCE = 7
store, now = FirmwareStore(Path(sys.argv[1])), int(sys.argv[2])
print("begun", flush=True)
while True:
    store.write(lambda c: rollouts.step(c, now))
"""

UPLOADER = """
import sys
from pathlib import Path
from firmware_api import signing
from firmware_api.store import FirmwareStore
print("begun", flush=True)
folder, manifest, artifact, now = sys.argv[1:]
signing.upload(FirmwareStore(Path(folder)), Path(manifest), [Path(artifact)], int(now))
"""


PIECES = """
import asyncio, sys, time
from pathlib import Path
from firmware_api import uploads
from firmware_api.office import Office
from firmware_api.store import FirmwareStore
folder, path, sha256 = sys.argv[1:]
async def pieces(offset):
    with open(path, "rb") as file:
        file.seek(offset)
        while piece := file.read(1 << 20):
            yield piece
async def main():
    office = Office(FirmwareStore(Path(folder)), lambda: time.time_ns() // 1_000_000)
    print("begun", flush=True)
    found = await uploads.begin(office, sha256, Path(path).stat().st_size, "me")
    await uploads.append(office, found.id, found.offset, pieces(found.offset))
    await office.close()
uploads.FLUSH = 1 << 20
asyncio.run(main())
"""


@pytest.fixture
def works(tmp_path: Path) -> Works:
    return Works(tmp_path)


def killed(program: str, *arguments: object, after: float) -> None:
    """Run a program and kill it so many seconds after it has begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_no_half_artifact_is_ever_served(works: Works) -> None:
    dice, content = random.Random(SEED), os.urandom(24 << 20)
    manifest, (path,) = works.signed(content, "2.0.0", sequence=2)
    sha256 = hashlib.sha256(content).hexdigest()
    for _ in range(KILLS * 2):
        killed(UPLOADER, works.store.folder, manifest, path, works.now, after=dice.uniform(0, 0.4))
        place = works.store.artifact(sha256)
        if place.exists():
            assert hashlib.sha256(place.read_bytes()).hexdigest() == sha256
            place.unlink()
            works.store.write(lambda c: c.execute("DELETE FROM module_files"))
            works.store.write(lambda c: c.execute("DELETE FROM artifacts"))
            for table in ("modules", "signatures", "releases"):
                works.store.write(lambda c, t=table: c.execute(f"DELETE FROM {t}"))
        assert works.store.read(lambda c: c.execute("SELECT count(*) FROM artifacts").fetchone()[0]) == 0
        assert works.store.read(releases.current) == []


def test_an_upload_by_pieces_goes_on_where_it_was_killed(works: Works) -> None:
    dice, content = random.Random(SEED), os.urandom(48 << 20)
    manifest, (path,) = works.signed(content, "2.0.0", sequence=2)
    sha256 = hashlib.sha256(content).hexdigest()
    for _ in range(KILLS * 2):
        killed(PIECES, works.store.folder, path, sha256, after=dice.uniform(0, 0.1))
        stored = works.store.read(lambda c: c.execute("SELECT count(*) FROM artifacts").fetchone()[0])
        assert not stored or hashlib.sha256(works.store.artifact(sha256).read_bytes()).hexdigest() == sha256
    subprocess.run([sys.executable, "-c", PIECES, works.store.folder, path, sha256], check=True)
    assert works.store.artifact(sha256).read_bytes() == content
    assert signing.upload(works.store, manifest, [], works.now).manifest.version == "2.0.0"
    assert list((works.store.folder / "incoming").glob("upload-*")) == []


def test_no_device_is_assigned_twice_and_none_forgotten(works: Works) -> None:
    dice = random.Random(SEED)
    works.register([Target(id=f"car-{n}", kind="car") for n in range(600)])
    release = works.release(b"firmware", "2.0.0", sequence=2)
    plan = plan_of({"groups": [{"name": "all"}], "ask_owner": False})
    number = works.store.write(lambda c: rollouts.create(c, "all", release.id, plan, works.now, "me"))
    works.store.write(lambda c: rollouts.steer(c, number, "start", works.now, "me"))
    for _ in range(KILLS):
        killed(STEPPER, works.store.folder, works.now, after=dice.uniform(0, 0.05))
        rows = works.store.read(
            lambda c: c.execute(
                "SELECT target, count(*) AS n FROM actions GROUP BY target HAVING n > 1"
            ).fetchall()
        )
        assert rows == []
        (picture,) = works.store.read(lambda c: rollouts.picture(c, number))
        assert picture.scheduled + picture.running == 600
    while works.store.write(lambda c: rollouts.step(c, works.now)):
        pass
    (picture,) = works.store.read(lambda c: rollouts.picture(c, number))
    assert picture.running == 600


def test_no_report_that_was_answered_is_lost(works: Works) -> None:
    dice, port = random.Random(SEED), free_port()
    token = works.device("car-1")
    release = works.release(b"firmware", "2.0.0", sequence=2)
    action = works.store.write(lambda c: actions.assign(c, "car-1", Offer(release=release.id), works.now))
    answered: list[str] = []
    for kill in range(KILLS):
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(works.store.folder), str(port), str(Path(__file__).parent)]
        )
        try:
            wait_until(lambda: listens(port), "the server listens")
            after = dice.uniform(0.05, 0.5)
            answered += until_killed(port, token, action, f"{kill}", server, after)
        finally:
            end(server, signal.SIGKILL)
    lines = works.store.read(lambda c: actions.history(c, action, 10_000))
    kept = {text for line in lines for text in line["messages"]}
    assert answered
    assert set(answered) <= kept


def until_killed(
    port: int, token: str, action: int, name: str, server: subprocess.Popen[bytes], after: float
) -> list[str]:
    """Reports as fast as they are answered; the server is killed on the way, so many seconds after its first
    answer. What was answered 200."""
    line, done, stop = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S), [], float("inf")
    headers = {"Authorization": f"TargetToken {token}", "Content-Type": "application/json"}
    for number in range(150):
        if time.monotonic() > stop:
            server.send_signal(signal.SIGKILL)
        said = f"{name}-{number}"
        status = {"execution": "proceeding", "result": {"finished": "none"}, "details": [said]}
        try:
            line.request(
                "POST",
                f"/default/controller/v1/car-1/deploymentBase/{action}/feedback",
                json.dumps({"status": status}),
                headers,
            )
            answer = line.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            break
        stop = min(stop, time.monotonic() + after)
        if answer.status == 200:
            done.append(said)
    line.close()
    return done
