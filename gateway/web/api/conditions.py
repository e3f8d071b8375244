"""Entity tags and conditions (RFC 9110 sections 8.8.3 and 13): what is shown, and changes only if it is so.

The tag of what a GET shows is a hash of its text: it changes exactly when the text does, and nobody has to
keep a version. It is a strong one; the compressed form has a tag of its own (`-gzip`), and a condition may
name either, for both stand for the same text.
"""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass

from aiohttp import web

from gateway.web.problems import Problem

COMPRESSED = "-gzip"
COMPRESS_FROM = 1_024
"""bytes; what is shorter only grows"""
TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
LIST = re.compile(rf"\s*(?:{TAG.pattern}\s*(?:,\s*|$))+")
CACHING = {
    "Cache-Control": "private, no-cache",
    "Vary": "Authorization, Cookie, Accept-Language, Accept-Encoding",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """What a request says has to be so."""

    match: str | None
    """If-Match"""
    none_match: str | None
    """If-None-Match"""


def etag(text: str) -> str:
    """The tag of a text."""
    return f'"{urlsafe_b64encode(hashlib.sha256(text.encode()).digest()[:15]).decode()}"'


def of(request: web.Request) -> Condition | None:
    """The request's condition, None where it has none. Raises a Problem for one that cannot be read."""
    match, none_match = request.headers.get("If-Match"), request.headers.get("If-None-Match")
    for name, header in (("If-Match", match), ("If-None-Match", none_match)):
        if header is not None and header.strip() != "*" and not LIST.fullmatch(header):
            raise Problem(400, f"{name}: send an entity tag as ETag gives it, in quotes; several; or *.")
    return None if match is None and none_match is None else Condition(match=match, none_match=none_match)


def check(condition: Condition, text: str) -> None:
    """Raise a Problem unless a change may be made of what is shown as `text` now."""
    tag = etag(text)
    match, none_match = condition.match, condition.none_match
    if match is not None and not _names(match, tag, weakly=False):
        raise _changed("It is not what If-Match names any more; read it again.", tag)
    if match is None and none_match is not None and _names(none_match, tag, weakly=True):
        raise _changed("It is there, and If-None-Match says that it must not be.", tag)


def shown(request: web.Request, text: str) -> web.Response:
    """The answer to a GET: the text with its tag, or 304 where whoever asks has it already."""
    raw, tag = text.encode(), etag(text)
    packed = len(raw) >= COMPRESS_FROM and "gzip" in request.headers.get("Accept-Encoding", "")
    sent = f'{tag[:-1]}{COMPRESSED}"' if packed else tag
    headers = {"ETag": sent, **CACHING}
    asked = of(request)
    if asked is not None:
        if asked.match is not None and not _names(asked.match, tag, weakly=False):
            raise _changed("It is not what If-Match names.", tag)
        if asked.none_match is not None and _names(asked.none_match, tag, weakly=True):
            return web.Response(status=304, headers=headers)
    response = web.Response(body=raw, content_type="application/json", charset="utf-8", headers=headers)
    if packed:
        response.enable_compression(web.ContentCoding.gzip)
    return response


def _names(header: str, tag: str, *, weakly: bool) -> bool:
    """Whether a list of tags names this one; a weak one counts only where `weakly`."""
    if header.strip() == "*":
        return True
    wanted = tag.strip('"')
    return any(
        text.removesuffix(COMPRESSED) == wanted and (weakly or not weak) for weak, text in TAG.findall(header)
    )


def _changed(detail: str, tag: str) -> Problem:
    return Problem(412, detail, kind="precondition-failed", headers={"ETag": tag})
