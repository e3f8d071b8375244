"""The owner's products: how they are, what is next, how they are used, and what they sent."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace as Shown
from typing import Any
from urllib.parse import quote

from aiohttp import web

from gateway.domain.access import Role
from gateway.domain.errors import NotFoundError
from gateway.domain.guides import Guide, Piece
from gateway.domain.touchpoint import State
from gateway.flow import people
from gateway.ports import Records
from gateway.web import rights, views
from gateway.web.access import allow
from gateway.web.owner_page import COMING, OwnerPage, load_page, open_page
from gateway.web.words import Words

routes = web.RouteTableDef()
owner_only = allow(Role.OWNER)


@routes.get("/me/products")
@owner_only
async def products(request: web.Request) -> web.Response:
    """All products with their health."""
    at, found = await load_page(request, lambda records, at: views.load_products(records, at.owner_id))
    measured, _ = await views.with_all_series(at.context, found, [], at.now)
    shown = [views.product(one, at.context, at.words, at.now) for one in measured]
    return at.answer("owner_products.html", "products", Shown(products=shown))


@routes.get("/me/products/{device}")
@owner_only
async def product(request: web.Request) -> web.Response:
    """One product: health, what is next, history, guides, everything it sent."""
    wanted = request.match_info["device"]
    at, loaded = await load_page(request, lambda records, at: _load(records, at, wanted))
    view = await product_view(loaded.product, at, loaded.workshop, "/me/products")
    view.matters = [_matter_link(found, at) for found in loaded.matters]
    view.next = _next(loaded, view, at)
    view.unused, view.guides = _guides(loaded.product, at)
    view.mine = loaded.product.device.owner == at.owner_id
    view.ledger_url = f"/me/ledger?device={quote(wanted)}"
    return at.answer("owner_product.html", "products", view)


def _load(records: Records, at: OwnerPage, wanted: str) -> Shown:
    device = rights.device(records, at.who, wanted)
    workshop = views.find_workshop(records, device.workshop)
    open_ones = people.matters(records, at.owner_id, (State.OPEN,), limit=20)
    visits = [a for a in people.visits(records, at.owner_id, COMING, at.now) if a.device == wanted]
    return Shown(
        product=views.owners_product(records, at.owner_id, device),
        workshop=workshop.name if workshop else None,
        matters=[views.load_matter(records, t, at.context) for t in open_ones if t.device == wanted],
        visits=[(a, views.find_workshop(records, a.workshop)) for a in visits],
    )


def _matter_link(found: views.Matter, at: OwnerPage) -> Shown:
    said = views.spoken(found, at.context, at.words, at.now)
    return Shown(
        title=said.title,
        href=f"/me/touchpoints/{found.touchpoint.id}",
        severity=views.severity(at.words, found.touchpoint.severity),
    )


def _next(loaded: Shown, view: Shown, at: OwnerPage) -> Shown:
    """The next service: what is booked, else what wears out first."""
    words = at.words
    for appointment, workshop in loaded.visits[:1]:
        when = f"{words.when(appointment.start, 'long')}, {words.when(appointment.start, 'time')}"
        place = workshop.name if workshop else ""
        text = " · ".join(p for p in (views.service_name(appointment, workshop, words), place) if p)
        return Shown(icon="calendar", when=when, text=text, href=f"/me/visits/{appointment.id}")
    ahead = [row for row in view.product.health if row.at is not None]
    if not view.product.health:
        return Shown(icon="clock", when=words("products.next_unknown"), text="", href=None)
    first = min(ahead, key=lambda row: row.at) if ahead else view.product.health[0]
    when = words("products.next_around", when=first.when) if first.at is not None else first.when
    waiting = view.matters[0].href if view.matters else None
    told = words("products.next_choose" if waiting else "products.next_told")
    return Shown(icon="wrench", when=f"{first.label}: {when}", text=told, href=waiting)


# --- guides -----------------------------------------------------------------------------------


def _guides(product: views.Product, at: OwnerPage) -> tuple[list[Shown], list[Shown]]:
    """How its features are used: those that were not used yet, and the others."""
    fitting = [one for one in at.context.guides if one.fits(product.device)]
    unused = [_guide(one, product.device.id, at.words) for one in fitting if one.unused(product.facts)]
    rest = [_guide(one, product.device.id, at.words) for one in fitting if not one.unused(product.facts)]
    return unused, rest


def _guide(one: Guide, device: str, words: Words) -> Shown:
    language = words.language
    pieces = [
        _piece(piece, f"/me/products/{quote(device)}/guides/{quote(one.id)}/{number}", words)
        for number, piece in enumerate(one.pieces)
        if piece.language in (None, language)
    ]
    return Shown(
        id=one.id,
        title=words.label(one.title, one.id),
        text=words.label(one.text),
        steps=one.steps.get(language) or one.steps.get("en") or (),
        pieces=pieces,
    )


def _piece(piece: Piece, served: str, words: Words) -> Shown:
    video = piece.type == "video"
    length = words("products.video_minutes", minutes=words.loose(piece.minutes)) if piece.minutes else ""
    return Shown(
        href=piece.url or served,
        foreign=piece.url is not None,
        icon="play" if video else "document",
        label=words.label(piece.label),
        note=length,
    )


@routes.get("/me/products/{device}/guides/{guide}/{number:[0-9]{1,3}}")
@owner_only
async def piece(request: web.Request) -> web.StreamResponse:
    """A document or a video that lies beside the guides."""
    at, wanted = await open_page(request), request.match_info["device"]
    device = await at.read(lambda records: rights.device(records, at.who, wanted))
    name, number = request.match_info["guide"], int(request.match_info["number"])
    known = next((one for one in at.context.guides if one.id == name and one.fits(device)), None)
    found = known.pieces[number] if known is not None and number < len(known.pieces) else None
    path = Path(known.folder, found.file) if known is not None and found is not None and found.file else None
    if path is None or not path.is_file():
        raise NotFoundError(f"There is no such piece of the guide {name}.")
    return web.FileResponse(path, headers={"Cache-Control": "private, max-age=3600"})


async def product_view(found: views.Product, at: Any, workshop: str | None, base: str) -> Shown:
    """A product's page, for owners and for after-sales."""
    one = await views.with_series(at.context, found, at.now)
    words, device = at.words, found.device
    shown = views.product(one, at.context, words, at.now, base=base)
    drawn = [views.chart(course, words, at.now, name) for name, course in one.series.items()]
    due = [row for row in shown.health if row.due]
    headline = (
        words("products.one_due", part=due[0].label)
        if len(due) == 1
        else (words("products.some_due", count=len(due)) if due else words("products.all_well"))
    )
    return Shown(
        product=shown,
        headline=headline if shown.health else words("products.no_health_title"),
        charts=[chart for chart in drawn if chart is not None],
        latest=views.latest_rows(device, found.facts, at.context, words, at.now),
        sent_note=views.last_seen(found.facts, words, at.now),
        about=views.about(device, found.facts, words, at.now, workshop),
    )
