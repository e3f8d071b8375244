"""warm: what a new rule set's windows would hold had it always been there, from the time series.

Only what the rules have seen of a device already is taken: the newest reading they know ends what is asked
for, so that nothing comes twice when the log goes on. Where the store is away or holds less, a window
begins empty, and what it is asked for is unknown until enough has come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from gateway.ports import Clock, Journal, StoreUnavailableError, TimeSeries
from rules import Engine

PAGE = 10_000
"""Readings asked for at a time."""
AT_ONCE = 8
"""Devices whose history is read at the same time."""
RECORD_WAIT_MS = 10_000
"""How long the time series is waited for when it has not recorded everything that the rules have seen."""
LOOK_EVERY_MS = 50

log = structlog.get_logger()


async def recorded(journal: Journal, clock: Clock, position: int) -> bool:
    """Return when the time series holds everything up to a position, or when it takes too long."""
    until = clock.now() + RECORD_WAIT_MS
    while clock.now() < until:
        reader = journal.status()["readers"].get("record")
        if reader is None or reader["position"] >= position:
            return reader is not None
        await clock.wait(asyncio.Event(), min(until, clock.now() + LOOK_EVERY_MS))
    return False


async def warm(engine: Engine, timeseries: TimeSeries, devices: Sequence[tuple[str, int]]) -> int:
    """Fill the windows that the engine misses for (device, its newest reading's ts); gives how many windows
    got something. Raises StoreUnavailableError."""
    filled = 0
    for start in range(0, len(devices), AT_ONCE):
        some = devices[start : start + AT_ONCE]
        filled += sum(await asyncio.gather(*(_warm_one(engine, timeseries, *device) for device in some)))
        await asyncio.sleep(0)
    return filled


async def _warm_one(engine: Engine, timeseries: TimeSeries, device: str, newest: int) -> int:
    filled = 0
    for signal, span in engine.missing_windows(device):
        filled += await _fill(engine, timeseries, device, signal, newest - span, newest + 1)
    return filled


async def _fill(
    engine: Engine, timeseries: TimeSeries, device: str, signal: str, start: int, end: int
) -> bool:
    """One signal's history into the windows that miss it, oldest first."""
    readings = []
    after: int | None = None
    while True:
        page = await timeseries.readings(device, signal, start=start, end=end, after=after, limit=PAGE)
        readings += page
        if len(page) < PAGE:
            break
        after = page[-1][0]
    if readings:
        engine.warm(device, signal, readings)
    return bool(readings)


async def warm_all(
    engine: Engine,
    timeseries: TimeSeries,
    journal: Journal,
    clock: Clock,
    devices: Sequence[tuple[str, int]],
    position: int,
) -> None:
    """As `warm`, for whoever has just let a rule set hold at a position; a store that is away is said."""
    missing = [device for device in devices if engine.missing_windows(device[0])]
    if not missing:
        return
    if not await recorded(journal, clock, position):
        log.warning("rules_warm_early", effect="the newest readings are not in the time series yet")
    log.info("rules_warm_begins", devices=len(missing), position=position)
    try:
        filled = await warm(engine, timeseries, missing)
    except StoreUnavailableError as error:
        log.warning("rules_not_warmed", problem=str(error), effect="new windows fill as readings come")
    else:
        log.info("rules_warmed", devices=len(missing), windows=filled)
