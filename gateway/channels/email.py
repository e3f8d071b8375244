"""E-mail by SMTP (RFC 5321), one mail a delivery, under a Message-ID that stays the same.

| the mail server says                 | becomes | why                                                     |
|--------------------------------------|---------|---------------------------------------------------------|
| 250 after the text                   | Sent    | it has the mail; the mailbox may not                    |
| 4xx (greylisting, full, busy)        | Retry   | minutes later: deliver.retries                          |
| no connection, no answer             | Retry   | the house's own mail server is away                     |
| 5xx to the recipient                 | Gone    | the address is marked, and the owner's page says so     |
| 5.7.x or 5.2.2 to the recipient      | Refused | our matter or a full mailbox: the address is not to blame |
| 5xx to us (sign-in, sender, content) | Refused | a dead letter, seen by the operator                     |

Expiry: a matter that was answered or has ended is not sent. Replacement: none, a mail stands; a second
one of the same delivery has the same Message-ID, by which mail programs show it once. Whether a mail was
read is not known: that would take a picture fetched from us, and who reads what is nobody's business.
"""

from __future__ import annotations

import asyncio
import email.policy
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import aiosmtplib

from gateway.channels.addresses import is_loopback
from gateway.domain.delivery import Delivery, Gone, Outcome, Refused, Retry, Sent
from gateway.domain.mail import blames_address, plain_page, return_path

TIMEOUT_S = 30.0
CONNECTIONS = 4
"""Mails on their way at the same time; a mail server wants no more of one client."""

POLICY = email.policy.SMTP.clone(max_line_length=200)
"""Long enough that no address in a header is broken over lines, which some readers take for a blank."""

_STATUS = re.compile(r"\b([245]\.\d{1,3}\.\d{1,3})\b")
_OURS = frozenset({"from", "to", "subject", "date", "message-id", "sender", "return-path", "bcc", "cc"})
"""Headers that no payload sets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Relay:
    """The mail server that takes our mail."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    tls: bool = False
    """encrypted from the first byte (smtps)"""
    starttls: Literal["auto", "require", "never"] = "auto"

    @classmethod
    def of(cls, url: str, starttls: Literal["auto", "require", "never"]) -> Relay:
        """From smtp://user:password@host:port or smtps://…"""
        parts = urlsplit(url)
        tls = parts.scheme == "smtps"
        if parts.username and starttls == "auto" and not is_loopback(parts.hostname or ""):
            starttls = "require"  # who stands between could say that there is no encryption, and read it
        return cls(
            host=parts.hostname or "",
            port=parts.port or (465 if tls else 587 if parts.username else 25),
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            tls=tls,
            starttls="never" if tls else starttls,
        )

    def client(self, context: ssl.SSLContext | None = None, timeout_s: float = TIMEOUT_S) -> aiosmtplib.SMTP:
        """A client that is not connected yet; it greets, encrypts and signs in as it connects."""
        return aiosmtplib.SMTP(
            hostname=self.host,
            port=self.port,
            username=self.username,
            password=self.password,
            use_tls=self.tls,
            start_tls={"auto": None, "require": True, "never": False}[self.starttls],
            tls_context=context,
            timeout=timeout_s,
        )


MailError = aiosmtplib.SMTPException
"""What `EmailChannel.check` raises, besides OSError."""


