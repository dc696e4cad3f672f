"""What `cached` can be told: each option is checked here, when decorating, and all travel as one; knows no level."""

from __future__ import annotations

import math
import sys
import types
import warnings
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from smw._kernel.answers import answers_at_once
from smw._kernel.arity import misfit
from smw.errors import ConfigError, DecorationError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable

    from smw.cache.naming.tags import Template

__all__ = ["LEVELS", "MOST_TTL_S", "Auto", "Options", "checked", "life_of"]

LEVELS = ("l1", "l2", "l3")
FLIGHTS = ("process", "fleet", "off")
WARMS = ("fleet", "off")
COPIES = ("auto", "share", "deep", "decode")
CODECS = ("auto", "json")
MOST_TTL_S = 10 * 365 * 86_400.0
_DAY_S = 86_400.0
_MOST_TAGS = 100
_NOTHING: tuple[type[Exception], ...] = ()
_FORM = "@cached(ttl=60)"
_NO_MEMORY = 'levels=("l2", "l3") keeps nothing in memory'
_LEFT_OUT = "left out, callers wait for as long as a load takes"
_OR_NONE = {
    "ttl": "ttl=0 stores nothing",
    "l1_ttl": _NO_MEMORY,
    "negative_ttl": "negative_ttl=0 keeps none",
    "stale_if_error": "stale_if_error=0 hands out nothing that has expired",
    "soft_timeout": _LEFT_OUT,
    "hard_timeout": _LEFT_OUT,
}
_SEVERAL = (list, tuple, set, frozenset)


