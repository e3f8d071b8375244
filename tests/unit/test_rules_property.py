"""The same log gives the same findings: whatever path a reading takes, wherever it is interrupted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rules_case import CATALOGUE, NOON, VAN, rule, ruleset
from rules_random import ATOMS, COMPARE, CONDITIONS, FUNCTIONS, LIMITS, NUMBERS, PLAIN_ATOMS

from rules import Cleared, Engine, Found, RuleSet, Value
from rules.expressions import Expression, Term, check
from rules.generate import Generator
from rules.program import Program
from rules.state import DeviceState, save
from rules.world import World

# --- random rules


@st.composite
def rule_sets(draw: st.DrawFn) -> RuleSet:
    texts = []
    for number in range(draw(st.integers(1, 6))):
        more = {"for_": draw(st.sampled_from(["0s", "5s", "30s", "2m"]))}
        if draw(st.booleans()):
            more["clear"] = f'"{draw(st.one_of(ATOMS, CONDITIONS))}"'
        if draw(st.booleans()):
            more["resets"] = "[pads, speed]"
        texts.append(rule(draw(st.one_of(ATOMS, CONDITIONS)), id=f"rule-{number}", **more))
    return ruleset(*texts)


# --- random logs

Entry = tuple[int, tuple[str, str, Any]]

VALUES: dict[str, st.SearchStrategy[Any]] = {
    **{
        name: st.one_of(
            st.sampled_from([0, 0.0, 1, 9.99, 10, 20, 20.0, 20.25, 20.5, 50, 79, 80, 81]),
            st.sampled_from([None, "20", True, False, float("nan"), float("inf"), 2**70]),
        )
        for name in ("speed", "temperature", "pads")
    },
    "door_open": st.sampled_from([True, False, None, 1]),
    "gear": st.sampled_from(["park", "drive", None, 3]),
    "dtc": st.sampled_from([[], ["P1"], ["P2", "P1"], "P1", None]),
    "latitude": st.sampled_from([52.0, 52.1, 48.2, 0, 91.0, None]),
    "longitude": st.sampled_from([13.0, 13.1, 9.2, 0, "9"]),
    "unknown": st.just(1),
}
SIGNALS = st.lists(st.sampled_from(list(VALUES)), min_size=0, max_size=5, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: VALUES[name] for name in names})
)
DEVICES = st.sampled_from(["van-1", "van-2"])


@st.composite
def logs(draw: st.DrawFn) -> list[Entry]:
    """Mostly one or two sets of signals in the order of time, as devices send them; and whatever else."""
    usual = [
        st.fixed_dictionaries({name: VALUES[name] for name in names})
        for names in draw(
            st.lists(st.lists(st.sampled_from(list(VALUES)), unique=True, min_size=1), max_size=2)
        )
    ]
    orderly = st.lists(st.tuples(st.just(0), st.one_of(*usual, SIGNALS)), min_size=1, max_size=1)
    jumbled = st.lists(st.tuples(st.integers(-40, 3), st.one_of(*usual, SIGNALS)), min_size=1, max_size=3)
    ahead = st.lists(st.tuples(st.integers(50, 300), st.one_of(*usual, SIGNALS)), min_size=1, max_size=1)
    resets = st.lists(st.sampled_from(["speed", "pads", "dtc"]), max_size=2)
    weather = st.tuples(st.sampled_from(["", "DE", "yard"]), st.sampled_from([1, 30, None]))
    owners = st.tuples(st.sampled_from(["m1", None]), st.sampled_from(["Europe/Berlin", None]))
    steps = st.one_of(
        *[st.tuples(st.just("readings"), DEVICES, orderly)] * 10,
        st.tuples(st.just("readings"), DEVICES, jumbled),
        st.tuples(st.just("readings"), DEVICES, ahead),
        st.tuples(st.just("context"), DEVICES, weather),
        st.tuples(st.just("register"), DEVICES, owners),
        st.tuples(st.just("tick"), DEVICES, st.none()),
        st.tuples(st.just("reset"), DEVICES, resets),
    )
    return draw(st.lists(st.tuples(st.integers(0, 20), steps), min_size=1, max_size=60))


LOGS = logs()


def feed(engine: Engine, position: int, received: int, step: tuple[str, str, Any]) -> None:
    what, device, detail = step
    if what == "tick":
        engine.tick(position, received)
    elif what == "reset":
        engine.reset(position, received, device, detail)
    elif what == "context":
        engine.context(position, received, "weather", detail[0], received, {"wind": detail[1]})
    elif what == "register":
        engine.register(position, received, device, "van", *detail)
    else:
        items = [(received + seconds * 1000, signals) for seconds, signals in detail]
        engine.readings(position, received, device, "van", items)


def timed(log: list[Entry]) -> Iterator[tuple[int, int, tuple[str, str, Any]]]:
    received = NOON
    for position, (seconds, step) in enumerate(log, 1):
        received += seconds * 1000
        yield position, received, step


def run(engine: Engine, log: list[Entry]) -> list[Found | Cleared]:
    for entry in timed(log):
        feed(engine, *entry)
    return engine.take()


class Atlas:
    """Two countries, parted by a meridian; one time zone."""

    def country(self, latitude: float, longitude: float) -> str | None:
        return "DE" if longitude > 10 else "FR"

    def offset_ms(self, time_zone: str, ts: int) -> int:
        return 3_600_000


def engine_of(rules: RuleSet) -> Engine:
    return Engine(rules, geography=Atlas())


class Thorough(Engine):
    """Takes no short cut: every reading is settled, and every rule that mentions its signals evaluated."""

    def _other(
        self, state: DeviceState, position: int, received: int, ts: int, signals: Mapping[str, Value]
    ) -> None:
        state.unpack()
        state.guards, state.view = list(state.program.first_guards), state.program.whole
        self._settle(state, position, received, ts, signals)


@given(rule_sets(), LOGS)
@settings(max_examples=200, deadline=None)
def test_short_cuts_change_nothing(rules: RuleSet, log: list[Entry]) -> None:
    assert run(engine_of(rules), log) == run(Thorough(rules, geography=Atlas()), log)


@given(rule_sets(), LOGS)
@settings(max_examples=200, deadline=None)
def test_messages_that_are_passed_on_together_do_what_each_does_alone(
    rules: RuleSet, log: list[Entry]
) -> None:
    alone, together = engine_of(rules), engine_of(rules)
    subjects = {device: SimpleNamespace(kind="van", state=None) for device in ("van-1", "van-2")}
    waiting: list[tuple[int, Any, Any]] = []
    for position, received, step in timed(log):
        feed(alone, position, received, step)
        what, device, detail = step
        if waiting and (what != "readings" or waiting[0][0] != received):
            together.messages(waiting[0][0], *zip(*[of[1:] for of in waiting], strict=True))
            waiting = []
        if what == "readings":
            subject = subjects[device]
            waiting += [
                (received, (position, device, received + seconds * 1000, signals, None, None), subject)
                for seconds, signals in detail
            ]
        else:
            feed(together, position, received, step)
    if waiting:
        together.messages(waiting[0][0], *zip(*[of[1:] for of in waiting], strict=True))
    assert together.take() == alone.take()
    assert dict(together.dirty()) == dict(alone.dirty())


class Restless(Generator):
    """Waits for everything that time can change in a rule, whatever the rest of it is, and each quarter of an
    hour besides."""

    def _turns(self, term: Term) -> str:
        return self._least([*self._wakes(term), "at - at % 900000 + 900000"])


def restless(rules: RuleSet) -> Engine:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rules.program.Generator", Restless)
        return engine_of(rules)


HOURS = st.sampled_from(["local_hour() >= 12.1", "local_hour() < 12.5", "12.25 < local_hour() <= 13.05"])
EXACT = FUNCTIONS.filter(lambda when: "days_until" not in when and "since(speed > 50) <" not in when)
"""Those two are looked at every quarter of an hour, and whenever another rule is."""
PASSING = st.builds(
    "{} {} {}".format,
    st.one_of(EXACT, HOURS, st.just("age(speed) - age(pads) > 20")),
    st.sampled_from(["and", "and", "or"]),
    st.one_of(EXACT, PLAIN_ATOMS, HOURS),
)
USUAL = st.fixed_dictionaries({name: VALUES[name] for name in ("speed", "pads", "door_open")})


def one_message(signals: st.SearchStrategy[Mapping[str, Any]]) -> st.SearchStrategy[tuple[str, str, Any]]:
    return signals.map(lambda values: ("readings", "van-1", [(0, values)]))


SLOW = st.lists(
    st.tuples(
        st.sampled_from([1, 7, 40, 600, 4_000, 40_000]),
        st.one_of(
            *[one_message(SIGNALS), one_message(USUAL), one_message(USUAL)] * 2,
            st.just(("tick", "van-1", None)),
            st.just(("register", "van-1", (None, "Europe/Berlin"))),
            st.just(("reset", "van-1", ["speed"])),
        ),
    ),
    min_size=4,
    max_size=40,
)


def run_by_time(engine: Engine, log: list[Entry]) -> list[tuple[str, int]]:
    """As a gateway runs it: ticked at each moment for which something is noted."""
    events: list[Found | Cleared] = []
    for position, received, step in timed(log):
        while (due := engine.next_due()) is not None and due < received:
            engine.tick(position, due)
        feed(engine, position, received, step)
        events += engine.take()
    return [(e.rule, e.found_ts if isinstance(e, Found) else e.ts) for e in events]


@given(st.lists(PASSING, min_size=1, max_size=4), SLOW)
@settings(max_examples=200, deadline=None)
def test_nothing_is_missed_by_waiting_only_for_what_can_make_a_rule_true(
    conditions: list[str], log: list[Entry]
) -> None:
    rules = ruleset(
        *(rule(when, id=f"rule-{n}", for_=("0s", "30s")[n % 2]) for n, when in enumerate(conditions))
    )
    assert run_by_time(engine_of(rules), log) == run_by_time(restless(rules), log)


def test_a_reset_after_a_silence_does_not_turn_time_back() -> None:
    """What time has made true stays so: the rule is held against the time that has passed since the newest
    reading, not against that of the reading."""
    rules = ruleset(rule("silent('5s') and times(crossed(speed, 0), '5s') >= 0", id="still", for_="0s"))
    log = [(1, ("readings", "van-1", [(0, {})])), (4_000, ("tick", "van-1", None))]
    found = run_by_time(engine_of(rules), [*log, (1, ("reset", "van-1", ["speed"]))])
    assert found == [("still", NOON + 6_000)]


def test_what_makes_the_rest_of_a_rule_true_lets_it_wait_for_time() -> None:
    """The door opens by a message such as came often before; nothing else comes until the hour is there."""
    rules = ruleset(rule("door_open and local_hour() >= 13", id="open", for_="0s"))
    shut, opened = ({"door_open": door, "speed": 1.0} for door in (False, True))
    log = [(1, ("readings", "van-1", [(0, shut)]))] * 9 + [(1, ("readings", "van-1", [(0, opened)]))]
    found = run_by_time(engine_of(rules), [*log, (7_200, ("tick", "van-1", None))])
    assert found == [("open", NOON + 3_600_000)]


@st.composite
def waiting(draw: st.DrawFn) -> RuleSet:
    """Single comparisons with a `for`, as most rules are; now and then with a `clear`, or without a `for`."""
    texts = []
    for number in range(draw(st.integers(1, 6))):
        more = {"for_": draw(st.sampled_from(["5s", "30s", "30s", "2m", "0s"]))}
        if draw(st.integers(0, 3)) == 0:
            more["clear"] = f'"speed {draw(COMPARE)} {draw(LIMITS)}"'
        name = draw(st.sampled_from(["speed", "temperature"]))
        texts.append(rule(f"{name} {draw(COMPARE)} {draw(LIMITS)}", id=f"rule-{number}", **more))
    return ruleset(*texts)


LEVELS = st.sampled_from([0, 9.99, 10, 19.5, 20, 20.25, 50, 79.0, 80, 81])
STEADY = st.lists(
    st.tuples(
        st.sampled_from([1, 1, 3, 7, 40]),
        st.one_of(
            *[
                st.tuples(LEVELS, LEVELS).map(
                    lambda v: ("readings", "van-1", [(0, {"speed": v[0], "temperature": v[1]})])
                )
            ]
            * 6,
            st.just(("tick", "van-1", None)),
            st.just(("reset", "van-1", ["speed"])),
        ),
    ),
    min_size=8,
    max_size=60,
)


@given(waiting(), STEADY)
@settings(max_examples=200, deadline=None)
def test_thresholds_that_begin_to_wait_at_once_are_found_as_if_evaluated(
    rules: RuleSet, log: list[Entry]
) -> None:
    assert run(engine_of(rules), log) == run(Thorough(rules, geography=Atlas()), log)


@given(rule_sets(), LOGS, st.data())
@settings(max_examples=150, deadline=None)
def test_restarts_change_nothing(rules: RuleSet, log: list[Entry], data: st.DataObject) -> None:
    """State is saved now and then; a crash goes back to what was saved last, and the log is read again."""
    undisturbed = run(engine_of(rules), log)
    entries = list(timed(log))
    engine, saved, saved_at, events = engine_of(rules), {}, 0, []
    for start in sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=4))):
        for entry in entries[saved_at:start]:
            feed(engine, *entry)
        events += engine.take()
        if data.draw(st.booleans()):
            saved.update(engine.dirty())
            saved_at = start
        engine = engine_of(rules)
        for device, state in saved.items():
            engine.restore(device, state)
    for entry in entries[saved_at:]:
        feed(engine, *entry)
    events += engine.take()
    assert sorted(set(map(repr, events))) == sorted(set(map(repr, undisturbed)))


@given(rule_sets(), LOGS)
@settings(max_examples=100, deadline=None)
def test_state_round_trips_exactly(rules: RuleSet, log: list[Entry]) -> None:
    engine, other = engine_of(rules), engine_of(rules)
    run(engine, log)
    states = dict(engine.dirty())
    for device, state in states.items():
        other.restore(device, state)
    again = {device: save(state) for device, state in other._states.items()}
    assert again == {device: state for device, state in states.items() if device in again}
    assert other.next_due() == engine.next_due()


# --- conditions against an interpreter of three-valued logic


def interpret(text: str, values: Mapping[str, Any]) -> bool | None:
    """By Python's own evaluation, with unknown values as NaN-like objects that spread."""

    class Unknown:
        def spread(self, other: object) -> Unknown:
            return self

        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = spread

        def compare(self, other: object) -> Any:
            return None

        __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = compare  # type: ignore[assignment]

    class K:
        """A truth of Kleene's logic."""

        def __init__(self, truth: bool | None) -> None:
            self.truth = truth

        def __and__(self, other: K) -> K:
            if self.truth is False or other.truth is False:
                return K(False)
            return K(None if None in (self.truth, other.truth) else True)

        def __or__(self, other: K) -> K:
            if self.truth is True or other.truth is True:
                return K(True)
            return K(None if None in (self.truth, other.truth) else False)

        def __invert__(self) -> K:
            return K(None if self.truth is None else not self.truth)

    names = {name: Unknown() if value is None else value for name, value in values.items()}
    result = eval(text, {"K": K}, names)
    assert isinstance(result, K)
    return result.truth


