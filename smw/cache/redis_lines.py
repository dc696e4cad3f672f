"""Sends commands over connections that stay checked out of redis-py's pool; knows no command.

redis-py looks, before each command, whether a pooled connection has gone stale, which costs a quarter of a round trip.
Here a connection is used as it is; one that turns out to be stale is reconnected and asked once more. A connection
whose reply was not read to its end, for whatever reason, is disconnected at once.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from smw._kernel.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import redis
    import redis.asyncio

    from smw.cache.redis_reads import Reads

__all__ = ["AwaitingLines", "BlockingLines"]


def _packer() -> Callable[[tuple[Any, ...]], bytes] | None:
    """Return what packs a command with hiredis, or None where it is not installed.

    redis-py does so for blocking connections alone, and looks for words in it that are none of ours.
    """
    from redis.utils import HIREDIS_AVAILABLE

    if not HIREDIS_AVAILABLE:
        return None
    from hiredis import pack_command

    return pack_command


class BlockingLines:
    """Connections of blocking callers.

    Args:
        client: Whose pool the connections come from.
        most: Connections at a time.
        wait_s: How long a caller waits for one when all are in use.
    """

    def __init__(self, client: redis.Redis, *, most: int, wait_s: float) -> None:
        import redis.exceptions as known

        self._pool = client.connection_pool
        self._idle: deque[Any] = deque([None] * most)  # None: room for a connection that is still to be made
        self._given_back = threading.Condition()
        self._waiters = 0
        self._wait_s = wait_s
        self._pack = _packer()
        self._lost: type[Exception] = known.ConnectionError
        self._answered: type[Exception] = known.ResponseError
        self._busy: type[Exception] = known.MaxConnectionsError

    def run(self, *command: Any, first: tuple[Any, ...] | None = None) -> Any:
        """Return the reply to a command; `first` goes before it on the same connection."""
        idle = self._idle
        try:
            line = idle.pop()  # atomic, and so cheaper than a semaphore
        except IndexError:
            line = self._awaited()
        try:
            if line is None:
                line = self._pool.get_connection()
                return self._ask(line, command, first)
            try:
                return self._ask(line, command, first)
            except self._lost:
                return self._ask(line, command, first)  # it had gone stale, and connects again
        finally:
            if line is None:
                idle.appendleft(None)
            else:
                idle.append(line)
            if self._waiters:
                with self._given_back:
                    self._given_back.notify()

    def _awaited(self) -> Any:
        """Return a connection that another caller gives back, or room for one."""
        until = SystemClock.now() + self._wait_s
        with self._given_back:
            self._waiters += 1
            try:
                while True:
                    with contextlib.suppress(IndexError):  # somebody who has just come was quicker
                        return self._idle.pop()
                    if not self._given_back.wait(until - SystemClock.now()):
                        raise self._busy("all connections are in use")
            finally:
                self._waiters -= 1

    def _ask(self, line: Any, command: tuple[Any, ...], first: tuple[Any, ...] | None) -> Any:
        if first is not None:
            self._ask(line, first, None)
        try:
            packed = line.pack_command(*command) if self._pack is None else (self._pack(command),)
            line.send_packed_command(packed, check_health=False)
            return line.read_response()
        except self._answered:
            raise
        except BaseException:
            line.disconnect()
            raise

    def close(self) -> None:
        """Close every connection; those in use fail, and the next command connects again."""
        idle, lines = self._idle, []
        with contextlib.suppress(IndexError):
            while True:
                lines.append(idle.pop())  # which nobody else can take meanwhile
        for line in filter(None, lines):
            line.disconnect()
        idle.extend(reversed(lines))
        self._pool.disconnect()


class AwaitingLines:
    """Connections of one event loop.

    Attributes:
        reads: Those of one tick together.

    Args:
        client: Whose pool the connections come from.
        most: Connections at a time; a caller beyond waits within its deadline.
        reads: How those of one tick travel; None for one MGET.
    """

    def __init__(self, client: redis.asyncio.Redis, *, most: int, reads: type[Reads] | None = None) -> None:
        import asyncio

        import redis.exceptions as known

        from smw.cache.redis_reads import Reads as Plain

        self.reads: Reads = (reads or Plain)(self)
        self._pack = _packer()
        self._client = client
        self._pool = client.connection_pool
        self._idle: deque[Any] = deque()
        self._free = asyncio.Semaphore(most)
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout
        self._lost: type[Exception] = known.ConnectionError
        self._answered: type[Exception] = known.ResponseError

    async def run(self, timeout_s: float, *command: Any, first: tuple[Any, ...] | None = None) -> Any:
        """Return the reply to a command; `first` goes before it on the same connection.

        Raises:
            TimeoutError: It did not come within `timeout_s`.
        """
        if first is None and self._idle and self._idle[-1].is_connected and not self._free.locked():
            done, reply = await self._run_quickly(timeout_s, command)
            if done:
                return reply
        async with self._timeout(timeout_s), self._free:
            pool: Any = self._pool
            line = self._idle.pop() if self._idle else await pool.get_connection()
            try:
                if first is not None:
                    await self._ask(line, first)
                return await self._ask(line, command)
            finally:
                self._idle.append(line)

    async def run_all(self, timeout_s: float, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return the replies to commands that are sent at once; an error reply is its exception.

        Raises:
            TimeoutError: They did not all come within `timeout_s`.
        """
        async with self._timeout(timeout_s), self._free:
            pool: Any = self._pool
            line = self._idle.pop() if self._idle else await pool.get_connection()
            try:
                try:
                    return await self._ask_all(line, commands)
                except self._lost:
                    return await self._ask_all(line, commands)  # it had gone stale, and connects again
            finally:
                self._idle.append(line)

    async def _ask_all(self, line: Any, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        try:
            packed = b"".join(b"".join(line.pack_command(*command)) for command in commands)
            await line.send_packed_command(packed, check_health=False)
            replies: list[Any] = []
            for _ in commands:
                try:
                    replies.append(await line.read_response())
                except self._answered as error:
                    replies.append(error)
        except BaseException as error:
            await line.disconnect(nowait=True)
            if isinstance(error, AttributeError):  # see `_ask`
                raise self._lost from error
            raise
        return replies

    async def _run_quickly(self, timeout_s: float, command: tuple[Any, ...]) -> tuple[bool, Any]:
        """Ask over a connection that stands; returns whether it still did.

        One timer watches it, which is cheaper than a time-out around the task.
        """
        line = self._idle.pop()
        overrun: list[bool] = []
        timer = self._loop.call_later(timeout_s, _cut, line, overrun)
        await self._free.acquire()  # does not suspend: one was free
        try:
            reply = await self._ask(line, command)
        except self._lost:
            if overrun:
                raise TimeoutError from None
            return False, None
        else:
            if overrun:  # cut in the moment in which the answer had come
                await line.disconnect(nowait=True)
            return True, reply
        finally:
            timer.cancel()
            self._idle.append(line)
            self._free.release()

    async def _ask(self, line: Any, command: tuple[Any, ...]) -> Any:
        try:
            packed = line.pack_command(*command) if self._pack is None else (self._pack(command),)
            await line.send_packed_command(packed, check_health=False)
            return await line.read_response()
        except self._answered:
            raise
        except BaseException as error:
            await line.disconnect(nowait=True)
            if isinstance(error, AttributeError):  # how some releases of Python say that a transport was closed
                raise self._lost from error
            raise

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()
        await self._pool.disconnect()


def _cut(line: Any, overrun: list[bool]) -> None:
    overrun.append(True)
    writer = line._writer  # noqa: SLF001 - the only way to end a read from outside
    if writer is not None:
        writer.transport.abort()
