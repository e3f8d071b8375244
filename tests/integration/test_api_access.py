"""Roles × routes × objects, taken from the route table: a new route without an entry here fails."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from web_lab import Lab, web_lab

from gateway.domain.access import Role
from gateway.domain.appointment import Workshop
from gateway.ports import Records
from gateway.web.access import EVERYONE, PAGE_ROLES, marked_routes

O, W, S = (Role.OWNER,), (Role.WORKSHOP,), (Role.OPERATOR, Role.INTEGRATION)  # noqa: E741 - a table of letters
API = "/api/v1"

ROUTES: Mapping[tuple[str, str], tuple[Role, ...]] = {
    # everybody
    ("GET", "/health/live"): (),
    ("GET", "/health/ready"): (),
    ("GET", "/metrics"): (),
    ("GET", "/static/{path}"): (),
    ("GET", "/sign-in"): (),
    ("POST", "/sign-in"): (),
    ("POST", "/sign-out"): (),
    ("POST", "/enter"): (),
    ("GET", f"{API}/openapi.json"): (),
    ("GET", f"{API}/docs"): (),
    # owners
    ("GET", f"{API}/owners"): S,
    ("POST", f"{API}/owners"): S,
    ("GET", f"{API}/owners/{{owner_id}}"): O + S,
    ("GET", f"{API}/owners/{{owner_id}}/consents/{{purpose}}"): O + S,
    ("PUT", f"{API}/owners/{{owner_id}}/consents/{{purpose}}"): O + S,
    ("GET", f"{API}/owners/{{owner_id}}/preferences"): O + S,
    ("PUT", f"{API}/owners/{{owner_id}}/preferences"): O + S,
    ("GET", f"{API}/owners/{{owner_id}}/ledger"): O + S,
    ("GET", f"{API}/owners/{{owner_id}}/subscriptions"): O + S,
    ("POST", f"{API}/owners/{{owner_id}}/subscriptions"): O + S,
    ("DELETE", f"{API}/owners/{{owner_id}}/subscriptions/{{subscription_id}}"): O + S,
    # devices
    ("GET", f"{API}/devices"): O + S,
    ("POST", f"{API}/devices"): S,
    ("GET", f"{API}/devices/{{device_id}}"): O + S,
    ("PUT", f"{API}/devices/{{device_id}}/owner"): S,
    ("GET", f"{API}/devices/{{device_id}}/readings"): O + S,
    # workshops
    ("GET", f"{API}/workshops"): O + W + S,
    ("POST", f"{API}/workshops"): S,
    ("GET", f"{API}/workshops/{{workshop_id}}"): O + W + S,
    ("PUT", f"{API}/workshops/{{workshop_id}}"): W + S,
    ("GET", f"{API}/workshops/{{workshop_id}}/slots"): O + W + S,
    # touchpoints
    ("GET", f"{API}/touchpoints"): O + S,
    ("GET", f"{API}/touchpoints/{{touchpoint_id}}"): O + S,
    ("POST", f"{API}/touchpoints/{{touchpoint_id}}/answer"): O + S,
    ("POST", f"{API}/touchpoints/{{touchpoint_id}}/hold"): O + S,
    # appointments
    ("GET", f"{API}/appointments"): O + W + S,
    ("GET", f"{API}/appointments/{{appointment_id}}"): O + W + S,
    ("POST", f"{API}/appointments/{{appointment_id}}/confirm"): W + S,
    ("POST", f"{API}/appointments/{{appointment_id}}/counter"): W + S,
    ("POST", f"{API}/appointments/{{appointment_id}}/reschedule"): O + S,
    ("POST", f"{API}/appointments/{{appointment_id}}/cancel"): O + W + S,
    ("POST", f"{API}/appointments/{{appointment_id}}/done"): W + S,
    ("POST", f"{API}/appointments/{{appointment_id}}/no-show"): W + S,
    # afterwards and operating
    ("GET", f"{API}/feedback"): O + S,
    ("POST", f"{API}/feedback/{{feedback_id}}"): O + S,
    ("GET", f"{API}/analytics/feedback"): S,
    ("GET", f"{API}/analytics/funnel"): S,
    ("GET", f"{API}/rules"): S,
    ("GET", f"{API}/rules/{{rule_id}}"): S,
    ("GET", f"{API}/quarantine"): S,
    ("GET", f"{API}/quarantine/{{position}}"): S,
    ("POST", f"{API}/quarantine/replay"): S,
    ("GET", f"{API}/outbox"): S,
    ("GET", f"{API}/outbox/{{delivery_id}}"): S,
    ("POST", f"{API}/outbox/{{delivery_id}}/retry"): S,
    ("GET", f"{API}/journal"): S,
}

BODIES: Mapping[str, Any] = {
    "PUT /owners/{owner_id}/consents/{purpose}": {"granted": True},
    "PUT /owners/{owner_id}/preferences": {},
    "POST /owners/{owner_id}/subscriptions": {
        "endpoint": "https://push.example/x",
        "keys": {"p256dh": "B" * 87, "auth": "a" * 22},
    },
    "PUT /devices/{device_id}/owner": {"owner": None},
    "PUT /workshops/{workshop_id}": {"name": "Mine now"},
    "POST /touchpoints/{touchpoint_id}/answer": {"action": "noted"},
    "POST /appointments/{appointment_id}/counter": {"starts": ["2026-11-26T09:00:00Z"]},
    "POST /appointments/{appointment_id}/reschedule": {"slot": "north@1"},
    "POST /appointments/{appointment_id}/done": {},
    "POST /feedback/{feedback_id}": {"score": 1},
}
"""What a request to somebody else's object carries, so that nothing but the right can refuse it."""

