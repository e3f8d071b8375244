"""What customers speak of, and which department looks after it: words by topic and language, as configured.

TopicsError   the file does not say what it has to
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

WITHIN = 5
"""From so many letters on a word counts within another one, too: German puts words together."""
BEGINS = 4
"""Shorter words count only as whole ones: an appointment is no app."""
TOKEN = re.compile(r"[^\W\d_]+")
KEY_LETTERS = 6
"""Words that begin with the same letters are one: a stem that needs no language."""
WORD_LETTERS = 5
"""Shorter words say little by themselves."""


class TopicsError(Exception):
    """The file does not say what it has to; the message says where."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Topic:
    """Something that customers speak of."""

    id: str
    department: str
    names: Mapping[str, str]
    words: tuple[str, ...]
    """of all languages, lower case"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Topics:
    """All topics, and who looks after what."""

    departments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """{id: {language: name}}"""
    default: str = "after-sales"
    findings: Mapping[str, str] = field(default_factory=dict)
    """{purpose of a rule: department}"""
    topics: tuple[Topic, ...] = ()

    def of(self, text: str) -> Topic | None:
        """What a text is about; None where it has none of the words."""
        low = text.casefold()
        tokens = TOKEN.findall(low)
        hits = [(sum(_holds(word, low, tokens) for word in one.words), one) for one in self.topics]
        most = max((count for count, _ in hits), default=0)
        return next((one for count, one in hits if count == most), None) if most else None

    def department_of(self, topic: str | None) -> str:
        """Who looks after a topic."""
        return next((one.department for one in self.topics if one.id == topic), self.default)

    def name(self, department: str, language: str) -> str:
        """What a department is called."""
        names = self.departments.get(department, {})
        return names.get(language) or names.get("en") or department


def _holds(word: str, text: str, tokens: list[str]) -> bool:
    if " " in word:
        return word in text
    if len(word) < BEGINS:
        return word in tokens
    if any(token.startswith(word) for token in tokens):
        return True
    return len(word) >= WITHIN and any(word in token for token in tokens)


def stems(text: str) -> set[str]:
    """The words of a text that say something, cut to what related words share."""
    return {token[:KEY_LETTERS] for token in TOKEN.findall(text.casefold()) if len(token) >= WORD_LETTERS}


# --- the file -----------------------------------------------------------------------------------


class _Topic(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    department: str
    names: dict[str, str]
    words: dict[str, list[str]]


class _File(msgspec.Struct, forbid_unknown_fields=True):
    departments: dict[str, dict[str, str]]
    default: str
    findings: dict[str, str]
    topics: list[_Topic]


def parse_topics(raw: Any) -> Topics:
    """From what the file holds. Raises TopicsError."""
    try:
        given = msgspec.convert(raw, _File)
    except msgspec.ValidationError as error:
        raise TopicsError(f"topics: {error}") from error
    asked = [given.default, *given.findings.values(), *(one.department for one in given.topics)]
    unknown = sorted({name for name in asked if name not in given.departments})
    if unknown:
        raise TopicsError(f"topics: no department {', '.join(unknown)} is named under departments")
    return Topics(
        departments=given.departments,
        default=given.default,
        findings=given.findings,
        topics=tuple(
            Topic(
                id=one.id,
                department=one.department,
                names=one.names,
                words=tuple(word.casefold() for words in one.words.values() for word in words),
            )
            for one in given.topics
        ),
    )
