"""accounts: who signs in, by what, and for how long.

Nothing here knows of pages: a page hands in what somebody typed or clicked, and gets an account or a session.
Whether a password is right is looked at outside of any transaction, for it takes tens of milliseconds.
"""

from __future__ import annotations

import hmac
import secrets
import unicodedata
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import argon2
import pyotp

from gateway.domain import accounts
from gateway.domain.access import Role, Token, issue_token, secret_hash
from gateway.domain.accounts import Account, Claimed, Passkey, Proof, ProofKind, Rank, Way
from gateway.domain.errors import ConflictError, GoneError, InvalidError, NotFoundError
from gateway.domain.ids import new_id
from gateway.domain.moments import DAY_MS, HOUR_MS
from gateway.domain.touchpoint import LedgerLine
from gateway.flow.tries import MINUTE_MS
from gateway.ports import Records

OWNER_SESSION_MS = 30 * DAY_MS
STAFF_SESSION_MS = 12 * HOUR_MS
"""A working day; who works with other people's data signs in anew."""
LASTS: Mapping[ProofKind, int] = {
    ProofKind.INVITATION: 7 * DAY_MS,
    ProofKind.LINK: 20 * MINUTE_MS,
    ProofKind.CODE: 5 * MINUTE_MS,
    ProofKind.CHALLENGE: 5 * MINUTE_MS,
    ProofKind.SSO: 10 * MINUTE_MS,
    ProofKind.BROWSER: 365 * DAY_MS,
}
FRESH_MS = 15 * MINUTE_MS
"""For so long after signing in one may change how one signs in: an unlocked screen is not enough."""
LONGEST_SECRET = 128
ISSUER = "Touchpoint"
"""How an authenticator app names us."""
DRIFT = (0, -1, 1)
"""Steps of 30 s that an app's clock may differ (RFC 6238, section 5.2)."""
ENDS_AT_ONCE = (ProofKind.INVITATION, ProofKind.LINK, ProofKind.CODE)
"""Of these one at a time holds: a new one ends the one before."""

HASHER = argon2.PasswordHasher()
"""Argon2id with the parameters that RFC 9106 recommends second: 64 MiB, 3 passes, 4 lanes."""

Random = Callable[[int], bytes]


# --- what is handed out ----------------------------------------------------------------------------


def hand_out(
    records: Records,
    kind: ProofKind,
    about: str,
    now: int,
    *,
    data: Mapping[str, Any] | None = None,
    secret: str | None = None,
    random: Random = secrets.token_bytes,
) -> str:
    """Something new that has to come back; gives its secret."""
    if secret is None:
        secret = urlsafe_b64encode(random(32)).rstrip(b"=").decode()
    if kind in ENDS_AT_ONCE:
        records.accounts.drop_proofs(kind, about)
    records.accounts.add_proof(
        Proof(
            id=new_id(now),
            hash=_hash(kind, secret),
            kind=kind,
            about=about,
            data=data or {},
            created=now,
            expires=now + LASTS[kind],
        )
    )
    return secret


def _hash(kind: ProofKind, secret: str) -> str:
    """What was handed out for one thing is never taken for another."""
    return secret_hash(f"{kind}:{secret}")


def peek(records: Records, kind: ProofKind, secret: str, now: int) -> Proof:
    """What came back; changes nothing. Raises NotFoundError, GoneError (`what` is it)."""
    found = records.accounts.proof(_hash(kind, secret)) if 0 < len(secret) <= LONGEST_SECRET else None
    if found is None:
        raise NotFoundError("This is not known.")
    if found.used is not None:
        raise GoneError("This was used.", found)
    if found.expires <= now:
        raise GoneError("This has expired.", found)
    return found


def take(records: Records, kind: ProofKind, secret: str, now: int) -> Proof:
    """The same, and used up. Raises as `peek`."""
    found = peek(records, kind, secret, now)
    if not records.accounts.use_proof(found.id, now):
        raise GoneError("This was used.", found)
    return found


# --- accounts --------------------------------------------------------------------------------------


def of_owner(records: Records, owner_id: str, now: int) -> Account:
    """An owner's account, made when it is first needed. Raises NotFoundError."""
    name = f"owner:{owner_id}"
    known = records.accounts.by_name(name)
    if known is not None:
        return known
    owner = records.owners.get(owner_id)
    made = Account(
        id=new_id(now), role=Role.OWNER, subject=owner.id, name=name, called=owner.name, created=now
    )
    records.accounts.add(made)
    return made


def invite(
    records: Records, role: Role, subject: str | None, email: str, name: str, rank: Rank, now: int
) -> tuple[Account, str]:
    """A new account of a workshop's or the operator's people, and the secret of its first link.

    Raises InvalidError, NotFoundError for a workshop that is not there, ConflictError for a name that is
    taken.
    """
    if role not in (Role.WORKSHOP, Role.OPERATOR):
        raise InvalidError("role: workshop or operator; owners sign in by a link to their address.")
    if role is Role.WORKSHOP:
        records.workshops.get(subject or "")
    made = Account(
        id=new_id(now),
        role=role,
        subject=subject if role is Role.WORKSHOP else None,
        name=accounts.address(email),
        called=accounts.called(name),
        rank=rank,
        created=now,
    )
    records.accounts.add(made)
    return made, hand_out(records, ProofKind.INVITATION, made.id, now)


