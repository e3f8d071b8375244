"""After-sales, journeys: how far products have come with their owners, and how long each step took."""

from __future__ import annotations

from types import SimpleNamespace as Shown
from urllib.parse import urlencode

from aiohttp import web

from gateway.domain.measures import JOURNEY
from gateway.domain.moments import DAY_MS
from gateway.flow import journeys
from gateway.web import charts, views
from gateway.web.pages_operator import Desk, open_desk, operator_only
from gateway.web.words import Words

routes = web.RouteTableDef()

BY = ("kind", "model", "firmware", "rule", "week")
SPANS = (90, 365)


@routes.get("/operator/journeys")
@operator_only
async def show(request: web.Request) -> web.Response:
    """From the order to the next owner, by kind, model, software, rule or week."""
    at = await open_desk(request)
    by, days = request.query.get("by", BY[0]), request.query.get("days", "")
    by, span = by if by in BY else BY[0], int(days) if days in map(str, SPANS) else SPANS[-1]
    since = at.now - span * DAY_MS
    found = await at.read(lambda records: journeys.journeys(records, by, since, at.now + 1))
    view = Shown(
        ways=[_choice(at, f"following.by_{way}", way == by, by=way, days=span) for way in BY],
        spans=[_choice(at, "following.days", each == span, by=by, days=each) for each in SPANS],
        first=at.words(f"following.by_{by}"),
        heads=[at.words(f"journeys.{step}") for step in JOURNEY],
        rows=[_row(one, by, at) for one in found],
    )
    return at.answer("operator_journeys.html", "journeys", view)


def _choice(at: Desk, key: str, chosen: bool, *, by: str, days: int) -> Shown:
    href = f"/operator/journeys?{urlencode({'by': by, 'days': days})}"
    return Shown(label=at.words(key, count=days), href=href, current=chosen)


def _row(one: journeys.Journey, by: str, at: Desk) -> Shown:
    begun = max([*one.counts.values(), 1])
    return Shown(
        name=views.group_name(one.key, by, at.context, at.words),
        cells=[_cell(step, one, begun, at.words) for step in JOURNEY],
    )


def _cell(step: str, one: journeys.Journey, begun: int, words: Words) -> Shown:
    reached, leg = one.counts.get(step, 0), one.legs.get(step)
    took = ""
    if leg is not None:
        took = words("following.took", median=words.span(leg.median_ms), p90=words.span(leg.p90_ms))
    return Shown(
        count=words.number(reached), bar=charts.share_bar(reached / begun) if reached else "", took=took
    )
