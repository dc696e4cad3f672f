"""Finds the stream that a source's name means and keeps the writers of each event loop; knows no jobs."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

from smw._kernel.loops import PerLoop
from smw.errors import ConfigError, nearest
from smw.pipeline.memory import MemoryHub
from smw.pipeline.ports import Stream

if TYPE_CHECKING:
    from smw._kernel.host import Host
    from smw.settings import PipelineSettings

__all__ = ["Sources"]

_NAMES = ("memory", "redis")
_SCHEMES = ("redis://", "rediss://", "unix://")
_Writers = dict[tuple[str, str], Stream]


class Sources:
    """Opens streams by users' words: ``"memory"``, ``"redis"``, a Redis URL, a `Stream`, or None for the settings.

    Args:
        settings: Which Redis, how large the buffers.
        host: Clock and randomness.
    """

    def __init__(self, settings: PipelineSettings, host: Host) -> None:
        self._settings = settings
        self._host = host
        self._writers: PerLoop[_Writers] = PerLoop(dict, _close)
        self._hub = MemoryHub(host.clock, settings.stream_buffer_size)

    def forget(self) -> None:
        """Start with empty in-memory streams: in a forked child the records still belong to the parent."""
        self._hub = MemoryHub(self._host.clock, self._settings.stream_buffer_size)

    def is_memory(self, source: Any) -> bool:
        """Tell whether a source lives in this process alone."""
        return bool(self._address(source) == "memory")

    def _address(self, source: Any) -> Any:
        """Return ``"memory"``, a URL, or the stream object itself."""
        redis_url = self._settings.redis_url
        if source is None:
            return redis_url or "memory"
        if not isinstance(source, str):
            if isinstance(source, Stream):
                return source
            message = "source= takes a name, a Redis URL or an object with the methods of pipeline.Stream"
            raise ConfigError("SMW-P110", message, seen=type(source).__name__, fix='source="redis"')
        if source == "redis" and redis_url is None:
            message = 'source="redis" needs to know which Redis'
            raise ConfigError(
                "SMW-P111", message, fix='smw.configure(pipeline={"redis_url": "redis://localhost:6379"})'
            )
        if source == "redis":
            return redis_url
        if source == "memory" or source.startswith(_SCHEMES):
            return source
        message = f"unknown source {source!r}; known: memory, redis, or a redis:// URL.{nearest(source, _NAMES)}"
        raise ConfigError("SMW-P110", message, fix='source="memory"')

    def reader(self, name: str, source: Any, group: str | None) -> Stream:
        """Return a new reader of a stream; a `Stream` object is its own reader."""
        address = self._address(source)
        if not isinstance(address, str):
            return address  # type: ignore[no-any-return]
        return self._open(name, address, group or self._host.service or "smw")

    def writer(self, name: str, source: Any) -> Stream:
        """Return a writer of a stream for the running event loop, the same one each time."""
        address = self._address(source)
        if not isinstance(address, str):
            return address  # type: ignore[no-any-return]
        writers = self._writers.get()
        if (name, address) not in writers:
            writers[name, address] = self._open(name, address, "smw")
        return writers[name, address]

    def _open(self, name: str, address: str, group: str) -> Stream:
        if address == "memory":
            return self._hub.stream(name)
        from smw.pipeline.redis import RedisStream

        return RedisStream(
            address,
            name,
            group=group,
            consumer=f"{platform.node()}-{os.getpid()}-{self._host.entropy.token_bytes(4).hex()}",
            clock=self._host.clock,
            claim_idle_s=self._settings.claim_idle_s,
            keep=self._settings.stream_keep,
        )

    async def close_writers(self) -> None:
        """Close the writers of the running event loop."""
        await self._writers.aclose()


async def _close(writers: _Writers) -> None:
    for writer in writers.values():
        await writer.close()