def invite_again(records: Records, account_id: str, now: int) -> str:
    """A new first link, for who lost the one before or everything they signed in with. Raises NotFoundError,
    ConflictError for an account that has ended."""
    account = records.accounts.get(account_id)
    if account.ended is not None or account.elsewhere or account.role is Role.OWNER:
        raise ConflictError(f"{account.name} is not invited: it has ended, or signs in elsewhere.", account)
    return hand_out(records, ProofKind.INVITATION, account.id, now)


def of_provider(records: Records, person: Claimed, now: int) -> Account:
    """The account of somebody whom a provider describes, as it describes them now. Raises NotFoundError for
    an owner or workshop that is not there."""
    if person.role is Role.OWNER:
        records.owners.get(person.subject or "")
    elif person.role is Role.WORKSHOP:
        records.workshops.get(person.subject or "")
    known = records.accounts.by_name(person.name)
    if known is not None and known.role is not person.role:
        end(records, known.id, now)
        known = None
    told: dict[str, Any] = {"subject": person.subject, "called": person.called, "rank": person.rank}
    if known is None:
        known = Account(id=new_id(now), role=person.role, name=person.name, created=now, **told)
        records.accounts.add(known)
    elif any(getattr(known, field) != value for field, value in told.items()):
        known = replace(known, **told)
        records.accounts.save(known)
    return known


def end(records: Records, account_id: str, now: int) -> Account:
    """Nobody signs in with it any more, and its sessions end. Its name can be invited again."""
    account = records.accounts.get(account_id)
    if account.ended is None:
        name = f"ended:{account.id} {account.name}"
        account = replace(account, ended=now, name=name, password=None, totp=None, totp_new=None, recovery=())
        records.accounts.save(account)
    for passkey in records.accounts.passkeys(account.id):
        records.accounts.drop_passkey(account.id, passkey.id)
    for kind in (ProofKind.INVITATION, ProofKind.BROWSER):
        records.accounts.drop_proofs(kind, account.id)
    end_sessions(records, account, now)
    return account


def set_up(records: Records, account: Account) -> bool:
    """Whether there is a way to sign in: owners always have the link, others need a passkey or a password
    with one-time codes, or come from a provider."""
    if account.role is Role.OWNER or account.elsewhere or account.has_password:
        return True
    return bool(records.accounts.passkeys(account.id))


# --- sessions --------------------------------------------------------------------------------------


def open_session(
    records: Records,
    account: Account,
    way: Way,
    now: int,
    *,
    browser: str | None,
    random: Random = secrets.token_bytes,
) -> tuple[Token, str]:
    """A session of a browser. Raises GoneError for an account that has ended."""
    if account.ended is not None:
        raise GoneError("This account has ended.", account)
    owner = account.role is Role.OWNER
    token, secret = issue_token(
        account.role,
        account.subject if account.subject is not None else account.called,
        ttl_ms=OWNER_SESSION_MS if owner else STAFF_SESSION_MS,
        now=now,
        random=random,
        account=account.id,
        way=way,
        browser=browser,
    )
    records.tokens.add(token)
    if owner and way in (Way.LINK, Way.CODE):
        _tell(records, account, f"signed_in_{way}", now, browser=browser or "?")
    return token, secret


def sessions(records: Records, account: Account, now: int) -> list[Token]:
    """Where somebody is signed in; of an owner also what a pasted token opened."""
    owner = account.role is Role.OWNER
    found = (
        records.tokens.sessions(account.role, subject=account.subject)
        if owner
        else records.tokens.sessions(account.role, account=account.id)
    )
    return [token for token in found if token.live(now)]


def end_sessions(records: Records, account: Account, now: int, *, but: str | None = None) -> int:
    """Sign out everywhere, but for one; gives how many ended."""
    ended = [token for token in sessions(records, account, now) if token.id != but]
    for token in ended:
        records.tokens.revoke(token.id, now)
    return len(ended)


def known_browser(records: Records, account_id: str, secret: str | None, now: int) -> str | None:
    """The hash of a browser that signed in to this account before, by the cookie it was given then."""
    if not secret or len(secret) > LONGEST_SECRET:
        return None
    kept = _hash(ProofKind.BROWSER, f"{account_id}:{secret}")
    found = records.accounts.proof(kept)
    return kept if found is not None and found.about == account_id and found.expires > now else None


def remember_browser(records: Records, account_id: str, secret: str, now: int) -> None:
    """This browser signed in to the account."""
    hand_out(records, ProofKind.BROWSER, account_id, now, secret=f"{account_id}:{secret}")


# --- password and one-time codes -------------------------------------------------------------------


