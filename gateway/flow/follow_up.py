"""follow_up: after the job, counters are set back, what it settled is closed, and the owner is asked one
question; later it is looked whether it helped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.domain.appointment import Appointment, AppointmentState, ExtraState
from gateway.domain.errors import ConflictError, InvalidError
from gateway.domain.feedback import AFTER_A_JOB, EXPECTED, SCALES, AskState, Feedback
from gateway.domain.ids import new_id
from gateway.domain.moments import DAY_MS
from gateway.domain.policy import RECALL_PURPOSE, Policy
from gateway.domain.result import FINISHED_LATE_MS, Result
from gateway.domain.touchpoint import Matter, State, Touchpoint
from gateway.flow import (
    afterwords,
    announce,
    book,
    budget,
    cases,
    consents,
    decide,
    outgoing,
    returning,
    telling,
)
from gateway.ports import Records

COMMENT_MAX = 1_000
"""Characters of a comment that are taken."""

UNSETTLED = (State.DEFERRED, State.OPEN, State.ANSWERED)
"""States in which a matter can be settled by another one's job; what has a visit of its own keeps it."""

SEEN_MOST = 500
"""So many findings of a device are looked through for one that came back."""

NPS_AFTER_MS = 7 * DAY_MS
"""So long after the matter that brings it forward NPS is asked: the question about that one comes first."""

NPS_READER = "nps"
"""Up to which ownership NPS is planned."""


# --- done -------------------------------------------------------------------------------------


def done(
    records: Records, appointment_id: str, work: Mapping[str, Any], now: int, policy: Policy
) -> Appointment:
    """The job is finished: the touchpoint is fulfilled, counters are set back, one question will be asked.

    `work` is what was done ({"note", "parts", "price"}). Saying it again changes nothing. Raises
    NotFoundError, ConflictError when the appointment does not stand.
    """
    appointment = records.workshops.appointment(appointment_id)
    if appointment.state is AppointmentState.DONE:
        return appointment
    finished = book.moved(appointment, AppointmentState.DONE, done_at=now, work=dict(work))
    records.workshops.save_appointment(finished)
    if finished.touchpoint is not None:
        _fulfil(records, finished, records.touchpoints.get(finished.touchpoint), now, policy)
    announce.appointment_changed(records, finished, "done", now, policy)
    return finished


def _fulfil(
    records: Records, appointment: Appointment, touchpoint: Touchpoint, now: int, policy: Policy
) -> None:
    matters, left = _done_and_left(records, appointment, touchpoint)
    fulfilled = replace(touchpoint, state=State.FULFILLED, closed_at=now)
    records.touchpoints.save(fulfilled)
    fixed = appointment.work.get("fixed") is not False
    resets = _resets([matter.rule for matter in matters], policy) if fixed else ()
    if fixed:
        _settle(records, matters, now, policy)
    outgoing.queue_reset(records, fulfilled, resets, now)
    workshop = records.workshops.get(appointment.workshop).name
    outgoing.write_line(
        records, "done", now, touchpoint=fulfilled, appointment=appointment.id, workshop=workshop
    )
    outgoing.close_channels(records, fulfilled, now)
    services = tuple(dict.fromkeys((*appointment.jobs, *(m.service for m in matters if m.service))))
    if fixed:
        _settle_related(records, fulfilled, services, resets, now, policy)
    else:
        _not_fixed(records, appointment, fulfilled, now, policy)
    _keep_result(records, appointment, fulfilled, matters, services, now, policy)
    if left:
        returning.left_over(records, fulfilled, left, now, policy)
    _plan_question(records, fulfilled, now, policy)
    _bring_nps_forward(records, touchpoint.owner, now, policy)


def _done_and_left(
    records: Records, appointment: Appointment, touchpoint: Touchpoint
) -> tuple[list[Matter], list[Matter]]:
    """The matters that the visit was for, and those that its workshop does not do, or not in the same bay:
    they were not mended by it."""
    matters = records.touchpoints.matters(touchpoint.id)
    mine = [m for m in matters if m.finding == touchpoint.finding or m.service in (None, *appointment.jobs)]
    return mine, [m for m in matters if m not in mine and m.cleared_at is None]


