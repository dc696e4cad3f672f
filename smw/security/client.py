"""The address of the client behind trusted proxies; it decides nothing about what that client may do."""

from __future__ import annotations

import functools
import ipaddress
import re
from typing import TYPE_CHECKING

from smw.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["LOCAL", "TrustedProxies", "network_key"]

LOCAL = "local"
_HOPS_MAX = 32
_HEADER_MAX = 8_192
_FOR = re.compile(r'(?:^|[;,])\s*for\s*=\s*("(?:[^"\\]|\\.)*"|[^;,\s]*)', re.IGNORECASE)
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class TrustedProxies:
    """Networks whose forwarding headers count.

    Args:
        networks: Addresses or networks in CIDR form; empty: no header is believed.

    Raises:
        ConfigError: One of them is neither.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = tuple(_network(text) for text in networks)
        self._is_trusted = functools.lru_cache(maxsize=1024)(self._contains)

    def client(self, peer: str | None, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Return the address of the client: the last hop, seen from here, that is no trusted proxy.

        `X-Forwarded-For` and `Forwarded` are both read; where both are sent and disagree, one of them may be the
        client's own invention, so neither is believed.

        Args:
            peer: Address of the socket's other end; None, or no IP address, is a local client.
            headers: Names in lower case and values, as ASGI has them.
        """
        address = _parse(peer) if peer else None
        if address is None:
            return LOCAL
        if not self._networks or not self._is_trusted(address):
            return str(address)
        plain: list[bytes] = []
        standard: list[bytes] = []
        for name, value in headers:
            if name == b"x-forwarded-for":
                plain.append(value)
            elif name == b"forwarded":
                standard.append(value)
        found = {
            self._walk(address, hops)
            for hops in (_plain_hops(plain) if plain else None, _standard_hops(standard) if standard else None)
            if hops is not None
        }
        return str(found.pop() if len(found) == 1 else address)

    def _walk(self, peer: _Address, hops: list[str]) -> _Address:
        address = peer
        for hop in reversed(hops[-_HOPS_MAX:]):
            before = _parse(hop)
            if before is None:  # `unknown`, an obfuscated name, garbage: the chain of trust ends here
                return address
            address = before
            if not self._is_trusted(address):
                return address
        return address

    def _contains(self, address: _Address) -> bool:
        return any(address.version == network.version and address in network for network in self._networks)


def network_key(address: str) -> str:
    """Return what limits are counted by: an IPv4 address, or the /64 of an IPv6 address, whose rest is the client's."""
    parsed = _parse(address)
    if parsed is None or parsed.version == 4:
        return address
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        fix = "addresses or networks such as 10.0.0.0/8, fd00::/8"
        raise ConfigError("SMW-A116", "security.trusted_proxies has no network", seen=text, fix=fix) from None


def _parse(text: str) -> _Address | None:
    """Read an address as headers carry it: with port, in brackets, quoted, with a zone, mapped from IPv4."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if address.version == 6 and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _plain_hops(values: list[bytes]) -> list[str]:
    return b",".join(values)[-_HEADER_MAX:].decode("latin-1").rsplit(",", _HOPS_MAX)


def _standard_hops(values: list[bytes]) -> list[str]:
    return _FOR.findall(b",".join(values)[-_HEADER_MAX:].decode("latin-1"))
