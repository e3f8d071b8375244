"""How news of a visit reads as a mail, for owners whom no browser reaches.

Worded when it is sent, as the push is: what is not so any more is not sent. A question for extra work
carries its own link, so that one tap answers it without signing in.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.domain import mail
from gateway.domain.delivery import Delivery
from gateway.domain.errors import NotFoundError
from gateway.domain.links import Purpose
from gateway.domain.texts import Texts
from gateway.domain.visit_words import visit_words
from gateway.flow import links
from gateway.ports import Records

ABOUT = ("visit", "reminder", "extra_work")
EMAIL = "email"


def render(records: Records, delivery: Delivery, now: int, texts: Texts, public_url: str) -> Delivery | None:
    """The row with its payload complete; None when nobody needs it any more."""
    payload = delivery.payload
    try:
        owner = records.owners.get(delivery.owner or "")
        extra = records.workshops.extra(payload["extra"]) if "extra" in payload else None
        appointment = records.workshops.appointment(extra.appointment if extra else payload["appointment"])
        workshop = records.workshops.get(appointment.workshop)
        device = records.devices.get(appointment.device or "")
    except NotFoundError:
        return None
    said = visit_words(
        texts, owner.language, owner.time_zone, payload, appointment, extra, workshop, device, now
    )
    if said is None or not owner.email or records.mail_addresses.undeliverable(owner.email):
        return None
    buttons = [(texts.say(owner.language, "booking.mail.open"), f"{public_url}/me/visits/{appointment.id}")]
    if extra is not None:
        secret = links.mint(
            records,
            owner=owner.id,
            purpose=Purpose.EXTRA_WORK,
            about=extra.id,
            now=now,
            expires_at=extra.answer_by,
        )
        buttons = [(texts.say(owner.language, "booking.mail.answer"), f"{public_url}/a/{secret}")]
    language = texts.language(owner.language)
    paragraphs = [texts.say(owner.language, "delivering.mail.greeting", name=owner.name), said.body]
    lines = [*paragraphs, *(f"{label}: {address}" for label, address in buttons)]
    return replace(
        delivery,
        payload={
            "to": owner.email,
            "subject": said.title,
            "text": "\n\n".join(lines) + "\n",
            "html": mail.page(
                language=language,
                title=said.title,
                paragraphs=paragraphs,
                buttons=buttons,
                small=[],
                links=[],
            ),
            "headers": {"Auto-Submitted": "auto-generated", "Content-Language": language},
            "language": language,
        },
    )
