"""Makes a level of a cache fail, slow, hang or garble for a block of code, without a server that would have to."""

from __future__ import annotations

import functools
import inspect
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

from smw.cache.ports import Found, StoreFailedError
from smw.errors import ConfigError
from smw.runtime import current

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractContextManager

    from smw._kernel.call import Mode
    from smw._kernel.clock import Clock
    from smw.cache import Cache
    from smw.cache.ports import Store

    Strike = Callable[[str, Mode, float], Awaitable[None]]

__all__ = ["down", "full", "garbage", "hang", "readonly", "slow"]

_BLOCKING = ("listen", "probe")
"""What a store does outside of requests, and one that is away does not."""
_STORING = ("open", "write", "replace", "lease")


def _faulty(store: Store, strike: Strike, *, change: Callable[[Any], Any], answers: bool) -> Store:
    """Return a store that offers all that `store` does.

    Requests are struck before they reach it, and answers may be changed on their way back.
    """

    def struck(name: str) -> Any:
        asked = getattr(store, name)

        @functools.wraps(asked)
        async def ask(*args: Any, mode: Mode, timeout_s: float, **more: Any) -> Any:
            await strike(name, mode, timeout_s)
            return change(await asked(*args, mode=mode, timeout_s=timeout_s, **more))

        return staticmethod(ask)

    def guarded(name: str) -> Any:
        asked = getattr(store, name)

        @functools.wraps(asked)
        def ask(*args: Any) -> Any:
            if not answers:
                raise StoreFailedError("refused")
            return asked(*args)

        return staticmethod(ask)

    def passed(name: str) -> Any:
        return property(lambda _self: getattr(store, name))

    body: dict[str, Any] = {}
    for name in (name for name in dir(store) if not name.startswith("_")):
        is_request = inspect.iscoroutinefunction(getattr(store, name)) and name != "aclose"
        body[name] = struck(name) if is_request else guarded(name) if name in _BLOCKING else passed(name)
    # A class of its own, for what a store offers is looked up on its class.
    return cast("Store", type("FaultyStore", (), body)())


@contextmanager
def _placed(
    level: str,
    cache: Cache | None,
    strike: Callable[[Clock], Strike],
    *,
    rate: float,
    change: Callable[[Any], Any] = lambda answer: answer,
    answers: bool = True,
) -> Iterator[None]:
    part = cache or current().cache
    servers = [server for server in part.engine.remote.servers if server.name == level]
    if not servers:
        what = f"the cache has no level {level!r} that could misbehave"
        raise ConfigError("SMW-C123", what, fix='isolated(cache={"l2_url": "memory://"}), or "l3_servers" likewise')
    chance, always = part.host.entropy.random, strike(part.host.clock)

    async def sometimes(op: str, mode: Mode, timeout_s: float) -> None:
        if rate >= 1.0 or chance() < rate:
            await always(op, mode, timeout_s)

    def perhaps(answer: Any) -> Any:
        return change(answer) if rate >= 1.0 or chance() < rate else answer

    before = [server.store for server in servers]
    for server in servers:
        server.store = _faulty(server.store, sometimes, change=perhaps, answers=answers)
    try:
        yield
    finally:
        for server, store in zip(servers, before, strict=True):
            server.store = store
            if server.breaker.is_open:
                server.breaker.probe_now()  # which pays too
            elif server.debt:
                with suppress(StoreFailedError):  # struck by a fault around this one
                    server.pay()


async def _pass(clock: Clock, seconds: float, mode: Mode) -> None:
    """Let time pass; on a clock of tests it has passed at once."""
    advance = getattr(clock, "advance", None)
    if advance is not None:
        advance(seconds)
    elif mode == "sync":
        clock.pause(seconds)
    else:
        await clock.sleep(seconds)


def _refusing(kind: str, *ops: str, counts: bool) -> Callable[[Clock], Strike]:
    async def strike(op: str, _mode: Mode, _timeout_s: float) -> None:
        if not ops or op in ops:
            raise StoreFailedError(kind, counts=counts)

    return lambda _clock: strike


def _delaying(seconds: float) -> Callable[[Clock], Strike]:
    def on(clock: Clock) -> Strike:
        async def strike(_op: str, mode: Mode, timeout_s: float) -> None:
            await _pass(clock, min(seconds, timeout_s), mode)
            if seconds >= timeout_s:
                raise StoreFailedError("timeout")

        return strike

    return on


def _flipped(answer: Any) -> Any:
    if isinstance(answer, list):
        return [_flipped(each) for each in answer]
    if isinstance(answer, Found) and answer.blob:
        return answer._replace(blob=bytes(byte ^ 0x5A for byte in answer.blob))
    return answer


def down(level: str, *, rate: float = 1.0, cache: Cache | None = None) -> AbstractContextManager[None]:
    """Have a level refuse every request within the block, as a server that is not there.

    When the block ends the level answers at once, and what it is owed has been paid.

    Args:
        level: ``l2`` or ``l3``.
        rate: Share of the requests that are struck.
        cache: Whose level; None takes that of the current runtime.

    Raises:
        ConfigError: On entering, when the cache has no such level.
    """
    return _placed(level, cache, _refusing("refused", counts=True), rate=rate, answers=rate < 1.0)


def hang(level: str, *, rate: float = 1.0, cache: Cache | None = None) -> AbstractContextManager[None]:
    """Have a level answer nothing within the block: each request takes all of its time and fails; else as `down`."""
    return _placed(level, cache, _delaying(float("inf")), rate=rate, answers=rate < 1.0)


def slow(level: str, seconds: float, *, rate: float = 1.0, cache: Cache | None = None) -> AbstractContextManager[None]:
    """Have a level answer `seconds` late within the block, or not at all where a request has less time; see `down`."""
    return _placed(level, cache, _delaying(seconds), rate=rate)


def garbage(level: str, *, rate: float = 1.0, cache: Cache | None = None) -> AbstractContextManager[None]:
    """Have a level hand out values with bits flipped within the block; see `down`."""
    return _placed(level, cache, _refusing("", "-", counts=False), rate=rate, change=_flipped)


def readonly(level: str, *, rate: float = 1.0, cache: Cache | None = None) -> AbstractContextManager[None]:
    """Have a level refuse whatever changes it within the block, as a replica does; see `down`."""
    return _placed(level, cache, _refusing("readonly", "drop", *_STORING, counts=False), rate=rate)


def full(level: str, *, rate: float = 1.0, cache: Cache | None = None) -> AbstractContextManager[None]:
    """Have a level store nothing new within the block, for want of room; see `down`."""
    return _placed(level, cache, _refusing("full", *_STORING, counts=False), rate=rate)
