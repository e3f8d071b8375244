"""Coming in and going out.

An owner comes in by a link to their e-mail address, by a code that a display shows, or with a passkey; the
people of workshops and after-sales with a passkey, or with password and one-time code together, first by the
link they were invited with; everybody by their company's sign-in where one is configured (sso.py). A token
pasted once works too. What comes of it is always the same: a session, whose cookie holds a secret of its own,
kept hashed, and which can be ended from any other.

What is wrong with a try is not said: not whether there is such an account, nor which part did not fit.
In the demo one may enter as anybody of the cast.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace as Shown
from typing import Any
from urllib.parse import quote

import structlog
from aiohttp import web

from gateway.domain import accounts as words_of
from gateway.domain.access import Role, Token, issue_token, secret_hash
from gateway.domain.accounts import Account, ProofKind, Way
from gateway.domain.errors import GoneError, InvalidError, NotFoundError
from gateway.flow import accounts, sign_in_mail, tries
from gateway.flow.tries import ANYBODY, From
from gateway.ports import Records
from gateway.web import clients, render
from gateway.web.access import (
    PAGE_ROLES,
    Gatekeeper,
    cookie_name,
    end_session,
    local_path,
    public,
    set_session,
)
from gateway.web.context import CONTEXT, Context
from gateway.web.passkeys import RelyingParty, answered_challenge
from gateway.web.problems import Problem

SESSION_MS = 30 * 86_400_000
DEMO_SESSION_MS = 3_650 * 86_400_000
"""played time runs fast: a session must not end in the middle of the story"""
HOMES: Mapping[Role, str] = {Role.OWNER: "/me", Role.WORKSHOP: "/workshop", Role.OPERATOR: "/operator"}
AT_WORK = ("/workshop", "/operator")
HASHED_AT_ONCE = 2
"""64 MiB and a core each: more at once would only take memory"""
SIGN_IN = "sign-in"
"""what a challenge is about that nobody has signed in with yet"""

KEEPER: web.AppKey[Gatekeeper] = web.AppKey("gatekeeper", Gatekeeper)

log = structlog.get_logger()
routes = web.RouteTableDef()


class RefusedError(Exception):
    """A try that does not come in; `fault` is a text under `pages.sign_in.faults`."""

    def __init__(self, fault: str, status: int = 422) -> None:
        super().__init__(fault)
        self.fault = fault
        self.status = status


@dataclass(frozen=True, kw_only=True, slots=True)
class Door:
    """One request that wants to come in."""

    request: web.Request
    context: Context
    now: int
    https: bool
    wanted: str
    """page to go on to; "/" for the home of whoever comes in"""

    @classmethod
    def of(cls, request: web.Request, wanted: str | None) -> Door:
        context = request.app[CONTEXT]
        return cls(
            request=request,
            context=context,
            now=context.clock.now(),
            https=request.app[KEEPER].https,
            wanted=local_path(wanted),
        )

    @property
    def network(self) -> str:
        return clients.network(self.request, self.context.trusted_proxies)

    def where(self, records: Records, account: Account | None) -> From:
        """Where a try at an account comes from."""
        held = clients.browser_secret(self.request, https=self.https)
        known = accounts.known_browser(records, account.id, held, self.now) if account else None
        return From(network=self.network, browser=known)

    async def come_in(self, find: Callable[[Records], Account], way: Way) -> tuple[Account, web.Response]:
        """Open the session of whoever `find` gives, in the transaction in which it finds them."""
        secret = clients.browser_secret(self.request, https=self.https) or clients.new_browser_secret()
        label = clients.browser_words(self.request)

        def work(records: Records) -> tuple[Account, Token, str]:
            account = find(records)
            token, cookie = accounts.open_session(records, account, way, self.now, browser=label)
            accounts.remember_browser(records, account.id, secret, self.now)
            return account, token, cookie

        account, token, cookie = await self.context.database.write(work)
        log.info("signed_in", role=str(account.role), account=account.id, way=str(way))
        response = _see(self.onward(account))
        set_session(response, token, cookie, https=self.https, now=self.now)
        clients.set_browser(response, secret, https=self.https)
        return account, response

    def onward(self, account: Account) -> str:
        """Where somebody goes who has come in."""
        return self.wanted if self.wanted != "/" else HOMES[account.role]

    def towards(self, wanted: str) -> Door:
        """The same, to another page."""
        return replace(self, wanted=wanted)

    def refused(self, fault: str, **told: Any) -> None:
        """Who runs the gateway sees that somebody tries."""
        log.warning("sign_in_refused", fault=fault, network=self.network, **told)


# --- the page -------------------------------------------------------------------------------------


@routes.get("/sign-in")
@public
async def sign_in_page(request: web.Request) -> web.Response:
    """Every way in: for owners, or for those who work here."""
    return await sign_in_form(request, request.query.get("next"))


async def sign_in_form(
    request: web.Request, wanted: str | None, refused: RefusedError | None = None
) -> web.Response:
    words, context, path = await render.words_for(request), request.app[CONTEXT], local_path(wanted)
    chosen = request.query.get("for", "")
    staff = chosen == "staff" or (chosen != "owner" and path.startswith(AT_WORK))
    view = Shown(
        staff=staff,
        passkeys=RelyingParty(context.public_url).available,
        mail="email" in context.policy.channels,
        sso=context.sso.label if context.sso else None,
        link=quote(path if path != "/" else "", safe=""),
        error=words(f"sign_in.faults.{refused.fault}") if refused else None,
    )
    status = refused.status if refused else 200
    return render.page(
        request, "sign_in.html", words, status=status, view=view, next=path if path != "/" else ""
    )


# --- what one knows: a token, or password and one-time code ------------------------------------------


@routes.post("/sign-in")
@public
async def sign_in(request: web.Request) -> web.StreamResponse:
    """Take a token once, or name, password and one-time code together, and give a session."""
    form = {name: str(value) for name, value in (await request.post()).items()}
    door = Door.of(request, form.get("next"))
    try:
        return await (_by_password(door, form) if "password" in form else _by_token(door, form))
    except RefusedError as refused:
        return await sign_in_form(request, form.get("next"), refused)


async def _by_token(door: Door, form: Mapping[str, str]) -> web.StreamResponse:
    secret, label = form.get("token", "").strip(), clients.browser_words(door.request)
    opened = await door.context.database.write(
        lambda records: open_session(records, secret, door.now, browser=label)
    )
    if opened is None:
        door.refused("unknown")
        raise RefusedError("unknown")
    token, cookie = opened
    response = _see(door.wanted if door.wanted != "/" else HOMES[token.role])
    set_session(response, token, cookie, https=door.https, now=door.now)
    return response


async def _by_password(door: Door, form: Mapping[str, str]) -> web.StreamResponse:
    name, code = form.get("name", "").strip().lower()[:254], form.get("code", "")[:64]

    def begin(records: Records) -> tuple[bool, Account | None]:
        account = records.accounts.by_name(name)
        return tries.begin(records, name, door.where(records, account), door.now), account

    allowed, account = await door.context.database.write(begin)
    if not allowed:
        door.refused("slow", account=account.id if account else None)
        raise RefusedError("slow", 429)
    async with _hashing(door.context):
        fits = await asyncio.to_thread(accounts.password_fits, account, form["password"])

    def find(records: Records) -> Account:
        found = records.accounts.find(account.id) if account is not None else None
        if found is None or not fits or not accounts.second_fits(records, found, code, door.now):
            raise RefusedError("wrong")
        tries.succeeded(records, name, door.where(records, found))
        return found

    try:
        return (await door.come_in(find, Way.PASSWORD))[1]
    except RefusedError:
        door.refused("wrong", account=account.id if account else None)
        raise


def _hashing(context: Context) -> asyncio.Semaphore:
    made: asyncio.Semaphore = context.extras.setdefault("hashing", asyncio.Semaphore(HASHED_AT_ONCE))
    return made


async def hashed(context: Context, typed: str, account: Account) -> str:
    """A new password as it is kept. Raises InvalidError."""
    async with _hashing(context):
        return await asyncio.to_thread(accounts.hashed, typed, account)


# --- a link: by mail, or the one somebody was invited with -------------------------------------------


@routes.post("/sign-in/mail")
@public
async def ask_link(request: web.Request) -> web.Response:
    """Send a link to an address; what is said does not depend on whether anybody has it."""
    form = await request.post()
    door, typed = Door.of(request, str(form.get("next", ""))), str(form.get("email", ""))
    words = await render.words_for(request)
    try:
        address = words_of.address(typed)
    except InvalidError:
        return await sign_in_form(request, door.wanted, RefusedError("address"))

    def work(records: Records) -> None:
        if tries.may_send(records, address, From(network=door.network), door.now):
            for owner in records.owners.by_email(address):
                sign_in_mail.queue_link(records, owner, door.wanted, door.now)

    await door.context.database.write(work)
    minutes = accounts.LASTS[ProofKind.LINK] // 60_000
    text = words("sign_in.sent", address=address, count=minutes)
    return render.message(request, words, words("sign_in.sent_title"), text, status=200, back="/sign-in")


@routes.get("/sign-in/mail/{secret}")
@public
async def link_page(request: web.Request) -> web.Response:
    """Whom the link signs in, and a button; opening it changes nothing, for mail scanners open everything."""
    return await _link_page(request, ProofKind.LINK)


@routes.post("/sign-in/mail/{secret}")
@public
async def use_link(request: web.Request) -> web.Response:
    """Sign in by the link, once."""
    return await _use_link(request, ProofKind.LINK)


@routes.get("/sign-in/invitation/{secret}")
@public
async def invitation_page(request: web.Request) -> web.Response:
    """Who is invited, and a button."""
    return await _link_page(request, ProofKind.INVITATION)


@routes.post("/sign-in/invitation/{secret}")
@public
async def use_invitation(request: web.Request) -> web.Response:
    """Sign in by the invitation, once; a way to sign in again is set up next."""
    return await _use_link(request, ProofKind.INVITATION)


async def _link_page(request: web.Request, kind: ProofKind) -> web.Response:
    door, secret = Door.of(request, request.query.get("next")), request.match_info["secret"]
    words = await render.words_for(request)
    try:
        name = await door.context.database.read(lambda records: _named(records, kind, secret, door.now))
    except (NotFoundError, GoneError) as error:
        return _over(request, words, kind, error)
    view = Shown(
        title=words(f"sign_in.{kind}_title", name=name),
        text=words(f"sign_in.{kind}_text"),
        button=words("sign_in.button"),
        action=request.path,
    )
    wanted = door.wanted if door.wanted != "/" else ""
    return _unlisted(render.page(request, "sign_in_link.html", words, view=view, next=wanted))


def _named(records: Records, kind: ProofKind, secret: str, now: int) -> str:
    found = accounts.peek(records, kind, secret, now)
    if kind is ProofKind.LINK:
        return records.owners.get(found.about).name
    return records.accounts.get(found.about).called


async def _use_link(request: web.Request, kind: ProofKind) -> web.Response:
    form = await request.post()
    door, secret = Door.of(request, str(form.get("next", ""))), request.match_info["secret"]

    def find(records: Records) -> Account:
        found = accounts.take(records, kind, secret, door.now)
        if kind is ProofKind.LINK:
            return accounts.of_owner(records, found.about, door.now)
        return records.accounts.get(found.about)

    try:
        account, response = await door.come_in(find, Way.LINK if kind is ProofKind.LINK else Way.INVITATION)
    except (NotFoundError, GoneError) as error:
        door.refused("link_over")
        return _over(request, await render.words_for(request), kind, error)
    return await _to_set_up(door, account, response)


async def _to_set_up(door: Door, account: Account, response: web.Response) -> web.Response:
    """Who has no passkey is asked for one, once they are in; who wanted a page goes there."""
    possible = RelyingParty(door.context.public_url).available
    keys = await door.context.database.read(lambda records: records.accounts.passkeys(account.id))
    asks = account.role is not Role.OWNER or (possible and not keys and door.wanted == "/")
    if asks:
        response.headers["Location"] = f"/account?as={account.role}&said=welcome"
    return response


def _over(
    request: web.Request, words: Any, kind: ProofKind, error: NotFoundError | GoneError
) -> web.Response:
    status = 410 if isinstance(error, GoneError) else 404
    title, text = words("sign_in.over_title"), words(f"sign_in.{kind}_over")
    return _unlisted(render.message(request, words, title, text, status=status, back="/sign-in"))


def _unlisted(response: web.Response) -> web.Response:
    """The address is a secret: no page that is opened from here learns it, and no search engine keeps it."""
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["X-Robots-Tag"] = "noindex, nofollow"
    return response


# --- a code that a display shows ----------------------------------------------------------------------


@routes.get("/sign-in/code")
@public
async def code_page(request: web.Request) -> web.Response:
    """Where the code of a display is typed; the picture beside it leads here with the code filled in."""
    return await _code_form(request)


async def _code_form(request: web.Request, refused: RefusedError | None = None) -> web.Response:
    words = await render.words_for(request)
    error = words(f"sign_in.faults.{refused.fault}") if refused else None
    view = Shown(code=words_of.plain_code(request.query.get("code", ""))[: words_of.CODE_LENGTH], error=error)
    status = refused.status if refused else 200
    return _unlisted(render.page(request, "sign_in_code.html", words, status=status, view=view))


@routes.post("/sign-in/code")
@public
async def use_code(request: web.Request) -> web.Response:
    """Sign in as whoever the display is signed in as."""
    form = await request.post()
    door, typed = Door.of(request, str(form.get("next", ""))), str(form.get("code", ""))[:64]
    code = words_of.plain_code(typed)
    allowed = await door.context.database.write(
        lambda records: tries.begin(records, ANYBODY, From(network=door.network), door.now)
    )
    if not allowed:
        door.refused("slow")
        return await _code_form(request, RefusedError("slow", 429))

    def find(records: Records) -> Account:
        found = accounts.take(records, ProofKind.CODE, code, door.now)
        tries.succeeded(records, ANYBODY, From(network=door.network))
        return accounts.of_owner(records, found.about, door.now)

    try:
        account, response = await door.come_in(find, Way.CODE)
    except (NotFoundError, GoneError):
        door.refused("code")
        return await _code_form(request, RefusedError("code"))
    return await _to_set_up(door, account, response)


# --- passkeys -----------------------------------------------------------------------------------------


@routes.post("/sign-in/passkey/options")
@public
async def passkey_options(request: web.Request) -> web.Response:
    """What a device is asked to sign, whichever passkey it has for us."""
    door = Door.of(request, None)
    party = RelyingParty(door.context.public_url)
    challenge, options = party.request()

    def work(records: Records) -> bool:
        if not tries.may_challenge(records, From(network=door.network), door.now):
            return False
        accounts.hand_out(records, ProofKind.CHALLENGE, SIGN_IN, door.now, secret=challenge)
        return True

    if not party.available or not await door.context.database.write(work):
        return Problem(429, "Too many tries; wait a few minutes.").response()
    return web.json_response(options)


@routes.post("/sign-in/passkey")
@public
async def by_passkey(request: web.Request) -> web.Response:
    """Take what a device signed, and give a session; answers where to go on."""
    body = await json_body(request)
    door, answer = Door.of(request, str(body.get("next") or "")), body.get("credential")
    party, challenge = RelyingParty(door.context.public_url), answered_challenge(answer)
    assert isinstance(answer, dict)  # or there would be no challenge in it

    def find(records: Records) -> Account:
        proof = accounts.take(records, ProofKind.CHALLENGE, challenge, door.now)
        passkey = records.accounts.passkey(str(answer.get("id")))
        if proof.about != SIGN_IN or passkey is None:
            raise NotFoundError("This passkey is not known here.")
        records.accounts.used_passkey(passkey.id, party.signed(answer, challenge, passkey), door.now)
        return records.accounts.get(passkey.account)

    try:
        account, response = await door.come_in(find, Way.PASSKEY)
    except (NotFoundError, GoneError, InvalidError) as error:
        door.refused("passkey", why=str(error)[:200])
        return Problem(422, "This passkey is not known here, or was not asked for.").response()
    told = web.json_response({"to": door.onward(account)})
    told.cookies.update(response.cookies)
    return told


async def json_body(request: web.Request) -> Mapping[str, Any]:
    """What a page of ours sends. Raises InvalidError."""
    try:
        body = await request.json()
    except (ValueError, RecursionError) as error:
        raise InvalidError("the body is JSON.") from error
    if not isinstance(body, dict):
        raise InvalidError("the body is an object.")
    return body


# --- going out ----------------------------------------------------------------------------------------


@routes.post("/sign-out")
@public
async def sign_out(request: web.Request) -> web.StreamResponse:
    """End the sessions of this browser, or only the one of the role `as`."""
    form = await request.post()
    keeper, context = request.app[KEEPER], request.app[CONTEXT]
    held = {role: request.cookies.get(cookie_name(role, https=keeper.https), "") for role in PAGE_ROLES}
    ended = {role: secret for role, secret in held.items() if secret and form.get("as", role) == role}
    now, response = context.clock.now(), _see("/")
    await context.database.write(lambda records: close_sessions(records, ended.values(), now))
    for role, secret in ended.items():
        keeper.forget(secret)
        end_session(response, role, https=keeper.https)
    return response


# --- the demo -----------------------------------------------------------------------------------------


@routes.post("/enter")
@public
async def enter(request: web.Request) -> web.StreamResponse:
    """In the demo: come in as somebody of the cast, or as all of them at once."""
    context, https = request.app[CONTEXT], request.app[KEEPER].https
    if context.demo is None:
        raise web.HTTPNotFound
    form = await request.post()
    name = str(form.get("as", ""))
    sessions = await enter_as(context, name)
    response = _see(local_path(str(form.get("next", "")), _home(context, name)))
    for token, secret in sessions:
        set_session(response, token, secret, https=https, now=context.clock.now())
    return response


async def enter_as(context: Context, name: str) -> list[tuple[Token, str]]:
    """Sessions (for `set_session`) of the demo's cast: owner, car, appliance, workshop, operator, all."""
    chosen, now = cast_of(context, name), context.clock.now()
    return await context.database.write(lambda records: [_play(records, *one, now) for one in chosen])