def _settle(records: Records, matters: Sequence[Matter], now: int, policy: Policy) -> None:
    """They are over for everybody: also for who has the product since the visit was booked."""
    for matter in matters:
        records.touchpoints.clear_finding(matter.finding, now)
        decide.cleared(records, matter.finding, now, policy, "reset")


def _not_fixed(
    records: Records, appointment: Appointment, touchpoint: Touchpoint, now: int, policy: Policy
) -> None:
    """The workshop says itself that it did not mend what was found: nothing is set back, and somebody gets
    back to the owner."""
    cases.open_case(
        records,
        kind="complaint",
        owner=touchpoint.owner,
        device=touchpoint.device,
        touchpoint=touchpoint.id,
        workshop=appointment.workshop,
        appointment=appointment.id,
        text=str(appointment.work.get("note", "")),
        data={"again": {"rule": touchpoint.rule, "found_at": now, "evidence": dict(touchpoint.evidence)}},
        by=f"workshop:{appointment.workshop}",
        now=now,
        policy=policy,
    )


def _resets(rules: Sequence[str], policy: Policy) -> tuple[str, ...]:
    """Every counter that one of these rules' jobs sets back, once."""
    known = (policy.rules.get(rule) for rule in rules)
    return tuple(dict.fromkeys(signal for rule in known if rule for signal in rule.resets))


def _settle_related(
    records: Records,
    fulfilled: Touchpoint,
    services: Sequence[str],
    resets: Sequence[str],
    now: int,
    policy: Policy,
) -> None:
    """What the same job settled: same device, and the same service or counters that were set back. A recall
    ends only by its own visit."""
    live = records.touchpoints.page(device=fulfilled.device, states=UNSETTLED)
    for other in live:
        overlaps = set(resets) & set(_resets([other.rule], policy))
        if other.purpose == RECALL_PURPOSE or not (other.service in services or overlaps):
            continue
        closed = replace(other, state=State.CLOSED, closed_at=now, wake_at=None)
        records.touchpoints.save(closed)
        records.workshops.release(closed.id)
        _settle(records, records.touchpoints.matters(closed.id), now, policy)
        outgoing.write_line(records, "settled_with_visit", now, touchpoint=closed, by=fulfilled.id)
        outgoing.close_channels(records, closed, now)


def _keep_result(
    records: Records,
    appointment: Appointment,
    touchpoint: Touchpoint,
    matters: Sequence[Matter],
    services: tuple[str, ...],
    now: int,
    policy: Policy,
) -> None:
    device = records.devices.find(touchpoint.device)
    records.results.add(
        Result(
            touchpoint=touchpoint.id,
            appointment=appointment.id,
            workshop=appointment.workshop,
            owner=touchpoint.owner,
            device=touchpoint.device,
            kind=device.kind if device else "",
            rules=tuple(dict.fromkeys(matter.rule for matter in matters)),
            services=services,
            done_at=now,
            look_at=now + policy.helped_ms,
            in_time=in_time(appointment),
            in_price=in_price(appointment, _approved(records, appointment)),
        )
    )


# --- what was promised ------------------------------------------------------------------------


def in_time(appointment: Appointment) -> bool | None:
    """Whether the product was ready when promised; None where nobody promised a duration."""
    ready = appointment.progress.get("ready", appointment.done_at)
    if not isinstance(ready, int) or "minutes" not in _promised(appointment):
        return None
    return ready <= appointment.end + FINISHED_LATE_MS


def in_price(appointment: Appointment, approved: int) -> bool | None:
    """Whether the owner paid no more than promised and `approved` meanwhile (extra work, same currency);
    None where no price was promised, or none was stated."""
    promised, paid = _promised_price(appointment), appointment.work.get("price")
    if promised is None or not isinstance(paid, int | float):
        return None
    return paid <= promised + approved


