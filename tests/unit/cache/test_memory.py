"""Memory stays within its bounds and keeps what is asked for."""

from __future__ import annotations

import collections
import dataclasses
import random
import sys
import threading
import types

import pydantic
import pytest

from smw._kernel.clock import SystemClock
from smw.cache.coherence.fence import Fence
from smw.cache.levels.memory import ENTRY_BYTES, SCOPE_BYTES, Memory
from smw.cache.values.copies import survey

FENCE = Fence(SystemClock())


def put(memory, table, key, value=None, *, size=100, scopes=(), fence=FENCE, epoch=0) -> bool:
    return memory.put(table, key, value, None, 1e9, size + ENTRY_BYTES, scopes, fence, epoch, None)


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


def zipf(seed: int, count: int = 60_000, keys: int = 20_000) -> list[int]:
    return random.Random(seed).choices(range(keys), [1 / (rank + 1) for rank in range(keys)], k=count)


def share_found(requests, room: int) -> float:
    """Return the share of the requests below 100,000 that found their key."""
    memory, table, hits = Memory(room, 10**9), {}, 0
    for key in requests:
        found = table.get(key)
        if found is None:
            put(memory, table, key)
        else:
            found.touched = 1
            hits += key < 100_000
    return hits / sum(key < 100_000 for key in requests)


def test_favourites_are_found():
    """A skewed stream of requests finds its favourites: 61.7 %, where letting the least recently used go has 53.5 %."""
    assert share_found(zipf(7), 500) >= 0.615


def test_scan_does_not_displace_favourites():
    """Keys that are asked for once and never again cost the others little: 66.7 %, against 53.1 % by last use."""
    requests = zipf(8)
    for number in range(50_000, 0, -2_000):
        requests[number:number] = range(100_000 + number, 101_000 + number)
    assert share_found(requests, 1_000) >= 0.664


def test_new_favourites_displace_the_old():
    """When others become popular memory follows: 61.4 %, against 53.4 % by last use."""
    requests = zipf(9) + [19_999 - key for key in zipf(10)]
    assert share_found(requests, 500) >= 0.612


def test_replacing_counts_once():
    """Storing a key again replaces the entry in every index."""
    memory, table = Memory(10, 10**6), {}
    for _ in range(500):
        put(memory, table, "k", scopes=("t",))
    assert (memory.entries, memory.bytes) == (1, ENTRY_BYTES + SCOPE_BYTES + 100)
    assert len(memory._newcomers) + len(memory._main) < 100


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


class Raised:
    """A fence that is raised, and what it fences dropped, the moment before it is looked at."""

    def __init__(self, *, drops=lambda: None):
        self.drops = drops

    @property
    def epoch(self):
        self.drops()
        return 1

    def stands(self, scopes, epoch):
        assert epoch == 0
        return "raised" not in scopes


def test_what_does_not_stand_is_not_stored():
    """An entry that was invalidated while it was made is refused, and a newer one that is there stays."""
    memory, table = Memory(10, 10**6), {}
    assert put(memory, table, 1, "newer", scopes=("other",), fence=Raised())
    assert not put(memory, table, 1, "older", scopes=("raised",), fence=Raised())
    assert not put(memory, table, 2, scopes=("raised",), fence=Raised())
    assert [(key, entry.value) for key, entry in table.items()] == [(1, "newer")]
    assert set(memory._scopes) == {"other"}
    assert (memory.entries, memory.bytes) == (1, table[1].bytes)


def test_what_is_dropped_before_it_is_handed_out_is_not_stored():
    """A drop that comes between the joining of an entry and the look at the fence finds it, and nobody else did."""
    memory, table, seen = Memory(100, 10**6), {}, []

    def drops() -> None:
        seen.append(table[1].deadline)
        assert memory.drop(["tag"]) == 1

    assert not put(memory, table, 1, scopes=("tag",), fence=Raised(drops=drops))
    assert table == memory._scopes == {}
    assert seen == [float("-inf")]
    assert (memory.entries, memory.bytes) == (0, 0)


def test_abandoned_entries_are_reclaimed():
    """An entry removed by a finalizer frees its place with the next change."""
    memory, table = Memory(10, 10**6), {}
    put(memory, table, 1)
    memory.abandon(table[1])
    assert table == {}
    put(memory, table, 2)
    assert memory.entries == 1


def test_evicting_what_was_abandoned_spares_its_successor():
    """An entry that a finalizer takes out while its key is stored anew does not take the new one along."""
    memory, table = Memory(4, 10**6), {}

    def come() -> None:
        memory.abandon(table["b"])
        put(memory, table, "b", "newer")

    for key in "abcd":
        put(memory, table, key)
    table["a"].home = Home(table, come)
    put(memory, table, "e", size=400_000)
    put(memory, table, "f", size=400_000)
    put(memory, table, "g", size=400_000)
    assert table["b"].value == "newer"
    assert memory.entries == len(table) <= 4


