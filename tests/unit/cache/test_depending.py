"""Results that are dropped with what they were made from: hits and loads alike, nested, in memory and on servers."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from smw._kernel.signals import CacheUncached
from smw.cache import get_many, info, key_for
from smw.cache.values.envelope import Dependency, Envelope, Letter
from smw.errors import DecorationError


class Shop:
    """A process with a user, a list and a page, each made from the one before; `runs` says what was loaded."""

    def __init__(self, cache, *, user=None, page=None) -> None:
        self.cache = cache
        self.runs: list[str] = []
        kinds = {"key": lambda number: number}

        @cache.cached(60, tags=["user:{number}"], **(user or kinds))
        def user_of(number: int) -> str:
            self.runs.append("user")
            return f"user {number}"

        @cache.cached(60, tags=["list:{number}"], depends="auto", **kinds)
        def list_of(number: int) -> list[str]:
            self.runs.append("list")
            return [user_of(number), user_of(number + 1)]

        @cache.cached(60, depends="auto", **(page or kinds))
        def page_of(number: int) -> dict:
            self.runs.append("page")
            return {"list": list_of(number)}

        self.user, self.list, self.page = user_of, list_of, page_of

    def ran(self, number: int = 1) -> list[str]:
        """Ask for the page, and return what that has loaded."""
        del self.runs[:]
        assert self.page(number) == {"list": [f"user {number}", f"user {number + 1}"]}
        return self.runs


@pytest.fixture(params=["memory", "server", "slow"])
def cache(request, bench):
    """A cache with memory alone, and caches with servers behind it."""
    return bench.cache(*{"memory": (), "server": ("l2",), "slow": ("l2", "l3")}[request.param])


ALL = ["page", "list", "user", "user"]


def test_a_drop_of_anything_below_drops_what_was_made_from_it(cache):
    """A tag or key two functions further down drops the page; one that it was not made from does not."""
    shop = Shop(cache)
    assert shop.ran() == ALL
    assert shop.ran() == []
    cache.drop_sync(tags=["user:2"])
    assert shop.ran() == ["page", "list", "user"]
    cache.drop_sync(tags=["list:1"])
    assert shop.ran() == ["page", "list"]
    cache.drop_sync(tags=["user:3", "list:2"])
    assert shop.ran() == []


def test_a_hit_below_is_as_good_as_a_load(cache):
    """What was in memory already is collected too, by the compiled entry and by the chain."""
    shop = Shop(cache, user={})
    assert shop.user(1) == shop.user(1) == "user 1"
    assert shop.list(1) == ["user 1", "user 2"]
    assert shop.ran() == ["page"]
    cache.drop_sync(tags=["user:1"])
    assert shop.ran() == ["page", "list", "user"]


def test_functions_bound_before_anybody_collects_are_watched_from_then_on(cache, monkeypatch):
    """The first function with depends= has those that answer without the chain looked at again."""
    monkeypatch.setattr("smw.cache.coherence.collecting._begun", [])

    @cache.cached(60, tags=["user"])
    def user(number: int) -> int:
        return number

    assert user(1) == user(1) == 1
    runs = []

    @cache.cached(60, depends="auto")
    def page(number: int) -> int:
        runs.append(number)
        return user(number)

    page(1)
    cache.drop_sync(tags=["user"])
    page(1)
    assert runs == [1, 1]


def test_what_a_function_without_depends_uses_is_its_own_affair(cache):
    """Only functions that collect hand on what they were made from."""
    runs = []

    @cache.cached(60, tags=["user"])
    def user() -> int:
        return 1

    @cache.cached(60, tags=["between"])
    def between() -> int:
        return user()

    @cache.cached(60, depends="auto")
    def page() -> int:
        runs.append("page")
        return between()

    page()
    cache.drop_sync(tags=["user"])
    page()
    assert runs == ["page"]
    cache.drop_sync(tags=["between"])
    page()
    assert runs == ["page", "page"]


async def test_awaits_tasks_and_copied_contexts_are_collected(cache):
    """Tasks of the load and threads with its context belong to it; a thread without does not."""
    runs = []

    @cache.cached(60, tags=["user:{number}"])
    async def user(number: int) -> int:
        return number

    @cache.cached(60, tags=["other:{number}"])
    def other(number: int) -> int:
        return number

    @cache.cached(60, depends="auto")
    async def page() -> list[int]:
        runs.append("page")
        stray = threading.Thread(target=contextvars.Context().run, args=(other, 9))
        stray.start()
        stray.join()
        return [*await asyncio.gather(user(1), user(2)), *await get_many(user, [3]), await asyncio.to_thread(other, 4)]

    await page()
    for tag in ("user:1", "user:2", "user:3", "other:4"):
        before = len(runs)
        assert await page() == [1, 2, 3, 4]
        await cache.drop(tags=[tag])
        await page()
        assert len(runs) == before + 1, tag
    await cache.drop(tags=["other:9"])
    await page()
    assert len(runs) == 5


async def test_who_waits_for_a_load_below_collects_it(cache):
    """A page that joins a load which somebody else began is dropped with it."""
    gate, runs = asyncio.Event(), []

    @cache.cached(60, tags=["user"])
    async def user() -> int:
        await gate.wait()
        return 1

    @cache.cached(60, depends="auto")
    async def page() -> int:
        runs.append("page")
        return await user()

    first = asyncio.create_task(user())
    await asyncio.sleep(0)
    second = asyncio.create_task(page())
    await asyncio.sleep(0.01)
    gate.set()
    await asyncio.gather(first, second)
    await cache.drop(tags=["user"])
    await page()
    assert runs == ["page", "page"]


def test_a_drop_during_the_load_keeps_the_result_out(cache):
    """What is dropped after it was used and before the page is made makes the page old already."""
    runs = []

    @cache.cached(60, tags=["user"])
    def user() -> int:
        return 1

    @cache.cached(60, depends="auto")
    def page() -> int:
        runs.append("page")
        found = user()
        if len(runs) == 1:
            cache.drop_sync(tags=["user"])
        return found

    page(), page(), page()
    assert runs == ["page", "page"]


def test_an_error_below_is_something_to_depend_on(cache):
    """A page made without a user that was not there is dropped with that user's tag."""
    users, runs = {}, []

    @cache.cached(60, tags=["user:{number}"])
    def user(number: int) -> str:
        return users[number]

    @cache.cached(60, depends="auto")
    def page(number: int) -> str:
        runs.append(number)
        try:
            return user(number)
        except KeyError:
            return "nobody"

    assert page(1) == page(1) == "nobody"
    users[1] = "Ada"
    cache.drop_sync(tags=["user:1"])
    assert page(1) == page(1) == "Ada"
    assert runs == [1, 1]


