"""DDI v1, the interface that clients made for Eclipse hawkBit poll: ``/{tenant}/controller/v1/{device}…``.

Paths, fields, status codes and their corner cases are hawkBit's (its DdiRootControllerRestApi and
DdiRootController), and what SWUpdate, RAUC's client and others rely on beyond its documentation: action ids
are decimal int32 in strings, links absolute after the Host header, deploymentBase with `?c=`, what is empty
is left out, an unknown device or tenant is 401 and what is closed is 410. docs/firmware.md says what
differs.
"""

import asyncio
import contextlib
import hashlib
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import msgspec
from aiohttp import web

from firmware_api import actions, cbor, targets
from firmware_api.actions import GoneError, QuotaError, Report, State
from firmware_api.office import Office
from firmware_api.release import ConflictError, UnknownError
from firmware_api.sending import names, send

HAL = "application/hal+json"
LEGACY_PARTS = {"application": "bApp", "runtime": "jvm"}
POLLED_EVERY_S = 5.0
"""How often the moments of the last polls are written down; a crash forgets as much."""
BODY_MOST = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class DdiSettings:
    """How devices prove who they are, and how often they ask."""

    tenant: str = "default"
    polling: str = "00:05:00"
    """HH:MM:SS, at most 23:59:59"""
    target_tokens: bool = True
    gateway_token: str = ""
    """one token for a gateway that speaks for any device; empty: off"""
    certificate_header: str = ""
    """header in which a proxy that ends TLS gives the certificate's common name; empty: none is believed"""
    public_url: str = ""
    """where clients reach this server; gives links https where a proxy ends TLS"""
    burst: int = 200
    """requests of one device that are answered at once, refilled by `rate` a second; beyond is 429"""
    rate: float = 20.0


# --- what clients send ------------------------------------------------------------------------------


class _Result(msgspec.Struct):
    finished: Literal["success", "failure", "none"]


class _Status(msgspec.Struct):
    execution: Literal[
        "closed", "proceeding", "canceled", "scheduled", "rejected", "resumed", "download", "downloaded"
    ]
    result: _Result
    code: int | None = None
    details: list[str] | None = None


class _Feedback(msgspec.Struct):
    status: _Status
    timestamp: int | None = None


class _ConfigData(msgspec.Struct):
    data: dict[str, str]
    mode: Literal["merge", "replace", "remove"] | None = None


class _Confirmation(msgspec.Struct):
    confirmation: Literal["confirmed", "denied"]
    code: int | None = None
    details: list[str] | None = None


class _AutoConfirm(msgspec.Struct):
    initiator: str | None = None
    remark: str | None = None


class _Installed(msgspec.Struct):
    name: str
    version: str


_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind, strict=False)
    for kind in (_Feedback, _ConfigData, _Confirmation, _AutoConfirm, _Installed)
}


async def _body(request: web.Request, kind: type) -> Any:
    if request.content_type not in ("application/json", "application/octet-stream", HAL, cbor.MEDIA_TYPE):
        raise web.HTTPUnsupportedMediaType(text="application/json is expected")
    raw = await request.read()
    try:
        text = cbor.to_json(raw) if request.content_type == cbor.MEDIA_TYPE else raw.decode()
        return _DECODERS[kind].decode(text)  # from text: also what it passes over has to be some
    except (msgspec.DecodeError, UnicodeDecodeError, cbor.CborError, RecursionError) as error:
        raise web.HTTPBadRequest(text=str(error)) from error


def _report(status: _Status) -> Report:
    if status.code is not None and not -(1 << 31) <= status.code < 1 << 31:
        raise web.HTTPBadRequest(text="code: an int32")
    return Report(
        execution=status.execution,
        finished=status.result.finished,
        code=status.code,
        details=tuple(clean(text) for text in status.details or ()),
    )


