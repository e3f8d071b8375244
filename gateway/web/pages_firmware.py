"""Updates: an owner chooses a time; after-sales sees releases, rollouts and what a device has reported."""

from __future__ import annotations

from types import SimpleNamespace as Shown

from aiohttp import web

from firmware_api import releases, rollouts
from firmware_api.office import Office
from firmware_api.release import ConflictError as FirmwareConflict
from firmware_api.release import UnknownError
from firmware_api.releases import Release
from firmware_api.rollouts import Picture, Rollout
from gateway.domain.access import Role
from gateway.domain.device import Device
from gateway.domain.errors import ConflictError, InvalidError, NotFoundError
from gateway.domain.moments import local_ms
from gateway.flow import updates
from gateway.flow.updates import HOUR_MS, Waiting
from gateway.ports import Records
from gateway.web.access import allow, who
from gateway.web.api.firmware import FirmwareDeviceOut, device_out
from gateway.web.context import CONTEXT, Context
from gateway.web.owner_page import open_page
from gateway.web.render import page, see, words_for
from gateway.web.updates import FirmwareDesk
from gateway.web.words import Words

routes = web.RouteTableDef()
operator_only = allow(Role.OPERATOR)
owner_only = allow(Role.OWNER)

NOW_MS = 6 * HOUR_MS
"""How long "as soon as possible" may take before it is tried again a day later."""
COLUMNS = ("scheduled", "waiting", "running", "silent", "finished", "failed", "canceled")
MOVES = {"ready": ("start", "stop"), "running": ("pause", "stop"), "paused": ("resume", "stop")}
SHOWN = 50
STOPPED_MS = 7 * 24 * HOUR_MS


def _office(request: web.Request) -> Office:
    office = request.app[CONTEXT].office
    if office is None:
        raise web.HTTPNotFound
    return office


# --- an owner's -----------------------------------------------------------------------------------


@routes.get("/me/updates")
@owner_only
async def mine(request: web.Request) -> web.Response:
    """What could be installed, and what was agreed to."""
    at = await open_page(request)
    devices = await at.read(lambda records: records.devices.page(owner=at.owner_id, limit=1_000))
    found = await FirmwareDesk(_office(request)).of_devices([one.id for one in devices])
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
    desk, back = FirmwareDesk(_office(request)), f"/me/updates#update-{action}"
    devices = await at.read(lambda records: records.devices.page(owner=at.owner_id, limit=1_000))
    found = await desk.of_devices([one.id for one in devices])
    update = next((one for one in found if one.action == action), None)
    if update is None:
        return see("/me/updates", "update_gone")
    try:
        wanted = _wanted(str(form.get("when", "")), str(form.get("own", "")), at.now, at.words.zone, update)
        window = await at.read(lambda records: updates.checked(records, update, wanted, at.now))
        held = await at.read(lambda records: updates.speaks_against(records, update.device, at.now))
        await desk.agree(action, window, at.owner_id, held)
    except InvalidError as error:
        return see(f"/me/updates?again={action}", f"update_{error}")
    except (ConflictError, NotFoundError):
        return see("/me/updates", "update_gone")
    await at.write(lambda records: updates.settle(records, update, at.owner_id, at.now, at.context.policy))
    return see(back.partition("#")[0], "update_agreed")


def _wanted(when: str, own: str, now: int, zone: str, update: Waiting) -> tuple[int, int]:
    try:
        if when == "now":
            return now, now + NOW_MS
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
    office, words = _office(request), await words_for(request)
    now = request.app[CONTEXT].clock.now()
    found = await office.read(releases.releases)
    trusted = await office.read(releases.trust_of)
    listed = await office.read(
        lambda c: [(one, rollouts.picture(c, one.id)) for one in rollouts.listed(c, SHOWN)]
    )
    versions = {one.id: f"{one.manifest.kind} {one.manifest.version}" for one in found}
    view = Shown(
        releases=[_release(one, words, now) for one in found[:SHOWN]],
        rollouts=[_rollout(one, groups, versions, words, now) for one, groups in listed],
        nobody=trusted is None,
    )
    return page(
        request, "operator_firmware.html", words, tab="firmware", view=view, toast=_toast(request, words)
    )


