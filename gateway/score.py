"""touchpoint sim score: a scenario through the gateway's own rules, decisions, deliveries and bookings.

Everything between the journal and the owner's phone is what runs in production; played are the clock, what
arrives, and the people. It goes in steps: what the devices sent within a step is one batch of the journal,
then the clock moves, everything that falls due happens, and people act.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import gc
import json
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import uvloop

from config import settings as configuration
from device_sim.fleet import Fleet
from device_sim.people import OPERATOR, People
from device_sim.scenario import Scenario
from device_sim.scoring import Contact, Found, Score, scored
from device_sim.scoring_report import as_picture, as_text
from gateway.adapters.clock import VirtualClock
from gateway.app import UNPLAYED, Gateway, ended, opened, serving
from gateway.demo import seed_records
from gateway.domain.access import Role, issue_token
from gateway.domain.delivery import Delivery, Outcome, Sent
from gateway.domain.errors import CannotStartError
from gateway.domain.messages import Message
from gateway.domain.owner import PushSubscription
from gateway.parts import GC_THRESHOLDS, set_up_logging
from gateway.ports import Records
from gateway.sources import rule_texts, signal_texts
from rules import check

PROGRESS_S = 10.0
QUIET = ("record", "receive", "broker", "display", "mail", "busy", "directory", "rules")
"""Workers that a score does without (nothing reads the recorded readings), or that follow by themselves."""
FACTS_EVERY_MS = 43_200_000


class Phones:
    """The channel web_push: every owner's phone, which hands on what it shows."""

    name = "web_push"

    def __init__(self, show: Callable[[str, Mapping[str, Any]], None]) -> None:
        self._show = show

    async def send(self, delivery: Delivery) -> Outcome:
        """Shown at once."""
        self._show(str(delivery.owner), delivery.payload["message"])
        return Sent(detail="shown")

    async def close(self) -> None:
        """Nothing is open."""


