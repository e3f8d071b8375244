"""Checked conditions become Python functions, generated from their terms alone.

For each term there is code that is True exactly when the term is true, and code that is True exactly when
it is false; where neither is, it cannot be evaluated. So Kleene's logic needs no third value at run
time: `not a` is true where `a` is false, `a and b` is false where one of them is, and what is not
needed is not computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from rules.expressions import Arithmetic, Call, Compare, Constant, Expression, Last, Logic, Over, Term
from rules.readings import Known
from rules.windows import Window

Test: TypeAlias = Callable[
    [Sequence[Known | None], Sequence[int], Sequence[Window] | Mapping[int, Window], int], bool
]
"""(last values, their times, windows, the time it is asked for) → whether it is so"""


_INLINE = {
    "avg": "{w}.avg(at)",
    "count": "({w}.past_n + {w}.n)",
    "max": "({w}.high if {w}.high > {w}.past_high else {w}.past_high)",
    "min": "({w}.low if {w}.low < {w}.past_low else {w}.past_low)",
}
"""What Window's methods compute, of a window that is up to date and not empty."""


def finite(number: float) -> float | None:
    """The result of a calculation; None if it has left what a float can hold."""
    return number if -1e308 < number < 1e308 else None


class Generator:
    """Turns checked conditions into code and functions.

    Code refers to V (last values), T (their times), W (windows) and `at`. Where it stands among code that
    has a signal's new value already, `local` maps the signal's slot to the variable that holds it; its
    windows are then in variables `w0`, `w1`, … by their slots, are up to date and not empty.
    """

    def __init__(
        self,
        slots: Mapping[str, int],
        windows: Mapping[tuple[str, int], int],
        local: Mapping[int, str] | None = None,
    ) -> None:
        self._slots = slots
        self._windows = windows
        self._local = local or {}
        self._source: list[str] = []
        self._temporaries = 0

    def true(self, expression: Expression) -> str:
        """Code that is True when the expression is true."""
        return self._truth(expression.term, True)

    def false(self, expression: Expression) -> str:
        """Code that is True when the expression is false."""
        return self._truth(expression.term, False)

    def add(self, name: str, code: str, failed: str) -> None:
        """A function of that code; an exception in it counts as False, after a call of `failed`()."""
        self._temporaries = 0
        self._source += [
            f"def {name}(V, T, W, at):",
            "    try:",
            f"        return {code}",
            "    except Exception:",
            f"        {failed}()",
            "        return False",
        ]

    def functions(self, names: Mapping[str, Any]) -> dict[str, Any]:
        """Compile what was added; `names` are what it may call."""
        scope: dict[str, Any] = {"__builtins__": {"Exception": Exception}, "finite": finite, **names}
        exec(compile("\n".join(self._source), "<conditions>", "exec"), scope)
        return scope

    def _truth(self, term: Term, wanted: bool) -> str:
        match term:
            case Constant():
                return repr(term.value is wanted)
            case Logic(operator="not"):
                return self._truth(term.terms[0], not wanted)
            case Logic():
                joint = " and " if (term.operator == "and") is wanted else " or "
                return f"({joint.join(self._truth(inner, wanted) for inner in term.terms)})"
            case Compare():
                return self._compare(term, wanted)
        return f"{self._value(term)} is {wanted}"

    def _compare(self, term: Compare, wanted: bool) -> str:
        known: list[str] = []
        left = self._operand(term.left, known)
        right = repr(term.right) if isinstance(term.right, tuple) else self._operand(term.right, known)
        so = f"{left} {term.operator} {right}"
        return f"({' and '.join([*known, so if wanted else f'not {so}'])})"

    def _operand(self, term: Term, known: list[str]) -> str:
        """A name or literal for the term's value; `known` gets the code that says it has one."""
        if isinstance(term, Constant):
            return repr(term.value)
        if isinstance(term, Last | Over) and self._slots[term.signal.name] in self._local:
            return self._value(term)
        name = f"t{self._temporaries}"
        self._temporaries += 1
        known.append(f"({name} := {self._value(term)}) is not None")
        return name

    def _value(self, term: Term) -> str:
        """Code for the term's value, or None."""
        match term:
            case Constant():
                return repr(term.value)
            case Last():
                slot = self._slots[term.signal.name]
                if slot in self._local:
                    return self._local[slot]
                return f"V[{slot}]" if term.span is None else self._recent(slot, term.span)
            case Over() if (term.signal.name, term.span) not in self._windows:
                return "None"
            case Over():
                window = self._windows[term.signal.name, term.span]
                if self._slots[term.signal.name] in self._local:
                    return _INLINE[term.function].format(w=f"w{window}")
                return f"W[{window}].{term.function}(at)"
            case Call():
                return "None"
            case Arithmetic():
                known: list[str] = []
                left, right = self._operand(term.left, known), self._operand(term.right, known)
                if term.operator == "/" and not isinstance(term.right, Constant):
                    known.append(f"{right} != 0")
                result = f"finite({left} {term.operator} {right})"
                return f"({result} if {' and '.join(known)} else None)" if known else result
        return f"(True if {self._truth(term, True)} else False if {self._truth(term, False)} else None)"

    def _recent(self, slot: int, span: int) -> str:
        return f"(V[{slot}] if at - T[{slot}] <= {span} else None)"
