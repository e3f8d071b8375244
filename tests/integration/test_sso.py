"""Signing in with one's company, against a small OpenID Connect provider with real keys."""

from __future__ import annotations

import hashlib
import secrets
from base64 import b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlsplit

import pytest
from aiohttp import ClientResponse, ClientSession, CookieJar, web
from aiohttp.test_utils import TestServer
from garage import TEXTS
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from web_lab import NOW, Lab, web_lab

from gateway.domain.access import Role
from gateway.domain.accounts import Rank
from gateway.web.sign_in import KEEPER
from gateway.web.sso import Oidc, OidcProvider, SsoError, _deep

CLIENT, SECRET = "touchpoint", "between us"
KEY = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
OTHER_KEY = RSAKey.generate_key(2048, {"kid": "two", "use": "sig"})
ROLES = {"tp-after-sales": "operator", "tp-workshop": "workshop_staff", "tp-customer": "owner"}


@dataclass
class House:
    """A provider: everybody is already signed in there as `person`; answers as the standard says, unless told
    otherwise by `claims` and `key`."""

    issuer: str = ""
    person: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    key: RSAKey = field(default_factory=lambda: KEY)
    published: RSAKey = field(default_factory=lambda: KEY)
    header: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, dict[str, str]] = field(default_factory=dict)
    keys_asked: int = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.get("/.well-known/openid-configuration", self.about),
                web.get("/authorize", self.authorize),
                web.post("/token", self.token),
                web.get("/keys", self.keys),
            ]
        )
        return app

    async def about(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
            }
        )

    async def keys(self, _: web.Request) -> web.Response:
        self.keys_asked += 1
        return web.json_response(KeySet([self.published]).as_dict(private=False))

    async def authorize(self, request: web.Request) -> web.StreamResponse:
        code = secrets.token_urlsafe(16)
        self.asked[code] = dict(request.query)
        query = request.query
        raise web.HTTPFound(f"{query['redirect_uri']}?code={code}&state={query['state']}")

    async def token(self, request: web.Request) -> web.Response:
        form, credentials = await request.post(), request.headers["Authorization"].split()[1]
        assert b64decode(credentials).decode() == f"{CLIENT}:{quote_plus(SECRET)}"
        asked = self.asked.pop(str(form["code"]))
        digest = hashlib.sha256(str(form["code_verifier"]).encode()).digest()
        assert urlsafe_b64encode(digest).rstrip(b"=").decode() == asked["code_challenge"]
        assert form["redirect_uri"] == asked["redirect_uri"]
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "248289761001",
            "nonce": asked["nonce"],
            "iat": NOW // 1000,
            "exp": NOW // 1000 + 300,
            **self.person,
            **self.claims,
        }
        header = {"alg": "RS256", "kid": self.key.kid, **self.header}
        return web.json_response({"id_token": jwt.encode(header, claims, self.key)})


@pytest.fixture
async def house() -> AsyncIterator[House]:
    made = House()
    async with TestServer(made.app()) as server:
        made.issuer = str(server.make_url("")).rstrip("/")
        yield made


def settings(house: House, **changes: Any) -> Oidc:
    return Oidc(
        **{
            "issuer": house.issuer,
            "client_id": CLIENT,
            "client_secret": SECRET,
            "scopes": "openid profile",
            "label": "Sign in at the house",
            "role_claim": "realm_access.roles",
            "roles": ROLES,
            "subject_claim": "touchpoint_id",
            "name_claim": "name",
            **changes,
        }
    )


@pytest.fixture
async def lab(house: House, tmp_path: Path) -> AsyncIterator[Lab]:
    provider = OidcProvider(settings=settings(house), now=lambda: NOW)
    async with web_lab(tmp_path, texts=TEXTS, sso=provider, extras={"strict": True}) as opened:
        opened.context.public_url = str(opened.client.make_url("")).rstrip("/")
        await opened.workshop()
        await opened.owner("jana")
        yield opened


def roles(*held: str, **more: Any) -> dict[str, Any]:
    return {"realm_access": {"roles": list(held)}, "name": "Ana Roth", **more}


@pytest.fixture
async def browser() -> AsyncIterator[ClientSession]:
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as session:
        yield session


async def signed_in(lab: Lab, browser: ClientSession, wanted: str = "") -> ClientResponse:
    """The last answer of going there and coming back."""
    there = await follow(browser, str(lab.client.make_url(f"/sign-in/sso?next={wanted}")))
    back = await follow(browser, there.headers["Location"])
    return await follow(browser, back.headers["Location"])


async def follow(browser: ClientSession, address: str) -> ClientResponse:
    async with browser.get(address, allow_redirects=False) as answer:
        await answer.read()
        return answer


async def test_an_operator_comes_in_and_is_written_down_by_name(
    lab: Lab, house: House, browser: ClientSession
) -> None:
    house.person = roles("other", "tp-after-sales")
    came = await signed_in(lab, browser, "/operator/owners")
    assert (came.status, came.headers["Location"]) == (303, "/operator/owners")
    [account] = await lab.read(lambda r: r.accounts.page())
    assert (account.role, account.rank, account.called) == (Role.OPERATOR, Rank.RUNS, "Ana Roth")
    assert account.name == f"sso:{house.issuer} 248289761001"
    async with browser.get(lab.client.make_url("/operator/owners")) as shown:
        assert shown.status == 200


