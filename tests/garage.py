"""A small world for tests of deciding, booking and delivering: an owner, her car and washer, a workshop.

Everything is real but the time: a SqlDatabase in a folder of the test's own, and a played clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from prepared_store import put_store

import config
from gateway.adapters.clock import VirtualClock
from gateway.adapters.database import SqlDatabase
from gateway.domain.appointment import Appointment, AppointmentState, Service, Workshop
from gateway.domain.delivery import Delivery, DeliveryState
from gateway.domain.device import Device, Facts
from gateway.domain.ids import derived_id, new_id
from gateway.domain.owner import Consent, Owner, Preferences, PushSubscription
from gateway.domain.policy import Policy, RuleInfo
from gateway.domain.texts import Texts
from gateway.domain.touchpoint import Answer, Finding, LedgerLine, Touchpoint
from gateway.domain.wording import ledger_story
from gateway.flow import decide, respond, returning
from gateway.ports import Records
from rules import Catalogue, ClearReason

T = TypeVar("T")

BERLIN = "Europe/Berlin"
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def at(text: str) -> int:
    """ "2026-11-22T23:10+01:00" as UTC milliseconds."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)


SUNDAY_NIGHT = at("2026-11-22T23:08+01:00")
MONDAY_MORNING = at("2026-11-23T09:00+01:00")

TEXTS = Texts({language: config.messages(language) for language in ("en", "de")})
SIGNALS = Catalogue.parse(
    [
        (path.name, path.read_text(encoding="utf-8"))
        for path in sorted(config.data_path("signals").glob("*.yaml"))
    ]
)


def rule(rule_id: str = "brake-pads-front-worn", **changes: Any) -> RuleInfo:
    """The rule for front brake pads, or one made from it."""
    plain: dict[str, Any] = {
        "id": rule_id,
        "version": 3,
        "kind": "car",
        "purpose": "maintenance",
        "severity": "advice",
        "touchpoint_kind": "appointment",
        "service": "brakes-front",
        "expires_ms": 14 * DAY,
        "resets": ("pad_wear_front",),
        "signals": ("pad_wear_front",),
        "limit": 90.0,
    }
    return RuleInfo(**(plain | changes))


RULES = {
    info.id: info
    for info in (
        rule(),
        rule(
            "brake-pads-rear-worn",
            service="brakes-rear",
            resets=("pad_wear_rear",),
            signals=("pad_wear_rear",),
        ),
        rule("coolant-too-hot", severity="critical", purpose="safety", while_driving=True, resets=()),
        rule("water-in-base", kind="washing_machine", severity="critical", purpose="safety", resets=()),
        rule(
            "descale-due",
            kind="washing_machine",
            purpose="usage",
            touchpoint_kind="reminder",
            service="descale",
            resets=("washes_since_descale",),
            signals=("washes_since_descale",),
        ),
        rule("tried-out", shadow=True),
        rule(
            "oil-low",
            touchpoint_kind="hint",
            service=None,
            resets=(),
            signals=("oil_level",),
        ),
    )
}

BRAKES = Service(
    id="brakes-front",
    names={"en": "Front brakes", "de": "Bremsen vorn"},
    minutes=60,
    price_from=180,
    price_to=220,
    lead_days=1,
)
NORD = Workshop(
    id="nord",
    name="Autohaus Nord",
    bays=("Bay 1",),
    hours=dict.fromkeys(("mon", "tue", "wed", "thu", "fri"), (("08:00", "18:30"),)),
    services=(BRAKES, replace(BRAKES, id="brakes-rear")),
)
JANA = Owner(id="jana", name="Jana Keller", language="en", time_zone=BERLIN)
CAR = Device(
    id="car", kind="car", name="Arden 5", plate="HH-JK 482", owner="jana", workshop="nord", firmware="12.4.0"
)
WASHER = Device(id="washer", kind="washing_machine", name="WashMate 7", owner="jana")


