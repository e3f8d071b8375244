"""After-sales, feedback: NPS, CSAT and CES by month, each with its interval, and what customers wrote."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from types import SimpleNamespace as Shown
from urllib.parse import quote

from aiohttp import web

from gateway.domain import moments
from gateway.domain.feedback import SCALES, Feedback
from gateway.ports import Records
from gateway.web import pictures
from gateway.web.pages_operator import Desk, open_desk, operator_only
from gateway.web.render import ZONE
from gateway.web.scores import Score, scores
from gateway.web.words import Words

routes = web.RouteTableDef()

MONTHS = 6
COMMENTS = 20
LOOKED_THROUGH = 500
"""So many of the newest answers are searched for words."""
ORDER = ("nps", "csat", "ces")
NET = (-100.0, 100.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Month:
    """The answers to the questions of one month, on the calendar of after-sales."""

    start: int
    scores: dict[str, Score]


def load_months(records: Records, now: int) -> list[Month]:
    """The last months, the oldest first; the present one goes to now."""
    first = moments.local(now, ZONE).date().replace(day=1)
    starts = [first]
    for _ in range(MONTHS - 1):
        starts.insert(0, (starts[0] - timedelta(days=1)).replace(day=1))
    edges = [_midnight(day) for day in starts] + [now + 1]
    return [
        Month(start=since, scores={score.question: score for score in scores(records, since, until)})
        for since, until in itertools.pairwise(edges)
    ]


def _midnight(day: date) -> int:
    return moments.instants(day, 0, ZONE)[0]


@routes.get("/operator/feedback")
@operator_only
async def feedback(request: web.Request) -> web.Response:
    """What customers answered, over time."""
    at = await open_desk(request)

    def work(records: Records) -> tuple[list[Month], list[tuple[Feedback, str, str]]]:
        newest = records.feedback.page(limit=LOOKED_THROUGH)
        written = [one for one in newest if one.comment][:COMMENTS]
        for one in written:
            at.who.saw(one.owner, f"feedback:{one.id}", "check_feedback")
        return load_months(records, at.now), [(one, *_about(records, one)) for one in written]

    months, written = await at.read(work)
    view = Shown(
        questions=[question(name, months, at.words) for name in ORDER if _asked(name, months)],
        comments=[_comment(one, owner, product, at) for one, owner, product in written],
    )
    return at.answer("operator_feedback.html", "feedback", view)


def _asked(name: str, months: Sequence[Month]) -> bool:
    return any(month.scores[name].answered for month in months)


def _about(records: Records, one: Feedback) -> tuple[str, str]:
    device = records.devices.find(one.device) if one.device else None
    return records.owners.get(one.owner).name, device.title if device else ""


def question(name: str, months: Sequence[Month], words: Words) -> Shown:
    """One question: its course, the present value in a sentence, and the same as a table."""
    measured = [(month, month.scores[name]) for month in months]
    dots = [
        pictures.Dot(name=words.when(month.start, "month"), value=_value(score), low=low, high=high)
        for month, score in measured
        for low, high in [_range(score)]
    ]
    low, high = NET if name == "nps" else SCALES[name]
    newest = [pair for pair in measured if pair[1].answered]
    label = words(f"scores.{name}")
    return Shown(
        key=name,
        label=label,
        now=_sentence(newest[-1][1], words),
        change=_change([score for _, score in newest], words),
        chart=pictures.scores_chart(dots, low, high, f"{label} {words('scores.over_time')}"),
        answers=words("operator.answers", count=sum(score.answered for _, score in measured)),
        rows=[
            (
                words.when(month.start, "month_year"),
                _text(score, words),
                _between(score, words),
                _of(score, words),
            )
            for month, score in reversed(measured)
        ],
    )


def _value(score: Score) -> float | None:
    return score.net if score.question == "nps" else score.mean


def _range(score: Score) -> tuple[float | None, float | None]:
    found = score.net_interval if score.question == "nps" else score.interval
    return found or (None, None)


def _digits(score: Score) -> int:
    return 0 if score.question == "nps" else 1


def _text(score: Score, words: Words) -> str:
    value = _value(score)
    return "–" if value is None else words.number(value, _digits(score))


def _between(score: Score, words: Words) -> str:
    low, high = _range(score)
    if low is None or high is None:
        return "–"
    return f"{words.number(low, _digits(score))} … {words.number(high, _digits(score))}"


def _of(score: Score, words: Words) -> str:
    return words("scores.asked", answered=words.number(score.answered), asked=words.number(score.asked))


def _sentence(score: Score, words: Words) -> str:
    low, high = _range(score)
    if low is None or high is None:
        return words("scores.alone", value=_text(score, words))
    known = {
        "value": _text(score, words),
        "low": words.number(low, _digits(score)),
        "high": words.number(high, _digits(score)),
    }
    if score.question == "nps":
        return words("scores.nps_now", **known)
    return words("scores.mean_now", most=SCALES[score.question][1], **known)


def _change(answered: Sequence[Score], words: Words) -> str:
    """Whether the last month differs from the one before by more than both intervals allow."""
    if len(answered) < 2:
        return ""
    (low, high), (before_low, before_high) = _range(answered[-1]), _range(answered[-2])
    if low is None or high is None or before_low is None or before_high is None:
        return ""
    way = "better" if low > before_high else "worse" if high < before_low else "unclear"
    return words(f"scores.{way}")


def _comment(one: Feedback, owner: str, product: str, at: Desk) -> Shown:
    most = SCALES[one.question][1]
    return Shown(
        text=one.comment,
        score=at.words("following.scored", question=one.question.upper(), n=one.score, most=most),
        owner=owner,
        owner_url=f"/operator/owners/{quote(one.owner)}",
        product=product,
        when=at.words.moment(one.answered_at or one.asked_at, at.now),
    )
