"""The one question afterwards."""

from __future__ import annotations

from gateway.domain.access import Role
from gateway.domain.feedback import SCALES, Feedback
from gateway.flow import follow_up
from gateway.ports import Records
from gateway.web import rights
from gateway.web.access import STAFF
from gateway.web.api import speaking
from gateway.web.api.endpoint import Call, Endpoints, ListQuery, Page, fault_at, page
from gateway.web.api.shapes import FeedbackIn, FeedbackOut, Id

endpoints = Endpoints("Feedback")


class FeedbackQuery(ListQuery):
    """Which questions."""

    owner: Id | None = None
    touchpoint: Id | None = None


@endpoints.get("/feedback", Role.OWNER, *STAFF)
async def list_feedback(call: Call, query: FeedbackQuery) -> Page[FeedbackOut]:
    """List the questions that were asked or wait to be, newest first: an owner's own, or all."""

    def work(records: Records) -> list[Feedback]:
        return records.feedback.page(
            owner=rights.only(call.who, Role.OWNER, query.owner),
            touchpoint=query.touchpoint,
            after=query.after(),
            limit=query.limit + 1,
        )

    rows = await call.read(work)
    for feedback in rows[: query.limit]:
        call.who.saw(feedback.owner, "feedback", "list")
    return page(rows, query.limit, FeedbackOut.of, lambda feedback: feedback.id)


@endpoints.post("/feedback/{feedback_id}", Role.OWNER, *STAFF)
async def answer_feedback(call: Call, feedback_id: str, body: FeedbackIn) -> FeedbackOut:
    """Answer the question: csat 1 to 5, ces 1 to 7, nps 0 to 10.

    `expected` may be given with the answer, or later with the same score again.
    """

    def work(records: Records) -> FeedbackOut:
        asked = rights.feedback(records, call.who, feedback_id)
        low, high = SCALES[asked.question]
        if not low <= body.score <= high:
            raise fault_at("score", f"score: {asked.question} goes from {low} to {high}.")
        matter, policy = speaking.matter_of(records, asked.touchpoint), call.context.policy
        by = speaking.speaker(call, records, matter, body) if matter is not None else ""
        rated = follow_up.rate(records, feedback_id, body.score, body.comment, call.now, policy)
        if body.expected is not None:
            rated = follow_up.compare(records, feedback_id, body.expected, call.now)
        if matter is not None and rated != asked:
            speaking.tell(call, records, matter, body, by)
        return FeedbackOut.of(rated)

    touchpoint = await call.read(lambda r: rights.feedback(r, call.who, feedback_id).touchpoint)
    if touchpoint is not None:
        await speaking.verify_first(call, touchpoint, body)
    return await call.write(work)
