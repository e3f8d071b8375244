"""deliver: what is queued leaves the house, every try is a row, and what nobody needs is not sent.

Rows are claimed by lease, in one write; each is then prepared (is it still needed, is this the moment,
how does it read now), sent, and its outcome stored. A crash between sending and storing sends it
again under the same id. One target gets one thing at a time, in order; different targets at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

import structlog

from gateway.domain.counters import Counters
from gateway.domain.delivery import (
    Attempt,
    Delivery,
    DeliveryState,
    Gone,
    Outcome,
    Reached,
    Refused,
    Retry,
    Sent,
)
from gateway.domain.errors import NotFoundError
from gateway.domain.moments import DAY_MS
from gateway.domain.policy import Policy
from gateway.flow import decide, outgoing, recalls, returning, visit, webhooks
from gateway.flow.afterwords import QUESTION
from gateway.flow.outgoing import DISPLAY, EMAIL, IN_PERSON, WEB_PUSH, WEBHOOK, Renderer, is_offer
from gateway.ports import ChangeFeed, Channel, Clock, Database, DatabaseUnavailableError, Hosted, Records

AT_ONCE = 16
"""Deliveries of one channel that are being sent at the same time."""

PER_HOST = 12
"""Of these, to one host (push service, mail server, endpoint): what is left is for the others."""

ROOM_WAIT_S = 1.0
"""Real seconds that a delivery waits for room at its host before it goes back into the outbox."""

FULL_MS = 2_000
"""How long it stays there then."""

IMPATIENT = (WEBHOOK,)
"""Channels whose receivers are other people's: one that hangs with many events waiting holds up no other."""

IN_ORDER = (WEB_PUSH, EMAIL)
"""Channels on which one receiver gets things in the order in which they were queued, retries included.
Displays show one state each, and events carry their time: a receiver that chokes on one gets the next."""

"""Subjects of the change feed after which something may fall due sooner; "*" stands for anything."""

LOOK_EVERY_S = 1.0
"""Real seconds after which what fell due is looked for, while something is still being sent."""

AFTER_TROUBLE_MS = 5_000
"""How long to wait when the database could not be used."""

STORE_AGAIN = 3
"""How often the outcome of a delivery is stored again before the delivery is left to its lease."""

STORE_PAUSE_S = 1.0
"""Real seconds between: a played time stands still while something is being sent."""

PATIENCE = 10
"""How often `deliver_now` looks again whether somebody else has sent what it waits for."""

LONGEST_WAIT_MS = DAY_MS
"""A receiver's Retry-After is honoured up to here."""

log = structlog.get_logger()


