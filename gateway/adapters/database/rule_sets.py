"""Rule sets by hash, and from which journal position on each of them holds."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import msgspec
import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Shape, Transaction
from gateway.domain.rule_sets import Activation, Sources

_ACTIVATION = Shape(Activation, tables.rule_activations)
_C = tables.rule_activations.c


class SqlRuleSets:
    """See `gateway.ports.RuleSets`."""

    def __init__(self, transaction: Transaction) -> None:
        self._on = transaction
        self._connection = transaction.connection

    def keep(self, sources: Sources) -> None:
        packed = zlib.compress(msgspec.json.encode(sources))
        self._on.insert_once(tables.rule_sets, {"id": sources.id, "sources": packed}, "id")

    def sources(self, rule_set: str) -> Sources | None:
        table = tables.rule_sets
        packed = self._connection.scalar(sa.select(table.c.sources).where(table.c.id == rule_set))
        return None if packed is None else msgspec.json.decode(zlib.decompress(packed), type=Sources)

    def ask(self, activation: Activation) -> None:
        self._connection.execute(sa.insert(tables.rule_activations).values(_ACTIVATION.row(activation)))
        self._on.changed("rules", activation.id)

    def holds(self, activation: str, position: int) -> None:
        self._update(activation, position=position)

    def refuse(self, activation: str, faults: tuple[str, ...]) -> None:
        self._update(activation, faults=faults)

    def _update(self, activation: str, **values: object) -> None:
        table = tables.rule_activations
        self._connection.execute(sa.update(table).where(_C.id == activation).values(**values))
        self._on.changed("rules", activation)

    def asked(self) -> Activation | None:
        query = _ACTIVATION.select.order_by(_C.seq.desc())
        found = (_ACTIVATION.value(row) for row in self._connection.execute(query))
        return next((activation for activation in found if not activation.refused), None)

    def at(self, position: int | None = None) -> Activation | None:
        query = _ACTIVATION.select.where(_C.position.is_not(None))
        if position is not None:
            query = query.where(_C.position <= position)
        return _ACTIVATION.first(self._connection, query.order_by(_C.position.desc(), _C.seq.desc()).limit(1))

    def history(self, limit: int = 20) -> list[Activation]:
        return _ACTIVATION.all(self._connection, _ACTIVATION.select.order_by(_C.seq.desc()).limit(limit))

    def broke(self, errors: Mapping[str, int], at: int) -> None:
        table = tables.rule_errors
        for rule, count in errors.items():
            statement = self._on.insert(table).values(rule=rule, count=count, last_at=at)
            more = {"count": table.c.count + statement.excluded["count"], "last_at": at}
            self._connection.execute(statement.on_conflict_do_update(index_elements=["rule"], set_=more))

    def errors(self) -> Mapping[str, tuple[int, int]]:
        c = tables.rule_errors.c
        rows = self._connection.execute(sa.select(c.rule, c.count, c.last_at))
        return {rule: (count, last_at) for rule, count, last_at in rows}
