"""Rules: read from YAML, checked as a whole, and proved by their own examples in virtual time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

from rules import expressions
from rules.expressions import Expression, ExpressionFault
from rules.readings import Known
from rules.signals import Catalogue, Kind
from rules.texts import Fault, Place, RuleErrors, SignalErrors, did_you_mean, read

Severity: TypeAlias = Literal["advice", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("advice", "warning", "critical")
ContactKind: TypeAlias = Literal["appointment", "reminder", "hint", "notice"]
CONTACT_KINDS: tuple[ContactKind, ...] = ("appointment", "reminder", "hint", "notice")

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_PURPOSE = re.compile(r"[a-z][a-z_-]{0,31}")
_KEYS = (
    "id", "version", "kind", "purpose", "severity", "when", "for", "clear", "touchpoint", "resets", "shadow",
    "while_driving", "max_age", "source", "examples",
)  # fmt: skip
_REQUIRED = ("id", "version", "kind", "purpose", "severity", "when", "touchpoint")
_EXPECT = ("fires_at", "clears_at", "never")


@dataclass(frozen=True, kw_only=True, slots=True)
class Contact:
    """The touchpoint that a rule leads to."""

    kind: ContactKind
    service: str | None = None  # what a workshop does about it
    expires_ms: int | None = None  # how long after the finding it makes sense


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """Readings, and what the rule makes of them. Times are ms from the example's start."""

    given: tuple[tuple[int, Mapping[str, Known]], ...]  # in the order of time
    fires_at: tuple[int, ...]
    clears_at: tuple[int, ...] | None  # None: not said
    line: int  # in the rule's file


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """A condition over signals, and the touchpoint it leads to."""

    id: str
    version: int
    kind: str  # of device
    purpose: str  # the consent that its touchpoints need
    severity: Severity
    when: Expression
    for_ms: int = 0  # how long `when` has to be true without a break, in device time
    clear: Expression | None = None  # what ends an episode; None: that `when` is false
    touchpoint: Contact
    resets: tuple[str, ...] = ()  # signals whose reset by a job ends the episode
    shadow: bool = False  # finds, and sends nothing
    while_driving: bool = False  # may be shown while the device moves
    max_age_ms: int | None = (
        None  # how old what was measured may be when it arrives; None: as the operator set it
    )
    source: str | None = None  # where the threshold comes from, one sentence
    examples: tuple[Example, ...] = field(default=(), repr=False)
    file: str = ""
    line: int = 1

    @property
    def signals(self) -> tuple[str, ...]:
        """Signals of `when`, in the order of their first mention."""
        return self.when.signals

    @property
    def limit(self) -> float | None:
        """The number that the first signal of `when` is compared with, if it is compared with one."""
        return expressions.limit(self.when)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Checked rules by id, with the catalogue they were checked against."""

    rules: Mapping[str, Rule]
    catalogue: Catalogue

    def of_kind(self, kind: str) -> tuple[Rule, ...]:
        """The rules of a kind of device, in the order they were given."""
        return tuple(rule for rule in self.rules.values() if rule.kind == kind)


def load(texts: Iterable[tuple[str, str]], catalogue: Catalogue) -> RuleSet:
    """Read rule files given as (name of the source, its text).

    Raises RuleErrors with every fault of every text.
    """
    faults: list[Fault] = []
    rules: dict[str, Rule] = {}
    for file, text in texts:
        place = read(file, text, faults)
        for entry in place.entries() if place else ():
            rule = _rule(entry, catalogue)
            if rule is not None and rule.id in rules:
                before = rules[rule.id]
                entry.named(rule.id).fault(f"the id is taken already, in {before.file}:{before.line}")
            elif rule is not None:
                rules[rule.id] = rule
    if faults:
        raise RuleErrors(faults)
    return RuleSet(rules, catalogue)


def check(texts: Iterable[tuple[str, str]], signals: Catalogue | Iterable[tuple[str, str]]) -> list[Fault]:
    """Every fault of rule files, and of signal files if these are given as text; empty when all is well."""
    try:
        load(texts, signals if isinstance(signals, Catalogue) else Catalogue.parse(signals))
    except (RuleErrors, SignalErrors) as errors:
        return list(errors.faults)
    return []


def _rule(entry: Place, catalogue: Catalogue) -> Rule | None:
    """One rule; None, with its faults reported, if it cannot be made."""
    before = len(entry.faults)
    name = _peek_id(entry)
    entry = entry.named(name)
    fields = entry.fields(_KEYS, required=_REQUIRED)
    kind = _kind(fields["kind"], catalogue) if "kind" in fields else None
    if name and not _ID.fullmatch(name):
        fields["id"].fault(f"{name!r} is no id: write lower case with dashes, such as brake-pads-front-worn")
    values = _plain_fields(fields)
    when = _expression(fields["when"], kind, catalogue) if kind and "when" in fields else None
    clear = _expression(fields["clear"], kind, catalogue) if kind and "clear" in fields else None
    resets = _resets(fields.get("resets"), kind) if kind else ()
    touchpoint = _contact(fields["touchpoint"]) if "touchpoint" in fields else None
    examples = _examples(fields.get("examples"), kind) if kind else ()
    if len(entry.faults) > before or kind is None or when is None or touchpoint is None:
        return None
    return Rule(
        id=name,
        kind=kind.name,
        when=when,
        clear=clear,
        touchpoint=touchpoint,
        resets=resets,
        examples=examples,
        file=entry.file,
        line=entry.line,
        **values,
    )


def _plain_fields(fields: Mapping[str, Place]) -> dict[str, Any]:
    """Fields of Rule that need nothing but their own text."""
    found: dict[str, Any] = {}
    if "version" in fields:
        version = fields["version"].plain()
        found["version"] = version
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            fields["version"].fault("a version is a whole number from 1")
    if "purpose" in fields:
        purpose = found["purpose"] = fields["purpose"].word()
        if purpose is not None and not _PURPOSE.fullmatch(str(purpose)):
            fields["purpose"].fault(f"{purpose!r} is no purpose: write one word, such as maintenance")
    if "severity" in fields:
        found["severity"] = fields["severity"].choice(SEVERITIES)
    if "for" in fields:
        found["for_ms"] = fields["for"].span()
    if "max_age" in fields:
        found["max_age_ms"] = fields["max_age"].span()
    for name in ("shadow", "while_driving"):
        if name in fields:
            found[name] = fields[name].flag()
    if "source" in fields:
        found["source"] = fields["source"].word()
    return found


def _peek_id(entry: Place) -> str:
    """The id, so that faults found before it is read can name it."""
    plain = entry.plain()
    value = plain.get("id") if isinstance(plain, dict) else None
    return str(value) if isinstance(value, str | int) else ""


def _kind(place: Place, catalogue: Catalogue) -> Kind | None:
    name = place.word()
    if name is not None and name not in catalogue.kinds:
        known = did_you_mean(name, catalogue.kinds) or f"; known: {', '.join(catalogue.kinds)}"
        place.fault(f"no signals are known for the kind {name}{known}")
    return catalogue.kinds.get(name or "")


def _expression(place: Place, kind: Kind, catalogue: Catalogue) -> Expression | None:
    text = place.word()
    if text is None:
        return None
    try:
        return expressions.check(text, kind, catalogue.zones)
    except ExpressionFault as fault:
        place.fault(fault.message, offset=fault.offset)
        return None


def _resets(place: Place | None, kind: Kind) -> tuple[str, ...]:
    names = []
    for item in place.entries() if place else ():
        name = item.word() or ""
        signal = kind.resolve(name)
        if signal is not None:
            names.append(signal.name)
        elif name:
            item.fault(f"{kind.name} has no signal {name}{did_you_mean(name, kind.signals)}")
    return tuple(names)


def _contact(place: Place) -> Contact | None:
    fields = place.fields(("kind", "service", "expires"), required=("kind",))
    kind = cast(ContactKind | None, fields["kind"].choice(CONTACT_KINDS)) if "kind" in fields else None
    service = fields["service"].word() if "service" in fields else None
    expires = fields["expires"].span() if "expires" in fields else None
    if kind == "appointment" and "service" not in fields:
        place.fault("an appointment needs a service: what the workshop does, such as brakes-front")
    return Contact(kind=kind, service=service, expires_ms=expires) if kind else None


def _examples(place: Place | None, kind: Kind) -> tuple[Example, ...]:
    found = (_example(item, kind) for item in (place.entries() if place else ()))
    return tuple(example for example in found if example is not None)


def _example(place: Place, kind: Kind) -> Example | None:
    fields = place.fields(("given", "expect"), required=("given", "expect"))
    if len(fields) < 2:
        return None
    expect = fields["expect"].fields(_EXPECT)
    fires, never = _times(expect.get("fires_at")), "never" in expect
    if never == ("fires_at" in expect):
        fields["expect"].fault("say either fires_at: 70m or never: true")
    elif never and expect["never"].plain() is not True:
        expect["never"].fault("write never: true")
    return Example(
        given=_given(fields["given"], kind),
        fires_at=fires or (),
        clears_at=_times(expect.get("clears_at")),
        line=place.line,
    )


def _times(place: Place | None) -> tuple[int, ...] | None:
    """One span, or a list of them."""
    if place is None:
        return None
    items = list(place.entries()) if isinstance(place.plain(), list) else [place]
    return tuple(ms for ms in (item.span() for item in items) if ms is not None)


def _given(place: Place, kind: Kind) -> tuple[tuple[int, Mapping[str, Known]], ...]:
    """All signals' readings merged: one entry a time."""
    moments: dict[int, dict[str, Known]] = {}
    for name, readings in place.fields(what="signal").items():
        signal = kind.resolve(name)
        if signal is None:
            readings.fault(f"{kind.name} has no signal {name}{did_you_mean(name, kind.signals)}")
            continue
        for reading in readings.entries():
            pair = list(reading.entries())
            ms = pair[0].span() if len(pair) == 2 else None
            if ms is None:
                reading.fault("a reading is [time, value], such as [70m, 81]")
            else:
                moments.setdefault(ms, {})[signal.name] = pair[1].plain()
    return tuple(sorted(moments.items()))
