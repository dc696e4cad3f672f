"""What `writes(strategy="write_back")` acknowledges, shows to readers, and brings to the source."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import sys
import threading
from dataclasses import dataclass

import pytest

import smw.runtime
from smw import cache as cache_module
from smw._kernel.call import Call
from smw._kernel.signals import CacheWriteDead
from smw.cache.strategies import behind as behind_module
from smw.cache.strategies import rounds as rounds_module
from smw.cache.strategies.onlookers import looking_on
from smw.errors import ConfigError, Unavailable
from smw.testing import isolated

MODES = pytest.mark.parametrize("mode", ["sync", "async"])
KEY = b"k" * 32
PAUSE_S = behind_module.WriteBehind.pause_s
SYNCED = {"journal_mode": "wal", "synchronous": 2}


async def called(result):
    return await result if asyncio.iscoroutine(result) else result


@dataclass
class User:
    id: int
    name: str


class Users:
    """A source whose writes can fail or wait, its cached reader, and a writer that is acknowledged first."""

    def __init__(self, cache, mode="sync", names=None) -> None:
        self.cache = cache
        self.names = {} if names is None else names
        self.reads: list[int] = []
        self.writes: list[tuple[int, str]] = []
        self.threads: set[str] = set()
        self.begun = threading.Event()
        self.failing: Exception | None = None
        self.block = None

        def read(user_id: int) -> dict:
            self.reads.append(user_id)
            return {"name": self.names.get(user_id, "?")}

        def write(user_id: int, name: str) -> str:
            self.threads.add(threading.current_thread().name)
            self.begun.set()
            if self.block is not None:
                self.block.wait(10)
            self.writes.append((user_id, name))
            if self.failing is not None:
                raise self.failing
            self.names[user_id] = name
            return name

        async def read_async(user_id: int) -> dict:
            return read(user_id)

        async def write_async(user_id: int, name: str) -> str:
            await asyncio.sleep(0)
            return write(user_id, name)

        reader, writer = (read, write) if mode == "sync" else (read_async, write_async)
        self.get = cache.cached(60, key=lambda user_id: user_id, tags=["user:{user_id}"])(reader)
        back = cache.writes(
            self.get, strategy="write_back", value=lambda _result, arguments: {"name": arguments["name"]}
        )
        self.put = back(writer)
        self.mode = mode

    async def read(self, user_id: int) -> str:
        return (await called(self.get(user_id)))["name"]

    async def drain(self) -> None:
        """Do what the drainer does each second."""
        await asyncio.to_thread(self.cache.behind.tick)
        for done in self.cache.behind._loops.under_way():
            await asyncio.wrap_future(done)

    def counts(self) -> dict[str, float]:
        return {
            fact.name.removeprefix("smw_cache_writes_"): fact.value
            for fact in self.cache._facts()
            if fact.name.startswith("smw_cache_writes_")
        }


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """The drainer works only when a test says so."""
    monkeypatch.setattr(behind_module.WriteBehind, "pause_s", lambda _self: 60.0)


@pytest.fixture(params=["buffered", "durable"])
def where(request, tmp_path):
    """Settings of a cache without and with a folder."""
    return {} if request.param == "buffered" else {"state_dir": tmp_path / "state"}


@MODES
@pytest.mark.parametrize("levels", [(), ("l2",), ("l2", "l3")])
async def test_readers_see_what_is_acknowledged(bench, where, mode, levels):
    """The call returns before the source has it, readers have it at once, and the source gets it once."""
    users = Users(bench.cache(*levels, **where), mode)
    assert await users.read(1) == "?"
    assert await called(users.put(1, "Eve")) is None
    assert users.writes == []
    assert await users.read(1) == "Eve"
    await users.drain()
    assert users.writes == [(1, "Eve")]
    assert users.names == {1: "Eve"}
    assert users.reads == [1]
    assert users.counts() == {"written_total": 1}


@MODES
@pytest.mark.parametrize("lost", ["dropped", "forgotten"])
async def test_what_other_hosts_load_while_a_write_waits_is_replaced_when_it_arrives(bench, tmp_path, mode, lost):
    """A host with a folder of its own reads the older value from the source; once that is newer nobody reads it on."""
    names: dict[int, str] = {}
    other = Users(bench.cache("l2", state_dir=tmp_path / "other"), mode, names=names)
    users = Users(bench.cache("l2", state_dir=tmp_path / "one"), mode, names=names)
    await called(users.put(1, "Eve"))
    if lost == "dropped":
        await other.cache.drop(tags=["user:1"])
    else:
        bench.stores["l2"].data.clear()
    assert await other.read(1) == "?"
    await users.drain()
    bench.clock.advance(1.1)
    assert users.names == {1: "Eve"}
    assert await other.read(1) == "Eve"
    assert await users.read(1) == "Eve"
    assert users.reads == []


@MODES
async def test_a_reader_that_misses_looks_among_what_waits(bench, where, mode):
    """With all levels empty the pending value is read, not the source's older one, and is cached again."""
    users = Users(bench.cache("l2", **where), mode)
    await called(users.put(1, "Eve"))
    users.cache.drop_sync(tags=["user:1"]) if mode == "sync" else await users.cache.drop(tags=["user:1"])
    bench.stores["l2"].data.clear()
    assert await users.read(1) == "Eve"
    assert await users.read(1) == "Eve"
    assert users.reads == []
    await users.drain()
    await users.cache.drop(tags=["user:1"])
    assert await users.read(1) == "Eve"
    assert users.reads == [1]


