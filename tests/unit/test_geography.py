"""Wall clocks, as rules ask for them."""

import pytest
from garage import HOUR, MINUTE, at

from gateway.adapters.geography import Earth


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
    assert Earth().offset_ms(zone, at(when)) == ahead


def test_no_time_is_beyond_it() -> None:
    assert Earth().offset_ms("Europe/Berlin", 10**18) == 0


@pytest.mark.parametrize(
    ("latitude", "longitude", "country"),
    [
        (48.573, 7.815, "DE"),  # Kehl, 3 km from
        (48.583, 7.745, "FR"),  # Strasbourg
        (47.80, 13.04, "AT"),  # Salzburg
        (55.67, 12.56, "DK"),
        (55.60, 13.00, "SE"),
        (49.61, 6.13, "LU"),
        (40.0, -40.0, None),  # the Atlantic
    ],
)
def test_the_country_of_a_place(latitude: float, longitude: float, country: str | None) -> None:
    assert Earth().country(latitude, longitude) == country
