"""A gateway's web part over real stores in a temporary folder, at a time that stands still."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from prepared_store import put_store

import config
from gateway.adapters.clock import VirtualClock
from gateway.adapters.codecs import make_decoder
from gateway.adapters.database import SqlDatabase
from gateway.adapters.journal import SqliteJournal
from gateway.adapters.rule_state import SqliteRuleState
from gateway.adapters.timeseries_embedded import EmbeddedTimeSeries
from gateway.domain.access import Role, Token, issue_token
from gateway.domain.accounts import Claimed, Rank, Way
from gateway.domain.appointment import ExtraWork, Service, Workshop
from gateway.domain.counters import Counters
from gateway.domain.device import Device
from gateway.domain.messages import Batch
from gateway.domain.owner import Consent, Owner
from gateway.domain.policy import Policy, RuleInfo
from gateway.domain.rule_sets import Sources
from gateway.domain.texts import Texts
from gateway.domain.touchpoint import Finding, Touchpoint
from gateway.flow import accounts, decide
from gateway.flow.cases import open_case
from gateway.flow.rule_sets import Reloader, RulesInForce
from gateway.ports import Records
from gateway.web.context import Context
from gateway.web.server import make_app
from rules import Catalogue, RuleSet
from rules.readings import Value

T = TypeVar("T")

HOUR = 3_600_000
DAY = 24 * HOUR
NOW = 1_795_420_800_000
"""Monday, 23 November 2026, 8:00 UTC, 9:00 in Berlin: nobody sleeps, nobody drives."""

ALL_DAY = (("00:00", "23:59"),)
PADS = RuleInfo(
    id="brake-pads-front-worn",
    version=3,
    kind="car",
    purpose="maintenance",
    severity="advice",
    touchpoint_kind="appointment",
    service="brakes-front",
    expires_ms=14 * DAY,
    resets=("pad_wear_front",),
    signals=("pad_wear_front",),
    limit=80.0,
    condition="pad_wear_front >= 80",
)
NORTH = Workshop(
    id="north",
    name="Autohaus Nord",
    hours=dict.fromkeys(("mon", "tue", "wed", "thu", "fri"), (("08:00", "18:00"),)),
    services=(Service(id="brakes-front", names={"en": "Front brakes"}, minutes=90),),
)


@dataclass(kw_only=True)
class Answered:
    """What the API answered."""

    status: int
    body: Any
    headers: Mapping[str, str]


@dataclass(kw_only=True)
class Lab:
    """The application, its client, and short ways to what tests need."""

    context: Context
    app: web.Application
    client: TestClient[web.Request, web.Application]
    clock: VirtualClock
    database: SqlDatabase
    journal: SqliteJournal
    series: EmbeddedTimeSeries
    announced: list[list[Mapping[str, Any]]] = field(default_factory=list)

    async def token(self, role: Role, subject: str | None = None, *, ttl_ms: int = DAY) -> tuple[Token, str]:
        """A token that is stored, and its secret."""
        token, secret = issue_token(role, subject, ttl_ms=ttl_ms, now=self.clock.now(), random=os.urandom)
        await self.database.write(lambda r: r.tokens.add(token))
        return token, secret

    async def caller(self, role: Role = Role.OPERATOR, subject: str | None = None) -> Caller:
        """Somebody who calls the API with a token of their own."""
        _, secret = await self.token(role, subject)
        return Caller(self.client, {"Authorization": f"Bearer {secret}"})

    async def signed_in(self, name: str) -> Caller:
        """Somebody of after-sales who has signed in, as their browser calls the API."""

        def work(records: Records) -> str:
            said = Claimed(
                name=f"sso:https://id.example.com {name}",
                called=name,
                role=Role.OPERATOR,
                subject=None,
                rank=Rank.STAFF,
            )
            account, now = accounts.of_provider(records, said, self.clock.now()), self.clock.now()
            return accounts.open_session(records, account, Way.SSO, now, browser="Firefox")[1]

        return Caller(self.client, {"Authorization": f"Bearer {await self.write(work)}"})

    async def write(self, work: Callable[[Records], T]) -> T:
        return await self.database.write(work)

    async def read(self, work: Callable[[Records], T]) -> T:
        return await self.database.read(work)

    # --- the cast

    async def owner(self, owner_id: str, *devices: str, workshop: str | None = None) -> Owner:
        """An owner who agreed to maintenance contacts, with cars bought a year ago."""
        owner = Owner(
            id=owner_id,
            name=owner_id.title(),
            language="de",
            created=NOW - 400 * DAY,
            address="Hafenstraße 1",
        )

        def work(records: Records) -> None:
            records.owners.add(owner)
            records.owners.consent(
                Consent(owner=owner_id, purpose="maintenance", granted=True, at=NOW - DAY, source="owner")
            )
            for device in devices:
                records.devices.add(
                    Device(
                        id=device,
                        kind="car",
                        model="Arden 5",
                        plate="HH-T 1",
                        owner=owner_id,
                        workshop=workshop,
                        created=NOW - 365 * DAY,
                    )
                )

        await self.write(work)
        return owner

    async def workshop(self, workshop: Workshop = NORTH) -> Workshop:
        await self.write(lambda r: r.workshops.add(workshop))
        return workshop

    async def measured(self, device: str, signal: str, *readings: tuple[int, Value]) -> None:
        """Readings that arrived and were recorded."""
        payload = json.dumps([{"ts": ts, "signals": {signal: value}} for ts, value in readings]).encode()
        message = (f"touchpoint/v1/{device}/telemetry", payload)
        batch = Batch(first=1, received=self.clock.now(), messages=[message], decoder=make_decoder({}))
        gathering = self.series.gather(lambda _: ("car", ""))
        gathering.add(batch)
        await gathering.write(1)

    async def worn_pads(self, device: str, owner: str) -> Touchpoint:
        """The pads of a car have reached their limit, and its owner was told."""
        now, policy = self.clock.now(), self.context.policy
        finding = Finding(
            id=f"finding-{device}-{now}",
            device=device,
            rule=PADS.id,
            version=PADS.version,
            severity=PADS.severity,
            position=1,
            began_ts=now - HOUR,
            found_at=now,
            evidence={"pad_wear_front": 81.0},
        )

        def work(records: Records) -> Touchpoint:
            records.touchpoints.add_finding(finding)
            decide.decide(records, finding, owner, now, policy)
            return records.touchpoints.page(finding=finding.id)[0]

        return await self.write(work)


@dataclass(frozen=True)
class Caller:
    """Calls the API."""

    client: TestClient[web.Request, web.Application]
    headers: Mapping[str, str]

    async def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answered:
        """`path` behind /api/v1/; header names with _ for -."""
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        options: dict[str, Any] = {} if body is None else {"json": body}
        async with self.client.request(
            method, f"/api/v1/{path}", headers={**self.headers, **extra}, **options
        ) as response:
            return await answered(response)

    async def get(self, path: str) -> Any:
        """The body of what must be there."""
        found = await self("GET", path)
        assert found.status == 200, found
        return found.body

    async def all(self, path: str) -> list[Any]:
        """Every item of a list, following its cursors."""
        items: list[Any] = []
        join, cursor = "&" if "?" in path else "?", ""
        while True:
            body = await self.get(f"{path}{cursor}")
            items += body["items"]
            if body["next"] is None:
                return items
            cursor = f"{join}cursor={body['next']}"


async def answered(response: ClientResponse) -> Answered:
    body = (
        await response.json(content_type=None)
        if "json" in response.content_type
        else await response.text(errors="replace")
    )
    return Answered(status=response.status, body=body, headers=response.headers)


def signal_files() -> tuple[tuple[str, str], ...]:
    """(file, text) of the shipped signals."""
    folder = config.data_path("signals")
    return tuple((str(path), path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.yaml")))


def catalogue() -> Catalogue:
    """The shipped signals."""
    return Catalogue.parse(signal_files())


@contextlib.asynccontextmanager
async def web_lab(folder: Path, **changes: Any) -> AsyncIterator[Lab]:
    """Everything open; `changes` replace parts of the context."""
    clock = VirtualClock(NOW)
    await put_store(folder / "domain.db")
    database = SqlDatabase(f"sqlite:///{folder}/domain.db", now=clock.now)
    announced: list[list[Mapping[str, Any]]] = []

    async def announce() -> None:
        def work(records: Records) -> list[Mapping[str, Any]]:
            due = records.outbox.claim(clock.now(), lease_ms=1_000, limit=100, channels=["journal"])
            return [delivery.payload for delivery in due]

        announced.append(await database.write(work))

    async with SqliteJournal(folder / "journal.db", readers=["record", "assess", "respond"]) as journal:
        series = EmbeddedTimeSeries(folder / "timeseries.db")
        await series.prepare()
        state = SqliteRuleState(folder / "state.db")
        signals = catalogue()
        reloader = Reloader(
            read=lambda: Sources(signals=signal_files(), rules=()),
            database=database,
            clock=clock,
            announce=announce,
        )
        context = Context(
            **{
                "clock": clock,
                "database": database,
                "timeseries": series,
                "journal": journal,
                "texts": Texts({"en": {}, "de": {}}),
                "policy": Policy(rules={PADS.id: PADS}),
                "signals": signals,
                "in_force": RulesInForce("none", RuleSet({}, signals)),
                "state": state,
                "reloader": reloader,
                "counters": Counters(),
                "public_url": "http://127.0.0.1",
                "kind_of": lambda device: "car" if device.startswith("car-") else None,
                "announce": announce,
                **changes,
            }
        )
        app = make_app(context)
        async with TestClient(TestServer(app)) as client:
            yield Lab(
                context=context,
                app=app,
                client=client,
                clock=clock,
                database=database,
                journal=journal,
                series=series,
                announced=announced,
            )
        await state.close()
        await series.close()
        await database.close()


# --- one cast for every route ---------------------------------------------------------------------

TINY_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""One pixel."""