@MODES
async def test_the_last_write_of_a_key_wins(bench, where, mode):
    """Of many writes of a key that wait the source gets the newest alone."""
    users = Users(bench.cache(**where), mode)
    for name in ("Eve", "Bob", "Zoe"):
        await called(users.put(1, name))
        await called(users.put(2, name))
    assert await users.read(1) == "Zoe"
    await users.drain()
    assert sorted(users.writes) == [(1, "Zoe"), (2, "Zoe")]


async def test_functions_of_one_key_keep_their_order(bench, where):
    """Two writers of one result do not replace each other, and are done in the order of their calls."""
    cache = bench.cache(**where)
    done = []

    @cache.cached(60)
    def profile(user_id: int) -> str:
        return ",".join(done)

    def writer(fn):
        return cache.writes(profile, strategy="write_back", value=lambda _result, arguments: "pending")(fn)

    @writer
    def set_name(user_id: int, name: str) -> None:
        done.append(f"name {name}")

    @writer
    def set_mail(user_id: int, mail: str) -> None:
        done.append(f"mail {mail}")

    set_name(1, "Eve")
    set_mail(1, "a@b")
    set_name(1, "Bob")
    set_mail(1, "c@d")
    assert profile(1) == "pending"
    cache.behind.tick()
    assert done == ["name Bob", "mail c@d"]


async def test_a_hundred_writes_are_done_without_waiting_for_the_second(bench, where):
    """A batch that is full wakes the drainer."""
    users = Users(bench.cache(**where))
    for number in range(behind_module.BATCH):
        users.put(number, "Eve")
    for _ in range(200):
        if len(users.names) == behind_module.BATCH:
            break
        await asyncio.sleep(0.02)
    assert len(users.names) == behind_module.BATCH
    assert users.threads == {"smw-cache-writes"}


async def test_coroutines_are_written_on_the_loop_that_called(bench, where):
    """The source of an asynchronous writer runs where its connections belong."""
    cache = bench.cache(**where)
    loops = []

    @cache.cached(60)
    async def get(user_id: int) -> str:
        return "?"

    @cache.writes(get, strategy="write_back", value=lambda _result, arguments: arguments["name"])
    async def put(user_id: int, name: str) -> None:
        loops.append((asyncio.get_running_loop(), name))

    async def own_loop():
        await put(2, "there")

    await put(1, "here")
    await asyncio.to_thread(asyncio.run, own_loop())
    assert [name for _, name in loops] == ["there"]  # a loop does its writes before it ends
    await asyncio.to_thread(cache.behind.tick)
    for done in cache.behind._loops.under_way():
        await asyncio.wrap_future(done)
    assert loops[1] == (asyncio.get_running_loop(), "here")


