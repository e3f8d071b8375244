"""A push service on loopback, and the browsers behind it: RFC 8030, decrypted by RFC 8291.

The receiving side is written from the RFCs on `cryptography` alone and shares nothing with the
sender. `PushService` checks what a real one checks (TTL, VAPID, size) and what only the browser can
check (that the message decrypts); a push that fails is refused with a reason.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import struct
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

BODY_MAX = 4_096
"""Bytes a push service has to take (RFC 8030 section 7.2); this one takes no more."""

TOKEN_LIFETIME_S = 24 * 3600
"""Longest life of a VAPID token (RFC 8292 section 2)."""

URGENCIES = ("very-low", "low", "normal", "high")


class PushError(Exception):
    """A push that cannot be taken; `status` is what a push service answers."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


# --- RFC 8291 and RFC 8188, the receiving side ------------------------------------------------


def _b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _from_b64url(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)


def _hkdf(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    """HKDF with SHA-256 (RFC 5869) for at most 32 bytes."""
    extracted = hmac.digest(salt, secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")[:length]


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def decrypt(body: bytes, private_key: ec.EllipticCurvePrivateKey, auth: bytes) -> bytes:
    """The plain text of an aes128gcm push body. Raises ValueError when it is not one for this browser."""
    if len(body) < 21:
        raise ValueError("shorter than its header")
    salt, size, id_length = struct.unpack("!16sIB", body[:21])
    sender, records = body[21 : 21 + id_length], body[21 + id_length :]
    if id_length != 65 or size < 18:
        raise ValueError("its header names no P-256 key or no usable record size")
    if len(records) > size:
        raise ValueError("more than one record (RFC 8291 section 4 allows one)")
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender)
    shared = private_key.exchange(ec.ECDH(), public)
    info = b"WebPush: info\x00" + _point(private_key.public_key()) + sender
    secret = _hkdf(auth, shared, info, 32)
    key = _hkdf(salt, secret, b"Content-Encoding: aes128gcm\x00", 16)
    nonce = _hkdf(salt, secret, b"Content-Encoding: nonce\x00", 12)
    try:
        padded = AESGCM(key).decrypt(nonce, records, None)
    except InvalidTag as error:
        raise ValueError("it does not decrypt with this browser's keys") from error
    text = padded.rstrip(b"\x00")
    if not text.endswith(b"\x02"):
        raise ValueError("its last record has no delimiter 2 (RFC 8188 section 2)")
    return text[:-1]


def check_vapid(authorization: str, audience: str, now: float) -> str:
    """The application server's key, when its token is good for `audience` at `now` (UTC seconds).

    Raises PushError (RFC 8292 sections 2 and 4).
    """
    scheme, _, rest = authorization.partition(" ")
    fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    if scheme.lower() != "vapid" or not fields.get("t") or not fields.get("k"):
        raise PushError(401, "no vapid authorization")
    try:
        signed, _, signature = fields["t"].rpartition(".")
        header, claims = (json.loads(_from_b64url(part)) for part in signed.split("."))
        raw = _from_b64url(signature)
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), _from_b64url(fields["k"]))
        der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        key.verify(der, signed.encode(), ec.ECDSA(hashes.SHA256()))
    except (ValueError, InvalidSignature) as error:
        raise PushError(403, "the vapid token is not signed with its key") from error
    if header.get("alg") != "ES256" or len(raw) != 64:
        raise PushError(403, "the vapid token is not signed with ES256")
    if claims.get("aud") != audience:
        raise PushError(403, f"the vapid token is for {claims.get('aud')}")
    if not now < claims.get("exp", 0) <= now + TOKEN_LIFETIME_S:
        raise PushError(403, "the vapid token has expired, or lives longer than a day")
    if not str(claims.get("sub", "")).startswith(("mailto:", "https:")):
        raise PushError(403, "the vapid token names nobody to write to")
    return fields["k"]


# --- the service ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """What a browser gives to the application server (PushSubscription of the Push API)."""

    id: str
    endpoint: str
    p256dh: str
    auth: str


@dataclass(kw_only=True)
class _Browser:
    """A subscription from the inside."""

    owner: str
    key: ec.EllipticCurvePrivateKey
    auth: bytes
    gone: bool = False