async def stopped_rollouts(context: Context, words: Words, now: int) -> list[Shown]:
    """Rollouts that stopped by themselves in the last days, for whoever opens the overview."""
    if context.office is None:
        return []
    found = await context.office.read(lambda c: rollouts.stopped_since(c, now - STOPPED_MS))
    return [
        Shown(name=one.name, reason=one.reason or "", href=f"/operator/firmware/rollouts/{one.id}")
        for one in found
    ]


def _toast(request: web.Request, words: Words) -> Shown | None:
    key = f"toast.{request.query.get('said', '')}"
    return Shown(text=words(key), undo_url=None) if words.has(key) else None


def _release(one: Release, words: Words, now: int) -> Shown:
    manifest = one.manifest
    notes = manifest.notes.get(words.language) or next(iter(manifest.notes.values()), "")
    return Shown(
        version=manifest.version,
        kind=" · ".join((manifest.kind.replace("_", " "), *manifest.models)),
        size=words.number(manifest.size),
        stored=words.moment(one.stored_at, now),
        state=words(f"firmware.{one.withdrawn or 'current'}"),
        notes=notes,
    )


def _rollout(one: Rollout, groups: list[Picture], versions: dict[int, str], words: Words, now: int) -> Shown:
    return Shown(
        href=f"/operator/firmware/rollouts/{one.id}",
        name=one.name,
        release=versions.get(one.release, ""),
        made=words.moment(one.created_at, now),
        state=words(f"firmware.state_{one.state}"),
        reason=one.reason or "",
        moves=[(move, words(f"firmware.{move}")) for move in MOVES.get(one.state, ())],
        columns=[words(f"firmware.{name}") for name in COLUMNS],
        groups=[
            Shown(
                name=group.name,
                state=words(f"firmware.state_{group.state}"),
                size=words.number(group.size),
                counts=[words.number(getattr(group, name)) for name in COLUMNS],
                done=group.finished,
                share=100 * group.finished // group.size if group.size else 0,
                most=max(1, group.size),
            )
            for group in groups
        ],
    )


@routes.get("/operator/firmware/rollouts/{rollout:[0-9]{1,10}}")
@operator_only
async def rollout(request: web.Request) -> web.Response:
    """One rollout: its groups, and what happened."""
    return await _show_rollout(request)


async def _show_rollout(request: web.Request) -> web.Response:
    office, words = _office(request), await words_for(request)
    number, now = int(request.match_info["rollout"]), request.app[CONTEXT].clock.now()
    try:
        one = await office.read(lambda c: rollouts.get(c, number))
    except UnknownError:
        raise web.HTTPNotFound from None
    groups = await office.read(lambda c: rollouts.picture(c, number))
    found = await office.read(lambda c: releases.by_id(c, one.release))
    versions = {found.id: f"{found.manifest.kind} {found.manifest.version}"}
    lines = await office.read(lambda c: rollouts.notes(c, number))
    view = _rollout(one, groups, versions, words, now)
    view.lines = [(words.moment(line["at"], now), line["what"], line["text"]) for line in lines]
    return page(
        request, "operator_rollout.html", words, tab="firmware", view=view, toast=_toast(request, words)
    )


@routes.post("/operator/firmware/rollouts/{rollout:[0-9]{1,10}}/{move}")
@operator_only
async def steer(request: web.Request) -> web.Response:
    """start, pause, resume or stop it."""
    office, number = _office(request), int(request.match_info["rollout"])
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


@routes.get("/operator/firmware/devices/{device}")
@operator_only
async def device(request: web.Request) -> web.Response:
    """What a device runs, and what it has reported on every update."""
    office, words = _office(request), await words_for(request)
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
            state=action.state,
            created=words.moment(action.created, now),
            lines=[
                (words.moment(line["at"], now), line["status"], " · ".join(line["messages"])[:400])
                for line in action.history
            ],
        )
        for action in one.actions
    ]
    view = Shown(
        title=words("firmware.device", device=wanted),
        runs=one.version or words("firmware.nothing_known"),
        polled=words.moment(one.polled, now) if one.polled else words("firmware.nothing_known"),
        attributes=sorted(one.attributes.items()),
        actions=actions,
    )
    return page(request, "operator_firmware_device.html", words, tab="firmware", view=view)
