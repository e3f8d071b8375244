"""Writes what is generated of the rules' reference: the tables in docs/rules.md between their markers, and
the JSON Schemas beside the shipped rules and signals. A test fails when one of them is stale.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from rules import FUNCTIONS, Catalogue
from rules.schema import (
    CONTACT_KEYS,
    EXAMPLE_KEYS,
    EXPECT_KEYS,
    KIND_KEYS,
    RULE_KEYS,
    SIGNAL_KEYS,
    ZONE_KEYS,
    Key,
    key_rows,
    rule_schema,
    signal_schema,
)

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "rules.md"
SIGNALS = ROOT / "config" / "signals"
SCHEMAS = {
    ROOT / "config" / "rules" / "rules.schema.json": "rules",
    SIGNALS / "signals.schema.json": "signals",
}
MARKED = re.compile(r"(<!-- written by tools/rules_docs\.py: ([\w -]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def functions() -> str:
    """How each is written, and what it means."""
    rows = ([" or ".join(f"`{form}`" for form in f.form.split(" or ")), f.means] for f in FUNCTIONS.values())
    return table(("function", "meaning"), rows)


def keys(of: Mapping[str, Key]) -> str:
    rows = ([f"`{name}`", "required" if required else "", means] for name, required, means in key_rows(of))
    return table(("key", "", "meaning"), rows)


TABLES = {
    "functions": functions,
    "keys of a rule": lambda: keys(RULE_KEYS),
    "keys of a touchpoint": lambda: keys(CONTACT_KEYS),
    "keys of an example": lambda: keys({**EXAMPLE_KEYS, **EXPECT_KEYS}),
    "keys of a signal": lambda: keys({**KIND_KEYS, **SIGNAL_KEYS}),
    "keys of a zone": lambda: keys(ZONE_KEYS),
}


def written(document: str) -> str:
    """The document with its tables as they have to be."""
    return MARKED.sub(lambda part: f"{part[1]}\n{TABLES[part[2]]()}\n{part[3]}", document)


def schema(of: str) -> str:
    """The text of a schema file."""
    texts = [(path.name, path.read_text("utf-8")) for path in sorted(SIGNALS.glob("*.yaml"))]
    found = rule_schema(Catalogue.parse(texts)) if of == "rules" else signal_schema()
    return json.dumps(found, ensure_ascii=False, indent=1) + "\n"


def main() -> int:
    files = {DOCUMENT: written(DOCUMENT.read_text("utf-8"))} | {p: schema(of) for p, of in SCHEMAS.items()}
    for path, text in files.items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print(f"written: {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
