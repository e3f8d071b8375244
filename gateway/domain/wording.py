"""How a matter and the ledger read, in the owner's language and time zone.

Rules have their own texts under `touchpoints.<rule id>`; a rule that nobody wrote texts for is worded
from its kind of touchpoint, its service and its signals. A text whose placeholders cannot all be filled
gives way to the next more general one, so that nobody reads a sentence with a hole in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.domain.appointment import Service, Terms, Workshop
from gateway.domain.device import Device
from gateway.domain.moments import DAY_MS, local
from gateway.domain.policy import RuleInfo
from gateway.domain.slots import together
from gateway.domain.terms import terms
from gateway.domain.texts import BEYOND, Texts
from gateway.domain.touchpoint import LedgerLine, Matter, Slot, Touchpoint
from gateway.domain.visit_words import arrival, terms_words
from rules import Catalogue, Signal

GENERIC = "touchpoints.generic"
CODES_SHOWN = 5
TIMES = ("until", "start", "new_start", "asked_at", "measured")
"""Parameters of ledger lines that are instants."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """A touchpoint in words."""

    name: str
    """what it is about: "Front brake pads\""""
    product: str
    """whose matter it is: "Arden 5 · HH-JK 482\""""
    severity_word: str
    title: str
    """the matter in one sentence without an end"""
    evidence: str
    """what was measured, in a sentence or two"""
    offer: str | None
    """who has which times; None without slots"""
    promise: str | None
    """"About 1 hour, 180–220 €."; None where the workshop states nothing"""
    body: str
    """evidence, offer and promise: what a push says below its title"""
    short: str
    """the same for a display: evidence and promise, the times stand on its buttons"""
    why: str
    """why this came, for those who ask"""
    parts: tuple[tuple[str, str], ...] = ()
    """(title, what was measured) of everything that one visit answers; empty for a single matter"""
    actions: tuple[tuple[str, str], ...] = ()
    """(id, label): book:<slot id>, not_now, noted, …; the first ones matter most"""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Speaker:
    """Everything that fills placeholders, for one matter."""

    texts: Texts
    language: str
    zone: str
    signals: Catalogue | None
    params: dict[str, Any] = field(default_factory=dict)

    def say(self, key: str, **more: Any) -> str:
        return self.texts.say(self.language, key, **self.params, **more)

    def first(self, *keys: str) -> str:
        """The first of these texts that exists and whose placeholders can all be filled."""
        known = {name for name, value in self.params.items() if value is not None}
        for key in keys:
            if self.texts.has(key) and self.texts.needs(self.language, key) <= known:
                return self.say(key)
        return self.say(keys[-1])

    def measure(self, kind: str, evidence: Mapping[str, Any], charted: str | None) -> None:
        """Values by signal name, and of the charted signal: label, value, limit, what a new part has."""
        for name, value in evidence.items():
            if isinstance(value, Mapping):
                continue
            self.params.setdefault(name, self.value(self._signal(kind, name), value))
        signal = self._signal(kind, charted) if charted else None
        if signal is None or charted is None:
            return
        self.params["signal"] = signal.label.get(self.language) or signal.label.get("en") or charted
        self.params["value"] = self.params.get(charted)
        if signal.wear is not None:
            self.params["worn_out"] = self.value(signal, signal.wear.limit)
            self.params["new"] = self.value(signal, 0)
            self._measure_left(signal, evidence.get(charted))

    def _measure_left(self, signal: Signal, value: Any) -> None:
        """What is left until a counter reaches its limit."""
        if signal.wear is not None and signal.display is None and isinstance(value, int | float):
            self.params["left"] = self.value(signal, max(0, signal.wear.limit - value))

    def _signal(self, kind: str, name: str) -> Signal | None:
        return self.signals.signal(kind, name) if self.signals else None

    def value(self, signal: Signal | None, value: Any) -> str | None:
        """A value as people read it, None for none."""
        match value:
            case None | "":
                return None
            case bool():
                return self.say("signals.yes" if value else "signals.no")
            case int() | float():
                return self._number(signal, value) if -BEYOND < value < BEYOND else None
            case str():
                key = f"signals.values.{value}"
                return self.say(key) if self.texts.has(key) else value
            case _:
                codes = [str(code) for code in value]
                more = ["…"] if len(codes) > CODES_SHOWN else []
                return ", ".join(codes[:CODES_SHOWN] + more) or None

    def _number(self, signal: Signal | None, value: float) -> str:
        if signal is None:
            return self.texts.quantity(self.language, round(value, 2), None)
        if signal.display is not None:
            return self.texts.quantity(
                self.language, round(signal.display.shown(value), 1), signal.display.unit
            )
        rounded = round(value, 1) if abs(value) < 1000 else round(value)
        key = f"units.of.{signal.unit}"
        if self.texts.has(key):
            return self.texts.say(self.language, key, count=rounded)
        return self.texts.quantity(self.language, rounded, signal.unit)


