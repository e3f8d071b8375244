"""The air outside, over the year and the day."""

from __future__ import annotations

import math
import random
from datetime import datetime
from functools import lru_cache

from device_sim.physics.places import PLACES, Place

HAMBURG = PLACES["hamburg"]


def air_temperature(seed: str, local: datetime, place: Place = HAMBURG) -> float:
    """Degrees Celsius at a local time: two sines, coldest on 20 January and at 4 o'clock, and a seeded
    deviation per day, so that it does not depend on who asks first."""
    day = local.timetuple().tm_yday
    hour = local.hour + local.minute / 60
    season = -place.season * math.cos(2 * math.pi * (day - 20) / 365.25)
    daily = -place.day * math.cos(2 * math.pi * (hour - 4) / 24)
    return place.mean + season + daily + _deviation(f"{seed}/air/{local.date()}")


@lru_cache(maxsize=1024)
def _deviation(seed: str) -> float:
    return random.Random(seed).gauss(0.0, 2.2)
