"""Holds a store that others have written to what a `Store` promises: in time, of the right shape; knows no value."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Any

from smw.cache.levels.level import run_blocking
from smw.cache.ports import Found, StoreFailedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from smw._kernel.call import Mode
    from smw.cache.ports import Store

__all__ = ["supervised"]

_log = logging.getLogger("smw.cache")


def supervised(store: Store) -> Store:
    """Return a store that asks `store`, and raises `StoreFailedError` for whatever it does wrong.

    What it offers beside the methods of `Store` is passed on.
    """
    more = {name: _passed_on(name) for name in dir(store) if not name.startswith("_") and not hasattr(Supervised, name)}
    kind: type[Supervised] = type(Supervised.__name__, (Supervised,), more)
    return kind(store)


def _passed_on(name: str) -> property:
    return property(lambda self: getattr(self.asked, name))


def _are_counters(shown: Any, asked: Sequence[str], *, missing: bool) -> bool:
    return (
        isinstance(shown, tuple)
        and len(shown) == len(asked)
        and all(type(each) is int or (missing and each is None) for each in shown)
    )


class Supervised:
    """A store whose answers are looked at.

    Attributes:
        asked: The store that does the work, whose attributes these are.
    """

    name: str
    is_atomic: bool

    def __init__(self, store: Store) -> None:
        self.asked = store

    async def _in_time(self, ask: Callable[..., Awaitable[Any]], mode: Mode, timeout_s: float) -> Any:
        asked: Any = ask(mode=mode, timeout_s=timeout_s)
        try:
            if mode == "sync":
                return run_blocking(asked)
            async with asyncio.timeout(timeout_s):
                return await asked
        except StoreFailedError:
            raise
        except TimeoutError as error:
            raise StoreFailedError("timeout") from error
        except Exception as error:
            _log.debug("%s has failed", self.name, exc_info=True)
            raise StoreFailedError("protocol") from error

    async def read(self, key: str, counters: Sequence[str], *, mode: Mode, timeout_s: float) -> Found:
        """Return value and counters."""
        answer = await self._in_time(functools.partial(self.asked.read, key, counters), mode, timeout_s)
        if (
            not isinstance(answer, tuple)
            or len(answer) < len(Found._fields) - len(Found._field_defaults)
            or not (answer[0] is None or type(answer[0]) is bytes)
            or not _are_counters(answer[1], counters, missing=True)
        ):
            raise StoreFailedError("protocol")
        return Found(*answer)

    async def open(self, counters: Sequence[str], ttl_s: float, *, mode: Mode, timeout_s: float) -> tuple[int, ...]:
        """Return what the counters show, starting those that are missing."""
        answer = await self._in_time(functools.partial(self.asked.open, counters, ttl_s), mode, timeout_s)
        if not _are_counters(answer, counters, missing=False):
            raise StoreFailedError("protocol")
        shown: tuple[int, ...] = answer
        return shown

    async def write(
        self,
        key: str,
        blob: bytes,
        ttl_s: float,
        *,
        counters: Sequence[str],
        found: Found,
        mode: Mode,
        timeout_s: float,
    ) -> bool:
        """Store `blob` if everything that `found` saw still stands."""
        ask = functools.partial(self.asked.write, key, blob, ttl_s, counters=counters, found=found)
        return bool(await self._in_time(ask, mode, timeout_s))

    async def drop(
        self, counters: Sequence[str], keys: Sequence[str], *, mode: Mode, timeout_s: float
    ) -> tuple[int, ...] | None:
        """Change the counters that exist and remove the keys."""
        answer = await self._in_time(functools.partial(self.asked.drop, counters, keys), mode, timeout_s)
        return answer if _are_counters(answer, counters, missing=False) else None

    def probe(self) -> None:
        """Ask whether the server answers; blocks.

        Raises:
            StoreFailedError: It does not.
        """
        try:
            self.asked.probe()
        except StoreFailedError:
            raise
        except Exception as error:
            raise StoreFailedError("protocol") from error

    def close(self) -> None:
        """Close it; idempotent."""
        try:
            self.asked.close()
        except Exception:  # noqa: BLE001 - closing goes on
            _log.exception("closing %s has failed", self.name)

    async def aclose(self) -> None:
        """Close it; idempotent."""
        try:
            await self.asked.aclose()
        except Exception:  # noqa: BLE001 - closing goes on
            _log.exception("closing %s has failed", self.name)
