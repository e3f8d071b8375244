"""The owner's stories in a real browser: a decision by keyboard alone, offline, handing a product on.

One demo for all of them, paused, on the first matter. Every page they pass is looked at in another width and
theme: nothing scrolls to the side, axe-core finds nothing, no console says an error, no other host is asked.
Pictures are kept in the folder that TOUCHPOINT_TEST_PICTURES names.
"""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser_lab import WIDTHS, Watch, axe_faults, opened, too_wide, until
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FIRST_LOAD_MOST = 100_000
"""Bytes on the wire of the first page with everything it needs."""
TAP = """async action => {
    const [notification] = await registration.getNotifications(), waits = [];
    const tap = new NotificationEvent("notificationclick", { notification, action });
    Object.defineProperty(tap, "waitUntil", { value: promise => waits.push(promise) });
    self.dispatchEvent(tap);
    await Promise.all(waits);
}"""
"""What a tap on a button of a notification does; only a hand can make a real one."""
SHOWN = """() => registration.getNotifications()
    .then(all => all.map(n => [n.title, n.actions.map(a => a.action)]))"""
KEPT = """async path => {
    const page = await caches.match(path, {cacheName: "touchpoint-pages"});
    const parts = [...(await page?.text() || "").matchAll(/(?:href|src)="(\\/static\\/[^"]+)"/g)];
    const where = {cacheName: "touchpoint-parts"};
    const kept = await Promise.all(parts.map(([, part]) => caches.match(part, where)));
    return kept.length > 0 && kept.every(Boolean);
}"""
"""Whether a page can be shown without a connection."""
UNTOLD = ("EventSource", "Manifest", "Other")
"""What never ends, and what not every build of a browser tells the end of."""
CODE = re.compile(r"[B-Z]{4}-[B-Z]{4}")


@dataclass
class Story:
    """One owner's browser, and what was wrong on the way."""

    context: BrowserContext
    page: Page
    address: str
    name: str
    wrong: list[str] = field(default_factory=list)
    seen: int = 0

    def look(self) -> None:
        """At the page as it is, in the next width and theme."""
        width, dark = WIDTHS[self.seen % 3], self.seen % 2 == 1
        self.seen += 1
        before = self.page.viewport_size
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme="dark" if dark else "light", reduced_motion="reduce")
        where = f"{self.page.url} at {width} px{', dark' if dark else ''}"
        if too_wide(self.page):
            self.wrong.append(f"{where}: scrolls to the side")
        self.wrong += [f"{where}: {fault}" for fault in axe_faults(self.page)]
        folder = os.environ.get("TOUCHPOINT_TEST_PICTURES")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            shade = "-dark" if dark else ""
            self.page.screenshot(
                path=Path(folder) / f"{self.name}-{self.seen}-{width}{shade}.png", full_page=True
            )
        if before is not None:
            self.page.set_viewport_size(before)

    def tab_to(self, wanted: Locator) -> None:
        """Reach something by the Tab key alone, as somebody without a mouse does."""
        for _ in range(60):
            if wanted.evaluate("e => e === document.activeElement"):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"the keyboard never reaches {wanted}")


def begin(browser: Browser, address: str, locale: str, name: str) -> Story:
    """The demo's owner, in a browser of this language."""
    # axe runs as a script of the page, which the pages' own policy would rightly refuse.
    context = opened(
        browser,
        locale=locale,
        timezone_id="Europe/Berlin",
        bypass_csp=True,
        viewport={"width": 390, "height": 844},
    )
    page = context.new_page()
    page.goto(address)
    return Story(context=context, page=page, address=address, name=name)


def test_the_owners_stories(demo: str, browser: Browser) -> None:
    with opened(browser) as context:
        start = context.new_page()
        start.goto(demo)
        phone = context.new_page()
        phone.goto(f"{demo}/me")
        expect(phone.locator(".slot")).to_have_count(2)
        pause(start)
    english = begin(browser, demo, "en-GB", "owner-en")
    watch = Watch(urlsplit(demo).netloc)
    watch.over(english.context)
    english.page = english.context.new_page()
    the_first_load_is_small(english, browser)
    a_choice_begun_is_gone_on_with(english)
    a_product_tells_what_is_next_and_how_it_is_used(english)
    without_a_connection_the_last_state_stands(english, watch)
    a_push_is_answered_where_it_stands(english)
    a_decision_is_made_by_the_keyboard_alone(english)
    wishes_are_kept(english)
    signing_out_forgets_what_was_kept(english)
    english.context.close()

    german = begin(browser, demo, "de-DE", "owner-de")
    watch.over(german.context)
    german.page = german.context.new_page()
    a_product_is_handed_on_by_its_code(german, browser, watch)
    german.context.close()
    assert english.wrong + german.wrong == []
    assert watch.wrong == []


