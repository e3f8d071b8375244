"""Recorded readings, in portions: from tidy CSV files, and from the time-series store.

A tidy file has the columns `device` and `ts` (RFC 3339 or epoch ms), and one for each signal; `name[]`
holds a list whose items are separated by `|`; an empty cell is an absent signal; `.gz` is unpacked.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

from gateway.domain.errors import CannotStartError
from gateway.domain.times import parse_rfc3339
from gateway.ports import TimeSeries
from rules import Catalogue, Value
from rules.backtest import Event, KnownDevice, Row

PORTION = 128
"""Rows that are read and handed on together: more fall out of the processor's cache."""
PAGE = 2_000
"""Readings of a signal that the store is asked for at once."""

NOTHING: Mapping[str, Value] = {}
"""What a row holds that only says how late it is."""

Convert: TypeAlias = Callable[[str], Value]


class RecordingError(CannotStartError):
    """A file cannot be read as what it should be; the message names it, with the line."""


class Table:
    """A CSV file with a header, read in portions of rows."""

    def __init__(self, path: Path, required: Sequence[str]) -> None:
        self.path = path
        self.header: list[str] = []
        self._required = required
        self._file: IO[bytes] | None = None
        self._lines: Sequence[int] = ()  # of the rows in the portion that was given last

    def portions(self) -> Iterator[list[list[str]]]:
        """The rows below the header, each as long as it. Raises RecordingError."""
        try:
            with self.path.open("rb") as file:
                self._file = file
                zipped = self.path.suffix == ".gz"
                raw: Any = io.BufferedReader(cast(Any, gzip.GzipFile(fileobj=file))) if zipped else file
                with io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as lines:
                    yield from self._portions(csv.reader(lines, strict=True))
        except UnicodeDecodeError as error:
            raise RecordingError(f"{self.path}: is not UTF-8: {error}") from error
        except (csv.Error, EOFError, gzip.BadGzipFile) as error:
            raise RecordingError(f"{self.path}: cannot be read as CSV: {error}") from error
        except OSError as error:
            raise RecordingError(f"{self.path}: cannot be read: {error.strerror or error}") from error

    def _portions(self, reader: Iterator[list[str]]) -> Iterator[list[list[str]]]:
        self.header = next(reader, [])
        for name in self._required:
            if name not in self.header:
                there = ", ".join(self.header) or "none"
                raise RecordingError(f"{self.path}: the column {name} is missing; there are: {there}")
        line = 2
        while rows := list(itertools.islice(reader, PORTION)):
            self._lines = range(line, line + len(rows))
            line += len(rows)
            if set(map(len, rows)) != {len(self.header)}:
                rows = self._even(rows)
            yield rows

    def _even(self, rows: list[list[str]]) -> list[list[str]]:
        """Without the empty lines; a row of another length is a fault."""
        for number, row in enumerate(rows):
            if row and len(row) != len(self.header):
                raise self.fault(number, f"{len(row)} cells, but {len(self.header)} columns")
        self._lines = [line for line, row in zip(self._lines, rows, strict=True) if row]
        return [row for row in rows if row]

    def column(self, name: str) -> int:
        """Where a column stands."""
        return self.header.index(name)

    def times(self, texts: Sequence[str]) -> list[int]:
        """A portion's column of times, ms. Raises RecordingError."""
        known: dict[str, int] = {}
        for number, text in enumerate(texts):
            if text not in known:
                try:
                    known[text] = parse_ts(text)
                except ValueError:
                    message = f"{text!r} is no time: write RFC 3339 with a zone, or epoch ms"
                    raise self.fault(number, message) from None
        return [known[text] for text in texts]

    def fault(self, number: int, message: str) -> RecordingError:
        """What is wrong in a row of the portion that was given last."""
        return RecordingError(f"{self.path}: row {self._lines[number]}: {message}")

    def share(self) -> float:
        """How much of the file has been read, 0 to 1."""
        if self._file is None or self._file.closed:
            return 1.0
        return self._file.tell() / max(1, os.fstat(self._file.fileno()).st_size)


