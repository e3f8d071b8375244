"""What is found where, counted by the database: products once, shadow rules and strangers apart."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from web_lab import DAY, NOW, Lab, web_lab

from gateway.domain.device import Device
from gateway.domain.touchpoint import Finding
from gateway.ports import Records


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with web_lab(tmp_path) as opened:
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
