"""The one question afterwards, and what the answers say together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from gateway.domain.access import Role
from gateway.domain.feedback import SCALES, Feedback
from gateway.flow import follow_up
from gateway.ports import Records
from gateway.web import rights
from gateway.web.access import STAFF
from gateway.web.api.endpoint import Call, Endpoints, ListQuery, Page, fault_at, page
from gateway.web.api.shapes import FeedbackIn, FeedbackOut, Id, ScoreOut, ScoresOut

PAGE = 5_000
Z95 = 1.959964
"""two-sided 95 % quantile of the normal distribution"""

endpoints = Endpoints("Feedback")


class FeedbackQuery(ListQuery):
    """Which questions."""

    owner: Id | None = None
    touchpoint: Id | None = None


@endpoints.get("/feedback", Role.OWNER, *STAFF)
async def list_feedback(call: Call, query: FeedbackQuery) -> Page[FeedbackOut]:
    """List the questions that were asked, newest first: an owner's own, or all."""

    def work(records: Records) -> list[Feedback]:
        return records.feedback.page(
            owner=rights.only(call.who, Role.OWNER, query.owner),
            touchpoint=query.touchpoint,
            after=query.after(),
            limit=query.limit + 1,
        )

    return page(await call.read(work), query.limit, FeedbackOut.of, lambda feedback: feedback.id)


@endpoints.post("/feedback/{feedback_id}", Role.OWNER, *STAFF)
async def answer_feedback(call: Call, feedback_id: str, body: FeedbackIn) -> FeedbackOut:
    """Answer the question: csat 1 to 5, ces 1 to 7, nps 0 to 10."""

    def work(records: Records) -> FeedbackOut:
        asked = rights.feedback(records, call.who, feedback_id)
        low, high = SCALES[asked.question]
        if not low <= body.score <= high:
            raise fault_at("score", f"score: {asked.question} goes from {low} to {high}.")
        return FeedbackOut.of(follow_up.rate(records, feedback_id, body.score, body.comment, call.now))

    return await call.write(work)


@endpoints.get("/analytics/feedback", *STAFF)
async def score_feedback(call: Call) -> ScoresOut:
    """Show the mean of the answers to each question, with how many answered and how sure it is."""

    def work(records: Records) -> ScoresOut:
        rows = list(all_feedback(records))
        return ScoresOut(items=[score_of(question, rows) for question in SCALES])

    return await call.read(work)


def all_feedback(records: Records) -> Iterator[Feedback]:
    """Every question asked, page by page."""
    after: str | None = None
    while rows := records.feedback.page(after=after, limit=PAGE):
        yield from rows
        after = rows[-1].id


def score_of(question: str, rows: Sequence[Feedback]) -> ScoreOut:
    """What the answers to one question say."""
    asked = [row for row in rows if row.question == question]
    scores = [row.score for row in asked if row.score is not None]
    low, high = SCALES[question]
    counted = Counter(scores)
    return ScoreOut(
        question=question,
        lowest=low,
        highest=high,
        asked=len(asked),
        answered=len(scores),
        mean=round(sum(scores) / len(scores), 3) if scores else None,
        interval=interval_of(scores, low, high),
        distribution={str(score): counted[score] for score in range(low, high + 1)},
    )


def interval_of(scores: Sequence[int], low: int, high: int) -> tuple[float, float] | None:
    """A 95 % interval for the mean of bounded scores; None below two answers.

    As Agresti and Coull (1998) do for proportions, two answers are added at each end of the scale
    before the normal interval is taken: three owners who all gave five are no certainty.
    """
    if len(scores) < 2:
        return None
    widened = [*scores, low, low, high, high]
    n = len(widened)
    centre = sum(widened) / n
    half = Z95 * math.sqrt(sum((s - centre) ** 2 for s in widened) / (n - 1) / n)
    mean = sum(scores) / len(scores)
    return (
        round(min(mean, max(float(low), centre - half)), 3),
        round(max(mean, min(float(high), centre + half)), 3),
    )
