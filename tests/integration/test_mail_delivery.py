"""From the finding to the mailbox: mails through a real SMTP server that refuses, greylists and encrypts."""

import asyncio
import email
import email.policy
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from garage import DAY, HOUR, JANA, RULES, SIGNALS, TEXTS, World, at, open_world

from gateway.channels.email import TIMEOUT_S, EmailChannel, Relay
from gateway.domain.counters import Counters
from gateway.domain.delivery import Delivery, DeliveryState, MailAddress, Reached
from gateway.domain.mail import bounced_delivery, return_path
from gateway.domain.policy import Policy
from gateway.flow import links, outgoing
from gateway.flow.deliver import Deliverer
from gateway.flow.outgoing import Renderer
from gateway.ports import Records

ADDRESS = "jana@home.example"


KEY = b"a key of this house"


@dataclass
class Mailbox:
    """What a mail server took, and what it says instead of taking it."""

    taken: list[Envelope] = field(default_factory=list)
    at_recipient: list[str] = field(default_factory=list)
    at_data: list[str] = field(default_factory=list)
    tls: list[bool] = field(default_factory=list)

    async def handle_RCPT(
        self, server: SMTP, session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.at_recipient:
            said = self.at_recipient.pop(0)
            if said:
                return said
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Envelope) -> str:
        if self.at_data:
            said = self.at_data.pop(0)
            if said:
                return said
        self.taken.append(envelope)
        self.tls.append(session.ssl is not None)
        return "250 taken"

    @property
    def mails(self) -> list[EmailMessage]:
        """As a mail program reads them."""
        return [mail_of(envelope.content) for envelope in self.taken]


def mail_of(raw: Any) -> EmailMessage:
    return email.message_from_bytes(raw, _class=EmailMessage, policy=email.policy.default)


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@dataclass
class MailServer:
    """aiosmtpd on a free port of this machine."""

    mailbox: Mailbox
    options: dict[str, Any] = field(default_factory=dict)
    server: asyncio.Server | None = None
    port: int = 0

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(
            lambda: SMTP(
                self.mailbox, hostname="mx.example", loop=loop, enable_SMTPUTF8=True, **self.options
            ),
            "127.0.0.1",
            self.port,
        )
        self.port = self.server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self.server is not None:
            self.server.close()
            await self.server.wait_closed()
            self.server = None


@pytest.fixture
async def server(mailbox: Mailbox) -> AsyncIterator[MailServer]:
    running = MailServer(mailbox)
    await running.start()
    yield running
    await running.stop()


@dataclass
class House:
    """Jana, who has an address and no browser, and the gateway's mail."""

    world: World
    channel: EmailChannel

    async def send(self) -> None:
        """Everything that is due is sent."""
        renderer = Renderer(
            texts=TEXTS, signals=SIGNALS, policy=self.world.policy, public_url="https://gateway.example/"
        )
        channels = {"email": self.channel}
        await Deliverer(
            self.world.database, self.world.clock, channels, self.world.policy, renderer, Counters()
        ).now()

    async def rows(self) -> list[Delivery]:
        """All mails, oldest first."""
        rows = await self.world.read(lambda r: r.outbox.page())
        return [row for row in reversed(rows) if row.channel == "email"]

    async def outcomes(self, row: Delivery) -> list[Reached]:
        known = await self.world.read(lambda r: r.outbox.outcomes([row.id]))
        return [one.outcome for one in known.get(row.id, [])]

    async def address(self) -> MailAddress | None:
        return await self.world.read(lambda r: r.mail_addresses.find(ADDRESS))


def relay(port: int, **changes: Any) -> Relay:
    return replace(Relay.of(f"smtp://127.0.0.1:{port}", "auto"), **changes)


@pytest.fixture
async def house(tmp_path: Path, server: MailServer) -> AsyncIterator[House]:
    async with open_world(tmp_path) as world:
        world.policy = Policy(rules=RULES, channels=("web_push", "display", "email", "letter"))
        await world.write(lambda r: r.owners.update(replace(JANA, email="Jana@home.example")))
        channel = EmailChannel(
            relay(server.port),
            sender="Arden <service@arden.example>",
            bounce_domain="bounces.arden.example",
            bounce_key=KEY,
            now=world.clock.now,
        )
        yield House(world, channel)


# --- what a mail says ---------------------------------------------------------------------------


