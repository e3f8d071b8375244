"""Recorded readings: what a tidy file holds, and when its rows are sent."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from device_sim.commands import ReplayError, Row, play_at, replay_rows, rows
from device_sim.player import Player
from device_sim.scenario import Scenario

TIDY = """device,ts,speed,dtc[],state,running
car-1,1795000000000,12.5,P0217|C0040,idle,true
car-1,2026-11-18T11:06:45Z,13,,,
car-2,2026-11-18T12:06:46+01:00,,,,
car-2,1795000007000,0,,,FALSE
"""


class Wall:
    """A wall clock that moves by sleeping."""

    def __init__(self) -> None:
        self.now = 100.0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def written(folder: Path, text: str, name: str = "tidy.csv") -> Path:
    path = folder / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["tidy.csv", "tidy.csv.gz"])
def test_a_tidy_file_is_read_with_its_types(tmp_path: Path, name: str) -> None:
    assert list(rows(written(tmp_path, TIDY, name))) == [
        Row(
            "car-1",
            1795000000000,
            {"speed": 12.5, "dtc": ["P0217", "C0040"], "state": "idle", "running": True},
        ),
        Row("car-1", 1795000005000, {"speed": 13}),
        Row("car-2", 1795000007000, {"speed": 0, "running": False}),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the first columns have to be device,ts, not nothing"),
        ("ts,device\n", "not ts,device"),
        ("device,ts,speed\nc,soon,1\n", "line 2: 'soon' is no time"),
        ("device,ts,speed\nc,2026-11-18T11:06:45,1\n", "line 2: '2026-11-18T11:06:45' has no time zone"),
        ("device,ts,speed\nc,1,1\nc,2\n", "line 3: 2 cells, but 3 columns"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ReplayError, match=said):
        list(rows(written(tmp_path, text)))


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match="No such file"):
        list(rows(tmp_path / "none.csv"))


async def replayed(path: Path, speed: float | None) -> tuple[list[tuple[float, str, Any]], dict[str, Any]]:
    wall, sent = Wall(), []

    async def publish(topic: str, payload: bytes) -> None:
        sent.append((wall.now - 100, topic, json.loads(payload)))

    told = await replay_rows(rows(path), publish, speed, clock=wall.clock, sleep=wall.sleep)
    return sent, told


async def test_rows_are_sent_in_order_at_the_speed_asked(tmp_path: Path) -> None:
    sent, told = await replayed(written(tmp_path, TIDY), 10)
    assert [at for at, _, _ in sent] == pytest.approx([0, 0.5, 0.7])
    assert sent[0][1] == "touchpoint/v1/car-1/telemetry"
    assert [body["seq"] for _, _, body in sent] == [1, 2, 1]
    assert sent[1][2] == {"ts": 1795000005000, "seq": 2, "signals": {"speed": 13}}
    assert told["messages"] == 3
    assert told["devices"] == 2


async def test_at_full_speed_nothing_waits(tmp_path: Path) -> None:
    sent, _ = await replayed(written(tmp_path, TIDY), None)
    assert {at for at, _, _ in sent} == {0}


async def test_a_scenario_is_played_at_a_speed_until_its_time_is_over() -> None:
    wall, scenario, at = Wall(), Scenario.load("small-fleet"), []

    async def publish(device: str, topic: str, payload: bytes) -> None:
        at.append((wall.now - 100, player.now))

    player = Player(scenario, 7, publish)
    await play_at(player, 3_600, 12, clock=wall.clock, sleep=wall.sleep)
    assert len(at) > 20
    assert all(real == pytest.approx((now - scenario.start) / 3_600_000) for real, now in at)
    assert wall.now == pytest.approx(112)
    assert player.now == scenario.start + 12 * 3_600_000