@dataclass(frozen=True, slots=True)
class Auto:
    """A time to live that each key learns from what its reloads return: longer while they are equal.

    A key begins in the middle (the geometric mean). Each reload that returns an equal value doubles its time, each that
    returns another one halves it.

    Args:
        min_s: The shortest, seconds.
        max_s: The longest, seconds.

    Raises:
        ConfigError: They are no such bounds.
    """

    min_s: float = 1.0
    max_s: float = 3600.0

    def __post_init__(self) -> None:
        """Check the bounds."""
        are_numbers = all(isinstance(bound, int | float) for bound in (self.min_s, self.max_s))
        if not are_numbers or not 0 < self.min_s <= self.max_s <= MOST_TTL_S:
            what = "Auto(min_s, max_s) takes two times, the shorter one first, of ten years at most"
            raise ConfigError("SMW-C151", what, seen=(self.min_s, self.max_s), fix="Auto(min_s=1, max_s=3600)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What one `cached` was told, checked; what has a default here goes without saying where it is that.

    Attributes:
        ttl_s: Time to live; None where each value has its own.
        ttl_of: From a value to its time to live, or None.
        auto: The bounds of what is learned, or None.
        tags: Tags of every result that its arguments tell.
        result_tags: From a result to more of its tags.
        levels: Levels that may keep results, in the order in which they are asked.
        copy: How hits are kept apart from each other.
        key: The user's key function, or None.
        version: Part of every key.
        l1_ttl_s: The longest that memory keeps a result; None: as long as it lives.
        negative_ttl_s: How long None and kept exceptions live; None: as any result, and none is kept.
        cache_exceptions: Exceptions that are kept.
        condition: From a call's arguments to whether it uses the cache; None: every call does.
        unless: From a result to whether it is not kept; None: every result is.
        stale_s: How long after its life a result may stand in for a load that fails.
        refresh_ahead: After which share of its life a result is loaded anew; 0 never; None: as chance will have it.
        soft_timeout_s: After how long a caller gets an expired result instead of waiting on; None: not.
        hard_timeout_s: After how long a caller waits no longer; None: it does.
        many: Loads several results at once, or None.
        depends: ``auto``: a result is dropped with every cached result that it was made from; None: it is not.
        flight: Who waits for whose load of the same key: the callers of ``process``, of the whole ``fleet``, or nobody.
        warm: ``fleet``: a process starts with what others ask for most; ``off``: not; None: as the cache is set.
        codec: The form that servers keep results in: the one that suits each, or ``json``.
    """

    ttl_s: float | None
    ttl_of: Callable[[Any], object] | None
    auto: Auto | None
    tags: tuple[Template, ...]
    result_tags: tuple[Callable[[Any], object], ...]
    levels: tuple[str, ...]
    copy: str
    key: Callable[..., object] | None = None
    version: str = "1"
    l1_ttl_s: float | None = None
    negative_ttl_s: float | None = None
    cache_exceptions: tuple[type[Exception], ...] = ()
    condition: Callable[..., object] | None = None
    unless: Callable[[Any], object] | None = None
    stale_s: float = 0
    refresh_ahead: float | None = None
    soft_timeout_s: float | None = None
    hard_timeout_s: float | None = None
    many: Callable[..., object] | None = None
    depends: str | None = None
    flight: str = "fleet"
    warm: str | None = None
    codec: str = "auto"

    @property
    def longest_s(self) -> float:
        """The time to live to prepare for; counters live for a day at least, and as long as what is stored."""
        if self.ttl_s is not None:
            return self.ttl_s
        return _DAY_S if self.auto is None else self.auto.max_s


def checked(ttl: object, **told: Any) -> Options:
    """Return the options of `cached`; called by it directly, for warnings are shown at its caller.

    Args:
        ttl: As for `cached`.
        told: All its other parameters, by name.

    Raises:
        DecorationError: An option is of the wrong kind.
        ConfigError: A number lies outside of what it may be.
    """
    if callable(ttl):
        _refuse_decorated(ttl)
    return Options(
        tags=_checked_tags(told["tags"]),
        result_tags=_checked_result_tags(told["tags"], told["many"]),
        key=_checked_function("key", told["key"], "lambda user_id: user_id"),
        version=str(told["version"]),
        levels=_checked_levels(told["levels"]),
        flight=_checked_flight(told["flight"]),
        copy=_checked_copy(told["copy"]),
        condition=_checked_function("condition", told["condition"], "lambda user_id: user_id > 0"),
        unless=_checked_of_result("unless", told["unless"], "lambda result: not result"),
        refresh_ahead=_checked_share(told["refresh_ahead"], told["levels"]),
        many=_checked_loader(told["many"]),
        depends=_checked_depends(told["depends"], told["many"]),
        warm=_checked_warm(told["warm"], told["levels"]),
        codec=_checked_codec(told["codec"]),
        **_checked_lives(ttl, told),
    )


def _checked_lives(ttl: object, told: dict[str, Any]) -> dict[str, Any]:
    """Return the options that are about time."""
    auto = Auto() if ttl == "auto" else ttl if isinstance(ttl, Auto) else None
    l1_ttl, negative_ttl = told["l1_ttl"], told["negative_ttl"]
    l1_ttl_s = None if l1_ttl is None else _checked_seconds("l1_ttl", l1_ttl)
    if l1_ttl_s == 0:
        raise ConfigError("SMW-C103", "l1_ttl= must be more than nothing", seen=l1_ttl, fix=_NO_MEMORY)
    negative_ttl_s = None if negative_ttl is None else _checked_seconds("negative_ttl", negative_ttl)
    stale_s = _checked_seconds("stale_if_error", told["stale_if_error"])
    soft_s, hard_s = _checked_waits(told["soft_timeout"], told["hard_timeout"], stale_s)
    return {
        "ttl_s": None if callable(ttl) or auto is not None else _checked_ttl(ttl),
        "ttl_of": _checked_of_result("ttl", ttl, "lambda result: 60") if callable(ttl) else None,
        "auto": auto,
        "l1_ttl_s": l1_ttl_s,
        "negative_ttl_s": negative_ttl_s,
        "cache_exceptions": _checked_exceptions(told["cache_exceptions"], negative_ttl_s, told["levels"]),
        "stale_s": stale_s,
        "soft_timeout_s": soft_s,
        "hard_timeout_s": hard_s,
    }


def _checked_tags(tags: object) -> tuple[Template, ...]:
    from smw.cache.naming.tags import templates

    made = templates([tag for tag in tags if not callable(tag)] if isinstance(tags, _SEVERAL) else tags)
    if len(made) > _MOST_TAGS:
        raise DecorationError("SMW-C106", f"more than {_MOST_TAGS} tags", fix="invalidate by a common tag")
    return made


def _checked_result_tags(tags: object, many: object) -> tuple[Callable[[Any], object], ...]:
    example = 'tags=[lambda result: cache.tag("owner:{id}", id=result.owner_id)]'
    given = [tag for tag in tags if callable(tag)] if isinstance(tags, _SEVERAL) else []
    for tag in given:
        if not answers_at_once(tag):
            what = "tags= takes texts, and functions of the result that answer without being awaited"
            raise DecorationError("SMW-C108", what, seen=repr(tag), fix=example)
        _check_of_result("tags", tag, example)
    if given and many is not None:
        what = "tags= takes a tag from the result, and many= loads several of them at once"
        raise DecorationError("SMW-C177", what, fix="give the results tags of their arguments, or leave out many=")
    return tuple(given)


def _checked_flight(given: object) -> str:
    if not isinstance(given, str) or given not in FLIGHTS:
        what = f'flight= is one of "process", "fleet" and "off".{nearest(str(given), FLIGHTS)}'
        raise DecorationError("SMW-C180", what, seen=repr(given), fix='flight="fleet"')
    return given


def _refuse_decorated(ttl: Callable[..., object]) -> None:
    """Refuse the function below an ``@cached`` without parentheses, which looks like one that returns a time to live.

    The function that is being decorated has no name yet in the scope that decorates it; one that is passed has.
    """
    if not isinstance(ttl, types.FunctionType) or ttl.__name__ == "<lambda>":
        return
    scope = sys._getframe(4)  # noqa: SLF001 - where `cached` was called, which `plainly` wraps
    named = [space.get(ttl.__name__) for space in (scope.f_locals, scope.f_globals, ttl.__globals__)]
    if not any(known is ttl for known in named):
        fix = f"write {_FORM}, or ttl=lambda result: 60"
        raise DecorationError("SMW-C101", "@cached stands without parentheses", fix=fix)


def _checked_ttl(ttl: object) -> float:
    ttl_s = _checked_seconds("ttl", ttl)
    if ttl_s == MOST_TTL_S and ttl not in {MOST_TTL_S, timedelta(seconds=MOST_TTL_S)}:
        warnings.warn(f"ttl={ttl} is more than ten years and is cut to that", stacklevel=6)
    return ttl_s


def life_of(given: object) -> float | None:
    """Return seconds or a timedelta as seconds, ten years at most; None for everything that is neither.

    Clocks, stores and formats have room for no more.
    """
    if isinstance(given, timedelta):
        given = given.total_seconds()
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    return float(min(max(given, -MOST_TTL_S), MOST_TTL_S))  # in this order NaN stays what it is


def _checked_seconds(name: str, given: object) -> float:
    seconds = life_of(given)
    if seconds is None:
        what, fix = f"{name}= takes seconds or a timedelta", f"{name}=60, or {name}=timedelta(minutes=1)"
        if name == "ttl":
            what = 'ttl= takes seconds or a timedelta, a function of the result, or "auto"'
            fix = f'{fix}, or ttl=lambda result: 60, or ttl="auto"'
        raise DecorationError("SMW-C102", what, seen=repr(given), fix=fix)
    if math.isnan(seconds) or seconds < 0:
        what = f"{name}= " + ("takes a number, which this is not" if math.isnan(seconds) else "must not be negative")
        raise ConfigError("SMW-C103", what, seen=given, fix=f"{name}=60; {_OR_NONE[name]}")
    return seconds


def _checked_function(name: str, given: object, example: str) -> Callable[..., object] | None:
    if given is None:
        return None
    if not answers_at_once(given):
        what = f"{name}= takes a function" + (" that answers without being awaited" if callable(given) else "")
        raise DecorationError("SMW-C108", what, seen=repr(given), fix=f"{name}={example}")
    return given


def _checked_of_result(name: str, given: object, example: str) -> Callable[[Any], object] | None:
    function = _checked_function(name, given, example)
    if function is not None:
        _check_of_result(name, function, f"{name}={example}")
    return function


def _check_of_result(name: str, given: Callable[..., object], example: str) -> None:
    """Refuse a function that cannot be called with the result alone."""
    wrong = misfit(given, 1)
    if wrong is not None:
        what = f"a function given as {name}= is called with the result and nothing else: {wrong}"
        raise DecorationError("SMW-C108", what, seen=repr(given), fix=example)


def _checked_loader(given: object) -> Callable[..., object] | None:
    load = given.__func__ if isinstance(given, staticmethod) else given
    if load is not None and not callable(load):
        fix = "many=load_users, where load_users(user_ids) returns {user_id: result}"
        raise DecorationError("SMW-C170", "many= takes a function", seen=repr(given), fix=fix)
    return load


def _checked_depends(given: object, many: object) -> str | None:
    if given is None:
        return None
    if given != "auto":
        what = 'depends= is "auto", or None'
        raise DecorationError("SMW-C173", what, seen=repr(given), fix='depends="auto"; other tags go to tags=')
    if many is not None:
        what = 'depends="auto" cannot tell which of the results of many= was made from what'
        raise DecorationError("SMW-C173", what, fix="give the results tags=, or leave out one of the two")
    return "auto"


def _checked_warm(given: object, levels: object) -> str | None:
    if given is None:
        return None
    if not isinstance(given, str) or given not in WARMS:
        what = f'warm= is "fleet" or "off", or None for what the cache is set to.{nearest(str(given), WARMS)}'
        raise DecorationError("SMW-C174", what, seen=repr(given), fix='warm="fleet"')
    missing = [level for level in ("l1", "l2") if level not in _checked_levels(levels)]
    if given == "fleet" and missing:
        what = 'warm="fleet" fills memory from Redis, and one of the two may not keep results'
        raise DecorationError("SMW-C174", what, seen=f"levels={levels}", fix='levels=("l1", "l2", "l3")')
    return given


def _checked_codec(given: object) -> str:
    if not isinstance(given, str) or given not in CODECS:
        what = f'codec= is "auto" or "json".{nearest(str(given), CODECS)}'
        raise DecorationError("SMW-C181", what, seen=repr(given), fix='codec="json"; codecs of types are plug-ins')
    return given


def _checked_share(given: object, levels: object) -> float | None:
    if given is None:
        return None
    fix = "refresh_ahead=0.8; 0 never refreshes"
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given < 1:
        what = "refresh_ahead= takes a share of the time to live, less than 1"
        raise DecorationError("SMW-C152", what, seen=repr(given), fix=fix)
    if given and "l1" not in _checked_levels(levels):
        what = "refresh_ahead= needs memory: nothing else can be handed out without asking"
        raise DecorationError("SMW-C152", what, seen=f"levels={levels}", fix='levels=("l1", "l2", "l3")')
    return float(given)


def _checked_waits(soft: object, hard: object, stale_s: float) -> tuple[float | None, float | None]:
    soft_s = None if soft is None else _checked_seconds("soft_timeout", soft)
    hard_s = None if hard is None else _checked_seconds("hard_timeout", hard)
    fix = "soft_timeout=0.1, hard_timeout=2, stale_if_error=3600"
    if 0.0 in (soft_s, hard_s) or (soft_s is not None and hard_s is not None and soft_s >= hard_s):
        what = "soft_timeout= and hard_timeout= take times, the shorter one first"
        raise ConfigError("SMW-C154", what, seen=(soft, hard), fix=fix)
    if soft_s is not None and stale_s <= 0:
        what = "soft_timeout= hands out an expired result, which stale_if_error= has kept: it is not set"
        raise ConfigError("SMW-C154", what, fix=fix)
    return soft_s, hard_s


def _checked_exceptions(given: object, negative_ttl_s: float | None, levels: object) -> tuple[type[Exception], ...]:
    if given == ():
        return _NOTHING
    fix = "cache_exceptions=(LookupError,), negative_ttl=5"
    kinds = given if isinstance(given, tuple | list) else (given,)
    checked_kinds = tuple(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception))
    if len(checked_kinds) < len(kinds):
        what = "cache_exceptions= takes classes of exceptions"
        raise DecorationError("SMW-C150", what, seen=repr(given), fix=fix)
    if negative_ttl_s is None:
        raise DecorationError("SMW-C150", "cache_exceptions= needs negative_ttl=, how long they are kept", fix=fix)
    if "l1" not in _checked_levels(levels):
        what = "cache_exceptions= needs memory: exceptions are kept nowhere else"
        raise DecorationError("SMW-C150", what, seen=f"levels={levels}", fix='levels=("l1", "l2", "l3")')
    return checked_kinds


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
