"""DDI v1 as hawkBit serves it: what each request answers, and who may ask."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import cbor2
import pytest
from firmware_lab import NOW, Works, certificate, serving

from firmware_api import actions, releases, signing
from firmware_api.ddi import DdiSettings

DEVICE = "car-1"
HOUR = 3_600_000


class Client:
    """A device that speaks DDI, and the server's desk beside it."""

    def __init__(self, works: Works, url: str, session: aiohttp.ClientSession, device: str = DEVICE) -> None:
        self.works = works
        self.device = device
        self.url = f"{url}/default/controller/v1/{device}"
        self.session = session
        self.headers = {"Authorization": f"TargetToken {works.device(device)}"}

    async def ask(
        self, path: str = "", method: str = "GET", body: Any = None, **headers: str
    ) -> tuple[int, Any]:
        """Status and body; a path, or a link as it was given."""
        url = path if path.startswith("http") else self.url + path
        sent = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        if data is not None:
            sent = {"Content-Type": "application/json"} | sent
        async with self.session.request(method, url, data=data, headers=sent) as answer:
            raw = await answer.read()
            return answer.status, json.loads(raw) if "json" in answer.content_type and raw else raw

    async def links(self) -> dict[str, str]:
        status, found = await self.ask()
        assert status == 200
        return {name: link["href"] for name, link in found.get("_links", {}).items()}

    async def say(
        self, action: int, execution: str, finished: str = "none", *, on: str = "deploymentBase", **more: Any
    ) -> int:
        status = {"execution": execution, "result": {"finished": finished}, **more}
        body = {"id": str(action), "time": "20261122T160000", "status": status}
        return (await self.ask(f"/{on}/{action}/feedback", "POST", body))[0]

    def offered(self, version: str = "2.0.0", sequence: int = 2, **more: Any) -> int:
        release = self.works.find(version) or self.works.release(version.encode(), version, sequence=sequence)
        return self.works.assign(self.device, release, **more)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    works = Works(tmp_path)
    async with serving(works) as url, aiohttp.ClientSession() as session:
        yield Client(works, url, session)


# --- CBOR -----------------------------------------------------------------------------------------


async def test_a_device_may_speak_cbor(client: Client) -> None:
    action = client.offered()
    headers = {**client.headers, "Accept": "application/cbor", "Content-Type": "application/cbor"}
    async with client.session.get(client.url, headers=headers) as answer:
        assert (answer.status, answer.content_type) == (200, "application/cbor")
        assert cbor2.loads(await answer.read())["_links"]["deploymentBase"]["href"]
    status = {"execution": "closed", "result": {"finished": "success"}, "details": ["done"]}
    place = f"{client.url}/deploymentBase/{action}/feedback"
    async with client.session.post(place, data=cbor2.dumps({"status": status}), headers=headers) as answer:
        assert answer.status == 200
    assert client.works.action(action)["state"] == "finished"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"\xa1",
        cbor2.dumps({"status": 1}) + b"\0",
        cbor2.dumps({"status": b"bytes"}),
        b"\xd8\x1c\xa1" + cbor2.dumps("status") + b"\xd8\x1d\x00",
        b"\x81" * 5_000,
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xa1\x66status\xf9\x7e\x00",
        cbor2.dumps({1: 2}),
    ],
)
async def test_what_is_no_report_in_cbor_is_refused(client: Client, raw: bytes) -> None:
    action = client.offered()
    headers = {**client.headers, "Content-Type": "application/cbor"}
    place = f"{client.url}/deploymentBase/{action}/feedback"
    async with client.session.post(place, data=raw, headers=headers) as answer:
        assert answer.status == 400


# --- the base poll --------------------------------------------------------------------------------


async def test_a_poll_says_when_to_ask_again_and_what_there_is_to_do(client: Client) -> None:
    status, found = await client.ask()
    assert status == 200
    assert found == {
        "config": {"polling": {"sleep": "00:00:01"}},
        "_links": {"configData": {"href": f"{client.url}/configData"}},
    }
    action = client.offered()
    links = await client.links()
    assert links["deploymentBase"].startswith(f"{client.url}/deploymentBase/{action}?c=")
    assert links["deploymentBase"].rpartition("=")[2].isdecimal()


async def test_a_poll_with_nothing_to_do_has_no_links(client: Client) -> None:
    await client.ask("/configData", "PUT", {"data": {"vin": "1"}})
    assert (await client.ask())[1] == {"config": {"polling": {"sleep": "00:00:01"}}}


