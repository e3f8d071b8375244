"""Checked conditions become Python functions, generated from their terms alone.

For each term there is code that is True exactly when the term is true, and code that is True exactly when
it is false; where neither is, it cannot be evaluated. So Kleene's logic needs no third value at run
time: `not a` is true where `a` is false, `a and b` is false where one of them is, and what is not
needed is not computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from rules.expressions import (
    Arithmetic,
    Call,
    Cell,
    Compare,
    Constant,
    Expression,
    Last,
    Logic,
    Over,
    Term,
    cells_of,
    leaves,
)
from rules.windows import NEVER, Window
from rules.world import Codes, World

if TYPE_CHECKING:
    from rules.state import DeviceState

Test: TypeAlias = "Callable[[DeviceState, int], bool]"
"""(state, the time it is asked for) → whether it is so"""

Ask: TypeAlias = "Callable[[DeviceState, int], Any]"
"""(state, the time it is asked for) → the value of a term; None: it cannot be evaluated"""

Wake: TypeAlias = "Callable[[DeviceState, int], int]"
"""(state, a time) → the next time at which a condition can change without a reading"""

QUARTER = 900_000
"""ms; the hour of the day is looked at every so often while no reading comes, and so are times that are not
compared with a number alone."""
_NEXT_QUARTER = f"at - at % {QUARTER} + {QUARTER}"

_OVER = {
    "count": "counted(s, {cell}, at)",
    "percentile": "{c}.percentile(at, {number})",
    "change": "{c}.change(at, V[{slot}])",
    "rate": "{c}.rate(at, V[{slot}], T[{slot}])",
    "days_until": "{c}.days_until(at, {number}, V[{slot}])",
    "baseline": "{c}.baseline(at, V[{slot}])",
}
"""Those that take more than the time."""


_DEAR: Mapping[str, int] = {
    "age": 1, "since": 1, "held": 1, "silent": 1, "usage": 1, "previous": 1, "crossed": 1,
    "count": 6, "min": 6, "max": 6, "sum": 6, "avg": 6, "rate": 8, "change": 8,
    "stddev": 30, "slope": 30, "days_until": 30, "baseline": 30, "percentile": 30,
}  # fmt: skip
"""What functions cost, beside others'."""


def _windowed(leaf: Term) -> bool:
    return isinstance(leaf, Over) or (isinstance(leaf, Call) and leaf.function == "times")


def _by_cost(term: Logic) -> tuple[list[Term], list[Term]]:
    """The terms that read no window, and those that do."""
    dear = [inner for inner in term.terms if any(_windowed(leaf) for leaf in leaves(inner))]
    return [inner for inner in term.terms if inner not in dear], dear


def asked(state: DeviceState, cell: int) -> Any:
    """A window, with the readings that have waited for it."""
    if state.rows:
        state.bring(cell)
    return state.cells[cell]


def counted(state: DeviceState, cell: int, at: int) -> int:
    """How many readings a window has. While none of those that wait leaves it, they need not be taken."""
    rows = state.rows
    if rows and state.layout is not None and cell in state.layout.columns:
        window = cast(Window, state.cells[cell])
        edge = at - window.span - window.width
        if at - window.span < rows[0] >= window.since and (not window.n or window.start > edge):
            left = window.left(edge) if at >= window.expiry else 0
            waiting = len(rows) // state.layout.width - state.ahead.get(cell, 0)
            return window.past_n - left + window.n + waiting
    return cast(int, asked(state, cell).count(at))


def finite(number: float) -> float | None:
    """The result of a calculation; None if it has left what a float can hold."""
    return number if -1e308 < number < 1e308 else None


def every(*truths: bool | None) -> bool | None:
    """Whether all are true, by Kleene's logic."""
    return False if False in truths else None if None in truths else True


def some(*truths: bool | None) -> bool | None:
    """Whether one is true, by Kleene's logic."""
    return True if True in truths else None if None in truths else False


def opposite(truth: bool | None) -> bool | None:
    """Whether it is false, by Kleene's logic."""
    return None if truth is None else not truth


def least(at: int, *times: int) -> int:
    """The earliest of some times that is later than `at`."""
    found = NEVER
    for time in times:
        if at < time < found:
            found = time
    return found


