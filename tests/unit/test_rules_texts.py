"""What is said about rule and signal files that are wrong, and that nothing else gets in."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rules_case import CATALOGUE, SIGNALS, VAN, rule, ruleset
from yaml.nodes import Node, ScalarNode, SequenceNode

import config
import rules
from rules import Catalogue, RuleErrors, SignalErrors, check, load, run_examples, span_ms
from rules.expressions import ExpressionFault
from rules.expressions import check as check_expression
from rules.texts import Place, compose


def fault_of(when: str) -> tuple[int, str]:
    with pytest.raises(ExpressionFault) as raised:
        check_expression(when, VAN)
    return raised.value.offset, raised.value.message


@pytest.mark.parametrize(
    ("when", "offset", "says"),
    [
        ("padz > 3", 0, "van has no signal padz; did you mean pads?"),
        ("speed > 3 and padz > 3", 14, "did you mean pads?"),
        ("speed", 0, "speed is a number, not true or false: compare it, as in speed > 0"),
        ("not gear", 4, "gear is a text, not true or false: compare it, as in gear == 'on'"),
        ("dtc", 0, "dtc is a list of codes: write 'P0300' in dtc"),
        ("dtc == 'P0300'", 7, "write 'P0300' in dtc"),
        ("speed = 3", 6, "write == instead of ="),
        ("speed > 3 && speed < 9", 11, "write and instead of &&"),
        ("speed > 3 AND speed < 9", 10, "write and instead of AND"),
        ("!door_open", 0, "write not instead of !"),
        ("avg(speed, 10m) > 4", 12, "a span of time stands in quotes: '10m'"),
        ("avg(speed) > 4", 0, "write avg(signal, '10m')"),
        ("avg(speed, 'soon') > 4", 11, "a span of 1s to 400d, whole seconds, in quotes"),
        ("avg(door_open, '10m') > 4", 4, "avg takes a number; door_open is of type boolean"),
        ("avg > 4", 0, "avg is a function: write avg(signal, '10m')"),
        ("mean(speed, '10m') > 4", 0, "unknown function mean: write avg(signal, '10m')"),
        ("counts(speed, '10m') > 4", 0, "did you mean count?"),
        ("speed > temperature", 8, "km/h and °C do not go together: compare each with a number"),
        ("speed + temperature > 3", 0, "km/h and °C do not go together"),
        ("speed / speed > temperature", 16, "a bare number and °C do not go together"),
        ("speed > 'fast'", 8, "a number is not compared with a string"),
        ("gear > 'park'", 7, "a string is compared by == or != only"),
        ("gear == 'parc'", 8, "gear is never 'parc'; did you mean park?"),
        ("gear in ('park', 'drove')", 17, "did you mean drive?"),
        ("speed in (1, 2)", 0, "a text is expected before in"),
        ("door_open is True", 0, "write == instead of is"),
        ("speed ** 2 > 4", 0, "only + - * / are known; write a * a for a square"),
        ("speed > 1 / 0", 8, "division by zero"),
        ("1 < 2", 0, "no signal is mentioned"),
        ("speed > 1e300", 8, "write a number up to 1e15"),
        ("__import__('os')", 0, "unknown function __import__"),
        ("speed.__class__ == 1", 0, "van has no signal speed.__class__"),
        ("[s for s in dtc]", 0, "is not part of the language of rules"),
        ("(lambda: speed)() > 1", 0, "unknown function"),
        ("speed if door_open else 1", 0, "is not part of the language of rules"),
        ("avg(speed, span='10m') > 1", 0, "write avg(signal, '10m')"),
        ("speed >", 0, "this cannot be read here"),
        ("not " * 100 + "door_open", 0, "nested deeper than 40 times"),
        ("x" * 3000, 0, "longer than 2000 characters"),
        ("a" + ".a" * 900, 0, ""),
        ("(" * 900 + "speed" + ")" * 900 + "> 1", 0, ""),
    ],
)
def test_a_wrong_condition_says_where_and_what_to_write_instead(when: str, offset: int, says: str) -> None:
    at, message = fault_of(when)
    assert says in message
    if says and not when.startswith("not not") and says != "this cannot be read here":
        assert at == offset


PIECES = [
    *(
        "speed",
        "pads",
        "gear",
        "dtc",
        "door_open",
        "x",
        "é",
        "avg",
        "last",
        "lambda",
        "1",
        "0",
        "1e999",
        "'1m'",
    ),
    *(" and ", " or ", " not ", " in ", ">", "==", "+", "-", "*", "/"),
    *("(", ")", "[", "]", "{", "'", "`", ",", ":", ".", "\\", "\n"),
]


@given(st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
@settings(max_examples=1500, deadline=None)
def test_any_text_is_either_an_expression_or_a_fault_with_its_place(text: str) -> None:
    fault = None
    try:
        found = check_expression(text, VAN)
    except ExpressionFault as raised:
        fault = raised
    if fault is None:
        assert found.signals or found.clocked
    else:
        assert 0 <= fault.offset <= len(text)
        assert fault.message


def test_all_faults_of_all_files_come_at_once_with_file_line_and_column() -> None:
    good = rule("speed > 1")
    bad = (
        rule("padz > 1", id="one")
        + rule("speed > 1", id="Two Words", severity="grave", for_="10")
        + "- id: three\n  whem: speed > 1\n"
        + rule("speed > 1", touchpoint="{kind: appointment}")
    )
    with pytest.raises(RuleErrors) as raised:
        load([("a.yaml", good), ("b.yaml", bad), ("c.yaml", "- {"), ("d.yaml", "id: x")], CATALOGUE)
    said = [str(fault) for fault in raised.value.faults]
    assert str(raised.value) == "\n".join(said)
    for expected in (
        "b.yaml:6:10: one: van has no signal padz; did you mean pads?",
        "b.yaml:8:7: Two Words: 'Two Words' is no id",
        "b.yaml:12:13: Two Words: grave is none of advice, warning, critical",
        "'10' is no span of time up to 400 days: write 90s, 10m, 1h30m, 14d",
        "three: unknown key whem; did you mean when?",
        "three: version is missing",
        "an appointment needs a service",
        "c.yaml:1:4: cannot be read as YAML",
        "d.yaml:1:1: expected a list, found a mapping",
    ):
        assert any(expected in line for line in said), (expected, said)


def test_an_id_is_taken_once() -> None:
    faults = check([("a.yaml", rule("speed > 1")), ("b.yaml", rule("speed > 2"))], CATALOGUE)
    assert [str(fault) for fault in faults] == ["b.yaml:1:3: rule: the id is taken already, in a.yaml:1"]


def test_check_reports_signal_files_too_and_is_empty_when_all_is_well() -> None:
    assert check([("a.yaml", rule("speed > 1"))], [("van.yaml", SIGNALS)]) == []
    (fault,) = check(
        [("a.yaml", rule("speed > 1"))], [("van.yaml", SIGNALS.replace("km/h,", "km/h, typ: number,"))]
    )
    assert "unknown key typ; did you mean type?" in str(fault)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("  Bad Name: {label: {en: a, de: b}}", "is no signal name"),
        ("  ts: {label: {en: a, de: b}}", "is no signal name"),
        ("  new: {label: {en: a}}", "de is missing"),
        ("  new: {type: text, label: {en: a, de: b}}", "text is none of number, boolean, string, codes"),
        ("  new: {range: [3, 1], label: {en: a, de: b}}", "the smaller one first"),
        ("  new: {type: boolean, unit: V, label: {en: a, de: b}}", "unit is for numbers"),
        ("  new: {vss: Vehicle.Speed, label: {en: a, de: b}}", "belongs to another signal"),
        ("  new: {display: {unit: mm, at_0: 1}, label: {en: a, de: b}}", "at_100 is missing"),
        ("  new: {wear: {limit: much}, label: {en: a, de: b}}", "expected a number, found 'much'"),
        ("  speed: {label: {en: a, de: b}}", "speed is given twice"),
        ("  a: &x {label: {en: a, de: b}}\n  b: *x", "anchors and aliases are not read"),
    ],
)
def test_a_wrong_signal_says_what_is_wrong(line: str, says: str) -> None:
    with pytest.raises(SignalErrors, match=says):
        Catalogue.parse([("van.yaml", SIGNALS + line + "\n")])


def test_a_kind_may_be_spread_over_files() -> None:
    more = "kind: van\nsignals:\n  extra: {label: {en: a, de: b}}\n"
    van = Catalogue.parse([("van.yaml", SIGNALS), ("more.yaml", more)]).kinds["van"]
    assert {"speed", "extra"} <= set(van.signals)
    assert van.label["en"] == "Van"


def test_spans() -> None:
    spans = {
        "90s": 90_000,
        "10m": 600_000,
        "1h30m": 5_400_000,
        "14d": 1_209_600_000,
        "2w": 1_209_600_000,
        "5ms": 5,
    }
    assert {text: span_ms(text) for text in spans} == spans
    assert [span_ms(text) for text in ("", "10", "m", "10 m", "-1m", "10y", "500d", "1" * 50 + "s")] == [
        None
    ] * 8


def test_examples_tell_what_happened_instead() -> None:
    examples = "[{given: {pads: [[0h, 79], [1h, 81], [2h, 81]]}, expect: {fires_at: 60m}}]"
    (result,) = run_examples(ruleset(rule("pads >= 80", for_="10m", examples=examples)))
    assert not result.passed
    assert (result.expected, result.happened) == ("fires at 1h", "fires at 70m")


@pytest.mark.parametrize(
    ("examples", "says"),
    [
        ("[{given: {padz: [[0h, 1]]}, expect: {never: true}}]", "did you mean pads?"),
        ("[{given: {pads: [[0, 1]]}, expect: {never: true}}]", "write 90s"),
        ("[{given: {pads: [[0h]]}, expect: {never: true}}]", "a reading is"),
        ("[{given: {pads: []}, expect: {}}]", "say either fires_at: 70m or never: true"),
        ("[{given: {pads: []}, expect: {never: false}}]", "write never: true"),
        ("[{given: {pads: []}, expect: {fires: 3m}}]", "did you mean fires_at?"),
    ],
)
def test_a_wrong_example_is_a_fault(examples: str, says: str) -> None:
    with pytest.raises(RuleErrors, match=says):
        ruleset(rule("pads >= 80", examples=examples))


def test_what_the_package_offers() -> None:
    offered = """
        Backtest Catalogue check Cleared ClearReason Contact Display Engine Episode Example ExampleResult
        Fault
        Found Function FUNCTIONS Kind Known KnownDevice load Rule rule_schema RuleErrors RulesError RuleSet
        run_examples Signal signal_schema SignalErrors SignalType span_ms StateVersionError TextErrors Truth
        Value Wear
    """
    assert sorted(rules.__all__) == sorted(offered.split())
    assert all(hasattr(rules, name) for name in rules.__all__)


# --- two readers of YAML, one result --------------------------------------------------------------

STYLES = """
plain: a < 3 and b > 4
quoted: 'it''s a < 3'
double: "a\\tb < 3"
folded: >-
  a < 3
  and b > 4
