"""What the answers to the questions say together, and how sure that is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from gateway.domain.feedback import SCALES
from gateway.domain.measures import Z95
from gateway.ports import Records

PROMOTER, DETRACTOR = 9, 6
"""NPS: from nine on somebody recommends us, up to six they do not (Reichheld, 2003)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """The answers to one question."""

    question: str
    asked: int
    distribution: Mapping[int, int]
    """{score: how many}"""
    expected: Mapping[str, int] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        return sum(self.distribution.values())

    @property
    def mean(self) -> float | None:
        total = sum(score * n for score, n in self.distribution.items())
        return round(total / self.answered, 3) if self.answered else None

    @property
    def interval(self) -> tuple[float, float] | None:
        return interval_of(self.distribution, *SCALES[self.question])

    @property
    def net(self) -> float | None:
        """Net promoter score, in percent; None for any other question, or nobody."""
        if self.question != "nps" or not self.answered:
            return None
        good = sum(n for score, n in self.distribution.items() if score >= PROMOTER)
        bad = sum(n for score, n in self.distribution.items() if score <= DETRACTOR)
        return round(100 * (good - bad) / self.answered, 1)

    @property
    def net_interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the net promoter score, in percent, made as that of a mean."""
        if self.question != "nps":
            return None
        sides: Counter[int] = Counter()
        for score, n in self.distribution.items():
            sides[(score >= PROMOTER) - (score <= DETRACTOR)] += n
        found = interval_of(sides, -1, 1)
        return None if found is None else (round(100 * found[0], 1), round(100 * found[1], 1))


def scores(records: Records, since: int, until: int) -> list[Score]:
    """Of the questions put in since … until (ms), each of the three."""
    rows = records.analytics.scores(since, until)
    return [_score(question, rows) for question in SCALES]


def scores_by(records: Records, by: str, since: int, until: int) -> dict[str, list[Score]]:
    """The same by rule, kind, model, firmware or week (as ISO has them), each question that was put."""
    rows: dict[str, list[tuple[str, int | None, str | None, int]]] = {}
    for key, question, score, how, n in records.analytics.scores_by(by, since, until):
        name = week_of(int(key)) if by == "week" else key
        rows.setdefault(name, []).append((question, score, how, n))
    made = {key: [_score(question, found) for question in SCALES] for key, found in sorted(rows.items())}
    return {key: [score for score in found if score.asked] for key, found in made.items()}


def week_of(weeks: int) -> str:
    """The ISO week that is so many weeks after the Monday before 1970."""
    year, week, _ = (datetime(1969, 12, 29, tzinfo=UTC) + timedelta(weeks=weeks)).isocalendar()
    return f"{year}-W{week:02}"


def _score(question: str, rows: list[tuple[str, int | None, str | None, int]]) -> Score:
    distribution: Counter[int] = Counter()
    expected: Counter[str] = Counter()
    asked = 0
    for name, score, how, n in rows:
        if name == question:
            asked += n
            if score is not None:
                distribution[score] += n
            if how is not None:
                expected[how] += n
    return Score(question=question, asked=asked, distribution=distribution, expected=expected)


def interval_of(distribution: Mapping[int, int], low: int, high: int) -> tuple[float, float] | None:
    """A 95 % interval for the mean of bounded scores; None below two answers.

    As Agresti and Coull (1998) do for proportions, two answers are added at each end of the scale
    before the normal interval is taken: three owners who all gave five are no certainty.
    """
    answered = sum(distribution.values())
    if answered < 2:
        return None
    widened = Counter(distribution)
    widened.update({low: 2, high: 2})
    n = sum(widened.values())
    centre = sum(score * k for score, k in widened.items()) / n
    spread = sum(k * (score - centre) ** 2 for score, k in widened.items())
    half = Z95 * math.sqrt(spread / (n - 1) / n)
    mean = sum(score * k for score, k in distribution.items()) / answered
    return (
        round(min(mean, max(float(low), centre - half)), 3),
        round(max(mean, min(float(high), centre + half)), 3),
    )
