"""Event time: repetitions, late readings, wrong clocks, passing time, other rules while it runs."""

from __future__ import annotations

import random
from array import array
from typing import cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rules_case import NOON, SIGNALS, Watched, ms, rule, ruleset

from rules import Catalogue, Cleared, Engine, Found, RuleSet, StateVersionError, load
from rules.program import Program
from rules.state import TIMESTAMPS, DeviceState
from rules.windows import Histogram, Trend, Window

DAY = 86_400_000
WORN = rule("pads >= 80", for_="10m", clear="pads < 60")


WIDE = Catalogue.parse(
    [("van.yaml", SIGNALS + "  wear: {unit: percent, range: [0, 100], label: {en: Wear, de: Abnutzung}}\n")]
)


def wide(*texts: str) -> RuleSet:
    """Rules over the van's signals and one more, which has a range."""
    return load([("van-rules.yaml", "".join(texts))], WIDE)


def program(rules: RuleSet, kind: str = "van") -> Program:
    return Engine(rules)._programs[kind]


# --- restarts


def test_what_was_set_back_before_it_ever_came_is_waited_for_alike_after_a_restart() -> None:
    rules = ruleset(rule("age(speed) > '5s'"))
    engine, other = Engine(rules), Engine(rules)
    engine.readings(1, NOON, "van-1", "van", [(NOON, {"temperature": 1})])
    engine.reset(2, NOON, "van-1", ["speed"])
    for device, state in engine.dirty():
        other.restore(device, state)
    assert other.next_due() == engine.next_due() is not None


# --- repetitions


def counted(van: Watched) -> int:
    """Readings of speed in the window of the rule `count(speed, '1d') > …`."""
    state = van.engine._states["van-1"]
    state.flush()
    (cell,) = state.cells
    assert isinstance(cell, Window)
    return cell.count(state.newest)


COUNT = rule("count(speed, '1d') > 1000 and temperature > -100 and pads > -1")


@pytest.mark.parametrize("warm", [0, 5])
def test_a_repetition_changes_nothing_and_is_counted(warm: int) -> None:
    """Through the generated function and without it."""
    van = Watched(COUNT)
    for second in range(warm):
        van.says(f"{second}s", speed=1, temperature=1)
    van.says("10s", speed=1, temperature=1).says("20s", speed=2, temperature=2)
    for _ in range(2):
        van.says("10s", received="30s", speed=9, temperature=9).says("20s", received="31s", temperature=9)
    assert (van.engine.duplicates, counted(van)) == (6, warm + 2)
    assert van.engine._states["van-1"].values[:2] == [2, 2]


def test_a_repetition_that_brings_more_gives_only_what_is_new() -> None:
    van = Watched(COUNT).says("0s", speed=1).says("5s", speed=1)
    van.says("0s", received="6s", speed=1, temperature=7).says("5s", received="7s", speed=1, temperature=8)
    assert (van.engine.duplicates, counted(van)) == (2, 2)
    assert van.engine._states["van-1"].values[1] == 8
    assert van.says("0s", received="8s", speed=1, temperature=7, pads=3).engine.duplicates == 4


def test_messages_that_share_a_timestamp_are_no_repetitions() -> None:
    van = Watched(COUNT)
    for second in range(5):
        van.says(f"{second}s", speed=1).says(f"{second}s", temperature=1).says(f"{second}s", pads=1)
    assert (van.engine.duplicates, counted(van)) == (0, 5)
    for second in range(5):
        van.says(f"{second}s", pads=1).says(f"{second}s", speed=1)
    assert (van.engine.duplicates, counted(van)) == (10, 5)


def test_repetitions_are_told_after_a_restart_too() -> None:
    van = Watched(COUNT)
    for second in range(5):
        van.says(f"{second}s", speed=1).says(f"{second}s", temperature=1)
    van = van.restarted()
    van.says("2s", received="9s", speed=1, temperature=1, pads=1).says("5s", speed=1)
    assert (van.engine.duplicates, counted(van)) == (2, 6)
    assert van.restarted().says("2s", received="9s", pads=1).engine.duplicates == 1


@pytest.mark.parametrize("shapes", [1, 2])
@pytest.mark.parametrize("restarted", [False, True])
def test_what_is_no_longer_known_is_so_without_a_restart_too(shapes: int, restarted: bool) -> None:
    van = Watched(rule("count(speed, '1h') > 80"))
    for second in range(80):
        signals = {"speed": 1} if second % shapes == 0 else {"speed": 1, "pads": 1}
        van.says(f"{second}s", **signals)
    van = van.restarted() if restarted else van
    van.says(f"{80 - TIMESTAMPS}s", received="80s", speed=1)
    assert (van.engine.duplicates, van.story()) == (1, [])
    van.says(f"{79 - TIMESTAMPS}s", received="80s", speed=1)
    assert (van.engine.duplicates, van.story()) == (1, [("found", "79s")])


@pytest.mark.parametrize("shapes", [1, 2])
def test_so_many_timestamps_are_known(shapes: int) -> None:
    """Also where each message is of another shape than the one before."""
    van = Watched(COUNT)
    for second in range(300):
        signals = {"speed": 1} if second % shapes == 0 else {"speed": 1, "pads": 1}
        van.says(f"{second}s", **signals)
    assert van.engine._states["van-1"].at <= 2 * TIMESTAMPS + 32
    for second in range(300 - TIMESTAMPS, 300):
        van.says(f"{second}s", received="301s", speed=1)
    assert (van.engine.duplicates, counted(van)) == (TIMESTAMPS, 300)


def test_a_repetition_of_another_shape_does_not_blur_what_came_with_what() -> None:
    van = Watched(COUNT)
    for second in range(3):
        van.says(f"{second}s", speed=1, temperature=1)
    for second in range(3, 6):
        van.says(f"{second}s", temperature=1)
    van.says("1s", received="6s", speed=1, temperature=1)
    van.says("7s", pads=1).says("7s", speed=1)
    assert (van.engine.duplicates, counted(van)) == (2, 4)


def test_what_every_message_touches_lies_in_two_cache_lines_or_three() -> None:
    """An object's head, that of an array's numbers among it, takes the first; what every message touches
    follows, then what those with windows do. Objects that the garbage collector knows have 16 bytes before
    them."""
    warm, hot, *_ = DeviceState.__mro__[1:]
    assert (array.__basicsize__, hot.__basicsize__, warm.__basicsize__) == (64, 128, 192)
    assert (16 + DeviceState.__basicsize__) % 64 == 0


def test_a_device_of_another_kind_has_repeated_nothing() -> None:
    other = SIGNALS.replace("kind: van", "kind: bus")
    rules = RuleSet(ruleset(WORN).rules, Catalogue.parse([("van.yaml", SIGNALS), ("bus.yaml", other)]))
    engine = Engine(rules)
    engine.readings(1, NOON, "van-1", "van", [(NOON, {"pads": 1})])
    engine.readings(2, NOON, "van-1", "bus", [(NOON, {"pads": 1})])
    engine.readings(3, NOON, "van-1", "van", [(NOON, {"pads": 1})])
    assert engine.duplicates == 0


