"""Finds what a command is about: a module, a function in it, the cache of an application; knows no command."""

from __future__ import annotations

import importlib
import json
import sys
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import MethodType
from typing import TYPE_CHECKING, Any

from smw.errors import ConfigError, SmwError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from smw._kernel.call import Call, Target
    from smw.cache import Cache
    from smw.cache.functions.advice import Cached
    from smw.cache.naming.key import Key
    from smw.cache.values.codec import Codec

__all__ = ["cache_of", "full_key", "function", "key_of", "module", "opened", "parted"]

_CODE = "SMW-K124"
_PATIENCE_MS = 5_000


def module(name: str, *, code: str = _CODE) -> Any:
    """Import a module, the current folder first.

    Args:
        name: Of the module.
        code: Of the error.

    Raises:
        ConfigError: There is none of that name, or what stands in it raises.
    """
    if sys.path[:1] != [""]:
        sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    except SmwError:
        raise
    except ModuleNotFoundError as error:
        what, fix = f"there is no module {error.name}", "run it in the folder that has the module"
        if not f"{name}.".startswith(f"{error.name}."):
            what = f"importing {name} failed: it needs {error.name}, which is not installed"
            fix = f"install it into the environment of {sys.executable}"
        raise ConfigError(code, what, seen=name, fix=fix) from None
    except SystemExit as error:
        what = f"importing {name} failed: it ends the process, sys.exit({error.code!r})"
        raise ConfigError(code, what, seen=name, fix='keep that behind: if __name__ == "__main__":') from None
    except Exception as error:  # noqa: BLE001 - whatever a module raises is what the command tells
        what = f"importing {name} failed: {type(error).__name__}"
        raise ConfigError(code, what, seen=name, fix=f'python -c "import {name}" shows where') from None


def function(spec: str, *, code: str = _CODE) -> Any:
    """Return what ``module:qualname`` names.

    Args:
        spec: Such as ``shop.prices:price``.
        code: Of the error.

    Raises:
        ConfigError: There is no such module, or nothing of that name in it.
    """
    name, _, qualname = spec.partition(":")
    if not qualname:
        raise ConfigError(code, "a function is named as module:function", seen=spec, fix="shop.prices:price")
    found = module(name, code=code)
    for part in qualname.split("."):
        if not hasattr(found, part):
            what = f"{name} has no {qualname}.{nearest(part, dir(found))}"
            raise ConfigError(code, what, seen=spec, fix="name a function of that module")
        found = getattr(found, part)
    return found


@contextmanager
def opened(app: str | None, profile: str | None) -> Iterator[Cache]:
    """Open the cache of an application, or of the environment, for the block of a command.

    Args:
        app: ``module``, whose application configures smw, or ``module:name`` of a cache or runtime; None takes the
            settings of the environment.
        profile: Instead of SMW_PROFILE, where there is no application.

    Raises:
        ConfigError: `app` names nothing, or a setting is wrong.
    """
    from smw.cache import Cache
    from smw.runtime import Runtime, current, shutdown

    if app is None:
        with Runtime(profile) as runtime:
            yield runtime.cache
        return
    found = function(app) if ":" in app else module(app)
    own = found if isinstance(found, Cache) else found.cache if isinstance(found, Runtime) else None
    try:
        yield own or current().cache
    finally:
        if own is not None:
            own.close()
        shutdown()


@contextmanager
def cache_of(app: str | None, profile: str | None) -> Iterator[Cache]:
    """Open what looks at a cache: with more patience than a call has, and without taking over its journal.

    Args:
        app: As for `opened`.
        profile: As for `opened`.

    Raises:
        ConfigError: `app` names nothing, or a setting is wrong.
    """
    from smw.cache.strategies.onlookers import looking_on

    with looking_on(), opened(app, profile) as cache, _beside(cache) as looking:
        yield looking


@contextmanager
def _beside(cache: Cache) -> Iterator[Cache]:
    from smw._kernel.host import Host
    from smw.cache import Cache

    patient = {"budget_ms": max(cache.settings.budget_ms, _PATIENCE_MS), "state_dir": None}
    host = Host(cache.host.service, cache.host.profile, cache.host.clock, cache.host.entropy)
    looking = Cache(cache.settings.model_copy(update=patient), host=host)
    try:
        yield looking
    finally:
        looking.close()


