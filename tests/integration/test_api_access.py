"""Roles × routes × objects, taken from the route table: a new route without an entry here fails."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from web_lab import BODIES, Lab, cast, filled, web_lab

from gateway.domain.access import Role
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
    ("GET", f"{API}/openapi.json"): (),
    ("GET", f"{API}/docs"): (),
    # owners
    ("GET", f"{API}/owners"): S,
    ("POST", f"{API}/owners"): S,
    ("PUT", f"{API}/owners/{{owner_id}}"): S,
    ("GET", f"{API}/owners/{{owner_id}}"): O + S,
    ("DELETE", f"{API}/owners/{{owner_id}}"): O + S,
    ("GET", f"{API}/owners/{{owner_id}}/looks"): O + S,
    ("GET", f"{API}/owners/{{owner_id}}/consents"): O + S,
    ("GET", f"{API}/owners/{{owner_id}}/consents/{{purpose}}"): O + S,
    ("PUT", f"{API}/owners/{{owner_id}}/consents/{{purpose}}"): O + S,
    ("GET", f"{API}/owners/{{owner_id}}/preferences"): O + S,
    ("PUT", f"{API}/owners/{{owner_id}}/preferences"): O + S,
    ("GET", f"{API}/owners/{{owner_id}}/ledger"): O + S,
    ("GET", f"{API}/owners/{{owner_id}}/export"): O + S,
    ("GET", f"{API}/owners/{{owner_id}}/subscriptions"): O + S,
    ("POST", f"{API}/owners/{{owner_id}}/subscriptions"): O + S,
    ("DELETE", f"{API}/owners/{{owner_id}}/subscriptions/{{subscription_id}}"): O + S,
    # devices
    ("GET", f"{API}/devices"): O + S,
    ("POST", f"{API}/devices"): S,
    ("GET", f"{API}/devices/{{device_id}}"): O + S,
    ("GET", f"{API}/devices/{{device_id}}/cover"): O + S,
    ("PUT", f"{API}/devices/{{device_id}}/cover"): S,
    ("GET", f"{API}/devices/{{device_id}}/owner"): O + S,
    ("PUT", f"{API}/devices/{{device_id}}/owner"): S,
    ("GET", f"{API}/devices/{{device_id}}/readings"): O + S,
    ("GET", f"{API}/devices/{{device_id}}/people"): O + S,
    ("PUT", f"{API}/devices/{{device_id}}/people/{{person_id}}"): O + S,
    ("DELETE", f"{API}/devices/{{device_id}}/people/{{person_id}}"): O + S,
    ("GET", f"{API}/devices/{{device_id}}/invitations"): O + S,
    ("POST", f"{API}/devices/{{device_id}}/invitations"): O + S,
    ("DELETE", f"{API}/devices/{{device_id}}/invitations/{{invitation_id}}"): O + S,
    ("POST", f"{API}/devices/{{device_id}}/handover"): O + S,
    ("GET", f"{API}/devices/{{device_id}}/handover"): O + S,
    ("DELETE", f"{API}/devices/{{device_id}}/handover"): O + S,
    ("POST", f"{API}/owners/{{owner_id}}/claims"): O + S,
    # workshops
    ("GET", f"{API}/workshops"): O + W + S,
    ("POST", f"{API}/workshops"): S,
    ("GET", f"{API}/workshops/{{workshop_id}}"): O + W + S,
    ("PUT", f"{API}/workshops/{{workshop_id}}"): W + S,
    ("GET", f"{API}/workshops/{{workshop_id}}/slots"): O + W + S,
    ("PUT", f"{API}/workshops/{{workshop_id}}/busy"): W + S,
    ("POST", f"{API}/workshops/{{workshop_id}}/walk-ins"): W + S,
    # calendars and mail
    ("GET", f"{API}/workshops/{{workshop_id}}/calendar"): W + S,
    ("PUT", f"{API}/workshops/{{workshop_id}}/calendar"): W + S,
    ("POST", f"{API}/workshops/{{workshop_id}}/calendar/feed"): W + S,
    ("DELETE", f"{API}/workshops/{{workshop_id}}/calendar/feed"): W + S,
    ("GET", f"{API}/owners/{{owner_id}}/calendar/feed"): O,
    ("POST", f"{API}/owners/{{owner_id}}/calendar/feed"): O,
    ("DELETE", f"{API}/owners/{{owner_id}}/calendar/feed"): O,
    ("GET", f"{API}/mail"): S,
    ("POST", f"{API}/mail"): S,
    ("GET", f"{API}/mail/{{mail_id}}"): S,
    ("POST", f"{API}/mail/{{mail_id}}/seen"): S,
    # touchpoints
    ("GET", f"{API}/touchpoints"): O + S,
    ("POST", f"{API}/touchpoints/{{touchpoint_id}}/wish"): O + S,
    ("GET", f"{API}/touchpoints/{{touchpoint_id}}"): O + S,
    ("POST", f"{API}/touchpoints/{{touchpoint_id}}/answer"): O + S,
    ("POST", f"{API}/touchpoints/{{touchpoint_id}}/hold"): O + S,
    ("POST", f"{API}/touchpoints/{{touchpoint_id}}/return"): O + S,
    ("GET", f"{API}/touchpoints/{{touchpoint_id}}/workshops"): O + S,
    ("GET", f"{API}/devices/{{device_id}}/reports"): O + S,
    ("POST", f"{API}/devices/{{device_id}}/reports"): O + S,
    ("POST", f"{API}/appointments/{{appointment_id}}/photos"): W + S,
    # appointments
    ("GET", f"{API}/appointments"): O + W + S,
    ("GET", f"{API}/appointments/{{appointment_id}}"): O + W + S,
    ("POST", f"{API}/appointments/{{appointment_id}}/confirm"): W + S,
    ("POST", f"{API}/appointments/{{appointment_id}}/counter"): W + S,
    ("POST", f"{API}/appointments/{{appointment_id}}/decline"): W + S,
    ("POST", f"{API}/appointments/{{appointment_id}}/accept"): W + S,
    ("POST", f"{API}/appointments/{{appointment_id}}/take-offer"): O + S,
    ("POST", f"{API}/appointments/{{appointment_id}}/wish"): O + S,
    ("POST", f"{API}/appointments/{{appointment_id}}/stay"): O + S,
    ("POST", f"{API}/appointments/{{appointment_id}}/progress"): W + S,
    ("GET", f"{API}/appointments/{{appointment_id}}/extra-work"): O + W + S,
    ("POST", f"{API}/appointments/{{appointment_id}}/extra-work"): W + S,
    ("POST", f"{API}/extra-work/{{extra_id}}/answer"): O + S,
    ("POST", f"{API}/appointments/{{appointment_id}}/reschedule"): O + S,
    ("POST", f"{API}/appointments/{{appointment_id}}/cancel"): O + W + S,
    ("POST", f"{API}/appointments/{{appointment_id}}/done"): W + S,
    ("POST", f"{API}/appointments/{{appointment_id}}/no-show"): W + S,
    # afterwards and operating
    ("GET", f"{API}/feedback"): O + S,
    ("POST", f"{API}/feedback/{{feedback_id}}"): O + S,
    ("GET", f"{API}/cases"): W + S,
    ("GET", f"{API}/cases/{{case_id}}"): W + S,
    ("POST", f"{API}/cases/{{case_id}}/note"): W + S,
    ("POST", f"{API}/cases/{{case_id}}/answer"): S,
    ("POST", f"{API}/cases/{{case_id}}/close"): S,
    ("POST", f"{API}/cases/{{case_id}}/give"): S,
    ("GET", f"{API}/touchpoints/{{touchpoint_id}}/conversation"): O + S,
    ("POST", f"{API}/touchpoints/{{touchpoint_id}}/conversation"): O + S,
    ("POST", f"{API}/touchpoints/{{touchpoint_id}}/conversation/callback"): O + S,
    ("POST", f"{API}/touchpoints/{{touchpoint_id}}/conversation/code"): O,
    ("POST", f"{API}/touchpoints/{{touchpoint_id}}/conversation/verify"): S,
    ("POST", f"{API}/touchpoints/{{touchpoint_id}}/conversation/answer"): S,
    ("POST", f"{API}/touchpoints/{{touchpoint_id}}/conversation/close"): S,
    ("POST", f"{API}/touchpoints/{{touchpoint_id}}/undo"): O,
    ("GET", f"{API}/desk"): S,
    ("PUT", f"{API}/desk"): S,
    ("GET", f"{API}/events"): S,
    ("POST", f"{API}/events"): S,
    ("GET", f"{API}/analytics/measures"): S,
    ("GET", f"{API}/analytics/feedback"): S,
    ("GET", f"{API}/analytics/clusters"): S,
    ("GET", f"{API}/analytics/journey"): S,
    ("GET", f"{API}/analytics/funnel"): S,
    ("GET", f"{API}/rules"): S,
    ("GET", f"{API}/rules/{{rule_id}}"): S,
    ("GET", f"{API}/rules/{{rule_id}}/explain"): S,
    ("POST", f"{API}/rules/reload"): (Role.OPERATOR,),
    ("GET", f"{API}/firmware/releases"): S,
    ("POST", f"{API}/firmware/releases"): S,
    ("DELETE", f"{API}/firmware/releases/{{release_id}}"): S,
    ("POST", f"{API}/firmware/uploads"): S,
    ("GET", f"{API}/firmware/uploads/{{upload_id}}"): S,
    ("PUT", f"{API}/firmware/uploads/{{upload_id}}/content"): S,
    ("GET", f"{API}/firmware/rollouts"): S,
    ("POST", f"{API}/firmware/rollouts"): S,
    ("POST", f"{API}/firmware/rollouts/dry-run"): S,
    ("GET", f"{API}/firmware/rollouts/{{rollout_id}}"): S,
    ("POST", f"{API}/firmware/rollouts/{{rollout_id}}/start"): S,
    ("POST", f"{API}/firmware/rollouts/{{rollout_id}}/pause"): S,
    ("POST", f"{API}/firmware/rollouts/{{rollout_id}}/resume"): S,
    ("POST", f"{API}/firmware/rollouts/{{rollout_id}}/stop"): S,
    ("GET", f"{API}/firmware/devices/{{device_id}}"): S,
    ("PUT", f"{API}/firmware/devices/{{device_id}}"): S,
    ("POST", f"{API}/firmware/devices/{{device_id}}/token"): S,
    ("POST", f"{API}/firmware/devices/{{device_id}}/actions"): S,
    ("POST", f"{API}/firmware/devices/{{device_id}}/actions/{{action_id}}/cancel"): S,
    ("POST", f"{API}/recalls"): S,
    ("GET", f"{API}/recalls"): S,
    ("GET", f"{API}/recalls/{{recall_id}}"): S,
    ("GET", f"{API}/quarantine"): S,
    ("GET", f"{API}/quarantine/{{position}}"): S,
    ("POST", f"{API}/quarantine/replay"): S,
    ("GET", f"{API}/outbox"): S,
    ("GET", f"{API}/outbox/{{delivery_id}}"): S,
    ("POST", f"{API}/outbox/{{delivery_id}}/retry"): S,
    ("GET", f"{API}/journal"): S,
    # webhooks
    ("GET", f"{API}/webhooks"): W + S,
    ("POST", f"{API}/webhooks"): W + S,
    ("GET", f"{API}/webhooks/{{webhook_id}}"): W + S,
    ("POST", f"{API}/webhooks/{{webhook_id}}/rotate"): W + S,
    ("POST", f"{API}/webhooks/{{webhook_id}}/enable"): W + S,
    ("POST", f"{API}/webhooks/{{webhook_id}}/test"): W + S,
    ("DELETE", f"{API}/webhooks/{{webhook_id}}"): W + S,  # last: there is nothing to turn afterwards
}

D = (Role.OWNER, Role.OPERATOR)
C = (Role.OPERATOR,)

PAGES: Mapping[tuple[str, str], tuple[Role, ...]] = {
    # everybody
    ("GET", "/"): (),
    ("GET", "/sign-in"): (),
    ("POST", "/sign-in"): (),
    ("POST", "/sign-out"): (),
    ("POST", "/sign-in/mail"): (),
    ("GET", "/sign-in/mail/{secret}"): (),
    ("POST", "/sign-in/mail/{secret}"): (),
    ("GET", "/sign-in/invitation/{secret}"): (),
    ("POST", "/sign-in/invitation/{secret}"): (),
    ("GET", "/sign-in/code"): (),
    ("POST", "/sign-in/code"): (),
    ("POST", "/sign-in/passkey/options"): (),
    ("POST", "/sign-in/passkey"): (),
    ("GET", "/sign-in/sso"): (),
    ("GET", "/sign-in/sso/back"): (),
    # how one signs in
    ("GET", "/account"): O + W + C,
    ("POST", "/account/passkeys/options"): O + W + C,
    ("POST", "/account/passkeys"): O + W + C,
    ("POST", "/account/passkeys/{passkey}/remove"): O + W + C,
    ("GET", "/account/password"): W + C,
    ("POST", "/account/password"): W + C,
    ("POST", "/account/password/begin"): W + C,
    ("POST", "/account/password/remove"): W + C,
    ("POST", "/account/sessions/end"): O + W + C,
    ("POST", "/account/sessions/{session}/end"): O + W + C,
    ("GET", "/account/people"): W + C,
    ("POST", "/account/people"): W + C,
    ("POST", "/account/people/{id}/again"): W + C,
    ("POST", "/account/people/{id}/end"): W + C,
    ("POST", "/display/{device}/code"): O,
    ("POST", "/enter"): (),
    ("POST", "/looks"): (),
    ("POST", "/demo/pace"): (),
    ("POST", "/demo/act"): (),
    ("GET", "/events"): (),
    # owner
    ("GET", "/inbox"): O,
    ("GET", "/me"): O,
    ("GET", "/me/ledger"): O,
    ("GET", "/me/export.zip"): O,
    ("GET", "/me/delete"): O,
    ("POST", "/me/delete"): O,
    ("GET", "/deleted"): (),
    ("GET", "/me/you"): O,
    ("GET", "/me/products"): O,
    ("GET", "/me/products/{device}"): O,
    ("GET", "/me/products/{device}/people"): O,
    ("POST", "/me/products/{device}/people/invite"): O,
    ("POST", "/me/products/{device}/people/{person}"): O,
    ("POST", "/me/products/{device}/people/{person}/remove"): O,
    ("POST", "/me/products/{device}/invitations/{id}/end"): O,
    ("GET", "/me/products/{device}/guides/{guide}/{number}"): O,
    ("POST", "/me/touchpoints/{id}/begun"): O,
    ("POST", "/me/notify/later"): O,
    ("POST", "/me/language"): O,
    ("GET", "/me/products/{device}/move"): O,
    ("POST", "/me/products/{device}/move"): O,
    ("POST", "/me/products/{device}/move/end"): O,
    ("POST", "/me/products/{device}/move/gone"): O,
    ("GET", "/claim"): (),
    ("POST", "/claim"): (),
    ("GET", "/join/{secret}"): (),
    ("POST", "/join/{secret}"): (),
    ("POST", "/operator/owners/{id}/reason"): C,
    ("GET", "/me/touchpoints/{id}"): O,
    ("GET", "/me/touchpoints/{id}/talk"): O,
    ("POST", "/me/touchpoints/{id}/talk"): O,
    ("POST", "/me/touchpoints/{id}/talk/callback"): O,
    ("POST", "/me/touchpoints/{id}/talk/undo"): O,
    ("POST", "/display/{device}/talk"): O,
    ("POST", "/me/touchpoints/{id}/talk/code"): O,
    ("GET", "/me/touchpoints/{id}/times"): O,
    ("POST", "/me/touchpoints/{id}/answer"): O,
    ("POST", "/me/touchpoints/{id}/hold"): O,
    ("GET", "/me/visits"): O,
    ("GET", "/me/visits/{id}"): O,
    ("GET", "/me/visits/{id}/times"): O,
    ("GET", "/me/visits/{name}.ics"): O,
    ("POST", "/me/visits/{id}/cancel"): O,
    ("POST", "/me/visits/{id}/move"): O,
    ("POST", "/me/visits/{id}/stay"): O,
    ("POST", "/me/visits/{id}/wish"): O,
    ("POST", "/me/visits/{id}/offer"): O,
    ("GET", "/me/touchpoints/{id}/several"): O,
    ("POST", "/me/touchpoints/{id}/several"): O,
    ("POST", "/me/touchpoints/{id}/wish"): O,
    ("GET", "/me/extra-work/{id}"): O,
    ("POST", "/me/extra-work/{id}/answer"): O,
    ("POST", "/workshop/bookings/{id}/decline"): W,
    ("POST", "/workshop/bookings/{id}/accept"): W,
    ("POST", "/workshop/bookings/{id}/cancel"): W,
    ("POST", "/workshop/bookings/{id}/progress"): W,
    ("POST", "/workshop/bookings/{id}/extra-work"): W,
    ("GET", "/workshop/walk-in"): W,
    ("POST", "/workshop/walk-in"): W,
    ("POST", "/workshop/exceptions"): W,
    ("POST", "/workshop/holidays"): W,
    ("POST", "/workshop/services"): W,
    ("GET", "/me/feedback/{id}"): O,
    ("POST", "/me/feedback/{id}"): O,
    ("POST", "/me/channels/{channel}"): O,
    ("POST", "/me/deliveries/{id}/{outcome}"): O,
    ("POST", "/me/email/again"): O,
    ("GET", "/operator/webhooks"): C,
    ("POST", "/operator/webhooks"): C,
    ("POST", "/operator/webhooks/{id}/{action}"): C,
    ("POST", "/me/consents/{purpose}"): O,
    ("POST", "/me/mute"): O,
    ("POST", "/me/preferences"): O,
    ("POST", "/me/budget"): O,
    ("POST", "/me/subscriptions"): O,
    ("GET", "/me/calendar"): O,
    ("POST", "/me/calendar"): O,
    ("GET", "/calendar/{token}.ics"): (),
    # after the job
    ("GET", "/operator/rules/{id}/backtest"): C,
    ("POST", "/operator/rules/{id}/backtest"): C,
    ("GET", "/operator/clusters"): C,
    ("GET", "/operator/clusters/products"): C,
    ("GET", "/operator/feedback"): C,
    ("GET", "/operator/cases"): C,
    ("GET", "/operator/cases/{id}"): C,
    ("POST", "/operator/cases/{id}/note"): C,
    ("GET", "/operator/touchpoints/{id}/talk"): C,
    ("POST", "/operator/touchpoints/{id}/talk"): C,
    ("POST", "/operator/touchpoints/{id}/talk/verify"): C,
    ("POST", "/operator/touchpoints/{id}/talk/answer"): C,
    ("GET", "/operator/desk"): C,
    ("POST", "/operator/desk"): C,
    ("POST", "/operator/cases/{id}/answer"): C,
    ("POST", "/operator/cases/{id}/close"): C,
    ("POST", "/operator/cases/{id}/give"): C,
    ("GET", "/operator/journeys"): C,
    ("GET", "/operator/audit"): C,
    ("GET", "/operator/funnel"): C,
    ("GET", "/operator/funnel.csv"): C,
    ("GET", "/workshop/complaints"): W,
    ("POST", "/workshop/complaints/{id}/note"): W,
    # answering beside the times, and what owners report
    ("GET", "/a/{token}"): (),
    ("POST", "/a/{token}"): (),
    ("GET", "/a/{token}/photo"): (),
    ("GET", "/u/{token}"): (),
    ("POST", "/u/{token}"): (),
    ("GET", "/me/touchpoints/{id}/done"): O,
    ("GET", "/me/touchpoints/{id}/workshops"): O,
    ("POST", "/me/touchpoints/{id}/return"): O,
    ("POST", "/operator/touchpoints/{id}/return"): C,
    ("GET", "/me/products/{device}/report"): O,
    ("POST", "/me/products/{device}/report"): O,
    ("GET", "/attachments/{id}"): O + W + S,
    ("GET", "/operator/touchpoints/{id}"): C,
    # the product's own display
    ("GET", "/car/{device}"): D,
    ("GET", "/panel/{device}"): D,
    ("GET", "/display/{device}"): D,
    ("POST", "/display/{device}/answer"): O,
    # workshop
    ("GET", "/workshop"): W,
    ("GET", "/workshop/list"): W,
    ("GET", "/workshop/week"): W,
    ("GET", "/workshop/services"): W,
    ("GET", "/workshop/calendars"): W,
    ("POST", "/workshop/calendars"): W,
    ("POST", "/workshop/calendars/busy"): W,
    ("POST", "/workshop/calendars/feed"): W,
    ("GET", "/workshop/bookings/{id}/times"): W,
    ("POST", "/workshop/bookings/{id}/confirm"): W,
    ("POST", "/workshop/bookings/{id}/counter"): W,
    ("POST", "/workshop/bookings/{id}/done"): W,
    ("POST", "/workshop/bookings/{id}/no-show"): W,
    # operator
    ("GET", "/operator"): C,
    ("GET", "/operator/devices"): C,
    ("GET", "/operator/devices/{id}"): C,
    ("GET", "/operator/find"): C,
    ("GET", "/operator/outbox"): C,
    ("GET", "/operator/mail"): C,
    ("GET", "/operator/mail/{id}"): C,
    ("POST", "/operator/mail/{id}/seen"): C,
    ("POST", "/operator/outbox/retry"): C,
    ("GET", "/operator/owners"): C,
    ("GET", "/operator/owners/{id}"): C,
    ("GET", "/operator/quarantine"): C,
    ("GET", "/operator/firmware"): C,
    ("GET", "/operator/firmware/new"): C,
    ("POST", "/operator/firmware/new"): C,
    ("GET", "/operator/firmware/rollouts/{rollout}"): C,
    ("POST", "/operator/firmware/rollouts/{rollout}/{move}"): C,
    ("GET", "/operator/firmware/devices/{device}"): C,
    ("POST", "/operator/firmware/devices/{device}"): C,
    ("GET", "/me/updates"): O,
    ("POST", "/me/updates/{action}"): O,
    ("GET", "/operator/recalls"): C,
    ("POST", "/operator/recalls"): C,
    ("GET", "/operator/rules"): C,
    ("GET", "/operator/rules/{id}"): C,
    ("POST", "/operator/rules/reload"): C,
    ("POST", "/operator/quarantine/replay"): C,
}

FOR_ALL = {
    "GET /workshops/{workshop_id}": "an owner chooses among all workshops",
    "GET /workshops/{workshop_id}/slots": "an owner chooses among all workshops",
}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with web_lab(tmp_path) as opened:
        yield opened


def test_every_route_has_its_entry(lab: Lab) -> None:
    routes = {key: set(marks) for key, marks in marked_routes(lab.app).items() if key[0] != "HEAD"}
    assert routes == {key: set(roles) for key, roles in {**ROUTES, **PAGES}.items()}


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


OURS = {"Sec-Fetch-Site": "same-origin"}


async def come_in(lab: Lab, role: Role, subject: str | None) -> None:
    """A browser session."""
    _, secret = await lab.token(role, subject)
    form = {"token": secret}
    async with lab.client.post("/sign-in", data=form, headers=OURS, allow_redirects=False) as response:
        assert response.status == 303


@pytest.mark.parametrize("role", [None, *PAGE_ROLES])
async def test_each_role_reaches_its_own_pages_and_is_sent_to_sign_in_from_others(
    lab: Lab, role: Role | None
) -> None:
    objects = await cast(lab)
    if role is not None:
        await come_in(lab, role, {Role.OWNER: "jana", Role.WORKSHOP: "north"}.get(role))
    for (method, path), roles in PAGES.items():
        if path in ("/sign-out", "/events"):
            continue
        async with lab.client.request(
            method, filled(path, page_objects(path, objects)), data={}, headers=OURS, allow_redirects=False
        ) as response:
            sent_away = response.headers.get("Location", "").startswith("/sign-in?next=/")
            assert sent_away is (bool(roles) and role not in roles), (method, path, response.status)
            assert response.status < 500, (method, path)


async def test_sign_in_leads_back_to_where_one_wanted_to_go(lab: Lab) -> None:
    await lab.owner("jana")
    async with lab.client.get("/me/ledger?x=1&y=%26", allow_redirects=False) as response:
        wanted = response.headers["Location"]
    _, secret = await lab.token(Role.OWNER, "jana")
    form = {"token": secret, "next": lab.client.make_url(wanted).query["next"]}
    async with lab.client.post("/sign-in", data=form, headers=OURS, allow_redirects=False) as response:
        assert response.headers["Location"] == "/me/ledger?x=1&y=%26"


def page_objects(path: str, objects: Mapping[str, str]) -> dict[str, str]:
    """What `{id}` and the others mean in a page's address: that of Jana's thing."""
    found = {
        "touchpoints": objects["touchpoint_id"],
        "visits": objects["appointment_id"],
        "bookings": objects["appointment_id"],
        "feedback": objects["feedback_id"],
        "cases": objects["case_id"],
        "complaints": objects["case_id"],
        "extra-work": objects["extra_id"],
        "owners": objects["owner_id"],
        "devices": objects["device_id"],
    }.get((path.split("/") + [""] * 3)[2], "7")
    return {"id": found, "name": found, "device": objects["device_id"], "purpose": "maintenance"}


@pytest.mark.parametrize(("role", "stranger"), [(Role.OWNER, "max"), (Role.WORKSHOP, "south")])
async def test_pages_do_not_show_what_is_somebody_elses(lab: Lab, role: Role, stranger: str) -> None:
    objects = await cast(lab)
    before = await everything(lab)
    await come_in(lab, role, stranger)
    own = {"/me/channels/{channel}", "/me/consents/{purpose}"}
    pages = [key for key, roles in PAGES.items() if role in roles and "{" in key[1] and key[1] not in own]
    assert pages
    for method, path in pages:
        form = {"action": "noted", "touchpoint": objects["touchpoint_id"], "score": "1", "slot": "north@1"}
        async with lab.client.request(
            method, filled(path, page_objects(path, objects)), data=form, headers=OURS, allow_redirects=False
        ) as response:
            assert response.status == 404, (method, path, response.status)
    assert await everything(lab) == before


# --- objects --------------------------------------------------------------------------------------


def object_routes(role: Role) -> list[tuple[str, str]]:
    """Routes to one object that a role may call; last the one after which nothing is there any more."""
    found = [
        (method, path.removeprefix(API))
        for (method, path), roles in ROUTES.items()
        if path.startswith(API) and "{" in path and role in roles
    ]
    return sorted(found, key=lambda route: route == ("DELETE", "/owners/{owner_id}"))


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


NOT_THERE = {"POST /owners/{owner_id}/claims": "no display shows this code"}


@pytest.mark.parametrize(("role", "subject"), [(Role.OWNER, "jana"), (Role.WORKSHOP, "north")])
async def test_what_is_ones_own_is_there(lab: Lab, role: Role, subject: str) -> None:
    objects = await cast(lab)
    caller = await lab.caller(role, subject)
    query = {"/devices/{device_id}/readings": "?signal=speed"}
    for method, path in object_routes(role):
        slots = "?service=brakes-front" if path.endswith("/slots") else query.get(path, "")
        answer = await caller(method, filled(path, objects)[1:] + slots, BODIES.get(f"{method} {path}"))
        missing = f"{method} {path}" in NOT_THERE
        assert answer.status in ((404,) if missing else (200, 201, 204, 409)), (method, path, answer)


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


# --- nothing leaks ----------------------------------------------------------------------------------


STRANGERS = [(None, None), (Role.OWNER, "max"), (Role.WORKSHOP, "south")]


@pytest.mark.parametrize(("role", "stranger"), STRANGERS)
async def test_no_list_and_no_page_says_anything_of_somebody_elses(
    lab: Lab, role: Role | None, stranger: str | None
) -> None:
    objects = await cast(lab)
    secrets = [b"Jana", b"car-1", *(objects[name].encode() for name in ("touchpoint_id", "appointment_id"))]
    secrets += [
        objects[name].encode() for name in ("feedback_id", "case_id", "webhook_id", "subscription_id")
    ]
    if role is not None:
        await come_in(lab, role, stranger)
    plain = [path for method, path in {**ROUTES, **PAGES} if method == "GET" and "{" not in path]
    assert len(plain) > 60
    for path in plain:
        if path in ("/events", "/metrics", f"{API}/openapi.json", f"{API}/docs"):  # examples stand in these
            continue
        async with lab.client.get(path, allow_redirects=False) as response:
            body = await response.read()
            told = [secret for secret in secrets if secret in body]
            assert not told, (path, response.status, told)


async def test_who_only_looks_on_changes_nothing(lab: Lab) -> None:
    """Tim sees Jana's car, and answers nothing for it."""
    objects = await cast(lab)
    await lab.owner("tim")
    operator = await lab.caller()
    joined = await operator(
        "PUT", "devices/car-1/people/tim", {"role": "member", "may_answer": False, "sees": True}
    )
    assert joined.status == 200, joined
    before = await everything(lab)
    tim = await lab.caller(Role.OWNER, "tim")
    for method, path in object_routes(Role.OWNER):
        key = f"{method} {path}"
        if method == "GET" or key in FOR_ALL:
            continue
        answer = await tim(method, filled(path, objects)[1:], BODIES.get(key))
        assert answer.status in (403, 404), (key, answer)
    await come_in(lab, Role.OWNER, "tim")
    for (method, path), roles in PAGES.items():
        if method == "GET" or Role.OWNER not in roles or "{" not in path or path in HIS_OWN:
            continue
        form = {"action": "noted", "touchpoint": objects["touchpoint_id"], "score": "1", "slot": "north@1"}
        async with lab.client.request(
            method, filled(path, page_objects(path, objects)), data=form, headers=OURS, allow_redirects=False
        ) as response:
            assert response.status in (303, 400, 403, 404, 409, 422), (method, path, response.status)
    assert await everything(lab) == before


HIS_OWN = {
    "/me/channels/{channel}": "his own channels",
    "/me/consents/{purpose}": "what he agrees to himself",
    "/display/{device}/code": "it signs in him",
}
