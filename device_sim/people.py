"""Owners who answer and workshops who work: the people of a scenario, as sources of the player.

Owners learn of a touchpoint by a push or by looking at their product's display after they used it, think
about it for a seeded while, and answer over the gateway's API or on the display. Workshops look into their
calendar, do the jobs that end, and say so; a job changes the device's physics.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any, Protocol, TypeAlias

from device_sim.api import Api, ApiError, HttpApi
from device_sim.fleet import PREFIX, Fleet, Message, WasherUnit, payload
from device_sim.player import Source
from device_sim.scenario import WEEKDAYS, OwnerPart, Scenario, WorkshopPart

MINUTE, HOUR = 60_000, 3_600_000
GLANCE_MS = 5 * MINUTE
"""How long after a trip or a wash somebody looks at the display: what waits for parking has come by then."""
AGAIN_MS, TRIES = 30 * MINUTE, 5
"""When the gateway does not answer: how long people wait, how often they try."""
OPERATOR = "operator"
"""Under whose token the manufacturer's own people act."""
AT_ONCE = ("close-door", "close-windows", "check-food", "frost-protection", "switch-off-time")
"""What is done at once or not at all."""
SPREAD = 0.15
"""Of the time people take, as standard deviation of its logarithm."""

Said: TypeAlias = Sequence[Message]
Act: TypeAlias = Callable[[int], Awaitable[Said]]


class Displays(Protocol):
    """What the displays show."""

    shown: dict[str, dict[str, dict[str, Any]]]
    """device → touchpoint id → content"""


class Agenda:
    """What somebody is going to do, by time; of two at the same time the one planned first."""

    def __init__(self) -> None:
        self._plans: list[tuple[int, int, Act]] = []
        self._count = 0

    def plan(self, at: int, act: Act) -> None:
        """Do it at `at` (ms)."""
        self._count += 1
        self._plans.append((at, self._count, act))
        self._plans.sort(key=lambda plan: plan[:2])

    def next_at(self) -> int | None:
        """ms of the next act; None when nothing is planned."""
        return self._plans[0][0] if self._plans else None

    async def play(self, at: int) -> Said:
        """Do the next thing."""
        _, _, act = self._plans.pop(0)
        return await act(at)


