"""What the operator's people and systems hear of a rollout that has ended: a webhook, and a mail when it has
stopped by itself and somebody has to look.

Both are queued with the row that says so, under the rollout's own key: whoever is killed in between says it
again, and it is told once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.domain import mail
from gateway.domain.delivery import Delivery
from gateway.domain.ids import new_id
from gateway.domain.texts import Texts
from gateway.domain.webhooks import MANUFACTURER
from gateway.flow import outgoing
from gateway.flow.updates import Ended
from gateway.ports import Records


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatorNews:
    """Called with every rollout that has ended."""

    texts: Texts
    to: Sequence[str]
    """mail addresses; in every language, since nobody said which one they read"""
    public_url: str

    def __call__(self, records: Records, ended: Ended, now: int) -> None:
        """Queue what is to be told."""
        data = {
            "rollout": ended.rollout,
            "release": ended.release,
            "state": ended.state,
            "reason": ended.reason or None,
            "devices": ended.devices,
            "finished": ended.finished,
            "failed": ended.failed,
        }
        key = f"rollout.{ended.state}:{ended.rollout}"
        outgoing.queue_event(records, MANUFACTURER, f"rollout.{ended.state}", data, now, key=key)
        for address in self.to if ended.state == "stopped" else ():
            records.outbox.add(
                Delivery(
                    id=new_id(now),
                    channel=outgoing.EMAIL,
                    target=address,
                    key=key,
                    payload=self._mail(address, ended),
                    due_at=now,
                    created=now,
                )
            )

    def _mail(self, address: str, ended: Ended) -> Mapping[str, Any]:
        place = f"{self.public_url}/operator/firmware/rollouts/{ended.rollout}"
        languages = self.texts.languages()
        titles = [self._say(language, "title", name=ended.name) for language in languages]
        paragraphs = [text for language in languages for text in self._paragraphs(language, ended)]
        button = self._say(languages[0], "open")
        return {
            "about": "rollout",
            "to": address,
            "subject": titles[0],
            "text": "\n\n".join([*paragraphs, place]) + "\n",
            "html": mail.page(
                language=languages[0], title=titles[0], paragraphs=paragraphs, buttons=[(button, place)]
            ),
            "headers": {"Auto-Submitted": "auto-generated"},
        }

    def _paragraphs(self, language: str, ended: Ended) -> list[str]:
        counts = {"devices": ended.devices, "finished": ended.finished, "failed": ended.failed}
        return [
            self._say(language, "title", name=ended.name),
            cause(self.texts, language, ended.cause) or ended.reason,
            self._say(language, "stands", release=ended.release, **counts),
        ]

    def _say(self, language: str, key: str, **params: Any) -> str:
        return self.texts.say(language, f"pages.firmware.mail.{key}", **params)


def cause(texts: Texts, language: str, why: Mapping[str, Any]) -> str:
    """Why a rollout stopped, in that language; empty for what has no text."""
    key = f"pages.firmware.cause.{why.get('code', '')}"
    if not texts.has(key):
        return ""
    params = dict(why)
    if "share" in params:
        params["share"] = texts.number(language, params["share"], 1)
    return texts.say(language, key, **params)
