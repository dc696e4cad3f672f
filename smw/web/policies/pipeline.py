"""Ties the streams of the runtime to the life of the application; does nothing around a single exchange."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, ClassVar

from smw.errors import ConfigError
from smw.web.source import PolicySource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from smw.runtime import Runtime

__all__ = ["PipelineSource"]

_log = logging.getLogger("smw.web")


class PipelineSource(PolicySource):
    """Serves streams in the application's process; what it emits is flushed and closed with the runtime.

    Args:
        profile: As for every policy.
        overrides: ``in_app``: names of the streams to serve.

    Raises:
        ConfigError: As for every policy, or `in_app` is no list of names.
    """

    name: ClassVar[str] = "pipeline"
    rank: ClassVar[int] = 30
    takes: ClassVar[Mapping[str, str]] = {"in_app": ""}

    def __init__(self, profile: str | None = None, overrides: Mapping[str, Any] | None = None) -> None:
        super().__init__(profile, overrides)
        given = self.overrides.get("", {}).get("in_app", ())
        if not isinstance(given, list | tuple | set | frozenset) or not all(isinstance(name, str) for name in given):
            fix = 'in_app=("user_events",)'
            raise ConfigError("SMW-W106", "in_app takes the names of streams", seen=repr(given), fix=fix)
        self._in_app: tuple[str, ...] = tuple(given)
        self._workers: dict[str, asyncio.Task[None]] = {}

    def bind(self, runtime: Runtime) -> None:
        """Return None: an exchange passes untouched."""

    @property
    def lives(self) -> bool:
        """Whether there are streams to serve."""
        return bool(self._in_app)

    async def opened(self, runtime: Runtime) -> None:
        """Start serving; a stream that nobody handles stops the startup."""
        self._workers = {name: _serving(runtime, name) for name in self._in_app}
        if self._workers:
            done, _ = await asyncio.wait(self._workers.values(), timeout=0)
            for worker in done:
                worker.result()

    async def closing(self, runtime: Runtime) -> None:
        """Let every worker finish what it has in hand; what waits in memory alone is handled before it is gone."""
        workers, self._workers = self._workers, {}
        await _stop(runtime, workers)
        pipeline = runtime.pipeline
        well = [name for name, worker in workers.items() if not worker.cancelled() and worker.exception() is None]
        rest = {name: _serving(runtime, name, until_empty=True) for name in well if pipeline.in_memory(name)}
        if rest:
            await asyncio.wait(rest.values(), timeout=pipeline.settings.drain_s)
            await _stop(runtime, rest)


def _serving(runtime: Runtime, name: str, *, until_empty: bool = False) -> asyncio.Task[None]:
    serve = runtime.pipeline.serve(name, until_empty=until_empty)
    worker = asyncio.create_task(serve, name=f"smw-stream-{name}")
    worker.add_done_callback(_report)
    return worker


async def _stop(runtime: Runtime, workers: Mapping[str, asyncio.Task[None]]) -> None:
    for name in workers:
        runtime.pipeline.stop(name)
    if workers:
        await asyncio.wait(workers.values())


def _report(worker: asyncio.Task[None]) -> None:
    error = None if worker.cancelled() else worker.exception()
    if error is not None:
        _log.error("%s has ended: %s", worker.get_name(), error)
