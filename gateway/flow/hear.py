"""hear: what other systems tell has its effect here once, and stands where its owner can read it.

An event is kept once by its source and its id there; told again, it gives what it gave the first time. Its
line is in the owner's ledger before anything follows from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.domain.access import Role
from gateway.domain.appointment import ENDED
from gateway.domain.case import CaseKind
from gateway.domain.errors import InvalidError, NotFoundError
from gateway.domain.heard import Heard, HeardType, Outcome
from gateway.domain.policy import Policy
from gateway.domain.touchpoint import LIVE, Answer, State, Touchpoint
from gateway.flow import cases, conversation, follow_up, outgoing, respond, visit
from gateway.ports import Records

MOST_MATTERS = 50
"""Matters of one product that a job elsewhere can settle."""

LINES: Mapping[str, str] = {
    HeardType.ORDER_PLACED: "heard_ordered",
    HeardType.ORDER_DELIVERED: "heard_delivered",
    HeardType.VISIT_FINISHED: "heard_visit",
    HeardType.CALL_RECEIVED: "heard_call",
    HeardType.COMPLAINT_RECEIVED: "heard_complaint",
    HeardType.COMMENT_RECEIVED: "heard_comment",
}
"""{type: code of its line}; an answer has the line that every answer has"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """An event as it came, and what its data say besides whom it is about."""

    heard: Heard
    said: Mapping[str, Any]


def hear(records: Records, told: Told, now: int, policy: Policy) -> Heard:
    """Take an event; gives it as it is kept, with what became of it.

    Raises InvalidError for one that names what is not there or lacks what its type needs, ConflictError where
    an answer contradicts the one that holds; nothing is kept then, and it may be sent again.
    """
    known = records.heard.of(told.heard.source, told.heard.event)
    if known is not None:
        return known
    found = _placed(records, told.heard)
    _line(records, found, now)
    effect = EFFECTS.get(found.type)
    if effect is not None:
        found = effect(records, replace(told, heard=found), now, policy)
    records.heard.add(found)
    return found


def _placed(records: Records, heard: Heard) -> Heard:
    """With the device and the owner that follow from what it names. Raises InvalidError."""
    if heard.touchpoint is not None:
        touchpoint = _there(records.touchpoints.get, heard.touchpoint, "touchpoint")
        return replace(heard, device=touchpoint.device, owner=touchpoint.owner)
    if heard.device is not None:
        _there(records.devices.get, heard.device, "device")
        owned = records.devices.owner_at(heard.device, heard.at) or records.devices.get(heard.device).owner
        heard = replace(heard, owner=heard.owner or owned)
    if heard.owner is not None:
        _there(records.owners.get, heard.owner, "owner")
    return heard


def _there(look: Callable[[str], Any], key: str, name: str) -> Any:
    try:
        return look(key)
    except NotFoundError as error:
        raise InvalidError(f"{name}: there is no {name} {key}.") from error


def _line(records: Records, heard: Heard, now: int) -> None:
    if heard.owner is None or heard.type == HeardType.ANSWER_GIVEN:
        return
    about: dict[str, Any] = {"owner": heard.owner, "device": heard.device}
    if heard.touchpoint is not None:
        about = {"touchpoint": records.touchpoints.get(heard.touchpoint)}
    code = LINES.get(heard.type, "heard_other")
    outgoing.write_line(records, code, now, **about, source=heard.source, said=_quoted(heard.text))


def _quoted(text: str) -> str:
    return f": “{text[:200]}”" if text else ""


# --- what follows -------------------------------------------------------------------------------


def _answered(records: Records, told: Told, now: int, policy: Policy) -> Heard:
    heard, said = told.heard, told.said
    if heard.touchpoint is None or not said.get("action"):
        raise InvalidError("data: answer.given needs touchpoint and action.")
    given = said.get("until") or said.get("done_on")
    chosen = Answer(
        action=f"{said['action']}:{given}" if given else str(said["action"]),
        slot=said.get("slot"),
        comment=heard.text or None,
        channel="api",
        at=now,
        by=heard.owner or "",
    )
    matter = records.touchpoints.get(heard.touchpoint)
    theirs = heard.by.partition(":")[0] == Role.OPERATOR  # taken down, not said in the manufacturer's app
    take = conversation.answer_for if theirs else conversation.answer_in_app
    take(records, matter, chosen, heard.by, now, policy)
    return replace(heard, outcome=Outcome.ANSWERED)


def _visited(records: Records, told: Told, now: int, policy: Policy) -> Heard:
    """A job was done elsewhere: the visit that was booked for it is done, and what was open about it too."""
    heard, said = told.heard, told.said
    if said.get("appointment"):
        _finish(records, str(said["appointment"]), told, now, policy)
        return replace(heard, outcome=Outcome.CLOSED)
    if heard.device is None:
        raise InvalidError("data: visit.finished needs device, touchpoint or appointment.")
    if heard.touchpoint is None and not said.get("service"):
        raise InvalidError("data: visit.finished needs service, touchpoint or appointment.")
    settled = [_settle(records, matter, told, now, policy) for matter in _meant(records, told)]
    return replace(heard, outcome=Outcome.CLOSED if any(settled) else Outcome.KEPT)


def _meant(records: Records, told: Told) -> list[Touchpoint]:
    """The live matters that the job was for."""
    heard = told.heard
    if heard.touchpoint is not None:
        return [records.touchpoints.get(heard.touchpoint)]
    found = records.touchpoints.page(device=heard.device, states=LIVE, limit=MOST_MATTERS)
    return [
        matter
        for matter in found
        if any(part.service == told.said["service"] for part in records.touchpoints.matters(matter.id))
        or matter.service == told.said["service"]
    ]


def _settle(records: Records, matter: Touchpoint, told: Told, now: int, policy: Policy) -> bool:
    if matter.state is State.BOOKED:
        standing = records.workshops.appointments(touchpoint=matter.id)
        for appointment in (a for a in standing if a.state not in ENDED):
            _finish(records, appointment.id, told, now, policy)
        return True
    if matter.state not in LIVE:
        return False
    done = Answer(
        action="already_done",
        channel="call_centre",
        at=now,
        by=told.heard.by,
        done_at=min(told.heard.at, now),
        workshop=told.said.get("workshop"),
        place=told.said.get("place"),
    )
    respond.answer(records, matter.id, done, now, policy)
    return True


def _finish(records: Records, appointment_id: str, told: Told, now: int, policy: Policy) -> None:
    _there(records.workshops.appointment, appointment_id, "appointment")
    visit.close_questions(records, appointment_id, now, policy)
    follow_up.done(records, appointment_id, {"note": told.heard.text}, now, policy)


def _complained(records: Records, told: Told, now: int, policy: Policy) -> Heard:
    heard = told.heard
    if heard.owner is None:
        raise InvalidError("data: complaint.received needs owner, device or touchpoint.")
    opened = cases.open_case(
        records,
        kind=CaseKind.COMPLAINT,
        owner=heard.owner,
        device=heard.device,
        touchpoint=heard.touchpoint,
        text=heard.text,
        data={"source": heard.source, "reason": heard.reason},
        now=now,
        policy=policy,
        by=heard.by,
    )
    return replace(heard, outcome=Outcome.CASE, case=opened.id)


EFFECTS: Mapping[str, Callable[[Records, Told, int, Policy], Heard]] = {
    HeardType.ANSWER_GIVEN: _answered,
    HeardType.VISIT_FINISHED: _visited,
    HeardType.COMPLAINT_RECEIVED: _complained,
}
