"""updates: new software for a product in use is a matter of its owner's.

The firmware part offers (`Waiting`), this room asks the owner at the right moment, keeps the time they
chose, holds the update back while something speaks against it, and says afterwards what is new; what failed
becomes a case, and what failed again a visit to a workshop. It knows the firmware part only as an
`UpdateDesk`.

What speaks against an update just now: the product is being driven, it has a visit at a workshop that day,
its battery is low. A security fix with a date is installed from then on without being agreed to; the owner
has been told of the date when they were asked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import structlog

from gateway.domain.appointment import AppointmentState
from gateway.domain.case import CaseKind
from gateway.domain.device import Device, Facts
from gateway.domain.errors import ConflictError, InvalidError, NotFoundError
from gateway.domain.ids import derived_id
from gateway.domain.moments import DAY_MS
from gateway.domain.policy import Policy
from gateway.domain.touchpoint import Answer, Finding, State, Touchpoint
from gateway.flow import cases, decide, outgoing, respond
from gateway.flow.directory import ANYTHING, all_devices
from gateway.ports import Clock, Database, Records

log = structlog.get_logger()

HOUR_MS = 3_600_000
EVERY_S = 5.0
AT_ONCE = 50
LOOKED_AT = 500
"""Products in one reading."""
NIGHT = (2, 5)
"""Hours of the night that are proposed, in the owner's zone."""
LATEST_MS = 30 * DAY_MS
"""How far ahead a time may be chosen."""
LOWEST: Mapping[str, float] = {"state_of_charge": 30.0, "battery_level": 30.0, "battery_voltage": 12.0}
"""Below this reading of a product's battery nothing is installed."""
HANDS_AFTER = 2
"""Failures of one release on one product after which a workshop is proposed: the air did not do it."""
FRESH_MS = 7 * DAY_MS
"""A battery reading older than this says nothing."""
VISITS = (
    AppointmentState.REQUESTED,
    AppointmentState.CONFIRMED,
    AppointmentState.CHECKED_IN,
    AppointmentState.IN_WORK,
    AppointmentState.READY,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """An update that waits for its owner, or that they agreed to."""

    action: int
    device: str
    release: int
    version: str
    minutes: int
    """how long the product is out of use"""
    notes: Mapping[str, str] = field(default_factory=dict)
    """what is new, by language"""
    security: bool = False
    forced_at: int | None = None
    """ms from which it is installed without being agreed to"""
    state: str = "waiting"
    """waiting, running, finished, error, canceled"""
    on_page: bool = False
    """whether the yes was said on the owner's page and not on the device"""
    begin: int | None = None
    """ms, of the time that was chosen"""
    end: int | None = None
    held: str | None = None
    """driving, visit, battery: why not just now"""
    message: str | None = None
    """what the device said last"""
    failures: int = 0
    """how often this release failed on this product"""

    @property
    def rule(self) -> str:
        """What stands for a rule in its finding."""
        return f"update-{self.release}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A rollout that has ended, as the operator is told of it."""

    rollout: int
    name: str
    release: str
    """kind and version"""
    state: str
    """stopped or finished"""
    reason: str
    """why it stopped, in English"""
    cause: Mapping[str, Any]
    """the same for other languages, a text under pages.firmware.cause by its `code`"""
    devices: int
    finished: int
    failed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Product:
    """A registered product, as the firmware part is told of it."""

    id: str
    kind: str
    model: str | None
    firmware: str | None
    owned: bool


Tell = Callable[[Records, Ended, int], None]


class UpdateDesk(Protocol):
    """What the firmware part offers."""

    async def register(self, products: Sequence[Product]) -> None:
        """These exist, and are so."""
        ...

    async def asked(self, limit: int) -> list[Waiting]:
        """Updates whose owners were not asked yet."""
        ...

    async def told(self, action: int) -> None:
        """The owner was asked."""
        ...

    async def ask_again(self, devices: Sequence[str]) -> None:
        """These products may have other owners: what waits is to be asked again."""
        ...

    async def of_devices(self, devices: Sequence[str]) -> list[Waiting]:
        """Updates of these products that wait or are agreed to."""
        ...

    async def said_yes(self, limit: int) -> list[Waiting]:
        """Agreed to, on a page or on the device itself, and the matter may still be asked."""
        ...

    async def settled(self, action: int) -> None:
        """The matter is asked nowhere any more."""
        ...

    async def agree(
        self, action: int, window: tuple[int, int] | None, held: str | None = None, *, forced: bool = False
    ) -> None:
        """Install it, in that time, but not while `held`. Raises ConflictError when it is over."""
        ...

    async def due(self, now: int, after: int, limit: int) -> list[Waiting]:
        """Agreed to, and their time has come or is over; and those that are forced from now on, whose owners
        have been told. Those behind the action `after`."""
        ...

    async def hold(self, action: int, held: str | None, window: tuple[int, int] | None) -> None:
        """Why not just now (None: nothing speaks against it), and the time from now on."""
        ...

    async def ended(self, limit: int) -> list[Waiting]:
        """Finished, failed or cancelled, and nobody was told of it yet."""
        ...

    async def closed(self, action: int) -> None:
        """Whoever had to be told was."""
        ...

    async def ended_rollouts(self) -> list[Ended]:
        """Rollouts that ended, by themselves or whole, and that nobody was told of yet."""
        ...

    async def rollout_told(self, rollout: int) -> None:
        """The operator was told."""
        ...


# --- asking ---------------------------------------------------------------------------------------


def ask(records: Records, update: Waiting, now: int, policy: Policy) -> str:
    """Raise an update as a matter of its owner's; gives the outcome of the decision."""
    return _raise(records, update, "offered", now, policy)


def _raise(records: Records, update: Waiting, what: str, now: int, policy: Policy) -> str:
    told = {
        "what": what,
        "action": update.action,
        "version": update.version,
        "minutes": update.minutes,
        "notes": dict(update.notes),
        "security": update.security,
        "forced_at": update.forced_at,
    }
    known = records.devices.find(update.device)
    owner = known.owner if known is not None else None
    finding = Finding(
        id=derived_id("update", what, str(update.action), update.device, owner or ""),
        device=update.device,
        rule=update.rule if what == "offered" else f"{update.rule}-{what}",
        version=1,
        severity="warning" if update.security and what == "offered" else "advice",
        position=0,
        began_ts=now,
        found_at=now,
        evidence={"update": told},
    )
    if not records.touchpoints.add_finding(finding):
        return "suppress"
    return decide.decide(records, finding, owner, now, policy)


# --- when -----------------------------------------------------------------------------------------


def speaks_against(records: Records, device: str, now: int) -> str | None:
    """driving, visit or battery: why nothing is installed just now; None when nothing speaks against it."""
    facts = records.devices.facts(device)
    if facts.moving:
        return "driving"
    if _visits(records, device, now, now + 1):
        return "visit"
    return "battery" if battery_low(facts, now) else None


def battery_low(facts: Facts, now: int) -> bool:
    """Whether the product has said lately that its battery is too low."""
    for signal, lowest in LOWEST.items():
        ts, value = facts.latest.get(signal, (0, None))
        if isinstance(value, int | float) and now - ts <= FRESH_MS and value < lowest:
            return True
    return False


def _visits(records: Records, device: str, start: int, end: int) -> bool:
    """Whether a visit at a workshop is on one of the days that this time touches."""
    zone = _zone(records, device)
    first = datetime.fromtimestamp(start / 1000, zone).replace(hour=0, minute=0, second=0, microsecond=0)
    last = datetime.fromtimestamp(end / 1000, zone).replace(hour=0, minute=0, second=0, microsecond=0)
    until = round((last + timedelta(days=1)).timestamp() * 1000)
    found = records.workshops.appointments(
        device=device, start=round(first.timestamp() * 1000), end=until, states=VISITS, limit=1
    )
    return bool(found)


def _zone(records: Records, device: str) -> ZoneInfo:
    known = records.devices.find(device)
    owner = records.owners.get(known.owner) if known is not None and known.owner is not None else None
    return ZoneInfo(owner.time_zone if owner is not None else "UTC")


def nights(records: Records, device: str, now: int, count: int = 3) -> list[tuple[int, int]]:
    """The next nights in which it could be installed, none on the day of a visit."""
    zone, found = _zone(records, device), []
    today = datetime.fromtimestamp(now / 1000, zone).replace(minute=0, second=0, microsecond=0)
    for day in range(count * 3):
        night = today + timedelta(days=day)
        begin, end = (round(night.replace(hour=hour).timestamp() * 1000) for hour in NIGHT)
        if begin > now and not _visits(records, device, begin, end):
            found.append((begin, end))
    return found[:count]


def checked(records: Records, update: Waiting, window: tuple[int, int], now: int) -> tuple[int, int]:
    """The time that was chosen, if it can be. Raises InvalidError with what is wrong: past, late, forced,
    visit."""
    begin, end = window
    begin = max(begin, now)
    if not update.minutes * 60_000 <= end - begin <= DAY_MS or end <= begin:
        raise InvalidError("past")
    if begin > now + LATEST_MS:
        raise InvalidError("late")
    if update.forced_at is not None and begin > update.forced_at:
        raise InvalidError("forced")
    if _visits(records, update.device, begin, end):
        raise InvalidError("visit")
    return begin, end


def settle(
    records: Records, update: Waiting, owner: str, now: int, policy: Policy, channel: str = "page"
) -> None:
    """The owner has said when, or yes on the device: the matter is closed on every channel."""
    for touchpoint in _matters(records, update):
        said = Answer(action="noted", channel=channel, at=now, by=owner, comment=f"update {update.version}")
        respond.answer(records, touchpoint.id, said, now, policy)


def settle_yes(records: Records, update: Waiting, now: int, policy: Policy) -> None:
    """Somebody has said yes on the device; or on the page, and the process died before it had closed the
    matter."""
    known = records.devices.find(update.device)
    if known is not None and known.owner is not None:
        channel = "page" if update.on_page else "display"
        settle(records, update, known.owner, now, policy, channel)


def _matters(records: Records, update: Waiting) -> list[Touchpoint]:
    return records.touchpoints.page(
        device=update.device, rule=update.rule, states=(State.DEFERRED, State.OPEN), limit=5
    )


# --- what became of it ----------------------------------------------------------------------------


def close(records: Records, update: Waiting, now: int, policy: Policy) -> None:
    """Say what is new, or open a case; what was still asked is not asked any more."""
    for touchpoint in _matters(records, update):
        ended = replace(touchpoint, state=State.WITHDRAWN, closed_at=now)
        records.touchpoints.save(ended)
        outgoing.close_channels(records, ended, now)
    known = records.devices.find(update.device)
    if known is None or known.owner is None:
        return
    if update.state == "finished":
        records.devices.update(replace(known, firmware=update.version))
        _raise(records, update, "installed", now, policy)
    elif update.state == "error":
        _failed(records, update, known, known.owner, now, policy)


def _failed(records: Records, update: Waiting, device: Device, owner: str, now: int, policy: Policy) -> None:
    data: dict[str, Any] = {"version": update.version, "action": update.action, "said": update.message or ""}
    opened = records.cases.page(kind=CaseKind.UPDATE_FAILED, device=device.id, limit=100)
    if any(case.data.get("action") == update.action for case in opened):
        return  # before somebody ended this process
    cases.open_case(
        records,
        kind=CaseKind.UPDATE_FAILED,
        owner=owner,
        device=device.id,
        workshop=device.workshop,
        text=update.message or "",
        data=data,
        now=now,
        policy=policy,
    )
    if update.failures >= HANDS_AFTER:
        _raise(records, update, "failed", now, policy)


def tell_operator(records: Records, tell: Tell, ended: Ended, now: int) -> None:
    """A rollout has ended."""
    tell(records, ended, now)


# --- the loop -------------------------------------------------------------------------------------


class Updates:
    """Carries matters between the firmware part and the owners."""

    def __init__(
        self,
        desk: UpdateDesk,
        database: Database,
        clock: Clock,
        policy: Policy,
        tell: Tell = lambda records, ended, now: None,
    ) -> None:
        """`tell` queues what the operator is told of a rollout that has ended, once however often it is
        called."""
        self._tell = tell
        self._desk = desk
        self._database = database
        self._clock = clock
        self._policy = policy

    async def run(self) -> None:
        """Until cancelled. It looks every few real seconds: what devices report comes from another store,
        and a played clock must not stop for that."""
        feed = self._database.watch("device")
        try:
            await self.register(await self._database.read(all_devices))
            while True:
                await self.step()
                told = feed.take()
                if any(subject == ANYTHING for subject, _ in told):
                    await self.changed(set())
                elif told:
                    await self.changed({key for _, key in told})
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(feed.event().wait(), EVERY_S)
        finally:
            feed.close()

    async def changed(self, devices: set[str]) -> None:
        """Products were registered, changed, or have other owners; empty: nobody knows which."""
        found = await self._database.read(
            lambda r: [d for d in map(r.devices.find, devices) if d] if devices else all_devices(r)
        )
        await self.register(found)
        await self._desk.ask_again([device.id for device in found])

    async def register(self, devices: Sequence[Device]) -> None:
        """The firmware part knows of these products."""
        products = [
            Product(
                id=device.id,
                kind=device.kind,
                model=device.model,
                firmware=device.firmware,
                owned=device.owner is not None,
            )
            for device in devices
        ]
        for start in range(0, len(products), 1_000):
            await self._desk.register(products[start : start + 1_000])

    async def step(self) -> None:
        """Everything that is due, once."""
        for update in await self._desk.asked(AT_ONCE):
            await self._database.write(self._work(ask, update))
            await self._desk.told(update.action)
        for update in await self._desk.said_yes(AT_ONCE):
            await self._database.write(self._work(settle_yes, update))
            await self._desk.settled(update.action)
        await self._look()
        for update in await self._desk.ended(AT_ONCE):
            await self._database.write(self._work(close, update))
            await self._desk.closed(update.action)
        for rollout in await self._desk.ended_rollouts():
            log.warning("rollout_ended", rollout=rollout.rollout, state=rollout.state, reason=rollout.reason)
            await self._database.write(
                partial(tell_operator, tell=self._tell, ended=rollout, now=self._clock.now())
            )
            await self._desk.rollout_told(rollout.rollout)

    def _work(self, work: Any, update: Waiting) -> Any:
        return partial(work, update=update, now=self._clock.now(), policy=self._policy)

    async def _look(self) -> None:
        """All whose time has come, some at a time: hold them while something speaks against it."""
        now, after = self._clock.now(), 0
        while found := await self._desk.due(now, after, LOOKED_AT):
            after = found[-1].action
            held = await self._database.read(
                partial(_against, devices=[one.device for one in found], now=now)
            )
            for update, why in zip(found, held, strict=True):
                await self._due(update, why, now)

    async def _due(self, update: Waiting, held: str | None, now: int) -> None:
        """Its time has come; a time that has gone by comes again a day later; what is forced needs no yes."""
        window = None if update.begin is None or update.end is None else (update.begin, update.end)
        if update.state == "waiting":
            with contextlib.suppress(ConflictError, NotFoundError):  # stopped in this moment
                await self._desk.agree(update.action, None, held, forced=True)
            return
        while window is not None and window[1] <= now:
            window = window[0] + DAY_MS, window[1] + DAY_MS
        if (held, window and window[0]) != (update.held, update.begin):
            await self._desk.hold(update.action, held, window)


def _against(records: Records, devices: Sequence[str], now: int) -> list[str | None]:
    return [speaks_against(records, device, now) for device in devices]
