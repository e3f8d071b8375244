"""touchpoint firmware: from a key to a listed release, and what it says when it refuses."""

from pathlib import Path

import pytest

from firmware_api import commands, targets
from firmware_api.release import ManifestError
from firmware_api.rollouts import Plan
from firmware_api.store import FirmwareStore


def signed(folder: Path, *, kind: str = "car", expires: str | None = None, sequence: int = 1) -> int:
    (folder / "app.bin").write_bytes(b"firmware")
    return commands.sign(
        [str(folder / "app.bin")],
        key=folder / "key",
        version="1.0.0",
        sequence=sequence,
        kind=kind,
        expires=expires,
        notes=["en=Quieter"],
    )


def uploaded(folder: Path) -> int:
    return commands.upload(folder / "firmware", folder / "app.bin.manifest", [folder / "app.bin"])


def test_from_a_key_to_a_listed_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "firmware"
    assert commands.keygen(tmp_path / "key") == 0
    assert commands.key_init(store, tmp_path / "key", None) == 0
    assert signed(tmp_path, expires="2999-12-31") == 0
    assert uploaded(tmp_path) == 0
    assert "car 1.0.0, 8 bytes" in capsys.readouterr().out
    (row,) = commands.listed(store)
    assert (row["kind"], row["version"], row["expires"]) == ("car", "1.0.0", "3000-01-01T00:00:00.000Z")
    assert commands.verify(store) == 0
    assert commands.withdraw(store, "car", "1.0.0") == 0
    assert commands.listed(store)[0]["state"] == "withdrawn"


def test_keys_are_rotated_offline_and_the_old_one_signs_nothing_new(tmp_path: Path) -> None:
    store, old, new = tmp_path / "firmware", tmp_path / "key", tmp_path / "new"
    for path in (old, new):
        commands.keygen(path)
    commands.key_init(store, old, tmp_path / "trust-1.json")
    assert commands.keys(store) == []
    assert commands.trust(store, tmp_path / "trust-1.json") == 0
    first = next(row["key"] for row in commands.keys(store) if "release" in row["roles"])
    second = tmp_path / "trust-2.json"
    added = commands.key_add(
        store, tmp_path / "new.pub", ["trust", "release"], [old, new], tmp_path / "trust-1.json", second
    )
    assert added == 0
    assert commands.trust(store, second) == 0
    assert commands.key_revoke(store, first, [old, new], None, None) == 0
    assert first not in [row["key"] for row in commands.keys(store)]
    signed(tmp_path)
    assert uploaded(tmp_path) == 1
    assert commands.sign_again(tmp_path / "app.bin.manifest", new) == 0
    assert uploaded(tmp_path) == 0


def test_a_device_gets_its_token_and_another_one_when_asked_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert commands.device(tmp_path / "firmware", "car-1", "car", "Arden 5") == 0
    first, second = capsys.readouterr().out.split()
    assert first != second
    assert len(first) == 32


def test_a_refusal_is_one_line_with_its_reason_and_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "firmware"
    commands.keygen(tmp_path / "key")
    for refused in (
        lambda: signed(tmp_path, kind="no kind"),
        lambda: signed(tmp_path, expires="tomorrow"),
        lambda: commands.key_init(store, tmp_path / "key.pub", None),
        lambda: commands.key_revoke(store, "0" * 16, [tmp_path / "key"], None, None),
        lambda: signed(tmp_path) or uploaded(tmp_path),
    ):
        capsys.readouterr()
        assert refused() == 1
        assert capsys.readouterr().err.startswith("refused: ")
    assert commands.listed(store) == []


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip()


def test_what_is_refused_says_what_to_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, key = tmp_path / "firmware", tmp_path / "key"
    commands.keygen(key)
    assert commands.keygen(key) == 1
    assert "never overwritten" in said(capsys)
    assert commands.sign([str(key)], key=key, version="", sequence=0, kind="") == 1
    assert said(capsys) == "refused: a release needs --kind and --version and --sequence"
    assert commands.sign_again(tmp_path / "x.manifest", None) == 1
    assert "--key" in said(capsys)
    assert commands.key_init(store, key, None) == 0
    assert commands.key_init(store, key, None) == 1
    assert "there is a trust document already" in said(capsys)


def test_a_device_that_is_known_learns_what_it_is(tmp_path: Path) -> None:
    store = tmp_path / "firmware"
    theirs = targets.Target(id="car-1", owned=True)
    FirmwareStore(store).write(lambda c: targets.register(c, [theirs], 0))
    assert commands.device(store, "car-1", "car", "Arden 5") == 0
    assert commands.device(store, "car-1", None, None) == 0
    held = FirmwareStore(store).read(lambda c: (targets.kind_of(c, "car-1"), targets.is_owned(c, "car-1")))
    assert held == ("car", True)


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        ('{"group": []}', "a plan has no group; known are groups, mode, silence_h"),
        ("{}", "groups are missing"),
        ('{"groups": [{"nam": "x"}]}', "a group has no nam; known are name, query"),
        ('{"groups": [{"percent": 1}]}', "a group has no name"),
        ('{"groups": ["x"]}', "a group is an object"),
        ('{"groups": [{"name": "x", "query": {"tag": ["a"]}}]}', "a query has no tag; known are models"),
    ],
)
def test_a_plan_with_a_typo_is_refused_in_words(plan: str, problem: str) -> None:
    with pytest.raises(ManifestError, match=problem):
        Plan.from_json(plan)


def test_a_country_is_two_letters(tmp_path: Path) -> None:
    store = tmp_path / "firmware"
    commands.device(store, "car-1", "car", None)
    with pytest.raises(ManifestError, match="two capital letters"):
        FirmwareStore(store).write(lambda c: targets.describe(c, "car-1", "Germany", None))
