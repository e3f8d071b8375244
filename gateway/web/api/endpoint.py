"""Handlers of the API as typed functions, and everything that is the same for all of them.

A handler names what it takes by its annotations, and its docstring is its documentation:

    @endpoints.post("/owners", *STAFF)
    async def register(call: Call, body: OwnerIn) -> OwnerOut:
        \"\"\"Register an owner.\"\"\"

`body` and `query` are pydantic models, every other argument is part of the path. From the same
annotations openapi.py writes the OpenAPI document, so that the two cannot differ.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_type_hints

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gateway.domain.access import Role
from gateway.domain.errors import ConflictError, SlotTakenError
from gateway.ports import Records
from gateway.web.access import Identity, allow, language, who
from gateway.web.api.shapes import ReadingsOut, SlotOut, shape_of
from gateway.web.context import CONTEXT, Context
from gateway.web.problems import Fault, Problem, faults_of, invalid, pointer

PREFIX = "/api/v1"
BODY_MOST = 256 * 1024
"""bytes of a request body; nothing that is sent to the API needs more"""
LIMIT_MOST = 5_000
KEY = re.compile(r"[\x21-\x7e]{1,255}")

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Awaitable[Any]])
Answered = BaseModel | web.StreamResponse | None


class Query(BaseModel):
    """What may stand behind the question mark."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class ListQuery(Query):
    """Of every list."""

    limit: int = Field(100, ge=1, le=LIMIT_MOST, description="How many items at most.")
    cursor: str | None = Field(None, max_length=300, description="`next` of the page before.")

    def after(self) -> str | None:
        """The id that the page before ended with."""
        return None if self.cursor is None else open_cursor(self.cursor)

    def after_number(self) -> int | None:
        """The same where items are ordered by a number."""
        text = self.after()
        if text is None:
            return None
        if not re.fullmatch(r"-?[0-9]{1,18}", text):
            raise bad_cursor()
        return int(text)


class Page(BaseModel, Generic[T]):
    """One page of a list."""

    items: list[T]
    next: str | None = Field(description="Cursor of the next page; null on the last one.")


def page(rows: Sequence[Any], limit: int, shape: Callable[[Any], T], key: Callable[[Any], object]) -> Page[T]:
    """The first `limit` of `rows`, of which one more was asked for to see whether there is a next page."""
    kept = rows[:limit]
    following = make_cursor(key(kept[-1])) if len(rows) > limit else None
    return Page(items=[shape(row) for row in kept], next=following)


def make_cursor(after: object) -> str:
    """An opaque cursor; what is in it is nobody's business but ours."""
    return urlsafe_b64encode(f"1:{after}".encode()).rstrip(b"=").decode()


def open_cursor(cursor: str) -> str:
    """What `make_cursor` was given. Raises a Problem for anything else."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        version, _, after = urlsafe_b64decode(padded).decode().partition(":")
    except ValueError as error:
        raise bad_cursor() from error
    if version != "1" or not after or not after.isprintable():
        raise bad_cursor()
    return after


def bad_cursor() -> Problem:
    """The cursor is none of ours."""
    return invalid([Fault(detail="cursor is not one that this list gave out.", parameter="cursor")])


# --- a call -------------------------------------------------------------------------------------


class _Repeated(Exception):
    """This POST was done before; what it answered then."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


