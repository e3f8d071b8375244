"""Why a rule is, or is not, true for a device, in words: each part of its condition with its value.

The rules give the parts as they are written and what each of them was; here they are said in the reader's
language. The texts stand under `explain.` in config/messages; a function without a text is shown as written.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.domain.moments import DAY_MS, HOUR_MS, MINUTE_MS
from gateway.domain.texts import NBSP, Texts
from rules import Catalogue, span_ms
from rules.explain import Explanation, RuleExplanation

COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.GtE: "at_least",
    ast.Gt: "above",
    ast.LtE: "at_most",
    ast.Lt: "below",
    ast.Eq: "equal",
    ast.NotEq: "other",
    ast.In: "one_of",
    ast.NotIn: "none_of",
}
SPANS = (("d", DAY_MS), ("h", HOUR_MS), ("m", MINUTE_MS), ("s", 1_000))


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """One part of a condition, in words."""

    text: str
    """as the rule writes it"""
    words: str
    """what it asks"""
    value: str
    """what it was: "96 %", "yes", "not known\""""
    holds: bool | None
    """of what is true or not; None also where it is not known"""
    known: bool
    note: str = ""
    """why it is not known, or when its signal was measured"""
    parts: tuple[Told, ...] = ()

    def all(self, depth: int = 0) -> Iterator[tuple[int, Told]]:
        """(depth, part), this one first."""
        yield depth, self
        for part in self.parts:
            yield from part.all(depth + 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class ToldRule:
    """How a rule stands for a device, in words."""

    rule: str
    device: str
    at: str
    holds: bool | None
    headline: str
    """how it stands"""
    because: str
    """the part that decides; empty where the headline says all"""
    when: Told
    clear: Told | None


def told(
    found: RuleExplanation, kind: str, signals: Catalogue, texts: Texts, language: str, zone: str
) -> ToldRule:
    """In the language and by the clock of who reads it."""
    teller = _Teller(kind, signals, texts, language, zone)
    when = teller.part(found.when)
    return ToldRule(
        rule=found.rule,
        device=found.device,
        at=texts.moment(language, found.at, zone),
        holds=when.holds,
        headline=teller.headline(found),
        because=teller.because(when),
        when=when,
        clear=teller.part(found.clear) if found.clear is not None else None,
    )


class _Teller:
    """One reader's words."""

    def __init__(self, kind: str, signals: Catalogue, texts: Texts, language: str, zone: str) -> None:
        self._kind, self._signals, self._texts = kind, signals, texts
        self._language, self._zone = language, zone

    def say(self, key: str, **params: Any) -> str:
        return self._texts.say(self._language, f"explain.{key}", **params)

    # --- the whole

    def headline(self, found: RuleExplanation) -> str:
        """Whether it is true, since when, and what is still missing."""
        truth = {True: "true", False: "false", None: "unknown"}[_truth(found.when)]
        if found.open_since is not None:
            return self.say(f"open_{truth}", since=self._moment(found.open_since))
        if found.pending_since is not None:
            return self.say("pending", since=self._moment(found.pending_since), span=self.span(found.for_ms))
        return self.say(truth)

    def because(self, when: Told) -> str:
        """The part that makes it so."""
        part = _decisive(when)
        if part is when and not part.parts:
            return ""
        inner = part.parts[0] if len(part.parts) == 1 else part
        value = inner.value if inner is not part else part.value
        return self.say("because", words=part.words, value=value)

    # --- the parts

    def part(self, part: Explanation) -> Told:
        """A part and all that it is made of."""
        return Told(
            text=part.text,
            words=self._words(part),
            value=self._value(part),
            holds=_truth(part) if part.type == "boolean" else None,
            known=part.value is not None,
            note=self._note(part),
            parts=tuple(self.part(inner) for inner in part.parts),
        )

    def _value(self, part: Explanation) -> str:
        match part.value:
            case None:
                return self.say("not_known")
            case bool():
                return self.say("yes" if part.value else "no")
            case int() | float():
                return self._number(part.value, part.unit)
            case str():
                return part.value
            case _:
                return ", ".join(map(str, part.value)) or self.say("none")

    def _number(self, value: float, unit: str | None) -> str:
        if unit == "s" and abs(value) >= 120:
            return self.span(round(value * 1000))
        digits = 3 if abs(value) < 10 else 1
        return self._texts.quantity(self._language, round(value, digits), unit)

    def _note(self, part: Explanation) -> str:
        if part.value is None and not part.parts:
            function = _function(part.text)
            if function is None or function == "last":
                return self.say("why.never" if part.measured is None else "why.unusable")
            key = f"why.{function}"
            return self.say(key if self._texts.has(f"explain.{key}") else "why.few")
        if part.measured is not None:
            return self.say("measured", when=self._moment(part.measured))
        return ""

    def _words(self, part: Explanation) -> str:
        try:
            return self._node(
                ast.parse(part.text, mode="eval").body, part.parts[0].unit if part.parts else None
            )
        except (SyntaxError, ValueError, RecursionError):
            return part.text

    def _node(self, node: ast.expr, unit: str | None = None) -> str:
        """`unit`: of what a constant is compared with, where that is known."""
        match node:
            case ast.BoolOp(op=ast.And()):
                return self.say("all_of")
            case ast.BoolOp():
                return self.say("one_of_these")
            case ast.UnaryOp(op=ast.Not()):
                return self.say("not_so")
            case ast.Compare(left=left, ops=[operator], comparators=[right]):
                key = f"compare.{COMPARISONS[type(operator)]}"
                return self.say(key, left=self._node(left), right=self._operand(right, left, unit))
            case ast.Name(id=name):
                return self._label(name)
            case ast.Call(func=ast.Name(id=function)):
                return self._call(function, node)
            case ast.Constant(value=value):
                number = _plain_number(node)
                return str(value) if number is None else self._texts.number(self._language, number)
        return ast.unparse(node)

    def _operand(self, node: ast.expr, beside: ast.expr, unit: str | None) -> str:
        """A constant has the unit of what it is compared with."""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return f"−{self._operand(node.operand, beside, unit)}"
        number = _plain_number(node)
        if number is not None:
            signal = self._signals.signal(self._kind, beside.id) if isinstance(beside, ast.Name) else None
            return self._number(number, unit or (signal.unit if signal else None))
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            span = span_ms(node.value) if _called(beside) in ("age", "since") else None
            return node.value if span is None else self.span(span)
        if isinstance(node, ast.Tuple):
            return ", ".join(self._node(item) for item in node.elts)
        return self._node(node)

    def _call(self, function: str, node: ast.Call) -> str:
        key = f"functions.{function}"
        if not self._texts.has(f"explain.{key}"):
            return ast.unparse(node)
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        params: dict[str, Any] = {"signal": "", "span": "", "text": "", "number": "", "condition": ""}
        texts: list[str] = []
        for argument in arguments:
            if isinstance(argument, ast.Name):
                params["signal"] = self._label(argument.id)
            elif isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                span = span_ms(argument.value)
                if span is None or function in ("inside", "distance", "code", "context"):
                    texts.append(argument.value)
                else:
                    params["span"] = self.span(span)
            elif isinstance(argument, ast.Constant):
                params["number"] = self._node(argument)
            else:
                params["condition"] = self._node(argument)
        if function in ("held", "times", "since") and params["signal"]:
            params["condition"] = params["signal"]
        params["text"] = ", ".join(texts)
        if function == "crossed" and "down" in texts:
            key = "functions.crossed_down"
        if function == "last" and not params["span"]:
            return str(params["signal"])
        return self.say(key, **params)

    def _label(self, name: str) -> str:
        signal = self._signals.signal(self._kind, name)
        if signal is None:
            return name
        return str(signal.label.get(self._language) or signal.label.get("en") or name)

    def span(self, ms: int) -> str:
        """ "10 minutes": the longest unit that is at least one, in a decimal at most."""
        for unit, size in SPANS:
            if abs(ms) >= size:
                return self.say(f"span.{unit}", count=round(ms / size, 1) if ms % size else ms // size)
        return f"{ms}{NBSP}ms"

    def _moment(self, at: int) -> str:
        return self._texts.moment(self._language, at, self._zone)


def _truth(part: Explanation) -> bool | None:
    return part.value if isinstance(part.value, bool) else None


def _decisive(part: Told) -> Told:
    """What makes the whole true, or keeps it from being so: of an `and` that is not so, the first that is
    not."""
    conditions = [inner for inner in part.parts if inner.holds is not None or not inner.known]
    if len(part.parts) < 2 or not conditions:
        return part
    same = [inner for inner in conditions if inner.holds is part.holds]
    return _decisive(same[0]) if same else part


def _plain_number(node: ast.expr) -> float | None:
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _called(node: ast.expr) -> str:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def _function(text: str) -> str | None:
    name = text.partition("(")[0]
    return name if "(" in text and name.isidentifier() else None
