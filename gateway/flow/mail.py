"""Mail that comes in: answers to invitations, reports of what could not be delivered, and all the rest.

The envelope recipient says what a mail is: the token of an invitation proves who answers (itip.py), a
bounce address names the delivery that came back. What nobody can place is kept for the operator with its
reason; nothing of it is done.

MailboxFullError   too many mails wait for the operator: this one is to come again later
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from gateway.domain.calendars import InboundMail, plus_token, token_hash
from gateway.domain.errors import NotFoundError
from gateway.domain.ical import ItipError, read_itip
from gateway.domain.ids import new_id
from gateway.domain.mail import bounced_delivery, read_bounce
from gateway.domain.mails import Mail, MailError, read_mail
from gateway.domain.policy import Policy
from gateway.flow import calendar_answers, outgoing
from gateway.ports import TROUBLES, Clock, Database, Records

log = structlog.get_logger()


class MailboxFullError(Exception):
    """Too many mails wait for the operator; this one is to come again later."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What became of a mail for one recipient."""

    outcome: str
    reason: str
    params: Mapping[str, Any] = field(default_factory=dict)
    appointment: str | None = None
    owner: str | None = None


DUPLICATE = Result(outcome="ignored", reason="duplicate")


async def receive_mail(
    database: Database, clock: Clock, policy: Policy, raw: bytes, recipients: Sequence[str] = ()
) -> list[Result]:
    """Take one mail, durable when this returns. `recipients` are those of the envelope; without any, those
    in its headers stand for them.

    Raises MailboxFullError, DatabaseUnavailableError; then nothing was taken."""
    now = clock.now()
    mail = _read(raw)
    try:
        return await database.write(lambda records: take(records, raw, mail, recipients, now, policy))
    except (MailboxFullError, *TROUBLES):
        raise
    except Exception as error:
        # One mail must not stand in the way of the next; somebody looks at this one.
        log.exception("mail_failed", why=type(error).__name__)
        broken = Result(outcome="kept", reason="failed")
        await database.write(lambda records: _keep(records, raw, mail, "", broken, now, policy))
        return [broken]


def _read(raw: bytes) -> Mail:
    try:
        return read_mail(raw)
    except MailError as error:
        return Mail(message_id=fallback_id(raw), sender="", recipients=(), subject="", problem=error.reason)


def fallback_id(raw: bytes) -> str:
    """What tells a message that cannot be read from others."""
    return f"sha256:{token_hash(raw.decode('latin-1'))}"


def take(
    records: Records, raw: bytes, mail: Mail, recipients: Sequence[str], now: int, policy: Policy
) -> list[Result]:
    """Do what a mail says, for each recipient that is ours. Raises MailboxFullError."""
    ours = [r for r in dict.fromkeys(recipients or mail.recipients) if is_ours(r, policy)]
    return [_take_one(records, raw, mail, recipient, now, policy) for recipient in ours or [""]]


def is_ours(address: str, policy: Policy) -> bool:
    """Whether mail to this address is for us; for no other we take any."""
    return plus_token(address, policy.reply_address) is not None or _came_back(address, policy) is not None


def _came_back(address: str, policy: Policy) -> str | None:
    """The delivery whose return path this is; None for any other address."""
    domain = address.strip().strip("<>").rpartition("@")[2]
    if not policy.bounce_domain or domain.casefold() != policy.bounce_domain.casefold():
        return None
    return bounced_delivery(address, policy.calendar_key)


def _take_one(records: Records, raw: bytes, mail: Mail, recipient: str, now: int, policy: Policy) -> Result:
    shown = _shown(recipient)
    if records.calendars.has_mail(mail.message_id, shown):
        return DUPLICATE
    delivery = _came_back(recipient, policy)
    if delivery is not None:
        result = _report(records, raw, mail, delivery, now)
    else:
        token = plus_token(recipient, policy.reply_address) if recipient else None
        result = _answer(records, mail, token or "", now, policy)
    _keep(records, raw, mail, shown, result, now, policy)
    return result


def _shown(recipient: str) -> str:
    """The address with the beginning of its token's hash in the token's place: the token is a secret."""
    local, _, domain = recipient.strip("<>").lower().rpartition("@")
    name, plus, token = local.partition("+")
    return f"{name}{plus}{token_hash(token)[:8] if plus else ''}@{domain}"[:300] if domain else ""


def _keep(
    records: Records, raw: bytes, mail: Mail, recipient: str, result: Result, now: int, policy: Policy
) -> None:
    """A row for what came in; the message itself only where somebody has to look at it."""
    kept = result.outcome == "kept"
    if kept:
        many, size = records.calendars.waiting_mails(policy.mail_kept_most)
        if many >= policy.mail_kept_most or size + len(raw) > policy.mail_kept_bytes:
            raise MailboxFullError("Too many mails wait for somebody to look at them; try again later.")
    records.calendars.add_mail(
        InboundMail(
            id=new_id(now),
            at=now,
            message_id=mail.message_id,
            sender=mail.sender,
            recipient=recipient,
            subject=mail.subject,
            outcome=result.outcome,
            reason=result.reason,
            params=result.params,
            appointment=result.appointment,
            owner=result.owner,
            raw=raw if kept else None,
            size=len(raw),
        )
    )
    log.info("mail_taken", outcome=result.outcome, reason=result.reason, bytes=len(raw))


# --- reports ----------------------------------------------------------------------------------


def _report(records: Records, raw: bytes, mail: Mail, delivery_id: str, now: int) -> Result:
    """A mail of ours came back: for good, then its address is marked; or it is late, then nothing is."""
    if mail.problem:
        return Result(outcome="kept", reason=mail.problem)
    bounce = read_bounce(raw) if mail.report else None
    if bounce is None:  # somebody is away; or writes by hand to where nobody reads
        automatic = mail.automatic
        return Result(
            outcome="noted" if automatic else "kept", reason="automatic" if automatic else "no_report"
        )
    try:
        delivery = records.outbox.get(delivery_id)
    except NotFoundError:
        return Result(outcome="kept", reason="unknown_bounce")
    if not bounce.final:
        return Result(outcome="noted", reason="delayed", owner=delivery.owner)
    outgoing.bounced(records, delivery_id, now, raw)
    return Result(outcome="bounced", reason="bounced", owner=delivery.owner)


# --- answers ----------------------------------------------------------------------------------


def _answer(records: Records, mail: Mail, token: str, now: int, policy: Policy) -> Result:
    if mail.problem:
        return Result(outcome="kept", reason=mail.problem)
    if not token:
        return Result(outcome="kept", reason="no_token")
    invitation = records.calendars.invitation_by_token(token_hash(token))
    if invitation is None:
        return Result(outcome="kept", reason="unknown_token")
    appointment = records.workshops.appointment(invitation.appointment)
    owner = appointment.owner if invitation.party == "owner" else None
    outcome, reason = "kept", "automatic" if mail.automatic else "no_calendar"
    if mail.calendar is not None:
        zone = records.workshops.get(appointment.workshop).time_zone
        try:
            said = read_itip(mail.calendar, zone)
        except ItipError as error:
            outcome, reason = "kept", error.reason
        else:
            outcome, reason = calendar_answers.answer(records, invitation, said, now, policy)
    return Result(outcome=outcome, reason=reason, appointment=appointment.id, owner=owner)