TERMS = st.recursive(
    st.one_of(NUMBERS, LIMITS.map(str)),
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*"]), inner),
    max_leaves=3,
)
PAIRS = st.recursive(
    st.tuples(NUMBERS, TERMS, COMPARE).map(lambda t: (f"{t[0]} {t[2]} {t[1]}", f"K({t[0]} {t[2]} {t[1]})")),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: (f"({p[0][0]} and {p[1][0]})", f"({p[0][1]} & {p[1][1]})")),
        st.tuples(inner, inner).map(lambda p: (f"({p[0][0]} or {p[1][0]})", f"({p[0][1]} | {p[1][1]})")),
        inner.map(lambda p: (f"(not {p[0]})", f"(~{p[1]})")),
    ),
    max_leaves=6,
)
PLAIN = CATALOGUE.kinds["van"].__class__(
    name="van",
    label={},
    signals={
        name: VAN.signals["speed"].__class__(name=name, kind="van")
        for name in ("speed", "temperature", "pads")
    },
)


def truth(expression: Expression, values: Mapping[str, Any]) -> bool | None:
    generator = Generator({name: slot for slot, name in enumerate(values)}, {}, World({}, None))
    generator.add("true", generator.true(expression), "failed")
    generator.add("false", generator.false(expression), "failed")
    functions = generator.functions({"failed": lambda: None})
    state = SimpleNamespace(values=list(values.values()), times=[], cells=[])
    is_true, is_false = (functions[name](state, 0) for name in ("true", "false"))
    assert not (is_true and is_false)
    return True if is_true else False if is_false else None


@given(PAIRS, st.tuples(*[st.sampled_from([None, 0, 1, 10, 20.5, 50, 100])] * 3))
@settings(max_examples=400, deadline=None)
def test_generated_code_is_three_valued_logic(pair: tuple[str, str], values: tuple[Any, Any, Any]) -> None:
    named = dict(zip(("speed", "temperature", "pads"), values, strict=True))
    assert truth(check(pair[0], PLAIN), named) == interpret(pair[1], named)


def test_guards_make_the_cost_independent_of_the_number_of_thresholds() -> None:
    """A message within its guards evaluates no rule at all."""
    rules = ruleset(*(rule(f"speed >= {100 + i}", id=f"rule-{i}", for_="10m") for i in range(500)))
    engine = Engine(rules)
    for position in range(1, 4):
        engine.readings(
            position, NOON + position, "van-1", "van", [(NOON + position, {"speed": 50 + position})]
        )
    program: Program = engine._programs["van"]
    engine._step = None  # type: ignore[assignment]  # from here on evaluating would raise
    engine._calls.clear()
    for position in range(4, 50):
        engine.readings(
            position, NOON + position, "van-1", "van", [(NOON + position, {"speed": 50 + position})]
        )
    assert len(program.rules) == 500
