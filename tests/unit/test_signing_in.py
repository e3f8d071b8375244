"""Signing in without a browser: links, codes, passwords with one-time codes, limits, sessions, ranks."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import argon2
import pyotp
import pytest
from aiohttp import ClientResponse, ClientSession, CookieJar
from garage import TEXTS
from multidict import CIMultiDict
from web_lab import NOW, PADS, Lab, web_lab

from gateway.domain import accounts as domain
from gateway.domain.access import Role
from gateway.domain.accounts import ProofKind, Rank, Way
from gateway.domain.errors import ConflictError, GoneError, InvalidError, NotFoundError
from gateway.domain.policy import Policy
from gateway.domain.webhooks import MANUFACTURER, Webhook
from gateway.flow import accounts, sign_in_mail, tries
from gateway.ports import Records
from gateway.web import clients
from gateway.web.access import RUNNING, Identity, marked_routes, may_post
from gateway.web.sign_in import KEEPER

OURS = {"Sec-Fetch-Site": "same-origin"}
MINUTE = 60_000
PASSWORD = "a quiet blue kettle"
MAIL = ("web_push", "display", "email")


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    policy = Policy(rules={PADS.id: PADS}, channels=MAIL)
    async with web_lab(tmp_path, texts=TEXTS, policy=policy, extras={"strict": True}) as opened:
        await opened.workshop()
        await opened.owner("jana", "car-1")
        yield opened


class Browser:
    """A browser with cookies of its own, that follows nothing by itself."""

    def __init__(self, lab: Lab, network: str = "") -> None:
        self.lab = lab
        self.session = ClientSession(cookie_jar=CookieJar(unsafe=True))
        self.headers = {**OURS, "User-Agent": "Mozilla/5.0 (Android 15) Firefox/140"}
        if network:
            self.headers["X-Forwarded-For"] = network

    async def __aenter__(self) -> Browser:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def post(self, path: str, **form: str) -> ClientResponse:
        url = self.lab.client.make_url(path)
        answer = await self.session.post(url, data=form, headers=self.headers, allow_redirects=False)
        await answer.read()
        return answer

    async def get(self, path: str) -> ClientResponse:
        url = self.lab.client.make_url(path)
        answer = await self.session.get(url, headers=self.headers, allow_redirects=False)
        await answer.read()
        return answer

    async def sign_in(self, name: str, password: str, code: str) -> ClientResponse:
        return await self.post("/sign-in?for=staff", name=name, password=password, code=code)


async def mailed(lab: Lab, about: str) -> Any:
    """The next mail of this kind as it is sent; None when there is none."""

    def work(records: Records) -> Any:
        due = records.outbox.claim(lab.clock.now(), lease_ms=1_000, limit=10, channels=["email"])
        [one] = [delivery for delivery in due if delivery.payload["about"] == about] or [None]
        if one is None:
            return None
        assert "http" not in str(one.payload)  # the outbox keeps no secret
        sent = sign_in_mail.render(records, one, lab.clock.now(), TEXTS, "http://here")
        return sent and sent.payload

    return await lab.write(work)


def path_in(mail: Any) -> str:
    found = re.search(r"http://here(/sign-in/\S+)", mail["text"])
    assert found is not None, mail["text"]
    return found[1]


async def invited(
    lab: Lab, role: Role = Role.WORKSHOP, rank: Rank = Rank.RUNS, email: str = "Ben@North.example"
) -> str:
    """The link with which Ben's account begins."""
    subject = "north" if role is Role.WORKSHOP else None
    _, secret = await lab.write(
        lambda r: accounts.invite(r, role, subject, email, "Ben", rank, lab.clock.now())
    )
    return f"/sign-in/invitation/{secret}"


