"""The web application: what is served, in which order a request passes, and how errors look."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from pathlib import Path

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway.web import (
    events,
    health,
    metrics,
    openapi,
    pages_account,
    pages_answer,
    pages_audit,
    pages_backtest,
    pages_booking,
    pages_calendars,
    pages_claim,
    pages_clusters,
    pages_deliveries,
    pages_display,
    pages_erase,
    pages_feedback,
    pages_firmware,
    pages_following,
    pages_journeys,
    pages_link,
    pages_me,
    pages_operator,
    pages_overview,
    pages_owner,
    pages_people,
    pages_product,
    pages_recalls,
    pages_rollouts,
    pages_rules,
    pages_start,
    pages_talk,
    pages_touchpoint,
    pages_visit,
    pages_visits,
    pages_week,
    pages_workshop,
    render,
    sign_in,
    sso,
)
from gateway.web.access import (
    Gatekeeper,
    Handler,
    access_middleware,
    by_secret,
    is_page,
    marked_routes,
    public,
)
from gateway.web.api import SUBJECTS
from gateway.web.context import CONTEXT, Context
from gateway.web.limits import Limiter, limits_middleware, say
from gateway.web.looking import looking
from gateway.web.problems import Problem, problem_of
from gateway.web.sweeping import Sweeper

PAGES = (
    pages_start,
    pages_deliveries,
    pages_owner,
    pages_touchpoint,
    pages_product,
    pages_visits,
    pages_me,
    pages_answer,
    pages_link,
    pages_talk,
    pages_people,
    pages_claim,
    pages_display,
    pages_erase,
    pages_calendars,
    pages_visit,
    pages_week,
    pages_booking,
    pages_workshop,
    pages_overview,
    pages_backtest,
    pages_clusters,
    pages_feedback,
    pages_journeys,
    pages_audit,
    pages_operator,
    pages_following,
    pages_recalls,
    pages_firmware,
    pages_rollouts,
    pages_rules,
    events,
    sign_in,
    sso,
    pages_account,
)
STATIC = Path(__file__).parent / "static"
BODY_MOST = 1024 * 1024
SLOW_S = 1.0
COMPRESS_FROM = 1_024
PACKED = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
"""Static files that are worth packing, and what they are."""
COMPRESSED = ("text/", "application/json", "application/problem+json", "image/svg+xml")

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; worker-src 'self'; frame-src 'self'; frame-ancestors 'self'; "
    "form-action 'self'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
HSTS = "max-age=31536000"
"""a year; without subdomains, which are not ours to decide about"""

log = structlog.get_logger()


def make_app(context: Context) -> web.Application:
    """Pages, API, health, metrics and firmware. Raises UnmarkedRouteError for a route without a mark."""
    app = _frame(context)
    for endpoints in SUBJECTS:
        app.add_routes(endpoints.routes())
    app.add_routes(openapi.routes)
    app.add_routes([web.get("/static/{path:.+}", static)])
    render.setup(app, context)
    for part in PAGES:
        app.add_routes(part.routes)
    if context.firmware is not None:
        app.add_subapp("/firmware", context.firmware)
    if context.ddi is not None:
        app.add_subapp(*context.ddi)
        app.add_routes([web.route("*", "/{tenant}/controller/v1/{rest:.*}", stranger)])
    app.on_cleanup.append(_close_sso)
    marked_routes(app)
    return app


async def _close_sso(app: web.Application) -> None:
    provider = app[CONTEXT].sso
    if provider is not None:
        await provider.close()


def make_ops_app(context: Context) -> web.Application:
    """Health and metrics alone, for a process without pages."""
    app = _frame(context)
    marked_routes(app)
    return app


def _frame(context: Context) -> web.Application:
    keeper = Gatekeeper(context.database, context.clock, public_url=context.public_url)
    limits = limits_middleware(Limiter(context.requests_per_minute))
    app = web.Application(
        client_max_size=BODY_MOST,
        middlewares=[_swept(Sweeper()), errors, access_middleware(keeper), limits, looking],
    )
    app[CONTEXT] = context
    app[sign_in.KEEPER] = keeper
    app.on_response_prepare.append(_secure(https=keeper.https))
    app.on_response_prepare.append(say)
    app.add_routes(health.routes)
    metrics.setup(app)
    return app


def _swept(sweeper: Sweeper) -> Middleware:
    """What requests leave behind is swept between them."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if sweeper.answered():
            asyncio.get_running_loop().call_soon(sweeper.sweep)
        return await handler(request)

    return middleware


