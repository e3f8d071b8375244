"""The domain's store in SQLite: one writer thread, a few reader threads, every commit on disk.

Transactions follow SQLAlchemy's recipe for the sqlite3 module ("Serializable isolation / Savepoints /
Transactional DDL" in its SQLite dialect documentation): the module begins nothing by itself, we do.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.pool import NullPool

from gateway.adapters.database import schema
from gateway.adapters.database.changes import KEEP, Changes
from gateway.adapters.database.errors import translated
from gateway.adapters.database.records import SqlRecords
from gateway.adapters.database.rows import note_write
from gateway.adapters.database.sealed_rows import kept, seal_again
from gateway.adapters.database.sealing import Seal, is_sealed
from gateway.adapters.private_file import create_private
from gateway.ports import ChangeFeed, DatabaseUnavailableError, Records

T = TypeVar("T")

READERS = 3
"""Threads that read at the same time."""

BUSY_TIMEOUT_S = 5.0
"""How long a transaction waits for another process's write lock."""

TRIM_EVERY = 1_000
"""Changes that this process adds between two trims of their table."""


class SqlDatabase:
    """See `gateway.ports.Database`. `now` gives UTC milliseconds: it says which holds still run."""

    def __init__(
        self,
        url: str,
        *,
        now: Callable[[], int],
        patience: float = BUSY_TIMEOUT_S,
        seal: Seal | None = None,
    ) -> None:
        """Opens nothing yet. `patience`: seconds to wait for another process's write lock; `seal`: what keeps
        secrets, which lie open without it.

        Raises DatabaseUnavailableError for a URL it cannot serve."""
        self._now = now
        self._seal = seal
        self.path = _sqlite_path(url)
        self._writing = _Side(self.path, patience, threads=1)
        self._reading = _Side(self.path, patience, threads=READERS, query_only=True)
        self._changes = Changes(self._reading.connect)
        self._untrimmed = 0

    async def prepare(self) -> None:
        """Create the file or bring its tables to this version; quick when there is nothing to do, and safe
        when several processes do it at once. Raises DatabaseUnavailableError."""
        await self._writing.run(self._prepare)

    def _prepare(self) -> None:
        _create_private(self.path)
        with self._translating():
            with self._reading.begun() as connection:
                ready = schema.revision(connection) == schema.HEAD
            if not ready:
                with self._writing.begun() as connection:
                    schema.upgrade(connection)
            if self._seal is not None:
                self._seal_all(self._seal)

    def _seal_all(self, seal: Seal) -> None:
        """What is not sealed under the newest key is from now on. A key is made where none is needed yet."""
        with self._reading.begun() as connection:
            found = [text for _, text in kept(connection)]
        if not any(map(is_sealed, found)):
            seal.make()
        if not all(map(seal.newest, found)):
            with self._writing.begun() as connection:
                seal_again(connection, seal)

    async def new_key(self) -> int:
        """Seal every secret under a new key, and forget the others; gives how many secrets there are. What
        runs goes on. After a crash in between all keys open, and it can be done again. Raises
        DatabaseUnavailableError."""
        return await self._writing.run(self._new_key)

    def _new_key(self) -> int:
        """The file changes only while nobody else writes: what another one has sealed, or is sealing, under
        the key before is seen here, and two that make keys wait for each other."""
        if self._seal is None:
            raise DatabaseUnavailableError("This database was opened without a key file.")
        with self._translating():
            with self._writing.begun() as connection:
                self._seal.add_key()
                seal_again(connection, self._seal)
            with self._writing.begun() as connection:
                found = list(kept(connection))
                if all(self._seal.newest(text) for _, text in found):
                    self._seal.forget_old()
        return len(found)

    async def write(self, work: Callable[[Records], T]) -> T:
        """Run `work` in the writer's thread inside one transaction. Feeds of this process have been told by
        the time this returns. Raises DatabaseUnavailableError, and what `work` raises."""
        return await self._writing.run(self._write, work)

    def _write(self, work: Callable[[Records], T]) -> T:
        with self._translating():
            with self._writing.begun() as connection:
                records = SqlRecords(connection, self._now, self._seal)
                result = work(records)
                changed = records.transaction.store_changes()
                if self._untrimmed + changed >= TRIM_EVERY:
                    records.transaction.trim_changes(KEEP)
            self._untrimmed = (self._untrimmed + changed) % TRIM_EVERY
        if changed:
            # It is committed; if it cannot be told now, the next look tells it.
            with contextlib.suppress(exc.SQLAlchemyError, sqlite3.Error):
                self._changes.tell()
        return result

    async def read(self, work: Callable[[Records], T]) -> T:
        """Run `work` in a reader's thread on a snapshot. Raises DatabaseUnavailableError."""
        return await self._reading.run(self._read, work)

    def _read(self, work: Callable[[Records], T]) -> T:
        with self._translating(), self._reading.begun() as connection:
            return work(SqlRecords(connection, self._now, self._seal))

    def watch(self, *subjects: str) -> ChangeFeed:
        """See `gateway.ports.Database.watch`. Raises DatabaseUnavailableError."""
        with self._translating():
            return self._changes.watch(*subjects)

    async def close(self) -> None:
        """Ends after what was begun; nothing can be read or written afterwards."""
        await self._changes.close()
        await self._reading.close()
        await self._writing.close()

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except (exc.SQLAlchemyError, sqlite3.Error) as error:
            raise translated(error, str(self.path)) from error


