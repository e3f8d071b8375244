"""The path as a picture: how much goes through each step, what stands behind, and where it hurts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from types import SimpleNamespace as Shown
from typing import Any

from gateway.domain.appointment import AppointmentState
from gateway.domain.delivery import DeliveryState
from gateway.domain.moments import DAY_MS, HOUR_MS
from gateway.domain.touchpoint import State
from gateway.flow.assess import READER as ASSESS
from gateway.ports import Records
from gateway.web.context import Context
from gateway.web.words import Words

STEPS = ("receive", "record", "assess", "decide", "deliver", "answered", "booked", "done")
MONTH_MS = 30 * DAY_MS
RECENT = 500
"""How many touchpoints, visits and answers are looked through."""
SAMPLE_LEAST_MS = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Pulse:
    """How much went through each step, and what stands still."""

    now: int
    received: float
    """messages a second, over the last samples"""
    recorded: float
    assessed: float
    decided: int
    """in the last 24 hours, like those that follow"""
    delivered: int
    answered: int
    booked: int
    done: int
    lag: Mapping[str, int]
    """messages behind, by reader"""
    quarantined: int
    rule_errors: int
    deferred: int
    dead: int
    pending: int
    answer_ms: float | None
    """median from sending to answer"""
    counters: int
    no_shows: int
    feedback: float | None


class Rates:
    """Messages a second, from what the counters said on earlier looks (of the played clock in the demo)."""

    def __init__(self) -> None:
        self._samples: list[tuple[int, int, int, int]] = []

    def look(self, context: Context) -> tuple[float, float, float]:
        """(received, recorded, assessed) a second since about an hour ago, or since the first look."""
        counted = context.counters
        now = context.clock.now()
        sample = (now, counted.received, counted.recorded, counted.assessed)
        if not self._samples or now - self._samples[-1][0] >= SAMPLE_LEAST_MS:
            self._samples.append(sample)
        self._samples = [s for s in self._samples if now - s[0] <= HOUR_MS][-600:] or self._samples[-1:]
        first = self._samples[0]
        seconds = (now - first[0]) / 1000
        if seconds <= 0:
            return 0.0, 0.0, 0.0
        return tuple((b - a) / seconds for a, b in zip(first[1:], sample[1:], strict=True))  # type: ignore[return-value]


def rates(context: Context) -> Rates:
    """The meter of this process."""
    found: Rates = context.extras.setdefault("rates", Rates())
    return found


async def pulse(context: Context) -> Pulse:
    """The path as it is now."""
    now = context.clock.now()
    received, recorded, assessed = rates(context).look(context)
    found = await context.database.read(lambda records: _counts(records, now))
    return Pulse(
        now=now,
        received=received,
        recorded=recorded,
        assessed=assessed,
        lag=_waiting(context),
        rule_errors=sum(context.counters.rule_errors.values()),
        **found,
    )


def _waiting(context: Context) -> dict[str, int]:
    """What each reader has still to take. The rules commit how far they have come with their state, every
    quarter of a minute; what they have taken since then waits for nobody, and is known where they run."""
    status = context.journal.status()
    upto = {name: int(reader["position"]) for name, reader in status["readers"].items()}
    upto[ASSESS] = max(upto.get(ASSESS, 0), context.counters.assessed_upto)
    return {name: max(0, int(status["head"]) - position) for name, position in upto.items()}


def _counts(records: Records, now: int) -> dict[str, Any]:
    since = now - DAY_MS
    recent = records.touchpoints.page(limit=RECENT)
    visits = [a for a in records.workshops.appointments(start=since - MONTH_MS, limit=RECENT) if a.touchpoint]
    answered = [t for t in recent if t.answer and t.answer.at > since]
    waits = [t.answer.at - t.sent_at for t in recent if t.answer and t.sent_at]
    outbox = records.outbox.counts((DeliveryState.PENDING, DeliveryState.LEASED, DeliveryState.DEAD))
    asked = records.feedback.page(limit=RECENT)
    return {
        "decided": sum(f.found_at > since for f in records.touchpoints.findings(limit=RECENT)),
        "delivered": sum(t.sent_at is not None and t.sent_at > since for t in recent),
        "answered": len(answered),
        "booked": sum(a.created > since and a.state is not AppointmentState.CANCELLED for a in visits),
        "done": sum(a.done_at is not None and a.done_at > since for a in visits),
        "quarantined": sum(records.quarantine.counts().values()),
        "deferred": records.touchpoints.counts((State.DEFERRED,))[State.DEFERRED],
        "dead": outbox.get("dead", 0),
        "pending": outbox.get("pending", 0) + outbox.get("leased", 0),
        "answer_ms": median(waits) if waits else None,
        "counters": sum(a.state is AppointmentState.REQUESTED for a in visits),
        "no_shows": sum(a.state is AppointmentState.NO_SHOW for a in visits),
        "feedback": _mean([f.score for f in asked if f.score is not None and f.question == "csat"]),
    }


def _mean(scores: Sequence[int]) -> float | None:
    return fmean(scores) if scores else None


def steps(p: Pulse, words: Words) -> list[Shown]:
    """The path's eight steps with rate, lag and trouble."""
    behind = {
        name: words("operator.behind", count=p.lag.get(name, 0)) for name in ("record", "assess", "respond")
    }
    answer = words("operator.median", time=words.span(p.answer_ms)) if p.answer_ms is not None else ""
    below = {
        "receive": [words("operator.in_quarantine", count=p.quarantined)],
        "record": [behind["record"]],
        "assess": [behind["assess"], words("operator.rules_broken", count=p.rule_errors)],
        "decide": [words("operator.deferred", count=p.deferred)],
        "deliver": [words("operator.pending", count=p.pending)],
        "answered": [answer] if answer else [behind["respond"]],
        "booked": [words("operator.requests", count=p.counters)],
        "done": [words("operator.no_shows", count=p.no_shows)],
    }
    if p.feedback is not None:
        below["done"].append(words("operator.csat", score=words.number(p.feedback, 1)))
    bad = {"deliver": words("operator.dead", count=p.dead)} if p.dead else {}
    rows = []
    for name in STEPS:
        rate, unit = _rate(p, name, words)
        rows.append(
            Shown(
                key=name,
                name=words(f"operator.step_{name}"),
                rate=rate,
                unit=unit,
                below=below[name],
                bad=bad.get(name, ""),
                bad_url="/operator/outbox",
                per_second=per_second(p, name),
            )
        )
    return rows


def per_second(p: Pulse, name: str) -> float:
    """A step's rate, for the ribbon's thickness."""
    if name in ("receive", "record", "assess"):
        return {"receive": p.received, "record": p.recorded, "assess": p.assessed}[name]
    key = {"decide": p.decided, "deliver": p.delivered}.get(name)
    return (key if key is not None else int(getattr(p, name))) / 86_400


def _rate(p: Pulse, name: str, words: Words) -> tuple[str, str]:
    rate = per_second(p, name)
    if name not in ("receive", "record", "assess"):
        return words.number(round(rate * 86_400)), words("operator.per_day")
    if rate >= 1:
        return words.number(rate, 0 if rate >= 10 else 1), words("operator.per_s")
    if rate * 60 >= 1:
        return words.number(rate * 60, 0), words("operator.per_min")
    return words.number(rate * 3600, 0), words("operator.per_h")


def connected(counts: tuple[int, int], words: Words) -> str:
    """How many products are connected."""
    return words("operator.connected", now=counts[0], of=counts[1])
