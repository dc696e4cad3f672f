"""Finds the stream that a source's name means and keeps the writers of each event loop; knows no jobs."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

from smw._kernel.loops import PerLoop
from smw.errors import ConfigError, nearest
from smw.pipeline.memory import MemoryHub
from smw.pipeline.ports import Stream
from smw.urls import masked

if TYPE_CHECKING:
    from smw._kernel.host import Host
    from smw.settings import PipelineSettings

__all__ = ["Sources"]

_NAMES = ("kafka", "memory", "redis")
_METHODS = tuple(name for name in {**vars(Stream), **Stream.__annotations__} if not name.startswith("_"))
"""What makes a stream; `isinstance` would see what a wrapper passes on in some releases of Python and not in others."""
_SCHEMES = ("redis://", "rediss://", "unix://", "redis+sentinel://", "rediss+sentinel://")
_Writers = dict[tuple[str, str], Stream]


class Sources:
    """Opens streams by users' words: ``"memory"``, ``"redis"``, a Redis URL, ``"kafka"``, a `Stream`, or None.

    None stands for the settings: Redis where ``redis_url`` is set, else Kafka where ``kafka_brokers`` are, else memory.

    Args:
        settings: Which Redis, which Kafka, how large the buffers.
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
        """Return ``"memory"``, ``"kafka"``, a URL, or the stream object itself."""
        redis_url, brokers = self._settings.redis_url, self._settings.kafka_brokers
        if source is None:
            return redis_url or ("kafka" if brokers else "memory")
        if not isinstance(source, str):
            if all(hasattr(source, name) for name in _METHODS):
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
        if source == "kafka" and not brokers:
            message = 'source="kafka" needs to know which brokers'
            raise ConfigError("SMW-P111", message, fix='smw.configure(pipeline={"kafka_brokers": "localhost:9092"})')
        if source in ("kafka", "memory") or source.startswith(_SCHEMES):
            return source
        known = f"known: kafka, memory, redis, or a redis:// URL.{nearest(source, _NAMES)}"
        raise ConfigError("SMW-P110", f"unknown source {masked(source)!r}; {known}", fix='source="memory"')

    def reader(self, name: str, source: Any, group: str | None) -> Stream:
        """Return a new reader of a stream; a `Stream` object is its own reader."""
        address = self._address(source)
        if not isinstance(address, str):
            return address  # type: ignore[no-any-return]
        return self._open(name, address, group)

    def writer(self, name: str, source: Any) -> Stream:
        """Return a writer of a stream for the running event loop, the same one each time."""
        address = self._address(source)
        if not isinstance(address, str):
            return address  # type: ignore[no-any-return]
        writers = self._writers.get()
        if (name, address) not in writers:
            writers[name, address] = self._open(name, address, None)
        return writers[name, address]

    def _open(self, name: str, address: str, group: str | None) -> Stream:
        if address == "memory":
            return self._hub.stream(name)
        settings, host = self._settings, self._host
        service = host.service or "smw"
        me = f"{platform.node()}-{os.getpid()}-{host.entropy.token_bytes(4).hex()}"
        if address == "kafka":
            from smw.pipeline.kafka import KafkaStream

            return KafkaStream(
                settings.kafka_brokers,
                name,
                group=group or f"{service}.{name}",  # readers of different topics in one group would disturb each other
                client_id=me,
                clock=host.clock,
                entropy=host.entropy,
                session_s=settings.claim_idle_s,
                grace_s=settings.drain_s,
                timeout_s=settings.emit_timeout_s,
                buffer=settings.stream_buffer_size,
            )
        from smw.pipeline.redis import RedisStream

        return RedisStream(
            address,
            name,
            group=group or service,
            consumer=me,
            clock=host.clock,
            claim_idle_s=settings.claim_idle_s,
            keep=settings.stream_keep,
        )

    async def close_writers(self) -> None:
        """Close the writers of the running event loop."""
        await self._writers.aclose()


async def _close(writers: _Writers) -> None:
    for writer in writers.values():
        await writer.close()
