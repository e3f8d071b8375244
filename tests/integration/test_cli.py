"""The operator's commands: what they print, and the exit statuses that scripts trust."""

import argparse
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from real_parts import Mosquitto, free_port, wait_until
from running_gateway import (
    RunningGateway,
    called,
    fetch,
    now_ms,
    one_line,
    publish,
    running_gateway,
    telemetry,
)

from gateway import doctor
from gateway.channels.email import TIMEOUT_S
from gateway.cli import make_parser

TABLES = ("token list", "quarantine list", "journal status", "outbox list", "firmware list", "doctor")
RECEIVER = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
SECRET = "BTBZMqHH6r4Tts7J_aSIgg"
"""A browser's keys, from the example of RFC 8291, section 5."""
BAD = """
- id: hot
  version: 1
  kind: car
  purpose: safety
  severity: critical
  when: coolant_temprature > 115
  touchpoint: {kind: appointment, service: cooling-system, expires: 1d}
"""
WRONG = """
- id: hot
  version: 1
  kind: car
  purpose: safety
  severity: critical
  when: coolant_temperature > 115
  touchpoint: {kind: appointment, service: cooling-system, expires: 1d}
  examples:
    - given: {coolant_temperature: [[0m, 90], [1m, 91]]}
      expect: {fires_at: 1m}
"""


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    return {"data_dir": str(tmp_path / "data"), "web.port": str(free_port())}


def parsers(
    parser: argparse.ArgumentParser, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command with its parser, groups of commands included."""
    yield " ".join(path), parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from parsers(child, (*path, name))


COMMANDS = dict(parsers(make_parser()))


# --- all of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_that_it_understands(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        make_parser().parse_args([*command.split(), "--help"])
    assert ended.value.code == 0
    example = re.search(r"^example: touchpoint (.+)$", capsys.readouterr().out, re.MULTILINE)
    assert example is not None
    assert example[1].startswith(command)
    make_parser().parse_args(example[1].split())


@pytest.mark.parametrize("command", TABLES)
def test_what_prints_a_table_prints_json_too(command: str, settings: dict[str, str]) -> None:
    table = called(*command.split(), settings=settings)
    as_json = called(*command.split(), "--json", settings=settings)
    assert (table.returncode, as_json.returncode) == (0, 0), table.stderr + as_json.stderr
    assert table.stdout.strip()
    assert isinstance(json.loads(as_json.stdout), dict if command == "journal status" else list)


@pytest.mark.parametrize(
    "command",
    [
        "",
        "rnu",
        "token create",
        "token create --role king",
        "quarantine show first",
        "quarantine list --limit 0",
        "sim replay trips.csv --speed fast",
        "sim run --speed 0",
        "demo --speed -1",
        "demo --port 70000",
    ],
)
def test_what_cannot_be_understood_is_status_2_with_usage(command: str) -> None:
    done = called(*command.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: touchpoint")


def test_which_version_it_is() -> None:
    assert re.fullmatch(r"touchpoint \d+\.\d+\.\d+\n", called("--version").stdout)


def test_a_token_for_nobody_is_told_of(settings: dict[str, str]) -> None:
    made = called("token", "create", "--role", "owner", "--subject", "nobody", settings=settings)
    assert made.stdout.startswith("tp_")
    assert made.stderr == "note: there is no owner nobody yet\n"


@pytest.mark.parametrize(
    "command",
    [
        "token create --role owner",
        "token create --role operator --ttl 5y",
        "quarantine show 5",
        "quarantine replay",
        "quarantine replay 5",
        "outbox retry nothing",
        "rules check none.yaml",
        "rules test none.yaml",
        "rules backtest --readings none.csv",
        "sim score none",
        "user add --role workshop --email ben@example.com --name Ben",
        "firmware trust none.pub",
    ],
)
def test_what_cannot_be_done_is_status_2_with_one_line(command: str, settings: dict[str, str]) -> None:
    assert one_line(called(*command.split(), settings=settings)).startswith(
        f"touchpoint {command.split()[0]}: "
    )


# --- setup, doctor --------------------------------------------------------------------------------


def state_of(folder: Path) -> dict[str, bytes]:
    """Files that setup makes; SQLite's own side files come and go."""
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if not path.name.endswith(("-wal", "-shm")) and path.is_file()
    }


