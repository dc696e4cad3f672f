"""Lets the time-out of connecting cover the look-up of a name; knows nothing of what is sent afterwards."""

from __future__ import annotations

import socket
from typing import Any

import redis

from smw._kernel.lookup import looked_up

__all__ = ["named"]


class _Named(redis.Connection):
    """A plain connection that goes to each address of its host in turn."""

    def _connect(self) -> Any:
        name, failure = self.host, OSError("no address")
        found = looked_up(self.socket_connect_timeout, name, self.port, self.socket_type, socket.SOCK_STREAM)
        try:
            for self.host in dict.fromkeys(each[4][0] for each in found):
                try:
                    return super()._connect()  # type: ignore[no-untyped-call]
                except OSError as error:
                    failure = error
        finally:
            self.host = name  # which certificates and errors speak of
        raise failure


class _NamedTls(redis.SSLConnection, _Named):
    """The same below TLS."""


def named(*, encrypted: bool) -> type[Any]:
    """Return a connection class for blocking code that looks up its host within the time that connecting may take."""
    return _NamedTls if encrypted else _Named
