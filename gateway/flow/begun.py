"""begun: a choice that was begun on one channel is gone on with on any other.

What somebody began is told in the ledger, and so known wherever the matter is shown: on their pages, on the
product's display, at the call centre. It is forgotten with the answer, or after a day.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.domain.moments import DAY_MS, HOUR_MS
from gateway.domain.touchpoint import State, Touchpoint
from gateway.flow import outgoing
from gateway.ports import Records

STEPS = ("times", "workshops", "several", "done")
"""What can be begun, as the page of it is called."""
REQUESTED = {"times_changed": "times", "workshop_chosen": "workshops", "workshop_chosen_product": "workshops"}
"""{line of the ledger: what was begun with it}"""
KEPT_MS = DAY_MS
AGAIN_MS = HOUR_MS
"""The same step is told once in so long."""
LINES = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """Where somebody stopped."""

    step: str
    channel: str
    at: int


def begun(records: Records, touchpoint: Touchpoint, now: int) -> Begun | None:
    """The newest choice that was begun and not made."""
    if touchpoint.state is not State.OPEN or touchpoint.answer is not None:
        return None
    for line in records.touchpoints.ledger(touchpoint=touchpoint.id, limit=LINES):
        step = REQUESTED.get(line.code) or line.code.removeprefix("choosing_")
        if step in STEPS and line.at > now - KEPT_MS:
            channel = str(line.params.get("channel") or "page")
            return Begun(step=step, channel=channel, at=line.at)
    return None


def begin(records: Records, touchpoint: Touchpoint, step: str, channel: str, now: int, *, by: str) -> None:
    """Somebody looks at the times, the workshops, … of a matter that waits for them."""
    known = begun(records, touchpoint, now)
    if step not in STEPS or touchpoint.state is not State.OPEN or touchpoint.answer is not None:
        return
    if known is not None and (known.step, known.channel) == (step, channel) and known.at > now - AGAIN_MS:
        return
    outgoing.write_line(records, f"choosing_{step}", now, touchpoint=touchpoint, channel=channel, by=by)
