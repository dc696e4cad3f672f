"""Memory under any order of storing, asking, dropping and abandoning: its books agree with its tables."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from smw._kernel.clock import SystemClock
from smw.cache.coherence.fence import Fence
from smw.cache.levels.memory import Memory, Table

MOST_BYTES = 12_000
KEYS, SCOPES = st.integers(0, 30), st.sampled_from("abc")
FENCE = Fence(SystemClock())
STEPS = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 1), KEYS, st.integers(540, 4_540), st.sets(SCOPES)),
    st.tuples(st.just("ask"), st.integers(0, 1), KEYS),
    st.tuples(st.just("drop"), SCOPES),
    st.tuples(st.just("abandon"), st.integers(0, 1), KEYS),
    st.tuples(st.just("race"), st.integers(0, 1), KEYS, KEYS),
    st.tuples(st.just("refuse"), st.integers(0, 1), KEYS),
    st.tuples(st.just("clear")),
)


class Asked:
    """A fence that is always looked at."""

    epoch = 1

    def __init__(self, stands):
        self._stands = stands

    def stands(self, _scopes, _epoch):
        return self._stands()


def stored(memory, home, key, size=550, scopes=(), *, fence=FENCE) -> bool:
    return memory.put(home, key, key, None, 1e9, size, scopes, fence, 0, None)


def took(memory: Memory, tables: list[Table], step: tuple) -> None:
    """Do one step and check what it promises at once."""
    match step:
        case "put", table, key, size, scopes:
            assert stored(memory, tables[table], key, size, tuple(sorted(scopes))) == (size <= MOST_BYTES // 2)
        case "ask", table, key:
            found = tables[table].get(key)
            if found is not None:
                assert found.value == key
                found.touched = 1
        case "drop", scope:
            memory.drop([scope])
            assert not any(scope in entry.scopes for table in tables for entry in table.values())
        case "abandon", table, key:
            if key in tables[table]:
                memory.abandon(tables[table][key])
                assert key not in tables[table]
        case "race", table, key, other:

            def abandon() -> bool:  # a finalizer runs before the fence is looked at
                if other in tables[table]:
                    memory.abandon(tables[table][other])
                return True

            assert stored(memory, tables[table], key, fence=Asked(abandon)) or other == key
            assert other == key or tables[table][key].value == key
        case "refuse", table, key:
            before = tables[table].get(key)
            assert not stored(memory, tables[table], key, fence=Asked(lambda: False))
            assert tables[table].get(key) in (before, None)  # its coming may have made room
        case _:
            memory.clear()
            assert tables == [{}, {}]


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=120), st.sampled_from([12, 60]), st.booleans())
def test_books_agree_with_tables(steps, most_entries, looks):
    """Whatever was done, count, bytes, queues and index are those of what the tables hold, within the bounds."""
    memory, tables = Memory(most_entries, MOST_BYTES), [{}, {}]
    for step in steps:
        took(memory, tables, step)
        assert sum(map(len, tables)) <= most_entries
        assert sum(entry.bytes for table in tables for entry in table.values()) <= MOST_BYTES
        if looks:
            assert memory.entries <= most_entries
            assert memory.bytes <= MOST_BYTES
    books = memory.entries, memory.bytes  # what was abandoned is reclaimed
    held = [entry for table in tables for entry in table.values()]
    assert books == (len(held), sum(entry.bytes for entry in held))
    queued = [entry for queue in (memory._newcomers, memory._main) for entry in queue if entry.alive]
    assert Counter(map(id, queued)) == Counter(map(id, held))
    index = {scope: {entry for entry in held if scope in entry.scopes} for scope in "abc"}
    assert memory._scopes == {scope: members for scope, members in index.items() if members}
    assert memory._removed == len(memory._newcomers) + len(memory._main) - len(queued)
    assert memory._settled == len(memory._newcomers)
    assert len(memory._ghosts) <= 2 * most_entries
