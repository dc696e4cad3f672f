"""Memory stays within its bounds and keeps what is asked for."""

from __future__ import annotations

import random
import sys
import threading

import pytest

from smw.cache.copies import survey
from smw.cache.memory import ENTRY_BYTES, Entry, Memory


def entry(value=None, size=100, scopes=()) -> Entry:
    return Entry(value, None, expires=1e9, deadline=1e9, size=size, scopes=scopes)


def put(memory, table, key, **options) -> None:
    memory.put(entry(key, **options), table, key, lambda: True)


def test_entries_and_bytes_stay_bounded():
    """However much is put in, neither bound is ever exceeded."""
    memory, table = Memory(100, 50_000), {}
    for number in range(5000):
        put(memory, table, number, size=number % 1000)
        assert memory.entries <= 100
        assert memory.bytes <= 50_000
    assert memory.entries == len(table)
    assert memory.evictions > 4000
    assert memory.bytes == sum(each.bytes for each in table.values())


def test_value_too_large_is_not_kept():
    """A value that would displace half of everything is left out."""
    memory, table = Memory(100, 10_000), {}
    put(memory, table, "large", size=9_000)
    assert table == {}


def test_size_nothing_keeps_nothing():
    """A memory of no entries stores nothing."""
    memory, table = Memory(0, 10_000), {}
    put(memory, table, 1)
    assert table == {}


def test_used_entries_outlive_unused_ones():
    """An entry that is asked for stays while a scan of others passes through."""
    memory, table = Memory(100, 10**9), {}
    put(memory, table, "used")
    for number in range(1000):
        if "used" in table:
            table["used"].touched = 1
        put(memory, table, number)
    assert "used" in table


@pytest.mark.parametrize(("capacity", "least"), [(1000, 0.575)])
def test_hit_ratio_under_zipf(capacity, least):
    """A skewed stream of requests finds its favourites: better than least recently used (50.6 %)."""
    random.seed(7)
    memory, table = Memory(capacity, 10**9), {}
    keys = range(100_000)
    weights = [1 / (rank + 1) for rank in keys]
    requests = random.choices(keys, weights, k=200_000)
    hits = 0
    for key in requests:
        found = table.get(key)
        if found is not None:
            found.touched = 1
            hits += 1
        else:
            put(memory, table, key)
    assert hits / len(requests) >= least


def test_replacing_counts_once():
    """Storing a key again replaces the entry in every index."""
    memory, table = Memory(10, 10**6), {}
    for _ in range(500):
        put(memory, table, "k", scopes=("t",))
    assert (memory.entries, memory.bytes) == (1, ENTRY_BYTES + 100)
    assert len(memory._small) + len(memory._main) < 100


def test_dropping_removes_exactly_the_scope():
    """A drop removes what carries the scope and leaves no trace in the index."""
    memory, table = Memory(10, 10**6), {}
    put(memory, table, 1, scopes=("a", "b"))
    put(memory, table, 2, scopes=("b",))
    put(memory, table, 3)
    assert memory.drop(["a"]) == 1
    assert set(table) == {2, 3}
    assert memory.drop(["b", "unknown"]) == 1
    assert memory._scopes == {}


def test_what_does_not_stand_is_not_stored():
    """An entry that was invalidated while it was made is refused under the lock."""
    memory, table = Memory(10, 10**6), {}
    assert memory.put(entry(), table, 1, lambda: False) is False
    assert table == {}


def test_abandoned_entries_are_reclaimed():
    """An entry removed by a finalizer frees its place with the next change."""
    memory, table = Memory(10, 10**6), {}
    put(memory, table, 1)
    memory.abandon(table[1])
    assert table == {}
    put(memory, table, 2)
    assert memory.entries == 1


def test_threads_leave_it_consistent():
    """Concurrent puts, hits and drops keep table, counters and index in step."""
    memory, table = Memory(50, 10**6), {}

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(2000):
            key = chance.randrange(100)
            put(memory, table, key, scopes=(f"s{key % 7}",))
            found = table.get(chance.randrange(100))
            if found is not None:
                found.touched = 1
            if chance.random() < 0.05:
                with memory.lock:
                    memory.drop([f"s{chance.randrange(7)}"])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert memory.entries == len(table) <= 50
    assert memory.bytes == sum(each.bytes for each in table.values())
    assert sum(len(members) for members in memory._scopes.values()) == len(table)


def test_survey_estimates_size():
    """The estimated size of nested values is that of their parts."""
    value = {"a": ["x" * 1000] * 3, "b": b"y" * 5000}
    found = survey(value)
    assert found.size >= 8000 + sys.getsizeof(value)
    assert (found.mutable, found.nested, found.plain, found.foreign) == (True, True, True, False)
