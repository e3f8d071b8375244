"""Whether the promises to owners hold: many owners over many days, in played time, on one command.

    make promises                                     2,000 owners, 180 days
    python tools/promises.py --owners 100 --days 30 --seed 4 --json

The gateway's own code decides, delivers, takes answers, books and follows up, over its own database; what is
played is the world: people in eight time zones, their trips, what their products find, how and when they
answer and rate, what they agree to and withdraw, what they prefer, where they move, with whom they share a
product and to whom they pass it on, what workshops, the operator and the manufacturer's recalls and offers
do, phones that are off for a while. The judge stands where the owner stands: at the phone, the
mailbox and the display. It knows the world's truth and asks the gateway only what a message was about.
Counted as violations:

- a phone rings in its owner's quiet hours, also one that was off and gets a push when it is on again; a mail
  that offers or asks something comes in them;
- it does so while that owner drives (critical matters of a product that is dangerous at once apart from
  both);
- a display shows something to a driver that is neither critical nor allowed there by its rule;
- more contacts in any seven days than the owner allows, questions after a visit included; more offers than
  they allow of these (recalls cost nothing, and are no reason to call somebody twice);
- the same matter on the same channel a second time, though neither its owner nor a workshop has moved it;
- a contact for a purpose whose consent does not stand at that moment, on any channel, of anything that it is
  about (what owners wait for because of what they themselves did, as the reminder of a visit they booked,
  apart); a question to who wants none; something that its owner never wants to hear of again;
- a matter offered that is over already;
- a matter of a product that is somebody else's by now, or that they no longer share;
- a finding whose ledger does not say how it ended, or, of one that has not ended, what it waits for; or says
  it in words that are missing in a language.

Prints the counts and ends with 1 when there is any violation. The same seed gives the same counts. Owners
live in towns of 1,000 with workshops of their own; each town has a database of its own, and `--jobs` of them
are played at the same time, which changes no count.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import heapq
import json
import multiprocessing
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import cache, partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import patch
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import event

import config
from config.settings import load as load_settings
from gateway.adapters.clock import VirtualClock
from gateway.adapters.database import SqlDatabase
from gateway.domain import ids
from gateway.domain.appointment import AppointmentState, Service, Workshop
from gateway.domain.case import CaseState
from gateway.domain.counters import Counters
from gateway.domain.delivery import Delivery, Outcome, Sent
from gateway.domain.device import Device, Facts
from gateway.domain.errors import ConflictError, InvalidError, NotFoundError, SlotTakenError
from gateway.domain.feedback import SCALES, AskState
from gateway.domain.household import Part
from gateway.domain.household import Person as Housemate
from gateway.domain.ids import derived_id
from gateway.domain.owner import Consent, Owner, Preferences, PushSubscription
from gateway.domain.policy import RECALL_PURPOSE, Policy, RuleInfo
from gateway.domain.recall import Affected, Recall
from gateway.domain.texts import Texts
from gateway.domain.touchpoint import Answer, Finding, LedgerLine, State, Touchpoint, graver
from gateway.domain.wording import ledger_story
from gateway.flow import agree, book, budget, cases, decide, follow_up, outgoing, recalls, respond
from gateway.flow import people as households
from gateway.flow.deliver import Deliverer, Timers
from gateway.flow.outgoing import Renderer
from gateway.parts import make_policy
from gateway.ports import Records
from gateway.sources import load_rules, load_signals, rule_texts, signal_texts
from rules import Catalogue

T = TypeVar("T")

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
WEEK = 7 * DAY
TICK = 10 * MINUTE
"""What products report falls on these, so that it is one write for all of them, as it is for assess."""
FOUND_EVERY = 20
"""Days between two findings of a product, on average: more than anybody should have, so that they crowd."""
TOWN = 1_000
"""Owners who share workshops and a database."""
ROUNDS = 1_000
"""So often the gateway may have something due at one moment; more is a loop that does not do its work."""

ZONES = (
    "Europe/Berlin", "Europe/Vienna", "Europe/Lisbon", "Europe/Helsinki",
    "America/New_York", "America/Los_Angeles", "Asia/Tokyo", "Australia/Lord_Howe",
)  # fmt: skip
MARKETING = "marketing"
PURPOSES = ("maintenance", "safety", "usage", MARKETING)
SURVEY = "survey"
SELLS = 4
"""Every so many of the shipped rules about using a product are played as offers: none of them sells."""
RECALLED = 0.1
"""The part of a kind's products that a recall concerns."""
RECALL_EVERY = 20
"""Days between two recalls, on average."""
KINDS = ("washing_machine", "dishwasher", "coffee_machine", "refrigerator", "heat_pump")
QUIET = (("21:00", "07:00"), ("22:30", "06:00"), ("00:00", "00:00"), ("13:00", "15:00"), ("20:00", "09:00"))
BUDGETS = (0, 1, 1, 2, 2, 2, 3, 5)

ASKS = ("offer", "question")
"""What of mails is no answer to anything: it keeps quiet hours, trips and the budget."""
AWAITED = (
    "visit", "reminder", "answered", "extra_work", "case", "case_opened", "invitation", "decline_counter",
)  # fmt: skip
"""What owners wait for because of what they did themselves."""

SETTINGS = {"TOUCHPOINT_DELIVER__EMAIL__URL": "smtp://localhost:2525"}
"""What makes mail a channel; nothing is sent there, for every channel ends at the judge."""