class EmailChannel:
    """See `gateway.ports.Channel`; the payload is {"to", "subject", "text", "html"?, "headers"?,
    "calendar"?: {"method", "ics"}, "language"?}."""

    name = "email"

    def __init__(
        self,
        relay: Relay,
        *,
        sender: str,
        bounce_domain: str = "",
        bounce_key: bytes = b"",
        now: Callable[[], int],
        tls_context: ssl.SSLContext | None = None,
    ) -> None:
        """`sender`: an address, or Name <address>. `bounce_domain`: where return paths of their own lead,
        marked with `bounce_key`; empty: bounces go to the sender. `now` gives UTC milliseconds."""
        self._relay = relay
        self._sender = sender
        self._bounce_domain = bounce_domain
        self._bounce_key = bounce_key
        self._now = now
        self._tls = tls_context
        self._room = asyncio.Semaphore(CONNECTIONS)

    @property
    def host_name(self) -> str:
        """The mail server and its port, for people."""
        return f"{self._relay.host}:{self._relay.port}"

    def host(self, delivery: Delivery) -> str:
        """All mail goes through one server."""
        return self._relay.host

    async def send(self, delivery: Delivery) -> Outcome:
        """Hand one mail to the mail server."""
        try:
            mail = compose(delivery.id, delivery.payload, sender=self._sender, at=self._now())
        except (ValueError, UnicodeError) as error:
            return Refused(detail=f"cannot be written as a mail: {error}")
        domain = self._bounce_domain
        sender = parseaddr(self._sender)[1]
        envelope = return_path(delivery.id, domain, self._bounce_key) if domain else sender
        async with self._room:
            return await self._hand_over(mail, envelope, delivery.payload["to"])

    async def _hand_over(self, mail: EmailMessage, envelope: str, to: str) -> Outcome:
        client = self._relay.client(self._tls)
        try:
            async with client:
                if to.isascii():
                    _, said = await client.sendmail(envelope, [to], mail.as_bytes())
                else:  # an international address (RFC 6531): only where the server knows them
                    _, said = await client.send_message(mail, sender=envelope, recipients=[to])
                return Sent(detail=f"250 {said}"[:200])
        except aiosmtplib.SMTPRecipientsRefused as error:
            refused = error.recipients[0]
            return _refused_recipient(refused.code, refused.message)
        except aiosmtplib.SMTPResponseException as error:  # sign-in, sender, content
            return _refused_us(error.code, str(error.message))
        except (aiosmtplib.SMTPNotSupported, UnicodeError) as error:
            return Refused(detail=f"the mail server cannot take it: {error}")
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            return Retry(detail=f"mail server: {type(error).__name__}: {error}".rstrip(": "))

    async def check(self, patience_s: float) -> str:
        """One line for doctor. Raises aiosmtplib.SMTPException, OSError; TimeoutError when that takes longer
        than `patience_s`, for somebody waits for the line."""
        client = self._relay.client(self._tls, patience_s)  # also for the good-bye
        async with asyncio.timeout(patience_s), client:
            secured = client.get_transport_info("sslcontext") is not None
            await client.noop()
        return f"{self.host_name}, {'encrypted' if secured else 'not encrypted'}"

    async def close(self) -> None:
        """Nothing is kept open."""


def _refused_recipient(code: int, said: str) -> Outcome:
    detail = f"{code} {said}"
    if code < 500:
        return Retry(detail=detail)
    status = _STATUS.search(said)
    if status is not None and not blames_address(status[1]):
        return Refused(detail=detail)
    return Gone(detail=detail)


def _refused_us(code: int, said: str) -> Outcome:
    detail = f"{code} {said}"
    return Refused(detail=detail) if 500 <= code < 600 else Retry(detail=detail)


# --- the mail ---------------------------------------------------------------------------------


def compose(delivery_id: str, payload: Mapping[str, Any], *, sender: str, at: int) -> EmailMessage:
    """The mail: text, the same as HTML, and an invitation where there is one, both as a part that calendars
    read (RFC 6047) and as a file. Raises ValueError for addresses and headers that cannot be."""
    mail = EmailMessage(policy=POLICY)
    name, address = parseaddr(sender)
    mail["From"] = Address(display_name=name, addr_spec=address)
    mail["To"] = Address(addr_spec=payload["to"])
    mail["Subject"] = " ".join(str(payload["subject"]).split())
    mail["Date"] = format_datetime(datetime.fromtimestamp(at // 1000, UTC))
    mail["Message-ID"] = f"<{delivery_id}@{address.rpartition('@')[2]}>"
    for header, value in (payload.get("headers") or {}).items():
        if header.lower() not in _OURS:
            mail[header] = str(value)
    text = str(payload["text"])
    mail.set_content(text)
    html = payload.get("html") or plain_page(str(payload["subject"]), text, payload.get("language", "en"))
    mail.add_alternative(html, subtype="html")
    calendar = payload.get("calendar")
    if calendar:
        mail.add_alternative(calendar["ics"], subtype="calendar")
        parts = mail.get_payload()
        assert isinstance(parts, list)  # it has just been made of several
        invitation = parts[-1]
        assert isinstance(invitation, EmailMessage)
        invitation.set_param("method", calendar["method"])
        mail.add_attachment(
            calendar["ics"].encode(), maintype="application", subtype="ics", filename="invite.ics"
        )
    return mail
