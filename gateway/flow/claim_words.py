"""How a product's display asks for its owner."""

from __future__ import annotations

from dataclasses import replace

from gateway.domain.delivery import Delivery
from gateway.domain.errors import NotFoundError
from gateway.domain.texts import FALLBACK, Texts
from gateway.domain.times import rfc3339
from gateway.ports import Records

ABOUT = "claim"
"""What an outbox row of the display is about, and the last part of its topic."""


def spaced(code: str) -> str:
    """A code as people read it: BCDF-GHJK."""
    return f"{code[:4]}-{code[4:]}"


def address(public_url: str) -> str:
    """Where the code is typed, as short as people type it."""
    return f"{public_url.rstrip('/').partition('://')[2]}/claim"


def render(records: Records, delivery: Delivery, texts: Texts, public_url: str) -> Delivery:
    """The row as the display takes it; without a code the display is cleared."""
    code = delivery.payload.get("code")
    show = None
    if code:
        language = _language(records, delivery.target)
        show = {
            "id": ABOUT,
            "title": texts.say(language, "pages.claim.display_title"),
            "body": texts.say(
                language, "pages.claim.display_body", url=address(public_url), code=spaced(code)
            ),
            "code": spaced(code),
            "severity": "advice",
            "actions": [],
            "expires": rfc3339(delivery.payload["until"]),
        }
    return replace(delivery, payload={"touchpoint": ABOUT, "show": show})


def _language(records: Records, device_id: str) -> str:
    """Of whoever owns it still; nobody knows who comes."""
    try:
        owner = records.devices.get(device_id).owner
        return records.owners.get(owner).language if owner else FALLBACK
    except NotFoundError:
        return FALLBACK
