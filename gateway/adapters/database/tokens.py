"""Bearer tokens, of which only hashes are kept, and remembered POSTs."""

from __future__ import annotations

import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Prepared, Shape, Transaction
from gateway.domain.access import Role, Token
from gateway.domain.errors import ConflictError

_TOKEN = Shape(Token, tables.tokens)
_BY_HASH = Prepared(_TOKEN.select.where(tables.tokens.c.hash == sa.bindparam("hash")))

REMEMBER_MS = 7 * 86_400_000
"""How long an Idempotency-Key is remembered."""


class SqlTokens:
    """See `gateway.ports.Tokens`."""

    def __init__(self, transaction: Transaction) -> None:
        self._on = transaction
        self._connection = transaction.connection

    def add(self, token: Token) -> None:
        if not self._on.insert_once(tables.tokens, _TOKEN.row(token)):
            raise ConflictError(f"There is a token {token.id}, or one of this text, already.")

    def by_hash(self, token_hash: str) -> Token | None:
        return next(iter(_TOKEN.of(self._connection, _BY_HASH, hash=token_hash)), None)

    def page(self) -> list[Token]:
        c = tables.tokens.c
        return _TOKEN.all(self._connection, _TOKEN.select.order_by(c.created.desc(), c.id))

    def sessions(self, role: Role, *, account: str | None = None, subject: str | None = None) -> list[Token]:
        c = tables.tokens.c
        theirs = c.account == account if subject is None else c.subject == subject
        query = _TOKEN.select.where(c.role == role, theirs, c.way.is_not(None), c.revoked.is_(None))
        return _TOKEN.all(self._connection, query.order_by(c.created.desc(), c.id))

    def signed_in(self, since: int, until: int, *, limit: int = 100) -> list[Token]:
        c = tables.tokens.c
        at_work = c.role.in_((Role.WORKSHOP, Role.OPERATOR))
        query = _TOKEN.select.where(c.created >= since, c.created < until, c.way.is_not(None), at_work)
        return _TOKEN.all(self._connection, query.order_by(c.created.desc(), c.id).limit(limit))

    def revoke(self, token_id: str, at: int) -> bool:
        c = tables.tokens.c
        statement = sa.update(tables.tokens).where(c.id == token_id, c.revoked.is_(None)).values(revoked=at)
        return self._connection.execute(statement).rowcount == 1

    def remembered(self, key: str) -> tuple[str, int, str] | None:
        c = tables.remembered.c
        query = sa.select(c.fingerprint, c.status, c.body).where(c.key == key)
        row = self._connection.execute(query).first()
        return None if row is None else (row.fingerprint, row.status, row.body)

    def remember(self, key: str, fingerprint: str, status: int, body: str, at: int) -> None:
        c = tables.remembered.c
        self._connection.execute(sa.delete(tables.remembered).where(c.at < at - REMEMBER_MS))
        row = {"key": key, "fingerprint": fingerprint, "status": status, "body": body, "at": at}
        self._on.insert_once(tables.remembered, row, "key")
