"""What a signal did over a span of time, in constant work per reading and bounded memory.

A window is cut into at most `BUCKETS` buckets, aligned to multiples of their width. A bucket stays until all
of it has left the span, so that a window covers its span plus at most one bucket: a maximum misses nothing
that is inside. Only buckets with readings are kept. A reading that comes late goes into the bucket that
covers it. Nothing is dropped but by a newer reading, so a window can be asked about a later time, too.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import reduce
from itertools import accumulate, pairwise, repeat
from operator import add, mul, sub, truediv
from typing import Any, ClassVar

BUCKETS = 60
"""At most; a ten-minute window is exact to ten seconds, one of 30 days to half a day."""

LEAST_READINGS = 30
"""What a device's own mean and spread have to stand on before anything is compared with them."""

NEVER = 1 << 62
"""A time after all others."""

FIRST = -NEVER
"""A time before all others. One object, so that looking at it touches no memory of a device's own."""

FEW = 3
"""Buckets closed or let go of together up to which the extremes are followed; with more they are looked for
anew when they are asked for."""

_ROUNDING = 1e-12
"""A spread smaller than this part of the mean is the rounding of numbers that are all the same."""

_INFINITE = math.inf
_HOUR, _DAY = 3_600_000, 86_400_000


def bucket_width(span: int, most: int = BUCKETS) -> int:
    """Milliseconds of one bucket of a window over `span` ms.

    It divides the span, so that buckets leave only when another one begins. Whole seconds have a divisor
    from 50 to 60.
    """
    return span // next(buckets for buckets in range(most, 0, -1) if span % buckets == 0)


class Apart:
    """Times of readings, in order, and the buckets that they begin."""

    __slots__ = ("_gap", "_starts", "_total", "times")

    def __init__(self, times: Sequence[float]) -> None:
        self.times = times
        self._gap: float | None = None
        self._total: float | None = None
        self._starts: dict[int, tuple[array[int], int]] = {}

    @property
    def gap(self) -> float:
        """ms, the least between two of them."""
        if self._gap is None:
            self._gap = min(map(sub, self.times[1:], self.times), default=_INFINITE)
        return self._gap

    @property
    def total(self) -> float:
        """Their sum, exact in any order: whole numbers, far below what a float counts exactly."""
        if self._total is None:
            self._total = sum(self.times)
        return self._total

    def starts(self, width: int) -> tuple[array[int], int]:
        """Where the buckets of all but the newest begin, and that of the newest."""
        found = self._starts.get(width)
        if found is None:
            starts = array("q", [int(ts - ts % width) for ts in self.times])
            found = self._starts[width] = starts, starts.pop()
        return found


