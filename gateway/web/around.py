"""What a product sent around a moment, read from the time series for an owner's report."""

from __future__ import annotations

from gateway.domain.device import Facts
from gateway.flow import reports
from gateway.ports import StoreUnavailableError
from gateway.web.context import Context
from gateway.web.rights import Interval, within

SIGNALS_MOST = 40
READINGS_MOST = 200
"""of one signal: what half an hour holds at one reading every ten seconds"""


async def readings(
    context: Context, facts: Facts, spans: list[Interval], now: int
) -> dict[str, list[tuple[int, object]]]:
    """Readings of the last minutes, of the signals that were heard then; what lies outside of the owner's own
    time is left out. Nothing where the store is away: a report must not wait for it."""
    start = now - reports.AROUND_MS
    heard = [name for name, (ts, _) in facts.latest.items() if ts >= start and within(spans, ts)]
    found: dict[str, list[tuple[int, object]]] = {}
    try:
        for name in sorted(heard)[:SIGNALS_MOST]:
            rows = await context.timeseries.readings(
                facts.device, name, start=start, end=now + 1, after=None, limit=READINGS_MOST
            )
            found[name] = [(ts, value) for ts, value in rows if within(spans, ts)]
    except StoreUnavailableError:
        return found
    return found
