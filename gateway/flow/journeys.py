"""journeys: how far products have come with their owners, and how long each step took.

A journey is one product with one owner: ordered, delivered, first told of something, first answered, first
job done, first rated, gone on to the next owner. Orders and deliveries are what other systems told; where
none did, the product was delivered when it became its owner's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway.domain.measures import JOURNEY, Product, Tally, quantile
from gateway.ports import Records

MOST = 100_000
"""Journeys that are looked at, the newest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leg:
    """How long it took until a step."""

    since: str
    """the last step before it that was reached"""
    median_ms: int
    p90_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Journey:
    """The journeys of a group."""

    key: str
    counts: Mapping[str, int]
    """{step: how many reached it}"""
    legs: Mapping[str, Leg]
    """{step: how long it took from `delivered` on, or from the order to the delivery}"""


SINCE = {"delivered": "ordered"}
"""{step: since which its time is taken}; every other one since the delivery"""


def journeys(records: Records, by: str, since: int, until: int, owner: str | None = None) -> list[Journey]:
    """Of the products that came to an owner in that time, the largest groups first."""
    tallies: defaultdict[str, Tally] = defaultdict(Tally)
    for one in records.heard.products(since, until, MOST, owner):
        _count(tallies[_key(one, by)], one)
    made = [_journey(key, tally) for key, tally in tallies.items()]
    return sorted(made, key=lambda one: (-one.counts.get("delivered", 0), one.key))


def _key(one: Product, by: str) -> str:
    if by == "week":
        day = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=one.delivered)
        year, week, _ = day.isocalendar()
        return f"{year}-W{week:02}"
    return str(getattr(one, by) or "")


def _count(tally: Tally, one: Product) -> None:
    for step in JOURNEY:
        at = getattr(one, step)
        if at is None:
            continue
        tally.count(step)
        began = getattr(one, SINCE.get(step, "delivered"))
        if step not in ("ordered", SINCE.get(step, "delivered")) and began is not None and at >= began:
            tally.time(step, at - began)


def _journey(key: str, tally: Tally) -> Journey:
    legs = {
        step: Leg(
            since=SINCE.get(step, "delivered"),
            median_ms=quantile(sketch, 0.5) or 0,
            p90_ms=quantile(sketch, 0.9) or 0,
        )
        for step, sketch in tally.times.items()
    }
    return Journey(key=key, counts=dict(tally.counts), legs=legs)


def steps(one: Product) -> Sequence[tuple[str, int]]:
    """(step, when) of one journey, in the order of time."""
    reached = [(step, getattr(one, step)) for step in JOURNEY]
    return sorted(((step, at) for step, at in reached if at is not None), key=lambda found: found[1])
