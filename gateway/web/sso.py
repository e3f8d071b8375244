"""Signing in with one's company: OpenID Connect, authorization code with PKCE.

The provider is found by its issuer (Discovery 1.0), asked with state, nonce and a PKCE challenge (RFC 7636,
S256), and its ID token is verified with its published keys: signature by an asymmetric algorithm, issuer,
audience, nonce, times. Keys that are not known are fetched anew once, for providers change them. What a
claim says decides the role and for whom (`[sign_in.oidc]`); who has none of the roles does not come in.
State, nonce and verifier are kept by us, bound to the browser that began by a cookie, and count once.

SsoError   the provider did not answer as the standard says, or describes somebody who may not come in
"""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import aiohttp
import structlog
from aiohttp import web
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from gateway.domain.access import NAME, Role
from gateway.domain.accounts import Account, Claimed, ProofKind, Rank, Way
from gateway.domain.errors import GoneError, NotFoundError
from gateway.flow import accounts
from gateway.ports import Records
from gateway.web.access import local_path, public
from gateway.web.sign_in import Door, RefusedError, sign_in_form

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Signatures only: with a shared secret, anybody who has the client's would be the provider."""
ROLES: Mapping[str, tuple[Role, Rank]] = {
    "owner": (Role.OWNER, Rank.STAFF),
    "workshop": (Role.WORKSHOP, Rank.RUNS),
    "workshop_staff": (Role.WORKSHOP, Rank.STAFF),
    "operator": (Role.OPERATOR, Rank.RUNS),
    "operator_staff": (Role.OPERATOR, Rank.STAFF),
}
"""What a claim's value may stand for in the settings."""
TIMEOUT_S = 10
ANSWER_MOST = 256 * 1024
LEEWAY_S = 60
BACK = "/sign-in/sso/back"

log = structlog.get_logger()
routes = web.RouteTableDef()


class SsoError(Exception):
    """The provider did not answer as the standard says, or describes somebody who may not come in."""


@dataclass(frozen=True, kw_only=True)
class Oidc:
    """The settings of `[sign_in.oidc]`."""

    issuer: str
    client_id: str
    client_secret: str
    scopes: str
    label: str
    role_claim: str
    """dotted where it lies deeper: realm_access.roles"""
    roles: Mapping[str, str]
    """value of the claim → one of ROLES, the first that fits holds"""
    subject_claim: str
    """says which owner or workshop"""
    name_claim: str


