"""Has a fork wait until no transaction of the journals is under way; knows no database.

SQLite keeps in the process which of its connections has which lock. A child that is forked in the middle of a
transaction would believe for good that it is writing already, and could not begin to.
"""

from __future__ import annotations

import os
import threading
import weakref

__all__ = ["Whole"]

_MOST_S = 5.0
_all: weakref.WeakSet[Whole] = weakref.WeakSet()
_here = threading.local()


class Whole:
    """A lock that is held while something is under way that a fork must not see half done."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _register()
        _all.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_error: object) -> None:
        self._lock.release()

    def hold(self) -> bool:
        """Wait until it is free, and keep it; returns whether it was within a bound."""
        return self._lock.acquire(timeout=_MOST_S)

    def release(self) -> None:
        """Let it go."""
        self._lock.release()

    def renew(self) -> None:
        """Be free, in a forked child."""
        self._lock = threading.RLock()


_registered: list[None] = []


def _register() -> None:
    if not _registered and hasattr(os, "register_at_fork"):
        _registered.append(None)
        os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)


def _before() -> None:
    _here.held = [each for each in list(_all) if each.hold()]


def _in_parent() -> None:
    for each in _here.__dict__.pop("held", ()):
        each.release()


def _in_child() -> None:
    _here.__dict__.pop("held", None)
    for each in list(_all):
        each.renew()
