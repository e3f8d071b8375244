"""The air outside, over the year and the day."""

from __future__ import annotations

import math
import random
from datetime import datetime
from functools import lru_cache

MEAN_C, SEASON_C, DAY_C = 9.7, 8.2, 3.5
"""Annual mean, amplitude of the year and of the day of a mild maritime climate such as Hamburg's, °C."""


def air_temperature(seed: str, local: datetime) -> float:
    """Degrees Celsius at a local time: two sines, coldest on 20 January and at 4 o'clock, and a seeded
    deviation per day, so that it does not depend on who asks first."""
    day = local.timetuple().tm_yday
    hour = local.hour + local.minute / 60
    season = -SEASON_C * math.cos(2 * math.pi * (day - 20) / 365.25)
    daily = -DAY_C * math.cos(2 * math.pi * (hour - 4) / 24)
    return MEAN_C + season + daily + _deviation(f"{seed}/air/{local.date()}")


@lru_cache(maxsize=1024)
def _deviation(seed: str) -> float:
    return random.Random(seed).gauss(0.0, 2.2)
