"""An owner deletes their account: what goes, what stays and why, and the same question twice.

The first page says it, the second asks again; only the second form, sent from there, deletes. Nothing here
needs a script.
"""

from __future__ import annotations

from types import SimpleNamespace as Shown

from aiohttp import web

from gateway.domain.access import Role
from gateway.flow import erase
from gateway.ports import Records
from gateway.web.access import allow, end_session, public
from gateway.web.owner_page import OwnerPage, open_page
from gateway.web.render import message, see, words_for
from gateway.web.sign_in import KEEPER

routes = web.RouteTableDef()
owner_only = allow(Role.OWNER)

GOES = ("person", "matters", "readings", "photos", "products", "shared")
STAYS = ("visits", "recalls", "others", "counts", "backups", "calendars")


@routes.get("/me/delete")
@owner_only
async def explain(request: web.Request) -> web.Response:
    """What goes and what stays."""
    return await _ask(await open_page(request), sure=False)


@routes.post("/me/delete")
@owner_only
async def delete(request: web.Request) -> web.Response:
    """Asks once more, or does it."""
    at, form = await open_page(request), await request.post()
    if form.get("sure") != "yes":
        return await _ask(at, sure=True)

    def work(records: Records) -> None:
        erase.erase(records, at.owner_id, at.now, at.context.policy)

    await at.write(work)
    keeper, response = request.app[KEEPER], see(f"/deleted?lang={at.words.language}")
    end_session(response, Role.OWNER, https=keeper.https)
    return response


async def _ask(at: OwnerPage, *, sure: bool) -> web.Response:
    coming = await at.read(
        lambda records: records.workshops.appointments(owner=at.owner_id, states=erase.COMING)
    )
    view = Shown(
        sure=sure,
        visits=at.words("erase.visits_end", count=len(coming)) if coming else None,
        goes=[at.words(f"erase.goes.{name}") for name in GOES],
        stays=[at.words(f"erase.stays.{name}") for name in STAYS],
        take_along="/me/export.zip",
        back="/me/you#data",
    )
    return at.answer("owner_erase.html", "you", view)


@routes.get("/deleted")
@public
async def deleted(request: web.Request) -> web.Response:
    """Said to who is nobody here any more."""
    words = await words_for(request)
    return message(request, words, words("erase.done_title"), words("erase.done"), status=200)
