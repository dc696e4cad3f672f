"""What `invalidate` drops of a cached function that it is told of, and when."""

from __future__ import annotations

import asyncio

import pytest

from smw import cache as cache_module
from smw.cache import invalidate
from smw.errors import ConfigError, DecorationError

MODES = pytest.mark.parametrize("mode", ["sync", "async"])


async def called(result):
    return await result if asyncio.iscoroutine(result) else result


def in_mode(mode, fn):
    """Return `fn`, or a coroutine function that does the same."""
    if mode == "sync":
        return fn

    async def awaited(user_id: int, lang: str = "en") -> str:
        return fn(user_id, lang)

    return awaited


class Names:
    """A source with a cached reader."""

    def __init__(self, cache, mode="sync", **options) -> None:
        self.names = {1: "Ada", 2: "Bob"}
        self.reads: list[int] = []

        def name_of(user_id: int, lang: str = "en") -> str:
            self.reads.append(user_id)
            return f"{self.names[user_id]} {lang}"

        self.name_of = cache.cached(60, **options)(in_mode(mode, name_of))

    async def read(self, *args) -> str:
        return await called(self.name_of(*args))


@MODES
@pytest.mark.parametrize("levels", [(), ("l2",), ("l2", "l3")])
async def test_the_result_for_the_same_arguments_is_dropped(bench, mode, levels):
    """With fn= exactly the result for the writer's arguments of the same names is dropped, at every level."""
    cache = bench.cache(*levels)
    source = Names(cache, mode, key=lambda user_id, lang="en": (user_id, lang))

    def write(user_id: int, name: str, lang: str) -> None:
        source.names[user_id] = name

    async def write_async(user_id: int, name: str, lang: str) -> None:
        source.names[user_id] = name

    rename = cache.invalidate(fn=source.name_of)(write if mode == "sync" else write_async)
    assert [await source.read(1), await source.read(2), await source.read(1, "de")] == ["Ada en", "Bob en", "Ada de"]
    await called(rename(1, "Eve", "en"))
    assert [await source.read(1), await source.read(2), await source.read(1, "de")] == ["Eve en", "Bob en", "Ada de"]
    assert source.reads == [1, 2, 1, 1]


@MODES
async def test_a_key_function_maps_the_arguments(cache, mode):
    """key= returns arguments by name, by position, several of them, or full keys."""
    source = Names(cache, mode)
    full = cache_module.key_for(source.name_of, 2)
    given = {
        "name": lambda user: {"user_id": user},
        "position": lambda user: (user, "en"),
        "several": lambda user: [{"user_id": user, "lang": "de"}, (user,)],
        "full": lambda user: [full, (user,)],
    }
    for key in given.values():

        @cache.invalidate(fn=source.name_of, key=key)
        def touch(user: int) -> int:
            return user

        for user in (1, 2):
            await source.read(user)
            await source.read(user, "de")
        before = len(source.reads)
        assert touch(1) == 1
        await source.read(1)
        assert len(source.reads) == before + 1
    await source.read(2)
    assert source.reads[-1] == 2


async def test_tags_and_function_together(cache):
    """Tags and fn= are both dropped."""
    source, others = Names(cache, tags=["a"]), Names(cache, tags=["b:{user_id}"])

    @cache.invalidate(tags=["b:{user_id}"], fn=source.name_of, key=lambda user_id: (user_id,))
    def touch(user_id: int) -> None: ...

    for each in (source, others):
        await each.read(1)
    touch(1)
    for each in (source, others):
        await each.read(1)
        assert each.reads == [1, 1]


def test_methods_of_an_instance_without_identity(cache):
    """A method's result is dropped for its own instance and arguments alone, also where memory alone holds it."""

    class Shelf:
        def __init__(self) -> None:
            self.books = {1: "one", 2: "two"}
            self.reads: list[int] = []

        @cache.cached(60)
        def book(self, number: int) -> str:
            self.reads.append(number)
            return self.books[number]

        @cache.invalidate(fn=book)
        def rename(self, number: int, title: str) -> None:
            self.books[number] = title

    one, other = Shelf(), Shelf()
    for shelf in (one, other):
        assert (shelf.book(1), shelf.book(2)) == ("one", "two")
    one.rename(1, "uno")
    assert (one.book(1), one.book(2), other.book(1)) == ("uno", "two", "one")
    assert (one.reads, other.reads) == ([1, 2, 1], [1, 2])


