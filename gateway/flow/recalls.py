"""recalls: a campaign of the manufacturer becomes a finding for every product that it concerns.

It rests on a legal duty: no consent, no muting, no budget; the owner chooses only the channel, and is
reached at the right moment like with anything else. A product that changes hands is recalled for its new
owner too, until it is mended.
"""

from __future__ import annotations

from gateway.domain.errors import InvalidError
from gateway.domain.ids import derived_id
from gateway.domain.policy import Policy
from gateway.domain.recall import Affected, Recall
from gateway.domain.touchpoint import Finding
from gateway.flow import decide
from gateway.ports import Records

AT_ONCE = 100
"""Products in one transaction: some tenths of a second, so that others can write, too."""


def begin(records: Records, recall: Recall, affected: Affected, now: int, policy: Policy) -> int:
    """Store a campaign; gives how many products it concerns. The first are raised now, timers raise the rest.

    Raises ConflictError when there is one of that id, InvalidError when it concerns nothing.
    """
    count = records.recalls.add(recall, affected)
    if not count:
        raise InvalidError("query: no registered product fits; name the devices, or say less.")
    proceed(records, now, policy)
    return count


def proceed(records: Records, now: int, policy: Policy, limit: int = AT_ONCE) -> list[str]:
    """Raise what waits, the oldest campaign first; gives the outcome of each decision."""
    outcomes: list[str] = []
    campaigns: dict[str, Recall] = {}
    for recall_id, device in records.recalls.waiting(limit):
        recall = campaigns.get(recall_id) or campaigns.setdefault(recall_id, records.recalls.get(recall_id))
        outcomes.append(_raise(records, recall, device, now, policy))
    return outcomes


def _raise(records: Records, recall: Recall, device: str, now: int, policy: Policy) -> str:
    finding = Finding(
        id=derived_id("recall", recall.id, device),
        device=device,
        rule=recall.rule,
        version=1,
        severity=recall.severity,
        position=0,
        began_ts=now,
        found_at=now,
        evidence=recall.evidence,
    )
    records.recalls.raised(recall.id, device, finding.id)
    if not records.touchpoints.add_finding(finding):
        return "suppress"
    known = records.devices.find(device)
    return decide.decide(records, finding, known.owner if known else None, now, policy)


def taken_over(records: Records, device: str, now: int, policy: Policy) -> None:
    """A product has an owner, or another one: what is recalled and not mended is told to them."""
    owner = records.devices.get(device).owner
    for finding_id in records.recalls.of_device(device) if owner is not None else ():
        finding = records.touchpoints.finding(finding_id)
        if finding is not None:
            decide.decide(records, finding, owner, now, policy)


def next_due(records: Records, now: int) -> int | None:
    """`now` while products wait to be raised."""
    return now if records.recalls.waiting(1) else None