def clean(text: str) -> str:
    """Without what SQLite and terminals do not take."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


# --- the application --------------------------------------------------------------------------------


@dataclass
class Desk:
    """What the handlers share."""

    office: Office
    settings: DdiSettings
    polled: dict[str, int] = field(default_factory=dict)
    """device → ms of its last poll, not written down yet"""
    buckets: dict[str, tuple[float, float]] = field(default_factory=dict)
    """device → (tokens left, at): who asks too much"""
    monotonic: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.read, self.write, self.clock = self.office.read, self.office.write, self.office.clock

    def allowed(self, device: str) -> bool:
        """Whether the device has not asked too much."""
        now, burst = self.monotonic(), float(self.settings.burst)
        left, at = self.buckets.get(device, (burst, now))
        left = min(burst, left + (now - at) * self.settings.rate)
        self.buckets[device] = (left - 1 if left >= 1 else left, now)
        return left >= 1

    async def write_polled(self) -> None:
        """Write down when devices asked last."""
        moments, self.polled = self.polled, {}
        if len(self.buckets) > 100_000:
            self.buckets.clear()
        if moments:
            await self.write(lambda c: targets.polled(c, moments))


DESK = web.AppKey("ddi_desk", Desk)


def prefix(settings: DdiSettings) -> str:
    """Where the application is to be mounted."""
    return f"/{settings.tenant}/controller/v1"


def application(office: Office, settings: DdiSettings) -> web.Application:
    """The sub-application: ``app.add_subapp(prefix(settings), application(…))``."""
    app = web.Application(middlewares=[_answers], client_max_size=BODY_MOST)
    app[DESK] = Desk(office, settings)
    app.cleanup_ctx.append(_working)
    one = "/{device}"
    module = one + "/softwaremodules/{module:[0-9]{1,18}}/artifacts"
    action = "/{action:[0-9]{1,18}}"
    app.add_routes(
        [
            web.get(one, poll),
            web.put(one + "/configData", config_data),
            web.get(one + "/deploymentBase" + action, deployment),
            web.post(one + "/deploymentBase" + action + "/feedback", feedback),
            web.get(one + "/installedBase" + action, installed),
            web.put(one + "/installedBase", installed_by_hand),
            web.get(one + "/cancelAction" + action, cancel_action),
            web.post(one + "/cancelAction" + action + "/feedback", cancel_feedback),
            web.get(one + "/confirmationBase", confirmation_base),
            web.get(one + "/confirmationBase" + action, confirmation),
            web.post(one + "/confirmationBase" + action + "/feedback", confirm),
            web.post(one + "/confirmationBase/activateAutoConfirm", auto_confirm),
            web.post(one + "/confirmationBase/deactivateAutoConfirm", no_auto_confirm),
            web.get(module, artifacts),
            web.get(module + "/{name}", artifact),
        ]
    )
    return app


async def _working(app: web.Application) -> AsyncIterator[None]:
    desk = app[DESK]
    task = asyncio.create_task(_write_polls(desk), name="firmware-polls")
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await desk.write_polled()


async def _write_polls(desk: Desk) -> None:
    while True:
        await asyncio.sleep(POLLED_EVERY_S)
        with contextlib.suppress(sqlite3.Error):
            await desk.write_polled()


@web.middleware
async def _answers(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """What the handlers refuse, as hawkBit's clients expect to hear it."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return web.Response(status=error.status, text=error.text, headers=_wanted(error))
    except UnknownError as error:
        return web.Response(status=404, text=str(error))
    except GoneError as error:
        return web.Response(status=410, text=str(error))
    except QuotaError as error:
        return web.Response(status=429, text=str(error))
    except ConflictError as error:
        return web.Response(status=409, text=str(error))
    except targets.AttributesError as error:
        return web.Response(status=403, text=str(error))
    except sqlite3.OperationalError as error:  # another process writes for too long, or the disk is full
        return web.Response(status=503, text=str(error), headers={"Retry-After": "10"})


def _wanted(error: web.HTTPException) -> dict[str, str]:
    return {name: value for name, value in error.headers.items() if name in ("WWW-Authenticate", "Allow")}


# --- who asks ---------------------------------------------------------------------------------------

_POLL = (
    "SELECT t.token, t.wants_attributes, t.installed, a.id, a.state, a.revision, a.mode, a.forced_at, "
    "a.window_from, a.window_to, a.held FROM targets t "
    "LEFT JOIN actions a ON a.id = "
    "(SELECT id FROM actions b WHERE b.target = t.id AND b.open = 1 ORDER BY b.id LIMIT 1) WHERE t.id = ?"
)


def _refused() -> web.HTTPUnauthorized:
    return web.HTTPUnauthorized(text="who are you?", headers={"WWW-Authenticate": "TargetToken"})


