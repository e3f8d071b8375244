"""Identifiers: UUIDv7 (RFC 9562) for what comes into being, hashes for what follows from something."""

from __future__ import annotations

import hashlib

import uuid_utils


def new_id(now: int) -> str:
    """A UUIDv7 of time `now` (ms): sorts by time, unique without asking anybody."""
    return str(uuid_utils.uuid7(nanoseconds=now * 1_000_000))


def derived_id(*parts: object) -> str:
    """The id that follows from `parts`: the same parts give the same id, on any machine."""
    text = "\x1f".join(str(p) for p in parts)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
