"""The second level: values, counters and messages in one Redis server; knows nothing of what they mean."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from smw import _redis
from smw._kernel.loops import PerLoop
from smw._kernel.process import after_fork
from smw.cache.coherence.wire import LEASE_END
from smw.cache.levels.level import run_blocking
from smw.cache.naming.names import is_fence
from smw.cache.ports import Found, Lease, Leased, Pulse, StoreFailedError
from smw.cache.stores.counters import number_of
from smw.cache.stores.redis_ear import RedisEar
from smw.cache.stores.redis_failures import failure, probe_failure
from smw.cache.stores.redis_hot import RedisHot
from smw.cache.stores.redis_lines import AwaitingLines, BlockingLines
from smw.cache.stores.redis_scripts import DROP, LEASE, OPEN, PULSE, RELEASE, RENEW, REPLACE, TIME, WAITERS, WRITE
from smw.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import redis

    from smw._kernel.call import Mode
    from smw.cache.coherence.wire import Wire
    from smw.cache.ports import LeaseAsk

__all__ = ["RedisStore"]

_log = logging.getLogger("smw.cache")

_CONNECTIONS = 64
_EAR_S = 1.0
LEASE_S = 1.25
"""How long a lease outlives a holder that has died."""
COUNTER_S = 86_400
"""How long a counter lives at least after its last use; a forgotten one costs a miss and never returns."""
_found = Found._make  # cheaper than calling the class


def _lease_of(key: str) -> str:
    return key + LEASE_END


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


class RedisStore(RedisHot):
    """Values and counters in Redis; what must be atomic is a script.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        timeout_s: Most that one operation of a blocking caller may take.

    Raises:
        MissingExtra: redis-py is not installed.
        ConfigError: The URL is refused.
    """

    is_atomic = True
    most_enclosed = 4096
    """Bytes of a value that is sent to those who wait for it; they read a larger one."""
    is_alone = True
    """Whether it is no node of a cluster."""
    part = ""
    """Which of several servers that share the keys this is, in their messages."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self.name = "redis"
        self._url = url
        self._timeout_s = timeout_s
        self._blocking: BlockingLines | None = None
        self._is_closed = False
        self._opening = threading.RLock()
        self._awaiting: PerLoop[AwaitingLines] = PerLoop(self._open_awaiting, AwaitingLines.aclose)
        self._hashes: dict[str, str] = {}
        self._wire: Wire | None = None
        self._channel = ""
        self._leases: set[Lease] = set()
        try:
            self._client()
        except MissingExtra:
            raise MissingExtra("cache setting 'l2_url'", package="redis", extra="redis") from None
        after_fork(self._forked)

    def _forked(self) -> None:
        self._opening = threading.RLock()
        self._leases = set()
        self._blocking = None

    def _client(self) -> BlockingLines:
        client = self._blocking
        if client is None:
            with self._opening:
                if self._blocking is None:
                    opened = _redis.blocking(
                        self._url, timeout_s=self._timeout_s, max_connections=_CONNECTIONS, whole=True
                    )
                    lines = BlockingLines(opened, most=_CONNECTIONS, wait_s=self._timeout_s)
                    if self._is_closed:
                        lines.end()
                    self._blocking = lines
                client = self._blocking
        return client

    def _open_awaiting(self) -> AwaitingLines:
        # Deadlines of coroutines are set around each operation and close the connection that they cut off.
        opened = _redis.awaiting(self._url, timeout_s=None, max_connections=_CONNECTIONS)
        return AwaitingLines(opened, most=_CONNECTIONS)

    async def _mget(self, mode: Mode, timeout_s: float, keys: Sequence[str]) -> tuple[Any, AwaitingLines | None]:
        """Return the reply, and the connections over which it came."""
        try:
            if mode == "sync":
                return (self._blocking or self._client()).run("MGET", *keys), None
            lines = self._awaiting.get()
            return await lines.reads.run(timeout_s, "MGET", *keys), lines
        except Exception as error:
            raise failure(error, is_alone=self.is_alone) from error

    async def _run(self, mode: Mode, timeout_s: float, *command: Any) -> Any:
        try:
            if mode == "sync":
                return self._client().run(*command)
            return await self._awaiting.get().runs.run(timeout_s, *command)
        except Exception as error:
            raise failure(error, is_alone=self.is_alone) from error

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
        # No numbers: hiredis ends the process where the handler of a signal raises while it writes one out.
        words = [str(len(keys)), *keys, *[str(each) if isinstance(each, int | float) else each for each in args]]
        try:
            return await self._run(mode, timeout_s, "EVALSHA", digest, *words)
        except StoreFailedError as error:
            if error.kind != "noscript":
                raise
        return await self._run(mode, timeout_s, "EVAL", source, *words)

    async def read(self, key: str, counters: Sequence[str], *, mode: Mode, timeout_s: float) -> Found:
        """Return value and counters with one MGET."""
        reply, lines = await self._mget(mode, timeout_s, (key, *counters))
        try:
            blob, *numbers = reply
            if len(numbers) == len(counters) and (blob is None or blob.__class__ is bytes):
                return _found((blob, tuple(map(number_of, numbers)), None))
        except (TypeError, ValueError) as error:
            _log.debug("an answer of another shape: %s", error)
        # Not the answer to this question: whatever else is on its way there cannot be trusted either.
        await self._discard(lines)
        raise StoreFailedError("protocol")

    async def read_many(
        self, reads: Sequence[tuple[str, Sequence[str]]], *, mode: Mode, timeout_s: float
    ) -> list[Found]:
        """Return value and counters of each key with one MGET."""
        names = tuple(dict.fromkeys(name for key, counters in reads for name in (key, *counters)))
        reply, lines = await self._mget(mode, timeout_s, names)
        try:
            shown = dict(zip(names, reply, strict=True))
            numbers = {name: number_of(shown[name]) for _, counters in reads for name in counters}
            if all(isinstance(shown[key], bytes | None) for key, _ in reads):
                return [Found(shown[key], tuple([numbers[name] for name in counters])) for key, counters in reads]
        except (TypeError, ValueError) as error:
            _log.debug("an answer of another shape: %s", error)
        await self._discard(lines)
        raise StoreFailedError("protocol")

    async def open(self, counters: Sequence[str], ttl_s: float, *, mode: Mode, timeout_s: float) -> tuple[int, ...]:
        """Return the counters, stamping those that are missing with the server's microseconds."""
        life = _milliseconds(max(ttl_s, COUNTER_S))
        return tuple(map(int, await self._script(mode, timeout_s, OPEN, counters, life)))

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
        named = [key, *counters]
        words: list[Any] = [blob, *lives, *found.counters]
        wire, lease = self._wire, Lease(key, found.counters)
        if wire is not None and lease in self._leases:
            named.append(_lease_of(key))
            words += [wire.sender, wire.mail, self.most_enclosed]
        stored = bool(await self._script(mode, timeout_s, WRITE, named, *words))
        self._leases.discard(lease)
        return stored

    async def drop(
        self, counters: Sequence[str], keys: Sequence[str], *, mode: Mode, timeout_s: float
    ) -> tuple[int, ...]:
        """Raise counters, delete keys and tell other processes, in one script."""
        named = [*counters, *keys]
        words: list[str | int] = [len(counters), COUNTER_S * 1000]
        wire = self._wire
        if wire is not None:
            scopes = [*[name for name in counters if not is_fence(name)], *keys]
            named.append(wire.number)
            words += [self._channel, wire.text(scopes, self.part)]
        return tuple(map(int, await self._script(mode, timeout_s, DROP, named, *words)))

    async def replace(
        self,
        key: str,
        blob: bytes,
        ttl_s: float,
        *,
        counters: Sequence[str],
        found: Found,
        mode: Mode,
        timeout_s: float,
    ) -> int:
        """Raise the key's counter, tell other processes, and store `blob` if nothing has changed, in one script."""
        named, life = [key, *counters], _milliseconds(max(ttl_s, COUNTER_S))
        words: list[Any] = [blob, _milliseconds(ttl_s), life, len(counters), "", ""]
        wire = self._wire
        if wire is not None:
            named.append(wire.number)
            words[4:] = [self._channel, wire.text([key], self.part)]
        return int(await self._script(mode, timeout_s, REPLACE, named, *words, *found.counters))

    def speak(self, wire: Wire) -> None:
        """Have drops told to every process of a namespace."""
        self._wire = wire
        with self._client_of_one() as client:
            self._channel = wire.channel(client.connection_pool.connection_kwargs.get("db") or 0)

    def listen(self) -> RedisEar:
        """Return a connection over which drops are told from now on."""
        assert self._wire is not None  # noqa: S101 - for the type checker
        try:
            return RedisEar(self._client_of_one(), [self._channel, self._wire.mail + self._wire.sender])
        except Exception as error:
            raise failure(error, is_alone=self.is_alone) from error

    def _client_of_one(self) -> redis.Redis:
        return _redis.blocking(self._url, timeout_s=_EAR_S, max_connections=1)

    async def pulse(self, *, mode: Mode, timeout_s: float) -> Pulse:
        """Return the number of the newest message, and who has given it, with one script."""
        wire = self._wire
        assert wire is not None  # noqa: S101 - for the type checker
        keys = [wire.number, wire.guard, wire.everything]
        reply = await self._script(mode, timeout_s, PULSE, keys, COUNTER_S * 1000, self._channel, wire.alarm(self.part))
        return Pulse(int(reply[0]), reply[1].decode(), bool(int(reply[2])))

    async def time(self, *, mode: Mode, timeout_s: float) -> float:
        """Return what TIME says."""
        named = [] if self._wire is None else [self._wire.number]
        seconds, microseconds = await self._script(mode, timeout_s, TIME, named)
        return int(seconds) + int(microseconds) / 1e6

    async def lease(self, asks: Sequence[LeaseAsk], ttl_s: float, *, mode: Mode, timeout_s: float) -> list[Leased]:
        """Open counters and take leases, or learn who has them, with one script."""
        wire = self._wire
        assert wire is not None  # noqa: S101 - for the type checker
        named = [name for ask in asks for name in (_lease_of(ask.key), ask.key, *ask.counters)]
        words: list[Any] = [_milliseconds(max(ttl_s, COUNTER_S)), wire.sender, _milliseconds(LEASE_S)]
        for ask in asks:
            words += [len(ask.counters), int(ask.is_absent), int(ask.waits), " ".join(ask.loads)]
        reply = iter(await self._script(mode, timeout_s, LEASE, named, *words))
        leased = []
        for ask in asks:
            shown, left_ms = tuple([int(next(reply)) for _ in ask.counters]), next(reply)
            leased.append(Leased(shown, left_ms == 0, left_ms < 0, left_ms / 1000))
            if left_ms == 0:
                self._leases.add(Lease(ask.key, shown))
        return leased

    async def waiters(self, keys: Sequence[str], *, mode: Mode, timeout_s: float) -> list[str]:
        """Return the keys that those are loading who wait for the leases of `keys`, with one script."""
        leases = [_lease_of(key) for key in keys]
        told = await self._script(mode, timeout_s, WAITERS, leases)
        return [key for loads in told for key in loads.decode().split()]

    def forget(self, lease: Lease) -> bool:
        """Renew a lease no more; returns whether this process still had it."""
        held = lease in self._leases
        self._leases.discard(lease)
        return held

    async def release(self, leases: Sequence[Lease], how: str, *, mode: Mode, timeout_s: float) -> bool:
        """Give leases back and tell who waits, with one script."""
        wire = self._wire
        assert wire is not None  # noqa: S101 - for the type checker
        words = wire.sender, wire.mail, how, *[" ".join(map(str, lease.counters)) for lease in leases]
        return bool(await self._script(mode, timeout_s, RELEASE, [_lease_of(lease.key) for lease in leases], *words))

    async def renew(self, leases: Sequence[Lease], *, mode: Mode, timeout_s: float) -> bool:
        """Prolong those leases that this process still has, with one script."""
        named, wire = [_lease_of(lease.key) for lease in leases if lease in self._leases], self._wire
        if not named or wire is None:
            return True
        return bool(await self._script(mode, timeout_s, RENEW, named, wire.sender, _milliseconds(LEASE_S)))

    def named(self, name: str) -> str:
        """Return what a key or counter is called on the server."""
        return name

    def keys(self, prefix: str, most: int) -> Iterator[str]:
        """Yield keys and counters that begin with `prefix`, by SCAN."""
        begins, cursor, count = self.named(prefix), b"0", min(max(most, 100), 1000)
        pattern = "".join(f"[{letter}]" if letter in "*?[]^\\" else letter for letter in begins) + "*"
        while True:
            page = self._run("sync", self._timeout_s, "SCAN", cursor, "MATCH", pattern, "COUNT", count)
            cursor, names = run_blocking(page)
            for name in names:
                yield prefix + name.decode("utf-8", "replace")[len(begins) :]
            if int(cursor) == 0:
                return

    def figures(self) -> dict[str, Any]:
        """Return what INFO and DBSIZE say of the whole server."""
        text = run_blocking(self._run("sync", self._timeout_s, "INFO")).decode("utf-8", "replace")
        said = dict(line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))
        known = {
            "bytes": "used_memory", "hits": "keyspace_hits", "misses": "keyspace_misses", "evictions": "evicted_keys",
        }  # fmt: skip
        figures: dict[str, Any] = {ours: int(said[theirs]) for ours, theirs in known.items() if theirs in said}
        figures["entries"] = int(run_blocking(self._run("sync", self._timeout_s, "DBSIZE")))
        policy = said.get("maxmemory_policy", "?") if said.get("maxmemory", "0") != "0" else "no limit of memory"
        return figures | {"note": f"Redis {said.get('redis_version', '?')}, {policy}"}

    @property
    def shown_at(self) -> str:
        """Where it is, for people: its URL without credentials and options."""
        return _redis.shown(self._url)

    def caution(self) -> None:
        """Warn where the server is set to evict what should stay; says nothing where it may not be asked."""
        try:
            note = self.figures()["note"]
        except StoreFailedError:
            return
        if note.endswith("-random"):
            _log.warning(
                "%s is set to %s, which evicts counters as readily as values: each counter that goes makes misses of "
                "all values that rest on it; set maxmemory-policy allkeys-lru, or volatile-lru beside what must stay",
                _redis.shown(self._url),
                note.rpartition(" ")[2],
            )

    def probe(self) -> None:
        """Ask for two names on a blocking connection: a PING is answered by other kinds of servers as well.

        Raises:
            StoreFailedError: No answer, or a refusal.
        """
        wire = self._wire
        try:
            self._client().run(*(("PING",) if wire is None else ("MGET", wire.number, wire.guard)))
        except Exception as error:
            if (failed := probe_failure(error)) is not None:
                raise failed from error

    def close(self) -> None:
        """Close the blocking connections, and have those of event loops closed there; idempotent."""
        with self._opening:
            client, self._blocking, self._is_closed = self._blocking, None, True
        if client is not None:
            client.end()
        self._awaiting.close()

    async def aclose(self) -> None:
        """Close the connections of the running loop, then as `close`; idempotent."""
        await self._awaiting.aclose()
        self.close()
