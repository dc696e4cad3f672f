"""A runtime of its own for a block of code, and a record of its signals; needs no test framework."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from smw._kernel import signals as _signals
from smw._kernel.signals import Signal
from smw.errors import ConfigError, nearest
from smw.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from smw._kernel.host import Host

__all__ = ["Recorded", "isolated"]

S = TypeVar("S", bound=Signal)
_FAILURES = (_signals.CacheUncached, _signals.CacheTampered, _signals.CacheWriteDead, _signals.BackendDown)


class Recorded:
    """Every signal that a runtime's bus carried, in order.

    Args:
        host: The host of the runtime to listen to.
    """

    def __init__(self, host: Host) -> None:
        self.all: list[Signal] = []
        kinds = [getattr(_signals, name) for name in _signals.__all__]
        self._ends = [host.bus.subscribe(k, self.all.append) for k in kinds if isinstance(k, type) and k is not Signal]

    def of(self, kind: type[S]) -> list[S]:
        """Return the signals of one kind."""
        return [signal for signal in self.all if isinstance(signal, kind)]

    def end(self) -> None:
        """Stop recording."""
        for end in self._ends:
            end()


@contextmanager
def isolated(
    profile: str = "testing", *, environ: Mapping[str, str] | None = None, strict: bool = False, **parts: Any
) -> Iterator[Runtime]:
    """Run a block under a runtime of its own that reads no environment, then bring back the one before.

    Args:
        profile: Profile to use.
        environ: Environment to pretend; empty by default.
        strict: Whether failures of the runtime's cache, which never fail a call, fail the block at its end.
        parts: As for `Runtime`: ``cache={...}``, ``clock=FakeClock()``, ...

    Raises:
        ConfigError: An argument is none of these.
        AssertionError: With `strict`, where the block raised nothing: a result was not cached as asked, an entry was
            tampered with, a write was given up, or a server failed.
    """
    _check_names(parts)
    with Runtime(profile, environ=environ or {}, **parts) as runtime:
        recorded = Recorded(runtime.host) if strict else None
        yield runtime
        failed = [] if recorded is None else list(_failures(runtime.host))
    if recorded is not None:  # closing may have shown some more
        failed += [repr(signal) for signal in recorded.all if isinstance(signal, _FAILURES)]
        if failed:
            raise AssertionError("the cache has failed: " + "; ".join(dict.fromkeys(failed)))


def _check_names(parts: Mapping[str, Any]) -> None:
    """Name what `isolated` takes: a runtime that is told of a mistake knows nothing of `strict`."""
    names = [*inspect.signature(Runtime).parameters, "strict"]
    for name in parts:
        if name not in names:
            what = f"isolated() has no argument {name!r}.{nearest(name, names)}"
            raise ConfigError("SMW-K126", what, fix=f"one of: {', '.join(names)}")


def _failures(host: Host) -> Iterator[str]:
    """Yield what servers of the cache have failed at, from the first time on; signals tell of it from the fifth on."""
    for fact in host.facts:
        if fact.name == "smw_cache_errors_total" and fact.value:
            yield f"{fact.value:g} errors of {dict(fact.labels)}"
