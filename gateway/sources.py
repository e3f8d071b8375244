"""The files that the settings name: signals, rules, topics, guides; every fault is told with its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

import config
from config import settings as configuration
from gateway.domain.errors import CannotStartError
from gateway.domain.guides import Guide, GuideErrors
from gateway.domain.guides import parse as parse_guides
from gateway.domain.rule_sets import Sources
from gateway.domain.topics import Topics, TopicsError, parse_topics
from gateway.flow.rule_sets import fault_of
from rules import Catalogue, Fault, RuleErrors, RuleSet, SignalErrors, load

LANGUAGES = ("en", "de")


def _texts(paths: Sequence[str], shipped: str) -> list[tuple[str, str]]:
    files: list[Path] = []
    for name in paths:
        path = config.data_path(shipped) if name == "@default" else Path(name)
        files += sorted(path.rglob("*.yaml")) if path.is_dir() else [path]
    return [(str(path), path.read_text(encoding="utf-8")) for path in files]


def signal_texts(paths: Sequence[str]) -> list[tuple[str, str]]:
    """(file, text) of the signal catalogues."""
    return _texts(paths, "signals")


def rule_texts(paths: Sequence[str]) -> list[tuple[str, str]]:
    """(file, text) of the rule files."""
    return _texts(paths, "rules")


def read_sources(settings: configuration.Settings) -> Sources:
    """The files that the settings name, as texts. Raises RuleErrors for those that cannot be read."""
    faults: list[Fault] = []
    parts = []
    for read, paths in ((signal_texts, settings.signals.paths), (rule_texts, settings.rules.paths)):
        try:
            parts.append(tuple(read(paths)))
        except OSError as error:
            faults.append(fault_of(str(error.filename), f"cannot be read: {error.strerror}"))
        except UnicodeDecodeError as error:
            faults.append(fault_of(", ".join(paths), f"is not UTF-8 text: {error}"))
    if faults:
        raise RuleErrors(faults)
    return Sources(signals=parts[0], rules=parts[1])


def load_signals(texts: Sequence[tuple[str, str]]) -> Catalogue:
    """The signal catalogue; CannotStartError with every fault, file and line first."""
    try:
        return Catalogue.parse(texts)
    except SignalErrors as error:
        raise CannotStartError(f"the signal catalogue cannot be used:\n{error}") from error


def check_kinds(named: Mapping[str, str], signals: Catalogue) -> None:
    """Devices of a kind that no signals are known for would be looked at by no rule, and nobody would hear of
    it. Raises CannotStartError."""
    for pattern, kind in named.items():
        if kind not in signals.kinds:
            raise CannotStartError(
                f"devices.kinds: {pattern} = {kind}, and no signals are known for that kind; known are "
                f"{', '.join(sorted(signals.kinds))}"
            )


def load_rules(texts: Sequence[tuple[str, str]], signals: Catalogue) -> RuleSet:
    """The rule set; CannotStartError with every fault, file and line first."""
    try:
        return load(texts, signals)
    except RuleErrors as error:
        raise CannotStartError(f"the rules cannot be used:\n{error}") from error


def load_topics(name: str) -> Topics:
    """What customers speak of; CannotStartError says what is wrong with the file."""
    path = config.data_path("topics.yaml") if name == "@default" else Path(name)
    try:
        return parse_topics(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, TopicsError) as error:
        raise CannotStartError(f"{path} cannot be taken: {error}") from error


def load_guides(paths: Sequence[str]) -> tuple[Guide, ...]:
    """How features are used; CannotStartError with every fault, file first."""
    texts = [(name, str(Path(name).parent), text) for name, text in _texts(paths, "guides")]
    try:
        return parse_guides(texts)
    except GuideErrors as error:
        raise CannotStartError(f"guides cannot be taken:\n{error}") from error
