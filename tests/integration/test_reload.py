"""Rules are changed while the gateway runs: by signal and by API, all or nothing, and across kill -9."""

import contextlib
import json
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from real_parts import Mosquitto
from running_gateway import RunningGateway, fetch, now_ms, publish, running_gateway, telemetry, wait_until

from gateway.domain.times import rfc3339

HOUR = 3_600_000

PADS = """
- id: pads
  version: {version}
  kind: car
  purpose: maintenance
  severity: advice
  when: {when}
  touchpoint: {{kind: appointment, service: brakes-front, expires: 14d}}
"""
OIL = """
- id: oil
  version: 1
  kind: car
  purpose: maintenance
  severity: advice
  when: max(pad_wear_rear, '2d') > 60 and count(pad_wear_rear, '2d') >= 5
  touchpoint: {kind: hint}
"""


class Edited(RunningGateway):
    """A gateway whose one rule file is edited under it."""

    @property
    def rules(self) -> Path:
        return self.folder / "rules.yaml"

    def write(self, *texts: str) -> None:
        self.rules.write_text("".join(texts))

    def hang_up(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def query(self, sql: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(self.data / "domain.db", timeout=30)) as database:
            return database.execute(sql).fetchall()

    def shown(self) -> dict[str, int]:
        """The rules in force as {id: version}."""
        return {rule["id"]: rule["version"] for rule in self.all("rules")}

    def until_shown(self, **rules: int) -> None:
        wait_until(lambda: self.shown() == rules, f"the rules are {rules}", every=0.05)

    def reports(self, *readings: tuple[int, float], signal: str = "pad_wear_front") -> None:
        """(ms before now, value) of the car's."""
        now = now_ms()
        publish(self.broker, [telemetry("car-1", now - ago, **{signal: value}) for ago, value in readings])

    def findings(self) -> list[tuple[str, int]]:
        return [
            tuple(row) for row in self.query("SELECT rule, version FROM findings ORDER BY position, rule")
        ]

    def until_found(self, *expected: tuple[str, int]) -> None:
        wait_until(
            lambda: self.findings() == [*expected],
            f"found is {expected}, not {self.findings()}",
            90,
            every=0.05,
        )


@pytest.fixture
def gateway(start_mosquitto: Callable[..., Mosquitto], tmp_path: Path) -> Iterator[Edited]:
    broker = start_mosquitto().url
    rules = tmp_path / "rules.yaml"
    rules.write_text(PADS.format(version=1, when="pad_wear_front >= 80"))
    with running_gateway(tmp_path, broker, rules__paths=json.dumps([str(rules)])) as plain:
        edited = Edited(folder=plain.folder, broker=plain.broker, settings=plain.settings, port=plain.port)
        try:
            yield edited
        finally:
            plain.process = edited.process


def begin(gateway: Edited) -> None:
    gateway.start()
    gateway.owner("owner", ["car-1"])


def test_a_signal_brings_the_new_rules_and_a_broken_file_changes_nothing(gateway: Edited) -> None:
    begin(gateway)
    gateway.until_shown(pads=1)
    gateway.write(PADS.format(version=2, when="pad_wear_front >= 70"), OIL)
    gateway.hang_up()
    gateway.until_shown(pads=2, oil=1)
    gateway.reports((0, 75.0))
    gateway.until_found(("pads", 2))

    gateway.write(PADS.format(version=3, when="pad_waer_front >= 60"))
    gateway.hang_up()
    wait_until(lambda: "did you mean pad_wear_front" in gateway.log, "the fault is logged", every=0.05)
    assert gateway.shown() == {"pads": 2, "oil": 1}
    said = gateway.command("doctor", status=1).stdout
    assert f"{gateway.rules}:7:9" in said, said
    gateway.write(PADS.format(version=4, when="pad_wear_front >= 60"))
    gateway.hang_up()
    gateway.until_shown(pads=4)


def test_the_api_answers_with_every_fault_and_its_place(gateway: Edited) -> None:
    begin(gateway)
    same = gateway.api("POST", "rules/reload")
    assert (same["changed"], same["rules"]) == (False, 1)
    gateway.write(PADS.format(version=2, when="pad_waer_front >= 60"), OIL.replace("hint", "hints"))
    refused = fetch(f"http://127.0.0.1:{gateway.port}/api/v1/rules/reload", "POST", token=gateway.token)
    assert refused.status == 422
    assert refused.body["type"] == "urn:touchpoint:problem:rules-refused"
    faults = [
        (fault["file"], fault["line"], fault["column"], fault["rule"]) for fault in refused.body["faults"]
    ]
    assert faults == [(str(gateway.rules), 7, 9, "pads"), (str(gateway.rules), 16, 22, "oil")]
    assert "did you mean pad_wear_front" in refused.body["faults"][0]["message"]
    gateway.rules.unlink()
    missing = fetch(f"http://127.0.0.1:{gateway.port}/api/v1/rules/reload", "POST", token=gateway.token)
    assert (missing.status, missing.body["faults"][0]["file"]) == (422, str(gateway.rules))
    gateway.write(PADS.format(version=2, when="pad_wear_front >= 60"))
    changed = gateway.api("POST", "rules/reload")
    assert (changed["changed"], changed["rules"]) == (True, 1)
    gateway.until_shown(pads=2)
    owner = gateway.command("token", "create", "--role", "owner", "--subject", "owner").stdout.strip()
    assert fetch(f"http://127.0.0.1:{gateway.port}/api/v1/rules/reload", "POST", token=owner).status == 403


def test_windows_of_a_new_rule_are_warm_and_it_does_not_fire_for_the_past(gateway: Edited) -> None:
    begin(gateway)
    gateway.reports(*((hours * HOUR, 70.0) for hours in (6, 5, 4, 3)), signal="pad_wear_rear")
    wait_until(lambda: gateway.total("touchpoint_messages_recorded_total") >= 4, "recorded", every=0.05)
    gateway.write(PADS.format(version=1, when="pad_wear_front >= 80"), OIL)
    gateway.hang_up()
    gateway.until_shown(pads=1, oil=1)
    assert gateway.findings() == []
    gateway.reports((0, 20.0), signal="pad_wear_rear")
    gateway.until_found(("oil", 1))


def test_a_rule_that_is_taken_out_withdraws_what_it_asked(gateway: Edited) -> None:
    begin(gateway)
    gateway.reports((0, 85.0))
    gateway.until_found(("pads", 1))
    gateway.write(OIL)
    gateway.hang_up()
    gateway.until_shown(oil=1)
    wait_until(
        lambda: {t["state"] for t in gateway.all("touchpoints")} == {"withdrawn"}, "withdrawn", 30, every=0.05
    )
    codes = [line["code"] for line in gateway.all("owners/owner/ledger")]
    assert "withdrawn_rule_gone" in codes


def test_a_restart_goes_on_with_the_set_that_holds_and_takes_the_files_up_as_a_change(
    gateway: Edited,
) -> None:
    begin(gateway)
    gateway.reports((0, 75.0))
    gateway.write(PADS.format(version=2, when="pad_wear_front >= 70"))
    gateway.hang_up()
    gateway.until_shown(pads=2)
    gateway.kill()
    gateway.write(PADS.format(version=3, when="this is no rule"))
    gateway.start()
    assert gateway.shown() == {"pads": 2}
    gateway.reports((0, 76.0))
    gateway.until_found(("pads", 2))
    gateway.kill()
    gateway.write(PADS.format(version=3, when="pad_wear_front >= 90"))
    gateway.start()
    gateway.until_shown(pads=3)
    positions = [row[0] for row in gateway.query("SELECT position FROM rule_activations WHERE faults = '[]'")]
    assert positions == sorted(positions)
    assert positions[0] == 0


ASKED = "SELECT 1 FROM rule_activations WHERE by = 'signal'"
HOLDS = f"{ASKED} AND position IS NOT NULL"


@pytest.mark.parametrize("moment", [None, ASKED, HOLDS])
def test_a_kill_around_the_activation_leaves_one_set_whole(gateway: Edited, moment: str | None) -> None:
    """At once, when it has been asked for, when it holds: a restart takes up what is under way, the set
    comes to hold once, and is whole."""
    begin(gateway)
    gateway.reports((0, 75.0))
    gateway.write(PADS.format(version=2, when="pad_wear_front >= 70"), OIL)
    gateway.hang_up()
    if moment is not None:
        wait_until(lambda: gateway.query(moment) != [], "the moment has come", every=0.001)
    gateway.kill()
    gateway.start()
    gateway.until_shown(pads=2, oil=1)
    gateway.reports((0, 76.0))
    gateway.until_found(("pads", 2))
    assert gateway.query("SELECT count(*) FROM rule_activations WHERE position IS NOT NULL") == [(2,)]


def test_a_rule_is_explained_for_a_device_now_and_at_a_time_past(gateway: Edited) -> None:
    gateway.write(OIL, PADS.format(version=1, when="pad_wear_front >= 80 and odometer > 100"))
    begin(gateway)
    now = now_ms()
    publish(gateway.broker, [telemetry("car-1", now - 2 * HOUR, pad_wear_front=70.0, odometer=90.0)])
    publish(gateway.broker, [telemetry("car-1", now, pad_wear_front=85.0, odometer=120.0)])
    gateway.until_found(("pads", 1))
    said = gateway.command("rules", "explain", "pads", "--device", "car-1", "--language", "en").stdout
    assert "True: its episode has been open since" in said
    assert "Front brake pads at least 80 %: yes   [pad_wear_front >= 80]" in said.replace("\u00a0", " "), said
    then = rfc3339(now - HOUR)
    wait_until(lambda: gateway.total("touchpoint_messages_recorded_total") >= 2, "recorded", every=0.05)
    before = gateway.command(
        "rules", "explain", "pads", "--device", "car-1", "--at", then, "--json", status=1
    )
    found = json.loads(before.stdout)
    assert [part["value"] for part in found["when"]["parts"]] == [False, False]
    assert found["when"]["parts"][0]["parts"][0]["value"] == 70

    answer = gateway.api("GET", "rules/pads/explain?device=car-1")
    assert (answer["holds"], answer["when"]["parts"][1]["parts"][0]["value"]) == (True, 120)
    unknown = gateway.command("rules", "explain", "padz", "--device", "car-1", status=2).stderr
    assert unknown == "touchpoint rules: There is no rule padz; did you mean pads?\n"
    unknown = gateway.command("rules", "explain", "pads", "--device", "car-l", status=2).stderr
    assert unknown == "touchpoint rules: There is no device car-l; did you mean car-1?\n"
    assert fetch_status(gateway, "rules/padz/explain?device=car-1") == 404
    assert fetch_status(gateway, "rules/pads/explain?device=car-2") == 404


def fetch_status(gateway: Edited, path: str) -> int:
    return fetch(f"http://127.0.0.1:{gateway.port}/api/v1/{path}", token=gateway.token).status
