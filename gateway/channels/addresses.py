"""Which addresses of the network may be sent to: other people name them, so ours must not be among them."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NOBODYS = (ipaddress.ip_network("192.0.0.0/24"), ipaddress.ip_network("3fff::/20"))
"""Special addresses (RFC 6890, RFC 9637) that not every Python knows to be none of the public internet."""


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, looked at through what wraps an IPv4 address in
    an IPv6 one (RFC 4291 section 2.5.5.2, RFC 3056, RFC 6052). False for what is no address."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip.is_site_local:
            return False
    if any(ip in network for network in _NOBODYS):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def is_literal(host: str) -> bool:
    """Whether the client that connects takes a host for an address, so that no resolver looks at it: also
    `2130706433`, `127.0.0.1.`, and digits of other scripts, which it normalises."""
    try:
        plain = URL.build(scheme="https", host=host).raw_host or ""
    except ValueError:
        return True  # nothing that could be resolved
    return ":" in plain or plain.replace(".", "").isdigit()


class CheckedResolver(AbstractResolver):
    """Resolves a name once for a connection, and gives only addresses that may be sent to; the connection
    goes to one of these, whatever the name says a moment later. Hosts in `allowed` may be anywhere."""

    def __init__(self, allowed: Collection[str] = (), inner: AbstractResolver | None = None) -> None:
        self._allowed = frozenset(host.lower() for host in allowed)
        self._inner = inner or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises OSError when there is none."""
        found = await self._inner.resolve(host, port, family)
        if host.lower() in self._allowed:
            return found
        public = [one for one in found if is_public(one["host"])]
        if not public:
            raise OSError(None, f"{host} has no public address")
        return public

    async def close(self) -> None:
        await self._inner.close()
