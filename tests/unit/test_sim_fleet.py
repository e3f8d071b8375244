"""Fleets of many kinds: who is drawn, what they send, what they need, and what the network makes of it."""

import csv
import gzip
import json
import os
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from garage import SIGNALS as CATALOGUE

from device_sim import tidy
from device_sim.faults import FAULTS, can_have, progress
from device_sim.fleet import Fleet, Message
from device_sim.formats import encoder, senml, sparkplug
from device_sim.needs import Meter, Needs
from device_sim.population import peopled
from device_sim.scenario import Scenario, ScenarioError, scenarios
from device_sim.wire import Reading

DAY = 86_400_000
MIXED = """
name: mixed
about: two of every kind
start: 2026-02-02 00:00
span: {days}d
groups:
  - {{id: car, count: 2, kind: car, habit: commuter, models: {{Arden 5: 1}}, gaps_a_month: 6}}
  - {{id: ev, count: 2, kind: car, habit: family, models: {{Tilia E: 1}}}}
  - {{id: van, count: 2, kind: car, habit: van, models: {{Lastra Van: 1}}}}
  - {{id: washer, count: 2, kind: washing_machine, habit: washing, models: {{WashMate 7: 1}}, idle: 24h}}
  - {{id: dish, count: 2, kind: dishwasher, habit: dishes, models: {{Tellmar 60: 1}}, idle: 24h}}
  - {{id: coffee, count: 2, kind: coffee_machine, habit: drinking, models: {{Barista M: 1}}, idle: 12h}}
  - {{id: fridge, count: 2, kind: refrigerator, habit: always_on, models: {{Kalter Duo: 1}}, idle: 2h}}
  - {{id: heat, count: 2, kind: heat_pump, habit: always_on, models: {{Geotherm 10: 1}}, idle: 4h}}
"""


def mixed(days: int = 20, more: str = "") -> Scenario:
    return Scenario.parse(MIXED.format(days=days) + more)


def played(scenario: Scenario, seed: int = 1) -> Iterator[Message]:
    scenario = scenario.peopled(seed)
    fleet = Fleet(scenario, seed)
    while fleet.next_at() < scenario.end:
        yield from fleet.play()


def bodies(messages: Iterator[Message], device: str, what: str = "telemetry") -> list[dict[str, Any]]:
    return [json.loads(m.payload) for m in messages if m.topic == f"touchpoint/v1/{device}/{what}"]


# --- populations --------------------------------------------------------------------------------------


def test_a_seed_draws_the_same_people_and_another_one_others() -> None:
    assert peopled(mixed(), 3).part == peopled(mixed(), 3).part
    assert peopled(mixed(), 3).part != peopled(mixed(), 4).part


def test_a_group_changes_nothing_for_another() -> None:
    whole = peopled(mixed(), 3).part.devices
    text = MIXED.format(days=20).splitlines()
    alone = Scenario.parse("\n".join(line for line in text if "id: van" not in line))
    assert peopled(alone, 3).part.devices == [d for d in whole if not d.id.startswith("van")]


@pytest.mark.parametrize("name", scenarios())
def test_the_same_seed_gives_the_same_bytes_of_every_shipped_scenario(name: str) -> None:
    def first(count: int) -> list[Message]:
        whole = Scenario.load(name)
        groups = [g.model_copy(update={"count": min(3, g.count)}) for g in whole.part.groups]
        fewer = Scenario(whole.part.model_copy(update={"groups": groups}))
        return list(islice(played(fewer), count))

    messages = first(400)
    assert messages == first(400)
    assert len(messages) > 100


def test_what_a_group_cannot_be_is_said() -> None:
    with pytest.raises(ScenarioError) as caught:
        mixed(
            more="  - {id: x, count: 1, kind: car, habit: washing, models: {Boat: 1}, faults: {spray_arm: 1}}"
        )
    assert [fault.split(": ")[0] for fault in caught.value.faults] == [
        "groups[8].models", "groups[8].faults", "groups[8].habit",
    ]  # fmt: skip