async def set_up(
    lab: Lab,
    browser: Browser,
    role: Role = Role.WORKSHOP,
    rank: Rank = Rank.RUNS,
    email: str = "Ben@North.example",
) -> Any:
    """Ben comes in by invitation and sets up password and app; gives (app, recovery codes)."""
    assert (await browser.post(await invited(lab, role, rank, email))).status == 303
    as_ = f"?as={role}"
    assert (await browser.post(f"/account/password/begin{as_}")).status == 303
    page = await (await browser.get(f"/account/password{as_}")).text()
    secret = re.search(r'class="code wrap">([A-Z2-7 ]+)<', page)
    assert secret is not None
    app = pyotp.TOTP(secret[1].replace(" ", ""))
    code = app.at(lab.clock.now() // 1000)
    done = await (await browser.post(f"/account/password{as_}", password=PASSWORD, code=code)).text()
    return app, re.findall(r"<li class=\"code\">([A-Z2-7-]{19})</li>", done)


def now_code(lab: Lab, app: pyotp.TOTP) -> str:
    """The code of the next half minute, for each counts once."""
    lab.clock.advance(lab.clock.now() + 30_000)
    return app.at(lab.clock.now() // 1000)


# --- owners: a link by mail --------------------------------------------------------------------------


async def test_an_owner_comes_in_by_a_link_that_is_mailed_and_works_once(lab: Lab) -> None:
    await lab.write(lambda r: r.owners.update(_with_mail(r.owners.get("jana"))))
    async with Browser(lab) as browser, Browser(lab) as thief:
        assert (await browser.post("/sign-in/mail", email=" Jana@Keller.example ")).status == 200
        mail = await mailed(lab, sign_in_mail.LINK)
        path = path_in(mail)
        assert "Jana" in mail["text"]
        for _ in range(3):  # mail scanners open everything
            shown = await browser.get(path)
            assert shown.status == 200
            assert shown.headers["X-Robots-Tag"].startswith("noindex")
        assert (await browser.get("/me")).status == 303
        came = await browser.post(path)
        assert (came.status, came.headers["Location"]) == (303, "/me")
        assert (await browser.get("/me")).status == 200
        assert (await thief.post(path)).status == 410
        assert (await thief.get(path)).status == 410
    lines = await lab.read(lambda r: [line.code for line in r.touchpoints.ledger(owner="jana")])
    assert lines == ["signed_in_link"]


def _with_mail(owner: Any) -> Any:
    return replace(owner, email="jana@keller.example")


async def test_a_link_expires_and_a_new_one_ends_the_one_before(lab: Lab) -> None:
    await lab.write(lambda r: r.owners.update(_with_mail(r.owners.get("jana"))))
    async with Browser(lab) as browser:
        links = []
        for _ in range(2):
            await browser.post("/sign-in/mail", email="jana@keller.example")
            links.append(path_in(await mailed(lab, sign_in_mail.LINK)))
        assert (await browser.post(links[0])).status == 404
        lab.clock.advance(NOW + accounts.LASTS[ProofKind.LINK] + MINUTE)
        assert (await browser.post(links[1])).status == 410


async def test_what_is_said_does_not_tell_who_has_an_account(lab: Lab) -> None:
    await lab.write(lambda r: r.owners.update(_with_mail(r.owners.get("jana"))))
    async with Browser(lab) as browser:
        known = await (await browser.post("/sign-in/mail", email="jana@keller.example")).text()
        unknown = await (await browser.post("/sign-in/mail", email="nemo@keller.example")).text()
        assert known.replace("jana@", "nemo@") == unknown
        assert (await browser.post("/sign-in/mail", email="no address")).status == 422


async def test_nobodys_mailbox_is_flooded(lab: Lab) -> None:
    await lab.write(lambda r: r.owners.update(_with_mail(r.owners.get("jana"))))
    async with Browser(lab) as browser:
        for _ in range(6):
            await browser.post("/sign-in/mail", email="jana@keller.example")

    def sent(records: Records) -> int:
        return len(records.outbox.claim(lab.clock.now(), lease_ms=1_000, limit=50, channels=["email"]))

    assert await lab.write(sent) == tries.LINKS_BY_ADDRESS.most


async def test_a_link_leads_on_to_the_page_that_was_wanted(lab: Lab) -> None:
    await lab.write(lambda r: r.owners.update(_with_mail(r.owners.get("jana"))))
    async with Browser(lab) as browser:
        await browser.post("/sign-in/mail", email="jana@keller.example", next="/me/ledger?x=1")
        path = path_in(await mailed(lab, sign_in_mail.LINK))
        assert path.endswith("?next=%2Fme%2Fledger%3Fx%3D1")
        assert 'value="/me/ledger?x=1"' in await (await browser.get(path)).text()
        came = await browser.post(path, next="/me/ledger?x=1")
        assert came.headers["Location"] == "/me/ledger?x=1"


# --- owners: a code that a display shows -----------------------------------------------------------------


async def test_a_code_on_the_display_signs_another_browser_in_once(lab: Lab) -> None:
    async with Browser(lab) as car, Browser(lab) as phone, Browser(lab) as second:
        _, secret = await lab.token(Role.OWNER, "jana")
        await car.post("/sign-in", token=secret)
        shown = await (await car.post("/display/car-1/code")).text()
        code = re.search(r"data-once>([A-Z]{4}-[A-Z]{4})<", shown)
        assert code is not None
        assert "<svg" in shown
        assert (await phone.post("/sign-in/code", code=code[1].lower().replace("-", " "))).status == 303
        assert (await phone.get("/me")).status == 200
        assert (await second.post("/sign-in/code", code=code[1])).status == 422


async def test_a_display_shows_no_code_for_somebody_elses_product(lab: Lab) -> None:
    await lab.owner("max")
    async with Browser(lab) as browser:
        _, secret = await lab.token(Role.OWNER, "max")
        await browser.post("/sign-in", token=secret)
        assert (await browser.post("/display/car-1/code")).status == 404


async def test_codes_are_not_guessed(lab: Lab) -> None:
    async with Browser(lab) as browser:
        answers = [
            (await browser.post("/sign-in/code", code=f"BCDF-GHJ{letter}")).status for letter in "BC" * 17
        ]
    assert answers[: tries.BY_NETWORK.most] == [422] * tries.BY_NETWORK.most
    assert set(answers[tries.BY_NETWORK.most :]) == {429}


def test_a_code_has_no_vowels_and_is_drawn_evenly() -> None:
    drawn = iter(bytes([255, 0, 19, 20, 239, 240, 1, 2, 3, 4, 5]))
    assert domain.display_code(lambda n: bytes([next(drawn)])) == "BZBZCDFG"
    assert domain.plain_code(" bzbz-cdfg ") == "BZBZCDFG"


# --- people at work: invitation, password and app ----------------------------------------------------------


async def test_who_is_invited_reaches_nothing_before_a_way_to_sign_in_is_set_up(lab: Lab) -> None:
    async with Browser(lab) as browser:
        path = await invited(lab)
        assert "Ben" in await (await browser.get(path)).text()
        came = await browser.post(path)
        assert came.headers["Location"] == "/account?as=workshop&said=welcome"
        for page in ("/workshop", "/account/people?as=workshop"):
            assert (await browser.get(page)).headers["Location"] == "/account?as=workshop"
        assert (await browser.get("/api/v1/appointments")).status == 403
        assert (await browser.get("/account?as=workshop")).status == 200
        assert (await browser.post(path)).status == 410


async def test_password_and_app_are_set_up_together_and_let_in_together(lab: Lab) -> None:
    async with Browser(lab) as browser, Browser(lab) as other:
        app, codes = await set_up(lab, browser)
        assert len(codes) == len(set(codes)) == domain.RECOVERY_CODES
        assert (await browser.get("/workshop")).status == 200
        came = await other.sign_in("ben@north.example", PASSWORD, now_code(lab, app))
        assert (came.status, came.headers["Location"]) == (303, "/workshop")
        assert (await other.get("/workshop")).status == 200


async def test_either_alone_is_wrong_and_the_page_does_not_say_which(lab: Lab) -> None:
    async with Browser(lab) as browser, Browser(lab) as other:
        app, _ = await set_up(lab, browser)
        pages = []
        for name, password, code in (
            ("ben@north.example", PASSWORD, "000000"),
            ("ben@north.example", "another password", now_code(lab, app)),
            ("nobody@north.example", PASSWORD, now_code(lab, app)),
        ):
            answer = await other.sign_in(name, password, code)
            assert answer.status == 422
            pages.append(await answer.text())
        assert len(set(pages)) == 1


async def test_a_one_time_code_counts_once(lab: Lab) -> None:
    async with Browser(lab) as browser, Browser(lab) as other:
        app, _ = await set_up(lab, browser)
        code = now_code(lab, app)
        assert (await other.sign_in("ben@north.example", PASSWORD, code)).status == 303
        assert (await other.sign_in("ben@north.example", PASSWORD, code)).status == 422


async def test_a_recovery_code_stands_for_the_app_once(lab: Lab) -> None:
    async with Browser(lab) as browser, Browser(lab) as other:
        _, codes = await set_up(lab, browser)
        typed = codes[3].lower().replace("-", " ")
        assert (await other.sign_in("ben@north.example", PASSWORD, typed)).status == 303
        assert (await other.sign_in("ben@north.example", PASSWORD, typed)).status == 422
        account = await lab.read(lambda r: r.accounts.by_name("ben@north.example"))
        assert account is not None
        assert len(account.recovery) == domain.RECOVERY_CODES - 1
        assert account.password is not None
        assert account.password.startswith("$argon2id$")


@pytest.mark.parametrize("text", ["short", "x" * 257, "aaaaaaaaaaaaaa", "ben and the dog"])
def test_a_password_is_long_and_no_name(text: str) -> None:
    with pytest.raises(InvalidError):
        domain.password(text, name="ben@north.example")


async def test_a_new_password_ends_the_sessions_elsewhere(lab: Lab) -> None:
    async with Browser(lab) as first, Browser(lab) as second:
        app, _ = await set_up(lab, first)
        await second.sign_in("ben@north.example", PASSWORD, now_code(lab, app))
        assert (await second.get("/workshop")).status == 200
        await second.post("/account/password/begin?as=workshop")
        page = await (await second.get("/account/password?as=workshop")).text()
        found = re.search(r'class="code wrap">([A-Z2-7 ]+)<', page)
        assert found is not None
        code = pyotp.TOTP(found[1].replace(" ", "")).at(lab.clock.now() // 1000)
        done = await second.post("/account/password?as=workshop", password="quite another kettle", code=code)
        assert done.status == 200
        assert (await first.get("/workshop")).status == 303
        assert (await second.get("/workshop")).status == 200


async def test_what_changes_how_one_signs_in_asks_to_sign_in_again_after_a_while(lab: Lab) -> None:
    async with Browser(lab) as browser:
        await set_up(lab, browser)
        lab.clock.advance(lab.clock.now() + accounts.FRESH_MS)
        answer = await browser.post("/account/password/begin?as=workshop")
        assert answer.headers["Location"].startswith("/sign-in?next=/account")
        assert (await browser.get("/workshop")).status == 200


async def test_a_working_day_ends(lab: Lab) -> None:
    async with Browser(lab) as browser:
        await set_up(lab, browser)
        lab.clock.advance(lab.clock.now() + accounts.STAFF_SESSION_MS)
        lab.app[KEEPER].forget()
        assert (await browser.get("/workshop")).headers["Location"].startswith("/sign-in")


# --- limits ---------------------------------------------------------------------------------------


PROXY = {"trusted_proxies": ["127.0.0.1"]}


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[Lab]:
    """Behind a proxy, so that requests come from networks of their own."""
    async with web_lab(tmp_path, texts=TEXTS, extras={"strict": True}, **PROXY) as opened:
        await opened.workshop()
        yield opened


async def test_a_stranger_cannot_lock_out_who_signed_in_from_their_browser_before(far: Lab) -> None:
    async with Browser(far, "192.0.2.1") as ben, Browser(far, "192.0.2.1") as stranger:
        app, _ = await set_up(far, ben)
        assert (await ben.sign_in("ben@north.example", PASSWORD, now_code(far, app))).status == 303
        for _ in range(tries.BY_BOTH.most):
            assert (await stranger.sign_in("ben@north.example", "guess and guess", "000000")).status == 422
        right = now_code(far, app)
        assert (await stranger.sign_in("ben@north.example", PASSWORD, right)).status == 429
        assert (await ben.sign_in("ben@north.example", PASSWORD, right)).status == 303


async def test_a_network_locks_itself_out_and_no_other(far: Lab) -> None:
    async with Browser(far, "192.0.2.1") as ben:
        app, _ = await set_up(far, ben)
    async with Browser(far, "198.51.100.7") as stranger:
        for _ in range(40):  # far more than the account allows over all networks
            await stranger.sign_in("ben@north.example", "guess and guess", "000000")
    async with Browser(far, "203.0.113.9") as elsewhere:
        came = await elsewhere.sign_in("ben@north.example", PASSWORD, now_code(far, app))
        assert came.status == 303


async def test_many_networks_together_are_slowed_down_too(far: Lab) -> None:
    async with Browser(far) as ben:
        app, _ = await set_up(far, ben)

        def guess(records: Records) -> list[bool]:
            now = far.clock.now()
            wheres = [tries.From(network=f"198.51.100.{n % 200}") for n in range(60)]
            return [tries.begin(records, "ben@north.example", where, now) for where in wheres]

        assert sum(await far.write(guess)) == tries.BY_NAME.most
        assert (await ben.sign_in("ben@north.example", PASSWORD, now_code(far, app))).status == 303


async def test_the_limit_ends_with_its_window(far: Lab) -> None:
    where = tries.From(network="198.51.100.7")

    def guess(records: Records) -> bool:
        return tries.begin(records, "ben@north.example", where, far.clock.now())

    assert [await far.write(guess) for _ in range(6)] == [True] * 5 + [False]
    far.clock.advance(NOW + tries.BY_BOTH.window_ms)
    assert await far.write(guess)


async def test_a_browser_that_is_known_to_one_account_is_a_stranger_to_others(lab: Lab) -> None:
    def work(records: Records) -> tuple[str | None, str | None]:
        now = lab.clock.now()
        accounts.remember_browser(records, "a1", "s" * 43, now)
        return tuple(accounts.known_browser(records, a, "s" * 43, now) for a in ("a1", "a2"))  # type: ignore[return-value]

    known, other = await lab.write(work)
    assert known is not None
    assert other is None


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2ff::1", "2001:db8:1:200::/56"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/56"),
        (None, "unknown"),
        ("nonsense", "unknown"),
    ],
)
def test_a_network_is_what_one_customer_has(address: str | None, network: str) -> None:
    assert tries.network(address) == network


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("6.6.6.6, 198.51.100.7", "198.51.100.7"),
        ("198.51.100.7, 10.1.2.3", "198.51.100.7"),
        ("", "10.0.0.5"),
    ],
)
def test_only_a_proxy_of_ours_says_where_a_request_comes_from(told: str, found: str) -> None:
    headers = CIMultiDict({"X-Forwarded-For": told} if told else {})
    request: Any = SimpleNamespace(remote="10.0.0.5", headers=headers)
    assert clients.address(request, ["10.0.0.0/8"]) == found
    assert clients.address(request, []) == "10.0.0.5"


