"""What was committed, by whichever process, told to everybody who watches.

All feeds of a process are served from the `changes` table, in the order of its ids: right after each commit
of this process, and every 200 ms for those of others. Ids have no gaps, because SQLite lets one transaction
write at a time; a gap therefore means that rows were trimmed before they were read here.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterable

import sqlalchemy as sa

from gateway.adapters.database import tables

POLL_EVERY = 0.2
"""Seconds of real time between looks for what other processes committed."""

KEEP = 10_000
"""How many changes the table keeps."""

EVERYTHING = ("*", "")
"""Told instead of what can no longer be told: anything may have changed."""

_c = tables.changes.c
_NEWEST = sa.select(sa.func.max(_c.id))
_SINCE = sa.select(_c.id, _c.subject, _c.key).where(_c.id > sa.bindparam("last")).order_by(_c.id)


class Feed:
    """See `gateway.ports.ChangeFeed`. What waits is kept once, however often it changed meanwhile."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_close: Callable[[Feed], None], subjects: tuple[str, ...]
    ) -> None:
        self._loop = loop
        self._subjects = (*subjects, EVERYTHING[0]) if subjects else ()
        self._on_close = on_close
        self._event = asyncio.Event()
        self._waiting: dict[tuple[str, str], None] = {}
        self._lock = threading.Lock()

    def event(self) -> asyncio.Event:
        return self._event

    def take(self) -> list[tuple[str, str]]:
        with self._lock:
            taken, self._waiting = list(self._waiting), {}
        self._event.clear()
        return taken

    def close(self) -> None:
        self._on_close(self)

    def put(self, changes: Iterable[tuple[str, str]]) -> None:
        """Called from any thread; what this feed does not watch wakes nobody."""
        wanted = [c for c in changes if not self._subjects or c[0] in self._subjects]
        if not wanted:
            return
        with self._lock:
            self._waiting.update(dict.fromkeys(wanted))
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self._waiting:
            self._event.set()


class Changes:
    """Reads the table's end for all feeds of one process."""

    def __init__(self, connect: Callable[[], sa.Connection]) -> None:
        self._connect = connect
        self._connection: sa.Connection | None = None
        self._lock = threading.Lock()
        self._feeds: list[Feed] = []
        self._last = 0
        self._poller: asyncio.Task[None] | None = None

    def watch(self, *subjects: str) -> Feed:
        """A feed of what is committed from now on, of these subjects or of all. Reads one row of an index, so
        it may stand on the loop."""
        feed = Feed(asyncio.get_running_loop(), self._forget, subjects)
        with self._lock:
            if self._feeds:
                self._tell()
            else:
                self._last = self._open().scalar(_NEWEST) or 0
                self._open().rollback()
            self._feeds.append(feed)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="database changes")
        return feed

    def tell(self) -> None:
        """Hand what was committed since the last time to all feeds. Called from any thread."""
        with self._lock:
            if self._feeds:
                self._tell()

    def _tell(self) -> None:
        connection = self._open()
        rows = connection.execute(_SINCE, {"last": self._last}).all()
        connection.rollback()
        if not rows:
            return
        told = [(row.subject, row.key) for row in rows]
        if rows[0].id > self._last + 1:
            told.insert(0, EVERYTHING)
        self._last = rows[-1].id
        for feed in self._feeds:
            feed.put(told)

    def _open(self) -> sa.Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _forget(self, feed: Feed) -> None:
        with self._lock:
            if feed in self._feeds:
                self._feeds.remove(feed)

    async def _poll(self) -> None:
        while self._feeds:
            await asyncio.sleep(POLL_EVERY)
            # What is wrong is said to whoever reads or writes next.
            with contextlib.suppress(sa.exc.SQLAlchemyError, sqlite3.Error):
                await asyncio.to_thread(self.tell)

    async def close(self) -> None:
        if self._poller is not None:
            self._poller.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._poller
        with self._lock:
            self._feeds.clear()
            if self._connection is not None:
                self._connection.close()
                self._connection = None
