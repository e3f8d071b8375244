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
import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from rules import slips, units
from rules.functions import FUNCTIONS, WINDOWED, Function
from rules.signals import Kind, Signal, SignalType, unknown_signal
from rules.texts import did_you_mean, span_ms
from rules.units import Unit

LONGEST_TEXT = 2_000
DEEPEST = 40
"""nested parentheses and operators"""
LARGEST_CONSTANT = 1e15
"""numbers written in an expression: integers up to here are exact as float"""
MOST_TERMS = 1_000
"""parts of one condition, each of a chain of comparisons counting twice"""
SHORTEST_SPAN = 1_000
MOST_CELLS = 40
"""windows and other memories of one condition"""


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
    """A function of what a signal did over a span."""

    function: str
    signal: Signal
    span: int
    unit: Unit | None
    number: float | None = None  # the percent of percentile, the limit of days_until
    type: SignalType = "number"


@dataclass(frozen=True, slots=True)
class Call:
    """Any other function, with what it was called with."""

    function: str
    type: SignalType
    unit: Unit | None = None
    signals: tuple[Signal, ...] = ()  # all it reads
    span: int | None = None
    number: float | None = None  # the limit of crossed
    texts: tuple[str, ...] = ()  # patterns, a zone, a direction, names
    condition: Term | None = None
    text: str = ""  # of the condition


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


Term: TypeAlias = Constant | Last | Over | Call | Arithmetic | Compare | Logic


Cell: TypeAlias = tuple[str, str, int]
"""Something kept of a device's past: what sort of thing, of which signal or condition, over which span in
ms (0: none). Two rules that need the same share it."""


@dataclass(frozen=True, slots=True)
class Level:
    """A window's mean, smallest, largest or number of readings is compared with a number: whether it is at
    least `cut` is all that matters."""

    cell: Cell
    function: str
    cut: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Expression:
    """A checked condition."""

    text: str
    term: Term
    signals: tuple[str, ...]  # in the order of their first mention
    cells: tuple[Cell, ...]  # what has to be kept of the past
    timed: bool  # its truth can change by time alone
    clocked: bool  # and that is waited for
    cuts: Mapping[str, tuple[float, ...]] = field(compare=False)
    """Of the comparisons that depend on a signal's last value alone, and of that only on the interval it lies
    in: the values where the next interval begins; () where any change counts."""
    levels: tuple[Level, ...] = field(compare=False)
    loose: tuple[str, ...] = field(compare=False)
    """The signals of all other comparisons, which have to be made anew when one of these arrives."""
    loose_cells: tuple[Cell, ...] = field(compare=False)  # what these comparisons need of the past
    cheap: bool = field(compare=False)
    """Whether a comparison of a last value alone can make it false: most often the rest is not needed."""


