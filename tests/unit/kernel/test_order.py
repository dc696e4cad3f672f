"""Which stacks are refused, and which only earn a warning."""

from __future__ import annotations

import functools
import warnings
from contextlib import contextmanager
from typing import Any

import pytest

from smw._kernel.chain import advise
from smw._kernel.order import StackingWarning
from smw.errors import StackingError
from tests.unit.kernel.advices import Named


def _stack(*names: str, tags: tuple[str, ...] = ()) -> Any:
    def fn() -> None:
        return None

    decorated: Any = fn
    for name in reversed(names):
        decorated = advise(Named(name, *tags))(decorated)
    return decorated


@pytest.mark.parametrize(
    "names",
    [
        ("cached", "require_compliance"),
        ("cached", "audit_log"),
        ("require_compliance", "audit_log"),
        ("trace", "stream_process"),
        ("cached", "batch_transform"),
        ("audit_log", "stream_process"),
        ("cached", "cached"),
        ("stream_process", "stream_process"),
        ("cached", "track_business_metric", "require_compliance"),
    ],
)
def test_unsafe_orders_are_refused_with_the_corrected_stack(names: tuple[str, ...]) -> None:
    """An unsafe stack raises when decorating, and the message shows a stack that works."""
    with pytest.raises(StackingError) as raised:
        _stack(*names)
    assert raised.value.fix


def test_the_remedy_is_itself_accepted() -> None:
    """Following the message leads to a stack without complaint."""
    with pytest.raises(StackingError) as raised:
        _stack("cached", "require_compliance")
    names = [word.strip("@,") for word in str(raised.value.fix).split() if word.startswith("@")]
    assert names == ["require_compliance", "cached"]
    assert _stack(*names)() is None


@pytest.mark.parametrize("outer", ["audit_log", "require_compliance", "cached", "invalidate"])
def test_trace_below_others_only_warns(outer: str) -> None:
    """A span that covers less than it could is a warning."""
    with pytest.warns(StackingWarning, match="put @trace on top"):
        _stack(outer, "trace")


def test_the_recommended_stack_is_silent() -> None:
    """The whole stack in the documented order raises and warns nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _stack("stream_process", "trace", "audit_log", "require_compliance", "track_business_metric", "cached")


def test_cached_and_invalidate_must_not_share_a_tag() -> None:
    """A function that drops the tag it stores under would never hit."""
    with pytest.raises(StackingError, match="share the tag 'user'"):
        _stack("cached", "invalidate", tags=("user",))


def test_a_foreign_decorator_does_not_hide_an_unsafe_order() -> None:
    """The error rules look through __wrapped__."""

    def foreign(fn: Any) -> Any:
        @functools.wraps(fn)
        def wrapper() -> Any:
            return fn()

        return wrapper

    with pytest.raises(StackingError):
        advise(Named("cached"))(foreign(_stack("require_compliance")))


def test_above_contextmanager_warns() -> None:
    """Decorating what contextmanager made covers only the making."""

    @contextmanager
    def block() -> Any:
        yield 1

    with pytest.warns(StackingWarning, match="contextmanager"):
        advise(Named("trace"))(block)
