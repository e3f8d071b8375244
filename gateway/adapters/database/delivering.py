"""Where things are delivered: webhook endpoints, and what is known of mail addresses."""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Prepared, Shape, Transaction
from gateway.adapters.database.sealed_rows import webhook_place
from gateway.domain.delivery import MailAddress
from gateway.domain.errors import NotFoundError
from gateway.domain.webhooks import EndpointState, Webhook

_WEBHOOK = Shape(Webhook, tables.webhooks)
_ADDRESS = Shape(MailAddress, tables.mail_addresses)
_ACTIVE = Prepared(
    _WEBHOOK.select.where(
        tables.webhooks.c.audience == sa.bindparam("audience"),
        tables.webhooks.c.state == EndpointState.ACTIVE,
    ).order_by(tables.webhooks.c.id)
)


class SqlWebhooks:
    """See `gateway.ports.Webhooks`."""

    def __init__(self, transaction: Transaction) -> None:
        self._on = transaction
        self._connection = transaction.connection

    def put(self, webhook: Webhook) -> None:
        row = _WEBHOOK.row(webhook)
        place = webhook_place(webhook.id)
        row["secrets"] = [
            {"text": self._on.sealed(secret.text, place), "until": secret.until} for secret in webhook.secrets
        ]
        self._on.put(tables.webhooks, row, "id")
        self._on.changed("webhook", webhook.id)

    def get(self, webhook_id: str) -> Webhook:
        found = self.find(webhook_id)
        if found is None:
            raise NotFoundError(f"There is no webhook {webhook_id}.")
        return found

    def find(self, webhook_id: str) -> Webhook | None:
        found = _WEBHOOK.by_id(self._connection, webhook_id)
        return None if found is None else self._opened(found)

    def _opened(self, webhook: Webhook) -> Webhook:
        place = webhook_place(webhook.id)
        secrets = (dataclasses.replace(s, text=self._on.opened(s.text, place)) for s in webhook.secrets)
        return dataclasses.replace(webhook, secrets=tuple(secrets))

    def remove(self, webhook_id: str) -> None:
        self._connection.execute(sa.delete(tables.webhooks).where(tables.webhooks.c.id == webhook_id))
        self._on.changed("webhook", webhook_id)

    def hearing(self, audience: str, event_type: str) -> list[Webhook]:
        def load() -> list[Webhook]:
            return [self._opened(w) for w in _WEBHOOK.of(self._connection, _ACTIVE, audience=audience)]

        endpoints = self._on.keep(("webhooks",), (audience,), load)
        return [endpoint for endpoint in endpoints if endpoint.wants(event_type)]

    def page(
        self, *, audience: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[Webhook]:
        c = tables.webhooks.c
        query = _WEBHOOK.select.order_by(c.id.desc()).limit(limit)
        if audience is not None:
            query = query.where(c.audience == audience)
        if after is not None:
            query = query.where(c.id < after)
        return [self._opened(webhook) for webhook in _WEBHOOK.all(self._connection, query)]


class SqlMailAddresses:
    """See `gateway.ports.MailAddresses`."""

    def __init__(self, transaction: Transaction) -> None:
        self._on = transaction
        self._connection = transaction.connection

    def find(self, address: str) -> MailAddress | None:
        query = _ADDRESS.select.where(tables.mail_addresses.c.address == address.strip().lower())
        return _ADDRESS.first(self._connection, query)

    def mark(self, entry: MailAddress) -> None:
        row = _ADDRESS.row(entry) | {"address": entry.address.strip().lower()}
        self._on.put(tables.mail_addresses, row, "address")

    def undeliverable(self, address: str) -> bool:
        known = self.find(address)
        return known is not None and known.state == "undeliverable"