MASKS = st.integers(0, 2**130 - 1) | st.sampled_from([0, 1, 2**56, 2**56 - 1, 2**112, 2**60 + 2**120])


@given(
    st.lists(st.tuples(st.integers(0, 30), MASKS), max_size=150), st.lists(st.integers(0, 150), max_size=3)
)
@settings(max_examples=150, deadline=None)
def test_what_came_with_a_timestamp_is_known_exactly(seen: list[tuple[int, int]], cuts: list[int]) -> None:
    """Against a plain list, with more signals than one entry holds, and with restarts."""
    state = DeviceState("van-1", program(ruleset(WORN)))
    for number, (ts, mask) in enumerate(seen):
        if number in cuts:
            state.saw(mask | 7)  # and nothing of it comes
            state.remember([(ts, m) for m, part in state.timestamps() for ts in part])
        state.saw(mask)
        state.note(ts)
        if number % 32 == 0:
            state.forget()
    known = seen[-TIMESTAMPS:]
    for ts in range(31):
        expected, least = 0, 0
        for at, mask in seen:
            expected |= mask if at == ts else 0
        for at, mask in known:
            least |= mask if at == ts else 0
        brought = state.brought(ts)
        assert brought & least == least
        assert brought | expected == expected
    assert [ts for _, part in state.timestamps() for ts in part] == [ts for ts, _ in known]


# --- clocks


def test_a_clock_that_is_set_right_goes_on_working_at_once() -> None:
    van = Watched(WORN, rule("speed > 50", id="fast")).says("3h", received="0m", pads=81, speed=10)
    van.says("3h1m", received="1m", pads=81, speed=10)
    assert van.says("2m", pads=81, speed=60).story() == [("found", "120s")]
    assert van.says("13m", pads=82, speed=60).story() == [("found", "720s")]
    ahead = Watched(WORN).says("20h", received="0m", pads=81)
    assert ahead.says("1m", pads=81).silence_until("12m").story() == [("found", "660s")]


def test_a_clock_that_is_set_right_costs_nothing_of_the_past() -> None:
    much = rule("usage(pads) > 50 and max(speed, '30d') > 90 and percentile(wear, 50, '1d') > 5")
    van = Watched(engine=Engine(wide(much)))
    van.says("0m", pads=40, speed=100, wear=60).says("9h", received="1m", pads=45, speed=1, wear=60)
    assert van.says("2m", pads=46, speed=2, wear=60).story() == []
    assert van.says("3m", pads=51, speed=2, wear=60).story() == [("found", "180s")]


def test_a_job_done_while_the_clock_was_ahead_does_not_shut_out_what_follows() -> None:
    van = Watched(rule("avg(pads, '1d') > 50 or usage(pads) > 30"))
    van.says("9h", received="0m", pads=70).reset("1m", "pads").says("2m", pads=10)
    assert van.story() == [("found", "32400s"), ("cleared", "120s")]
    assert van.says("3m", pads=41).story() == [("found", "180s")]


def test_late_readings_of_a_device_that_is_ahead_set_nothing_back() -> None:
    """Neither little ahead, nor much and as late as that."""
    for ahead, at in (("5m", "0m"), ("2h", "30m"), ("2h", "-1d")):
        van = Watched(rule("max(speed, '3d') > 90")).says(ahead, received="0m", speed=1)
        van.position += 1
        late = NOON - DAY if at == "-1d" else ms(at)
        van.engine.readings(van.position, NOON, "van-1", "van", [(late, {"speed": 2})])
        assert van.engine._states["van-1"].newest == ms(ahead)
        assert van.engine.late == 1


@pytest.mark.parametrize("wrong", ["1h", "-1h"])
def test_a_wrong_clock_neither_delays_nor_silences_another_device(wrong: str) -> None:
    rules = ruleset(WORN, rule("silent('1h')", id="silent"))
    engine, alone = Engine(rules), Engine(rules)
    shift = ms(wrong.strip("-")) - NOON
    shift = -shift if wrong.startswith("-") else shift
    for minute in range(0, 40, 2):
        at = NOON + minute * 60_000
        engine.readings(2 * minute, at, "van-a", "van", [(at + shift, {"pads": 85})])
        for one in (engine, alone):
            one.readings(2 * minute + 1, at, "van-b", "van", [(at, {"pads": 85})])
    for one in (engine, alone):
        while (due := one.next_due()) is not None and due <= ms("5h"):
            one.tick(99, due)
    events = engine.take()
    assert [e for e in events if e.device == "van-b"] == alone.take()
    of_device = {name: [e.received for e in events if e.device == name] for name in ("van-a", "van-b")}
    assert of_device["van-a"] == of_device["van-b"] != []


# --- what late readings refute


HOT = rule("avg(temperature, '10m') > 90")


def reasons(van: Watched) -> list[str]:
    """What became of each episode: "found", or why it ended."""
    return ["found" if isinstance(event, Found) else event.reason for event in van.events()]


def test_a_mean_that_late_readings_pull_down_was_never_so() -> None:
    van = Watched(HOT).says("10m", temperature=95)
    assert reasons(van) == ["found"]
    assert reasons(van.says("9m", received="11m", temperature=94)) == []
    assert reasons(van.says("8m", received="11m", temperature=20)) == ["refuted"]
    assert van.engine.open_episodes("van-1") == ()
    assert reasons(van.says("12m", temperature=400)) == ["found"]


@pytest.mark.parametrize("clear", ["avg(temperature, '10m') < 50", "temperature < 50"])
def test_what_is_refuted_does_not_wait_for_its_clear(clear: str) -> None:
    van = Watched(rule("avg(temperature, '10m') > 90", clear=f'"{clear}"')).says("10m", temperature=95)
    assert reasons(van.says("8m", received="11m", temperature=80)) == ["found", "refuted"]


def test_what_came_later_than_a_finding_ends_it_and_does_not_refute_it() -> None:
    van = Watched(HOT).says("10m", temperature=95).says("15m", temperature=95)
    assert reasons(van.says("14m", received="16m", temperature=20)) == ["found", "condition"]
    lasting = Watched(rule("avg(temperature, '10m') > 90", clear="temperature < 0"))
    lasting.says("10m", temperature=95).says("15m", temperature=95)
    assert reasons(lasting.says("14m", received="16m", temperature=20)) == ["found"]


def test_a_for_over_a_window_is_refuted_until_it_was_found() -> None:
    slow = rule("avg(temperature, '10m') > 90", for_="5m")
    van = Watched(slow).says("10m", temperature=95).says("15m", temperature=95)
    assert reasons(van.says("14m", received="16m", temperature=20)) == ["found", "refuted"]
    van = Watched(slow).says("10m", temperature=95).says("15m", temperature=95).says("17m", temperature=95)
    assert reasons(van.says("16m", received="18m", temperature=20)) == ["found", "condition"]
    pending = Watched(slow).says("10m", temperature=95).says("12m", temperature=95)
    pending.says("11m", received="12m", temperature=20).says("15m", temperature=95)
    assert reasons(pending.silence_until("30m")) == []