class Call:
    """One request on its way through a handler."""

    def __init__(self, request: web.Request, status: int) -> None:
        self.request = request
        self.context: Context = request.app[CONTEXT]
        self.who: Identity = who(request)
        self.language = language(request)
        self.now = self.context.clock.now()
        """ms, the same for everything this request does"""
        self._status = status
        self._key: str | None = None
        self._fingerprint = ""
        self._kept = False

    async def read(self, work: Callable[[Records], T]) -> T:
        """`work` on a consistent snapshot."""
        return await self.context.database.read(work)

    async def write(self, work: Callable[[Records], T]) -> T:
        """`work` in one transaction, together with what an Idempotency-Key has to remember of it."""

        def once(records: Records) -> T:
            if self._key is None:
                return work(records)
            self._raise_if_done(records)
            result = work(records)
            if isinstance(result, BaseModel):
                self._keep(records, result)
            return result

        result = await self.context.database.write(once)
        self._kept = self._key is not None and isinstance(result, BaseModel)
        return result

    async def announce(self) -> None:
        """Carry queued control entries into the journal before the answer, so that they come first."""
        if self.context.announce is not None:
            await self.context.announce()

    async def once(self, work: Callable[[], Awaitable[Answered]]) -> Answered:
        """Run a handler under the Idempotency-Key it was sent with, if any."""
        header = self.request.headers.get("Idempotency-Key")
        if header is None or self.request.method != "POST":
            return await work()
        if not KEY.fullmatch(header):
            raise Problem(400, "Idempotency-Key is 1 to 255 printable characters without spaces.")
        self._fingerprint = hashlib.sha256(await self.request.read()).hexdigest()
        scope = (self.who.token, self.request.path, header)
        self._key = hashlib.sha256("\x1f".join(scope).encode()).hexdigest()
        await self.read(self._raise_if_done)
        result = await work()
        if isinstance(result, BaseModel) and not self._kept:
            kept = result
            await self.context.database.write(lambda records: self._keep(records, kept))
        return result

    def _raise_if_done(self, records: Records) -> None:
        found = records.tokens.remembered(self._key or "")
        if found is None:
            return
        fingerprint, status, body = found
        if fingerprint != self._fingerprint:
            raise Problem(
                422, "This Idempotency-Key was used with another body.", kind="idempotency-key-reused"
            )
        raise _Repeated(status, body)

    def _keep(self, records: Records, result: BaseModel) -> None:
        body = result.model_dump_json(by_alias=True)
        records.tokens.remember(self._key or "", self._fingerprint, self._status, body, self.now)


# --- endpoints ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One operation of the API, as it is served and as it is documented."""

    method: str
    path: str
    tag: str
    roles: tuple[Role, ...]
    status: int
    handler: Callable[..., Awaitable[Answered]]
    arguments: Mapping[str, TypeAdapter[Any]]
    """of the path, by name"""
    query: type[Query] | None
    body: type[BaseModel] | None
    answer: type[BaseModel] | None
    most: int = BODY_MOST
    """bytes of the body"""
    media: str = "application/json"
    """what it answers with; anything but JSON the handler sends itself"""

    @property
    def summary(self) -> str:
        """The first sentence of the docstring."""
        return (inspect.getdoc(self.handler) or "").partition("\n")[0]

    @property
    def description(self) -> str:
        """What follows it."""
        return (inspect.getdoc(self.handler) or "").partition("\n")[2].strip()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one request."""
        call = Call(request, self.status)
        taken: dict[str, Any] = {name: self._argument(request, name) for name in self.arguments}
        query = parse_query(request, self.query or Query)
        if self.query is not None:
            taken["query"] = query
        if self.body is not None:
            taken["body"] = await parse_body(request, self.body, self.most)
        try:
            result = await call.once(lambda: self.handler(call, **taken))
        except _Repeated as repeated:
            return _json(repeated.body, repeated.status, {"Idempotency-Replayed": "true"})
        except SlotTakenError as error:
            raise _slot_taken(error) from error
        except ConflictError as error:
            raise _conflict(error) from error
        if isinstance(result, web.StreamResponse):
            return result
        if isinstance(result, BaseModel):
            return _json(_text(result), self.status)
        return web.Response(status=204)

    def _argument(self, request: web.Request, name: str) -> Any:
        try:
            return self.arguments[name].validate_python(request.match_info[name])
        except ValidationError as error:
            raise Problem(404, f"There is nothing at this address: {name} cannot be that.") from error


def _text(result: BaseModel) -> str:
    return result.text() if isinstance(result, ReadingsOut) else result.model_dump_json(by_alias=True)


def _json(body: str, status: int, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        text=body,
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def _slot_taken(error: SlotTakenError) -> Problem:
    slots = [SlotOut.of(slot).model_dump(mode="json") for slot in error.next_slots]
    return Problem(409, str(error), kind="slot-taken", title="The slot is taken", next_slots=slots)


def _conflict(error: ConflictError) -> Problem:
    holds = shape_of(error.holds)
    problem = Problem(409, str(error), kind="conflict", title="It contradicts what holds")
    if holds is not None:
        problem.extensions["holds"] = holds
    return problem


class Endpoints:
    """The operations of one subject."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.all: list[Endpoint] = []

    def get(self, path: str, *roles: Role, media: str = "application/json") -> Callable[[F], F]:
        """A safe read."""
        return self._add("GET", path, roles, 200, media=media)

    def post(self, path: str, *roles: Role, most: int = BODY_MOST) -> Callable[[F], F]:
        """Something new, or something that happens: 201 with the object. `most`: bytes of its body."""
        return self._add("POST", path, roles, 201, most)

    def put(self, path: str, *roles: Role) -> Callable[[F], F]:
        """Replace; repeating it changes nothing."""
        return self._add("PUT", path, roles, 200)

    def delete(self, path: str, *roles: Role) -> Callable[[F], F]:
        """Take away: 204."""
        return self._add("DELETE", path, roles, 204)

    def _add(
        self,
        method: str,
        path: str,
        roles: tuple[Role, ...],
        status: int,
        most: int = BODY_MOST,
        media: str = "application/json",
    ) -> Callable[[F], F]:
        def register(handler: F) -> F:
            hints = get_type_hints(handler, include_extras=True)
            answer = hints.pop("return", None)
            hints.pop("call")
            query, body = hints.pop("query", None), hints.pop("body", None)
            self.all.append(
                Endpoint(
                    method=method,
                    path=path,
                    tag=self.tag,
                    roles=roles,
                    status=status,
                    handler=handler,
                    arguments={name: TypeAdapter(kind) for name, kind in hints.items()},
                    query=query,
                    body=body,
                    answer=answer if isinstance(answer, type) and issubclass(answer, BaseModel) else None,
                    most=most,
                    media=media,
                )
            )
            return handler

        return register

    def routes(self) -> list[web.RouteDef]:
        """For `add_routes`, each marked with who may come in."""
        return [_route(endpoint) for endpoint in self.all]