@MODES
async def test_a_failing_source_is_tried_again(bench, where, mode, caplog):
    """What fails waits, longer each time, is readable meanwhile, and is written once the source is back."""
    users = Users(bench.cache(**where), mode)
    users.failing = OSError("down")
    await called(users.put(1, "Eve"))
    with caplog.at_level(logging.WARNING, "smw.cache"):
        await users.drain()
        await users.drain()
        assert len(users.writes) == 1
        for pause_s in (0.2, 0.4, 0.8):
            bench.clock.advance(pause_s)
            await users.drain()
    assert len(users.writes) == 4
    assert await users.read(1) == "Eve"
    assert users.counts() == {"pending": 1, "failed_total": 4}
    assert sum("is tried again" in record.message for record in caplog.records) == 1
    users.failing = None
    bench.clock.advance(60)
    await users.drain()
    assert users.names == {1: "Eve"}
    assert users.counts() == {"failed_total": 4, "written_total": 1}


@MODES
async def test_a_newer_write_replaces_one_that_fails(bench, where, mode):
    """A value that was overtaken is not tried again."""
    users = Users(bench.cache(**where), mode)
    users.failing = OSError("down")
    await called(users.put(1, "Eve"))
    await users.drain()
    await called(users.put(1, "Bob"))
    users.failing = None
    bench.clock.advance(60)
    await users.drain()
    assert users.writes == [(1, "Eve"), (1, "Bob")]


async def test_a_write_that_fails_under_a_newer_one(bench, where):
    """One that fails while a newer of its key already waits is given up for it."""
    users = Users(bench.cache(**where))
    users.block, users.failing = threading.Event(), OSError("down")
    users.put(1, "Eve")
    writing = asyncio.create_task(asyncio.to_thread(users.cache.behind._rounds.run, users.cache.behind.open(), (0,)))
    await asyncio.to_thread(users.begun.wait, 10)
    users.put(1, "Bob")
    users.block.set()
    await writing
    users.failing = None
    bench.clock.advance(60)
    await users.drain()
    assert users.writes == [(1, "Eve"), (1, "Bob")]
    assert users.names == {1: "Bob"}


async def test_poison_is_kept_aside(bench, where, caplog):
    """What fails ten times while others succeed goes to the dead ones, with log and signal, and readers are told."""
    users = Users(bench.cache(**where))
    signals = []
    users.cache.host.bus.subscribe(CacheWriteDead, signals.append)
    users.names[1] = "Ada"
    with caplog.at_level(logging.ERROR, "smw.cache"):
        users.failing = ValueError("secret")
        users.put(1, "Eve")
        users.cache.behind.tick()
        users.failing = None
        users.put(2, "Bob")
        users.cache.behind.tick()
        users.failing = ValueError("secret")
        for _ in range(rounds_module.POISON):
            bench.clock.advance(61)
            users.cache.behind.tick()
    assert sum(number == 1 for number, _ in users.writes) == rounds_module.POISON
    assert [(signal.fn, signal.reason) for signal in signals] == [(users.put.__smw_stack__.target.name, "ValueError")]
    assert users.counts() == {"written_total": 1, "failed_total": 10, "dead_total": 1}
    assert "is dead after 10 attempts (ValueError)" in caplog.text
    assert "secret" not in caplog.text
    ((seq, reason),) = users.cache.behind.open().read("SELECT seq, reason FROM dead")
    assert (seq, reason) == (1, "ValueError")
    assert await users.read(1) == "Ada"


async def test_an_outage_is_no_poison(bench, where):
    """Where no write of the function succeeds it is tried a hundred times."""
    users = Users(bench.cache(**where))
    users.failing = OSError("down")
    users.put(1, "Eve")
    for _ in range(rounds_module.OUTAGE - 1):
        users.cache.behind.tick()
        bench.clock.advance(61)
    assert users.counts() == {"pending": 1, "failed_total": 99}
    users.cache.behind.tick()
    assert users.counts()["dead_total"] == 1


@MODES
async def test_too_many_go_straight_to_the_source(bench, where, mode, monkeypatch):
    """Beyond the bound a write is done at once; one for a key that waits already still takes its place."""
    monkeypatch.setattr(behind_module, "MOST", 3)
    users = Users(bench.cache(**where), mode)
    for number in range(3):
        await called(users.put(number, "Eve"))
    assert users.writes == []
    assert await called(users.put(7, "Bob")) is None
    assert users.writes == [(7, "Bob")]
    assert await users.read(7) == "Bob"
    await called(users.put(1, "Zoe"))
    assert users.writes == [(7, "Bob")]
    await users.drain()
    assert users.names == {0: "Eve", 1: "Zoe", 2: "Eve", 7: "Bob"}
    assert users.reads == []


