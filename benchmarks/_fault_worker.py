"""One process that calls one cached function fifty times a second while its server is hurt; says how it fared.

``python -m benchmarks._fault_worker SYSTEM PORT CANCELS WARMS WARM_S FAULT_S AFTER_S DRAIN_S`` prints ``ready``, waits
for a
line, and prints a line of JSON. It knows nothing of the fault but when it begins and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

RATE, KEYS, CHANGED, TTL_S = 50, 100, 10, 60
CANCEL_AFTER_S = 0.05
ORIGIN_S = 0.005
PAD = "x" * 200
versions = dict.fromkeys(range(KEYS), 0)


def _answer(key: int) -> dict[str, Any]:
    return {"k": key, "v": versions[key], "pad": PAD}


def origin(key: int) -> dict[str, Any]:
    """Compute a value as a database would."""
    answer = _answer(key)
    time.sleep(ORIGIN_S)
    return answer


async def awaited_origin(key: int) -> dict[str, Any]:
    """Compute a value as a database would."""
    answer = _answer(key)
    await asyncio.sleep(ORIGIN_S)
    return answer


@dataclass
class Subject:
    """A cached function: `load` reads it, `drop` invalidates a key; both awaited where `is_async`."""

    load: Callable[[int], Any]
    drop: Callable[[int], Any]
    is_async: bool = True


def _smw(url: str, *, is_async: bool) -> Subject:
    from smw.cache import Cache

    cache = Cache(namespace="faults", l2_host=url)
    chosen = awaited_origin if is_async else origin
    # Every call asks the server: memory would answer most of them, and hide the fault.
    load = cache.cached(TTL_S, tags=["n:{key}"], levels=("l2",))(chosen)
    if is_async:
        return Subject(load, lambda key: cache.drop(tags=[f"n:{key}"]))
    return Subject(load, lambda key: cache.drop_sync(tags=[f"n:{key}"]), is_async=False)


def _redis_py(url: str) -> Subject:
    import msgpack
    import redis.asyncio

    client = redis.asyncio.Redis.from_url(url)

    async def load(key: int) -> Any:
        with contextlib.suppress(Exception):  # what everybody writes around a cache
            found = await client.get(f"n:{key}")
            if found is not None:
                return msgpack.unpackb(found)
        value = await awaited_origin(key)
        with contextlib.suppress(Exception):
            await client.set(f"n:{key}", msgpack.packb(value), ex=TTL_S)
        return value

    return Subject(load, lambda key: client.delete(f"n:{key}"))


def _cashews(url: str) -> Subject:
    import cashews

    cache = cashews.Cache()
    cache.setup(url)
    return Subject(cache(ttl=TTL_S, key="n:{key}")(awaited_origin), lambda key: cache.delete(f"n:{key}"))


def _aiocache(url: str) -> Subject:
    import aiocache
    import aiocache.serializers

    host, _, port = url.removeprefix("redis://").removesuffix("/0").rpartition(":")
    decorate = aiocache.cached(
        ttl=TTL_S, cache=aiocache.RedisCache, endpoint=host, port=int(port),
        serializer=aiocache.serializers.PickleSerializer(), key_builder=lambda _fn, key: f"n:{key}",
    )  # fmt: skip
    load = decorate(awaited_origin)
    return Subject(load, lambda key: load.cache.delete(f"n:{key}"))


def _dogpile(url: str) -> Subject:
    from dogpile.cache import make_region

    arguments = {"url": url, "redis_expiration_time": TTL_S * 2}
    region = make_region().configure("dogpile.cache.redis", expiration_time=TTL_S, arguments=arguments)
    load = region.cache_on_arguments()(origin)
    return Subject(load, load.invalidate, is_async=False)


def _flask_caching(url: str) -> Subject:
    import flask
    import flask_caching

    app = flask.Flask("faults")
    cache = flask_caching.Cache(app, config={"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": url})
    memoized = cache.memoize(TTL_S)(origin)

    def load(key: int) -> Any:
        with app.app_context():
            return memoized(key)

    def drop(key: int) -> None:
        with app.app_context():
            cache.delete_memoized(memoized, key)

    return Subject(load, drop, is_async=False)


SYSTEMS: dict[str, Callable[[str], Subject]] = {
    "cashews": _cashews,
    "aiocache": _aiocache,
    "dogpile.cache": _dogpile,
    "Flask-Caching": _flask_caching,
    "redis-py": _redis_py,
    "smw, async": lambda url: _smw(url, is_async=True),
    "smw, sync": lambda url: _smw(url, is_async=False),
}


@dataclass
class Watch:
    """What happened to the callers."""

    begun: int = 0
    ended: int = 0
    errors: int = 0
    wrong: int = 0
    stale: int = 0
    most: int = 0
    late_s: list[float] = field(default_factory=list)
    held: dict[int, int] = field(default_factory=dict)
    """Key → the version whose invalidation has returned."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> dict[int, int]:
        """Note that a call begins; returns what it must at least see."""
        with self.lock:
            self.begun += 1
            self.most = max(self.most, self.begun - self.ended)
            return dict(self.held)

    def end(self, key: int, least: dict[int, int], due: float, answer: Any, *, is_cancelled: bool = False) -> None:
        """Note how it has ended; `answer` may be what it raised."""
        late_s = time.monotonic() - due
        with self.lock:
            self.ended += 1
            if is_cancelled:
                return
            self.late_s.append(late_s)
            if isinstance(answer, BaseException):
                self.errors += 1
            elif not isinstance(answer, dict) or answer.get("k") != key or answer.get("pad") != PAD:
                self.wrong += 1
            elif answer["v"] < least.get(key, 0):
                self.stale += 1

    def told(self) -> dict[str, int]:
        """Return it in numbers."""
        with self.lock:
            return {
                "calls": self.begun, "errors": self.errors, "wrong": self.wrong, "stale": self.stale,
                "over 100 ms": sum(late > 0.1 for late in self.late_s),
                "over 250 ms": sum(late > 0.25 for late in self.late_s),
                "hung": self.begun - self.ended, "in flight": self.most,
            }  # fmt: skip