def test_a_late_interruption_withdraws_what_was_held_too_short() -> None:
    van = Watched(WORN).says("0m", pads=81).says("10m", pads=82)
    assert reasons(van.says("5m", received="11m", pads=79)) == ["found", "refuted"]
    assert van.engine.next_due() == ms("15m")
    (found,) = van.silence_until("20m").events()
    assert isinstance(found, Found)
    assert (found.began_ts, found.found_ts) == (ms("5m"), ms("15m"))


def test_a_late_interruption_of_what_was_long_enough_all_the_same_changes_nothing() -> None:
    van = Watched(WORN).says("0m", pads=81).says("10m", pads=82).says("16m", pads=82)
    assert reasons(van.says("5m", received="17m", pads=79)) == ["found"]
    assert len(van.engine.open_episodes("van-1")) == 1


def test_a_late_interruption_lets_what_is_pending_begin_anew() -> None:
    van = Watched(WORN).says("0m", pads=81).says("9m", pads=82).says("5m", received="9m", pads=79)
    assert van.silence_until("14m").story() == []
    assert van.silence_until("15m").story() == [("found", "900s")]


@pytest.mark.parametrize("late", [{"pads": 80}, {"pads": "79"}, {"speed": 3}, {}])
def test_a_late_reading_that_interrupts_nothing_refutes_nothing(late: dict[str, int]) -> None:
    van = Watched(WORN).says("0m", pads=81).says("10m", pads=82).says("5m", received="11m", **late)
    assert van.story() == [("found", "600s")]


def test_a_late_reading_before_or_after_its_time_refutes_nothing() -> None:
    van = Watched(WORN).says("5m", pads=81).says("15m", pads=82).says("17m", pads=82)
    van.says("4m", received="18m", pads=3).says("16m", received="18m", pads=79)
    assert reasons(van) == ["found"]


def test_only_what_is_surely_false_is_refuted() -> None:
    """Of several signals, those that were reported since then are not known as they were."""
    both = rule("speed > 50 and temperature > 90", for_="10m")
    van = Watched(both).says("0m", speed=60, temperature=95).says("10m", speed=60, temperature=95)
    assert reasons(van.says("5m", received="11m", speed=60)) == ["found"]
    assert reasons(van.says("6m", received="11m", temperature=90)) == ["refuted"]
    either = rule("speed > 50 or temperature > 90", for_="10m")
    van = Watched(either).says("0m", speed=60).says("10m", temperature=95)
    assert reasons(van.says("5m", received="11m", speed=40)) == ["found"]
    van = Watched(either).says("0m", speed=60, temperature=20).says("10m", speed=60)
    assert reasons(van.says("5m", received="11m", speed=40)) == ["found", "refuted"]
    neither = rule("not (speed > 50 and temperature > 90)", for_="10m")
    van = Watched(neither).says("0m", speed=40, temperature=20).says("10m", speed=40, temperature=95)
    assert reasons(van.says("5m", received="11m", speed=60)) == ["found"]


def test_a_late_reading_of_a_signal_without_a_newer_one_refutes_what_it_was_true_for() -> None:
    both = rule("pads >= 80 and speed > 5")
    van = Watched(both).says("0m", pads=81, speed=9).says("1m", pads=3).says("5m", pads=81)
    assert reasons(van) == ["found", "condition", "found"]
    assert reasons(van.says("3m", received="6m", speed=0)) == ["refuted"]
    van = Watched(both).says("0m", pads=81, speed=9).says("5m", pads=81)
    assert reasons(van.says("3m", received="6m", speed=0)) == ["found", "condition"]


def test_what_was_held_or_is_long_since_is_refuted_too() -> None:
    van = Watched(rule("held(speed > 50, '10m') and pads > 1"))
    for minute in (0, 4, 8, 11):
        van.says(f"{minute}m", speed=60, pads=2)
    assert reasons(van.says("5m", received="12m", speed=60)) == ["found"]
    assert reasons(van.says("6m", received="12m", speed=40)) == ["refuted"]
    assert van.silence_until("1h").story() == [("found", "960s")]
    van = Watched(rule("since(door_open) > 600")).says("0m", door_open=True).says("1m", door_open=False)
    van.says("9m", door_open=False)
    van.says("5m", received="10m", door_open=True)
    assert van.silence_until("1h").story() == [("found", "900.001s")]


def test_what_was_refuted_stays_so_after_a_restart() -> None:
    van = Watched(WORN, HOT.replace("id: rule", "id: hot"))
    van.says("0m", pads=81).says("10m", pads=82, temperature=95)
    assert reasons(van) == ["found", "found"]
    van = van.restarted().says("5m", received="11m", pads=79, temperature=0)
    assert reasons(van) == ["refuted", "refuted"]
    assert van.restarted().silence_until("20m").story() == [("found", "900s")]


# --- what passing time brings


def told(events: list[Found | Cleared]) -> list[tuple[str, str, str, float]]:
    """(device, rule, what, seconds after noon of the device's own time), without positions."""
    return [
        (event.device, event.rule, "found", (event.found_ts - NOON) / 1000)
        if isinstance(event, Found)
        else (event.device, event.rule, event.reason, (event.ts - NOON) / 1000)
        for event in events
    ]


def tick_until(engine: Engine, received: int, position: int = 0) -> None:
    while (due := engine.next_due()) is not None and due <= received:
        engine.tick(position, due)


@pytest.mark.parametrize(
    ("when", "found", "cleared"),
    [
        ("silent('6h')", 21_660, 25_000),
        ("age(speed) > '6h'", 21_660.001, 25_000),
        ("age(speed) >= 21600", 21_660, 25_000),
        ("not age(speed) < '6h'", 21_660, 25_000),
        ("held(speed == 5, '6h')", 21_660, 25_000),
        ("since(speed > 50) > '6h'", 21_660.001, 25_000),
        ("18 <= local_hour() < 19", 21_600, 25_200),
        ("count(speed, '5h') < 1 and silent('1m')", 18_300, 25_000),
        ("not times(speed > 50, '5h') > 0 and silent('1m')", 18_300, 25_000),
        ("last(speed, '6h') == 5 and silent('3h')", 10_860, 25_000),
        ("speed == 5 and for", 21_660, 25_000),
    ],
)
@pytest.mark.parametrize("restart", [False, True])
def test_it_is_found_when_time_passes_without_a_message(
    when: str, found: float, cleared: float, restart: bool
) -> None:
    """Once, at the right moment of the device's own time, though its clock is two hours behind."""
    rules = ruleset(rule("speed == 5", for_="6h") if when.endswith("for") else rule(when))
    engine, events, states = Engine(rules), list[Found | Cleared](), dict[str, bytes]()
    for ts, speed in ((0, 60), (60, 5), (25_000, 60)):
        for until in (ts - 12_000, ts - 3_000, ts - 2_000, ts):
            tick_until(engine, NOON + (until + 7_200) * 1000)
            events += engine.take()
            if restart:
                states.update(engine.dirty())
                engine = Engine(rules)
                for device, state in states.items():
                    engine.restore(device, state)
        now = NOON + ts * 1000
        engine.readings(1, now + 7_200_000, "van-1", "van", [(now, {"speed": speed})])
    tick_until(engine, NOON + 40_000_000)
    events += engine.take()
    told_once = [(what, at) for _, _, what, at in told(events)]
    assert told_once == [("found", found), ("condition", cleared)]