async def test_a_finding_becomes_a_mail_with_text_and_html_and_links(house: House, mailbox: Mailbox) -> None:
    await house.world.found()
    await house.send()
    (mail,) = mailbox.mails
    (row,) = await house.rows()
    assert row.state is DeliveryState.SENT
    assert mail["From"] == "Arden <service@arden.example>"
    assert mail["To"] == "Jana@home.example"
    assert mail["Subject"] == "Arden 5 · HH-JK 482: Your front brake pads are worn to 2.5 mm"
    assert mail["Message-ID"] == f"<{row.id}@arden.example>"
    assert mail.get_content_type() == "multipart/alternative"
    text, html = (mail.get_body((kind,)) for kind in ("plain", "html"))
    assert text is not None
    assert html is not None
    for part in (text.get_content(), html.get_content()):
        assert "Hello Jana Keller," in part
        assert "Autohaus Nord has Tuesday" in part
        assert "Book Tuesday" in part
        assert "https://gateway.example/a/" in part
    page = html.get_content()
    assert "prefers-color-scheme: dark" in page
    for remote in ("<img", "src=", "url(", "<link", "<script"):
        assert remote not in page
    assert await house.outcomes(row) == [Reached.SENT]


async def test_the_links_in_a_mail_open_its_matter_and_the_outbox_keeps_none(
    house: House, mailbox: Mailbox
) -> None:
    await house.world.found()
    await house.send()
    body = mailbox.mails[0].get_body(("plain",))
    assert body is not None
    secret = body.get_content().partition("https://gateway.example/a/")[2].partition("?")[0]
    link = await house.world.read(lambda r: links.peek(r, secret, house.world.now))
    assert (link.owner, link.purpose, link.about) == ("jana", "answer", (await house.world.touchpoint()).id)
    assert secret not in repr(await house.rows())


async def test_one_click_ends_messages_of_this_kind(house: House, mailbox: Mailbox) -> None:
    await house.world.found()
    await house.send()
    mail = mailbox.mails[0]
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    address = str(mail["List-Unsubscribe"])
    assert address.startswith("<https://gateway.example/u/")
    secret = address.strip("<>").rpartition("/")[2]
    link = await house.world.read(lambda r: links.peek(r, secret, house.world.now + 300 * DAY))
    assert (link.owner, link.purpose, link.about) == ("jana", "unsubscribe", "maintenance")


async def test_an_invitation_is_a_part_that_calendars_read_and_a_file(house: House, mailbox: Mailbox) -> None:
    ics = "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n"

    def work(records: Records) -> str | None:
        return outgoing.queue_mail(
            records,
            to="Nord@garage.example",
            about="visit",
            subject="New\nappointment",
            text="Tuesday 8:00\n\nArden 5",
            calendar={"method": "REQUEST", "ics": ics},
            headers={"Reply-To": "answer@arden.example", "From": "evil@else.example"},
            now=house.world.now,
        )

    delivery_id = await house.world.write(work)
    await house.send()
    (mail,) = mailbox.mails
    assert [part.get_content_type() for part in mail.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "text/html",
        "text/calendar",
        "application/ics",
    ]
    calendar = next(part for part in mail.walk() if part.get_content_type() == "text/calendar")
    assert calendar.get_param("method") == "REQUEST"
    assert calendar.get_content().replace("\n", "\r\n").replace("\r\r", "\r") == ics
    attached = next(mail.iter_attachments())
    assert attached.get_filename() == "invite.ics"
    assert mail["Subject"] == "New appointment"
    assert mail["From"] == "Arden <service@arden.example>"
    assert mail["Reply-To"] == "answer@arden.example"
    assert mailbox.taken[0].mail_from == return_path(delivery_id, "bounces.arden.example", KEY)


async def test_a_mail_with_a_key_is_queued_once(house: House) -> None:
    def work(records: Records) -> str | None:
        return outgoing.queue_mail(
            records, to=ADDRESS, about="x", subject="s", text="t", key="visit:1", now=house.world.now
        )

    assert await house.world.write(work) is not None
    assert await house.world.write(work) is None
    assert len(await house.rows()) == 1


# --- refusals -----------------------------------------------------------------------------------