class Generator:
    """Turns checked conditions into code and functions.

    Code refers to `s` (the device's state), V (its last values), T (their times), C (its cells) and `at`.
    Where it stands among code that has a signal's new value already, `local` maps the signal's slot to the
    variable that holds it.
    """

    def __init__(
        self,
        slots: Mapping[str, int],
        cells: Mapping[Cell, int],
        world: World,
        local: Mapping[int, str] | None = None,
    ) -> None:
        self._slots = slots
        self._cells = cells
        self._local = local or {}
        self._source: list[str] = []
        self._temporaries = 0
        self._asked: dict[str, str] = {}  # code → the variable that holds what it gave, not None
        self.names: dict[str, Any] = {
            "world": world, "finite": finite, "least": least,
            "every": every, "some": some, "opposite": opposite, "asked": asked, "counted": counted,
        }  # fmt: skip

    def true(self, expression: Expression) -> str:
        """Code that is True when the expression is true."""
        return self.truth(expression.term)

    def false(self, expression: Expression) -> str:
        """Code that is True when the expression is false."""
        return self.untruth(expression.term)

    def truth(self, term: Term) -> str:
        """Code that is True when a term is true."""
        return self._all([term])

    def untruth(self, term: Term) -> str:
        """Code that is True when a term is false."""
        return self._all([term], wanted=False)

    def add(self, name: str, code: str, failed: str, otherwise: str = "False") -> None:
        """A function of that code; an exception in it gives `otherwise`, after a call of `failed`()."""
        self._temporaries = 0
        self._source += [
            f"def {name}(s, at):",
            "    V = s.values; T = s.times; C = s.cells",
            "    try:",
            f"        return {code}",
            "    except Exception:",
            f"        {failed}()",
            f"        return {otherwise}",
        ]

    def functions(self, names: Mapping[str, Any]) -> dict[str, Any]:
        """Compile what was added; `names` are what it may call."""
        scope: dict[str, Any] = {"__builtins__": {"Exception": Exception}, **self.names, **names}
        exec(compile("\n".join(self._source), "<conditions>", "exec"), scope)
        return scope

    def wake(self, expression: Expression) -> str:
        """Code for the next time after `at` at which what the expression is, true, false or unknown, can
        change without a reading."""
        return self._least(self._guarded_wakes(expression.term))

    def turns(self, expression: Expression) -> str:
        """The same for whether it is true."""
        return self._turns(expression.term)

    def _least(self, times: Iterable[str]) -> str:
        some = ", ".join(dict.fromkeys(times))
        return f"least(at, {some})" if some else str(NEVER)

    def _turns(self, term: Term) -> str:
        """An `and` cannot become true before the first of its terms that is not: it is looked at again then.
        Of those that time changes, what is cheap is asked first."""
        if not isinstance(term, Logic) or term.operator == "not":
            return self._least(self._wakes(term))
        turning = sorted((inner for inner in term.terms if self._wakes(inner)), key=self._cost)
        code = self._least(self._turns(inner) for inner in turning)
        if term.operator == "or":
            return code
        for inner in reversed(turning):
            if not _told_elsewhere(inner):
                code = f"({code} if {self.truth(inner)} else {self._turns(inner)})"
        so = self.standing(term)
        return f"({code} if {so} else {NEVER})" if turning and so else code

    def standing(self, term: Term) -> str:
        """Code for whether the terms of an `and` are true that only the device's own readings change; empty
        if it has none."""
        if not isinstance(term, Logic) or term.operator != "and":
            return ""
        stands = (inner for inner in term.terms if not self._wakes(inner) and not _told_elsewhere(inner))
        return self._all(stands)

    def _guarded_wakes(self, term: Term) -> list[str]:
        """Windows of an `and` need not be waited for while a comparison without windows is not true: it is
        looked at again when that becomes true."""
        if not isinstance(term, Logic) or term.operator != "and":
            return self._wakes(term)
        cheap, dear = _by_cost(term)
        times, waits = ([code for inner in group for code in self._wakes(inner)] for group in (cheap, dear))
        if cheap and waits:
            so = self._all(cheap)
            waits = [f"(least(at, {', '.join(waits)}) if {so} else -1)"]
        return [*times, *waits]

    def _wakes(self, term: Term) -> list[str]:
        match term:
            case Logic():
                return [code for inner in term.terms for code in self._wakes(inner)]
            case Compare():
                if _pace(term.left) is not None and _pace(term.left) == _pace(term.right):
                    return []  # both grow alike
                return [
                    code
                    for side, other in ((term.left, term.right), (term.right, term.left))
                    if not isinstance(side, tuple)
                    for code in (self._passes(side, other) or self._wakes(side))
                ]
            case Arithmetic():
                return [*self._wakes(term.left), *self._wakes(term.right)]
            case Last(span=int() as span):
                return [f"T[{self._slots[term.signal.name]}] + {span + 1}"]
            case Over():
                losing = f"asked(s, {self._cells[cells_of(term)[0]]}).leaves(at)"
                return [losing, _NEXT_QUARTER] if term.function == "days_until" else [losing]
            case Call(function="silent"):
                return [f"s.newest + {term.span}"]
            case Call(function="held"):
                cell = self._cell(term)
                held = f"{cell}.since + {term.span} if {cell}.on else -1"
                return [held, *self._wakes(cast(Term, term.condition))]
            case Call(function="times"):
                return [f"{self._cell(term)}.leaves(at)"]
            case Call(function="local_hour" | "age" | "since", condition=condition):
                return [_NEXT_QUARTER, *(self._wakes(condition) if condition is not None else [])]
        return []

    def _passes(self, side: Term, other: object) -> list[str]:
        """When a time that grows by itself reaches a number of seconds, and when it has passed it."""
        limit = other.value if isinstance(other, Constant) else None
        if not isinstance(side, Call) or isinstance(limit, bool) or not isinstance(limit, int | float):
            return []
        if side.function == "local_hour":
            return [f"world.next_hour(s, at, {limit!r})"]
        after = round(limit * 1000)
        if side.function == "age":
            newest = f"{self._cell(side)}.ts"
            return [f"{newest} + {after}", f"{newest} + {after + 1}"]
        if side.function == "since":
            cell = self._cell(side)
            return [f"-1 if {cell}.on else {cell}.since + {after + k}" for k in (0, 1)]
        return []

    def _all(self, terms: Iterable[Term], joint: str = " and ", wanted: bool = True) -> str:
        """Code that is True when all terms are, or one of them is; behind an `and` nothing is asked again."""
        before, codes = self._asked, []
        self._asked = dict(before)
        for term in sorted(terms, key=self._cost):
            codes.append(self._truth(term, wanted))
            if joint == " or ":
                self._asked = dict(before)
        self._asked = before
        return joint.join(codes)

    def _truth(self, term: Term, wanted: bool) -> str:
        match term:
            case Constant():
                return repr(term.value is wanted)
            case Logic(operator="not"):
                return self._truth(term.terms[0], not wanted)
            case Logic():
                joint = " and " if (term.operator == "and") is wanted else " or "
                return f"({self._all(term.terms, joint, wanted)})"
            case Compare():
                return self._compare(term, wanted)
            case Call(function="held") if wanted:
                return self._held(term)
        return f"({self.value(term)} is {wanted})"

    def _cost(self, term: Term) -> int:
        """What is cheap is asked first: the order changes no answer, and most often the rest is not needed. A
        window whose signal has just come costs most, for it has to take what has waited in."""
        match term:
            case Logic():
                return sum(self._cost(inner) for inner in term.terms)
            case Compare() | Arithmetic():
                return sum(
                    self._cost(side) for side in (term.left, term.right) if not isinstance(side, tuple)
                )
            case Over():
                return _DEAR.get(term.function, 4) + 5 * (self._slots[term.signal.name] in self._local)
            case Call():
                return _DEAR.get(term.function, 4)
        return isinstance(term, Last)

    def _compare(self, term: Compare, wanted: bool) -> str:
        known: list[str] = []
        asked = dict(self._asked)
        so = self._comparison(term, wanted, known, asked)
        self._asked = asked
        return f"({' and '.join([*known, so])})"

    def _comparison(self, term: Compare, wanted: bool, known: list[str], asked: dict[str, str]) -> str:
        """Code for what is asked if both sides are known; `known` gets the code that says so."""
        left = self._operand(term.left, known, asked)
        right = repr(term.right) if isinstance(term.right, tuple) else self._operand(term.right, known, asked)
        so = f"{left} {term.operator} {right}"
        return so if wanted else f"not {so}"

    def _operand(self, term: Term, known: list[str], asked: dict[str, str]) -> str:
        """A name or literal for the term's value; `known` gets the code that says it has one, `asked` what it
        stands for."""
        if isinstance(term, Constant):
            return repr(term.value)
        code = self.value(term)
        if self._surely_known(term):
            return code
        if code in self._asked:
            return self._asked[code]
        name = f"t{self._temporaries}"
        self._temporaries += 1
        known.append(f"({name} := {code}) is not None")
        asked[code] = name
        return name

    def _surely_known(self, term: Term) -> bool:
        return isinstance(term, Last) and self._slots[term.signal.name] in self._local

    def value(self, term: Term) -> str:
        """Code for the term's value, or None."""
        match term:
            case Constant():
                return repr(term.value)
            case Last():
                slot = self._slots[term.signal.name]
                if slot in self._local:
                    return self._local[slot]
                return (
                    f"V[{slot}]"
                    if term.span is None
                    else f"(V[{slot}] if at - T[{slot}] <= {term.span} else None)"
                )
            case Over():
                return self._over(term)
            case Call():
                return self._call(term)
            case Arithmetic():
                known: list[str] = []
                left, right = self._operand(term.left, known, {}), self._operand(term.right, known, {})
                if term.operator == "/" and not isinstance(term.right, Constant):
                    known.append(f"{right} != 0")
                result = f"finite({left} {term.operator} {right})"
                return f"({result} if {' and '.join(known)} else None)" if known else result
            case Logic(operator="not"):
                return f"opposite({self.value(term.terms[0])})"
            case Logic():
                joined = "every" if term.operator == "and" else "some"
                return f"{joined}({', '.join(self.value(inner) for inner in term.terms)})"
        known = []
        so = self._comparison(term, True, known, {})
        return f"({so} if {' and '.join(known)} else None)" if known else f"({so})"

    def _over(self, term: Over) -> str:
        slot, cell = self._slots[term.signal.name], self._cells[cells_of(term)[0]]
        form = _OVER.get(term.function, "{c}." + term.function + "(at)")
        code = form.format(c=f"asked(s, {cell})", cell=cell, slot=slot, number=repr(term.number))
        if slot in self._local:
            code = code.replace(f"V[{slot}]", self._local[slot]).replace(f"T[{slot}]", "at")
        return code

    def _cell(self, term: Call) -> str:
        return f"C[{self._cells[cells_of(term)[-1]]}]"

    def _call(self, term: Call) -> str:
        places = [self._last(signal.name) for signal in term.signals]
        match term.function:
            case "age":
                return f"{self._cell(term)}.age(at)"
            case "previous":
                return f"{self._cell(term)}.before"
            case "crossed":
                way = "fell" if term.texts == ("down",) else "crossed"
                return f"{self._cell(term)}.{way}({term.number!r})"
            case "held":
                no = self.untruth(cast(Term, term.condition))
                return f"({self._held(term)} if {self._cell(term)}.on else False if {no} else None)"
            case "times":
                return f"{self._cell(term)}.times(at)"
            case "since":
                return f"{self._cell(term)}.elapsed(at)"
            case "usage":
                return f"{self._cell(term)}.counted"
            case "fleet":
                return f"{self._cell(term)}.deviation()"
            case "silent":
                return f"(at - s.newest >= {term.span})"
            case "local_hour":
                return "world.hour(s, at)"
            case "code":
                name = f"codes{len(self.names)}"
                self.names[name] = Codes(term.texts)
                return f"{name}({places[0]})"
            case "context":
                place = ", ".join(places) or "None, None"
                return f"world.shared({term.texts[0]!r}, {term.texts[1]!r}, {place})"
        texts = "".join(f"{text!r}, " for text in term.texts)
        return f"world.{term.function}({texts}{', '.join(places)})"

    def _held(self, term: Call) -> str:
        return f"{self._cell(term)}.held(at, {term.span})"

    def _last(self, name: str) -> str:
        slot = self._slots[name]
        return self._local.get(slot, f"V[{slot}]")


def _told_elsewhere(term: Term) -> bool:
    """Whether other devices, or what they share, change it without a reading of its own."""
    return any(isinstance(leaf, Call) and leaf.function in ("fleet", "context") for leaf in leaves(term))


def _pace(term: Term | tuple[str, ...]) -> int | None:
    """How many seconds a number grows by in a second without a reading; None where that cannot be told."""
    match term:
        case Constant() | Last(span=None):
            return 0
        case Call(function="age"):
            return 1
        case Arithmetic(operator="+" | "-" as operator):
            left, right = _pace(term.left), _pace(term.right)
            if left is None or right is None:
                return None
            return left + right if operator == "+" else left - right
    return None


def asks_itself(term: Term, names: frozenset[str]) -> bool:
    """Whether it asks about one of these signals itself, not only in the condition of a `held`, `times` or
    `since`; or about silence."""
    return any(_asks(leaf, names) for leaf in leaves(term))


def _asks(leaf: Term, names: frozenset[str]) -> bool:
    match leaf:
        case Last() | Over():
            return leaf.signal.name in names
        case Call(condition=None):
            return leaf.function == "silent" or any(signal.name in names for signal in leaf.signals)
    return False
