"""measure: what became of findings, day by day, so that a year is read as fast as a week.

The unit is the finding: a rule became true for a device. All that is counted of it belongs to the day (UTC)
on which it was found, however much later it was booked or done. A day is measured again when something
found on it has changed (`stale_days`), and once more when its findings have been watched long enough to be
compared with those that were held out. What is read adds up days; the newest of those that are out of date
are measured while they are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.domain.measures import STEPS, TIMED, Followed, Tally, difference, quantile, wilson
from gateway.domain.moments import DAY_MS, MINUTE_MS
from gateway.domain.policy import RECALL_PURPOSE, Policy, RuleInfo
from gateway.ports import Records

BY = ("rule", "kind", "model", "firmware", "week")
"""What a funnel can be grouped by."""

LEASE_MS = 10 * MINUTE_MS
"""How long one process has a day to itself."""
LIVE_DAYS = 3
"""So many days that are out of date are measured while somebody reads, the newest first."""

NEVER_HELD_OUT = ("safety", RECALL_PURPOSE)
"""Purposes that are never compared with a hold-out: nobody is left without a warning to measure anything."""

Groups = dict[tuple[str, str], Tally]


# --- one day ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A day as it is now."""

    day: int
    groups: Groups
    again_at: int | None
    """when its findings have been watched long enough; None when they have"""


def measure_day(records: Records, day: int, now: int, policy: Policy) -> Measured:
    """Look at everything that was found on a day."""
    watched_at = (day + 1) * DAY_MS + policy.effect_ms
    groups: Groups = {}
    worse = _worse(records, day, policy)
    for one in records.analytics.day(day):
        counted = Tally()
        _count(counted, one)
        if watched_at <= now:
            _compare(counted, one, worse.get(one.id, ()), policy)
        for key in _keys(one):
            groups.setdefault(key, Tally()).add(counted.counts, counted.times)
    return Measured(day=day, groups=groups, again_at=watched_at if watched_at > now else None)


def _keys(one: Followed) -> Iterator[tuple[str, str]]:
    yield "all", ""
    for by in ("rule", "kind", "model", "firmware"):
        yield by, getattr(one, by) or ""


def _count(counted: Tally, one: Followed) -> None:
    reached = {step: one.at(step) for step in STEPS}
    for step, at in reached.items():
        if at is not None:
            counted.count(step)
    for step, since in TIMED.items():
        began, came = reached[since], reached[step]
        if began is not None and came is not None and came >= began:
            counted.time(step, came - began)
    if one.action in ("not_now", "never"):
        counted.count("declined")
    if one.sent_at is not None and one.answered_at is None:
        counted.count("silent")
    if one.held_out:
        counted.count("held_out")
    if one.helped is not None:
        counted.count("looked_at")


# --- the hold-out -----------------------------------------------------------------------------


def _worse(records: Records, day: int, policy: Policy) -> Mapping[str, list[tuple[str, int]]]:
    """{finding: [(rule, when)]} of what came after it on the same device, and worse."""
    found: dict[str, list[tuple[str, int]]] = {}
    for finding, rule, _, at in records.analytics.worse(day, policy.effect_ms):
        found.setdefault(finding, []).append((rule, at))
    return found


def _compare(counted: Tally, one: Followed, worse: Iterable[tuple[str, int]], policy: Policy) -> None:
    """How it ended, if it can be compared: by itself or by a job (it cleared), or in something worse."""
    rule = policy.rules.get(one.rule)
    group = "held" if one.held_out else "told" if one.sent_at is not None else None
    if group is None or one.severity != "advice" or rule is None or rule.purpose in NEVER_HELD_OUT:
        return
    until = one.found_at + policy.effect_ms
    ended = one.cleared_at if one.cleared_at is not None and one.cleared_at <= until else None
    related = [at for other, at in worse if _related(rule, policy.rules.get(other))]
    failed = bool(related) and (ended is None or min(related) < ended)
    counted.count(f"{group}_watched")
    if failed:
        counted.count(f"{group}_failed")
    elif ended is not None:
        counted.count(f"{group}_repaired")


def _related(rule: RuleInfo, other: RuleInfo | None) -> bool:
    """Whether a finding of the other rule can be what this one warned of: it looks at the same signals, or
    leads to the same service."""
    if other is None:
        return False
    same_service = rule.service is not None and rule.service == other.service
    return same_service or bool(set(rule.signals) & set(other.signals))


# --- keeping days up to date ------------------------------------------------------------------


def lease(records: Records, now: int, limit: int = 20) -> list[int]:
    """Days to be measured, for this process alone for a while."""
    days = [day for day, _ in records.analytics.stale(now, limit)]
    for day in days:
        records.analytics.lease(day, now + LEASE_MS)
    return days


def keep(records: Records, measured: Iterable[Measured], leased_at: int) -> None:
    """Store what was measured; a day that has changed since it was leased stays out of date."""
    for each in measured:
        records.analytics.keep(each.day, leased_at + LEASE_MS, each.groups, each.again_at)


# --- reading ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """How long it took to a step, since the step before it that counts."""

    since: str
    median_ms: int
    p90_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FunnelLine:
    """What became of the findings of one group."""

    key: str
    counts: Mapping[str, int]
    """by step, and declined, silent, held_out"""
    times: Mapping[str, Timing]
    """by step; a step nobody reached is missing"""


