"""Who may come in: tokens, sessions, marks on routes, and the check of where a request came from."""

import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from firmware_lab import Works
from web_lab import DAY, NOW, Lab, web_lab

from firmware_api.routes import application as firmware
from firmware_api.store import FirmwareStore
from gateway.domain.access import Role, issue_token, secret_hash
from gateway.web.access import (
    CACHED_S,
    Gatekeeper,
    UnmarkedRouteError,
    allow,
    asked_language,
    local_path,
    marked_routes,
    public,
)

OURS = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with web_lab(tmp_path) as opened:
        yield opened


# --- tokens ---------------------------------------------------------------------------------------


def test_a_secret_is_long_and_only_its_hash_is_kept() -> None:
    token, secret = issue_token(Role.OPERATOR, None, ttl_ms=DAY, now=NOW, random=os.urandom)
    assert len(secret) >= 43
    assert secret not in repr(token)
    assert token.hash == secret_hash(secret)


def test_a_token_opens_nothing_once_it_has_expired_or_was_revoked() -> None:
    token, _ = issue_token(Role.OPERATOR, None, ttl_ms=DAY, now=NOW, random=os.urandom)
    assert token.live(NOW + DAY - 1)
    assert not token.live(NOW + DAY)


@pytest.mark.parametrize(
    ("role", "subject", "why"),
    [
        (Role.OWNER, None, "subject"),
        (Role.WORKSHOP, "", "subject"),
        (Role.OPERATOR, "desk:3", "name"),
        (Role.INTEGRATION, " ", "name"),
        (Role.INTEGRATION, "x" * 61, "name"),
    ],
)
def test_owners_and_workshops_need_a_subject_and_names_can_stand_in_a_ledger(
    role: Role, subject: str | None, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        issue_token(role, subject, ttl_ms=DAY, now=NOW, random=os.urandom)


def test_a_session_does_not_outlive_the_token_it_was_opened_with() -> None:
    opener, _ = issue_token(Role.OPERATOR, None, ttl_ms=DAY, now=NOW, random=os.urandom)
    session, _ = issue_token(
        Role.OPERATOR, None, ttl_ms=30 * DAY, now=NOW + 1, random=os.urandom, opened_by=opener
    )
    assert session.expires == opener.expires
    assert session.opened_by == opener.hash


# --- marks ----------------------------------------------------------------------------------------


async def anybody(_: web.Request) -> web.Response:
    return web.Response()


def test_a_route_without_a_mark_is_refused_by_name() -> None:
    app = web.Application()
    app.add_routes([web.get("/marked", public(anybody))])

    async def unmarked(_: web.Request) -> web.Response:
        return web.Response()

    app.add_routes([web.get("/secret", unmarked)])
    with pytest.raises(UnmarkedRouteError, match="GET /secret"):
        marked_routes(app)


def test_allow_names_at_least_one_role() -> None:
    with pytest.raises(ValueError, match="at least one"):
        allow()


def test_every_route_of_the_application_is_marked(lab: Lab) -> None:
    assert len(marked_routes(lab.app)) > 50


# --- the gatekeeper -------------------------------------------------------------------------------


async def test_a_token_is_looked_up_once_a_second_and_a_revoked_one_stops_within_that(lab: Lab) -> None:
    token, secret = await lab.token(Role.OPERATOR)
    moment = [0.0]
    keeper = Gatekeeper(lab.database, lab.clock, public_url="http://127.0.0.1", monotonic=lambda: moment[0])
    assert await keeper.by_secret(secret) is not None
    await lab.write(lambda r: r.tokens.revoke(token.id, NOW))
    moment[0] = CACHED_S - 0.01
    assert await keeper.by_secret(secret) is not None
    moment[0] = CACHED_S
    assert await keeper.by_secret(secret) is None


async def test_bearers_of_nothing_valid_are_not_known(lab: Lab) -> None:
    for header in ("Bearer tp_nothing", "Basic dXNlcjpwYXNz", "Bearer", ""):
        async with lab.client.get("/api/v1/owners", headers={"Authorization": header}) as response:
            assert response.status == 401
            assert response.headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_token_that_expired_is_not_known(lab: Lab) -> None:
    _, secret = await lab.token(Role.OPERATOR, ttl_ms=1_000)
    lab.clock.advance(NOW + 1_000)
    async with lab.client.get("/api/v1/owners", headers={"Authorization": f"Bearer {secret}"}) as response:
        assert response.status == 401


# --- sessions -------------------------------------------------------------------------------------


async def sign_in(lab: Lab, secret: str, wanted: str = "/") -> tuple[int, str]:
    form = {"token": secret, "next": wanted}
    async with lab.client.post("/sign-in", data=form, headers=OURS, allow_redirects=False) as response:
        return response.status, response.headers.get("Location", "")


async def test_a_token_pasted_once_becomes_a_session_that_is_not_the_token(lab: Lab) -> None:
    await lab.owner("jana")
    _, secret = await lab.token(Role.OWNER, "jana")
    async with lab.client.post(
        "/sign-in", data={"token": secret}, headers=OURS, allow_redirects=False
    ) as response:
        cookie = response.headers["Set-Cookie"]
    assert response.status == 303
    assert cookie.startswith("session-owner=")
    assert secret not in cookie
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    async with lab.client.get("/api/v1/owners/jana") as shown:
        assert shown.status == 200


async def test_a_session_ends_with_the_token_it_was_opened_with(lab: Lab) -> None:
    await lab.owner("jana")
    token, secret = await lab.token(Role.OWNER, "jana")
    await sign_in(lab, secret)
    await lab.write(lambda r: r.tokens.revoke(token.id, NOW))
    async with lab.client.get("/api/v1/owners/jana") as shown:
        assert shown.status == 401


async def test_signing_out_ends_the_session_itself(lab: Lab) -> None:
    await lab.owner("jana")
    _, secret = await lab.token(Role.OWNER, "jana")
    await sign_in(lab, secret)
    [cookie] = [c.value for c in lab.client.session.cookie_jar if c.key == "session-owner"]
    async with lab.client.post("/sign-out", headers=OURS, allow_redirects=False) as response:
        assert response.status == 303
    header = {"Cookie": f"session-owner={cookie}"}
    async with lab.client.get("/api/v1/owners/jana", headers=header) as shown:
        assert shown.status == 401


@pytest.mark.parametrize(("wanted", "to"), [("/me?x=1", "/me?x=1"), ("//evil.example", "/me")])
async def test_signing_in_goes_on_to_pages_of_this_site_only(lab: Lab, wanted: str, to: str) -> None:
    await lab.owner("jana")
    _, secret = await lab.token(Role.OWNER, "jana")
    assert await sign_in(lab, secret, wanted) == (303, to)


async def test_what_opens_no_pages_opens_no_session(lab: Lab) -> None:
    _, integration = await lab.token(Role.INTEGRATION)
    for secret in (integration, "tp_nothing", ""):
        assert (await sign_in(lab, secret))[0] == 422


async def test_under_https_the_cookie_is_bound_to_the_host(tmp_path: Path) -> None:
    async with web_lab(tmp_path, public_url="https://touchpoint.example") as lab:
        _, secret = await lab.token(Role.OPERATOR)
        async with lab.client.post(
            "/sign-in", data={"token": secret}, headers=OURS, allow_redirects=False
        ) as response:
            cookie = response.headers["Set-Cookie"]
        assert cookie.startswith("__Host-session-operator=")
        assert "Secure" in cookie
        assert response.headers["Strict-Transport-Security"].startswith("max-age=")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 201),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 403),
    ],
)
async def test_a_cookie_alone_changes_nothing_unless_our_own_page_sent_it(
    lab: Lab, headers: dict[str, str], status: int
) -> None:
    _, secret = await lab.token(Role.OPERATOR)
    await sign_in(lab, secret)
    async with lab.client.post("/api/v1/owners", json={"name": "Jana"}, headers=headers) as response:
        assert response.status == status


