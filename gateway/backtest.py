"""touchpoint rules backtest: what rules would have done to recorded readings, and whether it was true."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from operator import itemgetter
from pathlib import Path
from typing import Any, TextIO, TypeAlias, cast

from config import settings as configuration
from config.settings import Settings
from gateway.adapters.geography import Earth
from gateway.backtest_report import as_json, as_text
from gateway.domain.device import Ownership
from gateway.domain.errors import CannotStartError, TouchpointError
from gateway.domain.times import parse_rfc3339, rfc3339
from gateway.flow.directory import Directory, all_devices
from gateway.ports import Records, TimeSeries
from gateway.recordings import Recording, RecordingError, read_devices, read_events, stored
from gateway.sources import load_rules, load_signals, rule_texts, signal_texts
from rules import Catalogue, Engine, RuleSet, check, span_ms
from rules.backtest import Backtest, KnownDevice, OwnerAt, Report, Row, Taken, Truth, report

PROGRESS_S = 2.0
GC_THRESHOLDS = (500_000, 10, 50)
"""As parts.py has them. That, with databases, mail and all it brings, is only imported where readings come
from the store: it takes longer than a million readings."""
SLICE_MS = 7 * 86_400_000
"""How much of the store is read of one device before the next, where rules compare devices."""


@dataclass(kw_only=True)
class Job:
    """What is asked for, read and checked."""

    settings: Settings
    catalogue: Catalogue
    sets: tuple[RuleSet, ...]  # one, or two to be compared
    kind: str | None  # what every device is taken for
    start: int | None
    end: int | None
    truth: Truth | None
    known: dict[str, KnownDevice] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    processes: int = 1  # that the devices of a file are shared out among

    def kinds(self) -> set[str]:
        """Those the rules are for."""
        return {rule.kind for rules in self.sets for rule in rules.rules.values()}

    def kind_of(self) -> Callable[[str], str | None]:
        """What a device is: as the command says, as the list of devices says, as the settings' patterns say;
        else the only kind the rules are for."""
        by_pattern = Directory(self.settings.devices.kinds).by_pattern
        kinds = self.kinds()
        only = next(iter(kinds)) if len(kinds) == 1 else None

        def kind_of(device: str) -> str | None:
            known = self.known.get(device)
            return self.kind or (known.kind if known else None) or by_pattern(device) or only

        return kind_of

    def compares_devices(self) -> bool:
        """Whether a rule looks at other devices, so that all have to go through time together."""
        return bool(self.compared())

    def compared(self) -> set[str]:
        """The kinds of which a rule looks at other devices of the same kind and model."""
        rules = [rule for rules in self.sets for rule in rules.rules.values()]
        return {r.kind for r in rules for e in (r.when, r.clear) if e and "fleet" in e.text}

    def backtests(self) -> list[Backtest]:
        """One for each set, as the gateway would run it."""
        return [
            Backtest(self.engine(rules), self.kind_of(), known=self.known, end=self.end)
            for rules in self.sets
        ]

    def engine(self, rules: RuleSet) -> Engine:
        return Engine(
            rules,
            future_tolerance_ms=self.settings.devices.clock_ahead_s * 1000,
            lateness_ms=self.settings.rules.lateness_s * 1000,
            geography=Earth(),
        )


def command(arguments: argparse.Namespace) -> int:
    """What rules would have led to, over recorded readings."""
    try:
        return run(arguments, configuration.load(arguments.config, os.environ))
    except TouchpointError as error:
        raise CannotStartError(str(error)) from error


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """0 when the rules ran, 1 when they have faults or broke, 2 (raised) when it cannot be done."""
    signals = signal_texts([*settings.signals.paths, *map(str, arguments.signals)])
    catalogue = load_signals(signals)
    sources = [rule_texts(arguments.paths or settings.rules.paths)]
    if arguments.against:
        sources.append(rule_texts([str(arguments.against)]))
    faults = [str(fault) for texts in sources for fault in check(texts, catalogue)]
    if faults:
        print(json.dumps({"faults": faults}, ensure_ascii=False) if arguments.json else "\n".join(faults))
        return 1
    job = make_job(arguments, settings, catalogue, [load_rules(texts, catalogue) for texts in sources])
    began = time.perf_counter()
    with rare_collections():
        reports, ignored = (
            from_file(job, arguments.readings) if arguments.readings else asyncio.run(from_store(job))
        )
    if not reports[0].rows:
        raise CannotStartError(_nothing(job, arguments.readings))
    seconds = max(time.perf_counter() - began, 1e-6)
    if arguments.json:
        print(as_json(reports, job.truth, seconds))
    else:
        print(as_text(reports, job.truth, sorted(ignored), seconds))
    return 1 if any(report.errors for report in reports) else 0


def make_job(
    arguments: argparse.Namespace, settings: Settings, catalogue: Catalogue, sets: Sequence[RuleSet]
) -> Job:
    """The arguments, read. Raises CannotStartError."""
    if arguments.kind and arguments.kind not in catalogue.kinds:
        there = ", ".join(catalogue.kinds)
        raise CannotStartError(f"--kind {arguments.kind}: no signals are known for it; known: {there}")
    known, owners = read_devices(arguments.devices) if arguments.devices else ({}, {})
    job = Job(
        settings=settings,
        catalogue=catalogue,
        sets=tuple(sets),
        kind=arguments.kind,
        start=moment("--from", arguments.start),
        end=moment("--to", arguments.end),
        truth=read_truth(arguments),
        known=known,
        owners=owners,
        processes=arguments.jobs,
    )
    if job.start is not None and job.end is not None and job.start >= job.end:
        raise CannotStartError("--from has to be before --to")
    return job


def moment(option: str, text: str | None) -> int | None:
    """ms of a date, or of a time with its zone. Raises CannotStartError."""
    if text is None:
        return None
    try:
        return parse_rfc3339(f"{text}T00:00:00Z" if len(text) == 10 else text)
    except ValueError:
        example = "2026-02-15 or 2026-02-15T06:00:00Z"
        raise CannotStartError(
            f"{option} {text}: write a date (UTC) or RFC 3339, such as {example}"
        ) from None


def read_truth(arguments: argparse.Namespace) -> Truth | None:
    """What is known to have happened. Raises CannotStartError."""
    if not arguments.truth:
        return None
    within = span_ms(arguments.within)
    if not within:
        raise CannotStartError(f"--within {arguments.within}: write a span such as 48h, 7d")
    truth = Truth(events=read_events(arguments.truth), kind=arguments.truth_kind, within_ms=within)
    if not truth.failures():
        kinds = sorted({event.kind for event in truth.events})
        there = ", ".join(kinds[:10]) or "none at all"
        raise CannotStartError(
            f"{arguments.truth}: no event is of the kind {truth.kind} (--truth-kind); there are: {there}"
        )
    return truth


def _nothing(job: Job, readings: Path | None) -> str:
    kinds = ", ".join(sorted(job.kinds())) or "any kind"
    where = f"{readings} has" if readings else "the time-series store has"
    hint = "--kind says what its devices are" if readings else "--readings FILE takes them from a file"
    return f"{where} no readings of signals of {kinds} in that time; {hint}"


# --- from a file ------------------------------------------------------------------------------


def from_file(job: Job, path: Path) -> tuple[list[Report], set[str]]:
    """A report for each set of rules, and the columns that are no signals. Raises RecordingError.

    With several processes each reads the file, and takes the devices that fall to it; the reports are the
    same.
    """
    shares = [Share(job, path, number) for number in range(job.processes)]
    parts = [shares[0].here()] if len(shares) == 1 else elsewhere(shares)
    owner_at = (lambda device, _: job.owners.get(device)) if job.owners else None
    reports = [
        report(rules, Taken.together(of), start=job.start, end=job.end, truth=job.truth, owner_at=owner_at)
        for rules, of in zip(job.sets, zip(*(taken for taken, _ in parts), strict=True), strict=True)
    ]
    return reports, parts[0][1]


Part: TypeAlias = tuple[list[Taken], set[str]]
"""What came of it for each set of rules, and the columns that are no signals."""


class Share:
    """The devices of a file that fall to one of several processes.

    Devices that rules compare with one another fall to the same. The first that comes falls to the first
    process, and so on in turn, so that all of them agree without a word.
    """

    def __init__(self, job: Job, path: Path, number: int) -> None:
        self._job, self._path, self._number = job, path, number
        self._kind_of, self._compared = job.kind_of(), job.compared()
        self._turns: dict[object, int] = {}
        self._mine: dict[str, bool] = {}

    def mine(self, device: str) -> bool:
        """Whether a device falls to this one."""
        found = self._mine.get(device)
        if found is None:
            kind, known = self._kind_of(device), self._job.known.get(device)
            compared = kind in self._compared
            key = (kind, known.model if known else None) if compared else device
            turn = self._turns.setdefault(key, len(self._turns))
            found = self._mine[device] = turn % self._job.processes == self._number
        return found

    def here(self) -> Part:
        """What comes of all there is."""
        backtests, ignored = self._taken(Progress().tell)
        return [backtest.taken(backtests[0].last) for backtest in backtests], ignored

    def there(self, pipe: Connection) -> None:
        """What comes of the devices that fall to it, told through a pipe: now and then how far it is; the
        latest time that it knows; and, when it has been told the latest of all, the rest. Whoever interrupts
        the command interrupts every process; then the command ends the others."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            backtests, ignored = self._taken(lambda *now: pipe.send(("far", now)))
            pipe.send(("last", backtests[0].last))
            last = pipe.recv()
            pipe.send(("part", ([backtest.taken(last) for backtest in backtests], ignored)))
        except RecordingError as error:
            pipe.send(("fault", error))

    def _taken(self, told: Callable[[int, int, float], object]) -> tuple[list[Backtest], set[str]]:
        recording = Recording(self._path, self._job.catalogue, self._kind_of)
        backtests, progress = self._job.backtests(), Progress()
        for portion in recording.portions(None if self._job.processes == 1 else self.mine):
            _feed(backtests, portion)
            if progress.due():
                told(backtests[0].readings, portion[-1][1], recording.table.share())
        return backtests, recording.ignored


