"""When a rule is found and when its episode ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rules_case import NOON, VAN, Watched, ms, rule, ruleset

from rules import Cleared, Engine, Found, RuleSet, StateVersionError
from rules.expressions import Compare, Constant, Last, Logic

WORN = rule("pads >= 80", for_="10m", clear="pads < 60", resets="[pads]")
HOT = rule("temperature > 100")


def test_found_by_the_reading_that_shows_it_has_been_true_for_long_enough() -> None:
    van = Watched(WORN).says("0m", pads=79).says("60m", pads=81).says("65m", pads=82).says("71m", pads=83)
    (found,) = van.events()
    assert isinstance(found, Found)
    assert (found.began_ts, found.found_ts) == (ms("60m"), ms("70m"))
    assert (found.position, found.received) == (4, ms("71m"))
    assert dict(found.evidence) == {"pads": 83, "ts": ms("71m")}
    assert (found.rule, found.version, found.severity, found.device) == ("rule", 1, "advice", "van-1")


def test_any_reading_of_the_device_moves_its_time() -> None:
    assert Watched(WORN).says("0m", pads=81).says("10m", speed=3).story() == [("found", "600s")]


def test_found_by_a_tick_when_the_device_is_silent() -> None:
    van = Watched(WORN).says("0m", pads=81)
    assert van.engine.next_due() == ms("10m")
    assert van.silence_until("9m").story() == []
    assert van.silence_until("11m").story() == [("found", "600s")]
    assert van.engine.next_due() is None


def test_device_time_is_its_own_clock_plus_what_has_passed() -> None:
    """The device's clock is two hours behind: `for` still lasts ten minutes of receive time."""
    van = Watched(WORN).says("0m", received="120m", pads=81)
    assert van.engine.next_due() == ms("130m")
    van.says("4m", received="123m", pads=81)  # arrives faster than the first one did
    assert van.engine.next_due() == ms("129m")


def test_a_break_begins_for_anew() -> None:
    van = Watched(WORN).says("0m", pads=81).says("9m", pads=79).says("10m", pads=81).says("19m", pads=81)
    assert van.story() == []
    assert van.says("20m", pads=81).story() == [("found", "1200s")]


def test_at_most_one_finding_an_episode() -> None:
    van = Watched(WORN)
    for minute in range(0, 100, 5):
        van.says(f"{minute}m", pads=81 + minute % 10)
    assert van.story() == [("found", "600s")]


def test_an_episode_lasts_until_clear() -> None:
    van = Watched(WORN).says("0m", pads=81).says("10m", pads=81).says("11m", pads=70).says("12m", pads=85)
    assert van.story() == [("found", "600s")]
    assert [e.began_ts for e in van.engine.open_episodes("van-1")] == [NOON]
    van.says("13m", pads=59)
    (cleared,) = van.events()
    assert isinstance(cleared, Cleared)
    assert (cleared.ts, cleared.reason) == (ms("13m"), "condition")
    assert van.engine.open_episodes("van-1") == ()


def test_an_open_episode_watches_for_its_clear_between_thresholds() -> None:
    van = Watched(WORN)
    for minute, pads in enumerate((81, 81, 81, 70, 70, 70)):
        van.says(f"{minute * 5}m", pads=pads)
    assert van.story() == [("found", "600s")]
    assert van.says("40m", pads=59).story() == [("cleared", "2400s")]


def test_without_clear_an_episode_ends_when_the_condition_is_false() -> None:
    van = Watched(HOT).says("0s", temperature=101).says("1s", temperature=100).says("2s", temperature=101)
    assert van.story() == [("found", "0s"), ("cleared", "1s"), ("found", "2s")]


def test_an_episode_does_not_end_while_its_condition_is_true() -> None:
    van = Watched(rule("speed > 50", clear="speed > 40")).says("0s", speed=60).says("1s", speed=70)
    assert van.story() == [("found", "0s")]
    assert van.says("2s", speed=45).story() == [("cleared", "2s")]
    assert van.says("3s", speed=45).says("4s", speed=51).story() == [("found", "4s")]


def test_a_finding_keeps_its_id_and_an_episode_names_it() -> None:
    first, second = (Watched(WORN).says("0m", pads=81).says("11m", pads=81) for _ in range(2))
    (found,), (again,) = first.events(), second.events()
    assert isinstance(found, Found)
    assert found == again
    (cleared,) = first.says("12m", pads=0).events()
    assert isinstance(cleared, Cleared)
    assert cleared.finding == found.id
    (other,) = first.says("20m", pads=81).says("31m", pads=81).events()
    assert isinstance(other, Found)
    assert other.id != found.id


