"""Memory under any order of storing, asking, dropping and abandoning: its books agree with its tables."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from smw.cache.levels.memory import Entry, Memory, Table

MOST_ENTRIES, MOST_BYTES = 12, 12_000
KEYS, SCOPES = st.integers(0, 30), st.sampled_from("abc")
STEPS = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 1), KEYS, st.integers(0, 4_000), st.sets(SCOPES)),
    st.tuples(st.just("ask"), st.integers(0, 1), KEYS),
    st.tuples(st.just("drop"), SCOPES),
    st.tuples(st.just("abandon"), st.integers(0, 1), KEYS),
    st.tuples(st.just("race"), st.integers(0, 1), KEYS, KEYS),
    st.tuples(st.just("refuse"), st.integers(0, 1), KEYS),
    st.tuples(st.just("clear")),
)


def took(memory: Memory, tables: list[Table], step: tuple) -> None:
    """Do one step and check what it promises at once."""
    match step:
        case "put", table, key, size, scopes:
            entry = Entry(key, None, 1e9, 1e9, size, tuple(sorted(scopes)))
            stored = memory.put(entry, tables[table], key, lambda: True)
            assert stored == (entry.bytes <= MOST_BYTES // 2)
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

            def stands() -> bool:  # a finalizer runs between the look for what is abandoned and the storing
                if other in tables[table]:
                    memory.abandon(tables[table][other])
                return True

            assert memory.put(Entry(key, None, 1e9, 1e9, 10), tables[table], key, stands)
            assert tables[table][key].value == key
        case "refuse", table, key:
            before = tables[table].get(key)
            assert not memory.put(Entry(key, None, 1e9, 1e9, 10), tables[table], key, lambda: False)
            assert tables[table].get(key) is before
        case _:
            memory.clear()
            assert tables == [{}, {}]


@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=120))
def test_books_agree_with_tables(steps):
    """Whatever was done, count, bytes, queues and index are those of what the tables hold, within the bounds."""
    memory, tables = Memory(MOST_ENTRIES, MOST_BYTES), [{}, {}]
    for step in steps:
        took(memory, tables, step)
        assert memory.entries <= MOST_ENTRIES
        assert memory.bytes <= MOST_BYTES
    memory.put(Entry("last", None, 1e9, 1e9, 0), tables[0], "last", lambda: True)  # what was abandoned is reclaimed
    held = [entry for table in tables for entry in table.values()]
    assert (memory.entries, memory.bytes) == (len(held), sum(entry.bytes for entry in held))
    queued = [entry for queue in (memory._newcomers, memory._main) for entry in queue if entry.rank >= 0]
    assert Counter(map(id, queued)) == Counter(map(id, held))
    index = {scope: {entry for entry in held if scope in entry.scopes} for scope in "abc"}
    assert memory._scopes == {scope: members for scope, members in index.items() if members}
    removed = len(memory._newcomers) + len(memory._main) - len(queued)
    removed_newcomers = len(memory._newcomers) - sum(entry.rank == 0 for entry in held)
    assert (memory._removed, memory._removed_newcomers) == (removed, removed_newcomers)
    assert len(memory._ghosts) <= MOST_ENTRIES + 1
