"""What a backtest says: one JSON object for scripts, tables for people."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from gateway.domain.times import rfc3339
from rules.backtest import (
    HOUR_MS,
    Comparison,
    Event,
    FalseAlarm,
    Finding,
    Report,
    Score,
    Truth,
    Week,
    compare,
)

LISTED = 20
"""Missed failures, false alarms and differences that are printed one by one."""
BAR = 40
"""Characters of the longest bar."""

Cells: TypeAlias = Sequence[str]
Columns: TypeAlias = Sequence[tuple[str, Callable[[Any], str]]]
"""Head, and how a cell is read from what the row is about."""

WEEK_COLUMNS: Columns = (
    ("touchpoints", lambda counted: f"{counted.touchpoints:,}"),
    ("devices", lambda counted: f"{counted.devices:,}"),
    ("owners", lambda counted: f"{counted.owners:,}"),
)
RULE_COLUMNS: Columns = (
    *WEEK_COLUMNS,
    ("came true", lambda counted: f"{counted.announced:,}"),
    ("withdrawn", lambda counted: f"{counted.withdrawn:,}"),
)


def _when(ms: int | None) -> str | None:
    return None if ms is None else rfc3339(ms)


# --- JSON -------------------------------------------------------------------------------------


def as_json(reports: Sequence[Report], truth: Truth | None, seconds: float) -> str:
    """One object; with two sets of rules the second one's report stands under `against`, and `differences`
    holds which findings they share. `seconds` is how long it took to read and run."""
    said = report_fields(reports[0], truth)
    said["seconds"] = round(seconds, 3)
    said["readings_per_second"] = round(reports[0].readings / seconds)
    if len(reports) > 1:
        said["against"] = report_fields(reports[1], truth)
        said["differences"] = _difference_fields(compare(reports[0], reports[1]))
    return json.dumps(said, ensure_ascii=False, indent=2)


def report_fields(report: Report, truth: Truth | None) -> dict[str, Any]:
    """One report. Times are RFC 3339, spans hours or days as their names say."""
    return {
        "rows": report.rows,
        "readings": report.readings,
        "devices": report.devices,
        "devices_without_kind": report.without_kind,
        "first": _when(report.first),
        "last": _when(report.last),
        "from": _when(report.start),
        "to": _when(report.end),
        "touchpoints": report.touchpoints,
        "devices_touched": report.touched,
        "owners_touched": report.owners,
        "in_bursts": report.in_bursts,
        "largest_burst": report.largest_burst,
        "rules": [
            {
                "rule": count.rule,
                "version": count.version,
                "shadow": count.shadow,
                "touchpoints": count.touchpoints,
                "withdrawn": count.withdrawn,
                "devices": count.devices,
                "owners": count.owners,
                "true": count.announced,
            }
            for count in report.rules
        ],
        "weeks": [
            {
                "week": week_name(week),
                "begins": rfc3339(week.begins),
                "touchpoints": week.touchpoints,
                "devices": week.devices,
                "owners": week.owners,
                "rules": dict(week.rules),
            }
            for week in report.weeks
        ],
        "days_between": [
            {"from": gap.days_from, "to": gap.days_to, "count": gap.count} for gap in report.gaps
        ],
        "truth": _score_fields(report.score, truth) if report.score and truth else None,
        "findings": [finding_fields(finding) for finding in report.findings],
        "errors": dict(report.errors),
        "late": report.late,
        "duplicates": report.duplicates,
    }


def finding_fields(finding: Finding) -> dict[str, Any]:
    return {
        "device": finding.device,
        "rule": finding.rule,
        "began": rfc3339(finding.began),
        "found": rfc3339(finding.found),
        "ended": _when(finding.ended),
        "ended_by": finding.ended_by,
    }


def _event_fields(event: Event) -> dict[str, Any]:
    return {"device": event.device, "ts": rfc3339(event.ts), "kind": event.kind}


def _score_fields(score: Score, truth: Truth) -> dict[str, Any]:
    lead = score.lead
    return {
        "kind": truth.kind,
        "within_hours": truth.within_ms / HOUR_MS,
        "failures": score.failures,
        "announced": score.announced,
        "recall": score.recall,
        "findings": score.findings,
        "true": score.right,
        "precision": score.precision,
        "median_lead_hours": lead.median if lead else None,
        "lead_hours_quartiles": [lead.lower_quartile, lead.median, lead.upper_quartile] if lead else None,
        "failures_without_readings": score.unobserved,
        "missed": [_event_fields(failure) for failure in score.missed],
        "false_alarms": [
            {**finding_fields(alarm.finding), "undecided": alarm.undecided} for alarm in score.false_alarms
        ],
    }


def _difference_fields(found: Comparison) -> dict[str, Any]:
    return {
        "both": [
            {"found": rfc3339(one.found), "found_against": rfc3339(other.found)}
            | {key: value for key, value in finding_fields(one).items() if key in ("device", "rule")}
            for one, other in found.both
        ],
        "only_here": [finding_fields(finding) for finding in found.only_first],
        "only_against": [finding_fields(finding) for finding in found.only_second],
    }


# --- tables -----------------------------------------------------------------------------------


def as_text(reports: Sequence[Report], truth: Truth | None, ignored: Sequence[str], seconds: float) -> str:
    """What people read: how much, by rule, by week, how dense, how true, and where two versions differ."""
    first = reports[0]
    parts = [
        _head(first, ignored, seconds),
        _sum(reports),
        _rules_table(reports),
        _weeks_table(reports),
        _gaps_table(reports),
        *([_score_table(reports, truth)] if truth else []),
        *([_differences(compare(*reports))] if len(reports) > 1 else []),
        *(_lists(first.score) if first.score else []),
    ]
    return "\n\n".join(part for part in parts if part)


def day(ms: int) -> str:
    """2015-01-01 06:00, UTC."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M}"


