"""Needs: what is really due on a device, since when, and when it would be too late. The truth as lived.

A unit notes its needs while it is played. Rules never see them: findings and contacts are held against them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Cause = Literal["fault", "wear", "upkeep", "state"]
"""fault: something breaks. wear: a part is used up, a workshop replaces it. upkeep: what owners do
themselves. state: true for a while and no need, such as an open door; a contact about it is right."""


@dataclass(kw_only=True, slots=True)
class Need:
    """One need of one device. Times are ms."""

    device: str
    what: str
    """the fault, the part, or the state"""
    cause: Cause
    services: tuple[str, ...]
    """jobs that settle it; a contact that leads to one of them is right"""
    since: int
    """from when on a contact about it is right"""
    fails: int | None = None
    """when it breaks or is overdue if nobody acts; of wear that was mended before, at the rate of its use
    until then. None: it never does"""
    ended: int | None = None
    """when it was mended, done or over"""
    failed: bool = False
    """it came to that"""

    def fits(self, service: str, at: int, slack: int = 0) -> bool:
        """Whether a contact about a job at `at` is about this need."""
        return (
            service in self.services
            and self.since - slack <= at
            and (self.ended is None or at <= self.ended + slack)
        )


@dataclass(kw_only=True, slots=True)
class Meter:
    """A level that use raises from `floor` to `limit`; a need from `begin` on."""

    what: str
    services: tuple[str, ...]
    begin: float
    limit: float
    cause: Cause = "wear"
    floor: float = 0.0
    since: int | None = None
    """ms: when it last began at the floor, or was first seen"""


@dataclass(kw_only=True, slots=True)
class Needs:
    """All needs of a device, past and open."""

    device: str
    all: list[Need] = field(default_factory=list)
    _open: dict[str, Need] = field(default_factory=dict)

    def begin(
        self, what: str, cause: Cause, services: tuple[str, ...], at: int, fails: int | None = None
    ) -> Need:
        """Open one; one that is open already stays as it is."""
        if (known := self._open.get(what)) is not None:
            return known
        need = Need(device=self.device, what=what, cause=cause, services=services, since=at, fails=fails)
        self.all.append(need)
        self._open[what] = need
        return need

    def end(self, what: str, at: int) -> None:
        """It was mended, done, or is over."""
        need = self._open.pop(what, None)
        if need is not None:
            need.ended = at
            if need.fails is not None and need.fails <= at:
                need.failed = True

    def state(self, what: str, services: tuple[str, ...], at: int, *, true: bool) -> None:
        """Note a state that a contact may be about."""
        if true:
            self.begin(what, "state", services, at)
        elif what in self._open:
            self.end(what, at)

    def get(self, what: str) -> Need | None:
        """The open need."""
        return self._open.get(what)

    def open(self) -> Iterator[Need]:
        """Those that nobody has settled yet."""
        return iter(list(self._open.values()))

    def level(self, meter: Meter, value: float, at: int) -> Need | None:
        """Note a level. Gives the need when it has just come to its limit, and somebody has to act."""
        if meter.since is None or (value < meter.floor and meter.what not in self._open):
            meter.floor, meter.since = value, at
        if value < meter.begin:
            if meter.what in self._open:  # put back since
                self.end(meter.what, at)
                meter.floor, meter.since = value, at
            return None
        need = self.begin(meter.what, meter.cause, meter.services, at)
        if value >= meter.limit:
            if not need.failed:
                need.failed, need.fails = True, at
                return need
        elif at > meter.since and value > meter.floor:
            need.fails = at + round((meter.limit - value) * (at - meter.since) / (value - meter.floor))
        return None
