"""rule_history: every version of a rule that held, from when until when, and who let it.

What held is known already: rule sets are kept whole, and so is from when on each of them held. A version of
one rule is what its text was over sets that followed one another.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gateway.domain.rule_sets import Activation
from gateway.ports import Records
from rules.passages import passage

SETS_MOST = 200
"""So many of the newest changes of the rules are looked through."""


KNOWN_MOST = 2_000
_KNOWN: dict[tuple[str, str], tuple[tuple[int, str] | None]] = {}
"""{(set, rule): what the rule was in it}: a set never changes, and reading one takes a while"""


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleVersion:
    """A rule as it held for a while."""

    version: int
    text: str
    """as it stands in its file"""
    since: int
    """ms: when it was asked for"""
    until: int | None
    """ms; None: it holds"""
    by: str
    """who let it hold: "start", "signal" (a command on the machine), or whose token or session it was"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One line of a difference."""

    sign: str
    """+ new, - gone, blank: as before, … lines as before that are left out"""
    text: str


def versions(records: Records, rule: str) -> list[RuleVersion]:
    """What a rule was, the newest first; nothing of a rule that never held."""
    held = [one for one in records.rule_sets.history(limit=SETS_MOST) if one.position is not None]
    found: list[RuleVersion] = []
    for activation in sorted(held, key=lambda one: one.position or 0):
        found = _followed(found, _told(records, activation.rule_set, rule), activation)
    return found[::-1]


def _followed(
    found: list[RuleVersion], told: tuple[int, str] | None, activation: Activation
) -> list[RuleVersion]:
    """With what the rule was in the set that follows."""
    last = found[-1] if found and found[-1].until is None else None
    if last is not None and told == (last.version, last.text):
        return found
    if last is not None:
        found = [*found[:-1], replace(last, until=activation.at)]
    if told is None:
        return found
    version, text = told
    new = RuleVersion(version=version, text=text, since=activation.at, until=None, by=activation.by)
    return [*found, new]


def _told(records: Records, rule_set: str, rule: str) -> tuple[int, str] | None:
    known = _KNOWN.get((rule_set, rule))
    if known is None and (sources := records.rule_sets.sources(rule_set)) is not None:
        found = (told for _, text in sources.rules if (told := passage(text, rule)) is not None)
        known = (next(found, None),)
        if len(_KNOWN) >= KNOWN_MOST:
            _KNOWN.clear()
        _KNOWN[rule_set, rule] = known
    return known[0] if known else None


def changes(before: str, after: str, context: int = 2) -> list[Change]:
    """What differs between two texts, line by line, with `context` lines around it."""
    old, new = before.splitlines(), after.splitlines()
    groups = list(difflib.SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(context))
    lines: list[Change] = []
    for group in groups:
        if lines or group[0][1] > 0:
            lines.append(Change(sign="…", text=""))
        lines += _lines(group, old, new)
    if groups and groups[-1][-1][2] < len(old):
        lines.append(Change(sign="…", text=""))
    return lines


def _lines(
    group: Sequence[tuple[str, int, int, int, int]], old: Sequence[str], new: Sequence[str]
) -> Iterator[Change]:
    for tag, old_from, old_to, new_from, new_to in group:
        if tag == "equal":
            yield from (Change(sign=" ", text=line) for line in old[old_from:old_to])
            continue
        yield from (Change(sign="-", text=line) for line in old[old_from:old_to])
        yield from (Change(sign="+", text=line) for line in new[new_from:new_to])
