"""The one question afterwards, and how questions are asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.domain.moments import DAY_MS


class AskState(StrEnum):
    """Where a question stands."""

    WAITING = "waiting"  # to be put at `asked_at`, when there is room
    ASKED = "asked"  # with the owner, or answered
    DROPPED = "dropped"  # never put: there was no room in time


@dataclass(frozen=True, kw_only=True, slots=True)
class Feedback:
    """A CSAT or CES question after a fulfilled touchpoint or an NPS question on the way, and its answer."""

    id: str
    touchpoint: str | None
    """None for a question on the way, which is about the product"""
    owner: str
    question: str
    """csat (1-5), ces (1-7), nps (0-10)"""
    asked_at: int
    """when it was put; of a waiting one when it is tried next, ms"""
    score: int | None = None
    comment: str | None = None
    answered_at: int | None = None
    device: str | None = None
    state: AskState = AskState.ASKED
    give_up_at: int | None = None
    """when a waiting one is dropped, ms"""
    expected: str | None = None
    """better, as or worse than the owner expected; a second tap, which nobody has to make"""

    def open_at(self, now: int) -> bool:
        """Whether it stands before the owner, unanswered."""
        return self.state is AskState.ASKED and self.answered_at is None and self.asked_at <= now


SCALES = {"csat": (1, 5), "ces": (1, 7), "nps": (0, 10)}
"""{question: (lowest, highest score)}"""

EXPECTED = ("better", "as", "worse")
"""How it was, beside what the owner had expected."""

AFTER_A_JOB = ("csat", "ces")
"""Which questions a finished job can lead to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asking:
    """How questions are asked."""

    question: str = "alternate"
    """csat, ces, or alternate: every owner is asked the one after the other"""
    give_up_ms: int = 14 * DAY_MS
    """how long a question waits for room in the budget before it is dropped"""
    apart_ms: int = 3 * DAY_MS
    """how much time lies between two questions to one owner"""
    low: Mapping[str, int] = field(default_factory=lambda: {"csat": 2, "ces": 2, "nps": 6})
    """{question: the highest score that opens a case}"""
    nps_first_ms: int = 30 * DAY_MS
    """how long after the first product was claimed NPS is asked"""
    nps_every_ms: int = 365 * DAY_MS
    """how long after that again; 0 for never"""
    nps_after: int = 3
    """after how many fulfilled touchpoints NPS is asked early; 0 for none"""
