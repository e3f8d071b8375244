"""What a backtest gets through: readings a second of one core's CPU, from a packed CSV file to the report.

A reading is one value of one signal; a row has five. 100 devices in turn, in the order of time. The rules
and the values are those of bench_rules.py. What runs is what `touchpoint rules backtest --readings` runs; the
file is written, and rules and settings are loaded, before the clock starts. Median of three runs.
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

from config import settings as configuration
from gateway.backtest import Job, from_file, rare_collections
from rules import RuleSet

ROWS = 60_000
DEVICES = 100
BEGINS_S = 1_767_225_600


def write(path: Path, message: Callable[[random.Random, int], Signals], step_s: int) -> Path:
    """Rows of which each device sends one in so many seconds."""
    rng = random.Random(1)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write(f"device,ts,{','.join(RANGES)}\n")
        for row in range(ROWS):
            ts = datetime.fromtimestamp(BEGINS_S + row // DEVICES * step_s, UTC)
            cells = ",".join(f"{value:g}" for value in message(rng, row).values())
            file.write(f"car-{row % DEVICES:03d},{ts:%Y-%m-%dT%H:%M:%SZ},{cells}\n")
    return path


def measure(path: Path, rules: RuleSet) -> float:
    """Readings a second."""
    job = Job(
        settings=configuration.load(None, {}), catalogue=rules.catalogue, sets=(rules,),
        kind="car", start=None, end=None, truth=None,
    )  # fmt: skip
    gc.collect()
    began = time.process_time()
    with rare_collections():
        (report,), _ = from_file(job, path)
    spent = time.process_time() - began
    assert report.readings == ROWS * len(RANGES)
    return report.readings / spent


def report(name: str, path: Path, rules: RuleSet, how: str) -> None:
    value = statistics.median(measure(path, rules) for _ in range(3))
    line = {
        "name": f"backtest: {name}", "value": round(value), "unit": "readings/s", "limit": 300_000,
        "sense": "min", "how": f"{how}; packed CSV, five signals a row, median of 3",
    }  # fmt: skip
    print(json.dumps(line), flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, still = Path(name), "values between the thresholds"
        second = write(folder / "second.csv.gz", quiet, 1)
        minute = write(folder / "minute.csv.gz", quiet, 60)
        noisy = write(folder / "noisy.csv.gz", noise, 60)
        windows = f"{still}, windows of 10m, 1h, 30d"
        report("50 thresholds, a row a minute", minute, thresholds(50), still)
        report("50 thresholds, noise", noisy, thresholds(50), "1 row in 6 crosses 10 thresholds")
        report("25 thresholds, 25 windows, a row a second", second, half_windows(), windows)
        report("25 thresholds, 25 windows, a row a minute", minute, half_windows(), windows)


if __name__ == "__main__":
    main()
