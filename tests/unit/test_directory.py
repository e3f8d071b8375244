"""What a device is, known at once, whatever the change feed had to leave out."""

import asyncio
from pathlib import Path

from garage import open_world

from gateway.domain.device import Device
from gateway.flow.directory import Directory


class Told:
    """A feed that tells what it was given."""

    def __init__(self, *changes: tuple[str, str]) -> None:
        self._changes = list(changes)

    def event(self) -> asyncio.Event:
        return asyncio.Event()

    def take(self) -> list[tuple[str, str]]:
        changes, self._changes = self._changes, []
        return changes

    def close(self) -> None:
        """Nothing to close."""


async def test_a_device_whose_registration_was_told_is_known(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        directory = Directory({})
        await directory.load(world.database)
        new = Device(id="mixer", kind="mixer", created=world.now)
        await world.write(lambda records: records.devices.add(new))
        await directory.refresh(world.database, Told(("device", "car")))
        assert not directory.known("mixer")
        await directory.refresh(world.database, Told(("device", "mixer")))
        assert directory.kind_and_model("mixer") == ("mixer", "")


async def test_what_was_missed_is_looked_up_again(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        directory = Directory({})
        await directory.refresh(world.database, Told(("*", "")))
        assert directory.known("car")
        assert directory.known("washer")
