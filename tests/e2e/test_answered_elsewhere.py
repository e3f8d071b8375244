"""Answered from a notification without a page, and by the keyboard alone: each story of the three faces.

A running gateway on real time: cars report worn pads, their owners are asked. A push is handed to the browser
by DevTools, as its push service would; a tap on a button of the notification is told to the service worker as
the platform would tell it.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from browser_lab import opened, until
from gateway_lab import PADS, WORKSHOP, wait_for
from playwright.sync_api import Browser, BrowserContext, CDPSession, Locator, Page, expect
from real_parts import PATIENCE_S, Mosquitto
from running_gateway import RunningGateway, now_ms, publish, running_gateway, telemetry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MOST_TABS = 150
KNOWN = {"address": "Hafenstraße 1", "phone": "040 1"}
"""What a caller can be asked."""
TAP = """async ([tag, action]) => {
    const all = await self.registration.getNotifications();
    const waits = [], event = new NotificationEvent('notificationclick', {
        notification: all.find(one => one.tag === tag), action});
    event.waitUntil = promise => waits.push(promise);  // only the platform's own events may
    self.dispatchEvent(event);
    await Promise.all(waits);
}"""


@dataclass(frozen=True)
class House:
    """The gateway, and who is signed in where."""

    gateway: RunningGateway

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.gateway.port}"

    def touchpoint(self, owner: str) -> Any:
        [found] = self.gateway.api("GET", f"touchpoints?owner={owner}")["items"]
        return found

    def answer(self, owner: str) -> tuple[str, str] | None:
        """(action, channel) of what was answered."""
        found = self.touchpoint(owner)["answer"]
        return found and (found["action"], found["channel"])

    def sign_in(self, context: BrowserContext, role: str, subject: str = "") -> Page:
        """A page of somebody."""
        words = ("token", "create", "--role", role, *(("--subject", subject) if subject else ()))
        secret = self.gateway.run(*words).split()[-1]
        context.add_cookies([{"name": f"session-{role}", "value": secret, "url": self.address}])
        return context.new_page()

    def the_day_has_come(self) -> None:
        """The visit that is next began a minute ago; nothing but time could do that."""
        with contextlib.closing(sqlite3.connect(self.gateway.data / "domain.db", timeout=30)) as store, store:
            begun = now_ms() - 60_000
            store.execute(
                "UPDATE appointments SET start = ?, end = ? WHERE state = 'confirmed'",
                (begun, begun + 3_600_000),
            )


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A workshop that answers requests, and three owners who have just been asked."""
    folder = tmp_path_factory.mktemp("house")
    (folder / "mosquitto").mkdir()
    (folder / "rules.yaml").write_text(PADS)
    broker = Mosquitto(folder=folder / "mosquitto").start()
    try:
        rules = json.dumps([str(folder / "rules.yaml")])
        with running_gateway(folder, broker.url, rules__paths=rules) as gateway:
            gateway.start()
            # A process of its own: the browser's loop runs in ours.
            gateway.token = gateway.run("token", "create", "--role", "operator").split()[-1]
            gateway.api("POST", "workshops", WORKSHOP | {"books": "on_request"})
            for owner in ("jana", "omar", "ada"):
                gateway.api("POST", "owners", {"id": owner, "name": owner.title(), "language": "en", **KNOWN})
                gateway.api("PUT", f"owners/{owner}/consents/maintenance", {"granted": True})
                never = {"quiet_from": "00:00", "quiet_to": "00:00"}
                gateway.api("PUT", f"owners/{owner}/preferences", never)
                car = {"id": f"car-{owner}", "kind": "car", "owner": owner, "workshop": "nord"}
                gateway.api("POST", "devices", car)
                publish(broker.url, [telemetry(f"car-{owner}", now_ms(), speed=0, pad_wear_front=90)])
            wait_for(lambda: len(gateway.all("touchpoints")) == 3, "everybody is asked")
            yield House(gateway)
    finally:
        broker.stop()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    with opened(browser, locale="en-GB", timezone_id="Europe/Berlin") as made:
        yield made


def test_a_button_of_a_notification_answers_without_a_page(house: House, context: BrowserContext) -> None:
    context.grant_permissions(["notifications"], origin=house.address)
    page = house.sign_in(context, "owner", "jana")
    page.goto(f"{house.address}/me")
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    touchpoint = house.touchpoint("jana")
    slot = page.locator("input[name=slot]").first.get_attribute("value")
    page.goto(f"{house.address}/me/ledger")  # somewhere else
    devtools = context.new_cdp_session(page)
    seen: list[Any] = []
    devtools.on("ServiceWorker.workerRegistrationUpdated", lambda said: seen.extend(said["registrations"]))
    devtools.send("ServiceWorker.enable")
    page.wait_for_function("navigator.serviceWorker.controller !== null")
    said = {
        "id": "delivery-1",
        "touchpoint": touchpoint["id"],
        "about": "offer",
        "title": "Brake pads worn",
        "body": "2.5 mm left",
        "language": "en",
        "url": f"/me/touchpoints/{touchpoint['id']}",
        "actions": [
            {"action": f"book:{slot}", "title": "The first"},
            {"action": "not_now", "title": "Not now"},
            {"action": "other_time", "title": "Other time"},
        ],
    }
    ours = (one["registrationId"] for one in seen if one["scopeURL"].startswith(house.address))
    until(page, lambda: bool(seen), "the browser tells of the service worker")
    registration = next(ours)
    push = {"origin": house.address, "registrationId": registration, "data": json.dumps(said)}
    # DevTools drops one, without a word, for a worker that it has not started yet.
    until(page, lambda: delivered(devtools, page, push, "2.5 mm left"), "the notification is shown")
    shown = until_shown(page, "2.5 mm left")
    assert (shown["title"], shown["tag"]) == ("Brake pads worn", touchpoint["id"])
    assert [action["title"] for action in shown["actions"]] == [
        "The first",
        "Not now",
    ]  # as many as are shown

    [worker] = context.service_workers
    worker.evaluate(TAP, [touchpoint["id"], f"book:{slot}"])
    after = until_shown(page, "Requested. The workshop will answer.")
    assert (after["tag"], after["actions"], after["silent"]) == (touchpoint["id"], [], True)
    assert house.answer("jana") == ("book", "web_push")
    assert [one.url for one in context.pages] == [f"{house.address}/me/ledger"]