async def test_a_workshops_person_is_staff_of_the_workshop_that_the_claim_names(
    lab: Lab, house: House, browser: ClientSession
) -> None:
    house.person = roles("tp-workshop", touchpoint_id="north")
    assert (await signed_in(lab, browser)).headers["Location"] == "/workshop"
    [account] = await lab.read(lambda r: r.accounts.page(Role.WORKSHOP))
    assert (account.subject, account.rank) == ("north", Rank.STAFF)


async def test_an_owner_comes_in_by_the_manufacturers_account(
    lab: Lab, house: House, browser: ClientSession
) -> None:
    house.person = roles("tp-customer", touchpoint_id="jana")
    assert (await signed_in(lab, browser)).headers["Location"] == "/me"


async def test_what_the_claims_say_now_holds(lab: Lab, house: House, browser: ClientSession) -> None:
    house.person = roles("tp-after-sales")
    await signed_in(lab, browser)
    house.person = roles("tp-workshop", touchpoint_id="north")
    await signed_in(lab, browser)
    standing = [a for a in await lab.read(lambda r: r.accounts.page()) if a.ended is None]
    assert [(a.role, a.subject) for a in standing] == [(Role.WORKSHOP, "north")]
    lab.app[KEEPER].forget()  # what it looked up is believed for a second
    async with browser.get(lab.client.make_url("/operator"), allow_redirects=False) as shown:
        assert shown.status == 303


@pytest.mark.parametrize(
    ("person", "claims"),
    [
        (roles("something else"), {}),
        ({"name": "Ana"}, {}),
        (roles("tp-workshop"), {}),
        (roles("tp-workshop", touchpoint_id="nowhere"), {}),
        (roles("tp-customer", touchpoint_id="nobody"), {}),
        (roles("tp-after-sales"), {"iss": "https://other.example"}),
        (roles("tp-after-sales"), {"aud": "another client"}),
        (roles("tp-after-sales"), {"aud": [CLIENT, "another"], "azp": "another"}),
        (roles("tp-after-sales"), {"nonce": "of another sign-in"}),
        (roles("tp-after-sales"), {"exp": NOW // 1000 - 120}),
        (roles("tp-after-sales"), {"sub": None}),
    ],
)
async def test_who_has_no_role_or_a_token_that_does_not_hold_stays_outside(
    lab: Lab, house: House, browser: ClientSession, person: dict[str, Any], claims: dict[str, Any]
) -> None:
    house.person, house.claims = person, claims
    came = await signed_in(lab, browser)
    assert came.status == 403
    assert not [name for name in came.cookies if name.startswith("session")]
    assert await lab.read(lambda r: r.accounts.page()) == []


async def test_a_token_of_another_key_is_refused_after_the_keys_were_asked_for_anew(
    lab: Lab, house: House, browser: ClientSession
) -> None:
    house.person, house.key = roles("tp-after-sales"), OTHER_KEY
    assert (await signed_in(lab, browser)).status == 403
    assert house.keys_asked == 2


async def test_a_provider_may_change_its_keys(lab: Lab, house: House, browser: ClientSession) -> None:
    house.person = roles("tp-after-sales")
    assert (await signed_in(lab, browser)).status == 303
    house.key = house.published = OTHER_KEY
    assert (await signed_in(lab, browser)).status == 303
    assert house.keys_asked == 2


async def test_a_token_without_a_signature_is_refused(house: House) -> None:
    provider = OidcProvider(settings=settings(house), now=lambda: NOW)
    parts = [urlsafe_b64encode(text).rstrip(b"=").decode() for text in (b'{"alg":"none"}', b'{"sub":"1"}')]
    with pytest.raises(SsoError, match="cannot be verified"):
        await provider._verified(f"{parts[0]}.{parts[1]}.", "nonce")
    await provider.close()


async def test_what_began_in_another_browser_does_not_come_back_here(
    lab: Lab, house: House, browser: ClientSession
) -> None:
    house.person = roles("tp-after-sales")
    there = await follow(browser, str(lab.client.make_url("/sign-in/sso")))
    back = await follow(browser, there.headers["Location"])
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as victim:
        assert (await follow(victim, back.headers["Location"])).status == 403
    assert (await follow(browser, back.headers["Location"])).status == 403  # the state counts once


async def test_the_request_carries_what_the_standard_asks_for(
    lab: Lab, house: House, browser: ClientSession
) -> None:
    there = await follow(browser, str(lab.client.make_url("/sign-in/sso")))
    asked = {name: value[0] for name, value in parse_qs(urlsplit(there.headers["Location"]).query).items()}
    assert asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"] == f"{lab.context.public_url}/sign-in/sso/back"
    assert len(asked["state"]) >= 43
    assert len(asked["nonce"]) >= 43
    assert asked["scope"] == "openid profile"


async def test_a_provider_that_calls_itself_otherwise_or_is_away_is_not_asked(
    lab: Lab, house: House, browser: ClientSession
) -> None:
    house.issuer += "/other"
    assert (await follow(browser, str(lab.client.make_url("/sign-in/sso")))).status == 502


async def test_where_none_is_configured_there_is_none(tmp_path: Path) -> None:
    async with web_lab(tmp_path) as lab:
        for path in ("/sign-in/sso", "/sign-in/sso/back?code=1&state=2"):
            async with lab.client.get(path, allow_redirects=False) as answer:
                assert answer.status == 404


def test_a_claim_is_found_by_its_name_or_by_its_path() -> None:
    claims = {"https://house.example/roles": ["a"], "realm": {"roles": ["b"]}, "name": "x"}
    assert _deep(claims, "https://house.example/roles") == ["a"]
    assert _deep(claims, "realm.roles") == ["b"]
    assert _deep(claims, "name.first") is None
