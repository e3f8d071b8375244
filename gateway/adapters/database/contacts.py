"""What an owner was contacted for, by purse: what the budget counts."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Transaction

_C = tables.contacts.c
_INSERT = sa.insert(tables.contacts)
_TIMES = (
    sa.select(_C.at)
    .where(
        _C.owner == sa.bindparam("owner"),
        _C.at > sa.bindparam("since"),
        _C.purse.in_(sa.bindparam("purses", expanding=True)),
    )
    .order_by(_C.at)
)
_REACHED = (
    sa.update(tables.contacts)
    .where(_C.about == sa.bindparam("what"), _C.at == sa.bindparam("decided"))
    .values(at=sa.bindparam("now"))
)


class SqlContacts:
    """See `gateway.ports.Contacts`."""

    def __init__(self, transaction: Transaction) -> None:
        self._on = transaction
        self._connection = transaction.connection

    def add(self, owner: str, purse: str, at: int, about: str) -> None:
        row = {"owner": owner, "purse": purse, "at": at, "about": about}
        self._connection.execute(_INSERT, row)

    def times(self, owner: str, purses: Sequence[str], since: int) -> list[int]:
        def load() -> list[int]:
            rows = self._connection.execute(_TIMES, {"owner": owner, "since": since, "purses": list(purses)})
            return [at for (at,) in rows]

        return list(self._on.keep(("contacts",), (owner, tuple(purses), since), load))

    def reached(self, about: str, decided: int, at: int) -> None:
        self._connection.execute(_REACHED, {"what": about, "decided": decided, "now": at})
