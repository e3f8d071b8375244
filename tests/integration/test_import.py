"""`touchpoint import`: all of a file or nothing of it, every fault by its line."""

import asyncio
import json
from pathlib import Path

import pytest

from gateway.adapters.database import SqlDatabase
from gateway.cli import main

HEAD = "type,id,name,language,email,consents,kind,model,owner,workshop,hours,services\n"
GOOD = (
    HEAD
    + "device,car-1,,,,,car,Arden 5,jana,north,,\n"
    + "owner,jana,Jana Keller,de,jana@example.org,maintenance usage,,,,,,\n"
    + 'workshop,north,Nord,,,,,,,,"{""mon"": [[""08:00"", ""18:00""]]}",'
    + '"[{""id"": ""oil"", ""names"": {""en"": ""Oil""}, ""minutes"": 30}]"\n'
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOUCHPOINT_DATA_DIR", str(tmp_path / "data"))
    return tmp_path


def taken(home: Path, text: str, *options: str) -> int:
    file = home / "fleet.csv"
    file.write_text(text, encoding="utf-8")
    return main(["import", *options, str(file)])


async def held(home: Path) -> tuple[list[str], list[str], list[str]]:
    database = SqlDatabase(f"sqlite:///{home}/data/domain.db", now=lambda: 0)
    found = await database.read(
        lambda r: (
            [o.id for o in r.owners.page()],
            [d.id for d in r.devices.page()],
            [w.id for w in r.workshops.page()],
        )
    )
    await database.close()
    return found


def test_lines_may_name_one_another_in_any_order(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert taken(home, GOOD, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"workshop": 1, "owner": 1, "device": 1}


async def test_what_was_taken_is_there_with_its_consents_and_for_the_rules(home: Path) -> None:

    assert await asyncio.to_thread(taken, home, GOOD) == 0
    assert await held(home) == (["jana"], ["car-1"], ["north"])
    database = SqlDatabase(f"sqlite:///{home}/data/domain.db", now=lambda: 0)
    granted, queued, device = await database.read(
        lambda r: (
            r.owners.granted("jana", "maintenance"),
            [row.payload["device"] for row in r.outbox.page() if row.channel == "journal"],
            r.devices.get("car-1"),
        )
    )
    await database.close()
    assert (granted, queued, device.owner, device.workshop) == (True, ["car-1"], "jana", "north")


async def test_every_fault_is_named_by_its_line_and_nothing_is_taken(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:

    bad = GOOD + "owner,max,Max,,nobody,,,,,,,\ndevice,car-2,,,,,spaceship,,,,,\nthing,x,,,,,,,,,,\n"
    assert await asyncio.to_thread(taken, home, bad) == 1
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in said] == ["line 5", "line 7", "nothing was taken"]
    bad = GOOD + "device,car-2,,,,,spaceship,,,,,\ndevice,car-3,,,,,car,,nobody,,,\nowner,jana,J,,,,,,,,,\n"
    assert await asyncio.to_thread(taken, home, bad) == 1
    said = capsys.readouterr().err.splitlines()
    assert sorted(line.split(":")[0] for line in said) == ["line 5", "line 6", "line 7", "nothing was taken"]
    assert await held(home) == ([], [], [])


@pytest.mark.parametrize("text", ["", "type,id\n", "id,name\n1,2\n"])
def test_a_file_without_lines_or_types_is_refused(home: Path, text: str) -> None:
    assert taken(home, text) == 1


def test_a_file_that_is_no_csv_cannot_be_taken(home: Path) -> None:
    assert taken(home, 'type,id\nowner,"a\n') == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,name\njana,Jana\nmax,Max\n", "line 1: `type` is not among the names; there are: id, name."),
        ("type;id;name\nowner;jana;Jana\n", "Cells are parted by commas here, not by ';'."),
    ],
)
def test_a_file_without_types_is_told_once(
    home: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    assert taken(home, text) == 1
    first, last = capsys.readouterr().err.splitlines()
    assert said in first
    assert last == "nothing was taken"


def test_a_file_in_another_encoding_is_told_what_to_do(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "fleet.csv").write_bytes("type,id,name\nowner,max,Müller\n".encode("latin-1"))
    assert main(["import", str(home / "fleet.csv")]) == 2
    assert "save it as CSV in UTF-8" in capsys.readouterr().err


def test_consents_that_nobody_is_asked_for_are_faults(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = 'type,id,name,consents\nowner,jana,Jana,"maintenance,usage"\nowner,max,Max,maintenence\n'
    assert taken(home, text) == 1
    said = capsys.readouterr().err
    assert "line 2: consents: nobody is asked about 'maintenance,usage'; known are maintenance, " in said
    assert "line 3: consents: nobody is asked about 'maintenence'" in said


def test_hours_are_told_with_their_place(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hours = '"{""mon"": [[""8:00"", ""18:00""]]}"'
    assert taken(home, f"type,id,name,hours,services\nworkshop,north,Nord,{hours},oil\n") == 1
    said = capsys.readouterr().err
    assert "line 2: hours.mon.0.0: write it as a local time, 08:00." in said
    assert "line 2: services: a list is expected." in said