@dataclass(kw_only=True)
class Taken:
    """A push as it arrived: headers, and the message."""

    subscription: str
    headers: Mapping[str, str]
    message: Mapping[str, Any]


@dataclass(kw_only=True)
class Failure:
    """What the next request is answered with instead."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


OnPush = Callable[[str, Mapping[str, Any]], Awaitable[None] | None]


class PushService:
    """A push service on a free port of loopback, and the browsers subscribed to it."""

    def __init__(
        self,
        on_push: OnPush | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`on_push(subscription id, message)` is called for every push that decrypts, before it is answered;
        `wall` gives UTC seconds, for the tokens."""
        self.on_push = on_push
        self.taken: list[Taken] = []
        self.refused: list[tuple[str, str]] = []
        """(subscription id, reason) of pushes that were not taken"""
        self.failures: list[Failure] = []
        """answers for the next requests, first one first; then all is well again"""
        self._host, self._port, self._wall = host, port, wall
        self._browsers: dict[str, _Browser] = {}
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> PushService:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; `url` says where."""
        app = web.Application(client_max_size=1 << 20)
        app.router.add_post("/push/{id}", self._take)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://{self._host}:{self._port}"

    async def stop(self) -> None:
        """Stop listening; what was taken can still be looked at."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def subscribe(self, owner: str = "") -> Subscription:
        """A new browser of somebody."""
        subscription_id = secrets.token_urlsafe(16)
        browser = _Browser(
            owner=owner, key=ec.generate_private_key(ec.SECP256R1()), auth=secrets.token_bytes(16)
        )
        self._browsers[subscription_id] = browser
        return Subscription(
            id=subscription_id,
            endpoint=f"{self.url}/push/{subscription_id}",
            p256dh=_b64url(_point(browser.key.public_key())),
            auth=_b64url(browser.auth),
        )

    def unsubscribe(self, subscription_id: str) -> None:
        """The browser forgets it; pushes to it are answered 410."""
        self._browsers[subscription_id].gone = True

    def owner(self, subscription_id: str) -> str:
        """Whose browser it is. Raises KeyError."""
        return self._browsers[subscription_id].owner

    async def _take(self, request: web.Request) -> web.Response:
        if self.failures:
            failure = self.failures.pop(0)
            return web.Response(status=failure.status, headers=dict(failure.headers))
        subscription_id = request.match_info["id"]
        try:
            message = await self._read(request, subscription_id)
        except PushError as error:
            self.refused.append((subscription_id, str(error)))
            return web.Response(status=error.status, text=str(error))
        self.taken.append(Taken(subscription=subscription_id, headers=dict(request.headers), message=message))
        if self.on_push is not None and (waiting := self.on_push(subscription_id, message)) is not None:
            await waiting
        return web.Response(status=201, headers={"Location": f"{self.url}/message/{secrets.token_hex(8)}"})

    async def _read(self, request: web.Request, subscription_id: str) -> Mapping[str, Any]:
        browser = self._browsers.get(subscription_id)
        if browser is None or browser.gone:
            raise PushError(404 if browser is None else 410, "no such subscription")
        check_vapid(request.headers.get("Authorization", ""), self.url, self._wall())
        _check_headers(request.headers)
        body = await request.read()
        if len(body) > BODY_MAX:
            raise PushError(413, f"{len(body)} bytes")
        try:
            message = json.loads(decrypt(body, browser.key, browser.auth))
        except ValueError as error:
            raise PushError(400, f"the browser cannot read it: {error}") from error
        if not isinstance(message, dict):
            raise PushError(400, "the message is no JSON object")
        return message


def _check_headers(headers: Mapping[str, str]) -> None:
    """RFC 8030 sections 5.2 to 5.4, RFC 8291 section 4. Raises PushError."""
    if not headers.get("TTL", "").isdigit():
        raise PushError(400, "no TTL")
    if headers.get("Urgency", "normal") not in URGENCIES:
        raise PushError(400, "unknown Urgency")
    topic = headers.get("Topic", "-")
    if not 0 < len(topic) <= 32 or not all(c.isascii() and (c.isalnum() or c in "-_") for c in topic):
        raise PushError(400, "unusable Topic")
    if headers.get("Content-Encoding") != "aes128gcm":
        raise PushError(415, "not aes128gcm")
