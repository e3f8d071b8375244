"""After-sales' pages: what needs it, clusters down to the products, feedback over time; a real database."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from garage import TEXTS
from web_lab import DAY, HOUR, NOW, Lab, web_lab

from gateway.domain.access import Role
from gateway.domain.case import CaseKind
from gateway.domain.device import Device
from gateway.domain.feedback import Feedback
from gateway.domain.owner import Owner
from gateway.domain.touchpoint import Finding
from gateway.flow.cases import open_case
from gateway.ports import Records
from gateway.web import pictures

MONTH = 30 * DAY


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with web_lab(tmp_path, texts=TEXTS) as made:
        yield made


async def page(lab: Lab, path: str, status: int = 200) -> str:
    """A page as an operator sees it, in English."""
    _, secret = await lab.token(Role.OPERATOR)
    headers = {"Authorization": f"Bearer {secret}", "Accept-Language": "en"}
    async with lab.client.get(path, headers=headers) as response:
        assert response.status == status, await response.text()
        return (await response.text()).replace("\xa0", " ")


def fleet(records: Records, model: str, count: int, found: int) -> None:
    """So many products of a model, on the first of which the pump was found stiff."""
    for n in range(count):
        device = f"{model}-{n}"
        records.devices.add(
            Device(
                id=device,
                kind="washing_machine",
                model=model,
                owner="jana",
                firmware="4.2",
                created=NOW - MONTH,
            )
        )
        if n < found:
            at = NOW - (n % 6) * DAY - HOUR
            records.touchpoints.add_finding(
                Finding(
                    id=f"f-{device}",
                    device=device,
                    rule="washer-pump-stiff",
                    version=1,
                    severity="advice",
                    position=n + 1,
                    began_ts=at,
                    found_at=at,
                    evidence={},
                )
            )


def jana(records: Records) -> None:
    records.owners.add(Owner(id="jana", name="Jana Keller", language="de", created=NOW - 400 * DAY))


async def test_a_cluster_is_told_against_the_fleet_and_leads_down_to_its_products(lab: Lab) -> None:
    def work(records: Records) -> None:
        jana(records)
        fleet(records, "WashMate 7", 20, 12)
        fleet(records, "WashMate 5", 180, 6)

    await lab.write(work)
    shown = await page(lab, "/operator")
    assert "One thing needs you: " in shown
    assert "on 12 products “WashMate 7”, 6.7× as many as expected" in shown
    listed = await page(lab, "/operator/clusters?days=30")
    assert "One is surely more than chance" in listed
    assert listed.index("WashMate 7") < listed.index("WashMate 5")
    assert "growing" in listed
    asked = "rule=washer-pump-stiff&kind=washing_machine&model=WashMate+7&firmware=4.2&days=14"
    where = f"/operator/clusters/products?{asked}"
    assert where.replace("&", "&amp;") in shown
    one = await page(lab, where)
    assert "Found in 14 days on 12 of 20 products" in one
    assert "surely more than chance" in one
    assert one.count('href="/operator/devices/WashMate%207-') == 12
    assert "Jana Keller" in one
    await page(lab, "/operator/clusters/products?rule=none&kind=car", 404)
    await page(lab, "/operator/clusters/products", 422)


async def test_customers_who_wait_come_before_machinery(lab: Lab) -> None:
    def work(records: Records) -> None:
        jana(records)
        case = open_case(records, kind=CaseKind.COMPLAINT, now=NOW - 30 * DAY, owner="jana")
        assert case.overdue(NOW)
        fleet(records, "WashMate 7", 20, 12)
        fleet(records, "WashMate 5", 180, 6)

    await lab.write(work)
    lab.context.counters.rule_errors["pump-clogging"] = 3
    shown = await page(lab, "/operator")
    assert "3 things need you: " in shown
    places = [shown.index(said) for said in ("on 12 products", "One customer waits", "Rules broke 3 times")]
    assert places == sorted(places)


async def test_feedback_is_told_by_month_with_how_sure_it_is(lab: Lab) -> None:
    def work(records: Records) -> None:
        jana(records)
        for n in range(24):
            at = NOW - (MONTH if n % 2 else DAY) - n * HOUR
            asked = Feedback(
                id=f"q{n}", touchpoint=None, owner="jana", question="nps", asked_at=at, device=None
            )
            records.feedback.ask(asked)
            score = 2 if n % 2 else 10
            comment = "Quick and clean." if n == 0 else None
            records.feedback.answer(replace(asked, score=score, comment=comment, answered_at=at + HOUR))

    await lab.write(work)
    shown = await page(lab, "/operator/feedback")
    assert "NPS 100, between " in shown
    assert "Surely more than the month before." in shown
    assert "Quick and clean." in shown
    assert "12 of 12 asked" in shown
    assert 'class="chart scores"' in shown
    assert "NPS 100" in await page(lab, "/operator")


async def test_without_answers_the_page_says_what_will_be_there(lab: Lab) -> None:
    assert "No answers yet" in await page(lab, "/operator/feedback")
    assert "No findings in this time" in await page(lab, "/operator/clusters")
    assert "Everything runs." in await page(lab, "/operator")


def test_a_ratio_beyond_the_picture_stays_inside_it() -> None:
    drawn = str(pictures.ratio((40.0, 0.0, 900.0), sure=True))
    assert 'x1="5.0" x2="115.0"' in drawn
    assert "chance" in str(pictures.ratio((1.0, 0.5, 2.0), sure=False))


def test_a_course_of_nothing_is_no_picture() -> None:
    assert pictures.spark([]) == ""
    assert 'cy="20.0"' in pictures.spark([0, 0])
