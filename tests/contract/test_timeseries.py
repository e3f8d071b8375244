"""What a time-series store promises: the embedded one, and InfluxDB where there is one."""

import contextlib
import itertools
import json
import math
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import msgspec
import pytest
from real_parts import Influx, VictoriaMetrics, free_port

from gateway.adapters import timeseries_embedded
from gateway.adapters.codecs import make_decoder
from gateway.adapters.timeseries_embedded import EmbeddedTimeSeries
from gateway.adapters.timeseries_influx import InfluxTimeSeries
from gateway.domain.messages import Batch, ContextReading, Decoded, Item
from gateway.ports import StoreUnavailableError, TimeSeries
from rules.readings import Value

T0 = 1_790_000_000_000
HOUR = 3_600_000
_numbers = itertools.count()


def kinds(device: str) -> tuple[str, str]:
    return ("washing_machine", "wash 7,x=y") if device.startswith("washer") else ("car", "")


def batch(*messages: tuple[str, list[Item]], first: int = 1) -> Batch:
    """Decoded telemetry: (device, [(ts, signals)]). At odd positions a store may keep what was sent."""
    decoded = Decoded()
    for position, (device, items) in enumerate(messages, first):
        if len(items) == 1:
            ((ts, signals),) = items
            sent = sent_as(ts, signals) if position % 2 else None
            decoded.telemetry.append((position, device, ts, signals, tuple(signals), sent))
        else:
            decoded.take(position, device, items)
    return Batch(first=first, received=T0, messages=[("t", b"p")] * len(messages), decoder=lambda _: decoded)


def sent_as(ts: int, signals: Mapping[str, Value]) -> bytes:
    """As another JSON library writes it: spaces, and other escapes than ours."""
    return json.dumps({"signals": signals, "seq": 7, "ts": ts}).encode()


def one(device: str, ts: int, **signals: Value) -> tuple[str, list[Item]]:
    return device, [(ts, signals)]


async def write(
    store: TimeSeries, *messages: tuple[str, list[Item]], first: int = 1
) -> list[tuple[str, str]]:
    return await write_batch(store, batch(*messages, first=first))


async def write_batch(store: TimeSeries, written: Batch) -> list[tuple[str, str]]:
    gathering = store.gather(kinds)
    gathering.add(written)
    assert gathering.messages == len({position for position, *_ in written.decoded.telemetry})
    return list(await gathering.write(written.last))


async def read(store: TimeSeries, device: str, signal: str, **options: Any) -> list[tuple[int, Value]]:
    return await store.readings(
        device, signal, **({"start": None, "end": None, "after": None, "limit": 100} | options)
    )


