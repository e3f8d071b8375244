"""RFC 3339 at the edges."""

import pytest

from gateway.domain.times import parse_rfc3339, rfc3339

TS = 1_735_689_600_000  # 2025-01-01T00:00:00Z


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2025-01-01T00:00:00Z", TS),
        ("2025-01-01t00:00:00z", TS),
        ("2025-01-01 00:00:00.1Z", TS + 100),
        ("2025-01-01T01:30:00+01:30", TS),
        ("2024-12-31T19:00:00.999999-05:00", TS + 999),
        ("2024-12-31T23:59:60Z", TS),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
    ],
)
def test_rfc3339(text: str, ms: int) -> None:
    assert parse_rfc3339(text) == ms


@pytest.mark.parametrize(
    "text", ["2025-02-29T00:00:00Z", "2025-01-01T00:00:61Z", "2025-01-01", "٢٠٢٥-01-01T00:00:00Z"]
)
def test_not_rfc3339(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_rfc3339(text)


def test_what_is_said_is_read_again() -> None:
    assert parse_rfc3339(rfc3339(TS + 7)) == TS + 7
