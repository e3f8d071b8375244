"""Cases: what somebody has to look after until the customer has heard what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gateway.domain.errors import ConflictError


class CaseKind(StrEnum):
    """What a case is about."""

    COMPLAINT = "complaint"  # a repair did not help: the same matter came back
    LOW_SCORE = "low_score"  # the owner was not content
    CALL_ME = "call_me"  # the owner wants to be called
    UPDATE_FAILED = "update_failed"  # the product's new software did not get in


class CaseState(StrEnum):
    """Where a case stands."""

    OPEN = "open"  # the customer waits to hear from somebody
    ANSWERED = "answered"  # the customer has heard; something still has to happen
    CLOSED = "closed"  # the customer has heard what came of it


PENDING = (CaseState.OPEN, CaseState.ANSWERED)
"""States in which somebody still has something to do."""

CASE_MOVES: Mapping[CaseState, frozenset[CaseState]] = {
    CaseState.OPEN: frozenset({CaseState.ANSWERED, CaseState.CLOSED}),
    CaseState.ANSWERED: frozenset({CaseState.ANSWERED, CaseState.CLOSED}),
    CaseState.CLOSED: frozenset(),
}
"""The legal transitions; `check_case_move` refuses every other one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """One entry of a case's history."""

    at: int
    by: str
    """operator, workshop:<id>, system: who wrote or did it"""
    what: str
    """opened, again, noted, given, answered, closed"""
    text: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A complaint, a low score, a call that was asked for, or an update that failed."""

    id: str
    kind: CaseKind
    owner: str
    opened_at: int
    due_at: int
    """by when the customer hears from somebody, ms"""
    responsible: str
    """account or team, as settings or the operator name it"""
    text: str = ""
    """the customer's own words, or what the opener wrote; empty where the data say it"""
    data: Mapping[str, Any] = field(default_factory=dict)
    """what whoever looks after it needs: rule, score, both jobs of a complaint"""
    state: CaseState = CaseState.OPEN
    device: str | None = None
    touchpoint: str | None = None
    appointment: str | None = None
    workshop: str | None = None
    """whose job it is about; that workshop sees the case"""
    answered_at: int | None = None
    """when the customer first heard from somebody"""
    closed_at: int | None = None
    outcome: str | None = None
    """what the customer heard last, in its sender's words"""
    history: tuple[Note, ...] = ()

    def overdue(self, now: int) -> bool:
        """Whether the customer should have heard by now."""
        return self.state is CaseState.OPEN and self.due_at < now


def check_case_move(case: Case, to: CaseState) -> None:
    """Raise ConflictError, naming what holds, unless `to` may follow the present state."""
    if to not in CASE_MOVES[case.state]:
        raise ConflictError(f"This case is {case.state} and cannot become {to}.", case)
