"""Web Push: RFC 8030 (the protocol), RFC 8291 (encryption), RFC 8292 (who sends).

| push service says            | becomes | why                                                   |
|------------------------------|---------|-------------------------------------------------------|
| 200, 201, 202, 204           | Sent    | it has the message, the phone may not                 |
| 404, 410                     | Gone    | the browser unsubscribed (RFC 8030 section 7.3)       |
| 408, 429, 5xx, no connection | Retry   | not before Retry-After where it says one              |
| redirect                     | Refused | an address is what the browser gave, nothing else     |
| 400, 401, 403, 413, others   | Refused | our fault: a dead letter, seen by the operator        |

Expiry: TTL in seconds; the push service forgets the message then. Replacement: Topic, one for each
touchpoint, so a phone that was off gets the latest only. Payload at most 3,993 bytes. On failure the
owner still has the page and the device's display.
"""

from __future__ import annotations

import asyncio
import email.utils
import ipaddress
import json
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import http_ece
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.channels.vapid import Vapid, from_b64url
from gateway.domain.delivery import Delivery, Gone, Outcome, Refused, Retry, Sent

PAYLOAD_MAX = 3_993
"""Bytes that fit one record of 4,096 with its header (RFC 8291 section 4)."""

RECORD_SIZE = 4_096
TIMEOUT_S = 10.0
CONNECTIONS = 32


class EndpointError(Exception):
    """A subscription that nothing can be sent to; the message says why."""


def encrypt(message: bytes, p256dh: str, auth: str) -> bytes:
    """The aes128gcm body (RFC 8188) for the browser with these keys. Raises EndpointError."""
    try:
        point, secret = from_b64url(p256dh), from_b64url(auth)
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError as error:
        raise EndpointError("its keys are unusable") from error
    if len(secret) != 16:
        raise EndpointError("its authentication secret is not 16 bytes")
    body: bytes = http_ece.encrypt(
        message,
        private_key=ec.generate_private_key(ec.SECP256R1()),
        dh=point,
        auth_secret=secret,
        rs=RECORD_SIZE,
        version="aes128gcm",
    )
    return body


def fitted(message: Mapping[str, Any]) -> bytes:
    """The message as JSON, its body shortened where it would not fit."""
    data = json.dumps(message, ensure_ascii=False).encode()
    while len(data) > PAYLOAD_MAX and message.get("body"):
        excess = len(data) - PAYLOAD_MAX
        body = str(message["body"])
        message = {
            **message,
            "body": body[: max(0, len(body) - excess - 1)].rstrip() + "…" if excess < len(body) else "",
        }
        data = json.dumps(message, ensure_ascii=False).encode()
    return data


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_endpoint(endpoint: str, *, loopback: bool) -> None:
    """Https to public addresses; http too on this machine where that is allowed. Raises EndpointError."""
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise EndpointError("its address is unusable") from error
    if is_loopback(host):
        if not loopback or parts.scheme not in ("http", "https"):
            raise EndpointError(
                "its address is on this machine, which deliver.web_push.loopback does not allow"
            )
        return
    if parts.scheme != "https" or not host:
        raise EndpointError("its address is not https")
    try:
        public = ipaddress.ip_address(host).is_global
    except ValueError:
        return
    if not public:
        raise EndpointError("its address is a private one")


class PublicResolver(AbstractResolver):
    """Resolves names, and forgets private addresses: an owner's browser names the endpoint."""

    def __init__(self, inner: AbstractResolver | None = None) -> None:
        self._inner = inner or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Public addresses only. Raises OSError when there is none."""
        found = await self._inner.resolve(host, port, family)
        public = [one for one in found if ipaddress.ip_address(one["host"]).is_global]
        if not public and not is_loopback(host):
            raise OSError(None, f"{host} has no public address")
        return public or found

    async def close(self) -> None:
        await self._inner.close()


class WebPushChannel:
    """See `gateway.ports.Channel`; the payload is what `gateway.flow.outgoing.Renderer` makes of a push."""

    name = "web_push"

    def __init__(
        self, vapid: Vapid, *, loopback: bool = False, wall: Callable[[], float] = time.time
    ) -> None:
        """`loopback` also allows push services on this machine, without TLS: for tests and the demo."""
        self._vapid = vapid
        self._loopback = loopback
        self._wall = wall
        self._session: aiohttp.ClientSession | None = None

    async def send(self, delivery: Delivery) -> Outcome:
        """One POST to the push service."""
        payload = delivery.payload
        try:
            check_endpoint(payload["endpoint"], loopback=self._loopback)
            body = encrypt(fitted(payload["message"]), payload["p256dh"], payload["auth"])
        except EndpointError as error:
            return Gone(detail=str(error))
        headers = {
            "Authorization": self._vapid.authorization(payload["endpoint"]),
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(payload.get("ttl_s", 0)),
            "Urgency": payload.get("urgency", "normal"),
            "Topic": payload["topic"],
        }
        try:
            async with self._open().post(
                payload["endpoint"], data=body, headers=headers, allow_redirects=False
            ) as response:
                return self._outcome(response.status, response.headers)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            return Retry(detail=f"{type(error).__name__}: {error}".rstrip(": "))

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=PublicResolver(), limit=CONNECTIONS),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def _outcome(self, status: int, headers: Mapping[str, str]) -> Outcome:
        detail = f"HTTP {status}"
        if status in (200, 201, 202, 204):
            return Sent(detail=detail)
        if status in (404, 410):
            return Gone(detail=detail)
        if status in (408, 429) or status >= 500:
            return Retry(detail=detail, after_ms=retry_after_ms(headers.get("Retry-After"), self._wall()))
        return Refused(detail=detail)

    async def close(self) -> None:
        """End the connections."""
        if self._session is not None:
            await self._session.close()
            await asyncio.sleep(0)  # lets the transports see it


def retry_after_ms(value: str | None, wall: float) -> int | None:
    """Milliseconds of a Retry-After header, seconds or a date (RFC 9110 section 10.2.3); None if unusable."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text) * 1000
    try:
        at = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0, round((at - wall) * 1000))