@dataclass
class World:
    """The database, the clock, and what tests say and ask."""

    database: SqlDatabase
    clock: VirtualClock
    policy: Policy = field(default_factory=lambda: Policy(rules=RULES))
    episodes: int = 0

    @property
    def now(self) -> int:
        return self.clock.now()

    def go_to(self, when: str | int) -> None:
        """Let time pass until then."""
        self.clock.advance(at(when) if isinstance(when, str) else when)

    async def write(self, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """`work(records, …)` in one transaction."""
        return await self.database.write(lambda records: work(records, *arguments, **named))

    async def read(self, work: Callable[[Records], T]) -> T:
        return await self.database.read(work)

    # --- what happens ---

    async def found(
        self,
        rule_id: str = "brake-pads-front-worn",
        device: str = "car",
        owner: str | None = "jana",
        **changes: Any,
    ) -> str:
        """A rule becomes true for a device; gives the outcome of the decision."""
        self.clock.advance(self.now + (1 if self.episodes else 0))  # ids sort by the millisecond
        self.episodes += 1
        info = self.policy.rules.get(rule_id)
        plain: dict[str, Any] = {
            "id": derived_id(device, rule_id, self.episodes),
            "device": device,
            "rule": rule_id,
            "version": 3,
            "severity": info.severity if info else "advice",
            "position": self.episodes,
            "began_ts": self.now,
            "found_at": self.now,
            "evidence": {"pad_wear_front": 95, "ts": self.now},
        }
        finding = Finding(**(plain | changes))

        def work(records: Records) -> str:
            assert records.touchpoints.add_finding(finding)
            return decide.decide(records, finding, owner, self.now, self.policy)

        return await self.database.write(work)

    async def cleared(self, reason: ClearReason = "condition") -> None:
        """The newest finding is no longer true."""

        def work(records: Records) -> None:
            finding = records.touchpoints.findings(limit=1)[0]
            records.touchpoints.clear_finding(finding.id, self.now)
            decide.cleared(records, finding.id, self.now, self.policy, reason)

        await self.database.write(work)

    async def drives(self, device: str = "car") -> None:
        await self._moves(device, moving=True)

    async def parks(self, device: str = "car") -> None:
        await self._moves(device, moving=False)
        await self.write(decide.device_parked, device, self.now, self.policy)

    async def _moves(self, device: str, *, moving: bool) -> None:
        facts = Facts(
            device=device,
            last_seen=self.now,
            moving=moving,
            moving_since=self.now,
            latest={"odometer": (self.now, 48_210), "dtc": (self.now, ("C0040", "P0562"))},
        )
        await self.write(lambda records: records.devices.put_facts([facts]))

    async def reports(self, device: str = "car") -> None:
        """Still where it was, still driving or not."""

        def work(records: Records) -> None:
            facts = records.devices.facts(device)
            records.devices.put_facts([replace(facts, last_seen=self.now)])

        await self.write(work)

    async def wishes(self, **preferences: Any) -> None:
        await self.write(lambda records: records.owners.prefer("jana", Preferences(**preferences)))

    async def agrees(self, purpose: str, *, granted: bool = True) -> None:
        entry = Consent(owner="jana", purpose=purpose, granted=granted, at=self.now, source="owner")
        await self.write(lambda records: records.owners.consent(entry))

    async def subscribes(self, subscription_id: str = "phone", **keys: str) -> None:
        keys = {"endpoint": f"https://push.example/{subscription_id}", "p256dh": "x", "auth": "y"} | keys
        subscription = PushSubscription(
            id=subscription_id, owner="jana", label="Phone", created=self.now, **keys
        )
        await self.write(lambda records: records.owners.subscribe(subscription))

    async def timers(self) -> int:
        """What is due is settled."""
        return len(await self.write(returning.settle_due, self.now, self.policy))

    async def answers(self, action: str, *, slot: str | None = None, channel: str = "page") -> Touchpoint:
        """The owner answers the newest touchpoint."""
        touchpoint = await self.touchpoint()
        chosen = Answer(action=action, slot=slot, channel=channel, at=self.now, by="jana")
        return await self.write(respond.answer, touchpoint.id, chosen, self.now, self.policy)

    async def takes(self, when: str, *, bay: str = "Bay 1", minutes: int = 60) -> None:
        """Somebody else has a time at the workshop."""
        start = at(when)
        entry = Appointment(
            id=new_id(self.now),
            workshop="nord",
            service="",
            bay=bay,
            start=start,
            end=start + minutes * MINUTE,
            state=AppointmentState.CONFIRMED,
            created=self.now,
            label="Inspection",
        )
        await self.write(lambda records: records.workshops.book(entry))

    # --- what can be seen ---

    async def touchpoints(self) -> list[Touchpoint]:
        """Newest first."""
        return await self.read(lambda records: records.touchpoints.page())

    async def touchpoint(self) -> Touchpoint:
        return (await self.touchpoints())[0]

    async def lines(self, touchpoint: str | None = None) -> list[LedgerLine]:
        """The ledger, oldest first."""
        lines = await self.read(lambda records: records.touchpoints.ledger(touchpoint=touchpoint))
        return list(reversed(lines))

    async def codes(self) -> list[str]:
        return [line.code for line in await self.lines()]

    async def story(self, language: str = "en") -> list[str]:
        """The ledger as the owner reads it, with plain spaces."""
        told = ledger_story(await self.lines(), TEXTS, language, BERLIN, SIGNALS)
        return [sentence.replace("\u00a0", " ") for _, sentence in told]

    async def queued(self, channel: str, *states: DeliveryState) -> list[Delivery]:
        """Outbox rows of a channel, oldest first; pending ones unless other states are asked for."""
        wanted = states or (DeliveryState.PENDING,)
        rows = await self.read(lambda records: records.outbox.page(states=wanted))
        return [row for row in reversed(rows) if row.channel == channel]


@asynccontextmanager
async def open_world(folder: Path, start: int = MONDAY_MORNING) -> AsyncIterator[World]:
    """Jana, who agreed to maintenance, safety and usage messages, her products, and the workshop."""
    clock = VirtualClock(start)
    await put_store(folder / "domain.db")
    database = SqlDatabase(f"sqlite:///{folder / 'domain.db'}", now=clock.now)

    def populate(records: Records) -> None:
        records.workshops.add(NORD)
        records.owners.add(JANA)
        for device in (CAR, WASHER):
            records.devices.add(device)
        for purpose in ("maintenance", "safety", "usage"):
            records.owners.consent(
                Consent(owner="jana", purpose=purpose, granted=True, at=start - DAY, source="owner")
            )

    try:
        await database.write(populate)
        yield World(database, clock)
    finally:
        await database.close()