def test_a_reading_that_turns_time_back_is_waited_for_anew() -> None:
    """It was under way for longer than the one before: what passing time brings is looked at again."""
    van = Watched(rule("silent('10m')"), rule("age(pads) > '8m'", id="old", clear="pads < 0"))
    van.says("0m", pads=1).silence_until("13m")
    assert van.story() == [("found", "480.001s"), ("found", "600s")]
    van.says("1m", received="14m", speed=1).silence_until("40m")
    assert van.story() == [("cleared", "60s"), ("found", "660s")]


@pytest.mark.parametrize("restart", [False, True])
def test_a_reading_that_turns_time_back_is_looked_at_with_or_without_a_restart(restart: bool) -> None:
    van = Watched(rule("age(speed) > 15", for_="5s")).says("0s", speed=1).says("8s", pads=1)
    van.silence_until("25s").says("14s", received="26s", door_open=False)
    story = van.story()
    van = van.restarted() if restart else van
    story += van.silence_until("60s").story()
    assert story == [("found", "20.001s"), ("cleared", "14s"), ("found", "20.001s")]


def test_a_late_reading_does_not_turn_time_back() -> None:
    van = Watched(rule("silent('20s')"), rule("age(speed) <= '30s'", id="young")).says("1s", speed=1)
    van.silence_until("32s").says("0s", received="33s", door_open=False).silence_until("60s")
    assert van.story() == [("found", "1s"), ("found", "21s"), ("cleared", "31.001s")]


def test_messages_of_one_timestamp_end_silence_each() -> None:
    van = Watched(rule("silent('10m')")).says("0m", pads=1).silence_until("11m")
    van.says("0m", received="12m", speed=1).silence_until("40m")
    assert van.story() == [("found", "600s"), ("cleared", "0s"), ("found", "600s")]


def test_a_device_that_was_registered_and_never_heard_of_is_not_silent() -> None:
    engine = Engine(ruleset(rule("silent('1h')")))
    engine.register(1, NOON, "van-1", "van", "m")
    (state,) = dict(engine.dirty()).values()
    engine = Engine(engine.rules)
    engine.restore("van-1", state)
    tick_until(engine, ms("3h"))
    engine.readings(2, ms("3h"), "van-1", "van", [(ms("3h"), {})])
    tick_until(engine, ms("5h"))
    assert told(engine.take()) == [("van-1", "rule", "found", 14_400)]


@pytest.mark.parametrize(
    "when", ["local_hour() >= 22", "age(speed) / 2 > 5 or local_hour() < 0", "silent('1s')"]
)
def test_a_rule_cannot_hang_the_engine(when: str) -> None:
    """A year of silence is looked at in bounded work, and there is always an end to what is due."""
    engine = Engine(ruleset(rule(when), rule("speed > 1", id="b", for_="1s")))
    engine.readings(1, NOON, "van-1", "van", [(NOON, {"speed": 5})])
    engine.tick(2, ms("365d"))
    due = engine.next_due()
    assert due is None or due > ms("365d")
    assert {rule for _, rule, _, _ in told(engine.take())} >= {"b"}
    ticks = 0
    while (due := engine.next_due()) is not None and due <= ms("366d"):
        engine.tick(3, due)
        ticks += 1
    assert ticks <= 97


CLOCKED = st.sampled_from(
    [
        "silent('20s')", "age(speed) > 15", "age(speed) <= '30s'", "held(speed > 10, '20s')",
        "since(door_open) > 25", "since(speed > 10) < 40", "last(temperature, '20s') > 10",
        "local_hour() >= 12.25",
        "since(speed > 10 and door_open) >= 30", "held(avg(speed, '1m') > 10, '10s')",
    ]
)  # fmt: skip
SIMPLE = st.sampled_from(
    [
        "speed > 10", "door_open", "temperature > 10", "count(speed, '1m') < 2",
        "max(temperature, '1m') > 10",
        "times(door_open, '1m') >= 2", "change(speed, '1m') > 3", "usage(pads) > 30",
        "percentile(wear, 50, '1m') > 40",
    ]
)  # fmt: skip


@st.composite
def clocked_rules(draw: st.DrawFn) -> str:
    texts = []
    for number in range(draw(st.integers(1, 4))):
        first, second = draw(CLOCKED), draw(st.one_of(CLOCKED, SIMPLE))
        when = draw(st.sampled_from(["{}", "not {}", "{} and {}", "{} or {}", "{} and not {}"]))
        more = {"for_": draw(st.sampled_from(["0s", "5s", "30s"]))}
        if draw(st.integers(0, 3)) == 0:
            more["clear"] = f'"{draw(st.one_of(CLOCKED, SIMPLE))}"'
        texts.append(rule(when.format(first, second), id=f"rule-{number}", **more))
    return "".join(texts)


READINGS = st.fixed_dictionaries(
    {},
    optional={
        "speed": st.sampled_from([0, 9, 11, 20]), "door_open": st.booleans(), "wear": st.just(60),
        "temperature": st.sampled_from([5, 15, None]), "pads": st.sampled_from([10, 20, 60]),
    },
)  # fmt: skip
HEARD = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 2, 5, 10, 16, 30, 45, 70]), st.sampled_from(["van-1", "van-2"]),
        st.sampled_from([0, 0, 0, 1, 3, 12]), READINGS,
    ),
    min_size=1, max_size=25,
)  # fmt: skip
Heard = list[tuple[int, str, int, dict[str, object]]]
START = ms("14m")  # local_hour turns while it goes on
AHEAD = {"van-1": 0, "van-2": 3_600_000}


def journal(rules: RuleSet, heard: Heard) -> list[tuple[str, int, str, int, dict[str, object]]]:
    """What is heard, with ticks where something is due: (what, received, device, ts, signals)."""
    engine, received, entries = Engine(rules), START, []
    for delay, device, under_way, signals in [*heard, (200, "van-1", 0, {})]:
        received += delay * 1000
        while (due := engine.next_due()) is not None and due <= received:
            entries.append(("tick", due, "", 0, {}))
            engine.tick(len(entries), due)
        ts = received + AHEAD[device] - under_way * 1000
        entries.append(("readings", received, device, ts, signals))
        engine.readings(len(entries), received, device, "van", [(ts, signals)])  # type: ignore[dict-item]
    return entries


def replay(engine: Engine, entries: list[tuple[str, int, str, int, dict[str, object]]], after: int) -> None:
    for position, (what, received, device, ts, signals) in enumerate(entries, after + 1):
        if what == "tick":
            engine.tick(position, received)
        else:
            engine.readings(position, received, device, "van", [(ts, signals)])  # type: ignore[dict-item]


