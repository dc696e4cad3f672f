"""A blocking socket whose time-out covers a whole exchange, where a plain one starts anew with every few bytes."""

from __future__ import annotations

import os
import select
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

from smw._kernel.clock import SystemClock
from smw._kernel.lookup import looked_up

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DeadlineSocket", "SocketModule", "over"]

_LEAST_S = 0.0005
_sendall, _recv, _recv_into = socket.socket.sendall, socket.socket.recv, socket.socket.recv_into  # found once


class DeadlineSocket(socket.socket):
    """From the last byte sent to the last byte received, no more time passes than the time-out says.

    A peer that drips its reply byte by byte would otherwise hold a caller for the time-out times the bytes.
    """

    _whole_s: float | None = None
    _until = 0.0
    _reads = 0
    _ready: Callable[[float | None], list[Any]] | None = None

    def settimeout(self, value: float | None, /) -> None:
        """Set how long an exchange, or connecting, may take."""
        self._whole_s = value
        super().settimeout(value)

    def _begin(self) -> None:
        whole_s = self._whole_s
        if self._reads > 1 and whole_s is not None:
            super().settimeout(whole_s)  # reading the last reply had shortened it
        self._reads = 0
        if whole_s is not None:
            self._until = SystemClock.now() + whole_s

    def sendall(self, *args: Any) -> None:
        """Begin an exchange."""
        self._begin()
        _sendall(self, *args)

    def exchange(self, request: bytes, most: int) -> bytes:
        """Begin an exchange, and receive what comes first, at most so many bytes; `recv` receives the rest."""
        whole_s, ready = self._whole_s, self._ready or self._attended()
        if ready is None or whole_s is None:
            self.sendall(request)
            self._reads = 1
            return _recv(self, most)
        self._begin()
        self._reads = 1
        number = self.fileno()
        try:  # a socket with a time-out never blocks: Python waits until it can be written to, which it can already
            sent = os.write(number, request)
        except BlockingIOError:
            sent = 0
        if sent < len(request):
            _sendall(self, request[sent:])
        if not ready(whole_s * 1000):
            raise TimeoutError("timed out")
        return os.read(number, most)

    def _attended(self) -> Callable[[float | None], list[Any]] | None:
        """Return what waits for a reply, in milliseconds; None on systems without."""
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(self, select.POLLIN)
            self._ready = poll.poll
        return self._ready

    def _shorten(self) -> None:
        self._reads += 1
        if self._reads > 1 and self._whole_s is not None:
            super().settimeout(max(_LEAST_S, self._until - SystemClock.now()))

    def recv(self, *args: Any) -> bytes:
        """Receive within what is left of the exchange."""
        self._shorten()
        return _recv(self, *args)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Receive within what is left of the exchange."""
        self._shorten()
        return _recv_into(self, buffer, nbytes, flags)


def over(plain: socket.socket) -> DeadlineSocket:
    """Return a socket that takes the place of a connected one."""
    timeout_s = plain.gettimeout()
    made = DeadlineSocket(plain.family, plain.type, plain.proto, fileno=plain.detach())
    made.settimeout(timeout_s)
    return made


class SocketModule:
    """The module `socket`, with such sockets, for clients that take a module.

    Args:
        timeout_s: How long looking up a host may take.
    """

    socket = DeadlineSocket

    def __init__(self, timeout_s: float) -> None:
        self.getaddrinfo = partial(looked_up, timeout_s)

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)