class TestProcesses:
    """Two processes that share a server."""

    @pytest.fixture(params=[("l2",), ("l3",), ("l2", "l3")], ids=str)
    def shops(self, request, bench):
        return [Shop(bench.cache(*request.param)) for _ in range(2)]

    def test_a_stored_page_is_taken_until_something_below_is_dropped(self, bench, shops):
        """What another process has stored is good until a third drops a tag far below it."""
        one, two = shops
        assert one.ran() == ALL
        assert two.ran() == []
        assert info(two.page).hits["l1"] == 0
        one.cache.drop_sync(tags=["user:1"])
        bench.clock.advance(1.5)  # nobody tells the other process of it but the server
        assert two.ran() == ["page", "list", "user"]
        assert one.ran() == []

    def test_memory_elsewhere_is_old_for_no_longer_than_its_trust(self, bench, shops):
        """Trust in a page ends with that in the oldest result that it was made from."""
        one, two = shops
        assert two.user(1) == "user 1"
        bench.clock.advance(0.9)
        assert two.ran() == ["page", "list", "user"]
        one.cache.drop_sync(tags=["user:1"])
        bench.clock.advance(0.2)
        assert two.ran() == ["page", "list", "user"]

    def test_a_drop_elsewhere_between_use_and_store_makes_the_stored_page_worthless(self, bench, shops):
        """The page carries what stood before its parts were loaded, so no process takes it."""
        one, two = shops
        assert two.user(1) == "user 1"
        one.cache.drop_sync(tags=["user:1"])
        assert two.ran() == ["page", "list", "user"]  # its memory has not heard of it for less than a second
        assert one.ran() == ["page", "list", "user"]
        bench.clock.advance(1.1)
        assert "page" not in one.ran()

    def test_an_expired_page_that_stands_in_is_none_that_was_dropped(self, bench):
        """With stale_if_error a page is handed out after its time, unless something below was dropped."""
        cache = bench.cache("l2")
        down = []

        @cache.cached(600, tags=["user"], key=lambda: 1)
        def user() -> int:
            return 1

        @cache.cached(10, depends="auto", stale_if_error=60, key=lambda: 2)
        def page() -> int:
            if down:
                raise OSError
            return user()

        page()
        down.append(1)
        bench.clock.advance(11)
        assert page() == 1
        bench.cache("l2").drop_sync(tags=["user"])
        bench.clock.advance(5)
        with pytest.raises(OSError):
            page()


