"""Events of other systems, as CloudEvents 1.0 in all three modes of its HTTP binding.

Structured: one event as application/cloudevents+json. Binary: its attributes as ce-… headers, its data as
the body. Batched: application/cloudevents-batch+json, taken whole or not at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import unquote

from aiohttp import web
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    StringConstraints,
    ValidationError,
    model_validator,
)

from gateway.domain.errors import TouchpointError
from gateway.domain.heard import Heard, HeardType
from gateway.domain.ids import new_id
from gateway.flow import conversation, hear
from gateway.flow.hear import Told
from gateway.ports import Records
from gateway.web.access import STAFF
from gateway.web.api import speaking
from gateway.web.api.endpoint import BODY_MOST, Call, Endpoints, ListQuery, Page, page
from gateway.web.api.shapes import Id, Line, Moment, MomentIn, Out, Prose
from gateway.web.problems import Fault, Problem, faults_of, invalid, problem_of

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
BINARY = "application/json"
MOST = 1_000
"""events of a batch"""
ATTRIBUTE = re.compile(r"[a-z0-9]{1,64}")
SUBJECT = re.compile(r"(owner|device|touchpoint)[/:]([A-Za-z0-9][A-Za-z0-9._-]{0,63})")

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[!-~]+$")]

endpoints = Endpoints("Events")


class HeardData(BaseModel):
    """Whom it is about, and what its type needs; whatever else is in it is kept as it is."""

    model_config = ConfigDict(extra="allow")

    owner: Id | None = None
    device: Id | None = None
    touchpoint: Id | None = Field(None, description="Device and owner follow from it.")
    appointment: Id | None = Field(None, description="visit.finished: the visit that was booked here.")
    text: Prose | None = Field(
        None, description="call, complaint, comment: the customer's words; else a note."
    )
    reason: Line | None = Field(None, description="Your own code for what it is about.")
    service: Id | None = Field(None, description="visit.finished: the job, such as brakes-front.")
    workshop: Id | None = Field(None, description="visit.finished: where, if it is known here.")
    place: Line | None = Field(None, description="visit.finished: where, else.")
    action: Line | None = Field(None, description="answer.given: as in POST /touchpoints/{id}/answer.")
    slot: Line | None = None
    until: Line | None = None
    done_on: Line | None = None


class CloudEventIn(BaseModel):
    """An event (CloudEvents 1.0, JSON format). Extension attributes are taken and not looked at."""

    model_config = ConfigDict(extra="allow")

    specversion: Annotated[str, StringConstraints(pattern=r"^1\.0$")] = Field(examples=["1.0"])
    id: Name = Field(
        description="With source it names the event: sent again, it does nothing.", examples=["42"]
    )
    source: Name = Field(description="A URI reference.", examples=["https://dms.example.org/hamburg"])
    type: Name = Field(
        description=f"With an effect: {', '.join(HeardType)}. Every other one is kept for people to see.",
        examples=["visit.finished"],
    )
    subject: Name | None = Field(
        None, description="owner/…, device/… or touchpoint/…, where data say nothing."
    )
    time: MomentIn | None = Field(None, description="When it happened; now when left out.")
    datacontenttype: Name | None = Field(None, examples=["application/json"])
    dataschema: Name | None = Field(None, examples=[None])
    data: HeardData = Field(default_factory=lambda: HeardData())

    @model_validator(mode="before")
    @classmethod
    def _attributes(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        unnamed = [name for name in given if name != "data_base64" and not ATTRIBUTE.fullmatch(str(name))]
        if unnamed:
            raise ValueError(f"{unnamed[0]!r} is no attribute's name: lower-case letters and digits.")
        if "data_base64" in given:
            raise ValueError("data_base64: send JSON as data.")
        if given.get("data") is None:
            return {name: value for name, value in given.items() if name != "data"}
        return given


class CloudEvents(RootModel[list[CloudEventIn]]):
    """Several events: all of them are taken, or none."""

    root: list[CloudEventIn] = Field(min_length=1, max_length=MOST)


class HeardOut(Out):
    """An event as it is kept, and what became of it."""

    id: str
    source: str
    event: str = Field(description="Its id at the source.")
    type: str
    at: Moment
    received: Moment
    owner: str | None
    device: str | None
    touchpoint: str | None
    text: str
    reason: str | None
    outcome: str = Field(description="kept, answered, closed (what was open about a job is settled), case.")
    case: str | None


class HeardListOut(Out):
    """The events of a batch, in the same order."""

    items: list[HeardOut]


class HeardAnswer(RootModel[HeardOut | HeardListOut]):
    """The event, or the events of a batch."""


class HeardQuery(ListQuery):
    """Which events."""

    owner: Id | None = None
    device: Id | None = None
    type: Name | None = None


@endpoints.get("/events", *STAFF)
async def list_events(call: Call, query: HeardQuery) -> Page[HeardOut]:
    """List what other systems told, newest first."""
    rows = await call.read(
        lambda r: r.heard.page(
            owner=query.owner,
            device=query.device,
            type=query.type,
            after=query.after(),
            limit=query.limit + 1,
        )
    )
    for heard in rows[: query.limit]:
        call.who.saw(heard.owner, "matters", "list")
    return page(rows, query.limit, HeardOut.of, lambda heard: heard.id)


@endpoints.post(
    "/events",
    *STAFF,
    most=BODY_MOST * 4,
    accepts={STRUCTURED: CloudEventIn, BATCHED: CloudEvents, BINARY: HeardData},
)
async def take_events(call: Call) -> HeardAnswer:
    """Tell what another system knows, as CloudEvents 1.0: structured, batched, or binary (`ce-` headers).

    An event that was told before, by its `source` and `id`, gives what it gave the first time and does
    nothing. `visit.finished` settles what was open about the job, `answer.given` answers a touchpoint for its
    owner, `complaint.received` makes somebody responsible, `call.received` and `comment.received` count where
    problems cluster, `order.placed` and `order.delivered` begin a product's journey. The owner's ledger says
    what was told. Of a batch everything is taken, or nothing.
    """
    told = [_told(call, event) for event in await events_of(call.request)]
    batched = call.request.content_type == BATCHED

    def work(records: Records) -> HeardAnswer:
        kept = [HeardOut.of(heard) for heard in _take(call, records, told)]
        return HeardAnswer(root=HeardListOut(items=kept) if batched else kept[0])

    answer = await call.write(work)
    await call.announce()
    return answer


def _check_speaker(call: Call, records: Records, told: Told) -> None:
    """Who has signed in answers for an owner whom they have verified. Raises UnverifiedError."""
    matter = speaking.matter_of(records, told.heard.touchpoint)
    if told.heard.type == HeardType.ANSWER_GIVEN and call.who.account is not None and matter is not None:
        conversation.check_verified(records, matter, call.now)


def _take(call: Call, records: Records, told: list[Told]) -> list[Heard]:
    kept: list[Heard] = []
    for number, one in enumerate(told):
        try:
            _check_speaker(call, records, one)
            kept.append(hear.hear(records, one, call.now, call.context.policy))
        except TouchpointError as error:
            problem = problem_of(error)
            if len(told) == 1 or problem is None:
                raise
            raise Problem(
                problem.status,
                f"Event {number}: {error}",
                kind=problem.kind,
                title=problem.title,
                errors=[Fault(detail=str(error), pointer=f"#/{number}")],
            ) from error
    return kept


def _told(call: Call, event: CloudEventIn) -> Told:
    data = event.data
    said = data.model_dump(mode="json", exclude_none=True)
    names = {name: said.get(name) for name in ("owner", "device", "touchpoint")}
    found = SUBJECT.fullmatch(event.subject or "")
    if found is not None and not any(names.values()):
        names[found[1]] = found[2]
    heard = Heard(
        id=new_id(call.now),
        source=event.source,
        event=event.id,
        type=event.type,
        at=event.time if event.time is not None else call.now,
        received=call.now,
        by=call.who.name,
        text=(data.text or "").strip(),
        reason=data.reason,
        data=said,
        owner=names["owner"],
        device=names["device"],
        touchpoint=names["touchpoint"],
    )
    return Told(heard=heard, said=said)


# --- the three modes ----------------------------------------------------------------------------


async def events_of(request: web.Request) -> list[CloudEventIn]:
    """The events of a request. Raises a Problem."""
    if "ce-specversion" in request.headers:
        return [_checked(CloudEventIn, {**_attributes(request), "data": await _json(request)})]
    match request.content_type:
        case media if media == STRUCTURED:
            return [_checked(CloudEventIn, await _json(request))]
        case media if media == BATCHED:
            batch: list[CloudEventIn] = _checked(CloudEvents, await _json(request)).root
            return batch
    raise Problem(415, f"Send {STRUCTURED}, {BATCHED}, or ce-… headers with the data as {BINARY}.")


def _attributes(request: web.Request) -> dict[str, str]:
    """The attributes of an event in binary mode (HTTP binding, section 3.1.3: percent-encoded)."""
    found = {
        name[3:].lower(): unquote(value)
        for name, value in request.headers.items()
        if name.lower().startswith("ce-")
    }
    return found | {"datacontenttype": request.content_type}


async def _json(request: web.Request) -> Any:
    raw = await request.read()
    if len(raw) > BODY_MOST * 4:
        raise Problem(413, f"The body is larger than {BODY_MOST * 4 // 1024} KiB.")
    try:
        return json.loads(raw) if raw else None
    except (ValueError, RecursionError) as error:
        raise Problem(400, "The body is not JSON.") from error


def _checked(model: type[Any], given: Any) -> Any:
    try:
        return model.model_validate_json(json.dumps(given), strict=True)
    except ValidationError as error:
        raise invalid(faults_of(error, model)) from error
