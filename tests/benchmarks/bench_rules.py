"""What the rules cost: CPU microseconds a message, in process. Prints one JSON line a figure.

Five numeric signals a message, 1,000 devices in turn, 50 threshold rules with `for` (10 a signal) unless said
otherwise. "quiet": values between the thresholds, as sound devices send them. "noise": values drawn evenly
over a range whose end holds the thresholds, so that one message in six crosses ten of them at once. Messages
come in batches of 500, whose readings are made just before, as a gateway decodes a batch before the rules get
it: the clock stands still meanwhile. The empty loop is not subtracted. Median of five runs.
"""

from __future__ import annotations

import gc
import json
import random
import statistics
import time
from collections.abc import Callable

from rules import Catalogue, Engine, RuleSet, load

RANGES = {
    "speed": (0, 120, 119.0, 0.05),
    "coolant_temperature": (60, 100, 99.0, 0.05),
    "pad_wear_front": (0, 70, 69.0, 0.05),
    "battery_voltage": (11, 14, 13.9, 0.005),
    "odometer": (0, 800_000, 900_000.0, 1.0),
}
"""signal → smallest and largest value, first threshold, step to the next"""
MESSAGES = 20_000
BATCH = 500
CHUNKS = 6

Signals = dict[str, float]


def catalogue(names: list[str]) -> Catalogue:
    signals = "\n".join(f"  {name}: {{label: {{en: {name}, de: {name}}}}}" for name in names)
    return Catalogue.parse([("bench", f"kind: car\nlabel: {{en: Car, de: Auto}}\nsignals:\n{signals}\n")])


def rule(number: int, when: str, wait: str = "10m") -> str:
    return (
        f"- id: bench-{number:03d}\n  version: 1\n  kind: car\n  purpose: maintenance\n  severity: advice\n"
        f'  when: "{when}"\n  for: {wait}\n  touchpoint: {{kind: notice}}\n'
    )


def thresholds(count: int) -> RuleSet:
    names = list(RANGES)
    text = "".join(
        rule(i, f"{names[i % 5]} >= {RANGES[names[i % 5]][2] + RANGES[names[i % 5]][3] * (i // 5):g}")
        for i in range(count)
    )
    return load([("bench", text)], catalogue(names))


def half_windows() -> RuleSet:
    """25 thresholds, and 25 means and maxima over ten minutes, one hour and 30 days."""
    names, spans = list(RANGES), ("10m", "1h", "30d", "30d", "30d")
    text = "".join(
        rule(i, f"{names[i % 5]} >= {RANGES[names[i % 5]][2]:g}")
        if i % 2
        else rule(
            i, f"{('avg', 'max')[i % 4 // 2]}({names[i % 5]}, '{spans[i // 10]}') > {RANGES[names[i % 5]][1]}"
        )
        for i in range(50)
    )
    return load([("bench", text)], catalogue(names))


def spread() -> tuple[RuleSet, Callable[[random.Random, int], Signals]]:
    """500 rules over 50 signals, of which a message has five."""
    names = [f"signal_{i:02d}" for i in range(50)]
    text = "".join(rule(i, f"{names[i % 50]} >= {119 + i // 50 * 0.05:g}") for i in range(500))

    def message(rng: random.Random, k: int) -> Signals:
        first = k % 1000 % 10 * 5
        return {name: round(rng.random() * 118, 1) for name in names[first : first + 5]}

    return load([("bench", text)], catalogue(names)), message


def quiet(rng: random.Random, _: int) -> Signals:
    return {
        name: round(low + rng.random() * (min(limit, high) - low) * 0.99, 2)
        for name, (low, high, limit, _) in RANGES.items()
    }


def noise(rng: random.Random, _: int) -> Signals:
    return {name: round(low + rng.random() * (high - low), 2) for name, (low, high, _, _) in RANGES.items()}


def measure(
    rules: RuleSet, message: Callable[[random.Random, int], Signals], devices: int = 1000
) -> tuple[float, int]:
    """Microseconds a message, and the largest saved state in bytes."""
    rng, engine, position, spent = random.Random(1), Engine(rules), 0, 0.0
    pool = [message(rng, k) for k in range(MESSAGES)]
    names = [f"car-{k:06d}" for k in range(devices)]
    for chunk in range(CHUNKS + 3 * devices // MESSAGES):
        gc.collect()
        gc.disable()
        for first in range(0, MESSAGES, BATCH):
            log = []
            for k in range(first, first + BATCH):
                position += 1
                ts = 1_790_000_000_000 + position
                log.append((position, ts + 500, names[position % devices], [(ts, dict(pool[k]))]))
            began = time.process_time()
            for position, received, device, items in log:
                engine.readings(position, received, device, "car", items)
            if chunk >= 1 + 3 * devices // MESSAGES:
                spent += time.process_time() - began
        gc.enable()
    return spent / MESSAGES / (CHUNKS - 1) * 1e6, max(len(state) for _, state in engine.dirty())


def report(name: str, value: float, unit: str, limit: float | None, how: str) -> None:
    line = {"name": f"rules: {name}", "value": round(value, 2), "unit": unit, "limit": limit, "how": how}
    print(json.dumps(line), flush=True)


def main() -> None:
    def median(
        rules: RuleSet, message: Callable[[random.Random, int], Signals], devices: int = 1000
    ) -> tuple[float, int]:
        runs = [measure(rules, message, devices) for _ in range(5)]
        return statistics.median(us for us, _ in runs), max(size for _, size in runs)

    how = "five signals, 1,000 devices, median of 5"
    fifty, _ = median(thresholds(50), quiet)
    report("50 thresholds, quiet", fifty, "µs/message", 1.5, how)
    us, size = median(thresholds(50), noise)
    report("50 thresholds, noise", us, "µs/message", None, f"{how}; 1 message in 6 crosses 10 thresholds")
    report("50 thresholds, saved state", size, "bytes/device", 2048, "the largest of 1,000 devices")
    rules, message = spread()
    us, _ = median(rules, message)
    report("500 thresholds over 50 signals", us, "µs/message", None, how)
    report("500 over 50 signals : 50 over 5", us / fifty, "ratio", 1.5, how)
    us, size = median(half_windows(), quiet)
    report("25 thresholds, 25 windows", us, "µs/message", 5, f"{how}; spans 10m, 1h, 30d")
    report("25 windows, saved state", size, "bytes/device", 24_576, "after 100 ms of readings a device")


if __name__ == "__main__":
    main()
