"""Event time: repetitions, late readings, wrong clocks, passing time, other rules while it runs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rules_case import NOON, SIGNALS, Watched, ms, rule, ruleset

from rules import Catalogue, Engine, RuleSet, load
from rules.program import Program
from rules.state import TIMESTAMPS, DeviceState
from rules.windows import Window

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


# --- repetitions


def counted(van: Watched) -> int:
    """Readings of speed in the window of the rule `count(speed, '1d') > …`."""
    state = van.engine._states["van-1"]
    state.flush()
    (cell,) = state.cells
    assert isinstance(cell, Window)
    return cell.past_n + cell.n


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
def test_so_many_timestamps_are_known(shapes: int) -> None:
    """Also where each message is of another shape than the one before."""
    van = Watched(COUNT)
    for second in range(300):
        signals = {"speed": 1} if second % shapes == 0 else {"speed": 1, "pads": 1}
        van.says(f"{second}s", **signals)
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
        state.recent.append(ts)
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
