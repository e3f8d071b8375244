"""Web Push: RFC 8030 (the protocol), RFC 8291 (encryption), RFC 8292 (who sends).

| push service says            | becomes | why                                                   |
|------------------------------|---------|-------------------------------------------------------|
| 200, 201, 202, 204           | Sent    | it has the message, the phone may not                 |
| 404, 410                     | Gone    | the browser unsubscribed (RFC 8030 section 7.3)       |
| 408, 429, 5xx, no connection | Retry   | not before Retry-After where it says one              |
| redirect                     | Refused | an address is what the browser gave, nothing else     |
| 413                          | —       | sent again at once, cut short and without its actions |
| 401, 403                     | Refused | our key is not taken: the operator's matter, and said |
| 400, 413 again, others       | Refused | our fault: a dead letter, seen by the operator        |

Expiry: TTL in seconds; the push service forgets the message then. Replacement: Topic, one for each
touchpoint, so a phone that was off gets the latest only. Payload at most 3,993 bytes. On failure the
owner still has the page and the device's display.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import http_ece
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.channels.addresses import is_literal, is_loopback, is_public
from gateway.channels.vapid import Vapid, from_b64url
from gateway.domain.delivery import Delivery, Gone, Outcome, Refused, Retry, Sent

PAYLOAD_MAX = 3_993
"""Bytes that fit one record of 4,096 with its header (RFC 8291 section 4)."""

RECORD_SIZE = 4_096
SMALL_MAX = 1_000
"""Bytes to which a message is cut for a push service that says it is too large (413)."""

BODY_KEPT = 120
"""Characters of the body that are worth more than the actions."""

TIMEOUT_S = 10.0
CONNECTIONS = 32

log = structlog.get_logger()


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


def fitted(message: Mapping[str, Any], most: int = PAYLOAD_MAX) -> bytes:
    """The message as JSON in at most so many bytes: where it would not fit, its body is shortened, then its
    actions are left out, then its title is shortened. What opens the page always stays."""
    message = _shortened(message, "body", most, keep=BODY_KEPT)
    if _size(message) > most and message.get("actions"):
        message = {**message, "actions": []}
    for name in ("body", "title"):
        message = _shortened(message, name, most, keep=0)
    return _json(message)


def _json(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, ensure_ascii=False).encode()


def _size(message: Mapping[str, Any]) -> int:
    return len(_json(message))


def _shortened(message: Mapping[str, Any], name: str, most: int, *, keep: int) -> Mapping[str, Any]:
    """With one of its texts shortened until the whole fits, or until so many characters of it are left."""
    text = str(message.get(name) or "")
    while len(text) > keep and (excess := _size(message) - most) > 0:
        length = max(keep, len(text) - max(1, excess // 4) - 1)  # a character has at most four bytes
        text = text[:length].rstrip()
        message = {**message, name: f"{text}…" if text else ""}
    return message


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
    if is_literal(host) and not is_public(host):
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
        public = [one for one in found if is_public(one["host"])]
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
        """One POST to the push service; a second one, cut short, where the message is too large for it."""
        message: Mapping[str, Any] = delivery.payload["message"]
        outcome = await self._post(delivery.payload, message, PAYLOAD_MAX)
        if isinstance(outcome, Refused) and outcome.detail.startswith("HTTP 413"):
            outcome = await self._post(delivery.payload, {**message, "actions": []}, SMALL_MAX)
        return outcome

    def host(self, delivery: Delivery) -> str:
        """The push service, whose slowness is its own."""
        return urlsplit(str(delivery.payload["endpoint"])).netloc

    async def _post(self, payload: Mapping[str, Any], message: Mapping[str, Any], most: int) -> Outcome:
        """One POST with a message of at most so many bytes."""
        try:
            check_endpoint(payload["endpoint"], loopback=self._loopback)
            body = encrypt(fitted(message, most), payload["p256dh"], payload["auth"])
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
        if status in (401, 403):
            log.error("vapid_refused", status=status, do="see docs/delivering.md, Web Push")
            return Refused(detail=f"{detail}: the push service does not take our key (vapid.pem)")
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
