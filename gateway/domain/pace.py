"""How a rule slows itself down."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.domain.moments import DAY_MS

LOOKED_AT_MS = 28 * DAY_MS
"""How far back the usual daily number is taken from, and after how long a slowed rule is tried anew."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """A rule that has slowed itself down."""

    rule: str
    per_day: int
    """touchpoints it may send a day (UTC)"""
    since: int
    """ms"""
    declined: int
    answered: int
    """so many of its last answers, and of how many, led to this"""

    @property
    def ends(self) -> int:
        """When it is tried anew at the latest, ms."""
        return self.since + LOOKED_AT_MS
