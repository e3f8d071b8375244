"""Which secrets the tables hold, all of them together: to seal them anew."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.sealing import Seal

APPS = ("totp", "totp_new")
"""Columns of accounts with the secret of somebody's authenticator app."""


def app_place(column: str, account: str) -> str:
    """Where the secret of an authenticator app stands."""
    return f"accounts.{column}:{account}"


def webhook_place(webhook: str) -> str:
    """Where the secrets stand that an endpoint's events are signed with."""
    return f"webhooks.secrets:{webhook}"


def kept(connection: sa.Connection) -> Iterator[tuple[str, str]]:
    """(place, what is kept there) of every secret."""
    a, w = tables.accounts.c, tables.webhooks.c
    named = sa.select(a.id, *(a[name] for name in APPS)).where(
        sa.or_(*(a[name].is_not(None) for name in APPS))
    )
    for account, *texts in connection.execute(named):
        yield from ((app_place(c, account), text) for c, text in zip(APPS, texts, strict=True) if text)
    for webhook, secrets in connection.execute(sa.select(w.id, w.secrets)):
        yield from ((webhook_place(webhook), secret.text) for secret in secrets)


def seal_again(connection: sa.Connection, seal: Seal) -> None:
    """Every secret under the newest key, inside a transaction that writes; nothing of what lay there before
    stays in pages that are free now."""
    connection.exec_driver_sql("PRAGMA secure_delete=ON")

    def sealed(text: str, place: str) -> str:
        return text if seal.newest(text) else seal.seal(seal.open(text, place), place)

    a, w = tables.accounts.c, tables.webhooks.c
    for account, *texts in connection.execute(sa.select(a.id, *(a[name] for name in APPS))).all():
        values = {c: sealed(t, app_place(c, account)) for c, t in zip(APPS, texts, strict=True) if t}
        if values:
            connection.execute(sa.update(tables.accounts).where(a.id == account).values(values))
    for webhook, secrets in connection.execute(sa.select(w.id, w.secrets)).all():
        rows = [{"text": sealed(s.text, webhook_place(webhook)), "until": s.until} for s in secrets]
        connection.execute(sa.update(tables.webhooks).where(w.id == webhook).values(secrets=rows))
