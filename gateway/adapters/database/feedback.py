"""The questions afterwards, and who is asked one on the way."""

from __future__ import annotations

from functools import cache

import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Prepared, Shape, Transaction
from gateway.domain.appointment import AppointmentState
from gateway.domain.errors import ConflictError, NotFoundError
from gateway.domain.feedback import AskState, Feedback

_FEEDBACK = Shape(Feedback, tables.feedback)
_O = tables.ownerships.c
_CLAIMS = Prepared(
    sa.select(_O.seq, _O.owner, _O.device, _O.since)
    .where(_O.seq > sa.bindparam("after"))
    .order_by(_O.seq)
    .limit(sa.bindparam("most"))
)
_EARLIEST = [
    Prepared(
        sa.select(tables.feedback.c.asked_at)
        .where(tables.feedback.c.state == AskState.WAITING)
        .order_by(tables.feedback.c.asked_at)
        .limit(1)
    ),
    Prepared(sa.select(tables.nps_due.c.at).order_by(tables.nps_due.c.at).limit(1)),
]


@cache
def _page(named: tuple[str, ...]) -> Prepared:
    """Questions, newest first, with a place for each of the values that are named; made once."""
    c = tables.feedback.c
    query = _FEEDBACK.select.order_by(c.id.desc()).limit(sa.bindparam("most"))
    for name in ("owner", "touchpoint"):
        if name in named:
            query = query.where(c[name] == sa.bindparam(name))
    if "after" in named:
        query = query.where(c.id < sa.bindparam("after"))
    return Prepared(query)


class SqlFeedbacks:
    """See `gateway.ports.Feedbacks`."""

    def __init__(self, transaction: Transaction) -> None:
        self._on = transaction
        self._connection = transaction.connection

    def ask(self, feedback: Feedback) -> None:
        if not self._on.insert_once(tables.feedback, _FEEDBACK.row(feedback), "id"):
            raise ConflictError(f"There is a question {feedback.id} already.", self.get(feedback.id))
        self._on.changed("feedback", feedback.id)

    def get(self, feedback_id: str) -> Feedback:
        feedback = _FEEDBACK.by_id(self._connection, feedback_id)
        if feedback is None:
            raise NotFoundError(f"There is no question {feedback_id}.")
        return feedback

    def answer(self, feedback: Feedback) -> None:
        names = ("score", "comment", "answered_at", "expected", "state", "asked_at")
        changed = {name: getattr(feedback, name) for name in names}
        statement = sa.update(tables.feedback).where(tables.feedback.c.id == feedback.id).values(changed)
        if self._connection.execute(statement).rowcount != 1:
            raise NotFoundError(f"There is no question {feedback.id}.")
        self._on.changed("feedback", feedback.id)

    def page(
        self,
        *,
        owner: str | None = None,
        touchpoint: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Feedback]:
        wishes = {"owner": owner, "touchpoint": touchpoint, "after": after}
        named = {name: wanted for name, wanted in wishes.items() if wanted is not None}
        return _FEEDBACK.of(self._connection, _page(tuple(named)), **named, most=limit)

    def ratings(self, question: str, since: int) -> dict[str, tuple[int, float]]:
        f, a = tables.feedback.c, tables.appointments.c
        rated = sa.func.count(sa.distinct(a.id))
        query = (
            sa.select(a.workshop, rated, sa.func.avg(f.score))
            .join(tables.appointments, a.touchpoint == f.touchpoint)
            .where(f.question == question, f.asked_at >= since, f.score.is_not(None))
            .where(a.state == AppointmentState.DONE)
            .group_by(a.workshop)
        )
        rows = self._connection.execute(query)
        return {workshop: (int(jobs), float(mean)) for workshop, jobs, mean in rows}

    # --- when questions are put

    def due(self, now: int, limit: int = 100) -> list[Feedback]:
        c = tables.feedback.c
        query = _FEEDBACK.select.where(c.state == AskState.WAITING, c.asked_at <= now)
        return _FEEDBACK.all(self._connection, query.order_by(c.asked_at).limit(limit))

    def next_due(self) -> int | None:
        times = (earliest.scalar(self._connection) for earliest in _EARLIEST)
        return min((at for at in times if at is not None), default=None)

    # --- NPS

    def claims(self, after: int, limit: int = 1_000) -> list[tuple[int, str, str, int]]:
        found = _CLAIMS.rows(self._connection, after=after, most=limit)
        return [(seq, owner, device, since) for seq, owner, device, since in found]

    def plan_nps(self, owner: str, device: str, at: int) -> bool:
        row = {"owner": owner, "device": device, "at": at}
        return self._on.insert_once(tables.nps_due, row, "owner")

    def move_nps(self, owner: str, at: int | None) -> None:
        table = tables.nps_due
        if at is None:
            self._connection.execute(sa.delete(table).where(table.c.owner == owner))
        else:
            self._connection.execute(sa.update(table).where(table.c.owner == owner).values(at=at))

    def nps(self, owner: str) -> tuple[str, int] | None:
        c = tables.nps_due.c
        row = self._connection.execute(sa.select(c.device, c.at).where(c.owner == owner)).first()
        return None if row is None else (row.device, row.at)

    def due_nps(self, now: int, limit: int = 100) -> list[tuple[str, str]]:
        c = tables.nps_due.c
        query = sa.select(c.owner, c.device).where(c.at <= now).order_by(c.at).limit(limit)
        return [(owner, device) for owner, device in self._connection.execute(query)]
