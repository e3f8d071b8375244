"""How one signs in, and where one is: passkeys, password with one-time codes, sessions; for who runs a
workshop or after-sales also the people who work there.

What changes how somebody signs in asks for a sign-in of the last quarter of an hour: a screen that was left
open is not enough.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from types import SimpleNamespace as Shown
from typing import Any, TypeVar
from urllib.parse import quote

import segno
from aiohttp import web
from markupsafe import Markup

from gateway.domain.access import Role, Token
from gateway.domain.accounts import CODE_LENGTH, PASSWORD_LEAST, Account, ProofKind, Rank
from gateway.domain.errors import ConflictError, InvalidError, NotFoundError
from gateway.flow import accounts, sign_in_mail, tries
from gateway.ports import Records
from gateway.web import clients, rights
from gateway.web.access import Identity, allow, while_setting_up, who
from gateway.web.context import CONTEXT, Context
from gateway.web.passkeys import LABEL_MOST, RelyingParty, answered_challenge
from gateway.web.problems import Problem
from gateway.web.render import page, see, words_for
from gateway.web.sign_in import KEEPER, SIGN_IN, hashed, json_body
from gateway.web.words import Words

T = TypeVar("T")
WITH_PAGES = (Role.OWNER, Role.WORKSHOP, Role.OPERATOR)
AT_WORK = (Role.WORKSHOP, Role.OPERATOR)

routes = web.RouteTableDef()


class _At:
    """One request of somebody about how they sign in."""

    def __init__(self, request: web.Request, words: Words) -> None:
        self.request = request
        self.context: Context = request.app[CONTEXT]
        self.words = words
        self.who: Identity = who(request)
        self.now = self.context.clock.now()
        self.query = f"?as={self.who.role}"

    @classmethod
    async def of(cls, request: web.Request) -> _At:
        return cls(request, await words_for(request))

    async def read(self, work: Callable[[Records], T]) -> T:
        return await self.context.database.read(work)

    async def write(self, work: Callable[[Records], T]) -> T:
        """Do it; what was ended by it is not believed any more."""
        result = await self.context.database.write(work)
        self.request.app[KEEPER].forget()
        return result

    async def form(self) -> Mapping[str, str]:
        return {name: str(value) for name, value in (await self.request.post()).items()}

    def account(self, records: Records) -> Account | None:
        """Whose session it is; None where a token stands for somebody at work."""
        if self.who.account is not None:
            return records.accounts.get(self.who.account)
        if self.who.role is Role.OWNER and self.who.subject is not None:
            return records.accounts.by_name(f"owner:{self.who.subject}")
        return None

    def own(self, records: Records) -> Account:
        """The account to change. Raises NotFoundError where there is none, or it is kept elsewhere."""
        found = self.account(records)
        if found is None and self.who.role is Role.OWNER:
            found = accounts.of_owner(records, self.who.subject or "", self.now)
        if found is None or found.elsewhere:
            raise NotFoundError("There is nothing to set up here: a token or a provider says who you are.")
        return found

    @property
    def fresh(self) -> bool:
        return self.now - self.who.opened < accounts.FRESH_MS

    def check_fresh(self) -> None:
        """Raises a redirect to sign in again."""
        if not self.fresh:
            wanted = quote(f"/account{self.query}", safe="")
            raise web.HTTPSeeOther(f"/sign-in?next={wanted}&for={_face(self.who.role)}")

    def show(self, template: str, view: Shown, *, status: int = 200) -> web.Response:
        view.base = f"{self.who.role}_base.html"
        view.query = self.query
        view.role = str(self.who.role)
        said = self.request.query.get("said", "")
        note = self.words(f"account.said.{said}") if self.words.has(f"account.said.{said}") else None
        toast = Shown(text=note, undo_url=None) if note else None
        tab = "you" if self.who.role is Role.OWNER else "account"
        return page(
            self.request, template, self.words, status=status, view=view, tab=tab, toast=toast, pushes=[]
        )

    def back(self, said: str) -> web.Response:
        return see(f"/account{self.query}", said)


def _face(role: Role) -> str:
    return "owner" if role is Role.OWNER else "staff"


# --- the page -------------------------------------------------------------------------------------


@routes.get("/account")
@while_setting_up
@allow(*WITH_PAGES)
async def account(request: web.Request) -> web.Response:
    """How one signs in, and where one is signed in."""
    return await _account(await _At.of(request))


async def _account(at: _At, *, codes: list[str] | None = None) -> web.Response:
    view = await at.read(lambda records: _view(records, at))
    view.codes = codes
    view.ready = view.ready or codes is not None
    return at.show("account.html", view)


def _view(records: Records, at: _At) -> Shown:
    found = at.account(records)
    keys = records.accounts.passkeys(found.id) if found else []
    changeable = at.context.demo is None and (
        at.who.role is Role.OWNER or (found is not None and not found.elsewhere)
    )
    return Shown(
        called=found.called if found else at.who.called or "",
        shop=_shop(records, at),
        changeable=changeable,
        note=None if changeable else at.words(f"account.note_{_why_not(at, found)}"),
        fresh=at.fresh,
        ready=at.who.set_up,
        possible=RelyingParty(at.context.public_url).available,
        passkeys=[_passkey(at, key) for key in keys],
        staff=at.who.role is not Role.OWNER,
        has_password=found.has_password if found else False,
        recovery=len(found.recovery) if found else 0,
        name=found.name if found and at.who.role is not Role.OWNER else "",
        sessions=_sessions(records, at, found),
        people=at.who.role is not Role.OWNER and at.who.rank is Rank.RUNS,
    )


def _why_not(at: _At, found: Account | None) -> str:
    if at.context.demo is not None:
        return "demo"
    return "elsewhere" if found is not None else "token"


def _shop(records: Records, at: _At) -> str:
    return records.workshops.get(at.who.subject or "").name if at.who.role is Role.WORKSHOP else ""


def _passkey(at: _At, key: Any) -> Shown:
    used = at.words.moment(key.used, at.now) if key.used else at.words("account.never")
    text = at.words("account.passkey_text", made=at.words.when(key.created), used=used)
    synced = at.words("account.synced" if key.synced else "account.not_synced")
    return Shown(id=key.id, label=key.label or at.words("account.passkey"), text=f"{text} {synced}")


def _sessions(records: Records, at: _At, found: Account | None) -> list[Shown]:
    if found is not None:
        held = accounts.sessions(records, found, at.now)
    elif at.who.role is Role.OWNER:
        mine = records.tokens.sessions(Role.OWNER, subject=at.who.subject)
        held = [token for token in mine if token.live(at.now)]
    else:
        held = []
    return [_session(at, token) for token in held]


def _session(at: _At, token: Token) -> Shown:
    here = token.id == at.who.token
    return Shown(
        id=token.id,
        here=here,
        label=token.browser or at.words("account.some_browser"),
        text=at.words(
            "account.session_text",
            since=at.words.moment(token.created, at.now),
            way=at.words(f"account.way.{token.way}"),
            until=at.words.when(token.expires),
        ),
    )


# --- passkeys -------------------------------------------------------------------------------------


@routes.post("/account/passkeys/options")
@while_setting_up
@allow(*WITH_PAGES)
async def passkey_options(request: web.Request) -> web.Response:
    """What a browser needs to make a passkey."""
    at = await _At.of(request)
    party = RelyingParty(at.context.public_url)
    if not at.fresh or not party.available:
        return Problem(403, "Sign in again first.").response()

    def work(records: Records) -> Mapping[str, Any]:
        mine = at.own(records)
        challenge, options = party.creation(mine, records.accounts.passkeys(mine.id))
        accounts.hand_out(records, ProofKind.CHALLENGE, mine.id, at.now, secret=challenge)
        return options

    return web.json_response(await at.write(work))


@routes.post("/account/passkeys")
@while_setting_up
@allow(*WITH_PAGES)
async def add_passkey(request: web.Request) -> web.Response:
    """Keep the passkey that a device made; answers where to go on."""
    at, body = await _At.of(request), await json_body(request)
    answer, party = body.get("credential"), RelyingParty(at.context.public_url)
    challenge, label = answered_challenge(answer), str(body.get("label") or "")[:LABEL_MOST]
    assert isinstance(answer, dict)  # or there would be no challenge in it
    label = label or clients.browser_words(request)

    def work(records: Records) -> None:
        mine = at.own(records)
        proof = accounts.take(records, ProofKind.CHALLENGE, challenge, at.now)
        if proof.about in (SIGN_IN, "") or proof.about != mine.id:
            raise NotFoundError("This was asked of somebody else.")
        accounts.add_passkey(records, party.created(answer, challenge, mine, label, at.now), at.now)

    await at.write(work)
    return web.json_response({"to": f"/account{at.query}&said=passkey"})


@routes.post("/account/passkeys/{passkey}/remove")
@while_setting_up
@allow(*WITH_PAGES)
async def remove_passkey(request: web.Request) -> web.Response:
    """Take a passkey back, for a device that was lost."""
    at = await _At.of(request)
    at.check_fresh()
    try:
        await at.write(
            lambda records: accounts.drop_passkey(
                records, at.own(records).id, request.match_info["passkey"], at.now
            )
        )
    except ConflictError:
        return at.back("last")
    return at.back("passkey_gone")


# --- password with one-time codes -------------------------------------------------------------------


@routes.post("/account/password/begin")
@while_setting_up
@allow(*AT_WORK)
async def begin_password(request: web.Request) -> web.Response:
    """Make a secret for the authenticator app."""
    at = await _At.of(request)
    at.check_fresh()
    await at.write(lambda records: accounts.begin_totp(records, at.own(records).id))
    return see(f"/account/password{at.query}")


@routes.get("/account/password")
@while_setting_up
@allow(*AT_WORK)
async def password_page(request: web.Request) -> web.Response:
    """The picture for the app, and the form that confirms both."""
    at = await _At.of(request)
    at.check_fresh()
    return await _password_page(at)


async def _password_page(at: _At, fault: str | None = None) -> web.Response:
    mine, shop = await at.read(lambda records: (at.own(records), _shop(records, at)))
    if mine.totp_new is None:
        return see(f"/account{at.query}")
    address = await at.write(lambda records: accounts.begin_totp(records, mine.id))
    groups = [mine.totp_new[start : start + 4] for start in range(0, len(mine.totp_new), 4)]
    view = Shown(
        qr=qr(address),
        secret=" ".join(groups),
        name=mine.name,
        shop=shop,
        least=PASSWORD_LEAST,
        error=at.words(f"account.faults.{fault}", count=PASSWORD_LEAST) if fault else None,
    )
    return at.show("account_password.html", view, status=422 if fault else 200)


def qr(text: str) -> Markup:
    """A QR code as SVG: dark on light in either theme, for that is what cameras read."""
    out = io.BytesIO()
    segno.make(text, error="m", micro=False).save(
        out,
        kind="svg",
        scale=4,
        border=4,
        xmldecl=False,
        svgns=True,
        dark="#000",
        light="#fff",
        omitsize=True,
    )
    return Markup(out.getvalue().decode())


@routes.post("/account/password")
@while_setting_up
@allow(*AT_WORK)
async def set_password(request: web.Request) -> web.Response:
    """Password and app hold from now on; the recovery codes are shown once."""
    at = await _At.of(request)
    at.check_fresh()
    form = await at.form()
    mine = await at.read(at.own)
    try:
        kept = await hashed(at.context, form.get("password", ""), mine)
    except InvalidError:
        return await _password_page(at, "password")

    def work(records: Records) -> list[str] | None:
        where = tries.From(network=mine.id)
        if not tries.begin(records, mine.name, where, at.now):
            return None
        codes = accounts.set_password(records, mine.id, kept, form.get("code", ""), at.now)
        accounts.end_sessions(records, mine, at.now, but=at.who.token)
        tries.succeeded(records, mine.name, where)
        return codes

    try:
        codes = await at.write(work)
    except InvalidError:
        return await _password_page(at, "code")
    return await _account(at, codes=codes) if codes else await _password_page(at, "slow")


@routes.post("/account/password/remove")
@allow(*AT_WORK)
async def remove_password(request: web.Request) -> web.Response:
    """Sign in with passkeys alone."""
    at = await _At.of(request)
    at.check_fresh()
    try:
        await at.write(lambda records: accounts.drop_password(records, at.own(records).id))
    except ConflictError:
        return at.back("last")
    return at.back("password_gone")


# --- sessions -------------------------------------------------------------------------------------


@routes.post("/account/sessions/end")
@while_setting_up
@allow(*WITH_PAGES)
async def end_others(request: web.Request) -> web.Response:
    """Sign out everywhere else."""
    at = await _At.of(request)
    held = await at.read(lambda records: _sessions(records, at, at.account(records)))
    ended = [one.id for one in held if not one.here]
    await at.write(lambda records: [records.tokens.revoke(one, at.now) for one in ended])
    return at.back("signed_out")


@routes.post("/account/sessions/{session}/end")
@while_setting_up
@allow(*WITH_PAGES)
async def end_one(request: web.Request) -> web.Response:
    """Sign out in one other browser."""
    at = await _At.of(request)
    held = await at.read(lambda records: _sessions(records, at, at.account(records)))
    if request.match_info["session"] not in {one.id for one in held}:
        raise NotFoundError("There is no such session.")
    await at.write(lambda records: records.tokens.revoke(request.match_info["session"], at.now))
    return at.back("signed_out")


# --- the people of a workshop, or of after-sales ------------------------------------------------------


@routes.get("/account/people")
@allow(*AT_WORK)
async def people(request: web.Request) -> web.Response:
    """Who signs in for the workshop, or for after-sales and the workshops."""
    return await _people(await _At.of(request))


async def _people(at: _At, *, link: str | None = None, fault: str | None = None) -> web.Response:
    def work(records: Records) -> Shown:
        return Shown(
            shop=_shop(records, at),
            people=[_one(records, at, account) for account in rights.accounts(records, at.who)],
            places=[] if at.who.role is Role.WORKSHOP else [(w.id, w.name) for w in records.workshops.page()],
        )

    view = await at.read(work)
    view.link = link
    view.error = at.words(f"account.faults.{fault}") if fault else None
    return at.show("account_people.html", view, status=422 if fault else 200)


def _one(records: Records, at: _At, account: Account) -> Shown:
    place = ""
    if account.role is Role.WORKSHOP and at.who.role is not Role.WORKSHOP:
        place = records.workshops.get(account.subject or "").name
    state = "ready" if accounts.set_up(records, account) else "invited"
    return Shown(
        id=account.id,
        called=account.called,
        name=at.words("account.from_provider") if account.elsewhere else account.name,
        text=", ".join(
            part
            for part in (
                place,
                at.words(f"account.rank_{account.role}_{account.rank}"),
                at.words(f"account.state_{state}"),
            )
            if part
        ),
        you=account.id == at.who.account,
        invited=not account.elsewhere,
    )


@routes.post("/account/people")
@allow(*AT_WORK)
async def invite(request: web.Request) -> web.Response:
    """Invite somebody; the link is shown once, and mailed where mail is sent."""
    at, form = await _At.of(request), await _form(request)
    role, subject = _where(at, form.get("place", ""))
    rank = Rank.RUNS if form.get("rank") == Rank.RUNS else Rank.STAFF

    def work(records: Records) -> str:
        made, secret = accounts.invite(
            records, role, subject, form.get("email", ""), form.get("name", ""), rank, at.now
        )
        return _handed(records, at, made, secret)

    try:
        return await _people(at, link=await at.write(work))
    except (InvalidError, NotFoundError):
        return await _people(at, fault="invite")
    except ConflictError:
        return await _people(at, fault="taken")


async def _form(request: web.Request) -> Mapping[str, str]:
    return {name: str(value) for name, value in (await request.post()).items()}


def _where(at: _At, place: str) -> tuple[Role, str | None]:
    """A workshop invites its own; after-sales its own, and the people of any workshop."""
    if at.who.role is Role.WORKSHOP:
        return Role.WORKSHOP, at.who.subject
    return (Role.WORKSHOP, place) if place else (Role.OPERATOR, None)


def _handed(records: Records, at: _At, account: Account, secret: str) -> str:
    """The link to pass on; with mail a second one goes out and ends it, so then there is none."""
    if "email" in at.context.policy.channels:
        sign_in_mail.queue_invitation(records, account, at.words.language, at.now)
        return ""
    return f"{at.context.public_url}/sign-in/invitation/{secret}"


@routes.post("/account/people/{id}/again")
@allow(*AT_WORK)
async def invite_again(request: web.Request) -> web.Response:
    """A new first link, for somebody who lost what they signed in with."""
    at = await _At.of(request)

    def work(records: Records) -> str:
        account = rights.account(records, at.who, request.match_info["id"])
        return _handed(records, at, account, accounts.invite_again(records, account.id, at.now))

    return await _people(at, link=await at.write(work))


@routes.post("/account/people/{id}/end")
@allow(*AT_WORK)
async def end_account(request: web.Request) -> web.Response:
    """Somebody does not work here any more: their sessions end with their account."""
    at = await _At.of(request)

    def work(records: Records) -> None:
        account = rights.account(records, at.who, request.match_info["id"])
        if account.id == at.who.account:
            raise ConflictError("Nobody ends their own account.", account)
        accounts.end(records, account.id, at.now)

    await at.write(work)
    return see(f"/account/people{at.query}", "ended")


# --- the display ----------------------------------------------------------------------------------------


@routes.post("/display/{device}/code")
@allow(Role.OWNER)
async def show_code(request: web.Request) -> web.Response:
    """A code on the display, and the same as a picture: with it another browser signs in as who this one
    is."""
    at, device = await _At.of(request), request.match_info["device"]

    def work(records: Records) -> str:
        rights.device(records, at.who, device)
        return accounts.code_for(records, at.who.subject or "", at.now)

    code = await at.write(work)
    minutes = accounts.LASTS[ProofKind.CODE] // 60_000
    half = CODE_LENGTH // 2
    view = Shown(
        code=f"{code[:half]}-{code[half:]}",
        qr=qr(f"{at.context.public_url}/sign-in/code?code={code}"),
        text=at.words("account.code_text", address=f"{at.context.public_url}/sign-in/code", count=minutes),
        back=f"/display/{device}",
    )
    return page(request, "display_code.html", at.words, view=view)
