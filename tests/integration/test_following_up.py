"""Cases, complaints, questions and the funnel, over the API and on pages."""

import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from garage import TEXTS
from web_lab import DAY, HOUR, NOW, PADS, Answered, Lab, web_lab

from gateway.domain.access import Role
from gateway.domain.case import Case, CaseKind
from gateway.domain.feedback import AskState
from gateway.domain.policy import Policy
from gateway.domain.touchpoint import Finding
from gateway.flow import decide, follow_up
from gateway.flow.afterwards import Afterwards
from gateway.flow.cases import open_case
from gateway.ports import Records

OURS = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    options: dict[str, Any] = {
        "texts": TEXTS,
        "policy": Policy(rules={PADS.id: PADS}),
        "extras": {"strict": True},
    }
    async with web_lab(tmp_path, **options) as opened:
        await opened.workshop()
        await opened.owner("jana", "car-1", workshop="north")
        yield opened


async def repaired(lab: Lab) -> str:
    """Jana's pads were found, offered, booked and changed for 200 €; gives the touchpoint."""
    matter = await lab.worn_pads("car-1", "jana")
    jana, north = await lab.caller(Role.OWNER, "jana"), await lab.caller(Role.WORKSHOP, "north")
    lab.clock.advance(NOW + HOUR)
    await jana("POST", f"touchpoints/{matter.id}/answer", {"action": "book", "slot": matter.slots[0].id})
    [visit] = await north.all("appointments")
    lab.clock.advance(matter.slots[0].end)
    await north("POST", f"appointments/{visit['id']}/done", {"note": "new pads", "parts": ["PF-1"]})
    return matter.id


async def came_back(lab: Lab) -> Case:
    """… and three days later they were found worn again."""
    await repaired(lab)
    lab.clock.advance(lab.clock.now() + 3 * DAY)
    now = lab.clock.now()
    again = Finding(
        id="again", device="car-1", rule=PADS.id, version=3, severity="advice", position=2,
        began_ts=now - HOUR, found_at=now, evidence={"pad_wear_front": 92.0},
    )  # fmt: skip

    def work(records: Records) -> None:
        records.touchpoints.add_finding(again)
        assert decide.decide(records, again, "jana", now, lab.context.policy) == "suppress"

    await lab.write(work)
    (case,) = await lab.read(lambda r: r.cases.pending())
    return case


async def sign_in(lab: Lab, role: Role, subject: str | None = None) -> None:
    _, secret = await lab.token(role, subject, ttl_ms=400 * DAY)
    async with lab.client.post(
        "/sign-in", data={"token": secret}, headers=OURS, allow_redirects=False
    ) as response:
        assert response.status == 303


async def see(lab: Lab, path: str) -> str:
    async with lab.client.get(path) as response:
        assert response.status == 200, (path, response.status)
        return await response.text()


async def post(lab: Lab, path: str, **form: str) -> str:
    async with lab.client.post(path, data=form, headers=OURS, allow_redirects=False) as response:
        assert response.status == 303, (path, response.status)
        return response.headers["Location"]


# --- cases over the API -----------------------------------------------------------------------


async def test_a_complaint_reaches_the_workshop_and_after_sales_and_ends_with_what_the_customer_hears(
    lab: Lab,
) -> None:
    case = await came_back(lab)
    operator = await lab.caller()
    north, south = await lab.caller(Role.WORKSHOP, "north"), await lab.caller(Role.WORKSHOP, "south")
    [shown] = await north.all("cases?state=pending")
    assert (shown["kind"], shown["data"]["job"]["work"]["parts"]) == ("complaint", ["PF-1"])
    assert await south.all("cases") == []
    noted = await north("POST", f"cases/{case.id}/note", {"text": "A caliper sticks."})
    assert noted.body["history"][-1]["by"] == "workshop:north"
    refused = await north("POST", f"cases/{case.id}/close", {"outcome": "Fine."})
    assert refused.status == 403
    empty = await operator("POST", f"cases/{case.id}/close", {"outcome": "   "})
    assert (empty.status, "outcome" in str(empty.body)) == (422, True)
    closed = await operator("POST", f"cases/{case.id}/close", {"outcome": "We mend it for free."})
    assert (closed.status, closed.body["state"]) == (201, "closed")
    again = await operator("POST", f"cases/{case.id}/close", {"outcome": "Twice."})
    assert again.status == 409
    jana = await lab.caller(Role.OWNER, "jana")
    lines = (await jana.get("owners/jana/ledger"))["items"]
    assert any("We mend it for free." in str(line) for line in lines)


