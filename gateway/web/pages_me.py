"""The owner's own say: consents, quiet hours, channels, weekly limit, and everything that was decided."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace as Shown
from urllib.parse import quote

from aiohttp import web

from gateway.domain import moments
from gateway.domain.access import Role
from gateway.domain.device import Device
from gateway.domain.errors import InvalidError, NotFoundError
from gateway.domain.household import Person
from gateway.domain.ids import derived_id
from gateway.domain.owner import Consent, Preferences, PushSubscription
from gateway.domain.purposes import Basis
from gateway.domain.touchpoint import LedgerLine
from gateway.flow import agree, consents, outgoing, people
from gateway.ports import Records
from gateway.web import export, reached, rights, views
from gateway.web.access import LANGUAGE_COOKIE, LANGUAGES, allow, local_path, who
from gateway.web.context import CONTEXT
from gateway.web.owner_page import OwnerPage, load_page, open_page
from gateway.web.render import YEAR_S, see
from gateway.web.words import Words

routes = web.RouteTableDef()
owner_only = allow(Role.OWNER)

LEDGER_LINES = 60
DEVICE_SHARE = 5
"""Of one product so many times more lines are looked through."""
UNITS = {"metric": "", "miles": "GB", "us": "US"}
"""{what somebody measures in: the region of their language (domain/texts.py)}"""


@routes.get("/me/you")
@owner_only
async def you(request: web.Request) -> web.Response:
    """Consents, quiet hours, channels, looks, and what was decided."""
    at, loaded = await load_page(request, _load_you)
    return at.answer("owner_you.html", "you", _you_view(loaded, at))


@routes.get("/me/export.zip")
@owner_only
async def take_along(request: web.Request) -> web.StreamResponse:
    """Everything that is held on them, as a file."""
    known, context = who(request), request.app[CONTEXT]
    return await export.answer(request, context, known, known.subject or "", context.clock.now())


def _load_you(records: Records, at: OwnerPage) -> Shown:
    return Shown(
        owner=records.owners.get(at.owner_id),
        consents=records.owners.consents(at.owner_id),
        preferences=outgoing.wishes(records, at.owner_id, at.context.policy),
        subscriptions=records.owners.subscriptions(at.owner_id),
        places=reached.addresses(records, records.owners.get(at.owner_id)),
        asked=consents.purposes(records, at.owner_id, at.context.policy),
        shared=[
            (device, person, records.owners.get(device.owner).name if device.owner else "")
            for device, person in people.shared(records, at.owner_id)
        ],
        lines=people.ledger(records, at.owner_id, limit=8),
    )


def _you_view(loaded: Shown, at: OwnerPage) -> Shown:
    words, wishes = at.words, loaded.preferences
    return Shown(
        name=loaded.owner.name,
        units=next((name for name, region in UNITS.items() if region == words.region), "metric"),
        zone_name=loaded.owner.time_zone.replace("_", " "),
        consents=[_consent(purpose, loaded.consents, at) for purpose in loaded.asked],
        shared=[_shared(one, at) for one in loaded.shared],
        quiet_from=wishes.quiet_from,
        quiet_to=wishes.quiet_to,
        channels=[_channel(key, wishes, loaded, words) for key in _channels(at)],
        notify=at.context.vapid_public_key,
        push_note=None,
        budget=words("you.budget_text", count=wishes.weekly_budget),
        weekly_budget=wishes.weekly_budget,
        offers=_offers(loaded, at),
        ledger=views.ledger(loaded.lines, at.context, words, newest_first=True),
        muted=[(rule, views.rule_name(rule, words), words("people.mute_ends")) for rule in wishes.muted],
    )


def _offers(loaded: Shown, at: OwnerPage) -> int | None:
    """How many offers a week, where there are any."""
    if "marketing" not in loaded.asked:
        return None
    wanted: int | None = loaded.preferences.marketing_budget
    return at.context.policy.marketing_budget if wanted is None else wanted


def _consent(purpose: str, history: list[Consent], at: OwnerPage) -> Shown:
    """A purpose: what it is for, what ends with it, how it stands, and every choice that was made."""
    words, entries = at.words, [entry for entry in history if entry.purpose == purpose]
    newest, key = (entries[0] if entries else None), f"consent.{purpose}"
    implied = newest is None and agree.basis(purpose) is Basis.OBJECTION
    granted = newest.granted if newest is not None else implied
    since = words("consent.since", date=words.when(newest.at, "full")) if newest and granted else ""
    text = words(f"{key}.text") if words.has(f"{key}.text") else ""
    ends = words("consent.what_ends", text=words(f"{key}.ends")) if words.has(f"{key}.ends") else ""
    return Shown(
        purpose=purpose,
        label=words(f"{key}.label") if words.has(f"{key}.label") else purpose,
        text=" ".join(p for p in (text, since, words("consent.implied") if implied else "") if p),
        ends=ends,
        granted=granted,
        history=[_choice(entry, words) for entry in entries],
    )


def _choice(entry: Consent, words: Words) -> str:
    """One entry of a consent's history."""
    source = f"consent.source.{entry.source}"
    said = words(source if words.has(source) else "consent.source.other", source=entry.source)
    date = f"{words.when(entry.at, 'full')}, {words.when(entry.at, 'time')}"
    choice = words(f"consent.entry_{'yes' if entry.granted else 'no'}", date=date, source=said)
    return f"{choice} ({words('consent.version', version=entry.text)})" if entry.text else choice


