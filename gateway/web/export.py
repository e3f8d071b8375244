"""Everything that is held on an owner, as one archive: JSON by table, readings as CSV, photos as they are.

The archive is written while it is sent, so that years of readings cost no memory. Readings are cut by the
time in which a product was the owner's (EU Data Act Art. 4; GDPR Art. 15 and 20).
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import zipfile
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from aiohttp import web

from gateway.domain.times import rfc3339
from gateway.ports import Records
from gateway.web import looking, rights
from gateway.web.access import Identity
from gateway.web.context import Context
from rules.readings import Value

READ_ME = """What Touchpoint holds on you, as of {now}.

{tables}
readings/<product>/<signal>.csv   what your products sent while they were yours: time (UTC) and value
files/                            photos that you or a workshop sent

Times are UTC (RFC 3339). What opens doors (keys, secrets) is left out.
"""
ROWS_A_PAGE = 5_000


class _Sink(io.RawIOBase):
    """Where the archive is written to; what lies in it is taken away to be sent."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits here, also when an archive that was broken off ends after this did."""

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


async def answer(
    request: web.Request, context: Context, who: Identity, owner_id: str, now: int
) -> web.StreamResponse:
    """Send the archive. Raises NotFoundError for an owner that `who` may not see; that somebody else took it
    stands in the owner's ledger before the first byte."""
    await context.database.read(lambda records: rights.owner(records, who, owner_id))
    who.saw(owner_id, f"everything:{owner_id}", "export")
    await looking.note(context, who)
    name = f"touchpoint-{quote(owner_id)}-{rfc3339(now)[:10]}.zip"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    response = web.StreamResponse(headers=headers)
    response.content_type = "application/zip"
    await response.prepare(request)
    async with contextlib.aclosing(archive(context, owner_id, now)) as parts:
        async for part in parts:
            await response.write(part)
    await response.write_eof()
    return response


async def archive(context: Context, owner_id: str, now: int) -> AsyncGenerator[bytes, None]:
    """The archive, part by part; whoever may stop in between closes it."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as into:
        names = await context.database.read(lambda records: records.personal.tables())
        for name in names:
            await context.database.read(lambda records, n=name: _table(into, records, n, owner_id))  # type: ignore[misc]
            yield sink.take()
        for device, spans in (await context.database.read(lambda r: _products(r, owner_id))).items():
            for signal in sorted(await context.timeseries.latest(device)):
                async with contextlib.aclosing(_readings(into, context, device, signal, spans)) as pages:
                    async for _ in pages:
                        yield sink.take()
        told = "\n".join(f"{name}.json" for name in names)
        into.writestr(_entry("README.txt", now), READ_ME.format(now=rfc3339(now), tables=told))
    yield sink.take()


def _entry(name: str, now: int) -> zipfile.ZipInfo:
    at = datetime.fromtimestamp(now / 1000, UTC)
    entry = zipfile.ZipInfo(name, at.timetuple()[:6])
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _table(into: zipfile.ZipFile, records: Records, name: str, owner_id: str) -> None:
    """One table as a JSON array, row by row; bytes in it become files."""
    files: list[tuple[str, bytes]] = []
    with into.open(f"{name}.json", "w") as file:
        file.write(b"[")
        for number, row in enumerate(records.personal.rows(name, owner_id)):
            line = json.dumps(_apart(name, row, files), ensure_ascii=False)
            file.write((",\n" if number else "\n").encode() + line.encode())
        file.write(b"\n]\n")
    for path, body in files:
        into.writestr(path, body)


def _apart(name: str, row: Mapping[str, Any], files: list[tuple[str, bytes]]) -> dict[str, Any]:
    """A row whose bytes are named instead of written out."""
    told = dict(row)
    for column, value in row.items():
        if isinstance(value, bytes):
            kind = str(row.get("media_type") or "application/octet-stream").rpartition("/")[2]
            told[column] = path = f"files/{name}-{row['id']}.{kind}"
            files.append((path, value))
    return told


def _products(records: Records, owner_id: str) -> dict[str, list[rights.Interval]]:
    """The owner's products, present and former, and those shared with them, with the times to be read."""
    theirs = {str(row["device"]) for row in records.personal.rows("ownerships", owner_id)}
    shared = {device for device, _, _ in records.people.spans(owner_id)}
    return {device: rights.owned(records, owner_id, device) for device in sorted(theirs | shared)}


async def _readings(
    into: zipfile.ZipFile, context: Context, device: str, signal: str, spans: Sequence[rights.Interval]
) -> AsyncGenerator[None, None]:
    """One signal as CSV; comes back after every page, for what was written to be sent."""
    with into.open(f"readings/{device}/{signal}.csv", "w", force_zip64=True) as file:
        file.write(b"time,value\r\n")
        for start, end in spans:
            after = None
            while True:
                rows = await context.timeseries.readings(
                    device, signal, start=start, end=end, after=after, limit=ROWS_A_PAGE
                )
                if not rows:
                    break
                await asyncio.to_thread(file.write, _csv(rows))
                yield
                after = rows[-1][0]


def _csv(rows: Iterable[tuple[int, Value]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows((rfc3339(ts), _cell(value)) for ts, value in rows)
    return text.getvalue().encode()


def _cell(value: Value) -> object:
    return json.dumps(value) if isinstance(value, list | tuple | bool) else value