class Recording:
    """A tidy file of readings. `kind_of` says what a device is, and so which type a column has.

    Columns are converted as a whole, which costs half of doing it cell by cell.
    """

    def __init__(self, path: Path, catalogue: Catalogue, kind_of: Callable[[str], str | None]) -> None:
        self.table = Table(path, ("device", "ts"))
        self.ignored: set[str] = set()
        """columns that are no signal of a device's kind"""
        self._catalogue = catalogue
        self._kind_of = kind_of
        self._layouts: dict[str | None, _Layout] = {}  # by kind
        self._layout_of: dict[str, _Layout] = {}  # by device

    def portions(self, mine: Callable[[str], bool] | None = None) -> Iterator[Sequence[Row]]:
        """All rows, in the order of the file; of devices that are not `mine` only their times. Raises
        RecordingError."""
        for rows in self.table.portions():
            cells = list(zip(*rows, strict=True))
            if not cells:
                continue
            devices = cells[self.table.column("device")]
            times = self.table.times(cells[self.table.column("ts")])
            for device in dict.fromkeys(devices):
                if device not in self._layout_of:
                    self._layout_of[device] = self._layout(device, devices)
            if mine is None:
                yield list(zip(devices, times, self._signals(devices, rows, cells), strict=True))
                continue
            portion: list[Row] = [("", ts, NOTHING) for ts in times]
            places = [place for place, device in enumerate(devices) if mine(device)]
            if places:
                rows = [rows[place] for place in places]
                cells = list(zip(*rows, strict=True))
                devices = cells[self.table.column("device")]
                for place, device, found in zip(
                    places, devices, self._signals(devices, rows, cells), strict=True
                ):
                    portion[place] = device, times[place], found
            yield portion

    def _signals(
        self, devices: Sequence[str], rows: list[list[str]], cells: Sequence[Sequence[str]]
    ) -> list[dict[str, Value]]:
        """What each row of a portion holds."""
        layouts = [self._layout_of[device] for device in devices]
        different = list(dict.fromkeys(layouts))
        if len(different) == 1:
            return different[0].signals(cells)
        found: list[dict[str, Value]] = [{}] * len(rows)
        for layout in different:
            places = [place for place, other in enumerate(layouts) if other is layout]
            mine = layout.signals(list(zip(*(rows[place] for place in places), strict=True)))
            for place, signals in zip(places, mine, strict=True):
                found[place] = signals
        return found

    def _layout(self, device: str, devices: Sequence[str]) -> _Layout:
        if not device:
            raise self.table.fault(devices.index(device), "the device is missing")
        kind = self._kind_of(device)
        if kind not in self._layouts:
            self._layouts[kind] = _Layout(self.table.header, kind, self._catalogue)
            self.ignored |= self._layouts[kind].ignored
        return self._layouts[kind]


class _Layout:
    """How columns become signals of one kind of device."""

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

    def signals(self, cells: Sequence[Sequence[str]]) -> list[dict[str, Value]]:
        """What each row holds, of columns of cells."""
        names = [name for _, name in self._numbers]
        columns = [_floats(cells[at]) for at, _ in self._numbers]
        found: list[dict[str, Value]]
        if not columns:
            found = [{} for _ in cells[0]]
        elif any(None in column for column in columns):
            found = [
                {name: value for name, value in zip(names, values, strict=True) if value is not None}
                for values in zip(*columns, strict=True)
            ]
        else:
            found = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
        for at, name, convert in self._others:
            for signals, cell in zip(found, cells[at], strict=True):
                if cell:
                    signals[name] = convert(cell)
        return found


def _floats(cells: Sequence[str]) -> Sequence[Value]:
    """A column of numbers; None for an empty cell."""
    try:
        return list(map(float, cells))
    except ValueError:
        return [_number(cell) if cell else None for cell in cells]


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
    events: list[Event] = []
    for rows in table.portions():
        times = table.times([row[table.column("ts")] for row in rows])
        device, kind = table.column("device"), table.column("kind")
        events += (
            Event(device=row[device], ts=ts, kind=row[kind]) for row, ts in zip(rows, times, strict=True)
        )
    return tuple(events)


def read_devices(path: Path) -> tuple[dict[str, KnownDevice], dict[str, str]]:
    """What devices are, and who owns them: `device` and any of `kind`, `model`, `time_zone`, `owner`.

    Raises RecordingError.
    """
    table = Table(path, ("device",))
    known, owners = {}, {}
    for row in itertools.chain.from_iterable(table.portions()):
        cells = dict(zip(table.header, (cell or None for cell in row), strict=True))
        device = cells["device"] or ""
        known[device] = KnownDevice(
            kind=cells.get("kind"), model=cells.get("model"), time_zone=cells.get("time_zone")
        )
        if owner := cells.get("owner"):
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
