"""Who may do what, decided at one place.

Every route carries a mark, `@allow(Role.OWNER, …)` or `@public`; a route without one fails when the
application is made. One middleware finds out who is asking and holds the route's mark against it:

- the API takes `Authorization: Bearer`;
- pages take the session cookie of a role. Each role has a cookie of its own, so one browser can be
  in the owner's and the workshop's pages side by side; the route's mark picks the one that counts,
  and `?as=workshop` picks where several would do (the event stream);
- what `RUNNING` names is for who runs the workshop or after-sales, not for their staff; an account that is
  not set up yet reaches only the pages on which it is (`@while_setting_up`);
- an unsafe method on the strength of a cookie must come from our own pages (Sec-Fetch-Site, or else
  Origin): the browser says so, a foreign page cannot.

Handlers read `who(request)`. Which *objects* somebody may see is decided in rights.py.

UnmarkedRouteError   a route says neither who may come in nor that everybody may
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway.domain.access import WITH_SUBJECT, Role, Token, secret_hash
from gateway.domain.accounts import Rank
from gateway.domain.errors import NotFoundError
from gateway.flow import accounts
from gateway.ports import Clock, Database, Records
from gateway.web.problems import forbidden, unauthorized

LANGUAGES = ("en", "de")
LANGUAGE_COOKIE = "language"
PAGE_ROLES = (Role.OWNER, Role.WORKSHOP, Role.OPERATOR)
"""Roles that have pages; in this order a session is picked where several would do."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CACHED_S = 1.0
"""how long a looked-up token is believed: a revoked one stops within that"""
CACHED_MOST = 4_096

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
H = TypeVar("H", bound=Handler)

RUNS = "This is for who runs the workshop or after-sales; ask them."
SET_UP = "This account has no way to sign in yet: set one up on its page first."

STAFF = (Role.OPERATOR, Role.INTEGRATION)
EVERYONE = (Role.OWNER, Role.WORKSHOP, Role.OPERATOR, Role.INTEGRATION)


_API = "/api/v1"
RUNNING = frozenset(
    {
        "GET /account/people",
        "POST /account/people",
        "POST /account/people/{id}/again",
        "POST /account/people/{id}/end",
        # what a workshop offers, and when; where its appointments go
        "POST /workshop/exceptions",
        "POST /workshop/holidays",
        "POST /workshop/services",
        "POST /workshop/calendars",
        "POST /workshop/calendars/busy",
        "POST /workshop/calendars/feed",
        f"PUT {_API}/workshops/{{workshop_id}}",
        f"PUT {_API}/workshops/{{workshop_id}}/calendar",
        f"POST {_API}/workshops/{{workshop_id}}/calendar/feed",
        f"DELETE {_API}/workshops/{{workshop_id}}/calendar/feed",
        f"POST {_API}/webhooks",
        f"POST {_API}/webhooks/{{webhook_id}}/rotate",
        f"POST {_API}/webhooks/{{webhook_id}}/enable",
        f"DELETE {_API}/webhooks/{{webhook_id}}",
        # what concerns many owners at once, or goes to other systems
        "POST /operator/recalls",
        "POST /operator/rules/reload",
        "POST /operator/webhooks",
        "POST /operator/webhooks/{id}/{action}",
        "POST /operator/firmware/new",
        "POST /operator/firmware/rollouts/{rollout}/{move}",
        f"POST {_API}/recalls",
        f"POST {_API}/rules/reload",
        f"POST {_API}/workshops",
        f"POST {_API}/firmware/releases",
        f"DELETE {_API}/firmware/releases/{{release_id}}",
        f"POST {_API}/firmware/rollouts",
        f"POST {_API}/firmware/rollouts/{{rollout_id}}/start",
        f"POST {_API}/firmware/rollouts/{{rollout_id}}/pause",
        f"POST {_API}/firmware/rollouts/{{rollout_id}}/resume",
        f"POST {_API}/firmware/rollouts/{{rollout_id}}/stop",
    }
)
"""For who runs the workshop, or after-sales. A token made by command may all of it."""


_RUNNING_POSTS = re.compile(
    "|".join(re.sub(r"\{\w+\}", "[^/]+", route[5:]) for route in sorted(RUNNING) if route.startswith("POST "))
)