# --- sessions -------------------------------------------------------------------------------------


async def test_sessions_are_listed_and_ended_from_any_other(lab: Lab) -> None:
    async with Browser(lab) as phone, Browser(lab) as desk:
        for browser in (phone, desk):
            code = await lab.write(lambda r: accounts.code_for(r, "jana", lab.clock.now()))
            assert (await browser.post("/sign-in/code", code=code)).status == 303
        page = await (await phone.get("/account")).text()
        assert page.count("Firefox, Android") == 3  # two rows, and the button's name of the other
        ended = await phone.post("/account/sessions/end")
        assert ended.headers["Location"] == "/account?as=owner&said=signed_out"
        assert (await desk.get("/me")).status == 303
        assert (await phone.get("/me")).status == 200


async def test_nobody_ends_somebody_elses_session(lab: Lab) -> None:
    await lab.owner("max")
    async with Browser(lab) as jana, Browser(lab) as max_:
        for browser, owner in ((jana, "jana"), (max_, "max")):
            code = await lab.write(lambda r, owner=owner: accounts.code_for(r, owner, lab.clock.now()))  # type: ignore[misc]
            await browser.post("/sign-in/code", code=code)
        [session] = await lab.read(lambda r: r.tokens.sessions(Role.OWNER, subject="jana"))
        assert (await max_.post(f"/account/sessions/{session.id}/end")).status == 404
        assert (await jana.get("/me")).status == 200


