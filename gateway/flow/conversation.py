"""conversation: every touchpoint has one, the same on phone, car (parked) and at the call centre.

It is offered while somebody is there; else a call by a promised time, which stands in the queue of cases.
Agents verify the caller, by a code that the owner reads from their own page or by what only they know, before
they answer anything for them; what they answer is marked as theirs and told to the owner, who can take it
back.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.domain.appointment import ENDED
from gateway.domain.case import PENDING, Case, CaseKind
from gateway.domain.conversation import (
    CODE_MS,
    CODE_TRIES,
    PRESENT_MS,
    UNDO_MS,
    Conversation,
    Offer,
    Part,
    Present,
    Said,
)
from gateway.domain.errors import ConflictError, InvalidError, UnverifiedError
from gateway.domain.ids import new_id
from gateway.domain.policy import Policy
from gateway.domain.touchpoint import LIVE, Answer, State, Touchpoint
from gateway.flow import afterwords, book, cases, outgoing, respond, returning, telling
from gateway.ports import Records

TEXT_MOST = 2_000
"""Characters of a line."""
CALL_H = 0.25
"""Working hours that a call takes: so far apart are the promises of a queue."""
ASKED = ("plate", "serial", "address", "phone", "email", "purchased")
"""What a caller can be asked, so that an agent knows them."""
ASKED_LEAST = 2
OWN_PAGE = "signed_in"
"""How an owner is known who writes from their own page."""
CODE_DIGITS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Offered:
    """What an owner is offered now."""

    offer: Offer
    promised_at: int | None = None
    """callback: by when somebody would call; waits: by when somebody calls"""


# --- who is there -------------------------------------------------------------------------------


def here(records: Records, agent: str, now: int) -> Present:
    """Somebody of after-sales is there; holds for five minutes, or until they leave."""
    known = next((one for one in records.conversations.present(now) if one.name == agent), None)
    present = Present(name=agent, until=now + PRESENT_MS, since=known.since if known else now)
    records.conversations.here(present)
    return present


def leave(records: Records, agent: str) -> None:
    """They are not there any more."""
    records.conversations.leave(agent)


def offered(
    records: Records, touchpoint: Touchpoint, now: int, policy: Policy, *, display: bool = False
) -> Offered:
    """What is offered about a touchpoint; on a display nothing while the product moves."""
    if touchpoint.state not in LIVE or (display and _moves(records, touchpoint, now, policy)):
        return Offered(offer=Offer.NONE)
    pending = _promised(records, touchpoint)
    if pending is not None:
        return Offered(offer=Offer.WAITS, promised_at=pending.due_at)
    if records.conversations.present(now):
        return Offered(offer=Offer.TALK)
    return Offered(offer=Offer.CALLBACK, promised_at=next_call(records, now, policy))


def _moves(records: Records, touchpoint: Touchpoint, now: int, policy: Policy) -> bool:
    facts = records.devices.facts(touchpoint.device)
    return facts.moving and now - facts.last_seen < policy.moving_stale_ms


def _promised(records: Records, touchpoint: Touchpoint) -> Case | None:
    found = records.cases.page(touchpoint=touchpoint.id, kind=CaseKind.CALL_ME, states=PENDING, limit=1)
    return found[0] if found else None


def next_call(records: Records, now: int, policy: Policy) -> int:
    """By when the next call can be promised: not before those that are promised already, one after another,
    and only in working time."""
    waiting = records.cases.pending(1_000, kind=CaseKind.CALL_ME)
    soonest = cases.due(CaseKind.CALL_ME, now, policy)
    if not waiting:
        return soonest
    last = max(max(case.due_at for case in waiting), now)
    return max(soonest, policy.working_time.after(last, CALL_H))


# --- what is said -------------------------------------------------------------------------------


def say(
    records: Records,
    touchpoint: Touchpoint,
    text: str,
    *,
    part: Part,
    by: str,
    channel: str,
    now: int,
    policy: Policy,
) -> Conversation:
    """One line of it. An empty one of the owner's asks to talk, as from a car's display, where nobody types.

    Raises InvalidError for a line without words, ConflictError when nobody is there to begin with.
    """
    said = text.strip()[:TEXT_MOST]
    owner = part is Part.OWNER
    if not said and not owner:
        raise InvalidError("text: say something; it must not be empty.")
    known = records.conversations.find(touchpoint.id)
    if owner and (known is None or known.closed_at is not None) and not records.conversations.present(now):
        raise ConflictError("Nobody is there right now; ask for a call instead.", touchpoint)
    talk = known or _new(touchpoint, now)
    if owner:
        talk = replace(talk, waiting_since=talk.waiting_since or now, closed_at=None)
        if channel != "display":
            talk = replace(talk, verified_at=now, verified_by=OWN_PAGE)
    else:
        talk = replace(talk, agent=by, waiting_since=None, closed_at=None)
    records.conversations.put(talk)
    code = None if said else "asked_to_talk"
    line = _write(records, touchpoint, now, part=part, by=by, channel=channel, text=said, code=code)
    if known is None:
        outgoing.write_line(records, "talk_began", now, touchpoint=touchpoint, by=by)
    if not owner:
        about = {"touchpoint": touchpoint.id, "line": line.id}
        telling.tell(records, touchpoint.owner, afterwords.SAID, now, policy, **about)
    return talk


def _new(touchpoint: Touchpoint, now: int) -> Conversation:
    return Conversation(
        touchpoint=touchpoint.id, owner=touchpoint.owner, device=touchpoint.device, opened_at=now
    )


def _write(
    records: Records,
    touchpoint: Touchpoint,
    now: int,
    *,
    part: Part,
    by: str,
    channel: str,
    text: str = "",
    code: str | None = None,
    **params: Any,
) -> Said:
    newest = records.conversations.newest(touchpoint.id)
    at = now if newest is None else max(now, newest.at + 1)  # ids tell the order, by the millisecond
    line = Said(
        id=new_id(at),
        touchpoint=touchpoint.id,
        at=at,
        part=part,
        by=by,
        channel=channel,
        text=text,
        code=code,
        params=params,
    )
    records.conversations.say(line)
    return line


def close(records: Records, touchpoint: Touchpoint, by: str, now: int) -> Conversation:
    """It is over until somebody says something again. Raises NotFoundError."""
    talk = replace(records.conversations.get(touchpoint.id), waiting_since=None, closed_at=now)
    records.conversations.put(talk)
    _write(records, touchpoint, now, part=Part.SYSTEM, by=by, channel="call_centre", code="closed")
    return talk


def call_back(
    records: Records,
    touchpoint: Touchpoint,
    *,
    by: str,
    channel: str,
    now: int,
    policy: Policy,
    phone: str | None = None,
    text: str = "",
) -> Case:
    """Somebody calls by a time that the owner reads at once; asked again, the promise that stands.

    Raises ConflictError when the matter is over, InvalidError when there is no number to call.
    """
    pending = _promised(records, touchpoint)
    if pending is not None:
        return pending
    if touchpoint.state not in LIVE:
        raise ConflictError(f"This matter is {touchpoint.state}.", touchpoint)
    number = (phone or records.owners.get(touchpoint.owner).phone or "").strip()
    if not number:
        raise InvalidError("phone: say which number to call; none is known.")
    talk = records.conversations.find(touchpoint.id) or _new(touchpoint, now)
    records.conversations.put(replace(talk, waiting_since=None))
    promised = cases.open_case(
        records,
        kind=CaseKind.CALL_ME,
        owner=touchpoint.owner,
        device=touchpoint.device,
        touchpoint=touchpoint.id,
        text=text,
        due_at=next_call(records, now, policy),
        data={"phone": number},
        now=now,
        policy=policy,
        by=by,
    )
    about: dict[str, Any] = {"code": "callback", "until": promised.due_at, "phone": number}
    _write(records, touchpoint, now, part=Part.SYSTEM, by=by, channel=channel, **about)
    return promised


# --- who is on the telephone --------------------------------------------------------------------


def make_code(
    records: Records, touchpoint: Touchpoint, now: int, random: Callable[[int], bytes]
) -> tuple[str, int]:
    """(a code that the owner reads out to an agent, until when it is good); the one before is void."""
    code = str(int.from_bytes(random(8), "big") % 10**CODE_DIGITS).zfill(CODE_DIGITS)
    talk = records.conversations.find(touchpoint.id) or _new(touchpoint, now)
    until = now + CODE_MS
    records.conversations.put(
        replace(talk, code_hash=_hash(touchpoint, code), code_until=until, code_tries=0)
    )
    return code, until


def _hash(touchpoint: Touchpoint, code: str) -> str:
    return hashlib.sha256(f"{touchpoint.id}:{code}".encode()).hexdigest()


def verify(
    records: Records,
    touchpoint: Touchpoint,
    agent: str,
    now: int,
    *,
    code: str | None = None,
    asked: tuple[str, ...] = (),
) -> bool:
    """The caller is known to be the owner, by the code that they read out, or because they knew what they
    were asked (two things of ASKED that are known here); the owner's ledger says by what. False for a code
    that is not good: it is counted, and after five nobody gets in with that code. Raises InvalidError."""
    talk = records.conversations.find(touchpoint.id) or _new(touchpoint, now)
    if code is not None:
        if not _fits(talk, touchpoint, code, now):
            records.conversations.put(replace(talk, code_tries=talk.code_tries + 1))
            return False
        by = "code"
        talk = replace(talk, code_until=None)
    else:
        known = tuple(dict.fromkeys(one for one in asked if one in ASKED))
        if len(known) < ASKED_LEAST or len(known) < len(asked):
            raise InvalidError(f"asked: two or more of {', '.join(ASKED)}.")
        if missing := [one for one in known if one not in facts(records, touchpoint)]:
            raise InvalidError(
                f"asked: {', '.join(missing)} of theirs is not known here; ask something else."
            )
        by = ", ".join(known)
    records.conversations.put(replace(talk, agent=agent, verified_at=now, verified_by=by))
    about: dict[str, Any] = {"code": "verified", "how": by}
    _write(records, touchpoint, now, part=Part.SYSTEM, by=agent, channel="call_centre", **about)
    outgoing.write_line(records, "talk_verified", now, touchpoint=touchpoint, by=agent, how=by)
    return True


def facts(records: Records, touchpoint: Touchpoint) -> dict[str, str]:
    """What a caller can be asked, of what is known of the owner and their product, with what is right."""
    owner, device = records.owners.get(touchpoint.owner), records.devices.find(touchpoint.device)
    known = {
        "plate": device.plate if device else None,
        "serial": device.serial if device else None,
        "address": owner.address,
        "phone": owner.phone,
        "email": owner.email,
        "purchased": device.purchased if device else None,
    }
    return {one: known[one] or "" for one in ASKED if known[one]}


def known_by(records: Records, touchpoint: Touchpoint, code: str, now: int) -> bool:
    """Whether it is by this code that the caller is known already: what is sent once more, after an answer
    that was refused or not heard, says the code once more."""
    talk = records.conversations.find(touchpoint.id)
    return (
        talk is not None
        and talk.verified(now)
        and talk.verified_by == "code"
        and talk.code_until is None
        and _same(talk, touchpoint, code)
    )


def _fits(talk: Conversation, touchpoint: Touchpoint, code: str, now: int) -> bool:
    good = (talk.code_until or 0) > now and talk.code_tries < CODE_TRIES
    return good and _same(talk, touchpoint, code)


def _same(talk: Conversation, touchpoint: Touchpoint, code: str) -> bool:
    return hmac.compare_digest(talk.code_hash or "", _hash(touchpoint, code.strip()))


# --- what agents answer -------------------------------------------------------------------------


def check_verified(records: Records, touchpoint: Touchpoint, now: int) -> Conversation:
    """The conversation whose caller is known to be the owner. Raises UnverifiedError."""
    talk = records.conversations.find(touchpoint.id)
    if talk is None or not talk.verified(now):
        raise UnverifiedError(
            "Nobody has made sure that it is the owner who calls. Verify the caller first, by the code that "
            "they read out or by two things that they know.",
            touchpoint.id,
        )
    return talk


def answer_for(
    records: Records,
    touchpoint: Touchpoint,
    chosen: Answer,
    agent: str,
    now: int,
    policy: Policy,
    *,
    for_product: bool = False,
) -> Touchpoint:
    """Somebody answers for an owner; it is marked as theirs, and the owner hears of it. Raises what
    `respond.answer` raises. Whether they had to verify the caller first is for who lets them in."""
    said = replace(chosen, channel="call_centre", by=agent, at=now)
    after = respond.answer(records, touchpoint.id, said, now, policy, for_product=for_product)
    if after.answer is None or after.answer == touchpoint.answer:
        return after  # other times or another workshop, or the same once more: nothing to take back
    action = said.action.partition(":")[0]
    about: dict[str, Any] = {"code": "answered_for", "action": action, "until": now + UNDO_MS}
    _say_unverified(records, after, agent, now)
    _confirm(records, after, agent, now, policy, about)
    return after


def _say_unverified(records: Records, touchpoint: Touchpoint, agent: str, now: int) -> None:
    """A system need not say how it knows that it was the owner; then the owner's ledger says that."""
    talk = records.conversations.find(touchpoint.id)
    if talk is None or not talk.verified(now):
        outgoing.write_line(records, "answered_unverified", now, touchpoint=touchpoint, by=agent)


