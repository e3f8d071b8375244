"""Recalls by API and on the operator's page, a bundle on its owner's pages, a rule that has slowed down."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from garage import TEXTS
from web_lab import NORTH, NOW, Lab, web_lab

from gateway.domain.access import Role
from gateway.domain.appointment import Service
from gateway.domain.pace import Pace
from gateway.domain.policy import Policy, RuleInfo
from gateway.domain.touchpoint import Finding
from gateway.flow import decide
from gateway.ports import Records

BOLT = {
    "id": "bolt-2026",
    "kind": "car",
    "title": {"en": "A bolt may loosen", "de": "Eine Schraube kann sich lösen"},
    "body": {"en": "Drive slowly until it is tightened."},
    "reference": "KBA 12345",
    "service": "brakes-front",
    "query": {"models": ["Arden 5"]},
}


def rule(rule_id: str, service: str) -> RuleInfo:
    return RuleInfo(
        id=rule_id, version=1, kind="car", purpose="maintenance", severity="advice", expires_ms=None,
        touchpoint_kind="appointment", service=service, signals=("pad_wear_front",),
    )  # fmt: skip


RULES = {r.id: r for r in (rule("brake-pads-front-worn", "brakes-front"), rule("service-due", "inspection"))}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    options: dict[str, Any] = {
        "texts": TEXTS,
        "policy": Policy(rules=RULES),
        "extras": {"strict": True},
        "public_url": "http://127.0.0.1",
    }
    inspection = Service(id="inspection", names={"en": "Inspection", "de": "Inspektion"}, minutes=120)
    async with web_lab(tmp_path, **options) as opened:
        both = {"services": (*NORTH.services, inspection)}
        await opened.workshop(type(NORTH)(**({n: getattr(NORTH, n) for n in NORTH.__slots__} | both)))
        await opened.owner("jana", "car-1", "car-2", workshop="north")
        yield opened


async def shown(lab: Lab, path: str, role: Role, subject: str | None = None) -> str:
    _, secret = await lab.token(role, subject)
    headers = {"Authorization": f"Bearer {secret}", "Accept": "text/html"}
    async with lab.client.get(f"{path}?lang=en", headers=headers) as response:
        assert response.status == 200, await response.text()
        return (await response.text()).replace("\u00a0", " ")


async def test_a_recall_is_begun_by_api_and_its_progress_listed(lab: Lab) -> None:
    staff = await lab.caller(Role.INTEGRATION)
    begun = await staff("POST", "recalls", BOLT)
    assert begun.status == 201, begun
    assert begun.body["progress"] == {
        "devices": 2, "waiting": 0, "nobody": 0, "deferred": 0,
        "open": 2, "answered": 0, "booked": 0, "done": 0,
    }  # fmt: skip
    again = await staff("POST", "recalls", BOLT)
    assert again.status == 409
    assert (
        await staff("POST", "recalls", {**BOLT, "id": "b", "query": None, "devices": ["car-9"]})
    ).status == 201
    assert sorted(r["id"] for r in await staff.all("recalls?limit=1")) == ["b", "bolt-2026"]
    assert (await staff.get("recalls/b"))["progress"]["nobody"] == 1
    touchpoints = await staff.all("touchpoints?owner=jana")
    assert {t["rule"] for t in touchpoints} == {"recall-bolt-2026"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"query": None}, "exactly one"),
        ({"devices": ["car-1"]}, "exactly one"),
        ({"query": {}}, "every product there is"),
        ({"kind": "boat"}, "not known"),
        ({"title": {}}, "title"),
        ({"severity": "advice"}, "severity"),
        ({"query": {"models": ["Nobody has it"]}}, "no registered product fits"),
    ],
)
async def test_a_recall_that_says_nothing_is_refused_with_what_to_do(
    lab: Lab, change: dict[str, Any], says: str
) -> None:
    staff = await lab.caller(Role.OPERATOR)
    refused = await staff("POST", "recalls", {**BOLT, **change})
    assert refused.status == 422, refused
    assert says in str(refused.body)


async def test_owners_and_workshops_neither_begin_recalls_nor_list_them(lab: Lab) -> None:
    for role, subject in ((Role.OWNER, "jana"), (Role.WORKSHOP, "north")):
        caller = await lab.caller(role, subject)
        assert (await caller("POST", "recalls", BOLT)).status == 403
        assert (await caller("GET", "recalls")).status == 403


async def test_the_operator_begins_a_recall_on_a_page_without_any_script(lab: Lab) -> None:
    _, secret = await lab.token(Role.OPERATOR)
    headers = {"Authorization": f"Bearer {secret}", "Accept": "text/html"}
    form = {"kind": "car", "title_en": "A bolt may loosen", "service": "brakes-front", "severity": "warning"}
    async with lab.client.post("/operator/recalls", data=form, headers=headers) as refused:
        assert refused.status == 422
        text = await refused.text()
        assert "A bolt may loosen" in text  # what was typed is still there
    form["devices"] = "car-1 car-2"
    async with lab.client.post(
        "/operator/recalls", data=form, headers=headers, allow_redirects=False
    ) as done:
        assert done.status == 303
    page = await shown(lab, "/operator/recalls", Role.OPERATOR)
    assert "A bolt may loosen" in page
    assert "of 2 products" in page


async def test_its_owner_reads_the_recall_everywhere_in_the_campaigns_words(lab: Lab) -> None:
    staff = await lab.caller(Role.OPERATOR)
    await staff("POST", "recalls", BOLT)
    inbox = await shown(lab, "/me", Role.OWNER, "jana")
    assert "A bolt may loosen" in inbox
    (touchpoint, *_) = await staff.all("touchpoints?owner=jana")
    page = await shown(lab, f"/me/touchpoints/{touchpoint['id']}", Role.OWNER, "jana")
    assert "Drive slowly until it is tightened." in page
    assert "a legal duty" in page
    assert "{" not in page.split("<main", 1)[1].split("</main>", 1)[0].replace("{}", "")
    for path in ("/operator/devices/car-1", "/operator/owners/jana", "/operator"):
        assert "recall" in (await shown(lab, path, Role.OPERATOR)).lower()


async def test_a_bundle_is_one_matter_on_its_owners_pages(lab: Lab) -> None:
    def both(records: Records) -> None:
        for n, name in enumerate(RULES):
            finding = Finding(
                id=f"f-{n}", device="car-1", rule=name, version=1, severity="advice", position=n,
                began_ts=NOW,
                found_at=NOW,
                evidence={"pad_wear_front": 92.0, "distance_to_service": 900, "ts": NOW},
            )  # fmt: skip
            records.touchpoints.add_finding(finding)
            decide.decide(records, finding, "jana", NOW, lab.context.policy)

    await lab.write(both)
    inbox = await shown(lab, "/me", Role.OWNER, "jana")
    assert "2 things Autohaus Nord can do in one visit" in inbox
    (touchpoint,) = await (await lab.caller()).all("touchpoints")
    page = await shown(lab, f"/me/touchpoints/{touchpoint['id']}", Role.OWNER, "jana")
    assert "Your front brake pads are worn" in page
    assert "due for its inspection" in page


async def test_the_operator_reads_that_a_rule_has_slowed_down_and_so_does_prometheus(lab: Lab) -> None:
    slow = Pace(rule="service-due", per_day=3, since=NOW, declined=21, answered=30)
    await lab.write(lambda records: records.paces.put(slow))
    for path in ("/operator/rules", "/operator/rules/service-due"):
        page = await shown(lab, path, Role.OPERATOR)
        assert "21 of its last 30 answers decline it, so it sends at most 3 a day" in page
    async with lab.client.get("/metrics") as response:
        assert 'touchpoint_rule_slowed_per_day{rule="service-due"} 3.0' in await response.text()
