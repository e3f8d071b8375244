"""The ladder: which channel when, from the moment a matter is sent, as long as its owner does not answer.

Every step is an outbox row with its time, queued with the touchpoint; an answer takes back those that
were to come (`outgoing.close_channels`). That an earlier step was seen stops nothing: who looked at a
notification at the wheel has not answered, and a mail a day later is what they count on.

A step that cannot be taken (no browser, no address, switched off by the owner or the operator) leaves its
place to the next one that reaches the owner in person; so does one that fails. A display is no such
step: nobody may be sitting in front of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.domain.owner import Owner, Preferences
from gateway.domain.policy import Policy, Rung
from gateway.domain.touchpoint import Touchpoint
from gateway.domain.webhooks import MANUFACTURER
from gateway.flow.outgoing import (
    EMAIL,
    IN_PERSON,
    LETTER,
    WEB_PUSH,
    offer_row,
    queue_display,
    queue_event,
    queue_push,
    quiet_hours,
    wishes,
)
from gateway.ports import Records

RINGING = (WEB_PUSH, EMAIL)
"""Channels that make a phone ring: not at the wheel, not at night."""


@dataclass(frozen=True, slots=True)
class Step:
    """A channel and when its turn is."""

    channel: str
    after_ms: int


def steps(policy: Policy, severity: str, possible: Sequence[str]) -> list[Step]:
    """The ladder for one matter, in its order; `possible` are the channels that can be used."""
    taken: list[Step] = []
    free: int | None = None  # the place of a step before that could not be taken
    for rung in sorted(_rungs(policy, severity), key=lambda rung: rung.after_ms):
        in_person = rung.channel in IN_PERSON
        if rung.channel in possible:
            after = min(rung.after_ms, free) if in_person and free is not None else rung.after_ms
            taken.append(Step(rung.channel, after))
        if in_person:
            free = None if rung.channel in possible else rung.after_ms
    return taken


def _rungs(policy: Policy, severity: str) -> list[Rung]:
    """One for each channel: the severity's own before the general one."""
    own = {rung.channel: rung for rung in policy.ladder if rung.severity == severity}
    general = [rung for rung in policy.ladder if rung.severity is None and rung.channel not in own]
    return [*own.values(), *general]


def usable(records: Records, owner: Owner, wanted: Preferences, policy: Policy) -> list[str]:
    """The channels that the operator has, the owner wants, and that lead somewhere."""
    leads = {
        WEB_PUSH: lambda: bool(records.owners.subscriptions(owner.id)),
        EMAIL: lambda: bool(owner.email) and not records.mail_addresses.undeliverable(owner.email or ""),
        LETTER: lambda: bool(owner.address),
    }
    return [
        channel
        for channel in policy.channels
        if channel in wanted.channels and leads.get(channel, lambda: True)()
    ]


def begin(
    records: Records,
    touchpoint: Touchpoint,
    policy: Policy,
    now: int,
    *,
    found_at: int | None = None,
    possible: Sequence[str] | None = None,
) -> list[str]:
    """Queue every step; gives the channels whose turn is now. `found_at` goes with the first of them, for
    the time from the reading to the delivery is taken once. `possible` are the channels to use, those that
    are usable if None."""
    owner = records.owners.get(touchpoint.owner)
    wanted = wishes(records, owner.id, policy)
    told: list[str] = []
    if possible is None:
        possible = usable(records, owner, wanted, policy)
    for step in steps(policy, touchpoint.severity, possible):
        due = _due(step, touchpoint, owner, wanted, now)
        if due is None:
            continue
        first = found_at if step.after_ms == 0 and not told else None
        payload = ({} if first is None else {"found_at": first}) | ({"later": True} if step.after_ms else {})
        if _queue(records, touchpoint, owner, step.channel, due, now, payload) and step.after_ms == 0:
            told.append(step.channel)
    return told


def _due(step: Step, touchpoint: Touchpoint, owner: Owner, wanted: Preferences, now: int) -> int | None:
    """When the step is taken: not in quiet hours; None when the matter will have expired."""
    due = now + step.after_ms
    if step.after_ms and touchpoint.severity != "critical" and step.channel in RINGING:
        due = quiet_hours(wanted, owner.time_zone).moved_out(due)
    return None if touchpoint.expires_at is not None and due >= touchpoint.expires_at else due


def _queue(
    records: Records,
    touchpoint: Touchpoint,
    owner: Owner,
    channel: str,
    due: int,
    now: int,
    payload: dict[str, int],
) -> bool:
    match channel:
        case "web_push":
            return queue_push(records, touchpoint, "offer", now, due_at=due, **payload) > 0
        case "display":
            queue_display(records, touchpoint, now, found_at=payload.get("found_at"), due_at=due)
            return True
        case "webhook":
            what = {"touchpoint": touchpoint.id, "device": touchpoint.device, "rule": touchpoint.rule}
            data = {**what, "owner": owner.id, "kind": touchpoint.kind, "severity": touchpoint.severity}
            key = f"{touchpoint.id}:{now}:touchpoint.sent"  # what returns is sent again
            return (
                queue_event(
                    records,
                    MANUFACTURER,
                    "touchpoint.sent",
                    data,
                    now,
                    key=key,
                    touchpoint=touchpoint.id,
                    owner=owner.id,
                    due_at=due,
                )
                > 0
            )
        case _:
            target = (owner.email or "").strip().lower() if channel == EMAIL else owner.id
            row = offer_row(touchpoint, channel, target, now, payload)
            return records.outbox.add(replace(row, due_at=due, expires_at=touchpoint.expires_at))