def parted(text: str | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return positional and named arguments from JSON: a list, an object, or anything else as the only argument.

    Raises:
        ConfigError: It is no JSON.
    """
    if text is None:
        return (), {}
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        fix = """a list of positional arguments such as '["a", 7]', or an object of named ones"""
        raise ConfigError("SMW-K125", "arguments are given as JSON", seen=text, fix=fix) from None
    if isinstance(given, dict):
        return (), given
    return (tuple(given), {}) if isinstance(given, list) else ((given,), {})


def _fitting(target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuse arguments that the function does not take."""
    try:
        target.bind(args, kwargs)
    except TypeError as error:
        what = f"the arguments do not fit {target.name}{target.signature}: {error}"
        fix = f"""JSON such as '[1, "a"]' by place, or '{{"{target.parameters[-1]}": 1}}' by name"""
        if target.is_method:
            fix = "of a method the first one stands for the object: what its __cache_key__ returns, as '[7, \"a\"]'"
        raise ConfigError("SMW-K125", what, fix=fix if target.parameters else "give none") from None


def _standing_in(kind: Any, identity: Any) -> Any:
    """Return what has the key of an object whose ``__cache_key__`` returns `identity`, a list as a tuple."""
    if not hasattr(kind, "__cache_key__"):
        what = f"{kind.__module__}:{kind.__qualname__} says nothing of identity: results of its methods stay in memory"
        raise ConfigError("SMW-C113", what, fix="give the class a __cache_key__(self) method")
    told = tuple(identity) if isinstance(identity, list) else identity
    members = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__cache_key__": lambda _self: told}
    return type(kind.__name__, (), members)()


def full_key(given: str, prefix: str) -> str:
    """Return a full key that somebody has typed.

    Args:
        given: What was typed.
        prefix: What keys of the namespace begin with.

    Raises:
        ConfigError: It is none of the namespace.
    """
    from smw.cache.naming.names import checked

    fix = "one that `smw cache keys` lists, or a call: module:function and its arguments"
    return checked(given, prefix, what="this is neither a full key nor a function", fix=fix)


@contextmanager
def key_of(cache: Cache, what: str, arguments: str | None) -> Iterator[tuple[Cache, str, Codec | None]]:
    """Open whose it is, for a block, with the full key, and the codec of its function where that is known.

    Args:
        cache: The cache that the command is about.
        what: A full key, or ``module:function`` of a cached function.
        arguments: Of the function, as JSON; of a method first what the object's ``__cache_key__`` returns.

    Raises:
        ConfigError: There is no such function, it is not cached, or the call has no key.
    """
    from smw._kernel.call import Call
    from smw.cache.functions.readers import cached_in

    if what.startswith("smw:") or ":" not in what:
        yield cache, full_key(what, cache.prefix), None
        return

    fn = function(what)
    found = cached_in(fn)
    if found is None:
        raise ConfigError("SMW-C112", f"{what} is not decorated with @cached", seen=what, fix="name a cached function")
    args, kwargs = parted(arguments)
    stands_in = found[1].is_method and type(fn) is not MethodType
    if type(fn) is MethodType:  # of a class
        args = (fn.__self__, *args)
    elif stands_in and args:
        args = (_standing_in(function(what.rpartition(".")[0]), args[0]), *args[1:])
    _fitting(found[1], args, kwargs)
    with nullcontext(cache) if found[0].owner is None else _beside(found[0].owner) as owner:
        find = _untagged if stands_in and _reads_attributes(found[0], found[1].parameters[0]) else _tagged
        key = find(owner, found[0], Call(found[1], args, kwargs))
        yield owner, key, key.codec


def _reads_attributes(advice: Cached, instance: str) -> bool:
    """Tell whether tags are made from attributes of the object, of which only the identity was named."""
    return any(path[0] == instance and len(path) > 1 for tag in advice.options.tags for path in tag.fields)


def _tagged(owner: Cache, advice: Cached, call: Call) -> Key:
    return owner.function(call.target, advice).placing.key_for(call.args, call.kwargs)


def _untagged(owner: Cache, advice: Cached, call: Call) -> Key:
    """Return the key of a call whose tags cannot be told; they are no part of it."""
    bare = type(advice)(replace(advice.options, tags=()), owner=advice.owner)
    key = _tagged(owner, bare, call)
    return type(key).of(str(key), key.tags, fn=key.fn, names=key.names, codec=key.codec)