def touchpoint_words(
    touchpoint: Touchpoint,
    device: Device,
    workshop: Workshop | None,
    rule: RuleInfo | None,
    signals: Catalogue,
    texts: Texts,
    language: str,
    zone: str,
    *,
    now: int | None = None,
    matters: Sequence[Told] = (),
) -> Words:
    """The matter as it stands; slots that lie before `now` are left out. `rule` is None for a rule that is
    no longer active. Of a bundle `matters` are all its findings, the touchpoint's own first."""
    speaker = _Speaker(texts=texts, language=language, zone=zone, signals=signals)
    service = _service(workshop, touchpoint, matters)
    slots = [slot for slot in touchpoint.slots if now is None or slot.start > now]
    speaker.params.update(
        product=device.title,
        workshop=workshop.name if workshop else None,
        service=_service_name(speaker, service, touchpoint.service),
        minutes=texts.duration(language, service.minutes) if service else None,
    )
    speaker.measure(device.kind, touchpoint.evidence, _charted(rule, touchpoint.evidence))
    found = _bundle(speaker, device, matters) if len(matters) > 1 else _one(speaker, touchpoint)
    evidence = found.evidence
    day = local(touchpoint.created if now is None else now, zone).date().isoformat()
    said = _terms(service, workshop, touchpoint, matters, device, day)
    offer, promise = _offer(speaker, slots, workshop), _promise(speaker, service, said)
    return Words(
        name=found.name,
        product=" · ".join(part for part in (device.title, device.plate) if part),
        severity_word=speaker.say(f"touchpoints.severity.{touchpoint.severity}"),
        title=found.title,
        evidence=evidence,
        offer=offer,
        promise=promise,
        body=" ".join(part for part in (evidence, offer, promise) if part),
        short=" ".join(part for part in (evidence, promise) if part),
        why=found.why,
        parts=found.parts,
        actions=tuple(_actions(speaker, touchpoint, rule, slots)),
    )


@dataclass(frozen=True, slots=True)
class Told:
    """One finding of a touchpoint with the rule behind it, None for one that is no longer active."""

    matter: Matter
    rule: RuleInfo | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Said:
    name: str
    title: str
    evidence: str
    why: str
    parts: tuple[tuple[str, str], ...] = ()


def _one(speaker: _Speaker, found: Touchpoint | Matter) -> _Said:
    """A single finding, by its rule's texts, else by more general ones; a recall by its campaign's."""
    recalled = found.evidence.get("recall")
    if isinstance(recalled, Mapping):
        return _recall(speaker, recalled)
    update = found.evidence.get("update")
    if isinstance(update, Mapping):
        return _update(speaker, update)
    kind = found.kind if isinstance(found, Touchpoint) else "appointment"
    key, general = f"touchpoints.{found.rule}", f"{GENERIC}.{kind}"
    return _Said(
        name=speaker.first(f"{key}.name", f"{general}.name", f"{GENERIC}.any.name"),
        title=speaker.first(f"{key}.title", f"{general}.title", f"{GENERIC}.any.title"),
        evidence=speaker.first(f"{key}.body", f"{general}.body", f"{GENERIC}.any.body"),
        why=speaker.first(f"{key}.why", f"{general}.why", f"{GENERIC}.any.why"),
    )


def _recall(speaker: _Speaker, recalled: Mapping[str, Any]) -> _Said:
    title, body = (_in_language(speaker, recalled.get(name)) for name in ("title", "body"))
    reference = recalled.get("reference")
    name = speaker.say("touchpoints.recall.name")
    return _Said(
        name=speaker.say("touchpoints.recall.name_as", reference=reference) if reference else name,
        title=title or name,
        evidence=body,
        why=speaker.say("touchpoints.recall.why"),
    )


