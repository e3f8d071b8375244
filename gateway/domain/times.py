"""Times at the edges: UTC milliseconds inside, RFC 3339 outside."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(ms: int) -> str:
    """2026-11-23T07:34:00.000Z."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_rfc3339(text: str) -> int:
    """UTC milliseconds, finer fractions cut (RFC 3339 section 5.6). Raises ValueError.

    A second 60 counts as the first of the next minute; -00:00 is UTC.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("not RFC 3339 with a zone")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    leap = second == 60
    at = datetime(year, month, day, hour, minute, 59 if leap else second, tzinfo=UTC) - _EPOCH
    ms = at // timedelta(milliseconds=1) + (1000 if leap else int(f"{match[7] or 0:0<3}"[:3]))
    if match[8]:
        if int(match[9]) > 23 or int(match[10]) > 59:
            raise ValueError("no such offset")
        offset = (int(match[9]) * 60 + int(match[10])) * 60_000
        ms -= offset if match[8] == "+" else -offset
    return ms
