"""Letters: a line in a file of the day, once, whole, and harmless to spreadsheets."""

import csv
import os
from pathlib import Path

import pytest

from gateway.channels.letter import COLUMNS, LetterChannel
from gateway.domain.delivery import Delivery, Retry, Sent

NOON = 1_795_435_200_000  # 2026-11-23T12:00Z
DAY = 86_400_000


def letter(delivery_id: str, **changes: str) -> Delivery:
    payload = {
        "touchpoint": "t1",
        "owner": "jana",
        "name": "Jana Keller",
        "address": "Elbweg 1\n20457 Hamburg",
        "phone": "+49 40 123",
        "title": 'Pads at "2.5 mm"',
        **changes,
    }
    return Delivery(id=delivery_id, channel="letter", target="jana", key="k", payload=payload)


def lines(folder: Path, name: str = "2026-11-23.csv") -> list[dict[str, str]]:
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


async def test_a_letter_is_a_line_under_a_head_line(tmp_path: Path) -> None:
    channel = LetterChannel(tmp_path / "letters", lambda: NOON)
    for number in (1, 2):
        assert await channel.send(letter(f"d{number}")) == Sent(detail="written to 2026-11-23.csv")
    first, second = lines(tmp_path / "letters")
    assert tuple(first) == COLUMNS
    assert (first["delivery"], second["delivery"]) == ("d1", "d2")
    assert first["address"] == "Elbweg 1\n20457 Hamburg"
    assert first["title"] == 'Pads at "2.5 mm"'
    assert first["phone"] == "+49 40 123"


async def test_a_letter_is_written_once_also_across_midnight(tmp_path: Path) -> None:
    now = NOON
    channel = LetterChannel(tmp_path, lambda: now)
    await channel.send(letter("d1"))
    again = LetterChannel(tmp_path, lambda: now)  # after a crash
    assert await again.send(letter("d1")) == Sent(detail="written before to 2026-11-23.csv")
    now = NOON + DAY
    assert await again.send(letter("d1")) == Sent(detail="written before to 2026-11-23.csv")
    await again.send(letter("d2"))
    assert [line["delivery"] for line in lines(tmp_path)] == ["d1"]
    assert [line["delivery"] for line in lines(tmp_path, "2026-11-24.csv")] == ["d2"]


@pytest.mark.parametrize("name", ["=1+1", "+cmd|' /C calc'!A0", "-2", "@SUM(A1)"])
async def test_what_looks_like_a_formula_is_text(tmp_path: Path, name: str) -> None:
    await LetterChannel(tmp_path, lambda: NOON).send(letter("d1", name=name))
    assert lines(tmp_path)[0]["name"] == f"'{name}"


async def test_nobody_sees_half_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = LetterChannel(tmp_path, lambda: NOON)
    await channel.send(letter("d1"))
    before = (tmp_path / "2026-11-23.csv").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert isinstance(await channel.send(letter("d2")), Retry)
    assert (tmp_path / "2026-11-23.csv").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["2026-11-23.csv"]
    monkeypatch.undo()
    assert isinstance(await channel.send(letter("d2")), Sent)
    assert len(lines(tmp_path)) == 2


async def test_the_file_is_for_this_user_alone(tmp_path: Path) -> None:
    await LetterChannel(tmp_path / "letters", lambda: NOON).send(letter("d1"))
    assert (tmp_path / "letters" / "2026-11-23.csv").stat().st_mode & 0o077 == 0