def _update(speaker: _Speaker, update: Mapping[str, Any]) -> _Said:
    """New software: what it brings, how long it takes, from when it comes anyway; or that it is there."""
    what = next((name for name in ("installed", "failed") if name == update.get("what")), "offered")
    security = "security" if update.get("security") and what == "offered" else what
    version, minutes, forced = update.get("version"), update.get("minutes"), update.get("forced_at")
    said = [_in_language(speaker, update.get("notes")) if what != "failed" else ""]
    if what == "offered":
        if minutes:
            length = speaker.texts.duration(speaker.language, minutes)
            said.append(speaker.say("touchpoints.update.takes", length=length))
        if forced:
            day = speaker.texts.date(speaker.language, forced, speaker.zone)
            said.append(speaker.say("touchpoints.update.forced", day=day))
    return _Said(
        name=speaker.say("touchpoints.update.name", version=version),
        title=speaker.say(f"touchpoints.update.title_{security}", version=version),
        evidence=" ".join(text for text in said if text),
        why=speaker.say(f"touchpoints.update.why_{security}"),
    )


def _in_language(speaker: _Speaker, texts: Any) -> str:
    """What a campaign says, in the owner's language, else in English, else in what there is."""
    if not isinstance(texts, Mapping):
        return ""
    return str(texts.get(speaker.language) or texts.get("en") or next(iter(texts.values()), ""))


def _bundle(speaker: _Speaker, device: Device, matters: Sequence[Told]) -> _Said:
    """Several findings that one visit answers: each is named, and what to do is said once."""
    said = []
    for told in matters:
        shared = {name: speaker.params[name] for name in ("product", "workshop")}
        one = replace(speaker, params=shared)
        one.params["service"] = _service_name(one, None, told.matter.service)
        one.measure(device.kind, told.matter.evidence, _charted(told.rule, told.matter.evidence))
        said.append(_one(one, told.matter))
    key = "title_at" if speaker.params.get("workshop") else "title"
    return _Said(
        name=speaker.texts.listed(speaker.language, list(dict.fromkeys(one.name for one in said))),
        title=speaker.say(f"touchpoints.bundle.{key}", count=len(said)),
        evidence=" ".join(speaker.say("touchpoints.bundle.part", title=one.title) for one in said),
        why=speaker.say("touchpoints.bundle.why", count=len(said), why=said[0].why),
        parts=tuple((one.title, one.evidence) for one in said),
    )


def _service(workshop: Workshop | None, touchpoint: Touchpoint, matters: Sequence[Told]) -> Service | None:
    """The job, or all jobs of a bundle as one visit."""
    offered = _services(workshop, touchpoint, matters)
    return together(offered) if offered else None


def _services(workshop: Workshop | None, touchpoint: Touchpoint, matters: Sequence[Told]) -> list[Service]:
    if workshop is None or workshop.service(touchpoint.service) is None:
        return []
    wanted = dict.fromkeys((touchpoint.service, *(told.matter.service for told in matters)))
    return [service for service in map(workshop.service, wanted) if service is not None]


def _terms(
    service: Service | None,
    workshop: Workshop | None,
    touchpoint: Touchpoint,
    matters: Sequence[Told],
    device: Device,
    day: str,
) -> Terms | None:
    """Who pays; of a bundle only where it is the same for all of it."""
    if service is None:
        return None
    recalled = {told.matter.service for told in matters if told.matter.purpose == "recall"}
    recalled |= {touchpoint.service} if touchpoint.purpose == "recall" else set()
    each = [
        terms(one, device, day, recall=one.id in recalled) for one in _services(workshop, touchpoint, matters)
    ]
    if len({one.payer if one else None for one in each}) > 1:
        return None
    return terms(service, device, day, recall=bool(recalled))


def _charted(rule: RuleInfo | None, evidence: Mapping[str, Any]) -> str | None:
    names = rule.signals if rule and rule.signals else [name for name in evidence if name != "ts"]
    return names[0] if names else None


def _service_name(speaker: _Speaker, service: Service | None, service_id: str | None) -> str | None:
    if service is not None:
        return service.names.get(speaker.language) or service.names.get("en") or service.id
    key = f"services.{service_id}.name"
    return speaker.say(key) if service_id and speaker.texts.has(key) else service_id