_ARITHMETIC: Mapping[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_COMPARE: Mapping[type[ast.cmpop], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
    ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip
_LINES = re.compile(r"[\n\r\f]")
_SLIPS = (
    ("&&", "and"), ("||", "or"), ("=>", ">="), ("=<", "<="), ("<>", "!="), ("!", "not"), ("=", "=="),
    ("&", "and"), ("|", "or"),
)  # fmt: skip


def check(text: str, kind: Kind, zones: Collection[str] = ()) -> Expression:
    """Parse and check a condition for a kind of device; it may name these zones. Raises ExpressionFault."""
    try:
        return _Checker(text, kind, zones).condition()
    except RecursionError:
        raise ExpressionFault(0, f"nested deeper than {DEEPEST} times: make two rules of it") from None


class _Checker:
    def __init__(self, text: str, kind: Kind, zones: Collection[str]) -> None:
        self.text = text
        self.kind = kind
        self.zones = zones
        self.terms = 0

    def condition(self) -> Expression:
        term = self._term(self._parse(), 0)
        if term.type != "boolean":
            raise ExpressionFault(0, f"{self._no_truth(term)}")
        parts = list(leaves(term))
        if all(isinstance(leaf, Constant) for leaf in parts):
            raise ExpressionFault(0, "no signal is mentioned, so this never changes")
        cells = tuple(dict.fromkeys(cell for leaf in parts for cell in _cells(leaf)))
        if len(cells) > MOST_CELLS:
            raise ExpressionFault(0, f"more than {MOST_CELLS} different windows: make two rules of it")
        clocked = any(_clocked(leaf) for leaf in parts)
        return Expression(
            text=self.text,
            term=term,
            signals=tuple(dict.fromkeys(signal.name for leaf in parts for signal in mentioned(leaf))),
            cells=cells,
            timed=clocked or any(isinstance(leaf, Over) or _windowed(leaf) for leaf in parts),
            clocked=clocked,
            **_guards(term),
            cheap=isinstance(term, Logic)
            and term.operator == "and"
            and any(_cuts(inner) is not None for inner in term.terms),
        )

    def _parse(self) -> ast.expr:
        if len(self.text) > LONGEST_TEXT:
            raise ExpressionFault(0, f"longer than {LONGEST_TEXT} characters: make two rules of it")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse(_LINES.sub(" ", self.text), mode="eval").body
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
        said = slips.bare_span(self.text, offset) or slips.unit_after_number(self.text, offset)
        return said or "this cannot be read here; a condition looks like: speed > 50 and fuel_level < 10"

    def _offset(self, node: ast.expr) -> int:
        line = _LINES.sub(" ", self.text).encode()
        return len(line[: node.col_offset].decode(errors="ignore"))

    def _fault(self, node: ast.expr, message: str) -> ExpressionFault:
        return ExpressionFault(self._offset(node), message)

    def _term(self, node: ast.expr, depth: int) -> Term:
        if depth > DEEPEST:
            raise self._fault(node, f"nested deeper than {DEEPEST} times: make two rules of it")
        self.terms += 1
        if self.terms > MOST_TERMS:
            raise self._fault(node, f"more than {MOST_TERMS} parts: make two rules of it")
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name() | ast.Attribute():
                return self._name(node)
            case ast.Call():
                return self._call(node, depth)
            case ast.BoolOp():
                terms = tuple(self._boolean(value, depth) for value in node.values)
                return Logic("and" if isinstance(node.op, ast.And) else "or", terms)
            case ast.UnaryOp():
                return self._unary(node, depth)
            case ast.BinOp():
                return self._arithmetic(node, depth)
            case ast.Compare():
                return self._comparison(node, depth)
            case ast.Tuple() if re.search(r"\d,\d", self.text):
                raise self._fault(node, "write a point, not a comma, in a number: 12.5")
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
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and self.kind.resolve(node.value):
            raise self._fault(node, f"a signal stands without quotes: {node.value}")
        if not name:
            raise self._fault(node, "the name of a signal is expected here")
        signal = self.kind.resolve(name)
        if signal is None and name in FUNCTIONS:
            raise self._fault(node, f"{name} is a function: write {FUNCTIONS[name].form}")
        if signal is None:
            raise self._fault(node, unknown_signal(self.kind, name))
        return signal

    def _call(self, node: ast.Call, depth: int) -> Term:
        name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)[:40]
        function = FUNCTIONS.get(name)
        if function is None:
            raise self._fault(node, slips.unknown_function(name))
        return _Arguments(self, node, function, depth).term()

    def _no_truth(self, term: Term) -> str:
        name = _about(term) or "this"
        if term.type == "number":
            return f"{name} is a number, not true or false: compare it, as in {name} > 0"
        if term.type == "codes":
            return f"{name} is a list of codes: write 'P0300' in {name}, or code({name}, 'P03*')"
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
        if isinstance(node.op, ast.BitAnd | ast.BitOr):
            right_word, slip = ("and", "&") if isinstance(node.op, ast.BitAnd) else ("or", "|")
            raise self._fault(node, f"write {right_word} instead of {slip}")
        if operator is None:
            raise self._fault(node, "only + - * / are known; write a * a for a square")
        left, right = self._number(node.left, depth), self._number(node.right, depth)
        if isinstance(left, Constant) and isinstance(right, Constant):
            return self._fold(node, operator, _float(left), _float(right))
        if operator == "/" and isinstance(right, Constant) and right.value == 0:
            raise self._fault(node, "division by zero")
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
        left, right = self._as_time(left, right), self._as_time(right, left)
        if left.type == right.type == "number":
            left, right, _ = self._same_unit(right_node, left, right)
        elif left.type != right.type or left.type == "codes":
            raise self._fault(right_node, self._uncomparable(left, right))
        elif operator not in ("==", "!="):
            raise self._fault(right_node, f"a {left.type} is compared by == or != only")
        self._allowed(left_node, left, right)
        self._allowed(right_node, right, left)
        return Compare(operator, left, right)

    def _as_time(self, term: Term, other: Term) -> Term:
        """A span in quotes beside a time is that time: age(speed) > '6h'."""
        if isinstance(term, Constant) and isinstance(term.value, str) and other.type == "number":
            ms, factor = span_ms(term.value), units.factor(units.unit("ms"), other.unit or units.PLAIN)
            if ms is not None and factor is not None:
                return Constant(ms * factor, "number", other.unit)
        return term

    def _uncomparable(self, left: Term, right: Term) -> str:
        if "codes" in (left.type, right.type):
            codes = left if left.type == "codes" else right
            name = _about(codes) or "dtc"
            return f"{name} is a list of codes: write 'P0300' in {name}, or code({name}, 'P03*')"
        number, text = (left, right) if left.type == "number" else (right, left)
        if number.type == "number" and isinstance(text, Constant) and isinstance(text.value, str):
            time = units.factor(units.unit("s"), number.unit or units.PLAIN) is not None
            return slips.number_in_quotes(text.value, time=time)
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
        if isinstance(left, Constant) and ("*" in str(left.value) or "?" in str(left.value)):
            form = f"code({_about(right)}, {left.value!r})"
            raise self._fault(left_node, f"{operator} compares whole codes; with * and ? write {form}")
        return Compare(operator, left, right)

    def _allowed(self, node: ast.expr, constant: Term, other: Term) -> None:
        """A text that the signal can never have is a slip."""
        if isinstance(constant, Constant) and isinstance(other, Call) and other.function == "country":
            said = slips.no_country(str(constant.value))
            if said:
                raise self._fault(node, said)
        if isinstance(constant, Constant) and constant.type == "string" and isinstance(other, Last):
            values = other.signal.values
            if values and constant.value not in values:
                hint = did_you_mean(str(constant.value), values) or f"; it is one of {', '.join(values)}"
                raise self._fault(node, f"{other.signal.name} is never {constant.value!r}{hint}")


class _Arguments:
    """Reads the arguments of one call, in the order that its function asks for."""

    def __init__(self, checker: _Checker, node: ast.Call, function: Function, depth: int) -> None:
        self.checker = checker
        self.node = node
        self.function = function
        self.depth = depth
        self.nodes = [*node.args, *(keyword.value for keyword in node.keywords)]
        self.signal: Signal | None = None
        self.span: int | None = None
        self.number: float | None = None
        self.texts: list[str] = []
        self.condition: Term | None = None
        self.text = ""

    def term(self) -> Term:
        self._read()
        function, name, signal = self.function, self.function.name, self.signal
        if signal is not None and signal.type not in function.types:
            what = " or ".join(function.types)
            raise self.fault(self.nodes[0], f"{name} takes a {what}; {signal.name} is of type {signal.type}")
        if name == "last" and signal is not None:
            return Last(signal, signal.type, _unit(signal), self.span)
        if name in WINDOWED and signal is not None:
            if name == "percentile" and signal.range is None:
                raise self.fault(
                    self.nodes[0], f"percentile needs the range of {signal.name} in its signal file"
                )
            return Over(name, signal, self.span or 0, self._unit(), self.number)
        return Call(
            name,
            self._type(),
            self._unit(),
            signals=self._signals(),
            span=self.span,
            number=self.number,
            texts=tuple(self.texts),
            condition=self.condition,
            text=self.text,
        )

    def fault(self, node: ast.expr, message: str) -> ExpressionFault:
        return self.checker._fault(node, message)

    def _read(self) -> None:
        wanted = self.function.parameters
        least = sum(not parameter.endswith("?") for parameter in wanted)
        keywords = [keyword.arg for keyword in self.node.keywords]
        over = keywords in ([], ["over"]) and (not keywords or wanted[-1:] in (("span",), ("span?",)))
        most = 40 if "patterns" in wanted else len(wanted)
        if not over or not least <= len(self.nodes) <= most:
            raise self.fault(self.node, f"write {self.function.form}")
        for parameter, node in zip(wanted, self.nodes, strict=False):
            getattr(self, "_" + parameter.rstrip("?"))(node)

    def _signal(self, node: ast.expr) -> None:
        self.signal = self.checker._signal(node)

    def _span(self, node: ast.expr) -> None:
        text = node.value if isinstance(node, ast.Constant) else None
        span = span_ms(text) if isinstance(text, str) else None
        if span is None or span < SHORTEST_SPAN or span % 1_000:
            form = self.function.form
            raise self.fault(node, f"a span of 1s to 400d, whole seconds, in quotes is expected here: {form}")
        self.span = span

    def _limit(self, node: ast.expr) -> None:
        term = self.checker._number(node, self.depth + 1)
        if not isinstance(term, Constant):
            raise self.fault(node, f"a number is expected here: {self.function.form}")
        self.number = float(_float(term))

    def _percent(self, node: ast.expr) -> None:
        self._limit(node)
        if self.number is not None and not 0 <= self.number <= 100:
            raise self.fault(node, f"a percentage from 0 to 100 is expected here: {self.function.form}")

    def _condition(self, node: ast.expr) -> None:
        term = self.checker._boolean(node, self.depth + 1)
        for leaf in leaves(term):
            if _clocked(leaf) or (isinstance(leaf, Call) and leaf.condition is not None):
                what = leaf.function if isinstance(leaf, Call) else "last with a span"
                raise self.fault(
                    node, f"{what} cannot stand inside {self.function.name}: make two rules of it"
                )
        if not any(mentioned(leaf) for leaf in leaves(term)):
            raise self.fault(node, "no signal is mentioned, so this never changes")
        self.condition, self.text = term, ast.unparse(node)

    def _zone(self, node: ast.expr) -> None:
        zone = self._quoted(node, "the name of a zone")
        if zone not in self.checker.zones:
            known = ", ".join(self.checker.zones) or "none is defined yet, see docs/rules.md"
            hint = did_you_mean(zone, self.checker.zones) or f"; known: {known}"
            raise self.fault(node, f"there is no zone {zone!r}{hint}")
        self.texts.append(zone)

    def _name(self, node: ast.expr) -> None:
        self.texts.append(self._quoted(node, "a name"))

    def _direction(self, node: ast.expr) -> None:
        text = self._quoted(node, "'up' or 'down'")
        if text not in ("up", "down"):
            raise self.fault(node, f"write 'up' or 'down': {self.function.form}")
        self.texts.append(text)

    def _patterns(self, node: ast.expr) -> None:
        """All that are there, after the signal if it is named."""
        patterns = self.nodes
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            if isinstance(node, ast.Name) and re.fullmatch(r"[A-Za-z]\d\w*", node.id):
                raise self.fault(node, f"a code stands in quotes: {self.function.name}({node.id!r})")
            self._signal(node)
            patterns = self.nodes[1:]
        else:
            lists = [signal for signal in self.checker.kind.signals.values() if signal.type == "codes"]
            if len(lists) != 1:
                raise self.fault(node, "name the signal that holds the codes: code(dtc, 'P03*')")
            self.signal = lists[0]
        if not patterns:
            raise self.fault(self.node, f"write {self.function.form}")
        self.texts = [self._quoted(pattern, "a pattern such as 'P03*'") for pattern in patterns]

    def _quoted(self, node: ast.expr, what: str) -> str:
        text = node.value if isinstance(node, ast.Constant) else None
        if not isinstance(text, str) or not 0 < len(text) <= 64:
            raise self.fault(node, f"{what} in quotes is expected here: {self.function.form}")
        return text

    def _signals(self) -> tuple[Signal, ...]:
        own = (self.signal,) if self.signal is not None else ()
        inner = [s for leaf in leaves(self.condition) for s in mentioned(leaf)] if self.condition else []
        needed = [self.checker.kind.resolve(name) for name in self.function.needs]
        if self.function.name == "context":
            places = [self.checker.kind.resolve(name) for name in ("latitude", "longitude")]
            needed = [] if None in places else places
        if None in needed:
            missing = " and ".join(self.function.needs)
            raise self.fault(
                self.node, f"{self.function.name} needs {missing}, and {self.checker.kind.name} has none"
            )
        found = [*own, *inner, *(signal for signal in needed if signal is not None)]
        return tuple({signal.name: signal for signal in found}.values())

    def _type(self) -> SignalType:
        match self.function.gives:
            case "boolean" | "string" as type_:
                return type_
            case "value":
                return self.signal.type if self.signal is not None else "number"
        return "number"

    def _unit(self) -> Unit | None:
        own = _unit(self.signal) if self.signal is not None else None
        match self.function.gives:
            case "value" | "number":
                return own
            case "per hour":
                return units.times(own or units.PLAIN, units.unit("h"), -1)
            case "per day":
                return units.times(own or units.PLAIN, units.unit("d"), -1)
            case "days":
                return units.unit("d")
            case "seconds":
                return units.unit("s")
            case "km":
                return units.unit("km")
            case "bare":
                return None if self.function.name == "context" else units.PLAIN
        return None


def _unit(signal: Signal) -> Unit | None:
    return units.unit(signal.unit) if signal.type == "number" else None


def mentioned(leaf: Term) -> tuple[Signal, ...]:
    """The signals that a term without parts reads."""
    match leaf:
        case Last() | Over():
            return (leaf.signal,)
        case Call():
            return leaf.signals
    return ()


def _clocked(leaf: Term) -> bool:
    if isinstance(leaf, Call):
        return FUNCTIONS[leaf.function].clocked
    return isinstance(leaf, Last) and leaf.span is not None


def _windowed(leaf: Term) -> bool:
    return isinstance(leaf, Call) and leaf.function == "times"


_CELL_OF = {
    "stddev": "trend", "change": "trend", "rate": "trend", "slope": "trend", "days_until": "trend",
    "baseline": "trend", "percentile": "histogram",
    "previous": "previous", "crossed": "previous", "age": "previous", "usage": "usage", "fleet": "peer",
}  # fmt: skip


def cells_of(leaf: Term) -> list[Cell]:
    """What of the past a term without parts needs, its own last."""
    return list(_cells(leaf))


def _cells(leaf: Term) -> Iterator[Cell]:
    if isinstance(leaf, Over):
        yield _CELL_OF.get(leaf.function, "window"), leaf.signal.name, leaf.span
    elif isinstance(leaf, Call) and leaf.condition is not None:
        for inner in leaves(leaf.condition):
            yield from _cells(inner)
        yield "state", leaf.text, leaf.span or 0 if leaf.function == "times" else 0
    elif isinstance(leaf, Call) and leaf.function in _CELL_OF:
        yield _CELL_OF[leaf.function], leaf.signals[0].name, 0


def _float(constant: Constant) -> float:
    assert not isinstance(constant.value, str)
    return constant.value


def leaves(term: Term | tuple[str, ...]) -> Iterator[Term]:
    """The terms that signals and numbers stand in, from left to right; not those inside a call."""
    match term:
        case Logic():
            for inner in term.terms:
                yield from leaves(inner)
        case Arithmetic() | Compare():
            yield from leaves(term.left)
            yield from leaves(term.right)
        case Constant() | Last() | Over() | Call():
            yield term


def _guards(term: Term) -> dict[str, Any]:
    """The fields of Expression that say when its truth can change."""
    cuts: dict[str, tuple[float, ...]] = {}
    levels: list[Level] = []
    loose: dict[str, None] = {}
    cells: dict[Cell, None] = {}
    for atom in _atoms(term):
        found, level = _cuts(atom), _levels(atom)
        levels += level
        for name, values in (found or {}).items():
            cuts[name] = tuple(sorted({*cuts.get(name, ()), *values}))
        if found is None and not level:
            inner = list(leaves(atom))
            everywhere = leaves(term) if any(_drifts(atom, leaf) for leaf in inner) else inner
            loose |= dict.fromkeys(signal.name for leaf in everywhere for signal in mentioned(leaf))
            cells |= dict.fromkeys(cell for leaf in inner for cell in _cells(leaf))
    return {"cuts": cuts, "levels": tuple(levels), "loose": tuple(loose), "loose_cells": tuple(cells)}


def _atoms(term: Term) -> Iterator[Term]:
    """What `and`, `or` and `not` join."""
    if isinstance(term, Logic):
        for inner in term.terms:
            yield from _atoms(inner)
    else:
        yield term


_DRIFTING = ("local_hour", "context", "fleet", "times")


def _drifts(atom: Term, leaf: Term) -> bool:
    """Whether a comparison can change at a moment that nobody waits for: it is made with every reading of
    any signal of its rule."""
    if isinstance(leaf, Over):
        return leaf.function == "percentile"
    if not isinstance(leaf, Call):
        return False
    waited = isinstance(atom, Call) or (
        isinstance(atom, Compare)
        and any(side is leaf for side in (atom.left, atom.right))
        and any(isinstance(side, Constant) for side in (atom.left, atom.right))
    )
    return leaf.function in _DRIFTING or (FUNCTIONS[leaf.function].clocked and not waited)


def _cuts(term: Term) -> dict[str, tuple[float, ...]] | None:
    """See Expression.cuts; None if it is none of these comparisons."""
    match term:
        case Last(span=None):
            return {term.signal.name: ()}
        case Constant():
            return {}
        case Call(function="code"):
            return {term.signals[0].name: ()}
        case Compare():
            left, _, begins = _with_number(term)
            if isinstance(left, Last) and begins:
                return None if left.span is not None else {left.signal.name: begins}
            return _equality_cuts(term.left, term.right)
    return None


def _with_number(term: Compare) -> tuple[Term | None, str, tuple[float, ...]]:
    """The side that is compared with a number, how, and at which values the answer changes; () if none is."""
    left, right, operator = term.left, term.right, term.operator
    if isinstance(left, Constant) and not isinstance(right, tuple):
        left, right = right, left
        operator = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}.get(operator, operator)
    if not isinstance(right, Constant) or right.type != "number" or left.type != "number":
        return None, operator, ()
    cut = float(_float(right))
    after = math.nextafter(cut, math.inf)
    begins = {">=": (cut,), "<": (cut,), ">": (after,), "<=": (after,)}.get(operator, (cut, after))
    return left, operator, begins