ENDS: dict[State | None, tuple[str, ...]] = {
    None: ("suppressed_", "held_out", "complaint", "merged", "bundled", "partly_"),
    State.DEFERRED: ("not_sent_", "moved_", "gave_way", "parked", "returned", "left_over", "answered_snooze",
                     "returns_changed"),
    State.OPEN: ("sent", "shown"),
    State.ANSWERED: ("answered_", "requested"),
    State.BOOKED: ("booked", "confirmed", "requested", "rescheduled"),
    State.FULFILLED: ("done",),
    State.CLOSED: ("answered_", "settled_", "withdrawn_", "case_closed"),
    State.EXPIRED: ("expired",),
    State.WITHDRAWN: ("withdrawn_", "held_out"),
}  # fmt: skip
"""How the code of a line begins that says what became of a finding, by where its touchpoint stands."""
OVER = (State.FULFILLED, State.CLOSED, State.EXPIRED, State.WITHDRAWN)
"""Of these the line is of the very moment at which it ended."""

VIOLATIONS = (
    "in quiet hours", "while driving", "on the display while driving", "beyond the budget", "a second time",
    "without consent", "never again", "over already", "about another's product",
    "not explained in the ledger", "not worded",
)  # fmt: skip


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
    offers: int = 1
    """of marketing, in seven days"""
    driving: bool = False
    wheels: int = 0
    """cars that they drive at this moment: of two that are theirs, the played trips may overlap"""
    contacts: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """{purse: when they were contacted about something that costs of it}"""
    allowed: list[tuple[int, int]] = field(default_factory=list)
    """(until, contacts in seven days) that they allowed before"""
    silenced: dict[str, str] = field(default_factory=dict)
    """{rule: severity} of what they never want to hear of again"""
    changed_at: int = 0
    """when their clock or their quiet hours became others"""

    def quiet_at(self, at: int) -> bool:
        """Whether their own clock says quiet."""
        begin, end = self.quiet
        clock = datetime.fromtimestamp(at / 1000, ZoneInfo(self.zone)).strftime("%H:%M")
        return begin <= clock < end if begin <= end else clock >= begin or clock < end

    def most(self, at: int, purse: str) -> int:
        """The contacts in seven days that they allow, or did until a day ago: a message may be under way."""
        if purse == MARKETING:
            return self.offers
        lately = (number for until, number in self.allowed if until > at - DAY)
        return max((self.budget, *lately))

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


def people(numbers: Sequence[int], dice: random.Random) -> list[Person]:
    """Owners of these numbers, each with a car or not and one to three appliances."""
    found = []
    for i in numbers:
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
                budget=dice.choice(BUDGETS),
                habit=dice.choice(("commuter", "commuter", "van", "night", "family", "family")),
                patience_h=dice.expovariate(1 / 6),
                car=car,
                products=products,
                agreed={purpose: dice.random() < 0.85 for purpose in PURPOSES} | {SURVEY: True},
                offers=dice.choice((0, 1, 1, 2)),
            )
        )
    return found


# --- the judge --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Ring:
    """Something that reaches an owner in person: a phone that rings, a mail, a letter."""

    at: int
    owner: Person
    channel: str
    target: str
    about: str
    silent: bool = False
    """it takes the place of a notification, without a sound"""
    matter: Touchpoint | None = None
    kind: str = ""
    """of the product"""
    purposes: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    question: str | None = None
    theirs: bool = True
    """whether the product is theirs or they share it"""

    @property
    def at_once(self) -> bool:
        """Dangerous wherever the owner is, whatever they do; news of it are not."""
        critical = self.matter is not None and self.matter.severity == "critical"
        return critical and self.about == "offer" and self.kind != "car"

    @property
    def free(self) -> bool:
        """What is dangerous and what is recalled costs no budget."""
        matter = self.matter
        return matter is not None and (matter.severity == "critical" or matter.purpose == RECALL_PURPOSE)

    @property
    def purse(self) -> str:
        """What pays for it."""
        sells = self.question is None and self.matter is not None and self.matter.purpose == MARKETING
        return MARKETING if sells else budget.SERVICE

    @property
    def disturbs(self) -> bool:
        """Whether it keeps quiet hours and trips: a push with a sound, a mail that wants something."""
        if self.silent or self.at_once or self.channel == "letter":
            return False
        return self.channel == "web_push" or self.about in ASKS

    def __str__(self) -> str:
        what = f"{self.matter.rule} {self.matter.id}" if self.matter else self.question or ""
        return f"{self.channel} {self.about} {what} {self.owner.id} at {_when(self.at, self.owner.zone)}"


