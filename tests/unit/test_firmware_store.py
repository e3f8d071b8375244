"""The store: only signed releases come in, whole or not at all; trust is followed step by step."""

import io
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from firmware_lab import NOW, Works

from firmware_api import releases, signing
from firmware_api.release import (
    ArtifactError,
    ConflictError,
    ExpiredError,
    ManifestError,
    SignatureError,
)
from firmware_api.trust import Index

DAY = 86_400_000


@pytest.fixture
def works(tmp_path: Path) -> Works:
    return Works(tmp_path)


def artifacts(works: Works) -> list[str]:
    folder = works.store.folder / "artifacts"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def versions(works: Works) -> list[str]:
    return [release.manifest.version for release in works.store.read(releases.current)]


def index(works: Works) -> Index:
    return Index.from_bytes(works.store.read(lambda c: releases.document(c, "index"))[0])


def test_a_key_is_its_owners_alone_and_never_overwritten(works: Works) -> None:
    for key in (works.key, works.store.folder / "index.key"):
        assert key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        signing.keygen(works.key)


def test_a_signed_release_comes_in_under_its_contents_hash(works: Works) -> None:
    release = works.release({"a.swu": b"one", "b.swu": b"two"}, "1.0.0", sequence=1)
    assert artifacts(works) == sorted(file.sha256 for file in release.manifest.files)
    assert works.store.artifact(release.manifest.files[1].sha256).read_bytes() == b"two"
    assert works.find("1.0.0") == release
    assert works.find("1.0.1") is None


def test_releases_are_listed_newest_first_and_stand_in_the_index(works: Works) -> None:
    for sequence, version in enumerate(["1.0.0", "1.1.0", "1.2.0"], start=1):
        works.release(version.encode(), version, sequence=sequence)
    assert versions(works) == ["1.2.0", "1.1.0", "1.0.0"]
    assert set(index(works).releases) == {"car/1.0.0", "car/1.1.0", "car/1.2.0"}


def test_the_same_release_twice_is_one(works: Works) -> None:
    manifest, paths = works.signed(b"firmware", "1.0.0", sequence=1)
    first = signing.upload(works.store, manifest, paths, NOW)
    assert signing.upload(works.store, manifest, paths, NOW) == first
    assert versions(works) == ["1.0.0"]


@pytest.mark.parametrize(("version", "sequence"), [("1.0.0", 2), ("1.0.1", 1)])
def test_a_version_or_sequence_is_given_once(works: Works, version: str, sequence: int) -> None:
    works.release(b"firmware", "1.0.0", sequence=1)
    with pytest.raises(ConflictError):
        works.release(b"other", version, sequence=sequence)


