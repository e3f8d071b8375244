"""The time series in one SQLite file: what was written last as it came, everything older by device.

A row per message costs more than all the rest of the path, and so does encoding again what a device has
encoded. So a reading is kept as the payload that brought it, and a write is one row of `recent`, holding them
by device; when enough of them have gathered, they are folded into `stretches`: up to a thousand readings of
one device, from one day, in the order of their time. Both are read together. The
position of the journal's reader is committed with the row, so that each reading is there exactly once. Of
readings of the same device and time the value written last counts, signal by signal.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sqlite3
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from gateway.adapters.private_file import create_private
from gateway.domain.messages import Batch, Names
from gateway.domain.plotting import Courses, Interval, Kept, Plotting, Wanted, windows
from gateway.ports import StoreUnavailableError
from rules.readings import Value

FORMAT = 2
PAGE_SIZE = 16_384
"""Bytes; of a new file, an older one keeps its own. In smaller pages a third stays empty, for a stretch of a
device that was just folded fills most of one."""
CHECKPOINT_PAGES = 1024
FOLD_READINGS, FOLD_BYTES, FOLD_WRITES = 25_000, 32_000_000, 500
"""How much gathers in `recent` before it is folded: the more, the cheaper to write and the dearer to read. A
write of a busy second is folded at once, and not written twice."""
RECENT_KEPT = 8_000_000
"""bytes of `recent` that a reader keeps by device"""
PLOTTED_KEPT = 200_000
"""points of courses that a reader keeps, 16 bytes each"""
STRETCH = 1_000
"""Most readings in one stretch."""
DAY = 86_400_000
"""ms; no stretch reaches over a day's end, so whoever looks for a time knows where stretches may begin."""
KNOWN_DEVICES = 100_000
"""Devices whose number and signal names are kept in memory."""
PRUNE_EVERY = 3600.0
"""Seconds between two looks for readings that are older than they may get."""
ENDLESS = 2**62
"""A time that never comes, ms."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS devices (no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS signals (
    device INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (device, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS recent (
    id INTEGER PRIMARY KEY,
    body BLOB NOT NULL       -- msgpack {device number: [[ts, JSON {"ts": ts, "signals": {signal: value}}]]}
);
CREATE TABLE IF NOT EXISTS stretches (
    id INTEGER PRIMARY KEY,  -- of the same time the later stretch counts
    device INTEGER NOT NULL,
    first INTEGER NOT NULL,  -- ms
    last INTEGER NOT NULL,   -- ms
    body BLOB NOT NULL       -- JSON [{"ts": ts, "signals": {signal: value}}] by ts
);
CREATE INDEX IF NOT EXISTS stretch_of_device ON stretches (device, first, last);
"""

Entry = tuple[int, bytes]
"""(ts, the reading as JSON)"""


class _Reading(msgspec.Struct, gc=False):
    ts: int
    signals: dict[str, Any]


class _Device:
    __slots__ = ("names", "no")

    def __init__(self, no: int, names: set[str]) -> None:
        self.no = no
        self.names = names
        """of its signals, as far as they are in the file"""


class _Fresh:
    """What one device sent, in the order of writing."""

    __slots__ = ("entries", "last", "names")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.names: set[str] = set()
        """of all signals in it"""
        self.last: Names | None = None
        """those that came last"""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[_Reading]).decode
_decode_first = msgspec.json.Decoder(list[tuple[int, dict[str, Any]]]).decode
_pack = msgspec.msgpack.Encoder().encode
_unpack_all = msgspec.msgpack.Decoder(dict[int, list[Entry]]).decode
_unpack_raw = msgspec.msgpack.Decoder(dict[int, msgspec.Raw]).decode
_unpack_entries = msgspec.msgpack.Decoder(list[Entry]).decode
_unpack_first = msgspec.msgpack.Decoder(dict[int, bytes]).decode
T = TypeVar("T")
_ts = itemgetter(0)