class UnmarkedRouteError(Exception):
    """A route says neither who may come in nor that everybody may."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sight:
    """Something of an owner's that a request is shown."""

    owner: str
    what: str
    why: str
    device: str | None
    params: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Who is asking."""

    role: Role
    subject: str | None
    """owner or workshop id"""
    language: str
    """to answer in; an owner's own, else what the browser asks for"""
    token: str = ""
    """id of the token, for what is kept under an Idempotency-Key"""
    called: str | None = None
    """of an operator or another system: the name that its token was made for"""
    account: str | None = None
    """whom a session was opened for; None where a token stands for them"""
    opened: int = 0
    """when the token was made or the session opened, ms"""
    rank: Rank = Rank.RUNS
    """what they may do where they work; a token may all"""
    set_up: bool = True
    """whether their account has a way to sign in yet"""
    seen: list[Sight] = field(default_factory=list, compare=False)
    """what this request is shown of owners; written into their ledgers before it is answered (looking.py)"""

    @property
    def staff(self) -> bool:
        """Whether it is the manufacturer's after-sales team or one of its systems: sees everything."""
        return self.role in STAFF

    def saw(
        self, owner: str | None, what: str, why: str, *, device: str | None = None, **params: Any
    ) -> None:
        """It is shown something of an owner's: `what` and `why` as in flow/access_log.py. Owners looking at
        what they own or share leave no trace."""
        if owner is not None and self.role is not Role.OWNER:
            self.seen.append(Sight(owner=owner, what=what, why=why, device=device, params=params))

    @property
    def name(self) -> str:
        """What is written down as who did it: an owner's or workshop's id, `operator:<name>`, or the role."""
        if self.staff and self.called:
            return f"{self.role}:{self.called}"
        return self.subject or str(self.role)


WHO: web.RequestKey[Identity] = web.RequestKey("who", Identity)


def who(request: web.Request) -> Identity:
    """Who is asking, on a route that is not public. Raises KeyError on one that is, for a stranger."""
    return request[WHO]


def guest(request: web.Request) -> Identity | None:
    """Who is asking on a public route; None for somebody who is not signed in."""
    return request.get(WHO)


def language(request: web.Request) -> str:
    """The language to answer in: chosen on the page, else the owner's own, else the browser's."""
    chosen = request.cookies.get(LANGUAGE_COOKIE, "")
    if chosen in LANGUAGES:
        return chosen
    known = request.get(WHO)
    return known.language if known else asked_language(request.headers.get("Accept-Language", ""))


def asked_language(header: str) -> str:
    """The first language of Accept-Language (RFC 9110 section 12.5.4) that we speak, by weight."""
    wishes: list[tuple[float, int, str]] = []
    for place, part in enumerate(header.split(",")):
        tag, _, weight = part.partition(";q=")
        try:
            wishes.append((-float(weight or 1), place, tag.strip().lower()[:2]))
        except ValueError:
            continue
    return next((tag for _, _, tag in sorted(wishes) if tag in LANGUAGES), LANGUAGES[0])


def may_post(identity: Identity | None, address: str) -> bool:
    """Whether a form of a page may be sent by who looks at it: what is refused to them is not offered."""
    if identity is None or identity.rank is Rank.RUNS:
        return True
    return _RUNNING_POSTS.fullmatch(urlsplit(address).path) is None


# --- marks ----------------------------------------------------------------------------------------


def allow(*roles: Role) -> Callable[[H], H]:
    """Mark a handler: only these roles may come in."""
    if not roles:
        raise ValueError("allow() names at least one role; @public is for everybody")

    def mark(handler: H) -> H:
        handler.__dict__["access"] = frozenset(roles)
        return handler

    return mark


def public(handler: H) -> H:
    """Mark a handler: everybody may come in."""
    handler.__dict__["access"] = frozenset()
    return handler


def by_secret(handler: H) -> H:
    """Mark a handler: the address holds a secret and opens one matter, whoever comes and from wherever the
    form was sent; a foreign page cannot know the address."""
    handler.__dict__["any_origin"] = True
    return public(handler)


def while_setting_up(handler: H) -> H:
    """Mark a handler besides: also for who has no way to sign in again yet."""
    handler.__dict__["while_setting_up"] = True
    return handler


def mark_of(handler: object) -> frozenset[Role] | None:
    """The roles that may come in, empty for everybody; None when there is no mark."""
    mark: frozenset[Role] | None = getattr(handler, "access", None)
    return mark


