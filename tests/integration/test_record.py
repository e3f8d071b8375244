"""record: everything the journal holds reaches the store, once, whatever the store does meanwhile."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from mqtt_lab import until
from structlog.testing import capture_logs

from gateway.adapters.clock import SystemClock
from gateway.adapters.codecs import make_decoder
from gateway.adapters.journal import SqliteJournal
from gateway.adapters.timeseries_embedded import EmbeddedTimeSeries
from gateway.domain.counters import Counters
from gateway.domain.messages import Batch, Decoded
from gateway.flow.record import Recorder
from gateway.ports import StoreUnavailableError

NOW = 1_795_363_200_000
T = TypeVar("T")


class Positions:
    """As much of the domain's database as record uses: one number."""

    def __init__(self) -> None:
        self.held = 0

    def position(self, reader: str) -> int:
        assert reader == "record"
        return self.held

    def set_position(self, reader: str, position: int) -> None:
        assert reader == "record"
        self.held = position

    async def read(self, work: Callable[[Any], T]) -> T:
        return work(self)

    async def write(self, work: Callable[[Any], T]) -> T:
        return work(self)


class Store:
    """A store without positions. `away` makes it unavailable, `refusing` refuses a device."""

    def __init__(self) -> None:
        self.away = False
        self.refusing = ""
        self.values: list[int] = []
        self.gathered = 0
        self.writes = 0

    async def position(self) -> int | None:
        return None

    def gather(self, kinds: Callable[[str], tuple[str, str]]) -> "Gathered":
        return Gathered(self)


class Gathered:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.rows: list[tuple[str, int]] = []

    @property
    def messages(self) -> int:
        return len(self.rows)

    def add(self, batch: Batch) -> None:
        self.rows += [
            (device, int(signals["n"]))  # type: ignore[arg-type]
            for _, device, _, signals, *_ in batch.decoded.telemetry
        ]
        self.store.gathered += len(batch.decoded.telemetry)

    async def write(self, position: int) -> Sequence[tuple[str, str]]:
        self.store.writes += 1
        if self.store.away:
            raise StoreUnavailableError("http://influx: connection refused: is InfluxDB running?")
        refusing = self.store.refusing
        self.store.values += [n for device, n in self.rows if device != refusing]
        return [(device, "wrong type") for device, _ in self.rows if device == refusing]


def numbered(start: int, count: int, device: str = "car-1") -> list[tuple[str, bytes]]:
    topic = f"touchpoint/v1/{device}/telemetry"
    return [(topic, b'{"ts": %d, "signals": {"n": %d}}' % (NOW + i, i)) for i in range(start, start + count)]


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[SqliteJournal]:
    async with SqliteJournal(tmp_path / "journal.db", readers=["record"], decoder=make_decoder({})) as opened:
        yield opened