class _Writer:
    """What the writing thread does with the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._devices: dict[str, _Device] = {}
        self._forget_gathered()
        self._pruned = -math.inf  # not 0: the machine may have been started just now

    def connection(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = _open(self._path)
            for statement in SCHEMA.split(";\n"):
                self._connection.execute(statement)
            _take_format(self._connection, self._path)
            self._gather_again(self._connection)
        return self._connection

    def close(self) -> None:
        """Also forgets what memory knows of the file, for the transaction that failed may have said so."""
        self._devices.clear()
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def write(self, fresh: Mapping[str, _Fresh], position: int) -> None:
        """One row and the position in one transaction; or, when that makes it enough, all that has gathered
        to where it belongs."""
        connection = self.connection()
        with _transaction(connection):
            entries = {self._known(connection, *of): of[1].entries for of in fresh.items()}
            self._gather(entries)
            if enough := self._enough():
                _fold(connection, self._gathered)
            elif entries:
                body = _pack(entries)
                self._bytes += len(body)
                connection.execute("INSERT INTO recent (body) VALUES (?)", (body,))
            _put(connection, "position", position)
        if enough:
            self._forget_gathered()
            self._prune(connection)

    def _enough(self) -> bool:
        return self._readings >= FOLD_READINGS or self._bytes >= FOLD_BYTES or self._writes >= FOLD_WRITES

    def _known(self, connection: sqlite3.Connection, device: str, fresh: _Fresh) -> int:
        """The device's; it and its signals are in the file from now on."""
        known = self._devices.get(device) or self._learn_device(connection, device)
        if not known.names.issuperset(fresh.names):
            _learn_signals(connection, known, fresh.names)
        return known.no

    def _learn_device(self, connection: sqlite3.Connection, device: str) -> _Device:
        if len(self._devices) >= KNOWN_DEVICES:
            self._devices.clear()
        connection.execute("INSERT OR IGNORE INTO devices (id) VALUES (?)", (device,))
        no = connection.execute("SELECT no FROM devices WHERE id = ?", (device,)).fetchone()[0]
        names = connection.execute("SELECT name FROM signals WHERE device = ?", (no,)).fetchall()
        self._devices[device] = known = _Device(no, {name for (name,) in names})
        return known

    def _gather(self, entries: Mapping[int, list[Entry]]) -> None:
        """Remember for the next fold what is being written; when that fails, `close` forgets it."""
        self._writes += 1
        for no, of in entries.items():
            self._readings += len(of)
            self._gathered.setdefault(no, []).extend(of)

    def _gather_again(self, connection: sqlite3.Connection) -> None:
        """The same from the file, for what another process had written."""
        self._forget_gathered()
        for (body,) in connection.execute("SELECT body FROM recent ORDER BY id"):
            self._gather(_unpack_all(body))
            self._bytes += len(body)

    def _forget_gathered(self) -> None:
        self._gathered: dict[int, list[Entry]] = {}
        self._readings = self._bytes = self._writes = 0

    def _prune(self, connection: sqlite3.Connection) -> None:
        """End now and then what is too old."""
        if time.monotonic() - self._pruned < PRUNE_EVERY:
            return
        self._pruned = time.monotonic()
        days = _get(connection, "retention_days")
        if not days:
            return
        before = time.time_ns() // 1_000_000 - days * DAY
        with _transaction(connection):
            for (no,) in connection.execute("SELECT no FROM devices").fetchall():
                connection.execute(
                    "DELETE FROM stretches WHERE device = ? AND first < ? AND last < ?", (no, before, before)
                )
            _count(connection, "taken")

    def erase(self, device: str, start: int, end: int) -> None:
        """End a device's readings of these times. What has gathered is folded before, so that all lies in
        stretches."""
        connection = self.connection()
        connection.execute("PRAGMA secure_delete = ON").close()
        with _transaction(connection):
            _fold(connection, self._gathered)
            no = _number(connection, device)
            if no is not None:
                _erase(connection, no, start, end)
            _count(connection, "taken")
        self._forget_gathered()
        self._devices.pop(device, None)
        connection.execute("PRAGMA secure_delete = OFF").close()

    def retain(self, days: int) -> None:
        """Set how long readings are kept; 0 for ever."""
        _put(self.connection(), "retention_days", days)


