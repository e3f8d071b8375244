"""The owner's products: how they are, and what they sent."""

from __future__ import annotations

from types import SimpleNamespace as Shown
from typing import Any

from aiohttp import web

from gateway.domain.access import Role
from gateway.ports import Records
from gateway.web import rights, views
from gateway.web.access import allow
from gateway.web.owner_page import open_page

routes = web.RouteTableDef()
owner_only = allow(Role.OWNER)


@routes.get("/me/products")
@owner_only
async def products(request: web.Request) -> web.Response:
    """All products with their health."""
    at = await open_page(request)
    found = await at.read(lambda records: views.load_products(records, at.owner_id))
    measured = [await views.with_series(at.context, one, at.now) for one in found]
    shown = [views.product(one, at.context, at.words, at.now) for one in measured]
    return at.answer("owner_products.html", "products", Shown(products=shown))


@routes.get("/me/products/{device}")
@owner_only
async def product(request: web.Request) -> web.Response:
    """One product: health, history, everything it sent."""
    at, wanted = await open_page(request), request.match_info["device"]

    def work(records: Records) -> tuple[views.Product, str | None]:
        device = rights.device(records, at.who, wanted)
        workshop = views.find_workshop(records, device.workshop)
        product = views.owners_product(records, at.owner_id, device)
        return product, workshop.name if workshop else None

    found, workshop = await at.read(work)
    view = await product_view(found, at, workshop, "/me/products")
    return at.answer("owner_product.html", "products", view)


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
