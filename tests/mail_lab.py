"""A mail server of somebody else's, our own for what comes in, and a calendar that is not ours (vobject)."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import aiosmtplib
import vobject
from aiosmtpd.smtp import SMTP, Envelope, Session
from garage import SIGNALS, TEXTS, World

from gateway.adapters.mail_in import MailServer
from gateway.adapters.timeseries_embedded import EmbeddedTimeSeries
from gateway.channels.email import EmailChannel, Relay
from gateway.domain.calendars import CalendarSettings, Reach
from gateway.domain.counters import Counters
from gateway.flow.course import Courses
from gateway.flow.deliver import Deliverer
from gateway.flow.mail import is_ours, receive_mail
from gateway.flow.outgoing import Renderer

WORKSHOP_MAIL, OWNER_MAIL = "service@nord.example", "jana@keller.example"
UTC_OF_VOBJECT = vobject.icalendar.utc
REPLIES = "replies@touchpoint.example"


@dataclass
class Mailbox:
    """Everything that their mail server took, by recipient."""

    address: tuple[str, int] = ("", 0)
    mails: dict[str, list[EmailMessage]] = field(default_factory=dict)
    refuse: dict[str, str] = field(default_factory=dict)

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        mail = message_from_bytes(envelope.content, policy=policy.default)
        for recipient in envelope.rcpt_tos:
            self.mails.setdefault(recipient, []).append(mail)
        return "250 OK"


@asynccontextmanager
async def open_mailbox() -> AsyncIterator[Mailbox]:
    """The mail server of workshop and owner, on a real port."""
    box, loop = Mailbox(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(box, hostname="there", loop=loop), "127.0.0.1", 0)
    box.address = server.sockets[0].getsockname()[:2]
    try:
        yield box
    finally:
        server.close()
        await server.wait_closed()


@dataclass
class Lab:
    """The world with mail both ways."""

    world: World
    box: Mailbox
    server: MailServer
    deliverer: Deliverer
    series: EmbeddedTimeSeries
    sent: int = 0

    async def deliver(self) -> None:
        """What is queued leaves the house."""
        await self.deliverer.now()

    async def got(self, address: str) -> list[Invited]:
        """The invitations that stand in a mailbox, oldest first."""
        await self.deliver()
        return [Invited(mail) for mail in self.box.mails.get(address, []) if invites(mail)]

    async def newest(self, address: str) -> Invited:
        return (await self.got(address))[-1]

    async def mails_to_us(self, raw: bytes, *recipients: str, sender: str = "anybody@example.com") -> None:
        """A mail comes in by SMTP. Raises aiosmtplib.SMTPException when it is refused."""
        assert self.server.address is not None
        self.world.clock.advance(self.world.now + 1)  # ids sort by the millisecond
        host, port = self.server.address
        async with aiosmtplib.SMTP(hostname=host, port=port, start_tls=False) as client:
            await client.sendmail(sender, list(recipients), raw)

    async def replies(self, invited: Invited, method: str = "REPLY", **said: Any) -> bytes:
        """The calendar that got the invitation answers it, as an independent program writes it."""
        self.sent += 1
        stamp = said.pop("stamp", self.world.now + self.sent * 1_000)
        raw = reply(invited, method, number=self.sent, stamp=stamp, **said)
        await self.mails_to_us(raw, invited.organizer, sender=said.get("sender", invited.attendee))
        return raw

    async def outcomes(self) -> list[tuple[str, str]]:
        """(outcome, reason) of what came in, oldest first."""
        rows = await self.world.read(lambda records: records.calendars.mails())
        return [(row.outcome, row.reason) for row in reversed(rows)]


def invites(mail: EmailMessage) -> bool:
    """Whether it carries an event; replies in words come by mail, too."""
    return any(part.get_content_type() == "text/calendar" for part in mail.walk())


class Invited:
    """A mail with an invitation, as vobject reads it."""

    def __init__(self, mail: EmailMessage) -> None:
        self.mail = mail
        part = next(p for p in mail.walk() if p.get_content_type() == "text/calendar")
        self.method_of_part = part.get_param("method")
        self.calendar = vobject.readOne(part.get_content())
        self.event = self.calendar.vevent

    @property
    def method(self) -> str:
        return str(self.calendar.method.value)

    @property
    def uid(self) -> str:
        return str(self.event.uid.value)

    @property
    def sequence(self) -> int:
        return int(self.event.sequence.value)

    @property
    def start(self) -> datetime:
        return self.event.dtstart.value  # type: ignore[no-any-return]

    @property
    def status(self) -> str:
        return str(self.event.status.value)

    @property
    def organizer(self) -> str:
        return str(self.event.organizer.value).removeprefix("mailto:")

    @property
    def attendee(self) -> str:
        return str(self.event.attendee.value).removeprefix("mailto:")

    @property
    def partstat(self) -> str:
        return str(self.event.attendee.params["PARTSTAT"][0])


def answer_calendar(
    invited: Invited,
    method: str,
    *,
    partstat: str = "ACCEPTED",
    stamp: int,
    start: datetime | None = None,
    end: datetime | None = None,
    sequence: int | None = None,
    uid: str | None = None,
) -> str:
    """What an independent calendar writes (RFC 5546 sections 3.2.3, 3.2.5, 3.2.6, 3.2.7)."""
    calendar = vobject.iCalendar()
    calendar.add("method").value = method
    event = calendar.add("vevent")
    event.add("uid").value = uid or invited.uid
    event.add("dtstamp").value = datetime.fromtimestamp(stamp / 1000, UTC_OF_VOBJECT)
    event.add("sequence").value = str(invited.sequence if sequence is None else sequence)
    event.add("dtstart").value = start.astimezone(UTC_OF_VOBJECT) if start else invited.start
    event.add("dtend").value = end.astimezone(UTC_OF_VOBJECT) if end else invited.event.dtend.value
    event.add("organizer").value = f"mailto:{invited.organizer}"
    attendee = event.add("attendee")
    attendee.value = f"mailto:{invited.attendee}"
    attendee.params["PARTSTAT"] = [partstat]
    event.add("summary").value = f"{partstat.title()}: {invited.event.summary.value}"
    return str(calendar.serialize())


def reply(
    invited: Invited,
    method: str = "REPLY",
    *,
    number: int,
    stamp: int,
    sender: str | None = None,
    message_id: str | None = None,
    **said: Any,
) -> bytes:
    """The mail around it (RFC 6047)."""
    mail = EmailMessage()
    mail["From"] = sender or invited.attendee
    mail["To"] = invited.organizer
    mail["Subject"] = f"{method}: {invited.event.summary.value}"
    mail["Message-ID"] = message_id or f"<{number}.{invited.uid}>"
    mail.set_content("Answered by a calendar.")
    mail.add_alternative(answer_calendar(invited, method, stamp=stamp, **said), subtype="calendar")
    parts = mail.get_payload()
    assert isinstance(parts, list)
    parts[-1].set_param("method", method)
    return mail.as_bytes(policy=policy.SMTP)


@asynccontextmanager
async def open_lab(
    world: World, *, reach: Reach = Reach.MAIL, books: str = "on_request"
) -> AsyncIterator[Lab]:
    """Jana and the workshop both have mail; our own server takes answers."""
    world.policy = replace(
        world.policy,
        channels=("web_push", "display", "email"),
        reply_address=REPLIES,
        bounce_domain="touchpoint.example",
        calendar_domain="touchpoint.example",
        calendar_key=b"k" * 32,
    )

    def settle(records: Any) -> None:
        records.workshops.put(replace(records.workshops.get("nord"), books=books))
        records.calendars.put_settings(
            CalendarSettings(workshop="nord", email=WORKSHOP_MAIL, reach=reach, language="de")
        )
        records.owners.update(replace(records.owners.get("jana"), email=OWNER_MAIL))

    await world.write(settle)
    server = MailServer(
        host="127.0.0.1",
        port=0,
        take=lambda raw, recipients: receive_mail(world.database, world.clock, world.policy, raw, recipients),
        ours=lambda address: is_ours(address, world.policy),
        max_bytes=262_144,
    )
    listening = await server.start()
    async with open_mailbox() as box, AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        channel = EmailChannel(
            Relay(host=box.address[0], port=box.address[1], starttls="never"),
            sender="After-sales <after-sales@touchpoint.example>",
            bounce_domain="touchpoint.example",
            bounce_key=world.policy.calendar_key,
            now=world.clock.now,
        )
        renderer = Renderer(
            texts=TEXTS, signals=SIGNALS, policy=world.policy, public_url="https://tp.example"
        )
        series = EmbeddedTimeSeries(folder / "timeseries.db")
        deliverer = Deliverer(
            world.database,
            world.clock,
            {"email": channel},
            world.policy,
            renderer,
            Counters(),
            Courses(series, TEXTS, lambda: SIGNALS).write,
        )
        try:
            yield Lab(world, box, server, deliverer, series)
        finally:
            await series.close()
            listening.close()
            await listening.wait_closed()