def week_name(week: Week) -> str:
    """ISO 8601: 2015-W07."""
    return f"{datetime.fromtimestamp(week.begins / 1000, UTC):%G-W%V}"


def number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def table(head: Cells, rows: Iterable[Cells], *, left: int = 1) -> str:
    """Columns in line: the first `left` and a last one without a head begin on the left, others end on the
    right."""
    lines = [head, *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    starts = {at for at, name in enumerate(head) if at < left or not name}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at in starts else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _bars(counts: Sequence[int]) -> list[str]:
    """One sign each while there is room, else in proportion; what is there is never invisible."""
    scale = max(1.0, max(counts, default=0) / BAR)
    return ["█" * max(round(count / scale), count > 0) for count in counts]


def _head(report: Report, ignored: Sequence[str], seconds: float) -> str:
    lines = [f"{number(report.readings, 'reading')} of {number(report.devices, 'device')}"]
    if report.first is not None and report.last is not None:
        lines[0] += f", {day(report.first)} to {day(report.last)} UTC"
    lines[0] += f"; {report.readings / seconds:,.0f} a second"
    if report.start is not None or report.end is not None:
        since = f" from {day(report.start)}" if report.start is not None else ""
        until = f" to {day(report.end)}" if report.end is not None else " to the end"
        lines.append(
            f"counted are findings and failures{since}{until}; earlier readings only warm the windows"
        )
    if report.without_kind:
        lines.append(
            f"{number(report.without_kind, 'device')} of unknown kind, to which no rule applies: see --kind"
        )
    if ignored:
        lines.append(f"not used, since they are no signals of the kind: {', '.join(ignored)}")
    if report.duplicates:
        lines.append(f"{number(report.duplicates, 'value')} came twice and count once")
    if report.late:
        lines.append(f"{number(report.late, 'value')} came late, after newer ones of their device")
    lines += [
        f"{rule} broke {number(times, 'time')}: it was not found then"
        for rule, times in report.errors.items()
    ]
    return "\n".join(lines)


def _sum(reports: Sequence[Report]) -> str:
    lines = []
    for report, name in zip(reports, ("", "against: "), strict=False):
        owners = f" of {number(report.owners, 'owner')}" if report.owners is not None else ""
        bursts = ""
        if report.in_bursts:
            bursts = (
                f"; {report.in_bursts:,} of them in bursts, less than a day from another one of their "
                f"device, up to {report.largest_burst} at once"
            )
        found = f"{number(report.touchpoints, 'touchpoint')} for {number(report.touched, 'device')}{owners}"
        lines.append(name + found + bursts)
    return "\n".join(lines)


def _known_columns(reports: Sequence[Report], columns: Columns) -> Columns:
    """Those that hold something."""
    known = {
        "owners": reports[0].owners is not None,
        "came true": reports[0].score is not None,
        "withdrawn": any(count.withdrawn for report in reports for count in report.rules),
    }
    return [column for column in columns if known.get(column[0], True)]


def _rules_table(reports: Sequence[Report]) -> str:
    columns = _known_columns(reports, RULE_COLUMNS)
    here = {count.rule: count for count in reports[0].rules}
    there = {count.rule: count for count in reports[1].rules} if len(reports) > 1 else {}
    rows, silent = [], []
    for rule in dict.fromkeys((*here, *there)):
        counts = [side.get(rule) for side in (here, there)][: len(reports)]
        known = next(count for count in counts if count)
        if not any(count and count.touchpoints for count in counts):
            silent.append(rule)
            continue
        name = f"{rule} (shadow)" if known.shadow else rule
        versions = " → ".join(str(c.version) if c else "–" for c in reversed(counts))
        cells = [read(c) if c else "–" for _, read in columns for c in counts]
        rows.append((name, versions, *cells))
    parts = [table(("rule", "version", *_heads([name for name, _ in columns], len(reports))), rows)] * bool(
        rows
    )
    if silent:
        parts.append(textwrap.fill(f"never found: {', '.join(sorted(silent))}", 110, break_on_hyphens=False))
    return "\n".join(parts)


def _heads(names: Iterable[str], sides: int) -> list[str]:
    return [f"{name}{end}" for name in names for end in ("", " (against)")[:sides]]


def _weeks_table(reports: Sequence[Report]) -> str:
    by_begin = [{week.begins: week for week in report.weeks} for report in reports]
    begins = sorted({begin for weeks in by_begin for begin in weeks})
    if not begins:
        return ""
    bars = _bars([by_begin[0][b].touchpoints if b in by_begin[0] else 0 for b in begins])
    columns = _known_columns(reports, WEEK_COLUMNS)
    rows = []
    for begin, bar in zip(begins, bars, strict=True):
        weeks = [side.get(begin) for side in by_begin]
        name = week_name(next(week for week in weeks if week))
        cells = [read(week) if week else "0" for _, read in columns for week in weeks]
        rows.append((name, day(begin)[:10], *cells, bar))
    return table(("week", "from", *_heads([n for n, _ in columns], len(reports)), ""), rows, left=2)


def _gaps_table(reports: Sequence[Report]) -> str:
    if not any(gap.count for report in reports for gap in report.gaps):
        return ""
    bars = _bars([gap.count for gap in reports[0].gaps])
    rows = []
    for at, gap in enumerate(reports[0].gaps):
        counts = [f"{report.gaps[at].count:,}" for report in reports]
        rows.append((_days(gap.days_from, gap.days_to), *counts, bars[at]))
    return table(("days between two of a device", *_heads(["pairs"], len(reports)), ""), rows)


def _days(low: float, high: float | None) -> str:
    if high is None:
        return f"{low:g} and more"
    if low == 0:
        return f"less than {high:g}"
    return f"{low:g} to less than {high:g}"


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.3f}"


