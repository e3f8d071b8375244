"""record: read the journal from its own position and write the time series.

When the store is away the journal waits, and nothing else slows down. Under load batches gather a moment, for
one large write costs less than many small ones; they gather in the store's own form, also while it is being
written to, so that what the rules had decoded need not be read from the file and decoded again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import structlog

from gateway.domain.counters import Counters
from gateway.domain.messages import Batch
from gateway.flow.receive import backoff
from gateway.ports import (
    Clock,
    Database,
    DatabaseUnavailableError,
    Gathering,
    Journal,
    JournalWriteError,
    Records,
    StoreUnavailableError,
    TimeSeries,
)

log = structlog.get_logger()

READER = "record"
LARGEST_WRITE = 40_000
"""Most journal entries in one write; when so many wait, memory no longer holds the first of them."""
AHEAD_BYTES = 48 * 2**20
"""How much of the journal may be gathered while the store is slow or away, by its bytes there; in memory it
is two or three times as much. A store that takes nothing for four seconds at full speed makes nobody decode
twice."""
GATHERED = 30_000
"""Entries that are worth a write of their own without waiting for more."""
LINGER_MS = 1_000
"""How long entries may gather when there are fewer; what the journal keeps in memory is more."""
LOOK_EVERY_MS = 20
"""How often it is looked meanwhile what there is to gather: that should still be in the processor's cache."""
SHORTEST_WAIT, LONGEST_WAIT = 200, 15_000
"""ms between two tries to write the same batches."""

T = TypeVar("T")
Kinds = Callable[[str], tuple[str, str]]
"""(kind, model) of a device."""


class _Load:
    """What is to be written together."""

    def __init__(self, gathering: Gathering, position: int) -> None:
        self.gathering = gathering
        self.before = self.position = position
        """the last entry before the erasures, and of all that was taken"""
        self.entries = self.size = 0
        """journal entries, and their bytes there"""
        self.erasures: list[Mapping[str, Any]] = []
        """control entries that end what devices sent at some times; nothing is taken after them"""

    @property
    def enough(self) -> bool:
        """Whether it need not wait for more."""
        return bool(self.erasures) or self.entries >= GATHERED

    def take(self, batch: Batch) -> None:
        """One more batch, in the journal's order."""
        self.gathering.add(batch)
        self.erasures += [entry for entry in batch.controls if entry.get("type") == "erase"]
        if not self.erasures:
            self.before = batch.last
        self.entries += batch.last - self.position
        self.size += batch.size
        self.position = batch.last