async def test_greylisting_is_asked_again_later_under_the_same_id(house: House, mailbox: Mailbox) -> None:
    mailbox.at_recipient = ["451 4.7.1 Greylisted, please try again", ""]
    await house.world.found()
    began = house.world.now
    await house.send()
    (row,) = await house.rows()
    assert (row.state, row.due_at) == (DeliveryState.PENDING, began + 60_000)
    house.world.clock.advance(row.due_at)
    await house.send()
    assert [mail["Message-ID"] for mail in mailbox.mails] == [f"<{row.id}@arden.example>"]
    attempts = await house.world.read(lambda r: r.outbox.attempts(row.id))
    assert [attempt.result for attempt in attempts] == ["retry", "sent"]
    assert await house.address() is None


async def test_an_address_that_does_not_exist_is_marked_and_the_letter_takes_its_place(
    house: House, mailbox: Mailbox
) -> None:
    mailbox.at_recipient = ["550 5.1.1 No such user"]
    await house.world.write(lambda r: r.owners.update(replace(JANA, email=ADDRESS, address="Elbweg 1")))
    await house.world.found()
    (letter,) = await house.world.queued("letter")
    assert letter.due_at == house.world.now + 7 * DAY
    await house.send()
    (row,) = await house.rows()
    assert row.state is DeliveryState.DROPPED
    assert await house.outcomes(row) == [Reached.FAILED]
    marked = await house.address()
    assert marked is not None
    assert (marked.state, marked.reason) == ("undeliverable", "550 5.1.1 No such user")
    assert "mail_undeliverable" in await house.world.codes()
    (letter,) = await house.world.queued("letter")
    assert letter.due_at == house.world.now
    house.world.clock.advance(house.world.now + HOUR)
    await house.world.found("descaling-due", device="washer")
    assert len(await house.rows()) == 1  # nothing more is sent there


async def test_an_address_that_works_again_is_written_to_again(house: House, mailbox: Mailbox) -> None:
    mailbox.at_recipient = ["550 5.1.1 No such user"]
    await house.world.found()
    await house.send()

    def again(records: Records) -> str | None:
        outgoing.deliverable_again(records, ADDRESS, house.world.now)
        return outgoing.queue_mail(records, to=ADDRESS, about="x", subject="s", text="t", now=house.world.now)

    assert await house.world.write(again) is not None


@pytest.mark.parametrize(
    ("at_recipient", "at_data"),
    [
        (["550 5.7.1 Relaying denied"], []),
        (["552 5.2.2 Mailbox full"], []),
        ([], ["554 5.6.0 We do not like your message"]),
    ],
)
async def test_what_the_address_is_not_to_blame_for_is_a_dead_letter(
    house: House, mailbox: Mailbox, at_recipient: list[str], at_data: list[str]
) -> None:
    mailbox.at_recipient, mailbox.at_data = at_recipient, at_data
    await house.world.found()
    await house.send()
    (row,) = await house.rows()
    assert row.state is DeliveryState.DEAD
    assert await house.address() is None
    await house.world.write(lambda r: r.outbox.retry(row.id, house.world.now))
    await house.send()
    assert len(mailbox.taken) == 1


async def test_a_mail_server_that_is_away_is_tried_again(house: House, server: MailServer) -> None:
    await server.stop()
    await house.world.found()
    await house.send()
    (row,) = await house.rows()
    assert row.state is DeliveryState.PENDING
    attempts = await house.world.read(lambda r: r.outbox.attempts(row.id))
    assert attempts[-1].detail.startswith("mail server: ")


async def test_a_later_mail_waits_for_an_earlier_one_to_the_same_address(
    house: House, mailbox: Mailbox
) -> None:
    mailbox.at_recipient = ["451 4.3.0 Busy"]

    def queue(records: Records, subject: str) -> None:
        outgoing.queue_mail(records, to=ADDRESS, about="x", subject=subject, text="t", now=house.world.now)

    await house.world.write(queue, "first")
    await house.send()
    house.world.clock.advance(house.world.now + 1_000)
    await house.world.write(queue, "second")
    await house.send()
    assert mailbox.mails == []
    house.world.clock.advance(max(row.due_at for row in await house.rows()))
    await house.send()
    assert [mail["Subject"] for mail in mailbox.mails] == ["first", "second"]


# --- encryption and sign-in ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server's certificate for 127.0.0.1 with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def delivery() -> Delivery:
    payload = {"to": ADDRESS, "subject": "s", "text": "t"}
    return Delivery(id="0190-abcdef", channel="email", target=ADDRESS, key="k", payload=payload)


