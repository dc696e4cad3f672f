"""The two clients of one memcached server behind the same few commands; knows neither values nor tags."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any

from smw._kernel import deadline
from smw._kernel.loops import PerLoop
from smw._kernel.process import after_fork
from smw.cache.ports import StoreFailedError
from smw.cache.stores.deadlines import Deadlines, LagError
from smw.cache.stores.memcached_gets import answer, found, found_in, question
from smw.cache.stores.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from smw.cache.ports import Found
    from smw.cache.stores.memcached_gets import Many

__all__ = ["Awaiting", "Blocking"]

_CONNECTIONS = 4
_BLOCKING_CONNECTIONS = 64
_MOST_AT_ONCE = 65_536
_MOST_TO_COME = 1_048_576


def _address(server: str) -> tuple[str, int]:
    host, _, port = server.rpartition(":")
    return host.strip("[]"), int(port)


class Blocking:
    """pymemcache for one server: clients of one connection each.

    Args:
        server: ``host:port``.
        timeout_s: Most that connecting, or one exchange, may take.
    """

    def __init__(self, server: str, timeout_s: float) -> None:
        self._server = server
        self._timeout_s = timeout_s
        self._is_closed = False
        self._forked()
        after_fork(self._forked)

    def _forked(self) -> None:
        idle: deque[Any] = deque([None] * _BLOCKING_CONNECTIONS)  # None: room for one that is still to be made
        self._turns = Turns(idle, wait_s=self._timeout_s)

    def _made(self) -> Any:
        from pymemcache.client.base import Client

        made: Any = Client  # which wants a module, though what has its names will do
        # An answer is always waited for: noreply says True to a server that hangs.
        return made(
            _address(self._server),
            connect_timeout=self._timeout_s,
            timeout=self._timeout_s,
            no_delay=True,
            socket_module=deadline.SocketModule(self._timeout_s),
            default_noreply=False,
        )

    def ask(self, command: str, *args: Any) -> Any:
        """Run one command.

        Raises:
            StoreFailedError: It failed, or all connections stayed in use for as long as it may take.
        """
        turns, client = self._turns, None
        idle = turns.idle
        try:
            client = idle.pop()  # atomic, and so cheaper than the lock of the pool of pymemcache
        except IndexError:
            try:
                client = turns.take()
            except LagError as error:
                raise _failure(error) from None
        try:
            if client is None:
                client = self._made()
            return getattr(self, f"_{command}")(client, *args)
        except BaseException as error:
            if client is not None:
                client.close()  # its reply may not have been read to its end; it connects again
            if isinstance(error, Exception):
                raise _failure(error) from error
            raise
        finally:
            if client is None:
                idle.appendleft(None)
            elif turns is self._turns and not self._is_closed:
                idle.append(client)
            else:
                client.close()  # all were closed meanwhile
            if turns.waiters:
                turns.given_back()

    @staticmethod
    def _found(client: Any, keys: Sequence[str]) -> Found:
        if client.sock is None:
            return found_in(client.gets_many(keys), keys)  # which connects
        return _gets(client.sock, keys, found)  # type: ignore[no-any-return]

    @staticmethod
    def _gets_many(client: Any, keys: Sequence[str]) -> Many:
        if client.sock is None:
            return client.gets_many(keys)  # type: ignore[no-any-return]
        return _gets(client.sock, keys, _all)  # type: ignore[no-any-return]

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
        """Close its connections, and those in use once they are given back; idempotent."""
        idle, self._is_closed = self._turns.idle, True
        self._forked()
        with contextlib.suppress(IndexError):
            while True:
                client = idle.pop()  # which nobody else can take meanwhile
                if client is not None:
                    client.close()


def _received(sock: Any, count: int) -> bytes:
    """Return so many bytes at least, so that a long value is not gone through anew with each of its parts."""
    parts = []
    while count > 0:
        part = sock.recv(max(_MOST_AT_ONCE, min(count, _MOST_TO_COME)))
        if not part:
            raise EOFError("the reply was cut off")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


async def _read(reader: Any, count: int) -> bytes:
    """Return so many bytes at least, as `_received` does."""
    parts = []
    while count > 0:
        part = await reader.read(max(_MOST_AT_ONCE, min(count, _MOST_TO_COME)))
        if not part:
            raise EOFError("the reply was cut off")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _all(reply: bytes, _asked: bytes, _keys: Sequence[str]) -> Many | int:
    return answer(reply)


def _gets(sock: Any, keys: Sequence[str], read: Callable[[bytes, bytes, Sequence[str]], Any]) -> Any:
    """Ask for `keys` with one request, and return what `read` makes of the reply once it has come to its end."""
    asked = question(keys)
    reply = sock.exchange(asked, _MOST_AT_ONCE)
    while isinstance(told := read(reply, asked, keys), int):
        reply += _received(sock, told - len(reply))
    return told


async def _awaited(connection: Any, keys: Sequence[str], read: Callable[[bytes, bytes, Sequence[str]], Any]) -> Any:
    """Do what `_gets` does."""
    reader, asked = connection.reader, question(keys)
    connection.writer.write(asked)
    reply: bytes = await reader.read(_MOST_AT_ONCE)
    while isinstance(told := read(reply, asked, keys), int):
        reply += await _read(reader, told - len(reply))
    return told


class Awaiting:
    """aiomcache for one server, one client per event loop.

    A cancelled call of aiomcache gives its connection back with the reply unread, and the next call reads it as its
    own. So connections are taken from its pool here, and whoever does not read a reply to its end, being cancelled or
    too late, cuts the connection off.

    Args:
        server: ``host:port``.
    """

    def __init__(self, server: str) -> None:
        self._clients: PerLoop[_Client] = PerLoop(lambda: _Client(_address(server)), _Client.aclose)

    def ask(self, timeout_s: float, command: str, *args: Any) -> Awaitable[Any]:
        """Return an awaitable of the reply to one command.

        Raises:
            StoreFailedError: It failed or took too long.
        """
        return self._clients.get().ask(timeout_s, command, *args)

    def close(self) -> None:
        """Have the connections of all loops closed there; idempotent."""
        self._clients.close()

    async def aclose(self) -> None:
        """Close the connections of the running loop; idempotent."""
        await self._clients.aclose()


class _Client:
    """One aiomcache client, the few commands that are needed of it, and its connections."""

    def __init__(self, address: tuple[str, int]) -> None:
        import aiomcache

        class Client(aiomcache.Client):
            async def _execute_simple_command(self, conn: Any, raw_command: bytes) -> bytes:
                # aiomcache reads on where a server hangs up before it has answered, and never lets go of the loop.
                conn.writer.write(raw_command)
                await conn.writer.drain()
                line: bytes = await conn.reader.readline()
                if not line.endswith(b"\r\n"):
                    raise EOFError("the reply was cut off")
                return line[:-2]

        self._client: Any = Client(*address, pool_size=_CONNECTIONS)
        self._pool: Any = self._client._pool  # noqa: SLF001 - what takes a connection and asks is one in aiomcache
        self._idle: deque[Any] = deque()  # which aiomcache takes for used, so that none of its queue is gone through
        self._waiting = 0
        self._is_closed = False
        self._turn = asyncio.Lock()
        self._deadlines = Deadlines(lambda connection: connection.writer.transport)

    async def ask(self, timeout_s: float, command: str, *args: Any) -> Any:
        """Run one command over a connection of its own.

        Raises:
            StoreFailedError: It failed or took too long, or the event loop was too busy to take in the reply in time.
        """
        deadlines = self._deadlines
        until, is_cut_short = deadlines.now() + timeout_s, False
        connection = self._at_hand()
        if connection is None:
            try:
                connection = await deadlines.obtain(until, self._given)
            except Exception as error:
                raise _failure(error) from error
            is_cut_short = 2 * (until - deadlines.now()) < timeout_s
        deadlines.begin(connection, until)
        try:
            answer = await getattr(self, f"_{command}")(connection, *args)
        except BaseException as error:
            overrun = deadlines.end(connection)
            _cut(connection)
            if not isinstance(error, Exception):
                raise
            if overrun is None:
                raise _failure(error) from error
            raise _failure(LagError() if is_cut_short else overrun) from overrun
        else:
            if deadlines.end(connection) is not None:  # cut in the moment in which the answer had come
                _cut(connection)
            deadlines.answered += 1
            return answer
        finally:
            self._give_back(connection)

    def _at_hand(self) -> Any:
        """Return a connection that stands and that nobody uses, or None where it has to be waited for or made."""
        while self._idle:
            connection = self._idle.pop()
            reader = connection.reader
            if reader.exception() is None and not reader.at_eof():
                return connection
            self._pool.release(connection)  # which closes it
        return None

    def _give_back(self, connection: Any) -> None:
        if self._waiting:  # one that was cut is replaced by whoever takes it; aiomcache would close it, and wake nobody
            self._pool._in_use.remove(connection)  # noqa: SLF001
            self._pool._pool.put_nowait(connection)  # noqa: SLF001
        elif connection.reader.exception() is None:
            self._idle.append(connection)
        else:
            self._pool.release(connection)

    async def _given(self) -> Any:
        """Return a connection from the pool of aiomcache, which makes them, and hands on what is given back.

        One caller at a time: as long as there are too few, each that asks it makes all that are missing.
        """
        self._waiting += 1
        try:
            async with self._turn:
                connection = None if self._is_closed else await self._pool.acquire()
        finally:
            self._waiting -= 1
        if not self._is_closed:
            return connection
        if connection is not None:
            _cut(connection)
            self._pool.release(connection)
        raise ConnectionAbortedError("closed")

    @staticmethod
    def _found(connection: Any, keys: Sequence[str]) -> Coroutine[Any, Any, Found]:
        """Return a value and its counters."""
        return _awaited(connection, keys, found)

    @staticmethod
    def _gets_many(connection: Any, keys: Sequence[str]) -> Coroutine[Any, Any, Many]:
        """Return values and tokens with one request."""
        return _awaited(connection, keys, _all)

    async def _add(self, connection: Any, key: str, blob: bytes, life: int) -> bool:
        """Store where there is nothing."""
        client = self._client
        return bool(await type(client).add.__wrapped__(client, connection, key.encode(), blob, exptime=life))

    async def _cas(self, connection: Any, key: str, blob: bytes, life: int, token: Any) -> bool:
        """Store where `token` still stands."""
        client = self._client
        stored = await type(client).cas.__wrapped__(client, connection, key.encode(), blob, int(token), exptime=life)
        return bool(stored)

    async def _set(self, connection: Any, key: str, blob: bytes, life: int) -> None:
        """Store whatever is there."""
        client = self._client
        if not await type(client).set.__wrapped__(client, connection, key.encode(), blob, exptime=life):
            raise StoreFailedError("full", counts=False)

    async def aclose(self) -> None:
        """Close every connection; operations in flight fail."""
        self._is_closed = True
        free: Any = self._pool._pool  # noqa: SLF001
        connections = [*self._pool._in_use, *vars(free)["_queue"]]  # noqa: SLF001
        for connection in connections:
            _cut(connection)
        while self._idle:
            self._pool.release(self._idle.pop())
        while not free.empty():
            self._pool._do_close(free.get_nowait())  # noqa: SLF001
        for connection in connections:
            with contextlib.suppress(Exception):  # what was lost with it is no matter any more
                await connection.writer.wait_closed()


def _cut(connection: Any) -> None:
    """End a connection, so that the pool does not hand it out again."""
    if connection.reader.exception() is None:
        connection.reader.set_exception(ConnectionAbortedError("overrun"))
    connection.writer.transport.abort()


_KINDS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (LagError, "lag"),
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
