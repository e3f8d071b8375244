"""An owner says that something is wrong: a matter opens at once, with what the product sent around then."""

import io
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from garage import BRAKES, CAR, HOUR, MINUTE, NORD, SUNDAY_NIGHT, World, open_world
from PIL import Image

from gateway.domain.errors import ConflictError, InvalidError, NotFoundError
from gateway.domain.policy import OWNER_REPORT
from gateway.domain.report import Report
from gateway.domain.touchpoint import State, Touchpoint
from gateway.flow import reports
from gateway.ports import Records

GPS = 0x8825


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """In the middle of the night."""
    async with open_world(tmp_path, SUNDAY_NIGHT) as opened:
        opened.policy = replace(opened.policy, rules={**opened.policy.rules, OWNER_REPORT.id: OWNER_REPORT})
        await opened.subscribes()
        yield opened


async def tells(
    world: World, text: str = "It squeals when I brake.", **more: object
) -> tuple[Report, Touchpoint]:
    plain: dict[str, object] = {"device": "car", "by": "jana", "picture": None, "readings": {}}
    said = plain | {"text": text} | more
    return await world.write(reports.report, **said, now=world.now, policy=world.policy)


async def test_a_matter_opens_at_once_with_times_whatever_the_hour_and_the_budget(world: World) -> None:
    await world.wishes(weekly_budget=0)
    report, touchpoint = await tells(world)
    assert touchpoint.state is State.OPEN
    assert (touchpoint.rule, touchpoint.kind, touchpoint.purpose) == ("owner-report", "appointment", "report")
    assert {slot.workshop for slot in touchpoint.slots} == {"nord"}
    assert report.touchpoint == touchpoint.id
    assert await world.queued("web_push") == [], "the owner is looking at it"
    assert await world.read(lambda r: r.contacts.times("jana", ("service",), 0)) == []


async def test_what_the_product_sent_around_that_moment_goes_with_it(world: World) -> None:
    await world.found()
    await world.drives()
    readings = {"speed": [(world.now - MINUTE, 48.0)], "nothing": []}
    report, touchpoint = await tells(world, readings=readings)
    assert report.around["readings"] == {"speed": [[world.now - MINUTE, 48.0]]}
    assert report.around["codes"] == ["C0040", "P0562"]
    assert report.around["latest"]["odometer"] == [world.now, 48_210]
    assert touchpoint.evidence["odometer"] == 48_210
    assert touchpoint.evidence["text"] == "It squeals when I brake."


async def test_values_from_long_ago_are_no_evidence_and_a_former_owners_are_nobodys(world: World) -> None:
    await world.drives()
    world.go_to(world.now + 2 * HOUR)
    _, touchpoint = await tells(world)
    assert "odometer" not in touchpoint.evidence
    await world.write(lambda records: records.devices.transfer("car", None, world.now))
    await world.write(lambda records: records.devices.transfer("car", "jana", world.now))
    report, _ = await tells(world)
    assert report.around["latest"] == {}


async def test_the_ledger_has_the_owners_own_words(world: World) -> None:
    await tells(world)
    assert await world.story() == [
        "You told us at 23:08 that something is wrong: “It squeals when I brake.”."
    ]
    report, touchpoint = await tells(world, picture=reports.photo(picture()))
    assert (await world.codes())[-1] == "reported_photo"
    assert touchpoint.evidence["photo"] == report.photo


async def test_the_booking_carries_the_words_and_the_photo(world: World) -> None:
    report, touchpoint = await tells(world, picture=reports.photo(picture()))
    booked = await world.answers(f"book:{touchpoint.slots[0].id}")
    assert booked.state is State.BOOKED
    (visit,) = await world.read(lambda r: r.workshops.appointments())
    assert visit.diagnosis["evidence"]["text"] == report.text
    assert visit.diagnosis["evidence"]["photo"] == report.photo
    assert visit.diagnosis["report"]["around"] == report.around


