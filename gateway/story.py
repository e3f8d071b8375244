"""The life of every touchpoint as steps with their times, gathered from what has changed in the database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.domain.times import rfc3339
from gateway.domain.touchpoint import Touchpoint
from gateway.ports import ChangeFeed, Database, Records

STEPS = ("reading", "finding", "moment", "answer", "booked", "done", "feedback")
"""From the reading to the answer to the one question, in this order."""

LINES = {
    "moment": "touchpoint",
    "answer": "answer",
    "booked": "appointment",
    "done": "done",
    "feedback": "feedback",
}
"""Step → type of its line."""


class Story:
    """Follows all touchpoints from now on."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._feed: ChangeFeed = database.watch("touchpoint", "appointment", "feedback")
        self._lives: dict[str, tuple[Touchpoint, Steps]] = {}
        self._lines: list[Mapping[str, Any]] = []

    async def follow(self) -> None:
        """Take up what has changed since the last call."""
        changed = self._feed.take()
        if not changed:
            return
        for touchpoint, steps in await self._database.read(lambda r: list(_touched(r, changed))):
            before = self._lives.get(touchpoint.id, (touchpoint, dict.fromkeys(steps)))[1]
            self._lives[touchpoint.id] = (touchpoint, steps)
            for step, kind in LINES.items():
                at = steps[step]
                if at is not None and before.get(step) is None:
                    self._lines.append(
                        {
                            "type": kind,
                            "touchpoint": touchpoint.id,
                            "rule": touchpoint.rule,
                            "device": touchpoint.device,
                            "at": rfc3339(at),
                        }
                    )

    def take(self) -> list[Mapping[str, Any]]:
        """The lines since the last call, by time, device and rule; a touchpoint's own in their order."""
        lines, self._lines = self._lines, []
        return sorted(lines, key=lambda line: (line["at"], line["device"], line["rule"]))

    def steps(self, device: str, rule: str) -> Mapping[str, int | None]:
        """{step: ms or None} of the newest touchpoint of this device and rule; all None when there is none.

        Besides STEPS it has "asked", when the one question was put.
        """
        found = [steps for t, steps in self._lives.values() if t.device == device and t.rule == rule]
        return found[-1] if found else dict.fromkeys((*STEPS, "asked"))

    def counts(self) -> Mapping[str, int]:
        """{type of line: how many touchpoints have come so far}."""
        return {
            kind: sum(steps[step] is not None for _, steps in self._lives.values())
            for step, kind in LINES.items()
        }


Steps = dict[str, int | None]
"""Step → ms, None while it has not been reached."""


def _touched(records: Records, changed: list[tuple[str, str]]) -> Iterator[tuple[Touchpoint, Steps]]:
    touched = dict.fromkeys(filter(None, (_about(records, *change) for change in changed)))
    for touchpoint_id in touched:
        touchpoint = records.touchpoints.get(touchpoint_id)
        yield touchpoint, _steps(records, touchpoint)


def _about(records: Records, subject: str, key: str) -> str | None:
    """The touchpoint that a change is about."""
    if subject == "appointment":
        return records.workshops.appointment(key).touchpoint
    return records.feedback.get(key).touchpoint if subject == "feedback" else key


def _steps(records: Records, touchpoint: Touchpoint) -> Steps:
    finding = records.touchpoints.finding(touchpoint.finding)
    appointments = records.workshops.appointments(touchpoint=touchpoint.id)
    asked = records.feedback.page(touchpoint=touchpoint.id)
    return {
        "reading": finding.began_ts if finding else None,
        "finding": finding.found_at if finding else None,
        "moment": touchpoint.sent_at,
        "answer": touchpoint.answer.at if touchpoint.answer else None,
        "booked": min((a.created for a in appointments), default=None),
        "done": min((a.done_at for a in appointments if a.done_at is not None), default=None),
        "asked": min((f.asked_at for f in asked), default=None),
        "feedback": min((f.answered_at for f in asked if f.answered_at is not None), default=None),
    }