def _shared(one: tuple[Device, Person, str], at: OwnerPage) -> Shown:
    """A product of somebody else's that the owner shares."""
    device, person, owner = one
    return Shown(
        href=f"/me/products/{quote(device.id)}",
        title=device.title,
        text=f"{at.words('people.shared', name=owner)} · {at.words(f'people.role.{person.role}')}",
        leave=f"/me/products/{quote(device.id)}/people/{quote(person.owner)}/remove",
    )


def _channels(at: OwnerPage) -> list[str]:
    """Those that can be chosen: of mail, letters and the app those that the operator has."""
    more = [key for key in reached.IN_WRITING if key in at.context.policy.channels]
    return ["web_push", "display", *more]


def _channel(key: str, wishes: Preferences, loaded: Shown, words: Words) -> Shown:
    subscriptions: list[PushSubscription] = loaded.subscriptions
    text = words(f"channel.{key}.text")
    if key == "web_push" and subscriptions:
        text = words("channel.web_push.to", names=", ".join(dict.fromkeys(s.label for s in subscriptions)))
    place = reached.channel_text(key, loaded.places, words) or Shown(text=text, again=None)
    label, on = words(f"channel.{key}.label"), key in wishes.channels
    return Shown(key=key, label=label, text=place.text, on=on, again=place.again)


@routes.get("/me/ledger")
@owner_only
async def ledger(request: web.Request) -> web.Response:
    """Everything that was found, sent and not sent, and why."""
    after, device = request.query.get("after"), request.query.get("device")
    most = LEDGER_LINES * (DEVICE_SHARE if device else 1)
    at, lines = await load_page(
        request, lambda records, at: people.ledger(records, at.owner_id, after=after, limit=most + 1)
    )
    narrow = f"device={quote(device)}&" if device else ""
    older = f"/me/ledger?{narrow}after={quote(lines[most - 1].id)}" if len(lines) > most else None
    kept = [line for line in lines[:most] if device is None or line.device == device]
    title = await at.read(lambda r: _product(r, at, device, kept)) if device else None
    shown = views.ledger(kept, at.context, at.words, newest_first=True)
    back = f"/me/products/{quote(device)}" if device else "/me/you"
    view = Shown(ledger=shown, older=older, product=title, back=back)
    return at.answer("owner_ledger.html", "products" if device else "you", view)


def _product(records: Records, at: OwnerPage, device: str, lines: Sequence[LedgerLine]) -> str:
    """What a product is called to somebody whose it is, or was when these lines were written."""
    return (records.devices.get(device) if lines else rights.device(records, at.who, device)).title


@routes.post("/me/consents/{purpose}")
@owner_only
async def consent(request: web.Request) -> web.Response:
    """Agree, or withdraw: it holds at once."""
    at, form, purpose = await open_page(request), await request.post(), request.match_info["purpose"]
    granted, by = bool(form.get("granted")), agree.By(name=at.owner_id, source="owner")

    def work(records: Records) -> None:
        if purpose not in consents.purposes(records, at.owner_id, at.context.policy):
            raise NotFoundError(f"There is no purpose {purpose}.")
        agree.agree(records, at.owner_id, purpose, granted, by, at.now, at.context.policy)

    await at.write(work)
    return see("/me/you", "saved")


