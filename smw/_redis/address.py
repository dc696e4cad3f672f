"""Reads a Redis URL in each of its forms: a server, Sentinels, the nodes of a cluster; connects to nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from smw.urls import form_of, masked, scheme_of

__all__ = ["Address", "form", "parse", "shown"]

_PORTS = {"server": 6379, "sentinel": 26379, "cluster": 6379}
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_MOST_PORT = 65_535
_MOST_SHARDS = 256
SHARDS = 12
"""Divides evenly among 2, 3, 4, 6 and 12 masters."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a Redis is.

    Attributes:
        kind: One server, a master that Sentinels know, or a cluster.
        scheme: ``redis``, ``rediss`` or ``unix``.
        hosts: The server, the Sentinels, or some nodes of the cluster.
        login: Name and password of the servers as they stand before the host, with the ``@``.
        sentinel_login: Those of the Sentinels.
        service: What the Sentinels call the master.
        path: What follows the hosts, without the name of the master.
        query: Options for redis-py.
        shards: How many parts the keys of a namespace are put into on a cluster.
    """

    kind: Literal["server", "sentinel", "cluster"]
    scheme: str
    hosts: tuple[tuple[str, int], ...]
    login: str = ""
    sentinel_login: str = ""
    service: str = ""
    path: str = ""
    query: str = ""
    shards: int = SHARDS

    def server(self, host: str, port: int) -> str:
        """Return the URL of one server, as redis-py takes it."""
        return self._url(self.login, host, port, self.query, self.path)

    def sentinel(self, host: str, port: int) -> str:
        """Return the URL of one Sentinel: of the options, those of TLS alone."""
        kept = urlencode([pair for pair in parse_qsl(self.query) if pair[0].startswith("ssl_")])
        return self._url(self.sentinel_login, host, port, kept, "")

    def _url(self, login: str, host: str, port: int, query: str, path: str) -> str:
        where = f"[{host}]" if ":" in host else host
        return f"{self.scheme}://{login}{where}:{port}{path}{'?' if query else ''}{query}"


def shown(url: str) -> str:
    """Return `url` without credentials and options, for logs, errors and health reports."""
    scheme, slashes, rest = masked(url).partition("://")
    return f"{scheme}{slashes}{rest.removeprefix('***@').partition('?')[0]}"


def form(url: str) -> str:
    """Return how a URL of this one's kind is written."""
    return form_of(scheme_of(url))


def parse(url: str) -> Address:
    """Return what a URL of Sentinels or of a cluster says; of other URLs redis-py takes care.

    Raises:
        ValueError: It is none, with the form that it should have.
    """
    parts = urlsplit(url)
    scheme, _, kind = parts.scheme.partition("+")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in _FILES:
        if name in options and not Path(options[name]).is_file():
            raise ValueError(f"{name} names {options[name]}, which is no file")
    if kind not in ("sentinel", "cluster"):
        return Address("server", parts.scheme, (), query=parts.query)
    written = form_of(parts.scheme)
    login, at, hosts = parts.netloc.rpartition("@")
    nodes = tuple(_host(text, _PORTS[kind], written) for text in hosts.split(","))
    service, _, path = parts.path.strip("/").partition("/") if kind == "sentinel" else ("", "", parts.path.strip("/"))
    if kind == "sentinel" and not service:
        raise ValueError(f"the name of the master is missing: {written}")
    if kind == "cluster" and path not in ("", "0"):
        raise ValueError(f"a cluster has no database {path}: {written}")
    if path and not path.isdecimal():
        raise ValueError(f"behind the name of the master stands no number of a database: {written}")
    user, password = options.pop("sentinel_username", ""), options.pop("sentinel_password", "")
    shards = options.pop("shards", str(SHARDS))
    if not shards.isdecimal() or not 1 <= int(shards) <= _MOST_SHARDS:
        raise ValueError(f"shards={shards} is no number from 1 to {_MOST_SHARDS}")
    return Address(
        "sentinel" if kind == "sentinel" else "cluster",
        scheme,
        nodes,
        login=login + at,
        sentinel_login=f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else "",
        service=service,
        path=f"/{path}" if path else "",
        query=urlencode(options),
        shards=int(shards),
    )


def _host(text: str, default: int, written: str) -> tuple[str, int]:
    bracketed = text.startswith("[") and "]" in text
    host, _, port = (text[1:].partition("]")[0], "", text.partition("]")[2][1:]) if bracketed else text.partition(":")
    if not host or not (port or str(default)).isdecimal() or int(port or default) > _MOST_PORT:
        told = masked(f"redis://{text}").removeprefix("redis://")
        raise ValueError(f"{told!r} is not host:port: {written}")
    return host, int(port or default)
