"""What ends with a decorated function: one that is made for each request must leave nothing behind but its figures."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import pytest

from smw import cache as cache_module
from smw import cached
from smw._kernel import current
from smw.cache import Cache
from smw.runtime import Runtime
from tests.unit.cache.test_options import outcomes


def made_once(cache, **options):
    """Return a decorated function of this call's own, and references to what it was made of."""

    def load(number: int) -> int:
        return number

    decorated = cache.cached(60, **options)(load)
    assert [decorated(1), decorated(1)] == [1, 1]
    return decorated, weakref.ref(load), weakref.ref(decorated)


@pytest.mark.parametrize(
    ("levels", "options"),
    [((), {}), (("l2",), {"key": lambda number: number}), (("l2",), {"depends": "auto", "tags": ["n:{number}"]})],
)
def test_functions_made_inside_functions_are_collected(bench, levels, options):
    """Hundreds of them leave no function, no table of theirs beyond what memory may keep, and no count is lost."""
    cache = bench.cache(*levels, l1_size=10)
    references = []
    for _ in range(300):
        decorated, *made = made_once(cache, **options)
        references += made
    del decorated
    gc.collect()
    assert sum(reference() is not None for reference in references) == 0
    assert cache._functions.living() == []
    assert cache.engine.memory.entries < 200  # it makes room for many at once
    counts = outcomes(cache)
    assert counts["l1", "hit"] == 300
    assert counts["l1", "miss"] == 300


def test_what_refers_to_its_own_decorated_function_is_collected(cache):
    """An object that decorates its own method for itself, as in __init__, ends with its last user."""

    class Reader:
        def __init__(self) -> None:
            self.read = cache.cached(60)(self._read)

        def _read(self, number: int) -> int:
            return number if number < 2 else self.read(number - 1)

    reader = Reader()
    assert reader.read(3) == 1
    gone = weakref.ref(reader)
    del reader
    gc.collect()
    assert gone() is None


def test_one_decorator_serves_many_functions_apart(cache):
    """Functions of one name under one decorator object have results of their own, and end one by one."""
    keep = cache.cached(60)
    first, second = keep(lambda number: ("first", number)), keep(lambda number: ("second", number))
    assert [first(1), second(1), first(1), second(1)] == [("first", 1), ("second", 1)] * 2
    gone = weakref.ref(second)
    del second
    gc.collect()
    assert gone() is None
    assert len(cache._functions.living()) == 1


@cached(60)
def lasting(number: int) -> int:
    """A function that outlives every runtime."""
    return number


@pytest.mark.parametrize("closes", [True, False])
def test_a_cache_ends_though_its_functions_go_on(closes):
    """A function at module level keeps no runtime that nobody uses any more, closed or not."""
    with Runtime("testing", environ={}):
        runtime = Runtime("testing", environ={}).open()
        before = current.use(runtime)
        lasting(1)
        current.use(before)
        gone = weakref.ref(runtime.cache)
        if closes:
            runtime.close()
        del runtime
        gc.collect()
        assert gone() is None
        assert lasting(1) == 1


def test_results_stay_where_the_runtime_changes_for_a_while():
    """What a cache has in memory is there again when its runtime is current again."""
    with Runtime("testing", environ={}):
        lasting(7)
        with Runtime("testing", environ={}):
            lasting(7)
        assert cache_module.info(lasting).misses["l1"] == 1
        lasting(7)
        assert cache_module.info(lasting).hits["l1"] == 1


def writing_threads(others: set[threading.Thread]) -> list[str]:
    """Return those that see to acknowledged writes and are none of `others`."""
    names = ("smw-cache-writes", "smw-cache-journal")
    return [thread.name for thread in threading.enumerate() if thread.name in names and thread not in others]


def until(met, within_s: float = 60.0) -> None:
    ends = time.monotonic() + within_s
    while not met():
        assert time.monotonic() < ends, "did not happen in time"
        time.sleep(0.02)


def left_with_a_write(folder, source: list[str], *, is_down: threading.Event) -> weakref.ref:
    """Acknowledge a write in a cache that nobody closes, and leave it."""
    cache = Cache(namespace="gone", state_dir=folder)

    @cache.cached(60, key=lambda number: number)
    def name(number: int) -> str:
        return f"name {number}"

    @cache.writes(name, strategy="write_back", value=lambda _result, arguments: arguments["text"])
    def rename(number: int, text: str) -> None:
        if is_down.is_set():
            raise OSError
        source.append(text)

    rename(1, "new")
    assert name(1) == "new"
    return weakref.ref(cache)


def test_a_cache_that_nobody_closes_ends_with_its_threads_once_its_writes_are_done(tmp_path):
    """What was acknowledged is done first, however long that takes; then threads and files end with the cache."""
    others, source, is_down = set(threading.enumerate()), [], threading.Event()
    is_down.set()
    left = left_with_a_write(tmp_path / "state", source, is_down=is_down)
    time.sleep(0.3)
    gc.collect()
    assert writing_threads(others)
    assert source == []
    is_down.clear()
    until(lambda: source == ["new"])
    until(lambda: gc.collect() is not None and left() is None and not writing_threads(others))
    assert list((tmp_path / "state").glob("*.owner")) == []


def test_a_cache_that_has_only_looked_for_writes_ends_with_its_threads(tmp_path):
    """A read opens the journal of the folder, and nothing of that is left."""
    others = set(threading.enumerate())
    cache = Cache(namespace="gone", state_dir=tmp_path / "state")
    assert cache.cached(60, key=lambda number: number)(lambda number: number)(1) == 1
    assert writing_threads(others)
    left = weakref.ref(cache)
    del cache
    until(lambda: gc.collect() is not None and left() is None and not writing_threads(others))
    assert list((tmp_path / "state").glob("*.owner")) == []