def test_a_key_that_nobody_trusts_brings_nothing_in(works: Works, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.key"
    signing.keygen(stranger)
    manifest, paths = works.signed(b"firmware", "1.0.0", sequence=1, key=stranger)
    with pytest.raises(SignatureError):
        signing.upload(works.store, manifest, paths, NOW)
    assert artifacts(works) == []


def test_a_tampered_artifact_is_refused_and_leaves_nothing(works: Works) -> None:
    for tampered in (b"firmwarf", b"firm", b"firmware and more"):
        manifest, (path,) = works.signed(b"firmware", "1.0.0", sequence=1)
        path.write_bytes(tampered)
        with pytest.raises(ArtifactError):
            signing.upload(works.store, manifest, [path], NOW)
        assert artifacts(works) == []
        assert list((works.store.folder / "incoming").glob("*.part")) == []


def test_a_release_comes_in_only_with_all_of_its_files(works: Works) -> None:
    manifest, paths = works.signed({"a.swu": b"one", "b.swu": b"two"}, "1.0.0", sequence=1)
    with pytest.raises(ArtifactError, match="upload its content first"):
        signing.upload(works.store, manifest, paths[:1], NOW)
    assert versions(works) == []
    signing.upload(works.store, manifest, paths[1:], NOW)
    assert versions(works) == ["1.0.0"]


def test_a_tampered_manifest_is_refused(works: Works) -> None:
    manifest, paths = works.signed(b"firmware", "1.0.0", sequence=1)
    manifest.write_bytes(manifest.read_bytes().replace(b'"kind":"car"', b'"kind":"bus"'))
    with pytest.raises(SignatureError):
        signing.upload(works.store, manifest, paths, NOW)


def test_an_expired_release_is_refused_and_leaves_the_index_when_its_time_comes(works: Works) -> None:
    manifest, paths = works.signed(b"firmware", "1.0.0", sequence=1, days=1)
    with pytest.raises(ExpiredError):
        signing.upload(works.store, manifest, paths, NOW + DAY)
    signing.upload(works.store, manifest, paths, NOW)
    key = works.store.index_key()
    assert works.store.write(lambda c: releases.refresh_index(c, NOW + DAY, key))
    assert index(works).releases == {}
    assert versions(works) == []


def test_the_index_is_signed_anew_before_it_expires(works: Works) -> None:
    works.release(b"firmware", "1.0.0", sequence=1)
    before, key = index(works), works.store.index_key()
    assert not works.store.write(lambda c: releases.refresh_index(c, NOW + 3 * DAY, key))
    assert works.store.write(lambda c: releases.refresh_index(c, NOW + 4 * DAY, key))
    assert index(works).version == before.version + 1
    assert index(works).expires > before.expires


# --- trust ----------------------------------------------------------------------------------------


def held(works: Works) -> signing.Trust:
    trust = works.store.read(releases.trust_of)
    assert trust is not None
    return trust


def test_a_retired_key_signs_nothing_new_and_what_it_signed_stays(works: Works) -> None:
    works.release(b"firmware", "1.0.0", sequence=1)
    signing.keygen(works.folder / "new")
    new = works.folder / "new.pub"
    works.trust(signing.add_key(held(works), new, ["trust", "release"], NOW), works.key)
    works.trust(signing.retire_key(held(works), works.key_id, NOW), works.key, works.folder / "new")
    assert versions(works) == ["1.0.0"]
    works.now += 1
    with pytest.raises(SignatureError):
        works.release(b"more", "1.1.0", sequence=2)
    works.release(b"more", "1.1.0", sequence=2, key=works.folder / "new")


def test_what_only_a_revoked_key_signed_is_withdrawn_and_its_actions_stop(works: Works) -> None:
    signing.keygen(works.folder / "new")
    works.trust(signing.add_key(held(works), works.folder / "new.pub", ["trust", "release"], NOW), works.key)
    release = works.release(b"firmware", "1.0.0", sequence=1)
    works.device("car-1")
    action = works.assign("car-1", release)
    works.trust(signing.drop_key(held(works), works.key_id, NOW), works.key, works.folder / "new")
    assert versions(works) == []
    assert index(works).releases == {}
    assert works.action(action)["state"] == "canceled"
    with pytest.raises(ConflictError, match="revoked"):
        works.assign("car-1", release)


def test_trust_is_followed_one_signed_step_at_a_time(works: Works) -> None:
    signing.keygen(works.folder / "thief")
    stolen = signing.add_key(held(works), works.folder / "thief.pub", ["trust", "release"], NOW)
    with pytest.raises(SignatureError):
        works.trust(stolen, works.folder / "thief")
    works.trust(stolen, works.key)
    with pytest.raises(ManifestError, match="does not follow"):
        works.trust(replace(stolen, version=stolen.version + 2), works.key)


def test_taking_the_trust_that_holds_changes_nothing(works: Works) -> None:
    place = works.folder / "trust-1.json"
    assert signing.take_trust(works.store, place, NOW).version == 1


# --- crashes and damage ---------------------------------------------------------------------------


def test_a_reader_that_fails_half_way_leaves_nothing(works: Works) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell():
                raise OSError("the disk is gone")
            return super().read(4)

    with pytest.raises(OSError, match="disk"):
        works.store.take(Broken(b"firmware"), "0" * 64, 8, NOW)
    assert artifacts(works) == []


HALF = """
import sys
from dataclasses import replace
from pathlib import Path
from firmware_api.store import FirmwareStore
FirmwareStore(Path(sys.argv[1])).take(sys.stdin.buffer.raw, sys.argv[2], int(sys.argv[3]), 0)
"""


def test_an_uploader_killed_half_way_leaves_no_artifact_and_the_next_one_succeeds(works: Works) -> None:
    content = os.urandom(3 << 20)
    manifest, paths = works.signed(content, "1.0.0", sequence=1)
    process = subprocess.Popen(
        [sys.executable, "-c", HALF, str(works.store.folder), "0" * 64, str(len(content))],
        stdin=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(content[: 2 << 20])
    process.stdin.flush()  # more than a pipe holds: it has begun to write
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    assert artifacts(works) == []
    signing.upload(works.store, manifest, paths, NOW)
    assert versions(works) == ["1.0.0"]


def test_what_a_killed_uploader_left_is_swept(works: Works) -> None:
    old, young = works.store.incoming("old"), works.store.incoming("young")
    for part in (old, young):
        part.write_bytes(b"half")
    moment = young.stat().st_mtime
    os.utime(old, (moment - 86_500, moment - 86_500))
    works.store.sweep(moment - 86_400)
    assert (old.exists(), young.exists()) == (False, True)


def test_a_damaged_artifact_is_found_and_not_served_until_it_comes_again(works: Works) -> None:
    release = works.release(b"firmware", "1.0.0", sequence=1)
    (file,) = release.manifest.files
    works.store.artifact(file.sha256).write_bytes(b"firmwarf")
    assert works.store.scrub(NOW + DAY, NOW) == [], "checked lately"
    assert works.store.scrub(NOW + DAY, NOW + 1) == [file.sha256]
    works.store.take(io.BytesIO(b"firmware"), file.sha256, 8, NOW + DAY)
    assert works.store.scrub(NOW + 2 * DAY, NOW + 2 * DAY) == []


def test_a_write_that_fails_is_undone_whole(works: Works) -> None:
    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO targets (id, created_at) VALUES ('car-1', 0)")
        raise ConflictError("no")

    with pytest.raises(ConflictError):
        works.store.write(half)
    count = works.store.read(lambda c: c.execute("SELECT count(*) FROM targets").fetchone()[0])
    assert count == 0