@MODES
async def test_closing_writes_what_waits(bench, where, mode):
    """Closing in blocking code or on the loop brings everything to the source."""
    users = Users(bench.cache(**where), mode)
    await called(users.put(1, "Eve"))
    if mode == "sync":
        users.cache.close()
    else:
        await users.cache.aclose()
    assert users.names == {1: "Eve"}
    await called(users.put(2, "Bob"))  # nothing is acknowledged any more that nobody would write
    assert users.names == {1: "Eve", 2: "Bob"}


async def test_a_write_while_closing_waits_behind_the_older_ones(bench, where):
    """What is written while closing does what waits comes after it, and what no older one precedes goes ahead."""
    users = Users(bench.cache(**where))
    users.block = threading.Event()
    for number in range(3):
        users.put(number, "old")
    closing = asyncio.create_task(asyncio.to_thread(users.cache.close))
    await until(users.begun.is_set)
    users.put(2, "new")
    users.block.set()
    await closing
    assert users.names == {0: "old", 1: "old", 2: "new"}
    assert [name for number, name in users.writes if number == 2] in (["old", "new"], ["new"])


@MODES
async def test_a_write_after_closing_does_not_overtake_what_is_left(bench, tmp_path, mode):
    """Left to the next start together, in order; another key goes to the source at once, as after any closing."""
    users = Users(bench.cache(state_dir=tmp_path / "state", drain_s=0.2), mode)
    users.failing = Unavailable("SMW-C161", "down")
    await called(users.put(1, "old"))
    await users.cache.aclose()
    users.failing = None
    await called(users.put(1, "new"))
    await called(users.put(2, "direct"))
    assert users.names == {2: "direct"}
    later = Users(bench.cache(state_dir=tmp_path / "state"), mode, users.names)
    await called(later.get(3))
    for _ in range(3):
        await later.drain()
    assert users.names == {1: "new", 2: "direct"}


