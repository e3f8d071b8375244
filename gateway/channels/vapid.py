"""Voluntary Application Server Identification (VAPID, RFC 8292): who we are to push services."""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

LIFETIME_S = 12 * 3600
"""A token holds so long; RFC 8292 section 2 allows 24 hours."""

RENEW_BEFORE_S = 3600


class VapidKeyError(Exception):
    """The key file cannot be used; the message says what to do."""


def b64url(data: bytes) -> str:
    """base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_b64url(text: str) -> bytes:
    """The bytes of base64url with or without padding. Raises ValueError."""
    return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), b"-_", validate=True)


class Vapid:
    """Our key and the tokens signed with it.

    Tokens run on the wall clock even where time is played: the push service checks them against its own.
    """

    def __init__(
        self, key: ec.EllipticCurvePrivateKey, subject: str, *, wall: Callable[[], float] = time.time
    ) -> None:
        """`subject` is mailto: or https:, whom a push service may write to; `wall` gives UTC seconds."""
        self._key = key
        self._subject = subject
        self._wall = wall
        self._tokens: dict[str, tuple[float, str]] = {}
        point = key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        self.public_key = b64url(point)
        """what a browser needs to subscribe (applicationServerKey)"""

    @classmethod
    def load_or_create(cls, path: Path, subject: str) -> Vapid:
        """The key in `path`; made there, readable by this user alone, when the file is missing. Subscriptions
        belong to the key, so it is never replaced. Raises VapidKeyError."""
        create_key(path)
        return cls(load_key(path), subject)

    def authorization(self, endpoint: str) -> str:
        """The Authorization header for a push to `endpoint` (RFC 8292 section 3)."""
        parts = urlsplit(endpoint)
        audience = f"{parts.scheme}://{parts.netloc}"
        expires, token = self._tokens.get(audience, (0.0, ""))
        if expires - self._wall() < RENEW_BEFORE_S:
            expires = self._wall() + LIFETIME_S
            token = self._sign(audience, int(expires))
            self._tokens[audience] = (expires, token)
        return f"vapid t={token}, k={self.public_key}"

    def _sign(self, audience: str, expires: int) -> str:
        """A JSON Web Token signed with ES256 (RFC 7515, RFC 7518 section 3.4)."""
        header = {"typ": "JWT", "alg": "ES256"}
        claims = {"aud": audience, "exp": expires, "sub": self._subject}
        signed = ".".join(b64url(json.dumps(part).encode()) for part in (header, claims))
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{b64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def create_key(path: Path) -> bool:
    """Make a key file (PEM, PKCS 8, mode 0600); False when there is one. Raises VapidKeyError."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.exists():
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
            file.write(pem)
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)  # whole or not at all, and never over somebody else's
        except FileExistsError:
            return False
        finally:
            fresh.unlink()
    except OSError as error:
        raise VapidKeyError(f"The push key {path} cannot be made: {error.strerror}.") from error
    return True


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Raises VapidKeyError for a file that is missing or is no P-256 key."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise VapidKeyError(f"The push key {path} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError) as error:
        raise VapidKeyError(
            f"{path} is no unencrypted PEM key: restore it, or remove it and let owners subscribe again."
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise VapidKeyError(
            f"{path} is no P-256 key: restore it, or remove it and let owners subscribe again."
        )
    return key
