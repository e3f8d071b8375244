"""The conversation about a touchpoint, callbacks, who is there, and taking back what an agent answered."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace

from pydantic import Field

from gateway.domain.access import Role
from gateway.domain.case import CaseKind
from gateway.domain.conversation import Offer, Part, Said
from gateway.domain.touchpoint import Touchpoint
from gateway.flow import conversation
from gateway.ports import Records
from gateway.web import rights
from gateway.web.access import STAFF
from gateway.web.api import speaking
from gateway.web.api.cases import CaseOut
from gateway.web.api.endpoint import Call, Endpoints
from gateway.web.api.shapes import AnswerIn, In, Line, Moment, Out, Prose, TouchpointOut, VerifyIn
from gateway.web.api.touchpoints import take
from gateway.web.talking import worded

SHOWN = 200
"""lines of a conversation that one answer holds, the newest"""

endpoints = Endpoints("Conversations")


class LineOut(Out):
    """One line."""

    id: str
    at: Moment
    part: Part = Field(description="owner, agent, or system: what happened, in the language of who asks.")
    by: str
    channel: str
    text: str


class ConversationOut(Out):
    """The conversation about a touchpoint: the same on every channel."""

    touchpoint: str
    offer: Offer = Field(
        description="talk: somebody is there; callback: nobody is, a call can be promised by `promised_at`; "
        "waits: it is promised; none: the matter is over."
    )
    promised_at: Moment | None
    agent: str | None
    verified: bool = Field(description="Whether an agent may answer for the owner now.")
    verified_by: str | None = Field(description="signed_in, code, or what the caller was asked.")
    waiting_since: Moment | None = Field(description="Since when the owner waits for a word.")
    undo_until: Moment | None = Field(description="Until when the owner may take back an agent's answer.")
    lines: list[LineOut]


class SayIn(In):
    """A line."""

    text: Prose = Field("", description="Of an owner it may be empty: they ask to talk.")


class CallbackIn(In):
    """A call that is asked for."""

    phone: Line | None = Field(None, description="Else the number that is known.")
    text: Prose = ""


class CodeOut(Out):
    """What the owner reads out to whoever is on the telephone."""

    code: str
    until: Moment


class DeskIn(In):
    """Whether who asks is there for owners."""

    here: bool


class PresentOut(Out):
    """Somebody who is there."""

    name: str
    since: Moment
    until: Moment


class WaitingOut(Out):
    """A matter whose owner waits for a word."""

    touchpoint: str
    owner: str
    device: str
    waiting_since: Moment
    agent: str | None


class DeskOut(Out):
    """Who is there, who waits for a word, and whom a call is promised, the next one first."""

    present: list[PresentOut]
    waiting: list[WaitingOut]
    callbacks: list[CaseOut]


# --- one conversation -----------------------------------------------------------------------------


@endpoints.get("/touchpoints/{touchpoint_id}/conversation", Role.OWNER, *STAFF)
async def get_conversation(call: Call, touchpoint_id: str) -> ConversationOut:
    """Show the conversation about a touchpoint, and what is offered now."""
    return await call.read(lambda r: _shown(call, r, rights.touchpoint(r, call.who, touchpoint_id)))


def _shown(call: Call, records: Records, touchpoint: Touchpoint) -> ConversationOut:
    found = conversation.offered(records, touchpoint, call.now, call.context.policy)
    talk = records.conversations.find(touchpoint.id)
    lines = records.conversations.lines(touchpoint.id, limit=5_000)[-SHOWN:]
    return ConversationOut(
        touchpoint=touchpoint.id,
        offer=found.offer,
        promised_at=found.promised_at,
        agent=talk.agent if talk else None,
        verified=bool(talk and talk.verified(call.now)),
        verified_by=talk.verified_by if talk else None,
        waiting_since=talk.waiting_since if talk else None,
        undo_until=conversation.undo_until(records, touchpoint, call.now),
        lines=[_line(call, records, line, touchpoint) for line in lines],
    )


def _line(call: Call, records: Records, line: Said, touchpoint: Touchpoint) -> LineOut:
    zone = records.owners.get(touchpoint.owner).time_zone
    return LineOut.of(replace(line, text=worded(line, call.context.texts, call.language, zone)))


async def _happen(
    call: Call, touchpoint_id: str, work: Callable[[Records, Touchpoint], object]
) -> ConversationOut:
    """What somebody may do who may answer the touchpoint; gives the conversation afterwards."""

    def done(records: Records) -> ConversationOut:
        work(records, rights.answerable(records, call.who, touchpoint_id))
        return _shown(call, records, records.touchpoints.get(touchpoint_id))

    return await call.write(done)


def _channel(call: Call) -> str:
    return "api" if call.who.role is Role.OWNER else "call_centre"


@endpoints.post("/touchpoints/{touchpoint_id}/conversation", Role.OWNER, *STAFF)
async def say_something(call: Call, touchpoint_id: str, body: SayIn) -> ConversationOut:
    """Say something about a touchpoint.

    An owner begins only while somebody is there (409 else, then a callback can be asked for). What
    after-sales say reaches the owner's phone, too.
    """
    part = Part.OWNER if call.who.role is Role.OWNER else Part.AGENT
    about = {"by": call.who.name, "channel": _channel(call)}

    def work(records: Records, touchpoint: Touchpoint) -> None:
        policy = call.context.policy
        conversation.say(records, touchpoint, body.text, part=part, now=call.now, policy=policy, **about)

    return await _happen(call, touchpoint_id, work)


@endpoints.post("/touchpoints/{touchpoint_id}/conversation/callback", Role.OWNER, *STAFF)
async def ask_for_call(call: Call, touchpoint_id: str, body: CallbackIn) -> ConversationOut:
    """Ask to be called; `promised_at` says by when, and stands when it is asked for again."""
    about = {"by": call.who.name, "channel": _channel(call), "phone": body.phone, "text": body.text}

    def work(records: Records, touchpoint: Touchpoint) -> None:
        policy = call.context.policy
        conversation.call_back(records, touchpoint, now=call.now, policy=policy, **about)  # type: ignore[arg-type]

    return await _happen(call, touchpoint_id, work)


@endpoints.post("/touchpoints/{touchpoint_id}/conversation/code", Role.OWNER)
async def make_code(call: Call, touchpoint_id: str) -> CodeOut:
    """Make a code that the owner reads out on the telephone; good for ten minutes and once."""

    def work(records: Records) -> CodeOut:
        touchpoint = rights.answerable(records, call.who, touchpoint_id)
        code, until = conversation.make_code(records, touchpoint, call.now, secrets.token_bytes)
        return CodeOut(code=code, until=until)

    return await call.write(work)


@endpoints.post("/touchpoints/{touchpoint_id}/conversation/verify", *STAFF)
async def verify_caller(call: Call, touchpoint_id: str, body: VerifyIn) -> ConversationOut:
    """Say how the caller was verified; for half an hour answers may be taken down for them.

    A wrong code is refused and counted: after five a new one has to be made. Another system says who of
    its people asked (`agent`).
    """
    await speaking.verify(call, touchpoint_id, body)
    return await get_conversation(call, touchpoint_id)


@endpoints.post("/touchpoints/{touchpoint_id}/conversation/answer", *STAFF)
async def answer_for_owner(call: Call, touchpoint_id: str, body: AnswerIn) -> TouchpointOut:
    """Answer for an owner who was verified: the same as `touchpoints/{touchpoint_id}/answer`."""
    return await take(call, touchpoint_id, body)


@endpoints.post("/touchpoints/{touchpoint_id}/conversation/close", *STAFF)
async def close_conversation(call: Call, touchpoint_id: str) -> ConversationOut:
    """End it until somebody says something again."""
    return await _happen(
        call, touchpoint_id, lambda records, t: conversation.close(records, t, call.who.name, call.now)
    )


@endpoints.post("/touchpoints/{touchpoint_id}/undo", Role.OWNER)
async def undo_answer(call: Call, touchpoint_id: str) -> TouchpointOut:
    """Take back what somebody of after-sales answered for you, within two days.

    A visit that was booked is cancelled. Gives what is open now: the same touchpoint, or the one that
    follows it.
    """

    def work(records: Records) -> TouchpointOut:
        found, policy = rights.answerable(records, call.who, touchpoint_id), call.context.policy
        return TouchpointOut.of(conversation.undo(records, found, call.who.name, call.now, policy))

    return await call.write(work)


# --- who is there ---------------------------------------------------------------------------------


@endpoints.get("/desk", *STAFF)
async def get_desk(call: Call) -> DeskOut:
    """Show who is there, who waits for a word, and whom a call is promised."""

    def work(records: Records) -> DeskOut:
        waiting = records.conversations.waiting()
        calls = records.cases.pending(100, kind=CaseKind.CALL_ME)
        for owner in dict.fromkeys([*(talk.owner for talk in waiting), *(case.owner for case in calls)]):
            call.who.saw(owner, "matters", "list")
        return DeskOut(
            present=[PresentOut.of(one) for one in records.conversations.present(call.now)],
            waiting=[WaitingOut.of(one) for one in waiting],
            callbacks=[CaseOut.of_case(one, call.now) for one in sorted(calls, key=lambda c: c.due_at)],
        )

    return await call.read(work)


@endpoints.put("/desk", *STAFF)
async def put_desk(call: Call, body: DeskIn) -> DeskOut:
    """Say that you are there for owners, which holds for five minutes, or that you are not any more."""

    def work(records: Records) -> None:
        if body.here:
            conversation.here(records, call.who.name, call.now)
        else:
            conversation.leave(records, call.who.name)

    await call.write(work)
    return await get_desk(call)