def pause(start: Page) -> None:
    """Nothing more happens by itself."""
    start.evaluate(
        "fetch('/demo/pace', {method: 'POST', body: new URLSearchParams({pace: 'pause'})})"
        ".then(answer => answer.text())"
    )


def the_first_load_is_small(story: Story, browser: Browser) -> None:
    """What a browser that has never been here reads from the wire, counted by the browser's own network log.

    A context of its own, because the start page has brought the style sheet into the story's; it keeps
    the session, for the question is what an owner's first look costs and not the sign-in.
    """
    kept = story.context.storage_state()
    with opened(browser, storage_state=kept, service_workers="block") as unvisited:
        page = unvisited.new_page()
        network = unvisited.new_cdp_session(page)
        network.send("Network.enable")
        network.send("Network.setCacheDisabled", {"cacheDisabled": True})
        asked: dict[str, str] = {}
        read: dict[str, float] = {}
        network.on("Network.requestWillBeSent", lambda one: asked.update({one["requestId"]: one["type"]}))
        network.on(
            "Network.loadingFinished", lambda one: read.update({one["requestId"]: one["encodedDataLength"]})
        )
        network.on("Network.loadingFailed", lambda one: read.update({one["requestId"]: 0.0}))
        page.goto(f"{story.address}/me", wait_until="load")
        needed = {"Document", "Stylesheet", "Script"}

        def whole() -> bool:
            waits = {one for one, kind in asked.items() if kind not in UNTOLD}
            return waits <= set(read) and needed <= {asked.get(one) for one in read}

        until(page, whole, "everything is read that the page asked for")
    assert 5_000 < sum(read.values()) <= FIRST_LOAD_MOST, f"{read} bytes of {asked}"
    story.page.goto(f"{story.address}/me")
    story.look()


def a_choice_begun_is_gone_on_with(story: Story) -> None:
    page = story.page
    page.locator("article.matter").first.get_by_role("link", name="Other time").click()
    story.look()

    def kept() -> bool:  # that it has begun is told beside the page, and nobody waits for it
        page.goto(f"{story.address}/me")
        return page.locator(".begun").count() == 1

    until(page, kept, "the choice that was begun is shown")
    expect(page.locator(".begun")).to_contain_text("You began to choose another time on the page")
    page.goto(page.locator("article.matter h2 a").first.evaluate("a => a.href"))
    expect(page.locator("figure.signal svg.chart").first).to_be_attached()
    page.locator("details.table summary").first.click()
    expect(page.locator("details.table td").filter(has_text="no data").first).to_be_visible()
    story.look()


def a_product_tells_what_is_next_and_how_it_is_used(story: Story) -> None:
    page = story.page
    page.goto(f"{story.address}/me/products/car-keller")
    expect(page.locator("main")).to_contain_text("Next service")
    page.get_by_text("Lane keeping", exact=True).click()
    expect(page.locator("ol.numbered").first).to_be_visible()
    story.look()
    page.get_by_role("link", name="What was decided").click()
    expect(page.locator(".timeline")).to_contain_text("your quiet hours end at 7:00")
    story.look()


def without_a_connection_the_last_state_stands(story: Story, watch: Watch) -> None:
    page = story.page
    page.goto(f"{story.address}/me")
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    page.wait_for_function("navigator.serviceWorker.controller !== null")
    for path in ("/me/products", "/me"):
        page.goto(f"{story.address}{path}")
        until(page, lambda path=path: page.evaluate(KEPT, path), f"{path} is kept, with all it needs")  # type: ignore[misc]
    watch.expected = "net::ERR_INTERNET_DISCONNECTED"  # a browser says itself that there is no connection
    story.context.set_offline(True)
    page.goto(f"{story.address}/me/products")
    expect(page.locator("#as-of")).to_contain_text("You are offline. This is how it stood on")
    expect(page.locator("main")).to_contain_text("Arden 5")
    story.look()
    page.goto(f"{story.address}/me")
    page.locator(".slot").first.click()
    expect(page.locator("#unsent")).to_be_visible()
    story.context.set_offline(False)
    page.goto(f"{story.address}/me")
    expect(page.locator("#as-of")).to_be_hidden()


def a_push_is_answered_where_it_stands(story: Story) -> None:
    """Delivered through the DevTools protocol, as the browser's push service would deliver it."""
    page, pages = story.page, len(story.context.pages)
    page.goto(f"{story.address}/me")
    matter = page.locator("article.matter").first.evaluate("m => m.id.slice(2)")
    story.context.grant_permissions(["notifications"], origin=story.address)
    session, known = story.context.new_cdp_session(page), []
    session.on("ServiceWorker.workerRegistrationUpdated", lambda told: known.extend(told["registrations"]))
    session.send("ServiceWorker.enable")
    actions = [{"action": "snooze:tomorrow", "title": "Tomorrow"}, {"action": "not_now", "title": "Not now"}]
    said = {
        "touchpoint": matter,
        "title": "Front brake pads",
        "body": "3 mm",
        "language": "en",
        "actions": actions,
    }
    until(page, lambda: bool(known), "the browser tells of the service worker")
    registration = known[-1]["registrationId"]
    message = {"origin": story.address, "registrationId": registration, "data": json.dumps(said)}
    session.send("ServiceWorker.deliverPushMessage", message)
    [worker] = story.context.service_workers
    offered = [["Front brake pads", ["snooze:tomorrow", "not_now"]]]
    until(page, lambda: worker.evaluate(SHOWN) == offered, "the notification stands")
    worker.evaluate(TAP, "snooze:tomorrow")
    until(page, lambda: worker.evaluate(SHOWN) == [["Front brake pads", []]], "it is answered")
    assert len(story.context.pages) == pages, "no page was opened"
    page.goto(f"{story.address}/me/touchpoints/{matter}")
    expect(page.locator("main")).to_contain_text("Comes back on")
    page.get_by_role("button", name="Show it now").click()
    expect(page.locator(".slot").first).to_be_visible()


def a_decision_is_made_by_the_keyboard_alone(story: Story) -> None:
    page = story.page
    page.goto(f"{story.address}/me")
    story.tab_to(page.get_by_role("button", name=re.compile("Thursday.*17:30")))
    page.keyboard.press("Enter")
    expect(page.locator(".when-big")).to_contain_text("17:30")
    story.look()
    story.tab_to(page.get_by_role("button", name="Undo"))
    page.keyboard.press("Enter")
    expect(page.locator(".slot").first).to_be_visible()


def wishes_are_kept(story: Story) -> None:
    page = story.page
    page.goto(f"{story.address}/me/you")
    story.look()
    page.get_by_label("Units").select_option("miles")
    page.locator("form[action='/me/language']").get_by_role("button", name="Save").click()
    expect(page.locator(".toast")).to_contain_text("Saved")
    page.goto(f"{story.address}/me/products/car-keller")
    expect(page.locator("main")).to_contain_text("29,956 mi")
    page.goto(f"{story.address}/me/updates")
    expect(page.locator(".empty")).to_be_visible()
    story.look()


def signing_out_forgets_what_was_kept(story: Story) -> None:
    page = story.page
    page.goto(f"{story.address}/me/you")
    kept = "caches.match('/me/you', {cacheName: 'touchpoint-pages'}).then(Boolean)"
    until(page, lambda: page.evaluate(kept), "the page is kept")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{story.address}/")
    until(page, lambda: not page.evaluate(kept), "nothing is kept any more")


def a_product_is_handed_on_by_its_code(story: Story, browser: Browser, watch: Watch) -> None:
    page = story.page
    page.goto(f"{story.address}/me/products/washer-keller/move")
    story.look()
    page.get_by_role("button", name="Code anzeigen").click()
    shown = page.locator(".codeshow")
    expect(shown).to_have_text(CODE)
    code = shown.inner_text()
    story.look()
    page.goto(f"{story.address}/me/products")
    other = opened(browser, locale="de-DE", bypass_csp=True, viewport={"width": 390, "height": 844})
    watch.over(other)
    comer = Story(
        context=other, page=other.new_page(), address=story.address, name="claim", wrong=story.wrong
    )
    comer.page.goto(f"{story.address}/claim")
    comer.look()
    comer.page.get_by_label("Code auf dem Display").fill(code.lower())
    comer.page.get_by_role("button", name="Weiter").click()
    comer.page.get_by_label(re.compile("Name")).first.fill("Tom Berg")
    comer.look()
    comer.page.get_by_role("button", name="Übernehmen").click()
    expect(comer.page.locator(".toast")).to_contain_text("Es gehört jetzt Ihnen")
    comer.look()
    other.close()
    expect(page.locator("main")).not_to_contain_text("WashMate 7")