async def test_a_poll_that_would_say_the_same_is_304(client: Client) -> None:
    async with client.session.get(client.url, headers=client.headers) as answer:
        etag = answer.headers["ETag"]
        assert answer.content_type == "application/hal+json"
    assert (await client.ask(If_None_Match=etag))[0] == 304
    client.offered()
    assert (await client.ask(If_None_Match=etag))[0] == 200


async def test_links_follow_the_host_that_was_asked(client: Client) -> None:
    found = (await client.ask(Host="updates.example:9000"))[1]
    assert found["_links"]["configData"]["href"].startswith("http://updates.example:9000/default/")


@pytest.mark.parametrize(
    "authorization", ["", "TargetToken wrong", "TargetToken", "Bearer x", "GatewayToken "]
)
async def test_who_cannot_prove_it_is_refused_everywhere(client: Client, authorization: str) -> None:
    action = client.offered()
    client.headers = {"Authorization": authorization} if authorization else {}
    for path in ("", f"/deploymentBase/{action}", "/confirmationBase", "/softwaremodules/1/artifacts"):
        assert (await client.ask(path))[0] == 401, path
    assert await client.say(action, "closed", "success") == 401
    assert client.works.action(action)["state"] == "running"


async def test_a_device_nobody_knows_is_401_and_not_404(client: Client) -> None:
    assert (await client.ask(client.url + "2"))[0] == 401
    assert (await client.ask(client.url.replace("car-1", "%00%ff")))[0] == 401


async def test_a_device_sees_only_its_own(client: Client) -> None:
    other = Client(client.works, client.url.rpartition("/default")[0], client.session, "car-2")
    action = client.offered()
    (chunk,) = (await client.ask(f"/deploymentBase/{action}"))[1]["deployment"]["chunks"]
    module = chunk["artifacts"][0]["_links"]["download-http"]["href"].split("/")[-3]
    assert (await client.ask(f"/softwaremodules/{module}/artifacts"))[0] == 200
    for path in (
        f"/deploymentBase/{action}",
        f"/installedBase/{action}",
        f"/cancelAction/{action}",
        f"/confirmationBase/{action}",
        f"/softwaremodules/{module}/artifacts",
        f"/softwaremodules/{module}/artifacts/2.0.0.swu",
    ):
        assert (await other.ask(path))[0] == 404, path
    assert await other.say(action, "closed", "success") == 404
    assert (await other.ask(client.url))[0] == 401


async def test_who_asks_too_much_is_told_so(tmp_path: Path) -> None:
    works, settings = Works(tmp_path), DdiSettings(burst=20, rate=0.001)
    async with serving(works, settings) as url, aiohttp.ClientSession() as session:
        client = Client(works, url, session)
        assert [(await client.ask())[0] for _ in range(22)] == [200] * 20 + [429] * 2


# --- attributes -----------------------------------------------------------------------------------


async def test_attributes_are_merged_replaced_and_removed(client: Client) -> None:
    for body, held in [
        ({"data": {"a": "1", "b": "2"}}, {"a": "1", "b": "2"}),
        ({"data": {"b": "3"}, "mode": None, "id": "", "time": "20261122T160000"}, {"a": "1", "b": "3"}),
        ({"data": {"c": "4"}, "mode": "merge"}, {"a": "1", "b": "3", "c": "4"}),
        ({"data": {"a": ""}, "mode": "remove"}, {"b": "3", "c": "4"}),
        ({"data": {"d": "5"}, "mode": "replace"}, {"d": "5"}),
    ]:
        assert (await client.ask("/configData", "PUT", body))[0] == 200
        assert json.loads(client.works.target(DEVICE)["attributes"]) == held


async def test_attributes_are_asked_for_again_after_a_success(client: Client) -> None:
    await client.ask("/configData", "PUT", {"data": {"a": "1"}})
    assert "configData" not in await client.links()
    await client.say(client.offered(), "closed", "success")
    assert "configData" in await client.links()


@pytest.mark.parametrize(
    "data", [{"a" * 129: "1"}, {"a": "1" * 129}, {"": "1"}, {f"a{n}": "1" for n in range(101)}]
)
async def test_attributes_have_limits(client: Client, data: dict[str, str]) -> None:
    assert (await client.ask("/configData", "PUT", {"data": data}))[0] == 403


