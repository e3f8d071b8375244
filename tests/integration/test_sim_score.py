"""A score through the real gateway: what is found, told, booked and mended, the same twice."""

import argparse
import json
from pathlib import Path

import pytest

from gateway.score import run

SCENARIO = """
name: tiny
about: worn pads, a weak battery, and a machine that wants descaling
start: 2026-03-02 00:00
span: 40d
workshops:
  - id: shop
    name: Shop
    bays: [A, B]
    looks: daily
    hours: {mon: [[08:00, 17:00]], tue: [[08:00, 17:00]], wed: [[08:00, 17:00]], fri: [[08:00, 17:00]]}
    services:
      - {id: brakes-front, names: {en: Pads, de: Beläge}, minutes: 60}
      - {id: battery, names: {en: Battery, de: Batterie}, minutes: 30}
owners:
  - {id: ida, name: Ida, consents: {maintenance: true, usage: true, safety: true}, acts: {after: 1h, does: 1}}
  - {id: tom, name: Tom, consents: {maintenance: true, usage: true, safety: true}, acts: {sees: nothing}}
devices:
  - &car
    id: car-ida
    kind: car
    model: Arden 5
    owner: ida
    workshop: shop
    reports: full
    idle: 6h
    begins: {pad_wear_front: 87, service_km: 20000, service_days: 400, oil_wear: 10}
    trips: [{days: [mon, tue, wed, thu, fri], leave: 07:00, arrive: 08:10, spread: 5m, every: 20m},
            {days: [mon, tue, wed, thu, fri], leave: 16:00, arrive: 17:10, spread: 5m, every: 20m}]
    faults: [{fault: battery_ageing, onset: 2026-03-02 00:00, over: 38d}]
  - {<<: *car, id: car-tom, owner: tom}
  - id: washer
    kind: washing_machine
    model: WashMate 7
    owner: ida
    reports: full
    idle: 24h
    begins: {washes_since_descale: 38, wash_cycles: 400}
    runs: [{days: [mon, wed, fri], at: 18:00, program: cotton_60}]
"""


def scored(tmp_path: Path, capsys: pytest.CaptureFixture[str], **more: object) -> dict[str, object]:
    file = tmp_path / "tiny.yaml"
    file.write_text(SCENARIO, encoding="utf-8")
    arguments = {
        "scenario": str(file), "seed": 5, "step": 7200.0, "paths": [], "against": None, "signals": [],
        "picture": None, "json": True,
    }  # fmt: skip
    assert run(argparse.Namespace(**{**arguments, **more})) == 0
    told: dict[str, object] = json.loads(capsys.readouterr().out)
    return told


def test_what_is_told_is_mended_and_what_is_not_breaks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "score.svg"
    first = scored(tmp_path, capsys, picture=picture)
    rules = first["scores"]["rules"]  # type: ignore[index]
    battery = rules["by_need"]["battery_ageing"]
    assert (battery["needs"], battery["recall"], battery["prevented"]) == (2, 1.0, 1)
    assert rules["by_need"]["pads_front"]["recall"] == 1.0
    assert rules["rules"]["descale-due"]["contacts"] == 1
    assert rules["precision"] == 1.0
    assert rules["needless"] == 0
    assert rules["median_lead_days"] > 5
    assert picture.read_text(encoding="utf-8").startswith("<svg")


def test_two_rule_sets_stand_side_by_side_and_a_seed_gives_the_same_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(
        """
- id: pads
  version: 1
  kind: car
  purpose: maintenance
  severity: advice
  when: pad_wear_front >= 20
  touchpoint: {kind: appointment, service: brakes-front, expires: 14d}
  source: far too early, to see what that costs
  examples: []
""",
        encoding="utf-8",
    )
    both = scored(tmp_path, capsys, against=other)["scores"]
    again = scored(tmp_path, capsys, paths=[other])["scores"]
    assert both["against"] == again["rules"]  # type: ignore[index]
    assert both["rules"]["recall"] > both["against"]["recall"]  # type: ignore[index]
    assert [*both["against"]["rules"]] == ["pads"]  # type: ignore[index]
