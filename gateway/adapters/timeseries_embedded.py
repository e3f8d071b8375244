"""The time series in one SQLite file: a row per message, written by appending, folded in order later.

Inserting by (device, ts) touches a page per device; appending does not. So what is written goes to the end of
`recent`, and when that has grown, one statement moves it in sorted order into `readings`. Both are read
together. The position of the journal's reader is committed with the rows, so that each is there exactly once.
Rows of the same device and time are merged: of each signal the value written last counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from gateway.domain.messages import Batch
from gateway.ports import StoreUnavailableError
from rules.readings import Value

FORMAT = 1
PAGE_SIZE = 8192
CHECKPOINT_PAGES = 2048
FOLD_ROWS = 40_000
"""Rows in `recent` that are worth folding: the larger, the cheaper to write and the dearer to read."""
KNOWN_DEVICES = 100_000
"""Devices whose number and signal names are kept in memory."""
PRUNE_EVERY = 3600.0
"""Seconds between two looks for readings that are older than they may get."""
DAY = 86_400_000
ENDLESS = 2**62
"""A time that never comes, ms."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS devices (no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS signals (
    device INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (device, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS recent (
    id INTEGER PRIMARY KEY, device INTEGER NOT NULL, ts INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS readings (
    device INTEGER NOT NULL, ts INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (device, ts)
) WITHOUT ROWID;
"""

FOLD = """
INSERT INTO readings SELECT device, ts, body FROM recent WHERE true ORDER BY device, ts, id
ON CONFLICT (device, ts) DO UPDATE SET
body = CAST(json_patch(CAST(body AS TEXT), CAST(excluded.body AS TEXT)) AS BLOB)
"""

_encode = msgspec.json.Encoder().encode
_decode: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder(dict[str, Any]).decode
T = TypeVar("T")
Row = tuple[int, int, bytes]
"""(device number, ts, signals as JSON)."""


class _Writer:
    """What the writing thread does with the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._devices: dict[str, tuple[int, set[str]]] = {}
        self._recent = 0
        self._pruned = 0.0

    def connection(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = _open(self._path)
            for statement in SCHEMA.split(";\n"):
                self._connection.execute(statement)
            _check_format(self._connection, self._path)
            self._recent = self._connection.execute("SELECT count(*) FROM recent").fetchone()[0]
        return self._connection

    def close(self) -> None:
        """Also forgets what memory knows of the file, for the transaction that failed may have said so."""
        self._devices.clear()
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def write(self, batches: Sequence[Batch], position: int) -> None:
        """Rows and position in one transaction."""
        connection = self.connection()
        with _transaction(connection):
            rows = list(self._rows(connection, batches))
            connection.executemany("INSERT INTO recent (device, ts, body) VALUES (?, ?, ?)", rows)
            _put(connection, "position", position)
        self._recent += len(rows)
        if self._recent >= FOLD_ROWS:
            self.fold()

    def _rows(self, connection: sqlite3.Connection, batches: Iterable[Batch]) -> Iterator[Row]:
        devices, encode = self._devices, _encode
        for batch in batches:
            for _, device, items in batch.decoded.recordable:
                known = devices.get(device)
                if known is None:
                    known = self._learn_device(connection, device)
                no, names = known
                for ts, signals in items:
                    if not signals.keys() <= names:
                        _learn_signals(connection, no, names, signals)
                    yield no, ts, encode(signals)

    def _learn_device(self, connection: sqlite3.Connection, device: str) -> tuple[int, set[str]]:
        if len(self._devices) >= KNOWN_DEVICES:
            self._devices.clear()
        connection.execute("INSERT OR IGNORE INTO devices (id) VALUES (?)", (device,))
        no = connection.execute("SELECT no FROM devices WHERE id = ?", (device,)).fetchone()[0]
        names = connection.execute("SELECT name FROM signals WHERE device = ?", (no,)).fetchall()
        self._devices[device] = known = (no, {name for (name,) in names})
        return known

    def fold(self) -> None:
        """Move what was appended to where it belongs; now and then end what is too old."""
        connection = self.connection()
        with _transaction(connection):
            connection.execute(FOLD)
            connection.execute("DELETE FROM recent")
        self._recent = 0
        if time.monotonic() - self._pruned > PRUNE_EVERY:
            self._pruned = time.monotonic()
            self._prune(connection)

    def _prune(self, connection: sqlite3.Connection) -> None:
        days = _get(connection, "retention_days")
        if not days:
            return
        before = time.time_ns() // 1_000_000 - days * DAY
        for (no,) in connection.execute("SELECT no FROM devices").fetchall():
            connection.execute("DELETE FROM readings WHERE device = ? AND ts < ?", (no, before))

    def retain(self, days: int) -> None:
        """Set how long readings are kept; 0 for ever."""
        _put(self.connection(), "retention_days", days)


class _Reader:
    """What the reading thread does with the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def connection(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = _open(self._path)
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def position(self) -> int:
        return _get(self.connection(), "position") or 0

    def values(
        self, device: str, signal: str, start: int, end: int
    ) -> Generator[tuple[int, Value], None, None]:
        """(ts, value) in order; both tables as of one moment, what came later wins."""
        connection = self.connection()
        no = _number(connection, device)
        if no is None:
            return
        key = _encode(signal) + b":"
        where = "device = ? AND ts >= ? AND ts < ? AND instr(body, ?)"
        arguments = (no, start, end, key)
        with _transaction(connection, "BEGIN"):
            fresh: dict[int, Value] = {}
            for ts, body in connection.execute(
                f"SELECT ts, body FROM recent WHERE {where} ORDER BY id", arguments
            ):
                signals = _decode(body)
                if signal in signals:
                    fresh[ts] = signals[signal]
            rows = connection.execute(f"SELECT ts, body FROM readings WHERE {where} ORDER BY ts", arguments)
            try:
                yield from _merge(_of_signal(rows, signal), sorted(fresh.items()))
            finally:
                rows.close()

    def readings(self, device: str, signal: str, start: int, end: int, limit: int) -> list[tuple[int, Value]]:
        found: list[tuple[int, Value]] = []
        with contextlib.closing(self.values(device, signal, start, end)) as values:
            for item in values:
                if len(found) >= limit:
                    break
                found.append(item)
        return found

    def aggregates(
        self, device: str, signal: str, start: int, end: int, every: int
    ) -> list[tuple[int, float, float, float, int]]:
        found: dict[int, list[float]] = {}
        for ts, value in self.values(device, signal, start, end):
            if isinstance(value, int | float) and not isinstance(value, bool):
                interval = found.setdefault(ts - ts % every, [value, 0.0, value, 0])
                interval[0] = min(interval[0], value)
                interval[1] += value
                interval[2] = max(interval[2], value)
                interval[3] += 1
        return [
            (ts, float(low), total / count, float(high), int(count))
            for ts, (low, total, high, count) in found.items()
        ]

    def latest(self, device: str) -> dict[str, tuple[int, Value]]:
        """From the newest row back until every signal was seen that the device ever sent."""
        connection = self.connection()
        no = _number(connection, device)
        found: dict[str, tuple[int, Value]] = {}
        if no is None:
            return found
        with _transaction(connection, "BEGIN"):
            names = connection.execute("SELECT name FROM signals WHERE device = ?", (no,)).fetchall()
            missing = {name for (name,) in names}
            fresh = connection.execute("SELECT ts, body FROM recent WHERE device = ? ORDER BY id", (no,))
            for ts, body in fresh:
                for name, value in _decode(body).items():
                    if name not in found or found[name][0] <= ts:
                        found[name] = (ts, value)
            rows = connection.execute(
                "SELECT ts, body FROM readings WHERE device = ? ORDER BY ts DESC", (no,)
            )
            for ts, body in rows:
                signals = _decode(body)
                for name in missing & signals.keys():
                    if name not in found or found[name][0] < ts:
                        found[name] = (ts, signals[name])
                    missing.discard(name)
                if not missing:
                    break
            rows.close()
        return found


class EmbeddedTimeSeries:
    """Port TimeSeries over one SQLite file, which opens when it is first used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer, self._reader = _Writer(path), _Reader(path)
        self._write_thread = ThreadPoolExecutor(1, "timeseries-write")
        self._read_thread = ThreadPoolExecutor(1, "timeseries-read")
        self._made = False

    async def prepare(self, retention_days: int = 0) -> str:
        """Create the file and set how long readings are kept (0: for ever); gives a line for people."""
        await self._write(self._writer.retain, retention_days)
        kept = f"readings end after {retention_days} days" if retention_days else "readings are kept"
        return f"embedded in {self._path}: ready, {kept}"

    async def write(
        self, batches: Sequence[Batch], kinds: Callable[[str], tuple[str, str]], position: int
    ) -> Sequence[tuple[str, str]]:
        """All telemetry and the position in one transaction; nothing is ever refused."""
        await self._write(self._writer.write, batches, position)
        return ()

    async def position(self) -> int | None:
        """The position committed with the rows, 0 before the first."""
        return await self._read(self._reader.position)

    async def readings(
        self, device: str, signal: str, *, start: int | None, end: int | None, after: int | None, limit: int
    ) -> list[tuple[int, Value]]:
        """(ts, value) ordered by ts, start <= ts < end, ts > after; one row per ts."""
        low = max(start if start is not None else -ENDLESS, after + 1 if after is not None else -ENDLESS)
        high = end if end is not None else ENDLESS
        return await self._read(self._reader.readings, device, signal, low, high, limit)

    async def aggregates(
        self, device: str, signal: str, *, start: int, end: int, every: int
    ) -> list[tuple[int, float, float, float, int]]:
        """(start of the interval, min, mean, max, count); intervals begin at multiples of `every` ms."""
        return await self._read(self._reader.aggregates, device, signal, start, end, every)

    async def latest(self, device: str) -> Mapping[str, tuple[int, Value]]:
        """The newest value of every signal of one device."""
        return await self._read(self._reader.latest, device)

    async def check(self) -> str:
        """One line for doctor. Raises StoreUnavailableError."""
        position = await self.position()
        size = self._path.stat().st_size
        return f"embedded in {self._path}: {size / 1e6:,.1f} MB, at position {position}"

    async def close(self) -> None:
        """Close the file."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._write_thread, self._writer.close)
        await loop.run_in_executor(self._read_thread, self._reader.close)
        self._write_thread.shutdown()
        self._read_thread.shutdown()

    async def _write(self, work: Callable[..., T], *arguments: Any) -> T:
        answer = await self._in(self._write_thread, self._writer.close, work, arguments)
        self._made = True
        return answer

    async def _read(self, work: Callable[..., T], *arguments: Any) -> T:
        if not self._made:
            await self._write(self._writer.connection)
        return await self._in(self._read_thread, self._reader.close, work, arguments)

    async def _in(
        self, thread: ThreadPoolExecutor, forget: Callable[[], None], work: Callable[..., T], arguments: Any
    ) -> T:
        def run() -> T:
            try:
                return work(*arguments)
            except sqlite3.Error as error:
                forget()
                raise _unavailable(self._path, error) from error

        return await asyncio.get_running_loop().run_in_executor(thread, run)


# --- SQL ------------------------------------------------------------------------------------------


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=False)
    for pragma in (
        f"page_size = {PAGE_SIZE}",
        "journal_mode = WAL",
        "synchronous = FULL",
        f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
        f"journal_size_limit = {2 * CHECKPOINT_PAGES * PAGE_SIZE}",
        "cache_size = -32000",
    ):
        connection.execute(f"PRAGMA {pragma}").close()
    return connection


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        raise


def _get(connection: sqlite3.Connection, key: str) -> int | None:
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return int(row[0]) if row else None


def _put(connection: sqlite3.Connection, key: str, value: int) -> None:
    connection.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
    )


def _check_format(connection: sqlite3.Connection, path: Path) -> None:
    found = _get(connection, "format")
    if found is None:
        _put(connection, "format", FORMAT)
    elif found != FORMAT:
        raise StoreUnavailableError(
            f"{path} has format {found}, this program knows {FORMAT}: run `touchpoint setup`, it migrates"
        )


def _number(connection: sqlite3.Connection, device: str) -> int | None:
    row = connection.execute("SELECT no FROM devices WHERE id = ?", (device,)).fetchone()
    return int(row[0]) if row else None


def _learn_signals(
    connection: sqlite3.Connection, no: int, names: set[str], signals: Mapping[str, Value]
) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO signals VALUES (?, ?)", [(no, name) for name in signals.keys() - names]
    )
    names.update(signals)


def _of_signal(rows: Iterable[tuple[int, bytes]], signal: str) -> Iterator[tuple[int, Value]]:
    for ts, body in rows:
        signals = _decode(body)
        if signal in signals:
            yield ts, signals[signal]


def _merge(
    folded: Iterator[tuple[int, Value]], fresh: Sequence[tuple[int, Value]]
) -> Iterator[tuple[int, Value]]:
    """Two sequences in order of ts as one; of the same ts the fresh one."""
    index = 0
    for ts, value in folded:
        while index < len(fresh) and fresh[index][0] < ts:
            yield fresh[index]
            index += 1
        if index == len(fresh) or fresh[index][0] != ts:
            yield ts, value
    yield from fresh[index:]


def _unavailable(path: Path, error: sqlite3.Error) -> StoreUnavailableError:
    text = str(error)
    if "full" in text or "disk I/O" in text:
        todo = f"free space on the disk that holds {path.parent}"
    elif "readonly" in text or "unable to open" in text:
        todo = f"make {path.parent} exist and be writable for this user"
    else:
        todo = f"look at {path.parent}"
    return StoreUnavailableError(f"{path}: {text}: {todo}")
