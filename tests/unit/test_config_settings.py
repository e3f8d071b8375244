"""Settings: what overlays what, and that every fault is said at once, in words that help."""

import tomllib
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from pydantic import ValidationError

from config import data_path
from config.settings import Settings, SettingsError, leaves, load
from gateway.domain.policy import Policy
from gateway.parts import make_policy
from rules import RuleSet


def faults(environ: dict[str, str], path: Path | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load(path, environ)
    return str(caught.value)


def keys(table: dict[str, object], tables: set[tuple[str, ...]], prefix: tuple[str, ...] = ()) -> set[str]:
    found = set()
    for name, value in table.items():
        if isinstance(value, dict) and (*prefix, name) in tables:
            found |= keys(value, tables, (*prefix, name))
        else:
            found.add(".".join((*prefix, name)))
    return found


def test_the_reference_holds_every_setting_and_nothing_else() -> None:
    settings = {key for key, _ in leaves()}
    tables = {key[:n] for key in settings for n in range(1, len(key))}
    reference = tomllib.loads(data_path("default.toml").read_text())
    assert keys(reference, tables) == {".".join(key) for key in settings}


def test_every_setting_in_the_reference_has_its_comment() -> None:
    lines = data_path("default.toml").read_text().splitlines()
    for before, line in pairwise(lines):
        if " = " in line and not line.startswith("#"):
            assert before.startswith("# "), f"no comment above: {line}"


def test_the_defaults_need_nothing() -> None:
    settings = load(None, {})
    assert settings.mqtt.embedded
    assert settings.web.host == "127.0.0.1"
    assert settings.database_path == Path("data/domain.db")
    assert settings.public_url == "http://127.0.0.1:8080"


@pytest.mark.parametrize(
    ("host", "address"),
    [("0.0.0.0", "http://localhost:8080"), ("::", "http://localhost:8080"), ("::1", "http://[::1]:8080")],
)
def test_links_lead_to_an_address_that_a_browser_can_open(host: str, address: str) -> None:
    assert load(None, {"TOUCHPOINT_WEB__HOST": host}).public_url == address


def test_a_file_overlays_the_defaults_and_the_environment_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'data_dir = "/var/lib/x"\n[web]\nport = 9000\nhost = "0.0.0.0"\n[devices]\nkinds = {"a-*" = "car"}\n'
    )
    settings = load(file, {"TOUCHPOINT_WEB__PORT": "9001", "PATH": "/bin"})
    assert (settings.web.host, settings.web.port) == ("0.0.0.0", 9001)
    assert settings.data_dir == Path("/var/lib/x")
    assert settings.devices.kinds == {"a-*": "car"}
    assert settings.journal.batch_messages == load(None, {}).journal.batch_messages


def test_lists_and_tables_are_json_in_the_environment(tmp_path: Path) -> None:
    rules = tmp_path / "r.yaml"
    rules.touch()
    settings = load(
        None,
        {
            "TOUCHPOINT_DATA_DIR": "/d",
            "TOUCHPOINT_RULES__PATHS": f'["@default", "{rules}"]',
            "TOUCHPOINT_DEVICES__KINDS": '{"car-*": "car"}',
            "TOUCHPOINT_DELIVER__RETRY_S": "[1, 2]",
            "TOUCHPOINT_DELIVER__WEB_PUSH__LOOPBACK": "true",
        },
    )
    assert settings.data_dir == Path("/d")
    assert settings.rules.paths == ["@default", str(rules)]
    assert settings.devices.kinds == {"car-*": "car"}
    assert settings.deliver.retry_s == [1, 2]
    assert settings.deliver.web_push.loopback is True


def test_all_faults_are_reported_at_once_with_key_value_source_and_what_is_allowed(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[timeseries]\nkind = "influx"\n[jurnal]\nmax_bytes = 1\n[log]\nlevel = "loud"\n')
    text = faults(
        {
            "TOUCHPOINT_WEB__PORT": "99999",
            "TOUCHPOINT_RULES__PATHS": "mine.yaml",
            "TOUCHPOINT_MQTT__URL": "tcp://x",
        },
        file,
    )
    lines = text.splitlines()
    assert len(lines) == 6
    assert f'timeseries.kind = "influx" (file {file}): allowed is embedded or influxdb' in lines
    assert f'log.level = "loud" (file {file}): allowed is debug, info, warning or error' in lines
    assert (
        'web.port = "99999" (environment TOUCHPOINT_WEB__PORT): allowed is a whole number from 0 to 65535'
        in lines
    )
    assert any(line.startswith("rules.paths") and line.endswith("as JSON") for line in lines)
    assert any(line.startswith("jurnal") and "no such setting" in line for line in lines)
    assert any(line.startswith("mqtt.url") and "mqtts://host[:port]" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("TOUCHPOINT_MQTT__URLL", "mqtt.url"),
        ("TOUCHPOINT_MQTT_URL", "mqtt.url"),
        ("TOUCHPOINT_DATADIR", "data_dir"),
        ("TOUCHPOINT_TIMESERIES__TOKNE", "timeseries.token"),
        ("TOUCHPOINT_TIME_SERIES__TOKEN", "timeseries.token"),
        ("TOUCHPOINT_DELIVER__WEB_PUSH__SUBJECT", "deliver.web_push.vapid_subject"),
    ],
)
def test_a_misspelt_key_is_a_fault_that_names_the_nearest_and_hides_the_value(name: str, meant: str) -> None:
    text = faults({name: "sesame"})
    assert f"did you mean {meant}?" in text
    assert "sesame" not in text


