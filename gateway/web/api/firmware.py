"""Firmware: releases, uploads in pieces, rollouts, and what devices report."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from aiohttp import web
from pydantic import BaseModel, Field, StringConstraints

from firmware_api import actions, once, releases, rollouts, targets, uploads
from firmware_api.actions import Offer
from firmware_api.office import Office
from firmware_api.release import ConflictError as Conflict
from firmware_api.release import FirmwareError, UnknownError
from firmware_api.releases import Release
from firmware_api.rollouts import Plan, plan_of
from firmware_api.uploads import Upload
from gateway.domain.errors import ConflictError, NotFoundError
from gateway.web.access import STAFF
from gateway.web.api.endpoint import Call, Endpoints, ListQuery, Page, Query, bad_cursor, fault_at, page
from gateway.web.api.shapes import In, Moment, MomentIn, Out
from gateway.web.problems import Problem

T = TypeVar("T")
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Number = Annotated[int, Field(ge=1, le=2**53)]
UploadId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{1,64}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Document = Annotated[str, StringConstraints(min_length=2, max_length=200_000)]
Strings = Annotated[
    list[Annotated[str, StringConstraints(min_length=1, max_length=100)]], Field(max_length=5_000)
]

endpoints = Endpoints("Firmware", conditional=False)  # it has a database of its own


def office_of(call: Call) -> Office:
    """Where firmware is kept. Raises a Problem in a process without it."""
    office = call.context.office
    if office is None:
        raise NotFoundError("there is no firmware here")
    return office


async def reading(call: Call, work: Callable[[sqlite3.Connection], T]) -> T:
    """`work` on a snapshot of the firmware database, refusals as the API says them."""
    return await _said(office_of(call).read, work)


async def writing(call: Call, work: Callable[[sqlite3.Connection], T]) -> T:
    """`work` in one transaction of the firmware database, with what an Idempotency-Key has to remember."""
    key = call.key
    return await _said(office_of(call).write, work if key is None else partial(_once, call, key, work))


def _once(call: Call, key: str, work: Callable[[sqlite3.Connection], T], connection: sqlite3.Connection) -> T:
    body = once.answered(connection, key)
    if body is not None:
        raise call.repeated(body)
    result = work(connection)
    if isinstance(result, BaseModel):
        once.keep(connection, key, result.model_dump_json(by_alias=True), call.now)
    return result


async def _said(line: Any, work: Callable[[sqlite3.Connection], T]) -> T:
    try:
        result: T = await line(work)
        return result
    except FirmwareError as error:
        raise refused(error) from error


def refused(error: FirmwareError) -> Exception:
    """What the API says of it."""
    if isinstance(error, UnknownError):
        return NotFoundError(str(error))
    if isinstance(error, Conflict):
        return ConflictError(str(error))
    return Problem(422, f"{error}.", kind="firmware-refused", title="The release cannot be taken")


# --- releases -------------------------------------------------------------------------------------


class ReleaseIn(In):
    """A signed manifest; its artifacts are uploaded before."""

    manifest: Document = Field(description="The bytes that were signed, as text.")
    signatures: Document = Field(description="Base64, a line each.")


class ReleaseOut(Out):
    """A release."""

    id: int
    kind: str
    version: str
    sequence: int
    models: list[str]
    hardware: list[str]
    size: int = Field(description="Bytes of all files.")
    minutes: int = Field(description="How long the product is out of use.")
    notes: dict[str, str]
    created: Moment
    expires: Moment
    withdrawn: str | None = Field(description="Why no device gets it any more; null while it is current.")


def _release(found: Release) -> ReleaseOut:
    one = found.manifest
    return ReleaseOut(
        id=found.id,
        kind=one.kind,
        version=one.version,
        sequence=one.sequence,
        models=list(one.models),
        hardware=list(one.hardware),
        size=one.size,
        minutes=one.minutes,
        notes=dict(one.notes),
        created=one.created,
        expires=one.expires,
        withdrawn=found.withdrawn,
    )


@endpoints.get("/firmware/releases", *STAFF)
async def list_releases(call: Call, query: ListQuery) -> Page[ReleaseOut]:
    """List releases, the highest sequence of each kind first."""
    found, after = await reading(call, releases.releases), query.after()
    if after is not None:
        places = [place for place, one in enumerate(found) if str(one.id) == after]
        if not places:
            raise bad_cursor()
        found = found[places[0] + 1 :]
    return page(found[: query.limit + 1], query.limit, _release, lambda one: one.id)


@endpoints.post("/firmware/releases", *STAFF)
async def add_release(call: Call, body: ReleaseIn) -> ReleaseOut:
    """Take in a signed release.

    Refused unless enough trusted keys have signed exactly these bytes and every file is there.
    """
    key = office_of(call).store.index_key()
    raw, signatures = body.manifest.encode(), body.signatures.encode()
    return _release(await writing(call, lambda c: releases.add(c, raw, signatures, call.now, key)))


@endpoints.delete("/firmware/releases/{release_id}", *STAFF)
async def withdraw_release(call: Call, release_id: Number) -> None:
    """Withdraw a release: no device gets it any more, and what is under way is stopped."""
    key = office_of(call).store.index_key()

    def work(connection: sqlite3.Connection) -> None:
        releases.by_id(connection, release_id)
        releases.withdraw(connection, release_id, releases.WITHDRAWN, call.now, key)

    await writing(call, work)


# --- uploads --------------------------------------------------------------------------------------


class UploadIn(In):
    """An artifact that is to come."""

    sha256: Sha256
    size: Number = Field(description="Bytes.")


class UploadOut(Out):
    """How far an artifact is."""

    id: str
    sha256: str
    size: int
    offset: int = Field(description="Go on from here; all is there and verified when it is the size.")


def _upload(found: Upload) -> UploadOut:
    return UploadOut(id=found.id, sha256=found.sha256, size=found.size, offset=found.offset)


@endpoints.post("/firmware/uploads", *STAFF)
async def begin_upload(call: Call, body: UploadIn) -> UploadOut:
    """Begin an upload, or find the one of the same content that has begun.

    Then `PUT /firmware/uploads/{id}/content?offset=…` with the bytes from there, in as many pieces as you
    like.
    """
    try:
        return _upload(await uploads.begin(office_of(call), body.sha256, body.size, call.who.name))
    except FirmwareError as error:
        raise refused(error) from error


@endpoints.get("/firmware/uploads/{upload_id}", *STAFF)
async def get_upload(call: Call, upload_id: str) -> UploadOut:
    """Show how far an upload is."""
    try:
        return _upload(await uploads.find(office_of(call), upload_id))
    except FirmwareError as error:
        raise refused(error) from error


class ContentQuery(Query):
    """Which piece it is."""

    offset: int = Field(ge=0, le=10**15, description="From where in the artifact these bytes go on.")


@endpoints.put("/firmware/uploads/{upload_id}/content", *STAFF, accepts={"application/octet-stream": bytes})
async def put_content(call: Call, upload_id: UploadId, query: ContentQuery) -> UploadOut:
    """Send a piece of an artifact.

    It is streamed to disk as it comes; a piece that broke off goes on at the `size` that the upload shows.
    """
    try:
        found = await uploads.append(office_of(call), upload_id, query.offset, _pieces(call.request))
        return _upload(found)
    except FirmwareError as error:
        raise refused(error) from error


async def _pieces(request: web.Request) -> AsyncIterator[bytes]:
    async for piece in request.content.iter_chunked(1 << 18):
        yield piece


"""Not an Endpoint: its body is no JSON and has no end that fits into memory."""


# --- rollouts -------------------------------------------------------------------------------------


class QueryIn(In):
    """Which devices: everything that is given has to hold."""

    models: Strings = Field(default_factory=list)
    firmware: Strings = Field(default_factory=list, description="Versions that are installed.")
    countries: Strings = Field(default_factory=list)
    tags: Strings = Field(default_factory=list, description="All of them.")
    devices: Strings = Field(default_factory=list, description="These and no others.")


class GroupIn(In):
    """A step of a rollout."""

    name: Name
    query: QueryIn = Field(default_factory=QueryIn)
    percent: float = Field(100, gt=0, le=100, description="Of those that fit and are in no group before.")
    success: float = Field(90, ge=0, le=100, description="Percent that lets the next group begin.")
    error: float = Field(5, gt=0, le=100, description="Percent of failures that stops the rollout.")
    pace: int = Field(0, ge=0, le=1_000_000, description="Devices begun a minute; 0: all at once.")


class PlanIn(In):
    """How a release is rolled out."""

    groups: list[GroupIn] = Field(min_length=1, max_length=50)
    mode: Literal["forced", "soft", "timeforced", "downloadonly"] = "forced"
    silence_h: float = Field(24, gt=0, description="Hours without a word that count as failure.")
    ask_owner: bool = Field(True, description="Products in use are updated when their owner agrees.")
    forced_at: MomentIn | None = Field(None, description="A security fix: installed from then on anyway.")
    notice_h: float = Field(72, ge=0, description="Hours from asking an owner until it may be forced.")
    security: bool = Field(False, description="It closes a security hole; owners cannot be forced otherwise.")


class RolloutIn(In):
    """A rollout."""

    name: Name
    release: Number
    plan: PlanIn


class GroupOut(Out):
    """How far a group is, in devices."""

    name: str
    state: str
    size: int
    scheduled: int
    waiting: int = Field(description="For their owner.")
    running: int
    silent: int = Field(description="Not heard of in time; counted as failed, too.")
    finished: int
    failed: int
    canceled: int


class RolloutOut(Out):
    """A rollout with its picture."""

    id: int
    name: str
    release: int
    state: str = Field(description="ready, running, paused, stopped, finished.")
    reason: str | None = Field(description="Why it stopped.")
    created: Moment
    by: str
    groups: list[GroupOut]


class DryGroupOut(Out):
    """Who would get it, and when at the earliest."""

    name: str
    size: int
    devices: list[str] = Field(description="In the order in which they begin.")
    first: Moment
    last: Moment


class DryOut(Out):
    """What a rollout would do."""

    groups: list[DryGroupOut]


def _plan(body: RolloutIn) -> Plan:
    try:
        return plan_of(body.plan.model_dump())
    except FirmwareError as error:
        raise fault_at("plan", f"plan: {error}") from error


def _rollout(connection: sqlite3.Connection, number: int) -> RolloutOut:
    found = rollouts.get(connection, number)
    groups = [GroupOut(**vars(one)) for one in rollouts.picture(connection, number)]
    return RolloutOut(
        id=found.id,
        name=found.name,
        release=found.release,
        state=found.state,
        reason=found.reason,
        created=found.created_at,
        by=found.by,
        groups=groups,
    )


@endpoints.get("/firmware/rollouts", *STAFF)
async def list_rollouts(call: Call, query: ListQuery) -> Page[RolloutOut]:
    """List rollouts with their pictures, newest first."""
    after = query.after_number()

    def work(connection: sqlite3.Connection) -> list[RolloutOut]:
        found = rollouts.listed(connection, query.limit + 1, after)
        return [_rollout(connection, one.id) for one in found]

    return page(await reading(call, work), query.limit, lambda one: one, lambda one: one.id)


@endpoints.post("/firmware/rollouts", *STAFF)
async def make_rollout(call: Call, body: RolloutIn) -> RolloutOut:
    """Make a rollout; it is ready and begins when it is started. Who gets it is fixed from now on."""
    plan = _plan(body)

    def work(connection: sqlite3.Connection) -> RolloutOut:
        number = rollouts.create(connection, body.name, body.release, plan, call.now, call.who.name)
        return _rollout(connection, number)

    return await writing(call, work)


@endpoints.post("/firmware/rollouts/dry-run", *STAFF)
async def dry_run(call: Call, body: RolloutIn) -> DryOut:
    """Say who would get what, and when; nothing is made."""
    plan = _plan(body)
    groups = await reading(call, lambda c: rollouts.dry_run(c, body.release, plan, call.now))
    return DryOut(groups=[DryGroupOut(size=len(one["devices"]), **one) for one in groups])


@endpoints.get("/firmware/rollouts/{rollout_id}", *STAFF)
async def get_rollout(call: Call, rollout_id: Number) -> RolloutOut:
    """Show a rollout with its picture."""
    return await reading(call, lambda c: _rollout(c, rollout_id))


async def _steer(call: Call, number: int, move: str) -> RolloutOut:
    def work(connection: sqlite3.Connection) -> RolloutOut:
        rollouts.steer(connection, number, move, call.now, call.who.name)
        return _rollout(connection, number)

    return await writing(call, work)


@endpoints.post("/firmware/rollouts/{rollout_id}/start", *STAFF)
async def start_rollout(call: Call, rollout_id: Number) -> RolloutOut:
    """Start a rollout that is ready."""
    return await _steer(call, rollout_id, "start")


@endpoints.post("/firmware/rollouts/{rollout_id}/pause", *STAFF)
async def pause_rollout(call: Call, rollout_id: Number) -> RolloutOut:
    """Begin nobody more until it is resumed."""
    return await _steer(call, rollout_id, "pause")


@endpoints.post("/firmware/rollouts/{rollout_id}/resume", *STAFF)
async def resume_rollout(call: Call, rollout_id: Number) -> RolloutOut:
    """Go on with a paused rollout."""
    return await _steer(call, rollout_id, "resume")


@endpoints.post("/firmware/rollouts/{rollout_id}/stop", *STAFF)
async def stop_rollout(call: Call, rollout_id: Number) -> RolloutOut:
    """Stop a rollout for good: who has not begun is spared it."""
    return await _steer(call, rollout_id, "stop")


# --- devices --------------------------------------------------------------------------------------


class ActionOut(Out):
    """One release for one device."""

    id: int
    version: str
    rollout: int | None = Field(description="That it belongs to; null for one of its own.")
    state: str
    mode: str
    created: Moment
    closed: Moment | None
    message: str | None
    held: str | None = Field(description="driving, visit, battery, unchecked: why not just now.")
    history: list[dict[str, Any]] = Field(description="What was reported, the newest first.")


class FirmwareDeviceOut(Out):
    """A device as updates see it."""

    id: str
    kind: str | None
    model: str | None
    hardware: str | None
    country: str | None
    tags: list[str]
    version: str | None
    polled: Moment | None
    attributes: dict[str, str]
    actions: list[ActionOut]

    @classmethod
    def nothing(cls, device: str) -> FirmwareDeviceOut:
        """A product that was registered just now."""
        unknown = dict.fromkeys(("kind", "model", "hardware", "country", "version", "polled"))
        return cls(id=device, tags=[], attributes={}, actions=[], **unknown)


class DescribedIn(In):
    """What rollouts choose by, beside kind, model and installed version; what is left out stays."""

    tags: Strings | None = None
    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")] | None = Field(
        None, description="ISO 3166-1 alpha-2."
    )
    hardware: Name | None = Field(None, description="Its hardware revision.")


class TokenOut(Out):
    """A target token; shown once."""

    token: str


class AssignIn(In):
    """A release for one device."""

    release: Number
    mode: Literal["forced", "soft", "downloadonly"] = "forced"
    ask_owner: bool = True


def device_out(connection: sqlite3.Connection, device: str) -> FirmwareDeviceOut:
    """A device with its newest actions. Raises UnknownError."""
    row = connection.execute(_DEVICE, (device,)).fetchone()
    if row is None:
        raise UnknownError(f"there is no device {device}")
    fields = dict(row) | {"attributes": json.loads(row["attributes"])}
    tags = connection.execute("SELECT tag FROM target_tags WHERE target = ? ORDER BY tag", (device,))
    found = connection.execute(_ACTIONS, (device,)).fetchall()
    shown = [ActionOut(**dict(one), history=actions.history(connection, one["id"], 50)) for one in found]
    return FirmwareDeviceOut(**fields, tags=[tag for (tag,) in tags], actions=shown)


_DEVICE = (
    "SELECT id, kind, model, hardware, country, version, polled_at AS polled, attributes FROM targets "
    "WHERE id = ?"
)
_ACTIONS = (
    "SELECT a.id, r.version, a.rollout, a.state, a.mode, a.created_at AS created, a.closed_at AS closed, "
    "a.message, a.held FROM actions a JOIN releases r ON r.id = a.release WHERE a.target = ? "
    "ORDER BY a.id DESC LIMIT 20"
)


@endpoints.get("/firmware/devices/{device_id}", *STAFF)
async def get_firmware_device(call: Call, device_id: str) -> FirmwareDeviceOut:
    """Show what a device runs, and what it has reported."""
    known = await call.read(lambda records: records.devices.find(device_id))
    call.who.saw(known.owner if known else None, f"product:{device_id}", "check_product", device=device_id)
    return await reading(call, lambda c: device_out(c, device_id))


@endpoints.put("/firmware/devices/{device_id}", *STAFF)
async def describe_device(call: Call, device_id: str, body: DescribedIn) -> FirmwareDeviceOut:
    """Say a device's tags, country and hardware revision."""

    def work(connection: sqlite3.Connection) -> FirmwareDeviceOut:
        if body.tags is not None:
            targets.set_tags(connection, device_id, body.tags)
        targets.describe(connection, device_id, body.country, body.hardware)
        return device_out(connection, device_id)

    return await writing(call, work)


