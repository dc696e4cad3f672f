"""Runs a policy chain without an event loop around an application that is called, not awaited; knows no protocol."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, TypeVar

from smw.errors import SmwError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

    from smw.web.exchange import Exchange, Reply

__all__ = ["HANDED_OVER", "end", "hand_over", "run_now", "suspended"]

T = TypeVar("T")
HANDED_OVER = object()
"""What a chain yields where the application runs."""


@types.coroutine
def hand_over(_exchange: Exchange) -> Generator[Any, Any, None]:
    """Stand at the end of a chain: suspend it at the place where the application runs."""
    yield HANDED_OVER


def suspended(chain: Any) -> SmwError:
    """Give up a chain that waits for anything else, and return the error to raise."""
    chain.close()
    what = "a policy waited for something that only works asynchronously, in a WSGI application"
    return SmwError("SMW-W110", what, fix="give the backend a blocking client, or serve the application over ASGI")


def end(chain: Any, error: BaseException | None = None) -> Reply | None:
    """Run a chain to its end after what the application returned or raised.

    Args:
        chain: The coroutine of the outermost policy, standing at `hand_over`.
        error: What the application raised; it comes out again unless a policy turns it into an answer.
    """
    try:
        if error is None:
            chain.send(None)
        else:
            chain.throw(error)
    except StopIteration as stop:
        reply: Reply | None = stop.value
        return reply
    raise suspended(chain)


def run_now(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that must not wait, and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    raise suspended(coroutine)
