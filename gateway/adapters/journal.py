"""The journal in one SQLite file: a row per batch, WAL, every commit on disk before it is acknowledged.

Positions are given out inside the `BEGIN IMMEDIATE` transaction, so several processes may append; the
newest row is never trimmed, for it carries the count on, and messages that the broker may send again are
trimmed late. Each process has one thread that writes and one that reads; the event loop never touches the
file.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from gateway.adapters.private_file import create_private
from gateway.domain.messages import BATCH_FORMAT, BATCH_FORMATS, Batch, Decoded, Message, PacketIds
from gateway.ports import JournalFullError, JournalWriteError

PAGE_SIZE = 16_384
"""Bytes; of a new file, an older one keeps its own. A row of a busy moment fills several: half as many of
double the size cost a sixth less, and a message that comes alone does not yet write much for nothing."""
CHECKPOINT_PAGES = 512
"""Pages of WAL after which SQLite moves them into the file: 8 MiB, a few fsyncs a minute under load."""

TOGETHER = 500
"""Most messages that readers get as one batch: what is decoded should still be in the processor's cache when
the rules take it. The same from memory and from the file: who goes on from there gets nothing twice."""
RECENT_MESSAGES = 40_000
RECENT_BYTES = 64 * 2**20
"""How much is kept in memory for readers that have caught up."""

PACKET_IDS = 65_535
REPEATABLE_BYTES = 64 * 2**20
SESSION_MS = 7 * 86_400_000
"""How much is kept behind all readers because the broker may send it again: as many messages as there are
packet ids (mosquitto 2.0 exceeds Receive Maximum when it resumes a session), so many bytes but at most a
quarter of the journal, and as long as a session lasts. Of what is larger, some may come twice."""

TRIM_EVERY = 1.0
POLL_EVERY = 0.4
"""Seconds of real time between trims (which also save the readers' positions), and between looks for
what other processes appended."""

KINDS: tuple[Literal["messages"], Literal["control"]] = ("messages", "control")

SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (
    first INTEGER PRIMARY KEY,  -- position of the first entry
    count INTEGER NOT NULL,
    received INTEGER NOT NULL,  -- ms
    kind INTEGER NOT NULL,      -- 0 messages, 1 control
    body BLOB NOT NULL          -- msgpack [format version, entries, session, packet ids]; the last two
                                -- only where there are any, and never in format 1
);
CREATE TABLE IF NOT EXISTS readers (name TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
"""

ERASED: Message = ("touchpoint/v1/-/touchpoint/erased", b"")
"""Stands where a message was that had to be erased: a topic of ours, which no decoder takes anything from."""

DROP = "DELETE FROM batches WHERE first + count - 1 <= ? AND first < (SELECT max(first) FROM batches)"

_encode = msgspec.msgpack.Encoder().encode
_split = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_decode_int = msgspec.msgpack.Decoder(int).decode
_decode_bytes = msgspec.msgpack.Decoder(bytes).decode
_decode_messages = msgspec.msgpack.Decoder(list[tuple[str, bytes]]).decode
_decode_controls = msgspec.msgpack.Decoder(list[dict[str, Any]]).decode


class JournalFormatError(Exception):
    """A batch was written by another version of this program: start the version that wrote it."""


Row = tuple[int, int, int, int, bytes]
"""(first, count, received, kind, body)."""


class _Named(NamedTuple):
    """A batch of messages that have packet ids."""

    first: int
    received: int
    size: int
    """bytes of the body"""
    packet_ids: PacketIds
    messages: msgspec.Raw


class _File:
    """What the two threads do with the file. Each instance belongs to one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._cleared = 0

    def connection(self) -> sqlite3.Connection:
        """The open connection; opened anew after an error."""
        if self._connection is None:
            self._connection = _open(self._path)
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def append(self, row: tuple[int, int, int, bytes], limit: int | None) -> int:
        """Append one row (count, received, kind, body); gives the position of its first entry."""
        connection = self.connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            if limit is not None and live_bytes(connection) + len(row[3]) > limit:
                raise JournalFullError(f"the journal holds {limit} bytes, its limit")
            first = _head(connection) + 1
            connection.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?)", (first, *row))
            connection.execute("COMMIT")
        except BaseException:
            _rollback(connection)
            raise
        return first

    def begin_after(self, position: int, now: int) -> bool:
        """Let the next entry follow `position` where the file ends before it; whether it did."""
        connection = self.connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            behind = _head(connection) < position
            if behind:
                body = _encode((BATCH_FORMAT, [{"type": "tick"}]))
                row = (position, 1, now, KINDS.index("control"), body)
                connection.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?)", row)
            connection.execute("COMMIT")
        except BaseException:
            _rollback(connection)
            raise
        return behind

    def trim(
        self, positions: Mapping[str, int], readers: Sequence[str], keep_from: int | None
    ) -> dict[str, int]:
        """Save `positions`, drop what every reader has taken, but no messages from `keep_from` on; gives all
        saved positions."""
        connection = self.connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            _save(connection, positions)
            saved, position = _positions(connection), self._cleared
            if all(name in saved for name in readers):
                position = min((saved[name] for name in readers), default=0)
                _drop(connection, position, keep_from, self._cleared)
            connection.execute("COMMIT")
            self._cleared = position
        except BaseException:
            _rollback(connection)
            raise
        return saved

    def erase(self, devices: Mapping[str, Sequence[tuple[int, int]]], upto: int) -> int:
        """Overwrite what these devices sent, by the time of reception; gives how many entries."""
        connection, number = self.connection(), 0
        connection.execute("PRAGMA secure_delete = ON").close()
        connection.execute("BEGIN IMMEDIATE")
        try:
            for device, spans in devices.items():
                for since, until in spans:
                    number += _overwrite(connection, device, since, until, upto)
            connection.execute("COMMIT")
        except BaseException:
            _rollback(connection)
            raise
        connection.execute("PRAGMA secure_delete = OFF").close()
        return number

    def read(self, after: int, limit: int) -> list[Row]:
        """Rows that hold what follows `after`, about `limit` entries."""
        rows: list[Row] = []
        cursor = self.connection().execute(
            "SELECT first, count, received, kind, body FROM batches WHERE first >= "
            "coalesce((SELECT max(first) FROM batches WHERE first <= ?), 0) ORDER BY first",
            (after + 1,),
        )
        for row in cursor:
            if row[0] + row[1] - 1 > after:
                rows.append(row)
                limit -= row[1]
            if limit <= 0:
                break
        cursor.close()
        return rows

    def named(self, size: int) -> Iterator[_Named]:
        """The batches with packet ids, newest first: as many messages as there are ids, until what has been
        looked at has `size` bytes."""
        messages = 0
        cursor = self.connection().execute(
            "SELECT first, received, body FROM batches WHERE kind = 0 ORDER BY first DESC"
        )
        with contextlib.closing(cursor):
            for first, received, body in cursor:
                size -= len(body)
                version, entries, *rest = _split(body)
                # What is older than a batch of format 1 is of that format, too.
                if size < 0 or messages >= PACKET_IDS or _decode_int(version) == 1:
                    return
                if rest:
                    named = _Named(first, received, len(body), _packet_ids(*rest), entries)
                    messages += named.packet_ids.count
                    yield named

    def by_packet_id(self, session: int, ids: Collection[int], size: int) -> dict[int, Message]:
        """The newest message under each of `ids`."""
        found: dict[int, Message] = {}
        for named in self.named(size):
            if named.packet_ids.session == session:
                numbers = enumerate(named.packet_ids.numbers())
                places = {number: index for index, number in numbers if number}
                wanted = [number for number in places if number in ids and number not in found]
                messages = _decode_messages(named.messages) if wanted else []
                found |= {number: messages[places[number]] for number in wanted}
            if len(found) == len(ids):
                break
        return found

    def look(self, readers: Sequence[str]) -> dict[str, Any]:
        """Head, first position that is not trimmed for readers, live bytes and readers as the file says."""
        connection = self.connection()
        positions = _positions(connection)
        (first,) = connection.execute(
            "SELECT coalesce((SELECT max(first) FROM batches WHERE first <= ?), min(first), 0) FROM batches",
            (min((positions.get(name, 0) for name in readers), default=0) + 1,),
        ).fetchone()
        return {
            "head": _head(connection),
            "first": first,
            "bytes": live_bytes(connection),
            "positions": positions,
        }


class _Repeatable:
    """The newest batches, of which the broker may send something again."""

    def __init__(self, size: int) -> None:
        self._largest = size
        self._messages = self._size = 0
        self._batches: deque[tuple[int, int, int, int]] = deque()

    @property
    def first(self) -> int | None:
        """Position of the oldest, None when there are none."""
        return self._batches[0][0] if self._batches else None

    def add(self, first: int, received: int, messages: int, size: int) -> None:
        """A batch that came after the others, with so many packet ids and bytes."""
        self._batches.append((first, received, messages, size))
        self._messages += messages
        self._size += size
        self.forget(received)

    def forget(self, now: int) -> None:
        """Let go of what cannot come again."""
        batches = self._batches
        while batches and (
            self._messages - batches[0][2] >= PACKET_IDS
            or self._size > self._largest
            or batches[0][1] < now - SESSION_MS
        ):
            _, _, messages, size = batches.popleft()
            self._messages -= messages
            self._size -= size


class SqliteJournal:
    """Port Journal over one SQLite file. It opens when it is first used, or by `async with SqliteJournal(…)`;
    `head`, `position` and `status` know nothing before."""

    def __init__(
        self,
        path: Path,
        *,
        readers: Sequence[str],
        decoder: Callable[[Batch], Decoded] | None = None,
        max_bytes: int = 2**30,
        poll: float = POLL_EVERY,
    ) -> None:
        """`readers` are all readers that trimming waits for, also those of other processes. `decoder` is what
        `Batch.decoded` uses. `max_bytes` bounds the live pages. `poll` is how often (s, real time) entries of
        other processes are looked for."""
        self._path, self._readers, self._decoder = path, tuple(readers), decoder
        self._max_bytes, self._poll = max_bytes, poll
        self._repeatable_bytes = min(REPEATABLE_BYTES, max_bytes // 4)
        self._repeatable = _Repeatable(self._repeatable_bytes)
        self._writer_file, self._reader_file = _File(path), _File(path)
        self._write_thread = ThreadPoolExecutor(1, "journal-write")
        self._read_thread = ThreadPoolExecutor(1, "journal-read")
        self._recent: deque[Batch] = deque()
        self._recent_messages = self._recent_bytes = 0
        self._events: list[asyncio.Event] = []
        self._positions: dict[str, int] = {}
        self._unsaved: dict[str, int] = {}
        self._head = self._first = self._bytes = 0
        self._trimmed = 0.0
        self._appending = asyncio.Lock()
        self._opening = asyncio.Lock()
        self._upkeep: asyncio.Task[None] | None = None

    # --- life ---------------------------------------------------------------------------------

    async def open(self) -> SqliteJournal:
        """Create the file when it is not there. Raises JournalWriteError, JournalFormatError."""
        async with self._opening:
            if self._upkeep is None:
                await self._open()
        return self

    async def _open(self) -> None:
        try:
            await self._in(self._write_thread, self._create)
            await self._refresh()
            rows = await self._in(self._read_thread, self._reader_file.read, self._head - 1, 1)
        except sqlite3.Error as error:
            raise _cannot(self._path, error) from error
        for row in rows:
            self._batch(row)  # refuses an unknown format before anything is appended behind it
        await self._in(self._read_thread, self._look_back)
        self._upkeep = asyncio.create_task(self._keep_up(), name="journal-upkeep")

    async def close(self) -> None:
        """Write the readers' positions and close the file."""
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)
            if self._unsaved:  # else trimming is another process's, which knows what may come again
                with contextlib.suppress(sqlite3.Error):
                    await self._trim()
        await self._in(self._write_thread, self._writer_file.close)
        await self._in(self._read_thread, self._reader_file.close)
        self._write_thread.shutdown()
        self._read_thread.shutdown()

    async def __aenter__(self) -> SqliteJournal:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def begin_after(self, position: int, now: int) -> bool:
        """A file that was moved away or restored from a backup must not give out positions again that readers
        have already passed: they would skip what stands there. Lets the next entry follow `position`; whether
        that was needed. Raises JournalWriteError."""
        await self.open()
        try:
            needed = await self._in(self._write_thread, self._writer_file.begin_after, position, now)
            await self._refresh()
        except sqlite3.Error as error:
            raise _cannot(self._path, error) from error
        return bool(needed)

    # --- append -------------------------------------------------------------------------------

    async def append(
        self, messages: Sequence[Message], received: int, packet_ids: PacketIds | None = None
    ) -> int:
        """Append one batch of messages, on disk when this returns; gives its first position.

        Raises JournalFullError, JournalWriteError; then nothing of it is stored.
        """
        batch = Batch(first=0, received=received, messages=messages, decoder=self._decoder)
        try:
            return await self._append(batch, messages, self._limit, packet_ids)
        except JournalFullError:
            await self._trim_or_raise()
            return await self._append(batch, messages, self._limit, packet_ids)

    def _limit(self) -> int | None:
        """None when every reader has taken everything: waiting would free nothing, so that even a batch
        larger than the limit has to pass."""
        return self._max_bytes if self._readers and self._passed() < self._head else None

    def _passed(self) -> int:
        """What every reader has taken is trimmed for all; what is kept of it is for `by_packet_id` alone."""
        return min((self.position(name) for name in self._readers), default=0)

    async def append_controls(self, controls: Sequence[Mapping[str, Any]], received: int) -> int:
        """The same for control entries; never refused for the size limit."""
        batch = Batch(first=0, received=received, kind="control", controls=controls)
        return await self._append(batch, controls, lambda: None)

    async def _append(
        self,
        batch: Batch,
        entries: Sequence[object],
        limit: Callable[[], int | None],
        packet_ids: PacketIds | None = None,
    ) -> int:
        if not entries:
            raise ValueError("a batch holds one entry at least")
        if self._upkeep is None:
            await self.open()
        named = () if packet_ids is None else (packet_ids.session, packet_ids.packed)
        body = _encode((BATCH_FORMAT, entries, *named))
        row = (len(entries), batch.received, KINDS.index(batch.kind), body)
        async with self._appending:
            try:
                first = await self._in(self._write_thread, self._writer_file.append, row, limit())
            except sqlite3.Error as error:
                await self._in(self._write_thread, self._writer_file.close)
                raise _cannot(self._path, error) from error
            batch.first, batch.size = first, len(body)
            self._remember(batch)
            if packet_ids is not None:
                self._repeatable.add(first, batch.received, packet_ids.count, len(body))
            else:
                self._repeatable.forget(batch.received)
        self._announce()
        return int(first)

    def _remember(self, batch: Batch) -> None:
        """Keep a fresh batch for caught-up readers. After a gap (another process appended) begin anew."""
        if self._recent and self._recent[-1].last + 1 != batch.first:
            self._recent.clear()
            self._recent_messages = self._recent_bytes = 0
        parts = batch.parts(TOGETHER)
        self._recent.extend(parts)
        self._recent_messages += batch.count
        self._recent_bytes += parts[0].size * len(parts)
        while self._recent_messages > RECENT_MESSAGES or self._recent_bytes > RECENT_BYTES:
            oldest = self._recent.popleft()
            self._recent_messages -= oldest.count
            self._recent_bytes -= oldest.size
        self._head = max(self._head, batch.last)

    def _announce(self) -> None:
        for event in self._events:
            event.set()

    # --- read ---------------------------------------------------------------------------------

    async def read(self, after: int, *, limit: int) -> list[Batch]:
        """Batches that follow `after`, from memory while they are recent, else from the file.

        Raises JournalFormatError when the file holds batches of an unknown format, JournalWriteError when it
        cannot be read.
        """
        if self._upkeep is None:
            await self.open()
        after = max(after, self._passed())
        if after >= self._head:
            return []
        if self._recent and self._recent[0].first <= after + 1 <= self._recent[-1].last:
            return self._from_memory(after, limit)
        try:
            rows = await self._in(self._read_thread, self._reader_file.read, after, limit)
        except sqlite3.Error as error:
            await self._in(self._read_thread, self._reader_file.close)
            raise _cannot(self._path, error) from error
        parts = (part for row in rows for part in self._batch(row).parts(TOGETHER))
        return [part for part in parts if part.last > after]

    def _from_memory(self, after: int, limit: int) -> list[Batch]:
        found: list[Batch] = []
        for batch in reversed(self._recent):
            if batch.last <= after:
                break
            found.append(batch)
        found.reverse()
        taken = 0
        for index, batch in enumerate(found):
            taken += batch.count
            if taken >= limit:
                return found[: index + 1]
        return found

    def _batch(self, row: Row) -> Batch:
        first, _, received, kind, body = row
        version, entries, *_ = _split(body)
        if (number := _decode_int(version)) not in BATCH_FORMATS:
            raise JournalFormatError(
                f"{self._path} holds entries of format {number}, this program knows up to {BATCH_FORMAT}: "
                "start the version that wrote it"
            )
        if KINDS[kind] == "control":
            return Batch(first=first, received=received, kind="control", controls=_decode_controls(entries))
        return Batch(
            first=first,
            received=received,
            messages=_decode_messages(entries),
            decoder=self._decoder,
            size=len(body),
        )

    async def by_packet_id(self, session: int, ids: Collection[int]) -> dict[int, Message]:
        """Of the last messages of a session, as many as there are packet ids: the newest under each of these,
        from the file. Raises JournalWriteError when it cannot be read."""
        await self.open()
        try:
            found: dict[int, Message] = await self._in(
                self._read_thread,
                self._reader_file.by_packet_id,
                session,
                ids,
                self._repeatable_bytes,
            )
        except sqlite3.Error as error:
            await self._in(self._read_thread, self._reader_file.close)
            raise _cannot(self._path, error) from error
        return found

    async def erase(self, devices: Mapping[str, Sequence[tuple[int, int]]], upto: int) -> int:
        """Overwrite what these devices sent at these times; gives how many entries. What memory holds of the
        file is read from there again. Raises JournalWriteError."""
        await self.open()
        async with self._appending:
            try:
                number = await self._in(self._write_thread, self._writer_file.erase, devices, upto)
            except sqlite3.Error as error:
                await self._in(self._write_thread, self._writer_file.close)
                raise _cannot(self._path, error) from error
            self._recent.clear()
            self._recent_messages = self._recent_bytes = 0
        return int(number)

    def head(self) -> int:
        """Position of the newest entry known here, 0 when empty."""
        return self._head

    def appended(self) -> asyncio.Event:
        """An event of the caller's own, set whenever something was appended. Call it once a reader."""
        event = asyncio.Event()
        self._events.append(event)
        if self._head:
            event.set()
        return event

    # --- readers ------------------------------------------------------------------------------

    async def commit(self, reader: str, position: int) -> None:
        """Note how far a reader has come. Reaches the file within a second: it may lag behind the truth,
        which stands where the reader's effects are."""
        if position > self._positions.get(reader, -1):
            self._positions[reader] = self._unsaved[reader] = position

    def position(self, reader: str) -> int:
        """The position noted last for a reader, 0 when there is none."""
        return self._positions.get(reader, 0)

    def status(self) -> Mapping[str, Any]:
        """{"head", "first", "bytes", "max_bytes", "readers": {name: {"position", "lag"}}}."""
        names = dict.fromkeys((*self._readers, *self._positions))
        return {
            "head": self._head,
            "first": self._first,
            "bytes": self._bytes,
            "max_bytes": self._max_bytes,
            "readers": {
                name: {"position": self.position(name), "lag": self._head - self.position(name)}
                for name in names
            },
        }

    # --- upkeep -------------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        """Look for other processes' entries, save positions, trim."""
        while True:
            await asyncio.sleep(self._poll)
            try:
                await self._refresh()
                if self._unsaved and time.monotonic() - self._trimmed >= TRIM_EVERY:
                    await self._trim()
            except sqlite3.Error:
                # A disk that is full or away shows itself, with words, at the next append.
                await self._in(self._write_thread, self._writer_file.close)
                await self._in(self._read_thread, self._reader_file.close)

    async def _refresh(self) -> None:
        found = await self._in(self._read_thread, self._reader_file.look, self._readers)
        self._first, self._bytes = found["first"], found["bytes"]
        for name, position in found["positions"].items():
            self._positions[name] = max(position, self._positions.get(name, -1))
        if found["head"] > self._head:
            self._head = found["head"]
            self._announce()

    async def _trim(self, *, wholly: bool = False) -> None:
        keep_from = None if wholly else self._repeatable.first
        unsaved, self._unsaved = self._unsaved, {}
        self._trimmed = time.monotonic()
        try:
            await self._in(self._write_thread, self._writer_file.trim, unsaved, self._readers, keep_from)
        except sqlite3.Error:
            self._unsaved = unsaved | self._unsaved
            raise

    async def _trim_or_raise(self) -> None:
        """A full journal gives up what may come again, too: twice is better than not at all."""
        try:
            await self._trim(wholly=True)
        except sqlite3.Error as error:
            await self._in(self._write_thread, self._writer_file.close)
            raise _cannot(self._path, error) from error

    def _look_back(self) -> None:
        """What a process before this one appended, and the broker may send to this one."""
        found = [
            (named.first, named.received, named.packet_ids.count, named.size)
            for named in self._reader_file.named(self._repeatable_bytes)
        ]
        for batch in reversed(found):
            self._repeatable.add(*batch)

    def _create(self) -> None:
        connection = self._writer_file.connection()
        for statement in SCHEMA.split(";\n"):
            connection.execute(statement)

    @staticmethod
    async def _in(thread: ThreadPoolExecutor, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(thread, work, *arguments)


def live_bytes(connection: sqlite3.Connection) -> int:
    """Bytes in use: pages of the file without the free ones, which the next appends take."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


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
    ):
        connection.execute(f"PRAGMA {pragma}").close()
    return connection


def _head(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT first + count - 1 FROM batches ORDER BY first DESC LIMIT 1").fetchone()
    return int(row[0]) if row else 0


def _positions(connection: sqlite3.Connection) -> dict[str, int]:
    return dict(connection.execute("SELECT name, position FROM readers").fetchall())


def _save(connection: sqlite3.Connection, positions: Mapping[str, int]) -> None:
    if positions:
        connection.executemany(
            "INSERT INTO readers VALUES (?, ?) ON CONFLICT (name) DO UPDATE "
            "SET position = max(position, excluded.position)",
            positions.items(),
        )


def _drop(connection: sqlite3.Connection, position: int, keep_from: int | None, cleared: int) -> None:
    """Drop batches that end at or before `position`, but never the newest, and no messages from `keep_from`
    on. Up to `cleared` there are no control entries any more: they are not looked for again."""
    upto = position if keep_from is None else min(position, keep_from - 1)
    connection.execute(f"{DROP} AND first <= ?", (position, upto))
    connection.execute(
        f"{DROP} AND kind = 1 AND first BETWEEN "
        "coalesce((SELECT max(first) FROM batches WHERE first <= ?), 0) AND ?",
        (position, cleared, position),
    )


def _packet_ids(session: msgspec.Raw, packed: msgspec.Raw) -> PacketIds:
    ids = _decode_bytes(packed)
    return PacketIds(session=_decode_int(session), packed=ids, count=_count(ids))


def _count(packed: bytes) -> int:
    """How many of the packed ids are not 0."""
    return len(packed) // 2 - memoryview(packed).cast("H").tolist().count(0)


def _overwrite(connection: sqlite3.Connection, device: str, since: int, until: int, upto: int) -> int:
    """Make a device's messages, which name it in their topic whatever form they have, empty ones; gives how
    many."""
    number = 0
    rows = connection.execute(
        "SELECT first, body FROM batches WHERE kind = 0 AND first <= ? AND received >= ? AND received < ? "
        "AND instr(body, ?)",
        (upto, since, until, device.encode()),
    ).fetchall()
    for first, body in rows:
        version, entries, *named = _split(body)
        messages = _decode_messages(entries)
        gone = {
            place
            for place, (topic, _) in enumerate(messages)
            if device in topic.split("/") and first + place <= upto
        }
        number += len(gone)
        kept = [ERASED if place in gone else message for place, message in enumerate(messages)]
        body = _encode((version, kept, *named))
        connection.execute("UPDATE batches SET body = ? WHERE first = ?", (body, first))
    return number


def _rollback(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _cannot(path: Path, error: sqlite3.Error) -> JournalWriteError:
    """SQLite's word for it, and what to do."""
    text = str(error)
    if "full" in text or "disk I/O" in text:
        todo = f"free space on the disk that holds {path.parent}"
    elif "readonly" in text or "unable to open" in text:
        todo = f"make {path.parent} exist and be writable for this user"
    elif "malformed" in text or "not a database" in text:
        todo = "restore the file from a backup, or move it away to begin anew"
    else:
        todo = f"look at {path.parent}"
    return JournalWriteError(f"{path}: {text}: {todo}")


__all__ = ["JournalFormatError", "SqliteJournal", "live_bytes"]
