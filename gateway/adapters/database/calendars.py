"""Calendar settings, events in others' calendars, invitations, feeds, and mail that came in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from gateway.adapters.database import tables
from gateway.adapters.database.rows import Shape, Transaction
from gateway.domain.calendars import (
    CalendarEvent,
    CalendarInvitation,
    CalendarSettings,
    Feed,
    InboundMail,
    Party,
    Reach,
)
from gateway.domain.errors import NotFoundError

_SETTINGS = Shape(CalendarSettings, tables.calendar_settings)
_EVENT = Shape(CalendarEvent, tables.calendar_events)
_INVITATION = Shape(CalendarInvitation, tables.calendar_invitations)
_FEED = Shape(Feed, tables.calendar_feeds)
_MAIL = Shape(InboundMail, tables.inbound_mail)


class SqlCalendars:
    """See `gateway.ports.Calendars`."""

    def __init__(self, transaction: Transaction) -> None:
        self._on = transaction
        self._connection = transaction.connection

    # --- settings

    def settings(self, workshop: str) -> CalendarSettings:
        query = _SETTINGS.select.where(tables.calendar_settings.c.workshop == workshop)
        return _SETTINGS.first(self._connection, query) or CalendarSettings(workshop=workshop)

    def put_settings(self, settings: CalendarSettings) -> None:
        self._on.put(tables.calendar_settings, _SETTINGS.row(settings), "workshop")
        self._on.changed("calendar", settings.workshop)

    def due_feeds(self, now: int, limit: int = 10) -> list[CalendarSettings]:
        due = tables.calendar_settings.c.busy_due_at
        return _SETTINGS.all(self._connection, _SETTINGS.select.where(due <= now).order_by(due).limit(limit))

    def next_feed(self) -> int | None:
        due: int | None = self._connection.scalar(
            sa.select(sa.func.min(tables.calendar_settings.c.busy_due_at))
        )
        return due

    def broken_feeds(self, limit: int = 100) -> list[CalendarSettings]:
        c = tables.calendar_settings.c
        query = _SETTINGS.select.where(c.busy_due_at.is_not(None), c.busy_problem.is_not(None))
        return _SETTINGS.all(self._connection, query.order_by(c.workshop).limit(limit))

    def unreached(self, limit: int = 100) -> list[tuple[CalendarSettings, str]]:
        c, a = tables.calendar_settings.c, tables.mail_addresses.c
        query = (
            _SETTINGS.select.add_columns(a.reason)
            .join(tables.mail_addresses, sa.func.lower(c.email) == a.address)
            .where(c.reach == Reach.MAIL, a.state == "undeliverable")
            .order_by(c.workshop)
            .limit(limit)
        )
        found = []
        for *fields, reason in self._connection.execute(query):
            found.append((CalendarSettings(**dict(zip(_SETTINGS.names, fields, strict=True))), reason))
        return found

    # --- events

    def event(self, appointment: str) -> CalendarEvent | None:
        query = _EVENT.select.where(tables.calendar_events.c.appointment == appointment)
        return _EVENT.first(self._connection, query)

    def events(self, appointments: Sequence[str]) -> Mapping[str, CalendarEvent]:
        if not appointments:
            return {}
        query = _EVENT.select.where(tables.calendar_events.c.appointment.in_(appointments))
        return {event.appointment: event for event in _EVENT.all(self._connection, query)}

    def put_event(self, event: CalendarEvent) -> None:
        self._on.put(tables.calendar_events, _EVENT.row(event), "appointment")

    # --- invitations

    def invitation(self, appointment: str, party: Party) -> CalendarInvitation | None:
        c = tables.calendar_invitations.c
        query = _INVITATION.select.where(c.appointment == appointment, c.party == party)
        return _INVITATION.first(self._connection, query.order_by(c.created.desc()).limit(1))

    def invitation_by_token(self, token_hash: str) -> CalendarInvitation | None:
        query = _INVITATION.select.where(tables.calendar_invitations.c.token_hash == token_hash)
        return _INVITATION.first(self._connection, query)

    def put_invitation(self, invitation: CalendarInvitation) -> None:
        self._on.put(tables.calendar_invitations, _INVITATION.row(invitation), "token_hash")

    # --- feeds

    def feed(self, party: Party, subject: str) -> Feed | None:
        c = tables.calendar_feeds.c
        return _FEED.first(self._connection, _FEED.select.where(c.party == party, c.subject == subject))

    def feed_by_token(self, token_hash: str) -> Feed | None:
        query = _FEED.select.where(tables.calendar_feeds.c.token_hash == token_hash)
        return _FEED.first(self._connection, query)

    def put_feed(self, feed: Feed) -> None:
        c = tables.calendar_feeds.c
        self._connection.execute(
            sa.delete(tables.calendar_feeds).where(c.party == feed.party, c.subject == feed.subject)
        )
        self._connection.execute(sa.insert(tables.calendar_feeds).values(_FEED.row(feed)))

    # --- mail that came in

    def add_mail(self, mail: InboundMail) -> bool:
        added = self._on.insert_once(tables.inbound_mail, _MAIL.row(mail), "message_id", "recipient")
        if added:
            self._on.changed("mail", mail.id)
        return added

    def has_mail(self, message_id: str, recipient: str) -> bool:
        c = tables.inbound_mail.c
        query = sa.select(c.id).where(c.message_id == message_id, c.recipient == recipient)
        return self._connection.scalar(query.limit(1)) is not None

    def mail(self, mail_id: str) -> InboundMail:
        found = _MAIL.by_id(self._connection, mail_id)
        if found is None:
            raise NotFoundError(f"There is no mail {mail_id}.")
        return found

    def mails(
        self, *, waiting: bool = False, after: str | None = None, limit: int = 100
    ) -> list[InboundMail]:
        c = tables.inbound_mail.c
        query = _MAIL.select.order_by(c.id.desc()).limit(limit)
        if waiting:
            query = query.where(c.outcome == "kept", c.seen_at.is_(None))
        if after is not None:
            query = query.where(c.id < after)
        return _MAIL.all(self._connection, query)

    def waiting_mails(self, most: int) -> tuple[int, int]:
        c = tables.inbound_mail.c
        kept = sa.select(c.size).where(c.outcome == "kept", c.seen_at.is_(None)).limit(most).subquery()
        many, size = self._connection.execute(sa.select(sa.func.count(), sa.func.sum(kept.c.size))).one()
        return many, size or 0

    def see_mail(self, mail_id: str, at: int) -> None:
        self.mail(mail_id)
        c = tables.inbound_mail.c
        statement = sa.update(tables.inbound_mail).where(c.id == mail_id, c.seen_at.is_(None))
        self._connection.execute(statement.values(seen_at=at, raw=None))
        self._on.changed("mail", mail_id)