async def test_an_origin_that_is_ours_is_enough_for_older_browsers(lab: Lab) -> None:
    _, secret = await lab.token(Role.OPERATOR)
    await sign_in(lab, secret)
    origin = str(lab.client.make_url("/").origin())
    async with lab.client.post(
        "/api/v1/owners", json={"name": "Jana"}, headers={"Origin": origin}
    ) as response:
        assert response.status == 201


async def test_one_browser_can_be_owner_and_operator_side_by_side(lab: Lab) -> None:
    await lab.owner("jana")
    for role, subject in ((Role.OWNER, "jana"), (Role.OPERATOR, None)):
        _, secret = await lab.token(role, subject)
        await sign_in(lab, secret)
    async with lab.client.get("/api/v1/owners") as as_operator:
        assert as_operator.status == 200
    async with lab.client.get("/api/v1/devices?as=operator&unclaimed=true") as chosen:
        assert chosen.status == 200
    async with lab.client.get("/api/v1/owners/jana?as=owner") as as_owner:
        assert as_owner.status == 200


class Played:
    """A demo whose cast is Jana, her car and the workshop north."""

    def state(self) -> Mapping[str, Any]:
        cast = {"owner": "jana", "car": "car-1", "appliance": None, "workshop": "north"}
        return {"cast": cast, "speed": 60.0, "now": NOW}

    def set_pace(self, pace: str) -> None:
        raise NotImplementedError

    async def act(self, action: str) -> None:
        raise NotImplementedError

    async def wait_changed(self) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("name", "home", "roles"),
    [
        ("owner", "/me", {"owner"}),
        ("car", "/display/car-1", {"owner"}),
        ("workshop", "/workshop", {"workshop"}),
        ("operator", "/operator", {"operator"}),
        ("all", "/", {"owner", "workshop", "operator"}),
    ],
)
async def test_in_the_demo_one_may_enter_as_anybody_of_the_cast(
    tmp_path: Path, name: str, home: str, roles: set[str]
) -> None:
    async with web_lab(tmp_path, demo=Played()) as lab:
        async with lab.client.post(
            "/enter", data={"as": name}, headers=OURS, allow_redirects=False
        ) as response:
            assert (response.status, response.headers["Location"]) == (303, home)
            assert set(response.cookies) == {f"session-{role}" for role in roles}
        async with lab.client.post("/enter", data={"as": "nobody"}, headers=OURS) as response:
            assert response.status == 400


