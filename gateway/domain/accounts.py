"""Accounts: who signs in, by what, and what is handed out that has to come back.

An account belongs to an owner, to one of a workshop's people, or to one of the operator's. It opens
sessions of a browser; other systems come with tokens and have none.
"""

from __future__ import annotations

import re
import unicodedata
from base64 import b32encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gateway.domain.access import NAME, Role, secret_hash
from gateway.domain.errors import InvalidError

PASSWORD_LEAST = 12
"""Characters; with a second factor NIST SP 800-63B-4 (section 3.1.1) asks for eight."""
PASSWORD_MOST = 256
RECOVERY_CODES = 10
RECOVERY_BYTES = 10
"""80 random bits: enough for a plain hash"""
CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
"""Of codes that a display shows: no vowels, so no words, and nothing that looks like another
(RFC 8628, section 6.1)."""
CODE_LENGTH = 8
ADDRESS = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]{1,189}")


class Rank(StrEnum):
    """What somebody may do where they work."""

    RUNS = "runs"  # runs the workshop, or after-sales: also opening hours, services, calendars, and people
    STAFF = "staff"  # works with what is there


class Way(StrEnum):
    """How a session was opened."""

    TOKEN = "token"  # with a bearer token that was pasted
    INVITATION = "invitation"  # with the link that an account begins with
    LINK = "link"  # with a link by mail
    CODE = "code"  # with a code that a product's display showed
    PASSKEY = "passkey"
    PASSWORD = "password"  # and a one-time code, or one for recovery
    SSO = "sso"  # at an OpenID Connect provider


class ProofKind(StrEnum):
    """What was handed out."""

    INVITATION = "invitation"  # the link that an account begins with; about: the account
    LINK = "link"  # a link by mail to sign in with; about: the owner
    CODE = "code"  # shown by a display; about: the owner
    CHALLENGE = "challenge"  # for a passkey to sign; about: "sign-in", or the account that gets the passkey
    SSO = "sso"  # the state of a sign-in at the provider; about: the browser it began in
    CLAIM = "claim"  # shown by a display for whoever takes the product over; about: the device
    BROWSER = "browser"  # an account was signed in to from this browser before; about: the account


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """Somebody who signs in."""

    id: str
    role: Role
    subject: str | None
    """owner or workshop id; None for the operator's people"""
    name: str
    """what they sign in with, once: the e-mail address in lower case; of an owner `owner:<id>`, of somebody
    from a provider `sso:<issuer> <sub>`"""
    called: str
    """how they are shown, and of the operator's people what is written down as who did it"""
    rank: Rank = Rank.STAFF
    created: int
    ended: int | None = None
    password: str | None = None
    """Argon2id, with its parameters (PHC string format)"""
    totp: str | None = None
    """secret of the authenticator app, Base32 (RFC 6238)"""
    totp_new: str | None = None
    """one that was shown and not confirmed yet"""
    totp_step: int = 0
    """the step of 30 s that was used last: a code counts once"""
    recovery: tuple[str, ...] = ()
    """hashes of the recovery codes that are left"""

    @property
    def has_password(self) -> bool:
        """Whether password and one-time code are both set up: one alone opens nothing."""
        return self.password is not None and self.totp is not None

    @property
    def elsewhere(self) -> bool:
        """Whether a provider says who they are: then nothing is set up here."""
        return self.name.startswith("sso:")


@dataclass(frozen=True, kw_only=True, slots=True)
class Claimed:
    """Somebody as a provider describes them."""

    name: str
    """`sso:<issuer> <sub>`: the one pair that stays the same (OpenID Connect Core, section 5.7)"""
    called: str
    role: Role
    subject: str | None
    """owner or workshop id"""
    rank: Rank


@dataclass(frozen=True, kw_only=True, slots=True)
class Passkey:
    """A credential of WebAuthn: the private key never left the device."""

    id: str
    """credential id, base64url"""
    account: str
    public_key: bytes
    """COSE"""
    sign_count: int
    label: str
    """what its owner calls it"""
    synced: bool
    """whether it is backed up to the owner's other devices"""
    created: int
    used: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """Something that was handed out and has to come back; of the secret only the SHA-256."""

    id: str
    hash: str
    kind: ProofKind
    about: str
    data: Mapping[str, Any] = field(default_factory=dict)
    created: int
    expires: int
    used: int | None = None


def address(text: str) -> str:
    """An e-mail address to sign in with, in lower case. Raises InvalidError."""
    found = text.strip().lower()
    if not ADDRESS.fullmatch(found):
        raise InvalidError("email: an address such as name@example.com.")
    return found


def called(text: str) -> str:
    """What somebody is called. Raises InvalidError."""
    found = " ".join(text.split())
    if not NAME.fullmatch(found):
        raise InvalidError("name: 1 to 60 letters, digits, blanks and .-_")
    return found


def password(text: str, *, name: str) -> str:
    """A password as it is hashed (NFC, as RFC 8265 has it). Raises InvalidError for one that is too short,
    too long, of one character, or holds what one signs in with."""
    wanted = unicodedata.normalize("NFC", text)
    if not PASSWORD_LEAST <= len(wanted) <= PASSWORD_MOST:
        raise InvalidError(f"password: {PASSWORD_LEAST} to {PASSWORD_MOST} characters.")
    plain = wanted.casefold()
    if len(set(plain)) < 4 or name.partition("@")[0] in plain:
        raise InvalidError("password: not your name, and not the same few characters again and again.")
    return wanted


def recovery_codes(random: Callable[[int], bytes]) -> list[str]:
    """New codes, each for one sign-in without the app: XXXX-XXXX-XXXX-XXXX."""
    texts = [b32encode(random(RECOVERY_BYTES)).decode() for _ in range(RECOVERY_CODES)]
    return ["-".join(text[at : at + 4] for at in range(0, 16, 4)) for text in texts]


def recovery_hash(code: str) -> str:
    """What is kept of a recovery code, however it was typed."""
    return secret_hash("".join(char for char in code.upper() if char.isalnum()))


def display_code(random: Callable[[int], bytes]) -> str:
    """A code for a display, drawn evenly: bytes beyond the last full round of the letters are drawn anew."""
    whole, code = 256 - 256 % len(CODE_LETTERS), ""
    while len(code) < CODE_LENGTH:
        [drawn] = random(1)
        code += CODE_LETTERS[drawn % len(CODE_LETTERS)] if drawn < whole else ""
    return code


def plain_code(typed: str) -> str:
    """A display's code as it is looked up, however it was typed."""
    return "".join(char for char in typed.upper() if char in CODE_LETTERS)[: CODE_LENGTH + 1]
