"""What `writes` leaves in the levels with write_through and write_around, alone, beside readers and beside writers."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from smw import cache as cache_module
from smw.cache import writes
from smw.cache.ports import StoreFailedError
from smw.errors import ConfigError, DecorationError, StackingError
from smw.security import Security

MODES = pytest.mark.parametrize("mode", ["sync", "async"])
LEVELS = pytest.mark.parametrize("levels", [(), ("l2",), ("l2", "l3")])


async def called(result):
    return await result if asyncio.iscoroutine(result) else result


class Users:
    """A source, its cached reader and a writer, as one process has them."""

    def __init__(self, cache, mode="sync", *, names=None, strategy="write_through", reading=None, **writing) -> None:
        self.cache = cache
        self.names = {1: "Ada", 2: "Bob"} if names is None else names
        self.reads: list[int] = []
        self.failing: Exception | None = None
        self.hold = None
        self.losing = lambda: None

        def read(user_id: int) -> dict:
            self.reads.append(user_id)
            return {"name": self.names[user_id]}

        def write(user_id: int, name: str) -> dict:
            self.names[user_id] = name
            self.losing()
            if self.failing is not None:
                raise self.failing
            return {"name": name}

        async def read_async(user_id: int) -> dict:
            found = read(user_id)
            if self.hold is not None:
                await self.hold.wait()
            return found

        async def write_async(user_id: int, name: str) -> dict:
            await asyncio.sleep(0)
            return write(user_id, name)

        reader, writer = (read, write) if mode == "sync" else (read_async, write_async)
        options = {"key": lambda user_id: user_id, "tags": ["users", "user:{user_id}"], **(reading or {})}
        self.get = cache.cached(60, **options)(reader)
        self.put = cache.writes(self.get, strategy=strategy, **writing)(writer)

    async def read(self, user_id: int) -> str:
        return (await called(self.get(user_id)))["name"]


@MODES
@LEVELS
async def test_write_through_leaves_the_new_value_at_every_level(bench, mode, levels):
    """After the call readers here and elsewhere have the new value without reading the source."""
    here, there = (Users(bench.cache(*levels), mode, names={1: "Ada"}) for _ in range(2))
    there.names = here.names
    assert (await here.read(1), await there.read(1)) == ("Ada", "Ada")
    reads = len(here.reads) + len(there.reads)
    assert await called(here.put(1, "Eve")) == {"name": "Eve"}
    assert await here.read(1) == "Eve"
    assert here.reads == [1]
    bench.clock.advance(2)
    if levels:
        assert await there.read(1) == "Eve"
        assert await here.read(1) == "Eve"
        assert len(here.reads) + len(there.reads) == reads


async def test_write_through_fills_the_level_behind(bench):
    """L3 gets the new value as well, under the new version of the key, and keeps it when L2 loses its own."""
    users = Users(bench.cache("l2", "l3"))
    users.get(1)
    users.put(1, "Eve")
    key = cache_module.key_for(users.get, 1)
    assert key in bench.stores["l3"].data
    del bench.stores["l2"].data[key]
    other = Users(bench.cache("l2", "l3"), names={})
    assert await other.read(1) == "Eve"
    assert other.reads == []


@MODES
async def test_write_around_drops_the_value_and_its_own_tags(bench, mode):
    """The written key and all under its tags with fields go; tags of everybody stay."""
    users = Users(bench.cache("l2"), mode, strategy="write_around")
    runs = []

    @users.cache.cached(60, tags=["user:{user_id}"])
    def playlists(user_id: int) -> int:
        runs.append(user_id)
        return user_id

    for user_id in (1, 2):
        await users.read(user_id)
        playlists(user_id)
    await called(users.put(1, "Eve"))
    for user_id in (1, 2):
        await users.read(user_id)
        playlists(user_id)
    assert users.reads == [1, 2, 1]
    assert runs == [1, 2, 1]


@MODES
@pytest.mark.parametrize("strategy", ["write_through", "write_around"])
async def test_an_error_of_the_source_keeps_nothing(bench, mode, strategy):
    """The error reaches the caller, and as the source may have changed all the same the old value is dropped."""
    users = Users(bench.cache("l2"), mode, strategy=strategy)
    await users.read(1)
    users.failing = KeyError("no")
    with pytest.raises(KeyError):
        await called(users.put(1, "Eve"))
    assert await users.read(1) == "Eve"
    assert users.reads == [1, 1]


async def test_a_value_of_ones_own(cache):
    """value= gets result and arguments; where it fails the value is dropped, and the call has succeeded."""
    users = Users(cache, value=lambda result, arguments: {"name": result["name"] + arguments["name"]})
    assert users.put(1, "Eve") == {"name": "Eve"}
    assert await users.read(1) == "EveEve"
    for wrong in (lambda result, arguments: 1 / 0, lambda result, arguments: called(result)):
        broken = Users(cache, value=wrong)
        assert await broken.read(1) == "Ada"
        assert broken.put(1, "Eve") == {"name": "Eve"}
        assert await broken.read(1) == "Eve"
        assert broken.reads == [1, 1]


@MODES
async def test_a_writer_that_returns_nothing_has_no_value_to_put(cache, caplog, mode):
    """Where nothing says that None is a result it is not put in place: it is dropped, and one warning says so."""
    users = Users(cache, mode)

    def forget(user_id: int, name: str):
        users.names[user_id] = name

    async def forget_async(user_id: int, name: str):
        forget(user_id, name)

    put = cache.writes(users.get)(forget if mode == "sync" else forget_async)
    for name in ("Eve", "Zoe"):
        await users.read(1)
        await called(put(1, name))
        assert await users.read(1) == name
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "has returned None" in caplog.text
    assert 'strategy="write_around"' in caplog.text


def test_none_is_put_where_the_reader_says_it_may_return_it(cache, caplog):
    """A writer that takes away what a reader may find missing puts None in place; value= says it of any other one."""
    reads = []

    def find(user_id: int) -> str | None:
        reads.append(user_id)
        return "Ada"

    def read(user_id: int):
        reads.append(user_id)
        return "Ada"

    for reader, value in ((find, None), (read, lambda result, arguments: None)):
        get = cache.cached(60)(reader)
        cache.writes(get, value=value)(lambda user_id: None)(1)
        assert get(1) is None
    assert not reads
    assert not caplog.records


@pytest.mark.parametrize("hint", [None, "None", type(None)], ids=repr)
def test_a_function_that_says_it_returns_none_needs_a_value(cache, hint):
    """It is refused when decorating; value= and write_around make sense of it."""
    users = Users(cache)

    def put(user_id: int, name: str):
        users.names[user_id] = name

    put.__annotations__["return"] = hint
    with pytest.raises(DecorationError, match="SMW-C147") as caught:
        cache.writes(users.get)(put)
    assert caught.value.seen == "-> None"
    assert "value=lambda result, arguments" in caught.value.fix
    cache.writes(users.get, strategy="write_around")(put)(1, "Eve")
    assert users.get(1) == {"name": "Eve"}
    cache.writes(users.get, value=lambda result, arguments: {"name": arguments["name"]})(put)(1, "Zoe")
    assert users.get(1) == {"name": "Zoe"}


async def test_arguments_of_another_shape(cache):
    """arguments= maps the writer's arguments to those of the reader."""
    users = Users(cache)

    @cache.writes(users.get, arguments=lambda user: {"user_id": user["id"]})
    def save(user: dict) -> dict:
        return {"name": user["name"]}

    save({"id": 1, "name": "Eve"})
    assert await users.read(1) == "Eve"
    assert users.reads == []


