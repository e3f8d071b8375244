"""After-sales, the rules: which run, what they found, and why one is or is not true for a product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from types import SimpleNamespace as Shown
from urllib.parse import quote

from aiohttp import web

from gateway.domain.access import Role
from gateway.domain.errors import InvalidError, NotFoundError
from gateway.domain.explaining import Told, ToldRule, told
from gateway.domain.moments import DAY_MS
from gateway.domain.pace import Pace
from gateway.domain.policy import RuleInfo
from gateway.domain.rule_sets import Activation
from gateway.domain.texts import NBSP
from gateway.domain.touchpoint import Finding, State, Touchpoint
from gateway.domain.wording import touchpoint_words
from gateway.flow import rule_history
from gateway.flow.explain import UnknownDeviceError, explain_now, meant
from gateway.flow.rule_history import RuleVersion
from gateway.flow.rule_sets import RulesRefusedError
from gateway.ports import Records
from gateway.web import views
from gateway.web.access import Identity, allow, who
from gateway.web.context import CONTEXT, Context
from gateway.web.render import page, see, words_for
from gateway.web.words import Words
from rules.texts import span_text

routes = web.RouteTableDef()
operator_only = allow(Role.OPERATOR)

MONTH_MS = 30 * DAY_MS
LATEST = 10
FAULTS_SHOWN = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What came of the rules in the last 30 days."""

    found: Mapping[str, tuple[int, int]]
    """by rule: (findings, products)"""
    sent: Mapping[str, int]
    tried_out: Mapping[str, tuple[int, int]]
    """of rules in shadow: (what they would have told, to how many owners)"""
    errors: Mapping[str, tuple[int, int]]
    held: Activation | None
    newest: Activation | None
    paces: Mapping[str, Pace]
    """of rules that have slowed themselves down"""


def load_figures(records: Records, now: int) -> Figures:
    """One look into the database."""
    since = now - MONTH_MS
    newest = records.rule_sets.history(limit=1)
    return Figures(
        found=records.touchpoints.found_by_rule(since),
        sent={str(row["rule"]): int(row["sent"]) for row in records.touchpoints.funnel(since)},
        tried_out=records.touchpoints.tried_out(since),
        errors=records.rule_sets.errors(),
        held=records.rule_sets.at(),
        newest=newest[0] if newest else None,
        paces={pace.rule: pace for pace in records.paces.all()},
    )


# --- all rules -------------------------------------------------------------------------------


@routes.get("/operator/rules")
@operator_only
async def rules(request: web.Request) -> web.Response:
    """All rules, by kind of product; above them the faults of files that were not taken."""
    context, words = request.app[CONTEXT], await words_for(request)
    now = context.clock.now()
    figures = await context.database.read(lambda records: load_figures(records, now))
    wanted = request.query.get("kind", "")
    kinds = sorted({rule.kind for rule in context.policy.rules.values()})
    view = Shown(
        lead=_lead(figures.held, len(context.policy.rules), words, now),
        trouble=_trouble(figures.newest, words, now),
        kinds=[
            Shown(
                name=_kind(kind, context, words), href=f"/operator/rules?kind={kind}", current=kind == wanted
            )
            for kind in kinds
        ],
        groups=[
            Shown(
                kind=_kind(kind, context, words),
                icon=views.kind_icon(kind),
                rows=[
                    _row(rule, figures, words)
                    for rule in sorted(context.policy.rules.values(), key=lambda rule: rule.id)
                    if rule.kind == kind
                ],
            )
            for kind in kinds
            if wanted in ("", kind)
        ],
    )
    said = f"toast.rules_{request.query.get('said', '')}"
    toast = Shown(text=words(said), undo_url=None) if words.has(said) else None
    return page(request, "operator_rules.html", words, tab="rules", view=view, toast=toast)


def _lead(held: Activation | None, count: int, words: Words, now: int) -> str:
    if held is None:
        return words("rules.lead", count=count)
    return words("rules.lead_since", count=count, when=words.moment(held.at, now))


def _trouble(newest: Activation | None, words: Words, now: int) -> Shown | None:
    """Why the files that were read last were not taken."""
    if newest is None or not newest.refused:
        return None
    return Shown(
        text=words("rules.refused", count=len(newest.faults), when=words.moment(newest.at, now)),
        faults=newest.faults[:FAULTS_SHOWN],
        more=words("rules.more_faults", count=len(newest.faults) - FAULTS_SHOWN)
        if len(newest.faults) > FAULTS_SHOWN
        else "",
    )


def _kind(kind: str, context: Context, words: Words) -> str:
    known = context.signals.kinds.get(kind)
    return words.label(known.label, kind.replace("_", " ")) if known else kind.replace("_", " ")


