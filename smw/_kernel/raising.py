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
    return _copied(error, {}, with_frames=with_frames)


def _copied(error: BaseException, made_of: dict[int, Any], *, with_frames: bool) -> Any:
    """Return an equal exception; `made_of` has what was made so far, by the address of what it was made of."""
    kind: Any = type(error)
    state: Any = object.__getstate__(error)
    if isinstance(error, BaseExceptionGroup):
        made = kind(error.message, [_apart(each, made_of, with_frames=with_frames) for each in error.exceptions])
    else:
        try:
            made = copy.copy(error)
        except Exception:  # noqa: BLE001 - a constructor of its own that takes other arguments
            made = kind.__new__(kind)
        made_of[id(error)] = made
        object.__setattr__(made, "args", _apart(error.args, made_of, with_frames=with_frames))
    for attributes in state if isinstance(state, tuple) else (state,):
        for name, value in (attributes or {}).items():
            # A frozen dataclass refuses every other way.
            object.__setattr__(made, name, _apart(value, made_of, with_frames=with_frames))
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


def _apart(value: Any, made_of: dict[int, Any], *, with_frames: bool) -> Any:
    """Return `value` with containers of its own; what stands in it twice, or holds itself, is made once."""
    kind, made = type(value), made_of.get(id(value))
    if made is not None:
        return made
    if kind is dict:
        made = made_of[id(value)] = {}
        made.update((key, _apart(item, made_of, with_frames=with_frames)) for key, item in value.items())
    elif kind is list:
        made = made_of[id(value)] = []
        made.extend(_apart(item, made_of, with_frames=with_frames) for item in value)
    elif kind is tuple:
        made = made_of[id(value)] = tuple([_apart(item, made_of, with_frames=with_frames) for item in value])
    elif kind is set:
        made = made_of[id(value)] = value.copy()
    else:
        made = _copied(value, made_of, with_frames=with_frames) if isinstance(value, BaseException) else value
    return made
