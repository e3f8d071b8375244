"""Charts drawn on the server as SVG: no script, no inline style, the text is text.

Geometry is given in pixels of the drawing; colours and strokes come from classes in app.css.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from statistics import fmean, median, stdev
from typing import Generic, TypeVar

from markupsafe import Markup, escape

from gateway.web.words import Words

DAY = 86_400_000
Z95 = 1.96
CHAR = 6.6
"""About how wide a character is at 12 px."""
Point = tuple[int, float]
"""(UTC ms, value)"""
T = TypeVar("T")


# --- what was drawn --------------------------------------------------------------------------

KEPT_MOST = 1_024
"""drawings and forecasts that are kept of each, some five megabytes"""


class Kept(Generic[T]):
    """What was made of something, under all that went into it; what was used longest ago goes first."""

    def __init__(self, most: int = KEPT_MOST) -> None:
        self._most = most
        self._kept: dict[Hashable, T] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was made under this key, else what `make` makes."""
        found = self._kept.pop(key, _NONE)
        value: T = make() if found is _NONE else found  # type: ignore[assignment]  # not _NONE
        self._kept[key] = value
        while len(self._kept) > self._most:
            self._kept.pop(next(iter(self._kept)), None)
        return value


_NONE = object()


def fingerprint(points: Sequence[Point]) -> bytes:
    """Stands for points in a key: as good as the points, and much smaller."""
    times, values = array("q", [ts for ts, _ in points]), array("d", [value for _, value in points])
    return hashlib.blake2b(times.tobytes() + values.tobytes(), digest_size=16).digest()


# --- forecast --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """When a value will reach its limit, if it goes on as in the last weeks."""

    last: Point
    at: int
    """most likely, ms"""
    early: int
    """nineteen times in twenty not before, ms"""
    late: int
    """and not after, ms"""
    per_day: float
    spread: float
    """standard deviation of a day's change"""
    days: int
    """how many days it was learnt from"""

    def band(self, ts: int) -> tuple[float, float]:
        """The 95 % prediction interval at a time to come."""
        ahead = (ts - self.last[0]) / DAY
        middle, half = self.last[1] + self.per_day * ahead, Z95 * self.spread * _growth(ahead, self.days)
        return middle - half, middle + half


def _growth(ahead: float, days: int) -> float:
    return math.sqrt(max(0.0, ahead + ahead * ahead / days))


def forecast(
    points: Sequence[Point], limit: float, *, weeks: int = 6, horizon_days: int = 400
) -> Forecast | None:
    """A random walk with drift over the daily values of the last weeks (Hyndman & Athanasopoulos,
    Forecasting: Principles and Practice, 3rd ed., section 5.2), and where it meets `limit`.

    Its interval starts at the last value and widens, as knowledge does. None when there are fewer
    than five days, or when the value does not move towards the limit within the horizon.
    """
    if len(points) < 5:
        return None
    key = (fingerprint(points), limit, weeks, horizon_days)
    return _FORECASTS.get(key, lambda: _forecast(points, limit, weeks, horizon_days))


def _forecast(points: Sequence[Point], limit: float, weeks: int, horizon_days: int) -> Forecast | None:
    last = points[-1]
    daily = _daily(points, last[0] - weeks * 7 * DAY)
    changes = [((b[1] - a[1]) / ((b[0] - a[0]) / DAY), (b[0] - a[0]) / DAY) for a, b in pairwise(daily)]
    if len(changes) < 4:
        return None
    days = max(4, round((daily[-1][0] - daily[0][0]) / DAY))
    per_day = (daily[-1][1] - daily[0][1]) / ((daily[-1][0] - daily[0][0]) / DAY)
    spread = stdev([rate * math.sqrt(span) for rate, span in changes])
    to_go = limit - last[1]
    if to_go == 0 or per_day == 0 or (to_go > 0) != (per_day > 0) or to_go / per_day > horizon_days:
        return None
    middle = Forecast(last=last, at=0, early=0, late=0, per_day=per_day, spread=spread, days=days)
    at = last[0] + round(to_go / per_day * DAY)
    early = _crossing(middle, limit, edge=1 if to_go > 0 else 0, most=at)
    late = _crossing(middle, limit, edge=0 if to_go > 0 else 1, most=last[0] + horizon_days * DAY)
    return Forecast(last=last, at=at, early=early, late=late, per_day=per_day, spread=spread, days=days)


