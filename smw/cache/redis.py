"""The second level: values and counters in one Redis server; knows nothing of what either means."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from smw import _redis
from smw._kernel.loops import PerLoop
from smw._kernel.process import after_fork
from smw.cache.ports import Found, StoreFailedError
from smw.cache.redis_lines import AwaitingLines, BlockingLines
from smw.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smw._kernel.call import Mode

__all__ = ["RedisStore"]

_log = logging.getLogger("smw.cache")

_CONNECTIONS = 64
COUNTER_S = 86_400
"""How long a counter lives at least after its last use; a forgotten one costs a miss and never returns."""

# Microseconds of the server; one more than what was there, should the clock have stepped back.
_STAMP = """
local function stamp(old)
  local t = redis.call('TIME')
  return string.format('%.0f', math.max((tonumber(old) or 0) + 1, t[1] * 1000000 + t[2]))
end
"""
_OPEN = (
    _STAMP
    + """
local out = {}
for i, key in ipairs(KEYS) do
  local now = redis.call('GET', key)
  if not now then
    now = stamp(0)
    redis.call('SET', key, now, 'PX', ARGV[1])
  elseif redis.call('PTTL', key) < tonumber(ARGV[1]) then
    redis.call('PEXPIRE', key, ARGV[1])
  end
  out[i] = now
end
return out
"""
)
# KEYS: value, counters. ARGV: blob, life, life of counters, then what each counter must show.
_WRITE = """
for i = 2, #KEYS do
  if redis.call('GET', KEYS[i]) ~= ARGV[i + 2] then return 0 end
end
for i = 2, #KEYS do
  if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[i], ARGV[3]) end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
# KEYS: counters, then dropped keys. ARGV: number of counters, their life. A missing counter needs no new number: values
# that carry an old one equal nothing, and a value loaded before would be stored only if it still showed that.
_DROP = (
    _STAMP
    + """
local counters = tonumber(ARGV[1])
for i = 1, counters do
  local old = redis.call('GET', KEYS[i])
  if old then
    redis.call('SET', KEYS[i], stamp(old), 'PX', math.max(redis.call('PTTL', KEYS[i]), ARGV[2]))
  end
end
for i = counters + 1, #KEYS do redis.call('DEL', KEYS[i]) end
return 1
"""
)


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


