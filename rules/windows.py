"""What a signal did over a span of time, in constant work per reading and bounded memory.

A window is cut into `BUCKETS` buckets, aligned to multiples of their width. A bucket stays until all of
it has left the span, so that a window covers its span plus at most one bucket: a maximum misses nothing
that is inside. Only buckets with readings are kept. Of each: how many, their sum, smallest and largest.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from typing import Any

BUCKETS = 60
"""At most; a ten-minute window is exact to ten seconds, one of 30 days to half a day."""

NEVER = 1 << 62
"""A time after all others."""

_INFINITE = math.inf


def bucket_width(span: int) -> int:
    """Milliseconds of one bucket of a window over `span` ms.

    It divides the span, so that buckets leave only when another one begins. Whole seconds have a divisor
    from 50 to 60.
    """
    return span // next(buckets for buckets in range(BUCKETS, 0, -1) if span % buckets == 0)


class Window:
    """One signal of one device over one span. Times are ms of device time.

    The bucket that is filled at present is kept apart from those before it, so that a reading touches
    a few plain attributes; generated code does so without a call while the newest reading is before `end`.
    """

    __slots__ = (
        "counts", "end", "expiry", "high", "highs", "low", "lows", "n", "past_high", "past_low", "past_n",
        "past_total", "since", "span", "start", "starts", "total", "totals", "width",
    )  # fmt: skip

    def __init__(self, span: int) -> None:
        self.span = span
        self.width = bucket_width(span)
        self.since = -NEVER  # readings before this are not taken: a job has reset the signal
        self.clear(-NEVER)

    def clear(self, since: int) -> None:
        """Empty it; what is older than `since` does not come in any more."""
        self.since = max(self.since, since)
        self.starts, self.counts = array("q"), array("q")
        self.totals, self.lows, self.highs = array("d"), array("d"), array("d")
        self.past_n = 0
        self.past_total: float | None = 0.0  # None: to be summed anew
        self.past_low, self.past_high = _INFINITE, -_INFINITE
        self._open(-NEVER, -NEVER)
        self.expiry = NEVER

    def _open(self, start: int, end: int) -> None:
        self.start, self.end = start, end
        self.n, self.total = 0, 0.0
        self.low, self.high = _INFINITE, -_INFINITE

    def add(self, ts: int, value: float, newest: int) -> bool:
        """Take a reading; `newest` is the device's newest time. False if no window covers it any more."""
        start = ts - ts % self.width
        if ts < self.since or start + self.width <= newest - self.span:
            return False
        if start != self.start or self.end <= self.start:
            if start < self.start < self.end:
                self._add_before(start, value)
                return True
            self._roll(start)
        self.n += 1
        self.total += value
        self.low = min(self.low, value)
        self.high = max(self.high, value)
        return True

    def _roll(self, start: int) -> None:
        """Close the bucket that is filled, and begin another one."""
        if self.n:
            self.starts.append(self.start)
            self.counts.append(self.n)
            self.totals.append(self.total)
            self.lows.append(self.low)
            self.highs.append(self.high)
            self.past_n += self.n
            self.past_total = None
            self.past_low = min(self.past_low, self.lows[-1])
            self.past_high = max(self.past_high, self.highs[-1])
        self._open(start, start + self.width)
        self.expire(start)

    def _add_before(self, start: int, value: float) -> None:
        """A late reading, into the bucket that covers it."""
        at = bisect_left(self.starts, start)
        if at == len(self.starts) or self.starts[at] != start:
            self.starts.insert(at, start)
            self.counts.insert(at, 0)
            self.totals.insert(at, 0.0)
            self.lows.insert(at, _INFINITE)
            self.highs.insert(at, -_INFINITE)
        self.counts[at] += 1
        self.totals[at] += value
        self.lows[at] = min(self.lows[at], value)
        self.highs[at] = max(self.highs[at], value)
        self.past_n += 1
        self.past_total = None
        self.past_low = min(self.past_low, self.lows[at])
        self.past_high = max(self.past_high, self.highs[at])
        self._expect()

    def expire(self, at: int) -> None:
        """Let go of the buckets that have left the span at the time `at`."""
        edge = at - self.span - self.width
        gone = 0
        while gone < len(self.starts) and self.starts[gone] <= edge:
            self.past_n -= self.counts[gone]
            gone += 1
        if gone:
            self._drop(gone)
        if self.end > self.start and self.start <= edge:
            self._open(-NEVER, -NEVER)
        self._expect()

    def _expect(self) -> None:
        """Note when the oldest bucket leaves."""
        oldest = self.starts[0] if self.starts else self.start if self.end > self.start else NEVER
        self.expiry = min(NEVER, oldest + self.width + self.span)

    def _drop(self, gone: int) -> None:
        low, high = min(self.lows[:gone]), max(self.highs[:gone])
        for column in (self.starts, self.counts, self.totals, self.lows, self.highs):
            del column[:gone]
        self.past_total = None
        if low <= self.past_low:
            self.past_low = min(self.lows, default=_INFINITE)
        if high >= self.past_high:
            self.past_high = max(self.highs, default=-_INFINITE)

    def count(self, at: int) -> int:
        """How many readings; 0 if there are none."""
        if at >= self.expiry:
            self.expire(at)
        return self.past_n + self.n

    def avg(self, at: int) -> float | None:
        """Their mean, each reading counting the same; None without a reading."""
        if at >= self.expiry:
            self.expire(at)
        n = self.past_n + self.n
        if not n:
            return None
        if self.past_total is None:
            self.past_total = math.fsum(self.totals)
        return (self.past_total + self.total) / n

    def min(self, at: int) -> float | None:
        """The smallest; None without a reading."""
        if at >= self.expiry:
            self.expire(at)
        low = self.low if self.low < self.past_low else self.past_low
        return None if low == _INFINITE else low

    def max(self, at: int) -> float | None:
        """The largest; None without a reading."""
        if at >= self.expiry:
            self.expire(at)
        high = self.high if self.high > self.past_high else self.past_high
        return None if high == -_INFINITE else high

    def save(self) -> list[Any]:
        """All of it, as plain data that `restore` takes."""
        return [
            self.since, self.start, self.end, self.n, self.total, self.low, self.high, self.starts.tolist(),
            self.counts.tolist(), self.totals.tolist(), self.lows.tolist(), self.highs.tolist(),
        ]  # fmt: skip

    def restore(self, saved: list[Any]) -> None:
        """Become what `save` gave."""
        self.since, self.start, self.end, self.n, self.total, self.low, self.high = saved[:7]
        self.starts, self.counts = array("q", saved[7]), array("q", saved[8])
        self.totals, self.lows, self.highs = (array("d", column) for column in saved[9:12])
        self.past_n = sum(self.counts)
        self.past_total = None
        self.past_low = min(self.lows, default=_INFINITE)
        self.past_high = max(self.highs, default=-_INFINITE)
        self._expect()

    def copy(self) -> Window:
        """Another one that can be asked about a later time without losing anything here."""
        other = Window(self.span)
        other.restore(self.save())
        return other
