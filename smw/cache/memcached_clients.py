"""The two clients of one memcached server behind the same few commands; knows neither values nor tags."""

from __future__ import annotations

import contextlib
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from smw._kernel import deadline
from smw._kernel.loops import PerLoop
from smw._kernel.process import after_fork
from smw.cache.ports import StoreFailedError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

__all__ = ["Awaiting", "Blocking", "Many"]

Many = dict[str, tuple[bytes, Any]]
"""Key → (value, cas token)."""
_CONNECTIONS = 4
_BLOCKING_CONNECTIONS = 64


def _address(server: str) -> tuple[str, int]:
    host, _, port = server.rpartition(":")
    return host.strip("[]"), int(port)


class Blocking:
    """pymemcache for one server.

    Args:
        server: ``host:port``.
        timeout_s: Most that connecting, or one read, may take.
    """

    def __init__(self, server: str, timeout_s: float) -> None:
        self._server = server
        self._timeout_s = timeout_s
        self._opening = threading.RLock()
        self._client: Any = None
        after_fork(self._forked)

    def _forked(self) -> None:
        self._opening = threading.RLock()
        self._client = None

    def _open(self) -> Any:
        with self._opening:
            if self._client is None:
                from pymemcache.client.base import PooledClient

                # An answer is always waited for: noreply says True to a server that hangs.
                self._client = PooledClient(
                    _address(self._server),
                    connect_timeout=self._timeout_s,
                    timeout=self._timeout_s,
                    no_delay=True,
                    socket_module=deadline.socket_module,
                    max_pool_size=_BLOCKING_CONNECTIONS,
                    default_noreply=False,
                    lock_generator=threading.RLock,  # a signal handler may drop something in the middle of a command
                )
            return self._client

    def ask(self, command: str, *args: Any) -> Any:
        """Run one command.

        Raises:
            StoreFailedError: It failed.
        """
        client = self._client or self._open()
        try:
            return getattr(self, f"_{command}")(client, *args)
        except Exception as error:
            raise _failure(error) from error

    @staticmethod
    def _gets_many(client: Any, keys: Sequence[str]) -> Many:
        return client.gets_many(keys)  # type: ignore[no-any-return]

    @staticmethod
    def _add(client: Any, key: str, blob: bytes, life: int) -> bool:
        return bool(client.add(key, blob, expire=life))

    @staticmethod
    def _cas(client: Any, key: str, blob: bytes, life: int, token: Any) -> bool:
        return bool(client.cas(key, blob, token, expire=life))

    @staticmethod
    def _set(client: Any, key: str, blob: bytes, life: int) -> None:
        if not client.set(key, blob, expire=life):
            raise StoreFailedError("full", counts=False)

    @staticmethod
    def _stats(client: Any) -> dict[str, Any]:
        said = client.stats()
        return {name.decode(): value.decode() if isinstance(value, bytes) else value for name, value in said.items()}

    @staticmethod
    def _version(client: Any) -> bytes:
        return client.version()  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close its connections; idempotent."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