def _by_other(request: web.Request, desk: Desk, device: str) -> bool:
    """Whether the request proves itself otherwise than by the device's own token."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    shared = desk.settings.gateway_token
    if scheme == "GatewayToken" and shared:
        return targets.token_holds(targets.token_hash(shared), token.strip())
    header = desk.settings.certificate_header
    if header and request.headers.get(header) == device:
        return True
    return _certificate_name(request) == device


def _certificate_name(request: web.Request) -> str | None:
    """The common name of the certificate by which the device opened the connection, verified by TLS."""
    inside = request.transport.get_extra_info("peercert") if request.transport is not None else None
    for relative in (inside or {}).get("subject", ()):
        for name, value in relative:
            if name == "commonName":
                return str(value)
    return None


def _own_token(request: web.Request, desk: Desk) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if desk.settings.target_tokens and scheme == "TargetToken" else None


def _device(request: web.Request, desk: Desk) -> str:
    device = request.match_info["device"]
    if not targets.ID.fullmatch(device):
        raise _refused()
    if not desk.allowed(device):
        raise web.HTTPTooManyRequests(text="too many requests")
    return device


async def _admit(request: web.Request) -> tuple[Desk, str]:
    """Who asks, proven. Raises what they are told otherwise."""
    desk = request.app[DESK]
    device = _device(request, desk)
    if _by_other(request, desk, device):
        return desk, device
    token = _own_token(request, desk)
    if token is None:
        raise _refused()
    row = await desk.read(lambda c: c.execute("SELECT token FROM targets WHERE id = ?", (device,)).fetchone())
    if row is None or not targets.token_holds(row["token"], token):
        raise _refused()
    return desk, device


# --- the base poll ----------------------------------------------------------------------------------


async def poll(request: web.Request) -> web.Response:
    """What there is to do."""
    desk = request.app[DESK]
    device = _device(request, desk)
    row = await desk.read(lambda c: c.execute(_POLL, (device,)).fetchone())
    token = _own_token(request, desk)
    if token is None or row is None or not targets.token_holds(row["token"], token):
        if not _by_other(request, desk, device):
            raise _refused()
        if row is None:
            await desk.write(lambda c: targets.seen(c, device, desk.clock()))
            row = await desk.read(lambda c: c.execute(_POLL, (device,)).fetchone())
    now = desk.clock()
    desk.polled[device] = now
    fields: dict[str, Any] = {"config": {"polling": {"sleep": desk.settings.polling}}}
    links = _links(row, _here(request, desk, device), now)
    if links:
        fields["_links"] = {name: {"href": link} for name, link in links.items()}
    return _json(request, fields)


def _links(row: sqlite3.Row, here: str, now: int) -> dict[str, str]:
    links = {}
    if row["id"] is not None:
        action = row["id"]
        if row["state"] == State.WAITING:
            links["confirmationBase"] = f"{here}/confirmationBase/{action}?c={_mark(row, now)}"
        elif row["state"] == State.CANCELING:
            links["cancelAction"] = f"{here}/cancelAction/{action}"
        else:
            links["deploymentBase"] = f"{here}/deploymentBase/{action}?c={_mark(row, now)}"
    if row["installed"] is not None:
        links["installedBase"] = f"{here}/installedBase/{row['installed']}"
    if row["wants_attributes"]:
        links["configData"] = f"{here}/configData"
    return links


def _here(request: web.Request, desk: Desk, device: str) -> str:
    outside = urlsplit(desk.settings.public_url)
    scheme = outside.scheme if outside.netloc and outside.netloc == request.host else request.scheme
    return f"{scheme}://{request.host}{prefix(desk.settings)}/{quote(device)}"


def _mark(row: Mapping[str, Any] | sqlite3.Row, now: int) -> int:
    """Changes with everything that a client has to read the action again for; an int32."""
    forced = row["forced_at"] is not None and row["forced_at"] <= now
    window = _window(row, now)
    state = (row["revision"] * 2 + forced) * 3 + (0 if window is None else 1 + (window == "available"))
    return int(row["id"] * 31 + state) % (1 << 31)


def _window(row: Mapping[str, Any] | sqlite3.Row, now: int) -> str | None:
    """Of maintenance: None when any time will do."""
    if row["window_from"] is None and row["held"] is None:
        return None
    begun = row["window_from"] is None or row["window_from"] <= now
    over = row["window_to"] is not None and row["window_to"] <= now
    return "available" if begun and not over and row["held"] is None else "unavailable"


def _json(request: web.Request, fields: Any) -> web.Response:
    """As HAL unless plain JSON or CBOR is asked for; 304 where the client holds the same."""
    asked = request.headers.get("Accept", "")
    compact = cbor.MEDIA_TYPE in asked
    raw = cbor.encode(fields) if compact else msgspec.json.encode(fields)
    etag = f'"{hashlib.blake2b(raw, digest_size=12).hexdigest()}"'
    if names(request.headers.get("If-None-Match"), etag):
        return web.Response(status=304, headers={"ETag": etag})
    plain = "application/json" in asked and HAL not in asked
    kind = cbor.MEDIA_TYPE if compact else "application/json" if plain else HAL
    return web.Response(body=raw, headers={"ETag": etag, "Content-Type": kind, "Vary": "Accept"})


# --- what to install --------------------------------------------------------------------------------


async def deployment(request: web.Request) -> web.Response:
    """The action that is to be done."""
    desk, device = await _admit(request)
    action, now = _action(request), desk.clock()

    def work(connection: sqlite3.Connection) -> dict[str, Any]:
        row = actions.of_target(connection, device, action)
        if row["state"] in (State.WAITING, State.CANCELING, State.CANCELED, State.SCHEDULED):
            raise UnknownError(f"action {action} is {row['state']}")
        return _deployment(connection, request, desk, device, row, now, "deployment")

    fields = await desk.read(work)
    await desk.write(lambda c: actions.fetched(c, device, action, now))
    return _json(request, fields)


async def installed(request: web.Request) -> web.Response:
    """The action that is done."""
    desk, device = await _admit(request)
    action, now = _action(request), desk.clock()

    def work(connection: sqlite3.Connection) -> dict[str, Any]:
        row = actions.of_target(connection, device, action)
        if row["state"] not in (State.FINISHED, State.ERROR):
            raise UnknownError(f"action {action} is {row['state']}")
        return _deployment(connection, request, desk, device, row, now, "deployment")

    return _json(request, await desk.read(work))


def _action(request: web.Request) -> int:
    return min(int(request.match_info["action"]), (1 << 63) - 1)


def _deployment(
    connection: sqlite3.Connection,
    request: web.Request,
    desk: Desk,
    device: str,
    row: sqlite3.Row,
    now: int,
    name: str,
) -> dict[str, Any]:
    download, update = _handling(row, now)
    inner: dict[str, Any] = {"download": download, "update": update}
    window = _window(row, now)
    if window is not None:
        inner["maintenanceWindow"] = window
    inner["chunks"] = _chunks(connection, row["release"], _here(request, desk, device))
    fields: dict[str, Any] = {"id": str(row["id"]), name: inner}
    asked = request.query.get("actionHistory", "0")
    most = 50 if asked.startswith("-") else int(asked) if asked.isdecimal() and len(asked) < 9 else 0
    if most:
        lines = actions.history(connection, row["id"], min(most, 50))
        messages = [text for line in lines for text in line["messages"]]
        fields["actionHistory"] = {"status": str(row["state"]).upper(), "messages": messages[:most]}
    return fields


def _handling(row: sqlite3.Row, now: int) -> tuple[str, str]:
    mode = row["mode"]
    forced = mode in ("forced", "downloadonly") or (row["forced_at"] is not None and row["forced_at"] <= now)
    download = "forced" if forced else "attempt"
    if mode == "downloadonly":
        return download, "skip"
    window = _window(row, now)
    if window is not None:
        # Outside the window the device prepares and waits: it has to be downloaded by then.
        return "forced", "skip" if window == "unavailable" else download
    return download, download


def _chunks(connection: sqlite3.Connection, release: int, here: str) -> list[dict[str, Any]]:
    rows = connection.execute("SELECT * FROM modules WHERE release = ? ORDER BY id", (release,)).fetchall()
    return [_chunk(connection, row, here) for row in rows]


def _chunk(connection: sqlite3.Connection, row: sqlite3.Row, here: str) -> dict[str, Any]:
    part = LEGACY_PARTS.get(row["part"], row["part"])
    fields: dict[str, Any] = {"part": part, "version": row["version"], "name": row["name"]}
    fields["artifacts"] = _artifacts(connection, row["id"], here)
    metadata = json.loads(row["metadata"])
    if metadata:
        fields["metadata"] = [{"key": key, "value": value} for key, value in sorted(metadata.items())]
    return fields


def _artifacts(connection: sqlite3.Connection, module: int, here: str) -> list[dict[str, Any]]:
    rows = connection.execute(
        "SELECT f.name, a.* FROM module_files f JOIN artifacts a USING (sha256) "
        "WHERE f.module = ? AND a.damaged IS NULL ORDER BY f.name",
        (module,),
    )
    suffix = "" if here.startswith("https:") else "-http"
    found = []
    for row in rows:
        link = f"{here}/softwaremodules/{module}/artifacts/{quote(row['name'])}"
        links = {f"download{suffix}": {"href": link}, f"md5sum{suffix}": {"href": f"{link}.MD5SUM"}}
        hashes = {"sha1": row["sha1"], "md5": row["md5"], "sha256": row["sha256"]}
        found.append({"filename": row["name"], "hashes": hashes, "size": row["size"], "_links": links})
    return found


# --- artifacts --------------------------------------------------------------------------------------

_MINE = (
    "SELECT 1 FROM actions a JOIN modules m ON m.release = a.release WHERE a.target = ? AND m.id = ? "
    "AND (a.state = 'running' OR a.id = (SELECT installed FROM targets WHERE id = a.target)) LIMIT 1"
)


def _check_mine(connection: sqlite3.Connection, device: str, module: int) -> None:
    """Only what the device is to install, or has installed, is its own to see. Raises UnknownError."""
    if connection.execute(_MINE, (device, module)).fetchone() is None:
        raise UnknownError("no such module")


async def artifacts(request: web.Request) -> web.Response:
    """The files of a module."""
    desk, device = await _admit(request)
    module = int(request.match_info["module"])
    here = _here(request, desk, device)

    def work(connection: sqlite3.Connection) -> list[dict[str, Any]]:
        _check_mine(connection, device, module)
        return _artifacts(connection, module, here)

    return _json(request, await desk.read(work))


async def artifact(request: web.Request) -> web.StreamResponse:
    """A file of a module, or its MD5 as md5sum(1) reads it."""
    desk, device = await _admit(request)
    module, name = int(request.match_info["module"]), request.match_info["name"]
    plain = name.removesuffix(".MD5SUM")

    def work(connection: sqlite3.Connection) -> sqlite3.Row:
        _check_mine(connection, device, module)
        row: sqlite3.Row | None = connection.execute(
            "SELECT a.sha256, a.md5 FROM module_files f JOIN artifacts a USING (sha256) "
            "WHERE f.module = ? AND f.name = ? AND a.damaged IS NULL",
            (module, plain),
        ).fetchone()
        if row is None:
            raise UnknownError("no such artifact")
        return row

    row = await desk.read(work)
    if plain != name:
        headers = {"Content-Disposition": f'attachment;filename="{name}"'}
        return web.Response(text=f"{row['md5']}  {plain}", headers=headers)
    if request.method == "GET" and "Range" not in request.headers:
        await desk.write(lambda c: _log_download(c, device, module, name, desk.clock()))
    return await send(
        request, desk.office.store.artifact(row["sha256"]), row["sha256"], name=name, cached=False
    )


def _log_download(connection: sqlite3.Connection, device: str, module: int, name: str, now: int) -> None:
    row = connection.execute(
        "SELECT a.id, a.entries FROM actions a JOIN modules m ON m.release = a.release "
        "WHERE a.target = ? AND m.id = ? AND a.state = 'running'",
        (device, module),
    ).fetchone()
    if row is not None and row["entries"] < actions.MOST_ENTRIES:
        actions.log(connection, row["id"], "download", [f"The device downloads {name}."], now)


# --- what devices report ----------------------------------------------------------------------------


async def feedback(request: web.Request) -> web.Response:
    """How far the action is."""
    desk, device = await _admit(request)
    body: _Feedback = await _body(request, _Feedback)
    action, said, now = _action(request), _report(body.status), desk.clock()
    await desk.write(lambda c: actions.report(c, device, action, said, now))
    return web.Response()


async def cancel_action(request: web.Request) -> web.Response:
    """The action that is to stop."""
    desk, device = await _admit(request)
    action = _action(request)
    row = await desk.read(lambda c: actions.of_target(c, device, action))
    if row["state"] not in (State.CANCELING, State.CANCELED):
        raise UnknownError(f"nobody asked to cancel action {action}")
    return _json(request, {"id": str(action), "cancelAction": {"stopId": str(action)}})


async def cancel_feedback(request: web.Request) -> web.Response:
    """Whether it has stopped."""
    desk, device = await _admit(request)
    body: _Feedback = await _body(request, _Feedback)
    action, said, now = _action(request), _report(body.status), desk.clock()
    await desk.write(lambda c: actions.report_cancel(c, device, action, said, now))
    return web.Response()


async def config_data(request: web.Request) -> web.Response:
    """What the device says of itself."""
    desk, device = await _admit(request)
    body: _ConfigData = await _body(request, _ConfigData)
    given = {clean(name): clean(value) for name, value in body.data.items()}
    await desk.write(lambda c: targets.set_attributes(c, device, given, body.mode or "merge"))
    return web.Response()


async def installed_by_hand(request: web.Request) -> web.Response:
    """The device runs something that nobody sent it: 201 when that is news."""
    desk, device = await _admit(request)
    body: _Installed = await _body(request, _Installed)
    news = await desk.write(lambda c: targets.installed_by_hand(c, device, clean(body.version)[:64]))
    return web.Response(status=201 if news else 200)


# --- confirmation -----------------------------------------------------------------------------------


async def confirmation_base(request: web.Request) -> web.Response:
    """What waits for a yes, and whether the device says yes by itself."""
    desk, device = await _admit(request)
    here, now = _here(request, desk, device), desk.clock()

    def work(connection: sqlite3.Connection) -> tuple[Any, Any]:
        known = connection.execute("SELECT auto_confirm FROM targets WHERE id = ?", (device,)).fetchone()
        if known is None:
            raise UnknownError(f"there is no device {device}")
        waiting = connection.execute(
            "SELECT * FROM actions WHERE target = ? AND state = 'waiting'", (device,)
        ).fetchone()
        return known["auto_confirm"], waiting

    state, waiting = await desk.read(work)
    automatic = {"active": True} | json.loads(state) if state else {"active": False}
    links = {"deactivateAutoConfirm" if state else "activateAutoConfirm": None}
    hrefs = {name: {"href": f"{here}/confirmationBase/{name}"} for name in links}
    if waiting is not None:
        link = f"{here}/confirmationBase/{waiting['id']}?c={_mark(waiting, now)}"
        hrefs["confirmationBase"] = {"href": link}
    return _json(request, {"autoConfirm": automatic, "_links": hrefs})


async def confirmation(request: web.Request) -> web.Response:
    """What waits for a yes, in full."""
    desk, device = await _admit(request)
    action, now = _action(request), desk.clock()

    def work(connection: sqlite3.Connection) -> dict[str, Any]:
        row = actions.of_target(connection, device, action)
        if row["state"] != State.WAITING:
            raise UnknownError(f"action {action} does not wait for confirmation")
        return _deployment(connection, request, desk, device, row, now, "confirmation")

    return _json(request, await desk.read(work))


async def confirm(request: web.Request) -> web.Response:
    """The yes, or the no."""
    desk, device = await _admit(request)
    body: _Confirmation = await _body(request, _Confirmation)
    action, now = _action(request), desk.clock()
    details = tuple(clean(text) for text in body.details or ())
    yes = body.confirmation == "confirmed"

    def work(connection: sqlite3.Connection) -> None:
        actions.of_target(connection, device, action)
        actions.confirm(connection, action, now, confirmed=yes, details=details, code=body.code)

    await desk.write(work)
    return web.Response()


async def auto_confirm(request: web.Request) -> web.Response:
    """The device says yes by itself from now on."""
    desk, device = await _admit(request)
    empty = not await request.read()
    body: _AutoConfirm = _AutoConfirm() if empty else await _body(request, _AutoConfirm)
    now = desk.clock()
    state: dict[str, Any] = {"activatedAt": now}
    state |= {"initiator": clean(body.initiator)[:64]} if body.initiator else {}
    state |= {"remark": clean(body.remark)[:512]} if body.remark else {}
    await desk.write(lambda c: actions.auto_confirm(c, device, state, now))
    return web.Response()


async def no_auto_confirm(request: web.Request) -> web.Response:
    """It asks again."""
    desk, device = await _admit(request)
    await desk.write(lambda c: actions.auto_confirm(c, device, None, desk.clock()))
    return web.Response()
