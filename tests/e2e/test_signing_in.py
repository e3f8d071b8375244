"""Signing in, in a real browser: a link by mail, passkeys of a virtual authenticator (DevTools protocol),
password with one-time codes, the people of a workshop, a code from the car. All pages are sound."""

from __future__ import annotations

import email
import json
import os
import re
import urllib.request
from collections.abc import Iterator
from email import policy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyotp
import pytest
from aiosmtpd.controller import Controller
from browser_lab import WIDTHS, Watch, axe_faults, opened, told_in, too_wide
from gateway_lab import GatewayProcess
from playwright.sync_api import Browser, BrowserContext, Page, expect
from real_parts import PATIENCE_S, free_port, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PASSWORD = "a quiet blue kettle"


class Mailbox:
    """A mail server that keeps what it takes."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        mail = email.message_from_bytes(envelope.content, policy=policy.default)
        body = mail.get_body(("plain",))
        assert body is not None
        self.texts += [(to, body.get_content()) for to in envelope.rcpt_tos]
        return "250 OK"

    def link(self, to: str) -> str:
        """The address in the newest mail to somebody."""
        wait_until(lambda: any(who == to for who, _ in self.texts), f"a mail to {to}", every=0.1)
        text = [said for who, said in self.texts if who == to][-1]
        self.texts.clear()
        found = re.search(r"http://\S+/sign-in/\S+", text)
        assert found is not None, text
        return found[0]


class House:
    """The running gateway, its mail, and the API as another system."""

    def __init__(self, gateway: GatewayProcess, box: Mailbox) -> None:
        self.gateway = gateway
        self.box = box
        self.address = f"http://localhost:{gateway.port}"
        self.secret = gateway.run("token", "create", "--role", "integration").split()[-1]

    def api(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self.address}/api/v1/{path}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.secret}", "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    box, port = Mailbox(), free_port()
    smtp = free_port()
    mail = Controller(box, hostname="127.0.0.1", port=smtp, ready_timeout=PATIENCE_S)
    mail.start()
    settings = {
        "TOUCHPOINT_WEB__PUBLIC_URL": f"http://localhost:{port}",
        "TOUCHPOINT_DELIVER__EMAIL__URL": f"smtp://127.0.0.1:{smtp}",
    }
    folder = tmp_path_factory.mktemp("house")
    gateway = GatewayProcess(folder=folder, broker="embedded:", settings=settings, port=port)
    try:
        gateway.start()
        made = House(gateway, box)
        made.api("POST", "workshops", {"id": "north", "name": "Autohaus Nord", "services": []})
        mailed = {"email": "jana@keller.example", "language": "de", "time_zone": "Europe/Berlin"}
        made.api("POST", "owners", {"id": "jana", "name": "Jana Keller", **mailed})
        made.api("POST", "devices", {"id": "car-1", "kind": "car", "model": "Arden 5", "owner": "jana"})
        yield made
    finally:
        gateway.stop()
        mail.stop()


class Visitor:
    """Somebody at a browser that can make passkeys."""

    def __init__(self, browser: Browser, house: House, folder: Path | None, locale: str, scheme: Any) -> None:
        self.house = house
        self.folder = folder
        self.name = f"{locale[:2]}-{scheme}"
        self.context: BrowserContext = opened(
            browser,
            locale=locale,
            color_scheme=scheme,
            timezone_id="Europe/Berlin",
            bypass_csp=True,
            viewport={"width": 360, "height": 800},
        )
        self.watch = Watch(urlsplit(house.address).netloc)
        self.watch.over(self.context)
        self.page: Page = self.context.new_page()
        self.wrong: list[str] = []
        devtools = self.context.new_cdp_session(self.page)
        devtools.send("WebAuthn.enable")
        options = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
        }
        devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})

    def go(self, path: str) -> None:
        self.page.goto(path if path.startswith("http") else self.house.address + path)

    def look(self, name: str) -> None:
        """The page as it stands: no sideways scrolling at any width, nothing axe-core finds, a picture."""
        for width in WIDTHS:
            self.page.set_viewport_size({"width": width, "height": 800})
            self.wrong += [f"{name} scrolls to the side at {width} px"] * too_wide(self.page)
        self.wrong += [f"{name}: {fault}" for fault in axe_faults(self.page)]
        self.page.set_viewport_size({"width": 360, "height": 800})
        if self.folder is not None:
            self.page.screenshot(path=self.folder / f"signing-in-{name}-{self.name}.png", full_page=True)

    def done(self) -> None:
        assert not self.wrong, self.wrong
        assert not self.watch.wrong, self.watch.wrong
        self.context.close()


@pytest.fixture
def pictures() -> Path | None:
    """Where to keep pictures of every page; None for nowhere."""
    folder = os.environ.get("TOUCHPOINT_TEST_PICTURES")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder) if folder else None


@pytest.mark.parametrize(("locale", "scheme"), told_in(("de-DE", "light"), ("en-GB", "dark")))
def test_an_owner_comes_in_by_mail_makes_a_passkey_and_comes_in_with_it(
    house: House, browser: Browser, pictures: Path | None, locale: str, scheme: str
) -> None:
    one = Visitor(browser, house, pictures, locale, scheme)
    one.go("/sign-in?next=%2Fme%2Fledger")
    one.look("sign-in")
    one.page.locator("form[action='/sign-in/mail'] input[type=email]").fill("jana@keller.example")
    one.page.locator("form[action='/sign-in/mail'] button").click()
    expect(one.page.locator("h1")).to_be_visible()
    one.look("sent")
    one.go(house.box.link("jana@keller.example"))
    one.look("link")
    one.page.locator("main form button").click()
    one.page.wait_for_url("**/me/ledger")
    one.go("/account?as=owner")
    one.look("account")
    one.page.locator("[data-passkey=create] input").fill("My phone")
    one.page.locator("[data-passkey=create] button").click()
    one.page.wait_for_url("**said=passkey")
    expect(one.page.get_by_text("My phone").first).to_be_visible()
    one.look("account-passkey")
    one.page.locator("form[action='/sign-out'] button").first.click()
    one.go("/me")
    one.page.wait_for_url("**/sign-in?**")
    one.page.locator("[data-passkey=get] button").click()
    one.page.wait_for_url(lambda url: urlsplit(url).path == "/me")
    one.go("/account?as=owner")
    one.page.locator("form[action*='/remove'] button").first.click()
    one.page.wait_for_url("**said=passkey_gone")
    one.done()


def test_a_passkey_that_was_taken_back_opens_nothing(
    house: House, browser: Browser, pictures: Path | None
) -> None:
    one = Visitor(browser, house, pictures, "en-GB", "light")
    one.go("/sign-in")
    one.page.locator("[data-passkey=get] button").click()
    expect(one.page.locator("[data-passkey=get] [data-fault]")).to_be_visible()
    one.done()


@pytest.mark.parametrize(("locale", "scheme"), told_in(("de-DE", "dark"), ("en-GB", "light"), first=1))
def test_a_workshop_sets_up_password_and_app_and_invites_its_staff(
    house: House, browser: Browser, pictures: Path | None, locale: str, scheme: str
) -> None:
    address = f"ben-{locale[:2]}@north.example"
    words = ("user", "add", "--role", "workshop", "--workshop", "north", "--name", "Ben", "--runs")
    link = house.gateway.run(*words, "--email", address).strip()
    assert link.startswith(f"{house.address}/sign-in/invitation/")
    one = Visitor(browser, house, pictures, locale, scheme)
    one.go(link)
    one.look("invitation")
    one.page.locator("main form button").click()
    one.page.wait_for_url("**/account?as=workshop**")
    one.look("account-new")
    one.page.locator("form[action*='/password/begin'] button").click()
    one.page.wait_for_url("**/account/password?**")
    one.look("password")
    secret = one.page.locator(".code.wrap").inner_text().replace(" ", "")
    app = pyotp.TOTP(secret)
    one.page.locator("input[name=password]").fill(PASSWORD)
    one.page.locator("input[name=code]").fill(app.now())
    one.page.locator("main form button.primary").click()
    expect(one.page.locator(".recovery li")).to_have_count(10)
    one.look("recovery")
    recovery = one.page.locator(".recovery li").first.inner_text()
    one.go("/account/people?as=workshop")
    one.look("people")
    one.page.locator("main input[name=name]").fill("Cem")
    one.page.locator("main input[name=email]").fill(f"cem-{locale[:2]}@north.example")
    one.page.locator("main form button.primary").click()
    assert "/sign-in/invitation/" in house.box.link(f"cem-{locale[:2]}@north.example")
    one.go("/account?as=workshop")
    one.page.locator("main form[action='/sign-out'] button").click()
    one.go("/sign-in?for=staff")
    one.look("sign-in-staff")
    one.page.locator("input[name=name]").fill(address)
    one.page.locator("input[name=password]").fill(PASSWORD)
    one.page.locator("input[name=code]").fill(recovery)
    one.page.locator("form[action='/sign-in?for=staff'] button").first.click()
    one.page.wait_for_url("**/workshop")
    one.done()


def test_staff_comes_in_with_a_passkey_alone(house: House, browser: Browser, pictures: Path | None) -> None:
    words = ("user", "add", "--role", "operator", "--name", "Ana", "--email", "ana@house.example")
    one = Visitor(browser, house, pictures, "en-GB", "dark")
    one.go(house.gateway.run(*words).strip())
    one.page.locator("main form button").click()
    one.page.wait_for_url("**/account?as=operator**")
    one.page.locator("[data-passkey=create] button").click()
    one.page.wait_for_url("**said=passkey")
    one.go("/operator/owners")
    assert urlsplit(one.page.url).path == "/operator/owners"
    one.look("operator")
    one.go("/account?as=operator")
    one.page.locator("main form[action='/sign-out'] button").click()
    one.go("/sign-in?for=staff")
    one.page.locator("[data-passkey=get] button").click()
    one.page.wait_for_url("**/operator")
    one.done()


def test_the_car_shows_a_code_that_signs_the_phone_in(
    house: House, browser: Browser, pictures: Path | None
) -> None:
    secret = house.gateway.run("token", "create", "--role", "owner", "--subject", "jana").split()[-1]
    car = Visitor(browser, house, pictures, "de-DE", "dark")
    cookie = {"name": "session-owner", "value": secret, "url": house.address}
    car.context.add_cookies([cookie])  # type: ignore[list-item]
    car.page.set_viewport_size({"width": 1280, "height": 480})
    car.go("/car/car-1")
    car.page.locator("form[action='/display/car-1/code'] button").click()
    expect(car.page.locator(".big-code")).to_be_visible()
    code = car.page.locator(".big-code").inner_text()
    car.look("display-code")
    phone = Visitor(browser, house, pictures, "de-DE", "light")
    phone.go("/sign-in/code")
    phone.look("code")
    phone.page.locator("main input[name=code]").fill(code.lower())
    phone.page.locator("main form button").click()
    phone.page.wait_for_url(lambda url: urlsplit(url).path in ("/account", "/me"))
    car.done()
    phone.done()