async def test_the_service_is_diagnosis_where_it_is_offered(world: World) -> None:
    assert (await tells(world))[1].service == "brakes-front", "the first one that is done there"
    looking = replace(BRAKES, id="diagnosis", names={"en": "Diagnosis"})
    await world.write(lambda r: r.workshops.put(replace(NORD, services=(BRAKES, looking))))
    assert (await tells(world))[1].service == "diagnosis"
    await world.write(lambda r: r.devices.update(replace(CAR, workshop=None)))
    service, slots = (await tells(world))[1].service, (await tells(world))[1].slots
    assert (service, slots) == ("diagnosis", ())


@pytest.mark.parametrize("text", ["", "   ", "x" * 2_001])
async def test_nothing_and_too_much_is_refused(world: World, text: str) -> None:
    with pytest.raises(InvalidError):
        await tells(world, text)
    with pytest.raises(NotFoundError):
        await tells(world, device="nowhere")
    assert await world.touchpoints() == []


async def test_twenty_a_day_are_enough(world: World) -> None:
    for _ in range(reports.A_DAY_MOST):
        await tells(world)
    with pytest.raises(ConflictError):
        await tells(world)
    world.go_to(world.now + 24 * HOUR)
    await tells(world)


# --- photos -----------------------------------------------------------------------------------------


def picture(kind: str = "JPEG", size: tuple[int, int] = (60, 40), mode: str = "RGB") -> bytes:
    """A photo as a phone makes it: with a position, a camera, and a turn."""
    exif = Image.Exif()
    exif[0x010F] = "Camera of mine"
    exif[0x0112] = 6  # turned by 90°
    exif.get_ifd(GPS)[1] = "N"
    exif.get_ifd(GPS)[2] = (53.0, 33.0, 0.0)
    out = io.BytesIO()
    Image.new(mode, size, "red").save(out, kind, exif=exif, comment=b"at home")
    return out.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_photo_loses_everything_but_the_picture(kind: str) -> None:
    before = picture(kind)
    assert b"Camera of mine" in before, "there is something to lose"
    kept = reports.photo(before)
    assert b"Camera" not in kept
    with Image.open(io.BytesIO(kept)) as seen:
        assert not seen.getexif()
        assert "comment" not in seen.info
        assert seen.format == "JPEG"
        assert seen.size == (40, 60), "upright"


def test_a_large_photo_is_made_smaller_and_a_clear_one_white_behind() -> None:
    with Image.open(io.BytesIO(reports.photo(picture(size=(5_000, 100))))) as seen:
        assert max(seen.size) == reports.SIDE_MOST
    out = io.BytesIO()
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(out, "PNG")
    with Image.open(io.BytesIO(reports.photo(out.getvalue()))) as seen:
        assert seen.getpixel((4, 4)) == (255, 255, 255)


def huge() -> bytes:
    out = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(out, "PNG")
    return out.getvalue()


def gif() -> bytes:
    out = io.BytesIO()
    Image.new("P", (4, 4)).save(out, "GIF")
    return out.getvalue()


@pytest.mark.parametrize(
    "body",
    [b"", b"<svg/>", gif(), picture()[:200], b"\xff" * (reports.PHOTO_MOST + 1), huge()],
    ids=["empty", "svg", "gif", "cut", "large", "bomb"],
)
def test_what_is_no_photo_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidError, match="photo"):
        reports.photo(body)


async def test_an_attachment_comes_back_as_it_was_kept(world: World) -> None:
    kept = reports.photo(picture())
    report, _ = await tells(world, picture=kept)

    def found(records: Records) -> tuple[bytes, str]:
        attachment = records.attachments.get(report.photo or "")
        return attachment.body, attachment.media_type

    assert await world.read(found) == (kept, "image/jpeg")
    with pytest.raises(NotFoundError):
        await world.read(lambda r: r.attachments.get("nothing"))
