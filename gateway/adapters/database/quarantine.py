"""Messages that could not be decoded, kept as they came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import MANY, Shape, Transaction
from gateway.domain.errors import NotFoundError
from gateway.domain.messages import QuarantineRow

_ROW = Shape(QuarantineRow, tables.quarantine)

_ADD = sa.text(
    """
    INSERT INTO quarantine (position, received, topic, payload, reason, detail, replayed)
    VALUES (:position, :received, :topic, :payload, :reason, :detail, :replayed)
    ON CONFLICT (position) DO NOTHING
    """
)


class SqlQuarantine:
    """See `gateway.ports.Quarantine`."""

    def __init__(self, transaction: Transaction) -> None:
        self._on = transaction
        self._connection = transaction.connection

    def add(self, rows: Sequence[QuarantineRow]) -> None:
        if rows:
            self._connection.execute(_ADD, [_ROW.row(row) for row in rows])
            self._tell([row.position for row in rows])

    def _tell(self, positions: Sequence[int]) -> None:
        self._on.changed("quarantine", str(positions[0]) if len(positions) == 1 else MANY)

    def get(self, position: int) -> QuarantineRow:
        row = _ROW.first(self._connection, _ROW.select.where(tables.quarantine.c.position == position))
        if row is None:
            raise NotFoundError(f"There is no message {position} in quarantine.")
        return row

    def page(
        self, *, after: int | None = None, limit: int = 100, reason: str | None = None
    ) -> list[QuarantineRow]:
        c = tables.quarantine.c
        query = _ROW.select.order_by(c.position.desc()).limit(limit)
        if after is not None:
            query = query.where(c.position < after)
        if reason is not None:
            query = query.where(c.reason == reason)
        return _ROW.all(self._connection, query)

    def replayed(self, positions: Sequence[int], at: int) -> None:
        if positions:
            c = tables.quarantine.c
            statement = sa.update(tables.quarantine).where(c.position == sa.bindparam("which"))
            rows = [{"which": position, "replayed": at} for position in positions]
            self._connection.execute(statement, rows)
            self._tell(positions)

    def counts(self) -> Mapping[str, int]:
        c = tables.quarantine.c
        query = sa.select(c.reason, sa.func.count()).where(c.replayed.is_(None)).group_by(c.reason)
        return dict(self._connection.execute(query).all())
