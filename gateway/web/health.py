"""Whether the process lives, and whether it can do its work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from gateway.web.access import public
from gateway.web.context import CONTEXT

CHECK_TIMEOUT_S = 3.0

Check = Callable[[], Awaitable[tuple[str, bool, str]]]

routes = web.RouteTableDef()


@routes.get("/health/live")
@public
async def live(_: web.Request) -> web.Response:
    """200 while the event loop answers."""
    return web.json_response({"status": "live"})


@routes.get("/health/ready")
@public
async def ready(request: web.Request) -> web.Response:
    """200 when everything this process needs is there, else 503 with what is wrong and what to do."""
    results = await asyncio.gather(*(outcome(check) for check in request.app[CONTEXT].checks))
    wrong = [{"what": what, "detail": detail} for what, good, detail in results if not good]
    body: dict[str, Any] = {"status": "not ready" if wrong else "ready", "wrong": wrong}
    headers = {"Cache-Control": "no-store"}
    return web.json_response(body, status=503 if wrong else 200, headers=headers)


async def outcome(check: Check, timeout_s: float = CHECK_TIMEOUT_S) -> tuple[str, bool, str]:
    """What a check says; one that hangs or breaks is a fault of its own, never a hanging answer."""
    name = getattr(check, "__name__", "check")
    try:
        async with asyncio.timeout(timeout_s):
            return await check()
    except TimeoutError:
        return name, False, f"did not answer within {timeout_s:g} s"
    except Exception as error:  # a check that breaks must not hide what the others say
        return name, False, f"{type(error).__name__}: {error}"
