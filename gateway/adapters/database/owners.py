"""Owners, what they agreed to, when they may be reached, and their browsers."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Prepared, Shape, Transaction, contains, search_text
from gateway.domain.errors import ConflictError, NotFoundError
from gateway.domain.owner import Consent, Owner, Preferences, PushSubscription

_OWNER = Shape(Owner, tables.owners)
_CONSENT = Shape(Consent, tables.consents)
_PREFERENCES = Shape(Preferences, tables.preferences)
_SUBSCRIPTION = Shape(PushSubscription, tables.subscriptions)

_GRANTED = Prepared(
    sa.select(tables.consents.c.granted)
    .where(
        tables.consents.c.owner == sa.bindparam("owner"), tables.consents.c.purpose == sa.bindparam("purpose")
    )
    .order_by(tables.consents.c.at.desc(), tables.consents.c.seq.desc())
    .limit(1)
)
_PREFERRED = Prepared(_PREFERENCES.select.where(tables.preferences.c.owner == sa.bindparam("owner")))
_SUBSCRIBED = Prepared(
    _SUBSCRIPTION.select.where(
        tables.subscriptions.c.owner == sa.bindparam("owner"), tables.subscriptions.c.dropped.is_(None)
    ).order_by(tables.subscriptions.c.created, tables.subscriptions.c.id)
)


def _row(owner: Owner) -> dict[str, Any]:
    email_key = owner.email.strip().casefold() if owner.email else None
    return _OWNER.row(owner, search=search_text(owner.name, owner.id), email_key=email_key)


class SqlOwners:
    """See `gateway.ports.Owners`."""

    def __init__(self, transaction: Transaction) -> None:
        self._on = transaction
        self._connection = transaction.connection

    def add(self, owner: Owner) -> None:
        row = _row(owner)
        if not self._on.insert_once(tables.owners, row, "id"):
            raise ConflictError(
                f"There is an owner {owner.id} already.", _OWNER.by_id(self._connection, owner.id)
            )

    def get(self, owner_id: str) -> Owner:
        owner = self._on.keep(("owners",), (owner_id,), lambda: _OWNER.by_id(self._connection, owner_id))
        if owner is None:
            raise NotFoundError(f"There is no owner {owner_id}.")
        return owner

    def by_email(self, address: str) -> list[Owner]:
        c = tables.owners.c
        query = _OWNER.select.where(c.email_key == address.strip().casefold())
        return _OWNER.all(self._connection, query.order_by(c.id))

    def update(self, owner: Owner) -> None:
        row = _row(owner)
        row.pop("created")
        statement = sa.update(tables.owners).where(tables.owners.c.id == owner.id).values(row)
        if not self._connection.execute(statement).rowcount:
            raise NotFoundError(f"There is no owner {owner.id}.")

    def page(self, *, after: str | None = None, limit: int = 100, find: str | None = None) -> list[Owner]:
        query = _OWNER.select.order_by(tables.owners.c.id).limit(limit)
        if after is not None:
            query = query.where(tables.owners.c.id > after)
        if find:
            query = query.where(contains(tables.owners.c.search, find))
        return _OWNER.all(self._connection, query)

    def consent(self, entry: Consent) -> None:
        self._connection.execute(sa.insert(tables.consents).values(_CONSENT.row(entry)))

    def consents(self, owner_id: str) -> list[Consent]:
        c = tables.consents.c
        query = _CONSENT.select.where(c.owner == owner_id).order_by(c.at.desc(), c.seq.desc())
        return _CONSENT.all(self._connection, query)

    def granted(self, owner_id: str, purpose: str) -> bool:
        return bool(_GRANTED.scalar(self._connection, owner=owner_id, purpose=purpose))

    def preferences(self, owner_id: str) -> Preferences:
        def load() -> Preferences | None:
            return next(iter(_PREFERENCES.of(self._connection, _PREFERRED, owner=owner_id)), None)

        return self._on.keep(("preferences",), (owner_id,), load) or Preferences()

    def prefer(self, owner_id: str, preferences: Preferences) -> None:
        self._on.put(tables.preferences, _PREFERENCES.row(preferences, owner=owner_id), "owner")

    def subscribe(self, subscription: PushSubscription) -> None:
        # A browser that changed hands is another address: what waits for its former owner must not reach it.
        c = tables.subscriptions.c
        self._connection.execute(
            sa.delete(tables.subscriptions).where(
                c.endpoint == subscription.endpoint, c.owner != subscription.owner
            )
        )
        statement = self._on.insert(tables.subscriptions).values(_SUBSCRIPTION.row(subscription))
        renewed = {name: statement.excluded[name] for name in ("p256dh", "auth", "label", "dropped")}
        self._connection.execute(statement.on_conflict_do_update(index_elements=["endpoint"], set_=renewed))

    def subscriptions(self, owner_id: str) -> list[PushSubscription]:
        return _SUBSCRIPTION.of(self._connection, _SUBSCRIBED, owner=owner_id)

    def subscription(self, subscription_id: str) -> PushSubscription | None:
        return _SUBSCRIPTION.by_id(self._connection, subscription_id)

    def drop_subscription(self, subscription_id: str, at: int) -> None:
        c = tables.subscriptions.c
        self._connection.execute(
            sa.update(tables.subscriptions)
            .where(c.id == subscription_id, c.dropped.is_(None))
            .values(dropped=at)
        )