async def test_outside_of_the_demo_nobody_enters_without_a_token(lab: Lab) -> None:
    async with lab.client.post("/enter", data={"as": "operator"}, headers=OURS) as response:
        assert response.status == 404


async def test_a_cookie_of_another_life_is_no_session(lab: Lab) -> None:
    headers = {"Cookie": "session-operator=tp_left_over"}
    async with lab.client.get("/api/v1/owners", headers=headers) as response:
        assert response.status == 401


# --- small things ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("de-DE,de;q=0.9,en;q=0.8", "de"),
        ("fr,en;q=0.2,de;q=0.4", "de"),
        ("fr", "en"),
        ("", "en"),
        ("de;q=x", "en"),
    ],
)
def test_the_browsers_wish_for_a_language_is_heard(header: str, language: str) -> None:
    assert asked_language(header) == language


@pytest.mark.parametrize("path", ["https://evil.example", "//evil.example", "/\\evil.example", "", "/a\nb"])
def test_nobody_is_sent_to_another_site(path: str) -> None:
    assert local_path(path, "/home") == "/home"


async def test_every_answer_carries_the_headers_that_keep_it_safe(lab: Lab) -> None:
    for path in ("/health/live", "/api/v1/owners", "/sign-in", "/nothing"):
        async with lab.client.get(path) as response:
            policy = response.headers["Content-Security-Policy"]
            assert "unsafe" not in policy
            assert "frame-ancestors 'self'" in policy
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert "Strict-Transport-Security" not in response.headers


async def test_static_files_are_kept_by_browsers_and_nothing_else_is_reached(lab: Lab) -> None:
    async with lab.client.get("/static/app.css") as first:
        etag = first.headers["ETag"]
    async with lab.client.get("/static/app.css?v1", headers={"If-None-Match": etag}) as again:
        assert again.status == 304
        assert "immutable" in again.headers["Cache-Control"]
    for path in (
        "/static/..%2fserver.py",
        "/static/../server.py",
        "/static/none.css",
        "/static/%2fetc/passwd",
    ):
        async with lab.client.get(path) as response:
            assert response.status == 404


async def test_a_mounted_application_keeps_its_own_rules(tmp_path: Path) -> None:
    mounted = web.Application()
    mounted.add_routes([web.get("/releases", anybody)])
    async with web_lab(tmp_path, firmware=mounted) as lab:
        async with lab.client.get("/firmware/releases") as response:
            assert response.status == 200
            assert response.headers["X-Content-Type-Options"] == "nosniff"
        async with lab.client.get("/firmware/none") as response:
            assert (response.status, response.content_type) == (404, "application/problem+json")
            assert (await response.json())["detail"] == "There is nothing at this address."


async def test_before_anybody_is_trusted_devices_and_people_are_told_what_to_do(tmp_path: Path) -> None:
    store = FirmwareStore(tmp_path / "firmware")
    async with web_lab(tmp_path, firmware=firmware(store)) as lab:
        for path in ("trust", "trust.sig", "index", "index.sig"):
            async with lab.client.get(f"/firmware/{path}") as response:
                assert (response.status, response.content_type) == (404, "application/problem+json")
                assert "touchpoint firmware key init" in (await response.json())["detail"]
        works = Works(tmp_path)
        for path in ("trust", "trust.sig", "index", "index.sig"):
            async with lab.client.get(f"/firmware/{path}") as response:
                assert response.status == 200, path
        for path, said in (("trust/9", "no such trust"), ("releases/car/9/manifest", "no such release")):
            async with lab.client.get(f"/firmware/{path}") as response:
                assert (response.status, (await response.json())["detail"]) == (404, said)
        assert works.store.folder == store.folder
