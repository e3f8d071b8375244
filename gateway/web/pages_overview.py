"""After-sales at a glance: who must act, does the path run, what is open, what is found, what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from types import SimpleNamespace as Shown
from typing import Any
from urllib.parse import quote

from aiohttp import web

from gateway.domain.errors import NotFoundError
from gateway.domain.moments import DAY_MS
from gateway.domain.texts import NBSP
from gateway.domain.touchpoint import State
from gateway.flow import clusters
from gateway.ports import Records
from gateway.web import charts, path, views
from gateway.web.pages_rollouts import stopped_rollouts
from gateway.web.pages_operator import MOST_ROWS, Desk, open_desk, operator_only
from gateway.web.words import Words

routes = web.RouteTableDef()


@routes.get("/operator")
@operator_only
async def overview(request: web.Request) -> web.Response:
    """Who must act, the path, what is open, what is found, what came of it."""
    at = await open_desk(request)
    p = await path.pulse(at.context)
    loaded = await at.read(lambda records: _load_overview(records, at))
    shown = path.steps(p, at.words)
    view = Shown(
        headline=_headline(p, at.words),
        connected=path.connected(loaded.connected, at.words),
        steps=shown,
        ribbon=charts.ribbon([step.per_second for step in shown]),
        open=[_open_row(found, name, at) for found, name in loaded.open],
        open_note=at.words("operator.open_note", count=len(loaded.open)) if loaded.open else "",
        clusters=[_cluster(one, at.words) for one in loaded.clusters[:MOST_ROWS]],
        rules=_rules(loaded.funnel, at),
        feedback=_feedback(loaded.feedback, at.words),
        stopped=await stopped_rollouts(at.context, at.words, at.now),
    )
    return at.answer("operator_overview.html", "overview", view)


def _load_overview(records: Records, at: Desk) -> Shown:
    open_states = (State.OPEN, State.DEFERRED, State.ANSWERED, State.BOOKED)
    live = records.touchpoints.page(states=open_states, limit=MOST_ROWS)
    for touchpoint in live:
        at.who.saw(touchpoint.owner, "matters", "overview")
    asked = records.feedback.page(limit=path.RECENT)
    return Shown(
        connected=records.devices.connected(at.now - DAY_MS),
        open=[(views.load_matter(records, t, at.context), _owner_name(records, t.owner)) for t in live],
        clusters=clusters.clusters(records, at.now),
        funnel=records.touchpoints.funnel(at.now - path.MONTH_MS),
        feedback=[f for f in asked if f.score is not None and f.question == "csat"],
    )


def _owner_name(records: Records, owner_id: str) -> str:
    try:
        return records.owners.get(owner_id).name
    except NotFoundError:
        return owner_id


def _headline(p: path.Pulse, words: Words) -> Shown:
    """What needs somebody, or that nothing does."""
    if p.dead:
        return Shown(
            text=words("operator.head_dead", count=p.dead),
            href="/operator/outbox",
            link=words("operator.see_dead", count=p.dead),
        )
    if p.rule_errors:
        return Shown(text=words("operator.head_rules", count=p.rule_errors), href=None, link=None)
    late = [name for name, lag in p.lag.items() if lag > 100_000]
    if late:
        return Shown(text=words("operator.head_lag", reader=late[0]), href=None, link=None)
    if p.quarantined:
        text = words("operator.head_quarantine", count=p.quarantined)
        return Shown(text=text, href="/operator/quarantine", link=words("operator.see_quarantine"))
    return Shown(text=words("operator.head_calm"), href=None, link=None)


def _open_row(found: views.Matter, owner: str, at: Desk) -> Shown:
    t, words = found.touchpoint, at.words
    note = ""
    if t.state is State.DEFERRED and t.wake_at:
        note = words(
            "operator.until",
            when=words.moment(t.wake_at, at.now) if t.wake_at <= at.now else _soon(t.wake_at, at),
        )
    elif found.appointment is not None:
        note = (
            f"{words.when(found.appointment.start, 'short')}, {words.when(found.appointment.start, 'time')}"
        )
    said = views.spoken(found, at.context, words, at.now)
    return Shown(
        title=said.name,
        severity=views.severity(words, t.severity),
        owner=owner,
        owner_url=f"/operator/owners/{quote(t.owner)}",
        product=said.product,
        state=words(f"state.{t.state}"),
        note=note,
        since=words.moment(t.sent_at or t.created, at.now),
    )


def _soon(ms: int, at: Desk) -> str:
    words = at.words
    same = words.day(ms) == words.day(at.now)
    return words.when(ms, "time") if same else f"{words.when(ms, 'wd')} {words.when(ms, 'time')}"


def _cluster(one: clusters.Cluster, words: Words) -> Shown:
    cell = one.cell
    text, tone = _against_the_fleet(one, words)
    return Shown(
        title=views.rule_name(cell.rule, words),
        severity=views.severity(words, cell.severity),
        model=cell.model or cell.kind,
        firmware=cell.firmware or "–",
        observed=words.number(cell.observed),
        products=words.number(one.products),
        lately=words("operator.lately", count=cell.lately),
        ratio=text,
        tone=tone,
        first=words.when(cell.first, "short"),
    )


def _against_the_fleet(one: clusters.Cluster, words: Words) -> tuple[str, str]:
    """How many times what the kind's share would give, with its interval; muted where it could be chance."""
    if one.ratio is None:
        return words("operator.whole_fleet"), "muted"
    value, low, high = (words.number(part, 1) for part in one.ratio)
    return words("operator.ratio", value=value, low=low, high=high), "" if one.sure else "muted"


def _rules(funnel: Sequence[Mapping[str, Any]], at: Desk) -> list[Shown]:
    rows = []
    for row in sorted(funnel, key=lambda r: -int(r["found"])):
        rule = at.context.policy.rules.get(str(row["rule"]))
        bar = charts.funnel_bar(
            int(row["fulfilled"]), int(row["answered"]), int(row["sent"]), int(row["found"])
        )
        rows.append(
            Shown(
                name=views.rule_name(str(row["rule"]), at.words),
                href=f"/operator/rules/{quote(str(row['rule']))}",
                version=rule.version if rule else "–",
                bar=bar,
                found=at.words.number(int(row["found"])),
                fulfilled=at.words.number(int(row["fulfilled"])),
                declined=_declined(row, rule is not None and rule.shadow, at.words),
            )
        )
    return rows[:MOST_ROWS]


def _declined(row: Mapping[str, Any], shadow: bool, words: Words) -> str:
    """How many of those asked said no; a rule in shadow asks nobody."""
    sent = int(row["sent"])
    if shadow:
        return words("operator.shadow")
    return f"{round(100 * int(row['declined']) / sent)}{NBSP}%" if sent else "–"


def _feedback(answered: Sequence[Any], words: Words) -> Shown:
    rated = [f for f in answered if f.question == "csat"]
    if not rated:
        return Shown(rows=[], note="", text="")
    counts = {score: sum(f.score == score for f in rated) for score in range(5, 0, -1)}
    rows = [
        Shown(
            label=words("feedback.stars", count=score),
            bar=charts.health_bar(n / len(rated)),
            count=words.number(n),
        )
        for score, n in counts.items()
    ]
    mean = words.number(fmean(f.score for f in rated), 1)
    key = "operator.feedback_few" if len(rated) < 30 else "operator.feedback_text"
    return Shown(rows=rows, note=words("operator.answers", count=len(rated)), text=words(key, mean=mean))
