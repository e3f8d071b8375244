"""Where a rule stands in the text of its file, with its comments, as people wrote it."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.nodes import MappingNode, ScalarNode, SequenceNode

from rules.texts import compose


def passage(text: str, rule: str) -> tuple[int, str] | None:
    """(version, lines) of a rule in the text of a rule file; None where it is not in it."""
    if rule not in text:
        return None
    try:
        root = compose(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        return None
    for node in root.value if isinstance(root, SequenceNode) else ():
        said = _scalars(node)
        if said.get("id") == rule:
            lines = text.splitlines()[node.start_mark.line : _end(node) + 1]
            version = said.get("version", "1")
            return (int(version) if version.isdecimal() else 1), "\n".join(line.rstrip() for line in lines)
    return None


def _scalars(node: Any) -> dict[str, str]:
    if not isinstance(node, MappingNode):
        return {}
    pairs = ((key.value, value) for key, value in node.value)
    return {str(key): str(value.value) for key, value in pairs if isinstance(value, ScalarNode)}


def _end(node: Any) -> int:
    """The last line with something of it: a block itself ends only where the next thing begins."""
    if isinstance(node, ScalarNode):
        mark = node.end_mark
        return int(mark.line - 1 if mark.column == 0 and mark.line > node.start_mark.line else mark.line)
    if node.flow_style or not node.value:
        return int(node.end_mark.line)
    last = node.value[-1]
    return _end(last[1] if isinstance(node, MappingNode) else last)
