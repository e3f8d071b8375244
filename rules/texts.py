"""YAML text read with the line of every value kept, and the faults that are reported about it.

Errors of this package, all of them rooted in `RulesError`:

    RulesError
    ├── TextErrors            one or more texts have faults; `.faults` holds all of them
    │   ├── SignalErrors      … in signal files
    │   └── RuleErrors        … in rule files
    └── StateVersionError     saved state of a format this program does not read
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode


class RulesError(Exception):
    """Something is wrong with signals, rules or their saved state."""


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Fault:
    """One thing that is wrong in a text, with its place and what to write instead."""

    file: str
    line: int  # from 1
    column: int  # from 1; 1 where only the line is known
    rule: str  # rule id or signal name the fault is in; empty if there is none yet
    message: str  # what is wrong and what to write instead

    def __str__(self) -> str:
        inside = f"{self.rule}: " if self.rule else ""
        return f"{self.file}:{self.line}:{self.column}: {inside}{self.message}"


class TextErrors(RulesError):
    """Texts have faults."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults: tuple[Fault, ...] = tuple(sorted(faults))
        super().__init__("\n".join(map(str, self.faults)))


class SignalErrors(TextErrors):
    """Signal files have faults."""


class RuleErrors(TextErrors):
    """Rule files have faults."""


class StateVersionError(RulesError):
    """Saved rule state has a format that this program does not read."""


class _NoAliases(yaml.SafeLoader):
    """YAML without anchors: a few lines of them expand to gigabytes."""

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # the stubs lack it
            raise yaml.MarkedYAMLError(problem="anchors and aliases are not read", problem_mark=mark)
        return super().compose_node(parent, index)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suggestion to append to a message, or nothing if no known word is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


_SPAN = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
LONGEST_SPAN = 400 * _MS["d"]


def span_ms(text: str) -> int | None:
    """Milliseconds of a span such as 90s, 10m, 1h30m, 14d, 2w; None if it is none, or over 400 days."""
    if len(text) > 40 or not _SPAN.fullmatch(text):
        return None
    ms = round(sum(float(number) * _MS[unit] for number, unit in _PART.findall(text)))
    return ms if ms <= LONGEST_SPAN else None


