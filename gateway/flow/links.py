"""One-time links: minted when a message is rendered, read on GET, used up on POST.

The secret is 256 random bits and stands only in the message; kept is its SHA-256. A link opens one
matter in its owner's name and needs no sign-in, so it is single use and expires. Looking at it
changes nothing: mail scanners fetch every address they find.
"""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import replace

from gateway.domain.access import secret_hash
from gateway.domain.errors import GoneError, InvalidError, NotFoundError
from gateway.domain.ids import new_id
from gateway.domain.links import Link, Purpose
from gateway.domain.moments import DAY_MS
from gateway.ports import Records

SECRET_BYTES = 32
LONGEST_SECRET = 64
KEPT_AFTER_MS = 90 * DAY_MS
"""For so long after its end a link still says that it has ended, instead of being unknown."""


def mint(
    records: Records,
    *,
    owner: str,
    purpose: str,
    about: str,
    now: int,
    expires_at: int,
    random: Callable[[int], bytes] = secrets.token_bytes,
) -> str:
    """A new secret for a link; gives what stands after `/a/` (or `/u/`). `purpose` is one of Purpose.

    Raises InvalidError for a purpose nobody knows.
    """
    if purpose not in tuple(Purpose):
        raise InvalidError(f"purpose: {purpose!r} is none of {', '.join(Purpose)}.")
    secret = urlsafe_b64encode(random(SECRET_BYTES)).rstrip(b"=").decode()
    forget(records, now)
    records.links.add(
        Link(
            id=new_id(now),
            hash=secret_hash(secret),
            owner=owner,
            purpose=purpose,
            about=about,
            created=now,
            expires_at=expires_at,
        )
    )
    return secret


def peek(records: Records, token: str, now: int) -> Link:
    """The link behind a secret; changes nothing.

    Raises NotFoundError for an unknown one, GoneError (`what` is the link) when it is used or has expired.
    """
    link = records.links.find(secret_hash(token)) if 0 < len(token) <= LONGEST_SECRET else None
    if link is None:
        raise NotFoundError("This link is not known. Copy the whole address from the message, or sign in.")
    if link.used_at is not None:
        raise GoneError("This link has been used.", link)
    if link.expires_at <= now:
        raise GoneError("This link has expired.", link)
    return link


def use(records: Records, token: str, now: int) -> Link:
    """The same, and used up with it: of two at the same instant one gets it. Raises as `peek`."""
    link = peek(records, token, now)
    if not records.links.use(link.id, now):
        raise GoneError("This link has been used.", link)
    return replace(link, used_at=now)


def forget(records: Records, now: int) -> int:
    """Links that ended long ago; gives how many."""
    return records.links.forget(now - KEPT_AFTER_MS)
