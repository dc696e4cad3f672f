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
from smw.cache.stores.memcached_failures import failure
from smw.cache.stores.memcached_gets import answer, found_in, question
from smw.cache.stores.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from smw.cache.ports import Found
    from smw.cache.stores.memcached_gets import Many

__all__ = ["Awaiting", "Blocking"]

_CONNECTIONS = 4
_BLOCKING_CONNECTIONS = 64
_MOST_AT_FIRST = 16_384  # most replies are shorter, and room for more has to be made each time
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
                raise failure(error) from None
        try:
            if client is None:
                client = self._made()
            return getattr(self, command)(client, *args)
        except BaseException as error:
            if client is not None:
                client.close()  # its reply may not have been read to its end; it connects again
            if isinstance(error, Exception):
                raise failure(error) from error
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
    def found(client: Any, keys: Sequence[str]) -> Found:
        """Return a value and its counters."""
        sock, asked = client.sock, question(keys)
        if sock is None:
            return found_in(client.gets_many(keys), keys)  # which connects
        reply = sock.exchange(asked.request, _MOST_AT_FIRST)
        told = asked.found(reply)
        return _received(sock, reply, told, asked.found) if isinstance(told, int) else told

    @staticmethod
    def gets_many(client: Any, keys: Sequence[str]) -> Many:
        """Return values and tokens with one request."""
        sock = client.sock
        if sock is None:
            return client.gets_many(keys)  # type: ignore[no-any-return]
        reply = sock.exchange(question(keys).request, _MOST_AT_FIRST)
        return _received(sock, reply, answer(reply), answer)  # type: ignore[no-any-return]

    @staticmethod
    def add(client: Any, key: str, blob: bytes, life: int) -> bool:
        """Store where there is nothing."""
        return bool(client.add(key, blob, expire=life))

    @staticmethod
    def cas(client: Any, key: str, blob: bytes, life: int, token: Any) -> bool:
        """Store where `token` still stands."""
        return bool(client.cas(key, blob, token, expire=life))

    @staticmethod
    def set(client: Any, key: str, blob: bytes, life: int) -> None:
        """Store whatever is there."""
        if not client.set(key, blob, expire=life):
            raise StoreFailedError("full", counts=False)

    @staticmethod
    def stats(client: Any) -> dict[str, Any]:
        """Return what the server says of itself."""
        said = client.stats()
        return {name.decode(): value.decode() if isinstance(value, bytes) else value for name, value in said.items()}

    @staticmethod
    def version(client: Any) -> bytes:
        """Return the server's version."""
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


def _received(sock: Any, reply: bytes, told: Any, read: Callable[[bytes], Any]) -> Any:
    """Return what `read` makes of a reply once it has come to its end.

    Args:
        sock: Where the rest of it comes from.
        reply: What has come of it.
        told: What `read` has made of that: where it is a number, so many bytes it has at least.
        read: Reads it.
    """
    while isinstance(told, int):
        parts = [reply]  # so that a long value is not gone through anew with each of its parts
        count = told - len(reply)
        while count > 0:
            parts.append(_some(sock.recv(_most(count))))
            count -= len(parts[-1])
        reply = b"".join(parts)
        told = read(reply)
    return told


async def _awaited(reader: Any, reply: bytes, told: Any, read: Callable[[bytes], Any]) -> Any:
    """Do what `_received` does."""
    while isinstance(told, int):
        parts = [reply]
        count = told - len(reply)
        while count > 0:
            parts.append(_some(await reader.read(_most(count))))
            count -= len(parts[-1])
        reply = b"".join(parts)
        told = read(reply)
    return told


def _most(count: int) -> int:
    return max(_MOST_AT_ONCE, min(count, _MOST_TO_COME))


def _some(part: bytes) -> bytes:
    if not part:
        raise EOFError("the reply was cut off")
    return part


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
                raise failure(error) from error
            is_cut_short = 2 * (until - deadlines.now()) < timeout_s
        deadlines.begin(connection, until)
        try:
            answer = await getattr(self, command)(connection, *args)
        except BaseException as error:
            overrun = deadlines.end(connection)
            _cut(connection)
            if not isinstance(error, Exception):
                raise
            if overrun is None:
                raise failure(error) from error
            raise failure(LagError() if is_cut_short else overrun) from overrun
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
    async def found(connection: Any, keys: Sequence[str]) -> Found:
        """Return a value and its counters."""
        reader, asked = connection.reader, question(keys)
        connection.writer.write(asked.request)
        reply = await reader.read(_MOST_AT_ONCE)
        told = asked.found(reply)
        if isinstance(told, int):
            told = await _awaited(reader, reply, told, asked.found)
        return told

    @staticmethod
    async def gets_many(connection: Any, keys: Sequence[str]) -> Many:
        """Return values and tokens with one request."""
        reader = connection.reader
        connection.writer.write(question(keys).request)
        reply = await reader.read(_MOST_AT_ONCE)
        return await _awaited(reader, reply, answer(reply), answer)  # type: ignore[no-any-return]

    async def add(self, connection: Any, key: str, blob: bytes, life: int) -> bool:
        """Store where there is nothing."""
        client = self._client
        return bool(await type(client).add.__wrapped__(client, connection, key.encode(), blob, exptime=life))

    async def cas(self, connection: Any, key: str, blob: bytes, life: int, token: Any) -> bool:
        """Store where `token` still stands."""
        client = self._client
        stored = await type(client).cas.__wrapped__(client, connection, key.encode(), blob, int(token), exptime=life)
        return bool(stored)

    async def set(self, connection: Any, key: str, blob: bytes, life: int) -> None:
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
