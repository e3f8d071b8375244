"""Coming in and going out: a token pasted once becomes a session of the browser.

The cookie holds a secret of its own, stored hashed like every other; the session ends with the
token it was opened with. In the demo one may enter as anybody of the cast.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping

from aiohttp import web

from gateway.domain.access import Role, Token, issue_token, secret_hash
from gateway.ports import Records
from gateway.web import render
from gateway.web.access import (
    PAGE_ROLES,
    Gatekeeper,
    cookie_name,
    end_session,
    local_path,
    public,
    set_session,
)
from gateway.web.context import CONTEXT, Context

SESSION_MS = 30 * 86_400_000
DEMO_SESSION_MS = 3_650 * 86_400_000
"""played time runs fast: a session must not end in the middle of the story"""
HOMES: Mapping[Role, str] = {Role.OWNER: "/me", Role.WORKSHOP: "/workshop", Role.OPERATOR: "/operator"}

KEEPER: web.AppKey[Gatekeeper] = web.AppKey("gatekeeper", Gatekeeper)

routes = web.RouteTableDef()


@routes.get("/sign-in")
@public
async def sign_in_page(request: web.Request) -> web.Response:
    """The form for a token."""
    return await _form(request, local_path(request.query.get("next")), None)


@routes.post("/sign-in")
@public
async def sign_in(request: web.Request) -> web.StreamResponse:
    """Take a token once, and give a session for it."""
    form = await request.post()
    context, secret = request.app[CONTEXT], str(form.get("token", "")).strip()
    now = context.clock.now()
    opened = await context.database.write(lambda records: open_session(records, secret, now))
    wanted = local_path(str(form.get("next", "")))
    if opened is None:
        return await _form(request, wanted, "unknown")
    token, cookie = opened
    response = _see(wanted if wanted != "/" else HOMES[token.role])
    set_session(response, token, cookie, https=request.app[KEEPER].https, now=now)
    return response


@routes.post("/sign-out")
@public
async def sign_out(request: web.Request) -> web.StreamResponse:
    """End the sessions of this browser, or only the one of the role `as`."""
    form = await request.post()
    keeper, context = request.app[KEEPER], request.app[CONTEXT]
    held = {role: request.cookies.get(cookie_name(role, https=keeper.https), "") for role in PAGE_ROLES}
    ended = {role: secret for role, secret in held.items() if secret and form.get("as", role) == role}
    now, response = context.clock.now(), _see("/")
    await context.database.write(lambda records: close_sessions(records, ended.values(), now))
    for role, secret in ended.items():
        keeper.forget(secret)
        end_session(response, role, https=keeper.https)
    return response


@routes.post("/enter")
@public
async def enter(request: web.Request) -> web.StreamResponse:
    """In the demo: come in as somebody of the cast, or as all of them at once."""
    context, https = request.app[CONTEXT], request.app[KEEPER].https
    if context.demo is None:
        raise web.HTTPNotFound
    form = await request.post()
    name = str(form.get("as", ""))
    sessions = await enter_as(context, name)
    response = _see(local_path(str(form.get("next", "")), _home(context, name)))
    for token, secret in sessions:
        set_session(response, token, secret, https=https, now=context.clock.now())
    return response


async def enter_as(context: Context, name: str) -> list[tuple[Token, str]]:
    """Sessions (for `set_session`) of the demo's cast: owner, car, appliance, workshop, operator, all."""
    chosen, now = cast_of(context, name), context.clock.now()
    return await context.database.write(lambda records: [_play(records, *one, now) for one in chosen])


def open_session(records: Records, secret: str, now: int) -> tuple[Token, str] | None:
    """A session for the bearer of `secret`; None for a secret that opens no pages."""
    token = records.tokens.by_hash(secret_hash(secret))
    if token is None or not token.live(now) or token.role not in PAGE_ROLES or token.opened_by:
        return None
    session, cookie = issue_token(
        token.role, token.subject, ttl_ms=SESSION_MS, now=now, random=secrets.token_bytes, opened_by=token
    )
    records.tokens.add(session)
    return session, cookie


def close_sessions(records: Records, cookies: Iterable[str], now: int) -> None:
    """Revoke the sessions behind these cookies."""
    for secret in cookies:
        token = records.tokens.by_hash(secret_hash(secret))
        if token is not None:
            records.tokens.revoke(token.id, now)


def cast_of(context: Context, name: str) -> list[tuple[Role, str | None]]:
    """Who is meant by a name on the demo's start page; the car's display is its owner's."""
    cast = context.demo.state()["cast"] if context.demo else {}
    owner = (Role.OWNER, cast.get("owner"))
    workshop = (Role.WORKSHOP, cast.get("workshop"))
    operator = (Role.OPERATOR, None)
    known: dict[str, list[tuple[Role, str | None]]] = {
        "owner": [owner],
        "car": [owner],
        "appliance": [owner],
        "workshop": [workshop],
        "operator": [operator],
        "all": [owner, workshop, operator],
    }
    if name not in known:
        raise web.HTTPBadRequest(reason=f"as is one of {', '.join(known)}")
    return known[name]


def _home(context: Context, name: str) -> str:
    cast = context.demo.state()["cast"] if context.demo else {}
    if name in ("car", "appliance") and cast.get(name):
        return f"/display/{cast[name]}"
    return {str(role): home for role, home in HOMES.items()}.get(name, "/")


def _play(records: Records, role: Role, subject: str | None, now: int) -> tuple[Token, str]:
    token, secret = issue_token(role, subject, ttl_ms=DEMO_SESSION_MS, now=now, random=secrets.token_bytes)
    records.tokens.add(token)
    return token, secret


def _see(path: str) -> web.Response:
    return web.Response(status=303, headers={"Location": path, "Cache-Control": "no-store"})


async def _form(request: web.Request, wanted: str, fault: str | None) -> web.Response:
    words = await render.words_for(request)
    error = words(f"sign_in.{fault}") if fault else None
    status = 422 if fault else 200
    return render.page(request, "sign_in.html", words, status=status, next=wanted, error=error)