_FORECASTS: Kept[Forecast | None] = Kept()


def _daily(points: Sequence[Point], since: int) -> list[Point]:
    """The last point of every day since."""
    days = {ts // DAY: (ts, value) for ts, value in points if ts >= since}
    return [days[day] for day in sorted(days)]


def _crossing(walk: Forecast, limit: float, *, edge: int, most: int) -> int:
    """When one edge of the band meets the limit, to half a day; `most` when it does not before."""
    rising, step, ts = walk.per_day > 0, DAY // 2, walk.last[0]
    while ts < most:
        ts += step
        if (walk.band(ts)[edge] >= limit) == rising:
            return min(ts, most)
    return most


# --- the signal chart ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class SignalChart:
    """What a signal chart shows; values in the unit that people read."""

    points: Sequence[Point]
    unit: str | None
    limit: float | None = None
    limit_words: str = ""
    last_words: str = ""
    """what stands at the last value: "2.5 mm today\""""
    name: str = ""
    """what is charted, for those who cannot see it"""
    forecast: Forecast | None = None
    gap_days: float = 4.0
    """without data for so long is a gap, and named"""
    until: int | None = None
    """up to when there could be data, ms; silence before it is a gap, too"""


@dataclass(frozen=True, slots=True)
class _Frame:
    width: int
    height: int
    x0: int
    x1: int
    start: int
    end: int
    low: float
    high: float
    top: int
    bottom: int

    def x(self, ts: float) -> float:
        return round(self.x0 + (ts - self.start) / max(1, self.end - self.start) * (self.x1 - self.x0), 1)

    def y(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1)
        return round(self.bottom - share * (self.bottom - self.top), 1)


def signal_chart(chart: SignalChart, words: Words, *, width: int = 340, height: int = 216) -> Markup:
    """The chart as SVG; an empty string when there are fewer than two points. What it is drawn from says all
    that is on it, so that an equal one is drawn once."""
    if len(chart.points) < 2:
        return Markup("")
    chart = replace(chart, until=_until(chart))
    key = (fingerprint(chart.points), replace(chart, points=()), words, width, height)
    return _CHARTS.get(key, lambda: _signal_chart(chart, words, width, height))


_CHARTS: Kept[Markup] = Kept()


def _until(chart: SignalChart) -> int | None:
    """Up to when it is drawn: time goes on in steps of which four thousand fit into the chart, less than a
    tenth of a pixel. A forecast begins at the last value, whatever the time is."""
    if chart.until is None or chart.forecast:
        return None
    step = 1 << max(0, ((chart.until - chart.points[0][0]) // 4_096).bit_length() - 1)
    return chart.until - chart.until % step


def _signal_chart(chart: SignalChart, words: Words, width: int, height: int) -> Markup:
    points = thin(chart.points, most=max(60, width // 3))
    frame = _frame(chart, points, words, width, height)
    parts = [
        _grid(chart, frame, words),
        _months(frame, words),
        _future(chart, frame, words),
        _measured(chart, frame, points, words),
        _silence(chart, frame, words),
        _limit(chart, frame),
        _last(chart, frame, points),
    ]
    size, summary = f"0 0 {width} {height}", escape(_summary(chart))
    return Markup(
        f'<svg class="chart" viewBox="{size}" role="img" aria-label="{summary}">{"".join(parts)}</svg>'
    )


def _summary(chart: SignalChart) -> str:
    return ". ".join(part for part in (chart.name, chart.last_words, chart.limit_words) if part)


def _frame(chart: SignalChart, points: Sequence[Point], words: Words, width: int, height: int) -> _Frame:
    values = [value for _, value in points] + ([chart.limit] if chart.limit is not None else [])
    low, high = min(values), max(values)
    room = (high - low) or abs(high) or 1.0
    start, end = points[0][0], points[-1][0]
    if chart.until is not None and not chart.forecast:
        end = max(end, chart.until)
    if chart.forecast:
        end = max(end, min(chart.forecast.late, chart.forecast.at + 45 * DAY) + 6 * DAY)
    under = 44 if chart.forecast and chart.limit is not None and chart.limit <= low else 14
    top = 20
    over = room * 0.04
    if chart.forecast and chart.limit is not None and chart.limit >= high:
        top = 46
    widest = max(len(words.loose(tick)) for tick in _ticks(low, high))
    x0 = max(28, 10 + 7 * widest)
    return _Frame(width, height, x0, width - 8, start, end, low, high + over, top, height - 24 - under)


def _ticks(low: float, high: float, most: int = 4) -> list[float]:
    span = (high - low) or 1.0
    size = 10 ** math.floor(math.log10(span))
    step = next((m * size for m in (0.5, 1, 2, 2.5, 5, 10) if span / (m * size) <= most), 10 * size)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 6) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _grid(chart: SignalChart, frame: _Frame, words: Words) -> str:
    parts = [
        f'<text x="{frame.x0 - 8}" y="{frame.top - 8}" text-anchor="end">{escape(chart.unit or "")}</text>'
    ]
    for tick in _ticks(frame.low, frame.high):
        y = frame.y(tick)
        if tick != chart.limit:
            parts.append(f'<path class="grid" d="M{frame.x0} {y}H{frame.x1}"/>')
        parts.append(f'<text x="{frame.x0 - 8}" y="{y + 4}" text-anchor="end">{words.loose(tick)}</text>')
    return "".join(parts)


def _months(frame: _Frame, words: Words) -> str:
    y = frame.height - 22
    parts = [f'<path class="grid" d="M{frame.x0} {y}H{frame.x1}"/>']
    marks = _month_starts(frame, words)
    if len(marks) < 2:
        marks = _day_marks(frame, words)
    room = 0.0
    for ts, label in marks:
        x = max(frame.x(ts), float(frame.x0))
        if x >= room and x + 7 * len(label) <= frame.x1:
            parts.append(
                f'<path class="grid" d="M{x} {y}v4"/><text x="{x + 3}" y="{y + 16}">{escape(label)}</text>'
            )
            room = x + 14 + 7 * len(label)
    return "".join(parts)


def _month_starts(frame: _Frame, words: Words) -> list[tuple[int, str]]:
    first = words.local(frame.start)
    marks = [(frame.start, words.when(frame.start, "month"))] if first.day < 22 else []
    year, month = first.year, first.month
    while True:
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
        ts = int(datetime(year, month, 1, tzinfo=first.tzinfo).timestamp() * 1000)
        if ts >= frame.end:
            return marks
        marks.append((ts, words.when(ts, "month")))


def _day_marks(frame: _Frame, words: Words) -> list[tuple[int, str]]:
    step = max(1, round((frame.end - frame.start) / DAY / 4)) * DAY
    style = "short" if frame.end - frame.start > 2 * DAY else "time"
    if style == "time":
        step = max(1, round((frame.end - frame.start) / 4))
    return [(ts, words.when(ts, style)) for ts in range(frame.start, frame.end, step)]


def gaps(points: Sequence[Point], gap_days: float = 4.0) -> list[tuple[Point, Point]]:
    """The last point before and the first after every time without data."""
    if len(points) < 2:
        return []
    usual = median(b[0] - a[0] for a, b in pairwise(points))
    longest = max(gap_days * DAY, 6 * usual)
    return [(a, b) for a, b in pairwise(points) if b[0] - a[0] > longest]


def _runs(points: Sequence[Point], between: Sequence[tuple[Point, Point]]) -> list[list[Point]]:
    begins = {after[0] for _, after in between}
    runs: list[list[Point]] = [[]]
    for point in points:
        if point[0] in begins:
            runs.append([])
        runs[-1].append(point)
    return runs


def _silence(chart: SignalChart, frame: _Frame, words: Words) -> str:
    """Nothing was heard since the last value: dotted up to now, and said."""
    last = chart.points[-1]
    if chart.until is None or chart.until - last[0] <= chart.gap_days * DAY or chart.forecast:
        return ""
    x1, x2, y = frame.x(last[0]), frame.x(chart.until), frame.y(last[1])
    told = escape(words("chart.no_data_since", day=words.when(last[0], "short")))
    under = y + 24 if y + 30 < frame.bottom else y - 22
    return (
        f'<path class="gap" d="M{x1 + 6} {y}H{x2}"/>'
        f'<text x="{x2}" y="{under:.0f}" text-anchor="end">{told}</text>'
    )


def _measured(chart: SignalChart, frame: _Frame, points: Sequence[Point], words: Words) -> str:
    between = gaps(points, chart.gap_days)
    runs = _runs(points, between)
    parts = [_gap(frame, a, b, words) for a, b in between]
    for run in runs:
        if len(run) > 1:
            line = "L".join(f"{frame.x(ts)} {frame.y(value)}" for ts, value in run)
            parts.append(f'<path class="measured" d="M{line}"/>')
    return "".join(parts)


def _gap(frame: _Frame, a: Point, b: Point, words: Words) -> str:
    x1, y1, x2, y2 = frame.x(a[0]), frame.y(a[1]), frame.x(b[0]), frame.y(b[1])
    line = f'<path class="gap" d="M{x1} {y1}L{x2} {y2}"/>'
    if x2 - x1 < 14:
        return line
    falling = b[1] <= a[1]
    x, y = (x1 + x2) / 2 + (4 if falling else -4), min(y1, y2) - (22 if falling else 30)
    if y < frame.top - 8 or not falling:
        y = max(y1, y2) + 20
    anchor = "start" if x < frame.x1 - 90 else "end"
    return (
        f'{line}<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(words("chart.no_data"))}</text>'
        f'<text x="{x:.0f}" y="{y + 15:.0f}" text-anchor="{anchor}">{escape(dates(words, a[0], b[0]))}</text>'
    )


def dates(words: Words, early: int, late: int) -> str:
    """9–20 Dec, or 28 Nov – 3 Dec."""
    one, two = words.day(early), words.day(late)
    if one == two:
        return words.when(late, "short")
    if (one.year, one.month) == (two.year, two.month):
        return f"{words.when(early, 'day')}–{words.when(late, 'short')}"
    return f"{words.when(early, 'short')} – {words.when(late, 'short')}"


def _limit(chart: SignalChart, frame: _Frame) -> str:
    if chart.limit is None:
        return ""
    y = frame.y(chart.limit)
    return (
        f'<path class="limit" d="M{frame.x0} {y}H{frame.x1}"/>'
        f'<text class="strong" x="{frame.x0 + 4}" y="{y - 7}">{escape(chart.limit_words)}</text>'
    )


def _future(chart: SignalChart, frame: _Frame, words: Words) -> str:
    coming = chart.forecast
    if coming is None or chart.limit is None:
        return ""
    end, rising = min(coming.late, frame.end), coming.per_day > 0
    steps = [coming.last[0] + round((end - coming.last[0]) * k / 12) for k in range(13)]
    lows, highs = zip(*(coming.band(ts) for ts in steps), strict=True)
    fast, slow = (highs, lows) if rising else (lows, highs)
    stop = min if rising else max
    edge = [(ts, stop(v, chart.limit)) for ts, v in zip(steps, fast, strict=True)]
    edge += [(ts, stop(v, chart.limit)) for ts, v in reversed(list(zip(steps, slow, strict=True)))]
    shape = "L".join(f"{frame.x(ts)} {frame.y(v)}" for ts, v in edge)
    x1, y1, x2, y2 = (
        frame.x(coming.last[0]),
        frame.y(coming.last[1]),
        frame.x(coming.at),
        frame.y(chart.limit),
    )
    return f'<path class="band" d="M{shape}z"/><path class="forecast" d="M{x1} {y1}L{x2} {y2}"/>' + _bracket(
        coming, frame, y2, words, below=not rising
    )


def _bracket(coming: Forecast, frame: _Frame, y: float, words: Words, *, below: bool) -> str:
    left, right = frame.x(coming.early), min(frame.x(coming.late), float(frame.x1))
    if right - left < 8:
        left, right = left - 4, right + 4
    sign = 1 if below else -1
    label = dates(words, coming.early, coming.late)
    middle = min((left + right) / 2, frame.x1 - 3.6 * len(label))
    return (
        f'<path class="bracket" d="M{left:.1f} {y + sign * 6}v{sign * 6}H{right:.1f}v{-sign * 6}"/>'
        f'<text class="strong" x="{middle:.1f}" y="{y + (28 if below else -18)}" text-anchor="middle">'
        f"{escape(label)}</text>"
    )


def _last(chart: SignalChart, frame: _Frame, points: Sequence[Point]) -> str:
    """The last value and its words: right of it where there is room, else ending at the drawing's edge, and
    always off the measured line."""
    ts, value = chart.points[-1]
    x, y = frame.x(ts), frame.y(value)
    wide = CHAR * len(chart.last_words)
    left = min(x + 2, frame.x1 - wide)
    beside = [frame.y(v) for t, v in points if frame.x(t) >= left] + [y]
    rising = chart.forecast is not None and chart.forecast.per_day > 0
    height = max(beside) + 22 if rising else min(beside) - 12
    return (
        f'<circle class="dot" cx="{x}" cy="{y}" r="4.5"/>'
        f'<text class="strong" x="{left:.1f}" y="{height:.1f}">{escape(chart.last_words)}</text>'
    )


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """At most about `most` points that keep first and last: the mean of each stretch of time."""
    if len(points) <= most:
        return list(points)
    start, width = points[0][0], (points[-1][0] - points[0][0]) / most or 1
    stretches: dict[int, list[Point]] = {}
    for point in points[1:-1]:
        stretches.setdefault(int((point[0] - start) / width), []).append(point)
    inner = [(round(fmean(t for t, _ in run)), fmean(v for _, v in run)) for run in stretches.values()]
    return [points[0], *inner, points[-1]]


# --- small ones ------------------------------------------------------------------------------


def health_bar(share: float, *, due: bool = False) -> Markup:
    """How far a part is from new (0) to its limit (1), with the limit as a tick at the end."""
    level = round(min(1.0, max(0.0, share)) * 98, 1)
    return Markup(
        f'<svg class="bar{" due" if due else ""}" aria-hidden="true">'
        '<rect class="track" y="4" width="98.5%" height="6" rx="3"/>'
        f'<rect class="level" y="4" width="{level}%" height="6" rx="3"/>'
        '<rect class="limit" x="98.5%" width="2" height="14"/></svg>'
    )


def fill_bar(share: float) -> Markup:
    """How full a day is."""
    level = round(min(1.0, max(0.0, share)) * 100)
    return Markup(
        '<svg width="100%" height="3" aria-hidden="true">'
        '<rect class="none" width="100%" height="3" rx="1.5"/>'
        f'<rect class="full" width="{level}%" height="3" rx="1.5"/></svg>'
    )


def wear_bar(share: float) -> Markup:
    """The display's bar: worn, to go, limit."""
    level = round(min(1.0, max(0.0, share)) * 100, 1)
    dots = (
        f'<path class="to-go" d="M0 13"/><line class="to-go" x1="{level + 1.5}%" y1="13" x2="98%" y2="13"/>'
    )
    return Markup(
        '<svg height="26" aria-hidden="true"><rect class="track" y="6" width="99.5%" height="14" rx="7"/>'
        f"{dots if level < 94 else ''}"
        f'<rect class="level" y="6" width="{level}%" height="14" rx="7"/>'
        '<rect class="limit" x="99.5%" y="-2" width="4" height="30" rx="2"/></svg>'
    )


def wash_bar(done: int, of: int) -> Markup:
    """A bar that counts: one block a wash; sixty blocks for more than sixty."""
    of, done = max(1, of), max(0, min(done, of))
    if of > 60:
        of, done = 60, done * 60 // of
    pitch = 97.5 / of
    blocks = "".join(
        f'<rect class="{"on" if k < done else "off"}" x="{k * pitch:.2f}%" y="5" width="{pitch * 0.66:.2f}%" '
        'height="10" rx="2"/>'
        for k in range(of)
    )
    return Markup(
        f'<svg class="washes" height="22" aria-hidden="true">{blocks}'
        '<rect class="limit" x="99%" width="3" height="22" rx="1.5"/></svg>'
    )


def funnel_bar(fulfilled: int, answered: int, sent: int, found: int) -> Markup:
    """A rule's way from finding to fulfilled; each part is what got so far and no farther."""
    if found <= 0:
        return Markup(
            '<svg class="funnel" aria-hidden="true"><rect class="d" width="100%" height="12" rx="3"/></svg>'
        )
    parts, x = [], 0.0
    shares = (fulfilled, max(0, answered - fulfilled), max(0, sent - answered), max(0, found - sent))
    for share, kind in zip(shares, "abcd", strict=True):
        wide = 100 * share / max(found, sum(shares))
        if wide:
            parts.append(f'<rect class="{kind}" x="{x:.1f}%" width="{wide:.1f}%" height="12"/>')
        x += wide
    return Markup(f'<svg class="funnel" aria-hidden="true">{"".join(parts)}</svg>')


def ribbon(rates: Sequence[float]) -> Markup:
    """The path as one ribbon, as thick as the logarithm of the rate (a second) at each step.

    Drawn 800 × 88 and stretched to the width there is; a step is a hundred wide.
    """
    halves = [_thickness(rate) for rate in rates]
    top = f"M0 {44 - halves[0]:.1f}"
    for k in range(1, len(halves)):
        turn = k * 100 - 16
        if halves[k] != halves[k - 1]:
            a, b = 44 - halves[k - 1], 44 - halves[k]
            top += f"H{turn - 22}C{turn} {a:.1f} {turn} {b:.1f} {turn + 22} {b:.1f}"
    outline = top + f"H{len(halves) * 100}"
    bottom, wide = _mirrored(halves), len(halves) * 100
    return Markup(
        f'<svg class="ribbon" viewBox="0 0 {wide} 88" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="body" d="{outline}{bottom}z"/><path class="spine" d="M0 44H{wide}"/></svg>'
    )


def _mirrored(halves: Sequence[float]) -> str:
    path = f"V{44 + halves[-1]:.1f}"
    for k in range(len(halves) - 1, 0, -1):
        turn = k * 100 - 16
        if halves[k] != halves[k - 1]:
            a, b = 44 + halves[k], 44 + halves[k - 1]
            path += f"H{turn + 22}C{turn} {a:.1f} {turn} {b:.1f} {turn - 22} {b:.1f}"
    return path + "H0"


def _thickness(per_second: float) -> float:
    """Half the ribbon's height: 1.5 at nothing, about 30 at ten thousand a second."""
    per_day = per_second * 86_400
    return 1.5 + (0 if per_day <= 0 else min(40.0, 3.2 * math.log10(1 + per_day)))


def share_bar(share: float) -> Markup:
    """A plain bar, for counts in a row."""
    level = round(min(1.0, max(0.0, share)) * 100)
    return Markup(f'<svg aria-hidden="true"><rect width="{max(level, 1)}%" height="10" rx="2"/></svg>')


def log_share(value: float, most: float) -> float:
    """Where `value` stands between 0 and `most` on a logarithmic scale."""
    return math.log1p(value) / math.log1p(most) if most > 0 else 0.0
