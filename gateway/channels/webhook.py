"""Webhooks as Standard Webhooks has them (standardwebhooks.com, specification 1.0): signed, retried, thin.

Headers: webhook-id (the delivery's id, the same on every try), webhook-timestamp (seconds, of this try),
webhook-signature (`v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`, one for each secret that signs
now, parted by blanks, so that a receiver can change its secret without losing anything).

| the endpoint says            | becomes | why                                                          |
|------------------------------|---------|--------------------------------------------------------------|
| 2xx                          | Sent    | it has it: delivered                                         |
| 410                          | Gone    | it wants no more: the endpoint is disabled, the operator sees |
| 408, 429, 502, 503, 504      | Retry   | not before Retry-After where it says one                     |
| redirect                     | Retry   | never followed: it could lead anywhere; may be mended        |
| other 4xx, 5xx, no answer    | Retry   | what fails today may be mended tomorrow; dead at last        |
| an address that is not public | Refused | unless `deliver.webhook.allow_hosts` names its host          |

Expiry: none, what happened stays so. Order: none between events; a receiver that wants the state asks the
API. Replacement: none. On failure the operator sees the dead letter and can send it again.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from gateway.channels.addresses import CheckedResolver, is_literal, is_public
from gateway.channels.web_push import retry_after_ms
from gateway.domain.delivery import Delivery, Gone, Outcome, Refused, Retry, Sent
from gateway.domain.webhooks import SECRET_PREFIX

READ_MOST = 4_096
"""Bytes of an answer that are looked at; the rest is not read."""

PER_HOST = 4
CONNECTIONS = 32


class AddressError(Exception):
    """An endpoint that may not be sent to; the message says why."""


def check_url(url: str, allowed: Collection[str] = ()) -> None:
    """Https to hosts that are not private; hosts in `allowed` may be anything. Raises AddressError."""
    try:
        parts = urlsplit(url)
        host, _ = (parts.hostname or "").lower(), parts.port
        URL(url)  # as the client reads it
    except ValueError as error:
        raise AddressError("its address is unusable") from error
    if any(char.isspace() or not char.isprintable() for char in url):
        raise AddressError("its address holds a blank or a control character")
    if not host or parts.scheme not in ("http", "https"):
        raise AddressError("its address is not https://host/…")
    if parts.username or parts.password:
        raise AddressError("its address carries a password; use the signature instead")
    if host in {name.lower() for name in allowed}:
        return
    if parts.scheme != "https":
        raise AddressError("its address is not https")
    if host == "localhost" or (is_literal(host) and not is_public(host)):
        raise AddressError("its address is a private one; deliver.webhook.allow_hosts can allow it by name")


def key_of(secret: str) -> bytes:
    """The key that a whsec_… secret stands for. Raises ValueError."""
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("the secret is no whsec_ and base64") from error


def signatures(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> str:
    """The value of webhook-signature."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    marks = [hmac.new(key_of(secret), signed, hashlib.sha256).digest() for secret in secrets]
    return " ".join(f"v1,{base64.b64encode(mark).decode()}" for mark in marks)


class WebhookChannel:
    """See `gateway.ports.Channel`; the payload is {"url", "secrets", "event", "media"?}."""

    name = "webhook"

    def __init__(
        self,
        *,
        allow_hosts: Collection[str] = (),
        timeout_s: float = 15.0,
        wall: Callable[[], float] = time.time,
        resolver: AbstractResolver | None = None,
        ssl: Any = True,
    ) -> None:
        """`wall`: UTC seconds, by which receivers tell old signatures. `resolver` and `ssl` (a context that
        trusts more than the system does) are for tests."""
        self._allowed = tuple(allow_hosts)
        self._timeout_s = timeout_s
        self._wall = wall
        self._resolver = CheckedResolver(self._allowed, resolver)
        self._ssl = ssl
        self._session: aiohttp.ClientSession | None = None

    def host(self, delivery: Delivery) -> str:
        """Whose slowness is its own."""
        return urlsplit(str(delivery.payload["url"])).netloc

    async def send(self, delivery: Delivery) -> Outcome:
        """One POST to the endpoint."""
        payload = delivery.payload
        try:
            check_url(payload["url"], self._allowed)
            body = json.dumps(payload["event"], ensure_ascii=False, separators=(",", ":")).encode()
            headers = self._headers(delivery.id, payload["secrets"], body)
            headers["Content-Type"] = payload.get("media", "application/json")
        except (AddressError, ValueError) as error:
            return Refused(detail=str(error))
        try:
            async with self._open().post(
                payload["url"], data=body, headers=headers, allow_redirects=False
            ) as response:
                said = await response.content.read(READ_MOST)
                response.close()  # what else it says is not read
                return self._outcome(response.status, response.headers, said)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            if "has no public address" in str(error):
                return Refused(detail=f"{error}; deliver.webhook.allow_hosts can allow it by name")
            return Retry(detail=f"{type(error).__name__}: {error}".rstrip(": "))

    def _headers(self, message_id: str, secrets: Sequence[str], body: bytes) -> dict[str, str]:
        timestamp = int(self._wall())
        return {
            "User-Agent": "touchpoint-gateway",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signatures(secrets, message_id, timestamp, body),
        }

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=self._resolver,
                use_dns_cache=False,
                force_close=True,
                limit=CONNECTIONS,
                limit_per_host=PER_HOST,
                ssl=self._ssl,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # a small answer could unfold into a large one
            )
        return self._session

    def _outcome(self, status: int, headers: Mapping[str, str], said: bytes) -> Outcome:
        text = " ".join(said[:120].decode("utf-8", "replace").split())
        detail = f"HTTP {status} {text}".strip()
        if 200 <= status < 300:
            return Sent(detail=f"HTTP {status}")
        if status == 410:
            return Gone(detail="HTTP 410: it wants no more")
        if 300 <= status < 400:
            return Retry(detail=f"HTTP {status}: a redirect, which is not followed")
        return Retry(detail=detail, after_ms=retry_after_ms(headers.get("Retry-After"), self._wall()))

    async def close(self) -> None:
        """End the connections."""
        if self._session is not None:
            await self._session.close()
            await asyncio.sleep(0)  # lets the transports see it
