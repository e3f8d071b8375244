"""Whether the promises to owners hold: many owners over many days, in played time, on one command.

    make promises                                     2,000 owners, 180 days
    python tools/promises.py --owners 100 --days 30 --seed 4 --json

The gateway's own code decides, delivers, takes answers, books and follows up, over its own database; what is
played is the world: people in eight time zones, their trips, what their products find, how and when they
answer, what they agree to and withdraw, what workshops do. The judge stands where the owner stands: at the
phone and at the display. It knows the world's truth and never asks the gateway. Counted as violations:

- a phone rings in its owner's quiet hours, or while that owner drives (critical matters of a product that is
  dangerous at once apart);
- a display shows something to a driver that is neither critical nor allowed there by its rule;
- more contacts in any seven days than the owner allows;
- a contact for a purpose whose consent does not stand at that moment (what owners wait for because of what
  they themselves did, as the reminder of a visit they booked, apart);
- a finding whose ledger does not say what became of it, or says it in words that are missing in a language.

Prints the counts and ends with 1 when there is any violation. The same seed gives the same counts.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import structlog

import config
from config.settings import load as load_settings
from gateway.adapters.clock import VirtualClock
from gateway.adapters.database import SqlDatabase
from gateway.app import load_rules, load_signals, make_policy, rule_texts, signal_texts
from gateway.domain.appointment import AppointmentState, Service, Workshop
from gateway.domain.counters import Counters
from gateway.domain.delivery import Delivery, Outcome, Sent
from gateway.domain.device import Device, Facts
from gateway.domain.errors import ConflictError, InvalidError, SlotTakenError
from gateway.domain.ids import derived_id
from gateway.domain.owner import Consent, Owner, Preferences, PushSubscription
from gateway.domain.policy import RuleInfo
from gateway.domain.texts import Texts
from gateway.domain.touchpoint import Answer, Finding, State, Touchpoint
from gateway.domain.wording import ledger_story
from gateway.flow import agree, book, decide, follow_up, respond
from gateway.flow.deliver import Deliverer, Timers
from gateway.flow.outgoing import Renderer
from gateway.ports import Records

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
WEEK = 7 * DAY
TICK = 10 * MINUTE
"""What products report falls on these, so that it is one write for all of them, as it is for assess."""

ZONES = (
    "Europe/Berlin", "Europe/Vienna", "Europe/Lisbon", "Europe/Helsinki",
    "America/New_York", "America/Los_Angeles", "Asia/Tokyo", "Australia/Lord_Howe",
)  # fmt: skip
PURPOSES = ("maintenance", "safety", "usage")
KINDS = ("washing_machine", "dishwasher", "coffee_machine", "refrigerator", "heat_pump")
QUIET = (("21:00", "07:00"), ("22:30", "06:00"), ("00:00", "00:00"), ("13:00", "15:00"), ("20:00", "09:00"))
ENDED_BY = (
    "suppressed", "merged", "bundled", "sent", "shown", "withdrawn", "expired", "answered", "not_sent",
    "held_out", "complaint", "gave_way",
)  # fmt: skip
"""How the code of a line begins that says what became of a finding."""


# --- the world --------------------------------------------------------------------------------


@dataclass
class Person:
    """An owner, with what is true of them whatever the gateway believes."""

    id: str
    zone: str
    quiet: tuple[str, str]
    budget: int
    habit: str
    patience_h: float
    car: str | None
    products: list[tuple[str, str]]
    """(device, kind)"""
    agreed: dict[str, bool]
    driving: bool = False
    parked_at: int = -WEEK
    contacts: list[int] = field(default_factory=list)
    """when they were contacted about something that costs budget"""

    def quiet_at(self, at: int) -> bool:
        """Whether their own clock says quiet."""
        begin, end = self.quiet
        clock = datetime.fromtimestamp(at / 1000, ZoneInfo(self.zone)).strftime("%H:%M")
        return begin <= clock < end if begin <= end else clock >= begin or clock < end

    def local(self, day: date, minutes: int) -> int:
        """The instant of a wall time of theirs, ms."""
        wall = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(self.zone)) + timedelta(minutes=minutes)
        return int(wall.timestamp() * 1000) // TICK * TICK

    def trips(self, day: date, dice: random.Random) -> Iterator[tuple[int, int]]:
        """(begins, ends) of the day's trips, ms, not overlapping."""
        match self.habit:
            case "commuter":
                starts = [(450, 40), (1_020, 45)] if day.weekday() < 5 else [(660, 30)]
            case "van":
                starts = [(420 + 75 * i, 50) for i in range(7)] if day.weekday() < 6 else []
            case "night":
                starts = [(1_290, 60), (230, 45)]
            case _:
                starts = [(600, 20), (900, 25)] if dice.random() < 0.5 else []
        for begin, minutes in sorted(starts):
            first = self.local(day, begin + dice.randrange(-15, 15))
            yield first, first + (minutes + dice.randrange(-10, 10)) * MINUTE // TICK * TICK