# --- what every response carries -----------------------------------------------------------------


def _secure(*, https: bool) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    headers = HEADERS | ({"Strict-Transport-Security": HSTS} if https else {})

    async def add(_: web.Request, response: web.StreamResponse) -> None:
        for name, value in headers.items():
            response.headers.setdefault(name, value)

    return add


def _pack(request: web.Request, response: web.StreamResponse) -> None:
    """Long texts are compressed for whom that suits; before the answer is prepared, for then it is too late.
    A mounted application keeps its own rules. Not what another site has asked for: by the lengths of answers
    to its guesses somebody who sees the line would learn what else stands on the page (BREACH)."""
    if not isinstance(response, web.Response) or response.prepared or len(request.match_info.apps) > 1:
        return
    if _compressible(response) and request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin"):
        response.enable_compression()


def _compressible(response: web.Response) -> bool:
    long = isinstance(response.body, bytes) and len(response.body) >= COMPRESS_FROM
    return long and response.content_type.startswith(COMPRESSED) and "ETag" not in response.headers


@public
async def static(request: web.Request) -> web.StreamResponse:
    """Styles, scripts and icons, with ETag; for good where the address carries a version."""
    path = (STATIC / request.match_info["path"]).resolve()
    if not path.is_relative_to(STATIC) or not path.is_file():
        raise web.HTTPNotFound
    keep = "public, max-age=31536000, immutable" if request.query_string else "no-cache"
    headers = {"Cache-Control": keep}
    if path.name == "sw.js":
        headers["Service-Worker-Allowed"] = "/"
    if path.suffix not in PACKED or "gzip" not in request.headers.get("Accept-Encoding", ""):
        return web.FileResponse(path, headers=headers)
    body, etag = _packed(path, path.stat().st_mtime_ns)
    headers |= {"ETag": f'"{etag}"', "Vary": "Accept-Encoding"}
    if any(known.value == etag for known in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    kind = PACKED[path.suffix]
    return web.Response(body=body, content_type=kind, headers={**headers, "Content-Encoding": "gzip"})


@lru_cache(maxsize=64)
def _packed(path: Path, _changed_ns: int) -> tuple[bytes, str]:
    """A static file as it is sent, and what it is known by: packed once for as long as it stays as it is."""
    body = gzip.compress(path.read_bytes(), 9, mtime=0)
    return body, hashlib.blake2b(body, digest_size=8).hexdigest()


@by_secret
async def stranger(_: web.Request) -> web.StreamResponse:
    """A device of a tenant that is not here: 401, as hawkBit's clients expect."""
    return web.Response(status=401, headers={"WWW-Authenticate": "TargetToken"})


# --- errors ---------------------------------------------------------------------------------------


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Everything that is refused or breaks becomes a problem, or a calm page; what is slow is logged."""
    began = time.monotonic()
    try:
        response = await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        response = await _refused(request, problem_of(error) or _broken(request, error))
    except Exception as error:
        response = await _refused(request, problem_of(error) or _broken(request, error))
    _pack(request, response)
    took = time.monotonic() - began
    if took > SLOW_S and response.content_type != "text/event-stream":
        path, status = _route(request), response.status
        log.warning("request_slow", method=request.method, path=path, status=status, seconds=round(took, 3))
    return response


def _broken(request: web.Request, error: Exception) -> Problem:
    log.error("request_failed", method=request.method, path=_route(request), exc_info=error)
    return Problem(500, "Something broke on our side; it has been written down. Nothing was changed.")


def _route(request: web.Request) -> str:
    """The route's pattern, so that logs hold no ids and no secrets."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unknown"


async def _refused(request: web.Request, problem: Problem) -> web.StreamResponse:
    if not is_page(request) or len(request.match_info.apps) > 1:
        return problem.response()
    try:
        return await _page(request, problem)
    except Exception as error:
        log.error("error_page_failed", exc_info=error)
        return web.Response(status=problem.status, text=f"{problem.title}. {problem.detail}")


async def _page(request: web.Request, problem: Problem) -> web.StreamResponse:
    words = await render.words_for(request)
    key = f"errors.{problem.status}"
    if not request.app[CONTEXT].texts.has(f"pages.{key}.title"):
        key = "errors.other"
    return render.message(request, words, words(f"{key}.title"), words(f"{key}.text"), status=problem.status)