def _row(rule: RuleInfo, figures: Figures, words: Words) -> Shown:
    found, products = figures.found.get(rule.id, (0, 0))
    errors = figures.errors.get(rule.id, (0, 0))[0]
    return Shown(
        id=rule.id,
        href=f"/operator/rules/{quote(rule.id)}",
        name=views.rule_name(rule.id, words),
        version=rule.version,
        severity=views.severity(words, rule.severity),
        shadow=_would_send(rule, figures, words) if rule.shadow else "",
        paced=_paced(figures.paces.get(rule.id), words),
        found=words.number(found),
        products=words("rules.products", count=products).replace(" ", NBSP) if found else "",
        sent="–" if rule.shadow else words.number(figures.sent.get(rule.id, 0)),
        errors=words.number(errors) if errors else "–",
        broken=bool(errors),
    )


def _paced(pace: Pace | None, words: Words) -> str:
    """Why a rule sends fewer touchpoints than it finds reason for."""
    if pace is None:
        return ""
    return words(
        "rules.paced_text",
        declined=pace.declined,
        answered=pace.answered,
        count=pace.per_day,
        since=words.when(pace.since, "short"),
        ends=words.when(pace.ends, "short"),
    )


def _would_send(rule: RuleInfo, figures: Figures, words: Words) -> str:
    findings, owners = figures.tried_out.get(rule.id, (0, 0))
    if not findings:
        return words("rules.would_nothing")
    return words("rules.would", count=findings, owners=words("rules.owners", count=owners))


@routes.post("/operator/rules/reload")
@operator_only
async def reload(request: web.Request) -> web.Response:
    """Read the files again; what is wrong with them stands above the list."""
    reloader = request.app[CONTEXT].reloader
    if reloader is None:
        raise web.HTTPNotFound
    try:
        asked = await reloader.reload(who(request).name)
    except RulesRefusedError:
        return see("/operator/rules", "refused")
    return see("/operator/rules", "reloaded" if asked.changed else "unchanged")


# --- one rule --------------------------------------------------------------------------------


@routes.get("/operator/rules/{id}")
@operator_only
async def rule(request: web.Request) -> web.Response:
    """A rule: what it asks, what it found; and, for a product that is named, why it is or is not true."""
    context, words = request.app[CONTEXT], await words_for(request)
    now, wanted = context.clock.now(), request.match_info["id"]
    asked = context.policy.rules.get(wanted)
    if asked is None:
        raise NotFoundError(f"There is no rule {wanted}{meant(wanted, context.policy.rules)}")
    figures, findings, told_of = await context.database.read(
        lambda r: _load_rule(r, asked, context, words, now)
    )
    history = await context.database.read(lambda r: rule_history.versions(r, asked.id))
    device = request.query.get("device", "").strip()
    explained, problem = await _explain(context, asked, device, words) if device else (None, "")
    await context.database.read(lambda r: _note_looks(r, who(request), device, explained, told_of))
    row = _row(asked, figures, words)
    view = Shown(
        name=row.name,
        line=" · ".join((asked.id, words("rules.version", version=asked.version))),
        severity=row.severity,
        backtest=f"/operator/rules/{quote(asked.id)}/backtest",
        shadow=row.shadow,
        paced=row.paced,
        condition=_condition(asked),
        about=_about(asked, context, words),
        figures=[
            (
                words("rules.found_month"),
                [row.found if not row.products else f"{row.found} ({row.products})"],
            ),
            (words("rules.sent_month"), [row.sent]),
            (words("rules.errors"), [row.errors]),
        ],
        findings=[_finding(one, words, now) for one in findings],
        told=told_of,
        versions=_versions(history, words),
        device=device,
        explained=explained,
        problem=problem,
    )
    return page(request, "operator_rule.html", words, tab="rules", view=view)


def _versions(history: Sequence[RuleVersion], words: Words) -> list[Shown]:
    """What the rule was, the newest first, each with what it changed."""
    return [
        Shown(
            name=words("rules.version", version=one.version).capitalize(),
            holds=one.until is None,
            span=_span(one, words),
            by=let_in_by(one.by, words),
            changes=rule_history.changes(before.text, one.text) if before else [],
            text=one.text,
        )
        for one, before in zip_longest(history, history[1:])
    ]


def _span(one: RuleVersion, words: Words) -> str:
    since, time = words.when(one.since, "dated"), words.when(one.since, "time")
    if one.until is None:
        return words("rules.held_since", since=since, time=time)
    return words("rules.held", since=since, until=words.when(one.until, "dated"))


def let_in_by(name: str, words: Words) -> str:
    """Who let a set of rules hold."""
    if words.has(f"rules.by_{name}"):
        return words(f"rules.by_{name}")
    return words("rules.by", name=name.partition(":")[2]) if ":" in name else words("rules.by_token")


def _note_looks(
    records: Records,
    identity: Identity,
    device_id: str,
    explained: Shown | None,
    told_of: Sequence[Shown],
) -> None:
    """Whose values and findings the page shows."""
    if explained is not None and (device := records.devices.find(device_id)) is not None:
        identity.saw(device.owner, f"product:{device.id}", "check_product", device=device.id)
    for shown in told_of:
        identity.saw(shown.owner_id, "matters", "overview")


