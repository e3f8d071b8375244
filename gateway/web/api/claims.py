"""Handing a device on, and taking it over by the code that its display shows."""

from __future__ import annotations

from pydantic import Field

from gateway.domain.access import Role
from gateway.domain.accounts import Proof
from gateway.domain.errors import NotAllowedError, NotFoundError
from gateway.flow import claiming
from gateway.flow.claim_words import spaced
from gateway.ports import Records
from gateway.web import rights
from gateway.web.access import STAFF
from gateway.web.api.endpoint import Call, Endpoints
from gateway.web.api.shapes import DeviceOut, In, Line, Moment, Out

endpoints = Endpoints("Claims")


class CodeOut(Out):
    """What the device's display shows for whoever takes it over."""

    device: str
    code: str
    expires: Moment


class ClaimIn(In):
    """The code as it was read off the display."""

    code: Line
    workshop: str | None = Field(
        None,
        max_length=64,
        description="Else that of the owner's other device of the kind, or the one it has.",
    )
    plate: str | None = Field(None, max_length=16)


def shape(proof: Proof) -> CodeOut:
    """A code that stands."""
    return CodeOut(device=proof.about, code=spaced(str(proof.data["code"])), expires=proof.expires)


def _mine(records: Records, call: Call, device_id: str) -> None:
    if call.who.staff:
        records.devices.get(device_id)
    else:
        rights.own_device(records, call.who, device_id)


@endpoints.get("/devices/{device_id}/handover", Role.OWNER, *STAFF)
async def get_handover(call: Call, device_id: str) -> CodeOut:
    """Show the code by which the device can be taken over; 404 while there is none."""

    def work(records: Records) -> CodeOut:
        _mine(records, call, device_id)
        standing = claiming.waiting(records, device_id, call.now)
        if standing is None:
            raise NotFoundError(f"{device_id} is not being handed on.")
        return shape(standing)

    return await call.read(work)


@endpoints.post("/devices/{device_id}/handover", Role.OWNER, *STAFF)
async def hand_over(call: Call, device_id: str) -> CodeOut:
    """Have the device's display show a code; whoever types it owns the device from then on.

    A new code takes the place of the one before. Until it is typed nothing changes. It holds for 30 days.
    """

    def work(records: Records) -> CodeOut:
        _mine(records, call, device_id)
        return shape(claiming.offer(records, device_id, call.now, by=call.who.name))

    return await call.write(work)


@endpoints.delete("/devices/{device_id}/handover", Role.OWNER, *STAFF)
async def keep_device(call: Call, device_id: str) -> None:
    """Call the code back; the device stays whose it is. Without one nothing happens."""

    def work(records: Records) -> None:
        _mine(records, call, device_id)
        claiming.call_back(records, device_id, call.now, by=call.who.name)

    await call.write(work)


@endpoints.post("/owners/{owner_id}/claims", Role.OWNER, *STAFF)
async def claim_device(call: Call, owner_id: str, body: ClaimIn) -> DeviceOut:
    """Take a device over by the code that its display shows.

    The owner's consents, quiet hours and channels hold for it at once. Ten codes an hour can be tried.
    """
    await call.read(lambda records: rights.owner(records, call.who, owner_id))
    if not await call.write(lambda records: claiming.count_try(records, owner_id, call.now)):
        raise NotAllowedError("Too many codes were tried; it works again in an hour.")

    def work(records: Records) -> DeviceOut:
        policy = call.context.policy
        taken = claiming.claim(
            records, body.code, owner_id, call.now, policy, workshop=body.workshop, plate=body.plate
        )
        return DeviceOut.of_device(taken)

    claimed = await call.write(work)
    await call.announce()
    return claimed
