"""Simulated drives beside recorded ones: distributions, how far apart they are, pictures, a report.

    python tools/sim_trips.py path/to/car_trips docs/simulator

Recorded: readings.csv.gz with `trip`, one row every five seconds. Simulated: cars that report as often.
"""

from __future__ import annotations

import csv
import gzip
import json
import statistics
import sys
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from device_sim.fleet import Fleet
from device_sim.scenario import Scenario
from device_sim.wire import Reading

SIGNALS = {
    "speed": ("km/h", 0, 130, 26),
    "engine_speed": ("rpm", 0, 4000, 40),
    "engine_load": ("percent", 0, 100, 25),
    "coolant_temperature": ("°C", 10, 110, 25),
    "module_voltage": ("V", 11, 15, 40),
    "trip_minutes": ("min", 0, 80, 20),
}
"""signal → unit, range of the picture, number of its bars"""
TRIPS = """
    reports: full
    place: freiburg
    trips:
      - {days: [mon, tue, wed, thu, fri], leave: 07:20, arrive: 07:41, route: town, spread: 6m}
      - {days: [mon, tue, wed, thu, fri], leave: 12:10, arrive: 12:22, route: town, spread: 9m}
      - {days: [mon, tue, wed, thu, fri], leave: 13:05, arrive: 13:27, route: town, spread: 9m}
      - {days: [mon, tue, wed, thu, fri], leave: 17:30, arrive: 17:56, route: commute, spread: 15m}
      - {days: [sat], leave: 10:40, arrive: 11:12, route: town, spread: 30m}
"""
SCENARIO = """
name: trips
about: cars of the size of the recorded one, in a warm town and its surroundings
start: 2026-07-06 00:00
span: 21d
owners: [{id: owner, name: Owner}]
devices:
""" + "".join(
    f"  - id: car-{n}\n    kind: car\n    model: Arden 3\n    owner: owner{TRIPS}" for n in range(5)
)
Samples = dict[str, list[float]]


def recorded(folder: Path) -> Samples:
    """What was recorded while the engine ran; trips of idling are left out."""
    samples: Samples = defaultdict(list)
    spans: dict[str, list[float]] = defaultdict(list)
    with gzip.open(folder / "readings.csv.gz", "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if not row["trip"].startswith("live") or float(row["engine_speed"] or 0) < 300:
                continue
            for name in SIGNALS:
                if row.get(name):
                    samples[name].append(float(row[name]))
            spans[row["trip"]].append(datetime.fromisoformat(row["ts"].replace("Z", "+00:00")).timestamp())
    samples["trip_minutes"] = [(max(at) - min(at)) / 60 for at in spans.values()]
    return samples


def simulated(seed: int) -> Samples:
    """The same of simulated cars."""
    scenario = Scenario.parse(SCENARIO).peopled(seed)
    often = [
        device.model_copy(update={"trips": [t.model_copy(update={"every": 5_000}) for t in device.trips]})
        for device in scenario.part.devices
    ]
    scenario = Scenario(scenario.part.model_copy(update={"devices": often}))
    fleet, samples = Fleet(scenario, seed), defaultdict(list)
    for unit in fleet.units.values():
        unit.spoken = True
    last: dict[str, int] = {}
    while fleet.next_at() < scenario.end:
        for message in fleet.play():
            said: object = message.payload
            if isinstance(said, Reading):
                _note(samples, said)
            elif b"trip_started" in message.payload:
                last[message.device] = json.loads(message.payload)["ts"]
            elif b"trip_ended" in message.payload and message.device in last:
                samples["trip_minutes"].append(
                    (fleet.units[message.device].car.now - last[message.device] / 1000) / 60
                )  # type: ignore[attr-defined]
    return samples


def _note(samples: Samples, said: Reading) -> None:
    if float(said.signals.get("engine_speed", 0) or 0) < 300:
        return
    for name in SIGNALS:
        if name in said.signals:
            samples[name].append(float(said.signals[name]))


def distance(a: Sequence[float], b: Sequence[float]) -> float:
    """Kolmogorov and Smirnov's: the largest difference of the two cumulated distributions, 0 to 1."""
    left, right = sorted(a), sorted(b)
    points = sorted({*left, *right})
    return max(abs(bisect_right(left, x) / len(left) - bisect_right(right, x) / len(right)) for x in points)


def quantile(values: Sequence[float], share: float) -> float:
    """Of sorted values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def picture(name: str, real: Sequence[float], made: Sequence[float]) -> str:
    """Both distributions as bars, SVG."""
    unit, low, high, bars = SIGNALS[name]
    width = (high - low) / bars
    shares = [_shares(values, low, width, bars) for values in (real, made)]
    top = max(max(row) for row in shares) or 1.0
    parts = [f'<text x="40" y="20" font-size="14">{name}, {unit}: share of the time</text>']
    for number, (row, colour) in enumerate(zip(shares, ("#1f5fa8", "#d97a1e"), strict=True)):
        for bar, share in enumerate(row):
            x, height = 40 + 640 * bar / bars, 180 * share / top
            parts.append(
                f'<rect x="{x + number * 320 / bars:.1f}" y="{220 - height:.1f}" width="{300 / bars:.1f}" '
                f'height="{height:.1f}" fill="{colour}"/>'
            )
        parts.append(f'<rect x="{480 + 110 * number}" y="10" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{498 + 110 * number}" y="20">{("recorded", "simulated")[number]}</text>')
    parts += [
        f'<text x="{40 + 640 * share:.0f}" y="238" text-anchor="middle">{low + (high - low) * share:g}</text>'
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 250" font-family="sans-serif" '
        'font-size="12">'
        f'<rect width="720" height="250" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _shares(values: Sequence[float], low: float, width: float, bars: int) -> list[float]:
    counts = [0] * bars
    for value in values:
        counts[min(bars - 1, max(0, int((value - low) / width)))] += 1
    return [count / len(values) for count in counts]


def table(real: Samples, made: Samples) -> str:
    """Figures side by side, Markdown."""
    lines = [
        "| | | mean | 5 % | 25 % | median | 75 % | 95 % | distance |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, (unit, *_) in SIGNALS.items():
        for label, values in (("recorded", real[name]), ("simulated", made[name])):
            cells = [f"{quantile(values, share):.4g}" for share in (0.05, 0.25, 0.5, 0.75, 0.95)]
            far = f"{distance(real[name], made[name]):.2f}" if label == "simulated" else ""
            head = f"{name}, {unit}" if label == "recorded" else ""
            lines.append(
                f"| {head} | {label} | {statistics.fmean(values):.4g} | {' | '.join(cells)} | {far} |"
            )
    stand = [sum(v < 1 for v in s["speed"]) / len(s["speed"]) for s in (real, made)]
    lines.append(f"\nShare of the time standing: recorded {stand[0]:.0%}, simulated {stand[1]:.0%}.")
    return "\n".join(lines)


def main() -> int:
    """Write the pictures, print the table."""
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    if not (Path(sys.argv[1]) / "readings.csv.gz").is_file():
        print(f"{sys.argv[1]} has no readings.csv.gz", file=sys.stderr)
        return 2
    real, made = recorded(Path(sys.argv[1])), simulated(7)
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    for name in SIGNALS:
        (folder / f"{name}.svg").write_text(picture(name, real[name], made[name]), encoding="utf-8")
    print(table(real, made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
