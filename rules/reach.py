"""What a condition can become for a device that has never sent some signals.

Most devices of a kind lack signals that some of its rules ask about. Such a rule is unknown whatever else
comes, so that it need not be evaluated until the missing signal comes for the first time.
"""

from __future__ import annotations

from collections.abc import Collection

from rules.expressions import Arithmetic, Call, Compare, Constant, Last, Logic, Over, Term

_OWN = frozenset(("age", "previous", "crossed", "usage", "fleet", "code"))
"""Functions that have no value without their signal."""
_ALWAYS = frozenset(("count", "sum"))
"""Functions of a window that are 0, not unknown, while it is empty."""


def reachable(term: Term, wanted: bool, known: Collection[str]) -> bool:
    """Whether a condition may be true, or false, of a device that has only ever sent the `known` signals.

    Where that is hard to tell it may."""
    match term:
        case Constant():
            return term.value is wanted
        case Logic(operator="not"):
            return reachable(term.terms[0], not wanted, known)
        case Logic():
            every = all if (term.operator == "and") is wanted else any
            return every(reachable(inner, wanted, known) for inner in term.terms)
        case Call(function="held", condition=condition) if condition is not None:
            return not wanted or reachable(condition, True, known)
    return _valued(term, known)


def _valued(term: Term, known: Collection[str]) -> bool:
    match term:
        case Last():
            return term.signal.name in known
        case Over():
            return term.function in _ALWAYS or term.signal.name in known
        case Arithmetic():
            return _valued(term.left, known) and _valued(term.right, known)
        case Compare():
            right = term.right
            return _valued(term.left, known) and (isinstance(right, tuple) or _valued(right, known))
        case Call(function="since", condition=condition) if condition is not None:
            return reachable(condition, True, known)
        case Call() if term.function in _OWN:
            return all(signal.name in known for signal in term.signals)
    return True
