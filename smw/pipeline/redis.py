"""Redis Streams through a consumer group, on Redis 6.2 and later; decides nothing about retries.

How the port maps: `settle` is XACK; what a reader holds is its list of pending entries; the delivery count that Redis
keeps with each of them is the number of attempts, raised by `defer` alone, never by a mere redelivery. Entries of a
reader that fell silent are taken over with XAUTOCLAIM, and everything that a living reader holds is kept fresh by
XCLAIM, so that a slow handler is no dead one. After a lost connection a reader first asks for its own pending entries,
because the answer that was lost may have held some.
"""

from __future__ import annotations

import json
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from smw._redis import awaiting, kind_of_failure, shown
from smw.errors import ConfigError, RecordError, Unavailable
from smw.pipeline.deadletter import SUFFIX, DeadLetter
from smw.pipeline.ports import NO_HEADERS, Entry, Record
from smw.pipeline.values import encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence

    from smw._kernel.clock import Clock

__all__ = ["RedisStream"]

_log = logging.getLogger("smw.pipeline")
_PAGE = 200
_TIMEOUT_S = 2.0
_FORGET_MS = 3_600_000
_LOOK_S = 2.0
# redis-py drops the third element of the reply: entries that were deleted while they were pending.
_CLAIM = """
return redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], '0-0', 'COUNT', ARGV[4], 'JUSTID')
"""
# XADD fails inside MULTI without stopping what follows; in a script its error ends the script before XACK.
_BURY = """
redis.call('XADD', KEYS[2], '*', 'value', ARGV[3])
return redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
"""
# Deleting a consumer drops what it has pending, so that only one with nothing pending may go.
_LEAVE = """
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local name, pending, idle = consumer[2], consumer[4], consumer[6]
  if pending == 0 and (name == ARGV[2] or idle > tonumber(ARGV[3])) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], name)
  end
end
"""


