"""What is wrong with the messages: what is missing in a language, placeholders that nothing fills, plurals
without all their forms.

What is missing falls back (to English, then to a more general text), so it is told and stops nothing; a
placeholder that no finding of the rule can fill, or a plural that lacks a form, is a fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.domain.texts import FALLBACK, Texts
from rules import Catalogue, Rule

PARTS = ("name", "title", "body", "why", "found")
"""What a rule's own texts consist of; the general ones stand in for each by itself."""

ALWAYS = frozenset({"product", "workshop", "service", "minutes", "signal", "value"})
"""What every matter brings along, and the value that its condition looks at first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageFault:
    """One thing about one text."""

    kind: str
    """missing, placeholder, plural or differs"""
    language: str
    key: str
    problem: str
    """in one sentence, with what to do"""

    @property
    def falls_back(self) -> bool:
        """Whether something else is said in its place, so that nothing is broken."""
        return self.kind == "missing"

    def __str__(self) -> str:
        return f"messages/{self.language}: {self.key}: {self.problem}"


def check(texts: Texts, rules: Sequence[Rule], signals: Catalogue) -> list[MessageFault]:
    """Everything about these rules' texts, and about every text: by language and key."""
    found = [*_missing(texts), *_plurals(texts), *_differing(texts)]
    for rule in rules:
        found += check_rule(texts, rule, signals)
    unique = {(fault.language, fault.key, fault.kind): fault for fault in found}
    return [unique[key] for key in sorted(unique)]


def check_rule(texts: Texts, rule: Rule, signals: Catalogue) -> Iterator[MessageFault]:
    """The texts of one rule, in every language."""
    known = fillable(rule, signals)
    every = [(language, f"touchpoints.{rule.id}.{part}") for language in texts.languages() for part in PARTS]
    if not any(texts.spoken(*one) for one in every):
        problem = "no text of its own; it is worded from its kind, its service and its signals."
        yield MessageFault(kind="missing", language=FALLBACK, key=f"touchpoints.{rule.id}", problem=problem)
        return
    for language in texts.languages():
        for part in PARTS:
            key = f"touchpoints.{rule.id}.{part}"
            if not texts.spoken(language, key):
                yield _missing_fault(texts, language, key)
                continue
            for name in sorted(texts.needs(language, key) - known):
                instead = ", ".join(sorted(known))
                problem = f"{{{name}}} is filled by no finding of {rule.id}; write one of {instead}."
                yield MessageFault(kind="placeholder", language=language, key=key, problem=problem)


def fillable(rule: Rule, signals: Catalogue) -> frozenset[str]:
    """The placeholders that every finding of a rule fills: its signals, and of a first one that wears its
    limit, what it is when new, and what is left."""
    names = set(ALWAYS) | set(rule.signals) | {"ts"}
    charted = signals.signal(rule.kind, rule.signals[0]) if rule.signals else None
    if charted is not None and charted.wear is not None:
        names |= {"worn_out", "new"}
        if charted.display is None:
            names.add("left")
    return frozenset(names)


def _missing(texts: Texts) -> Iterator[MessageFault]:
    every = {key for language in texts.languages() for key in texts.keys(language)}
    for language in texts.languages():
        for key in sorted(every - texts.keys(language)):
            yield _missing_fault(texts, language, key)


def _missing_fault(texts: Texts, language: str, key: str) -> MessageFault:
    instead = (
        "English is said instead" if texts.spoken(FALLBACK, key) else "a more general text is said instead"
    )
    return MessageFault(kind="missing", language=language, key=key, problem=f"missing; {instead}.")


def _plurals(texts: Texts) -> Iterator[MessageFault]:
    for language in texts.languages():
        for key, lacking, odd in texts.plural_faults(language):
            if lacking:
                problem = f"the plural lacks {', '.join(lacking)}; write every form that the language has."
                yield MessageFault(kind="plural", language=language, key=key, problem=problem)
            if odd:
                problem = f"the plural has {', '.join(odd)}, which the language never asks for."
                yield MessageFault(kind="plural", language=language, key=key, problem=problem)


def _differing(texts: Texts) -> Iterator[MessageFault]:
    """A placeholder that the English text of the same key does not have is a slip of the pen."""
    for language in texts.languages():
        if language == FALLBACK:
            continue
        for key in sorted(texts.keys(language) & texts.keys(FALLBACK)):
            for name in sorted(texts.needs(language, key) - texts.needs(FALLBACK, key)):
                problem = f"{{{name}}} does not stand in the English text; is it meant?"
                yield MessageFault(kind="differs", language=language, key=key, problem=problem)