async def _prefer(at: OwnerPage, change: Callable[[Preferences], Preferences]) -> None:
    by, policy = agree.By(name=at.owner_id, source="owner"), at.context.policy

    def work(records: Records) -> None:
        wishes = outgoing.wishes(records, at.owner_id, policy)
        agree.prefer(records, at.owner_id, change(wishes), by, at.now, policy)

    await at.write(work)


@routes.post("/me/preferences")
@owner_only
async def preferences(request: web.Request) -> web.Response:
    """Quiet hours."""
    at, form = await open_page(request), await request.post()
    begin, end = str(form.get("quiet_from", ""))[:5], str(form.get("quiet_to", ""))[:5]
    try:
        moments.minutes_of(begin), moments.minutes_of(end)
    except ValueError:
        return see("/me/you", "conflict")
    await _prefer(at, lambda wishes: replace(wishes, quiet_from=begin, quiet_to=end))
    return see("/me/you", "saved")


@routes.post("/me/language")
@owner_only
async def speak(request: web.Request) -> web.Response:
    """The language and the units of pages, messages and displays."""
    at, form = await open_page(request), await request.post()
    language, units = str(form.get("language", "")), str(form.get("units", ""))
    if language not in LANGUAGES or units not in UNITS:
        return see("/me/you", "conflict")

    def work(records: Records) -> None:
        owner = records.owners.get(at.owner_id)
        region = UNITS[units]
        records.owners.update(replace(owner, language=f"{language}-{region}" if region else language))

    await at.write(work)
    response = see("/me/you", "saved")
    response.set_cookie(LANGUAGE_COOKIE, language, max_age=YEAR_S, samesite="Lax")
    return response


@routes.post("/me/budget")
@owner_only
async def weekly(request: web.Request) -> web.Response:
    """How many messages a week: about products, and offers."""
    at, form = await open_page(request), await request.post()
    given = {name: str(form[name]) for name in ("weekly_budget", "marketing_budget") if name in form}
    if not given or not all(re.fullmatch("[0-9]{1,2}", number) for number in given.values()):
        return see("/me/you", "conflict")
    service, offers = given.get("weekly_budget"), given.get("marketing_budget")

    def change(wishes: Preferences) -> Preferences:
        return replace(
            wishes,
            weekly_budget=wishes.weekly_budget if service is None else int(service),
            marketing_budget=wishes.marketing_budget if offers is None else int(offers),
        )

    await _prefer(at, change)
    return see("/me/you", "saved")


@routes.post("/me/channels/{channel}")
@owner_only
async def channel(request: web.Request) -> web.Response:
    """Use a channel, or do not."""
    at, form, name = await open_page(request), await request.post(), request.match_info["channel"]
    if name not in _channels(at):
        raise NotFoundError(f"There is no channel {name}.")
    on = bool(form.get("on"))

    def change(wishes: Preferences) -> Preferences:
        rest = tuple(c for c in wishes.channels if c != name)
        return replace(wishes, channels=(*rest, name) if on else rest)

    await _prefer(at, change)
    return see("/me/you", "saved")


@routes.post("/me/mute")
@owner_only
async def mute(request: web.Request) -> web.Response:
    """Hear no more of a rule, or hear of it again."""
    at, form = await open_page(request), await request.post()
    rule, muted = str(form.get("rule", "")), bool(form.get("muted"))
    policy = at.context.policy
    await at.write(lambda records: agree.mute(records, at.owner_id, rule, muted, at.now, policy))
    return see(local_path(str(form.get("next", "")), "/me/you"), "saved")


@routes.post("/me/subscriptions")
@owner_only
async def subscribe(request: web.Request) -> web.Response:
    """A browser that the owner allowed to show notifications (RFC 8030)."""
    at = await open_page(request)
    try:
        said = await request.json()
        keys = said["keys"]
        endpoint, p256dh, auth = str(said["endpoint"]), str(keys["p256dh"]), str(keys["auth"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidError(
            "subscription: endpoint and keys.p256dh, keys.auth, as the browser gives them."
        ) from error
    subscription = PushSubscription(
        id=derived_id("subscription", at.owner_id, endpoint),
        owner=at.owner_id,
        endpoint=endpoint,
        p256dh=p256dh,
        auth=auth,
        label=str(said.get("label") or "Browser")[:60],
        created=at.now,
    )
    await at.write(lambda records: records.owners.subscribe(subscription))
    return web.json_response({"id": subscription.id}, status=201)