def test_events_reach_those_they_concern() -> None:
    text = """
events:
  - {what: outage, at: 2026-02-04 10:00, lasts: 3h, kind: refrigerator}
  - {what: recall, at: 2026-02-05 10:00, models: [Tilia E]}
  - {what: firmware, at: 2026-02-06 02:00, lasts: 1h, version: 2.0.0, kind: car, models: [Arden 5],
     trouble: {what: wrong_unit, begin: 2026-02-06 02:00, end: 2026-02-07 02:00, signal: speed, factor: 2}}
"""
    devices = {d.id: d for d in peopled(mixed(more=text), 3).part.devices}
    assert len(devices["fridge-0000"].gaps) == 1
    assert devices["ev-0001"].recalled is not None
    assert devices["car-0000"].recalled is None
    assert [u.version for u in devices["car-0000"].updates] == ["2.0.0"]
    assert [t.what for t in devices["car-0001"].troubles] == ["wrong_unit"]
    assert not devices["washer-0000"].gaps


# --- what they send -------------------------------------------------------------------------------------


def test_devices_send_signals_of_the_catalogue_within_their_range() -> None:
    scenario = mixed(25).peopled(2)
    kinds = {device.id: device.kind for device in scenario.part.devices}
    seen: dict[str, set[str]] = {kind: set() for kind in kinds.values()}
    for message in played(mixed(25), 2):
        if message.topic.endswith("/telemetry"):
            signals = json.loads(message.payload)["signals"]
            kind = kinds[message.device]
            seen[kind] |= set(signals)
            for name, value in signals.items():
                signal = CATALOGUE.signal(kind, name)
                assert signal is not None, (kind, name)
                if signal.range is not None and isinstance(value, float):
                    assert signal.range[0] <= value <= signal.range[1], (kind, name, value)
    assert {kind: len(names) > 15 for kind, names in seen.items()} == dict.fromkeys(seen, True)


