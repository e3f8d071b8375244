"""The conversation about a matter: on the owner's phone, at the call centre, asked for from a parked car."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from types import SimpleNamespace as Shown
from typing import Any

from aiohttp import web

from gateway.domain.access import Role
from gateway.domain.case import CaseKind
from gateway.domain.conversation import VERIFIED_MS, Offer, Part
from gateway.domain.errors import ConflictError, InvalidError, NotAllowedError, SlotTakenError
from gateway.domain.touchpoint import LIVE, Touchpoint
from gateway.flow import book, conversation
from gateway.ports import Records
from gateway.web import answering, rights, talking, views
from gateway.web.access import allow
from gateway.web.owner_page import open_page
from gateway.web.pages_operator import Desk, open_desk, operator_only
from gateway.web.render import see
from gateway.web.words import Words

routes = web.RouteTableDef()
owner_only = allow(Role.OWNER)
LINES = 200
ACTIONS = ("noted", "not_now", "already_done", "call_me")


# --- the owner ------------------------------------------------------------------------------------


@routes.get("/me/touchpoints/{id}/talk")
@owner_only
async def talk(request: web.Request) -> web.Response:
    """What was said, and what is offered now: somebody, or a call by a promised time."""
    at = await open_page(request)
    view = await at.read(lambda records: _view(records, at, request.match_info["id"]))
    return at.answer("owner_talk.html", "now", view)


@routes.post("/me/touchpoints/{id}/talk")
@owner_only
async def say(request: web.Request) -> web.Response:
    """A line of the owner's; an empty one asks to talk."""
    at, form = await open_page(request), await request.post()

    def work(records: Records, found: Touchpoint) -> None:
        about: dict[str, Any] = {"by": at.owner_id, "channel": "page"}
        text, policy = str(form.get("text", "")), at.context.policy
        conversation.say(records, found, text, part=Part.OWNER, now=at.now, policy=policy, **about)

    return await _then(at, request, work, "talk_said")


@routes.post("/me/touchpoints/{id}/talk/callback")
@owner_only
async def call_back(request: web.Request) -> web.Response:
    """The owner asks to be called."""
    at, form = await open_page(request), await request.post()

    def work(records: Records, found: Touchpoint) -> None:
        about: dict[str, Any] = {"by": at.owner_id, "channel": "page", "phone": str(form.get("phone", ""))}
        conversation.call_back(records, found, now=at.now, policy=at.context.policy, **about)

    return await _then(at, request, work, "talk_promised")


@routes.post("/me/touchpoints/{id}/talk/undo")
@owner_only
async def undo(request: web.Request) -> web.Response:
    """The owner takes back what was answered for them."""
    at, wanted = await open_page(request), request.match_info["id"]

    def work(records: Records) -> Touchpoint:
        found = rights.answerable(records, at.who, wanted)
        return conversation.undo(records, found, at.owner_id, at.now, at.context.policy)

    try:
        open_now = await at.write(work)
    except ConflictError:
        return see(f"/me/touchpoints/{wanted}/talk", "not_possible")
    return see(f"/me/touchpoints/{open_now.id}", "talk_undone")


@routes.post("/me/touchpoints/{id}/talk/code")
@owner_only
async def make_code(request: web.Request) -> web.Response:
    """A code that the owner reads out on the telephone."""
    at, wanted = await open_page(request), request.match_info["id"]

    def work(records: Records) -> tuple[str, int]:
        found = rights.answerable(records, at.who, wanted)
        return conversation.make_code(records, found, at.now, secrets.token_bytes)

    code, _ = await at.write(work)
    view = await at.read(lambda records: _view(records, at, wanted))
    view.code = code  # shown in this answer alone: an address would keep it
    return at.answer("owner_talk.html", "now", view)


@routes.post("/display/{device}/talk")
@owner_only
async def ask_from_display(request: web.Request) -> web.Response:
    """Somebody in the parked car would like to talk; they go on where they can type or speak."""
    at, form, wanted = await open_page(request), await request.post(), request.match_info["device"]

    def work(records: Records) -> None:
        found = rights.answerable(records, at.who, str(form.get("touchpoint", "")))
        policy = at.context.policy
        if found.device != wanted or not talking.asks(records, found, at.now, policy):
            raise ConflictError("Nobody is there, or it moves.", found)
        about: dict[str, Any] = {"by": at.owner_id, "channel": "display"}
        conversation.say(records, found, "", part=Part.OWNER, now=at.now, policy=policy, **about)

    with contextlib.suppress(ConflictError):
        await at.write(work)
    return see(f"/display/{wanted}")