BODIES: Mapping[str, Any] = {
    "PUT /owners/{owner_id}/consents/{purpose}": {"granted": True},
    "PUT /owners/{owner_id}/preferences": {},
    "POST /owners/{owner_id}/subscriptions": {
        "endpoint": "https://push.example/x",
        "keys": {"p256dh": "B" * 87, "auth": "a" * 22},
    },
    "PUT /devices/{device_id}/owner": {"owner": None},
    "PUT /devices/{device_id}/people/{person_id}": {"role": "member"},
    "POST /devices/{device_id}/invitations": {"name": "Tom"},
    "POST /owners/{owner_id}/claims": {"code": "BCDF-GHJK"},
    "PUT /workshops/{workshop_id}/calendar": {},
    "PUT /workshops/{workshop_id}": {
        "name": "Mine now",
        "services": [{"id": "brakes-front", "names": {"en": "Brakes"}, "minutes": 60}],
    },
    "POST /touchpoints/{touchpoint_id}/answer": {"action": "noted"},
    "POST /touchpoints/{touchpoint_id}/return": {"until": "tomorrow"},
    "POST /devices/{device_id}/reports": {"text": "It squeals."},
    "POST /appointments/{appointment_id}/photos": {"photo": TINY_PNG},
    "POST /appointments/{appointment_id}/counter": {"starts": ["2026-11-26T09:00:00Z"]},
    "POST /appointments/{appointment_id}/reschedule": {"slot": "north@1"},
    "POST /appointments/{appointment_id}/decline": {},
    "POST /appointments/{appointment_id}/accept": {"start": "2026-11-26T09:00:00Z"},
    "POST /appointments/{appointment_id}/take-offer": {"start": "2026-11-26T09:00:00Z"},
    "POST /appointments/{appointment_id}/wish": {"starts": ["2026-11-26T09:00:00Z"]},
    "POST /appointments/{appointment_id}/stay": {"stay": "waits"},
    "POST /appointments/{appointment_id}/progress": {"step": "in_work"},
    "POST /appointments/{appointment_id}/extra-work": {"reason": "Discs", "price": 240},
    "POST /extra-work/{extra_id}/answer": {"approve": True},
    "POST /touchpoints/{touchpoint_id}/wish": {"starts": ["2026-11-26T09:00:00Z"]},
    "PUT /workshops/{workshop_id}/busy": {"source": "crm", "times": []},
    "POST /workshops/{workshop_id}/walk-ins": {"service": "brakes-front"},
    "POST /appointments/{appointment_id}/done": {},
    "POST /feedback/{feedback_id}": {"score": 1},
    "POST /touchpoints/{touchpoint_id}/conversation": {"text": "Hello."},
    "POST /touchpoints/{touchpoint_id}/conversation/callback": {"phone": "1"},
    "POST /touchpoints/{touchpoint_id}/conversation/verify": {"asked": ["plate", "address"]},
    "POST /touchpoints/{touchpoint_id}/conversation/answer": {"action": "noted"},
    "PUT /desk": {"here": True},
    "POST /cases/{case_id}/note": {"text": "Seen."},
    "POST /cases/{case_id}/answer": {"text": "We look at it."},
    "POST /cases/{case_id}/close": {"outcome": "Mended."},
    "POST /cases/{case_id}/give": {"responsible": "ben"},
}
"""What a request to somebody else's object carries, so that nothing but the right can refuse it."""