def people(number: int, dice: random.Random) -> list[Person]:
    """So many owners, each with a car or not and one to three appliances."""
    found = []
    for i in range(number):
        owner = f"owner-{i:05d}"
        car = f"car-{i:05d}" if dice.random() < 0.8 else None
        products = [(car, "car")] if car else []
        for kind in dice.sample(KINDS, dice.choice((1, 1, 2, 3))):
            products.append((f"{kind.replace('_', '-')}-{i:05d}", kind))
        found.append(
            Person(
                id=owner,
                zone=dice.choice(ZONES),
                quiet=dice.choice(QUIET),
                budget=dice.choice((0, 1, 1, 2, 2, 2, 3, 5)),
                habit=dice.choice(("commuter", "commuter", "van", "night", "family", "family")),
                patience_h=dice.expovariate(1 / 6),
                car=car,
                products=products,
                agreed={purpose: dice.random() < 0.85 for purpose in PURPOSES},
            )
        )
    return found


# --- the judge --------------------------------------------------------------------------------


@dataclass
class Judge:
    """Stands where owners stand, and notes what ought not to have happened."""

    people: dict[str, Person]
    cars: dict[str, Person]
    violations: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    contacted: set[str] = field(default_factory=set)
    """touchpoints that have cost budget"""

    def violation(self, what: str, example: str) -> None:
        self.violations[what] += 1
        self.examples.setdefault(what, example)

    def rings(self, delivery: Delivery, matter: Touchpoint, rule: RuleInfo | None, at: int) -> None:
        """Something reaches the owner's phone or mailbox."""
        owner = self.people[matter.owner]
        about = delivery.payload.get("message", {}).get("about") or delivery.payload.get("about", "")
        self.counts[f"{delivery.channel} {about}"] += 1
        when = _when(at, owner.zone)
        where = f"{delivery.channel} {about} {matter.rule} {matter.id} owner {owner.id} at {when}"
        kind = next((kind for device, kind in owner.products if device == matter.device), "")
        at_once = matter.severity == "critical" and kind != "car"
        silent = about == "answered"  # takes the place of a notification that still offers what is answered
        if not at_once and not silent:
            if owner.quiet_at(at):
                self.violation("in quiet hours", where)
            if owner.driving:
                self.violation("while driving", where)
        owners_own = about in ("visit", "reminder", "answered", "case_opened", "case_closed")
        if not owners_own and not owner.agreed.get(matter.purpose, matter.purpose == "recall"):
            self.violation("without consent", where)
        if about == "offer" and matter.severity != "critical" and matter.id not in self.contacted:
            self.contacted.add(matter.id)
            owner.contacts = [then for then in owner.contacts if then > at - WEEK] + [at]
            self.counts["contacts"] += 1
            if len(owner.contacts) > owner.budget:
                self.violation("beyond the budget", f"{where}: {len(owner.contacts)} of {owner.budget}")

    def shows(self, delivery: Delivery, matter: Touchpoint, rule: RuleInfo | None, at: int) -> None:
        """A device's display shows something."""
        self.counts["display"] += 1
        owner = self.cars.get(matter.device)
        allowed = matter.severity == "critical" or (rule is not None and rule.while_driving)
        where = f"display {matter.rule} {matter.id} at {at}"
        if owner is not None and owner.driving and not allowed and matter.state is State.OPEN:
            self.violation("on the display while driving", where)
        if not self.people[matter.owner].agreed.get(matter.purpose, False):
            self.violation("without consent", where)


def _when(at: int, zone: str) -> str:
    return datetime.fromtimestamp(at / 1000, ZoneInfo(zone)).isoformat(timespec="minutes")


# --- the play ---------------------------------------------------------------------------------