async def _then(
    at: Any,
    request: web.Request,
    work: Callable[[Records, Touchpoint], object],
    said: str,
    back: str | None = None,
) -> web.Response:
    wanted = request.match_info["id"]
    back = back or f"/{'operator' if at.who.staff else 'me'}/touchpoints/{wanted}/talk"
    try:
        await at.write(lambda records: work(records, rights.answerable(records, at.who, wanted)))
    except (ConflictError, InvalidError):
        return see(back, "not_possible")
    except NotAllowedError:
        return see(back, "talk_verify_first")
    return see(back, said)


# --- the call centre ------------------------------------------------------------------------------


@routes.get("/operator/desk")
@operator_only
async def desk(request: web.Request) -> web.Response:
    """Who is there, who waits for a word, and whom a call is promised, the next one first."""
    at = await open_desk(request)
    view = await at.read(lambda records: _desk(records, at))
    return at.answer("operator_desk.html", "desk", view)


def _desk(records: Records, at: Desk) -> Shown:
    present = records.conversations.present(at.now)
    waiting = records.conversations.waiting()
    calls = sorted(records.cases.pending(100, kind=CaseKind.CALL_ME), key=lambda case: case.due_at)
    for owner in {*(one.owner for one in waiting), *(one.owner for one in calls)}:
        at.who.saw(owner, "matters", "list")
    return Shown(
        here=any(one.name == at.who.name for one in present),
        present=[one.name.partition(":")[2] or one.name for one in present],
        waiting=[
            Shown(
                href=f"/operator/touchpoints/{one.touchpoint}/talk",
                owner=records.owners.get(one.owner).name,
                since=at.words.when(one.waiting_since or at.now, "time"),
            )
            for one in waiting
        ],
        calls=[
            Shown(
                href=f"/operator/touchpoints/{one.touchpoint}/talk"
                if one.touchpoint
                else f"/operator/cases/{one.id}",
                owner=records.owners.get(one.owner).name,
                phone=one.data.get("phone") or records.owners.get(one.owner).phone or "",
                until=_moment(at.words, one.due_at),
                late=one.overdue(at.now),
            )
            for one in calls
        ],
    )


@routes.post("/operator/desk")
@operator_only
async def be_there(request: web.Request) -> web.Response:
    """Somebody is there for owners, or is not any more."""
    at, form = await open_desk(request), await request.post()

    def work(records: Records) -> None:
        if form.get("here"):
            conversation.here(records, at.who.name, at.now)
        else:
            conversation.leave(records, at.who.name)

    await at.write(work)
    return see("/operator/desk")


@routes.get("/operator/touchpoints/{id}/talk")
@operator_only
async def agent_talk(request: web.Request) -> web.Response:
    """The same conversation, with what an agent may do."""
    at = await open_desk(request)
    wanted = request.match_info["id"]
    view = await at.read(lambda records: _view(records, at, wanted))
    return at.answer("operator_talk.html", "desk", view)


@routes.post("/operator/touchpoints/{id}/talk")
@operator_only
async def agent_says(request: web.Request) -> web.Response:
    """A line of an agent's; it reaches the owner's phone, too."""
    at, form = await open_desk(request), await request.post()

    def work(records: Records, found: Touchpoint) -> None:
        about: dict[str, Any] = {"by": at.who.name, "channel": "call_centre"}
        text, policy = str(form.get("text", "")), at.context.policy
        conversation.say(records, found, text, part=Part.AGENT, now=at.now, policy=policy, **about)

    return await _then(at, request, work, "talk_said")


@routes.post("/operator/touchpoints/{id}/talk/verify")
@operator_only
async def verify(request: web.Request) -> web.Response:
    """How the caller is known."""
    at, form = await open_desk(request), await request.post()
    code, asked = str(form.get("code", "")).strip(), tuple(map(str, form.getall("asked", [])))
    wanted = request.match_info["id"]

    def work(records: Records) -> bool:
        found = rights.answerable(records, at.who, wanted)
        return conversation.verify(records, found, at.who.name, at.now, code=code or None, asked=asked)

    back = _back(request)
    try:
        return see(back, "talk_verified" if await at.write(work) else "talk_wrong_code")
    except InvalidError:
        return see(back, "talk_ask_two")


