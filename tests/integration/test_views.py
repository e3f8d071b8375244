"""What pages show is cut by whose product it was when it was measured."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from web_lab import DAY, HOUR, NOW, Lab, web_lab

from gateway.domain.device import Facts
from gateway.ports import Records
from gateway.web import views


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """Jana's car wore its pads to 81 and was then sold to Max, who had them renewed."""
    async with web_lab(tmp_path) as opened:
        await opened.workshop()
        await opened.owner("jana", "car-1", workshop="north")
        await opened.owner("max")
        await opened.worn_pads("car-1", "jana")
        before = [(NOW - 9 * DAY + hour * HOUR, 70.0 + hour / 10) for hour in range(100)]
        after = [(NOW - 2 * DAY + hour * HOUR, 1.0 + hour / 10) for hour in range(40)]
        await opened.measured("car-1", "pad_wear_front", *before, *after)

        def sold(records: Records) -> None:
            records.devices.transfer("car-1", "max", NOW - 3 * DAY)
            newest = {"pad_wear_front": (after[-1][0], after[-1][1]), "odometer": (NOW - 8 * DAY, 48_210.0)}
            records.devices.put_facts([Facts(device="car-1", last_seen=NOW, latest=newest)])

        await opened.write(sold)
        yield opened


async def test_a_new_owner_sees_nothing_from_before(lab: Lab) -> None:
    (product,) = await lab.read(lambda r: views.load_products(r, "max"))
    assert list(product.facts.latest) == ["pad_wear_front"]
    measured = await views.with_series(lab.context, product, NOW)
    points = measured.series["pad_wear_front"].points
    assert len(points) > 10
    assert all(ts >= NOW - 3 * DAY for ts, _ in points)


async def test_a_former_owners_matter_shows_nothing_of_what_came_afterwards(lab: Lab) -> None:
    (touchpoint,) = await lab.read(lambda r: r.touchpoints.page(owner="jana"))
    matter = await lab.read(lambda r: views.load_matter(r, touchpoint, lab.context))
    assert list(matter.facts.latest) == ["odometer"]
    series = await views.matter_series(lab.context, matter, NOW)
    assert series is not None
    assert len(series.points) > 10
    assert all(ts < NOW - 3 * DAY for ts, _ in series.points)