@pytest.fixture(params=["embedded", "embedded, always folded", "influxdb"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[TimeSeries]:
    opened: TimeSeries
    if request.param == "influxdb":
        found: Influx = request.getfixturevalue("influx")
        bucket = f"contract-{os.getpid()}-{next(_numbers)}"
        opened = InfluxTimeSeries(url=found.url, org=found.org, token=found.token, bucket=bucket)
        await opened.prepare()
    else:
        if "folded" in request.param:
            monkeypatch.setattr(timeseries_embedded, "FOLD_WRITES", 1)
        opened = EmbeddedTimeSeries(tmp_path / "timeseries.db")
    yield opened
    await opened.close()


async def test_a_reading_can_be_read_at_once(store: TimeSeries) -> None:
    assert await write(store, one("car-1", T0, speed=50.5)) == []
    assert await read(store, "car-1", "speed") == [(T0, 50.5)]


async def test_what_was_never_written_is_empty(store: TimeSeries) -> None:
    await write(store, one("car-1", T0, speed=1.0))
    assert await read(store, "car-2", "speed") == []
    assert await read(store, "car-1", "rpm") == []
    assert dict(await store.latest("car-2")) == {}
    assert await store.aggregates("car-2", "speed", start=T0, end=T0 + HOUR, every=60_000) == []


async def test_values_keep_their_types(store: TimeSeries) -> None:
    signals: dict[str, Value] = {
        "speed": 50.0,
        "door_open": True,
        "gear": "D",
        "dtc": ["P0301", "P0420"],
        "none": [],
        "tiny": 5e-324,
        "huge": -1.7e308,
    }
    await write(store, ("car-1", [(T0, signals)]))
    for name, value in signals.items():
        [(ts, found)] = await read(store, "car-1", name)
        assert ts == T0
        assert found == value
        assert type(found) is type(value), name


async def test_an_integer_is_the_number_it_is(store: TimeSeries) -> None:
    await write(store, one("car-1", T0, n=100), one("car-1", T0 + 1, n=100.5), one("car-1", T0 + 2, n=2**62))
    assert await read(store, "car-1", "n") == [(T0, 100), (T0 + 1, 100.5), (T0 + 2, 2**62)]


@pytest.mark.parametrize(
    "name",
    ['a b,c=d"e\\', "Vehicle.Speed", "ünïcode", "__class__", "100%", "%s", "it's", "[x]", "${a}", "\\"],
)
async def test_every_name_is_kept(store: TimeSeries, name: str) -> None:
    await write(store, ("car-1", [(T0, {name: 1.0})]), ("car-1", [(T0 + 1, {name: 2.0, "speed": 3.0})]))
    assert await read(store, "car-1", name) == [(T0, 1.0), (T0 + 1, 2.0)]
    assert set(await store.latest("car-1")) == {name, "speed"}


@pytest.mark.parametrize(
    "text", ['x"\ncar,device=other speed=1', "\\", '"', "", "naïve ☃", "a,b c=d", "[not json", "\t"]
)
async def test_every_text_is_one_value_of_one_device(store: TimeSeries, text: str) -> None:
    await write(store, one("car-1", T0, note=text))
    assert await read(store, "car-1", "note") == [(T0, text)]
    assert await read(store, "other", "speed") == []


async def test_kinds_and_models_with_odd_characters_are_kept_apart(store: TimeSeries) -> None:
    await write(store, one("washer-1", T0, load=3.0), one("car-1", T0, load=4.0))
    assert await read(store, "washer-1", "load") == [(T0, 3.0)]


async def test_writing_twice_changes_nothing(store: TimeSeries) -> None:
    for _ in range(3):
        await write(store, one("car-1", T0, speed=1.0), one("car-1", T0 + 1, speed=2.0))
    assert await read(store, "car-1", "speed") == [(T0, 1.0), (T0 + 1, 2.0)]


async def test_of_the_same_time_the_value_written_last_counts(store: TimeSeries) -> None:
    await write(store, one("car-1", T0, speed=1.0, rpm=10.0), one("car-1", T0, speed=2.0))
    assert await read(store, "car-1", "speed") == [(T0, 2.0)]
    await write(store, one("car-1", T0, speed=3.0, fuel=7.0), first=3)
    assert await read(store, "car-1", "speed") == [(T0, 3.0)]
    assert await read(store, "car-1", "rpm") == [(T0, 10.0)], "other signals of that time are kept"
    assert await read(store, "car-1", "fuel") == [(T0, 7.0)]


async def test_late_readings_take_their_place(store: TimeSeries) -> None:
    for ts in (T0 + 5000, T0 + 1000, T0 + 3000):
        await write(store, one("car-1", ts, speed=float(ts - T0)))
    assert [ts - T0 for ts, _ in await read(store, "car-1", "speed")] == [1000, 3000, 5000]


async def test_a_message_may_hold_many_readings(store: TimeSeries) -> None:
    await write(store, ("car-1", [(T0 + i, {"speed": float(i)}) for i in range(50)]))
    assert await read(store, "car-1", "speed") == [(T0 + i, float(i)) for i in range(50)]


async def test_ranges_pages_and_limits(store: TimeSeries) -> None:
    await write(store, *(one("car-1", T0 + i, speed=float(i)) for i in range(10)))
    assert [v for _, v in await read(store, "car-1", "speed", start=T0 + 2, end=T0 + 5)] == [2, 3, 4]
    assert [v for _, v in await read(store, "car-1", "speed", limit=3)] == [0, 1, 2]
    assert [v for _, v in await read(store, "car-1", "speed", after=T0 + 6, limit=2)] == [7, 8]
    assert [v for _, v in await read(store, "car-1", "speed", after=T0 + 1, start=T0 + 5, limit=1)] == [5]
    assert await read(store, "car-1", "speed", start=T0 + 5, end=T0 + 5) == []


async def test_pages_pass_over_readings_without_the_signal(store: TimeSeries) -> None:
    await write(
        store, *(one("car-1", T0 + i, **({"fuel": 1.0} if i % 7 == 0 else {"speed": 1.0})) for i in range(50))
    )
    seen: list[int] = []
    after: int | None = None
    while page := await read(store, "car-1", "fuel", after=after, limit=3):
        seen += [ts - T0 for ts, _ in page]
        after = page[-1][0]
    assert seen == list(range(0, 50, 7))


async def test_what_is_erased_is_gone_and_nothing_beside_it(store: TimeSeries) -> None:
    await write(
        store, *(one(f"car-{i}", T0 + at, speed=float(at), note="x") for i in (1, 2) for at in range(5))
    )
    await write(store, one("car-1", T0 + 1, rpm=900.0))
    await store.erase("car-1", T0 + 1, T0 + 3)
    await write(store, one("car-1", T0 + 7, speed=7.0))
    assert [ts - T0 for ts, _ in await read(store, "car-1", "speed")] == [0, 3, 4, 7]
    assert await read(store, "car-1", "rpm") == []
    assert "rpm" not in await store.latest("car-1")
    assert len(await read(store, "car-2", "speed")) == 5
    await store.erase("car-1", T0, T0 + 100)
    await store.erase("car-1", T0 + 50, T0 + 50)
    await store.erase("nobody", T0, T0 + 100)
    assert await store.latest("car-1") == {}
    assert len(await read(store, "car-2", "note")) == 5


async def test_aggregates(store: TimeSeries) -> None:
    start = T0 - T0 % HOUR
    await write(store, *(one("car-1", start + i * 60_000, speed=float(i)) for i in range(90)))
    found = await store.aggregates("car-1", "speed", start=start, end=start + 2 * HOUR, every=HOUR)
    assert [(ts - start, low, high, count) for ts, low, _, high, count in found] == [
        (0, 0.0, 59.0, 60),
        (HOUR, 60.0, 89.0, 30),
    ]
    assert [mean for _, _, mean, _, _ in found] == [29.5, 74.5]


async def test_aggregates_begin_at_multiples_and_respect_the_range(store: TimeSeries) -> None:
    start = T0 - T0 % HOUR
    await write(store, *(one("car-1", start + i * 60_000, speed=float(i)) for i in range(60)))
    found = await store.aggregates(
        "car-1", "speed", start=start + 30 * 60_000, end=start + 40 * 60_000, every=HOUR
    )
    assert found == [(start, 30.0, 34.5, 39.0, 10)]


async def test_aggregates_leave_out_what_is_no_number(store: TimeSeries) -> None:
    start = T0 - T0 % HOUR
    await write(store, one("car-1", start, gear="D", open=True, speed=4.0))
    assert await store.aggregates("car-1", "gear", start=start, end=start + HOUR, every=HOUR) == []
    assert await store.aggregates("car-1", "open", start=start, end=start + HOUR, every=HOUR) == []
    assert await store.aggregates("car-1", "speed", start=start, end=start + HOUR, every=HOUR) == [
        (start, 4.0, 4.0, 4.0, 1)
    ]


async def test_the_newest_value_of_every_signal(store: TimeSeries) -> None:
    await write(store, one("car-1", T0, speed=1.0, dtc=["P0301"], fuel=9.0))
    await write(store, *(one("car-1", T0 + i, speed=float(i)) for i in range(1, 20)), first=2)
    await write(store, one("car-1", T0 - 5, fuel=1.0), one("car-2", T0 + 99, speed=99.0), first=30)
    assert dict(await store.latest("car-1")) == {
        "speed": (T0 + 19, 19.0),
        "dtc": (T0, ["P0301"]),
        "fuel": (T0, 9.0),
    }


async def test_context_is_kept_under_its_name(store: TimeSeries) -> None:
    decoded = Decoded(
        contexts=[ContextReading(position=1, name="weather", area="Hamburg", ts=T0, signals={"frost": True})]
    )
    await write_batch(store, Batch(first=1, received=T0, messages=[("t", b"")], decoder=lambda _: decoded))
    assert await read(store, "context/weather", "frost") == [(T0, True)]


async def test_control_entries_and_empty_batches_write_nothing(store: TimeSeries) -> None:
    assert await write_batch(store, Batch(first=1, received=T0, kind="control", controls=[{}])) == []
    assert await write_batch(store, batch()) == []


async def test_doctor_is_told_that_all_is_well(store: TimeSeries) -> None:
    assert await store.check()


class TestEmbedded:
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[EmbeddedTimeSeries]:
        store = EmbeddedTimeSeries(tmp_path / "timeseries.db")
        yield store
        await store.close()

    async def test_the_position_is_committed_with_the_rows(
        self, store: EmbeddedTimeSeries, tmp_path: Path
    ) -> None:
        assert await store.position() == 0
        await write(store, one("car-1", T0, speed=1.0), first=41)
        assert await store.position() == 41
        again = EmbeddedTimeSeries(tmp_path / "timeseries.db")
        assert await again.position() == 41
        assert await read(again, "car-1", "speed") == [(T0, 1.0)]
        await again.close()

    async def test_folding_while_writing_goes_on_changes_no_answer(
        self, store: EmbeddedTimeSeries, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(timeseries_embedded, "FOLD_READINGS", 300)
        expected: dict[tuple[str, int], float] = {}
        for round_ in range(40):
            messages = []
            for i in range(50):
                device, ts = f"car-{i % 7}", T0 + (round_ * 37 + i * 11) % 400
                expected[device, ts] = value = round_ + i / 100
                messages.append(one(device, ts, speed=value))
            await write(store, *messages, first=1 + round_ * 50)
            if round_ % 9 == 0:
                for device in {d for d, _ in expected}:
                    wanted = sorted((ts, v) for (d, ts), v in expected.items() if d == device)
                    assert await read(store, device, "speed", limit=10_000) == wanted

    async def test_many_values_for_one_moment(
        self, store: EmbeddedTimeSeries, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(timeseries_embedded, "FOLD_WRITES", 1)
        await write(
            store, *(one("car-1", T0, speed=float(i)) for i in range(2500)), one("car-1", T0 + 1, speed=7.0)
        )
        assert await read(store, "car-1", "speed") == [(T0, 2499.0), (T0 + 1, 7.0)]

    async def test_a_page_of_a_long_history_is_quick(self, store: EmbeddedTimeSeries) -> None:
        items: list[Item] = [
            (T0 + i * 1000, {"speed": float(i), "rpm": 1.0, "fuel": 2.0}) for i in range(100_000)
        ]
        await write(store, ("car-1", items))
        page = await read(store, "car-1", "speed", after=T0 + 90_000_000, limit=5000)
        assert len(page) == 5000
        plan = store._reader.connection().execute(
            "EXPLAIN QUERY PLAN SELECT body FROM stretches WHERE device = 1 AND first > 5 ORDER BY first"
        )
        assert "USING INDEX stretch_of_device (device=? AND first>?)" in str(plan.fetchall())

    async def test_retention(self, store: EmbeddedTimeSeries, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(timeseries_embedded, "FOLD_WRITES", 1)
        just_started = SimpleNamespace(monotonic=lambda: 5.0, time_ns=time.time_ns)
        monkeypatch.setattr(timeseries_embedded, "time", just_started)
        assert "30 days" in await store.prepare(30)
        now = time.time_ns() // 1_000_000
        await write(store, one("car-1", now - 40 * 86_400_000, speed=1.0), one("car-1", now, speed=2.0))
        assert await read(store, "car-1", "speed") == [(now, 2.0)]

    async def test_a_full_disk_is_told_and_nothing_is_half_written(self, store: EmbeddedTimeSeries) -> None:
        await write(store, one("car-1", T0, speed=1.0))
        connection = store._writer.connection()
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 1}")
        big = [one("car-9", T0 + i, note="x" * 10_000) for i in range(20)]
        with pytest.raises(StoreUnavailableError, match="free space on the disk"):
            await write(store, *big, first=2)
        assert await store.position() == 1
        assert await read(store, "car-9", "note") == []
        await write(store, *big, first=2)  # opened anew: there is room again
        assert len(await read(store, "car-9", "note")) == 20

    @pytest.mark.parametrize("folds", [1, 500])
    async def test_what_devices_send_is_read_as_it_was_decoded(
        self, store: EmbeddedTimeSeries, monkeypatch: pytest.MonkeyPatch, folds: int
    ) -> None:
        monkeypatch.setattr(timeseries_embedded, "FOLD_WRITES", folds)
        values = [
            "1",
            "-0.0",
            "1e3",
            "1.7976931348623157e308",
            "true",
            '"a}{"',
            '"\\u00e9\\n"',
            '["P0301", "\\""]',
        ]
        payloads = [
            *(f'{{"ts": {T0 + i}, "signals": {{"x": {value}}}}}' for i, value in enumerate(values)),
            f'\n{{"seq": 1, "signals": {{"other": 1, "\\u0078": 2}}, "ts": {T0 + 20}}} ',
            f'{{"ts": 1, "ts": {T0 + 22}, "signals": {{"x": 1}}, "signals": {{"x": 2, "x": 3}}}}',
            '{"ts": "2026-09-21T14:13:20.023Z", "signals": {"x": 5}, "more": {"x": 6}}',
            f'[{{"ts": {T0 + 25}, "signals": {{"x": 7}}}}, {{"ts": {T0 + 24}, "signals": {{"x": 8}}}}]',
        ]
        topic = "touchpoint/v1/car-1/telemetry"
        sent = Batch(
            first=1,
            received=T0,
            messages=[(topic, payload.encode()) for payload in payloads],
            decoder=make_decoder({}),
        )
        await write_batch(store, sent)
        expected = sorted((ts, signals["x"]) for _, _, ts, signals, *_ in sent.decoded.telemetry)
        assert len(expected) == len(values) + 5
        assert repr(await read(store, "car-1", "x")) == repr(expected)
        assert (await store.latest("car-1"))["x"] == expected[-1]

    async def test_a_file_of_format_1_is_taken_over(self, tmp_path: Path) -> None:
        path = tmp_path / "timeseries.db"
        before = EmbeddedTimeSeries(path)
        await before.prepare()
        await before.close()
        recent = msgspec.msgpack.encode({1: b'[%d,{"speed":2.0}],[%d,{"speed":1.5}]' % (T0 + 9, T0 + 1)})
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.executescript(
                """INSERT INTO devices VALUES (1, 'car-1');
                    INSERT INTO signals VALUES (1, 'speed'), (1, 'rpm');
                    INSERT INTO meta VALUES ('position', 4);
                    UPDATE meta SET value = 1 WHERE key = 'format';"""
            )
            stretch = b'[[%d,{"speed":0.5}],[%d,{"speed":1.0,"rpm":8.0}]]' % (T0, T0 + 1)
            connection.execute("INSERT INTO stretches VALUES (1, 1, ?, ?, ?)", (T0, T0 + 1, stretch))
            connection.execute("INSERT INTO recent (body) VALUES (?)", (recent,))
            connection.commit()
        for _ in range(2):
            store = EmbeddedTimeSeries(path)
            assert await read(store, "car-1", "speed") == [(T0, 0.5), (T0 + 1, 1.5), (T0 + 9, 2.0)]
            assert dict(await store.latest("car-1")) == {"speed": (T0 + 9, 2.0), "rpm": (T0 + 1, 8.0)}
            assert await store.position() == 4
            await store.close()

    async def test_large_messages_are_folded_before_they_fill_the_memory(
        self, store: EmbeddedTimeSeries, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(timeseries_embedded, "FOLD_BYTES", 10_000)
        recent = []
        for number in range(3):
            await write(store, one("car-1", T0 + number, note="x" * 6_000))
            recent += store._writer.connection().execute("SELECT count(*) FROM recent").fetchone()
        assert recent == [1, 2, 0]
        assert len(await read(store, "car-1", "note")) == 3

    async def test_an_unknown_format_is_refused(self, tmp_path: Path) -> None:
        store = EmbeddedTimeSeries(tmp_path / "timeseries.db")
        await store.prepare()
        await store.close()
        with contextlib.closing(sqlite3.connect(tmp_path / "timeseries.db")) as connection:
            connection.execute("UPDATE meta SET value = 99 WHERE key = 'format'")
            connection.commit()
        store = EmbeddedTimeSeries(tmp_path / "timeseries.db")
        with pytest.raises(StoreUnavailableError, match="start the version that wrote it"):
            await store.position()
        await store.close()

    async def test_a_folder_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        store = EmbeddedTimeSeries(tmp_path / "nowhere" / "timeseries.db")
        with pytest.raises(StoreUnavailableError, match="exist and be writable"):
            await store.check()
        await store.close()


class TestInflux:
    @pytest.fixture
    async def store(self, influx: Influx) -> AsyncIterator[InfluxTimeSeries]:
        bucket = f"refusing-{os.getpid()}-{next(_numbers)}"
        store = InfluxTimeSeries(url=influx.url, org=influx.org, token=influx.token, bucket=bucket, gzip=True)
        await store.prepare(retention_days=365 * 20)
        yield store
        await store.close()

    async def test_a_type_conflict_costs_that_field_only(self, store: InfluxTimeSeries) -> None:
        await write(store, one("car-1", T0, speed=1.0, open=True))
        refused = await write(
            store,
            one("car-1", T0 + 1, speed="fast", rpm=10.0),
            one("car-2", T0 + 1, speed=2.0, open=3.0),
            one("car-3", T0 + 1, speed=3.0, open=False),
            one("car-4", T0 + 1, speed=["x"]),
        )
        assert sorted(refused) == [
            ("car-1", "car.speed came as string, the store holds it as float"),
            ("car-2", "car.open came as float, the store holds it as boolean"),
            ("car-4", "car.speed came as string, the store holds it as float"),
        ]
        assert await read(store, "car-1", "rpm") == [(T0 + 1, 10.0)]
        assert await read(store, "car-2", "speed") == [(T0 + 1, 2.0)]
        assert await read(store, "car-3", "open") == [(T0 + 1, False)]

    async def test_readings_out_of_retention_cost_themselves_only(self, influx: Influx) -> None:
        bucket = f"short-{os.getpid()}-{next(_numbers)}"
        store = InfluxTimeSeries(url=influx.url, org=influx.org, token=influx.token, bucket=bucket)
        await store.prepare(retention_days=30)
        now = time.time_ns() // 1_000_000
        old = now - 40 * 86_400_000
        refused = await write(
            store,
            one("car-1", old, speed=1.0),
            one("car-1", now, speed=2.0),
            one("car-2", old, speed="x"),
            one("car-2", now, speed="x"),
        )
        assert sorted(refused)[:2] == [
            ("car-1", "older than the bucket's retention"),
            ("car-2", "car.speed came as string, the store holds it as float"),
        ]
        assert len(refused) == 3
        assert await read(store, "car-1", "speed") == [(now, 2.0)]
        await store.close()

    async def test_what_influxdb_does_not_name_is_found_by_halving(
        self, store: InfluxTimeSeries, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gateway.adapters.timeseries_influx._without", lambda points, said: (points, []))
        await write(store, one("car-1", T0, speed=1.0))
        messages = [one("car-1", T0 + i, speed="x" if i in (7, 50) else float(i)) for i in range(1, 100)]
        refused = await write(store, *messages)
        assert [device for device, _ in refused] == ["car-1", "car-1"]
        assert len(await read(store, "car-1", "speed", limit=1000)) == 98

    async def test_preparing_twice_changes_nothing(self, store: InfluxTimeSeries) -> None:
        assert "left as it is" in await store.prepare()

    async def test_a_wrong_token_and_a_missing_bucket_say_what_to_do(self, influx: Influx) -> None:
        for token, bucket, todo in (
            ("wrong", "b", "correct timeseries.token"),
            (influx.token, "nowhere", "touchpoint setup"),
        ):
            store = InfluxTimeSeries(url=influx.url, org=influx.org, token=token, bucket=bucket)
            with pytest.raises(StoreUnavailableError, match=todo):
                await write(store, one("car-1", T0, speed=1.0))
            with pytest.raises(StoreUnavailableError, match=todo):
                await store.check()
            await store.close()


async def test_a_store_that_is_away_says_so() -> None:
    store = InfluxTimeSeries(url=f"http://127.0.0.1:{free_port()}", org="o", token="t", bucket="b")
    with pytest.raises(StoreUnavailableError, match="is InfluxDB running"):
        await write(store, one("car-1", T0, speed=1.0))
    await store.close()


@pytest.mark.parametrize(("status", "text"), [(500, "oops"), (503, "busy"), (429, "slow down")])
async def test_a_store_in_trouble_is_tried_again_later(
    aiohttp_server: Callable[..., Any], status: int, text: str
) -> None:
    async def refuse(request: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.json_response({"code": "x", "message": text}, status=status)

    app = aiohttp.web.Application()
    app.router.add_post("/api/v2/write", refuse)
    server = await aiohttp_server(app)
    store = InfluxTimeSeries(url=str(server.make_url("")), org="o", token="t", bucket="b")
    with pytest.raises(StoreUnavailableError, match=f"{status} {text}"):
        await write(store, one("car-1", T0, speed=1.0))
    await store.close()


async def test_line_protocol_is_what_another_store_reads(victoria_metrics: VictoriaMetrics) -> None:
    store = InfluxTimeSeries(url=victoria_metrics.url, org="o", token="t", bucket="b", gzip=True)
    await write(
        store,
        *(one(f"car-{i}", T0 + i, speed=float(i), note='a "b" \\ c') for i in range(3)),
        one("washer-1", T0, load=3),
    )
    lines = [json.loads(line) for line in victoria_metrics.export('{__name__=~".+_.+"}').splitlines()]
    found = {
        (row["metric"]["__name__"], row["metric"]["device"], value)
        for row in lines
        for value in row["values"]
        if not row["metric"]["__name__"].endswith("_note")  # it keeps numbers only, and a text as 0
    }
    assert found == {
        *(("car_speed", f"car-{i}", float(i)) for i in range(3)),
        ("washing_machine_load", "washer-1", 3.0),
    }
    assert [row["metric"]["model"] for row in lines if row["metric"]["device"] == "washer-1"] == [
        "wash 7,x=y"
    ]
    assert all(math.isfinite(value) for _, _, value in found)
    await store.close()
