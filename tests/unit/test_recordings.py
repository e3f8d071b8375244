"""Readings in portions: from files with several kinds of devices, and from the store page by page."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from config import settings as configuration
from gateway import recordings
from gateway.backtest import SLICE_MS, Job, Progress, portions
from gateway.recordings import Recording, parse_ts, read_devices, stored
from rules import Catalogue, RuleSet, Value, load
from rules.backtest import KnownDevice, Row

SIGNALS = [
    ("van", "kind: van\nlabel: {en: Van, de: Van}\nsignals: {speed: {label: {en: a, de: b}}}"),
    ("oven", "kind: oven\nlabel: {en: O, de: O}\nsignals: {speed: {type: string, label: {en: a, de: b}}}"),
]
CATALOGUE = Catalogue.parse(SIGNALS)
RULE = (
    "- {id: fast, version: 1, kind: van, purpose: usage, severity: advice,\n"
    "   when: WHEN, touchpoint: {kind: notice}}\n"
)


class History:
    """A time-series store that holds this: {device: {signal: [(ts, value)]}}."""

    def __init__(self, held: Mapping[str, Mapping[str, list[tuple[int, Value]]]]) -> None:
        self.held = held
        self.longest = 0

    async def latest(self, device: str) -> Mapping[str, tuple[int, Value]]:
        return {signal: rows[-1] for signal, rows in self.held[device].items()}

    async def readings(
        self, device: str, signal: str, *, start: int | None, end: int | None, after: int | None, limit: int
    ) -> list[tuple[int, Value]]:
        rows = [
            row
            for row in self.held[device][signal]
            if (start is None or row[0] >= start)
            and (end is None or row[0] < end)
            and (after is None or row[0] > after)
        ][:limit]
        self.longest = max(self.longest, len(rows))
        return rows


def job(when: str, **given: Any) -> Job:
    rules: RuleSet = load([("fast", RULE.replace("WHEN", when))], CATALOGUE)
    known = {name: KnownDevice(kind="van") for name in ("van-1", "van-2")}
    fields = {"kind": None, "start": None, "end": None, "truth": None, "known": known} | given
    return Job(settings=configuration.load(None, {}), catalogue=CATALOGUE, sets=(rules,), **fields)


async def rows_of(of: Job, history: History) -> list[Row]:
    return [row async for portion, _ in portions(of, history) for row in portion]  # type: ignore[arg-type] # all it asks for


def test_each_kind_of_device_has_its_own_types(tmp_path: Path) -> None:
    path = tmp_path / "mixed.csv"
    path.write_text(
        "device,ts,speed\nvan-1,1000,50\noven-1,1000,50\nvan-1,2000,fast\n\nthing,2000,1\nvan-1,3000,\n"
    )
    kinds = {"van-1": "van", "oven-1": "oven"}
    recording = Recording(path, CATALOGUE, kinds.get)
    assert [row for portion in recording.portions() for row in portion if row[2]] == [
        ("van-1", 1000, {"speed": 50.0}),
        ("oven-1", 1000, {"speed": "50"}),
        ("van-1", 2000, {"speed": "fast"}),
    ]
    assert recording.ignored == {"speed"}  # of the thing, whose kind nobody knows


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_portions_of_any_size_hold_the_same(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "PORTION", size)
    path = tmp_path / "some.csv"
    path.write_text("ts,device,speed\n" + "".join(f"{n},van-{n % 3},{n}\n" for n in range(10)))
    recording = Recording(path, CATALOGUE, lambda _: "van")
    assert [row for portion in recording.portions() for row in portion] == [
        (f"van-{n % 3}", n, {"speed": float(n)}) for n in range(10)
    ]
    assert recording.table.share() == 1


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1420092000000", 1_420_092_000_000),
        ("-5", -5),
        ("2015-01-01T06:00:00Z", 1_420_092_000_000),
        ("2015-01-01T07:00:00.250+01:00", 1_420_092_000_250),
    ],
)
def test_times_are_rfc_3339_or_epoch_ms(text: str, ms: int) -> None:
    assert parse_ts(text) == ms


@pytest.mark.parametrize(
    "text", ["", "2015-01-01", "2015-01-01T06:00:00", "2015-13-01T06:00:00Z", "1.5", "²"]
)
def test_other_texts_are_no_times(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_ts(text)


def test_a_list_of_devices_says_what_it_knows(tmp_path: Path) -> None:
    path = tmp_path / "devices.csv"
    path.write_text("owner,device,model,age\njana,van-1,v2,3\n,van-2,,4\n")
    known, owners = read_devices(path)
    assert known == {"van-1": KnownDevice(kind=None, model="v2"), "van-2": KnownDevice(kind=None)}
    assert owners == {"van-1": "jana"}


async def test_signals_of_a_device_are_joined_by_their_time_page_by_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recordings, "PAGE", 3)
    speed: list[tuple[int, Value]] = [(n, n) for n in range(0, 20, 2)]
    door: list[tuple[int, Value]] = [(n, True) for n in range(0, 20, 5)]
    history = History({"van-1": {"speed": speed, "door": door}})
    rows = [row async for portion in stored(history, "van-1", None, 18) for row in portion]  # type: ignore[arg-type] # all it asks for
    expected = {ts: {"speed": value} for ts, value in speed if ts < 18}
    for ts, value in door:
        expected.setdefault(ts, {})["door"] = value
    assert rows == [("van-1", ts, signals) for ts, signals in sorted(expected.items())]
    assert history.longest == 3


async def test_the_store_is_read_device_by_device() -> None:
    week: list[tuple[int, Value]] = [(n * SLICE_MS, n) for n in range(3)]
    history = History({"van-1": {"speed": week}, "van-2": {"speed": week}})
    rows = await rows_of(job("speed > 1"), history)
    assert [(device, ts) for device, ts, _ in rows] == [
        (device, ts) for device in ("van-1", "van-2") for ts, _ in week
    ]
    assert len(await rows_of(job("speed > 1", end=SLICE_MS), history)) == 2


async def test_for_rules_that_compare_devices_all_go_through_time_together() -> None:
    first: list[tuple[int, Value]] = [(n * SLICE_MS // 3, n) for n in range(9)]
    second: list[tuple[int, Value]] = [(n * SLICE_MS // 2, n) for n in range(6)]
    history = History({"van-1": {"speed": first}, "van-2": {"speed": second}})
    rows = await rows_of(job("fleet(speed) > 3"), history)
    assert len(rows) == 15
    assert [ts for _, ts, _ in rows] == sorted(ts for _, ts, _ in rows)
    some = await rows_of(job("fleet(speed) > 3", end=SLICE_MS), history)
    assert [row for row in rows if row[1] < SLICE_MS] == some


def test_progress_is_told_every_two_seconds() -> None:
    now, out = [10.0], io.StringIO()
    progress = Progress(lambda: now[0], out)
    assert not progress.due()
    now[0] = 12.0
    assert progress.due()
    progress.tell(600_000, 1_420_092_000_000, 0.25)
    assert out.getvalue() == "600,000 readings, 25%, at 2015-01-01T06:00:00.000Z, 300,000 readings/s\n"
    assert not progress.due()
