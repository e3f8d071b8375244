"""After-sales, rollouts: plan one and try it dry, begin it, steer it, see how far each of its groups is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace as Shown
from typing import Any

from aiohttp import web
from markupsafe import Markup

from firmware_api import releases, rollouts
from firmware_api.actions import MODES
from firmware_api.office import Office
from firmware_api.release import ConflictError as FirmwareConflict
from firmware_api.release import FirmwareError, UnknownError
from firmware_api.releases import Release
from firmware_api.rollouts import (
    MOST_GROUPS,
    NobodyError,
    Picture,
    Plan,
    PlanError,
    Rollout,
    plan_of,
)
from gateway.domain.access import Role
from gateway.domain.moments import local_ms
from gateway.flow.operator_news import cause
from gateway.web.access import allow, who
from gateway.web.context import CONTEXT, Context
from gateway.web.render import page, see, words_for
from gateway.web.views import kind_words
from gateway.web.words import Words

routes = web.RouteTableDef()
operator_only = allow(Role.OPERATOR)

COLUMNS = ("scheduled", "waiting", "running", "silent", "finished", "failed", "canceled")
DRAWN = ("finished", "running", "waiting", "scheduled", "canceled", "silent", "failed")
"""From left to right in the picture of a group; `failed` counts the silent ones, too."""
MOVES = {"ready": ("start", "stop"), "running": ("pause", "stop"), "paused": ("resume", "stop")}
LISTS = ("models", "firmware", "countries", "tags", "devices")
NUMBERS = ("percent", "success", "error", "pace")
STOPPED_MS = 7 * 24 * 3_600_000
NAMED = 12
"""Devices of a group that a dry run names."""


def office_of(request: web.Request) -> Office:
    """Where firmware is kept; 404 in a process without it."""
    office = request.app[CONTEXT].office
    if office is None:
        raise web.HTTPNotFound
    return office


def toast_of(request: web.Request, words: Words) -> Shown | None:
    """What is said once, after something was done."""
    key = f"toast.{request.query.get('said', '')}"
    return Shown(text=words(key), undo_url=None) if words.has(key) else None


async def stopped_rollouts(context: Context, words: Words, now: int) -> list[Shown]:
    """Rollouts that stopped by themselves in the last days, for whoever opens the overview."""
    if context.office is None:
        return []
    found = await context.office.read(lambda c: rollouts.stopped_since(c, now - STOPPED_MS))
    return [
        Shown(name=one.name, reason=_reason(one, words), href=f"/operator/firmware/rollouts/{one.id}")
        for one in found
    ]


# --- one, as it stands ----------------------------------------------------------------------------


def _reason(one: Rollout, words: Words) -> str:
    return cause(words.texts, words.language, one.cause) or one.reason or ""


def shown(
    one: Rollout, groups: Sequence[Picture], versions: Mapping[int, str], words: Words, now: int
) -> Shown:
    """A rollout with the picture of its groups."""
    return Shown(
        href=f"/operator/firmware/rollouts/{one.id}",
        name=one.name,
        release=versions.get(one.release, ""),
        made=words.moment(one.created_at, now),
        state=words(f"firmware.state_{one.state}"),
        reason=_reason(one, words),
        moves=[(move, words(f"firmware.{move}")) for move in MOVES.get(one.state, ())],
        columns=[(name, words(f"firmware.{name}")) for name in COLUMNS],
        groups=[_group(group, words) for group in groups],
    )


def _group(group: Picture, words: Words) -> Shown:
    return Shown(
        name=group.name,
        state=words(f"firmware.state_{group.state}"),
        size=words.number(group.size),
        counts=[words.number(getattr(group, name)) for name in COLUMNS],
        done=words("firmware.done_of", done=group.finished, of=group.size),
        bar=_bar(group, words),
    )


def _bar(group: Picture, words: Words) -> Markup:
    """A group as one bar, a part for every state that some of its devices are in."""
    parts, at = [], 0.0
    for name in DRAWN:
        count = getattr(group, name) - (group.silent if name == "failed" else 0)
        if count and group.size:
            width = 100 * count / group.size
            parts.append(f'<rect class="is-{name}" x="{at:.2f}" y="0" width="{width:.2f}" height="10"/>')
            at += width
    label = ", ".join(
        f"{words(f'firmware.{name}')} {getattr(group, name)}" for name in COLUMNS if getattr(group, name)
    )
    drawing = Markup('<svg class="share" viewBox="0 0 100 10" preserveAspectRatio="none" role="img"')
    return drawing + Markup(' aria-label="{}">{}</svg>').format(label or group.name, Markup("".join(parts)))


def versions_of(found: Sequence[Release], context: Context, words: Words) -> dict[int, str]:
    """Kind and version by the release's number."""
    return {
        one.id: f"{kind_words(one.manifest.kind, context, words)} {one.manifest.version}" for one in found
    }


