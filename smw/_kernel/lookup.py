"""Looks up where a host is within a time-out, of which Python's blocking look-up knows nothing; connects to nobody."""

from __future__ import annotations

import re
import socket
import threading
from functools import partial
from typing import Any

from smw._kernel.clock import SystemClock
from smw._kernel.process import ForkLock, after_fork
from smw._kernel.threads import in_background

__all__ = ["looked_up"]

_KEPT_S = 5.0
"""How long an answer that came too late is kept for whoever asks next."""
_NUMERIC = re.compile(r"[0-9.]+|.*:.*")


class _Lookup:
    def __init__(self) -> None:
        self.ended = threading.Event()
        self.ended_at = 0.0
        self.found: Any = None
        self.error: OSError | None = None

    def run(self, *asked: Any) -> None:
        """Ask the system, however long that takes."""
        try:
            self.found = socket.getaddrinfo(*asked)
        except OSError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - a name that is none: whoever waits must hear of it
            self.error = OSError(str(error))
        self.ended_at = SystemClock.now()
        self.ended.set()

    def is_of_use(self) -> bool:
        """Tell whether it is under way, or has ended a moment ago."""
        return not self.ended.is_set() or SystemClock.now() - self.ended_at < _KEPT_S


class _Lookups:
    """Those under way, each in a thread of its own that all who ask the same share."""

    def __init__(self) -> None:
        self._lock = ForkLock()
        self._forked()
        after_fork(self._forked)

    def _forked(self) -> None:
        self._known: dict[Any, _Lookup] = {}

    def ask(self, timeout_s: float, *asked: Any) -> Any:
        """Return what the system says."""
        with self._lock:
            lookup = self._known.get(asked)
            if lookup is None or not lookup.is_of_use():
                lookup = self._known[asked] = _Lookup()
                if in_background(partial(lookup.run, *asked), "smw-lookup") is None:
                    lookup.run(*asked)  # no thread can be had
        if not lookup.ended.wait(timeout_s):
            message = "the name of the host was not looked up in time"
            raise TimeoutError(message)
        with self._lock:
            if self._known.get(asked) is lookup:  # the next one asks anew
                del self._known[asked]
        if lookup.error is not None:
            raise type(lookup.error)(*lookup.error.args)
        return lookup.found


_lookups = _Lookups()


def looked_up(timeout_s: float | None, host: Any, port: int, *more: Any) -> Any:
    """Return what `socket.getaddrinfo` does.

    A look-up that takes longer goes on, and who asks next finds its answer.

    Args:
        timeout_s: How long to wait; None waits for as long as it takes.
        host: A name or an address.
        port: A number.
        more: As `socket.getaddrinfo` takes it.

    Raises:
        TimeoutError: The time was up.
        OSError: The system knows no such host.
    """
    if timeout_s is None or not isinstance(host, str) or _NUMERIC.fullmatch(host):
        return socket.getaddrinfo(host, port, *more)
    return _lookups.ask(timeout_s, host, port, *more)
