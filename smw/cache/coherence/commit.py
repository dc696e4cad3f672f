"""Has drops wait for the commit of the transaction around a call; knows no framework but by its hook."""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from smw._kernel.answers import answers_at_once
from smw.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from smw._kernel.call import Call
    from smw.cache.functions.readers import Scopes
    from smw.cache.levels.engine import Engine
    from smw.cache.strategies.outbox import Noted

    Register = Callable[["WaitingDrop"], object]
    Old = tuple[Engine, Scopes, Noted | None]
    """Levels, what is dropped from them, and the note of it that survives this process."""

__all__ = ["EVERYWHERE", "Commits", "Transaction", "WaitingDrop"]

_log = logging.getLogger("smw.cache")
_FAILED = "a hook of on_commit failed; the drop is made after the call instead"
_NOBODY = (
    "@invalidate(when='commit') on %s knows of no transaction: no argument is a session of SQLAlchemy, and nothing was "
    "registered with cache.on_commit; it drops after the call, before anybody commits"
)


class WaitingDrop:
    """A drop that waits for a commit: to be called once that is done, forgotten when it is rolled back.

    Calling it never raises; calling it twice does no harm.

    Attributes:
        arguments: Those of the call that changed something, by name, for finding its transaction.
    """

    def __init__(self, old: Iterable[Old], arguments: Mapping[str, object]) -> None:
        self.arguments = arguments
        self._old = tuple(old)

    def __call__(self) -> None:
        """Drop: here at once, and at the servers."""
        from smw.cache.coherence.dropping import drop_from_anywhere

        for engine, scopes, noted in self._old:
            if noted is not None:
                noted.begin()
            drop_from_anywhere(engine, scopes, _nothing if noted is None else noted.made)


def _nothing() -> None:
    """Nobody has noted what was dropped."""


class Commits:
    """The hooks of one cache that know whether a transaction is under way.

    Args:
        more: Hooks that count for every cache.
    """

    def __init__(self, more: Commits | None = None) -> None:
        self._hooks: tuple[Register, ...] = ()
        self._more = more
        self._said: set[str] = set()

    def add(self, register: Any) -> Callable[[], None]:
        """Ask `register` from now on; returns the function that ends it.

        Raises:
            ConfigError: It cannot be called, or has to be awaited.
        """
        if not answers_at_once(register):
            fix = "cache.on_commit(lambda drop: transaction.on_commit(drop))"
            raise ConfigError("SMW-C145", "on_commit takes a function", seen=repr(register), fix=fix)
        self._hooks = (*self._hooks, register)

        def remove() -> None:
            self._hooks = tuple(other for other in self._hooks if other is not register)

        return remove

    def hooks(self) -> tuple[Register, ...]:
        """Return all hooks, this cache's first."""
        return self._hooks + (self._more.hooks() if self._more is not None else ())

    def watch(self, call: Call) -> Transaction:
        """Return the transaction around `call`, which has not run yet."""
        try:
            arguments = call.arguments
        except TypeError:
            arguments = {}
        hooks = self.hooks()
        nobody = None if hooks else partial(self._nobody_knows, call.target.name)
        if "sqlalchemy.orm" in sys.modules:
            from smw.cache.sqlalchemy import among_arguments

            hooks = (among_arguments(call.target), *hooks)
        return Transaction(hooks, arguments, nobody)

    def _nobody_knows(self, name: str) -> None:
        if name not in self._said:
            self._said.add(name)
            _log.warning(_NOBODY, name)


class Transaction:
    """What the hooks know of the transaction around one call.

    Args:
        hooks: Asked in order; one that counts commits has a method ``commits(arguments)``.
        arguments: Those of the call.
        nobody: Called where no hook knows of any session; None where somebody must know.
    """

    def __init__(
        self, hooks: tuple[Register, ...], arguments: Mapping[str, object], nobody: Callable[[], None] | None
    ) -> None:
        self._hooks = hooks
        self._arguments = arguments
        self._nobody = nobody
        self._counters = [count for hook in hooks if (count := getattr(hook, "commits", None))]
        self._before = self._counts()

    def _counts(self) -> list[int | None] | None:
        """Return how many commits each hook has seen, or None where one cannot tell."""
        try:
            return [count(self._arguments) for count in self._counters]
        except Exception:  # noqa: BLE001 - what was changed must be dropped, and the call has nothing to do with it
            _log.exception(_FAILED)
            return None

    def takes(self, old: Iterable[Old]) -> bool:
        """Hand a drop over to the transaction that is under way.

        Returns:
            False when it has to be made now: there is none, or one was committed while the call ran.
        """
        drop = WaitingDrop(old, self._arguments)
        taken = [hook for hook in self._hooks if self._offered(hook, drop)]
        counts = self._counts()
        if self._nobody is not None and counts is not None and all(count is None for count in counts):
            self._nobody()
        return bool(taken) and counts is not None and counts == self._before

    @staticmethod
    def _offered(hook: Any, drop: WaitingDrop) -> bool:
        try:
            return hook(drop) is not False
        except Exception:  # noqa: BLE001 - what was changed must be dropped, and the call has succeeded
            _log.exception(_FAILED)
            return False


EVERYWHERE = Commits()
"""The hooks that were registered for whatever cache is current."""
