"""Drops that wait for a commit, in processes that have a `state_dir` and die, or whose servers or disks fail."""

from __future__ import annotations

import asyncio
import gc
import shutil
import sqlite3

import pytest

from smw import cache as cache_module
from smw.cache.ports import StoreFailedError
from smw.cache.strategies import behind as behind_module

MODES = pytest.mark.parametrize("mode", ["sync", "async"])


@pytest.fixture(autouse=True)
def calm(monkeypatch):
    """Have nothing looked at but when a test says so."""
    monkeypatch.setattr(behind_module.WriteBehind, "_start", lambda _behind: None)


class Shop:
    """A source, its cached reader, and a writer in a transaction that a test ends."""

    def __init__(self, cache, mode="sync", names=None) -> None:
        self.cache = cache
        self.names = {1: "Ada"} if names is None else names
        self.waiting: list = []
        cache.on_commit(self.waiting.append)
        invalidate = cache.invalidate(tags=["user:{user_id}"], when="commit")

        def read(user_id: int) -> str:
            return self.names[user_id]

        def write(user_id: int, name: str) -> None:
            self.seen = self.rows()
            self.names[user_id] = name

        async def write_async(user_id: int, name: str) -> None:
            write(user_id, name)

        write_async.__qualname__ = write.__qualname__
        self.read = cache.cached(60, tags=["user:{user_id}"], key=lambda user_id: user_id)(read)
        self._write = invalidate(write if mode == "sync" else write_async)

    async def write(self, user_id: int, name: str) -> None:
        result = self._write(user_id, name)
        if asyncio.iscoroutine(result):
            await result

    def commit(self) -> None:
        waiting, self.waiting[:] = list(self.waiting), []
        for drop in waiting:
            drop()

    def rows(self) -> int:
        """Return how many drops are on disk."""
        found = self.cache.behind.open().read("SELECT count(*) FROM drops")
        return found[0][0]

    def die(self) -> None:
        """End as a killed process does: the disk keeps what it has, and the lock is gone."""
        self.cache.behind.open()._forked()


def pay(cache) -> None:
    """Do what happens in the background once a server answers."""
    for level in cache.engine.remote.servers:
        level.breaker.probe_now()
        level.pay()


@MODES
async def test_a_drop_is_on_disk_from_before_the_call_until_it_was_made(bench, tmp_path, mode):
    """Also while the function runs, which may commit by itself; once it was made it is struck."""
    shop = Shop(bench.cache("l2", state_dir=tmp_path), mode)
    assert shop.read(1) == "Ada"
    await shop.write(1, "Eve")
    assert (shop.seen, shop.rows()) == (1, 1)
    shop.cache.behind.tick()
    assert (shop.rows(), shop.read(1)) == (1, "Ada")
    shop.commit()
    await asyncio.sleep(0.01)  # on an event loop a task tells the servers
    shop.cache.behind.tick()
    assert (shop.rows(), shop.read(1)) == (0, "Eve")


async def test_what_is_rolled_back_is_struck_and_drops_nothing(bench, tmp_path):
    """Whoever had the drop lets go of it, which is all that a rollback shows."""
    shop = Shop(bench.cache("l2", state_dir=tmp_path))
    assert shop.read(1) == "Ada"
    await shop.write(1, "Eve")
    shop.waiting.clear()
    gc.collect()
    shop.cache.behind.tick()
    assert (shop.rows(), cache_module.info(shop.read).entries) == (0, 1)


@MODES
async def test_a_call_that_fails_is_struck(bench, tmp_path, mode):
    """It has changed nothing."""
    shop = Shop(bench.cache("l2", state_dir=tmp_path), mode)
    with pytest.raises(TypeError):
        await shop.write(1)
    shop.names = None
    with pytest.raises(TypeError):
        await shop.write(1, "Eve")
    gc.collect()
    shop.cache.behind.tick()
    assert (shop.seen, shop.rows()) == (1, 0)


@MODES
async def test_a_process_that_dies_before_its_drop_leaves_it_to_the_next(bench, tmp_path, mode, caplog):
    """Whether it had committed nobody knows, and a drop too many does no harm."""
    shop = Shop(bench.cache("l2", state_dir=tmp_path), mode)
    assert shop.read(1) == "Ada"
    await shop.write(1, "Eve")
    shop.die()
    other = Shop(bench.cache("l2", state_dir=tmp_path), names=shop.names)
    assert other.read(1) == "Ada"
    other.cache.behind.tick()
    await asyncio.sleep(0)
    pay(other.cache)
    assert other.read(1) == "Eve"
    other.cache.behind.tick()
    assert other.rows() == 0
    assert "drops are made that waited in a process that ended" in caplog.text