@given(clocked_rules(), HEARD, st.data())
@settings(max_examples=120, deadline=None)
def test_timers_are_the_same_wherever_it_is_interrupted(
    texts: str, heard: Heard, data: st.DataObject
) -> None:
    rules = wide(texts)
    entries = journal(rules, heard)
    engine = Engine(rules)
    replay(engine, entries, 0)
    undisturbed = engine.take()
    engine, last = Engine(rules), 0
    events, saved = list[Found | Cleared](), dict[str, bytes]()
    for cut in sorted(data.draw(st.lists(st.integers(0, len(entries)), max_size=4))):
        replay(engine, entries[last:cut], last)
        events += engine.take()
        saved.update(engine.dirty())
        engine, last = Engine(rules), cut
        for device, state in saved.items():
            engine.restore(device, state)
    replay(engine, entries[last:], last)
    assert events + engine.take() == undisturbed


@given(clocked_rules(), HEARD)
@settings(max_examples=60, deadline=None)
def test_nothing_is_missed_between_the_moments_looked_at(texts: str, heard: Heard) -> None:
    """Against looking every second, and a millisecond later. All readings are under way equally long: what
    turns a device's time back is not looked for."""
    rules = wide(texts)
    entries = journal(rules, [(delay, device, 0, signals) for delay, device, _, signals in heard])
    quick, slow = Engine(rules), Engine(rules)
    replay(quick, entries, 0)
    at = START
    for position, (what, received, device, ts, signals) in enumerate(entries, 1):
        while at <= received:
            for state in slow._states.values():
                state.unpack()
                state.flush()
                if state.passed < state.device_time(at):
                    slow._moment(state, state.device_time(at), position, at)
            at += 999 if at % 1000 else 1
        if what == "readings":
            slow.readings(position, received, device, "van", [(ts, signals)])  # type: ignore[dict-item]
    assert sorted(told(quick.take())) == sorted(told(slow.take()))


# --- out of order


SHARED = (
    "avg(speed, '1m') > 50", "max(speed, '10m') > 95", "min(speed, '10m') < 5", "count(speed, '1m') > 9",
    "avg(speed, '10m') < 20", "count(speed, '3m') < 3",
)  # fmt: skip
ALONE = (
    "avg(speed, '1m') > wheel_speed", "stddev(speed, '10m') > 20", "slope(speed, '3m') > 0",
    "rate(speed, '1m') > 3",    "percentile(wear, 50, '3m') > 50", "change(wear, '1m') > 3",
    "sum(speed, '3m') > 500", "baseline(wear, '10m') > 1",
)  # fmt: skip


def summaries(engine: Engine, device: str) -> list[list[float]]:
    """What can be asked of each window, trend and histogram at the device's newest time."""
    state = engine._states[device]
    state.unpack()
    state.flush()
    at, found = state.newest, list[list[float]]()
    for cell in state.cells:
        if isinstance(cell, Histogram):
            found.append([cell.percentile(at, percent) or -1 for percent in (5, 50, 95)])
        elif isinstance(cell, Window):
            answers = [cell.count(at), cell.min(at), cell.max(at), cell.sum(at), cell.avg(at)]
            if isinstance(cell, Trend):
                answers += [cell.stddev(at), cell.slope(at), *(cell.oldest(at) or ())]
            found.append([-1 if answer is None else answer for answer in answers])
    return found


ARRIVALS = st.lists(
    st.tuples(st.integers(0, 900), st.integers(0, 300), st.integers(0, 100), st.integers(0, 100)),
    min_size=1, max_size=80, unique_by=lambda reading: reading[0],
)  # fmt: skip


