"""The simulated promises: they hold for a small town, a seed always counts the same, the judge can fail."""

import importlib.util
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from garage import DAY, HOUR, at, rule
from real_parts import ROOT

from gateway.domain.moments import QuietHours
from gateway.domain.touchpoint import State, Touchpoint
from gateway.flow import budget, consents, decide, outgoing, parting
from gateway.ports import Records


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("promises", ROOT / "tools" / "promises.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["promises"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


promises: Any = _tool()


def play(owners: int = 25, days: int = 8, seed: int = 7) -> Any:
    return promises.play(promises.Town(range(owners), days, seed, None, True))


def violations(result: Any) -> set[str]:
    return {what for what, number in result.violations.items() if number}


def test_a_small_town_is_treated_as_promised_and_the_same_seed_counts_the_same() -> None:
    one, other = play(), play()
    assert violations(one) == set(), one.examples
    assert one.counts["contacts"] > 5
    assert one.counts["findings looked at"] == one.counts["findings"] > 10
    for rare in ("recalls", "passed on", "shared, another one is asked", "offers"):
        assert one.counts[rare], rare
    assert one.counts == other.counts
    assert one.counts != play(owners=5, seed=6).counts


def test_the_command_prints_what_it_counted_and_ends_with_1_on_a_violation(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert promises.main(["--owners", "4", "--days", "3", "--seed", "1"]) == 0
    printed = capsys.readouterr().out
    assert "4 owners, 3 days, seed 1" in printed
    assert all(f"0  {what}" in printed for what in promises.VIOLATIONS)
    result = promises.Result()
    result.violations["beyond the budget"] += 1
    result.examples["beyond the budget"] = "3 of 2"
    asked = Namespace(owners=4, days=3, seed=1, json=False)
    assert promises.report(result, 1.0, asked) == 1
    assert "1  beyond the budget   e.g. 3 of 2" in capsys.readouterr().out


def test_a_town_is_the_same_however_many_are_played_at_once() -> None:
    asked = Namespace(owners=2_300, days=180, seed=7, folder=Path("/x"), json=True)
    assert [(t.numbers, t.folder) for t in promises.towns(asked)] == [
        (range(1_000), Path("/x/town-0")),
        (range(1_000, 2_000), Path("/x/town-1")),
        (range(2_000, 2_300), Path("/x/town-2")),
    ]


# --- a gateway that breaks its word -----------------------------------------------------------


def no_budget(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(budget, "room", lambda *_, **__: None)


def no_night(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(QuietHours, "until", lambda *_: None)


def no_wheel(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decide, "at_the_wheel", lambda _: None)


def no_consent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(consents, "allowed", lambda *_: True)


def never_withdrawn(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decide, "cleared", lambda *_: None)
    patch.setattr(decide, "STEPS", tuple(step for step in decide.STEPS if step is not decide.still_true))
    patch.setattr(parting, "gone", lambda *_: {})


def told_twice(patch: pytest.MonkeyPatch) -> None:
    queue = outgoing.queue_push

    def twice(records: Records, touchpoint: Touchpoint, about: str, now: int, **more: Any) -> int:
        queue(records, touchpoint, about, now, **more)
        return queue(records, touchpoint, about, now, **more)

    patch.setattr(outgoing, "queue_push", twice)
    patch.setattr("gateway.flow.ladder.queue_push", twice)


def sells_as_service(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(budget, "purse_of", lambda _: budget.SERVICE)


def silent_end(patch: pytest.MonkeyPatch) -> None:
    def ends(records: Records, touchpoint: Touchpoint, state: State, code: str, now: int) -> None:
        records.touchpoints.save(replace(touchpoint, state=state, wake_at=None, closed_at=now))

    patch.setattr(decide, "_end", ends)


def no_words(patch: pytest.MonkeyPatch) -> None:
    def speechless(*_: Any) -> list[tuple[int, str]]:
        raise KeyError("ledger.sent")

    patch.setattr(promises, "ledger_story", speechless)


SMALL, MIDDLE, LARGE = (25, 8), (40, 10), (60, 14)
"""Owners and days in which a broken word is seen, with some to spare."""


@pytest.mark.parametrize(
    ("broken", "what", "town"),
    [
        (no_budget, "beyond the budget", SMALL),
        (no_night, "in quiet hours", SMALL),
        (no_wheel, "while driving", MIDDLE),
        (no_consent, "without consent", MIDDLE),
        (never_withdrawn, "over already", LARGE),
        (told_twice, "a second time", SMALL),
        (sells_as_service, "beyond the budget", MIDDLE),
        (silent_end, "not explained in the ledger", SMALL),
        (no_words, "not worded", SMALL),
    ],
)
def test_the_judge_sees_what_a_broken_gateway_does(
    broken: Callable[[pytest.MonkeyPatch], None],
    what: str,
    town: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken(monkeypatch)
    assert what in violations(play(*town))


# --- what is rare ---------------------------------------------------------------------------------

MORNING = at("2026-11-23T09:00+01:00")
NIGHT = at("2026-11-23T23:00+01:00")


def person(**changes: Any) -> Any:
    plain: dict[str, Any] = {
        "id": "jana",
        "zone": "Europe/Berlin",
        "quiet": ("22:00", "07:00"),
        "budget": 1,
        "habit": "family",
        "patience_h": 1.0,
        "car": "car",
        "products": [("car", "car"), ("washer", "washing_machine")],
        "agreed": {"maintenance": True, "survey": True},
    }
    return promises.Person(**(plain | changes))


def ring(owner: Any, matter: str = "m1", severity: str = "advice", **changes: Any) -> Any:
    touchpoint = Touchpoint(
        id=matter,
        finding=f"f-{matter}",
        device="car",
        owner=owner.id,
        rule="brake-pads-front-worn",
        rule_version=1,
        kind="appointment",
        service=None,
        severity=severity,
        purpose="maintenance",
        state=State.OPEN,
        created=MORNING,
    )
    plain: dict[str, Any] = {
        "at": MORNING,
        "owner": owner,
        "channel": "web_push",
        "target": "phone",
        "about": "offer",
        "matter": touchpoint,
        "kind": "car",
        "purposes": ("maintenance",),
        "findings": (touchpoint.finding,),
    }
    return promises.Ring(**(plain | changes))


def judged(*rings: Any) -> dict[str, int]:
    judge = promises.Judge(open={finding for one in rings for finding in one.findings})
    for one in rings:
        judge.rings(one)
    return {what: number for what, number in judge.violations.items() if number}


def test_an_ordinary_message_is_none() -> None:
    jana = person()
    later = {"at": MORNING + DAY, "channel": "email", "target": "jana@example.com"}
    assert judged(ring(jana), ring(jana, **later), ring(jana, "m2", at=MORNING + 7 * DAY)) == {}


@pytest.mark.parametrize(
    ("owner", "changes", "what"),
    [
        ({}, {"at": NIGHT}, "in quiet hours"),
        ({}, {"at": NIGHT, "severity": "critical"}, "in quiet hours"),  # a car says so itself
        ({}, {"at": NIGHT, "channel": "email", "about": "question"}, "in quiet hours"),
        ({}, {"at": NIGHT, "about": "reminder"}, "in quiet hours"),
        ({}, {"at": NIGHT, "about": "visit", "severity": "critical", "kind": "heat_pump"}, "in quiet hours"),
        ({"zone": "Asia/Tokyo"}, {"at": at("2026-11-23T14:30+00:00")}, "in quiet hours"),
        ({"driving": True}, {}, "while driving"),
        ({"agreed": {}}, {}, "without consent"),
        ({}, {"purposes": ("maintenance", "usage")}, "without consent"),
        ({"agreed": {}}, {"channel": "letter"}, "without consent"),
        ({"agreed": {"survey": False}}, {"about": "question", "question": "q"}, "without consent"),
        ({"silenced": {"brake-pads-front-worn": "advice"}}, {}, "never again"),
        ({"budget": 0}, {}, "beyond the budget"),
        ({}, {"theirs": False}, "about another's product"),
        ({"budget": 0}, {"about": "question", "question": "q"}, "beyond the budget"),
    ],
)
def test_a_single_message_can_be_wrong(owner: dict[str, Any], changes: dict[str, Any], what: str) -> None:
    assert set(judged(ring(person(**owner), **changes))) == {what}


@pytest.mark.parametrize(
    ("owner", "changes"),
    [
        ({}, {"at": NIGHT, "severity": "critical", "kind": "washing_machine"}),
        ({"driving": True}, {"severity": "critical", "kind": "washing_machine"}),
        ({}, {"at": NIGHT, "about": "answered", "silent": True}),
        ({}, {"at": NIGHT, "about": "reminder", "channel": "email"}),
        ({"agreed": {}}, {"about": "reminder"}),
        ({"agreed": {}}, {"purposes": ("recall",)}),
        ({"silenced": {"brake-pads-front-worn": "advice"}}, {"severity": "warning"}),
        ({"budget": 0}, {"severity": "critical"}),
        ({"budget": 0, "allowed": [(MORNING - HOUR, 1)]}, {}),
    ],
)
def test_what_is_allowed_all_the_same(owner: dict[str, Any], changes: dict[str, Any]) -> None:
    assert judged(ring(person(**owner), **changes)) == {}


def test_the_hour_that_the_clocks_skip_or_repeat_is_judged_on_the_owners_clock() -> None:
    jana = person(quiet=("01:30", "03:10"))
    spring = [at("2027-03-28T00:29+00:00"), at("2027-03-28T00:30+00:00"), at("2027-03-28T01:09+00:00")]
    assert [jana.quiet_at(moment) for moment in spring] == [False, True, True]
    assert not jana.quiet_at(at("2027-03-28T01:10+00:00"))  # 3:10, forty minutes after 1:30
    autumn = [at("2026-10-25T00:45+00:00"), at("2026-10-25T01:45+00:00"), at("2026-10-25T02:10+00:00")]
    assert [jana.quiet_at(moment) for moment in autumn] == [True, True, False]


def test_a_second_time_needs_somebody_who_moved_it() -> None:
    jana = person(budget=9)
    assert judged(ring(jana), ring(jana)) == {"a second time": 1}
    assert judged(ring(jana), ring(jana, silent=True)) == {}
    judge = promises.Judge(open={"f-m1"})
    judge.rings(ring(jana))
    judge.moved("m1")
    judge.rings(ring(jana))
    assert not judge.violations["a second time"]


def test_seven_days_are_counted_over_everything_and_a_matter_once() -> None:
    def week(third: int) -> dict[str, int]:
        jana = person(budget=2)
        question = ring(jana, "m2", about="question", question="q", at=MORNING + DAY)
        return judged(ring(jana), question, ring(jana, "m3", at=MORNING + third))

    assert week(7 * DAY - 1) == {"beyond the budget": 1}
    assert week(7 * DAY) == {}


def test_offers_have_a_number_of_their_own_and_recalls_cost_nothing() -> None:
    jana = person(budget=1, offers=1, agreed={"maintenance": True, "marketing": True})

    def about(matter: str, purpose: str) -> Any:
        plain = ring(jana, matter, purposes=(purpose,))
        return replace(plain, matter=replace(plain.matter, purpose=purpose))

    service, offer, recalls = about("m1", "maintenance"), about("m2", "marketing"), about("m3", "recall")
    assert judged(service, offer, recalls) == {}
    assert judged(about("m4", "marketing")) == {"beyond the budget": 1}


def test_what_is_over_is_not_offered() -> None:
    judge = promises.Judge()
    judge.rings(ring(person()))
    assert judge.violations == {"over already": 1}


def test_a_phone_that_was_off_must_not_get_at_night_what_was_kept_for_it() -> None:
    judge = promises.Judge()
    judge.turned_on(ring(person(), at=MORNING))
    assert not judge.violations["in quiet hours"]
    judge.turned_on(ring(person(), at=NIGHT))
    assert judge.violations["in quiet hours"] == 1


def test_a_display_is_judged_by_who_drives_and_by_what_the_rule_allows() -> None:
    driver = person(driving=True)
    shown = ring(driver, channel="display", target="car")
    judge = promises.Judge(cars={"car": driver})
    judge.shows(shown, rule(while_driving=True))
    judge.shows(shown, rule(), moving=False)  # they drive another car
    assert not any(judge.violations.values())
    judge.shows(shown, rule())
    assert judge.violations == {"on the display while driving": 1}
    judge.shows(replace(shown, target="washer", purposes=("usage",)), rule())
    assert judge.violations["without consent"] == 1
