"""After-sales, a rule tried on what is recorded: how it is, and with other conditions, week by week."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace as Shown
from urllib.parse import quote

from aiohttp import web

from gateway.domain.errors import NotFoundError
from gateway.domain.moments import DAY_MS
from gateway.flow import trying
from gateway.flow.explain import meant
from gateway.web import charts, views
from gateway.web.pages_operator import Desk, open_desk, operator_only
from gateway.web.words import Words
from rules import Rule
from rules.backtest import Report

routes = web.RouteTableDef()

SPANS = (14, 30, 90)
CONDITION_MOST = 2_000
NAMED = 20


@routes.get("/operator/rules/{id}/backtest")
@operator_only
async def ask(request: web.Request) -> web.Response:
    """The rule's conditions, to be changed and tried."""
    at = await open_desk(request)
    rule = _rule(at)
    clear = rule.clear.text if rule.clear else ""
    return _page(at, rule, when=rule.when.text, clear=clear, days=SPANS[1])


@routes.post("/operator/rules/{id}/backtest")
@operator_only
async def run(request: web.Request) -> web.Response:
    """What the rule would have found, and what it would with other conditions."""
    at, form = await open_desk(request), await request.post()
    rule = _rule(at)
    when, clear = (str(form.get(name, "")).strip()[:CONDITION_MOST] for name in ("when", "clear"))
    days = int(str(form.get("days"))) if str(form.get("days")) in map(str, SPANS) else SPANS[1]
    answer = partial(_page, at, rule, when=when, clear=clear, days=days)
    in_force = at.context.in_force
    assert in_force is not None
    try:
        variants = [rule]
        if (when, clear) != (rule.when.text, rule.clear.text if rule.clear else ""):
            variants.append(trying.changed(rule, in_force.rules, when, clear))
        tried = await trying.try_rules(
            variants,
            in_force.rules,
            database=at.context.database,
            series=at.context.timeseries,
            now=at.now,
            days=days,
            geography=at.context.geography,
        )
    except trying.CannotTryError as error:
        return answer(problem=str(error))
    return answer(tried=tried)


def _rule(at: Desk) -> Rule:
    in_force, wanted = at.context.in_force, at.request.match_info["id"]
    found = in_force.rules.rules.get(wanted) if in_force else None
    if found is None:
        raise NotFoundError(f"There is no rule {wanted}{meant(wanted, at.context.policy.rules)}")
    return found


def _page(
    at: Desk,
    rule: Rule,
    *,
    when: str,
    clear: str,
    days: int,
    tried: trying.Tried | None = None,
    problem: str = "",
) -> web.Response:
    words = at.words
    view = Shown(
        name=views.rule_name(rule.id, words),
        back=f"/operator/rules/{quote(rule.id)}",
        severity=views.severity(words, rule.severity),
        line=words("rules.version", version=rule.version),
        action=f"/operator/rules/{quote(rule.id)}/backtest",
        when=when,
        clear=clear,
        spans=[(span, words("following.days", count=span), span == days) for span in SPANS],
        problem=problem,
        results=_results(tried, at) if tried else [],
        weeks=_weeks(tried.reports, words) if tried else [],
        looked=words("backtest.looked", count=tried.devices, days=days) if tried else "",
        cut=bool(tried and tried.cut),
        found=_found(tried, at) if tried else [],
    )
    return at.answer("operator_backtest.html", "rules", view)


def _results(tried: trying.Tried, at: Desk) -> list[Shown]:
    names = ("as_it_is", "as_changed")
    return [
        Shown(
            name=at.words(f"backtest.{name}"),
            count=at.words("backtest.found", count=report.touchpoints),
            products=at.words("backtest.products", count=report.touched),
            broke=at.words("backtest.broke", count=sum(report.errors.values())) if report.errors else "",
        )
        for name, report in zip(names, tried.reports, strict=False)
    ]


def _weeks(reports: Sequence[Report], words: Words) -> list[Shown]:
    """Touchpoints of each week, of both side by side, with bars on one scale."""
    counted = [{week.begins: week.touchpoints for week in report.weeks} for report in reports]
    begins = sorted({begin for counts in counted for begin in counts})
    most = max((n for counts in counted for n in counts.values()), default=0) or 1
    return [
        Shown(
            week=words.when(begin + DAY_MS, "short"),
            cells=[
                Shown(text=words.number(n), bar=charts.share_bar(n / most) if n else "")
                for counts in counted
                for n in [counts.get(begin, 0)]
            ],
        )
        for begin in begins
    ]


def _found(tried: trying.Tried, at: Desk) -> list[Shown]:
    """The newest of the last variant, with the product."""
    newest = sorted(tried.reports[-1].findings, key=lambda one: -one.found)[:NAMED]
    return [
        Shown(
            device=one.device,
            href=f"/operator/devices/{quote(one.device)}",
            found=at.words.moment(one.found, at.now),
            ended=at.words.moment(one.ended, at.now) if one.ended else at.words("operator.not_cleared"),
        )
        for one in newest
    ]
