"""`touchpoint import`: owners, devices and workshops from a file, all of them or none.

One CSV, its first line the names. The column `type` says what a line is; the others are the names that the
API has (POST /owners, /devices, /workshops), and an empty cell is one that was left out. What is a list or an
object there is JSON here. Owners take `consents` besides: purposes, parted by blanks. Each line is held
against the model that the API takes, so that what is good here is good there.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from gateway.commands import settings_of, with_stores
from gateway.domain.device import Device
from gateway.domain.errors import CannotStartError, InvalidError, TouchpointError
from gateway.domain.ids import new_id
from gateway.domain.owner import Owner
from gateway.domain.policy import Policy
from gateway.flow import agree, outgoing, recalls
from gateway.flow.consents import purposes
from gateway.parts import Stores, make_policy
from gateway.ports import Records
from gateway.sources import load_rules, load_signals, rule_texts, signal_texts
from gateway.web.api.devices import began, there
from gateway.web.api.shapes import DeviceIn, OwnerIn, WorkshopIn
from gateway.web.api.workshops import of_body
from gateway.web.problems import faults_of

MODELS: Mapping[str, type[BaseModel]] = {"workshop": WorkshopIn, "owner": OwnerIn, "device": DeviceIn}
"""By type, in the order in which they are taken: a device names its owner and its workshop."""
FAULTS_MOST = 100
EVERY = 5_000
"""Lines after which standard error says how far it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line that can be taken."""

    number: int
    kind: str
    body: Any
    consents: tuple[str, ...] = ()


class FaultyError(Exception):
    """The file cannot be taken; nothing was."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__(f"{len(faults)} faults")
        self.faults = faults


def import_file(arguments: argparse.Namespace) -> int:
    """0: everything was taken; 1: nothing was, every fault is named by its line."""
    try:
        lines = read(Path(arguments.file))
        settings = settings_of(arguments)
        signals = load_signals(signal_texts(settings.signals.paths))
        policy = make_policy(settings, load_rules(rule_texts(settings.rules.paths), signals))
        kinds = frozenset(signals.kinds)
        taken = with_stores(arguments, lambda stores: _write(stores, lines, kinds, policy))
    except FaultyError as error:
        for fault in error.faults[:FAULTS_MOST]:
            print(fault, file=sys.stderr)
        if len(error.faults) > FAULTS_MOST:
            print(f"and {len(error.faults) - FAULTS_MOST} more", file=sys.stderr)
        print("nothing was taken", file=sys.stderr)
        return 1
    print(json.dumps(taken) if arguments.json else ", ".join(f"{name}s: {n}" for name, n in taken.items()))
    return 0


# --- reading ------------------------------------------------------------------------------------


