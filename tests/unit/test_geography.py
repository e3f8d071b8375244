"""Wall clocks, as rules ask for them."""

import pytest
from garage import HOUR, MINUTE, at

from gateway.adapters.geography import WallClocks


@pytest.mark.parametrize(
    ("zone", "when", "ahead"),
    [
        ("Europe/Berlin", "2026-10-25T00:59:59+00:00", 2 * HOUR),
        ("Europe/Berlin", "2026-10-25T01:00:00+00:00", HOUR),
        ("Asia/Kathmandu", "2026-11-23T08:00:00+00:00", 5 * HOUR + 45 * MINUTE),
        ("America/Lima", "2026-11-23T08:00:00+00:00", -5 * HOUR),
        ("Nowhere/Atall", "2026-11-23T08:00:00+00:00", 0),
        ("../etc/passwd", "2026-11-23T08:00:00+00:00", 0),
    ],
)
def test_a_zone_is_ahead_of_utc_as_its_clocks_say(zone: str, when: str, ahead: int) -> None:
    assert WallClocks().offset_ms(zone, at(when)) == ahead


def test_no_time_is_beyond_it() -> None:
    assert WallClocks().offset_ms("Europe/Berlin", 10**18) == 0
