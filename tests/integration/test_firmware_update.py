"""A simulated device takes an update over HTTP, and refuses what it should refuse."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device_sim.firmware import FirmwareClient, NotForUsError, NotTrustedError, StoppedError, Target
from firmware_api import signing
from firmware_api.release import Manifest, sign
from firmware_api.routes import application
from firmware_api.store import FirmwareStore

NOW = 1_795_359_600_000
CONTENT = os.urandom(700_000)
CAR = Target(kind="car", model="Arden 5", sequence=1)


class Line:
    """A server with a store, and a device's way to it; remembers which parts of artifacts were asked for."""

    def __init__(self, folder: Path, session: aiohttp.ClientSession) -> None:
        self.folder = folder
        self.store = FirmwareStore(folder / "firmware")
        self.key = folder / "key"
        signing.trust(self.store, signing.keygen(self.key))
        self.session = session
        self.url = ""
        self.ranges: list[str | None] = []

    def publish(
        self, version: str, sequence: int, *, downgrade: bool = False, models: tuple[str, ...] = ()
    ) -> str:
        artifact = self.folder / f"{version}.bin"
        artifact.write_bytes(CONTENT + version.encode())
        manifest, _ = signing.sign(
            artifact,
            self.key,
            version=version,
            kind="car",
            sequence=sequence,
            now=NOW,
            expires=NOW + 1_000,
            downgrade=downgrade,
            models=models,
        )
        return signing.upload(self.store, manifest, artifact, NOW).manifest.sha256

    def device(self, store: FirmwareStore | None = None) -> FirmwareClient:
        trusted = (store or self.store).trusted()
        return FirmwareClient(self.session, url=self.url, trusted=trusted, folder=self.folder / "device")

    @web.middleware
    async def watch(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if "/artifacts/" in request.path:
            self.ranges.append(request.headers.get("Range"))
        return await handler(request)


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    async with aiohttp.ClientSession() as session:
        line = Line(tmp_path, session)
        root = web.Application(middlewares=[line.watch])
        root.add_subapp("/firmware", application(line.store))
        async with TestServer(root) as server:
            line.url = str(server.make_url("/firmware"))
            yield line


async def test_a_device_takes_the_newest_release_that_is_for_it(line: Line) -> None:
    line.publish("1.0.0", 1)
    line.publish("2.0.0", 2)
    line.publish("3.0.0", 3, models=("Other",))
    offer = await line.device().newest(CAR, NOW)
    assert offer is not None
    assert offer.version == "2.0.0"
    assert (await line.device().download(offer)).read_bytes() == CONTENT + b"2.0.0"


async def test_there_is_nothing_when_nothing_is_newer(line: Line) -> None:
    line.publish("1.0.0", 1)
    assert await line.device().newest(CAR, NOW) is None


async def test_a_download_goes_on_where_it_stopped(line: Line) -> None:
    line.publish("2.0.0", 2)
    device = line.device()
    offer = await device.newest(CAR, NOW)
    assert offer is not None
    part = line.folder / "device" / f"{offer.sha256}.part"
    part.parent.mkdir()
    part.write_bytes(CONTENT[:300_000])
    assert (await device.download(offer)).read_bytes() == CONTENT + b"2.0.0"
    assert line.ranges == ["bytes=300000-"]
    assert not part.exists()


async def test_a_server_that_ends_early_leaves_a_part_to_go_on_from(line: Line, tmp_path: Path) -> None:
    sha256 = line.publish("2.0.0", 2)
    offer = await line.device().newest(CAR, NOW)
    assert offer is not None
    whole = line.store.artifact(sha256).read_bytes()
    line.store.artifact(sha256).write_bytes(whole[:400_000])
    with pytest.raises(StoppedError, match="400000 of"):
        await line.device().download(offer)
    line.store.artifact(sha256).write_bytes(whole)
    assert (await line.device().download(offer)).read_bytes() == whole
    assert line.ranges == [None, "bytes=400000-"]


async def test_a_tampered_artifact_is_thrown_away(line: Line) -> None:
    sha256 = line.publish("2.0.0", 2)
    artifact = line.store.artifact(sha256)
    artifact.write_bytes(b"x" + artifact.read_bytes()[1:])
    offer = await line.device().newest(CAR, NOW)
    assert offer is not None
    with pytest.raises(NotTrustedError, match="hash"):
        await line.device().download(offer)
    assert list((line.folder / "device").iterdir()) == []


async def test_a_part_that_was_damaged_is_thrown_away_and_the_next_try_is_good(line: Line) -> None:
    line.publish("2.0.0", 2)
    offer = await line.device().newest(CAR, NOW)
    assert offer is not None
    part = line.folder / "device" / f"{offer.sha256}.part"
    part.parent.mkdir()
    part.write_bytes(b"\0" * 300_000)
    with pytest.raises(NotTrustedError):
        await line.device().download(offer)
    assert (await line.device().download(offer)).read_bytes() == CONTENT + b"2.0.0"


async def test_a_device_believes_only_its_own_keys(line: Line, tmp_path: Path) -> None:
    line.publish("2.0.0", 2)
    other = FirmwareStore(tmp_path / "other")
    signing.trust(other, signing.keygen(tmp_path / "other.key"))
    with pytest.raises(NotTrustedError):
        await line.device(other).newest(CAR, NOW)


async def test_a_manifest_changed_on_the_server_is_not_believed(line: Line) -> None:
    line.publish("2.0.0", 2)
    manifest = line.store.folder / "releases/car/2.0.0/manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"sequence":2', b'"sequence":9'))
    with pytest.raises(NotTrustedError):
        await line.device().newest(CAR, NOW)


async def test_an_expired_release_is_not_installed(line: Line) -> None:
    line.publish("2.0.0", 2)
    with pytest.raises(NotForUsError, match="expired"):
        await line.device().newest(CAR, NOW + 1_000)


async def test_a_step_down_needs_a_signature_that_says_so(line: Line) -> None:
    line.publish("2.0.0", 2)
    line.publish("1.9.0", 1, downgrade=True)
    ahead = Target(kind="car", model=None, sequence=5)
    with pytest.raises(NotForUsError, match="step down"):
        await line.device().offer("2.0.0", ahead, NOW)
    assert (await line.device().offer("1.9.0", ahead, NOW)).version == "1.9.0"
    assert await line.device().newest(ahead, NOW) is None, "a device never goes down unasked"


async def test_a_release_for_another_model_is_refused_even_when_asked_for(line: Line) -> None:
    line.publish("2.0.0", 2, models=("Other",))
    with pytest.raises(NotForUsError, match="model"):
        await line.device().offer("2.0.0", CAR, NOW)


async def test_a_release_of_another_kind_under_our_path_is_refused(line: Line) -> None:
    key = Ed25519PrivateKey.generate()
    bus = Manifest(
        version="2.0.0", kind="bus", sha256="0" * 64, size=1, created=NOW, expires=NOW + 9, sequence=2
    )
    place = line.store.folder / "releases/car/2.0.0"
    place.mkdir(parents=True)
    (place / "manifest.json").write_bytes(bus.to_bytes())
    (place / "manifest.sig").write_bytes(sign(bus.to_bytes(), key))
    device = FirmwareClient(line.session, url=line.url, trusted=[key.public_key()], folder=line.folder)
    with pytest.raises(NotForUsError, match="kind"):
        await device.offer("2.0.0", CAR, NOW)


async def test_a_server_that_is_away_is_a_reason_to_try_again(line: Line) -> None:
    device = FirmwareClient(line.session, url="http://127.0.0.1:1/firmware", trusted=[], folder=line.folder)
    with pytest.raises(StoppedError):
        await device.newest(CAR, NOW)


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
    ],
)
async def test_what_is_not_there_is_not_found(line: Line, path: str) -> None:
    async with line.session.get(f"{line.url}/{path}") as answer:
        assert answer.status == 404


async def test_the_list_says_what_was_signed_and_where_it_is(line: Line) -> None:
    line.publish("2.0.0", 2)
    async with line.session.get(f"{line.url}/releases") as answer:
        (item,) = (await answer.json())["items"]
    assert (item["version"], item["kind"], item["sequence"]) == ("2.0.0", "car", 2)
    async with line.session.get(f"{line.url}/{item['links']['manifest']}") as answer:
        assert (await answer.json())["sha256"] == item["sha256"]