# --- the deployment -------------------------------------------------------------------------------


async def test_a_deployment_names_chunks_and_artifacts_with_three_hashes(client: Client) -> None:
    works = client.works
    _, paths = works.signed({"a.swu": b"one", "b.swu": b"two"}, "2.0.0", sequence=2)
    manifest, _ = signing.sign(
        {"os": paths[:1], "application": paths[1:]},
        works.key,
        version="2.0.0",
        kind="car",
        sequence=2,
        now=NOW,
        expires=NOW + HOUR,
    )
    release = signing.upload(works.store, manifest, paths, NOW)
    action = works.assign(DEVICE, release)
    status, found = await client.ask((await client.links())["deploymentBase"])
    assert status == 200
    assert found["id"] == str(action)
    assert set(found) == {"id", "deployment"}, "what is empty is left out"
    deployment = found["deployment"]
    assert (deployment["download"], deployment["update"]) == ("forced", "forced")
    assert "maintenanceWindow" not in deployment
    first, second = deployment["chunks"]
    assert (first["part"], second["part"]) == ("os", "bApp")
    (artifact,) = first["artifacts"]
    assert artifact["filename"] == "a.swu"
    assert artifact["size"] == 3
    assert artifact["hashes"]["md5"] == "f97c5d29941bfb1b2fdab0874906ab82"
    assert set(artifact["hashes"]) == {"sha1", "md5", "sha256"}
    assert set(artifact["_links"]) == {"download-http", "md5sum-http"}
    assert (await client.ask(artifact["_links"]["download-http"]["href"])) == (200, b"one")
    said = await client.ask(artifact["_links"]["md5sum-http"]["href"])
    assert said == (200, b"f97c5d29941bfb1b2fdab0874906ab82  a.swu")
    assert (await client.ask(artifact["_links"]["download-http"]["href"], Range="bytes=1-"))[1] == b"ne"


@pytest.mark.parametrize(
    ("method", "asked", "answered"),
    [
        ("HEAD", {}, (200, "11", None, b"")),
        ("HEAD", {"Range": "bytes=0-1"}, (206, "2", "bytes 0-1/11", b"")),
        ("GET", {"Range": "bytes=4-7"}, (206, "4", "bytes 4-7/11", b"omeb")),
        ("GET", {"Range": "bytes=-3"}, (206, "3", "bytes 8-10/11", b"ack")),
        ("GET", {"Range": "bytes=11-"}, (416, "0", "bytes */11", b"")),
        ("GET", {"Range": "bytes=4-7", "If-Range": "ETAG"}, (206, "4", "bytes 4-7/11", b"omeb")),
        ("GET", {"Range": "bytes=4-7", "If-Range": '"another"'}, (200, "11", None, b"welcomeback")),
        ("GET", {"Range": "bytes=0-1,3-4"}, (200, "11", None, b"welcomeback")),
        ("GET", {"If-None-Match": "ETAG"}, (304, None, None, b"")),
    ],
)
async def test_an_artifact_answers_ranges_as_http_says(
    client: Client, method: str, asked: dict[str, str], answered: tuple[Any, ...]
) -> None:
    release = client.works.release(b"welcomeback", "2.0.0", sequence=2)
    action = client.works.assign(DEVICE, release)
    found = (await client.ask(f"/deploymentBase/{action}"))[1]
    link = found["deployment"]["chunks"][0]["artifacts"][0]["_links"]["download-http"]["href"]
    etag = f'"{release.manifest.files[0].sha256}"'
    headers = client.headers | {name: value.replace("ETAG", etag) for name, value in asked.items()}
    async with client.session.request(method, link, headers=headers) as answer:
        said = (
            answer.status,
            answer.headers.get("Content-Length"),
            answer.headers.get("Content-Range"),
            await answer.read(),
        )
    assert said == answered


async def test_feedback_follows_an_update_to_its_end(client: Client) -> None:
    works, action = client.works, client.offered()
    await client.ask(f"/deploymentBase/{action}")
    for execution in ("download", "downloaded", "scheduled", "proceeding", "resumed", "rejected", "canceled"):
        assert await client.say(action, execution, details=["going on"], code=7) == 200
        assert works.action(action)["state"] == "running", execution
    assert await client.say(action, "closed", "success", details=["done"]) == 200
    assert works.action(action)["state"] == "finished"
    assert works.target(DEVICE)["version"] == "2.0.0"
    assert await client.say(action, "closed", "failure") == 410
    assert "deploymentBase" not in await client.links()
    assert (await client.ask((await client.links())["installedBase"]))[0] == 200


