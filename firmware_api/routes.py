"""Releases over HTTP, for devices; everybody may read them, their signatures say whether to believe them.

Mounted under ``/firmware``: ``/trust`` and ``/trust/{version}``, ``/index``, ``/releases``,
``/releases/{kind}/{version}/manifest``, each with ``.sig`` beside it, and ``/artifacts/{sha256}`` with
HEAD, ETag, If-None-Match, Range and If-Range (RFC 9110, sections 13 and 14).
"""

import json
import sqlite3
from collections.abc import AsyncIterator

from aiohttp import web

from firmware_api import releases
from firmware_api.line import Line
from firmware_api.release import NAME, UnknownError
from firmware_api.releases import Release
from firmware_api.sending import send
from firmware_api.store import FirmwareStore

NOBODY_TRUSTED = (
    "nobody is trusted yet, so nothing is signed: touchpoint firmware keygen signing.key makes a key, where "
    "no network is; touchpoint firmware key init --signer signing.key makes the first trust document, here"
)

_STORE = web.AppKey("firmware_store", FirmwareStore)
_READ = web.AppKey("firmware_read", Line)


def application(store: FirmwareStore) -> web.Application:
    """The sub-application: ``app.add_subapp("/firmware", application(store))``."""
    app = web.Application()
    app[_STORE] = store
    app[_READ] = Line(store.connect, writes=False)
    app.cleanup_ctx.append(_closing)
    one = r"/releases/{kind:[^/]+}/{version:[^/]+}"
    app.add_routes(
        [
            web.get("/trust{version:(/[0-9]{1,9})?}", _trust),
            web.get("/trust{version:(/[0-9]{1,9})?}.sig", _trust_signature),
            web.get("/index", _index),
            web.get("/index.sig", _index_signature),
            web.get("/releases", _list),
            web.get(one + "/manifest", _manifest),
            web.get(one + "/manifest.sig", _signature),
            web.get("/artifacts/{sha256:[0-9a-f]{64}}", _artifact),
        ]
    )
    return app


async def _closing(app: web.Application) -> AsyncIterator[None]:
    yield
    await app[_READ].close()


def public(release: Release) -> dict[str, object]:
    """A release as JSON: its manifest's fields, and where the rest is, relative to the mount."""
    manifest = release.manifest
    here = f"releases/{manifest.kind}/{manifest.version}/manifest"
    artifacts = [f"artifacts/{file.sha256}" for file in manifest.files]
    links = {"manifest": here, "signature": f"{here}.sig", "artifacts": artifacts}
    return dict(json.loads(release.raw)) | {"links": links}


async def _list(request: web.Request) -> web.Response:
    found = await request.app[_READ](releases.current)
    return web.json_response({"items": [public(release) for release in found], "next": None})


async def _trust(request: web.Request) -> web.Response:
    return _bytes((await _document(request, "trust"))[0])


async def _trust_signature(request: web.Request) -> web.Response:
    return _text((await _document(request, "trust"))[1])


async def _index(request: web.Request) -> web.Response:
    return _bytes((await _document(request, "index"))[0])


async def _index_signature(request: web.Request) -> web.Response:
    return _text((await _document(request, "index"))[1])


async def _document(request: web.Request, role: str) -> tuple[bytes, bytes]:
    asked = request.match_info.get("version", "").strip("/")
    try:
        return await request.app[_READ](lambda c: releases.document(c, role, int(asked) if asked else None))
    except UnknownError as error:
        nobody = not asked and (role == "trust" or not await _is_trusted(request))
        raise web.HTTPNotFound(text=NOBODY_TRUSTED if nobody else str(error)) from None


async def _is_trusted(request: web.Request) -> bool:
    """Whether there is a trust document at all."""
    try:
        await request.app[_READ](lambda c: releases.document(c, "trust", None))
    except UnknownError:
        return False
    return True


async def _manifest(request: web.Request) -> web.Response:
    return _bytes((await _release(request)).raw)


async def _signature(request: web.Request) -> web.Response:
    return _text((await _release(request)).signature)


def _bytes(raw: bytes) -> web.Response:
    return web.Response(body=raw, content_type="application/json", headers={"Cache-Control": "no-cache"})


def _text(raw: bytes) -> web.Response:
    return web.Response(body=raw, content_type="text/plain", headers={"Cache-Control": "no-cache"})


async def _release(request: web.Request) -> Release:
    kind, version = request.match_info["kind"], request.match_info["version"]
    if NAME.fullmatch(kind) and NAME.fullmatch(version):
        release = await request.app[_READ](lambda c: releases.find(c, kind, version))
        if release is not None and release.withdrawn is None:
            return release
    raise web.HTTPNotFound(text="no such release")


async def _artifact(request: web.Request) -> web.StreamResponse:
    """Only what a current release names: neither half an upload nor what was withdrawn."""
    sha256 = request.match_info["sha256"]
    if not await request.app[_READ](lambda c: _served(c, sha256)):
        raise web.HTTPNotFound(text="no such artifact")
    return await send(request, request.app[_STORE].artifact(sha256), sha256)


def _served(connection: sqlite3.Connection, sha256: str) -> bool:
    row = connection.execute(
        "SELECT 1 FROM module_files f JOIN modules m ON m.id = f.module JOIN releases r ON r.id = m.release "
        "JOIN artifacts a USING (sha256) WHERE sha256 = ? AND r.withdrawn IS NULL AND a.damaged IS NULL "
        "LIMIT 1",
        (sha256,),
    ).fetchone()
    return row is not None