async def test_an_event_loop_does_not_wait_for_the_disk_of_another_process(bench, tmp_path):
    """While somebody else writes to the database, calls wait for their acknowledgement and the loop goes on."""
    users = Users(bench.cache(state_dir=tmp_path / "state"), "async")
    await called(users.put(1, "a"))
    other = sqlite3.connect(next((tmp_path / "state").rglob("writes.db")), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = [asyncio.create_task(users.put(number, "b")) for number in range(2, 4)]
    await asyncio.sleep(0.05)
    waiting.append(asyncio.create_task(users.put(4, "b")))
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    other.execute("ROLLBACK")
    other.close()
    async with asyncio.timeout(10):
        await asyncio.gather(*waiting)
    assert await users.read(4) == "b"


async def test_closing_has_a_bound_and_says_what_is_left(bench, where, caplog):
    """A source that hangs keeps closing no longer than drain_s; what is left is told with its number."""
    users = Users(bench.cache(**where, drain_s=0.1))
    users.block = threading.Event()
    for number in range(3):
        users.put(number, "Eve")
    with caplog.at_level(logging.WARNING, "smw.cache"):
        users.cache.close()
    users.block.set()
    says = "are left in" if where else "that were buffered in memory are lost"
    assert "3 acknowledged writes" in caplog.text
    assert says in caplog.text


async def test_buffered_says_so_once(bench, caplog):
    """Without a folder one warning says that acknowledged is not durable, and how to make it so."""
    users = Users(bench.cache())
    with caplog.at_level(logging.WARNING, "smw.cache"):
        users.put(1, "Eve")
        users.put(2, "Eve")
    assert [record.levelname for record in caplog.records if "buffered" in record.message] == ["WARNING"]
    assert "CACHE_STATE_DIR" in caplog.text


async def test_a_write_that_cannot_be_told_is_refused(bench, where):
    """Arguments and values without a form as bytes are refused before anything is acknowledged, naming the fix."""
    cache = bench.cache(**where)

    @cache.cached(60, key=lambda user_id: user_id)
    def get(user_id: int) -> object:
        return "?"

    @cache.writes(get, strategy="write_back", value=lambda _result, arguments: 1)
    def with_session(session: object, user_id: int) -> None: ...

    @cache.writes(get, strategy="write_back", value=lambda _result, arguments: object())
    def with_value(user_id: int) -> None: ...

    for call, says in ((lambda: with_session(object(), 1), "arguments of"), (lambda: with_value(1), "value of")):
        with pytest.raises(ConfigError, match=says) as caught:
            call()
        assert caught.value.code == "SMW-C149"
        assert "write_through" in str(caught.value)
    assert cache.behind.open().newest(cache_module.key_for(get, 1)) is None


async def test_values_and_arguments_keep_their_types(bench, where):
    """Dataclasses that annotations name travel through the journal, methods of dataclasses and of classes included."""
    cache = bench.cache(**where)
    done = []

    @cache.cached(60)
    def get(user_id: int) -> User:
        return User(user_id, "?")

    @cache.writes(
        get,
        strategy="write_back",
        value=lambda _result, arguments: arguments["user"],
        arguments=lambda user, *, at=None: (user.id,),
    )
    def put(user: User, *, at: tuple[int, ...] | None = None) -> None:
        done.append((user, at))

    put(User(1, "Eve"), at=(1, 2))
    cache.drop_sync(tags=[])
    assert get(1) == User(1, "Eve")
    cache.behind.tick()
    assert done == [(User(1, "Eve"), (1, 2))]


@dataclass
class Shelf:
    """A class whose instances can be written down."""

    number: int

    def __cache_key__(self) -> object:
        return self.number


def test_methods(bench, where, monkeypatch):
    """An instance of a dataclass and a class travel with the call; an instance without a key is refused."""
    cache = bench.cache(**where)
    done = []

    def book(self, title: str) -> str:
        return "?"

    def rename(self, title: str) -> None:
        done.append((self, title))

    def rename_all(cls, title: str) -> None:
        done.append((cls, title))

    for fn in (book, rename, rename_all):
        fn.__qualname__ = f"Shelf.{fn.__name__}"
    reader = cache.cached(60)(book)
    back = {"strategy": "write_back", "value": lambda _result, arguments: "new"}
    monkeypatch.setattr(Shelf, "book", reader, raising=False)
    monkeypatch.setattr(Shelf, "rename", cache.writes(reader, **back)(rename), raising=False)
    every = cache.writes(reader, arguments=lambda cls, title: (Shelf(0), title), **back)(rename_all)
    monkeypatch.setattr(Shelf, "rename_all", classmethod(every), raising=False)
    Shelf(3).rename("a")
    Shelf.rename_all("b")
    assert (Shelf(3).book("a"), Shelf(0).book("b")) == ("new", "new")
    cache.behind.tick()
    assert done == [(Shelf(3), "a"), (Shelf, "b")]

    class Plain:
        @cache.cached(60)
        def book(self, title: str) -> str:
            return "?"

        @cache.writes(book, **back)
        def rename(self, title: str) -> None: ...

    with pytest.raises(ConfigError, match="have no key that another process would know"):
        Plain().rename("a")


def test_two_functions_of_one_name(bench, where):
    """A name that another function has taken refuses the call: after a restart nobody could tell whose write it is."""
    cache = bench.cache(**where)
    first, second = Users(cache), Users(cache)
    with pytest.raises(ConfigError, match="two functions are called"):
        first.put(1, "Eve")
    second.put(1, "Eve")


async def test_an_acknowledgement_is_on_disk(bench, tmp_path):
    """Each transaction is synced before anybody is told of it, and calls that meet share one."""
    journal = Users(bench.cache(state_dir=tmp_path)).cache.behind.open()
    settings = [journal.submit(lambda c, name=name: c.execute(f"PRAGMA {name}").fetchone()[0]) for name in SYNCED]
    assert [each.result() for each in settings] == list(SYNCED.values())
    begun, commits = threading.Event(), []

    def slow(connection):
        begun.set()
        connection.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)
        return threading.Event().wait(0.2)

    first = journal.submit(slow)
    begun.wait(10)
    rest = [journal.submit(lambda c: c.execute("SELECT 1").fetchone()) for _ in range(50)]
    assert [each.result() for each in rest] == [(1,)] * 50
    assert first.result() is False
    assert len(commits) == 2


