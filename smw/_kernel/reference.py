"""Names what is defined in a module as others would import it, and finds it again by that name; knows no chain."""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["found", "module_of", "resolve"]

_STARTED = ("__main__", "__mp_main__")  # the second is how multiprocessing calls the first in a process that it spawns
_MODULE = "__main__"


def module_of(thing: Any) -> str:
    """Return the module of a function or class: for one of ``__main__`` the name by which others import it.

    That is what ``python -m`` was given, or the script's name without its suffix; without a file it is ``__main__``.
    """
    module = getattr(thing, "__module__", None) or type(thing).__module__
    if module not in _STARTED:
        return str(module)
    # A profiler runs the script in a namespace of its own; the module of that name is the profiler's.
    namespace = getattr(thing, "__globals__", None) or {}
    if namespace.get("__name__") == module:
        return _imported_as(namespace.get("__spec__"), namespace.get("__file__"))
    return _name_of_started(module)


def _name_of_started(module: str) -> str:
    held = sys.modules.get(module)
    return _imported_as(getattr(held, "__spec__", None), getattr(held, "__file__", None))


def _imported_as(spec: Any, file: Any) -> str:
    name = getattr(spec, "name", None)
    if isinstance(name, str) and name not in _STARTED:
        return name
    if not isinstance(file, str) or file.startswith("<"):
        return _MODULE
    path = Path(file)
    return (path.parent if path.stem == _MODULE else path).stem or _MODULE


def found(name: str) -> list[Any]:
    """Return what ``module:qualname`` names now: in the script that was started, if it is that, and as imported.

    The script itself is not imported once more for it.
    """
    module, _, qualname = name.partition(":")
    started = [sys.modules.get(other) for other in _STARTED if _name_of_started(other) == module]
    holders: list[Any] = [held for held in started if held is not None]
    if any(str(getattr(held, "__file__", "")).endswith(".py") for held in holders):
        holders.append(sys.modules.get(module))
    else:
        with suppress(ImportError):
            holders.append(importlib.import_module(module))
    things = [_within(held, qualname) for held in holders]
    return [thing for thing in things if thing is not None]


def _within(held: Any, qualname: str) -> Any:
    for part in qualname.split("."):
        held = getattr(held, part, None)
    return held


def resolve(name: str) -> Any:
    """Return what ``module:qualname`` names now, or None where nothing has that name."""
    return next(iter(found(name)), None)
