"""Work on the database beside the event loop, in batches.

Thousands of devices ask at once, and each needs a row or two. What has gathered while the thread was busy is
done in one visit: reads share one snapshot, writes share one transaction and one flush to disk. A write that
is refused is undone by itself (SAVEPOINT) and leaves the others of its batch alone.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from firmware_api.tables import Work, transaction

T = TypeVar("T")
MOST = 512
"""Pieces of work in one visit: a write waits for those before it, some tens of milliseconds at most."""

_Job = tuple[Work[Any], "asyncio.Future[Any]"]
_Result = tuple[bool, Any]


class Line:
    """One thread with one connection, used by one event loop."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], *, writes: bool) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._visit = self._write if writes else self._read
        self._waiting: list[_Job] = []
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="firmware-write" if writes else "firmware-read")
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, work: Work[T]) -> T:
        """What `work` gives; a write has reached the disk by then. Raises what `work` raises, or
        sqlite3.Error."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._waiting.append((work, done))
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run(loop))
        return await done

    async def close(self) -> None:
        """Finish what is under way and let go of the file."""
        if self._task is not None and not self._task.done():
            await self._task
        self._pool.shutdown()
        if self._connection is not None:
            self._connection.close()

    async def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            try:
                results = await loop.run_in_executor(self._pool, self._visit, [work for work, _ in batch])
            except Exception as error:
                results = [(False, error)] * len(batch)
            for (_, done), (good, value) in zip(batch, results, strict=True):
                if not done.done():
                    done.set_result(value) if good else done.set_exception(value)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _read(self, batch: list[Work[Any]]) -> list[_Result]:
        connection = self._open()
        connection.execute("BEGIN")
        try:
            return [_try(work, connection) for work in batch]
        finally:
            connection.execute("COMMIT")

    def _write(self, batch: list[Work[Any]]) -> list[_Result]:
        with transaction(self._open()) as connection:
            return [_try_apart(work, connection) for work in batch]


def _try(work: Work[Any], connection: sqlite3.Connection) -> _Result:
    try:
        return True, work(connection)
    except Exception as error:
        return False, error


def _try_apart(work: Work[Any], connection: sqlite3.Connection) -> _Result:
    connection.execute("SAVEPOINT one")
    result = _try(work, connection)
    if not result[0]:
        connection.execute("ROLLBACK TO one")
    connection.execute("RELEASE one")
    return result