async def test_methods_of_an_instance_without_identity(cache):
    """The new value belongs to the instance that was written, and dies with it."""

    class Shelf:
        def __init__(self) -> None:
            self.books = {1: "one"}
            self.reads = 0

        @cache.cached(60)
        def book(self, number: int) -> str:
            self.reads += 1
            return self.books[number]

        @cache.writes(book)
        def rename(self, number: int, title: str) -> str:
            self.books[number] = title
            return title

    one, other = Shelf(), Shelf()
    assert (one.book(1), other.book(1)) == ("one", "one")
    one.rename(1, "uno")
    assert (one.book(1), other.book(1), one.reads) == ("uno", "one", 1)
    assert cache_module.info(Shelf.book).entries == 2
    del one
    assert cache_module.info(Shelf.book).entries == 1


@LEVELS
async def test_a_reader_that_began_before_cannot_bring_the_old_value_back(bench, levels):
    """A load from before the write, here or elsewhere, ends after it and is not kept."""
    for mine in (True, False):
        writer = Users(bench.cache(*levels), "async", reading={"version": str(mine)})
        reader = writer if mine else Users(bench.cache(*levels), "async", reading={"version": str(mine)})
        if not mine and not levels:
            continue  # processes without a server know nothing of each other
        reader.hold = asyncio.Event()
        loading = asyncio.create_task(reader.read(1))
        for _ in range(10):
            await asyncio.sleep(0)
        await called(writer.put(1, "Eve"))
        reader.hold.set()
        assert await loading == "Ada"
        bench.clock.advance(2)
        reader.names[1] = "not asked"
        assert await writer.read(1) == "Eve"
        if levels:
            assert await reader.read(1) == "Eve"


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
@pytest.mark.parametrize("apart", [False, True])
@LEVELS
async def test_writers_that_overlap_leave_no_older_value(bench, levels, apart, order):
    """Whichever of two overlapping writers reached the source last, readers see what the source has."""
    if apart and not levels:
        return
    names: dict[int, str] = {1: "Ada"}
    one = Users(bench.cache(*levels), "async", names=names)
    two = Users(bench.cache(*levels), "async", names=names) if apart else one
    gates = {name: asyncio.Event() for name in ("Eve", "Bob")}
    ends = {name: asyncio.Event() for name in ("Eve", "Bob")}

    def writer(users):
        @users.cache.writes(users.get)
        async def write(user_id: int, name: str) -> dict:
            await gates[name].wait()
            names[user_id] = name
            await ends[name].wait()
            return {"name": name}

        return write

    tasks = [asyncio.create_task(writer(one)(1, "Eve")), asyncio.create_task(writer(two)(1, "Bob"))]
    for name in ("Eve", "Bob") if order == (1, 2) else ("Bob", "Eve"):
        for _ in range(5):
            await asyncio.sleep(0)
        gates[name].set()
    for _ in range(5):
        await asyncio.sleep(0)
    for name in ("Bob", "Eve"):
        ends[name].set()
        for _ in range(10):
            await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    bench.clock.advance(2)
    assert [await one.read(1), await two.read(1)] == [names[1]] * 2


