"""What `cached` and `invalidate` add to a function: checked against it when decorating, bound when called."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from smw._kernel import current
from smw._kernel.call import Kind
from smw._kernel.chain import Advice, Bound
from smw.errors import ConfigError, DecorationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smw._kernel.call import Call, Target
    from smw._kernel.chain import Proceed
    from smw.cache.function import CachedFunction
    from smw.cache.options import Options
    from smw.cache.part import Cache

__all__ = ["Cached", "Invalidate"]

_log = logging.getLogger("smw.cache")

_UNKNOWN = (
    "@invalidate on %s cannot tell its tags %s from the arguments of a call that has succeeded, so the whole cache is "
    "dropped; put @invalidate directly above the function, below decorators that add arguments"
)


class Cached(Advice):
    """The advice of `cached`.

    Args:
        options: What it was told.
        owner: The cache; None for the current runtime's.
    """

    name = "cached"
    geared = True

    def __init__(self, options: Options, *, owner: Cache | None) -> None:
        self.options = options
        self.owner = owner
        self.tags = frozenset(template.text for template in options.tags)

    def check(self, target: Target) -> None:
        """Refuse what has no result to keep, and tags that name no parameter."""
        if target.kind in (Kind.GEN, Kind.ASYNC_GEN):
            what = f"@cached stands on {target.qualname}, whose result ({target.kind.value}) is used up by reading it"
            raise DecorationError("SMW-C109", what, fix="collect in the function and return a list")
        for template in self.options.tags:
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
        told = self.options
        return f"@cached(ttl={told.ttl_s:g}{tags}, levels={told.levels}, copy={told.copy!r})"


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
