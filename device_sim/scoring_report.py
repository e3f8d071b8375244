"""A score as a table for people, and as a picture (SVG, which needs nothing to be drawn)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

from device_sim.scoring import Score

AIMS = (
    ("recall", "recall", 0.9, True),
    ("precision", "precision", 0.8, True),
    ("median_lead_days", "median lead, days", 10.0, True),
    ("prevented", "failures prevented", None, True),
    ("contacts_per_repair", "contacts per repair", 1.2, False),
    ("needless_per_owner_year", "needless contacts, owner and year", 0.5, False),
    ("touchpoints_per_owner_month", "touchpoints, owner and month", None, False),
    ("precision_of_all", "precision with hints", None, True),
)
"""(figure, in words, what it is to reach, whether more is better)"""
COLOURS = ("#1f5fa8", "#d97a1e")


def as_text(scores: Mapping[str, Score], meta: Mapping[str, Any]) -> str:
    """Figures side by side, then needs and rules."""
    labels = [*scores]
    lines = [f"{meta['scenario']}, seed {meta['seed']}, {meta['devices']} devices", ""]
    lines.append(f"{'':36}{''.join(f'{label:>12}' for label in labels)}{'aim':>10}")
    for key, words, aim, more in AIMS:
        values = "".join(f"{_said(scores[label].plain()[key]):>12}" for label in labels)
        wanted = "" if aim is None else f"{'>=' if more else '<='} {aim:g}"
        lines.append(f"{words:36}{values}{wanted:>10}")
    for label in labels:
        lines += ["", *_needs(scores[label], label), "", *_rules(scores[label])]
    return "\n".join(lines)


def _said(value: Any) -> str:
    return "–" if value is None else f"{value:g}"


def _needs(score: Score, label: str) -> list[str]:
    lines = [f"{label}: needs{'':24}{'needs':>8}{'found':>8}{'in time':>9}{'lead, d':>9}"]
    for what, tally in sorted(score.by_need.items(), key=lambda item: -item[1].needs):
        lead = "–" if tally.lead is None else f"{tally.lead:.0f}"
        lines.append(f"  {what:32}{tally.needs:>8}{tally.announced:>8}{tally.prevented:>9}{lead:>9}")
    return lines


def _rules(score: Score) -> list[str]:
    lines = [f"{'rule':40}{'findings':>10}{'right':>8}{'contacts':>10}"]
    for rule, count in sorted(score.rules.items(), key=lambda item: -item[1].findings):
        lines.append(f"{rule:40}{count.findings:>10}{count.right:>8}{count.contacts:>10}")
    return lines


# --- the picture ------------------------------------------------------------------------------------


def as_picture(scores: Mapping[str, Score], meta: Mapping[str, Any]) -> str:
    """The figures against their aims, how early failures were announced, and the recall of each need."""
    parts = [_text(20, 30, f"{meta['scenario']}, seed {meta['seed']}, {meta['devices']} devices", size=18)]
    for number, label in enumerate(scores):
        parts.append(
            f'<rect x="{20 + 160 * number}" y="44" width="12" height="12" fill="{COLOURS[number % 2]}"/>'
        )
        parts.append(_text(38 + 160 * number, 55, label))
    parts += _figures(scores, 90)
    parts += _leads(scores, 380)
    needs = sorted({what for score in scores.values() for what in score.by_need})
    parts += _recalls(scores, needs, 600)
    height = 640 + 16 * len(needs)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 {height}" font-family="sans-serif" '
        f'font-size="12"><rect width="900" height="{height}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'


def _bar(x: float, y: float, width: float, number: int) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{max(0.5, width):.1f}" height="11" fill="{COLOURS[number % 2]}"/>'
    )


def _figures(scores: Mapping[str, Score], top: float) -> list[str]:
    parts = []
    for row, (key, words, aim, _) in enumerate(AIMS):
        y = top + 34 * row
        values = [score.plain()[key] or 0.0 for score in scores.values()]
        scale = 420 / max(*values, aim or 0.0, 1e-9)
        parts.append(_text(20, y + 16, words))
        for number, value in enumerate(values):
            parts.append(_bar(260, y + 3 + 13 * number, value * scale, number))
            parts.append(_text(266 + value * scale, y + 13 + 13 * number, f"{value:g}"))
        if aim is not None:
            x = 260 + aim * scale
            parts.append(f'<path d="M{x:.1f} {y}v30" stroke="#555" stroke-dasharray="3 2"/>')
            parts.append(_text(850, y + 16, f"aim {aim:g}", anchor="end"))
    return parts


BINS = (0, 2, 5, 10, 20, 40, 60, 90, 400)


def _leads(scores: Mapping[str, Score], top: float) -> list[str]:
    parts = [_text(20, top, "How early repairs were announced, days", size=14)]
    counts = [_binned(score.repairs.leads) for score in scores.values()]
    most = max((count for row in counts for count in row), default=1) or 1
    for column, (low, high) in enumerate(pairwise(BINS)):
        x = 40 + column * 100
        for number, row in enumerate(counts):
            height = 130 * row[column] / most
            y = top + 160 - height
            place = f'x="{x + 34 * number}" y="{y:.1f}" width="32" height="{height:.1f}"'
            parts.append(f'<rect {place} fill="{COLOURS[number % 2]}"/>')
            parts.append(_text(x + 16 + 34 * number, y - 3, str(row[column]), anchor="middle"))
        parts.append(
            _text(x + 34, top + 176, f"{low}–{high}" if high < 400 else f"{low} and more", anchor="middle")
        )
    return parts


def _binned(leads: Sequence[float]) -> list[int]:
    return [sum(low <= lead < high for lead in leads) for low, high in pairwise(BINS)]


def _recalls(scores: Mapping[str, Score], needs: Sequence[str], top: float) -> list[str]:
    parts = [_text(20, top, "Share of needs that were announced", size=14)]
    for row, what in enumerate(needs):
        y = top + 14 + 16 * row
        parts.append(_text(20, y + 11, what))
        for number, score in enumerate(scores.values()):
            tally = score.by_need.get(what)
            if tally is not None and tally.recall is not None:
                width = 12 if len(scores) == 1 else 6
                parts.append(
                    f'<rect x="260" y="{y + 6 * number}" width="{max(0.5, 420 * tally.recall):.1f}" '
                    f'height="{width}" fill="{COLOURS[number % 2]}"/>'
                )
                if number == 0:
                    parts.append(_text(700, y + 11, f"{tally.announced} of {tally.needs}"))
    return parts