async def test_a_case_can_be_answered_and_given_to_somebody_else(lab: Lab) -> None:
    case = await came_back(lab)
    operator = await lab.caller()
    given = await operator("POST", f"cases/{case.id}/give", {"responsible": "ben"})
    assert given.body["responsible"] == "ben"
    answered = await operator("POST", f"cases/{case.id}/answer", {"text": "We look at it on Monday."})
    assert (answered.body["state"], answered.body["overdue"]) == ("answered", False)
    assert [c["id"] for c in await operator.all("cases?state=answered")] == [case.id]
    assert await operator.all("cases?state=closed") == []
    assert await operator.all("cases?kind=low_score") == []


# --- figures over the API ---------------------------------------------------------------------


async def test_the_funnel_says_what_became_of_findings_and_how_long_it_took(lab: Lab) -> None:
    await repaired(lab)
    operator = await lab.caller()
    found = await operator.get("analytics/funnel")
    [row] = found["items"]
    assert (row["rule"], row["found"], row["sent"], row["booked"], row["done"]) == (PADS.id, 1, 1, 1, 1)
    assert row["times"]["answered"]["median_s"] == pytest.approx(3600, rel=0.025)
    [by_model] = (await operator.get("analytics/funnel?by=model"))["items"]
    assert (by_model["key"], by_model["rule"]) == ("Arden 5", None)
    [by_week] = (await operator.get("analytics/funnel?by=week"))["items"]
    assert by_week["key"] == "2026-W48"
    before = await operator.get("analytics/funnel?from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z")
    assert before["items"] == []


@pytest.mark.parametrize("query", ["by=owner", "from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z", "to=x"])
async def test_what_cannot_be_asked_of_the_funnel_is_said(lab: Lab, query: str) -> None:
    refused: Answered = await (await lab.caller())("GET", f"analytics/funnel?{query}")
    assert refused.status in (400, 422)
    assert refused.headers["Content-Type"].startswith("application/problem+json")


async def test_measures_and_scores_count_what_was_promised_and_answered(lab: Lab) -> None:
    await repaired(lab)
    operator, jana = await lab.caller(), await lab.caller(Role.OWNER, "jana")
    [question] = await jana.all("feedback")
    rated = await jana("POST", f"feedback/{question['id']}", {"score": 2, "expected": "worse"})
    assert (rated.body["expected"], rated.body["state"]) == ("worse", "asked")
    csat = (await operator.get("analytics/feedback"))["items"][0]
    assert (csat["question"], csat["mean"], csat["expected"]["worse"]) == ("csat", 2.0, 1)
    measures = await operator.get("analytics/measures")
    assert measures["promises"]["time"] == {
        "good": 1, "known": 1, "share": 1.0, "interval": pytest.approx([0.2065, 1.0], abs=1e-4),
    }  # fmt: skip
    assert measures["effect"] == []
    [north] = measures["workshops"]
    assert (north["workshop"], north["jobs"], north["promises"]) == ("north", 1, measures["promises"])
    [case] = await operator.all("cases?state=pending")
    assert (case["kind"], case["workshop"]) == ("low_score", None)


# --- pages ------------------------------------------------------------------------------------


async def test_after_sales_works_through_its_cases_on_a_page(lab: Lab) -> None:
    case = await came_back(lab)
    lab.clock.advance(case.due_at + 1)
    await sign_in(lab, Role.OPERATOR)
    listed = await see(lab, "/operator/cases")
    assert "1 case is overdue" in listed
    assert "Repair that did not help" in listed
    assert "Jana" not in listed  # whose it is stands on the case, and looking at it is noted
    shown = await see(lab, f"/operator/cases/{case.id}")
    assert "new pads" in shown
    assert "Jana" in shown
    ledger = await lab.read(lambda r: r.touchpoints.ledger(owner="jana", limit=50))
    assert any(line.code == "looked" for line in ledger)
    assert (await post(lab, f"/operator/cases/{case.id}/note", text="No answer.")).endswith("said=note")
    assert (await post(lab, f"/operator/cases/{case.id}/close", text="")).endswith("said=empty")
    assert (await post(lab, f"/operator/cases/{case.id}/close", text="Mended for free.")).endswith(
        "said=close"
    )
    assert (await post(lab, f"/operator/cases/{case.id}/answer", text="x")).endswith("said=conflict")
    assert "Nobody waits for us" in await see(lab, "/operator/cases")
    german = await see(lab, f"/operator/cases/{case.id}?lang=de")
    assert "Reparatur, die nicht geholfen hat" in german


