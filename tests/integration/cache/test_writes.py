"""Writers over real Redis and memcached: what they leave in the levels, beside readers and writers elsewhere."""

from __future__ import annotations

import asyncio
import threading

import pytest
import redis
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from smw import cache as cache_module

pytestmark = [pytest.mark.service("redis"), pytest.mark.service("memcached")]
LEVELS = pytest.mark.parametrize("levels", [("l2",), ("l3",), ("l2", "l3")])
MODES = pytest.mark.parametrize("mode", ["sync", "async"])


async def called(result):
    return await result if asyncio.iscoroutine(result) else result


class Users:
    """One process: a source that all share, its cached reader and a writer, as functions or as methods."""

    def __init__(self, cache, mode, names, *, strategy="write_through", methods=False) -> None:
        self.cache = cache
        self.reads = 0
        back = strategy == "write_back"
        value = (lambda _result, arguments: {"name": arguments["name"]}) if back else None

        def get(user_id: int) -> dict:
            self.reads += 1
            return {"name": names.get(user_id, "?")}

        def put(user_id: int, name: str) -> dict:
            names[user_id] = name
            return {"name": name}

        async def get_async(user_id: int) -> dict:
            return get(user_id)

        async def put_async(user_id: int, name: str) -> dict:
            return put(user_id, name)

        read, write = (get, put) if mode == "sync" else (get_async, put_async)
        keyed = {"key": lambda user_id: ("user", user_id), "tags": ["user:{user_id}"]}
        self.get = cache.cached(60, **keyed)(read)
        self.put = cache.writes(self.get, strategy=strategy, value=value)(write)
        self.touch = cache.invalidate(fn=self.get, key=lambda user_id, name: (user_id,))(write)
        self.get_again = cache.cached(60, **keyed)(read)

    async def read(self, user_id: int = 1) -> str:
        return (await called(self.get(user_id)))["name"]


@LEVELS
@MODES
async def test_what_is_written_is_read_everywhere(steady, levels, mode):
    """After write_through a process without memory of its own finds the new value, from L2 on without the source."""
    names = {1: "Ada"}
    here = Users(steady(*levels), mode, names)
    assert await here.read() == "Ada"
    await called(here.put(1, "Eve"))
    there = Users(steady(*levels), mode, names)
    assert (await here.read(), await there.read()) == ("Eve", "Eve")
    assert "l2" not in levels or (here.reads, there.reads) == (1, 0)


@LEVELS
@MODES
@pytest.mark.parametrize("how", ["write_around", "touch"])
async def test_what_is_dropped_is_read_again_everywhere(steady, levels, mode, how):
    """write_around and invalidate(fn=) leave no old value at any level."""
    names = {1: "Ada"}
    here = Users(steady(*levels), mode, names, strategy="write_around")
    assert await here.read() == "Ada"
    await called((here.put if how == "write_around" else here.touch)(1, "Eve"))
    there = Users(steady(*levels), mode, names)
    assert (await there.read(), await here.read()) == ("Eve", "Eve")


@LEVELS
async def test_a_load_from_before_does_not_win(steady, levels):
    """What another process loaded before the write is not stored after it, by any server."""
    names, begun, gate = {1: "Ada"}, asyncio.Event(), asyncio.Event()
    here, there = Users(steady(*levels), "async", names), steady(*levels)

    async def slow(user_id: int) -> dict:
        found = {"name": names[user_id]}
        begun.set()
        await gate.wait()
        return found

    slow.__qualname__, slow.__module__ = here.get.__qualname__, here.get.__module__
    late = there.cached(60, key=lambda user_id: ("user", user_id), tags=["user:{user_id}"])(slow)
    assert cache_module.key_for(late, 1).split(":")[1] == cache_module.key_for(here.get, 1).split(":")[1]
    loading = asyncio.create_task(late(1))
    await begun.wait()
    await here.put(1, "Eve")
    gate.set()
    assert (await loading)["name"] == "Ada"
    assert (await late(1))["name"] == "Eve"
    assert await Users(steady(*levels), "async", names).read() == "Eve"