def test_a_load_of_an_instance_that_began_before_is_not_kept(cache):
    """What a method was loading while its result was dropped is not stored."""

    class Shelf:
        title = "old"

        @cache.cached(60)
        def book(self) -> str:
            found, self.title = self.title, "new"
            self.touch()
            return found

        @cache.invalidate(fn=book)
        def touch(self) -> None: ...

    shelf = Shelf()
    assert shelf.book() == "old"
    assert shelf.book() == "new"


def test_methods_with_an_identity_are_dropped_everywhere(bench):
    """Where the class says who an instance is, other processes see the drop as well."""
    titles = {1: "one"}

    def shelf_of(cache):
        class Shelf:
            def __cache_key__(self) -> object:
                return 7

            @cache.cached(60, key=lambda self, number: number)
            def book(self, number: int) -> str:
                return titles[number]

            @cache.invalidate(fn=book)
            def rename(self, number: int, title: str) -> None:
                titles[number] = title

        return Shelf()

    here, there = shelf_of(bench.cache("l2")), shelf_of(bench.cache("l2"))
    assert (here.book(1), there.book(1)) == ("one", "one")
    here.rename(1, "uno")
    bench.clock.advance(2)
    assert (here.book(1), there.book(1)) == ("uno", "uno")


@MODES
async def test_before_drops_twice(cache, mode):
    """With when="before" a reader during the call loads anew, and what it stored does not outlive the call."""
    source = Names(cache, mode)
    seen = []

    def change(user_id: int, lang: str = "en") -> None:
        seen.append(cache_module.info(source.name_of).entries)
        source.name_of(user_id) if mode == "sync" else None
        source.names[user_id] = "Eve"

    async def change_async(user_id: int, lang: str = "en") -> None:
        seen.append(cache_module.info(source.name_of).entries)
        await source.read(user_id)
        source.names[user_id] = "Eve"

    write = cache.invalidate(fn=source.name_of, when="before")(change if mode == "sync" else change_async)
    await source.read(1)
    await called(write(1))
    assert seen == [0]
    assert await source.read(1) == "Eve en"
    assert source.reads == [1, 1, 1]


@MODES
async def test_before_drops_again_after_a_failure(cache, mode):
    """A writer that fails may have changed something, so what was read while it ran is dropped as well."""
    source = Names(cache, mode)

    async def fail_async(user_id: int, lang: str = "en") -> None:
        await source.read(user_id)
        source.names[user_id] = "Eve"
        raise KeyError(user_id)

    def fail(user_id: int, lang: str = "en") -> None:
        source.name_of(user_id)
        source.names[user_id] = "Eve"
        raise KeyError(user_id)

    write = cache.invalidate(fn=source.name_of, when="before")(fail if mode == "sync" else fail_async)
    await source.read(1)
    with pytest.raises(KeyError):
        await called(write(1))
    assert await source.read(1) == "Eve en"


async def test_before_drops_when_the_call_is_cancelled(bench):
    """A cancelled call drops here at once and does not wait for servers, which are told in the background."""
    cache = bench.cache("l2")
    source = Names(cache, "async", key=lambda user_id, lang="en": user_id)
    begun = asyncio.Event()

    @cache.invalidate(fn=source.name_of, key=lambda user_id: (user_id,), when="before")
    async def write(user_id: int) -> None:
        await source.read(user_id)
        source.names[user_id] = "Eve"
        begun.set()
        await asyncio.sleep(60)

    task = asyncio.create_task(write(1))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await source.read(1) == "Eve en"


def test_a_failure_drops_nothing_after(cache):
    """By default a writer that fails has changed nothing."""
    source = Names(cache)

    @cache.invalidate(fn=source.name_of)
    def fail(user_id: int, lang: str = "en") -> None:
        raise KeyError(user_id)

    source.name_of(1)
    with pytest.raises(KeyError):
        fail(1)
    source.name_of(1)
    assert source.reads == [1]