def test_a_year_s_file_is_the_same_twice_and_the_backtest_can_read_it(tmp_path: Path) -> None:
    counts = [tidy.write(mixed(12), 5, tmp_path / name, jobs=jobs) for name, jobs in (("a", 1), ("b", 3))]
    assert counts[0] == counts[1]
    for name in ("readings.csv.gz", "events.csv", "devices.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with gzip.open(tmp_path / "a" / "readings.csv.gz", "rt", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert len(rows) - 1 == counts[0]["rows"] > 1_000
    assert {len(row) for row in rows} == {len(rows[0])}
    assert "dtc[]" in rows[0]


def test_other_machines_write_the_same_bytes(tmp_path: Path) -> None:
    """Nothing depends on how a process orders its sets, on its zone, its language, or its number of cores."""
    scenario = tmp_path / "mixed.yaml"
    scenario.write_text(MIXED.format(days=6), encoding="utf-8")
    program = Path(sys.executable).parent / "touchpoint"
    running = [
        subprocess.Popen(
            [program, "sim", "run", scenario, "--seed", "9", "--out", tmp_path / name, "--jobs", name],
            env=os.environ | {"PYTHONHASHSEED": name, "TZ": zone, "LC_ALL": "C", "LANG": language},
            stdout=subprocess.DEVNULL,
        )
        for name, zone, language in (("1", "Pacific/Auckland", "de_DE.UTF-8"), ("2", "UTC", "C"))
    ]
    assert [process.wait(120) for process in running] == [0, 0]
    for name in ("readings.csv.gz", "events.csv", "devices.csv"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    assert (tmp_path / "1" / "readings.csv.gz").stat().st_size > 10_000


# --- needs ------------------------------------------------------------------------------------------------


def test_every_fault_says_what_it_looks_like_and_has_a_kind() -> None:
    assert all(fault.looks and fault.kinds for fault in FAULTS.values())
    assert "brew_seal" in can_have("coffee_machine")
    assert progress("bearing_worn", 0.5) < 0.5 < progress("coolant_leak", 0.51)


def lived(faults: str, days: int, kind: str = "refrigerator", model: str = "Kalter Duo") -> Fleet:
    text = f"""
name: one
about: one device
start: 2026-02-02 00:00
span: {days}d
owners: [{{id: ida, name: Ida}}]
devices:
  - {{id: it, kind: {kind}, model: {model}, owner: ida, reports: full, idle: 2h, faults: [{faults}]}}
"""
    scenario = Scenario.parse(text)
    fleet = Fleet(scenario, 1)
    while fleet.next_at() < scenario.end:
        fleet.play()
    return fleet


def test_a_fault_that_nobody_mends_comes_to_the_worst_and_is_mended_late() -> None:
    fleet = lived("{fault: refrigerant_loss, onset: 2026-02-10 00:00, over: 20d}", 60)
    need = next(need for need in fleet.units["it"].needs.all if need.what == "refrigerant_loss")
    assert need.failed
    assert need.fails is not None
    assert need.ended is not None
    assert 2 * DAY <= need.ended - need.fails <= 9 * DAY


def test_a_fault_that_is_mended_in_time_never_comes_to_it() -> None:
    fleet = lived("{fault: refrigerant_loss, onset: 2026-02-10 00:00, over: 20d}", 12)
    at = fleet.next_at()
    fleet.repair("it", "cooling-circuit", at)
    need = fleet.units["it"].needs.all[-1]
    assert (need.failed, need.ended) == (False, at)
    assert fleet.units["it"].courses(at + 15 * DAY) == {}


def test_wear_is_projected_at_the_rate_of_its_use() -> None:
    needs = Needs(device="it")
    meter = Meter(what="pads", services=("brakes",), begin=80, limit=100)
    for day in range(90):
        needs.level(meter, float(day), day * DAY)
    need = needs.get("pads")
    assert need is not None
    assert need.fails == 100 * DAY
    needs.end("pads", 90 * DAY)
    assert not need.failed
    assert need.fits("brakes", 85 * DAY)
    assert not need.fits("brakes", 95 * DAY)
    assert not need.fits("oil", 85 * DAY)


def test_a_faulty_fridge_runs_longer_and_then_gets_warm() -> None:
    unit: Any = lived("{fault: refrigerant_loss, onset: 2026-02-03 00:00, over: 30d}", 30).units["it"]
    well: Any = lived("", 30).units["it"]
    assert well.fridge.duty < 60
    assert unit.fridge.duty == 100
    assert unit.fridge.fridge > well.fridge.fridge + 2


def test_what_owners_do_themselves_is_over_afterwards() -> None:
    fleet = lived("", 4, kind="dishwasher", model="Tellmar 60")
    unit: Any = fleet.units["it"]
    unit.machine.salt = 0.0
    unit.care("refill-salt", fleet.next_at() - 1)
    fleet.play()
    assert unit.machine.salt == 1.0


# --- the network ------------------------------------------------------------------------------------------


def troubled(trouble: str) -> list[Message]:
    text = f"""
events:
  - {{what: trouble, at: 2026-02-03 00:00, lasts: 4d, devices: [heat-0000], trouble: {{{trouble},
     begin: 2026-02-03 00:00, end: 2026-02-07 00:00}}}}
"""
    return list(played(mixed(6, text)))


@pytest.fixture(scope="module")
def sound() -> list[Message]:
    return list(played(mixed(6)))


def heat(messages: list[Message]) -> list[Message]:
    return [m for m in messages if m.device == "heat-0000"]


def test_trouble_touches_nobody_else(sound: list[Message]) -> None:
    odd = troubled("what: poison, share: 0.9")
    assert [m for m in odd if m.device != "heat-0000"] == [m for m in sound if m.device != "heat-0000"]
    assert Counter(m.payload for m in heat(odd)) != Counter(m.payload for m in heat(sound))


def test_a_wrong_clock_and_a_wrong_unit(sound: list[Message]) -> None:
    late = bodies(iter(troubled("what: wrong_clock, shift: -3h")), "heat-0000")
    plain = bodies(iter(sound), "heat-0000")
    assert {a["ts"] - b["ts"] for a, b in zip(plain, late, strict=True)} == {0, 3 * 3_600_000}
    text = "what: wrong_unit, signal: outside_temperature, factor: 1.8, offset: 32"
    hot = bodies(iter(troubled(text)), "heat-0000")
    changed = [
        (a["signals"]["outside_temperature"], b["signals"]["outside_temperature"])
        for a, b in zip(plain, hot, strict=True)
    ]
    assert all(b == pytest.approx(a) or b == pytest.approx(a * 1.8 + 32) for a, b in changed)
    assert any(a != b for a, b in changed)


def test_a_sensor_that_drifts_and_values_that_drop_out(sound: list[Message]) -> None:
    plain = bodies(iter(sound), "heat-0000")
    begin = 1_770_073_200_000  # 2026-02-03 00:00 in Berlin
    text = "what: drift, signal: outside_temperature, per_day: 0.5"
    wandered = bodies(iter(troubled(text)), "heat-0000")
    added = {
        b["ts"]: b["signals"]["outside_temperature"] - a["signals"]["outside_temperature"]
        for a, b in zip(plain, wandered, strict=True)
    }
    days = {ts: (ts - begin) / DAY for ts in added}
    assert added == {ts: pytest.approx(0.5 * d if 0 <= d < 4 else 0, abs=0.001) for ts, d in days.items()}
    assert max(added.values()) > 1
    left = bodies(iter(troubled("what: dropouts, share: 0.2")), "heat-0000")
    whole, some = (sum(len(body["signals"]) for body in of) for of in (plain, left))
    assert len(plain) == len(left)
    assert 0.75 * whole < some < 0.95 * whole
    one = bodies(iter(troubled("what: dropouts, signal: superheat")), "heat-0000")
    names = [set(a["signals"]) - set(b["signals"]) for a, b in zip(plain, one, strict=True)]
    assert set().union(*names) == {"superheat"}


def test_floods_repetitions_and_speaking_for_another(sound: list[Message]) -> None:
    calm = len(heat(sound))
    assert len(heat(troubled("what: flood, count: 50"))) > 10 * calm
    assert len(heat(troubled("what: duplicates"))) > 1.5 * calm
    names = {m.topic.split("/")[2] for m in heat(troubled("what: somebody_else, whose: heat-0001"))}
    assert names == {"heat-0000", "heat-0001"}


@pytest.mark.parametrize("ordered", [0, 1])
def test_late_delivery_in_order_or_not(ordered: int) -> None:
    text = f"""
events:
  - {{what: outage, at: 2026-02-03 00:00, lasts: 60h, kind: refrigerator, in_order: {ordered}}}
"""
    times = [body["ts"] for body in bodies(played(mixed(6, text)), "fridge-0000")]
    assert (times == sorted(times)) is bool(ordered)
    assert len(times) - len(set(times)) == (0 if ordered else 1)


# --- formats ----------------------------------------------------------------------------------------------


READING = Reading(ts=1_767_225_600_000, signals={"speed": 12.5, "locked": True, "mode": "off", "count": 7})


def test_senml_has_a_base_name_and_time_in_its_first_record() -> None:
    first, *rest = json.loads(senml("car-1", READING))
    assert first == {"bn": "car-1:", "bt": 1_767_225_600.0, "n": "speed", "v": 12.5}
    assert rest == [{"n": "locked", "vb": True}, {"n": "mode", "vs": "off"}, {"n": "count", "v": 7}]


def fields(data: bytes) -> list[tuple[int, Any]]:
    """The fields of a protobuf message."""
    out, at = [], 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            out.append((key >> 3, varint()))
        elif key & 7 == 1:
            out.append((key >> 3, struct.unpack("<d", data[at : at + 8])[0]))
            at += 8
        else:
            length = varint()
            out.append((key >> 3, data[at : at + length]))
            at += length
    return out


def test_sparkplug_is_a_birth_and_then_data() -> None:
    write = encoder("sparkplug", "car-1")
    (birth, _), (data, body) = write(READING, 1), write(READING, 2)
    assert birth == "spBv1.0/touchpoint/NBIRTH/car-1"
    assert data == "spBv1.0/touchpoint/NDATA/car-1"
    told = fields(body)
    assert told[0] == (1, READING.ts)
    assert told[-1] == (3, 1)
    metrics = [dict(fields(value)) for number, value in told if number == 2]
    assert [(metric.get(1), metric[2]) for metric in metrics] == [(None, alias) for alias in (1, 2, 3, 4)]
    assert [metric[4] for metric in metrics] == [10, 11, 12, 4]
    assert (metrics[0][13], metrics[1][14], metrics[2][15], metrics[3][11]) == (12.5, 1, b"off", 7)
    assert b"bdSeq" in sparkplug(READING, 0, birth=True)


def test_every_fault_habit_and_scenario_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")
    assert [name for name, fault in FAULTS.items() if fault.services and f"| {name} |" not in text] == []
    assert [name for name in scenarios() if name not in text] == []
