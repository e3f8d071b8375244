"""What the rules remember, in one SQLite file with the journal position it stands for.

Every save is one transaction, on disk when it returns: the journal is trimmed behind this position.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from gateway.adapters.private_file import create_private
from gateway.ports import DatabaseUnavailableError

T = TypeVar("T")

FORMAT = 1
"""Version of this file's form; another one is refused. The form of a state is the engine's own affair."""

DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS states (device TEXT PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    position INTEGER NOT NULL,
    format INTEGER NOT NULL
);
"""

_PUT_STATE = (
    "INSERT INTO states (device, state) VALUES (?, ?) "
    "ON CONFLICT (device) DO UPDATE SET state = excluded.state"
)
_PUT_POSITION = (
    "INSERT INTO meta (one, position, format) VALUES (1, ?, ?) "
    "ON CONFLICT (one) DO UPDATE SET position = excluded.position"
)


class SqliteRuleState:
    """See `gateway.ports.RuleState`. One thread owns the file; it is made at the first load or save."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="rule-state")
        self._connection: sqlite3.Connection | None = None

    async def load(self) -> tuple[int, list[tuple[str, bytes]]]:
        """Position 0 and nothing when it was never saved. Raises DatabaseUnavailableError."""
        return await self._run(_load)

    async def position(self) -> int:
        """0 when it was never saved. Raises DatabaseUnavailableError."""
        return await self._run(_position)

    async def load_one(self, device: str) -> tuple[int, list[tuple[str, bytes]]]:
        """For whoever looks at one device. Raises DatabaseUnavailableError."""
        return await self._run(lambda connection: _load_one(connection, device))

    async def save(self, position: int, states: Sequence[tuple[str, bytes]]) -> None:
        """Store these devices' states and the position. Raises DatabaseUnavailableError; then nothing of
        it is stored."""
        await self._run(lambda connection: _save(connection, position, states))

    async def close(self) -> None:
        await asyncio.to_thread(self._executor.shutdown)
        self._drop()

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._with, work)

    def _with(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = _open(self._path)
            return work(self._connection)
        except (sqlite3.Error, OSError) as error:
            self._drop()
            raise DatabaseUnavailableError(self._trouble(error)) from error

    def _trouble(self, error: sqlite3.Error | OSError) -> str:
        """What it is, and what to do about it."""
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED:
            return (
                f"The rules' state {self._path} is damaged ({error}): restore the file, or move it away; "
                "then the rules begin with what the journal still holds, and build it up anew."
            )
        return (
            f"The rules' state {self._path} cannot be used now ({error}): free its disk if it is "
            "full, and check who may write it. Nothing of this was stored."
        )

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    create_private(path)
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.executescript(_SCHEMA)
        found = connection.execute("SELECT format FROM meta").fetchone()
        if found and found[0] != FORMAT:
            raise DatabaseUnavailableError(
                f"The rules' state {path} is kept in format {found[0]}; this version reads {FORMAT}. "
                "Start the version that wrote it."
            )
    except BaseException:
        connection.close()
        raise
    return connection


def _position(connection: sqlite3.Connection) -> int:
    found = connection.execute("SELECT position FROM meta").fetchone()
    return found[0] if found else 0


def _load(connection: sqlite3.Connection) -> tuple[int, list[tuple[str, bytes]]]:
    with _transaction(connection, "BEGIN"):
        states = connection.execute("SELECT device, state FROM states ORDER BY device").fetchall()
        return _position(connection), states


_ONE = "SELECT device, state FROM states WHERE device = ? OR (device >= '/' AND device < '0') ORDER BY device"


def _load_one(connection: sqlite3.Connection, device: str) -> tuple[int, list[tuple[str, bytes]]]:
    with _transaction(connection, "BEGIN"):
        return _position(connection), connection.execute(_ONE, (device,)).fetchall()


def _save(connection: sqlite3.Connection, position: int, states: Sequence[tuple[str, bytes]]) -> None:
    with _transaction(connection, "BEGIN IMMEDIATE"):
        connection.executemany(_PUT_STATE, sorted(states))
        connection.execute(_PUT_POSITION, (position, FORMAT))


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.execute("COMMIT")
