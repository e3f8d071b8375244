"""Conditions: a small subset of Python's expressions, checked against the signals, turned into functions.

A text is parsed by `ast`, and every node becomes one of the terms below, with its type and unit, or a
fault that says what to write instead. Nothing of the text is ever run: functions are generated from
terms alone, with signals as numbered slots.

A condition is True, False or None. None stands for "cannot be evaluated": a signal that has never
come or is not usable, an empty window, a division by zero. None is never true, nor is `not` of it;
`or` is true if one side is, `and` is false if one side is, whatever the other (Kleene's logic).
"""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from rules import units
from rules.signals import Kind, Signal, SignalType, unknown_signal
from rules.texts import did_you_mean, span_ms
from rules.units import Unit

LONGEST_TEXT = 2_000
DEEPEST = 40
"""nested parentheses and operators"""
LARGEST_CONSTANT = 1e15
"""numbers written in an expression: integers up to here are exact as float"""
SHORTEST_SPAN = 1_000


@dataclass(frozen=True, slots=True)
class Function:
    """A function that expressions may call."""

    name: str
    form: str  # how it is written
    means: str  # one sentence
    types: tuple[str, ...]  # of the signals it takes
    windowed: bool  # needs buckets


FUNCTIONS: Mapping[str, Function] = {
    function.name: function
    for function in (
        Function(
            "last", "last(signal) or last(signal, '10m')",
            "The newest value; with a span, unknown when that value is older.",
            ("number", "boolean", "string", "codes"), False,
        ),
        Function("avg", "avg(signal, '10m')", "The mean of the readings in the span.", ("number",), True),
        Function("min", "min(signal, '10m')", "The smallest reading in the span.", ("number",), True),
        Function("max", "max(signal, '10m')", "The largest reading in the span.", ("number",), True),
        Function(
            "count", "count(signal, '10m')", "How many readings came in the span; 0 if none.",
            ("number", "boolean", "string", "codes"), True,
        ),
    )
}  # fmt: skip
"""The vocabulary. docs/rules.md describes each; a test compares."""


