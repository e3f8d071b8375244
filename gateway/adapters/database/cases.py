"""Cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Shape, Transaction
from gateway.domain.case import PENDING, Case, CaseKind, CaseState, check_case_move
from gateway.domain.errors import ConflictError, NotFoundError

_CASE = Shape(Case, tables.cases)


class SqlCases:
    """See `gateway.ports.Cases`."""

    def __init__(self, transaction: Transaction) -> None:
        self._on = transaction
        self._connection = transaction.connection

    def add(self, case: Case) -> None:
        if not self._on.insert_once(tables.cases, _CASE.row(case), "id"):
            raise ConflictError(f"There is a case {case.id} already.", self.get(case.id))
        self._on.changed("case", case.id)

    def get(self, case_id: str) -> Case:
        case = _CASE.by_id(self._connection, case_id)
        if case is None:
            raise NotFoundError(f"There is no case {case_id}.")
        return case

    def save(self, case: Case) -> None:
        stored = self.get(case.id)
        if case.state != stored.state:
            check_case_move(stored, case.state)
        self._connection.execute(
            sa.update(tables.cases).where(tables.cases.c.id == case.id).values(_CASE.row(case))
        )
        self._on.changed("case", case.id)

    def page(
        self,
        *,
        owner: str | None = None,
        workshop: str | None = None,
        device: str | None = None,
        touchpoint: str | None = None,
        kind: CaseKind | None = None,
        states: Sequence[CaseState] = (),
        after: str | None = None,
        limit: int = 100,
    ) -> list[Case]:
        c = tables.cases.c
        query = _CASE.select.order_by(c.id.desc()).limit(limit)
        wishes = ((c.touchpoint, touchpoint), (c.owner, owner), (c.workshop, workshop), (c.device, device))
        query = query.where(*(column == wanted for column, wanted in wishes if wanted is not None))
        if kind is not None:
            query = query.where(c.kind == kind)
        if states:
            query = query.where(c.state.in_(states))
        if after is not None:
            query = query.where(c.id < after)
        return _CASE.all(self._connection, query)

    def pending(
        self, limit: int = 100, *, workshop: str | None = None, kind: CaseKind | None = None
    ) -> list[Case]:
        c = tables.cases.c
        found: list[Case] = []
        for state in PENDING:  # each by itself, in the order of the index
            query = _CASE.select.where(c.state == state).order_by(c.due_at, c.id)
            if workshop is not None:
                query = query.where(c.workshop == workshop)
            if kind is not None:
                query = query.where(c.kind == kind)
            found += _CASE.all(self._connection, query.limit(limit - len(found)))
        return found

    def counts(self, now: int) -> Mapping[str, tuple[int, int]]:
        c = tables.cases.c
        overdue = sa.func.count(sa.case((sa.and_(c.state == CaseState.OPEN, c.due_at < now), 1)))
        query = sa.select(c.kind, sa.func.count(), overdue).where(c.state.in_(PENDING)).group_by(c.kind)
        found = {str(kind): (n, late) for kind, n, late in self._connection.execute(query)}
        return {kind.value: found.get(kind.value, (0, 0)) for kind in CaseKind}
