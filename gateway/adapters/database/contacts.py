"""What an owner was contacted for, by purse: what the budget counts."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Prepared, Transaction

_C = tables.contacts.c
_TIMES = Prepared(
    sa.select(_C.purse, _C.at)
    .where(_C.owner == sa.bindparam("owner"), _C.at > sa.bindparam("since"))
    .order_by(_C.at)
)
_REACHED = (
    sa.update(tables.contacts)
    .where(_C.about == sa.bindparam("what"), _C.at.between(sa.bindparam("decided"), sa.bindparam("now")))
    .values(at=sa.bindparam("now"))
)


class SqlContacts:
    """See `gateway.ports.Contacts`."""

    def __init__(self, transaction: Transaction) -> None:
        self._on = transaction
        self._connection = transaction.connection

    def add(self, owner: str, purse: str, at: int, about: str) -> None:
        row = {"owner": owner, "purse": purse, "at": at, "about": about}
        self._on.add(tables.contacts, row)

    def times(self, owner: str, purses: Sequence[str], since: int) -> list[int]:
        def load() -> list[int]:
            rows = _TIMES.rows(self._connection, owner=owner, since=since)
            return [at for purse, at in rows if purse in purses]

        return list(self._on.keep(("contacts",), (owner, tuple(purses), since), load))

    def reached(self, about: str, decided: int, at: int) -> None:
        self._connection.execute(_REACHED, {"what": about, "decided": decided, "now": at})
