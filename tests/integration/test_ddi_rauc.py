"""RAUC's client for hawkBit (PyPI rauc-hawkbit), unchanged, updates from this server; the tests play RAUC
itself."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from firmware_lab import Works, serving
from real_parts import PATIENCE_S, ROOT, end

CLIENT = ROOT / ".venv" / "rauc-hawkbit"
DEVICE = "rauc-1"

PROGRAM = '''
"""The client with a bus on which an installer answers: the bundle decides whether it succeeds."""
import asyncio, sys, types
from pathlib import Path

gi = types.ModuleType("gi"); gi.repository = types.ModuleType("gi.repository")
gi.repository.GLib = types.SimpleNamespace(Error=type("Error", (Exception,), {}))
gi.repository.Gio = types.SimpleNamespace()
sys.modules |= {"gi": gi, "gi.repository": gi.repository}
bus = types.ModuleType("rauc_hawkbit.dbus_client")

class AsyncDBUSClient:
    def new_proxy(self, interface, path):
        return self
    def new_property_subscription(self, *which): pass
    def new_signal_subscription(self, *which): pass
    def Install(self, form, bundle):
        good = b"good" in Path(bundle).read_bytes()
        asyncio.ensure_future(self.played(0 if good else 1))
    async def played(self, result):
        await self.progress_callback(None, "", "", "", "", (50, "Copying image", 1))
        if result:
            await self.last_error_callback(None, "", "", "", "", "signature does not hold")
        await self.complete_callback(None, "", "", "", "", (result,))

bus.AsyncDBUSClient = AsyncDBUSClient
sys.modules["rauc_hawkbit.dbus_client"] = bus
sys.path.insert(0, sys.argv[1])
import aiohttp
from rauc_hawkbit.rauc_dbus_ddi_client import RaucDBUSDDIClient

async def main():
    async with aiohttp.ClientSession() as session:
        client = RaucDBUSDDIClient(session, sys.argv[2], False, "default", sys.argv[3], sys.argv[4],
                                   {"board": "b7"}, sys.argv[5], lambda result: print("result", result))
        await client.start_polling(wait_on_error=1)

asyncio.run(main())
'''


class Machine:
    """A device that runs RAUC's client."""

    def __init__(self, works: Works, url: str) -> None:
        self.works = works
        self.token = works.device(DEVICE, version="1.0.0")
        folder = works.folder / "device"
        folder.mkdir()
        self.log = folder / "log"
        host = url.removeprefix("http://")
        arguments = [str(CLIENT), host, DEVICE, self.token, str(folder / "bundle.raucb")]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-u", "-c", PROGRAM, *arguments],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONWARNINGS": "ignore"},
            )

    async def ends(self, action: int) -> str:
        """The state in which an action comes to rest."""
        for _ in range(PATIENCE_S * 20):
            held = self.works.action(action)
            if not held["open"]:
                return str(held["state"])
            await asyncio.sleep(0.05)
        raise AssertionError(f"it did not end; the client says:\n{self.log.read_text()[-4_000:]}")


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    if not CLIENT.is_dir():
        say = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        say("rauc-hawkbit is not installed (tools/ddi_client.sh)")
    works = Works(tmp_path)
    async with serving(works) as url:
        machine = Machine(works, url)
        try:
            yield machine
        finally:
            end(machine.process)


async def test_rauc_installs_an_update_and_says_who_it_is(machine: Machine) -> None:
    works = machine.works
    bundle = b"good" + os.urandom(300_000)
    action = works.assign(DEVICE, works.release({"app.raucb": bundle}, "2.0.0", sequence=2))
    assert await machine.ends(action) == "finished"
    assert works.target(DEVICE)["version"] == "2.0.0"
    assert '"board"' in works.target(DEVICE)["attributes"]
    assert "download" in works.history(action)


async def test_an_update_that_rauc_refuses_is_a_failure(machine: Machine) -> None:
    works = machine.works
    action = works.assign(DEVICE, works.release({"app.raucb": b"bad"}, "2.0.0", sequence=2))
    assert await machine.ends(action) == "error"
    assert works.target(DEVICE)["version"] == "1.0.0"


async def test_rauc_refuses_to_cancel_and_is_left_alone_for_the_newer_update(machine: Machine) -> None:
    works = machine.works
    old = works.release({"app.raucb": b"good old"}, "2.0.0", sequence=2)
    new = works.release({"app.raucb": b"good new"}, "3.0.0", sequence=3)
    first, second = works.assign(DEVICE, old), works.assign(DEVICE, new)
    assert await machine.ends(second) == "finished"
    assert works.action(first)["state"] in ("canceled", "finished")
    assert works.target(DEVICE)["version"] == "3.0.0"