class Window:
    """How many readings of one signal of one device over one span, their sum, smallest and largest.

    Times are ms of device time. The bucket that is filled at present is kept apart from those before it, so
    that a reading touches a few plain attributes. Many readings at once cost a fraction of one at a time.
    """

    __slots__ = (
        "calm", "ceiling", "counts", "end", "expiry", "floor", "high", "highs", "low", "lows", "n",
        "past_high", "past_low", "past_n", "past_total", "sides", "since", "span", "stale", "start", "starts",
        "total", "totals", "width",
    )  # fmt: skip
    columns: ClassVar[tuple[tuple[str, str, str, float], ...]] = (
        ("counts", "q", "n", 0), ("totals", "d", "total", 0.0),
        ("lows", "d", "low", _INFINITE), ("highs", "d", "high", -_INFINITE),
    )  # fmt: skip
    """Of closed buckets, beside their starts: the column, its type, its attribute in the open one, empty"""
    counts: array[int]
    totals: array[float]
    lows: array[float]
    highs: array[float]

    def __init__(self, span: int) -> None:
        self.span = span
        self.width = bucket_width(span)
        self.since = -NEVER  # readings before this are not taken: a job has reset the signal
        self.floor, self.ceiling = _INFINITE, -_INFINITE  # see Series
        self.sides: tuple[int, ...] = ()  # of the levels it is compared with
        self.calm = False  # whichever readings leave it, it stays on the same sides of them
        self.clear(-NEVER)

    def clear(self, since: int) -> None:
        """Empty it; what is older than `since` does not come in any more."""
        self.since = max(self.since, since)
        self.starts = array("q")
        for column, code, _, _ in self.columns:
            setattr(self, column, array(code))
        self.past_n = 0
        self.past_total: float | None = 0.0  # None: to be summed anew
        self.past_low, self.past_high = _INFINITE, -_INFINITE
        self.stale = False  # whether these two are to be looked for anew: see `renew`
        self._open(-NEVER, -NEVER)
        self.expiry = NEVER

    def set_back(self, ts: int) -> None:
        """The device's clock was ahead and is right again at `ts`: buckets after that one are let go."""
        self.since = min(self.since, ts)
        if self.end <= self.start or self.start <= ts:
            return
        keep = bisect_right(self.starts, ts)
        del self.starts[keep:]
        for column, _, _, _ in self.columns:
            del getattr(self, column)[keep:]
        self._open(-NEVER, -NEVER)
        if keep and ts < self.starts[-1] + self.width:
            start = self.starts.pop()
            self._open(start, start + self.width)
            for column, _, attribute, _ in self.columns:
                setattr(self, attribute, getattr(self, column).pop())
        self._settle()

    def _open(self, start: int, end: int) -> None:
        self.start, self.end = start, end
        self.n, self.total = 0, 0.0
        self.low, self.high = _INFINITE, -_INFINITE

    @property
    def empty(self) -> bool:
        """Whether there is nothing to save."""
        return not (self.n or self.starts or self.since != -NEVER)

    def extend(self, times: Sequence[float], values: Sequence[float], apart: Apart | None = None) -> None:
        """Take readings in the order of time, none of them older than what came before. `apart` are their
        times, where many windows take the same."""
        if self.since <= times[0]:
            if times[-1] < self.end:
                self._take_many(values)
                return
            if apart is not None and times[0] >= self.end and apart.gap >= self.width:
                self._take_apart(apart, values)
                return
        width, since, start, end = self.width, self.since, self.start, self.end
        n, total, low, high = self.n, self.total, self.low, self.high
        starts, counts, totals, lows, highs = self.starts, self.counts, self.totals, self.lows, self.highs
        closed = len(starts)
        for ts, value in zip(times, values, strict=True):
            if ts < since:
                continue
            if ts >= end:
                if n:
                    starts.append(start)
                    counts.append(n)
                    totals.append(total)
                    lows.append(low)
                    highs.append(high)
                start = int(ts - ts % width)
                end = start + width
                n, total, low, high = 1, value, value, value
            else:
                n += 1
                total += value
                if value < low:
                    low = value
                if value > high:
                    high = value
        self.start, self.end, self.n, self.total, self.low, self.high = start, end, n, total, low, high
        self._closed(closed)

    def _take_many(self, values: Sequence[float]) -> None:
        """Readings of the open bucket, added one after the other: so many at once or fewer give the same."""
        self.n += len(values)
        self.total = reduce(add, values, self.total)
        self.low = min(self.low, min(values))
        self.high = max(self.high, max(values))

    def _take_apart(self, apart: Apart, values: Sequence[float]) -> None:
        """Readings each of which begins a bucket, so that all but the newest are closed."""
        closed, (begun, start) = len(self.starts), apart.starts(self.width)
        if self.n:
            self._append()
        if begun:
            self._ones(begun, apart.times, array("d", values[:-1]))
        self._open(start, start + self.width)
        self._take(int(apart.times[-1]), values[-1])
        self._closed(closed)

    def _ones(self, starts: array[int], times: Sequence[float], values: array[float]) -> None:
        """Closed buckets of one reading each."""
        self.starts.extend(starts)
        self.counts.extend(array("q", [1]) * len(starts))
        for column in (self.totals, self.lows, self.highs):
            column.extend(values)

    def _append(self) -> None:
        """The open bucket to those before it."""
        self.starts.append(self.start)
        self.counts.append(self.n)
        self.totals.append(self.total)
        self.lows.append(self.low)
        self.highs.append(self.high)

    def _closed(self, since: int) -> None:
        """Account for the buckets that were closed from number `since` on, and let go of the oldest."""
        if len(self.starts) > since:
            self.past_n += sum(self.counts[since:])
            self.past_total = None
            if self.stale or len(self.starts) - since > FEW:
                self.stale = True
            else:
                self.past_low = min(self.past_low, min(self.lows[since:]))
                self.past_high = max(self.past_high, max(self.highs[since:]))
        if self.end > self.start and (self.start >= self.expiry or self.expiry == NEVER):
            self.expire(self.start)

    def add(self, ts: int, value: float, newest: int) -> bool:
        """Take a reading; `newest` is the device's newest time. False if no bucket covers it any more."""
        start = ts - ts % self.width
        if ts < self.since or start + self.width <= newest - self.span:
            return False
        if start != self.start or self.end <= self.start:
            if start < self.start < self.end:
                self._before(start, ts, value)
                return True
            self.roll(start)
        self._take(ts, value)
        return True

    def _take(self, ts: int, value: float) -> None:
        """A reading of the open bucket."""
        self.n += 1
        self.total += value
        if value < self.low:
            self.low = value
        if value > self.high:
            self.high = value

    def roll(self, start: int) -> None:
        """Close the bucket that is filled, and begin another one."""
        if self.n:
            self._close()
        self._open(start, start + self.width)
        if start >= self.expiry or self.expiry == NEVER:
            self.expire(start)

    def _close(self) -> None:
        self._append()
        self.past_n += self.n
        self.past_total = None
        if self.low < self.past_low:
            self.past_low = self.low
        if self.high > self.past_high:
            self.past_high = self.high

    def _before(self, start: int, ts: int, value: float) -> None:
        """A late reading, into the bucket that covers it."""
        at = bisect_left(self.starts, start)
        if at == len(self.starts) or self.starts[at] != start:
            self.starts.insert(at, start)
            for column, _, _, empty in self.columns:
                getattr(self, column).insert(at, empty)
        self._take_before(at, ts, value)
        self.past_n += 1
        self.past_total = None
        self.past_low = min(self.past_low, self.lows[at])
        self.past_high = max(self.past_high, self.highs[at])
        self._expect()

    def _take_before(self, at: int, ts: int, value: float) -> None:
        """A reading of the closed bucket number `at`."""
        self.counts[at] += 1
        self.totals[at] += value
        self.lows[at] = min(self.lows[at], value)
        self.highs[at] = max(self.highs[at], value)

    def expire(self, at: int) -> None:
        """Let go of the buckets that have left the span at the time `at`, which no reading will precede by
        more than is allowed to be lost."""
        edge = at - self.span - self.width
        if self.starts and self.starts[0] <= edge:
            self._drop(bisect_right(self.starts, edge))
        if self.end > self.start and self.start <= edge:
            self._open(-NEVER, -NEVER)
        self._expect()

    def _expect(self) -> None:
        """Note when the oldest bucket leaves."""
        if self.starts:
            self.expiry = self.starts[0] + self.width + self.span
        else:
            self.expiry = self.start + self.width + self.span if self.end > self.start else NEVER

    def _drop(self, gone: int) -> None:
        """Let go of the oldest buckets. Where readings are rare it is one with every reading."""
        lows, highs = self.lows, self.highs
        if self.stale or gone > FEW:
            self.past_n -= sum(self.counts[:gone])
            self.past_total, self.stale = None, True
            self._forget(gone)
            return
        if gone == 1:
            low, high, n = lows[0], highs[0], self.counts[0]
        else:
            low, high, n = min(lows[:gone]), max(highs[:gone]), sum(self.counts[:gone])
        self._forget(gone)
        self.past_n -= n
        self.past_total = None
        if low <= self.past_low:
            self.past_low = min(lows, default=_INFINITE)
        if high >= self.past_high:
            self.past_high = max(highs, default=-_INFINITE)

    def renew(self) -> None:
        """Look for the smallest and the largest of all closed buckets."""
        self.past_low = min(self.lows, default=_INFINITE)
        self.past_high = max(self.highs, default=-_INFINITE)
        self.stale = False

    def left(self, edge: int) -> int:
        """How many readings the closed buckets hold that begin at this time at the latest."""
        return sum(self.counts[: bisect_right(self.starts, edge)])

    def _forget(self, gone: int) -> None:
        del self.starts[:gone], self.counts[:gone], self.totals[:gone], self.lows[:gone], self.highs[:gone]

    def leaves(self, at: int) -> int:
        """When the next bucket leaves the span after a time."""
        stay = self.span + self.width
        gone = bisect_right(self.starts, at - stay)
        oldest = self.starts[gone] if gone < len(self.starts) else self.start
        return oldest + stay if oldest + stay > at else NEVER

    def as_of(self, at: int) -> Window:
        """Itself, or a copy without what has left the span at a later time than its newest reading."""
        if at < self.expiry:
            return self
        other = type(self)(self.span)
        other.restore(self.save())
        other.expire(at)
        return other

    def count(self, at: int) -> int:
        """How many readings; 0 if there are none."""
        window = self.as_of(at)
        return window.past_n + window.n

    def sum(self, at: int) -> float:
        """Their sum; 0 if there are none."""
        return self.as_of(at)._sum()

    def _sum(self) -> float:
        if self.past_total is None:
            self.past_total = math.fsum(self.totals)
        return self.past_total + self.total

    def avg(self, at: int) -> float | None:
        """Their mean, each reading counting the same; None without a reading."""
        window = self if at < self.expiry else self.as_of(at)
        n = window.past_n + window.n
        if not n:
            return None
        if window.stale:
            window.renew()
        mean = window._sum() / n  # rounding must not bring it past readings that are all the same
        high = window.high if window.high > window.past_high else window.past_high
        if mean > high:
            return high
        low = window.low if window.low < window.past_low else window.past_low
        return low if mean < low else mean

    def min(self, at: int) -> float | None:
        """The smallest; None without a reading."""
        window = self if at < self.expiry else self.as_of(at)
        if window.stale:
            window.renew()
        low = window.low if window.low < window.past_low else window.past_low
        return None if low == _INFINITE else low

    def max(self, at: int) -> float | None:
        """The largest; None without a reading."""
        window = self if at < self.expiry else self.as_of(at)
        if window.stale:
            window.renew()
        high = window.high if window.high > window.past_high else window.past_high
        return None if high == -_INFINITE else high

    def save(self) -> list[Any]:
        """All of it, as plain data that `restore` takes."""
        open_bucket = [getattr(self, attribute) for _, _, attribute, _ in self.columns]
        closed = [getattr(self, column).tolist() for column, _, _, _ in self.columns]
        return [self.since, self.start, self.end, *open_bucket, apart(self.starts, self.width), *closed]

    def restore(self, saved: Sequence[Any]) -> None:
        """Become what `save` gave."""
        self.since, self.start, self.end = saved[:3]
        width = len(self.columns)
        self.starts = array("q", (start * self.width for start in accumulate(saved[3 + width])))
        for (column, code, attribute, _), value, values in zip(
            self.columns, saved[3:], saved[4 + width :], strict=False
        ):
            setattr(self, attribute, value)
            setattr(self, column, array(code, values))
        self._settle()

    def _settle(self) -> None:
        """Work out anew what is kept of all closed buckets together."""
        self.past_n = sum(self.counts)
        self.past_total = None
        self.renew()
        self._expect()