def test_results_that_servers_know_nothing_of_keep_the_page_in_memory(bench):
    """A page made from an instance's results is kept in memory and not stored, which is counted."""
    cache = bench.cache("l2")
    runs = []

    class Users:
        @cache.cached(60, tags=["user"])
        def one(self) -> int:
            return 1

    users = Users()

    @cache.cached(60, depends="auto", key=lambda: 1)
    def page() -> int:
        runs.append(1)
        return users.one()

    page(), page()
    assert runs == [1]
    assert not bench.stores["l2"].data
    assert "unknown-dependency" in {signal.reason for signal in cache.recorded.of(CacheUncached)}
    cache.drop_sync(tags=["user"])
    page()
    assert runs == [1, 1]


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_what_is_made_from_a_stand_in_ends_when_that_is_tried_anew(bench, cache, mode):
    """A page of a stale part is kept while the part's load rests, however deep it lies, and not for its own time."""
    source, runs = {"value": "old"}, []

    def load() -> str:
        if source["value"] is None:
            raise OSError
        return source["value"]

    if mode == "sync":

        @cache.cached(10, stale_if_error=600, key=lambda: 1)
        def part() -> str:
            return load()

        @cache.cached(20, depends="auto", key=lambda: 2)
        def middle() -> str:
            return part()

        @cache.cached(300, depends="auto", key=lambda: 3)
        def page() -> str:
            runs.append("page")
            return middle()

        async def ask() -> str:
            return page()
    else:

        @cache.cached(10, stale_if_error=600, key=lambda: 1)
        async def part() -> str:
            return load()

        @cache.cached(20, depends="auto", key=lambda: 2)
        async def middle() -> str:
            return await part()

        @cache.cached(300, depends="auto", key=lambda: 3)
        async def page() -> str:
            runs.append("page")
            return await middle()

        ask = page

    assert await ask() == "old"
    source["value"] = None
    bench.clock.advance(11)
    await cache.drop(keys=[key_for(page)])
    await cache.drop(keys=[key_for(middle)])
    assert await ask() == await ask() == "old"
    bench.clock.advance(0.9)
    assert await ask() == "old"
    assert runs == ["page"] * 2
    source["value"] = "new"
    bench.clock.advance(0.2)
    assert await ask() == "new"
    bench.clock.advance(8)
    assert await ask() == "new"
    assert runs == ["page"] * 3, "a page of what was loaded lives its own time"


def test_a_page_of_very_many_parts_stays_in_memory(bench):
    """Beyond what a stored value may carry the page is kept in memory alone, and still dropped with its parts."""
    cache = bench.cache("l2")
    runs = []

    @cache.cached(60, tags=["user:{number}"], key=lambda number: number)
    def user(number: int) -> int:
        return number

    @cache.cached(60, depends="auto", key=lambda many: many)
    def page(many: int) -> int:
        runs.append(many)
        return sum(map(user, range(many)))

    page(10), page(150), page(150)
    assert runs == [10, 150]
    assert [signal.reason for signal in cache.recorded.of(CacheUncached)] == ["many-dependencies"]
    cache.drop_sync(tags=["user:149"])
    page(10), page(150)
    assert runs == [10, 150, 150]


def test_a_page_made_from_another_cache_is_not_kept(bench):
    """No cache can drop what another one's drop makes old, so nothing is kept, which is counted."""
    here, there, runs = bench.cache(), bench.cache(), []

    @there.cached(60)
    def user() -> int:
        return 1

    @here.cached(60, depends="auto")
    def page() -> int:
        runs.append(1)
        return user()

    page(), page()
    assert runs == [1, 1]
    assert {signal.reason for signal in here.recorded.of(CacheUncached)} == {"foreign-dependency"}


