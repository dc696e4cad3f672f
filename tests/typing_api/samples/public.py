"""What the public functions around the decorators take and give."""

import asyncio
from datetime import timedelta
from typing import assert_type

import smw
from smw import cache, errors, monitor, pipeline, security


@cache.cached(ttl=60, tags=["user:{user_id}"])
async def profile(user_id: int) -> dict[str, str]:
    return {"id": str(user_id)}


async def use() -> None:
    assert_type(await profile(1), dict[str, str])
    await cache.drop(tags=["user:1"])
    await pipeline.emit("events", {"a": 1}, key="k")


async def lifetime() -> None:
    async with smw.Runtime("testing") as runtime:
        assert_type(runtime, smw.Runtime)


with smw.Runtime("testing") as current:
    assert_type(current, smw.Runtime)

assert_type(smw.configure("testing", service="music"), smw.Runtime)
assert_type(smw.__version__, str)
cache.drop_sync(tags=["user:1"])
with security.acting("ann", purpose="support", subjects=["u1"]):
    asyncio.run(use())
explicit = cache.Cache(l1_size=10), monitor.Monitor(), security.Security(), pipeline.Pipeline()


@explicit[0].cached(ttl=1)
def square(x: int) -> int:
    return x * x


assert_type(square(2), int)
denied: type[PermissionError] = errors.Denied
smw.configure("testing", services="music")  # error
cache.on_commit(lambda drop: drop())()


@cache.writes(profile, strategy="write_back", value=lambda result, arguments: arguments["data"])
async def save(user_id: int, data: dict[str, str]) -> str:
    return str(user_id)


@explicit[0].invalidate(fn=profile, key=lambda user: (user,), when="commit")
def touch(user: int) -> int:
    return user


async def use_writers() -> None:
    assert_type(await save(1, {}), str)
    assert_type(touch(1), int)


cache.writes(profile, strategy="write_bak")  # error
cache.invalidate(fn=profile, when="later")  # error
cache.cached()  # error
cache.cached(ttl=1, levels="l1", unknown=2)  # error


@cache.cached(
    ttl=cache.Auto(min_s=5, max_s=600),
    l1_ttl=1,
    negative_ttl=5,
    cache_exceptions=LookupError,
    condition=lambda number, fresh=False: not fresh,
    unless=lambda result: result == "",
    stale_if_error=timedelta(hours=1),
    refresh_ahead=0.8,
    soft_timeout=0.1,
    hard_timeout=2,
)
def name_of(number: int, fresh: bool = False) -> str:
    return str(number)


@explicit[0].cached(ttl=lambda token: timedelta(seconds=token["expires_in"]), cache_exceptions=(KeyError, OSError))
async def token_of(client: str) -> dict[str, int]:
    return {"expires_in": 60}


assert_type(name_of(1, fresh=True), str)
late: type[TimeoutError] = errors.LoadTimeout
cache.cached(ttl="often")  # error
cache.cached(ttl=1, soft_timeout="1")  # error
cache.cached(ttl=1, cache_exceptions=ValueError("x"))  # error
