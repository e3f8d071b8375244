"""Whatever is written as a condition: it is refused with a reason, or does what it says and nothing else."""

from __future__ import annotations

import ast
import contextlib
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rules_case import CATALOGUE, NOON, VAN, rule, ruleset
from rules_random import CONDITIONS

from rules import FUNCTIONS, Engine, RuleErrors, RuleSet, Value
from rules.explain import say
from rules.expressions import (
    Arithmetic,
    Call,
    Compare,
    Constant,
    Expression,
    ExpressionFault,
    Last,
    Logic,
    Over,
    Term,
    check,
)
from rules.generate import Generator
from rules.program import Program
from rules.world import World

PIECES = [
    *FUNCTIONS, *VAN.signals, *CATALOGUE.zones, "and", "or", "not", "in", "is", "if", "else", "for", "lambda",
    "await", "yield", "over", "true", "True", "None", "Ellipsis", "__import__", "eval", "exec", "open",
    "type",
    "__class__", "__builtins__", "self", "state", "s", "at", "V", "world", "signals", "failed0",
    "(", ")", "[", "]", "{", "}", ",", ".", ":", ":=", ";", "=", "==", "!=", "<", "<=", ">", ">=", "+", "-",
    "*",
    "/", "//", "%", "**", "@", "&", "|", "^", "~", "<<", ">>", "->", "...", "#", "\\", "'",
    '"', "'''", "f'", "b'",
    "0", "1", "-1", "0.5", "1e400", "1j", "0x10", "1_000", "10m", "'10m'", "'1s'", "'400d'", "'yard'",
    "'P0*'",
    "\n", "\r", "\f", "\t", "\0", "\u2028", "\ud800", "ſ", "ﬁ", "\u202e", " ", " ", " ",
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A condition that is right, with a few characters and words that are not."""
    text = draw(CONDITIONS)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        cut = draw(st.integers(0, 6))
        text = text[:at] + draw(st.sampled_from(["", *PIECES])) + text[at + cut :]
    return text


TEXTS = st.one_of(
    mutated(), st.lists(st.sampled_from(PIECES), max_size=25).map(" ".join),
    st.lists(st.sampled_from(PIECES), max_size=25).map("".join), st.text(max_size=80),
)  # fmt: skip


def parts(term: Term) -> Iterator[Term]:
    yield term
    inner: tuple[object, ...] = ()
    match term:
        case Logic():
            inner = term.terms
        case Arithmetic() | Compare():
            inner = (term.left, term.right)
        case Call():
            inner = (term.condition,)
    for part in inner:
        if isinstance(part, Constant | Last | Over | Call | Arithmetic | Compare | Logic):
            yield from parts(part)


def found(text: str) -> Expression | None:
    try:
        return check(text, VAN, CATALOGUE.zones)
    except ExpressionFault as raised:
        fault = raised
    assert fault.message
    assert 0 <= fault.offset <= len(text)
    return None


@given(TEXTS)
@settings(max_examples=1500, deadline=None)
def test_a_text_is_refused_or_made_of_the_registry_alone(text: str) -> None:
    expression = found(text)
    if expression is None:
        return
    assert expression.term.type == "boolean"
    for term in parts(expression.term):
        if isinstance(term, Call | Over):
            assert term.function in FUNCTIONS
        if isinstance(term, Last | Over):
            assert VAN.signals[term.signal.name] is term.signal
    code = Generator(
        {name: slot for slot, name in enumerate(VAN.signals)},
        {cell: slot for slot, cell in enumerate(expression.cells)},
        World(CATALOGUE.zones, None),
    ).true(expression)
    known = {"s", "at", "V", "T", "C", "world", "finite", "every", "some", "opposite", "asked", "counted"}
    for node in ast.walk(ast.parse(code, mode="eval")):
        if isinstance(node, ast.Name):
            assert node.id in known or node.id.rstrip("0123456789") in ("t", "codes"), node.id
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_"), node.attr


@given(CONDITIONS)
@settings(max_examples=300, deadline=None)
def test_what_is_right_is_accepted_and_said_again_means_the_same(text: str) -> None:
    expression = found(text)
    assert expression is not None, text
    again = say(expression.term)
    assert check(again, VAN, CATALOGUE.zones).term == expression.term, again
    assert say(check(again, VAN, CATALOGUE.zones).term) == again


@pytest.mark.parametrize("text", [
    "gear in ('park',)", "gear not in ('park', 'drive')", "'P1' in dtc", "speed > wheel_speed * 2",
    "wheel_speed * 3.6 > 5", "speed + wheel_speed > 5", "1 < speed < 5", "-speed < -5",
    "-(speed - 1) * 2 > 3",
    "0 - speed > 1", "age(speed) > '6h'", "age(speed) > 0.0015", "age(speed) > runtime", "runtime > '90s'",
    "runtime > 0.1", "since(1 < speed < 5) > '1h30m'", "door_open == (speed > 5)", "door_open == true",
    "speed > 1e-7", "speed > 123456789012345", "speed > 0.1 + 0.2", "slope(pads, '7d') > 1 / 3",
    "days_until(pads, 99.5, over='36h') < 21", "percentile(speed, 99.9, '61s') > 1",
    "crossed(speed, -5, 'down')",
    "code(dtc, 'P0*', 'it\\'s')", "context('weather', 'wind') > 20", "distance('yard') > 1",
    "distance('yard') * 1000 > 5", "held(Vehicle.Speed > 5 and door_open, '90m')",
    "times(not door_open, '1d') > 3",
    "(door_open and speed > 1) and pads > 2", "not (door_open or not (speed > 1))",
    "last(gear, '1m') == 'park'",
    "usage(pads) / usage(speed) > 2", "days_until(pads, 9, over='30d') < '21d'", "country() in ('DE', 'AT')",
])  # fmt: skip
def test_each_form_said_again_means_the_same(text: str) -> None:
    expression = found(text)
    assert expression is not None
    assert check(say(expression.term), VAN, CATALOGUE.zones).term == expression.term, say(expression.term)


def chain(inner: str, depth: int, form: str) -> str:
    for _ in range(depth):
        inner = form.format(inner)
    return inner


NASTY = [
    chain("door_open", 39, "door_open == ({})"),
    chain("door_open", 18, "door_open == ({}) == door_open"),
    chain("door_open", 30, "({}) == door_open == true"),
    chain("door_open", 19, "(door_open or {}) == door_open"),
    chain("speed", 36, "(1 / {})") + " > 1",
    chain("speed", 36, "-({})") + " > 1",
    chain("speed > 1", 38, "not ({})"),
    chain("speed", 18, "(speed * {} + 1)") + " > 1",
    " < ".join(["speed"] * 200),
    " and ".join(["speed > 1"] * 150),
    " + ".join(["speed"] * 38) + " > 1",
    " or ".join(f"avg(speed, '{n}s') > 1" for n in range(1, 60)),
    "speed > " + "9" * 1_900, "speed > 0x" + "f" * 1_900, "(" * 150 + "speed > 1" + ")" * 150, "speed" * 399,
    "[" * 1_000, "{" * 1_000, "-" * 1_900 + "1 > speed", "not " * 480 + "door_open",
    "speed > 1 #" + "#" * 1_900,
    "held(" * 300, "f'{" * 300, "lambda: " * 240 + "1", "speed > 1e400", "speed > 10 ** 10 ** 10",
    "'a' * 10 ** 9",
    "country(over='1m') == 'DE'", "local_hour(over='1m') > 1", "avg(over='1m') > 1", "avg(*speed) > 1",
    "avg(**speed) > 1", "last(over='1m') > 1", "speed / 0 > 1", "speed / -0.0 > 1", "1 / (speed - speed) > 1",
    "a" + ".a" * 900 + " > 1", "code(" + ", ".join(["'*a*a*a*a*b'"] * 40) + ")",
]  # fmt: skip


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_nothing_that_is_nasty_takes_long_or_breaks_the_engine(text: str) -> None:
    began = time.thread_time()
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    rules: RuleSet | None = None
    with contextlib.suppress(RuleErrors):  # refused, with a reason
        rules = ruleset(rule(quoted))
    if rules is not None:
        engine = Engine(rules)
        for second in range(4):
            signals: dict[str, Value] = {"speed": second, "door_open": second > 1, "dtc": ["a" * 256] * 256}
            engine.readings(second + 1, NOON + second, "van-1", "van", [(NOON + second * 1000, signals)])
        assert engine.errors == {}
    assert time.thread_time() - began < 5


def test_a_condition_of_the_deepest_kind_is_compiled_in_no_time() -> None:
    """Code grows with the text, not with two to the power of its depth."""
    text = chain("door_open", 30, "door_open == ({})")
    expression = found(text)
    assert expression is not None
    assert len(Generator({"door_open": 0}, {}, World({}, None)).true(expression)) < 10_000
    assert isinstance(Engine(ruleset(rule(text)))._programs["van"], Program)