def _promised_price(appointment: Appointment) -> int | None:
    """The most that the owner was to pay: of all jobs of the visit, those that others pay apart."""
    terms = [appointment.terms.get(job) for job in appointment.jobs]
    if not all(isinstance(each, Mapping) for each in terms):
        price = _promised(appointment).get("price_to")
        return price if isinstance(price, int) else None
    mine = [each.get("price_to") for each in terms if each and each.get("payer") == "owner"]
    return sum(mine) if all(isinstance(price, int) for price in mine) else None


def _promised(appointment: Appointment) -> Mapping[str, Any]:
    promised = appointment.diagnosis.get("promised")
    return promised if isinstance(promised, Mapping) else {}


def _approved(records: Records, appointment: Appointment) -> int:
    extra = records.workshops.extras(appointment=appointment.id)
    return sum(work.price for work in extra if work.state is ExtraState.APPROVED)


# --- the one question -------------------------------------------------------------------------


def _plan_question(records: Records, touchpoint: Touchpoint, now: int, policy: Policy) -> None:
    """One question, some hours after the job, when there is room for it."""
    at = asking_time(records, touchpoint.owner, now, policy)
    records.feedback.ask(
        Feedback(
            id=new_id(now),
            touchpoint=touchpoint.id,
            owner=touchpoint.owner,
            device=touchpoint.device,
            question=_which(records, touchpoint.owner, policy),
            asked_at=at,
            state=AskState.WAITING,
            give_up_at=at + policy.asking.give_up_ms,
        )
    )


def _which(records: Records, owner: str, policy: Policy) -> str:
    """The operator's question, or the one that this owner was not asked last time."""
    if policy.asking.question in AFTER_A_JOB:
        return policy.asking.question
    last = next((f for f in records.feedback.page(owner=owner) if f.question in AFTER_A_JOB), None)
    return "ces" if last is not None and last.question == "csat" else "csat"


def asking_time(records: Records, owner_id: str, now: int, policy: Policy) -> int:
    """When the question is asked: after a while, outside of the owner's quiet hours."""
    return _not_at_night(records, owner_id, now + policy.ask_after_ms, policy)


def _not_at_night(records: Records, owner_id: str, at: int, policy: Policy) -> int:
    zone = records.owners.get(owner_id).time_zone
    return outgoing.quiet_hours(outgoing.wishes(records, owner_id, policy), zone).moved_out(at)


def ask_due(records: Records, now: int, policy: Policy, limit: int = 100) -> int:
    """Put the questions whose time has come, where there is room; gives how many were looked at."""
    due = records.feedback.due(now, limit)
    for question in due:
        _put(records, question, now, policy)
    return len(due)


def _put(records: Records, question: Feedback, now: int, policy: Policy) -> None:
    """Now, later, or never, each with its line in the ledger."""
    room = _room(records, question, now, policy)
    if room is None:
        asked = replace(question, state=AskState.ASKED, asked_at=now)
        records.feedback.answer(asked)
        budget.spend(records, question.owner, budget.SURVEY, now, question.id)
        about = _about(records, question)
        telling.tell(
            records, question.owner, afterwords.QUESTION, now, policy, touchpoint=about, feedback=question.id
        )
        _question_line(records, question, "asked", now)
    elif question.give_up_at is not None and room > question.give_up_at:
        records.feedback.answer(replace(question, state=AskState.DROPPED))
        _question_line(records, question, "question_dropped", now)
    else:
        records.feedback.answer(replace(question, asked_at=max(room, now + 1)))
        _question_line(records, question, "question_deferred", now, until=room)


def _room(records: Records, question: Feedback, now: int, policy: Policy) -> int | None:
    """None: it may be put now; else when it may be tried again."""
    last = _last_asked(records, question.owner)
    apart = last + policy.asking.apart_ms if last is not None else now
    if not consents.allowed(records, question.owner, consents.SURVEY):
        return budget.NEVER
    free = budget.room(records, question.owner, budget.SURVEY, now, policy)
    if free == budget.NEVER:
        return free
    at = _not_at_night(records, question.owner, max(now, apart, free or 0), policy)
    return at if at > now else None


