"""Handlers of the API as typed functions, and everything that is the same for all of them.

A handler names what it takes by its annotations, and its docstring is its documentation:

    @endpoints.post("/owners", *STAFF)
    async def register(call: Call, body: OwnerIn) -> OwnerOut:
        \"\"\"Register an owner.\"\"\"

`body` and `query` are pydantic models, every other argument is part of the path. From the same
annotations openapi.py writes the OpenAPI document, so that the two cannot differ.

What a GET shows carries an ETag (conditions.py). A PUT or DELETE of the same address may be made on the
condition that it is still so: the GET's own handler says what is so, inside the transaction that changes it.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Generic, TypeVar, get_type_hints

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gateway.domain.access import Role
from gateway.domain.errors import ConflictError, SlotTakenError
from gateway.ports import Records
from gateway.web import looking
from gateway.web.access import Identity, allow, language, who
from gateway.web.api import conditions
from gateway.web.api.shapes import ReadingsOut, SlotOut, shape_of
from gateway.web.context import CONTEXT, Context
from gateway.web.problems import Fault, Problem, faults_of, invalid, pointer

PREFIX = "/api/v1"
BODY_MOST = 256 * 1024
"""bytes of a request body; nothing that is sent to the API needs more"""
LIMIT_MOST = 5_000
KEY = re.compile(r"[\x21-\x7e]{1,255}")

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, Any]])
Answered = BaseModel | web.StreamResponse | None


class Query(BaseModel):
    """What may stand behind the question mark."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, defer_build=True)


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
        self._condition: Callable[[Records], None] | None = None
        self._shows: Callable[[Records], str] | None = None
        self.checked = False
        """whether what is shown here was held against the condition"""
        self.etag: str | None = None
        """of what the same address shows after a conditional change"""

    def only_if(self, condition: Callable[[Records], None], shows: Callable[[Records], str]) -> None:
        """Whatever is written is written after `condition` has held, in the same transaction; `shows` gives
        the text of what the address shows then."""
        self._condition, self._shows = condition, shows

    @property
    def conditional(self) -> bool:
        """Whether the change depends on what is shown."""
        return self._condition is not None

    @property
    def key(self) -> str | None:
        """What stands for the Idempotency-Key, for handlers that write elsewhere than into the records."""
        return self._key

    def repeated(self, body: str) -> Exception:
        """To be raised by such a handler when this was done before; `body` was the answer, heard or not."""
        return _Repeated(self._status, body)

    async def read(self, work: Callable[[Records], T]) -> T:
        """`work` on a consistent snapshot."""
        return await self.context.database.read(work)

    async def write(self, work: Callable[[Records], T]) -> T:
        """`work` in one transaction, together with what an Idempotency-Key has to remember of it."""

        def once(records: Records) -> T:
            if self._condition is not None:
                return self._if_so(records, work)
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

    def _if_so(self, records: Records, work: Callable[[Records], T]) -> T:
        assert self._condition is not None
        assert self._shows is not None  # set together
        self._condition(records)
        self.checked = True
        result = work(records)
        if self.request.method != "DELETE":
            self.etag = conditions.etag(self._shows(records))
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
        """Remember the answer; and who is shown something by it, for a repeated one is shown as it was."""
        looking.write_down(self.who, self.who.seen, looking.said(self.request), self.now, records)
        body = result.model_dump_json(by_alias=True)
        records.tokens.remember(self._key or "", self._fingerprint, self._status, body, self.now)


class Within(Call):
    """A call of a GET's handler inside somebody else's transaction; it leaves no trace."""

    def __init__(self, call: Call, records: Records) -> None:
        super().__init__(call.request, 200)
        self.who = replace(call.who, seen=[])
        self._records = records

    async def read(self, work: Callable[[Records], T]) -> T:
        return work(self._records)


