"""touchpoint rules backtest, as people and scripts use it: files, the store, tables, JSON, exit statuses."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from real_parts import Mosquitto
from running_gateway import called, now_ms, one_line, publish, running_gateway, telemetry

HEAT = """
- {id: heat, version: 2, kind: oven, purpose: maintenance, severity: advice,
   when: heat > 90, for: 30m, touchpoint: {kind: notice}}
- {id: stuck, version: 1, kind: oven, purpose: maintenance, severity: advice, shadow: true,
   when: door_open and "'E1' in errors", touchpoint: {kind: notice}}
""".replace('''door_open and "'E1' in errors"''', '''"door_open and 'E1' in errors"''')
HOTTER = HEAT.replace("version: 2", "version: 1").replace("> 90", "> 95")
OVENS = """
kind: oven
label: {en: Oven, de: Ofen}
signals:
  heat: {unit: °C, label: {en: Heat, de: Hitze}}
  door_open: {type: boolean, label: {en: Door, de: Tür}}
  errors: {type: codes, label: {en: Errors, de: Fehler}}
  state: {type: string, label: {en: State, de: Zustand}}
"""
READINGS = """device,ts,heat,door_open,errors[],state,colour
oven-1,2026-01-05T00:00:00Z,20,false,,idle,red
oven-1,2026-01-05T01:00:00Z,91,,E2|E1,,red
oven-2,1767574800000,99.5,TRUE,E1,hot,red
oven-1,2026-01-05T03:00:00+01:00,92,,,,
oven-2,2026-01-05T02:00:00Z,,,,,
oven-1,2026-01-05T03:00:00.000Z,n/a,,,,
oven-1,2026-01-06T00:00:00Z,20,,,,
oven-1,2026-01-15T00:00:00Z,97,,,,
oven-1,2026-01-15T02:00:00Z,97,,,,
oven-2,2026-01-15T02:00:00Z,20,,,,
"""
TRUTH = """ts,device,kind
2026-01-05T12:00:00Z,oven-1,failure:fan
2026-01-15T12:00:00Z,oven-2,failure:fan
2026-01-05T01:00:00Z,oven-1,maintenance:fan
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "rules.yaml").write_text(HEAT)
    (tmp_path / "old.yaml").write_text(HOTTER)
    (tmp_path / "signals.yaml").write_text(OVENS)
    (tmp_path / "readings.csv").write_text(READINGS)
    (tmp_path / "readings.csv.gz").write_bytes(gzip.compress(READINGS.encode()))
    (tmp_path / "truth.csv").write_text(TRUTH)
    (tmp_path / "devices.csv").write_text("device,model,owner\noven-1,m1,jana\noven-2,m1,jana\n")
    return tmp_path