# --- what cannot be evaluated


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf"), "101", True, [101], 10**400])
def test_an_unusable_value_is_never_true_nor_is_its_opposite(bad: object) -> None:
    for when in ("temperature > 100", "not temperature > 100", "temperature != 5", "not temperature == 5"):
        van = Watched(rule(when)).says("0s", temperature=bad)  # type: ignore[arg-type]
        assert van.story() == [], when


@pytest.mark.parametrize("bad", [None, float("nan"), "81", True])
def test_what_becomes_unknown_begins_for_anew(bad: object) -> None:
    van = Watched(WORN).says("0m", pads=81).says("5m", pads=bad).says("6m", pads=81)  # type: ignore[arg-type]
    assert van.says("15m", pads=81).story() == []
    assert van.says("16m", pads=81).story() == [("found", "960s")]


def test_what_becomes_unknown_leaves_an_open_episode_open() -> None:
    van = Watched(HOT).says("0s", temperature=101).says("1s", temperature=None)
    assert van.story() == [("found", "0s")]
    assert len(van.engine.open_episodes("van-1")) == 1


def test_a_signal_that_never_came_is_unknown() -> None:
    one_side = Watched(
        rule("speed > 5 or temperature > 100"), rule("speed > 5 and temperature > 100", id="b")
    )
    assert [e.rule for e in one_side.says("0s", speed=6).events()] == ["rule"]
    assert Watched(rule("not (speed > 5 and temperature > 100)")).says("0s", speed=6).story() == []
    assert Watched(rule("not (speed > 5 and temperature > 100)")).says("0s", speed=4).story() == [
        ("found", "0s")
    ]


def test_division_by_zero_is_unknown_and_no_error() -> None:
    van = Watched(rule("temperature / speed > 3"), rule("not temperature / speed > 3", id="b"))
    assert van.says("0s", temperature=9, speed=0).story() == []
    assert van.engine.errors == {}


def test_a_result_that_no_float_holds_is_unknown() -> None:
    product = " * ".join(["speed"] * 20)
    van = Watched(rule(f"{product} > 5"), rule(f"not {product} > 5", id="b"), rule("speed > 5", id="c"))
    assert [e.rule for e in van.says("0s", speed=2**62).events()] == ["c"]


def test_a_rule_that_breaks_never_fires_and_is_counted() -> None:
    rules = ruleset(rule("speed + 1 > 5"), rule("speed > 5", id="sound"))
    term = Compare("<", Constant("a", "string"), Last(VAN.signals["speed"], "number", None))
    for broken in (term, Logic("not", (term,))):
        bad = replace(rules.rules["rule"], when=replace(rules.rules["rule"].when, term=broken))
        engine = Engine(RuleSet({**rules.rules, "rule": bad}, rules.catalogue))
        assert [e.rule for e in Watched(engine=engine).says("0s", speed=9).events()] == ["sound"]
        assert set(engine.errors) == {"rule"}


# --- late, implausible, repeated


def test_a_late_reading_does_not_overwrite_a_newer_one() -> None:
    van = Watched(HOT).says("10s", temperature=90).says("5s", received="11s", temperature=120)
    assert van.story() == []
    assert van.engine.late == 1


def test_a_late_reading_of_a_signal_without_a_newer_one_counts() -> None:
    van = Watched(HOT).says("10s", speed=1).says("5s", received="11s", temperature=120)
    assert van.story() == [("found", "10s")]


def test_a_late_reading_comes_into_the_window_that_covers_it() -> None:
    van = Watched(rule("max(speed, '1m') > 100")).says("60s", speed=10)
    assert van.says("30s", received="61s", speed=101).story() == [("found", "60s")]
    gone = Watched(rule("max(speed, '1m') > 100")).says("10m", speed=10)
    assert gone.says("8m", received="11m", speed=101).story() == []
    assert gone.engine.too_late == 1


def test_a_reading_from_the_future_is_ignored_and_counted() -> None:
    van = Watched(engine=Engine(ruleset(HOT), future_tolerance_ms=60_000))
    assert van.says("61s", received="0s", temperature=120).story() == []
    assert van.engine.implausible == 1
    assert van.says("60s", received="0s", temperature=120).story() == [("found", "60s")]