def test_a_key_that_cannot_be_told_refuses_the_call(cache):
    """A mapping that fails or returns nonsense raises before the function runs, for nobody could tell what is old."""
    source = Names(cache)
    runs = []

    def touch(user: object) -> None:
        runs.append(user)

    for key, says in (
        (lambda user: 1 / 0, "failed: ZeroDivisionError"),
        (lambda user: user, "returned int"),
        (lambda user: "7", "returned str"),
        (lambda user: {"user": user}, "does not fit"),
        (lambda user: (object(),), "has no key"),
    ):
        with pytest.raises(ConfigError, match=says) as caught:
            cache.invalidate(fn=source.name_of, key=key)(touch)(7)
        assert caught.value.code == "SMW-C142"
    assert runs == []


def test_arguments_that_do_not_fit_are_pythons_to_refuse(cache):
    """A call with wrong arguments raises as Python does, also where a mapping would have been asked first."""
    source = Names(cache)

    @cache.invalidate(fn=source.name_of, key=lambda user_id, name: (user_id,))
    def rename(user_id: int, name: str) -> None: ...

    with pytest.raises(TypeError, match="name"):
        rename(1)


def test_results_of_another_cache(bench):
    """The function may be kept by another cache than the tags are dropped from: both drop, come what may."""
    one, other = bench.cache(), bench.cache()
    source, tagged = Names(one), Names(other, tags=["a"])

    @other.invalidate(tags=["a"], fn=source.name_of, key=lambda user_id: (user_id,))
    def touch(user_id: int) -> None: ...

    def injecting(fn):
        def call(*args):
            return fn("session", *args)

        call.__wrapped__ = fn
        return call

    @other.invalidate(tags=["b:{user_id}"], fn=source.name_of)
    @injecting
    def untold(session: str, user_id: int, lang: str) -> None: ...

    for count, write in enumerate((lambda: touch(1), lambda: untold(1, "en")), 1):
        source.name_of(1)
        tagged.name_of(1)
        write()
        assert (len(source.reads), len(tagged.reads)) == (count, count)
    source.name_of(1)
    tagged.name_of(1)
    assert (len(source.reads), len(tagged.reads)) == (3, 3)


def plain(user_id: int, name: str) -> None: ...


@pytest.mark.parametrize(
    ("decorate", "code", "says"),
    [
        (lambda fn: invalidate(fn=plain), "C140", "plain, which is not decorated"),
        (lambda fn: invalidate(fn="profile"), "C140", "not decorated with @cached"),
        (lambda fn: invalidate(), "C106", "no tag and no function"),
        (lambda fn: invalidate(tags=["a"], key=lambda: 1), "C143", "without fn="),
        (lambda fn: invalidate(fn=fn, key=7), "C108", "takes a function"),
        (lambda fn: invalidate(fn=fn, key=lambda: 7)(plain), "C108", "fits no call of it"),
        (lambda fn: invalidate(fn=fn, when="befor"), "C144", "Did you mean 'before'?"),
        (lambda fn: invalidate(fn=fn)(plain), "C141", "lang of the cached function is no parameter of it"),
    ],
)
def test_wrong_decoration_is_refused(cache, decorate, code, says):
    """Each mistake raises at import and says what to write instead."""
    with pytest.raises(DecorationError) as caught:
        decorate(Names(cache).name_of)
    assert caught.value.code == f"SMW-{code}"
    assert says in str(caught.value)
    assert "fix:" in str(caught.value)


def test_explain_shows_what_is_dropped(cache):
    """The one line for `smw explain` names tags, function and moment."""
    source = Names(cache)

    @cache.invalidate(tags=["t"], fn=source.name_of, key=lambda: (1,), when="commit")
    def touch() -> None: ...

    line = touch.__smw_stack__.advices[0].describe()
    assert "tags=['t']" in line
    assert "name_of" in line
    assert "when='commit'" in line


@pytest.mark.parametrize("when", ["after", "commit"])
async def test_a_writer_that_is_cancelled_while_one_cache_is_told_drops_from_the_other_too(bench, when):
    """The function has changed something: what it makes old in a second cache is dropped as well."""
    first, second = bench.cache("l2"), bench.cache()
    source = Names(second, "async")

    @first.invalidate(tags=["names"], fn=source.name_of, when=when)
    async def write(user_id: int, name: str, lang: str = "en") -> None:
        source.names[user_id] = name

    assert await source.read(1) == "Ada en"
    is_told = asyncio.Event()

    async def hung(*_given, **_how):
        is_told.set()
        await asyncio.sleep(30)

    bench.stores["l2"].drop = hung
    task = asyncio.create_task(write(1, "Eve"))
    await is_told.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await source.read(1) == "Eve en"