def read(path: Path) -> list[Line]:
    """The lines of a file, those that others name first. Raises FaultyError, CannotStartError where there is
    no file that can be read."""
    lines, faults = [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in _rows(file):
                found, wrong = _line(number, row)
                faults += [f"line {number}: {fault}" for fault in wrong]
                if found is not None:
                    lines.append(found)
    except OSError as error:
        raise CannotStartError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CannotStartError(f"{path} is not UTF-8 ({error}): save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise CannotStartError(f"{path} cannot be read as CSV: {error}") from error
    if not lines and not faults:
        faults = ["line 1: there is nothing to take; the first line holds the names, `type` among them."]
    if faults:
        raise FaultyError(faults)
    order = list(MODELS)
    return sorted(lines, key=lambda line: (order.index(line.kind), line.number))


def _rows(file: Any) -> Iterator[tuple[int, dict[str, str]]]:
    """(number of its first line, {name: cell}) of every line that has any; what has no name is under None."""
    reader = csv.DictReader(file, restkey="", strict=True)
    names = reader.fieldnames or ()
    if names and "type" not in names:
        raise FaultyError([_without_type(names)])
    for row in reader:
        filled = {name: cell for name, cell in row.items() if cell}
        if filled:
            yield reader.line_num, filled


def _without_type(names: Sequence[str]) -> str:
    """Said once, not of every line."""
    other = next(
        (f" Cells are parted by commas here, not by {mark!r}." for mark in ";\t|" if mark in names[0]), ""
    )
    return f"line 1: `type` is not among the names; there are: {', '.join(names)}.{other}"


def _line(number: int, row: dict[str, Any]) -> tuple[Line | None, list[str]]:
    kind = str(row.pop("type", "")).strip()
    if kind not in MODELS:
        return None, [f"type: {kind!r} is none of {', '.join(MODELS)}."]
    if "" in row:
        return None, ["there are more cells than names."]
    consents = tuple(str(row.pop("consents", "")).split()) if kind == "owner" else ()
    model = MODELS[kind]
    given, faults = _values(row)
    try:
        body = model.model_validate(given)
    except ValidationError as error:
        return None, faults + [fault.detail for fault in faults_of(error, model)]
    return (None if faults else Line(number=number, kind=kind, body=body, consents=consents)), faults


def _values(row: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The cells as values: JSON where one begins like a list or an object."""
    given: dict[str, Any] = {}
    faults = []
    for name, cell in row.items():
        text = cell.strip()
        given[name] = text
        if text[:1] in ("[", "{"):
            try:
                given[name] = json.loads(text)
            except ValueError as error:
                faults.append(f"{name}: it begins like JSON and is none: {error}.")
    return given, faults


# --- writing ------------------------------------------------------------------------------------


async def _write(stores: Stores, lines: list[Line], kinds: frozenset[str], policy: Policy) -> dict[str, int]:
    now = time.time_ns() // 1_000_000
    return await stores.database.write(lambda records: take(records, lines, kinds, now, policy))


def take(
    records: Records, lines: list[Line], kinds: frozenset[str], now: int, policy: Policy
) -> dict[str, int]:
    """Take all lines; {type: how many}. Raises FaultyError with every line that the records refuse; then
    nothing of the transaction may stay."""
    faults = []
    for done, line in enumerate(lines, start=1):
        try:
            TAKES[line.kind](records, line, kinds, now, policy)
        except TouchpointError as error:
            faults.append(f"line {line.number}: {error}")
        if done % EVERY == 0:
            print(f"{done} of {len(lines)}", file=sys.stderr)
    if faults:
        raise FaultyError(faults)
    return {kind: sum(line.kind == kind for line in lines) for kind in MODELS}


def _workshop(records: Records, line: Line, kinds: frozenset[str], now: int, policy: Policy) -> None:
    records.workshops.add(of_body(line.body, line.body.id or new_id(now), now))


def _owner(records: Records, line: Line, kinds: frozenset[str], now: int, policy: Policy) -> None:
    owner = Owner(**{**line.body.model_dump(), "id": line.body.id or new_id(now), "created": now})
    records.owners.add(owner)
    asked = purposes(records, owner.id, policy) if line.consents else []
    for purpose in line.consents:
        if purpose not in asked:
            known = ", ".join(asked)
            raise InvalidError(
                f"consents: nobody is asked about {purpose!r}; known are {known}, parted by blanks."
            )
        by = agree.By(name="operator", source="import")
        agree.agree(records, owner.id, purpose, True, by, now, policy)


def _device(records: Records, line: Line, kinds: frozenset[str], now: int, policy: Policy) -> None:
    body: DeviceIn = line.body
    if body.kind not in kinds:
        raise InvalidError(f"kind: {body.kind} is not known; known are {', '.join(sorted(kinds))}.")
    for name, key, look in (
        ("owner", body.owner, records.owners.get),
        ("workshop", body.workshop, records.workshops.get),
    ):
        if key is not None and not there(look, key):
            raise InvalidError(f"{name}: there is no {name} {key}.")
    device = Device(**body.model_dump(), created=min(now, began(body.purchased, now)))
    records.devices.add(device)
    recalls.taken_over(records, device.id, now, policy)
    outgoing.queue_device(records, device, now)


TAKES = {"workshop": _workshop, "owner": _owner, "device": _device}
