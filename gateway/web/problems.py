"""Problem details for HTTP APIs (RFC 9457): one shape for everything that is refused.

`Problem` is raised by handlers of the API and turned into a response by the middleware in
server.py; domain errors are translated by `problem_of`. Several faults of one request are told at
once, each with the place where it is: `pointer` into the body (RFC 6901), or the `parameter`.
"""

from __future__ import annotations

import difflib
import http
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ValidationError

from gateway.domain.errors import (
    ConflictError,
    GoneError,
    InvalidError,
    NotAllowedError,
    NotFoundError,
    SlotTakenError,
    UnverifiedError,
)
from gateway.ports import (
    DatabaseUnavailableError,
    JournalFullError,
    JournalWriteError,
    StoreUnavailableError,
)

MEDIA_TYPE = "application/problem+json"


class Fault(BaseModel):
    """One thing that is wrong in a request."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class Problem(Exception):
    """What is refused, and why; carries everything that its response says."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: str | None = None,
        title: str | None = None,
        errors: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        **extensions: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind
        self.title = title or http.HTTPStatus(status).phrase
        self.errors = errors
        self.headers = dict(headers or {})
        self.extensions = extensions

    def body(self) -> dict[str, Any]:
        """The object of RFC 9457 section 3.1, with its extension members."""
        body: dict[str, Any] = {
            "type": f"urn:touchpoint:problem:{self.kind}" if self.kind else "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            body["errors"] = [fault.model_dump(exclude_none=True) for fault in self.errors]
        return body | self.extensions

    def response(self) -> web.Response:
        """The problem as an answer."""
        return web.Response(
            status=self.status, text=json.dumps(self.body()), content_type=MEDIA_TYPE, headers=self.headers
        )


def invalid(errors: Sequence[Fault], *, status: int = 422) -> Problem:
    """The request cannot be taken: all faults at once."""
    first = errors[0].detail if len(errors) == 1 else f"{len(errors)} things are wrong; nothing was changed."
    return Problem(status, first, kind="invalid-request", title="The request cannot be taken", errors=errors)


def unauthorized() -> Problem:
    """Nobody we know: RFC 6750 section 3."""
    return Problem(
        401,
        "Send a bearer token that is valid: Authorization: Bearer <token>.",
        headers={"WWW-Authenticate": 'Bearer realm="touchpoint"'},
    )


def forbidden(detail: str = "This token may not do this.") -> Problem:
    """Known, but not allowed."""
    return Problem(403, detail)


def problem_of(error: Exception) -> Problem | None:
    """The problem that an expected error is; None for one that nobody expected."""
    match error:
        case Problem():
            return error
        case NotFoundError():
            return Problem(404, str(error) or "There is no such thing.")
        case GoneError():
            return Problem(410, str(error), kind="gone", title="It is over")
        case UnverifiedError():
            return Problem(
                403,
                str(error),
                kind="unverified",
                title="The caller is not verified",
                verify=f"/api/v1/touchpoints/{error.touchpoint}/conversation/verify",
            )
        case NotAllowedError():
            return forbidden(str(error) or "This token may not do this.")
        case InvalidError():
            return Problem(422, str(error), kind="invalid-request", title="The request cannot be taken")
        case SlotTakenError():
            return Problem(409, str(error), kind="slot-taken", title="The slot is taken", next_slots=[])
        case ConflictError():
            return Problem(409, str(error), kind="conflict", title="It contradicts what holds")
        case DatabaseUnavailableError() | JournalFullError() | JournalWriteError() | StoreUnavailableError():
            detail = str(error) or "A store cannot be used right now; nothing was changed."
            return Problem(503, detail, kind="unavailable", headers={"Retry-After": "5"})
        case web.HTTPException() if error.status >= 400:
            return _http_problem(error)
    return None


def _http_problem(error: web.HTTPException) -> Problem:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return Problem(
            405, f"{error.method} is not possible here; possible: {allowed}.", headers={"Allow": allowed}
        )
    if isinstance(error, web.HTTPNotFound):
        said = "" if error.text == f"{error.status}: {error.reason}" else error.text
        return Problem(404, said or "There is nothing at this address.")
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return Problem(413, "The body is larger than this address takes.")
    return Problem(error.status, error.reason)


# --- what pydantic finds ------------------------------------------------------------------------


LOCAL_TIME = "([01][0-9]|2[0-3]):[0-5][0-9]"
WRITTEN_AS = {
    "quiet_from": "a local time, 21:30",
    "quiet_to": "a local time, 07:00",
    "email": "one address, name@example.com",
    "language": "a language or a language of a region, de or en-GB",
    "currency": "three letters, EUR",
    "country": "two letters, DE",
    "endpoint": "the address that the browser's PushSubscription gives, https://…",
    "p256dh": "the browser's PushSubscription gives it: base64url of 65 bytes",
    "auth": "the browser's PushSubscription gives it: base64url of 16 bytes",
}
"""{field: how it is written}, for those whose pattern says nothing to people."""


def faults_of(error: ValidationError, model: type[BaseModel], *, in_query: bool = False) -> list[Fault]:
    """What pydantic refused, in words: which place, what is allowed, what was perhaps meant."""
    names = sorted(known_names(model))
    faults = []
    for entry in error.errors(include_url=False):
        place = [str(part) for part in entry["loc"]]
        detail = _words(entry, place, names)
        if in_query:
            faults.append(Fault(detail=detail, parameter=place[0] if place else None))
        else:
            faults.append(Fault(detail=detail, pointer=pointer(place)))
    return faults


def pointer(place: Iterable[str]) -> str:
    """A JSON pointer as URI fragment (RFC 6901 section 6)."""
    return "#" + "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in place)


def known_names(model: type[BaseModel]) -> set[str]:
    """The names of all fields of a model and of the models within it."""
    schema = model.model_json_schema(by_alias=True)
    parts = [schema, *schema.get("$defs", {}).values()]
    return {name for part in parts for name in part.get("properties", {})}


def _words(entry: Any, place: Sequence[str], names: Sequence[str]) -> str:
    name = place[-1] if place else "the body"
    match entry["type"]:
        case "extra_forbidden":
            close = difflib.get_close_matches(name, names, n=1)
            meant = f"did you mean {close[0]}?" if close else f"known are {', '.join(names)}."
            return f"{name} is not known here; {meant}"
        case "missing":
            return f"{name} is missing."
        case "value_error":
            return f"{name}: {entry['ctx']['error']}"
        case "model_type" | "model_attributes_type":
            return f"{name}: a JSON object is expected."
        case "string_pattern_mismatch" if name in WRITTEN_AS:
            return f"{name}: write it as {WRITTEN_AS[name]}."
        case "string_pattern_mismatch" if LOCAL_TIME in entry["ctx"]["pattern"]:
            return f"{_spelled(place)}: write it as a local time, 08:00."
        case "tuple_type" | "list_type":
            return f"{_spelled(place)}: a list is expected."
        case "dict_type":
            return f"{_spelled(place)}: a JSON object is expected."
    return f"{_spelled(place) or name}: {entry['msg'][0].lower()}{entry['msg'][1:]}."


def _spelled(place: Sequence[str]) -> str:
    """Where it is: its name, with all above it where the name alone says nothing (an item of a list)."""
    return place[-1] if place and not place[-1].isdigit() and place[-1] != "[key]" else ".".join(place)
