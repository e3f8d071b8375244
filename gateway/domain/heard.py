"""What other systems know and tell: orders, visits elsewhere, answers, calls, complaints, comments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class HeardType(StrEnum):
    """Types of events that have an effect here; every other type is kept and has none."""

    ORDER_PLACED = "order.placed"  # a product was ordered: its journey begins
    ORDER_DELIVERED = "order.delivered"  # it was handed over
    VISIT_FINISHED = "visit.finished"  # a job was done that was not booked here
    ANSWER_GIVEN = "answer.given"  # an owner answered a touchpoint on a channel of another system
    CALL_RECEIVED = "call.received"  # a customer called
    COMPLAINT_RECEIVED = "complaint.received"  # a customer complained: somebody is responsible by a time
    COMMENT_RECEIVED = "comment.received"  # a customer wrote something, wherever


class Outcome(StrEnum):
    """What became of an event."""

    KEPT = "kept"  # nothing followed; it stands where people look
    ANSWERED = "answered"  # a touchpoint has its answer
    CLOSED = "closed"  # what was open about this job is settled
    CASE = "case"  # somebody is responsible for it


VOICES = (HeardType.CALL_RECEIVED, HeardType.COMPLAINT_RECEIVED, HeardType.COMMENT_RECEIVED)
"""Types in which a customer says something."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """One event of another system, kept once by its source and its id there."""

    id: str
    source: str
    event: str
    """its id at the source"""
    type: str
    at: int
    """when it happened, ms; when it came where the source does not say"""
    received: int
    by: str
    """whose token brought it"""
    owner: str | None = None
    device: str | None = None
    touchpoint: str | None = None
    text: str = ""
    """the customer's words, or what was written down of them"""
    reason: str | None = None
    """the source's own code for what it is about"""
    data: Mapping[str, Any] = field(default_factory=dict)
    outcome: Outcome = Outcome.KEPT
    case: str | None = None
