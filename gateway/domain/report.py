"""What owners say themselves, and the pictures that belong to matters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Attachment:
    """A picture that somebody gave: of an owner's report, or of extra work."""

    id: str
    owner: str | None
    """whose data it is"""
    device: str | None
    kind: str
    """report, extra_work"""
    media_type: str
    body: bytes = field(repr=False)
    created: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """ "Something is wrong", in an owner's words."""

    id: str
    owner: str
    device: str
    text: str
    photo: str | None
    """id of an attachment"""
    touchpoint: str
    """the matter it opened"""
    around: Mapping[str, Any]
    """what the product sent around that moment: {"from", "to", "readings": {signal: [[ms, value]]},
    "latest": {signal: [ms, value]}, "open": [{"finding", "rule"}], "codes": […]}"""
    created: int
