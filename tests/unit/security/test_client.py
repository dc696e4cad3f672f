"""The address of the client behind proxies that are trusted, and behind those that are not."""

from __future__ import annotations

import pytest

from smw.errors import ConfigError
from smw.security.client import TrustedProxies, network_key

PROXY = "10.0.0.1"


def client(peer, *headers, trusted=("10.0.0.0/8", "fd00::/8")) -> str:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    return TrustedProxies(trusted).client(peer, raw)


def xff(value: str) -> tuple[str, str]:
    return "x-forwarded-for", value


def test_without_trust_the_peer_counts():
    """Nobody's header is believed unless proxies are configured, and then only theirs."""
    assert client(PROXY, xff("1.2.3.4"), trusted=()) == PROXY
    assert client("8.8.8.8", xff("1.2.3.4")) == "8.8.8.8"
    assert client(PROXY) == PROXY


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4, 10.0.0.2", "1.2.3.4"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("1.2.3.4:5678", "1.2.3.4"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("unknown", PROXY),
        ("1.2.3.4, garbage, 10.0.0.2", "10.0.0.2"),
        ("", PROXY),
        (",,,", PROXY),
    ],
)
def test_the_last_untrusted_hop_is_the_client(value, address):
    """Read from the right, the first hop that is no trusted proxy is the client; what is left of it is hearsay."""
    assert client(PROXY, xff(value)) == address


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("for=1.2.3.4", "1.2.3.4"),
        ('for=6.6.6.6, for="[2001:db8::1]:80";proto=https;by=10.0.0.1', "2001:db8::1"),
        ("proto=http;For=1.2.3.4;host=x", "1.2.3.4"),
        ("for=_hidden", PROXY),
        ('for="unknown"', PROXY),
        ("proto=http", PROXY),
    ],
)
def test_the_standard_header_is_read(value, address):
    """`Forwarded` of RFC 7239 gives the same."""
    assert client(PROXY, ("forwarded", value)) == address


def test_disagreeing_headers_are_both_ignored():
    """A client that smuggles the header which its proxy does not set cannot choose its address."""
    assert client(PROXY, xff("1.2.3.4"), ("forwarded", "for=9.9.9.9")) == PROXY
    assert client(PROXY, xff("1.2.3.4"), ("forwarded", "for=1.2.3.4")) == "1.2.3.4"


def test_several_header_lines_are_one_list():
    """Lines are joined in order; the last entry of the last line is nearest."""
    assert client(PROXY, xff("6.6.6.6"), xff("1.2.3.4")) == "1.2.3.4"


def test_only_the_last_hops_are_read():
    """Ten thousand hops cost little; a chain of more trusted proxies than are read ends where reading ends."""
    assert client(PROXY, xff(", ".join(["6.6.6.6"] * 10_000 + ["1.2.3.4"]))) == "1.2.3.4"
    assert client(PROXY, xff(", ".join(["1.2.3.4"] + ["10.0.0.2"] * 40))) == "10.0.0.2"


@pytest.mark.parametrize("peer", [None, "", "/run/app.sock", "testclient"])
def test_a_peer_without_address_is_local(peer):
    """Unix sockets and test clients are the client `local`, whatever their headers say."""
    assert client(peer, xff("1.2.3.4")) == "local"


def test_mapped_peers_are_ipv4():
    """A dual-stack socket's `::ffff:` peer is its IPv4 address, also for trust."""
    assert client("::ffff:8.8.8.8") == "8.8.8.8"
    assert client("::ffff:10.0.0.1", xff("1.2.3.4")) == "1.2.3.4"


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
        ("local", "local"),
    ],
)
def test_limits_count_ipv6_by_network(address, key):
    """All addresses that one IPv6 customer can choose from count as one."""
    assert network_key(address) == key


@pytest.mark.parametrize("text", ["10.0.0.0/40", "proxy.local", ""])
def test_wrong_networks_are_refused(text):
    """A trusted proxy that is no network is an error that names the setting."""
    with pytest.raises(ConfigError, match="trusted_proxies"):
        TrustedProxies([text])
