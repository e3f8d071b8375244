"""After-sales, the audit log: on one day, who looked at whose data and why, who at work signed in and how,
and which rules came to hold."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from types import SimpleNamespace as Shown
from urllib.parse import quote

from aiohttp import web

from gateway.domain import moments
from gateway.domain.access import Token
from gateway.domain.errors import InvalidError, NotFoundError
from gateway.domain.household import Look
from gateway.domain.moments import DAY_MS
from gateway.domain.rule_sets import Activation
from gateway.ports import Records
from gateway.web.pages_operator import Desk, open_desk, operator_only
from gateway.web.pages_rules import let_in_by
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

    def work(records: Records) -> Shown:
        looks = records.people.looks_of_day(number, limit=MOST)
        came = records.tokens.signed_in(number * DAY_MS, (number + 1) * DAY_MS, limit=MOST)
        return Shown(
            looks=looks,
            made=[a for a in records.rule_sets.history(ACTIVATIONS) if a.at // DAY_MS == number],
            names={look.owner: _name(records, look.owner) for look in looks},
            came=[(token, _account(records, token)) for token in came],
        )

    found = await at.read(work)
    rows = [
        *(_look(look, found.names, at.words) for look in found.looks),
        *(_activation(one, at.words) for one in found.made),
        *(_came(token, who, at.words) for token, who in found.came),
    ]
    view = Shown(
        title=at.words.when(moments.instants(day, 12 * 60, ZONE)[0], "full"),
        before=f"/operator/audit?day={day - timedelta(days=1)}",
        after=f"/operator/audit?day={day + timedelta(days=1)}" if day < today else None,
        rows=sorted(rows, key=lambda row: -row.at),
        more=MOST in (len(found.looks), len(found.came)),
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


def _account(records: Records, token: Token) -> str:
    """Who signed in: whose account it is, else what the token was made for."""
    account = records.accounts.find(token.account) if token.account else None
    return account.called if account is not None else token.subject or ""


def _came(token: Token, who: str, words: Words) -> Shown:
    way = words(f"audit.way.{token.way}") if token.way else ""
    return Shown(
        at=token.created,
        time=words.when(token.created, "clock"),
        who=who or words(f"audit.role.{token.role}"),
        role=words(f"audit.role.{token.role}"),
        what=words("audit.signed_in", way=way),
        about=token.browser or "",
        owner="",
        owner_url=None,
        why="",
    )


def _why(why: str, words: Words) -> str:
    known = f"ledger.why.{why}"
    return words.texts.say(words.language, known) if why != "said" and words.texts.has(known) else why


def _activation(one: Activation, words: Words) -> Shown:
    held = words("audit.refused" if one.refused else "audit.held", count=one.rules or len(one.faults))
    return Shown(
        at=one.at,
        time=words.when(one.at, "clock"),
        who=let_in_by(one.by, words),
        role="",
        what=held,
        about=one.rule_set[:12],
        owner="",
        owner_url=None,
        why="",
    )
