"""The catalogue for cars: true to VSS, rules enough and of every sort, few of them alarming."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

import config
from rules import Catalogue, RuleSet, Signal, load


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