async def test_a_process_that_lives_keeps_what_is_its_own(bench, tmp_path):
    """Another one makes none of it: its transaction may not have ended."""
    shop, other = (Shop(bench.cache("l2", state_dir=tmp_path)) for _ in range(2))
    await shop.write(1, "Eve")
    other.cache.behind.tick()
    assert other.rows() == 1


async def test_a_server_that_has_not_heard_of_a_drop_keeps_it_on_disk(bench, tmp_path):
    """Its debt would be lost with the process otherwise."""
    shop = Shop(bench.cache("l2", state_dir=tmp_path))
    assert shop.read(1) == "Ada"
    await shop.write(1, "Eve")
    bench.stores["l2"].failing = StoreFailedError("refused")
    shop.commit()
    await asyncio.sleep(0.01)
    shop.cache.behind.tick()
    assert shop.rows() == 1
    bench.stores["l2"].failing = None
    pay(shop.cache)
    shop.cache.behind.tick()
    assert shop.rows() == 0


@pytest.mark.parametrize("end", [Shop.die, lambda shop: shop.cache.close()])
def test_what_a_server_owes_survives_the_process(bench, tmp_path, end):
    """A drop of any kind that it has not heard of is made by the next process, however this one ends."""
    shop = Shop(bench.cache("l2", state_dir=tmp_path))
    assert shop.read(1) == "Ada"
    shop.names[1] = "Eve"
    bench.stores["l2"].failing = StoreFailedError("refused")
    shop.cache.drop_sync(tags=["user:1"])
    shop.cache.behind.tick()
    shop.cache.behind.tick()
    assert shop.rows() == 1
    end(shop)
    bench.stores["l2"].failing = None
    other = Shop(bench.cache("l2", state_dir=tmp_path), names=shop.names)
    assert other.read(1) == "Ada"
    other.cache.behind.tick()
    pay(other.cache)
    assert other.read(1) == "Eve"
    for _ in range(2):
        other.cache.behind.tick()
    assert other.rows() == 0


def test_what_is_paid_is_struck(bench, tmp_path):
    """Only what is owed now is on disk, in one row."""
    shop = Shop(bench.cache("l2", state_dir=tmp_path))
    bench.stores["l2"].failing = StoreFailedError("refused")
    for user in range(3):
        shop.cache.drop_sync(tags=[f"user:{user}"])
        shop.cache.behind.tick()
        assert shop.rows() == 1
    bench.stores["l2"].failing = None
    pay(shop.cache)
    shop.cache.behind.tick()
    assert shop.rows() == 0


async def test_a_disk_that_fails_costs_no_call(bench, tmp_path, caplog, monkeypatch):
    """It is said once; the drop waits in memory as without a `state_dir`."""
    shop = Shop(bench.cache("l2", state_dir=tmp_path))
    assert shop.read(1) == "Ada"

    def full(_change):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(shop.cache.behind.open(), "submit", full)
    for name in ("Eve", "Bob"):
        await shop.write(1, name)
    shop.commit()
    monkeypatch.undo()
    assert (shop.seen, shop.read(1)) == (0, "Bob")
    assert caplog.text.count("cannot be noted") == 1


@pytest.mark.parametrize("is_made_again", [False, True])
async def test_a_folder_that_is_removed_is_noticed_once(bench, tmp_path, caplog, is_made_again):
    """What is noted goes where no other process finds it: the log says so, and no call fails."""
    folder = tmp_path / "state"
    shop = Shop(bench.cache("l2", state_dir=folder))
    assert shop.read(1) == "Ada"
    shop.cache.behind.tick()
    assert "was removed" not in caplog.text
    shutil.rmtree(folder)
    if is_made_again:
        Shop(bench.cache("l2", state_dir=folder)).cache.behind.open()
    for name in ("Eve", "Bob"):
        await shop.write(1, name)
        shop.commit()
        shop.cache.behind.tick()
    assert shop.read(1) == "Bob"
    assert caplog.text.count("was removed") == 1


@pytest.mark.parametrize(("levels", "is_on_disk"), [((), True), (("l2",), False)])
async def test_nothing_is_noted_where_nobody_could_miss_it(bench, tmp_path, levels, is_on_disk):
    """Without servers no other process has the old value; without a `state_dir` there is no place for it."""
    shop = Shop(bench.cache(*levels, state_dir=tmp_path if is_on_disk else None))
    assert shop.read(1) == "Ada"
    await shop.write(1, "Eve")
    assert (shop.seen, shop.rows()) == (0, 0)
    shop.commit()
    assert shop.read(1) == "Eve"