@routes.post("/operator/touchpoints/{id}/talk/answer")
@operator_only
async def agent_answers(request: web.Request) -> web.Response:
    """An agent answers for an owner who was verified."""
    at, form = await open_desk(request), await request.post()
    chosen = answering.chosen(form, channel="call_centre", at=at.now, by=at.who.name)
    policy, back = at.context.policy, _back(request)
    said = {"other_time": "times", "other_workshop": "workshop"}.get(chosen.action, "talk_answered")

    def work(records: Records, found: Touchpoint) -> None:
        conversation.check_verified(records, found, at.now)
        conversation.answer_for(
            records, found, chosen, at.who.name, at.now, policy, for_product=bool(form.get("for_product"))
        )

    try:
        answered = await _then(at, request, work, said, back)
    except SlotTakenError:
        wanted = request.match_info["id"]
        await at.write(lambda records: book.refresh(records, wanted, at.now, policy))
        return see(back, "taken")
    if at.context.announce is not None:
        await at.context.announce()
    return answered


def _back(request: web.Request) -> str:
    """To the page that the form stood on: the matter's, or the conversation."""
    there = f"/operator/touchpoints/{request.match_info['id']}"
    return there if request.query.get("from") == "matter" else f"{there}/talk"


def caller_view(records: Records, found: Touchpoint, words: Words, now: int) -> Shown:
    """Who calls: verified, or what an agent can ask them, with what is right."""
    held = records.conversations.find(found.id)
    verified = held is not None and held.verified(now)
    known = conversation.facts(records, found)
    return Shown(
        verified=verified,
        by=_known_by(held.verified_by or "", words) if held is not None and verified else "",
        until=words.when((held.verified_at or 0) + VERIFIED_MS, "time") if held and verified else "",
        asked=[Shown(id=one, right=_right(one, known[one], words)) for one in known],
        enough=len(known) >= conversation.ASKED_LEAST,
    )


def _right(fact: str, value: str, words: Words) -> str:
    """What the caller should say; a day as it is spoken."""
    return views.day_words(value, words) if fact == "purchased" else value


def _known_by(how: str, words: Words) -> str:
    """By what the caller is known."""
    if words.has(f"talk.by_{how}"):
        return words(f"talk.by_{how}")
    asked = [words(f"talk.fact_{one}") for one in how.split(", ") if words.has(f"talk.fact_{one}")]
    return words("talk.by_asked", facts=words.texts.listed(words.language, asked))


# --- both -----------------------------------------------------------------------------------------


def _moment(words: Words, at: int) -> str:
    return f"{words.when(at, 'medium')}, {words.when(at, 'time')}"


def _view(records: Records, at: Any, wanted: str) -> Shown:
    found = rights.touchpoint(records, at.who, wanted)
    words: Words = at.words
    offered = conversation.offered(records, found, at.now, at.context.policy)
    held = records.conversations.find(wanted)
    owner = records.owners.get(found.owner)
    lines = records.conversations.lines(wanted, limit=5_000)[-LINES:]
    matter = views.load_matter(records, found, at.context)
    undo_until = conversation.undo_until(records, found, at.now)
    said_by = {
        Part.OWNER: words("talk.you") if not at.who.staff else owner.name,
        Part.AGENT: words("talk.team"),
        Part.SYSTEM: "",
    }
    return Shown(
        href=f"/{'operator' if at.who.staff else 'me'}/touchpoints/{wanted}",
        title=views.matter(matter, at.context, words, at.now).title,
        owner=owner.name,
        phone=owner.phone or "",
        lines=[
            Shown(
                who=said_by[line.part],
                mine=(line.part is Part.AGENT) == at.who.staff and line.part is not Part.SYSTEM,
                text=talking.worded(line, at.context.texts, words.language, owner.time_zone),
                when=words.when(line.at, "time"),
            )
            for line in lines
        ],
        talks=offered.offer is Offer.TALK or (held is not None and held.waiting_since is not None),
        calls=offered.offer is Offer.CALLBACK,
        promised=_moment(words, offered.promised_at) if offered.promised_at else "",
        waits=offered.offer is Offer.WAITS,
        caller=caller_view(records, found, words, at.now) if at.who.staff else None,
        undo=_moment(words, undo_until) if undo_until and not at.who.staff else "",
        open=found.state in LIVE and found.answer is None,
        actions=ACTIONS,
        slots=[Shown(id=slot.id, text=_moment(words, slot.start)) for slot in found.slots],
        code="",
    )
