"""Which decorators may stand above which, as data; never re-sorts what a user wrote."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from smw.errors import StackingError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["StackingWarning", "check_order"]


class StackingWarning(UserWarning):
    """An order of decorators that works, but probably not as meant."""


class Stacked(Protocol):
    """What the rules look at: the decorator's name and the cache tags that it names."""

    name: ClassVar[str]
    tags: frozenset[str]


class Rule(NamedTuple):
    """`above` must not stand above `below`."""

    above: str
    below: str
    why: str
    error: bool = True


_REST = ("trace", "track_business_metric", "audit_log", "require_compliance", "cached", "invalidate", "writes")
_ENTRIES = ("stream_process", "batch_transform")
RULES: tuple[Rule, ...] = (
    Rule("cached", "require_compliance", "a cached answer would reach callers whom the control denies"),
    Rule("cached", "audit_log", "calls answered from the cache would leave no record"),
    Rule("require_compliance", "audit_log", "denied calls would leave no record of the action"),
    Rule("cached", "writes", "calls answered from the cache would write nothing"),
    Rule("writes", "cached", "calls answered from the cache would write nothing"),
    Rule("writes", "require_compliance", "a write would be acknowledged before anybody asks whether it is allowed"),
    Rule("writes", "audit_log", "a write would be acknowledged before anything records it"),
    *(Rule(name, entry, "the records of a stream or batch would pass by it") for name in _REST for entry in _ENTRIES),
    *(
        Rule(name, "trace", "the span would not cover it", error=False)
        for name in ("audit_log", "require_compliance", "cached", "invalidate", "writes")
    ),
)
_ONCE = ("cached", "writes", "stream_process", "batch_transform")
_BY_PAIR = {(rule.above, rule.below): rule for rule in RULES}


def check_order(above: Stacked, inner: Sequence[Stacked], function: str, *, merged: bool = True) -> None:
    """Check one decorator against those already on the function.

    Args:
        above: The decorator being applied.
        inner: Those below it, outermost first.
        function: Name for messages.
        merged: False where a foreign decorator stands between; then only errors are checked.

    Raises:
        StackingError: The order is unsafe; names the corrected order.
    """
    for position, below in enumerate(inner):
        rule = _BY_PAIR.get((above.name, below.name))
        shared = above.tags & below.tags if {above.name, below.name} == {"cached", "invalidate"} else frozenset()
        if rule is not None and rule.error:
            names = [*(other.name for other in inner[: position + 1]), above.name]
            names += [other.name for other in inner[position + 1 :]]
            stack = ", then ".join(f"@{name}" for name in names)
            message = f"@{above.name} stands above @{below.name} on {function}: {rule.why}"
            raise StackingError("SMW-K110", message, fix=f"from top to bottom: {stack}")
        if above.name == below.name and above.name in _ONCE:
            raise StackingError("SMW-K111", f"@{above.name} stands twice on {function}", fix="keep one of them")
        if shared:
            message = f"@cached and @invalidate on {function} share the tag {min(shared)!r}: it would drop itself"
            raise StackingError("SMW-K112", message, fix="give them different tags, or split the function")
        if rule is not None and merged:
            message = f"@{above.name} stands above @{below.name} on {function}: {rule.why}; put @{below.name} on top"
            warnings.warn(message, StackingWarning, stacklevel=4)
