"""Which objects somebody may see, decided at one place for pages and API.

Every function takes the records and who is asking, and gives the object or raises NotFoundError:
what is somebody else's is not there, so that ids cannot be probed. After-sales (operator and
integration) see everything; owners their own and what they share, products for the time they owned or
shared them; workshops their own appointments. What somebody else is shown of an owner's is noted with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gateway.domain.access import Role
from gateway.domain.accounts import Account, Rank
from gateway.domain.appointment import ENDED, Appointment, Workshop
from gateway.domain.case import Case, CaseKind
from gateway.domain.device import Device, Facts
from gateway.domain.errors import NotAllowedError, NotFoundError
from gateway.domain.feedback import Feedback
from gateway.domain.owner import Owner
from gateway.domain.report import Attachment
from gateway.domain.touchpoint import Touchpoint
from gateway.flow import consents, people
from gateway.ports import Records
from gateway.web.access import Identity

Interval = tuple[int | None, int | None]
"""(since, until) in ms, half open; None has no end on that side."""


def owner(records: Records, who: Identity, owner_id: str) -> Owner:
    """An owner: themselves, or after-sales."""
    if not who.staff and not (who.role is Role.OWNER and who.subject == owner_id):
        raise NotFoundError(f"There is no owner {owner_id}.")
    found = records.owners.get(owner_id)
    who.saw(owner_id, f"owner:{owner_id}", "check_owner")
    return found


def device(records: Records, who: Identity, device_id: str) -> Device:
    """A registered device: its present owner, who shares it and sees it, or after-sales."""
    found = records.devices.get(device_id)
    theirs = who.role is Role.OWNER and (
        found.owner == who.subject or people.sees(records, device_id, who.subject)
    )
    if not who.staff and not theirs:
        raise NotFoundError(f"There is no device {device_id}.")
    who.saw(found.owner, f"product:{device_id}", "check_product", device=device_id)
    return found


def own_device(records: Records, who: Identity, device_id: str) -> Device:
    """A product of the owner's own: of one they share they decide nothing."""
    found = device(records, who, device_id)
    if found.owner != who.subject:
        raise NotFoundError(f"There is no device {device_id}.")
    return found


def facts(records: Records, who: Identity, device_id: str) -> Facts:
    """What is known of a device now; an owner reads nothing from before they owned it."""
    known = records.devices.facts(device_id)
    if who.staff:
        return known
    return cut(known, intervals(records, who, device_id))


def cut(known: Facts, spans: Sequence[Interval]) -> Facts:
    """Facts without the values from outside of these times."""
    latest = {name: (ts, value) for name, (ts, value) in known.latest.items() if within(spans, ts)}
    return replace(known, latest=latest)


def intervals(
    records: Records, who: Identity, device_id: str, start: int | None = None, end: int | None = None
) -> list[Interval]:
    """The times whose readings somebody may see, in order; NotFoundError when there is none.

    A former owner keeps the readings of their own time, and only those; who shares a device reads from
    when they joined. Whose readings of `start` … `end` after-sales is shown is told to them.
    """
    if who.staff:
        for owned_by in records.devices.ownerships(device_id):
            apart = end is not None and end <= owned_by.since
            over = start is not None and owned_by.until is not None and owned_by.until <= start
            if not apart and not over:
                who.saw(owned_by.owner, f"readings:{device_id}", "check_product", device=device_id)
        return [(None, None)]
    spans = owned(records, who.subject, device_id) if who.role is Role.OWNER else []
    if not spans:
        raise NotFoundError(f"There is no device {device_id}.")
    return spans


def owned(records: Records, owner_id: str | None, device_id: str) -> list[Interval]:
    """The times in which a device was somebody's, or is shared with them, in order."""
    theirs: list[Interval] = [
        (o.since, o.until) for o in records.devices.ownerships(device_id) if o.owner == owner_id
    ]
    shares = [(p.since, p.until) for p in records.people.of(device_id) if p.owner == owner_id and p.sees]
    return sorted([*theirs, *shares], key=lambda span: span[0] or 0)


