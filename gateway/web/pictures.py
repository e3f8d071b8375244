"""Small pictures in rows of tables, as SVG: a course, a ratio with its interval, scores with theirs.

What they show stands beside them in words, so screen readers pass them by; `scores_chart` brings its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

SPARK_WIDE, SPARK_HIGH = 92, 24
RATIO_WIDE = 120
LEAST, MOST = -2.0, 4.0
"""A ratio is drawn from a quarter to sixteen times, on the scale of its logarithm to 2."""


def spark(values: Sequence[float]) -> Markup:
    """How something went, with its last value as a dot, above a line at nothing."""
    if not values:
        return Markup("")
    top, step = max([*values, 1.0]), (SPARK_WIDE - 8) / max(1, len(values) - 1)
    points = [(2 + k * step, SPARK_HIGH - 4 - (SPARK_HIGH - 8) * v / top) for k, v in enumerate(values)]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    x, y = points[-1]
    return Markup(
        f'<svg class="spark" width="{SPARK_WIDE}" height="{SPARK_HIGH}" aria-hidden="true">'
        f'<line class="base" x1="0" x2="{SPARK_WIDE}" y1="{SPARK_HIGH - 3.5}" y2="{SPARK_HIGH - 3.5}"/>'
        f'<path d="{path}"/><circle cx="{x:.1f}" cy="{y:.1f}" r="3"/></svg>'
    )


def ratio(value: tuple[float, float, float], *, sure: bool) -> Markup:
    """A ratio with its interval, against the dashed line at one."""
    at, low, high = (_log(part) for part in value)
    one = _log(1.0)
    return Markup(
        f'<svg class="ratio{"" if sure else " chance"}" width="{RATIO_WIDE}" height="24" aria-hidden="true">'
        f'<line class="one" x1="{one:.1f}" x2="{one:.1f}" y1="2" y2="22"/>'
        f'<line class="range" x1="{low:.1f}" x2="{max(high, low + 1):.1f}" y1="12" y2="12"/>'
        f'<circle cx="{at:.1f}" cy="12" r="4"/></svg>'
    )


def _log(value: float) -> float:
    exponent = math.log2(value) if value > 0 else LEAST
    return 5 + (RATIO_WIDE - 10) * (min(MOST, max(LEAST, exponent)) - LEAST) / (MOST - LEAST)


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """A score of a stretch of time; None where nobody answered."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None


def scores_chart(dots: Sequence[Dot], low: float, high: float, title: str) -> Markup:
    """Scores one after the other, each with its interval, from the scale's `low` to its `high`.

    The last one is what counts; where it could be chance, the intervals show it.
    """
    wide, tall, left, foot = 440, 150, 34, 24
    column = (wide - left - 40) / max(1, len(dots))

    def y(value: float) -> float:
        return 8 + (tall - foot - 16) * (high - value) / (high - low)

    parts = [
        f'<line class="grid" x1="{left}" x2="{wide - 36}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>'
        f'<text x="0" y="{y(v) + 4:.1f}">{v:g}</text>'
        for v in (low, (low + high) / 2, high)
    ]
    for k, dot in enumerate(dots):
        x, last = left + column * (k + 0.5), k == len(dots) - 1
        parts.append(f'<text class="middle" x="{x:.1f}" y="{tall - 4}">{escape(dot.name)}</text>')
        if dot.value is None:
            continue
        if dot.low is not None and dot.high is not None:
            parts.append(
                f'<line class="range{" last" if last else ""}" x1="{x:.1f}" x2="{x:.1f}" '
                f'y1="{y(dot.high):.1f}" y2="{y(dot.low):.1f}"/>'
            )
        parts.append(
            f'<circle class="{"last" if last else ""}" cx="{x:.1f}" cy="{y(dot.value):.1f}" r="4.5"/>'
        )
    return Markup(
        f'<svg class="chart scores" viewBox="0 0 {wide} {tall}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )
