"""Updates in a real browser: a release is uploaded in pieces; the pages with something on them are sound."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from browser_lab import WIDTHS, Watch, axe_faults, opened, too_wide
from firmware_lab import Works
from gateway_lab import TOUCHPOINT
from playwright.sync_api import Browser, expect
from real_parts import end, free_port, listens, wait_until
from running_gateway import environment, touchpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def works(tmp_path: Path) -> Works:
    return Works(tmp_path, time.time_ns() // 1_000_000)


class Desk:
    """The running pages, and the API as after-sales."""

    def __init__(self, address: str, folder: Path) -> None:
        self.address = address
        self.settings = {"data_dir": str(folder)}
        self.secret = self.token("operator")

    def token(self, role: str, *more: str) -> str:
        words = ("token", "create", "--role", role, *more)
        return touchpoint(*words, settings=self.settings).stdout.split()[-1]

    def api(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self.address}/api/v1/{path}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.secret}", "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())


@pytest.fixture
def desk(works: Works, address: str) -> Desk:
    return Desk(address, works.folder)


@pytest.fixture
def address(works: Works) -> Iterator[str]:
    port = free_port()
    settings = {"data_dir": str(works.folder), "web.port": str(port)}
    touchpoint("setup", settings=settings)
    with open(works.folder / "log", "wb") as log:
        process = subprocess.Popen(
            [str(TOUCHPOINT), "run", "--role", "web"], env=environment(settings), stdout=log, stderr=log
        )
    try:
        wait_until(lambda: process.poll() is not None or listens(port), "the pages are served")
        assert process.poll() is None, (works.folder / "log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        end(process)


def test_a_release_is_uploaded_with_its_progress(works: Works, desk: Desk, browser: Browser) -> None:
    address = desk.address
    manifest, (path,) = works.signed(os.urandom(12 << 20), "2.0.0", sequence=2, notes={"en": "Quieter"})
    wrong = works.folder / "wrong.sig"
    wrong.write_text("AAAA")
    context = opened(browser, locale="en-GB", viewport={"width": 1440, "height": 900})
    context.add_cookies([{"name": "session-operator", "value": desk.secret, "url": address}])
    watch = Watch(urlsplit(address).netloc)
    watch.over(context)
    page = context.new_page()
    page.goto(f"{address}/operator/firmware")
    form = page.locator("[data-firmware]")
    page.evaluate("document.body.dataset.before = ''")
    page.evaluate(
        "new BroadcastChannel(`touchpoint-${document.body.dataset.stream}`).postMessage({kind: 'change'})"
    )
    expect(page.locator("body[data-before]")).to_have_count(0)  # the new page was laid over this one
    expect(form.locator("button")).to_be_enabled()
    form.locator("[name=manifest]").set_input_files(manifest)
    form.locator("[name=signatures]").set_input_files(wrong)
    form.locator("[name=files]").set_input_files(path)
    form.locator("button").click()
    expect(form.locator("[data-said]")).not_to_be_empty()  # the signatures are none
    form.locator("[name=signatures]").set_input_files(manifest.with_name(f"{manifest.name}.sig"))
    form.locator("button").click()
    expect(page.get_by_text("Quieter")).to_be_visible()
    assert works.find("2.0.0") is not None
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert not too_wide(page), f"it scrolls to the side at {width} px"
    refused = [said for said in watch.wrong if "422" not in said]
    assert not refused, refused
    context.close()


@pytest.mark.long
@pytest.mark.parametrize("locale", ["de-DE", "en-GB"])
def test_pages_with_updates_on_them_are_sound(
    works: Works, desk: Desk, browser: Browser, locale: str
) -> None:
    release = works.release(
        b"firmware", "2.0.0", sequence=2, minutes=12, notes={"en": "Charges faster", "de": "Lädt schneller"}
    )
    desk.api("POST", "owners", {"id": "jana", "name": "Jana", "language": locale[:2]})
    desk.api("POST", "devices", {"id": "car-1", "kind": "car", "model": "Arden 5", "owner": "jana"})
    wait_until(
        lambda: known(works, "SELECT 1 FROM targets WHERE owned"), "the device is known", 90, every=0.2
    )
    plan = {"groups": [{"name": "first"}], "forced_at": "2099-01-01T00:00:00Z", "security": True}
    made = desk.api("POST", "firmware/rollouts", {"name": "November", "release": release.id, "plan": plan})
    desk.api("POST", f"firmware/rollouts/{made['id']}/start")
    asked = "SELECT 1 FROM actions WHERE consent = 'told'"
    wait_until(lambda: known(works, asked), "the owner is asked", every=0.2)
    context = opened(browser, locale=locale, timezone_id="Europe/Berlin", bypass_csp=True)
    owner = desk.token("owner", "--subject", "jana")
    context.add_cookies(
        [
            {"name": "session-operator", "value": desk.secret, "url": desk.address},
            {"name": "session-owner", "value": owner, "url": desk.address},
        ]
    )
    watch, wrong = Watch(urlsplit(desk.address).netloc), []
    watch.over(context)
    page = context.new_page()
    rollout = f"/operator/firmware/rollouts/{made['id']}"
    planning = f"/operator/firmware/new?release={release.id}"
    for path in ("/me/updates", "/operator/firmware", rollout, planning, "/operator/firmware/devices/car-1"):
        page.goto(desk.address + path)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            wrong += [f"{path} scrolls to the side at {width} px"] * too_wide(page)
            if width in (min(WIDTHS), max(WIDTHS)):
                wrong += [f"{path} at {width} px: {fault}" for fault in axe_faults(page)]
        pictures = os.environ.get("TOUCHPOINT_TEST_PICTURES")
        if pictures:
            page.screenshot(path=Path(pictures) / f"{path.strip('/').replace('/', '-')}.png", full_page=True)
    page.goto(desk.address + planning)
    page.locator("input[name='0-devices']").fill("car-2")
    page.locator("input[name='0-percent']").press("Enter")
    expect(page.locator("[role=alert]")).to_have_count(0)
    expect(page.locator("#dry")).to_be_visible()  # Enter tries it and makes nothing
    page.goto(f"{desk.address}/me/updates")
    page.locator("input[value=now]").check()
    page.locator("main form button").click()
    page.wait_for_url("**said=update_agreed")
    context.close()
    assert wrong == []
    assert watch.wrong == []


def known(works: Works, question: str) -> bool:
    return works.store.read(lambda c: c.execute(question).fetchone()) is not None
