"""Recalls: campaigns of the manufacturer, and how far they have come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from gateway.domain.ids import new_id
from gateway.domain.recall import Affected, Recall
from gateway.flow import recalls
from gateway.ports import Records
from gateway.web.access import STAFF
from gateway.web.api.endpoint import Call, Endpoints, ListQuery, Page, bad_cursor, fault_at, page
from gateway.web.api.shapes import In, Moment, Out, Word

MOST_DEVICES = 5_000
Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Serial = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]

endpoints = Endpoints("Recalls")


class AffectedIn(In):
    """Registered products of the campaign's kind; every condition that is given has to hold."""

    models: list[Serial] = Field(default_factory=list, max_length=500)
    firmware: list[Serial] = Field(default_factory=list, max_length=500)
    serial_from: Serial | None = Field(None, description="First serial number; compared as text.")
    serial_to: Serial | None = Field(None, description="Last serial number, included.")

    @model_validator(mode="after")
    def _says_something(self) -> AffectedIn:
        if not (self.models or self.firmware or self.serial_from or self.serial_to):
            raise ValueError("name models, firmware or serial numbers; {} would be every product there is.")
        return self


class RecallIn(In):
    """A campaign."""

    id: Name | None = Field(None, description="Yours, or one is made.")
    kind: Word = Field(description="Device kind, such as car.")
    title: Mapping[Literal["en", "de"], Sentence] = Field(
        min_length=1, description="What owners read first, by language: one sentence without a full stop."
    )
    body: Mapping[Literal["en", "de"], Text] = Field(
        default_factory=dict, description="What is wrong, and what to do until it is mended, by language."
    )
    reference: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(
        None, description="The authority's or your own number."
    )
    service: Word | None = Field(
        None, description="The service that mends it; workshops that offer it propose times. None: told only."
    )
    severity: Literal["warning", "critical"] = Field(
        "warning", description="critical: dangerous now, or in use."
    )
    devices: list[Name] = Field(
        default_factory=list, max_length=MOST_DEVICES, description="The products themselves, or a query."
    )
    query: AffectedIn | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> RecallIn:
        if bool(self.devices) == (self.query is not None):
            raise ValueError("give either devices or query: exactly one says whom it concerns.")
        return self


class ProgressOut(Out):
    """How far it has come, in products."""

    devices: int = Field(description="All that it concerns.")
    waiting: int = Field(description="Not raised yet; that takes seconds.")
    nobody: int = Field(description="Registered to nobody: told as soon as they are.")
    deferred: int = Field(description="Told at the right moment.")
    open: int = Field(description="Told, not answered.")
    answered: int = Field(description="Put off, or a call asked for.")
    booked: int
    done: int


class RecallOut(Out):
    """A campaign with its progress."""

    id: str
    kind: str
    title: Mapping[str, str]
    body: Mapping[str, str]
    reference: str | None
    service: str | None
    severity: str
    created: Moment
    by: str
    progress: ProgressOut


def shown(records: Records, recall: Recall) -> RecallOut:
    """The campaign as it stands."""
    progress = ProgressOut(**asdict(records.recalls.progress(recall.id)))
    return RecallOut(**asdict(recall), progress=progress)


@endpoints.post("/recalls", *STAFF)
async def begin_recall(call: Call, body: RecallIn) -> RecallOut:
    """Begin a recall.

    Every product concerned is told to its owner, whatever they agreed to: a legal duty. They choose only the
    channel; quiet hours and driving are respected unless it is critical.
    """
    if body.kind not in call.context.signals.kinds:
        raise fault_at("kind", f"kind: {body.kind} is not known.")
    asked = body.query or None
    affected = Affected(
        devices=tuple(body.devices),
        models=tuple(asked.models) if asked else (),
        firmware=tuple(asked.firmware) if asked else (),
        serial_from=asked.serial_from if asked else None,
        serial_to=asked.serial_to if asked else None,
    )
    campaign = Recall(
        id=body.id or new_id(call.now),
        kind=body.kind,
        title={str(language): text for language, text in body.title.items()},
        body={str(language): text for language, text in body.body.items()},
        reference=body.reference,
        service=body.service,
        severity=body.severity,
        created=call.now,
        by=call.who.name,
    )

    def work(records: Records) -> RecallOut:
        recalls.begin(records, campaign, affected, call.now, call.context.policy)
        return shown(records, campaign)

    return await call.write(work)


@endpoints.get("/recalls", *STAFF)
async def list_recalls(call: Call, query: ListQuery) -> Page[RecallOut]:
    """List recalls with their progress, newest first."""

    def work(records: Records) -> list[RecallOut]:
        after = query.after()
        if after is not None and not any(r.id == after for r in records.recalls.page(limit=5_000)):
            raise bad_cursor()
        return [shown(records, r) for r in records.recalls.page(after=after, limit=query.limit + 1)]

    return page(await call.read(work), query.limit, lambda recall: recall, lambda recall: recall.id)


@endpoints.get("/recalls/{recall_id}", *STAFF)
async def get_recall(call: Call, recall_id: str) -> RecallOut:
    """Show a recall with its progress."""
    return await call.read(lambda records: shown(records, records.recalls.get(recall_id)))
