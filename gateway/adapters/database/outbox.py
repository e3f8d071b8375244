"""Effects that leave the house, queued with the state they follow from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Prepared, Shape, Transaction, count_states, one_of
from gateway.domain.delivery import Attempt, Delivery, DeliveryOutcome, DeliveryState, Reached
from gateway.domain.errors import ConflictError, NotFoundError

_DELIVERY = Shape(Delivery, tables.outbox)
_ATTEMPT = Shape(Attempt, tables.attempts)
_OUTCOME = Shape(DeliveryOutcome, tables.delivery_outcomes)
_AT_ONCE = 8
"""deliveries whose outcomes are asked for in one statement"""
_OUTCOMES_OF = Prepared(
    _OUTCOME.select.where(
        one_of(tables.delivery_outcomes.c.delivery, [sa.bindparam(f"delivery_{n}") for n in range(_AT_ONCE)])
    )
)

_WAITING = (DeliveryState.PENDING, DeliveryState.LEASED)
_WAITS = Prepared(
    sa.select(tables.outbox.c.id, tables.outbox.c.channel, tables.outbox.c.key).where(
        tables.outbox.c.touchpoint == sa.bindparam("touchpoint"), one_of(tables.outbox.c.state, _WAITING)
    )
)
_C = tables.outbox.c
_FALLS_DUE = ((_C.due_at, DeliveryState.PENDING), (_C.lease_until, DeliveryState.LEASED))
_CLAIMABLE = [
    Prepared(
        _DELIVERY.select.add_columns(_C.seq)
        .where(_C.channel == sa.bindparam("channel"), _C.state == state, column <= sa.bindparam("now"))
        .order_by(_C.due_at, _C.seq)
        .limit(sa.bindparam("most"))
        .with_for_update(skip_locked=True)
    )
    for column, state in _FALLS_DUE
]
FEW = 4
"""Up to so many rows are leased one by one, by a statement that is worded already."""
_LEASE = Prepared(
    sa.update(tables.outbox)
    .where(_C.id == sa.bindparam("key_"))
    .values(state=DeliveryState.LEASED, lease_until=sa.bindparam("until", type_=_C.lease_until.type))
)
_FINISH = Prepared(
    sa.update(tables.outbox)
    .where(_C.id == sa.bindparam("key_"))
    .values({name: sa.bindparam(name, type_=_C[name].type) for name in _DELIVERY.names if name != "id"})
)
_KNOWN = Prepared(sa.select(_C.id).where(_C.id == sa.bindparam("key")))
_OF_TOUCHPOINT = Prepared(
    _DELIVERY.select.where(_C.touchpoint == sa.bindparam("touchpoint"))
    .order_by(_C.seq.desc())
    .limit(sa.bindparam("most"))
)
_AHEAD = Prepared(
    _DELIVERY.select.where(
        _C.channel == sa.bindparam("channel"),
        _C.target == sa.bindparam("target"),
        _C.seq < sa.select(_C.seq).where(_C.id == sa.bindparam("key")).scalar_subquery(),
        _C.state == DeliveryState.PENDING,
        sa.or_(_C.attempts > 0, _C.due_at <= sa.bindparam("soon")),
    )
    .order_by(_C.seq)
    .limit(1)
)


@cache
def _earliest(channels: tuple[str, ...]) -> Prepared:
    """All of it in one statement: asked after everything that is sent."""
    c = tables.outbox.c
    looks = (
        sa.select(sa.literal(channel), sa.func.min(column)).where(c.channel == channel, c.state == state)
        for channel in channels
        for column, state in _FALLS_DUE
    )
    return Prepared(sa.union_all(*looks))


class SqlOutbox:
    """See `gateway.ports.Outbox`."""

    def __init__(self, transaction: Transaction) -> None:
        self._on = transaction
        self._connection = transaction.connection

    def add(self, delivery: Delivery) -> bool:
        added = self._on.insert_once(tables.outbox, _DELIVERY.row(delivery), "channel", "target", "key")
        if added:
            self._on.changed("outbox", delivery.id)
        return added

    def claim(self, now: int, *, lease_ms: int, limit: int, channels: Sequence[str]) -> list[Delivery]:
        found = [row for channel in channels for row in self._claimable(channel, now, limit)]
        found.sort(key=lambda row: row[0])
        claimed = [
            dataclasses.replace(delivery, state=DeliveryState.LEASED, lease_until=now + lease_ms)
            for _, delivery in found[:limit]
        ]
        if len(claimed) > FEW:
            self._store(
                [d.id for d in claimed], {"state": DeliveryState.LEASED, "lease_until": now + lease_ms}
            )
        else:
            for delivery in claimed:
                _LEASE.run(self._connection, key_=delivery.id, until=now + lease_ms)
        return claimed

    def _claimable(self, channel: str, now: int, limit: int) -> list[tuple[tuple[int, int], Delivery]]:
        """One channel at a time, so that the index gives the oldest however many wait."""
        rows: list[tuple[tuple[int, int], Delivery]] = []
        for claimable in _CLAIMABLE:
            for *fields, seq in claimable.rows(self._connection, channel=channel, now=now, most=limit):
                delivery = _DELIVERY.value(fields)
                rows.append(((delivery.due_at, seq), delivery))
        return rows

    def _store(self, delivery_ids: Sequence[str], values: dict[str, Any]) -> None:
        if delivery_ids:
            statement = sa.update(tables.outbox).where(tables.outbox.c.id.in_(delivery_ids)).values(values)
            self._connection.execute(statement)

    def finish(self, delivery: Delivery, attempt: Attempt) -> None:
        stored = self.get(delivery.id)
        self._on.add(tables.attempts, _ATTEMPT.row(attempt))
        if stored.state not in _WAITING and delivery.state != DeliveryState.SENT:
            # It ended while it was being sent: a late failure must not bring it back.
            self._store([delivery.id], {"attempts": delivery.attempts})
        else:
            _FINISH.run(self._connection, **_DELIVERY.row(delivery), key_=delivery.id)
        self._on.changed("outbox", delivery.id)

    def get(self, delivery_id: str) -> Delivery:
        delivery = _DELIVERY.by_id(self._connection, delivery_id)
        if delivery is None:
            raise NotFoundError(f"There is no delivery {delivery_id}.")
        return delivery

    def attempts(self, delivery_id: str) -> list[Attempt]:
        c = tables.attempts.c
        query = _ATTEMPT.select.where(c.delivery == delivery_id).order_by(c.seq)
        return _ATTEMPT.all(self._connection, query)

    def drop_pending(
        self, touchpoint_id: str, *, channel: str | None = None, about: str | None = None
    ) -> int:
        begins = f"{touchpoint_id}:{about}:" if about is not None else ""
        dropped = [
            found
            for found, on, key in _WAITS.rows(self._connection, touchpoint=touchpoint_id)
            if channel in (None, on) and key.startswith(begins)
        ]
        if not dropped:
            return 0
        self._store(dropped, {"state": DeliveryState.DROPPED, "lease_until": None})
        for delivery_id in dropped:
            self._on.changed("outbox", delivery_id)
        return len(dropped)

    def waiting_for(self, owner: str) -> list[Delivery]:
        c = tables.outbox.c
        query = _DELIVERY.select.where(c.owner == owner, c.state.in_(_WAITING)).order_by(c.seq)
        return _DELIVERY.all(self._connection, query)

    def drop(self, delivery_ids: Sequence[str]) -> None:
        self._store(delivery_ids, {"state": DeliveryState.DROPPED, "lease_until": None})
        for delivery_id in delivery_ids:
            self._on.changed("outbox", delivery_id)

    def page(
        self,
        *,
        states: Sequence[DeliveryState] = (),
        touchpoint: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Delivery]:
        if touchpoint is not None and not states and after is None:
            return _DELIVERY.of(self._connection, _OF_TOUCHPOINT, touchpoint=touchpoint, most=limit)
        c = tables.outbox.c
        query = _DELIVERY.select.order_by(c.seq.desc()).limit(limit)
        if states:
            query = query.where(c.state.in_(states))
        if touchpoint is not None:
            query = query.where(c.touchpoint == touchpoint)
        if after is not None:
            query = query.where(c.seq < sa.select(c.seq).where(c.id == after).scalar_subquery())
        return _DELIVERY.all(self._connection, query)

    def retry(self, delivery_id: str, now: int) -> None:
        delivery = self.get(delivery_id)
        if delivery.state != DeliveryState.DEAD:
            raise ConflictError(
                f"This delivery is {delivery.state}; only a dead one is tried again.", delivery
            )
        self._store([delivery_id], {"state": DeliveryState.PENDING, "due_at": now, "lease_until": None})
        self._on.changed("outbox", delivery_id)

    def reached(self, delivery_id: str, outcome: Reached, at: int) -> bool:
        outcomes = tables.delivery_outcomes
        if _KNOWN.scalar(self._connection, key=delivery_id) is None:
            return False
        row = {"delivery": delivery_id, "outcome": outcome, "at": at}
        added = self._on.insert_once(outcomes, row, "delivery", "outcome")
        if added:
            self._on.changed("outbox", delivery_id)
        return added

    def outcomes(self, delivery_ids: Sequence[str]) -> Mapping[str, list[DeliveryOutcome]]:
        found: dict[str, list[DeliveryOutcome]] = {}
        known: list[DeliveryOutcome] = []
        ids, order = list(dict.fromkeys(delivery_ids)), list(Reached)
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            named = {f"delivery_{n}": some[min(n, len(some) - 1)] for n in range(_AT_ONCE)}
            known += _OUTCOME.of(self._connection, _OUTCOMES_OF, **named)
        for one in sorted(known, key=lambda o: (o.at, order.index(o.outcome))):
            found.setdefault(one.delivery, []).append(one)
        return found

    def drop_target(self, channel: str, target: str) -> int:
        c = tables.outbox.c
        query = sa.select(c.id).where(c.channel == channel, c.target == target, c.state.in_(_WAITING))
        dropped = list(self._connection.scalars(query))
        self._store(dropped, {"state": DeliveryState.DROPPED, "lease_until": None})
        for delivery_id in dropped:
            self._on.changed("outbox", delivery_id)
        return len(dropped)

    def to_target(self, channel: str, target: str, limit: int = 20) -> list[Delivery]:
        c = tables.outbox.c
        query = _DELIVERY.select.where(c.channel == channel, c.target == target)
        return _DELIVERY.all(self._connection, query.order_by(c.seq.desc()).limit(limit))

    def ahead_of(self, delivery: Delivery, soon: int = -1) -> Delivery | None:
        whose = {"channel": delivery.channel, "target": delivery.target, "key": delivery.id}
        return next(iter(_DELIVERY.of(self._connection, _AHEAD, **whose, soon=soon)), None)

    def move(self, delivery_id: str, due_at: int) -> None:
        c = tables.outbox.c
        statement = sa.update(tables.outbox).where(c.id == delivery_id, c.state == DeliveryState.PENDING)
        self._connection.execute(statement.values(due_at=due_at))
        self._on.changed("outbox", delivery_id)

    def put_back(self, delivery_id: str, due_at: int) -> None:
        c = tables.outbox.c
        statement = sa.update(tables.outbox).where(c.id == delivery_id, c.state == DeliveryState.LEASED)
        self._connection.execute(
            statement.values(state=DeliveryState.PENDING, due_at=due_at, lease_until=None)
        )

    def next_due(self, channels: Sequence[str]) -> int | None:
        return min(self.earliest(channels).values(), default=None)

    def earliest(self, channels: Sequence[str]) -> Mapping[str, int]:
        found: dict[str, int] = {}
        for channel, at in _earliest(tuple(channels)).rows(self._connection) if channels else ():
            if at is not None:
                found[channel] = min(at, found.get(channel, at))
        return found

    def counts(self, states: Sequence[DeliveryState] = ()) -> Mapping[str, int]:
        return count_states(self._connection, tables.outbox.c.state, states or tuple(DeliveryState))
