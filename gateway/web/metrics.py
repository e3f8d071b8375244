"""What Prometheus reads: names as in docs, never a device id as a label.

The path counts in `Counters`, plain integers of this process; here they get names and help. What
only the database knows (open touchpoints, pending outbox rows) is asked at most once a second,
however often somebody scrapes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gateway.domain.counters import DELAY_BOUNDS_S, Counters
from gateway.domain.delivery import DeliveryState
from gateway.domain.touchpoint import State
from gateway.ports import Journal, Records
from gateway.web.access import public
from gateway.web.context import CONTEXT, Context

CACHED_S = 1.0
PENDING = (DeliveryState.PENDING, DeliveryState.LEASED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """What the database was last asked for."""

    open: int = 0
    """touchpoints with their owner, unanswered"""
    pending: int = 0
    """outbox rows waiting to be sent"""
    dead: int = 0
    """outbox rows given up"""
    slowed: Mapping[str, int] = field(default_factory=dict)
    """rules that have slowed themselves down, with how much they may send a day"""
    cases: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """{kind: (pending, overdue)}"""


def count(records: Records, now: int = 0) -> Counts:
    """One look into the database."""
    outbox = records.outbox.counts((*PENDING, DeliveryState.DEAD))
    return Counts(
        open=records.touchpoints.counts((State.OPEN,))[State.OPEN],
        cases=records.cases.counts(now),
        pending=sum(outbox[state] for state in PENDING),
        dead=outbox[DeliveryState.DEAD],
        slowed={pace.rule: pace.per_day for pace in records.paces.all()},
    )


class PathCollector(Collector):
    """Turns counters, journal and the last counts into metrics whenever somebody scrapes."""

    def __init__(self, counters: Counters, journal: Journal) -> None:
        self._counters = counters
        self._journal = journal
        self.counts = Counts()

    def collect(self) -> Iterable[Metric]:
        """All metrics of the path."""
        yield from self._messages()
        yield from self._journal_metrics()
        yield from self._effects()

    def _messages(self) -> Iterator[Metric]:
        c = self._counters
        yield _counter(
            "messages_received", "Messages taken from the broker, redelivered ones included", c.received
        )
        yield _counter(
            "messages_redelivered",
            "Messages that came again although they were in the journal, and were only acknowledged",
            c.redelivered,
        )
        yield _counter(
            "messages_journaled", "Messages committed to the journal, then acknowledged", c.journaled
        )
        yield _counter("messages_recorded", "Telemetry messages written to the time series", c.recorded)
        yield _counter("messages_assessed", "Messages that have been through the rules", c.assessed)
        yield _labelled("messages_quarantined", "Messages that could not be decoded", "reason", c.quarantined)
        yield _labelled("points_refused", "Points the time series refused for good", "reason", c.refused)
        yield from self._readings()
        yield _counter("broker_connections", "Times the broker took our connection", c.connections)
        yield _counter("broker_sessions_lost", "Times the broker had forgotten our session", c.sessions_lost)
        yield _counter("journal_waits", "Times a batch had to wait for the journal", c.journal_waits)
        yield _counter("timeseries_waits", "Times a write had to wait for the time series", c.store_waits)

    def _readings(self) -> Iterator[Metric]:
        c = self._counters
        yield _counter(
            "late_readings", "Values older than the newest reading of their device", c.late_readings
        )
        yield _counter(
            "too_late_readings",
            "Of these, values older than any window covers or than is allowed",
            c.too_late_readings,
        )
        yield _counter(
            "duplicate_readings", "Values that had come before; they change nothing", c.duplicate_readings
        )
        yield _counter(
            "implausible_readings", "Values from the future; no rule looks at them", c.implausible_readings
        )

    def _journal_metrics(self) -> Iterator[Metric]:
        status = self._journal.status()
        lag = GaugeMetricFamily(
            "touchpoint_journal_lag_messages", "Entries a reader has not taken yet", labels=["reader"]
        )
        for name, reader in status["readers"].items():
            lag.add_metric([name], reader["lag"])
        yield lag
        yield GaugeMetricFamily("touchpoint_journal_bytes", "Live bytes of the journal", status["bytes"])
        yield GaugeMetricFamily(
            "touchpoint_journal_max_bytes", "Size at which receive waits", status["max_bytes"]
        )

    def _effects(self) -> Iterator[Metric]:
        c = self._counters
        yield _labelled("findings", "Findings, by rule", "rule", c.findings)
        yield _labelled("rule_errors", "Times a rule broke at run time", "rule", c.rule_errors)
        yield _labelled("decisions", "Decisions, by outcome", "outcome", c.decisions)
        deliveries = CounterMetricFamily(
            "touchpoint_deliveries", "Attempts to deliver", labels=["channel", "result"]
        )
        for (channel, result), n in sorted(c.deliveries.items()):
            deliveries.add_metric([channel, result], n)
        yield deliveries
        yield _delays(c)
        yield GaugeMetricFamily(
            "touchpoint_touchpoints_open", "With their owner, unanswered", self.counts.open
        )
        slowed = GaugeMetricFamily(
            "touchpoint_rule_slowed_per_day",
            "What a rule may send a day that has slowed itself down, for most people decline it",
            labels=["rule"],
        )
        for rule, per_day in sorted(self.counts.slowed.items()):
            slowed.add_metric([rule], per_day)
        yield slowed
        pending = GaugeMetricFamily(
            "touchpoint_cases_pending", "Cases that somebody has to do something for", labels=["kind"]
        )
        overdue = GaugeMetricFamily(
            "touchpoint_cases_overdue", "Cases whose customer should have heard by now", labels=["kind"]
        )
        for kind, (waiting, late) in sorted(self.counts.cases.items()):
            pending.add_metric([kind], waiting)
            overdue.add_metric([kind], late)
        yield pending
        yield overdue
        yield GaugeMetricFamily("touchpoint_outbox_pending", "Waiting to be sent", self.counts.pending)
        yield GaugeMetricFamily("touchpoint_outbox_dead", "Given up; can be retried", self.counts.dead)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"touchpoint_{name}", text, value)


def _labelled(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"touchpoint_{name}", text, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family


def _delays(counters: Counters) -> Metric:
    total, buckets = 0, []
    for bound, n in zip([*map(str, DELAY_BOUNDS_S), "+Inf"], counters.delivery_delays, strict=True):
        total += n
        buckets.append((bound, float(total)))
    return HistogramMetricFamily(
        "touchpoint_reading_to_delivery_seconds",
        "From the reception of a reading to the delivery of what follows from it",
        buckets=buckets,
        sum_value=counters.delivery_delay_total_s,
    )


class Metrics:
    """The registry with its one second of memory for what the database counts."""

    def __init__(self, context: Context, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._context = context
        self._monotonic = monotonic
        self._collector = PathCollector(context.counters, context.journal)
        self._asked: float | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self._collector)
        ProcessCollector(registry=self._registry)

    async def text(self) -> bytes:
        """The exposition."""
        now = self._monotonic()
        if self._asked is None or now - self._asked >= CACHED_S:
            at = self._context.clock.now()
            self._collector.counts = await self._context.database.read(lambda records: count(records, at))
            self._asked = now
        return generate_latest(self._registry)


METRICS: web.AppKey[Metrics] = web.AppKey("metrics", Metrics)

routes = web.RouteTableDef()


@routes.get("/metrics")
@public
async def metrics(request: web.Request) -> web.Response:
    """Everything that is counted, for Prometheus."""
    return web.Response(body=await request.app[METRICS].text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def setup(app: web.Application) -> None:
    """Serve /metrics."""
    app[METRICS] = Metrics(app[CONTEXT])
    app.add_routes(routes)