def _load_rule(
    records: Records, rule: RuleInfo, context: Context, words: Words, now: int
) -> tuple[Figures, list[Finding], list[Shown]]:
    findings = records.touchpoints.findings(rule=rule.id, limit=LATEST)
    told_of = []
    for one in findings if rule.shadow else ():
        codes = [line.code for line in records.touchpoints.ledger(finding=one.id, limit=5)]
        if "suppressed_shadow" in codes:
            told_of.append(_as_told(records, one, rule, context, words, now))
    return load_figures(records, now), findings, [shown for shown in told_of if shown]


def _as_told(
    records: Records, one: Finding, rule: RuleInfo, context: Context, words: Words, now: int
) -> Shown | None:
    """How a finding in shadow would have read."""
    device = records.devices.find(one.device)
    if device is None or device.owner is None:
        return None
    draft = Touchpoint(
        id=one.id,
        finding=one.id,
        device=one.device,
        owner=device.owner,
        rule=rule.id,
        rule_version=one.version,
        kind=rule.touchpoint_kind,
        service=rule.service,
        severity=one.severity,
        purpose=rule.purpose,
        state=State.DEFERRED,
        created=one.found_at,
        evidence=one.evidence,
    )
    workshop = views.find_workshop(records, device.workshop)
    said = touchpoint_words(
        draft, device, workshop, rule, context.signals, context.texts, words.language, words.zone
    )
    return Shown(
        when=words.moment(one.found_at, now),
        owner=_owner_name(records, device.owner),
        owner_id=device.owner,
        owner_url=f"/operator/owners/{quote(device.owner)}",
        title=said.title,
        body=said.evidence,
    )


def _owner_name(records: Records, owner: str) -> str:
    try:
        return records.owners.get(owner).name
    except NotFoundError:
        return owner


def _about(rule: RuleInfo, context: Context, words: Words) -> list[tuple[str, list[str]]]:
    service = f"services.{rule.service}.name"
    leads = [words(f"rules.leads_{rule.touchpoint_kind}")]
    if rule.service:
        known = context.texts.has(service)
        leads.append(context.texts.say(words.language, service) if known else rule.service)
    consent = f"consent.{rule.purpose}.label"
    rows = [
        (words("rules.kind"), [_kind(rule.kind, context, words)]),
        (words("rules.leads"), leads),
        (words("rules.purpose"), [words(consent) if words.has(consent) else rule.purpose]),
    ]
    if rule.source:
        rows.append((words("rules.source"), [rule.source]))
    return rows


def _condition(rule: RuleInfo) -> list[str]:
    """As the file has it."""
    lines = [f"when: {rule.condition}"]
    if rule.for_ms:
        lines.append(f"for: {span_text(rule.for_ms)}")
    if rule.clear:
        lines.append(f"clear: {rule.clear}")
    return lines


def _finding(one: Finding, words: Words, now: int) -> Shown:
    return Shown(
        device=one.device,
        href=f"/operator/devices/{quote(one.device)}",
        found=words.moment(one.found_at, now),
        cleared=words.moment(one.cleared_at, now) if one.cleared_at else words("operator.not_cleared"),
    )


# --- why -------------------------------------------------------------------------------------


async def _explain(
    context: Context, rule: RuleInfo, device_id: str, words: Words
) -> tuple[Shown | None, str]:
    """(the explanation, or what is wrong with the question)."""
    if context.in_force is None or context.state is None:
        return None, words("rules.cannot_explain")
    running = context.in_force.rules
    try:
        device, found = await explain_now(
            running,
            rule.id,
            device_id,
            database=context.database,
            state=context.state,
            journal=context.journal,
            now=context.clock.now(),
            kind=context.kind_of(device_id),
            geography=context.geography,
        )
    except UnknownDeviceError as error:
        key = "rules.no_device" if error.near is None else "rules.no_device_near"
        return None, words(key, device=device_id, near=error.near)
    except InvalidError:
        return None, words("rules.other_kind", device=device_id, kind=_kind(rule.kind, context, words))
    said = told(found, device.kind, running.catalogue, context.texts, words.language, words.zone)
    return _told(said, device.title, device_id, context, words), ""


def _told(said: ToldRule, title: str, device: str, context: Context, words: Words) -> Shown:
    speak = context.texts
    return Shown(
        title=title,
        href=f"/operator/devices/{quote(device)}",
        at=said.at,
        tone=_tone(said.holds),
        icon=_icon(said.holds),
        headline=said.headline,
        because=said.because,
        trees=[
            (speak.say(words.language, f"explain.{key}"), _part(part))
            for key, part in (("when", said.when), ("clear", said.clear))
            if part is not None
        ],
    )


def _part(part: Told) -> Shown:
    holds = part.holds if part.known else None
    asks = part.holds is not None or not part.known
    return Shown(
        words=part.words,
        value=part.value,
        note=part.note,
        text=part.text if part.text != part.words else "",
        icon=_icon(holds) if asks else "",
        tone=_tone(holds) if asks else "",
        parts=_parts(part.parts),
    )


def _parts(parts: Sequence[Told]) -> list[Shown]:
    return [_part(part) for part in parts]


def _icon(holds: bool | None) -> str:
    return {True: "done", False: "close", None: "trouble"}[holds]


def _tone(holds: bool | None) -> str:
    return {True: "done", False: "muted", None: "warning"}[holds]
