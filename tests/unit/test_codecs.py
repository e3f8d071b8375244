"""Decoding the native form: what is good, what is kept of what is not, and why."""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters.codecs import make_decoder, parse_topic
from gateway.domain.messages import KEPT_PAYLOAD, Batch, Decoded

NOW = 1_767_225_600_000  # 2026-01-01
TS = 1_735_689_600_000
ALIASES = {"Vehicle.Speed": "speed"}
T = "touchpoint/v1/dev-1/telemetry"


def decode(payload: bytes | str, topic: str = T, **options: Any) -> Decoded:
    raw = payload.encode() if isinstance(payload, str) else payload
    return make_decoder(ALIASES, **options)(Batch(first=5, received=NOW, messages=[(topic, raw)]))


def readings(decoded: Decoded) -> list[tuple[int, dict[str, Any]]]:
    return [(ts, dict(signals)) for _, _, ts, signals, *_ in decoded.telemetry]


def reason(decoded: Decoded) -> str | None:
    return decoded.undecodable[0].reason if decoded.undecodable else None


def vectors(shared_data: Path, name: str) -> list[dict[str, Any]]:
    path = shared_data / "vectors" / name
    text = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
    return [row for row in map(json.loads, text.splitlines()) if row["format"] == "native"]


def outcome(decoded: Decoded) -> str:
    if decoded.undecodable:
        return "partial" if decoded.telemetry else "quarantine"
    return "accept" if decoded.telemetry else "nothing"


OUR_POLICY = {  # where docs/decisions/0005 departs from the proposal
    "native/dup-key-signals": "accept",
    "native/topic-unknown-device": "accept",
    "native/topic-space-device": "quarantine",
}


@pytest.mark.parametrize(
    ("payload", "kept"),
    [
        (f'{{"ts": {TS}, "signals": {{"x": 1}}}}', True),
        (f'{{"ts": {TS}, "seq": 4, "signals": {{"x": 1}}}}', True),
        (f'{{"ts": {TS}, "signals": {{"x": 1}}, "driver": "who"}}', False),
        (f'{{"ts": {TS}, "seq": {{"driver": "who"}}, "signals": {{"x": 1}}}}', False),
        (f'{{"ts": {TS}, "signals": {{"Vehicle.Speed": 1}}}}', False),
        (f'{{"ts": {TS}.0, "signals": {{"x": 1}}}}', False),
        ('{"ts": "2025-01-01T00:00:00Z", "signals": {"x": 1}}', False),
        ('{"signals": {"x": 1}}', False),
        (f'{{"ts": {TS}, "signals": {{"x": 1, "y": null}}}}', False),
        (f'[{{"ts": {TS}, "signals": {{"x": 1}}}}]', False),
    ],
)
def test_only_what_says_just_its_reading_is_kept_as_it_was_sent(payload: str, kept: bool) -> None:
    decoder = make_decoder(ALIASES)
    for _ in range(2):  # the first time topic and names are new
        decoded = decoder(Batch(first=5, received=NOW, messages=[(T, payload.encode())]))
        assert len(readings(decoded)) == 1
    assert [sent for *_, sent in decoded.telemetry] == [payload.encode() if kept else None]


@pytest.mark.parametrize("name", ["malformed.jsonl", "malformed_large.jsonl.gz"])
def test_vectors_come_out_as_they_say(shared_data: Path, name: str) -> None:
    rows = vectors(shared_data, name)
    assert rows
    for row in rows:
        decoded = decode(base64.b64decode(row["payload_base64"]), row["topic"])
        expected = {OUR_POLICY.get(row["name"], row["expect"])}
        if row["strength"] != "policy":
            expected |= set(row.get("also_ok", []))
        else:
            expected |= {"quarantine"} if "quarantine" in row.get("also_ok", []) else set()
        assert outcome(decoded) in expected, row["name"]
        if "readings" in row and decoded.telemetry:
            check_readings(row, readings(decoded))


def check_readings(row: dict[str, Any], found: list[tuple[int, dict[str, Any]]]) -> None:
    wanted = row["readings"]
    if "count" in wanted[0]:
        assert len(found) == wanted[0]["count"], row["name"]
        assert (found[0][0], found[-1][0]) == (wanted[0]["first_ts"], wanted[0]["last_ts"])
        return
    assert found == [(NOW if w["ts"] is None else w["ts"], w["signals"]) for w in wanted], row["name"]