async def test_a_server_that_does_not_answer_fails_no_write(bench):
    """With the server down the write succeeds, nobody here sees the old value, and the debt is paid later."""
    cache = bench.cache("l2")
    users = Users(cache)
    await users.read(1)
    bench.stores["l2"].failing = StoreFailedError("timeout")
    assert users.put(1, "Eve") == {"name": "Eve"}
    assert await users.read(1) == "Eve"
    bench.stores["l2"].failing = None
    for level in cache.engine.remote.servers:
        level.breaker.probe_now()
        level.pay()
    assert await Users(bench.cache("l2"), names={1: "Eve"}).read(1) == "Eve"


@MODES
async def test_a_server_that_is_lost_while_the_source_is_written(bench, mode):
    """What it was not told stays owed: nobody here takes the old value from it, and it is told when it is back."""
    users, store = Users(bench.cache("l2"), mode), bench.stores["l2"]
    await users.read(1)
    users.losing = lambda: setattr(store, "failing", StoreFailedError("timeout"))
    assert await called(users.put(1, "Eve")) == {"name": "Eve"}
    assert "replace" in store.asked
    store.failing = None
    assert await users.read(1) == "Eve"
    for level in users.cache.engine.remote.servers:
        level.pay()
    assert await Users(bench.cache("l2"), names={1: "Eve"}).read(1) == "Eve"
    assert await users.read(1) == "Eve"


def test_threads_that_write_and_read(cache):
    """Under many threads the reader has what the source has when all are done."""
    users = Users(cache)
    lock = threading.Lock()

    @cache.writes(users.get)
    def write(user_id: int, name: str) -> dict:
        with lock:
            users.names[user_id] = name
        return {"name": name}

    def work(number: int) -> None:
        for step in range(20):
            write(1, f"{number}.{step}")
            users.get(1)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert users.get(1) == {"name": users.names[1]}


async def test_conditions_and_lives_of_the_reader_count(cache):
    """What the reader would not keep is dropped instead of stored."""
    for reading in ({"condition": lambda user_id: False}, {"unless": lambda value: value["name"] == "Eve"}):
        users = Users(cache, reading=reading)
        await users.read(1)
        users.put(1, "Eve")
        users.names[1] = "Zoe"
        assert await users.read(1) == "Zoe"


