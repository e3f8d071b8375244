"""returning: what an owner put off comes back, on the day they chose.

A snoozed touchpoint sleeps and is the same one when it wakes: it returns at its owner's wish, so it
costs no budget. One that was answered with "not now" stays closed with its answer; on its day it is
followed by a new one about the same finding, which is decided like any other. Here the owner changes
the day, or takes the matter up at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.domain import snooze
from gateway.domain.errors import ConflictError
from gateway.domain.ids import new_id
from gateway.domain.policy import Policy
from gateway.domain.touchpoint import Finding, Matter, State, Touchpoint, graver
from gateway.flow import book, decide, outgoing, people
from gateway.ports import Records

PUTS_OFF = ("snooze", "not_now")
"""Answers after which a matter returns."""


def returns(touchpoint: Touchpoint) -> bool:
    """Whether it was put off and has not come back yet."""
    put_off = touchpoint.answer is not None and touchpoint.answer.action in PUTS_OFF
    return put_off and touchpoint.wake_at is not None


def lives_until(touchpoint: Touchpoint, until: int, policy: Policy) -> int:
    """When it expires if it returns at `until`: there is as much time for an answer as for a new one."""
    rule = policy.rules.get(touchpoint.rule)
    span = (rule.expires_ms if rule else None) or policy.deferral_max_ms
    return max(touchpoint.expires_at or 0, until + span)


def put_off_until(records: Records, touchpoint_id: str, until: int, now: int, policy: Policy) -> Touchpoint:
    """The owner chooses another day (ms) for a matter that was put off.

    Raises NotFoundError, InvalidError for a time that has passed, ConflictError when it does not return.
    """
    touchpoint = _that_returns(records, touchpoint_id)
    until = snooze.checked(until, now)
    assert touchpoint.answer is not None  # `returns` has seen to it
    after = replace(touchpoint, wake_at=until, answer=replace(touchpoint.answer, until=until))
    if touchpoint.state is State.DEFERRED:
        after = replace(after, expires_at=lives_until(touchpoint, until, policy))
    records.touchpoints.save(after)
    outgoing.write_line(records, "returns_changed", now, touchpoint=after, until=until)
    return after


def show_now(records: Records, touchpoint_id: str, now: int, policy: Policy) -> Touchpoint:
    """The owner takes up again what was put off; gives the touchpoint that is open now.

    Nothing is pushed, for who asks is looking at it. Raises NotFoundError, ConflictError when it was not
    put off or is no longer so.
    """
    touchpoint = _that_returns(records, touchpoint_id)
    if not _still(records, touchpoint):
        raise ConflictError("It is no longer so; there is nothing left to do.", touchpoint)
    return _opened(records, touchpoint, now, policy)


def take_back(records: Records, touchpoint: Touchpoint, now: int, policy: Policy) -> Touchpoint:
    """An answer that its owner did not mean is none: what is still so is open again, as the same touchpoint
    where it has not ended, else as the one that follows. Nothing happens where nothing is still so."""
    if not _still(records, touchpoint):
        return touchpoint
    return _opened(records, touchpoint, now, policy)


def _opened(records: Records, touchpoint: Touchpoint, now: int, policy: Policy) -> Touchpoint:
    if touchpoint.state is State.CLOSED:
        opened = _followed(records, touchpoint, now, policy)
    else:
        opened = replace(touchpoint, answer=None, waits_for=None)
    opened = replace(opened, state=State.OPEN, wake_at=None, sent_at=opened.sent_at or now)
    opened = replace(opened, slots=book.proposals(records, opened, now, policy))
    records.touchpoints.save(opened)
    outgoing.write_line(records, "returned_at_once", now, touchpoint=opened)
    outgoing.queue_display(records, opened, now)
    return opened


def settle_due(records: Records, now: int, policy: Policy) -> list[str]:
    """Everything whose time has come: what expires or waited (decide), and what was put off; gives what
    became of each."""
    back = [come_back(records, touchpoint, now, policy) for touchpoint in records.touchpoints.returning(now)]
    return decide.settle_due(records, now, policy) + back


def come_back(records: Records, touchpoint: Touchpoint, now: int, policy: Policy) -> str:
    """A matter that was answered with "not now" and whose day has come; gives the outcome of its decision.

    Nothing comes where it is no longer so, the product is another's, or the same was found anew meanwhile."""
    live = records.touchpoints.live_for(touchpoint.device, touchpoint.rule)
    device = records.devices.find(touchpoint.device)
    gone = device is None or people.asked(records, device) != touchpoint.owner
    if live is not None or gone or not _still(records, touchpoint):
        records.touchpoints.save(replace(touchpoint, wake_at=None))
        return "suppress"
    return decide.wake(records, _followed(records, touchpoint, now, policy), now, policy)