def at_once(coroutine: Coroutine[Any, Any, Answered]) -> Answered:
    """The result of a handler that waits for nothing but records that are there. Raises RuntimeError."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: Answered = done.value
        return result
    coroutine.close()
    raise RuntimeError("a handler at an address that can be changed reads something besides the records")


# --- endpoints ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One operation of the API, as it is served and as it is documented."""

    method: str
    path: str
    tag: str
    roles: tuple[Role, ...]
    status: int
    handler: Callable[..., Coroutine[Any, Any, Answered]]
    siblings: Sequence[Endpoint]
    """of the same subject, itself among them"""
    arguments: Mapping[str, TypeAdapter[Any]]
    """of the path, by name"""
    query: type[Query] | None
    body: type[BaseModel] | None
    answer: type[BaseModel] | None
    most: int = BODY_MOST
    """bytes of the body"""
    media: str = "application/json"
    """what it answers with; anything but JSON the handler sends itself"""
    accepts: Mapping[str, Any] = field(default_factory=dict)
    """{media type: model of it, or bytes}, where the handler reads the body itself"""

    @property
    def summary(self) -> str:
        """The first sentence of the docstring."""
        return (inspect.getdoc(self.handler) or "").partition("\n")[0]

    @property
    def description(self) -> str:
        """What follows it."""
        return (inspect.getdoc(self.handler) or "").partition("\n")[2].strip()

    @property
    def shown_by(self) -> Endpoint | None:
        """What shows the thing that a PUT or DELETE changes: the GET of the same address."""
        if self.method not in ("PUT", "DELETE"):
            return None
        return next((e for e in self.siblings if e.method == "GET" and e.path == self.path), None)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one request."""
        call = Call(request, self.status)
        taken: dict[str, Any] = {name: self._argument(request, name) for name in self.arguments}
        query = parse_query(request, self.query or Query)
        if self.query is not None:
            taken["query"] = query
        if self.body is not None:
            taken["body"] = await parse_body(request, self.body, self.most)
        self._put_condition(call, {name: taken[name] for name in self.arguments})
        try:
            result = await call.once(lambda: self.handler(call, **taken))
        except _Repeated as repeated:
            return _json(repeated.body, repeated.status, {"Idempotency-Replayed": "true"})
        except SlotTakenError as error:
            raise _slot_taken(error) from error
        except ConflictError as error:
            raise _conflict(error) from error
        if call.conditional and not call.checked:
            raise RuntimeError(f"{self.handler.__name__} changed something without Call.write")
        if isinstance(result, web.StreamResponse):
            return result
        if not isinstance(result, BaseModel):
            return web.Response(status=204)
        if request.method in ("GET", "HEAD"):
            return conditions.shown(request, _text(result))
        return _json(_text(result), self.status, {"ETag": call.etag} if call.etag else None)

    def _put_condition(self, call: Call, arguments: Mapping[str, Any]) -> None:
        """Make a PUT or DELETE that names a condition depend on it."""
        given = conditions.of(call.request)
        if given is None or self.method not in ("PUT", "DELETE"):
            return
        showing = self.shown_by
        if showing is None:
            raise Problem(412, "Nothing is shown at this address that a condition could be about.")

        def shows(records: Records) -> str:
            return _text(_shown(at_once(showing.handler(Within(call, records), **arguments))))

        def check(records: Records) -> None:
            conditions.check(given, shows(records))

        call.only_if(check, shows)

    def _argument(self, request: web.Request, name: str) -> Any:
        try:
            return self.arguments[name].validate_python(request.match_info[name])
        except ValidationError as error:
            raise Problem(404, f"There is nothing at this address: {name} cannot be that.") from error


def _shown(result: Answered) -> BaseModel:
    assert isinstance(result, BaseModel)  # what can be changed is shown as JSON
    return result


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

    def __init__(self, tag: str, *, conditional: bool = True) -> None:
        """`conditional`: what changes here may depend on what is shown; for that it goes by `Call.write`."""
        self.tag = tag
        self.conditional = conditional
        self.all: list[Endpoint] = []

    def get(self, path: str, *roles: Role, media: str = "application/json") -> Callable[[F], F]:
        """A safe read."""
        return self._add("GET", path, roles, 200, media=media)

    def post(
        self,
        path: str,
        *roles: Role,
        most: int = BODY_MOST,
        accepts: Mapping[str, Any] = MappingProxyType({}),
    ) -> Callable[[F], F]:
        """Something new, or something that happens: 201 with the object. `most`: bytes of its body."""
        return self._add("POST", path, roles, 201, most, accepts=accepts)

    def put(
        self, path: str, *roles: Role, accepts: Mapping[str, Any] = MappingProxyType({})
    ) -> Callable[[F], F]:
        """Replace; repeating it changes nothing."""
        return self._add("PUT", path, roles, 200, accepts=accepts)

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
        accepts: Mapping[str, Any] = MappingProxyType({}),
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
                    siblings=self.all if self.conditional else (),
                    arguments={name: TypeAdapter(kind) for name, kind in hints.items()},
                    query=query,
                    body=body,
                    answer=answer if isinstance(answer, type) and issubclass(answer, BaseModel) else None,
                    most=most,
                    media=media,
                    accepts=accepts,
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

    if endpoint.method == "GET":
        also_head = endpoint.media == "application/json"  # an archive is not packed to say how long it is
        return web.get(PREFIX + endpoint.path, handle, allow_head=also_head)
    return web.route(endpoint.method, PREFIX + endpoint.path, handle)


# --- what comes in ------------------------------------------------------------------------------


def parse_query(request: web.Request, model: type[Query]) -> Query:
    """The query as a model; every fault at once."""
    many = {name for name, info in model.model_fields.items() if "list" in str(info.annotation)}
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
    told = "Content-Type" in request.headers and request.body_exists
    if told and request.content_type != "application/json":
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
