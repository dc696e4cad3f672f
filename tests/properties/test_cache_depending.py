"""No result outlives a drop of what it was made from: random lives of two processes, checked against the drops."""

from __future__ import annotations

import random

import pytest

from smw._kernel.host import Host
from smw.cache import Cache
from smw.cache.levels.remote import Remote
from smw.testing import FakeClock, SeededEntropy

USERS = range(3)
STEPS = ("page", "page", "page", "list", "user", "write", "write", "advance", "advance", "forget", "evict")


class World:
    """A source that all share, with what was dropped of it: user → (version, when, by whom)."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.versions = dict.fromkeys(USERS, 0)
        self.dropped: dict[int, list[tuple[int, float, Process]]] = {user: [] for user in USERS}

    def write(self, user: int, by: Process, *, by_key: bool) -> None:
        """Change a user, and drop what is kept of it."""
        self.versions[user] += 1
        by.drop(user, by_key=by_key)
        self.dropped[user].append((self.versions[user], self.clock.now(), by))

    def oldest(self, user: int, reader: Process) -> int:
        """Return the oldest version that a reader may see now."""
        now = self.clock.now()
        known = [version for version, when, by in self.dropped[user] if by is reader or now - when > 1.0]
        return max(known, default=0)


class Process:
    """Three functions, each made from the one before, over memory and a server."""

    def __init__(self, world: World, name: str, levels: dict[str, object]) -> None:
        host = Host("shop", "testing", world.clock, SeededEntropy())
        self.cache = Cache(host=host, namespace=name, **levels)
        mine = {"key": lambda *args: args}

        @self.cache.cached(30, tags=["user:{number}"], **mine)
        def user(number: int) -> int:
            return world.versions[number]

        @self.cache.cached(50, tags=["list"], depends="auto", **mine)
        def pair(first: int, second: int) -> list[int]:
            return [user(first), user(second)]

        @self.cache.cached(80, depends="auto", **mine)
        def page(first: int, second: int, third: int) -> dict[str, object]:
            return {"pair": pair(first, second), "user": user(third)}

        self.user, self.pair, self.page = user, pair, page

    def drop(self, number: int, *, by_key: bool) -> None:
        """Drop a user by key or by tag."""
        if by_key:
            from smw.cache import key_for

            self.cache.drop_sync(keys=[key_for(self.user, number)])
        else:
            self.cache.drop_sync(tags=[f"user:{number}"])


def seen(process: Process, what: str, drawn: random.Random) -> list[tuple[int, int]]:
    """Ask a process for something, and return which version of which user it shows."""
    users = [drawn.choice(USERS) for _ in range(3)]
    if what == "user":
        return [(users[0], process.user(users[0]))]
    pair = process.pair(*users[:2]) if what == "list" else None
    if pair is not None:
        return list(zip(users, pair, strict=False))
    page = process.page(*users)
    return [*zip(users, page["pair"], strict=False), (users[2], page["user"])]


def live(seed: int) -> None:
    """Live one random life."""
    drawn, world = random.Random(seed), World()
    levels: dict[str, object] = {"l2_url": f"memory://depending-{seed}"}
    if seed % 3 == 1:
        levels = {"l3_servers": [f"memory://depending-{seed}"]}
    processes = [Process(world, f"n{seed}", levels) for _ in range(2)]
    asked = 0
    for _ in range(150):
        what, process = drawn.choice(STEPS), drawn.choice(processes)
        if what == "write":
            world.write(drawn.choice(USERS), process, by_key=drawn.random() < 0.5)
        elif what == "advance":
            world.clock.advance(drawn.choice([0.1, 0.4, 0.8, 1.1, 20]))
        elif what == "evict":
            process.cache.engine.memory.clear()
        elif what == "forget":
            counters = process.cache.engine.remote.servers[0].store.counters
            if counters:
                counters.pop(drawn.choice(sorted(counters)))
        else:
            for user, version in seen(process, what, drawn):
                asked += 1
                assert version >= world.oldest(user, process), (what, user)
    assert asked > 50
    for process in processes:
        process.cache.close()


@pytest.mark.parametrize("seed", range(24))
def test_nothing_is_older_than_what_was_dropped_below_it(seed):
    """In each process at once, in others within a second, whatever is read, dropped, forgotten and evicted."""
    live(seed)


def test_a_cache_that_does_not_compare_is_found_out(monkeypatch):
    """The control: where nobody asks whether the parts still stand, some life shows an old one."""

    async def stand(*_args, **_more) -> bool:
        return True

    monkeypatch.setattr(Remote, "stand", stand)
    with pytest.raises(AssertionError, match=r"page|list"):
        list(map(live, range(24)))
