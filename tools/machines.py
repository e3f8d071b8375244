"""Levels and robustness of the machine rules: the tables of docs/rules-from-data.md.

python tools/machines.py path/to/pdm

The folder holds readings.csv.gz and events.csv. Levels come from the first half of the time only. To see how
much hangs on the thresholds, they are moved with the levels: each keeps its place between the usual level of
a signal and that of a failing machine.
"""

import argparse
import re
import statistics
from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.domain.times import rfc3339
from gateway.recordings import Recording, read_events
from rules import Catalogue, Engine, RuleSet, Value, load
from rules.backtest import Backtest, Event, Row, Score, Truth

EXAMPLE = Path(__file__).resolve().parent.parent / "docs" / "examples" / "machines"
KIND = "machine"
HOUR = 3_600_000
WITHIN = 48 * HOUR
GROUPS = 4
"""Into so many the machines are divided, to leave out one group after the other."""

NAMES: Mapping[str, tuple[str, Collection[str]]] = {
    "volt": ("failure:comp1", {"error1"}),
    "rotate": ("failure:comp2", {"error2", "error3"}),
    "pressure": ("failure:comp3", {"error4"}),
    "vibration": ("failure:comp4", {"error5"}),
}
"""By signal: the failure it precedes, and the codes that come with it, all in one report."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """The mean of a day of one signal: usually, and when a report names the component that then fails."""

    usual: float  # median over machines and hours
    failing: float  # median over failures
    failures: int  # how many of them
    reports: int  # that named the component, failing or not

    @property
    def deviation(self) -> float:
        return self.failing - self.usual

    def moved(self, factor: float) -> "Level":
        """As if failing machines deviated so many times as far."""
        return replace(self, failing=self.usual + factor * self.deviation)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """All that was recorded."""

    rows: Sequence[Row]
    events: tuple[Event, ...]
    catalogue: Catalogue
    half: int  # ms: where the second half begins, on the hour

    @property
    def devices(self) -> list[str]:
        return sorted({device for device, _, _ in self.rows})


def recorded(folder: Path) -> Recorded:
    """Read the folder. Raises RecordingError."""
    catalogue = Catalogue.parse([("signals.yaml", (EXAMPLE / "signals.yaml").read_text(encoding="utf-8"))])
    recording = Recording(folder / "readings.csv.gz", catalogue, lambda _: KIND)
    rows = [row for portion in recording.portions() for row in portion]
    first, last = rows[0][1], rows[-1][1] + HOUR
    return Recorded(
        rows=rows,
        events=read_events(folder / "events.csv"),
        catalogue=catalogue,
        half=first + (last - first) // 2,
    )


def released() -> str:
    """The rules of the example."""
    return (EXAMPLE / "rules.yaml").read_text(encoding="utf-8")


# --- levels ---------------------------------------------------------------------------------------


def levels(data: Recorded, devices: Collection[str]) -> dict[str, Level]:
    """Of each signal, by what these devices reported in the first half."""
    failed = {(e.device, e.ts, e.kind) for e in data.events if e.device in devices and e.ts < data.half}
    usual: dict[str, list[float]] = defaultdict(list)
    named: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for device, ts, values, means in _days(data, devices):
        for signal, (kind, names) in NAMES.items():
            usual[signal].append(means[signal])
            if set(values.get("error_codes") or ()) >= set(names):  # type: ignore[arg-type] # a list of texts
                fails = any(d == device and k == kind and 0 < at - ts <= WITHIN for d, at, k in failed)
                named[signal].append((means[signal], fails))
    return {signal: _level(usual[signal], named[signal]) for signal in NAMES}


def _days(
    data: Recorded, devices: Collection[str]
) -> Iterator[tuple[str, int, Mapping[str, Value], dict[str, float]]]:
    """(device, ts, values, {signal: mean of the last 24 readings}) of each reading of the first half."""
    days: dict[tuple[str, str], deque[float]] = defaultdict(lambda: deque(maxlen=24))
    for device, ts, values in data.rows:
        if ts >= data.half or device not in devices:
            continue
        for signal in NAMES:
            days[device, signal].append(float(values[signal]))  # type: ignore[arg-type] # numbers
        if len(days[device, "volt"]) == 24:
            yield device, ts, values, {signal: statistics.fmean(days[device, signal]) for signal in NAMES}


def _level(usual: Sequence[float], named: Sequence[tuple[float, bool]]) -> Level:
    failing = [mean for mean, fails in named if fails]
    return Level(
        usual=statistics.median(usual),
        failing=statistics.median(failing),
        failures=len(failing),
        reports=len(named),
    )


# --- moving thresholds ----------------------------------------------------------------------------

LIMIT = re.compile(r"(avg\((\w+), '\w+'\) [<>] )(\d+(?:\.\d+)?)")
RISE = re.compile(r"(avg\((\w+), '48h'\) \+ )(\d+(?:\.\d+)?)")


def carried(text: str, old: Mapping[str, Level], new: Mapping[str, Level]) -> str:
    """Rules whose thresholds stand between the new levels as they stood between the old ones."""

    def limit(match: re.Match[str]) -> str:
        share = (float(match[3]) - old[match[2]].usual) / old[match[2]].deviation
        return f"{match[1]}{new[match[2]].usual + share * new[match[2]].deviation:.3f}"

    def rise(match: re.Match[str]) -> str:
        share = float(match[3]) / old[match[2]].deviation
        return f"{match[1]}{share * new[match[2]].deviation:.3f}"

    return RISE.sub(rise, LIMIT.sub(limit, text))


def scaled(text: str, factor: float) -> str:
    """Rules whose limits are so many times as high, upper and lower ones alike."""
    return LIMIT.sub(lambda match: f"{match[1]}{float(match[3]) * factor:.3f}", text)


# --- held against the failures --------------------------------------------------------------------


def rules(text: str, catalogue: Catalogue) -> RuleSet:
    return load([("rules.yaml", text)], catalogue)


def halves(data: Recorded, text: str, devices: Collection[str]) -> tuple[Score, Score]:
    """What the rules are worth on these devices in the first and in the second half."""
    truth = Truth(events=tuple(event for event in data.events if event.device in devices), within_ms=WITHIN)
    rows = [row for row in data.rows if row[0] in devices]
    return score(data, text, rows, truth, end=data.half), score(data, text, rows, truth, start=data.half)


def score(
    data: Recorded,
    text: str,
    rows: Sequence[Row],
    truth: Truth,
    start: int | None = None,
    end: int | None = None,
) -> Score:
    """Backtest rules over a part of the time."""
    backtest = Backtest(Engine(rules(text, data.catalogue)), lambda _: KIND, end=end)
    backtest.feed(rows)
    result = backtest.report(start=start, truth=truth).score
    assert result is not None
    return result


def line(name: str, scores: Sequence[Score]) -> str:
    cells = [name]
    for part in scores:
        lead = f"{part.lead.median:.0f} h" if part.lead else "–"
        cells += [f"{part.announced} of {part.failures}", f"{part.right} of {part.findings}", lead]
    return f"| {' | '.join(cells)} |"


def level_lines(found: Mapping[str, Level]) -> Iterator[str]:
    """A line for each signal: usual level, that before failures, and how many reports a failure followed."""
    for signal, level in found.items():
        yield f"| {signal} | {level.usual:.1f} | {level.failing:.1f} | {level.failures} of {level.reports} |"


def deviating(data: Recorded, text: str, factor: float) -> tuple[str, tuple[Score, Score]]:
    """Thresholds as if failing machines deviated so many times as far: what to call it, and the halves."""
    own = levels(data, data.devices)
    moved = {signal: level.moved(factor) for signal, level in own.items()}
    return f"deviations × {factor}", halves(data, carried(text, own, moved), data.devices)


def limited(data: Recorded, text: str, factor: float) -> tuple[str, tuple[Score, Score]]:
    """All limits so many times as high."""
    return f"limits × {factor}", halves(data, scaled(text, factor), data.devices)


def left_out(data: Recorded, text: str, group: int) -> tuple[str, tuple[Score, Score]]:
    """Thresholds by the levels of the other machines, held against the failures of this group."""
    out = data.devices[group::GROUPS]
    others = levels(data, [device for device in data.devices if device not in out])
    text = carried(text, levels(data, data.devices), others)
    return f"group {group + 1}, left out", halves(data, text, out)


def robustness(data: Recorded, text: str) -> Iterator[str]:
    """A line for each change: announced failures, right findings, median lead, in either half."""
    yield line("as they are", halves(data, text, data.devices))
    for factor in (0.5, 0.8, 0.9, 1.1, 1.2):
        yield line(*deviating(data, text, factor))
    for factor in (0.9, 0.95, 0.98, 1.02, 1.05, 1.1):
        yield line(*limited(data, text, factor))
    for group in range(GROUPS):
        yield line(*left_out(data, text, group))


def by_chance(data: Recorded, text: str) -> float:
    """How many wrong findings there are when codes that mean nothing come at other times, on average.

    The reports that no failure followed are moved in a circle against the rest, by 5 days, 10 days and so on.
    """
    failed = {(event.device, event.ts) for event in data.events if event.kind.startswith("failure:")}
    times: dict[str, list[int]] = defaultdict(list)
    reports: dict[str, dict[int, Value]] = defaultdict(dict)
    for device, ts, values in data.rows:
        if "error_codes" in values and not any(d == device and 0 < at - ts <= WITHIN for d, at in failed):
            reports[device][len(times[device])] = values["error_codes"]
        times[device].append(ts)
    truth = Truth(events=data.events, within_ms=WITHIN)
    wrong = []
    for days in range(5, 90, 5):
        rows = list(_with_reports(data.rows, times, reports, days * 24))
        judged = score(data, text, rows, truth)
        wrong.append(judged.findings - judged.right)
    return statistics.fmean(wrong)


def _with_reports(
    rows: Sequence[Row],
    times: Mapping[str, Sequence[int]],
    reports: Mapping[str, Mapping[int, Value]],
    later: int,
) -> Iterator[Row]:
    """The rows with these reports instead of their own, each so many rows of its device later."""
    moved = {
        (device, times[device][(at + later) % len(times[device])]): codes
        for device, there in reports.items()
        for at, codes in there.items()
    }
    for device, ts, values in rows:
        kept = {signal: value for signal, value in values.items() if signal != "error_codes"}
        yield device, ts, kept | ({"error_codes": moved[device, ts]} if (device, ts) in moved else {})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    missing = [name for name in ("readings.csv.gz", "events.csv") if not (folder / name).is_file()]
    if missing:
        parser.error(f"{folder} has no {' and no '.join(missing)}")
    data = recorded(folder)
    print(f"The second half begins at {rfc3339(data.half)}.\n")
    print(*level_lines(levels(data, data.devices)), "", sep="\n")
    for text in robustness(data, released()):
        print(text, flush=True)
    print(f"\nWrong findings by chance: {by_chance(data, released()):.1f}")


if __name__ == "__main__":
    main()
