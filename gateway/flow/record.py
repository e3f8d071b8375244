"""record: read the journal from its own position and write the time series.

When the store is away the journal waits, and nothing else slows down. Under load it lets batches gather a
moment, for one large write costs less than many small ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
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
    Journal,
    JournalWriteError,
    StoreUnavailableError,
    TimeSeries,
)

log = structlog.get_logger()

READER = "record"
LARGEST_WRITE = 40_000
"""Journal entries taken at once when record is behind."""
GATHERED = 30_000
"""Entries that are worth a write of their own without waiting for more."""
LINGER_MS = 1_000
"""How long entries may gather when there are fewer; what the journal keeps in memory is more."""
LOOK_EVERY_MS = 100
"""How often it is looked meanwhile whether there are enough."""
SHORTEST_WAIT, LONGEST_WAIT = 200, 15_000
"""ms between two tries to write the same batches."""

T = TypeVar("T")
Kinds = Callable[[str], tuple[str, str]]
"""(kind, model) of a device."""


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

    async def run(self) -> None:
        """Run until cancelled."""
        position = await self._patiently(self._begin)
        await self._journal.commit(READER, position)
        appended = self._journal.appended()
        while True:
            appended.clear()
            if self._journal.head() <= position:
                await self._clock.wait(appended)
                continue
            await self._gather(position)
            position = await self._patiently(partial(self._take, position))
            await self._journal.commit(READER, position)

    async def _take(self, position: int) -> int:
        """Write what follows `position`; gives how far it went."""
        batches = await self._journal.read(position, limit=LARGEST_WRITE)
        if batches:
            before, position = position, batches[-1].last
            if any(_erasures(batches)):
                # Written first, so that what stands before the entry is erased, too; the position follows.
                await self._write(batches, before)
                await self._erase(batches)
                batches = []
            await self._write(batches, position)
        return position

    async def _erase(self, batches: Sequence[Batch]) -> None:
        for entry in _erasures(batches):
            for device, spans in entry["devices"].items():
                for since, until in spans:
                    await self._store.erase(device, since, until)

    async def _begin(self) -> int:
        kept = await self._store.position()
        self._own_position = kept is None
        if kept is not None:
            return kept
        return await self._database.read(lambda records: records.position(READER))

    async def _gather(self, position: int) -> None:
        now = self._clock.now()
        until = now + self._linger
        while now < until and self._journal.head() - position < GATHERED:
            await self._clock.wait(asyncio.Event(), min(now + LOOK_EVERY_MS, until))
            now = self._clock.now()

    async def _write(self, batches: Sequence[Batch], position: int) -> None:
        refused = await self._store.write(batches, self._kinds, position)
        if self._own_position:
            await self._database.write(lambda records: records.set_position(READER, position))
        self._counters.recorded += sum(len(batch.decoded.telemetry) for batch in batches)
        self._say_refused(refused)

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


def _erasures(batches: Sequence[Batch]) -> Iterator[Mapping[str, Any]]:
    """Control entries that end what devices sent at some times."""
    for batch in batches:
        yield from (entry for entry in batch.controls if entry.get("type") == "erase")
