"""The one question afterwards."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Feedback:
    """A CSAT, CES or NPS question after a fulfilled touchpoint, and its answer."""

    id: str
    touchpoint: str
    owner: str
    question: str
    """csat (1-5), ces (1-7), nps (0-10)"""
    asked_at: int
    score: int | None = None
    comment: str | None = None
    answered_at: int | None = None


SCALES = {"csat": (1, 5), "ces": (1, 7), "nps": (0, 10)}
"""{question: (lowest, highest score)}"""