def test_setup_twice_changes_nothing(settings: dict[str, str]) -> None:
    first = called("setup", settings=settings)
    assert first.returncode == 0, first.stderr
    (secret,) = re.findall(r"tp_\S+", first.stdout)
    before = state_of(Path(settings["data_dir"]))
    second = called("setup", settings=settings)
    assert second.returncode == 0, second.stderr
    assert "operator: there is one" in second.stdout
    assert secret not in second.stdout
    assert state_of(Path(settings["data_dir"])) == before
    (token,) = json.loads(called("token", "list", "--json", settings=settings).stdout)
    assert (token["role"], token["revoked"]) == ("operator", None)


def lines(settings: dict[str, str], status: int) -> dict[str, tuple[str, str]]:
    """{what: (state, what to do)} of doctor."""
    done = called("doctor", "--json", settings=settings)
    assert done.returncode == status, done.stdout + done.stderr
    return {line["what"]: (line["state"], line["do"]) for line in json.loads(done.stdout)}


def test_doctor_finds_everything_good(settings: dict[str, str], mosquitto: Mosquitto) -> None:
    found = lines(settings | {"mqtt.url": mosquitto.url}, 0)
    assert {state for state, _ in found.values()} == {"good"}
    assert set(found) == {
        "settings",
        "data folder",
        "signals and rules",
        "guides and topics",
        "broker",
        "database and journal",
        "time series",
        "mail server",
        "mail that comes in",
        "pages",
    }


def test_doctor_says_of_every_part_that_is_wrong_what_to_do(settings: dict[str, str], tmp_path: Path) -> None:
    rules, nobody = tmp_path / "bad.yaml", free_port()
    rules.write_text(BAD)
    found = lines(
        settings
        | {
            "mqtt.url": f"mqtt://127.0.0.1:{nobody}",
            "rules.paths": json.dumps([str(rules)]),
            "timeseries.kind": "influxdb",
            "timeseries.url": f"http://127.0.0.1:{nobody}",
            "timeseries.org": "o",
            "timeseries.token": "t",
            "deliver.email.url": f"smtp://us:sesame@127.0.0.1:{nobody}",
        },
        1,
    )
    wrong = {what: do for what, (state, do) in found.items() if state == "wrong"}
    assert set(wrong) == {"signals and rules", "broker", "time series", "mail server"}
    assert "deliver.email.url" in wrong["mail server"]
    assert "sesame" not in str(found)
    assert "bad.yaml:7" in wrong["signals and rules"]
    assert "mqtt.url" in wrong["broker"]
    assert "timeseries.url" in wrong["time series"]