async def test_what_was_handed_out_for_one_thing_is_not_taken_for_another(lab: Lab) -> None:
    secret = await lab.write(lambda r: accounts.hand_out(r, ProofKind.SSO, "jana", NOW))
    for kind in (ProofKind.LINK, ProofKind.INVITATION, ProofKind.CODE):
        with pytest.raises(NotFoundError):
            await lab.write(lambda r, kind=kind: accounts.take(r, kind, secret, NOW))  # type: ignore[misc]


# --- ranks, and the people of a workshop ------------------------------------------------------------------


def test_everything_for_those_who_run_it_is_a_route(lab: Lab) -> None:
    routes = {f"{method} {path}" for method, path in marked_routes(lab.app)}
    assert routes >= RUNNING


async def test_staff_works_and_does_not_change_what_the_workshop_offers(lab: Lab) -> None:
    async with Browser(lab) as browser:
        await set_up(lab, browser, rank=Rank.STAFF)
        assert (await browser.get("/workshop")).status == 200
        for asked in sorted(RUNNING):
            method, path = asked.split(" ")
            if path.startswith(("/account/people", "/workshop/")) and method == "POST":
                answer = await browser.post(path.replace("{id}", "7") + "?as=workshop")
                assert answer.status == 403, asked


OFFERED = {
    Role.WORKSHOP: {
        "/workshop/services",
        "/workshop/holidays",
        "/workshop/calendars",
        "/workshop/calendars/busy",
    },
    Role.OPERATOR: {
        "/operator/recalls",
        "/operator/webhooks",
        "/operator/webhooks/w1/test",
        "/operator/rules/reload",
    },
}
"""Some of what who runs the place is offered."""
FORM = re.compile(r'<form[^>]*method="post"[^>]*action="([^"]+)"|<form[^>]*(data-firmware)')