def _score_table(reports: Sequence[Report], truth: Truth) -> str:
    within = f"{truth.within_ms / HOUR_MS:g} h"
    scores = [report.score for report in reports if report.score]
    one = scores[0]
    recall = f"{one.announced:,} of {one.failures:,} failures had a finding"
    precision = f"{one.right:,} of {one.findings:,} findings were followed by one"
    rows: list[Cells] = [
        ("recall", *(_share(score.recall) for score in scores), recall),
        ("precision", *(_share(score.precision) for score in scores), precision),
        ("median lead, h", *(_hours(score) for score in scores), _quartiles(one)),
    ]
    said = table((f"{truth.kind} within {within}", *_heads(["figure"], len(scores)), ""), rows)
    if scores[0].unobserved:
        said += f"\n{number(scores[0].unobserved, 'failure')} left out, since no readings came before"
    return said


def _hours(score: Score) -> str:
    return f"{score.lead.median:.1f}" if score.lead else "–"


def _quartiles(score: Score) -> str:
    lead = score.lead
    return f"quartiles {lead.lower_quartile:.1f} and {lead.upper_quartile:.1f}" if lead else ""


def _differences(found: Comparison) -> str:
    lines = [
        f"the same episodes: {len(found.both):,}; only here: {len(found.only_first):,}; "
        f"only against: {len(found.only_second):,}"
    ]
    lines += _some([f"only here: {_finding(f)}" for f in found.only_first])
    lines += _some([f"only against: {_finding(f)}" for f in found.only_second])
    return "\n".join(lines)


def _finding(finding: Finding) -> str:
    return f"{day(finding.found)}  {finding.device}  {finding.rule}"


def _lists(score: Score) -> list[str]:
    missed = [f"missed: {day(e.ts)}  {e.device}  {e.kind}" for e in score.missed]
    alarms = [f"false alarm: {_finding(a.finding)}{_undecided(a)}" for a in score.false_alarms]
    return ["\n".join(_some(lines)) for lines in (missed, alarms)]


def _undecided(alarm: FalseAlarm) -> str:
    return "  (undecided: the readings end too soon after it)" if alarm.undecided else ""


def _some(lines: Sequence[str]) -> list[str]:
    more = len(lines) - LISTED
    return [*lines[:LISTED], *([f"… and {more:,} more, all of them with --json"] if more > 0 else [])]
