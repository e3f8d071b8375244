"""The shipped signals and rules: sound, proved by their examples, silent for a car without a fault."""

from __future__ import annotations

import csv
import gzip
import os
import re
from datetime import datetime
from pathlib import Path

import pytest

from gateway.adapters.geography import Earth
from rules import FUNCTIONS, Catalogue, Engine, Found, RuleSet, Value, load, run_examples

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("TOUCHPOINT_SHARED", ROOT.parent / "shared"))
VSS_UNITS = {"percent": "percent", "Celsius": "°C", "degrees": "°"}


def texts(folder: str) -> list[tuple[str, str]]:
    return [
        (path.name, path.read_text("utf-8")) for path in sorted((ROOT / "config" / folder).glob("*.yaml"))
    ]


@pytest.fixture(scope="module")
def shipped() -> RuleSet:
    return load(texts("rules"), Catalogue.parse(texts("signals")))


def data(name: str) -> Path:
    path = SHARED / "data" / name
    if not path.exists():
        pytest.skip(
            f"{name} is not beside the repository; TOUCHPOINT_SHARED may name the folder that has data/"
        )
    return path


def test_every_example_comes_true(shipped: RuleSet) -> None:
    wrong = [result for result in run_examples(shipped, Earth()) if not result.passed]
    assert wrong == []


def test_every_rule_has_examples_of_both_kinds_and_says_where_its_threshold_comes_from(
    shipped: RuleSet,
) -> None:
    for rule in shipped.rules.values():
        assert any(example.fires_at for example in rule.examples), rule.id
        assert any(not example.fires_at for example in rule.examples), rule.id
        assert rule.source, rule.id
        assert rule.touchpoint.service, rule.id


def test_there_are_rules_for_every_kind(shipped: RuleSet) -> None:
    assert len(shipped.of_kind("car")) >= 4
    for kind in ("washing_machine", "dishwasher", "coffee_machine", "refrigerator", "heat_pump"):
        assert len(shipped.of_kind(kind)) >= 5, kind
    assert {rule.kind for rule in shipped.rules.values()} == set(shipped.catalogue.kinds)


def test_the_signals_that_others_rely_on_are_there(shipped: RuleSet) -> None:
    car = shipped.catalogue.kinds["car"].signals
    assert {"speed", "engine_speed", "coolant_temperature", "fuel_level", "battery_voltage"} <= set(car)
    assert {"pad_wear_front", "pad_wear_rear", "odometer", "dtc"} <= set(car)
    assert car["dtc"].type == "codes"
    pads = car["pad_wear_front"].display
    assert pads is not None
    assert (pads.unit, pads.shown(0), pads.shown(95), pads.shown(100)) == ("mm", 12, 2.5, 2)
    assert shipped.catalogue.aliases("car")["Vehicle.Speed"] == "speed"


def test_vss_paths_exist_and_have_our_units(shipped: RuleSet) -> None:
    with data("vss.csv").open() as file:
        leaves = {row["path"]: row for row in csv.DictReader(file)}
    for path, name in shipped.catalogue.aliases("car").items():
        signal = shipped.catalogue.kinds["car"].signals[name]
        assert path in leaves, name
        unit = leaves[path]["unit"] or None
        assert signal.unit == VSS_UNITS.get(unit or "", unit), name
        expected = {"boolean": "boolean", "string": "string", "string[]": "codes"}
        assert signal.type == expected.get(leaves[path]["datatype"], "number"), name


def rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    with gzip.open(path, "rt") as file:
        reader = csv.DictReader(file)
        return list(reader.fieldnames or ()), list(reader)


def test_all_columns_of_the_real_trips_are_signals(shipped: RuleSet) -> None:
    names, _ = rows(data("car_trips/readings.csv.gz"))
    assert set(names) - {"device", "ts"} <= set(shipped.catalogue.kinds["car"].signals)


@pytest.mark.parametrize("voltage", ["module_voltage", "battery_voltage"])
def test_a_car_without_a_fault_gives_no_finding(shipped: RuleSet, voltage: str) -> None:
    """85 real trips; the second time their voltage, with its dips in cranking, is called the battery's."""
    engine, found = Engine(shipped), []
    _, trips = rows(data("car_trips/readings.csv.gz"))
    for position, row in enumerate(trips, 1):
        ts = round(datetime.fromisoformat(row["ts"]).timestamp() * 1000)
        while (due := engine.next_due()) is not None and due < ts:
            engine.tick(position, due)
        signals: dict[str, Value] = {
            voltage if name == "module_voltage" else name: value if name == "trip" else float(value)
            for name, value in row.items()
            if value and name not in ("device", "ts")
        }
        engine.readings(position, ts, row["device"], "car", [(ts, signals)])
        found += engine.take()
    month_later = ts + 30 * 86_400_000  # rules that ask for the hour of the day fall due for ever
    while (due := engine.next_due()) is not None and due < month_later:
        engine.tick(len(trips), due)
    assert found + engine.take() == []
    assert engine.errors == {}


def test_a_weak_battery_is_found_though_the_car_is_driven_every_day(shipped: RuleSet) -> None:
    """It rests from evening to morning and reports every six hours."""
    engine, hour = Engine(shipped), 3_600_000
    story = [(0, 13.9, 2000), (1, 12.3, 0), (7, 12.0, 0), (13, 11.9, 0), (14, 7.9, 0), (14.01, 13.8, 1500)]
    for position, (hours, volts, revolutions) in enumerate(story, 1):
        ts = round(hours * hour)
        while (due := engine.next_due()) is not None and due < ts:
            engine.tick(position, due)
        engine.readings(
            position, ts, "car-1", "car", [(ts, {"battery_voltage": volts, "engine_speed": revolutions})]
        )
    assert [event.rule for event in engine.take() if isinstance(event, Found)] == ["battery-weak"]


def test_every_function_and_every_key_is_documented() -> None:
    text = (ROOT / "docs" / "rules.md").read_text("utf-8")
    for function in FUNCTIONS.values():
        assert f"`{function.form.split(' or ')[0]}`" in text, function.name
        assert function.means in text, function.name
    from rules import catalogue, signals

    for key in (*catalogue._KEYS, *signals._SIGNAL_KEYS, *catalogue._EXPECT, *signals._KIND_KEYS):
        assert f"`{key}`" in text, key


def test_the_documented_rules_load_and_their_examples_come_true(shipped: RuleSet) -> None:
    text = (ROOT / "docs" / "rules.md").read_text("utf-8")
    blocks = re.findall(r"```yaml\n(- id:.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        results = run_examples(load([("docs/rules.md", block)], shipped.catalogue))
        assert results
        assert all(result.passed for result in results), results


def test_rules_as_other_people_write_them_load_beside_ours(shipped: RuleSet) -> None:
    """Without examples and source, with thresholds of two decimals."""
    foreign = "".join(
        f"- id: accept-{i:02d}\n  version: 1\n  kind: car\n  purpose: maintenance\n  severity: advice\n"
        f"  when: {signal}{i:02d}\n  for: {600 + i}s\n"
        "  touchpoint: {kind: appointment, service: brakes-front, expires: 14d}\n"
        for i, signal in enumerate(
            10
            * [
                "speed >= 119.",
                "coolant_temperature >= 99.",
                "battery_voltage >= 13.9",
                "odometer >= 900000.",
            ]
        )
    )
    together = load([*texts("rules"), ("foreign.yaml", foreign)], shipped.catalogue)
    assert len(together.rules) == len(shipped.rules) + 40
    assert together.rules["accept-05"].limit == 99.05
    assert together.rules["accept-12"].for_ms == 612_000
