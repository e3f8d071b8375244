"""Runs tests/benchmarks/*.py, passes their JSON lines through, and closes with a table.

A benchmark is a script that prints one JSON object a line: ``{"name", "value", "unit", "limit"?, "how"}``.
What stands under ``limit`` is not to be exceeded (``"sense": "min"`` turns it round). Exit status 1 when a
limit is missed or a script fails. Arguments are parts of file names: ``make bench ARGS=ingest``.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def scripts(wanted: list[str]) -> list[Path]:
    found = sorted(p for p in (ROOT / "tests" / "benchmarks").glob("bench_*.py"))
    return [p for p in found if not wanted or any(word in p.stem for word in wanted)]


def run(script: Path) -> tuple[list[dict[str, Any]], bool]:
    """Returns the figures of one script and whether it ended well; its lines are printed as they come."""
    figures = []
    with subprocess.Popen(
        [sys.executable, str(script)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if line.startswith("{"):
                figures.append(json.loads(line))
    return figures, process.returncode == 0


def missed(figure: dict[str, Any]) -> bool:
    if figure.get("limit") is None:
        return False
    value, limit = figure["value"], figure["limit"]
    return bool(value < limit if figure.get("sense") == "min" else value > limit)


def table(figures: list[dict[str, Any]]) -> str:
    head = ("what", "figure", "unit", "limit", "how it was taken")
    rows = [
        (
            str(f["name"]),
            f"{f['value']:,.6g}" if isinstance(f["value"], int | float) else str(f["value"]),
            str(f.get("unit", "")),
            ("" if f.get("limit") is None else str(f["limit"])) + ("  MISSED" if missed(f) else ""),
            str(f.get("how", "")),
        )
        for f in figures
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(4)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True))
        for row in [head, *rows]
    ]
    return "\n".join(line.rstrip() for line in lines)


def main() -> int:
    figures: list[dict[str, Any]] = []
    good = True
    if not scripts(sys.argv[1:]):
        names = ", ".join(script.stem.removeprefix("bench_") for script in scripts([]))
        print(f"no benchmark is called {' or '.join(sys.argv[1:])}; there are {names}", file=sys.stderr)
        return 2
    for script in scripts(sys.argv[1:]):
        found, ended_well = run(script)
        figures += found
        good &= ended_well
        if not ended_well:
            print(f"{script.name} failed", file=sys.stderr)
    print()
    print(table(figures))
    return 0 if good and not any(missed(f) for f in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
