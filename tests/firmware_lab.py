"""A manufacturer's desk and a running firmware server, for tests."""

from __future__ import annotations

import hashlib
import io
import stat
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from firmware_api import actions, ddi, releases, routes, signing, targets
from firmware_api.actions import Offer
from firmware_api.ddi import DdiSettings
from firmware_api.office import Office
from firmware_api.releases import Release
from firmware_api.store import FirmwareStore, read_private_key
from firmware_api.targets import Target
from firmware_api.trust import key_id

NOW = 1_795_359_600_000
YEAR = 365 * 86_400_000


class Works:
    """A manufacturer's desk: a signing key, artifacts, a store that trusts the key; a clock set by hand."""

    def __init__(self, folder: Path, now: int = NOW) -> None:
        self.folder = folder
        self.now = now
        self.store = FirmwareStore(folder / "firmware")
        self.key = folder / "release.key"
        signing.keygen(self.key)
        self.trust(signing.init_trust(self.key, self.store.index_key().public_key(), now))

    @property
    def key_id(self) -> str:
        return key_id(read_private_key(self.key).public_key())

    def trust(self, document: Any, *signers: Path) -> None:
        place = self.folder / f"trust-{document.version}.json"
        signing.save_trust(document, place, signers or (self.key,))
        signing.take_trust(self.store, place, self.now)

    def signed(
        self,
        content: bytes | Mapping[str, bytes],
        version: str,
        *,
        sequence: int,
        key: Path | None = None,
        kind: str = "car",
        days: int = 365,
        **more: Any,
    ) -> tuple[Path, list[Path]]:
        """A manifest with its signature beside it, and the files that it names."""
        files = content if isinstance(content, Mapping) else {f"{version}.swu": content}
        desk = self.folder / f"release-{version}"
        desk.mkdir(exist_ok=True)
        for name, data in files.items():
            (desk / name).write_bytes(data)
        paths = [desk / name for name in files]
        manifest, _ = signing.sign(
            paths,
            key or self.key,
            version=version,
            kind=kind,
            sequence=sequence,
            now=self.now,
            expires=self.now + days * 86_400_000,
            **more,
        )
        return manifest, paths

    def release(
        self, content: bytes | Mapping[str, bytes], version: str, *, sequence: int, **more: Any
    ) -> Release:
        manifest, paths = self.signed(content, version, sequence=sequence, **more)
        return signing.upload(self.store, manifest, paths, self.now)

    def device(self, target: str, **more: Any) -> str:
        """A registered device's token."""
        more = {"kind": "car", "model": "Arden 5", **more}
        self.register([Target(id=target, **more)])
        return self.store.write(lambda c: targets.issue_token(c, target))

    def register(self, devices: Sequence[Target]) -> None:
        self.store.write(lambda c: targets.register(c, devices, self.now))

    def assign(self, target: str, release: Release, **more: Any) -> int:
        return self.store.write(
            lambda c: actions.assign(c, target, Offer(release=release.id, **more), self.now)
        )

    def cancel(self, action: int) -> None:
        self.store.write(lambda c: actions.cancel(c, action, self.now))

    def action(self, action: int) -> dict[str, Any]:
        row = self.store.read(lambda c: c.execute("SELECT * FROM actions WHERE id = ?", (action,)).fetchone())
        return dict(row)

    def history(self, action: int) -> list[str]:
        """What was written down about an action, the oldest first."""
        lines = self.store.read(lambda c: actions.history(c, action))
        return [line["status"] for line in reversed(lines)]

    def target(self, target: str) -> dict[str, Any]:
        return dict(
            self.store.read(lambda c: c.execute("SELECT * FROM targets WHERE id = ?", (target,)).fetchone())
        )

    def find(self, version: str, kind: str = "car") -> Release | None:
        return self.store.read(lambda c: releases.find(c, kind, version))


@asynccontextmanager
async def serving(
    works: Works, settings: DdiSettings | None = None, port: int = 0, **more: Any
) -> AsyncIterator[str]:
    """The address of a server that speaks DDI and serves releases."""
    settings = settings or DdiSettings(polling="00:00:01")
    app = web.Application()
    office = Office(works.store, lambda: works.now)
    app.add_subapp(ddi.prefix(settings), ddi.application(office, settings))
    app.add_subapp("/firmware", routes.application(works.store))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, **more)
    await site.start()
    scheme = "https" if "ssl_context" in more else "http"
    try:
        yield f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
        await office.close()


# --- what SWUpdate installs -------------------------------------------------------------------


class SwuMaker:
    """Makes updates that Debian's SWUpdate takes: it wants them signed (CMS, detached, RFC 5652)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "updates")])
        begin = datetime(2020, 1, 1, tzinfo=UTC)
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(1)
            .not_valid_before(begin)
            .not_valid_after(begin.replace(year=2049))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(purpose, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        self.trusted = folder / "updates.pem"
        self.trusted.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def __call__(self, version: str, *, script: str = "exit 0") -> bytes:
        """An update that runs a shell script and puts a file into the folder."""
        shell = f'#!/bin/sh\n[ "$1" = preinst ] || exit 0\n{script}\n'.encode()
        members = {"script.sh": shell, "installed": version.encode()}
        sha256 = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
        description = (
            f'software = {{ version = "{version}"; hardware-compatibility: [ "1.0" ]; '
            f'files: ( {{ filename = "installed"; path = "{self.folder}/installed"; '
            f'sha256 = "{sha256["installed"]}"; }} ); '
            f'scripts: ( {{ filename = "script.sh"; type = "shellscript"; '
            f'sha256 = "{sha256["script.sh"]}"; }} ); }};'
        ).encode()
        signature = (
            pkcs7.PKCS7SignatureBuilder()
            .set_data(description)
            .add_signer(self.certificate, self.key, hashes.SHA256())
            .sign(Encoding.DER, [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary])
        )
        return cpio({"sw-description": description, "sw-description.sig": signature, **members})


def cpio(members: Mapping[str, bytes]) -> bytes:
    """An archive in the format `newc` with checksums, in the order given (cpio(5))."""
    out = io.BytesIO()
    for number, (name, data) in enumerate([*members.items(), ("TRAILER!!!", b"")], start=1):
        end = name == "TRAILER!!!"
        mode = 0 if end else stat.S_IFREG | 0o755
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, sum(data) & 0xFFFFFFFF)
        out.write(b"070702" + b"".join(f"{field:08X}".encode() for field in fields))
        out.write(name.encode() + b"\0")
        out.write(b"\0" * (-out.tell() % 4))
        out.write(data)
        out.write(b"\0" * (-out.tell() % 4))
    out.write(b"\0" * (-out.tell() % 512))
    return out.getvalue()


# --- certificates -----------------------------------------------------------------------------


def certificate(folder: Path, name: str, issuer: Any = None) -> tuple[x509.Certificate, Any]:
    """A certificate and its key, in `name`.pem; issued by itself, or by another."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    by, signer = issuer or (None, key)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin.replace(year=2049))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / f"{name}.pem").write_bytes(made.public_bytes(Encoding.PEM) + pem)
    return made, key
