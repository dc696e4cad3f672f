"""Ends blocking connections from outside: one in use is hung up, and closed by whoever uses it; knows no command.

Closing a socket under a thread that reads from it frees the number of its file, which the next connection gets: the
reader then takes bytes of that one. With TLS this breaks the handshake of a stranger.
"""

from __future__ import annotations

import contextlib
import queue
import socket
from typing import Any

__all__ = ["ending_pool", "hang_up"]


def hang_up(connection: Any) -> None:
    """Have whoever waits on a blocking connection of redis-py fail at once, and close it."""
    sock = connection._sock  # noqa: SLF001 - the only way to end a read from outside
    if isinstance(sock, socket.socket):
        # The one of TLS would first forget the encryption, and its reader go on in plain text.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def ending_pool(base: type[Any]) -> type[Any]:
    """Return a pool like `base`, a blocking one, that closes only what nobody uses and hangs up the rest."""

    class Pool(base):  # type: ignore[misc]
        def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: FBT001, FBT002 - as in redis-py
            self._checkpid()
            free: list[Any] = []
            with contextlib.suppress(queue.Empty):
                while True:
                    free.append(self.pool.get_nowait())  # which nobody else can take meanwhile
            try:
                for connection in filter(None, free):
                    connection.disconnect()
            finally:
                for connection in reversed(free):
                    self.pool.put_nowait(connection)
            if inuse_connections:
                for connection in tuple(self._connections):
                    hang_up(connection)

    return Pool
