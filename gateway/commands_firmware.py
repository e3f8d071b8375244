"""What `touchpoint firmware …` does, on the store in data_dir; the signing needs no store and no network."""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from firmware_api import actions, commands, releases, rollouts, targets
from firmware_api.actions import Offer
from firmware_api.release import FirmwareError, UnknownError
from firmware_api.store import FirmwareStore
from gateway.commands import settings_of, show


def _folder(arguments: argparse.Namespace) -> Path:
    return settings_of(arguments).data_dir / "firmware"


def _now() -> int:
    return time.time_ns() // 1_000_000


def keygen(arguments: argparse.Namespace) -> int:
    """Make a signing key pair."""
    return commands.keygen(arguments.path)


def sign(arguments: argparse.Namespace) -> int:
    """Sign artifacts as a release, or add a signature to a document."""
    if arguments.again is not None:
        return commands.sign_again(arguments.again, arguments.key)
    return commands.sign(
        arguments.artifact,
        key=arguments.key,
        version=arguments.version,
        sequence=arguments.sequence,
        kind=arguments.kind,
        models=arguments.model,
        hardware=arguments.hardware,
        lowest=arguments.lowest,
        expires=arguments.expires,
        downgrade=arguments.downgrade,
        minutes=arguments.minutes,
        notes=arguments.note,
    )


def key_init(arguments: argparse.Namespace) -> int:
    """Make the first trust document."""
    return commands.key_init(_folder(arguments), arguments.signer[0], arguments.out)


def key_add(arguments: argparse.Namespace) -> int:
    """Trust one key more."""
    return commands.key_add(
        _folder(arguments), arguments.key, arguments.role, arguments.signer, arguments.held, arguments.out
    )


def key_retire(arguments: argparse.Namespace) -> int:
    """A key signs nothing new."""
    return commands.key_retire(
        _folder(arguments), arguments.key, arguments.signer, arguments.held, arguments.out
    )


def key_revoke(arguments: argparse.Namespace) -> int:
    """Nothing that a key has signed counts any more."""
    return commands.key_revoke(
        _folder(arguments), arguments.key, arguments.signer, arguments.held, arguments.out
    )


def key_list(arguments: argparse.Namespace) -> int:
    """The keys that are trusted."""
    show(commands.keys(_folder(arguments)), as_json=arguments.json, empty="nobody is trusted yet")
    return 0


def trust(arguments: argparse.Namespace) -> int:
    """Follow a signed trust document."""
    return commands.trust(_folder(arguments), arguments.document)


def upload(arguments: argparse.Namespace) -> int:
    """Check a signed release and store it."""
    return commands.upload(_folder(arguments), arguments.manifest, arguments.artifact)


def withdraw(arguments: argparse.Namespace) -> int:
    """No device gets a release any more."""
    return commands.withdraw(_folder(arguments), arguments.kind, arguments.version)


def verify(arguments: argparse.Namespace) -> int:
    """Read every artifact back."""
    return commands.verify(_folder(arguments))


def releases_list(arguments: argparse.Namespace) -> int:
    """Releases in store."""
    show(commands.listed(_folder(arguments)), as_json=arguments.json, empty="no releases yet")
    return 0


def device(arguments: argparse.Namespace) -> int:
    """Issue a device's token."""
    return commands.device(_folder(arguments), arguments.device, arguments.kind, arguments.model)


def describe(arguments: argparse.Namespace) -> int:
    """Say what rollouts choose a device by."""

    def work(connection: sqlite3.Connection) -> None:
        if arguments.tag is not None:
            targets.set_tags(connection, arguments.device, arguments.tag)
        targets.describe(connection, arguments.device, arguments.country, arguments.hardware)

    return _refused(lambda: _store(arguments).write(work) or 0)


def history(arguments: argparse.Namespace) -> int:
    """What a device was given, and what it reported on it."""

    def work(connection: sqlite3.Connection) -> list[dict[str, Any]]:
        return [
            {
                "action": one["id"],
                "version": one["version"],
                "state": one["state"],
                "at": _moment(line["at"]),
                "report": line["status"],
                "said": "; ".join(line["messages"]),
            }
            for one in actions.of_device(connection, arguments.device)
            for line in actions.history(connection, one["id"])
        ]

    def say() -> int:
        found = _store(arguments).read(work)
        show(found, as_json=arguments.json, empty="nothing was installed from here yet")
        return 0

    return _refused(say)


