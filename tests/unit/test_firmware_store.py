"""The store: only signed releases come in, whole or not at all."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from firmware_api import signing
from firmware_api.release import ArtifactError, ConflictError, ExpiredError, SignatureError
from firmware_api.store import FirmwareStore, Release

NOW = 1_795_359_600_000
YEAR = 365 * 86_400_000


class Works:
    """A manufacturer's desk: a signing key, artifacts, a store that trusts the key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = FirmwareStore(folder / "firmware")
        self.key = folder / "release.key"
        signing.trust(self.store, signing.keygen(self.key))

    def signed(
        self, content: bytes, version: str, *, sequence: int = 1, key: Path | None = None, days: int = 365
    ) -> Path:
        artifact = self.folder / f"{version}.bin"
        artifact.write_bytes(content)
        signing.sign(
            artifact,
            key or self.key,
            version=version,
            kind="car",
            sequence=sequence,
            now=NOW,
            expires=NOW + days * 86_400_000,
        )
        return artifact

    def upload(self, content: bytes, version: str, *, sequence: int = 1) -> Release:
        return self.take(self.signed(content, version, sequence=sequence))

    def take(self, artifact: Path, now: int = NOW) -> Release:
        return signing.upload(self.store, artifact.with_name(f"{artifact.name}.manifest"), artifact, now)

    def files(self) -> list[str]:
        """Everything in the store but keys."""
        return sorted(
            str(path.relative_to(self.store.folder))
            for path in self.store.folder.rglob("*")
            if path.is_file() and path.suffix != ".pub"
        )


@pytest.fixture
def works(tmp_path: Path) -> Works:
    return Works(tmp_path)


def test_a_key_is_its_owners_alone_and_never_overwritten(works: Works) -> None:
    assert works.key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        signing.keygen(works.key)


def test_a_signed_release_comes_in_under_its_contents_hash(works: Works) -> None:
    release = works.upload(b"firmware", "1.0.0")
    assert works.store.artifact(release.manifest.sha256).read_bytes() == b"firmware"
    assert works.store.get("car", "1.0.0") == release
    assert works.store.get("car", "1.0.1") is None


def test_releases_are_listed_newest_first(works: Works) -> None:
    for sequence, version in enumerate(["1.0.0", "1.1.0", "1.2.0"], start=1):
        works.upload(version.encode(), version, sequence=sequence)
    assert [r.manifest.version for r in works.store.releases()] == ["1.2.0", "1.1.0", "1.0.0"]


def test_the_same_release_twice_is_one(works: Works) -> None:
    artifact = works.signed(b"firmware", "1.0.0")
    first = works.take(artifact)
    files = works.files()
    assert works.take(artifact) == first
    assert works.files() == files


@pytest.mark.parametrize(("version", "sequence"), [("1.0.0", 2), ("1.0.1", 1)])
def test_a_version_or_sequence_is_given_once(works: Works, version: str, sequence: int) -> None:
    works.upload(b"firmware", "1.0.0", sequence=1)
    with pytest.raises(ConflictError):
        works.upload(b"other", version, sequence=sequence)


def test_a_key_that_nobody_trusts_brings_nothing_in(works: Works, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.key"
    signing.keygen(stranger)
    with pytest.raises(SignatureError):
        works.take(works.signed(b"firmware", "1.0.0", key=stranger))
    assert works.files() == []


def test_a_tampered_artifact_is_refused_and_leaves_nothing(works: Works) -> None:
    for tampered in (b"firmwarf", b"firm", b"firmware and more"):
        artifact = works.signed(b"firmware", "1.0.0")
        artifact.write_bytes(tampered)
        with pytest.raises(ArtifactError):
            works.take(artifact)
        assert works.files() == []


def test_a_tampered_manifest_is_refused(works: Works) -> None:
    artifact = works.signed(b"firmware", "1.0.0")
    manifest = artifact.with_name("1.0.0.bin.manifest")
    manifest.write_bytes(manifest.read_bytes().replace(b'"car"', b'"bus"'))
    with pytest.raises(SignatureError):
        works.take(artifact)


def test_an_expired_release_is_refused(works: Works) -> None:
    artifact = works.signed(b"firmware", "1.0.0", days=1)
    with pytest.raises(ExpiredError):
        works.take(artifact, NOW + 86_400_000)


def test_a_reader_that_fails_half_way_leaves_nothing(works: Works) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell():
                raise OSError("the disk is gone")
            return super().read(4)

    artifact = works.signed(b"firmware", "1.0.0")
    manifest = artifact.with_name("1.0.0.bin.manifest").read_bytes()
    signature = artifact.with_name("1.0.0.bin.manifest.sig").read_bytes()
    with pytest.raises(OSError, match="disk"):
        works.store.upload(manifest, signature, Broken(b"firmware"), NOW)
    assert works.files() == []


HALF = """
import sys
from pathlib import Path
from firmware_api.store import FirmwareStore
folder, manifest, signature = map(Path, sys.argv[1:])
FirmwareStore(folder).upload(manifest.read_bytes(), signature.read_bytes(), sys.stdin.buffer.raw, 0)
"""


def test_an_uploader_killed_half_way_leaves_no_release_and_no_artifact(works: Works) -> None:
    content = os.urandom(3 << 20)
    artifact = works.signed(content, "1.0.0")
    beside = [str(artifact.with_name(f"1.0.0.bin.{end}")) for end in ("manifest", "manifest.sig")]
    process = subprocess.Popen(
        [sys.executable, "-c", HALF, str(works.store.folder), *beside], stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(content[: 2 << 20])
    process.stdin.flush()  # more than a pipe holds: it has begun to write
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    assert [name for name in works.files() if not name.startswith("incoming/")] == []
    assert works.store.releases() == []
    works.take(artifact)
    assert works.store.get("car", "1.0.0") is not None


def test_what_a_killed_uploader_left_goes_after_a_day(works: Works) -> None:
    old, young = works.store.folder / "incoming/old", works.store.folder / "incoming/young"
    for folder in (old, young):
        folder.mkdir(parents=True)
        (folder / "artifact").write_bytes(b"half")
    yesterday = young.stat().st_mtime - 86_500
    os.utime(old, (yesterday, yesterday))
    works.upload(b"firmware", "1.0.0")
    assert not old.exists()
    assert young.exists()
