"""Households: who belongs to a device besides its owner, and who looked at an owner's data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Part(StrEnum):
    """What somebody is to a device."""

    OWNER = "owner"  # whose it is; stands in the device's own row and is never invited
    DRIVER = "driver"  # uses it as if it were theirs: the driver of a company van
    MEMBER = "member"  # lives with it


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """One person's part in a device, from when until when."""

    device: str
    owner: str
    """owner id of the person"""
    role: Part
    asked: bool
    """the one whom its matters are addressed to; one person of a device at a time"""
    may_answer: bool
    """may answer what another one was asked; who is asked may always"""
    sees: bool
    """sees the product, its readings and its ledger, from `since` on"""
    since: int
    """ms"""
    until: int | None = None
    """ms; None while it holds"""
    by: str = ""
    """who brought them in: owner id, or operator"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Invitation:
    """An owner asks somebody to share a product; taken up by a link, once."""

    id: str
    device: str
    by: str
    """owner id of who invites, or operator"""
    role: Part
    asked: bool
    may_answer: bool
    sees: bool
    created: int
    expires: int
    """ms"""
    name: str = ""
    """whom the owner had in mind, as they wrote it"""
    taken_by: str | None = None
    """owner id of who took it up"""
    ended: int | None = None
    """ms when it was taken up or called back"""

    def open(self, now: int) -> bool:
        """Whether it can be taken up."""
        return self.ended is None and now < self.expires


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """Somebody looked at, or received, something of an owner's; kept once a day and thing."""

    owner: str
    by: str
    """who: workshop id, name of a system, or operator"""
    what: str
    """`kind:id`: product:car-1, diagnosis:<appointment>, matter:<touchpoint>, owner:<id>, …"""
    day: int
    """days since the epoch, UTC"""
    role: str
    why: str
    """a word (`phone`, `work_on_visit`, …) or a sentence of who looked"""
    at: int
