"""What lives beside a WSGI application as long as its process serves; servers say neither when they start nor stop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from smw._kernel.bridge import Portal
from smw._kernel.ending import at_exit
from smw._kernel.process import after_fork
from smw.web.threads import LastingThreads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smw.runtime import Runtime
    from smw.web.source import PolicySource

__all__ = ["Life"]

_THREADS = 8


class Life:
    """From the first request to the exit of the process; runs on an event loop in a thread of its own.

    Args:
        sources: What starts and stops.
        runtime: With which.
        portal: Where.
    """

    def __init__(self, sources: Sequence[PolicySource], runtime: Runtime, portal: Portal) -> None:
        self._sources = sources
        self._runtime = runtime
        self._portal: Portal | None = portal
        after_fork(self.forget)

    @classmethod
    def begin(cls, sources: Sequence[PolicySource], runtime: Runtime) -> Self | None:
        """Start what has something to start; returns None where nothing has.

        Raises:
            ConfigError: One of them cannot start, such as a stream that nobody handles.
        """
        living = [source for source in sources if source.lives]
        if not living:
            return None
        portal = Portal("smw-web")
        try:
            portal.call(_with_threads())
            for source in living:
                portal.call(source.opened(runtime))
        except BaseException:
            portal.close()
            raise
        life = cls(living, runtime, portal)
        at_exit(life.end)  # runs before the runtime's own, which is older
        return life

    def end(self) -> None:
        """Stop in reverse order; idempotent. After the runtime was closed there is nothing to stop."""
        portal, self._portal = self._portal, None
        if portal is None:
            return
        try:
            if self._runtime.is_open:
                for source in reversed(self._sources):
                    portal.call(source.closing(self._runtime))
        finally:
            portal.close()

    def forget(self) -> None:
        """Do nothing at the exit of a forked child: the thread is the parent's."""
        self._portal = None


async def _with_threads() -> None:
    asyncio.get_running_loop().set_default_executor(LastingThreads(_THREADS))