@pytest.fixture
async def secured(mailbox: Mailbox, certificate: Path) -> AsyncIterator[MailServer]:
    """A server that takes mail only from who encrypts and signs in."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    def authenticator(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"us", b"p@ss/word")
        return AuthResult(success=good, handled=False)

    options = {
        "tls_context": context,
        "require_starttls": True,
        "authenticator": authenticator,
        "auth_required": True,
    }
    running = MailServer(mailbox, options)
    await running.start()
    yield running
    await running.stop()


def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


def secure_channel(url: str, certificate: Path | None, starttls: Any = "require") -> EmailChannel:
    context = trusting(certificate) if certificate else None
    return EmailChannel(
        Relay.of(url, starttls), sender="service@arden.example", now=lambda: 0, tls_context=context
    )


async def test_mail_is_encrypted_and_signed_in(
    secured: MailServer, mailbox: Mailbox, certificate: Path
) -> None:
    url = f"smtp://us:p%40ss%2Fword@localhost:{secured.port}"
    channel = secure_channel(url, certificate)
    outcome = await channel.send(delivery())
    assert type(outcome).__name__ == "Sent", outcome
    assert mailbox.tls == [True]
    assert mailbox.taken[0].mail_from == "service@arden.example"
    assert (await channel.check(TIMEOUT_S)).endswith("encrypted")


async def test_a_wrong_password_is_the_operators_matter(secured: MailServer, certificate: Path) -> None:
    channel = secure_channel(f"smtp://us:wrong@localhost:{secured.port}", certificate)
    outcome = await channel.send(delivery())
    assert type(outcome).__name__ == "Refused"
    assert "535" in getattr(outcome, "detail", "")


async def test_a_certificate_that_nobody_trusts_gets_no_password(
    secured: MailServer, mailbox: Mailbox
) -> None:
    outcome = await secure_channel(f"smtp://us:p%40ss%2Fword@localhost:{secured.port}", None).send(delivery())
    assert type(outcome).__name__ == "Retry"
    assert mailbox.taken == []


async def test_required_encryption_is_not_done_without(server: MailServer, mailbox: Mailbox) -> None:
    outcome = await secure_channel(f"smtp://127.0.0.1:{server.port}", None).send(delivery())
    assert type(outcome).__name__ in ("Refused", "Retry")
    assert mailbox.taken == []


def test_a_password_is_never_sent_unencrypted_to_another_machine() -> None:
    assert Relay.of("smtp://us:pw@mail.example", "auto").starttls == "require"
    assert Relay.of("smtp://mail.example", "auto").starttls == "auto"
    assert (Relay.of("smtps://mail.example", "auto").port, Relay.of("smtp://u:p@h", "auto").port) == (
        465,
        587,
    )


# --- bounces ------------------------------------------------------------------------------------


def notification(action: str, status: str) -> bytes:
    return (
        "From: MAILER-DAEMON@mx.example\r\nTo: bounce\r\nSubject: Undelivered\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="x"\r\n\r\n'
        "--x\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n"
        "--x\r\nContent-Type: message/delivery-status\r\n\r\n"
        "Reporting-MTA: dns; mx.example\r\n\r\n"
        f"Final-Recipient: rfc822; {ADDRESS}\r\nAction: {action}\r\nStatus: {status}\r\n"
        "Diagnostic-Code: smtp; 550 no such user\r\n\r\n--x--\r\n"
    ).encode()


async def test_a_bounce_marks_the_address_and_fails_the_delivery(house: House) -> None:
    await house.world.found()
    await house.send()
    (row,) = await house.rows()
    raw = notification("failed", "5.1.1")
    for _ in range(2):  # mail servers may tell it twice
        told = await house.world.write(lambda r: outgoing.bounced(r, row.id, house.world.now, raw))
        assert told == row.id
    assert await house.outcomes(row) == [Reached.SENT, Reached.FAILED]
    marked = await house.address()
    assert marked is not None
    assert marked.reason == "5.1.1 550 no such user"
    assert (await house.world.codes()).count("mail_undeliverable") == 1


async def test_after_a_bounce_the_letter_takes_the_mails_place(house: House) -> None:
    await house.world.write(lambda r: r.owners.update(replace(JANA, email=ADDRESS, address="Elbweg 1")))
    await house.world.found()
    await house.send()
    (row,) = await house.rows()
    raw = notification("failed", "5.1.1")
    house.world.clock.advance(house.world.now + HOUR)
    await house.world.write(lambda r: outgoing.bounced(r, row.id, house.world.now, raw))
    (letter,) = await house.world.queued("letter")
    assert letter.due_at == house.world.now


@pytest.mark.parametrize(
    ("action", "status", "failed", "marked"),
    [
        ("delayed", "4.4.1", False, False),
        ("failed", "5.2.2", True, False),
        ("failed", "5.7.1", True, False),
        ("failed", "5.0.0", True, True),
        ("delivered", "2.0.0", False, False),
    ],
)
async def test_a_notification_means_what_it_says(
    house: House, action: str, status: str, failed: bool, marked: bool
) -> None:
    await house.world.found()
    await house.send()
    (row,) = await house.rows()
    raw = notification(action, status)
    await house.world.write(lambda r: outgoing.bounced(r, row.id, house.world.now, raw))
    assert (Reached.FAILED in await house.outcomes(row)) is failed
    assert (await house.address() is not None) is marked


async def test_nothing_bounces_that_is_no_mail_of_ours(house: House) -> None:
    assert await house.world.write(lambda r: outgoing.bounced(r, "nothing-we-sent", house.world.now)) is None


async def test_only_who_made_a_return_path_is_believed(house: House, mailbox: Mailbox) -> None:
    """The delivery's id stands in the mail for everybody to read; that alone must not silence an address."""
    await house.world.found()
    await house.send()
    (row,) = await house.rows()
    back = str(mailbox.taken[0].mail_from)
    assert back.startswith(f"bounce+{row.id}.")
    assert len(back.partition("@")[0]) <= 64  # RFC 5321 section 4.5.3.1.1
    for address in (back, f"<{back.upper()}>"):
        assert bounced_delivery(address, KEY) == row.id
    local, _, domain = back.partition("@")
    forged = (f"bounce+{row.id}@{domain}", f"{local[:-1]}{'b' if local[-1] == 'a' else 'a'}@{domain}")
    for address in (*forged, "service@arden.example", "", "bounce+@x", f"bounce+{row.id}.@{domain}"):
        assert bounced_delivery(address, KEY) is None, address
    assert bounced_delivery(back, b"another house") is None