def assign(arguments: argparse.Namespace) -> int:
    """Give one device a release; what it had open is cancelled first."""

    def work(connection: sqlite3.Connection) -> int:
        kind = targets.kind_of(connection, arguments.device)
        if kind is None:
            known = f"touchpoint firmware device {arguments.device} --kind KIND"
            raise UnknownError(f"nobody has said what {arguments.device} is: register it, or {known}")
        found = releases.find(connection, kind, arguments.version)
        if found is None:
            raise UnknownError(f"there is no {kind} {arguments.version}: touchpoint firmware list")
        asks = not arguments.without_asking and targets.is_owned(connection, arguments.device)
        offer = Offer(release=found.id, mode=arguments.mode, consent=asks)
        return actions.assign(connection, arguments.device, offer, _now())

    def say() -> int:
        print(f"action {_store(arguments).write(work)}: {arguments.device} is offered {arguments.version}")
        return 0

    return _refused(say)


def cancel(arguments: argparse.Namespace) -> int:
    """Ask a device to stop what it is at."""

    def work(connection: sqlite3.Connection) -> str:
        for one in actions.of_device(connection, arguments.device):
            if one["open"] and one["state"] != actions.State.CANCELING:
                return str(actions.cancel(connection, one["id"], _now()))
        raise UnknownError(f"{arguments.device} is at nothing")

    def say() -> int:
        print(f"{arguments.device}: {_store(arguments).write(work)}")
        return 0

    return _refused(say)


# --- rollouts -------------------------------------------------------------------------------------


def _store(arguments: argparse.Namespace) -> FirmwareStore:
    return FirmwareStore(_folder(arguments))


def _refused(work: Callable[[], int]) -> int:
    try:
        return work()
    except FirmwareError as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def rollout_new(arguments: argparse.Namespace) -> int:
    """Make a rollout from a plan, or say what it would do."""

    def work() -> int:
        store, now = _store(arguments), _now()
        plan = rollouts.Plan.from_json(arguments.plan.read_text())
        found = store.read(lambda c: releases.find(c, arguments.kind, arguments.version))
        if found is None:
            raise UnknownError(f"there is no {arguments.kind} {arguments.version}")
        if arguments.dry_run:
            groups = store.read(lambda c: rollouts.dry_run(c, found.id, plan, now))
            _show_dry(groups, as_json=arguments.json)
            return 0
        name = arguments.name or f"{arguments.kind} {arguments.version}"
        number = store.write(lambda c: rollouts.create(c, name, found.id, plan, now, "command line"))
        print(f"rollout {number} is ready; touchpoint firmware rollout start {number}")
        return 0

    return _refused(work)


def _show_dry(groups: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(groups))
        return
    rows = [
        {
            "group": group["name"],
            "devices": len(group["devices"]),
            "first, at the earliest": _moment(group["first"]),
            "last": _moment(group["last"]),
            "among them": ", ".join(group["devices"][:3]),
        }
        for group in groups
    ]
    show(rows, as_json=False, empty="no groups")


def rollout_list(arguments: argparse.Namespace) -> int:
    """Rollouts, the newest first."""
    found = _store(arguments).read(rollouts.listed)
    rows = [{"id": one.id, "name": one.name, "state": one.state, "reason": one.reason or ""} for one in found]
    show(rows, as_json=arguments.json, empty="no rollouts yet")
    return 0


def rollout_show(arguments: argparse.Namespace) -> int:
    """How far a rollout is, group by group."""

    def work() -> int:
        store = _store(arguments)
        one = store.read(lambda c: rollouts.get(c, arguments.rollout))
        groups = store.read(lambda c: rollouts.picture(c, arguments.rollout))
        if not arguments.json:
            print(f"{one.name}: {one.state}{f', {one.reason}' if one.reason else ''}")
        columns = ("name", "state", "size", "scheduled", "waiting", "running", "silent", "finished", "failed")
        rows = [{column: getattr(group, column) for column in columns} for group in groups]
        show(rows, as_json=arguments.json, empty="no groups")
        return 0

    return _refused(work)


def rollout_steer(arguments: argparse.Namespace) -> int:
    """start, pause, resume or stop a rollout."""

    def work() -> int:
        store, now = _store(arguments), _now()
        moved = store.write(
            lambda c: rollouts.steer(c, arguments.rollout, arguments.rollout_command, now, "command line")
        )
        print(f"{moved.name}: {moved.state}")
        return 0

    return _refused(work)