def test_the_good_message_after_a_bad_one_is_taken(shared_data: Path) -> None:
    good = (T, b'{"ts": 1735689600000, "signals": {"speed": 50}}')
    bad = [
        (r["topic"], base64.b64decode(r["payload_base64"])) for r in vectors(shared_data, "malformed.jsonl")
    ]
    messages = [message for pair in ((b, good) for b in bad) for message in pair]
    decoded = make_decoder(ALIASES)(Batch(first=1, received=NOW, messages=messages))
    good_positions = set(range(2, len(messages) + 1, 2))
    assert good_positions <= {position for position, *_ in decoded.telemetry}
    assert {u.position for u in decoded.undecodable}.isdisjoint(good_positions)


def test_values_keep_their_types() -> None:
    signals = {"speed": 50, "level": 0.5, "door_open": True, "gear": "D", "dtc": ["P0301", "P0420"]}
    [(ts, found)] = readings(decode(json.dumps({"ts": TS, "seq": 1, "signals": signals})))
    assert ts == TS
    assert found == signals
    assert [type(value) for value in found.values()] == [int, float, bool, str, list]


def test_a_vss_path_becomes_its_signal() -> None:
    assert readings(decode('{"ts": 1735689600000, "signals": {"Vehicle.Speed": 7}}')) == [(TS, {"speed": 7})]


def test_positions_are_those_of_the_journal() -> None:
    messages = [(T, b'{"signals": {"a": 1}}'), (T, b"garbage"), (T, b'{"signals": {"a": 2}}')]
    decoded = make_decoder({})(Batch(first=41, received=NOW, messages=messages))
    assert [position for position, *_ in decoded.telemetry] == [41, 43]
    assert [u.position for u in decoded.undecodable] == [42]


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "empty"),
        (b"\xff\xfe", "not_json"),
        (b'{"ts":1}', "no_signals"),
        (b'{"signals":{}}', "no_signals"),
        (b'{"signals":null}', "no_signals"),
        (b"[]", "no_signals"),
        (b"null", "not_an_object"),
        (b"[1,2]", "not_an_object"),
        (b"[" * 100, "not_json"),
        (b"[" * 100_000 + b"]" * 100_000, "too_deep"),
        (b'{"signals":{"a":null}}', "bad_value"),
        (b'{"signals":{"a":{"b":1}}}', "bad_value"),
        (b'{"signals":{"a":9223372036854775808}}', "bad_value"),
        (b'{"signals":{"a":"x\\u0000y"}}', "bad_value"),
        (b'{"signals":{"a":["x\\u0000y"]}}', "bad_value"),
        (b'{"signals":{"":1}}', "bad_name"),
        (b'{"signals":{"a\\nb":1}}', "bad_name"),
        (b'{"signals":{"a":1e999}}', "bad_number"),
        (b'{"ts":true,"signals":{"a":1}}', "bad_ts"),
        (b'{"ts":"soon","signals":{"a":1}}', "bad_ts"),
        (b'{"ts":"2026-01-01T24:00:00Z","signals":{"a":1}}', "bad_ts"),
        (b'{"ts":"2026-01-01T00:00:00+99:00","signals":{"a":1}}', "bad_ts"),
        (b'{"ts":1735689600,"signals":{"a":1}}', "ts_before_2000"),
        (b'{"ts":-1,"signals":{"a":1}}', "ts_before_2000"),
        (b'{"ts":1767312000001,"signals":{"a":1}}', "ts_in_future"),
    ],
)
def test_says_why_nothing_could_be_taken(payload: bytes, why: str) -> None:
    decoded = decode(payload)
    assert not decoded.telemetry
    assert reason(decoded) == why
    assert decoded.undecodable[0].payload == payload[:KEPT_PAYLOAD]
    assert decoded.undecodable[0].size == len(payload)
    assert decoded.undecodable[0].detail


def test_good_parts_of_a_bad_message_are_kept() -> None:
    decoded = decode(
        '[{"signals": {"a": 1, "b": null}}, 7, {"ts": 1, "signals": {"c": 1}}, {"signals": {"d": 2}}]'
    )
    assert readings(decoded) == [(NOW, {"a": 1}), (NOW, {"d": 2})]
    assert len(decoded.undecodable) == 1
    assert decoded.undecodable[0].reason == "bad_value"
    assert "2 more faults" in decoded.undecodable[0].detail


