"""Why a rule is, or is not, true for a device: each part of its condition with its value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rules import units
from rules.expressions import Arithmetic, Call, Compare, Constant, Last, Logic, Over, Term
from rules.generate import Ask, Generator
from rules.readings import Known
from rules.texts import span_ms, span_text

if TYPE_CHECKING:
    from rules.program import Program, RunningRule
    from rules.state import DeviceState


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """One part of a condition, or all of it, and what it was at a time."""

    text: str  # as one would write it
    value: Known | None  # None: it cannot be evaluated
    unit: str | None  # of a number, as people read it
    type: str  # number, boolean, string or codes
    parts: tuple[Explanation, ...] = ()
    measured: int | None = None  # device time, ms: when a signal's newest value was measured


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleExplanation:
    """How a rule stands for a device."""

    rule: str
    version: int
    device: str
    at: int  # device time, ms
    when: Explanation
    clear: Explanation | None
    for_ms: int
    pending_since: int | None  # device time, ms: true since then, not for long enough
    open_since: int | None  # device time, ms: an episode


def explain(state: DeviceState, rule: RunningRule, at: int) -> RuleExplanation:
    """The rule's condition, from the whole to its parts, at a device time."""
    pending, opened = state.pending.get(rule.slot), state.open.get(rule.slot)
    return RuleExplanation(
        rule=rule.id,
        version=rule.rule.version,
        device=state.device,
        at=at,
        when=_part(state, rule.rule.when.term, at),
        clear=_part(state, rule.rule.clear.term, at) if rule.rule.clear is not None else None,
        for_ms=rule.for_ms,
        pending_since=pending[0] if pending else None,
        open_since=opened[0] if opened else None,
    )


def _part(state: DeviceState, term: Term, at: int) -> Explanation:
    measured = None
    if isinstance(term, Last | Over):
        time = state.times[state.program.slots[term.signal.name]]
        measured = time if time > 0 else None
    return Explanation(
        text=say(term),
        value=_ask(state.program, term)(state, at),
        unit=units.say(term.unit) if term.type == "number" and term.unit else None,
        type=term.type,
        parts=tuple(_part(state, inner, at) for inner in _inner(term)),
        measured=measured,
    )


def _ask(program: Program, term: Term) -> Ask:
    generator = Generator(program.slots, program.cell_slots, program.world)
    generator.add("ask", generator.value(term), "failed", "None")
    found: Any = generator.functions({"failed": lambda: None})["ask"]
    return found  # type: ignore[no-any-return]


def _inner(term: Term) -> tuple[Term, ...]:
    match term:
        case Logic():
            return term.terms
        case Arithmetic():
            return tuple(side for side in (term.left, term.right) if not isinstance(side, Constant))
        case Compare():
            sides = (side for side in (term.left, term.right) if not isinstance(side, tuple))
            return tuple(side for side in sides if not isinstance(side, Constant))
        case Call(condition=condition) if condition is not None:
            return (condition,)
    return ()


def say(term: Term) -> str:
    """The term as one would write it."""
    match term:
        case Constant():
            if isinstance(term.value, bool):
                return str(term.value).lower()
            return repr(term.value) if isinstance(term.value, str) else _number(term.value, term.unit)
        case Last():
            return term.signal.name if term.span is None else f"last({term.signal.name}, {_span(term.span)})"
        case Over():
            number = "" if term.number is None else f"{_number(term.number)}, "
            over = "over=" if term.function == "days_until" else ""
            return f"{term.function}({term.signal.name}, {number}{over}{_span(term.span)})"
        case Call():
            return f"{term.function}({', '.join(_arguments(term))})"
        case Arithmetic(operator="*", right=Constant()) if term.unit != term.left.unit:
            return say(term.left)  # converted, which goes without saying
        case Arithmetic(operator="-", left=Constant(value=0)):
            return f"-{_in_brackets(term.right)}"
        case Arithmetic():
            return f"{_in_brackets(term.left)} {term.operator} {_in_brackets(term.right)}"
        case Compare():
            right = term.right
            one = "," if isinstance(right, tuple) and len(right) == 1 else ""
            texts = (
                f"({', '.join(map(repr, right))}{one})" if isinstance(right, tuple) else _in_brackets(right)
            )
            return f"{_in_brackets(term.left)} {term.operator} {texts}"
        case Logic(operator="not"):
            return f"not {_in_brackets(term.terms[0])}"
    return f" {term.operator} ".join(_in_brackets(inner) for inner in term.terms)


def _arguments(term: Call) -> list[str]:
    if term.condition is not None:
        found = [term.text]
    elif term.function in ("inside", "distance", "country", "context"):
        found = []
    else:
        found = [signal.name for signal in term.signals]
    found += [_number(term.number)] if term.number is not None else []
    found += [repr(text) for text in term.texts]
    return found + ([_span(term.span)] if term.span is not None else [])


def _span(ms: int) -> str:
    return repr(span_text(ms))


def _number(value: float, unit: units.Unit | None = None) -> str:
    """As it was written; a time that was written as a span is one again."""
    factor = units.factor(units.unit("ms"), unit) if unit else None
    ms = round(value / factor) if factor is not None else -1
    if factor is not None and value == ms * factor and span_ms(span_text(ms)) is not None:
        return _span(ms)
    short = f"{value:.15g}"
    return short if float(short) == value else repr(value)


def _in_brackets(term: Term) -> str:
    return f"({say(term)})" if isinstance(term, Logic | Arithmetic | Compare) else say(term)
