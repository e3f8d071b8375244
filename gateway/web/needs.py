"""What needs after-sales, most customers affected first and machinery last. Views only."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace as Shown

from gateway.domain.topics import Topics
from gateway.flow.clusters import Cluster
from gateway.flow.voices import SaidCluster
from gateway.web import pages_clusters, views
from gateway.web.path import Pulse
from gateway.web.words import Words

FAR_BEHIND = 100_000
"""messages"""
CLUSTERS_NAMED = 3


def needs(
    p: Pulse,
    overdue: int,
    found: Sequence[Cluster],
    said: Sequence[SaidCluster],
    stopped: Sequence[Shown],
    topics: Topics,
    words: Words,
) -> list[Shown]:
    """Each with what it is, where to see it, and how many customers it affects."""
    rows = []
    if overdue:
        rows.append(_need(words, "cases", "/operator/cases", customers=overdue, count=overdue))
    for talk in [talk for talk in said if talk.sure][:CLUSTERS_NAMED]:
        rows.append(_said(talk, topics, words))
    for one in [one for one in found if one.sure][:CLUSTERS_NAMED]:
        rows.append(_cluster(one, words))
    if p.dead:
        rows.append(
            _need(words, "dead", "/operator/outbox", customers=p.dead, count=p.dead, link="operator.see_dead")
        )
    rows.sort(key=lambda row: -row.customers)
    return rows + _machinery(p, stopped, words)


def _machinery(p: Pulse, stopped: Sequence[Shown], words: Words) -> list[Shown]:
    rows = [_need(words, "rollout", one.href, name=one.name, note=one.reason) for one in stopped]
    if p.rule_errors:
        rows.append(_need(words, "rules", "/operator/rules", count=p.rule_errors))
    for name in (name for name, lag in p.lag.items() if lag > FAR_BEHIND):
        rows.append(_need(words, "lag", None, reader=name))
    if p.quarantined:
        link = "operator.see_quarantine"
        rows.append(_need(words, "quarantine", "/operator/quarantine", count=p.quarantined, link=link))
    return rows


def _cluster(one: Cluster, words: Words) -> Shown:
    assert one.ratio is not None
    named = {
        "finding": views.rule_name(one.cell.rule, words),
        "model": one.cell.model or one.cell.kind,
        "times": f"{words.number(one.ratio[0], 1)}×",
    }
    where = pages_clusters.href(one)
    return _need(words, "cluster", where, customers=one.cell.customers, count=one.cell.observed, **named)


def _said(one: SaidCluster, topics: Topics, words: Words) -> Shown:
    shown = pages_clusters.said_row(one, topics, words)
    return Shown(
        text=words("said.need", subject=shown.title, count=one.customers, department=shown.department),
        note="",
        href="/operator/clusters",
        link=words("clusters.open"),
        customers=one.customers,
    )


def _need(
    words: Words,
    what: str,
    href: str | None,
    *,
    customers: int = 0,
    link: str | None = None,
    note: str = "",
    **params: object,
) -> Shown:
    seen = link or f"needs.see_{what}"
    return Shown(
        text=words(f"needs.{what}", **params),
        note=note,
        href=href,
        link=words(seen, count=params.get("count", 1)) if href else None,
        customers=customers,
    )


def headline(rows: Sequence[Shown], words: Words) -> Shown:
    """The first of them in large, or that everything runs."""
    if not rows:
        return Shown(text=words("operator.head_calm"), href=None, link=None, also=[])
    first, *also = rows
    key = "needs.many" if also else "needs.one_thing"
    return Shown(
        text=words(key, count=len(rows), what=first.text), href=first.href, link=first.link, also=also
    )