class Awaiting:
    """aiomcache for one server, one client per event loop.

    A cancelled call of aiomcache gives its connection back with the reply unread, and the next call reads it as its
    own. So each operation runs in a task of its own that nobody cancels; a caller whose deadline passes abandons the
    wait, and the client with every connection of it is closed and replaced.

    Args:
        server: ``host:port``.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._clients: PerLoop[_Client] = PerLoop(lambda: _Client(_address(server)), _Client.aclose)

    async def ask(self, timeout_s: float, command: str, *args: Any) -> Any:
        """Run one command within `timeout_s`.

        Raises:
            StoreFailedError: It failed or took too long.
        """
        import asyncio

        client = self._clients.get()
        loop = asyncio.get_running_loop()
        task, ended = loop.create_task(getattr(client, command)(*args)), loop.create_future()
        task.add_done_callback(_consume)
        task.add_done_callback(partial(_end, ended))
        timer = loop.call_later(timeout_s, _end, ended)
        try:
            await ended
        except asyncio.CancelledError:
            loop.call_later(timeout_s, self._discard, client, task)
            raise
        finally:
            timer.cancel()
        if not task.done():
            self._discard(client, task)
            raise StoreFailedError("timeout")
        try:
            return task.result()
        except Exception as error:
            failure = _failure(error)
            if failure.kind == "protocol":
                self._discard(client, task)
            raise failure from error

    def _discard(self, client: _Client, task: Any) -> None:
        """Close `client` unless the operation has ended well meanwhile."""
        if task.done() and (task.cancelled() or not task.exception()):
            return
        self._clients.replace(client)
        client.abort()
        task.cancel()

    def close(self) -> None:
        """Have the connections of all loops closed there; idempotent."""
        self._clients.close()

    async def aclose(self) -> None:
        """Close the connections of the running loop; idempotent."""
        await self._clients.aclose()


def _end(waiting: asyncio.Future[None], _task: object = None) -> None:
    if not waiting.done():
        waiting.set_result(None)


def _consume(task: Any) -> None:
    """Read the outcome of an operation, so that one nobody waits for any more is not reported."""
    if not task.cancelled():
        task.exception()


class _Client:
    """One aiomcache client and the few commands that are needed of it."""

    def __init__(self, address: tuple[str, int]) -> None:
        import aiomcache
        from aiomcache.client import acquire

        class Client(aiomcache.Client):
            @acquire
            async def gets_many(
                self, connection: Any, keys: list[bytes]
            ) -> tuple[dict[bytes, bytes], dict[bytes, int]]:
                return await self._multi_get(connection, *keys)

            async def _execute_simple_command(self, conn: Any, raw_command: bytes) -> bytes:
                # aiomcache reads on where a server hangs up before it has answered, and never lets go of the loop.
                conn.writer.write(raw_command)
                await conn.writer.drain()
                line: bytes = await conn.reader.readline()
                if not line.endswith(b"\r\n"):
                    raise EOFError("the reply was cut off")
                return line[:-2]

        self._client = Client(*address, pool_size=_CONNECTIONS)

    async def gets_many(self, keys: Sequence[str]) -> Many:
        """Return values and tokens with one request."""
        client: Any = self._client
        values, tokens = await client.gets_many([key.encode() for key in keys])
        return {key.decode(): (value, tokens[key]) for key, value in values.items()}

    async def add(self, key: str, blob: bytes, life: int) -> bool:
        """Store where there is nothing."""
        return bool(await self._client.add(key.encode(), blob, exptime=life))

    async def cas(self, key: str, blob: bytes, life: int, token: int) -> bool:
        """Store where `token` still stands."""
        return bool(await self._client.cas(key.encode(), blob, token, exptime=life))

    async def set(self, key: str, blob: bytes, life: int) -> None:
        """Store whatever is there."""
        if not await self._client.set(key.encode(), blob, exptime=life):
            raise StoreFailedError("full", counts=False)

    def abort(self) -> None:
        """Close every connection at once, those in use included: their operations fail."""
        pool = self._client._pool  # noqa: SLF001 - aiomcache offers no way to close a connection in use
        for connection in tuple(pool._in_use):  # noqa: SLF001
            connection.reader.set_exception(ConnectionAbortedError("overrun"))
            connection.writer.transport.abort()
        while not pool._pool.empty():  # noqa: SLF001
            pool._do_close(pool._pool.get_nowait())  # noqa: SLF001

    async def aclose(self) -> None:
        """Close every connection."""
        pool = self._client._pool  # noqa: SLF001
        writers = [connection.writer for connection in (*pool._in_use, *vars(pool._pool)["_queue"])]  # noqa: SLF001
        self.abort()
        for writer in writers:
            with contextlib.suppress(Exception):
                await writer.wait_closed()


_KINDS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (TimeoutError, "timeout"),
    (ConnectionRefusedError, "refused"),
    ((OSError, EOFError), "connection"),
)
_TEXTS = (("too large", "too-large", False), ("out of memory", "full", False), ("Too many objects", "busy", True))


def _failure(error: Exception) -> StoreFailedError:
    if isinstance(error, StoreFailedError):
        return error
    kind = next((kind for types, kind in _KINDS if isinstance(error, types)), "")
    if kind or type(error).__name__ == "MemcacheUnexpectedCloseError":
        return StoreFailedError(kind or "connection")
    text = str(error)
    for part, kind, counts in _TEXTS:
        if part in text:
            return StoreFailedError(kind, counts=counts)
    return StoreFailedError("protocol")