# --- when ---------------------------------------------------------------------------------------


async def test_no_mail_at_night_but_what_is_dangerous_at_once(house: House, mailbox: Mailbox) -> None:
    house.world.go_to("2026-11-23T20:59:59+01:00")
    mailbox.at_recipient = ["451 4.7.1 Greylisted"]
    await house.world.found()
    await house.send()
    house.world.go_to("2026-11-23T21:01+01:00")
    await house.send()
    (row,) = await house.rows()
    assert row.due_at == at("2026-11-24T07:00+01:00")
    assert mailbox.taken == []


async def test_a_mail_that_was_answered_before_it_fell_due_is_not_sent(
    house: House, mailbox: Mailbox
) -> None:
    await house.world.subscribes()
    await house.world.found()
    (row,) = await house.world.queued("email")
    assert row.due_at == house.world.now + DAY
    await house.world.answers("not_now")
    house.world.clock.advance(row.due_at)
    await house.send()
    assert mailbox.taken == []
    assert [r.state for r in await house.rows()] == [DeliveryState.DROPPED]


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", "Also sent at 9:00 to your e-mail address: there was no answer yet."),
        ("de", "Um 9:00 auch gesendet an Ihre E-Mail-Adresse: Es gab noch keine Antwort."),
    ],
)
async def test_a_mail_after_a_day_stands_in_the_ledger(
    house: House, mailbox: Mailbox, language: str, said: str
) -> None:
    await house.world.subscribes()
    await house.world.found()
    house.world.clock.advance(house.world.now + DAY)
    await house.send()
    assert len(mailbox.taken) == 1
    assert said in await house.world.story(language)


async def test_withdrawn_consent_stops_a_mail_that_waits(house: House, mailbox: Mailbox) -> None:
    await house.world.found()
    await house.world.agrees("maintenance", granted=False)
    await house.send()
    assert mailbox.taken == []


async def test_an_owner_who_switches_mail_off_gets_none(house: House, mailbox: Mailbox) -> None:
    await house.world.found()
    await house.world.wishes(channels=("web_push", "display"))
    await house.send()
    assert mailbox.taken == []
    assert [r.state for r in await house.rows()] == [DeliveryState.DROPPED]
