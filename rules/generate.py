"""Checked conditions become Python functions, generated from their terms alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from rules.expressions import Arithmetic, Compare, Constant, Expression, Last, Logic, Over, Term
from rules.readings import Known
from rules.windows import Window

Truth: TypeAlias = bool | None
Condition: TypeAlias = Callable[[Sequence[Known | None], Sequence[int], Sequence[Window], int], Truth]
"""(last values, their times, windows, the time it is asked for) → the condition's truth"""


class Generator:
    """Turns checked conditions into functions, all of one kind of device in one go."""

    def __init__(self, slots: Mapping[str, int], windows: Mapping[tuple[str, int], int]) -> None:
        self._slots = slots
        self._windows = windows
        self._source: list[str] = []
        self._temporaries = 0

    def add(self, name: str, expression: Expression, failed: str) -> None:
        """Generate `name`; an exception in it counts as None, after a call of `failed`()."""
        self._temporaries = 0
        body: list[str] = []
        result = self._emit(expression.term, body)
        self._source += [
            f"def {name}(V, T, W, at):",
            "    try:",
            *(f"        {line}" for line in body),
            f"        return {result}",
            "    except Exception:",
            f"        {failed}()",
            "        return None",
        ]

    def functions(self, names: Mapping[str, Any]) -> dict[str, Any]:
        """Compile what was added; `names` are what it may call."""
        scope: dict[str, Any] = {"__builtins__": {"Exception": Exception}, **names}
        exec(compile("\n".join(self._source), "<conditions>", "exec"), scope)
        return scope

    def _set(self, body: list[str], code: str) -> str:
        name = f"t{self._temporaries}"
        self._temporaries += 1
        body.append(f"{name} = {code}")
        return name

    def _emit(self, term: Term | tuple[str, ...], body: list[str]) -> str:
        match term:
            case tuple():
                return repr(term)
            case Constant():
                return repr(term.value)
            case Last():
                return self._last(term, body)
            case Over():
                window = self._windows[term.signal.name, term.span]
                return self._set(body, f"W[{window}].{term.function}(at)")
            case Arithmetic():
                return self._arithmetic(term, body)
            case Compare():
                left, right = self._emit(term.left, body), self._emit(term.right, body)
                return self._set(
                    body, self._known(f"{left} {term.operator} {right}", term.left, left, term.right, right)
                )
            case Logic():
                return self._logic(term, body)

    def _known(
        self, code: str, left: Term, left_name: str, right: Term | tuple[str, ...], right_name: str
    ) -> str:
        """`code`, or None if one of its operands is."""
        unknown = [
            f"{name} is None"
            for side, name in ((left, left_name), (right, right_name))
            if not isinstance(side, Constant | tuple)
        ]
        return f"None if {' or '.join(unknown)} else {code}" if unknown else code

    def _last(self, term: Last, body: list[str]) -> str:
        slot = self._slots[term.signal.name]
        if term.span is None:
            return self._set(body, f"V[{slot}]")
        return self._set(body, f"V[{slot}] if at - T[{slot}] <= {term.span} else None")

    def _arithmetic(self, term: Arithmetic, body: list[str]) -> str:
        left, right = self._emit(term.left, body), self._emit(term.right, body)
        code = f"{left} {term.operator} {right}"
        if term.operator == "/":
            code = f"None if {right} == 0 else {code}"
        name = self._set(body, self._known(code, term.left, left, term.right, right))
        body.append(f"if {name} is not None and not -1e308 < {name} < 1e308: {name} = None")
        return name

    def _logic(self, term: Logic, body: list[str]) -> str:
        names = [self._emit(inner, body) for inner in term.terms]
        if term.operator == "not":
            return self._set(body, f"None if {names[0]} is None else not {names[0]}")
        decides, otherwise = ("True", "False") if term.operator == "or" else ("False", "True")
        one = " or ".join(f"{name} is {decides}" for name in names)
        unknown = " or ".join(f"{name} is None" for name in names)
        return self._set(body, f"{decides} if {one} else None if {unknown} else {otherwise}")