# --- preparing --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """To be sent now, as it reads now."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Later:
    """Not this moment."""

    until: int
    why: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Nobody needs it any more."""

    why: str


def prepare(
    records: Records, delivery: Delivery, renderer: Renderer, policy: Policy, now: int
) -> Ready | Later | Drop | None:
    """What is to be done with a claimed row; None when it has ended or was erased meanwhile."""
    try:
        stored = records.outbox.get(delivery.id)
    except NotFoundError:
        return None
    if stored.state is not DeliveryState.LEASED:
        return None
    if delivery.expires_at is not None and delivery.expires_at <= now:
        return Drop("expired")
    ahead = records.outbox.ahead_of(delivery, now + FULL_MS) if delivery.channel in IN_ORDER else None
    if ahead is not None and ahead.due_at > now:
        return Later(ahead.due_at, "an earlier one to the same receiver is tried again first")
    wait = _moment(records, delivery, policy, now)
    if wait is not None:
        return wait
    rendered = renderer.render(records, delivery, now)
    if rendered is None:
        return Drop("not needed any more")
    return Ready(rendered)


def _moment(records: Records, delivery: Delivery, policy: Policy, now: int) -> Later | None:
    """Until when a phone must not ring for it, or a display must not show it."""
    wait = None
    with contextlib.suppress(NotFoundError):
        if delivery.touchpoint is not None and delivery.channel == DISPLAY:
            wait = decide.display_moment(records, delivery.touchpoint, now, policy)
        elif not _disturbs(delivery):
            return None
        elif delivery.touchpoint is not None and _is_whose(records, delivery):
            news = not is_offer(delivery)
            wait = decide.push_moment(records, delivery.touchpoint, now, policy, news=news)
        elif delivery.owner is not None:
            wait = decide.quiet_moment(records, delivery.owner, now, policy)
    return None if wait is None else Later(wait.until, wait.code)


def _is_whose(records: Records, delivery: Delivery) -> bool:
    """Whether the matter is still that of who is written to: a reply to them may come when another one is
    asked by now, and then goes by their own hours and trips."""
    return delivery.owner in (None, records.touchpoints.get(delivery.touchpoint or "").owner)


def _disturbs(delivery: Delivery) -> bool:
    """Mails that the owner is waiting for (an invitation, a reply) go at any hour, as those of other people
    do, but not those that offer or ask something; so does the push without a sound that takes the place of a
    notification which has been answered elsewhere: an answer closes the other channels at once."""
    if delivery.channel == EMAIL:
        return is_offer(delivery) or delivery.payload.get("about") == QUESTION
    return delivery.channel == WEB_PUSH and not delivery.payload.get("replaces")


# --- outcomes ---------------------------------------------------------------------------------


def settled(
    delivery: Delivery, outcome: Outcome | Later | Drop, now: int, policy: Policy
) -> tuple[Delivery, Attempt]:
    """The row as it stands after an outcome, and the attempt to be stored with it."""
    tried = delivery.attempts + (0 if isinstance(outcome, Later | Drop) else 1)
    after = replace(delivery, attempts=tried, lease_until=None)
    match outcome:
        case Sent(detail=detail):
            return replace(after, state=DeliveryState.SENT), _attempt(after, now, "sent", detail)
        case Later(until, why):
            pending = replace(after, state=DeliveryState.PENDING, due_at=until)
            return pending, _attempt(after, now, "retry", f"waits: {why}")
        case Drop(why):
            return replace(after, state=DeliveryState.DROPPED), _attempt(after, now, "dropped", why)
        case Gone(detail=detail):
            return replace(after, state=DeliveryState.DROPPED), _attempt(after, now, "dropped", detail)
        case Refused(detail=detail):
            return replace(after, state=DeliveryState.DEAD), _attempt(after, now, "dead", detail)
        case Retry():
            return _tried_again(after, outcome, now, policy)


def _tried_again(delivery: Delivery, outcome: Retry, now: int, policy: Policy) -> tuple[Delivery, Attempt]:
    schedule = policy.retry_schedules_s.get(delivery.channel, policy.retry_schedule_s)
    if delivery.attempts > len(schedule):
        dead = replace(delivery, state=DeliveryState.DEAD)
        return dead, _attempt(delivery, now, "dead", f"given up: {outcome.detail}")
    wait = max(schedule[delivery.attempts - 1] * 1000, min(outcome.after_ms or 0, LONGEST_WAIT_MS))
    if delivery.expires_at is not None and now + wait >= delivery.expires_at:
        late = replace(delivery, state=DeliveryState.DROPPED)
        return late, _attempt(delivery, now, "dropped", f"expires before the next try: {outcome.detail}")
    pending = replace(delivery, state=DeliveryState.PENDING, due_at=now + wait)
    return pending, _attempt(delivery, now, "retry", outcome.detail)


def follow(records: Records, delivery: Delivery, outcome: Outcome | Later | Drop, now: int) -> None:
    """What an outcome brings with it: how far the delivery has come, addresses that are no more, the next
    step of the ladder, and a line for the owner where a later step reached out to them."""
    if isinstance(outcome, Sent):
        records.outbox.reached(delivery.id, Reached.SENT, now)
        if delivery.channel == WEBHOOK:
            records.outbox.reached(delivery.id, Reached.DELIVERED, now)
        _note_contact(records, delivery, now)
        _note_later_step(records, delivery, now)
        return
    if isinstance(outcome, Gone):
        _forget_target(records, delivery, outcome, now)
    if isinstance(outcome, Gone) or delivery.state is DeliveryState.DEAD:
        records.outbox.reached(delivery.id, Reached.FAILED, now)
        outgoing.step_failed(records, delivery, now)


def _forget_target(records: Records, delivery: Delivery, outcome: Gone, now: int) -> None:
    match delivery.channel:
        case "web_push":
            records.owners.drop_subscription(delivery.target, now)
        case "email":
            outgoing.undeliverable(records, delivery, outcome.detail, now)
        case "webhook":
            webhooks.disable(records, delivery.target, outcome.detail, now)


def _note_contact(records: Records, delivery: Delivery, now: int) -> None:
    """The week of a contact counts from when its owner was reached: in person, if they are."""
    if delivery.created == now:
        return
    if delivery.payload.get("about") == QUESTION:
        records.contacts.reached(str(delivery.payload["feedback"]), delivery.created, now)
    if delivery.touchpoint is None or not is_offer(delivery):
        return
    rows = records.outbox.page(touchpoint=delivery.touchpoint, limit=200)
    told = (row for row in rows if row.id != delivery.id and row.created == delivery.created)
    if not any(
        row.channel in IN_PERSON and row.state is DeliveryState.SENT and is_offer(row) for row in told
    ):
        records.contacts.reached(delivery.touchpoint, delivery.created, now)


def _note_later_step(records: Records, delivery: Delivery, now: int) -> None:
    if delivery.touchpoint is None or not delivery.payload.get("later"):
        return
    with contextlib.suppress(NotFoundError):
        touchpoint = records.touchpoints.get(delivery.touchpoint)
        outgoing.write_line(records, "sent_later", now, touchpoint=touchpoint, channels=[delivery.channel])


def _said_before(records: Records, waits: Attempt) -> bool:
    """Whether it is said already that a row waits for this: a trip is looked at every minute."""
    told = records.outbox.attempts(waits.delivery)
    return bool(told) and (told[-1].result, told[-1].detail) == (waits.result, waits.detail)


def _attempt(delivery: Delivery, now: int, result: str, detail: str) -> Attempt:
    return Attempt(delivery=delivery.id, number=delivery.attempts, at=now, result=result, detail=detail[:200])


# --- the loop ---------------------------------------------------------------------------------


class Deliverer:
    """Sends what is due, through the channels it was given."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        channels: Mapping[str, Channel],
        policy: Policy,
        renderer: Renderer,
        counters: Counters,
        complete: Callable[[Delivery], Awaitable[Delivery]] | None = None,
    ) -> None:
        """`complete` adds to a mail what the records do not hold."""
        self._database = database
        self._complete = complete
        self._clock = clock
        self._channels = channels
        self._policy = policy
        self._renderer = renderer
        self._counters = counters
        self._lanes: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._rooms: WeakValueDictionary[tuple[str, str], asyncio.Semaphore] = WeakValueDictionary()
        self._sending: dict[asyncio.Task[None], str] = {}
        """what is being sent: task → channel"""
        self._over = False
        """whether any of it has ended since it was asked when the next falls due"""
        self._sent: set[str] = set()
        """deliveries whose end is stored, and that nobody has told of yet"""
        self._back: int | None = None
        """when the first of those falls due that went back into the outbox, or were left to their lease"""

    async def run(self) -> None:
        """Until cancelled. What is being sent then is sent again after its lease."""
        changes = self._database.watch("outbox")
        due: int | None = self._clock.now()
        try:
            while True:
                try:
                    due = await self._round(changes, due)
                except DatabaseUnavailableError as error:
                    log.warning("outbox_unavailable", why=str(error))
                    due = self._clock.now() + AFTER_TROUBLE_MS
                    await self._clock.wait(asyncio.Event(), due)
        finally:
            changes.close()
            for task in self._sending:
                task.cancel()
            await asyncio.gather(*self._sending, return_exceptions=True)

    async def _round(self, changes: ChangeFeed, due: int | None) -> int | None:
        """Send what is due, then wait for more; gives when the next row falls due.

        Whatever is told is claimed at once, without asking first whether it is due: each question waits
        for a thread, which at a high load takes longer than the claim."""
        if self._told(changes.take()) or (due is not None and due <= self._clock.now()):
            claimed, due = await self._claim()
            for delivery in claimed:
                self._begin(delivery)
        if self._sending:
            await self._some_end(changes.event())
            return self._sooner(due)
        if self._over:
            self._over = False
            due = await self._next_due()
        await self._clock.wait(changes.event(), due)
        return due

    def _told(self, changes: Sequence[tuple[str, str]]) -> bool:
        """Whether anything has changed but what we have sent ourselves."""
        told = False
        for subject, key in changes:
            told |= key not in self._sent
            self._sent.discard(key)
            if subject == "*":  # it is no longer told what
                self._sent.clear()
        return told

    def _sooner(self, due: int | None) -> int | None:
        """When something falls due, with what went back meanwhile."""
        back, self._back = self._back, None
        return back if due is None else due if back is None else min(due, back)

    async def _next_due(self) -> int | None:
        return await self._database.read(lambda records: records.outbox.next_due([*self._channels]))

    def _begin(self, delivery: Delivery) -> None:
        task = asyncio.create_task(self._deliver(delivery), name="delivery")
        self._sending[task] = delivery.channel
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._sending[task]
        self._over = True
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("delivery_failed", why=f"{type(error).__name__}: {error}")

    async def _some_end(self, changed: asyncio.Event) -> None:
        """Until a delivery has ended, or something new may be due. This does not stand in the clock: as long
        as something is being sent, there is something to do."""
        rung = asyncio.ensure_future(changed.wait())
        try:
            await asyncio.wait(
                {*self._sending, rung}, timeout=LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            rung.cancel()

    async def now(self) -> None:
        """Send everything that is due, and return when it has been tried."""
        while claimed := (await self._claim())[0]:
            await asyncio.gather(*(self._deliver(delivery) for delivery in claimed))

    async def _claim(self) -> tuple[Sequence[Delivery], int | None]:
        """(what is to be sent now, when the next falls due). Every channel has its own room, so that one
        whose receiver hangs takes nothing from the others."""
        now, lease, busy = self._clock.now(), self._policy.lease_ms, Counter(self._sending.values())

        def work(records: Records) -> tuple[list[Delivery], int | None]:
            earliest = records.outbox.earliest([*self._channels])
            claimed = [
                delivery
                for name, at in earliest.items()
                if at <= now and busy[name] < AT_ONCE
                for delivery in records.outbox.claim(
                    now, lease_ms=lease, limit=AT_ONCE - busy[name], channels=[name]
                )
            ]
            if claimed:
                earliest = records.outbox.earliest([*self._channels])
            return claimed, min(earliest.values(), default=None)

        return await self._database.write(work)

    async def _deliver(self, delivery: Delivery) -> None:
        key = (delivery.channel, delivery.target)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = asyncio.Lock()
        patience = ROOM_WAIT_S if delivery.channel in IMPATIENT else None
        if not await self._gets(lane, patience):
            return await self._put_back(delivery)
        try:
            await self._deliver_next(delivery)
        finally:
            lane.release()

    async def _deliver_next(self, delivery: Delivery) -> None:
        """The next one to its target: prepared, sent, stored."""
        now = self._clock.now()
        prepared = self._database.write if delivery.channel == EMAIL else self._database.read
        todo = await prepared(lambda records: prepare(records, delivery, self._renderer, self._policy, now))
        if todo is None:
            return
        if isinstance(todo, Ready):
            ready = todo.delivery
            if self._complete is not None and ready.channel == EMAIL:
                ready = await self._complete(ready)
            await self._send_in_turn(delivery, ready)
        else:
            await self._store(delivery, todo)

    async def _gets(self, room: asyncio.Lock | asyncio.Semaphore, patience: float | None) -> bool:
        """Whether there was room within so many real seconds; None waits as long as it takes."""
        try:
            async with asyncio.timeout(patience):
                await room.acquire()
        except TimeoutError:
            return False
        return True

    async def _put_back(self, delivery: Delivery) -> None:
        """Into the outbox, for those behind it to pass."""
        later = self._clock.now() + FULL_MS
        await self._patiently(lambda records: records.outbox.put_back(delivery.id, later))
        self._back = later if self._back is None else min(self._back, later)

    async def _send_in_turn(self, delivery: Delivery, rendered: Delivery) -> None:
        """One host has so many at once; what finds it full for a while goes back, so that a host that hangs
        keeps nothing from the others."""
        room = self._room(rendered)
        if not await self._gets(room, ROOM_WAIT_S):
            return await self._put_back(delivery)
        try:
            outcome = await self._send(rendered)
        finally:
            room.release()
        await self._store(delivery, outcome)

    def _room(self, rendered: Delivery) -> asyncio.Semaphore:
        channel = self._channels[rendered.channel]
        host = channel.host(rendered) if isinstance(channel, Hosted) else rendered.target
        key = (rendered.channel, host)
        room = self._rooms.get(key)
        if room is None:
            room = self._rooms[key] = asyncio.Semaphore(PER_HOST)
        return room

    async def _send(self, delivery: Delivery) -> Outcome:
        try:
            return await self._channels[delivery.channel].send(delivery)
        except Exception as error:
            # A channel must not raise; if it does, the row is tried again and ends as a dead letter.
            log.exception("channel_raised", channel=delivery.channel)
            return Retry(detail=f"{type(error).__name__}: {error}")

    async def _store(self, delivery: Delivery, outcome: Outcome | Later | Drop) -> None:
        now = self._clock.now()
        after, attempt = settled(delivery, outcome, now, self._policy)

        def work(records: Records) -> None:
            with contextlib.suppress(NotFoundError):  # its owner was erased while it was being sent
                records.outbox.get(after.id)
                if isinstance(outcome, Later) and _said_before(records, attempt):
                    records.outbox.put_back(after.id, outcome.until)
                    return
                records.outbox.finish(after, attempt)
                follow(records, after, outcome, now)

        if after.state is DeliveryState.SENT:
            self._sent.add(delivery.id)
        try:
            await self._patiently(work)
        except BaseException:
            self._sent.discard(delivery.id)
            raise
        if isinstance(outcome, Later):  # nothing was tried
            self._back = outcome.until if self._back is None else min(self._back, outcome.until)
        else:
            self._counters.attempt(delivery.channel, attempt.result)
        found_at = delivery.payload.get("found_at")
        if isinstance(outcome, Sent) and isinstance(found_at, int):
            self._counters.delivered(now - found_at)

    async def _patiently(self, work: Callable[[Records], None]) -> None:
        """Store what has happened already: what is not stored is sent again after its lease."""
        for _ in range(STORE_AGAIN):
            try:
                return await self._database.write(work)
            except DatabaseUnavailableError as error:
                log.warning("attempt_waits", why=str(error))
                await asyncio.sleep(STORE_PAUSE_S)
        return await self._database.write(work)


async def deliver_now(
    database: Database,
    clock: Clock,
    channels: Mapping[str, Channel],
    policy: Policy,
    renderer: Renderer,
    counters: Counters,
) -> None:
    """Send what is due on these channels and return when none of it waits any more, whoever sends it: for
    control entries that have to be in the journal before a caller goes on."""
    deliverer = Deliverer(database, clock, channels, policy, renderer, counters)
    changes = database.watch("outbox")
    try:
        for _ in range(PATIENCE):
            changes.take()
            await deliverer.now()
            due = await database.read(lambda records: records.outbox.next_due([*channels]))
            if due is None or due > clock.now() + policy.lease_ms:
                return
            if await database.read(lambda records: not _leased(records, channels)):
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await changes.event().wait()
    finally:
        changes.close()


def _leased(records: Records, channels: Mapping[str, Channel]) -> bool:
    """Whether somebody else is sending on these channels."""
    waiting = records.outbox.page(states=(DeliveryState.LEASED,), limit=1_000)
    return any(delivery.channel in channels for delivery in waiting)


class Timers:
    """Wakes deferred touchpoints, ends expired ones, reminds of visits and ends what nobody answered, when
    their time comes."""

    def __init__(self, database: Database, clock: Clock, policy: Policy, counters: Counters) -> None:
        self._database = database
        self._clock = clock
        self._policy = policy
        self._counters = counters

    async def run(self) -> None:
        """Until cancelled."""
        changes = self._database.watch("touchpoint", "appointment")
        due: int | None = self._clock.now()
        try:
            while True:
                try:
                    due = await self._round(changes, due)
                except DatabaseUnavailableError as error:
                    log.warning("timers_unavailable", why=str(error))
                    due = self._clock.now() + AFTER_TROUBLE_MS
                    await self._clock.wait(asyncio.Event(), due)
        finally:
            changes.close()

    async def _round(self, changes: ChangeFeed, due: int | None) -> int | None:
        """Settle what is due, then wait; gives when the next touchpoint wakes or expires."""
        if changes.take() or (due is not None and due <= self._clock.now()):
            while await self.step():
                pass
            due = await self._next_due()
        await self._clock.wait(changes.event(), due)
        return due

    async def _next_due(self) -> int | None:
        def next_due(records: Records) -> int | None:
            found = (
                records.touchpoints.next_wake(),
                records.workshops.next_appointment_due(),
                recalls.next_due(records, self._clock.now()),
            )
            return min((at for at in found if at is not None), default=None)

        return await self._database.read(next_due)

    async def step(self) -> int:
        """Settle what is due; gives how many."""
        now, due = self._clock.now(), await self._next_due()
        if due is None or due > now:
            return 0

        def settle(records: Records) -> tuple[list[str], list[str]]:
            visits = visit.settle_due(records, now, self._policy)
            recalled = recalls.proceed(records, now, self._policy)
            return returning.settle_due(records, now, self._policy) + recalled, visits

        outcomes, visits = await self._database.write(settle)
        for outcome in outcomes:
            self._counters.decide(outcome)
        return len(outcomes) + len(visits)