async def test_a_restart_replays(bench, tmp_path, caplog):
    """What a process leaves is written by the next one, and readers see it until then."""
    before = Users(bench.cache(state_dir=tmp_path, drain_s=0.05), names={1: "Ada"})
    before.failing = OSError("down")
    before.put(1, "Eve")
    before.cache.close()
    with caplog.at_level(logging.WARNING, "smw.cache"):
        after = Users(bench.cache(state_dir=tmp_path), names={1: "Ada"})
        assert await after.read(1) == "Eve"
        after.cache.behind.tick()
    assert after.names == {1: "Eve"}
    assert "1 acknowledged writes of a process that ended are taken over" in caplog.text
    assert [path.name for path in (tmp_path / "shop").glob("*.owner")] == [f"{after.cache.behind.open().token}.owner"]


async def test_a_process_that_died_before_it_told_the_levels(bench, tmp_path):
    """What was written down but never shown is shown once it is taken over, whatever a server still holds."""
    before = Users(bench.cache("l2", state_dir=tmp_path, drain_s=0.05), names={1: "Ada"})
    assert await before.read(1) == "Ada"
    behind, key, stack = before.cache.behind, cache_module.key_for(before.get, 1), before.put.__smw_stack__
    writer, reader = stack.advices[0], stack.advices[0].reader.function()
    call = Call(stack.target, (1, "Eve"), {})
    packed = behind.letters.arguments(call, key), behind.letters.value(reader, {"name": "Eve"}, key)
    before.failing = OSError("down")
    assert await behind.accept(writer, key, *packed, "sync")
    before.cache.close()
    after = Users(bench.cache("l2", state_dir=tmp_path, drain_s=0.05))
    after.failing = OSError("down")
    assert await after.read(1) == "Ada"
    after.cache.behind.open()
    after.cache.behind.tick()
    assert await after.read(1) == "Eve"


async def test_a_restart_replays_coroutines_on_the_first_loop(bench, tmp_path):
    """Asynchronous writes of a process that ended are done on the first loop that calls, without another write."""
    before = Users(bench.cache(state_dir=tmp_path, drain_s=0.05), "async")
    before.failing = OSError("down")
    await before.put(1, "Eve")
    await before.cache.aclose()
    after = Users(bench.cache(state_dir=tmp_path), "async")
    assert await after.read(2) == "?"
    await after.drain()
    assert after.names == {1: "Eve"}


async def until(is_so) -> None:
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110 - a thread makes it so
            await asyncio.sleep(0.005)


@MODES
async def test_a_process_that_misses_nothing_takes_over(bench, tmp_path, monkeypatch, mode):
    """What a killed process has acknowledged is written by one that reads it from a server and writes nothing."""
    before = Users(bench.cache("l2", state_dir=tmp_path, drain_s=0.05), mode)
    before.failing = OSError("down")
    await called(before.put(1, "Eve"))
    await before.cache.aclose()
    monkeypatch.setattr(behind_module.WriteBehind, "pause_s", lambda _self: 0.01)
    after = Users(bench.cache("l2", state_dir=tmp_path), mode)
    assert await after.read(1) == "Eve"
    await until(lambda: after.names == {1: "Eve"})
    assert after.reads == []


@pytest.mark.parametrize("way", ["prepare", "aprepare"])
async def test_a_process_that_starts_takes_over(tmp_path, monkeypatch, way):
    """Starting a runtime with that folder is enough; a command that only looks leaves the writes where they are."""
    scores.clear()
    with isolated(cache={"state_dir": tmp_path, "drain_s": 0.05}):
        set_score("bob", -1)
    monkeypatch.setattr(behind_module.WriteBehind, "pause_s", lambda _self: 0.01)
    monkeypatch.setattr(sys.modules[__name__], "LEAST", -1)
    with isolated(cache={"state_dir": tmp_path}):
        runtime = smw.runtime.current()
        with looking_on():
            runtime.prepare()
        assert runtime.cache.behind._thread is None
        await called(getattr(runtime, way)())
        await until(lambda: scores == {"bob": -1})