@routes.get("/operator/firmware/rollouts/{rollout:[0-9]{1,10}}")
@operator_only
async def rollout(request: web.Request) -> web.Response:
    """One rollout: its groups, what happened, and who failed."""
    office, words = office_of(request), await words_for(request)
    number, now = int(request.match_info["rollout"]), request.app[CONTEXT].clock.now()
    try:
        one = await office.read(lambda c: rollouts.get(c, number))
    except UnknownError:
        raise web.HTTPNotFound from None
    groups = await office.read(lambda c: rollouts.picture(c, number))
    found = await office.read(lambda c: releases.by_id(c, one.release))
    lines = await office.read(lambda c: rollouts.notes(c, number))
    worst = await office.read(lambda c: rollouts.troubled(c, number, NAMED))
    view = shown(one, groups, versions_of([found], request.app[CONTEXT], words), words, now)
    view.lines = [(words.moment(line["at"], now), _line(line, words)) for line in lines]
    view.plan = _plan_lines(one.plan, words, now)
    view.troubled = [
        Shown(
            device=row["target"],
            href=f"/operator/firmware/devices/{row['target']}",
            state=words("firmware.silent" if row["silent"] else "firmware.failed"),
            said=row["message"] or "",
        )
        for row in worst
    ]
    return page(
        request, "operator_rollout.html", words, tab="firmware", view=view, toast=toast_of(request, words)
    )


def _line(line: Mapping[str, Any], words: Words) -> str:
    data = line["data"]
    if line["what"] == rollouts.BY_ITSELF:
        why = cause(words.texts, words.language, data) or line["text"]
        return words("firmware.did.stopped_by_itself", why=why)
    key = f"firmware.did.{line['what'].replace(' ', '_')}"
    if line["what"] == "stop" and "by" not in data:
        return cause(words.texts, words.language, data) or str(line["text"])
    told = words.has(key) and words.texts.needs(words.language, f"pages.{key}") <= data.keys()
    return words(key, **data) if told else str(line["text"])


def _plan_lines(plan: Plan, words: Words, now: int) -> list[tuple[str, list[str]]]:
    lines = [
        (words("firmware.mode"), [words(f"firmware.mode_{plan.mode}")]),
        (words("firmware.silence_h"), [words("firmware.hours", hours=plan.silence_h)]),
        (words("firmware.ask_owner"), [words("firmware.yes" if plan.ask_owner else "firmware.no")]),
    ]
    if plan.forced_at is not None:
        lines.append((words("firmware.forced_at"), [words.moment(plan.forced_at, now)]))
    return lines + [(group.name, [_group_line(group, words)]) for group in plan.groups]


def _group_line(group: rollouts.Group, words: Words) -> str:
    chosen = [f"{words(f'firmware.q_{name}')}: {', '.join(getattr(group.query, name)[:8])}" for name in LISTS]
    parts = [text for name, text in zip(LISTS, chosen, strict=True) if getattr(group.query, name)]
    shares = {"percent": group.percent, "success": group.success, "error": group.error}
    parts.append(words("firmware.group_line", **shares))
    if group.pace:
        parts.append(words("firmware.group_pace", pace=group.pace))
    return " · ".join(parts)


@routes.post("/operator/firmware/rollouts/{rollout:[0-9]{1,10}}/{move}")
@operator_only
async def steer(request: web.Request) -> web.Response:
    """start, pause, resume or stop it."""
    office, number = office_of(request), int(request.match_info["rollout"])
    move, now, by = request.match_info["move"], request.app[CONTEXT].clock.now(), who(request).name
    said = None
    if move not in rollouts.MOVES:
        raise web.HTTPNotFound
    try:
        await office.write(lambda c: rollouts.steer(c, number, move, now, by))
    except FirmwareConflict:
        said = "firmware_conflict"
    except UnknownError:
        raise web.HTTPNotFound from None
    return see(f"/operator/firmware/rollouts/{number}", said)


# --- a new one ------------------------------------------------------------------------------------

EMPTY = {"name": "", **dict.fromkeys(LISTS, ""), "percent": "100", "success": "90", "error": "5", "pace": "0"}
FIRST: Mapping[str, str] = {**EMPTY, "percent": "1"}


@routes.get("/operator/firmware/new")
@operator_only
async def planned(request: web.Request) -> web.Response:
    """A plan to fill in: one in a hundred first, then everybody."""
    words = await words_for(request)
    form = {
        "release": request.query.get("release", ""),
        "mode": "forced",
        "silence_h": "24",
        "notice_h": "72",
        "ask_owner": "on",
    }
    names = (words("firmware.first_group"), words("firmware.last_group"))
    groups = [{**fields, "name": name} for fields, name in zip((FIRST, EMPTY), names, strict=True)]
    return await _form(request, words, form, groups)


