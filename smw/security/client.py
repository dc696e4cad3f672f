"""Which address a request comes from when proxies stand in between; knows header values, not where they were read."""

from __future__ import annotations

import functools
import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from smw.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["LOCAL", "Proxies", "limit_key"]

LOCAL = "local"
"""The client where the peer has no IP address: a Unix socket, a test client."""
_HOPS_MOST = 32
_IPV6_SITE_BITS = 64
_FOR = re.compile(r"(?:^|;)\s*for\s*=\s*(?:\"([^\"]*)\"|([^\s;,\"]+))", re.IGNORECASE)

Address = IPv4Address | IPv6Address


@functools.lru_cache(maxsize=4096)
def _address(text: str) -> Address | None:
    """Read an address, with or without brackets and port; an IPv4 address inside IPv6 counts as IPv4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def limit_key(client: str) -> str:
    """Return what a limit counts by: the address, or the /64 of an IPv6 address, because one client owns all of it."""
    address = _address(client)
    if address is None:
        return LOCAL
    return str(address) if isinstance(address, IPv4Address) else _site(address)


@functools.lru_cache(maxsize=4096)
def _site(address: IPv6Address) -> str:
    return str(IPv6Network((address, _IPV6_SITE_BITS), strict=False))


class Proxies:
    """The proxies whose word about the client counts.

    The client is the rightmost hop that is not one of them; whatever stands further left was written by strangers.

    Args:
        trusted: Networks (``10.0.0.0/8``), addresses, or ``local`` for a proxy on a Unix socket.

    Raises:
        ConfigError: One of them is no network.
    """

    def __init__(self, trusted: Iterable[str]) -> None:
        networks: list[IPv4Network | IPv6Network] = []
        self._trusts_local = False
        for text in trusted:
            if text == LOCAL:
                self._trusts_local = True
                continue
            try:
                networks.append(ip_network(text, strict=False))
            except ValueError:
                what = "security setting 'trusted_proxies' names something that is no network"
                raise ConfigError(
                    "SMW-A120", what, seen=text, fix="10.0.0.0/8, 2001:db8::/32, 192.0.2.7 or local"
                ) from None
        self._networks = tuple(networks)

    def client(self, peer: str, forwarded_for: str | None, forwarded: str | None) -> str:
        """Return the client's address, or `LOCAL`.

        Args:
            peer: Who opened the connection, as the server tells it.
            forwarded_for: Value of X-Forwarded-For.
            forwarded: Value of Forwarded. Where both are present and disagree, a proxy has passed on what the client
                wrote, nobody can tell which, and the peer it is.
        """
        known = _address(peer)
        if not self._trusted(known):
            return LOCAL if known is None else str(known)
        found = {
            self._rightmost(known, hops)
            for hops in (_split(forwarded_for), _for_values(forwarded))
            if hops
        }  # fmt: skip
        address = found.pop() if len(found) == 1 else known
        return LOCAL if address is None else str(address)

    def trusts(self, peer: str) -> bool:
        """Tell whether the peer is a trusted proxy, so that its header fields are worth reading."""
        return bool(self._networks or self._trusts_local) and self._trusted(_address(peer))

    def _trusted(self, address: Address | None) -> bool:
        if address is None:
            return self._trusts_local
        return any(address.version == network.version and address in network for network in self._networks)

    def _rightmost(self, peer: Address | None, hops: list[str]) -> Address | None:
        """Walk from the nearest hop outwards; what cannot be read ends the walk at the last proxy that can be named."""
        reached = peer
        for hop in reversed(hops[-_HOPS_MOST:]):
            address = _address(hop)
            if address is None:
                return reached
            if not self._trusted(address):
                return address
            reached = address
        return reached


def _split(value: str | None) -> list[str]:
    return [] if value is None else value.split(",")


def _for_values(value: str | None) -> list[str]:
    if value is None:
        return []
    hops = []
    for element in value.split(","):
        match = _FOR.search(element)
        hops.append("" if match is None else match.group(1) or match.group(2))
    return hops