def _confirm(
    records: Records, touchpoint: Touchpoint, agent: str, now: int, policy: Policy, about: Mapping[str, Any]
) -> None:
    """A line of the conversation that the owner is told of."""
    line = _write(records, touchpoint, now, part=Part.SYSTEM, by=agent, channel="call_centre", **about)
    if not records.owners.subscriptions(touchpoint.owner):  # a push has told the others
        telling.tell(records, touchpoint.owner, afterwords.SAID, now, policy, touchpoint=None, line=line.id)


def changed_for(records: Records, touchpoint: Touchpoint, agent: str, now: int, policy: Policy) -> None:
    """Somebody has changed something else for an owner: a visit, its extra work, the day of return. It stands
    in the owner's ledger, and they hear of it."""
    outgoing.write_line(records, "answered_for_you", now, touchpoint=touchpoint, by=agent)
    _say_unverified(records, touchpoint, agent, now)
    line = _write(
        records, touchpoint, now, part=Part.SYSTEM, by=agent, channel="call_centre", code="changed_for"
    )
    telling.tell(
        records, touchpoint.owner, afterwords.SAID, now, policy, touchpoint=touchpoint.id, line=line.id
    )


def answer_in_app(
    records: Records,
    touchpoint: Touchpoint,
    chosen: Answer,
    system: str,
    now: int,
    policy: Policy,
    *,
    for_product: bool = False,
) -> Touchpoint:
    """The owner's own answer, given in an app of the manufacturer's; their ledger says which system told us.
    Raises what `respond.answer` raises."""
    said = replace(chosen, channel="api", by=touchpoint.owner, at=now)
    after = respond.answer(records, touchpoint.id, said, now, policy, for_product=for_product)
    if after.answer != touchpoint.answer:
        outgoing.write_line(records, "answered_in_app", now, touchpoint=after, by=system)
    return after


