"""parting: what of a touchpoint is still to be told, and how the rest leaves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.domain.touchpoint import Matter, Touchpoint, graver
from gateway.flow import consents
from gateway.ports import Records


def gone(records: Records, touchpoint: Touchpoint) -> dict[str, str]:
    """{finding: why} of what its owner is not to be told again: it is no longer so, they agree to that
    purpose no more, or they muted it."""
    wanted = records.owners.preferences(touchpoint.owner)
    found: dict[str, str] = {}
    for matter in records.touchpoints.matters(touchpoint.id):
        if matter.cleared_at is not None:
            found[matter.finding] = "untrue"
        elif not consents.allowed(records, touchpoint.owner, matter.purpose):
            found[matter.finding] = "no_consent"
        elif wanted.mutes(matter.rule, matter.severity):
            found[matter.finding] = "muted"
    return found


def leave(records: Records, touchpoint: Touchpoint, finding: str, left: Sequence[Matter]) -> Touchpoint:
    """The touchpoint without one of its findings, not stored yet; where that was its own, the first of those
    that are `left` takes its place."""
    records.touchpoints.take_out(touchpoint.id, finding)
    if touchpoint.finding == finding:
        first = left[0]
        records.touchpoints.take_out(touchpoint.id, first.finding)
        touchpoint = replace(
            touchpoint,
            finding=first.finding,
            rule=first.rule,
            rule_version=first.version,
            service=first.service,
            purpose=first.purpose,
            evidence=first.evidence,
        )
    return replace(touchpoint, severity=max((matter.severity for matter in left), key=graver))
