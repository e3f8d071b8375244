"""Rules run over recorded readings: what they would have found, how often, and whether it was true.

Readings come as (device, ts, {signal: value}) and are taken in event time: each is received at its own
`ts`, and between two of them the engine is ticked whenever something falls due. After the last reading
time does not go on, since the end of a recording is not a device that has fallen silent.

All readings warm the windows. What is counted are the findings and failures of the period asked for;
a failure early in it may have been announced before it, and a finding late in it may come true after it.
"""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TypeAlias

from rules.catalogue import RuleSet
from rules.engine import Cleared, ClearReason, Engine, Found
from rules.readings import Value

Row: TypeAlias = tuple[str, int, Mapping[str, Value]]
"""(device, ts in ms, {signal: value})"""
OwnerAt: TypeAlias = Callable[[str, int], str | None]
"""(device, ts) → the id of who owned it then; None if nobody did, or nobody knows"""

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
WEEK_MS = 7 * DAY_MS
MONDAY_MS = 4 * DAY_MS
"""1970-01-05T00:00:00Z, a Monday."""
BURST_MS = DAY_MS
"""Two touchpoints of a device that are nearer than this belong to one burst."""
GAP_DAYS = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0, 31.0, 91.0)
"""Where the bars of the histogram of days between touchpoints begin."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownDevice:
    """What the registration says of a device."""

    kind: str | None
    model: str | None = None
    time_zone: str | None = None  # IANA name of where its owner lives


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One episode of a rule, and so one touchpoint."""

    id: str
    device: str
    rule: str  # rule id
    began: int  # ms: when the condition became true
    found: int  # ms: when `for` was fulfilled
    ended: int | None = None  # ms; None: still open
    ended_by: ClearReason | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that is known to have happened to a device, such as a failure."""

    device: str
    ts: int  # ms
    kind: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """What findings are held against."""

    events: tuple[Event, ...]
    kind: str = "failure:*"  # which events count; `*` is any rest, `?` one character
    within_ms: int = 2 * DAY_MS  # how long before its failure a finding announces it

    def failures(self) -> list[Event]:
        return sorted((e for e in self.events if fnmatchcase(e.kind, self.kind)), key=lambda e: e.ts)


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleCount:
    """What one rule would have led to."""

    rule: str
    version: int
    shadow: bool
    touchpoints: int
    withdrawn: int  # of these, refuted by late data
    devices: int
    owners: int | None  # None: nobody knows the owners
    announced: int | None  # of these, followed by a failure; None without a truth


@dataclass(frozen=True, kw_only=True, slots=True)
class Week:
    """A week from Monday, UTC."""

    begins: int  # ms
    touchpoints: int
    devices: int
    owners: int | None
    rules: Mapping[str, int]  # touchpoints by rule


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """A bar of the histogram: pairs of touchpoints of a device that follow each other at this distance."""

    days_from: float
    days_to: float | None  # excluded; None: no end
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Lead:
    """Time from the first finding that announces a failure to the failure, in hours."""

    lower_quartile: float
    median: float
    upper_quartile: float


@dataclass(frozen=True, kw_only=True, slots=True)
class FalseAlarm:
    """A finding that no failure followed."""

    finding: Finding
    undecided: bool  # the readings end before it could have come true


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """Findings against failures."""

    failures: int  # in the period, of devices with readings before them
    announced: int  # of these, with a finding in the time before them
    findings: int  # in the period
    right: int  # of these, followed by a failure in time
    lead: Lead | None  # None: nothing was announced
    missed: tuple[Event, ...]
    false_alarms: tuple[FalseAlarm, ...]
    unobserved: int  # failures in the period that are left out: no readings came before them

    @property
    def recall(self) -> float | None:
        """Share of failures that were announced; None if there was none."""
        return self.announced / self.failures if self.failures else None

    @property
    def precision(self) -> float | None:
        """Share of findings that came true; None if there was none. What is undecided counts against it."""
        return self.right / self.findings if self.findings else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a set of rules would have done."""

    rows: int  # (device, ts) pairs taken
    readings: int  # values in them
    devices: int  # that reported
    without_kind: int  # devices that no rule applies to, since nobody knows their kind
    first: int | None  # ms: ts of the earliest reading
    last: int | None  # ms: of the latest
    start: int | None  # ms: the period that counts, None is open
    end: int | None  # ms, excluded
    findings: tuple[Finding, ...]  # of the period, by time
    rules: tuple[RuleCount, ...]  # most touchpoints first
    owners: int | None  # with a touchpoint; None: nobody knows the owners
    weeks: tuple[Week, ...]  # without a gap
    gaps: tuple[Gap, ...]
    in_bursts: int  # touchpoints that came within a day of another one of their device
    largest_burst: int
    score: Score | None  # None without a truth
    errors: Mapping[str, int]  # by rule: how often its condition broke
    late: int  # values older than the newest reading of their device
    duplicates: int  # values that had come before

    @property
    def touchpoints(self) -> int:
        """One an episode."""
        return len(self.findings)

    @property
    def touched(self) -> int:
        """Devices with a touchpoint."""
        return len({finding.device for finding in self.findings})


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two versions over the same readings: episodes of the same rule and device that overlap are the same."""

    both: tuple[tuple[Finding, Finding], ...]  # (of the first, of the second)
    only_first: tuple[Finding, ...]
    only_second: tuple[Finding, ...]


@dataclass(slots=True)
class _Seen:
    """A device while its readings are taken."""

    kind: str | None
    first: int
    newest: int
    rows: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """What has come of readings: of all devices, or of some of them, for `Taken.together`."""

    rows: int
    readings: int
    findings: Mapping[str, Finding]  # by id
    seen: Mapping[str, _Seen]
    errors: Mapping[str, int]
    late: int
    duplicates: int

    @staticmethod
    def together(parts: Sequence[Taken]) -> Taken:
        """Of the devices of all parts; each device is in one of them only."""
        errors: Counter[str] = Counter()
        for part in parts:
            errors.update(part.errors)
        return Taken(
            rows=sum(part.rows for part in parts),
            readings=sum(part.readings for part in parts),
            findings={id: finding for part in parts for id, finding in part.findings.items()},
            seen={device: seen for part in parts for device, seen in part.seen.items()},
            errors=dict(sorted(errors.items())),
            late=sum(part.late for part in parts),
            duplicates=sum(part.duplicates for part in parts),
        )


class Backtest:
    """Takes readings and keeps what comes of them. `engine` is a fresh one and belongs to the backtest.

    Findings do not depend on what else is taken: an entry's position is the number of its device's row, or
    the time at which something falls due.

    `kind_of` says what a device is whose registration is not among `known`. `end`: readings from there
    on are not taken.
    """

    def __init__(
        self,
        engine: Engine,
        kind_of: Callable[[str], str | None],
        *,
        known: Mapping[str, KnownDevice] | None = None,
        end: int | None = None,
    ) -> None:
        self._engine = engine
        self._kind_of = kind_of
        self._known = known or {}
        self._end = end
        self.readings = 0
        """values taken so far"""
        self._rows = 0
        self._seen: dict[str, _Seen] = {}
        self._findings: dict[str, Finding] = {}  # by id

    def feed(self, rows: Sequence[Row]) -> None:
        """Take readings; each device's in the order of their time, as far as it was so in life. A row without
        any only says how late it is."""
        self._feed(rows)
        self._collect()

    def _feed(self, rows: Sequence[Row]) -> None:
        """The loop that everything is spent in."""
        engine, seen, end = self._engine, self._seen, self._end
        next_due, take = engine.next_due, engine.readings
        taken, readings = 0, 0
        for device, ts, signals in rows:
            if end is not None and ts >= end:
                continue
            if not signals:
                while (due := next_due()) is not None and due < ts:
                    engine.tick(due, due)
                continue
            state = seen.get(device)
            if state is None:
                state = self._admit(device, ts)
            received = ts
            if ts > state.newest:
                state.newest = ts
            elif ts < state.newest:
                received = state.newest
                state.first = min(state.first, ts)
            while (due := next_due()) is not None and due < ts:
                engine.tick(due, due)
            state.rows += 1
            taken += 1
            readings += len(signals)
            take(state.rows, received, device, state.kind, ((ts, signals),))
        self._rows += taken
        self.readings += readings

    def _admit(self, device: str, ts: int) -> _Seen:
        known = self._known.get(device)
        kind = known.kind if known and known.kind else self._kind_of(device)
        state = self._seen[device] = _Seen(kind, ts, ts)
        if known is not None:
            self._engine.register(0, ts, device, kind, known.model, time_zone=known.time_zone)
        return state

    def _collect(self) -> None:
        for event in self._engine.take():
            if isinstance(event, Found):
                self._findings[event.id] = Finding(
                    id=event.id,
                    device=event.device,
                    rule=event.rule,
                    began=event.began_ts,
                    found=event.found_ts,
                )
            elif isinstance(event, Cleared) and event.finding in self._findings:
                finding = self._findings[event.finding]
                self._findings[event.finding] = replace(finding, ended=event.ts, ended_by=event.reason)

    def report(
        self, *, start: int | None = None, truth: Truth | None = None, owner_at: OwnerAt | None = None
    ) -> Report:
        """What has come of the readings so far; what falls due until the latest of them is found first."""
        taken = self.taken(_last(self._seen))
        return report(self._engine.rules, taken, start=start, end=self._end, truth=truth, owner_at=owner_at)

    @property
    def last(self) -> int | None:
        """ts of the latest reading taken; None without any."""
        return _last(self._seen)

    def taken(self, until: int | None) -> Taken:
        """The same of some of the devices, for `report`; what falls due until then is found first."""
        while until is not None and (due := self._engine.next_due()) is not None and due <= until:
            self._engine.tick(due, due)
        self._collect()
        return Taken(
            rows=self._rows,
            readings=self.readings,
            findings=self._findings,
            seen=self._seen,
            errors=dict(self._engine.errors),
            late=self._engine.late,
            duplicates=self._engine.duplicates,
        )


def _last(seen: Mapping[str, _Seen]) -> int | None:
    return max((state.newest for state in seen.values()), default=None)


def report(
    rules: RuleSet,
    taken: Taken,
    *,
    start: int | None = None,
    end: int | None = None,
    truth: Truth | None = None,
    owner_at: OwnerAt | None = None,
) -> Report:
    """What came of readings, counted in a period and held against what is known to have happened."""
    every = sorted(taken.findings.values(), key=lambda f: (f.found, f.device, f.rule))
    counted = tuple(finding for finding in every if _inside(finding.found, start, end))
    score = _Judge(truth, every, taken.seen).score(counted, start, end) if truth else None
    count = _Counting(counted, score, owner_at)
    return Report(
        rows=taken.rows,
        readings=taken.readings,
        devices=len(taken.seen),
        without_kind=sum(state.kind is None for state in taken.seen.values()),
        first=min((state.first for state in taken.seen.values()), default=None),
        last=_last(taken.seen),
        start=start,
        end=end,
        findings=counted,
        rules=count.by_rule(rules),
        owners=count.owners(counted),
        weeks=count.weeks(),
        gaps=_gaps(counted),
        in_bursts=sum(size for size in _bursts(counted) if size > 1),
        largest_burst=max(_bursts(counted), default=0),
        score=score,
        errors=taken.errors,
        late=taken.late,
        duplicates=taken.duplicates,
    )


def compare(first: Report, second: Report) -> Comparison:
    """Which episodes two versions of rules share."""
    waiting: dict[tuple[str, str], list[Finding]] = {}
    for finding in second.findings:
        waiting.setdefault((finding.device, finding.rule), []).append(finding)
    both, only_first = [], []
    for finding in first.findings:
        others = waiting.get((finding.device, finding.rule), [])
        same = next((other for other in others if _overlap(finding, other)), None)
        if same is None:
            only_first.append(finding)
        else:
            others.remove(same)
            both.append((finding, same))
    left = {other.id for others in waiting.values() for other in others}
    return Comparison(
        both=tuple(both),
        only_first=tuple(only_first),
        only_second=tuple(finding for finding in second.findings if finding.id in left),
    )


def _overlap(one: Finding, other: Finding) -> bool:
    return (one.ended is None or other.began <= one.ended) and (
        other.ended is None or one.began <= other.ended
    )


def _inside(ts: int, start: int | None, end: int | None) -> bool:
    return (start is None or ts >= start) and (end is None or ts < end)


@dataclass(slots=True)
class _Counting:
    """Findings counted by rule and by week."""

    findings: Sequence[Finding]
    score: Score | None
    owner_at: OwnerAt | None
    _owner: dict[str, str | None] = field(default_factory=dict)

    def owners(self, findings: Iterable[Finding]) -> int | None:
        if self.owner_at is None:
            return None
        return len({owner for finding in findings if (owner := self._owner_of(finding)) is not None})

    def _owner_of(self, finding: Finding) -> str | None:
        if self.owner_at is not None and finding.id not in self._owner:
            self._owner[finding.id] = self.owner_at(finding.device, finding.found)
        return self._owner.get(finding.id)

    def by_rule(self, rules: RuleSet) -> tuple[RuleCount, ...]:
        wrong = {alarm.finding.id for alarm in self.score.false_alarms} if self.score else set()
        counts = []
        for rule in rules.rules.values():
            mine = [finding for finding in self.findings if finding.rule == rule.id]
            counts.append(
                RuleCount(
                    rule=rule.id,
                    version=rule.version,
                    shadow=rule.shadow,
                    touchpoints=len(mine),
                    withdrawn=sum(finding.ended_by == "refuted" for finding in mine),
                    devices=len({finding.device for finding in mine}),
                    owners=self.owners(mine),
                    announced=sum(finding.id not in wrong for finding in mine) if self.score else None,
                )
            )
        return tuple(sorted(counts, key=lambda count: (-count.touchpoints, count.rule)))

    def weeks(self) -> tuple[Week, ...]:
        weeks: dict[int, list[Finding]] = {}
        for finding in self.findings:
            weeks.setdefault((finding.found - MONDAY_MS) // WEEK_MS, []).append(finding)
        if not weeks:
            return ()
        return tuple(
            self._week(number, weeks.get(number, [])) for number in range(min(weeks), max(weeks) + 1)
        )

    def _week(self, number: int, findings: Sequence[Finding]) -> Week:
        return Week(
            begins=MONDAY_MS + number * WEEK_MS,
            touchpoints=len(findings),
            devices=len({finding.device for finding in findings}),
            owners=self.owners(findings),
            rules=dict(sorted(Counter(finding.rule for finding in findings).items())),
        )


def _times(findings: Sequence[Finding]) -> Iterable[list[int]]:
    """When each device had its touchpoints, in order."""
    times: dict[str, list[int]] = {}
    for finding in findings:
        times.setdefault(finding.device, []).append(finding.found)
    return times.values()


def _gaps(findings: Sequence[Finding]) -> tuple[Gap, ...]:
    days = [(b - a) / DAY_MS for found in _times(findings) for a, b in itertools.pairwise(found)]
    ends: tuple[float | None, ...] = (*GAP_DAYS[1:], None)
    return tuple(
        Gap(
            days_from=low,
            days_to=high,
            count=sum(low <= day and (high is None or day < high) for day in days),
        )
        for low, high in zip(GAP_DAYS, ends, strict=True)
    )


def _bursts(findings: Sequence[Finding]) -> list[int]:
    """How many touchpoints came one upon the other, each less than a day after the one before."""
    sizes = []
    for found in _times(findings):
        size = 1
        for before, after in itertools.pairwise(found):
            if after - before < BURST_MS:
                size += 1
            else:
                sizes.append(size)
                size = 1
        sizes.append(size)
    return sizes


class _Judge:
    """Holds findings against failures."""

    def __init__(self, truth: Truth, findings: Sequence[Finding], seen: Mapping[str, _Seen]) -> None:
        self._within = truth.within_ms
        self._seen = seen
        self._failures = truth.failures()
        self._failed: dict[str, list[int]] = {}
        for failure in self._failures:
            self._failed.setdefault(failure.device, []).append(failure.ts)
        self._found: dict[str, list[int]] = {}
        for finding in findings:
            self._found.setdefault(finding.device, []).append(finding.found)

    def score(self, counted: Sequence[Finding], start: int | None, end: int | None) -> Score:
        asked = [failure for failure in self._failures if _inside(failure.ts, start, end)]
        failures = [failure for failure in asked if self._observed(failure)]
        leads = [self._lead(failure) for failure in failures]
        wrong = [finding for finding in counted if not self._came_true(finding)]
        hours = [lead / HOUR_MS for lead in leads if lead is not None]
        missed = tuple(f for f, lead in zip(failures, leads, strict=True) if lead is None)
        return Score(
            failures=len(failures),
            announced=len(failures) - len(missed),
            findings=len(counted),
            right=len(counted) - len(wrong),
            lead=_quartiles(hours),
            missed=missed,
            false_alarms=tuple(
                FalseAlarm(finding=finding, undecided=self._undecided(finding)) for finding in wrong
            ),
            unobserved=len(asked) - len(failures),
        )

    def _observed(self, failure: Event) -> bool:
        """Whether its device reported in the time before it."""
        seen = self._seen.get(failure.device)
        return seen is not None and seen.first < failure.ts and seen.newest >= failure.ts - self._within

    def _lead(self, failure: Event) -> int | None:
        """ms from the first finding that announces it."""
        found = self._found.get(failure.device, ())
        return max((failure.ts - ts for ts in found if 0 < failure.ts - ts <= self._within), default=None)

    def _came_true(self, finding: Finding) -> bool:
        failed = self._failed.get(finding.device, ())
        return any(0 < ts - finding.found <= self._within for ts in failed)

    def _undecided(self, finding: Finding) -> bool:
        return self._seen[finding.device].newest < finding.found + self._within


def _quartiles(hours: Sequence[float]) -> Lead | None:
    if not hours:
        return None
    if len(hours) == 1:
        return Lead(lower_quartile=hours[0], median=hours[0], upper_quartile=hours[0])
    low, median, high = statistics.quantiles(hours, n=4, method="inclusive")
    return Lead(lower_quartile=low, median=median, upper_quartile=high)
