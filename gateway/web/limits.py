"""How often a token may ask the API, decided at one place and said with every answer.

The headers are those of draft-ietf-httpapi-ratelimit-headers-10: `RateLimit-Policy: "api";q=6000;w=60` says
what is allowed, `RateLimit: "api";r=5990;t=42` what is left of it and for how many seconds that holds.
Beyond it the answer is 429 with Retry-After, and nothing is done. A window begins with a token's first
request. Pages and live events are not counted, and what may be read without a token is not either.

The count is this process's own and is forgotten with it: the limit protects the gateway from a system that
runs wild, it does not bill anybody.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway.web.access import WHO, Handler
from gateway.web.problems import Problem

POLICY = "api"
WINDOW_S = 60
TOKENS_MOST = 20_000
"""tokens that are counted at once, a few megabytes; beyond it those whose window began first start anew"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Where a token stands after a request."""

    quota: int
    left: int
    """requests of this window; below 0 it was one too many"""
    seconds: int
    """until the window ends, rounded up"""

    def headers(self) -> dict[str, str]:
        """As the draft's sections 3 and 4 have them."""
        return {
            "RateLimit-Policy": f'"{POLICY}";q={self.quota};w={WINDOW_S}',
            "RateLimit": f'"{POLICY}";r={max(0, self.left)};t={self.seconds}',
        }


STANDING: web.RequestKey[Standing] = web.RequestKey("standing", Standing)


class Limiter:
    """Counts requests by token; a window is `WINDOW_S` long."""

    def __init__(self, quota: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`quota`: requests a window; 0 is no limit."""
        self.quota = quota
        self._monotonic = monotonic
        self._windows: dict[str, tuple[float, int]] = {}
        """{token: (end, requests)}, in the order in which they end"""

    def count(self, token: str) -> Standing:
        """One more request of this token."""
        now = self._monotonic()
        end, used = self._windows.get(token, (0.0, 0))
        if end <= now:
            self._windows.pop(token, None)
            self._forget(now)
            end, used = now + WINDOW_S, 0
        self._windows[token] = (end, used + 1)
        return Standing(quota=self.quota, left=self.quota - used - 1, seconds=math.ceil(end - now))

    def _forget(self, now: float) -> None:
        """What has ended, and the oldest where there are too many; the dict is in the order of ends."""
        while self._windows:
            first = next(iter(self._windows))
            if self._windows[first][0] > now and len(self._windows) < TOKENS_MOST:
                break
            del self._windows[first]


def limits_middleware(limiter: Limiter) -> Middleware:
    """Refuse what is one too many. Stands behind the one that knows who asks."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        identity = request.get(WHO)
        if not limiter.quota or identity is None or not request.path.startswith("/api/"):
            return await handler(request)
        standing = limiter.count(identity.token)
        request[STANDING] = standing
        if standing.left < 0:
            raise too_many(standing)
        return await handler(request)

    return middleware


def too_many(standing: Standing) -> Problem:
    """429, as section 6 of the draft words it."""
    problem = Problem(
        429,
        f"More than {standing.quota} requests a minute; go on in {standing.seconds} seconds.",
        kind="quota-exceeded",
        title="Too many requests",
        headers={"Retry-After": str(standing.seconds)},
    )
    problem.extensions["violated-policies"] = [POLICY]
    return problem


async def say(request: web.Request, response: web.StreamResponse) -> None:
    """Every answer says where its token stands; for `on_response_prepare`."""
    standing = request.get(STANDING)
    if standing is not None:
        response.headers.update(standing.headers())
