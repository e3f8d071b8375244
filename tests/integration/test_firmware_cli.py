"""`touchpoint firmware …` as an operator types it, from a key to a rollout that has begun."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running_gateway import called

PLAN = {"groups": [{"name": "first", "percent": 50}, {"name": "rest"}], "ask_owner": False}


class Desk:
    """A folder with a store, in which commands are typed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: str) -> str:
        done = called("firmware", *words, settings={"data_dir": str(self.folder / "data")})
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def refused(self, *words: str) -> str:
        done = called("firmware", *words, settings={"data_dir": str(self.folder / "data")})
        assert done.returncode == 1, (words, done.stdout, done.stderr)
        return done.stderr

    def path(self, name: str) -> str:
        return str(self.folder / name)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    (tmp_path / "app.swu").write_bytes(b"firmware")
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))
    desk("keygen", desk.path("signing.key"))
    desk("key", "init", "--signer", desk.path("signing.key"))
    return desk


def sign(desk: Desk, *more: str) -> None:
    words = (
        "--kind",
        "car",
        "--version",
        "4.2.2",
        "--sequence",
        "7",
        "--minutes",
        "12",
        "--note",
        "en=Quieter",
    )
    desk("sign", desk.path("app.swu"), *words, *more)


def test_one_device_is_described_given_a_release_and_asked_to_stop(desk: Desk) -> None:
    sign(desk, "--key", desk.path("signing.key"))
    desk("upload", desk.path("app.swu.manifest"), desk.path("app.swu"))
    desk("device", "car-1", "--kind", "car")
    desk("describe", "car-1", "--tag", "fleet", "--tag", "berlin", "--country", "DE")
    assert "nothing was installed" in desk("history", "car-1")
    assert "there is no car 9.9.9" in desk.refused("assign", "car-1", "9.9.9")
    assert "is offered 4.2.2" in desk("assign", "car-1", "4.2.2")
    assert desk("cancel", "car-1") == "car-1: canceled\n", "the device did not know of it yet"
    assert "is at nothing" in desk.refused("cancel", "car-1")
    [line] = json.loads(desk("history", "car-1", "--json"))
    assert (line["version"], line["state"], line["report"]) == ("4.2.2", "canceled", "canceled")
    for words in (("history",), ("describe", "--tag", "x"), ("assign", "4.2.2"), ("cancel",)):
        assert "there is no device nobody" in desk.refused(words[0], "nobody", *words[1:])
    plan = {"groups": [{"name": "ours", "query": {"tags": ["berlin"], "countries": ["DE"]}}]}
    (desk.folder / "tags.json").write_text(json.dumps(plan))
    [group] = json.loads(
        desk("rollout", "new", "car", "4.2.2", desk.path("tags.json"), "--dry-run", "--json")
    )
    assert group["devices"] == ["car-1"]


def test_from_a_key_to_a_rollout_that_has_begun(desk: Desk) -> None:
    sign(desk, "--key", desk.path("signing.key"))
    desk("upload", desk.path("app.swu.manifest"), desk.path("app.swu"))
    (release,) = json.loads(desk("list", "--json"))
    assert (release["version"], release["state"]) == ("4.2.2", "current")
    tokens = {desk("device", f"car-{n}", "--kind", "car").strip() for n in range(4)}
    assert len(tokens) == 4
    new = ("rollout", "new", "car", "4.2.2", desk.path("plan.json"))
    dry = json.loads(desk(*new, "--dry-run", "--json"))
    assert [len(group["devices"]) for group in dry] == [2, 2]
    assert "car-" in desk(*new, "--dry-run")
    assert desk("rollout", "list") == "no rollouts yet\n"
    assert "rollout 1 is ready" in desk(*new)
    assert "running" in desk("rollout", "start", "1")
    assert "is running; start does not follow" in desk.refused("rollout", "start", "1")
    desk("rollout", "pause", "1")
    desk("rollout", "resume", "1")
    groups = json.loads(desk("rollout", "show", "1", "--json"))
    assert [group["size"] for group in groups] == [2, 2]
    desk("rollout", "stop", "1")
    assert "stopped" in desk("rollout", "list")
    assert desk("verify") == "every artifact is what it was\n"
    assert "withdrawn" in desk("withdraw", "car", "4.2.2")
    assert "there is no rollout 9" in desk.refused("rollout", "show", "9")


def test_a_release_is_signed_where_there_is_no_network_and_keys_are_turned_over(desk: Desk) -> None:
    sign(desk)
    assert "no trusted key" in desk.refused("upload", desk.path("app.swu.manifest"), desk.path("app.swu"))
    desk("sign", "--again", desk.path("app.swu.manifest"), "--key", desk.path("signing.key"))
    desk("upload", desk.path("app.swu.manifest"), desk.path("app.swu"))
    desk("keygen", desk.path("new.key"))
    old = next(row["key"] for row in json.loads(desk("key", "list", "--json")) if "release" in row["roles"])
    roles = ("--role", "trust", "--role", "release")
    desk("key", "add", desk.path("new.key.pub"), *roles, "--signer", desk.path("signing.key"))
    both = ("--signer", desk.path("signing.key"), "--signer", desk.path("new.key"))
    desk("key", "retire", old, *both)
    assert json.loads(desk("list", "--json"))[0]["state"] == "current", "what it signed stays"
    desk("key", "revoke", old, *both, "--out", desk.path("trust.json"))
    assert json.loads(desk("list", "--json"))[0]["state"] == "current", "only written so far"
    desk("trust", desk.path("trust.json"))
    assert json.loads(desk("list", "--json"))[0]["state"] == "revoked"
