"""Put quarantined messages on the path again, after what refused them was mended."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from gateway.domain.messages import QuarantineRow
from gateway.ports import Database, Journal, Records

PAGE = 1_000


async def replay(
    database: Database,
    journal: Journal,
    *,
    positions: Sequence[int] = (),
    reason: str | None = None,
    now: int,
) -> int:
    """Append the named messages, or all of one reason, to the journal again; gives how many.

    They are appended before they are marked: a crash between the two replays them twice, and readings
    that come twice change nothing.
    """
    rows = await database.read(lambda r: _chosen(r, positions, reason))
    for start in range(0, len(rows), PAGE):
        part = rows[start : start + PAGE]
        await journal.append([(row.topic, row.payload) for row in part], now)
        done = [row.position for row in part]
        await database.write(partial(_mark, done, now))
    return len(rows)


def _mark(positions: Sequence[int], now: int, records: Records) -> None:
    records.quarantine.replayed(positions, now)


def _chosen(records: Records, positions: Sequence[int], reason: str | None) -> list[QuarantineRow]:
    if positions:
        return [records.quarantine.get(position) for position in positions]
    rows: list[QuarantineRow] = []
    after: int | None = None
    while page := records.quarantine.page(after=after, limit=PAGE, reason=reason):
        rows += [row for row in page if row.replayed is None]
        after = page[-1].position
    return sorted(rows, key=lambda row: row.position)
