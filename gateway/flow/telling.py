"""telling: what came after goes to the owner: what they wait for, or what the survey budget has paid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.domain.delivery import Delivery
from gateway.domain.ids import new_id
from gateway.domain.moments import DAY_MS
from gateway.domain.owner import Owner
from gateway.domain.policy import Policy
from gateway.flow import outgoing
from gateway.ports import Records

LASTS_MS = 14 * DAY_MS
"""So long a message stays worth sending."""


def tell(
    records: Records,
    owner_id: str,
    about: str,
    now: int,
    policy: Policy,
    *,
    touchpoint: str | None,
    **payload: Any,
) -> int:
    """A message to the owner outside of their quiet hours; gives to how many places.

    A push waits for the end of a trip like every other one of its touchpoint; without a touchpoint it is a
    mail, which rings nowhere.
    """
    owner = records.owners.get(owner_id)
    wanted = outgoing.wishes(records, owner_id, policy)
    due_at = outgoing.quiet_hours(wanted, owner.time_zone).moved_out(now)
    targets = _targets(records, owner, policy) if touchpoint else []
    if not targets:
        targets = _mail(records, owner, policy)
    for channel, target in targets:
        row = _row(owner_id, channel, target, about, now, payload)
        records.outbox.add(replace(row, touchpoint=touchpoint, due_at=due_at, expires_at=due_at + LASTS_MS))
    return len(targets)


def _targets(records: Records, owner: Owner, policy: Policy) -> list[tuple[str, str]]:
    if outgoing.WEB_PUSH not in policy.channels:
        return []
    return [(outgoing.WEB_PUSH, s.id) for s in records.owners.subscriptions(owner.id)]


def _mail(records: Records, owner: Owner, policy: Policy) -> list[tuple[str, str]]:
    if outgoing.EMAIL not in policy.channels or not owner.email:
        return []
    known = records.mail_addresses.undeliverable(owner.email)
    return [] if known else [(outgoing.EMAIL, owner.email.strip().lower())]


def _row(owner: str, channel: str, target: str, about: str, now: int, payload: Mapping[str, Any]) -> Delivery:
    delivery_id = new_id(now)
    return Delivery(
        id=delivery_id,
        channel=channel,
        target=target,
        key=f"{about}:{delivery_id}",
        payload={"about": about, **payload},
        owner=owner,
        created=now,
    )
