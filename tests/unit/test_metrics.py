"""What Prometheus reads, and whether the process says that it can work."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from web_lab import NOW, Lab, web_lab

from gateway.domain.counters import DELAY_BOUNDS_S, Counters
from gateway.domain.delivery import Delivery
from gateway.web.health import outcome
from gateway.web.metrics import CACHED_S, Metrics

PROMISED = {
    "touchpoint_messages_received_total",
    "touchpoint_messages_redelivered_total",
    "touchpoint_messages_recorded_total",
    "touchpoint_messages_assessed_total",
    "touchpoint_messages_quarantined_total",
    "touchpoint_journal_lag_messages",
    "touchpoint_journal_bytes",
    "touchpoint_findings_total",
    "touchpoint_decisions_total",
    "touchpoint_touchpoints_open",
    "touchpoint_deliveries_total",
    "touchpoint_outbox_pending",
    "touchpoint_reading_to_delivery_seconds_bucket",
    "touchpoint_rule_errors_total",
    "touchpoint_late_readings_total",
}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with web_lab(tmp_path) as opened:
        yield opened


async def scraped(lab: Lab) -> dict[str, float]:
    """{name with labels: value}, read as the acceptance bench reads it."""
    async with lab.client.get("/metrics") as response:
        assert response.status == 200
        text = await response.text()
    rows = [line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#"]
    return {name: float(value) for name, value in rows}


async def test_every_promised_metric_is_there_without_a_device_in_its_labels(lab: Lab) -> None:
    counters = lab.context.counters
    counters.findings["brake-pads-front-worn"] = 1
    counters.quarantined["not_json"] = 2
    counters.rule_errors["broken"] = 3
    counters.decide("send")
    counters.attempt("web_push", "sent")
    counters.delivered(2_000)
    found = await scraped(lab)
    assert {name.partition("{")[0] for name in found} >= PROMISED
    labels = {
        part.partition("=")[0] for name in found if "{" in name for part in name.partition("{")[2].split(",")
    }
    assert labels <= {"reason", "reader", "rule", "outcome", "channel", "result", "kind", "le"}
    assert found['touchpoint_messages_quarantined_total{reason="not_json"}'] == 2
    assert found['touchpoint_deliveries_total{channel="web_push",result="sent"}'] == 1


async def test_the_exposition_is_what_prometheus_parses(lab: Lab) -> None:
    async with lab.client.get("/metrics") as response:
        families = list(text_string_to_metric_families(await response.text()))
    assert all(family.documentation for family in families)
    assert {family.type for family in families} <= {"counter", "gauge", "histogram"}


async def test_counters_show_at_once_and_the_database_is_asked_once_a_second(lab: Lab) -> None:
    moment = [0.0]
    metrics = Metrics(lab.context, monotonic=lambda: moment[0])

    async def value(name: str) -> float:
        families = text_string_to_metric_families((await metrics.text()).decode())
        return next(s.value for f in families for s in f.samples if s.name == name)

    assert await value("touchpoint_outbox_pending") == 0
    lab.context.counters.recorded = 7
    await lab.write(
        lambda r: r.outbox.add(Delivery(id="d", channel="web_push", target="t", key="k", created=NOW))
    )
    moment[0] = CACHED_S - 0.01
    assert await value("touchpoint_messages_recorded_total") == 7
    assert await value("touchpoint_outbox_pending") == 0
    moment[0] = CACHED_S
    assert await value("touchpoint_outbox_pending") == 1


async def test_the_lag_of_a_reader_is_how_many_entries_it_has_not_taken(lab: Lab) -> None:
    await lab.journal.append([("touchpoint/v1/d1/telemetry", b"{}")] * 3, NOW)
    await lab.journal.commit("assess", 2)
    found = await scraped(lab)
    assert found['touchpoint_journal_lag_messages{reader="assess"}'] == 1
    assert found['touchpoint_journal_lag_messages{reader="record"}'] == 3


def test_delays_fall_into_the_bucket_whose_bound_they_reach() -> None:
    counters = Counters()
    for delay in (0, 100, 101, 10**12):
        counters.delivered(delay)
    assert counters.delivery_delays[:2] == [2, 1]
    assert counters.delivery_delays[-1] == 1
    assert len(counters.delivery_delays) == len(DELAY_BOUNDS_S) + 1


# --- health ---------------------------------------------------------------------------------------


async def good() -> tuple[str, bool, str]:
    return "database", True, ""


async def bad() -> tuple[str, bool, str]:
    return "mqtt", False, "the broker refuses the connection: check mqtt.url"


async def broken() -> tuple[str, bool, str]:
    raise RuntimeError("unexpected")


async def test_ready_says_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    async with (
        web_lab(tmp_path, checks=(good, bad, broken)) as lab,
        lab.client.get("/health/ready") as response,
    ):
        assert response.status == 503
        assert (await response.json())["wrong"] == [
            {"what": "mqtt", "detail": "the broker refuses the connection: check mqtt.url"},
            {"what": "broken", "detail": "RuntimeError: unexpected"},
        ]


async def test_ready_when_every_check_is_good(tmp_path: Path) -> None:
    async with web_lab(tmp_path, checks=(good,)) as lab, lab.client.get("/health/ready") as response:
        assert (response.status, await response.json()) == (200, {"status": "ready", "wrong": []})


async def test_a_check_that_hangs_is_itself_what_is_wrong() -> None:
    async def hangs() -> tuple[str, bool, str]:
        await asyncio.Event().wait()
        return "never", True, ""

    assert await outcome(hangs, timeout_s=0.01) == ("hangs", False, "did not answer within 0.01 s")


async def test_live_answers_without_asking_anybody(tmp_path: Path) -> None:
    async with web_lab(tmp_path, checks=(bad,)) as lab, lab.client.get("/health/live") as response:
        assert response.status == 200
