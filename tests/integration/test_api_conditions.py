"""Entity tags, conditional changes, and how often somebody may ask, over HTTP and real stores."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from web_lab import BODIES, Caller, Lab, cast, filled, web_lab

from gateway.domain.access import Role
from gateway.domain.device import Facts
from gateway.web.api import ENDPOINTS


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with web_lab(tmp_path) as opened:
        yield opened


async def tag_of(caller: Caller, path: str) -> str:
    return (await caller("GET", path)).headers["ETag"]


async def test_what_is_known_already_is_not_sent_again(lab: Lab) -> None:
    await cast(lab)
    api = await lab.caller()
    tag = await tag_of(api, "owners/jana")
    again = await api("GET", "owners/jana", If_None_Match=tag)
    assert (again.status, again.body, again.headers["ETag"]) == (304, "", tag)
    assert again.headers["Cache-Control"] == "private, no-cache"
    assert (await api("GET", "owners/jana", If_None_Match=f'"other", W/{tag}')).status == 304
    assert (await api("GET", "owners/jana", If_None_Match='"other"')).status == 200
    await api("PUT", "owners/jana", {"name": "Jana K."})
    assert (await api("GET", "owners/jana", If_None_Match=tag)).status == 200


async def test_what_is_compressed_has_a_tag_of_its_own_and_both_stand_for_the_same(lab: Lab) -> None:
    await lab.workshop()
    api = await lab.caller()
    plain = await tag_of(
        Caller(lab.client, {**api.headers, "Accept-Encoding": "identity"}), "workshops/north"
    )
    packed = await api("GET", "workshops/north")
    if packed.headers.get("Content-Encoding") == "gzip":
        assert packed.headers["ETag"] == plain[:-1] + '-gzip"'
    assert packed.body["id"] == "north"
    for tag in (plain, packed.headers["ETag"]):
        assert (await api("GET", "workshops/north", If_None_Match=tag)).status == 304


async def test_a_change_on_the_condition_that_nothing_has_changed(lab: Lab) -> None:
    await cast(lab)
    api = await lab.caller()
    tag = await tag_of(api, "owners/jana")
    first = await api("PUT", "owners/jana", {"name": "First"}, If_Match=tag)
    assert first.status == 200
    assert first.headers["ETag"] == await tag_of(api, "owners/jana")
    second = await api("PUT", "owners/jana", {"name": "Second"}, If_Match=tag)
    assert (second.status, second.body["type"]) == (412, "urn:touchpoint:problem:precondition-failed")
    assert second.headers["ETag"] == first.headers["ETag"]
    assert (await api.get("owners/jana"))["name"] == "First"
    third = await api("PUT", "owners/jana", {"name": "Third"}, If_Match=first.headers["ETag"])
    assert third.status == 200


async def test_of_two_who_change_at_once_on_the_same_condition_one_does(lab: Lab) -> None:
    await cast(lab)
    api = await lab.caller()
    tag = await tag_of(api, "owners/jana/preferences")
    answers = await asyncio.gather(
        *(
            api("PUT", "owners/jana/preferences", {"weekly_budget": number}, If_Match=tag)
            for number in range(5, 15)
        )
    )
    assert sorted(answer.status for answer in answers) == [200] + [412] * 9


async def test_what_a_product_sends_in_between_is_no_other_cover(lab: Lab) -> None:
    await cast(lab)
    api = await lab.caller()
    tag = await tag_of(api, "devices/car-1/cover")
    await lab.write(lambda r: r.devices.put_facts([Facts(device="car-1", last_seen=lab.clock.now())]))
    body = {"warranty_until": "2028-01-01", "plan": None}
    assert (await api("PUT", "devices/car-1/cover", body, If_Match=tag)).status == 200
    assert (await api("PUT", "devices/car-1/cover", body, If_Match=tag)).status == 412
    owned = await tag_of(api, "devices/car-1/owner")
    assert (await api("PUT", "devices/car-1/owner", {"owner": "max"}, If_Match=owned)).status == 200
    assert (await api("PUT", "devices/car-1/owner", {"owner": "jana"}, If_Match=owned)).status == 412


async def test_a_condition_that_does_not_hold_stops_every_change(lab: Lab) -> None:
    objects = await cast(lab)
    api = await lab.caller()
    for endpoint in (e for e in ENDPOINTS if e.method in ("PUT", "DELETE")):
        path = filled(endpoint.path, objects)[1:]
        body = BODIES.get(f"{endpoint.method} {endpoint.path}", {} if endpoint.body else None)
        refused = await api(endpoint.method, path, body, If_Match='"other"')
        assert refused.status in (403, 404, 412, 422), (endpoint.method, path, refused)
        if endpoint.shown_by is not None and Role.OPERATOR in endpoint.roles and refused.status != 404:
            assert refused.status in (412, 422), (endpoint.method, path, refused)


async def test_a_change_of_what_must_not_be_there_and_a_condition_nobody_can_read(lab: Lab) -> None:
    await cast(lab)
    api = await lab.caller()
    body = {"name": "Jana"}
    assert (await api("PUT", "owners/jana", body, If_None_Match="*")).status == 412
    assert (await api("PUT", "owners/jana", body, If_Match="*")).status == 200
    assert (await api("PUT", "owners/nobody", body, If_Match="*")).status == 404
    assert (await api("PUT", "owners/jana", body, If_Match="unquoted")).status == 400
    weak = "W/" + await tag_of(api, "owners/jana")
    assert (await api("PUT", "owners/jana", body, If_Match=weak)).status == 412


async def test_a_look_on_a_condition_is_no_look_for_the_ledger(lab: Lab) -> None:
    await cast(lab)
    api = await lab.caller()
    await api("PUT", "owners/max/consents/maintenance", {"granted": True}, If_Match='"x"')
    looks = await lab.read(lambda r: r.people.looks("max"))
    assert looks == []


# --- HEAD, what is not there, and how often -----------------------------------------------------------


async def test_head_says_what_get_would_and_sends_nothing(lab: Lab) -> None:
    await cast(lab)
    api = await lab.caller()
    for path in ("owners/jana", "owners", "devices/car-1"):
        found = await api("HEAD", path)
        assert (found.status, found.body or None) == (200, None), path


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "nothing/here", 404),
        ("PATCH", "owners/jana", 405),
        ("DELETE", "touchpoints", 405),
        ("TRACE", "owners", 405),
    ],
)
async def test_what_is_not_there_is_a_problem_too(lab: Lab, method: str, path: str, status: int) -> None:
    refused = await (await lab.caller())(method, path)
    assert refused.status == status
    assert refused.headers["Content-Type"].startswith("application/problem+json")
    assert refused.body["status"] == status
    assert ("Allow" in refused.headers) is (status == 405)


async def test_a_body_in_another_format_or_too_large(lab: Lab) -> None:
    api = await lab.caller()
    for kind, body, status in (("text/csv", b"id,name", 415), ("application/json", b" " * 2**19, 413)):
        async with lab.client.post(
            "/api/v1/owners", data=body, headers={**api.headers, "Content-Type": kind}
        ) as answer:
            assert answer.status == status
            assert (await answer.json(content_type=None))["status"] == status


async def test_who_asks_too_often_waits(tmp_path: Path) -> None:
    async with web_lab(tmp_path, requests_per_minute=3) as lab:
        api, other = await lab.caller(), await lab.caller()
        left = [(await api("GET", "owners")).headers["RateLimit"] for _ in range(3)]
        assert [text.split(";")[1] for text in left] == ["r=2", "r=1", "r=0"]
        refused = await api("POST", "owners", {"name": "Jana"})
        assert (refused.status, refused.body["violated-policies"]) == (429, ["api"])
        assert 0 < int(refused.headers["Retry-After"]) <= 60
        assert refused.headers["RateLimit-Policy"] == '"api";q=3;w=60'
        assert (await other.get("owners"))["items"] == []
        async with lab.client.get("/api/v1/openapi.json") as free:
            assert (free.status, "RateLimit" in free.headers) == (200, False)
