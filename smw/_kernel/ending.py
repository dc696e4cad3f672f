"""How a process ends: what runs at its exit, also in children of multiprocessing, and a signal as a clean exit."""

from __future__ import annotations

import _thread
import atexit
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from smw._kernel.clock import SystemClock
from smw._kernel.process import after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

__all__ = ["at_exit", "exit_on"]

_log = logging.getLogger("smw.process")
_LAST = -100  # of multiprocessing's finalizers: after its own processes were joined
_CLOCK = SystemClock()
_AGAIN_S = 0.005
_TRIES = 200
_ENDING_S = 10.0


class _Exits:
    """Callbacks for the end of this process; children forked by multiprocessing end without `atexit`."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []
        self._follows = False
        atexit.register(self.run)
        after_fork(self._follow)

    def add(self, callback: Callable[[], None]) -> None:
        """Call `callback` at the end, the last added first."""
        self._callbacks.append(callback)
        self._follow()
        self._enlist()

    def _follow(self) -> None:
        """Have multiprocessing tell its children, where it is in use: they forget the finalizers of their parent."""
        util: Any = sys.modules.get("multiprocessing.util")
        if util is not None and not self._follows:
            self._follows = True
            util.register_after_fork(self, _Exits._enlist)

    def _enlist(self) -> None:
        """Be called by multiprocessing at the end of one of its children."""
        process: Any = sys.modules.get("multiprocessing.process")
        if process is not None and process.parent_process() is not None:
            sys.modules["multiprocessing.util"].Finalize(None, self.run, exitpriority=_LAST)

    def run(self) -> None:
        """Call each once; one that fails does not keep the others from running."""
        while self._callbacks:
            callback = self._callbacks.pop()
            try:
                callback()
            except Exception:  # noqa: BLE001 - the process ends, and the others must still be flushed
                _log.exception("a callback at exit failed")


_exits = _Exits()


def at_exit(callback: Callable[[], None]) -> None:
    """Call `callback` when this process ends by itself, or one that it forks by multiprocessing."""
    _exits.add(callback)


class _Stop:
    """What one signal does: it ends the main thread by `SystemExit`, so that blocks are left and `at_exit` runs.

    Nothing is closed from the handler itself: the code that it interrupts may hold any lock. While that code is smw's
    own it is left alone and the signal sent again, for an exception between two of its steps could leave a lock held.
    An event loop exits between two steps of its tasks, and whoever runs it cancels them.
    """

    def __init__(self, before: Any) -> None:
        self._before = before
        self._tries = 0
        self._since = -_ENDING_S

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if callable(self._before):
            self._before(number, frame)
            return
        now = _CLOCK.now()
        if now - self._since < _ENDING_S:
            return  # the exit is under way; a second signal must not cut it short
        loop = _running_loop()
        if loop is not None:
            self._since = now
            loop.call_soon_threadsafe(sys.exit, 128 + number)
            return
        if self._tries < _TRIES and _is_ours(frame):
            self._tries += 1
            _thread.start_new_thread(_again, (number,))  # threading's own locks may be held here
            return
        self._tries, self._since = 0, now
        raise SystemExit(128 + number)


def _running_loop() -> Any:
    asyncio = sys.modules.get("asyncio")
    try:
        return None if asyncio is None else asyncio.get_running_loop()
    except RuntimeError:
        return None


def _again(number: int) -> None:
    _CLOCK.pause(_AGAIN_S)
    os.kill(os.getpid(), number)


def _is_ours(frame: FrameType | None) -> bool:
    """Tell whether smw runs here, be it in the standard library on its behalf; False within the user's function."""
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package == "smw":
            return True
        if package and package not in sys.stdlib_module_names:
            return False
        frame = frame.f_back
    return False


def exit_on(numbers: Iterable[int]) -> None:
    """Let each signal end the process as `sys.exit` does; a handler that is there already is called instead.

    Raises:
        ValueError: Called outside the main thread, or a signal cannot be handled.
    """
    for number in numbers:
        before = signal.getsignal(number)
        if before is None or before is signal.SIG_IGN or isinstance(before, _Stop):
            continue  # handled outside Python, ignored on purpose, or done already
        signal.signal(number, _Stop(before))