class _Side:
    """Threads with one connection each, which begin their transactions in one way."""

    def __init__(self, path: Path, patience: float, *, threads: int, query_only: bool = False) -> None:
        name = "database-read" if query_only else "database-write"
        begin = "BEGIN" if query_only else "BEGIN IMMEDIATE"
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._patience = patience
        self._query_only = query_only
        self._own = threading.local()
        self._open: list[sa.Connection] = []
        self._engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)),
            poolclass=NullPool,
            connect_args={"check_same_thread": False, "timeout": patience},
            json_serializer=lambda value: msgspec.json.encode(value).decode(),
            json_deserializer=msgspec.json.decode,
        )
        event.listen(self._engine, "connect", self._on_connect)
        event.listen(self._engine, "before_cursor_execute", note_write)
        # By the driver itself: through SQLAlchemy a BEGIN costs as much as three prepared questions.
        event.listen(self._engine, "begin", lambda c: c.connection.dbapi_connection.execute(begin).close())

    def _on_connect(self, connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None
        _use_wal(connection, self._patience)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        if self._query_only:
            connection.execute("PRAGMA query_only=ON")

    def connect(self) -> sa.Connection:
        """A connection that the caller closes."""
        return self._engine.connect()

    @contextlib.contextmanager
    def begun(self) -> Iterator[sa.Connection]:
        """This thread's connection inside a transaction; after trouble the next one opens it anew."""
        connection: sa.Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = self.connect()
            self._open.append(connection)
        try:
            with connection.begin():
                yield connection
        except (exc.OperationalError, sqlite3.OperationalError):
            del self._own.connection
            self._open.remove(connection)
            connection.close()
            raise

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)

    async def close(self) -> None:
        await asyncio.to_thread(self._executor.shutdown)
        for connection in self._open:
            connection.close()
        self._engine.dispose()


def _sqlite_path(url: str) -> Path:
    try:
        parsed = sa.make_url(url)
    except exc.ArgumentError as error:
        raise DatabaseUnavailableError(
            f"[database] url {url!r} is no URL, like sqlite:////data/domain.db."
        ) from error
    backend = parsed.get_backend_name()
    if backend != "sqlite":
        raise DatabaseUnavailableError(
            f"[database] url names {backend}, which is not supported yet: use sqlite:////path/domain.db."
        )
    if not parsed.database or parsed.database == ":memory:":
        raise DatabaseUnavailableError("[database] url names no file: use sqlite:////path/domain.db.")
    return Path(parsed.database)


def _create_private(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        create_private(path)
    except OSError as error:
        raise DatabaseUnavailableError(
            f"The database {path} cannot be opened: {error.strerror}. Check its folder and who may write it."
        ) from error


def _use_wal(connection: sqlite3.Connection, patience: float) -> None:
    """Switching a new file to WAL does not wait for other processes by itself, so it is tried again."""
    deadline = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