def test_writes_of_coroutines_are_left_to_who_has_a_loop(bench, tmp_path):
    """A process without an event loop takes over what blocking functions have left, and nothing else."""
    blocking = Users(bench.cache(state_dir=tmp_path, drain_s=0.05))
    awaiting = Users(bench.cache(state_dir=tmp_path, drain_s=0.05), "async")
    for users in (blocking, awaiting):
        users.failing = OSError("down")
    blocking.put(1, "Eve")
    asyncio.run(awaiting.put(2, "Bob"))
    for users in (blocking, awaiting):
        users.cache.close()
    after, other = bench.cache(state_dir=tmp_path), bench.cache(state_dir=tmp_path)
    known = Users(after), Users(after, "async")
    after.behind.tick()
    assert [users.names for users in known] == [{1: "Eve"}, {}]
    late = Users(other, "async")

    async def come() -> None:
        assert await late.read(3) == "?"
        await late.drain()

    asyncio.run(come())
    assert late.names == {2: "Bob"}


@MODES
async def test_what_has_failed_is_looked_at_when_it_is_due(bench, where, mode):
    """The thread that writes waits no whole second where a write is to be tried again sooner."""
    users = Users(bench.cache(**where), mode)
    behind = users.cache.behind
    assert PAUSE_S(behind) == 1.0
    users.failing = OSError("down")
    await called(users.put(1, "Eve"))
    await users.drain()
    assert 0.16 <= PAUSE_S(behind) <= 0.2
    bench.clock.advance(0.2)
    await users.drain()
    assert 0.32 <= PAUSE_S(behind) <= 0.4
    users.failing = None
    bench.clock.advance(0.4)
    await users.drain()
    assert (users.names, PAUSE_S(behind)) == ({1: "Eve"}, 1.0)


async def test_two_processes_share_a_folder(bench, tmp_path):
    """Each sees what the other has acknowledged, and of one key the last write of both wins."""
    names: dict[int, str] = {}
    one = Users(bench.cache(state_dir=tmp_path), names=names)
    one.put(1, "Eve")
    two = Users(bench.cache(state_dir=tmp_path), names=names)
    assert await two.read(1) == "Eve"
    two.put(1, "Bob")
    one.cache.behind.tick()
    assert names == {}
    two.cache.behind.tick()
    assert names == {1: "Bob"}
    assert (one.writes, two.writes) == ([], [(1, "Bob")])


async def test_a_key_in_flight_elsewhere_waits(bench, tmp_path):
    """While one process writes a key the other does not begin a newer write of it, so the newer ends last."""
    names: dict[int, str] = {}
    one = Users(bench.cache(state_dir=tmp_path), names=names)
    one.block = threading.Event()
    one.put(1, "Eve")
    writing = asyncio.create_task(asyncio.to_thread(one.cache.behind.tick))
    await asyncio.to_thread(one.begun.wait, 10)
    two = Users(bench.cache(state_dir=tmp_path), names=names)
    two.put(1, "Bob")
    two.cache.behind.tick()
    assert two.writes == []
    assert await two.read(1) == "Bob"
    one.block.set()
    await writing
    two.cache.behind.tick()
    assert names == {1: "Bob"}


async def test_values_are_sealed_where_the_cache_is(bench, tmp_path):
    """With a key neither arguments nor values can be read in the file, which belongs to its owner alone."""
    users = Users(bench.cache(state_dir=tmp_path, encryption_keys={"a": KEY}, drain_s=0.05))
    users.failing = OSError("down")
    users.put(1, "a name nobody else may read")
    folder = tmp_path / "shop"
    texts = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"nobody else" not in texts
    assert b"shop" in texts
    assert {path.stat().st_mode & 0o077 for path in (folder, *folder.iterdir())} == {0}
    users.cache.close()
    after = Users(bench.cache(state_dir=tmp_path, encryption_keys={"a": KEY}))
    assert await after.read(1) == "a name nobody else may read"
    after.cache.behind.tick()
    assert after.names == {1: "a name nobody else may read"}