class RedisStream:
    """One reader of a Redis Stream, or a mere writer. Belongs to the event loop in which it is first used.

    An entry has the fields ``value``, ``key`` and ``headers``; an entry without ``value``, written by another
    program, becomes a JSON object of its fields. Records of one key are in order within one reader; several readers
    of a group share a stream entry by entry.

    Nothing is trimmed that any group has not settled: once the stream is longer than `keep`, readers drop what is
    behind every group.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        name: Key of the stream.
        group: Consumer group.
        consumer: Name of this reader, different for each that runs at the same time.
        clock: Tells when to look for dead readers.
        claim_idle_s: Silence after which a reader counts as dead.
        keep: Settled entries that stay, roughly.

    Raises:
        MissingExtra: redis-py is not installed.
    """

    kind = "redis"

    def __init__(
        self,
        url: str,
        name: str,
        *,
        group: str,
        consumer: str,
        clock: Clock,
        claim_idle_s: float = 60.0,
        keep: int = 100_000,
    ) -> None:
        self.name = name
        self.lag: int | None = None
        self._where = shown(url)
        self._client: Any = awaiting(url, timeout_s=_TIMEOUT_S, connect_s=1.0, max_connections=16)
        self._group = group
        self._consumer = consumer
        self._clock = clock
        self._idle_ms = max(1, int(claim_idle_s * 1000))
        self._keep = keep
        self._out: set[str] = set()
        self._joined = False
        self._own: str | None = "-"
        self._claim_at = clock.now()

    # --- reading ---------------------------------------------------------------------------------------------------

    def on_revoke(self, lost: Callable[[Collection[str]], Collection[str]]) -> None:
        """Do nothing: entries stay with their reader while it lives."""

    async def poll(self, max_records: int, wait_s: float) -> Sequence[Record]:
        """Return records: own pending ones after a lost connection, then those of dead readers, then new ones."""
        try:
            async with self._reaching():
                if not self._joined:
                    await self._join()
                records = await self._mine(max_records) or await self._orphans(max_records)
                if not records:
                    wait_s = min(wait_s, max(0.001, self._claim_at - self._clock.now()))
                    records = await self._fresh(max_records, wait_s)
        except Unavailable:
            self._joined, self._own = False, "-"
            raise
        self._out.update([record.position for record in records])
        return records

    async def _join(self) -> None:
        from redis.exceptions import ResponseError

        try:
            await self._client.xgroup_create(self.name, self._group, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        self._joined = True

    async def _fresh(self, count: int, wait_s: float) -> list[Record]:
        from redis.exceptions import ResponseError

        block_ms = max(1, int(wait_s * 1000)) if wait_s > 0 else None
        try:
            answer = await self._client.xreadgroup(
                self._group, self._consumer, {self.name: ">"}, count=count, block=block_ms
            )
        except ResponseError as error:
            if not str(error).startswith(("NOGROUP", "UNBLOCKED")):
                raise
            _log.warning("stream %s: group %s is gone, making it again from the start", self.name, self._group)
            await self._join()
            return []
        return [_record(*entry) for entry in answer[0][1]] if answer else []

    async def _mine(self, count: int) -> list[Record]:
        """Return entries that Redis believes this reader has, and that it never saw."""
        while self._own is not None:
            page = await self._client.xpending_range(
                self.name, self._group, min=self._own, max="+", count=_PAGE, consumername=self._consumer
            )
            self._own = f"({page[-1]['message_id'].decode()}" if len(page) == _PAGE else None
            found = [item["message_id"] for item in page if item["message_id"].decode() not in self._out]
            if found and (records := await self._load(found[:count])):
                if len(found) > count:
                    self._own = "-"
                return records
        return []

    async def _orphans(self, count: int) -> list[Record]:
        """Take over entries of readers that have been silent for too long."""
        if self._clock.now() < self._claim_at:
            return []
        page = min(count, _PAGE)
        _, claimed, *deleted = await self._client.eval(
            _CLAIM, 1, self.name, self._group, self._consumer, self._idle_ms, page
        )
        if len(claimed) < page:
            self._claim_at = self._clock.now() + min(_LOOK_S, self._idle_ms / 3000)
        if deleted and deleted[0]:
            self._report_lost(len(deleted[0]))
        found = [position for position in claimed if position.decode() not in self._out]
        return await self._load(found) if found else []

    async def _load(self, positions: Sequence[bytes]) -> list[Record]:
        """Read pending entries with their numbers of attempts."""
        async with self._client.pipeline(transaction=False) as many:
            for position in positions:
                many.xpending_range(self.name, self._group, min=position, max=position, count=1)
                many.xrange(self.name, min=position, max=position)
            answers = await many.execute()
        records, lost = [], []
        for position, pending, entries in zip(positions, answers[::2], answers[1::2], strict=True):
            if not entries:
                lost.append(position)
            elif pending:
                record = _record(*entries[0])
                record.attempt = pending[0]["times_delivered"] + 1
                records.append(record)
        if lost:
            self._report_lost(len(lost))
            await self._client.xack(self.name, self._group, *lost)
        return records

    def _report_lost(self, count: int) -> None:
        _log.error("stream %s: %d unsettled entries were deleted by another program and are lost", self.name, count)

    # --- what becomes of records -------------------------------------------------------------------------------------

    async def settle(self, positions: Sequence[str]) -> None:
        """Acknowledge entries in one command."""
        async with self._reaching():
            await self._client.xack(self.name, self._group, *positions)
        self._out.difference_update(positions)

    async def defer(self, position: str, attempt: int) -> None:
        """Store the number of the attempt as the delivery count of the entry."""
        async with self._reaching():
            await self._client.xclaim(
                self.name, self._group, self._consumer, 0, [position], retrycount=attempt, justid=True
            )

    async def dead(self, record: Record, letter: DeadLetter) -> None:
        """Add the letter to ``<name>.dlq`` and acknowledge the entry in one step of the server."""
        keys = (self.name, self.name + SUFFIX)
        try:
            async with self._reaching():
                await self._client.eval(_BURY, 2, *keys, self._group, record.position, letter.to_bytes())
        except ConfigError as error:
            raise Unavailable("SMW-P132", error.what, seen=error.seen, fix=error.fix) from error
        self._out.discard(record.position)

    async def append(self, entries: Sequence[Entry]) -> Sequence[str]:
        """Add entries; they have been accepted once this returns."""
        async with self._reaching():
            if len(entries) == 1:
                return [(await self._client.xadd(self.name, _fields(entries[0]))).decode()]
            async with self._client.pipeline(transaction=True) as many:
                for entry in entries:
                    many.xadd(self.name, _fields(entry))
                return [position.decode() for position in await many.execute()]

    async def letters(self, limit: int) -> Sequence[DeadLetter]:
        """Return the oldest dead letters."""
        async with self._reaching():
            entries = await self._client.xrange(self.name + SUFFIX, count=limit)
        return [DeadLetter.from_bytes(fields[b"value"]) for _, fields in entries if b"value" in fields]

    # --- care --------------------------------------------------------------------------------------------------------

    async def tend(self) -> None:
        """Keep what is held from counting as orphaned, measure the lag, drop what every group has settled."""
        if not self._joined:
            return
        async with self._reaching():
            await self._claim_own(self._out, idle_ms=0)
            groups = await self._client.xinfo_groups(self.name)
            mine = next((group for group in groups if group["name"] == self._group.encode()), None)
            if mine is not None:
                waiting = mine.get("lag")
                self.lag = None if waiting is None else waiting + mine["pending"]
            if await self._client.xlen(self.name) > self._keep:
                await self._trim(groups)
            forget_ms = max(_FORGET_MS, 10 * self._idle_ms)
            await self._client.eval(_LEAVE, 1, self.name, self._group, "", forget_ms)

    async def _trim(self, groups: Sequence[dict[str, Any]]) -> None:
        behind = []
        for group in groups:
            pending = await self._client.xpending(self.name, group["name"]) if group["pending"] else None
            behind.append(pending["min"] if pending and pending["min"] else group["last-delivered-id"])
        if behind:
            await self._client.xtrim(self.name, minid=min(behind, key=_order), approximate=True)

    async def _claim_own(self, positions: Iterable[str], *, idle_ms: int) -> None:
        held = list(positions)
        for start in range(0, len(held), _PAGE):
            page = held[start : start + _PAGE]
            await self._client.xclaim(self.name, self._group, self._consumer, 0, page, idle=idle_ms, justid=True)

    async def close(self) -> None:
        """Let others take over at once what this reader has pending, leave the group, disconnect."""
        try:
            if self._joined:  # one that only wrote is closed by its ending loop, which takes no new generators
                async with self._reaching():
                    await self._hand_over()
        except (Unavailable, ConfigError) as error:
            _log.warning("stream %s: left without goodbye: %s", self.name, error.what)
        finally:
            await self._client.aclose(close_connection_pool=True)

    async def _hand_over(self) -> None:
        start = "-"
        while True:
            page = await self._client.xpending_range(
                self.name, self._group, min=start, max="+", count=_PAGE, consumername=self._consumer
            )
            await self._claim_own([item["message_id"].decode() for item in page], idle_ms=self._idle_ms)
            if len(page) < _PAGE:
                break
            start = f"({page[-1]['message_id'].decode()}"
        await self._client.eval(_LEAVE, 1, self.name, self._group, self._consumer, 2**53)

    @asynccontextmanager
    async def _reaching(self) -> AsyncIterator[None]:
        """Turn what redis-py raises into what the port promises."""
        from redis.exceptions import RedisError

        try:
            yield
        except (RedisError, OSError) as error:
            kind, _ = kind_of_failure(error)
            text = str(error)
            if kind == "other-server" or (kind == "answer" and text.startswith("WRONGTYPE")):
                raise ConfigError(
                    "SMW-P133",
                    f"the Redis at {self._where} cannot hold the stream {self.name!r}: {text}",
                    fix="use another stream name or database; streams with groups need Redis 6.2",
                ) from error
            raise Unavailable(
                "SMW-P131", f"the Redis at {self._where} did not serve the stream {self.name!r}: {kind}", seen=kind
            ) from error


def _order(position: bytes) -> tuple[int, int]:
    milliseconds, _, number = position.partition(b"-")
    return int(milliseconds), int(number or 0)


def _fields(entry: Entry) -> dict[str | bytes, bytes | str]:
    fields: dict[str | bytes, bytes | str] = {"value": entry.value}
    if entry.key is not None:
        fields["key"] = entry.key
    if entry.headers:
        fields["headers"] = json.dumps(dict(entry.headers))
    return fields


def _record(position: bytes, fields: dict[bytes, bytes]) -> Record:
    text = position.decode()
    value = fields.get(b"value")
    if value is None:
        value = _foreign(fields)
    key = fields.get(b"key")
    raw = fields.get(b"headers")
    headers = NO_HEADERS if raw is None else _headers(raw)
    at = int(text.partition("-")[0]) / 1000
    return Record(text, value, None if key is None else key.decode("utf-8", "replace"), headers, 1, at)


def _foreign(fields: dict[bytes, bytes]) -> bytes:
    try:
        return encode({name.decode(): value.decode() for name, value in fields.items()})
    except (UnicodeDecodeError, RecordError):
        return b"\n".join(name + b"=" + value for name, value in fields.items())


def _headers(raw: bytes) -> dict[str, str]:
    try:
        headers = json.loads(raw)
    except ValueError:
        return {}
    return {str(name): str(value) for name, value in headers.items()} if isinstance(headers, dict) else {}
