"""How often somebody may try to sign in, so that nothing can be guessed and nobody can be locked out.

What can be guessed (a password, a one-time code, a display's code) is counted before it is looked at:

- from a browser that signed in to the account before, by that browser and account alone: whatever strangers
  do, its owner comes in (OWASP: slowing down online guessing with device cookies);
- from any other, by network, by account and network, and by account over all networks, the narrow ones
  first: what a narrow one refuses is not counted by the wide ones, so that one network alone never closes an
  account for others.

Passkeys and links by mail cannot be guessed: they work whatever was counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from gateway.domain.access import secret_hash
from gateway.domain.moments import HOUR_MS
from gateway.ports import Records

MINUTE_MS = 60_000
ANYBODY = ""
"""in place of a name: what is guessed names nobody"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """So many tries in so many milliseconds from the first."""

    most: int
    window_ms: int


BY_BROWSER = Limit(most=10, window_ms=15 * MINUTE_MS)
BY_NETWORK = Limit(most=30, window_ms=10 * MINUTE_MS)
BY_BOTH = Limit(most=5, window_ms=15 * MINUTE_MS)
BY_NAME = Limit(most=50, window_ms=HOUR_MS)
LINKS_BY_ADDRESS = Limit(most=3, window_ms=HOUR_MS)
LINKS_BY_NETWORK = Limit(most=20, window_ms=HOUR_MS)
CHALLENGES_BY_NETWORK = Limit(most=120, window_ms=10 * MINUTE_MS)


@dataclass(frozen=True, kw_only=True, slots=True)
class From:
    """Where a try comes from."""

    network: str
    browser: str | None = None
    """hash of a browser that signed in to this account before; None for any other"""


def network(address: str | None) -> str:
    """The network of an address: itself with IPv4; the 56 bits that a customer gets with IPv6 (RFC 6177)."""
    try:
        found = ip_address((address or "").partition("%")[0])
    except ValueError:
        return "unknown"
    if not isinstance(found, IPv6Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return f"{IPv6Address(int(found) >> 72 << 72)}/56"


def begin(records: Records, name: str, where: From, now: int) -> bool:
    """Count a try at `name` (ANYBODY for what names nobody); False when it is not to be looked at."""
    return all(_count(records, key, limit, now) for key, limit in _keys(name, where))


def succeeded(records: Records, name: str, where: From) -> None:
    """It was right: it is not counted."""
    for key, limit in _keys(name, where):
        records.accounts.forgive_try(key, every=limit in (BY_BROWSER, BY_BOTH))


def may_send(records: Records, address: str, where: From, now: int) -> bool:
    """Whether one more link may be mailed to an address."""
    by_network = _count(records, _key("links", where.network), LINKS_BY_NETWORK, now)
    return by_network and _count(records, _key("link", address), LINKS_BY_ADDRESS, now)


def may_challenge(records: Records, where: From, now: int) -> bool:
    """Whether a passkey may be asked once more."""
    return _count(records, _key("challenges", where.network), CHALLENGES_BY_NETWORK, now)


def _keys(name: str, where: From) -> Iterator[tuple[str, Limit]]:
    """Narrow ones first: `begin` stops at the first that refuses."""
    if where.browser is not None:
        yield _key("browser", where.browser, name), BY_BROWSER
        return
    yield _key("network", where.network), BY_NETWORK
    if name != ANYBODY:
        yield _key("both", where.network, name), BY_BOTH
        yield _key("name", name), BY_NAME


def _count(records: Records, key: str, limit: Limit, now: int) -> bool:
    return records.accounts.count_try(key, limit.window_ms, now) <= limit.most


def _key(*parts: str) -> str:
    """Hashed: neither names nor addresses are to be read in this table."""
    return secret_hash("\n".join(parts))
