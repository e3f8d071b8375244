"""A file's devices shared out among processes: the reports are those of one process."""

from __future__ import annotations

import os
import random
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from rules_case import CATALOGUE, NOON, rule, ruleset

from config import settings as configuration
from gateway.backtest import Job, Share, elsewhere, from_file
from gateway.domain.errors import CannotStartError
from gateway.recordings import RecordingError
from rules.backtest import Event, KnownDevice, Truth

ALONE = (
    rule("temperature > 60", id="hot", for_="1h"),
    rule("avg(temperature, '1d') > 45 and silent('2h')", id="warm-and-silent", for_="0s"),
    rule("speed > 90", id="fast", for_="0s", clear="speed < 20"),
)
COMPARED = (*ALONE, rule("fleet(speed) > 1.2", id="unlike-others", for_="0s"))


def job(*rules: str, processes: int = 1) -> Job:
    names = [f"van-{number:02d}" for number in range(30)]
    return Job(
        settings=configuration.load(None, {}),
        catalogue=CATALOGUE,
        sets=(ruleset(*rules), ruleset(*rules[:2])),
        kind="van",
        start=NOON,
        end=NOON + 9 * 86_400_000,
        truth=Truth(events=(Event(device="van-03", ts=NOON + 10**8, kind="failure:fan"),)),
        known={name: KnownDevice(kind="van", model=f"m{int(name[-2:]) % 2}") for name in names},
        owners={name: f"owner-{name[-1]}" for name in names},
        processes=processes,
    )


def write(path: Path, rows: int = 3_000) -> Path:
    """Ten days of thirty vans, some rows late or said twice; the last van falls silent early."""
    rng, lines = random.Random(7), ["device,ts,temperature,speed,nonsense"]
    for row in range(rows):
        ts = NOON + row * 288_000 - rng.choice([0] * 20 + [7_200_000])
        device = rng.randrange(30 if row < rows // 3 else 29)
        speed = "" if rng.random() < 0.3 else f"{rng.random() * 100:.1f}"
        lines += [f"van-{device:02d},{ts},{rng.random() * 80:.1f},{speed},1"] * rng.choice([1] * 9 + [2])
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("rules", [ALONE, COMPARED], ids=["alone", "compared"])
def test_any_number_of_processes_tells_the_same(tmp_path: Path, rules: tuple[str, ...]) -> None:
    path = write(tmp_path / "readings.csv")
    reports, ignored = from_file(job(*rules), path)
    assert all(count.touchpoints for count in reports[0].rules)
    assert min(reports[0].late, reports[0].duplicates) > 0
    assert ignored == {"nonsense"}
    for processes in (2, 3):
        assert from_file(job(*rules, processes=processes), path) == (reports, ignored)


def test_more_processes_than_devices(tmp_path: Path) -> None:
    path = tmp_path / "readings.csv"
    path.write_text(f"device,ts,speed\nvan-01,{NOON},95\n", encoding="utf-8")
    assert from_file(job(*ALONE, processes=3), path) == from_file(job(*ALONE), path)


def test_devices_that_are_compared_fall_to_the_same_process(tmp_path: Path) -> None:
    shares = [Share(job(*COMPARED, processes=2), tmp_path, number) for number in range(2)]
    taken = [[d for d in sorted(job().known) if share.mine(d)] for share in shares]
    assert taken == [[f"van-{n:02d}" for n in range(30) if n % 2 == part] for part in (0, 1)]
    alone = [Share(job(*ALONE, processes=2), tmp_path, number) for number in range(2)]
    order = ["van-02", "van-04", "van-05"]
    assert [[share.mine(device) for device in order] for share in alone] == [
        [True, False, True],
        [False, True, False],
    ]


def test_a_fault_in_the_file_is_said_by_the_command_itself(tmp_path: Path) -> None:
    path = tmp_path / "readings.csv"
    path.write_text(f"device,ts,speed\nvan-01,{NOON},95\nvan-02,yesterday,1\n", encoding="utf-8")
    with pytest.raises(RecordingError, match="row 3: 'yesterday' is no time"):
        from_file(job(*ALONE, processes=2), path)


class KilledAtOnce(Share):
    """Its process is killed while it reads."""

    def there(self, pipe: Connection) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class KilledWaiting(Share):
    """Its process is killed while it waits for the others."""

    def there(self, pipe: Connection) -> None:
        pipe.send(("last", None))
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("killed", [KilledAtOnce, KilledWaiting])
def test_a_process_that_is_killed_is_told_and_no_success(
    tmp_path: Path, request: pytest.FixtureRequest, killed: type[Share]
) -> None:
    """Also to a command that does not end at once when it is told to, for what it forks does not either."""
    path, asked = write(tmp_path / "readings.csv", rows=300), job(*ALONE, processes=2)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    request.addfinalizer(lambda: signal.signal(signal.SIGTERM, before))
    with pytest.raises(CannotStartError, match="ended early; where memory is short, try fewer: --jobs 1"):
        elsewhere([Share(asked, path, 0), killed(asked, path, 1)])


class Interrupted(Share):
    """Its process is interrupted, as all are by Ctrl-C, while it reads."""

    def mine(self, device: str) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        return super().mine(device)


def test_the_processes_leave_an_interrupt_to_the_command(tmp_path: Path) -> None:
    path, asked = write(tmp_path / "readings.csv", rows=300), job(*ALONE, processes=2)
    shares = [Interrupted(asked, path, number) for number in range(2)]
    assert elsewhere(shares) == elsewhere([Share(asked, path, number) for number in range(2)])