@contextlib.asynccontextmanager
async def recording(
    journal: SqliteJournal,
    store: Any,
    counters: Counters,
    positions: Positions | None = None,
    *,
    linger_ms: int = 5,
) -> AsyncIterator[None]:
    recorder = Recorder(
        journal=journal,
        timeseries=store,
        database=positions or Positions(),  # type: ignore[arg-type]
        clock=SystemClock(),
        counters=counters,
        kinds=lambda device: ("car", ""),
        random=lambda: 0.0,
        linger_ms=linger_ms,
    )
    task = asyncio.create_task(recorder.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_everything_is_written_once_and_in_order(journal: SqliteJournal) -> None:
    store, counters, positions = Store(), Counters(), Positions()
    async with recording(journal, store, counters, positions):
        for start in range(0, 1000, 100):
            await journal.append(numbered(start, 100), NOW)
        await until(lambda: counters.recorded >= 1000, "all recorded")
    assert store.values == list(range(1000))
    assert positions.held == 1000
    assert journal.position("record") == 1000


async def test_what_waits_is_written_in_large_pieces(journal: SqliteJournal) -> None:
    for start in range(0, 3000, 10):
        await journal.append(numbered(start, 10), NOW)
    store, counters = Store(), Counters()
    async with recording(journal, store, counters):
        await until(lambda: counters.recorded >= 3000, "all recorded")
    assert store.writes == 1


async def test_what_is_enough_does_not_wait_for_more(
    journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.flow.record.GATHERED", 100)
    store, counters = Store(), Counters()
    async with recording(journal, store, counters, linger_ms=3_600_000):
        await journal.append(numbered(0, 60), NOW)
        await journal.append(numbered(60, 60), NOW)
        await until(lambda: counters.recorded >= 120, "all recorded")
    assert store.writes == 1


async def test_messages_that_are_no_telemetry_are_passed_and_not_counted(journal: SqliteJournal) -> None:
    store, counters, positions = Store(), Counters(), Positions()
    await journal.append([("touchpoint/v1/car-1/status", b"online"), ("x", b"garbage"), *numbered(0, 1)], NOW)
    await journal.append_controls([{"type": "tick"}], NOW)
    async with recording(journal, store, counters, positions):
        await until(lambda: positions.held >= 4, "passed")
    assert counters.recorded == 1


async def test_a_store_that_is_away_gets_everything_later(journal: SqliteJournal) -> None:
    store, counters, positions = Store(), Counters(), Positions()
    store.away = True
    with capture_logs() as logs:
        async with recording(journal, store, counters, positions):
            await journal.append(numbered(0, 50), NOW)
            await until(lambda: counters.store_waits >= 2, "it has been tried")
            await journal.append(numbered(50, 50), NOW)  # nothing else slows down
            assert (journal.position("record"), positions.held) == (0, 0), "the journal keeps it"
            store.away = False
            await until(lambda: counters.recorded >= 100, "all recorded")
    assert store.values == list(range(100))
    assert [e["event"] for e in logs if e["event"].startswith("record")] == [
        "record_waits",
        "record_recovered",
    ]
    assert "is InfluxDB running" in next(e["problem"] for e in logs if e["event"] == "record_waits")


async def test_what_the_rules_have_decoded_is_not_decoded_again_for_a_store_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gathers while it is in memory, which holds two of these batches only."""
    monkeypatch.setattr("gateway.adapters.journal.RECENT_MESSAGES", 100)
    decode, decoded = make_decoder({}), list[int]()

    def counting(batch: Batch) -> Decoded:
        decoded.append(batch.first)
        return decode(batch)

    store, counters = Store(), Counters()
    store.away = True
    async with (
        SqliteJournal(tmp_path / "journal.db", readers=["record"], decoder=counting) as journal,
        recording(journal, store, counters),
    ):
        for start in range(0, 500, 50):
            await journal.append(numbered(start, 50), NOW)
            [batch] = await journal.read(start, limit=50)
            assert len(batch.decoded.telemetry) == 50  # as the rules do
            await until(lambda wanted=start + 50: store.gathered >= wanted, "gathered")  # type: ignore[misc]
        assert store.values == []
        store.away = False
        await until(lambda: counters.recorded >= 500, "all recorded")
    assert store.values == list(range(500))
    assert decoded == list(range(1, 501, 50))


async def test_no_more_gathers_for_a_store_that_is_away_than_memory_has_room_for(
    journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await journal.append(numbered(0, 50), NOW)
    [batch] = await journal.read(first - 1, limit=50)
    monkeypatch.setattr("gateway.flow.record.AHEAD_BYTES", 7 * batch.size // 2)
    store, counters = Store(), Counters()
    store.away = True
    async with recording(journal, store, counters):
        for start in range(50, 1000, 50):
            await journal.append(numbered(start, 50), NOW)
            for fresh in await journal.read(start, limit=50):
                assert len(fresh.decoded.telemetry) == 50  # as the rules do
        await until(lambda: store.gathered >= 200, "as much as there is room for")
        tried = counters.store_waits
        await until(lambda: counters.store_waits >= tried + 2, "it goes on trying")
        room = store.gathered
        store.away = False
        await until(lambda: counters.recorded >= 1000, "all recorded")
    assert room == 200, "three batches, and the one by which it is too much"
    assert store.values == list(range(1000))


async def test_a_refused_point_is_counted_and_said_and_costs_only_itself(journal: SqliteJournal) -> None:
    store, counters = Store(), Counters()
    store.refusing = "car-2"
    with capture_logs() as logs:
        async with recording(journal, store, counters):
            await journal.append([*numbered(0, 5), *numbered(5, 3, "car-2"), *numbered(8, 2)], NOW)
            await until(lambda: counters.recorded >= 10, "all passed")
    assert store.values == [0, 1, 2, 3, 4, 8, 9]
    assert counters.refused == {"wrong type": 3}
    [said] = [e for e in logs if e["event"] == "points_refused"]
    assert (said["points"], said["device"]) == (3, "car-2")


async def test_goes_on_where_it_stopped(journal: SqliteJournal) -> None:
    store, counters, positions = Store(), Counters(), Positions()
    for start in (0, 50):
        await journal.append(numbered(start, 50), NOW)
        async with recording(journal, store, counters, positions):
            await until(lambda wanted=start + 50: counters.recorded >= wanted, "recorded")  # type: ignore[misc]
    assert store.values == list(range(100))


async def test_the_embedded_store_says_where_to_go_on(journal: SqliteJournal, tmp_path: Path) -> None:
    async def once(counters: Counters, wanted: int) -> None:
        store = EmbeddedTimeSeries(tmp_path / "timeseries.db")
        async with recording(journal, store, counters):
            await until(lambda: counters.recorded >= wanted, "recorded")
        assert await store.position() == journal.head()
        await store.close()

    await journal.append(numbered(0, 10), NOW)
    await once(Counters(), 10)
    await journal.append(numbered(10, 5), NOW)
    counters = Counters()
    await once(counters, 5)
    assert counters.recorded == 5, "the first ten are not written again"