def _followed(records: Records, touchpoint: Touchpoint, now: int, policy: Policy) -> Touchpoint:
    """The new touchpoint about what is still so, stored and not yet decided; the old one returns no more."""
    records.touchpoints.save(replace(touchpoint, wake_at=None))
    first, *others = _still(records, touchpoint)
    fresh = replace(
        touchpoint,
        id=new_id(now),
        finding=first.id,
        rule=first.rule,
        rule_version=first.version,
        severity=first.severity,
        evidence=first.evidence,
        state=State.DEFERRED,
        created=now,
        answer=None,
        wake_at=now,
        sent_at=None,
        closed_at=None,
        expires_at=None,
        slots=(),
        waits_for=None,
    )
    matters = {matter.finding: matter for matter in records.touchpoints.matters(touchpoint.id)}
    own = matters[first.id]
    fresh = replace(fresh, service=own.service, purpose=own.purpose)
    fresh = replace(fresh, expires_at=lives_until(fresh, now, policy))
    records.touchpoints.add(fresh)
    for finding in others:
        matter = matters[finding.id]
        records.touchpoints.take_in(fresh.id, finding, matter.service, matter.purpose, now)
    outgoing.write_line(records, "returned", now, touchpoint=fresh)
    return fresh


def left_over(
    records: Records, touchpoint: Touchpoint, left: Sequence[Matter], now: int, policy: Policy
) -> Touchpoint:
    """What a visit for `touchpoint` did not do is a matter of its own from now on: stored, and decided like
    any other as soon as what waits is looked at."""
    for matter in left:
        records.touchpoints.take_out(touchpoint.id, matter.finding)
    first, *others = left
    fresh = replace(
        touchpoint,
        id=new_id(now),
        finding=first.finding,
        rule=first.rule,
        rule_version=first.version,
        service=first.service,
        purpose=first.purpose,
        severity=max((matter.severity for matter in left), key=graver),
        evidence=first.evidence,
        state=State.DEFERRED,
        created=now,
        answer=None,
        wake_at=now,
        sent_at=None,
        closed_at=None,
        expires_at=None,
        slots=(),
        waits_for=None,
    )
    fresh = replace(fresh, expires_at=lives_until(fresh, now, policy))
    records.touchpoints.add(fresh)
    for matter in others:
        finding = records.touchpoints.finding(matter.finding)
        if finding is not None:
            records.touchpoints.take_in(fresh.id, finding, matter.service, matter.purpose, now)
    outgoing.write_line(records, "left_over", now, touchpoint=fresh)
    return fresh


def _still(records: Records, touchpoint: Touchpoint) -> list[Finding]:
    """The findings of a touchpoint that are still so and that its owner wants to hear of."""
    wanted = records.owners.preferences(touchpoint.owner)
    found = (records.touchpoints.finding(m.finding) for m in records.touchpoints.matters(touchpoint.id))
    return [
        finding
        for finding in found
        if finding is not None
        and finding.cleared_at is None
        and not wanted.mutes(finding.rule, finding.severity)
    ]


def _that_returns(records: Records, touchpoint_id: str) -> Touchpoint:
    touchpoint = records.touchpoints.get(touchpoint_id)
    if not returns(touchpoint):
        raise ConflictError(f"This matter is {touchpoint.state} and was not put off.", touchpoint)
    return touchpoint
