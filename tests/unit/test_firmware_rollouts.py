"""Rollouts: who gets what, when the next group begins, and what stops them."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from firmware_lab import NOW, Works

from firmware_api import actions, releases, rollouts
from firmware_api.actions import Report
from firmware_api.release import ConflictError, ManifestError
from firmware_api.rollouts import Picture, Rollout, plan_of
from firmware_api.targets import Target

MINUTE = 60_000
HOUR = 60 * MINUTE
DONE = Report(execution="closed", finished="success", code=None, details=())
FAILED = Report(execution="closed", finished="failure", code=None, details=("out of space",))


class Desk:
    """A fleet of twenty cars with release 1.0.0, and 2.0.0 to roll out."""

    def __init__(self, folder: Path) -> None:
        self.works = Works(folder)
        self.works.release(b"1", "1.0.0", sequence=1)
        self.release = self.works.release(b"2", "2.0.0", sequence=2)
        self.works.register(
            [
                Target(
                    id=f"car-{n:02}",
                    kind="car",
                    model="Arden 5" if n < 15 else "Arden 3",
                    version="1.0.0",
                    country="DE" if n % 2 else "AT",
                    tags=("fleet",) if n < 4 else (),
                    owned=n >= 4,
                )
                for n in range(20)
            ]
        )

    def make(self, *groups: dict[str, Any], **plan: Any) -> int:
        asked = plan_of({"ask_owner": False, **plan, "groups": groups})
        return self.works.store.write(
            lambda c: rollouts.create(c, "test", self.release.id, asked, self.works.now, "me")
        )

    def begun(self, *groups: dict[str, Any], **plan: Any) -> int:
        number = self.make(*groups, **plan)
        self.steer(number, "start")
        self.step()
        return number

    def steer(self, rollout: int, move: str) -> Rollout:
        return self.works.store.write(lambda c: rollouts.steer(c, rollout, move, self.works.now, "me"))

    def step(self, after: int = 0) -> int:
        self.works.now += after
        return self.works.store.write(lambda c: rollouts.step(c, self.works.now))

    def get(self, rollout: int) -> Rollout:
        return self.works.store.read(lambda c: rollouts.get(c, rollout))

    def picture(self, rollout: int) -> list[Picture]:
        return self.works.store.read(lambda c: rollouts.picture(c, rollout))

    def running(self, rollout: int) -> list[tuple[str, int]]:
        """(device, action) of those that are at it."""
        rows = self.works.store.read(
            lambda c: c.execute(
                "SELECT target, id FROM actions WHERE rollout = ? AND state = 'running' ORDER BY id",
                (rollout,),
            ).fetchall()
        )
        return [(row["target"], row["id"]) for row in rows]

    def say(self, rollout: int, report: Report, count: int = 1_000) -> None:
        """The first of those at it report."""
        for device, action in self.running(rollout)[:count]:
            self.works.store.write(
                lambda c, d=device, a=action: actions.report(c, d, a, report, self.works.now)
            )


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def sizes(desk: Desk, rollout: int) -> list[int]:
    return [group.size for group in desk.picture(rollout)]


# --- who ----------------------------------------------------------------------------------------


def test_groups_take_those_that_fit_and_are_in_none_before(desk: Desk) -> None:
    number = desk.make(
        {"name": "ours", "query": {"tags": ["fleet"]}},
        {"name": "a quarter of the model", "query": {"models": ["Arden 5"]}, "percent": 25},
        {"name": "Austria", "query": {"countries": ["AT"]}},
        {"name": "two", "query": {"devices": ["car-05", "car-07", "car-99"]}},
        {"name": "rest", "query": {"firmware": ["1.0.0"]}},
    )
    found = sizes(desk, number)
    assert found[:2] == [4, 3]
    assert sum(found) == 20
    assert (
        desk.works.store.read(lambda c: c.execute("SELECT count(DISTINCT target) FROM actions").fetchone()[0])
        == 20
    )


def test_a_dry_run_says_who_would_get_it_and_changes_nothing(desk: Desk) -> None:
    plan = plan_of({"groups": [{"name": "some", "percent": 30, "pace": 2}, {"name": "rest"}]})
    groups = desk.works.store.read(lambda c: rollouts.dry_run(c, desk.release.id, plan, NOW))
    again = desk.works.store.read(lambda c: rollouts.dry_run(c, desk.release.id, plan, NOW))
    assert groups == again
    assert [len(group["devices"]) for group in groups] == [6, 14]
    assert (groups[0]["first"], groups[0]["last"]) == (NOW, NOW + 2 * MINUTE)
    assert groups[1]["first"] == NOW + 2 * MINUTE
    assert desk.works.store.read(rollouts.listed) == []
    number = desk.works.store.write(lambda c: rollouts.create(c, "x", desk.release.id, plan, NOW, "me"))
    rows = desk.works.store.read(
        lambda c: c.execute(
            "SELECT target FROM actions WHERE rollout = ? AND place = 0", (number,)
        ).fetchall()
    )
    assert {row["target"] for row in rows} == set(groups[0]["devices"])


def test_a_release_goes_only_to_devices_it_is_for(desk: Desk) -> None:
    works = desk.works
    desk.release = works.release(b"3", "3.0.0", sequence=3, models=("Arden 3",), lowest=1)
    assert sizes(desk, desk.make({"name": "all"})) == [5]
    desk.release = works.release(b"4", "4.0.0", sequence=4, lowest=2)
    with pytest.raises(ConflictError, match="no device fits"):
        desk.make({"name": "all"})


def test_nobody_is_taken_down_without_a_signed_override(desk: Desk) -> None:
    works = desk.works
    works.store.write(lambda c: c.execute("UPDATE targets SET sequence = 7, version = '7'"))
    with pytest.raises(ConflictError, match="no device fits"):
        desk.make({"name": "all"})
    desk.release = works.release(b"0", "0.9.0", sequence=3, downgrade=True)
    assert sizes(desk, desk.make({"name": "all"})) == [20]


@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"groups": []},
        {"groups": [{}]},
        {"groups": [{"name": ""}]},
        {"groups": [{"name": "a", "percent": 0}]},
        {"groups": [{"name": "a", "error": 0}]},
        {"groups": [{"name": "a", "pace": -1}]},
        {"groups": [{"name": "a", "query": {"colour": ["red"]}}]},
        {"groups": [{"name": "a"}], "mode": "maybe"},
        {"groups": [{"name": "a"}], "silence_h": 0},
        {"groups": [{"name": "a"}], "surprise": 1},
    ],
)
def test_what_is_no_plan_is_refused(plan: dict[str, Any]) -> None:
    with pytest.raises(ManifestError):
        plan_of(plan)


# --- when ---------------------------------------------------------------------------------------


def test_the_next_group_begins_when_enough_have_succeeded(desk: Desk) -> None:
    number = desk.begun({"name": "ten", "percent": 50, "success": 80}, {"name": "rest"})
    assert [g.running for g in desk.picture(number)] == [10, 0]
    desk.say(number, DONE, 7)
    desk.step()
    assert [g.running for g in desk.picture(number)] == [3, 0]
    desk.say(number, DONE, 1)
    desk.step()
    desk.step()
    assert [g.running for g in desk.picture(number)] == [2, 10]
    desk.say(number, DONE)
    desk.step()
    assert desk.get(number).state == "finished"
    assert [g.finished for g in desk.picture(number)] == [10, 10]
    assert {desk.works.target(f"car-{n:02}")["version"] for n in range(20)} == {"2.0.0"}


def test_devices_begin_at_the_pace_of_their_group(desk: Desk) -> None:
    number = desk.begun({"name": "all", "pace": 3})
    assert len(desk.running(number)) == 3
    assert desk.step(MINUTE - 1) == 0
    assert desk.step(1) == 3
    assert desk.step(2 * MINUTE) == 3, "never more in a minute"
    assert desk.step() == 0, "a step that is repeated changes nothing"


def test_a_pause_or_an_hour_in_which_nobody_looked_is_not_caught_up_with(desk: Desk) -> None:
    number = desk.begun({"name": "all", "pace": 3})
    desk.steer(number, "pause")
    desk.step(HOUR)
    desk.steer(number, "resume")
    assert [desk.step(), desk.step(MINUTE - 1), desk.step(1)] == [3, 0, 3]
    assert [desk.step(HOUR), desk.step(1)] == [3, 0]


def test_a_paused_rollout_begins_nobody_and_goes_on_where_it_was(desk: Desk) -> None:
    number = desk.begun({"name": "all", "pace": 5})
    desk.steer(number, "pause")
    assert desk.step(MINUTE) == 0
    desk.say(number, DONE)
    desk.steer(number, "resume")
    assert desk.step() == 5


def test_only_what_can_follow_is_done(desk: Desk) -> None:
    number = desk.make({"name": "all"})
    for move in ("pause", "resume"):
        with pytest.raises(ConflictError):
            desk.steer(number, move)
    desk.steer(number, "start")
    with pytest.raises(ConflictError):
        desk.steer(number, "start")
    desk.steer(number, "stop")
    assert desk.steer(number, "stop").state == "stopped"
    with pytest.raises(ConflictError):
        desk.steer(number, "resume")


# --- what stops it ------------------------------------------------------------------------------


def test_too_many_failures_stop_it_and_it_says_why(desk: Desk) -> None:
    number = desk.begun({"name": "first", "percent": 50, "error": 20, "pace": 5}, {"name": "rest"})
    desk.say(number, FAILED, 1)
    desk.step()
    assert desk.get(number).state == "running"
    device, action = desk.running(number)[0]
    desk.works.store.write(lambda c: actions.fetched(c, device, action, desk.works.now))
    other, second = desk.running(number)[1]
    desk.works.store.write(lambda c: actions.report(c, other, second, FAILED, desk.works.now))
    desk.step()
    held = desk.get(number)
    assert held.state == "stopped"
    assert held.reason == "first: 2 of 10 devices failed; that is 20.0 %, and 20 % stops it"
    assert desk.running(number) == [(device, action)], "who is in the middle is left to finish"
    first, rest = desk.picture(number)
    assert (first.canceled, rest.canceled) == (7, 10)
    assert [one.id for one in desk.works.store.read(rollouts.untold)] == [number]
    desk.works.store.write(lambda c: rollouts.told(c, number, NOW))
    assert desk.works.store.read(rollouts.untold) == []


def test_who_was_silent_and_has_not_begun_is_spared_it_too(desk: Desk) -> None:
    number = desk.begun({"name": "all", "error": 50}, silence_h=2)
    begun, action = desk.running(number)[0]
    desk.works.store.write(lambda c: actions.fetched(c, begun, action, desk.works.now))
    desk.say(number, DONE, 8)
    sleeping, other = desk.running(number)[-1]
    desk.step(2 * HOUR)
    held, (picture,) = desk.get(number), desk.picture(number)
    assert held.reason == "all: 12 of 20 devices failed, 12 of them silent; that is 60.0 %, and 50 % stops it"
    assert held.cause == {
        "code": "failed_silent",
        "group": "all",
        "of": 20,
        "failed": 12,
        "silent": 12,
        "share": 60.0,
        "limit": 50,
    }
    assert (picture.silent, picture.failed, picture.running) == (12, 12, 0), "and the picture stays as it was"
    assert desk.works.action(other)["state"] == "canceled", f"{sleeping} must not get it when it wakes up"


def test_a_release_that_expires_stops_its_rollouts_and_spares_who_has_not_begun(desk: Desk) -> None:
    number = desk.begun({"name": "first", "percent": 50}, {"name": "rest"})
    device, action = desk.running(number)[0]
    desk.works.store.write(lambda c: actions.fetched(c, device, action, desk.works.now))
    expires, key = desk.release.manifest.expires, desk.works.store.index_key()
    desk.works.store.write(lambda c: releases.refresh_index(c, expires, key))
    held = desk.get(number)
    assert (held.state, held.reason) == ("stopped", "the release has expired")
    assert desk.works.action(action)["state"] == "canceling", "who has begun is asked to stop"
    assert sum(group.canceled for group in desk.picture(number)) == 19
    assert [one.id for one in desk.works.store.read(rollouts.untold)] == [number]


def test_a_rollout_that_somebody_stops_is_no_news_and_one_that_is_done_is(desk: Desk) -> None:
    first = desk.begun({"name": "all"})
    desk.steer(first, "stop")
    assert desk.works.store.read(rollouts.untold) == []
    second = desk.begun({"name": "all"})
    desk.say(second, DONE)
    desk.step()
    assert [one.id for one in desk.works.store.read(rollouts.untold)] == [second]


def test_silence_counts_as_failure_after_its_deadline(desk: Desk) -> None:
    number = desk.begun({"name": "all", "error": 50}, silence_h=2)
    desk.say(number, DONE, 11)
    desk.step(2 * HOUR - 1)
    assert desk.get(number).state == "running"
    device, action = desk.running(number)[0]
    going = Report(execution="proceeding", finished="none", code=None, details=())
    desk.works.store.write(lambda c: actions.report(c, device, action, going, desk.works.now))
    desk.step(1)
    (group,) = desk.picture(number)
    assert (group.silent, group.failed, group.running) == (8, 8, 1)
    assert desk.get(number).state == "running"
    desk.step(2 * HOUR)
    assert desk.get(number).state == "running", "9 of 20 is less than half"


def test_a_silent_device_counts_again_when_it_is_heard_of(desk: Desk) -> None:
    number = desk.begun({"name": "all", "success": 100, "error": 100}, silence_h=1)
    desk.say(number, DONE, 19)
    desk.step(HOUR)
    assert desk.picture(number)[0].silent == 1
    assert desk.get(number).state == "running"
    desk.say(number, DONE)
    desk.step()
    (group,) = desk.picture(number)
    assert (group.silent, group.failed, group.finished) == (0, 0, 20)
    assert desk.get(number).state == "finished"


def test_a_group_that_can_no_longer_succeed_stops_it(desk: Desk) -> None:
    number = desk.begun({"name": "all", "success": 95, "error": 50})
    desk.say(number, FAILED, 2)
    desk.say(number, DONE)
    desk.step()
    assert desk.get(number).state == "stopped"
    assert "18 of 20 devices succeeded" in (desk.get(number).reason or "")


def test_a_withdrawn_release_stops_its_rollouts(desk: Desk) -> None:
    number = desk.begun({"name": "all", "pace": 5})
    key = desk.works.store.index_key()
    desk.works.store.write(lambda c: releases.withdraw(c, desk.release.id, releases.WITHDRAWN, NOW, key))
    assert desk.get(number).state == "stopped"
    assert desk.step(MINUTE) == 0
    assert desk.picture(number)[0].canceled == 20


# --- what happens meanwhile ---------------------------------------------------------------------


def test_who_has_it_already_is_done_and_who_does_not_fit_any_more_is_left_out(desk: Desk) -> None:
    number = desk.make({"name": "all"})
    store = desk.works.store
    store.write(lambda c: c.execute("UPDATE targets SET version = '2.0.0', sequence = 2 WHERE id = 'car-01'"))
    store.write(lambda c: c.execute("UPDATE targets SET version = '9', sequence = 9 WHERE id = 'car-02'"))
    desk.steer(number, "start")
    desk.step()
    (group,) = desk.picture(number)
    assert (group.finished, group.canceled, group.running) == (1, 1, 18)


def test_what_a_device_is_busy_with_is_stopped_first(desk: Desk) -> None:
    older = desk.begun({"name": "one", "query": {"devices": ["car-01"]}})
    desk.release = desk.works.release(b"6", "6.0.0", sequence=6)
    number = desk.begun({"name": "one", "query": {"devices": ["car-01"]}})
    states = desk.works.store.read(
        lambda c: [tuple(r) for r in c.execute("SELECT rollout, state FROM actions ORDER BY id")]
    )
    assert states == [(older, "canceling"), (number, "running")]


def test_products_that_somebody_uses_wait_for_their_owner(desk: Desk) -> None:
    number = desk.begun({"name": "all"}, ask_owner=True)
    (group,) = desk.picture(number)
    assert (group.waiting, group.running) == (16, 4)


def test_a_product_in_use_is_looked_at_before_it_installs_even_when_nobody_is_asked(desk: Desk) -> None:
    number = desk.begun({"name": "all"}, ask_owner=False)
    held = {device: desk.works.action(action) for device, action in desk.running(number)}
    owned = [row for device, row in held.items() if device >= "car-04"]
    assert {(row["consent"], row["held"]) for row in owned} == {("agreed", actions.UNCHECKED)}
    assert {(row["consent"], row["held"]) for device, row in held.items() if device < "car-04"} == {
        (None, None)
    }


def test_an_owner_has_notice_before_a_security_fix_is_forced(desk: Desk) -> None:
    at = desk.works.now + HOUR
    number = desk.begun({"name": "all"}, ask_owner=True, security=True, forced_at=at, notice_h=48)
    rows = desk.works.store.read(
        lambda c: c.execute("SELECT state, forced_at FROM actions WHERE rollout = ?", (number,)).fetchall()
    )
    asked = {row["forced_at"] for row in rows if row["state"] == "waiting"}
    assert asked == {desk.works.now + 48 * HOUR}, "not at the hour that the plan names: it would be too soon"
    assert {row["forced_at"] for row in rows if row["state"] == "running"} == {at}, "nobody to be asked"


def test_silence_is_not_counted_while_we_hold_an_update_back(desk: Desk) -> None:
    number = desk.begun({"name": "all", "query": {"devices": ["car-10"]}}, silence_h=2)
    ((_, action),) = desk.running(number)

    def hold(held: str | None, window: tuple[int, int] | None = None) -> None:
        desk.works.store.write(
            lambda c: actions.set_window(c, action, desk.works.now, window=window, held=held)
        )

    hold("battery")
    desk.step(30 * HOUR)
    assert desk.get(number).state == "running", "it was us who held it back"
    tomorrow = desk.works.now + 24 * HOUR
    hold(None, (tomorrow, tomorrow + HOUR))
    desk.step(24 * HOUR + HOUR + 2 * HOUR - 1)
    assert desk.get(number).state == "running"
    desk.step(1)
    assert desk.get(number).state == "stopped"


def test_no_device_is_in_a_rollout_twice(desk: Desk) -> None:
    number = desk.make({"name": "all"})
    with pytest.raises(sqlite3.IntegrityError):
        desk.works.store.write(
            lambda c: c.execute(
                "INSERT INTO actions (target, release, rollout, place, state, open, mode, created_at) "
                "VALUES ('car-01', ?, ?, 0, 'scheduled', 0, 'forced', 0)",
                (desk.release.id, number),
            )
        )


def test_the_picture_of_a_hundred_thousand_devices_is_one_query(desk: Desk) -> None:
    desk.works.register([Target(id=f"many-{n}", kind="car", version="1.0.0") for n in range(100_000)])
    number = desk.begun({"name": "first", "percent": 1}, {"name": "rest"})
    asked: list[str] = []
    with desk.works.store.connect() as connection:
        connection.set_trace_callback(asked.append)
        began = time.process_time()
        found = rollouts.picture(connection, number)
        took = time.process_time() - began
    assert len(asked) == 1
    assert sum(group.size for group in found) == 100_020
    assert took < 1.0
