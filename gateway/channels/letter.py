"""Letters, and calls: a line for each in a file of the day, for the call centre or the printer.

`letters/YYYY-MM-DD.csv` in the data folder (RFC 4180, UTF-8, a head line, everything quoted), the day being
the UTC day on which the line was written. A file is replaced as a whole, so that who fetches it never sees
half a line; a delivery stands in it once, however often it is tried, also across midnight.

Retry: the folder cannot be written. Refused, Gone: never. Expiry: a matter that was answered before its
letter fell due is not written; one that is written cannot be taken back: the call centre looks at the
owner's page first. On failure the owner still has the page.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from gateway.domain.delivery import Delivery, Outcome, Retry, Sent

COLUMNS = (
    "delivery",
    "touchpoint",
    "owner",
    "name",
    "address",
    "phone",
    "language",
    "severity",
    "product",
    "title",
    "text",
    "page",
    "expires",
)

PHONE = re.compile(r"\+[0-9 ()/-]+")

LOOKED_AT = 3
"""The newest files in which a delivery may stand already."""


class LetterChannel:
    """See `gateway.ports.Channel`; the payload has a value for each of COLUMNS but `delivery`."""

    name = "letter"

    def __init__(self, folder: Path, now: Callable[[], int]) -> None:
        self._folder = folder
        self._now = now
        self._writing = asyncio.Lock()

    async def send(self, delivery: Delivery) -> Outcome:
        """Write one line; or, where the payload has `erase`, take out the lines of these deliveries."""
        work = self._take_out if "erase" in delivery.payload else self._write
        async with self._writing:
            try:
                return await asyncio.to_thread(work, delivery)
            except OSError as error:
                return Retry(detail=f"{self._folder} cannot be written: {error.strerror}")

    def _write(self, delivery: Delivery) -> Outcome:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        day = datetime.fromtimestamp(self._now() / 1000, UTC).date().isoformat()
        path = self._folder / f"{day}.csv"
        for file in sorted(self._folder.glob("????-??-??.csv"))[-LOOKED_AT:]:
            if any(row and row[0] == delivery.id for row in _rows(file)):
                return Sent(detail=f"written before to {file.name}")
        before = path.read_bytes().decode() if path.exists() else _line(COLUMNS)
        values = {**delivery.payload, "delivery": delivery.id}
        _replace(path, before + _line([_cell(values.get(column)) for column in COLUMNS]))
        return Sent(detail=f"written to {path.name}")

    def _take_out(self, delivery: Delivery) -> Outcome:
        gone, number = frozenset(delivery.payload["erase"]), 0
        for path in self._folder.glob("????-??-??.csv"):
            rows = _rows(path)
            kept = [row for row in rows if not row or row[0] not in gone]
            if len(kept) < len(rows):
                number += len(rows) - len(kept)
                _replace(path, "".join(map(_line, kept)))
        return Sent(detail=f"{number} lines taken out")

    async def close(self) -> None:
        """Nothing is kept open."""


def _rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def _line(values: tuple[str, ...] | list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, quoting=csv.QUOTE_ALL).writerow(values)
    return line.getvalue()


def _cell(value: object) -> str:
    """Text that a spreadsheet takes for text: one that begins like a formula gets an apostrophe before it."""
    text = "" if value is None else str(value)
    if PHONE.fullmatch(text):
        return text
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _replace(path: Path, text: str) -> None:
    """The whole new file or the whole old one, on disk when this returns."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