def _offer(speaker: _Speaker, slots: Sequence[Slot], workshop: Workshop | None) -> str | None:
    if not slots or workshop is None:
        return None
    language, zone = speaker.language, speaker.zone
    times = [arrival(speaker.texts, language, s.start, s.arrive_until, zone, "moment") for s in slots]
    return speaker.say("touchpoints.offer", times=speaker.texts.listed(speaker.language, times, "units.or"))


def _promise(speaker: _Speaker, service: Service | None, said: Terms | None) -> str | None:
    if service is None:
        return None
    price = terms_words(speaker.texts, speaker.language, said) if said else None
    key = "touchpoints.promise" if price else "touchpoints.promise_time"
    # A price may end with a point of its own ("inkl. 19 % MwSt.").
    return speaker.say(key, price=price.removesuffix(".") if price else None)


def _actions(
    speaker: _Speaker, touchpoint: Touchpoint, rule: RuleInfo | None, slots: Sequence[Slot]
) -> Iterator[tuple[str, str]]:
    for slot in slots:
        moment = arrival(
            speaker.texts, speaker.language, slot.start, slot.arrive_until, speaker.zone, "moment_button"
        )
        yield f"book:{slot.id}", speaker.say("actions.book", moment=moment)
    if touchpoint.kind == "appointment":
        more = "other_time" if slots else "call_me"
        yield more, speaker.say(f"actions.{more}")
    else:
        yield "noted", speaker.say("actions.noted")
        if rule is not None and rule.resets:
            yield "already_done", speaker.say("actions.already_done")
    yield "not_now", speaker.say("actions.not_now")


# --- ledger -----------------------------------------------------------------------------------


def ledger_words(
    line: LedgerLine, texts: Texts, language: str, zone: str, signals: Catalogue | None = None
) -> str:
    """One line as a sentence; with `signals` what was measured is named too."""
    speaker = _Speaker(texts=texts, language=language, zone=zone, signals=signals)
    speaker.params.update(_plain(line.params), time=texts.time(language, line.at, zone))
    _times(speaker, line)
    if line.code == "found":
        speaker.params["found"] = _found(speaker, line.params)
    if "other" in line.params:
        speaker.params["other"] = _rule_name(speaker, str(line.params["other"]))
    _household(speaker, line)
    if "price" in line.params:
        price, currency = line.params["price"], str(line.params.get("currency", "EUR"))
        speaker.params["price"] = texts.price(language, price, price, currency)
    if "by" in line.params:
        speaker.params["by"] = str(line.params["by"]).partition(":")[2] or line.params["by"]
    if "how" in line.params:
        speaker.params["how"] = _known_by(speaker, str(line.params["how"]))
    if "channels" in line.params:
        speaker.params["channels"] = _channels(speaker, line.params["channels"])
    for name in ("channel", "reason"):
        if name in line.params:
            speaker.params[name] = speaker.say(f"ledger.{name}.{line.params[name]}")
    code = f"ledger.{line.code}"
    # The fullest of its sentences whose parts are all known: where, on which day, until when.
    sentence = speaker.first(f"{code}_there", f"{code}_on", f"{code}_until", code, "ledger.other")
    return " ".join(part for part in (sentence, _nth(speaker, line.params), _answerer(speaker, line)) if part)


def ledger_story(
    lines: Sequence[LedgerLine], texts: Texts, language: str, zone: str, signals: Catalogue | None = None
) -> list[tuple[LedgerLine, str]]:
    """Lines (oldest first) as sentences; that a product parked is said with the line that waited for it:
    "Not sent at 7:00: the Arden 5 was being driven. It parked at 7:31."."""
    told: list[tuple[LedgerLine, str]] = []
    for line in lines:
        sentence = ledger_words(line, texts, language, zone, signals)
        before = told[-1][0] if told else None
        if line.code == "parked" and before is not None and before.code == "not_sent_driving":
            told[-1] = (before, f"{told[-1][1]} {sentence}")
        else:
            told.append((line, sentence))
    return told


def _plain(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if isinstance(value, str | int | float)}


