"""The gateway's JSON API, as owners' and workshops' systems use it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

import aiohttp

TIMEOUT_S = 20.0


class ApiError(Exception):
    """The gateway refused, or did not answer. `status` is 0 when there was no answer."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status


class Api(Protocol):
    """What people need of the API. `who` is the owner or workshop on whose behalf it is called."""

    async def get(self, who: str, path: str, **query: str) -> dict[str, Any]:
        """The object at /api/v1{path}. Raises ApiError."""
        ...

    async def post(self, who: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What posting the object gives. Raises ApiError."""
        ...

    async def put(self, who: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What putting the object gives. Raises ApiError."""
        ...

    async def close(self) -> None: ...


class HttpApi:
    """The API over HTTP, with a bearer token for everybody who calls."""

    def __init__(self, base_url: str, tokens: Mapping[str, str]) -> None:
        self._base, self._tokens = f"{base_url.rstrip('/')}/api/v1", tokens
        self._session: aiohttp.ClientSession | None = None

    async def get(self, who: str, path: str, **query: str) -> dict[str, Any]:
        """See Api."""
        return await self._call("GET", who, path, params=query)

    async def post(self, who: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """See Api."""
        return await self._call("POST", who, path, json=dict(body))

    async def put(self, who: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """See Api."""
        return await self._call("PUT", who, path, json=dict(body))

    async def close(self) -> None:
        """End the connections."""
        if self._session is not None:
            await self._session.close()

    async def _call(self, method: str, who: str, path: str, **arguments: Any) -> dict[str, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        headers = {"Authorization": f"Bearer {self._tokens.get(who, '')}"}
        try:
            async with self._session.request(
                method, self._base + path, headers=headers, **arguments
            ) as answer:
                text, status = await answer.text(), answer.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ApiError(0, f"{type(error).__name__}: {error}") from error
        return _taken(status, text)


def _taken(status: int, text: str) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except ValueError:
        raise ApiError(status, text[:200]) from None
    if status >= 400 or not isinstance(body, dict):
        raise ApiError(status, str(body.get("detail", "") if isinstance(body, dict) else body)[:200])
    return body
