"""Recorded readings, in portions: from tidy CSV files, and from the time-series store.

A tidy file has the columns `device` and `ts` (RFC 3339 or epoch ms), and one for each signal; `name[]`
holds a list whose items are separated by `|`; an empty cell is an absent signal; `.gz` is unpacked.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, TextIO, TypeAlias

from gateway.domain.errors import CannotStartError
from gateway.domain.times import parse_rfc3339
from gateway.ports import TimeSeries
from rules import Catalogue, Value
from rules.backtest import Event, KnownDevice, Row

PORTION = 4_096
"""Rows that are handed on together."""
PAGE = 2_000
"""Readings of a signal that the store is asked for at once."""

Convert: TypeAlias = Callable[[str], Value]


class RecordingError(CannotStartError):
    """A file cannot be read as what it should be; the message names it, with the line."""


class Table:
    """A CSV file with a header, read row by row."""

    def __init__(self, path: Path, required: Sequence[str]) -> None:
        self.path = path
        self.required = required
        self.line = 0
        self._file: IO[bytes] | None = None

    def rows(self) -> Iterator[list[str]]:
        """The header, which has all required columns, and then each row, as long as the header."""
        try:
            with self.path.open("rb") as file:
                self._file = file
                packed: Any = gzip.GzipFile(fileobj=file) if self.path.suffix == ".gz" else file
                with _text(packed) as lines:
                    yield from self._checked(csv.reader(lines, strict=True))
        except UnicodeDecodeError as error:
            raise RecordingError(f"{self.path}: is not UTF-8: {error}") from error
        except (csv.Error, EOFError, gzip.BadGzipFile) as error:
            raise RecordingError(f"{self.path}: cannot be read as CSV: {error}") from error

    def _checked(self, rows: Iterator[list[str]]) -> Iterator[list[str]]:
        header = next(rows, [])
        for name in self.required:
            if name not in header:
                raise RecordingError(
                    f"{self.path}: the column {name} is missing; there are: {', '.join(header)}"
                )
        yield header
        width = len(header)
        for line, row in enumerate(rows, start=2):
            self.line = line
            if len(row) == width:
                yield row
            elif row:
                raise self.fault(f"{len(row)} cells, but {width} columns")

    def fault(self, message: str) -> RecordingError:
        """What is wrong in the row that was given last."""
        return RecordingError(f"{self.path}: row {self.line}: {message}")

    def share(self) -> float:
        """How much of the file has been read, 0 to 1."""
        if self._file is None or self._file.closed:
            return 1.0
        return self._file.tell() / max(1, os.fstat(self._file.fileno()).st_size)


def _text(file: Any) -> TextIO:
    return io.TextIOWrapper(file, encoding="utf-8-sig", newline="")


class Recording:
    """A tidy file of readings. `kind_of` says what a device is, and so which type a column has."""

    def __init__(self, path: Path, catalogue: Catalogue, kind_of: Callable[[str], str | None]) -> None:
        self.table = Table(path, ("device", "ts"))
        self.ignored: set[str] = set()
        """columns that are no signal of a device's kind"""
        self._catalogue = catalogue
        self._kind_of = kind_of

    def portions(self) -> Iterator[list[Row]]:
        """All rows that hold at least one value, in the order of the file. Raises RecordingError."""
        rows = self.table.rows()
        header = next(rows)
        device_at, ts_at = header.index("device"), header.index("ts")
        layouts: dict[str | None, _Layout] = {}
        layout_of: dict[str, _Layout] = {}
        portion: list[Row] = []
        text, ts = "", 0
        for row in rows:
            device = row[device_at]
            layout = layout_of.get(device)
            if layout is None:
                layout = layout_of[device] = self._layout(device, header, layouts)
            if row[ts_at] != text:
                text = row[ts_at]
                ts = self._ts(text)
            signals = layout.signals(row)
            if signals:
                portion.append((device, ts, signals))
                if len(portion) == PORTION:
                    yield portion
                    portion = []
        if portion:
            yield portion

    def _ts(self, text: str) -> int:
        try:
            return parse_ts(text)
        except ValueError:
            raise self.table.fault(f"{text!r} is no time: write RFC 3339 with a zone, or epoch ms") from None

    def _layout(self, device: str, header: list[str], layouts: dict[str | None, _Layout]) -> _Layout:
        if not device:
            raise self.table.fault("the device is missing")
        kind = self._kind_of(device)
        if kind not in layouts:
            layouts[kind] = _Layout(header, kind, self._catalogue)
            self.ignored |= layouts[kind].ignored
        return layouts[kind]