def _times(speaker: _Speaker, line: LedgerLine) -> None:
    """Instants among the parameters: the time alone within a day, else with its date."""
    for name in TIMES:
        at = line.params.get(name)
        if isinstance(at, int):
            near = abs(at - line.at) < DAY_MS
            speaker.params[name] = speaker.texts.moment(speaker.language, at, speaker.zone)
            speaker.params[f"{name}_near"] = (
                speaker.texts.time(speaker.language, at, speaker.zone) if near else speaker.params[name]
            )
    done_on = line.params.get("done_on")
    if isinstance(done_on, int):
        speaker.params["done_on"] = speaker.texts.when(speaker.language, done_on, speaker.zone, "date")


def _found(speaker: _Speaker, params: Mapping[str, Any]) -> str:
    evidence = params.get("evidence") or {}
    if isinstance(evidence.get("recall"), Mapping):
        return _recall(speaker, evidence["recall"]).title
    names = [name for name in params.get("signals") or evidence if name != "ts"]
    speaker.measure(str(params.get("kind") or ""), evidence, names[0] if names else None)
    key = f"touchpoints.{params.get('rule')}"
    return speaker.first(f"{key}.found", f"{GENERIC}.any.found", f"{key}.name", f"{GENERIC}.any.found_bare")


def _rule_name(speaker: _Speaker, rule: str) -> str:
    """What a rule is about, where nothing is known of what was measured."""
    if rule.startswith("recall-"):
        return speaker.say("touchpoints.recall.name")
    return speaker.first(f"touchpoints.{rule}.name", "ledger.other_matter")


def _channels(speaker: _Speaker, channels: Sequence[str]) -> str:
    words = [speaker.say(f"ledger.to.{channel}") for channel in channels]
    return speaker.texts.listed(speaker.language, words)


def _known_by(speaker: _Speaker, how: str) -> str:
    """By what a caller was known: their code, or what they were asked."""
    if how == "code":
        return speaker.say("ledger.known_by.code")
    asked = [speaker.first(f"pages.talk.fact_{one}", "ledger.other_matter") for one in how.split(", ")]
    return speaker.say("ledger.known_by.asked", facts=speaker.texts.listed(speaker.language, asked))


def _household(speaker: _Speaker, line: LedgerLine) -> None:
    """Who looked at what and why; who is what to a product; what was agreed to."""
    params = line.params
    if "why" in params:
        speaker.params["who"] = speaker.first(f"ledger.who.{params.get('role')}", "ledger.who.other")
        why = str(params.get("why") or "")
        known = speaker.texts.has(f"ledger.why.{why}")
        speaker.params["why"] = speaker.say(f"ledger.why.{why if known else 'said'}", said=why)
    if "thing" in params:
        speaker.params["thing"] = speaker.first(f"ledger.thing.{params['thing']}", "ledger.thing.other")
    if "sees" in params:
        speaker.params["part"] = speaker.say(f"ledger.part.{params.get('role')}")
        held = [name for name in ("asked", "may_answer", "sees") if params.get(name)]
        words = [speaker.say(f"ledger.right.{name}") for name in held[:2] or held] or [
            speaker.say("ledger.right.none")
        ]
        speaker.params["rights"] = speaker.texts.listed(speaker.language, words)
    if "purpose" in params:
        key = f"pages.consent.{params['purpose']}.label"
        speaker.params["purpose"] = speaker.say(key) if speaker.texts.has(key) else params["purpose"]
    if "way" in params:
        speaker.params["way"] = speaker.say(f"pages.channel.{params['way']}.label")
    if "muted" in params:
        key = f"touchpoints.{params['muted']}.name"
        speaker.params["rule_name"] = speaker.say(key) if speaker.texts.has(key) else params["muted"]


def _answerer(speaker: _Speaker, line: LedgerLine) -> str | None:
    """Who of a household answered what somebody else was asked."""
    if not line.code.startswith("answered_") or not line.params.get("person"):
        return None
    return speaker.say("ledger.answered_by")


def _nth(speaker: _Speaker, params: Mapping[str, Any]) -> str | None:
    """ "First of two service messages you allow a week."."""
    nth, budget = params.get("nth"), params.get("budget")
    if not isinstance(nth, int) or not isinstance(budget, int) or nth > budget:
        return None
    if budget == 1:
        return speaker.say("ledger.nth_only")
    key = f"ledger.nth.{nth}" if speaker.texts.has(f"ledger.nth.{nth}") else "ledger.nth.any"
    word = f"units.words.{budget}"
    return speaker.say(key, of=speaker.say(word) if speaker.texts.has(word) else budget)
