"""What must happen when the process forks; knows only callbacks."""

from __future__ import annotations

import _thread
import logging
import os
import weakref
from typing import Any

__all__ = ["ForkLock", "after_fork"]

_log = logging.getLogger("smw.process")
_callbacks: list[weakref.WeakMethod[Any]] = []
_registered = False
_PRUNE_FROM = 64
_prune_at = _PRUNE_FROM


def after_fork(callback: Any) -> None:
    """Call the bound method `callback` in every forked child, before user code runs there; held weakly.

    It must not do I/O: what the parent opened still belongs to the parent.
    """
    global _registered, _prune_at  # noqa: PLW0603 - the hook of the interpreter is installed once a process
    if not _registered and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_run)
    _registered = True
    if len(_callbacks) >= _prune_at:
        _callbacks[:] = [ref for ref in _callbacks if ref() is not None]
        _prune_at = max(_PRUNE_FROM, 2 * len(_callbacks))
    _callbacks.append(weakref.WeakMethod(callback))


class ForkLock(_thread.RLock):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues] - in stubs it is final
    """A re-entrant lock that is free in a forked child, whichever thread of the parent held it.

    It is entered and left in one step of the interpreter: the handler of a signal that raises something, as limits of
    time and Ctrl-C do, never leaves it taken.
    """

    __slots__ = ()

    def __init__(self) -> None:
        after_fork(self._renew)

    def _renew(self) -> None:
        reset: Any = getattr(self, "_at_fork_reinit")  # noqa: B009 - not in stubs; as `threading` and `logging` do
        reset()


def _run() -> None:
    for ref in tuple(_callbacks):
        callback = ref()
        if callback is not None:
            try:
                callback()
            except Exception:  # noqa: BLE001 - the child must start whatever one part does
                _log.exception("a callback after fork failed")
