"""The catalogue for cars: true to VSS, rules enough and of every sort, few of them alarming."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

import config
from rules import Catalogue, Engine, Found, RuleSet, Signal, Value, load


def texts(folder: str) -> list[tuple[str, str]]:
    return [(path.name, path.read_text("utf-8")) for path in sorted(config.data_path(folder).glob("*.yaml"))]


@pytest.fixture(scope="module")
def shipped() -> RuleSet:
    return load(texts("rules"), Catalogue.parse(texts("signals")))


@pytest.fixture(scope="module")
def signals(shipped: RuleSet) -> dict[str, Signal]:
    return dict(shipped.catalogue.kinds["car"].signals)


@pytest.fixture(scope="module")
def leaves(shared_data: Path) -> dict[str, dict[str, str]]:
    """VSS leaves by path."""
    with (shared_data / "vss.csv").open(encoding="utf-8") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def test_a_signal_can_hold_whatever_vss_lets_be_reported(
    signals: dict[str, Signal], leaves: dict[str, dict[str, str]]
) -> None:
    for signal in signals.values():
        for path in signal.vss:
            leaf, ends = leaves[path], signal.range or (float("-inf"), float("inf"))
            assert not leaf["min"] or ends[0] <= float(leaf["min"]), signal.name
            assert not leaf["max"] or ends[1] >= float(leaf["max"]), signal.name


def test_texts_that_vss_allows_are_the_ones_we_know(
    signals: dict[str, Signal], leaves: dict[str, dict[str, str]]
) -> None:
    for signal in signals.values():
        for path in signal.vss:
            allowed = leaves[path]["allowed"].strip("[]")
            known = (
                [word.strip() for word in allowed.split(",")] if signal.type == "string" and allowed else []
            )
            assert list(signal.values) == known, signal.name


def test_each_wheel_reports_the_same(signals: dict[str, Signal]) -> None:
    for quantity in ("tyre_pressure", "tyre_temperature", "tyre_pressure_low"):
        wheels = [
            signals[f"{quantity}_{end}_{side}"] for end in ("front", "rear") for side in ("left", "right")
        ]
        assert len({(wheel.type, wheel.unit, wheel.range) for wheel in wheels}) == 1


def test_every_number_of_a_car_has_a_range(signals: dict[str, Signal]) -> None:
    """Percentiles and the check for values that cannot be need it."""
    assert [name for name, signal in signals.items() if signal.type == "number" and not signal.range] == []


def test_a_workshop_finds_its_trade_in_the_rules(shipped: RuleSet) -> None:
    rules = shipped.of_kind("car")
    assert len(rules) >= 22
    by = Counter(rule.touchpoint.kind for rule in rules)
    assert set(by) == {"appointment", "reminder", "hint", "notice"}
    assert {rule.purpose for rule in rules} == {"maintenance", "safety", "usage"}


def test_hardly_anything_is_urgent(shipped: RuleSet) -> None:
    """What is critical is shown at once, at the wheel and at night: only what destroys or endangers."""
    rules = shipped.of_kind("car")
    critical = {rule.id for rule in rules if rule.severity == "critical"}
    assert critical == {"coolant-too-hot", "oil-pressure-low", "misfire-harmful", "traction-battery-hot"}
    assert all(rule.while_driving for rule in rules if rule.severity == "critical")
    assert all(rule.touchpoint.expires_ms for rule in rules)


# --- what examples cannot show, since they know one device and no map -------------------------

MINUTE, DAY = 60_000, 86_400_000
START = 1_767_225_600_000  # 2026-01-01T00:00Z


class Alps:
    """Germany in the north, Austria in the south, Switzerland in the west of them."""

    def country(self, latitude: float, longitude: float) -> str | None:
        if longitude < 9.5:
            return "CH"
        return "DE" if latitude > 47.6 else "AT"

    def offset_ms(self, time_zone: str, ts: int) -> int:
        return 60 * MINUTE if time_zone == "Europe/Berlin" else 0


class Fleet:
    """Cars under one of the shipped rules, on a map, in the shared weather."""

    def __init__(self, shipped: RuleSet, rule: str) -> None:
        only = RuleSet({rule: shipped.rules[rule]}, shipped.catalogue)
        self.engine, self.position = Engine(only, geography=Alps()), 0

    def joins(self, car: str, model: str | None = None, time_zone: str | None = None) -> None:
        self.position += 1
        self.engine.register(self.position, START, car, "car", model, time_zone)

    def says(self, car: str, at: int, **signals: Value) -> None:
        """A report `at` ms after the start; what falls due before that is looked at."""
        while (due := self.engine.next_due()) is not None and due < START + at:
            self.position += 1
            self.engine.tick(self.position, due)
        self.position += 1
        self.engine.readings(self.position, START + at, car, "car", [(START + at, signals)])

    def weather(self, at: int, **signals: Value) -> None:
        self.position += 1
        self.engine.context(self.position, START + at, "weather", "", START + at, signals)

    def found(self) -> list[tuple[str, int]]:
        """Cars, and when in ms after the start."""
        return [(e.device, e.found_ts - START) for e in self.engine.take() if isinstance(e, Found)]


BREGENZ, LINDAU, KUFSTEIN = (47.50, 9.74), (47.64, 9.69), (47.58, 12.17)


def test_who_crosses_a_border_hears_of_it_after_half_an_hour(shipped: RuleSet) -> None:
    cars = Fleet(shipped, "abroad")
    for minutes, (latitude, longitude) in enumerate([LINDAU, BREGENZ, KUFSTEIN, KUFSTEIN, KUFSTEIN]):
        cars.says("car", 15 * minutes * MINUTE, latitude=latitude, longitude=longitude, home_country="DE")
    assert cars.found() == [("car", 45 * MINUTE)]


def test_who_only_turns_round_beyond_the_border_does_not(shipped: RuleSet) -> None:
    cars = Fleet(shipped, "abroad")
    for minutes, (latitude, longitude) in enumerate([LINDAU, BREGENZ, LINDAU, LINDAU, BREGENZ]):
        cars.says("car", 15 * minutes * MINUTE, latitude=latitude, longitude=longitude, home_country="DE")
    assert cars.found() == []


def test_a_vignette_is_for_guests(shipped: RuleSet) -> None:
    for home, expected in (("DE", [("car", 17 * MINUTE)]), ("AT", [])):
        cars = Fleet(shipped, "toll-abroad")
        for minutes, (latitude, longitude) in enumerate([LINDAU, BREGENZ, KUFSTEIN]):
            cars.says("car", 15 * minutes * MINUTE, latitude=latitude, longitude=longitude, home_country=home)
        assert cars.found() == expected


def test_a_battery_far_below_its_model_is_found_though_it_fades_slowly(shipped: RuleSet) -> None:
    cars = Fleet(shipped, "traction-battery-fades")
    names = [f"car-{number:02d}" for number in range(15)]
    for car in (*names, "odd"):
        cars.joins(car, model="Arden E")
    for day in range(8):
        for number, car in enumerate(names):
            cars.says(car, day * DAY + number, traction_battery_health=94 + number % 3 - day * 0.005)
        cars.says("odd", day * DAY + 99, traction_battery_health=86 - day * 0.005)
    assert [car for car, _ in cars.found()] == ["odd"]


def test_the_weather_report_warns_cars_that_have_no_thermometer(shipped: RuleSet) -> None:
    for degrees, expected in ((-12, ["car"]), (-4, [])):
        cars = Fleet(shipped, "battery-cold-night")
        cars.weather(0, temperature=degrees)
        for hours in range(4):
            cars.says("car", hours * 60 * MINUTE, engine_speed=0, battery_voltage=12.2)
        assert [car for car, _ in cars.found()] == expected


def test_the_evening_peak_is_that_of_the_owners_clock(shipped: RuleSet) -> None:
    for zone, hour in (("Europe/Berlin", 16), ("Europe/London", 17)):
        cars = Fleet(shipped, "charging-at-peak")
        cars.joins("car", time_zone=zone)
        for day in range(7):
            cars.says("car", day * DAY, charging=False)
            cars.says("car", day * DAY + hour * 60 * MINUTE, charging=True)
        cars.says("car", 7 * DAY, charging=False)
        assert cars.found() == [("car", 5 * DAY + (hour + 1) * 60 * MINUTE)]