class Person(Agenda):
    """An owner."""

    def __init__(
        self,
        scenario: Scenario,
        part: OwnerPart,
        seed: int,
        api: Api,
        fleet: Fleet,
        displays: Displays | None,
    ) -> None:
        super().__init__()
        self._scenario, self._api, self._fleet, self._displays = scenario, api, fleet, displays
        self.id, self.acts = part.id, part.acts
        self._rng = random.Random(f"{seed}/{part.id}/person")
        self._devices = [device.id for device in scenario.part.devices if device.owner == part.id]
        self._answered: set[str] = set()
        self._declined: set[tuple[str, str]] = set()
        """(device, rule) that they were asked about before"""
        self._now = scenario.start
        self._offered = {service.id for shop in scenario.part.workshops for service in shop.services}
        if self.acts.sees == "display":
            for device in self._devices:
                fleet.units[device].used = self._used

    # --- how they learn of it

    def on_push(self, message: Mapping[str, Any], now: int) -> None:
        """A notification is on their phone."""
        about, touchpoint = message.get("about"), str(message.get("touchpoint"))
        if about == "question" and self.acts.score is not None:
            self.plan(now + self._while(), self._rate)
        elif about == "offer" and self.acts.sees == "push" and touchpoint not in self._answered:
            self._answered.add(touchpoint)
            self.plan(now + self._while(), self._trying(lambda at: self._answer(touchpoint, at)))

    def _used(self, at: int) -> None:
        self.plan(at + GLANCE_MS, self._look)

    def _while(self) -> int:
        """ms they take: a whole number of seconds around the scenario's median."""
        return round(self.acts.after * self._rng.lognormvariate(0, SPREAD) / 1000) * 1000

    # --- what they do about it

    async def _look(self, at: int) -> Said:
        """Look at the displays, and tap an answer to what is new there."""
        assert self._displays is not None
        said = []
        for device in self._devices:
            for touchpoint, content in sorted(self._displays.shown.get(device, {}).items()):
                offered = [str(action["id"]) for action in content.get("actions", ())]
                action = self._choice(offered)
                if touchpoint not in self._answered and action is not None:
                    self._answered.add(touchpoint)
                    body = {"touchpoint": touchpoint, "action": action, "ts": at}
                    said.append(Message(device, f"{PREFIX}/{device}/answer", payload(body)))
        return said

    def _choice(self, offered: Sequence[str]) -> str | None:
        """The action of a display that they take: book:<slot>, or what the scenario says, or not now."""
        books = [action for action in offered if action.startswith("book:")]
        if self.acts.answer == "book" and books:
            starts = [int(action.rpartition("@")[2]) for action in books]
            return books[starts.index(self._preferred(starts))]
        return next((action for action in (self.acts.answer, "not_now") if action in offered), None)

    async def _answer(self, touchpoint: str, at: int) -> None:
        """Read the matter and answer it over the API."""
        if self.acts.ignores and self._rng.random() < self.acts.ignores:
            return
        matter = await self._api.get(self.id, f"/touchpoints/{touchpoint}")
        if matter["state"] != "open":
            return
        if self.acts.does:
            body = self._by_themselves(matter, at)
            if body is not None:
                await self._post_answer(touchpoint, body)
                return
        self._now = at
        if self.acts.descales and "descal" in matter["rule"]:
            self._descale(matter["device"], at)
            await self._post_answer(touchpoint, {"action": "noted"})
        else:
            await self._post_answer(touchpoint, self._body(matter))

    def _body(self, matter: Mapping[str, Any]) -> dict[str, str]:
        slots = {_ms(slot["start"]): str(slot["id"]) for slot in matter["slots"]}
        asked = (str(matter.get("device")), str(matter.get("rule")))
        again = asked in self._declined
        self._declined.add(asked)
        if self.acts.answer == "elsewhere" and matter["kind"] == "appointment":
            if again:
                return {"action": "already_done"}
            self._have_it_done(matter, self._rng.uniform(2, 14))
            return {"action": "not_now"}
        if self.acts.answer == "snooze" and not again:
            return {"action": "snooze", "until": "next_week"}
        if self.acts.answer == "not_now" and again and self.acts.does:
            return {"action": "never"}
        if self.acts.does and not slots and matter["kind"] == "appointment" and self.acts.answer == "book":
            self._have_it_done(matter, self._rng.uniform(2, 8))  # they call us, and find a day
        if self.acts.answer in ("book", "snooze") and slots:
            return {"action": "book", "slot": slots[self._preferred(list(slots))]}
        if self.acts.answer in ("book", "snooze"):
            return {"action": "call_me" if matter["kind"] == "appointment" else "noted"}
        return {"action": self.acts.answer}

    def _have_it_done(self, matter: Mapping[str, Any], days: float) -> None:
        """By somebody who is not known here."""
        unit = self._fleet.units.get(str(matter["device"]))
        if unit is not None and matter["service"] is not None:
            unit.care(str(matter["service"]), self._now + round(days * 24 * HOUR))

    def _by_themselves(self, matter: Mapping[str, Any], at: int) -> dict[str, str] | None:
        """Refill, clean, close, if they get round to it; the answer, where there is nothing to book."""
        own = [told["service"] for told in matter["matters"] if told["service"] not in self._offered]
        unit = self._fleet.units.get(str(matter["device"]))
        did = self._rng.random() < self.acts.does
        if not own or unit is None:
            return None
        for service in own if did else ():
            hours = 0.3 if service in AT_ONCE else self._rng.uniform(1, 20)
            unit.care(str(service), at + round(hours * HOUR))
        if len(own) < len(matter["matters"]):
            return None
        return {"action": "already_done" if did else "noted"}

    async def _post_answer(self, touchpoint: str, body: Mapping[str, str]) -> None:
        """Post it; where the slot has been taken meanwhile, choose among the next ones."""
        for _ in range(3):
            try:
                await self._api.post(self.id, f"/touchpoints/{touchpoint}/answer", body)
                return
            except ApiError as error:
                if error.status != 409:
                    raise
            matter = await self._api.get(self.id, f"/touchpoints/{touchpoint}")
            if matter["state"] != "open":
                return  # answered elsewhere
            body = self._body(matter)

    def _preferred(self, starts: Sequence[int]) -> int:
        """The start (ms) that suits them."""
        by_time = sorted(starts)
        if self.acts.slot in ("first", "last"):
            return by_time[0 if self.acts.slot == "first" else -1]
        evening = self.acts.slot == "evening"
        suits = [at for at in by_time if (self._scenario.local(at).hour >= 16) == evening]
        return (suits or by_time)[0]

    def _descale(self, device: str, at: int) -> None:
        """Put in the descaler and run the program, next Saturday at ten."""
        unit = self._fleet.units.get(device)
        if isinstance(unit, WasherUnit):
            unit.descale(self._saturday(at))

    def _saturday(self, at: int) -> int:
        today = self._scenario.local(at)
        days = (WEEKDAYS.index("sat") - today.weekday()) % 7 or 7
        day = today.date() + timedelta(days=days)
        return self._scenario.ms(datetime.combine(day, time(10)))

    async def _rate(self, at: int) -> Said:
        """Answer the questions that are open."""

        async def answer(_: int) -> None:
            asked = await self._api.get(self.id, "/feedback", owner=self.id)
            for question in asked["items"]:
                if question["answered_at"] is None and _ms(question["asked_at"]) <= at:
                    body = {"score": self._score(question["question"]), "comment": self.acts.comment}
                    await self._api.post(self.id, f"/feedback/{question['id']}", body)

        return await self._trying(answer)(at)

    def _score(self, question: str) -> int:
        """Their score of five on the question's scale: csat 1-5, ces 1-7, nps 0-10."""
        share = ((self.acts.score or 1) - 1) / 4
        low, high = {"csat": (1, 5), "ces": (1, 7), "nps": (0, 10)}.get(question, (1, 5))
        return round(low + share * (high - low))

    def _trying(self, act: Callable[[int], Awaitable[None]], left: int = TRIES) -> Act:
        """The act; where the gateway does not answer or is not well, it is tried again later."""

        async def play(at: int) -> Said:
            try:
                await act(at)
            except ApiError as error:
                if left > 1 and (error.status == 0 or error.status >= 500):
                    self.plan(at + AGAIN_MS, self._trying(act, left - 1))
                else:
                    print(f"{self.id}: {error}", file=sys.stderr)
            return ()

        return play