def elsewhere(shares: Sequence[Share]) -> list[Part]:
    """What comes of all shares, each taken by a process of its own. Raises RecordingError; and
    CannotStartError where one ended before it had said all: a broken pipe of ours is no reader that left."""
    forked = multiprocessing.get_context("fork")
    pipes: list[Any] = []
    processes = []
    for share in shares:
        here, there = forked.Pipe()
        pipes.append(here)
        processes.append(forked.Process(target=share.there, args=(there,), daemon=True))
        processes[-1].start()
        there.close()
    try:
        latest = [last for last in _answers(pipes, "last") if last is not None]
        for pipe in pipes:
            pipe.send(max(latest, default=None))
        return _answers(pipes, "part")
    except (EOFError, ConnectionError) as error:
        raise CannotStartError(
            "a process that took readings has ended early; where memory is short, try fewer: --jobs 1"
        ) from error
    finally:
        for process in processes:
            process.kill()  # it has nothing to put in order, and may have been forked with a handler for less
            process.join()


def _answers(pipes: Sequence[Any], wanted: str) -> list[Any]:
    """What each says that is wanted; meanwhile, how far all of them are. Raises RecordingError."""
    progress, answers, far = Progress(), dict[Any, Any](), dict[Any, tuple[int, int, float]]()
    while len(answers) < len(pipes):
        for pipe in wait([pipe for pipe in pipes if pipe not in answers]):
            what, said = cast(Connection, pipe).recv()
            if what == "fault":
                raise said
            if what == wanted:
                answers[pipe] = said
                continue
            far[pipe] = said
            if progress.due():
                readings, times, shares = zip(*far.values(), strict=True)
                progress.tell(sum(readings), max(times), min(shares))
    return [answers[pipe] for pipe in pipes]


