"""What an owner was contacted for, by purse: what the budget counts."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Transaction


class SqlContacts:
    """See `gateway.ports.Contacts`."""

    def __init__(self, transaction: Transaction) -> None:
        self._connection = transaction.connection

    def add(self, owner: str, purse: str, at: int, about: str) -> None:
        row = {"owner": owner, "purse": purse, "at": at, "about": about}
        self._connection.execute(sa.insert(tables.contacts).values(row))

    def times(self, owner: str, purses: Sequence[str], since: int) -> list[int]:
        c = tables.contacts.c
        query = sa.select(c.at).where(c.owner == owner, c.at > since, c.purse.in_(purses)).order_by(c.at)
        return list(self._connection.scalars(query))