def password_fits(account: Account | None, typed: str) -> bool:
    """Whether the password is right; takes as long where there is no account or no password."""
    kept = account.password if account is not None and account.ended is None else None
    try:
        return HASHER.verify(kept or _nobodys(), _normal(typed)) and kept is not None
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError, UnicodeError):
        return False


@cache
def _nobodys() -> str:
    """Compared with where there is no account, so that the time tells nothing."""
    return HASHER.hash("nobody's password")


def _normal(typed: str) -> str:
    return unicodedata.normalize("NFC", typed[: accounts.PASSWORD_MOST + 1])


def hashed(typed: str, account: Account) -> str:
    """A new password as it is kept. Raises InvalidError."""
    return HASHER.hash(accounts.password(typed, name=account.name))


def second_fits(records: Records, account: Account, typed: str, now: int) -> bool:
    """Whether a one-time code, or one for recovery, is right; either counts once."""
    code = "".join(typed.split())
    step = matching_step(account.totp, code, now)
    if step is not None:
        return records.accounts.count_step(account.id, step)
    return records.accounts.spend_recovery(account.id, accounts.recovery_hash(code))


def matching_step(secret: str | None, code: str, now: int) -> int | None:
    """The step of 30 s that a one-time code belongs to; None for a wrong one."""
    if secret is None or len(code) != 6 or not (code.isascii() and code.isdigit()):
        return None
    totp, step = pyotp.TOTP(secret), now // 1000 // 30
    fitting = [step + d for d in DRIFT if hmac.compare_digest(totp.generate_otp(step + d), code)]
    return fitting[0] if fitting else None


def begin_totp(records: Records, account_id: str) -> str:
    """A secret for an authenticator app, the same until it is confirmed; gives its otpauth address."""
    account = records.accounts.get(account_id)
    secret = account.totp_new or pyotp.random_base32()
    if account.totp_new is None:
        records.accounts.save(replace(account, totp_new=secret))
    return pyotp.TOTP(secret).provisioning_uri(name=account.name, issuer_name=ISSUER)


def set_password(
    records: Records,
    account_id: str,
    kept: str,
    code: str,
    now: int,
    *,
    random: Random = secrets.token_bytes,
) -> list[str]:
    """Password and app together, confirmed by a code of the app; gives new recovery codes, shown once. Other
    sessions of the account end with it. Raises InvalidError for a wrong code."""
    account = records.accounts.get(account_id)
    step = matching_step(account.totp_new, "".join(code.split()), now)
    if step is None:
        raise InvalidError("code: the six digits that the app shows now.")
    codes = accounts.recovery_codes(random)
    records.accounts.save(
        replace(
            account,
            password=kept,
            totp=account.totp_new,
            totp_new=None,
            totp_step=step,
            recovery=tuple(accounts.recovery_hash(text) for text in codes),
        )
    )
    return codes


def drop_password(records: Records, account_id: str) -> None:
    """Sign in by passkey alone. Raises ConflictError when there is none."""
    account = records.accounts.get(account_id)
    if not records.accounts.passkeys(account_id):
        raise ConflictError("This is the only way to sign in.", account)
    records.accounts.save(replace(account, password=None, totp=None, totp_new=None, recovery=()))


# --- passkeys --------------------------------------------------------------------------------------


def add_passkey(records: Records, passkey: Passkey, now: int) -> None:
    """One more passkey; an owner reads of it in the ledger. Raises ConflictError."""
    records.accounts.add_passkey(passkey)
    account = records.accounts.get(passkey.account)
    if account.role is Role.OWNER:
        _tell(records, account, "passkey_added", now, label=passkey.label)


def drop_passkey(records: Records, account_id: str, passkey_id: str, now: int) -> None:
    """Raises NotFoundError; ConflictError for the last way to sign in."""
    account = records.accounts.get(account_id)
    theirs = {passkey.id: passkey for passkey in records.accounts.passkeys(account_id)}
    if passkey_id not in theirs:
        raise NotFoundError("There is no such passkey.")
    if len(theirs) == 1 and account.role is not Role.OWNER and not account.has_password:
        raise ConflictError("This is the only way to sign in.", account)
    records.accounts.drop_passkey(account_id, passkey_id)
    if account.role is Role.OWNER:
        label = theirs[passkey_id].label
        _tell(records, account, "passkey_removed", now, label=label)


def _tell(records: Records, account: Account, code: str, now: int, **params: Any) -> None:
    """A line in an owner's ledger."""
    line = LedgerLine(id=new_id(now), at=now, code=code, params=params, owner=account.subject)
    records.touchpoints.write_line(line)


# --- owners: a link by mail, a code on a display ----------------------------------------------------


def code_for(records: Records, owner_id: str, now: int, *, random: Random = secrets.token_bytes) -> str:
    """A code for an owner's display; typed into another browser it signs that in."""
    records.owners.get(owner_id)
    code = accounts.display_code(random)
    return hand_out(records, ProofKind.CODE, owner_id, now, secret=code)