@pytest.mark.parametrize(
    ("finished", "state"), [("success", "finished"), ("none", "finished"), ("failure", "error")]
)
async def test_closed_ends_an_action(client: Client, finished: str, state: str) -> None:
    action = client.offered()
    assert await client.say(action, "closed", finished) == 200
    assert client.works.action(action)["state"] == state
    assert client.works.target(DEVICE)["version"] == ("2.0.0" if state == "finished" else None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        {"status": {}},
        {"status": {"execution": "closed"}},
        {"status": {"execution": "CLOSED", "result": {"finished": "success"}}},
        {"status": {"execution": "closed", "result": {"finished": "maybe"}}},
        {"status": {"execution": "closed", "result": {"finished": "success"}, "details": "text"}},
        {"status": {"execution": "closed", "result": {"finished": "success"}, "code": 1 << 40}},
    ],
)
async def test_feedback_that_says_nothing_is_refused(client: Client, body: Any) -> None:
    action = client.offered()
    assert (await client.ask(f"/deploymentBase/{action}/feedback", "POST", body))[0] == 400
    assert client.works.action(action)["state"] == "running"


async def test_fields_that_nobody_knows_are_ignored(client: Client) -> None:
    action = client.offered()
    status = {
        "execution": "closed",
        "result": {"finished": "success", "progress": {"cnt": 1}},
        "details": None,
    }
    body = {"id": action, "time": "yesterday", "status": status, "surprise": [1]}
    sent = await client.ask(f"/deploymentBase/{action}/feedback", "POST", body)
    assert sent[0] == 200


async def test_reports_on_one_action_are_limited_and_its_end_still_counts(client: Client) -> None:
    action = client.offered()
    works = client.works
    works.store.write(
        lambda c: c.execute("UPDATE actions SET entries = ? WHERE id = ?", (actions.MOST_ENTRIES, action))
    )
    assert await client.say(action, "proceeding") == 429
    assert await client.say(action, "closed", "success") == 200


@pytest.mark.parametrize(
    ("mode", "handling"),
    [
        ({"mode": "forced"}, ("forced", "forced")),
        ({"mode": "soft"}, ("attempt", "attempt")),
        ({"mode": "downloadonly"}, ("forced", "skip")),
        ({"mode": "timeforced", "forced_at": NOW + HOUR}, ("attempt", "attempt")),
        ({"mode": "timeforced", "forced_at": NOW}, ("forced", "forced")),
    ],
)
async def test_handling(client: Client, mode: dict[str, Any], handling: tuple[str, str]) -> None:
    action = client.offered(**mode)
    found = (await client.ask(f"/deploymentBase/{action}"))[1]["deployment"]
    assert (found["download"], found["update"]) == handling


async def test_what_becomes_forced_is_read_again(client: Client) -> None:
    client.offered(mode="timeforced", forced_at=NOW + HOUR)
    before = (await client.links())["deploymentBase"]
    client.works.now += HOUR
    assert (await client.links())["deploymentBase"] != before


async def test_a_download_only_action_ends_when_it_is_downloaded(client: Client) -> None:
    action = client.offered(mode="downloadonly")
    assert await client.say(action, "downloaded") == 200
    assert client.works.action(action)["state"] == "finished"
    assert client.works.target(DEVICE)["version"] is None


async def test_outside_its_window_an_update_is_prepared_and_not_installed(client: Client) -> None:
    action, works = client.offered(), client.works
    works.store.write(
        lambda c: actions.set_window(c, action, NOW, window=(NOW + HOUR, NOW + 2 * HOUR), held=None)
    )
    for at, handling, window in [
        (NOW, ("forced", "skip"), "unavailable"),
        (NOW + HOUR, ("forced", "forced"), "available"),
        (NOW + 2 * HOUR, ("forced", "skip"), "unavailable"),
    ]:
        works.now = at
        found = (await client.ask((await client.links())["deploymentBase"]))[1]["deployment"]
        assert (found["download"], found["update"]) == handling
        assert found["maintenanceWindow"] == window
    works.now = NOW + HOUR
    works.store.write(
        lambda c: actions.set_window(c, action, NOW, window=(NOW + HOUR, NOW + 2 * HOUR), held="driving")
    )
    found = (await client.ask(f"/deploymentBase/{action}"))[1]["deployment"]
    assert found["update"] == "skip", "not while something speaks against it"


