"""How what comes after a job reads: the one question, that somebody looks into it, what came of it.

Worded when it is sent: a question that was answered meanwhile, or a case that has gone on, is not sent
any more. `telling` queues it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.domain.delivery import Delivery
from gateway.domain.device import Device
from gateway.domain.errors import NotFoundError
from gateway.domain.owner import Owner
from gateway.domain.texts import Texts
from gateway.flow import consents
from gateway.ports import Records

QUESTION, CASE_OPENED, CASE, SAID = "question", "case_opened", "case", "said"
ABOUT = (QUESTION, CASE_OPENED, CASE, SAID)
"""What this module words; `payload["about"]` of their deliveries."""

EMAIL = "email"
SHOWN_S = 3 * 86_400
"""For so long a push service keeps it for a phone that is off."""


def render(records: Records, delivery: Delivery, now: int, texts: Texts, public_url: str) -> Delivery | None:
    """The row with its payload complete; None when nobody needs it any more."""
    try:
        owner = records.owners.get(delivery.owner or "")
        said = _said(records, delivery, owner, texts)
    except NotFoundError:
        return None
    if said is None:
        return None
    title, body, path = said
    url = f"{public_url}{path}"
    if delivery.channel == EMAIL:
        mail = {"to": delivery.target, "subject": title, "text": f"{body}\n\n{url}\n", "html": None}
        return replace(
            delivery, payload={**delivery.payload, "mail": {**mail, "headers": {}, "calendar": None}}
        )
    push = _push(records, delivery, owner, url)
    if push is None:
        return None
    message = {
        "id": delivery.id,
        "touchpoint": delivery.touchpoint,
        "about": delivery.payload["about"],
        "title": title,
        "body": body,
        "severity": "advice",
        "language": owner.language,
        "actions": [],
        "url": url,
    }
    return replace(delivery, payload={**push, "message": message})


def _push(records: Records, delivery: Delivery, owner: Owner, url: str) -> dict[str, Any] | None:
    subscription = records.owners.subscription(delivery.target)
    if subscription is None or subscription.dropped is not None or subscription.owner != owner.id:
        return None  # the browser is gone, or has changed hands since it was queued
    return {
        "endpoint": subscription.endpoint,
        "p256dh": subscription.p256dh,
        "auth": subscription.auth,
        "topic": (delivery.touchpoint or delivery.id).replace("-", "")[:32],
        "urgency": "normal",
        "ttl_s": SHOWN_S,
    }


def _said(records: Records, delivery: Delivery, owner: Owner, texts: Texts) -> tuple[str, str, str] | None:
    """(title, body, path of the page), None when it was overtaken."""
    payload = delivery.payload
    if payload["about"] == QUESTION:
        return _question(records, str(payload["feedback"]), owner, texts)
    if payload["about"] == SAID:
        return _line(records, delivery, owner, texts)
    return _case(records, str(payload["case"]), str(payload["about"]), owner, texts)


def _question(records: Records, feedback_id: str, owner: Owner, texts: Texts) -> tuple[str, str, str] | None:
    asked = records.feedback.get(feedback_id)
    if asked.answered_at is not None or not consents.allowed(records, owner.id, consents.SURVEY):
        return None
    key, product = f"actions.question.{asked.question}", _product(_device(records, asked.device))
    title = texts.say(owner.language, f"{key}.title", product=product)
    body = texts.say(owner.language, f"{key}.body", product=product)
    return title, body, f"/me/feedback/{asked.id}"


def _case(
    records: Records, case_id: str, about: str, owner: Owner, texts: Texts
) -> tuple[str, str, str] | None:
    case = records.cases.get(case_id)
    if about == CASE_OPENED and case.state != "open":
        return None  # they have heard more than that by now
    which = f"opened.{case.kind}" if about == CASE_OPENED else str(case.state)
    key, product = f"actions.case.{which}", _product(_device(records, case.device))
    until = texts.moment(owner.language, case.due_at, owner.time_zone)
    params = {"product": product, "said": case.outcome or "", "until": until}
    title = texts.say(owner.language, f"{key}.title", **params)
    body = texts.say(owner.language, f"{key}.body", **params)
    return title, body, f"/me/touchpoints/{case.touchpoint}" if case.touchpoint else "/me"


def _line(records: Records, delivery: Delivery, owner: Owner, texts: Texts) -> tuple[str, str, str] | None:
    """What somebody of after-sales said or did for the owner."""
    said = records.conversations.line(str(delivery.payload["line"]))
    if said is None:
        return None
    product = _product(_device(records, records.touchpoints.get(said.touchpoint).device))
    title = texts.say(owner.language, "actions.talk.title", product=product)
    body = said.text or texts.say(owner.language, f"talking.told.{said.code}")
    return title, body, f"/me/touchpoints/{said.touchpoint}/talk"


def _device(records: Records, device_id: str | None) -> Device | None:
    return records.devices.find(device_id) if device_id else None


def _product(device: Device | None) -> str:
    return device.title if device else ""
