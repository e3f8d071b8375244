"""Debian's SWUpdate (suricatta), unchanged, updates itself from this server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from firmware_lab import SwuMaker, Works, serving
from real_parts import PATIENCE_S, end, need

DEVICE = "swu-1"


class Machine:
    """A device that runs SWUpdate."""

    def __init__(self, works: Works, url: str) -> None:
        self.works = works
        self.url = url
        self.folder = works.folder / "device"
        self.folder.mkdir()
        self.make = SwuMaker(self.folder)
        self.token = works.device(DEVICE, version="1.0.0")
        (self.folder / "config").write_text(
            'globals: { }; identify = ( { name = "board"; value = "b7"; } );\n'
        )

    @contextlib.contextmanager
    def swupdate(self, options: str = "") -> Iterator[None]:
        """SWUpdate polls until the end of the block; `options` are suricatta's."""
        suricatta = f"-t default -u {self.url} -i {DEVICE} -k {self.token} -p 1 {options}"
        command = [
            need("swupdate", "swupdate"),
            "-l",
            "5",
            "-f",
            "config",
            "-H",
            "board:1.0",
            "-k",
            str(self.make.trusted),
        ]
        with open(self.folder / "log", "ab") as log:
            process = subprocess.Popen(
                [*command, "-u", suricatta],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, "TMPDIR": str(self.folder)},
            )
        try:
            yield
        finally:
            end(process)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that another process brings about."""
        for _ in range(PATIENCE_S * 20):
            if condition():
                return
            await asyncio.sleep(0.05)
        log = (self.folder / "log").read_text(errors="replace")
        raise AssertionError(f"it did not come about; SWUpdate says:\n{log[-4_000:]}")

    @property
    def installed(self) -> str | None:
        place = self.folder / "installed"
        return place.read_text() if place.exists() else None


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    need("swupdate", "swupdate")
    works = Works(tmp_path)
    async with serving(works) as url:
        yield Machine(works, url)


async def test_an_update_is_installed_and_confirmed_after_the_restart(machine: Machine) -> None:
    works = machine.works
    release = works.release({"update.swu": machine.make("2.0.0")}, "2.0.0", sequence=2)
    action = works.assign(DEVICE, release)
    with machine.swupdate():
        await machine.until(lambda: machine.installed == "2.0.0")
        await machine.until(lambda: works.history(action).count("running") >= 3)
    with machine.swupdate("-c 2"):  # the new system says that it works
        await machine.until(lambda: works.action(action)["state"] == "finished")
        assert works.target(DEVICE)["version"] == "2.0.0"
        await machine.until(lambda: not works.target(DEVICE)["wants_attributes"])
    assert json.loads(works.target(DEVICE)["attributes"]) == {"board": "b7"}


async def test_an_update_that_fails_is_reported_with_what_went_wrong(machine: Machine) -> None:
    works = machine.works
    update = machine.make("2.0.0", script="echo the flash is worn out; exit 1")
    action = works.assign(DEVICE, works.release({"update.swu": update}, "2.0.0", sequence=2))
    with machine.swupdate():
        await machine.until(lambda: works.action(action)["state"] == "error")
    assert works.target(DEVICE)["version"] == "1.0.0"
    assert machine.installed is None


async def test_an_update_that_the_new_system_regrets_is_a_failure(machine: Machine) -> None:
    works = machine.works
    release = works.release({"update.swu": machine.make("2.0.0")}, "2.0.0", sequence=2)
    action = works.assign(DEVICE, release)
    with machine.swupdate():
        await machine.until(lambda: machine.installed == "2.0.0")
        await machine.until(lambda: works.history(action).count("running") >= 3)
    with machine.swupdate("-c 3"):
        await machine.until(lambda: works.action(action)["state"] == "error")
    assert works.target(DEVICE)["version"] == "1.0.0"


async def test_an_update_is_cancelled_for_a_newer_one_which_is_installed(machine: Machine) -> None:
    works = machine.works
    first = works.assign(DEVICE, works.release({"update.swu": machine.make("2.0.0")}, "2.0.0", sequence=2))
    second = works.assign(DEVICE, works.release({"update.swu": machine.make("3.0.0")}, "3.0.0", sequence=3))
    with machine.swupdate():
        await machine.until(lambda: works.action(first)["state"] == "canceled")
        await machine.until(lambda: machine.installed == "3.0.0")
        await machine.until(lambda: works.history(second).count("running") >= 3)


async def test_an_update_is_cancelled_while_it_is_downloaded(machine: Machine) -> None:
    works = machine.works
    update = machine.make("2.0.0", script=f": {os.urandom(3_000_000).hex()}")
    action = works.assign(DEVICE, works.release({"update.swu": update}, "2.0.0", sequence=2))
    with machine.swupdate("-n 600k"):
        await machine.until(lambda: "download" in works.history(action))
        works.cancel(action)
        await machine.until(lambda: works.action(action)["state"] == "canceled")
    assert machine.installed is None
