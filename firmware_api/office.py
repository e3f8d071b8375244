"""Firmware as one running process holds it: the store, the lines to its database, and what has to be looked
after.

What is looked after, every few seconds: rollouts take their next step; and from time to time the index is
signed anew before it expires, artifacts are read back, and what was half uploaded is thrown away.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from firmware_api import releases, rollouts
from firmware_api.line import Line
from firmware_api.store import FirmwareStore

STEP_S = 2.0
SCRUBBED_EVERY_MS = 7 * 86_400_000
"""Every artifact is read back once in that time."""
HOURLY_MS = 3_600_000
HALF_UPLOADS_S = 7 * 86_400
"""How long an upload may rest before it has to begin anew."""


@dataclass
class Office:
    """Shared by all routes of a process."""

    store: FirmwareStore
    clock: Callable[[], int]
    """UTC ms"""
    read: Line = field(init=False)
    write: Line = field(init=False)
    stopped: Callable[[rollouts.Rollout], None] = lambda rollout: None
    """told once of every rollout that stopped by itself"""
    _hour: int = -1

    def __post_init__(self) -> None:
        self.read = Line(self.store.connect, writes=False)
        self.write = Line(self.store.connect, writes=True)

    async def close(self) -> None:
        """Finish what is under way."""
        await self.read.close()
        await self.write.close()

    async def step(self) -> None:
        """Look after everything once."""
        now = self.clock()
        await self.write(lambda c: rollouts.step(c, now))
        for rollout in await self.write(lambda c: rollouts.stopped_by_themselves(c, now)):
            self.stopped(rollout)
        if now // HOURLY_MS != self._hour:
            self._hour = now // HOURLY_MS
            await self._hourly(now)

    async def _hourly(self, now: int) -> None:
        key = await asyncio.to_thread(self.store.index_key)
        await self.write(lambda c: releases.refresh_index(c, now, key))
        await asyncio.to_thread(self.store.scrub, now, now - SCRUBBED_EVERY_MS)
        await asyncio.to_thread(self.store.sweep, time.time() - HALF_UPLOADS_S)

    async def keep(self, failed: Callable[[Exception], None]) -> None:
        """Look after everything until cancelled; `failed` is told what could not be done, and it is tried
        again."""
        while True:
            try:
                await self.step()
            except (sqlite3.Error, OSError) as error:
                failed(error)
            await asyncio.sleep(STEP_S)