@routes.post("/operator/firmware/new")
@operator_only
async def plan(request: web.Request) -> web.Response:
    """Another group, one less, a dry run, or the rollout itself."""
    words, given = await words_for(request), await request.post()
    form = {name: str(value).strip() for name, value in given.items()}
    groups, act = _groups(form), form.get("act", "dry")
    if act == "more" and len(groups) < MOST_GROUPS:
        groups.append({**EMPTY, "name": words("firmware.group_number", number=len(groups) + 1)})
        return await _form(request, words, form, groups)
    if act.startswith("less-") and len(groups) > 1:
        groups = [group for number, group in enumerate(groups) if act != f"less-{number}"]
        return await _form(request, words, form, groups)
    try:
        release, wanted = _number(form.get("release", ""), "release", words), _plan(form, groups, words)
        if act == "make":
            return await _make(request, form, release, wanted)
        return await _dry(request, words, form, groups, release, wanted)
    except PlanError as error:
        problem = words(f"firmware.plan.{error.code}", **error.data)
    except NobodyError:
        problem = words("firmware.plan.nobody")
    except FirmwareError as error:  # the release is withdrawn, or gone
        problem = str(error)
    return await _form(request, words, form, groups, problem=problem)


async def _make(request: web.Request, form: Mapping[str, str], release: int, wanted: Plan) -> web.Response:
    now, by, office = request.app[CONTEXT].clock.now(), who(request).name, office_of(request)
    found = await office.read(lambda c: releases.by_id(c, release))
    name = form.get("name", "")[:100] or f"{found.manifest.kind} {found.manifest.version}"
    number = await office.write(lambda c: rollouts.create(c, name, release, wanted, now, by))
    return see(f"/operator/firmware/rollouts/{number}", "rollout_made")


async def _dry(
    request: web.Request,
    words: Words,
    form: Mapping[str, str],
    groups: Sequence[Mapping[str, str]],
    release: int,
    wanted: Plan,
) -> web.Response:
    now, office = request.app[CONTEXT].clock.now(), office_of(request)
    found = await office.read(lambda c: rollouts.dry_run(c, release, wanted, now))
    dry = [
        Shown(
            name=one["name"],
            size=words.number(len(one["devices"])),
            first=words.moment(one["first"], now),
            last=words.moment(one["last"], now),
            devices=[(name, f"/operator/firmware/devices/{name}") for name in one["devices"][:NAMED]],
            more=words("firmware.and_more", count=len(one["devices"]) - NAMED)
            if len(one["devices"]) > NAMED
            else "",
        )
        for one in found
    ]
    return await _form(request, words, form, groups, dry=dry)


async def _form(
    request: web.Request,
    words: Words,
    form: Mapping[str, str],
    groups: Sequence[Mapping[str, str]],
    *,
    problem: str = "",
    dry: Sequence[Shown] = (),
) -> web.Response:
    found = await office_of(request).read(releases.current)
    view = Shown(
        releases=[
            (str(number), name) for number, name in versions_of(found, request.app[CONTEXT], words).items()
        ],
        form=form,
        groups=groups,
        lists=[(name, words(f"firmware.q_{name}")) for name in LISTS],
        numbers=[(name, words(f"firmware.g_{name}")) for name in NUMBERS],
        modes=[(mode, words(f"firmware.mode_{mode}")) for mode in MODES],
        problem=problem,
        dry=dry,
    )
    status = 422 if problem else 200
    return page(request, "operator_rollout_new.html", words, tab="firmware", view=view, status=status)


def _groups(form: Mapping[str, str]) -> list[dict[str, str]]:
    numbers = range(min(MOST_GROUPS, sum(name.endswith("-name") for name in form)))
    return [{name: form.get(f"{number}-{name}", EMPTY[name]) for name in EMPTY} for number in numbers]


def _plan(form: Mapping[str, str], groups: Sequence[Mapping[str, str]], words: Words) -> Plan:
    """Raises ManifestError."""
    fields: dict[str, Any] = {
        "groups": [_group_of(group, words) for group in groups],
        "mode": form.get("mode", ""),
        "silence_h": _number(form.get("silence_h", ""), "silence_h", words),
        "notice_h": _number(form.get("notice_h", "") or "0", "notice_h", words),
        "ask_owner": "ask_owner" in form,
        "security": "security" in form,
    }
    if form.get("forced_at"):
        try:
            fields["forced_at"] = local_ms(form["forced_at"], words.zone)
        except ValueError as error:
            raise _wrong("forced_at", words) from error
    return plan_of(fields)


def _group_of(group: Mapping[str, str], words: Words) -> dict[str, Any]:
    numbers = {name: _number(group[name], f"g_{name}", words) for name in NUMBERS}
    query = {name: [part for part in _parts(group[name], name) if part] for name in LISTS}
    return {"name": group["name"], "query": query, **numbers}


def _parts(text: str, name: str) -> list[str]:
    """What is written with commas; devices also with lines and blanks between them."""
    whole = ",".join(text.split()) if name == "devices" else text
    return [part.strip() for part in whole.split(",")]


def _number(text: str, name: str, words: Words) -> int | Any:
    try:
        value = float(text.replace(",", "."))
        if not math.isfinite(value):
            raise ValueError(text)
    except ValueError as error:
        raise _wrong(name, words) from error
    return int(value) if value.is_integer() else value


def _wrong(name: str, words: Words) -> PlanError:
    return PlanError(f"{name}: not understood", "no_number", field=words(f"firmware.{name}"))
