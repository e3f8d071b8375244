"""How values lie in tables, and the transaction that the repositories share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import cache
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from gateway.adapters.database import tables
from gateway.domain.moments import DAY_MS

V = TypeVar("V")

MANY = ""
"""Key of a change that concerns several things at once."""

_INSERT_CHANGE = sa.insert(tables.changes)
_TRIM_CHANGES = sa.delete(tables.changes).where(
    tables.changes.c.id
    <= sa.select(sa.func.max(tables.changes.c.id)).scalar_subquery() - sa.bindparam("keep")
)

_SOONER = (
    " ON CONFLICT (day) DO UPDATE SET due_at = excluded.due_at WHERE excluded.due_at < stale_days.due_at"
)
_STALE = sa.text(f"INSERT INTO stale_days (day, due_at) VALUES (:day, :at){_SOONER}")
_STALE_BY_TOUCHPOINT = sa.text(
    f"""
    INSERT INTO stale_days (day, due_at)
    SELECT found_at / {DAY_MS}, :at FROM findings WHERE id IN (
        SELECT finding FROM touchpoints WHERE id IN :touched
        UNION SELECT finding FROM touchpoint_findings WHERE touchpoint IN :touched
    )
    GROUP BY 1{_SOONER}
    """
).bindparams(sa.bindparam("touched", expanding=True))


class Transaction:
    """One running transaction: its connection, the time, and what it changes for others to see."""

    def __init__(self, connection: sa.Connection, now: Callable[[], int]) -> None:
        self.connection = connection
        self.now = now
        self._changes: dict[tuple[str, str], None] = {}
        self._days: set[int] = set()

    def changed(self, subject: str, key: str) -> None:
        """Note a change; the same one is told once a transaction."""
        self._changes[subject, key] = None

    def found_on(self, at: int) -> None:
        """Something was found then: what is measured of that day is out of date."""
        self._days.add(at // DAY_MS)

    def store_changes(self) -> int:
        """Write what was noted, in the order it was noted; gives how many."""
        self._mark_days()
        if self._changes:
            at = self.now()
            rows = [{"at": at, "subject": subject, "key": key} for subject, key in self._changes]
            self.connection.execute(_INSERT_CHANGE, rows)
        return len(self._changes)

    def _mark_days(self) -> None:
        """Days on which something was found that has changed now are to be measured again."""
        touched = [key for subject, key in self._changes if subject == "touchpoint" and key]
        at = self.now()
        if touched:
            self.connection.execute(_STALE_BY_TOUCHPOINT, {"touched": touched, "at": at})
        for day in self._days:
            self.connection.execute(_STALE, {"day": day, "at": at})

    def trim_changes(self, keep: int) -> None:
        """Forget all changes but the newest `keep`."""
        self.connection.execute(_TRIM_CHANGES, {"keep": keep})

    def insert(self, table: sa.Table) -> Any:
        """An INSERT that knows ON CONFLICT."""
        return _insert(self.connection.dialect.name, table)

    def insert_once(self, table: sa.Table, row: dict[str, Any], *key: str) -> bool:
        """Insert unless a row with the same `key` (or any unique one) is there; whether it was inserted."""
        statement = _insert_once(self.connection.dialect.name, table, key)
        return bool(self.connection.execute(statement, row).rowcount == 1)

    def put(self, table: sa.Table, row: dict[str, Any], key: str) -> None:
        """Insert, or replace the row with the same `key`."""
        self.connection.execute(_put(self.connection.dialect.name, table, tuple(row), key), row)


# Making a statement costs SQLAlchemy three times what executing it does: those on the path are made once.


def _insert(dialect: str, table: sa.Table) -> Any:
    """An INSERT that knows ON CONFLICT, which Core words per dialect."""
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql  # loads its drivers, a tenth of a start

        return postgresql.insert(table)
    return sqlite.insert(table)


@cache
def _insert_once(dialect: str, table: sa.Table, key: tuple[str, ...]) -> Any:
    return _insert(dialect, table).on_conflict_do_nothing(index_elements=key or None)


@cache
def _put(dialect: str, table: sa.Table, names: tuple[str, ...], key: str) -> Any:
    statement = _insert(dialect, table)
    rest = {name: statement.excluded[name] for name in names if name != key}
    return statement.on_conflict_do_update(index_elements=[key], set_=rest)


class Shape(Generic[V]):
    """A frozen dataclass whose fields are columns of one table."""

    def __init__(self, kind: type[V], table: sa.Table) -> None:
        self.kind = kind
        self.table = table
        self.names = tuple(f.name for f in dataclasses.fields(kind))  # type: ignore[arg-type]
        self.select = sa.select(*(table.c[name] for name in self.names))
        self.insert = sa.insert(table)
        self._by_id = self.select.where(table.c.id == sa.bindparam("id")) if "id" in table.c else None

    def row(self, value: V, **extra: Any) -> dict[str, Any]:
        """The value as a row, with columns that are no fields in `extra`."""
        return {name: getattr(value, name) for name in self.names} | extra

    def value(self, row: sa.Row[Any]) -> V:
        """The value that a row of `select` holds."""
        return self.kind(**dict(zip(self.names, row, strict=True)))

    def all(self, connection: sa.Connection, query: sa.Select[Any], /, **named: Any) -> list[V]:
        """The values of all rows of a query that began as `select`; `named` fills its bound parameters."""
        return [self.value(row) for row in connection.execute(query, named)]

    def first(self, connection: sa.Connection, query: sa.Select[Any], /, **named: Any) -> V | None:
        """The value of the first row, None when there is none."""
        row = connection.execute(query, named).first()
        return None if row is None else self.value(row)

    def by_id(self, connection: sa.Connection, key: str) -> V | None:
        """The value of that id."""
        assert self._by_id is not None
        return self.first(connection, self._by_id, id=key)


def count_states(
    connection: sa.Connection, column: sa.Column[Any], states: Sequence[StrEnum]
) -> dict[str, int]:
    """{state: how many rows}, 0 included; reads no more of the index than these states take up."""
    query = sa.select(column, sa.func.count()).where(column.in_(states)).group_by(column)
    found = {str(state): n for state, n in connection.execute(query)}
    return {state.value: found.get(state.value, 0) for state in states}


def search_text(*parts: str | None) -> str:
    """What part of a name is looked up in, whatever its case."""
    return "\n".join(part for part in parts if part).casefold()


def contains(column: sa.Column[str], find: str) -> sa.ColumnElement[bool]:
    """Whether a `search_text` contains what somebody typed, taken literally."""
    return column.contains(find.strip().casefold(), autoescape=True)