def delivered(devtools: CDPSession, page: Page, push: dict[str, str], body: str) -> bool:
    """Deliver a push, and say whether it is shown within two seconds."""
    devtools.send("ServiceWorker.deliverPushMessage", push)
    return shown_within(page, body, 2) is not None


def until_shown(page: Page, body: str) -> Any:
    """The one notification that stands, once it says this."""
    found = shown_within(page, body, PATIENCE_S)
    assert found is not None, f"no notification said {body}"
    return found


def shown_within(page: Page, body: str, seconds: float) -> Any:
    """The same, or None."""
    return page.evaluate(
        """async ([said, patience]) => {
            const until = performance.now() + patience;
            const worker = await navigator.serviceWorker.ready;
            for (let all = []; performance.now() < until; all = await worker.getNotifications()) {
                const [{title, body, tag, silent, actions} = {}] = all;
                if (all.length === 1 && body === said) return {title, body, tag, silent, actions};
                await new Promise(requestAnimationFrame);
            }
        }""",
        [body, seconds * 1000],
    )


def test_each_story_goes_by_the_keyboard_alone(house: House, context: BrowserContext) -> None:
    # The owner answers.
    owner = house.sign_in(context, "owner", "omar")
    owner.goto(f"{house.address}/me")
    go_to(owner, owner.locator("article.matter h2 a"))
    owner.keyboard.press("Enter")
    owner.wait_for_url("**/me/touchpoints/*")
    go_to(owner, owner.locator("button.slot").first)
    owner.keyboard.press("Enter")
    wait_for(lambda: house.answer("omar") is not None, "the owner has answered")
    assert house.answer("omar") == ("book", "page")

    # The workshop says yes, and on the day that it is done.
    workshop = house.sign_in(context, "workshop", "nord")
    workshop.goto(f"{house.address}/workshop")
    waiting = workshop.locator(".waiting", has_text="Omar")
    go_to(workshop, waiting.locator("form[action$='/confirm'] button"))
    workshop.keyboard.press("Space")
    expect(waiting).to_have_count(0)
    [visit] = house.gateway.api("GET", "appointments?owner=omar")["items"]
    assert visit["state"] == "confirmed"
    house.the_day_has_come()
    workshop.goto(f"{house.address}/workshop?booking={visit['id']}")
    go_to(workshop, workshop.locator("form[action$='/done'] summary"))
    workshop.keyboard.press("Enter")
    go_to(workshop, workshop.locator("form[action$='/done'] textarea"))
    workshop.keyboard.type("New pads")
    go_to(workshop, workshop.locator("form[action$='/done'] p button"))
    workshop.keyboard.press("Enter")
    done = f"appointments/{visit['id']}"
    wait_for(lambda: house.gateway.api("GET", done)["state"] == "done", "it is done")

    # After-sales answers for an owner who calls.
    context.clear_cookies()  # another browser: an owner who is signed in would be asked first
    operator = house.sign_in(context, "operator")
    operator.goto(f"{house.address}/operator/owners/ada")
    go_to(operator, operator.get_by_role("link", name="Verify and answer"))
    operator.keyboard.press("Enter")
    for what in KNOWN:
        go_to(operator, operator.locator(f"input[name=asked][value={what}]"))
        operator.keyboard.press("Space")
    go_to(operator, operator.get_by_role("button", name="The caller knew these"))
    operator.keyboard.press("Enter")
    go_to(operator, operator.locator("button", has_text="Not now").first)
    operator.keyboard.press("Enter")
    wait_for(lambda: house.answer("ada") is not None, "after-sales has answered")
    assert house.answer("ada") == ("not_now", "call_centre")


def go_to(page: Page, wanted: Locator) -> None:
    """Go on by Tab until it has the focus, which can be seen."""
    expect(wanted).to_be_visible()
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if wanted.evaluate("wanted => document.activeElement === wanted"):
            drawn = wanted.evaluate("wanted => getComputedStyle(wanted).outlineStyle")
            assert drawn != "none", f"nobody sees where the focus is: {wanted}"
            return
    raise AssertionError(f"Tab never comes to {wanted}")
