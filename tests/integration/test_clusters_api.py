"""What is found where, counted by the database: products once, shadow rules and strangers apart."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from web_lab import DAY, NOW, Lab, web_lab

from gateway.domain.access import Role
from gateway.domain.device import Device
from gateway.domain.touchpoint import Finding
from gateway.ports import Records
from gateway.sources import load_topics


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with web_lab(tmp_path, topics=load_topics("@default")) as opened:
        yield opened


def finding(device: str, at: int, *, rule: str = "pads", shadow: bool = False) -> Finding:
    return Finding(
        id=f"{device}-{rule}-{at}",
        device=device,
        rule=rule,
        version=1,
        severity="advice",
        position=1,
        began_ts=at,
        found_at=at,
        evidence={},
        shadow=shadow,
    )


async def test_products_are_counted_once_by_model_and_firmware(lab: Lab) -> None:
    def work(records: Records) -> None:
        for number in range(5):
            model = "A" if number < 3 else "B"
            records.devices.add(
                Device(id=f"car-{number}", kind="car", model=model, firmware="1.0", created=NOW)
            )
        for one in (
            finding("car-0", NOW - 10 * DAY),
            finding("car-0", NOW - 2 * DAY),
            finding("car-1", NOW - 9 * DAY),
            finding("car-3", NOW - DAY),
            finding("car-2", NOW - 20 * DAY),
            finding("car-2", NOW - DAY, shadow=True),
            finding("stranger", NOW - DAY),
        ):
            records.touchpoints.add_finding(one)

    await lab.write(work)
    cells = await lab.read(lambda r: r.analytics.cells(NOW - 14 * DAY, NOW - 7 * DAY))
    told = {(c.model, c.observed, c.lately, c.first) for c in cells}
    assert told == {("A", 2, 1, NOW - 10 * DAY), ("B", 1, 1, NOW - DAY)}
    fleet = await lab.read(lambda r: r.analytics.fleet())
    assert fleet == {("car", "A", "1.0"): 3, ("car", "B", "1.0"): 2}
    items = (await (await lab.caller()).get("analytics/clusters"))["items"]
    assert [(one["model"], one["observed"], one["products"]) for one in items] == [("A", 2, 3), ("B", 1, 2)]
    assert items[0]["interval"][0] < items[0]["ratio"] < items[0]["interval"][1]


async def test_what_customers_say_clusters_too_and_counts_by_customers(lab: Lab) -> None:
    await lab.owner("jana", "car-1")
    await lab.owner("max", "car-2")
    matter = await lab.worn_pads("car-1", "jana")
    api, jana = await lab.caller(), await lab.caller(Role.OWNER, "jana")
    await jana(
        "POST", f"touchpoints/{matter.id}/answer", {"action": "not_now", "comment": "Das ist mir zu teuer."}
    )
    await jana("POST", "devices/car-1/reports", {"text": "The brakes squeal."})
    for number, owner in enumerate(("jana", "max")):
        event = {
            "specversion": "1.0",
            "id": str(number),
            "source": "calls",
            "type": "call.received",
            "data": {"owner": owner, "device": f"car-{number + 1}", "text": "Die Bremsen quietschen."},
        }
        kind = {"Content_Type": "application/cloudevents+json"}
        assert (await api("POST", "events", event, **kind)).status == 201
    found = await api.get("analytics/clusters?by=model")
    said = {(one["what"], one["about"], one["subject"], one["customers"]) for one in found["said"]}
    assert said == {
        ("call", "topic", "brakes", 2),
        ("complaint", "topic", "brakes", 1),
        ("decline", "topic", "price", 1),
    }
    first = found["headline"][0]
    assert (first["cluster"], first["customers"], first["department"]) == ("said", 2, "quality")
    assert {one["department"] for one in found["said"]} == {"quality", "billing"}
    assert [(one["key"], one["customers"]) for one in found["groups"]] == [("Arden 5", 1)]
    assert found["departments"]["billing"] == "Billing"
    weeks = (await api.get("analytics/clusters?by=week"))["groups"]
    assert [one["key"] for one in weeks] == ["2026-W48"]


async def test_journeys_begin_with_the_order_that_another_system_told(lab: Lab) -> None:
    await lab.owner("jana", "car-1")
    api = await lab.caller()
    kind = {"Content_Type": "application/cloudevents+json"}
    for name, at in (("placed", "2025-10-01"), ("delivered", "2025-12-01")):
        event = {
            "specversion": "1.0",
            "id": name,
            "source": "orders",
            "type": f"order.{name}",
            "time": f"{at}T10:00:00Z",
            "subject": "device/car-1",
        }
        assert (await api("POST", "events", event, **kind)).status == 201
    await lab.worn_pads("car-1", "jana")
    found = await api.get("analytics/journey?from=2025-01-01T00:00:00Z&by=model&owner=jana")
    [row] = found["items"]
    assert (row["key"], row["ordered"], row["delivered"], row["contacted"]) == ("Arden 5", 1, 1, 1)
    assert row["times"]["delivered"]["since"] == "ordered"
    assert abs(row["times"]["delivered"]["median_s"] / (61 * 86_400) - 1) < 0.03
    assert (await api.get("analytics/feedback?by=week"))["groups"] == []