@endpoints.post("/firmware/devices/{device_id}/token", *STAFF)
async def issue_token(call: Call, device_id: str) -> TokenOut:
    """Issue a device's token; the one before is void."""
    return TokenOut(token=await writing(call, lambda c: targets.issue_token(c, device_id)))


@endpoints.post("/firmware/devices/{device_id}/actions", *STAFF)
async def assign(call: Call, device_id: str, body: AssignIn) -> FirmwareDeviceOut:
    """Give one device a release; what it had open is cancelled first."""

    def work(connection: sqlite3.Connection) -> FirmwareDeviceOut:
        consent = body.ask_owner and targets.is_owned(connection, device_id)
        offer = Offer(release=body.release, mode=body.mode, consent=consent)
        actions.assign(connection, device_id, offer, call.now)
        return device_out(connection, device_id)

    return await writing(call, work)


@endpoints.post("/firmware/devices/{device_id}/actions/{action_id}/cancel", *STAFF)
async def cancel(call: Call, device_id: str, action_id: Number) -> FirmwareDeviceOut:
    """Ask a device to stop; what it does not know of yet is over at once."""

    def work(connection: sqlite3.Connection) -> FirmwareDeviceOut:
        actions.of_target(connection, device_id, action_id)
        actions.cancel(connection, action_id, call.now)
        return device_out(connection, device_id)

    return await writing(call, work)
