"""The scripts that Redis runs do what the search takes them to do: the same random requests, answered by both."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from smw.cache.coherence.wire import LEASE_END, Wire
from smw.cache.levels.level import run_blocking
from smw.cache.naming.names import fence_of
from smw.cache.ports import Found, Lease, LeaseAsk
from smw.cache.stores import redis as redis_store
from smw.cache.stores.redis import RedisStore
from tests.properties.coherence_process import EVERYTHING, TAG, Numbers
from tests.properties.coherence_servers import GUARD, NUMBER, Server, SteppedRedis, redis_does, text_of

DATABASE = 9
KEYS = tuple(f"smw:m:{digit * 32}" for digit in "ab")
COUNTERS = {key: (fence_of(key), EVERYTHING, TAG) for key in KEYS}
NUMBERS = {NUMBER, EVERYTHING, TAG, *map(fence_of, KEYS)}
NAMES = (*sorted(NUMBERS), GUARD, *KEYS, *(key + LEASE_END for key in KEYS))
WIRES = tuple(Wire(EVERYTHING, Numbers(number)) for number in range(2))
LEASE_S = 1000.0
QUANTUM_S = 100
"""Every life and every tick is a multiple of it, so that what a test takes does not matter."""
BLOBS = (b"short", b"longer than what is enclosed")
HOW = {"mode": "sync", "timeout_s": 10.0}
HUGE = "8" + "0" * 15
"""A number that Redis, which counts microseconds, would not come to in two centuries."""
FOREIGN = ("word", "", "-5", "5", "0", "007", "1.5", "9" * 16, "9" * 17, str(2**53), *[HUGE, "list"] * 2)
LOOK = """
local out = {}
for _, name in ipairs(redis.call('KEYS', '*')) do
  local kind, value = redis.call('TYPE', name).ok, ''
  if kind == 'string' then value = redis.call('GET', name) end
  if kind == 'hash' then value = redis.call('HGETALL', name) end
  out[#out + 1] = {name, kind, value, redis.call('PTTL', name)}
end
redis.call('PUBLISH', 'end', '')
return out
"""
TICK = """
for _, name in ipairs(redis.call('KEYS', '*')) do
  redis.call('PEXPIRE', name, redis.call('PTTL', name) - ARGV[1])
end
"""

OFTEN = {
    "lease": 6, "write": 5, "open": 3, "put": 3, "drop": 2, "pulse": 2, "read": 2, "release": 2, "renew": 2,
    "replace": 2, "lose": 1, "tick": 1, "time": 1, "waiters": 1,
}  # fmt: skip
STEPS = 200


def steps_of(seed: int) -> Iterator[tuple[Any, ...]]:
    """Yield what happens in one life; the last of three processes tells nobody, and takes no lease."""
    drawn = random.Random(seed)
    for what in drawn.choices(list(OFTEN), list(OFTEN.values()), k=STEPS):
        here, process, key = drawn.randrange(2), drawn.choice((0, 0, 1, 1, 2)), drawn.choice((*KEYS, KEYS[0]))
        some, ttl_s, age = drawn.choice((KEYS[:1], KEYS)), drawn.choice((200, 100_000)), drawn.choice((0, 0, 0, 1, 2))
        name, value = drawn.choice((*NAMES, GUARD)), drawn.choice(FOREIGN)
        counters, keys = (drawn.sample(names, drawn.randrange(3)) for names in (COUNTERS[key], KEYS))
        loads = drawn.choices(KEYS, k=drawn.randrange(3))
        yield {
            "lease": (what, here, some, ttl_s, drawn.random() < 0.3, drawn.random() < 0.8, loads),
            "write": (what, process, key, drawn.choice(BLOBS), ttl_s, age),
            "replace": (what, process, key, drawn.choice(BLOBS), ttl_s, age),
            "read": (what, process, key),
            "open": (what, process, key, ttl_s),
            "drop": (what, process, counters, keys),
            "pulse": (what, here),
            "renew": (what, here),
            "time": (what, process),
            "release": (what, here, some, age),
            "waiters": (what, here, some),
            "put": (what, name, "5" if value == HUGE and name == NUMBER else value),
            "lose": (what, name),
            "tick": (what, drawn.choice((700, 30_000))),
        }[what]


class Modelled:
    """The server of the search, and stores that speak to it."""

    def __init__(self) -> None:
        self.server, self.now = Server(), 0.0
        self.stores: list[Any] = [SteppedRedis(wire) for wire in (*WIRES, None)]
        self.told: list[tuple[str, bytes]] = []

    def does(self, coroutine: Any) -> Any:
        """Return what a request of a store comes to."""
        reply = None
        while True:
            try:
                _, *what = coroutine.send(reply)
            except StopIteration as stop:
                return stop.value
            self.server, reply = redis_does(self.server, self.now, tuple(what))
            for name, message in self.server.mail:
                self.told.append((name, message if name else message + b" " + text_of(tuple(what)).encode()))
            self.server = self.server._replace(mail=())

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def put(self, name: str, value: str) -> None:
        """Have somebody else put something there."""
        data = self.server.live(self.now)
        data[name] = value if value == "list" else value.encode(), None, self.now + QUANTUM_S
        self.server = self.server.kept(data)

    def lose(self, name: str) -> None:
        """Have the server evict it."""
        self.server = self.server.without(name)

    def seen(self) -> tuple[list[tuple[str, bytes]], dict[str, tuple[Any, float]]]:
        """Return what was told since the last call, with whose mail it is, and what is there, with how long it will."""
        contents: dict[str, tuple[Any, float]] = {}
        for name, (value, _, ends) in self.server.live(self.now).items():
            fields = {k: v if isinstance(v, bytes) else v.encode() for k, v in value} if type(value) is tuple else value
            contents[name] = fields, ends - self.now
        told, self.told = self.told, []
        return sorted(told), contents


class Real:
    """A Redis server, and the stores that speak to it."""

    def __init__(self, url: str) -> None:
        self.client: Any = redis.Redis.from_url(url)
        self.stores: list[Any] = [RedisStore(url, timeout_s=10.0) for _ in range(3)]
        for store, wire in zip(self.stores, WIRES, strict=False):
            store.speak(wire)
        self.does = run_blocking
        self.names = {wire.mail + wire.sender: wire.sender for wire in WIRES} | {WIRES[0].channel(DATABASE): ""}
        self.ear = self.client.pubsub(ignore_subscribe_messages=True)
        self.ear.subscribe(*self.names, "end")

    def begin(self) -> None:
        """Forget everything."""
        self.client.flushdb()
        self.seen()
        for store in self.stores:
            store._leases.clear()

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.client.eval(TICK, 0, seconds * 1000)

    def put(self, name: str, value: str) -> None:
        """Have somebody else put something there."""
        self.client.delete(name)
        if value == "list":
            self.client.rpush(name, "x")
            self.client.expire(name, QUANTUM_S)
        else:
            self.client.set(name, value, ex=QUANTUM_S)

    def lose(self, name: str) -> None:
        """Have the server evict it."""
        self.client.delete(name)

    def seen(self) -> tuple[list[tuple[str, bytes]], dict[str, tuple[Any, float]]]:
        """Return what was told since the last call, with whose mail it is, and what is there, with how long it will."""
        contents: dict[str, tuple[Any, float]] = {}
        for name, kind, value, left_ms in self.client.eval(LOOK, 0):
            shown = value if kind == b"string" else kind.decode()
            if kind == b"hash":
                shown = {field.decode(): each for field, each in zip(value[::2], value[1::2], strict=True)}
            contents[name.decode()] = shown, _rounded(left_ms / 1000)
        told: list[tuple[str, bytes]] = []
        while (message := self.ear.get_message(timeout=10.0)) is None or message["channel"] != b"end":
            if message is not None:
                told.append((self.names[message["channel"].decode()], message["data"]))
        return sorted(told), contents

    def close(self) -> None:
        """Close every connection."""
        self.client.flushdb()
        self.ear.close()
        self.client.close()
        for store in self.stores:
            store.close()


def _rounded(seconds: float) -> float:
    return -(-seconds // QUANTUM_S) * QUANTUM_S


class Stamps:
    """Numbers of both servers, which are equal where they are equal there, and in the same order."""

    def __init__(self) -> None:
        self._seen: dict[str, list[tuple[int, int, bool]]] = {}

    def agree(self, name: str, real: int | None, modelled: int | None, *, would: bool = False) -> None:
        """Compare what a counter shows with all that it has shown; `would`: it would show that if it began now."""
        if real is None or modelled is None:
            assert real is modelled, name
            return
        seen = self._seen.setdefault(name, [])
        for other_real, other_modelled, other_would in seen:
            far = real - other_real, modelled - other_modelled
            orders = {(each > 0) - (each < 0) for each in far}
            # The one that begins next is no smaller; in the search no time has passed until then.
            assert len(orders) == 1 or ((would or other_would) and orders != {-1, 1}), (name, *far)
            assert name != NUMBER or (far[0] == 1) == (far[1] == 1), (name, *far)
        if (real, modelled, would) not in seen:
            seen.append((real, modelled, would))


class Both:
    """Both servers, asked the same."""

    def __init__(self, real: Real) -> None:
        self.sides: tuple[Any, Any] = (real, Modelled())
        self.stamps = Stamps()
        self.reigns: dict[str, str] = {}
        self.shown: dict[str, list[tuple[tuple[int, ...], tuple[int, ...]]]] = {key: [] for key in KEYS}

    def step(self, what: str, *how: Any) -> None:
        """Do one step on both, and compare replies, messages and contents."""
        if hasattr(self, f"_{what}"):
            getattr(self, f"_{what}")(*how)
        else:
            for side in self.sides:
                getattr(side, what)(*how)
        (told, contents), (other_told, other_contents) = (side.seen() for side in self.sides)
        self._same_messages(told, other_told)
        self._same_contents(contents, other_contents)

    def _asked(self, process: int, what: str, *args: Any, each: Any = None, **more: Any) -> Any:
        """Return both replies; `each` returns what is different for each side."""
        replies = []
        for number, side in enumerate(self.sides):
            mine = more | (each(number) if each else {})
            replies.append(side.does(getattr(side.stores[process], what)(*args, **mine, **HOW)))
        return replies

    def _agree(self, key: str, real: Any, modelled: Any) -> None:
        for name, *numbers in zip(COUNTERS[key], real, modelled, strict=True):
            self.stamps.agree(name, *numbers)
        if None not in real:
            self.shown[key].append((tuple(real), tuple(modelled)))

    def _aged(self, key: str, age: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        shown = self.shown[key]
        return shown[max(-1 - age, -len(shown))] if shown else None

    def _read(self, process: int, key: str) -> None:
        real, modelled = self._asked(process, "read", key, COUNTERS[key])
        assert real.blob == modelled.blob
        self._agree(key, real.counters, modelled.counters)

    def _open(self, process: int, key: str, ttl_s: float) -> None:
        self._agree(key, *self._asked(process, "open", COUNTERS[key], ttl_s))

    def _stored(self, what: str, process: int, key: str, *how: Any) -> Any:
        blob, ttl_s, age = how
        aged = self._aged(key, age)
        if aged is None:
            return 0, 0

        def found(side: int) -> dict[str, Any]:
            return {"found": Found(None, aged[side])}

        return self._asked(process, what, key, blob, ttl_s, counters=COUNTERS[key], each=found)

    def _write(self, *how: Any) -> None:
        real, modelled = self._stored("write", *how)
        assert real == modelled

    def _replace(self, process: int, key: str, *how: Any) -> None:
        real, modelled = self._stored("replace", process, key, *how)
        assert ((real > 0), (real < 0)) == ((modelled > 0), (modelled < 0))
        if real:
            self.stamps.agree(fence_of(key), abs(real), abs(modelled))

    def _drop(self, process: int, names: list[str], keys: list[str]) -> None:
        real, modelled = self._asked(process, "drop", names, keys)
        _, modelled_server = self.sides
        there = modelled_server.server.live(modelled_server.now)
        for name, *numbers in zip(names, real, modelled, strict=True):
            self.stamps.agree(name, *numbers, would=name not in there)

    def _lease(self, process: int, keys: Any, ttl_s: float, *how: Any) -> None:
        asks = [LeaseAsk(key, COUNTERS[key], *how) for key in keys]
        for key, real, modelled in zip(keys, *self._asked(process, "lease", asks, ttl_s), strict=True):
            self._agree(key, real.counters, modelled.counters)
            left_s = real.left_s if real.left_s < 0 else _rounded(real.left_s)
            assert (*real[1:3], left_s) == modelled[1:]

    def _release(self, process: int, keys: Any, age: int) -> None:
        aged = {key: self._aged(key, age) for key in keys}

        def leases(side: int) -> dict[str, Any]:
            return {"leases": [Lease(key, shown[side]) for key, shown in aged.items() if shown is not None]}

        if any(aged.values()):
            real, modelled = self._asked(process, "release", each=leases, how="n")
            assert real == modelled

    def _renew(self, process: int) -> None:
        def leases(side: int) -> dict[str, Any]:
            return {"leases": list(self.sides[side].stores[process]._leases)}

        real, modelled = self._asked(process, "renew", each=leases)
        assert real == modelled

    def _waiters(self, process: int, keys: Any) -> None:
        real, modelled = self._asked(process, "waiters", keys)
        assert sorted(real) == sorted(modelled)

    def _pulse(self, process: int) -> None:
        real, modelled = self._asked(process, "pulse")
        self.stamps.agree(NUMBER, real.number, modelled.number)
        assert self.reigns.setdefault(real.reign, modelled.reign) == modelled.reign
        assert real.is_master == modelled.is_master

    def _time(self, process: int) -> None:
        times = [round(seconds * 1e6) for seconds in self._asked(process, "time")]
        self.stamps.agree("time", *times, would=True)

    def _same_messages(self, real: Any, modelled: Any) -> None:
        assert [name for name, _ in real] == [name for name, _ in modelled]
        for (name, message), (_, other) in zip(real, modelled, strict=True):
            if name:
                assert message == other
                continue
            number, _, text = message.partition(b" ")
            other_number, _, other_text = other.partition(b" ")
            self.stamps.agree(NUMBER, int(number), int(other_number))
            assert text == other_text

    def _same_contents(self, real: Any, modelled: Any) -> None:
        assert real.keys() == modelled.keys()
        for name, (value, left_s) in real.items():
            other, other_left_s = modelled[name]
            assert left_s == other_left_s, name
            if name in NUMBERS and type(value) is type(other) is bytes and value.isdigit() and other.isdigit():
                self.stamps.agree(name, int(value), int(other))
            elif name.endswith(LEASE_END) and isinstance(value, dict):
                self._same_leases(name.removesuffix(LEASE_END), value, other)
            elif name == GUARD and isinstance(value, bytes) and value.decode() in self.reigns:
                assert self.reigns[value.decode()] == other.decode()
            else:
                assert value == other, name

    def _same_leases(self, key: str, real: Any, modelled: Any) -> None:
        at, other_at = ([int(number) for number in lease["at"].split()] for lease in (real, modelled))
        for name, *numbers in zip(COUNTERS[key], at, other_at, strict=True):
            self.stamps.agree(name, *numbers)
        assert real | {"at": b""} == modelled | {"at": b""}


@pytest.fixture(scope="module")
def real(redis_server):
    """Three processes, one of which tells nobody, and a database of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis_store, "LEASE_S", LEASE_S)  # nothing ends while a machine is slow
        patch.setattr(RedisStore, "most_enclosed", len(BLOBS[0]))
        server = Real(redis_server.url.removesuffix("/0") + f"/{DATABASE}")
        yield server
        server.close()


@pytest.mark.service("redis")
@pytest.mark.parametrize("seed", range(12))
def test_the_server_of_the_search_does_what_redis_does(real, seed):
    """Replies, messages, contents and their lives agree; numbers do in their order, and in which follows which."""
    real.begin()
    both, done = Both(real), []
    for step in steps_of(seed):
        done.append(step)
        try:
            both.step(*step)
        except AssertionError as error:
            error.add_note("\n".join(map(repr, done[-12:])))
            raise
