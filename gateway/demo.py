"""demo: the whole product on one machine, on a played clock.

The clock advances only after every reader and every due timer has caught up with what devices,
owners and workshops did at the present moment; so a seed gives the same story at any speed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import random
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from config import settings as configuration
from device_sim.mqtt import Broker, Devices
from device_sim.people import People
from device_sim.player import Player
from device_sim.push import PushService
from device_sim.scenario import Scenario
from device_sim.visitor import ACTS
from gateway import demo_rollout
from gateway.adapters.clock import VirtualClock
from gateway.app import Gateway, ended, opened, running, undisturbed, until_stopped
from gateway.domain.access import Role, issue_token
from gateway.domain.appointment import Appointment, AppointmentState, Workshop
from gateway.domain.device import Device
from gateway.domain.errors import CannotStartError, InvalidError
from gateway.domain.ids import derived_id
from gateway.domain.owner import Consent, Owner, Preferences, PushSubscription
from gateway.domain.times import rfc3339
from gateway.flow import outgoing
from gateway.parts import set_up_logging
from gateway.ports import Records
from gateway.story import STEPS, Story

SCENARIO = "first-story"
HERO = {
    "owner": "jana-keller",
    "car": "car-keller",
    "appliance": "washer-keller",
    "workshop": "autohaus-nord",
}
HERO_RULE = "brake-pads-front-worn"
STORY_PACE = 14_000.0
"""Scenario seconds a second until the first touchpoint: from Sunday 16:00 to Monday 7:34 in about four."""
WAITING_PACE = 60.0
LINGER_S = 12.0
"""Seconds for which the story goes slowly after a step that the visitor wants to look at."""
FACTS_EVERY_MS = 300_000
"""Of story time: often enough for pages that show minutes."""
LOOK_EVERY_S = 0.001
INTERRUPTED = 130
"""Exit status of a headless story that was not told to its end; ending a live one is no fault."""
FRAME_S = 0.03
LONGEST_FRAME_S = 0.25

WELCOME = """
  Touchpoint demo:  {url}

  Everything runs on this machine: broker, stores, devices and people, on a played clock.
  The broker and the stores are the embedded ones, for trying things out. Ctrl-C ends all of it.