class Phone:
    """Every channel of the gateway, seen from outside: judged, and sometimes answered."""

    def __init__(self, name: str, play: Play) -> None:
        self.name = name
        self._play = play

    async def send(self, delivery: Delivery) -> Outcome:
        self._play.received(self.name, delivery)
        return Sent()

    async def close(self) -> None:
        """Nothing to close."""


Work = Callable[[Records], Any]


@dataclass(order=True)
class Event:
    """Something that happens in the world."""

    at: int
    order: int
    work: Work = field(compare=False)
    alone: bool = field(compare=False, default=False)
    """in a transaction of its own, because it may be refused"""


class Play:
    """The world, played against the gateway's own code."""

    def __init__(self, folder: Path, *, owners: int, days: int, seed: int, start: int) -> None:
        self.seed, self.dice = seed, random.Random(seed)
        self.clock = VirtualClock(start)
        self.start, self.end = start, start + days * DAY
        settings = load_settings(None, {"TOUCHPOINT_DATA_DIR": str(folder)})
        signals = load_signals(signal_texts(settings.signals.paths))
        self.rules = load_rules(rule_texts(settings.rules.paths), signals)
        self.signals = signals
        self.policy = make_policy(settings, self.rules)
        self.texts = Texts({language: config.messages(language) for language in ("en", "de")})
        self.database = SqlDatabase(f"sqlite:///{folder / 'domain.db'}", now=self.clock.now)
        self.people = people(owners, self.dice)
        by_id = {person.id: person for person in self.people}
        self.judge = Judge(by_id, {p.car: p for p in self.people if p.car})
        self.counters = Counters()
        renderer = Renderer(
            texts=self.texts, signals=signals, policy=self.policy, public_url="https://example.com"
        )
        channels = {name: Phone(name, self) for name in (*self.policy.channels, "journal")}
        self.deliverer = Deliverer(self.database, self.clock, channels, self.policy, renderer, self.counters)
        self.timers = Timers(self.database, self.clock, self.policy, self.counters)
        self.events: list[Event] = []
        self.order = count()
        self.facts: dict[str, Facts] = {}
        self.news: dict[str, Facts] = {}
        self.episodes: dict[tuple[str, str], str] = {}
        self.answering: set[str] = set()
        self.by_kind: dict[str, list[RuleInfo]] = defaultdict(list)
        for info in self.policy.rules.values():
            self.by_kind[info.kind].append(info)

    def at(self, when: int, work: Work, *, alone: bool = False) -> None:
        """Something is going to happen."""
        if when < self.end:
            heapq.heappush(self.events, Event(when, next(self.order), work, alone))

    async def run(self, progress: Callable[[str], None]) -> None:
        """From the first day to the last."""
        await self.database.prepare()
        await self.database.write(self._populate)
        for person in self.people:
            self._plan(person)
        told = now = self.start
        while now < self.end:
            self.clock.advance(now)
            await self._happen(now)
            due = await self._due()
            while due <= now:
                await self.timers.step()
                await self.deliverer.now()
                due = await self._due()
            now = max(min(due, self.events[0].at if self.events else self.end), now + 1)
            if now - told > 10 * DAY:
                told = now
                progress(f"day {(now - self.start) // DAY}: {self.judge.counts['contacts']} contacts")

    async def _due(self) -> int:
        """When the gateway has something to do next, the play's end when nothing waits."""
        channels = [*self.policy.channels, "journal"]
        due = await self.database.read(lambda r: (r.touchpoints.next_wake(), r.outbox.next_due(channels)))
        return min((when for when in due if when is not None), default=self.end)

    async def _happen(self, now: int) -> None:
        together: list[Work] = []
        while self.events and self.events[0].at <= now:
            event = heapq.heappop(self.events)
            if event.alone:
                await self._write(together)
                await self._alone(event.work)
            else:
                together.append(event.work)
        await self._write(together)

    async def _write(self, together: list[Work]) -> None:
        if together:

            def work(records: Records) -> None:
                for part in together:
                    part(records)
                self._put_facts(records)

            await self.database.write(work)
            together.clear()

    async def _alone(self, work: Work) -> None:
        try:
            await self.database.write(work)
        except (ConflictError, SlotTakenError, InvalidError) as error:
            self.judge.counts[f"refused {type(error).__name__}"] += 1

    # --- people -------------------------------------------------------------------------------

    def _populate(self, records: Records) -> None:
        services = sorted({i.service for i in self.policy.rules.values() if i.service})
        week = dict.fromkeys(("mon", "tue", "wed", "thu", "fri"), (("08:00", "18:00"),))
        places = max(2, len(self.people) // 40)
        for number in range(places):
            offered = tuple(
                Service(id=service, names={"en": service, "de": service}, minutes=60) for service in services
            )
            workshop = Workshop(
                id=f"workshop-{number:03d}",
                name=f"Workshop {number}",
                bays=("1", "2"),
                hours=week,
                services=offered,
                books=self.dice.choice(("at_once", "on_request")),
            )
            records.workshops.add(workshop)
        for person in self.people:
            self._enter(records, person, f"workshop-{self.dice.randrange(places):03d}")

    def _enter(self, records: Records, person: Person, workshop: str) -> None:
        now = self.start
        language = self.dice.choice(("en", "de"))
        records.owners.add(
            Owner(id=person.id, name=person.id, language=language, time_zone=person.zone, created=now)
        )
        quiet_from, quiet_to = person.quiet
        wanted = Preferences(quiet_from=quiet_from, quiet_to=quiet_to, weekly_budget=person.budget)
        records.owners.prefer(person.id, wanted)
        for purpose, granted in person.agreed.items():
            records.owners.consent(
                Consent(owner=person.id, purpose=purpose, granted=granted, at=now, source="owner")
            )
        for device, kind in person.products:
            records.devices.add(
                Device(id=device, kind=kind, name=device, owner=person.id, workshop=workshop, created=now)
            )
        if self.dice.random() < 0.9:
            records.owners.subscribe(
                PushSubscription(
                    id=f"phone-{person.id}",
                    owner=person.id,
                    endpoint=f"https://push.example/{person.id}",
                    p256dh="x",
                    auth="y",
                    label="phone",
                    created=now,
                )
            )

    def _plan(self, person: Person) -> None:
        dice = self.dice
        self._plan_day(person, datetime.fromtimestamp(self.start / 1000, ZoneInfo(person.zone)).date())
        for device, kind in person.products:
            self._plan_finding(device, kind, person)
        self.at(self.start + int(dice.expovariate(1 / 60) * DAY), self._change_of_mind(person), alone=True)

    def _plan_day(self, person: Person, day: date) -> None:
        """The trips of one day; the first of them plans the next day."""
        for begins, ends in person.trips(day, self.dice) if person.car else ():
            if begins > self.clock.now():
                self.at(begins, self._trip(person, begins, moving=True))
                self.at(ends, self._trip(person, ends, moving=False))
        tomorrow = day + timedelta(days=1)
        self.at(person.local(day, 24 * 60 - 30), lambda records: self._plan_day(person, tomorrow))

    def _trip(self, person: Person, at: int, *, moving: bool) -> Work:
        def work(records: Records) -> None:
            assert person.car is not None
            person.driving = moving
            self._know(person.car, at, moving=moving, moving_since=at)
            if not moving:
                self._put_facts(records)
                decide.device_parked(records, person.car, at, self.policy)

        return work

    def _know(self, device: str, at: int, **changes: Any) -> None:
        """What assess would say of a device from now on; written with the next work."""
        before = self.facts.get(device) or Facts(device=device)
        self.facts[device] = self.news[device] = replace(before, last_seen=at, **changes)

    def _put_facts(self, records: Records) -> None:
        if self.news:
            records.devices.put_facts([*self.news.values()])
            self.news.clear()

    def _change_of_mind(self, person: Person) -> Work:
        """They withdraw a consent, or give it again."""

        def work(records: Records) -> None:
            now = self.clock.now()
            purpose = self.dice.choice(PURPOSES)
            granted = not person.agreed[purpose]
            person.agreed[purpose] = granted
            self.judge.counts["consents changed"] += 1
            records.owners.consent(
                Consent(owner=person.id, purpose=purpose, granted=granted, at=now, source="owner")
            )
            if not granted:
                agree.withdrawn(records, person.id, purpose, now, self.policy)
            self.at(now + int(self.dice.expovariate(1 / 60) * DAY), self._change_of_mind(person), alone=True)

        return work

    # --- findings -----------------------------------------------------------------------------

    def _plan_finding(self, device: str, kind: str, person: Person) -> None:
        when = self.clock.now() + int(self.dice.expovariate(1 / 12) * DAY) + TICK
        self.at(when // TICK * TICK, lambda records: self._found(records, device, kind, person))

    def _found(self, records: Records, device: str, kind: str, person: Person) -> None:
        now, dice = self.clock.now(), self.dice
        info = dice.choice(self.by_kind[kind])
        if info.severity == "critical" and dice.random() < 0.7:
            info = dice.choice(self.by_kind[kind])
        self._plan_finding(device, kind, person)
        if (device, info.id) in self.episodes:
            return
        finding = Finding(
            id=derived_id(device, info.id, now),
            device=device,
            rule=info.id,
            version=info.version,
            severity=info.severity,
            position=now,
            began_ts=now,
            found_at=now,
            shadow=info.shadow,
            evidence=dict.fromkeys(info.signals, 50) | {"ts": now},
        )
        self.episodes[device, info.id] = finding.id
        assert records.touchpoints.add_finding(finding)
        self._open(records, device, finding.id, now, add=True)
        outcome = decide.decide(records, finding, person.id, now, self.policy)
        self.judge.counts[f"decided {outcome}"] += 1
        self.judge.counts["findings"] += 1
        lasts = int(dice.choice((dice.expovariate(1 / 2), dice.expovariate(1 / 60))) * DAY)
        self.at(now + lasts, lambda records: self._clears(records, device, info.id))

    def _clears(self, records: Records, device: str, rule: str) -> None:
        finding = self.episodes.pop((device, rule), None)
        if finding is not None:
            now = self.clock.now()
            records.touchpoints.clear_finding(finding, now)
            self._open(records, device, finding, now, add=False)
            decide.cleared(records, finding, now, self.policy)

    def _open(self, records: Records, device: str, finding: str, now: int, *, add: bool) -> None:
        """What assess would say of the device: which episodes are open."""
        before = self.facts[device].open if device in self.facts else ()
        standing = [known for known in before if known != finding] + ([finding] if add else [])
        self._know(device, now, open=tuple(standing))
        self._put_facts(records)

    # --- what reaches people, and what they do -------------------------------------------------

    def received(self, channel: str, delivery: Delivery) -> None:
        """Something has left the gateway."""
        if delivery.touchpoint is None or channel == "journal":
            return
        self.at(self.clock.now(), self._judged(channel, delivery, self.clock.now()))

    def _judged(self, channel: str, delivery: Delivery, at: int) -> Work:
        """Judged by the world as it was; what it was about is read from the records."""

        def work(records: Records) -> None:
            assert delivery.touchpoint is not None
            matter = records.touchpoints.get(delivery.touchpoint)
            rule = self.policy.rules.get(matter.rule)
            if channel == "display":
                if delivery.payload.get("show") is not None:
                    self.judge.shows(delivery, matter, rule, at)
            else:
                self.judge.rings(delivery, matter, rule, at)
            self._will_answer(matter, at)

        return work

    def _dice_of(self, finding: str, what: str) -> random.Random:
        """Of its own for each matter: in which order things reach phones must not change who does what."""
        return random.Random(f"{self.seed}/{finding}/{what}")

    def _will_answer(self, matter: Touchpoint, at: int) -> None:
        dice = self._dice_of(matter.finding, "when")
        if matter.id in self.answering or dice.random() < 0.25:
            return
        self.answering.add(matter.id)
        patience = self.judge.people[matter.owner].patience_h
        when = at + int(dice.expovariate(1 / (patience + 0.1)) * HOUR)
        self.at(when, lambda records: self._answers(records, matter.id), alone=True)

    def _answers(self, records: Records, touchpoint: str) -> None:
        now = self.clock.now()
        self.answering.discard(touchpoint)
        matter = records.touchpoints.get(touchpoint)
        dice = self._dice_of(matter.finding, "what")
        if matter.state not in respond.ANSWERABLE:
            return
        action = dice.choice(("not_now", "already_done", "noted"))
        slot = None
        if matter.kind == "appointment" and dice.random() < 0.6:
            slots = book.proposals(records, matter, now, self.policy)
            if slots:
                action, slot = "book", dice.choice(slots).id
        choice = Answer(action=action, channel="page", at=now, by=matter.owner, slot=slot)
        respond.answer(records, touchpoint, choice, now, self.policy)
        self.judge.counts[f"answered {action}"] += 1
        if action == "book":
            self._plan_visit(records, touchpoint, dice)

    def _plan_visit(self, records: Records, touchpoint: str, dice: random.Random) -> None:
        visit = records.workshops.appointments(touchpoint=touchpoint)[-1]
        if visit.state is AppointmentState.REQUESTED:
            soon = self.clock.now() + dice.randrange(1, 24) * HOUR
            self.at(soon, lambda records: self._workshop_answers(records, visit.id, dice), alone=True)
        self.at(visit.end, lambda records: self._visit(records, visit.id, dice), alone=True)

    def _workshop_answers(self, records: Records, appointment: str, dice: random.Random) -> None:
        now = self.clock.now()
        if dice.random() < 0.8:
            book.confirm(records, appointment, now, self.policy)
        else:
            book.cancel(records, appointment, now, self.policy, by="workshop")
            self.judge.counts["visits cancelled"] += 1

    def _visit(self, records: Records, appointment: str, dice: random.Random) -> None:
        now = self.clock.now()
        if dice.random() < 0.06:
            book.no_show(records, appointment, now, self.policy)
            self.judge.counts["visits missed"] += 1
        else:
            follow_up.done(records, appointment, {"note": "done"}, now, self.policy)
            self.judge.counts["visits done"] += 1

    # --- afterwards ---------------------------------------------------------------------------

    async def judge_ledger(self) -> None:
        """Every finding's lines say what became of it, in both languages."""

        def work(records: Records) -> None:
            for person in self.people:
                for device, _ in person.products:
                    for finding in records.touchpoints.findings(device=device, limit=10_000):
                        self._explained(records, finding)

        await self.database.read(work)

    def _explained(self, records: Records, finding: Finding) -> None:
        lines = records.touchpoints.ledger(finding=finding.id)
        if not any(line.code.startswith(ENDED_BY) for line in lines):
            told = [line.code for line in lines]
            self.judge.violation("not explained in the ledger", f"{finding.rule} {finding.id}: {told}")
        for language in ("en", "de"):
            try:
                said = ledger_story(lines, self.texts, language, "Europe/Berlin", self.signals)
            except (KeyError, ValueError) as error:
                self.judge.violation("not worded", f"{language} {finding.rule}: {error!r}")
                continue
            for line, (_, sentence) in zip(lines, said, strict=False):
                if not sentence.strip() or "{" in sentence:
                    self.judge.violation("not worded", f"{language} {line.code}: {sentence!r}")
        self.judge.counts["findings explained"] += 1


def main(arguments: list[str]) -> int:
    """See the module's words."""
    parser = argparse.ArgumentParser(description="Whether the promises to owners hold, in played time.")
    parser.add_argument("--owners", type=int, default=2_000)
    parser.add_argument("--days", type=int, default=180)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument(
        "--folder", type=Path, help="where the database is kept; a new one that goes by default"
    )
    chosen = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.folder or Path(scratch)
        judge, took = asyncio.run(_played(folder, chosen))
    return _report(judge, took, chosen)


async def _played(folder: Path, chosen: argparse.Namespace) -> tuple[Judge, float]:
    began = time.monotonic()
    start = int(datetime.fromisoformat("2026-11-22T12:00:00+00:00").timestamp() * 1000)
    play = Play(folder, owners=chosen.owners, days=chosen.days, seed=chosen.seed, start=start)

    def progress(line: str) -> None:
        if not chosen.json:
            print(f"  {line}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)

    try:
        await play.run(progress)
        await play.judge_ledger()
    finally:
        await play.database.close()
    return play.judge, time.monotonic() - began


def _report(judge: Judge, took: float, chosen: argparse.Namespace) -> int:
    wanted = (
        "in quiet hours", "while driving", "on the display while driving", "beyond the budget",
        "without consent", "not explained in the ledger", "not worded",
    )  # fmt: skip
    violations = {what: judge.violations[what] for what in wanted}
    if chosen.json:
        asked = {"owners": chosen.owners, "days": chosen.days, "seed": chosen.seed}
        print(
            json.dumps(asked | {"counts": judge.counts, "violations": violations, "examples": judge.examples})
        )
        return int(any(violations.values()))
    print(f"{chosen.owners} owners, {chosen.days} days, seed {chosen.seed}: {took:.0f} s")
    for what, number in sorted(judge.counts.items()):
        print(f"  {number:>9,}  {what}")
    print("violations")
    for what, number in violations.items():
        print(f"  {number:>9,}  {what}{'   e.g. ' + judge.examples[what] if number else ''}")
    return int(any(violations.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