class RedisStore:
    """Values and counters in Redis; what must be atomic is a script.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        timeout_s: Most that one operation of a blocking caller may take.

    Raises:
        MissingExtra: redis-py is not installed.
        ConfigError: The URL is refused.
    """

    is_atomic = True

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self.name = "redis"
        self._url = url
        self._timeout_s = timeout_s
        self._blocking: BlockingLines | None = None
        self._opening = threading.Lock()
        self._awaiting: PerLoop[AwaitingLines] = PerLoop(self._open_awaiting, AwaitingLines.aclose)
        self._hashes: dict[str, str] = {}
        try:
            self._client()
        except MissingExtra:
            raise MissingExtra("cache setting 'l2_url'", package="redis", extra="redis") from None
        after_fork(self._forked)

    def _forked(self) -> None:
        self._opening = threading.Lock()
        self._blocking = None

    def _client(self) -> BlockingLines:
        client = self._blocking
        if client is None:
            with self._opening:
                if self._blocking is None:
                    opened = _redis.blocking(
                        self._url, timeout_s=self._timeout_s, max_connections=_CONNECTIONS, whole=True
                    )
                    self._blocking = BlockingLines(opened, most=_CONNECTIONS, wait_s=self._timeout_s)
                client = self._blocking
        return client

    def _open_awaiting(self) -> AwaitingLines:
        # Deadlines of coroutines are set around each operation and close the connection that they cut off.
        opened = _redis.awaiting(self._url, timeout_s=None, max_connections=_CONNECTIONS)
        return AwaitingLines(opened, most=_CONNECTIONS)

    async def _mget(self, mode: Mode, timeout_s: float, keys: Sequence[str]) -> tuple[Any, AwaitingLines | None]:
        """Return the reply, and the connections over which it came."""
        if mode == "sync":
            return await self._run(mode, timeout_s, "MGET", *keys), None
        lines = self._awaiting.get()
        try:
            return await lines.reads.read(timeout_s, keys), lines
        except Exception as error:
            raise _failure(error) from error

    async def _run(self, mode: Mode, timeout_s: float, *command: Any) -> Any:
        try:
            if mode == "sync":
                return self._client().run(*command)
            return await self._awaiting.get().run(timeout_s, *command)
        except Exception as error:
            raise _failure(error) from error

    async def _discard(self, lines: AwaitingLines | None) -> None:
        if lines is None:
            self._client().close()
        else:
            self._awaiting.replace(lines)
            await lines.aclose()

    async def _script(self, mode: Mode, timeout_s: float, source: str, keys: Sequence[str], *args: Any) -> Any:
        digest = self._hashes.get(source)
        if digest is None:
            import hashlib

            digest = self._hashes[source] = hashlib.sha1(source.encode()).hexdigest()  # noqa: S324 - Redis names scripts so
        try:
            return await self._run(mode, timeout_s, "EVALSHA", digest, len(keys), *keys, *args)
        except StoreFailedError as error:
            if error.kind != "noscript":
                raise
        return await self._run(mode, timeout_s, "EVAL", source, len(keys), *keys, *args)

    async def read(self, key: str, counters: Sequence[str], *, mode: Mode, timeout_s: float) -> Found:
        """Return value and counters with one MGET."""
        reply, lines = await self._mget(mode, timeout_s, (key, *counters))
        try:
            blob, *numbers = reply
            if len(numbers) == len(counters) and isinstance(blob, bytes | None):
                return Found(blob, tuple([None if raw is None else int(raw) for raw in numbers]))
        except (TypeError, ValueError) as error:
            _log.debug("an answer of another shape: %s", error)
        # Not the answer to this question: whatever else is on its way there cannot be trusted either.
        await self._discard(lines)
        raise StoreFailedError("protocol")

    async def open(self, counters: Sequence[str], ttl_s: float, *, mode: Mode, timeout_s: float) -> tuple[int, ...]:
        """Return the counters, stamping those that are missing with the server's microseconds."""
        life = _milliseconds(max(ttl_s, COUNTER_S))
        return tuple(map(int, await self._script(mode, timeout_s, _OPEN, counters, life)))

    async def write(
        self,
        key: str,
        blob: bytes,
        ttl_s: float,
        *,
        counters: Sequence[str],
        found: Found,
        mode: Mode,
        timeout_s: float,
    ) -> bool:
        """Store `blob` in one script that first compares the counters with what was seen."""
        if None in found.counters:
            return False  # nothing could tell later whether it still stands
        lives = _milliseconds(ttl_s), _milliseconds(max(ttl_s, COUNTER_S))
        return bool(await self._script(mode, timeout_s, _WRITE, [key, *counters], blob, *lives, *found.counters))

    async def drop(self, counters: Sequence[str], keys: Sequence[str], *, mode: Mode, timeout_s: float) -> None:
        """Raise counters and delete keys in one script."""
        await self._script(mode, timeout_s, _DROP, [*counters, *keys], len(counters), COUNTER_S * 1000)

    def probe(self) -> None:
        """Ask for a PING on a blocking connection.

        Raises:
            StoreFailedError: No answer, or a refusal.
        """
        try:
            self._client().run("PING")
        except Exception as error:
            raise _failure(error) from error

    def close(self) -> None:
        """Close the blocking connections, and have those of event loops closed there; idempotent."""
        client, self._blocking = self._blocking, None
        if client is not None:
            client.close()
        self._awaiting.close()

    async def aclose(self) -> None:
        """Close the connections of the running loop, then as `close`; idempotent."""
        await self._awaiting.aclose()
        self.close()


def _failure(error: Exception) -> StoreFailedError:
    import redis.exceptions as known

    if isinstance(error, known.NoScriptError):
        return StoreFailedError("noscript", counts=False)
    kind, permanent = _redis.kind_of_failure(error)
    # A server that answers that it is full or read-only is alive and still good for reading.
    return StoreFailedError(kind, permanent=permanent, counts=kind not in ("full", "readonly", "answer"))