"""


class CountingDevices(Devices):
    """Devices that count what they published and what their displays got."""

    published = 0
    displayed = 0

    async def publish(self, device: str, topic: str, payload: bytes) -> None:
        await super().publish(device, topic, payload)
        self.published += 1

    def _display(self, device: str, touchpoint: str, payload: bytes) -> None:
        self.displayed += 1
        super()._display(device, touchpoint, payload)


class Director:
    """Lets the scenario happen to a running gateway. What the pages know of the demo comes from here."""

    def __init__(
        self,
        gateway: Gateway,
        clock: VirtualClock,
        scenario: Scenario,
        *,
        seed: int,
        speed: float,
        devices: CountingDevices,
        push: PushService,
    ) -> None:
        self._gateway, self._clock, self._scenario, self._speed = gateway, clock, scenario, speed
        self._devices, self._push = devices, push
        self._player = Player(scenario, seed, devices.publish)
        self._story = Story(gateway.database)
        self._pace: str = "story"
        self._linger_until = 0.0
        self._skipped: set[str] = set()
        self._guided = True
        self._happened: Mapping[str, Any] | None = None
        self._pushes: list[dict[str, Any]] = []
        self._changed = asyncio.Event()
        self.people: People | None = None

    # --- the cast -----------------------------------------------------------------------------

    async def cast(self, *, live: bool, seed: int) -> None:
        """Register everybody, let them subscribe to pushes, and play what lies before the story."""
        now = self._clock.now()
        tokens = await self._gateway.database.write(lambda r: seed_records(r, self._scenario, now))
        await self._gateway.announce()
        self.people = People(
            self._scenario,
            seed=seed,
            base_url=self._gateway.url,
            tokens=tokens,
            fleet=self._player.fleet,
            devices=self._devices,
            live=live,
        )
        for source in self.people.sources():
            self._player.add(source)
        for owner in self._scenario.owners:
            await self._subscribe(owner["id"])
        await self._player.play_history()
        await self.settle()

    async def _subscribe(self, owner: str) -> None:
        browser = self._push.subscribe(owner)
        subscription = PushSubscription(
            id=browser.id,
            owner=owner,
            endpoint=browser.endpoint,
            p256dh=browser.p256dh,
            auth=browser.auth,
            label="loopback push (demo)",
            created=self._clock.now(),
        )
        await self._gateway.database.write(lambda r: r.owners.subscribe(subscription))

    def on_push(self, subscription: str, message: Mapping[str, Any]) -> None:
        """A push has reached somebody's phone."""
        owner = self._push.owner(subscription)
        self._pushes.append({"at": self._clock.now(), "owner": owner, **message})
        del self._pushes[:-50]
        if self.people is not None:
            self.people.on_push(owner, message, self._clock.now())
        self._changed.set()

    # --- time ---------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Return when everything that happened so far has gone the whole way."""
        while True:
            while not self._arrived():  # noqa: ASYNC110  # the broker is another process
                await asyncio.sleep(LOOK_EVERY_S)
            await self._clock.settled()
            if self._arrived():
                return

    def _arrived(self) -> bool:
        """Whether the broker has passed on what devices sent, and what was sent to their displays (which
        ingest hears, too)."""
        counters = self._gateway.counters
        shown = counters.deliveries.get(("display", "sent"), 0)
        return self._devices.displayed >= shown and counters.journaled >= self._devices.published + shown

    def _next(self) -> int | None:
        return min(
            (at for at in (self._player.next_at(), self._clock.next_due()) if at is not None), default=None
        )

    async def advance(self, to: int) -> None:
        """Play up to `to` (ms), one moment after the other."""
        while True:
            at = self._next()
            if at is None or at > to:
                break
            await self._moment(at)
            if self._waiting_pace_began():
                return
        self._clock.advance(to)
        await self.settle()
        await self._story.follow()

    async def _moment(self, at: int) -> None:
        self._clock.advance(at)
        await self.settle()
        await self._player.play_until(self._clock.now())
        await self.settle()
        await self._story.follow()

    # --- headless -----------------------------------------------------------------------------

    async def headless(self, until: int) -> None:
        """Play to `until` (ms), a JSON line for every step of every touchpoint, then a summary."""
        while (at := self._next()) is not None and at <= until:
            await self._moment(at)
            self._tell()
        self._clock.advance(until)
        await self.settle()
        await self._story.follow()
        self._tell()
        counts = self._story.counts()
        counters = self._gateway.counters
        summary = {
            "type": "summary",
            "at": rfc3339(until),
            **counts,
            "messages": counters.journaled,
            "findings": sum(counters.findings.values()),
        }
        print(json.dumps(summary), flush=True)

    def _tell(self) -> None:
        for line in self._story.take():
            print(json.dumps(line), flush=True)

    # --- live ---------------------------------------------------------------------------------

    def end(self, seconds: float | None) -> int:
        """The scenario time (ms) after so many seconds at the set speed; the scenario's end for None."""
        return (
            self._scenario.end if seconds is None else self._clock.now() + round(seconds * 1000 * self._speed)
        )

    async def live(self, until: int) -> None:
        """Play in real time, at the pace that the visitor or the story sets, to `until` (ms); then stand."""
        last, shown = time.monotonic(), 0.0
        while True:
            await asyncio.sleep(FRAME_S)
            now = time.monotonic()
            elapsed, last = min(now - last, LONGEST_FRAME_S), now
            pace = self.pace()
            if pace:
                await self.advance(min(until, self._clock.now() + round(elapsed * 1000 * pace)))
            if now - shown >= 0.5:
                shown = now
                self._changed.set()

    def pace(self) -> float:
        """Scenario seconds a second, now."""
        if self._pace == "pause":
            return 0.0
        if self._pace != "story":
            return float(self._pace)
        if not self._guided:
            return self._speed
        if self.waiting() or time.monotonic() < self._linger_until:
            return WAITING_PACE
        return STORY_PACE if self._hero()["moment"] is None else self._speed

    def waiting(self) -> str | None:
        """What the story waits for: "answer" or "feedback" of the visitor, else None."""
        if not self._guided:
            return None
        hero = self._hero()
        step = None
        if hero["moment"] is not None and hero["answer"] is None:
            step = "answer"
        elif hero["asked"] is not None and hero["asked"] <= self._clock.now() and hero["feedback"] is None:
            step = "feedback"
        return None if step in self._skipped else step

    def _hero(self) -> Mapping[str, int | None]:
        return self._story.steps(HERO["car"], HERO_RULE)

    def _waiting_pace_began(self) -> bool:
        """Whether the moment just played is one to slow down at."""
        if self._pace != "story" or not self._guided:
            return False
        hero = self._hero()
        for step in ("finding", "booked", "done"):
            if hero[step] is not None and f"linger {step}" not in self._skipped:
                self._skipped.add(f"linger {step}")
                self._linger_until = time.monotonic() + (LINGER_S if step != "finding" else 1.0)
                return True
        return self.waiting() is not None

    # --- what the pages see (gateway.web.context.Demo) ------------------------------------------

    def state(self) -> Mapping[str, Any]:
        """See gateway.web.context.Demo.state."""
        hero = self._hero()
        reached = [step for step in STEPS if hero[step] is not None]
        return {
            "now": self._clock.now(),
            "speed": self.pace(),
            "mode": {"pause": "paused", "story": "story"}.get(self._pace, "fixed"),
            "pace": self._pace,
            "waiting": self.waiting(),
            "guided": self._guided,
            "happened": self._happened,
            "acts": list(ACTS),
            "steps": [
                {
                    "key": step,
                    "at": hero[step],
                    "done": hero[step] is not None,
                    "now": bool(reached) and step == reached[-1],
                }
                for step in STEPS
            ],
            "cast": HERO,
            "pushes": list(self._pushes),
        }

    def set_pace(self, pace: str) -> None:
        """ "pause", "story", or scenario seconds a second; InvalidError for anything else."""
        if pace not in ("pause", "story"):
            try:
                if not 0 < float(pace) <= 100_000:
                    raise ValueError
            except ValueError:
                raise InvalidError('pace: "pause", "story" or a number up to 100000') from None
        self._pace = pace
        self._changed.set()

    async def act(self, action: str) -> None:
        """See gateway.web.context.Demo.act; InvalidError for what is none of these."""
        if action in ACTS:
            self._make_happen(action)
        elif action in ("skip", "guide"):
            self._guide(action == "guide")
        elif action == "next":
            self._go_on()
        else:
            known = ", ".join(("next", "skip", "guide", *ACTS))
            raise InvalidError(f"action: {action!r} is unknown; there are {known}")
        self._changed.set()

    def _make_happen(self, action: str) -> None:
        """It happens in the next second of the story, which then goes slowly enough to be followed."""
        whose, happens = ACTS[action]
        happens(self._player.fleet, HERO[whose], self._clock.now() + 1000)
        self._happened = {"what": action, "at": self._clock.now()}
        self._pace = f"{WAITING_PACE:.0f}"

    def _guide(self, guided: bool) -> None:
        self._guided, self._linger_until = guided, 0.0
        self._pace = "story" if guided else f"{WAITING_PACE:.0f}"

    def _go_on(self) -> None:
        waiting = self.waiting()
        if waiting is not None:
            self._skipped.add(waiting)
            if self.people is not None:
                self.people.take_over(HERO["owner"], self._clock.now())
        self._linger_until = 0.0
        self._pace = "story"

    async def roll_out(self, folder: Path, seed: int) -> None:
        """Once the visitor's matter has come, so that nothing stands in its way: machines update."""
        while self._hero()["moment"] is None:  # noqa: ASYNC110  # the story is played in frames
            await asyncio.sleep(LONGEST_FRAME_S)
        await demo_rollout.shown(folder, self._gateway.url, self._clock.now(), random.Random(seed))

    async def close(self) -> None:
        """End the people's connections."""
        if self.people is not None:
            await self.people.close()

    async def wait_changed(self) -> None:
        """See gateway.web.context.Demo.wait_changed."""
        self._changed.clear()
        await self._changed.wait()


