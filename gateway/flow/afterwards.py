"""afterwards: the loop that asks, looks whether jobs helped, and keeps what is measured up to date."""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from gateway.domain.policy import Policy
from gateway.flow import follow_up, measure
from gateway.ports import ChangeFeed, Clock, Database, DatabaseUnavailableError

log = structlog.get_logger()

AFTER_TROUBLE_MS = 5_000
"""How long after the database was away it is tried again."""


class Afterwards:
    """Follows up whatever is due, and measures days that are out of date from time to time."""

    def __init__(self, database: Database, clock: Clock, policy: Policy) -> None:
        self._database = database
        self._clock = clock
        self._policy = policy
        self._measure_at = 0
        """not before; ms"""

    async def run(self) -> None:
        """Until cancelled."""
        changes = self._database.watch("touchpoint", "appointment", "feedback", "device")
        try:
            while True:
                try:
                    await self._round(changes)
                except DatabaseUnavailableError as error:
                    log.warning("afterwards_unavailable", why=str(error))
                    await self._clock.wait(asyncio.Event(), self._clock.now() + AFTER_TROUBLE_MS)
        finally:
            changes.close()

    async def _round(self, changes: ChangeFeed) -> None:
        changes.take()
        while await self.step():
            pass
        await self._clock.wait(changes.event(), await self._next_due())

    async def step(self) -> int:
        """Do what is due; gives how much that was."""
        now, done = self._clock.now(), 0
        if await self._database.read(lambda r: follow_up.due(r, now)):
            done = await self._database.write(lambda r: follow_up.step(r, now, self._policy))
        if now >= self._measure_at:
            done += await self.measure(now)
        return done

    async def measure(self, now: int) -> int:
        """Measure what is out of date; gives how many days."""
        days = await self._database.write(lambda r: measure.lease(r, now))
        if not days:
            self._measure_at = now + self._policy.measure_every_ms
            return 0
        look = partial(measure.measure_day, now=now, policy=self._policy)
        measured = [await self._database.read(partial(look, day=day)) for day in days]
        await self._database.write(lambda r: measure.keep(r, measured, now))
        return len(days)

    async def _next_due(self) -> int | None:
        due, stale = await self._database.read(lambda r: (follow_up.next_due(r), r.analytics.next_stale()))
        times = [due, None if stale is None else max(stale, self._measure_at)]
        return min((at for at in times if at is not None), default=None)
