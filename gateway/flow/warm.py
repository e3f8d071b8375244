"""warm: what a new rule set's windows would hold had it always been there, from the time series.

The engine takes no more of it than up to the newest reading that it knows of the device, so that nothing
counts twice when the log goes on. Where the store is away or holds less, a window begins empty, and what it
is asked for is unknown until enough has come; it is warmed at the next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from gateway.ports import Clock, Journal, StoreUnavailableError, TimeSeries
from rules import Engine
from rules.readings import Value

PAGE = 10_000
"""Readings asked for at a time."""
AT_ONCE = 8
"""Devices whose history is read at the same time."""
RECORD_WAIT_MS = 10_000
"""How long record is waited for when it has not stored everything that the rules have seen."""
LOOK_EVERY_MS = 50

log = structlog.get_logger()


async def recorded(journal: Journal, clock: Clock, position: int) -> bool:
    """Return when the time series holds everything up to a position, or when that takes too long."""
    until = clock.now() + RECORD_WAIT_MS
    while clock.now() < until:
        reader = journal.status()["readers"].get("record")
        if reader is None or reader["position"] >= position:
            return reader is not None
        await clock.wait(asyncio.Event(), min(until, clock.now() + LOOK_EVERY_MS))
    log.warning("rules_warm_early", effect="the newest readings are not in the time series yet")
    return False


async def warm(
    engine: Engine, timeseries: TimeSeries, newest: Callable[[str], int | None], *, again: bool = False
) -> int:
    """Fill the windows that the engine misses, device by device; gives how many devices were warmed.

    `newest` gives the ts of a device's newest reading. A store that is away is said, and no trouble. `again`:
    they have missed something for a while, and keep what came since where the store holds nothing."""
    devices = engine.cold_devices()
    if not devices:
        return 0
    log.info("rules_warm_begins", devices=len(devices))
    try:
        for start in range(0, len(devices), AT_ONCE):
            some = devices[start : start + AT_ONCE]
            await asyncio.gather(
                *(_warm_one(engine, timeseries, device, newest(device), again=again) for device in some)
            )
            await asyncio.sleep(0)
    except StoreUnavailableError as error:
        log.warning("rules_not_warmed", problem=str(error), effect="new windows fill as readings come")
    cold = len(engine.cold_devices())
    log.info("rules_warmed", devices=len(devices) - cold, cold=cold)
    return len(devices) - cold


async def _warm_one(
    engine: Engine, timeseries: TimeSeries, device: str, newest: int | None, *, again: bool
) -> None:
    """Every signal of which something is missing, as far back as the longest of its windows reaches."""
    longest: dict[str, int] = {}
    for signal, span in engine.missing_windows(device):
        longest[signal] = max(span, longest.get(signal, 0))
    for signal, span in longest.items():
        start = None if newest is None else newest - 2 * span
        readings = await _history(timeseries, device, signal, start)
        if readings or not again:
            engine.warm(device, signal, readings)


async def _history(
    timeseries: TimeSeries, device: str, signal: str, start: int | None
) -> list[tuple[int, Value]]:
    """All readings since `start`, oldest first."""
    readings: list[tuple[int, Value]] = []
    after: int | None = None
    while True:
        page = await timeseries.readings(device, signal, start=start, end=None, after=after, limit=PAGE)
        readings += page
        if len(page) < PAGE:
            return readings
        after = page[-1][0]
