"""Who signs in: accounts, passkeys, what was handed out and has to come back, and tries."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Shape, Transaction
from gateway.adapters.database.sealed_rows import APPS, app_place
from gateway.domain.access import Role
from gateway.domain.accounts import Account, Passkey, Proof, ProofKind
from gateway.domain.errors import ConflictError, NotFoundError
from gateway.domain.moments import DAY_MS

_ACCOUNT = Shape(Account, tables.accounts)
_PASSKEY = Shape(Passkey, tables.passkeys)
_PROOF = Shape(Proof, tables.proofs)

KEPT_MS = 7 * DAY_MS
"""For so long after its end a link still says that it was used or has expired."""


class SqlAccounts:
    """See `gateway.ports.Accounts`."""

    def __init__(self, transaction: Transaction) -> None:
        self._on = transaction
        self._connection = transaction.connection

    def add(self, account: Account) -> None:
        if not self._on.insert_once(tables.accounts, self._row(account)):
            raise ConflictError(f"There is an account {account.name} already.")

    def get(self, account_id: str) -> Account:
        account = self.find(account_id)
        if account is None:
            raise NotFoundError(f"There is no account {account_id}.")
        return account

    def find(self, account_id: str) -> Account | None:
        return self._opened(_ACCOUNT.by_id(self._connection, account_id))

    def _row(self, account: Account) -> dict[str, Any]:
        """As it is kept: the secrets of the authenticator app sealed."""
        row = _ACCOUNT.row(account)
        sealed = {name: self._on.sealed(row[name], app_place(name, account.id)) for name in APPS if row[name]}
        return row | sealed

    def _opened(self, account: Account | None) -> Account | None:
        if account is None:
            return None
        held = {name: getattr(account, name) for name in APPS if getattr(account, name)}
        texts: dict[str, Any] = {
            n: self._on.opened(kept, app_place(n, account.id)) for n, kept in held.items()
        }
        return replace(account, **texts) if texts else account

    def by_name(self, name: str) -> Account | None:
        query = _ACCOUNT.select.where(tables.accounts.c.name == name)
        return self._opened(_ACCOUNT.first(self._connection, query))

    def page(self, role: Role | None = None, subject: str | None = None) -> list[Account]:
        c = tables.accounts.c
        query = _ACCOUNT.select.where(c.role == role if role else c.role != Role.OWNER)
        if subject is not None:
            query = query.where(c.subject == subject)
        found = _ACCOUNT.all(self._connection, query.order_by(c.role, c.subject, c.name))
        return [opened for one in found if (opened := self._opened(one)) is not None]

    def save(self, account: Account) -> None:
        row = self._row(account)
        for fixed in ("id", "role", "created"):
            row.pop(fixed)
        self._connection.execute(
            sa.update(tables.accounts).where(tables.accounts.c.id == account.id).values(row)
        )

    def count_step(self, account_id: str, step: int) -> bool:
        c = tables.accounts.c
        later = sa.update(tables.accounts).where(c.id == account_id, c.totp_step < step)
        return self._connection.execute(later.values(totp_step=step)).rowcount == 1

    def spend_recovery(self, account_id: str, code_hash: str) -> bool:
        account = self.get(account_id)
        if code_hash not in account.recovery:
            return False
        self.save(replace(account, recovery=tuple(kept for kept in account.recovery if kept != code_hash)))
        return True

    # --- passkeys

    def add_passkey(self, passkey: Passkey) -> None:
        if not self._on.insert_once(tables.passkeys, _PASSKEY.row(passkey)):
            raise ConflictError("This passkey is known already.")

    def passkey(self, passkey_id: str) -> Passkey | None:
        return _PASSKEY.by_id(self._connection, passkey_id)

    def passkeys(self, account_id: str) -> list[Passkey]:
        c = tables.passkeys.c
        query = _PASSKEY.select.where(c.account == account_id).order_by(c.created, c.id)
        return _PASSKEY.all(self._connection, query)

    def used_passkey(self, passkey_id: str, sign_count: int, at: int) -> None:
        statement = sa.update(tables.passkeys).where(tables.passkeys.c.id == passkey_id)
        self._connection.execute(statement.values(sign_count=sign_count, used=at))

    def drop_passkey(self, account_id: str, passkey_id: str) -> bool:
        c = tables.passkeys.c
        statement = sa.delete(tables.passkeys).where(c.id == passkey_id, c.account == account_id)
        return self._connection.execute(statement).rowcount == 1

    # --- what was handed out

    def add_proof(self, proof: Proof) -> None:
        c = tables.proofs.c
        over = sa.or_(c.expires < proof.created - KEPT_MS, c.hash == proof.hash)
        self._connection.execute(sa.delete(tables.proofs).where(over))
        self._connection.execute(sa.insert(tables.proofs).values(_PROOF.row(proof)))

    def proof(self, proof_hash: str) -> Proof | None:
        return _PROOF.first(self._connection, _PROOF.select.where(tables.proofs.c.hash == proof_hash))

    def standing(self, kind: ProofKind, about: str) -> Proof | None:
        c = tables.proofs.c
        query = _PROOF.select.where(c.kind == kind, c.about == about, c.used.is_(None))
        return _PROOF.first(self._connection, query.order_by(c.created.desc()).limit(1))

    def use_proof(self, proof_id: str, at: int) -> bool:
        c = tables.proofs.c
        statement = sa.update(tables.proofs).where(c.id == proof_id, c.used.is_(None)).values(used=at)
        return self._connection.execute(statement).rowcount == 1

    def drop_proofs(self, kind: ProofKind, about: str) -> None:
        c = tables.proofs.c
        self._connection.execute(sa.delete(tables.proofs).where(c.kind == kind, c.about == about))

    # --- tries

    def count_try(self, key: str, window_ms: int, at: int) -> int:
        c = tables.sign_in_tries.c
        over = sa.or_(c.began <= at - DAY_MS, sa.and_(c.key == key, c.began <= at - window_ms))
        self._connection.execute(sa.delete(tables.sign_in_tries).where(over))
        known = sa.update(tables.sign_in_tries).where(c.key == key).values(count=c.count + 1)
        if not self._connection.execute(known).rowcount:
            row = {"key": key, "began": at, "count": 1}
            self._connection.execute(sa.insert(tables.sign_in_tries).values(row))
        return self.tries(key, window_ms, at)

    def tries(self, key: str, window_ms: int, at: int) -> int:
        c = tables.sign_in_tries.c
        query = sa.select(c.count).where(c.key == key, c.began > at - window_ms)
        return self._connection.scalar(query) or 0

    def forgive_try(self, key: str, *, every: bool = False) -> None:
        c = tables.sign_in_tries.c
        less = sa.update(tables.sign_in_tries).where(c.key == key, c.count > 0)
        self._connection.execute(less.values(count=0 if every else c.count - 1))