def test_one_devices_wrong_clock_is_its_own() -> None:
    engine = Engine(ruleset(WORN))
    engine.readings(1, NOON, "van-a", "van", [(NOON + 3_600_000, {"pads": 81})])
    engine.readings(2, NOON, "van-b", "van", [(NOON, {"pads": 81})])
    assert engine.next_due() == ms("10m")
    engine.tick(3, ms("10m"))
    assert {event.device for event in engine.take()} == {"van-a", "van-b"}


# --- windows


def test_a_window_forgets_what_has_left_it() -> None:
    van = Watched(rule("max(speed, '1m') > 100")).says("0s", speed=120).says("30s", speed=1)
    assert van.story() == [("found", "0s")]
    assert van.says("62s", speed=1).story() == [("cleared", "62s")]


def test_a_pending_window_is_asked_as_of_the_moment_it_falls_due() -> None:
    """The device is silent: after two minutes there is no fast reading left in the last one."""
    van = Watched(rule("max(speed, '1m') > 100", for_="2m")).says("0s", speed=120)
    assert van.silence_until("1h").story() == []
    still = Watched(rule("max(speed, '10m') > 100", for_="2m")).says("0s", speed=120)
    assert still.silence_until("1h").story() == [("found", "120s")]


def test_an_empty_window_counts_zero_and_has_no_mean() -> None:
    van = Watched(
        rule("count(temperature, '1m') == 0 and speed > 1"), rule("not avg(temperature, '1m') > 0", id="b")
    )
    assert [e.rule for e in van.says("0s", speed=2).events()] == ["rule"]


def test_last_with_a_span_knows_no_old_value() -> None:
    van = Watched(rule("last(temperature, '1m') > 100 and speed > 10"))
    assert van.says("0s", temperature=120).says("61s", speed=20).story() == []
    assert van.says("62s", temperature=120).story() == [("found", "62s")]


# --- resets, kinds, codes, state


def test_a_job_ends_the_episode_and_forgets_the_signal() -> None:
    van = Watched(WORN, rule("avg(pads, '1d') > 70", id="mean")).says("0m", pads=81).says("10m", pads=81)
    assert len(van.events()) == 2
    van.reset("20m", "pads")
    (cleared,) = van.events()
    assert isinstance(cleared, Cleared)
    assert (cleared.rule, cleared.reason, cleared.ts) == ("rule", "reset", ms("20m"))
    van.says("19m", received="21m", pads=99)  # was taken before the job
    assert van.silence_until("2h").story() == []
    assert van.says("121m", pads=3).story() == [("cleared", "7260s")]


def test_after_a_job_a_rule_waits_for_the_next_reading() -> None:
    """Another signal of it may still be as it was before the job."""
    van = Watched(rule("pads >= 80 or speed > 50", resets="[pads]")).says("0m", pads=81, speed=60)
    assert van.reset("1m", "pads").story() == [("found", "0s"), ("cleared", "60s")]
    assert van.says("2m", speed=60).story() == [("found", "120s")]


def test_worn_again_after_the_job_is_found_again() -> None:
    van = Watched(WORN).says("0m", pads=81).says("10m", pads=81).reset("11m", "pads")
    assert van.says("12m", pads=81).says("22m", pads=81).story()[-1] == ("found", "1320s")


def test_a_registered_kind_goes_before_the_one_the_name_suggests() -> None:
    engine = Engine(ruleset(HOT))
    engine.register(1, NOON, "box-1", "van", "m1")
    engine.readings(2, NOON, "box-1", None, [(NOON, {"temperature": 120})])
    engine.readings(3, NOON, "unknown", None, [(NOON, {"temperature": 120})])
    engine.readings(4, NOON, "other", "toaster", [(NOON, {"temperature": 120})])
    assert [(event.device, event.position) for event in engine.take()] == [("box-1", 2)]
    engine.register(5, NOON, "box-1", "toaster", None)
    (cleared,) = engine.take()
    assert isinstance(cleared, Cleared)
    assert cleared.reason == "kind"


def test_codes_texts_and_booleans() -> None:
    van = Watched(
        rule("'P0300' in dtc", id="code"),
        rule("gear in ('park', 'reverse') and door_open", id="door"),
        rule("gear != 'drive'", id="gear"),
    )
    assert van.says("0s", dtc=["P0420"], gear="drive", door_open=False).events() == []
    found = van.says("1s", dtc=["P0420", "P0300"], gear="park", door_open=True).events()
    assert sorted(event.rule for event in found) == ["code", "door", "gear"]
    assert found[0].evidence == {"dtc": ("P0420", "P0300"), "ts": ms("1s")}  # type: ignore[union-attr]
    gone = van.says("2s", dtc=[], gear="drive", door_open=True).events()
    assert [type(event) for event in gone] == [Cleared] * 3
    assert van.says("3s", dtc="P0300", door_open=1).story() == [("found", "3s")]


