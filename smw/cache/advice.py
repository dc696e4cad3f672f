"""What `cached` and `invalidate` check when decorating and bind when called; knows no level."""

from __future__ import annotations

import logging
import math
import warnings
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from smw._kernel import current
from smw._kernel.call import Kind
from smw._kernel.chain import Advice, Bound
from smw.errors import ConfigError, DecorationError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from smw._kernel.call import Call, Target
    from smw._kernel.chain import Proceed
    from smw.cache.function import CachedFunction
    from smw.cache.part import Cache

__all__ = ["LEVELS", "Cached", "Invalidate"]

_log = logging.getLogger("smw.cache")

LEVELS = ("l1", "l2", "l3")
COPIES = ("auto", "share", "deep", "decode")
_MOST_TTL_S = 10 * 365 * 86_400.0
_MOST_TAGS = 100
_FORM = "@cached(ttl=60)"
_UNKNOWN = (
    "@invalidate on %s cannot tell its tags %s from the arguments of a call that has succeeded, so the whole cache is "
    "dropped; put @invalidate directly above the function, below decorators that add arguments"
)


def _checked_ttl(ttl: object) -> float:
    if callable(ttl):
        raise DecorationError("SMW-C101", "@cached stands without parentheses", fix=f"write {_FORM}")
    if isinstance(ttl, timedelta):
        ttl = ttl.total_seconds()
    if isinstance(ttl, bool) or not isinstance(ttl, int | float):
        fix = f"{_FORM}, or ttl=timedelta(minutes=1)"
        raise DecorationError("SMW-C102", "ttl= takes seconds or a timedelta", seen=repr(ttl), fix=fix)
    if math.isnan(ttl) or ttl < 0:
        raise ConfigError("SMW-C103", "ttl= must not be negative", seen=ttl, fix=f"{_FORM}; ttl=0 stores nothing")
    if ttl > _MOST_TTL_S:
        warnings.warn(f"ttl={ttl} is more than ten years and is cut to that", stacklevel=4)
    return min(float(ttl), _MOST_TTL_S)


def _checked_levels(levels: object) -> tuple[str, ...]:
    if isinstance(levels, str) or not isinstance(levels, list | tuple | set | frozenset) or not levels:
        raise DecorationError("SMW-C104", "levels= takes names of levels", seen=repr(levels), fix='levels=("l1", "l2")')
    for level in levels:
        if level not in LEVELS:
            what = f"unknown level {level!r}; known: {', '.join(LEVELS)}.{nearest(str(level), LEVELS)}"
            raise DecorationError("SMW-C104", what, fix='levels=("l1", "l2")')
    return tuple(level for level in LEVELS if level in levels)


def _checked_copy(copy: object) -> str:
    if copy not in COPIES:
        what = f"unknown copy mode {copy!r}; known: {', '.join(COPIES)}.{nearest(str(copy), COPIES)}"
        raise DecorationError("SMW-C105", what, fix='copy="auto"')
    return str(copy)


class Cached(Advice):
    """The advice of `cached`.

    Args:
        ttl: Time to live.
        tags: Tags, possibly with fields.
        key: What identifies a call, made from its arguments.
        version: Part of every key; change it when the meaning of the results changes.
        levels: Levels that may keep results.
        copy: How hits are kept apart from each other.
        owner: The cache; None for the current runtime's.
    """

    name = "cached"
    geared = True

    def __init__(
        self,
        ttl: object,
        *,
        tags: Sequence[str],
        key: Callable[..., object] | None,
        version: str,
        levels: Sequence[str],
        copy: str,
        owner: Cache | None,
    ) -> None:
        from smw.cache.tags import templates

        self.ttl_s = _checked_ttl(ttl)
        self.templates = templates(tags)
        if len(self.templates) > _MOST_TAGS:
            raise DecorationError("SMW-C106", f"more than {_MOST_TAGS} tags", fix="invalidate by a common tag")
        if key is not None and not callable(key):
            raise DecorationError(
                "SMW-C108", "key= takes a function", seen=repr(key), fix="key=lambda user_id: user_id"
            )
        self.key = key
        self.version = str(version)
        self.levels = _checked_levels(levels)
        self.copy = _checked_copy(copy)
        self.owner = owner
        self.tags = frozenset(template.text for template in self.templates)

    def check(self, target: Target) -> None:
        """Refuse what has no result to keep, and tags that name no parameter."""
        if target.kind in (Kind.GEN, Kind.ASYNC_GEN):
            what = f"@cached stands on {target.qualname}, whose result ({target.kind.value}) is used up by reading it"
            raise DecorationError("SMW-C109", what, fix="collect in the function and return a list")
        for template in self.templates:
            template.check(target.parameters, target.qualname)

    def function(self, target: Target) -> CachedFunction:
        """Return the function as its cache knows it."""
        part: Cache = self.owner or current.part("cache")
        return part.function(target, self)

    def bind(self, target: Target) -> Bound | None:
        """Find the cache."""
        return self.function(target).bound()

    def describe(self) -> str:
        """Return one line for ``smw.explain``."""
        tags = f", tags={sorted(self.tags)}" if self.tags else ""
        return f"@cached(ttl={self.ttl_s:g}{tags}, levels={self.levels}, copy={self.copy!r})"


class Invalidate(Advice):
    """The advice of `invalidate`.

    Args:
        tags: Tags, possibly with fields.
        owner: The cache; None for the current runtime's.
    """

    name = "invalidate"

    def __init__(self, tags: Sequence[str], *, owner: Cache | None) -> None:
        from smw.cache.tags import templates

        self.templates = templates(tags)
        if not self.templates:
            raise DecorationError("SMW-C106", "@invalidate names no tag", fix='@invalidate(tags=["user:{user_id}"])')
        self.owner = owner
        self.tags = frozenset(template.text for template in self.templates)

    def check(self, target: Target) -> None:
        """Refuse tags that name no parameter."""
        for template in self.templates:
            template.check(target.parameters, target.qualname)

    def bind(self, target: Target) -> Bound:  # noqa: ARG002 - every function is served alike
        """Find the cache."""
        part: Cache = self.owner or current.part("cache")
        said: list[str] = []

        async def around(call: Call, proceed: Proceed) -> Any:
            tags = self._tags(call)  # before the function runs, which may change what they are made from
            result = await proceed()
            if tags is None:
                if not said:
                    said.append(call.target.name)
                    _log.error(_UNKNOWN, call.target.name, sorted(self.tags))
                await part.drop_everything(call.mode)
            else:
                await part.drop_tags(tags, call.mode)
            return result

        return Bound(around)

    def _tags(self, call: Call) -> list[str] | None:
        """Return the tags of a call, or None where its arguments do not tell them.

        A call whose arguments do not fit fails with Python's own complaint, and nothing is dropped; below a foreign
        decorator that adds arguments of its own it may succeed all the same, and something has changed.
        """
        from smw.cache.keys import UnkeyableError

        arguments: dict[str, object] = {}
        if any(template.fields for template in self.templates):
            try:
                arguments = call.arguments
            except TypeError:
                return None
        if any(path[0] not in arguments for template in self.templates for path in template.fields):
            return None
        try:
            return [template.render(arguments) for template in self.templates]
        except UnkeyableError as error:
            what = f"@invalidate cannot fill its tags for {call.target.qualname}: {error.reason} ({error.what})"
            raise ConfigError("SMW-C111", what, fix="use fields whose values are plain, such as identifiers") from None

    def describe(self) -> str:
        """Return one line for ``smw.explain``."""
        return f"@invalidate(tags={sorted(self.tags)})"