async def test_a_folder_that_cannot_be_used(bench, tmp_path, caplog):
    """A writer is told at its first call; a reader goes on without, with one error logged."""
    (tmp_path / "file").write_text("")
    users = Users(bench.cache(state_dir=tmp_path / "file"))
    with caplog.at_level(logging.ERROR, "smw.cache"):
        assert await users.read(1) == "?"
        await users.cache.drop(tags=["user:1"])
        assert await users.read(1) == "?"
    assert sum("cannot be looked up" in record.message for record in caplog.records) == 1
    with pytest.raises(ConfigError, match="state_dir") as caught:
        users.put(1, "Eve")
    assert caught.value.code == "SMW-C161"


async def test_a_journal_that_fails(bench, where, monkeypatch, caplog):
    """A write that cannot be made durable goes to its source, unless an older one of its key would overtake it."""
    users = Users(bench.cache(**where))
    users.put(1, "Eve")
    journal = users.cache.behind.open()

    def full(_change):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(journal, "submit", full)
    with caplog.at_level(logging.ERROR, "smw.cache"):
        assert users.put(2, "Bob") is None
    assert users.names == {2: "Bob"}
    assert "does not take writes" in caplog.text
    with pytest.raises(Unavailable, match="while an older one of its key waits") as caught:
        users.put(1, "Zoe")
    assert caught.value.code == "SMW-C163"
    monkeypatch.undo()
    users.cache.behind.tick()
    assert users.names == {1: "Eve", 2: "Bob"}


async def test_a_cancelled_call_leaves_no_old_value(bench, where):
    """A caller that stops waiting may have been acknowledged or not; readers see no value older than what waits."""
    users = Users(bench.cache("l2", **where), "async")
    await users.read(1)
    for steps in range(8):
        task = asyncio.create_task(users.put(1, f"Eve {steps}"))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.02)
        blob = users.cache.behind.open().newest(cache_module.key_for(users.get, 1))
        if blob is not None:
            expected = users.cache.behind.letters.opened_value(
                users.cache.function(users.get.__smw_stack__.target, users.get.__smw_stack__.advices[0]),
                cache_module.key_for(users.get, 1),
                blob,
            )
            assert await users.get(1) == expected


scores: dict[str, int] = {}
LEAST = 0


@cache_module.cached(60)
def score(player: str) -> int:
    return scores.get(player, 0)


@cache_module.writes(score, strategy="write_back", value=lambda _result, arguments: arguments["points"])
def set_score(player: str, points: int) -> None:
    if points < LEAST:
        raise ValueError(points)
    scores[player] = points


def test_the_runtime_writes_when_it_closes(tmp_path):
    """The module's decorators use the current runtime's journal, which is written at its end or by the next runtime."""
    scores.clear()
    with isolated(cache={"state_dir": tmp_path, "drain_s": 1}):
        set_score("ada", 10)
        set_score("bob", -1)
        assert (score("ada"), score("bob"), scores) == (10, -1, {})
    assert scores == {"ada": 10}
    with isolated(cache={"state_dir": tmp_path, "drain_s": 30}) as runtime:
        assert score("bob") == -1
        runtime.cache.behind.tick()  # takes over what the runtime before had begun, behind which the next one waits
        set_score("bob", 2)
    assert scores == {"ada": 10, "bob": 2}


def test_a_writer_may_close_the_cache(bench, where):
    """A source function that closes its own cache does not wait for itself."""
    cache = bench.cache(**where, drain_s=0.1)
    done = threading.Event()

    @cache.cached(60)
    def get(number: int) -> int:
        return 0

    @cache.writes(get, strategy="write_back", value=lambda _result, arguments: 1)
    def put(number: int) -> None:
        cache.close()
        done.set()

    put(1)
    cache.behind._drainer.wake.set()
    assert done.wait(10)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_a_journal_of_its_own(bench, tmp_path):
    """A child acknowledges into the same folder under its own name, and leaves the parent's writes to the parent."""
    users = Users(bench.cache(state_dir=tmp_path, drain_s=0.05))
    users.failing = OSError("down")
    users.put(1, "Eve")
    pid = os.fork()
    if pid == 0:
        users.put(2, "Bob")
        own = users.cache.behind.open().by_writer()
        os._exit(0 if [count for _, count in own] == [1] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    users.failing = None
    bench.clock.advance(60)
    users.cache.behind.tick()
    assert users.names == {1: "Eve", 2: "Bob"}