def within(spans: Sequence[Interval], ts: int) -> bool:
    """Whether `ts` lies in one of the intervals."""
    return any((since is None or since <= ts) and (until is None or ts < until) for since, until in spans)


def touchpoint(records: Records, who: Identity, touchpoint_id: str) -> Touchpoint:
    """A touchpoint: who was asked, who shares its device, or after-sales."""
    found = records.touchpoints.get(touchpoint_id)
    theirs = who.role is Role.OWNER and shown_to(
        records, who.subject, found.owner, found.device, found.created
    )
    if not who.staff and not theirs:
        raise NotFoundError(f"There is no touchpoint {touchpoint_id}.")
    who.saw(found.owner, f"matter:{touchpoint_id}", "check_matter", device=found.device)
    return found


def reportable(records: Records, who: Identity, device_id: str) -> Device:
    """A device of which somebody may say that something is wrong: who may answer for it, or after-sales for
    its owner. Raises NotAllowedError."""
    found = device(records, who, device_id)
    if found.owner is None:
        raise NotFoundError(f"There is no owner of {device_id}.")
    others = who.role is Role.OWNER and found.owner != who.subject
    if others and not people.may_answer(records, device_id, who.subject or ""):
        raise NotAllowedError("You may see this product, but somebody else of your household answers for it.")
    return found


def attachment(records: Records, who: Identity, attachment_id: str) -> Attachment:
    """A picture: whose matter it belongs to and who shares their product, the workshop that the visit is
    with, or after-sales."""
    found = records.attachments.get(attachment_id)
    if not who.staff and not _may_look(records, who, found):
        raise NotFoundError(f"There is no attachment {attachment_id}.")
    if who.subject != found.owner:
        who.saw(found.owner, f"photo:{attachment_id}", "check_matter", device=found.device)
    return found


def _may_look(records: Records, who: Identity, found: Attachment) -> bool:
    if who.role is Role.OWNER:
        return shown_to(records, who.subject, found.owner or "", found.device, found.created)
    if who.role is not Role.WORKSHOP or found.device is None:
        return False
    report = records.reports.with_photo(found.id)
    visits = records.workshops.appointments(workshop=who.subject, device=found.device)
    return any(
        (report is None or visit.touchpoint == report.touchpoint)
        and visit.owner == found.owner
        and visit.state not in ENDED
        and consents.may_share(records, visit)
        for visit in visits
    )


def answerable(records: Records, who: Identity, touchpoint_id: str) -> Touchpoint:
    """A touchpoint that somebody may answer, which not everybody who sees it may. Raises NotAllowedError."""
    found = touchpoint(records, who, touchpoint_id)
    others = who.role is Role.OWNER and found.owner != who.subject
    if others and not people.may_answer(records, found.device, who.subject or ""):
        raise NotAllowedError("You may see this matter, but somebody else of your household answers it.")
    return found


def shown_to(records: Records, subject: str | None, owner: str | None, device: str | None, at: int) -> bool:
    """Whether something of `owner` on a device, that came at `at`, is shown to somebody: their own, unless it
    came while they shared a device that they have left; and what concerns a product that they share."""
    if device is None or subject is None:
        return subject is not None and owner == subject
    if within(owned(records, subject, device), at):
        return True
    return owner == subject and not any(
        p.owner == subject and p.since <= at for p in records.people.history(device)
    )


def appointment(records: Records, who: Identity, appointment_id: str) -> Appointment:
    """An appointment: its owner, who shares the product, its workshop, or after-sales. Without the diagnosis
    for a workshop that may not be handed it any more."""
    found = records.workshops.appointment(appointment_id)
    if who.role is Role.OWNER:
        theirs = shown_to(records, who.subject, found.owner, found.device, found.created)
    else:
        theirs = who.role is Role.WORKSHOP and found.workshop == who.subject
    if not who.staff and not theirs:
        raise NotFoundError(f"There is no appointment {appointment_id}.")
    return handed_over(records, who, found)