def funnel(records: Records, by: str, since: int, until: int, now: int, policy: Policy) -> list[FunnelLine]:
    """The findings of the days from `since` to `until` (ms, whole days UTC), grouped; most found first, weeks
    in their order."""
    groups: dict[str, Tally] = {}
    for day, key, counts, times in _days(records, "all" if by == "week" else by, since, until, now, policy):
        groups.setdefault(week_of(day) if by == "week" else key, Tally()).add(counts, times)
    lines = [FunnelLine(key=key, counts=t.counts, times=_timings(t)) for key, t in groups.items()]
    if by == "week":
        return sorted(lines, key=lambda line: line.key)
    return sorted(lines, key=lambda line: (-line.counts.get("found", 0), line.key))


def _days(
    records: Records, by: str, since: int, until: int, now: int, policy: Policy, *, timed: bool = True
) -> Iterator[tuple[int, str, Mapping[str, int], Mapping[str, Mapping[str, int]]]]:
    """Measured days, the newest of those that are out of date as they are now."""
    first, last = since // DAY_MS, max(since, until - 1) // DAY_MS
    stale = [day for day, _ in records.analytics.stale(now + LEASE_MS, 100) if first <= day <= last]
    live = {day: measure_day(records, day, now, policy) for day in stale[:LIVE_DAYS]}
    for day, key, counts, times in records.analytics.measured(by, first, last, timed=timed):
        if day not in live:
            yield day, key, counts, times
    for day, measured in live.items():
        for (grouped, key), tally in measured.groups.items():
            if grouped == by:
                yield day, key, tally.counts, tally.times


def _timings(tally: Tally) -> dict[str, Timing]:
    timings = {}
    for step, since in TIMED.items():
        median, p90 = (quantile(tally.times.get(step, {}), share) for share in (0.5, 0.9))
        if median is not None and p90 is not None:
            timings[step] = Timing(since=since, median_ms=median, p90_ms=p90)
    return timings


def week_of(day: int) -> str:
    """The ISO week of a day: 2026-W48."""
    year, week, _ = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).isocalendar()
    return f"{year}-W{week:02d}"


# --- measures ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """So many of so many, and how sure that is (95 %, Wilson)."""

    good: int
    of: int

    @property
    def share(self) -> float | None:
        return self.good / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float] | None:
        return wilson(self.good, self.of)


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """What telling owners did: findings that were sent beside those that were held out."""

    rule: str
    """"" for all rules together"""
    told: Share
    """repaired (cleared, and nothing worse came of it) of those sent"""
    held: Share
    """the same of those held out"""
    told_failed: int
    held_failed: int
    difference: tuple[float, float] | None
    """95 % interval of the difference of the shares (Newcombe); None where one group is empty"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Keeping:
    """How well one workshop keeps what was promised."""

    workshop: str
    name: str
    jobs: int
    """done, whether anything of them is known or not"""
    promises: Mapping[str, Share]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measures:
    """How well promises were kept, what a solved matter takes, and what telling owners does."""

    promises: Mapping[str, Share]
    """time, price, fixed (first time)"""
    workshops: tuple[Keeping, ...]
    """the same of each, most jobs first"""
    matters: int
    """solved ones of which the messages are counted"""
    messages: int
    contacts: int
    effects: tuple[Effect, ...]
    """of rules with a hold-out; all of them together first"""


def measures(records: Records, since: int, until: int, now: int, policy: Policy) -> Measures:
    """Of jobs done, and of findings, between `since` and `until` (ms)."""
    matters, messages, contacts = records.results.efforts(since, until)
    return Measures(
        promises=_shares(records.results.promises(since, until)),
        workshops=tuple(
            Keeping(
                workshop=workshop,
                name=records.workshops.get(workshop).name,
                jobs=jobs,
                promises=_shares(kept),
            )
            for workshop, jobs, kept in records.results.promises_by_workshop(since, until)
        ),
        matters=matters,
        messages=messages,
        contacts=contacts,
        effects=tuple(_effects(records, since, until, now, policy)),
    )


def _shares(kept: Mapping[str, tuple[int, int]]) -> dict[str, Share]:
    return {name: Share(good=good, of=of) for name, (good, of) in kept.items()}


def _effects(records: Records, since: int, until: int, now: int, policy: Policy) -> Iterator[Effect]:
    groups: dict[str, Tally] = {}
    for _, key, counts, _times in _days(records, "rule", since, until, now, policy, timed=False):
        groups.setdefault(key, Tally()).add(counts, {})
    compared = {key: t.counts for key, t in groups.items() if t.counts.get("held_watched")}
    if not compared:
        return
    together = Tally()
    for counts in compared.values():
        together.add(counts, {})
    yield _effect("", together.counts)
    yield from (_effect(rule, compared[rule]) for rule in sorted(compared))


def _effect(rule: str, counts: Mapping[str, Any]) -> Effect:
    told = Share(good=counts.get("told_repaired", 0), of=counts.get("told_watched", 0))
    held = Share(good=counts.get("held_repaired", 0), of=counts.get("held_watched", 0))
    return Effect(
        rule=rule,
        told=told,
        held=held,
        told_failed=counts.get("told_failed", 0),
        held_failed=counts.get("held_failed", 0),
        difference=difference(told.good, told.of, held.good, held.of),
    )
