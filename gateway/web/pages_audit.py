"""After-sales, the audit log: on one day, who looked at whose data and why, and which rules came to hold."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from types import SimpleNamespace as Shown
from urllib.parse import quote

from aiohttp import web

from gateway.domain import moments
from gateway.domain.errors import InvalidError, NotFoundError
from gateway.domain.household import Look
from gateway.domain.moments import DAY_MS
from gateway.domain.rule_sets import Activation
from gateway.ports import Records
from gateway.web.pages_operator import Desk, open_desk, operator_only
from gateway.web.render import ZONE
from gateway.web.words import Words

routes = web.RouteTableDef()

MOST = 300
ACTIVATIONS = 200
EPOCH = date(1970, 1, 1)


@routes.get("/operator/audit")
@operator_only
async def audit(request: web.Request) -> web.Response:
    """One day, the newest entries first; days are those of UTC, as they are kept."""
    at = await open_desk(request)
    today = EPOCH + timedelta(days=at.now // DAY_MS)
    day = _day(request.query.get("day"), today)
    number = (day - EPOCH).days

    def work(records: Records) -> tuple[list[Look], list[Activation], Mapping[str, str]]:
        looks = records.people.looks_of_day(number, limit=MOST)
        made = [a for a in records.rule_sets.history(ACTIVATIONS) if a.at // DAY_MS == number]
        return looks, made, {look.owner: _name(records, look.owner) for look in looks}

    looks, made, names = await at.read(work)
    rows = [_look(look, names, at.words) for look in looks] + [_activation(one, at.words) for one in made]
    view = Shown(
        title=at.words.when(moments.instants(day, 12 * 60, ZONE)[0], "full"),
        before=f"/operator/audit?day={day - timedelta(days=1)}",
        after=f"/operator/audit?day={day + timedelta(days=1)}" if day < today else None,
        rows=sorted(rows, key=lambda row: -row.at),
        more=len(looks) == MOST,
    )
    return _answer(at, view)


def _answer(at: Desk, view: Shown) -> web.Response:
    return at.answer("operator_audit.html", "audit", view)


def _day(wanted: str | None, today: date) -> date:
    try:
        return date.fromisoformat(wanted) if wanted else today
    except ValueError as error:
        raise InvalidError(f"day: {wanted!r} is no date; write it as 2026-12-03.") from error


def _name(records: Records, owner: str) -> str:
    try:
        return records.owners.get(owner).name
    except NotFoundError:
        return owner


def _look(look: Look, names: Mapping[str, str], words: Words) -> Shown:
    kind, _, thing = look.what.partition(":")
    if kind == "reason":  # of a session, whose key nobody needs to see
        thing = ""
    said = f"audit.thing.{kind}"
    return Shown(
        at=look.at,
        time=words.when(look.at, "clock"),
        who=look.by,
        role=words(f"audit.role.{look.role}") if words.has(f"audit.role.{look.role}") else look.role,
        what=words(said) if words.has(said) else kind,
        about=thing,
        owner=names[look.owner],
        owner_url=f"/operator/owners/{quote(look.owner)}",
        why=_why(look.why, words),
    )


def _why(why: str, words: Words) -> str:
    known = f"ledger.why.{why}"
    return words.texts.say(words.language, known) if why != "said" and words.texts.has(known) else why


def _activation(one: Activation, words: Words) -> Shown:
    held = words("audit.refused" if one.refused else "audit.held", count=one.rules or len(one.faults))
    return Shown(
        at=one.at,
        time=words.when(one.at, "clock"),
        who=one.by,
        role="",
        what=held,
        about=one.rule_set[:12],
        owner="",
        owner_url=None,
        why="",
    )
