"""What a backtest gets through: readings a second of one core's CPU, from a packed CSV file to the report.

A reading is one value of one signal; a row has five. 100 devices in turn, each once a minute, in the order of
time. The rules and the values are those of bench_rules.py. Median of three runs; the file is written before
the clock starts.
"""

from __future__ import annotations

import gc
import gzip
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bench_rules import RANGES, Signals, half_windows, noise, quiet, thresholds

from gateway.recordings import Recording
from rules import Engine, RuleSet
from rules.backtest import Backtest

ROWS = 60_000
DEVICES = 100
STEP_S = 60
BEGINS_S = 1_767_225_600


def write(path: Path, message: Callable[[random.Random, int], Signals]) -> None:
    rng = random.Random(1)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write(f"device,ts,{','.join(RANGES)}\n")
        for row in range(ROWS):
            ts = datetime.fromtimestamp(BEGINS_S + row // DEVICES * STEP_S, UTC)
            cells = ",".join(f"{value:g}" for value in message(rng, row).values())
            file.write(f"car-{row % DEVICES:03d},{ts:%Y-%m-%dT%H:%M:%SZ},{cells}\n")


def measure(path: Path, rules: RuleSet) -> float:
    """Readings a second."""
    gc.collect()
    began = time.process_time()
    recording = Recording(path, rules.catalogue, lambda _: "car")
    backtest = Backtest(Engine(rules), lambda _: "car")
    for portion in recording.portions():
        backtest.feed(portion)
    report = backtest.report()
    spent = time.process_time() - began
    assert report.readings == ROWS * len(RANGES)
    return report.readings / spent


def report(name: str, path: Path, rules: RuleSet, limit: float | None, how: str) -> None:
    value = statistics.median(measure(path, rules) for _ in range(3))
    line = {
        "name": f"backtest: {name}", "value": round(value), "unit": "readings/s", "limit": limit,
        "sense": "min", "how": f"{how}; packed CSV, five signals a row, median of 3",
    }  # fmt: skip
    print(json.dumps(line), flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        still, wild = Path(folder) / "quiet.csv.gz", Path(folder) / "noise.csv.gz"
        write(still, quiet)
        write(wild, noise)
        report("50 thresholds", still, thresholds(50), 300_000, "values between the thresholds")
        report("50 thresholds, noise", wild, thresholds(50), None, "1 row in 6 crosses 10 thresholds")
        report("25 thresholds, 25 windows", still, half_windows(), 300_000, "windows of 10m, 1h, 30d")


if __name__ == "__main__":
    main()