def test_of_a_large_undecodable_payload_a_bounded_part_is_kept() -> None:
    decoded = decode(b"x" * 1_000_000)
    assert (len(decoded.undecodable[0].payload), decoded.undecodable[0].size) == (KEPT_PAYLOAD, 1_000_000)


@pytest.mark.parametrize(
    ("topic", "kind"),
    [
        ("touchpoint/v1/dev-1/telemetry", "telemetry"),
        ("touchpoint/v1/dev-1/status", "status"),
        ("touchpoint/v1/context/weather", "context"),
        ("touchpoint/v1/dev-1/touchpoint/0190", "ours"),
        ("touchpoint/v1/dev-1/command", "ours"),
        ("touchpoint/v1/dev-1/telemetry/x", "bad"),
        ("touchpoint/v1/dev-1/Telemetry", "bad"),
        ("touchpoint/v1//telemetry", "bad"),
        ("touchpoint/v1/telemetry", "bad"),
        ("touchpoint/v1/-dev/telemetry", "bad"),
        (f"touchpoint/v1/{'d' * 65}/telemetry", "bad"),
        ("touchpoint/v2/dev-1/telemetry", "bad"),
        ("touchpoint/v1/context/a/b", "bad"),
    ],
)
def test_topics(topic: str, kind: str) -> None:
    assert parse_topic(topic)[0] == kind


def test_events_status_answers_and_context() -> None:
    decoded = make_decoder(ALIASES)(
        Batch(
            first=1,
            received=NOW,
            messages=[
                (
                    "touchpoint/v1/car-1/event",
                    b'{"ts": 1735689600000, "event": "trip_started", "data": {"n": 1}}',
                ),
                ("touchpoint/v1/car-1/status", b"online"),
                ("touchpoint/v1/car-1/status", b"offline"),
                ("touchpoint/v1/car-1/status", b""),
                ("touchpoint/v1/car-1/answer", b'{"touchpoint": "t1", "action": "slot-2"}'),
                ("touchpoint/v1/context/weather", b'{"area": "Hamburg", "signals": {"frost": true}}'),
                ("touchpoint/v1/car-1/command", b"{}"),
            ],
        )
    )
    assert [(e.device, e.event, e.data, e.ts) for e in decoded.events] == [
        ("car-1", "trip_started", {"n": 1}, TS)
    ]
    assert [s.online for s in decoded.statuses] == [True, False]
    assert [(a.touchpoint, a.action, a.ts) for a in decoded.answers] == [("t1", "slot-2", NOW)]
    assert [(c.name, c.area, c.signals) for c in decoded.contexts] == [
        ("weather", "Hamburg", {"frost": True})
    ]
    assert not decoded.undecodable


@pytest.mark.parametrize(
    ("last", "payload", "why"),
    [
        ("event", b'{"event": 1}', "bad_event"),
        ("event", b'{"event": "x", "data": []}', "bad_event"),
        ("event", b"x", "not_json"),
        ("status", b"ONLINE", "bad_status"),
        ("answer", b'{"touchpoint": "t"}', "bad_answer"),
        ("answer", b"[]", "not_an_object"),
    ],
)
def test_says_what_is_wrong_with_the_others(last: str, payload: bytes, why: str) -> None:
    assert reason(decode(payload, f"touchpoint/v1/car-1/{last}")) == why


def test_unclaimed_devices_can_be_quarantined() -> None:
    assert reason(decode('{"signals": {"a": 1}}', claimed=lambda device: device == "dev-1")) is None
    assert reason(decode('{"signals": {"a": 1}}', claimed=lambda device: False)) == "unknown_device"


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_no_payload_stops_the_decoder(payload: bytes) -> None:
    decoded = decode(payload)
    assert bool(decoded.telemetry) or bool(decoded.undecodable)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["ts", "seq", "signals", "x"]), _json) | st.lists(_json, max_size=3))
def test_whatever_json_comes_only_values_of_a_reading_go_on(value: Any) -> None:
    for ts, signals in readings(decode(json.dumps(value))):
        assert 946_684_800_000 <= ts <= NOW + 86_400_000
        assert signals
        for name, found in signals.items():
            assert name
            assert isinstance(found, bool | int | float | str | list)