async def test_arguments_that_do_not_fit_are_pythons_to_refuse(cache):
    """A call with wrong arguments raises as Python does and drops nothing."""
    users = Users(cache)
    await users.read(1)
    with pytest.raises(TypeError, match="name"):
        users.put(1)
    await users.read(1)
    assert users.reads == [1]


def test_a_key_that_cannot_be_told_refuses_the_call(cache):
    """Nothing is written where nobody could tell what became old."""
    users = Users(cache)
    runs = []
    for arguments, says in (
        (lambda user: 1 / 0, "failed"),
        (lambda user: [(1,), (2,)], "more than the one"),
        (lambda user: ["smw:x:1"], "more than the one"),
        (lambda user: (object(),), "has no key"),
    ):
        with pytest.raises(ConfigError, match=says):
            cache.writes(users.get, arguments=arguments)(lambda user: bool(runs.append(user)))(1)
    assert runs == []


def plain(user_id: int, name: str) -> None: ...


def numbers(user_id: int):
    yield user_id


@pytest.mark.parametrize(
    ("decorate", "code", "says"),
    [
        (lambda get: writes(plain), "C140", "not decorated with @cached"),
        (lambda get: writes(get, strategy="write_thru"), "C146", "Did you mean 'write_through'?"),
        (lambda get: writes(get, value=7), "C147", "takes a function"),
        (lambda get: writes(get, value=called), "C147", "takes a function"),
        (lambda get: writes(get, arguments=called), "C108", "arguments= takes a function"),
        (lambda get: writes(get, value=lambda result: result), "C147", "with the result and the arguments by name"),
        (lambda get: writes(get, arguments=lambda name: name)(plain), "C108", "fits no call of it"),
        (lambda get: writes(get, strategy="write_back"), "C147", "write_back needs value="),
        (lambda get: writes(get)(numbers), "C146", "has not written when it returns"),
        (lambda get: writes(get, arguments=7), "C108", "arguments= takes a function"),
        (lambda get: writes(get)(lambda name: name), "C141", "user_id of the cached function is no parameter"),
    ],
)
def test_wrong_decoration_is_refused(cache, decorate, code, says):
    """Each mistake raises at import and says what to write instead."""
    with pytest.raises(DecorationError) as caught:
        decorate(Users(cache).get)
    assert caught.value.code == f"SMW-{code}"
    assert says in str(caught.value)
    assert "fix:" in str(caught.value)


def test_a_reader_that_keeps_nothing_cannot_be_written_back(cache):
    """With ttl=0 nobody would look for what is on its way."""
    reader = cache.cached(0)(plain)
    with pytest.raises(DecorationError, match="keeps nothing"):
        cache.writes(reader, strategy="write_back", value=lambda _result, arguments: None)


def test_order_rules(cache):
    """What would answer instead of a write, or be acknowledged before it is allowed or recorded, is refused."""
    users, security = Users(cache), Security()
    wrong = [
        lambda fn: cache.cached(60)(cache.writes(users.get)(fn)),
        lambda fn: cache.writes(users.get)(cache.cached(60)(fn)),
        lambda fn: cache.writes(users.get)(security.audit_log("rename")(fn)),
        lambda fn: cache.writes(users.get)(security.require_compliance(["GDPR"])(fn)),
        lambda fn: cache.writes(users.get)(cache.writes(users.get)(fn)),
    ]
    for decorate in wrong:
        with pytest.raises(StackingError):
            decorate(lambda user_id, name: name)
    security.audit_log("rename")(cache.writes(users.get)(lambda user_id, name: name))
    security.close()


def test_below_a_foreign_decorator_nothing_old_survives(cache, caplog):
    """Where a call succeeds whose arguments do not tell the key everything is dropped, with one error logged."""
    users = Users(cache)
    users.get(1)

    def injecting(fn):
        def call(*args):
            return fn("session", *args)

        call.__wrapped__ = fn
        return call

    @cache.writes(users.get)
    @injecting
    def write(session: str, user_id: int, name: str) -> dict:
        return {"name": name}

    with caplog.at_level(logging.ERROR, "smw.cache"):
        write(1, "Eve")
    users.get(1)
    assert users.reads == [1, 1]
    assert "cannot tell which result it changes" in caplog.text


def test_explain_shows_the_strategy(cache):
    """The one line for `smw explain` names the reader and the strategy."""
    line = Users(cache, strategy="write_around").put.__smw_stack__.advices[0].describe()
    assert "read" in line
    assert "write_around" in line
