"""Releases over HTTP, for devices; everybody may read them, their signatures say whether to believe them.

Mounted under ``/firmware``: ``/releases``, ``/releases/{kind}/{version}/manifest`` and ``.sig``, and
``/artifacts/{sha256}`` with HEAD, ETag, If-None-Match, Range and If-Range (RFC 9110, sections 13 and 14).
"""

import asyncio
import contextlib
import json
import re
from pathlib import Path
from typing import BinaryIO

from aiohttp import web

from firmware_api.release import NAME
from firmware_api.store import FirmwareStore, Release

_CHUNK = 1 << 18
_STORE = web.AppKey("firmware_store", FirmwareStore)
_FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}


def application(store: FirmwareStore) -> web.Application:
    """The sub-application: ``app.add_subapp("/firmware", application(store))``."""
    app = web.Application()
    app[_STORE] = store
    one = r"/releases/{kind:[^/]+}/{version:[^/]+}"
    app.add_routes(
        [
            web.get("/releases", _list),
            web.get(one + "/manifest", _manifest),
            web.get(one + "/manifest.sig", _signature),
            web.get("/artifacts/{sha256:[0-9a-f]{64}}", _artifact),
        ]
    )
    return app


def public(release: Release) -> dict[str, object]:
    """A release as JSON: its manifest's fields, and where the rest is, relative to the mount."""
    manifest = release.manifest
    here = f"releases/{manifest.kind}/{manifest.version}/manifest"
    links = {"manifest": here, "signature": f"{here}.sig", "artifact": f"artifacts/{manifest.sha256}"}
    return dict(json.loads(release.raw)) | {"links": links}


async def _list(request: web.Request) -> web.Response:
    releases = await asyncio.to_thread(request.app[_STORE].releases)
    return web.json_response({"items": [public(release) for release in releases], "next": None})


async def _manifest(request: web.Request) -> web.Response:
    release = await _release(request)
    return web.Response(body=release.raw, content_type="application/json")


async def _signature(request: web.Request) -> web.Response:
    release = await _release(request)
    return web.Response(body=release.signature, content_type="text/plain")


async def _release(request: web.Request) -> Release:
    kind, version = request.match_info["kind"], request.match_info["version"]
    if NAME.fullmatch(kind) and NAME.fullmatch(version):
        release = await asyncio.to_thread(request.app[_STORE].get, kind, version)
        if release:
            return release
    raise web.HTTPNotFound(text="no such release")


async def _artifact(request: web.Request) -> web.StreamResponse:
    sha256 = request.match_info["sha256"]
    try:
        file = await asyncio.to_thread(_open, request.app[_STORE].artifact(sha256))
    except FileNotFoundError:
        raise web.HTTPNotFound(text="no such artifact") from None
    with contextlib.closing(file):
        return await _send(request, file, f'"{sha256}"')


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


async def _send(request: web.Request, file: BinaryIO, etag: str) -> web.StreamResponse:
    unchanged = request.headers.get("If-None-Match", "")
    if unchanged == "*" or etag in unchanged:
        return web.Response(status=304, headers={"ETag": etag, **_FOREVER})
    size = await asyncio.to_thread(file.seek, 0, 2)
    asked = request.headers.get("Range") if request.headers.get("If-Range", etag) == etag else None
    try:
        part = span(asked, size)
    except UnsatisfiableError:
        return web.Response(status=416, headers={"Content-Range": f"bytes */{size}", "ETag": etag})
    start, end = part or (0, size)
    response = web.StreamResponse(status=206 if part else 200, headers={"ETag": etag, **_FOREVER})
    response.headers["Accept-Ranges"] = "bytes"
    response.content_type = "application/octet-stream"
    response.content_length = end - start
    if part:
        response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    await response.prepare(request)
    if request.method != "HEAD":
        await _copy(file, response, start, end)
    await response.write_eof()
    return response


async def _copy(file: BinaryIO, response: web.StreamResponse, start: int, end: int) -> None:
    await asyncio.to_thread(file.seek, start)
    while start < end and (chunk := await asyncio.to_thread(file.read, min(_CHUNK, end - start))):
        await response.write(chunk)
        start += len(chunk)


class UnsatisfiableError(Exception):
    """The range begins behind the end of the file."""


_RANGE = re.compile(r"bytes=(?:(\d+)-(\d*)|-(\d+))")


def span(header: str | None, size: int) -> tuple[int, int] | None:
    """The bytes that a Range header asks for, half open; None for all of them.

    What is no range, or several, is answered with the whole file, as RFC 9110, 14.2 allows.
    Raises UnsatisfiableError.
    """
    match = _RANGE.fullmatch((header or "").strip())
    if match is None:
        return None
    first, last, tail = match.groups()
    if tail is not None:
        start, end = max(0, size - int(tail)), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= size:
        raise UnsatisfiableError
    return start, end
