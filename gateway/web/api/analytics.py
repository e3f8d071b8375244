"""What became of findings, jobs and answers, all together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from gateway.domain.feedback import EXPECTED, SCALES
from gateway.domain.measures import JOURNEY, STEPS
from gateway.domain.moments import DAY_MS
from gateway.flow import clusters, journeys, measure, voices
from gateway.flow.voices import SaidCluster
from gateway.ports import Records
from gateway.web import rights
from gateway.web.access import STAFF
from gateway.web.api.endpoint import Call, Endpoints, Query, fault_at
from gateway.web.api.shapes import Id, Moment, MomentIn, Out
from gateway.web.scores import Score, scores, scores_by, week_of

FUNNEL_MS = 90 * DAY_MS
"""How far back is looked when nobody says."""

endpoints = Endpoints("Analytics")

By = Literal["rule", "kind", "model", "firmware", "week"]


class SpanQuery(Query):
    """Of which days (UTC)."""

    start: MomentIn | None = Field(None, alias="from", description="90 days ago when left out.")
    end: MomentIn | None = Field(None, alias="to", description="Now when left out.")

    def span(self, now: int) -> tuple[int, int]:
        """(since, until) in ms. Raises a Problem when it ends before it begins."""
        until = self.end if self.end is not None else now + 1
        since = self.start if self.start is not None else max(0, until - FUNNEL_MS)
        if until <= since:
            raise fault_at("to", "to: has to come after from, and after 1970 where from is left out.")
        return since, until


class FunnelQuery(SpanQuery):
    """Grouped by what."""

    by: By = "rule"


class TimingOut(Out):
    """How long it took until a step."""

    since: str = Field(description="From which step on.")
    median_s: float = Field(description="True to 2.5 %.")
    p90_s: float


class FunnelRow(Out):
    """What became of the findings of one group, counted on the day they were found."""

    key: str = Field(description="The rule, kind, model, firmware or ISO week; empty: unknown.")
    rule: str | None = Field(description="The same, where it is grouped by rule.")
    found: int
    sent: int
    seen: int
    answered: int
    booked: int
    done: int = Field(description="By a workshop, or the owner said that it is done already.")
    helped: int = Field(description="Nothing of it was found again for 14 days (follow_up.helped_days).")
    looked_at: int = Field(description="Of how many jobs that is known.")
    fulfilled: int = Field(description="The same as done.")
    declined: int
    silent: int = Field(description="Sent, and not answered so far.")
    held_out: int
    times: dict[str, TimingOut] = Field(description="By step; a step that nobody reached is missing.")

    @classmethod
    def of_line(cls, line: measure.FunnelLine, by: str) -> FunnelRow:
        """From what was measured."""
        names = (*STEPS, "looked_at", "declined", "silent", "held_out")
        counts = {name: line.counts.get(name, 0) for name in names}
        times = {
            step: TimingOut(since=t.since, median_s=t.median_ms / 1000, p90_s=t.p90_ms / 1000)
            for step, t in line.times.items()
        }
        rule = line.key if by == "rule" else None
        return cls(key=line.key, rule=rule, fulfilled=counts["done"], times=times, **counts)


class GroupedOut(Out):
    """What was counted over a span of time, by something."""

    since: Moment = Field(serialization_alias="from")
    until: Moment = Field(serialization_alias="to")
    by: str


class FunnelOut(GroupedOut):
    """What became of findings."""

    items: list[FunnelRow]


@endpoints.get("/analytics/funnel", *STAFF)
async def show_funnel(call: Call, query: FunnelQuery) -> FunnelOut:
    """Show what became of findings: found, sent, seen, answered, booked, done, helped, and the times between.

    Of the days (UTC) on which they were found; what follows later counts for that day.
    """
    (since, until), policy = query.span(call.now), call.context.policy
    lines = await call.read(lambda r: measure.funnel(r, query.by, since, until, call.now, policy))
    items = [FunnelRow.of_line(line, query.by) for line in lines]
    return FunnelOut(since=since, until=until, by=query.by, items=items)


# --- clusters ---------------------------------------------------------------------------------


class ClustersQuery(Query):
    """How far back, and by what to count."""

    days: int = Field(clusters.SPAN_DAYS, ge=1, le=365, description="Found within so many days.")
    by: By | None = Field(None, description="Counts also products and customers by this, in `groups`.")


class ClusterOut(Out):
    """One rule on one model and firmware."""

    rule: str
    severity: str
    kind: str
    model: str = Field(description="Empty: unknown, like firmware.")
    firmware: str
    observed: int = Field(description="Products on which it was found.")
    lately: int = Field(description="Of these in the later half of the time.")
    products: int = Field(description="How many there are of this model and firmware.")
    expected: float | None = Field(
        description="By the share of the whole kind; null where it is all of its kind."
    )
    ratio: float | None = Field(description="Observed to expected.")
    interval: tuple[float, float] | None = Field(description="95 %, by Byar; above 1: more than chance.")
    first: Moment
    customers: int = Field(description="Owners of these products.")
    department: str = Field(description="Who looks after it, by the rule's purpose.")

    @classmethod
    def of_cluster(cls, one: clusters.Cluster, department: str) -> ClusterOut:
        """From what was counted."""
        ratio, interval = _with_interval(one.ratio)
        cell = {name: getattr(one.cell, name) for name in CELL}
        counted = {"products": one.products, "expected": one.expected, "ratio": ratio, "interval": interval}
        return cls(department=department, **counted, **cell)


def _with_interval(
    ratio: tuple[float, float, float] | None,
) -> tuple[float | None, tuple[float, float] | None]:
    """(the ratio, its 95 % interval); neither where nothing could be expected."""
    return (None, None) if ratio is None else (ratio[0], ratio[1:])


CELL = ("rule", "severity", "kind", "model", "firmware", "observed", "lately", "first", "customers")


class SaidClusterOut(Out):
    """What several customers said about the same thing on one model and firmware."""

    what: Literal["call", "complaint", "comment", "decline"]
    about: Literal["topic", "rule", "reason", "word", "nothing"] = Field(
        description="What it is grouped by: a topic by its words, else the rule of the touchpoint, else the "
        "other system's reason code, else a word that several share."
    )
    subject: str = Field(description="The topic, rule, code or word.")
    kind: str
    model: str = Field(description="Empty: unknown, like kind and firmware.")
    firmware: str
    voices: int
    customers: int
    lately: int = Field(description="Customers of the later half of the time.")
    first: Moment
    department: str
    products: int = Field(description="How many there are of this model and firmware.")
    expected: float | None
    value: float | None = Field(description="Products it was said of, to those expected.")
    interval: tuple[float, float] | None
    examples: tuple[str, ...]

    @classmethod
    def of_voices(cls, one: SaidCluster) -> SaidClusterOut:
        """From what was said."""
        value, interval = _with_interval(one.ratio)
        fields = {name: getattr(one, name) for name in one.__dataclass_fields__ if name != "ratio"}
        return cls(value=value, interval=interval, **fields)


class HeadlineOut(Out):
    """A cluster by how many customers it affects."""

    cluster: Literal["finding", "said"] = Field(description="finding: in `items`; said: in `said`.")
    place: int = Field(description="Its place there, from 0.")
    customers: int
    department: str
    sure: bool = Field(description="More than chance.")


class AffectedOut(Out):
    """On how many products of a group something was found."""

    key: str
    products: int
    customers: int


class ClustersOut(Out):
    """What is found, and said, where more often than elsewhere."""

    headline: list[HeadlineOut] = Field(description="Both kinds, those that affect most customers first.")
    items: list[ClusterOut]
    said: list[SaidClusterOut] = Field(description="Calls, complaints, comments, reasons for declining.")
    groups: list[AffectedOut] = Field(description="By `by`, where it is asked for.")
    departments: dict[str, str] = Field(description="{id: name in the language of who asks}.")


@endpoints.get("/analytics/clusters", *STAFF)
async def show_clusters(call: Call, query: ClustersQuery) -> ClustersOut:
    """Show what is found and what customers say, by model and firmware against the fleet of their kind.

    Each cluster has the department that looks after it. `headline` puts both together: what affects most
    customers stands first, whatever it is. Of `items` what is more than chance comes first.
    """
    topics, policy = call.context.topics, call.context.policy

    def work(records: Records) -> ClustersOut:
        found = clusters.clusters(records, call.now, query.days)
        said = voices.said_clusters(records, call.now, topics, query.days)
        since = call.now - query.days * DAY_MS
        groups = records.analytics.affected(query.by, since) if query.by else []
        return ClustersOut(
            headline=[HeadlineOut.of(one) for one in voices.headline(found, said, topics, policy)],
            items=[ClusterOut.of_cluster(one, voices.department_of(one, topics, policy)) for one in found],
            said=[SaidClusterOut.of_voices(one) for one in said],
            groups=[
                AffectedOut(key=_named(key, query.by), products=products, customers=customers)
                for key, products, customers in groups
            ],
            departments={name: topics.name(name, call.language) for name in topics.departments},
        )

    return await call.read(work)


def _named(key: str, by: str | None) -> str:
    return week_of(int(key)) if by == "week" else key


# --- journeys ---------------------------------------------------------------------------------


class JourneyQuery(SpanQuery):
    """Of which products, grouped by what."""

    by: By = Field("kind", description="rule: what the owner was first told of; week: of the delivery.")
    owner: Id | None = Field(None, description="Of this owner alone.")


class JourneyRow(Out):
    """How far the products of a group have come with their owners, and how long each step took."""

    key: str
    ordered: int
    delivered: int
    contacted: int = Field(description="Told of something.")
    answered: int
    served: int = Field(description="A job was done.")
    rated: int = Field(description="The owner said how it was.")
    renewed: int = Field(description="Gone on to the next owner.")
    times: dict[str, TimingOut] = Field(description="By step; a step that nobody reached is missing.")


class JourneyOut(GroupedOut):
    """The journeys of products with their owners."""

    items: list[JourneyRow]


@endpoints.get("/analytics/journey", *STAFF)
async def show_journey(call: Call, query: JourneyQuery) -> JourneyOut:
    """Show how far products have come with their owners, and how long each step took.

    Ordered, delivered, told of something, answered, first job, first rating, gone on. Of the products that
    came to an owner in that time. Orders and deliveries are what other systems told (`POST /events`); where
    none did, a product was delivered when it became its owner's.
    """
    since, until = query.span(call.now)

    def work(records: Records) -> list[journeys.Journey]:
        if query.owner is not None:
            rights.owner(records, call.who, query.owner)
        return journeys.journeys(records, query.by, since, until, query.owner)

    found = await call.read(work)
    items = [
        JourneyRow(
            key=one.key,
            times={
                step: TimingOut(since=leg.since, median_s=leg.median_ms / 1000, p90_s=leg.p90_ms / 1000)
                for step, leg in one.legs.items()
            },
            **{step: one.counts.get(step, 0) for step in JOURNEY},
        )
        for one in found
    ]
    return JourneyOut(since=since, until=until, by=query.by, items=items)


# --- answers ----------------------------------------------------------------------------------


class ScoreOut(Out):
    """The answers to one question."""

    question: str
    lowest: int
    highest: int
    asked: int
    answered: int
    mean: float | None
    interval: tuple[float, float] | None = Field(
        description="Holds the mean of all owners, with 95 % confidence; null below two answers."
    )
    distribution: dict[str, int]
    net: float | None = Field(description="nps: promoters (9, 10) less detractors (0 to 6), in percent.")
    expected: dict[str, int] = Field(
        description="How many said better, as or worse than expected; nobody has to."
    )

    @classmethod
    def of_score(cls, score: Score) -> ScoreOut:
        """From what was counted."""
        low, high = SCALES[score.question]
        return cls(
            question=score.question,
            lowest=low,
            highest=high,
            asked=score.asked,
            answered=score.answered,
            mean=score.mean,
            interval=score.interval,
            distribution={str(n): score.distribution.get(n, 0) for n in range(low, high + 1)},
            net=score.net,
            expected={word: score.expected.get(word, 0) for word in EXPECTED},
        )


class ScoreGroup(Out):
    """The answers of a group."""

    key: str
    items: list[ScoreOut]


class ScoresOut(Out):
    """The answers to all questions."""

    items: list[ScoreOut]
    groups: list[ScoreGroup] = Field(description="By `by`, where it is asked for.")


class ScoresQuery(SpanQuery):
    """Of which days (UTC), and by what."""

    by: By | None = Field(None, description="Gives the same by this, too, in `groups`.")


@endpoints.get("/analytics/feedback", *STAFF)
async def score_feedback(call: Call, query: ScoresQuery) -> ScoresOut:
    """Show the mean of the answers to each question, with how many answered and how sure it is.

    Of the questions that were asked in that time, of all of them when it is left out.
    """
    whole = query.start is None and query.end is None
    since, until = (0, call.now + 1) if whole else query.span(call.now)
    found = await call.read(lambda r: scores(r, since, until))
    by = query.by
    groups = await call.read(lambda r: scores_by(r, by, since, until)) if by else {}
    return ScoresOut(
        items=[ScoreOut.of_score(score) for score in found],
        groups=[
            ScoreGroup(key=key, items=[ScoreOut.of_score(one) for one in group])
            for key, group in groups.items()
        ],
    )


# --- measures ---------------------------------------------------------------------------------


class ShareOut(Out):
    """So many of so many."""

    good: int
    known: int = Field(description="Of how many it is known.")
    share: float | None = Field(description="null of nothing.")
    interval: tuple[float, float] | None = Field(description="95 %, by Wilson.")

    @classmethod
    def of_share(cls, share: measure.Share) -> ShareOut:
        """From what was counted."""
        return cls(good=share.good, known=share.of, share=share.share, interval=share.interval)


class EffectOut(Out):
    """Findings that were sent beside those that were held out; warnings, safety and recalls never are."""

    rule: str = Field(description="Empty: all rules with a hold-out together.")
    told: ShareOut = Field(
        description="Cleared within 60 days (follow_up.effect_days), nothing worse before."
    )
    held_out: ShareOut = Field(description="The same of those held out.")
    told_failed: int = Field(description="Something worse was found first.")
    held_out_failed: int
    difference: tuple[float, float] | None = Field(
        description="95 % interval of the difference of both shares, by Newcombe; above 0: telling helps."
    )

    @classmethod
    def of_effect(cls, effect: measure.Effect) -> EffectOut:
        """From what was counted."""
        return cls(
            rule=effect.rule,
            told=ShareOut.of_share(effect.told),
            held_out=ShareOut.of_share(effect.held),
            told_failed=effect.told_failed,
            held_out_failed=effect.held_failed,
            difference=effect.difference,
        )


class EffortOut(Out):
    """What a solved matter takes."""

    matters: int = Field(description="Jobs done whose messages are counted (14 days later).")
    messages: int = Field(description="All that reached their owners, whoever paid for them.")
    contacts: int = Field(description="Of these, what the budget paid.")
    messages_per_matter: float | None
    contacts_per_matter: float | None


class KeepingOut(Out):
    """How well one workshop keeps what was promised."""

    workshop: str
    name: str
    jobs: int = Field(description="Jobs done, whether anything of them is known or not.")
    promises: Mapping[str, ShareOut]

    @classmethod
    def of_keeping(cls, keeping: measure.Keeping) -> KeepingOut:
        """From what was counted."""
        promises = {name: ShareOut.of_share(share) for name, share in keeping.promises.items()}
        return cls(workshop=keeping.workshop, name=keeping.name, jobs=keeping.jobs, promises=promises)


class MeasuresOut(Out):
    """How well promises are kept, what a solved matter takes, and what telling owners does."""

    since: Moment = Field(serialization_alias="from")
    until: Moment = Field(serialization_alias="to")
    promises: Mapping[str, ShareOut] = Field(
        description="Kept of known: time (ready when promised), price (no more than promised and approved), "
        "fixed (helped the first time)."
    )
    workshops: list[KeepingOut] = Field(description="The same of each workshop, most jobs first.")
    effort: EffortOut
    effect: list[EffectOut]


@endpoints.get("/analytics/measures", *STAFF)
async def show_measures(call: Call, query: SpanQuery) -> MeasuresOut:
    """Show whether promises were kept, how many messages a solved matter takes, and what telling owners does.

    Of jobs done in that time; the effect, of findings of that time.
    """
    (since, until), policy = query.span(call.now), call.context.policy
    found = await call.read(lambda r: measure.measures(r, since, until, call.now, policy))
    effort = EffortOut(
        matters=found.matters,
        messages=found.messages,
        contacts=found.contacts,
        messages_per_matter=found.messages / found.matters if found.matters else None,
        contacts_per_matter=found.contacts / found.matters if found.matters else None,
    )
    return MeasuresOut(
        since=since,
        until=until,
        promises={name: ShareOut.of_share(share) for name, share in found.promises.items()},
        workshops=[KeepingOut.of_keeping(keeping) for keeping in found.workshops],
        effort=effort,
        effect=[EffectOut.of_effect(effect) for effect in found.effects],
    )
