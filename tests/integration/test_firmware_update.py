"""A simulated device takes an update over HTTP, and refuses what it should refuse.

The attacks are those of The Update Framework's specification (1.0, section 1.5.2), each with what the device
does about it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler
from firmware_lab import NOW, Works

from device_sim import firmware as device_side
from device_sim.firmware import (
    FirmwareClient,
    NotForUsError,
    NotTrustedError,
    Offer,
    StaleError,
    StoppedError,
    Target,
)
from firmware_api import releases, signing
from firmware_api.release import sign
from firmware_api.routes import application
from firmware_api.store import digest, read_private_key
from firmware_api.trust import Index

DAY = 86_400_000
CONTENT = os.urandom(700_000)
CAR = Target(kind="car", model="Arden 5", sequence=1, hardware="b7")

Answer = bytes | Callable[[], web.StreamResponse]


class Line:
    """A server with a store, a device's way to it, and a man in the middle who answers what he likes."""

    def __init__(self, folder: Path, session: aiohttp.ClientSession) -> None:
        self.works = Works(folder)
        self.folder = folder / "device"
        self.built_with = (folder / "trust-1.json").read_bytes()
        self.session = session
        self.url = ""
        self.ranges: list[str | None] = []
        self.says: dict[str, Answer] = {}

    def publish(self, version: str, sequence: int, **more: Any) -> str:
        release = self.works.release(CONTENT + version.encode(), version, sequence=sequence, **more)
        return release.manifest.files[0].sha256

    def device(self) -> FirmwareClient:
        return FirmwareClient(self.session, url=self.url, trust=self.built_with, folder=self.folder)

    async def fetched(self, path: str) -> bytes:
        async with self.session.get(f"{self.url}/{path}") as answer:
            return await answer.read()

    async def record(self, *paths: str) -> None:
        """The man in the middle answers these as they read now, from now on."""
        self.says |= {path: await self.fetched(path) for path in paths}

    @web.middleware
    async def watch(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        path = request.path.removeprefix("/firmware/")
        if path in self.says:
            said = self.says[path]
            return web.Response(body=said) if isinstance(said, bytes) else said()
        if "artifacts/" in path:
            self.ranges.append(request.headers.get("Range"))
        return await handler(request)


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    async with aiohttp.ClientSession() as session:
        line = Line(tmp_path, session)
        root = web.Application(middlewares=[line.watch])
        root.add_subapp("/firmware", application(line.works.store))
        async with TestServer(root) as server:
            line.url = str(server.make_url("/firmware"))
            yield line


async def newest(line: Line) -> Offer:
    offer = await line.device().newest(CAR, NOW)
    assert offer is not None
    return offer


async def only(line: Line, offer: Offer) -> bytes:
    (path,) = await line.device().download(offer)
    return path.read_bytes()


async def test_a_device_takes_the_newest_release_that_is_for_it(line: Line) -> None:
    line.publish("1.0.0", 1)
    line.publish("2.0.0", 2)
    line.publish("3.0.0", 3, models=("Other",))
    line.publish("4.0.0", 4, hardware=("b8",))
    line.publish("5.0.0", 5, lowest=2)
    offer = await newest(line)
    assert offer.version == "2.0.0"
    assert await only(line, offer) == CONTENT + b"2.0.0"


async def test_there_is_nothing_when_nothing_is_newer(line: Line) -> None:
    line.publish("1.0.0", 1)
    assert await line.device().newest(CAR, NOW) is None


async def test_a_release_of_several_files_brings_all_of_them(line: Line) -> None:
    line.works.release({"a.swu": b"one", "b.swu": b"two"}, "2.0.0", sequence=2)
    paths = await line.device().download(await newest(line))
    assert [path.read_bytes() for path in paths] == [b"one", b"two"]


async def test_a_download_goes_on_where_it_stopped(line: Line) -> None:
    sha256 = line.publish("2.0.0", 2)
    offer = await newest(line)
    part = line.folder / f"{sha256}.part"
    part.write_bytes(CONTENT[:300_000])
    assert await only(line, offer) == CONTENT + b"2.0.0"
    assert line.ranges == ["bytes=300000-"]
    assert not part.exists()


async def test_a_server_that_ends_early_leaves_a_part_to_go_on_from(line: Line) -> None:
    place = line.works.store.artifact(line.publish("2.0.0", 2))
    offer = await newest(line)
    whole = place.read_bytes()
    place.write_bytes(whole[:400_000])
    with pytest.raises(StoppedError, match="400000 of"):
        await line.device().download(offer)
    place.write_bytes(whole)
    assert await only(line, offer) == whole
    assert line.ranges == [None, "bytes=400000-"]


async def test_a_damaged_part_is_thrown_away_and_the_next_try_is_good(line: Line) -> None:
    sha256 = line.publish("2.0.0", 2)
    offer = await newest(line)
    (line.folder / f"{sha256}.part").write_bytes(b"\0" * 300_000)
    with pytest.raises(NotTrustedError):
        await line.device().download(offer)
    assert await only(line, offer) == CONTENT + b"2.0.0"


async def test_a_step_down_needs_a_signature_that_says_so(line: Line) -> None:
    line.publish("2.0.0", 2)
    line.publish("1.9.0", 1, downgrade=True)
    ahead = replace(CAR, sequence=5)
    with pytest.raises(NotForUsError, match="step down"):
        await line.device().offer("2.0.0", ahead, NOW)
    assert (await line.device().offer("1.9.0", ahead, NOW)).version == "1.9.0"
    assert await line.device().newest(ahead, NOW) is None, "a device never goes down unasked"


@pytest.mark.parametrize(
    ("more", "why"), [({"models": ("Other",)}, "model"), ({"hardware": ("b8",)}, "hardware")]
)
async def test_a_release_for_others_is_refused_even_when_asked_for(
    line: Line, more: dict[str, Any], why: str
) -> None:
    line.publish("2.0.0", 2, **more)
    with pytest.raises(NotForUsError, match=why):
        await line.device().offer("2.0.0", CAR, NOW)


async def test_a_server_that_is_away_is_a_reason_to_try_again(line: Line) -> None:
    device = FirmwareClient(
        line.session, url="http://127.0.0.1:1/firmware", trust=line.built_with, folder=line.folder
    )
    with pytest.raises(StoppedError):
        await device.newest(CAR, NOW)


# --- attacks ------------------------------------------------------------------------------------


async def test_arbitrary_installation_a_file_of_the_attackers_is_thrown_away(line: Line) -> None:
    sha256 = line.publish("2.0.0", 2)
    offer = await newest(line)
    line.says[f"artifacts/{sha256}"] = b"x" + CONTENT[1:] + b"2.0.0"
    with pytest.raises(NotTrustedError, match="hash"):
        await line.device().download(offer)
    assert [path.name for path in line.folder.iterdir()] == ["state.json"]


async def test_arbitrary_installation_a_manifest_of_the_attackers_is_not_believed(line: Line) -> None:
    line.publish("2.0.0", 2)
    manifest = "releases/car/2.0.0/manifest"
    line.says[manifest] = (await line.fetched(manifest)).replace(b'"sequence":2', b'"sequence":9')
    with pytest.raises(NotTrustedError):
        await line.device().newest(CAR, NOW)


async def test_key_compromise_a_thief_of_the_index_key_signs_no_release(line: Line) -> None:
    line.publish("2.0.0", 2)
    manifest = "releases/car/2.0.0/manifest"
    forged = (await line.fetched(manifest)).replace(b'"sequence":2', b'"sequence":9')
    thief = line.works.store.index_key()
    index = Index.from_bytes(await line.fetched("index"))
    listed = replace(index, releases={"car/2.0.0": hashlib.sha256(forged).hexdigest()}).to_bytes()
    line.says |= {manifest: forged, f"{manifest}.sig": sign(forged, thief)}
    line.says |= {"index": listed, "index.sig": sign(listed, thief)}
    with pytest.raises(NotTrustedError, match="release"):
        await line.device().newest(CAR, NOW)


async def test_key_compromise_a_stolen_key_counts_for_nothing_once_it_is_revoked(line: Line) -> None:
    works = line.works
    line.publish("2.0.0", 2)
    await line.record("releases/car/2.0.0/manifest", "releases/car/2.0.0/manifest.sig")
    signing.keygen(works.folder / "new")
    first = works.store.read(releases.trust_of)
    assert first is not None
    second = signing.add_key(first, works.folder / "new.pub", ["trust", "release"], NOW)
    works.trust(second)
    works.trust(signing.drop_key(second, works.key_id, NOW), works.key, works.folder / "new")
    assert await line.device().newest(CAR, NOW) is None
    manifest = line.says["releases/car/2.0.0/manifest"]
    assert isinstance(manifest, bytes)
    index = Index.from_bytes(await line.fetched("index"))
    listed = replace(index, releases={"car/2.0.0": hashlib.sha256(manifest).hexdigest()}).to_bytes()
    line.says |= {"index": listed, "index.sig": sign(listed, works.store.index_key())}
    with pytest.raises(NotTrustedError, match="release"):
        await line.device().newest(CAR, NOW)


async def test_key_compromise_trust_that_the_old_keys_did_not_sign_is_not_followed(line: Line) -> None:
    works = line.works
    thief = works.folder / "thief"
    signing.keygen(thief)
    first = works.store.read(releases.trust_of)
    assert first is not None
    stolen = signing.add_key(first, works.folder / "thief.pub", ["trust", "release", "index"], NOW)
    raw = stolen.to_bytes()
    line.says |= {"trust/2": raw, "trust/2.sig": sign(raw, read_private_key(thief))}
    with pytest.raises(NotTrustedError, match="trust"):
        await line.device().refresh(NOW)


async def test_rollback_an_index_older_than_one_that_was_seen_is_refused(line: Line) -> None:
    line.publish("2.0.0", 2)
    old = {path: await line.fetched(path) for path in ("index", "index.sig")}
    line.publish("3.0.0", 3)
    await line.device().refresh(NOW)
    line.says |= old
    with pytest.raises(NotTrustedError, match="older"):
        await line.device().newest(CAR, NOW)


async def test_rollback_an_old_release_is_no_step_up(line: Line) -> None:
    line.publish("2.0.0", 2)
    with pytest.raises(NotForUsError, match="step down"):
        await line.device().offer("2.0.0", replace(CAR, sequence=3), NOW)


async def test_freeze_a_device_that_is_shown_nothing_new_knows_it_after_a_week(line: Line) -> None:
    line.publish("2.0.0", 2)
    await line.record("index", "index.sig")
    line.works.now += 6 * DAY
    line.publish("3.0.0", 3)
    assert (await newest(line)).version == "2.0.0", "until then it cannot know"
    with pytest.raises(StaleError):
        await line.device().newest(CAR, NOW + 7 * DAY)


async def test_freeze_a_release_that_has_expired_is_not_installed(line: Line) -> None:
    line.publish("2.0.0", 2, days=1)
    with pytest.raises(NotForUsError, match="expired"):
        await line.device().offer("2.0.0", CAR, NOW + DAY)


async def test_mix_and_match_a_manifest_of_another_time_is_refused(line: Line) -> None:
    line.publish("2.0.0", 2)
    await line.record("releases/car/2.0.0/manifest", "releases/car/2.0.0/manifest.sig")
    line.publish("3.0.0", 3)
    manifest, signature = (line.says.pop(f"releases/car/2.0.0/manifest{end}") for end in ("", ".sig"))
    line.says |= {"releases/car/3.0.0/manifest": manifest, "releases/car/3.0.0/manifest.sig": signature}
    with pytest.raises(NotTrustedError, match="index names"):
        await line.device().offer("3.0.0", CAR, NOW)


async def test_mix_and_match_files_of_two_releases_do_not_come_together(line: Line) -> None:
    works = line.works
    works.release({"os.swu": b"os of 2", "ui.swu": b"ui of 2"}, "2.0.0", sequence=2)
    newer = works.release({"os.swu": b"os of 3", "ui.swu": b"ui of 3"}, "3.0.0", sequence=3)
    offer = await newest(line)
    line.says[f"artifacts/{newer.manifest.files[1].sha256}"] = b"ui of 2"
    with pytest.raises(NotTrustedError, match="hash"):
        await line.device().download(offer)


async def test_endless_data_a_document_that_does_not_end_is_given_up(line: Line) -> None:
    line.publish("2.0.0", 2)
    for path in ("index", "index.sig", "trust/2"):
        line.says[path] = b"{" * (device_side.DOCUMENT_MOST + 1)
        with pytest.raises(NotTrustedError, match="does not end"):
            await line.device().newest(CAR, NOW)
        del line.says[path]


async def test_endless_data_a_file_longer_than_signed_is_not_kept(line: Line) -> None:
    sha256 = line.publish("2.0.0", 2)
    offer = await newest(line)
    line.says[f"artifacts/{sha256}"] = (CONTENT + b"2.0.0") * 8
    with pytest.raises(NotTrustedError, match="hash"):
        await line.device().download(offer)
    assert [path.name for path in line.folder.iterdir()] == ["state.json"]


async def test_fast_forward_a_trust_document_cannot_skip_versions(line: Line) -> None:
    first = line.works.store.read(releases.trust_of)
    assert first is not None
    raw = replace(first, version=1_000_000).to_bytes()
    line.says |= {"trust/2": raw, "trust/2.sig": sign(raw, read_private_key(line.works.key))}
    with pytest.raises(NotTrustedError, match="calls itself"):
        await line.device().refresh(NOW)


async def test_wrong_software_a_release_of_another_kind_under_our_path_is_refused(line: Line) -> None:
    line.works.release(b"for buses", "2.0.0", sequence=2, kind="bus")
    bus = {end: await line.fetched(f"releases/bus/2.0.0/manifest{end}") for end in ("", ".sig")}
    line.says |= {f"releases/car/2.0.0/manifest{end}": said for end, said in bus.items()}
    with pytest.raises(NotForUsError, match="index"):
        await line.device().offer("2.0.0", CAR, NOW)


# --- HTTP ---------------------------------------------------------------------------------------


async def test_artifacts_answer_ranges_as_http_says(line: Line) -> None:
    sha256 = line.publish("2.0.0", 2)
    whole, url, etag = CONTENT + b"2.0.0", f"{line.url}/artifacts/{sha256}", f'"{sha256}"'
    size = len(whole)
    for headers, status, body, content_range in [
        ({}, 200, whole, None),
        ({"Range": "bytes=10-19"}, 206, whole[10:20], f"bytes 10-19/{size}"),
        ({"Range": "bytes=-5"}, 206, whole[-5:], f"bytes {size - 5}-{size - 1}/{size}"),
        ({"Range": f"bytes={size}-"}, 416, b"", f"bytes */{size}"),
        ({"Range": "bytes=0-9", "If-Range": etag}, 206, whole[:10], f"bytes 0-9/{size}"),
        ({"Range": "bytes=0-9", "If-Range": '"other"'}, 200, whole, None),
        ({"Range": "bytes=0-1,3-4"}, 200, whole, None),
        ({"If-None-Match": etag}, 304, b"", None),
        ({"If-None-Match": f'"x", W/{etag}'}, 304, b"", None),
        ({"If-Match": '"other"'}, 412, b"", None),
    ]:
        async with line.session.get(url, headers=headers) as answer:
            assert answer.status == status, headers
            assert await answer.read() == body, headers
            assert answer.headers.get("Content-Range") == content_range, headers
            assert answer.headers["ETag"] == etag


async def test_head_tells_the_size_and_sends_nothing(line: Line) -> None:
    sha256 = line.publish("2.0.0", 2)
    async with line.session.head(f"{line.url}/artifacts/{sha256}") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Length"] == str(len(CONTENT) + 5)
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert await answer.read() == b""


@pytest.mark.parametrize(
    "path",
    [
        "artifacts/" + "0" * 64,
        "artifacts/..%2f..%2fkey",
        "releases/car/9.9.9/manifest",
        "releases/..%2f..%2f/key/manifest",
        "releases/car/..%2F..%2Ftrusted/manifest.sig",
        "trust/7",
        "trust/7.sig",
    ],
)
async def test_what_is_not_there_is_not_found(line: Line, path: str) -> None:
    async with line.session.get(f"{line.url}/{path}") as answer:
        assert answer.status == 404


async def test_content_that_no_release_names_is_not_served(line: Line) -> None:
    _, (path,) = line.works.signed(b"not released", "2.0.0", sequence=2)
    sha256 = digest(path).sha256
    with open(path, "rb") as file:
        line.works.store.take(file, sha256, 12, NOW)
    async with line.session.get(f"{line.url}/artifacts/{sha256}") as answer:
        assert answer.status == 404


async def test_the_list_says_what_was_signed_and_where_it_is(line: Line) -> None:
    line.publish("2.0.0", 2)
    async with line.session.get(f"{line.url}/releases") as answer:
        (item,) = (await answer.json())["items"]
    assert (item["version"], item["kind"], item["sequence"]) == ("2.0.0", "car", 2)
    async with line.session.get(f"{line.url}/{item['links']['manifest']}") as answer:
        assert (await answer.json())["modules"] == item["modules"]