def test_variables_of_the_tests_are_no_settings() -> None:
    load(None, {"TOUCHPOINT_TEST_INFLUX_URL": "http://x", "TOUCHPOINT_SHARED": "/x"})


def test_a_secret_may_be_the_content_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("t0p\n")
    assert load(None, {"TOUCHPOINT_MQTT__PASSWORD_FILE": str(file)}).mqtt.password.get_secret_value() == "t0p"
    config = tmp_path / "c.toml"
    config.write_text(f'[timeseries]\ntoken_file = "{file}"\n')
    assert load(config, {}).timeseries.token.get_secret_value() == "t0p"


def test_a_secret_file_that_cannot_be_read_or_is_one_too_many_is_a_fault(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert "mqtt.password_file" in faults({"TOUCHPOINT_MQTT__PASSWORD_FILE": str(missing)})
    both = {"TOUCHPOINT_MQTT__PASSWORD": "sesame", "TOUCHPOINT_MQTT__PASSWORD_FILE": str(missing)}
    text = faults(both)
    assert "given twice" in text
    assert "sesame" not in text


def test_secrets_are_shown_nowhere() -> None:
    settings = load(None, {"TOUCHPOINT_MQTT__PASSWORD": "sesame"})
    assert "sesame" not in repr(settings)
    assert "sesame" not in faults({"TOUCHPOINT_MQTT__URL": "mqtt://me:sesame@host"})


def test_influxdb_needs_its_address_and_token_and_says_so_together() -> None:
    text = faults({"TOUCHPOINT_TIMESERIES__KIND": "influxdb", "TOUCHPOINT_LOG__LEVEL": "loud"})
    assert [line.split(" ")[0] for line in sorted(text.splitlines())] == [
        "log.level",
        "timeseries.org",
        "timeseries.token",
        "timeseries.url",
    ]


@pytest.mark.parametrize(
    ("environ", "key"),
    [
        (
            {"TOUCHPOINT_MQTT__URL": "mqtts://h", "TOUCHPOINT_MQTT__CA_FILE": "/nowhere/ca.pem"},
            "mqtt.ca_file",
        ),
        ({"TOUCHPOINT_MQTT__URL": "mqtt://h:0"}, "mqtt.url"),
        ({"TOUCHPOINT_MQTT__URL": "mqtt://h:70000"}, "mqtt.url"),
        ({"TOUCHPOINT_MQTT__USERNAME": "x"}, "mqtt.username"),
        ({"TOUCHPOINT_WEB__PUBLIC_URL": "https://tp.example.com"}, "mqtt.url"),
        ({"TOUCHPOINT_RULES__PATHS": '["/nowhere.yaml"]'}, "rules.paths"),
        ({"TOUCHPOINT_DATA_DIR": __file__}, "data_dir"),
        ({"TOUCHPOINT_CODECS": '{"plant/#": "sparkplug"}'}, "codecs"),
        ({"TOUCHPOINT_CODECS": '{"plant/+": "nothing"}'}, "codecs"),
        ({"TOUCHPOINT_CODECS": '{"plant/one": "senml_json"}'}, "codecs"),
        ({"TOUCHPOINT_CODECS": '{"touchpoint/#": "senml_json"}'}, "codecs"),
        ({"TOUCHPOINT_CODECS": '{"+/senml": "senml_cbor"}'}, "codecs"),
        ({"TOUCHPOINT_CODECS": '{"a/#/b": "senml_json"}'}, "codecs"),
        ({"TOUCHPOINT_DATABASE__URL": "postgresql://h/db"}, "database.url"),
    ],
)
def test_values_that_contradict_or_name_what_is_not_there_are_faults(
    environ: dict[str, str], key: str
) -> None:
    assert any(line.startswith(key) for line in faults(environ).splitlines())


def test_a_file_that_is_missing_or_not_toml_is_one_fault_among_the_others(tmp_path: Path) -> None:
    assert "No such file" in faults({"TOUCHPOINT_WEB__PORT": "x"}, tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[web\n")
    text = faults({"TOUCHPOINT_WEB__PORT": "x"}, broken)
    assert "is not TOML" in text
    assert "web.port" in text


def test_settings_do_not_change() -> None:
    settings: Settings = load(None, {})
    with pytest.raises(ValidationError):
        settings.web.port = 1  # type: ignore[misc] # that it cannot be set is what is tested


def test_the_policy_of_the_shipped_settings_is_the_policy_without_settings() -> None:
    no_rules = cast(RuleSet, SimpleNamespace(rules={}))
    assert make_policy(load(None, {}), no_rules) == Policy()