def marked_routes(app: web.Application) -> dict[tuple[str, str], frozenset[Role]]:
    """{(method, path): roles} of all routes but those of mounted applications, which keep their own rules.

    Raises UnmarkedRouteError, naming every route without a mark.
    """
    marks: dict[tuple[str, str], frozenset[Role]] = {}
    missing = []
    for resource in app.router.resources():
        if isinstance(resource, web.PrefixedSubAppResource):
            continue
        for route in resource:
            mark = mark_of(route.handler)
            if mark is None:
                missing.append(f"{route.method} {resource.canonical}")
            else:
                marks[route.method, resource.canonical] = mark
    if missing:
        raise UnmarkedRouteError(f"no @allow(…) or @public on {', '.join(missing)}")
    return marks


# --- sessions --------------------------------------------------------------------------------------


def cookie_name(role: Role, *, https: bool) -> str:
    """The cookie of a role's session; `__Host-` binds it to this host, path / and TLS (RFC 6265bis)."""
    return f"{'__Host-' if https else ''}session-{role}"


def set_session(response: web.StreamResponse, token: Token, secret: str, *, https: bool, now: int) -> None:
    """Give the browser its session."""
    response.set_cookie(
        cookie_name(token.role, https=https),
        secret,
        max_age=max(0, (token.expires - now) // 1000),
        path="/",
        httponly=True,
        samesite="Lax",
        secure=https,
    )


def end_session(response: web.StreamResponse, role: Role, *, https: bool) -> None:
    """Take the cookie of a role away again."""
    name = cookie_name(role, https=https)
    response.del_cookie(name, path="/", secure=https, httponly=True, samesite="Lax")


def same_origin(request: web.Request, public_url: str) -> bool | None:
    """Whether the browser says that one of our own pages sent this; None when it says nothing."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("Origin")
    if origin is not None:
        return urlsplit(origin).netloc in (request.host, urlsplit(public_url).netloc)
    return None


def local_path(path: str | None, default: str = "/") -> str:
    """`path` where it is one of this site, else `default`: nobody is sent elsewhere."""
    if not path or not path.startswith("/") or path.startswith(("//", "/\\")) or not path.isprintable():
        return default
    return path


# --- the middleware --------------------------------------------------------------------------------


class Gatekeeper:
    """Finds out who is asking; what it looked up is believed for a second."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        public_url: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._clock = clock
        self._monotonic = monotonic
        self._known: dict[str, tuple[float, Identity]] = {}
        self.public_url = public_url
        self.https = public_url.startswith("https://")

    async def by_secret(self, secret: str) -> Identity | None:
        """Whom a secret stands for; None when it is unknown, expired or revoked."""
        kept, moment = secret_hash(secret), self._monotonic()
        found = self._known.get(kept)
        if found is not None and moment - found[0] < CACHED_S:
            return found[1]
        now = self._clock.now()
        identity = await self._database.read(lambda records: look_up(records, kept, now))
        self._known.pop(kept, None)
        if identity is not None:
            if len(self._known) >= CACHED_MOST:
                self._known.clear()
            self._known[kept] = (moment, identity)
        return identity

    def forget(self, secret: str | None = None) -> None:
        """Believe nothing of this secret any more (signed out), or of any (ended from elsewhere)."""
        if secret is None:
            self._known.clear()
        else:
            self._known.pop(secret_hash(secret), None)

    async def sessions(self, request: web.Request) -> dict[Role, Identity]:
        """The sessions this browser holds that are still good; a cookie alone proves nothing."""
        found = {}
        for role in PAGE_ROLES:
            secret = request.cookies.get(cookie_name(role, https=self.https))
            identity = await self.by_secret(secret) if secret else None
            if identity is not None and identity.role is role:
                found[role] = identity
        return found

    async def admit(self, request: web.Request, allowed: frozenset[Role]) -> None:
        """Put who is asking into the request; raises what is answered to those who may not."""
        header = request.headers.get("Authorization")
        if header is not None:
            await self._by_header(request, header, allowed)
        else:
            await self._by_cookie(request, allowed)
        identity = request.get(WHO)
        if allowed and identity is None:
            raise _not_signed_in(request)
        if allowed and identity is not None and identity.role not in allowed:
            raise _not_allowed(request)
        if allowed and identity is not None:
            _check_rank(request, identity)

    async def _by_header(self, request: web.Request, header: str, allowed: frozenset[Role]) -> None:
        scheme, _, secret = header.partition(" ")
        identity = await self.by_secret(secret.strip()) if scheme.lower() == "bearer" else None
        if identity is not None:
            request[WHO] = replace(identity, seen=[])
        elif allowed:
            raise unauthorized()

    async def _by_cookie(self, request: web.Request, allowed: frozenset[Role]) -> None:
        for role in self._candidates(request, allowed):
            secret = request.cookies.get(cookie_name(role, https=self.https))
            identity = await self.by_secret(secret) if secret else None
            if identity is not None and identity.role is role:
                request[WHO] = replace(identity, language=self._spoken(request, identity), seen=[])
                break
        self._check_origin(request, signed_in=WHO in request)

    def _candidates(self, request: web.Request, allowed: frozenset[Role]) -> Iterable[Role]:
        wish = request.query.get("as")
        roles = [role for role in PAGE_ROLES if not wish or role == wish] or PAGE_ROLES
        fitting = [role for role in roles if role in allowed]
        return [*fitting, *(role for role in roles if role not in fitting)]

    def _spoken(self, request: web.Request, identity: Identity) -> str:
        if identity.role is Role.OWNER:
            return identity.language
        return asked_language(request.headers.get("Accept-Language", ""))

    def _check_origin(self, request: web.Request, *, signed_in: bool) -> None:
        if request.method in SAFE_METHODS or getattr(request.match_info.handler, "any_origin", False):
            return
        ours = same_origin(request, self.public_url)
        if ours is False or (signed_in and ours is None):
            raise forbidden("This was not sent by one of our own pages; nothing was done.")


def _check_rank(request: web.Request, identity: Identity) -> None:
    if not identity.set_up and not getattr(request.match_info.handler, "while_setting_up", False):
        raise web.HTTPSeeOther(f"/account?as={identity.role}") if is_page(request) else forbidden(SET_UP)
    resource = request.match_info.route.resource
    asked = f"{request.method} {resource.canonical if resource else ''}"
    if asked in RUNNING and identity.rank is not Rank.RUNS:
        raise forbidden(RUNS)


def look_up(records: Records, kept: str, now: int) -> Identity | None:
    """The identity behind a secret's hash; a session ends with the token that opened it."""
    token = records.tokens.by_hash(kept)
    if token is None or not token.live(now):
        return None
    if token.opened_by is not None:
        opener = records.tokens.by_hash(token.opened_by)
        if opener is None or not opener.live(now):
            return None
    spoken = _owner_language(records, token.subject) if token.role is Role.OWNER else LANGUAGES[0]
    subject, called = (token.subject, None) if token.role in WITH_SUBJECT else (None, token.subject)
    found = Identity(
        role=token.role,
        subject=subject,
        called=called,
        language=spoken,
        token=token.id,
        account=token.account,
        opened=token.created,
    )
    return found if token.account is None else _of_account(records, found, token.account)


def _of_account(records: Records, found: Identity, account_id: str) -> Identity | None:
    """What holds for the account now, whatever held when the session was opened."""
    account = records.accounts.find(account_id)
    if account is None or account.ended is not None or account.role is not found.role:
        return None
    if account.role is not Role.OPERATOR and account.subject != found.subject:
        return None
    called = account.called if account.role is Role.OPERATOR else None
    rank = Rank.RUNS if account.role is Role.OWNER else account.rank
    return replace(found, called=called, rank=rank, set_up=accounts.set_up(records, account))


def _owner_language(records: Records, owner: str | None) -> str:
    try:
        spoken = records.owners.get(owner or "").language[:2]
    except NotFoundError:
        return LANGUAGES[0]
    return spoken if spoken in LANGUAGES else LANGUAGES[0]


def is_page(request: web.Request) -> bool:
    """Whether a person looks at the answer: then errors are pages, and a missing right leads to sign-in."""
    if request.path.startswith(("/api/", "/health/", "/metrics")):
        return False
    return "text/event-stream" not in request.headers.get("Accept", "")


def _not_signed_in(request: web.Request) -> Exception:
    if not is_page(request):
        return unauthorized()
    wanted = str(request.rel_url) if request.method in SAFE_METHODS else "/"
    return web.HTTPSeeOther(f"/sign-in?next={quote(wanted, safe='')}")


def _not_allowed(request: web.Request) -> Exception:
    return _not_signed_in(request) if is_page(request) else forbidden()


def access_middleware(keeper: Gatekeeper) -> Middleware:
    """The one place where a route's mark is held against who is asking."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if len(request.match_info.apps) > 1:  # a mounted application keeps its own rules
            return await handler(request)
        if request.match_info.http_exception is None:
            await keeper.admit(request, mark_of(request.match_info.handler) or frozenset())
        return await handler(request)

    return middleware
