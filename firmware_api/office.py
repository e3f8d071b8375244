"""Firmware as one running process holds it: the store, the lines to its database, and what has to be looked
after.

What is looked after, every few seconds: rollouts take their next step, and the index is signed anew before
it expires; beside it, since it may take hours: artifacts are read back, and what was half uploaded is thrown
away.
"""

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

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
    _hour: int = -1

    def __post_init__(self) -> None:
        self.read = Line(self.store.connect, writes=False)
        self.write = Line(self.store.connect, writes=True)

    async def close(self) -> None:
        """Finish what is under way."""
        await self.read.close()
        await self.write.close()

    async def step(self) -> None:
        """Rollouts take their next step; once an hour the index is looked at."""
        now = self.clock()
        if now // HOURLY_MS != self._hour:
            key = await asyncio.to_thread(self.store.index_key)
            await self.write(partial(releases.refresh_index, now=now, key=key))
            self._hour = now // HOURLY_MS
        await self.write(partial(rollouts.step, now=now))

    async def tidy(self) -> None:
        """Read back what was not read for a week, throw away what was half uploaded."""
        now = self.clock()
        await asyncio.to_thread(self.store.scrub, now, now - SCRUBBED_EVERY_MS)
        await asyncio.to_thread(self.store.sweep, time.time() - HALF_UPLOADS_S)

    async def keep(self, failed: Callable[[Exception], None]) -> None:
        """Look after everything until cancelled; `failed` is told what could not be done, and it is tried
        again."""
        async with asyncio.TaskGroup() as both:
            both.create_task(_again(self.step, STEP_S, failed), name="firmware-steps")
            both.create_task(_again(self.tidy, HOURLY_MS / 1000, failed), name="firmware-tidy")


async def _again(
    work: Callable[[], Awaitable[None]], every_s: float, failed: Callable[[Exception], None]
) -> None:
    while True:
        try:
            await work()
        except (sqlite3.Error, OSError) as error:
            failed(error)
        await asyncio.sleep(every_s)
