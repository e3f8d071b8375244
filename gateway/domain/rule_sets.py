"""Rule sets: the texts that rules are read from, and from when on a set of them holds.

A set is known by a hash of its texts, whatever its files are called and wherever they lie. It holds from
a position of the journal on, so that the same log gives the same findings under whichever process.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeAlias

File: TypeAlias = tuple[str, str]
"""(name of the file, its text)"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """Everything that a rule set is made of."""

    signals: tuple[File, ...]
    """signal catalogues and zones"""
    rules: tuple[File, ...]

    @property
    def id(self) -> str:
        """32 hex digits; the same for the same texts in the same order."""
        texts = [[text for _, text in part] for part in (self.signals, self.rules)]
        return blake2b(json.dumps(texts).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Activation:
    """A rule set that was asked to hold."""

    id: str
    """of the control entry that brings it into the journal"""
    rule_set: str
    """`Sources.id`"""
    at: int
    """ms: when it was asked for"""
    by: str
    """"start", "signal", or who asked, by the name of their account, session or token"""
    rules: int = 0
    """how many rules it has"""
    position: int | None = None
    """the journal position from which on it holds; None while it is on its way, or refused"""
    faults: tuple[str, ...] = ()
    """why it was refused, each with file, line and column; the set that held before holds on"""

    @property
    def refused(self) -> bool:
        return bool(self.faults)


def folded(faults: Iterable[object], most: int = 200) -> tuple[str, ...]:
    """Faults as lines; of very many the first ones, and how many more there are."""
    lines = [str(fault) for fault in faults]
    return (*lines[:most], f"and {len(lines) - most} more") if len(lines) > most else tuple(lines)
