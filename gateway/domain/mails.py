"""A mail as it came in: hostile until read, and read without trusting any of it.

Only what a reply needs is taken: who it is for, its Message-ID, a calendar part (RFC 6047), a delivery
report (RFC 3464). Nothing is opened, unpacked or followed.

MailError   a message that cannot be read; `reason` is a text under calendars.mail.reason
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import Message
from email.policy import compat32
from email.utils import getaddresses
from hashlib import sha256

BOUNDARIES_MOST = 12
"""multiparts in one mail: a forwarded invitation has four; a reader's work grows with them"""
PARTS_MOST = 60
HEADER_MOST = 2_000
"""characters of a header that are looked at"""
CALENDAR_TYPES = ("text/calendar", "application/ics")
RECIPIENT_HEADERS = ("Delivered-To", "X-Original-To", "Envelope-To", "To", "Cc")


class MailError(Exception):
    """A message that cannot be read."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Mail:
    """What a message says."""

    message_id: str
    """as written, or a hash of the message where it has none"""
    sender: str
    """address in From, which anybody may write"""
    recipients: tuple[str, ...]
    """addresses in its headers, those that mail servers add first"""
    subject: str
    calendar: str | None = None
    """text of its calendar part"""
    report: bool = False
    """whether it is a delivery report"""
    automatic: bool = False
    """whether a machine wrote it (RFC 3834)"""
    problem: str = ""
    """why nothing of it could be read, a text under calendars.mail.reason"""


def read_mail(raw: bytes) -> Mail:
    """Read a message. Raises MailError."""
    if raw.lower().count(b"boundary") > BOUNDARIES_MOST:
        raise MailError("too_complex")
    try:
        return _read(raw)
    except MailError:
        raise
    except Exception as error:  # whatever the parser makes of hostile bytes, recursion included
        raise MailError("unreadable") from error


def _read(raw: bytes) -> Mail:
    message = message_from_bytes(raw, policy=compat32)
    parts = _parts(message)
    report = message.get_content_type() == "multipart/report" and any(
        part.get_content_type() == "message/delivery-status" for part in parts
    )
    return Mail(
        message_id=message_id_of(message, raw),
        sender=next(iter(_addresses(message, "From")), ""),
        recipients=tuple(
            dict.fromkeys(address for name in RECIPIENT_HEADERS for address in _addresses(message, name))
        ),
        subject=_header(message, "Subject")[:200],
        calendar=None if report else _calendar(parts),
        report=report,
        automatic=_header(message, "Auto-Submitted").lower() not in ("", "no"),
    )


def _parts(message: Message) -> list[Message]:
    parts = []
    for part in message.walk():
        parts.append(part)
        if len(parts) > PARTS_MOST:
            raise MailError("too_complex")
    return parts


def message_id_of(message: Message, raw: bytes) -> str:
    """What tells a message from others; where it says nothing usable, what it consists of does."""
    found = _header(message, "Message-ID").strip()
    return found if re.fullmatch(r"<[\x21-\x7e]{3,250}>", found) else f"sha256:{sha256(raw).hexdigest()}"


def _header(message: Message, name: str) -> str:
    value = message.get(name)
    if value is None:
        return ""
    text = str(value)[:HEADER_MOST].replace("\x00", "")
    with contextlib.suppress(LookupError, ValueError, UnicodeError):  # an encoding nobody knows: as it stands
        text = str(make_header(decode_header(text)))
    text = text.encode("utf-8", "replace").decode()
    return re.sub(r"\s+", " ", text).strip()


def _addresses(message: Message, name: str) -> list[str]:
    values = [str(value)[:HEADER_MOST] for value in message.get_all(name, [])[:10]]
    found = [address.strip() for _, address in getaddresses(values)]
    return [a for a in found if re.fullmatch(r"[\x21-\x7e]{1,200}@[\x21-\x7e]{1,200}", a)]


def _calendar(parts: list[Message]) -> str | None:
    for wanted in CALENDAR_TYPES:
        for part in parts:
            if part.get_content_type() == wanted:
                return _text(part)
    return None


def _text(part: Message) -> str:
    body = part.get_payload(decode=True)
    if not isinstance(body, bytes):
        return ""
    charset = part.get_content_charset("utf-8") or "utf-8"
    try:
        return body.decode(charset, "replace")
    except (LookupError, ValueError, UnicodeError):
        return body.decode("utf-8", "replace")
