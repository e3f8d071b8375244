"""The questions afterwards."""

from __future__ import annotations

import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Shape, Transaction
from gateway.domain.errors import ConflictError, NotFoundError
from gateway.domain.feedback import Feedback

_FEEDBACK = Shape(Feedback, tables.feedback)


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
        answered = {name: getattr(feedback, name) for name in ("score", "comment", "answered_at")}
        statement = sa.update(tables.feedback).where(tables.feedback.c.id == feedback.id).values(answered)
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
        c = tables.feedback.c
        query = _FEEDBACK.select.order_by(c.id.desc()).limit(limit)
        if owner is not None:
            query = query.where(c.owner == owner)
        if touchpoint is not None:
            query = query.where(c.touchpoint == touchpoint)
        if after is not None:
            query = query.where(c.id < after)
        return _FEEDBACK.all(self._connection, query)
