"""`touchpoint sim run` and `sim replay`: play a scenario, or recorded readings, against a broker."""

from __future__ import annotations

import argparse
import asyncio
import csv
import gzip
import json
import re
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from device_sim.fleet import PREFIX, Fleet, payload
from device_sim.load import Counts, Load, LoadError, Plan
from device_sim.load import as_text as load_text
from device_sim.mqtt import Broker, BrokerError, Devices, Publisher
from device_sim.player import Player
from device_sim.scenario import Scenario, ScenarioError
from device_sim.tidy import write

PROGRESS_S = 5.0
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")


class ReplayError(Exception):
    """The file cannot be replayed: what is wrong, with its line."""


# --- the commands ------------------------------------------------------------------------------


def run(arguments: argparse.Namespace) -> int:
    """Play a scenario's devices in fast motion until the end, `--until` or Ctrl-C."""
    return _finished(lambda: _run(arguments))


def replay(arguments: argparse.Namespace) -> int:
    """Publish a tidy CSV(.gz) at a speed or as fast as the broker acknowledges."""
    return _finished(lambda: _replay(arguments))


def load(arguments: argparse.Namespace) -> int:
    """Load a broker, bounded in messages and time."""
    try:
        broker = _broker(arguments)
        allow_files(arguments.connections + 100)
        plan = Plan(
            host=broker.host,
            port=broker.port,
            username=broker.username,
            password=broker.password,
            tls=broker.tls,
            connections=arguments.connections,
            messages=arguments.messages,
            seconds=arguments.seconds,
            rate=arguments.rate,
            qos=arguments.qos,
            version=5 if arguments.mqtt == "5" else 4,
            shape=arguments.shape,
            devices=arguments.devices,
            inflight=arguments.inflight,
            hold=arguments.hold,
            poison=arguments.poison,
            twice=arguments.twice,
            drop=arguments.drop,
            seed=arguments.seed,
        )
        figures = Load(plan).run(_load_progress())
    except (BrokerError, LoadError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(json.dumps(figures) if arguments.json else "\n".join(load_text(figures)))
    return 0


def allow_files(wanted: int) -> None:
    """Raise the limit of open files as far as it may be. Raises LoadError when that is too little."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise LoadError(f"{wanted} open files are needed, {hard} are allowed: raise ulimit -Hn")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _load_progress() -> Callable[[Counts], None]:
    told = time.monotonic()

    def tell(counts: Counts) -> None:
        nonlocal told
        if time.monotonic() - told >= PROGRESS_S:
            told = time.monotonic()
            print(f"{counts.connected} connections, {counts.acknowledged} acknowledged", file=sys.stderr)

    return tell


def _finished(work: Callable[[], Awaitable[Mapping[str, Any]]]) -> int:
    """Print what came of it as one JSON line: 0, 2 when it could not be done, 130 when it was interrupted."""

    async def go() -> Mapping[str, Any]:
        return await work()

    try:
        print(json.dumps(asyncio.run(go())))
    except (BrokerError, ScenarioError, ReplayError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _broker(arguments: argparse.Namespace) -> Broker:
    return Broker.parse(
        arguments.broker,
        username=arguments.username or None,
        password=arguments.password or None,
        ca_file=getattr(arguments, "ca_file", None),
        certs=getattr(arguments, "certs", None),
    )


async def _run(arguments: argparse.Namespace) -> Mapping[str, Any]:
    scenario = Scenario.load(arguments.scenario)
    if arguments.out is not None:
        return _written(scenario, arguments.seed, arguments.out, arguments.jobs)
    scenario = scenario.peopled(arguments.seed)
    fleet = Fleet(scenario, arguments.seed)
    devices = Devices(
        _broker(arguments),
        fleet.units,
        forms={device.id: device.format for device in scenario.part.devices},
        certificates={device.id: device.certificate or device.id for device in scenario.part.devices},
        on_rebirth=lambda device: fleet.units[device].reborn(),
    )
    async with devices:
        player = Player(scenario, arguments.seed, devices.publish, fleet=fleet)
        print(f"{scenario.name}: {scenario.part.about}", file=sys.stderr)
        await player.play_history()
        began = time.monotonic()
        span = (scenario.end - scenario.start) / 1000 / arguments.speed
        await play_at(player, arguments.speed, min(span, arguments.until or span))
        seconds = round(time.monotonic() - began, 3)
    return {
        "scenario": scenario.name,
        "seed": arguments.seed,
        "devices": len(scenario.devices),
        "messages": player.published,
        "until": _rfc3339(player.now),
        "seconds": seconds,
    }


def _written(scenario: Scenario, seed: int, folder: Path, jobs: int) -> Mapping[str, Any]:
    """As files, as fast as it can be played."""
    began = told = time.monotonic()

    def tell(ts: int, rows: int) -> None:
        nonlocal told
        if time.monotonic() - told >= PROGRESS_S:
            told = time.monotonic()
            print(f"{scenario.local(ts):%a %d %b %Y}  {rows} readings", file=sys.stderr)

    try:
        counts = write(scenario, seed, folder, jobs=jobs, told=tell)
    except OSError as error:
        raise ReplayError(f"{folder} cannot be written: {error.strerror}") from error
    seconds = round(time.monotonic() - began, 1)
    return {"scenario": scenario.name, "seed": seed, **counts, "out": str(folder), "seconds": seconds}


async def play_at(
    player: Player,
    speed: float,
    seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Play for `seconds` of `clock`, each of them `speed` seconds of the scenario."""
    began, told = clock(), clock()
    end = player.scenario.start + round(seconds * speed * 1000)
    while (at := player.next_at()) is not None and at <= end:
        wait = began + (at - player.scenario.start) / 1000 / speed - clock()
        if wait > 0:
            await sleep(wait)
        await player.play_until(at)
        if clock() - told >= PROGRESS_S:
            told = clock()
            print(f"{player.scenario.local(at):%a %d %b %H:%M}  {player.published} messages", file=sys.stderr)
    left = began + seconds - clock()
    if left > 0:
        await sleep(left)
    await player.play_until(end)


# --- replay ------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One row of a tidy file."""

    device: str
    ts: int
    signals: dict[str, Any]


async def _replay(arguments: argparse.Namespace) -> Mapping[str, Any]:
    speed = None if arguments.speed == "max" else float(arguments.speed)
    if speed is not None and speed <= 0:
        raise ReplayError(f"--speed {arguments.speed}: a number above 0, or max")
    async with Publisher(_broker(arguments)) as publisher:
        began = time.monotonic()
        told = await replay_rows(rows(arguments.file), publisher.publish, speed)
        await publisher.drain()
        seconds = time.monotonic() - began
    rate = round(told["messages"] / seconds) if seconds else 0
    return {**told, "seconds": round(seconds, 3), "messages_per_second": rate}


async def replay_rows(
    readings: Iterator[Row],
    publish: Callable[[str, bytes], Awaitable[None]],
    speed: float | None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> dict[str, Any]:
    """Publish every row as one message, at `speed` times real time (None: at once); gives the counts."""
    sequence: dict[str, int] = {}
    began = told = clock()
    first = last = None
    count = 0
    for row in readings:
        first = row.ts if first is None else first
        last = row.ts if last is None else max(last, row.ts)
        if speed is not None and (wait := began + (row.ts - first) / 1000 / speed - clock()) > 0:
            await sleep(wait)
        sequence[row.device] = sequence.get(row.device, 0) + 1
        body = {"ts": row.ts, "seq": sequence[row.device], "signals": row.signals}
        await publish(f"{PREFIX}/{row.device}/telemetry", payload(body))
        count += 1
        if clock() - told >= PROGRESS_S:
            told = clock()
            print(f"{count} messages, at {_rfc3339(row.ts)}", file=sys.stderr)
    span = {} if first is None or last is None else {"first_ts": _rfc3339(first), "last_ts": _rfc3339(last)}
    return {"messages": count, "devices": len(sequence), **span}


def rows(path: Path) -> Iterator[Row]:
    """The rows of a tidy file: columns `device`, `ts` (epoch ms or RFC 3339), one per signal; `name[]` holds
    a list, its items separated by `|`; an empty cell is an absent signal. Raises ReplayError."""
    try:
        with _opened(path) as file:
            yield from _parsed(csv.reader(file))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise ReplayError(f"{path}: {error}") from error
    except ReplayError as error:
        raise ReplayError(f"{path}: {error}") from None


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return open(path, encoding="utf-8", newline="")


def _parsed(lines: Iterator[list[str]]) -> Iterator[Row]:
    header = next(lines, [])
    if header[:2] != ["device", "ts"]:
        raise ReplayError(f"the first columns have to be device,ts, not {','.join(header[:2]) or 'nothing'}")
    columns = [(name.removesuffix("[]"), name.endswith("[]")) for name in header[2:]]
    for number, line in enumerate(lines, start=2):
        if len(line) != len(header):
            raise ReplayError(f"line {number}: {len(line)} cells, but {len(header)} columns")
        signals = {
            name: cell.split("|") if is_list else _value(cell)
            for (name, is_list), cell in zip(columns, line[2:], strict=True)
            if cell != ""
        }
        if signals:
            yield Row(line[0], _ts(line[1], number), signals)


def _ts(text: str, line: int) -> int:
    if _INTEGER.fullmatch(text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ReplayError(f"line {line}: {text!r} is no time; epoch ms or RFC 3339 is expected") from None
    if moment.tzinfo is None:
        raise ReplayError(f"line {line}: {text!r} has no time zone")
    return round(moment.timestamp() * 1000)


def _value(cell: str) -> Any:
    """The cell as JSON has it: a whole number, another number, true or false, else text."""
    if _INTEGER.fullmatch(cell):
        return int(cell)
    if _NUMBER.fullmatch(cell):
        return float(cell)
    return {"true": True, "false": False}.get(cell.lower(), cell)


def _rfc3339(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