def span_text(ms: int) -> str:
    """A span as one would write it: 70m, 2h, 90s."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if ms and ms % size == 0:
            return f"{ms // size}{unit}"
    return f"{ms}ms" if ms else "0s"


class Place:
    """A node of a YAML text together with the reporter of faults about it."""

    def __init__(self, node: Node, text: str, file: str, faults: list[Fault], rule: str = "") -> None:
        self.node = node
        self.text = text
        self.file = file
        self.faults = faults
        self.rule = rule

    @property
    def line(self) -> int:
        return int(self.node.start_mark.line) + 1

    @property
    def column(self) -> int:
        return int(self.node.start_mark.column) + 1

    def fault(self, message: str, *, offset: int | None = None) -> None:
        """Report what is wrong here, or at a character of the value."""
        line, column = (self.line, self.column) if offset is None else self.spot_of(offset)
        self.faults.append(Fault(file=self.file, line=line, column=column, rule=self.rule, message=message))

    def spot_of(self, offset: int) -> tuple[int, int]:
        """Line and column of a character of `word()`; the value's own where it was written with escapes."""
        node = self.node
        if not isinstance(node, ScalarNode):
            return self.line, self.column
        source = self.text[: node.end_mark.index]
        begin = node.start_mark.index
        if node.style in ("|", ">"):
            begin = source.index("\n", begin) + 1
        elif node.style in ("'", '"'):
            begin, source = begin + 1, source[:-1]
        word = node.value.strip()
        if "".join(source[begin:].split()) != "".join(word.split()):
            return self.line, self.column
        before = len("".join(word[:offset].split()))  # folding changes nothing but spaces
        marks = [at for at in range(begin, len(source)) if not source[at].isspace()]
        at = marks[before] if before < len(marks) else marks[-1] + 1
        line_start = source.rfind("\n", 0, at) + 1
        return source.count("\n", 0, at) + 1, at - line_start + 1

    def named(self, rule: str) -> Place:
        return Place(self.node, self.text, self.file, self.faults, rule)

    def child(self, node: Node) -> Place:
        return Place(node, self.text, self.file, self.faults, self.rule)

    def fields(
        self, known: Sequence[str] | None = None, required: Sequence[str] = (), what: str = "key"
    ) -> dict[str, Place]:
        """The mapping's values by key. Unknown, repeated and missing keys are reported."""
        if not isinstance(self.node, MappingNode):
            self.fault(f"expected a mapping with {', '.join(known or ['keys'])}, found {self.describe()}")
            return {}
        found: dict[str, Place] = {}
        for key_node, value_node in self.node.value:
            self._field(found, self.child(key_node), self.child(value_node), known, what)
        for name in required:
            if name not in found:
                self.fault(f"{name} is missing")
        return found

    def _field(
        self, found: dict[str, Place], key: Place, value: Place, known: Sequence[str] | None, what: str
    ) -> None:
        name = str(key.node.value) if isinstance(key.node, ScalarNode) else ""
        if not name:
            key.fault(f"a {what} must be a word")
        elif name in found:
            key.fault(f"{name} is given twice")
        elif known is not None and name not in known:
            key.fault(f"unknown {what} {name}{did_you_mean(name, known) or '; known: ' + ', '.join(known)}")
        else:
            found[name] = value

    def entries(self) -> Iterator[Place]:
        """The items of a list; anything else is reported."""
        if not isinstance(self.node, SequenceNode):
            self.fault(f"expected a list, found {self.describe()}")
            return
        for node in self.node.value:
            yield self.child(node)

    def describe(self) -> str:
        if isinstance(self.node, MappingNode):
            return "a mapping"
        if isinstance(self.node, SequenceNode):
            return "a list"
        return f"{self.node.value!r}" if self.node.value != "" else "nothing"

    def plain(self) -> Any:
        """The value as Python data: str, int, float, bool, None, list, dict."""
        return _plain(self.node)

    def word(self) -> str | None:
        """The value as text; anything but a scalar is reported."""
        if isinstance(self.node, ScalarNode) and self.node.value.strip():
            return str(self.node.value).strip()
        self.fault(f"expected text, found {self.describe()}")
        return None

    def choice(self, allowed: Sequence[str]) -> str | None:
        word = self.word()
        if word is not None and word not in allowed:
            self.fault(f"{word} is none of {', '.join(allowed)}{did_you_mean(word, allowed)}")
            return None
        return word

    def number(self) -> float | None:
        value = self.plain()
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fault(f"expected a number, found {self.describe()}")
            return None
        return value

    def span(self) -> int | None:
        """Milliseconds; anything but a span is reported."""
        text = self.word()
        if text is None:
            return None
        ms = span_ms(text)
        if ms is None:
            self.fault(f"{text!r} is no span of time up to 400 days: write 90s, 10m, 1h30m, 14d")
        return ms

    def flag(self) -> bool | None:
        value = self.plain()
        if isinstance(value, bool):
            return value
        self.fault(f"expected true or false, found {self.describe()}")
        return None


_scalars = SafeConstructor()


def _plain(node: Node) -> Any:
    if isinstance(node, MappingNode):
        return {str(_plain(key)): _plain(value) for key, value in node.value}
    if isinstance(node, SequenceNode):
        return [_plain(item) for item in node.value]
    if not isinstance(node, ScalarNode):
        return None
    kind = str(node.tag).rpartition(":")[2]
    try:
        if kind == "int":
            return int(_scalars.construct_yaml_int(node))
        if kind == "float":
            return float(_scalars.construct_yaml_float(node))
    except ValueError:
        return str(node.value)
    if kind == "bool":
        return bool(_scalars.construct_yaml_bool(node))
    return None if kind == "null" else str(node.value)


def compose(text: str) -> Node | None:
    """The text's only document, by libyaml where it can: a fifth of the time.

    What libyaml refuses is composed again by Python's loader, whose errors say what is wrong and where.
    """
    if _Fast is not None and _is_tame(text):
        with contextlib.suppress(yaml.YAMLError):
            return yaml.compose(text, Loader=_Fast)
    return yaml.compose(text, Loader=_NoAliases)


_Fast = getattr(yaml, "CSafeLoader", None)


def _is_tame(text: str) -> bool:
    """Whether a text has no anchors and cannot be nested so deeply that libyaml's composer, which calls
    itself for each level, would run out of stack (some 20,000); and counts its characters as Python does."""
    nested = text.count("[") + text.count("{") + 2 * max(map(len, text.splitlines()), default=0)
    return "&" not in text and nested < 5_000 and not text.startswith("\ufeff")


def read(file: str, text: str, faults: list[Fault]) -> Place | None:
    """The text's only document; None, and a fault if it is no YAML, when there is nothing to read."""
    try:
        node = compose(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        faults.append(
            Fault(
                file=file,
                line=mark.line + 1 if mark else 1,
                column=mark.column + 1 if mark else 1,
                rule="",
                message=f"cannot be read as YAML: {getattr(error, 'problem', None) or error}",
            )
        )
        return None
    return None if node is None else Place(node, text, file, faults)