@pytest.mark.parametrize("role", [Role.WORKSHOP, Role.OPERATOR])
async def test_what_is_refused_to_staff_is_not_offered_to_them(lab: Lab, role: Role) -> None:
    """Every page of theirs that has no place in its address, and those of the house's things."""
    hook = Webhook(id="w1", audience=MANUFACTURER, url="https://h.example", secrets=(), created=NOW)
    await lab.write(lambda r: r.webhooks.put(hook))
    pages = [
        path
        for (method, path), roles in marked_routes(lab.app).items()
        if method == "GET" and roles == {role} and "{" not in path and not path.startswith("/api/")
    ]
    assert len(pages) > 4
    async with Browser(lab) as boss, Browser(lab) as staff:
        await set_up(lab, boss, role)
        offered = await offers(boss, pages, role)
        await set_up(lab, staff, role, Rank.STAFF, "cem@north.example")
        assert not await offers(staff, pages, role)
        assert offered >= OFFERED[role], offered
        for address in offered:
            assert (await staff.post(f"{address}?as={role}")).status == 403, address


async def offers(browser: Browser, pages: Iterable[str], role: Role) -> set[str]:
    """What the forms of these pages send of that which is for those who run the place."""
    found = set()
    for path in [*pages, f"/account?as={role}"]:
        answer = await browser.get(path)
        if answer.status != 200:
            continue  # leads elsewhere, or this house has none of it
        for address, upload in FORM.findall(await answer.text()):
            found.add("/api/v1/firmware/releases" if upload else urlsplit(address).path)
    staff = Identity(role=role, subject=None, language="en", rank=Rank.STAFF)
    return {address for address in found if not may_post(staff, address)}