@given(ARRIVALS, st.sampled_from([SHARED, ALONE, SHARED + ALONE]), st.sampled_from([300, 60]))
@settings(max_examples=150, deadline=None)
def test_the_order_of_arrival_does_not_matter_to_windows(
    arrivals: list[tuple[int, int, int, int]], conditions: tuple[str, ...], most: int
) -> None:
    """Within the allowed lateness; once all has come, all windows say the same."""
    rules = wide(*(rule(when, id=f"rule-{number}") for number, when in enumerate(conditions)))
    engines = [Engine(rules, lateness_ms=most * 1000) for _ in range(3)]
    in_order = sorted(arrivals)
    jumbled = sorted(arrivals, key=lambda reading: reading[0] + reading[1] % (most + 1))
    for number, (engine, order) in enumerate(zip(engines, (in_order, jumbled, jumbled), strict=True)):
        for position, (second, _, speed, wear) in enumerate(order):
            if number == 2 and position % 7 == 3:
                saved = dict(engine.dirty())
                engine = engines[2] = Engine(rules, lateness_ms=most * 1000)
                engine.restore("van-1", saved["van-1"])
            ts = NOON + second * 1000
            signals = {"speed": speed / 3, "wear": wear} if speed % 2 else {"wear": wear, "speed": speed / 3}
            engine.readings(position, NOON + 10**6, "van-1", "van", [(ts, signals)])
        assert engine.too_late <= engine.late
    expected = summaries(engines[0], "van-1")
    for engine in engines[1:]:
        for found, right in zip(summaries(engine, "van-1"), expected, strict=True):
            assert found[:3] == right[:3]
            assert found == pytest.approx(right, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("value", [20.1, 0.1, 0.3, -7.7])
def test_the_mean_of_equal_readings_is_each_of_them(value: float) -> None:
    """However they were added up, and so restarts change nothing; they do not spread at all, either."""
    texts = (
        rule(f"avg(speed, '1m') >= {value}", id="least"), rule(f"avg(speed, '1m') > {value}", id="more"),
        rule(f"avg(speed, '1m') < {value} and temperature > 0", id="less"),
        rule("baseline(temperature, '1m') > -1e9 or baseline(temperature, '1m') < 0", id="odd"),
    )  # fmt: skip
    van, story = Watched(*texts), []
    for second in range(200):
        story += van.says(f"{second}s", speed=value, temperature=abs(value)).story()
        van = van.restarted() if second % 13 == 7 else van
    assert story == [("found", "0s")]


def test_what_is_later_than_allowed_has_no_effect_and_is_counted() -> None:
    engine = Engine(
        ruleset(rule("max(speed, '30d') > 90"), COUNT.replace("rule", "b", 1)), lateness_ms=60_000
    )
    for ts, speed in ((100_000, 1), (40_000, 2), (39_999, 99), (39_998, 99)):
        engine.readings(1, NOON + 100_000, "van-1", "van", [(NOON + ts, {"speed": speed, "pads": 1})])
    assert (engine.late, engine.too_late) == (6, 4)
    assert engine.take() == []
    assert summaries(engine, "van-1")[0][:3] == [2, 1, 2]
    engine.readings(1, NOON + 100_000, "van-1", "van", [(NOON + 39_999, {"temperature": 99})])
    assert "temperature" in engine._programs["van"].slots
    assert engine._states["van-1"].values[engine._programs["van"].slots["temperature"]] is None


def test_only_what_no_window_covers_is_too_late() -> None:
    short, long = rule("max(speed, '1m') > wheel_speed"), rule("max(speed, '1h') > wheel_speed", id="long")
    for texts, count in (((short,), 1), ((short, long), 0), ((long,), 0), ((rule("speed > 1"),), 0)):
        van = Watched(*texts).says("10m", speed=1).says("5m", received="11m", speed=2)
        assert (van.engine.late, van.engine.too_late) == (1, count)


# --- other rules while it runs


def activated(van: Watched, at: str, *texts: str) -> Watched:
    van.position += 1
    van.engine.activate(van.position, ms(at), wide(*texts))
    return van


MEAN = rule("avg(speed, '1h') > 50", id="mean")


def test_what_means_the_same_goes_on() -> None:
    van = Watched(WORN, MEAN, rule("speed > 90", id="fast"), rule("held(speed > 1, '10m')", id="held"))
    van.says("0m", speed=100, pads=81).says("5m", speed=20)
    assert len(van.events()) == 3
    open_before = {episode.rule: episode.finding for episode in van.engine.open_episodes("van-1")}
    others = rule("temperature > 3", id="other"), rule("temperature > 2 and speed > 3", id="two")
    activated(van, "6m", *others, rule("held(speed > 1, '10m')", id="held"), WORN, MEAN)
    assert van.engine.missing_windows("van-1") == []
    assert {e.rule: e.finding for e in van.engine.open_episodes("van-1")} == {"mean": open_before["mean"]}
    assert van.events() == []
    van.silence_until("11m")
    assert told(van.events()) == [("van-1", "rule", "found", 600), ("van-1", "held", "found", 600)]
    assert told(van.says("12m", speed=20).events()) == [("van-1", "mean", "condition", 720)]


def test_an_episode_of_a_rule_that_is_gone_is_over() -> None:
    warm = HOT.replace("rule", "warm", 1)
    van = Watched(warm, WORN).says("0m", temperature=95, pads=99).says("10m", speed=1)
    hot, worn = (event.id for event in van.events() if isinstance(event, Found))
    activated(van, "20m", MEAN)
    gone = van.events()
    assert [(e.finding, e.reason, e.position, e.ts) for e in gone if isinstance(e, Cleared)] == [
        (hot, "rule", 3, ms("20m")), (worn, "rule", 3, ms("20m"))
    ]  # fmt: skip
    activated(van, "21m", warm, WORN)
    assert van.engine.next_due() is None
    assert told(van.says("22m", pads=99, temperature=95).silence_until("33m").events())[-1][3] == 1920


def test_a_changed_rule_keeps_its_episode_and_begins_its_for_anew() -> None:
    changed = WORN.replace("80", "75")
    van = activated(Watched(WORN).says("0m", pads=81), "9m", changed)
    assert van.silence_until("30m").events() == []
    assert van.says("31m", pads=81).silence_until("42m").story() == [("found", "2460s")]
    (before,) = van.engine.open_episodes("van-1")
    activated(van, "43m", changed.replace("75", "99").replace("< 60", "< 70"))
    assert van.engine.open_episodes("van-1") == (before,)
    assert van.says("44m", pads=72).story() == []
    (cleared,) = van.says("45m", pads=69).events()
    assert isinstance(cleared, Cleared)
    assert (cleared.finding, cleared.reason) == (before.finding, "condition")


def test_new_rules_find_nothing_of_the_past() -> None:
    """What a new rule says of now is found now, with the next reading or, if it waits for time, at once."""
    van = Watched(rule("speed > 1000 or pads > 1000")).says("0m", speed=95, pads=81).says("30m", pads=10)
    news = (
        rule("speed > 90", id="fast"), rule("silent('1h')", id="silent"),
        rule("pads >= 80", id="worn", for_="10m"), rule("age(speed) > '1h'", id="old", for_="5m"),
        rule("silent('4h')", id="long"),
    )  # fmt: skip
    activated(van, "3h", *news)
    assert told(van.events()) == [("van-1", "silent", "found", 10_800)]
    assert told(van.silence_until("4h").events()) == [("van-1", "old", "found", 11_100)]
    assert told(van.silence_until("6h").events()) == [("van-1", "long", "found", 16_200)]
    events = told(van.says("7h", speed=95).events())
    assert [event for event in events if event[2] == "found"] == [("van-1", "fast", "found", 25_200)]


def test_what_fell_due_before_is_found_by_the_rules_before() -> None:
    van = Watched(WORN, rule("silent('1h')", id="silent")).says("0m", pads=81)
    activated(van, "2h", WORN.replace("80", "75"), rule("silent('2h')", id="silent"))
    assert told(van.events()) == [("van-1", "rule", "found", 600), ("van-1", "silent", "found", 3600)]
    assert len(van.engine.open_episodes("van-1")) == 2


def test_new_windows_are_missing_until_they_are_filled() -> None:
    """And nothing is found by filling them, nor is anything counted twice."""
    store = [(NOON + minute * 60_000, 80 if minute < 50 else 20) for minute in range(60)]
    van = Watched(rule("max(speed, '10m') > 1000"))
    for ts, speed in store:
        van.says(f"{(ts - NOON) // 1000}s", speed=speed)
    count, up = rule("count(speed, '30m') >= 1000", id="count"), rule("slope(speed, '2h') > 3", id="up")
    activated(
        van, "1h", rule("max(speed, '10m') > 1000"), MEAN, count, rule("slope(speed, '2h') > 3", id="up")
    )
    assert set(van.engine.missing_windows("van-1")) == {
        ("speed", 3_600_000), ("speed", 1_800_000), ("speed", 7_200_000),
    }  # fmt: skip
    van.says("3601s", speed=20)
    van = van.restarted()
    assert len(van.engine.missing_windows("van-1")) == 3
    assert van.engine.cold_devices() == ["van-1"]
    van.engine.warm("van-1", "speed", [*store, (ms("3601s"), 20), (ms("2h"), 99)])
    assert van.engine.missing_windows("van-1") == []
    assert van.events() == []
    expected = Watched(rule("max(speed, '10m') > 1000"), MEAN, count)
    expected = activated(expected, "0s", rule("max(speed, '10m') > 1000"), MEAN, count, up)
    for ts, speed in store:
        expected.says(f"{(ts - NOON) // 1000}s", speed=speed)
    expected.says("3601s", speed=20)
    assert summaries(van.engine, "van-1") == summaries(expected.engine, "van-1")
    assert told(van.says("3602s", speed=20).events()) == [("van-1", "mean", "found", 3602)]
    assert van.restarted().engine.missing_windows("van-1") == []


def test_windows_that_share_readings_are_warmed_without_losing_or_doubling_any() -> None:
    """Readings wait in common for all windows of a signal while none of them crosses a level."""
    old, new = rule("avg(speed, '10m') > 1000"), rule("avg(speed, '20m') > 1000", id="new")
    van, store = Watched(old), list[tuple[int, float]]()
    for second in range(300):
        van.says(f"{second}s", speed=second % 5)
        store.append((NOON + second * 1000, second % 5))
    activated(van, "300s", old, new)
    for second in range(300, 320):
        van.says(f"{second}s", speed=second % 5)
        store.append((NOON + second * 1000, second % 5))
    van.engine.warm("van-1", "speed", store)
    for second in range(320, 340):
        van.says(f"{second}s", speed=second % 5)
    assert summaries(van.engine, "van-1") == [[340, 0, 4, 680, 2]] * 2


def test_what_is_missing_stays_so_until_it_is_filled() -> None:
    """Also if yet other rules are activated first; an empty window that is known is not missing."""
    van = activated(Watched(HOT).says("0m", speed=1), "1m", MEAN)
    activated(van, "2m", MEAN, WORN)
    assert van.engine.missing_windows("van-1") == [("speed", 3_600_000)]
    van.engine.warm("van-1", "speed", [])
    van = van.restarted()
    assert van.engine.missing_windows("van-1") == []
    assert van.says("5h", pads=3).restarted().engine.missing_windows("van-1") == []


def test_a_device_that_was_never_heard_of_is_activated_too() -> None:
    engine = Engine(wide(rule("silent('1h')")))
    engine.register(1, NOON, "van-1", "van", "m", "Europe/Berlin")
    engine.activate(2, ms("5h"), wide(rule("silent('2h')"), MEAN))
    assert engine.cold_devices() == []
    assert engine.missing_windows("van-1") == engine.missing_windows("van-2") == []
    engine.warm("van-2", "speed", [(NOON, 5)])
    assert (engine.take(), engine.next_due()) == ([], None)
    engine.readings(3, ms("6h"), "van-1", "van", [(ms("6h"), {"speed": 60})])
    tick_until(engine, ms("9h"))
    assert told(engine.take()) == [("van-1", "mean", "found", 21_600), ("van-1", "rule", "found", 28_800)]


def test_a_trend_takes_the_place_of_a_window_and_a_window_that_of_a_trend() -> None:
    store = [(NOON + minute * 60_000, minute) for minute in range(60)]
    window, trend = MEAN.replace("50", "1000"), rule("slope(speed, '1h') > 1000", id="trend")
    van = Watched(window)
    for minute in range(60):
        van.says(f"{minute}m", speed=minute)
    before = summaries(van.engine, "van-1")
    for texts in ((window, trend), (window,)):
        activated(van, "1h", *texts)
        assert van.engine.missing_windows("van-1") == [("speed", 3_600_000)]
        van.engine.warm("van-1", "speed", store)
        assert [found[:5] for found in summaries(van.engine, "van-1")] == before
    assert van.events() == []


def test_peers_stay_in_their_groups() -> None:
    odd = rule("fleet(speed) > 3", id="odd")
    engine = Engine(wide(odd))
    for number in range(12):
        engine.register(number, NOON, f"van-{number}", "van", "m")
        engine.readings(number, NOON, f"van-{number}", "van", [(NOON, {"speed": 10 + number % 3})])
    for texts in ((odd, MEAN), (odd,)):
        engine.activate(20, NOON, wide(*texts))
        (group,) = {id(g): g for g in engine._groups.values() if g.n}.values()
        assert group.n == 12
    engine.activate(21, NOON, wide(MEAN))
    assert [group.n for group in engine._groups.values()] == [0]
    engine.activate(22, NOON, wide(odd))
    engine.readings(23, ms("1m"), "van-3", "van", [(ms("1m"), {"speed": 99})])
    assert engine.take() == []


def test_what_was_measured_in_another_unit_is_not_carried_over() -> None:
    knots = Catalogue.parse([("van.yaml", SIGNALS.replace("speed: {unit: km/h", "speed: {unit: m/s", 1))])
    fast = rule("speed > 50 and pads > 1", id="fast", for_="1m")
    held, mean = rule("held(speed > 50, '1m')", id="held"), rule("avg(speed, '1h') > 50", id="mean")
    van = Watched(fast, held, rule("avg(pads, '1h') > 1", id="pads"), mean).says("0s", speed=60, pads=3)
    assert len(van.events()) == 2
    texts = fast + held + rule("avg(pads, '1h') > 2", id="pads") + mean
    van.engine.activate(9, ms("1s"), load([("van-rules.yaml", texts)], knots))
    assert van.silence_until("5m").story() == []
    assert van.says("6m", speed=14).silence_until("9m").story() == [("cleared", "360s")]
    assert summaries(van.engine, "van-1")[-1][0] == 1


POOL = [
    "speed > 10", "avg(speed, '1m') > 10", "avg(speed, '1m') > 11", "max(speed, '30s') > 15",
    "slope(speed, '1m') > 0", "count(wear, '1m') > 2 and speed > 5", "percentile(wear, 50, '30s') > 40",
    "silent('20s')", "age(speed) > 15", "held(speed > 10, '20s')", "since(door_open) > 25",
    "times(door_open, '1m') >= 2", "usage(pads) > 30", "crossed(speed, 10)", "previous(speed) > 10",
    "fleet(speed) > 0", "last(temperature, '20s') > 10", "door_open",
]  # fmt: skip
SETS = st.lists(
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]),
        st.tuples(st.sampled_from(POOL), st.sampled_from(["0s", "5s", "30s"])),
        min_size=1,
    ),
    min_size=2, max_size=3,
)  # fmt: skip
Step = tuple[str, int, str, int, dict[str, object]]