@dataclass
class Judge:
    """Stands where owners stand, and notes what ought not to have happened."""

    cars: dict[str, Person] = field(default_factory=dict)
    violations: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    open: set[str] = field(default_factory=set)
    """findings that are so, whatever the gateway believes"""
    paid: set[str] = field(default_factory=set)
    """matters and questions that come at their owner's own wish"""
    charged: set[tuple[str, str]] = field(default_factory=set)
    """(owner, matter or question) that has cost budget"""
    rung: dict[str, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))
    """{matter: (channel, target)} where it was told since somebody moved it"""

    def violation(self, what: str, example: object) -> None:
        self.violations[what] += 1
        self.examples.setdefault(what, str(example))

    def moved(self, matter: str) -> None:
        """Its owner or a workshop did something about it: it may be told again."""
        self.rung.pop(matter, None)

    def rings(self, ring: Ring) -> None:
        """Something reaches an owner in person."""
        self.counts[f"{ring.channel} {ring.about}"] += 1
        if ring.disturbs:
            self._disturbs(ring, "in quiet hours" if ring.owner.quiet_at(ring.at) else None)
            self._disturbs(ring, "while driving" if ring.owner.driving else None)
        if ring.about not in AWAITED:
            self._agreed(ring)
        if ring.about == "offer" and ring.matter is not None and not ring.silent:
            self._offered(ring, ring.matter)
        if ring.question is not None:
            self._contact(ring, ring.question)

    def turned_on(self, ring: Ring) -> None:
        """A phone that was off is on again and gets what was kept for it."""
        self.counts["phones on again"] += 1
        quiet = ring.disturbs and ring.owner.quiet_at(ring.at)
        self._disturbs(ring, "in quiet hours" if quiet else None)

    def _disturbs(self, ring: Ring, what: str | None) -> None:
        if what is not None:
            self.violation(what, ring)

    def _agreed(self, ring: Ring) -> None:
        wanted = (SURVEY,) if ring.about == "question" else ring.purposes
        if not all(ring.owner.agreed.get(purpose, purpose == RECALL_PURPOSE) for purpose in wanted):
            self.violation("without consent", ring)

    def _offered(self, ring: Ring, matter: Touchpoint) -> None:
        told = self.rung[matter.id]
        if (ring.channel, ring.target) in told:
            self.violation("a second time", ring)
        told.add((ring.channel, ring.target))
        if not self.open.intersection(ring.findings):
            self.violation("over already", ring)
        silenced = ring.owner.silenced.get(matter.rule)
        if silenced is not None and graver(matter.severity) <= graver(silenced):
            self.violation("never again", ring)
        if not ring.theirs:
            self.violation("about another's product", ring)
        if ring.free:
            self.counts["contacts that cost nothing"] += 1
        else:
            self._contact(ring, matter.id)

    def _contact(self, ring: Ring, about: str) -> None:
        """One contact from the budget, once for what it is about and for whom."""
        owner, purse = ring.owner, ring.purse
        if about in self.paid or (owner.id, about) in self.charged:
            return
        self.charged.add((owner.id, about))
        lately = [then for then in owner.contacts[purse] if then > ring.at - WEEK]
        owner.contacts[purse] = [*lately, ring.at]
        self.counts["contacts" if purse != MARKETING else "offers"] += 1
        most = owner.most(ring.at, purse)
        if len(lately) >= most:
            self.violation("beyond the budget", f"{ring}: {len(lately) + 1} of {most} ({purse})")

    def shows(self, ring: Ring, rule: RuleInfo | None, moving: bool | None = None) -> None:
        """A device's display shows something; `moving` says it of the car where its driver has another one,
        too."""
        self.counts["display"] += 1
        matter, driver = ring.matter, self.cars.get(ring.target)
        assert matter is not None
        allowed = matter.severity == "critical" or (rule is not None and rule.while_driving)
        driven = driver is not None and (driver.driving if moving is None else moving)
        if driven and not allowed:
            self.violation("on the display while driving", ring)
        self._agreed(ring)


def _when(at: int, zone: str) -> str:
    return datetime.fromtimestamp(at / 1000, ZoneInfo(zone)).isoformat(timespec="minutes")


# --- the play ---------------------------------------------------------------------------------


class Phone:
    """Every channel of the gateway, seen from outside: judged, and sometimes answered."""

    def __init__(self, name: str, play: Play) -> None:
        self.name = name
        self._play = play

    async def send(self, delivery: Delivery) -> Outcome:
        await self._play.received(self.name, delivery)
        return Sent()

    async def close(self) -> None:
        """Nothing to close."""


@cache
def shipped() -> tuple[Catalogue, Policy, Texts]:
    """What the gateway comes with: its signals, its rules and settings, its words."""
    settings = load_settings(None, SETTINGS)
    signals = load_signals(signal_texts(settings.signals.paths))
    policy = make_policy(settings, load_rules(rule_texts(settings.rules.paths), signals))
    used = sorted(info.id for info in policy.rules.values() if info.purpose == "usage")
    sold = {name: replace(policy.rules[name], purpose=MARKETING) for name in used[::SELLS]}
    policy = replace(policy, rules={**policy.rules, **sold})
    policy = replace(policy, late_push_ms=TICK)  # trips end on ticks; looking each minute is half of the run
    return signals, policy, Texts({language: config.messages(language) for language in ("en", "de")})


class PlayedDatabase(SqlDatabase):
    """The gateway's own database, asked by one thread, and not waiting for the disk: what is played is over
    when the machine is."""

    def __init__(self, path: Path, now: Callable[[], int]) -> None:
        super().__init__(f"sqlite:///{path}", now=now)
        for side in (self._writing, self._reading):
            event.listen(side._engine, "connect", _in_no_hurry)

    async def write(self, work: Callable[[Records], T]) -> T:
        return self._write(work)

    async def read(self, work: Callable[[Records], T]) -> T:
        return self._read(work)