# --- seeding ----------------------------------------------------------------------------------


def seed_records(records: Records, scenario: Scenario, now: int) -> dict[str, str]:
    """Write the cast into the records; gives a bearer token for each owner and workshop, by id."""
    for workshop in scenario.workshops:
        records.workshops.add(workshop_from(workshop, now))
    for number, entry in enumerate(scenario.appointments):
        records.workshops.book(
            Appointment(
                id=derived_id("entry", number),
                service=entry["service"],
                state=AppointmentState.CONFIRMED,
                created=now,
                **{key: entry[key] for key in ("workshop", "bay", "start", "end", "label")},
            )
        )
    for owner in scenario.owners:
        records.owners.add(Owner(**owner, created=now))
    for consent in scenario.consents:
        records.owners.consent(Consent(**consent, at=now, source="demo"))
    for wishes in scenario.preferences:
        stated: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in wishes.items()}
        records.owners.prefer(stated.pop("owner"), Preferences(**stated))
    for device in scenario.devices:
        registered = Device(**device, created=scenario.history_start)
        records.devices.add(registered)
        outgoing.queue_device(records, registered, now)
    people = [(Role.OWNER, o["id"]) for o in scenario.owners] + [
        (Role.WORKSHOP, w["id"]) for w in scenario.workshops
    ]
    return {subject: _token(records, role, subject, now) for role, subject in people}


def _token(records: Records, role: Role, subject: str, now: int) -> str:
    token, secret = issue_token(role, subject, ttl_ms=400 * 86_400_000, now=now, random=secrets.token_bytes)
    records.tokens.add(token)
    return secret


def workshop_from(plain: Mapping[str, Any], now: int) -> Workshop:
    """A workshop of the scenario as the records keep it."""
    return msgspec.convert({**plain, "created": now}, Workshop)


