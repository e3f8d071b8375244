"""What lies where of whom: how the rows of every table belong to an owner.

One map for all tables, so that a new one cannot be forgotten: a test holds it against the schema.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Transaction
from gateway.domain.accounts import ProofKind
from gateway.domain.times import rfc3339

Which = Callable[[str], sa.ColumnElement[bool]]
"""owner's id → which rows of a table are theirs"""

SECRETS = frozenset(
    {
        "hash",
        "token_hash",
        "auth",
        "p256dh",
        "secrets",
        "search",
        "email_key",
        "password",
        "totp",
        "totp_new",
        "totp_step",
        "recovery",
        "public_key",
    }
)
"""Columns that open doors, or repeat others for searching; they are nobody's to take along."""
_PAGE = 500


def _column(name: str, column: str = "owner") -> Which:
    return lambda owner: tables.metadata.tables[name].c[column] == owner


def _under(name: str, column: str, parent: str) -> Which:
    """By the row of another table that `column` names."""

    def which(owner: str) -> sa.ColumnElement[bool]:
        above = tables.metadata.tables[parent]
        theirs = sa.select(above.c.id).where(PERSONAL[parent](owner))
        return tables.metadata.tables[name].c[column].in_(theirs)

    return which


def _of_their_time(name: str, at: str) -> Which:
    """By a device, in the time in which it was theirs."""

    def which(owner: str) -> sa.ColumnElement[bool]:
        table, own = tables.metadata.tables[name], tables.metadata.tables["ownerships"]
        return sa.exists().where(
            own.c.owner == owner,
            own.c.device == table.c.device,
            own.c.since <= table.c[at],
            sa.or_(own.c.until.is_(None), table.c[at] < own.c.until),
        )

    return which


def _addresses(owner: str) -> sa.ColumnElement[bool]:
    owners = tables.metadata.tables["owners"]
    mine = sa.select(sa.func.lower(owners.c.email)).where(owners.c.id == owner)
    return sa.func.lower(tables.metadata.tables["mail_addresses"].c.address).in_(mine)


def _feeds(owner: str) -> sa.ColumnElement[bool]:
    feeds = tables.metadata.tables["calendar_feeds"]
    return sa.and_(feeds.c.party == "owner", feeds.c.subject == owner)


def _sessions(owner: str) -> sa.ColumnElement[bool]:
    tokens = tables.metadata.tables["tokens"]
    return sa.and_(tokens.c.role == "owner", tokens.c.subject == owner)


def _account(owner: str) -> sa.ColumnElement[bool]:
    accounts = tables.metadata.tables["accounts"]
    return sa.and_(accounts.c.role == "owner", accounts.c.subject == owner)


def _proofs(owner: str) -> sa.ColumnElement[bool]:
    proofs, accounts = tables.metadata.tables["proofs"], tables.metadata.tables["accounts"]
    mine = sa.select(accounts.c.id).where(_account(owner))
    told = (ProofKind.LINK, ProofKind.CODE)
    return sa.or_(sa.and_(proofs.c.kind.in_(told), proofs.c.about == owner), proofs.c.about.in_(mine))


PERSONAL: Mapping[str, Which] = {
    "owners": _column("owners", "id"),
    "preferences": _column("preferences"),
    "consents": _column("consents"),
    "push_subscriptions": _column("push_subscriptions"),
    "mail_addresses": _addresses,
    "tokens": _sessions,
    "accounts": _account,
    "passkeys": _under("passkeys", "account", "accounts"),
    "proofs": _proofs,
    "links": _column("links"),
    "calendar_feeds": _feeds,
    "devices": _column("devices"),
    "ownerships": _column("ownerships"),
    "device_people": _column("device_people"),
    "invitations": _column("invitations", "by"),
    "facts": _of_their_time("facts", "last_seen"),
    "findings": _of_their_time("findings", "found_at"),
    "recall_devices": _under("recall_devices", "finding", "findings"),
    "touchpoints": _column("touchpoints"),
    "touchpoint_findings": _under("touchpoint_findings", "touchpoint", "touchpoints"),
    "holds": _under("holds", "touchpoint", "touchpoints"),
    "pace_places": _under("pace_places", "touchpoint", "touchpoints"),
    "ledger": _column("ledger"),
    "contacts": _column("contacts"),
    "outbox": _column("outbox"),
    "attempts": _under("attempts", "delivery", "outbox"),
    "delivery_outcomes": _under("delivery_outcomes", "delivery", "outbox"),
    "appointments": _column("appointments"),
    "calendar_events": _under("calendar_events", "appointment", "appointments"),
    "calendar_invitations": _under("calendar_invitations", "appointment", "appointments"),
    "extra_work": _column("extra_work"),
    "results": _column("results"),
    "feedback": _column("feedback"),
    "nps_due": _column("nps_due"),
    "cases": _column("cases"),
    "owner_reports": _column("owner_reports"),
    "attachments": _column("attachments"),
    "inbound_mail": _column("inbound_mail"),
    "access_log": _column("access_log"),
}
"""table → which rows are an owner's, in the order in which they are told"""

IMPERSONAL = frozenset(
    {
        "busy_times",
        "calendar_settings",
        "changes",
        "measured_days",
        "positions",
        "quarantine",
        "recalls",
        "remembered_posts",
        "rule_activations",
        "rule_errors",
        "rule_paces",
        "rule_sets",
        "sign_in_tries",
        "stale_days",
        "webhooks",
        "workshops",
    }
)
"""Tables about workshops, rules and the gateway itself, and what belongs to nobody yet."""


class SqlPersonal:
    """See `gateway.ports.Personal`."""

    def __init__(self, transaction: Transaction) -> None:
        self._connection = transaction.connection

    def tables(self) -> tuple[str, ...]:
        return tuple(PERSONAL)

    def rows(self, table: str, owner_id: str) -> Iterator[Mapping[str, Any]]:
        columns = [c for c in tables.metadata.tables[table].columns if c.name not in SECRETS]
        key = tables.metadata.tables[table].primary_key.columns
        query = sa.select(*columns).where(PERSONAL[table](owner_id)).order_by(*(key or columns))
        found = self._connection.execute(query)
        while page := found.fetchmany(_PAGE):
            for row in page:
                yield {c.name: _told(c, value) for c, value in zip(columns, row, strict=True)}


def _told(column: sa.Column[Any], value: Any) -> Any:
    """A value as JSON has it; times in RFC 3339, bytes as they are."""
    if value is None or isinstance(value, bytes):
        return value
    return rfc3339(value) if column.info.get(tables.TIME) else msgspec.to_builtins(value)