def test_doctor_does_not_wait_long_for_a_mail_server_that_says_nothing(
    settings: dict[str, str], mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor.MAIL_PATIENCE_S == 5 < TIMEOUT_S
    monkeypatch.setattr(doctor, "MAIL_PATIENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connections are made, nobody reads them
        url = f"smtp://us:sesame@127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        found = lines(settings | {"mqtt.url": mosquitto.url, "deliver.email.url": url}, 1)
        assert time.monotonic() - began < TIMEOUT_S / 2
    state, do = found.pop("mail server")
    assert state == "wrong"
    assert "has not answered within 0.2 s" in do
    assert "deliver.email.url" in do
    assert "sesame" not in do
    assert {state for state, _ in found.values()} == {"good"}


def test_doctor_looks_at_damaged_files_too(settings: dict[str, str]) -> None:
    folder = Path(settings["data_dir"])
    folder.mkdir()
    (folder / "domain.db").write_bytes(b"no database" * 1000)
    state, do = lines(settings, 1)["database and journal"]
    assert (state, "domain.db" in do) == ("wrong", True)


@pytest.mark.parametrize(
    ("file", "line"),
    [("state.db", "database and journal"), ("database.key", "database and journal")],
)
def test_doctor_finds_what_only_a_later_step_would(file: str, line: str, settings: dict[str, str]) -> None:
    folder = Path(settings["data_dir"])
    folder.mkdir()
    (folder / file).write_bytes(b"no database" * 1000)
    state, do = lines(settings, 1)[line]
    assert (state, file in do) == ("wrong", True)


@pytest.mark.parametrize(
    ("key", "value", "line", "said"),
    [
        ("devices.kinds", '{"car-*": "plane"}', "signals and rules", "known are car"),
        ("follow_up.working_time.holidays", "XX", "signals and rules", "no public holidays are known"),
        ("follow_up.working_time.time_zone", "Europe/Berln", "settings", "did you mean Europe/Berlin?"),
        ("follow_up.topics", "none.yaml", "guides and topics", "none.yaml"),
        ("web.host", "192.0.2.1", "pages", "cannot listen"),
    ],
)
def test_doctor_finds_names_of_what_is_not_there(
    key: str, value: str, line: str, said: str, settings: dict[str, str]
) -> None:
    state, do = lines(settings | {key: value}, 1)[line]
    assert (state, said in do) == ("wrong", True)


def test_doctor_lists_wrong_settings(settings: dict[str, str]) -> None:
    found = called("doctor", settings=settings | {"web.port": "many", "log.level": "loud"})
    assert found.returncode == 1
    assert re.search(r"settings +wrong +web.port.*65535", found.stdout)
    assert re.search(r"settings +wrong +log.level.*debug", found.stdout)


# --- tokens ---------------------------------------------------------------------------------------


def test_a_token_is_good_until_it_is_revoked(tmp_path: Path, mosquitto: Mosquitto) -> None:
    with running_gateway(tmp_path, mosquitto.url) as gateway:
        gateway.start()
        devices = f"http://127.0.0.1:{gateway.port}/api/v1/devices"
        secret = gateway.command("token", "create", "--role", "operator", "--ttl", "1h").stdout.strip()
        assert fetch(devices, token=secret).status == 200
        (token,) = json.loads(gateway.command("token", "list", "--json").stdout)
        assert secret not in json.dumps(token)
        assert token["subject"] is None
        gateway.command("token", "revoke", token["id"])
        wait_until(lambda: fetch(devices, token=secret).status == 401, "the token has ended")
        gateway.command("token", "revoke", token["id"], status=1)
        assert fetch(devices, token="tp_" + "x" * 43).status == 401


# --- rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["check", "test"])
def test_the_shipped_rules_are_sound(command: str) -> None:
    assert called("rules", command).returncode == 0


@pytest.mark.parametrize("command", ["check", "test"])
def test_a_broken_rule_is_a_finding_with_file_line_and_what_was_meant(command: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(BAD)
    said = f"{file}:7:9: hot: car has no signal coolant_temprature; did you mean coolant_temperature?"
    done = called("rules", command, file)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (1, said, "")
    done = called("rules", command, file, "--json")
    assert (done.returncode, json.loads(done.stdout)) == (1, [said])


def test_an_example_that_comes_out_otherwise_is_a_finding(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(WRONG)
    assert called("rules", "check", file).returncode == 0
    done = called("rules", "test", file)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"{file}:10: hot: expected: fires at 1m; happened: never fires",
        "0 passed, 1 failed",
    ]
    (result,) = json.loads(called("rules", "test", file, "--json").stdout)
    assert (result["rule"], result["passed"]) == ("hot", False)


def test_rules_without_examples_are_said_to_have_none_and_how_one_is_written(tmp_path: Path) -> None:
    file = tmp_path / "plain.yaml"
    file.write_text(WRONG[: WRONG.index("  examples:")])
    done = called("rules", "test", file)
    assert (done.returncode, done.stderr) == (0, "")
    assert "passed" not in done.stdout
    assert done.stdout.startswith("no rule here has examples")
    assert json.loads(called("rules", "test", file, "--json").stdout) == []
    file.write_text(file.read_text() + done.stdout[done.stdout.index("  examples:") :])
    done = called("rules", "test", file)
    assert (done.returncode, done.stdout) == (0, "2 passed, 0 failed\n")


# --- quarantine, journal, outbox ------------------------------------------------------------------


def rows(gateway: RunningGateway, *command: str) -> list[dict[str, Any]]:
    return json.loads(gateway.command(*command, "--json").stdout)


def test_what_was_quarantined_is_recorded_once_it_can_be(tmp_path: Path, mosquitto: Mosquitto) -> None:
    with running_gateway(tmp_path, mosquitto.url, devices__unclaimed="quarantine") as gateway:
        gateway.start()
        gateway.api("POST", "devices", {"id": "known", "kind": "car"})
        first = telemetry("car-1", now_ms(), speed=50)
        publish(mosquitto.url, [first, ("touchpoint/v1/known/telemetry", b"\xff\xfe")])
        gateway.until_total("touchpoint_messages_quarantined_total", 2)
        found = rows(gateway, "quarantine", "list")
        assert [row["replayed"] for row in found] == [None, None]
        of_nobody = next(row for row in found if row["reason"] == "unknown_device")
        shown = gateway.command("quarantine", "show", str(of_nobody["position"])).stdout
        assert first[1].decode() in shown
        garbage = next(row for row in found if row["reason"] != "unknown_device")
        assert "//4= (base64)" in gateway.command("quarantine", "show", str(garbage["position"])).stdout

        gateway.api("POST", "devices", {"id": "car-1", "kind": "car"})
        done = gateway.command("quarantine", "replay", "--reason", "unknown_device")
        assert done.stdout == "1 message put into the journal again\n"
        gateway.until_total("touchpoint_messages_recorded_total", 1)
        assert [value for _, value in gateway.readings("car-1", "speed")] == [50]
        (again,) = rows(gateway, "quarantine", "list", "--reason", "unknown_device")
        assert again["replayed"] is not None
        gateway.command("quarantine", "replay", "--reason", "unknown_device", status=1)  # nothing is left

        (status,) = [json.loads(gateway.command("journal", "status", "--json").stdout)]
        assert status["head"] >= 5
        assert set(status["readers"]) == {"record", "assess", "respond"}
        assert re.search(r"^record +\d+ +\d+$", gateway.command("journal", "status").stdout, re.MULTILINE)


def test_dead_letters_are_sent_again(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """A browser whose push service is gone: after the last attempt the delivery is dead."""
    gone = f"https://127.0.0.1:{free_port()}/push"
    rules = tmp_path / "pads.yaml"
    rules.write_text(
        "- {id: pads, version: 1, kind: car, purpose: maintenance, severity: advice,\n"
        "   when: pad_wear_front >= 80, clear: pad_wear_front < 60,\n"
        "   touchpoint: {kind: appointment, service: brakes-front, expires: 14d}}\n"
    )
    with running_gateway(
        tmp_path / "gateway",
        mosquitto.url,
        rules__paths=json.dumps([str(rules)]),
        deliver__retry_s="[0]",
        deliver__channels='["web_push"]',
        deliver__web_push__loopback="true",
        moments__quiet_from="00:00",
        moments__quiet_to="00:00",
        moments__driving_hold_s="0",
    ) as gateway:
        gateway.start()
        gateway.owner("owner", ["car-1"])
        keys = {
            "p256dh": RECEIVER,
            "auth": SECRET,
        }
        gateway.api("POST", "owners/owner/subscriptions", {"endpoint": gone, "keys": keys})
        publish(mosquitto.url, [telemetry("car-1", now_ms() + n, pad_wear_front=85) for n in range(3)])
        gateway.until_total("touchpoint_deliveries_total", 2)
        (dead,) = rows(gateway, "outbox", "list", "--state", "dead")
        assert (dead["channel"], dead["attempts"]) == ("web_push", 2)
        assert gateway.command("outbox", "retry", dead["id"]).stdout == "1 will be sent again\n"
        gateway.until_total("touchpoint_deliveries_total", 3)
