"""Webhooks by API and page, and what owners and operators see of how far messages came."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from garage import TEXTS
from web_lab import Lab, web_lab

from gateway.channels.webhook import AddressError, check_url
from gateway.domain.access import Role
from gateway.domain.delivery import MailAddress, Reached
from gateway.domain.owner import PushSubscription
from gateway.flow import outgoing
from gateway.ports import Records

OURS = {"Sec-Fetch-Site": "same-origin"}
URL = "https://hooks.example/touchpoint"


def refused(url: str) -> str | None:
    try:
        check_url(url)
    except AddressError as error:
        return str(error)
    return None


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with web_lab(tmp_path) as opened:
        opened.context.check_webhook = refused
        opened.context.texts = TEXTS
        await opened.workshop()
        yield opened


async def come_in(lab: Lab, role: Role, subject: str | None = None) -> None:
    _, secret = await lab.token(role, subject)
    async with lab.client.post(
        "/sign-in", data={"token": secret}, headers=OURS, allow_redirects=False
    ) as response:
        assert response.status == 303


async def post(lab: Lab, path: str, **form: str) -> tuple[int, str]:
    async with lab.client.post(path, data=form, headers=OURS, allow_redirects=False) as response:
        return response.status, await response.text()


async def get(lab: Lab, path: str) -> str:
    async with lab.client.get(path) as response:
        assert response.status == 200, path
        return (await response.text()).replace("\u00a0", " ")


# --- webhooks by API ------------------------------------------------------------------------------


async def test_an_endpoint_shows_its_secret_once(lab: Lab) -> None:
    call = await lab.caller()
    made = await call("POST", "webhooks", {"url": URL, "types": ["touchpoint.*"]})
    assert made.status == 201
    assert made.body["secret"].startswith("whsec_")
    assert (made.body["audience"], made.body["state"], made.body["signing"]) == ("manufacturer", "active", 1)
    listed = await call("GET", "webhooks")
    shown = await call("GET", f"webhooks/{made.body['id']}")
    for answer in (listed.body["items"][0], shown.body):
        assert answer["url"] == URL
        assert "secret" not in answer
    turned = await call("POST", f"webhooks/{made.body['id']}/rotate")
    assert turned.status == 201
    assert turned.body["secret"] != made.body["secret"]
    assert turned.body["signing"] == 2


async def test_an_endpoint_is_tried_and_shows_what_was_sent(lab: Lab) -> None:
    call = await lab.caller()
    made = (await call("POST", "webhooks", {"url": URL})).body
    tried = await call("POST", f"webhooks/{made['id']}/test")
    assert (tried.status, tried.body["channel"], tried.body["outcomes"]) == (201, "webhook", [])
    shown = (await call("GET", f"webhooks/{made['id']}")).body
    assert [row["id"] for row in shown["deliveries"]] == [tried.body["id"]]
    assert (await call("DELETE", f"webhooks/{made['id']}")).status == 204
    assert (await call("GET", f"webhooks/{made['id']}")).status == 404
    waiting = await lab.read(lambda r: r.outbox.get(tried.body["id"]))
    assert waiting.state == "dropped"


@pytest.mark.parametrize(
    ("body", "pointer", "said"),
    [
        ({"url": "https://10.0.0.1/x"}, "/url", "private"),
        ({"url": "http://hooks.example/x"}, "/url", "not https"),
        ({"url": URL, "types": ["touchpoint.eaten"]}, "/types", "none of"),
        ({"url": URL, "audience": "everybody"}, "/audience", ""),
        ({}, "/url", ""),
    ],
)
async def test_what_cannot_be_an_endpoint_is_said(
    lab: Lab, body: dict[str, Any], pointer: str, said: str
) -> None:
    call = await lab.caller()
    answer = await call("POST", "webhooks", body)
    assert answer.status == 422
    (fault,) = answer.body["errors"]
    assert fault["pointer"].startswith(f"#{pointer}") or fault["pointer"].startswith(pointer)
    assert said in fault["detail"]


async def test_a_workshop_has_endpoints_of_its_own_alone(lab: Lab) -> None:
    operator, workshop = await lab.caller(), await lab.caller(Role.WORKSHOP, "north")
    others = (await operator("POST", "webhooks", {"url": URL})).body
    own = await workshop("POST", "webhooks", {"url": URL})
    assert (own.status, own.body["audience"]) == (201, "workshop:north")
    assert [row["id"] for row in (await workshop("GET", "webhooks")).body["items"]] == [own.body["id"]]
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/rotate"),
        ("POST", "/test"),
        ("POST", "/enable"),
    ):
        assert (await workshop(method, f"webhooks/{others['id']}{path}")).status == 404, path
    refused_for = await workshop("POST", "webhooks", {"url": URL, "audience": "manufacturer"})
    assert refused_for.status == 403


# --- webhooks by page -----------------------------------------------------------------------------


async def test_the_operator_adds_tries_turns_and_deletes_an_endpoint(lab: Lab) -> None:
    await come_in(lab, Role.OPERATOR)
    status, page = await post(lab, "/operator/webhooks", url=URL, types="touchpoint.*, finding.found")
    assert status == 200
    assert "whsec_" in page
    (endpoint,) = await lab.read(lambda r: r.webhooks.page())
    assert endpoint.types == ("touchpoint.*", "finding.found")
    at = f"/operator/webhooks/{endpoint.id}"
    assert (await post(lab, f"{at}/test"))[0] == 303
    shown = await get(lab, "/operator/webhooks")
    assert "webhook.test" in shown
    assert "whsec_" not in shown
    assert "whsec_" in (await post(lab, f"{at}/rotate"))[1]
    await lab.write(
        lambda r: r.webhooks.put(replace(endpoint, state="disabled", reason="HTTP 410", disabled_at=1))
    )
    assert "HTTP 410" in await get(lab, "/operator/webhooks")
    assert (await post(lab, f"{at}/enable"))[0] == 303
    assert (await post(lab, f"{at}/remove"))[0] == 303
    assert await lab.read(lambda r: r.webhooks.page()) == []


async def test_an_address_that_may_not_be_is_said_on_the_form(lab: Lab) -> None:
    await come_in(lab, Role.OPERATOR)
    status, page = await post(lab, "/operator/webhooks", url="https://192.168.0.1/x")
    assert status == 422
    assert "private" in page
    assert "192.168.0.1" in page
    assert await lab.read(lambda r: r.webhooks.page()) == []


# --- how far messages came ------------------------------------------------------------------------


async def told(lab: Lab) -> tuple[str, str]:
    """Jana, with a phone, was told of her pads: (touchpoint, push)."""
    await lab.owner("jana", "car-1", workshop="north")
    phone = PushSubscription(
        id="phone",
        owner="jana",
        endpoint="https://push.example/x",
        p256dh="x",
        auth="y",
        label="Phone",
        created=0,
    )
    await lab.write(lambda r: r.owners.subscribe(phone))
    touchpoint = await lab.worn_pads("car-1", "jana")

    def push(records: Records) -> str:
        return next(r.id for r in records.outbox.page(touchpoint=touchpoint.id) if r.channel == "web_push")

    return touchpoint.id, await lab.read(push)


async def test_a_browser_says_that_a_push_was_shown_and_seen(lab: Lab) -> None:
    touchpoint, push = await told(lab)
    await lab.write(lambda r: r.outbox.reached(push, Reached.SENT, lab.clock.now()))
    await come_in(lab, Role.OWNER, "jana")
    for outcome in ("delivered", "seen", "seen"):
        assert (await post(lab, f"/me/deliveries/{push}/{outcome}"))[0] == 204
    known = await lab.read(lambda r: r.outbox.outcomes([push]))
    assert [one.outcome for one in known[push]] == [Reached.SENT, Reached.DELIVERED, Reached.SEEN]
    page = await get(lab, f"/me/touchpoints/{touchpoint}?lang=en")
    assert "Push sent " in page
    assert ", seen " in page
    assert (await post(lab, f"/me/deliveries/{push}/eaten"))[0] == 404
    assert (await post(lab, "/me/deliveries/nothing/seen"))[0] == 404


async def test_nobody_says_so_of_somebody_elses_push(lab: Lab) -> None:
    _, push = await told(lab)
    await lab.owner("max")
    await come_in(lab, Role.OWNER, "max")
    assert (await post(lab, f"/me/deliveries/{push}/seen"))[0] == 404
    assert await lab.read(lambda r: r.outbox.outcomes([push])) == {}


async def test_an_owner_reads_that_the_address_takes_no_mail_and_says_that_it_does(lab: Lab) -> None:
    lab.context.policy = replace(lab.context.policy, channels=("web_push", "display", "email"))
    owner = await lab.owner("jana", "car-1")
    await lab.write(lambda r: r.owners.update(replace(owner, email="jana@home.example")))
    bad = MailAddress(
        address="jana@home.example", state="undeliverable", reason="550 5.1.1 No such user", at=1
    )
    await lab.write(lambda r: r.mail_addresses.mark(bad))
    await come_in(lab, Role.OWNER, "jana")
    assert "550 5.1.1 No such user" in await get(lab, "/me/you?lang=en")
    assert (await post(lab, "/me/email/again"))[0] == 303
    page = await get(lab, "/me/you?lang=en")
    assert "550" not in page
    assert "jana@home.example" in page
    assert not await lab.read(lambda r: r.mail_addresses.undeliverable("jana@home.example"))


async def test_an_owner_switches_mail_off(lab: Lab) -> None:
    lab.context.policy = replace(lab.context.policy, channels=("web_push", "display", "email"))
    await lab.owner("jana", "car-1")
    await come_in(lab, Role.OWNER, "jana")
    assert (await post(lab, "/me/channels/email"))[0] == 303
    wanted = await lab.read(lambda r: outgoing.wishes(r, "jana", lab.context.policy))
    assert "email" not in wanted.channels
    assert "display" in wanted.channels
    assert (await post(lab, "/me/channels/letter", on="1"))[0] == 404  # the operator has none