async def test_a_workshop_sees_what_came_back_and_says_what_it_thinks(lab: Lab) -> None:
    case = await came_back(lab)
    await sign_in(lab, Role.WORKSHOP, "north")
    shown = await see(lab, "/workshop/complaints")
    assert "new pads" in shown
    assert "pad_wear_front" in shown
    assert (await post(lab, f"/workshop/complaints/{case.id}/note", text="Stuck.")).endswith("said=note")
    kept = await lab.read(lambda r: r.cases.get(case.id))
    assert (kept.history[-1].by, kept.history[-1].text) == ("workshop:north", "Stuck.")


async def test_the_funnel_stands_on_a_page_and_in_a_table_to_take_along(lab: Lab) -> None:
    await repaired(lab)
    lab.clock.advance(lab.clock.now() + 15 * DAY)
    loop = Afterwards(lab.database, lab.clock, lab.context.policy)
    while await loop.step():
        pass
    await sign_in(lab, Role.OPERATOR)
    for query in ("", "?by=week", "?by=kind&days=365", "?by=nonsense&days=7"):
        assert "1 finding" in await see(lab, f"/operator/funnel{query}")
    shown = await see(lab, "/operator/funnel")
    assert "1 of 1" in shown
    assert "Promises by workshop" in shown
    assert "9 of 10 in" in shown
    async with lab.client.get("/operator/funnel.csv?by=rule") as response:
        assert response.headers["Content-Disposition"] == 'attachment; filename="funnel-rule-2026-12-09.csv"'
        heads, row = list(csv.reader(io.StringIO(await response.text())))
    named = dict(zip(heads, row, strict=True))
    assert (named["rule"], named["found"], named["done"], named["helped"]) == (PADS.id, "1", "1", "1")
    assert int(named["answered_median_s"]) == pytest.approx(3600, rel=0.025)


async def test_an_owner_answers_and_may_say_how_it_was_beside_what_they_expected(lab: Lab) -> None:
    await repaired(lab)
    (question,) = await lab.read(lambda r: r.feedback.page())
    await sign_in(lab, Role.OWNER, "jana")
    assert "How was your visit" not in await see(lab, "/me?lang=en")  # it is not asked yet
    lab.clock.advance(question.asked_at)
    await lab.write(lambda r: follow_up.step(r, lab.clock.now(), lab.context.policy))
    assert "How was your visit at Autohaus Nord?" in await see(lab, "/me?lang=en")
    page = f"/me/feedback/{question.id}"
    await post(lab, page, score="2", comment="It squeals.")
    thanks = await see(lab, page)
    assert "We are sorry." in thanks
    assert "gets back to you by" in thanks
    await post(lab, page, expected="worse")
    assert 'aria-pressed="true">Worse' in await see(lab, page)
    assert (await post(lab, page, expected="fine")).endswith("said=conflict")
    assert (await lab.read(lambda r: r.cases.pending()))[0].kind is CaseKind.LOW_SCORE


async def test_a_question_on_the_way_stands_on_the_owners_page(lab: Lab) -> None:
    await lab.write(lambda r: follow_up.plan_nps(r, NOW, lab.context.policy))
    await lab.write(lambda r: r.feedback.move_nps("jana", NOW))
    await lab.write(lambda r: follow_up.step(r, NOW, lab.context.policy))
    (nps,) = await lab.read(lambda r: r.feedback.page())
    assert nps.state is AskState.ASKED
    await sign_in(lab, Role.OWNER, "jana")
    assert "Would you recommend us?" in await see(lab, "/me?lang=en")
    await post(lab, f"/me/feedback/{nps.id}", score="10")
    assert "Thank you" in await see(lab, f"/me/feedback/{nps.id}")


async def test_metrics_say_how_many_cases_wait_and_how_many_are_overdue(lab: Lab) -> None:
    case = await came_back(lab)
    lab.clock.advance(case.due_at + 1)
    async with lab.client.get("/metrics") as response:
        text = await response.text()
    assert 'touchpoint_cases_pending{kind="complaint"} 1' in text
    assert 'touchpoint_cases_overdue{kind="complaint"} 1' in text
    assert 'touchpoint_cases_overdue{kind="call_me"} 0' in text


async def test_a_workshop_sees_nothing_of_calls_and_low_scores(lab: Lab) -> None:
    await repaired(lab)
    about: dict[str, Any] = {"owner": "jana", "device": "car-1", "workshop": "north", "now": lab.clock.now()}
    call = await lab.write(lambda r: open_case(r, kind="call_me", text="After five.", **about))
    north = await lab.caller(Role.WORKSHOP, "north")
    assert await north.all("cases") == []
    assert await north.all("cases?state=pending") == []
    assert (await north("GET", f"cases/{call.id}")).status == 404
    await sign_in(lab, Role.WORKSHOP, "north")
    assert "After five." not in await see(lab, "/workshop/complaints")