async def test_who_runs_the_workshop_invites_and_ends_and_reaches_no_other_workshop(lab: Lab) -> None:
    other, _ = await lab.write(
        lambda r: accounts.invite(r, Role.OPERATOR, None, "ana@house.example", "Ana", Rank.RUNS, NOW)
    )
    async with Browser(lab) as boss, Browser(lab) as staff:
        await set_up(lab, boss)
        made = await boss.post("/account/people?as=workshop", name="Cem", email="cem@north.example")
        assert made.status == 200
        mail = await mailed(lab, sign_in_mail.INVITATION)
        assert "Autohaus Nord" in mail["text"]
        assert (await staff.post(path_in(mail))).status == 303
        cem = await lab.read(lambda r: r.accounts.by_name("cem@north.example"))
        assert cem is not None
        assert (cem.subject, cem.rank) == ("north", Rank.STAFF)
        for action in ("again", "end"):
            assert (await boss.post(f"/account/people/{other.id}/{action}?as=workshop")).status == 404
        assert (await boss.post(f"/account/people/{cem.id}/end?as=workshop")).status == 303
        assert (await staff.get("/account?as=workshop")).headers["Location"].startswith("/sign-in")


async def test_the_only_way_in_is_not_taken_away_and_nobody_ends_themselves(lab: Lab) -> None:
    async with Browser(lab) as boss:
        await set_up(lab, boss)
        gone = await boss.post("/account/password/remove?as=workshop")
        assert gone.headers["Location"].endswith("said=last")
        me = await lab.read(lambda r: r.accounts.by_name("ben@north.example"))
        assert me is not None
        assert (await boss.post(f"/account/people/{me.id}/end?as=workshop")).status == 409