def filled(path: str, values: Mapping[str, str] | None = None) -> str:
    """A route's path with something in its places."""
    return re.sub(r"\{(\w+)\}", lambda found: (values or {}).get(found[1], "7"), path)


async def cast(lab: Lab) -> dict[str, str]:
    """Jana with her car, a booked visit at north and a question; Max and the workshop south have none."""
    await lab.workshop()
    await lab.workshop(Workshop(id="south", name="Süd"))
    await lab.owner("jana", "car-1", "car-2", workshop="north")
    await lab.owner("max")
    jana, north = await lab.caller(Role.OWNER, "jana"), await lab.caller(Role.WORKSHOP, "north")
    matter = await lab.worn_pads("car-1", "jana")
    await jana("POST", f"touchpoints/{matter.id}/answer", {"action": "book", "slot": matter.slots[0].id})
    [visit] = await north.all("appointments")
    await north("POST", f"appointments/{visit['id']}/done", {})
    [question] = await jana.all("feedback")
    extra = ExtraWork(
        id="extra-1",
        appointment=visit["id"],
        owner="jana",
        reason="Discs",
        price=240,
        asked_at=NOW,
        answer_by=NOW + HOUR,
    )
    await lab.database.write(lambda records: records.workshops.ask_extra(extra))
    about = {"owner": "jana", "device": "car-1", "touchpoint": matter.id, "workshop": "north"}
    case = await lab.database.write(
        lambda records: open_case(records, kind="complaint", now=NOW, **about)  # type: ignore[arg-type]
    )
    subscription = await jana(
        "POST", "owners/jana/subscriptions", BODIES["POST /owners/{owner_id}/subscriptions"]
    )
    await lab.owner("lisa")
    operator = await lab.caller()
    await operator("PUT", "devices/car-1/people/lisa", {"role": "member"})
    invitation = await jana("POST", "devices/car-1/invitations", {"name": "Tom"})
    hook = await north("POST", "webhooks", {"url": "https://hooks.example/north"})
    return {
        "webhook_id": hook.body["id"],
        "person_id": "lisa",
        "invitation_id": invitation.body["id"],
        "owner_id": "jana",
        "purpose": "maintenance",
        "device_id": "car-1",
        "workshop_id": "north",
        "touchpoint_id": matter.id,
        "appointment_id": visit["id"],
        "feedback_id": question["id"],
        "case_id": case.id,
        "extra_id": extra.id,
        "subscription_id": subscription.body["id"],
    }