def apart(starts: Sequence[int], width: int) -> list[int]:
    """The first, and how many buckets each begins after the one before: small numbers take few bytes."""
    return [start // width for start in starts[:1]] + [(b - a) // width for a, b in pairwise(starts)]


class Trend(Window):
    """A window that also knows how its readings spread and rise.

    Of each bucket, besides: the sum of squared distances from its mean, the sum of its times from its start,
    and its first reading. A line is fitted through the buckets' means at their mean times, each weighing as
    many readings as it has: with 60 buckets within 0.1 % of the fit through all readings (a test compares).
    """

    __slots__ = (
        "_fit",
        "first_ts",
        "first_tss",
        "first_value",
        "first_values",
        "moment",
        "moments",
        "square",
        "squares",
    )
    columns: ClassVar[tuple[tuple[str, str, str, float], ...]] = (
        *Window.columns, ("squares", "d", "square", 0.0), ("moments", "d", "moment", 0.0),
        ("first_tss", "q", "first_ts", NEVER), ("first_values", "d", "first_value", 0.0),
    )  # fmt: skip
    squares: array[float]
    moments: array[float]
    first_tss: array[int]
    first_values: array[float]

    def clear(self, since: int) -> None:
        """Empty it; what is older than `since` does not come in any more."""
        super().clear(since)
        self._fit: tuple[tuple[float, ...], tuple[float, float, float, int] | None] | None = None

    def _open(self, start: int, end: int) -> None:
        super()._open(start, end)
        self.square, self.moment = 0.0, 0.0
        self.first_ts, self.first_value = NEVER, 0.0

    def extend(self, times: Sequence[float], values: Sequence[float], apart: Apart | None = None) -> None:
        """Take readings in the order of time, none of them older than what came before. `apart` are their
        times, where many windows take the same."""
        if self.n and times[-1] < self.end and self.since <= times[0]:
            self._take_many_of(apart or Apart(times), values)
            return
        if apart is not None and times[0] >= self.end and times[0] >= self.since and apart.gap >= self.width:
            self._take_apart(apart, values)
            return
        width, since, start, end = self.width, self.since, self.start, self.end
        n, total, square, moment = self.n, self.total, self.square, self.moment
        low, high = self.low, self.high
        closed = len(self.starts)
        for ts, value in zip(times, values, strict=True):
            if ts < since:
                continue
            if ts >= end:
                self.n, self.total, self.low, self.high = n, total, low, high
                self.square, self.moment = square, moment
                if n:
                    self._append()
                start = int(ts - ts % width)
                end = start + width
                self._open(start, end)
                self.first_ts, self.first_value = int(ts), value
                n, total, low, high, square, moment = 1, value, value, value, 0.0, ts - start
                continue
            before = total / n
            n += 1
            total += value
            square += (value - before) * (value - total / n)
            moment += ts - start
            if value < low:
                low = value
            if value > high:
                high = value
        self.n, self.total, self.low, self.high = n, total, low, high
        self.square, self.moment = square, moment
        self._closed(closed)

    def _take_many_of(self, apart: Apart, values: Sequence[float]) -> None:
        """Readings of the open bucket that is not empty, in the same steps as one after the other."""
        n, totals = self.n, [*accumulate(values, initial=self.total)]
        means = [*map(truediv, totals, range(n, n + len(totals)))]
        steps = map(mul, map(sub, values, means), map(sub, values, means[1:]))
        self.square = reduce(add, steps, self.square)
        self.moment += apart.total - len(values) * self.start
        self.n, self.total = n + len(values), totals[-1]
        self.low, self.high = min(self.low, min(values)), max(self.high, max(values))

    def _ones(self, starts: array[int], times: Sequence[float], values: array[float]) -> None:
        super()._ones(starts, times, values)
        self.squares.extend(array("d", bytes(8 * len(starts))))
        self.moments.extend(map(sub, times, starts))
        self.first_tss.extend(map(int, times[:-1]))
        self.first_values.extend(values)

    def _append(self) -> None:
        super()._append()
        self.squares.append(self.square)
        self.moments.append(self.moment)
        self.first_tss.append(self.first_ts)
        self.first_values.append(self.first_value)

    def _forget(self, gone: int) -> None:
        super()._forget(gone)
        del self.squares[:gone], self.moments[:gone], self.first_tss[:gone], self.first_values[:gone]

    def _take(self, ts: int, value: float) -> None:
        n, total = self.n, self.total
        super()._take(ts, value)
        if n:
            self.square += (value - total / n) * (value - self.total / self.n)
        self.moment += ts - self.start
        if ts < self.first_ts:
            self.first_ts, self.first_value = ts, value

    def _take_before(self, at: int, ts: int, value: float) -> None:
        n, total = self.counts[at], self.totals[at]
        super()._take_before(at, ts, value)
        if n:
            self.squares[at] += (value - total / n) * (value - self.totals[at] / self.counts[at])
        self.moments[at] += ts - self.starts[at]
        if ts < self.first_tss[at]:
            self.first_tss[at], self.first_values[at] = ts, value

    def save(self) -> list[Any]:
        """All of it, as plain data that `restore` takes; times of closed buckets count from their starts."""
        saved = super().save()
        saved[-3] = [int(moment) for moment in self.moments]
        saved[-2] = [ts - start for ts, start in zip(self.first_tss, self.starts, strict=True)]
        return saved

    def restore(self, saved: Sequence[Any]) -> None:
        """Become what `save` gave."""
        super().restore(saved)
        self._fit = None
        self.first_tss = array("q", map(add, self.first_tss, self.starts))

    def _points(self) -> list[tuple[int, float, float]]:
        """(readings, mean time in ms after the first bucket's start, mean) of each bucket."""
        origin, counts = self.starts[0] if self.starts else self.start, self.counts
        times = map(add, map(sub, self.starts, repeat(origin)), map(truediv, self.moments, counts))
        points = [*zip(counts, times, map(truediv, self.totals, counts), strict=True)]
        if self.n:
            points.append((self.n, self.start - origin + self.moment / self.n, self.total / self.n))
        return points

    def stddev(self, at: int) -> float | None:
        """The standard deviation, of the readings as they are; None without one."""
        window = self.as_of(at)
        n = window.past_n + window.n
        if not n:
            return None
        mean = window._sum() / n
        between = math.fsum(k * (m - mean) ** 2 for k, _, m in window._points())  # type: ignore[attr-defined]
        within = math.fsum(window.squares) + window.square  # type: ignore[attr-defined]
        return math.sqrt(max(0.0, (within + between) / n))

    def oldest(self, at: int) -> tuple[int, float] | None:
        """(ts, value) of the oldest reading; None without one."""
        window: Any = self.as_of(at)
        if window.starts:
            return window.first_tss[0], window.first_values[0]
        return (window.first_ts, window.first_value) if window.n else None

    def change(self, at: int, newest: float | None) -> float | None:
        """The newest value less the oldest one; None without one."""
        oldest = self.oldest(at)
        return None if oldest is None or newest is None else newest - oldest[1]

    def rate(self, at: int, newest: float | None, ts: int) -> float | None:
        """The same per hour between the two, `ts` being the newest one's time; None when that is none."""
        oldest = self.oldest(at)
        if oldest is None or newest is None or ts <= oldest[0]:
            return None
        return (newest - oldest[1]) * _HOUR / (ts - oldest[0])

    def line(self, at: int) -> tuple[float, float, int] | None:
        """(rise per day, value at the time `at`, buckets) of the line that fits best; None of fewer than two
        buckets."""
        window: Any = self.as_of(at)
        fit = window._fitted()
        if fit is None:
            return None
        rise, mean, mean_t, buckets = fit
        origin = window.starts[0] if window.starts else window.start
        return rise * _DAY, mean + rise * (at - origin - mean_t), buckets

    def _fitted(self) -> tuple[float, float, float, int] | None:
        """(rise per ms, mean, mean time in ms after the first bucket's start, buckets) of the same line;
        known until a reading comes or a bucket leaves."""
        oldest = self.starts[0] if self.starts else 0
        key = self.past_n, self.n, self.total, self.start, oldest, len(self.starts)
        if self._fit is None or self._fit[0] != key:
            self._fit = key, self._fit_anew()
        return self._fit[1]

    def _fit_anew(self) -> tuple[float, float, float, int] | None:
        points = self._points()
        if len(points) < 2:
            return None
        counts, times, means = zip(*points, strict=True)
        n = sum(counts)
        mean_t, mean = math.fsum(map(mul, counts, times)) / n, math.fsum(map(mul, counts, means)) / n
        after = [t - mean_t for t in times]
        weighed = [*map(mul, counts, after)]
        spread = math.fsum(map(mul, weighed, after))
        if spread <= 0:
            return None
        above = map(sub, means, repeat(mean))
        return math.fsum(map(mul, weighed, above)) / spread, mean, mean_t, len(points)

    def slope(self, at: int) -> float | None:
        """The line's rise per day."""
        line = self.line(at)
        return None if line is None else line[0]

    def days_until(self, at: int, limit: float, newest: float | None) -> float | None:
        """Days until the line reaches the limit; 0 if it, or the newest value, has reached it on its way.

        None where it leads away: also where it began beyond the limit, as a sensor's noise does at 41 of 100.
        """
        line, oldest = self.line(at), self.oldest(at)
        if line is None or oldest is None or newest is None or line[2] < 3 or line[0] == 0:
            return None
        rise, now, _ = line
        sign = 1 if rise > 0 else -1
        began = now - rise * (at - oldest[0]) / _DAY
        if sign * began >= sign * limit:
            return None
        if sign * newest >= sign * limit or sign * now >= sign * limit:
            return 0.0
        days = (limit - now) / rise
        return days if days < 1e6 else None

    def baseline(self, at: int, newest: float | None) -> float | None:
        """How many standard deviations the newest value lies above the mean."""
        if newest is None or self.count(at) < LEAST_READINGS:
            return None
        spread, mean = self.stddev(at), self.avg(at)
        if spread is None or mean is None or spread <= _ROUNDING * abs(mean):
            return None
        return (newest - mean) / spread


class Histogram:
    """How a signal's readings over a span lie in its range, in a hundred steps.

    Cut into few buckets, each of them the counts of the steps from its lowest to its highest. What lies
    outside the range counts at its end.
    """

    __slots__ = ("buckets", "end", "high", "low", "since", "span", "width")
    STEPS = 100
    BUCKETS = 15

    def __init__(self, span: int, low: float, high: float) -> None:
        self.span = span
        self.width = bucket_width(span, self.BUCKETS)
        self.low, self.high = low, high
        self.since = -NEVER
        self.clear(-NEVER)

    def clear(self, since: int) -> None:
        """Empty it; what is older than `since` does not come in any more."""
        self.since = max(self.since, since)
        self.buckets: dict[int, tuple[int, array[int]]] = {}  # start → first step, counts

    def set_back(self, ts: int) -> None:
        """The device's clock was ahead and is right again at `ts`: buckets after that one are let go."""
        self.since = min(self.since, ts)
        self.buckets = {start: bucket for start, bucket in self.buckets.items() if start <= ts}

    @property
    def empty(self) -> bool:
        """Whether there is nothing to save."""
        return not self.buckets and self.since == -NEVER

    def add(self, ts: int, value: float, newest: int) -> bool:
        """Take a reading; `newest` is the device's newest time. False if no bucket covers it any more."""
        start = ts - ts % self.width
        if ts < self.since or start + self.width <= newest - self.span:
            return False
        inside = min(max(value, self.low), self.high)
        step = min(int((inside - self.low) / (self.high - self.low) * self.STEPS), self.STEPS - 1)
        first, counts = self.buckets.get(start) or self._begin(start, step, newest)
        if not first <= step < first + len(counts):
            first, counts = _widened(first, counts, step)
            self.buckets[start] = first, counts
        counts[step - first] += 1
        return True

    def _begin(self, start: int, step: int, newest: int) -> tuple[int, array[int]]:
        for old in [s for s in self.buckets if s + self.width <= newest - self.span]:
            del self.buckets[old]
        self.buckets[start] = begun = step, array("I", [0])
        return begun

    def leaves(self, at: int) -> int:
        """When the next bucket leaves the span after a time."""
        ends = (start + self.width + self.span for start in self.buckets)
        return min((end for end in ends if end > at), default=NEVER)

    def percentile(self, at: int, percent: float) -> float | None:
        """The middle of the step that holds it; None without a reading."""
        sums = [0] * self.STEPS
        for start, (first, counts) in self.buckets.items():
            if start + self.width > at - self.span:
                for step, count in enumerate(counts, first):
                    sums[step] += count
        n = sum(sums)
        if not n:
            return None
        rank, seen = max(1, math.ceil(n * percent / 100)), 0
        step = -1
        while seen < rank:
            step += 1
            seen += sums[step]
        return self.low + (step + 0.5) * (self.high - self.low) / self.STEPS

    def save(self) -> list[Any]:
        """All of it, as plain data that `restore` takes."""
        return [
            self.since,
            *([start, first, counts.tolist()] for start, (first, counts) in self.buckets.items()),
        ]

    def restore(self, saved: Sequence[Any]) -> None:
        """Become what `save` gave."""
        self.since = saved[0]
        self.buckets = {start: (first, array("I", counts)) for start, first, counts in saved[1:]}


def _widened(first: int, counts: array[int], step: int) -> tuple[int, array[int]]:
    if step < first:
        return step, array("I", [0] * (first - step)) + counts
    return first, counts + array("I", [0] * (step - first - len(counts) + 1))


class Series:
    """All windows of one signal that rules compare with numbers alone.

    A reading from `floor` to `ceiling` before the time `end` cannot change what any rule makes of these
    windows, `most` of them together neither, so that they may wait.
    """

    __slots__ = ("ceiling", "end", "floor", "most", "windows")

    def __init__(self, windows: Sequence[Window]) -> None:
        self.windows = windows
        self.closed()

    def closed(self) -> None:
        """Let nothing pass: the next reading is looked at."""
        self.end, self.most = -NEVER, 0
        self.floor, self.ceiling = _INFINITE, -_INFINITE
        for window in self.windows:
            window.sides, window.calm = (), False

    def passes(self, ts: int, value: float) -> bool:
        """Whether a reading that has been taken changes nothing."""
        return ts < self.end and self.most > 0 and self.floor <= value < self.ceiling

    def moved(self, value: float) -> list[Window]:
        """The windows of which a reading of this value, or what has left them, may have changed more."""
        return [
            window for window in self.windows if not (window.calm and window.floor <= value < window.ceiling)
        ]