def test_what_is_remembered_stays_bounded():
    """Of newcomers that had to go about as many are remembered as there is room for entries, the latest ones."""
    memory, table = Memory(100, 10**9), {}
    for number in range(10_000):
        put(memory, table, number)
        table[number].touched = number < 80
    assert memory.entries <= 100
    assert len(memory._ghosts) <= 106
    put(memory, table, 9_900)
    put(memory, table, 5_000)
    for number in range(10_000, 10_020):
        put(memory, table, number)
    assert memory.entries <= 100
    assert table[9_900].rank == 1
    assert 5_000 not in table


def test_often_used_outlives_once_used():
    """In the main queue what was found used again and again stays through more rounds than what was used once."""
    memory, table = Memory(20, 10**9), {}
    numbers = iter(range(5_000))

    def newcomer() -> None:
        number = next(numbers)
        put(memory, table, number)
        table[number].touched = number % 2

    put(memory, table, "often")
    while table["often"].rank < 4:
        table["often"].touched = 1
        newcomer()
    table["often"].touched = 0
    put(memory, table, "once")
    table["once"].touched = 1
    while "once" in table:
        newcomer()
    assert "often" in table


def test_threads_leave_it_consistent():
    """Concurrent puts, hits and drops keep table, counters and index in step."""
    memory, table, fence = Memory(50, 10**6), {}, Fence(SystemClock())

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(2000):
            key = chance.randrange(100)
            put(memory, table, key, scopes=(f"s{key % 7}",), fence=fence, epoch=fence.epoch)
            found = table.get(chance.randrange(100))
            if found is not None:
                found.touched = 1
            if chance.random() < 0.05:
                scope = f"s{chance.randrange(7)}"
                with memory.lock:
                    fence.lift([scope])
                    memory.drop([scope])

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


@dataclasses.dataclass
class Page:
    body: object


class Model(pydantic.BaseModel):
    body: list[str]


class Slotted:
    __slots__ = ("body",)

    def __init__(self, body):
        self.body = body


class Document(dict):
    pass


@pytest.mark.parametrize(
    "wrap",
    [
        Page, Slotted, lambda body: Model(body=body), lambda body: Document(body=body), LookupError, collections.deque,
        lambda body: collections.OrderedDict(body=body), lambda body: [Page(Slotted(body))],
    ],
)  # fmt: skip
def test_survey_weighs_what_objects_hold(wrap):
    """What lies in the attributes of an object, in a subclass of a container or in an error counts, and counts once."""
    body = [letter * 10_000 for letter in "abcdefghij"]
    assert 100_000 < survey(wrap(body)).size < 110_000


def test_survey_runs_no_code_of_the_class():
    """An object whose state asks a database, or whose iteration does, is weighed by what it holds by now."""

    class Lazy(list):
        def __getstate__(self):
            raise AssertionError

        __reduce_ex__ = __iter__ = __reduce__ = __len__ = __getstate__

    lazy = Lazy()
    lazy.body = "x" * 100_000
    assert survey(lazy).size > 100_000


def test_survey_of_objects_in_a_circle_ends():
    """An object that holds itself, a module or what cannot be copied is weighed without them."""
    page = Page("x" * 1000)
    page.body = [page, types, threading.Lock(), "y" * 1000]
    found = survey(page)
    assert 1000 < found.size < 3000
    assert found.foreign


class Home(dict):
    """The table of one entry, at which something comes in between when it is evicted."""

    def __init__(self, table, come):
        self.table, self.come = table, come
        self.was_asked = False

    def pop(self, key, default=None):
        if not self.was_asked:
            self.was_asked = True
            self.come()
        return self.table.pop(key, default)

    def get(self, key, default=None):
        return self.table.get(key, default)

    def __setitem__(self, key, value):
        self.table[key] = value


@pytest.mark.parametrize("how", ["drop", "clear", "put", "raise"])
def test_what_comes_amid_eviction_leaves_the_books_right(how):
    """A drop, a store or an exception while room is made is counted, and memory goes on storing."""
    memory, table = Memory(256, 10**9), {}

    def stop():
        raise KeyboardInterrupt

    for number in range(256):
        put(memory, table, number, scopes=(f"s{number}",))
    comes = {
        "drop": lambda: memory.drop([f"s{number}" for number in range(20, 250)]),
        "clear": memory.clear,
        "put": lambda: [put(memory, table, number) for number in range(1_000, 1_010)],
        "raise": stop,
    }
    memory._newcomers[0].home = interrupted = Home(table, comes[how])
    try:
        put(memory, table, 9_999)
    except KeyboardInterrupt:
        assert how == "raise"
    assert interrupted.was_asked
    for number in range(2_000, 3_000):
        put(memory, table, number)
        assert memory.entries <= 256
    alive = [each for each in (*memory._newcomers, *memory._main) if each.alive]
    assert memory.entries == len(alive) == len(table)
    assert memory.bytes == sum(each.bytes for each in alive)


def test_what_is_raised_as_the_books_are_opened_leaves_them_closed():
    """The handler of a signal may raise before anything was looked at: memory goes on making room."""
    memory, table = Memory(256, 10**9), {}

    class Interrupted:
        def __len__(self):
            raise KeyboardInterrupt

    orphans, memory._orphans = memory._orphans, Interrupted()
    with pytest.raises(KeyboardInterrupt):
        _ = memory.entries
    memory._orphans = orphans
    for number in range(1_000):
        put(memory, table, number)
    assert len(table) <= 256
