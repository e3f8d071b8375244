"""What became of finished jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Prepared, Shape, Transaction
from gateway.domain.delivery import DeliveryState
from gateway.domain.result import Result

_RESULT = Shape(Result, tables.results)
_OF_DEVICE = Prepared(
    _RESULT.select.where(
        tables.results.c.device == sa.bindparam("device"), tables.results.c.done_at >= sa.bindparam("since")
    ).order_by(tables.results.c.done_at.desc())
)

_NEXT_LOOK = Prepared(
    sa.select(tables.results.c.look_at)
    .where(tables.results.c.helped.is_(None))
    .order_by(tables.results.c.look_at)
    .limit(1)
)

_TO_THE_OWNER = ("web_push", "email", "letter")
"""Channels of which every row that was sent is a message; a display is one message, however often it was
brought up to date."""
_DISPLAY = "display"


_PROMISES = {
    "time": tables.results.c.in_time,
    "price": tables.results.c.in_price,
    "fixed": tables.results.c.helped,
}
_PROMISED = [
    number
    for column in _PROMISES.values()
    for number in (sa.func.count(sa.case((column, 1))), sa.func.count(column))
]
"""Kept and known, of each."""


def _kept(row: Sequence[Any]) -> dict[str, tuple[int, int]]:
    return {name: (row[2 * n], row[2 * n + 1]) for n, name in enumerate(_PROMISES)}


class SqlResults:
    """See `gateway.ports.Results`."""

    def __init__(self, transaction: Transaction) -> None:
        self._on = transaction
        self._connection = transaction.connection

    def add(self, result: Result) -> None:
        self._on.insert_once(tables.results, _RESULT.row(result), "touchpoint")
        self._on.changed("touchpoint", result.touchpoint)

    def get(self, touchpoint_id: str) -> Result | None:
        query = _RESULT.select.where(tables.results.c.touchpoint == touchpoint_id)
        return _RESULT.first(self._connection, query)

    def save(self, result: Result) -> None:
        c = tables.results.c
        self._connection.execute(
            sa.update(tables.results).where(c.touchpoint == result.touchpoint).values(_RESULT.row(result))
        )
        self._on.changed("touchpoint", result.touchpoint)

    def of_device(self, device: str, since: int) -> list[Result]:
        return _RESULT.of(self._connection, _OF_DEVICE, device=device, since=since)

    def number(self, owner: str) -> int:
        query = sa.select(sa.func.count()).where(tables.results.c.owner == owner)
        return self._connection.scalar(query) or 0

    def due(self, now: int, limit: int = 100) -> list[Result]:
        c = tables.results.c
        query = _RESULT.select.where(c.helped.is_(None), c.look_at <= now).order_by(c.look_at)
        return _RESULT.all(self._connection, query.limit(limit))

    def next_look(self) -> int | None:
        at: int | None = _NEXT_LOOK.scalar(self._connection)
        return at

    def messages(self, touchpoint_id: str) -> int:
        c = tables.outbox.c
        sent = sa.select(c.channel, sa.func.count()).where(
            c.touchpoint == touchpoint_id, c.state == DeliveryState.SENT
        )
        rows = self._connection.execute(sent.group_by(c.channel))
        numbers: dict[str, int] = {row[0]: row[1] for row in rows}
        return sum(numbers.get(name, 0) for name in _TO_THE_OWNER) + min(numbers.get(_DISPLAY, 0), 1)

    def contacts(self, about: Sequence[str]) -> int:
        query = sa.select(sa.func.count()).where(tables.contacts.c.about.in_(about))
        return self._connection.scalar(query) or 0

    def promises(self, since: int, until: int) -> dict[str, tuple[int, int]]:
        c = tables.results.c
        query = sa.select(*_PROMISED).where(c.done_at >= since, c.done_at < until)
        return _kept(tuple(self._connection.execute(query).one()))

    def promises_by_workshop(
        self, since: int, until: int, limit: int = 500
    ) -> list[tuple[str, int, dict[str, tuple[int, int]]]]:
        c = tables.results.c
        jobs = sa.func.count().label("jobs")
        query = sa.select(*_PROMISED, c.workshop, jobs).where(c.done_at >= since, c.done_at < until)
        query = query.group_by(c.workshop).order_by(jobs.desc(), c.workshop).limit(limit)
        return [(row.workshop, row.jobs, _kept(tuple(row))) for row in self._connection.execute(query)]

    def efforts(self, since: int, until: int) -> tuple[int, int, int]:
        c = tables.results.c
        sums = (sa.func.coalesce(sa.func.sum(column), 0) for column in (c.messages, c.contacts))
        query = sa.select(sa.func.count(), *sums).where(
            c.done_at >= since, c.done_at < until, c.messages.is_not(None)
        )
        matters, messages, contacts = self._connection.execute(query).one()
        return matters, int(messages), int(contacts)
