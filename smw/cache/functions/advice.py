"""What `cached` adds to a function: checked against it when decorating, bound when called."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING
from weakref import WeakSet, WeakValueDictionary

from smw._kernel import current
from smw._kernel.arity import misfit_as
from smw._kernel.call import Kind
from smw._kernel.chain import Advice, Bound
from smw.cache.coherence.collecting import begin
from smw.cache.functions.returning import unkeepable
from smw.cache.loading.many import check_many
from smw.errors import DecorationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smw._kernel.call import Target
    from smw.cache.functions.function import CachedFunction
    from smw.cache.options import Options
    from smw.cache.part import Cache

__all__ = ["DECORATED", "Cached"]

DECORATED: WeakSet[Cached] = WeakSet()
"""Every `cached` that stands on a function, for who wants to know the functions before their first call."""
_NAMES = {"stale_s": "stale_if_error"}


def _told(options: Options) -> Iterator[tuple[str, str]]:
    """Yield the other options that are not as they are without being told, by their names in `cached`."""
    for field in fields(options):
        name, value = field.name, getattr(options, field.name)
        if field.default is not MISSING and value != field.default:
            yield _NAMES.get(name, name.removesuffix("_s")), _shown(value)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))})"
    return getattr(value, "__qualname__", None) or repr(value)


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
        self.targets: WeakValueDictionary[str, Target] = WeakValueDictionary()
        self.tags = frozenset(template.text for template in options.tags)
        if options.depends is not None:
            begin()

    def check(self, target: Target) -> None:
        """Refuse what has no result to keep, as far as that shows, and tags that name no parameter."""
        if target.kind in (Kind.GEN, Kind.ASYNC_GEN):
            what = f"@cached stands on {target.qualname}, whose result ({target.kind.value}) is used up by reading it"
            raise DecorationError("SMW-C109", what, fix="collect in the function and return a list")
        wrong = unkeepable(target.fn, self.options.copy)
        if wrong is not None:
            what = f"@cached stands on {target.qualname}: nothing that its annotation allows can be kept, {wrong.why}"
            raise DecorationError("SMW-C109", what, seen=f"-> {wrong.annotation}", fix=wrong.fix)
        for template in self.options.tags:
            template.check(target.parameters, target.qualname)
        for name in ("key", "condition"):
            self._check_of_arguments(name, target)
        if self.options.many is not None:
            check_many(self.options.many, target)
        self.targets[target.name] = target
        DECORATED.add(self)

    def _check_of_arguments(self, name: str, target: Target) -> None:
        """Refuse a function that fits no call of the one it stands by."""
        given = getattr(self.options, name)
        wrong = None if given is None else misfit_as(given, target.fn)
        if wrong is not None:
            what = f"the function given as {name}= is called as {target.qualname} is, and fits no call of it: {wrong}"
            fix = f"{name}=a function of the parameters {target.signature}"
            raise DecorationError("SMW-C108", what, seen=repr(given), fix=fix)

    def function(self, target: Target) -> CachedFunction:
        """Return the function as its cache knows it."""
        part: Cache = self.owner or current.part("cache")
        return part.function(target, self)

    def bind(self, target: Target) -> Bound | None:
        """Find the cache."""
        return self.function(target).bound()

    def describe(self) -> str:
        """Return one line for ``smw.explain``."""
        told = self.options
        shown = [*map(repr, sorted(self.tags)), *map(_shown, told.result_tags)]
        tags = f", tags=[{', '.join(shown)}]" if shown else ""
        ttl = told.auto or "a function of the result" if told.ttl_s is None else f"{told.ttl_s:g}"
        more = "".join(f", {name}={shown}" for name, shown in _told(told))
        return f"@cached(ttl={ttl}{tags}, levels={told.levels}, copy={told.copy!r}{more})"
