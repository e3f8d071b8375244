"""Who shares a product: the owner's page for it, the page behind an invitation, and why after-sales look.

Everything can be done without a script: forms post, and are answered by going on to a page.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from types import SimpleNamespace as Shown
from typing import Any
from urllib.parse import quote

from aiohttp import web

from gateway.domain.access import Role, Token, issue_token
from gateway.domain.errors import ConflictError, GoneError, NotFoundError
from gateway.domain.household import Invitation, Part, Person
from gateway.domain.ids import new_id
from gateway.domain.owner import Owner
from gateway.flow import agree, consents, people
from gateway.ports import Records
from gateway.web import looking, rights
from gateway.web.access import allow, public, set_session, who
from gateway.web.context import CONTEXT, Context
from gateway.web.owner_page import open_page
from gateway.web.render import message, page, see, words_for
from gateway.web.sign_in import KEEPER, SESSION_MS
from gateway.web.words import Words

routes = web.RouteTableDef()
owner_only = allow(Role.OWNER)

ROLES = (Part.MEMBER, Part.DRIVER)
NAME_MOST, REASON_MOST = 80, 200
REASONS = ("phone", "complaint", "fault")


# --- the owner's page of a product's people -------------------------------------------------------


@routes.get("/me/products/{device}/people")
@owner_only
async def household(request: web.Request) -> web.Response:
    """Who belongs to a product, who is asked, and who may answer."""
    return await _household(request, None)


async def _household(request: web.Request, made: tuple[Invitation, str] | None) -> web.Response:
    at, wanted = await open_page(request), request.match_info["device"]

    def work(records: Records) -> Shown:
        device = rights.device(records, at.who, wanted)
        return Shown(
            device=device,
            people=[(p, records.owners.get(p.owner).name) for p in records.devices.people(wanted)],
            invitations=[i for i in records.people.invitations(wanted) if i.open(at.now)],
        )

    loaded = await at.read(work)
    mine = loaded.device.owner == at.owner_id
    base = f"/me/products/{quote(wanted)}"
    view = Shown(
        title=loaded.device.title,
        back=base,
        mine=mine,
        people=[_person(p, name, at.owner_id, base, at.words, mine=mine) for p, name in loaded.people],
        invitations=[_invited(i, base, at.words) for i in loaded.invitations] if mine else [],
        invite=f"{base}/people/invite",
        invite_done=f"{base}/people",
        roles=[(str(role), at.words(f"people.role.{role}")) for role in ROLES],
        made=_made(made, at.context, at.words) if made else None,
    )
    return at.answer("owner_people.html", "products", view)


def _person(person: Person, name: str, me: str, base: str, words: Words, *, mine: bool) -> Shown:
    may = [words(f"people.{right}") for right in ("asked", "may_answer", "sees") if getattr(person, right)]
    return Shown(
        name=f"{name} ({words('people.you')})" if person.owner == me else name,
        role=words(f"people.role.{person.role}"),
        role_key=str(person.role),
        since=words("people.since", date=words.when(person.since, "full")),
        may=", ".join(may[:2]),
        asked=person.asked,
        may_answer=person.may_answer,
        change=f"{base}/people/{quote(person.owner)}" if mine and person.role is not Part.OWNER else None,
        remove=f"{base}/people/{quote(person.owner)}/remove"
        if person.role is not Part.OWNER and (mine or person.owner == me)
        else None,
        leaves=person.owner == me,
    )


def _invited(invitation: Invitation, base: str, words: Words) -> Shown:
    date = words.when(invitation.expires, "full")
    return Shown(
        text=words("people.invited", name=invitation.name or "…", date=date),
        end=f"{base}/invitations/{quote(invitation.id)}/end",
    )


def _made(made: tuple[Invitation, str], context: Context, words: Words) -> Shown:
    invitation, secret = made
    date = words.when(invitation.expires, "full")
    return Shown(
        text=words("people.invite_link", name=invitation.name or "…", date=date),
        url=f"{context.public_url.rstrip('/')}/join/{secret}",
    )


@routes.post("/me/products/{device}/people/invite")
@owner_only
async def invite(request: web.Request) -> web.Response:
    """A link for somebody; it is shown on the answer and never again."""
    at, wanted, form = await open_page(request), request.match_info["device"], await request.post()

    def work(records: Records) -> tuple[Invitation, str]:
        rights.own_device(records, at.who, wanted)
        return people.invite(
            records,
            wanted,
            by=at.owner_id,
            name=str(form.get("name", "")),
            role=_role(form.get("role")),
            asked=bool(form.get("asked")),
            may_answer=bool(form.get("may_answer")),
            now=at.now,
        )

    return await _household(request, await at.write(work))


def _role(given: object) -> Part:
    return Part.DRIVER if given == Part.DRIVER else Part.MEMBER


@routes.post("/me/products/{device}/people/{person}")
@owner_only
async def change(request: web.Request) -> web.Response:
    """Another role, another one who is asked, other rights."""
    at, wanted, form = await open_page(request), request.match_info["device"], await request.post()
    person = request.match_info["person"]

    def work(records: Records) -> None:
        rights.own_device(records, at.who, wanted)
        found = people.part(records, wanted, person)
        if found is None:
            raise NotFoundError(f"{person} does not belong to {wanted}.")
        asked, may = bool(form.get("asked")), bool(form.get("may_answer"))
        people.change(
            records, replace(found, role=_role(form.get("role")), asked=asked, may_answer=may), at.now
        )

    await at.write(work)
    return see(f"/me/products/{quote(wanted)}/people", "saved")


@routes.post("/me/products/{device}/people/{person}/remove")
@owner_only
async def remove(request: web.Request) -> web.Response:
    """Somebody shares it no more; everybody may leave by themselves."""
    at, wanted = await open_page(request), request.match_info["device"]
    person = request.match_info["person"]

    def work(records: Records) -> None:
        if person != at.owner_id:
            rights.own_device(records, at.who, wanted)
        people.leave(records, wanted, person, at.now, by=at.owner_id)

    await at.write(work)
    back = "/me/you" if person == at.owner_id else f"/me/products/{quote(wanted)}/people"
    return see(back, "left")


@routes.post("/me/products/{device}/invitations/{id}/end")
@owner_only
async def call_back(request: web.Request) -> web.Response:
    """Call an invitation back."""
    at, wanted = await open_page(request), request.match_info["device"]

    def work(records: Records) -> None:
        rights.own_device(records, at.who, wanted)
        people.call_back(records, wanted, request.match_info["id"], at.now)

    await at.write(work)
    return see(f"/me/products/{quote(wanted)}/people", "invited")


# --- the invitation -------------------------------------------------------------------------------


@routes.get("/join/{secret}")
@public
async def invitation(request: web.Request) -> web.Response:
    """What somebody is invited to; looking at it changes nothing."""
    context, words = request.app[CONTEXT], await words_for(request)
    secret, me = request.match_info["secret"], await me_of(request)
    try:
        loaded = await context.database.read(lambda records: _load_invitation(records, secret, me, context))
    except (GoneError, NotFoundError):
        return message(request, words, words("people.gone_title"), words("people.gone_text"), status=410)
    if loaded.mine:
        return message(request, words, words("people.own_title"), words("people.own_text"), status=409)
    one = loaded.invitation
    may = [words(f"people.{right}") for right in ("asked", "may_answer", "sees") if getattr(one, right)]
    role = words(f"people.role.{one.role}")
    view = Shown(
        title=words("people.take_title", by=loaded.by, product=loaded.product),
        text=words("people.take_text", role=role, rights=", ".join(may[:2])),
        action=f"/join/{quote(secret)}",
        name=one.name,
        me=words("people.take_signed_in", name=loaded.me) if loaded.me else None,
        purposes=[purpose_shown(purpose, words) for purpose in loaded.purposes] if one.asked else [],
    )
    return page(request, "join.html", words, view=view)


def purpose_shown(purpose: str, words: Words) -> Shown:
    """What somebody is asked to agree to."""
    key = f"consent.{purpose}"
    return Shown(
        key=purpose,
        label=words(f"{key}.label") if words.has(f"{key}.label") else purpose,
        text=words(f"{key}.text") if words.has(f"{key}.text") else "",
    )


async def me_of(request: web.Request) -> str | None:
    """The owner who is signed in in this browser, if any."""
    keeper = request.app[KEEPER]
    identity = (await keeper.sessions(request)).get(Role.OWNER)
    return identity.subject if identity else None


def _load_invitation(records: Records, secret: str, me: str | None, context: Context) -> Shown:
    found = people.invitation_of(records, secret, context.clock.now())
    device = records.devices.get(found.device)
    asked = [p for p in consents.purposes(records, me or "", context.policy) if p not in agree.IMPLIED]
    return Shown(
        invitation=found,
        product=device.title,
        by=records.owners.get(device.owner).name if device.owner else "",
        mine=me is not None and device.owner == me,
        me=records.owners.get(me).name if me else None,
        purposes=[p for p in asked if me is None or not records.owners.granted(me, p)],
    )


@routes.post("/join/{secret}")
@public
async def take_up(request: web.Request) -> web.StreamResponse:
    """Share the product from now on: as who is signed in, or as somebody new, who is signed in with it."""
    context, words, form = request.app[CONTEXT], await words_for(request), await request.post()
    secret, me, now = request.match_info["secret"], await me_of(request), context.clock.now()
    granted = [str(purpose) for purpose in form.getall("agree", [])]
    newcomer = None if me else newcomer_of(form, words, now)
    if me is None and newcomer is None:
        return see(f"/join/{quote(secret)}", "name")

    def work(records: Records) -> tuple[Invitation, tuple[Token, str] | None]:
        opened = None
        person = me
        if newcomer is not None:
            person = newcomer.id
            opened = _register(records, newcomer, secret, now)
        assert person is not None
        taken = people.take_up(records, secret, person, now)
        by = agree.By(name=person, source="owner")
        for purpose in granted:
            if purpose in context.policy.purposes:
                agree.agree(records, person, purpose, True, by, now, context.policy)
        return taken, opened

    try:
        taken, opened = await context.database.write(work)
    except (GoneError, NotFoundError):
        return message(request, words, words("people.gone_title"), words("people.gone_text"), status=410)
    except ConflictError:
        return message(request, words, words("people.own_title"), words("people.own_text"), status=409)
    response = see(f"/me/products/{quote(taken.device)}", "shared")
    if opened is not None:
        set_session(response, *opened, https=request.app[KEEPER].https, now=now)
    return response


def newcomer_of(form: Any, words: Words, now: int) -> Owner | None:
    """Somebody nobody knows yet; None without a name."""
    name = " ".join(str(form.get("name", "")).split())[:NAME_MOST]
    email = str(form.get("email", "")).strip()
    if not name or not name.isprintable():
        return None
    good = email.count("@") == 1 and email.isprintable() and " " not in email and len(email) <= 254
    return Owner(
        id=new_id(now), name=name, email=email if good else None, language=words.language, created=now
    )


def _register(records: Records, newcomer: Owner, secret: str, now: int) -> tuple[Token, str]:
    """A new owner by the clock of who invited them, signed in by a session of their own."""
    device = records.devices.get(people.invitation_of(records, secret, now).device)
    zone = records.owners.get(device.owner).time_zone if device.owner else newcomer.time_zone
    records.owners.add(replace(newcomer, time_zone=zone))
    token, cookie = issue_token(
        Role.OWNER, newcomer.id, ttl_ms=SESSION_MS, now=now, random=secrets.token_bytes
    )
    records.tokens.add(token)
    return token, cookie


# --- why after-sales look -------------------------------------------------------------------------


@routes.post("/operator/owners/{id}/reason")
@allow(Role.OPERATOR)
async def reason(request: web.Request) -> web.Response:
    """Say once why one looks at an owner's data; the owner's ledger says it too."""
    context, wanted, form = request.app[CONTEXT], request.match_info["id"], await request.post()
    said = " ".join(str(form.get("other", "")).split())[:REASON_MOST]
    why = said or (str(form.get("why", "")) if form.get("why") in REASONS else "")
    identity, now = who(request), context.clock.now()

    def work(records: Records) -> None:
        records.owners.get(wanted)
        if why:
            looking.give_reason(records, identity, wanted, why, now)

    await context.database.write(work)
    return see(f"/operator/owners/{quote(wanted)}", "reason" if why else None)


def reasons(records: Records, identity: Any, owner: str, now: int, words: Words) -> Shown:
    """The field for it, or what was said."""
    said = looking.reason(records, identity, owner, now)
    key = f"looks.{said}"
    return Shown(
        said=words("looks.why_said", why=words(key) if said and words.has(key) else said) if said else None,
        choices=[(key, words(f"looks.{key}")) for key in REASONS],
        action=f"/operator/owners/{quote(owner)}/reason",
    )
