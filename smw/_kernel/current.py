"""Which runtime decorated functions use, looked up at first call; knows a runtime only as something with parts."""

from __future__ import annotations

import importlib
import weakref
from typing import Any, Protocol

from smw._kernel.process import ForkLock

__all__ = ["Provider", "default", "generation", "get", "part", "rebind", "rebindable", "unbind_all", "use"]


class Provider(Protocol):
    """Whatever can hand out a part by name: the runtime, or a recording one in tests."""

    def part(self, name: str) -> Any:
        """Return the cache, monitor, security or pipeline of this runtime."""
        ...


class Rebindable(Protocol):
    """Something that holds on to a part and must look it up again when the runtime changes."""

    def unbind(self) -> None:
        """Forget what was bound."""
        ...


_lock = ForkLock()
_current: Provider | None = None
_generation = 0
_bound: weakref.WeakSet[Any] = weakref.WeakSet()


def default() -> Provider:
    """Return the current runtime, opening the default one when none was configured.

    The one place where a lower layer names an upper one: by string and on first use, because which
    runtime serves a function is only known when it is called.
    """
    global _current  # noqa: PLW0603 - one current runtime a process is the point
    with _lock:
        runtime = _current
        if runtime is None:
            runtime = _current = importlib.import_module("smw.runtime").Runtime()
        return runtime


def get() -> Provider | None:
    """Return the current runtime, or None where nothing was opened yet."""
    return _current


def part(name: str) -> Any:
    """Return a part of the current runtime."""
    return default().part(name)


def use(provider: Provider | None) -> Provider | None:
    """Make `provider` the current runtime, unbind every decorated function, and return the one before."""
    global _current
    with _lock:
        before, _current = _current, provider
    unbind_all()
    return before


def unbind_all() -> None:
    """Have every decorated function look up what it needs at its next call."""
    global _generation  # noqa: PLW0603 - one current runtime a process is the point
    with _lock:
        _generation += 1
        bound = list(_bound)
    for each in bound:  # outside the lock: who is being unbound may be looking up the runtime right now
        each.unbind()


def generation() -> int:
    """Return a number that changes whenever the current runtime does."""
    return _generation


def rebind(bound: Rebindable) -> None:
    """Unbind `bound` whenever the current runtime changes; held weakly."""
    with _lock:
        _bound.add(bound)


def rebindable() -> list[Any]:
    """Return all that `rebind` was told of and that is still there."""
    with _lock:
        return list(_bound)
