"""What the path counts. Plain integers on the hot path; the web module exposes them as metrics."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

DELAY_BOUNDS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0, 43_200.0, 604_800.0)
"""Upper bounds in seconds: what is sent at once shows below a second, what waited for its moment above."""


@dataclass(slots=True)
class Counters:
    """One per process, injected where something is counted. All are totals since the start."""

    received: int = 0
    """messages taken from the broker, redelivered ones included"""
    redelivered: int = 0
    """messages that the broker sent again though they were in the journal: only acknowledged"""
    journaled: int = 0
    """messages committed to the journal, and so acknowledged"""
    recorded: int = 0
    """telemetry messages written to the time series"""
    sessions_lost: int = 0
    """times the broker had forgotten our session"""
    connections: int = 0
    """times the broker took our connection"""
    journal_waits: int = 0
    """times a batch had to wait because the journal was full or could not be written"""
    store_waits: int = 0
    """times a write had to wait because the time-series store was away"""
    assessed: int = 0
    """messages that have been through the rules"""
    assessed_upto: int = 0
    """how far the rules of this process have come in the journal, committed or not; 0 while they have not
    begun, and where they run in another"""
    refused: dict[str, int] = field(default_factory=dict)
    """points that the time-series store refused for good, by short reason; a hundred reasons at most"""
    findings: dict[str, int] = field(default_factory=dict)
    """findings by rule"""
    quarantined: dict[str, int] = field(default_factory=dict)
    """messages put into quarantine by reason"""
    decisions: dict[str, int] = field(default_factory=dict)
    """decisions by outcome: send, defer, merge, suppress"""
    deliveries: dict[tuple[str, str], int] = field(default_factory=dict)
    """attempts by (channel, result); results as in Attempt: sent, retry, dropped, dead"""
    rule_errors: dict[str, int] = field(default_factory=dict)
    """times a rule broke, by rule"""
    late_readings: int = 0
    """values older than the newest reading of their device; windows that still cover them take them"""
    too_late_readings: int = 0
    """of these, values older than is allowed, or that nothing covered any more"""
    duplicate_readings: int = 0
    """values that had come before with the same timestamp; they change nothing"""
    implausible_readings: int = 0
    """values from a future that no clock should know; no rule looks at them"""
    delivery_delays: list[int] = field(default_factory=lambda: [0] * (len(DELAY_BOUNDS_S) + 1))
    """first deliveries by how long after the finding's reception, one more than DELAY_BOUNDS_S"""
    delivery_delay_total_s: float = 0.0
    """the sum of those delays"""

    def refuse(self, reason: str) -> None:
        """Count one refused point under its reason; a new reason beyond a hundred counts as "other"."""
        if reason not in self.refused and len(self.refused) >= 100:
            reason = "other"
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def decide(self, outcome: str) -> None:
        """Count one decision."""
        self.decisions[outcome] = self.decisions.get(outcome, 0) + 1

    def attempt(self, channel: str, result: str) -> None:
        """Count one attempt of a delivery."""
        self.deliveries[channel, result] = self.deliveries.get((channel, result), 0) + 1

    def delivered(self, delay_ms: int) -> None:
        """Count a touchpoint's first delivery, `delay_ms` after the reading behind it was received."""
        seconds = max(0, delay_ms) / 1000
        self.delivery_delays[bisect_left(DELAY_BOUNDS_S, seconds)] += 1
        self.delivery_delay_total_s += seconds
