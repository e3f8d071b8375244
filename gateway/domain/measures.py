"""What is counted of matters, and how sure a share is. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

Z95 = 1.959964
"""two-sided 95 % quantile of the normal distribution"""

STEPS = ("found", "sent", "seen", "answered", "booked", "done", "helped")
"""The funnel, in order."""

TIMED = {"sent": "found", "seen": "sent", "answered": "sent", "booked": "answered", "done": "booked"}
"""{step: since which step its time is taken}"""

GROWTH = 1.05
"""Each bucket of a sketch ends so many times later than the one before: a quantile is true to 2.5 %."""
SHORTEST_MS = 1_000

Sketch = dict[str, int]
"""{bucket: how many durations lie in it}; sketches add up (as DDSketch, Masson et al. 2019)."""


def bucket(ms: int) -> str:
    """The bucket of a duration; up to a second is the first one."""
    return str(max(0, math.ceil(math.log(max(ms, SHORTEST_MS) / SHORTEST_MS, GROWTH))))


def quantile(sketch: Mapping[str, int], share: float) -> int | None:
    """The duration (ms) that so large a share does not exceed; None for no durations."""
    total = sum(sketch.values())
    seen = 0
    for at in sorted(sketch, key=int):
        seen += sketch[at]
        if seen >= share * total:
            return round(SHORTEST_MS * 2 * GROWTH ** int(at) / (1 + GROWTH))
    return None


@dataclass(kw_only=True, slots=True)
class Tally:
    """Counts and durations of a group of matters."""

    counts: dict[str, int] = field(default_factory=dict)
    times: dict[str, Sketch] = field(default_factory=dict)

    def count(self, name: str) -> None:
        """One more."""
        self.counts[name] = self.counts.get(name, 0) + 1

    def time(self, step: str, ms: int) -> None:
        """One more duration before a step."""
        sketch = self.times.setdefault(step, {})
        at = bucket(ms)
        sketch[at] = sketch.get(at, 0) + 1

    def add(self, counts: Mapping[str, int], times: Mapping[str, Mapping[str, int]]) -> None:
        """Another group's."""
        for name, n in counts.items():
            self.counts[name] = self.counts.get(name, 0) + n
        for step, sketch in times.items():
            mine = self.times.get(step)
            if mine is None:
                self.times[step] = dict(sketch)
                continue
            for at, n in sketch.items():
                mine[at] = mine.get(at, 0) + n


def wilson(good: int, of: int) -> tuple[float, float] | None:
    """The 95 % interval of a share by Wilson (1927); None of nothing."""
    if of == 0:
        return None
    share, z2 = good / of, Z95 * Z95
    centre = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = Z95 / (1 + z2 / of) * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return max(0.0, centre - half), min(1.0, centre + half)


def difference(good: int, of: int, other: int, other_of: int) -> tuple[float, float] | None:
    """The 95 % interval of the difference of two shares, by Newcombe (1998), method 10; None where one of
    them is of nothing."""
    first, second = wilson(good, of), wilson(other, other_of)
    if first is None or second is None:
        return None
    p, q = good / of, other / other_of
    return (
        p - q - math.hypot(p - first[0], second[1] - q),
        p - q + math.hypot(first[1] - p, q - second[0]),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """On how many products of one kind, model and firmware a rule found something."""

    rule: str
    severity: str
    kind: str
    model: str
    """empty: not known, like firmware"""
    firmware: str
    observed: int
    """products, each counted once"""
    lately: int
    """products of the later half of the time"""
    first: int
    """when the first one was found, ms"""
    customers: int = 0
    """owners of these products now, each counted once"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """One product of a cell, the last time that the rule found something on it."""

    device: str
    owner: str | None
    found_at: int
    cleared_at: int | None
    touchpoint: str | None
    state: str | None
    """of the touchpoint"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Voice:
    """Something that a customer said."""

    what: str
    """call, complaint, comment, decline"""
    at: int
    owner: str | None
    text: str | None
    reason: str | None
    """a code for it, where there is one"""
    rule: str | None
    """of the touchpoint that it was about"""
    device: str | None
    kind: str
    """of the product, like model and firmware; empty: not known"""
    model: str
    firmware: str
    language: str | None
    """of the owner"""


JOURNEY = ("ordered", "delivered", "contacted", "answered", "served", "rated", "renewed")
"""The steps of a product with one owner, in order: from the order to when it went on to the next owner."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Product:
    """One product with one owner, and when it reached each step; ms, None for what did not happen."""

    device: str
    owner: str
    kind: str
    model: str
    firmware: str
    ordered: int | None
    delivered: int
    contacted: int | None
    """when the owner was first told of something"""
    answered: int | None
    served: int | None
    """when the first job was done"""
    rated: int | None
    """when the owner first said how it was"""
    renewed: int | None
    """when it went on to the next owner"""
    rule: str | None
    """what the owner was first told of"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Followed:
    """One finding with what became of it; times are ms, None for what did not happen."""

    id: str
    rule: str
    severity: str
    found_at: int
    cleared_at: int | None
    kind: str | None
    """of the device, like model and firmware; None for one that nobody registered"""
    model: str | None
    firmware: str | None
    touchpoint: str | None
    sent_at: int | None
    answered_at: int | None
    action: str | None
    seen_at: int | None
    booked_at: int | None
    done_at: int | None
    helped: bool | None
    held_out: bool

    def at(self, step: str) -> int | None:
        """When it reached a step of the funnel. Who answered has seen it, and who says that it is done
        already has done it; when it helped is no instant that anybody knows."""
        match step:
            case "found":
                return self.found_at
            case "seen":
                seen = [at for at in (self.seen_at, self.answered_at) if at is not None]
                return min(seen, default=None)
            case "done":
                return self.answered_at if self.action == "already_done" else self.done_at
            case "helped":
                return self.done_at if self.helped else None
        at: int | None = getattr(self, f"{step}_at")
        return at
