"""What is counted for one cached function, in plain slots that cost a hit nothing but an addition."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smw._kernel.facts import Fact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from smw.cache.levels.level import Level
    from smw.cache.levels.memory import Memory

__all__ = ["CacheInfo", "Stats", "function_facts", "memory_facts", "server_facts"]

_REQUESTS = "Lookups of decorated functions."


class Stats:
    """Counts of one function.

    Attributes:
        hits: Answers from memory; the compiled entry counts here. A tick lost between threads is accepted.
        others: (level, outcome) → count, of everything that is slower than a hit in memory.
        refreshes: Outcome → count, of loads before the end of a value's life.
        ended_waits: ``soft`` or ``hard`` → count, of callers who did not wait for the end of a load.
        warmed: Results that a warm-up from the fleet has brought.
    """

    __slots__ = ("ended_waits", "hits", "others", "refreshes", "warmed")

    def __init__(self) -> None:
        self.hits = 0
        self.others: Counter[tuple[str, str]] = Counter()
        self.refreshes: Counter[str] = Counter()
        self.ended_waits: Counter[str] = Counter()
        self.warmed = 0

    def add(self, other: Stats) -> None:
        """Count what `other` has counted too."""
        self.hits += other.hits
        self.others.update(other.others)
        self.refreshes.update(other.refreshes)
        self.ended_waits.update(other.ended_waits)
        self.warmed += other.warmed


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """What a cached function is set to and has done in this process.

    Attributes:
        fn: ``module:qualname``.
        ttl_s: Time to live; None where each result has its own.
        levels: Levels that are asked, of those configured.
        hits: Level → answers from it.
        misses: Level → times it was asked in vain.
        stale: Level → expired results from it that stood in for a load that failed.
        negative: Kept exceptions that were raised again.
        bypassed: Calls that a condition sent past the cache.
        uncached: Calls that could not be cached.
        entries: Entries in memory.
        warmed: Results that a warm-up from the fleet has put into memory.
    """

    fn: str
    ttl_s: float | None
    levels: tuple[str, ...]
    hits: Mapping[str, int]
    misses: Mapping[str, int]
    stale: Mapping[str, int]
    negative: int
    bypassed: int
    uncached: int
    entries: int
    warmed: int = 0


def function_facts(fn: str, stats: Stats) -> Iterator[Fact]:
    """Yield the lookups of one function."""
    counts = {("l1", "hit"): stats.hits}
    for pair, count in stats.others.copy().items():
        counts[pair] = counts.get(pair, 0) + count
    for (level, outcome), count in counts.items():
        labels = (("fn", fn), ("level", level), ("outcome", outcome))
        yield Fact("smw_cache_requests_total", "counter", _REQUESTS, labels, count)
    for outcome, count in stats.refreshes.copy().items():
        by = (("fn", fn), ("outcome", outcome))
        yield Fact("smw_cache_refreshes_total", "counter", "Loads of values that had not expired yet.", by, count)
    for kind, count in stats.ended_waits.copy().items():
        by, about = (("fn", fn), ("kind", kind)), "Callers who did not wait for the end of a load."
        yield Fact("smw_cache_load_timeouts_total", "counter", about, by, count)
    if stats.warmed:
        about = "Results that a warm-up from the fleet has put into memory."
        yield Fact("smw_cache_warmed_total", "counter", about, (("fn", fn),), stats.warmed)


def memory_facts(memory: Memory) -> Iterator[Fact]:
    """Yield how full memory is."""
    labels = (("level", "l1"),)
    yield Fact("smw_cache_entries", "gauge", "Entries held.", labels, memory.entries)
    yield Fact("smw_cache_bytes", "gauge", "Estimated bytes held.", labels, memory.bytes)
    by_bytes = memory.evictions_by_bytes
    for reason, count in (("entries", memory.evictions - by_bytes), ("bytes", by_bytes)):
        by = (*labels, ("reason", reason))
        yield Fact("smw_cache_evictions_total", "counter", "Entries removed for room, by what was full.", by, count)


def server_facts(servers: tuple[Level, ...], corrupt: Mapping[str, int]) -> Iterator[Fact]:
    """Yield failures, breaker and debt of the servers."""
    errors: Counter[tuple[str, str]] = Counter({(tier, "corrupt"): count for tier, count in corrupt.items()})
    for server in servers:
        for kind, count in server.errors.copy().items():
            errors[server.name, kind] += count
    for (tier, kind), count in errors.items():
        labels = (("level", tier), ("kind", kind))
        yield Fact("smw_cache_errors_total", "counter", "Requests to a level that failed.", labels, count)
    for server in servers:
        late, about = server.errors["timeout"] + server.errors["slow"], "Requests to a level that took too long."
        yield Fact("smw_cache_timeouts_total", "counter", about, (("level", server.name),), late)
        labels = (("level", server.name), ("backend", server.store.name))
        is_open = float(server.breaker.is_open)
        yield Fact("smw_cache_breaker_state", "gauge", "1 while the breaker is open.", labels, is_open)
        yield Fact("smw_invalidation_debt", "gauge", "Invalidations not acknowledged yet.", labels, len(server.debt))
