"""Findings, touchpoints and the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Prepared, Shape, Transaction, count_states, one_of
from gateway.domain.errors import ConflictError, NotFoundError
from gateway.domain.touchpoint import LIVE, Finding, LedgerLine, Matter, State, Touchpoint, check_move

_FINDING = Shape(Finding, tables.findings)
_TOUCHPOINT = Shape(Touchpoint, tables.touchpoints)
_LINE = Shape(LedgerLine, tables.ledger)

_DECLINED = ("not_now", "already_done")
"""Actions by which an owner turns the offer down."""


_C = tables.touchpoints.c
_LIVE = Prepared(
    _TOUCHPOINT.select.where(
        _C.device == sa.bindparam("device"), _C.rule == sa.bindparam("rule"), one_of(_C.state, LIVE)
    )
)
_DEFERRED = Prepared(
    _TOUCHPOINT.select.where(_C.owner == sa.bindparam("owner"), _C.state == State.DEFERRED).order_by(
        _C.wake_at
    )
)

_WAKING = {
    state: Prepared(
        _TOUCHPOINT.select.where(_C.state == state, _C.wake_at <= sa.bindparam("now"))
        .order_by(_C.wake_at)
        .limit(sa.bindparam("most"))
    )
    for state in (State.DEFERRED, State.CLOSED)
}
_EARLIEST = [
    Prepared(sa.select(column).where(_C.state == state, column.is_not(None)).order_by(column).limit(1))
    for column, state in (
        (_C.wake_at, State.DEFERRED),
        (_C.wake_at, State.CLOSED),
        (_C.expires_at, State.DEFERRED),
        (_C.expires_at, State.OPEN),
    )
]
"""When something falls due: asked after everything that happens."""

_SAVE = Prepared(
    sa.update(tables.touchpoints)
    .where(_C.id == sa.bindparam("key"))
    .values(
        {
            name: sa.bindparam(name, type_=_C[name].type)
            for name in (*_TOUCHPOINT.names, "action", "answered_at")
            if name not in ("id", "device", "created")  # these stay, and cost looks into six tables
        }
    )
)


class SqlTouchpoints:
    """See `gateway.ports.Touchpoints`."""

    def __init__(self, transaction: Transaction) -> None:
        self._on = transaction
        self._connection = transaction.connection

    # --- findings

    def add_finding(self, finding: Finding) -> bool:
        self._on.found_on(finding.found_at)
        return self._on.insert_once(tables.findings, _FINDING.row(finding), "id")

    def finding(self, finding_id: str) -> Finding | None:
        return _FINDING.by_id(self._connection, finding_id)

    def clear_finding(self, finding_id: str, at: int) -> None:
        c = tables.findings.c
        self._connection.execute(
            sa.update(tables.findings).where(c.id == finding_id, c.cleared_at.is_(None)).values(cleared_at=at)
        )

    def findings(
        self, *, device: str | None = None, rule: str | None = None, limit: int = 100
    ) -> list[Finding]:
        c = tables.findings.c
        query = _FINDING.select.order_by(c.found_at.desc(), c.id.desc()).limit(limit)
        if device is not None:
            query = query.where(c.device == device)
        if rule is not None:
            query = query.where((c.rule if device is None else _beside(c.rule)) == rule)
        return _FINDING.all(self._connection, query)

    def found_by_rule(self, since: int) -> Mapping[str, tuple[int, int]]:
        c = tables.findings.c
        numbers = sa.select(c.rule, sa.func.count(), sa.func.count(c.device.distinct()))
        rows = self._connection.execute(numbers.where(c.found_at >= since).group_by(_beside(c.rule)))
        return {rule: (findings, devices) for rule, findings, devices in rows}

    def tried_out(self, since: int) -> Mapping[str, tuple[int, int]]:
        f, line = tables.findings.c, tables.ledger.c
        numbers = sa.select(f.rule, sa.func.count(f.id.distinct()), sa.func.count(line.owner.distinct()))
        told = numbers.join_from(tables.findings, tables.ledger, line.finding == f.id)
        told = told.where(f.found_at >= since, f.shadow, line.code == "suppressed_shadow")
        rows = self._connection.execute(told.group_by(_beside(f.rule)))
        return {rule: (findings, owners) for rule, findings, owners in rows}

    # --- touchpoints

    def add(self, touchpoint: Touchpoint) -> None:
        if not self._on.insert_once(tables.touchpoints, _row(touchpoint), "id"):
            raise ConflictError(f"There is a touchpoint {touchpoint.id} already.", self.get(touchpoint.id))
        self._on.changed("touchpoint", touchpoint.id)

    def get(self, touchpoint_id: str) -> Touchpoint:
        touchpoint = _TOUCHPOINT.by_id(self._connection, touchpoint_id)
        if touchpoint is None:
            raise NotFoundError(f"There is no touchpoint {touchpoint_id}.")
        return touchpoint

    def save(self, touchpoint: Touchpoint) -> None:
        stored = self.get(touchpoint.id)
        if touchpoint.state != stored.state:
            check_move(stored, touchpoint.state)
        _SAVE.run(self._connection, **_row(touchpoint), key=touchpoint.id)
        self._on.changed("touchpoint", touchpoint.id)

    def page(
        self,
        *,
        owner: str | None = None,
        device: str | None = None,
        states: Sequence[State] = (),
        rule: str | None = None,
        finding: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Touchpoint]:
        wishes = {"finding": finding, "device": device, "owner": owner, "rule": rule}
        named = {name: wanted for name, wanted in wishes.items() if wanted is not None}
        more = {"most": limit} | ({} if after is None else {"after": after})
        if named or not states:
            query = _page(tuple(named), tuple(states), after is not None)
            return _TOUCHPOINT.of(self._connection, query, **named, **more)
        # Each state by itself, so that the index gives the newest however many there are.
        query = _page(("state",), (), after is not None)
        found = [t for state in states for t in _TOUCHPOINT.of(self._connection, query, state=state, **more)]
        return sorted(found, key=lambda t: t.id, reverse=True)[:limit]

    def live_for(self, device: str, rule: str) -> Touchpoint | None:
        # Not sorted by the database: it would walk the rule's touchpoints of all devices in order of ids.
        found = _TOUCHPOINT.of(self._connection, _LIVE, device=device, rule=rule)
        return max(found, key=lambda t: t.id, default=None)

    def due(self, now: int, limit: int = 100) -> list[Touchpoint]:
        return _TOUCHPOINT.of(self._connection, _WAKING[State.DEFERRED], now=now, most=limit)

    def expired(self, now: int, limit: int = 100) -> list[Touchpoint]:
        c = tables.touchpoints.c
        query = _TOUCHPOINT.select.where(c.state.in_((State.OPEN, State.DEFERRED)), c.expires_at <= now)
        return _TOUCHPOINT.all(self._connection, query.order_by(c.expires_at).limit(limit))

    def returning(self, now: int, limit: int = 100) -> list[Touchpoint]:
        return _TOUCHPOINT.of(self._connection, _WAKING[State.CLOSED], now=now, most=limit)

    def next_wake(self) -> int | None:
        times = (earliest.scalar(self._connection) for earliest in _EARLIEST)
        return min((t for t in times if t is not None), default=None)

    def deferred_for_device(self, device: str) -> list[Touchpoint]:
        c = tables.touchpoints.c
        query = _TOUCHPOINT.select.where(c.device == device, *_among([State.DEFERRED])).order_by(c.id)
        return _TOUCHPOINT.all(self._connection, query)

    def deferred_for_owner(self, owner: str) -> list[Touchpoint]:
        return _TOUCHPOINT.of(self._connection, _DEFERRED, owner=owner)

    # --- bundles

    def matters(self, touchpoint_id: str) -> list[Matter]:
        own = _OWN.rows(self._connection, id=touchpoint_id)
        if not own:
            raise NotFoundError(f"There is no touchpoint {touchpoint_id}.")
        rows = own + _TAKEN.rows(self._connection, id=touchpoint_id)
        return [Matter(**dict(zip(_MATTER, row, strict=True))) for row in rows]

    def take_in(
        self, touchpoint_id: str, finding: Finding, service: str | None, purpose: str, at: int
    ) -> None:
        row = {"touchpoint": touchpoint_id, "finding": finding.id, "service": service, "purpose": purpose}
        self._on.insert_once(tables.touchpoint_findings, row | {"added_at": at}, "touchpoint", "finding")
        self._on.changed("touchpoint", touchpoint_id)

    def take_out(self, touchpoint_id: str, finding_id: str) -> None:
        c = tables.touchpoint_findings.c
        statement = sa.delete(tables.touchpoint_findings)
        self._connection.execute(statement.where(c.touchpoint == touchpoint_id, c.finding == finding_id))
        self._on.changed("touchpoint", touchpoint_id)

    def holding(self, finding_id: str) -> list[Touchpoint]:
        taken = tables.touchpoint_findings
        query = _TOUCHPOINT.select.join_from(
            taken, tables.touchpoints, tables.touchpoints.c.id == taken.c.touchpoint
        ).where(taken.c.finding == finding_id)
        return sorted(_TOUCHPOINT.all(self._connection, query), key=lambda t: t.id, reverse=True)

    # --- ledger

    def write_line(self, line: LedgerLine) -> None:
        self._on.add(tables.ledger, _LINE.row(line))
        self._on.changed("ledger", line.owner or "")

    def ledger(
        self,
        *,
        owner: str | None = None,
        touchpoint: str | None = None,
        finding: str | None = None,
        shared: Sequence[tuple[str, int, int | None]] = (),
        after: str | None = None,
        limit: int = 100,
    ) -> list[LedgerLine]:
        more = {"most": limit} | ({} if after is None else {"after": after})
        if shared and owner is not None:
            spans = [{"device": d, "since": since, "until": until} for d, since, until in shared]
            return self._ledger_of_several([{"owner": owner}, *spans], more)
        wishes = {"owner": owner, "touchpoint": touchpoint, "finding": finding}
        return [line for _, line in self._lines(wishes, more)][:limit]

    def _ledger_of_several(
        self, wishes: Sequence[Mapping[str, Any]], more: Mapping[str, Any]
    ) -> list[LedgerLine]:
        """One walk along an index for each, so that none has to be sorted as a whole."""
        found = {seq: line for one in wishes for seq, line in self._lines(one, more)}
        return [found[seq] for seq in sorted(found, reverse=True)[: more["most"]]]

    def _lines(self, wishes: Mapping[str, Any], more: Mapping[str, Any]) -> list[tuple[int, LedgerLine]]:
        named = {name: wanted for name, wanted in wishes.items() if wanted is not None}
        query = _ledger(tuple(named), "after" in more)
        rows = query.rows(self._connection, **named, **more)
        return [(seq, _LINE.value(values)) for *values, seq in rows]

    # --- figures

    def counts(self, states: Sequence[State] = ()) -> Mapping[str, int]:
        return count_states(self._connection, tables.touchpoints.c.state, states or tuple(State))

    def funnel(self, since: int) -> list[Mapping[str, Any]]:
        f = tables.findings.c
        found = sa.select(f.rule, sa.func.count()).where(f.found_at >= since, ~f.shadow).group_by(f.rule)
        rules: dict[str, dict[str, Any]] = {
            rule: _step(rule, n) for rule, n in self._connection.execute(found)
        }
        for rule, *numbers in self._connection.execute(_steps(since)):
            rules.setdefault(rule, _step(rule, 0)).update(zip(_STEPS, numbers, strict=True))
        return [rules[rule] for rule in sorted(rules)]


def _matters(*columns: Any) -> sa.Select[Any]:
    f = tables.findings.c
    return sa.select(f.id.label("finding"), f.rule, f.version, f.severity, f.evidence, f.cleared_at, *columns)


_MATTER = (
    "finding", "rule", "version", "severity", "evidence", "cleared_at", "service", "purpose", "added_at",
)  # fmt: skip
_OWN = Prepared(
    _matters(
        tables.touchpoints.c.service,
        tables.touchpoints.c.purpose,
        tables.touchpoints.c.created.label("added_at"),
    )
    .join_from(tables.touchpoints, tables.findings, tables.findings.c.id == tables.touchpoints.c.finding)
    .where(tables.touchpoints.c.id == sa.bindparam("id"))
)
_TAKEN = Prepared(
    _matters(*(tables.touchpoint_findings.c[name] for name in ("service", "purpose", "added_at")))
    .join_from(
        tables.touchpoint_findings,
        tables.findings,
        tables.findings.c.id == tables.touchpoint_findings.c.finding,
    )
    .where(tables.touchpoint_findings.c.touchpoint == sa.bindparam("id"))
    .order_by(tables.touchpoint_findings.c.added_at, tables.touchpoint_findings.c.finding)
)

_STEPS = ("sent", "answered", "booked", "fulfilled", "declined", "silent")


def _step(rule: str, found: int) -> dict[str, Any]:
    return {"rule": rule, "found": found} | dict.fromkeys(_STEPS, 0)


def _steps(since: int) -> sa.Select[Any]:
    """Per rule the numbers of _STEPS, of the touchpoints created since."""
    c = tables.touchpoints.c
    booked = sa.exists().where(tables.appointments.c.touchpoint == c.id)

    def number(condition: Any) -> sa.Function[int]:
        return sa.func.count(sa.case((condition, 1)))

    return (
        sa.select(
            c.rule,
            number(c.sent_at.is_not(None)),
            number(c.action.is_not(None)),
            number(booked),
            number(c.state == State.FULFILLED),
            number(c.action.in_(_DECLINED)),
            number(sa.and_(c.state == State.EXPIRED, c.action.is_(None))),
        )
        .where(c.created >= since)
        .group_by(_beside(c.rule))
    )


@lru_cache(maxsize=256)
def _page(named: tuple[str, ...], states: tuple[State, ...], continued: bool) -> Prepared:
    """Touchpoints, newest first, with a place for each of the values that are named; made once. The first
    one finds the index."""
    c = tables.touchpoints.c
    query = _TOUCHPOINT.select.order_by(c.id.desc()).limit(sa.bindparam("most"))
    if continued:
        query = query.where(c.id < sa.bindparam("after"))
    query = query.where(*(c[name] == sa.bindparam(name) for name in named[:1]))
    query = query.where(*(_beside(c[name]) == sa.bindparam(name) for name in named[1:]))
    return Prepared(query.where(*_among(states)))


@lru_cache(maxsize=64)
def _ledger(named: tuple[str, ...], continued: bool) -> Prepared:
    """Lines with their places in the order, newest first, with a place for each of the values that are named;
    made once."""
    c = tables.ledger.c
    query = _LINE.select.add_columns(c.seq).order_by(c.seq.desc()).limit(sa.bindparam("most"))
    if continued:
        query = query.where(c.seq < sa.select(c.seq).where(c.id == sa.bindparam("after")).scalar_subquery())
    conditions: dict[str, sa.ColumnElement[bool]] = {
        "owner": c.owner == sa.bindparam("owner"),
        "device": c.device == sa.bindparam("device"),
        "since": c.at >= sa.bindparam("since"),
        "until": c.at < sa.bindparam("until"),
        "touchpoint": _about(),
        "finding": c.finding == sa.bindparam("finding"),
    }
    return Prepared(query.where(*(conditions[name] for name in named)))


def _beside(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """A column that never is NULL, so worded that no index serves it.

    Without statistics any index looks as good as another, but a hundred thousand touchpoints share a state,
    and few a device."""
    return sa.func.coalesce(column, "")


def _among(states: Sequence[State]) -> list[sa.ColumnElement[bool]]:
    return [one_of(_beside(tables.touchpoints.c.state), states)] if states else []


def _about() -> sa.ColumnElement[bool]:
    """Lines of a touchpoint, and those of its finding from before there was a touchpoint."""
    c = tables.ledger.c
    touchpoint: sa.BindParameter[str] = sa.bindparam("touchpoint")
    its_finding = sa.select(tables.touchpoints.c.finding).where(tables.touchpoints.c.id == touchpoint)
    return sa.or_(
        c.touchpoint == touchpoint,
        sa.and_(c.finding == its_finding.scalar_subquery(), c.touchpoint.is_(None)),
    )


def _row(touchpoint: Touchpoint) -> dict[str, Any]:
    answer = touchpoint.answer
    said, at = (answer.action, answer.at) if answer else (None, None)
    return _TOUCHPOINT.row(touchpoint, action=said, answered_at=at)
