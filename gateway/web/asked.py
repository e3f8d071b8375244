"""How the one question stands on its owner's pages."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace as Shown

from gateway.domain.case import CaseKind
from gateway.domain.device import Device
from gateway.domain.feedback import EXPECTED, SCALES, Feedback
from gateway.ports import Records
from gateway.web import views
from gateway.web.context import Context
from gateway.web.words import Words

QUESTIONS_MOST = 20
"""So many of an owner's newest questions are looked through for one that waits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A question with what it is about."""

    feedback: Feedback
    matter: views.Matter | None
    """None for a question on the way"""
    device: Device | None
    back_by: int | None = None
    """until when somebody gets back to the owner because of the answer, ms"""


def waiting(records: Records, owner: str, context: Context, now: int) -> list[Asked]:
    """The questions that stand before an owner."""
    questions = records.feedback.page(owner=owner, limit=QUESTIONS_MOST)
    return [load(records, question, context) for question in questions if question.open_at(now)]


def load(records: Records, question: Feedback, context: Context) -> Asked:
    """Read together what a question needs."""
    matter = device = None
    if question.touchpoint is not None:
        matter = views.load_matter(records, records.touchpoints.get(question.touchpoint), context)
        device = matter.device
    elif question.device is not None:
        device = records.devices.find(question.device)
    return Asked(feedback=question, matter=matter, device=device, back_by=_back_by(records, question))


def _back_by(records: Records, question: Feedback) -> int | None:
    if question.score is None:
        return None
    opened = records.cases.page(owner=question.owner, kind=CaseKind.LOW_SCORE, limit=QUESTIONS_MOST)
    theirs = (case for case in opened if case.data.get("feedback") == question.id)
    return next((case.due_at for case in theirs), None)


def card(asked: Asked, context: Context, words: Words, now: int) -> Shown:
    """The question as a card among the owner's matters."""
    product = asked.device.title if asked.device else ""
    if asked.matter is not None:
        product = views.spoken(asked.matter, context, words, now).product
    return Shown(
        id=asked.feedback.id,
        href=f"/me/feedback/{asked.feedback.id}",
        kind_icon=views.kind_icon(asked.device.kind if asked.device else ""),
        product=product,
        text=_lead(asked, words),
        **_scale(asked, words),
    )


def page_view(asked: Asked, words: Words) -> Shown:
    """The question by itself, or thanks for the answer with a second tap that nobody has to make."""
    question = asked.feedback
    return Shown(
        name=_name(asked, words),
        lead=_lead(asked, words),
        action=f"/me/feedback/{question.id}",
        thanks=_thanks(asked, words) if question.answered_at is not None else None,
        **_scale(asked, words),
    )


def _thanks(asked: Asked, words: Words) -> Shown:
    question = asked.feedback
    text = words("feedback.thanks_text", score=question.score, most=SCALES[question.question][1])
    if asked.back_by is not None:
        text = words(
            "following.back_by",
            until=f"{words.when(asked.back_by, 'short')}, {words.when(asked.back_by, 'time')}",
        )
    expected = [
        Shown(value=value, label=words(f"following.expected.{value}"), chosen=value == question.expected)
        for value in EXPECTED
    ]
    return Shown(
        word=words("feedback.thanks_word"),
        title=words("following.sorry") if asked.back_by is not None else words("feedback.thanks"),
        text=text,
        expected=expected if asked.matter is not None else [],
    )


def _scale(asked: Asked, words: Words) -> dict[str, object]:
    key, (low, high) = f"feedback.{asked.feedback.question}", SCALES[asked.feedback.question]
    return {
        "title": words(f"{key}.title", workshop=_place(asked)),
        "scale": list(range(low, high + 1)),
        "low": words(f"{key}.low"),
        "high": words(f"{key}.high"),
    }


def _lead(asked: Asked, words: Words) -> str:
    if asked.matter is None:
        return words("following.on_the_way", product=_name(asked, words))
    return words("feedback.lead", name=_name(asked, words), workshop=_place(asked))


def _name(asked: Asked, words: Words) -> str:
    if asked.matter is not None:
        return views.wording_name(asked.matter, words)
    return asked.device.title if asked.device else ""


def _place(asked: Asked) -> str:
    return asked.matter.workshop.name if asked.matter and asked.matter.workshop else ""