def _in_no_hurry(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")


def _numbered(seed: str) -> Any:
    """In place of the module that makes ids: like UUIDv7 of a time, and the same ones for the same seed."""
    dice = random.Random(f"{seed}/ids")

    def uuid7(*, nanoseconds: int) -> str:
        digits = f"{nanoseconds // 1_000_000:012x}7{dice.getrandbits(12):03x}{dice.getrandbits(64):016x}"
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    return SimpleNamespace(uuid7=uuid7)


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
    """The world of one town, played against the gateway's own code."""

    def __init__(self, folder: Path, *, numbers: Sequence[int], days: int, seed: int, start: int) -> None:
        self.seed = f"{seed}/{numbers[0]}"
        self.dice = random.Random(self.seed)
        self.clock = VirtualClock(start)
        self.start, self.end = start, start + days * DAY
        self.signals, self.policy, self.texts = shipped()
        self.database = PlayedDatabase(folder / "domain.db", self.clock.now)
        self.people = people(numbers, self.dice)
        self.by_id = {person.id: person for person in self.people}
        self.kinds = {device: kind for person in self.people for device, kind in person.products}
        self.owners = {device: person for person in self.people for device, _ in person.products}
        self.drivers: dict[str, Person] = {}
        """{car: who drives it in its owner's place: who is asked about it}"""
        self.at_wheel: dict[str, Person] = {}
        """{car that moves: who drives it}"""
        self.judge = Judge(cars={p.car: p for p in self.people if p.car})
        self.counters = Counters()
        renderer = Renderer(
            texts=self.texts, signals=self.signals, policy=self.policy, public_url="https://example.com"
        )
        channels = {name: Phone(name, self) for name in (*self.policy.channels, "journal")}
        self.channels = list(channels)
        self.deliverer = Deliverer(self.database, self.clock, channels, self.policy, renderer, self.counters)
        self.timers = Timers(self.database, self.clock, self.policy, self.counters)
        self.events: list[Event] = []
        self.order = count()
        self.facts: dict[str, Facts] = {}
        self.news: dict[str, Facts] = {}
        self.episodes: dict[tuple[str, str], str] = {}
        self.answering: set[str] = set()
        self.answers: Counter[str] = Counter()
        """how often a finding was answered: every time by other dice"""
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
        self._plan_recalls()
        told = now = self.start
        while now < self.end:
            self.clock.advance(now)
            await self._happen(now)
            due = await self._gateway(now)
            now = max(min(due, self.events[0].at if self.events else self.end), now + 1)
            if now - told > 10 * DAY:
                told = now
                judge = self.judge
                progress(
                    f"day {(now - self.start) // DAY}: {judge.counts['contacts']} contacts, "
                    f"{judge.violations.total()} violations {judge.examples or ''}"
                )

    async def _gateway(self, now: int) -> int:
        """The gateway's loops do what is due; gives when there is something again."""
        for _ in range(ROUNDS):
            timers, afterwards, outbox = await self.database.read(self._due)
            if min(timers, afterwards, outbox) > now:
                return min(timers, afterwards, outbox)
            if timers <= now:
                await self.timers.step()
            if afterwards <= now:
                await self.database.write(lambda records: follow_up.step(records, now, self.policy))
            await self.deliverer.now()
        raise RuntimeError(f"something is due at {now} that is never done")

    def _due(self, records: Records) -> tuple[int, int, int]:
        """When timers, following up and delivering have something to do again, as their loops ask it."""
        waking, visits = records.touchpoints.next_wake(), records.workshops.next_appointment_due()
        recalled = recalls.next_due(records, self.clock.now())
        afterwards = self.start if follow_up.due(records, self.clock.now()) else follow_up.next_due(records)
        outbox = records.outbox.next_due(self.channels)
        timers = min((at for at in (waking, visits, recalled) if at is not None), default=self.end)
        return timers, self.end if afterwards is None else afterwards, self.end if outbox is None else outbox

    async def _happen(self, now: int) -> None:
        together: list[Work] = []
        while self.events and self.events[0].at <= now:
            happening = heapq.heappop(self.events)
            if happening.alone:
                await self._write(together)
                await self._alone(happening.work)
            else:
                together.append(happening.work)
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
        except (ConflictError, SlotTakenError, InvalidError, NotFoundError) as error:
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
            Owner(
                id=person.id,
                name=person.id,
                email=f"{person.id}@example.com" if self.dice.random() < 0.4 else None,
                address="Hauptstrasse 1, Musterstadt" if self.dice.random() < 0.3 else None,
                language=language,
                time_zone=person.zone,
                created=now,
            )
        )
        quiet_from, quiet_to = person.quiet
        wanted = Preferences(
            quiet_from=quiet_from,
            quiet_to=quiet_to,
            weekly_budget=person.budget,
            marketing_budget=person.offers,
        )
        records.owners.prefer(person.id, wanted)
        for purpose in PURPOSES:
            granted = person.agreed[purpose]
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
        self._plan_day(person, datetime.fromtimestamp(self.start / 1000, ZoneInfo(person.zone)).date())
        for device, kind in person.products:
            self._plan_finding(device, kind)
        for work, every in (
            (self._changes_their_mind, 45),
            (self._prefers, 90),
            (self._moves, 200),
            (self._shares, 60),
            (self._passes_on, 60),
        ):
            self._again(work, person, every)
        self.judge.counts["owners whose clocks change"] += _clocks_change(person.zone, self.start, self.end)

    def _plan_day(self, person: Person, day: date) -> None:
        """The trips of one day; the first of them plans the next day."""
        for begins, ends in person.trips(day, self.dice) if person.car else ():
            if begins > self.clock.now():
                assert person.car is not None
                self.at(begins, self._trip(person, person.car, begins, moving=True))
                self.at(ends, self._trip(person, person.car, ends, moving=False))
        tomorrow = day + timedelta(days=1)
        self.at(person.local(day, 24 * 60 - 30), lambda records: self._plan_day(person, tomorrow))

    def _trip(self, person: Person, car: str, at: int, *, moving: bool) -> Work:
        def work(records: Records) -> None:
            before = self.at_wheel.get(car)
            if self.owners[car] is not person or (before is not None) == moving:
                return  # it was passed on, at a standstill
            driver = before or self.drivers.get(car, person)
            if moving:
                self.at_wheel[car] = driver
            else:
                del self.at_wheel[car]
            driver.wheels += 1 if moving else -1
            driver.driving = driver.wheels > 0
            self._know(car, at, moving=moving, moving_since=at)
            if not moving:
                self._put_facts(records)
                decide.device_parked(records, car, at, self.policy)

        return work

    def _know(self, device: str, at: int, **changes: Any) -> None:
        """What assess would say of a device from now on; written with the next work."""
        before = self.facts.get(device) or Facts(device=device)
        self.facts[device] = self.news[device] = replace(before, last_seen=at, **changes)

    def _put_facts(self, records: Records) -> None:
        if self.news:
            records.devices.put_facts([*self.news.values()])
            self.news.clear()

    def _again(self, work: Callable[[Records, Person], None], person: Person, days: float) -> None:
        """Something that a person does every so many days on average."""

        def happens(records: Records) -> None:
            self._again(work, person, days)
            work(records, person)

        self.at(self.clock.now() + int(self.dice.expovariate(1 / days) * DAY), happens, alone=True)

    def _changes_their_mind(self, records: Records, person: Person) -> None:
        """They withdraw a consent, or give it again."""
        purpose = self.dice.choice((*PURPOSES, SURVEY))
        granted = not person.agreed[purpose]
        by = agree.By(name=person.id, source="owner")
        agree.agree(records, person.id, purpose, granted, by, self.clock.now(), self.policy)
        person.agreed[purpose] = granted
        self.judge.counts["consents changed"] += 1

    def _prefers(self, records: Records, person: Person) -> None:
        """They want other quiet hours and another number of messages."""
        now = self.clock.now()
        quiet, budget = self.dice.choice(QUIET), self.dice.choice(BUDGETS)
        wanted = replace(
            records.owners.preferences(person.id),
            quiet_from=quiet[0],
            quiet_to=quiet[1],
            weekly_budget=budget,
        )
        by = agree.By(name=person.id, source="owner")
        agree.prefer(records, person.id, wanted, by, now, self.policy)
        person.allowed = [*person.allowed[-3:], (now, person.budget)]
        person.quiet, person.budget, person.changed_at = quiet, budget, now
        self.judge.counts["preferences changed"] += 1

    def _moves(self, records: Records, person: Person) -> None:
        """They live by another clock."""
        now, zone = self.clock.now(), self.dice.choice(ZONES)
        records.owners.update(replace(records.owners.get(person.id), time_zone=zone))
        outgoing.owner_moved(records, person.id, now)
        person.zone, person.changed_at = zone, now
        self.judge.counts["moved to another zone"] += 1

    # --- whose it is --------------------------------------------------------------------------

    def _shares(self, records: Records, person: Person) -> None:
        """Somebody else belongs to one of their products for a while, most often as who is asked."""
        now, dice = self.clock.now(), self.dice
        other = dice.choice(self.people)
        device = dice.choice([device for device, _ in person.products] or [""])
        lasts = int(dice.expovariate(1 / 30) * DAY)
        role, asked = dice.choice((Part.DRIVER, Part.MEMBER)), dice.random() < 0.6
        if not device or self._moves_now(device):
            return
        part = Housemate(
            device=device,
            owner=other.id,
            role=role,
            asked=asked,
            may_answer=True,
            sees=True,
            since=now,
            by=person.id,
        )
        households.join(records, part, now)
        self._told_anew(records, device)
        if asked and self.kinds[device] == "car":
            self.drivers[device] = self.judge.cars[device] = other
        self.judge.counts["shared" + (", another one is asked" if asked else "")] += 1
        self.at(now + lasts, lambda records: self._leaves(records, device, other), alone=True)

    def _moves_now(self, device: str) -> bool:
        return device in self.facts and self.facts[device].moving

    def _leaves(self, records: Records, device: str, other: Person) -> None:
        if self._moves_now(device):
            soon = self.clock.now() + HOUR
            self.at(soon, lambda records: self._leaves(records, device, other), alone=True)
            return
        if self.drivers.get(device) is other:
            self.judge.cars[device] = self.owners[device]
            del self.drivers[device]
        households.leave(records, device, other.id, self.clock.now(), by=other.id)
        self._told_anew(records, device)
        self.judge.counts["shared no more"] += 1

    def _told_anew(self, records: Records, device: str) -> None:
        """What nobody answered may be told again, to another one."""
        for touchpoint in records.touchpoints.page(device=device, states=(State.OPEN, State.DEFERRED)):
            self.judge.moved(touchpoint.id)

    def _passes_on(self, records: Records, person: Person) -> None:
        """A product gets another owner, at a standstill; who has a car already takes no other."""
        now, dice = self.clock.now(), self.dice
        other = dice.choice(self.people)
        device, kind = dice.choice(person.products or [("", "")])
        busy = kind == "car" and (self._moves_now(device) or other.car is not None)
        if not device or other is person or busy:
            return
        person.products.remove((device, kind))
        other.products.append((device, kind))
        self.owners[device] = other
        if kind == "car":
            person.car, other.car, self.judge.cars[device] = None, device, other
            self.drivers.pop(device, None)
        records.devices.transfer(device, other.id, now)
        decide.changed_hands(records, device, now, self.policy)
        recalls.taken_over(records, device, now, self.policy)
        outgoing.queue_device(records, records.devices.get(device), now)
        self.judge.counts["passed on"] += 1

    # --- recalls ------------------------------------------------------------------------------

    def _plan_recalls(self) -> None:
        when = self.start + int(self.dice.expovariate(1 / (RECALL_EVERY / 4)) * DAY)
        for number in range(1 + (self.end - self.start) // DAY // RECALL_EVERY):
            self.at(when, partial(self._recalls, number=number), alone=True)
            when += int(self.dice.expovariate(1 / RECALL_EVERY) * DAY)

    def _recalls(self, records: Records, number: int) -> None:
        """The manufacturer has to mend some products of a kind, of which most can be mended by a workshop."""
        now, dice = self.clock.now(), self.dice
        kind = dice.choice(("car", *KINDS))
        some = [device for device in sorted(self.kinds) if self.kinds[device] == kind]
        hit = tuple(device for device in some if dice.random() < RECALLED) or tuple(some[:1])
        services = sorted({info.service for info in self.by_kind[kind] if info.service})
        recall = Recall(
            id=f"campaign-{number}",
            kind=kind,
            title={"en": "A hose may come loose", "de": "Ein Schlauch kann sich lösen"},
            service=dice.choice(services) if services and dice.random() < 0.8 else None,
            severity="critical" if dice.random() < 0.1 else "warning",
            created=now,
            by="operator",
        )
        if hit:
            self.judge.open.update(derived_id("recall", recall.id, device) for device in hit)
            self.judge.counts["findings"] += recalls.begin(
                records, recall, Affected(devices=hit), now, self.policy
            )
            self.judge.counts["recalls"] += 1
            self.judge.counts["products recalled"] += len(hit)

    # --- findings -----------------------------------------------------------------------------

    def _plan_finding(self, device: str, kind: str) -> None:
        when = self.clock.now() + int(self.dice.expovariate(1 / FOUND_EVERY) * DAY) + TICK
        self.at(when // TICK * TICK, lambda records: self._found(records, device, kind))

    def _found(self, records: Records, device: str, kind: str) -> None:
        now, dice, person = self.clock.now(), self.dice, self.owners[device]
        info = dice.choice(self.by_kind[kind])
        if info.severity == "critical" and dice.random() < 0.7:
            info = dice.choice(self.by_kind[kind])
        self._plan_finding(device, kind)
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
        self.judge.open.add(finding.id)
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
            self.judge.open.discard(finding)
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

    async def received(self, channel: str, delivery: Delivery) -> None:
        """Something has left the gateway: judged, and perhaps answered."""
        if delivery.owner is None or channel in ("journal", "webhook"):
            return
        ring = await self.database.read(lambda records: self._ring(records, channel, delivery))
        if channel == "display":
            if delivery.payload.get("show") is not None and ring.matter is not None:
                rule = self.policy.rules.get(ring.matter.rule)
                self.judge.shows(ring, rule, ring.target in self.at_wheel)
        else:
            self.judge.rings(ring)
            self._may_be_off(ring, delivery)
        self._will_react(ring)

    def _ring(self, records: Records, channel: str, delivery: Delivery) -> Ring:
        """What was told, to whom; what it was about is read from the records."""
        assert delivery.owner is not None
        named, *more = delivery.key.split(":")
        about = more[0] if named == delivery.touchpoint else named
        owner, matter = self.by_id[delivery.owner], None
        purposes: tuple[str, ...] = ()
        findings: tuple[str, ...] = ()
        if delivery.touchpoint is not None:
            matter = records.touchpoints.get(delivery.touchpoint)
            told = [m for m in records.touchpoints.matters(matter.id) if m.cleared_at is None]
            purposes = (matter.purpose, *(m.purpose for m in told))
            findings = (matter.finding, *(m.finding for m in told))
        question = None
        if about == "question":
            asked = records.feedback.page(owner=owner.id, limit=10)
            question = next(
                (f.id for f in asked if f.state is AskState.ASKED and f.answered_at is None), None
            )
        return Ring(
            at=self.clock.now(),
            owner=owner,
            channel=channel,
            target=delivery.target,
            about=about,
            silent=bool(delivery.payload.get("message", {}).get("silent")),
            matter=matter,
            kind=self.kinds.get(matter.device, "") if matter else "",
            purposes=purposes,
            findings=findings,
            question=question,
            theirs=matter is None or households.part(records, matter.device, owner.id) is not None,
        )

    def _may_be_off(self, ring: Ring, delivery: Delivery) -> None:
        """One phone in ten is off, and rings when it is on again, if the push service has kept it for it."""
        subject = ring.matter.finding if ring.matter else ring.question
        dice = self._dice_of(str(subject), f"off/{ring.about}/{ring.at}")
        if ring.channel != "web_push" or dice.random() > 0.1:
            return
        on_again = ring.at + int(dice.expovariate(1 / 6) * HOUR)
        if on_again <= ring.at + delivery.payload["ttl_s"] * 1000:
            self.at(on_again, lambda _: self._is_on_again(ring, on_again))

    def _is_on_again(self, ring: Ring, at: int) -> None:
        if ring.owner.changed_at < ring.at:  # what was handed over goes by the clock and wishes of then
            self.judge.turned_on(replace(ring, at=at))

    def _will_react(self, ring: Ring) -> None:
        if ring.about == "question" and ring.question is not None:
            self._will_rate(ring.question)
        elif ring.matter is not None:
            self._will_answer(ring.matter, ring.at)

    def _dice_of(self, finding: str, what: str) -> random.Random:
        """Of its own for each matter: in which order things reach phones must not change who does what."""
        return random.Random(f"{self.seed}/{finding}/{what}")

    def _will_answer(self, matter: Touchpoint, at: int) -> None:
        dice = self._dice_of(matter.finding, f"when/{self.answers[matter.finding]}")
        if matter.id in self.answering or dice.random() < 0.25:
            return
        self.answering.add(matter.id)
        patience = self.by_id[matter.owner].patience_h
        when = at + int(dice.expovariate(1 / (patience + 0.1)) * HOUR)
        self.at(when, lambda records: self._answers(records, matter.id), alone=True)

    def _answers(self, records: Records, touchpoint: str) -> None:
        now = self.clock.now()
        self.answering.discard(touchpoint)
        matter = records.touchpoints.get(touchpoint)
        dice = self._dice_of(matter.finding, f"what/{self.answers[matter.finding]}")
        if matter.state not in respond.ANSWERABLE:
            return
        action = dice.choice(("not_now", "already_done", "noted", "snooze", "not_now", "call_me", "never"))
        if action == "never" and dice.random() < 0.7:
            action = "noted"
        until = now + dice.randrange(1, 9) * DAY if action in ("snooze", "not_now") else None
        slot = None
        if matter.kind == "appointment" and dice.random() < 0.6:
            slots = book.proposals(records, matter, now, self.policy)
            if slots:
                action, slot = "book", dice.choice(slots).id
        choice = Answer(action=action, channel="page", at=now, by=matter.owner, slot=slot, until=until)
        respond.answer(records, touchpoint, choice, now, self.policy)
        self.judge.counts[f"answered {action}"] += 1
        self.answers[matter.finding] += 1
        self.judge.moved(touchpoint)
        match action:
            case "book":
                self.judge.paid.add(touchpoint)  # what may follow is a reply, wherever they read of it first
                self._plan_visit(records, touchpoint, dice)
            case "snooze":
                self.judge.paid.add(touchpoint)
            case "never":
                self.by_id[matter.owner].silenced[matter.rule] = matter.severity
            case "call_me":
                self._plan_case(records, matter.owner, dice)

    def _plan_visit(self, records: Records, touchpoint: str, dice: random.Random) -> None:
        visit = records.workshops.appointments(touchpoint=touchpoint)[-1]
        if visit.state is AppointmentState.REQUESTED:
            soon = self.clock.now() + dice.randrange(1, 24) * HOUR
            self.at(soon, lambda records: self._workshop_answers(records, visit.id, dice), alone=True)
        self.at(visit.end, lambda records: self._visit(records, visit.id, dice), alone=True)

    def _workshop_answers(self, records: Records, appointment: str, dice: random.Random) -> None:
        now, lot = self.clock.now(), dice.random()
        self._moved(records, appointment)
        if lot < 0.8:
            book.confirm(records, appointment, now, self.policy)
        elif lot < 0.9:
            book.decline(records, appointment, now, self.policy)
            self.judge.counts["requests declined"] += 1
        else:
            book.cancel(records, appointment, now, self.policy, by="workshop")
            self.judge.counts["visits cancelled"] += 1

    def _moved(self, records: Records, appointment: str) -> None:
        """The workshop does something about a visit."""
        about = records.workshops.appointment(appointment).touchpoint
        if about is not None:
            self.judge.moved(about)

    def _visit(self, records: Records, appointment: str, dice: random.Random) -> None:
        now = self.clock.now()
        self._moved(records, appointment)
        if dice.random() < 0.06:
            book.no_show(records, appointment, now, self.policy)
            self.judge.counts["visits missed"] += 1
        else:
            about = records.workshops.appointment(appointment).touchpoint
            follow_up.done(records, appointment, {"note": "done"}, now, self.policy)
            self.judge.counts["visits done"] += 1
            for matter in records.touchpoints.matters(about) if about else ():
                if matter.purpose == RECALL_PURPOSE:  # mended: it need not be said any more
                    self.judge.open.discard(matter.finding)
                    self.judge.counts["recalls mended"] += 1

    # --- questions and cases ------------------------------------------------------------------

    def _will_rate(self, question: str) -> None:
        dice = self._dice_of(question, "rates")
        if dice.random() < 0.5:
            soon = self.clock.now() + int(dice.expovariate(1 / 8) * HOUR)
            self.at(soon, lambda records: self._rates(records, question, dice), alone=True)

    def _rates(self, records: Records, question: str, dice: random.Random) -> None:
        asked = records.feedback.get(question)
        lowest, highest = SCALES[asked.question]
        score = dice.choice((lowest, highest - 1, highest, highest))
        follow_up.rate(records, question, score, None, self.clock.now(), self.policy)
        self.judge.counts["questions answered"] += 1
        self._plan_case(records, asked.owner, dice)

    def _plan_case(self, records: Records, owner: str, dice: random.Random) -> None:
        """The operator looks after what an owner is waiting for."""
        for case in records.cases.page(owner=owner, states=(CaseState.OPEN,)):
            soon = self.clock.now() + dice.randrange(2, 72) * HOUR
            self.at(soon, self._closing(case.id), alone=True)

    def _closing(self, case: str) -> Work:
        def work(records: Records) -> None:
            said, now = "It has been looked after.", self.clock.now()
            cases.close_case(records, case, said, by="operator", now=now, policy=self.policy)
            self.judge.counts["cases closed"] += 1

        return work

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
        """Its own lines, with those of what it was told as, say how it ended, or what it waits for."""
        own = records.touchpoints.ledger(finding=finding.id)
        told_as = {t.id: t for t in records.touchpoints.page(finding=finding.id)}
        told_as |= {t.id: t for t in records.touchpoints.holding(finding.id)}
        newest = max(told_as.values(), key=lambda touchpoint: touchpoint.id, default=None)
        lines = [*own]
        for touchpoint in told_as:
            lines += [line for line in records.touchpoints.ledger(touchpoint=touchpoint) if line not in own]
        wanted = ENDS[newest.state if newest else None]
        ended = newest.closed_at if newest and newest.state in OVER else None
        if not any(line.code.startswith(wanted) and ended in (None, line.at) for line in lines):
            codes = [line.code for line in lines]
            state = newest.state if newest else "no touchpoint"
            self.judge.violation("not explained in the ledger", f"{finding.rule} {state} {codes}")
        self._worded(finding, own)
        self.judge.counts[f"findings: {newest.state if newest else 'no touchpoint of their own'}"] += 1
        self.judge.counts["findings looked at"] += 1

    def _worded(self, finding: Finding, lines: Sequence[LedgerLine]) -> None:
        for language in ("en", "de"):
            try:
                said = ledger_story(lines, self.texts, language, "Europe/Berlin", self.signals)
            except (KeyError, ValueError) as error:
                self.judge.violation("not worded", f"{language} {finding.rule}: {error!r}")
                continue
            for line, (_, sentence) in zip(lines, said, strict=False):
                if not sentence.strip() or "{" in sentence:
                    self.judge.violation("not worded", f"{language} {line.code}: {sentence!r}")


def _clocks_change(zone: str, start: int, end: int) -> bool:
    """Whether the clocks of a zone are put forward or back in the span."""
    days = (datetime.fromtimestamp(at / 1000, ZoneInfo(zone)) for at in range(start, end, DAY))
    return len({day.utcoffset() for day in days}) > 1


# --- the command ------------------------------------------------------------------------------


@dataclass
class Result:
    """What the judge of a town counted, or of all."""

    counts: Counter[str] = field(default_factory=Counter)
    violations: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, other: Result) -> None:
        self.counts.update(other.counts)
        self.violations.update(other.violations)
        self.examples = other.examples | self.examples


@dataclass(frozen=True)
class Town:
    """What one process plays."""

    numbers: range
    days: int
    seed: int
    folder: Path | None
    """where the database is kept; None: in one that goes"""
    quietly: bool = False


def main(arguments: list[str]) -> int:
    """See the module's words."""
    parser = argparse.ArgumentParser(description="Whether the promises to owners hold, in played time.")
    parser.add_argument("--owners", type=int, default=2_000)
    parser.add_argument("--days", type=int, default=180)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="towns that are played at the same time")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--folder", type=Path, help="where databases are kept; by default they go")
    chosen = parser.parse_args(arguments)
    began = time.monotonic()
    result = Result()
    for part in _all(list(towns(chosen)), chosen.jobs):
        result.add(part)
    return report(result, time.monotonic() - began, chosen)


