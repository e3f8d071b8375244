"""After-sales' pages: what needs it, clusters down to the products, feedback over time; a real database."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from garage import TEXTS
from web_lab import DAY, HOUR, NOW, Lab, catalogue, web_lab

from gateway.domain.access import Role
from gateway.domain.case import CaseKind
from gateway.domain.device import Device
from gateway.domain.feedback import Feedback
from gateway.domain.owner import Owner
from gateway.domain.touchpoint import Finding
from gateway.flow.cases import open_case
from gateway.flow.rule_sets import RulesInForce
from gateway.ports import Records
from gateway.web import pictures
from rules import load

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


def whose(n: int) -> str:
    """The owner of a model's n-th product."""
    return f"owner-{n}" if 0 < n < 20 else "jana"


def fleet(records: Records, model: str, count: int, found: int) -> None:
    """So many products of a model, on the first of which the pump was found stiff."""
    for n in range(count):
        device = f"{model}-{n}"
        records.devices.add(
            Device(
                id=device,
                kind="washing_machine",
                model=model,
                owner=whose(n),
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
    """And others, of whom each has one product of a model."""
    records.owners.add(Owner(id="jana", name="Jana Keller", language="de", created=NOW - 400 * DAY))
    for n in range(1, 20):
        records.owners.add(Owner(id=f"owner-{n}", name=f"Owner {n}", language="de", created=0))


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


async def test_what_several_customers_say_stands_beside_what_is_found(lab: Lab) -> None:
    def work(records: Records) -> None:
        for n, name in enumerate(("jana", "max", "lisa")):
            records.owners.add(Owner(id=name, name=name.title(), language="de", created=0))
            records.devices.add(Device(id=f"w-{n}", kind="washing_machine", model="A", owner=name, created=0))
            asked = Feedback(
                id=f"q{n}", touchpoint=None, device=f"w-{n}", owner=name, question="nps", asked_at=NOW - DAY
            )
            records.feedback.ask(asked)
            said = "The humming of the pump is loud."
            records.feedback.answer(replace(asked, score=3, comment=said, answered_at=NOW - HOUR))

    await lab.write(work)
    shown = await page(lab, "/operator/clusters")
    assert "Nothing piles up" not in shown
    assert "The humming of the pump is loud." in shown
    assert "Comments" in shown


async def test_journeys_are_told_from_the_delivery_on(lab: Lab) -> None:
    assert "No product came in this time" in await page(lab, "/operator/journeys")
    await lab.workshop()
    await lab.owner("jana", "car-1", workshop="north")
    await lab.worn_pads("car-1", "jana")
    shown = await page(lab, "/operator/journeys?by=model&days=365")
    assert "Arden 5" in shown
    assert "Told of something" in shown


async def test_the_audit_log_says_who_looked_at_whose_data(lab: Lab) -> None:
    assert "Nothing on this day" in await page(lab, "/operator/audit")
    await lab.write(jana)
    await page(lab, "/operator/owners/jana")
    shown = await page(lab, "/operator/audit")
    assert "Monday, 23 November 2026" in shown
    assert "the customer’s details" in shown
    assert "Jana Keller" in shown
    assert "after-sales" in shown
    assert "Signed in" not in shown
    await lab.signed_in("Ben")
    shown = await page(lab, "/operator/audit")
    assert "Ben" in shown
    assert "Signed in" in shown
    assert "Jana Keller" not in await page(lab, "/operator/audit?day=2026-11-22")
    await page(lab, "/operator/audit?day=soon", 422)


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


@pytest.mark.parametrize("after", ["²", "9" * 30, "-1", "one"])
async def test_a_place_in_the_quarantine_that_cannot_be_is_its_beginning(lab: Lab, after: str) -> None:
    assert "uarantine" in await page(lab, f"/operator/quarantine?after={quote(after)}")


PADS_RULE = """
- id: pads
  version: 1
  kind: car
  purpose: maintenance
  severity: advice
  when: pad_wear_front >= 90
  touchpoint: {kind: appointment, service: brakes-front, expires: 14d}
  source: A test.
"""


@pytest.fixture
async def trying(tmp_path: Path) -> AsyncIterator[Lab]:
    """With one rule, and two cars whose readings are recorded."""
    signals = catalogue()
    in_force = RulesInForce("one", load([("pads.yaml", PADS_RULE)], signals))
    async with web_lab(tmp_path, texts=TEXTS, in_force=in_force) as made:
        await made.owner("jana", "car-1", "car-2")
        await made.measured("car-1", "pad_wear_front", (NOW - 3 * DAY, 88.0), (NOW - 2 * DAY, 91.0))
        await made.measured("car-2", "pad_wear_front", (NOW - 3 * DAY, 84.0), (NOW - 2 * DAY, 86.0))
        yield made


async def tries(lab: Lab, when: str, clear: str = "") -> str:
    _, secret = await lab.token(Role.OPERATOR)
    headers = {"Authorization": f"Bearer {secret}", "Accept-Language": "en"}
    form = {"when": when, "clear": clear, "days": "14"}
    async with lab.client.post("/operator/rules/pads/backtest", data=form, headers=headers) as response:
        assert response.status == 200, await response.text()
        return (await response.text()).replace("\xa0", " ")


async def test_a_rule_is_tried_on_what_is_recorded_as_it_is_and_as_changed(trying: Lab) -> None:
    asked = await page(trying, "/operator/rules/pads/backtest")
    assert "pad_wear_front &gt;= 90</textarea>" in asked
    assert "Not tried yet" in asked
    same = await tries(trying, "pad_wear_front >= 90")
    assert "2 products reported in the last 14 days" in same
    assert "As it runs: one finding" in same
    assert "As changed" not in same
    lower = await tries(trying, "pad_wear_front >= 85")
    assert "As it runs: one finding" in lower
    assert "As changed: 2 findings" in lower
    assert "on 2 products" in lower
    await page(trying, "/operator/rules/none/backtest", 404)


@pytest.mark.parametrize(
    ("when", "why"),
    [
        ("pad_wear_fornt >= 90", "pad_wear_front"),
        ("pad_wear_front >= ", "<span>"),
        ("fleet(pad_wear_front) > 3", "backtest"),
    ],
)
async def test_what_is_wrong_with_a_condition_is_told_and_it_is_kept(
    trying: Lab, when: str, why: str
) -> None:
    said = await tries(trying, when)
    assert 'role="alert"' in said
    assert why in said[said.index('role="alert"') :]
    assert when.split(" ")[0] in said.partition("</textarea>")[0]
