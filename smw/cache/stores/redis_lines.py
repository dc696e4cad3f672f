"""Sends commands over connections that stay checked out of redis-py's pool; knows no command.

redis-py looks, before each command, whether a pooled connection has gone stale, which costs a quarter of a round trip.
Here a connection is used as it is; one that turns out to be stale is reconnected and asked once more. A connection
whose reply was not read to its end, for whatever reason, is disconnected at once.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any

from smw.cache.stores.deadlines import Deadlines, LagError
from smw.cache.stores.turns import Turns

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Sequence

    import redis
    import redis.asyncio

    from smw.cache.stores.redis_reads import Reads
    from smw.cache.stores.redis_runs import Runs

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
        self._turns = Turns(self._idle, wait_s=wait_s)
        self._pack = _packer()
        self._lost: type[Exception] = known.ConnectionError
        self._answered: type[Exception] = known.ResponseError
        self._is_ended = False

    def run(self, *command: Any, first: tuple[Any, ...] | None = None) -> Any:
        """Return the reply to a command; `first` goes before it on the same connection."""
        idle = self._idle
        try:
            line = idle.pop()  # atomic, and so cheaper than a semaphore
        except IndexError:
            line = self._turns.take()
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
            if self._is_ended:
                self._close_idle()
                self._pool.disconnect(inuse_connections=False)
            if self._turns.waiters:
                self._turns.given_back()

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

    def _close_idle(self) -> None:
        idle, lines = self._idle, []
        with contextlib.suppress(IndexError):
            while True:
                lines.append(idle.pop())  # which nobody else can take meanwhile
        for line in filter(None, lines):
            line.disconnect()
        idle.extend(reversed(lines))

    def close(self) -> None:
        """Close every connection; those in use fail, and the next command connects again."""
        self._close_idle()
        self._pool.disconnect()

    def end(self) -> None:
        """Close as `close` does; what a thread still asks is answered, and leaves no connection open."""
        self._is_ended = True
        self.close()


class AwaitingLines:
    """Connections of one event loop.

    Attributes:
        reads: Those of one tick together.
        runs: The scripts of one tick together.

    Args:
        client: Whose pool the connections come from.
        most: Connections at a time; a caller beyond waits within its deadline.
        reads: How those of one tick travel; None for one MGET.
    """

    def __init__(self, client: redis.asyncio.Redis, *, most: int, reads: type[Reads] | None = None) -> None:
        import asyncio

        import redis.exceptions as known

        from smw.cache.stores import redis_reads, redis_runs

        self._deadlines = Deadlines(_transport)
        self.reads: Reads = (reads or redis_reads.Reads)(self, self._deadlines.busy)
        self.runs: Runs = redis_runs.Runs(self, self._deadlines.busy)
        self._pack = _packer()
        self._client = client
        self._pool = client.connection_pool
        self._idle: deque[Any] = deque([None] * most)  # None: room for a connection that is still to be made
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._now = self._deadlines.now
        self._future = asyncio.get_running_loop().create_future
        self._lost: type[Exception] = known.ConnectionError
        self._answered: type[Exception] = known.ResponseError

    def run(self, timeout_s: float, *command: Any, first: tuple[Any, ...] | None = None) -> Awaitable[Any]:
        """Return an awaitable of the reply to a command; `first` goes before it on the same connection.

        Raises:
            LagError: The event loop was too busy to take in the reply within `timeout_s`, or to ask at all.
            TimeoutError: It did not come within `timeout_s`.
        """
        if first is not None:
            return self._within(timeout_s, self._ask_both, first, command)
        return self._within(timeout_s, self._ask, command)

    async def run_all(self, timeout_s: float, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return the replies to commands that are sent at once; an error reply is its exception.

        Raises:
            LagError: The event loop was too busy to take in the replies within `timeout_s`, or to ask at all.
            TimeoutError: They did not all come within `timeout_s`.
        """
        replies: list[Any] = await self._within(timeout_s, self._ask_all, commands)
        return replies

    async def _within(self, timeout_s: float, ask: Callable[..., Awaitable[Any]], *what: Any) -> Any:
        """Ask over a connection that stands, once more where it had gone stale."""
        idle, until = self._idle, self._now() + timeout_s
        if idle and idle[-1] is not None and idle[-1].is_connected:
            try:
                return await self._exchange(idle.pop(), until, ask, *what)
            except self._lost:
                pass
        busy, busy_s = self._deadlines.busy, self._deadlines.busy.seconds
        line = await self._deadlines.obtain(until, self._ready)
        until += busy.seconds - busy_s  # nobody connects while the loop is at work
        is_cut_short = 2 * (until - self._now()) < timeout_s
        try:
            return await self._exchange(line, until, ask, *what)
        except TimeoutError:
            if is_cut_short:
                raise LagError from None  # the server had not had the time that it is given
            raise

    async def _exchange(self, line: Any, until: float, ask: Callable[..., Awaitable[Any]], *what: Any) -> Any:
        deadlines = self._deadlines
        deadlines.begin(line, until)
        try:
            reply = await ask(line, *what)
        except BaseException as error:
            overrun = deadlines.end(line)
            if overrun is not None and isinstance(error, self._lost):
                raise overrun from None
            raise
        else:
            if deadlines.end(line) is not None:  # cut in the moment in which the answer had come
                await line.disconnect(nowait=True)
            deadlines.answered += 1
            return reply
        finally:
            self._give_back(line)

    async def _ready(self) -> Any:
        """Return a connection that stands: one that nobody uses, or else one that another caller gives back."""
        line = self._idle.pop() if self._idle else await self._given()
        try:
            if line is not None:
                if not line.is_connected:
                    await line.connect()
                return line
            pool: Any = self._pool
            return await pool.get_connection()
        except BaseException:
            self._give_back(line)
            raise

    async def _given(self) -> Any:
        future = self._future()
        self._waiting.append(future)
        try:
            return await future
        except BaseException:
            if future.done() and not future.cancelled():
                self._give_back(future.result())
            raise

    def _give_back(self, line: Any) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(line)
                return
        if line is None:
            self._idle.appendleft(None)
        else:
            self._idle.append(line)

    async def _ask_both(self, line: Any, first: tuple[Any, ...], command: tuple[Any, ...]) -> Any:
        await self._ask(line, first)
        return await self._ask(line, command)

    async def _ask_all(self, line: Any, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        try:
            pack = self._pack
            parts = map(pack, commands) if pack else (b"".join(line.pack_command(*command)) for command in commands)
            packed = b"".join(parts)
            await line.send_packed_command(packed, check_health=False)
            replies: list[Any] = []
            for _ in commands:
                try:
                    replies.append(await line.read_response())
                except self._answered as error:
                    replies.append(error)
        except BaseException as error:
            await self._end(line, error)
            raise
        return replies

    async def _ask(self, line: Any, command: tuple[Any, ...]) -> Any:
        try:
            packed = line.pack_command(*command) if self._pack is None else (self._pack(command),)
            await line.send_packed_command(packed, check_health=False)
            return await line.read_response()
        except self._answered:
            raise
        except BaseException as error:
            await self._end(line, error)
            raise

    async def _end(self, line: Any, error: BaseException) -> None:
        """Close a connection whose reply was not read to its end."""
        await line.disconnect(nowait=True)
        if isinstance(error, AttributeError):  # how some releases of Python say that a transport was closed
            raise self._lost from error

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()
        await self._pool.disconnect()


def _transport(line: Any) -> Any:
    writer = line._writer  # noqa: SLF001 - the only way to end a read from outside
    return None if writer is None else writer.transport
