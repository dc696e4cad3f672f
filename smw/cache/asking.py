"""What people and tools ask of the current runtime's cache; the work is done by its methods of the same names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smw._kernel import current

if TYPE_CHECKING:
    from smw.cache.part import Cache
    from smw.cache.sight.story import Story
    from smw.cache.warming.warmup import FleetWarmed

__all__ = ["clear", "clear_sync", "peek", "peek_sync", "warm_fleet", "warm_fleet_sync", "why", "why_sync"]


def _part() -> Cache:
    part: Cache = current.part("cache")
    return part


async def peek(key: str, default: Any = None) -> Any:
    """Return the value under a key if a level could answer with it now, else `default`.

    No function is called, nothing is counted as hit or miss, and no level is filled.

    Args:
        key: What `key_for` has returned.
        default: What to return where there is none.

    Raises:
        ConfigError: It is no key.
        Exception: One that is kept in the place of a result (`cache_exceptions`).
    """
    return await _part().peek(key, default)


def peek_sync(key: str, default: Any = None) -> Any:
    """Return what `peek` does, from blocking code."""
    return _part().peek_sync(key, default)


async def why(key: str) -> Story:
    """Tell what each level holds under a key, and which would answer now and why; read it by ``print``.

    Args:
        key: What `key_for` has returned; of its text alone neither function nor tags are known.

    Raises:
        ConfigError: It is no key.
    """
    return await _part().why(key)


def why_sync(key: str) -> Story:
    """Tell what `why` does, from blocking code."""
    return _part().why_sync(key)


async def warm_fleet() -> FleetWarmed:
    """Fill memory from L2 with what the fleet asks for most, of the functions with ``warm="fleet"``.

    Web applications do so before they take their first request, and `smw.configure` for the functions that are known by
    then. It is bounded by the settings `warm_keys` and `warm_timeout_s` and by half of `l1_bytes`; it never fails, and
    calls no function.
    """
    return await _part().warm_fleet()


def warm_fleet_sync() -> FleetWarmed:
    """Fill memory as `warm_fleet` does, from blocking code."""
    return _part().warm_fleet_sync()


async def clear() -> None:
    """Drop all that the namespace holds, for every process; as cheap as dropping one tag."""
    await _part().clear()


def clear_sync() -> None:
    """Clear as `clear` does, from blocking code."""
    _part().clear_sync()