@pytest.mark.parametrize("levels", [("l2",), ("l2", "l3")])
def test_writers_of_many_processes_leave_the_last_value(steady, levels):
    """Threads of two caches write one key as fast as they can; then all see what the source has."""
    names: dict[int, str] = {}
    source = threading.Lock()
    both = [Users(steady(*levels), "sync", names) for _ in range(2)]

    def writer(users):
        @users.cache.writes(users.get)
        def write(user_id: int, name: str) -> dict:
            with source:
                names[user_id] = name
            return {"name": name}

        return write

    def work(number: int) -> None:
        write = writer(both[number % 2])
        for step in range(25):
            write(1, f"{number}.{step}")
            both[number % 2].get(1)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fresh = Users(steady(*levels), "sync", names)
    assert fresh.get(1) == {"name": names[1]}


@pytest.fixture
def lose(redis_server):
    """Make Redis lose all that a namespace has."""

    def forget(namespace: str) -> None:
        with redis.Redis(port=redis_server.port) as client:
            for key in client.scan_iter(match=f"*{namespace}*"):
                client.delete(key)

    return forget


@LEVELS
@MODES
@pytest.mark.parametrize("kept", ["buffered", "durable"])
async def test_pending_values_survive_the_loss_of_every_level(steady, levels, mode, kept, request):
    """Readers see what is acknowledged although the servers have lost it, until the source has it."""
    names = {1: "Ada"}
    options = {"state_dir": request.getfixturevalue("tmp_path")} if kept == "durable" else {}
    users = Users(steady(*levels, **options), mode, names, strategy="write_back")
    assert await users.read() == "Ada"
    assert await called(users.put(1, "Eve")) is None
    assert await users.read() == "Eve"
    await users.cache.drop(tags=["user:1"])
    if "l2" in levels:
        request.getfixturevalue("lose")(users.cache.settings.namespace)
    assert await users.read() == "Eve"
    if kept == "durable":
        other = Users(steady(*levels, **options), mode, names, strategy="write_back")
        await other.cache.drop(tags=["user:1"])
        assert await other.read() == "Eve"
    await users.cache.aclose()
    assert names == {1: "Eve"}


async def test_a_commit_tells_the_servers(steady, tmp_path):
    """The commit of a session, blocking or awaited, drops at Redis and memcached; a rollback does not."""
    path = tmp_path / "users.db"
    engine, awaiting = create_engine(f"sqlite:///{path}"), create_async_engine(f"sqlite+aiosqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)"))
        connection.execute(text("INSERT INTO users VALUES (1, 'Ada')"))
    change = text("UPDATE users SET name = :name WHERE id = 1")

    def reader():
        cache = steady("l2", "l3")

        @cache.cached(60, key=lambda: "one", tags=["users"])
        def name() -> str:
            with engine.connect() as connection:
                return connection.execute(text("SELECT name FROM users WHERE id = 1")).scalar_one()

        return cache, name

    cache, here = reader()

    @cache.invalidate(fn=here, key=lambda session, name: (), when="commit")
    def rename(session: Session, name: str) -> None:
        session.execute(change, {"name": name})

    @cache.invalidate(tags=["users"], when="commit")
    async def rename_async(session: AsyncSession, name: str) -> None:
        await session.execute(change, {"name": name})

    def blocking() -> None:
        with Session(engine) as session:
            assert here() == "Ada"
            rename(session, "Eve")
            session.rollback()
            assert cache_module.info(here).entries == 1
            rename(session, "Eve")
            session.commit()
        assert (reader()[1](), here()) == ("Eve", "Eve")

    await asyncio.to_thread(blocking)
    async with AsyncSession(awaiting) as session:
        await rename_async(session, "Bob")
        await session.commit()
    assert here() == "Bob"
    for _ in range(500):
        if reader()[1]() == "Bob":
            break
        await asyncio.sleep(0.02)
    assert reader()[1]() == "Bob"
    engine.dispose()
    await awaiting.dispose()
