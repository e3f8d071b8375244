"""What the path counts. Plain integers on the hot path; the web module exposes them as metrics."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """One per process, injected where something is counted. All are totals since the start."""

    received: int = 0
    """messages taken from the broker, redelivered ones included"""
    journaled: int = 0
    """messages committed to the journal, and so acknowledged"""
    recorded: int = 0
    """telemetry messages written to the time series"""
    refused: int = 0
    """points that the time-series store refused for good"""
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
    findings: dict[str, int] = field(default_factory=dict)
    """findings by rule"""
    quarantined: dict[str, int] = field(default_factory=dict)
    """messages put into quarantine by reason"""
    refused_reasons: dict[str, int] = field(default_factory=dict)
    """refused points by short reason, bounded to a hundred reasons"""

    def refuse(self, reason: str) -> None:
        """Count one refused point under its reason; a new reason beyond a hundred counts as "other"."""
        self.refused += 1
        if reason not in self.refused_reasons and len(self.refused_reasons) >= 100:
            reason = "other"
        self.refused_reasons[reason] = self.refused_reasons.get(reason, 0) + 1