class Recorder:
    """The reader "record". Its position is committed with the data, or in the domain's database where the
    store cannot hold it: what is written twice then changes nothing."""

    def __init__(
        self,
        *,
        journal: Journal,
        timeseries: TimeSeries,
        database: Database,
        clock: Clock,
        counters: Counters,
        kinds: Kinds,
        random: Callable[[], float],
        linger_ms: int = LINGER_MS,
    ) -> None:
        """`linger_ms` 0 writes at once whatever is there; a played clock wants that."""
        self._journal, self._store, self._database = journal, timeseries, database
        self._clock, self._counters, self._kinds, self._random = clock, counters, kinds, random
        self._linger = linger_ms
        self._own_position = False
        self._ready: deque[_Load] = deque()
        """what is being written, or waits for that"""
        self._writing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Run until cancelled."""
        position = await self._patiently(self._begin)
        await self._journal.commit(READER, position)
        try:
            await self._along(position)
        finally:
            if self._writing is not None:
                self._writing.cancel()
                await asyncio.gather(self._writing, return_exceptions=True)
                self._writing = None
            self._ready.clear()

    async def _along(self, position: int) -> None:
        """Gather what follows `position`, and write it."""
        appended = self._journal.appended()
        load, due = self._load(position), None
        while True:
            appended.clear()
            await self._see_to_writing(appended)
            if not load.entries and self._journal.head() <= load.position:
                await self._clock.wait(appended)
                continue
            now = self._clock.now()
            due = now + self._linger if due is None else due
            await self._patiently(partial(self._gather, load, late=now >= due))
            if load.enough or (load.entries and not self._ready and (now >= due or self._full(load))):
                self._ready.append(load)
                load, due = self._load(load.position), None
            else:
                await self._clock.wait(asyncio.Event(), now + LOOK_EVERY_MS)

    def _load(self, position: int) -> _Load:
        return _Load(self._store.gather(self._kinds), position)

    async def _gather(self, load: _Load, *, late: bool) -> None:
        """Take what somebody has decoded already; everything where nobody does, or where so much waits that
        memory no longer holds it. Raises JournalWriteError."""
        behind = self._journal.head() - load.position
        if not behind or self._full(load):
            return
        everything = behind >= LARGEST_WRITE or (not load.entries and (late or behind >= GATHERED))
        for batch in await self._journal.read(load.position, limit=LARGEST_WRITE - load.entries):
            wanted = everything or batch.is_decoded or batch.kind == "control"
            if load.erasures or self._full(load) or not wanted:
                return
            if not batch.is_decoded:
                await asyncio.sleep(0)
            load.take(batch)

    def _full(self, load: _Load) -> bool:
        """Whether no more is gathered until something has been written."""
        return sum(ready.size for ready in self._ready) + load.size > AHEAD_BYTES

    async def _see_to_writing(self, appended: asyncio.Event) -> None:
        """Write what is ready, while more gathers; where nothing is to gather, before anything else is done.
        What breaks in it breaks here."""
        if self._writing is not None and self._writing.done():
            done, self._writing = self._writing, None
            done.result()
        if not self._linger:
            await self._write_ready()
        elif self._ready and self._writing is None:
            self._writing = asyncio.create_task(self._write_ready(), name="record-write")
            self._writing.add_done_callback(lambda _: appended.set())

    async def _write_ready(self) -> None:
        while self._ready:
            await self._write(self._ready[0])
            self._ready.popleft()

    async def _begin(self) -> int:
        kept = await self._store.position()
        self._own_position = kept is None
        if kept is not None:
            return kept
        return await self._database.read(lambda records: records.position(READER))

    async def _write(self, load: _Load) -> None:
        """All of a load, patiently. What stands before an erasure is written first, so that it is erased,
        too; the position follows."""
        await self._write_upto(load.before, load.gathering)
        if load.erasures:
            await self._patiently(partial(self._erase, load.erasures))
            await self._write_upto(load.position, self._store.gather(self._kinds))
        await self._journal.commit(READER, load.position)

    async def _write_upto(self, position: int, gathering: Gathering) -> None:
        refused = await self._patiently(partial(gathering.write, position))
        if self._own_position:
            await self._patiently(partial(self._database.write, partial(_set_position, position)))
        self._counters.recorded += gathering.messages
        self._say_refused(refused)

    async def _erase(self, erasures: Sequence[Mapping[str, Any]]) -> None:
        for entry in erasures:
            for device, spans in entry["devices"].items():
                for since, until in spans:
                    await self._store.erase(device, since, until)

    def _say_refused(self, refused: Sequence[tuple[str, str]]) -> None:
        """Count every point, log every reason once."""
        by_reason: dict[str, list[str]] = {}
        for device, reason in refused:
            self._counters.refuse(reason)
            by_reason.setdefault(reason, []).append(device)
        for reason, devices in by_reason.items():
            log.warning("points_refused", reason=reason, points=len(devices), device=devices[0])

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Try until it succeeds, longer from time to time; say each trouble once."""
        tries, said, began = 0, "", self._clock.now()
        while True:
            try:
                result = await work()
            except (StoreUnavailableError, DatabaseUnavailableError, JournalWriteError) as error:
                self._counters.store_waits += 1
                if str(error) != said:
                    said = str(error)
                    log.warning("record_waits", problem=said, effect="the journal keeps what is not written")
                pause = backoff(tries, self._random, shortest=SHORTEST_WAIT, longest=LONGEST_WAIT)
                await self._clock.wait(asyncio.Event(), self._clock.now() + pause)
                tries += 1
            else:
                if tries:
                    log.info("record_recovered", tries=tries, waited_ms=self._clock.now() - began)
                return result


def _set_position(position: int, records: Records) -> None:
    records.set_position(READER, position)
