"""What is documented is what there is."""

import argparse
import re
import tomllib
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from real_parts import ROOT

from config import data_path
from config.settings import leaves

DOCS = ROOT / "docs"


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def rows(document: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading."""
    part = document.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in part.splitlines()
        if line.startswith("| ")
    ][1:]


def reference() -> Iterator[tuple[str, str]]:
    """(setting, default as written) of default.toml."""
    section = ""
    for line in data_path("default.toml").read_text().splitlines():
        if line.startswith("["):
            section = f"{line.strip('[]')}."
        elif " = " in line and not line.startswith("#"):
            name, value = line.split(" = ", 1)
            yield section + name, value


def test_every_setting_is_documented_with_its_default() -> None:
    documented = {
        cells[0].strip("`"): cells[1].strip("`") for cells in rows(text("docs/operations.md"), "Settings")
    }
    assert set(documented) == {".".join(key) for key, _ in leaves()}
    for name, value in reference():
        assert documented[name] == value, name


def leaf_commands(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[str]:
    nested = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for action in nested:
        for name, child in action.choices.items():
            yield from leaf_commands(child, (*path, name))
    if not nested:
        yield " ".join(path)


def test_every_command_is_documented() -> None:
    from gateway.cli import make_parser

    table = rows(text("docs/operations.md"), "Commands")
    documented = {name for cells in table for name in re.findall(r"`([^`]+)`", cells[0])}
    assert documented == set(leaf_commands(make_parser()))


def test_every_command_has_help_with_an_example() -> None:
    from gateway.cli import make_parser

    for name in leaf_commands(make_parser()):
        parser = make_parser()
        for part in name.split():
            (action,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
            parser = action.choices[part]
        assert f"example: touchpoint {name.split()[0]}" in parser.format_help(), name


def test_every_metric_is_documented() -> None:
    from gateway.domain.counters import Counters
    from gateway.web.metrics import PathCollector

    journal = SimpleNamespace(status=lambda: {"readers": {}, "bytes": 0, "max_bytes": 0})
    registry = CollectorRegistry(auto_describe=False)
    registry.register(PathCollector(Counters(), journal))  # type: ignore[arg-type] # all it asks for is a status
    exposed = re.findall(r"^# TYPE (touchpoint_\w+) ", generate_latest(registry).decode(), re.MULTILINE)
    table = rows(text("docs/operations.md"), "Metrics")
    documented = {name for cells in table for name in re.findall(r"`(touchpoint_\w+)", cells[0])}
    assert documented == set(exposed)


def test_every_reason_of_quarantine_is_documented() -> None:
    codecs = "".join(path.read_text("utf-8") for path in (ROOT / "gateway/adapters").glob("codec*.py"))
    reasons = set(re.findall(r'(?:MalformedError\(|_number\(.*)\s*"(\w+)"', codecs))
    wire = text("docs/wire.md").split("### What becomes of malformed input", 1)[1].split("\n## ", 1)[0]
    documented = {
        name
        for line in wire.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split(" | ")[0])
    }
    assert len(reasons) > 10
    assert documented == reasons


def test_every_address_of_the_api_is_documented() -> None:
    from gateway.web.api import ENDPOINTS

    documented = re.findall(r"^\| ([A-Z]+) `(/[^`]*)`", text("docs/wire.md"), re.MULTILINE)
    endpoints = {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}
    assert {p for p in documented if p in endpoints or not p[1].startswith("/firmware/")} == endpoints


def test_every_rule_function_is_documented() -> None:
    import rules

    document = text("docs/rules.md")
    for name in rules.FUNCTIONS:
        assert f"`{name}(" in document, name


@pytest.mark.parametrize("group", ["dependencies", "build", "dev"])
def test_every_dependency_has_its_reason(group: str) -> None:
    project = tomllib.loads(text("pyproject.toml"))
    listed = (
        project["project"]["dependencies"] if group == "dependencies" else project["dependency-groups"][group]
    )
    names = {re.split(r"[\[<>=]", entry)[0] for entry in listed if isinstance(entry, str)}
    reasons = text("docs/decisions/0001-dependencies.md")
    missing = {name for name in names if f"\n| {name} |" not in reasons}
    assert missing == set()


def test_no_dependency_has_a_reason_but_no_use() -> None:
    project = tomllib.loads(text("pyproject.toml"))
    listed = [
        *project["project"]["dependencies"],
        *(e for g in project["dependency-groups"].values() for e in g),
    ]
    names = {re.split(r"[\[<>=]", entry)[0] for entry in listed if isinstance(entry, str)}
    reasons = set(re.findall(r"^\| ([\w-]+) \|", text("docs/decisions/0001-dependencies.md"), re.MULTILINE))
    assert reasons - {"package"} == names


def test_every_dependency_at_run_time_is_imported() -> None:
    project = tomllib.loads(text("pyproject.toml"))
    modules = {"pillow": "PIL", "pyyaml": "yaml", "uuid-utils": "uuid_utils", "http-ece": "http_ece"}
    modules |= {"tzdata": None, "protobuf": "google.protobuf", "argon2-cffi": "argon2"}
    sources = "\n".join(
        path.read_text(encoding="utf-8")
        for package in ("config", "device_sim", "firmware_api", "gateway", "rules")
        for path in (ROOT / package).rglob("*.py")
    )
    for entry in project["project"]["dependencies"]:
        name = re.split(r"[\[<>=]", entry)[0]
        module = modules.get(name, name.replace("-", "_"))
        if module:
            assert re.search(rf"^\s*(import|from) {module}\b", sources, re.MULTILINE), f"{name} is not used"


def test_every_link_between_documents_leads_somewhere() -> None:
    documents = [ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")]
    for document in documents:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_flow_is_described_in_the_order_of_its_files() -> None:
    described = re.findall(r"^\d\. \*\*(\w+)\*\*", text("docs/architecture.md"), re.MULTILINE)
    assert described == ["receive", "record", "assess", "decide", "deliver", "respond", "book", "follow_up"]
    for verb in described:
        assert (ROOT / "gateway" / "flow" / f"{verb}.py").is_file(), verb
