"""The lines for InfluxDB that are cut out of what devices sent say what the decoded readings say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters.codecs import make_decoder
from gateway.adapters.timeseries_influx import InfluxTimeSeries, _points
from gateway.domain.messages import Batch

TS = 1_790_000_000_000
TOPIC = "touchpoint/v1/car-1/telemetry"


def lines(*payloads: str | bytes, model: str = "") -> tuple[list[str], list[str]]:
    """(what is sent, the same formatted from the decoded readings)."""
    messages = [(TOPIC, p.encode() if isinstance(p, str) else p) for p in payloads]
    decoder = make_decoder({})
    decoder(Batch(first=1, received=TS, messages=messages))  # topic and names are known from now on
    batch = Batch(first=1, received=TS, messages=messages, decoder=decoder)
    store = InfluxTimeSeries(url="http://127.0.0.1:1", org="o", bucket="b", token="t")
    bodies, points = [], []
    gathering = store.gather(lambda _: ("car", model))
    gathering.add(batch)
    for request in gathering.requests():
        bodies += request.body.decode().split("\n")
        points += [point.line() for point in _points(request.batches, lambda _: ("car", model))]
    return bodies, points


def meaning(line: str) -> tuple[str, dict[str, float | str], str]:
    """A line taken apart, where nothing in it is escaped."""
    head, fields, ts = line.split(" ")
    return head, {n: number(v) for n, v in (field.split("=") for field in fields.split(","))}, ts


def number(text: str) -> float | str:
    return text.lower() if text.lower() in ("true", "false") else float(text)


names = st.text("abcXYZ019_.", min_size=1, max_size=8) | st.just("signals") | st.just("ts")
values = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1) | st.booleans()


@given(
    st.lists(st.dictionaries(names, values, min_size=1, max_size=6), min_size=1, max_size=5),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " :\r\n")]),
    st.sampled_from([None, 2]),
    st.permutations(["ts", "seq", "signals"]),
    st.booleans(),
)
def test_numbers_are_the_same(
    readings: list[dict[str, Any]],
    separators: tuple[str, str],
    indent: int | None,
    order: list[str],
    with_seq: bool,
) -> None:
    payloads = []
    for i, signals in enumerate(readings):
        whole: dict[str, Any] = {"ts": TS + i, "seq": i, "signals": signals}
        kept = {key: whole[key] for key in order if with_seq or key != "seq"}
        payloads.append(json.dumps(kept, separators=separators, indent=indent))
    sent, formatted = lines(*payloads)
    assert [meaning(line) for line in sent] == [meaning(line) for line in formatted]
    assert len(sent) == len(readings)


@pytest.mark.parametrize(
    "payload",
    [
        '{"ts": %d, "signals": {"\\u0078": 2, "y": 3}}',
        '{"ts": %d,"signals":{"\\u0078":2,"y":3}}',
        '{"\\u0073ignals":{"x":1},"ts":%d}',
        '{"signals":{"x":1},"ts":%d,"signals":{"y":2}}',
        '{"signals" :{"x":1},"ts":%d,"signals":{"y":2}}',
        '{"signals":{"x":1},"ts":%d,"signals" :{"y":2}}',
        '{"signals":{},"ts":%d,"signals":{"y":2}}',
        '{"ts":1,"signals":{"x":1,"x":2},"ts":%d}',
        '{"signals":{"signals":1,"x":2},"ts":%d}',
        '{"ts":%d,"signals":{"signals":1,"x":2},"seq":1}',
        '{"ts":%d,"signals":{"x":1e5,"y":-0,"z":1E-3,"a":true}}  ',
    ],
)
def test_unusual_json_of_numbers_says_the_same(payload: str) -> None:
    payload %= TS
    sent, formatted = lines(payload, payload)
    assert len(sent) == 2
    assert [meaning(line) for line in sent] == [meaning(line) for line in formatted]


@pytest.mark.parametrize(
    "signals",
    [
        '{"x":"a"}',
        '{"x":"}","y":1}',
        '{"x":"\\"}","y":1}',
        '{"x":"\\"}\\"","y":1}',
        '{"x":["P0301"],"y":1}',
        '{"x":[],"y":1}',
        '{"x,y":1}',
        '{"a b":1}',
        '{"a=b":1,"c":2}',
        '{"a\\"b":1}',
        '{"ü":1}',
    ],
)
def test_what_is_no_number_or_no_plain_name_is_formatted(signals: str) -> None:
    plain = f'{{"ts":{TS + 1},"signals":{{"x":1}}}}'
    sent, formatted = lines(f'{{"ts":{TS},"signals":{signals}}}', plain, plain)
    assert sent[0] == formatted[0]
    assert [meaning(line) for line in sent[1:]] == [meaning(line) for line in formatted[1:]]


@pytest.mark.parametrize("model", ["wash 7,x=y", 'a"b:c{}', "tab\there", "back\\slash", "plain"])
def test_tags_stay_as_they_are(model: str) -> None:
    sent, formatted = lines(f'{{"ts":{TS},"signals":{{"x":1.5}}}}', model=model)
    assert sent == formatted


def test_the_order_is_that_of_the_messages() -> None:
    texts = [
        f'{{"ts":{TS},"signals":{{"x":{value}}}}}' for value in ("1.5", '"a"', "2.5", "3.5", "true", '"b"')
    ]
    sent, _ = lines(*texts)
    assert [line.split(" ")[1] for line in sent] == ["x=1.5", 'x="a"', "x=2.5", "x=3.5", "x=true", 'x="b"']