def backtest(files: Path, *arguments: str, readings: str = "readings.csv", status: int = 0) -> str:
    done = called(
        "rules", "backtest", files / "rules.yaml", "--signals", files / "signals.yaml",
        "--readings", files / readings, *(a.replace("@", f"{files}/") for a in arguments),
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stdout if status < 2 else done.stderr


def as_json(files: Path, *arguments: str, **given: Any) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(backtest(files, *arguments, "--json", **given))
    return said


@pytest.mark.parametrize("readings", ["readings.csv", "readings.csv.gz"])
def test_a_file_is_read_with_its_types_and_every_episode_is_found(files: Path, readings: str) -> None:
    said = as_json(files, readings=readings)
    assert [(f["device"], f["rule"], f["found"]) for f in said["findings"]] == [
        ("oven-2", "stuck", "2026-01-05T01:00:00.000Z"),
        ("oven-1", "heat", "2026-01-05T01:30:00.000Z"),
        ("oven-2", "heat", "2026-01-05T01:30:00.000Z"),
        ("oven-1", "heat", "2026-01-15T00:30:00.000Z"),
    ]
    assert (said["readings"], said["rows"], said["devices"]) == (15, 9, 2)
    assert [w["touchpoints"] for w in said["weeks"]] == [3, 1]
    assert [w["week"] for w in said["weeks"]] == ["2026-W02", "2026-W03"]
    assert [(r["rule"], r["version"], r["shadow"], r["touchpoints"]) for r in said["rules"]] == [
        ("heat", 2, False, 3),
        ("stuck", 1, True, 1),
    ]
    assert said["truth"] is None
    assert said["owners_touched"] is None


def test_against_what_really_happened(files: Path) -> None:
    truth = as_json(files, "--truth", "@truth.csv", "--within", "24h")["truth"]
    assert (truth["failures"], truth["announced"], truth["recall"]) == (2, 1, 0.5)
    assert (truth["findings"], truth["true"], truth["precision"]) == (4, 1, 0.25)
    assert truth["median_lead_hours"] == 10.5
    assert truth["missed"] == [{"device": "oven-2", "ts": "2026-01-15T12:00:00.000Z", "kind": "failure:fan"}]
    assert [alarm["undecided"] for alarm in truth["false_alarms"]] == [False, False, True]


def test_a_period_counts_only_its_own(files: Path) -> None:
    said = as_json(files, "--from", "2026-01-06", "--to", "2026-01-15T01:00:00Z", "--truth", "@truth.csv")
    assert [f["found"] for f in said["findings"]] == []  # the readings of 01:00 and later never came
    assert said["truth"]["failures"] == 0
    said = as_json(files, "--from", "2026-01-06", "--truth", "@truth.csv")
    assert [f["found"] for f in said["findings"]] == ["2026-01-15T00:30:00.000Z"]
    assert (said["from"], said["to"]) == ("2026-01-06T00:00:00.000Z", None)
    assert said["truth"]["failures"] == 1


def test_two_versions_side_by_side(files: Path) -> None:
    said = as_json(files, "--against", "@old.yaml")
    assert said["against"]["touchpoints"] == 3
    assert [f["device"] for f in said["differences"]["only_here"]] == ["oven-1"]
    assert said["differences"]["only_against"] == []
    assert len(said["differences"]["both"]) == 3
    text = backtest(files, "--against", "@old.yaml")
    assert "the same episodes: 3; only here: 1; only against: 0" in text
    assert "1 → 2" in text


def test_what_people_read(files: Path) -> None:
    text = backtest(files, "--truth", "@truth.csv", "--from", "2026-01-05", "--devices", "@devices.csv")
    for said in (
        "15 readings of 2 devices, 2026-01-05 00:00 to 2026-01-15 02:00 UTC",
        "counted are findings and failures from 2026-01-05 00:00 to the end; earlier readings only warm",
        "not used, since they are no signals of the kind: colour",
        "4 touchpoints for 2 devices of 1 owner; 2 of them in bursts",
        "stuck (shadow)",
        "2026-W02  2026-01-05",
        "failure:* within 48 h  figure",
        "missed: 2026-01-15 12:00  oven-2  failure:fan",
        "(undecided: the readings end too soon after it)",
    ):
        assert said in text


def test_rules_that_found_nothing_stand_in_one_line(files: Path) -> None:
    text = backtest(files, "--to", "2026-01-05T01:10:00Z")
    assert "never found: heat\n" in text
    assert "stuck (shadow)        1            1        1" in text


def test_a_broken_rule_is_a_finding(files: Path) -> None:
    (files / "rules.yaml").write_text(HEAT.replace("heat > 90", "haet > 90"))
    said = backtest(files, status=1)
    assert "oven has no signal haet; did you mean heat?" in said
    assert "did you mean heat?" in as_json(files, status=1)["faults"][0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--from", "yesterday"), "--from yesterday: write a date (UTC) or RFC 3339"),
        (("--from", "2026-01-06", "--to", "2026-01-05"), "--from has to be before --to"),
        (("--kind", "stove"), "--kind stove: no signals are known for it"),
        (("--kind", "car"), "readings.csv has no readings of signals of oven in that time"),
        (("--truth", "@truth.csv", "--within", "long"), "--within long: write a span such as 48h"),
        (("--truth", "@truth.csv", "--truth-kind", "fail"), "there are: failure:fan, maintenance:fan"),
        (("--truth", "@readings.csv"), "readings.csv: the column kind is missing; there are: device, ts"),
        (("--truth", "@none.csv"), "No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(files: Path, arguments: tuple[str, ...], said: str) -> None:
    done = backtest(files, *arguments, status=2)
    assert said in done
    assert done.startswith("touchpoint rules: ")
    assert done.count("\n") == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("oven-1,tomorrow,1,,,,", "row 12: 'tomorrow' is no time: write RFC 3339 with a zone, or epoch ms"),
        ("oven-1,2026-01-15T02:00:00,1,,,,", "row 12: '2026-01-15T02:00:00' is no time"),
        ("oven-1,2026-01-15T02:00:00Z,1", "row 12: 3 cells, but 7 columns"),
        (",2026-01-15T02:00:00Z,1,,,,", "row 12: the device is missing"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(files: Path, row: str, said: str) -> None:
    (files / "readings.csv").write_text(f"{READINGS}{row}\n")
    assert said in backtest(files, status=2)


def test_a_file_that_is_cut_off_is_named(files: Path) -> None:
    whole = (files / "readings.csv.gz").read_bytes()
    (files / "readings.csv.gz").write_bytes(whole[:-20])
    assert "readings.csv.gz: cannot be read as CSV" in backtest(files, readings="readings.csv.gz", status=2)


def test_the_schema_for_editors_knows_signals_that_are_given(files: Path) -> None:
    done = called("rules", "schema", "--signals", files / "signals.yaml")
    rule = json.loads(done.stdout)["items"]
    assert done.returncode == 0
    assert {"car", "oven"} <= set(rule["properties"]["kind"]["enum"])
    assert "kind" in json.loads(called("rules", "schema", "signals").stdout)["else"]["properties"]


def test_over_the_store_of_a_running_gateway(files: Path, tmp_path: Path, mosquitto: Mosquitto) -> None:
    """A registered device counts with its owner; one whose kind only its name tells counts as well."""
    rules = tmp_path / "hot.yaml"
    rules.write_text(
        "- {id: hot, version: 1, kind: car, purpose: safety, severity: critical, for: 30m,\n"
        "   when: coolant_temperature > 115, touchpoint: {kind: notice}}\n"
    )
    hour = 3_600_000
    began = now_ms() - 9 * hour
    with running_gateway(tmp_path / "gateway", mosquitto.url, devices__kinds='{"van-*": "car"}') as gateway:
        gateway.start()
        gateway.owner("owner", ["car-1"])
        publish(
            mosquitto.url,
            [
                telemetry(device, began + at * hour, coolant_temperature=heat, speed=50)
                for device in ("car-1", "van-1", "oven-1")
                for at, heat in ((0, 90), (1, 120), (2, 121), (3, 95), (4, 120), (8, 120))
            ],
        )
        gateway.until_total("touchpoint_messages_recorded_total", 18)
        said = json.loads(gateway.command("rules", "backtest", str(rules), "--json").stdout)
        assert (said["rows"], said["readings"], said["devices"]) == (12, 24, 2)
        assert said["touchpoints"] == 4
        assert {f["device"] for f in said["findings"]} == {"car-1", "van-1"}
        assert said["owners_touched"] == 1
    done = called(
        "rules", "backtest", rules, settings={"data_dir": str(tmp_path / "empty"), "rules.paths": "[]"}
    )
    assert one_line(done).startswith("touchpoint rules: the time-series store has no readings")