kept: |
  a < 3

umlauts: [ä, 'ö ü', {ß: "€"}]
over: a < 3
  and b > 4
list:
- one
-   two: {}
? key
: value
"""


def shipped_texts() -> list[str]:
    return [path.read_text("utf-8") for path in sorted(config.data_path().glob("[rs][ui]*s/*.yaml"))]


def places(node: Node, text: str) -> Iterator[tuple[Any, ...]]:
    """Everything that we use of a node and all below it."""
    mark = node.start_mark
    yield node.id, node.tag, mark.line, mark.column, mark.index
    if isinstance(node, ScalarNode):
        spots = [Place(node, text, "", []).spot_of(offset) for offset in range(len(node.value.strip()))]
        yield node.value, node.style or None, spots
    else:
        parts = node.value if isinstance(node, SequenceNode) else chain.from_iterable(node.value)
        for part in parts:
            yield from places(part, text)


@pytest.mark.parametrize(
    "text", [*shipped_texts(), STYLES, STYLES.replace("\n", "\r\n"), "\ufeff" + STYLES[1:]]
)
def test_libyaml_and_python_read_the_same_in_the_same_places(text: str) -> None:
    slow = yaml.compose(text, Loader=yaml.SafeLoader)
    assert list(places(compose(text), text)) == list(places(slow, text))


def test_what_libyaml_could_not_bear_is_told_as_a_fault() -> None:
    for text in ("[" * 100_000, "- " * 100_000, "a: &a [1]\nb: [*a]", "a: [*a]"):
        faults = check([("rules.yaml", text)], CATALOGUE)
        assert [fault.message for fault in faults if "cannot be read as YAML" in fault.message], faults