FOR_ALL = {
    "GET /workshops/{workshop_id}": "an owner chooses among all workshops",
    "GET /workshops/{workshop_id}/slots": "an owner chooses among all workshops",
}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with web_lab(tmp_path) as opened:
        yield opened


def test_every_route_has_its_entry(lab: Lab) -> None:
    routes = {key: marks for key, marks in marked_routes(lab.app).items() if key[0] != "HEAD"}
    assert {key: set(marks) for key, marks in routes.items()} == {k: set(v) for k, v in expected(lab).items()}


def expected(lab: Lab) -> dict[tuple[str, str], tuple[Role, ...]]:
    """The table, with the pages: whose they are stands in their address."""
    return {**ROUTES, **{key: pages_of(key[1]) for key in marked_routes(lab.app) if is_page(key)}}


def is_page(key: tuple[str, str]) -> bool:
    return key[0] != "HEAD" and key not in ROUTES and not key[1].startswith(API)


def pages_of(path: str) -> tuple[Role, ...]:
    for prefix, role in (("/me", O), ("/workshop", W), ("/operator", (Role.OPERATOR,))):
        if path == prefix or path.startswith(f"{prefix}/"):
            return role
    return {"/events": PAGE_ROLES}.get(path, ())


def filled(path: str, values: Mapping[str, str] | None = None) -> str:
    """A route's path with something in its places."""
    for name in [part[1:-1] for part in path.split("/") if part.startswith("{")]:
        path = path.replace(f"{{{name}}}", (values or {}).get(name, "7"))
    return path


@pytest.mark.parametrize("role", [None, *Role])
async def test_each_role_comes_in_where_the_table_says_and_nowhere_else(lab: Lab, role: Role | None) -> None:
    await cast(lab)
    headers = {}
    if role is not None:
        subject = {Role.OWNER: "jana", Role.WORKSHOP: "north"}.get(role)
        headers = dict((await lab.caller(role, subject)).headers)
    for (method, path), roles in ROUTES.items():
        async with lab.client.request(
            method, filled(path), headers=headers, json={}, allow_redirects=False
        ) as response:
            refused = response.status in (401, 403)
            assert refused is (bool(roles) and role not in roles), (method, path, response.status)
            assert response.status < 500 or path == "/health/ready", (method, path)
            if refused:
                assert response.status == (401 if role is None else 403)