class ExpressionFault(Exception):
    """What is wrong with an expression, at which offset of its text."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset
        self.message = message


@dataclass(frozen=True, slots=True)
class Constant:
    value: float | int | bool | str
    type: SignalType
    unit: Unit | None = None  # a number takes the unit of what it meets


@dataclass(frozen=True, slots=True)
class Last:
    """The newest value of a signal, if it is no older than `span` ms."""

    signal: Signal
    type: SignalType
    unit: Unit | None
    span: int | None = None


@dataclass(frozen=True, slots=True)
class Over:
    """A function over a window."""

    function: str
    signal: Signal
    span: int
    unit: Unit | None
    type: SignalType = "number"


@dataclass(frozen=True, slots=True)
class Arithmetic:
    operator: str
    left: Term
    right: Term
    unit: Unit | None
    type: SignalType = "number"


@dataclass(frozen=True, slots=True)
class Compare:
    """`in` and `not in` have the single value on the left and the codes, or the tuple, on the right."""

    operator: str
    left: Term
    right: Term | tuple[str, ...]
    type: SignalType = "boolean"
    unit: Unit | None = None


@dataclass(frozen=True, slots=True)
class Logic:
    operator: str  # and, or, not
    terms: tuple[Term, ...]
    type: SignalType = "boolean"
    unit: Unit | None = None


Term: TypeAlias = Constant | Last | Over | Arithmetic | Compare | Logic


@dataclass(frozen=True, kw_only=True, slots=True)
class Expression:
    """A checked condition."""

    text: str
    term: Term
    signals: tuple[str, ...]  # in the order of their first mention
    windows: tuple[tuple[str, int], ...]  # signal and span in ms
    timed: bool  # its truth can change by time alone
    cuts: Mapping[str, tuple[float, ...]] | None = field(compare=False)
    """If its truth depends on each signal's last value alone, and there only on the interval it lies in:
    the values where the next interval begins; () where any change counts. Else None."""


_ARITHMETIC: Mapping[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_COMPARE: Mapping[type[ast.cmpop], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
    ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip
_SLIPS = (
    ("&&", "and"), ("||", "or"), ("=>", ">="), ("=<", "<="), ("<>", "!="), ("!", "not"), ("=", "=="),
    ("&", "and"), ("|", "or"),
)  # fmt: skip


def check(text: str, kind: Kind) -> Expression:
    """Parse and check a condition for a kind of device. Raises ExpressionFault."""
    try:
        return _Checker(text, kind).condition()
    except RecursionError:
        raise ExpressionFault(0, f"nested deeper than {DEEPEST} times: make two rules of it") from None


class _Checker:
    def __init__(self, text: str, kind: Kind) -> None:
        self.text = text
        self.kind = kind

    def condition(self) -> Expression:
        term = self._term(self._parse(), 0)
        if term.type != "boolean":
            raise ExpressionFault(0, f"{self._no_truth(term)}")
        leaves = list(_leaves(term))
        if not any(isinstance(leaf, Last | Over) for leaf in leaves):
            raise ExpressionFault(0, "no signal is mentioned, so this never changes")
        return Expression(
            text=self.text,
            term=term,
            signals=tuple(dict.fromkeys(x.signal.name for x in leaves if isinstance(x, Last | Over))),
            windows=tuple(dict.fromkeys((x.signal.name, x.span) for x in leaves if isinstance(x, Over))),
            timed=any(isinstance(x, Over) or (isinstance(x, Last) and x.span is not None) for x in leaves),
            cuts=_cuts(term),
        )

    def _parse(self) -> ast.expr:
        if len(self.text) > LONGEST_TEXT:
            raise ExpressionFault(0, f"longer than {LONGEST_TEXT} characters: make two rules of it")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse(self.text.replace("\n", " "), mode="eval").body
        except SyntaxError as error:
            offset = max(0, (error.offset or 1) - 1)
            raise ExpressionFault(min(offset, len(self.text)), self._slip(offset)) from None
        except (ValueError, RecursionError, MemoryError):
            raise ExpressionFault(0, "this cannot be read as an expression") from None

    def _slip(self, offset: int) -> str:
        """What was probably meant where Python's grammar ends."""
        rest = self.text[max(0, offset - 1) :].lstrip()
        for slip, right in _SLIPS:
            if rest.startswith(slip) or self.text[offset:].startswith(slip):
                return f"write {right} instead of {slip}"
        word = self.text[offset:].split(maxsplit=1)[:1]
        if word and word[0].upper() in ("AND", "OR", "NOT"):
            return f"write {word[0].lower()} instead of {word[0]}"
        if any(character.isdigit() for character in rest[:6]) and "(" in self.text:
            return "this cannot be read here; a span of time stands in quotes: avg(speed, '10m')"
        return "this cannot be read here; a condition looks like: speed > 50 and fuel_level < 10"

    def _offset(self, node: ast.expr) -> int:
        line = self.text.replace("\n", " ").encode()
        return len(line[: node.col_offset].decode(errors="ignore"))

    def _fault(self, node: ast.expr, message: str) -> ExpressionFault:
        return ExpressionFault(self._offset(node), message)

    def _term(self, node: ast.expr, depth: int) -> Term:
        if depth > DEEPEST:
            raise self._fault(node, f"nested deeper than {DEEPEST} times: make two rules of it")
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name() | ast.Attribute():
                return self._name(node)
            case ast.Call():
                return self._call(node)
            case ast.BoolOp():
                terms = tuple(self._boolean(value, depth) for value in node.values)
                return Logic("and" if isinstance(node.op, ast.And) else "or", terms)
            case ast.UnaryOp():
                return self._unary(node, depth)
            case ast.BinOp():
                return self._arithmetic(node, depth)
            case ast.Compare():
                return self._comparison(node, depth)
        raise self._fault(node, f"{ast.unparse(node)[:40]!r} is not part of the language of rules")

    def _constant(self, node: ast.Constant) -> Constant:
        value = node.value
        if isinstance(value, bool):
            return Constant(value, "boolean")
        if isinstance(value, str):
            return Constant(value, "string")
        if isinstance(value, int | float) and abs(value) <= LARGEST_CONSTANT:
            return Constant(value, "number")
        raise self._fault(
            node, f"{str(value)[:40]} cannot be used here: write a number up to 1e15 or a 'text'"
        )

    def _name(self, node: ast.Name | ast.Attribute) -> Term:
        name = ast.unparse(node)
        if name in ("true", "false"):
            return Constant(name == "true", "boolean")
        signal = self._signal(node)
        return Last(signal, signal.type, units.unit(signal.unit) if signal.type == "number" else None)

    def _signal(self, node: ast.expr) -> Signal:
        name = ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""
        if not name:
            raise self._fault(node, "the name of a signal is expected here")
        signal = self.kind.resolve(name)
        if signal is None and name in FUNCTIONS:
            raise self._fault(node, f"{name} is a function: write {FUNCTIONS[name].form}")
        if signal is None:
            raise self._fault(node, unknown_signal(self.kind, name))
        return signal

    def _call(self, node: ast.Call) -> Term:
        name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)[:40]
        function = FUNCTIONS.get(name)
        if function is None:
            hint = did_you_mean(name, FUNCTIONS) or f"; known: {', '.join(FUNCTIONS)}"
            raise self._fault(node, f"unknown function {name}{hint}")
        if node.keywords or not 1 <= len(node.args) <= 2 or (function.windowed and len(node.args) != 2):
            raise self._fault(node, f"write {function.form}")
        signal = self._signal(node.args[0])
        if signal.type not in function.types:
            what = " or ".join(function.types)
            raise self._fault(node.args[0], f"{name} takes a {what}; {signal.name} is of type {signal.type}")
        span = self._span(node.args[1], function) if len(node.args) == 2 else None
        number = units.unit(signal.unit) if signal.type == "number" else None
        if not function.windowed:
            return Last(signal, signal.type, number, span)
        return Over(name, signal, span or 0, units.PLAIN if name == "count" else number)

    def _span(self, node: ast.expr, function: Function) -> int:
        text = node.value if isinstance(node, ast.Constant) else None
        span = span_ms(text) if isinstance(text, str) else None
        if span is None or span < SHORTEST_SPAN or span % 1_000:
            raise self._fault(
                node, f"a span of 1s to 400d, whole seconds, in quotes is expected here: {function.form}"
            )
        return span

    def _no_truth(self, term: Term) -> str:
        name = term.signal.name if isinstance(term, Last | Over) else "this"
        if term.type == "number":
            return f"{name} is a number, not true or false: compare it, as in {name} > 0"
        if term.type == "codes":
            return f"{name} is a list of codes: write 'P0300' in {name}"
        return f"{name} is a text, not true or false: compare it, as in {name} == 'on'"

    def _boolean(self, node: ast.expr, depth: int) -> Term:
        term = self._term(node, depth + 1)
        if term.type != "boolean":
            raise self._fault(node, self._no_truth(term))
        return term

    def _number(self, node: ast.expr, depth: int) -> Term:
        term = self._term(node, depth + 1)
        if term.type != "number":
            raise self._fault(node, f"a number is expected here, this is of type {term.type}")
        return term

    def _unary(self, node: ast.UnaryOp, depth: int) -> Term:
        if isinstance(node.op, ast.Not):
            return Logic("not", (self._boolean(node.operand, depth),))
        if isinstance(node.op, ast.Invert):
            raise self._fault(node, "write not instead of ~")
        term = self._number(node.operand, depth)
        if isinstance(node.op, ast.UAdd):
            return term
        if isinstance(term, Constant):
            return Constant(-_float(term), "number", term.unit)
        return Arithmetic("-", Constant(0, "number"), term, term.unit)

    def _arithmetic(self, node: ast.BinOp, depth: int) -> Term:
        operator = _ARITHMETIC.get(type(node.op))
        if operator is None:
            raise self._fault(node, "only + - * / are known; write a * a for a square")
        left, right = self._number(node.left, depth), self._number(node.right, depth)
        if isinstance(left, Constant) and isinstance(right, Constant):
            return self._fold(node, operator, _float(left), _float(right))
        if operator in "+-":
            left, right, unit = self._same_unit(node, left, right)
        else:
            sign = 1 if operator == "*" else -1
            both = left.unit is None and right.unit is None
            unit = None if both else units.times(left.unit or units.PLAIN, right.unit or units.PLAIN, sign)
        return Arithmetic(operator, left, right, unit)

    def _fold(self, node: ast.expr, operator: str, left: float, right: float) -> Constant:
        if operator == "/" and right == 0:
            raise self._fault(node, "division by zero")
        value = {"+": left + right, "-": left - right, "*": left * right}.get(operator)
        value = left / right if value is None else value
        if abs(value) > LARGEST_CONSTANT:
            raise self._fault(node, "a number up to 1e15 is expected here")
        return Constant(value, "number")

    def _same_unit(self, node: ast.expr, left: Term, right: Term) -> tuple[Term, Term, Unit | None]:
        """Both in the left one's unit; a number takes the other's."""
        if left.unit is None or right.unit is None or left.unit == right.unit:
            return left, right, left.unit if left.unit is not None else right.unit
        factor = units.factor(right.unit, left.unit)
        if factor is None:
            raise self._fault(
                node,
                f"{units.say(left.unit)} and {units.say(right.unit)} do not go together: "
                "compare each with a number",
            )
        converted = Arithmetic("*", right, Constant(factor, "number"), left.unit)
        return left, converted, left.unit

    def _comparison(self, node: ast.Compare, depth: int) -> Term:
        parts = [node.left, *node.comparators]
        terms = tuple(
            self._compare(left, operator, right, depth)
            for left, operator, right in zip(parts, node.ops, parts[1:], strict=False)
        )
        return terms[0] if len(terms) == 1 else Logic("and", terms)

    def _compare(self, left_node: ast.expr, op: ast.cmpop, right_node: ast.expr, depth: int) -> Term:
        operator = _COMPARE.get(type(op))
        if operator is None:
            raise self._fault(left_node, "write == instead of is, and != instead of is not")
        if operator.endswith("in"):
            return self._membership(left_node, operator, right_node, depth)
        left, right = self._term(left_node, depth + 1), self._term(right_node, depth + 1)
        if left.type == right.type == "number":
            left, right, _ = self._same_unit(right_node, left, right)
        elif left.type != right.type or left.type == "codes":
            raise self._fault(right_node, self._uncomparable(left, right))
        elif operator not in ("==", "!="):
            raise self._fault(right_node, f"a {left.type} is compared by == or != only")
        self._allowed(left_node, left, right)
        self._allowed(right_node, right, left)
        return Compare(operator, left, right)

    def _uncomparable(self, left: Term, right: Term) -> str:
        if "codes" in (left.type, right.type):
            codes = left if left.type == "codes" else right
            name = codes.signal.name if isinstance(codes, Last) else "dtc"
            return f"{name} is a list of codes: write 'P0300' in {name}"
        return f"a {left.type} is not compared with a {right.type}"

    def _membership(self, left_node: ast.expr, operator: str, right_node: ast.expr, depth: int) -> Term:
        left = self._term(left_node, depth + 1)
        if left.type != "string":
            raise self._fault(left_node, f"a text is expected before {operator}, this is of type {left.type}")
        if isinstance(right_node, ast.Tuple | ast.List | ast.Set):
            items = [self._term(item, depth + 1) for item in right_node.elts]
            if not all(isinstance(item, Constant) and item.type == "string" for item in items):
                raise self._fault(right_node, "texts in quotes are expected here: state in ('on', 'off')")
            for item, item_node in zip(items, right_node.elts, strict=True):
                self._allowed(item_node, item, left)
            return Compare(operator, left, tuple(str(i.value) for i in items if isinstance(i, Constant)))
        right = self._term(right_node, depth + 1)
        if right.type != "codes":
            raise self._fault(right_node, "a list of codes or ('a', 'b') is expected here")
        return Compare(operator, left, right)

    def _allowed(self, node: ast.expr, constant: Term, other: Term) -> None:
        """A text that the signal can never have is a slip."""
        if isinstance(constant, Constant) and constant.type == "string" and isinstance(other, Last):
            values = other.signal.values
            if values and constant.value not in values:
                hint = did_you_mean(str(constant.value), values) or f"; it is one of {', '.join(values)}"
                raise self._fault(node, f"{other.signal.name} is never {constant.value!r}{hint}")


