"""Makes exceptions fit to be raised by several callers, and through a coroutine; decides nothing about which are."""

from __future__ import annotations

import copy
from typing import Any

__all__ = ["StoppedError", "copied", "own"]

_FRAMES = ("__cause__", "__context__", "__traceback__")


class StoppedError(Exception):
    """Carries a `StopIteration` of a function through the chain: coroutines may not raise it."""

    def __init__(self, stop: StopIteration) -> None:
        super().__init__(f"the function raised {stop!r}")
        self.stop = stop


def copied(error: BaseException, *, with_frames: bool = False) -> Any:
    """Return an equal exception.

    Containers among its arguments and attributes are copied, and the exceptions of a group as it is; other objects are
    shared, as they may be a response or a connection.

    Args:
        error: The exception.
        with_frames: Keep traceback, cause and context, which hold the frames of a call.

    Raises:
        Exception: Whatever its class forbids.
    """
    kind: Any = type(error)
    state: Any = object.__getstate__(error)
    if isinstance(error, BaseExceptionGroup):
        made = kind(error.message, [copied(each, with_frames=with_frames) for each in error.exceptions])
    else:
        try:
            made = copy.copy(error)
        except Exception:  # noqa: BLE001 - a constructor of its own that takes other arguments
            made = kind.__new__(kind)
        object.__setattr__(made, "args", _apart(error.args, with_frames=with_frames))
    for attributes in state if isinstance(state, tuple) else (state,):
        for name, value in (attributes or {}).items():
            # A frozen dataclass refuses every other way.
            object.__setattr__(made, name, _apart(value, with_frames=with_frames))
    for name in _FRAMES:
        object.__setattr__(made, name, getattr(error, name) if with_frames else None)
    if with_frames:
        object.__setattr__(made, "__suppress_context__", error.__suppress_context__)  # which the cause has set
    return made


def own(error: BaseException) -> BaseException:
    """Return an exception for one of several callers: what it adds to it, its own frames first, is no other's.

    It is `error` itself where that cannot be copied.
    """
    try:
        made = copied(error, with_frames=True)
    except Exception:  # noqa: BLE001 - whatever its class forbids
        return error
    return made if type(made) is type(error) else error


def _apart(value: Any, *, with_frames: bool) -> Any:
    """Return `value` with containers of its own."""
    kind = type(value)
    if kind is dict:
        return {key: _apart(item, with_frames=with_frames) for key, item in value.items()}
    if kind is list or kind is tuple:
        return kind([_apart(item, with_frames=with_frames) for item in value])
    if kind is set:
        return value.copy()
    return copied(value, with_frames=with_frames) if isinstance(value, BaseException) else value
