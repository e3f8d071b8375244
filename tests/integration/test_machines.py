"""Failures of 20 machines are announced by the rules of docs/rules-from-data.md, as it says."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from real_parts import ROOT

import rules
from rules.backtest import Score

EXAMPLE = ROOT / "docs" / "examples" / "machines"
DOCUMENT = (ROOT / "docs" / "rules-from-data.md").read_text(encoding="utf-8")


def tool() -> ModuleType:
    """tools/machines.py, which prints the tables of the document."""
    spec = importlib.util.spec_from_file_location("machines", ROOT / "tools" / "machines.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["machines"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


machines = tool()


@pytest.fixture(scope="module")
def recorded(shared_data: Path) -> Any:
    return machines.recorded(shared_data / "pdm")


def reached(score: Score) -> bool:
    """What was asked for, before anybody had looked."""
    return bool(
        score.recall is not None
        and score.recall >= 0.93
        and score.precision is not None
        and score.precision >= 0.9
        and score.lead is not None
        and score.lead.median >= 18
    )


def test_the_second_half_which_no_threshold_has_seen_is_announced(recorded: Any) -> None:
    both = machines.halves(recorded, machines.released(), recorded.devices)
    assert both[1].failures == 17
    assert reached(both[1]), both[1]
    assert machines.line("as they are", both) in DOCUMENT.splitlines()


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_no_threshold_stands_on_the_edge(recorded: Any, factor: float) -> None:
    name, both = machines.deviating(recorded, machines.released(), factor)
    assert reached(both[1]), both[1]
    assert machines.line(name, both) in DOCUMENT.splitlines()


def test_levels_of_other_machines_serve_as_well(recorded: Any) -> None:
    text = machines.released()
    groups = [machines.left_out(recorded, text, group) for group in range(machines.GROUPS)]
    second = [both[1] for _, both in groups]
    assert sum(s.announced for s in second) >= 0.93 * sum(s.failures for s in second)
    assert sum(s.right for s in second) >= 0.9 * sum(s.findings for s in second)
    for name, both in groups:
        assert machines.line(name, both) in DOCUMENT.splitlines()


def test_the_levels_in_the_document_are_those_of_the_first_half(recorded: Any) -> None:
    for line in machines.level_lines(machines.levels(recorded, recorded.devices)):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        documented = next(row for row in DOCUMENT.splitlines() if row.startswith(f"| {cells[0]} |"))
        assert [documented.split("|")[at].strip() for at in (1, 2, 3, 5)] == cells


@pytest.mark.parametrize("file", sorted(EXAMPLE.rglob("*.yaml")), ids=lambda file: file.name)
def test_the_example_holds_what_it_says(file: Path) -> None:
    signals = (EXAMPLE / "signals.yaml").read_text(encoding="utf-8")
    catalogue = rules.Catalogue.parse([("signals.yaml", signals)])
    if file.name != "signals.yaml":
        ruleset = rules.load([(file.name, file.read_text(encoding="utf-8"))], catalogue)
        assert [result for result in rules.run_examples(ruleset) if not result.passed] == []