def _last_asked(records: Records, owner: str) -> int | None:
    asked = (f.asked_at for f in records.feedback.page(owner=owner, limit=20) if f.state is AskState.ASKED)
    return max(asked, default=None)


def _about(records: Records, question: Feedback) -> str | None:
    """The touchpoint that a push belongs to, so that it waits for the end of a trip; of a question on the
    way the newest one of the product."""
    if question.touchpoint is not None or question.device is None:
        return question.touchpoint
    newest = records.touchpoints.page(owner=question.owner, device=question.device, limit=1)
    return newest[0].id if newest else None


def _question_line(records: Records, question: Feedback, code: str, now: int, **params: Any) -> None:
    about: dict[str, Any] = {"owner": question.owner, "device": question.device}
    if question.touchpoint is not None:
        about = {"touchpoint": records.touchpoints.get(question.touchpoint)}
    outgoing.write_line(records, code, now, **about, **params)


# --- answers ----------------------------------------------------------------------------------


def rate(
    records: Records,
    feedback_id: str,
    score: int,
    comment: str | None,
    now: int,
    policy: Policy | None = None,
    expected: str | None = None,
) -> Feedback:
    """The owner's answer to the question. The same score again gives what holds; a low one opens a case.

    Raises NotFoundError, InvalidError for a score off the scale, ConflictError (`holds` is the first
    answer) for another one, or when it is not being asked.
    """
    question = records.feedback.get(feedback_id)
    lowest, highest = SCALES[question.question]
    if isinstance(score, bool) or not isinstance(score, int) or not lowest <= score <= highest:
        raise InvalidError(f"score: a whole number from {lowest} to {highest}.")
    _check_expected(expected)
    if question.answered_at is not None:
        if question.score == score:
            return question
        raise ConflictError("This question has been answered already.", question)
    said = (comment or "").strip()[:COMMENT_MAX] or None
    answered = replace(
        question,
        score=score,
        comment=said,
        answered_at=now,
        expected=expected,
        state=AskState.ASKED,
        asked_at=min(question.asked_at, now),
    )
    records.feedback.answer(answered)
    _question_line(records, answered, "rated", now, score=score, highest=highest)
    rules = policy or Policy()
    if score <= rules.asking.low[question.question]:
        _low(records, answered, now, rules)
    return answered


def compare(records: Records, feedback_id: str, expected: str, now: int) -> Feedback:
    """Better, as or worse than expected: a second tap that nobody has to make, and that may be corrected.

    Raises NotFoundError, InvalidError, ConflictError while the question itself is not answered."""
    _check_expected(expected)
    question = records.feedback.get(feedback_id)
    if question.answered_at is None:
        raise ConflictError("Answer the question first.", question)
    compared = replace(question, expected=expected)
    records.feedback.answer(compared)
    return compared


def _check_expected(expected: str | None) -> None:
    if expected is not None and expected not in EXPECTED:
        raise InvalidError(f"expected: one of {', '.join(EXPECTED)}.")


def _low(records: Records, answered: Feedback, now: int, policy: Policy) -> None:
    """Somebody looks into it, and the customer hears what came of it."""
    result = records.results.get(answered.touchpoint) if answered.touchpoint else None
    cases.open_case(
        records,
        kind="low_score",
        owner=answered.owner,
        device=answered.device,
        touchpoint=answered.touchpoint,
        appointment=result.appointment if result else None,
        text=answered.comment or "",
        data={
            "question": answered.question,
            "score": answered.score,
            "feedback": answered.id,
            "workshop": result.workshop
            if result
            else None,  # which reads it without a name, so not as its case
        },
        now=now,
        policy=policy,
    )


# --- NPS at points of the journey -------------------------------------------------------------