def changeable(records: Records, who: Identity, appointment_id: str) -> Appointment:
    """An appointment that somebody may change, or agree to more work on: of the owners who see it, who made
    it and who may answer for its product. Raises NotAllowedError."""
    found = appointment(records, who, appointment_id)
    others = who.role is Role.OWNER and found.owner != who.subject
    if others and not people.may_answer(records, found.device or "", who.subject or ""):
        raise NotAllowedError("You may see this visit, but somebody else of your household decides on it.")
    return found


def handed_over(records: Records, who: Identity, found: Appointment) -> Appointment:
    """An appointment as it is handed to somebody, told to its owner."""
    if who.role is Role.WORKSHOP:
        found = consents.handed(records, found)
    thing = "diagnosis" if found.diagnosis.keys() - set(consents.STAYS) else "visit"
    why = "prepare_visit" if who.role is Role.WORKSHOP else "check_visit"
    who.saw(found.owner, f"{thing}:{found.id}", why, device=found.device, start=found.start)
    return found


def workshop(records: Records, who: Identity, workshop_id: str) -> Workshop:
    """A workshop: owners may look at any (they choose), a workshop at itself."""
    if who.role is Role.WORKSHOP and who.subject != workshop_id:
        raise NotFoundError(f"There is no workshop {workshop_id}.")
    return records.workshops.get(workshop_id)


def feedback(records: Records, who: Identity, feedback_id: str) -> Feedback:
    """A question afterwards: the owner who was asked, or after-sales."""
    found = records.feedback.get(feedback_id)
    if not who.staff and not (who.role is Role.OWNER and found.owner == who.subject):
        raise NotFoundError(f"There is no feedback {feedback_id}.")
    who.saw(found.owner, f"feedback:{feedback_id}", "check_feedback")
    return found


def case(records: Records, who: Identity, case_id: str) -> Case:
    """A case: of a complaint the workshop whose job it is about, or after-sales."""
    found = records.cases.get(case_id)
    complaint = found.kind is CaseKind.COMPLAINT and found.workshop is not None
    theirs = who.role is Role.WORKSHOP and complaint and found.workshop == who.subject
    if not who.staff and not theirs:
        raise NotFoundError(f"There is no case {case_id}.")
    what = f"matter:{found.touchpoint}" if found.touchpoint else f"owner:{found.owner}"
    why = "check_matter" if found.touchpoint else "check_owner"
    who.saw(found.owner, what, why, device=found.device)
    return handed_case(records, who, found)


def handed_case(records: Records, who: Identity, found: Case) -> Case:
    """A case as it is handed to somebody: a workshop gets no measurements that it may not be handed."""
    if who.role is not Role.WORKSHOP or found.appointment is None:
        return found
    if consents.may_share(records, records.workshops.appointment(found.appointment)):
        return found
    bare = {
        name: {k: v for k, v in part.items() if k != "evidence"} if isinstance(part, Mapping) else part
        for name, part in found.data.items()
    }
    return replace(found, data=bare)


def only(who: Identity, role: Role, wanted: str | None) -> str | None:
    """The subject to filter a list by: their own for `role`, else what was `wanted`.

    Raises NotFoundError when somebody of `role` asks for another's.
    """
    if who.role is not role:
        return wanted
    if wanted is not None and wanted != who.subject:
        raise NotFoundError(f"There is no {role} {wanted}.")
    return who.subject


def account(records: Records, who: Identity, account_id: str) -> Account:
    """The account of somebody at work: of the same workshop for who runs it, any for after-sales."""
    found = next((one for one in accounts(records, who) if one.id == account_id), None)
    if found is None:
        raise NotFoundError(f"There is no account {account_id}.")
    return found


def accounts(records: Records, who: Identity) -> list[Account]:
    """The people at work whom somebody may invite and end, none of whom is an owner."""
    if who.role not in (Role.WORKSHOP, Role.OPERATOR) or who.rank is not Rank.RUNS:
        return []
    mine = who.role is Role.WORKSHOP
    found = records.accounts.page(Role.WORKSHOP, who.subject) if mine else records.accounts.page()
    return [one for one in found if one.ended is None]