def _stretches(entries: Sequence[Entry]) -> Iterator[tuple[int, int, bytes]]:
    """(first, last, body) by ts, of at most one day and STRETCH readings each; what was written later of one
    ts comes later."""
    entries = sorted(entries, key=_ts)
    start = 0
    while start < len(entries):
        end = min(start + STRETCH, len(entries))
        tomorrow = entries[start][0] - entries[start][0] % DAY + DAY
        if entries[end - 1][0] >= tomorrow:
            end = bisect_left(entries, tomorrow, start, end, key=_ts)
        body = b"[" + b",".join([reading for _, reading in entries[start:end]]) + b"]"
        yield entries[start][0], entries[end - 1][0], body
        start = end


def _readings(body: bytes) -> Sequence[tuple[int, dict[str, Any]]]:
    """(ts, signals) of a stretch, also of one that format 1 had written."""
    if body.startswith(b"[["):
        return _decode_first(body)
    return [(reading.ts, reading.signals) for reading in _decode(body)]


class _Recent:
    """What is not folded yet, by device: read once and then only what was added, for every page looks here.
    More than RECENT_KEPT bytes are not kept, and looked through each time."""

    def __init__(self) -> None:
        self._folded: int | None = None
        self._clear()

    def _clear(self) -> None:
        self._last = self._bytes = 0
        self._by_device: dict[int, list[tuple[int, msgspec.Raw]]] = {}

    def _refresh(self, connection: sqlite3.Connection) -> bool:
        """Take in what was written since; whether all of it is kept."""
        folded = _get(connection, "folded")
        if folded != self._folded:
            self._clear()
            self._folded = folded
        if self._bytes > RECENT_KEPT:
            return False
        for number, body in connection.execute(
            "SELECT id, body FROM recent WHERE id > ? ORDER BY id", (self._last,)
        ):
            self._last = number
            self._bytes += len(body)
            if self._bytes > RECENT_KEPT:
                self._by_device = {}
                return False
            for no, of in _unpack_raw(body).items():
                self._by_device.setdefault(no, []).append((number, of))
        return True

    def last(self, connection: sqlite3.Connection, no: int) -> tuple[int | None, int | None]:
        """(number of the fold, of the row) that something of a device was written after and in; nothing where
        all of it is folded."""
        if not self._refresh(connection):
            newest = connection.execute("SELECT max(id) FROM recent").fetchone()[0]
            return self._folded, newest
        found = self._by_device.get(no)
        return (self._folded, found[-1][0]) if found else (None, None)

    def of(self, connection: sqlite3.Connection, no: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """One device's readings in the order they were written."""
        for entries in self._entries(connection, no):
            yield from _readings(b"[%b]" % b",".join([reading for _, reading in _unpack_entries(entries)]))

    def _entries(self, connection: sqlite3.Connection, no: int) -> Iterator[msgspec.Raw]:
        if self._refresh(connection):
            yield from [entries for _, entries in self._by_device.get(no, ())]
            return
        for (body,) in connection.execute("SELECT body FROM recent ORDER BY id").fetchall():
            entries = _unpack_raw(body).get(no)
            if entries is not None:
                yield entries


class _Reader:
    """What the reading thread does with the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._forget()

    def _forget(self) -> None:
        self._recent = _Recent()
        self._plots = Kept(PLOTTED_KEPT)

    def connection(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = _open(self._path)
        return self._connection

    def close(self) -> None:
        """Also forgets what memory knows of the file."""
        self._forget()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def plotted(self, wanted: Sequence[Wanted], back: int, now: int) -> list[Courses]:
        """What was drawn once is not read again while nothing was added to it or taken from it."""
        connection = self.connection()
        with _transaction(connection, "BEGIN"):
            return [self._plot(connection, *one, back, now) for one in wanted]

    def _plot(
        self,
        connection: sqlite3.Connection,
        device: str,
        signals: Sequence[str],
        within: Sequence[Interval],
        back: int,
        now: int,
    ) -> Courses:
        """All these signals in one walk through the device's readings."""
        no = _number(connection, device)
        if no is None:
            return {}
        key, as_of = (no, tuple(signals), tuple(within), back), self._as_of(connection, no)
        known = self._plots.get(key, as_of, now)
        if known is not None:
            return known
        plotting = Plotting(signals, now)
        for start, end in windows(within, now, back):
            for ts, values in self._rows(connection, no, frozenset(signals), start, end):
                plotting.take(ts, values, end)
            plotting.close(end)
        until = now if self._ahead(connection, no, now) else plotting.until(back)
        self._plots.put(key, as_of, now, until, plotting.points())
        return plotting.points()

    def _as_of(self, connection: sqlite3.Connection, no: int) -> tuple[int | None, ...]:
        """What changes whenever a device's readings do: the last of its stretches and how many there are, the
        last write that holds something of it, and what was taken out of stretches."""
        newest = connection.execute("SELECT max(id), count(*) FROM stretches WHERE device = ?", (no,))
        return (*newest.fetchone(), *self._recent.last(connection, no), _get(connection, "taken"))

    def _ahead(self, connection: sqlite3.Connection, no: int, now: int) -> bool:
        """Whether there are readings from times to come, which will be shown when their time has come."""
        found = connection.execute(
            "SELECT 1 FROM stretches WHERE device = ? AND first > ? AND last > ?", (no, now - DAY, now)
        ).fetchone()
        return found is not None or any(ts > now for ts, _ in self._recent.of(connection, no))

    def _rows(
        self, connection: sqlite3.Connection, no: int, wanted: frozenset[str], start: int, end: int
    ) -> Iterator[tuple[int, dict[str, Value]]]:
        """(ts, the wanted signals) in order; of the same time the value written last counts."""
        fresh: dict[int, dict[str, Value]] = {}
        for ts, signals in self._recent.of(connection, no):
            if start <= ts < end:
                fresh.setdefault(ts, {}).update(_picked(signals, wanted))
        folded = self._folded_rows(connection, no, wanted, start, end)
        with contextlib.closing(folded):
            for ts, old, new in _merged(folded, sorted(fresh.items())):
                yield ts, {**old, **new}

    def _folded_rows(
        self, connection: sqlite3.Connection, no: int, wanted: frozenset[str], start: int, end: int
    ) -> Generator[tuple[int, dict[str, Value]], None, None]:
        """From the stretches, which may overlap where readings came late."""
        waiting: dict[int, dict[str, tuple[int, Value]]] = {}
        rows = connection.execute(
            "SELECT first, id, body FROM stretches WHERE device = ? AND first > ? AND first < ? "
            "AND last >= ? ORDER BY first, id",
            (no, start - DAY, end, start),
        )
        for first, id_, body in rows:
            for ts in sorted(ts for ts in waiting if ts < first):
                yield ts, {name: value for name, (_, value) in waiting.pop(ts).items()}
            for ts, signals in _readings(body):
                if start <= ts < end:
                    known = waiting.setdefault(ts, {})
                    for name, value in _picked(signals, wanted).items():
                        if name not in known or known[name][0] <= id_:
                            known[name] = (id_, value)
        for ts in sorted(waiting):
            yield ts, {name: value for name, (_, value) in waiting[ts].items()}

    def position(self) -> int:
        return _get(self.connection(), "position") or 0

    def values(
        self, device: str, signal: str, start: int, end: int
    ) -> Generator[tuple[int, Value], None, None]:
        """(ts, value) in order; both tables as of one moment, what was written later counts."""
        connection = self.connection()
        no = _number(connection, device)
        if no is None:
            return
        with _transaction(connection, "BEGIN"):
            fresh = {
                ts: signals[signal]
                for ts, signals in self._recent.of(connection, no)
                if signal in signals and start <= ts < end
            }
            folded = self._folded(connection, no, signal, start, end)
            try:
                yield from _merge(folded, sorted(fresh.items()))
            finally:
                folded.close()

    def _folded(
        self, connection: sqlite3.Connection, no: int, signal: str, start: int, end: int
    ) -> Generator[tuple[int, Value], None, None]:
        """From the stretches, which may overlap where readings came late."""
        waiting: dict[int, tuple[int, Value]] = {}
        rows = connection.execute(
            "SELECT first, id, body FROM stretches WHERE device = ? AND first > ? AND first < ? "
            "AND last >= ? AND (instr(body, ?) OR instr(body, ?)) ORDER BY first, id",
            (no, start - DAY, end, start, _encode(signal), b"\\"),  # the same name may be escaped otherwise
        )
        for first, no, body in rows:
            for ts in sorted(ts for ts in waiting if ts < first):
                yield ts, waiting.pop(ts)[1]
            for ts, signals in _readings(body):
                if signal in signals and start <= ts < end and waiting.get(ts, (0,))[0] <= no:
                    waiting[ts] = (no, signals[signal])
        for ts in sorted(waiting):
            yield ts, waiting[ts][1]

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
        """From the newest back until every signal was seen that the device ever sent."""
        connection = self.connection()
        no = _number(connection, device)
        found: dict[str, tuple[int, Value]] = {}
        if no is None:
            return found
        with _transaction(connection, "BEGIN"):
            _take_newest(found, self._recent.of(connection, no))
            of = connection.execute("SELECT count(*) FROM signals WHERE device = ?", (no,)).fetchone()[0]
            folded: dict[str, tuple[int, Value]] = {}
            rows = connection.execute(
                "SELECT first, body FROM stretches WHERE device = ? ORDER BY first DESC, id DESC", (no,)
            )
            for first, body in rows:
                if len(folded) == of and first + DAY < min(ts for ts, _ in folded.values()):
                    break  # nothing that began earlier can hold anything newer
                _take_newest(folded, reversed(_readings(body)), keep=True)
            rows.close()
        _take_newest(folded, ((ts, {name: value}) for name, (ts, value) in found.items()))
        return folded


def _take_newest(
    found: dict[str, tuple[int, Value]],
    readings: Iterable[tuple[int, Mapping[str, Value]]],
    *,
    keep: bool = False,
) -> None:
    """Put each signal's newest value into `found`; of the same time the last seen, with `keep` the first."""
    for ts, signals in readings:
        for name, value in signals.items():
            held = found.get(name)
            if held is None or held[0] < ts or (held[0] == ts and not keep):
                found[name] = (ts, value)


class _Gathering:
    """Port Gathering: readings by device, as they were sent."""

    def __init__(self, write: Callable[[Mapping[str, _Fresh], int], Awaitable[None]]) -> None:
        self._write = write
        self._fresh: dict[str, _Fresh] = {}
        self.messages = 0

    def add(self, batch: Batch) -> None:
        """Take in the telemetry of one more batch."""
        for _, device, ts, signals, names, sent in batch.decoded.recordable:
            fresh = self._fresh.get(device)
            if fresh is None:
                fresh = self._fresh[device] = _Fresh()
            if names is None or names is not fresh.last:
                fresh.names.update(signals)
                fresh.last = names
            fresh.entries.append((ts, sent or _encode({"ts": ts, "signals": signals})))
        self.messages += batch.decoded.messages

    async def write(self, position: int) -> Sequence[tuple[str, str]]:
        """All of it and the position in one transaction; nothing is ever refused."""
        await self._write(self._fresh, position)
        return ()


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

    def gather(self, kinds: Callable[[str], tuple[str, str]]) -> _Gathering:
        """Begin to gather what is to be written together; kinds make no difference here."""
        return _Gathering(partial(self._write, self._writer.write))

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

    async def plotted(self, wanted: Sequence[Wanted], *, back: int, now: int) -> Sequence[Courses]:
        """The courses of numbers as charts draw them."""
        return await self._read(self._reader.plotted, wanted, back, now)

    async def latest(self, device: str) -> Mapping[str, tuple[int, Value]]:
        """The newest value of every signal of one device."""
        return await self._read(self._reader.latest, device)

    async def erase(self, device: str, start: int, end: int) -> None:
        """End a device's readings of start <= ts < end."""
        await self._write(self._writer.erase, device, start, end)

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
    with contextlib.suppress(OSError):  # SQLite says what is wrong
        create_private(path)
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


def _count(connection: sqlite3.Connection, key: str) -> None:
    """One more: how often `recent` was folded, how often something was taken out of stretches. By these a
    reader knows what it may still believe."""
    _put(connection, key, (_get(connection, key) or 0) + 1)


def _take_format(connection: sqlite3.Connection, path: Path) -> None:
    """Bring what was written in an older format up to this one. Raises StoreUnavailableError."""
    with _transaction(connection):
        found = _get(connection, "format")
        if found == 1:
            _fold_first(connection)
        elif found not in (None, FORMAT):
            raise StoreUnavailableError(
                f"{path} has format {found}, this program knows {FORMAT}: start the version that wrote it"
            )
        _put(connection, "format", FORMAT)


def _fold_first(connection: sqlite3.Connection) -> None:
    """Fold what format 1 had in `recent`: {device number: JSON [[ts, {signal: value}]] without brackets}.
    Its stretches are read as they are."""
    gathered: dict[int, list[Entry]] = {}
    for (packed,) in connection.execute("SELECT body FROM recent ORDER BY id"):
        for no, of in _unpack_first(packed).items():
            gathered.setdefault(no, []).extend(
                (ts, _encode({"ts": ts, "signals": signals})) for ts, signals in _decode_first(b"[%b]" % of)
            )
    _fold(connection, gathered)


def _fold(connection: sqlite3.Connection, gathered: Mapping[int, Sequence[Entry]]) -> None:
    """`gathered` is all that stands in `recent`."""
    connection.executemany(
        "INSERT INTO stretches (device, first, last, body) VALUES (?, ?, ?, ?)",
        [(no, *row) for no, of in gathered.items() for row in _stretches(of)],
    )
    connection.execute("DELETE FROM recent")
    _count(connection, "folded")


def _erase(connection: sqlite3.Connection, no: int, start: int, end: int) -> None:
    """Write the stretches anew that hold something of these times; a signal that nothing is left of is
    forgotten."""
    rows = connection.execute(
        "SELECT id, body FROM stretches WHERE device = ? AND first < ? AND last >= ?", (no, end, start)
    ).fetchall()
    for number, body in rows:
        kept = [(ts, signals) for ts, signals in _readings(body) if not start <= ts < end]
        if not kept:
            connection.execute("DELETE FROM stretches WHERE id = ?", (number,))
            continue
        fresh = b"[" + b",".join([_encode({"ts": ts, "signals": signals}) for ts, signals in kept]) + b"]"
        connection.execute(
            "UPDATE stretches SET first = ?, last = ?, body = ? WHERE id = ?",
            (kept[0][0], kept[-1][0], fresh, number),
        )
    left = {
        name
        for (body,) in connection.execute("SELECT body FROM stretches WHERE device = ?", (no,))
        for _, signals in _readings(body)
        for name in signals
    }
    known = [name for (name,) in connection.execute("SELECT name FROM signals WHERE device = ?", (no,))]
    gone = [(no, name) for name in known if name not in left]
    connection.executemany("DELETE FROM signals WHERE device = ? AND name = ?", gone)


def _number(connection: sqlite3.Connection, device: str) -> int | None:
    row = connection.execute("SELECT no FROM devices WHERE id = ?", (device,)).fetchone()
    return int(row[0]) if row else None


def _learn_signals(connection: sqlite3.Connection, device: _Device, names: Set[str]) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO signals VALUES (?, ?)", [(device.no, name) for name in names - device.names]
    )
    device.names.update(names)


def _picked(signals: Mapping[str, Value], wanted: frozenset[str]) -> dict[str, Value]:
    return {name: value for name, value in signals.items() if name in wanted}


def _merged(
    folded: Iterator[tuple[int, dict[str, Value]]], fresh: Sequence[tuple[int, dict[str, Value]]]
) -> Iterator[tuple[int, dict[str, Value], dict[str, Value]]]:
    """(ts, folded, fresh) of two sequences in order of ts."""
    index = 0
    for ts, values in folded:
        while index < len(fresh) and fresh[index][0] < ts:
            yield fresh[index][0], {}, fresh[index][1]
            index += 1
        same = index < len(fresh) and fresh[index][0] == ts
        yield ts, values, fresh[index][1] if same else {}
        index += same
    for ts, values in fresh[index:]:
        yield ts, {}, values


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
