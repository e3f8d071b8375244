"""After-sales, problem clusters: what is found more often than elsewhere, and on which products."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import SimpleNamespace as Shown
from urllib.parse import quote, urlencode

from aiohttp import web

from gateway.domain.errors import InvalidError, NotFoundError
from gateway.domain.measures import Hit
from gateway.domain.moments import DAY_MS
from gateway.domain.topics import Topics
from gateway.flow import clusters, voices
from gateway.ports import Records
from gateway.web import pictures, views
from gateway.web.pages_operator import Desk, open_desk, operator_only
from gateway.web.words import Words

routes = web.RouteTableDef()

SPANS = (14, 30, 90)
HITS = 200
STEADY = 1.5
"""The later half has so many times as many as the earlier one, or the other way round: it grows, or fades."""
KEYS = ("rule", "kind", "model", "firmware")

Key = tuple[str, str, str, str]


def load(records: Records, now: int, days: int) -> list[tuple[clusters.Cluster, list[int]]]:
    """The clusters of the last days, each with how many products came new on each of them."""
    by_day: defaultdict[Key, list[int]] = defaultdict(lambda: [0] * (days + 1))
    first = (now - days * DAY_MS) // DAY_MS
    for key, day, products in records.analytics.cells_by_day(now - days * DAY_MS):
        if 0 <= day - first <= days:
            by_day[key][day - first] = products
    return [(one, by_day[key_of(one)]) for one in clusters.clusters(records, now, days)]


def key_of(one: clusters.Cluster) -> Key:
    """What a cluster is told from others by."""
    cell = one.cell
    return cell.rule, cell.kind, cell.model, cell.firmware


def href(one: clusters.Cluster, days: int = clusters.SPAN_DAYS) -> str:
    """Where its products are listed."""
    query = dict(zip(KEYS, key_of(one), strict=True)) | {"days": str(days)}
    return f"/operator/clusters/products?{urlencode(query)}"


def row(one: clusters.Cluster, course: Sequence[int], words: Words, days: int = clusters.SPAN_DAYS) -> Shown:
    """A cluster as a row of a table."""
    cell = one.cell
    icon, trend = _trend(one)
    expected = "–" if one.expected is None else words.number(one.expected, 0 if one.expected >= 10 else 1)
    value, between = "", ""
    if one.ratio is not None:
        times, low, high = (words.number(part, 1) for part in one.ratio)
        value, between = f"{times}×", f"{low}–{high}"
    return Shown(
        href=href(one, days),
        title=views.rule_name(cell.rule, words),
        severity=views.severity(words, cell.severity),
        model=cell.model or cell.kind.replace("_", " "),
        firmware=cell.firmware or "–",
        observed=words.number(cell.observed),
        expected=expected,
        products=words("operator.of_products", count=one.products),
        times=value or words("operator.whole_fleet"),
        between=between,
        tone="" if one.sure else "muted",
        ratio=pictures.ratio(one.ratio, sure=one.sure) if one.ratio else "",
        course=pictures.spark(course),
        trend_icon=icon,
        trend=words(f"clusters.{trend}"),
        since=words("clusters.since", day=words.when(cell.first, "short")),
    )


def _trend(one: clusters.Cluster) -> tuple[str, str]:
    """(icon, word): whether the later half of the time had more."""
    later, earlier = one.cell.lately, one.cell.observed - one.cell.lately
    if later > STEADY * earlier and later > 1:
        return "up", "growing"
    if earlier > STEADY * later and earlier > 1:
        return "falling", "fading"
    return "flat", "steady"


def _days(request: web.Request) -> int:
    wanted = request.query.get("days", "")
    return int(wanted) if wanted in map(str, SPANS) else SPANS[0]


@routes.get("/operator/clusters")
@operator_only
async def list_clusters(request: web.Request) -> web.Response:
    """What is found more often on one model and firmware than on the rest of its kind."""
    at, days = await open_desk(request), _days(request)
    topics = at.context.topics
    found, said = await at.read(
        lambda r: (load(r, at.now, days), voices.said_clusters(r, at.now, topics, days))
    )
    sure = sum(one.sure for one, _ in found)
    view = Shown(
        lead=at.words("clusters.lead", count=sure) if sure else at.words("clusters.lead_none"),
        rows=[row(one, course, at.words, days) for one, course in found],
        said=[said_row(one, topics, at.words) for one in said],
        spans=[
            Shown(
                label=at.words("following.days", count=span),
                href=f"/operator/clusters?days={span}",
                current=span == days,
            )
            for span in SPANS
        ],
    )
    return at.answer("operator_clusters.html", "clusters", view)


def subject(one: voices.SaidCluster, words: Words) -> str:
    """What it is about, in words."""
    if one.about == "rule":
        return views.rule_name(one.subject, words)
    return one.subject or words("said.unknown")


def said_row(one: voices.SaidCluster, topics: Topics, words: Words) -> Shown:
    """What several customers say as a row of a table."""
    named = next((t.names for t in topics.topics if one.about == "topic" and t.id == one.subject), None)
    return Shown(
        title=words.label(named, one.subject) if named else subject(one, words),
        what=words(f"said.{one.what}") if words.has(f"said.{one.what}") else one.what,
        model=one.model or one.kind.replace("_", " ") or "–",
        firmware=one.firmware or "–",
        customers=words.number(one.customers),
        department=topics.name(one.department, words.language),
        ratio=pictures.ratio(one.ratio, sure=one.sure) if one.ratio else "",
        tone="" if one.sure else "muted",
        times=f"{words.number(one.ratio[0], 1)}×" if one.ratio else "–",
        examples=one.examples,
        since=words("clusters.since", day=words.when(one.first, "short")),
    )


# --- the products of one -----------------------------------------------------------------------


@routes.get("/operator/clusters/products")
@operator_only
async def show_cluster(request: web.Request) -> web.Response:
    """One cluster: how it went, and on which products."""
    at, days = await open_desk(request), _days(request)
    wanted = tuple(request.query.get(key, "") for key in KEYS)
    if not wanted[0] or not wanted[1]:
        raise InvalidError("rule, kind: of which cluster.")

    def work(records: Records) -> tuple[clusters.Cluster, list[int], list[Hit], Mapping[str, str]]:
        found = next(((c, course) for c, course in load(records, at.now, days) if key_of(c) == wanted), None)
        if found is None:
            raise NotFoundError(f"Nothing of the kind was found in the last {days} days.")
        hits = records.analytics.hits(key_of(found[0]), at.now - days * DAY_MS, HITS)
        for hit in hits:
            at.who.saw(hit.owner, f"product:{hit.device}", "check_product", device=hit.device)
        return *found, hits, _names(records, hits)

    one, course, hits, names = await at.read(work)
    shown = row(one, course, at.words, days)
    view = Shown(
        row=shown,
        told=_told(one, days, at.words),
        rule_url=f"/operator/rules/{quote(one.cell.rule)}",
        days=_by_day(course, days, at),
        hits=[_hit(hit, names, at) for hit in hits],
        more=len(hits) == HITS,
    )
    return at.answer("operator_cluster.html", "clusters", view)


def _names(records: Records, hits: Sequence[Hit]) -> dict[str, str]:
    """{owner: name} and {device: title}."""
    names: dict[str, str] = {}
    for hit in hits:
        device = records.devices.find(hit.device)
        names[hit.device] = device.title if device else hit.device
        if hit.owner and hit.owner not in names:
            names[hit.owner] = records.owners.get(hit.owner).name
    return names


def _told(one: clusters.Cluster, days: int, words: Words) -> str:
    """What the figures say, in a sentence."""
    cell = one.cell
    known = {
        "observed": words.number(cell.observed),
        "products": words.number(one.products),
        "model": cell.model or cell.kind,
        "firmware": cell.firmware or "–",
        "days": days,
    }
    if one.ratio is None or one.expected is None:
        return words("clusters.told_whole", **known)
    _, low, high = (words.number(part, 1) for part in one.ratio)
    expected = words.number(one.expected, 0 if one.expected >= 10 else 1)
    key = "clusters.told_sure" if one.sure else "clusters.told_chance"
    return words(key, expected=expected, low=low, high=high, **known)


def _by_day(course: Sequence[int], days: int, at: Desk) -> list[tuple[str, str]]:
    """(day, how many), the newest first; days without are left out."""
    first = (at.now - days * DAY_MS) // DAY_MS
    rows = [
        (at.words.when((first + k) * DAY_MS + DAY_MS // 2, "medium"), at.words.number(n))
        for k, n in enumerate(course)
        if n
    ]
    return rows[::-1]


def _hit(hit: Hit, names: Mapping[str, str], at: Desk) -> Shown:
    words = at.words
    return Shown(
        device=names[hit.device],
        id=hit.device,
        href=f"/operator/devices/{quote(hit.device)}",
        owner=names.get(hit.owner or "", "–"),
        owner_url=f"/operator/owners/{quote(hit.owner)}" if hit.owner else None,
        found=words.moment(hit.found_at, at.now),
        cleared=words.moment(hit.cleared_at, at.now) if hit.cleared_at else words("operator.not_cleared"),
        state=words(f"state.{hit.state}") if hit.state else words("clusters.silent"),
        touchpoint_url=f"/operator/touchpoints/{quote(hit.touchpoint)}" if hit.touchpoint else None,
    )