class Shop(Agenda):
    """A workshop: looks into its calendar every hour while open, and finishes its jobs."""

    def __init__(self, scenario: Scenario, part: WorkshopPart, api: Api, fleet: Fleet, seed: int = 0) -> None:
        super().__init__()
        self._scenario, self._part, self._api, self._fleet = scenario, part, api, fleet
        self._known: set[str] = set()
        self._rng = random.Random(f"{seed}/{part.id}/shop")
        self._owners = {owner.id: owner for owner in scenario.part.owners}
        self._closed = [
            (scenario.ms(event.at), scenario.ms(event.at) + event.lasts)
            for event in scenario.part.events
            if event.what == "strike" and (not event.workshops or part.id in event.workshops)
        ]
        self.id = part.id
        self.plan(self._next_look(scenario.start - 1), self._look)

    async def _look(self, at: int) -> Said:
        """Plan the end of every job that customers booked for today and tomorrow."""
        self.plan(self._next_look(at), self._look)
        try:
            if self._part.books == "on_request":
                await self._say_yes(at)
            for job in await self._jobs(at):
                if job["touchpoint"] is not None and job["id"] not in self._known:
                    self._known.add(job["id"])
                    await self._take(job, at)
        except ApiError as error:
            print(f"{self.id}: {error}", file=sys.stderr)  # looks again in an hour
        return ()

    async def _take(self, job: Mapping[str, Any], at: int) -> None:
        """Plan a job; on strike it is called off."""
        start, end = _ms(job["start"]), _ms(job["end"])
        if any(begins <= start < ends for begins, ends in self._closed if begins <= at):
            await self._api.post(self.id, f"/appointments/{job['id']}/cancel", {})
            return
        late = round(self._part.late * self._rng.expovariate(1)) if self._part.late else 0
        self.plan(max(at, end + late), self._finishing(job))
        self._fleet.away(str(job["device"]), start, end + late)

    async def _say_yes(self, at: int) -> None:
        """To what was asked, or another time a day later."""
        page = await self._api.get(self.id, "/appointments", workshop=self.id, state="requested", limit="500")
        for job in page["items"]:
            if self._rng.random() < self._part.counters:
                later = [_rfc3339(_ms(job["start"]) + 24 * HOUR)]
                await self._try(f"/appointments/{job['id']}/counter", {"starts": later})
            else:
                await self._try(f"/appointments/{job['id']}/confirm", {})

    async def _try(self, path: str, body: Mapping[str, Any]) -> None:
        """What cannot be is left to the next look: somebody was faster."""
        try:
            await self._api.post(self.id, path, body)
        except ApiError as error:
            print(f"{self.id}: {error}", file=sys.stderr)

    async def _jobs(self, at: int) -> list[dict[str, Any]]:
        today = self._scenario.local(at).replace(hour=0, minute=0, second=0, microsecond=0)
        page = await self._api.get(
            self.id,
            "/appointments",
            workshop=self.id,
            state="confirmed",
            to=(today + timedelta(days=2)).isoformat(),
            **{"from": today.isoformat()},
            limit="500",
        )
        items: list[dict[str, Any]] = page["items"]
        return items

    def _finishing(self, job: Mapping[str, Any]) -> Act:
        async def finish(at: int) -> Said:
            current = await self._api.get(self.id, f"/appointments/{job['id']}")
            if current["state"] not in ("confirmed", "done") or current["end"] != job["end"]:
                self._known.discard(job["id"])  # cancelled, or moved to another time
                return ()
            owner = self._owners.get(str(job.get("owner")))
            if owner is not None and self._rng.random() >= owner.acts.shows_up:
                await self._api.post(self.id, f"/appointments/{job['id']}/no-show", {})
                return ()
            if current["state"] == "confirmed":  # else somebody said so on the workshop's page
                work = {"note": self._part.note, "parts": self._part.parts.get(job["service"], [])}
                await self._api.post(self.id, f"/appointments/{job['id']}/done", work)
            if job["device"] is not None and self._rng.random() >= self._part.botches:
                for service in {str(job["service"]), *map(str, job.get("services") or ())}:
                    self._fleet.repair(job["device"], service, at)
            return ()

        async def play(at: int) -> Said:
            try:
                return await finish(at)
            except ApiError as error:
                print(f"{self.id}: {error}", file=sys.stderr)
                self._known.discard(job["id"])  # the next look finds it again
                return ()

        return play

    def _next_look(self, after: int) -> int:
        """The next full hour in the opening hours; the first one of a day for one that looks once a day."""
        at = (after // HOUR + 1) * HOUR
        for _ in range(24 * 14):
            local = self._scenario.local(at)
            hours = self._part.hours.get(WEEKDAYS[local.weekday()], [])  # type: ignore[call-overload]
            if self._part.looks == "daily":
                if hours and local.hour == hours[0][0].hour:
                    return at
            elif any(opens <= local.time() <= closes for opens, closes in hours):
                return at
            at += HOUR
        return at


class Dealings(Agenda):
    """What happens between people: products are sold, consents withdrawn."""

    def __init__(self, scenario: Scenario, api: Api) -> None:
        super().__init__()
        self._api = api
        for event in scenario.part.events:
            if event.what == "sale":
                for device in event.devices:
                    self.plan(scenario.ms(event.at), self._sell(device, event.to))
        for owner in scenario.part.owners:
            for withdrawal in owner.acts.withdraws:
                at = scenario.ms(withdrawal.at)
                self.plan(at, self._withdraw(owner.id, withdrawal.purpose))

    def _sell(self, device: str, to: str | None) -> Act:
        async def play(_: int) -> Said:
            await self._put(OPERATOR, f"/devices/{device}/owner", {"owner": to})
            return ()

        return play

    def _withdraw(self, owner: str, purpose: str) -> Act:
        async def play(_: int) -> Said:
            await self._put(owner, f"/owners/{owner}/consents/{purpose}", {"granted": False})
            return ()

        return play

    async def _put(self, who: str, path: str, body: Mapping[str, Any]) -> None:
        try:
            await self._api.put(who, path, body)
        except ApiError as error:
            print(f"{who}: {error}", file=sys.stderr)


class People:
    """Everybody of a scenario. With `live` the visitor's part is left to the visitor."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        seed: int,
        fleet: Fleet,
        base_url: str = "",
        tokens: Mapping[str, str] | None = None,
        api: Api | None = None,
        devices: Displays | None = None,
        live: bool = False,
    ) -> None:
        """`tokens` has a bearer token for every owner and workshop, by id; `api` stands in for HTTP."""
        self._api = api or HttpApi(base_url, tokens or {})
        self._persons = {
            part.id: Person(scenario, part, seed, self._api, fleet, devices) for part in scenario.part.owners
        }
        self._shops = [Shop(scenario, part, self._api, fleet, seed) for part in scenario.part.workshops]
        self._dealings = Dealings(scenario, self._api)
        self._left_to_visitor = {part.id for part in scenario.part.owners if live and part.acts.visitor}
        self._unanswered: dict[str, list[Mapping[str, Any]]] = {}

    def sources(self) -> list[Source]:
        """For the player, in a fixed order."""
        return [*self._persons.values(), *self._shops, self._dealings]

    def on_push(self, owner: str, message: Mapping[str, Any], now: int) -> None:
        """A push has reached an owner's phone. `message` is what it says, decrypted."""
        if owner in self._left_to_visitor:
            self._unanswered.setdefault(owner, []).append(message)
        elif owner in self._persons:
            self._persons[owner].on_push(message, now)

    def take_over(self, owner: str, now: int) -> None:
        """The visitor would rather watch: the owner now acts on what has come so far."""
        for message in self._unanswered.pop(owner, ()):
            self._persons[owner].on_push(message, now)

    async def close(self) -> None:
        """End the connections."""
        await self._api.close()


def _rfc3339(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _ms(text: str) -> int:
    """UTC milliseconds of an RFC 3339 time."""
    return math.floor(datetime.fromisoformat(text).timestamp() * 1000 + 0.5)
