"""Rules that have slowed themselves down, and the days on which their touchpoints go."""

from __future__ import annotations

import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Prepared, Shape, Transaction
from gateway.domain.pace import Pace
from gateway.domain.touchpoint import State

_PACE = Shape(Pace, tables.rule_paces)
_OF_RULE = Prepared(_PACE.select.where(tables.rule_paces.c.rule == sa.bindparam("rule")))


class SqlPaces:
    """See `gateway.ports.Paces`."""

    def __init__(self, transaction: Transaction) -> None:
        self._on = transaction
        self._connection = transaction.connection

    def get(self, rule: str) -> Pace | None:
        return self._on.keep(
            ("rule_paces",),
            (rule,),
            lambda: next(iter(_PACE.of(self._connection, _OF_RULE, rule=rule)), None),
        )

    def all(self) -> list[Pace]:
        return _PACE.all(self._connection, _PACE.select.order_by(tables.rule_paces.c.rule))

    def put(self, pace: Pace) -> None:
        self._on.put(tables.rule_paces, _PACE.row(pace), "rule")

    def remove(self, rule: str, now: int) -> None:
        places, t = tables.pace_places.c, tables.touchpoints.c
        waiting = sa.select(places.touchpoint).where(places.rule == rule, places.at > now)
        self._connection.execute(
            sa.update(tables.touchpoints)
            .where(t.id.in_(waiting), t.state == State.DEFERRED, t.wake_at > now)
            .values(wake_at=now)
        )
        self._connection.execute(sa.delete(tables.pace_places).where(places.rule == rule))
        self._connection.execute(sa.delete(tables.rule_paces).where(tables.rule_paces.c.rule == rule))

    def place_of(self, touchpoint_id: str) -> int | None:
        c = tables.pace_places.c
        return self._connection.scalar(sa.select(c.at).where(c.touchpoint == touchpoint_id))

    def last_place(self, rule: str) -> tuple[int, int] | None:
        c = tables.pace_places.c
        day = self._connection.scalar(sa.select(sa.func.max(c.at)).where(c.rule == rule))
        if day is None:
            return None
        used = sa.select(sa.func.count()).select_from(tables.pace_places).where(c.rule == rule, c.at == day)
        return day, self._connection.scalar(used) or 0

    def take_place(self, touchpoint_id: str, rule: str, at: int) -> None:
        row = {"touchpoint": touchpoint_id, "rule": rule, "at": at}
        self._on.put(tables.pace_places, row, "touchpoint")

    def answers(self, rule: str, since: int, limit: int) -> list[str]:
        c = tables.touchpoints.c
        query = sa.select(c.action).where(c.rule == rule, c.answered_at > since)
        return list(self._connection.scalars(query.order_by(c.answered_at.desc()).limit(limit)))

    def sent(self, rule: str, since: int) -> int:
        c = tables.touchpoints.c
        query = sa.select(sa.func.count()).select_from(tables.touchpoints)
        return self._connection.scalar(query.where(c.rule == rule, c.sent_at >= since)) or 0
