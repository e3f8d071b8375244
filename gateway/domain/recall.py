"""Recalls: what the manufacturer has to mend, and which products it concerns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Recall:
    """A campaign. What owners read stands in it, for no rule's texts do."""

    id: str
    kind: str
    """device kind"""
    title: Mapping[str, str]
    """{language: one sentence without an end}"""
    body: Mapping[str, str] = field(default_factory=dict)
    """{language: what is wrong, and what to do until it is mended}"""
    reference: str | None = None
    """the authority's or the manufacturer's number"""
    service: str | None = None
    """what a workshop does about it; None: the owner is told, nothing is booked"""
    severity: str = "warning"
    """warning, or critical: dangerous now or in use"""
    created: int = 0
    by: str = ""
    """who began it"""

    @property
    def rule(self) -> str:
        """What stands for a rule in its findings."""
        return f"recall-{self.id}"

    @property
    def evidence(self) -> dict[str, Any]:
        """What its findings carry."""
        told = {"title": dict(self.title), "body": dict(self.body)}
        return {"recall": {**told, "reference": self.reference, "service": self.service}}


@dataclass(frozen=True, kw_only=True, slots=True)
class Affected:
    """Which products a campaign concerns: those named, or all of a kind that fit the rest."""

    devices: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    firmware: tuple[str, ...] = ()
    serial_from: str | None = None
    """serial numbers as texts of the same length, both ends included"""
    serial_to: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a campaign has come, in products."""

    devices: int = 0
    waiting: int = 0
    """not raised yet"""
    nobody: int = 0
    """nobody to tell: registered to nobody"""
    deferred: int = 0
    open: int = 0
    """with their owners, unanswered"""
    answered: int = 0
    """put off, or a call asked for"""
    booked: int = 0
    done: int = 0