def test_vss_names_mean_the_same_signal() -> None:
    van = Watched(rule("Vehicle.Speed > 50"))
    van.engine.readings(1, NOON, "van-1", "van", [(NOON, {"Vehicle.Speed": 60})])
    van.engine.readings(2, NOON, "van-1", "van", [(NOON + 1, {"speed": 40})])
    assert van.story() == [("found", "0s"), ("cleared", "0.001s")]


def test_units_convert_before_they_are_compared() -> None:
    van = Watched(rule("wheel_speed > speed"))
    assert van.says("0s", speed=36, wheel_speed=9.9).story() == []
    assert van.says("1s", speed=36, wheel_speed=10.1).story() == [("found", "1s")]


def test_a_restart_in_the_middle_of_for_changes_nothing() -> None:
    van = Watched(WORN).says("0m", pads=81).restarted()
    assert van.engine.next_due() == ms("10m")
    assert van.silence_until("10m").story() == [("found", "600s")]
    assert van.restarted().says("11m", pads=85).story() == []
    assert van.says("12m", pads=1).story() == [("cleared", "720s")]


def test_state_of_another_format_is_refused_with_what_to_do() -> None:
    with pytest.raises(StateVersionError, match=r"van-1 has format 9.*start the version"):
        Engine(ruleset(WORN)).restore("van-1", b"\x09...")


def test_a_changed_rule_keeps_its_episode_but_not_its_for() -> None:
    before = Watched(WORN, rule("speed > 5", id="fast", for_="1m"), rule("speed > 6", id="gone"))
    before.says("0m", pads=81).says("10m", pads=81, speed=9)
    assert len(before.events()) == 2
    after = Watched(engine=Engine(ruleset(WORN.replace("80", "75"), rule("speed > 4", id="fast", for_="1m"))))
    for device, state in before.engine.dirty():
        after.engine.restore(device, state)
    assert [e.rule for e in after.engine.open_episodes("van-1")] == ["rule"]
    assert after.says("10m30s", pads=81, speed=9).says("11m", pads=81, speed=9).story() == []
    assert after.says("11m30s", pads=81, speed=9).story() == [("found", "690s")]


def test_state_is_small() -> None:
    rules = [rule(f"speed >= {100 + i}", id=f"rule-{i:02d}", for_="10m") for i in range(50)]
    van = Watched(*rules).says("0s", speed=200, temperature=20, pads=3, gear="drive", door_open=False)
    ((_, state),) = van.engine.dirty()
    assert len(state) <= 2048  # with all fifty of them pending


def test_dirty_names_a_device_once_and_only_after_a_change() -> None:
    van = Watched(HOT).says("0s", temperature=1).says("1s", temperature=2)
    assert [device for device, _ in van.engine.dirty()] == ["van-1"]
    assert list(van.engine.dirty()) == []


def test_invented_signal_names_cost_no_generated_functions() -> None:
    van = Watched(HOT)
    for i in range(2_000):
        van.says(f"{i}s", **{f"made_up_{i}": 1})
    assert len(van.engine._programs["van"].plans) == 0
    assert van.says("3000s", temperature=120, made_up=3).story() == [("found", "3000s")]


def test_what_is_frozen_is_given_as_it_was_then_whatever_changes_meanwhile() -> None:
    rules = ruleset(rule("avg(speed, '10m') > 50 and pads >= 80", id="fast", for_="1m"), HOT)
    frozen, whole = Engine(rules), Engine(rules)

    def say(engine: Engine, at: int, numbers: range) -> None:
        for n in numbers:
            readings = {"speed": 60.0 + n, "pads": 80.0 + at, "temperature": 1.0}
            engine.readings(at, ms(f"{at}s"), f"van-{n}", "van", [(ms(f"{at}s"), readings)])

    for engine in (frozen, whole):
        say(engine, 1, range(40))
        say(engine, 2, range(40))
    expected = dict(whole.dirty())
    frozen.freeze()
    given = frozen.frozen(5)
    say(frozen, 3, range(20, 30))
    given |= frozen.frozen(5)
    frozen.register(4, ms("4s"), "van-0", "van", "m1")
    frozen.tick(5, ms("5m"))
    while part := frozen.frozen(5):
        given |= part
    assert given == expected
    assert set(dict(frozen.dirty())) >= {"van-0", *(f"van-{n}" for n in range(20, 30))}