async def test_a_stranger_is_sent_from_a_page_to_sign_in_and_back(lab: Lab) -> None:
    pages = [key for key in marked_routes(lab.app) if is_page(key) and pages_of(key[1])]
    for method, path in pages:
        async with lab.client.request(method, filled(path), allow_redirects=False) as response:
            if path == "/events":
                continue
            assert response.status == 303, (method, path)
            assert response.headers["Location"].startswith("/sign-in?next=%2F")


# --- objects --------------------------------------------------------------------------------------


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
    subscription = await jana(
        "POST", "owners/jana/subscriptions", BODIES["POST /owners/{owner_id}/subscriptions"]
    )
    return {
        "owner_id": "jana",
        "purpose": "maintenance",
        "device_id": "car-1",
        "workshop_id": "north",
        "touchpoint_id": matter.id,
        "appointment_id": visit["id"],
        "feedback_id": question["id"],
        "subscription_id": subscription.body["id"],
    }


def object_routes(role: Role) -> list[tuple[str, str]]:
    """Routes to one object that a role may call."""
    return [
        (method, path.removeprefix(API))
        for (method, path), roles in ROUTES.items()
        if path.startswith(API) and "{" in path and role in roles
    ]


@pytest.mark.parametrize(("role", "stranger"), [(Role.OWNER, "max"), (Role.WORKSHOP, "south")])
async def test_what_is_somebody_elses_is_not_there(lab: Lab, role: Role, stranger: str) -> None:
    objects = await cast(lab)
    before = await everything(lab)
    caller = await lab.caller(role, stranger)
    query = {"/devices/{device_id}/readings": "?signal=speed"}
    for method, path in object_routes(role):
        key = f"{method} {path}"
        if role is Role.OWNER and key in FOR_ALL:
            continue
        slots = "?service=brakes-front" if path.endswith("/slots") else query.get(path, "")
        answer = await caller(method, filled(path, objects)[1:] + slots, BODIES.get(key))
        assert answer.status == 404, (key, answer)
    assert await everything(lab) == before


@pytest.mark.parametrize(("role", "subject"), [(Role.OWNER, "jana"), (Role.WORKSHOP, "north")])
async def test_what_is_ones_own_is_there(lab: Lab, role: Role, subject: str) -> None:
    objects = await cast(lab)
    caller = await lab.caller(role, subject)
    query = {"/devices/{device_id}/readings": "?signal=speed"}
    for method, path in object_routes(role):
        slots = "?service=brakes-front" if path.endswith("/slots") else query.get(path, "")
        answer = await caller(method, filled(path, objects)[1:] + slots, BODIES.get(f"{method} {path}"))
        assert answer.status in (200, 201, 204, 409), (method, path, answer)


async def everything(lab: Lab) -> Any:
    """All that a stranger could have changed."""

    def work(records: Records) -> Any:
        return (
            records.owners.consents("jana"),
            records.owners.preferences("jana"),
            records.owners.subscriptions("jana"),
            records.devices.page(),
            records.workshops.page(),
            records.workshops.appointments(),
            records.touchpoints.page(),
            records.feedback.page(),
        )

    return await lab.read(work)


@pytest.mark.parametrize("path", ["touchpoints", "devices", "feedback", "appointments"])
async def test_lists_hold_ones_own_only_and_do_not_say_what_others_have(lab: Lab, path: str) -> None:
    await cast(lab)
    stranger, jana = await lab.caller(Role.OWNER, "max"), await lab.caller(Role.OWNER, "jana")
    assert await stranger.all(path) == []
    assert await jana.all(path) != []
    assert (await stranger("GET", f"{path}?owner=jana")).status == 404


async def test_a_workshop_lists_its_own_appointments_only(lab: Lab) -> None:
    await cast(lab)
    south = await lab.caller(Role.WORKSHOP, "south")
    assert await south.all("appointments") == []
    assert (await south("GET", "appointments?workshop=north")).status == 404
    assert [w["id"] for w in await south.all("workshops")] == ["south"]


async def test_unclaimed_devices_are_for_after_sales(lab: Lab) -> None:
    await cast(lab)
    assert await (await lab.caller(Role.OWNER, "jana")).all("devices?unclaimed=true") == []


def test_every_role_is_in_the_matrix() -> None:
    assert set(EVERYONE) == set(Role)
