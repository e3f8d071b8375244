"""The clock of the world, and one that is played.

Both pass tests/contract/test_clock.py. Network timers (keep-alive, reconnecting) use the event
loop's own time: a broker does not know that time is being played.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

LONGEST_SLEEP = 60.0
"""Seconds after which a waiter looks at the wall clock again, for it may have been set."""

YIELDS = 3
"""Turns of the event loop that let callbacks already due run before "settled" is believed."""


class SystemClock:
    """The machine's own time."""

    def now(self) -> int:
        """UTC milliseconds."""
        return time.time_ns() // 1_000_000

    async def wait(self, event: asyncio.Event, until: int | None = None) -> bool:
        """Return True when `event` is set, False when `until` (ms) has come."""
        if until is None or event.is_set():
            return await event.wait()
        while (left := until - self.now()) > 0:
            try:
                async with asyncio.timeout(min(left / 1000, LONGEST_SLEEP)):
                    return await event.wait()
            except TimeoutError:
                continue
        return event.is_set()


@dataclass(eq=False, slots=True)
class _Waiter:
    event: asyncio.Event
    until: int | None
    due: asyncio.Future[None]
    task: asyncio.Task[object] | None

    def idle(self, now: int) -> bool:
        return not self.event.is_set() and (self.until is None or self.until > now)


class VirtualClock:
    """A time that moves only by `advance`. For the demo and for tests.

    The driver registers every task that does the path's work, and moves time only after
    `settled()`: then each of them stands in `wait` with nothing to do and nothing due.
    """

    def __init__(self, start: int) -> None:
        self._now = start
        self._waiters: set[_Waiter] = set()
        self._workers: set[asyncio.Task[object]] = set()
        self._moved = asyncio.Event()

    def now(self) -> int:
        """Played UTC milliseconds."""
        return self._now

    async def wait(self, event: asyncio.Event, until: int | None = None) -> bool:
        """Return True when `event` is set, False when played time has reached `until` (ms)."""
        if event.is_set():
            return True
        if until is not None and until <= self._now:
            return False
        waiter = _Waiter(event, until, asyncio.get_running_loop().create_future(), asyncio.current_task())
        self._waiters.add(waiter)
        self._moved.set()
        rung = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait((rung, waiter.due), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiters.discard(waiter)
            rung.cancel()
        return event.is_set()

    def register(self, task: asyncio.Task[object]) -> None:
        """Make `settled()` depend on this task until it ends."""
        self._workers.add(task)
        task.add_done_callback(self._ended)

    def advance(self, to: int) -> None:
        """Move time forward to `to` (ms) and wake whoever is due; never backward."""
        self._now = max(self._now, to)
        due = [w for w in self._waiters if w.until is not None and w.until <= self._now]
        for waiter in sorted(due, key=lambda w: w.until or 0):
            if not waiter.due.done():
                waiter.due.set_result(None)

    def next_due(self) -> int | None:
        """The earliest time (ms) that anyone waits for, None when nobody waits for a time."""
        return min((w.until for w in self._waiters if w.until is not None), default=None)

    async def settled(self) -> None:
        """Return when every registered task stands in `wait` with nothing to do and nothing due."""
        while True:
            self._moved.clear()
            for _ in range(YIELDS):
                await asyncio.sleep(0)
            if self._idle():
                return
            await self._moved.wait()

    def _idle(self) -> bool:
        standing = {w.task for w in self._waiters if w.idle(self._now)}
        return self._workers <= standing

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._workers.discard(task)
        self._moved.set()