async def test_an_address_is_invited_once_and_again_after_it_ended(lab: Lab) -> None:
    await invited(lab)
    with pytest.raises(ConflictError):
        await invited(lab)
    me = await lab.read(lambda r: r.accounts.by_name("ben@north.example"))
    assert me is not None
    await lab.write(lambda r: accounts.end(r, me.id, NOW))
    with pytest.raises(ConflictError):
        await lab.write(lambda r: accounts.invite_again(r, me.id, NOW))
    ended = await lab.read(lambda r: r.accounts.get(me.id))
    with pytest.raises(GoneError):
        await lab.write(lambda r: accounts.open_session(r, ended, Way.LINK, NOW, browser=None))
    await invited(lab)


async def test_a_link_somebody_was_invited_with_is_not_shown_where_it_was_mailed(lab: Lab) -> None:
    async with Browser(lab) as boss:
        await set_up(lab, boss)
        made = await (
            await boss.post("/account/people?as=workshop", name="Cem", email="cem@north.example")
        ).text()
        assert "/sign-in/invitation/" not in made


# --- pages ----------------------------------------------------------------------------------------


async def test_no_template_has_a_script_or_a_style_of_its_own() -> None:
    folder = Path(clients.__file__).parent / "templates"
    for template in sorted(folder.glob("*.html")):
        text = template.read_text(encoding="utf-8")
        assert not re.search(r'<script(?![^>]*\bsrc=)|<style|\sstyle="|\son[a-z]+="|javascript:', text), (
            template.name
        )


def test_who_steals_the_hashes_tries_passwords_as_slowly_as_rfc_9106_recommends(
    shipped_hasher: argon2.PasswordHasher,
) -> None:
    one = shipped_hasher
    assert (one.type, one.memory_cost, one.time_cost, one.parallelism) == (argon2.Type.ID, 64 * 1024, 3, 4)