def side(expression: Expression) -> bool | None:
    """Whether it is true exactly from one number on of one signal's last value (True), or below it (False);
    None if there is more to it."""
    term = expression.term
    if not isinstance(term, Compare):
        return None
    left, operator, begins = _with_number(term)
    if not isinstance(left, Last) or left.span is not None or len(begins) != 1:
        return None
    return operator in (">=", ">")


LEVELS = ("avg", "min", "max", "count")
"""Functions of which a reading can be told not to change on which side of a number they are."""


def _levels(term: Term) -> list[Level]:
    if isinstance(term, Compare):
        left, _, begins = _with_number(term)
        if isinstance(left, Over) and left.function in LEVELS:
            return [Level(cells_of(left)[0], left.function, cut) for cut in begins]
    return []


def _equality_cuts(left: Term, right: Term | tuple[str, ...]) -> dict[str, tuple[float, ...]] | None:
    sides = [side for side in (left, right) if not isinstance(side, Constant | tuple)]
    if not all(isinstance(side, Last) and side.span is None and side.type != "number" for side in sides):
        return None
    return {side.signal.name: () for side in sides if isinstance(side, Last)}


def limit(expression: Expression) -> float | None:
    """The number that the first signal is compared with; None if it is compared with none."""
    return next(iter(_limits(expression.term, next(iter(expression.signals), ""))), None)


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
    match term:
        case Last() | Over():
            return term.signal.name
        case Call(signals=(signal,)):
            return signal.name
    return ""
