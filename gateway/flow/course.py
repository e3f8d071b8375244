"""course: how what a visit is about has gone, week by week, in the mail to a workshop that works by mail.

The page behind the mail's link has the chart; a mail that is read without it has the same as a short table.
The readings come from the time series, which a transaction of the records cannot wait for: so the mail that
is worded says which course belongs to it (`of`), and it is written in right before the mail is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import structlog

from gateway.domain.appointment import Appointment
from gateway.domain.delivery import Delivery
from gateway.domain.moments import DAY_MS
from gateway.domain.policy import Policy
from gateway.domain.texts import Texts
from gateway.ports import Records, StoreUnavailableError, TimeSeries
from rules import Catalogue

WEEK_MS = 7 * DAY_MS
WEEKS = 12
KEY = "course"

log = structlog.get_logger()


def of(
    records: Records, appointment: Appointment, policy: Policy, language: str, zone: str
) -> Mapping[str, Any] | None:
    """Which course belongs to a visit: of the rule's signal, up to when the time was taken, of no time in
    which the product was somebody else's. None where there is none."""
    if appointment.touchpoint is None or appointment.device is None:
        return None
    touchpoint = records.touchpoints.get(appointment.touchpoint)
    rule = policy.rules.get(touchpoint.rule)
    owned = [o.since for o in records.devices.ownerships(appointment.device) if o.owner == touchpoint.owner]
    if rule is None or not rule.signals or not owned:
        return None
    return {
        "device": appointment.device,
        "kind": rule.kind,
        "signal": rule.signals[0],
        "limit": rule.limit,
        "start": max(max(owned), appointment.created - WEEKS * WEEK_MS),
        "end": appointment.created + 1,
        "language": language,
        "zone": zone,
    }


class Courses:
    """Writes courses into mails. `signals` are those of the rules in force."""

    def __init__(self, timeseries: TimeSeries, texts: Texts, signals: Callable[[], Catalogue]) -> None:
        self._timeseries, self._texts, self._signals = timeseries, texts, signals

    async def write(self, delivery: Delivery) -> Delivery:
        """The mail with its course; as it is where it has none, or the readings cannot be had now."""
        wanted = delivery.payload.get(KEY)
        if wanted is None:
            return delivery
        payload = {name: value for name, value in delivery.payload.items() if name != KEY}
        try:
            weeks = await self._timeseries.aggregates(
                wanted["device"], wanted["signal"], start=wanted["start"], end=wanted["end"], every=WEEK_MS
            )
        except StoreUnavailableError as error:
            log.warning("mail_without_course", problem=str(error))
            weeks = []
        if len(weeks) > 1:
            values = [(ts, mean) for ts, _, mean, _, _ in weeks]
            payload["text"] = f"{payload['text'].rstrip()}\n\n{self._table(wanted, values)}\n"
        return replace(delivery, payload=payload)

    def _table(self, wanted: Mapping[str, Any], weeks: list[tuple[int, float]]) -> str:
        language, zone, texts = wanted["language"], wanted["zone"], self._texts
        signal = self._signals().signal(wanted["kind"], wanted["signal"])
        label = signal.label.get(language) or signal.label.get("en") if signal else None

        def said(value: float) -> str:
            if signal is not None and signal.display is not None:
                return texts.quantity(language, signal.display.shown(value), signal.display.unit, 1)
            return texts.quantity(language, value, signal.unit if signal else None, 1)

        lines = [texts.say(language, "calendars.course.title", signal=label or wanted["signal"])]
        lines += [
            f"  {texts.when(language, max(ts, wanted['start']), zone, 'date_year')}: {said(mean)}"
            for ts, mean in weeks
        ]
        if wanted["limit"] is not None:
            lines.append(texts.say(language, "calendars.course.limit", value=said(wanted["limit"])))
        return "\n".join(lines)
