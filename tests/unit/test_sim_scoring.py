"""A score: what counts as announced, as right, as in time; and the report of it."""

import pytest

from device_sim.needs import Need
from device_sim.scenario import Scenario
from device_sim.scoring import Contact, Found, Score, scored
from device_sim.scoring_report import as_picture, as_text

DAY = 86_400_000
SCENARIO = Scenario.parse(
    """
name: tiny
about: two owners for a year
start: 2026-01-01 00:00
span: 365d
workshops:
  - id: shop
    name: Shop
    bays: [A]
    hours: {mon: [[08:00, 17:00]]}
    services: [{id: pads, names: {en: Pads}, minutes: 60}]
owners: [{id: ida, name: Ida}, {id: tom, name: Tom}]
devices: [{id: car, kind: car, model: Arden 5, owner: ida}, {id: old, kind: car, model: Arden 5, owner: tom}]
"""
)
START = SCENARIO.start


def need(
    device: str, begin: int, fails: int, ended: int | None = None, *, cause: str = "wear", what: str = "pads"
) -> Need:
    return Need(
        device=device,
        what=what,
        cause=cause,  # type: ignore[arg-type]
        services=(what,),
        since=START + begin * DAY,
        fails=START + fails * DAY,
        ended=None if ended is None else START + ended * DAY,
        failed=ended is None or ended >= fails,
    )


def found(device: str, day: int, service: str = "pads", purpose: str = "maintenance") -> Found:
    return Found(
        device=device,
        owner="ida",
        rule=f"{service}-rule",
        service=service,
        kind="appointment",
        purpose=purpose,
        at=START + day * DAY,
    )


def told(touchpoint: str, day: int, *matters: tuple[str, str]) -> Contact:
    listed = [(device, f"{service}-rule", service) for device, service in matters]
    return Contact(owner="ida", touchpoint=touchpoint, at=START + day * DAY, matters=listed)


def score(needs: list[Need], findings: list[Found] = [], contacts: list[Contact] = []) -> Score:  # noqa: B006
    return scored(SCENARIO, needs=needs, findings=findings, contacts=contacts)


def test_a_need_is_announced_by_a_finding_about_one_of_its_jobs_before_it_fails() -> None:
    needs = [need("car", 50, 100, 80), need("old", 50, 100)]
    result = score(needs, [found("car", 60), found("old", 110), found("old", 60, "oil")])
    assert (result.repairs.needs, result.repairs.announced, result.repairs.prevented) == (2, 1, 1)
    assert result.repairs.recall == 0.5
    assert result.repairs.lead == 40
    assert result.prevented == 0.5


def test_what_fails_after_the_end_is_no_miss_and_what_was_settled_along_is_none() -> None:
    assert score([need("car", 340, 400)]).repairs.needs == 0
    assert score([need("car", 50, 100, 70)]).repairs.needs == 0
    assert score([need("car", 50, 100, 120)]).repairs.recall == 0


def test_precision_is_of_findings_about_what_was_so() -> None:
    state = need("car", 10, 20, 30, cause="state", what="travel")
    findings = [found("car", 15, "travel", "usage"), found("car", 200, "travel", "usage"), found("car", 60)]
    result = score([state, need("car", 50, 100, 80)], findings)
    assert result.precision == 1.0
    assert result.precision_of_all == pytest.approx(2 / 3)
    assert result.repairs.needs == 1


def test_contacts_are_counted_once_however_often_they_are_shown() -> None:
    needs = [need("car", 50, 100, 80)]
    contacts = [
        told("a", 60, ("car", "pads")),
        told("a", 62, ("car", "pads")),
        told("b", 300, ("car", "pads")),
    ]
    result = score(needs, [], contacts)
    assert (result.messages, result.contacts) == (3, 2)
    assert result.contacts_per_repair == 2.0
    assert result.needless == 1
    assert result.needless_per_owner_year == pytest.approx(0.5, abs=0.01)


def test_one_contact_about_two_matters_serves_both() -> None:
    needs = [need("car", 50, 100, 80), need("car", 50, 100, 80, what="oil")]
    result = score(needs, [], [told("a", 60, ("car", "pads"), ("car", "oil"))])
    assert result.contacts_per_repair == 0.5
    assert result.needless == 0


def test_the_time_before_it_counts_is_left_out() -> None:
    part = SCENARIO.part.model_copy(update={"scored_after": 90 * DAY})
    result = scored(Scenario(part), needs=[need("car", 50, 70, 60)], findings=[found("car", 60)], contacts=[])
    assert (result.repairs.needs, result.findings) == (0, 0)


def test_the_report_names_figures_aims_needs_and_rules() -> None:
    scores = {"rules": score([need("car", 50, 100, 80)], [found("car", 60)]), "against": score([])}
    meta = {"scenario": "tiny", "seed": 1, "devices": 2}
    text = as_text(scores, meta)
    assert "recall" in text
    assert ">= 0.9" in text
    assert "pads-rule" in text
    picture = as_picture(scores, meta)
    assert picture.startswith("<svg")
    assert picture.count("<rect") > 10
    assert scores["rules"].plain()["recall"] == 1.0
    assert scores["against"].plain()["recall"] is None
