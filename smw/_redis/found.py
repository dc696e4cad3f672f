"""Connections that ask a finder where to go whenever they are made, and now and then whether they are still right."""

from __future__ import annotations

import contextlib
from typing import Any

import redis.exceptions as known

__all__ = ["awaiting_connection", "awaiting_pool", "blocking_connection", "blocking_pool"]


def blocking_connection(base: type[Any], finder: Any) -> type[Any]:
    """Return a connection class like `base` that goes where `finder` says.

    redis-py's own for Sentinels asks where the master is only in `connect`, and not when it sends a command.
    """

    class Found(base):  # type: ignore[misc]
        def _connect(self) -> Any:
            failure: OSError | None = None
            for self.host, self.port in finder.places():
                try:
                    return super()._connect()
                except OSError as error:
                    failure = error
            raise failure or OSError("no address")

        def send_packed_command(self, *args: Any, **more: Any) -> Any:
            if finder.due() and self._sock is not None:
                with contextlib.suppress(known.RedisError):  # what stands is used while no Sentinel says otherwise
                    if (self.host, self.port) not in finder.places():
                        self.disconnect()
            return super().send_packed_command(*args, **more)

        def read_response(self, *args: Any, **more: Any) -> Any:
            try:
                return super().read_response(*args, **more)
            except known.ReadOnlyError:
                if not finder.is_master:
                    raise
                self.disconnect()
                raise known.ConnectionError("the master has become a replica") from None

    return Found


def awaiting_connection(base: type[Any], finder: Any) -> type[Any]:
    """Return the same for coroutines."""

    class Found(base):  # type: ignore[misc]
        async def _connect(self) -> None:
            failure: OSError | None = None
            for self.host, self.port in await finder.places():
                try:
                    await super()._connect()
                except OSError as error:
                    failure = error
                else:
                    return
            raise failure or OSError("no address")

        async def send_packed_command(self, *args: Any, **more: Any) -> Any:
            if finder.due() and self.is_connected:
                with contextlib.suppress(known.RedisError):  # what stands is used while no Sentinel says otherwise
                    if (self.host, self.port) not in await finder.places():
                        await self.disconnect(nowait=True)
            return await super().send_packed_command(*args, **more)

        async def read_response(self, *args: Any, **more: Any) -> Any:
            try:
                return await super().read_response(*args, **more)
            except known.ReadOnlyError:
                if not finder.is_master:
                    raise
                await self.disconnect(nowait=True)
                raise known.ConnectionError("the master has become a replica") from None

    return Found


def blocking_pool(base: type[Any], finder: Any) -> type[Any]:
    """Return a pool like `base` that closes what `finder` has opened together with its own connections."""

    class Pool(base):  # type: ignore[misc]
        def disconnect(self, *args: Any, **more: Any) -> None:
            super().disconnect(*args, **more)
            for client in finder.clients():
                client.connection_pool.disconnect()

    return Pool


def awaiting_pool(base: type[Any], finder: Any) -> type[Any]:
    """Return the same for coroutines."""

    class Pool(base):  # type: ignore[misc]
        async def disconnect(self, *args: Any, **more: Any) -> None:
            await super().disconnect(*args, **more)
            for client in finder.clients():
                await client.connection_pool.disconnect()

    return Pool