def open_session(records: Records, secret: str, now: int, *, browser: str = "") -> tuple[Token, str] | None:
    """A session for the bearer of `secret`; None for a secret that opens no pages."""
    token = records.tokens.by_hash(secret_hash(secret))
    if token is None or not token.live(now) or token.role not in PAGE_ROLES:
        return None
    if token.way is not None or token.opened_by:  # the secret of a session is no token
        return None
    session, cookie = issue_token(
        token.role,
        token.subject,
        ttl_ms=SESSION_MS,
        now=now,
        random=secrets.token_bytes,
        opened_by=token,
        way=Way.TOKEN,
        browser=browser,
    )
    records.tokens.add(session)
    return session, cookie


def close_sessions(records: Records, cookies: Iterable[str], now: int) -> None:
    """Revoke the sessions behind these cookies."""
    for secret in cookies:
        token = records.tokens.by_hash(secret_hash(secret))
        if token is not None:
            records.tokens.revoke(token.id, now)


def cast_of(context: Context, name: str) -> list[tuple[Role, str | None]]:
    """Who is meant by a name on the demo's start page; the car's display is its owner's."""
    cast = context.demo.state()["cast"] if context.demo else {}
    owner = (Role.OWNER, cast.get("owner"))
    workshop = (Role.WORKSHOP, cast.get("workshop"))
    operator = (Role.OPERATOR, None)
    known: dict[str, list[tuple[Role, str | None]]] = {
        "owner": [owner],
        "car": [owner],
        "appliance": [owner],
        "workshop": [workshop],
        "operator": [operator],
        "all": [owner, workshop, operator],
    }
    if name not in known:
        raise web.HTTPBadRequest(reason=f"as is one of {', '.join(known)}")
    return known[name]


def _home(context: Context, name: str) -> str:
    cast = context.demo.state()["cast"] if context.demo else {}
    if name in ("car", "appliance") and cast.get(name):
        return f"/display/{cast[name]}"
    return {str(role): home for role, home in HOMES.items()}.get(name, "/")


def _play(records: Records, role: Role, subject: str | None, now: int) -> tuple[Token, str]:
    token, secret = issue_token(role, subject, ttl_ms=DEMO_SESSION_MS, now=now, random=secrets.token_bytes)
    records.tokens.add(token)
    return token, secret


def _see(path: str) -> web.Response:
    return web.Response(status=303, headers={"Location": path, "Cache-Control": "no-store"})
