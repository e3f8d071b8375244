"""All records inside one transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.accounts import SqlAccounts
from gateway.adapters.database.analytics import SqlAnalytics
from gateway.adapters.database.calendars import SqlCalendars
from gateway.adapters.database.cases import SqlCases
from gateway.adapters.database.contacts import SqlContacts
from gateway.adapters.database.delivering import SqlMailAddresses, SqlWebhooks
from gateway.adapters.database.devices import SqlDevices
from gateway.adapters.database.errors import translated
from gateway.adapters.database.feedback import SqlFeedbacks
from gateway.adapters.database.heard import SqlConversations, SqlHeard
from gateway.adapters.database.links import SqlAttachments, SqlLinks, SqlReports
from gateway.adapters.database.outbox import SqlOutbox
from gateway.adapters.database.owners import SqlOwners
from gateway.adapters.database.paces import SqlPaces
from gateway.adapters.database.people import SqlPeople
from gateway.adapters.database.personal import SqlPersonal
from gateway.adapters.database.quarantine import SqlQuarantine
from gateway.adapters.database.recalls import SqlRecalls
from gateway.adapters.database.results import SqlResults
from gateway.adapters.database.rows import Transaction
from gateway.adapters.database.rule_sets import SqlRuleSets
from gateway.adapters.database.sealing import Seal
from gateway.adapters.database.tokens import SqlTokens
from gateway.adapters.database.touchpoints import SqlTouchpoints
from gateway.adapters.database.workshops import SqlWorkshops
from gateway.ports import (
    Accounts,
    Analytics,
    Attachments,
    Calendars,
    Cases,
    Contacts,
    Conversations,
    Devices,
    Feedbacks,
    HeardEvents,
    Links,
    MailAddresses,
    Outbox,
    Owners,
    Paces,
    People,
    Personal,
    Quarantine,
    Recalls,
    Reports,
    Results,
    RuleSets,
    Tokens,
    Touchpoints,
    Webhooks,
    Workshops,
)

_POSITION = sa.select(tables.positions.c.position).where(tables.positions.c.reader == sa.bindparam("reader"))
_SET_POSITION = sa.text(
    "INSERT INTO positions (reader, position) VALUES (:reader, :position) "
    "ON CONFLICT (reader) DO UPDATE SET position = excluded.position"
)


class SqlRecords:
    """See `gateway.ports.Records`."""

    owners: Owners
    devices: Devices
    touchpoints: Touchpoints
    workshops: Workshops
    outbox: Outbox
    feedback: Feedbacks
    cases: Cases
    results: Results
    analytics: Analytics
    quarantine: Quarantine
    tokens: Tokens
    accounts: Accounts
    rule_sets: RuleSets
    webhooks: Webhooks
    mail_addresses: MailAddresses
    contacts: Contacts
    paces: Paces
    recalls: Recalls
    links: Links
    attachments: Attachments
    reports: Reports
    calendars: Calendars
    people: People
    heard: HeardEvents
    conversations: Conversations
    personal: Personal

    def __init__(self, connection: sa.Connection, now: Callable[[], int], seal: Seal | None = None) -> None:
        self.transaction = transaction = Transaction(connection, now, seal)
        self._connection = connection
        self.owners = SqlOwners(transaction)
        self.devices = SqlDevices(transaction)
        self.touchpoints = SqlTouchpoints(transaction)
        self.workshops = SqlWorkshops(transaction)
        self.outbox = SqlOutbox(transaction)
        self.feedback = SqlFeedbacks(transaction)
        self.cases = SqlCases(transaction)
        self.results = SqlResults(transaction)
        self.analytics = SqlAnalytics(transaction)
        self.quarantine = SqlQuarantine(transaction)
        self.tokens = SqlTokens(transaction)
        self.accounts = SqlAccounts(transaction)
        self.rule_sets = SqlRuleSets(transaction)
        self.webhooks = SqlWebhooks(transaction)
        self.mail_addresses = SqlMailAddresses(transaction)
        self.contacts = SqlContacts(transaction)
        self.paces = SqlPaces(transaction)
        self.recalls = SqlRecalls(transaction)
        self.links = SqlLinks(transaction)
        self.attachments = SqlAttachments(transaction)
        self.reports = SqlReports(transaction)
        self.calendars = SqlCalendars(transaction)
        self.people = SqlPeople(transaction)
        self.heard = SqlHeard(transaction)
        self.conversations = SqlConversations(transaction)
        self.personal = SqlPersonal(transaction)

    def position(self, reader: str) -> int:
        return self._connection.scalar(_POSITION, {"reader": reader}) or 0

    def set_position(self, reader: str, position: int) -> None:
        self._connection.execute(_SET_POSITION, {"reader": reader, "position": position})

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        try:
            with self._connection.begin_nested():
                yield
        except sa.exc.SQLAlchemyError as error:
            raise translated(error, "of the domain") from error

    def changed(self, subject: str, key: str) -> None:
        self.transaction.changed(subject, key)
