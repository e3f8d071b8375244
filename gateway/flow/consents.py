"""consents: what an owner agreed to, per purpose, with its history, and what that allows.

A purpose rests on consent (nothing without it), on the owner not having objected (an offer's own visit is
handed to its workshop, a question follows a job), or on a legal duty (recalls). Which purposes there are
stands in the configuration, what each is for and what ends with it in the messages. What follows when one
is withdrawn is in agree.py.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.domain.appointment import Appointment
from gateway.domain.errors import InvalidError, NotFoundError
from gateway.domain.owner import Consent
from gateway.domain.policy import Policy
from gateway.domain.purposes import BASES, Basis
from gateway.ports import Records

SHARING = "sharing_workshop"
"""handing an owner's diagnosis to the workshop that the visit is booked with"""
SURVEY = "survey"
ASKED_NOBODY = (Basis.DUTY, Basis.REQUEST)
"""Purposes on these need no consent, and none can be withdrawn."""
UNENDING = tuple(purpose for purpose, basis in BASES.items() if basis in ASKED_NOBODY)
"""These purposes themselves: there is nothing to unsubscribe from."""
STAYS = ("promised", "pays", "wishes")
"""What of a diagnosis is the agreement between owner and workshop, not something that was found."""


def allowed(records: Records, owner_id: str, purpose: str) -> bool:
    """Whether an owner may be contacted for a purpose now."""
    basis = BASES.get(purpose, Basis.CONSENT)
    if basis in ASKED_NOBODY:
        return True
    if basis is Basis.CONSENT:
        return records.owners.granted(owner_id, purpose)
    newest = newest_of(records, owner_id, purpose)
    return newest is None or newest.granted


def purposes(records: Records, owner_id: str, policy: Policy) -> list[str]:
    """Everything an owner is asked about: what is configured, what rules ask for, what they ever chose."""
    asked = {rule.purpose for rule in policy.rules.values()} | set(policy.purposes)
    chosen = {entry.purpose for entry in records.owners.consents(owner_id)}
    known = [p for p in policy.purposes if p in asked]
    return [p for p in [*known, *sorted((asked | chosen) - set(known))] if BASES.get(p) not in ASKED_NOBODY]


def newest_of(records: Records, owner_id: str, purpose: str) -> Consent | None:
    """The entry that holds; None when nobody was ever asked."""
    return next((entry for entry in records.owners.consents(owner_id) if entry.purpose == purpose), None)


def may_share(records: Records, appointment: Appointment) -> bool:
    """Whether the workshop may be handed the diagnosis of a visit: neither sharing nor the purpose of
    anything that it is about has been withdrawn."""
    if appointment.owner is None:
        return True
    if not allowed(records, appointment.owner, SHARING):
        return False
    if appointment.touchpoint is None:
        return True
    try:
        matters = records.touchpoints.matters(appointment.touchpoint)
    except NotFoundError:
        return False
    owner = appointment.owner
    return all(_stands(records, owner, purpose) for purpose in {matter.purpose for matter in matters})


def _stands(records: Records, owner_id: str, purpose: str) -> bool:
    """Whether a purpose has not been withdrawn; of one that was never asked about nothing was."""
    newest = newest_of(records, owner_id, purpose)
    return newest is None or newest.granted or BASES.get(purpose) in ASKED_NOBODY


def handed(records: Records, appointment: Appointment) -> Appointment:
    """An appointment as its workshop may have it: without what was found where that may not be shared any
    more. What the owner was promised stays."""
    if not appointment.diagnosis or may_share(records, appointment):
        return appointment
    kept = {name: value for name, value in appointment.diagnosis.items() if name in STAYS}
    return replace(appointment, diagnosis=kept)


def check(purpose: str) -> None:
    """Raise InvalidError for what nobody is asked about."""
    if BASES.get(purpose) in ASKED_NOBODY:
        raise InvalidError(
            f"purpose: {purpose} rests on no consent (a legal duty, or what the owner asked for); "
            "the owner chooses only the channel."
        )
