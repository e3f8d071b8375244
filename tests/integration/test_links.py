"""Links in mails: GET renders and changes nothing, POST commits, once; nobody signs in."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientResponse, MultipartWriter
from garage import TEXTS
from web_lab import DAY, NOW, Lab, web_lab

from gateway.domain.feedback import Feedback
from gateway.domain.links import Purpose
from gateway.domain.touchpoint import State, Touchpoint
from gateway.flow import links, reports, visit
from gateway.ports import Records

HOUR = 3_600_000


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with web_lab(tmp_path, texts=TEXTS) as opened:
        await opened.workshop()
        await opened.owner("jana", "car-1", workshop="north")
        yield opened


async def mailed(
    lab: Lab, about: str, purpose: Purpose = Purpose.ANSWER, *, lasts: int = DAY, owner: str = "jana"
) -> str:
    """The address in a mail."""

    def work(records: Records) -> str:
        secret = links.mint(
            records, owner=owner, purpose=purpose, about=about, now=NOW, expires_at=NOW + lasts
        )
        return f"/{'u' if purpose is Purpose.UNSUBSCRIBE else 'a'}/{secret}"

    return await lab.write(work)


async def state(lab: Lab, touchpoint: Touchpoint) -> Touchpoint:
    return await lab.read(lambda r: r.touchpoints.get(touchpoint.id))


async def taps(lab: Lab, url: str, **form: str) -> tuple[ClientResponse, str]:
    """What a person does on the page, without any cookie."""
    lab.client.session.cookie_jar.clear()
    answer = await lab.client.post(url, data=form)
    return answer, await answer.text()


async def test_looking_changes_nothing_however_often(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    url = await mailed(lab, touchpoint.id)
    before = await state(lab, touchpoint)
    for action in (
        "",
        "?action=not_now",
        f"?action=book:{before.slots[0].id}",
        "?action=explode",
        "?lang=de",
    ):
        answer = await lab.client.get(url + action)
        assert answer.status == 200
        assert "Set-Cookie" not in answer.headers or "session" not in answer.headers["Set-Cookie"]
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
    assert await state(lab, touchpoint) == before
    assert await lab.read(lambda r: links.peek(r, url[3:], NOW).used_at) is None


async def test_it_shows_this_matter_and_opens_nothing_else(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    url = await mailed(lab, touchpoint.id)
    text = await (await lab.client.get(url)).text()
    assert "Autohaus Nord" in text
    assert all(f'action="{url}"' in form for form in re.findall(r"<form[^>]*>", text))
    for elsewhere in ("/me", f"/me/touchpoints/{touchpoint.id}", "/api/v1/touchpoints"):
        answer = await lab.client.get(elsewhere, allow_redirects=False)
        assert answer.status in (302, 303, 401)


async def test_what_was_tapped_in_the_mail_is_confirmed_with_one_tap(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    url = await mailed(lab, touchpoint.id)
    slot = (await state(lab, touchpoint)).slots[1].id
    page = await (await lab.client.get(f"{url}?action=book:{slot}")).text()
    assert f'name="action" value="book:{slot}"' in page
    answer, text = await taps(lab, url, action=f"book:{slot}")
    assert answer.status == 200
    booked = await state(lab, touchpoint)
    assert booked.state is State.BOOKED
    assert booked.answer is not None
    assert (booked.answer.channel, booked.answer.by) == ("email", "jana")
    assert "Autohaus Nord" in text, "it says what holds"


async def test_a_link_is_used_once_and_then_says_what_holds(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    url = await mailed(lab, touchpoint.id)
    await taps(lab, url, action="not_now")
    answer, text = await taps(lab, url, action="already_done")
    assert answer.status == 200
    assert "nicht jetzt" in text
    after = await state(lab, touchpoint)
    assert after.answer is not None
    assert after.answer.action == "not_now"


async def test_who_comes_second_by_another_link_is_told_what_holds_and_keeps_the_link(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    first, second = await mailed(lab, touchpoint.id), await mailed(lab, touchpoint.id)
    await taps(lab, first, action="noted")
    answer, text = await taps(lab, second, action="call_me")
    assert answer.status == 200
    assert "schon" in text or "Kenntnis" in text
    assert await lab.read(lambda r: links.peek(r, second[3:], NOW).used_at) is None


async def test_an_expired_link_shows_nothing_of_the_matter_and_says_what_to_do(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    url = await mailed(lab, touchpoint.id, lasts=HOUR)
    lab.clock.advance(NOW + HOUR)
    for answer in (await lab.client.get(url), await lab.client.post(url, data={"action": "not_now"})):
        text = await answer.text()
        assert answer.status == 410
        assert "Autohaus" not in text
        assert "abgelaufen" in text
    assert (await state(lab, touchpoint)).state is State.OPEN


@pytest.mark.parametrize("path", ["/a/nothing", "/a/" + "x" * 300, "/u/nothing", "/a/%00"])
async def test_an_unknown_link_says_what_to_do(lab: Lab, path: str) -> None:
    assert (await lab.client.get(path)).status == 404
    assert (await lab.client.post(path, data={"action": "not_now"})).status == 404


async def test_a_link_opens_only_what_it_was_made_for(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    answer_url = await mailed(lab, touchpoint.id)
    end_url = await mailed(lab, "maintenance", Purpose.UNSUBSCRIBE)
    swapped = [f"/u/{answer_url[3:]}", f"/a/{answer_url[3:]}/photo"]
    assert [(await lab.client.get(path)).status for path in swapped] == [404, 404]
    assert (await lab.client.post(f"/a/{end_url[3:]}", data={"action": "not_now"})).status == 404
    assert (
        await lab.client.post(f"/u/{answer_url[3:]}", data={"List-Unsubscribe": "One-Click"})
    ).status == 404


async def test_a_form_from_anywhere_counts_for_the_address_is_the_secret(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    url = await mailed(lab, touchpoint.id)
    headers = {"Sec-Fetch-Site": "cross-site", "Origin": "null"}
    answer = await lab.client.post(url, data={"action": "not_now"}, headers=headers)
    assert answer.status == 200
    assert (await state(lab, touchpoint)).state is State.CLOSED


async def test_a_taken_time_gives_the_next_ones_and_keeps_the_link(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    url = await mailed(lab, touchpoint.id)
    slot = (await state(lab, touchpoint)).slots[0]
    await lab.owner("omar", "car-2", workshop="north")
    other = await lab.worn_pads("car-2", "omar")
    await taps(lab, await mailed(lab, other.id, owner="omar"), action=f"book:{slot.id}")
    answer, text = await taps(lab, url, action=f"book:{slot.id}")
    assert answer.status == 200
    assert "gerade vergeben" in text
    after = await state(lab, touchpoint)
    assert after.state is State.OPEN
    assert slot.id not in [s.id for s in after.slots]
    await taps(lab, url, action=f"book:{after.slots[0].id}")
    assert (await state(lab, touchpoint)).state is State.BOOKED


async def test_asking_for_other_times_uses_nothing_up(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    url = await mailed(lab, touchpoint.id)
    shown = (await state(lab, touchpoint)).slots
    await taps(lab, url, action="other_time")
    after = await state(lab, touchpoint)
    assert after.state is State.OPEN
    assert min(s.start for s in after.slots) > max(s.start for s in shown)
    await taps(lab, url, action="snooze", until="2026-12-24")
    assert (await state(lab, touchpoint)).state is State.DEFERRED


async def test_done_with_day_and_place_fits_one_form(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    url = await mailed(lab, touchpoint.id)
    await taps(lab, url, action="already_done", done_on="2026-11-20", workshop="north", place="")
    told = (await state(lab, touchpoint)).answer
    assert told is not None
    assert (told.workshop, told.place) == ("north", None)
    assert told.done_at is not None


async def test_what_cannot_be_chosen_is_told_calmly(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    url = await mailed(lab, touchpoint.id)
    for form in ({}, {"action": "explode"}, {"action": "book"}, {"action": "snooze", "until": "2020-01-01"}):
        answer, text = await taps(lab, url, **form)
        assert answer.status == 200
        assert "ging nicht" in text
    assert (await state(lab, touchpoint)).state is State.OPEN


async def test_a_former_owners_link_opens_nothing_any_more(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    url = await mailed(lab, touchpoint.id)
    await lab.owner("omar")
    await lab.write(lambda r: r.devices.transfer("car-1", "omar", NOW + 1))
    await taps(lab, url, action="call_me")
    assert (await state(lab, touchpoint)).answer is None


# --- questions --------------------------------------------------------------------------------------


async def test_a_question_is_answered_by_its_link(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    asked = Feedback(id="f1", touchpoint=touchpoint.id, owner="jana", question="csat", asked_at=NOW)
    await lab.write(lambda r: r.feedback.ask(asked))
    url = await mailed(lab, "f1", Purpose.QUESTION)
    page = await (await lab.client.get(url)).text()
    assert len(re.findall(r'name="score" value="\d"', page)) == 5
    assert (await lab.read(lambda r: r.feedback.get("f1"))).answered_at is None
    await taps(lab, url, score="9")
    assert (await lab.read(lambda r: r.feedback.get("f1"))).answered_at is None
    _, text = await taps(lab, url, score="4", comment="Schnell.")
    rated = await lab.read(lambda r: r.feedback.get("f1"))
    assert (rated.score, rated.comment) == (4, "Schnell.")
    assert "Danke" in text
    await taps(lab, url, score="1")
    assert (await lab.read(lambda r: r.feedback.get("f1"))).score == 4


# --- extra work -------------------------------------------------------------------------------------


async def asked_for_discs(lab: Lab) -> tuple[str, str]:
    """(id of the question, id of the photo): the workshop has found more."""
    touchpoint = await lab.worn_pads("car-1", "jana")
    await taps(lab, await mailed(lab, touchpoint.id), action=f"book:{touchpoint.slots[0].id}")
    (appointment,) = await lab.read(lambda r: r.workshops.appointments(workshop="north"))

    def work(records: Records) -> tuple[str, str]:
        kept = reports.attach(records, b"a picture", "extra_work", NOW, owner="jana", device="car-1")
        extra = visit.ask_extra(
            records,
            appointment.id,
            "The discs are worn, too.",
            240,
            appointment.start,
            lab.context.policy,
            photo=kept.id,
        )
        return extra.id, kept.id

    return await lab.write(work)


async def test_extra_work_is_approved_by_its_link_with_its_photo(lab: Lab) -> None:
    extra, _ = await asked_for_discs(lab)
    url = await mailed(lab, extra, Purpose.EXTRA_WORK)
    page = await (await lab.client.get(url)).text()
    assert "The discs are worn, too." in page
    assert "240" in page
    photo = await lab.client.get(f"{url}/photo")
    assert (photo.status, await photo.read()) == (200, b"a picture")
    await taps(lab, url, action="explode")
    assert str((await lab.read(lambda r: r.workshops.extra(extra))).state) == "asked"
    _, text = await taps(lab, url, action="approve")
    answered = await lab.read(lambda r: r.workshops.extra(extra))
    assert (str(answered.state), answered.channel, answered.by) == ("approved", "email", "jana")
    assert "Zugestimmt" in text
    await taps(lab, url, action="decline")
    assert str((await lab.read(lambda r: r.workshops.extra(extra))).state) == "approved"


# --- unsubscribing ----------------------------------------------------------------------------------


async def test_one_click_unsubscribe_as_mail_providers_do_it(lab: Lab) -> None:
    touchpoint = await lab.worn_pads("car-1", "jana")
    url = await mailed(lab, "maintenance", Purpose.UNSUBSCRIBE)
    assert (await lab.client.get(url)).status == 200
    assert await lab.read(lambda r: r.owners.granted("jana", "maintenance")), "a scanner ends nothing"
    for _ in range(2):
        answer = await lab.client.post(
            url,
            data="List-Unsubscribe=One-Click",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            allow_redirects=False,
        )
        assert answer.status == 200, "RFC 8058: no redirect"
    assert not await lab.read(lambda r: r.owners.granted("jana", "maintenance"))
    assert (await state(lab, touchpoint)).state is State.WITHDRAWN
    newest = (await lab.read(lambda r: r.owners.consents("jana")))[0]
    assert (newest.granted, newest.source) == (False, "link")


async def test_a_post_without_the_one_click_body_ends_nothing(lab: Lab) -> None:
    url = await mailed(lab, "maintenance", Purpose.UNSUBSCRIBE)
    answer = await lab.client.post(url, data={"something": "else"})
    assert answer.status == 422
    assert await lab.read(lambda r: r.owners.granted("jana", "maintenance"))


async def test_a_multipart_one_click_counts_too(lab: Lab) -> None:
    """RFC 8058 section 3.2 allows both forms of a body."""
    url = await mailed(lab, "maintenance", Purpose.UNSUBSCRIBE)
    body = MultipartWriter("form-data")
    body.append("One-Click").set_content_disposition("form-data", name="List-Unsubscribe")
    assert (await lab.client.post(url, data=body)).status == 200
    assert not await lab.read(lambda r: r.owners.granted("jana", "maintenance"))
