"""Devices: what was sold, whose it is, what is known of it now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rules.readings import Value


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """A product instance."""

    id: str
    kind: str
    model: str | None = None
    owner: str | None = None
    """id of who owns it now; history is in Ownership"""
    name: str | None = None
    plate: str | None = None
    serial: str | None = None
    purchased: str | None = None
    """date, ISO 8601"""
    warranty_until: str | None = None
    workshop: str | None = None
    """id of the workshop its owner chose for it"""
    firmware: str | None = None
    plan: Mapping[str, Any] | None = None
    """a service plan: {"name", "until": ISO date, "services": [..] (empty: all)}"""
    created: int = 0

    @property
    def title(self) -> str:
        """What people call it."""
        return self.name or self.model or self.id


@dataclass(frozen=True, kw_only=True, slots=True)
class Ownership:
    """Who owned a device from when until when (ms, half open); views and erasure are cut by it."""

    device: str
    owner: str
    since: int
    until: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What the others need to know of a device; written by assess alone, with its position."""

    device: str
    last_seen: int = 0
    """receive time of its last message, ms"""
    moving: bool = False
    moving_since: int | None = None
    """receive time at which `moving` took its present value, ms"""
    online: bool | None = None
    """what its status topic said last; None when it never said"""
    latest: Mapping[str, tuple[int, Value]] = field(default_factory=dict)
    """{signal: (ts, value)}, the newest of each"""
    open: tuple[str, ...] = ()
    """ids of findings whose episode is open"""
    kind: str | None = None
    """as registered or by pattern, for devices nobody registered"""