def undo_until(records: Records, touchpoint: Touchpoint, now: int) -> int | None:
    """Until when its owner may take back what somebody answered for them; None: there is nothing to."""
    answer = touchpoint.answer
    if answer is None or answer.channel != "call_centre" or answer.by == touchpoint.owner:
        return None
    if touchpoint.state not in (*LIVE, State.CLOSED):
        return None
    until = answer.at + UNDO_MS
    return until if until > now and not _undone(records, touchpoint) else None


def undo(records: Records, touchpoint: Touchpoint, by: str, now: int, policy: Policy) -> Touchpoint:
    """The owner takes back what an agent answered for them; gives what is open now, or the touchpoint as it
    stands where nothing is left of the matter. Raises ConflictError."""
    if undo_until(records, touchpoint, now) is None:
        raise ConflictError("There is nothing here that somebody else answered lately.", touchpoint)
    assert touchpoint.answer is not None  # `undo_until` has seen to it
    outgoing.write_line(records, "answer_undone", now, touchpoint=touchpoint, by=by)
    _write(records, touchpoint, now, part=Part.SYSTEM, by=by, channel="page", code="undone")
    if touchpoint.state is State.BOOKED:
        return _unbooked(records, touchpoint, now, policy)
    if touchpoint.answer.action == "never":
        wanted = outgoing.wishes(records, touchpoint.owner, policy)
        records.owners.prefer(touchpoint.owner, wanted.unmuting(touchpoint.rule))
    return returning.take_back(records, touchpoint, now, policy)


def _undone(records: Records, touchpoint: Touchpoint) -> bool:
    lines = records.conversations.lines(touchpoint.id, limit=5_000)
    answered_at = touchpoint.answer.at if touchpoint.answer else 0
    return any(line.code == "undone" and line.at >= answered_at for line in lines)


def _unbooked(records: Records, touchpoint: Touchpoint, now: int, policy: Policy) -> Touchpoint:
    for standing in records.workshops.appointments(touchpoint=touchpoint.id):
        if standing.state not in ENDED:
            book.cancel(records, standing.id, now, policy, by="owner")
    return records.touchpoints.get(touchpoint.id)
