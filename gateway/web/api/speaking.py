"""Who speaks for an owner, on what strength, and what the owner hears of it.

Owners speak for themselves. Somebody who has signed in speaks for a caller whom they have verified in the
touchpoint's conversation. A token stands for a system: it hands on what the owner said in the manufacturer's
app, where they are signed in, or what its people took down, and says who verified the caller and how; where
it does not, the owner's ledger says so.
"""

from __future__ import annotations

from gateway.domain.access import Role
from gateway.domain.errors import NotFoundError
from gateway.domain.touchpoint import Touchpoint
from gateway.flow import conversation, outgoing
from gateway.ports import Records
from gateway.web import rights
from gateway.web.api.endpoint import Call, fault_at
from gateway.web.api.shapes import ForOwner, VerifyIn


async def verify_first(call: Call, touchpoint_id: str, body: ForOwner) -> None:
    """Take down how the caller was verified, where the request says so: in a write of its own, for a wrong
    code counts whatever becomes of the rest. What is sent once more has used its code itself."""
    if body.verified is None or not call.who.staff:
        return
    code = body.verified.code

    def known(records: Records) -> bool:
        found = rights.answerable(records, call.who, touchpoint_id)
        return code is not None and conversation.known_by(records, found, code, call.now)

    if not await call.read(known):
        await verify(call, touchpoint_id, body.verified)


async def verify(call: Call, touchpoint_id: str, how: VerifyIn) -> None:
    """Take down how the caller was verified. Raises Problem for a code that is not good."""
    agent = _agent(call, how)

    def work(records: Records) -> bool:
        found = rights.answerable(records, call.who, touchpoint_id)
        return conversation.verify(records, found, agent, call.now, code=how.code, asked=how.asked)

    if not await call.write(work):
        raise fault_at(
            "code", "code: that is not the code, or it is too old; let the owner make another one."
        )


def _agent(call: Call, how: VerifyIn) -> str:
    """Who verified the caller, as it is written down."""
    if call.who.role is not Role.INTEGRATION:
        if how.agent is not None:
            raise fault_at("agent", "agent: only other systems name their people; you are written down.")
        return call.who.name
    if how.agent is None:
        raise fault_at("agent", "agent: say who of yours verified the caller; it stands in their ledger.")
    return f"{call.who.name} ({how.agent})"


def in_app(call: Call, body: ForOwner) -> bool:
    """Whether the owner said it themselves in the manufacturer's app. Raises Problem for somebody who cannot
    know."""
    if body.through != "app" or call.who.role is Role.OWNER:
        return False
    if call.who.role is not Role.INTEGRATION:
        raise fault_at("through", "through: app is said by the app's own system; verify who calls you.")
    return True


def speaker(call: Call, records: Records, touchpoint: Touchpoint, body: ForOwner) -> str:
    """Who says it, as it is written down. Raises UnverifiedError for somebody who has signed in and has not
    made sure that it is what the owner wants."""
    if not call.who.staff:
        return call.who.name
    if in_app(call, body):
        return touchpoint.owner
    if call.who.account is not None:
        conversation.check_verified(records, touchpoint, call.now)
    talk = records.conversations.find(touchpoint.id)
    agent = talk.agent if talk is not None and talk.verified(call.now) else None
    theirs = agent is not None and agent.startswith(f"{call.who.name} (")
    return agent if agent is not None and theirs else call.who.name


def tell(call: Call, records: Records, touchpoint: Touchpoint, body: ForOwner, by: str) -> None:
    """What was changed for an owner stands in their ledger, and they hear of it."""
    if not call.who.staff:
        return
    if in_app(call, body):
        outgoing.write_line(records, "answered_in_app", call.now, touchpoint=touchpoint, by=call.who.name)
    else:
        conversation.changed_for(records, touchpoint, by, call.now, call.context.policy)


def matter_of(records: Records, touchpoint_id: str | None) -> Touchpoint | None:
    """The touchpoint that something belongs to; of a walk-in's visit there is none."""
    try:
        return records.touchpoints.get(touchpoint_id) if touchpoint_id else None
    except NotFoundError:
        return None
