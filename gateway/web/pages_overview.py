"""After-sales at a glance: who must act, does the path run, what is open, what is found, what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace as Shown
from typing import Any
from urllib.parse import quote

from aiohttp import web

from gateway.domain.errors import NotFoundError
from gateway.domain.moments import DAY_MS
from gateway.domain.texts import NBSP
from gateway.domain.touchpoint import State
from gateway.flow import clusters, voices
from gateway.ports import Records
from gateway.web import charts, needs, pages_clusters, pages_feedback, path, views
from gateway.web.pages_operator import MOST_ROWS, Desk, open_desk, operator_only
from gateway.web.pages_rollouts import stopped_rollouts
from gateway.web.words import Words

routes = web.RouteTableDef()

CLUSTERS_SHOWN = 5


@routes.get("/operator")
@operator_only
async def overview(request: web.Request) -> web.Response:
    """Who must act, the path, what is open, what is found, what came of it."""
    at = await open_desk(request)
    p = await path.pulse(at.context)
    loaded = await at.read(lambda records: _load_overview(records, at))
    shown = path.steps(p, at.words)
    stopped = await stopped_rollouts(at.context, at.words, at.now)
    found = [one for one, _ in loaded.clusters]
    topics = at.context.topics
    wanted = needs.needs(p, loaded.overdue, found, loaded.said, stopped, topics, at.words)
    answered = [name for name in pages_feedback.ORDER if _answered(name, loaded.months)]
    view = Shown(
        headline=needs.headline(wanted, at.words),
        connected=path.connected(loaded.connected, at.words),
        steps=shown,
        ribbon=charts.ribbon([step.per_second for step in shown]),
        open=[_open_row(found, name, at) for found, name in loaded.open],
        open_note=at.words("operator.open_note", count=len(loaded.open)) if loaded.open else "",
        clusters=[
            pages_clusters.row(one, course, at.words) for one, course in loaded.clusters[:CLUSTERS_SHOWN]
        ],
        all_clusters=len(found) if len(found) > CLUSTERS_SHOWN else 0,
        rules=_rules(loaded.funnel, at),
        feedback=pages_feedback.question(answered[0], loaded.months, at.words) if answered else None,
    )
    return at.answer("operator_overview.html", "overview", view)


def _load_overview(records: Records, at: Desk) -> Shown:
    open_states = (State.OPEN, State.DEFERRED, State.ANSWERED, State.BOOKED)
    live = records.touchpoints.page(states=open_states, limit=MOST_ROWS)
    for touchpoint in live:
        at.who.saw(touchpoint.owner, "matters", "overview")
    return Shown(
        connected=records.devices.connected(at.now - DAY_MS),
        open=[(views.load_matter(records, t, at.context), _owner_name(records, t.owner)) for t in live],
        clusters=pages_clusters.load(records, at.now, clusters.SPAN_DAYS),
        said=voices.said_clusters(records, at.now, at.context.topics),
        funnel=records.touchpoints.funnel(at.now - path.MONTH_MS),
        months=pages_feedback.load_months(records, at.now),
        overdue=sum(late for _, late in records.cases.counts(at.now).values()),
    )


def _answered(name: str, months: Sequence[pages_feedback.Month]) -> bool:
    return any(month.scores[name].answered for month in months)


def _owner_name(records: Records, owner_id: str) -> str:
    try:
        return records.owners.get(owner_id).name
    except NotFoundError:
        return owner_id


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
