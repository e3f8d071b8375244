"""What else is kept of a device's past, beside windows: each takes readings in the order of time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

from rules.windows import NEVER, Histogram, Trend, Window

LEAST_PEERS = 10
"""Other devices of the same kind and model that one is compared with at least."""

_SCALE = 1 << 20
"""A peer group adds whole numbers, so that the order of adding does not matter: values times this."""
_LARGEST = 1e12


class Previous:
    """The newest value of a signal, and the one before."""

    __slots__ = ("before", "ts", "value")

    def __init__(self) -> None:
        self.clear(-NEVER)

    def clear(self, since: int) -> None:
        """Forget both; what is older than `since` does not count any more."""
        self.ts, self.value, self.before = since, None, None  # type: tuple[int, Any, Any]

    def set_back(self, ts: int) -> None:
        """The device's clock was ahead and is right again at `ts`: nothing was measured after that."""
        self.ts = min(self.ts, ts - 1)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to save."""
        return self.ts == -NEVER

    def add(self, ts: int, value: float, newest: int) -> bool:
        """Take a reading; a late one changes nothing."""
        if ts > self.ts:
            self.before, self.value, self.ts = self.value, value, ts
        return True

    def age(self, at: int) -> float | None:
        """Seconds since the newest one was measured."""
        return None if self.value is None else (at - self.ts) / 1000

    def crossed(self, limit: float) -> bool | None:
        """Whether the newest reading reached the limit from below."""
        return None if self.before is None else self.before < limit <= self.value

    def fell(self, limit: float) -> bool | None:
        """Whether the newest reading is below the limit and the one before was not."""
        return None if self.before is None else self.before >= limit > self.value

    def save(self) -> list[Any]:
        """All of it, as plain data that `restore` takes."""
        return [self.ts, self.value, self.before]

    def restore(self, saved: Sequence[Any]) -> None:
        """Become what `save` gave."""
        self.ts, self.value, self.before = saved


class Usage:
    """What a counter has counted since it was cleared; a counter that falls has begun anew at 0."""

    __slots__ = ("counted", "last", "ts")

    def __init__(self) -> None:
        self.ts = -NEVER
        self.last: float | None = None
        self.counted: float | None = None

    def clear(self, since: int) -> None:
        """A job was done: count from here."""
        self.ts, self.counted = max(self.ts, since), 0.0

    def count_from(self, stood: float) -> None:
        """The job was done a while ago, when the counter stood at this: what came since still counts.
        A counter that stands lower now has begun anew."""
        if self.last is not None:
            self.counted = self.last - stood if self.last >= stood else self.last

    def set_back(self, ts: int) -> None:
        """The device's clock was ahead and is right again at `ts`: nothing was measured after that."""
        self.ts = min(self.ts, ts)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to save."""
        return self.ts == -NEVER

    def add(self, ts: int, value: float, newest: int) -> bool:
        """Take a reading; a late one changes nothing."""
        if ts >= self.ts:
            if self.counted is None or self.last is None:
                self.counted = value if self.counted is None else self.counted
            else:
                self.counted += value - self.last if value >= self.last else value
            self.ts, self.last = ts, value
        return True

    def save(self) -> list[Any]:
        """All of it, as plain data that `restore` takes."""
        return [self.ts, self.last, self.counted]

    def restore(self, saved: Sequence[Any]) -> None:
        """Become what `save` gave."""
        self.ts, self.last, self.counted = saved


class PeerGroup:
    """The newest values of one signal of all devices of one kind and model."""

    __slots__ = ("n", "squares", "total")

    def __init__(self) -> None:
        self.n = self.total = self.squares = 0

    def swap(self, old: int | None, new: int | None) -> None:
        """One device's value, scaled, has become another; None: it is not there."""
        for value, sign in ((old, -1), (new, 1)):
            if value is not None:
                self.n += sign
                self.total += sign * value
                self.squares += sign * value * value


class Peer:
    """One device's part of its group."""

    __slots__ = ("group", "ts", "value")

    def __init__(self, group: PeerGroup) -> None:
        self.group = group
        self.ts = -NEVER
        self.value: int | None = None

    def clear(self, since: int) -> None:
        """Leave the group until the next reading after `since`."""
        self.group.swap(self.value, None)
        self.ts, self.value = since, None

    def set_back(self, ts: int) -> None:
        """The device's clock was ahead and is right again at `ts`: nothing was measured after that."""
        self.ts = min(self.ts, ts)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to save."""
        return self.ts == -NEVER

    def add(self, ts: int, value: float, newest: int) -> bool:
        """Take a reading; a late one changes nothing."""
        if ts >= self.ts:
            scaled = round(value * _SCALE) if abs(value) < _LARGEST else None
            self.group.swap(self.value, scaled)
            self.ts, self.value = ts, scaled
        return True

    def deviation(self) -> float | None:
        """How many standard deviations its value lies above the mean of the others."""
        group, own = self.group, self.value
        others = group.n - 1
        if own is None or others < LEAST_PEERS:
            return None
        total, squares = group.total - own, group.squares - own * own
        variance = squares * others - total * total  # times others²
        return (own * others - total) / math.sqrt(variance) if variance > 0 else None

    def save(self) -> list[Any]:
        """All of it, as plain data that `restore` takes."""
        return [self.ts, self.value]

    def restore(self, saved: Sequence[Any]) -> None:
        """Become what `save` gave, and join the group."""
        self.ts, value = saved
        self.group.swap(self.value, value)
        self.value = value


class Phase:
    """Since when a condition has been true, or no longer is; and how often it became true, over a span."""

    __slots__ = ("ever", "on", "since", "turns")

    def __init__(self, span: int) -> None:
        self.on = False
        self.ever = False
        self.since = -NEVER
        self.turns = Window(span) if span else None

    def clear(self, since: int) -> None:
        """Forget it all."""
        self.on, self.ever, self.since = False, False, since
        if self.turns is not None:
            self.turns.clear(since)

    def set_back(self, ts: int) -> None:
        """The device's clock was ahead and is right again at `ts`: nothing was measured after that."""
        self.since = min(self.since, ts)
        if self.turns is not None:
            self.turns.set_back(ts)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to save."""
        return not self.ever and (self.turns is None or self.turns.empty)

    def turn(self, ts: int, on: bool) -> None:
        """It has become true, or has ceased to be."""
        self.on, self.since = on, ts
        if on:
            self.ever = True
            if self.turns is not None:
                self.turns.add(ts, 0.0, ts)

    def held(self, at: int, span: int) -> bool:
        """Whether it has been true for so long."""
        return self.on and at - self.since >= span

    def elapsed(self, at: int) -> float | None:
        """Seconds since it was last true: 0 while it is, None if it never was."""
        return 0.0 if self.on else (at - self.since) / 1000 if self.ever else None

    def times(self, at: int) -> int:
        """How often it became true within the span."""
        turns = self.turns
        if turns is None:
            return 0
        return turns.past_n + turns.n if at < turns.expiry else turns.count(at)

    def leaves(self, at: int) -> int:
        """When fewer turns lie within the span, after a time."""
        return self.turns.leaves(at) if self.turns is not None else NEVER

    def save(self) -> list[Any]:
        """All of it, as plain data that `restore` takes."""
        return [self.on, self.ever, self.since, self.turns.save() if self.turns is not None else None]

    def restore(self, saved: Sequence[Any]) -> None:
        """Become what `save` gave."""
        self.on, self.ever, self.since, turns = saved
        if turns is not None and self.turns is not None:
            self.turns.restore(turns)


Kept: TypeAlias = Window | Trend | Histogram | Previous | Usage | Peer | Phase
