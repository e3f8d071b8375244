"""Times at the edges: UTC milliseconds inside, RFC 3339 outside."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(ms: int) -> str:
    """2026-11-23T07:34:00.000Z."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_rfc3339(text: str) -> int:
    """UTC milliseconds; ValueError without a zone or when it is no time (RFC 3339)."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone; write it as 2026-11-23T07:34:00Z")
    return round(moment.timestamp() * 1000)