class Gateway:
    """An engine whose rules change, with a store that it is warmed from."""

    def __init__(self, sets: list[RuleSet], number: int = 0, states: dict[str, bytes] | None = None) -> None:
        self.engine = Engine(sets[number])
        self.sets = sets
        for device, state in (states or {}).items():
            self.engine.restore(device, state)

    def take(self, position: int, step: Step, before: list[Step]) -> None:
        what, received, device, ts, signals = step
        if what == "tick":
            self.engine.tick(position, received)
        elif what == "readings":
            self.engine.readings(position, received, device, "van", [(ts, signals)])  # type: ignore[dict-item]
        else:
            self.engine.activate(position, received, self.sets[ts])
            for cold in self.engine.cold_devices():
                for name in dict(self.engine.missing_windows(cold)):
                    history = {
                        t: s[name] for w, _, d, t, s in before if w == "readings" and d == cold and name in s
                    }
                    self.engine.warm(cold, name, sorted(history.items()))  # type: ignore[arg-type]


@given(SETS, HEARD, st.lists(st.integers(0, 25), max_size=3), st.data())
@settings(max_examples=150, deadline=None)
def test_rules_that_change_are_the_same_wherever_it_is_interrupted(
    chosen: list[dict[str, tuple[str, str]]], heard: Heard, changes: list[int], data: st.DataObject
) -> None:
    """Activations, ticks and readings in one log, read in pieces of any size by engines begun anew."""
    sets = [
        wide(*(rule(when, id=name, for_=for_) for name, (when, for_) in texts.items())) for texts in chosen
    ]
    steps, whole, received = list[Step](), Gateway(sets), START
    for number, (delay, device, under_way, signals) in enumerate([*heard, (200, "van-1", 0, {})]):
        received += delay * 1000
        while (due := whole.engine.next_due()) is not None and due <= received:
            steps.append(("tick", due, "", 0, {}))
            whole.take(len(steps), steps[-1], steps)
        if number in changes:
            steps.append(("rules", received, "", (changes.index(number) + 1) % len(sets), {}))
            whole.take(len(steps), steps[-1], steps)
        steps.append(("readings", received, device, received + AHEAD[device] - under_way * 1000, signals))
        whole.take(len(steps), steps[-1], steps)
    undisturbed = whole.engine.take()
    states, events, last, gateway = dict[str, bytes](), list[Found | Cleared](), 0, Gateway(sets)
    for cut in [*sorted(data.draw(st.lists(st.integers(0, len(steps)), max_size=5))), len(steps)]:
        for position in range(last, cut):
            gateway.take(position + 1, steps[position], steps[:position])
        events += gateway.engine.take()
        states.update(gateway.engine.dirty())
        held = [ts for what, _, _, ts, _ in steps[:cut] if what == "rules"][-1:] or [0]
        gateway, last = Gateway(sets, held[0], states), cut
    assert events == undisturbed


