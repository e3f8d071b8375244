"""What rules ask about the world, answered without a network: wall clocks and countries.

Wall clocks are those of the time zone database that comes with Python or tzdata. The country of a place is
that of its time zone: tzfpy's map of zones (timezone-boundary-builder, simplified to some hundred metres)
follows borders, and CLDR says which territory each zone belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from zoneinfo import ZoneInfo

import tzfpy
from babel.core import get_global

NO_COUNTRIES = (None, "001", "ZZ")
"""What stands for the world, and for nobody's."""

QUARTER_MS = 900_000
"""No zone of today changes its offset at any other moment than a full quarter of an hour."""


class Earth:
    """See `rules.places.Geography`."""

    def country(self, latitude: float, longitude: float) -> str | None:
        """ISO 3166 two letters; None at sea. Under a microsecond; the first call loads the map, 35 MB."""
        territory = _territories().get(tzfpy.get_tz(longitude, latitude))
        return territory if territory not in NO_COUNTRIES else None

    def offset_ms(self, time_zone: str, ts: int) -> int:
        """What the zone's clocks are ahead of UTC; 0 for a zone that nobody knows."""
        return _offset(time_zone, ts // QUARTER_MS)


@cache
def _territories() -> Mapping[str, str]:
    return get_global("zone_territories")


@lru_cache(maxsize=4_096)
def _offset(time_zone: str, quarter: int) -> int:
    try:
        moment = datetime.fromtimestamp(quarter * QUARTER_MS / 1000, UTC)
        ahead = moment.astimezone(ZoneInfo(time_zone)).utcoffset()
    except (KeyError, ValueError, OSError, OverflowError):  # ZoneInfoNotFoundError is a KeyError
        return 0
    return round(ahead.total_seconds() * 1000) if ahead is not None else 0