def _plan(count: int, began: float) -> list[tuple[int, float]]:
    return [((number * 7) % KEYS, began + number / RATE) for number in range(count)]


async def _open_loop(subject: Subject, watch: Watch, *, cancels: bool, spans: list[float]) -> None:
    warm_s, fault_s, after_s, drain_s = spans
    tasks: list[asyncio.Task[None]] = []

    async def call(key: int, due: float, *, is_cancelled: bool) -> None:
        least = watch.begin()
        answer: Any = None
        try:
            answer = await asyncio.wait_for(subject.load(key), CANCEL_AFTER_S if is_cancelled else None)
        except Exception as error:  # noqa: BLE001 - counted
            answer = error
        watch.end(key, least, due, answer, is_cancelled=is_cancelled)

    async def change(key: int) -> None:
        versions[key] = 1
        with contextlib.suppress(Exception):  # it has returned, whatever it said
            await subject.drop(key)
        watch.held[key] = 1

    began = time.monotonic()
    changes = began + warm_s + fault_s * 0.5
    for number, (key, due) in enumerate(_plan(int((warm_s + fault_s + after_s) * RATE), began)):
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        if changes and due >= changes:
            changes = 0.0
            tasks += [asyncio.create_task(change(each)) for each in range(CHANGED)]
        is_cancelled = cancels and number % 2 == 1 and warm_s <= due - began < warm_s + fault_s
        tasks.append(asyncio.create_task(call(key, due, is_cancelled=is_cancelled)))
    await asyncio.wait(tasks, timeout=drain_s)


def _open_loop_of_threads(subject: Subject, watch: Watch, *, spans: list[float]) -> None:
    warm_s, fault_s, after_s, drain_s = spans
    threads: list[threading.Thread] = []

    def begin(work: Callable[..., None], *args: Any) -> None:
        threads.append(threading.Thread(target=work, args=args, daemon=True))
        threads[-1].start()

    def call(key: int, due: float) -> None:
        least = watch.begin()
        try:
            answer = subject.load(key)
        except Exception as error:  # noqa: BLE001 - counted
            answer = error
        watch.end(key, least, due, answer)

    def change(key: int) -> None:
        versions[key] = 1
        with contextlib.suppress(Exception):  # it has returned, whatever it said
            subject.drop(key)
        watch.held[key] = 1

    began = time.monotonic()
    changes = began + warm_s + fault_s * 0.5
    for key, due in _plan(int((warm_s + fault_s + after_s) * RATE), began):
        time.sleep(max(0.0, due - time.monotonic()))
        if changes and due >= changes:
            changes = 0.0
            for each in range(CHANGED):
                begin(change, each)
        begin(call, key, due)
    until = time.monotonic() + drain_s
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


async def _main(words: list[str]) -> dict[str, int]:
    system, port, cancels, warms, *spans = words
    logging.disable(logging.CRITICAL)
    subject, watch, timeline = SYSTEMS[system](f"redis://127.0.0.1:{port}/0"), Watch(), [float(span) for span in spans]
    if warms == "1":  # what is imported and connected with the first call is no fault of the server
        first = subject.load(0)
        if subject.is_async:
            await first
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    if subject.is_async:
        await _open_loop(subject, watch, cancels=cancels == "1", spans=timeline)
    else:
        await asyncio.to_thread(_open_loop_of_threads, subject, watch, spans=timeline)
    return watch.told()


def _run() -> None:
    """Say how it went, and end whatever still hangs with the process."""
    import os

    loop = asyncio.new_event_loop()
    print(json.dumps(loop.run_until_complete(_main(sys.argv[1:]))), flush=True)
    os._exit(0)


if __name__ == "__main__":
    _run()
