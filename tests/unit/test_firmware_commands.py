"""touchpoint firmware: from a key to a listed release, and what it says when it refuses."""

from pathlib import Path

import pytest

from firmware_api import commands


def signed(folder: Path, *, kind: str = "car", expires: str | None = None) -> int:
    (folder / "app.bin").write_bytes(b"firmware")
    return commands.sign(
        folder / "app.bin", key=folder / "key", version="1.0.0", sequence=1, kind=kind, expires=expires
    )


def test_from_a_key_to_a_listed_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "firmware"
    assert commands.keygen(tmp_path / "key") == 0
    assert commands.trust(store, tmp_path / "key.pub") == 0
    assert signed(tmp_path, expires="2999-12-31") == 0
    assert commands.upload(store, tmp_path / "app.bin.manifest", tmp_path / "app.bin") == 0
    assert "car 1.0.0, 8 bytes" in capsys.readouterr().out
    (row,) = commands.releases(store)
    assert (row["kind"], row["version"], row["expires"]) == ("car", "1.0.0", "3000-01-01T00:00:00.000Z")


def test_a_refusal_is_one_line_with_its_reason_and_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "firmware"
    commands.keygen(tmp_path / "key")
    for refused in (
        lambda: signed(tmp_path, kind="no kind"),
        lambda: signed(tmp_path, expires="tomorrow"),
        lambda: commands.trust(store, tmp_path / "key"),
        lambda: (
            signed(tmp_path) or commands.upload(store, tmp_path / "app.bin.manifest", tmp_path / "app.bin")
        ),
    ):
        capsys.readouterr()
        assert refused() == 1
        assert capsys.readouterr().err.startswith("refused: ")
    assert commands.releases(store) == []
