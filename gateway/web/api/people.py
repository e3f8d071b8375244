"""People: who shares a device with its owner, who is asked, and who may answer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gateway.domain.access import Role
from gateway.domain.device import Device
from gateway.domain.errors import NotFoundError
from gateway.domain.household import Invitation, Look, Part, Person
from gateway.flow import people
from gateway.ports import Records
from gateway.web import rights
from gateway.web.access import STAFF
from gateway.web.api.endpoint import Call, Endpoints, ListQuery, Page, page
from gateway.web.api.shapes import Id, In, Line, Moment, Out

endpoints = Endpoints("People")


class PersonIn(In):
    """What somebody is to a device, and may."""

    role: Literal["driver", "member"] = "member"
    asked: bool = Field(False, description="Its matters are addressed to them; one person of a device.")
    may_answer: bool = Field(False, description="May answer what another one was asked; so may who is asked.")
    sees: bool = Field(True, description="Sees the device, its readings and its ledger from now on.")


class PersonOut(Out):
    """Somebody who belongs to a device."""

    device: str
    owner: str = Field(description="Owner id of the person.")
    name: str
    role: Part
    asked: bool
    may_answer: bool
    sees: bool
    since: Moment


class InvitationIn(In):
    """Whom to invite, and to what."""

    name: Line = Field(description="Whom the invitation is for, as its owner calls them.")
    role: Literal["driver", "member"] = "member"
    asked: bool = False
    may_answer: bool = False


class InvitationOut(Out):
    """An invitation to share a device."""

    id: str
    device: str
    name: str
    role: Part
    asked: bool
    may_answer: bool
    created: Moment
    expires: Moment
    url: str | None = Field(None, description="The link to hand on; shown once, when it is made.")


class LookOut(Out):
    """Somebody looked at, or received, something of an owner's; one a day and thing."""

    by: str
    role: str
    what: str = Field(description="kind:id, such as product:car-1; `received:` before what was sent.")
    why: str
    at: Moment


def shape(records: Records, person: Person) -> PersonOut:
    """A person with their name."""
    name = records.owners.get(person.owner).name
    return PersonOut.model_validate(
        {field: getattr(person, field) for field in PersonOut.model_fields if field != "name"}
        | {"name": name}
    )


def managed(records: Records, call: Call, device_id: str) -> Device:
    """A device whose people the caller decides about: its owner, or after-sales."""
    device = rights.device(records, call.who, device_id)
    if not call.who.staff and device.owner != call.who.subject:
        raise NotFoundError(f"There is no device {device_id}.")
    return device


@endpoints.get("/devices/{device_id}/people", Role.OWNER, *STAFF)
async def list_people(call: Call, device_id: str, query: ListQuery) -> Page[PersonOut]:
    """List who belongs to a device now, its owner first; exactly one of them is asked."""

    def work(records: Records) -> list[PersonOut]:
        rights.device(records, call.who, device_id)
        return [shape(records, person) for person in records.devices.people(device_id)]

    rows = await call.read(work)
    after = query.after()
    place = next((n + 1 for n, row in enumerate(rows) if row.owner == after), 0)
    return page(rows[place:], query.limit, lambda row: row, lambda row: row.owner)


@endpoints.put("/devices/{device_id}/people/{person_id}", Role.OWNER, *STAFF)
async def put_person(call: Call, device_id: str, person_id: Id, body: PersonIn) -> PersonOut:
    """Say what somebody is to a device.

    After-sales add anybody who is registered; an owner invites by a link and changes who has come. With
    `asked` the device's matters are addressed to them from now on: by their consents, quiet hours and weekly
    limit. What nobody answered yet goes to them too and is decided again.
    """

    def work(records: Records) -> PersonOut:
        managed(records, call, device_id)
        person = Person(
            device=device_id,
            owner=person_id,
            role=Part(body.role),
            asked=body.asked,
            may_answer=body.may_answer,
            sees=body.sees or body.asked or body.may_answer,
            since=call.now,
            by=call.who.name,
        )
        if people.part(records, device_id, person_id) is not None:
            people.change(records, person, call.now)
        elif call.who.staff:
            people.join(records, person, call.now)
        else:
            raise NotFoundError(f"{person_id} does not share {device_id}; invite them by a link.")
        found = people.part(records, device_id, person_id)
        assert found is not None
        return shape(records, found)

    return await call.write(work)


@endpoints.delete("/devices/{device_id}/people/{person_id}", Role.OWNER, *STAFF)
async def remove_person(call: Call, device_id: str, person_id: Id) -> None:
    """Let somebody share a device no more: they see and answer nothing of it from the answer on.

    Everybody may leave by themselves. The owner leaves by a transfer.
    """

    def work(records: Records) -> None:
        if person_id != call.who.subject:
            managed(records, call, device_id)
        people.leave(records, device_id, person_id, call.now, by=call.who.name)

    await call.write(work)


# --- invitations --------------------------------------------------------------------------------


@endpoints.get("/devices/{device_id}/invitations", Role.OWNER, *STAFF)
async def list_invitations(call: Call, device_id: str, query: ListQuery) -> Page[InvitationOut]:
    """List the invitations that can still be taken up."""

    def work(records: Records) -> list[Invitation]:
        managed(records, call, device_id)
        return [one for one in records.people.invitations(device_id) if one.open(call.now)]

    rows = await call.read(work)
    after = query.after()
    place = next((n + 1 for n, row in enumerate(rows) if row.id == after), 0)
    return page(rows[place:], query.limit, InvitationOut.of, lambda row: row.id)


@endpoints.post("/devices/{device_id}/invitations", Role.OWNER, *STAFF)
async def invite(call: Call, device_id: str, body: InvitationIn) -> InvitationOut:
    """Invite somebody to share a device: `url` is a link that works once, within 14 days.

    The secret in it is shown only here. Who takes it up sees the device from then on.
    """

    def work(records: Records) -> InvitationOut:
        managed(records, call, device_id)
        invitation, secret = people.invite(
            records,
            device_id,
            by=call.who.name,
            name=body.name,
            role=Part(body.role),
            asked=body.asked,
            may_answer=body.may_answer,
            now=call.now,
        )
        url = f"{call.context.public_url.rstrip('/')}/join/{secret}"
        return InvitationOut.of(invitation).model_copy(update={"url": url})

    return await call.write(work)


@endpoints.delete("/devices/{device_id}/invitations/{invitation_id}", Role.OWNER, *STAFF)
async def call_back(call: Call, device_id: str, invitation_id: Id) -> None:
    """Call an invitation back: its link works no more."""

    def work(records: Records) -> None:
        managed(records, call, device_id)
        people.call_back(records, device_id, invitation_id, call.now)

    await call.write(work)


# --- who looked ---------------------------------------------------------------------------------


@endpoints.get("/owners/{owner_id}/looks", Role.OWNER, *STAFF)
async def list_looks(call: Call, owner_id: str, query: ListQuery) -> Page[LookOut]:
    """List who looked at or received an owner's data, newest first, on one page.

    The same stands in the ledger, in words. It is written before what was looked at is answered.
    """

    def work(records: Records) -> list[Look]:
        rights.owner(records, call.who, owner_id)
        found = records.people.looks(owner_id, limit=query.limit)
        return [look for look in found if not look.what.startswith("reason:")]

    return page(await call.read(work), query.limit, LookOut.of, lambda look: look.at)
