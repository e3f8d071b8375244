"""What every device is, in memory: kind and model as registered, else by id pattern."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping

from gateway.domain.device import Device
from gateway.ports import ChangeFeed, Database, Records

UNKNOWN = "unknown"
"""Kind under which readings are kept of a device that nobody registered and no pattern names."""

PAGE = 5_000

ANYTHING = "*"
"""Told by the change feed in place of what was missed."""


class Directory:
    """Kinds and models by device id; follows the database through `refresh`."""

    def __init__(self, patterns: Mapping[str, str]) -> None:
        self._patterns = [
            (re.compile(fnmatch.translate(pattern)), kind) for pattern, kind in patterns.items()
        ]
        self._registered: dict[str, tuple[str, str]] = {}
        self._guessed: dict[str, tuple[str, str]] = {}

    def by_pattern(self, device: str) -> str | None:
        """The kind that the first matching pattern gives."""
        return next((kind for pattern, kind in self._patterns if pattern.match(device)), None)

    def known(self, device: str) -> bool:
        """Whether somebody registered it."""
        return device in self._registered

    def kind_and_model(self, device: str) -> tuple[str, str]:
        """(kind, model); "unknown" and "" where nobody said."""
        found = self._registered.get(device) or self._guessed.get(device)
        if found is None:
            if len(self._guessed) > 200_000:
                self._guessed.clear()
            found = self._guessed[device] = (self.by_pattern(device) or UNKNOWN, "")
        return found

    def take(self, devices: Iterable[Device]) -> None:
        """Note what these are."""
        for device in devices:
            self._registered[device.id] = (device.kind, device.model or "")

    async def load(self, database: Database) -> None:
        """Read all registered devices."""
        self.take(await database.read(all_devices))

    async def refresh(self, database: Database, feed: ChangeFeed) -> None:
        """Take up the devices that changed since the last call."""
        told = feed.take()
        changed = {key for subject, key in told if subject == "device"}
        if any(subject == ANYTHING for subject, _ in told):
            await self.load(database)
        elif changed:
            self.take(await database.read(lambda r: [d for d in map(r.devices.find, changed) if d]))


def all_devices(records: Records) -> list[Device]:
    """Every registered device, page by page."""
    devices: list[Device] = []
    while page := records.devices.page(after=devices[-1].id if devices else None, limit=PAGE):
        devices += page
    return devices
