"""Every function of the language, by rules that run: it fires when it should, and not before."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from rules_case import CATALOGUE, NOON, VAN, Watched, ms, rule, ruleset

from rules import FUNCTIONS, Engine, Found, Value
from rules.expressions import ExpressionFault, check
from rules.windows import LEAST_READINGS
from rules.world import MOST_LISTS, Codes

HOUR, DAY = 3_600_000, 86_400_000
HERE = Path(__file__).resolve()
SHARED = Path(os.environ.get("TOUCHPOINT_SHARED", HERE.parents[3] / "shared"))


class Atlas:
    """Two countries, parted by a meridian; one time zone, two hours ahead of UTC."""

    def country(self, latitude: float, longitude: float) -> str | None:
        return None if latitude < 0 else "DE" if longitude > 10 else "FR"

    def offset_ms(self, time_zone: str, ts: int) -> int:
        return 2 * HOUR if time_zone == "Europe/Berlin" else 0


def van(when: str, **fields: str) -> Watched:
    return Watched(engine=Engine(ruleset(rule(when, **fields)), geography=Atlas()))


def fires(when: str, *readings: tuple[str, dict[str, Value]]) -> list[str]:
    """The times at which the rule is found, as spans after noon, by what is reported."""
    watched = van(when)
    for at, signals in readings:
        watched.says(at, **signals)  # type: ignore[arg-type]
    return [when for what, when in watched.story() if what == "found"]


def of(name: str, *values: Value, step: int = 10) -> list[tuple[str, dict[str, Value]]]:
    """One reading every `step` seconds."""
    return [(f"{number * step}s", {name: value}) for number, value in enumerate(values)]


CASES: list[tuple[str, str, list[tuple[str, dict[str, Value]]], list[str]]] = [
    ("last", "last(speed) > 50", of("speed", 40, 51), ["10s"]),
    ("last", "last(speed, '15s') > 50 and pads >= 0", [("0s", {"speed": 60}), ("20s", {"pads": 1})], []),
    ("last", "last(gear, '1m') == 'park'", of("gear", "drive", "park"), ["10s"]),
    (
        "age",
        "age(speed) > '30s'",
        [("0s", {"speed": 1}), ("30s", {"pads": 1}), ("31s", {"pads": 1})],
        ["30.001s"],
    ),
    ("age", "age(speed) >= 30", [("0s", {"speed": 1}), ("29s", {"pads": 1}), ("30s", {"pads": 1})], ["30s"]),
    (
        "age",
        "age(gear) > '30s'",
        [("0s", {"gear": "park"}), ("20s", {"gear": 7}), ("31s", {"pads": 1})],
        ["30.001s"],
    ),
    ("previous", "previous(speed) < speed - 10", of("speed", 1, 11, 12, 23), ["30s"]),
    ("change", "change(speed, '1m') >= 10", of("speed", 5, 9, None, 15), ["30s"]),
    ("avg", "avg(speed, '1m') > 10", of("speed", 10, 10, 11), ["20s"]),
    ("min", "min(speed, '1m') < 5", of("speed", 10, 5, 4), ["20s"]),
    ("max", "max(speed, '1m') > 5", of("speed", 1, 5, 6), ["20s"]),
    ("sum", "sum(speed, '1m') >= 6", of("speed", 1, 2, 3), ["20s"]),
    ("count", "count(dtc, '1m') >= 3", of("dtc", [], None, ["P1"], "P2"), ["30s"]),
    ("stddev", "stddev(speed, '1m') > 4.9", of("speed", 10, 10, 20), []),
    ("stddev", "stddev(speed, '1m') > 4.9", of("speed", 10, 10, 20, 20), ["30s"]),
    ("percentile", "percentile(pads, 50, '10m') > 30", of("pads", 10, 10, 50, 50, 50), ["40s"]),
    ("rate", "rate(pads, '1h') >= 60", of("pads", 1, 1, 2, step=30), ["60s"]),
    ("slope", "slope(pads, '1h') >= 1440", of("pads", 0, 0.9, 2.1, step=60), ["120s"]),
    (
        "days_until",
        "days_until(pads, 100, over='30d') < 40",
        [(f"{d}d", {"pads": 50 + d}) for d in range(14)],
        ["950400s"],
    ),
    ("held", "held(door_open, '30s')", [*of("door_open", True, True, True), ("31s", {"speed": 1})], ["31s"]),
    ("held", "held(door_open, '30s')", of("door_open", True, True, False, True, True, True), []),
    ("crossed", "crossed(speed, 50)", of("speed", 60, 40, 50, 60), ["20s"]),
    ("crossed", "crossed(speed, 50, 'up')", of("speed", 60, 40, 50, 60), ["20s"]),
    ("crossed", "crossed(speed, 50, 'down')", of("speed", 60, 50, 49, 40), ["20s"]),
    ("times", "times(door_open, '1m') >= 2", of("door_open", True, True, False, True), ["30s"]),
    (
        "since",
        "since(speed > 50) > '30s'",
        [*of("speed", 60, 40), ("40s", {"speed": 1}), ("41s", {"speed": 2})],
        ["40.001s"],
    ),
    ("since", "since(speed > 50) == 0", of("speed", 40, 60), ["10s"]),
    ("code", "code('p030?')", of("dtc", ["P0400", "P03001"], ["P0301"]), ["10s"]),
    ("code", "code(dtc, 'U*', 'B1*2')", of("dtc", ["B1003"], "b1x2"), ["10s"]),
    (
        "inside",
        "inside('yard')",
        [("0s", {"latitude": 52.2, "longitude": 13}), ("9s", {"latitude": 52.05})],
        ["9s"],
    ),
    (
        "inside",
        "inside('field')",
        [("0s", {"latitude": 48.1, "longitude": 9.6}), ("9s", {"longitude": 9.4})],
        ["9s"],
    ),
    (
        "country",
        "country() != 'DE'",
        [("0s", {"latitude": -3, "longitude": 9}), ("9s", {"latitude": 48})],
        ["9s"],
    ),
    (
        "distance",
        "distance('yard') > 20",
        [("0s", {"latitude": 52.1, "longitude": 13}), ("9s", {"latitude": 52.2})],
        ["9s"],
    ),
    ("usage", "usage(pads) >= 10", of("pads", 3, 9, 10), ["20s"]),
    ("usage", "usage(pads) >= 10", of("pads", 3, 9, 0.5, 1.5), ["30s"]),
]


@pytest.mark.parametrize(("name", "when", "readings", "found"), CASES)
def test_it_fires_when_it_should_and_not_before(
    name: str, when: str, readings: list[tuple[str, dict[str, Value]]], found: list[str]
) -> None:
    assert name in FUNCTIONS
    times = fires(when, *readings)
    if "age" in when or "since" in when:  # the reading that shows it is later than the moment itself
        assert len(times) == len(found)
        assert all(float(a[:-1]) >= float(b[:-1]) for a, b in zip(times, found, strict=True))
    else:
        assert times == found


def test_every_function_is_tried() -> None:
    elsewhere = {"silent", "local_hour", "baseline", "fleet", "context"}
    assert {name for name, *_ in CASES} | elsewhere == set(FUNCTIONS)


# --- by time alone


def test_silence_is_found_by_time_and_ends_with_any_message() -> None:
    watched = van("silent('10m')").says("0s", unknown=1).silence_until("9m59s")
    assert watched.story() == []
    assert watched.silence_until("11m").story() == [("found", "600s")]
    assert watched.says("12m", unknown=2).story() == [("cleared", "720s")]
    assert watched.silence_until("23m").story() == [("found", "1320s")]


def test_age_held_and_since_are_found_by_time() -> None:
    assert van("age(speed) > '10m'").says("0s", speed=1).silence_until("1h").story() == [
        ("found", "600.001s")
    ]
    held = van("held(speed > 5, '10m') and pads < 3").says("0s", speed=6, pads=1)
    assert held.silence_until("1h").story() == [("found", "600s")]
    since = van("since(door_open) >= '10m'").says("0s", door_open=True).says("60s", door_open=False)
    assert since.silence_until("1h").story() == [("found", "660s")]


def test_age_begins_anew_with_each_usable_reading_only() -> None:
    """A sensor that reports null for ever is as old as its last value."""
    watched = van("age(speed) >= '10m'").says("0s", speed=1)
    for minute in range(1, 10):
        watched.says(f"{minute}m", speed=None)
    assert watched.story() == []
    assert watched.says("10m", speed=None).story() == [("found", "600s")]
    assert watched.says("11m", speed=2).story() == [("cleared", "660s")]
    assert watched.silence_until("30m").story() == [("found", "1260s")]


def test_a_second_age_is_waited_for_like_the_first() -> None:
    watched = van("age(speed) == '1m'")
    for minute in (0, 5, 10):
        watched.says(f"{minute}m", speed=minute).silence_until(f"{minute + 2}m")
    assert [when for what, when in watched.story() if what == "found"] == ["60s", "360s", "660s"]


def test_one_rule_that_is_due_is_not_lost_because_another_is_looked_at() -> None:
    watched = Watched(rule("age(gear) >= '5s'"), rule("age(speed) > '1h'", id="other"))
    assert watched.says("0s", gear="park").says("1s", speed=1).says("20s", speed=2).story() == [
        ("found", "20s")
    ]


def test_the_hour_is_that_of_the_owner() -> None:
    rules = ruleset(rule("local_hour() >= 14.5 and speed > 0"))
    for zone, due in (("Europe/Berlin", "30m"), (None, "150m")):
        engine = Engine(rules, geography=Atlas())
        engine.register(1, NOON, "van-1", "van", None, zone)
        watched = Watched(engine=engine).says("0s", speed=1).silence_until("4h")
        assert [event.found_ts for event in watched.events() if isinstance(event, Found)] == [ms(due)]


# --- in company


def group(when: str, others: int) -> Engine:
    engine = Engine(ruleset(rule(when)))
    for number in range(others):
        engine.register(number + 1, NOON, f"peer-{number}", "van", "m1")
        engine.readings(50 + number, NOON, f"peer-{number}", None, [(NOON, {"temperature": 20 + number % 2})])
    engine.register(100, NOON, "odd", "van", "m1")
    engine.readings(101, NOON, "odd", None, [(NOON, {"temperature": 90})])
    return engine


def test_a_fleet_is_ten_others_at_least() -> None:
    for others, found in ((9, []), (10, ["odd"])):
        assert [event.device for event in group("fleet(temperature) > 3", others).take()] == found


def test_another_model_is_another_fleet() -> None:
    engine = group("fleet(temperature) > 3", 10)
    engine.take()
    engine.register(102, NOON, "odd", "van", "m2")
    engine.readings(103, NOON + 1, "odd", None, [(NOON + 1, {"temperature": 91})])
    assert [type(event).__name__ for event in engine.take()] == []  # cannot be evaluated: it stays open


def test_a_baseline_is_thirty_readings_that_differ() -> None:
    usual = [20.0 + number % 2 for number in range(LEAST_READINGS - 1)]
    assert fires("baseline(speed, '30d') > 3", *of("speed", *usual[:-1], 90)) == []
    assert fires("baseline(speed, '30d') > 3", *of("speed", *usual, 90)) == [f"{10 * len(usual)}s"]


def test_numbers_that_are_all_the_same_have_no_baseline() -> None:
    assert fires("baseline(speed, '30d') < 0 or baseline(speed, '30d') > 0", *of("speed", *[0.1] * 60)) == []


def test_what_is_shared_goes_from_the_zone_to_the_country_to_everywhere() -> None:
    engine = Engine(ruleset(rule("context('weather', 'wind') > 20")), geography=Atlas())
    watched = Watched(engine=engine)
    for position, (area, wind) in enumerate((("", 1), ("DE", 30), ("yard", 2)), 1000):
        engine.context(position, NOON, "weather", area, NOON, {"wind": wind})
    assert watched.says("0s", latitude=52.0, longitude=13.0).story() == []  # in the yard
    assert watched.says("1s", latitude=53.0, longitude=13.0).story() == [("found", "1s")]  # in the country
    assert watched.says("2s", latitude=53.0, longitude=2.0).story() == [("cleared", "2s")]  # anywhere else
    engine.context(1010, NOON, "weather", "FR", NOON, {"wind": float("nan"), "other": 99})
    assert watched.says("3s", latitude=53.0, longitude=2.0).story() == []


def test_usage_begins_with_the_job() -> None:
    watched = van("usage(pads) >= 10", resets="[pads]").says("0s", pads=80).reset("10s", "pads")
    assert watched.story() == [("found", "0s"), ("cleared", "10s")]
    watched.says("20s", pads=81).says("30s", pads=90.5)
    assert watched.story() == [("found", "30s")]  # 10.5 since the value at the job


# --- what cannot be evaluated


@pytest.mark.parametrize(
    "when",
    [
        "previous(speed) == 0",
        "change(speed, '1m') == 0",
        "avg(speed, '1m') == 0",
        "min(speed, '1m') == 0",
        "max(speed, '1m') == 0",
        "stddev(speed, '1m') == 0",
        "percentile(speed, 50, '1m') == 0",
        "rate(speed, '1m') == 0",
        "slope(speed, '1m') == 0",
        "days_until(speed, 9, over='1m') == 0",
        "crossed(speed, 5)",
        "held(speed > 5, '1m')",
        "since(speed > 5) == 0",
        "usage(speed) == 0",
        "baseline(speed, '1m') == 0",
        "fleet(speed) == 0",
        "inside('yard')",
        "country() == 'DE'",
        "distance('yard') == 0",
        "code('P1')",
        "context('a', 'b') == 0",
        "age(speed) == 0",
        "last(speed, '1m') == 0",
    ],
)
@pytest.mark.parametrize(
    "bad", [None, float("nan"), float("inf"), float("-inf"), "7", True, 1e300, -(10**400), ["7"]]
)
def test_a_missing_or_unusable_signal_is_neither_true_nor_false(when: str, bad: Value) -> None:
    rules = ruleset(rule(f"({when}) and pads >= 0"), rule(f"not ({when}) and pads >= 0", id="not"))
    watched = Watched(engine=Engine(rules, geography=Atlas()))
    places: dict[str, Value] = {"latitude": None, "longitude": bad if bad != "7" else None}
    for second in range(4):
        watched.says(f"{second}s", speed=bad, pads=1, dtc=7 if bad is not None else None, **places)  # type: ignore[arg-type]
    assert watched.events() == []
    assert watched.engine.errors == {}


def test_sizes_that_no_measurement_has_break_nothing() -> None:
    """Adding up, squaring and comparing what is just below 1e100 stays within what a float holds."""
    functions = ("avg", "sum", "stddev", "change", "rate", "slope", "baseline")
    rules = ruleset(
        *(rule(f"{name}(speed, '1m') > 1", id=name) for name in functions),
        rule("percentile(speed, 90, '1m') > 1", id="percentile"), rule("fleet(speed) > 1", id="fleet"),
    )  # fmt: skip
    watched = Watched(engine=Engine(rules))
    for second in range(100):
        watched.says(f"{second}s", speed=(-9e99, 9e99, 2**63, 1e308, 3)[second % 5])
    assert watched.engine.errors == {}


# --- units


def test_times_are_compared_with_spans_seconds_and_other_times() -> None:
    for when in ("age(speed) > '6h'", "age(speed) > 21600", "'6h' < age(speed)"):
        assert van(when).says("0s", speed=1).silence_until("7h").story() == [("found", "21600s")], when
    minutes = "age(speed) > runtime"
    readings: list[tuple[str, dict[str, Value]]] = [
        ("0s", {"speed": 1, "runtime": 2}),
        ("2m", {"runtime": 2}),
        ("3m", {"runtime": 2}),
    ]
    assert fires(minutes, *readings) == ["180s"]
    assert fires("runtime > '2m'", *of("runtime", 2, 2.1)) == ["10s"]


def test_units_convert_or_are_refused() -> None:
    readings: list[tuple[str, dict[str, Value]]] = [
        ("0s", {"wheel_speed": 10}), ("1s", {"speed": 36}), ("2s", {"speed": 37})
    ]  # fmt: skip
    assert fires("speed > wheel_speed", *readings) == ["2s"]
    for when in ("distance('yard') > voltage", "avg(speed, '1m') > voltage", "rate(speed, '1m') > speed"):
        with pytest.raises(ExpressionFault, match="do not go together"):
            check(when, VAN, CATALOGUE.zones)
    with pytest.raises(ExpressionFault, match="division by zero"):
        check("speed / (1 - 1) > 3", VAN)


# --- codes


def vectors() -> list[dict[str, Any]]:
    path = SHARED / "data" / "vectors" / "dtc.jsonl"
    if not path.exists():
        pytest.skip("vectors/dtc.jsonl is not beside the repository; TOUCHPOINT_SHARED may name the folder")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_codes_of_the_vectors_match_themselves_and_their_families() -> None:
    codes = [code for vector in vectors() for code in vector.get("codes") or ()]
    assert len(codes) > 20
    for code in codes:
        for pattern in (code, code.lower(), f"{code[:3]}*", f"?{code[1:]}", f"*{code[-1]}", "*", f"{code}*"):
            assert Codes((pattern,))((code,)), (pattern, code)
        for pattern in (code[:-1], f"{code}?", f"{code}x*", code[1:], f"*{code}x"):
            assert not Codes((pattern,))((code,)), (pattern, code)


def test_wildcards_of_the_vectors() -> None:
    tried = [vector for vector in vectors() if vector["kind"] == "wildcard"]
    assert tried
    for vector in tried:
        matched = [code for code in vector["codes"] if Codes((vector["pattern"],))((code,))]
        assert matched == vector["matches"], vector
        assert Codes((vector["pattern"],))(vector["codes"]) is bool(vector["matches"])


def test_what_a_pattern_says_of_a_list_stays_so_however_many_others_come() -> None:
    asked = Codes(("P0?02",))
    for _ in range(2):
        for number in range(2 * MOST_LISTS):
            assert asked((f"X{number}", "P0302")) is True
            assert asked((f"X{number}",)) is asked([f"X{number}"]) is False
    assert len(asked._known) <= MOST_LISTS


def test_a_pattern_cannot_hang() -> None:
    nasty = Codes(("*a" * 30 + "b", "*?a" * 20 + "c", "*" * 63 + "b"))
    began = time.thread_time()
    assert nasty(("a" * 256,) * 256) is False
    assert time.thread_time() - began < 2


def test_what_a_clock_that_was_ahead_measured_before_a_job_stays_forgotten() -> None:
    """By that clock the job is later than the readings that follow it, so that rules do not see these."""
    watched = Watched(rule("since(pads > 5) == 0 and door_open"))
    watched.says("91s", received="0s", unknown=1).reset("30s", "pads")  # by the device's clock 121 s
    for second in (92, 93, 94):
        watched.says(f"{second}s", received=f"{second}s", pads=9, door_open=True)
    assert watched.story() == []
    assert watched.says("122s", pads=9, door_open=True).story() == [("found", "122s")]
