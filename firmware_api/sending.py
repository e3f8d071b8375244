"""Artifacts over HTTP: ETag, If-None-Match, If-Match, Range, If-Range, HEAD (RFC 9110, sections 13 and 14).

The kernel copies the file to the socket (sendfile(2)) where there is no TLS in between, also under uvloop,
which offers none: the socket's descriptor is duplicated, so that it stays ours while the connection may go,
and what it does not take at once waits for the loop to say that it does. A slow device costs a descriptor,
no thread and no memory.
"""

import asyncio
import os
import re
import select
import socket
from pathlib import Path
from typing import Any, BinaryIO

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

PIECE = 8 << 20
"""Bytes that a thread sends before it looks after others."""
PATIENCE_MS = 2
_TLS_PIECE = 1 << 18
_FOREVER = "public, max-age=31536000, immutable"


class UnsatisfiableError(Exception):
    """The range begins behind the end of the file."""


_RANGE = re.compile(r"bytes=(?:([0-9]{1,15})-([0-9]{0,15})|-([0-9]{1,15}))")


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


def names(header: str | None, etag: str) -> bool:
    """Whether a list of entity tags holds this one, weak or not."""
    if header is None:
        return False
    return header.strip() == "*" or etag in [part.strip().removeprefix("W/") for part in header.split(",")]


async def send(
    request: web.Request, path: Path, sha256: str, *, name: str | None = None, cached: bool = True
) -> web.StreamResponse:
    """The file at `path`, whole or the part that is asked for. Raises web.HTTPNotFound."""
    etag = f'"{sha256}"'
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": _FOREVER if cached else "no-cache"}
    if request.headers.get("If-Match") is not None and not names(request.headers["If-Match"], etag):
        return web.Response(status=412, headers=headers)
    if names(request.headers.get("If-None-Match"), etag):
        return web.Response(status=304, headers=headers)
    try:
        file = await asyncio.to_thread(open, path, "rb", 0)
    except FileNotFoundError:
        raise web.HTTPNotFound(text="no such artifact") from None
    try:
        return await _send(request, file, headers, etag, name)
    finally:
        file.close()


async def _send(
    request: web.Request, file: Any, headers: dict[str, str], etag: str, name: str | None
) -> web.StreamResponse:
    size = os.fstat(file.fileno()).st_size
    whole = request.headers.get("If-Range", etag).strip() != etag
    try:
        part = None if whole else span(request.headers.get("Range"), size)
    except UnsatisfiableError:
        return web.Response(status=416, headers=headers | {"Content-Range": f"bytes */{size}"})
    start, end = part or (0, size)
    response = web.StreamResponse(status=206 if part else 200, headers=headers)
    response.content_type = "application/octet-stream"
    response.content_length = end - start
    if name is not None:
        response.headers["Content-Disposition"] = f'attachment;filename="{name}"'
    if part:
        response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    writer = await response.prepare(request)
    if request.method == "HEAD" or writer is None:
        return response
    try:
        await _body(request, writer, response, file, start, end)
        await response.write_eof()
    except ConnectionResetError:  # fewer bytes than promised: only a broken connection says so
        response.force_close()
        if request.transport is not None:
            request.transport.close()
    return response


async def _body(
    request: web.Request,
    writer: AbstractStreamWriter,
    response: web.StreamResponse,
    file: BinaryIO,
    start: int,
    end: int,
) -> None:
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the device has gone")
    bare = transport.get_extra_info("socket")
    if transport.get_extra_info("sslcontext") is not None or bare is None or not hasattr(os, "sendfile"):
        return await _copy(response, file, start, end)
    flush = getattr(writer, "send_headers", None)  # aiohttp holds headers back until there is a body
    if flush is not None:
        flush()
    await _emptied(transport)
    descriptor = os.dup(bare.fileno())
    try:
        while start < end:
            start += await _some(request, descriptor, file, start, min(PIECE, end - start))
    finally:
        os.close(descriptor)


async def _some(request: web.Request, descriptor: int, file: BinaryIO, start: int, count: int) -> int:
    try:
        sent = await asyncio.to_thread(_pump, descriptor, file.fileno(), start, count)
    except BlockingIOError:
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError("the device has gone") from None
        await _writable(descriptor)
        return 0
    except OSError as error:
        raise ConnectionResetError("the device has gone") from error
    if not sent:
        raise ConnectionResetError("the file ends early")
    return sent


def _pump(descriptor: int, file: int, start: int, count: int) -> int:
    """Send as long as the device takes it; wait PATIENCE_MS for one that is about to take more, so that a
    fast one costs no way to the loop and back for every socket's fill. Raises BlockingIOError when it took
    nothing."""
    done, poll = 0, select.poll()
    poll.register(descriptor, select.POLLOUT)
    while done < count:
        try:
            sent = os.sendfile(descriptor, file, start + done, count - done)
        except BlockingIOError:
            if poll.poll(PATIENCE_MS):
                continue
            if not done:
                raise
            break
        if not sent:
            break
        done += sent
    return done


async def _emptied(transport: asyncio.Transport) -> None:
    """What the transport holds has gone to the socket: what the kernel copies next follows it."""
    while transport.get_write_buffer_size():
        if transport.is_closing():
            raise ConnectionResetError("the device has gone")
        await asyncio.sleep(0.001)


async def _writable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    copy = socket.socket(fileno=os.dup(descriptor))  # uvloop watches sockets that no transport has
    try:
        loop.add_writer(copy.fileno(), _set, ready)
        try:
            await asyncio.wait_for(ready, STALLED_S)
        finally:
            loop.remove_writer(copy.fileno())
    except TimeoutError:
        raise ConnectionResetError("the device takes nothing any more") from None
    finally:
        copy.close()


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


STALLED_S = 120.0
"""A device that takes nothing for that long is gone."""


async def _copy(response: web.StreamResponse, file: BinaryIO, start: int, end: int) -> None:
    await asyncio.to_thread(file.seek, start)
    while start < end and (chunk := await asyncio.to_thread(file.read, min(_TLS_PIECE, end - start))):
        await response.write(chunk)
        start += len(chunk)
    if start < end:
        raise ConnectionResetError("the file ends early")