class Nowhere:
    """Any other channel that leaves the house: nobody looks at it, so that what is scored is the phone."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def send(self, delivery: Delivery) -> Outcome:
        """Gone without a trace."""
        return Sent(detail="nobody looks")

    async def close(self) -> None:
        """Nothing is open."""


class Conductor:
    """Plays one scenario against one gateway."""

    def __init__(
        self, gateway: Gateway, clock: VirtualClock, scenario: Scenario, seed: int, step_ms: int
    ) -> None:
        self._gateway, self._clock, self._scenario, self._step = gateway, clock, scenario, step_ms
        self._fleet, self._seed = Fleet(scenario, seed), seed
        self._people: People | None = None
        self.stopped = asyncio.Event()
        """set when it is not to be played to its end"""
        self.contacts: list[Contact] = []
        self.messages = 0

    async def cast(self) -> None:
        """Register everybody, each with a phone."""
        now = self._clock.now()
        tokens = await self._gateway.database.write(lambda r: seed_records(r, self._scenario, now))
        token, secret = issue_token(
            Role.OPERATOR, None, ttl_ms=3_650 * 86_400_000, now=now, random=secrets.token_bytes
        )
        await self._gateway.database.write(lambda r: r.tokens.add(token))
        await self._gateway.database.write(lambda r: phones(r, self._scenario, now))
        await self._gateway.directory.load(self._gateway.database)
        await self._gateway.announce()
        self._people = People(
            self._scenario,
            seed=self._seed,
            fleet=self._fleet,
            base_url=self._gateway.url,
            tokens={**tokens, OPERATOR: secret},
        )

    def show(self, owner: str, message: Mapping[str, Any]) -> None:
        """Something is on somebody's phone."""
        now = self._clock.now()
        if message.get("about") == "offer":
            self.contacts.append(Contact(owner=owner, touchpoint=str(message.get("touchpoint")), at=now))
        if self._people is not None:
            self._people.on_push(owner, message, now)

    async def play(self, told: Callable[[int, int], None]) -> None:
        """To the scenario's end."""
        assert self._people is not None
        sources = self._people.sources()
        for message in self._fleet.history():
            await self._take([(message.topic, message.payload)], self._clock.now())
        while self._clock.now() < self._scenario.end and not self.stopped.is_set():
            until = min(self._clock.now() + self._step, self._scenario.end)
            sent = self._sent_until(until)
            self._clock.advance(until)
            await self._take(sent, until)
            for source in sources:
                while (at := source.next_at()) is not None and at <= until:
                    await source.play(at)
            await self._clock.settled()
            told(until, self.messages)

    def _sent_until(self, until: int) -> list[Message]:
        sent: list[Message] = []
        while self._fleet.next_at() <= until:
            sent += [(message.topic, message.payload) for message in self._fleet.play()]
        return sent

    async def _take(self, messages: Sequence[Message], received: int) -> None:
        if messages:
            await self._gateway.journal.append(messages, received)
            self.messages += len(messages)
        await self._clock.settled()
        await self._gateway.journal.commit("record", self._gateway.journal.head())

    @property
    def days(self) -> float:
        """How far it was played."""
        return round((self._clock.now() - self._scenario.start) / 86_400_000, 1)

    async def result(self) -> Score:
        """What came of it."""
        findings, services = await self._gateway.database.read(self._findings)
        needs = [need for unit in self._fleet.units.values() for need in unit.needs.all]
        return scored(
            self._scenario,
            needs=needs,
            findings=findings,
            contacts=[dataclasses.replace(c, matters=services.get(c.touchpoint, ())) for c in self.contacts],
            until=self._clock.now(),
        )

    def _findings(self, records: Records) -> tuple[list[Found], dict[str, tuple[tuple[str, str, str], ...]]]:
        """All findings that were no trial, and of every touchpoint its matters as (device, rule, service)."""
        rules = self._gateway.policy.rules
        found: list[Found] = []
        for device in self._scenario.part.devices:
            for finding in records.touchpoints.findings(device=device.id, limit=10_000):
                rule = rules.get(finding.rule)
                if rule is None or rule.shadow:
                    continue
                found.append(
                    Found(
                        device=device.id,
                        owner=device.owner,
                        rule=rule.id,
                        service=rule.service or "",
                        kind=rule.touchpoint_kind,
                        purpose=rule.purpose,
                        at=finding.found_at,
                    )
                )
        matters: dict[str, tuple[tuple[str, str, str], ...]] = {}
        for contact in self.contacts:
            if contact.touchpoint not in matters:
                about = records.touchpoints.get(contact.touchpoint)
                held = records.touchpoints.matters(contact.touchpoint)
                matters[contact.touchpoint] = tuple(
                    (about.device, matter.rule, matter.service or "") for matter in held
                ) or ((about.device, about.rule, about.service or ""),)
        return found, matters

    async def close(self) -> None:
        """End the people's connections."""
        if self._people is not None:
            await self._people.close()


def phones(records: Records, scenario: Scenario, now: int) -> None:
    """A phone for every owner."""
    for number, owner in enumerate(scenario.owners):
        records.owners.subscribe(
            PushSubscription(
                id=f"phone-{number}",
                owner=owner["id"],
                endpoint=f"https://push.example/{number}",
                p256dh="",
                auth="",
                label="phone (played)",
                created=now,
            )
        )


# --- running ------------------------------------------------------------------------------------------


def score_settings(folder: Path, rules: Sequence[str], signals: Sequence[str]) -> configuration.Settings:
    """Everything in one folder; no broker is asked for, since what arrives is put into the journal."""
    forced = {
        "TOUCHPOINT_DATA_DIR": str(folder),
        "TOUCHPOINT_MQTT__URL": "mqtt://127.0.0.1:1",
        "TOUCHPOINT_TIMESERIES__KIND": "embedded",
        "TOUCHPOINT_JOURNAL__MAX_BYTES": str(2**28),
        "TOUCHPOINT_WEB__PORT": "0",
        "TOUCHPOINT_LOG__LEVEL": os.environ.get("TOUCHPOINT_LOG__LEVEL", "error"),
        "TOUCHPOINT_RULES__PATHS": json.dumps([*rules]),
        "TOUCHPOINT_SIGNALS__PATHS": json.dumps([*signals]),
    }
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TOUCHPOINT_")}
    return configuration.load(None, kept | forced)