def _float(constant: Constant) -> float:
    assert not isinstance(constant.value, str)
    return constant.value


def _leaves(term: Term | tuple[str, ...]) -> Iterator[Term]:
    match term:
        case Logic():
            for inner in term.terms:
                yield from _leaves(inner)
        case Arithmetic() | Compare():
            yield from _leaves(term.left)
            yield from _leaves(term.right)
        case Constant() | Last() | Over():
            yield term


def _cuts(term: Term) -> dict[str, tuple[float, ...]] | None:
    """See Expression.cuts."""
    match term:
        case Logic():
            found: dict[str, tuple[float, ...]] = {}
            for inner in term.terms:
                cuts = _cuts(inner)
                if cuts is None:
                    return None
                for name, values in cuts.items():
                    found[name] = tuple(sorted({*found.get(name, ()), *values}))
            return found
        case Last(span=None):
            return {term.signal.name: ()}
        case Constant():
            return {}
        case Compare():
            return _compare_cuts(term)
    return None


def _compare_cuts(term: Compare) -> dict[str, tuple[float, ...]] | None:
    left, right, operator = term.left, term.right, term.operator
    if isinstance(right, Last) and isinstance(left, Constant) and right.type == "number":
        left, right, operator = (
            right,
            left,
            {"<": ">", "<=": ">=", ">": "<", ">=": "<="}.get(operator, operator),
        )
    if isinstance(left, Last) and left.type == "number":
        if left.span is not None or not isinstance(right, Constant):
            return None
        cut = float(_float(right))
        after = math.nextafter(cut, math.inf)
        begins = {">=": (cut,), "<": (cut,), ">": (after,), "<=": (after,)}.get(operator, (cut, after))
        return {left.signal.name: begins}
    return _equality_cuts(left, right)


def _equality_cuts(left: Term, right: Term | tuple[str, ...]) -> dict[str, tuple[float, ...]] | None:
    sides = [side for side in (left, right) if not isinstance(side, Constant | tuple)]
    if not all(isinstance(side, Last) and side.span is None and side.type != "number" for side in sides):
        return None
    return {side.signal.name: () for side in sides if isinstance(side, Last)}


def limit(expression: Expression) -> float | None:
    """The number that the first signal is compared with; None if it is compared with none."""
    return next(iter(_limits(expression.term, expression.signals[0])), None)


def _limits(term: Term, name: str) -> Iterator[float]:
    if isinstance(term, Logic):
        for inner in term.terms:
            yield from _limits(inner, name)
    elif isinstance(term, Compare) and not isinstance(term.right, tuple):
        for side, other in ((term.left, term.right), (term.right, term.left)):
            number = isinstance(side, Last) or (isinstance(side, Over) and side.function != "count")
            if number and isinstance(other, Constant) and other.type == "number" and _about(side) == name:
                yield _float(other)


def _about(term: Term) -> str:
    return term.signal.name if isinstance(term, Last | Over) else ""
