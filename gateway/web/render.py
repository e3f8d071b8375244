"""Templates and what they may use: jinja2 with autoescape, one `t` per person, icons, the page's clock.

A page is a template and the data that views.py made; `page` puts both together with what every page
knows (language, theme, the time). Texts are escaped; only icons and charts come as Markup.
"""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any

import aiohttp_jinja2
import jinja2
from aiohttp import web
from jinja2.bccache import Bucket
from multidict import MultiDict

from gateway.domain.access import Role
from gateway.domain.errors import NotFoundError
from gateway.ports import Records
from gateway.web import icons
from gateway.web.access import LANGUAGE_COOKIE, LANGUAGES, guest, language, may_post
from gateway.web.context import CONTEXT, Context
from gateway.web.words import Words

HERE = Path(__file__).parent
THEMES = ("light", "dark")
THEME_COOKIE = "theme"
ZONE = "Europe/Berlin"
"""for pages of people whose zone nobody knows"""
YEAR_S = 365 * 86_400


OPENED: web.AppKey[asyncio.Event] = web.AppKey("opened", asyncio.Event)
"""set once somebody has been given a page"""


class _Compiled(jinja2.BytecodeCache):
    """Templates that this process has compiled, for every application that it makes."""

    def __init__(self) -> None:
        self._code: dict[tuple[str, str], CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._code.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        if bucket.code is not None:
            self._code[bucket.key, bucket.checksum] = bucket.code


_COMPILED = _Compiled()


def setup(app: web.Application, context: Context) -> None:
    """Give the application its templates."""
    version = _version()
    environment = aiohttp_jinja2.setup(
        app,
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        auto_reload=False,
        bytecode_cache=_COMPILED,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined if context.extras.get("strict") else jinja2.Undefined,
    )
    environment.globals.update(icon=icons.icon, brand=icons.brand, version=version)
    app[OPENED] = asyncio.Event()


def _version() -> str:
    """Changes with the stylesheet and the script, so that browsers may keep both for long."""
    digest = hashlib.blake2b(digest_size=5)
    for name in ("app.css", "app.js"):
        digest.update((HERE / "static" / name).read_bytes())
    return digest.hexdigest()


def _common(request: web.Request, context: Context, words: Words) -> dict[str, Any]:
    theme = request.cookies.get(THEME_COOKIE, "")
    return {
        "t": words,
        "lang": words.language,
        "zone": words.zone,
        "theme": theme if theme in THEMES else "",
        "now": context.clock.now(),
        "pace": _pace(context),
        "may": partial(may_post, guest(request)),
        "demo": context.demo is not None,
        "toast": None,
        "view": None,
        "tab": None,
        "error": None,
        "next": None,
        "query": None,
    }


def _pace(context: Context) -> float:
    return float(context.demo.state()["speed"]) if context.demo else 1.0


def spoken(request: web.Request) -> str:
    """The language of this page: `?lang=` for this one page, else as access.py says."""
    wanted = request.query.get("lang", "")
    return wanted if wanted in LANGUAGES else language(request)


async def words_for(request: web.Request) -> Words:
    """How to speak to who is asking: in their language and, for an owner or a workshop, their zone; to an
    owner in what they measure in."""
    identity = guest(request)
    if identity is None or identity.subject is None:
        return Words(request.app[CONTEXT].texts, spoken(request), ZONE)
    return await request.app[CONTEXT].database.read(lambda records: words_in(records, request))


def words_in(records: Records, request: web.Request) -> Words:
    """The same inside a transaction that reads more than this."""
    identity, zone, region = guest(request), ZONE, ""
    if identity is not None and identity.subject is not None:
        zone, region = _place(records, identity.role, identity.subject)
    return Words(request.app[CONTEXT].texts, spoken(request), zone, region)


def _place(records: Records, role: Role, subject: str) -> tuple[str, str]:
    """(time zone, region of the language) of somebody."""
    try:
        if role is Role.OWNER:
            owner = records.owners.get(subject)
            return owner.time_zone, owner.language.partition("-")[2]
        return records.workshops.get(subject).time_zone, ""
    except NotFoundError:
        return ZONE, ""


def page(
    request: web.Request, template: str, words: Words, *, status: int = 200, **data: Any
) -> web.Response:
    """The template, filled, as the answer; never kept by a cache, for it is somebody's."""
    values = _common(request, request.app[CONTEXT], words) | data
    response = aiohttp_jinja2.render_template(template, request, values, status=status)
    request.app[OPENED].set()
    response.headers["Cache-Control"] = "no-store"
    wanted = request.query.get("lang", "")
    if wanted in LANGUAGES:
        response.set_cookie(LANGUAGE_COOKIE, wanted, max_age=YEAR_S, samesite="Lax")
    return response


def message(
    request: web.Request, words: Words, title: str, text: str, *, status: int, back: str = "/"
) -> web.Response:
    """A page that only says something: what happened, what is kept, what to do."""
    return page(request, "message.html", words, status=status, title=title, text=text, back=back)


def see(path: str, said: str | None = None) -> web.Response:
    """After a POST: go on to this page, which may say what happened."""
    join = "&" if "?" in path else "?"
    location = f"{path}{join}said={said}" if said else path
    return web.Response(status=303, headers=MultiDict({"Location": location, "Cache-Control": "no-store"}))
