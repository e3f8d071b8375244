"""What a store draws is what its readings say at that moment, however often it was asked before."""

import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from gateway.adapters import timeseries_embedded
from gateway.adapters.timeseries_embedded import EmbeddedTimeSeries
from gateway.domain.messages import Batch, Decoded, Item
from gateway.domain.plotting import Interval, Kept, Plot, Point, number, stretch, windows
from gateway.ports import TimeSeries
from rules.readings import Value

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
NOW = 1_795_420_800_000 + 17 * MINUTE
BACK = 100 * DAY
EVER: tuple[Interval, ...] = ((None, None),)


def one(device: str, ts: int, **signals: Value) -> tuple[str, list[Item]]:
    return device, [(ts, signals)]


async def write(store: TimeSeries, *messages: tuple[str, list[Item]]) -> None:
    decoded = Decoded()
    for device, items in messages:
        decoded.take(1, device, items)
    batch = Batch(first=1, received=NOW, messages=[("t", b"p")], decoder=lambda _: decoded)
    gathering = store.gather(lambda _: ("car", ""))
    gathering.add(batch)
    await gathering.write(batch.last)


@pytest.fixture(params=["as it came", "folded now and then", "always folded", "too much to keep"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[EmbeddedTimeSeries]:
    writes = {"folded now and then": 3, "always folded": 1}.get(request.param, 500)
    monkeypatch.setattr(timeseries_embedded, "FOLD_WRITES", writes)
    if request.param == "too much to keep":
        monkeypatch.setattr(timeseries_embedded, "RECENT_KEPT", 100)
    opened = EmbeddedTimeSeries(tmp_path / "timeseries.db")
    yield opened
    await opened.close()


async def drawn(
    store: TimeSeries, device: str, signal: str, now: int = NOW, within: Sequence[Interval] = EVER
) -> list[Point]:
    (found,) = await store.plotted([(device, ("odometer", signal, "never"), within)], back=BACK, now=now)
    return list(found.get(signal, ()))


async def told(
    store: TimeSeries, device: str, signal: str, now: int = NOW, within: Sequence[Interval] = EVER
) -> list[Point]:
    """The same from the readings, one by one."""
    points: list[Point] = []
    every = 0
    for start, end in windows(within, now, BACK):
        rows = await store.readings(device, signal, start=start, end=end, after=None, limit=100_000)
        if not rows:
            continue
        every = every or stretch(rows[0][0], now)
        means = await store.aggregates(device, signal, start=start, end=end, every=every)
        points += [(ts + every // 2, mean) for ts, _, mean, _, _ in means if ts + every <= end]
        ts, value = rows[-1]
        if ts >= now - now % every and number(value):
            points.append((ts, float(value)))
    return points


@pytest.mark.parametrize("seed", range(4))
async def test_it_is_what_the_readings_say_whatever_happens_meanwhile(
    store: EmbeddedTimeSeries, seed: int
) -> None:
    chance = random.Random(seed)
    now = NOW
    for _ in range(40):
        match chance.choice(["write", "write", "write", "late", "ahead", "erase", "wait"]):
            case "write":
                await write(store, *(one(f"car-{n}", now - n, wear=chance.random(), speed=3) for n in (1, 2)))
            case "late":
                await write(store, one("car-1", now - chance.randrange(BACK), wear=chance.random()))
            case "ahead":
                await write(store, one("car-1", now + chance.randrange(HOUR), wear=chance.random()))
            case "erase":
                start = now - chance.randrange(BACK)
                await store.erase("car-1", start, start + chance.randrange(20 * DAY))
            case "wait":
                now += chance.choice([1, MINUTE, HOUR, 5 * DAY])
        for device in ("car-1", "car-2"):
            expected = await told(store, device, "wear", now)
            for _ in range(2):
                assert await drawn(store, device, "wear", now) == expected


async def test_another_process_writes_folds_and_erases(store: EmbeddedTimeSeries, tmp_path: Path) -> None:
    other = EmbeddedTimeSeries(tmp_path / "timeseries.db")
    try:
        for step in range(8):
            await write(other, one("car-1", NOW - DAY + step * HOUR, wear=float(step)))
            assert len(await drawn(store, "car-1", "wear")) == step + 1
        await other.erase("car-1", NOW - DAY, NOW - DAY + 4 * HOUR)
        assert [value for _, value in await drawn(store, "car-1", "wear")] == [4.0, 5.0, 6.0, 7.0]
    finally:
        await other.close()


async def test_what_is_too_old_to_keep_is_drawn_no_more(
    store: EmbeddedTimeSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeseries_embedded, "PRUNE_EVERY", 0.0)
    monkeypatch.setattr(timeseries_embedded.time, "time_ns", lambda: NOW * 1_000_000)
    await write(store, one("car-1", NOW - 90 * DAY, wear=1.0), one("car-1", NOW - DAY, wear=2.0))
    await store.erase("nobody", 0, 1)  # folds what has gathered
    assert len(await drawn(store, "car-1", "wear")) == 2
    await store.prepare(retention_days=30)
    monkeypatch.setattr(timeseries_embedded, "FOLD_WRITES", 1)
    await write(store, one("car-2", NOW, wear=1.0))  # a fold prunes
    assert [value for _, value in await drawn(store, "car-1", "wear")] == [2.0]


async def test_each_sees_their_own_time_only(store: EmbeddedTimeSeries) -> None:
    await write(store, *(one("car-1", NOW - step * HOUR, wear=float(step)) for step in range(100)))
    sold = NOW - 50 * HOUR
    before = await drawn(store, "car-1", "wear", within=[(None, sold)])
    after = await drawn(store, "car-1", "wear", within=[(sold, None)])
    assert before == await told(store, "car-1", "wear", within=[(None, sold)])
    assert after == await told(store, "car-1", "wear", within=[(sold, None)])
    assert max(ts for ts, _ in before) < sold <= min(ts for ts, _ in after)


async def test_a_course_that_did_not_change_is_not_read_again(
    store: EmbeddedTimeSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[bytes] = []

    def readings(body: bytes, real=timeseries_embedded._readings) -> object:  # type: ignore[no-untyped-def]
        decoded.append(body)
        return real(body)

    await write(store, *(one("car-1", NOW - step * HOUR, wear=float(step)) for step in range(50)))
    monkeypatch.setattr(timeseries_embedded, "_readings", readings)
    first = await drawn(store, "car-1", "wear")
    assert decoded
    if timeseries_embedded.RECENT_KEPT < 1000 and timeseries_embedded.FOLD_WRITES > 1:
        await write(store, one("car-1", NOW, wear=1.0))
        assert await drawn(store, "car-1", "wear") != first
        return
    decoded.clear()
    assert await drawn(store, "car-1", "wear", NOW + 1) == first
    assert not decoded


def test_no_more_points_are_kept_than_said() -> None:
    kept = Kept(most=1_000)
    for key in range(100):
        kept.put(key, "now", 0, 10, {"wear": [(ts, 1.0) for ts in range(100)]})
    found = [key for key in range(100) if kept.get(key, "now", 5) is not None]
    assert found == list(range(92, 100))
    assert kept.get(99, "later", 5) is None, "the readings changed"
    kept.put(98, "now", 0, 10, {})
    assert kept.get(98, "now", 11) is None, "it held until 10"
    assert kept.get(97, "now", 11) is None


def test_a_plot_takes_no_words_for_numbers() -> None:
    plot = Plot(NOW)
    for step, value in enumerate((1, True, "high", 3.0)):
        plot.add(NOW - 4 * DAY + step, value, NOW + 1)
    plot.close(NOW + 1)
    assert [value for _, value in plot.points] == [2.0]