async def test_history_comes_when_it_is_asked_for(client: Client) -> None:
    action = client.offered()
    await client.say(action, "proceeding", details=["half", "done"])
    found = (await client.ask(f"/deploymentBase/{action}?actionHistory=10"))[1]
    assert found["actionHistory"]["status"] == "RUNNING"
    assert "half" in found["actionHistory"]["messages"]


# --- cancelling -----------------------------------------------------------------------------------


async def test_a_cancelled_update_is_offered_as_such_until_the_device_agrees(client: Client) -> None:
    action, works = client.offered(), client.works
    await client.ask(f"/deploymentBase/{action}")
    assert await client.say(action, "canceled", on="cancelAction") == 409
    works.cancel(action)
    links = await client.links()
    assert links["cancelAction"] == f"{client.url}/cancelAction/{action}"
    assert "deploymentBase" not in links
    stop = {"id": str(action), "cancelAction": {"stopId": str(action)}}
    assert (await client.ask(links["cancelAction"])) == (200, stop)
    assert (await client.ask(f"/deploymentBase/{action}"))[0] == 404
    for execution in ("proceeding", "canceled"):
        assert await client.say(action, execution, on="cancelAction") == 200
        assert works.action(action)["state"] == "canceling"
    assert await client.say(action, "closed", "success", on="cancelAction") == 200
    assert works.action(action)["state"] == "canceled"
    assert await client.say(action, "closed", "success", on="cancelAction") == 410


@pytest.mark.parametrize(("execution", "finished"), [("rejected", "none"), ("closed", "failure")])
async def test_a_device_that_refuses_to_stop_goes_on(client: Client, execution: str, finished: str) -> None:
    action = client.offered()
    await client.ask(f"/deploymentBase/{action}")
    client.works.cancel(action)
    assert await client.say(action, execution, finished, on="cancelAction") == 200
    assert client.works.action(action)["state"] == "running"
    assert "deploymentBase" in await client.links()


async def test_an_update_that_was_installed_while_it_was_cancelled_is_installed(client: Client) -> None:
    action = client.offered()
    await client.ask(f"/deploymentBase/{action}")
    client.works.cancel(action)
    assert await client.say(action, "closed", "success") == 200
    assert client.works.target(DEVICE)["version"] == "2.0.0"


async def test_a_newer_update_first_cancels_the_older_one(client: Client) -> None:
    first = client.offered()
    second = client.offered("3.0.0", 3)
    assert f"cancelAction/{first}" in (await client.links())["cancelAction"]
    await client.say(first, "closed", "success", on="cancelAction")
    assert f"deploymentBase/{second}?c=" in (await client.links())["deploymentBase"]


async def test_an_update_that_the_device_does_not_know_of_is_just_gone(client: Client) -> None:
    action = client.offered()
    client.works.cancel(action)
    assert client.works.action(action)["state"] == "canceled"
    assert "cancelAction" not in await client.links()


async def test_a_withdrawn_release_is_stopped_where_it_has_begun(client: Client) -> None:
    action, works = client.offered(), client.works
    await client.ask(f"/deploymentBase/{action}")
    release, key = works.find("2.0.0"), works.store.index_key()
    assert release is not None
    works.store.write(lambda c: releases.withdraw(c, release.id, "withdrawn", NOW, key))
    assert "cancelAction" in await client.links()


# --- confirmation ---------------------------------------------------------------------------------


async def test_an_update_waits_until_it_is_confirmed(client: Client) -> None:
    action, works = client.offered(consent=True), client.works
    link = (await client.links())["confirmationBase"]
    assert link.startswith(f"{client.url}/confirmationBase/{action}?c=")
    status, found = await client.ask(link)
    assert status == 200
    assert found["id"] == str(action)
    assert found["confirmation"]["chunks"][0]["artifacts"]
    assert (await client.ask(f"/deploymentBase/{action}"))[0] == 404
    assert await client.say(action, "proceeding") == 404
    denied = {"confirmation": "denied", "details": ["not now"]}
    assert (await client.ask(f"/confirmationBase/{action}/feedback", "POST", denied))[0] == 200
    assert "confirmationBase" in await client.links(), "it goes on waiting"
    yes = {"confirmation": "confirmed", "code": 1}
    assert (await client.ask(f"/confirmationBase/{action}/feedback", "POST", yes))[0] == 200
    assert "deploymentBase" in await client.links()
    assert works.action(action)["consent"] == "yes"
    assert (await client.ask(f"/confirmationBase/{action}/feedback", "POST", yes))[0] == 404
    await client.say(action, "closed", "success")
    assert (await client.ask(f"/confirmationBase/{action}/feedback", "POST", yes))[0] == 410


