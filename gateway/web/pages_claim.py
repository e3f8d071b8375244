"""A product and its next owner: handing it on, and taking it over by the code that its display shows.

Everything can be done without a script: forms post, and are answered by going on to a page. Who is nobody's
owner yet gives a name with the code and is signed in with it, as by an invitation.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace as Shown
from typing import Any
from urllib.parse import quote

from aiohttp import web

from gateway.domain.access import Role, Token, issue_token
from gateway.domain.accounts import plain_code
from gateway.domain.errors import ConflictError, GoneError, NotFoundError
from gateway.domain.owner import Owner
from gateway.flow import agree, claiming, outgoing
from gateway.flow.claim_words import address, spaced
from gateway.ports import Records
from gateway.web import rights, views
from gateway.web.access import allow, public, set_session
from gateway.web.context import CONTEXT, Context
from gateway.web.owner_page import OwnerPage, open_page
from gateway.web.pages_people import me_of, newcomer_of, purpose_shown
from gateway.web.render import page, see, words_for
from gateway.web.sign_in import KEEPER, SESSION_MS
from gateway.web.words import Words

routes = web.RouteTableDef()
owner_only = allow(Role.OWNER)

WORKSHOPS_MOST = 200
FAULTS = {NotFoundError: "unknown", GoneError: "gone", ConflictError: "mine"}


# --- handing it on --------------------------------------------------------------------------------


@routes.get("/me/products/{device}/move")
@owner_only
async def move(request: web.Request) -> web.Response:
    """What goes and what stays, and the code while one stands."""
    at, wanted = await open_page(request), request.match_info["device"]

    def work(records: Records) -> tuple[Any, Any]:
        return rights.own_device(records, at.who, wanted), claiming.waiting(records, wanted, at.now)

    device, standing = await at.read(work)
    base = f"/me/products/{quote(wanted)}"
    until = f"{at.words.when(standing.expires, 'full')}" if standing else ""
    view = Shown(
        title=device.title,
        back=base,
        url=f"{base}/move",
        code=spaced(standing.data["code"]) if standing else None,
        until=until,
        where=address(at.context.public_url),
    )
    return at.answer("owner_move.html", "products", view)


@routes.post("/me/products/{device}/move")
@owner_only
async def hand_on(request: web.Request) -> web.Response:
    """The display shows a code."""
    product = await _change(request, lambda r, at, device: claiming.offer(r, device, at.now, by=at.owner_id))
    return see(f"{product}/move", "offered")


@routes.post("/me/products/{device}/move/end")
@owner_only
async def keep(request: web.Request) -> web.Response:
    """It stays with its owner after all."""
    product = await _change(
        request, lambda r, at, device: claiming.call_back(r, device, at.now, by=at.owner_id)
    )
    return see(product, "kept")


@routes.post("/me/products/{device}/move/gone")
@owner_only
async def gone(request: web.Request) -> web.Response:
    """They do not have it any more."""
    await _change(
        request,
        lambda r, at, device: claiming.let_go(r, device, at.now, at.context.policy, by=at.owner_id),
    )
    return see("/me/products", "let_go")


async def _change(request: web.Request, happens: Callable[[Records, OwnerPage, str], object]) -> str:
    """Something happens to the product that is theirs; gives the address of its page."""
    at, wanted = await open_page(request), request.match_info["device"]

    def work(records: Records) -> None:
        rights.own_device(records, at.who, wanted)
        happens(records, at, wanted)

    await at.write(work)
    return f"/me/products/{quote(wanted)}"


# --- taking it over -------------------------------------------------------------------------------


@routes.get("/claim")
@public
async def claim(request: web.Request) -> web.Response:
    """Where the code is typed."""
    fault = request.query.get("said", "")
    return await _ask(request, request.query.get("code", ""), fault if fault in _FAULT_WORDS else None)


_FAULT_WORDS = (*FAULTS.values(), "often")


async def _ask(request: web.Request, code: str, fault: str | None) -> web.Response:
    words = await words_for(request)
    error = words(f"claim.{fault}") if fault else None
    view = Shown(code=plain_code(code), device=None, back="/me/products" if await me_of(request) else "/")
    return page(request, "claim.html", words, status=422 if fault else 200, view=view, error=error)


@routes.post("/claim")
@public
async def look(request: web.Request) -> web.StreamResponse:
    """Which product it is, and what comes with it; the same form again, sent with `take`, takes it over."""
    context, form, me = request.app[CONTEXT], await request.post(), await me_of(request)
    code, now = str(form.get("code", "")), context.clock.now()
    who = me or f"from {request.remote}"
    if not await context.database.write(lambda records: claiming.count_try(records, who, now)):
        return await _ask(request, code, "often")
    words = await words_for(request)
    try:
        if not form.get("take"):
            loaded = await context.database.read(lambda records: _load(records, code, me, context))
            return page(request, "claim.html", words, view=_view(loaded, code, words))
        return await _take(request, form, code, me, words)
    except (NotFoundError, GoneError, ConflictError) as error:
        return await _ask(request, code, FAULTS[type(error)])


def _load(records: Records, code: str, me: str | None, context: Context) -> Shown:
    device = claiming.behind(records, code, context.clock.now())
    if me is not None and device.owner == me:
        raise ConflictError("It is yours already.", device)
    return Shown(
        device=device,
        workshop=claiming.inherited(records, device, me),
        workshops=records.workshops.page(limit=WORKSHOPS_MOST),
        undecided=claiming.undecided(records, me, context.policy),
        me=records.owners.get(me) if me else None,
        wishes=outgoing.wishes(records, me, context.policy) if me else None,
    )


def _view(loaded: Shown, code: str, words: Words) -> Shown:
    device, wishes = loaded.device, loaded.wishes
    quiet = words("claim.quiet", start=wishes.quiet_from, end=wishes.quiet_to) if wishes else ""
    return Shown(
        code=spaced(plain_code(code)),
        back="/me/products",
        device=device,
        kind_icon=views.kind_icon(device.kind),
        title=words("claim.take_title", product=device.title),
        lead=words("claim.take_lead", model=device.model or device.kind.replace("_", " ")),
        me=words("people.take_signed_in", name=loaded.me.name) if loaded.me else None,
        workshop=loaded.workshop,
        workshops=[(w.id, w.name) for w in sorted(loaded.workshops, key=lambda w: w.name)],
        workshop_note=words(
            "claim.workshop_its" if loaded.workshop == device.workshop else "claim.workshop_same"
        )
        if loaded.workshop
        else "",
        plates=device.kind == "car",
        purposes=[purpose_shown(purpose, words) for purpose in loaded.undecided],
        quiet=quiet,
    )


async def _take(
    request: web.Request, form: Any, code: str, me: str | None, words: Words
) -> web.StreamResponse:
    context, now = request.app[CONTEXT], request.app[CONTEXT].clock.now()
    newcomer = None if me else newcomer_of(form, words, now)
    if me is None and newcomer is None:
        loaded = await context.database.read(lambda records: _load(records, code, me, context))
        return page(request, "claim.html", words, status=422, view=_view(loaded, code, words))
    granted = [str(purpose) for purpose in form.getall("agree", [])]

    def work(records: Records) -> tuple[str, tuple[Token, str] | None]:
        opened = _register(records, newcomer, code, now) if newcomer else None
        owner = me or (newcomer.id if newcomer else "")
        asked = claiming.undecided(records, owner, context.policy)
        records.accounts.forgive_try(f"claim:{me or f'from {request.remote}'}", every=True)
        taken = claiming.claim(
            records,
            code,
            owner,
            now,
            context.policy,
            workshop=str(form.get("workshop", "")) or None,
            plate=str(form.get("plate", "")),
        )
        by = agree.By(name=owner, source="owner")
        for purpose in asked:
            agree.agree(records, owner, purpose, purpose in granted, by, now, context.policy)
        return taken.id, opened

    device, opened = await context.database.write(work)
    if context.announce:
        await context.announce()
    response = see(f"/me/products/{quote(device)}", "claimed")
    if opened is not None:
        set_session(response, *opened, https=request.app[KEEPER].https, now=now)
    return response


def _register(records: Records, newcomer: Owner, code: str, now: int) -> tuple[Token, str]:
    """Somebody new, by the clock of who had it before, signed in by a session of their own."""
    former = claiming.behind(records, code, now).owner
    zone = records.owners.get(former).time_zone if former else newcomer.time_zone
    records.owners.add(replace(newcomer, time_zone=zone))
    token, cookie = issue_token(
        Role.OWNER, newcomer.id, ttl_ms=SESSION_MS, now=now, random=secrets.token_bytes
    )
    records.tokens.add(token)
    return token, cookie
