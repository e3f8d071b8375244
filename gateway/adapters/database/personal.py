"""What lies where of whom: how the rows of every table belong to an owner.

One map for all tables, so that a new one cannot be forgotten: a test holds it against the schema. What is
told to an owner by it is also what is erased for them; only what `STAYS` names is left, without its person.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Transaction
from gateway.domain.accounts import ProofKind
from gateway.domain.calendars import Party
from gateway.domain.delivery import DeliveryState
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
        "code_hash",
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
        among = table.c.device.in_(sa.select(own.c.device).where(own.c.owner == owner))  # what an index finds
        return among & sa.exists().where(
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


def _mails(owner: str) -> sa.ColumnElement[bool]:
    """Mails that came in: about a visit of theirs, or from their address."""
    mails, owners = tables.metadata.tables["inbound_mail"], tables.metadata.tables["owners"]
    mine = sa.select(sa.func.lower(owners.c.email)).where(owners.c.id == owner)
    return sa.or_(mails.c.owner == owner, sa.func.lower(mails.c.sender).in_(mine))


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


PERSONAL: dict[str, Which] = {
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
    "heard": _column("heard"),
    "conversations": _column("conversations"),
    "conversation_lines": _under("conversation_lines", "touchpoint", "touchpoints"),
    "owner_reports": _column("owner_reports"),
    "attachments": _column("attachments"),
    "inbound_mail": _mails,
    "access_log": _column("access_log"),
}
"""table → which rows are an owner's, in the order in which they are told, and erased in the other. What says
whose the rows of another table are, stands before it."""

IMPERSONAL = frozenset(
    {
        "agents_present",
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


# --- what stays, without its person -----------------------------------------------------------------


def _all(owner: str) -> sa.ColumnElement[bool]:
    return sa.true()


def _needed(owner: str) -> sa.ColumnElement[bool]:
    """Findings that others were asked about too, and recalls, which are the product's: their evidence is the
    campaign's text."""
    findings, asked = tables.findings.c, tables.touchpoints.c
    among, recalled = tables.touchpoint_findings.c, tables.recall_devices.c
    others = sa.exists().where(asked.finding == findings.id, asked.owner != owner)
    along = sa.exists().where(
        among.finding == findings.id, asked.id == among.touchpoint, asked.owner != owner
    )
    return sa.or_(others, along, sa.exists().where(recalled.finding == findings.id))


def _on_its_way(owner: str) -> sa.ColumnElement[bool]:
    """Events that other systems are owed, and control entries: ids and times, worded without a person."""
    c = tables.outbox.c
    waits = (DeliveryState.PENDING, DeliveryState.LEASED)
    return sa.and_(c.state.in_(waits), c.channel.in_(("webhook", "journal")))


def _workshops_own(owner: str) -> sa.ColumnElement[bool]:
    return tables.metadata.tables["calendar_invitations"].c.party == Party.WORKSHOP


STAYS: Mapping[str, tuple[Which, Mapping[str, Any]]] = {
    "appointments": (
        _all,
        {"owner": None, "touchpoint": None, "label": None, "address": None, "stay": None, "reason": None}
        | {"diagnosis": {}, "work": {}},
    ),
    "calendar_events": (_all, {}),
    "calendar_invitations": (_workshops_own, {}),
    "recall_devices": (_all, {}),
    "findings": (_needed, {}),
    "outbox": (_on_its_way, {"owner": None, "touchpoint": None}),
}
"""table → (which of an owner's rows are left when they are erased, what their columns become). A visit is in
the workshop's books and in those of its bays; its event is what a cancellation names. What a product is
recalled for is so for whoever has it."""

NOBODY = "–"
"""Stands in others' ledgers where somebody's name was."""

_REMEMBERED = tables.remembered.c


class SqlPersonal:
    """See `gateway.ports.Personal`."""

    def __init__(self, transaction: Transaction) -> None:
        self._on = transaction
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

    def erase(self, owner_id: str, names: Collection[str], others: Collection[str]) -> Mapping[str, int]:
        if self._connection.dialect.name == "sqlite":  # what is deleted is overwritten in its file
            self._connection.exec_driver_sql("PRAGMA secure_delete = ON")
        self._unname(names, others)
        gone = {name: self._end(name, owner_id) for name in reversed(PERSONAL)}
        self._forget_answers({owner_id, *names})
        self._on.forget()
        return gone

    def _end(self, name: str, owner_id: str) -> int:
        """An owner's rows of a table, but those that stay; these name nobody any more."""
        table, theirs = tables.metadata.tables[name], PERSONAL[name](owner_id)
        if name not in STAYS:
            return self._delete(table, theirs)
        which, become = STAYS[name]
        stay = which(owner_id)
        gone = self._delete(table, sa.and_(theirs, sa.not_(stay)))
        if become:
            self._connection.execute(sa.update(table).where(theirs, stay).values(become))
        return gone

    def _delete(self, table: sa.Table, theirs: sa.ColumnElement[bool]) -> int:
        """Rows, and what would point to them from other tables."""
        for other in tables.metadata.tables.values():
            for key in other.foreign_keys:
                if key.column.table is not table:
                    continue
                doomed = key.parent.in_(sa.select(key.column).where(theirs))
                if key.parent.nullable:
                    statement: Any = sa.update(other).where(doomed).values({key.parent.name: None})
                else:
                    statement = sa.delete(other).where(doomed)
                self._connection.execute(statement)
        return self._connection.execute(sa.delete(table).where(theirs)).rowcount

    def _unname(self, names: Collection[str], others: Collection[str]) -> None:
        """People who shared a product with somebody read in their ledgers what became of it, not whose it
        was."""
        c = tables.ledger.c
        lines = self._connection.execute(sa.select(c.seq, c.params).where(c.owner.in_(others))).fetchall()
        for seq, params in lines:
            unnamed = {key: NOBODY if value in names else value for key, value in params.items()}
            if unnamed != params:
                self._connection.execute(sa.update(tables.ledger).where(c.seq == seq).values(params=unnamed))
        brought = tables.device_people.c.by.in_(names)
        self._connection.execute(sa.update(tables.device_people).where(brought).values(by=NOBODY))

    def _forget_answers(self, names: Collection[str]) -> None:
        """What POSTs of the last days were answered with, where it names them."""
        said = (msgspec.json.encode(name).decode() for name in names)
        named = [_REMEMBERED.body.contains(text, autoescape=True) for text in said]
        self._connection.execute(sa.delete(tables.remembered).where(sa.or_(*named)))

    def erase_undecoded(self, device: str, start: int, end: int) -> int:
        c = tables.quarantine.c
        within = sa.literal("/").concat(c.topic).concat("/")
        theirs = within.contains(f"/{device}/", autoescape=True)
        between = sa.and_(c.received >= start, c.received < end)
        return self._connection.execute(sa.delete(tables.quarantine).where(theirs, between)).rowcount


def _told(column: sa.Column[Any], value: Any) -> Any:
    """A value as JSON has it; times in RFC 3339, bytes as they are."""
    if value is None or isinstance(value, bytes):
        return value
    return rfc3339(value) if column.info.get(tables.TIME) else msgspec.to_builtins(value)
