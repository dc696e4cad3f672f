"""Keeps a sick backend from costing callers time: a deadline per call, a breaker per server; knows no protocol."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import deque
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING

from smw._kernel.process import ForkLock, after_fork
from smw._kernel.signals import BackendDown, BackendUp
from smw._kernel.threads import in_background

if TYPE_CHECKING:
    from collections.abc import Callable

    from smw._kernel.clock import Clock
    from smw._kernel.host import Host

__all__ = ["EXCUSED", "Allowance", "Breaker", "Budget"]

_log = logging.getLogger("smw.guard")
FAILURES = 5
WINDOW_S = 10.0
SLOW_S = 0.5
PROBE_FIRST_S = 0.1
PROBE_MOST_S = 0.5
EXCUSED: ContextVar[float] = ContextVar("smw_excused", default=0.0)
"""Seconds of the present question that the event loop took to send it and to hand out its answer: no backend's."""


class Budget:
    """How much longer one call may spend on backends.

    Args:
        clock: Where time comes from.
        seconds: What the whole call may spend.
    """

    __slots__ = ("_clock", "_deadline")

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._deadline = clock.now() + seconds

    def left_s(self, now: float | None = None) -> float:
        """Return the seconds that are left, 0.0 when spent.

        Args:
            now: The present moment, where the caller has just asked for it.
        """
        left_s = self._deadline - (self._clock.now() if now is None else now)
        return max(0.0, left_s)

    def begin(self, now: float) -> float:
        """Say that a backend is asked, and return the seconds that are left; all time counts, so nothing changes."""
        return self.left_s(now)

    def end(self, now: float) -> None:
        """Say that it has answered, or has failed."""


class Allowance(Budget):
    """How much longer backends may keep one call: the time between, in which it works or waits for a turn, is its own.

    Args:
        clock: Where time comes from.
        seconds: What all backends together may take.
    """

    __slots__ = ("_asked", "_left_s", "_since")

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._left_s = seconds
        self._since = 0.0
        self._asked = 0

    def left_s(self, now: float | None = None) -> float:
        """Return the seconds that are left, 0.0 when spent."""
        if not self._asked:
            return max(0.0, self._left_s)
        return max(0.0, self._left_s - (self._clock.now() if now is None else now) + self._since)

    def begin(self, now: float) -> float:
        """Say that a backend is asked, and return the seconds that are left; several may be asked at once."""
        if not self._asked:
            self._since = now
        self._asked += 1
        return self._left_s - now + self._since

    def end(self, now: float) -> None:
        """Say that one has answered, or has failed."""
        self._asked -= 1
        if not self._asked:
            self._left_s -= now - self._since


class Breaker:
    """Stops asking a backend that fails, and asks again in the background until it answers.

    It opens after 5 failures within 10 s that follow each other or make up at least half of what was asked, or at once
    on a permanent failure (wrong password, not the right server). Each half second that a failure has taken counts as
    one more, or a lonely caller who is kept for seconds would never see five of them. While it is open a daemon thread
    probes every 0.1 to 0.5 s, so that no caller ever pays for finding out that the server is still gone.

    Attributes:
        is_open: Whether callers are kept away.

    Args:
        name: The backend in signals and logs, such as ``redis``; no credentials.
        host: Clock, jitter and bus.
        probe: Blocking check with a time-out of its own; returns or raises.
        on_up: Called in the probing thread when the backend answers again, before callers are let through.
    """

    def __init__(
        self,
        name: str,
        host: Host,
        probe: Callable[[], object],
        *,
        on_up: Callable[[], object] | None = None,
    ) -> None:
        self.name = name
        self.place = ""  # where it is, for the log
        self._host = host
        self._probe = probe
        self._on_up = on_up
        self._outcomes: deque[tuple[float, int]] = deque(maxlen=50)  # when, and as how many failures it counts
        self._lock = ForkLock()
        self._stop = threading.Event()
        self.is_open = False
        self._prober_pid = 0
        after_fork(self._forked)

    def _forked(self) -> None:
        self._stop = threading.Event()

    def allows(self) -> bool:
        """Tell whether to ask the backend now; starts the probing where it goes on in the parent alone, or nowhere."""
        if not self.is_open:
            return True
        if self._prober_pid != os.getpid():
            self._start_probing()
        return False

    def ok(self) -> None:
        """Record an answer."""
        if self._outcomes:  # a healthy backend, the usual case, costs one truth test
            self._outcomes.append((self._host.clock.now(), 0))

    def failed(self, reason: str, *, permanent: bool = False, took_s: float = 0.0) -> None:
        """Record that the backend failed or was too slow.

        Args:
            reason: Short constant or exception text without secrets.
            permanent: Trying again will not help until somebody mends something; opens at once.
            took_s: How long the caller was kept.
        """
        now, counts = self._host.clock.now(), min(FAILURES, 1 + int(took_s / SLOW_S))
        with self._lock:
            self._outcomes.append((now, counts))
            recent = [count for at, count in list(self._outcomes) if now - at <= WINDOW_S]  # `ok` adds without the lock
            failures, row = sum(recent), recent[-FAILURES:]
            are_many = failures >= FAILURES and failures >= recent.count(0)
            opens = permanent or are_many or (len(row) == FAILURES and all(row))
            if not opens or self.is_open or self._stop.is_set():
                return
            self.is_open = True
        log = _log.error if permanent else _log.warning
        where = f"{self.name} at {self.place}" if self.place else self.name
        log("%s is down (%s): answering without it and probing in the background", where, reason)
        self._host.bus.send(BackendDown(self.name, reason))
        self._start_probing()

    def _start_probing(self) -> None:
        with self._lock:
            if self._prober_pid == os.getpid() or self._stop.is_set():
                return
            self._prober_pid = os.getpid()
            if in_background(partial(_probe_until_up, weakref.ref(self), self._stop), f"smw-probe-{self.name}") is None:
                self._prober_pid = 0  # who is kept away next tries again

    def jittered(self, pause_s: float) -> float:
        """Return a pause that those of other processes do not keep step with."""
        return pause_s * (0.8 + 0.2 * self._host.entropy.random())

    def probing_ended(self) -> None:
        """Let the next caller who is kept away begin it anew."""
        self._prober_pid = 0

    def probe_now(self) -> bool:
        """Ask the backend once, in the calling thread, and close the breaker when it answers."""
        try:
            self._probe()
            if self._on_up is not None:
                self._on_up()
        except Exception as error:  # noqa: BLE001 - any failure means that it is still down
            _log.debug("%s is still down: %s", self.name, type(error).__name__)
            return False
        with self._lock:
            was_open, self.is_open = self.is_open, False
            self._outcomes.clear()
        if was_open:
            _log.warning("%s is back", self.name)
            self._host.bus.send(BackendUp(self.name))
        return True

    def close(self) -> None:
        """End the probing; idempotent."""
        self._stop.set()


def _probe_until_up(weak: weakref.ref[Breaker], stop: threading.Event) -> None:
    """Probe until the backend answers, or nobody has the breaker any more."""
    pause_s, breaker = PROBE_FIRST_S, weak()
    while breaker is not None:
        wait_s, breaker = breaker.jittered(pause_s), None  # while it sleeps nothing is kept alive
        is_closed, breaker = stop.wait(wait_s), weak()
        if breaker is not None and (is_closed or breaker.probe_now()):
            breaker.probing_ended()
            return
        pause_s = min(pause_s * 2, PROBE_MOST_S)