def _feed(backtests: Sequence[Backtest], portion: Sequence[Row]) -> None:
    for backtest in backtests:
        backtest.feed(portion)


def _reports(job: Job, backtests: Sequence[Backtest], owner_at: OwnerAt | None) -> list[Report]:
    return [b.report(start=job.start, truth=job.truth, owner_at=owner_at) for b in backtests]


# --- from the store ---------------------------------------------------------------------------


async def from_store(job: Job) -> tuple[list[Report], set[str]]:
    """The same over all devices that the gateway knows, of the kinds the rules are for."""
    from gateway.parts import Stores, open_timeseries

    async with Stores.opened(job.settings) as stores:
        series = open_timeseries(job.settings, job.catalogue)
        try:
            job.known = {**await stores.database.read(known_devices), **job.known}
            backtests, progress = job.backtests(), Progress()
            async for portion, share in portions(job, series):
                await asyncio.to_thread(_feed, backtests, portion)
                if progress.due():
                    progress.tell(backtests[0].readings, portion[-1][1], share)
            return await stores.database.read(lambda r: _reports(job, backtests, owners_of(r))), set()
        finally:
            await series.close()


def known_devices(records: Records) -> dict[str, KnownDevice]:
    """What is registered, and what reported without being registered."""
    known = {
        facts.device: KnownDevice(kind=facts.kind) for facts in records.devices.all_facts() if facts.kind
    }
    zones: dict[str, str] = {}
    for device in all_devices(records):
        if device.owner and device.owner not in zones:
            zones[device.owner] = records.owners.get(device.owner).time_zone
        zone = zones.get(device.owner or "")
        known[device.id] = KnownDevice(kind=device.kind, model=device.model, time_zone=zone)
    return known


