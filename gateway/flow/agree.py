"""agree: an owner agrees to a purpose, or withdraws; withdrawing takes effect on everything queued, at once.

In one transaction: the entry of the history, deferred and open touchpoints, their holds, and every row
that waits to be sent to the owner on any channel, later steps of the ladder and questions included. A row
that is being sent at this moment is looked at again right before it is (deliver renders it from the records
as they are then).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from gateway.domain.delivery import Delivery
from gateway.domain.errors import InvalidError, NotFoundError
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
WAITS_FOR_WISHES = ("not_sent_quiet_hours", *decide.FOR_ROOM)
"""Why a matter waits that waits because of what its owner prefers."""
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


# --- how they are reached ---------------------------------------------------------------------------


def prefer(
    records: Records, owner_id: str, wanted: Preferences, by: By, now: int, policy: Policy
) -> Preferences:
    """An owner wants to be reached in another way: it holds for what waits, too. What was queued on a channel
    that is switched off is not sent there, what waited for the end of quiet hours or for room is looked at
    again at once, and of what was muted nothing stays open. Gives what holds.

    Raises InvalidError for a muted rule that is not in force.
    """
    before = outgoing.wishes(records, owner_id, policy)
    wanted = _muted_as_before(before, wanted, policy)
    if wanted == before:
        return before
    records.owners.prefer(owner_id, wanted)
    _tell_wishes(records, owner_id, before, wanted, by, now)
    for rule in wanted.muted:
        if rule not in before.muted:
            silence(records, owner_id, wanted, rule, now, policy)
    _switch_off(records, owner_id, set(before.channels) - set(wanted.channels), now)
    for touchpoint in records.touchpoints.deferred_for_owner(owner_id):
        if touchpoint.waits_for in WAITS_FOR_WISHES:
            records.touchpoints.save(replace(touchpoint, wake_at=now))
    return wanted


def _muted_as_before(before: Preferences, wanted: Preferences, policy: Policy) -> Preferences:
    """What was muted stays so up to the severity it had then; what is muted now, up to the rule's own."""
    severities = {rule: before.muted_at[rule] for rule in before.muted if rule in before.muted_at}
    for rule in wanted.muted:
        info = policy.rules.get(rule)
        if rule in before.muted:
            continue
        if info is None:
            raise InvalidError(f"muted: there is no rule {rule}.")
        severities[rule] = info.severity
    kept = {rule: severity for rule, severity in severities.items() if rule in wanted.muted}
    return replace(wanted, muted_at=kept)


def _switch_off(records: Records, owner_id: str, channels: Collection[str], now: int) -> None:
    """What waits for a channel that the owner does not want any more gives its place to the next one. What
    is critical goes wherever it was to go."""
    for row in records.outbox.waiting_for(owner_id):
        if row.channel not in channels or row.touchpoint is None or not outgoing.is_offer(row):
            continue
        if row.channel == outgoing.DISPLAY or records.touchpoints.get(row.touchpoint).severity == "critical":
            continue
        records.outbox.drop([row.id])
        outgoing.step_failed(records, row, now)


def _tell_wishes(
    records: Records, owner_id: str, before: Preferences, wanted: Preferences, by: By, now: int
) -> None:
    """A line for each thing that is another one now."""
    quiet = (wanted.quiet_from, wanted.quiet_to)
    told: dict[str, dict[str, Any]] = {}
    if quiet != (before.quiet_from, before.quiet_to):
        told["wishes_quiet"] = {"quiet_from": quiet[0], "quiet_to": quiet[1]}
    if quiet[0] == quiet[1] and "wishes_quiet" in told:
        told = {"wishes_no_quiet": {}}
    if wanted.weekly_budget != before.weekly_budget:
        told["wishes_budget"] = {"count": wanted.weekly_budget}
    if wanted.marketing_budget != before.marketing_budget and wanted.marketing_budget is not None:
        told["wishes_offers"] = {"count": wanted.marketing_budget}
    if by.source != "owner":
        outgoing.write_line(records, "wishes_staff", now, owner=owner_id, by=by.name)
    for code, params in told.items():
        outgoing.write_line(records, code, now, owner=owner_id, by=by.source, **params)
    for channel in sorted({*before.channels} ^ {*wanted.channels}):
        code = "wishes_on" if channel in wanted.channels else "wishes_off"
        outgoing.write_line(records, code, now, owner=owner_id, by=by.source, way=channel)
    for rule in sorted({*before.muted} ^ {*wanted.muted}):
        code = "muted_rule" if rule in wanted.muted else "unmuted_rule"
        outgoing.write_line(records, code, now, owner=owner_id, muted=rule)


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