# --- the command ------------------------------------------------------------------------------


def free_port(host: str, preferred: int) -> int:
    """`preferred` when it is free, else another."""
    for port in (preferred, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    return 0


def demo_port(wanted: int | None) -> int:
    """The port that was asked for, else 8080 or a free one. Raises CannotStartError when it is taken."""
    port = free_port("127.0.0.1", wanted or 8080)
    if wanted and port != wanted:
        raise CannotStartError(
            f"127.0.0.1:{wanted} is taken by another program: end it, or choose another port with --port"
        )
    return port


def demo_settings(arguments: argparse.Namespace, folder: Path) -> configuration.Settings:
    """The settings with everything on this machine, in a folder of its own."""
    port = 0 if arguments.headless else demo_port(arguments.port)
    forced = {
        "TOUCHPOINT_DATA_DIR": str(folder),
        "TOUCHPOINT_MQTT__URL": "embedded:",
        "TOUCHPOINT_TIMESERIES__KIND": "embedded",
        "TOUCHPOINT_JOURNAL__BATCH_DELAY_MS": "0",
        "TOUCHPOINT_WEB__PORT": str(port),
        "TOUCHPOINT_DELIVER__WEB_PUSH__LOOPBACK": "true",
        "TOUCHPOINT_LOG__LEVEL": os.environ.get("TOUCHPOINT_LOG__LEVEL", "error"),
    }
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith("TOUCHPOINT_") or k.startswith("TOUCHPOINT_LOG")
    }
    return configuration.load(None, kept | forced)


@contextlib.contextmanager
def demo_folder(base: str | None) -> Iterator[Path]:
    """A new folder for one story, gone afterwards."""
    if base:
        Path(base).mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="touchpoint-demo-", dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def directed(
    settings: configuration.Settings, arguments: argparse.Namespace
) -> AsyncIterator[Director]:
    """A gateway, its devices and people, ready at the beginning of the story."""
    scenario = Scenario.load(SCENARIO)
    clock = VirtualClock(scenario.start)
    async with contextlib.AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(opened(settings, clock=clock))
        gateway.facts_every_ms = FACTS_EVERY_MS
        broker = Broker.parse(
            gateway.broker.url, username=gateway.broker.username, password=gateway.broker.password
        )
        devices = CountingDevices(broker, [device["id"] for device in scenario.devices])
        push = PushService()
        director = Director(
            gateway, clock, scenario, seed=arguments.seed, speed=arguments.speed, devices=devices, push=push
        )
        push.on_push = director.on_push
        await stack.enter_async_context(push)
        await stack.enter_async_context(
            running(gateway, None if arguments.headless else director, "loopback")
        )
        await gateway.connected()
        await stack.enter_async_context(devices)
        if not arguments.headless:
            print(WELCOME.format(url=gateway.url), flush=True)
        stack.push_async_callback(director.close)
        await director.cast(live=not arguments.headless, seed=arguments.seed)
        gc.collect()
        gc.freeze()
        if not arguments.headless:
            await stack.enter_async_context(
                beside(director.roll_out(settings.data_dir / "firmware", arguments.seed))
            )
        yield director


@contextlib.asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """`work` runs until the end of the block; what becomes of it stops nothing."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        await ended([task])


async def play(settings: configuration.Settings, arguments: argparse.Namespace) -> None:
    """Headless to its end, or live until Ctrl-C."""
    async with directed(settings, arguments) as director:
        end = director.end(arguments.until)
        await (director.headless(end) if arguments.headless else director.live(end))


async def play_until_stopped(settings: configuration.Settings, arguments: argparse.Namespace) -> int:
    """Play; end in order at Ctrl-C and SIGTERM, at whatever moment they come. Gives the exit status."""
    playing = asyncio.create_task(play(settings, arguments), name="story")
    stopped = asyncio.create_task(until_stopped(), name="stop")
    await asyncio.wait((playing, stopped), return_when=asyncio.FIRST_COMPLETED)
    interrupted = not playing.done()
    await ended([playing, stopped])
    for task in (playing, stopped):
        if not task.cancelled() and (broke := task.exception()) is not None:
            raise broke
    return INTERRUPTED if interrupted and arguments.headless else 0


def demo_command(arguments: argparse.Namespace) -> int:
    """touchpoint demo."""
    with contextlib.ExitStack() as stack:
        with undisturbed():
            folder = stack.enter_context(demo_folder(os.environ.get("TOUCHPOINT_DATA_DIR")))
            settings = demo_settings(arguments, folder)
            set_up_logging(settings)
        return uvloop.run(play_until_stopped(settings, arguments))
