"""Whose word counts: the trust document, and the index of what is current.

The trust document lists the manufacturer's public keys with what each may sign: the next trust document
(`trust`), releases (`release`), the index (`index`), and how many of them have to. Its next version is
signed by enough keys of the version before and by enough of its own, so that whoever knows one version can
follow to the newest; a key that is no longer in it counts for nothing from then on. Roles, versions and the
chain are those of The Update Framework's root (TUF specification 1.0, 5.3); the index is its snapshot and
timestamp in one: signed by a key on the server, valid for days, naming every current release by its
manifest's hash. A device that holds on to both notices when it is shown an old world, or parts of two.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from firmware_api.release import (
    ExpiredError,
    ManifestError,
    SignatureError,
    canonical,
    exactly,
    milliseconds,
    read_document,
    rfc3339,
    signers,
)

TRUST_TYPE = "touchpoint-trust/1"
INDEX_TYPE = "touchpoint-index/1"
ROLES = ("trust", "release", "index")
INDEX_LIFE_MS = 7 * 86_400_000
"""How long an index counts. A device that is shown nothing newer for that long knows that it is kept from
it."""
TRUST_LIFE_MS = 5 * 365 * 86_400_000


@dataclass(frozen=True, kw_only=True)
class Key:
    """A public key and what it may sign."""

    public: Ed25519PublicKey
    roles: tuple[str, ...]
    until: int | None = None
    """retired: releases created later do not count; UTC ms"""

    @property
    def id(self) -> str:
        return key_id(self.public)


@dataclass(frozen=True, kw_only=True)
class Trust:
    """One version of the trust document."""

    version: int
    created: int
    """UTC ms"""
    expires: int
    """UTC ms"""
    keys: tuple[Key, ...]
    thresholds: Mapping[str, int]
    """role → how many of its keys have to sign"""

    def __post_init__(self) -> None:
        if self.version < 1 or self.expires <= self.created:
            raise ManifestError("version: from 1; expires: later than created")
        if set(self.thresholds) != set(ROLES) or len({key.id for key in self.keys}) < len(self.keys):
            raise ManifestError(f"thresholds for {', '.join(ROLES)}; every key once")
        for role, least in self.thresholds.items():
            if least < 1:
                raise ManifestError(f"threshold of {role}: from 1")
        if len(self.with_role("trust")) < self.thresholds["trust"]:
            raise ManifestError("fewer keys for trust than have to sign: nobody could sign the next version")

    def with_role(self, role: str) -> dict[str, Ed25519PublicKey]:
        """Keys that may sign as that, by id; retired ones too."""
        return {key.id: key.public for key in self.keys if role in key.roles}

    def check(self, role: str, raw: bytes, signatures: bytes, created: int) -> dict[str, str]:
        """Who of that role has signed: {key id: signature}. Raises SignatureError when too few have."""
        live = {
            key.id: key.public
            for key in self.keys
            if role in key.roles and (key.until is None or created <= key.until)
        }
        found = signers(raw, signatures, live)
        if len(found) < self.thresholds[role]:
            raise SignatureError(
                "no trusted key has signed this"
                if not found
                else f"{len(found)} of {self.thresholds[role]} keys that have to sign did"
            )
        return found

    def to_bytes(self) -> bytes:
        """The bytes that are signed."""
        keys = {key.id: _key_fields(key) for key in self.keys}
        return canonical(
            {
                "type": TRUST_TYPE,
                "version": self.version,
                "created": rfc3339(self.created),
                "expires": rfc3339(self.expires),
                "keys": keys,
                "thresholds": dict(self.thresholds),
            }
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> "Trust":
        """Raises ManifestError."""
        fields = read_document(raw, TRUST_TYPE)
        try:
            exactly(fields, {"version": int}, ("created", "expires", "keys", "thresholds"))
            keys = tuple(_key(name, key) for name, key in sorted(fields["keys"].items()))
            thresholds = {str(role): _whole(least) for role, least in fields["thresholds"].items()}
            created, expires = milliseconds(fields["created"]), milliseconds(fields["expires"])
            read = {"keys": keys, "thresholds": thresholds, "created": created, "expires": expires}
            return cls(**fields | read)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ManifestError(f"not a trust document: {error!r}") from error


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise ManifestError("a whole number expected")
    return int(value)


def _key_fields(key: Key) -> dict[str, Any]:
    public = base64.b64encode(raw_public(key.public)).decode()
    until = {} if key.until is None else {"until": rfc3339(key.until)}
    return {"public": public, "roles": sorted(key.roles)} | until


def _key(name: str, fields: dict[str, Any]) -> Key:
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(fields["public"], validate=True))
    roles = tuple(fields["roles"])
    if key_id(public) != name or not roles or not set(roles) <= set(ROLES):
        raise ManifestError(f"key {name}: its id is not its own, or a role is none of {', '.join(ROLES)}")
    return Key(public=public, roles=roles, until=milliseconds(fields["until"]) if "until" in fields else None)


def raw_public(key: Ed25519PublicKey) -> bytes:
    """The key's 32 bytes (RFC 8032, 5.1.5)."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def key_id(key: Ed25519PublicKey) -> str:
    """Its short name: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(raw_public(key)).hexdigest()[:16]


# --- from one version to the next -----------------------------------------------------------------


def first(keys: Iterable[Key], now: int) -> Trust:
    """The first version, to be signed by one of its keys for `trust`."""
    thresholds = dict.fromkeys(ROLES, 1)
    return Trust(version=1, created=now, expires=now + TRUST_LIFE_MS, keys=tuple(keys), thresholds=thresholds)


def following(trust: Trust, keys: Iterable[Key], now: int) -> Trust:
    """The next version, with these keys."""
    return replace(
        trust, version=trust.version + 1, created=now, expires=now + TRUST_LIFE_MS, keys=tuple(keys)
    )


def check_step(before: Trust | None, raw: bytes, signatures: bytes, now: int) -> Trust:
    """The version in `raw`, if it may follow `before` (None: the first, vouched for by itself).

    Raises ManifestError, SignatureError, ExpiredError.
    """
    after = Trust.from_bytes(raw)
    if after.to_bytes() != raw:
        raise ManifestError("not the canonical form")
    if before is not None:
        if after.version != before.version + 1:
            raise ManifestError(f"version {after.version} does not follow {before.version}")
        before.check("trust", raw, signatures, after.created)
    after.check("trust", raw, signatures, after.created)
    if after.expires <= now:
        raise ExpiredError(f"trust {after.version} has expired")
    return after


# --- the index ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Index:
    """What is current: every release that may be installed, by its manifest's hash."""

    version: int
    created: int
    """UTC ms"""
    expires: int
    """UTC ms"""
    releases: Mapping[str, str]
    """`kind/version` → SHA-256 of the manifest"""

    def to_bytes(self) -> bytes:
        """The bytes that are signed."""
        return canonical(
            {
                "type": INDEX_TYPE,
                "version": self.version,
                "created": rfc3339(self.created),
                "expires": rfc3339(self.expires),
                "releases": dict(self.releases),
            }
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> "Index":
        """Raises ManifestError."""
        fields = read_document(raw, INDEX_TYPE)
        try:
            exactly(fields, {"version": int, "releases": dict}, ("created", "expires"))
            created, expires = milliseconds(fields["created"]), milliseconds(fields["expires"])
        except (TypeError, ValueError, OverflowError) as error:
            raise ManifestError(f"not an index: {error!r}") from error
        return cls(**fields | {"created": created, "expires": expires})
