"""How the lines of a conversation read, for pages and API."""

from __future__ import annotations

from gateway.domain.conversation import Said
from gateway.domain.texts import Texts


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
