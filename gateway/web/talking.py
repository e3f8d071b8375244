"""How the lines of a conversation read, and whether a display offers one; for pages and API."""

from __future__ import annotations

from gateway.domain.conversation import Offer, Said
from gateway.domain.policy import Policy
from gateway.domain.texts import Texts
from gateway.domain.touchpoint import Touchpoint
from gateway.flow import conversation
from gateway.ports import Records


def worded(line: Said, texts: Texts, language: str, zone: str) -> str:
    """What a line says: as it was said, or what happened in the reader's language."""
    if line.code is None:
        return line.text
    key = f"talking.lines.{line.code}"
    if not texts.has(key):
        return line.code
    params = dict(line.params)
    if "until" in params:
        params["until"] = texts.moment(language, params["until"], zone)
    if "action" in params and texts.has(f"actions.{params['action']}"):
        params["action"] = texts.say(language, f"actions.{params['action']}")
    return texts.say(language, key, **params)


def asks(records: Records, found: Touchpoint, now: int, policy: Policy) -> bool:
    """Whether a display offers to talk: somebody is there, it is parked, and nobody has asked yet."""
    held = records.conversations.find(found.id)
    offered = conversation.offered(records, found, now, policy, display=True)
    return offered.offer is Offer.TALK and (held is None or held.waiting_since is None)
