"""Fetches a workshop's own calendar by HTTP, from addresses that others name.

Every host is resolved once and only public addresses are connected to (`may_reach`, `resolver`), at every
redirect anew. What was read before is asked for conditionally (RFC 9110 section 13). Nothing is unpacked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver

from gateway.domain.calendars import calendar_address
from gateway.flow.busy_feeds import Fetched

BYTES_MOST = 5 * 1024 * 1024
TIMEOUT_S = 20.0
REDIRECTS_MOST = 3
MOVED = (301, 302, 303, 307, 308)


class HttpCalendars:
    """See `gateway.flow.busy_feeds.Calendars`."""

    def __init__(
        self,
        *,
        resolver: AbstractResolver,
        may_reach: Callable[[str], bool],
        allowed: Collection[str] = (),
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """`may_reach(host)`: whether a host that is an address may be connected to; `allowed`: hosts that
        may be private, and without encryption."""
        self._resolver = resolver
        self._may_reach = may_reach
        self._allowed = frozenset(host.lower() for host in allowed)
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, url: str, *, etag: str | None, modified: str | None) -> Fetched:
        """Never raises for what the network does."""
        headers = {"Accept": "text/calendar, */*;q=0.1", "Accept-Encoding": "identity"}
        if etag:
            headers["If-None-Match"] = etag
        if modified:
            headers["If-Modified-Since"] = modified
        try:
            return await self._follow(calendar_address(url), headers)
        except ValueError as error:
            return Fetched(problem="address", detail=str(error))
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            return Fetched(problem="unreachable", detail=f"{type(error).__name__}: {error}")

    async def _follow(self, url: str, headers: dict[str, str]) -> Fetched:
        for _ in range(REDIRECTS_MOST + 1):
            self._check(url)
            async with self._open().get(url, headers=headers, allow_redirects=False) as answer:
                if answer.status not in MOVED or "Location" not in answer.headers:
                    return await self._read(answer)
                url = calendar_address(urljoin(url, answer.headers["Location"]))
        return Fetched(problem="moved", detail=f"more than {REDIRECTS_MOST} redirects")

    def _check(self, url: str) -> None:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        if host in self._allowed:
            return
        if parts.scheme != "https":
            raise ValueError("an address without encryption is not read")
        if not self._may_reach(host):
            raise ValueError("an address inside a private network is not read")

    async def _read(self, answer: aiohttp.ClientResponse) -> Fetched:
        etag, modified = answer.headers.get("ETag"), answer.headers.get("Last-Modified")
        if answer.status == 304:
            return Fetched(etag=etag, modified=modified)
        problem = _problem(answer.status)
        if problem is not None:
            return Fetched(problem=problem, detail=f"HTTP {answer.status}")
        body = bytearray()
        async for chunk in answer.content.iter_chunked(65_536):
            body += chunk
            if len(body) > BYTES_MOST:
                return Fetched(problem="too_large", detail=f"more than {BYTES_MOST} bytes")
        return Fetched(text=body.decode("utf-8", "replace"), etag=_short(etag), modified=_short(modified))

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(resolver=self._resolver, use_dns_cache=False, limit=10)
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session

    async def close(self) -> None:
        """Connections end."""
        if self._session is not None:
            await self._session.close()


def _problem(status: int) -> str | None:
    if status == 200:
        return None
    if status in (401, 403):
        return "refused"
    if status in (404, 410):
        return "gone"
    return "server" if status >= 500 or status == 429 else "refused"


def _short(header: str | None) -> str | None:
    return header if header and len(header) <= 300 else None