# --- saved state


def encoded(format_: int, *body: object) -> bytes:
    return bytes((format_,)) + msgspec.msgpack.encode(body)


def test_the_first_format_is_still_read() -> None:
    window = ["speed", 600_000, -(1 << 62), NOON, NOON + 10_000, 1, 70.0, 70.0, 70.0]
    closed = [[NOON - 60_000, NOON - 20_000], [2, 3], [100.0, 240.0], [40.0, 80.0], [60.0, 80.0]]
    values = {"speed": [NOON + 1_000, 70.0], "pads": [NOON, 81]}
    slow, worn = rule("avg(speed, '10m') > 90", id="slow"), WORN.replace("rule", "worn", 1)
    rules = ruleset(slow, worn)
    print_ = program(rules).by_id["worn"].fingerprint
    pending, opened = [["worn", print_, NOON, 7], ["gone", 1, NOON, 7]], [["slow", NOON - 5_000, 3]]
    saved = encoded(1, "van", "m", True, NOON + 1_000, 500, values, pending, opened, [[*window, *closed]])
    engine = Engine(rules)
    engine.restore("van-1", saved)
    assert [(e.rule, e.position) for e in engine.open_episodes("van-1")] == [("slow", 3)]
    assert summaries(engine, "van-1") == [[6, 40, 80, 410, pytest.approx(410 / 6)]]
    assert engine.next_due() == NOON + 600_500
    tick_until(engine, NOON + 700_000)
    engine.readings(9, NOON + 700_000, "van-1", "van", [(NOON + 699_000, {"speed": 1})])
    assert [event[1:3] for event in told(engine.take())] == [("worn", "found"), ("slow", "condition")]


@pytest.mark.parametrize("saved", [b"", b"\x00", b"\x03\x90", b"\x63"])
def test_another_format_is_refused(saved: bytes) -> None:
    with pytest.raises(StateVersionError, match="van-1"):
        Engine(ruleset(WORN)).restore("van-1", saved)


FIVE = ("oil_temperature", "coolant_temperature", "battery_voltage", "tyre_pressure", "brake_wear")
FLEET = Catalogue.parse(
    [
        (
            "van.yaml",
            "kind: van\nlabel: {en: Van, de: Transporter}\nsignals:\n"
            + "".join(
                f"  {name}: {{unit: °C, range: [-40, 150], label: {{en: {name}, de: {name}}}}}\n"
                for name in FIVE
            ),
        )
    ]
)


def driven(texts: list[str], days: int, every: int) -> bytes:
    """The saved state of a van that reported five signals, to a tenth of a degree, for so long."""
    engine, chance = Engine(load([("rules.yaml", "".join(texts))], FLEET)), random.Random(7)
    values, ts = [chance.uniform(10, 90) for _ in FIVE], NOON
    for position in range(1, days * DAY // every + 100):
        values = [round(value + chance.gauss(0, 0.4) + (50 - value) / 100, 1) for value in values]
        engine.readings(position, ts, "van-1", "van", [(ts, dict(zip(FIVE, values, strict=True)))])
        ts += every + chance.randrange(every // 10)
    return dict(engine.dirty())["van-1"]


def thresholds(count: int) -> list[str]:
    """Half of them true and waiting for their `for`."""
    limits = (f"{FIVE[i % 5]} {'>=' if i % 2 else '<'} {100 + i}" for i in range(count))
    return [rule(limit, id=f"threshold-rule-{i:02d}", for_="100d") for i, limit in enumerate(limits)]


def test_the_state_of_fifty_thresholds_takes_two_kilobytes() -> None:
    saved = driven(thresholds(50), 0, 1_000)
    assert 64 < len(saved) <= 2_048


@pytest.mark.parametrize("every", [600_000, 7_200_000])
def test_the_state_of_long_windows_and_trends_takes_24_kilobytes(every: int) -> None:
    """Half of fifty rules look back over thirty days, in five ways at each of five signals."""
    forms = (
        "avg({}, '30d') > 140", "max({}, '30d') - min({}, '30d') > 180", "slope({}, '30d') > 9",
        "percentile({}, 95, '30d') > 145", "days_until({}, 149, over='30d') < 0.01",
    )  # fmt: skip
    long = [
        rule(form.format(name, name), id=f"window-rule-{i}-{name.replace('_', '-')}")
        for name in FIVE
        for i, form in enumerate(forms)
    ]
    assert len(long) == 25
    saved = driven([*thresholds(25), *long], 35, every)
    assert 12_000 < len(saved) <= 24 * 1_024


# --- what callers and timers save themselves


def test_a_state_that_is_handed_back_counts_until_there_is_another_one() -> None:
    """Also after other rules were activated, after a restart, and for a device that a control entry named."""
    other = rule("speed >= 50", for_="1m", id="fast")
    found = []
    for handed in (False, True):
        engine, state, events = Engine(ruleset(WORN)), None, list[Found | Cleared]()
        engine.register(1, NOON, "van-1", "van", None)
        for minute in range(60):
            at = NOON + 60_000 * minute
            if minute == 20:
                engine.activate(100, at, ruleset(WORN, other))
            elif minute == 40:
                for device, saved in list(engine.dirty()):
                    engine.restore(device, saved)
            items = [(at, {"pads": 90.0, "speed": 60.0 if minute % 20 > 5 else 0.0})]
            given = engine.readings(200 + minute, at, "van-1", "bus", items, state if handed else None)
            state = given
            events += engine.take()
        found.append(events)
    assert found[0] == found[1]
    assert [event.rule for event in found[0]].count("fast") > 1


def test_a_log_that_is_read_faster_than_it_was_written_seldom_sets_a_timer_anew() -> None:
    """Each reading comes sooner after its ts than the one before; the finding is due all the same."""
    for seconds in (10, 100, 550, 601, 3_600):
        engine, entries = Engine(ruleset(rule("pads >= 80", for_=f"{seconds}s"))), 0
        for second in range(seconds):
            ts, received = NOON + 1000 * second, NOON + 10_000_000 + 10 * second
            before = len(engine._timer_heap)
            engine.readings(second + 1, received, "van-1", "van", [(ts, {"pads": 90.0})])
            entries += len(engine._timer_heap) != before
            assert not engine.take()
        assert entries < 60
        assert engine.next_due() == NOON + 10_000_000 + 10 * (seconds - 1) + 1000
        engine.tick(seconds + 1, cast(int, engine.next_due()))
        assert [event.began_ts for event in engine.take() if isinstance(event, Found)] == [NOON]
