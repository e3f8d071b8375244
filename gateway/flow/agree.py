"""agree: an owner agrees to a purpose, or withdraws; withdrawing takes effect on everything queued, at once.

In one transaction: the entry of the history, deferred and open touchpoints, their holds, and every row
that waits to be sent to the owner on any channel, later steps of the ladder and questions included. A row
that is being sent at this moment is looked at again right before it is (deliver renders it from the records
as they are then).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from gateway.domain.delivery import Delivery
from gateway.domain.errors import NotFoundError
from gateway.domain.feedback import AskState
from gateway.domain.owner import Consent, Preferences
from gateway.domain.policy import Policy
from gateway.domain.purposes import BASES, Basis
from gateway.domain.touchpoint import Matter
from gateway.flow import consents, decide, invitations, outgoing
from gateway.ports import Records

IMPLIED = tuple(purpose for purpose, held in BASES.items() if held is not Basis.CONSENT)
"""Purposes that nobody is asked to agree to beforehand."""
MOST = 5_000
QUESTION = "question"
AWAITED = ("answered", "visit", "reminder", "extra_work", "case", "case_opened", *invitations.ABOUT)
"""What an owner waits for, whatever they agree to: it follows from what they answered or booked."""
STAYS = (outgoing.DISPLAY, outgoing.JOURNAL)
"""Rows that go on: a display is to be cleared, and the rules are to hear that a counter was reset."""


@dataclass(frozen=True, kw_only=True, slots=True)
class By:
    """Who recorded it, and what stood beside the choice."""

    name: str
    """owner id, or the name of who took it down"""
    source: str
    """owner, operator, link, import, …"""
    text: str | None = None
    """version of the text that was shown; the configured one when None"""


def agree(
    records: Records, owner_id: str, purpose: str, granted: bool, by: By, now: int, policy: Policy
) -> bool:
    """Record a choice with what follows from it; False when it says what holds already.

    Raises InvalidError for a purpose that rests on a duty, NotFoundError for an owner who is not there.
    """
    records.owners.get(owner_id)
    consents.check(purpose)
    before = consents.newest_of(records, owner_id, purpose)
    if before is not None and before.granted == granted:
        return False
    entry = Consent(
        owner=owner_id,
        purpose=purpose,
        granted=granted,
        at=now,
        source=by.source,
        text=by.text or policy.purposes.get(purpose),
        by=by.name,
    )
    records.owners.consent(entry)
    ended = 0 if granted else withdrawn(records, owner_id, purpose, now, policy)
    code = "consent_granted" if granted else "consent_withdrawn" if ended else "consent_withdrawn_none"
    outgoing.write_line(records, code, now, owner=owner_id, purpose=purpose, by=by.source, count=ended)
    return True


def withdrawn(records: Records, owner_id: str, purpose: str, now: int, policy: Policy) -> int:
    """End everything of that purpose that is queued or unanswered; gives how many matters ended."""
    if purpose == consents.SURVEY:
        drop_queued(records, owner_id, purpose)
        return _questions_end(records, owner_id)
    ended = _take_back(records, owner_id, lambda matter: matter.purpose == purpose, "no_consent", now, policy)
    drop_queued(records, owner_id, purpose)  # what is left of a bundle is another purpose's by now
    return ended


def _take_back(
    records: Records, owner_id: str, gone: Callable[[Matter], bool], why: str, now: int, policy: Policy
) -> int:
    """Of everything that an owner has not answered, what is `gone` is told no more; gives how many
    touchpoints ended with it. What came along with another matter is taken out of it, and the other way."""
    unanswered = records.touchpoints.page(owner=owner_id, states=decide.UNANSWERED, limit=MOST)
    concerned = [t for t in unanswered if any(map(gone, records.touchpoints.matters(t.id)))]
    return sum(decide.take_back(records, touchpoint, gone, why, now, policy) for touchpoint in concerned)


def drop_queued(records: Records, owner_id: str, purpose: str) -> int:
    """Whatever waits to be sent to the owner for a purpose, on every channel; gives how many rows. What they
    wait for themselves goes on: news of a visit that stands, replies, and a display to be cleared."""
    waiting = [row for row in records.outbox.waiting_for(owner_id) if _serves(records, row, purpose)]
    records.outbox.drop([row.id for row in waiting])
    return len(waiting)


def _serves(records: Records, row: Delivery, purpose: str) -> bool:
    about = row.payload.get("about")
    if about == QUESTION:
        return purpose == consents.SURVEY
    if row.channel in STAYS or row.touchpoint is None or about in AWAITED:
        return False
    return records.touchpoints.get(row.touchpoint).purpose == purpose


def _questions_end(records: Records, owner_id: str) -> int:
    """Questions that nobody answered, and those still to be put, are dropped."""
    asked = [f for f in records.feedback.page(owner=owner_id, limit=MOST) if f.answered_at is None]
    for question in asked:
        records.feedback.answer(replace(question, state=AskState.DROPPED))
    return len(asked)


def mute(records: Records, owner_id: str, rule: str, muted: bool, now: int, policy: Policy) -> None:
    """An owner wants to hear no more of a rule, or hears of it again. What of it waits or is unanswered ends
    at once. What is graver than what was muted gets through, and what is critical always.

    Raises NotFoundError for a rule that is not in force.
    """
    info = policy.rules.get(rule)
    if info is None:
        raise NotFoundError(f"There is no rule {rule}.")
    before = outgoing.wishes(records, owner_id, policy)
    after = before.muting(rule, info.severity) if muted else before.unmuting(rule)
    if after == before:
        return
    records.owners.prefer(owner_id, after)
    outgoing.write_line(records, "muted_rule" if muted else "unmuted_rule", now, owner=owner_id, muted=rule)
    silence(records, owner_id, after, rule, now, policy)


def silence(
    records: Records, owner_id: str, wanted: Preferences, rule: str, now: int, policy: Policy
) -> None:
    """What an owner who has just muted a rule has not answered of it ends, on all of their products."""

    def gone(matter: Matter) -> bool:
        return matter.rule == rule and wanted.mutes(rule, matter.severity)

    _take_back(records, owner_id, gone, "muted", now, policy)


def basis(purpose: str) -> Basis:
    """What a purpose rests on."""
    return BASES.get(purpose, Basis.CONSENT)
