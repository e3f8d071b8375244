"""touchpoint firmware: from a key to a listed release, and what it says when it refuses."""

from pathlib import Path

import pytest

from firmware_api import commands


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