class _Layout:
    """How the cells of a row become signals of one kind of device."""

    def __init__(self, header: Sequence[str], kind: str | None, catalogue: Catalogue) -> None:
        self.ignored: set[str] = set()
        self._numbers: list[tuple[int, str]] = []
        self._others: list[tuple[int, str, Convert]] = []
        for at, column in enumerate(header):
            if column in ("device", "ts"):
                continue
            signal = catalogue.signal(kind or "", column.removesuffix("[]"))
            if signal is None:
                self.ignored.add(column)
            elif signal.type == "number" and not column.endswith("[]"):
                self._numbers.append((at, signal.name))
            else:
                convert = _items if column.endswith("[]") else CONVERT[signal.type]
                self._others.append((at, signal.name, convert))
        self._names = tuple(name for _, name in self._numbers)
        places = [at for at, _ in self._numbers]
        # itemgetter gives a bare cell for one place, and none at all for none
        self._cells = itemgetter(*places) if len(places) > 1 else lambda row: [row[at] for at in places]

    def signals(self, row: Sequence[str]) -> dict[str, Value]:
        """What the row holds."""
        cells = self._cells(row)
        try:
            if "" in cells:
                signals: dict[str, Value] = {
                    name: float(cell) for name, cell in zip(self._names, cells, strict=True) if cell
                }
            else:
                signals = dict(zip(self._names, map(float, cells), strict=True))
        except ValueError:
            signals = {name: _number(cell) for name, cell in zip(self._names, cells, strict=True) if cell}
        for at, name, convert in self._others:
            if row[at]:
                signals[name] = convert(row[at])
        return signals


def _number(cell: str) -> Value:
    """A text in a column of numbers stays one, and is no usable value for the rules."""
    try:
        return float(cell)
    except ValueError:
        return cell


def _boolean(cell: str) -> Value:
    return {"true": True, "false": False}.get(cell.lower(), cell)


def _items(cell: str) -> Value:
    return cell.split("|")


CONVERT: dict[str, Convert] = {"number": _number, "boolean": _boolean, "string": str, "codes": _items}
"""By signal type: a cell as its value."""


def parse_ts(text: str) -> int:
    """Milliseconds of RFC 3339 or of epoch ms in digits. Raises ValueError."""
    if text.isascii() and text.removeprefix("-").isdigit():
        return int(text)
    if len(text) == 20 and text[-1] == "Z" and text[10] == "T" and text[4] == text[7] == "-":
        return int(datetime.fromisoformat(text).timestamp()) * 1000  # ten times as fast, and the usual form
    return parse_rfc3339(text)


def read_events(path: Path) -> tuple[Event, ...]:
    """What is known to have happened: columns `device`, `ts`, `kind`. Raises RecordingError."""
    table = Table(path, ("device", "ts", "kind"))
    rows = table.rows()
    pick = itemgetter(*map(next(rows).index, table.required))
    events = []
    for row in rows:
        device, text, kind = pick(row)
        try:
            events.append(Event(device=device, ts=parse_ts(text), kind=kind))
        except ValueError:
            raise table.fault(f"{text!r} is no time: write RFC 3339 with a zone, or epoch ms") from None
    return tuple(events)


def read_devices(path: Path) -> tuple[dict[str, KnownDevice], dict[str, str]]:
    """What devices are, and who owns them: `device` and any of `kind`, `model`, `time_zone`, `owner`.

    Raises RecordingError.
    """
    table = Table(path, ("device",))
    rows = table.rows()
    places = {name: at for at, name in enumerate(next(rows))}
    known, owners = {}, {}
    for row in rows:
        device, kind, model, time_zone, owner = (
            row[places[name]] if name in places else ""
            for name in ("device", "kind", "model", "time_zone", "owner")
        )
        known[device] = KnownDevice(kind=kind or None, model=model or None, time_zone=time_zone or None)
        if owner:
            owners[device] = owner
    return known, owners


async def stored(
    store: TimeSeries, device: str, start: int | None, end: int | None
) -> AsyncIterator[list[Row]]:
    """What the store holds of a device, start <= ts < end, in the order of time, in portions.

    Memory is bounded: of each signal there is one page.
    """
    pages = {name: _Page(name) for name in await store.latest(device)}
    while True:
        for page in pages.values():
            if not page.rest and not page.complete:
                await page.turn(store, device, start, end)
        if not any(page.rest for page in pages.values()):
            return
        # up to here every page knows all it has
        until = min((page.rest[-1][0] for page in pages.values() if not page.complete), default=None)
        moments: dict[int, dict[str, Value]] = {}
        for page in pages.values():
            for ts, value in page.take(until):
                moments.setdefault(ts, {})[page.signal] = value
        yield [(device, ts, signals) for ts, signals in sorted(moments.items())]


class _Page:
    """What was fetched of a signal and not yet handed on, newest last."""

    def __init__(self, signal: str) -> None:
        self.signal = signal
        self.rest: list[tuple[int, Value]] = []
        self.complete = False  # nothing is left in the store
        self._after: int | None = None

    async def turn(self, store: TimeSeries, device: str, start: int | None, end: int | None) -> None:
        self.rest = await store.readings(
            device, self.signal, start=start, end=end, after=self._after, limit=PAGE
        )
        self.complete = len(self.rest) < PAGE
        if self.rest:
            self._after = self.rest[-1][0]

    def take(self, until: int | None) -> list[tuple[int, Value]]:
        """What lies up to a time, or all."""
        count = sum(until is None or ts <= until for ts, _ in self.rest)
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken
