"""What `invalidate` adds to a function: what a call makes old and when it is dropped; knows no level."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from smw._kernel import current
from smw._kernel.chain import Advice, Bound
from smw.cache.functions.readers import Reader, Scopes
from smw.errors import ConfigError, DecorationError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from smw._kernel.call import Call, Target
    from smw._kernel.chain import Proceed
    from smw.cache.part import Cache

__all__ = ["MOMENTS", "Invalidate"]

_log = logging.getLogger("smw.cache")
MOMENTS = ("after", "before", "commit")
_FORM = '@invalidate(tags=["user:{user_id}"])'
_UNKNOWN = (
    "@invalidate on %s cannot tell what it makes old (%s) from the arguments of a call that has succeeded, so the "
    "whole cache is dropped; put @invalidate directly above the function, below decorators that add arguments"
)


class _Old(NamedTuple):
    """What one call makes old, and the cache that has it."""

    part: Cache
    scopes: Scopes


class Invalidate(Advice):
    """The advice of `invalidate`.

    Args:
        tags: Tags, possibly with fields.
        fn: A cached function of which the result for the same arguments is dropped.
        key: Function of the arguments that returns those of `fn`.
        when: ``after``, ``before`` or ``commit``.
        owner: The cache; None for the current runtime's.
    """

    name = "invalidate"

    def __init__(
        self, tags: Sequence[str], *, fn: Any, key: Callable[..., object] | None, when: str, owner: Cache | None
    ) -> None:
        from smw.cache.naming.tags import templates

        self.templates = templates(tags)
        if not self.templates and fn is None:
            raise DecorationError("SMW-C106", "@invalidate names no tag and no function", fix=_FORM)
        if key is not None and fn is None:
            fix = "@invalidate(fn=profile, key=lambda user_id, name: {'user_id': user_id})"
            raise DecorationError("SMW-C143", "key= of @invalidate says nothing without fn=", fix=fix)
        if when not in MOMENTS:
            what = f"unknown moment {when!r}; known: {', '.join(MOMENTS)}.{nearest(str(when), MOMENTS)}"
            raise DecorationError("SMW-C144", what, fix='when="after"')
        self.reader = None if fn is None else Reader(fn, key, decorator="invalidate", option="key")
        self.when = when
        self.owner = owner
        self.tags = frozenset(template.text for template in self.templates)

    def check(self, target: Target) -> None:
        """Refuse tags that name no parameter, and a function whose arguments cannot be told."""
        for template in self.templates:
            template.check(target.parameters, target.qualname)
        if self.reader is not None:
            self.reader.check(target)

    def bind(self, target: Target) -> Bound:  # noqa: ARG002 - every function is served alike
        """Find the cache."""
        part: Cache = self.owner or current.part("cache")
        said: list[str] = []

        async def around(call: Call, proceed: Proceed) -> Any:
            old = self._old(part, call)  # before the function runs, which may change what it is made from
            if self.when == "commit":
                return await self._at_commit(part, old, call, proceed, said)
            if self.when == "before":
                return await self._before_and_after(part, old, call, proceed, said)
            result = await proceed()
            await self._drop(part, old, call, said)
            return result

        return Bound(around)

    async def _before_and_after(
        self, part: Cache, old: list[_Old] | None, call: Call, proceed: Proceed, said: list[str]
    ) -> Any:
        for each in old or ():
            await each.part.drop_scopes(each.scopes, call.mode)
        try:
            result = await proceed()
        except BaseException:
            # It may have changed something all the same, and a cancelled or closed call must not wait for servers.
            for each in old or ():
                each.part.drop_soon(each.scopes)
            raise
        await self._drop(part, old, call, said)
        return result

    async def _at_commit(
        self, part: Cache, old: list[_Old] | None, call: Call, proceed: Proceed, said: list[str]
    ) -> Any:
        transaction = part.commits.watch(call)
        # Before the function runs, which may commit by itself.
        notes = [await each.part.noted(each.scopes, call.mode) for each in old or ()]
        result = await proceed()
        waiting = [(each.part.engine, each.scopes, note) for each, note in zip(old or (), notes, strict=True)]
        if old is None or not transaction.takes(waiting):
            try:
                await self._drop(part, old, call, said)
            finally:  # made, or owed
                for note in notes:
                    if note is not None:
                        note.made()
        return result

    async def _drop(self, part: Cache, old: list[_Old] | None, call: Call, said: list[str]) -> None:
        if old is not None:
            try:
                for each in old:
                    await each.part.drop_scopes(each.scopes, call.mode)
            except BaseException:
                for each in old:  # those whose turn had not come, too: something has changed
                    each.part.drop_soon(each.scopes)
                raise
            return
        if not said:
            said.append(call.target.name)
            _log.error(_UNKNOWN, call.target.name, self._shown())
        for home in dict.fromkeys((part, self._home(part))):
            await home.drop_everything(call.mode)

    def _home(self, part: Cache) -> Cache:
        """Return the cache that has the results of the function that is read."""
        if self.reader is None:
            return part
        home: Cache = self.reader.advice.owner or current.part("cache")
        return home

    def _old(self, part: Cache, call: Call) -> list[_Old] | None:
        """Return what a call makes old, or None where its arguments do not tell.

        A call whose arguments do not fit fails with Python's own complaint, and nothing is dropped; below a foreign
        decorator that adds arguments of its own it may succeed all the same, and something has changed.
        """
        tags = self._tags(call)
        if tags is None:
            return None
        scopes = Scopes(tuple(part.tag_names(tags)))
        if self.reader is None:
            return [_Old(part, scopes)]
        try:
            read = self.reader.scopes(call)
        except TypeError:
            return None
        home = self._home(part)
        return [_Old(part, scopes.joined(read))] if home is part else [_Old(part, scopes), _Old(home, read)]

    def _tags(self, call: Call) -> list[str] | None:
        from smw.cache.naming.arguments import UnkeyableError

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

    def _shown(self) -> str:
        told = [f"tags={sorted(self.tags)}"] if self.tags else []
        told += [f"fn={self.reader.target.qualname}"] if self.reader is not None else []
        return ", ".join(told)

    def describe(self) -> str:
        """Return one line for ``smw.explain``."""
        return f"@invalidate({self._shown()}, when={self.when!r})"