def owners_of(records: Records) -> OwnerAt:
    """Who owned a device at a time; for readings from before its registration, who owned it first."""
    known: dict[str, list[Ownership]] = {}

    def owner_at(device: str, ts: int) -> str | None:
        if device not in known:
            known[device] = sorted(records.devices.ownerships(device), key=lambda owned: owned.since)
        return next((o.owner for o in known[device] if o.until is None or ts < o.until), None)

    return owner_at


async def portions(job: Job, series: TimeSeries) -> AsyncIterator[tuple[list[Row], float]]:
    """Readings, with the share of the work that is done by them.

    One device after the other; where rules compare devices, all of them, week by week.
    """
    kind_of, kinds = job.kind_of(), job.kinds()
    devices = [device for device in sorted(job.known) if kind_of(device) in kinds]
    if not job.compares_devices():
        for place, device in enumerate(devices):
            async for rows in stored(series, device, None, job.end):
                yield rows, place / len(devices)
        return
    first, last = await _extent(series, devices)
    last = last if job.end is None else min(last, job.end - 1)
    for start in range(first, last + 1, SLICE_MS):
        end = min(start + SLICE_MS, last + 1)
        week = [row for d in devices async for rows in stored(series, d, start, end) for row in rows]
        if week:
            yield sorted(week, key=itemgetter(1)), (end - first) / (last + 1 - first)


async def _extent(series: TimeSeries, devices: Sequence[str]) -> tuple[int, int]:
    """ts of the first and of the last reading; nothing lies between (0, -1)."""
    first, last = [], []
    for device in devices:
        for name, (newest, _) in (await series.latest(device)).items():
            last.append(newest)
            oldest = await series.readings(device, name, start=None, end=None, after=None, limit=1)
            first += [ts for ts, _ in oldest]
    return min(first, default=0), max(last, default=-1)


# --- while it takes long ----------------------------------------------------------------------


class Progress:
    """A line every two seconds, where people see it and scripts do not."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, out: TextIO | None = None) -> None:
        self._clock, self._out = clock, out or sys.stderr
        self._began = self._told = clock()

    def due(self) -> bool:
        """Whether it is time for a line; then not again for a while."""
        due = self._clock() - self._told >= PROGRESS_S
        if due:
            self._told = self._clock()
        return due

    def tell(self, readings: int, ts: int, share: float) -> None:
        """So many readings have been taken, up to this time; `share` of all is done."""
        rate = readings / max(self._clock() - self._began, 1e-6)
        line = f"{readings:,} readings, {share:.0%}, at {rfc3339(ts)}, {rate:,.0f} readings/s"
        print(line, file=self._out, flush=True)


@contextlib.contextmanager
def rare_collections() -> Iterator[None]:
    """Readings come and go by the million and hold no cycles: looking for these costs a sixth of the time."""
    before = gc.get_threshold()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