def towns(chosen: argparse.Namespace) -> Iterator[Town]:
    """Who lives with whom."""
    for first in range(0, chosen.owners, TOWN):
        numbers = range(first, min(first + TOWN, chosen.owners))
        folder = chosen.folder / f"town-{first // TOWN}" if chosen.folder else None
        yield Town(numbers, chosen.days, chosen.seed, folder, chosen.json)


def _all(towns: Sequence[Town], jobs: int) -> Iterator[Result]:
    if min(jobs, len(towns)) <= 1:
        yield from map(play, towns)
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(play, towns)


@contextlib.contextmanager
def _only_errors() -> Iterator[None]:
    """What the gateway logs meanwhile, less what is no error."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    try:
        yield
    finally:
        structlog.configure(**before)


def play(town: Town) -> Result:
    """One town, from the first day to the last."""
    with _only_errors(), tempfile.TemporaryDirectory() as scratch:
        folder = town.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        with patch.object(ids, "uuid_utils", _numbered(f"{town.seed}/{town.numbers[0]}")):
            judge = asyncio.run(_played(town, folder))
    return Result(judge.counts, judge.violations, judge.examples)


async def _played(town: Town, folder: Path) -> Judge:
    began = time.monotonic()
    start = int(datetime.fromisoformat("2026-11-22T12:00:00+00:00").timestamp() * 1000)
    play = Play(folder, numbers=town.numbers, days=town.days, seed=town.seed, start=start)

    def progress(line: str) -> None:
        if not town.quietly:
            said = f"  from owner {town.numbers[0]}: {line}, {time.monotonic() - began:.0f} s"
            print(said, file=sys.stderr, flush=True)

    try:
        await play.run(progress)
        await play.judge_ledger()
    finally:
        await play.database.close()
    return play.judge


def report(result: Result, took: float, chosen: argparse.Namespace) -> int:
    """Print what was counted; 1 when anything is a violation."""
    violations = {what: result.violations[what] for what in VIOLATIONS}
    if chosen.json:
        asked = {"owners": chosen.owners, "days": chosen.days, "seed": chosen.seed}
        told = {"counts": result.counts, "violations": violations, "examples": result.examples}
        print(json.dumps(asked | told, sort_keys=True))
        return int(any(violations.values()))
    print(f"{chosen.owners} owners, {chosen.days} days, seed {chosen.seed}: {took:.0f} s")
    for what, number in sorted(result.counts.items()):
        print(f"  {number:>9,}  {what}")
    print("violations")
    for what, number in violations.items():
        print(f"  {number:>9,}  {what}{'   e.g. ' + result.examples[what] if number else ''}")
    return int(any(violations.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
