"""A car that is driven, on its own screen: nothing but what is critical, and when it parks, what was held.

A running gateway on real time, with messages as a car sends them; the page is never loaded anew.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_lab import Watch, opened
from gateway_lab import PADS, WORKSHOP, wait_for
from playwright.sync_api import Browser, BrowserContext, Page, expect
from real_parts import Mosquitto
from running_gateway import RunningGateway, now_ms, publish, running_gateway, telemetry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RULES = (
    PADS
    + """- id: hot
  version: 1
  kind: car
  purpose: safety
  severity: critical
  when: coolant_temperature >= 120
  touchpoint: {kind: hint}
"""
)


@contextlib.contextmanager
def jana_and_her_car(broker: str, folder: Path) -> Iterator[RunningGateway]:
    """A house that asks as soon as a car has parked, at any hour."""
    (folder / "rules.yaml").write_text(RULES)
    settings = {"rules__paths": json.dumps([str(folder / "rules.yaml")]), "moments__driving_hold_s": "1"}
    with running_gateway(folder / "house", broker, **settings) as gateway:
        gateway.start()
        # A process of its own: the browser's loop runs in ours.
        gateway.token = gateway.run("token", "create", "--role", "operator").split()[-1]
        gateway.api("POST", "workshops", WORKSHOP)
        gateway.api("POST", "owners", {"id": "jana", "name": "Jana", "language": "en"})
        for purpose in ("maintenance", "safety"):
            gateway.api("PUT", f"owners/jana/consents/{purpose}", {"granted": True})
        gateway.api("PUT", "owners/jana/preferences", {"quiet_from": "00:00", "quiet_to": "00:00"})
        gateway.api("POST", "devices", {"id": "car-1", "kind": "car", "owner": "jana", "workshop": "nord"})
        yield gateway


def screen(gateway: RunningGateway, context: BrowserContext) -> Page:
    """The car's own screen, signed in as its owner."""
    secret = gateway.run("token", "create", "--role", "owner", "--subject", "jana").split()[-1]
    address = f"http://127.0.0.1:{gateway.port}"
    context.add_cookies([{"name": "session-owner", "value": secret, "url": address}])
    page = context.new_page()
    page.goto(f"{address}/car/car-1")
    page.evaluate("window.neverReloaded = true")
    return page


def test_at_the_wheel_only_what_is_critical_and_the_rest_once_it_is_parked(
    mosquitto: Mosquitto, tmp_path: Path, browser: Browser
) -> None:
    context = opened(browser, locale="en-GB", viewport={"width": 1280, "height": 480})
    with jana_and_her_car(mosquitto.url, tmp_path) as gateway:
        watch = Watch(f"127.0.0.1:{gateway.port}")
        watch.over(context)

        def says(**signals: float) -> None:
            publish(mosquitto.url, [telemetry("car-1", now_ms(), **signals)])

        page = screen(gateway, context)
        # It drives, and its pads are worn: found, and held.
        says(speed=80, pad_wear_front=90, coolant_temperature=90)
        expect(page.locator(".display-top .mid")).to_contain_text("Driving")
        wait_for(lambda: states(gateway) == {"pads": "deferred"}, "the pads wait")
        expect(page.locator("main button")).to_have_count(0)
        # What is critical comes through, with nothing to type and one thing to tap.
        says(speed=80, coolant_temperature=125)
        expect(page.locator("main .tag.critical")).to_be_visible()
        assert states(gateway) == {"pads": "deferred", "hot": "open"}
        page.locator("main form:has([value=noted]) button").click()
        expect(page.locator("main button")).to_have_count(0)
        # Parked, it asks what it has held, by itself.
        says(speed=0, coolant_temperature=90)
        ended = json.dumps({"ts": now_ms(), "event": "trip_ended"}).encode()
        publish(mosquitto.url, [("touchpoint/v1/car-1/event", ended)])
        expect(page.locator(".slot").first).to_be_visible()
        assert states(gateway) == {"pads": "open", "hot": "closed"}
        # Off again before anybody has answered: it is put away, not lost.
        says(speed=50)
        expect(page.locator(".slot")).to_have_count(0)
        assert states(gateway)["pads"] in ("open", "deferred")
        assert page.evaluate("window.neverReloaded") is True
        assert watch.wrong == []
    context.close()


def states(gateway: RunningGateway) -> dict[str, str]:
    """{rule: state of its touchpoint}"""
    return {one["rule"]: one["state"] for one in gateway.all("touchpoints?owner=jana")}
