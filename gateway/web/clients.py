"""Where a request comes from: its network, and which browser it is."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from aiohttp import web

from gateway.flow import tries

BROWSER_S = 365 * 86_400
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR", "Opera"),
    ("SamsungBrowser", "Samsung Internet"),
    ("Firefox", "Firefox"),
    ("FxiOS", "Firefox"),
    ("CriOS", "Chrome"),
    ("Chrome", "Chrome"),
    ("Safari", "Safari"),
)
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Macintosh", "Mac"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


def address(request: web.Request, proxies: Sequence[str]) -> str | None:
    """The address of who asks: the connection's, or where that is a proxy of ours the one that it says, and
    so on (X-Forwarded-For from its end: before the first stranger stands what anybody could have written)."""
    found = request.remote
    told = ",".join(request.headers.getall("X-Forwarded-For", []))
    for hop in reversed([part.strip() for part in told.split(",") if part.strip()]):
        if not _is_one(found, proxies):
            break
        found = hop
    return found


def _is_one(found: str | None, proxies: Sequence[str]) -> bool:
    try:
        at = ip_address(found or "")
        return any(at in ip_network(one) for one in proxies)
    except ValueError:
        return False


def network(request: web.Request, proxies: Sequence[str]) -> str:
    """What tries are counted by."""
    return tries.network(address(request, proxies))


def browser_words(request: web.Request) -> str:
    """The browser in few words, "Firefox, Android": enough to know one's own again."""
    agent = request.headers.get("User-Agent", "")
    names = [next((name for mark, name in known if mark in agent), None) for known in (_BROWSERS, _SYSTEMS)]
    return ", ".join(name for name in names if name)


def _cookie(*, https: bool) -> str:
    return f"{'__Host-' if https else ''}browser"


def browser_secret(request: web.Request, *, https: bool) -> str | None:
    """The cookie of a browser that somebody signed in from before."""
    held = request.cookies.get(_cookie(https=https), "")
    return held if _SECRET.fullmatch(held) else None


def new_browser_secret() -> str:
    """For a browser that nobody signed in from yet."""
    return secrets.token_urlsafe(32)


def set_browser(response: web.StreamResponse, secret: str, *, https: bool) -> None:
    """Let the browser be known again."""
    response.set_cookie(
        _cookie(https=https),
        secret,
        max_age=BROWSER_S,
        path="/",
        httponly=True,
        samesite="Lax",
        secure=https,
    )
