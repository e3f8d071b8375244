"""follow_up: after the job, counters are set back and the owner is asked one question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.domain.appointment import Appointment, AppointmentState
from gateway.domain.errors import ConflictError, InvalidError
from gateway.domain.feedback import SCALES, Feedback
from gateway.domain.ids import new_id
from gateway.domain.policy import Policy
from gateway.domain.touchpoint import State, Touchpoint
from gateway.flow import book, outgoing
from gateway.ports import Records

COMMENT_MAX = 1_000
"""Characters of a comment that are taken."""


def done(
    records: Records, appointment_id: str, work: Mapping[str, Any], now: int, policy: Policy
) -> Appointment:
    """The job is finished: the touchpoint is fulfilled, counters are set back, one question will be asked.

    `work` is what was done ({"note", "parts"}). Saying it again changes nothing. Raises NotFoundError,
    ConflictError when the appointment does not stand.
    """
    appointment = records.workshops.appointment(appointment_id)
    if appointment.state is AppointmentState.DONE:
        return appointment
    finished = book.moved(appointment, AppointmentState.DONE, done_at=now, work=dict(work))
    records.workshops.save_appointment(finished)
    if finished.touchpoint is not None:
        _fulfil(records, finished, records.touchpoints.get(finished.touchpoint), now, policy)
    return finished


def _fulfil(
    records: Records, appointment: Appointment, touchpoint: Touchpoint, now: int, policy: Policy
) -> None:
    fulfilled = replace(touchpoint, state=State.FULFILLED, closed_at=now)
    records.touchpoints.save(fulfilled)
    records.touchpoints.clear_finding(touchpoint.finding, now)
    rule = policy.rules.get(touchpoint.rule)
    resets = rule.resets if rule else ()
    outgoing.queue_reset(records, fulfilled, resets, now)
    workshop = records.workshops.get(appointment.workshop).name
    outgoing.write_line(
        records, "done", now, touchpoint=fulfilled, appointment=appointment.id, workshop=workshop
    )
    outgoing.close_channels(records, fulfilled, now)
    _ask(records, fulfilled, now, policy)


def _ask(records: Records, touchpoint: Touchpoint, now: int, policy: Policy) -> None:
    """One question, some hours after the job, not in quiet hours; its push waits in the outbox till then."""
    at = asking_time(records, touchpoint.owner, now, policy)
    question = Feedback(
        id=new_id(now), touchpoint=touchpoint.id, owner=touchpoint.owner, question="csat", asked_at=at
    )
    records.feedback.ask(question)
    outgoing.queue_push(records, touchpoint, "question", now, due_at=at, feedback=question.id)


def asking_time(records: Records, owner_id: str, now: int, policy: Policy) -> int:
    """When the question is asked: after a while, outside of the owner's quiet hours."""
    zone = records.owners.get(owner_id).time_zone
    quiet = outgoing.quiet_hours(outgoing.wishes(records, owner_id, policy), zone)
    return quiet.moved_out(now + policy.ask_after_ms)


def rate(records: Records, feedback_id: str, score: int, comment: str | None, now: int) -> Feedback:
    """The owner's answer to the question. The same score again gives what holds.

    Raises NotFoundError, InvalidError for a score off the scale, ConflictError (`holds` is the first
    answer) for another one.
    """
    question = records.feedback.get(feedback_id)
    lowest, highest = SCALES[question.question]
    if isinstance(score, bool) or not isinstance(score, int) or not lowest <= score <= highest:
        raise InvalidError(f"score: a whole number from {lowest} to {highest}.")
    if question.answered_at is not None:
        if question.score == score:
            return question
        raise ConflictError("This question has been answered already.", question)
    said = (comment or "").strip()[:COMMENT_MAX] or None
    answered = replace(question, score=score, comment=said, answered_at=now)
    records.feedback.answer(answered)
    touchpoint = records.touchpoints.get(question.touchpoint)
    records.outbox.drop_pending(touchpoint.id, channel=outgoing.WEB_PUSH)
    outgoing.write_line(records, "rated", now, touchpoint=touchpoint, score=score, highest=highest)
    return answered