@pytest.mark.parametrize("levels", [(), ("l2",), ("l2", "l3")])
def test_tools_keep_a_result_apart_from_what_was_made_from_it(bench, levels):
    """A look under the key of a part finds the part and not the whole, and `why` tells what is behind the whole."""
    one, two = (Shop(bench.cache(*levels)) for _ in range(2))
    one.ran()
    user, page = key_for(one.user, 1), key_for(one.page, 1)
    assert one.cache.peek_sync(user) == one.cache.peek_sync(str(user)) == "user 1"
    assert one.cache.peek_sync(page) == one.cache.peek_sync(str(page)) == {"list": ["user 1", "user 2"]}
    bench.clock.advance(1.5)
    assert one.cache.peek_sync(page) == {"list": ["user 1", "user 2"]}
    assert one.cache.why_sync(page).served_by == "l1"
    if levels:
        two.cache.drop_sync(tags=["user:1"])
        bench.clock.advance(1.5)
        story = one.cache.why_sync(page)
        assert story.served_by is None
        assert str(story).count("was made from something that was dropped since: tag user:1") == 1 + len(levels)
        assert one.cache.peek_sync(page) is None


def test_depends_is_checked(cache):
    """Anything but "auto" is refused, and so is a load of many."""
    for options in ({"depends": "all"}, {"depends": "auto", "many": lambda keys: keys}):
        with pytest.raises(DecorationError, match="SMW-C173"):
            cache.cached(60, **options)(lambda key: key)


def test_a_writer_cannot_put_a_value_in_the_place_of_one_that_was_made_from_others(cache):
    """What a writer hands over was made from nothing that could be dropped, so it may only drop."""

    @cache.cached(60, depends="auto")
    def page(number: int) -> int:
        return number

    def write(number: int) -> int:
        return number

    with pytest.raises(DecorationError, match="SMW-C173"):
        cache.writes(page)(write)
    cache.writes(page, strategy="write_around")(write)(1)


def test_dependencies_travel_in_the_envelope():
    """They come back as they were, sealed to the header, and a letter without them has the older form."""
    envelope = Envelope(compress_from=None, seal=None)
    depends = (Dependency("smw:a:1", 7, (("smw:a:t:x", 8), ("smw:a:t:y", 9))), Dependency("smw:a:2", 10, ()))
    letter = Letter(1, b"x", 2, 3, 4, (5, 6), depends=depends)
    stored = envelope.close(letter, b"k")
    assert envelope.open(stored, b"k") == letter
    assert envelope.close(letter._replace(depends=()), b"k")[2] == 2
    assert stored[2] == 3


@pytest.mark.parametrize("trust_ms", [1000, 0])
def test_nobody_waits_for_a_load_that_began_before_a_drop_of_a_part(bench, trust_ms):
    """Who asks after a drop of something below does not get what a load brings that may have read it before."""
    names, is_read, goes_on = {1: "old"}, threading.Event(), threading.Event()
    here, there = (bench.cache("l2", l1_trust_ms=trust_ms) for _ in range(2))

    @here.cached(60, tags=["user:{number}"], key=lambda number: number)
    def user_of(number: int) -> str:
        return names[number]

    @here.cached(60, depends="auto", key=lambda number: number)
    def page_of(number: int) -> str:
        user = user_of(number)
        if not is_read.is_set():
            is_read.set()
            assert goes_on.wait(20)
        return user

    def after_a_drop(drop) -> list[str]:
        names[1] = "old"
        here.drop_sync(tags=["user:1"])
        for event in (is_read, goes_on):
            event.clear()
        found: list[str] = []
        threads = [threading.Thread(target=lambda: found.append(page_of(1))) for _ in range(2)]
        threads[0].start()
        assert is_read.wait(20)
        names[1] = "new"
        drop()
        threads[1].start()
        threads[1].join(0.3)
        goes_on.set()
        for thread in threads:
            thread.join(20)
        return sorted(found)

    def elsewhere() -> None:
        there.drop_sync(tags=["user:1"])
        bench.clock.advance(1.1)  # no later than that it is noticed

    assert after_a_drop(lambda: here.drop_sync(tags=["user:1"])) == ["new", "old"]
    assert after_a_drop(elsewhere) == ["new", "old"]
