"""What 100,000 devices cost the rules: memory, and time a message beside 100 devices. One JSON line a figure.

50 threshold rules, five numeric signals a message. Every device has sent 95 messages, so that its memory of
timestamps is full; memory is what the process has grown by. Times are measured seven times in turns, since
what else runs on the processor's other cores can make a run half as long again; their medians are compared.
"""

from __future__ import annotations

import random
import statistics
from pathlib import Path

from bench_rules import measure, quiet, report, thresholds

from rules import Engine

DEVICES, MESSAGES = 100_000, 95


def resident_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this system does not say how much memory a process has")


def grown_mb() -> float:
    engine, names = Engine(thresholds(50)), [f"car-{number:06d}" for number in range(DEVICES)]
    signals, position, before = quiet(random.Random(1), 0), 0, resident_mb()
    for _ in range(MESSAGES):
        for name in names:
            position += 1
            ts = 1_790_000_000_000 + position
            engine.readings(position, ts + 500, name, "car", [(ts, dict(signals))])
    return resident_mb() - before


def main() -> None:
    report(f"{DEVICES:,} devices", grown_mb(), "MB", 300, f"50 thresholds, {MESSAGES} messages a device")
    rules = thresholds(50)
    runs = [(measure(rules, quiet, 100)[0], measure(rules, quiet, DEVICES)[0]) for _ in range(7)]
    few, many = (statistics.median(times) for times in zip(*runs, strict=True))
    how = f"50 thresholds, {many:.2f} : {few:.2f} µs, medians of 7"
    report(f"{DEVICES:,} devices : 100", many / few, "ratio of µs/message", 1.3, how)


if __name__ == "__main__":
    main()
