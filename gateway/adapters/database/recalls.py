"""Recall campaigns, the products that they concern, and how far they have come."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Prepared, Shape, Transaction
from gateway.domain.errors import ConflictError, NotFoundError
from gateway.domain.recall import Affected, Progress, Recall
from gateway.domain.touchpoint import State

_RECALL = Shape(Recall, tables.recalls)
_WAITING = Prepared(
    sa.select(tables.recall_devices.c.recall, tables.recall_devices.c.device)
    .where(tables.recall_devices.c.finding.is_(None))
    .order_by(tables.recall_devices.c.seq)
    .limit(sa.bindparam("most"))
)
_MANY = 500
"""Ids in one statement."""

_STANDS: dict[str | None, str] = {
    None: "nobody",
    State.DEFERRED: "deferred",
    State.OPEN: "open",
    State.ANSWERED: "answered",
    State.CLOSED: "answered",
    State.EXPIRED: "open",
    State.WITHDRAWN: "nobody",
    State.BOOKED: "booked",
    State.FULFILLED: "done",
}


class SqlRecalls:
    """See `gateway.ports.Recalls`."""

    def __init__(self, transaction: Transaction) -> None:
        self._on = transaction
        self._connection = transaction.connection

    def add(self, recall: Recall, affected: Affected) -> int:
        if not self._on.insert_once(tables.recalls, _RECALL.row(recall), "id"):
            raise ConflictError(f"There is a recall {recall.id} already.", self.get(recall.id))
        d = tables.devices.c
        if affected.devices:
            wanted = dict.fromkeys(affected.devices)
        else:
            query = sa.select(d.id).where(d.kind == recall.kind, *_conditions(affected)).order_by(d.id)
            wanted = dict.fromkeys(self._connection.scalars(query))
        rows = [{"recall": recall.id, "device": device} for device in wanted]
        for first in range(0, len(rows), _MANY):
            self._connection.execute(sa.insert(tables.recall_devices), rows[first : first + _MANY])
        self._on.changed("touchpoint", "")
        return len(rows)

    def get(self, recall_id: str) -> Recall:
        recall = _RECALL.by_id(self._connection, recall_id)
        if recall is None:
            raise NotFoundError(f"There is no recall {recall_id}.")
        return recall

    def page(self, *, after: str | None = None, limit: int = 100) -> list[Recall]:
        c = tables.recalls.c
        query = _RECALL.select.order_by(c.created.desc(), c.id.desc()).limit(limit)
        if after is not None:
            at = sa.select(c.created).where(c.id == after).scalar_subquery()
            query = query.where(sa.or_(c.created < at, sa.and_(c.created == at, c.id < after)))
        return _RECALL.all(self._connection, query)

    def waiting(self, limit: int) -> list[tuple[str, str]]:
        return [(recall, device) for recall, device in _WAITING.rows(self._connection, most=limit)]

    def raised(self, recall_id: str, device: str, finding: str) -> None:
        c = tables.recall_devices.c
        self._connection.execute(
            sa.update(tables.recall_devices)
            .where(c.recall == recall_id, c.device == device)
            .values(finding=finding)
        )

    def of_device(self, device: str) -> list[str]:
        c, f = tables.recall_devices.c, tables.findings.c
        query = sa.select(c.finding).join_from(tables.recall_devices, tables.findings, f.id == c.finding)
        return list(self._connection.scalars(query.where(c.device == device, f.cleared_at.is_(None))))

    def devices(self, recall_id: str, *, after: str | None = None, limit: int = 100) -> list[str]:
        c = tables.recall_devices.c
        query = sa.select(c.device).where(c.recall == recall_id).order_by(c.device).limit(limit)
        return list(self._connection.scalars(query if after is None else query.where(c.device > after)))

    def progress(self, recall_id: str) -> Progress:
        c, t, f = tables.recall_devices.c, tables.touchpoints.c, tables.findings.c
        newest = (
            sa.select(t.state)
            .where(t.finding == c.finding)
            .order_by(sa.func.coalesce(t.id, "").desc())
            .limit(1)
            .scalar_subquery()
        )
        cleared = sa.exists().where(f.id == c.finding, f.cleared_at.is_not(None))
        rows = sa.select(c.finding.is_(None).label("waits"), cleared.label("over"), newest.label("state"))
        each = rows.where(c.recall == recall_id).subquery()
        query = sa.select(each.c.waits, each.c.over, each.c.state, sa.func.count()).group_by(*each.c)
        counts = dict.fromkeys(("devices", "waiting", *_STANDS.values()), 0)
        for waits, over, state, n in self._connection.execute(query):
            counts["devices"] += n
            counts["waiting" if waits else "done" if over else _STANDS[state]] += n
        return Progress(**counts)


def _conditions(affected: Affected) -> Sequence[sa.ColumnElement[bool]]:
    d = tables.devices.c
    found: list[sa.ColumnElement[bool]] = []
    if affected.models:
        found.append(d.model.in_(affected.models))
    if affected.firmware:
        found.append(d.firmware.in_(affected.firmware))
    if affected.serial_from is not None:
        found += [d.serial >= affected.serial_from, sa.func.length(d.serial) == len(affected.serial_from)]
    if affected.serial_to is not None:
        found += [d.serial <= affected.serial_to, sa.func.length(d.serial) == len(affected.serial_to)]
    return found
