"""cases: somebody is responsible by a time, and a case ends only with what the customer hears."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.domain.case import PENDING, Case, CaseKind, CaseState, Note, check_case_move
from gateway.domain.errors import InvalidError
from gateway.domain.ids import new_id
from gateway.domain.policy import Policy, rule_of
from gateway.domain.result import Result
from gateway.domain.touchpoint import Finding, State
from gateway.flow import afterwords, outgoing, telling
from gateway.ports import Records

TEXT_MAX = 2_000
"""Characters of a note or an answer that are taken."""

SYSTEM = "system"
"""Who opened what nobody typed."""

_DEFAULT = Policy()


def open_case(
    records: Records,
    *,
    kind: CaseKind | str,
    owner: str,
    device: str | None = None,
    touchpoint: str | None = None,
    workshop: str | None = None,
    appointment: str | None = None,
    responsible: str | None = None,
    due_at: int | None = None,
    text: str = "",
    now: int,
    policy: Policy = _DEFAULT,
    by: str = SYSTEM,
    data: Mapping[str, Any] | None = None,
) -> Case:
    """Open a case, or note it in the one of the same kind that is still pending about the same touchpoint.

    Who is responsible and by when (`policy.deadline_hours` of working time) follow from the settings
    unless given. The owner's ledger says that somebody looks after it, and by when they hear.
    """
    kind = CaseKind(kind)
    told = text.strip()[:TEXT_MAX]
    pending = _pending(records, kind, touchpoint)
    if pending is not None:
        return _save(records, pending, Note(at=now, by=by, what="again", text=told))
    case = Case(
        id=new_id(now),
        kind=kind,
        owner=owner,
        device=device,
        touchpoint=touchpoint,
        workshop=workshop,
        appointment=appointment,
        responsible=responsible or policy.responsible,
        opened_at=now,
        due_at=due_at if due_at is not None else due(kind, now, policy),
        text=told,
        data=dict(data or {}),
        history=(Note(at=now, by=by, what="opened", text=told),),
    )
    records.cases.add(case)
    _line(records, case, f"case_{kind}", now)
    return case


def due(kind: CaseKind, now: int, policy: Policy) -> int:
    """By when the customer of a case opened now hears from somebody."""
    return policy.working_time.after(now, policy.deadline_hours.get(kind, 8))


def _pending(records: Records, kind: CaseKind, touchpoint: str | None) -> Case | None:
    if touchpoint is None:
        return None
    found = records.cases.page(touchpoint=touchpoint, kind=kind, states=PENDING, limit=1)
    return found[0] if found else None


# --- a repair that did not help ---------------------------------------------------------------


def repaired_lately(records: Records, finding: Finding, owner: str, policy: Policy) -> Result | None:
    """The job of this owner that was to end what is found again now, if that was not long ago."""
    done = records.results.of_device(finding.device, finding.found_at - policy.helped_ms)
    return next(
        (
            result
            for result in done
            if result.owner == owner
            and result.done_at < finding.found_at
            and same_matter(finding, result, policy)
        ),
        None,
    )


def same_matter(finding: Finding, result: Result, policy: Policy) -> bool:
    """Whether a finding is what a job was for: the same rule, or one that leads to the same service."""
    rule = rule_of(policy.rules, finding)
    if finding.shadow or (rule is not None and rule.shadow):
        return False
    return finding.rule in result.rules or (rule is not None and rule.service in result.services)


def complain(records: Records, finding: Finding, owner: str, now: int, policy: Policy) -> Case | None:
    """A complaint for workshop and operator when a repair did not help, with what was found then and now;
    the owner is told that somebody gets back to them. None when there was no such repair."""
    result = repaired_lately(records, finding, owner, policy)
    if result is None:
        return None
    case = open_case(
        records,
        kind=CaseKind.COMPLAINT,
        owner=owner,
        device=finding.device,
        touchpoint=result.touchpoint,
        workshop=result.workshop,
        appointment=result.appointment,
        data={"again": _found(finding), "job": _job(records, result)},
        now=now,
        policy=policy,
    )
    if len(case.history) == 1:  # the first time; the owner is not told twice of one complaint
        about = {"touchpoint": result.touchpoint, "case": case.id}
        telling.tell(records, owner, afterwords.CASE_OPENED, now, policy, **about)
    return case


def _found(finding: Finding) -> dict[str, Any]:
    return {
        "finding": finding.id,
        "rule": finding.rule,
        "found_at": finding.found_at,
        "evidence": dict(finding.evidence),
    }


def _job(records: Records, result: Result) -> dict[str, Any]:
    touchpoint = records.touchpoints.get(result.touchpoint)
    appointment = records.workshops.appointment(result.appointment)
    return {
        "appointment": appointment.id,
        "rule": touchpoint.rule,
        "services": list(result.services),
        "done_at": result.done_at,
        "work": dict(appointment.work),
        "evidence": dict(touchpoint.evidence),
    }


# --- what becomes of a case -------------------------------------------------------------------


def note(records: Records, case_id: str, text: str, *, by: str, now: int) -> Case:
    """Write something into the history; the customer does not see it. Raises NotFoundError, InvalidError."""
    return _save(
        records, records.cases.get(case_id), Note(at=now, by=by, what="noted", text=_said(text, "text"))
    )


def give(records: Records, case_id: str, responsible: str, *, by: str, now: int) -> Case:
    """Somebody else is responsible from now on. Raises NotFoundError, InvalidError."""
    to = _said(responsible, "responsible")[:100]
    case = replace(records.cases.get(case_id), responsible=to)
    return _save(records, case, Note(at=now, by=by, what="given", text=to))


def answer_case(
    records: Records, case_id: str, text: str, *, by: str, now: int, policy: Policy = _DEFAULT
) -> Case:
    """The customer hears from somebody, and the case goes on. Raises NotFoundError, InvalidError,
    ConflictError when it is closed."""
    return _tell(records, case_id, CaseState.ANSWERED, text, by, now, policy)


def close_case(
    records: Records, case_id: str, outcome: str, *, by: str, now: int, policy: Policy = _DEFAULT
) -> Case:
    """The customer hears what came of it, and the case is over. Raises NotFoundError, InvalidError when
    there is nothing for the customer to hear, ConflictError when it is closed."""
    return _tell(records, case_id, CaseState.CLOSED, outcome, by, now, policy)


def _tell(
    records: Records, case_id: str, state: CaseState, text: str, by: str, now: int, policy: Policy
) -> Case:
    heard = _said(text, "outcome" if state is CaseState.CLOSED else "text")
    case = records.cases.get(case_id)
    check_case_move(case, state)
    told = replace(
        case,
        state=state,
        outcome=heard,
        answered_at=case.answered_at if case.answered_at is not None else now,
        closed_at=now if state is CaseState.CLOSED else None,
    )
    told = _save(records, told, Note(at=now, by=by, what=str(state), text=heard))
    _line(records, told, f"case_{state}", now, said=heard)
    if state is CaseState.CLOSED:
        _settle(records, told, now)
    _queue(records, told, now, policy)
    return told


def _queue(records: Records, case: Case, now: int, policy: Policy) -> None:
    """What the customer hears goes to their phones; a reply they wait for costs no budget."""
    telling.tell(records, case.owner, afterwords.CASE, now, policy, touchpoint=case.touchpoint, case=case.id)


def _settle(records: Records, case: Case, now: int) -> None:
    """A matter whose owner asked to be called is over when they were, unless a visit came of it."""
    if case.touchpoint is None or case.kind is not CaseKind.CALL_ME:
        return
    touchpoint = records.touchpoints.get(case.touchpoint)
    if touchpoint.state is State.ANSWERED:
        settled = replace(touchpoint, state=State.CLOSED, closed_at=now)
        records.touchpoints.save(settled)
        outgoing.close_channels(records, settled, now)


def _save(records: Records, case: Case, entry: Note) -> Case:
    saved = replace(case, history=(*case.history, entry))
    records.cases.save(saved)
    return saved


def _line(records: Records, case: Case, code: str, now: int, **params: Any) -> None:
    about: dict[str, Any] = {"owner": case.owner, "device": case.device}
    if case.touchpoint is not None:
        about = {"touchpoint": records.touchpoints.get(case.touchpoint)}
    outgoing.write_line(records, code, now, **about, case=case.id, until=case.due_at, **params)


def _said(text: str, name: str) -> str:
    said = text.strip()[:TEXT_MAX]
    if not said:
        raise InvalidError(f"{name}: say what it is; it must not be empty.")
    return said