@dataclass(kw_only=True)
class OidcProvider:
    """See `context.Provider`."""

    settings: Oidc
    now: Callable[[], int]
    """UTC ms"""
    _http: aiohttp.ClientSession | None = None
    _about: Mapping[str, Any] = field(default_factory=dict)
    _keys: KeySet | None = None

    @property
    def label(self) -> str:
        """What stands on the button."""
        return self.settings.label

    async def begin(self, redirect: str, *, state: str, nonce: str, verifier: str) -> str:
        """The address at which somebody signs in. Raises SsoError."""
        about = await self._discovered()
        digest = hashlib.sha256(verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": redirect,
            "scope": self.settings.scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        address = about["authorization_endpoint"]
        return f"{address}{'&' if urlsplit(address).query else '?'}{urlencode(asked)}"

    async def finish(self, code: str, redirect: str, *, nonce: str, verifier: str) -> Mapping[str, Any]:
        """The claims about whoever did, verified. Raises SsoError."""
        about = await self._discovered()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect,
            "code_verifier": verifier,
            "client_id": self.settings.client_id,
        }
        told = await self._ask("POST", about["token_endpoint"], data=form, headers=self._credentials())
        text = told.get("id_token")
        if not isinstance(text, str):
            raise SsoError("the provider gave no ID token")
        return await self._verified(text, nonce)

    def _credentials(self) -> dict[str, str]:
        """As RFC 6749, section 2.3.1, has them."""
        if not self.settings.client_secret:
            return {}
        both = f"{quote_plus(self.settings.client_id)}:{quote_plus(self.settings.client_secret)}"
        return {"Authorization": f"Basic {b64encode(both.encode()).decode()}"}

    async def _verified(self, text: str, nonce: str) -> Mapping[str, Any]:
        try:
            claims = self._read(text, await self._known_keys())
        except (JoseError, ValueError):
            self._keys = None  # it may have changed them
            try:
                claims = self._read(text, await self._known_keys())
            except (JoseError, ValueError) as error:
                raise SsoError(f"the ID token cannot be verified: {error}") from error
        settings, seconds = self.settings, self.now() // 1000
        registry = jwt.JWTClaimsRegistry(
            now=lambda: seconds,
            leeway=LEEWAY_S,
            iss={"essential": True, "value": settings.issuer},
            aud={"essential": True, "value": settings.client_id},
            nonce={"essential": True, "value": nonce},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
        )
        try:
            registry.validate(claims)
        except JoseError as error:
            raise SsoError(f"the ID token does not hold: {error}") from error
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else settings.client_id) != settings.client_id:
            raise SsoError("the ID token was made for another client")
        return claims

    @staticmethod
    def _read(text: str, keys: KeySet) -> dict[str, Any]:
        return dict(jwt.decode(text, keys, algorithms=list(ALGORITHMS)).claims)

    def person(self, claims: Mapping[str, Any]) -> Claimed:
        """Who that is here. Raises SsoError for somebody who may not come in."""
        held = _deep(claims, self.settings.role_claim)
        values = [held] if isinstance(held, str) else held if isinstance(held, list) else []
        meant = next((role for value, role in self.settings.roles.items() if value in values), None)
        if meant is None:
            raise SsoError(f"none of the roles in {self.settings.role_claim} may come in")
        role, rank = ROLES[meant]
        subject = _deep(claims, self.settings.subject_claim) if self.settings.subject_claim else None
        if role is not Role.OPERATOR and not (isinstance(subject, str) and subject):
            raise SsoError(f"{self.settings.subject_claim or 'subject_claim'} does not say which {role}")
        called = " ".join(str(_deep(claims, self.settings.name_claim) or "").split())
        return Claimed(
            name=f"sso:{self.settings.issuer} {claims['sub']}",
            called=called if NAME.fullmatch(called) else f"{role} {str(claims['sub'])[:20]}",
            role=role,
            subject=subject if role is not Role.OPERATOR else None,
            rank=rank,
        )

    async def close(self) -> None:
        """Nothing is kept open afterwards."""
        if self._http is not None:
            await self._http.close()

    async def _discovered(self) -> Mapping[str, Any]:
        if not self._about:
            issuer = self.settings.issuer
            about = await self._ask("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            if about.get("issuer") != issuer:  # Discovery 1.0, section 4.3
                raise SsoError(f"the provider calls itself {about.get('issuer')!r}, and not {issuer!r}")
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                if not isinstance(about.get(name), str):
                    raise SsoError(f"the provider does not say its {name}")
            self._about = about
        return self._about

    async def _known_keys(self) -> KeySet:
        if self._keys is None:
            about = await self._discovered()
            told = await self._ask("GET", about["jwks_uri"])
            try:
                self._keys = KeySet.import_key_set(told)  # type: ignore[arg-type] # it is checked as it is read
            except (JoseError, ValueError, KeyError, TypeError) as error:
                raise SsoError(f"the provider's keys cannot be read: {error}") from error
        return self._keys

    async def _ask(self, method: str, address: str, **options: Any) -> Mapping[str, Any]:
        if self._http is None:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
            self._http = aiohttp.ClientSession(timeout=timeout, raise_for_status=False)
        try:
            async with self._http.request(method, address, allow_redirects=False, **options) as answer:
                body = b""
                async for piece in answer.content.iter_chunked(16 * 1024):
                    body += piece
                    if len(body) > ANSWER_MOST:
                        raise SsoError("the provider answers at too great length")
                if answer.status != 200:
                    raise SsoError(f"the provider answered {answer.status}")
                told = json.loads(body)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise SsoError(f"the provider does not answer: {type(error).__name__}") from error
        if not isinstance(told, dict):
            raise SsoError("the provider did not answer with an object")
        return told


def _deep(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by its name, or by a dotted path; a name with dots in it comes first."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


# --- pages ------------------------------------------------------------------------------------------


def _cookie(*, https: bool) -> str:
    return f"{'__Host-' if https else ''}sso"


@routes.get("/sign-in/sso")
@public
async def begin(request: web.Request) -> web.StreamResponse:
    """Go to the provider."""
    door = Door.of(request, request.query.get("next"))
    provider = door.context.sso
    if provider is None:
        raise web.HTTPNotFound
    browser, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    kept = {"nonce": nonce, "verifier": verifier, "wanted": door.wanted}
    state = await door.context.database.write(
        lambda records: accounts.hand_out(records, ProofKind.SSO, browser, door.now, data=kept)
    )
    redirect = door.context.public_url + BACK
    try:
        address = await provider.begin(redirect, state=state, nonce=nonce, verifier=verifier)
    except SsoError as error:
        log.warning("sso_failed", why=str(error))
        return await sign_in_form(request, door.wanted, RefusedError("sso", 502))
    response = web.Response(status=303, headers={"Location": address, "Cache-Control": "no-store"})
    response.set_cookie(
        _cookie(https=door.https),
        browser,
        max_age=accounts.LASTS[ProofKind.SSO] // 1000,
        path="/",
        httponly=True,
        samesite="Lax",
        secure=door.https,
    )
    return response


@routes.get(BACK)
@public
async def back(request: web.Request) -> web.StreamResponse:
    """Come back from the provider, in the browser that went there."""
    door = Door.of(request, None)
    provider = door.context.sso
    if provider is None:
        raise web.HTTPNotFound
    browser = request.cookies.get(_cookie(https=door.https), "")
    state, code = request.query.get("state", ""), request.query.get("code", "")
    try:
        kept = await door.context.database.write(
            lambda records: accounts.take(records, ProofKind.SSO, state, door.now)
        )
        if not secrets.compare_digest(kept.about.encode(), browser.encode()) or not code:
            raise SsoError(f"it came back with {request.query.get('error', 'another browser')!r}"[:200])
        claims = await provider.finish(
            code, door.context.public_url + BACK, nonce=kept.data["nonce"], verifier=kept.data["verifier"]
        )
        person = provider.person(claims)

        def find(records: Records) -> Account:
            return accounts.of_provider(records, person, door.now)

        door = door.towards(local_path(kept.data["wanted"]))
        _, response = await door.come_in(find, Way.SSO)
    except (SsoError, NotFoundError, GoneError) as error:
        log.warning("sso_failed", why=str(error))
        return await sign_in_form(request, door.wanted, RefusedError("sso", 403))
    response.del_cookie(_cookie(https=door.https), path="/", secure=door.https, httponly=True, samesite="Lax")
    return response
