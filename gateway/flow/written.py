"""What is sent in writing: the mail and the letter about a matter, as they read when they are sent.

A mail's links open without signing in, so each is minted when the mail is rendered, in the write that
renders it; what the outbox keeps holds none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from gateway.domain import mail
from gateway.domain.links import Purpose
from gateway.domain.moments import DAY_MS
from gateway.domain.owner import Owner
from gateway.domain.texts import Texts
from gateway.domain.times import rfc3339
from gateway.domain.touchpoint import Touchpoint
from gateway.domain.wording import Words
from gateway.flow import consents, links
from gateway.ports import Records

UNSUBSCRIBE_MS = 365 * DAY_MS
"""A mail that somebody finds after months can still be ended."""

ANSWER_MS = 14 * DAY_MS
"""For a matter that has no end of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Letterhead:
    """What both need of the gateway."""

    texts: Texts
    public_url: str

    def say(self, owner: Owner, key: str, **params: Any) -> str:
        """A text of this room in the owner's language."""
        return self.texts.say(self.texts.language(owner.language), f"delivering.{key}", **params)


def offer_mail(
    records: Records, head: Letterhead, owner: Owner, touchpoint: Touchpoint, words: Words, now: int
) -> Mapping[str, Any]:
    """A matter as a mail: what was found, the choices as links, why it came, and how to end it."""
    base = head.public_url
    expires = touchpoint.expires_at or now + ANSWER_MS
    secret = links.mint(
        records, owner=owner.id, purpose=Purpose.ANSWER, about=touchpoint.id, now=now, expires_at=expires
    )
    choices = [(label, f"{base}/a/{secret}?action={quote(action)}") for action, label in words.actions]
    more = (head.say(owner, "mail.page"), f"{base}/me/touchpoints/{touchpoint.id}")
    ways = (head.say(owner, "mail.ways"), f"{base}/me/you")
    headers, end = _unsubscribe(records, head, owner, touchpoint, now)
    paragraphs = [head.say(owner, "mail.greeting", name=owner.name), words.body]
    confirm = head.say(owner, "mail.confirm")
    small = [confirm, head.say(owner, "mail.why", why=words.why)]
    language = head.texts.language(owner.language)
    feet = [more, ways, *([end] if end else [])]
    lines = [
        *paragraphs,
        "\n".join(f"{label}:\n{address}" for label, address in choices),
        *small,
        *(f"{label}: {address}" for label, address in feet),
    ]
    return {
        "to": owner.email,
        "subject": f"{words.product}: {words.title}",
        "text": "\n\n".join(part for part in lines if part) + "\n",
        "html": mail.page(
            language=language,
            title=words.title,
            paragraphs=paragraphs,
            buttons=choices,
            small=small,
            links=feet,
        ),
        "headers": {"Auto-Submitted": "auto-generated", "Content-Language": language, **headers},
        "language": language,
    }


def _unsubscribe(
    records: Records, head: Letterhead, owner: Owner, touchpoint: Touchpoint, now: int
) -> tuple[Mapping[str, str], tuple[str, str] | None]:
    """(headers of RFC 2369 and RFC 8058, the link below the mail); none for what rests on a legal duty."""
    if touchpoint.purpose in consents.UNENDING:
        return {}, None
    secret = links.mint(
        records,
        owner=owner.id,
        purpose=Purpose.UNSUBSCRIBE,
        about=touchpoint.purpose,
        now=now,
        expires_at=now + UNSUBSCRIBE_MS,
    )
    address = f"{head.public_url}/u/{secret}"
    headers = {"List-Unsubscribe": f"<{address}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    return headers, (head.say(owner, "mail.unsubscribe"), address)


def letter(head: Letterhead, owner: Owner, touchpoint: Touchpoint, words: Words) -> Mapping[str, Any]:
    """A matter as a line for the call centre or the printer."""
    return {
        "touchpoint": touchpoint.id,
        "owner": owner.id,
        "name": owner.name,
        "address": owner.address,
        "phone": owner.phone,
        "language": head.texts.language(owner.language),
        "severity": touchpoint.severity,
        "product": words.product,
        "title": words.title,
        "text": words.body,
        "page": f"{head.public_url}/me/touchpoints/{touchpoint.id}",
        "expires": rfc3339(touchpoint.expires_at) if touchpoint.expires_at else None,
    }
