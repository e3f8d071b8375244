"""How values lie in tables, and the transaction that the repositories share."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import cache
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from gateway.adapters.database import tables
from gateway.adapters.database.sealing import Seal
from gateway.domain.moments import DAY_MS

V = TypeVar("V")

MANY = ""
"""Key of a change that concerns several things at once."""

KEPT = "touchpoint_transaction"
"""Under which a connection knows the transaction that keeps what was read."""

_WRITTEN = re.compile(r"\s*(?:INSERT INTO|UPDATE|DELETE FROM) \"?(\w+)")


def note_write(
    connection: sa.Connection, _cursor: Any, statement: str, _parameters: Any, _context: Any, _many: bool
) -> None:
    """Listens to every statement of an engine: what is written is no longer kept."""
    running = connection.info.get(KEPT)
    if running is None or statement.startswith("SELECT"):
        return
    written = _WRITTEN.match(statement)
    running.forget(written[1] if written else None)


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

    def __init__(self, connection: sa.Connection, now: Callable[[], int], seal: Seal | None = None) -> None:
        self.connection = connection
        self._seal = seal
        self.now = now
        self._changes: dict[tuple[str, str], None] = {}
        self._days: set[int] = set()
        self._kept: dict[Any, Any] = {}
        self._kept_from: dict[str, set[Any]] = {}
        connection.info[KEPT] = self

    def sealed(self, text: str, place: str) -> str:
        """A secret as it is kept at `place` (table.column:id); as it is where there is no key."""
        return text if self._seal is None else self._seal.seal(text, place)

    def opened(self, kept: str, place: str) -> str:
        """The secret that is kept at `place`. Raises DatabaseUnavailableError without its key."""
        return kept if self._seal is None else self._seal.open(kept, place)

    def keep(self, tables_: tuple[str, ...], key: tuple[Any, ...], load: Callable[[], V]) -> V:
        """What `load` reads of these tables: read once, until something is written to one of them. Only for
        values that nobody changes in place."""
        kept = (tables_, key)
        if kept not in self._kept:
            self._kept[kept] = load()
            for name in tables_:
                self._kept_from.setdefault(name, set()).add(kept)
        found: V = self._kept[kept]
        return found

    def forget(self, table: str | None = None) -> None:
        """What was kept of a table, or of all, is read again."""
        if table is None:
            self._kept.clear()
            self._kept_from.clear()
            return
        for kept in self._kept_from.pop(table, ()):
            self._kept.pop(kept, None)

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

    def add(self, table: sa.Table, row: Mapping[str, Any]) -> None:
        """Insert a row."""
        _added(self.connection.dialect.name, table, tuple(row), None).run(self.connection, **row)

    def insert_once(self, table: sa.Table, row: Mapping[str, Any], *key: str) -> bool:
        """Insert unless a row with the same `key` (or any unique one) is there; whether it was inserted."""
        statement = _added(self.connection.dialect.name, table, tuple(row), key)
        return statement.run(self.connection, **row) == 1

    def put(self, table: sa.Table, row: dict[str, Any], key: str) -> None:
        """Insert, or replace the row with the same `key`."""
        self.connection.execute(_put(self.connection.dialect.name, table, tuple(row), key), row)


def _insert(dialect: str, table: sa.Table) -> Any:
    """An INSERT that knows ON CONFLICT, which Core words per dialect."""
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql  # loads its drivers, a tenth of a start

        return postgresql.insert(table)
    return sqlite.insert(table)


@cache
def _added(dialect: str, table: sa.Table, names: tuple[str, ...], once: tuple[str, ...] | None) -> Prepared:
    values = {name: sa.bindparam(name, type_=table.c[name].type) for name in names}
    statement = _insert(dialect, table).values(values)
    if once is not None:
        statement = statement.on_conflict_do_nothing(index_elements=once or None)
    return Prepared(statement)


@cache
def _put(dialect: str, table: sa.Table, names: tuple[str, ...], key: str) -> Any:
    statement = _insert(dialect, table)
    rest = {name: statement.excluded[name] for name in names if name != key}
    return statement.on_conflict_do_update(index_elements=[key], set_=rest)


class Prepared:
    """A statement that is worded once and handed to the driver as it stands.

    For what a decision asks: SQLAlchemy takes 0.05 ms to execute a statement that is made once and 0.2 ms for
    one that is made anew, the driver 0.01 ms, and a decision asks thirty things. Parameters are
    `sa.bindparam(name)`; an IN over a list is not for here.
    """

    def __init__(self, statement: Any) -> None:
        self._statement = statement
        self._made: dict[str, _Made] = {}

    def rows(self, connection: sa.Connection, /, **named: Any) -> list[tuple[Any, ...]]:
        """All rows, as SQLAlchemy would give their values."""
        made = self._for(connection.dialect)
        cursor = made.run(connection, named)
        try:
            return [made.read(row) for row in cursor.fetchall()]
        finally:
            cursor.close()

    def scalar(self, connection: sa.Connection, /, **named: Any) -> Any:
        """The first value of the first row, None when there is none."""
        rows = self.rows(connection, **named)
        return rows[0][0] if rows else None

    def run(self, connection: sa.Connection, /, **named: Any) -> int:
        """Execute what gives no rows; gives how many it changed."""
        made = self._for(connection.dialect)
        cursor = made.run(connection, named)
        count = int(cursor.rowcount)
        cursor.close()
        running = connection.info.get(KEPT)
        if running is not None:
            running.forget(made.writes)
        return count

    def _for(self, dialect: sa.Dialect) -> _Made:
        made = self._made.get(dialect.name)
        if made is None:
            made = self._made[dialect.name] = _Made(self._statement, dialect)
        return made


class _Made:
    """A statement in the words of one dialect."""

    def __init__(self, statement: Any, dialect: sa.Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self._text = str(compiled)
        written = _WRITTEN.match(self._text)
        self.writes = written[1] if written else None
        given = compiled.params
        self._takes = [
            (name, given.get(name), compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect))
            for name in compiled.positiontup or ()
        ]
        columns = getattr(statement, "selected_columns", ())
        readers = [column.type.dialect_impl(dialect).result_processor(dialect, None) for column in columns]
        self._readers = [(at, reader) for at, reader in enumerate(readers) if reader is not None]

    def run(self, connection: sa.Connection, named: dict[str, Any]) -> Any:
        values = []
        for name, default, write in self._takes:
            value = named.get(name, default)
            values.append(value if write is None else write(value))
        cursor = connection.connection.cursor()
        cursor.execute(self._text, values)
        return cursor

    def read(self, row: Any) -> tuple[Any, ...]:
        if not self._readers:
            return tuple(row)
        values = list(row)
        for at, reader in self._readers:
            values[at] = reader(values[at])
        return tuple(values)


class Shape(Generic[V]):
    """A frozen dataclass whose fields are columns of one table."""

    def __init__(self, kind: type[V], table: sa.Table) -> None:
        self.kind = kind
        self.table = table
        self.names = tuple(f.name for f in dataclasses.fields(kind))  # type: ignore[arg-type]
        self.select = sa.select(*(table.c[name] for name in self.names))
        by_id = self.select.where(table.c.id == sa.bindparam("key")) if "id" in table.c else None
        self._by_id = None if by_id is None else Prepared(by_id)

    def row(self, value: V, **extra: Any) -> dict[str, Any]:
        """The value as a row, with columns that are no fields in `extra`."""
        return {name: getattr(value, name) for name in self.names} | extra

    def value(self, row: Sequence[Any]) -> V:
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
        return next(iter(self.of(connection, self._by_id, key=key)), None)

    def of(self, connection: sa.Connection, query: Prepared, /, **named: Any) -> list[V]:
        """The values of all rows of a prepared query that began as `select`."""
        return [self.value(row) for row in query.rows(connection, **named)]


def one_of(column: sa.ColumnElement[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
    """Whether a column is one of these, in words that can be prepared: IN is worded anew each time."""
    return sa.or_(*(column == value for value in values))


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