@contextlib.asynccontextmanager
async def conducting(
    settings: configuration.Settings, scenario: Scenario, seed: int, step_ms: int
) -> AsyncIterator[Conductor]:
    """A gateway on a played clock, its API served on loopback, with everybody registered."""
    clock = VirtualClock(scenario.start)
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(opened(settings, clock=clock))
        gateway.facts_every_ms = FACTS_EVERY_MS
        conductor = Conductor(gateway, clock, scenario, seed, step_ms)
        stack.push_async_callback(conductor.close)
        for name in gateway.channels:
            if name != "journal":
                gateway.channels[name] = Nowhere(name)
        gateway.channels["web_push"] = Phones(conductor.show)
        await stack.enter_async_context(serving(gateway, gateway.context()))
        tasks = []
        for name, work in gateway.workers():
            if name not in QUIET or name in ("directory", "rules"):
                tasks.append(asyncio.create_task(gateway._keep(name, work), name=name))
                if name not in UNPLAYED:
                    clock.register(tasks[-1])
        try:
            await conductor.cast()
            yield conductor
        finally:
            await ended(tasks)


async def play(
    settings: configuration.Settings, scenario: Scenario, seed: int, step_ms: int, label: str
) -> tuple[Score, dict[str, Any]]:
    """One rule set over one scenario; the score, and how it was taken. SIGINT and SIGTERM end it early, with
    the score so far."""
    began = told = time.monotonic()

    def tell(at: int, messages: int) -> None:
        nonlocal told
        if time.monotonic() - told >= PROGRESS_S:
            told = time.monotonic()
            done = (at - scenario.start) / (scenario.end - scenario.start)
            print(
                f"{label}: {scenario.local(at):%a %d %b %Y}, {done:.0%}, {messages} messages", file=sys.stderr
            )

    async with conducting(settings, scenario, seed, step_ms) as conductor:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)  # a sixth of the time, for what holds hardly any cycles
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, conductor.stopped.set)
        await conductor.play(tell)
        result = await conductor.result()
        how = {
            "messages": conductor.messages,
            "days": conductor.days,
            "seconds": round(time.monotonic() - began, 1),
        }
    return result, how


def check_rules(paths: Sequence[str], settings: configuration.Settings) -> None:
    """Raises CannotStartError for rules that have faults."""
    from gateway.sources import load_signals

    catalogue = load_signals(signal_texts(settings.signals.paths))
    faults = check(rule_texts([*paths]), catalogue)
    if faults:
        raise CannotStartError("\n".join(map(str, faults)))


def run(arguments: argparse.Namespace) -> int:
    """0 when it was scored; 2 (raised) when it cannot be."""
    scenario = Scenario.load(arguments.scenario).peopled(arguments.seed)
    sets = {"rules": [str(path) for path in arguments.paths] or ["@default"]}
    if arguments.against is not None:
        sets["against"] = [str(arguments.against)]
    signals = ["@default", *map(str, arguments.signals)]
    scores: dict[str, Score] = {}
    how: dict[str, Any] = {}
    for label, paths in sets.items():
        with tempfile.TemporaryDirectory(prefix="touchpoint-score-") as folder:
            settings = score_settings(Path(folder), paths, signals)
            set_up_logging(settings)
            check_rules(paths, settings)
            step = round(arguments.step * 1000)
            scores[label], how[label] = uvloop.run(play(settings, scenario, arguments.seed, step, label))
    meta = {"scenario": scenario.name, "seed": arguments.seed, "devices": len(scenario.devices), "how": how}
    if arguments.picture is not None:
        arguments.picture.write_text(as_picture(scores, meta), encoding="utf-8")
    if arguments.json:
        print(json.dumps({**meta, "scores": {k: score.plain() for k, score in scores.items()}}))
    else:
        print(as_text(scores, meta))
    return 0
