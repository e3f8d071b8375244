"""Updates: an owner chooses a time; after-sales sees releases, rollouts and what a device has reported."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from types import SimpleNamespace as Shown
from typing import Any
from urllib.parse import quote

from aiohttp import web
from pydantic import ValidationError

from firmware_api import releases, rollouts, targets
from firmware_api.release import UnknownError
from firmware_api.releases import Release
from gateway.domain.access import Role
from gateway.domain.device import Device
from gateway.domain.errors import ConflictError, InvalidError, NotFoundError
from gateway.domain.moments import local_ms
from gateway.flow import updates
from gateway.flow.updates import HOUR_MS, Waiting
from gateway.ports import Records
from gateway.web.access import allow, who
from gateway.web.api.firmware import DescribedIn, FirmwareDeviceOut, device_out
from gateway.web.context import CONTEXT, Context
from gateway.web.owner_page import open_page
from gateway.web.pages_rollouts import office_of, shown, toast_of, versions_of
from gateway.web.render import page, see, words_for
from gateway.web.updates import FirmwareDesk
from gateway.web.views import kind_words
from gateway.web.words import Words

routes = web.RouteTableDef()
operator_only = allow(Role.OPERATOR)
owner_only = allow(Role.OWNER)

NOW_MS = 6 * HOUR_MS
"""How long "as soon as possible" may take before it is tried again a day later."""
SHOWN = 50


# --- an owner's -----------------------------------------------------------------------------------


@routes.get("/me/updates")
@owner_only
async def mine(request: web.Request) -> web.Response:
    """What could be installed, and what was agreed to."""
    at = await open_page(request)
    devices = await at.read(lambda records: records.devices.page(owner=at.owner_id, limit=1_000))
    found = await FirmwareDesk(office_of(request)).of_devices([one.id for one in devices])
    by_id = {one.id: one for one in devices}

    def nights(records: Records) -> dict[int, list[tuple[int, int]]]:
        return {one.action: updates.nights(records, one.device, at.now) for one in found}

    proposed = await at.read(nights)
    rows = [_row(one, by_id[one.device], proposed[one.action], at.words, at.now) for one in found]
    return at.answer("owner_updates.html", "products", Shown(rows=rows))


def _row(one: Waiting, device: Device, nights: list[tuple[int, int]], words: Words, now: int) -> Shown:
    notes = one.notes.get(words.language) or one.notes.get("en") or next(iter(one.notes.values()), "")
    return Shown(
        id=one.action,
        url=f"/me/updates/{one.action}",
        product=device.title,
        version=words("updates.version", version=one.version),
        notes=notes,
        takes=words("updates.takes", minutes=one.minutes) if one.minutes else "",
        forced=words("updates.forced", day=words.when(one.forced_at, "date")) if one.forced_at else "",
        agreed=_agreed(one, words, now),
        held=words(f"updates.held_{one.held}") if one.held else "",
        choices=[("now", words("updates.now")), *(_night(night, words) for night in nights)],
        earliest=words.when(now, "iso") + "T" + words.when(now, "time").rjust(5, "0"),
    )


def _agreed(one: Waiting, words: Words, now: int) -> str:
    if one.state != "running":
        return ""
    if one.begin is None or one.begin <= now:
        return words("updates.agreed_now")
    return words("updates.agreed", when=f"{words.when(one.begin, 'medium')}, {words.when(one.begin, 'time')}")


def _night(night: tuple[int, int], words: Words) -> tuple[str, str]:
    begin, end = night
    text = words(
        "updates.night",
        day=words.when(begin, "medium"),
        begin=words.when(begin, "time"),
        end=words.when(end, "time"),
    )
    return f"{begin}-{end}", text


@routes.post("/me/updates/{action:[0-9]{1,10}}")
@owner_only
async def choose(request: web.Request) -> web.Response:
    """The time at which it is to be installed."""
    at, form, action = await open_page(request), await request.post(), int(request.match_info["action"])
    desk, back = FirmwareDesk(office_of(request)), f"/me/updates#update-{action}"
    devices = await at.read(lambda records: records.devices.page(owner=at.owner_id, limit=1_000))
    found = await desk.of_devices([one.id for one in devices])
    update = next((one for one in found if one.action == action), None)
    if update is None:
        return see("/me/updates", "update_gone")
    try:
        wanted = _wanted(str(form.get("when", "")), str(form.get("own", "")), at.now, at.words.zone, update)
        window = await at.read(lambda records: updates.checked(records, update, wanted, at.now))
        held = await at.read(lambda records: updates.speaks_against(records, update.device, at.now))
        await desk.agree(action, window, held)
    except InvalidError as error:
        return see(f"/me/updates?again={action}", f"update_{error}")
    except (ConflictError, NotFoundError):
        return see("/me/updates", "update_gone")
    await at.write(lambda records: updates.settle(records, update, at.owner_id, at.now, at.context.policy))
    return see(back.partition("#")[0], "update_agreed")


def _wanted(when: str, own: str, now: int, zone: str, update: Waiting) -> tuple[int, int]:
    try:
        if when == "now":
            return now, now + max(NOW_MS, 2 * update.minutes * 60_000)
        if when == "own" or own:
            begin = local_ms(own, zone)
            return begin, begin + max(2 * HOUR_MS, 2 * update.minutes * 60_000)
        begin_text, _, end_text = when.partition("-")
        return int(begin_text), int(end_text)
    except ValueError as error:
        raise InvalidError("past") from error


# --- after-sales ----------------------------------------------------------------------------------


@routes.get("/operator/firmware")
@operator_only
async def overview(request: web.Request) -> web.Response:
    """Releases, an upload, and rollouts with their pictures."""
    office, words = office_of(request), await words_for(request)
    context = request.app[CONTEXT]
    now = context.clock.now()
    found = await office.read(releases.releases)
    trusted = await office.read(releases.trust_of)
    listed = await office.read(
        lambda c: [(one, rollouts.picture(c, one.id)) for one in rollouts.listed(c, SHOWN)]
    )
    versions = versions_of(found, context, words)
    view = Shown(
        releases=[_release(one, found, context, words, now) for one in found[:SHOWN]],
        rollouts=[shown(one, groups, versions, words, now) for one, groups in listed],
        nobody=trusted is None,
    )
    return page(
        request, "operator_firmware.html", words, tab="firmware", view=view, toast=toast_of(request, words)
    )


def _release(one: Release, others: Sequence[Release], context: Context, words: Words, now: int) -> Shown:
    manifest = one.manifest
    replaced = any(replaces(other, one) for other in others)
    notes = manifest.notes.get(words.language) or next(iter(manifest.notes.values()), "")
    return Shown(
        version=manifest.version,
        kind=" · ".join((kind_words(manifest.kind, context, words), *manifest.models)),
        size=f"{words.number(manifest.size / 1e6, 1)} MB",
        roll="" if one.withdrawn else f"/operator/firmware/new?release={one.id}",
        stored=words.moment(one.stored_at, now),
        state=words(f"firmware.{one.withdrawn or ('replaced' if replaced else 'current')}"),
        notes=notes,
    )


def replaces(newer: Release, older: Release) -> bool:
    """Whether all devices that an older release is for have a newer one that may be installed."""
    new, old = newer.manifest, older.manifest
    whole = all(
        not to or (bool(of) and set(of) <= set(to))  # empty: for all
        for to, of in ((new.models, old.models), (new.hardware, old.hardware))
    )
    return not newer.withdrawn and new.kind == old.kind and new.sequence > old.sequence and whole


@routes.get("/operator/firmware/devices/{device}")
@operator_only
async def device(request: web.Request) -> web.Response:
    """What a device runs, and what it has reported on every update."""
    office, words = office_of(request), await words_for(request)
    wanted, now = request.match_info["device"], request.app[CONTEXT].clock.now()
    known = await request.app[CONTEXT].database.read(lambda records: records.devices.find(wanted))
    who(request).saw(known.owner if known else None, f"product:{wanted}", "check_product", device=wanted)
    try:
        one = await office.read(lambda c: device_out(c, wanted))
    except UnknownError:  # registered just now, or by nobody: nothing is known of it yet
        one = FirmwareDeviceOut.nothing(wanted)
    actions = [
        Shown(
            version=action.version,
            state=words(f"firmware.action_{action.state}"),
            rollout=f"/operator/firmware/rollouts/{action.rollout}" if action.rollout else "",
            held=words(f"updates.held_{action.held}") if action.held and action.closed is None else "",
            created=words.moment(action.created, now),
            lines=[_said(line, words, now) for line in action.history],
        )
        for action in one.actions
    ]
    view = Shown(
        title=words("firmware.device", device=wanted),
        facts=_facts(one, words, now),
        actions=actions,
        href=f"/operator/firmware/devices/{quote(wanted)}",
        tags=", ".join(one.tags),
        country=one.country or "",
        hardware=one.hardware or "",
        describes=one.kind is not None,
    )
    said = request.query.get("said", "")
    key = f"firmware.said_{said}"
    toast = Shown(text=words(key), undo_url=None) if words.has(key) else None
    return page(request, "operator_firmware_device.html", words, tab="firmware", view=view, toast=toast)


@routes.post("/operator/firmware/devices/{device}")
@operator_only
async def describe(request: web.Request) -> web.Response:
    """What rollouts choose by: its tags, where it is, which revision it is of."""
    form, wanted = await request.post(), request.match_info["device"]
    back = f"/operator/firmware/devices/{quote(wanted)}"
    tags = [tag.strip() for tag in str(form.get("tags", "")).split(",") if tag.strip()]
    country, hardware = (str(form.get(name, "")).strip() or None for name in ("country", "hardware"))
    try:
        told = DescribedIn(tags=tags, country=country and country.upper(), hardware=hardware)
    except ValidationError:
        return see(back, "not_described")

    def work(connection: sqlite3.Connection) -> None:
        targets.set_tags(connection, wanted, told.tags or [])
        targets.describe(connection, wanted, told.country, told.hardware)

    try:
        await office_of(request).write(work)
    except UnknownError as error:
        raise NotFoundError(str(error)) from error
    return see(back, "described")


def _said(line: Mapping[str, Any], words: Words, now: int) -> tuple[str, str, str]:
    """(when, what, what the device said with it)"""
    ours = line["status"] in ("retrieved", "canceled", "canceling") and line["code"] is None
    text = "" if ours else " · ".join(line["messages"])[:400].removeprefix("The device downloads ")
    return words.moment(line["at"], now), words(f"firmware.log_{line['status']}"), text


def _facts(one: FirmwareDeviceOut, words: Words, now: int) -> list[tuple[str, list[str]]]:
    unknown = words("firmware.nothing_known")
    facts = [
        (words("firmware.runs"), [one.version or unknown]),
        (words("firmware.polled"), [words.moment(one.polled, now) if one.polled else unknown]),
        (words("firmware.q_tags"), one.tags),
        (words("firmware.country"), [one.country] if one.country else []),
        (words("firmware.hardware"), [one.hardware] if one.hardware else []),
    ]
    said = [(name, [value]) for name, value in sorted(one.attributes.items())]
    return [(name, values) for name, values in facts + said if values]