def plan_nps(records: Records, now: int, policy: Policy, limit: int = 1_000) -> int:
    """Who claimed a first product since the last look is asked some time later, who claimed it long ago in a
    later year; gives how many were looked at."""
    claims = records.feedback.claims(records.position(NPS_READER), limit)
    first, every = policy.asking.nps_first_ms, policy.asking.nps_every_ms
    for _, owner, device, since in claims:
        missed = max(0, now - since - first)
        if missed and not every:
            continue
        later = -(-missed // every) * every if missed else 0
        records.feedback.plan_nps(owner, device, since + first + later)
    if claims:
        records.set_position(NPS_READER, claims[-1][0])
    return len(claims)


def ask_nps(records: Records, now: int, policy: Policy, limit: int = 100) -> int:
    """Line up the NPS questions that are due; gives how many."""
    due = records.feedback.due_nps(now, limit)
    for owner, device in due:
        every = policy.asking.nps_every_ms
        records.feedback.move_nps(owner, now + every if every else None)
        _plan_nps_question(records, owner, device, now, policy)
    return len(due)


def _plan_nps_question(records: Records, owner: str, device: str, now: int, policy: Policy) -> None:
    found = records.devices.find(device)
    if found is None or found.owner != owner:
        mine = records.devices.page(owner=owner, limit=1)
        if not mine:
            return  # nothing of ours is theirs any more
        device = mine[0].id
    records.feedback.ask(
        Feedback(
            id=new_id(now),
            touchpoint=None,
            owner=owner,
            device=device,
            question="nps",
            asked_at=_not_at_night(records, owner, now, policy),
            state=AskState.WAITING,
            give_up_at=now + policy.asking.give_up_ms,
        )
    )


def _bring_nps_forward(records: Records, owner: str, now: int, policy: Policy) -> None:
    """Who has had several matters solved knows us well enough to be asked soon; not twice in a year."""
    planned, asking = records.feedback.nps(owner), policy.asking
    if planned is None or not asking.nps_after or records.results.number(owner) != asking.nps_after:
        return
    before = [f for f in records.feedback.page(owner=owner) if f.question == "nps"]
    last = max((f.asked_at for f in before if f.state is not AskState.DROPPED), default=None)
    if last is not None and not asking.nps_every_ms:
        return
    at = max(now + NPS_AFTER_MS, last + asking.nps_every_ms if last is not None else 0)
    if at < planned[1]:
        records.feedback.move_nps(owner, at)


# --- did it help? -----------------------------------------------------------------------------


def look(records: Records, now: int, policy: Policy, limit: int = 100) -> int:
    """Note of jobs done some time ago whether they helped, and what it took; gives how many."""
    due = records.results.due(now, limit)
    for result in due:
        work = records.workshops.appointment(result.appointment).work
        asked = records.feedback.page(touchpoint=result.touchpoint)
        records.results.save(
            replace(
                result,
                helped=work.get("fixed") is not False and not came_back(records, result, policy),
                messages=records.results.messages(result.touchpoint),
                contacts=records.results.contacts([result.touchpoint, *(f.id for f in asked)]),
            )
        )
    return len(due)


def came_back(records: Records, result: Result, policy: Policy) -> bool:
    """Whether the same was found again on the device before `look_at`."""
    found = records.touchpoints.findings(device=result.device, limit=SEEN_MOST)
    return any(
        result.done_at < finding.found_at < result.look_at and cases.same_matter(finding, result, policy)
        for finding in found
    )


# --- when its time has come -------------------------------------------------------------------


def step(records: Records, now: int, policy: Policy, limit: int = 100) -> int:
    """Everything that is due; gives how much was done, so that the caller knows when to stop."""
    return (
        plan_nps(records, now, policy)
        + ask_nps(records, now, policy, limit)
        + ask_due(records, now, policy, limit)
        + look(records, now, policy, limit)
    )


def due(records: Records, now: int) -> bool:
    """Whether `step` has something to do."""
    at = next_due(records)
    claimed = records.feedback.claims(records.position(NPS_READER), 1)
    return bool(claimed) or (at is not None and at <= now)


def next_due(records: Records) -> int | None:
    """When `step` has something to do again, as far as is known."""
    times = (records.feedback.next_due(), records.results.next_look())
    return min((at for at in times if at is not None), default=None)
