"""SenML and Sparkplug B: what the vectors promise, and what births mean over restarts."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from device_sim import formats
from gateway.adapters.codec_choice import Choice, expression, level
from gateway.adapters.codec_sparkplug import Births, rebirth
from gateway.adapters.codecs import make_decoder
from gateway.domain.messages import Batch, Decoded
from rules import Catalogue

NOW = 1_767_225_600_000  # 2026-01-01
CATALOGUE = Catalogue.parse(
    [
        (
            "car.yaml",
            """
kind: car
signals:
  speed: {unit: km/h, vss: Vehicle.Speed, label: {en: Speed, de: Tempo}}
  outside_temperature: {unit: °C, label: {en: Outside, de: Außen}}
  fuel_level: {unit: percent, label: {en: Fuel, de: Tank}}
  dtc: {type: codes, label: {en: Codes, de: Codes}}
""",
        )
    ]
)
FORMATS = {"senml/+": "senml_json", "senml-cbor/+": "senml_cbor", "spBv1.0/#": "sparkplug"}


class Gateway:
    """A decoder with what it remembers."""

    def __init__(self, births: Births | None = None, claimed: Any = None) -> None:
        self.births = births or Births()
        others = Choice(FORMATS, CATALOGUE, self.births, claimed=claimed, ahead_ms=86_400_000)
        self.decode = make_decoder({}, others=others)
        self.position = 0

    def take(self, topic: str, payload: bytes, *, at: int | None = None) -> Decoded:
        self.position = self.position + 1 if at is None else at
        return self.decode(Batch(first=self.position, received=NOW, messages=[(topic, payload)]))


def readings(decoded: Decoded) -> list[tuple[int, str, Any]]:
    return [
        (ts, name, value) for _, _, ts, signals, *_ in decoded.telemetry for name, value in signals.items()
    ]


def outcome(decoded: Decoded) -> str:
    if decoded.undecodable:
        return "partial" if decoded.telemetry else "quarantine"
    return "accept"


def vectors(shared_data: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (shared_data / "vectors" / name).read_text().splitlines()]


def pack(*records: dict[str, Any]) -> bytes:
    return json.dumps(records).encode()


# --- SenML ----------------------------------------------------------------------------------------


def test_senml_vectors_resolve_as_they_say(shared_data: Path) -> None:
    rows = vectors(shared_data, "senml.jsonl")
    assert len(rows) == 14
    for row in rows:
        topic = row["topic"] if row["format"] == "senml_json" else "senml-cbor/dev-1"
        decoded = Gateway().take(topic, base64.b64decode(row["payload_base64"]))
        assert outcome(decoded) == row["expect"], row["name"]
        wanted = [value for record in row["resolved"] for value in _expected(record)]
        assert sorted(map(str, readings(decoded))) == sorted(map(str, wanted)), row["name"]


def _expected(record: dict[str, Any]) -> list[tuple[int, str, Any]]:
    """As readings: named by what stands behind the device, or by the unit."""
    t = record["t"]
    ts = NOW if t == "now" else NOW + round(t["now_plus"] * 1000) if isinstance(t, dict) else round(t * 1000)
    name = record["n"].rpartition(":")[2]
    if name == "10e2073a01080063":  # the device alone: as base name the unit says what it is
        name = record["u"] if t != "now" else record["n"]
    found = [(ts, name, record[key]) for key in ("v", "vs", "vb", "vd") if key in record]
    return found + ([(ts, f"{name}_sum", record["s"])] if "s" in record else [])


@pytest.mark.parametrize("form", ["senml_json", "senml_cbor", "sparkplug"])
def test_malformed_vectors_come_out_as_they_say(shared_data: Path, form: str) -> None:
    rows = [row for row in vectors(shared_data, "malformed.jsonl") if row["format"] == form]
    assert rows
    for row in rows:
        gateway = Gateway()
        decoded = gateway.take(row["topic"], base64.b64decode(row["payload_base64"]))
        assert outcome(decoded) == row["expect"], row["name"]
        good = gateway.take("senml/dev-1", pack({"n": "speed", "v": 1.5}))
        assert readings(good) == [(NOW, "speed", 1.5)], row["name"]


def test_a_senml_name_becomes_the_signal_and_its_unit_that_of_the_catalogue() -> None:
    sent = pack(
        {"bn": "car-1:", "bt": 1_767_225_000, "n": "Vehicle/Speed", "u": "m/s", "v": 10},
        {"n": "outside_temperature", "u": "K", "v": 280.15, "t": 60},
        {"n": "fuel_level", "u": "/", "v": 0.25, "t": -1.5},
        {"n": "dtc", "vs": "P0301, P0420"},
        {"n": "lid_open", "vb": False},
        {"n": "odd", "u": "V", "v": 3},
    )
    decoded = Gateway().take("senml/car-1", sent)
    assert {device for _, device, *_ in decoded.telemetry} == {"car-1"}
    assert (len(decoded.telemetry), decoded.messages) == (3, 1)
    at = 1_767_225_000_000
    found = {name: (ts, value) for ts, name, value in readings(decoded)}
    assert found["speed"] == (at, pytest.approx(36))
    assert found["outside_temperature"] == (at + 60_000, pytest.approx(7.0))
    assert found["fuel_level"] == (at - 1_500, pytest.approx(25))
    assert found["dtc"] == (at, ["P0301", "P0420"])
    assert found["lid_open"] == (at, False)
    assert found["odd"] == (at, 3)


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([{"n": "speed", "u": "V", "v": 1}], "bad_unit"),
        ([{"n": "speed", "v": 1, "unit_": 2}], "must_understand"),
        ([{"bver": 11, "n": "speed", "v": 1}], "bad_version"),
        ([{"n": "speed", "v": 1, "vs": "x"}], "bad_value"),
        ([{"n": "speed", "v": 1, "t": 900_000_000}], "ts_before_2000"),
        ([{"n": "speed", "v": 1, "t": 100_000}], "ts_in_future"),
        ([{"n": 7, "v": 1}], "bad_name"),
        ([7], "not_an_object"),
    ],
)
def test_why_a_senml_record_is_not_taken(records: list[Any], reason: str) -> None:
    decoded = Gateway().take("senml/car-1", json.dumps(records).encode())
    assert [bad.reason for bad in decoded.undecodable] == [reason]
    kept = Gateway().take("senml/car-1", json.dumps([{"n": "fuel_level", "v": 5}, *records]).encode())
    whole = reason in ("must_understand", "bad_version")
    assert readings(kept) == ([] if whole else [(NOW, "fuel_level", 5)])


def test_a_device_that_nobody_registered_is_refused_in_every_form() -> None:
    gateway = Gateway(claimed=lambda device: device == "car-1")
    assert not gateway.take("senml/car-1", pack({"n": "speed", "v": 1})).undecodable
    for topic in ("senml/car-2", "spBv1.0/g/NDATA/car-2"):
        assert gateway.take(topic, b"[]").undecodable[0].reason in ("unknown_device", "not_sparkplug")


# --- Sparkplug B ----------------------------------------------------------------------------------

NOT_READINGS = ("bdSeq", "Node Control/Rebirth")
OUR_POLICY = {
    # A payload without any birth before it: we ask, whatever it holds.
    ("28-compressed", 0): True,
}


def test_sparkplug_sessions_come_out_as_they_say(shared_data: Path) -> None:
    rows = vectors(shared_data, "sparkplug.jsonl")
    assert len(rows) == 33
    gateway = Gateway()
    for row in rows:
        where = (row["session"], row["step"])
        decoded = gateway.take(row["topic"], bytes.fromhex(row["payload_hex"]))
        assert outcome(decoded) == row["expect"].replace("ignore", "accept"), where
        wanted = [
            (NOW if r["timestamp"] is None else r["timestamp"], r["name"], _value(r))
            for r in row["readings"]
            if r["name"] not in NOT_READINGS
        ]
        assert sorted(map(str, readings(decoded))) == sorted(map(str, wanted)), where
        assert bool(decoded.unborn) is OUR_POLICY.get(where, row["rebirth_wanted"]), where


def _value(reading: dict[str, Any]) -> Any:
    value = reading["value"]
    if isinstance(value, dict):
        return value["base64"]
    return float(value) if isinstance(value, int) and value >= 2**63 else value


def test_aliases_mean_what_the_birth_before_them_said_whoever_reads_when(shared_data: Path) -> None:
    """Two readers at different positions, of which one reads again from a position far behind."""
    messages = [
        (row["topic"], bytes.fromhex(row["payload_hex"]))
        for row in vectors(shared_data, "sparkplug.jsonl")
        if row["session"] in ("13-device-death", "07-null")
    ]
    first = Gateway()
    told = [readings(first.take(*message)) for message in messages]
    again = [readings(first.take(*message, at=at)) for at, message in enumerate(messages, 1)]
    assert told == again
    for cut in range(len(messages) + 1):
        saved = _saved_after(messages[:cut])
        second = Gateway(saved)
        rest = [readings(second.take(*message, at=at)) for at, message in enumerate(messages[cut:], cut + 1)]
        assert rest == told[cut:], cut


def _saved_after(messages: list[tuple[str, bytes]]) -> Births:
    before = Gateway()
    for message in messages:
        before.take(*message)
    births = Births()
    for name, raw in before.births.saved(len(messages)).items():
        births.restore(name, raw)
    assert births.saved(0) == {}
    return births


def test_only_the_newest_birth_that_everybody_has_passed_is_kept() -> None:
    gateway = Gateway()
    for at in range(1, 6):
        gateway.take("spBv1.0/g/NBIRTH/n", _born({1: f"name_{at}"}), at=at)
    held = json.loads(gateway.births.saved(3)["/decoder/sparkplug/g/n"])
    assert [birth[0] for birth in held["devices"][""]] == [3, 4, 5]
    data = _said({1: 2.5})
    assert [readings(gateway.take("spBv1.0/g/NDATA/n", data, at=at))[0][1] for at in (3, 4, 5)] == [
        "name_3",
        "name_4",
        "name_5",
    ]


def test_a_births_of_a_node_ends_those_of_its_devices_and_a_stale_will_ends_nothing() -> None:
    gateway = Gateway()
    gateway.take("spBv1.0/g/NBIRTH/n", _born({}, bdseq=4))
    gateway.take("spBv1.0/g/DBIRTH/n/d", _born({7: "speed"}))
    told = readings(gateway.take("spBv1.0/g/DDATA/n/d", _said({7: 1.0})))
    assert [name for _, name, _ in told] == ["speed"]
    stale = gateway.take("spBv1.0/g/NDEATH/n", _born({}, bdseq=3))
    assert stale.statuses == []
    gone = gateway.take("spBv1.0/g/NDEATH/n", _born({}, bdseq=4))
    assert [(status.device, status.online) for status in gone.statuses] == [("n", False), ("d", False)]
    gateway.take("spBv1.0/g/NBIRTH/n", _born({}, bdseq=5))
    lost = gateway.take("spBv1.0/g/DDATA/n/d", _said({7: 1.0}))
    assert [bad.reason for bad in lost.undecodable] == ["unknown_alias"]
    assert "g/n" in lost.unborn


def test_a_gap_in_the_sequence_asks_for_births_and_keeps_the_readings() -> None:
    gateway = Gateway()
    gateway.take("spBv1.0/g/NBIRTH/n", _born({1: "speed"}, seq=0))
    assert gateway.take("spBv1.0/g/NDATA/n", _said({1: 1.0}, seq=1)).unborn == []
    missed = gateway.take("spBv1.0/g/NDATA/n", _said({1: 3.0}, seq=3))
    assert (missed.unborn, [value for *_, value in readings(missed)]) == (["g/n"], [3.0])
    assert gateway.take("spBv1.0/g/NDATA/n", _said({1: 4.0}, seq=4)).unborn == []


def test_the_request_for_births_is_a_command_of_sparkplug() -> None:
    decoded = Gateway().take("spBv1.0/g/NCMD/n", rebirth(NOW))
    assert (decoded.undecodable, decoded.telemetry) == ([], [])
    assert b"Node Control/Rebirth" in rebirth(NOW)


@pytest.mark.parametrize("topic", ["g", "g/NDATA/n/d", "g/DDATA/n", "g/NDATA/ü", "g/NBORN/n"])
def test_a_topic_that_is_none_of_sparkplugs_is_said(topic: str) -> None:
    decoded = Gateway().take(f"spBv1.0/{topic}", _said({}))
    assert [bad.reason for bad in decoded.undecodable] == ["bad_topic"]


def _born(names: dict[int, str], *, bdseq: int = 0, seq: int = 0) -> bytes:
    metrics = [formats.metric("bdSeq", bdseq, NOW)]
    metrics += [formats.metric(name, 0.0, NOW, alias=alias) for alias, name in names.items()]
    return formats.message(NOW, metrics, seq)


def _said(values: dict[int, float], *, seq: int = 1) -> bytes:
    return formats.message(NOW, [formats.metric("", v, NOW, alias=alias) for alias, v in values.items()], seq)


# --- choosing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "topic", "matches"),
    [
        ("senml/+", "senml/a", True),
        ("senml/+", "senml/a/b", False),
        ("senml/#", "senml/a/b", True),
        ("senml/#", "senmlx/a", False),
        ("a.b/+/x", "a.b/1/x", True),
        ("a.b/+/x", "acb/1/x", False),
    ],
)
def test_a_filter_matches_as_the_broker_does(pattern: str, topic: str, matches: bool) -> None:
    assert bool(expression(pattern).fullmatch(topic)) is matches
    assert level(pattern) == 1


def test_what_no_filter_matches_is_kept_with_its_topic() -> None:
    decoded = Gateway().take("elsewhere/a", b"{}")
    assert [bad.reason for bad in decoded.undecodable] == ["bad_topic"]
