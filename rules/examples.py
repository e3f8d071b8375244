"""The examples of rules, run in virtual time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from rules.catalogue import Example, Rule, RuleSet
from rules.engine import Cleared, Engine, Found
from rules.places import Geography
from rules.texts import span_text

EPOCH = 1_767_225_600_000
"""Where the examples' time begins, 2026-01-01T00:00:00Z; nothing depends on it."""

DEVICE = "example"

MOST_MOMENTS = 1_000
"""Moments looked at after the last reading. A rule that asks for the hour has one every quarter of an hour,
for ever: ten days of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExampleResult:
    """What came of one example."""

    rule: str  # rule id
    file: str
    line: int
    passed: bool
    expected: str  # in the words of the rule file
    happened: str


def run_examples(ruleset: RuleSet, geography: Geography | None = None) -> list[ExampleResult]:
    """Run every example of every rule, each on a device of its own, whose owner lives by UTC."""
    return [
        _result(rule, example, *play(rule, example, ruleset, geography))
        for rule in ruleset.rules.values()
        for example in rule.examples
    ]


def play(
    rule: Rule, example: Example, ruleset: RuleSet, geography: Geography | None = None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """When the rule fires and clears, ms from the example's start.

    After the last reading the device is silent, and what is pending falls due.
    """
    engine = Engine(RuleSet({rule.id: rule}, ruleset.catalogue), geography=geography)
    position = 0
    for ms, signals in example.given:
        for due in _ticks(engine, EPOCH + ms):
            position += 1
            engine.tick(position, due)
        position += 1
        engine.readings(position, EPOCH + ms, DEVICE, rule.kind, [(EPOCH + ms, signals)])
    for due in islice(_ticks(engine, None), MOST_MOMENTS):
        position += 1
        engine.tick(position, due)
    events = engine.take()
    fired = tuple(event.found_ts - EPOCH for event in events if isinstance(event, Found))
    return fired, tuple(event.ts - EPOCH for event in events if isinstance(event, Cleared))


def _ticks(engine: Engine, before: int | None) -> Iterator[int]:
    """The moments before a reading, or all, at which something falls due."""
    while (due := engine.next_due()) is not None and (before is None or due < before):
        yield due


def _result(rule: Rule, example: Example, fired: tuple[int, ...], cleared: tuple[int, ...]) -> ExampleResult:
    clears_match = example.clears_at is None or cleared == example.clears_at
    says_clears = example.clears_at is not None
    return ExampleResult(
        rule=rule.id,
        file=rule.file,
        line=example.line,
        passed=fired == example.fires_at and clears_match,
        expected=_say(example.fires_at, example.clears_at or (), says_clears),
        happened=_say(fired, cleared, says_clears),
    )


def _say(fired: tuple[int, ...], cleared: tuple[int, ...], says_clears: bool) -> str:
    fires = f"fires at {_times(fired)}" if fired else "never fires"
    if not says_clears:
        return fires
    return f"{fires}, {f'clears at {_times(cleared)}' if cleared else 'never clears'}"


def _times(moments: tuple[int, ...]) -> str:
    return " and ".join(span_text(ms) for ms in moments)
