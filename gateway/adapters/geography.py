"""What rules ask about the world: wall clocks, from the time zone database that comes with Python or tzdata.

There is no map of countries here: `country()` is unknown, and so no rule that asks for it is true.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

QUARTER_MS = 900_000
"""No zone of today changes its offset at any other moment than a full quarter of an hour."""


class WallClocks:
    """See `rules.places.Geography`."""

    def country(self, latitude: float, longitude: float) -> str | None:
        """Unknown everywhere."""
        return None

    def offset_ms(self, time_zone: str, ts: int) -> int:
        """What the zone's clocks are ahead of UTC; 0 for a zone that nobody knows."""
        return _offset(time_zone, ts // QUARTER_MS)


@lru_cache(maxsize=4_096)
def _offset(time_zone: str, quarter: int) -> int:
    try:
        moment = datetime.fromtimestamp(quarter * QUARTER_MS / 1000, UTC)
        ahead = moment.astimezone(ZoneInfo(time_zone)).utcoffset()
    except (KeyError, ValueError, OSError, OverflowError):  # ZoneInfoNotFoundError is a KeyError
        return 0
    return round(ahead.total_seconds() * 1000) if ahead is not None else 0
