"""A sound, well-kept appliance of each kind gives its owner no message in a year, whatever the season; one
that wears gives the message that this deserves, and no other.

The households are made up; the levels are those that the rules' sources call usual.
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


def season(day: int) -> float:
    """°C outside, the mean of a day."""
    return 10 - 10 * math.cos(2 * math.pi * (day - 20) / 365)


def washing_machine(day: int, rng: random.Random) -> Day:
    """A wash a day, twice a week with 60 °C; the seal lasts for eight years."""
    yield 6, {"state": "idle", "wash_cycles": day, "eco_washes": day // 4}
    hot = day % 7 in (2, 5)
    yield 18, {"state": "running", "water_inlet_time": rng.gauss(80, 8)}
    yield (
        18.5,
        {
            "water_temperature": rng.gauss(57.5 if hot else 38, 0.8),
            "heating_rate": rng.gauss(1.9, 0.15),
        },
    )
    yield (
        19.5,
        {
            "drain_time": rng.gauss(36, 2),
            "pump_current": rng.gauss(0.24, 0.02),
            "vibration": max(1.5, rng.gauss(5, 1.2)),
            "bearing_vibration": rng.gauss(1.8, 0.3),
            "door_seal_wear": round(day / 29, 1),
        },
    )
    yield (
        20,
        {
            "state": "idle",
            "wash_cycles": day + 1,
            "washes_since_descale": day % 40,
            "washes_since_filter_clean": day % 70,
            "fault_codes": [],
        },
    )


def dishwasher(day: int, rng: random.Random) -> Day:
    """A run a day; salt and rinse aid are refilled the next morning, the filter every third week."""
    yield 8, {"salt_low": False, "rinse_aid_low": False, "water_hardness": 14, "water_in_base": False}
    yield (
        20,
        {
            "state": "running",
            "spray_arm_speed": rng.gauss(32, 3) if day % 20 else 5,
            "heating_rate": rng.gauss(2.4, 0.3),
            "drain_pump_current": rng.gauss(0.25, 0.02),
        },
    )
    yield (
        22,
        {
            "state": "idle",
            "runs": day,
            "eco_runs": day // 2,
            "runs_since_filter_clean": day % 21,
            "runs_since_care": day % 75,
            "salt_low": day % 25 == 0,
            "rinse_aid_low": day % 30 == 0,
            "fault_codes": ["F21"] if day % 90 == 7 else [],
        },
    )


def coffee_machine(day: int, rng: random.Random) -> Day:
    """Six cups a day, two of them with milk, rinsed after the last."""
    yield 7, {"state": "warming_up", "heat_up_time": rng.gauss(38, 3), "water_hardness": 14}
    for cup in range(6):
        milk = cup in (0, 1)
        yield (
            7.2 + cup * 0.3,
            {
                "state": "brewing",
                "cups": day * 6 + cup,
                "milk_cups": day * 2 + min(cup, 2),
                "milk_cups_since_rinse": 1 if milk else 0,
                "brew_pressure": rng.gauss(9, 0.4),
                "brew_temperature": rng.gauss(92.5, 1.2),
                "grinding_time": rng.gauss(6 + (0.8 if day % 60 < 20 else 0), 0.3),
                "grinder_current": rng.gauss(0.6, 0.1),
            },
        )
    yield (
        9.5,
        {
            "state": "off",
            "drip_tray_full": day % 2 == 0,
            "water_since_descale": (day * 0.9) % 40,
            "water_since_filter": (day * 0.9) % 40,
            "days_since_filter": day % 50,
            "ready_time": rng.gauss(2, 0.3),
            "fault_codes": [],
        },
    )
    yield 18, {"drip_tray_full": False}


def refrigerator(day: int, rng: random.Random) -> Day:
    """Opened at meals, defrosted twice a day, in a kitchen that is warm in summer."""
    room = 21 + max(0.0, season(day) - 14) * 0.6
    duty = 40 + (room - 21) * 5
    for hour in range(24):
        used = hour in (7, 12, 18)
        yield (
            hour,
            {
                "switched_on": True,
                "holiday_mode": False,
                "fridge_setpoint": 5,
                "fridge_temperature": rng.gauss(5, 0.5),
                "freezer_temperature": rng.gauss(-18.5, 0.6),
                "ambient_temperature": rng.gauss(room, 0.7),
                "compressor_duty": min(100.0, rng.gauss(duty + (25 if used else 0), 6)),
                "condenser_excess": rng.gauss(10 + (room - 21) * 0.3, 0.8),
                "door_open": used,
                "freezer_door_open": False,
                "defrosting": hour in (3, 15),
            },
        )
        if used:
            yield hour + 0.02, {"door_open": False}
        if hour in (3, 15):
            yield hour + 0.4, {"defrosting": False, "freezer_temperature": -9.5}
    energy = {"daily_energy": rng.gauss(0.6 * duty / 40, 0.04)}
    yield 23.5, energy | {"days_since_filter": day % 160, "water_since_filter": (day * 2.0) % 320}


def heat_pump(day: int, rng: random.Random) -> Day:
    """Heats below 15 °C by a curve for radiators; hot water every night, on Sundays against legionella."""
    mean = season(day) + rng.gauss(0, 2.5)
    starts = day * 24
    for hour in range(24):
        outside = mean + 4 * math.sin(2 * math.pi * (hour - 9) / 24)
        hot = hour in (2, 3)
        heating = outside < 15 and not hot
        yield (
            hour,
            {
                "mode": "hot_water" if hot else "heating" if heating else "standby",
                "compressor_on": hot or heating,
                "outside_temperature": outside,
                "flow_temperature": 55
                if hot
                else rng.gauss(27 + max(0.0, 15 - outside), 1)
                if heating
                else 24,
                "hot_water_temperature": 61 if hot and day % 7 == 6 else rng.gauss(48, 2),
                "backup_heater_on": hot and day % 7 == 6,
                "heating_pressure": rng.gauss(1.6 + (0.1 if hot else 0), 0.03),
                "brine_pressure": rng.gauss(1.3 + season(day) * 0.01, 0.02),
                "superheat": max(3.0, rng.gauss(6.5, 1.2)),
                "flow_rate": rng.gauss(20, 1),
                "compressor_starts": starts + hour,
                "fault_codes": [],
            },
        )
        if mean < 5 and hour % 2 == 0:
            yield hour + 0.5, {"defrosting": True}
            yield hour + 0.6, {"defrosting": False}
    yield 23.5, {"cop": rng.gauss(3 + season(day) * 0.06, 0.15), "days_since_inspection": day % 330}


LIVES: dict[str, Callable[[int, random.Random], Day]] = {
    "washing_machine": washing_machine,
    "dishwasher": dishwasher,
    "coffee_machine": coffee_machine,
    "refrigerator": refrigerator,
    "heat_pump": heat_pump,
}


@pytest.fixture(scope="module")
def shipped() -> RuleSet:
    files = sorted(config.data_path("rules").glob("*.yaml"))
    return load([(path.name, path.read_text("utf-8")) for path in files], SIGNALS)


Wearing = Callable[[float, int], float]
"""(what a sound one would report, days since it began) → what this one reports"""


def live(
    engine: Engine, kind: str, *, days: int, signal: str = "", wearing: Wearing | None = None
) -> set[str]:
    """The rules that found something; `signal` wears from day 120 on."""
    rng, position = random.Random(1), 0
    for day in range(days):
        for hour, signals in LIVES[kind](day, rng):
            if wearing is not None and signal in signals and day >= 120:
                signals[signal] = wearing(float(str(signals[signal])), day - 120)
            ts = BEGIN + round((day * 24 + hour) * HOUR)
            while (due := engine.next_due()) is not None and due < ts:
                position += 1
                engine.tick(position, due)
            position += 1
            engine.readings(position, ts, "device", kind, [(ts, signals)])
    return {event.rule for event in engine.take() if isinstance(event, Found)}


@pytest.mark.parametrize("kind", LIVES)
def test_a_sound_appliance_gives_no_finding_in_a_year(shipped: RuleSet, kind: str) -> None:
    engine = Engine(shipped)
    assert live(engine, kind, days=400) == set()
    assert engine.errors == {}


def test_every_kind_but_the_car_has_such_a_life(shipped: RuleSet) -> None:
    assert set(LIVES) == {rule.kind for rule in shipped.rules.values()} - {"car"}


@pytest.mark.parametrize(
    ("kind", "signal", "wearing", "rule"),
    [
        ("washing_machine", "pump_current", lambda v, d: v + 0.005 * d, "washer-pump-stiff"),
        ("washing_machine", "bearing_vibration", lambda v, d: v + 0.12 * d, "washer-drum-bearing-worn"),
        ("washing_machine", "heating_rate", lambda v, d: v * 0.45, "washer-heating-slow"),
        ("washing_machine", "water_inlet_time", lambda v, d: v * 2.3, "washer-inlet-slow"),
        ("washing_machine", "drain_time", lambda v, d: v + d, "pump-clogging"),
        ("washing_machine", "vibration", lambda v, d: v + 6, "dampers-worn"),
        ("dishwasher", "drain_pump_current", lambda v, d: v + 0.005 * d, "dishwasher-pump-stiff"),
        ("dishwasher", "spray_arm_speed", lambda v, d: v * 0.2, "dishwasher-spray-arm-stuck"),
        ("coffee_machine", "grinding_time", lambda v, d: v * 2, "coffee-grinder-worn"),
        ("coffee_machine", "brew_pressure", lambda v, d: v * 0.5, "coffee-pressure-low"),
        ("coffee_machine", "heat_up_time", lambda v, d: v * 2.3, "coffee-heating-slow"),
        ("refrigerator", "condenser_excess", lambda v, d: v + 5, "fridge-condenser-dusty"),
        ("refrigerator", "daily_energy", lambda v, d: v * 1.8, "fridge-energy-high"),
        ("heat_pump", "brine_pressure", lambda v, d: v - 0.012 * d, "heat-pump-brine-pressure-low"),
        ("heat_pump", "flow_rate", lambda v, d: v * 0.6, "heat-pump-strainer-clogged"),
        ("heat_pump", "superheat", lambda v, d: v + 12, "heat-pump-refrigerant-low"),
        ("heat_pump", "cop", lambda v, d: v * 0.6, "heat-pump-cop-falling"),
    ],
)
def test_one_that_wears_gives_the_message_that_this_deserves(
    shipped: RuleSet, kind: str, signal: str, wearing: Wearing, rule: str
) -> None:
    assert live(Engine(shipped), kind, days=180, signal=signal, wearing=wearing) == {rule}