def _route(endpoint: Endpoint) -> web.RouteDef:
    @allow(*endpoint.roles)
    async def handle(request: web.Request) -> web.StreamResponse:
        if endpoint.most > BODY_MOST:
            request = request.clone(client_max_size=endpoint.most + 1)
        return await endpoint.handle(request)

    return web.route(endpoint.method, PREFIX + endpoint.path, handle)


# --- what comes in ------------------------------------------------------------------------------


def parse_query(request: web.Request, model: type[Query]) -> Query:
    """The query as a model; every fault at once."""
    many = {name for name, field in model.model_fields.items() if "list" in str(field.annotation)}
    given: dict[str, Any] = {}
    faults = []
    for name in dict.fromkeys(request.query):
        values = request.query.getall(name)
        if name == "as":  # picks the session, see access.py
            continue
        if name in many:
            given[name] = [part for value in values for part in value.split(",")]
        elif len(values) > 1:
            faults.append(Fault(detail=f"{name} is given {len(values)} times.", parameter=name))
        else:
            given[name] = values[0]
    try:
        parsed = model.model_validate(given)
    except ValidationError as error:
        raise invalid(faults + faults_of(error, model, in_query=True)) from error
    if faults:
        raise invalid(faults)
    return parsed


async def parse_body(request: web.Request, model: type[BaseModel], most: int = BODY_MOST) -> BaseModel:
    """The body as a model; every fault at once."""
    if request.content_type != "application/json" and "Content-Type" in request.headers:
        raise Problem(415, f"The body is {request.content_type}; application/json is expected.")
    if (request.content_length or 0) > most:
        raise Problem(413, f"The body is larger than {most // 1024} KiB.")
    raw = await request.read()
    if len(raw) > most:
        raise Problem(413, f"The body is larger than {most // 1024} KiB.")
    try:
        return model.model_validate_json(raw or b"{}", strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "json_invalid":
            raise Problem(400, f"The body is not JSON: {first['ctx']['error']}.") from error
        raise invalid(faults_of(error, model)) from error


def fault_at(place: str, detail: str) -> Problem:
    """One thing in the body that only the records could tell."""
    return invalid([Fault(detail=detail, pointer=pointer([place]))])