async def test_a_device_may_confirm_by_itself(client: Client) -> None:
    client.offered(consent=True)
    base = (await client.ask("/confirmationBase"))[1]
    assert base["autoConfirm"] == {"active": False}
    assert set(base["_links"]) == {"activateAutoConfirm", "confirmationBase"}
    on = base["_links"]["activateAutoConfirm"]["href"]
    assert (await client.ask(on, "POST", {"initiator": "driver", "remark": "always"}))[0] == 200
    assert "deploymentBase" in await client.links()
    base = (await client.ask("/confirmationBase"))[1]
    assert base["autoConfirm"]["active"] is True
    assert base["autoConfirm"]["initiator"] == "driver"
    assert (await client.ask(base["_links"]["deactivateAutoConfirm"]["href"], "POST"))[0] == 200
    assert (await client.ask("/confirmationBase"))[1]["autoConfirm"] == {"active": False}


async def test_what_was_installed_by_hand_is_news_once(client: Client) -> None:
    client.works.release(b"2", "2.0.0", sequence=2)
    body = {"name": "car", "version": "2.0.0"}
    assert (await client.ask("/installedBase", "PUT", body))[0] == 201
    assert (await client.ask("/installedBase", "PUT", body))[0] == 200
    assert client.works.target(DEVICE)["sequence"] == 2


# --- other proofs ---------------------------------------------------------------------------------


async def test_a_gateway_speaks_for_devices_that_nobody_knows_yet(tmp_path: Path) -> None:
    works, settings = Works(tmp_path), DdiSettings(gateway_token="shared")
    async with serving(works, settings) as url, aiohttp.ClientSession() as session:
        client = Client(works, url, session)
        client.headers = {"Authorization": "GatewayToken shared"}
        assert (await client.ask(client.url + "-new"))[0] == 200
        assert works.target("car-1-new")["kind"] is None
        client.headers = {"Authorization": "GatewayToken other"}
        assert (await client.ask())[0] == 401


async def test_a_proxys_word_counts_only_where_it_is_said_to(tmp_path: Path) -> None:
    works = Works(tmp_path)
    for settings, status in [(DdiSettings(certificate_header="X-Ssl-Client-Cn"), 200), (DdiSettings(), 401)]:
        async with serving(works, settings) as url, aiohttp.ClientSession() as session:
            client = Client(works, url, session)
            client.headers = {}
            assert (await client.ask(X_Ssl_Client_Cn=DEVICE))[0] == status
            assert (await client.ask(X_Ssl_Client_Cn="car-2"))[0] == 401


async def test_a_certificate_proves_the_device_that_it_names(tmp_path: Path) -> None:
    works = Works(tmp_path)
    authority = certificate(tmp_path, "authority")
    for name in ("server", DEVICE, "car-2"):
        certificate(tmp_path, name, authority)
    secure = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "authority.pem"))
    secure.load_cert_chain(tmp_path / "server.pem")
    secure.verify_mode = ssl.CERT_REQUIRED
    async with serving(works, ssl_context=secure) as url, aiohttp.ClientSession() as session:
        client = Client(works, url.replace("127.0.0.1", "localhost"), session)
        client.headers = {}
        for name, status in [(DEVICE, 200), ("car-2", 401)]:
            ours = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
            ours.load_cert_chain(tmp_path / f"{name}.pem")
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=ours)) as secured:
                client.session = secured
                assert (await client.ask())[0] == status
        ours = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
        ours.load_cert_chain(tmp_path / f"{DEVICE}.pem")
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=ours)) as secured:
            client.session = secured
            action = client.offered()
            found = (await client.ask(f"/deploymentBase/{action}"))[1]["deployment"]["chunks"][0]
            links = found["artifacts"][0]["_links"]
            assert set(links) == {"download", "md5sum"}
            assert (await client.ask(links["download"]["href"])) == (200, b"2.0.0")
