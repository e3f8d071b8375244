"""Cases: who looks after what, by when, and what the customer hears."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import Field

from gateway.domain.access import Role
from gateway.domain.case import Case, CaseKind, CaseState
from gateway.flow import cases
from gateway.ports import Records
from gateway.web import rights
from gateway.web.access import STAFF
from gateway.web.api.endpoint import Call, Endpoints, ListQuery, Page, page
from gateway.web.api.shapes import Id, In, Line, Moment, Out, Prose

endpoints = Endpoints("Cases")


class NoteOut(Out):
    """One entry of a case's history."""

    at: Moment
    by: str
    what: str = Field(description="opened, again, noted, given, answered, closed")
    text: str


class CaseOut(Out):
    """Something that somebody looks after until the customer has heard what came of it."""

    id: str
    kind: CaseKind
    state: CaseState
    owner: str
    device: str | None
    touchpoint: str | None
    appointment: str | None
    workshop: str | None
    responsible: str
    opened_at: Moment
    due_at: Moment = Field(description="By then the customer hears from somebody.")
    overdue: bool
    answered_at: Moment | None
    closed_at: Moment | None
    text: str = Field(description="The customer's own words, if any.")
    data: Mapping[str, Any] = Field(
        description="complaint: the job done and what was found again; low_score: question and score."
    )
    outcome: str | None = Field(description="What the customer heard last.")
    history: tuple[NoteOut, ...]

    @classmethod
    def of_case(cls, case: Case, now: int) -> CaseOut:
        """As it stands now."""
        fields = {name: getattr(case, name) for name in case.__dataclass_fields__}
        return cls.model_validate({**fields, "overdue": case.overdue(now)})


class CasesQuery(ListQuery):
    """Which cases."""

    state: Literal["pending", "open", "answered", "closed"] | None = Field(
        None, description="pending: open and answered, the earliest deadline first, without a cursor."
    )
    kind: CaseKind | None = None
    owner: Id | None = None


@endpoints.get("/cases", Role.WORKSHOP, *STAFF)
async def list_cases(call: Call, query: CasesQuery) -> Page[CaseOut]:
    """List cases, newest first; a workshop sees complaints about its own jobs."""

    def work(records: Records) -> list[Case]:
        workshop = rights.only(call.who, Role.WORKSHOP, None)
        kind = query.kind if workshop is None else CaseKind.COMPLAINT
        if query.state == "pending" and query.owner is None:
            return records.cases.pending(query.limit, workshop=workshop, kind=kind)
        wanted = {None: (), "pending": (CaseState.OPEN, CaseState.ANSWERED)}
        states = wanted[query.state] if query.state in wanted else (CaseState(query.state or ""),)
        return records.cases.page(
            owner=query.owner,
            workshop=workshop,
            kind=kind,
            states=states,
            after=query.after(),
            limit=query.limit + 1,
        )

    def handed(records: Records) -> list[Case]:
        return [rights.handed_case(records, call.who, case) for case in work(records)]

    rows = await call.read(handed)
    for case in rows[: query.limit]:
        call.who.saw(case.owner, "matters", "list")
    return page(rows, query.limit, lambda case: CaseOut.of_case(case, call.now), _id)


def _id(case: Case) -> str:
    return case.id


@endpoints.get("/cases/{case_id}", Role.WORKSHOP, *STAFF)
async def get_case(call: Call, case_id: str) -> CaseOut:
    """Show a case with its history."""
    return CaseOut.of_case(await call.read(lambda r: rights.case(r, call.who, case_id)), call.now)


class SaidIn(In):
    """What is said."""

    text: Prose = Field(min_length=1)


class OutcomeIn(In):
    """What came of it."""

    outcome: Prose = Field(min_length=1, description="The customer reads this.")


class GiveIn(In):
    """Who looks after it from now on."""

    responsible: Line


@endpoints.post("/cases/{case_id}/note", Role.WORKSHOP, *STAFF)
async def note_case(call: Call, case_id: str, body: SaidIn) -> CaseOut:
    """Write something into the history; the customer does not see it."""
    return await _done(call, case_id, lambda r: cases.note(r, case_id, body.text, by=_by(call), now=call.now))


@endpoints.post("/cases/{case_id}/answer", *STAFF)
async def answer_case(call: Call, case_id: str, body: SaidIn) -> CaseOut:
    """Get back to the customer; the case goes on."""
    policy, by = call.context.policy, _by(call)
    return await _done(
        call,
        case_id,
        lambda r: cases.answer_case(r, case_id, body.text, by=by, now=call.now, policy=policy),
    )


@endpoints.post("/cases/{case_id}/close", *STAFF)
async def close_case(call: Call, case_id: str, body: OutcomeIn) -> CaseOut:
    """End a case with what the customer hears of it."""
    policy, by = call.context.policy, _by(call)
    return await _done(
        call,
        case_id,
        lambda r: cases.close_case(r, case_id, body.outcome, by=by, now=call.now, policy=policy),
    )


@endpoints.post("/cases/{case_id}/give", *STAFF)
async def give_case(call: Call, case_id: str, body: GiveIn) -> CaseOut:
    """Make somebody else responsible."""
    return await _done(
        call, case_id, lambda r: cases.give(r, case_id, body.responsible, by=_by(call), now=call.now)
    )


async def _done(call: Call, case_id: str, happens: Callable[[Records], Case]) -> CaseOut:
    """Something happens to a case that is theirs to change."""

    def work(records: Records) -> Case:
        rights.case(records, call.who, case_id)
        return happens(records)

    return CaseOut.of_case(await call.write(work), call.now)


def _by(call: Call) -> str:
    return f"workshop:{call.who.subject}" if call.who.role is Role.WORKSHOP else call.who.name
