"""A sound, well-kept car, burning or electric, gives its owner no message in a year: not in frost and heat,
not after two weeks at the kerb, and not for what passes by itself.

The lives are made up; their levels are those that the rules' sources call usual.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator

import pytest
from garage import SIGNALS

import config
from rules import Engine, Found, RuleSet, Value, load

HOUR = 3_600_000
BEGIN = 1_767_225_600_000
"""2026-01-01T00:00:00Z"""

Day = Iterator[tuple[float, dict[str, Value]]]
"""(hour of the day, what is reported then), in order"""

WHEELS = ("front_left", "front_right", "rear_left", "rear_right")
HOLIDAY = range(200, 214)
"""Days on which nobody drives."""


def season(day: int) -> float:
    """°C outside, the mean of a day."""
    return 10 - 10 * math.cos(2 * math.pi * (day - 20) / 365)


def air(day: int, hour: float) -> float:
    """Cold waves come and go within a week or two."""
    return season(day) + 5 * math.sin(day / 1.7) + 4 * math.sin(2 * math.pi * (hour - 9) / 24)


def tyres(day: int, warmth: float, driven: bool, rng: random.Random) -> dict[str, Value]:
    """Filled to 240 kPa at 15 °C every month; one kPa a degree, twenty more while rolling."""
    kept = 240 + (warmth - 15) - (day % 30) * 0.09 + (20 if driven else 0)
    pressures = {f"tyre_pressure_{wheel}": round(kept + rng.gauss(0, 1.5)) for wheel in WHEELS}
    heat = warmth + (30 if driven else 0)
    return pressures | {f"tyre_temperature_{wheel}": heat + rng.gauss(0, 2) for wheel in WHEELS}


def every_car(day: int, hour: float, driven: bool, rng: random.Random) -> dict[str, Value]:
    common: dict[str, Value] = {
        "outside_temperature": round(air(day, hour), 1),
        "odometer": 42_000.0 + day * 52 + hour,
        "days_since_delivery": 700 + day,
        "lane_keeping_uses": 40 + day,
        "preheating_uses": 12,
        "home_country": "DE",
        "network_country": "DE",
        "tyre_set": "winter" if day < 100 or day > 285 else "summer",
        "pad_wear_front": 20 + day * 0.05 + rng.random() * 0.3,
        "wiper_wear": 10 + day * 0.2,
        "brake_fluid_low": False,
        "washer_fluid_low": False,
        "low_beam_defect": False,
        "recall_open": False,
        "time_to_service": (300 - day % 300) * 86_400 + 40 * 86_400,
        "distance_to_service": 15_000 - (day * 52) % 13_000,
        # After a weak start the wheel sensors complain until the next drive.
        "dtc": ["C0035", "U0121"] if day % 60 == 10 and hour < 12 else [],
    }
    return common | tyres(day, air(day, hour), driven, rng)


def diesel(day: int, rng: random.Random) -> Day:
    """To work and back, forty minutes each; the filter burns off every fourth evening."""
    low = max(0.0, (day - HOLIDAY[0]) * 0.01) if day in HOLIDAY else 0.0
    rest = {"speed": 0, "engine_speed": 0, "locked": True, "window_driver_open": False}
    for hour in (0, 6, 12, 18, 23.5):
        settled = 12.68 - low + (0.12 if hour == 18 and day not in HOLIDAY else 0) + rng.gauss(0, 0.02)
        yield hour, rest | every_car(day, hour, False, rng) | {"battery_voltage": settled}
        if hour in (6, 12) and day not in HOLIDAY:
            yield from drive(day, 7 if hour == 6 else 17, rng)


def drive(day: int, start: float, rng: random.Random) -> Day:
    cold = air(day, start)
    yield start, {"engine_speed": 210, "battery_voltage": 9.4, "speed": 0, "locked": False, "oil_pressure": 0}
    for minute in (1, 3, 5, 10, 15, 20, 25, 30, 39):
        burning = day % 4 == 3 and start == 17 and 10 <= minute < 30
        warm = 90 - (90 - cold) * math.exp(-minute / 4)
        used = (day * 2 + (start > 12)) % 20
        yield (
            start + minute / 60,
            every_car(day, start, True, rng)
            | {
                "engine_speed": rng.gauss(1900, 150),
                "speed": max(0.0, rng.gauss(60, 15)) if minute > 1 else 5.0,
                "battery_voltage": rng.gauss(14.1, 0.15),
                "module_voltage": rng.gauss(13.9, 0.15),
                "engine_run_time": minute * 60,
                "coolant_temperature": warm + rng.gauss(0, 1),
                "transmission_temperature": 60 + minute * 0.8 + cold * 0.5 + rng.gauss(0, 3),
                "oil_pressure": rng.gauss(320, 25),
                "oil_level": "NORMAL",
                "coolant_level": "LOW" if minute == 15 and day % 9 == 0 else "NORMAL",
                "oil_wear": (day * 0.2) % 60,
                "long_fuel_trim": rng.gauss(0, 4),
                "fuel_level": 95 - used * 4 - minute * 0.05,
                "fuel_consumption": 6 * (1 + 0.12 * (10 - season(day)) / 10) + rng.gauss(0, 0.3),
                "dpf_soot": 10.0 if burning and minute > 20 else 20 + (day % 4) * 20,
                "dpf_regenerating": burning,
                "adblue_range": 9_000_000 - (day * 52_000) % 6_000_000,
                "mil_blinking": False,
                "minutes_mil_on": 0,
            },
        )
    yield start + 0.67, {"engine_speed": 0, "speed": 0, "locked": True, "dpf_regenerating": False}


def electric(day: int, rng: random.Random) -> Day:
    """Charged at night to 80 percent, twice a month to the full; fast on a journey in summer."""
    full = day % 15 == 14
    limit = 100 if full else 80
    journey = day in (190, 215)
    for hour in range(0, 24, 2):
        driven = hour in (8, 16) and day not in HOLIDAY
        charging = hour in (22, 0, 2) and day not in HOLIDAY
        spread = rng.gauss(0.06, 0.01) if driven or charging else rng.gauss(0.015, 0.004)
        yield (
            hour,
            every_car(day, hour, driven, rng)
            | {
                "speed": 80 if driven else 0,
                "locked": not driven,
                "charging": charging or (journey and hour == 12),
                "charging_limit": limit,
                "traction_battery_charge": limit if hour == 4 else 80 - hour * 1.5,
                "traction_battery_health": 96 - day * 0.004 + rng.gauss(0, 0.3),
                "cell_temperature_max": 50 + rng.gauss(0, 2)
                if journey and hour == 12
                else 25 + rng.gauss(0, 3),
                "cell_voltage_max": 3.85 + spread,
                "cell_voltage_min": 3.85,
                "battery_voltage": rng.gauss(14.2 if driven or charging else 12.9, 0.05),
            },
        )


LIVES: dict[str, Callable[[int, random.Random], Day]] = {"diesel": diesel, "electric": electric}


@pytest.fixture(scope="module")
def shipped() -> RuleSet:
    files = sorted(config.data_path("rules").glob("*.yaml"))
    return load([(path.name, path.read_text("utf-8")) for path in files], SIGNALS)


Wearing = Callable[[float, float], float]
"""(what a sound one would report, days since it began) → what this one reports"""


def lived(
    shipped: RuleSet, life: str, days: int, *, signal: str = "", wearing: Wearing = lambda value, _: value
) -> set[str]:
    """The rules that found something; `signal` wears from day 60 on."""
    engine, rng, position = Engine(shipped), random.Random(7), 0
    for day in range(days):
        for hour, signals in LIVES[life](day, rng):
            if signal in signals and day >= 60:
                signals[signal] = wearing(float(str(signals[signal])), day - 60 + hour / 24)
            ts = BEGIN + round((day * 24 + hour) * HOUR)
            while (due := engine.next_due()) is not None and due < ts:
                position += 1
                engine.tick(position, due)
            position += 1
            engine.readings(position, ts, "car-1", "car", [(ts, signals)])
    assert engine.errors == {}
    return {event.rule for event in engine.take() if isinstance(event, Found)}


@pytest.mark.parametrize("life", LIVES)
def test_a_sound_car_gives_no_message_in_a_year(shipped: RuleSet, life: str) -> None:
    assert lived(shipped, life, 365) == set()


@pytest.mark.parametrize(
    ("life", "signal", "wearing", "rules"),
    [
        (
            "diesel",
            "tyre_pressure_rear_left",
            lambda v, d: v - 3.5 * d,
            {"tyre-losing-air", "tyre-pressure-low"},
        ),
        ("diesel", "fuel_consumption", lambda v, d: v * 1.4, {"consumption-up"}),
        ("diesel", "coolant_temperature", lambda v, d: min(v, 62), {"thermostat-open", "short-trips"}),
        ("diesel", "long_fuel_trim", lambda v, d: 18 + v / 5, {"fuel-mixture-off"}),
        ("diesel", "transmission_temperature", lambda v, d: v + 45, {"gearbox-hot"}),
        ("diesel", "oil_pressure", lambda v, d: v * 0.2, {"oil-pressure-low"}),
        ("electric", "traction_battery_health", lambda v, d: v - 0.08 * d, {"traction-battery-fades"}),
        ("electric", "cell_voltage_min", lambda v, d: v - 0.13, {"traction-cells-uneven"}),
        ("electric", "charging_limit", lambda v, d: 100, set()),  # allowed to, and not done
    ],
)
def test_one_that_wears_gives_the_message_that_this_deserves(
    shipped: RuleSet, life: str, signal: str, wearing: Wearing, rules: set[str]
) -> None:
    assert lived(shipped, life, 100, signal=signal, wearing=wearing) == rules
